"""Detections and Ambiguous segments, read and written: ActivityNet result JSON, CSV, the
THUMOS14 kit's text form.

A table of detections has the columns `video, t_start, t_end, label, score`; times in
seconds, labels are class names.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from formats.dialects import EVALKIT_IDS, read_segments
from formats.files import InputError, count, load_json, show, some, write_atomically
from formats.names import match_names
from formats.text_files import find, read_csv, read_words, require_text, to_number

COLUMNS = ["video", "t_start", "t_end", "label", "score"]
FAR_PAST_END = 2.0  # s past a video's end, and at least 5% of its duration: no rounding explains it


# ---- reading
def read_detections(path):
    """A table of detections from ActivityNet result JSON (`.json`), CSV with a header (`.csv`) or
    the THUMOS14 kit's text form (`.txt`: `video start end class-id score`, official class ids).

    A file without detections gives an empty table. Raises InputError for a file that cannot be
    read, a missing field or column, an unknown class id, an empty name, a number that is not
    finite, and an end before its start.
    """
    path = Path(path)
    readers = {".json": _read_json, ".csv": _read_csv, ".txt": _read_text}
    if path.suffix.lower() not in readers:
        raise InputError(
            f"{path}: found suffix {path.suffix!r}, expected detections as .json, .csv or .txt"
        )
    rows = [_checked(where, *row) for where, *row in readers[path.suffix.lower()](path)]
    return _table(rows, COLUMNS)


def _read_json(path):
    content = load_json(path)
    results = content.get("results", content) if isinstance(content, dict) else None
    if not isinstance(results, dict) or (
        results is content and not any(isinstance(v, list) for v in content.values())
    ):
        raise InputError(
            f"{path}: found no 'results', expected an ActivityNet result file: results, "
            "video, detections"
        )
    for video, items in results.items():
        if not isinstance(items, list):
            raise InputError(
                f"{path}: {video}: found {type(items).__name__}, expected a list of detections"
            )
        for item in items:
            try:
                start, end = (
                    item["segment"]
                    if "segment" in item
                    else (item[find(t, item)] for t in ("t_start", "t_end"))
                )
                label, score = (
                    item[name if name in item else find(name, item)] for name in ("label", "score")
                )
            except (TypeError, KeyError, ValueError):
                raise InputError(
                    f"{path}: {video}: found {show(item)}, expected label, score and "
                    "segment [start, end]"
                ) from None
            yield path, video, start, end, label, score


def _read_csv(path, columns=COLUMNS):
    table = read_csv(path)
    if set(columns) - set(table.at):
        raise InputError(
            f"{path}: found the columns {show(', '.join(table.header))}, expected "
            f"{', '.join(columns)}"
        )
    for line, fields in table.rows:
        yield f"{path}: line {line}", *(fields[table.at[name]] for name in columns)


def _read_text(path):
    classes = {str(number): name for name, number in EVALKIT_IDS.items()}
    for line, words in read_words(path):
        where = f"{path}: line {line}"
        if len(words) != 5:
            raise InputError(
                f"{where}: found {len(words)} fields, expected video start end class-id score"
            )
        video, start, end, class_id, score = words
        if class_id.lstrip("0") not in classes:
            raise InputError(
                f"{where}: {video}: found class id {show(class_id)}, expected one of the kit's "
                f"{', '.join(classes)}"
            )
        yield where, video, start, end, classes[class_id.lstrip("0")], score


def read_ambiguous(path):
    """Ambiguous segments from CSV (`video, t_start, t_end`, other columns ignored) or the
    kit's `Ambiguous_test.txt` (`video start end` a line); a table `video, t_start, t_end`.
    Raises InputError as `read_detections` does."""
    path = Path(path)
    if path.suffix.lower() == ".csv":
        rows = _read_csv(path, COLUMNS[:3])
    elif path.suffix.lower() == ".txt":
        rows = [(path, *segment) for segment in read_segments(path)]
    else:
        raise InputError(
            f"{path}: found suffix {path.suffix!r}, expected Ambiguous segments as .csv or .txt"
        )
    return _table([_checked(where, *row)[:3] for where, *row in rows], COLUMNS[:3])


def _checked(where, video, start, end, label="Ambiguous", score=0.0):
    """The row with numbers as float; InputError for what no detection can be."""
    video = require_text(where, video, "video name")
    where = f"{where}: {video}"
    label = require_text(where, label, "label")
    numbers = {"start": to_number(start), "end": to_number(end), "score": to_number(score)}
    for (what, number), value in zip(numbers.items(), (start, end, score)):
        if not np.isfinite(number):
            raise InputError(f"{where}: found {what} {show(value)}, expected a finite number")
    if numbers["end"] < numbers["start"]:
        raise InputError(
            f"{where}: found end {numbers['end']:g} before start {numbers['start']:g}, "
            "expected start <= end"
        )
    return video, numbers["start"], numbers["end"], label, numbers["score"]


def _table(rows, columns):
    texts = {"video": object, "label": object}
    return pd.DataFrame(rows, columns=columns).astype(
        {name: texts.get(name, float) for name in columns}
    )


# ---- writing
def write_detections(table, path):
    """Writes a detections table in the form that the suffix names (see `read_detections`),
    whole or not at all.

    Numbers keep every digit. The JSON form groups rows by video, in order of first
    appearance. Raises InputError for another suffix, what `read_detections` would refuse,
    and in the text form a class without an official id or a name with spaces.
    """
    path = Path(path)
    rows = [_checked(path, *row) for row in table[COLUMNS].itertuples(index=False)]
    if path.suffix.lower() == ".json":
        results = {}
        for video, start, end, label, score in rows:
            results.setdefault(video, []).append(
                {"label": label, "score": score, "segment": [start, end]}
            )
        text = json.dumps({"version": "VERSION 1.3", "results": results, "external_data": {}})
    elif path.suffix.lower() == ".csv":
        text = _table(rows, COLUMNS).to_csv(index=False)
    elif path.suffix.lower() == ".txt":
        for video, _, _, label, _ in rows:
            if label not in EVALKIT_IDS or video.split() != [video]:
                raise InputError(
                    f"{path}: {video}: found label {show(label)}, expected a class of the "
                    "kit and a video name without spaces"
                )
        text = "".join(
            f"{video} {start!r} {end!r} {EVALKIT_IDS[label]} {score!r}\n"
            for video, start, end, label, score in rows
        )
    else:
        raise InputError(f"{path}: found suffix {path.suffix!r}, expected .json, .csv or .txt")
    with write_atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def under_aliases(table, aliases):
    """The table with each video of `aliases` {name: YouTube id} under its id, so that the
    official file scores it."""
    return table.assign(video=table["video"].map(lambda name: aliases.get(name) or name))


# ---- against a ground truth
def with_known_names(table, path, names, aliases=None):
    """(table, note or None): videos under another form of a name in `names` (`v_`, `.mp4`,
    letter case, YouTube id in `aliases` {name: id}) are called by that name. path: of the
    detections, for the note."""
    names = match_names(names, table["video"].unique(), aliases)
    other = {held: name for name, held in names.items() if held != name}
    if not other:
        return table, None
    held, name = next(iter(other.items()))
    return table.replace({"video": other}), (
        f"{path}: {len(other)} of {table['video'].nunique()} videos have another "
        f"form of their name, such as {held} for {name}"
    )


def ambiguous_in(videos, table, path, aliases=None):
    """(table, notes): the Ambiguous segments that lie in `videos`, called by the names there.

    table: as read_ambiguous returns it from `path`; path is None where the segments come with the
    annotations, and nothing is noted. aliases: {name: YouTube id}.
    """
    named, renamed = with_known_names(table, path, videos, aliases)
    inside = named[named["video"].isin(set(videos))].reset_index(drop=True)
    none = None
    if len(named) and not len(inside):
        none = (
            f"{path}: {count(named, 'Ambiguous segment')} in other videos than those that are "
            f"scored: {some(named['video'].unique(), 3)}"
        )
    return inside, [note for note in (renamed, none) if note and path is not None]


def with_known_labels(table, path, classes):
    """(table, note or None): without the detections of other classes than `classes`; the
    note counts them, and names letter case and blanks where they are the likely cause.
    path: of the detections."""
    known = table["label"].isin(list(classes))
    if known.all():
        return table, None
    times = table["label"][~known].value_counts()
    plain = {_plain(label): label for label in classes}
    alike = [
        f"{show(label)} for {show(plain[_plain(label)])}"
        for label in times.index
        if _plain(label) in plain
    ]
    listed = ", ".join(f"{show(label)} ({n})" for label, n in times.head(5).items())
    more = f" and {len(times) - 5} more" if len(times) > 5 else ""
    hint = f"; letter case or blanks differ: {', '.join(alike[:3])}" if alike else ""
    return table[known], (
        f"{path}: {(~known).sum():,} of {len(table):,} detections are of {len(times)} other "
        f"{'class' if len(times) == 1 else 'classes'} and not scored: {listed}{more}{hint}"
    )


def _plain(label):
    return "".join(c for c in label.lower() if c.isalnum())


def outside_note(table, path, durations):
    """A line where detections begin before 0 or end far past their video's end; None without such.

    durations: {video: seconds}; videos without one are not looked at. path: of the detections.
    """
    duration = table["video"].map(durations).astype(float)
    past = (table["t_end"] - duration).where(
        lambda by: by > np.maximum(FAR_PAST_END, 0.05 * duration)
    )
    n_past, n_before = int(past.notna().sum()), int((table["t_start"] < 0).sum())
    if not n_past + n_before:
        return None
    parts = (
        [f"{n_past:,} end more than {FAR_PAST_END:g} s past their video's end"] if n_past else []
    )
    parts += [f"{n_before:,} begin before 0"] if n_before else []
    worst = f" (worst: {table['video'][past.idxmax()]}, {past.max():.1f} s)" if n_past else ""
    return (
        f"{path}: of {len(table):,} detections {' and '.join(parts)}{worst}: are their times "
        f"seconds of these videos?"
    )
