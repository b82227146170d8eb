"""Text files as tables: CSV whose columns go by any of their usual names, and lines of words.

All readers of ground truth, detections, scores and Ambiguous segments use these, so that
one dialect is read everywhere.
"""

import csv
import io
import math
import numbers
import re
from typing import NamedTuple

from formats.files import InputError, open_file, show

# What a column, or the key of a JSON object, may be called, the most usual name first. Case, blanks
# and signs do not count: `t-start` and `T Start` are tstart.
NAMES = {
    "video": "video videoid videoname vid filename file name id",
    "t_start": "tstart start starttime starts startsec startseconds begin segmentstart",
    "t_end": "tend end endtime ends endsec endseconds stop segmentend",
    "labels": "labels",
    "label": "label labels class classname labelname type action category activity",
    "score": "score confidence conf prob probability",
    "subset": "subset split set partition",
    "duration": "duration durationsecond durationseconds durationsec durations videoduration",
}


class Csv(NamedTuple):
    header: list  # the names of all columns, as written
    at: dict  # place of each column of NAMES that is there, by its name in NAMES
    rows: list  # (line number, fields), blanks around each field taken away


def find(name, keys):
    """The key of `keys` that stands for `name` of NAMES, or None; the more usual one first."""
    plain = {re.sub("[^a-z0-9]", "", str(key).lower()): key for key in reversed(list(keys))}
    return next((plain[usual] for usual in NAMES[name].split() if usual in plain), None)


def timed(keys):
    """Those of `keys` that look like times, by a name that is read (t_start, t_end) or not
    (startFrame, onset)."""
    return [
        key
        for key in keys
        if re.search("start|begin|end$|stop|time|frame|onset|offset", str(key).lower())
    ]


def read_csv(path):
    """A CSV file with a header, separated by commas, semicolons or tabs; lines without any
    text are skipped.

    Raises InputError, naming file and line, for a file that is no UTF-8 text, a column
    named twice, a line of other length than the header.
    """
    text = read_text(path)
    first = text.lstrip().split("\n", 1)[0]
    lines = csv.reader(
        io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count), strict=True
    )
    header, rows = None, []
    try:
        for fields in lines:
            fields = [field.strip() for field in fields]
            if not any(fields):
                continue
            if header is None:
                header = fields
            elif len(fields) != len(header):
                raise InputError(
                    f"{path}: line {lines.line_num}: found {len(fields)} fields, expected "
                    f"{len(header)}"
                )
            else:
                rows.append((lines.line_num, fields))
    except csv.Error as error:
        raise InputError(f"{path}: line {lines.line_num}: found {error}, expected CSV") from None
    if header is None:
        raise InputError(f"{path}: found an empty file, expected CSV with a header")
    named = [name for name in header if name]
    if len(set(named)) < len(named):
        raise InputError(
            f"{path}: found the columns {show(', '.join(header))}, expected each name once"
        )
    found = {name: find(name, header) for name in NAMES}
    return Csv(
        header, {name: header.index(key) for name, key in found.items() if key is not None}, rows
    )


def read_words(path):
    """(line number, words) of the lines of a text file that are not blank."""
    return [
        (number, line.split())
        for number, line in enumerate(read_text(path).splitlines(), 1)
        if line.strip()
    ]


def read_text(path):
    with open_file(path) as (file, _):
        data = file.read()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: found bytes at {error.start} that are not UTF-8, expected a text file"
        ) from None


def to_number(value):
    """A real number, or the text of one, as float; NaN for everything else."""
    if isinstance(value, bool) or not isinstance(value, (numbers.Real, str, bytes)):
        return math.nan
    try:
        return float(value)
    except (ValueError, OverflowError):
        return math.nan


def to_seconds(where, value, what):
    """A time. Raises InputError, with `where` in front, for anything but a finite number >=
    0 or the text of one."""
    number = to_number(value)
    if not 0 <= number < math.inf:
        raise InputError(
            f"{where}: found {what} {show(value)}, expected a finite number of seconds >= 0"
        )
    return number


def require_text(where, value, what):
    """`value` without blanks around it: a name in JSON is then the same name in CSV.

    Raises InputError, with `where` in front, for other types, for blank text, and for signs that
    CSV or HDF5 cannot hold.
    """
    text = value.strip() if isinstance(value, str) else ""
    if not text:
        raise InputError(f"{where}: found {what} {show(value)}, expected a text that is not empty")
    if re.search("[\0\r\ud800-\udfff]", text):
        raise InputError(
            f"{where}: found {what} {show(value)}, expected a text without NUL, carriage return "
            "and lone surrogates"
        )
    return str(text)
