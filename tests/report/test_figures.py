"""Figures: what is drawn, read back from matplotlib's own objects."""

import numpy as np
import pandas as pd
import pytest
from places import python
from synthetic_page import epoch

from report import figures, tables

RECORDS = [
    epoch(1, "M", 1, {"rgb": 0.7, "flow": 0.6}, 1.0),
    epoch(1, "M", 2, {"rgb": 0.6, "flow": 0.5}, 1.0),
    epoch(2, "E", 1, {"rgb": 0.5, "flow": 0.4}, 0.5),
    epoch(3, "M", 1, {"rgb": 0.4, "flow": 0.3}, 0.4, 0.6),
    epoch(4, "E", 1, {"rgb": 0.3, "flow": 0.2}, 0.25, 0.125),
]
CLASSIFIER = [
    dict(stage="untrimmednet", epoch=k, lr=1e-4, loss={"classification": 1.0 / k})
    for k in (1, 2, 3)
]


@pytest.fixture
def drawn(monkeypatch):
    """The figures that the functions make, still to be looked into."""
    from matplotlib.figure import Figure

    found, save = [], Figure.savefig

    def keep(self, *args, **options):
        found.append(self)
        save(self, *args, **options)

    monkeypatch.setattr(Figure, "savefig", keep)
    return found


def fig5(*paths, **changes):
    """A localization figure of four clips of 2 s."""
    values = dict(
        scores=[0.1, 0.9, 0.8, 0.2],
        edges=np.arange(0, 10, 2.0),
        duration=8.5,
        threshold=0.5,
        ground_truth=[(2.5, 5.5), (7.0, 8.0)],
        predictions=[(2.0, 6.0)],
        label="jump",
        video="v1",
    )
    figures.localization_figure(*paths, timeline=figures.Timeline(**(values | changes)))


def spans(axes):
    """The bars of an axis as {row: [(start, end)]}."""
    found = {}
    for bars in axes.collections:
        for box in (path.get_extents() for path in bars.get_paths()):
            found.setdefault(round((box.y0 + box.y1) / 2), []).append((box.x0, box.x1))
    return found


def test_localization_figure_shows_scores_truth_and_predictions_in_seconds(tmp_path, drawn):
    fig5(tmp_path / "a.png", tmp_path / "a.pdf")
    strip, curve, bars = drawn[0].axes
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
    assert (tmp_path / "a.pdf").read_bytes()[:4] == b"%PDF"
    np.testing.assert_array_equal(strip.images[0].get_array(), [[0.1, 0.9, 0.8, 0.2]])
    assert strip.images[0].get_extent() == [0, 8.0, 0, 1]
    values, edges, _ = curve.patches[0].get_data()
    assert values.tolist() == [0.1, 0.9, 0.8, 0.2] and edges.tolist() == [0, 2, 4, 6, 8]
    assert curve.lines[0].get_ydata() == [0.5, 0.5]
    assert spans(bars) == {1: [(2.5, 5.5), (7.0, 8.0)], 0: [(2.0, 6.0)]}
    assert [(tick.get_text(), tick.get_color()) for tick in bars.get_yticklabels()] == [
        ("prediction", figures.BLUE),
        ("ground truth", figures.RED),
    ]
    assert bars.get_xlabel() == "time (s)"
    assert all(axes.get_xlim() == (0, 8.5) for axes in drawn[0].axes)
    assert strip.get_title("left") == "jump" and strip.get_title("right") == "v1"


def test_localization_figure_takes_one_clip_no_segments_and_several_thresholds(tmp_path, drawn):
    fig5(
        tmp_path / "a.png",
        scores=[0.3],
        edges=np.array([0, 2.0]),
        threshold=[0.3, 0.4],
        ground_truth=[],
        predictions=np.zeros((0, 2)),
    )
    assert spans(drawn[0].axes[-1]) == {}
    assert [line.get_ydata()[0] for line in drawn[0].axes[1].lines] == [0.3, 0.4]


def test_a_note_stands_in_the_picture(tmp_path, drawn):
    fig5(tmp_path / "a.png", predictions=[], note="removed by the gate: 0.02 < 0.15")
    bars = drawn[0].axes[-1]
    assert [(t.get_text(), t.get_position()[1]) for t in bars.texts] == [
        ("removed by the gate: 0.02 < 0.15", 0)
    ]
    assert set(spans(bars)) == {1}


def test_long_names_share_no_line(tmp_path, drawn):
    fig5(tmp_path / "short.png", label="CleanAndJerk", video="video_test_0000324")
    fig5(tmp_path / "long.png", label="Putting in contact lenses", video="a_$long_$name_of_a_video")
    for figure in drawn:
        figure.draw_without_rendering()  # the extents at the resolution asked below
    short, long = (figure.axes[0] for figure in drawn)
    assert [short.get_title("left"), long.get_title("left")] == [
        "CleanAndJerk",
        "Putting in contact lenses\n",
    ]
    assert short._left_title.get_window_extent().x1 < short._right_title.get_window_extent().x0
    left, right = long._left_title.get_window_extent(), long._right_title.get_window_extent()
    assert right.y1 < left.y1 - 0.4 * left.height  # below the first of the label's two lines


def test_same_data_same_files(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        fig5(tmp_path / folder / "x.png", tmp_path / folder / "x.pdf")
    for name in ("x.png", "x.pdf"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert b"CreationDate" not in (tmp_path / "a/x.pdf").read_bytes()  # it has whole seconds


def lines(axes):
    return {line.get_label(): np.column_stack(line.get_data()).tolist() for line in axes.lines}


def test_convergence_figure_averages_runs(tmp_path, drawn):
    one, other = tables.phase_table(RECORDS), tables.phase_table(RECORDS)
    other["positive"] += 0.1
    figures.convergence_figure(tmp_path / "a.png", phases=pd.concat([one, other]))
    positive, changed = drawn[0].axes
    found = lines(positive)
    np.testing.assert_allclose(found["E step, labels for q (Eq. 3)"], [[2, 55], [4, 30]])
    np.testing.assert_allclose(found["M step, labels for p (Eq. 5)"], [[0, 105], [3, 45]])
    # ± sqrt(2 * 5 ** 2) around 105 and 45
    band = positive.collections[0].get_paths()[0].get_extents()
    np.testing.assert_allclose([band.y0, band.y1], [45 - 50**0.5, 105 + 50**0.5])
    figures.convergence_figure(tmp_path / "b.png", phases=one.assign(recall=[0.1, 0.2, 0.3, 0.4]))
    assert len(drawn[1].axes) == 3 and "recall" in drawn[1].axes[2].get_ylabel()
    # one phase: nothing has changed yet
    figures.convergence_figure(tmp_path / "c.png", phases=one[:1])
    figures.convergence_figure(tmp_path / "d.png", phases=tables.phase_table(CLASSIFIER))
    assert len(drawn[2].axes) == 1 and not (tmp_path / "d.png").exists()


def test_curve_figure(tmp_path, drawn):
    many = {f"m{k}": [[0.1 * k, 0.2]] for k in range(8)}
    figures.curve_figure(
        tmp_path / "a.png",
        x=[0, 1],
        curves={"a": [[0.1, 0.2], [0.3, 0.2]], **many},
        xlabel="λ",
        ylabel="mAP@0.5 (%)",
        mark=(0.8, "paper"),
    )
    (axes,) = drawn[0].axes
    np.testing.assert_allclose(lines(axes)["a"], [[0, 20], [1, 20]])
    assert len(axes.lines) == 10 and len(axes.collections) == 1  # none left out; one band
    legend = axes.get_legend()
    assert [t.get_text() for t in legend.get_texts()] == ["a", *many, "paper"]
    assert legend.get_title().get_text() == "mean ± one standard deviation, 2 runs"


def test_heat_figure(tmp_path, drawn):
    # (runs, y, x)
    values = np.array([[[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]], [[0.3, 0.2, 0.3], [0.4, 0.5, 0.6]]])
    figures.heat_figure(
        tmp_path / "a.png",
        x=[0, 0.5, 1],
        y=[0, 0.15],
        values=values,
        xlabel="λ",
        ylabel="γ",
        title="mAP@0.5 (%)",
        mark=(0.5, 0.15),
    )
    (axes,) = drawn[0].axes
    assert [t.get_text() for t in axes.texts] == ["20.0", "20.0", "30.0", "40.0", "50.0", "60.0"]
    assert axes.images[0].origin == "lower"
    assert [t.get_text() for t in axes.get_yticklabels()] == ["0", "0.15"]
    assert {patch.get_xy() for patch in axes.patches} == {(0.5, 0.5)}  # the cell of column 1, row 1


def test_a_figure_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(ValueError):
        fig5(tmp_path / "a.nonsense")
    assert not list(tmp_path.iterdir())


def test_matplotlib_is_imported_only_to_draw():
    code = (
        "import report.figures, report.tables, sys\n"
        "assert not {'matplotlib', 'torch'} & set(sys.modules)"
    )
    assert python("-c", code).returncode == 0
