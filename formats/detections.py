"""Detections and Ambiguous segments, read and written: ActivityNet result JSON, records, what
--export writes, CSV, the THUMOS14 kit's text form.

A table of detections has the columns `video, t_start, t_end, label, score`; times in seconds,
labels are class names. What is read are finite numbers; who scores the table has its times checked
by eval_detection.check.
"""

import json
import math
from pathlib import Path

from formats.annotations import EVALKIT_IDS, FILES, SEGMENT, Row, frame, read_rows, segment_times
from formats.annotations import read_segments as read_segment_lines
from formats.files import InputError, count, show, some, write_atomically
from formats.names import match_names, plain_label
from formats.program import log
from formats.text_files import (
    columns,
    missing,
    read_csv,
    read_words,
    require_text,
    to_number,
    uncomputed,
)

COLUMNS = [*SEGMENT, "label", "score"]


# ---- reading
def read_detections(path):
    """A table of detections from JSON (ActivityNet's results, records, what --export writes), CSV
    with a header, or the THUMOS14 kit's text form (`.txt`: `video start end class-id score`,
    official class ids).

    A file without detections gives an empty table. Raises InputError for a file that cannot be
    read, a missing field or column, an unknown class id, an empty name, and a number that is not
    finite.
    """
    path = Path(path)
    if path.suffix.lower() not in (*FILES, ".txt"):
        raise InputError(path, f"suffix {path.suffix!r}", f"detections as {', '.join(FILES)}, .txt")
    rows = _read_text(path) if path.suffix.lower() == ".txt" else read_rows(path, COLUMNS)
    return frame([_detection(row) for row in rows if row.label is not None], COLUMNS)


def _read_text(path):
    classes = {str(number): name for name, number in EVALKIT_IDS.items()}
    for line, words in read_words(path):
        where = f"{path}: line {line}"
        if len(words) != 5:
            raise InputError(where, f"{len(words)} fields", "video start end class-id score")
        video, start, end, class_id, score = words
        if class_id.lstrip("0") not in classes:
            found = f"class id {show(class_id)}"
            raise InputError(f"{where}: {video}", found, f"one of the kit's {', '.join(classes)}")
        label = classes[class_id.lstrip("0")]
        yield Row(where, video, label=label, segment=(start, end), score=score)


def _detection(row):
    """(video, start, end, label, score) of a Row."""
    video = require_text(row.where, row.video, "video name")
    where = f"{row.where}: {video}"
    label, score = require_text(where, row.label, "label"), to_number(row.score)
    if not math.isfinite(score):
        raise InputError(where, f"score {show(row.score)}", "a finite number")
    return video, *segment_times(where, row.segment), label, score


def read_ambiguous(path):
    """Ambiguous segments from CSV (`video, t_start, t_end`, other columns ignored) or the
    kit's `Ambiguous_test.txt` (`video start end` a line); a table `video, t_start, t_end`.
    Raises InputError as `read_detections` does."""
    path = Path(path)
    if path.suffix.lower() == ".csv":
        header, lines = read_csv(path)
        at = columns(tuple(header))
        if not set(SEGMENT) <= at.keys():
            raise missing(path, header, SEGMENT)
        rows = [(f"{path}: line {n}", *(one[at[name]] for name in SEGMENT)) for n, one in lines]
        rows = [Row(where, video, segment=times) for where, video, *times in rows]
    elif path.suffix.lower() == ".txt":
        rows = read_segment_lines(path)
    else:
        raise InputError(path, f"suffix {path.suffix!r}", "Ambiguous segments as .csv or .txt")
    rows = [row._replace(label="Ambiguous", score=0) for row in rows]
    return frame([_detection(row)[:3] for row in rows], SEGMENT)


# ---- writing
def write_detections(table, path):
    """Writes a detections table in the form that the suffix names (see `read_detections`),
    whole or not at all.

    Numbers keep every digit. The JSON form groups rows by video, in order of first
    appearance. Raises InputError for another suffix, numbers that are not finite, and in the text
    form a class without an official id or a name with spaces.
    """
    path = Path(path)
    rows = [
        _detection(Row(path, video, label=label, segment=times, score=score))
        for video, *times, label, score in table[COLUMNS].itertuples(index=False, name=None)
    ]
    if path.suffix.lower() == ".json":
        results = {video: [] for video, *_ in rows}
        for video, start, end, label, score in rows:
            results[video].append({"label": label, "score": score, "segment": [start, end]})
        text = json.dumps({"version": "VERSION 1.3", "results": results, "external_data": {}})
    elif path.suffix.lower() == ".csv":
        cells = frame(rows, COLUMNS)
        names = {name: cells[name].map(uncomputed) for name in ("video", "label")}
        text = cells.assign(**names).to_csv(index=False)
    elif path.suffix.lower() == ".txt":
        for video, _, _, label, _ in rows:
            if label not in EVALKIT_IDS or video.split() != [video]:
                expected = "a class of the kit and a video name without spaces"
                raise InputError(f"{path}: {video}", f"label {show(label)}", expected)
        text = "".join(
            f"{video} {start!r} {end!r} {EVALKIT_IDS[label]} {score!r}\n"
            for video, start, end, label, score in rows
        )
    else:
        raise InputError(path, f"suffix {path.suffix!r}", ".json, .csv or .txt")
    with write_atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


# ---- against a ground truth
def with_known_names(table, path, names):
    """The table with its videos called as in `names`, where match_names finds them; a warning says
    so. path: of the table."""
    matched = match_names(names, table["video"].unique(), path)
    other = {held: name for name, held in matched.items() if held != name}
    return table.assign(video=table["video"].map(lambda held: other.get(held, held)))


def ambiguous_in(videos, table, path):
    """The Ambiguous segments that lie in `videos`, called by the names there.

    table: as read_ambiguous returns it from `path`; path is None where the segments come with the
    annotations, and no warning is given.
    """
    named = with_known_names(table, path, videos)
    inside = named[named["video"].isin(set(videos))].reset_index(drop=True)
    if len(named) and not len(inside) and path is not None:
        log.warning(
            f"{path}: {count(named, 'Ambiguous segment')} in other videos than those that are "
            f"scored: {some(named['video'].unique(), 3)}"
        )
    return inside


def with_known_labels(table, path, classes):
    """The table without the detections of other classes than `classes`; a warning counts them, and
    names letter case and blanks where they are the likely cause. path: of the detections."""
    known = table["label"].isin(list(classes))
    times = table["label"][~known].value_counts()
    if known.all():
        return table
    plain = {plain_label(label): label for label in classes}
    alike = [label for label in times.index if plain_label(label) in plain][:3]
    hints = ", ".join(f"{show(label)} for {show(plain[plain_label(label)])}" for label in alike)
    listed = some([f"{show(label)} ({n})" for label, n in times.items()])
    log.warning(
        f"{path}: {(~known).sum():,} of {len(table):,} detections are of "
        f"{count(len(times), 'other class', 'other classes')} and not scored: {listed}"
        + (f"; letter case or blanks differ: {hints}" if alike else "")
    )
    return table[known]
