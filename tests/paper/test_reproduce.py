"""The paper's commands on a small set: what their pages say is what the runs left."""

import dataclasses
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import filelock
import numpy as np
import pandas as pd
import pytest
import torch
from commands import refused, stops, words, write_set
from places import ROOT

import dataset
import localize
import opts
import reproduce
import run
from engine import labels, run_folder
from formats.clip_scores import Record
from formats.files import InputError
from jobs import record
from jobs.setup import wanted
from paper import figures, runs, sweeps, tables
from report import published

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """(flags of a small set, its Setup): seeds 1 and 2 of em-mil and joint-step are trained."""
    folder = tmp_path_factory.mktemp("reproduce")
    flags = [*small_set(folder / "data"), *words("--out {} --seeds 2 --jobs 2", folder / "out")]
    s = setup("table3", *flags)
    make(s, "em-mil", {})
    make(s, "joint-step", {"joint": "step"})
    return flags, s


def small_set(folder):
    """The flags of a small set, without the localizers, which reproduce.py chooses."""
    flags = write_set(folder)
    at, end = flags.index("--method"), flags.index("--untrimmednet-epochs")
    return [*flags[:at], *flags[end:]]


def setup(*argv):
    return reproduce.setup_of([str(word) for word in argv])


def make(s, variant, more, seeds=(1, 2)):
    """Trains a variant's runs in this process."""
    s.variants[variant] = more
    for seed in seeds:
        one = runs.planned(s, variant, seed)
        run.main(["--out", str(one.folder), *runs.flags_of(one.given)])


def with_wtalc(s):
    """Trains W-TALC's runs, once."""
    if "wtalc" not in s.variants:
        make(s, "wtalc", {"method": ("wtalc",)})


def elsewhere(small, out, *more):
    """(flags, Setup) of another --out with one seed, whose run is a copy of the small set's."""
    flags = [*small[0][:-6], "--out", str(out), "--seeds", "1", *more]
    s = setup("lambda", *flags)
    s.variants["em-mil"] = {}
    one = runs.planned(s, "em-mil", 1)
    shutil.copytree(runs.planned(small[1], "em-mil", 1).folder, one.folder)
    (made,) = record.made_with(one.folder)
    made["methods"] = wanted(one.o)  # a file of scores takes the place of a classifier
    (one.folder / run_folder.RECORDS).write_text(json.dumps([made]))
    return flags, s


def page(s, name):
    folder = s.folder(name)
    return ((folder / f"{name}.md").read_text(), pd.read_csv(folder / f"{name}.csv"))


def results(s, variant, seed):
    return json.loads((runs.planned(s, variant, seed).folder / "results.json").read_text())


def maps(s, variant, method="em-mil", protocol="activitynet"):
    """(seeds, tIoUs) as the runs themselves say."""
    return np.array(
        [
            results(s, variant, seed)["methods"][method]["protocols"][protocol]["map"]
            for seed in (1, 2)
        ]
    )


def mean_std(values):
    return f"{100 * values.mean():.1f} ± {100 * values.std(ddof=1):.1f}"


def fails(capsys, *argv):
    """The one line that a command ends with."""
    code, error = stops(argv, capsys, reproduce.main)
    assert code == 2
    return error.strip().splitlines()[-1]


# ------------------------------------------------------------------------------------------ runs


def test_what_is_missing_is_trained_side_by_side(small, capsys):
    flags, s = small
    make(s, "attention", {"objective": "attention"}, seeds=[1])
    (runs.planned(s, "em-mil", 2).folder / "results.json").unlink()  # as if stopped at its end
    before = {path: path.stat().st_mtime_ns for path in s.pool.glob("joint-step-*/checkpoint.pt")}
    assert len(before) == 2
    capsys.readouterr()
    reproduce.main(["table3", *flags])
    assert "6 runs, 4 of them done before; 2 side by side" in capsys.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in before}
    assert set(runs.finished(s, "attention")) == set(runs.finished(s, "em-mil")) == {1, 2}


def test_a_failing_seed_does_not_lose_the_others(small, tmp_path, capsys):
    flags, s = elsewhere(small, tmp_path / "out", "--seeds", "2")
    broken = runs.planned(s, "em-mil", 2).folder
    broken.mkdir()
    (broken / "checkpoint.pt").write_bytes(b"no checkpoint")
    with pytest.raises(SystemExit) as caught:
        reproduce.main(["lambda", *flags])
    err = capsys.readouterr().err
    assert caught.value.code == 1 and "1 runs failed" in err and "em-mil, seed 2: error: " in err
    text, frame = page(s, "lambda")
    assert set(frame["seed"]) == {1} and "finished: 1 of em-mil" in text
    assert "Failed runs: em-mil seed 2: error: " in text


def em_mil_run(flags, *more):
    """The folder of the run that a command with these flags would use."""
    s = setup("table3", *flags, *more)
    s.variants["em-mil"] = {}
    return runs.planned(s, "em-mil", 1).folder


def test_runs_of_other_code_options_data_or_pytorch_are_others(small, tmp_path, monkeypatch):
    flags, s = small
    folder = runs.planned(s, "em-mil", 1).folder
    assert folder.name.startswith("em-mil-s1-") and em_mil_run(flags) == folder
    second = runs.planned(s, "em-mil", 2).folder
    assert second.name == folder.name.replace("-s1-", "-s2-")  # one pattern for all seeds
    assert em_mil_run(flags, "--lambda", "0.9", "--gate", "0.5", "--device", "cpu") == folder
    for more in (("--lr", "1e-3"), ("--gamma", "0.1"), ("--exclude-video", "video_09")):
        assert em_mil_run(flags, *more) != folder
    same = small_set(tmp_path / "moved")
    assert em_mil_run([*same, *flags[-6:]]) == folder  # the same data
    changed = write_set(tmp_path / "changed", seed=1)
    assert em_mil_run([*changed[:6], *flags[6:]]).name != folder.name
    with monkeypatch.context() as patch:
        patch.setattr(run_folder, "code_hash", lambda: "other code")
        assert em_mil_run(flags) != folder
    monkeypatch.setattr(torch, "__version__", "1.0")
    assert em_mil_run(flags) != folder


def test_runs_of_another_schedule_are_others(small, monkeypatch):
    """The options are the same; `opts.schedule` makes other phases of them."""
    flags, s = small
    folder = runs.planned(s, "em-mil", 1).folder
    first, *rest = s.o.phases
    other_order = [first, *rest[1:], rest[0]]
    monkeypatch.setattr(opts, "schedule", lambda o: other_order)
    assert em_mil_run(flags) != folder


def test_another_dataset_in_opts_py_trains_nothing_again(small, monkeypatch):
    flags, s = small
    monkeypatch.setattr(opts, "DATASET", "activitynet12")
    monkeypatch.setitem(opts.PRESETS, "thumos14", {**opts.PRESETS["thumos14"], "gamma": 0.9})
    assert em_mil_run(flags) == runs.planned(s, "em-mil", 1).folder


def test_runs_that_compute_with_something_else_are_others(small, monkeypatch):
    """A GPU, or other instructions of the CPU; another number of threads rounds differently."""
    flags, s = small
    folder = runs.planned(s, "em-mil", 1).folder
    with monkeypatch.context() as patch:
        patch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "NONE")
        assert em_mil_run(flags) != folder
    with monkeypatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: True)
        assert em_mil_run(flags) != folder and em_mil_run(flags, "--device", "cpu") == folder
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    assert em_mil_run(flags) == folder


def test_numbers_of_other_code_are_not_taken_over(small, tmp_path, monkeypatch, capsys):
    """After a change the old runs stay beside, and a line says so."""
    flags, s = elsewhere(small, tmp_path / "out")
    old = runs.planned(s, "em-mil", 1).folder
    older = shutil.copytree(old, old.with_name("em-mil-s1-00000000"))
    (older / run_folder.RECORDS).write_text('[{"code": "of 1.0"}]')
    monkeypatch.setattr(run_folder, "code_hash", lambda: "other code")
    environment = {**s.environment, "code": "other code"}
    new = runs.planned(dataclasses.replace(s, environment=environment), "em-mil", 1)
    assert new.folder != old and not new.done
    started = []

    class Process:
        """Trains nothing: it copies the old run, with a mark."""

        returncode = 0

        def __init__(self, words, **options):
            started.append(words[words.index("--out") + 1])
            shutil.copytree(old, new.folder)
            (made,) = record.made_with(new.folder)
            made["code"] = "other code"
            (new.folder / run_folder.RECORDS).write_text(json.dumps([made]))

        def poll(self):
            return 0

    monkeypatch.setattr(
        runs,
        "subprocess",
        SimpleNamespace(Popen=Process, DEVNULL=subprocess.DEVNULL, STDOUT=subprocess.STDOUT),
    )
    reproduce.main(["lambda", *flags])
    assert started == [str(new.folder)] and (old / "results.json").exists()
    out = capsys.readouterr().out
    assert "2 runs made with something else, trained again here: em-mil-s1-" in out
    assert f"{older.name} (an earlier version)" in out and f"{old.name} (other code)" in out
    assert "Code other code" in page(s, "lambda")[0]


@pytest.mark.parametrize("name, value", [("code", "0000"), ("processes", 2), ("device", "cuda")])
def test_a_run_that_is_not_all_of_what_its_key_says_is_refused(
    small, tmp_path, capsys, name, value
):
    """Resumed with --other-code, or by a command of the user's with the folder as --out."""
    flags, s = elsewhere(small, tmp_path / "out")
    folder = runs.planned(s, "em-mil", 1).folder
    (made,) = record.made_with(folder)
    (folder / run_folder.RECORDS).write_text(json.dumps([{**made, name: value}, made]))
    assert fails(capsys, "lambda", *flags) == (
        f"error: {folder}: found a run made with the {name} {value}, expected {made[name]} alone; "
        "remove the folder, and it is trained again"
    )


def test_one_reproduce_at_a_time(tmp_path):
    with runs.locked(tmp_path / "pool"):
        with pytest.raises(InputError, match="found another reproduce.py at work there"):
            with runs.locked(tmp_path / "pool"):
                pass
    with runs.locked(tmp_path / "pool"):
        pass


def test_a_run_left_at_work_is_waited_for(small, tmp_path, monkeypatch, capsys):
    """Its process holds the folder's lock; the next call says so, and takes what it leaves."""
    flags, s = elsewhere(small, tmp_path / "out")
    folder = runs.planned(s, "em-mil", 1).folder
    whole = (folder / "results.json").read_bytes()
    (folder / "results.json").rename(folder / "not yet")
    holder = (
        "import filelock, os, sys\n"
        "os.chdir(sys.argv[1])\n"
        "with filelock.FileLock('.lock'):\n"
        "    print('held', flush=True)\n"
        "    sys.stdin.readline()\n"
        "    os.rename('not yet', 'results.json')\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", holder, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdout.readline() == b"held\n"
    slept, sleep = [], time.sleep

    def tick(seconds):
        slept.append(seconds)
        if len(slept) == 3:
            child.communicate(b"\n")
        sleep(0.01)

    monkeypatch.setattr(runs.time, "sleep", tick)
    reproduce.main(["lambda", *flags])
    printed = capsys.readouterr()
    assert f"{folder.name}: still at work for an earlier reproduce.py; waiting" in (
        printed.out + printed.err
    )
    assert len(slept) >= 3 and (folder / "results.json").read_bytes() == whole


def test_stopping_takes_the_runs_along(small, tmp_path):
    flags = [*small[0][:-6], *words("--out {} --seeds 1 --cycle-epochs 4000", tmp_path / "out")]
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "reproduce.py"), "lambda", *flags],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    log = None
    for _ in range(600):
        log = next((tmp_path / "out").glob("*/em-mil-s1-*/log.jsonl"), None)
        if log is not None and log.stat().st_size:
            break
        time.sleep(0.1)
    process.terminate()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143 and b"stopped by SIGTERM; the same command goes on" in err
    with filelock.FileLock(log.with_name(".lock"), timeout=0):  # its process has ended
        pass


@pytest.mark.parametrize(
    "argv, line",
    [
        ("table1 --seed 3", "error: --seed: found no such option, expected --seeds?"),
        ("table1 --evaluate x", "error: --evaluate: found no such option, expected "),
        (
            "table2 --dataset thumos14",
            "error: table2: found --dataset thumos14, expected ActivityNet1.2 or data of your own",
        ),
        (
            "table3 --dataset custom",
            "error: --features: found none for --dataset custom, expected a path",
        ),
        (
            "table3 --dataset custom --features nowhere.h5 --annotations x.json",
            "error: nowhere.h5: found no such file or folder, expected the features (--features names "
            f"another place; relative paths start at {Path.cwd()})",
        ),
        ("table3 --seeds 0", "error: --seeds: found 0, expected a number from 1 on"),
        ("table3 --no-such", "error: --no-such: found no such option, expected none (--help)"),
        ("table3 --lambda 2", "error: --lambda: found 2.0, expected a number in [0, 1]"),
    ],
)
def test_bad_options_are_one_line(tmp_path, capsys, argv, line):
    assert fails(capsys, *argv.split(), "--out", tmp_path).startswith(line)
    assert not any(tmp_path.iterdir())


def test_flags_are_what_was_given():
    given = opts.parse(
        words(
            "--dataset custom --lr 3e-05 --keep-peak --no-allow-missing --tiou 0.1 0.5 --lambda "
            "0.25 --exclude-video {} c",
            "a b",
        )
    ).given
    assert opts.parse(runs.flags_of(given)).given == given


def test_pages_of_other_options_have_other_folders(small):
    flags, s = small

    def tag(*more):
        return setup("table3", *flags, *more).tag

    assert s.tag.startswith("custom-") and tag() == s.tag
    assert len({s.tag, tag("--lr", "1e-3"), tag("--lambda", "0.9")}) == 3
    assert tag("--feature-memory", "9", "--device", "cpu") == s.tag  # these change no result


# ----------------------------------------------------------------------------------------- pages


def test_table3_shows_what_the_runs_say(small):
    flags, s = small
    for seed in (1, 2):
        if "attention" not in s.variants or not runs.planned(s, "attention", seed).done:
            make(s, "attention", {"objective": "attention"}, seeds=[seed])
    reproduce.main(["table3", *flags])
    text, frame = page(s, "table3")
    for label, variant in (
        ("Full", "em-mil"),
        ("Alternating", "attention"),
        ("Pseudo labeling (labels every step)", "joint-step"),
    ):
        ours = maps(s, variant)
        line = next(line for line in text.splitlines() if line.startswith(f"| {label} "))
        assert [cell.strip() for cell in line.split("|")[2:9]] == [mean_std(v) for v in ours.T]
        np.testing.assert_allclose(frame[frame["method"] == label][["0.1", "0.5"]], ours[:, [0, 4]])
    assert "seeds 1 to 2" in text and (s.folder("table3") / "table3.png").exists()
    assert "a set of the user's" in text and "nothing selected on the test set" in text
    assert f"Code {run_folder.code_hash()}" in text and "recipe paper, but cycle 2" in text
    assert "| Full Model (paper) | 30.5 |" in text and "cannot be compared" in text


def test_table1_has_each_method_and_the_published_rows_apart(small, capsys):
    flags, s = small
    with_wtalc(s)
    reproduce.main(["table1", *flags])
    printed = capsys.readouterr().out
    text, frame = page(s, "table1")
    ours = frame[frame["protocol"] == "activitynet"].set_index("method")
    np.testing.assert_allclose(ours.loc["EM-MIL", "0.5"], maps(s, "em-mil")[:, 4])
    np.testing.assert_allclose(ours.loc["W-TALC", "0.5"], maps(s, "wtalc", "wtalc")[:, 4])
    folder = runs.planned(s, "wtalc", 2).folder
    again = run.main(["--evaluate", str(folder), "--video-classifier", "oracle"])
    assert ours.loc["W-TALC (oracle classes)", "0.5"].iloc[1] == pytest.approx(
        again["methods"]["wtalc"]["protocols"]["activitynet"]["map"][4]
    )
    assert {"EM-MIL", "UntrimmedNet", "EM-MIL (oracle classes)"} < set(ours.index)
    assert len(set(ours.index)) == 6
    assert set(frame["protocol"]) == {"activitynet", "thumos-2014", "thumos-2015"}
    for page_text in (text, printed):
        assert runs.NOT_MEASURED in page_text and published.NOTE in page_text
        assert "cannot be compared" in page_text and "difference" not in page_text
        assert "EM-MIL, Luo et al., ECCV 2020" in page_text


def test_options_of_the_test_shape_the_page_and_train_nothing(small, monkeypatch):
    """The same runs, another lambda: no process starts, and the page says what --evaluate says."""
    flags, s = small
    monkeypatch.setattr(runs, "subprocess", None)
    reproduce.main(["lambda", *flags, "--lambda", "0.9"])
    other = setup("lambda", *flags, "--lambda", "0.9")
    text, frame = page(other, "lambda")
    assert "recipe paper, but" in text and "lambda 0.9" in text
    folder = runs.planned(s, "em-mil", 1).folder
    again = run.main(["--evaluate", str(folder), "--lambda", "0.9"])
    own = frame[(frame["lambda"] == 0.9) & (frame["test_gamma"] == "own") & (frame["seed"] == 1)]
    assert own["map"].item() == pytest.approx(
        again["methods"]["em-mil"]["protocols"]["activitynet"]["map"][4]
    )


def test_without_a_segment_nothing_is_trained(tmp_path, capsys):
    flags = small_set(tmp_path)
    path = Path(flags[flags.index("--annotations") + 1])
    content = json.loads(path.read_text())
    for entry in content["database"].values():
        if entry["subset"] == "test":
            entry["annotations"] = []
    path.write_text(json.dumps(content))
    argv = ["lambda", *flags, "--seeds", "1", "--out", tmp_path / "out"]
    assert "found no segment in the test videos" in refused(argv, capsys, reproduce.main)
    assert not (tmp_path / "out").exists()


def test_table2_averages_over_ten_thresholds(small):
    flags, s = small
    with_wtalc(s)
    reproduce.main(["table2", *flags, "--protocol", "activitynet"])
    text, frame = page(setup("table2", *flags, "--protocol", "activitynet"), "table2")
    tious = [f"{0.5 + 0.05 * k:g}" for k in range(10)]
    np.testing.assert_allclose(frame["avg"], frame[tious].mean(axis=1))
    assert "| mAP (%) at tIoU | 0.5 | 0.7 | 0.9 | avg |" in text


def test_timing_shows_the_seconds_that_the_runs_recorded(small):
    flags, s = small
    with_wtalc(s)
    reproduce.main(["timing", *flags])
    text, frame = page(s, "timing")
    for label, variant in (("EM-MIL", "em-mil"), ("UntrimmedNet", "em-mil"), ("W-TALC", "wtalc")):
        ours = [results(s, variant, seed)["seconds"][f"training {label}"] for seed in (1, 2)]
        assert frame[frame["method"] == label]["training"].tolist() == ours
    assert "| 64.7 |" in text and "| 6051.2 |" in text and "| AutoLoc | - | 44.5 |" in text
    assert "two TITAN RTX" in text and "cannot be compared" in text


def test_lambda_needs_no_training_and_meets_the_run_at_its_own_lambda(small):
    flags, s = small
    reproduce.main(["lambda", *flags])
    _, frame = page(s, "lambda")
    own = frame[(frame["lambda"] == 0.3) & (frame["test_gamma"] == "own")]["map"]
    np.testing.assert_allclose(own, maps(s, "em-mil")[:, 4])
    assert frame.groupby(["seed", "test_gamma"])["lambda"].nunique().tolist() == [11] * 2 * 6
    same = frame[(frame["lambda"] == 0.3) & (frame["test_gamma"] == "0.0")]["map"]
    np.testing.assert_allclose(same, own)  # gamma 0 is the set's own
    names = {path.name for path in s.folder("lambda").glob("*.png")}
    assert names == {"lambda.png", "lambda-gamma.png"}


def test_gamma_in_training_is_not_gamma_at_test(small, monkeypatch):
    flags, s = small
    monkeypatch.setattr(sweeps, "GAMMAS", (0.0, 0.1))
    make(s, "gamma-0.1", {"gamma": 0.1})
    reproduce.main(["gamma", *flags])
    text, frame = page(s, "gamma")
    at = {of: table["map"].to_numpy() for of, table in frame.groupby(["gamma", "test_gamma"])}
    np.testing.assert_allclose(at[0, 0], maps(s, "em-mil")[:, 4])
    np.testing.assert_allclose(at[0.1, 0.1], maps(s, "gamma-0.1")[:, 4])
    cells = [mean_std(at[of]) for of in ((0.1, 0), (0, 0.1), (0.1, 0.1))]
    assert "| 0.1 | " + " | ".join(cells) + " |" in text  # training, test, both
    assert "29.0 to 30.5 for gamma in [0.05, 0.2]" in text


def test_figure5_draws_the_videos_named_and_those_picked(small, capsys):
    flags, s = small
    truth = pd.read_csv(runs.planned(s, "em-mil", 1).folder / "ground_truth.csv")
    name, label = truth.loc[1, ["video", "label"]]
    reproduce.main(["figure5", *flags, "--videos", name])
    _, frame = page(s, "figure5")
    assert frame[["video", "label", "chosen"]].values.tolist() == [[name, label, "named"]]
    folder = s.folder("figure5")
    found = {path.name for path in folder.glob("video*")}
    assert found == {f"{name}-{label}.pdf", f"{name}-{label}.png"}
    reproduce.main(["figure5", *flags])  # a good and a bad example
    _, frame = page(s, "figure5")
    assert frame["chosen"].tolist() == ["best", "worst"] and frame["ap"][0] > frame["ap"][1]
    assert {path.name for path in folder.glob("video*.png")} == set(frame["file"])
    line = fails(capsys, "figure5", *flags, "--videos", "nobody")
    assert line.startswith("error: --videos: found nobody, expected")


def test_figure5_says_where_the_gate_removed_the_class(small, tmp_path):
    truth = pd.read_csv(runs.planned(small[1], "em-mil", 1).folder / "ground_truth.csv")
    right = dict(truth[["video", "label"]].values)
    rows = [
        (name, label, 0.05 if label == right[name] else 0.9) for name in right for label in "AB"
    ]
    kept = next(iter(right))
    rows.append((kept, right[kept], 0.9))  # its class passes the gate
    rows.remove((kept, right[kept], 0.05))
    table = pd.DataFrame(rows, columns=["video", "label", "score"])
    table.to_csv(tmp_path / "scores.csv", index=False)
    flags, s = elsewhere(
        small, tmp_path / "out", "--gate", "0.5", "--video-scores", str(tmp_path / "scores.csv")
    )
    reproduce.main(["figure5", *flags, "--videos", *right])
    _, frame = page(s, "figure5")
    removed = "removed by the gate: video score 0.05 < 0.5"
    notes = dict(zip(frame["video"], frame["note"].fillna("")))
    assert notes == {name: "" if name == kept else removed for name in right}
    assert (frame["predictions"][frame["video"] != kept] == 0).all()


def test_convergence_holds_the_labels_of_each_phase_against_the_segments(small):
    flags, s = small
    reproduce.main(["convergence", *flags])
    _, frame = page(s, "convergence")
    own = frame[frame["seed"] == 1]
    assert own["step"].tolist() == ["M", "E", "M", "E", "M"]
    assert frame[frame["phase"] == 1][["positive", "recall"]].values.tolist() == [[1, 1]] * 2
    second = own[own["phase"] == 2].iloc[0]
    found = labels.read(runs.planned(s, "em-mil", 1).folder, 2, "E")
    assert second["positive"] == pytest.approx(np.concatenate(found).mean())
    # clips of 0.5 s; the segments of the training videos, from the file
    entries = json.loads(Path(s.o.annotations).read_text())["database"]
    entries = [entry for entry in entries.values() if entry["subset"] == "train"]
    inside = []
    for entry, of_video in zip(entries, found):
        (start, end) = entry["annotations"][0]["segment"]
        middles = (np.arange(len(of_video)) + 0.5) / 2
        inside.append((start < middles) & (middles < end))
    inside, positive = np.concatenate(inside), np.concatenate(found) > 0.5
    assert second["recall"] == pytest.approx((inside & positive).sum() / inside.sum())
    assert second["precision"] == pytest.approx((inside & positive).sum() / positive.sum())
    assert (s.folder("convergence") / "convergence.png").exists()


def test_labels_are_counted_by_clip_or_by_clip_and_class():
    masks = [np.array([[1, 0], [1, 1], [0, 0]], bool)]
    assert figures.label_counts([np.array([1.0, 0, 1])], masks).tolist() == [[1, 2, 2]]
    of_class = [np.array([[1.0, 1], [1, 0], [0, 0]])]
    assert figures.label_counts(of_class, masks).tolist() == [[2, 3, 3]]


def test_a_clip_is_inside_where_the_middle_of_its_window_is():
    """Ten windows of 1.5 s, one every 0.5 s: their middles lie at 0.75, 1.25, ..., 5.25 s."""
    none = np.zeros((10, 1), np.float32)
    one = dataset.Video("a", none, None, np.ones(2), 6.0, None, None, 0.5, 1.5)
    segments = pd.DataFrame(
        [(1.25, 2.75, "x"), (5.0, 9.0, "y")], columns="t_start t_end label".split()
    )
    inside = figures.clips_inside(one, ("x", "y"), segments)
    assert np.flatnonzero(inside[:, 0]).tolist() == [1, 2, 3]
    assert np.flatnonzero(inside[:, 1]).tolist() == [9]


def test_clips_of_long_windows_lie_at_the_middle_of_their_windows_in_figure_5():
    scores = {"q": np.array([0.0, 1.0, 0.0]), "p": np.zeros((3, 1))}
    record = Record("v w", 12.0, np.ones(1), {"em-mil": scores}, 2.0, 6.0)
    found = pd.DataFrame([(4.0, 6.0, "x"), (0.0, 1.0, "y")], columns=["t_start", "t_end", "label"])
    stem, timeline = figures.timeline_of(record, "x", "x", found[:0], found, localize.Rule(), "")
    assert stem == "v w-x" and timeline.edges.tolist() == [2, 4, 6, 8]
    assert timeline.scores.tolist() == [0, 0.8, 0] and timeline.duration == 12
    assert timeline.predictions.tolist() == [[4, 6]] and timeline.ground_truth.tolist() == []
    assert timeline.threshold == pytest.approx([0.8 / 3 + 0.15 * 0.8])


def test_no_two_pairs_of_video_and_class_share_a_picture():
    pairs = [
        ("test.1", "x"),
        ("test 1", "x"),
        ("a-b", "c"),
        ("a", "b-c"),
        ("a/b", "c"),
        ("a_b", "c"),
    ]
    pairs += [("\u6f22" * 60, "x" * 24), ("\u6f22" * 60, "x" * 25)]
    stems = set()
    for name, label in pairs:
        scores = {"q": np.zeros(3), "p": np.zeros((3, 1))}
        record = Record(name, 3.0, np.ones(1), {"em-mil": scores}, 1.0, 1.0)
        none = pd.DataFrame(columns=["t_start", "t_end", "label"])
        about = record, [label], label, none, none, localize.Rule(), ""
        stems.add(figures.timeline_of(*about)[0])
    assert len(stems) == len(pairs) and max(len(stem.encode()) for stem in stems) < 240
    assert stems >= {"test.1-x", "test 1-x", "a-b-c"} and not any("/" in stem for stem in stems)


def test_the_average_over_all_is_left_out_only_where_another_column_is_the_same():
    thumos = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
    assert tables.shown(thumos) == [*thumos, "0.1:0.5", "0.3:0.7", "0.1:0.7"]
    others = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
    assert tables.shown(others) == [*others, "all", "0.3:0.7"]
