"""Tables and result files: what they show is worked out by hand."""

import json

import numpy as np
import pandas as pd
import pytest
from synthetic_page import epoch

from report import tables


def test_map_table_beside_published_rows():
    rows = {"EM-MIL": {0.1: 0.6, 0.1 * 3: [0.40, 0.42], "all": 0.5}, "other": {0.1: 0.1, 0.7: 0.05}}
    published = {"them [3], Author et al., ECCV 2020": {0.1: 59.1, 0.3: 45.5, 0.5: 30.5, 0.7: 16.4}}
    name = next(iter(published))
    assert tables.map_table(rows, published, ("EM-MIL", name)) == [
        ["mAP (%) at tIoU", "0.1", "0.3", "avg", "0.7"],
        ["EM-MIL", "60.0", "41.0 ± 1.4", "50.0", "-"],
        ["other", "10.0", "-", "-", "5.0"],
        [name, "59.1", "45.5", "-", "16.4"],
        ["difference", "+0.9", "-4.5", "-", "-"],
    ]


def test_map_table_of_published_rows_alone_has_their_columns():
    assert tables.map_table({}, {"a": {0.1: 5.0, "all": 2.0}, "b": {0.3: 1.0}}) == [
        ["mAP (%) at tIoU", "0.1", "avg", "0.3"],
        ["a", "5.0", "2.0", "-"],
        ["b", "-", "-", "1.0"],
    ]


def test_mean_std_is_percent_with_sample_deviation():
    assert tables.mean_std(0.3049) == tables.mean_std([0.3049]) == "30.5"
    assert tables.mean_std([0.10, 0.12, 0.14]) == "12.0 ± 2.0"  # sqrt((4 + 0 + 4) / 2) = 2
    assert tables.mean_std([10, 12, 14], scale=1) == "12.0 ± 2.0"
    assert tables.mean_std(None) == tables.mean_std([]) == tables.mean_std([0.1, np.nan]) == "-"


def test_class_table():
    ap, segments = {"a": 0.1, "b": np.nan, "c": 0.3}, {"a": 4, "b": 0, "c": 6}
    assert tables.class_table(ap, 0.5, segments) == [
        ["AP (%) at tIoU", "0.5", "segments"],
        ["a", "10.0", "4"],
        ["b", "-", "0"],
        ["c", "30.0", "6"],
        ["mean", "20.0", "10"],
    ]


def test_text_is_aligned_and_markdown_parses():
    table = [["mAP", "0.1", "avg"], ["EM-MIL", "100.0", "7.0 ± 0.1"], ["a|b", "-", "5.0"]]
    assert tables.text(table).splitlines() == [
        "mAP       0.1        avg",
        "------------------------",
        "EM-MIL  100.0  7.0 ± 0.1",
        "a|b         -        5.0",
    ]
    assert tables.markdown(table).splitlines() == [
        "| mAP | 0.1 | avg |",
        "| :-- | --: | --: |",
        "| EM-MIL | 100.0 | 7.0 ± 0.1 |",
        "| a\\|b | - | 5.0 |",
    ]
    hostile = [["x", "1"], ["`a|b\\", "2"], ["<b>[y](z)", "3"], ["*c* &lt;", "4"]]
    assert [row.split(" | ")[0] for row in tables.markdown(hostile).splitlines()[2:]] == [
        "| \\`a\\|b\\\\",
        "| \\<b\\>\\[y\\](z)",
        "| \\*c\\* \\&lt;",
    ]


def test_map_frame_keeps_every_run_unrounded():
    frame = tables.map_frame(
        {"EM-MIL": {0.5: [0.123456, 0.2], "all": [0.1, 0.3]}, "other": {0.5: 0.25}}
    )
    assert list(frame.columns) == ["method", "run", "0.5", "avg"]
    assert frame["0.5"].tolist() == [0.123456, 0.2, 0.25] and frame["run"].tolist() == [1, 2, 1]
    assert np.isnan(frame["avg"][2])


# ------------------------------------------------------------------------------------------ files


def test_json_is_strict_and_plain(tmp_path):
    path = tmp_path / "r.json"
    tables.write_json(
        path,
        {
            "ap": np.array([[0.5, np.nan]], np.float32),
            0.5: (1, True, None),
            "n": np.int64(3),
            "path": tmp_path,
            "inf": float("inf"),
            "name": "é",
            "file": "caf\udce9",  # as Python reads a name that is not UTF-8
        },
    )
    assert json.loads(path.read_text(encoding="utf-8")) == {
        "ap": [[0.5, None]],
        "0.5": [1, True, None],
        "n": 3,
        "path": str(tmp_path),
        "inf": None,
        "name": "é",
        "file": "caf\udce9",
    }
    assert "é" in path.read_text(encoding="utf-8") and r"caf\udce9" in path.read_text()


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
    assert json.loads(path.read_text()) == [1]
    assert [p.name for p in tmp_path.iterdir()] == ["r.json"]


# ------------------------------------------------------------------------------- the log of a run
def test_phase_table():
    classifier = [dict(stage="untrimmednet", epoch=1, loss={"mil": 1.0})]
    log = [
        epoch(1, "M", 1, {"rgb": 0.7}, 1.0),
        epoch(1, "M", 2, {"rgb": 0.6}, 1.0),
        epoch(2, "E", 1, {"rgb": 0.5}, 0.5),
        epoch(3, "M", 1, {"rgb": 0.4}, 0.4, 0.6),
    ]
    table = tables.phase_table(classifier + log)
    assert table[["phase", "step", "epoch", "positive"]].values.tolist() == [
        [1, "M", 0, 1.0],
        [2, "E", 2, 0.5],
        [3, "M", 3, 0.4],
    ]
    assert np.isnan(table["changed"][:2]).all() and table["changed"][2] == 0.6
    assert tables.phase_table(classifier).empty
    assert tables.split_log(classifier + log) == (log, {"untrimmednet": classifier})
