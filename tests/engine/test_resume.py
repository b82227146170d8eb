"""What a run survives: killed, told to stop, out of disk, in a folder with something else in it."""

import contextlib
import json
import os
import pickle
import shutil
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import commands
import numpy as np
import pytest
import torch
from commands import command, ended, one_line, remains, same, stamps, start, stops, words
from errors import malice

import dataset
import opts
import run
from engine import run_folder
from engine.run_folder import CHECKPOINT, LOG, load_checkpoint, read_log
from formats import clip_scores, detections, features
from jobs import record
from report import summary

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def flags(tmp_path_factory):
    folder = commands.once(tmp_path_factory, "resumed_set", commands.write_set)
    paths = folder / "features.h5", folder / "annotations.json"
    return [*words("--dataset custom --features {} --annotations {}", *paths), *commands.FLAGS]


@pytest.fixture(scope="module")
def whole(flags, tmp_path_factory):
    """The folder of a run that nothing interrupted."""

    def make(folder):
        assert command([*flags, "--out", folder / "run"], folder / "output")[0] == 0

    return commands.once(tmp_path_factory, "whole", make) / "run"


def test_an_uninterrupted_run_has_all_parts(whole):
    left = remains(whole)
    assert [line["stage"] for line in left["log"]] == ["untrimmednet"] * 3 + ["wtalc"] * 2 + [
        "em-mil 01 M"
    ] * 2 + ["em-mil 02 E"] * 2 + ["em-mil 03 M", "em-mil 04 E", "em-mil 05 M"]
    assert {"untrimmednet", "wtalc", "em-mil", "adam E", "adam M", "adam wtalc"} <= left[
        "checkpoint"
    ]["parts"].keys()
    assert len(left["detections.csv"].splitlines()) > 4 and left["scores"]


def trained_only(whole, folder, *without):
    """A copy of the finished run as it was before its results, which a resumed run makes in a
    fraction of a second.
    """
    shutil.copytree(whole, folder)
    for name in ("results.json", *without):
        (folder / name).unlink()
    return folder


def log_lines(folder):
    path = folder / LOG
    return path.read_bytes().count(b"\n") if path.exists() else 0


def until(condition, process, limit=60):
    """Waits for a condition on a running child."""
    began = time.monotonic()
    while not condition():
        assert process.is_alive() and time.monotonic() - began < limit, (
            "the child ended or does not get there"
        )
        time.sleep(0.002)


# ------------------------------------------------------------------------------------------------
# killed
def test_killed_at_twenty_random_moments_and_resumed(flags, whole, tmp_path):
    began = time.monotonic()
    assert command([*flags, "--out", tmp_path / "timed"], tmp_path / "timed-output")[0] == 0
    duration, expected = time.monotonic() - began, remains(whole)
    moments = np.random.default_rng(0).uniform(0, duration, 20)

    def killed(k, moment):
        """The folder of a run that was killed at that moment, or, had it ended before, earlier."""
        folder = tmp_path / f"{k} at {moment}"
        child = start([*flags, "--out", folder], tmp_path / f"output-{k}")
        time.sleep(moment)
        child.kill()
        child.join()
        return folder if child.exitcode == -signal.SIGKILL else killed(k, moment / 2)

    def killed_and_resumed(k):
        folder, output = killed(k, moments[k]), tmp_path / f"output-{k}"
        begun = (folder / "opts.json").exists()
        code, _, error = command(
            ["--resume", folder] if begun else [*flags, "--out", folder], output
        )
        assert code == 0 and not error, (k, error)
        left = remains(folder)
        return [name for name in expected if left[name] != expected[name]]

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(killed_and_resumed, range(20))) == [[]] * 20


# ------------------------------------------------------------------------------------------------
# told to stop
@pytest.mark.parametrize("signum, code, lines", [(signal.SIGINT, 130, 2), (signal.SIGHUP, 129, 4)])
def test_told_to_stop_while_training(flags, whole, tmp_path, signum, code, lines):
    child = start([*flags, "--out", tmp_path / "run"], tmp_path / "output")
    until(lambda: log_lines(tmp_path / "run") >= lines, child)
    os.kill(child.pid, signum)
    found, _, error = ended(child, tmp_path / "output")
    assert found == code
    assert one_line(error, signum.name, f"python run.py --resume {tmp_path / 'run'}")
    assert command(["--resume", tmp_path / "run"], tmp_path / "output")[0] == 0
    assert remains(tmp_path / "run") == remains(whole)


def test_told_to_stop_many_times(flags, whole, tmp_path):
    child = start([*flags, "--out", tmp_path / "run"], tmp_path / "output")
    until(lambda: log_lines(tmp_path / "run") >= 2, child)
    with contextlib.suppress(ProcessLookupError):
        while child.is_alive():
            os.kill(child.pid, signal.SIGTERM)
            time.sleep(0.0005)
    code, _, error = ended(child, tmp_path / "output")
    assert code == 143 and one_line(error, "SIGTERM", "--resume")
    assert command(["--resume", tmp_path / "run"], tmp_path / "output")[0] == 0
    assert remains(tmp_path / "run") == remains(whole)


@pytest.mark.parametrize(
    "module, name",
    [
        (dataset, "load"),
        (features, "fingerprint"),
        (run, "TrainingSet"),
        (clip_scores, "write"),
        (detections, "write_detections"),
        (summary, "as_markdown"),
    ],
)
def test_told_to_stop_at_anything_else(whole, tmp_path, monkeypatch, capsys, module, name):
    """While loading, scoring, evaluating, writing. A second signal comes while the first is being
    dealt with, and finds nothing to stop.
    """
    folder, inner = trained_only(whole, tmp_path / "run"), getattr(module, name)

    def signalled(*args, **kwargs):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            return inner(*args, **kwargs)
        finally:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(module, name, signalled)
        code, error = stops(["--resume", folder], capsys)
    assert code == 143 and one_line(error, "stopped by SIGTERM")
    # before, the run has not been touched
    assert ("go on with" in error) == (module not in (dataset, features))
    assert not (folder / "results.json").exists() and not list(folder.glob(".*.????????.*"))
    run.main(["--resume", str(folder)])
    assert remains(folder) == remains(whole)


def test_told_to_stop_before_there_is_anything_to_go_on_with(flags, tmp_path, monkeypatch, capsys):
    inner = dataset.load
    with monkeypatch.context() as patch:
        patch.setattr(
            dataset, "load", lambda *a, **k: os.kill(os.getpid(), signal.SIGINT) or inner(*a, **k)
        )
        assert stops([*flags, "--out", tmp_path / "run"], capsys) == (130, "stopped by SIGINT\n")
    assert not (tmp_path / "run").exists()


# ------------------------------------------------------------------------------------------------
# other code, other processes
def test_other_code_is_refused_or_recorded(whole, tmp_path, monkeypatch, capsys):
    folder = trained_only(whole, tmp_path / "run")
    (first,) = json.loads((folder / "environment.json").read_text())
    assert first["code"] == run_folder.code_hash()
    assert load_checkpoint(folder)["about"]["record"] == first
    monkeypatch.setattr(run_folder, "code_hash", lambda: "0123456789abcdef")
    code, error = stops(["--resume", folder], capsys)
    assert code == 2 and one_line(
        error, f"error: {folder}: code: found", first["code"], "0123456789abcdef", "--other-code"
    )
    assert json.loads((folder / "environment.json").read_text()) == [first]
    run.main(["--resume", str(folder), "--other-code"])
    both = json.loads((folder / "environment.json").read_text())
    assert both[0] == first
    assert [entry["code"] for entry in both] == [first["code"], "0123456789abcdef"]
    assert (folder / "results.json").exists()


def test_another_schedule_is_refused(whole, tmp_path, monkeypatch, capsys):
    """Also with --other-code: the phases that are done would be others."""
    folder, phases = trained_only(whole, tmp_path / "run"), opts.schedule(opts.Opts(cycle=2))
    monkeypatch.setattr(opts, "schedule", lambda o: phases)
    for flags in ([], ["--other-code"]):
        code, error = stops(["--resume", folder, *flags], capsys)
        assert code == 2 and one_line(error, f"error: {folder}: phase 3: found")
    assert len(record.made_with(folder)) == 1


def test_another_number_of_processes_is_refused(whole, tmp_path, capsys):
    folder = trained_only(whole, tmp_path / "run")
    state = load_checkpoint(folder)
    state["about"]["record"]["processes"] = 2
    torch.save(state, folder / CHECKPOINT)
    code, error = stops(["--resume", folder], capsys)
    again = f"(torchrun --nproc-per-node 2 run.py --resume {folder})"
    assert code == 2 and one_line(error, f"error: {folder}: processes: found 1", again)


def test_a_run_without_a_checkpoint_has_the_record_of_its_second_start(whole, tmp_path):
    """Nothing is left of the process that was killed, so its record is not the run's."""
    folder = trained_only(whole, tmp_path / "run", CHECKPOINT)
    (made,) = record.made_with(folder)
    (folder / run_folder.RECORDS).write_text(json.dumps([{**made, "processes": 2}]))
    run.main(["--resume", str(folder)])
    assert record.made_with(folder) == [made]


def test_a_run_that_moves_to_another_machine_goes_on_and_says_so(whole, tmp_path, capsys):
    folder = trained_only(whole, tmp_path / "run")
    state = load_checkpoint(folder)
    (made,) = record.made_with(folder)
    state["about"]["record"] |= {"capability": "NONE", "threads": 64, "commit": "0"}
    torch.save(state, folder / CHECKPOINT)
    run.main(["--resume", str(folder)])
    moved = f"capability NONE then, {made['capability']} now; threads 64 then, 1 now"
    assert f"warning: {folder} began with something else ({moved})" in capsys.readouterr().out
    assert record.made_with(folder) == [made, made]


def test_another_exclusion_is_named(whole, tmp_path, capsys):
    folder = trained_only(whole, tmp_path / "run")
    for name in ("video_00", "video_08"):  # of training, of the test
        code, error = stops(["--resume", folder, "--exclude-video", name], capsys)
        assert code == 2 and one_line(error, f"error: --exclude-video: found {name}")


def test_the_seconds_of_a_resumed_run_are_those_of_all_its_processes(flags, tmp_path):
    folder = tmp_path / "run"
    child = start([*flags, "--out", folder], tmp_path / "output")
    # both classifiers and EM-MIL's first phase and a half
    until(lambda: log_lines(folder) >= 8, child)
    child.kill()
    child.join()
    before = read_log(folder)
    done = load_checkpoint(folder)["done"]
    assert {"untrimmednet", "wtalc", "em-mil 01 M"} <= set(done)
    assert command(["--resume", folder], tmp_path / "output")[0] == 0
    log, seconds = read_log(folder), json.loads((folder / "results.json").read_text())["seconds"]
    assert log[:5] == before[:5]  # the killed process's lines
    for title, stage in (
        ("UntrimmedNet", "untrimmednet"),
        ("W-TALC", "wtalc"),
        ("EM-MIL", "em-mil"),
    ):
        spent = sum(
            r["seconds"] + (r["epoch"] == 1) * r.get("label_seconds", 0.0)
            for r in log
            if r["stage"].split()[0] == stage
        )
        assert seconds[f"training {title}"] == pytest.approx(spent, abs=2e-3) and spent > 0


# ------------------------------------------------------------------------------------------------
# no room, no right
def test_a_full_disk(flags, whole, tmp_path):
    """A file system of a few pages, full at the log, a checkpoint, a table or a figure, whatever
    comes there.
    """
    mount, expected = tmp_path / "disk", remains(whole)
    mount.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", mount], capture_output=True
    ).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    try:
        sizes = {path.name: path.stat().st_size for path in whole.iterdir() if path.is_file()}
        places = set()
        for k, size in enumerate([4, 40, 160, 300, 420, 560, 700, 900]):
            subprocess.run(["mount", "-o", f"remount,size={size}k", mount], check=True)
            begun = (mount / "run/opts.json").exists()
            code, _, error = command(
                ["--resume", mount / "run"] if begun else [*flags, "--out", mount / "run"],
                tmp_path / "output",
            )
            if code == 0:
                break
            assert code == 2 and one_line(error, "error: ", "No space left on device"), (
                size,
                error,
                sizes,
            )
            places.add(next((name for name in sizes if name in error), "elsewhere"))
            if (mount / "run" / CHECKPOINT).exists():
                load_checkpoint(mount / "run")
        assert len(places) >= 2, places
        subprocess.run(["mount", "-o", "remount,size=20m", mount], check=True)
        assert command(["--resume", mount / "run"], tmp_path / "output")[0] == 0
        assert remains(mount / "run") == expected
    finally:
        subprocess.run(["umount", "-l", mount], check=True)


@contextlib.contextmanager
def read_only(folder):
    """Inside, nothing can be made or renamed in the folder, not by root either."""
    close, reopen = (["chmod", "555"], ["chmod", "755"])
    if not os.geteuid():
        close, reopen = (["chattr", "+i"], ["chattr", "-i"])
    if subprocess.run([*close, folder], capture_output=True).returncode:
        pytest.skip("root can write anywhere on a file system without chattr +i")
    try:
        yield
    finally:
        subprocess.run([*reopen, folder], check=True)


def test_a_folder_that_becomes_read_only(flags, whole, tmp_path):
    child = start([*flags, "--out", tmp_path / "run"], tmp_path / "output")
    until(lambda: log_lines(tmp_path / "run") >= 2, child)
    os.kill(child.pid, signal.SIGSTOP)
    with read_only(tmp_path / "run"):
        os.kill(child.pid, signal.SIGCONT)
        code, _, error = ended(child, tmp_path / "output")
        again = command(["--resume", tmp_path / "run"], tmp_path / "output")
    assert code == 2 and one_line(error, f"error: {tmp_path / 'run'}")
    assert again[0] == 2 and one_line(again[2], f"error: {tmp_path / 'run'}")
    assert command(["--resume", tmp_path / "run"], tmp_path / "output")[0] == 0
    assert remains(tmp_path / "run") == remains(whole)


def test_a_place_where_no_folder_can_be_made(flags, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    code, error = stops([*flags, "--out", tmp_path / "file" / "run"], capsys)
    assert code == 2 and one_line(error, f"error: {tmp_path / 'file'}")
    (tmp_path / "folder").mkdir()
    with read_only(tmp_path / "folder"):
        code, error = stops([*flags, "--out", tmp_path / "folder" / "run"], capsys)
    assert code == 2 and one_line(error, f"error: {tmp_path / 'folder' / 'run'}")


# ------------------------------------------------------------------------------------------------
# something else there
def test_two_runs_in_one_folder(flags, whole, tmp_path):
    child = start([*flags, "--out", tmp_path / "run"], tmp_path / "output")
    until((tmp_path / "run/opts.json").exists, child)
    os.kill(child.pid, signal.SIGSTOP)
    try:
        second = command(["--resume", tmp_path / "run"], tmp_path / "second")
    finally:
        os.kill(child.pid, signal.SIGCONT)
    assert second[0] == 2
    assert one_line(second[2], f"error: {tmp_path / 'run'}: ")
    assert ended(child, tmp_path / "output")[0] == 0
    assert remains(tmp_path / "run") == remains(whole)


@pytest.mark.parametrize("what", ["evil", "other network", "folder"])
def test_a_broken_or_foreign_checkpoint(whole, tmp_path, capsys, what):
    folder = trained_only(whole, tmp_path / "run")
    path, state = folder / CHECKPOINT, load_checkpoint(folder)
    if what == "evil":
        path.write_bytes(pickle.dumps(malice(tmp_path)))
    elif what == "folder":
        path.unlink()
        path.mkdir()
    else:
        state["parts"]["em-mil"] = {k: v[:1] for k, v in state["parts"]["em-mil"].items()}
        torch.save(state, path)
    left = sorted(folder.iterdir())
    for argv in (["--resume", folder], ["--predict", folder, "--features", folder.parent / "x.h5"]):
        code, error = stops(argv, capsys)
        assert code == 2 and one_line(error, "error: ")
        assert str(path) in error or "--predict" in argv
    assert not (tmp_path / "executed").exists() and sorted(folder.iterdir()) == left


def test_a_folder_without_a_run(tmp_path, capsys):
    (tmp_path / "other").mkdir()
    (tmp_path / "other/opts.json").write_text("[1, 2]")
    for folder, said in (("absent", "found no such file"), ("other", "found other JSON")):
        for job in ("--resume", "--evaluate"):
            code, error = stops([job, tmp_path / folder], capsys)
            assert code == 2 and one_line(error, f"error: {tmp_path / folder}/opts.json: {said}")
        code, error = stops(["--predict", tmp_path / folder, "--features", "x.h5"], capsys)
        assert code == 2
        assert one_line(error, f"error: {tmp_path / folder}/{CHECKPOINT}: found no such file")
    assert not (tmp_path / "absent").exists()


@pytest.mark.parametrize(
    "name, value", [("lr", "0.1"), ("cycle", {}), ("features", 3), ("lam", float("nan"))]
)
def test_saved_options_of_another_type(whole, tmp_path, capsys, name, value):
    saved = json.loads((whole / "opts.json").read_text())
    (tmp_path / "opts.json").write_text(json.dumps({**saved, name: value}))
    flag = "--lambda" if name == "lam" else f"--{name}"
    for argv in (
        ["--config", tmp_path / "opts.json"],
        ["--resume", tmp_path],
        ["--evaluate", tmp_path],
    ):
        code, error = stops([*argv, "--dry-run"], capsys)
        assert code == 2 and one_line(error, "error: ", flag, "found", "expected")


# ------------------------------------------------------------------------------------------------
# with and without
def test_stopped_before_the_first_checkpoint(whole, tmp_path):
    (tmp_path / "run").mkdir()
    shutil.copy(whole / "opts.json", tmp_path / "run")
    (tmp_path / "run" / LOG).write_text('{"stage": "untrimm')
    run.main(["--resume", str(tmp_path / "run")])
    assert remains(tmp_path / "run") == remains(whole)


@pytest.mark.parametrize(
    "changed",
    [
        ["--gamma", "0.3"],
        ["--untrimmednet-epochs", "4"],
        ["--keep-peak"],
        ["--method", "em-mil"],
        ["--video-classifier", "oracle", "--method", "em-mil", "wtalc"],
    ],
)
def test_changed_options_are_refused_by_name(whole, tmp_path, capsys, changed):
    folder = trained_only(whole, tmp_path / "run")
    before = stamps(folder)
    code, error = stops(["--resume", folder, *changed], capsys)
    assert code == 2
    where = str(folder) if changed[0] in ("--method", "--video-classifier") else changed[0]
    assert one_line(error, f"error: {where}: found ", str(folder))
    code, error = stops(["--resume", folder, "--lr", "0.01", *changed], capsys)
    assert code == 2 and "--lr" in error
    code, error = stops(["--resume", folder, "--weight-of-nothing", "1"], capsys)
    assert code == 2 and "--weight-of-nothing" in error
    assert stamps(folder) == before


def test_other_flags_that_resuming_refuses(whole, tmp_path, capsys):
    folder = trained_only(whole, tmp_path / "run")
    for flag in (["--out", tmp_path / "other"], ["--keep-going"]):
        code, error = stops(["--resume", folder, *flag], capsys)
        assert code == 2 and one_line(error, f"error: {flag[0]}: found it with")
    saved = json.loads((folder / "opts.json").read_text())
    (folder / "opts.json").write_text(json.dumps({**saved, "lr": 0.5}))  # edited by hand
    code, error = stops(["--resume", folder], capsys)
    assert code == 2 and one_line(error, f"error: {folder}: lr: found 0.5")


def test_test_time_options_may_change(flags, whole, tmp_path, capsys):
    child = start([*flags, "--out", tmp_path / "run"], tmp_path / "output")
    until(lambda: log_lines(tmp_path / "run") >= 4, child)
    child.kill()
    child.join()
    run.main(["--resume", str(tmp_path / "run"), "--lambda", "0.1", "--gate", "0.6"])
    run.main(words("--evaluate {} --lambda 0.1 --gate 0.6 --out {}", whole, tmp_path / "evaluated"))
    for name in ("detections.json", "detections.csv", "table.md"):
        assert same(tmp_path / "run" / name, tmp_path / "evaluated" / name)
    assert not same(tmp_path / "run/detections.csv", whole / "detections.csv")


@pytest.mark.parametrize("what", ["values", "order", "annotations"])
def test_features_or_annotations_that_changed(flags, whole, tmp_path, capsys, what):
    folder = trained_only(whole, tmp_path / "run")
    data = tmp_path / "data"
    shutil.copytree(os.path.dirname(flags[3]), data)
    where = ["--features", data / "features.h5", "--annotations", data / "annotations.json"]
    if what == "annotations":
        (data / "annotations.json").write_text((data / "annotations.json").read_text() + " ")
    else:
        source = features.open_features(flags[3])
        names = source.names if what == "values" else source.names[::-1]
        features.write_canonical(
            data / "features.h5",
            ((name, *(x + (what == "values") for x in source.read(name))) for name in names),
            0.5,
            "float32",
        )
    code, error = stops(["--resume", folder, *where], capsys)
    assert code == 2 and one_line(error, f"error: {folder}: data: found")
    run.main(["--resume", str(folder)])  # with the ones it began with
    assert remains(folder) == remains(whole)


def test_features_that_moved(flags, whole, tmp_path):
    folder = trained_only(whole, tmp_path / "run")
    shutil.copy(flags[3], tmp_path / "elsewhere.h5")
    run.main(["--resume", str(folder), "--features", str(tmp_path / "elsewhere.h5")])
    assert same(folder / "detections.csv", whole / "detections.csv")
    assert json.loads((folder / "opts.json").read_text())["features"] == str(
        tmp_path / "elsewhere.h5"
    )


def test_a_finished_run_says_so(whole, capsys):
    before = stamps(whole)
    results = run.main(["--resume", str(whole)])
    assert f"{whole}: this run is finished" in capsys.readouterr().out
    assert results == json.loads((whole / "results.json").read_text())
    assert stamps(whole) == before


# ------------------------------------------------------------------------------------------------
# the same bits
@pytest.mark.parametrize("other", [["--feature-memory", "0"], ["--deterministic"]])
def test_the_same_bits(flags, whole, tmp_path, other):
    """Features that a thread reads from disk; PyTorch's deterministic algorithms."""
    code, printed, error = command(
        [*flags, *other, "--out", tmp_path / "run"], tmp_path / "output", None, 1000
    )
    assert code == 0 and not error
    assert ("read from disk" in printed) == (other[:1] == ["--feature-memory"])
    left, expected = remains(tmp_path / "run"), remains(whole)
    assert left.pop("opts.json") != expected.pop("opts.json")
    for one in (left, expected):
        del one["checkpoint"]["about"]["record"]["options"]
    assert left == expected


def test_opts_json_alone_repeats_the_run(whole, tmp_path):
    shutil.copy(whole / "opts.json", tmp_path / "again.json")
    argv = ["--config", tmp_path / "again.json", "--out", tmp_path / "run"]
    assert command(argv, tmp_path / "output")[0] == 0
    assert remains(tmp_path / "run") == remains(whole)
