"""Video-level scores of a classifier from outside: JSON or CSV."""

import numpy as np

from formats.files import InputError, load_json, show, some
from formats.names import match_names
from formats.text_files import read_csv, to_number


def read_video_scores(path, names, classes, aliases=None, notes=None):
    """Video-level scores of another classifier, (N, C) float64 in the order of `names` and
    `classes`.

    path: a .json file {video: {class: score}}, or a .csv file with the columns
    video,label,score or with the column `video` and one column per class. Every video and
    class asked for must be there, with a score from 0 to 1; videos and classes beyond them
    are not used. A video may go by another form of its name (`v_`, `.mp4`, letter case, its
    YouTube id in `aliases` {name: id}), which a line in the list `notes` then says.
    Raises InputError where the file cannot be read as such, lacks a video or class, or has
    one twice.
    """
    path = str(path)
    if path.lower().endswith(".json"):
        table = load_json(path)
        if not isinstance(table, dict) or not all(isinstance(row, dict) for row in table.values()):
            raise InputError(f"{path}: found other JSON, expected {{video: {{class: score}}}}")
        for video, row in table.items():
            table[video] = {label.strip(): score for label, score in row.items()}
            if len(table[video]) < len(row):
                raise InputError(
                    f"{path}: {video}: found a class twice, expected one score of each"
                )
    elif path.lower().endswith(".csv"):
        table = _read_csv(path)
    else:
        raise InputError(
            f"{path}: found another kind of file, expected video scores as .json or .csv"
        )
    held = match_names(names, table, aliases)
    missing = [name for name in names if name not in held]
    if missing:
        there = f"; found {some(table, 3)}" if table else ""
        raise InputError(
            f"{path}: found no scores of {len(missing)} of {len(names)} videos: "
            f"{some(missing)}{there}"
        )
    for name in names:
        missing = [c for c in classes if c not in table[held[name]]]
        if missing:
            raise InputError(
                f"{path}: {name}: found no score of {len(missing)} of {len(classes)} classes: "
                f"{some(missing)}; found {some(table[held[name]], 3) or 'none'}"
            )
    other = [name for name in names if held[name] != name]
    if other and notes is not None:
        notes.append(
            f"{path}: {len(other)} of {len(names)} videos have another form of their name, such as "
            f"{held[other[0]]} for {other[0]}"
        )
    scores = [[_score(path, name, c, table[held[name]][c]) for c in classes] for name in names]
    return np.array(scores, np.float64).reshape(len(names), len(classes))


def _read_csv(path):
    """{video: {class: text}} of a CSV in either form."""
    table = read_csv(path)
    by_row = {"label", "score"} <= set(table.at)
    if "video" not in table.at:
        raise InputError(
            f"{path}: found the columns {some(table.header)}, expected video,label,score, "
            "or video and one per class"
        )
    video, scores = table.at["video"], {}
    for line, fields in table.rows:
        if by_row:
            found = {fields[table.at["label"]]: fields[table.at["score"]]}
        else:
            found = {
                name: field
                for i, (name, field) in enumerate(zip(table.header, fields))
                if i != video
            }
        row = scores.setdefault(fields[video], {})
        if not found.keys().isdisjoint(row):
            what = f"a second score of {next(iter(found))}" if by_row else "a second row"
            raise InputError(f"{path}: {fields[video]}: found {what} at line {line}, expected one")
        row.update(found)
    return scores


def _score(path, name, label, value):
    number = to_number(value)
    if not 0 <= number <= 1:
        raise InputError(
            f"{path}: {name}: found the score {show(value)} of {label}, expected a number "
            "from 0 to 1"
        )
    return number
