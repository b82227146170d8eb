"""Exports against the formats' own documentation.

fiftyone: user guide, "FiftyOneTemporalDetectionDataset". labelstudio: docs, tags/timelinelabels and
guide/predictions. via: the project format of VIA 3; _via_attribute.js and _via_file.js of its
sources name the numbers.
"""

import json
import xml.etree.ElementTree as ElementTree

import pandas as pd
import pytest

from formats.exports import KINDS, write_export
from formats.files import InputError

FOUND = pd.DataFrame(
    [
        ("b", 0.0, 1.02, "jump", 0.9),
        ("a", 1.0, 2.0, 'kick & "run"', 0.25),
        ("b", 4.0, 5.5, 'kick & "run"', 0.5),
    ],
    columns=["video", "t_start", "t_end", "label", "score"],
)
DURATIONS = {"a": 10.0, "b": 5.0, "empty": 3.0}
CLASSES = ["jump", 'kick & "run"']


def export(kind, folder, found=FOUND):
    write_export(kind, folder / "out.json", found, DURATIONS)
    return json.loads((folder / "out.json").read_text())


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
    a, b, empty = export("labelstudio", tmp_path)
    assert b["data"] == {"video": "/data/local-files/?d=b.mp4", "name": "b"}
    assert b["predictions"][0]["score"] == 0.9
    assert b["predictions"][0]["result"] == [
        # Frames from 1, 25 a second: 1.02 s lies in frame 26, second 4 begins with frame 101,
        # second 5 ends with frame 125.
        {
            "id": "detection1",
            "type": "timelinelabels",
            "from_name": "action",
            "to_name": "video",
            "score": 0.9,
            "value": {"ranges": [{"start": 1, "end": 26}], "timelinelabels": ["jump"]},
        },
        {
            "id": "detection2",
            "type": "timelinelabels",
            "from_name": "action",
            "to_name": "video",
            "score": 0.5,
            "value": {"ranges": [{"start": 101, "end": 125}], "timelinelabels": ['kick & "run"']},
        },
    ]
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


@pytest.mark.parametrize("kind", KINDS)
def test_no_detections_at_all(tmp_path, kind):
    content = export(kind, tmp_path, FOUND[:0])
    assert (
        len(
            content["labels"]
            if kind == "fiftyone"
            else content["view"]
            if kind == "via"
            else content
        )
        == 3
    )


@pytest.mark.parametrize(
    "kind, name, durations, words",
    [
        (
            "csv",
            "out.json",
            DURATIONS,
            "export: found 'csv', expected one of fiftyone, labelstudio, via",
        ),
        ("via", "out.txt", DURATIONS, "found suffix '.txt', expected .json"),
        ("via", "out.json", {"b": 5.0}, "a: found a detection but no duration"),
    ],
)
def test_bad_input_writes_nothing(tmp_path, kind, name, durations, words):
    with pytest.raises(InputError, match=words):
        write_export(kind, tmp_path / name, FOUND, durations)
    assert list(tmp_path.iterdir()) == []
