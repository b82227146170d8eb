"""Figures for papers (PNG, PDF). The only file that imports matplotlib.

Figures take the paths to write first, any number, the suffix choosing the format (.pdf and .png), then their data by
keyword:

    figures.localization_figure("fig5.pdf", "fig5.png", scores=l, snippet_seconds=1.25, ...)

Colours are those of Okabe and Ito, told apart with any colour vision; where two things could be confused, their place,
marker or line style differs too. COLUMN and PAGE are the widths of a paper's column and page in inches; text is 7 to
8 points at those.
"""
import contextlib
import math
import pathlib
from itertools import cycle

import numpy as np
import pandas as pd

from formats.files import write_atomically

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
