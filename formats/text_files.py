"""Text files as tables: CSV and records of JSON, whose columns go by any of their usual names.

All readers of ground truth, detections, scores and Ambiguous segments use these, so that one
dialect is read everywhere.
"""

import csv
import difflib
import functools
import io
import json
import math
import numbers
import re

from formats.files import InputError, open_file, show

# What a column, or the key of a JSON object, may be called, the most usual name first. Case, blanks
# and signs do not count: `t-start` and `T Start` are tstart.
NAMES = {
    "video": "video videoid videoname videouid vid filename file name id",
    "segment": "segment timestamps",
    "t_start": "tstart start starttime starts startsec startseconds begin segmentstart",
    "t_end": "tend end endtime ends endsec endseconds stop segmentend",
    "labels": "labels",
    "label": "label labels class classname labelname type action category activity",
    "score": "score confidence conf prob probability",
    "subset": "subset split set partition",
    "duration": "duration durationsecond durationseconds durationsec durations videoduration",
}
TOO_LONG = 500  # characters of a name
CLOCK = re.compile(r"(?:([0-9]{1,6}):)?([0-9]{1,6}):([0-9]{1,2}(?:\.[0-9]*)?)")  # [h:]mm:ss[.s]


# ---- columns
def _plain(key):
    return re.sub("[^a-z0-9]", "", str(key).lower())


@functools.lru_cache(maxsize=1000)
def columns(keys):
    """{name of NAMES: the key that stands for it} of a tuple of keys; the more usual one first."""
    plain = {_plain(key): key for key in reversed(keys)}
    found = {
        name: next((plain[one] for one in usual.split() if one in plain), None)
        for name, usual in NAMES.items()
    }
    return {name: key for name, key in found.items() if key is not None}


@functools.lru_cache(maxsize=1000)
def misspelt(keys, wanted):
    """{key: name of NAMES} of the keys that nearly say one of `wanted` which no key says."""
    found = columns(keys)
    usual = {one: name for name in wanted if name not in found for one in NAMES[name].split()}
    close = {
        key: difflib.get_close_matches(_plain(key), usual, 1, 0.8)
        for key in keys
        if key not in found.values()
    }
    return {key: usual[names[0]] for key, names in close.items() if names}


def missing(where, keys, wanted):
    """The InputError that names the columns of `wanted` that are not there, and what is there."""
    found = columns(tuple(keys))
    lacking = next(name for name in wanted if name not in found)
    near = [key for key, name in misspelt(tuple(keys), (lacking,)).items()]
    called = ", ".join(NAMES[lacking].split()[:4])
    return InputError(
        where,
        f"no column for the {lacking}, but {show(', '.join(map(str, keys)))}",
        f"one: it may be called {called}" + (f"; is it {show(near[0])}?" if near else ""),
    )


def timed(keys):
    """Whether one of `keys` looks like a time, whether it is read (t_start) or not (startFrame)."""
    looks = "start|begin|end$|stop|time|frame|onset|offset"
    return any(re.search(looks, str(key).lower()) for key in keys)


# ---- files
def read_csv(path):
    """(names of the columns as written, [(line number, {column: text})]) of a CSV file with a
    header, separated by commas, semicolons or tabs; blanks around a field do not count.

    Where semicolons separate, a comma in a column of numbers is a decimal point. InputError, with
    file and line, for a column named twice and a line of other length than the header.
    """
    text = read_text(path)
    first = text.lstrip().split("\n", 1)[0]
    sign = max(",;\t", key=first.count)
    lines, rows = csv.reader(io.StringIO(text, newline=""), delimiter=sign, strict=True), []
    try:
        for fields in lines:
            fields = [field.strip() for field in fields]
            if any(fields):
                rows.append((lines.line_num, fields))
    except csv.Error as error:
        raise InputError(f"{path}: line {lines.line_num}", error, "CSV") from None
    if not rows:
        raise InputError(path, "an empty file", "CSV with a header")
    (_, header), *rows = rows
    for line, fields in rows:
        if len(fields) != len(header):
            raise InputError(f"{path}: line {line}", f"{len(fields)} fields", len(header))
    named = [name for name in header if name]
    if len(set(named)) < len(named):
        raise InputError(path, f"the columns {show(', '.join(header))}", "each name once")
    if sign == ";":
        for column in range(len(header)):
            _decimal_points([fields for _, fields in rows], column)
    return header, [(line, dict(zip(header, map(_computed, fields)))) for line, fields in rows]


def _decimal_points(rows, column):
    if all(re.fullmatch("[-+0-9:.e]*(,[0-9]+)?", fields[column]) for fields in rows):
        for fields in rows:
            fields[column] = fields[column].replace(",", ".")


def _computed(field):
    return field[1:] if field.startswith("'=") else field


def uncomputed(text):
    """A name for a CSV cell: where it begins with =, a sign before it, which `read_csv` drops, so
    that no spreadsheet computes it."""
    return f"'{text}" if text.startswith("=") else text


def read_words(path):
    """(line number, words) of the lines of a text file that are not blank."""
    lines = enumerate(read_text(path).splitlines(), 1)
    return [(number, line.split()) for number, line in lines if line.strip()]


def read_text(path):
    """The text of a file: UTF-8, or UTF-16/32 with a mark, as JSON may be."""
    with open_file(path) as (file, _):
        data = file.read()
    try:
        return data.decode(json.detect_encoding(data))
    except UnicodeDecodeError as error:
        found = f"bytes at {error.start} that are not {error.encoding.upper()}"
        raise InputError(path, found, "a text file in UTF-8") from None


# ---- values
def to_number(value):
    """A real number, or the text of one, as float; NaN for everything else."""
    if isinstance(value, bool) or not isinstance(value, (str, float, int, bytes, numbers.Real)):
        return math.nan
    try:
        return math.nan if isinstance(value, str) and "_" in value else float(value)
    except (ValueError, OverflowError):
        return math.nan


def to_seconds(where, value, what):
    """A time in seconds: a finite number, the text of one, or [h:]mm:ss[.s]. InputError else."""
    clock = CLOCK.fullmatch(value.strip()) if isinstance(value, str) else None
    if clock:
        hours, minutes, seconds = (float(part) for part in clock.groups("0"))
        bad = seconds >= 60 or clock[1] and minutes >= 60
        number = math.nan if bad else 3600 * hours + 60 * minutes + seconds
    else:
        number = to_number(value)
    if not math.isfinite(number):
        raise InputError(where, f"{what} {show(value)}", "a finite number of seconds, or h:mm:ss")
    return number


def require_text(where, value, what):
    """A name as text, without blanks around it; a number is a name, too.

    InputError for other types, and for blank, very long and multi-line text: CSV, HDF5, terminals
    and web pages are to hold what passes here as it is.
    """
    text = value.strip() if isinstance(value, str) else ""
    if not isinstance(value, (str, bool)) and math.isfinite(to_number(value)):
        text = f"{value:.15g}" if value != int(value) else str(int(value))
    if not text:
        raise InputError(where, f"{what} {show(value)}", "a text that is not empty, or a number")
    if len(text) > TOO_LONG:
        raise InputError(where, f"{what} {show(text)}", f"at most {TOO_LONG} characters")
    if re.search("[\0-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]", text):
        found = f"{what} {show(text)}"
        raise InputError(where, found, "a text without line breaks and control characters")
    return str(text)
