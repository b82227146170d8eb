"""What feeds the training: order, read-ahead and its bounds, errors of the reading thread, the batches of an epoch."""
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import em_trainer
from engine import loop as training
from model import EMMIL
from formats.files import InputError
from engine.loop import feeder, shuffled


class Stored:
    """Features left on disk: counts its reads, and fails where it is told to."""

    def __init__(self, value, reads, broken=False):
        self.value, self.reads, self.broken, self.shape = value, reads, broken, (2, 3)

    def __array__(self, dtype=None, copy=None):
        if self.broken:
            raise InputError(f"features.h5: video {self.value}: found NaN")
        self.reads.append((self.value, threading.current_thread()))
        return np.full(self.shape, self.value, np.float32)


def stored_videos(n, broken=None):
    reads = []
    return [SimpleNamespace(rgb=Stored(i, reads, i == broken), flow=Stored(-i, reads)) for i in range(n)], reads


def held_videos(n):
    return [SimpleNamespace(rgb=np.full((2, 3), i, np.float32), flow=np.full((2, 3), -i, np.float32)) for i in range(n)]


BATCHES = [[2], [0, 1], [], [2, 2]]


@pytest.mark.parametrize("videos", [held_videos(3), stored_videos(3)[0]], ids=["held", "stored"])
def test_feeds_what_is_asked_in_that_order(videos):
    feed = feeder(videos)
    for _ in range(2):                                  # as often as one likes
        found = [[(i, rgb.tolist(), flow.tolist()) for i, rgb, flow in batch] for batch in feed(BATCHES)]
        assert found == [[(i, [[i] * 3] * 2, [[-i] * 3] * 2) for i in batch] for batch in BATCHES]


def test_what_is_held_is_not_copied_again():
    videos = held_videos(1)
    (_, rgb, _), = next(feeder(videos)([[0]]))
    assert rgb.data_ptr() == videos[0].rgb.ctypes.data


def test_stored_features_are_read_ahead_in_a_thread_and_no_further():
    videos, reads = stored_videos(100)
    batches = feeder(videos, read_ahead=3)([[i] for i in range(100)])
    next(batches)
    until = time.monotonic() + 10
    while len(reads) < 2 * 5 and time.monotonic() < until:      # the one fed, three that wait, one that wants to
        time.sleep(0.01)
    time.sleep(0.1)
    assert [value for value, _ in reads] == [x for i in range(5) for x in (i, -i)]
    assert all(thread is not threading.current_thread() for _, thread in reads)
    batches.close()
    assert not reads[0][1].is_alive() and len(reads) == 10


def test_an_error_in_the_thread_is_raised_at_its_turn():
    videos, _ = stored_videos(5, broken=3)
    batches = feeder(videos)([[0], [1, 3], [2]])
    assert [i for i, *_ in next(batches)] == [0]
    with pytest.raises(InputError, match="video 3: found NaN"):
        next(batches)


def test_leaving_early_ends_the_thread():
    before = threading.active_count()
    for _ in feeder(stored_videos(50)[0])([[i] for i in range(50)]):
        break
    assert threading.active_count() == before


# ------------------------------------------------------------------------------------------------ batches
@pytest.mark.parametrize("n, per_step", [(7, 1), (7, 2), (6, 3), (2, 5), (1, 1)])
def test_an_epoch_takes_every_video_once(n, per_step):
    mine, counts = shuffled(n, per_step, np.random.default_rng(0))
    assert sorted(i for batch in mine for i in batch) == list(range(n))
    assert [len(batch) for batch in mine] == counts and counts[:-1] == [per_step] * (len(counts) - 1)


def test_one_video_a_step_is_a_permutation():
    mine, _ = shuffled(9, 1, np.random.default_rng(4))
    assert [i for i, in mine] == np.random.default_rng(4).permutation(np.arange(9)).tolist()


@pytest.mark.parametrize("n, per_step, ranks", [(7, 1, 2), (8, 1, 2), (7, 2, 2), (5, 1, 3), (2, 1, 3), (11, 2, 3)])
def test_several_processes_make_the_steps_of_one(n, per_step, ranks, monkeypatch):
    whole, counts = shuffled(n, per_step * ranks, np.random.default_rng(1))
    parts = []
    for rank in range(ranks):
        monkeypatch.setattr(training, "world", lambda rank=rank: (rank, ranks))
        mine, same = shuffled(n, per_step, np.random.default_rng(1))
        assert same == counts and len(mine) == len(whole)
        parts.append([[i * ranks + rank for i in batch] for batch in mine])
    for k, step in enumerate(whole):
        assert sorted(i for part in parts for i in part[k]) == sorted(step)


# ------------------------------------------------------------------------------------------------ no waiting
@pytest.mark.parametrize("step, targets", [("M", "bag"), ("M", "frozen"), ("E", "frozen")])
def test_no_step_waits_for_the_device(step, targets, monkeypatch):
    """On PyTorch's meta device there are no values, so whatever reads one raises. What is fetched with .cpu() is
    counted: the labels once a phase, the losses once an epoch, however many steps there are."""
    fetched = []
    monkeypatch.setattr(torch.Tensor, "cpu",
                        lambda x: fetched.append(x.device.type) or torch.zeros(x.shape, dtype=x.dtype))
    monkeypatch.setattr(em_trainer, "adam", lambda parameters, lr: torch.optim.Adam(parameters, lr, foreach=True))
    monkeypatch.setattr(em_trainer, "_label_facts", lambda *_: {})      # reads its counts, once a phase
    for n in (3, 6):
        session = training.Session()
        videos = [SimpleNamespace(rgb=np.zeros((t, 6), np.float32), flow=np.zeros((t, 5), np.float32))
                  for t in range(1, n + 1)]
        em_trainer.fit(EMMIL(6, 5, 3).to("meta"), session=session, feed=feeder(videos, "meta"), names=["v"] * n,
                       labels=torch.ones(n, 3, device="meta"), phases=[em_trainer.Phase(step, 4, 1e-3, targets)],
                       gamma=0.1)
        assert len(session.done) == 1 and fetched == ["meta"] * (1 + 4)
        fetched.clear()
    with pytest.raises(RuntimeError, match="meta"):
        torch.zeros(1, device="meta").item()                            # a read does raise
