"""Video-level scores from outside: forms, names, errors."""

import json

import numpy as np
import pytest
from errors import line_of

from formats.video_scores import read_video_scores

FORMS = {
    "scores.json": json.dumps(
        {"b": {"Run": 0.25, "Jump": 1}, "a": {"Run": 0.5, "Jump": 0, "Other": 7}, "c": {}}
    ),
    "long.csv": "video,label,score\nb,Run,0.25\nb,Jump,1\na,Run,.5\n\na,Jump,0\nz,Run,nan\n",
    "wide.csv": "\ufeffJump, video, Run\n0,a,0.5\n1,b,0.25\n",
    "other.csv": "Video-ID;Type;Confidence\na; Run ;.5\na;Jump;0\nb;Run;0.25\nb;Jump;1\n",
    "tabs.csv": "name\tRun\tJump\na\t.5\t0\nb\t0.25\t1\n",
}


@pytest.mark.parametrize("name", FORMS)
def test_external_scores(tmp_path, name):
    (tmp_path / name).write_text(FORMS[name], encoding="utf-8")
    found = read_video_scores(tmp_path / name, ["a", "b"], ["Jump", "Run"])
    assert found.dtype == np.float64 and found.tolist() == [[0, 0.5], [1, 0.25]]


HEADER = "video,label,score\n"


@pytest.mark.parametrize(
    "name, text, says",
    [
        ("s.json", '{"a": {"Run": 1, "Jump": 1}}', "found no scores of 1 of 2 videos: b"),
        (
            "s.json",
            '{"a": {"Run": 1, "Jump": 1}, "b": {"Run": 1}}',
            "b: found no score of 1 of 2 classes: Jump",
        ),
        ("s.json", '{"a": {"Run": 1, " Run": 0, "Jump": 1}}', "a: found a class twice"),
        ("s.json", '{"a": [1, 2]}', "expected {video: {class: score}}"),
        (
            "s.json",
            '{"a": {"Run": true, "Jump": 1}, "b": {"Run": 1, "Jump": 1}}',
            "a: found the score True of Run",
        ),
        (
            "s.json",
            '{"a": {"Run": NaN, "Jump": 1}, "b": {"Run": 1, "Jump": 1}}',
            "a: found the score nan of Run",
        ),
        (
            "s.json",
            '{"a": {"Run": 1, "Jump": null}, "b": {"Run": 1, "Jump": 1}}',
            "a: found the score None of Jump",
        ),
        ("s.json", "{", "expected valid JSON"),
        (
            "s.csv",
            HEADER + "a,Run,1\na,Jump,1\nb,Run,1\n",
            "b: found no score of 1 of 2 classes: Jump",
        ),
        ("s.csv", HEADER + "a,Run,1\na,Run,0\n", "a: found a second score of Run at line 3"),
        ("s.csv", HEADER + "a,Run,1\na,Jump\n", "line 3: found 2 fields, expected 3"),
        (
            "s.csv",
            HEADER + "a,Run,1\na,Jump,1.5\nb,Run,1\nb,Jump,0\n",
            "a: found the score '1.5' of Jump",
        ),
        (
            "s.csv",
            HEADER + "a,Run,1\na,Jump,high\nb,Run,1\nb,Jump,0\n",
            "found the score 'high' of Jump",
        ),
        ("s.csv", "video,Run\na,1\nb,1\n", "a: found no score of 1 of 2 classes: Jump"),
        ("s.csv", "video,Run,Jump\na,1,0\na,1,1\n", "a: found a second row at line 3"),
        (
            "s.csv",
            "clip,label,score\na,Run,1\n",
            "found the columns clip, label, score, expected video,label,score",
        ),
        (
            "s.csv",
            HEADER + "a,run,1\nb,run,1\n",
            "a: found no score of 2 of 2 classes: Jump, Run; found run",
        ),
        (
            "s.csv",
            HEADER + "x,Run,1\ny,Run,1\n",
            "found no scores of 2 of 2 videos: a, b; found x, y",
        ),
        ("s.csv", "video,Run,Run\na,1,1\n", "each name once"),
        ("s.csv", "", "found an empty file"),
        ("s.csv", "video,Run,Jump\n\udcff,1,1\n", "not UTF-8, expected a text file"),
        ("s.txt", "", "expected video scores as .json or .csv"),
        ("missing.csv", None, "found no such file"),
    ],
)
def test_external_scores_errors(tmp_path, name, text, says):
    if text is not None:
        (tmp_path / name).write_text(text, encoding="utf-8", errors="surrogateescape")
    line = line_of(read_video_scores, tmp_path / name, ["a", "b"], ["Jump", "Run"])
    assert line.startswith(f"{tmp_path / name}: ") and says in line


def test_videos_under_another_form_of_their_name(tmp_path):
    path, notes = tmp_path / "s.csv", []
    path.write_text("video,Run\nv_a.mp4,0.5\nID3456789ab,0.25\nc,1\n")
    found = read_video_scores(
        path, ["video_4", "c", "a"], ["Run"], {"video_4": "ID3456789ab"}, notes
    )
    assert found.tolist() == [[0.25], [1], [0.5]]
    assert notes == [
        f"{path}: 2 of 3 videos have another form of their name, such as ID3456789ab for video_4"
    ]
    read_video_scores(path, ["c"], ["Run"], notes=notes)
    assert len(notes) == 1


def test_a_class_may_be_called_like_a_column(tmp_path):
    (tmp_path / "s.csv").write_text("video,type,action\na,0.5,1\n")
    assert read_video_scores(tmp_path / "s.csv", ["a"], ["action", "type"]).tolist() == [[1, 0.5]]
