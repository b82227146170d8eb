"""The runs that the paper's pages are made from: where they are, how they are trained and read.

A run is one process of run.py in one folder, so that seeds train side by side and a failed seed
does not stop the others. Its folder is

    OUT/reproduce-runs-DATASET/VARIANT-sSEED-KEY

KEY is a hash of what decides its clip scores, but for the seed, taken from its record
(jobs/record.py): the source files that train and score, the options of training and the
phases that they give, the data, PyTorch, the number of processes, CPU or GPU, and the CPU's
instructions, since AVX-512 and AVX2 round differently. So all numbers of a page have one code and
one set of options: after a change, runs have other folders and are trained again, and the earlier
ones stay where they are. Options of the test (lambda, gamma, gate, ...) are not in KEY, since every
page applies them to the stored clip scores.
"""

import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import filelock
import numpy as np
from tqdm import tqdm

import eval_detection
import opts
from engine import run_folder
from formats import features, files
from formats.files import InputError
from formats.program import log
from jobs import record, results, setup
from methods import METHODS

ROOT = Path(__file__).resolve().parents[1]


@dataclasses.dataclass(frozen=True, eq=False)
class Planned:
    """A run as a page wants it."""

    variant: str
    seed: int
    given: dict  # flags of run.py, by field of Opts
    o: opts.Opts
    deciding: dict  # the facts that KEY is a hash of
    folder: Path

    @property
    def done(self):
        return (self.folder / "results.json").exists()


def planned(s, variant, seed):
    """The run of a variant and seed. A variant's option None removes what the user gave."""
    given = {**s.given, **s.variants[variant], "seed": seed}
    given = {name: value for name, value in given.items() if value is not None}
    o = opts.resolve(given)
    data = _data_hash(o.features, o.flow_features, o.annotations)
    deciding = record.deciding(record.of(o, data, s.environment))
    words = json.dumps(deciding, sort_keys=True).encode()
    key = hashlib.blake2b(words, digest_size=4).hexdigest()
    return Planned(variant, seed, given, o, deciding, s.pool / f"{variant}-s{seed}-{key}")


@functools.cache
def _data_hash(*paths):
    return features.fingerprint(*paths)


# --------------------------------------------------------------------------------------- training


@contextlib.contextmanager
def locked(pool):
    """Only one reproduce.py at a time works in a pool."""
    pool.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(pool / ".lock", timeout=0):
            yield
    except filelock.Timeout:
        raise InputError(
            f"{pool}: found another reproduce.py at work there, expected one at a time"
        ) from None


def train(s, wanted):
    """Trains the planned runs that are not done, --jobs side by side; failures go to s.failed.

    A run that an earlier reproduce.py, killed since, has left at work is waited for. A stop
    (Stopped) ends the runs that were started here; the next call resumes them.
    """
    todo = [one for one in wanted if not one.done]
    _say_other_runs(s, todo)
    if not todo:
        return
    usual = 1 if s.environment["device"] == "cuda" else min(4, cores())
    jobs = min(s.args.jobs or usual, len(todo))
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, cores() // jobs))
    memory = {"feature_memory": files.free_memory() / 2 / jobs / 1e9} if jobs > 1 else {}
    log.info(
        f"{len(wanted)} runs, {len(wanted) - len(todo)} of them done before; "
        f"{jobs} side by side, threads each: {threads}"
    )
    lengths = {one: _epochs(one.o) for one in todo}
    bar = tqdm(total=sum(lengths.values()), desc="training", unit="epoch", disable=None)
    running = {}  # {planned: process, or None, see _start}
    try:
        while todo or running:
            while todo and len(running) < jobs:
                one = todo.pop(0)
                running[one] = _start(one, memory, threads, bar)
            time.sleep(0.2)
            for one in [one for one in running if _ended(one, running[one])]:
                _check_end(s, one, running.pop(one), bar)
            bar.n = sum(_trained(one, lengths[one]) for one in lengths)
            bar.refresh()
    finally:
        bar.close()
        processes = [process for process in running.values() if process is not None]
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()


def _say_other_runs(s, todo):
    """One line about runs of the same name that were made with something else."""
    others = []
    for one in todo:
        for folder in sorted(s.pool.glob(f"{one.variant}-s{one.seed}-*")):
            if folder != one.folder and (folder / "results.json").exists():
                others.append(f"{folder.name} ({_other(folder, one)})")
    if others:
        log.info(
            f"{files.count(others, 'run')} made with something else, trained again "
            f"here: {files.some(others)}"
        )


def _other(folder, one):
    """What of a finished run is not as it is planned now."""
    try:
        made = record.deciding(record.made_with(folder)[-1])
    except InputError:
        return "an earlier version"
    return f"other {', '.join(record.differences(made, one.deciding))}"


def cores():
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def flags_of(given):
    """The command line of run.py that sets these fields."""
    words = []
    for f in dataclasses.fields(opts.Opts):
        if f.name not in given:
            continue
        value, flag = given[f.name], opts.flag_of(f)
        if f.name == "exclude_video":  # names may begin with -
            words += [f"{flag}={name}" for name in value]
        elif isinstance(value, bool):
            words.append(flag if value else "--no-" + flag[2:])
        else:
            words += [flag, *map(str, value if isinstance(value, tuple) else (value,))]
    return words


def _start(one, memory, threads, bar):
    """A process of run.py that starts or resumes the run; None where one is at work already."""
    if _in_use(one.folder):
        bar.write(f"  {one.folder.name}: still at work for an earlier reproduce.py; waiting")
        return None
    if (one.folder / run_folder.CHECKPOINT).exists():
        flags = ["--resume", str(one.folder), *flags_of(memory)]
    else:
        if one.folder.exists():  # stopped before its first checkpoint
            shutil.rmtree(one.folder)
        flags = ["--out", str(one.folder), *flags_of({**memory, **one.given})]
    # A session for each: Ctrl-C reaches it through `train` alone.
    environment = {**os.environ, "OMP_NUM_THREADS": threads}
    with open(_output(one.folder), "w") as output:
        return subprocess.Popen(
            [sys.executable, str(ROOT / "run.py"), *flags],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )


def _in_use(folder):
    """Whether a process holds the run's folder."""
    if not folder.exists():
        return False
    try:
        with filelock.FileLock(folder / ".lock", timeout=0):
            return False
    except filelock.Timeout:
        return True


def _ended(one, process):
    return process.poll() is not None if process else not _in_use(one.folder)


def _check_end(s, one, process, bar):
    """Records a failure, and prints how the run ended."""
    if one.done and (process is None or process.returncode == 0):
        return bar.write(f"  {one.folder.name}: done")
    line = _last_line(one.folder) if process else "stopped before its end; the same command goes on"
    s.failed[one.variant, one.seed] = line
    bar.write(f"  {one.folder.name}: failed: {line}")


def _output(folder):
    return folder.with_name(folder.name + ".txt")


def _last_line(folder):
    text = _output(folder).read_text(errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no output"


def _trained(one, length):
    """Epochs of a run that are done, from the lines of its log."""
    log = one.folder / run_folder.LOG
    if one.done:
        return length
    return log.read_bytes().count(b"\n") if log.exists() else 0


def _epochs(o):
    """Lines that the log of a run will have."""
    names = setup.wanted(o)
    return sum(METHODS[name](1, 1, 1, setup.settings_of(o, name)).epochs for name in names)


# ---------------------------------------------------------------------------------- what runs left


@dataclasses.dataclass(frozen=True)
class Finished:
    """A finished run, read back, under the page's options of the test."""

    seed: int
    folder: Path
    o: opts.Opts
    scored: results.Scored
    outside: np.ndarray | None  # (N, C) video-level scores from a file


def finished(s, variant):
    """{seed: planned run} of the variant's finished runs."""
    runs = {seed: planned(s, variant, seed) for seed in s.seeds}
    return {seed: one for seed, one in runs.items() if one.done}


def opened(s, variant):
    """Yields the variant's finished runs, one in memory at a time. InputError for none."""
    runs = finished(s, variant)
    if not runs:
        raise InputError(f"{s.pool}: found no finished run of {variant}, expected at least one")
    for seed, one in runs.items():
        _check_records(one)
        _, scored = results.read(one.folder)
        names = [video.name for video in scored.records]
        outside = results.outside_scores(one.o, names, scored.classes)
        yield Finished(seed, one.folder, one.o, scored, outside)


def _check_records(one):
    """InputError where a run was not made as planned: the source changed when it had begun, or
    another command went on with it.
    """
    for made in record.made_with(one.folder):
        differs = record.differences(record.deciding(made), one.deciding)
        for name, (found, expected) in differs.items():
            raise InputError(
                f"{one.folder}: found a run made with the {name} {found}, expected {expected} "
                "alone; remove the folder, and it is trained again"
            )


def detections(one, method="em-mil", **changes):
    """The detections table of a finished run; changes: options of the test, by field of Opts."""
    o = dataclasses.replace(one.o, **changes)
    return results.localized(o, method, one.scored, one.outside)[0]


def map_at(one, tious, protocol, **changes):
    """EM-MIL's mAP (len(tious),) under changed options of the test."""
    scored = one.scored
    found = detections(one, **changes)
    return eval_detection.score(scored.truth, found, tious, protocol, scored.ambiguous).map


def scores(s, variant, method, tious, protocols, **changes):
    """{protocol: {tIoU or name of an average: [fraction of each seed]}}."""
    rows = {protocol: {} for protocol in protocols}
    for one in opened(s, variant):
        table = detections(one, method, **changes)
        for protocol in protocols:
            values = eval_detection.score(
                one.scored.truth, table, tious, protocol, one.scored.ambiguous
            ).map
            by_column = dict(zip(tious, values.tolist())) | eval_detection.averages(tious, values)
            for column, value in by_column.items():
                rows[protocol].setdefault(column, []).append(value)
    return rows


def counted(s, label, variant):
    """A row's name, with the number of seeds where some are missing."""
    n = len(finished(s, variant))
    return label if n == len(s.seeds) else f"{label} ({n} of {len(s.seeds)} seeds)"


def protocols(s):
    """The protocols that a page shows: all, or the one that the user named."""
    everything = s.o.protocol == "all" or "protocol" not in s.given
    return eval_detection.PROTOCOLS if everything else (s.o.protocol,)
