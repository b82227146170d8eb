"""Pseudo-labels in a run's folder: saved, read back, described."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from em_trainer import EStep, MStep
from engine import labels
from engine.loop import TrainingSet
from engine.run_folder import RunFolder
from formats.files import InputError
from model import EMMIL

LENGTHS = (2, 1)
VIDEOS = [
    SimpleNamespace(name=f"v{t}", rgb=np.zeros((t, 4), np.float32), flow=None, labels=np.ones(2))
    for t in LENGTHS
]
OF_CLIPS = [torch.tensor([1.0, 0.0]), torch.tensor([1.0])]
OF_CLASSES = [torch.tensor([[0.25, 0.0], [1.0, 0.5]]), torch.tensor([[0.0, 1.0]])]


def record(folder, phase, step, targets):
    run, model = RunFolder(folder), EMMIL(4, None, 2)
    steps = [EStep(model) if step == "E" else MStep(model, 0.1)]
    found = labels.record(run, phase, steps, {step: dict(enumerate(targets))}, TrainingSet(VIDEOS))
    run.close()
    return found


@pytest.mark.parametrize(
    "step, targets, kind", [("E", OF_CLIPS, bool), ("M", OF_CLASSES, np.float32)]
)
def test_labels_come_back_as_they_were(tmp_path, step, targets, kind):
    record(tmp_path, 7, step, targets)
    found = labels.read(tmp_path, 7, step)
    assert [x.dtype for x in found] == [kind, kind]
    assert [x.tolist() for x in found] == [x.tolist() for x in targets]
    assert labels.read(tmp_path, 8, step) is None and labels.read(tmp_path / "no", 7, step) is None


def test_what_changed_is_told_from_the_last_phase_of_the_same_step(tmp_path):
    zeros, ones = ([f(x) for x in OF_CLIPS] for f in (torch.zeros_like, torch.ones_like))
    assert record(tmp_path, 99, "E", zeros)["changed"] is None
    assert record(tmp_path, 100, "M", OF_CLASSES)["changed"] is None
    assert record(tmp_path, 101, "E", ones)["changed"] == 1
    assert record(tmp_path, 102, "E", OF_CLIPS)["changed"] == pytest.approx(1 / 3)
    assert record(tmp_path, 101, "E", ones)["changed"] == 1  # made once more after a kill


@pytest.mark.parametrize(
    "change",
    [
        lambda data: b"",
        lambda data: data[: len(data) // 2],
        lambda data: bytes(range(256)),
        {"labels": None},
        {"labels": np.array(["a", "b", "c"])},
        {"labels": np.array([None, 1, 2])},
        {"clips": np.array([2.5, 0.5])},
        {"clips": np.array(3)},
        {"clips": np.array([2, 5])},
    ],
)
def test_labels_that_cannot_be_read(tmp_path, change):
    record(tmp_path, 1, "M", OF_CLASSES)
    path = tmp_path / "labels/01-M.npz"
    if callable(change):
        path.write_bytes(change(path.read_bytes()))
    else:
        arrays = {**np.load(path), **change}
        np.savez(path, **{name: x for name, x in arrays.items() if x is not None})
    with pytest.raises(InputError) as refused:
        labels.read(tmp_path, 1, "M")
    assert refused.value.where == str(path) and "\n" not in str(refused.value)
