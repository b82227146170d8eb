"""A run's folder: log, checkpoint, resume, lock, and the record of where and with what it was made.

Everything random is drawn from (seed, stage, epoch), and a resumed run begins at the first epoch
that is not done, so its result is the uninterrupted one's, bit for bit.
"""

import ast
import contextlib
import hashlib
import io
import json
import os
import platform
import subprocess
import time
import zlib
from pathlib import Path

import numpy as np
import torch

from engine.distributed import world
from formats.files import (
    InputError,
    check_kinds,
    load_pt,
    process_lock,
    show,
    take_lock,
    write_atomically,
)

CHECKPOINT, LOG, LABELS, RECORDS = "checkpoint.pt", "log.jsonl", "labels", "environment.json"
FORMAT = "em-mil run 3"
# The kinds of the values in a checkpoint, in a line of the log, and in one of EM-MIL's.
STATE = {"about": dict, "parts": dict, "stage": str | None, "epoch": int, "done": list}
STATE["log_bytes"] = int
LINE = {"stage": str, "epoch": int, "loss": {str: float}, "seconds": float}
PHASE = {"phase": int, "step": str, "label_seconds": float}
SAVE_EVERY = 30  # seconds between checkpoints, besides one at the end of each stage
ROOT = Path(__file__).resolve().parents[1]
# What run.py imports and code_hash leaves out: report and paper decide no score, and of opts.py
# the options that result are recorded.
NOT_HASHED = {"report", "paper", "opts"}


class RunFolder:
    """The folder of one run: `epochs` and `generator` for training; `log`, `save` and `write` for
    what it leaves.

    folder: made where it does not exist. seed: of everything random. about: plain values that the
    checkpoint holds (options, classes, dimensions). resume: load the folder's checkpoint; parts
    registered later take their saved state. A run that was stopped before its first checkpoint
    starts from the beginning.
    Raises InputError where another process uses the folder, where the checkpoint is broken or of
    another version, and without `resume` where there is a checkpoint.
    """

    def __init__(self, folder, *, seed=0, about=None, resume=False):
        self.folder, self.seed, self.about = Path(folder), seed, about or {}
        self.parts, self.saved_parts = {}, {}
        self.stage, self.epoch, self.done = None, 0, []
        self.log_bytes, self.saved_at = 0, time.monotonic()
        self.writes = world()[0] == 0  # process 0 writes for all
        self.lock = process_lock(self.folder / ".lock")
        try:
            if self.writes:
                self._take_lock()
            if (self.folder / CHECKPOINT).exists():
                if not resume:
                    raise InputError(self.folder, "a checkpoint there", "a new folder")
                self._load()
            if self.writes:
                self._tidy()
        except BaseException:
            self.close()
            raise

    def _take_lock(self):
        """Locks the folder; the system releases it at the end of the process, also after a kill."""
        self.folder.mkdir(parents=True, exist_ok=True)
        take_lock(self.lock, self.folder)

    def close(self):
        """Releases the folder; the end of the process does the same."""
        self.lock.release(force=True)

    def _load(self):
        state = load_checkpoint(self.folder)
        self.about, self.saved_parts = state["about"], state["parts"]
        self.stage, self.epoch, self.done = state["stage"], state["epoch"], state["done"]
        self.log_bytes = state["log_bytes"]

    def _tidy(self):
        """Removes temporary files of a killed process, and log lines of epochs that are trained
        again.
        """
        for place in ("", f"{LABELS}/"):
            for left in self.folder.glob(f"{place}.*.????????.*"):
                left.unlink()
        path = self.folder / LOG
        with _writing(path), open(path, "ab") as log:
            if log.tell() < self.log_bytes:
                expected = f"the {self.log_bytes} that {CHECKPOINT} goes with"
                raise InputError(path, f"{log.tell()} bytes", expected)
            log.truncate(self.log_bytes)

    def register(self, name, part):
        """Adds a network or optimizer to the checkpoint, gives it its saved state, returns it."""
        self.parts[name] = part
        if name in self.saved_parts:
            load_state(part, self.saved_parts[name], f"{self.folder / CHECKPOINT}: {name}")
        return part

    def epochs(self, stage, n):
        """The numbers (from 0) of the epochs of a stage that are not done; saves on the way."""
        if stage in self.done:
            return
        if self.stage != stage:
            self.stage, self.epoch = stage, 0
        while self.epoch < n:
            yield self.epoch
            self.epoch += 1
            if self.epoch < n and time.monotonic() - self.saved_at > SAVE_EVERY:
                self.save()
        self.done.append(stage)
        self.save()

    def generator(self, stage, epoch):
        """NumPy generator for (seed, stage, epoch); seeds PyTorch's, which dropout uses, too."""
        words = [self.seed, zlib.crc32(stage.encode()), epoch]
        # int first: NumPy 1.26 cannot shift its own
        torch.manual_seed(int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0]) >> 1)
        return np.random.default_rng(words)

    def log(self, **record):
        """Appends one JSON line to the log."""
        if self.writes:
            with _writing(self.folder / LOG), open(self.folder / LOG, "ab") as log:
                log.write(json.dumps(record).encode() + b"\n")
                log.flush()
                self.log_bytes = log.tell()

    def save(self):
        """Writes the checkpoint; the one before stays until this one is whole."""
        self.saved_at = time.monotonic()
        if not self.writes:
            return
        state = {name: getattr(self, name) for name in STATE} | {"format": FORMAT}
        now = {name: part.state_dict() for name, part in self.parts.items()}
        state["parts"] = self.saved_parts | now
        whole = io.BytesIO()  # a full disk is then one line, not PyTorch's many
        torch.save(state, whole)

        def write(path):
            path.write_bytes(whole.getbuffer())
            with open(self.folder / LOG, "ab") as log:
                os.fsync(log.fileno())  # on the disk before the checkpoint that counts its bytes

        self.write(CHECKPOINT, write)

    def write(self, name, writer):
        """Writes a file of the folder whole or not at all, by writer(temporary path); on process 0.
        name: may lie in a subfolder, which is made.
        """
        path = self.folder / name
        if self.writes:
            with _writing(path):
                if path.parent != self.folder:
                    path.parent.mkdir(exist_ok=True)
                with write_atomically(path) as temporary:
                    writer(temporary)


@contextlib.contextmanager
def _writing(path):
    """Disk full, no permission: one line that names the file."""
    try:
        yield
    except OSError as error:
        raise InputError(path, error.strerror or error, "to write there") from None


# ---- read what a run has left
def load_checkpoint(folder):
    """The checkpoint in a run's folder. InputError where it is missing, broken, or of another
    program or version.
    """
    path = Path(folder) / CHECKPOINT
    state = load_pt(path)
    found = state.get("format") if isinstance(state, dict) else None
    if found != FORMAT:
        expected = f"{FORMAT!r}, a checkpoint of this version; train again"
        raise InputError(path, f"the format {show(found)}", expected)
    check_kinds(state, STATE, path)
    epoch, size = state["epoch"], state["log_bytes"]
    if min(epoch, size) < 0 or (epoch and not size):
        raise InputError(path, f"epoch {epoch} with {size} bytes of log", "a line for each epoch")
    return state


def load_state(part, state, where):
    """Gives a network or optimizer its saved state. InputError, which begins with `where`, if it
    does not fit.
    """
    try:
        part.load_state_dict(state)
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        why = str(error).strip().split("\n")[-1].strip()
        raise InputError(where, f"the state of another network ({why})", "this one's") from None


def read_log(folder):
    """The records of a run's log: {stage, epoch, loss: {name: mean}, seconds, ...} each."""
    path = Path(folder) / LOG
    try:
        records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(path, f"no readable log ({error})", "the log of a run") from None
    for number, record in enumerate(records, 1):
        where = f"{path}: line {number}"
        check_kinds(record, LINE, where)
        if "phase" in record:
            facts = record.keys() & {"positive", "empty", "changed"}
            check_kinds(record, PHASE | dict.fromkeys(facts, float | None), where)
    return records


# ---- where and with what
def code_hash():
    """16 hex digits of the source files that decide a run's weights, scores and detections."""
    digest = hashlib.blake2b(digest_size=8)
    for path in code_files():
        digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def code_files():
    """run.py and what it imports from here, directly or not, but for NOT_HASHED; of a folder, every
    module. Found in the source, so that it does not matter which program asks.
    """
    found, seen, left = set(), set(NOT_HASHED), {"run"}
    while left - seen:
        name = min(left - seen)
        seen.add(name)
        for path in (ROOT / f"{name}.py", *(ROOT / name).rglob("*.py")):
            if path.is_file():
                found.add(path)
                left |= _imports(path)
    return sorted(found)


def _imports(path):
    """The first part of the name of each module that a source file imports."""
    try:
        nodes = list(ast.walk(ast.parse(path.read_bytes())))
    except (SyntaxError, ValueError):  # a file that is not finished; nobody can import it
        return set()
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom) and not node.level]
    return {name.split(".")[0] for name in names}


def environment(device):
    """Where and with what this process trains on `device`: code, versions, processor."""
    import h5py
    import pandas

    versions = {module.__name__: module.__version__ for module in (torch, np, pandas, h5py)}
    return {
        **checkout(),
        "python": platform.python_version(),
        "machine": platform.platform(),
        "versions": versions,
        "device": device.type,
        "processor": torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu(),
        # the instructions that PyTorch uses on CPU, such as AVX2: each rounds differently
        "capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "processes": world()[1],
    }


def _cpu():
    """The processor's name; on Linux platform.processor() gives none."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def checkout():
    """The source files of this program: their hash, the commit, whether there are local changes."""
    top = _git("rev-parse", "--show-toplevel")
    # not a copy inside somebody's repository
    ours = bool(top) and Path(top).resolve() == ROOT
    return {
        "code": code_hash(),
        "commit": (_git("rev-parse", "HEAD") or None) if ours else None,
        "dirty": bool(_git("status", "--porcelain", "--untracked-files=no")) if ours else None,
    }


def _git(*words):
    command = ["git", "-c", f"safe.directory={ROOT}", *words]  # the checkout may be another user's
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True)
    except OSError:  # no git on this machine
        return ""
    return os.fsdecode(done.stdout).strip()
