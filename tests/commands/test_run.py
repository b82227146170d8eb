"""The real command on a small set: what it prints is what it returns and what the files hold."""

import dataclasses
import json
import os
import re
import shutil
from types import SimpleNamespace

import commands
import h5py
import pandas as pd
import pytest
import torch
from places import ROOT, python

import eval_detection
import opts
import run
from engine import run_folder
from formats import detections
from jobs import setup
from methods import METHODS

SHORT = "--cycle 1 --cycle-epochs 3 --untrimmednet-epochs 2 --wtalc-iterations 20".split()


def write_set(folder):
    # the set's flags without the length of training
    return [*commands.write_set(folder, n_test=5)[:6], *SHORT]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run by the real command: (folder, its output, its flags)."""

    def make(folder):
        flags = [*write_set(folder / "data"), "--method", "em-mil", "untrimmednet", "wtalc"]
        done = python("run.py", *flags, "--out", folder / "out", timeout=300)
        assert done.returncode == 0, done.stderr
        (folder / "made.json").write_text(json.dumps([done.stdout, flags]))

    folder = commands.once(tmp_path_factory, "run", make)
    return folder / "out", *json.loads((folder / "made.json").read_text())


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
        *"ambiguous.csv results.json table.md report.html".split(),
        "clip_scores.h5",
    }
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


def test_oracle_classes_are_marked(finished, tmp_path, capsys):
    flags = "--video-classifier oracle --out".split()
    results = run.main(["--evaluate", str(finished[0]), *flags, str(tmp_path)])
    labels = {m["label"] for m in results["methods"].values()}
    assert labels == {f"{method.title} (oracle classes)" for method in METHODS.values()}
    assert "EM-MIL (oracle classes)" in capsys.readouterr().out


def test_the_papers_row_stands_only_beside_its_data(finished, tmp_path, capsys):
    folder, printed, _ = finished
    assert "(paper)" not in printed and "difference" not in printed
    shutil.copytree(folder, tmp_path / "run")
    o = json.loads((folder / "opts.json").read_text())
    (tmp_path / "run/opts.json").write_text(json.dumps({**o, "dataset": "thumos14"}))
    results = run.main(["--evaluate", str(tmp_path / "run"), "--out", str(tmp_path / "eval")])
    out = capsys.readouterr().out
    ours = 100 * results["methods"]["em-mil"]["protocols"]["activitynet"]["map"][4]
    line = re.search(r"^difference +(.*)$", out, re.M).group(1).split()
    assert line[4] == f"{ours - 30.5:+.1f}"


@pytest.mark.parametrize(
    "flags, where",
    [
        (["--features", "missing.h5"], "missing.h5: "),
        (["--annotations", "missing.json"], "missing.json: "),
        (["--test-subset", "nowhere"], "'nowhere'"),
        (["--device", "cuda"], "--device: found cuda"),
        (["--exclude-video", "nobody"], "--exclude-video: found nobody"),
        (["--config", "nowhere"], "nowhere/opts.json: "),
    ],
)
def test_bad_input_is_one_line_and_code_2(tmp_path, monkeypatch, capsys, flags, where):
    if flags == ["--device", "cuda"] and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    base = write_set(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert where in commands.refused([*base, "--out", "out", *flags], capsys)
    assert not (tmp_path / "out").exists()


def test_products_are_float32_s_and_the_gpu_has_its_number(monkeypatch):
    """On the second of two GPUs, which are pretended: a new thread's own "cuda" is the first."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU {device.index}")
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)  # as PyTorch starts
    torch.set_float32_matmul_precision("high")
    assert setup.device_of(opts.resolve({})) == torch.device("cuda", 1)
    assert setup.device_of(opts.resolve({"device": "cpu"})) == torch.device("cpu")
    assert not torch.backends.cudnn.allow_tf32 and not torch.backends.cuda.matmul.allow_tf32
    assert torch.get_float32_matmul_precision() == "highest"


@pytest.mark.parametrize("gpu, words", [(False, "PyTorch sees no GPU"), (True, "--device cpu")])
def test_what_it_computes_on_is_said(monkeypatch, caplog, gpu, words):
    caplog.set_level("INFO", "em-mil")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    setup.device_of(opts.resolve({"device": "cpu"} if gpu else {}))
    assert words in caplog.messages[-1] and "CPU" in caplog.messages[-1]


@pytest.mark.slow
@pytest.mark.parametrize("python_flags", [(), ("-OO",)])
def test_the_real_command_ends_the_same_way(tmp_path, python_flags):
    flags = [*write_set(tmp_path), "--features", "missing.h5"]
    done = python(*python_flags, ROOT / "run.py", *flags, cwd=tmp_path, timeout=120)
    assert done.returncode == 2 and commands.one_line(done.stderr, "error: ", "missing.h5: ")


# ---- the folder
def test_a_folder_that_holds_a_run_is_not_overwritten(finished, capsys):
    folder, _, flags = finished
    before = (folder / "results.json").read_bytes()
    assert f"--resume {folder}" in commands.refused([*flags, "--out", folder], capsys)
    assert (folder / "results.json").read_bytes() == before


def test_runs_that_begin_in_one_second_have_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command, o = SimpleNamespace(resume=None, out=None), opts.resolve({})
    folders = {setup.folder_of(command, o) for _ in range(4)}
    assert len(folders) == 4 and all(path.is_dir() for path in folders)
    assert {path.parent.name for path in folders} == {"runs"}


@pytest.mark.parametrize("name", ["", "opts.json"])
def test_the_options_of_a_run_are_taken_over(finished, tmp_path, capsys, name):
    argv = ["--config", finished[0] / name, "--dry-run"]
    run.main([str(word) for word in argv])
    assert "recipe paper" in " ".join(capsys.readouterr().out.lower().split())
    # another recipe or preset would change the label and none of the values
    for flags in (["--recipe", "release"], ["--dataset", "thumos14"]):
        assert f"{flags[0]}: found {flags[1]}" in commands.refused([*argv, *flags], capsys)


def test_an_option_that_a_method_asks_for_in_vain(tmp_path, monkeypatch, capsys):
    """A method under development names an option that opts.py does not have yet."""

    @dataclasses.dataclass(frozen=True)
    class Settings:
        topk_epochs: int

    monkeypatch.setattr(METHODS["wtalc"], "Settings", Settings)
    argv = [*write_set(tmp_path / "data"), "--method", "wtalc", "--out", tmp_path / "out"]
    error = commands.refused(argv, capsys)
    assert "wtalc" in error and "topk_epochs" in error and not (tmp_path / "out").exists()


# ---- the data
def in_folds(folder):
    """The set's flags, with each video in a fold of its own choice of three."""
    flags, path = write_set(folder), folder / "annotations.json"
    content = json.loads(path.read_text())
    for k, video in enumerate(content["database"].values()):
        video["subset"] = f"fold{k % 3}"
    path.write_text(json.dumps(content))
    return flags


def test_several_subsets_to_train_on(tmp_path):
    flags = in_folds(tmp_path / "data")
    more = ["--train-subset", "fold0", "fold2", "--test-subset", "fold1"]
    results = run.main([*flags, *more, "--out", str(tmp_path / "run")])
    (made,) = json.loads((tmp_path / "run/environment.json").read_text())
    assert made["options"]["train_subset"] == ["fold0", "fold2"]
    assert results["test"]["videos"] == 4  # of 13
    about = run_folder.load_checkpoint(tmp_path / "run")["about"]
    assert about["train_videos"] == 9


@pytest.mark.slow
def test_places_whose_names_are_not_utf8(tmp_path):
    place = tmp_path / os.fsdecode(b"caf\xe9")
    try:
        place.mkdir()
    except OSError:
        pytest.skip("this file system has no such names")
    flags = write_set(tmp_path / "data")
    (tmp_path / "data").rename(place / "data")
    flags = [flag.replace(str(tmp_path), str(place)) for flag in flags]
    for argv in ([*flags, "--out", place / "run"], ["--evaluate", place / "run"]):
        done = python("run.py", *argv)
        assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert json.loads((place / "run" / "opts.json").read_text())["features"] == flags[3]


def test_results_go_where_a_link_leads(finished, tmp_path):
    link = tmp_path / "link"
    (tmp_path / "empty").mkdir()
    link.symlink_to(tmp_path / "empty")
    run.main(["--evaluate", str(finished[0]), "--out", str(link)])
    assert link.is_symlink() and (tmp_path / "empty" / "results.json").exists()


def test_training_alone_leaves_networks_for_predict(tmp_path, capsys):
    flags = in_folds(tmp_path / "data")
    folder = tmp_path / "run"
    assert run.main([*flags, "--test-subset", "none", "--out", str(folder)]) is None
    assert run_folder.load_checkpoint(folder)["about"]["train_videos"] == 13
    assert f"--predict {folder}" in capsys.readouterr().out
    assert not (folder / "results.json").exists()
    found = run.main(["--predict", str(folder), "--features", flags[3]])
    assert found["test"]["videos"] == 13
    assert "clip_scores.h5" in commands.refused(["--evaluate", folder], capsys)


def test_features_that_change_while_they_are_read(tmp_path, monkeypatch, capsys):
    flags, train = write_set(tmp_path / "data"), run.train

    def written_to(*args):
        os.utime(flags[3], ns=(0, 0))
        return train(*args)

    monkeypatch.setattr(run, "train", written_to)
    error = commands.refused([*flags, "--out", tmp_path / "run"], capsys)
    assert error.startswith(f"error: {flags[3]}: ")
    assert not (tmp_path / "run/results.json").exists()


def test_videos_without_features_are_missed_not_forgiven(tmp_path, capsys):
    """--allow-missing: the ground truth keeps the segments of a test video that has no features."""
    flags = write_set(tmp_path)
    with h5py.File(tmp_path / "features.h5", "a") as file:
        del file["video_08"]
    results = run.main([*flags, "--allow-missing", "--out", str(tmp_path / "out")])
    assert results["test"]["videos"] == 4 and results["test"]["segments"] == 5
