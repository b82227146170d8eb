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
import zipfile
import zlib
from pathlib import Path

import filelock
import numpy as np
import torch

from engine.distributed import gathered, world
from formats.files import InputError, load_json, load_pt, process_lock, write_atomically

CHECKPOINT, LOG, LABELS, RECORDS = "checkpoint.pt", "log.jsonl", "labels", "environment.json"
FORMAT, EARLIER = "em-mil run 3", ("em-mil run 1", "em-mil run 2")
KEYS = {"about", "parts", "stage", "epoch", "done", "log_bytes"}
# seconds between checkpoints, besides one at the end of each stage
SAVE_EVERY = 30
ROOT = Path(__file__).resolve().parents[1]
# What run.py imports and code_hash leaves out: report and paper decide no score, and of opts.py
# the options that result are recorded.
NOT_HASHED = {"report", "paper", "opts"}


class RunFolder:
    """The folder of one run: `epochs` and `generator` for training, `log` and `save` for what it
    leaves.

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
                    raise InputError(
                        f"{self.folder}: found a checkpoint there, expected a new folder"
                    )
                self._load()
            if self.writes:
                self._tidy()
        except BaseException:
            self.close()
            raise

    def _take_lock(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        # ends with the process, however that ends
        try:
            self.lock.acquire(timeout=0)
        except filelock.Timeout:
            raise InputError(
                f"{self.folder}: in use by another run, expected one folder for each run"
            ) from None
        except (OSError, NotImplementedError):  # a file system without locks
            pass

    def close(self):
        """Releases the folder; the end of the process does the same."""
        self.lock.release(force=True)

    def _tidy(self):
        """Removes temporary files of a killed process, and log lines of epochs that are trained
        again.
        """
        for place in ("", "figures/", f"{LABELS}/"):
            for left in self.folder.glob(f"{place}.*.????????.*"):
                left.unlink()
        path = self.folder / LOG
        with _writing(path), open(path, "ab") as log:
            if log.tell() < self.log_bytes:
                raise InputError(
                    f"{path}: found {log.tell()} bytes, expected the {self.log_bytes} that "
                    f"{CHECKPOINT} goes with"
                )
            log.truncate(self.log_bytes)

    def _load(self):
        state = load_checkpoint(self.folder)
        self.about, self.saved_parts = state["about"], state["parts"]
        self.stage, self.epoch, self.done = state["stage"], state["epoch"], state["done"]
        self.log_bytes = state["log_bytes"]

    def register(self, name, part):
        """Adds a network or optimizer to the checkpoint and gives it its saved state, if any.
        Returns it.
        """
        self.parts[name] = part
        if name in self.saved_parts:
            load_state(part, self.saved_parts[name], f"{self.folder / CHECKPOINT}: {name}")
        return part

    def epochs(self, stage, n):
        """The numbers (from 0) of the epochs of a stage that are not done yet; saves as they get
        done.
        """
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
        """NumPy generator for (seed, stage, epoch); PyTorch's generator is seeded to match
        (dropout).
        """
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
        now = {name: part.state_dict() for name, part in self.parts.items()}
        state = {
            "format": FORMAT,
            "about": self.about,
            "parts": self.saved_parts | now,
            "stage": self.stage,
            "epoch": self.epoch,
            "done": self.done,
            "log_bytes": self.log_bytes,
        }
        # a full disk is one line then, not PyTorch's many
        whole = io.BytesIO()
        torch.save(state, whole)
        path = self.folder / CHECKPOINT
        with _writing(path), write_atomically(path) as temporary:
            temporary.write_bytes(whole.getbuffer())
            # on the disk before the checkpoint counts its bytes
            with open(self.folder / LOG, "ab") as log:
                os.fsync(log.fileno())

    def save_labels(self, name, mine):
        """Writes the labels of a phase, labels/NAME.npz, of all processes. mine: [(T, ...) NumPy
        array] of this one.

        Returns (all labels in the order of the set) on every process.
        """
        labels = gathered(mine)
        if self.writes:
            path = self.folder / LABELS / f"{name}.npz"
            with _writing(path):
                path.parent.mkdir(exist_ok=True)
                with write_atomically(path) as temporary:
                    np.savez_compressed(
                        temporary, labels=np.concatenate(labels), clips=[len(x) for x in labels]
                    )
        return labels

    def read_labels(self, name):
        """What `save_labels` wrote under this name: a list of (T, ...) arrays, or None where there
        is none.
        """
        return read_labels(self.folder, name)


def read_labels(folder, name):
    """The labels of one phase of a run, a list of (T, ...) arrays in the order of the set; None
    where there are none.
    """
    path = Path(folder) / LABELS / f"{name}.npz"
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            return np.split(file["labels"], np.cumsum(file["clips"])[:-1])
    except (OSError, EOFError, ValueError, KeyError, zlib.error, zipfile.BadZipFile) as error:
        raise InputError(
            f"{path}: found no readable labels ({error}), expected those of a phase"
        ) from None


def read_log(folder):
    """The records of a run's log."""
    path = Path(folder) / LOG
    try:
        return [json.loads(line) for line in path.read_text().splitlines()]
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: found no readable log ({error}), expected the log of a run"
        ) from None


def read_records(folder):
    """The records of a run (jobs/run_record.py), one for each process that its weights come
    from. InputError where they are missing, broken, or of an earlier version.
    """
    path = Path(folder) / RECORDS
    records = load_json(path)
    for record in records if isinstance(records, list) and records else [None]:
        if not isinstance(record, dict) or not {"options", "phases", "capability"} <= set(record):
            raise InputError(
                f"{path}: found no record of this version, expected those of a run; train again"
            )
    return records


def load_checkpoint(folder):
    """The checkpoint in a run's folder. InputError where it is missing, broken, or of another
    program or version.
    """
    path = Path(folder) / CHECKPOINT
    state = load_pt(path)
    found = state.get("format") if isinstance(state, dict) else None
    if found in EARLIER:
        raise InputError(
            f"{path}: found a run of an earlier version of this program, which this one cannot go "
            "on with; train again"
        )
    if found != FORMAT or not KEYS <= state.keys():
        raise InputError(f"{path}: found something else, expected a checkpoint of this program")
    return state


def load_state(part, state, where):
    """Gives a network or optimizer its saved state. InputError, which begins with `where`, if it
    does not fit.
    """
    try:
        part.load_state_dict(state)
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        why = str(error).strip().split("\n")[-1].strip()
        raise InputError(
            f"{where}: found the state of another network ({why}), expected this one's"
        ) from None


@contextlib.contextmanager
def _writing(path):
    """Disk full, no permission: one line that names the file."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{path}: found {error.strerror or error}, expected to write there; the last "
            "checkpoint is whole"
        ) from None


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
        "processor": _gpu(device) or _cpu(),
        # the instructions that PyTorch uses on CPU, such as AVX2: each rounds differently
        "capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "processes": world()[1],
    }


def _gpu(device):
    return torch.cuda.get_device_name(device) if device.type == "cuda" else None


def _cpu():
    """The processor's name; on Linux platform.processor() gives none."""
    lines = []
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


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
    try:
        # safe.directory: the checkout may belong to another user.
        done = subprocess.run(
            ["git", "-c", f"safe.directory={ROOT}", *words],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
    except OSError:  # no git on this machine
        return ""
    return done.stdout.strip()
