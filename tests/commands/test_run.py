"""The real command on a small set: what it prints is what it returns and what the files hold."""

import json
import re

import commands
import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from places import ROOT, python

import dataset
import eval_detection
import opts
import run
from engine import run_folder
from formats import clip_scores, detections
from jobs import setup
from methods import METHODS

SHORT = "--cycle 1 --cycle-epochs 3 --untrimmednet-epochs 2 --wtalc-iterations 20".split()


def write_set(folder):
    # the set's flags without the length of training
    return [*commands.write_set(folder, n_test=5)[:6], *SHORT]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run by the real command: (folder, its output, its flags)."""
    folder = tmp_path_factory.mktemp("run")
    methods = "--method em-mil untrimmednet wtalc --pictures 2".split()
    flags = [*write_set(folder / "data"), *methods]
    done = python("run.py", *flags, "--out", folder / "out", timeout=300)
    assert done.returncode == 0, done.stderr
    return folder / "out", done.stdout, flags


def test_the_printed_table_is_the_result(finished):
    folder, printed, _ = finished
    results = json.loads((folder / "results.json").read_text())
    for method, label in ((name, m.title) for name, m in METHODS.items()):
        e = results["methods"][method]["protocols"]["activitynet"]
        assert e["tious"] == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]
        cells = re.search(rf"^{re.escape(label)} +([-\d. ]+)$", printed, re.M).group(1).split()
        assert cells[:7] == [f"{100 * m:.1f}" for m in e["map"]]
        assert cells[7:] == [
            f"{100 * e['averages'][k]:.1f}" for k in ("0.1:0.5", "0.3:0.7", "0.1:0.7")
        ]
        for c in "AB":
            assert f"{100 * e['ap'][c][4]:.1f}" in re.search(
                rf"^{label}, by class.*?^{c} +(\S+)", printed, re.M | re.S
            ).group(1)
    assert "Video-level classification, UntrimmedNet: mAP" in printed and "Files: " in printed
    assert "training: 8 videos" in printed and "test: 5 videos" in printed
    assert "clips of 0.5 s" in printed


def test_the_result_can_be_had_from_the_files_alone(finished, tmp_path):
    folder, _, _ = finished
    results = json.loads((folder / "results.json").read_text())
    truth = pd.read_csv(folder / "ground_truth.csv")
    for method, stem in (("em-mil", "detections"), ("wtalc", "detections-wtalc")):
        for suffix in (".json", ".csv"):
            table = detections.read_detections(folder / (stem + suffix))
            again = eval_detection.evaluate(truth, table, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7])
            assert (
                again.map.tolist() == results["methods"][method]["protocols"]["activitynet"]["map"]
            )


def test_what_a_run_leaves(finished):
    folder, _, flags = finished
    names = {p.name for p in folder.iterdir()}
    found = [
        f"detections{m}{s}" for m in ("", "-untrimmednet", "-wtalc") for s in (".json", ".csv")
    ]
    assert names - {".lock"} == {
        *found,
        *"opts.json environment.json log.jsonl log.txt labels checkpoint.pt ground_truth.csv".split(),
        *"ambiguous.csv results.json table.md report.html training.png figures".split(),
        "clip_scores.h5",
    }
    assert len(list((folder / "figures").glob("*.png"))) == 2
    assert not [n for n in names if n.startswith(".") and n != ".lock"]
    o = json.loads((folder / "opts.json").read_text())
    assert o["dataset"] == "custom" and o["cycle"] == 1 and o["lam"] == 0.3
    (environment,) = json.loads((folder / "environment.json").read_text())
    assert environment["options"] == o and environment["code"] == run_folder.code_hash()
    assert environment["phases"] == [
        ["M", 1, 1e-4, "bag"],
        ["E", 1, 1e-4, "frozen"],
        ["M", 1, 1e-4, "frozen"],
    ]
    assert environment["methods"] == ["untrimmednet", "wtalc", "em-mil"]
    assert (environment["device"], environment["threads"], environment["processes"]) == (
        "cpu",
        1,  # as engine.cpu chose for this small set
        1,
    )
    assert (folder / "log.txt").read_text() == finished[1]
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [(r["stage"], r["epoch"]) for r in log] == [
        ("untrimmednet", 1),
        ("untrimmednet", 2),
        ("wtalc", 1),
        ("em-mil 01 M", 1),
        ("em-mil 02 E", 1),
        ("em-mil 03 M", 1),
    ]
    for r in log[3:]:
        assert {"phase", "step", "lr", "loss", "positive", "empty", "changed", "seconds"} <= set(r)


def test_clip_scores_and_detections_agree(finished):
    """Every EM-MIL detection covers exactly a run of clips above the threshold, worked out here
    again.
    """
    folder, _, _ = finished
    records, classes = clip_scores.read(folder / "clip_scores.h5")
    table = pd.read_csv(folder / "detections.csv")
    assert set(table["video"]) <= {r.name for r in records} and len(table)
    for r in records:
        for c, label in enumerate(classes):
            rows = table[(table["video"] == r.name) & (table["label"] == label)]
            l = 0.3 * r.scores["em-mil"]["q"].astype(float) + 0.7 * r.scores["em-mil"]["p"][
                :, c
            ].astype(float)
            video = r.scores["untrimmednet"]["video"]
            passes = video[c] >= 0.15 or (video.max() < 0.15 and c == video.argmax())
            above, found, start = l > l.mean(), [], None
            for t in range(len(l) + 1):
                if t < len(l) and above[t]:
                    start = t if start is None else start
                elif start is not None:
                    found.append((start * 0.5, t * 0.5, l[start:t].mean()))
                    start = None
            expected = sorted(found) if passes else []
            assert (
                np.allclose(sorted(zip(rows.t_start, rows.t_end, rows.score)), expected)
                if expected
                else not len(rows)
            )


def test_in_process_same_seed_same_everything(finished, tmp_path):
    folder, _, flags = finished
    results = run.main([*flags, "--out", str(tmp_path / "again")])
    stored = json.loads((folder / "results.json").read_text())
    for method in METHODS:
        assert results["methods"][method]["protocols"] == stored["methods"][method]["protocols"]
    assert commands.same(tmp_path / "again/detections.csv", folder / "detections.csv")


def test_dry_run_touches_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run.main(["--dry-run"]) is None
    assert list(tmp_path.iterdir()) == []
    assert "M10 E10 M10 E1 M1" in capsys.readouterr().out


def test_oracle_classes_are_marked_and_find_no_other_class(finished, tmp_path, capsys):
    folder, _, _ = finished
    results = run.main(
        ["--evaluate", str(folder), "--video-classifier", "oracle", "--out", str(tmp_path)]
    )
    assert {m["label"] for m in results["methods"].values()} == {
        "EM-MIL (oracle classes)",
        "UntrimmedNet (oracle classes)",
        "W-TALC (oracle classes)",
    }
    assert "EM-MIL (oracle classes)" in capsys.readouterr().out
    truth, table = (
        pd.read_csv(folder / "ground_truth.csv"),
        pd.read_csv(tmp_path / "detections.csv"),
    )
    labels = set(zip(truth.video, truth.label))
    assert set(zip(table.video, table.label)) <= labels


def test_the_papers_row_stands_only_beside_its_data(finished, tmp_path, capsys):
    folder, printed, _ = finished
    assert "(paper)" not in printed and "difference" not in printed
    o = json.loads((folder / "opts.json").read_text())
    (tmp_path / "run").mkdir()
    for name in ("clip_scores.h5", "ground_truth.csv", "ambiguous.csv", "environment.json"):
        (tmp_path / "run" / name).write_bytes((folder / name).read_bytes())
    (tmp_path / "run/opts.json").write_text(json.dumps({**o, "dataset": "thumos14"}))
    results = run.main(["--evaluate", str(tmp_path / "run"), "--out", str(tmp_path / "eval")])
    out = capsys.readouterr().out
    ours = 100 * results["methods"]["em-mil"]["protocols"]["activitynet"]["map"][4]
    line = re.search(r"^difference +(.*)$", out, re.M).group(1).split()
    assert line[4] == f"{ours - 30.5:+.1f}"


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--features", "missing.h5"], "missing.h5: "),
        (["--annotations", "missing.json"], "missing.json: "),
        (["--test-subset", "nowhere"], "'nowhere'"),
        (["--device", "cuda"], "--device: found cuda"),
        (["--precision", "fp32"], "--precision: found an option of an earlier version"),
        (["--lambda", "2"], "--lambda: found 2.0, expected a number in [0, 1]"),
        (["--exclude-video", "nobody"], "--exclude-video: found nobody"),
        (
            ["--snippet-seconds", "-1"],
            "--snippet-seconds: found -1.0, expected a number in (0, inf)",
        ),
    ],
)
def test_bad_input_is_one_line_and_code_2(tmp_path, monkeypatch, capsys, flags, message):
    if flags == ["--device", "cuda"] and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    base = write_set(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert message in commands.refused([*base, "--out", "out", *flags], capsys)
    assert not (tmp_path / "out/results.json").exists()


def test_products_are_float32_s_and_the_gpu_has_its_number(monkeypatch):
    """On the second of two GPUs, which are pretended: a new thread's own "cuda" is the first."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)  # as PyTorch starts
    torch.set_float32_matmul_precision("high")
    assert setup.device_of(opts.resolve({})) == torch.device("cuda", 1)
    assert setup.device_of(opts.resolve({"device": "cpu"})) == torch.device("cpu")
    assert not torch.backends.cudnn.allow_tf32 and not torch.backends.cuda.matmul.allow_tf32
    assert torch.get_float32_matmul_precision() == "highest"


@pytest.mark.slow
def test_the_real_command_ends_the_same_way(tmp_path):
    flags = [*write_set(tmp_path), "--features", "missing.h5"]
    done = python(ROOT / "run.py", *flags, cwd=tmp_path, timeout=120)
    assert done.returncode == 2 and done.stderr.startswith("error: ")
    assert commands.one_line(done.stderr, "missing.h5: ")


def test_a_folder_that_holds_a_run_is_not_overwritten(finished):
    folder, _, flags = finished
    before = (folder / "results.json").read_bytes()
    with pytest.raises(SystemExit) as stopped:
        run.main([*flags, "--out", str(folder)])
    assert stopped.value.code == 2 and (folder / "results.json").read_bytes() == before


@pytest.mark.parametrize("flags", [["--recipe", "release"], ["--dataset", "thumos14"]])
def test_a_saved_runs_options_keep_their_name(finished, flags, capsys):
    """A recipe or preset beside --config would change the label and none of the values."""
    with pytest.raises(SystemExit) as stopped:
        run.main(["--config", str(finished[0] / "opts.json"), "--dry-run", *flags])
    assert stopped.value.code == 2
    assert f"{flags[0]}: found '{flags[1]}', expected" in capsys.readouterr().err


def test_videos_without_features_are_missed_not_forgiven(tmp_path, capsys):
    """--allow-missing: the ground truth keeps the segments of a test video that has no features."""
    flags = write_set(tmp_path)
    with h5py.File(tmp_path / "features.h5", "a") as file:
        del file["video_08"]
    results = run.main(
        [*flags, "--allow-missing", "--pictures", "0", "--out", str(tmp_path / "out")]
    )
    assert results["test"]["videos"] == 4 and results["test"]["segments"] == 5


def test_training_videos_carry_no_segments(tmp_path):
    write_set(tmp_path)
    data = dataset.load(
        tmp_path / "features.h5",
        tmp_path / "annotations.json",
        train_subset="train",
        test_subset="test",
    )
    assert all(len(v.segments) == 0 and len(v.segment_labels) == 0 for v in data.train)
    assert all(len(v.segments) == 1 for v in data.test)
