"""Detections: what is read and refused, what is written, and how they are held against a
ground truth."""

import json

import pandas as pd
import pytest
from errors import refused
from rows import detections

import eval_detection
from formats.detections import (
    ambiguous_in,
    read_ambiguous,
    read_detections,
    with_known_labels,
    with_known_names,
    write_detections,
)

FOUND = detections(("a", 0, 10, "run", 0.9), ("b", 0, 10, "run", 0.8), ("b", 0, 10, "swim", 0.7))
THUMOS = detections(
    ("video_test_0000004", 0.1 + 0.2, 1 / 3, "BaseballPitch", 1 / 7),
    ("video_test_0000006", 12, 13.5, "VolleyballSpiking", -2e-9),
    ("video_test_0000004", 7, 8, "CricketShot", 3),
).astype({"t_start": float, "score": float})


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


# ---- files
@pytest.mark.parametrize("suffix", [".json", ".csv", ".txt", ".JSON"])
def test_detections_come_back_as_they_were_written(tmp_path, suffix):
    path = tmp_path / f"found{suffix}"
    write_detections(THUMOS, path)
    by_video = THUMOS.iloc[[0, 2, 1]].reset_index(drop=True)
    expected = by_video if suffix.lower() == ".json" else THUMOS
    pd.testing.assert_frame_equal(read_detections(path), expected, check_exact=True)
    write_detections(THUMOS[:0], path)
    assert len(read_detections(path)) == 0
    assert list(read_detections(path).columns) == list(THUMOS.columns)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_forms_are_the_official_ones(tmp_path):
    write_detections(THUMOS[1:2], tmp_path / "kit.txt")
    assert (tmp_path / "kit.txt").read_text() == "video_test_0000006 12.0 13.5 97 -2e-09\n"
    write_detections(THUMOS[1:2], tmp_path / "anet.json")
    segment = {"label": "VolleyballSpiking", "score": -2e-9, "segment": [12, 13.5]}
    results = json.loads((tmp_path / "anet.json").read_text())["results"]
    assert results == {"video_test_0000006": [segment]}
    write_detections(THUMOS[1:2], tmp_path / "table.csv")
    assert (tmp_path / "table.csv").read_text().splitlines()[0] == "video,t_start,t_end,label,score"


def test_names_stay_as_they_are(tmp_path):
    """Names that look like numbers, formulas, flags or nothing; spreadsheets compute no cell."""
    names = ["0012", "-a", "=1+1", "null", "NA", "'x'", 'a"b', "Shot, put", "é中"]
    table = detections(*[(name, 1, 2.5, name, 0.5) for name in names])
    write_detections(table, tmp_path / "d.csv")
    text = (tmp_path / "d.csv").read_text(encoding="utf-8")
    assert not any(cell[:1] == "=" for line in text.splitlines() for cell in line.split(","))
    for path in (tmp_path / "d.csv", tmp_path / "d.json"):
        write_detections(table, path)
        assert read_detections(path).values.tolist() == table.values.tolist()


@pytest.mark.parametrize(
    "name, content",
    [
        (
            "d.csv",
            " video , t_start,t_end , label,score\n a , 1 ,2.5, Run,  .5\n\nb c,3,4,7 ,1\n,,,,\n",
        ),
        ("d.csv", "video-id,t-start,t-end,label,score,,\na,1,2.5,Run,.5,,\nb c,3,4,7,1,,\n"),
        ("d.csv", "Video ID;Start;End;Type;Confidence\na;1;2,5;Run;0,5\nb c;3;0:04;7;1\n"),
        (
            "d.csv",
            "\ufeffscore\tclass\tend_time\tstart_time\tvideo_name\n.5\tRun\t2.5\t1\ta\n"
            "1\t7\t4\t3\tb c\n",
        ),
        (
            "d.json",
            '{"results": {"a": [{"label": "Run", "segment": ["1", 2.5], "score": "0.5"}], "b": [],'
            '"b c": [{"class": 7, "t-start": 3, "t-end": 4, "confidence": 1}]}, "version": "1"}',
        ),
        (
            "d.json",
            '{"a": [{"label": "Run", "segment": [1, 2.5], "score": 0.5}],'
            '"b c": [{"label": 7, "segment": [3, 4], "score": 1}]}',
        ),
        (
            "d.jsonl",
            '{"video": "a", "label": "Run", "start": 1, "end": 2.5, "score": 0.5}\n'
            '{"video": "b c", "label": 7, "start": 3, "end": 4, "score": 1}\n',
        ),
    ],
)
def test_dialects(tmp_path, name, content):
    assert read_detections(write(tmp_path / name, content)).values.tolist() == [
        ["a", 1, 2.5, "Run", 0.5],
        ["b c", 3, 4, "7", 1],
    ]


HEADER = "video,t_start,t_end,label,score\n"


def of_a(detection):
    return '{"results": {"a": [%s]}}' % detection


@pytest.mark.parametrize(
    "name, content, where, found",
    [
        ("d.csv", "video,t_start,t_end,label\na,0,1,x\n", "", "no column for the score"),
        ("d.csv", "video,t_start,t_end,label,scroe\na,0,1,x,1\n", "", "'scroe'"),
        ("d.csv", "", "", "an empty file"),
        ("d.csv", HEADER + "a,0,1,x\n", ": line 2", "4 fields"),
        ("d.csv", HEADER + "a,0,one,x,1\n", ": line 2: a", "'one'"),
        ("d.csv", HEADER + "a,0,1,x,nan\n", ": line 2: a", "'nan'"),
        ("d.csv", HEADER + ",0,1,x,1\n", ": line 2", "None"),
        ("d.csv", b"\xff\xfe\x00", "", "UTF-16"),
        ("d.txt", "a 0 1 7\n", ": line 1", "4 fields"),
        ("d.txt", "a 0 1 7 .5\na 0 1 8 .5\n", ": line 2: a", "'8'"),
        ("d.txt", "a 0 1 Diving .5\n", ": line 1: a", "'Diving'"),
        ("d.json", "{", "", "line 1"),
        ("d.json", '{"results": {"a": {}}}', ": a", "{}"),
        ("d.json", of_a('{"label": "x", "segment": [0, 1]}'), ": a", "score None"),
        ("d.json", of_a('{"label": "x", "segment": [0], "score": 1}'), ": a", "[0]"),
        ("d.json", of_a('{"label": "x", "score": 1}'), ": a", "segment None"),
        ("d.json", of_a('{"label": "x", "segment": [0, 1], "score": NaN}'), ": a", "score nan"),
        ("d.json", of_a('{"label": "x", "segment": [0, Infinity], "score": 1}'), ": a", "inf"),
        ("d.json", '{"results": {"a": [], "a": []}}', ": a", "twice"),
        ("d.pkl", "", "", "'.pkl'"),
    ],
)
def test_bad_detection_files_give_one_line(tmp_path, name, content, where, found):
    error = refused(read_detections, write(tmp_path / name, content))
    assert error.where == f"{tmp_path / name}{where}" and found in str(error)


def test_reversed_times_are_for_the_evaluation_to_refuse(tmp_path):
    path = write(tmp_path / "d.csv", HEADER + "a,0,1,x,1\na,3,1,x,1\n")
    with pytest.raises(ValueError, match="d.csv: a: .*end 1.0 before start 3.0 in row 2"):
        eval_detection.check(read_detections(path), path, eval_detection.DETECTION)


def test_a_refused_table_leaves_the_old_file(tmp_path):
    path = tmp_path / "kit.txt"
    path.write_text("old")
    for row in (("a", 0, 1, "x"), ("a b", 0, 1, "Diving"), ("a", 0, float("nan"), "Diving")):
        assert refused(write_detections, detections((*row, 1)), path).where.startswith(str(path))
    assert path.read_text() == "old" and len(list(tmp_path.iterdir())) == 1
    assert refused(write_detections, FOUND, tmp_path / "found.pkl").found == "suffix '.pkl'"


def test_ambiguous_segments_of_either_form(tmp_path):
    write(tmp_path / "a.csv", "video-id, t-start ,end\n a ,1,2.5\n")
    write(tmp_path / "a.txt", "a  1 2.5\n\n")
    for name in ("a.csv", "a.txt"):
        table = read_ambiguous(tmp_path / name)
        assert list(table) == ["video", "t_start", "t_end"]
        assert table.values.tolist() == [["a", 1, 2.5]]
    for name, text, where, found in (
        ("b.csv", "video,start\n", "", "t_end"),
        ("b.csv", "video,start,end\na,x,1\n", ": line 2: a", "'x'"),
        ("b.txt", "a 1\n", ": line 1", "'a 1'"),
        ("b.npy", "", "", "'.npy'"),
    ):
        error = refused(read_ambiguous, write(tmp_path / name, text))
        assert error.where == f"{tmp_path / name}{where}" and found in error.found


# ---- against a ground truth
def test_names_of_the_ground_truth(warned):
    found = detections(*[(name, 0, 1, "x", 1) for name in ("v_a", "b.mp4", "z", "v_a")])
    table = with_known_names(found, "d.csv", ["a", "b", "c"])
    assert table["video"].tolist() == ["a", "b", "z", "a"]
    assert found["video"].tolist()[0] == "v_a"  # the table given is left alone
    (line,) = warned()
    assert line.startswith("d.csv: 2 of 2 videos ") and "v_a for a" in line
    assert with_known_names(FOUND, "d.csv", ["a", "b"]).equals(FOUND) and warned() == []


def test_ambiguous_segments_of_the_scored_videos(warned):
    listed = detections(("v_a", 1, 2, "", 0), ("z", 3, 4, "", 0))[["video", "t_start", "t_end"]]
    assert ambiguous_in(["a", "b"], listed, "a.csv").values.tolist() == [["a", 1, 2]]
    assert len(warned()) == 1  # of the other name
    assert not len(ambiguous_in(["b"], listed, "a.csv"))
    assert "a.csv: 2 Ambiguous segments in other videos" in warned()[0]
    assert not len(ambiguous_in(["b"], listed, None)) and warned() == []


def test_labels_of_the_ground_truth(warned):
    labels = ("run", "Run", "high jump", "YoYo", "YoYo", "YoYo", "run ")
    found = detections(*[("a", 0, 1, label, 0.5) for label in labels])
    assert with_known_labels(found, "d.csv", ("run", "HighJump"))["label"].tolist() == ["run"]
    (line,) = warned()
    assert "6 of 7 detections are of 4 other classes" in line and "'YoYo' (3), 'Run' (1)" in line
    assert "'Run' for 'run', 'high jump' for 'HighJump', 'run ' for 'run'" in line
    assert with_known_labels(FOUND, "d.csv", ("run", "swim", "walk")) is FOUND and warned() == []
    many = detections(*[("a", 0, 1, f"c{i}", 0.5) for i in range(7)])
    assert not len(with_known_labels(many, "d.csv", ["x"]))
    assert warned()[0].endswith("'c4' (1) and 2 more")
