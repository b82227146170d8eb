"""A run's folder, on a network of a few weights: what is resumed, refused, written."""

import errno
import fcntl
import json
import os
import re
import shutil
import subprocess
from types import SimpleNamespace

import filelock
import numpy as np
import pytest
import torch
from places import python
from torch import nn

from engine import run_folder
from engine.loop import Adam, TrainingSet, train_epoch
from engine.run_folder import (
    CHECKPOINT,
    LABELS,
    LOG,
    ROOT,
    RunFolder,
    checkout,
    code_files,
    code_hash,
    environment,
    load_checkpoint,
    read_labels,
    read_log,
)
from formats.files import InputError
from model import EMMIL

VIDEOS = 5
X = np.random.default_rng(0).normal(size=(VIDEOS, 1, 4)).astype(np.float32)
BAGS = [
    SimpleNamespace(name=f"video {i}", rgb=x, flow=x, labels=np.ones(1, np.float32))
    for i, x in enumerate(X)
]
STAGES = (("first", 2), ("second", 3))


def fit(run, stages=STAGES, at_step=None, do=None):
    """Trains a linear layer behind dropout, whose loss also draws from NumPy; returns the weights.
    do() is called at the at_step-th step of this call."""
    torch.manual_seed(7)
    network = run.register("network", nn.Linear(4, 1))
    optimizer = run.register("adam", Adam(network.parameters(), 1e-2))
    taken = 0

    def loss_with(rng):
        def loss(bags):
            nonlocal taken
            taken += 1
            if taken == at_step:
                do()
            x = nn.functional.dropout(bags[0].rgb + float(rng.normal()), 0.5)
            return {"square": (network(x) ** 2).sum(), "level": network.bias.abs().sum()}

        return loss

    for stage, n in stages:
        for epoch in run.epochs(stage, n):
            rng = run.generator(stage, epoch)
            losses = train_epoch(TrainingSet(BAGS).shuffled(rng), loss_with(rng), [optimizer])
            run.log(stage=stage, epoch=epoch + 1, loss=losses)
    return [p.detach().clone() for p in network.parameters()]


def die():
    raise KeyError


def died(run, step, **more):
    """Trains until an error at the step-th step, which leaves what a killed process would."""
    with pytest.raises(KeyError):
        fit(run, at_step=step, do=die, **more)
    run.close()


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """(folder, weights) of a run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    run = RunFolder(folder, seed=3)
    weights = fit(run)
    run.close()
    return folder, weights


# ------------------------------------------------------------------------------------------------
# resuming
@pytest.mark.parametrize("every", [-1, 30], ids=["each epoch", "each stage"])
@pytest.mark.parametrize("step", range(1, 26))
def test_dead_at_any_step_it_ends_in_the_same_bits(whole, tmp_path, monkeypatch, step, every):
    monkeypatch.setattr(run_folder, "SAVE_EVERY", every)
    died(RunFolder(tmp_path, seed=3), step)
    run = RunFolder(tmp_path, seed=3, resume=True)
    epochs = (step - 1) // VIDEOS  # done before the step
    kept = epochs if every < 0 else (0 if step <= 10 else 2)
    assert len(read_log(tmp_path)) == kept
    assert (run.stage, run.epoch, run.done) == {
        0: (None, 0, []),
        1: ("first", 1, []),
        2: ("first", 2, ["first"]),
        3: ("second", 1, ["first"]),
        4: ("second", 2, ["first"]),
    }[kept]
    assert same(fit(run), whole[1]) and read_log(tmp_path) == read_log(whole[0])
    run.close()


def test_dead_in_every_epoch(whole, tmp_path, monkeypatch):
    monkeypatch.setattr(run_folder, "SAVE_EVERY", -1)
    for k in range(5):
        died(RunFolder(tmp_path, seed=3, resume=k > 0), VIDEOS + 1 if k < 4 else VIDEOS)
    run = RunFolder(tmp_path, seed=3, resume=True)
    assert same(fit(run), whole[1]) and read_log(tmp_path) == read_log(whole[0])
    run.close()


def test_the_seed_decides(whole, tmp_path):
    assert same(fit(RunFolder(tmp_path / "same", seed=3)), whole[1])
    assert not same(fit(RunFolder(tmp_path / "other", seed=4)), whole[1])


def test_a_checkpoint_after_thirty_seconds_and_at_the_end_of_a_stage(tmp_path, monkeypatch):
    """Each epoch takes 11 s, so the third after a checkpoint makes the next one."""
    seconds = [0.0]
    monkeypatch.setattr(run_folder, "time", SimpleNamespace(monotonic=lambda: seconds[0]))
    saved, inner = [], RunFolder.save

    def save(self):
        saved.append((self.stage, self.epoch, len(self.done)))
        inner(self)

    monkeypatch.setattr(RunFolder, "save", save)
    run = RunFolder(tmp_path)
    for stage, n in (("a", 7), ("b", 1), ("c", 4)):
        for _ in run.epochs(stage, n):
            seconds[0] += 11
    assert saved == [("a", 3, 0), ("a", 6, 0), ("a", 7, 1), ("b", 1, 2), ("c", 3, 2), ("c", 4, 3)]


def test_a_stage_that_is_done_has_no_epochs(whole, tmp_path):
    shutil.copytree(whole[0], tmp_path / "run")
    run = RunFolder(tmp_path / "run", seed=3, resume=True)
    assert same(fit(run, at_step=1, do=lambda: pytest.fail("trained")), whole[1])
    assert list(run.epochs("third", 3)) == [0, 1, 2] and list(run.epochs("third", 3)) == []
    run.close()


def test_a_stage_of_no_epochs_is_done(tmp_path):
    run = RunFolder(tmp_path)
    assert list(run.epochs("none", 0)) == [] and run.done == ["none"]


def test_generators_depend_on_seed_stage_and_epoch_alone(tmp_path):
    def draws(seed, stage, epoch):
        run = RunFolder(tmp_path / str(seed), seed=seed)
        rng = run.generator(stage, epoch)
        run.close()
        return (*rng.random(2).tolist(), *torch.rand(2).tolist())

    first = draws(1, "a", 0)
    torch.rand(5)
    assert draws(1, "a", 0) == first
    others = [draws(2, "a", 0), draws(1, "b", 0), draws(1, "a", 1)]
    assert len({first, *others}) == 4 and len({x for d in (first, *others) for x in d}) == 16


def test_a_generator_where_numpy_cannot_shift_its_own_numbers(tmp_path, monkeypatch):
    """NumPy 1.26: np.uint64(4) >> 1 is a TypeError there, int(np.uint64(4)) is none."""

    class Number:
        def __init__(self, value):
            self.value = value

        def __int__(self):
            return self.value

    def drawn(folder):
        run = RunFolder(tmp_path / folder, seed=3)
        run.generator("a", 1)
        run.close()
        return torch.rand(3).tolist()

    as_here, seeds = drawn("here"), np.random.SeedSequence

    class Sequence:
        def __init__(self, words):
            self.inner = seeds(words)

        def generate_state(self, n, kind):
            return [Number(int(x)) for x in self.inner.generate_state(n, kind)]

    monkeypatch.setattr(np.random, "SeedSequence", Sequence)
    assert drawn("there") == as_here


# ------------------------------------------------------------------------------------------------
# memory order
def em_mil(run, permuted, epochs, at_step=None):
    """Trains the classifier of an EMMIL, its convolutions' weights in the memory order of an
    earlier version (256, 3, D) or as PyTorch has them; returns it.
    """
    torch.manual_seed(5)
    model = EMMIL(4, 4, 2)
    for head in (model.classifier.rgb, model.classifier.flow) if permuted else ():
        weight = head.conv.weight.data
        head.conv.weight.data = weight.permute(0, 2, 1).contiguous().permute(0, 2, 1)
    run.register("model", model)
    optimizer = run.register("adam", Adam(model.classifier.parameters(), 1e-2))
    taken = 0

    def loss(bags):
        nonlocal taken
        taken += 1
        if taken == at_step:
            die()
        return {"square": model.classifier(bags[0].rgb, bags[0].flow).rgb.square().mean()}

    for epoch in run.epochs("only", epochs):
        train_epoch(TrainingSet(BAGS).shuffled(run.generator("only", epoch)), loss, [optimizer])
        run.log(epoch=epoch)
    return model


@pytest.mark.parametrize(
    "before, after", [(False, True), (True, False), (True, True), (False, False)]
)
def test_a_checkpoint_of_another_memory_order_resumes_right(tmp_path, monkeypatch, before, after):
    """Fused Adam walks parameter, gradient and moments in memory order and does not look at their
    strides.
    """
    monkeypatch.setattr(run_folder, "SAVE_EVERY", -1)
    with pytest.raises(KeyError):
        run = RunFolder(tmp_path / "cut", seed=3)
        em_mil(run, before, 4, at_step=2 * VIDEOS + 1)
    run.close()
    found = em_mil(RunFolder(tmp_path / "cut", seed=3, resume=True), after, 4)
    expected = em_mil(RunFolder(tmp_path / "plain", seed=3), False, 4)
    start = em_mil(RunFolder(tmp_path / "start", seed=3), False, 0)
    for a, b, first in zip(
        found.classifier.rgb.parameters(),
        expected.classifier.rgb.parameters(),
        start.classifier.rgb.parameters(),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
        assert (b - first).abs().max() > 1e-2  # it has moved far beyond the tolerance


@pytest.mark.parametrize("permuted", [True, False])
def test_the_moments_lie_as_their_parameter_does(tmp_path, permuted):
    run = RunFolder(tmp_path)
    em_mil(run, not permuted, 1)
    run.close()
    run = RunFolder(tmp_path, resume=True)
    em_mil(run, permuted, 1)
    optimizer = run.parts["adam"]
    (group,), moments = optimizer.param_groups, list(optimizer.state.values())
    weight = run.parts["model"].classifier.rgb.conv.weight
    assert weight.stride() == ((12, 1, 4) if permuted else (12, 3, 1))
    for p, state in zip(group["params"], moments, strict=True):
        assert state["exp_avg"].stride() == state["exp_avg_sq"].stride() == p.stride()
    steps = [state["step"].item() for state in moments]
    assert steps == [VIDEOS] * 4 + [0] * 4  # the loss looks at one of the two heads
    assert moments[0]["exp_avg"].stride() == weight.stride()
    assert moments[0]["exp_avg"].abs().max() > 0
    run.close()


# ------------------------------------------------------------------------------------------------
# the folder
def test_a_folder_has_one_run(tmp_path):
    run = RunFolder(tmp_path)
    for resume in (False, True):
        with pytest.raises(InputError, match="in use by another run"):
            RunFolder(tmp_path, resume=resume)
    run.close()
    RunFolder(tmp_path).close()


def test_a_run_that_cannot_begin_releases_the_folder(tmp_path):
    (tmp_path / CHECKPOINT).write_bytes(b"")
    errors = []  # whose tracebacks keep the run and its lock in memory
    for resume in (False, True):
        said = CHECKPOINT if resume else "found a checkpoint there"
        with pytest.raises(InputError, match=said) as refused:
            RunFolder(tmp_path, resume=resume)
        errors.append(refused.value)
    (tmp_path / CHECKPOINT).unlink()
    RunFolder(tmp_path).close()


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks(tmp_path, monkeypatch, recwarn, code):
    def flock(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)
    run = RunFolder(tmp_path, seed=3)
    fit(run)
    assert load_checkpoint(tmp_path)["done"] == ["first", "second"] and not list(recwarn)
    RunFolder(tmp_path, resume=True).close()  # as after a kill: nothing is left that locks it
    run.close()


def test_a_filelock_that_knows_no_soft_fallback(tmp_path, monkeypatch):
    """As that of 2023: where it is given a word that it does not know, its end prints a traceback."""
    now = filelock.FileLock

    def before(lock_file, timeout=-1):
        return now(lock_file, timeout=timeout)

    monkeypatch.setattr(filelock, "FileLock", before)
    run = RunFolder(tmp_path)
    with pytest.raises(InputError, match="in use by another run"):
        RunFolder(tmp_path)
    run.close()
    RunFolder(tmp_path).close()


def test_what_a_killed_process_left_is_removed(tmp_path):
    for place in ("figures", LABELS, "evaluate"):  # another process may be writing into the last
        (tmp_path / place).mkdir()
    left = [
        ".checkpoint.0123abcd.pt",
        ".clip_scores.89abcdef.h5",
        "figures/.video_1-A.01234567.png",
        f"{LABELS}/.01-M.01234567.npz",
    ]
    kept = [
        ".hidden",
        "table.md",
        "figures/video.png",
        f"{LABELS}/01-M.npz",
        "evaluate/.table.0123abcd.md",
    ]
    for name in left + kept:
        (tmp_path / name).write_text("")
    RunFolder(tmp_path).close()
    assert sorted(
        str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()
    ) == sorted([*kept, ".lock", LOG])


def test_the_checkpoint_keeps_plain_values(tmp_path):
    about = {"options": {"lr": 0.1, "tious": (0.1, 0.5), "none": None}, "classes": ["a"]}
    run = RunFolder(tmp_path, about=about)
    run.save()
    run.close()
    run = RunFolder(tmp_path, resume=True)
    assert run.about == about
    run.close()


def test_parts_that_are_not_there_this_time_are_kept(tmp_path):
    run = RunFolder(tmp_path, seed=3)
    fit(run)
    run.close()
    run = RunFolder(tmp_path, seed=3, resume=True)
    run.register("another", nn.Linear(1, 1))
    run.save()
    run.close()
    assert load_checkpoint(tmp_path)["parts"].keys() == {"network", "adam", "another"}


def test_register_returns_the_part_it_was_given(tmp_path):
    network = nn.Linear(4, 1)
    assert RunFolder(tmp_path).register("network", network) is network


def cut_after_the_first_epoch(folder, monkeypatch):
    monkeypatch.setattr(run_folder, "SAVE_EVERY", -1)
    died(RunFolder(folder, seed=3), VIDEOS + 1)
    return RunFolder(folder, seed=3, resume=True)


@pytest.mark.parametrize(
    "name, part",
    [
        ("network", lambda: nn.Linear(5, 1)),
        ("network", lambda: nn.Linear(4, 1, bias=False)),
        ("adam", lambda: Adam(nn.Sequential(nn.Linear(4, 1), nn.Linear(1, 1)).parameters(), 1)),
        ("adam", lambda: Adam(nn.Linear(5, 1).parameters(), 1)),
        ("adam", lambda: Adam([nn.Linear(4, 1).weight], 1)),
    ],
)
def test_a_state_that_does_not_fit(tmp_path, monkeypatch, name, part):
    run = cut_after_the_first_epoch(tmp_path, monkeypatch)
    with pytest.raises(
        InputError, match=f"{CHECKPOINT}: {name}: found the state of another network"
    ) as refused:
        run.register(name, part())
    assert "\n" not in str(refused.value)
    run.close()


@pytest.mark.parametrize("moment", [5, torch.zeros(2, 2, 2), None])
def test_an_optimizer_s_state_that_is_none(tmp_path, monkeypatch, moment):
    run = cut_after_the_first_epoch(tmp_path, monkeypatch)
    run.saved_parts["adam"]["state"][0]["exp_avg"] = moment
    with pytest.raises(InputError, match=f"{CHECKPOINT}: adam: found the state of another network"):
        run.register("adam", Adam(nn.Linear(4, 1).parameters(), 1))
    run.close()


# ------------------------------------------------------------------------------------------------
# the checkpoint
def broken(what, path):
    """Makes the checkpoint at `path` something else."""
    data, state = path.read_bytes(), load_checkpoint(path.parent)
    contents = {"empty": b"", "cut": data[: len(data) // 2], "noise": bytes(range(256)) * 20}
    if what in contents:
        path.write_bytes(contents[what])
    elif what == "foreign":
        torch.save({"model": torch.zeros(3)}, path)
    elif what == "a tensor":
        torch.save(torch.zeros(3), path)
    elif what.startswith("em-mil run"):
        torch.save({**state, "format": what}, path)
    else:
        torch.save({key: value for key, value in state.items() if key != what}, path)


@pytest.mark.parametrize(
    "what, said",
    [
        ("empty", "broken file"),
        ("cut", "broken file"),
        ("noise", "broken file"),
        ("foreign", "found something else"),
        ("a tensor", "found something else"),
        ("parts", "found something else"),
        ("epoch", "found something else"),
        ("em-mil run 1", "found a run of an earlier version of this program.*train again"),
        ("em-mil run 2", "found a run of an earlier version of this program.*train again"),
        ("em-mil run 4", "found something else"),
    ],
)
def test_a_checkpoint_that_is_none(whole, tmp_path, what, said):
    folder = tmp_path / "run"
    shutil.copytree(whole[0], folder)
    broken(what, folder / CHECKPOINT)
    for load in (lambda: RunFolder(folder, resume=True), lambda: load_checkpoint(folder)):
        with pytest.raises(
            InputError, match=f"{re.escape(str(folder / CHECKPOINT))}: .*{said}"
        ) as refused:
            load()
        assert "\n" not in str(refused.value)
    assert read_log(folder) == read_log(whole[0])  # nothing has been touched


def test_no_checkpoint(tmp_path):
    with pytest.raises(InputError, match=f"{CHECKPOINT}: found no such file"):
        load_checkpoint(tmp_path)
    RunFolder(tmp_path, resume=True).close()  # stopped before its first checkpoint


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS])
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_checkpoint_that_cannot_be_written(whole, tmp_path, monkeypatch, code, call):
    run = RunFolder(tmp_path, seed=3)

    def refuse(*_):
        raise OSError(code, os.strerror(code))

    with (
        monkeypatch.context() as patch,
        pytest.raises(InputError, match=f"{tmp_path / CHECKPOINT}: found") as refused,
    ):
        fit(run, at_step=12, do=lambda: patch.setattr(os, call, refuse))
    assert os.strerror(code) in str(refused.value)
    run.close()
    assert load_checkpoint(tmp_path)["done"] == ["first"]
    assert not list(tmp_path.glob(".checkpoint*"))
    run = RunFolder(tmp_path, seed=3, resume=True)
    assert same(fit(run), whole[1]) and read_log(tmp_path) == read_log(whole[0])
    run.close()


def test_the_checkpoint_takes_its_name_when_it_is_on_the_disk(tmp_path, monkeypatch):
    """Checkpoint and log are flushed to the disk, then the name changes hands."""
    calls = []
    inner = {"fsync": os.fsync, "replace": os.replace}
    monkeypatch.setattr(
        os,
        "fsync",
        lambda fd: (
            calls.append(os.path.basename(os.readlink(f"/proc/self/fd/{fd}"))),
            inner["fsync"](fd),
        ),
    )
    monkeypatch.setattr(
        os, "replace", lambda a, b: (calls.append("replace"), inner["replace"](a, b))
    )
    run = RunFolder(tmp_path)
    run.save()
    run.close()
    assert calls[-1] == "replace" and LOG in calls
    assert any(name.startswith(".checkpoint.") for name in calls)


# ------------------------------------------------------------------------------------------------
# the log
def test_a_line_for_each_record(tmp_path):
    run = RunFolder(tmp_path)
    run.log(stage="a", epoch=1, loss={"rgb": 0.5})
    run.log(stage="a", epoch=2, changed=None)
    assert (tmp_path / LOG).read_text() == (
        '{"stage": "a", "epoch": 1, "loss": {"rgb": 0.5}}\n'
        '{"stage": "a", "epoch": 2, "changed": null}\n'
    )
    assert read_log(tmp_path) == [
        {"stage": "a", "epoch": 1, "loss": {"rgb": 0.5}},
        {"stage": "a", "epoch": 2, "changed": None},
    ]


def test_a_log_with_too_few_bytes(whole, tmp_path):
    (tmp_path / CHECKPOINT).write_bytes((whole[0] / CHECKPOINT).read_bytes())
    with pytest.raises(
        InputError,
        match=f"{LOG}: found 0 bytes, expected the {(whole[0] / LOG).stat().st_size} that",
    ):
        RunFolder(tmp_path, resume=True)


def test_a_log_that_cannot_be_written(tmp_path):
    run = RunFolder(tmp_path, seed=3)
    (tmp_path / LOG).unlink()
    (tmp_path / LOG).symlink_to("/dev/full")
    with pytest.raises(
        InputError,
        match=f"{tmp_path / LOG}: found No space left on device, expected to write there",
    ):
        fit(run)
    run.close()


@pytest.mark.parametrize("content", [b'{"stage": "a"', b"\xff\n", None])
def test_a_log_that_cannot_be_read(tmp_path, content):
    if content is not None:
        (tmp_path / LOG).write_bytes(content)
    with pytest.raises(InputError, match=f"{LOG}: found no readable log"):
        read_log(tmp_path)


# ------------------------------------------------------------------------------------------------
# labels
@pytest.mark.parametrize(
    "labels",
    [
        [np.array([True, False]), np.array([True])],  # of an E phase
        [np.array([[0.25, 0.0], [1.0, 0.5]], np.float32), np.array([[0.0, 1.0]], np.float32)],
    ],
)
def test_labels_come_back_as_they_were(tmp_path, labels):
    run = RunFolder(tmp_path)
    returned = run.save_labels("01-M", labels)
    for found in (returned, run.read_labels("01-M"), read_labels(tmp_path, "01-M")):
        assert len(found) == 2
        for a, b in zip(found, labels):
            assert a.dtype == b.dtype and a.tolist() == b.tolist()
    assert run.read_labels("02-E") is None and read_labels(tmp_path / "nowhere", "01-M") is None
    assert [path.name for path in (tmp_path / LABELS).iterdir()] == ["01-M.npz"]


@pytest.mark.parametrize("what", ["empty", "cut", "noise", "other arrays"])
def test_labels_that_cannot_be_read(tmp_path, what):
    run = RunFolder(tmp_path)
    run.save_labels("01-M", [np.arange(100)])
    path = tmp_path / LABELS / "01-M.npz"
    data = path.read_bytes()
    if what == "other arrays":
        np.savez(path, clips=[1])
    else:
        path.write_bytes(
            {"empty": b"", "cut": data[: len(data) // 2], "noise": bytes(range(256))}[what]
        )
    with pytest.raises(InputError, match="01-M.npz: found no readable labels") as refused:
        run.read_labels("01-M")
    assert "\n" not in str(refused.value)


# ------------------------------------------------------------------------------------------------
# where and with what
def test_the_code_hash_changes_with_the_files_that_decide_a_run(tmp_path, monkeypatch):
    """run.py, what it imports, what that imports, and the neighbours of a module in a folder."""
    deciding = {
        "run.py": "import opts\nfrom report import page\nimport json, first",
        "first.py": "def f():\n    from folder.inner import second",
        "folder/inner/second.py": "import no_such_module, run",
        "folder/neighbour.py": "def unfinished(",
    }
    others = ("README.md", "report/page.py", "opts.py", "tests/test_first.py", "lonely.py")
    for name, text in {**deciding, **dict.fromkeys(others, "import lonely")}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(run_folder, "ROOT", tmp_path)
    first = code_hash()
    assert re.fullmatch("[0-9a-f]{16}", first) and code_hash() == first
    for name in others:
        (tmp_path / name).write_text("other")
        assert code_hash() == first
    seen = {first}
    for name in (*deciding, "folder/another.py"):
        with open(tmp_path / name, "a") as file:
            file.write("#")
        seen.add(code_hash())
    (tmp_path / "folder/another.py").rename(tmp_path / "folder/renamed.py")
    seen.add(code_hash())
    assert len(seen) == 7


def test_all_that_a_run_loads_is_in_the_code_hash():
    """Of this repository, as Python itself says after the import of run.py."""
    loaded = python("-c", "import run, sys; print(*sys.modules)").stdout.split()
    files = {ROOT / f"{name.replace('.', '/')}.py" for name in loaded}
    ours = {path for path in files if path.exists()}
    shown = {path for path in ours if path.parent.name in ("report", "paper")} | {ROOT / "opts.py"}
    assert {ROOT / "run.py", ROOT / "engine/loop.py", ROOT / "report/tables.py"} <= ours
    assert ours - shown <= set(code_files()) and not shown & set(code_files())


def git(folder, *words):
    subprocess.run(
        ["git", "-C", folder, "-c", "user.name=a", "-c", "user.email=a@b", *words],
        check=True,
        capture_output=True,
    )


def test_commit_and_changes_of_a_checkout(tmp_path, monkeypatch):
    monkeypatch.setattr(run_folder, "ROOT", tmp_path)
    (tmp_path / "run.py").write_text("")
    unknown = {"code": code_hash(), "commit": None, "dirty": None}
    assert checkout() == unknown
    git(tmp_path, "init")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "all")
    found = checkout()
    assert re.fullmatch("[0-9a-f]{40}", found["commit"]) and found["dirty"] is False
    assert found["code"] == unknown["code"]
    (tmp_path / "run.py").write_text("#")
    assert checkout() == {**found, "code": code_hash(), "dirty": True} != found
    (tmp_path / "copy").mkdir()  # a copy of the code inside somebody's repository
    monkeypatch.setattr(run_folder, "ROOT", tmp_path / "copy")
    assert (checkout()["commit"], checkout()["dirty"]) == (None, None)


def test_without_git(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert checkout() == {"code": code_hash(), "commit": None, "dirty": None}


def test_the_environment_names_the_processor(monkeypatch):
    found = environment(torch.device("cpu"))
    assert found["versions"]["torch"] == torch.__version__ and found["processes"] == 1
    assert found["device"] == "cpu" and json.loads(json.dumps(found)) == found
    for line in open("/proc/cpuinfo") if os.path.exists("/proc/cpuinfo") else ():
        if line.startswith("model name"):
            assert line.endswith(f": {found['processor']}\n")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU {device.index}")
    on_gpu = environment(torch.device("cuda", 1))
    assert on_gpu == {**found, "device": "cuda", "processor": "GPU 1"}


def test_the_environment_names_the_instructions_in_use():
    """Those that PyTorch is told to use, not the best that the processor has."""
    code = "import torch, engine.run_folder as f; print(f.environment(torch.device('cpu')))"
    told = python("-c", code, environment={"ATEN_CPU_CAPABILITY": "default"})
    assert "'capability': 'DEFAULT'" in told.stdout
