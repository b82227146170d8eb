"""One call of reproduce.py: its options, the runs that its pages are made from, and what a page is.

A run is one process of run.py in one folder, so that seeds train side by side and a failed seed
does not stop the others. Its folder is

    OUT/reproduce-runs-DATASET/VARIANT-sSEED-KEY

KEY is a hash of what decides its clip scores, but for the seed (`deciding` in jobs/record.py): the
source files that train and score, options and phases of the training, data, PyTorch, number of
processes, CPU or GPU, and the CPU's instructions. So all numbers of a page have one code and one
set of options; runs from before a change stay beside the new ones. Options of the test (lambda,
gamma, gate, ...) are not in KEY: every page applies them to the stored clip scores.
"""

import contextlib
import dataclasses
import functools
import hashlib
import json
import math
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import filelock
import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

import eval_detection
import opts
from engine import run_folder
from formats import annotations, features, files
from formats.files import InputError
from formats.program import log
from jobs import record, results, setup
from methods import METHODS
from report import tables
from report.summary import tested

ROOT = Path(__file__).resolve().parents[1]
CHOSEN = ("seed", "method", "objective", "joint", "other_first", "labels")  # by the pages
TIOU = 0.5  # where the paper's ablations and sweeps are measured
NOT_MEASURED = (
    "THUMOS14 and ActivityNet1.2 have not been measured by the authors of this "
    "program, who had no features of them."
)
ELSEWHERE = " They are on other data than ours: the two cannot be compared."
DATA = {
    "demo": "the embedded demo set, generated: neither THUMOS14 nor ActivityNet1.2",
    "thumos14": "THUMOS14",
    "thumos14-unt": "THUMOS14, features of the UntrimmedNet backbone",
    "activitynet12": "ActivityNet1.2",
    "custom": "a set of the user's",
}


# ---- options
@dataclasses.dataclass
class Setup:
    """given: fields of Opts that the user's flags set; o: the options that they give."""

    given: dict
    o: opts.Opts
    args: object  # the arguments of reproduce.py itself, see there
    tag: str  # names data and options in the pages' folders
    environment: dict  # run_folder.environment, as the runs will have it
    variants: dict = dataclasses.field(default_factory=dict)  # {variant: options beside `given`}
    failed: dict = dataclasses.field(default_factory=dict)  # {(variant, seed): its last line}

    @property
    def seeds(self):
        return range(1, self.args.seeds + 1)

    @property
    def pool(self):
        """Where the runs are."""
        return Path(self.args.out) / f"reproduce-runs-{self.o.dataset}"

    @property
    def protocols(self):
        """The protocols that a page shows: all, or the one that the user named."""
        everything = self.o.protocol == "all" or "protocol" not in self.given
        return eval_detection.PROTOCOLS if everything else (self.o.protocol,)

    def folder(self, name):
        """Where the page of a command is written."""
        return Path(self.args.out) / f"reproduce-{name}-{self.tag}"


def set_up(args, given, other_data):
    """The Setup of a call; other_data: {command: datasets that it is not for}.

    args: the arguments of reproduce.py; given: the options of run.py among them. Raises InputError.
    """
    for name, high in (("seeds", 2**32 - 1), ("jobs", 1024), ("n", math.inf)):
        value = getattr(args, name)
        if value is not None and not 1 <= value <= high:
            raise InputError(f"--{name}", value, "a number from 1 on")
    o = opts.resolve(given)
    if o.dataset in other_data.get(args.command, ()):
        theirs = "ActivityNet1.2" if args.command == "table2" else "THUMOS14"
        raise InputError(args.command, f"--dataset {o.dataset}", f"{theirs} or data of your own")
    setup.find_files(o)
    truth, _, subset = setup.load_annotations(o)
    if not len(truth.only(annotations.in_subset(truth, subset).index).segments):
        raise InputError(o.annotations, "no segment in the test videos", "some to score against")
    # without the GPU's name: this process trains nothing and leaves the GPU to the runs
    environment = run_folder.environment(torch.device("cpu")) | {"device": setup.device_kind(o)}
    return Setup(given, o, args, _tag(o), environment)


def _tag(o):
    """The dataset, and a hash of what differs from its preset in options or paths."""
    plain, differs = opts.resolve({"dataset": o.dataset}), {}
    places = ("features", "flow_features", "annotations")
    for name in opts.changed(plain, o, *(group for group in opts.GROUPS if group != "machine")):
        value = getattr(o, name)
        differs[name] = str(Path(value).resolve()) if name in places else value
    words = json.dumps(differs, sort_keys=True).encode()
    hashed = hashlib.blake2b(words, digest_size=3).hexdigest()
    return f"{o.dataset}-{hashed}" if differs else o.dataset


# ---- runs
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


def finished(s, variant):
    """{seed: planned run} of the variant's finished runs."""
    runs = {seed: planned(s, variant, seed) for seed in s.seeds}
    return {seed: one for seed, one in runs.items() if one.done}


# ---- training
@contextlib.contextmanager
def locked(pool):
    """Only one reproduce.py at a time works in a pool."""
    pool.mkdir(parents=True, exist_ok=True)
    lock = files.process_lock(pool / ".lock")
    files.take_lock(lock, pool, "another reproduce.py at work there")
    try:
        yield
    finally:
        lock.release()


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
    for name in (name for name in opts.FIELDS if name in given):
        value, flag = given[name], opts.flag_of(opts.FIELDS[name])
        if name == "exclude_video":  # names may begin with -
            words += [f"{flag}={video}" for video in value]
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
    with open(_output(one.folder), "w") as output:
        return subprocess.Popen(
            [sys.executable, str(ROOT / "run.py"), *flags],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": threads},
            start_new_session=True,  # Ctrl-C reaches it through `train` alone
        )


def _in_use(folder):
    """Whether a process holds the run's folder."""
    if not folder.exists():
        return False
    try:
        with files.process_lock(folder / ".lock").acquire(timeout=0):
            return False
    except filelock.Timeout:
        return True


def _ended(one, process):
    return process.poll() is not None if process else not _in_use(one.folder)


def _check_end(s, one, process, bar):
    """Records a failure, and prints how the run ended."""
    if one.done and (process is None or process.returncode == 0):
        return bar.write(f"  {one.folder.name}: done")
    line = "stopped before its end; the same command goes on"
    if process:
        text = _output(one.folder).read_text(errors="replace")
        line = ([line.strip() for line in text.splitlines() if line.strip()] or ["no output"])[-1]
    s.failed[one.variant, one.seed] = line
    bar.write(f"  {one.folder.name}: failed: {line}")


def _output(folder):
    return folder.with_name(folder.name + ".txt")


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


# ---- what runs left
@dataclasses.dataclass(frozen=True)
class Finished:
    """A finished run, read back, under the page's options of the test."""

    seed: int
    folder: Path
    o: opts.Opts
    scored: results.Scored
    outside: np.ndarray | None  # (N, C) video-level scores from a file

    def detections(self, method="em-mil", **changes):
        """The detections table; changes: options of the test, by field of Opts."""
        o = dataclasses.replace(self.o, **changes)
        return results.localized(o, method, self.scored, self.outside)[0]

    def map_of(self, found, tious, protocol):
        """mAP (len(tious),) of a table of detections."""
        truth, ambiguous = self.scored.truth, self.scored.ambiguous
        return eval_detection.score(truth, found, tious, protocol, ambiguous).map


def opened(s, variant):
    """Yields the variant's finished runs, one in memory at a time. InputError for none, and for one
    that was not made as planned: the source changed when it had begun, or another command went on
    with it.
    """
    runs = finished(s, variant)
    if not runs:
        raise InputError(s.pool, f"no finished run of {variant}", "at least one")
    for seed, one in runs.items():
        for made in record.made_with(one.folder):
            differs = record.differences(record.deciding(made), one.deciding)
            for name, (found, expected) in differs.items():
                advice = f"{expected} alone; remove the folder, and it is trained again"
                raise InputError(one.folder, f"a run made with the {name} {found}", advice)
        _, scored = results.read(one.folder)
        names = [video.name for video in scored.records]
        outside = results.outside_scores(one.o, names, scored.classes)
        yield Finished(seed, one.folder, one.o, scored, outside)


def scores(s, variant, method, tious, protocols, **changes):
    """{protocol: {tIoU or name of an average: [fraction of each seed]}}."""
    rows = {protocol: {} for protocol in protocols}
    for one in opened(s, variant):
        found = one.detections(method, **changes)
        for protocol in protocols:
            values = one.map_of(found, tious, protocol)
            by_column = dict(zip(tious, values.tolist())) | eval_detection.averages(tious, values)
            for column, value in by_column.items():
                rows[protocol].setdefault(column, []).append(value)
    return rows


def counted(s, label, variant):
    """A row's name, with the number of seeds where some are missing."""
    n = len(finished(s, variant))
    return label if n == len(s.seeds) else f"{label} ({n} of {len(s.seeds)} seeds)"


# ---- pages
class Page(NamedTuple):
    """What a command prints and writes."""

    blocks: list  # (text, table or None)
    frame: pd.DataFrame  # the CSV
    figures: list = []  # file names in the page's folder
    papers: bool = False  # whether it shows numbers of the paper


def write(s, name, title, variants, page):
    """Prints a page and writes it into its folder; returns its Markdown for a folder beside it."""
    folder, about = s.folder(name), _about(s, variants, page)
    log.info("\n" + "\n".join([title, *about]) + "\n")
    log.info("\n\n".join(tables.block(*block, tables.text) for block in page.blocks))
    log.info(f"\nFiles: {folder}/")
    body = [f"# {title}", *about]
    body += [tables.block(*block, tables.markdown) for block in page.blocks]
    links = [quote(file) for file in page.figures]
    pictures = [f"![{link}]({link})" for link in links]
    tables.write_text(folder / f"{name}.md", "\n\n".join(body + pictures))
    tables.write_csv(folder / f"{name}.csv", page.frame)
    return "\n\n".join(body + [f"![{link}](../{folder.name}/{link})" for link in links])


def _about(s, variants, page):
    """The lines below a page's title: data, runs, and what has not been measured."""
    lines, o = [], s.o
    runs = {variant: finished(s, variant) for variant in variants}
    folders = [one.folder for of_variant in runs.values() for one in of_variant.values()]
    if folders:
        test = results.stored(folders[0])["test"]
        lines.append(
            f"Data: {DATA[o.dataset]} (features {o.features}, annotations {o.annotations}); "
            f"{tested(test)}."
        )
        done = ", ".join(f"{len(of_variant)} of {variant}" for variant, of_variant in runs.items())
        made = [record.made_with(folder)[-1] for folder in folders]
        commits, places = (
            ", ".join(sorted({function(one) for one in made}))
            for function in (record.commit_of, record.trained_on)
        )
        seeds = f"seeds 1 to {len(s.seeds)}" if len(s.seeds) > 1 else "seed 1"
        lines.append(
            f"Runs: {seeds}; finished: {done}. Last epoch, recipe "
            f"{opts.recipe_of(o, s.environment['processes'])}, mean ± sample standard deviation "
            f"over the seeds; nothing selected on the test set. Code {made[0]['code']} (commit "
            f"{commits}), trained on {places}."
        )
    given = {k: v for k, v in s.given.items() if k not in ("features", "annotations", "dataset")}
    if given:
        lines.append(f"Options given: {' '.join(flags_of(given))}")
    if s.failed:
        failed = [f"{variant} seed {seed}: {line}" for (variant, seed), line in s.failed.items()]
        lines.append("Failed runs: " + "; ".join(failed))
    if page.papers:
        lines.append(NOT_MEASURED)
        if folders and o.dataset not in ("demo", "custom"):
            lines[-1] += " Rows that are not the paper's were measured where this page was made."
    return lines


def write_all(s, texts):
    """All pages of one call in one file."""
    folder = s.folder("all")
    folder.mkdir(parents=True, exist_ok=True)
    tables.write_text(folder / "all.md", "\n\n".join(texts))
    log.info(f"\nAll pages: {folder}/all.md")
