"""Several processes: torchrun on CPU, and the exchanges in a group of forked processes."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time

import commands
import numpy as np
import pytest
import torch
import toy_sets
from commands import FORKS, words
from places import ROOT

import dataset
import reproduce
from engine import labels
from engine.distributed import (
    all_or_none,
    everywhere,
    gathered,
    join_processes,
    leave_processes,
    world,
)
from engine.loop import TrainingSet
from engine.run_folder import LOG, RunFolder, load_checkpoint, read_log
from formats.files import InputError
from formats.program import log
from methods import METHODS, wtalc

SHORT = (
    "--cycle 1 --cycle-epochs 2 --alternate-epochs 1 --untrimmednet-epochs 2 "
    "--method em-mil untrimmednet --wtalc-iterations 3"
).split()


def torchrun(n, argv):
    """Starts `torchrun --nproc-per-node N run.py ARGV`."""
    line = words(
        "{} -m torch.distributed.run --standalone --nproc-per-node {} {}",
        sys.executable,
        n,
        ROOT / "run.py",
    )
    return subprocess.Popen(
        [*line, *map(str, argv)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=ROOT,
    )


def together(n, function, *calls, timeout=200):
    """What function(*args) returned or raised, for each args of `calls`, in each of n processes of
    one group: a tuple of n answers a call."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes, answers = [], []
    for rank in range(n):
        receive, send = FORKS.Pipe(duplex=False)
        processes.append(FORKS.Process(target=_member, args=(rank, n, port, send, function, calls)))
        processes[-1].start()
        answers.append(receive)
        send.close()  # so that a child's death ends the wait
    try:
        assert all(receive.poll(timeout) for receive in answers), "no answer"
        return list(zip(*(receive.recv() for receive in answers)))
    finally:
        for process in processes:
            process.kill()


def _member(rank, n, port, send, function, calls):
    os.environ.update(
        RANK=str(rank),
        WORLD_SIZE=str(n),
        LOCAL_RANK=str(rank),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
    )
    torch.set_num_threads(1)
    join_processes()
    answers = []
    for args in calls:
        try:
            answers.append(function(*args))
        except Exception as error:
            answers.append(error)
    send.send(answers)
    leave_processes()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Flags to train on 7 videos: the second of two processes has one fewer."""
    return [*commands.write_set(tmp_path_factory.mktemp("set"), n_train=7, n_test=3), *SHORT]


@pytest.mark.slow
def test_one_process_under_torchrun_is_the_plain_run_bit_for_bit(tiny, tmp_path):
    process = torchrun(1, [*tiny, "--out", tmp_path / "torchrun"])
    code, _, err = commands.command([*tiny, "--out", tmp_path / "plain"], tmp_path / "plain_output")
    assert code == 0, err
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert commands.remains(tmp_path / "torchrun") == commands.remains(tmp_path / "plain")


@pytest.mark.slow
def test_two_processes_are_one_with_two_videos_a_step(tiny, tmp_path, capsys):
    process = torchrun(2, [*tiny, "--out", tmp_path / "two"])
    code, _, err = commands.command(
        [*tiny, "--videos-per-step", "2", "--out", tmp_path / "one"], tmp_path / "output"
    )
    assert code == 0, err
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert out.count("Options") == out.count("EM-MIL, by class") == 1  # one of them speaks
    logs = [read_log(tmp_path / name) for name in ("one", "two")]
    one, two = ([record for record in log if "phase" in record] for log in logs)
    assert len(two) == 3
    for a, b in zip(two, one, strict=True):
        assert (a["stage"], a["positive"], a["empty"]) == (b["stage"], b["positive"], b["empty"])
        assert a["videos"] == b["videos"] == 7 and a["loss"] == pytest.approx(b["loss"], rel=1e-5)
    states = [load_checkpoint(tmp_path / name) for name in ("one", "two")]
    for name, weight in states[0]["parts"]["em-mil"].items():
        torch.testing.assert_close(
            states[1]["parts"]["em-mil"][name], weight, rtol=1e-4, atol=1e-6, msg=name
        )
    # UntrimmedNet takes a video of each process a step, so its results differ from those of a
    # process alone.
    assert states[1]["done"] == states[0]["done"]
    assert [r for r in logs[1] if r["stage"] == "untrimmednet"]
    rows = json.loads((tmp_path / "two" / "results.json").read_text())
    assert rows["test"]["videos"] == 3 and set(rows["methods"]) == {"em-mil", "untrimmednet"}
    # it is another recipe than one process, and all that shows its numbers says so
    name = "2 videos per update (2 processes)"
    assert rows["recipe"].endswith(f", {name}") and out.count(name) == 2  # options, caption
    for file, n in (("table.md", 1), ("report.html", 3)):  # caption; recipe, what differs
        assert (tmp_path / "two" / file).read_text(encoding="utf-8").count(name) == n
    capsys.readouterr()
    both = [str(tmp_path / "one"), str(tmp_path / "two"), "--resamples", "9"]
    differs = reproduce.main(["compare", *both])["differs"]
    assert differs == ["videos_per_step: 2, 1", "processes: 1, 2"]
    assert name in capsys.readouterr().out


@pytest.mark.slow
def test_a_killed_process_ends_the_run_with_a_message(tiny, tmp_path):
    endless = [*tiny, "--alternate-epochs", "100000", "--out", tmp_path / "run"]
    process = torchrun(2, endless)
    try:
        log = tmp_path / "run" / LOG
        until = time.monotonic() + 200
        while not (log.exists() and b"em-mil" in log.read_bytes()):
            assert process.poll() is None and time.monotonic() < until, "has not begun to train"
            time.sleep(0.05)
        ranks = {_rank(pid): pid for pid in _children(process.pid)}
        os.kill(ranks["1"], signal.SIGKILL)
        _, err = process.communicate(timeout=200)
    finally:
        process.kill()
    assert process.returncode not in (0, None)
    assert "error: process 0 of 2: " in err or "stopped by SIGTERM" in err
    assert "Signal 9 (SIGKILL)" in err  # torchrun says which one, and how


def _children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(child) for child in file.read().split()]


def _rank(pid):
    with open(f"/proc/{pid}/environ", "rb") as file:
        return dict(pair.partition("=")[::2] for pair in file.read().decode().split("\0"))["RANK"]


def environment(monkeypatch, **variables):
    """What a scheduler sets, and none of what torchrun adds."""
    for name in ("MASTER_ADDR", "MASTER_PORT", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def test_one_process_of_a_scheduler_needs_no_address(monkeypatch):
    environment(monkeypatch, RANK="0", WORLD_SIZE="1")
    join_processes()
    assert world() == (0, 1)


@pytest.mark.parametrize("size", ["2", "two", ""])
def test_several_processes_without_an_address_are_told_of_torchrun(monkeypatch, capsys, size):
    environment(monkeypatch, RANK="0", WORLD_SIZE=size)
    assert "torchrun" in commands.refused(["--dry-run"], capsys)


# ------------------------------------------------------------------------------------------------
# exchanges
def _exchange(n):
    rank, ranks = world()
    return gathered([f"item {i}" for i in range(n)][rank::ranks]), log.disabled


@pytest.mark.slow
def test_gathered_is_whole_and_in_order_and_process_0_logs():
    for n, answers in zip((0, 1, 2, 5), together(2, _exchange, (0,), (1,), (2,), (5,))):
        items = [f"item {i}" for i in range(n)]
        assert answers == ((items, False), (items, True))


def _fails(which):
    with all_or_none():
        if world()[0] in which:
            raise InputError(f"features.h5: video_{world()[0]}", "NaN", "numbers")


@pytest.mark.slow
def test_an_error_of_one_is_the_error_of_all_and_said_once():
    calls = [(0,), (1,), (0, 1)]
    for which, (first, other) in zip(calls, together(2, _fails, *zip(calls)), strict=True):
        assert (first.where, first.found) == (f"features.h5: video_{which[0]}", "NaN")
        assert type(other) is InputError and not str(other)  # formats.program prints no line


def _videos(n):
    rng = np.random.default_rng(0)
    dims = 6, 5
    return [
        toy_sets.video(
            f"v{i}", *(rng.normal(size=(4, d)).astype(np.float32) for d in dims), np.eye(3)[i % 2]
        )
        for i in range(n)
    ]


class _Kept(RunFolder):
    """A run that also keeps its log in memory, on every process."""

    def log(self, **record):
        self.__dict__.setdefault("records", []).append(
            {k: v for k, v in record.items() if "seconds" not in k}
        )
        super().log(**record)


def _fit(folder, what, n, bad=None, resume=False, until_epoch=None):
    """Weights and log of a training on n videos, of which number `bad` has an infinite value."""
    videos = _videos(n)
    if bad is not None:
        videos[bad].rgb[0, 0] = np.inf
    run = _Kept(folder, seed=1, resume=resume)
    run.generator("model", 0)
    method = METHODS[what]
    model = run.register(what, method(6, 5, 3, method.Settings(**toy_sets.SETTINGS[what])))
    if until_epoch is not None:
        model.phases = model.phases[:until_epoch]
    model.fit(TrainingSet(videos), run)
    run.close()
    everywhere(None)
    return [p.detach().numpy() for p in model.parameters()], run.__dict__.get("records", [])


@pytest.mark.slow
def test_uneven_shards_and_a_process_without_videos_train_alike(tmp_path):
    calls = [
        (tmp_path / f"{what}-{n}", what, n)
        for what in ("em-mil", "wtalc", "untrimmednet")
        for n in (5, 1)
    ]
    for (folder, what, n), ((weights, records), other) in zip(
        calls, together(2, _fit, *calls), strict=True
    ):
        assert records == other[1] and len(read_log(folder)) == len(records)  # one process writes
        assert all(np.isfinite(list(r["loss"].values())).all() for r in records)
        assert all(np.array_equal(a, b) for a, b in zip(weights, other[0], strict=True))
        assert [r["videos"] for r in records] == {
            "em-mil": [n] * 5,
            "untrimmednet": [n] * 3,
            "wtalc": [20 * wtalc.BATCH * min(n, 2)],
        }[what]
        if what == "em-mil":
            of_bag = labels.read(folder, 1, "M")  # of all videos, in the order of the set
            assert [x.tolist() for x in of_bag] == [[v.labels.tolist()] * 4 for v in _videos(n)]


@pytest.mark.slow
def test_several_processes_resume_together(tmp_path):
    calls = [
        (tmp_path / "whole", "em-mil", 5),
        (tmp_path / "cut", "em-mil", 5, None, False, 1),
        (tmp_path / "cut", "em-mil", 5, None, True),
    ]
    whole, first, resumed = together(2, _fit, *calls)
    for rank in (0, 1):
        assert len(first[rank][1]) == 2 and first[rank][1] + resumed[rank][1] == whole[rank][1]
        assert all(
            np.array_equal(a, b) for a, b in zip(whole[rank][0], resumed[rank][0], strict=True)
        )


@pytest.mark.slow
def test_a_loss_that_is_not_finite_names_the_step_s_videos_once(tmp_path):
    ((first, other),) = together(2, _fit, (tmp_path / "run", "em-mil", 4, 3))
    assert first.where == "training em-mil 01 M, epoch 1" and not str(other)
    found = re.fullmatch("the loss nan on (v.), (v.)", first.found)
    assert "v3" in found.groups()


def test_each_process_reads_its_own_videos_only(tmp_path):
    commands.write_set(tmp_path, n_train=5, n_test=3)
    load = dict(
        features=tmp_path / "features.h5",
        annotations=tmp_path / "annotations.json",
        train_subset="train",
        test_subset="test",
    )
    whole = dataset.load(**load)
    shards = [
        dataset.load(**load, shard=(rank, 2), memory_limit=whole.feature_bytes / 2)
        for rank in (0, 1)
    ]
    for subset in ("train", "test"):
        for i, video in enumerate(getattr(whole, subset)):
            for rank, data in enumerate(shards):
                mine = getattr(data, subset)[i]
                assert isinstance(mine.rgb, np.ndarray) == (i % 2 == rank)
                assert (mine.name, mine.rgb.shape) == (video.name, video.rgb.shape)
                assert np.array_equal(np.asarray(mine.flow), video.flow)
    left = dataset.load(**load, shard=(0, 2), memory_limit=whole.feature_bytes / 2 - 1)
    assert not left.in_memory and not isinstance(left.train[0].rgb, np.ndarray)
