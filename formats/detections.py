"""Detections and Ambiguous segments, read and written: ActivityNet result JSON, CSV, the THUMOS14 kit's text form."""
import csv
import io
import json
from pathlib import Path

import pandas as pd

from eval_detection import DETECTION, SEGMENT, check
from formats.annotations import EVALKIT_IDS
from formats.files import InputError, load_json, open_file, show, write_atomically


def read_detections(path):
    """Detections from ActivityNet result JSON (`.json`), CSV with a header (`.csv`) or the THUMOS14 kit's text form
    (`.txt`: `video start end class-id score`, official class ids); a table `video, t_start, t_end, label, score`.

    A file without detections gives an empty table. Raises InputError for a file that cannot be read, a missing field or
    column, an unknown class id, and whatever `check` refuses.
    """
    path = Path(path)
    readers = {".json": _read_json, ".csv": _read_csv, ".txt": _read_text}
    if path.suffix.lower() not in readers:
        raise InputError(f"{path}: found suffix {path.suffix!r}, expected detections as .json, .csv or .txt")
    table = _table(readers[path.suffix.lower()](path), DETECTION)
    check(table, path, DETECTION)
    return table


def _read_json(path):
    content = load_json(path)
    results = content.get("results") if isinstance(content, dict) else None
    if not isinstance(results, dict):
        raise InputError(f"{path}: found no 'results', expected an ActivityNet result file: results, video, detections")
    rows = []
    for video, items in results.items():
        if not isinstance(items, list):
            raise InputError(f"{path}: {video}: found {type(items).__name__}, expected a list of detections")
        for item in items:
            try:
                (start, end), label, score = item["segment"], item["label"], item["score"]
            except (TypeError, KeyError, ValueError):
                raise InputError(f"{path}: {video}: found {show(item)}, expected label, score and segment [start, end]"
                                 ) from None
            if not isinstance(label, str):
                raise InputError(f"{path}: {video}: found label {show(label)}, expected a class name")
            rows.append((video, *_numbers(path, video, start, end), label, *_numbers(path, video, score)))
    return rows


def _read_csv(path):
    return [(video, *_numbers(where, video, start, end), label, *_numbers(where, video, score))
            for where, (video, start, end, label, score) in _csv_rows(path, DETECTION)]


def _read_text(path):
    names = {number: name for name, number in EVALKIT_IDS.items()}
    rows = []
    for where, (video, start, end, class_id, score) in _text_rows(path, ["video", "start", "end", "class-id", "score"]):
        if not class_id.isdecimal() or int(class_id) not in names:
            raise InputError(f"{where}: {video}: found class id {show(class_id)}, expected one of the kit's "
                             f"{', '.join(map(str, sorted(names)))}")
        rows.append((video, *_numbers(where, video, start, end), names[int(class_id)], *_numbers(where, video, score)))
    return rows


def write_detections(table, path):
    """Writes a detections table in the form that the suffix names (see `read_detections`), whole or not at all.

    Numbers keep every digit. The JSON form groups rows by video, in order of first appearance. Raises InputError for
    another suffix, whatever `check` refuses, and in the text form a class without an official id or a name with spaces.
    """
    path = Path(path)
    check(table, path, DETECTION)
    rows = table[DETECTION].astype({"t_start": float, "t_end": float, "score": float})
    if path.suffix.lower() == ".json":
        results = {}
        for video, start, end, label, score in rows.itertuples(index=False):
            results.setdefault(video, []).append({"label": label, "score": score, "segment": [start, end]})
        text = json.dumps({"version": "VERSION 1.3", "results": results, "external_data": {}})
    elif path.suffix.lower() == ".csv":
        text = rows.to_csv(index=False)
    elif path.suffix.lower() == ".txt":
        ids = EVALKIT_IDS
        for row in rows.itertuples(index=False):
            if row.label not in ids or row.video.split() != [row.video]:
                raise InputError(f"{path}: {row.video}: found label {show(row.label)}, expected a class of the kit and "
                                 "a video name without spaces")
        text = "".join(f"{video} {start!r} {end!r} {ids[label]} {score!r}\n"
                       for video, start, end, label, score in rows.itertuples(index=False))
    else:
        raise InputError(f"{path}: found suffix {path.suffix!r}, expected .json, .csv or .txt")
    _write(path, text)


def _write(path, text):
    with write_atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_ambiguous(path):
    """Ambiguous segments from CSV (`video, t_start, t_end`, other columns ignored) or the kit's `Ambiguous_test.txt`
    (`video start end` a line); a table `video, t_start, t_end`. Raises InputError as `read_detections` does."""
    path = Path(path)
    if path.suffix.lower() == ".csv":
        rows = _csv_rows(path, SEGMENT)
    elif path.suffix.lower() == ".txt":
        rows = _text_rows(path, SEGMENT)
    else:
        raise InputError(f"{path}: found suffix {path.suffix!r}, expected Ambiguous segments as .csv or .txt")
    table = _table([(video, *_numbers(where, video, start, end)) for where, (video, start, end) in rows], SEGMENT)
    check(table, path, SEGMENT)
    return table


def _csv_rows(path, columns):
    """(where, fields) of each line below the header, fields in the order of `columns`."""
    lines = csv.reader(_lines(path))
    try:
        header = [name.strip() for name in next(lines, [])]
        if len(set(header)) != len(header) or not set(columns) <= set(header):
            raise InputError(f"{path}: found header {','.join(header)!r}, expected the columns {','.join(columns)}")
        at = [header.index(name) for name in columns]
        for line in lines:
            if line and len(line) != len(header):
                raise InputError(f"{path}: line {lines.line_num}: found {len(line)} fields, expected {len(header)}")
            if line:
                yield f"{path}: line {lines.line_num}", [line[i] for i in at]
    except csv.Error as error:
        raise InputError(f"{path}: line {lines.line_num}: found {error}, expected a CSV table") from None


def _text_rows(path, columns):
    """(where, fields) of each line that is not blank."""
    for number, line in enumerate(_lines(path), start=1):
        fields = line.split()
        if fields and len(fields) != len(columns):
            raise InputError(f"{path}: line {number}: found {len(fields)} fields, expected {' '.join(columns)}")
        if fields:
            yield f"{path}: line {number}", fields


def _lines(path):
    with open_file(path) as (file, _), io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
        try:
            yield from text
        except UnicodeDecodeError:
            raise InputError(f"{path}: found bytes that are no UTF-8, expected a text file") from None


def _numbers(where, video, *values):
    for value in values:
        try:
            yield float(value)
        except (TypeError, ValueError, OverflowError):
            raise InputError(f"{where}: {video}: found {show(value)}, expected a number") from None


def _table(rows, columns):
    texts = {"video": object, "label": object}
    return pd.DataFrame(rows, columns=columns).astype({name: texts.get(name, float) for name in columns})
