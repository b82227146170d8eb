"""Detections: what is read and refused, what is written, and how they are held against a
ground truth."""

import json

import pandas as pd
import pytest
from errors import line_of
from rows import detections

from formats.detections import (
    outside_note,
    read_ambiguous,
    read_detections,
    under_aliases,
    with_known_labels,
    with_known_names,
    write_detections,
)
from formats.files import InputError

FOUND = detections(("a", 0, 10, "run", 0.9), ("b", 0, 10, "run", 0.8), ("b", 0, 10, "swim", 0.7))


# ------------------------------------------------------------------------------------------- files

THUMOS = detections(
    ("video_test_0000004", 0.1 + 0.2, 1 / 3, "BaseballPitch", 1 / 7),
    ("video_test_0000006", 12, 13.5, "VolleyballSpiking", -2e-9),
    ("video_test_0000004", 7, 8, "CricketShot", 3),
).astype({"t_start": float, "score": float})


@pytest.mark.parametrize("suffix", [".json", ".csv", ".txt", ".JSON"])
def test_detections_come_back_as_they_were_written(tmp_path, suffix):
    path = tmp_path / f"found{suffix}"
    write_detections(THUMOS, path)
    back = read_detections(path)
    expected = (
        THUMOS.iloc[[0, 2, 1]].reset_index(drop=True) if suffix.lower() == ".json" else THUMOS
    )
    pd.testing.assert_frame_equal(back, expected, check_exact=True)
    write_detections(THUMOS[:0], path)
    assert len(read_detections(path)) == 0
    assert list(read_detections(path).columns) == list(THUMOS.columns)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_forms_are_the_official_ones(tmp_path):
    write_detections(THUMOS[1:2], tmp_path / "kit.txt")
    assert (tmp_path / "kit.txt").read_text() == "video_test_0000006 12.0 13.5 97 -2e-09\n"
    write_detections(THUMOS[1:2], tmp_path / "anet.json")
    assert json.loads((tmp_path / "anet.json").read_text())["results"] == {
        "video_test_0000006": [
            {"label": "VolleyballSpiking", "score": -2e-9, "segment": [12, 13.5]}
        ]
    }
    write_detections(THUMOS[1:2], tmp_path / "table.csv")
    assert (tmp_path / "table.csv").read_text().splitlines()[0] == "video,t_start,t_end,label,score"


def test_names_stay_text(tmp_path):
    (tmp_path / "d.csv").write_text(
        'score,label,video,t_start,t_end\n.5,NA,0012,1,2\n.4,"Shot, put",null,1,2\n'
    )
    assert read_detections(tmp_path / "d.csv")[["video", "label"]].to_numpy().tolist() == [
        ["0012", "NA"],
        ["null", "Shot, put"],
    ]


HEADER = "video,t_start,t_end,label,score\n"


def of_a(detection):
    return '{"results": {"a": [%s]}}' % detection


@pytest.mark.parametrize(
    "name, content, words",
    [
        ("d.csv", "video,t_start,t_end,label\na,0,1,x\n", ["found the columns", "score"]),
        ("d.csv", "", ["empty file"]),
        ("d.csv", HEADER + "a,0,1,x\n", ["line 2", "4 fields", "expected 5"]),
        ("d.csv", HEADER + "a,0,one,x,1\n", ["line 2", "a", "'one'"]),
        ("d.csv", HEADER + "a,0,1,x,nan\n", ["line 2: a", "score 'nan'"]),
        ("d.csv", HEADER + "a,3,1,x,1\n", ["line 2: a", "end 1 before start 3"]),
        ("d.csv", HEADER + ",0,1,x,1\n", ["line 2", "video name ''"]),
        ("d.csv", HEADER + "a,0,1, ,1\n", ["line 2: a", "label ''"]),
        (
            "d.csv",
            "video,start,t-start,t_start\n",
            ["found the columns", "expected video, t_start, t_end, label, score"],
        ),
        ("d.csv", b"\xff\xfe\x00", ["UTF-8"]),
        ("d.txt", "a 0 1 7\n", ["line 1", "4 fields"]),
        ("d.txt", "a 0 1 7 .5\na 0 1 8 .5\n", ["line 2", "a", "class id '8'", "7, 9, 12"]),
        ("d.txt", "a 0 1 Diving .5\n", ["class id 'Diving'"]),
        ("d.json", "{", ["valid JSON"]),
        ("d.json", '{"database": {}}', ["results"]),
        ("d.json", '{"results": {"a": {}}}', ["a: found dict"]),
        ("d.json", of_a('{"label": "x", "segment": [0, 1]}'), ["a: found", "score"]),
        ("d.json", of_a('{"label": "x", "segment": [0], "score": 1}'), ["segment [start, end]"]),
        ("d.json", of_a('{"label": 7, "segment": [0, 1], "score": 1}'), ["label 7"]),
        (
            "d.json",
            of_a('{"label": "x", "segment": [0, 1], "score": null}'),
            ["a: found score None"],
        ),
        ("d.json", of_a('{"label": "x", "segment": [0, 1], "score": NaN}'), ["a: found score nan"]),
        ("d.json", '{"results": {"a": [], "a": []}}', ["a: found this name twice"]),
        ("d.pkl", "", ["suffix"]),
    ],
)
def test_bad_detection_files_give_one_line(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    line = line_of(read_detections, tmp_path / name)
    assert line.startswith(str(tmp_path / name)) and all(word in line for word in words), line


@pytest.mark.parametrize("name", ["d.csv", "d.txt", "d.json"])
def test_missing_file(tmp_path, name):
    with pytest.raises(InputError, match="no such file"):
        read_detections(tmp_path / name)


def test_a_refused_table_leaves_the_old_file(tmp_path):
    path = tmp_path / "kit.txt"
    path.write_text("old")
    for table in (
        detections(("a", 0, 1, "x", 1)),
        detections(("a b", 0, 1, "Diving", 1)),
        detections(("a", 0, 1, "Diving", float("nan"))),
        detections(("a", 2, 1, "Diving", 1)),
    ):
        with pytest.raises(InputError):
            write_detections(table, path)
    assert path.read_text() == "old" and len(list(tmp_path.iterdir())) == 1
    with pytest.raises(InputError, match="suffix"):
        write_detections(FOUND, tmp_path / "found.pkl")


# ---------------------------------------------------------------------------------------- dialects


@pytest.mark.parametrize(
    "text",
    [
        "video,t_start,t_end,label,score\na,1,2.5,Run,.5\nb c,3,4,Dive,1\n",
        " video , t_start,t_end , label,score\n a , 1 ,2.5, Run,  .5\n\nb c,3,4,Dive ,1\n , ,,,\n",
        "video-id,t-start,t-end,label,score\na,1,2.5,Run,.5\nb c,3,4,Dive,1\n",
        "video,t_start,t_end,label,score,,\na,1,2.5,Run,.5,,\nb c,3,4,Dive,1,,\n",
        "Video ID;Start;End;Type;Confidence\na;1;2.5;Run;.5\nb c;3;4;Dive;1\n",
        "\ufeffscore\tclass\tend_time\tstart_time\tvideo_name\tnote\r\n"
        ".5\tRun\t2.5\t1\ta\t-\r\n1\tDive\t4\t3\tb c\t-\r\n",
    ],
)
def test_csv_under_its_usual_column_names(tmp_path, text):
    (tmp_path / "d.csv").write_text(text, encoding="utf-8", newline="")
    assert read_detections(tmp_path / "d.csv").values.tolist() == [
        ["a", 1, 2.5, "Run", 0.5],
        ["b c", 3, 4, "Dive", 1],
    ]


@pytest.mark.parametrize(
    "content",
    [
        {
            "results": {"a": [{"label": "Run", "segment": [1, 2.5], "score": 0.5}], "b": []},
            "version": "1",
        },
        {"a": [{"label": "Run", "segment": ["1", "2.5"], "score": "0.5"}], "b": []},
        {"results": {"a": [{"class": "Run", "t-start": 1, "t-end": 2.5, "confidence": 0.5}]}},
    ],
)
def test_json_of_other_make(tmp_path, content):
    (tmp_path / "d.json").write_text(json.dumps(content))
    assert read_detections(tmp_path / "d.json").values.tolist() == [["a", 1, 2.5, "Run", 0.5]]


def test_ambiguous_segments_of_either_form(tmp_path):
    (tmp_path / "a.csv").write_text("video-id, t-start ,end\n a ,1,2.5\n")
    (tmp_path / "a.txt").write_text("a  1 2.5\n\n")
    for name in ("a.csv", "a.txt"):
        table = read_ambiguous(tmp_path / name)
        assert list(table) == ["video", "t_start", "t_end"]
        assert table.values.tolist() == [["a", 1, 2.5]]
    for name, text, says in (
        ("b.csv", "video,start\n", "expected video, t_start, t_end"),
        ("b.csv", "video,start,end\na,2,1\n", "line 2: a: found end 1 before start 2"),
        ("b.txt", "a 1\n", "line 1: found 'a 1', expected 'video start end'"),
        ("b.npy", "", "expected Ambiguous segments as .csv or .txt"),
    ):
        (tmp_path / name).write_text(text)
        line = line_of(read_ambiguous, tmp_path / name)
        assert line.startswith(f"{tmp_path / name}: ") and says in line


# ------------------------------------------------------------------------------------------------
# against a ground truth


def test_names_of_the_ground_truth():
    found = detections(
        ("v_a", 0, 1, "x", 1),
        ("ID3456789ab.mp4", 0, 1, "x", 1),
        ("z", 0, 1, "x", 1),
        ("v_a", 2, 3, "y", 1),
    )
    table, note = with_known_names(
        found, "d.csv", ["a", "video_4", "b"], {"video_4": "ID3456789ab"}
    )
    assert table["video"].tolist() == ["a", "video_4", "z", "a"]
    assert note == "d.csv: 2 of 3 videos have another form of their name, such as v_a for a"
    assert found["video"].tolist()[0] == "v_a"  # the table given is left alone
    assert with_known_names(FOUND, "d.csv", ["a", "b"]) == (FOUND, None)


def test_under_youtube_ids(tmp_path):
    """Written under the YouTube ids and read back against the names, the table is the same."""
    aliases = {"a": "ID3456789ab", "b": None}
    renamed = under_aliases(FOUND, aliases)
    assert renamed["video"].tolist() == ["ID3456789ab", "b", "b"]
    assert FOUND["video"].tolist() == ["a", "b", "b"]
    write_detections(renamed, tmp_path / "d.json")
    back, _ = with_known_names(read_detections(tmp_path / "d.json"), "d.json", ["a", "b"], aliases)
    pd.testing.assert_frame_equal(back, FOUND.astype({"t_start": float, "t_end": float}))


def test_labels_of_the_ground_truth():
    found = detections(
        *[
            ("a", 0, 1, label, 0.5)
            for label in ("run", "Run", "high jump", "YoYo", "YoYo", "YoYo", "run ")
        ]
    )
    table, note = with_known_labels(found, "d.csv", ("run", "HighJump"))
    assert table["label"].tolist() == ["run"]
    assert note == (
        "d.csv: 6 of 7 detections are of 4 other classes and not scored: 'YoYo' (3), 'Run' "
        "(1), 'high jump' (1), "
        "'run ' (1); letter case or blanks differ: 'Run' for 'run', 'high jump' for "
        "'HighJump', 'run ' for 'run'"
    )
    assert with_known_labels(FOUND, "d.csv", ("run", "swim", "walk")) == (FOUND, None)
    many = detections(*[("a", 0, 1, f"c{i}", 0.5) for i in range(7)])
    assert with_known_labels(many, "d.csv", ["x"])[1].endswith(
        "not scored: 'c0' (1), 'c1' (1), 'c2' (1), 'c3' (1), 'c4' (1) and 2 more"
    )


def test_detections_outside_of_their_video():
    found = detections(
        ("a", -0.5, 11, "x", 1),
        ("a", 9, 12.5, "x", 1),
        ("b", 0, 104, "x", 1),
        ("c", 0, 1e6, "x", 1),
    )
    durations = {"a": 10.0, "b": 100.0}  # c has none; b's 4 s are less than 5%
    assert outside_note(found, "d.csv", durations) == (
        "d.csv: of 4 detections 1 end more than 2 s past their video's end and 1 begin "
        "before 0 (worst: a, 2.5 s): are "
        "their times seconds of these videos?"
    )
    assert outside_note(found[2:], "d.csv", durations) is None
    assert outside_note(found[:1], "d.csv", {}) == (
        "d.csv: of 1 detections 1 begin before 0: are their times seconds of these videos?"
    )
    assert outside_note(found[:0], "d.csv", durations) is None
