"""Exports against the formats' own documentation, and read again after they were corrected.

fiftyone: user guide, "FiftyOneTemporalDetectionDataset". labelstudio: docs, tags/timelinelabels and
guide/predictions. via: the project format of VIA 3; _via_attribute.js and _via_file.js of its
sources name the numbers.
"""

import copy
import json
import xml.etree.ElementTree as ElementTree

import pytest
from errors import refused
from rows import detections

from formats.annotations import load
from formats.detections import read_detections
from formats.exports import KINDS, write_export

FOUND = detections(
    ("b", 0.0, 1.02, "jump", 0.9),
    ("a", 1.0, 2.0, 'kick & "run"', 0.25),
    ("b", 4.0, 5.5, 'kick & "run"', 0.5),
)
DURATIONS = {"a": 10.0, "b": 5.0, "empty": 3.0}
CLASSES = ["jump", 'kick & "run"']


def export(kind, folder, found=FOUND, durations=DURATIONS):
    write_export(kind, folder / "out.json", found, durations)
    return json.loads((folder / "out.json").read_text(encoding="utf-8"))


# ---- written
def test_fiftyone(tmp_path):
    assert export("fiftyone", tmp_path) == {
        "classes": CLASSES,
        "labels": {
            "a": [{"label": 1, "timestamps": [1.0, 2.0], "confidence": 0.25}],
            "b": [
                {"label": 0, "timestamps": [0.0, 1.02], "confidence": 0.9},
                {"label": 1, "timestamps": [4.0, 5.0], "confidence": 0.5},  # cut to the video's end
            ],
            "empty": [],
        },
    }


def test_labelstudio(tmp_path):
    _, b, empty = export("labelstudio", tmp_path)
    assert b["data"] == {"video": "/data/local-files/?d=b.mp4", "name": "b"}
    assert b["predictions"][0]["score"] == 0.9
    # Frames from 1, 25 a second: 1.02 s lies in frame 26, second 4 begins with frame 101, second 5
    # ends with frame 125.
    first, second = b["predictions"][0]["result"]
    assert first == {
        "id": "detection1",
        "type": "timelinelabels",
        "from_name": "action",
        "to_name": "video",
        "score": 0.9,
        "value": {"ranges": [{"start": 1, "end": 26}], "timelinelabels": ["jump"]},
    }
    assert second["value"] == {
        "ranges": [{"start": 101, "end": 125}],
        "timelinelabels": ['kick & "run"'],
    }
    assert empty["predictions"][0]["result"] == []
    view = ElementTree.parse(tmp_path / "out.xml").getroot()  # the names that the regions refer to
    video, labels = view.find("Video"), view.find("TimelineLabels")
    assert video.attrib == {"name": "video", "value": "$video", "frameRate": "25"}
    assert labels.attrib == {"name": "action", "toName": "video"}
    assert [label.get("value") for label in labels] == CLASSES


def test_via(tmp_path):
    project = export("via", tmp_path)
    assert set(project) == {"project", "config", "attribute", "file", "metadata", "view"}
    assert project["project"]["vid_list"] == ["1", "2", "3"] == list(project["view"])
    # a local video
    assert project["file"]["2"] == {"fid": "2", "fname": "b.mp4", "type": 4, "loc": 1, "src": ""}
    assert project["view"]["2"] == {"fid_list": ["2"]}
    action = project["attribute"]["1"]
    assert action["anchor_id"] == "FILE1_Z2_XY0" and action["type"] == 4  # segment; menu
    assert action["options"] == {"1": "jump", "2": 'kick & "run"'}
    assert list(project["metadata"].values()) == [
        {"vid": "1", "flg": 0, "z": [1.0, 2.0], "xy": [], "av": {"1": "2", "2": "0.2500"}},
        {"vid": "2", "flg": 0, "z": [0.0, 1.02], "xy": [], "av": {"1": "1", "2": "0.9000"}},
        {"vid": "2", "flg": 0, "z": [4.0, 5.0], "xy": [], "av": {"1": "2", "2": "0.5000"}},
    ]


def test_hostile_names(tmp_path):
    """Well-formed XML, one label in both files, and a URL that leads to the file."""
    label, video = "a\x0b\x1b<b>\ufffe", "x?&#%/é y"
    found = detections((video, 0.0, 1.0, label, 0.5))
    (task,) = export("labelstudio", tmp_path, found, {video: 9.0})
    assert task["data"] == {
        "video": "/data/local-files/?d=x%3F%26%23%25/%C3%A9%20y.mp4",
        "name": video,
    }
    (written,) = ElementTree.parse(tmp_path / "out.xml").getroot().iter("Label")
    (region,) = task["predictions"][0]["result"]
    assert [written.get("value")] == region["value"]["timelinelabels"] == ["a\ufffd\ufffd<b>\ufffd"]
    for kind in KINDS:
        export(kind, tmp_path, found, {video: 9.0})
        assert read_detections(tmp_path / "out.json")["video"].str.removesuffix(".mp4")[0] == video


@pytest.mark.parametrize(
    "kind, name, durations, where, found",
    [
        ("csv", "out.json", DURATIONS, "export", "'csv'"),
        ("via", "out.txt", DURATIONS, "out.txt", "'.txt'"),
        ("via", "out.json", {"b": 5.0}, "out.json: a", "no duration"),
    ],
)
def test_bad_input_writes_nothing(tmp_path, kind, name, durations, where, found):
    error = refused(write_export, kind, tmp_path / name, FOUND, durations)
    assert error.where.endswith(where) and found in error.found
    assert list(tmp_path.iterdir()) == []


# ---- read again
ROWS = [
    ["a", 1.0, 2.0, 'kick & "run"', 0.25],
    ["b", 0.0, 1.02, "jump", 0.9],
    ["b", 4.0, 5.0, 'kick & "run"', 0.5],
]


def plain(table):
    return table.assign(video=table["video"].str.removesuffix(".mp4")).values.tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_is_read_as_detections_and_as_annotations(tmp_path, kind, warned):
    export(kind, tmp_path)
    rows = copy.deepcopy(ROWS)
    if kind == "labelstudio":
        rows[1][2] = 1.04  # the end of frame 26
    assert plain(read_detections(tmp_path / "out.json")) == rows
    truth = load(tmp_path / "out.json")
    assert plain(truth.segments) == [row[:4] for row in rows]
    assert [name.removesuffix(".mp4") for name in truth.videos.index] == ["a", "b", "empty"]
    assert truth.classes == tuple(CLASSES)
    export(kind, tmp_path, FOUND[:0])
    assert not len(read_detections(tmp_path / "out.json"))
    frames = [line for line in warned() if "25 a second" in line]
    assert len(frames) == (3 if kind == "labelstudio" else 0)


def correct_fiftyone(content):
    content["labels"]["b"][1] = {"label": "swim", "timestamps": [3, 4]}
    del content["labels"]["a"][0]


def correct_via(content):
    first, _, third = content["metadata"].values()
    content["attribute"]["1"]["options"]["3"] = "swim"
    third |= {"z": [3, 4], "av": {"1": "3", "2": ""}}
    first |= {"xy": [2, 10, 10, 20, 20], "z": [1.5]}  # made a region of one picture


def correct_labelstudio(content):
    """As Label Studio exports it: the annotations beside the predictions."""
    for task in content:
        task["annotations"] = [{"result": task["predictions"][0]["result"]}]
    content[0]["annotations"][0]["result"] = []
    new = {"ranges": [{"start": 76, "end": 100}], "timelinelabels": ["swim"]}
    content[1]["annotations"][0]["result"][1] = {"type": "timelinelabels", "value": new}
    content[1]["annotations"][0]["result"][0]["value"]["ranges"][0]["end"] = 25


def correct_json_min(content):
    """As Label Studio exports JSON-MIN."""
    regions = [
        {"ranges": [{"start": 1, "end": 25}], "timelinelabels": ["jump"]},
        {"ranges": [{"start": 76, "end": 100}], "timelinelabels": ["swim"]},
    ]
    content[:] = [
        {"id": 1, "video": "/data/local-files/?d=videos%2Fa.mp4"},
        {"id": 2, "video": "/data/upload/1/b.mp4", "action": regions, "annotator": 1},
    ]


@pytest.mark.parametrize(
    "kind, correct",
    [
        ("fiftyone", correct_fiftyone),
        ("via", correct_via),
        ("labelstudio", correct_labelstudio),
        ("labelstudio", correct_json_min),
    ],
)
def test_what_was_corrected_comes_back(tmp_path, kind, correct):
    content = export(kind, tmp_path)
    correct(content)
    (tmp_path / "corrected.json").write_text(json.dumps(content))
    truth = load(tmp_path / "corrected.json")
    end = 1.0 if kind == "labelstudio" else 1.02
    found = [[video.rpartition("/")[2], *row] for video, *row in plain(truth.segments)]
    assert found == [["b", 0.0, end, "jump"], ["b", 3.0, 4.0, "swim"]]
    assert truth.videos["labels"].tolist()[:2] == [(), ("jump", "swim")]


@pytest.mark.parametrize(
    "content",
    [
        {"classes": ["x"], "labels": {"a": [{"label": 3, "timestamps": [0, 1]}]}},
        {"classes": ["x"], "labels": {"a": [{"label": 0}]}},
        {"classes": ["x"], "labels": [3]},
        {"file": {}, "view": {"1": {}}, "metadata": {}, "attribute": {}},
        {"file": [], "view": [], "metadata": [], "attribute": [1]},
        [{"video": 3, "action": [{"ranges": [{}], "timelinelabels": ["x"]}]}],
        [{"video": "a", "action": [{"ranges": [{"start": "x"}], "timelinelabels": ["x"]}]}],
        [{"annotations": {"x": 1}, "x": [{"value": 3, "timelinelabels": 4}]}],
    ],
)
def test_a_damaged_project_is_one_line(tmp_path, content):
    path = tmp_path / "p.json"
    path.write_text(json.dumps(content))
    for read in (load, read_detections):
        assert refused(read, path).where.startswith(str(path))
