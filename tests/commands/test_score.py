"""The command of eval_detection.py: which files, subset, videos and classes it scores."""

import json
import re
import shutil

import commands
import numpy as np
import pandas as pd
import pytest
from places import ROOT, SHARED, python
from rows import detections, ground_truth

import eval_detection
from eval_detection import PROTOCOLS
from formats.detections import read_detections, write_detections

DATA = SHARED / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"no published annotations in {DATA}")


def write_truth(path, database):
    """ActivityNet's JSON of {video: (subset, duration or None, [(label, segment)])}."""
    content = {
        video: {
            "subset": subset,
            "annotations": [{"label": label, "segment": s} for label, s in segments],
            **({"duration": duration} if duration else {}),
        }
        for video, (subset, duration, segments) in database.items()
    }
    path.write_text(json.dumps({"database": content}))
    return path


TRUTH = {
    "a": ("testing", None, [("run", [0, 10]), ("jump", ["20", "30.0"])]),
    "b": ("testing", None, [("run", [0, 10])]),
    "c": ("training", None, [("swim", [0, 5])]),
    "d": ("testing", None, []),
}
FOUND = [("a", 0, 10, "run", 0.9), ("a", 20, 30, "run", 0.8), ("c", 0, 5, "swim", 0.7)]


@pytest.fixture
def files(tmp_path):
    """Ground truth with a training subset, and detections: jump missed, run found once of twice."""
    write_truth(tmp_path / "gt.json", TRUTH)
    found(tmp_path / "found.csv", *FOUND)
    return tmp_path


def found(path, *rows):
    write_detections(detections(*rows), path)
    return path


def command(*argv):
    return eval_detection.main([str(word) for word in argv])


def refused(capsys, *argv):
    return commands.refused(argv, capsys, eval_detection.main)


def map_of(results, protocol="activitynet"):
    return results["protocols"][protocol]["map"]


# ---- what is scored
def test_the_printed_tables_are_the_results(files, capsys):
    more = f"--tiou 0.5 0.75 --per-class --json {files / 'out.json'}".split()
    results = command(files / "gt.json", files / "found.csv", *more)
    assert json.loads((files / "out.json").read_text()) == results
    assert results["subset"] == "testing" and map_of(results) == [0.25, 0.25]
    assert (results["videos"], results["detections"], results["detections_outside"]) == (3, 3, 1)
    (e,) = results["protocols"].values()
    assert e["segments"] == {"jump": 1, "run": 2} and e["counts"]["unscored_detections"] == 1
    assert e["errors"] == {
        **dict.fromkeys([word for word, _ in eval_detection.KINDS.values()][:-1], 0),
        **{"hit": 1, "wrong class": 1, "missed segments": 2},
    }
    out = capsys.readouterr().out
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line}
    assert rows["run"] == ["50.0", "50.0", "2"] and rows["jump"] == ["0.0", "0.0", "1"]
    assert out.splitlines()[-1].split() == ["activitynet", "25.0", "25.0", "25.0"]
    assert "1 hit" in out and "1 wrong class" in out and "2 missed segments" in out


def test_all_protocols_and_ambiguous_segments(files):
    (files / "text.txt").write_text("a 25.0 26.0\n")
    (files / "table.csv").write_text("video,t_start,t_end,label\na,25.0,26.0,Ambiguous\n")
    (files / "named.csv").write_text("video,t_start,t_end\nv_a.mp4,25,26\nelsewhere,1,2\n")
    path = found(files / "two.json", ("a", 20, 30, "run", 0.9), ("a", 0, 10, "run", 0.8))
    for name in ("text.txt", "table.csv", "named.csv"):
        argv = files / "gt.json", path, "--ambiguous", files / name
        results = command(*argv, *"--protocol all --tiou 0.5".split())
        got = [map_of(results, protocol)[0] for protocol in PROTOCOLS]
        assert got == pytest.approx([0.25 / 2, 6 / 11 / 2, 0.25])
        assert results["protocols"]["thumos-2015"]["errors"]["ignored"] == 1
        results = command(*argv, "--exclude-video", "v_a")
        assert results["excluded_videos"] == ["a"] and results["ambiguous_segments"] == 0


def test_ambiguous_segments_beside_a_ground_truth_in_csv(files):
    """A run's folder holds ground_truth.csv and ambiguous.csv; they give what --ambiguous gives."""
    rows = "video,t_start,t_end,label\na,0,10,run\na,20,30,jump\nb,0,10,run\n"
    (files / "ground_truth.csv").write_text(rows)
    (files / "ambiguous.csv").write_text("video,t_start,t_end,label\na,25,26,Ambiguous\n")
    path = found(files / "two.json", ("a", 20, 30, "run", 0.9), ("a", 0, 10, "run", 0.8))
    more = [path, "--protocol", "thumos-2015", "--tiou", 0.5]
    beside = command(files / "ground_truth.csv", *more)["protocols"]
    given = command(files / "gt.json", *more, "--ambiguous", files / "ambiguous.csv")["protocols"]
    assert beside == given and beside["thumos-2015"]["map"] == [0.25]
    (files / "ambiguous.csv").unlink()
    assert map_of(command(files / "ground_truth.csv", *more), "thumos-2015") == [0.125]


def test_videos_are_left_out(files):
    more = "--exclude-video b --exclude-video c.mp4".split()
    results = command(files / "gt.json", files / "found.csv", *more)
    assert results["excluded_videos"] == ["b", "c"] and results["detections"] == 2
    (e,) = results["protocols"].values()
    assert e["counts"]["segments"] == 2 and e["averages"]["0.1:0.7"] == pytest.approx(0.5)


@pytest.mark.parametrize("rows", [[], [("d", 0, 10, "run", 0.9)]])
def test_no_detection_where_there_is_a_segment(files, rows):
    results = command(files / "gt.json", found(files / "f.csv", *rows), "--protocol", "all")
    assert {value for name in PROTOCOLS for value in map_of(results, name)} == {0}


@pytest.mark.parametrize("label", ["Background", "Run"])
def test_detections_of_other_classes_are_counted_and_left_out(files, caplog, label):
    rows = [("a", 0, 10, "run", 0.9), ("a", 20, 30, "run", 0.8)]
    known = found(files / "known.json", *rows)
    more = found(files / "more.json", ("a", 0, 10, label, 0.95), *rows, ("b", 0, 10, label, 0.1))
    expected, results = (command(files / "gt.json", path) for path in (known, more))
    assert results["protocols"] == expected["protocols"] and results["detections"] == 2
    (said,) = [r.getMessage() for r in caplog.records if r.getMessage().startswith(str(more))]
    assert label in said


@pytest.mark.parametrize("form", ["v_{}", "{}.mp4", "{}.MKV", "V_{}"])
def test_names_of_videos_go_by_any_form(files, form):
    rows = [(form.format(video), 0, 10, "run", 0.9) for video in "ab"]
    argv = files / "gt.json", found(files / "other.csv", *rows)
    results = command(*argv)
    assert map_of(results) == [0.5] * 7 and results["detections_outside"] == 0
    results = command(*argv, "--exclude-video", form.format("b"))
    assert results["excluded_videos"] == ["b"] and results["detections"] == 1


@pytest.mark.parametrize(
    "subsets, scored",
    [
        (["train", "Test"], "Test"),
        (["VAL", "Training"], "VAL"),
        (["Validation", "TESTING"], "TESTING"),
        (["only"], "only"),
    ],
)
def test_the_subset_that_is_scored(tmp_path, subsets, scored):
    database = {s: (s, None, [("run", [0, 10])]) for s in subsets}
    path = found(tmp_path / "f.csv", *[(s, 0, 10, "run", 1) for s in subsets])
    assert command(write_truth(tmp_path / "gt.json", database), path)["subset"] == scored


@pytest.mark.parametrize(
    "duration, rows, said",
    [(40, [("a", 0, 900, "run", 0.7), ("b", -1, 1e4, "run", 0.6)], "9960"), (1.2, FOUND, "frames")],
)
def test_odd_times_are_said(files, caplog, duration, rows, said):
    database = {name: (subset, duration, rows) for name, (subset, _, rows) in TRUTH.items()}
    command(write_truth(files / "gt.json", database), found(files / "far.csv", *rows))
    assert any(said in line for line in caplog.messages)


def test_by_class_the_five_best_and_worst_of_many(tmp_path, capsys):
    """Class k has k + 1 segments, of which one is found."""

    def shown(n, *argv):
        truth = [
            (f"v{i}", 20 * k, 20 * k + 10, f"class_{k:02d}") for k in range(n) for i in range(k + 1)
        ]
        ground_truth(*truth).to_csv(tmp_path / "many.csv", index=False)
        rows = [("v0", 20 * k, 20 * k + 10, f"class_{k:02d}", 1) for k in range(n)]
        command(tmp_path / "many.csv", found(tmp_path / "many.json", *rows), *argv)
        return [int(k) for k in re.findall(r"^class_(\d+)", capsys.readouterr().out, re.M)]

    assert shown(14) == list(range(14))
    assert shown(15) == [0, 1, 2, 3, 4, 10, 11, 12, 13, 14]
    assert shown(15, "--per-class") == list(range(15))


# ---- refused
@pytest.mark.parametrize(
    "rows, flags, where, said",
    [
        (FOUND, ["--subset", "validation"], "gt.json", "training"),
        (FOUND, ["--subset", "testing", "--exclude-video", "a", "b"], "gt.json", "no segment"),
        (FOUND, ["--exclude-video", "zebra"], "--exclude-video", "zebra"),
        (FOUND, ["--tiou", 1.5], "tIoU", "1.5"),
        (FOUND, ["--tio", 0.5], "--tio", "--tiou"),
        (FOUND, ["--json", "nowhere/out.json"], "nowhere/out.json", ""),
        (FOUND, ["--protocol", "all", "--ambiguous", "reversed.txt"], "reversed.txt", "30"),
        ([("a", 0, 10, "Run", 0.9)], [], "f.csv", "run"),
        ([("w_a", 0, 10, "run", 0.9)], [], "f.csv", "w_a"),
        ([("c", 0, 5, "swim", 0.9)], [], "f.csv", "--subset"),
    ],
)
def test_what_is_refused(files, capsys, monkeypatch, rows, flags, where, said):
    monkeypatch.chdir(files)
    (files / "reversed.txt").write_text("a 30 20\n")
    error = refused(capsys, "gt.json", found(files / "f.csv", *rows), *flags)
    assert where in error and said in error


@pytest.mark.parametrize("names", [("nowhere.json", "found.csv"), ("gt.json", "nowhere.csv")])
def test_no_such_file(files, capsys, names):
    assert "nowhere" in refused(capsys, *(files / name for name in names))


# ---- the sets of the paper
@pytest.mark.slow
@needs_data
@pytest.mark.parametrize(
    "form, videos, segments",
    [
        ("thumos14/evalkit-test-annotation", 212, 3358),
        ("thumos14/Thumos14reduced-Annotations", 212, 3358),
        ("thumos14/gt-210test.json", 210, 3311),
    ],
)
def test_every_form_of_thumos14(golden_sets, form, videos, segments):
    """Equal to the golden values where nothing is left out, and to each other without the videos
    the JSON lacks."""
    golden = golden_sets / "thumos14_a"
    results = command(DATA / form, golden / "detections.csv", "--protocol", "all")
    counts = results["protocols"]["activitynet"]["counts"]
    assert (results["videos"], counts["videos"], counts["segments"]) == (videos, videos, segments)
    assert counts["classes"] == 20
    if videos == 212:
        expected = json.loads((golden / "expected.json").read_text())
        for protocol, key in (("activitynet", "activitynet"), ("thumos-2015", "thumos_20150930")):
            ap = list(results["protocols"][protocol]["ap"].values())  # (C, T)
            np.testing.assert_allclose(np.transpose(ap), expected[key]["ap"], rtol=0, atol=1e-6)
    traps = ["video_test_0000270", "video_test_0001496", "video_test_0001292"]
    results = command(DATA / form, golden / "detections.csv", "--exclude-video", *traps)
    truth = pd.read_csv(golden_sets / "thumos14_ground_truth.csv")
    table = read_detections(golden / "detections.csv")
    kept = truth[~truth["video"].isin(traps)], table[~table["video"].isin(traps)]
    expected = eval_detection.evaluate(*kept, eval_detection.TIOUS).map
    assert map_of(results) == pytest.approx(expected.tolist(), abs=1e-12)
    assert results["detections_outside"] == 0


@pytest.mark.parametrize(
    "form",
    [
        "table",
        *(
            pytest.param(name, marks=[pytest.mark.slow, needs_data])
            for name in ("gt-validation.json", "ActivityNet1.2-Annotations")
        ),
    ],
)
def test_every_form_of_activitynet(golden_sets, form):
    """The W-TALC folder calls its videos video_4, ...; the detections name them by YouTube id."""
    golden, truth = golden_sets / "activitynet12_a", DATA / "activitynet12" / form
    truth = golden_sets / "activitynet12_ground_truth.csv" if form == "table" else truth
    tious = [0.5 + 0.05 * i for i in range(10)]
    results = command(truth, golden / "detections.csv", "--tiou", *tious)
    (e,) = results["protocols"].values()
    assert e["counts"]["segments"] == 3579 and results["detections_outside"] == 0
    expected = json.loads((golden / "expected.json").read_text())["activitynet"]["map"]
    np.testing.assert_allclose(e["map"], expected, rtol=0, atol=1e-9)


@pytest.mark.slow
def test_the_command_runs_as_a_program(files):
    shutil.copy(files / "gt.json", files / "é.json")
    argv = ROOT / "eval_detection.py", files / "é.json", files / "found.csv"
    done = python("-OO", *argv, environment={"PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stderr) == (0, "") and "?.json" in done.stdout
    done = python(*argv[:2], files / "nowhere.csv")
    assert done.returncode == 2 and commands.one_line(done.stderr, "error: ", "nowhere.csv")
