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
    read_log,
)
from formats.files import InputError

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
            run.log(stage=stage, epoch=epoch + 1, loss=losses, seconds=0)
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


def refused(call, where, found=""):
    """The call must raise an InputError about the path `where`, in one line."""
    with pytest.raises(InputError) as error:
        call()
    assert error.value.where.startswith(str(where)) and "\n" not in str(error.value)
    assert found in str(error.value)


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
    assert list(run.epochs("of none", 0)) == [] and run.done[-1] == "of none"
    run.close()


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

    class Unshiftable(int):
        __rshift__ = None

    def drawn():
        RunFolder(tmp_path, seed=3).generator("a", 1)
        return torch.rand(3).tolist()

    class Sequence:
        def __init__(self, words):
            self.words = words

        def generate_state(self, *args):
            return [Unshiftable(x) for x in seeds(self.words).generate_state(*args)]

    as_here, seeds = drawn(), np.random.SeedSequence
    monkeypatch.setattr(np.random, "SeedSequence", Sequence)
    assert drawn() == as_here


# ------------------------------------------------------------------------------------------------
# the folder
def test_a_folder_has_one_run(tmp_path):
    run = RunFolder(tmp_path)
    for resume in (False, True):
        refused(lambda: RunFolder(tmp_path, resume=resume), tmp_path)
    run.close()
    RunFolder(tmp_path).close()


def test_a_new_run_where_a_checkpoint_lies(whole, tmp_path):
    shutil.copytree(whole[0], tmp_path / "run")
    refused(lambda: RunFolder(tmp_path / "run", seed=3), tmp_path / "run", "checkpoint")


def test_a_run_that_cannot_begin_releases_the_folder(tmp_path):
    (tmp_path / CHECKPOINT).write_bytes(b"")
    refused(lambda: RunFolder(tmp_path, resume=True), tmp_path / CHECKPOINT)
    refused(lambda: RunFolder(tmp_path), tmp_path, "checkpoint")
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


@pytest.mark.parametrize("code", [errno.EACCES, errno.EPERM, errno.EISDIR, errno.EIO])
def test_a_lock_that_this_user_may_not_take_is_an_error(tmp_path, monkeypatch, code):
    """Such as another user's in a shared folder: two runs would write there."""

    def opened(path, *args):
        if str(path).endswith(".lock"):
            raise OSError(code, os.strerror(code))
        return inner(path, *args)

    inner = os.open
    monkeypatch.setattr(os, "open", opened)
    refused(lambda: RunFolder(tmp_path), tmp_path / ".lock", os.strerror(code))
    assert not (tmp_path / LOG).exists()


def test_a_filelock_that_knows_no_soft_fallback(tmp_path, monkeypatch):
    """As that of 2023: where it is given a word that it does not know, its end prints a traceback."""
    now = filelock.FileLock
    monkeypatch.setattr(
        filelock, "FileLock", lambda lock_file, timeout=-1: now(lock_file, timeout=timeout)
    )
    run = RunFolder(tmp_path)
    refused(lambda: RunFolder(tmp_path), tmp_path)
    run.close()


def test_what_a_killed_process_left_is_removed(tmp_path):
    (tmp_path / LABELS).mkdir()
    (tmp_path / "evaluate").mkdir()  # another process may be writing there
    left = [".checkpoint.0123abcd.pt", ".clip_scores.89abcdef.h5", f"{LABELS}/.01-M.01234567.npz"]
    kept = [".hidden", "table.md", f"{LABELS}/01-M.npz", "evaluate/.table.0123abcd.md"]
    for name in left + kept:
        (tmp_path / name).write_text("")
    RunFolder(tmp_path).close()
    files = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert files == {*kept, ".lock", LOG}


def test_plain_values_and_parts_that_are_not_there_this_time_are_kept(tmp_path):
    about = {"options": {"lr": 0.1, "tious": (0.1, 0.5), "none": None}, "classes": ["a"]}
    run = RunFolder(tmp_path, seed=3, about=about)
    fit(run)
    run.close()
    run, network = RunFolder(tmp_path, seed=3, resume=True), nn.Linear(1, 1)
    assert run.about == about and run.register("another", network) is network
    run.save()
    run.close()
    state = load_checkpoint(tmp_path)
    assert state["parts"].keys() == {"network", "adam", "another"} and state["about"] == about


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
def test_a_state_that_does_not_fit(whole, tmp_path, name, part):
    shutil.copytree(whole[0], tmp_path / "run")
    run = RunFolder(tmp_path / "run", seed=3, resume=True)
    where = f"{tmp_path / 'run' / CHECKPOINT}: {name}"
    refused(lambda: run.register(name, part()), where, "another network")
    for moment in (5, torch.zeros(2, 2, 2), None):
        run.saved_parts["adam"]["state"][0]["exp_avg"] = moment
        where = f"{tmp_path / 'run' / CHECKPOINT}: adam"
        refused(lambda: run.register("adam", Adam(nn.Linear(4, 1).parameters(), 1)), where)
    run.close()


# ------------------------------------------------------------------------------------------------
# the checkpoint
@pytest.mark.parametrize(
    "content",
    [
        b"",
        bytes(range(256)) * 20,
        lambda data: data[: len(data) // 2],
        {"model": torch.zeros(3)},
        torch.zeros(3),
        ("format", "em-mil run 1"),
        ("format", "em-mil run 4"),
        ("format", None),
        ("about", [1]),
        ("parts", "x"),
        ("stage", 1),
        ("stage", "missing"),
        ("epoch", "1"),
        ("epoch", -1),
        ("done", "first"),
        ("log_bytes", None),
        ("log_bytes", -1),
        ("log_bytes", 0),  # the epochs that are done have lines
    ],
)
def test_a_checkpoint_that_is_none(whole, tmp_path, content):
    folder = tmp_path / "run"
    shutil.copytree(whole[0], folder)
    path = folder / CHECKPOINT
    if isinstance(content, tuple):
        name, value = content
        state = {**load_checkpoint(folder), name: value}
        if value == "missing":
            del state[name]
        torch.save(state, path)
    elif isinstance(content, bytes):
        path.write_bytes(content)
    elif callable(content):
        path.write_bytes(content(path.read_bytes()))
    else:
        torch.save(content, path)
    refused(lambda: RunFolder(folder, resume=True), path)
    refused(lambda: load_checkpoint(folder), path)
    assert read_log(folder) == read_log(whole[0])  # nothing has been touched


def test_no_checkpoint(tmp_path):
    refused(lambda: load_checkpoint(tmp_path), tmp_path / CHECKPOINT, "no such file")
    RunFolder(tmp_path, resume=True).close()  # stopped before its first checkpoint


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_checkpoint_that_cannot_be_written(whole, tmp_path, monkeypatch, code, call):
    run = RunFolder(tmp_path, seed=3)

    def refuse(*_):
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        failing = dict(at_step=12, do=lambda: patch.setattr(os, call, refuse))
        refused(lambda: fit(run, **failing), tmp_path / CHECKPOINT, os.strerror(code))
    run.close()
    assert load_checkpoint(tmp_path)["done"] == ["first"]
    assert not list(tmp_path.glob(".checkpoint*"))
    run = RunFolder(tmp_path, seed=3, resume=True)
    assert same(fit(run), whole[1]) and read_log(tmp_path) == read_log(whole[0])
    run.close()


def test_the_checkpoint_takes_its_name_when_it_is_on_the_disk(tmp_path, monkeypatch):
    """Checkpoint and log are flushed to the disk, then the name changes hands."""
    calls, fsync, replace = [], os.fsync, os.replace

    def flushed(fd):
        calls.append(os.path.basename(os.readlink(f"/proc/self/fd/{fd}")))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append("replace"), replace(a, b)))
    run = RunFolder(tmp_path)
    run.save()
    run.close()
    assert calls[-1] == "replace" and LOG in calls
    assert any(name.startswith(".checkpoint.") for name in calls)


# ------------------------------------------------------------------------------------------------
# log and records
LINE = {"stage": "a", "epoch": 1, "loss": {"rgb": 0.5}, "seconds": 0.1}
PHASE = {**LINE, "phase": 1, "step": "E", "label_seconds": 1}


def test_a_line_for_each_record(tmp_path):
    run = RunFolder(tmp_path)
    run.log(**LINE)
    run.log(**PHASE, changed=None)
    first, second = (tmp_path / LOG).read_text().splitlines()
    assert first == '{"stage": "a", "epoch": 1, "loss": {"rgb": 0.5}, "seconds": 0.1}'
    assert json.loads(second) == {**PHASE, "changed": None}
    assert read_log(tmp_path) == [LINE, {**PHASE, "changed": None}]


@pytest.mark.parametrize(
    "line",
    [
        b'{"stage": "a"',
        b"\xff",
        b"[" * 100_000,
        [1],
        {**LINE, "stage": None},
        {**LINE, "epoch": "1"},
        {**LINE, "loss": 1},
        {**LINE, "loss": {"rgb": "x"}},
        {name: value for name, value in LINE.items() if name != "seconds"},
        {**LINE, "phase": 1},
        {**PHASE, "step": 2},
        {**PHASE, "positive": "all"},
        None,
    ],
)
def test_a_log_that_cannot_be_read(tmp_path, line):
    if line is not None:
        text = line if isinstance(line, bytes) else json.dumps(line).encode()
        (tmp_path / LOG).write_bytes(json.dumps(LINE).encode() + b"\n" + text + b"\n")
    refused(lambda: read_log(tmp_path), tmp_path / LOG)


def test_a_log_with_too_few_bytes(whole, tmp_path):
    (tmp_path / CHECKPOINT).write_bytes((whole[0] / CHECKPOINT).read_bytes())
    refused(lambda: RunFolder(tmp_path, resume=True), tmp_path / LOG, "0 bytes")


def test_a_log_that_cannot_be_written(tmp_path):
    run = RunFolder(tmp_path, seed=3)
    (tmp_path / LOG).unlink()
    (tmp_path / LOG).symlink_to("/dev/full")
    refused(lambda: fit(run), tmp_path / LOG, "No space left")
    run.close()


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


@pytest.mark.slow
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


@pytest.mark.slow
def test_the_environment_names_the_instructions_in_use():
    """Those that PyTorch is told to use, not the best that the processor has."""
    code = "import torch, engine.run_folder as f; print(f.environment(torch.device('cpu')))"
    told = python("-c", code, environment={"ATEN_CPU_CAPABILITY": "default"})
    assert "'capability': 'DEFAULT'" in told.stdout
