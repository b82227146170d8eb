"""What a run shows: tables as text and Markdown, result files, figures. The only file that imports matplotlib.

Plain tables and arrays in, text or files out. Our own scores are fractions (0.305) everywhere but in what is printed
or drawn, which is in percent (30.5) as in the paper; published scores are typed in percent.

Tables are lists of rows of text, the first row the head: `map_table` and `class_table` make them, `text` and
`markdown` print them. Files are written whole or not at all. Figures take the paths to write first, any number, the
suffix choosing the format (.pdf and .png), then their data by keyword:

    report.localization_figure("fig5.pdf", "fig5.png", scores=l, snippet_seconds=1.25, ...)

Colours are those of Okabe and Ito, told apart with any colour vision; where two things could be confused, their place,
marker or line style differs too. COLUMN and PAGE are the widths of a paper's column and page in inches; text is 7 to
8 points at those.
"""
import contextlib
import csv
import io
import json
import math
import pathlib
from itertools import cycle
from typing import NamedTuple

import numpy as np
import pandas as pd

from safe_load import write_atomically


class Published(NamedTuple):
    """A row of the literature. values: mAP in percent by tIoU ("all": mean over 0.5:0.05:0.95)."""
    method: str
    supervision: str       # "full": segments; "weak": video-level labels; "weak+count": and the number of segments
    reference: str
    values: dict


def _published(method, supervision, reference, tious, *values):
    return Published(method, supervision, reference, {t: v for t, v in zip(tious, values) if v is not None})


_T, _A = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7), (0.5, 0.7, 0.9, "all")

# What the literature of EM-MIL's Table 1 and Table 2 reports for the same test sets. PUBLISHED_NOTE goes beside them.
PUBLISHED = {"thumos14": [_published(*row) for row in (
    ("S-CNN", "full", "Shou et al., CVPR 2016", _T, 47.7, 43.5, 36.3, 28.7, 19.0, 10.3, 5.3),
    ("CDC", "full", "Shou et al., CVPR 2017", _T, None, None, 40.1, 29.4, 23.3, 13.1, 7.9),
    ("R-C3D", "full", "Xu et al., ICCV 2017", _T, 54.5, 51.5, 44.8, 35.6, 28.9),
    ("SSN", "full", "Zhao et al., ICCV 2017", _T, 66.0, 59.4, 51.9, 41.0, 29.8),
    ("TAL-Net", "full", "Chao et al., CVPR 2018", _T, 59.8, 57.1, 53.2, 48.5, 42.8, 33.8, 20.8),
    ("BSN", "full", "Lin et al., ECCV 2018", _T, None, None, 53.5, 45.0, 36.9, 28.4, 20.0),
    ("MGG", "full", "Liu et al., CVPR 2019", _T, None, None, 53.9, 46.8, 37.4, 29.5, 21.3),
    ("P-GCN", "full", "Zeng et al., ICCV 2019", _T, 69.5, 67.8, 63.6, 57.8, 49.1),
    ("Hide-and-Seek", "weak", "Singh and Lee, ICCV 2017", _T, 36.4, 27.8, 19.5, 12.7, 6.8),
    ("UntrimmedNet", "weak", "Wang et al., CVPR 2017", _T, 44.4, 37.7, 28.2, 21.1, 13.7),
    ("STPN (UNT)", "weak", "Nguyen et al., CVPR 2018", _T, 45.3, 38.8, 31.1, 23.5, 16.2, 9.8, 5.1),
    ("STPN", "weak", "Nguyen et al., CVPR 2018", _T, 52.0, 44.7, 35.5, 25.8, 16.9, 9.9, 4.3),
    ("W-TALC (UNT)", "weak", "Paul et al., ECCV 2018", _T, 49.0, 42.8, 32.0, 26.0, 18.8, None, 6.2),
    ("W-TALC", "weak", "Paul et al., ECCV 2018", _T, 55.2, 49.6, 40.1, 31.1, 22.8, None, 7.6),
    ("AutoLoc (UNT)", "weak", "Shou et al., ECCV 2018", _T, None, None, 35.8, 29.0, 21.2, 13.4, 5.8),
    ("MAAN", "weak", "Yuan et al., ICLR 2019", _T, 59.8, 50.8, 41.1, 30.6, 20.3, 12.0, 6.9),
    ("CMCS (UNT)", "weak", "Liu et al., CVPR 2019", _T, 53.5, 46.8, 37.5, 29.1, 19.9, 12.3, 6.0),
    ("CMCS", "weak", "Liu et al., CVPR 2019", _T, 57.4, 50.8, 41.2, 32.1, 23.1, 15.0, 7.0),
    ("CleanNet (UNT)", "weak", "Liu et al., ICCV 2019", _T, None, None, 37.0, 30.9, 23.9, 13.9, 7.1),
    ("3C-Net", "weak+count", "Narayan et al., ICCV 2019", _T, 59.1, 53.5, 44.2, 34.1, 26.6, None, 8.1),
    ("BM", "weak", "Nguyen et al., ICCV 2019", _T, 60.4, 56.0, 46.6, 37.5, 26.8, 17.6, 9.0),
    ("BaS-Net (UNT)", "weak", "Lee et al., AAAI 2020", _T, 56.2, 50.3, 42.8, 34.7, 25.1, 17.1, 9.3),
    ("BaS-Net", "weak", "Lee et al., AAAI 2020", _T, 58.2, 52.3, 44.6, 36.0, 27.0, 18.6, 10.4),
    ("DGAM", "weak", "Shi et al., CVPR 2020", _T, 60.0, 54.2, 46.8, 38.2, 28.8, 19.8, 11.4),
    ("EM-MIL-UNT", "weak", "Luo et al., ECCV 2020", _T, 59.0, 50.4, 42.7, 34.5, 27.2, 18.9, 10.2),
    ("EM-MIL", "weak", "Luo et al., ECCV 2020", _T, 59.1, 52.7, 45.5, 36.8, 30.5, 22.7, 16.4))],
    "activitynet12": [_published(*row) for row in (
        ("SSN", "full", "Zhao et al., ICCV 2017", _A, 41.3, 30.4, 13.2, 26.6),
        ("UntrimmedNet", "weak", "Wang et al., CVPR 2017", _A, 7.4, 3.9, 1.2, 3.6),
        ("AutoLoc", "weak", "Shou et al., ECCV 2018", _A, 27.3, 17.5, 6.8, 16.0),
        ("W-TALC", "weak", "Paul et al., ECCV 2018", _A, 37.0, 14.6, None, 18.0),
        ("TSM", "weak", "Yu et al., ICCV 2019", _A, 28.3, 18.9, 7.5, 17.1),
        ("CMCS", "weak", "Liu et al., CVPR 2019", _A, 36.8, None, None, 22.4),
        ("CleanNet", "weak", "Liu et al., ICCV 2019", _A, 37.1, 23.4, 9.2, 21.6),
        ("3C-Net", "weak+count", "Narayan et al., ICCV 2019", _A, 37.2, 23.7, 9.2, 21.7),
        ("BaS-Net", "weak", "Lee et al., AAAI 2020", _A, 38.5, None, None, 24.3),
        ("DGAM", "weak", "Shi et al., CVPR 2020", _A, 41.0, 26.9, 10.8, 24.4),
        ("EM-MIL", "weak", "Luo et al., ECCV 2020", _A, 37.4, 23.1, 2.0, 20.3))]}
PUBLISHED_NOTE = ("Published rows are typed from memory of the literature, have not been checked against the papers' "
                  "PDFs, and need not be the very rows of the paper's table; -: not reported, or not certain.")
PAPER_EMMIL = {name: next(row.values for row in rows if row.method == "EM-MIL") for name, rows in PUBLISHED.items()}

COLUMN, PAGE = 3.4, 7.0
BLUE, RED, GREEN, ORANGE, PURPLE, BLACK = "#0072B2", "#D32F1E", "#009E73", "#E69F00", "#CC79A7", "#000000"
LINES = [(BLUE, "-", "o"), (RED, "--", "s"), (GREEN, "-.", "^"), (PURPLE, ":", "D"), (ORANGE, "-", "v"),
         (BLACK, "--", "x")]
STYLE = {"font.size": 8, "axes.titlesize": 8, "axes.labelsize": 8, "xtick.labelsize": 7, "ytick.labelsize": 7,
         "legend.fontsize": 7, "legend.frameon": False, "legend.handlelength": 3, "axes.linewidth": 0.6,
         "lines.linewidth": 1.2, "lines.markersize": 3.5,
         "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True,
         "grid.linewidth": 0.4, "grid.color": "0.88", "savefig.dpi": 300,
         "text.parse_math": False,                      # a $ in a name is a $
         "pdf.fonttype": 42}                            # real text in the PDF; publishers refuse type 3 fonts


# ----------------------------------------------------------------------------------------------------- tables

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


def published_rows(dataset, methods):
    """The published rows of `methods` (our names: "EM-MIL", ...) on one of opts' datasets, for `map_table`.

    Returns {"NAME (paper)": {column: percent}}, empty for a dataset that is not the paper's. For "thumos14-unt" the
    rows with UntrimmedNet's features, where there are any.
    """
    rows = {row.method: row.values for row in PUBLISHED.get(dataset.removesuffix("-unt"), ())}
    found = {}
    for method in methods:
        unt = (f"{method}-UNT", f"{method} (UNT)") if dataset.endswith("-unt") else ()
        found.update({f"{name} (paper)": rows[name] for name in [n for n in (*unt, method) if n in rows][:1]})
    return found


def published_table(name):
    """All rows of PUBLISHED[name] with their references, in percent."""
    columns = list(dict.fromkeys(column for row in PUBLISHED[name] for column in row.values))
    columns.sort(key=lambda column: (isinstance(column, str), column))
    return [["published mAP (%) at tIoU", "trained on", *map(_head, columns)]] + [
        [f"{row.method}, {row.reference}", row.supervision,
         *(f"{row.values[column]:.1f}" if column in row.values else "-" for column in columns)]
        for row in PUBLISHED[name]]


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


# ---------------------------------------------------------------------------------------------------- figures

@contextlib.contextmanager
def _figure(paths, width, height):
    """A figure of width x height inches that is saved to `paths` when the block ends. No GUI, no global state."""
    import matplotlib
    from matplotlib.figure import Figure
    with matplotlib.rc_context(STYLE):
        figure = Figure((width, height), layout="constrained")
        # The layout makes no room for the half of an outermost tick label that stands out of its axis.
        figure.get_layout_engine().set(rect=(0, 0, 1 - 0.1 / width, 1 - 0.03 / height))
        yield figure
        for path in map(pathlib.Path, paths):
            with write_atomically(path) as temporary:
                # Without its date a PDF of the same data is the same file.
                figure.savefig(temporary, metadata={"CreationDate": None} if path.suffix == ".pdf" else None)


def localization_figure(*paths, scores, snippet_seconds, duration, threshold, ground_truth, predictions, label, video,
                        thumbnails=(), width=COLUMN):
    """Fig. 5 of the paper for one class of one video, on one time axis in seconds.

    scores: (T,) the score map L of the class, drawn as a strip (light = high) and as a curve. threshold: the value
    that L must exceed, or several. ground_truth, predictions: (n, 2) seconds, red and blue bars in rows of their own.
    label, video: names. thumbnails: [(seconds, RGB array (H, W, 3))] in order of time, a row on top.
    """
    scores = np.asarray(scores, np.float64)
    edges = np.arange(len(scores) + 1) * snippet_seconds                                    # (T + 1,)
    heights = [0.09 * width] * bool(len(thumbnails)) + [0.14, 0.9, 0.36]
    apart = len(label) + len(video) > 14 * (width - 0.8)     # too long for one line of 8 point text over the axis
    with _figure(paths, width, sum(heights) + 0.72 + 0.13 * apart) as figure:
        *top, strip, curve, bars = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
        highest = top[0] if top else strip
        highest.set_title(label + "\n" * apart, loc="left", fontweight="bold")
        highest.set_title(video, loc="right", color="0.3")

        strip.imshow(scores[None], aspect="auto", cmap="cividis", extent=(0, edges[-1], 0, 1), interpolation="nearest")
        strip.set_yticks([])
        strip.set_ylabel("L", rotation=0, ha="right", va="center")

        curve.stairs(scores, edges, color=BLACK, linewidth=1, baseline=None)
        for value in np.atleast_1d(threshold):
            curve.axhline(value, color=BLACK, linewidth=0.8, linestyle=(0, (4, 2)))
        margin = 0.06 * np.ptp(scores) or 0.1                # a constant L has no range
        curve.set_ylim(scores.min() - margin, scores.max() + margin)
        curve.set_ylabel("score L\n– – threshold", fontsize=7)      # beside the axis, where no curve is

        for middle, segments, colour in ((1, ground_truth, RED), (0, predictions, BLUE)):
            bars.broken_barh([(start, end - start) for start, end in segments], (middle - 0.35, 0.7), facecolor=colour,
                             edgecolor=colour, linewidth=0.3)      # the edge keeps the shortest visible
        for start, end in ground_truth:
            curve.axvspan(start, end, color=RED, alpha=0.12, linewidth=0)
        bars.set_yticks([1.0, 0.0], ["ground truth", "prediction"])
        for tick, colour in zip(bars.get_yticklabels(), (RED, BLUE)):
            tick.set_color(colour)
        bars.tick_params(axis="y", length=0)
        bars.set_ylim(-0.45, 1.45)
        bars.set_xlim(0, max(duration, edges[-1]))
        bars.set_xlabel("time (s)")
        for axes in (*top, strip):
            axes.tick_params(axis="x", bottom=False, labelbottom=False)
            for spine in axes.spines.values():
                spine.set_visible(False)
        for axes in top:
            axes.set_yticks([])
            figure.draw_without_rendering()                  # the size of the row is known after the layout
            _thumbnails(axes, thumbnails)


def _thumbnails(axes, thumbnails):
    """Frames side by side, undistorted: all or, where they do not fit, evenly picked ones; each as near its time as the
    others allow."""
    box, (_, duration) = axes.get_window_extent(), axes.get_xlim()
    height, width = np.shape(thumbnails[0][1])[:2]
    wide = width / height * duration * box.height / box.width                               # seconds
    n = max(1, min(len(thumbnails), int(duration / (1.02 * wide))))
    free = 0.0
    for k, pick in enumerate(np.linspace(0, len(thumbnails) - 1, n).round().astype(int)):
        seconds, image = thumbnails[pick]
        left = min(max(seconds - wide / 2, free), duration - wide - (n - 1 - k) * 1.02 * wide)
        axes.imshow(image, aspect="auto", extent=(left, left + wide, 0, 1))
        free = left + 1.02 * wide
    axes.set(xlim=(0, duration), ylim=(0, 1))


def phase_table(records):
    """EM-MIL's phases from the records of log.jsonl: DataFrame, a row per phase in order.

    phase (from 1), step ("E", "M", "EM"), epoch (EM-MIL epochs trained before it), positive (share of clips that its
    pseudo-labels make positive), changed (share of clips whose label changed since the last phase of the same step,
    NaN in the first), empty (positive bags left with no positive clip); NaN where the log does not say. Records of
    other stages are passed over.
    """
    ours = [record for record in records if "phase" in record]
    first = {}
    for epoch, record in enumerate(ours):
        first.setdefault(record["phase"], {"phase": record["phase"], "step": record["step"], "epoch": epoch, **{
            key: math.nan if record.get(key) is None else record[key] for key in ("positive", "changed", "empty")}})
    return pd.DataFrame(first.values(), columns=["phase", "step", "epoch", "positive", "changed", "empty"])


def training_figure(*paths, records, width=PAGE):
    """Training curves from the records of log.jsonl (dicts, one per epoch): `loss` (dict by name) of every stage, and
    of EM-MIL what became of the pseudo-labels.

    Records with a `phase` are EM-MIL's; they share one axis of epochs, phases of step E shaded. Records of any other
    stage (the video-level classifier) get a panel each.
    """
    ours = [record for record in records if "phase" in record]
    others = {}
    for record in records:
        if "phase" not in record:
            others.setdefault(record["stage"], []).append(record)
    phases = phase_table(records)
    labels = bool(len(phases)) and bool(phases["positive"].notna().any())
    panels = bool(ours) + labels + len(others)
    if not panels:
        return
    with _figure(paths, width, 0.3 + 1.75 * panels) as figure:
        grid = iter(figure.subplots(panels, 1, squeeze=False)[:, 0])
        if ours:
            axes = next(grid)
            for (colour, line, marker), (step, name) in zip(cycle(LINES), dict.fromkeys(
                    (record["step"], name) for record in ours for name in record["loss"])):
                at = [(k + 1, record["loss"][name]) for k, record in enumerate(ours)
                      if record["step"] == step and name in record["loss"]]
                axes.plot(*zip(*at), color=colour, linestyle=line, marker=marker, markersize=2.5,
                          label=f"{step} step, {name}")
            _dress(axes, "EM-MIL", "loss")
            _shade(axes, ours)
            axes.set_xlim(0, len(ours) + 1)
            axes.set_xlabel("epoch")
        if labels:
            axes = next(grid)
            starts = phases.assign(epoch=phases["epoch"] + 0.5)      # between the epoch before and the first one
            _phase_lines(axes, starts, "positive", {step: f"{step} step, positive" for step in STEPS}, LINES)
            _phase_lines(axes, starts, "changed", {step: f"{step} step, changed" for step in STEPS}, LINES[2:])
            _dress(axes, "EM-MIL pseudo-labels, at the start of each phase", "clips (%)")
            _shade(axes, ours)
            axes.set_xlim(0, len(ours) + 1)
            axes.set_ylim(-4, 104)
            axes.set_xlabel("epoch")
        for stage, rows in others.items():
            axes = next(grid)
            names = dict.fromkeys(name for row in rows for name in row["loss"])
            for (colour, line, _), name in zip(cycle(LINES), names):
                axes.plot(np.arange(1, len(rows) + 1), [row["loss"].get(name, math.nan) for row in rows], color=colour,
                          linestyle=line, label=name)
            _dress(axes, stage, "loss")
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.set_xlabel("epoch")


def convergence_figure(*paths, phases, width=COLUMN):
    """How EM-MIL converges, over the epochs before each phase: the shrinkage from all-positive bags of Sec. 3.4.

    phases: the `phase_table` of a run, or those of several runs of the same schedule one below the other (pd.concat);
    with a column "map" where the mAP of the pseudo-labels against the ground truth, a fraction, was measured (a
    diagnostic: training never sees it). Bands: ± one standard deviation over the runs. Nothing is drawn where the log
    has no pseudo-labels.
    """
    panels = [("positive", "positive clips (%)"), ("changed", "labels changed (%)"),
              ("map", "pseudo-label mAP\n(%), diagnostic")]
    panels = [panel for panel in panels if panel[0] in phases and phases[panel[0]].notna().any()]
    if not panels:
        return
    with _figure(paths, width, 0.45 + 1.2 * len(panels)) as figure:
        grid = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
        for axes, (column, name) in zip(grid, panels):
            _phase_lines(axes, phases, column, STEPS, LINES)
            axes.set_ylabel(name)
            axes.set_ylim(bottom=0)
            axes.grid(True)
        grid[0].legend(loc="best")
        grid[-1].set_xlabel("epochs trained before the phase")
        figure.align_ylabels()


def curve_figure(*paths, x, curves, xlabel, ylabel, mark=None, width=COLUMN):
    """Curves with bands of ± one standard deviation over runs, such as mAP over lambda or gamma.

    x: (n,). curves: {name: fractions (n,) or (runs, n)}, drawn in percent. mark: (x, text) of a vertical line, such
    as the paper's choice.
    """
    names = [*curves, *([mark[1]] if mark else [])]
    columns = 2 if max(map(len, names)) <= 11 * width - 10 else 1      # characters of 7 points in half the width
    lines = -(-len(names) // columns)
    with _figure(paths, width, 0.62 * width + 0.15 * lines) as figure:
        axes = figure.subplots()
        for (colour, line, marker), (name, values) in zip(cycle(LINES), curves.items()):
            _band(axes, x, values, colour, line, marker, name)
        if mark is not None:
            axes.axvline(mark[0], color="0.35", linewidth=0.8, linestyle=(0, (1, 1.5)), label=mark[1], zorder=1)
        if len(x) <= 11:
            axes.set_xticks(x, [f"{value:g}" for value in x])
        axes.set_xlabel(xlabel)
        axes.set_ylabel(ylabel)
        axes.grid(True)
        # Inside, it would cover one curve or another.
        axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1), borderaxespad=0, ncols=columns)


def share_figure(*paths, bars, width=PAGE):
    """Where the time went: a bar of 100% per name, cut into parts. bars: {name: {part: seconds}}."""
    parts = list(dict.fromkeys(part for values in bars.values() for part in values))
    with _figure(paths, width, 0.75 + 0.36 * len(bars)) as figure:
        axes = figure.subplots()
        left = np.zeros(len(bars))
        totals = np.array([sum(values.values()) for values in bars.values()])
        hatches = ("", "////", "....", "xxxx", "\\\\\\\\", "", "....")
        for (colour, _, _), hatch, part in zip(cycle(LINES), cycle(hatches), parts):
            share = np.array([100 * values.get(part, 0.0) for values in bars.values()]) / totals
            axes.barh(list(bars), share, 0.62, left, facecolor=colour, edgecolor="white", linewidth=0.3, hatch=hatch,
                      label=part)
            left += share
        axes.invert_yaxis()
        axes.set_xlim(0, 100)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("share of the wall time (%)")
        figure.legend(loc="outside right center")


def growth_figure(*paths, panels, width=PAGE):
    """Wall time over size, both logarithmic, a panel for each kind of size; the grey line grows in proportion.

    panels: (label of the axis, sizes (n,), {name: seconds (n,)}).
    """
    with _figure(paths, width, 2.3) as figure:
        grid = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
        for axes, (label, x, curves) in zip(grid, panels):
            for (colour, line, marker), (name, values) in zip(cycle(LINES), curves.items()):
                axes.loglog(x, values, color=colour, linestyle=line, marker=marker, label=name)
                axes.loglog(x, [values[0] * size / x[0] for size in x], color="0.75", linewidth=0.6, zorder=1)
            axes.set_xticks(x, [f"{size:g}" for size in x])
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
            axes.minorticks_off()
            axes.set_xlabel(label)
            axes.grid(True)
        grid[0].set_ylabel("seconds")
        grid[0].legend(loc="upper left")


def heat_figure(*paths, x, y, values, xlabel, ylabel, title, mark=None, width=COLUMN):
    """Heat map of fractions (len(y), len(x)), or (runs, len(y), len(x)) whose mean is drawn; percent in every cell.

    mark: (x, y) of a cell to outline, such as the paper's choice.
    """
    values = np.asarray(values, np.float64)
    values = 100 * (values.mean(axis=0) if values.ndim == 3 else values)
    with _figure(paths, width, 0.75 + 0.24 * len(y)) as figure:
        axes = figure.subplots()
        axes.imshow(values, cmap="cividis", aspect="auto", origin="lower")
        axes.set_xticks(range(len(x)), [f"{v:g}" for v in x])
        axes.set_yticks(range(len(y)), [f"{v:g}" for v in y])
        middle = (np.nanmin(values) + np.nanmax(values)) / 2
        size = min(7.0, 20 * width / len(x))                 # points: four digits fill most of a cell
        for row, column in np.ndindex(values.shape):
            axes.text(column, row, f"{values[row, column]:.1f}", ha="center", va="center", fontsize=size,
                      color="white" if values[row, column] < middle else "black")
        if mark is not None:
            from matplotlib.patches import Rectangle
            column, row = (int(np.argmin(np.abs(np.asarray(at) - value))) for at, value in zip((x, y), mark))
            for colour, thick in (("black", 2.6), ("white", 1.3)):   # stands out on any cell
                axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor=colour, lw=thick))
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.tick_params(length=0)
        axes.set_xlabel(xlabel)
        axes.set_ylabel(ylabel)
        axes.set_title(title)


def _band(axes, x, values, colour, line, marker, name):
    """Mean over runs in percent and its band. values: fractions (n,) or (runs, n)."""
    values = 100 * np.atleast_2d(np.asarray(values, np.float64))
    mean = values.mean(axis=0)
    axes.plot(x, mean, color=colour, linestyle=line, marker=marker, label=name)
    if len(values) > 1:
        std = values.std(axis=0, ddof=1)
        axes.fill_between(x, mean - std, mean + std, color=colour, alpha=0.18, linewidth=0)


STEPS = {"E": "E step, labels for q (Eq. 3)", "M": "M step, labels for p (Eq. 5)", "EM": "both steps"}


def _phase_lines(axes, phases, column, names, lines):
    """One line per step over `epoch`; several rows of one epoch are runs. names: {step: in the legend}."""
    for (colour, line, marker), step in zip(lines, dict.fromkeys(phases["step"])):
        rows = phases[(phases["step"] == step) & phases[column].notna()]
        if len(rows):
            values = np.stack([rows[rows["epoch"] == epoch][column] for epoch in sorted(set(rows["epoch"]))], axis=1)
            _band(axes, sorted(set(rows["epoch"])), values, colour, line, marker, names[step])


def _shade(axes, records):
    """Grey behind the epochs of E phases."""
    for epoch, record in enumerate(records, 1):
        if record["step"] == "E":
            axes.axvspan(epoch - 0.5, epoch + 0.5, color="0.94", linewidth=0, zorder=0)


def _dress(axes, title, ylabel):
    axes.set_title(title, loc="left")
    axes.set_ylabel(ylabel)
    axes.grid(True, axis="y")
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
