"""Tables as text and Markdown, and result files.

Our own scores are fractions (0.305) everywhere but in what is printed, which is in percent (30.5) as in the paper;
published scores are in percent. Tables are lists of rows of text, the first row the head: `map_table` and `class_table`
make them, `text` and `markdown` print them. Files are written whole or not at all.
"""
import csv
import io
import json
import math

import numpy as np
import pandas as pd

from formats.files import write_atomically


def mean_std(values, digits=1):
    """Fractions of several runs, or of one, as percent: "27.3 ± 1.2", "27.3"; "-" where there is none or a NaN.

    std is the sample standard deviation (n - 1) over the runs.
    """
    values = 100 * np.atleast_1d(np.asarray([] if values is None else values, np.float64))
    if not values.size or np.isnan(values).any():
        return "-"
    if values.size == 1:
        return f"{values[0]:.{digits}f}"
    return f"{values.mean():.{digits}f} ± {values.std(ddof=1):.{digits}f}"


def map_table(rows, published=None, compare=None):
    """The mAP table, in percent.

    rows: {method: {column: fraction, or fractions of several runs}}; columns are tIoUs (numbers) and names of averages
    ("all", "0.1:0.5", ...), in the order in which they first appear. published: {name: {column: percent}}, rows below
    ours. compare: (method, name of a published row) adds the row "difference", ours minus theirs. "-": no value.
    """
    rows = {method: _by_column(values) for method, values in rows.items()}
    published = {name: _by_column(values) for name, values in (published or {}).items()}
    columns = list(dict.fromkeys(column for values in rows.values() for column in values))
    table = [["mAP (%) at tIoU"] + [_head(column) for column in columns]]
    table += [[method] + [mean_std(values.get(column)) for column in columns] for method, values in rows.items()]
    table += [[name] + [f"{values[column]:.1f}" if column in values else "-" for column in columns]
              for name, values in published.items()]
    if compare is not None:
        ours, theirs = rows[compare[0]], published[compare[1]]
        gaps = [100 * np.mean(ours[column]) - theirs[column] if column in ours and column in theirs else math.nan
                for column in columns]
        table.append(["difference"] + ["-" if math.isnan(gap) else f"{gap:+.1f}" for gap in gaps])
    return table


def class_table(classes, ap, tious, n_segments=None):
    """AP of every class in percent, its mean below. ap: (len(tious), C) fractions, or (runs, len(tious), C).

    n_segments: (C,) number of ground-truth segments, a last column. NaN ("no ground truth") stays out of the mean.
    """
    ap = np.asarray(ap, np.float64)
    ap = ap[None] if ap.ndim == 2 else ap
    head = ["AP (%) at tIoU"] + [_head(_key(tiou)) for tiou in tious]
    body = [[name] + [mean_std(ap[:, t, c]) for t in range(len(tious))] for c, name in enumerate(classes)]
    known = ~np.isnan(ap).any(axis=(0, 1))
    mean = ["mean"] + [mean_std(ap[:, t, known].mean(axis=1) if known.any() else None) for t in range(len(tious))]
    if n_segments is not None:
        head, mean = head + ["segments"], mean + [f"{sum(n_segments)}"]
        body = [row + [f"{n}"] for row, n in zip(body, n_segments)]
    return [head, *body, mean]


def map_frame(rows):
    """The numbers of `map_table` unrounded, for a CSV: DataFrame with method, run (from 1) and a column each."""
    lines = []
    for method, values in rows.items():
        runs = max(np.size(value) for value in values.values())
        columns = {_head(column): np.broadcast_to(value, runs) for column, value in _by_column(values).items()}
        lines += [{"method": method, "run": run + 1, **{head: float(value[run]) for head, value in columns.items()}}
                  for run in range(runs)]
    return pd.DataFrame(lines)


def text(table):
    """A table for the terminal: the first column left, the others right, aligned."""
    widths = [max(len(row[k]) for row in table) for k in range(len(table[0]))]
    lines = ["  ".join([row[0].ljust(widths[0])] + [cell.rjust(w) for cell, w in zip(row[1:], widths[1:])]).rstrip()
             for row in table]
    return "\n".join([lines[0], "-" * (sum(widths) + 2 * len(widths) - 2), *lines[1:]])


def markdown(table):
    """A table for Markdown, with the same alignment."""
    rows = [[cell.replace("|", "\\|") for cell in row] for row in table]
    rows.insert(1, [":--"] + ["--:"] * (len(table[0]) - 1))
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _key(column):
    """Columns are looked up by value: 0.1 * 3 and 0.3 are the same tIoU."""
    return column if isinstance(column, str) else round(float(column), 6)


def _by_column(values):
    return {_key(column): value for column, value in values.items()}


def _head(column):
    return ("avg" if column == "all" else column) if isinstance(column, str) else f"{column:g}"


# ------------------------------------------------------------------------------------------------------ files

def write_text(path, content):
    """Writes text, such as Markdown, as UTF-8 with a newline at its end."""
    with write_atomically(path) as temporary:
        temporary.write_text(content.rstrip("\n") + "\n", encoding="utf-8")


def write_json(path, value):
    """Writes JSON; NumPy arrays become lists, NaN and infinities null, paths and keys text."""
    write_text(path, json.dumps(_plain(value), indent=1, ensure_ascii=False, allow_nan=False))


def write_csv(path, table):
    """Writes a DataFrame, or a list of rows such as `map_table` makes, as CSV."""
    if isinstance(table, pd.DataFrame):
        return write_text(path, table.to_csv(index=False, lineterminator="\n"))
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(table)
    write_text(path, buffer.getvalue())


def _plain(value):
    if isinstance(value, dict):
        return {f"{key:g}" if isinstance(key, float) else str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int)) else str(value)
