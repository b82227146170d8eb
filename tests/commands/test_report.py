import json

import numpy as np
import pandas as pd
import pytest

from report import figures
from report import tables
from paper import published


# ---------------------------------------------------------------------------------------------------- tables

def test_mean_std_is_percent_with_sample_deviation():
    assert tables.mean_std(0.3049) == tables.mean_std([0.3049]) == "30.5"
    assert tables.mean_std([0.10, 0.12, 0.14]) == "12.0 ± 2.0"           # sqrt((4 + 0 + 4) / 2) = 2
    assert tables.mean_std([0.10, 0.12, 0.14], digits=2) == "12.00 ± 2.00"
    assert tables.mean_std(None) == tables.mean_std([]) == tables.mean_std([0.1, np.nan]) == "-"


def test_map_table_beside_the_paper():
    rows = {"EM-MIL": {0.1: 0.6, 0.1 * 3: [0.40, 0.42], "all": 0.5}, "other": {0.1: 0.1, 0.7: 0.05}}
    table = tables.map_table(rows, {"paper": published.PAPER_EMMIL["thumos14"]}, ("EM-MIL", "paper"))
    assert table == [["mAP (%) at tIoU", "0.1", "0.3", "avg", "0.7"],
                     ["EM-MIL", "60.0", "41.0 ± 1.4", "50.0", "-"],
                     ["other", "10.0", "-", "-", "5.0"],
                     ["paper", "59.1", "45.5", "-", "16.4"],
                     ["difference", "+0.9", "-4.5", "-", "-"]]


def test_map_table_without_the_paper_has_our_rows_only():
    assert tables.map_table({"EM-MIL": {0.5: np.float32(0.25)}}) == [["mAP (%) at tIoU", "0.5"], ["EM-MIL", "25.0"]]


def test_published_rows_as_printed_in_the_paper():
    assert list(published.PAPER_EMMIL["thumos14"].values()) == [59.1, 52.7, 45.5, 36.8, 30.5, 22.7, 16.4]
    assert published.PAPER_EMMIL["activitynet12"] == {0.5: 37.4, 0.7: 23.1, 0.9: 2.0, "all": 20.3}
    assert set(published.PAPER_EMMIL) == {"thumos14", "activitynet12"}


def test_published_rows_of_a_dataset():
    rows = published.published_rows("thumos14", ["EM-MIL", "UntrimmedNet", "W-TALC"])
    assert list(rows) == ["EM-MIL (paper)", "UntrimmedNet (paper)", "W-TALC (paper)"]
    assert rows["EM-MIL (paper)"] == published.PAPER_EMMIL["thumos14"] and rows["W-TALC (paper)"][0.5] == 22.8
    unt = published.published_rows("thumos14-unt", ["EM-MIL", "UntrimmedNet", "W-TALC"])
    assert list(unt) == ["EM-MIL-UNT (paper)", "UntrimmedNet (paper)", "W-TALC (UNT) (paper)"]
    assert unt["EM-MIL-UNT (paper)"][0.7] == 10.2
    assert published.published_rows("activitynet12", ["W-TALC", "nobody's"]) == {
        "W-TALC (paper)": {0.5: 37.0, 0.7: 14.6, "all": 18.0}}
    assert published.published_rows("demo", ["EM-MIL"]) == published.published_rows("custom", ["EM-MIL"]) == {}


def test_published_table_has_every_row_with_its_reference():
    for name, rows in published.PUBLISHED.items():
        table = published.published_table(name)
        assert len(table) == len(rows) + 1 and len({row[0] for row in table}) == len(table)
        assert table[-1][0] == "EM-MIL, Luo et al., ECCV 2020"
        for row in rows:                                                 # mAP cannot rise with the tIoU
            values = [value for column, value in row.values.items() if column != "all"]
            assert values == sorted(values, reverse=True)
    assert published.published_table("activitynet12")[0] == ["published mAP (%) at tIoU", "trained on", "0.5", "0.7", "0.9",
                                                          "avg"]
    assert published.published_table("activitynet12")[4] == ["W-TALC, Paul et al., ECCV 2018", "weak", "37.0", "14.6", "-",
                                                          "18.0"]


def test_share_figure_cuts_each_bar_into_its_parts(tmp_path, drawn):
    figures.share_figure(tmp_path / "a.png", bars={"A": {"x": 1.0, "y": 3.0}, "B": {"x": 0.0, "y": 5.0}})
    axes, = drawn[0].axes
    spans = {c.get_label(): [(p.get_x(), p.get_width()) for p in c.patches] for c in axes.containers}
    assert spans == {"x": [(0, 25), (0, 0)], "y": [(25, 75), (0, 100)]}
    assert [t.get_text() for t in axes.get_yticklabels()] == ["A", "B"]


def test_class_table():
    ap = np.array([[0.1, np.nan, 0.3], [0.0, np.nan, 0.2]])              # (tIoUs, classes)
    assert tables.class_table(["a", "b", "c"], ap, [0.5, 0.7], n_segments=np.array([4, 0, 6])) == [
        ["AP (%) at tIoU", "0.5", "0.7", "segments"],
        ["a", "10.0", "0.0", "4"], ["b", "-", "-", "0"], ["c", "30.0", "20.0", "6"],
        ["mean", "20.0", "10.0", "10"]]
    runs = tables.class_table(["a", "c"], np.stack([ap, ap + 0.02])[:, :, [0, 2]], [0.5, 0.7])
    assert runs[1] == ["a", "11.0 ± 1.4", "1.0 ± 1.4"] and runs[-1][1] == "21.0 ± 1.4"
    assert tables.class_table(["b"], [[np.nan]], [0.5])[-1] == ["mean", "-"]


def test_text_is_aligned_and_markdown_parses():
    table = [["mAP", "0.1", "avg"], ["EM-MIL", "100.0", "7.0 ± 0.1"], ["a|b", "-", "5.0"]]
    assert tables.text(table).splitlines() == ["mAP       0.1        avg",
                                               "------------------------",
                                               "EM-MIL  100.0  7.0 ± 0.1",
                                               "a|b         -        5.0"]
    assert tables.markdown(table).splitlines() == ["| mAP | 0.1 | avg |", "| :-- | --: | --: |",
                                                   "| EM-MIL | 100.0 | 7.0 ± 0.1 |", "| a\\|b | - | 5.0 |"]


def test_map_frame_keeps_every_run_unrounded():
    frame = tables.map_frame({"EM-MIL": {0.5: [0.123456, 0.2], "all": [0.1, 0.3]}, "other": {0.5: 0.25}})
    assert list(frame.columns) == ["method", "run", "0.5", "avg"]
    assert frame["0.5"].tolist() == [0.123456, 0.2, 0.25] and frame["run"].tolist() == [1, 2, 1]
    assert np.isnan(frame["avg"][2])


# ----------------------------------------------------------------------------------------------------- files

def test_json_is_strict_and_plain(tmp_path):
    path = tmp_path / "r.json"
    tables.write_json(path, {"ap": np.array([[0.5, np.nan]], np.float32), 0.5: (1, True, None), "n": np.int64(3),
                             "path": tmp_path, "inf": float("inf"), "name": "é"})
    assert json.loads(path.read_text(encoding="utf-8")) == {
        "ap": [[0.5, None]], "0.5": [1, True, None], "n": 3, "path": str(tmp_path), "inf": None, "name": "é"}
    assert "é" in path.read_text(encoding="utf-8")


def test_csv_of_frames_and_of_tables(tmp_path):
    frame = pd.DataFrame({"method": ["a, b"], "0.5": [1 / 3]})
    tables.write_csv(tmp_path / "a.csv", frame)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "a.csv"), frame)
    tables.write_csv(tmp_path / "b.csv", [["x", "y"], ["a, b", "1"]])
    assert (tmp_path / "b.csv").read_bytes() == b'x,y\n"a, b",1\n'


def test_failed_write_keeps_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "r.json"
    tables.write_json(path, [1])
    with pytest.raises(RecursionError):
        loop = []
        loop.append(loop)
        tables.write_json(path, loop)
    with pytest.raises(UnicodeEncodeError):                              # fails in the middle of writing
        tables.write_text(path, "\ud800")
    assert json.loads(path.read_text()) == [1] and [p.name for p in tmp_path.iterdir()] == ["r.json"]


# --------------------------------------------------------------------------------------------------- figures

def epoch(phase, step, number, loss, positive=None, changed=None):
    return dict(stage=f"em-mil {phase:02d} {step}", epoch=number, phase=phase, step=step, positive=positive,
                changed=changed, empty=0, lr=1e-4, loss=loss, seconds=0.1)


RECORDS = [epoch(1, "M", 1, {"rgb": 0.7, "flow": 0.6}, 1.0), epoch(1, "M", 2, {"rgb": 0.6, "flow": 0.5}, 1.0),
           epoch(2, "E", 1, {"rgb": 0.5, "flow": 0.4}, 0.5), epoch(3, "M", 1, {"rgb": 0.4, "flow": 0.3}, 0.4, 0.6),
           epoch(4, "E", 1, {"rgb": 0.3, "flow": 0.2}, 0.25, 0.125)]
CLASSIFIER = [dict(stage="untrimmednet", epoch=k, lr=1e-4, loss={"classification": 1.0 / k}) for k in (1, 2, 3)]


@pytest.fixture
def drawn(monkeypatch):
    """The figures that the functions make, still to be looked into."""
    from matplotlib.figure import Figure
    figures, save = [], Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (figures.append(self), save(self, *a, **k))[1])
    return figures


def fig5(*paths, **changes):
    options = dict(scores=[0.1, 0.9, 0.8, 0.2], snippet_seconds=2.0, duration=8.5, threshold=0.5,
                   ground_truth=[(2.5, 5.5), (7.0, 8.0)], predictions=[(2.0, 6.0)], label="jump", video="v1")
    figures.localization_figure(*paths, **(options | changes))


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
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG" and (tmp_path / "a.pdf").read_bytes()[:4] == b"%PDF"
    np.testing.assert_array_equal(strip.images[0].get_array(), [[0.1, 0.9, 0.8, 0.2]])
    assert strip.images[0].get_extent() == [0, 8.0, 0, 1]
    values, edges, _ = curve.patches[0].get_data()
    assert values.tolist() == [0.1, 0.9, 0.8, 0.2] and edges.tolist() == [0, 2, 4, 6, 8]
    assert curve.lines[0].get_ydata() == [0.5, 0.5]
    assert spans(bars) == {1: [(2.5, 5.5), (7.0, 8.0)], 0: [(2.0, 6.0)]}
    assert [(tick.get_text(), tick.get_color()) for tick in bars.get_yticklabels()] == [
        ("ground truth", figures.RED), ("prediction", figures.BLUE)]
    assert bars.get_xlabel() == "time (s)" and all(axes.get_xlim() == (0, 8.5) for axes in drawn[0].axes)
    assert strip.get_title("left") == "jump" and strip.get_title("right") == "v1"


def test_localization_figure_takes_one_clip_no_segments_and_several_thresholds(tmp_path, drawn):
    fig5(tmp_path / "a.png", scores=[0.3], threshold=[0.3, 0.4], ground_truth=[], predictions=np.zeros((0, 2)))
    assert spans(drawn[0].axes[-1]) == {}
    assert [line.get_ydata()[0] for line in drawn[0].axes[1].lines] == [0.3, 0.4]


def test_long_names_share_no_line(tmp_path, drawn):
    fig5(tmp_path / "short.png", label="CleanAndJerk", video="video_test_0000324")
    fig5(tmp_path / "long.png", label="Putting in contact lenses", video="a_$long_$name_of_a_video")
    for figure in drawn:
        figure.draw_without_rendering()                                  # the extents at the resolution asked below
    short, long = (figure.axes[0] for figure in drawn)
    assert [short.get_title("left"), long.get_title("left")] == ["CleanAndJerk", "Putting in contact lenses\n"]
    assert short._left_title.get_window_extent().x1 < short._right_title.get_window_extent().x0
    left, right = long._left_title.get_window_extent(), long._right_title.get_window_extent()
    assert right.y1 < left.y1 - 0.4 * left.height                        # below the first of the label's two lines


def test_thumbnails_lie_side_by_side_inside_the_axis_undistorted(tmp_path, drawn):
    frames = [(t, np.full((9, 16, 3), 20 * k, np.uint8)) for k, t in enumerate(np.linspace(0, 8.5, 12))]
    fig5(tmp_path / "a.png", thumbnails=frames)
    row = drawn[0].axes[0]
    extents = [image.get_extent() for image in row.images]
    assert 2 <= len(extents) < 12
    assert extents[0][0] >= 0 and extents[-1][1] <= 8.5 + 1e-9
    assert all(left[1] < right[0] for left, right in zip(extents, extents[1:]))
    box = row.get_window_extent()
    for left, right, *_ in extents:
        assert (right - left) / 8.5 * box.width / box.height == pytest.approx(16 / 9, rel=0.02)
    assert row.get_title("left") == "jump"
    fig5(tmp_path / "b.png", thumbnails=frames[:1])
    assert len(drawn[1].axes[0].images) == 1


def test_same_data_same_files(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        fig5(tmp_path / folder / "x.png", tmp_path / folder / "x.pdf")
    for name in ("x.png", "x.pdf"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_phase_table():
    table = figures.phase_table(CLASSIFIER + RECORDS)
    assert table[["phase", "step", "epoch", "positive"]].values.tolist() == [
        [1, "M", 0, 1.0], [2, "E", 2, 0.5], [3, "M", 3, 0.4], [4, "E", 4, 0.25]]
    assert np.isnan(table["changed"][:2]).all() and table["changed"][2:].tolist() == [0.6, 0.125]
    assert figures.phase_table(CLASSIFIER).empty


def lines(axes):
    return {line.get_label(): np.column_stack(line.get_data()).tolist() for line in axes.lines}


def test_training_figure(tmp_path, drawn):
    figures.training_figure(tmp_path / "a.png", records=RECORDS + CLASSIFIER)
    loss, labels, classifier = drawn[0].axes
    assert lines(loss) == {"M step, rgb": [[1, 0.7], [2, 0.6], [4, 0.4]],
                           "M step, flow": [[1, 0.6], [2, 0.5], [4, 0.3]], "E step, rgb": [[3, 0.5], [5, 0.3]],
                           "E step, flow": [[3, 0.4], [5, 0.2]]}
    assert lines(labels) == {"M step, positive": [[0.5, 100], [3.5, 40]], "E step, positive": [[2.5, 50], [4.5, 25]],
                             "M step, changed": [[3.5, 60]], "E step, changed": [[4.5, 12.5]]}
    assert lines(classifier)["classification"] == [[1, 1.0], [2, 0.5], [3, 1 / 3]]
    assert classifier.get_title("left") == "untrimmednet"


def test_training_figure_without_labels_without_em_mil_and_without_anything(tmp_path, drawn):
    figures.training_figure(tmp_path / "a.png", records=[
        {k: v for k, v in record.items() if k not in ("positive", "changed", "empty")} for record in RECORDS])
    figures.training_figure(tmp_path / "b.png", records=CLASSIFIER)
    figures.training_figure(tmp_path / "c.png", records=[])
    assert [len(figure.axes) for figure in drawn] == [1, 1] and not (tmp_path / "c.png").exists()


def test_convergence_figure_averages_runs(tmp_path, drawn):
    one, other = figures.phase_table(RECORDS), figures.phase_table(RECORDS)
    other["positive"] += 0.1
    figures.convergence_figure(tmp_path / "a.png", phases=pd.concat([one, other]))
    positive, changed = drawn[0].axes
    found = lines(positive)
    np.testing.assert_allclose(found["E step, labels for q (Eq. 3)"], [[2, 55], [4, 30]])
    np.testing.assert_allclose(found["M step, labels for p (Eq. 5)"], [[0, 105], [3, 45]])
    band = positive.collections[0].get_paths()[0].get_extents()                 # ± sqrt(2 * 5 ** 2) around 105 and 45
    np.testing.assert_allclose([band.y0, band.y1], [45 - 50 ** 0.5, 105 + 50 ** 0.5])
    figures.convergence_figure(tmp_path / "b.png", phases=one.assign(map=[0.1, 0.2, 0.3, 0.4]))
    assert len(drawn[1].axes) == 3 and "diagnostic" in drawn[1].axes[2].get_ylabel()
    figures.convergence_figure(tmp_path / "c.png", phases=one[:1])                 # one phase: nothing has changed yet
    figures.convergence_figure(tmp_path / "d.png", phases=figures.phase_table(CLASSIFIER))
    assert len(drawn[2].axes) == 1 and not (tmp_path / "d.png").exists()


def test_curve_figure(tmp_path, drawn):
    many = {f"m{k}": [[0.1 * k, 0.2]] for k in range(8)}
    figures.curve_figure(tmp_path / "a.png", x=[0, 1], curves={"a": [[0.1, 0.2], [0.3, 0.2]], **many}, xlabel="λ",
                        ylabel="mAP@0.5 (%)", mark=(0.8, "paper"))
    axes, = drawn[0].axes
    np.testing.assert_allclose(lines(axes)["a"], [[0, 20], [1, 20]])
    assert len(axes.lines) == 10 and len(axes.collections) == 1                  # none left out; one band
    assert [t.get_text() for t in axes.get_legend().get_texts()] == ["a", *many, "paper"]


def test_heat_figure(tmp_path, drawn):
    values = np.array([[[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]], [[0.3, 0.2, 0.3], [0.4, 0.5, 0.6]]])     # (runs, y, x)
    figures.heat_figure(tmp_path / "a.png", x=[0, 0.5, 1], y=[0, 0.15], values=values, xlabel="λ", ylabel="γ",
                       title="mAP@0.5 (%)", mark=(0.5, 0.15))
    axes, = drawn[0].axes
    assert [t.get_text() for t in axes.texts] == ["20.0", "20.0", "30.0", "40.0", "50.0", "60.0"]
    assert axes.images[0].origin == "lower" and [t.get_text() for t in axes.get_yticklabels()] == ["0", "0.15"]
    assert {patch.get_xy() for patch in axes.patches} == {(0.5, 0.5)}            # the cell of column 1, row 1


def test_a_figure_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(ValueError):
        fig5(tmp_path / "a.nonsense")
    assert not list(tmp_path.iterdir())


def test_matplotlib_is_imported_only_to_draw():
    import subprocess
    import sys
    code = "import report.figures, report.tables, sys; assert 'matplotlib' not in sys.modules; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=figures.__file__.rsplit("/", 2)[0])
