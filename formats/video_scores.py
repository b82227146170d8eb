"""Video-level scores of a classifier from outside: JSON or CSV."""

from pathlib import Path

import numpy as np

from formats.annotations import FILES, read_rows
from formats.files import InputError, load_json, show, some
from formats.names import match_names
from formats.text_files import columns, missing, read_csv, require_text, to_number


def read_video_scores(path, names, classes):
    """Video-level scores of another classifier, (N, C) float64 in the order of `names` and
    `classes`.

    path: JSON, {video: {class: score}} or ActivityNet's {"results": {video: [{label, score}]}}, or
    CSV with the columns video,label,score or with the column `video` and one column per class.
    Every video and class asked for must be there, with a score from 0 to 1; videos and classes
    beyond them are not used. A video may go by another form of its name, see match_names.
    Raises InputError where the file cannot be read as such, lacks a video or class, or has
    one twice.
    """
    path, table = Path(path), {}
    if path.suffix.lower() not in FILES:
        raise InputError(path, "another kind of file", f"video scores as {', '.join(FILES)}")
    for where, video, label, score in _scores_in(path):
        video = require_text(where, video, "video name")
        label = require_text(f"{where}: {video}", label, "label")
        if label in table.setdefault(video, {}):
            raise InputError(f"{where}: {video}", f"a second score of {label}", "one")
        table[video][label] = score
    held = match_names(names, table, path)
    absent = [name for name in names if name not in held]
    if absent:
        found = f"no scores of {len(absent)} of {len(names)} videos: {some(absent)}"
        raise InputError(path, found, f"all; in the file: {some(table, 3) or 'none'}")
    scores = np.empty((len(names), len(classes)))
    for n, name in enumerate(names):
        of_video = table[held[name]]
        absent = [label for label in classes if label not in of_video]
        if absent:
            found = f"no score of {len(absent)} of {len(classes)} classes: {some(absent)}"
            raise InputError(f"{path}: {name}", found, f"all; in the file: {some(of_video, 3)}")
        scores[n] = [to_number(of_video[label]) for label in classes]
        for label in np.array(classes, object)[~((scores[n] >= 0) & (scores[n] <= 1))]:
            found = f"the score {show(of_video[label])} of {label}"
            raise InputError(f"{path}: {name}", found, "a number from 0 to 1")
    return scores


def _scores_in(path):
    """Yields (where, video, label, score), as written."""
    csv = path.suffix.lower() == ".csv"
    content = None if csv else load_json(path)
    content = content.get("results", content) if isinstance(content, dict) else content
    if isinstance(content, dict) and all(isinstance(row, dict) for row in content.values()):
        for video, row in content.items():
            yield from ((path, video, label, score) for label, score in row.items())
    elif csv and not {"label", "score"} <= columns(tuple(read_csv(path)[0])).keys():
        header, lines = read_csv(path)
        video = columns(tuple(header)).get("video")
        if video is None:
            raise missing(path, header, ["video"])
        for line, fields in lines:
            others = ((name, field) for name, field in fields.items() if name != video)
            yield from ((f"{path}: line {line}", fields[video], *one) for one in others)
    else:
        for row in read_rows(path, ("video", "label", "score")):
            if row.label is not None:
                yield row.where, row.video, row.label, row.score
