"""Annotations: each dialect is read as the same tables, what is bad is refused in one line that names
file and video, what is odd is said.
"""

import json
import math
import pickle

import numpy as np
import pandas as pd
import pytest
from errors import refused
from feature_files import objects
from places import SHARED

from formats import annotations
from formats.annotations import choose_subsets, in_subset, load, wtalc_names
from formats.files import InputError

DATA = SHARED / "data"
real_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"no published annotations in {DATA}")


def write(path, content):
    """A file of text, or of anything else as JSON."""
    text = content if isinstance(content, str) else json.dumps(content)
    path.write_text(text, encoding="utf-8", newline="")
    return path


def database(folder, videos):
    return load(write(folder / "gt.json", {"database": videos}))


def video(segments=(), subset="test", **more):
    """A video of ActivityNet JSON from (label, start, end)."""
    parts = [{"label": c, "segment": [a, b]} for c, a, b in segments]
    return {"subset": subset, "annotations": parts} | more


def about(truth):
    """{video: (subset, labels, segments)}."""
    by_video = {name: [] for name in truth.videos.index}
    for name, *times, _ in truth.segments.itertuples(index=False):
        by_video[name].append(times)
    return {
        name: (subset, labels, by_video[name])
        for name, subset, _, labels, _ in truth.videos.itertuples()
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


# ---- one truth in every dialect
ONE = {"a": ("train", ("Run",), [[1, 2.5]]), "b": ("test", ("High Jump",), [[63, 64]])}
RECORDS = """
{"video": "a", "label": "Run", "start": 1, "end": "2.5", "split": "train", "duration": 9},
{"video": "b", "label": "High Jump", "start": "1:03", "end": 64, "split": "test"}"""
HEADERS = [
    "video, t_start ,t_end,label,subset,duration",
    "video-id,t-start,t-end,label,subset,duration",
    "Video Name,Start,End,Type,Split,Duration (s)",
    "video_id,start_time,end_time,class_name,set,video_duration",
    "\ufefffile;begin;end;action;partition;duration_second",
    "id\tstart (s)\tend (s)\tcategory\tsubset\tduration",
]


def csv(header, a=("1", "2.5"), b=("63", "64")):
    sign = next(sign for sign in ";\t," if sign in header)
    rows = [["a", *a, " Run ", "train", "9"], [" b ", *b, "High Jump", "test", ""]]
    return "\n".join([header, *map(sign.join, rows), ""])


FORMS = {
    "activitynet.json": """{"version": "1", "taxonomy": [{"nodeId": 1}], "database": {
        "a": {"subset": "train", "duration": "9", "url": "https://...",
              "annotations": [{"label": "Run", "segment": [1, "2.5"]}]},
        " b\\u00a0": {"subset": "test", "filename": "x.mp4",
                "annotations": [{"label": " High Jump ", "segment": ["0:01:03.0", "01:04"]}]}}}""",
    "keys.json": """{
        "a": {"set": "train", "duration_sec": 9,
              "annotation": [{"type": "Run", "t-start": 1, "t-end": 2.5}]},
        "b": {"set": "test", "class": "other", "actions": [["High Jump", 63, 64]]}}""",
    "parallel.json": """{
        "a": {"subset": "train", "duration": 9, "labels": ["Run"], "segments": [[1, 2.5]]},
        "b": {"subset": "test", "labels": ["High Jump"], "segments": [["1:03", 64]]}}""",
    "records.json": f"[{RECORDS}]",
    "wrapped.json": f'{{"annotations": [{RECORDS}], "classes": ["Run", "High Jump"]}}',
    "lines.jsonl": "\ufeff" + RECORDS.replace("},", "}\n\n"),
    "clips.json": """{"videos": [
        {"video_uid": "a", "split": "train", "duration": 9, "clips": [
            {"clip_uid": "x", "annotations": []},
            {"clip_uid": "y", "annotations": [
                {"labels": [{"id": 1, "label": "Run", "start": 1, "end": 2.5}]}]}]},
        {"video_uid": "b", "split": "test",
         "instances": [{"label": "High Jump", "timestamps": [63, 64]}]}]}""",
    **{f"header{i}.csv": csv(header) for i, header in enumerate(HEADERS)},
    "comma.csv": csv(HEADERS[4], ("1", "2,5"), ("63,0", "64,0")),
    "clock.csv": csv(HEADERS[0], ("0:01", "00:02.5"), ("0:01:03.00", "1:04")),
    "blank.csv": csv(HEADERS[0]).replace("\n", "\r\n\r\n") + " , ,,,,\n",
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_is_read_as_the_same_tables(tmp_path, name, warned):
    truth = load(write(tmp_path / name, FORMS[name]))
    assert about(truth) == ONE and truth.classes == ("High Jump", "Run")
    assert truth.videos["duration"].fillna(-1).tolist() == [9, -1]
    assert truth.segments.values.tolist() == [["a", 1, 2.5, "Run"], ["b", 63, 64, "High Jump"]]
    assert truth.path == str(tmp_path / name) and truth.ambiguous.empty and warned() == []


@pytest.mark.parametrize("code", ["utf-16", "utf-32", "utf-8-sig"])
@pytest.mark.parametrize("name", ["activitynet.json", f"header{len(HEADERS) - 1}.csv"])
def test_encodings(tmp_path, name, code):
    path = write(tmp_path / name, FORMS[name])
    path.write_text(path.read_text("utf-8"), encoding=code)
    assert about(load(path)) == ONE


def test_numbers_are_names_and_a_list_of_labels_is_several_labels(tmp_path):
    truth = database(
        tmp_path,
        {
            "1": {"subset": 0, "actions": [[92, 11.9, 21.2], [147, 0, 12.6]]},
            "2": {"subset": 1.0, "label": 0, "duration": 8},
            "3": {"subset": 1, "annotations": [{"label": [0, "Run"], "segment": [1, 2]}]},
        },
    )
    assert about(truth) == {
        "1": ("0", ("147", "92"), [[11.9, 21.2], [0, 12.6]]),
        "2": ("1", ("0",), []),
        "3": ("1", ("0", "Run"), [[1, 2], [1, 2]]),
    }
    assert truth.segments["label"].tolist() == ["92", "147", "0", "Run"]
    records = [{"video": 7, "label": 0, "subset": 0}]
    assert about(load(write(tmp_path / "r.json", records))) == {"7": ("0", ("0",), [])}


@pytest.mark.parametrize(
    "how",
    [
        '"annotations": [{"label": "Run"}, {"label": "Dive"}]',
        '"annotations": [{"label": "Run", "segment": null}, {"label": "Dive", "segment": []}]',
        '"annotations": [{"class": "Run"}, {"type": "Dive"}], "label": "Not me"',
        '"annotations": [], "labels": ["Run", "Dive"]',
        '"annotations": null, "label": ["Dive", "Run"]',
        '"labels": ["Run", "Dive", "Run"], "segments": []',
        "video,label,subset\na,Run,train\na,Dive,train\nb,,test\n",
        "name,labels,split\na,Run;Dive,train\nb,,test\n",
        "video,Labels,subset\na, Dive ;Run;,train\nb, ,test\n",
        "video,t_start,t_end,label,subset\na,,,Run,train\na,,,Dive,train\nb,,,,test\n",
    ],
)
def test_labels_without_times(tmp_path, how, warned):
    path, content = tmp_path / "gt.csv", how
    if how.startswith('"'):
        path = tmp_path / "gt.json"
        content = f'{{"a": {{"subset": "train", {how}}}, "b": {{"subset": "test"}}}}'
    truth = load(write(path, content))
    assert about(truth) == {"a": ("train", ("Dive", "Run"), []), "b": ("test", (), [])}
    assert truth.videos["untimed"]["b"] == 0 and warned() == []
    assert choose_subsets(truth) == (("train",), ("test",))


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
    write(tmp_path / "gt.csv", f"{head},{column}\na{times},{text}\n")
    segments = [[3, 8]] * len(expected) if timed else []
    assert about(load(tmp_path / "gt.csv")) == {"a": ("", expected, segments)}


def test_a_folder_with_a_file_per_subset(tmp_path, warned):
    bsn = {"duration_second": 9.5, "duration_frame": 285, "feature_frame": 272, "fps": 30}
    run = {**bsn, "annotations": [{"segment": [1, 2], "label": "Run"}]}
    write(tmp_path / "anet_anno_train.json", {"v_b": run})
    write(tmp_path / "anet_anno_val.json", {"v_a": run, "v_c": {**bsn, "annotations": []}})
    write(tmp_path / "classes.json", "[]")
    write(tmp_path / "list_test.txt", "a\n")  # THUMOS14's files have such names, too
    write(tmp_path / "._anet_anno_val.json", "Mac OS X")
    truth = load(tmp_path)
    assert about(truth) == {
        "v_b": ("train", ("Run",), [[1, 2]]),
        "v_a": ("val", ("Run",), [[1, 2]]),
        "v_c": ("val", (), []),
    }
    assert truth.videos["duration"].tolist() == [9.5] * 3 and warned() == []
    assert choose_subsets(truth) == (("train",), ("val",))
    assert truth.segments["video"].tolist() == ["v_b", "v_a"]
    write(tmp_path / "more_test.csv", "video,label\nv_b,Run\n")
    assert "'train' and 'test'" in refused(load, tmp_path).found
    path = (tmp_path / "anet_anno_val.json").rename(tmp_path / "anno.json")
    assert load(path).videos["subset"].tolist() == ["", ""]


def test_charades_as_csv(tmp_path):
    header = "id,subject,scene,script,objects,descriptions,actions,length\n"
    actions = "c092 11.90 21.20;c147 0.00 12.60"
    row = f'46GP8,HR43,Kitchen,"A person; cooking, slowly.",food,x,{actions},24.83\n'
    write(tmp_path / "Charades_v1_train.csv", header + row)
    write(tmp_path / "Charades_v1_test.csv", header + "0IH69,HR43,Hall,s,o,d,,30.0\n")
    truth = load(tmp_path)
    assert about(truth) == {
        "0IH69": ("test", (), []),
        "46GP8": ("train", ("c092", "c147"), [[11.9, 21.2], [0, 12.6]]),
    }
    assert truth.videos["duration"].tolist() == [30, 24.83]


def test_only_some_videos_of_all(tmp_path):
    truth = database(
        tmp_path,
        {
            "b": video([("Run", 1, 2), ("Dive", 0, 1)]),
            "a": video(),
            "c": video([("Run", 5, 6)], "x"),
        },
    )
    part = truth.only(["c", "a"])
    assert list(part.videos.index) == ["a", "c"] and part.classes == truth.classes
    assert part.segments.values.tolist() == [["c", 5, 6, "Run"]]
    assert part.segments.index.tolist() == [0]
    none = truth.only([]).segments
    assert list(none) == ["video", "t_start", "t_end", "label"] and none["t_end"].dtype == float


# ---- what is odd
def test_odd_segments_are_dropped_or_kept_and_counted(tmp_path, warned):
    truth = database(
        tmp_path,
        {
            "a": video([("Run", 2, 2), ("Dive", 3, 1), ("Run", 1, 2)], duration=2),
            "b": video([("Swim", 0, 0)], duration=9),
            "c": video([("Run", 8, 12), ("Run", 1, 11.5), ("Run", 1, 10.05)], duration=10),
        },
    )
    dropped, late = warned()
    assert "3 zero-length" in dropped and "a [2, 2]" in dropped
    assert "2 segments of 1 video" in late and "c, 2.0 s" in late
    assert about(truth) == {
        "a": ("test", ("Dive", "Run"), [[1, 2]]),
        "b": ("test", ("Swim",), []),
        "c": ("test", ("Run",), [[8, 12], [1, 11.5], [1, 10.05]]),
    }
    assert truth.classes == ("Dive", "Run", "Swim")


def test_ambiguous_segments_are_no_class(tmp_path, warned):
    truth = database(
        tmp_path,
        {"a": video([("Run", 1, 2), ("Ambiguous", 3, 4)]), "b": video([("Ambiguous", 5, 6)])},
    )
    assert truth.classes == ("Run",) and truth.videos["labels"].tolist() == [("Run",), ()]
    assert len(truth.segments) == 1
    assert truth.ambiguous.values.tolist() == [["a", 3, 4], ["b", 5, 6]]
    assert "2 segments of class Ambiguous" in warned()[0]


def test_a_duration_that_cannot_be_is_doubted(tmp_path, warned):
    years = 3 * 365 * 86400
    truth = database(
        tmp_path, {"a": video([("Run", 1, 2)], duration=86400), "b": video(duration=years)}
    )
    assert truth.videos["duration"].fillna(-1).tolist() == [86400, -1]
    (line,) = warned()
    assert "1 duration " in line and "b: 1.1e+03 days" in line


@pytest.mark.parametrize(
    "key, parts",
    [
        ("segmnt", {"a": [{"label": "Run", "segmnt": [1, 2]}]}),
        ("satrt", {"a": [{"label": "Run", "satrt": 1, "ned": 2}]}),
        ("subst", {"a": {"subst": "test", "label": "Run"}}),
        ("durtion", {"a": {"durtion": 8, "label": "Run"}}),
    ],
)
def test_a_name_that_is_nearly_one_of_ours_is_named(tmp_path, key, parts, warned):
    truth = load(write(tmp_path / "gt.json", parts))
    assert truth.videos["labels"].tolist() == [("Run",)] and len(truth.segments) == 0
    (line,) = warned()
    assert f"gt.json: found the name '{key}'" in line


def test_names_that_are_nearly_another_are_named(tmp_path, warned):
    names = {"training": 2, "trainng": 1, "fold1": 1, "fold2": 2, "Train": 1}
    videos = {f"{s}{i}": video([("Run", 1, 2)], s) for s, n in names.items() for i in range(n)}
    database(tmp_path, videos)
    (line,) = warned()
    assert "1 video in the subset 'trainng'" in line and "is it training?" in line
    database(tmp_path, {"a": video([("High jump", 1, 2), ("HighJump", 1, 2), ("Run", 1, 2)])})
    (line,) = warned()
    assert "'High jump', 'HighJump'" in line and "Run" not in line


# ---- what is refused
NO_NAMES = ["", "  ", "a\0b", "a\rb", "a\nb", "a\x1b[31m", "a\u2028b", "a\ud800", "x" * 501, True]
BAD_VIDEOS = [
    (video([("Run", -1, 2)]), "[-1, 2]"),
    (video([("Run", "1", "-2")]), "[1, -2]"),
    *((video([("Run", bad, 2)]), "start") for bad in (math.nan, "one", None, True, "1_0", "1:60")),
    *((video([("Run", 1, bad)]), "end") for bad in ("nan", math.inf, 10**400, "1:60:00", "", {})),
    *((video(annotations=[{"label": "x", "segment": bad}]), "segment") for bad in ([1, 2, 3], 0)),
    *((video(annotations=[{"label": "x", "segment": bad}]), "segment") for bad in ("12", [[1, 2]])),
    (video(annotations=[{"label": "Run", "start": 3}]), "end None"),
    (video(annotations=[{"label_id": 3, "segment": [1, 2]}]), "label_id"),
    (video(annotations=[{"segment": [1, 2]}]), "label"),
    *((video([(bad, 1, 2)]), "label") for bad in (*NO_NAMES, math.nan, {"a": 1})),
    ({"annotations": []}, "subset"),
    (video(subset=None), "subset"),
    ({"subset": "test", "anotations": []}, "anotations"),
    (3, "3"),
    *(({"subset": "test", key: {}}, key) for key in ("annotations", "actions")),
    (video(annotations=["Run"]), "Run"),
    *((video(duration=bad), "duration") for bad in (0, -1.5, "long", [3], True)),
    ({"subset": "test", "actions": [[92, 11.9]]}, "[92, 11.9]"),
    ({"subset": "test", "labels": ["Run"], "segments": [[1, 2], [3, 4]]}, "[[1, 2], [3, 4]]"),
]


@pytest.mark.parametrize("bad, found", BAD_VIDEOS)
def test_a_bad_video_is_one_line_that_names_it(tmp_path, bad, found):
    path = write(tmp_path / "gt.json", {"database": {"ok": video([("Run", 1, 2)]), "vid_7": bad}})
    error = refused(load, path)
    assert error.where.startswith(f"{path}: vid_7") and found in error.found


DEEP = {"labels": [{"label": "x"}]}
for _ in range(200):
    DEEP = {"annotations": [DEEP]}
BAD_JSON = [
    ([1, 2], "record 1", "1"),
    ([{"video": "a", "label": "x"}, {"vidoe": "b", "label": "x"}], "record 2", "vidoe"),
    ([{"video": " ", "label": "x"}], "record 1", "' '"),
    ([["a", 1, 2, "x"]], "record 1", "['a', 1, 2, 'x']"),
    ({"database": []}, "gt.json", "no video"),
    ({"database": {}}, "gt.json", "no video"),
    ({}, "gt.json", "{}"),
    ("7", "gt.json", "7"),
    ({"database": {" ": video()}}, "gt.json", "' '"),
    ({"database": {"a": video()}}, "gt.json", "no label"),
    ({"videos": {}}, "videos", "{}"),
    ({"a": {"labels": ["Run"]}, "b": 3}, "b", "3"),
    ({"a": {"annotations": [{"label": "Run", "startFrame": 30}]}}, "gt.json", "startFrame"),
    ({"a": {"annotations": [{"label": "Run", "segment(frames)": [3, 6]}]}}, "gt.json", "(frames)"),
    ({"results": {"a": [{"label": "x", "segment": [1, 2], "score": 1}]}}, "gt.json", "scores"),
    ([{"video": "a", "label": "x", "subset": s} for s in ("u", "v")], "a", "'u' and 'v'"),
    ([{"video": "a", "label": "x", "duration": d} for d in (1, 2)], "a", "1.0 and 2.0"),
    ({"a": DEEP}, "a", "annotations"),
    ('{"database": {"v": {}, "v": {}}}', "v", "twice"),
]


HEADER = "video,t_start,t_end,label\n"
BAD_CSV = [
    ("", "", "empty"),
    (HEADER, "", "no video"),
    ("video,t_start,label\na,1,Run\n", "", "t_end"),
    ("video,video,t_start,t_end,label\n", "", "video, video"),
    ("video,t_start,t_end,label,score\na,1,2,Run,.5\n", "", "scores"),
    ("a,1,2,Run\n", "", "video"),
    ("vidoe,start,end,label\na,1,2,Run\n", "", "vidoe"),
    ("video,t_start,t_end\na,1,2\n", "", "label"),
    ("video,type,startFrame,endFrame\na,Run,30,75\n", "", "startFrame"),
    (HEADER + "a,1,2\n", "line 2", "3 fields"),
    (HEADER + "a,1,2,Run,x\n", "line 2", "5 fields"),
    (HEADER + "a,1,,Run\n", "line 2: a", "end None"),
    (HEADER + "a,,2,Run\n", "line 2: a", "start None"),
    (HEADER + "a,1,NaN,Run\n", "line 2: a", "'NaN'"),
    (HEADER + "a,1,2,\n", "line 2: a", "label"),
    (HEADER + ",1,2,Run\n", "line 2", "name None"),
    (HEADER + 'a,1,2,"Run\n', "line 2", ""),
    (HEADER + "a,1;5,2,Run\n", "line 2: a", "'1;5'"),
    (HEADER.replace(",", ";") + "a;1.000,5;2;Run\n", "line 2: a", "'1.000.5'"),
    ("id,actions,length\na,c092 1.0,9\n", "line 2: a", "['c092', '1.0']"),
    (HEADER.strip() + ",duration\na,1,2,Run,9\na,1,2,Run,8\n", "line 3: a", "9.0 and 8.0"),
    ("video,label,subset\na,Run,\nb,Run,test\n", "a", "no subset"),
]


BAD = [("gt.json", *row) for row in BAD_JSON] + [("gt.csv", *row) for row in BAD_CSV]


@pytest.mark.parametrize("name, content, where, found", BAD)
def test_a_file_that_is_no_annotation_is_one_line(tmp_path, name, content, where, found):
    error = refused(load, write(tmp_path / name, content))
    assert error.where.startswith(f"{tmp_path / name}") and where in error.where
    assert found in str(error)


def test_columns_of_frames_beside_those_of_seconds(tmp_path):
    text = "video,type,type_idx,start,end,startFrame,endFrame\na,Run,7,1,2.5,30,75\n"
    assert about(load(write(tmp_path / "gt.csv", text))) == {"a": ("", ("Run",), [[1, 2.5]])}


def test_what_load_does_not_know(tmp_path, monkeypatch):
    missing, text = tmp_path / "missing.json", write(tmp_path / "gt.txt", "")
    for path in (text, missing, tmp_path / "missing", tmp_path):
        assert refused(load, path).where == str(path)
    path = write(tmp_path / "gt.json", {"a": video([("Run", 1, 2)])})
    assert refused(load, path, video_labels="labels_all").where == str(path)
    folder = write_wtalc(tmp_path / "w", labels_all=None)
    error = refused(load, folder, video_labels="labels_all")
    assert error.where == str(folder / "labels_all.npy")
    with pytest.raises(ValueError, match="found 'all'"):
        load(path, video_labels="all")

    def refuse(_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.listdir", refuse)
    error = refused(load, tmp_path)
    monkeypatch.undo()
    assert (error.where, error.found) == (str(tmp_path), "Permission denied")


# ---- times that are no seconds, test videos that cannot be scored
def test_segments_in_frames_are_recognised(tmp_path):
    def problem(scale, duration=20, durations=None):
        segments = [("Run", scale * start, scale * (start + 3)) for start in range(0, 12, 3)]
        truth = database(tmp_path, {f"v{i}": video(segments, duration=duration) for i in range(3)})
        known = truth.videos["duration"] if durations is None else durations
        return annotations.unit_problem("gt.json", truth.segments, known)

    assert problem(1) is None and problem(1.9) is None
    error = problem(30)  # ends at 90, 180, 270, 360 s
    assert isinstance(error, InputError) and error.where == "gt.json"
    assert "12 of 12 segments" in error.found and "ends at 360, the video at 20 s" in error.found
    # without durations in the file, those of the clips are held against them
    assert problem(30, None) is None and problem(1, None, dict.fromkeys(["v0", "v1"], 20)) is None
    assert "8 of 8" in problem(30, None, dict.fromkeys(["v0", "v1"], 20)).found


def test_a_few_segments_past_the_end_are_no_frames():
    table = pd.DataFrame(
        [("a", 1, 2), ("a", 3, 90), ("b", 1, 10.3)], columns=["video", "t_start", "t_end"]
    )
    for part in (table, table[2:], table[:0]):
        assert annotations.unit_problem("gt.json", part, {"a": 10, "b": 10}) is None
    # the limit: half of the rows at 1.5 times the duration
    limit = table.assign(t_end=[2, 15, 15])
    assert annotations.unit_problem("gt.json", limit, {"a": 10, "b": 10}) is not None
    assert annotations.unit_problem("gt.json", limit, {"a": 10.1, "b": 10.1}) is None


def test_rows_outside_of_their_video(warned):
    table = pd.DataFrame(
        [("a", -0.5, 11), ("a", 9, 12.5), ("b", 0, 104), ("c", 0, 1e6)],
        columns=["video", "t_start", "t_end"],
    )
    durations = {"a": 10.0, "b": 100.0}  # c has none; b's 4 s are less than 5%
    annotations.warn_outside("d.csv", table, durations, 2, 0.05, "detection")
    late, early = warned()
    assert "1 detection of 1 video" in late and "(worst: a, 2.5 s)" in late
    assert "1 detection of 4 " in early
    annotations.warn_outside("d.csv", table[2:], durations, 2, 0.05)
    annotations.warn_outside("d.csv", table[:0], durations, 2)
    assert warned() == []
    annotations.warn_outside("d.csv", table[2:3], durations, 2)
    assert len(warned()) == 1


def test_test_videos_and_annotations_that_cannot_be_scored(tmp_path, warned):
    truth = database(
        tmp_path,
        {
            "a": video([("Run", 1, 2)]),
            "b": {
                "subset": "test",
                "annotations": [
                    {"label": "Run", "segment": [1, 2]},
                    {"label": "Run", "segment": None},
                    {"label": "Dive"},
                ],
            },
            "c": video(),
            "d": {"subset": "train", "label": "Run"},
        },
    )
    assert truth.videos["untimed"].tolist() == [0, 2, 0, 1]
    tested = in_subset(truth, "test")
    annotations.warn_unscored(truth, tested)
    segments, times = warned()
    assert "2 of 3 test videos" in segments
    assert "2 annotations of 1 test video" in times and "in b)" in times
    annotations.warn_unscored(truth, tested[:1])
    assert warned() == []
    annotations.warn_unscored(truth, tested[2:])  # nothing is scored, so nothing is missing there
    assert len(warned()) == 1


# ---- subsets
@pytest.mark.parametrize(
    "asked, expected",
    [
        ("train", ["a"]),
        ("training", ["b"]),
        ("Train", ["a", "b"]),
        ("validation", ["c"]),
        ("testing", ["d"]),
        ("EXTRA", ["e"]),
        (("extra", "train"), ["a", "e"]),
        (["Train", "training"], ["a", "b"]),
        ((), []),
    ],
)
def test_a_subset_goes_by_its_exact_name_then_by_its_group(tmp_path, asked, expected):
    names = {"a": "train", "b": "training", "c": "val", "d": "Test", "e": "extra"}
    truth = database(tmp_path, {k: video([("Run", 1, 2)], s) for k, s in names.items()})
    assert list(in_subset(truth, asked).index) == expected


def test_a_missing_subset_names_those_there_are(tmp_path):
    truth = database(
        tmp_path, {"a": video([("Run", 1, 2)]), "b": video(), "c": video(subset="dev")}
    )
    for asked in ("training", ["dev", "training"]):
        error = refused(in_subset, truth, asked)
        assert error.where == truth.path
        assert "'dev' (1 video), 'test' (2 videos)" in error.found


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
    truth = database(tmp_path, {f"v{s}": video([("Run", 1, 2)] * n, s) for s, n in found.items()})
    assert choose_subsets(truth) == tuple((name,) for name in expected)
    assert choose_subsets(truth, "a", ("b", "c")) == (("a",), ("b", "c"))
    assert choose_subsets(truth, "auto", "none") == ((expected[0],), ())


def test_folds_and_all_for_training(tmp_path):
    names = {f"v{i}": f"fold{i}" for i in range(3)}
    truth = database(tmp_path, {k: video([("Run", 1, 2)], s) for k, s in names.items()})
    assert choose_subsets(truth, ["fold0", "fold1"], "fold2") == (("fold0", "fold1"), ("fold2",))
    assert choose_subsets(truth, test="none") == (("fold0", "fold1", "fold2"), ())
    for given in ({}, {"train": "fold0"}, {"test": "fold0"}):
        assert "'fold0', 'fold1'" in refused(choose_subsets, truth, **given).found
    for subset, other in (("test", "test"), ("dev", "train"), ("train", "train")):
        truth = database(tmp_path, {"a": video([("Run", 1, 2)], subset), "b": video(subset=other)})
        assert refused(choose_subsets, truth).where == truth.path


# ---- W-TALC
def test_wtalc_folder_and_its_two_kinds_of_labels(tmp_path, warned):
    folder = write_wtalc(tmp_path / "annotations")
    truth = load(folder)
    assert list(truth.videos.index) == wtalc_names(folder) == ["v_b", "v_a", "v_c"]
    assert truth.classes == ("Dive", "Run", "Swim")
    assert about(truth) == {
        "v_b": ("validation", ("Dive", "Run"), [[1, 2.5], [3, 4]]),
        "v_a": ("test", ("Run",), [[5, 6]]),
        "v_c": ("test", (), []),
    }
    assert truth.videos["duration"].tolist() == [10, 20, 30]
    (line,) = warned()
    assert "2 videos (1 test, 1 validation)" in line

    other = load(folder, video_labels="labels_all")
    assert other.videos["labels"].tolist() == [("Run",), ("Run",), ("Swim",)]
    pd.testing.assert_frame_equal(other.segments, truth.segments)


def test_wtalc_arrays_of_other_make(tmp_path, warned):
    """Columns as users' own tools write them: text or numbers for bytes, arrays for lists, one
    segment per video as one array."""
    folder = write_wtalc(
        tmp_path / "a",
        videoname=np.array([7, 8, 9]),
        classlist=np.array([b"Run ", b"Dive", b"Swim"]),
        segments=np.array([[[1, 2]], [[3, 4]], [[5, 6]]], dtype=np.float32),
        labels=np.array([[b"Run"], [b"Run"], [b"Dive"]]),
        duration=None,
        labels_all=None,
    )
    truth = load(folder)
    assert about(truth)["9"] == ("test", ("Dive",), [[5, 6]])
    assert truth.videos["duration"].isna().all() and warned() == []
    write(folder / "Ambiguous_test.txt", "8  1 2\n")
    assert load(folder).ambiguous.values.tolist() == [["8", 1, 2]]


def test_the_youtube_id_is_the_name(tmp_path):
    url = "https://www.youtube.com/watch?v="
    urls = [url + "--0edUL8zmA", url + "a_B-c123456&t=3", "gone"]
    folder = write_wtalc(tmp_path / "a", url=np.array([one.encode() for one in urls]))
    names = ["--0edUL8zmA", "a_B-c123456", "v_c"]
    truth = load(folder)
    assert wtalc_names(folder) == list(truth.videos.index) == names
    assert truth.segments["video"].tolist() == [names[0], names[0], names[1]]
    # an id that two videos have is no name
    folder = write_wtalc(tmp_path / "b", url=np.array([urls[0], urls[0], urls[1]]))
    assert wtalc_names(folder) == ["v_b", "v_a", "a_B-c123456"]


def test_wtalc_videos_without_times(tmp_path):
    folder = write_wtalc(tmp_path / "a", segments=objects([], [[5.0, 6.0]], []), labels_all=None)
    assert load(folder).videos["untimed"].tolist() == [2, 0, 0]
    (folder / "segments.npy").unlink()
    truth = load(folder)
    assert truth.videos["untimed"].tolist() == [2, 1, 0]
    assert truth.videos["labels"].tolist() == [("Dive", "Run"), ("Run",), ()]


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
        assert load(folder).videos["labels"].tolist() == [("Run",), ("Löwe",), ()]


BAD_WTALC = [
    ({"subset": None}, "subset.npy", "no such file"),
    ({"classlist": None}, "classlist.npy", "no such file"),
    ({"subset": np.array([b"test"])}, "subset.npy", "(1,)"),
    ({"duration": np.array(3.0)}, "duration.npy", "()"),
    ({"videoname": np.array([b"v", b"w", b"v"])}, "videoname.npy: v", "2 times"),
    ({"videoname": np.array([b"v", b"", b"w"])}, "videoname.npy: entry 1", "''"),
    ({"classlist": np.array([b"Run", b"Dive", b"Run"])}, "annotations", "'Run'"),
    ({"classlist": np.array([b"Run"])}, "annotations: v_b", "'Dive'"),
    ({"labels_all": objects(["Run"], ["Fly"], [])}, "labels_all.npy: v_a", "'Fly'"),
    ({"labels_all": objects(["Run"], "Run", [])}, "labels_all.npy: v_a", "'Run'"),
    ({"labels": objects(["Run"], ["Run"], [])}, "annotations: v_b", "['Run']"),
    ({"segments": objects(3, [[1, 2]], [])}, "segments.npy: v_b", "3"),
    ({"labels": objects(["Run", "Dive"], "Run", [])}, "labels.npy: v_a", "'Run'"),
    ({"labels": objects(["Run", "Dive"], np.array("Run"), [])}, "labels.npy: v_a", "an array ()"),
    ({"segments": objects([[1, 2], np.array(3)], [[1, 2]], [])}, "v_b", "an array ()"),
    ({"segments": objects([[1, 2], [1, np.complex64(2)]], [[1, 2]], [])}, "v_b", "2+0j"),
    ({"segments": objects([1, 2], [[1, 2]], [])}, "v_b", "segment 1"),
    ({"duration": np.array([1, np.nan, 2])}, "v_a", "nan"),
    ({"segments": objects([[1, 2], ["2014-01-01", 3]], [[1, 2]], [])}, "v_b", "'2014-01-01'"),
]


@pytest.mark.parametrize("changes, where, found", BAD_WTALC)
def test_a_bad_wtalc_folder_is_one_line(tmp_path, changes, where, found):
    folder = write_wtalc(tmp_path / "annotations", **changes)
    error = refused(load, folder)
    assert error.where.startswith(str(folder)) and where in error.where and found in error.found


# ---- THUMOS14's text files
def test_evalkit_folder_keeps_the_order_of_the_class_list_and_of_the_files(tmp_path, warned):
    truth = load(write_evalkit(tmp_path / "kit"))
    assert list(truth.videos.index) == ["video_b", "video_a"]
    assert truth.classes == ("BaseballPitch", "BasketballDunk")
    assert truth.segments.values.tolist() == [
        ["video_b", 1, 2, "BasketballDunk"],
        ["video_a", 3, 4, "BasketballDunk"],
        ["video_b", 0.5, 1.5, "BaseballPitch"],
    ]
    assert truth.ambiguous.values.tolist() == [["video_c", 7, 8], ["video_b", 9, 9.5]]
    assert truth.videos["labels"]["video_b"] == ("BaseballPitch", "BasketballDunk")
    assert warned() == []
    truth = load(write_evalkit(tmp_path / "without", Ambiguous=None))
    assert truth.ambiguous.empty and list(truth.ambiguous) == ["video", "t_start", "t_end"]
    assert "Ambiguous_test.txt" in warned()[0]


BAD_KIT = [
    ({"BaseballPitch": None}, "BaseballPitch_test.txt", "no such file"),
    ({"Surfing": "video_a 1 2"}, "kit", "Surfing_test.txt"),
    ({"BaseballPitch": "video_a 1\n"}, "BaseballPitch_test.txt: line 1", "'video_a 1'"),
    ({"BaseballPitch": "\nvideo_a 1 x\n"}, "BaseballPitch_test.txt: line 2: video_a", "'x'"),
    ({"BaseballPitch": "video_a -1 2\n"}, "kit: video_a", "[-1, 2]"),
    ({"Ambiguous": "video_a nan 2\n"}, "Ambiguous_test.txt: line 1: video_a", "'nan'"),
    ({"ids": "7 Baseball Pitch\n"}, "kit", "BaseballPitch_test.txt"),
    ({"ids": "7 BaseballPitch\n7 BaseballPitch\n9 BasketballDunk\n"}, "kit", "BaseballPitch"),
    ({"BaseballPitch": "", "BasketballDunk": ""}, "kit", "no video"),
    ({"BaseballPitch": b"video_\xff 1 2\n"}, "BaseballPitch_test.txt", "bytes at 6"),
]


@pytest.mark.parametrize("changes, where, found", BAD_KIT)
def test_a_bad_evalkit_folder_is_one_line(tmp_path, changes, where, found):
    folder = write_evalkit(
        tmp_path / "kit", **{k: v for k, v in changes.items() if not isinstance(v, bytes)}
    )
    for name, data in changes.items():
        if isinstance(data, bytes):
            (folder / f"{name}_test.txt").write_bytes(data)
    error = refused(load, folder)
    assert where in error.where and found in error.found


@pytest.mark.parametrize("layout", ["one folder", "two folders", "with a class list"])
def test_thumos14_folders_of_both_subsets(tmp_path, layout, warned):
    """The challenge's validation annotation has the files CLASS_val.txt and no class list."""
    folder = tmp_path / "thumos"
    apart = layout == "two folders"
    val, test = (folder / "val" / "annotation", folder / "test") if apart else (folder, folder)
    for place, name, text in (
        (val, "Diving_val", "video_validation_1 1 2\n"),
        (val, "Shotput_val", "video_validation_2 3 4\n"),
        (val, "Ambiguous_val", "video_validation_1 5 6\n"),
        (test, "Diving_test", "video_test_1 1 2\n"),
        (test, "Shotput_test", "video_test_1 0 1\n"),
        (test, "Ambiguous_test", "video_test_1 7 8\n"),
    ):
        place.mkdir(parents=True, exist_ok=True)
        write(place / f"{name}.txt", text)
    if layout == "with a class list":
        write(folder / "detclasslist.txt", "79 Shotput\n26 Diving\n")
    if apart:
        assert set(load(val).videos["subset"]) == {"validation"}
        test.rename(folder / "val" / "test")  # at one depth below the folder that is given
        folder = folder / "val"
    truth = load(folder)
    assert {name: one[:2] for name, one in about(truth).items()} == {
        "video_validation_1": ("validation", ("Diving",)),
        "video_validation_2": ("validation", ("Shotput",)),
        "video_test_1": ("test", ("Diving", "Shotput")),
    }
    assert choose_subsets(truth) == (("validation",), ("test",)) and warned() == []
    assert truth.ambiguous["video"].tolist() == ["video_validation_1", "video_test_1"]


# ---- damage
def test_damage_at_random_is_read_or_refused_in_one_line(tmp_path):
    rng = np.random.default_rng(0)
    files = [
        write(tmp_path / name, FORMS[name])
        for name in ("activitynet.json", "clips.json", "lines.jsonl", "header0.csv")
    ]
    folder, kit = write_wtalc(tmp_path / "wtalc"), write_evalkit(tmp_path / "kit")
    targets = [(file, file) for file in files]
    targets += [(place, file) for place in (folder, kit) for file in sorted(place.iterdir())]
    refusals = 0
    for round in range(30 * len(targets)):
        path, file = targets[round % len(targets)]
        original = file.read_bytes()
        data = bytearray(original)
        data[rng.integers(0, len(data))] = rng.integers(0, 256)
        file.write_bytes(data)
        try:
            load(path)
        except InputError as error:
            refusals += 1
            assert "\n" not in str(error)
        file.write_bytes(original)
    assert refusals > 5 * len(targets)


# ---- the published files
REAL = {
    "thumos14/Thumos14reduced-Annotations": (
        20,
        99,
        {"validation": (200, 3007), "test": (212, 3358)},
    ),
    "thumos14/evalkit-test-annotation": (20, 99, {"test": (212, 3358)}),
    "thumos14/gt-210test.json": (20, 0, {"train": (200, 3007), "test": (210, 3311)}),
    "activitynet12/ActivityNet1.2-Annotations": (
        100,
        0,
        {"training": (4819, 7144), "validation": (2383, 3579)},
    ),
    "activitynet12/gt-validation.json": (100, 0, {"test": (2383, 3579)}),
    "activitynet12/activity_net.v1-2.min-missing-removed.json": (
        100,
        0,
        {"training": (4441, 6582), "validation": (2198, 3278), "testing": (2268, 0)},
    ),
    "hapt30/annotations.json": (12, 0, {"train": (509, 1176), "test": (206, 505)}),
}
# what is odd there: (first number, video) of each warning
ODD = {
    "thumos14/Thumos14reduced-Annotations": [
        "28 videos (20 test, 8 validation)",
        "30 segments of 5 videos",
    ],
    "activitynet12/ActivityNet1.2-Annotations": ["10 zero-length", "1 segment of 1 video"],
    "activitynet12/gt-validation.json": ["3 zero-length"],
    "activitynet12/activity_net.v1-2.min-missing-removed.json": [
        "9 zero-length",
        "1 segment of 1 video",
    ],
}


@pytest.mark.slow
@real_data
@pytest.mark.parametrize("path", REAL)
def test_counts_of_the_published_files(path, warned):
    truth, (classes, ambiguous, subsets) = load(DATA / path), REAL[path]
    lines = warned()
    assert len(lines) == len(ODD.get(path, []))
    assert all(odd in line for odd, line in zip(ODD.get(path, []), lines))
    assert len(truth.classes) == classes and list(truth.classes) == sorted(truth.classes)
    assert len(truth.ambiguous) == ambiguous and set(truth.videos["subset"]) == set(subsets)
    for subset, (videos, segments) in subsets.items():
        chosen = in_subset(truth, subset)
        assert (len(chosen), len(truth.only(chosen.index).segments)) == (videos, segments)


@pytest.mark.parametrize(
    "name, classes, videos, segments",
    [("thumos14", 20, 212, 3358), ("activitynet12", 100, 2381, 3579)],
)
def test_counts_of_the_published_tables(golden_sets, name, classes, videos, segments):
    truth = load(golden_sets / f"{name}_ground_truth.csv")
    assert (len(truth.classes), len(truth.videos)) == (classes, videos)
    assert len(truth.segments) == segments and set(truth.videos["subset"]) == {""}


@pytest.mark.slow
@real_data
def test_the_published_ground_truths_agree_with_each_other(golden_sets):
    kit = load(DATA / "thumos14/evalkit-test-annotation")
    golden = pd.read_csv(golden_sets / "thumos14_ground_truth.csv")
    pd.testing.assert_frame_equal(kit.segments, golden)
    ambiguous = pd.read_csv(golden_sets / "thumos14_ambiguous.csv")
    pd.testing.assert_frame_equal(kit.ambiguous, ambiguous[["video", "t_start", "t_end"]])
    activitynet = load(DATA / "activitynet12/gt-validation.json")
    golden = pd.read_csv(golden_sets / "activitynet12_ground_truth.csv")
    pd.testing.assert_frame_equal(activitynet.segments, golden)

    wtalc = load(DATA / "thumos14/Thumos14reduced-Annotations")
    basnet = load(DATA / "thumos14/gt-210test.json")
    assert set(wtalc.videos.index) - set(basnet.videos.index) == {
        "video_test_0000270",
        "video_test_0001496",
    }
    assert set(kit.ambiguous["video"]) - set(kit.videos.index) == {"video_test_0001292"}
    for other in (basnet, kit):
        same = wtalc.only(other.videos.index)
        assert same.videos["labels"].to_dict() == other.videos["labels"].to_dict()
        assert sorted(same.segments.values.tolist()) == sorted(other.segments.values.tolist())

    # the YouTube ids of url.npy are the names in ActivityNet's own file
    folder = DATA / "activitynet12/ActivityNet1.2-Annotations"
    assert len(set(wtalc_names(folder))) == 7202 and wtalc_names(folder)[0] == "--0edUL8zmA"
    same = load(folder).only(activitynet.videos.index)
    ours, theirs = (
        one.segments.sort_values("video", kind="stable").values.tolist()
        for one in (same, activitynet)
    )
    assert ours == theirs
    columns = ["duration", "labels"]
    ours, theirs = (one.videos[columns].sort_index() for one in (same, activitynet))
    pd.testing.assert_frame_equal(ours, theirs)


@pytest.mark.slow
@real_data
def test_the_two_labels_of_thumos14_training_videos():
    folder = DATA / "thumos14/Thumos14reduced-Annotations"
    by_segments = in_subset(load(folder), "validation")["labels"]
    everywhere = load(folder, video_labels="labels_all").videos["labels"]
    by_file = everywhere[by_segments.index]
    assert (by_segments != by_file).sum() == 8
    assert by_segments["video_validation_0000316"] == ("HammerThrow",)
    assert by_file["video_validation_0000316"] == ("HammerThrow", "ThrowDiscus")
    assert everywhere["video_test_0000270"] == ()  # which labels_all.npy leaves empty


@pytest.mark.slow
@real_data
def test_the_evaluation_kits_ids_are_those_of_its_class_list():
    lines = (DATA / "thumos14/evalkit-test-annotation/detclasslist.txt").read_text().splitlines()
    assert {name: int(number) for number, name in map(str.split, lines)} == annotations.EVALKIT_IDS
