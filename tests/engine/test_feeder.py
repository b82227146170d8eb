"""How bags reach the training: order, read-ahead and its bounds, errors of the reading thread, the
batches of an epoch.
"""

import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import em_trainer
from engine import loop
from engine.loop import TrainingSet
from engine.run_folder import RunFolder
from formats.files import InputError
from methods.wtalc import WTALC, Settings
from model import EMMIL


class Stored:
    """Features left on disk: counts its reads, and fails where it is told to."""

    def __init__(self, value, reads, broken=False):
        self.value, self.reads, self.broken, self.shape = value, reads, broken, (2, 3)

    def __array__(self, dtype=None, copy=None):
        if self.broken:
            raise InputError(f"features.h5: video {self.value}: found NaN")
        self.reads.append((self.value, threading.current_thread()))
        return np.full(self.shape, self.value, np.float32)


def video(i, rgb, flow):
    return SimpleNamespace(name=f"v{i}", rgb=rgb, flow=flow, labels=np.full(2, i, np.float32))


def stored_videos(n, broken=None):
    reads = []
    return [video(i, Stored(i, reads, i == broken), Stored(-i, reads)) for i in range(n)], reads


def held_videos(n):
    return [
        video(i, np.full((2, 3), i, np.float32), np.full((2, 3), -i, np.float32)) for i in range(n)
    ]


BATCHES = [[2], [0, 1], [], [2, 2]]


@pytest.mark.parametrize("videos", [held_videos(3), stored_videos(3)[0]], ids=["held", "stored"])
def test_reads_what_is_asked_in_that_order(videos):
    train_set = TrainingSet(videos)
    for _ in range(2):  # as often as one likes
        found = [
            [
                (bag.index, bag.name, bag.rgb.tolist(), bag.flow.tolist(), bag.y.tolist())
                for bag in batch
            ]
            for batch in train_set.read(BATCHES)
        ]
        assert found == [
            [(i, f"v{i}", [[i] * 3] * 2, [[-i] * 3] * 2, [i, i]) for i in batch]
            for batch in BATCHES
        ]
    assert [bag.index for bag in train_set.bags()] == [0, 1, 2] and len(train_set) == 3
    assert train_set.lengths == [2, 2, 2]
    assert train_set.labels.tolist() == [[0, 0], [1, 1], [2, 2]]


@pytest.mark.parametrize(
    "make", [held_videos, lambda n: stored_videos(n)[0]], ids=["held", "stored"]
)
@pytest.mark.parametrize("missing", ["rgb", "flow"])
def test_a_stream_that_the_set_lacks_is_none(make, missing):
    videos = make(2)
    for v in videos:
        setattr(v, missing, None)
    there = "flow" if missing == "rgb" else "rgb"
    for i, bag in enumerate(TrainingSet(videos).bags()):
        assert getattr(bag, missing) is None and abs(getattr(bag, there)).tolist() == [[i] * 3] * 2
        assert bag.length == 2


def test_groups_hold_successive_bags_of_so_many_clips_or_one_longer_bag():
    lengths = [3, 2, 1, 9, 4, 2]
    videos = [
        video(i, np.zeros((t, 3), np.float32), np.zeros((t, 3), np.float32))
        for i, t in enumerate(lengths)
    ]
    groups = [[bag.index for bag in group] for group in TrainingSet(videos).groups(clips=6)]
    assert groups == [[0, 1, 2], [3], [4, 5]]


def test_what_is_held_keeps_its_type_and_is_not_copied():
    videos = held_videos(1)
    videos[0].rgb, videos[0].labels = videos[0].rgb.astype(np.float64), np.ones(2)
    (bag,) = TrainingSet(videos).bags()
    assert bag.rgb.data_ptr() == videos[0].rgb.ctypes.data
    kinds = torch.float64, torch.float32, torch.float64
    assert (bag.rgb.dtype, bag.flow.dtype, bag.y.dtype) == kinds


def test_stored_features_are_read_ahead_in_a_thread_and_no_further():
    videos, reads = stored_videos(100)
    batches = TrainingSet(videos, read_ahead=3).read([[i] for i in range(100)])
    next(batches)
    until = time.monotonic() + 10
    while len(reads) < 2 * 4 and time.monotonic() < until:  # the one in use, three that wait
        time.sleep(0.01)
    time.sleep(0.1)
    assert [value for value, _ in reads] == [x for i in range(4) for x in (i, -i)]
    assert all(thread is not threading.current_thread() for _, thread in reads)
    batches.close()
    assert not reads[0][1].is_alive() and len(reads) == 8


def test_an_error_in_the_thread_is_raised_at_its_turn():
    videos, _ = stored_videos(5, broken=3)
    batches = TrainingSet(videos).read([[0], [1, 3], [2]])
    assert [bag.index for bag in next(batches)] == [0]
    with pytest.raises(InputError, match="video 3: found NaN"):
        next(batches)


# ------------------------------------------------------------------------------------------------
# batches
def shuffled(n, per_step, seed=0):
    """The steps of an epoch as (indices of the bags, number of videos)."""
    batches = TrainingSet(held_videos(n)).shuffled(np.random.default_rng(seed), per_step)
    return [([bag.index for bag in bags], count) for bags, count in batches]


@pytest.mark.parametrize("n, per_step", [(7, 1), (7, 2), (6, 3), (2, 5), (1, 1)])
def test_an_epoch_takes_every_video_once(n, per_step):
    steps = shuffled(n, per_step)
    assert sorted(i for batch, _ in steps for i in batch) == list(range(n))
    counts = [count for _, count in steps]
    assert [len(batch) for batch, _ in steps] == counts
    assert counts[:-1] == [per_step] * (len(counts) - 1)


@pytest.mark.parametrize(
    "n, per_step, ranks", [(7, 1, 2), (8, 1, 2), (7, 2, 2), (5, 1, 3), (2, 1, 3), (11, 2, 3)]
)
def test_several_processes_make_the_steps_of_one(n, per_step, ranks, monkeypatch):
    whole = shuffled(n, per_step * ranks, seed=1)
    parts = []
    for rank in range(ranks):
        monkeypatch.setattr(loop, "world", lambda rank=rank: (rank, ranks))
        mine = shuffled(n, per_step, seed=1)
        assert [count for _, count in mine] == [count for _, count in whole]
        assert all(i % ranks == rank for batch, _ in mine for i in batch)
        parts.append([batch for batch, _ in mine])
    for k, (step, _) in enumerate(whole):
        assert sorted(i for part in parts for i in part[k]) == sorted(step)


# ------------------------------------------------------------------------------------------------
# no waiting
def videos_of(n):
    rng = np.random.default_rng(0)
    return [video(i, *(rng.random((i + 1, d), np.float32) for d in (6, 5))) for i in range(n)]


@pytest.mark.parametrize(
    "step, targets, keep_peak", [("M", "bag", False), ("M", "frozen", True), ("E", "frozen", False)]
)
def test_no_step_waits_for_the_device(step, targets, keep_peak, monkeypatch, tmp_path):
    """On PyTorch's meta device there are no values, so whatever reads one raises. What is fetched
    with .cpu() is counted: the pseudo-labels and the videos' labels once a phase, the losses once
    an epoch, however many steps."""
    fetched = []

    def cpu(x):
        fetched.append(x.device.type)
        return torch.zeros(x.shape, dtype=x.dtype)

    monkeypatch.setattr(torch.Tensor, "cpu", cpu)
    monkeypatch.setattr(
        em_trainer, "Adam", lambda parameters, lr: torch.optim.Adam(parameters, lr, foreach=True)
    )
    monkeypatch.setattr(RunFolder, "save", lambda self: None)  # a checkpoint reads the weights
    for n in (3, 6):
        run, model = RunFolder(tmp_path / str(n)), EMMIL(6, 5, 2).to("meta")
        steps = {"E": em_trainer.EStep(model), "M": em_trainer.MStep(model, 0.1, keep_peak)}
        phases = [em_trainer.Phase(step, 4, 1e-3, targets)]
        em_trainer.fit(steps, TrainingSet(videos_of(n), "meta"), run, phases)
        assert len(run.done) == 1 and fetched == ["meta"] * (2 + 4)
        fetched.clear()
    with pytest.raises(RuntimeError, match="meta"):
        torch.zeros(1, device="meta").item()  # a read does raise


def test_no_step_of_wtalc_copies_to_the_device(monkeypatch):
    """All that a step needs is there or is made there."""
    train_set = TrainingSet(videos_of(4), "meta")
    network = WTALC(6, 5, 2, Settings(1e-3, 10, 750)).to("meta")
    moved, inner = [], torch.Tensor.to
    monkeypatch.setattr(torch.Tensor, "to", lambda x, *a: moved.append(a) or inner(x, *a))
    losses = network.losses(list(train_set.bags()), 2, np.random.default_rng(0))
    assert all(loss.device.type == "meta" for loss in losses.values())
    assert moved and all(isinstance(where, torch.dtype) for (where, *_) in moved)
