"""Video-level scores of a classifier from outside: JSON or CSV."""
import csv
import io
import math

import numpy as np

from formats.files import InputError, load_json, open_file, show


def read_video_scores(path, names, classes):
    """Video-level scores of another classifier, (N, C) float64 in the order of `names` and `classes`.

    path: a .json file {video: {class: score}}, or a .csv file with the columns video,label,score or with the column
    `video` and one column per class. Every video and class asked for must be there, with a score from 0 to 1; videos
    and classes beyond them are not used.
    Raises InputError where the file cannot be read as such, lacks a video or class, or has one twice.
    """
    path = str(path)
    if path.lower().endswith(".json"):
        table = load_json(path)
        if not isinstance(table, dict) or not all(isinstance(row, dict) for row in table.values()):
            raise InputError(f"{path}: found other JSON, expected {{video: {{class: score}}}}")
    elif path.lower().endswith(".csv"):
        table = _read_csv(path)
    else:
        raise InputError(f"{path}: found another kind of file, expected video scores as .json or .csv")
    missing = [name for name in names if name not in table]
    if missing:
        raise InputError(f"{path}: found no scores of {len(missing)} of {len(names)} videos: {_some(missing)}")
    for name in names:
        missing = [c for c in classes if c not in table[name]]
        if missing:
            raise InputError(f"{path}: {name}: found no score of {len(missing)} of {len(classes)} classes: "
                             f"{_some(missing)}")
    return np.array([[_score(path, name, c, table[name][c]) for c in classes] for name in names],
                    np.float64).reshape(len(names), len(classes))


def _read_csv(path):
    """{video: {class: text}} of a CSV in either form."""
    with open_file(path) as (file, _):
        try:
            reader = csv.reader(io.TextIOWrapper(file, encoding="utf-8-sig", newline=""), skipinitialspace=True)
            (_, header), *rows = [(reader.line_num, row) for row in reader if row] or [(1, [])]
        except (UnicodeDecodeError, csv.Error) as error:
            raise InputError(f"{path}: found {error}, expected a CSV file in UTF-8") from None
    if "video" not in header or len(set(header)) < len(header):
        raise InputError(f"{path}: found the columns {_some(header) or 'none'}, expected video,label,score, "
                         "or video and one per class, each once")
    table, by_row = {}, set(header) == {"video", "label", "score"}
    for line, row in rows:
        if len(row) != len(header):
            raise InputError(f"{path}: line {line}: found {len(row)} values, expected {len(header)}")
        row = dict(zip(header, row))
        name = row.pop("video")
        found = {row["label"]: row["score"]} if by_row else row
        if not found.keys().isdisjoint(table.get(name, ())):
            what = f"a second score of {row['label']}" if by_row else "a second row"
            raise InputError(f"{path}: {name}: found {what} at line {line}, expected one")
        table.setdefault(name, {}).update(found)
    return table


def _score(path, name, label, value):
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not 0 <= number <= 1:
        raise InputError(f"{path}: {name}: found the score {show(value)} of {label}, expected a number from 0 to 1")
    return number


def _some(things, most=5):
    things = list(things)
    return ", ".join(things[:most]) + (f" and {len(things) - most} more" if len(things) > most else "")
