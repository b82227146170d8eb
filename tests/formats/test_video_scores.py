"""Video-level scores from outside: forms, names, errors."""

import numpy as np
import pytest
from errors import refused

from formats.video_scores import read_video_scores

FORMS = {
    "scores.json": '{"b": {"Run": 0.25, " Jump ": 1}, "a": {"Run": 0.5, "Jump": 0, "z": 7}, "c": {}}',
    "results.json": """{"version": "1", "results": {
        "b": [{"label": "Run", "score": 0.25}, {"label": "Jump", "score": "1"}],
        "a": [{"label": "Run", "score": 0.5}, {"label": "Jump", "score": 0}], "c": []}}""",
    "classes.json": """{"results": {
        "b": [{"class": "Run", "score": 0.25}, {"class": "Jump", "score": 1}],
        "a": [{"class": "Run", "prob": 0.5}, {"class": "Jump", "prob": 0}]}}""",
    "records.jsonl": """{"video": "b", "label": "Run", "score": 0.25}
        {"video": "b", "label": "Jump", "score": 1}
        {"video": "a", "label": "Run", "score": 0.5}
        {"video": "a", "label": "Jump", "score": 0}""",
    "long.csv": "video,label,score\nb,Run,0.25\nb,Jump,1\na,Run,.5\n\na,Jump,0\nz,Run,nan\n",
    "wide.csv": "\ufeffJump, video, Run\n0,a,0.5\n1,b,0.25\n",
    "other.csv": "Video-ID;Type;Confidence\na; Run ;,5\na;Jump;0\nb;Run;0,25\nb;Jump;1\n",
    "tabs.csv": "name\tRun\tJump\na\t.5\t0\nb\t0.25\t1\n",
}


@pytest.mark.parametrize("name", FORMS)
def test_external_scores(tmp_path, name):
    (tmp_path / name).write_text(FORMS[name], encoding="utf-8")
    found = read_video_scores(tmp_path / name, ["a", "b"], ["Jump", "Run"])
    assert found.dtype == np.float64 and found.tolist() == [[0, 0.5], [1, 0.25]]


HEADER = "video,label,score\n"


def json_of(a, b='{"Run": 1, "Jump": 1}'):
    return f'{{"a": {a}, "b": {b}}}'


@pytest.mark.parametrize(
    "name, text, where, found",
    [
        ("s.json", '{"a": {"Run": 1, "Jump": 1}}', "", "1 of 2 videos: b"),
        ("s.json", json_of('{"Run": 1}'), ": a", "1 of 2 classes: Jump"),
        ("s.json", json_of('{"Run": 1, " Run": 0, "Jump": 1}'), ": a", "a second score of Run"),
        ("s.json", '{"a": [1, 2]}', ": a", "1"),
        ("s.json", json_of('{"Run": true, "Jump": 1}'), ": a", "True of Run"),
        ("s.json", json_of('{"Run": NaN, "Jump": 1}'), ": a", "nan of Run"),
        ("s.json", json_of('{"Run": 1, "Jump": null}'), ": a", "None of Jump"),
        ("s.json", "{", "", "line 1"),
        ("s.csv", HEADER + "a,Run,1\na,Jump,1\nb,Run,1\n", ": b", "1 of 2 classes: Jump"),
        ("s.csv", HEADER + "a,Run,1\na,Run,0\n", ": line 3: a", "a second score of Run"),
        ("s.csv", HEADER + "a,Run,1\na,Jump\n", ": line 3", "2 fields"),
        ("s.csv", HEADER + "a,Run,1\na,Jump,1.5\nb,Run,1\nb,Jump,0\n", ": a", "'1.5' of Jump"),
        ("s.csv", HEADER + "a,Run,1\na,Jump,high\nb,Run,1\nb,Jump,0\n", ": a", "'high' of Jump"),
        ("s.csv", "video,Run\na,1\nb,1\n", ": a", "1 of 2 classes: Jump"),
        ("s.csv", "video,Run,Jump\na,1,0\na,1,1\n", ": line 3: a", "a second score"),
        ("s.csv", "clip,label,score\na,Run,1\n", "", "no column for the video"),
        ("s.csv", HEADER + "a,run,1\nb,run,1\n", ": a", "2 of 2 classes: Jump, Run"),
        ("s.csv", HEADER + "x,Run,1\ny,Run,1\n", "", "2 of 2 videos: a, b"),
        ("s.csv", "", "", "an empty file"),
        ("s.csv", "video,Run,Jump\n\udcff,1,1\n", "", "bytes at 15"),
        ("s.txt", "", "", "another kind of file"),
        ("missing.csv", None, "", "no such file"),
    ],
)
def test_external_scores_errors(tmp_path, name, text, where, found):
    if text is not None:
        (tmp_path / name).write_text(text, encoding="utf-8", errors="surrogateescape")
    error = refused(read_video_scores, tmp_path / name, ["a", "b"], ["Jump", "Run"])
    assert error.where == f"{tmp_path / name}{where}" and found in str(error)


def test_videos_under_another_form_of_their_name(tmp_path, warned):
    path = tmp_path / "s.csv"
    path.write_text("video,Run\nv_a.mp4,0.5\nx/b,0.25\nc,1\n")
    assert read_video_scores(path, ["b", "c", "a"], ["Run"]).tolist() == [[0.25], [1], [0.5]]
    (line,) = warned()
    assert line.startswith(f"{path}: 2 of 3 videos ") and "x/b for b" in line


def test_a_class_may_be_called_like_a_column(tmp_path):
    (tmp_path / "s.csv").write_text("video,type,action\na,0.5,1\n")
    assert read_video_scores(tmp_path / "s.csv", ["a"], ["action", "type"]).tolist() == [[1, 0.5]]
