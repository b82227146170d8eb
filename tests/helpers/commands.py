"""The real command for tests: a tiny set, children that are forked with PyTorch imported, and what
a run leaves.
"""

import json
import multiprocessing
import os
import resource
import signal
import sys
from pathlib import Path

import filelock
import h5py
import numpy as np
import pytest
import torch
from places import ROOT

import run
from engine import run_folder
from formats import features

# A classifier with dropout and one without, long phases and short ones.
FLAGS = (
    "--method em-mil wtalc --untrimmednet-epochs 3 --wtalc-iterations 110 --cycle 2 "
    "--cycle-epochs 4 --alternate-epochs 3"
).split()


def words(line, *values):
    """The words of a command's line, in which each {} stands for one of the values."""
    left = iter(values)
    return [str(next(left)) if word == "{}" else word for word in line.split()]


def write_set(folder, seed=0, n_train=8, n_test=4, dims=(6, 5), past_end=0.0):
    """A canonical set of two classes, and the flags to train on it. past_end: seconds by which the
    annotated durations fall short of the clips'."""
    rng, database, items = np.random.default_rng(seed), {}, []
    for i in range(n_train + n_test):
        clips, c = int(rng.integers(8, 15)), i % 2
        start = int(rng.integers(0, clips - 3))
        streams = [rng.normal(size=(clips, d)).astype(np.float32) for d in dims]
        for x in streams:
            x[start : start + 4, c] += 4
        items.append((f"video_{i:02d}", *streams))
        database[f"video_{i:02d}"] = {
            "subset": "train" if i < n_train else "test",
            "duration": clips * 0.5 - past_end,
            "annotations": [{"label": "AB"[c], "segment": [start * 0.5, start * 0.5 + 1.5]}],
        }
    folder.mkdir(parents=True, exist_ok=True)
    features.write_canonical(folder / "features.h5", items, 0.5, "float32")
    (folder / "annotations.json").write_text(json.dumps({"database": database}))
    paths = folder / "features.h5", folder / "annotations.json"
    return [*words("--dataset custom --features {} --annotations {}", *paths), *FLAGS]


def once(tmp_path_factory, name, make):
    """The folder that make(folder) fills: once for all test processes, which may only read it.
    Tests are shared out one by one, so a module's fixture alone is made in every process, and again
    when a process comes back to the module."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with filelock.FileLock(base / f"{name}.lock"):
        if not (base / f"{name}.made").exists():
            (base / name).mkdir()
            make(base / name)
            (base / f"{name}.made").touch()
    return base / name


# ------------------------------------------------------------------------------------------------
# children
# its server has never computed, so that forking it is safe
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["commands", "matplotlib.figure", "matplotlib.backends.backend_agg"])


def start(argv, output, file_limit=None, save_every=-1, program=run.main, event=None):
    """Starts `run.py ARGV` in a child; what it prints goes to OUTPUT.out and OUTPUT.err. Returns
    the process.

    file_limit: largest size in bytes of a file that it may write, the nearest thing to a full disk.
    save_every: seconds between checkpoints; by default there is one after every epoch. program: the
    main of another command. event: the child kills itself before its event of this number, see
    `_watched`.
    """
    # for the server, which starts with the first
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)
    process = FORKS.Process(
        target=_child,
        args=([str(a) for a in argv], str(output), file_limit, save_every, program, event),
    )
    process.start()
    return process


def _child(argv, output, file_limit, save_every, program, event):
    for fd, suffix in ((1, ".out"), (2, ".err")):
        os.dup2(os.open(output + suffix, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), fd)
    os.chdir(ROOT)
    torch.set_num_threads(1)
    run_folder.SAVE_EVERY = save_every
    if file_limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))
    sys.argv[1:] = argv
    if event is not None:
        _watched(output, event)
    program()


def _watched(output, event):
    """Kills this process before the event of this number: each time that it opens, makes, renames
    or removes something in the folder of OUTPUT. OUTPUT.events has a byte for each until then.
    """
    within, events = os.path.dirname(output), open(output + ".events", "wb", buffering=0)
    kinds = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir"}

    def hook(kind, values):
        if kind in kinds and str(values[0]).startswith(within):
            if events.tell() == event:
                os.kill(os.getpid(), signal.SIGKILL)
            events.write(b".")

    sys.addaudithook(hook)


def command(argv, output, file_limit=None, save_every=-1, program=run.main):
    """Runs `run.py ARGV` to its end: (exit code, what it printed, what it printed to stderr)."""
    return ended(start(argv, output, file_limit, save_every, program), output)


def ended(process, output, timeout=300):
    process.join(timeout)
    assert process.exitcode is not None, "still running"
    return process.exitcode, Path(f"{output}.out").read_text(), Path(f"{output}.err").read_text()


# ------------------------------------------------------------------------------------------------
# in this process
def stops(argv, capsys, program=run.main):
    """Calls a command, which must end the process: (exit code, what it printed to stderr)."""
    with pytest.raises(SystemExit) as stopped:
        program([str(word) for word in argv])
    return stopped.value.code, capsys.readouterr().err


def one_line(error, *parts):
    assert error.count("\n") == 1 and error.endswith("\n") and "Traceback" not in error
    for part in parts:
        assert str(part) in error
    return True


def refused(argv, capsys, program=run.main):
    """Calls a command, which must end with exit code 2 and one line: that line."""
    code, error = stops(argv, capsys, program)
    assert code == 2 and error.startswith("error: ") and one_line(error)
    return error


# ------------------------------------------------------------------------------------------------
# what a run leaves
def same(path, other):
    """Whether two files hold the same bytes."""
    return Path(path).read_bytes() == Path(other).read_bytes()


def stamps(folder):
    """The files of a folder and when they were written."""
    return {path: path.stat().st_mtime_ns for path in Path(folder).rglob("*")}


def remains(folder):
    """Everything that a finished run leaves and that does not depend on the clock, to be compared
    with ==.
    """
    folder = Path(folder)
    names = "opts.json ground_truth.csv ambiguous.csv detections.json detections.csv table.md"
    names = (*names.split(), "detections-wtalc.csv")
    left = {name: (folder / name).read_bytes() for name in names if (folder / name).exists()}
    left["log"] = [
        _timeless(json.loads(line)) for line in (folder / run_folder.LOG).read_text().splitlines()
    ]
    left["results"] = {**_timeless(json.loads((folder / "results.json").read_text())), "run": None}
    left["checkpoint"] = _timeless({**run_folder.load_checkpoint(folder), "log_bytes": None})
    with h5py.File(folder / "clip_scores.h5") as file:
        names = []
        file.visit(names.append)
        left["scores"] = {
            name: file[name][()].tolist() for name in names if isinstance(file[name], h5py.Dataset)
        }
    left["labels"] = {
        path.name: {name: array.tolist() for name, array in np.load(path).items()}
        for path in (folder / run_folder.LABELS).iterdir()
    }
    left["files"] = sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
    return left


def _timeless(value):
    """Tensors as bytes, and nothing that is named after seconds of the clock."""
    if isinstance(value, dict):
        return {
            k: _timeless(v)
            for k, v in value.items()
            if k == "snippet_seconds" or "seconds" not in str(k)
        }
    if isinstance(value, (list, tuple)):
        return [_timeless(v) for v in value]
    if isinstance(value, torch.Tensor):
        return tuple(value.shape), value.cpu().numpy().tobytes()
    return value
