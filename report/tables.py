"""Tables as text and Markdown, and result files.

Our scores are fractions (0.305); what is printed is in percent (30.5), as in the paper. Published
scores are in percent. A table is a list of rows of text, the head first: `map_table` and
`class_table` make one, `text` and `markdown` print it. A file is written whole or not at all.
"""

import csv
import io
import json
import math
import re

import numpy as np
import pandas as pd

from formats.files import write_atomically


def mean_std(values, scale=100):
    """Fractions of one or several runs as percent: "27.3", "27.3 ± 1.2"; "-" for none or a NaN.

    The number behind ± is the sample standard deviation (n - 1) over the runs. scale: 1 for what is
    no fraction, such as seconds.
    """
    values = scale * np.atleast_1d(np.asarray([] if values is None else values, np.float64))
    if not values.size or np.isnan(values).any():
        return "-"
    if values.size == 1:
        return f"{values[0]:.1f}"
    return f"{values.mean():.1f} ± {values.std(ddof=1):.1f}"


def map_table(rows, published=None, compare=None):
    """The mAP table, in percent.

    rows: {method: {column: fraction, or fractions of several runs}}. Columns are tIoUs (numbers)
        and names of averages ("all", "0.1:0.5"), in the order in which they first appear; with no
        row of ours they are the published rows' columns.
    published: {name: {column: percent}}, below our rows.
    compare: (method, name of a published row) adds the row "difference", ours minus theirs.
    A cell without a value is "-".
    """
    rows = {method: _by_column(values) for method, values in rows.items()}
    published = {name: _by_column(values) for name, values in (published or {}).items()}
    shown = rows or published
    columns = list(dict.fromkeys(column for values in shown.values() for column in values))
    table = [["mAP (%) at tIoU", *map(column_name, columns)]]
    for method, values in rows.items():
        table.append([method, *(mean_std(values.get(column)) for column in columns)])
    for name, values in published.items():
        table.append([name, *(_percent(values.get(column)) for column in columns)])
    if compare is not None:
        ours, theirs = rows[compare[0]], published[compare[1]]
        cells = [_difference(ours.get(column), theirs.get(column)) for column in columns]
        table.append(["difference", *cells])
    return table


def _percent(value):
    return "-" if value is None else f"{value:.1f}"


def _difference(ours, theirs):
    """ours: fractions of the runs, theirs: percent; either may be None."""
    if ours is None or theirs is None:
        return "-"
    gap = 100 * np.mean(ours) - theirs
    return "-" if math.isnan(gap) else f"{gap:+.1f}"


def class_table(ap, tiou, segments):
    """AP of every class {name: fraction} at one tIoU, in percent, its mean in the last row; a class
    without ground truth, whose AP is NaN, stays out of the mean. segments: {name: number}.
    """
    rows = [["AP (%) at tIoU", f"{tiou:g}", "segments"]]
    rows += [[name, mean_std(value), f"{segments[name]}"] for name, value in ap.items()]
    mean = np.nanmean(list(ap.values()))
    return [*rows, ["mean", mean_std(mean), f"{sum(segments.values())}"]]


def map_frame(rows):
    """The numbers of `map_table`, not rounded: a DataFrame of method, run (from 1) and columns."""
    lines = []
    for method, values in rows.items():
        n_runs = max(np.size(value) for value in values.values())
        columns = {}
        for column, value in _by_column(values).items():
            columns[column_name(column)] = np.broadcast_to(value, n_runs)
        for run in range(n_runs):
            numbers = {head: float(value[run]) for head, value in columns.items()}
            lines.append({"method": method, "run": run + 1, **numbers})
    return pd.DataFrame(lines)


def text(table):
    """A table for the terminal: the first column on the left, the others on the right."""
    widths = [max(len(row[k]) for row in table) for k in range(len(table[0]))]
    lines = []
    for row in table:
        cells = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:])]
        lines.append("  ".join([row[0].ljust(widths[0]), *cells]).rstrip())
    return "\n".join([lines[0], "-" * (sum(widths) + 2 * len(widths) - 2), *lines[1:]])


def block(caption, table, printed):
    """A caption and its table, if there is one, by `text` or `markdown`."""
    return caption if table is None else f"{caption}\n\n{printed(table)}"


def markdown(table):
    """A table for Markdown, aligned like `text`. Signs that Markdown or HTML reads are escaped."""
    rows = [
        [re.sub(r"([\\`*\[\]<>|&])", r"\\\1", " ".join(cell.split())) for cell in row]
        for row in table
    ]
    rows.insert(1, [":--"] + ["--:"] * (len(table[0]) - 1))
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _key(column):
    """Columns are looked up by value: 0.1 * 3 and 0.3 are the same tIoU."""
    return column if isinstance(column, str) else round(float(column), 6)


def _by_column(values):
    return {_key(column): value for column, value in values.items()}


def column_name(column):
    """A tIoU, or the name of an average, as a table's head."""
    if column == "all":
        return "avg"
    return column if isinstance(column, str) else f"{column:g}"


# ---- the log of a run
def split_log(records):
    """(EM-MIL's records of log.jsonl, {every other stage: its records}), in order."""
    ours, others = [], {}
    for record in records:
        of_stage = ours if "phase" in record else others.setdefault(record["stage"], [])
        of_stage.append(record)
    return ours, others


def phase_table(records):
    """EM-MIL's phases from the records of log.jsonl: a DataFrame with a row per phase, in order.

    phase: from 1. step: "E", "M" or "EM". epoch: EM-MIL epochs trained before it. positive: share
    of clips that its pseudo-labels make positive. changed: share of clips whose label differs from
    the last phase of the same step, NaN in the first. empty: positive bags without positive clip.
    NaN where the log has no value. Records of other stages are left out.
    """
    ours, _ = split_log(records)
    columns = ["phase", "step", "epoch", "positive", "changed", "empty"]
    table = pd.DataFrame(ours, columns=columns).assign(epoch=range(len(ours)))
    table = table.drop_duplicates("phase", ignore_index=True)
    return table.astype({"positive": float, "changed": float})


# ---- files
def write_text(path, content):
    """Writes text, such as Markdown, as UTF-8 with one newline at its end; what is no character, in
    the name of a file, as JSON escapes it."""
    content = (content.rstrip("\n") + "\n").encode("utf-8", errors="backslashreplace")
    with write_atomically(path) as temporary:
        temporary.write_bytes(content)


def write_json(path, value):
    """Writes JSON; NumPy arrays become lists, NaN and infinities null, paths and keys text."""
    write_text(path, json.dumps(_plain(value), indent=1, ensure_ascii=False, allow_nan=False))


def write_csv(path, table):
    """Writes a DataFrame, or a list of rows such as `map_table` makes, as CSV."""
    if isinstance(table, pd.DataFrame):
        content = table.to_csv(index=False, lineterminator="\n")
    else:
        buffer = io.StringIO()
        csv.writer(buffer, lineterminator="\n").writerows(table)
        content = buffer.getvalue()
    write_text(path, content)


def _plain(value):
    """`value` with nothing in it that JSON does not know."""
    if isinstance(value, dict):
        return {
            f"{key:g}" if isinstance(key, float) else str(key): _plain(item)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int)) else str(value)
