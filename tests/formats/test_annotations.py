import json
import math
import pathlib
import pickle
import shutil

import numpy as np
import pandas as pd
import pytest
from errors import Evil, line_of, told
from feature_files import objects
from places import SHARED

from formats import annotations
from formats.annotations import in_subset, load, table, wtalc_names
from formats.files import InputError

DATA = SHARED / "data"
real_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"no published annotations in {DATA}")


def write_json(path, database, **more):
    path.write_text(json.dumps({"database": database, **more}))
    return path


def load_json(folder, database):
    return load(write_json(folder / "gt.json", database))


def video(segments=(), subset="test", **more):
    """A video of ActivityNet JSON from (label, start, end)."""
    return {
        "subset": subset,
        "annotations": [{"label": c, "segment": [a, b]} for c, a, b in segments],
        **more,
    }


def write_wtalc(folder, **changes):
    """A W-TALC folder of three videos; `changes` replace columns, or leave them out with None."""

    columns = {
        "videoname": np.array([b"v_b", b"v_a", b"v_c"]),
        "classlist": np.array([b"Run", b"Dive", b"Swim"]),
        "subset": np.array([b"validation", b"test", b"test"]),
        "duration": np.array([[10.0], [20.0], [30.0]]),
        "segments": objects([[1, 2.5], [3, 4]], [[5.0, 6.0]], []),
        "labels": objects(["Run", "Dive"], ["Run"], []),
        "labels_all": objects(["Run"], ["Run"], ["Swim"]),
        **changes,
    }
    folder.mkdir(exist_ok=True)
    for name, values in columns.items():
        if values is not None:
            np.save(folder / f"{name}.npy", values, allow_pickle=True)
    return folder


def write_evalkit(folder, ids="9 BasketballDunk\r\n7 BaseballPitch\r\n", **files):
    folder.mkdir(exist_ok=True)
    (folder / "detclasslist.txt").write_text(ids)
    for name, text in {
        "BasketballDunk": "video_b  1.0 2.0\nvideo_a  3.0 4.0\n",
        "BaseballPitch": "video_b  0.5 1.5\n",
        "Ambiguous": "video_c  7 8\nvideo_b  9 9.5\n",
        **files,
    }.items():
        if text is not None:
            (folder / f"{name}_test.txt").write_text(text)
    return folder


# -------------------------------------------------------------------------------- ActivityNet JSON


def test_activitynet_json(tmp_path):
    path = write_json(
        tmp_path / "gt.json",
        {
            "b": video(
                [("Run", 1, 2.5), ("Dive", "3.0", "4"), ("Run", 0, 1)],
                "train",
                duration=5,
                url="https://...",
            ),
            "a": video([("Swim", 2, 3)], duration="7.5"),
            "c": video(),
        },
        version="1",
        taxonomy=[],
    )
    truth = load(path)
    assert list(truth.videos) == ["b", "a", "c"] and truth.classes == ("Dive", "Run", "Swim")
    assert truth.notes == ()
    assert truth.path == str(path) and truth.ambiguous.empty
    b, a, c = truth.videos.values()
    assert (b.name, b.subset, b.duration, b.segment_labels, b.labels, b.alias) == (
        "b",
        "train",
        5.0,
        ("Run", "Dive", "Run"),
        ("Dive", "Run"),
        None,
    )
    np.testing.assert_array_equal(b.segments, [[1, 2.5], [3, 4], [0, 1]])
    assert b.segments.dtype == np.float64 and a.duration == 7.5
    assert c.duration is None and c.segments.shape == (0, 2) and c.segment_labels == c.labels == ()


def test_odd_segments_are_dropped_or_kept_and_counted(tmp_path):
    path = write_json(
        tmp_path / "gt.json",
        {
            "a": video([("Run", 2, 2), ("Dive", 3, 1), ("Run", 1, 2)], duration=2),
            "b": video([("Swim", 0, 0)], duration=9),
            "c": video([("Run", 8, 12), ("Run", 1, 11.5), ("Run", 1, 10.05)], duration=10),
        },
    )
    truth = load(path)
    assert truth.notes == (
        f"{path}: 3 zero-length or reversed segments dropped (first: a [2, 2]); their "
        "labels still count for the video",
        f"{path}: 2 segments of 1 video more than 0.1 s past the video's end, kept (worst: "
        "c, 2.0 s)",
    )
    a, b, c = truth.videos.values()
    assert a.segments.tolist() == [[1, 2]] and a.segment_labels == ("Run",)
    assert a.labels == ("Dive", "Run")
    assert len(b.segments) == 0 and b.labels == ("Swim",)
    assert truth.classes == ("Dive", "Run", "Swim")
    assert c.segments.tolist() == [[8, 12], [1, 11.5], [1, 10.05]]


def test_ambiguous_segments_are_no_class(tmp_path):
    path = write_json(
        tmp_path / "gt.json",
        {"a": video([("Run", 1, 2), ("Ambiguous", 3, 4)]), "b": video([("Ambiguous", 5, 6)])},
    )
    truth = load(path)
    assert truth.classes == ("Run",) and truth.videos["b"].labels == ()
    assert len(truth.videos["a"].segments) == 1
    assert truth.ambiguous.values.tolist() == [["a", 3, 4, "Ambiguous"], ["b", 5, 6, "Ambiguous"]]
    assert truth.notes == (
        f"{path}: 2 segments of class Ambiguous set aside: no class to learn or to score",
    )


FINITE = "expected a finite number of seconds >= 0"
BAD_VIDEOS = [
    (video([("Run", -1, 2)]), f"found segment start -1, {FINITE}"),
    (video([("Run", "1", "-2")]), f"found segment end '-2', {FINITE}"),
    (video([("Run", math.nan, 2)]), f"found segment start nan, {FINITE}"),
    (video([("Run", 1, "nan")]), f"found segment end 'nan', {FINITE}"),
    (video([("Run", 1, math.inf)]), f"found segment end inf, {FINITE}"),
    (video([("Run", "one", 2)]), f"found segment start 'one', {FINITE}"),
    (video([("Run", 1, 10**400)]), "found segment end 1000000"),
    (video([("Run", None, 2)]), f"found segment start None, {FINITE}"),
    (video([("Run", True, 2)]), f"found segment start True, {FINITE}"),
    (
        {"subset": "test", "annotations": [{"label": "Run", "segment": [1, 2, 3]}]},
        "found segment [1, 2, 3], expected [start, end]",
    ),
    (
        {"subset": "test", "annotations": [{"label": "Run", "segment": "12"}]},
        "found segment '12', expected [start, end]",
    ),
    (
        {"subset": "test", "annotations": [{"label_id": 3, "segment": [1, 2]}]},
        "found the annotation {'label_id': 3, 'segment': [1, 2]}, expected 'label': its "
        "class, and 'segment': [start, end]",
    ),
    ({"subset": "test", "annotations": [["Run", 1, 2]]}, "found the annotation ['Run', 1, 2]"),
    (video([("", 1, 2)]), "found label '', expected a text that is not empty"),
    (video([("  ", 1, 2)]), "found label '  ', expected a text that is not empty"),
    (video([("a\0b", 1, 2)]), "expected a text without NUL"),
    (video([("a\rb", 1, 2)]), "expected a text without NUL"),
    (video([("a\ud800", 1, 2)]), "expected a text without NUL"),
    (video([(3, 1, 2)]), "found label 3, expected a text that is not empty"),
    ({"annotations": []}, "found subset None, expected a text that is not empty"),
    ({"subset": "test", "anotations": []}, "expected an object with a list 'annotations'"),
    (3, "found 3, expected an object with a list 'annotations'"),
    ({"subset": "test", "annotations": {}}, "expected an object with a list 'annotations'"),
    (video(duration=0), "found duration 0, expected seconds above 0"),
    (video(duration=-1.5), f"found duration -1.5, {FINITE}"),
    (video(duration="long"), f"found duration 'long', {FINITE}"),
    (video(duration=[3]), f"found duration [3], {FINITE}"),
]


@told("bad, found", BAD_VIDEOS)
def test_a_bad_video_is_one_line_that_names_it(tmp_path, bad, found):
    path = write_json(tmp_path / "gt.json", {"good": video([("Run", 1, 2)]), "video_7": bad})
    line = line_of(load, path)
    assert line.startswith(f"{path}: video_7: ") and found in line


BAD_JSON = [
    ({"results": {}}, "found the keys ['results'], expected a JSON object with 'database'"),
    ([1, 2], "found a list, expected a JSON object with 'database'"),
    ({"database": []}, "found the keys ['database'], expected a JSON object"),
    ({"database": {}}, "found no video"),
    ({"database": {" ": video()}}, "found video name ' '"),
    ({"database": {"a": video()}}, "found no label, expected at least one class"),
]


@told("content, found", BAD_JSON)
def test_json_that_is_no_annotation_is_one_line(tmp_path, content, found):
    (tmp_path / "gt.json").write_text(json.dumps(content))
    line = line_of(load, tmp_path / "gt.json")
    assert line.startswith(f"{tmp_path / 'gt.json'}: ") and found in line


def test_a_video_given_twice(tmp_path):
    (tmp_path / "gt.json").write_text('{"database": {"v": {}, "v": {}}}')
    assert f"{tmp_path / 'gt.json'}: v: found this name twice" in line_of(
        load, tmp_path / "gt.json"
    )


# ------------------------------------------------ labels without times, and other dialects of JSON


def labels_of(truth):
    return {name: (v.subset, v.labels, v.segments.tolist()) for name, v in truth.videos.items()}


@pytest.mark.parametrize(
    "how",
    [
        {"annotations": [{"label": "Run"}, {"label": "Dive"}]},
        {"annotations": [{"label": "Run", "segment": None}, {"label": "Dive", "segment": []}]},
        {"annotations": [], "labels": ["Run", "Dive"]},
        {"labels": ["Run", "Dive", "Run"]},
        {"label": ["Dive", "Run"], "annotations": None},
        {"annotations": [{"class": "Run"}, {"type": "Dive"}]},
    ],
)
def test_labels_without_times(tmp_path, how):
    path = write_json(
        tmp_path / "gt.json",
        {"a": {"subset": "train", **how}, "b": video([("Run", 1, 2)], duration=9)},
    )
    truth = load(path)
    assert labels_of(truth) == {
        "a": ("train", ("Dive", "Run"), []),
        "b": ("test", ("Run",), [[1, 2]]),
    }
    assert truth.notes == ()
    assert table(truth.videos.values()).values.tolist() == [["b", 1, 2, "Run"]]
    assert annotations.choose_subsets(truth) == ("train", "test")


def test_one_label_as_text_and_timed_beside_untimed_labels(tmp_path):
    truth = load_json(
        tmp_path,
        {
            "a": {"subset": "train", "label": "Run"},
            "b": {
                "subset": "train",
                "annotations": [{"label": "Run", "segment": [1, 2]}, {"label": "Dive"}],
                "label": "Not me",
            },
            "c": {"subset": "test", "labels": ["Run", "Dive"], "segments": [[1, 2], ["3", 4]]},
        },
    )
    assert labels_of(truth) == {
        "a": ("train", ("Run",), []),
        "b": ("train", ("Dive", "Run"), [[1, 2]]),
        "c": ("test", ("Dive", "Run"), [[1, 2], [3, 4]]),
    }
    assert truth.videos["c"].segment_labels == ("Run", "Dive")


def test_test_videos_without_annotations(tmp_path):
    truth = load_json(
        tmp_path,
        {
            "a": {"subset": "train", "label": "Run"},
            "b": {"subset": "test"},
            "c": {"subset": "test", "duration": 5, "annotations": []},
        },
    )
    assert labels_of(truth) == {
        "a": ("train", ("Run",), []),
        "b": ("test", (), []),
        "c": ("test", (), []),
    }
    assert annotations.choose_subsets(truth) == ("train", "test")
    assert len(table(in_subset(truth, "test"))) == 0
    assert annotations.scoring_note("gt.json", "test", in_subset(truth, "test")) == (
        "gt.json: none of the 2 videos of subset 'test' has a segment: detections are "
        "written, and there is no table of mAP"
    )


def test_how_many_test_videos_can_be_scored(tmp_path):
    truth = load_json(tmp_path, {"a": video([("Run", 1, 2)]), "b": video(), "c": video()})
    videos = in_subset(truth, "test")
    assert annotations.scoring_note("gt.json", "test", videos) == (
        "gt.json: 1 of 3 videos of subset 'test' have segments; detections in the other 2 "
        "count as false positives "
        "(--exclude-video leaves videos out)"
    )
    assert annotations.scoring_note("gt.json", "test", videos[:1]) is None


def test_videos_at_the_top_as_bsn_and_mmaction2_have_them(tmp_path):
    path = tmp_path / "anet_anno_val.json"
    path.write_text(
        json.dumps(
            {
                "v_b": {
                    "duration_second": 9.5,
                    "duration_frame": 285,
                    "feature_frame": 272,
                    "fps": 30,
                    "annotations": [{"segment": [1, 2.5], "label": "Run"}],
                },
                "v_a": {"duration_second": 7, "annotations": []},
            }
        )
    )
    truth = load(path)
    assert labels_of(truth) == {"v_b": ("val", ("Run",), [[1, 2.5]]), "v_a": ("val", (), [])}
    assert [v.duration for v in truth.videos.values()] == [9.5, 7]
    path = path.rename(tmp_path / "anno.json")
    assert [v.subset for v in load(path).videos.values()] == ["", ""]
    assert "found the subsets (none given), expected one to train and one to test on" in line_of(
        annotations.choose_subsets, load(path)
    )


def test_a_folder_with_a_file_per_subset(tmp_path):
    for subset, name in (("train", "b"), ("val", "a")):
        (tmp_path / f"anet_anno_{subset}.json").write_text(
            json.dumps(
                {name: {"duration_second": 9, "annotations": [{"segment": [1, 2], "label": "Run"}]}}
            )
        )
    (tmp_path / "classes.json").write_text("[]")
    (tmp_path / "list_test.txt").write_text("a\n")  # THUMOS14's files have such names, too
    (tmp_path / "._anet_anno_val.json").write_text("Mac OS X")
    truth = load(tmp_path)
    assert labels_of(truth) == {
        "b": ("train", ("Run",), [[1, 2]]),
        "a": ("val", ("Run",), [[1, 2]]),
    }
    assert annotations.choose_subsets(truth) == ("train", "val")
    assert table(truth.videos.values())["video"].tolist() == ["b", "a"]
    (tmp_path / "more_test.csv").write_text("video,label\nb,Run\n")
    assert (
        line_of(load, tmp_path)
        == f"{tmp_path}: b: found this video twice, expected it once, in one subset"
    )


def test_charades_as_json(tmp_path):
    (tmp_path / "charades.json").write_text(
        json.dumps(
            {
                "46GP8": {
                    "subset": "training",
                    "duration": 24.83,
                    "actions": [[92, 11.9, 21.2], [147, 0.0, 12.6]],
                },
                "N11GT": {"subset": "testing", "duration": 18.33, "actions": [["c092", 1, 2]]},
                "0IH69": {"subset": "testing", "duration": 30, "actions": []},
            }
        )
    )
    truth = load(tmp_path / "charades.json")
    assert labels_of(truth) == {
        "46GP8": ("training", ("147", "92"), [[11.9, 21.2], [0, 12.6]]),
        "N11GT": ("testing", ("c092",), [[1, 2]]),
        "0IH69": ("testing", (), []),
    }
    assert truth.videos["46GP8"].segment_labels == ("92", "147")
    assert truth.videos["46GP8"].duration == 24.83


def test_charades_as_csv(tmp_path):
    header = (
        "id,subject,scene,quality,relevance,verified,script,objects,descriptions,actions,length\n"
    )
    (tmp_path / "Charades_v1_train.csv").write_text(
        header + '46GP8,HR43,Kitchen,6,7,Yes,"A person; cooking, slowly.",food,x,'
        "c092 11.90 21.20;c147 0.00 12.60,24.83\n"
    )
    (tmp_path / "Charades_v1_test.csv").write_text(header + "0IH69,HR43,Hall,6,7,No,s,o,d,,30.0\n")
    truth = load(tmp_path)
    assert labels_of(truth) == {
        "0IH69": ("test", (), []),
        "46GP8": ("train", ("c092", "c147"), [[11.9, 21.2], [0, 12.6]]),
    }
    assert [v.duration for v in truth.videos.values()] == [30, 24.83]
    assert annotations.choose_subsets(truth) == ("train", "test")


BAD_DIALECTS = [
    (
        {"a": {"actions": [[92, 11.9]]}},
        "a: found the action [92, 11.9], expected [class, start, end]",
    ),
    ({"a": {"actions": {}}}, "a: found actions {}, expected an object with a list 'actions'"),
    ({"a": {"actions": [[92, 3, "x"]]}}, "a: found segment end 'x', expected a finite number"),
    ({"a": {"labels": ["Run"], "segments": [[1, 2], [3, 4]]}}, "expected as many of both"),
    ({"a": {"labels": [3]}}, "a: found label 3, expected a text"),
    (
        {"a": {"labels": ["Run"]}, "b": 3},
        "b: found 3, expected an object with a list 'annotations'",
    ),
    (
        {"a": {"annotations": [{"label": "Run", "start": 3}]}},
        "a: found segment end None, expected a finite number",
    ),
    (
        {"a": {"annotations": [{"label": "Run", "segment(frames)": [30, 60]}]}},
        "expected 'segment': [start, end] in seconds",
    ),
    (
        {"a": {"annotations": [{"label": "Run", "startFrame": 30}]}},
        "expected 'segment': [start, end] in seconds",
    ),
    (
        {"a": {"annotations": [{"label": "Run", "segment": 0}]}},
        "a: found segment 0, expected [start, end]",
    ),
]


@pytest.mark.parametrize("content, found", BAD_DIALECTS)
def test_a_bad_video_of_another_dialect_is_one_line(tmp_path, content, found):
    (tmp_path / "gt.json").write_text(json.dumps(content))
    line = line_of(load, tmp_path / "gt.json")
    assert line.startswith(f"{tmp_path / 'gt.json'}: ") and found in line


# ----------------------------------------------------------------------- times that are no seconds


def test_segments_in_frames_are_recognised(tmp_path):
    def problem(scale, duration=20, durations=None):
        path = write_json(
            tmp_path / "gt.json",
            {
                f"v{i}": video(
                    [("Run", scale * start, scale * (start + 3)) for start in range(i, 12, 3)],
                    duration=duration,
                )
                for i in range(3)
            },
        )
        return annotations.time_unit_problem("gt.json", load(path).videos.values(), durations)

    assert problem(1) is None and problem(1.9) is None
    assert problem(30) == (
        "gt.json: found 12 of 12 segments past the end of their video (such as v2: a "
        "segment ends at 420, the video at 20 "
        "s), expected seconds: are these frames (divide them by the frames per second) or "
        "milliseconds? If they are "
        "seconds, the durations are wrong"
    )
    assert "found 12 of 12 segments" in problem(1000)
    # without durations in the file, those of the clips are held against them
    assert problem(30, None) is None and problem(1, None, {f"v{i}": 20 for i in range(3)}) is None
    assert "the video at 20 s" in problem(30, None, {f"v{i}": 20 for i in range(3)})


def test_a_few_segments_past_the_end_are_no_frames(tmp_path):
    path = write_json(
        tmp_path / "gt.json",
        {
            "a": video([("Run", 1, 2), ("Run", 3, 90)], duration=10),
            "b": video([("Run", 1, 10.3)], duration=10),
        },
    )
    videos = load(path).videos
    assert annotations.time_unit_problem("gt.json", videos.values()) is None
    # 0.3 s past the end is no unit
    assert annotations.time_unit_problem("gt.json", [videos["b"]]) is None
    assert annotations.time_unit_problem("gt.json", []) is None


# ------------------------------------------------------------------------------------------ W-TALC


def test_wtalc_folder_and_its_two_kinds_of_labels(tmp_path):
    folder = write_wtalc(tmp_path / "annotations")
    truth = load(folder)
    assert list(truth.videos) == wtalc_names(folder) == ["v_b", "v_a", "v_c"]
    assert truth.classes == ("Dive", "Run", "Swim")
    b, a, c = truth.videos.values()
    assert (b.subset, b.duration, b.segment_labels, b.labels, c.labels) == (
        "validation",
        10,
        ("Run", "Dive"),
        ("Dive", "Run"),
        (),
    )
    assert b.segments.tolist() == [[1, 2.5], [3, 4]] and c.segments.shape == (0, 2)
    disagree = "labels_all.npy and the segments' labels disagree on 2 videos (1 test, 1 validation)"
    assert truth.notes == (f"{folder}: {disagree}; using the segments' labels",)

    truth = load(folder, video_labels="labels_all")
    assert [v.labels for v in truth.videos.values()] == [("Run",), ("Run",), ("Swim",)]
    assert truth.videos["v_b"].segment_labels == ("Run", "Dive")
    assert truth.notes == (f"{folder}: {disagree}; using labels_all.npy",)


def test_wtalc_arrays_of_other_make(tmp_path):
    """Columns as users' own tools write them: text for bytes, arrays for lists, one segment
    per video as one array."""
    one = np.array([[[1, 2]], [[3, 4]], [[5, 6]]], dtype=np.float32)
    folder = write_wtalc(
        tmp_path / "a",
        videoname=np.array(["v_b", "v_a", "v_c"], dtype=object),
        segments=one,
        labels=np.array([[b"Run"], [b"Run"], [b"Dive"]]),
        duration=None,
        labels_all=None,
    )
    truth = load(folder)
    assert truth.videos["v_c"].segments.tolist() == [[5, 6]]
    assert truth.videos["v_c"].labels == ("Dive",)
    assert truth.videos["v_c"].duration is None and truth.notes == ()
    (folder / "Ambiguous_test.txt").write_text("v_a  1 2\n")
    assert load(folder).ambiguous.values.tolist() == [["v_a", 1, 2, "Ambiguous"]]


def test_wtalc_anonymous_names_have_an_alias(tmp_path):
    url = b"https://www.youtube.com/watch?v="
    folder = write_wtalc(
        tmp_path / "a", url=np.array([url + b"--0edUL8zmA", url + b"a_B-c123456&t=3", b"gone"])
    )
    assert [(v.name, v.alias) for v in load(folder).videos.values()] == [
        ("v_b", "--0edUL8zmA"),
        ("v_a", "a_B-c123456"),
        ("v_c", None),
    ]


def test_wtalc_videos_without_times(tmp_path):
    folder = write_wtalc(tmp_path / "a", segments=objects([], [[5.0, 6.0]], []), labels_all=None)
    assert [(v.labels, len(v.segments)) for v in load(folder).videos.values()] == [
        (("Dive", "Run"), 0),
        (("Run",), 1),
        ((), 0),
    ]
    (folder / "segments.npy").unlink()
    assert [(v.labels, len(v.segments)) for v in load(folder).videos.values()] == [
        (("Dive", "Run"), 0),
        (("Run",), 0),
        ((), 0),
    ]


def test_names_of_python_2_are_utf_8_where_they_can_be(tmp_path):
    """Python 2 pickled text as bytes (opcode U), without saying in which encoding."""
    for code in ("utf-8", "latin1"):
        text = "Löwe".encode(code)
        pickled = pickle.dumps(objects(["Run"], ["NAME"], []), 2)
        python_2 = pickled.replace(b"X\x04\x00\x00\x00NAME", b"U" + bytes([len(text)]) + text)
        assert python_2 != pickled
        folder = write_wtalc(
            tmp_path / code,
            classlist=np.array(["Run".encode(), text]),
            segments=objects([[1, 2]], [[3, 4]], []),
            labels_all=None,
        )
        with open(folder / "labels.npy", "wb") as file:
            header = {"descr": "|O", "fortran_order": False, "shape": (3,)}
            np.lib.format.write_array_header_1_0(file, header)
            file.write(python_2)
        assert [v.labels for v in load(folder).videos.values()] == [("Run",), ("Löwe",), ()]


BAD_WTALC = [
    ({"subset": None}, "subset.npy: found no such file"),
    ({"classlist": None}, "classlist.npy: found no such file"),
    ({"subset": np.array([b"test"])}, "subset.npy: found shape (1,), expected 3 entries"),
    ({"duration": np.array(3.0)}, "duration.npy: found shape (), expected 3 entries"),
    ({"videoname": np.array([b"v", b"w", b"v"])}, "videoname.npy: v: found this video 2 times"),
    ({"videoname": np.array([b"v", b"", b"w"])}, "videoname.npy: entry 1: found name ''"),
    ({"videoname": np.arange(3)}, "videoname.npy: entry 0: found name 0"),
    ({"classlist": np.array([b"Run", b"Dive", b"Run"])}, "with a class twice"),
    (
        {"classlist": np.array([b"Run"])},
        "v_b: found label 'Dive', expected a class of the class list",
    ),
    ({"labels_all": objects(["Run"], ["Fly"], [])}, "v_a: found label 'Fly' in labels_all.npy"),
    (
        {"labels_all": objects(["Run"], "Run", [])},
        "labels_all.npy: v_a: found 'Run', expected a list",
    ),
    ({"labels": objects(["Run"], ["Run"], [])}, "v_b: found 2 segments and 1 labels"),
    ({"segments": objects(3, [[1, 2]], [])}, "segments.npy: v_b: found 3, expected a list"),
    (
        {"labels": objects(["Run", "Dive"], "Run", [])},
        "labels.npy: v_a: found 'Run', expected a list",
    ),
    (
        {"labels": objects(["Run", "Dive"], np.array("Run"), [])},
        "labels.npy: v_a: found an array () of <U3, expected a list",
    ),
    (
        {"segments": objects([[1, 2], np.array(3)], [[1, 2]], [])},
        "v_b: found segment an array () of int64, expected [start, end]",
    ),
    (
        {"segments": objects([[1, 2], [1, np.complex64(2)]], [[1, 2]], [])},
        "2+0j), expected a finite number of seconds",
    ),
    ({"segments": objects([1, 2], [[1, 2]], [])}, "v_b: found segment 1, expected [start, end]"),
    ({"duration": np.array([1, np.nan, 2])}, "v_a: found duration nan"),
    (
        {"segments": objects([[1, 2], ["2014-01-01", 3]], [[1, 2]], [])},
        "v_b: found segment start '2014-01-01'",
    ),
]


@told("changes, found", BAD_WTALC)
def test_a_bad_wtalc_folder_is_one_line(tmp_path, changes, found):
    folder = write_wtalc(tmp_path / "annotations", **changes)
    line = line_of(load, folder)
    assert line.startswith(str(folder)) and found in line


def test_a_wtalc_folder_with_a_hostile_pickle(tmp_path):
    folder = write_wtalc(tmp_path / "annotations")
    np.save(
        folder / "segments.npy",
        objects(Evil(pathlib.Path.mkdir, tmp_path / "canary"), [], []),
        allow_pickle=True,
    )
    assert f"{folder / 'segments.npy'}: found a pickle that asks for" in line_of(load, folder)
    assert not (tmp_path / "canary").exists()


# ---------------------------------------------------------------------- the evaluation kit and CSV


def test_evalkit_folder_keeps_the_order_of_the_class_list_and_of_the_files(tmp_path):
    truth = load(write_evalkit(tmp_path / "kit"))
    assert list(truth.videos) == ["video_b", "video_a"]
    assert truth.classes == ("BaseballPitch", "BasketballDunk")
    assert table(in_subset(truth, "test")).values.tolist() == [
        ["video_b", 1, 2, "BasketballDunk"],
        ["video_a", 3, 4, "BasketballDunk"],
        ["video_b", 0.5, 1.5, "BaseballPitch"],
    ]
    assert truth.ambiguous.values.tolist() == [
        ["video_c", 7, 8, "Ambiguous"],
        ["video_b", 9, 9.5, "Ambiguous"],
    ]
    assert truth.videos["video_b"].labels == ("BaseballPitch", "BasketballDunk")
    assert truth.notes == ()


BAD_KIT = [
    ({"BaseballPitch": None}, "BaseballPitch_test.txt: found no such file"),
    ({"Surfing": "video_a 1 2"}, "found Surfing_test.txt, expected only classes of"),
    (
        {"BaseballPitch": "video_a 1\n"},
        "BaseballPitch_test.txt: line 1: found 'video_a 1', expected",
    ),
    (
        {"BaseballPitch": "\nvideo_a 1 x\n"},
        "BaseballPitch_test.txt: video_a: found segment end 'x'",
    ),
    ({"Ambiguous": "video_a -1 2\n"}, "Ambiguous_test.txt: video_a: found segment start '-1'"),
    ({"ids": "BaseballPitch\n"}, "detclasslist.txt: line 1: found 'BaseballPitch'"),
    ({"ids": "8 BaseballPitch\n"}, "line 1: found id 8 for BaseballPitch, expected 7"),
    ({"ids": "7 BaseballPitch\n7 BaseballPitch\n9 BasketballDunk\n"}, "with a class twice"),
    ({"BaseballPitch": "", "BasketballDunk": ""}, "found no video"),
]


@told("changes, found", BAD_KIT)
def test_a_bad_evalkit_folder_is_one_line(tmp_path, changes, found):
    assert found in line_of(load, write_evalkit(tmp_path / "kit", **changes))


def test_an_evalkit_folder_without_ambiguous_segments_says_so(tmp_path):
    folder = write_evalkit(tmp_path / "kit", Ambiguous=None)
    truth = load(folder)
    assert truth.ambiguous.empty and list(truth.ambiguous) == ["video", "t_start", "t_end", "label"]
    assert truth.notes == (
        f"{folder}: no Ambiguous_test.txt, so no detection is excused for lying on an ambiguous "
        f"segment",
    )


@pytest.mark.parametrize("layout", ["one folder", "two folders", "with a class list"])
def test_thumos14_folders_of_both_subsets(tmp_path, layout):
    """The challenge's validation annotation has the files CLASS_val.txt and no class list."""
    folder = tmp_path / "thumos"
    val, test = (
        (folder / "val" / "annotation", folder / "test")
        if layout == "two folders"
        else (folder, folder)
    )
    for place, name, text in (
        (val, "Diving_val", "video_validation_1 1 2\n"),
        (val, "Shotput_val", "video_validation_2 3 4\n"),
        (val, "Ambiguous_val", "video_validation_1 5 6\n"),
        (test, "Diving_test", "video_test_1 1 2\n"),
        (test, "Shotput_test", "video_test_1 0 1\n"),
        (test, "Ambiguous_test", "video_test_1 7 8\n"),
    ):
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{name}.txt").write_text(text)
    if layout == "with a class list":
        (folder / "detclasslist.txt").write_text("79 Shotput\n26 Diving\n")
    if layout == "two folders":
        assert {v.subset for v in load(val).videos.values()} == {"validation"}
        assert load(test).notes == ()
        test.rename(folder / "val" / "test")  # at one depth below the folder that is given
        folder = folder / "val"
    truth = load(folder)
    assert {name: (v.subset, v.labels) for name, v in truth.videos.items()} == {
        "video_validation_1": ("validation", ("Diving",)),
        "video_validation_2": ("validation", ("Shotput",)),
        "video_test_1": ("test", ("Diving", "Shotput")),
    }
    assert annotations.choose_subsets(truth) == ("validation", "test") and truth.notes == ()
    assert truth.ambiguous["video"].tolist() == ["video_validation_1", "video_test_1"]


def test_evalkit_files_that_are_no_utf_8(tmp_path):
    folder = write_evalkit(tmp_path / "kit")
    (folder / "BaseballPitch_test.txt").write_bytes(b"video_\xff 1 2\n")
    assert "BaseballPitch_test.txt: found bytes at 6 that are not UTF-8" in line_of(load, folder)


def test_csv_with_and_without_subset_and_duration(tmp_path):
    path = tmp_path / "gt.csv"
    path.write_text(
        'video,t_start,t_end,label\nb,1,2.5,Run\na,3,4,Dive\n\nb, 5 ,6,"Run, far"\nb,7,7,Run\n'
    )
    truth = load(path)
    assert truth.classes == ("Dive", "Run", "Run, far") and list(truth.videos) == ["b", "a"]
    assert truth.videos["a"].duration is None and truth.videos["a"].subset == ""
    assert "1 zero-length or reversed segment dropped" in truth.notes[0]
    assert table(truth.videos.values()).values.tolist() == [
        ["b", 1, 2.5, "Run"],
        ["a", 3, 4, "Dive"],
        ["b", 5, 6, "Run, far"],
    ]
    assert "found the subsets (none given) (2 videos), expected 'test'" in line_of(
        in_subset, truth, "test"
    )

    path.write_text(
        "\ufefflabel,subset,duration,video,t_end,t_start\r\n"
        "Run,test,9,b,2,1\r\nRun,train,,a,4,3\r\n",
        encoding="utf-8",
    )
    truth = load(path)
    assert truth.videos["b"].duration == 9 and truth.videos["a"].duration is None
    assert [v.name for v in in_subset(truth, "train")] == ["a"]


@pytest.mark.parametrize(
    "header",
    [
        "video, t_start ,t_end,label,subset,duration",
        "video-id,t-start,t-end,label,subset,duration",
        "Video Name,Start,End,Type,Split,Duration (s)",
        "video_id,start_time,end_time,class_name,set,video_duration",
        "\ufefffile;begin;end;action;partition;duration_second",
        "id\tstart (s)\tend (s)\tcategory\tsubset\tduration",
    ],
)
def test_csv_under_its_usual_column_names(tmp_path, header):
    sign = next(sign for sign in ";\t," if sign in header)
    rows = [["a", " 1", "2.5 ", " Run ", "train", "9"], [" b ", "3", "4", "High Jump", "test", "8"]]
    (tmp_path / "gt.csv").write_text(
        "\n".join([header] + [sign.join(row) for row in rows]), encoding="utf-8"
    )
    truth = load(tmp_path / "gt.csv")
    assert labels_of(truth) == {
        "a": ("train", ("Run",), [[1, 2.5]]),
        "b": ("test", ("High Jump",), [[3, 4]]),
    }
    assert [v.duration for v in truth.videos.values()] == [9, 8]


def test_csv_columns_of_frames_beside_those_of_seconds(tmp_path):
    (tmp_path / "gt.csv").write_text(
        "video,type,type_idx,start,end,startFrame,endFrame\na,Run,7,1,2.5,30,75\n"
    )
    assert labels_of(load(tmp_path / "gt.csv")) == {"a": ("", ("Run",), [[1, 2.5]])}
    (tmp_path / "gt.csv").write_text("video,type,startFrame,endFrame\na,Run,30,75\n")
    assert "expected times in seconds: t_start, t_end" in line_of(load, tmp_path / "gt.csv")


@pytest.mark.parametrize(
    "text",
    [
        "video,label,subset\na,Run,train\na,Dive,train\nb,,test\n",
        "name,labels,split\na,Run;Dive,train\nb,,test\n",
        "video,Labels,subset\na, Dive ;Run;,train\nb, ,test\n",
        "video,t_start,t_end,label,subset\na,,,Run,train\na,,,Dive,train\nb,,,,test\n",
    ],
)
def test_csv_of_labels_without_times(tmp_path, text):
    (tmp_path / "gt.csv").write_text(text)
    truth = load(tmp_path / "gt.csv")
    assert labels_of(truth) == {"a": ("train", ("Dive", "Run"), []), "b": ("test", (), [])}
    assert annotations.choose_subsets(truth) == ("train", "test") and truth.notes == ()


@pytest.mark.parametrize("timed", [False, True])
@pytest.mark.parametrize(
    "column, text, expected",
    [
        ("label", "push | pull", ("push | pull",)),
        ("class", "push;pull", ("push;pull",)),
        ("labels", "push | pull", ("push | pull",)),
        ("labels", "push; pull", ("pull", "push")),
        ("label,labels", "push;pull,lift;drop", ("push;pull",)),  # the more usual name counts
    ],
)
def test_labels_are_split_only_in_a_column_of_labels(tmp_path, timed, column, text, expected):
    head, times = ("video,t_start,t_end", ",3,8") if timed else ("video", "")
    (tmp_path / "gt.csv").write_text(f"{head},{column}\na{times},{text}\n")
    segments = [[3, 8]] * len(expected) if timed else []
    assert labels_of(load(tmp_path / "gt.csv")) == {"a": ("", expected, segments)}


HEADER = "video,t_start,t_end,label\n"
BAD_CSV = [
    ("", "found an empty file"),
    (HEADER, "found no video"),
    ("video,t_start,label\na,1,Run\n", "found the columns 'video, t_start, label', expected"),
    ("video,video,t_start,t_end,label\n", "found the columns"),
    ("video,t_start,t_end,label,score\na,1,2,Run,.5\n", "expected a ground truth"),
    ("a,1,2,Run\n", "found the columns 'a, 1, 2, Run', expected a ground truth"),
    (HEADER + "a,1,2\n", "line 2: found 3 fields, expected 4"),
    (HEADER + "a,1,2,Run,x\n", "line 2: found 5 fields, expected 4"),
    (HEADER + "a,1,,Run\n", "a: found segment end ''"),
    ("id,actions,length\na,c092 1.0,9\n", "line 2: found the action 'c092 1.0', expected"),
    ("video,t_start,t_end\na,1,2\n", "or without times video, label[, subset]"),
    (HEADER + ",1,2,Run\n", "line 2: found video name ''"),
    (HEADER + "a,1,2,\n", "a: found label ''"),
    (HEADER + "a,,2,Run\n", "a: found segment start ''"),
    (HEADER + "a,1,NaN,Run\n", "a: found segment end 'NaN'"),
    (HEADER + 'a,1,2,"Run\n', "expected CSV"),
    (
        "video,t_start,t_end,label,duration\na,1,2,Run,9\na,1,2,Run,8\n",
        "a: found subset and duration (None, '8') in line 3, expected (None, '9') as above",
    ),
    ("video,t_start,t_end,label,subset\na,1,2,Run,\n", "a: found subset ''"),
]


@told("text, found", BAD_CSV)
def test_a_bad_csv_is_one_line(tmp_path, text, found):
    (tmp_path / "gt.csv").write_text(text)
    line = line_of(load, tmp_path / "gt.csv")
    assert line.startswith(f"{tmp_path / 'gt.csv'}: ") and found in line


# ---------------------------------------------------------------------------- load, subsets, table


def test_what_load_does_not_know(tmp_path):
    (tmp_path / "gt.txt").write_text("")
    assert "found a file of type .txt, expected .json, .csv or a folder" in line_of(
        load, tmp_path / "gt.txt"
    )
    assert "found no such file" in line_of(load, tmp_path / "missing.json")
    assert "found no such file" in line_of(load, tmp_path / "missing")
    assert "found a folder without annotations, expected videoname.npy" in line_of(load, tmp_path)
    (tmp_path / "folder.json").mkdir()
    assert "found a folder without annotations" in line_of(load, tmp_path / "folder.json")
    path = write_json(tmp_path / "gt.json", {"a": video([("Run", 1, 2)])})
    assert "found no labels_all.npy, expected a W-TALC folder" in line_of(
        load, path, video_labels="labels_all"
    )
    folder = write_wtalc(tmp_path / "w", labels_all=None)
    assert "labels_all.npy: found no such file" in line_of(load, folder, video_labels="labels_all")
    with pytest.raises(ValueError, match="found 'all', expected 'segments' or 'labels_all'"):
        load(path, video_labels="all")


def test_a_folder_that_may_not_be_listed(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.listdir", refuse)
    line = line_of(load, tmp_path)
    monkeypatch.undo()
    assert line == f"{tmp_path}: found Permission denied, expected a folder that can be read"


@pytest.mark.parametrize(
    "asked, expected",
    [
        ("train", ["a"]),
        ("training", ["b"]),
        ("Train", ["a", "b"]),
        ("validation", ["c"]),
        ("VALIDATION", ["c"]),
        ("testing", ["d"]),
        ("extra", ["e"]),
        ("EXTRA", ["e"]),
    ],
)
def test_a_subset_goes_by_its_exact_name_then_by_its_group(tmp_path, asked, expected):
    names = {"a": "train", "b": "training", "c": "val", "d": "Test", "e": "extra"}
    truth = load_json(tmp_path, {k: video([("Run", 1, 2)], s) for k, s in names.items()})
    assert [v.name for v in in_subset(truth, asked)] == expected


def test_a_missing_subset_names_those_there_are(tmp_path):
    path = write_json(
        tmp_path / "gt.json", {"a": video([("Run", 1, 2)]), "b": video(), "c": video(subset="dev")}
    )
    assert (
        line_of(in_subset, load(path), "training")
        == f"{path}: found the subsets 'dev' (1 video), 'test' (2 videos), expected 'training'"
    )


@pytest.mark.parametrize(
    "found, expected",
    [
        ({"train": 1, "test": 1}, ("train", "test")),
        ({"Validation": 1, "Test": 1}, ("Validation", "Test")),
        ({"training": 1, "testing": 0, "validation": 1}, ("training", "validation")),
        ({"train": 0, "val": 1, "test": 1}, ("train", "test")),
        ({"TRAIN": 1, "Testing": 0}, ("TRAIN", "Testing")),
    ],
)
def test_subsets_chosen_by_what_the_dialects_mean(tmp_path, found, expected):
    truth = load_json(tmp_path, {f"v{s}": video([("Run", 1, 2)] * n, s) for s, n in found.items()})
    assert annotations.choose_subsets(truth) == expected
    assert annotations.choose_subsets(truth, "a", "b") == ("a", "b")


def test_subsets_that_leave_nothing_to_train_or_to_test_on(tmp_path):
    for subset, other in (("test", "test"), ("dev", "train"), ("train", "train")):
        path = write_json(
            tmp_path / "gt.json", {"a": video([("Run", 1, 2)], subset), "b": video(subset=other)}
        )
        assert "expected one to train and one to test on" in line_of(
            annotations.choose_subsets, load(path)
        )


def test_the_table_of_nothing_and_of_videos_without_segments(tmp_path):
    truth = load_json(tmp_path, {"a": video(), "b": video([("Run", 1, 2)]), "c": video()})
    for videos, rows in (
        ([], []),
        ([truth.videos["a"]], []),
        (list(truth.videos.values()), [["b", 1, 2, "Run"]]),
    ):
        made = table(videos)
        assert list(made) == ["video", "t_start", "t_end", "label"] and made.values.tolist() == rows
        assert made["t_start"].dtype == made["t_end"].dtype == float
        assert made.index.tolist() == list(range(len(rows)))


def test_videos_made_by_hand_are_tabled_in_their_order():
    videos = [
        annotations.VideoAnnotation(n, "test", None, np.array([[1.0, 2.0]]), (c,), (c,))
        for n, c in ("bX", "aY")
    ]
    assert table(videos).values.tolist() == [["b", 1, 2, "X"], ["a", 1, 2, "Y"]]


def test_damage_at_random_is_read_or_refused_in_one_line(tmp_path):
    rng = np.random.default_rng(0)
    write_json(
        tmp_path / "gt.json",
        {"a": video([("Run", "1", 2.5)], duration=9), "b": video([("Dive", 3, 4)], "dev")},
    )
    (tmp_path / "gt.csv").write_text(
        "video,t_start,t_end,label,subset\na,1,2,Run,test\nb,3,4,Dive,test\n"
    )
    folder, kit = write_wtalc(tmp_path / "wtalc"), write_evalkit(tmp_path / "kit")
    targets = [(tmp_path / "gt.json",) * 2, (tmp_path / "gt.csv",) * 2]
    targets += [(folder, file) for file in sorted(folder.iterdir())] + [
        (kit, file) for file in sorted(kit.iterdir())
    ]
    refused = 0
    for round in range(30 * len(targets)):
        path, file = targets[round % len(targets)]
        original = file.read_bytes()
        data = bytearray(original)
        data[rng.integers(0, len(data))] = rng.integers(0, 256)
        file.write_bytes(data)
        try:
            load(path)
        except InputError as error:
            refused += 1
            assert "\n" not in str(error)
        file.write_bytes(original)
    assert refused > 5 * len(targets)


# ----------------------------------------------------------------------------- the published files

REAL = [
    (
        "thumos14/Thumos14reduced-Annotations",
        20,
        99,
        {"validation": (200, 3007), "test": (212, 3358)},
    ),
    ("thumos14/evalkit-test-annotation", 20, 99, {"test": (212, 3358)}),
    ("thumos14/gt-210test.json", 20, 0, {"train": (200, 3007), "test": (210, 3311)}),
    (
        "activitynet12/ActivityNet1.2-Annotations",
        100,
        0,
        {"training": (4819, 7144), "validation": (2383, 3579)},
    ),
    ("activitynet12/gt-validation.json", 100, 0, {"test": (2383, 3579)}),
    (
        "activitynet12/activity_net.v1-2.min-missing-removed.json",
        100,
        0,
        {"training": (4441, 6582), "validation": (2198, 3278), "testing": (2268, 0)},
    ),
    ("hapt30/annotations.json", 12, 0, {"train": (509, 1176), "test": (206, 505)}),
]


def test_blanks_around_a_name_do_not_count(tmp_path):
    """As in CSV."""
    truth = load_json(tmp_path, {" a\xa0": video([(" Long jump ", 1, 2)])})
    assert (list(truth.videos), truth.classes) == (["a"], ("Long jump",))
    folder = write_wtalc(tmp_path / "w", classlist=np.array([b"Run ", b"Dive", b"Swim"]))
    assert load(folder).classes == ("Dive", "Run", "Swim")


@pytest.mark.slow
@real_data
@pytest.mark.parametrize("path, classes, ambiguous, subsets", REAL, ids=[case[0] for case in REAL])
def test_counts_of_the_published_files(path, classes, ambiguous, subsets):
    truth = load(DATA / path)
    assert len(truth.classes) == classes and list(truth.classes) == sorted(truth.classes)
    assert len(truth.ambiguous) == ambiguous
    assert {v.subset for v in truth.videos.values()} == set(subsets)
    for subset, (videos, segments) in subsets.items():
        chosen = in_subset(truth, subset)
        assert (len(chosen), len(table(chosen))) == (videos, segments)


@pytest.mark.parametrize(
    "name, classes, videos, segments",
    [("thumos14", 20, 212, 3358), ("activitynet12", 100, 2381, 3579)],
)
def test_counts_of_the_published_tables(golden_sets, name, classes, videos, segments):
    truth = load(golden_sets / f"{name}_ground_truth.csv")
    assert (len(truth.classes), len(truth.videos)) == (classes, videos)
    assert len(table(in_subset(truth, ""))) == segments


@pytest.mark.slow
@real_data
def test_the_published_ground_truths_agree_with_each_other(golden_sets):
    kit = load(DATA / "thumos14/evalkit-test-annotation")
    pd.testing.assert_frame_equal(
        table(in_subset(kit, "test")), pd.read_csv(golden_sets / "thumos14_ground_truth.csv")
    )
    ambiguous = pd.read_csv(golden_sets / "thumos14_ambiguous.csv")
    pd.testing.assert_frame_equal(kit.ambiguous, ambiguous)
    activitynet = load(DATA / "activitynet12/gt-validation.json")
    pd.testing.assert_frame_equal(
        table(in_subset(activitynet, "testing")),
        pd.read_csv(golden_sets / "activitynet12_ground_truth.csv"),
    )

    wtalc = load(DATA / "thumos14/Thumos14reduced-Annotations")
    basnet = load(DATA / "thumos14/gt-210test.json")
    assert set(wtalc.videos) - set(basnet.videos) == {"video_test_0000270", "video_test_0001496"}
    assert set(kit.ambiguous["video"]) - set(kit.videos) == {"video_test_0001292"}
    for other in (basnet, kit):
        for name, theirs in other.videos.items():
            ours = wtalc.videos[name]
            assert sorted(zip(ours.segments.tolist(), ours.segment_labels)) == sorted(
                zip(theirs.segments.tolist(), theirs.segment_labels)
            )
            assert ours.labels == theirs.labels

    anonymous = load(DATA / "activitynet12/ActivityNet1.2-Annotations")
    by_alias = {video.alias: video for video in anonymous.videos.values()}
    assert len(by_alias) == 7202
    assert wtalc_names(DATA / "activitynet12/ActivityNet1.2-Annotations")[0] == "video_4"
    for name, theirs in activitynet.videos.items():
        ours = by_alias[name]
        np.testing.assert_array_equal(ours.segments, theirs.segments)
        assert (ours.duration, ours.segment_labels) == (theirs.duration, theirs.segment_labels)
        assert ours.labels == theirs.labels


@pytest.mark.slow
@real_data
def test_what_is_odd_in_the_published_files():
    def notes(path):
        return [note.split(": ", 1)[1] for note in load(DATA / path).notes]

    assert notes("thumos14/Thumos14reduced-Annotations") == [
        "30 segments of 5 videos more than 0.1 s past the video's end, kept (worst: "
        "video_test_0000270, 537.5 s)",
        "labels_all.npy and the segments' labels disagree on 28 videos (20 test, 8 "
        "validation); using the segments' "
        "labels",
    ]
    assert notes("activitynet12/ActivityNet1.2-Annotations") == [
        "10 zero-length or reversed segments dropped (first: video_887 [0, 0]); their "
        "labels still count for the video",
        "1 segment of 1 video more than 0.1 s past the video's end, kept (worst: "
        "video_7654, 0.3 s)",
    ]
    assert notes("activitynet12/gt-validation.json") == [
        "3 zero-length or reversed segments dropped (first: 6kgJx6ahgq0 [0, 0]); their "
        "labels still count for the "
        "video"
    ]
    assert notes("thumos14/gt-210test.json") == notes("thumos14/evalkit-test-annotation") == []


@pytest.mark.slow
@real_data
def test_the_two_labels_of_thumos14_training_videos():
    folder = DATA / "thumos14/Thumos14reduced-Annotations"
    by_segments, by_file = load(folder), load(folder, video_labels="labels_all")
    differing = [
        v.name
        for v in in_subset(by_segments, "validation")
        if v.labels != by_file.videos[v.name].labels
    ]
    assert len(differing) == 8
    assert by_segments.videos["video_validation_0000316"].labels == ("HammerThrow",)
    assert by_file.videos["video_validation_0000316"].labels == ("HammerThrow", "ThrowDiscus")
    assert by_segments.videos["video_test_0000270"].labels == ("HammerThrow",)
    assert by_file.videos["video_test_0000270"].labels == ()  # which labels_all.npy leaves empty


@pytest.mark.slow
@real_data
@pytest.mark.parametrize("protocol", [0, 1, 3, 4, 5])
def test_published_files_saved_again_in_other_pickle_protocols(tmp_path, protocol):
    source, folder = DATA / "thumos14/Thumos14reduced-Annotations", tmp_path / "again"
    shutil.copytree(source, folder)
    for name in ("labels", "segments", "labels_all"):
        array = np.load(source / f"{name}.npy", allow_pickle=True)
        with open(folder / f"{name}.npy", "wb") as file:
            np.lib.format.write_array_header_1_0(
                file, {"descr": "|O", "fortran_order": False, "shape": array.shape}
            )
            pickle.dump(array, file, protocol)
    for video_labels in ("segments", "labels_all"):
        again, first = load(folder, video_labels), load(source, video_labels)
        assert [v.labels for v in again.videos.values()] == [
            v.labels for v in first.videos.values()
        ]
        pd.testing.assert_frame_equal(table(again.videos.values()), table(first.videos.values()))


@pytest.mark.slow
@real_data
def test_the_evaluation_kits_ids_are_those_of_its_class_list():
    lines = (DATA / "thumos14/evalkit-test-annotation/detclasslist.txt").read_text().splitlines()
    assert {name: int(number) for number, name in map(str.split, lines)} == annotations.EVALKIT_IDS
