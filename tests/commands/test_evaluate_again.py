"""--evaluate: other tables from the scores that a run has stored, after its features and
annotations are gone.
"""

import dataclasses
import errno
import json
import os
import shutil
import signal

import commands
import filelock
import h5py
import numpy as np
import pandas as pd
import pytest

import eval_detection
import opts
import run
from formats import clip_scores, detections
from formats.files import process_lock
from report import tables


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a run whose features and annotations have been deleted since."""

    def make(folder):
        flags = commands.write_set(folder / "data")
        methods = "--method em-mil untrimmednet wtalc --out".split()
        run.main([*flags, *methods, str(folder / "run")])
        shutil.rmtree(folder / "data")

    return commands.once(tmp_path_factory, "evaluated", make) / "run"


@pytest.fixture
def copy(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


def evaluate(folder, *flags):
    return run.main(["--evaluate", str(folder), *map(str, flags)])


def refused(folder, capsys, *flags):
    return commands.refused(["--evaluate", folder, *flags], capsys)


def written(folder):
    """What --evaluate has left in a run's folder, hidden files too."""
    return [path for path in folder.iterdir() if "evaluate" in path.name]


# ---- the same road
def by_hand(folder, lam, gamma, gate=0.15):
    """EM-MIL's detections written out from the stored scores: Eq. 9 and Sec. 3.5, clip by clip."""
    rows = []
    records, classes = clip_scores.read(folder / "clip_scores.h5")
    for r in records:
        em_mil, v = r.scores["em-mil"], r.scores["untrimmednet"]["video"].astype(np.float64)
        q, p = (em_mil[key].astype(np.float64) for key in "qp")
        for c in [c for c in range(len(classes)) if v[c] >= gate] or [int(v.argmax())]:
            l, start = lam * q + (1 - lam) * p[:, c], None
            for t, high in enumerate([*(l > l.mean() + gamma * (l.max() - l.min())), False]):
                if high and start is None:
                    start = t
                if not high and start is not None:
                    begin, end = start * r.snippet_seconds, min(t * r.snippet_seconds, r.duration)
                    rows.append((r.name, begin, end, classes[c], l[start:t].mean()))
                    start = None
    return pd.DataFrame(rows, columns=["video", "t_start", "t_end", "label", "score"])


def sorted_rows(table):
    return table.sort_values(["video", "label", "t_start"], ignore_index=True)


@pytest.mark.parametrize(
    "flags, lam, gamma",
    [
        ("", 0.3, 0.0),
        ("--lambda 0.9", 0.9, 0.0),
        ("--gamma 0.2", 0.3, 0.2),
        ("--lambda 0.5 --test-gamma 0.1", 0.5, 0.1),
    ],
)
def test_detections_by_hand(trained, tmp_path, flags, lam, gamma):
    results = evaluate(trained, *flags.split(), "--out", tmp_path / "out")
    found = detections.read_detections(tmp_path / "out/detections.csv")
    expected = sorted_rows(by_hand(trained, lam, gamma))
    pd.testing.assert_frame_equal(sorted_rows(found), expected, rtol=1e-9)
    assert results["methods"]["em-mil"]["localization"]["proposals"] == len(found)
    assert json.loads((tmp_path / "out/results.json").read_text()) == results
    saved = json.loads((tmp_path / "out/opts.json").read_text())
    assert (saved["lam"], saved["gamma"], saved["test_gamma"]) == (lam, 0.0, gamma or None)


def test_the_same_options_give_the_same_files(trained, tmp_path, capsys):
    before = commands.stamps(trained)
    results = evaluate(trained, "--out", tmp_path / "out")
    for path in [*trained.glob("detections*"), trained / "table.md"]:
        assert commands.same(tmp_path / "out" / path.name, path)
    first = json.loads((trained / "results.json").read_text())
    assert {**results, "seconds": None} == {**first, "seconds": None}
    assert len(report_table(capsys.readouterr().out)) == 1
    assert commands.stamps(trained) == before


def report_table(printed):
    return [line for line in printed.splitlines() if line.startswith("EM-MIL  ")]


def test_all_protocols(trained, tmp_path, capsys):
    flags = "--protocol all --tiou 0.3 0.5".split()
    results = evaluate(trained, *flags, "--out", tmp_path / "out")
    truth = pd.read_csv(trained / "ground_truth.csv")
    found = detections.read_detections(tmp_path / "out/detections.csv")
    protocols = results["methods"]["em-mil"]["protocols"]
    assert list(protocols) == list(eval_detection.PROTOCOLS)
    for protocol, e in protocols.items():
        assert e["map"] == eval_detection.evaluate(truth, found, [0.3, 0.5], protocol).map.tolist()
    assert len(report_table(capsys.readouterr().out)) == 3


def test_other_classes_methods_and_thresholds(trained, tmp_path):
    flags = "--video-classifier oracle --gate 0 --method em-mil".split()
    assert list(evaluate(trained, *flags, "--out", tmp_path / "oracle")["methods"]) == ["em-mil"]
    found = detections.read_detections(tmp_path / "oracle/detections.csv")
    truth = pd.read_csv(trained / "ground_truth.csv")
    assert set(zip(found["video"], found["label"])) <= set(zip(truth["video"], truth["label"]))

    evaluate(trained, "--method", "wtalc", "--out", tmp_path / "wtalc")
    assert commands.same(tmp_path / "wtalc/detections.csv", trained / "detections-wtalc.csv")

    flags = "--thresholds 0 0.3 --nms 0.5 --method em-mil".split()
    evaluate(trained, *flags, "--out", tmp_path / "nms")
    several = detections.read_detections(tmp_path / "nms/detections.csv")
    separate = pd.concat([by_hand(trained, 0.3, 0.0), by_hand(trained, 0.3, 0.3)])
    key = ["video", "label", "t_start", "t_end"]
    assert set(map(tuple, several[key].to_numpy())) <= set(map(tuple, separate[key].to_numpy()))


def test_names_are_text_and_times_exact(copy, tmp_path):
    """A class called NA or 007 keeps its name, and a time every digit."""
    records, _ = clip_scores.read(copy / "clip_scores.h5")
    clip_scores.write(copy / "clip_scores.h5", records, ("007", "NA"))
    rows = [(0.1 + 0.2, 1.7, "NA"), (1 / 3, 2.5, "007")]
    truth = pd.DataFrame(rows, columns=["t_start", "t_end", "label"])
    truth.insert(0, "video", records[0].name)
    tables.write_csv(copy / "ground_truth.csv", truth)
    e = evaluate(copy, "--out", tmp_path / "out")["methods"]["em-mil"]["protocols"]["activitynet"]
    assert set(e["ap"]) == {"NA", "007"}
    found = detections.read_detections(tmp_path / "out/detections.csv")
    assert e["map"] == eval_detection.evaluate(truth, found, e["tious"]).map.tolist()


# ---- what is said
def test_what_a_run_has_left_out_stays_out_and_is_said(tmp_path, capsys):
    flags = commands.write_set(tmp_path / "data")
    run.main([*flags, "--exclude-video", "video_08", "--out", str(tmp_path / "run")])
    capsys.readouterr()
    found = evaluate(tmp_path / "run", "--exclude-video", "v_video_09", "VIDEO_08.mp4")
    assert found["test"]["videos"] == 2
    assert "exclude-video video_08 v_video_09" in capsys.readouterr().out
    assert evaluate(tmp_path / "run", "--lambda", "0.5")["test"]["videos"] == 3
    assert "exclude-video video_08" in capsys.readouterr().out


def test_ambiguous_segments_go_by_any_form_of_a_videos_name(trained, tmp_path):
    """As detections do; those in other videos are not counted."""
    rows = [("v_video_08", 0.0, 9.0), ("video_00", 0.0, 9.0)]
    forgiven = pd.DataFrame(rows, columns=eval_detection.SEGMENT)
    tables.write_csv(tmp_path / "ambiguous.csv", forgiven)
    flags = "--protocol", "all", "--ambiguous", tmp_path / "ambiguous.csv"
    found = evaluate(trained, *flags, "--out", tmp_path / "all")
    assert found["test"]["ambiguous"] == 1
    truth = pd.read_csv(trained / "ground_truth.csv")
    table = detections.read_detections(trained / "detections.csv")
    scored = found["methods"]["em-mil"]["protocols"]["thumos-2015"]
    named = forgiven[:1].assign(video="video_08")
    expected = eval_detection.evaluate(truth, table, scored["tious"], "thumos-2015", named)
    assert scored["map"] == expected.map.tolist()
    without = "--exclude-video", "video_08", "--out", tmp_path / "excluded"
    assert evaluate(trained, *flags, *without)["test"]["ambiguous"] == 0


def test_the_gate_is_held_against_the_labels_of_training(trained, tmp_path, capsys):
    """Of two classes, training videos have one each; a gate of 0 passes both, of 1 neither."""

    def said(folder, *flags):
        evaluate(folder, "--method", "em-mil", *flags)
        return [line for line in capsys.readouterr().out.splitlines() if "the gate 0 " in line]

    (line,) = said(trained, "--gate", "0", "--out", tmp_path / "all")
    assert line.startswith("warning: ") and "2.00" in line and "1.00" in line and "--gate" in line
    oracle = "--gate", "0", "--video-classifier", "oracle"
    assert said(trained, *oracle, "--out", tmp_path / "oracle") == []  # the gate does nothing there
    evaluate(trained, "--gate", "1", "--out", tmp_path / "none")
    assert "4 of 4 videos" in capsys.readouterr().out


def test_the_caption_and_the_folder_say_what_differs(copy, capsys):
    results = evaluate(copy, "--lambda", "0.9", "--gamma", "0.2", "--gate", "0.4")
    said = " ".join(capsys.readouterr().out.split())
    assert "seed 1, recipe paper, but " in said and "test-gamma 0.2" in said
    assert "lambda 0.9, gamma 0.2, gate 0.4, score mean; classes from untrimmednet" in said
    assert {"lambda 0.9", "test-gamma 0.2", "gate 0.4"} <= set(results["differs"])
    (folder,) = written(copy)
    assert folder.name == "evaluate-gate-0.4-lambda-0.9-test-gamma-0.2"
    assert "lambda 0.9" in (folder / "report.html").read_text().split("</title>")[0]
    for _ in range(2):
        evaluate(copy, "--method", "wtalc")
    names = {path.name for path in written(copy)} - {folder.name}
    assert names == {"evaluate-method-wtalc", "evaluate-method-wtalc-2"}
    assert "classes from" not in capsys.readouterr().out


def test_where_no_test_video_has_a_segment_there_are_detections_and_no_table(trained, copy):
    for name in ("ground_truth.csv", "ambiguous.csv"):
        (copy / name).write_text((trained / name).read_text().splitlines()[0] + "\n")
    results = evaluate(copy, "--out", copy / "out")
    assert results["methods"]["em-mil"]["protocols"] == {} and results["test"]["segments"] == 0
    assert commands.same(copy / "out/detections.csv", trained / "detections.csv")


def test_detections_only_where_no_segment_is_give_zero(copy):
    """Names fit, the method found nothing in the one video with segments: mAP 0, and a page."""
    records, classes = clip_scores.read(copy / "clip_scores.h5")
    for values in records[0].scores["em-mil"].values():
        values[:] = 0.5  # a constant score has no proposal
    clip_scores.write(copy / "clip_scores.h5", records, classes)
    truth = pd.read_csv(copy / "ground_truth.csv")
    tables.write_csv(copy / "ground_truth.csv", truth[truth["video"] == records[0].name])
    results = evaluate(copy, "--method", "em-mil", "--out", copy / "out")
    assert set(results["methods"]["em-mil"]["protocols"]["activitynet"]["map"]) == {0}
    assert (copy / "out/report.html").exists()


# ---- refused
@pytest.mark.parametrize(
    "flags, where",
    [
        ("--exclude-video nobody", "--exclude-video: found nobody"),
        ("--lr 1", "--lr: found 1.0"),
        ("--device cpu", "--device: found cpu"),
        ("--ambiguous nowhere.csv", "nowhere.csv"),
        ("--video-scores nowhere.csv", "nowhere.csv"),
    ],
)
def test_flags_that_are_refused(trained, tmp_path, capsys, flags, where):
    assert where in refused(trained, capsys, *flags.split(), "--out", tmp_path / "out")
    assert not list(tmp_path.iterdir())


def set_json(name, **values):
    def edit(folder):
        content = json.loads((folder / name).read_text())
        (content[0] if isinstance(content, list) else content).update(values)
        (folder / name).write_text(json.dumps(content))

    return name, edit


def set_text(name, content):
    return name, lambda folder: (folder / name).write_bytes(content)


def gone(name):
    return name, lambda folder: (folder / name).unlink()


def set_scores(where, change):
    def edit(folder):
        with h5py.File(folder / "clip_scores.h5", "r+") as file:
            change(next(iter(file.values())))

    return f"clip_scores.h5: {where}", edit


def put(key, value):
    def change(group):
        group[key][...] = value

    return change


HEAD = b"video,t_start,t_end,label\n"
EDITS = [
    *(
        set_json("opts.json", **{key: value})
        for key, value in [("lam", 2), ("tious", []), ("x", 1)]
    ),
    *(
        set_json("environment.json", **{key: value})
        for key, value in [
            ("options", 1),
            ("options", {"lr": "x"}),
            ("phases", [["M", 1]]),
            ("phases", "M"),
            ("processes", "2"),
            ("versions", {"torch": 2}),
            ("labels_per_video", "one"),
            ("processor", None),
        ]
    ),
    set_text("environment.json", b"[]"),
    set_text("environment.json", b"{}"),
    set_text("opts.json", b"[1]"),
    set_text("opts.json", b"{"),
    set_text("clip_scores.h5", b"\x89HDF"),
    *(set_text("ground_truth.csv", content) for content in (b"\0\xff", HEAD + b"v,3,1,A\n")),
    set_text("ambiguous.csv", b""),
    *map(gone, ("clip_scores.h5", "ground_truth.csv", "opts.json", "environment.json")),
    set_scores("video_08", put("em-mil/q", 2)),
    set_scores("video_0", lambda group: group["em-mil"].pop("q")),
    set_scores("video_0", lambda group: group["untrimmednet"].pop("video")),
    set_scores("video_0", lambda group: group.pop("wtalc")),
]


@pytest.mark.parametrize("where, edit", EDITS)
def test_a_run_whose_files_were_edited(copy, capsys, where, edit):
    edit(copy)
    assert f"{copy}/{where}" in refused(copy, capsys)
    assert not written(copy)


def test_an_option_that_a_runs_file_lacks_is_the_presets(copy):
    saved = json.loads((copy / "opts.json").read_text())
    del saved["gate"]
    (copy / "opts.json").write_text(json.dumps(saved))
    evaluate(copy, "--out", copy / "out")
    gate = json.loads((copy / "out/opts.json").read_text())["gate"]
    assert gate == opts.PRESETS["custom"]["gate"]


def test_scores_of_a_method_that_the_run_has_not_trained(copy, capsys):
    records, classes = clip_scores.read(copy / "clip_scores.h5")
    without = [
        dataclasses.replace(r, scores={k: v for k, v in r.scores.items() if k != "wtalc"})
        for r in records
    ]
    clip_scores.write(copy / "clip_scores.h5", without, classes)
    for flags in (["--method", "wtalc"], ["--method", "em-mil", "--video-classifier", "wtalc"]):
        assert "W-TALC" in refused(copy, capsys, *flags)


# ---- written whole
def test_a_place_that_is_not_free(trained, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    evaluate(trained, "--out", tmp_path / "out")
    for place in (trained, tmp_path / "out", tmp_path / "file", tmp_path / "new.json"):
        before = commands.stamps(tmp_path) | commands.stamps(trained)
        assert str(place) in refused(trained, capsys, "--method", "em-mil", "--out", place)
        assert commands.stamps(tmp_path) | commands.stamps(trained) == before
    (tmp_path / "empty").mkdir()
    evaluate(trained, "--out", tmp_path / "empty")
    assert (tmp_path / "empty/results.json").exists()


def test_a_dry_run_writes_nothing(trained, tmp_path, capsys):
    assert evaluate(trained, "--lambda", "0.77", "--dry-run", "--out", tmp_path / "out") is None
    assert "lambda 0.77" in capsys.readouterr().out and not list(tmp_path.iterdir())


def full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "table.md")


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EACCES])
def test_a_lock_that_cannot_be_had(trained, tmp_path, monkeypatch, capsys, code):
    """A file system without locks is no reason to stop; another user's lock is."""

    def flock(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(filelock.FileLock, "_acquire", flock)
    if code == errno.EACCES:
        assert ".out.lock" in refused(trained, capsys, "--out", tmp_path / "out")
    else:
        evaluate(trained, "--out", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"] * (code == errno.ENOSYS)


@pytest.mark.parametrize(
    "stop, code", [(full, 2), (lambda *_: os.kill(os.getpid(), signal.SIGTERM), 143)]
)
def test_nothing_is_left_of_one_that_fails(trained, tmp_path, monkeypatch, capsys, stop, code):
    argv = ["--evaluate", trained, "--out", tmp_path / "out"]
    with monkeypatch.context() as patch:
        patch.setattr(tables, "write_text", stop)
        assert commands.stops(argv, capsys)[0] == code
    assert not list(tmp_path.iterdir())
    (tmp_path / ".out.partial").mkdir()  # what a killed process leaves
    (tmp_path / ".out.partial/detections.csv").write_text("half of it")
    evaluate(trained, "--out", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert commands.same(tmp_path / "out/detections.csv", trained / "detections.csv")


def test_one_of_two_at_once_is_refused(trained, tmp_path, capsys):
    with process_lock(tmp_path / ".out.lock"):
        assert str(tmp_path / "out") in refused(trained, capsys, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    evaluate(trained, "--out", tmp_path / "out")
