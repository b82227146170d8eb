"""Figures for papers (PNG, PDF). The only file that imports matplotlib.

A figure takes the paths to write first, any number; the suffix chooses the format. Its data follow
by keyword:

    figures.curve_figure("map.pdf", "map.png", x=tious, curves={"EM-MIL": map}, ...)

Colours are those of Okabe and Ito, which any colour vision can tell apart; where two things could
still be confused, place, marker or line style differ too. COLUMN and PAGE are the widths of a paper
column and of a page in inches; text is 7 to 8 points at those widths.
"""

import contextlib
import pathlib
from dataclasses import dataclass
from itertools import cycle

import numpy as np

from formats.files import write_atomically

COLUMN, PAGE = 3.4, 7.0
BLUE, RED, GREEN, ORANGE = "#0072B2", "#D32F1E", "#009E73", "#E69F00"
PURPLE, BLACK = "#CC79A7", "#000000"
LINES = [
    (BLUE, "-", "o"),
    (RED, "--", "s"),
    (GREEN, "-.", "^"),
    (PURPLE, ":", "D"),
    (ORANGE, "-", "v"),
    (BLACK, "--", "x"),
]
STEPS = {
    "E": "E step, labels for q (Eq. 3)",
    "M": "M step, labels for p (Eq. 5)",
    "EM": "both steps, labels for p (Eq. 5)",
}
STYLE = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.title_fontsize": 7,
    "legend.frameon": False,
    "legend.handlelength": 3,
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.linewidth": 0.4,
    "grid.color": "0.88",
    "savefig.dpi": 300,
    "text.parse_math": False,  # a $ in a name is a $
    "pdf.fonttype": 42,
}  # real text; publishers refuse type 3 fonts


@contextlib.contextmanager
def _figure(paths, width, height):
    """A figure of width x height inches, saved to `paths` when the block ends."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure((width, height), layout="constrained")
        # The layout leaves no room for the half of the outermost tick label outside its axis.
        figure.get_layout_engine().set(rect=(0, 0, 1 - 0.1 / width, 1 - 0.03 / height))
        yield figure
        for path in map(pathlib.Path, paths):
            # Without its date a PDF of the same data is the same file.
            metadata = {"CreationDate": None} if path.suffix == ".pdf" else None
            with write_atomically(path) as temporary:
                figure.savefig(temporary, metadata=metadata)


# --------------------------------------------------------------------------------------- figure 5


@dataclass(frozen=True)
class Timeline:
    """One class of one video, for `localization_figure`.

    scores: (T,) the score map L of the class. edges: (T + 1,) seconds between which the clips lie,
    as localize.times has them. threshold: the value that L must exceed, or several.
    ground_truth, predictions: (n, 2) seconds.
    label, video: names. note: stands in the row of predictions, such as why there is none.
    """

    scores: np.ndarray
    edges: np.ndarray
    duration: float
    threshold: object
    ground_truth: object
    predictions: object
    label: str
    video: str
    note: str = ""


def localization_figure(*paths, timeline):
    """Fig. 5 of the paper: score map, ground truth and predictions on one time axis."""
    scores = np.asarray(timeline.scores, np.float64)
    edges = timeline.edges
    heights = [0.14, 0.9, 0.36]
    # Two names that are too long for one line of 8 point text.
    apart = len(timeline.label) + len(timeline.video) > 14 * (COLUMN - 0.8)
    with _figure(paths, COLUMN, sum(heights) + 0.72 + 0.13 * apart) as figure:
        strip, curve, bars = figure.subplots(3, 1, sharex=True, height_ratios=heights)
        strip.set_title(timeline.label + "\n" * apart, loc="left", fontweight="bold")
        strip.set_title(timeline.video, loc="right", color="0.3")
        _score_strip(strip, scores, edges)
        _score_curve(curve, scores, edges, timeline)
        _segment_bars(bars, timeline)
        bars.set_xlim(0, max(timeline.duration, edges[-1]))
        bars.set_xlabel("time (s)")
        strip.tick_params(axis="x", bottom=False, labelbottom=False)
        for spine in strip.spines.values():
            spine.set_visible(False)


def _score_strip(axes, scores, edges):
    """L as a strip, light = high."""
    axes.imshow(
        scores[None],
        aspect="auto",
        cmap="cividis",
        extent=(edges[0], edges[-1], 0, 1),
        interpolation="nearest",
    )
    axes.set_yticks([])
    axes.set_ylabel("L", rotation=0, ha="right", va="center")


def _score_curve(axes, scores, edges, timeline):
    """L as a curve over its threshold, the ground truth behind it."""
    axes.stairs(scores, edges, color=BLACK, linewidth=1, baseline=None)
    for value in np.atleast_1d(timeline.threshold):
        axes.axhline(value, color=BLACK, linewidth=0.8, linestyle=(0, (4, 2)))
    margin = 0.06 * np.ptp(scores) or 0.1  # a constant L has no range
    axes.set_ylim(scores.min() - margin, scores.max() + margin)
    axes.set_ylabel("score L\n– – threshold", fontsize=7)
    for start, end in timeline.ground_truth:
        axes.axvspan(start, end, color=RED, alpha=0.12, linewidth=0)


def _segment_bars(axes, timeline):
    """Predictions, and above them the ground truth."""
    predicted, real = timeline.predictions, timeline.ground_truth
    rows = [("prediction", predicted, BLUE), ("ground truth", real, RED)]
    for middle, (_, segments, colour) in enumerate(rows):
        spans = [(start, end - start) for start, end in segments]
        # The edge keeps the shortest segment visible.
        axes.broken_barh(spans, (middle - 0.35, 0.7), color=colour, linewidth=0.3)
    axes.set_yticks(range(len(rows)), [name for name, _, _ in rows])
    for tick, (_, _, colour) in zip(axes.get_yticklabels(), rows):
        tick.set_color(colour)
    axes.text(
        0.01,
        0,
        timeline.note,
        transform=axes.get_yaxis_transform(),
        va="center",
        fontsize=7,
        color="0.3",
    )
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(-0.45, 1.45)


# ------------------------------------------------------------------------------------ convergence


def convergence_figure(*paths, phases):
    """How EM-MIL's pseudo-labels develop from all-positive bags (Sec. 3.4), over the epochs.

    phases: a `tables.phase_table`, or those of several runs of one schedule below each other
    (pd.concat). A column "recall" holds the recall of the pseudo-labels against the ground truth, a
    fraction: training never sees it. Nothing is drawn where the log has no pseudo-labels.
    """
    panels = [
        ("positive", "positive clips (%)"),
        ("changed", "labels changed (%)"),
        ("recall", "recall of the\nlabels (%)"),
    ]
    panels = [
        (column, name)
        for column, name in panels
        if column in phases and phases[column].notna().any()
    ]
    if not panels:
        return
    with _figure(paths, COLUMN, 0.45 + 1.2 * len(panels)) as figure:
        grid = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
        for axes, (column, name) in zip(grid, panels):
            _phase_lines(axes, phases, column, STEPS, LINES)
            axes.set_ylabel(name)
            axes.set_ylim(bottom=0)
            axes.grid(True)
        grid[0].legend(title=_band_title(len(phases) // phases["phase"].nunique()))
        grid[-1].set_xlabel("epochs trained before the phase")
        figure.align_ylabels()


def _phase_lines(axes, phases, column, names, lines):
    """A line per step over `epoch`; several rows of one epoch are runs. names: {step: legend}."""
    for (colour, line, marker), step in zip(lines, dict.fromkeys(phases["step"])):
        rows = phases[(phases["step"] == step) & phases[column].notna()]
        by_epoch = {epoch: own[column].to_numpy() for epoch, own in rows.groupby("epoch")}
        if by_epoch:
            values = np.stack(list(by_epoch.values()), axis=1)  # (runs, phases)
            _band(axes, list(by_epoch), values, (colour, line, marker), names[step])


# ----------------------------------------------------------------------------------- curves, heat


def curve_figure(*paths, x, curves, xlabel, ylabel, mark=None):
    """Curves, such as mAP over lambda or gamma, with bands of ± one standard deviation over runs.

    x: (n,). curves: {name: fractions (n,) or (runs, n)}, drawn in percent. mark: (x, text) of a
    vertical line, such as the paper's choice.
    """
    names = [*curves, *([mark[1]] if mark else [])]
    # Two columns where the names in characters of 7 points fit into half the width.
    columns = 2 if max(map(len, names)) <= 11 * COLUMN - 10 else 1
    n_runs = max(len(np.atleast_2d(values)) for values in curves.values())
    lines = -(-len(names) // columns) + (n_runs > 1)
    with _figure(paths, COLUMN, 0.62 * COLUMN + 0.15 * lines) as figure:
        axes = figure.subplots()
        for look, (name, values) in zip(cycle(LINES), curves.items()):
            _band(axes, x, values, look, name)
        if mark is not None:
            axes.axvline(
                mark[0],
                color="0.35",
                linewidth=0.8,
                linestyle=(0, (1, 1.5)),
                zorder=1,
                label=mark[1],
            )
        if len(x) <= 11:
            axes.set_xticks(x, [f"{value:g}" for value in x])
        axes.set(xlabel=xlabel, ylabel=ylabel)
        axes.grid(True)
        # Above the axes, where it covers no curve.
        axes.legend(
            loc="lower left",
            bbox_to_anchor=(-0.02, 1),
            borderaxespad=0,
            ncols=columns,
            title=_band_title(n_runs),
            alignment="left",
        )


def heat_figure(*paths, x, y, values, xlabel, ylabel, title, mark=None):
    """Heat map of fractions with the percent in every cell.

    values: (len(y), len(x)), or (runs, len(y), len(x)), whose mean over the runs is drawn. mark:
    (x, y) of a cell to outline, such as the paper's choice.
    """
    values = np.asarray(values, np.float64)
    values = 100 * (values.mean(axis=0) if values.ndim == 3 else values)
    with _figure(paths, COLUMN, 0.75 + 0.24 * len(y)) as figure:
        axes = figure.subplots()
        axes.imshow(values, cmap="cividis", aspect="auto", origin="lower")
        axes.set_xticks(range(len(x)), [f"{v:g}" for v in x])
        axes.set_yticks(range(len(y)), [f"{v:g}" for v in y])
        middle = (np.nanmin(values) + np.nanmax(values)) / 2
        size = min(7.0, 20 * COLUMN / len(x))  # points: four digits fill a cell
        for row, column in np.ndindex(values.shape):
            colour = "white" if values[row, column] < middle else "black"
            axes.text(
                column,
                row,
                f"{values[row, column]:.1f}",
                ha="center",
                va="center",
                fontsize=size,
                color=colour,
            )
        if mark is not None:
            column, row = (np.abs(np.subtract(of, at)).argmin() for of, at in zip((x, y), mark))
            _outline(axes, column, row)
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.tick_params(length=0)
        axes.set(xlabel=xlabel, ylabel=ylabel, title=title)


def _outline(axes, column, row):
    """A frame around one cell, black and white, so that it stands out on any colour."""
    from matplotlib.patches import Rectangle

    for colour, thick in (("black", 2.6), ("white", 1.3)):
        axes.add_patch(
            Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor=colour, lw=thick)
        )


def _band(axes, x, values, look, name):
    """Mean over runs in percent and its band. values: fractions (n,) or (runs, n)."""
    colour, line, marker = look
    values = 100 * np.atleast_2d(np.asarray(values, np.float64))
    mean = values.mean(axis=0)
    axes.plot(x, mean, color=colour, linestyle=line, marker=marker, label=name)
    if len(values) > 1:
        std = values.std(axis=0, ddof=1)
        axes.fill_between(x, mean - std, mean + std, color=colour, alpha=0.18, linewidth=0)


def _band_title(n_runs):
    """What the bands are, for the head of a legend."""
    return f"mean ± one standard deviation, {n_runs} runs" if n_runs > 1 else None
