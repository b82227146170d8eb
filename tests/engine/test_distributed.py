"""Several processes: torchrun on CPU, and the exchanges in a group of forked processes."""
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

import commands
import dataset
import em_trainer
from engine import loop as training
from baselines import classifiers as video_classifier
from commands import FORKS, ROOT
from model import EMMIL
from formats.files import InputError
from engine.loop import gathered

SHORT = ["--cycle", "1", "--cycle-epochs", "2", "--alternate-epochs", "1", "--untrimmednet-epochs", "2",
         "--pictures", "0", "--method", "em-mil", "untrimmednet", "--wtalc-iterations", "3"]


def torchrun(n, argv):
    """Starts `torchrun --nproc-per-node N run.py ARGV`."""
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(n), ROOT / "run.py"]
    return subprocess.Popen([*map(str, words), *map(str, argv)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, cwd=ROOT)


def together(n, function, *calls, timeout=60):
    """What function(*args) returned or raised, for each args of `calls`, in each of n processes of one group: a tuple
    of n answers a call."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes, answers = [], []
    for rank in range(n):
        receive, send = FORKS.Pipe(duplex=False)
        processes.append(FORKS.Process(target=_member, args=(rank, n, port, send, function, calls)))
        processes[-1].start()
        answers.append(receive)
        send.close()                                    # so that a child's death ends the wait
    try:
        assert all(receive.poll(timeout) for receive in answers), "no answer"
        return list(zip(*(receive.recv() for receive in answers)))
    finally:
        for process in processes:
            process.kill()


def _member(rank, n, port, send, function, calls):
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(n), LOCAL_RANK=str(rank), MASTER_ADDR="127.0.0.1",
                      MASTER_PORT=str(port))
    torch.set_num_threads(1)
    training.join_processes()
    answers = []
    for args in calls:
        try:
            answers.append(function(*args))
        except Exception as error:
            answers.append(error)
    send.send(answers)
    training.leave_processes()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Flags to train on 7 videos: the second of two processes has one fewer."""
    return [*commands.write_set(tmp_path_factory.mktemp("set"), n_train=7, n_test=3), *SHORT]


def test_one_process_under_torchrun_is_the_plain_run_bit_for_bit(tiny, tmp_path):
    process = torchrun(1, [*tiny, "--out", tmp_path / "torchrun"])
    code, _, err = commands.command([*tiny, "--out", tmp_path / "plain"], tmp_path / "plain_output")
    assert code == 0, err
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert commands.remains(tmp_path / "torchrun") == commands.remains(tmp_path / "plain")


def test_two_processes_are_one_with_two_videos_a_step(tiny, tmp_path):
    process = torchrun(2, [*tiny, "--out", tmp_path / "two"])
    code, _, err = commands.command([*tiny, "--videos-per-step", "2", "--out", tmp_path / "one"], tmp_path / "output")
    assert code == 0, err
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert out.count("Options") == out.count("EM-MIL, by class") == 1          # one of them speaks
    one, two = ([json.loads(line) for line in (tmp_path / name / training.LOG).read_text().splitlines()]
                for name in ("one", "two"))
    ours = [record for record in two if "phase" in record]
    assert len(ours) == 3 and [r["stage"] for r in ours] == [r["stage"] for r in one if "phase" in r]
    for a, b in zip(ours, (r for r in one if "phase" in r)):
        assert a["videos"] == b["videos"] == 7 and (a["positive"], a["empty"]) == (b["positive"], b["empty"])
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-5)
    states = [training.load_checkpoint(tmp_path / name) for name in ("one", "two")]
    for name, weight in states[0]["parts"]["em-mil"].items():
        torch.testing.assert_close(states[1]["parts"]["em-mil"][name], weight, rtol=1e-4, atol=1e-6, msg=name)
    # UntrimmedNet takes a video of each process a step, so its results differ from those of a process alone.
    assert states[1]["done"] == states[0]["done"] and [r for r in two if r["stage"] == "untrimmednet"]
    rows = json.loads((tmp_path / "two" / "results.json").read_text())
    assert rows["test"]["videos"] == 3 and set(rows["methods"]) == {"em-mil", "untrimmednet"}


def test_a_killed_process_ends_the_run_with_a_message(tiny, tmp_path):
    endless = [*tiny, "--alternate-epochs", "100000", "--checkpoint-every", "0", "--out", tmp_path / "run"]
    process = torchrun(2, endless)
    try:
        log = tmp_path / "run" / training.LOG
        until = time.monotonic() + 40
        while not (log.exists() and b"em-mil" in log.read_bytes()):
            assert process.poll() is None and time.monotonic() < until, "has not begun to train"
            time.sleep(0.05)
        ranks = {_rank(pid): pid for pid in _children(process.pid)}
        os.kill(ranks["1"], signal.SIGKILL)
        _, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode not in (0, None)
    assert "error: process 0 of 2: found the others out of reach" in err or "stopped by SIGTERM" in err
    assert "Signal 9 (SIGKILL)" in err                                          # torchrun says which one, and how


def _children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(child) for child in file.read().split()]


def _rank(pid):
    with open(f"/proc/{pid}/environ", "rb") as file:
        return dict(pair.partition("=")[::2] for pair in file.read().decode().split("\0"))["RANK"]


# ------------------------------------------------------------------------------------------------ exchanges
def _exchange(n):
    rank, ranks = training.world()
    return gathered([f"item {i}" for i in range(n)][rank::ranks])


def test_gathered_is_whole_and_in_order():
    for n, answers in zip((0, 1, 2, 5), together(2, _exchange, (0,), (1,), (2,), (5,))):
        assert answers == ([f"item {i}" for i in range(n)],) * 2


def _fails(which):
    with training.all_or_none():
        if training.world()[0] in which:
            raise InputError(f"features.h5: video_{training.world()[0]}: found NaN")


def test_an_error_of_one_is_the_error_of_all_and_said_once():
    calls = [(0,), (1,), (0, 1)]
    for which, errors in zip(calls, together(2, _fails, *((which,) for which in calls)), strict=True):
        assert [str(error) for error in errors] == [f"features.h5: video_{which[0]}: found NaN"] * 2
        assert [type(error) for error in errors] == [InputError, training.Reported]


def _videos(n):
    rng = np.random.default_rng(0)
    return [dataset.Video(f"v{i}", *(rng.normal(size=(4, d)).astype(np.float32) for d in (6, 5)),
                          np.eye(3, dtype=np.float32)[i % 2], 4.0, np.zeros((0, 2)), np.zeros(0, int), 1.0)
            for i in range(n)]


def _fit(what, n, bad=None, phases=(em_trainer.Phase("M", 2, 1e-3, "bag"), em_trainer.Phase("E", 1, 1e-3, "frozen"))):
    """Weights and log of a training on n videos, of which number `bad` has an infinite value."""
    videos, (rank, ranks) = _videos(n), training.world()
    if bad is not None:
        videos[bad].rgb[0, 0] = np.inf
    session, log = training.Session(seed=1), []
    session.write = log.append
    session.generator("model", 0)
    mine = videos[rank::ranks]
    common = {"session": session, "feed": training.feeder(mine), "names": [v.name for v in mine],
              "labels": torch.tensor(np.stack([v.labels for v in videos]))}
    if what == "em-mil":
        model = EMMIL(6, 5, 3)
        em_trainer.fit(model, phases=phases, gamma=0.1, **common)
    else:
        model = {"wtalc": video_classifier.WTALC, "untrimmednet": video_classifier.UntrimmedNet}[what](6, 5, 3)
        video_classifier.fit(model, lr=1e-3, length=3, **common)
    return [p.detach().numpy() for p in model.parameters()], [
        {name: value for name, value in record.items() if "seconds" not in name} for record in log]


def test_uneven_shards_and_a_process_without_videos_train_alike():
    calls = [(what, n) for what in ("em-mil", "wtalc", "untrimmednet") for n in (5, 1)]
    for (what, n), ((weights, log), other) in zip(calls, together(2, _fit, *calls), strict=True):
        assert log == other[1] and all(np.isfinite(list(r["loss"].values())).all() for r in log)
        assert all(np.array_equal(a, b) for a, b in zip(weights, other[0], strict=True))
        assert [r["videos"] for r in log] == {"em-mil": [n] * 3, "untrimmednet": [n] * 3,
                                              "wtalc": [3 * video_classifier.BATCH * min(n, 2)]}[what]


def test_a_loss_that_is_not_finite_names_the_step_s_videos_once():
    errors, = together(2, _fit, ("em-mil", 4, 3))
    assert [type(error) for error in errors] == [InputError, training.Reported]
    found = re.match(r"training stage em-mil 01 M, epoch 1: loss is nan on (v.), (v.), expected", str(errors[0]))
    assert "v3" in found.groups() and str(errors[0]) == str(errors[1])


def _stops():
    session = training.Session(seed=1)
    if training.world()[0] == 1:
        session.stop = signal.SIGTERM
    network = torch.nn.Linear(1, 1)
    try:
        training.train("stage", 5, session=session, optimisers=[training.adam(network.parameters(), 1e-3)], feed=iter,
                       names=["a"], batches=lambda rng: ([[0]], [2]),
                       loss=lambda batch, rng: {"weight": network.weight.sum()})
    except training.Interrupted:
        return session.epoch


def test_a_stop_of_one_stops_all_at_the_end_of_the_epoch():
    assert together(2, _stops, ()) == [(1, 1)]


def test_each_process_reads_its_own_videos_only(tmp_path):
    commands.write_set(tmp_path, n_train=5, n_test=3)
    load = dict(features=tmp_path / "features.h5", annotations=tmp_path / "annotations.json", train_subset="train",
                test_subset="test")
    whole = dataset.load(**load)
    shards = [dataset.load(**load, shard=(rank, 2), memory_limit=whole.feature_bytes / 2) for rank in (0, 1)]
    for subset in ("train", "test"):
        for i, video in enumerate(getattr(whole, subset)):
            for rank, data in enumerate(shards):
                mine = getattr(data, subset)[i]
                assert isinstance(mine.rgb, np.ndarray) == (i % 2 == rank)
                assert (mine.name, mine.rgb.shape) == (video.name, video.rgb.shape)
                assert np.array_equal(np.asarray(mine.flow), video.flow)
    left = dataset.load(**load, shard=(0, 2), memory_limit=whole.feature_bytes / 2 - 1)
    assert not left.in_memory and not isinstance(left.train[0].rgb, np.ndarray)
