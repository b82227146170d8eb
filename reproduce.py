"""The paper's tables and figures, one command each: `python reproduce.py table1|table2|...|all`; see --help.

Every command needs some trained runs, a variant of EM-MIL and a seed each, and makes a page from what they left. A run
is `python run.py` in a process and a folder of its own, so that seeds run side by side, a command that was stopped goes
on where it was, a seed that fails does not take the others along, and all commands share the runs they have in common.
What varies at test time only (lambda, gamma at test, protocol) is worked out from a run's stored clip scores.

    OUT/reproduce-runs-DATA/VARIANT-sSEED/     the runs, OUT being --out; DATA names the dataset and, where options
                                               differ from its preset, a hash of them
    OUT/reproduce-COMMAND-DATA/                the pages: Markdown, CSV, JSON, PNG

Numbers are mean ± sample standard deviation over the seeds, from the last epoch. Nothing is selected on the test set,
except the videos that `figure5 --pick best|worst` shows, and that page says so.
"""
import argparse
import contextlib
import dataclasses
import fcntl
import hashlib
import json
import math
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from formats import annotations
import dataset
from formats import features
from formats import demo as demo_data
import em_trainer
import eval_detection
import localize
import opts
from report import figures
from report import tables
from paper import published
import run
from formats import clip_scores as score_file
from engine import loop as training
from baselines import classifiers as video_classifier
import formats.video_scores
from formats.files import InputError, load_json

HERE = Path(__file__).resolve().parent
NOT_MEASURED = ("THUMOS14 and ActivityNet1.2 have not been measured by the authors of this program, who had no "
                "features of them.")
TABLE2_TIOUS = tuple(round(0.5 + 0.05 * k, 2) for k in range(10))
LAMBDAS = tuple(k / 10 for k in range(11))
GAMMAS = (0.0, 0.05, 0.1, 0.15, 0.2)                      # 0.05 to 0.2 as in Sec. 4.1, and 0
THUMOS14 = {"train": 200, "test": 212, "clips": 33500, "snippet_seconds": 1.25, "dim": 1024, "classes": 20}
OURS = ("dataset", "features", "flow_features", "feature_layout", "annotations", "train_subset", "test_subset",
        "video_labels", "snippet_seconds", "allow_missing", "exclude_video", "video_scores", "video_classifier",
        "ambiguous", "tious")                             # options that are about the user's data, not about `timing`'s


# ---- the command line
def main(argv=None):
    """Runs one command, or all of them.

    Exit code 1: a run failed, the pages are made from the others; 2: bad input; 130, 143: stopped, the same command
    goes on.
    """
    parser = argparse.ArgumentParser(
        prog="reproduce.py", allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter,
        description="\n".join(["The paper's tables and figures, mean ± std over seeds:", "",
                               *(f"  {name:<12} {command.title}" for name, command in COMMANDS.items()),
                               f"  {'all':<12} all of these that fit the dataset; runs in common are trained once"]),
        epilog="Options of run.py (--dataset, --features, --annotations, --cycle, ...) go through to it, except those\n"
               "that a command sets itself.")
    parser.add_argument("command", choices=[*COMMANDS, "all"], metavar="command")
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds, 1 to N [5]")
    parser.add_argument("--jobs", type=int, help="runs side by side, sharing the cores [up to 4 on CPUs, 1 on a GPU]")
    parser.add_argument("--out", default="runs", help="folder for the runs and the pages [runs]")
    parser.add_argument("--joint", nargs="+", choices=("epoch", "step"), default=["epoch"],
                        help="table3: how often the row Pseudo labeling makes its labels anew [epoch]")
    parser.add_argument("--unt-features", help="table1: features of the UntrimmedNet backbone, for the row EM-MIL-UNT "
                        "[on thumos14: the preset's of thumos14-unt, if there]")
    parser.add_argument("--videos", nargs="+", default=[], help="figure5: test videos to draw, by name")
    parser.add_argument("--pick", nargs="+", choices=("best", "worst", "random"), help="figure5: or pick them so "
                        "[best worst]")
    parser.add_argument("--n", type=int, default=2, help="figure5: videos of each --pick [2]")
    parser.add_argument("--video-dir", help="figure5: folder of the videos, for a row of thumbnails (pip install av)")
    parser.add_argument("--timing-share", type=float, help="timing: share of THUMOS14's videos, and of W-TALC's "
                        "iterations [1; in `all` on other data 0.02 and 0.004]")
    args, rest = parser.parse_known_args(argv)
    command = opts.parse(rest, prog="reproduce.py")
    before = {number: signal.signal(number, _stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        s = _setup(args, command)
        with _locked(s.pool):
            code = _run_commands(s)
    except training.Interrupted as stopped:
        run._end(128 + stopped.signum, f"stopped by {signal.Signals(stopped.signum).name}; the same command goes on")
    except (InputError, opts.OptionError) as error:
        run._end(2, f"error: {error}")
    except OSError as error:
        run._end(2, f"error: {error.filename or 'while writing'}: {error.strerror or error}")
    finally:
        for number, old in before.items():
            signal.signal(number, old)
    if code:
        sys.exit(code)


class Command(NamedTuple):
    title: str
    needs: object              # function of Setup -> {variant: options on top of the user's}
    page: object               # function of Setup -> Page


class Page(NamedTuple):
    """What a command has to say. blocks: (text, table or None); frame: the CSV; data: the JSON's own part."""
    blocks: list
    frame: pd.DataFrame
    data: dict
    figures: list              # file names in the page's folder
    papers: bool = False       # does it show the paper's numbers


@dataclasses.dataclass
class Setup:
    given: dict                # fields of Opts that the user's flags set
    o: opts.Opts               # what they come to
    args: argparse.Namespace
    seeds: range
    tag: str                   # names data and options in folders
    failed: dict = dataclasses.field(default_factory=dict)             # (variant, seed): last line of its output

    @property
    def pool(self):
        return Path(self.args.out) / f"reproduce-runs-{self.tag}"

    def folder(self, name):
        return Path(self.args.out) / f"reproduce-{name}-{self.tag}"


def _setup(args, command):
    for name in (*opts.ACTIONS, "dry_run", "keep_going", "save_clip_scores"):
        if getattr(command, name):
            raise opts.OptionError(f"--{name.replace('_', '-')}: found with reproduce.py, expected run.py for that")
    for name in ("seed", "method", "objective"):
        if name in command.given:
            raise opts.OptionError(f"--{name}: found with reproduce.py, which chooses it itself")
    for name, low, high in (("seeds", 1, 2**32 - 1), ("jobs", 1, 1024), ("n", 1, math.inf)):
        value = getattr(args, name)
        if value is not None and not low <= value <= high:
            raise opts.OptionError(f"--{name}: found {value}, expected a number from {low} on")
    if args.timing_share is not None and not 0 < args.timing_share <= 1:
        raise opts.OptionError(f"--timing-share: found {args.timing_share:g}, expected a number in (0, 1]")
    o = opts.resolve(command.given)
    if args.command in COMMANDS and not _fits(args.command, o):
        raise opts.OptionError(f"{args.command}: found --dataset {o.dataset}, expected "
                               f"{'ActivityNet1.2' if args.command == 'table2' else 'THUMOS14'} or data of your own")
    plain = opts.resolve({"dataset": o.dataset})
    differs = {f.name: getattr(o, f.name) for f in dataclasses.fields(o) if getattr(o, f.name) != getattr(plain, f.name)
               and (f.metadata["when"] != "run" or f.name in OURS)}
    for name in ("features", "flow_features", "annotations"):
        if differs.get(name):
            differs[name] = str(Path(differs[name]).resolve())
    words = hashlib.blake2b(json.dumps(differs, sort_keys=True).encode(), digest_size=3).hexdigest()
    s = Setup(command.given, o, args, range(1, args.seeds + 1), o.dataset + (f"-{words}" if differs else ""))
    if args.command != "timing":
        if o.dataset == "demo" and (o.features, o.annotations) == (plain.features, plain.annotations):
            print(demo_data.write_demo(Path(o.features).parent))       # once, before runs side by side would
        for name in ("features", "annotations"):
            if not getattr(o, name):
                raise InputError(f"--{name}: found none for --dataset {o.dataset}, expected a path")
            if not Path(getattr(o, name)).exists():     # before every run says so
                raise InputError(f"{getattr(o, name)}: found no such file or folder, expected the {name}")
    return s


def _fits(name, o):
    """Table 1 is THUMOS14's and Table 2 ActivityNet1.2's; on data of another kind both are made."""
    other = {"table1": ("activitynet12",), "table2": ("thumos14", "thumos14-unt")}
    return o.dataset not in other.get(name, ())


@contextlib.contextmanager
def _locked(pool):
    pool.mkdir(parents=True, exist_ok=True)
    with open(pool / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{pool}: in use by another reproduce.py, expected one at a time") from None
        yield


def _stop(signum, _):
    raise training.Interrupted(signum)


def _run_commands(s):
    """Trains what the commands need, then makes their pages; returns the exit code."""
    names = [name for name in COMMANDS if _fits(name, s.o)] if s.args.command == "all" else [s.args.command]
    wanted = {(variant, seed): _merged({**s.given, **more, "seed": seed}) for name in names
              for variant, more in COMMANDS[name].needs(s).items() for seed in s.seeds}
    train(s, s.pool, wanted, s.args.jobs or _jobs())
    texts, code = [], 0
    for name in names:
        s.folder(name).mkdir(parents=True, exist_ok=True)
        try:
            page = COMMANDS[name].page(s)
        except InputError as error:
            if len(names) == 1 and not s.failed:
                raise
            print(f"error: {name}: {error}", file=sys.stderr)          # the other pages do not need this one
            code = 2
            continue
        texts.append(_write(s, name, page))
    if len(names) > 1 and texts:
        folder = s.folder("all")
        folder.mkdir(parents=True, exist_ok=True)
        tables.write_text(folder / "all.md", "\n\n".join(texts))
        print(f"\nAll pages: {folder}/all.md")
    if s.failed:
        print(f"{len(s.failed)} runs failed:", file=sys.stderr)
        for (variant, seed), line in s.failed.items():
            print(f"  {variant}, seed {seed}: {line}", file=sys.stderr)
    return code or int(bool(s.failed))


# ---- the runs
def _jobs():
    return 1 if torch.cuda.is_available() else min(4, _cores())


def _cores():
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _merged(given):
    """None takes back what the user gave."""
    return {name: value for name, value in given.items() if value is not None}


def _flags(given):
    """The command line of run.py that sets these fields."""
    words = []
    for f in dataclasses.fields(opts.Opts):
        if f.name in given:
            value, flag = given[f.name], opts.flag_of(f)
            if isinstance(value, bool):
                words.append(flag if value else "--no-" + flag[2:])
            else:
                words += [flag, *map(str, value if isinstance(value, tuple) else (value,))]
    return words


def train(s, pool, wanted, jobs):
    """Makes the runs {(variant, seed): options}, `jobs` side by side, that are not finished; failures go to s.failed.

    Raises InputError where a finished run has other options or other data than wanted; Interrupted after a signal, when
    the runs have stopped where they can go on.
    """
    folders = {key: pool / "{}-s{}".format(*key) for key in wanted}
    resolved = {key: opts.resolve(given) for key, given in wanted.items()}
    prints = {}
    for key, folder in folders.items():
        if (folder / "results.json").exists():
            _check_same(folder, resolved[key], prints)
    todo = [key for key in wanted if not (folders[key] / "results.json").exists()]
    if not todo:
        return
    jobs = min(jobs, len(todo))
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, _cores() // jobs))
    memory = {"feature_memory": run._free_memory() / 2 / jobs / 1e9} if jobs > 1 else {}
    lengths, at, running = {key: _epochs(resolved[key]) for key in todo}, dict.fromkeys(todo, 0), {}
    print(f"{len(wanted)} runs, {len(wanted) - len(todo)} of them finished before; {jobs} side by side, "
          f"threads each: {threads}")
    with run.Bar(total=sum(lengths.values()), desc="training", unit="epoch", disable=None) as bar:
        try:
            while todo or running:
                while todo and len(running) < jobs:
                    key = todo.pop(0)
                    running[key] = _start(folders[key], {"pictures": 0, **memory, **wanted[key]}, threads)
                time.sleep(0.2)
                for key in list(running):
                    process, began = running[key]
                    code = process.poll()
                    at[key] = lengths[key] if code is not None else _lines(folders[key])
                    if code is not None:
                        del running[key]
                        took = f"{time.perf_counter() - began:.0f} s"
                        if code:
                            s.failed[key] = _last_line(folders[key])
                            took += f", failed: {s.failed[key]}"
                        bar.write(f"  {folders[key].name}: {took}")
                bar.n = sum(at.values())
                bar.refresh()
        finally:
            for process, _ in running.values():
                process.terminate()                     # run.py writes a checkpoint and stops
            for process, _ in running.values():
                process.wait()


def _start(folder, given, threads):
    """A process of run.py: it begins the run in `folder`, or goes on with it."""
    if (folder / training.CHECKPOINT).exists():
        flags = ["--resume", str(folder)] + _flags({k: v for k, v in given.items() if k == "feature_memory"})
    else:
        if folder.exists():                             # begun and never saved; nobody else works here, see _lock
            shutil.rmtree(folder)
        flags = ["--out", str(folder), *_flags(given)]
    with open(_output(folder), "w") as output:
        process = subprocess.Popen([sys.executable, str(HERE / "run.py"), *flags], stdin=subprocess.DEVNULL,
                                   stdout=output, stderr=subprocess.STDOUT,
                                   env={**os.environ, "OMP_NUM_THREADS": threads},
                                   start_new_session=True)             # Ctrl-C reaches it through `train` alone
    return process, time.perf_counter()


def _output(folder):
    return folder.with_name(folder.name + ".txt")


def _last_line(folder):
    lines = [line for line in _output(folder).read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else "no output"


def _lines(folder):
    try:
        return (folder / training.LOG).read_bytes().count(b"\n")
    except OSError:
        return 0


def _epochs(o):
    """Lines that the log of a run will have."""
    of = {"em-mil": sum(row[1] for row in opts.schedule(o)), "untrimmednet": o.untrimmednet_epochs,
          "wtalc": -(-o.wtalc_iterations // video_classifier.ITERATIONS)}
    return sum(of[name] for name in run._trained(o))


def _check_same(folder, o, prints):
    """Raises InputError where the finished run in `folder` is not the one that `o` would make now."""
    saved = opts.resolve({}, load_json(folder / "opts.json"))
    other = opts.changed(saved, o, "train") + opts.changed(saved, o, "test")
    paths = (o.features, o.flow_features, o.annotations)
    if paths not in prints:
        prints[paths] = features.fingerprint(*paths)
    if training.load_checkpoint(folder)["about"]["fingerprint"] != prints[paths]:
        other.append("data")
    if other:
        raise InputError(f"{folder}: found a run with other {', '.join(other)}, expected those of now (another --out "
                         "begins anew)")


# ---- what runs left
class Run(NamedTuple):
    """A finished run, read back; see score_file for the records."""
    seed: int
    folder: Path
    o: opts.Opts
    records: list
    classes: tuple
    snippet_seconds: float
    truth: pd.DataFrame
    ambiguous: pd.DataFrame
    given: object              # (N, C) video-level scores from outside, or None


def finished(s, variant):
    """The folders of the variant's finished runs by seed."""
    folders = {seed: s.pool / f"{variant}-s{seed}" for seed in s.seeds}
    return {seed: folder for seed, folder in folders.items() if (folder / "results.json").exists()}


def opened(s, variant):
    """The variant's finished runs, one in memory at a time. Raises InputError where there is none."""
    folders, segment = finished(s, variant), tuple(eval_detection.SEGMENT)
    if not folders:
        raise InputError(f"{s.pool}: found no finished run of {variant}, expected at least one")
    for seed, folder in folders.items():
        o = opts.resolve({}, load_json(folder / "opts.json"))
        records, classes, snippet_seconds = score_file.read(folder / "clip_scores.h5")
        records = [record for record in records if record["name"] not in o.exclude_video]
        truth, ambiguous = (run._segments(folder / f"{name}.csv", columns) for name, columns in (
            ("ground_truth", (*segment, "label")), ("ambiguous", segment)))
        truth = truth[~truth["video"].isin(o.exclude_video)].reset_index(drop=True)
        given, names = None, [record["name"] for record in records]
        if o.video_scores:
            given = formats.video_scores.read_video_scores(o.video_scores, names, classes)
        yield Run(seed, folder, o, records, classes, snippet_seconds, truth, ambiguous, given)


def detections(one, method="em-mil", **changes):
    """The detections table of a run under test-time options of its own but for `changes`."""
    o = dataclasses.replace(one.o, **changes)
    return localize.table(run._localized(o, method, one.records, one.classes, one.snippet_seconds, one.given))[0]


def map_at(one, tious, protocol, **changes):
    """mAP (len(tious),) of EM-MIL."""
    return eval_detection.evaluate(one.truth, detections(one, **changes), tious, protocol, one.ambiguous).map


def scores(s, variant, method, tious, protocols, **changes):
    """{protocol: {tIoU or name of an average: fractions of the seeds}}, under test-time options but for `changes`."""
    rows = {protocol: {} for protocol in protocols}
    for one in opened(s, variant):
        table = detections(one, method, **changes)
        for protocol in protocols:
            values = eval_detection.evaluate(one.truth, table, tious, protocol, one.ambiguous).map
            means = eval_detection.averages(tious, values)
            for column, value in {**dict(zip(tious, values.tolist())), **means}.items():
                rows[protocol].setdefault(column, []).append(value)
    return rows


def _counted(s, label, variant):
    """A row's name, with the number of seeds where some are missing."""
    n = len(finished(s, variant))
    return label if n == len(s.seeds) else f"{label} ({n} of {len(s.seeds)} seeds)"


def _protocols(s):
    return eval_detection.PROTOCOLS if s.o.protocol == "all" or "protocol" not in s.given else (s.o.protocol,)


def _shown(tious):
    """The columns of a table: THUMOS14's with its averages, ActivityNet's few of ten, any other all and their mean."""
    if tuple(tious) == TABLE2_TIOUS:
        return [0.5, 0.7, 0.9, "all"]
    return [*tious, *(name for name in eval_detection.averages(tious, tious) if name != "all" or len(tious) != 7)]


# ---- tables
def _rows_of_table(s, tious):
    """{label: (variant, method)} of Table 1 and Table 2."""
    unt = _unt_features(s) if tuple(tious) != TABLE2_TIOUS else None
    main = "EM-MIL-UNT" if s.o.dataset == "thumos14-unt" else "EM-MIL"
    rows = {main: ("em-mil", "em-mil"), **({"EM-MIL-UNT": ("em-mil-unt", "em-mil")} if unt else {})}
    for method in run.CLASSIFIERS:
        rows[run.METHODS[method]] = ("em-mil" if method in run._trained(s.o) else method, method)
    return rows


def _unt_features(s):
    preset = opts.PRESETS["thumos14-unt"]["features"]
    return s.args.unt_features or (preset if s.o.dataset == "thumos14" and Path(preset).exists() else None)


def _needs_table(s, tious):
    more = {"em-mil": {}, **{method: {"method": (method,)} for method in run.CLASSIFIERS}}
    # What the user said of the other feature file does not hold for this one.
    more["em-mil-unt"] = {"features": _unt_features(s), "flow_features": None, "feature_layout": None,
                          "snippet_seconds": None,
                          "dataset": "thumos14-unt" if s.o.dataset == "thumos14" else s.given.get("dataset")}
    return {variant: more[variant] for variant, _ in _rows_of_table(s, tious).values()}


def _page_table(s, name, tious, dataset_name):
    """Table 1 or 2: our rows under each protocol, and the published ones."""
    theirs = s.o.dataset.removesuffix("-unt") == dataset_name
    values = {}
    for label, (variant, method) in _rows_of_table(s, tious).items():
        if finished(s, variant):
            mark = run._classes_from(s.o, method)
            values[_counted(s, label, variant) + mark] = scores(s, variant, method, tious, _protocols(s))
    if not s.o.video_scores and s.o.video_classifier != "oracle":      # the same with no error of classification
        for label, (variant, method) in _rows_of_table(s, tious).items():
            if finished(s, variant):
                values[f"{_counted(s, label, variant)} (oracle classes)"] = scores(
                    s, variant, method, tious, _protocols(s), video_classifier="oracle")
    if not values:
        raise InputError(f"{s.pool}: found no finished run, expected at least one")
    blocks, frames, shown = [], [], _shown(tious)
    papers = {k: v for d in dict.fromkeys((s.o.dataset, "thumos14-unt" if _unt_features(s) else s.o.dataset))
              for k, v in published.published_rows(d, ["EM-MIL"]).items()} if theirs else {}
    for protocol in _protocols(s):
        rows = {label: {c: of[protocol][c] for c in shown} for label, of in values.items()}
        first = next(iter(rows))                        # ours; another classifier's classes are another experiment
        own = papers and first.startswith("EM-MIL") and not run._classes_from(s.o, "em-mil")
        compare = (first, next(iter(papers))) if own else None
        source = s.o.video_scores or s.o.video_classifier
        blocks.append((f"Ours, protocol {protocol}; a test video's classes from {source} (EM-MIL) or from the method "
                       "itself; oracle: from its annotations",
                       tables.map_table(rows, papers, compare)))
        frames.append(tables.map_frame({label: of[protocol] for label, of in values.items()}).assign(protocol=protocol))
    note = "" if theirs else " They are on other data than ours above: the two cannot be compared."
    blocks.append((f"{published.PUBLISHED_NOTE}{note}", published.published_table(dataset_name)))
    protocol = _protocols(s)[0]
    curves = {label: np.array([of[protocol][t] for t in tious]).T for label, of in values.items()
              if not label.endswith("(oracle classes)") or s.o.video_classifier == "oracle"}
    for label, row in papers.items():
        if all(t in row for t in tious):
            curves[label] = np.array([row[t] for t in tious]) / 100
    figures.curve_figure(s.folder(name) / f"{name}.png", x=tious, curves=curves, xlabel="tIoU threshold",
                        ylabel=f"mAP (%), {protocol}")
    return Page(blocks, pd.concat(frames), {"published": [row._asdict() for row in published.TABLES[dataset_name]],
                                            "published_note": published.PUBLISHED_NOTE}, [f"{name}.png"], papers=True)


def _ablations(s):
    """{label: (variant, options)} of Table 3."""
    every = {"epoch": "labels anew every epoch", "step": "labels anew every step"}
    return {"Full": ("em-mil", {}),
            **{f"Pseudo labeling ({every[j]})": (f"joint-{j}", {"joint": j}) for j in dict.fromkeys(s.args.joint)},
            "Alternating": ("attention", {"objective": "attention"})}


def _page_table3(s):
    protocol, tious = _protocols(s)[0], s.o.tious
    values = {_counted(s, label, variant): scores(s, variant, "em-mil", tious, [protocol])[protocol]
              for label, (variant, _) in _ablations(s).items() if finished(s, variant)}
    if not values:
        raise InputError(f"{s.pool}: found no finished run, expected at least one")
    text = ("Full: pseudo-labels, E and M steps in turn. Pseudo labeling: the same pseudo-labels, both branches "
            "trained in every update, as many updates in all (so each branch has about twice Full's). Alternating: E and "
            "M steps in turn, trained by the attention-MIL loss of UntrimmedNet instead of the pseudo-labels. Same schedule, video classifier, lambda and gamma.")
    shown = _shown(tious)
    rows = {label: {c: of[c] for c in shown} for label, of in values.items()}
    figures.curve_figure(s.folder("table3") / "table3.png", x=tious, xlabel="tIoU threshold",
                        ylabel=f"mAP (%), {protocol}",
                        curves={label: np.array([of[t] for t in tious]).T for label, of in values.items()})
    return Page([(text, None), (f"Protocol {protocol}", tables.map_table(rows))],
                tables.map_frame(values).assign(protocol=protocol), {}, ["table3.png"])


# ---- lambda and gamma
def _with(values, own):
    return tuple(sorted({*values, own}))


def _page_lambda(s):
    protocol, gammas, rows = _protocols(s)[0], _with(GAMMAS, s.o.gammas_at_test[0]), []
    lambdas = _with(LAMBDAS, s.o.lam)
    for one in run.Bar(opened(s, "em-mil"), "lambda", len(finished(s, "em-mil")), disable=None):
        for lam in lambdas:
            rows.append((one.seed, lam, "own", map_at(one, [0.5], protocol, lam=lam)[0]))
            rows += [(one.seed, lam, g, map_at(one, [0.5], protocol, lam=lam, test_gamma=g, thresholds=())[0])
                     for g in gammas]
    frame = pd.DataFrame(rows, columns=["seed", "lambda", "test_gamma", "map"])
    curve = _cube(frame[frame["test_gamma"] == "own"], "lambda")                             # (runs, lambdas)
    grid = _cube(frame[frame["test_gamma"] != "own"], "test_gamma", "lambda")                # (runs, gammas, lambdas)
    folder, own = s.folder("lambda"), opts.show(s.o.gammas_at_test)
    figures.curve_figure(folder / "lambda.png", x=lambdas, curves={f"mean ± std, gamma at test {own}": curve},
                        xlabel="lambda, weight of Q in L", ylabel="mAP@0.5 (%)", mark=(s.o.lam, f"preset, {s.o.lam:g}"))
    figures.heat_figure(folder / "lambda-gamma.png", x=lambdas, y=gammas, values=grid, xlabel="lambda",
                       ylabel="gamma at test", title="mAP@0.5 (%)", mark=(s.o.lam, s.o.gammas_at_test[0]))
    table = [["lambda", "mAP@0.5 (%)"]] + [[f"{lam:g}", tables.mean_std(curve[:, k])] for k, lam in enumerate(lambdas)]
    heat = [["gamma at test, lambda:", *(f"{lam:g}" for lam in lambdas)]] + [
        [f"{g:g}", *(f"{100 * v:.1f}" for v in grid[:, k].mean(axis=0))] for k, g in enumerate(gammas)]
    text = f"One trained model per seed, no retraining. Protocol {protocol}, gamma at test {own}."
    return Page([(text, table), ("mAP@0.5 (%) over lambda and gamma at test, mean over the seeds", heat)], frame,
                {"lambdas": lambdas, "gammas": gammas, "map": curve, "grid": grid}, ["lambda.png", "lambda-gamma.png"])


def _cube(frame, *axes):
    """frame's `map` as an array (runs, *axes), each axis in ascending order."""
    frame = frame.sort_values(["seed", *axes])
    return frame["map"].to_numpy(float).reshape(frame["seed"].nunique(), *(frame[axis].nunique() for axis in axes))


def _gamma_variants(s):
    """{gamma in training: variant}."""
    return {g: "em-mil" if g == s.o.gamma else f"gamma-{g:g}" for g in _with(GAMMAS, s.o.gamma)}


def _page_gamma(s):
    protocol, own, rows = _protocols(s)[0], s.o.gammas_at_test[0], []
    variants = {g: variant for g, variant in _gamma_variants(s).items() if finished(s, variant)}
    tests = sorted({*GAMMAS, *variants, own})
    for g, variant in run.Bar(variants.items(), "gamma", disable=None):
        rows += [(one.seed, g, t, map_at(one, [0.5], protocol, test_gamma=t, thresholds=())[0])
                 for one in opened(s, variant) for t in tests]
    frame = pd.DataFrame(rows, columns=["seed", "gamma", "test_gamma", "map"])
    whole = sorted(set.intersection(*(set(frame[frame["gamma"] == g]["seed"]) for g in variants))) if variants else []
    if not whole or s.o.gamma not in variants:
        raise InputError(f"{s.pool}: found no seed with a run at every gamma, expected at least one")
    grid = _cube(frame[frame["seed"].isin(whole)], "gamma", "test_gamma")          # (runs, gammas, gammas at test)
    trained, k, at = list(variants), list(variants).index(s.o.gamma), tests.index(own)
    curves = {f"training only (test {own:g})": grid[:, :, at], f"test only (training {s.o.gamma:g})":
              grid[:, k][:, [tests.index(g) for g in trained]],
              "both": np.stack([grid[:, i, tests.index(g)] for i, g in enumerate(trained)], axis=1)}
    folder = s.folder("gamma")
    figures.curve_figure(folder / "gamma.png", x=trained, curves=curves, xlabel="gamma", ylabel="mAP@0.5 (%)",
                        mark=(s.o.gamma, f"preset, {s.o.gamma:g}"))
    figures.heat_figure(folder / "gamma-grid.png", x=tests, y=trained, values=grid, xlabel="gamma at test",
                       ylabel="gamma in training", title="mAP@0.5 (%)", mark=(own, s.o.gamma))
    table = [["gamma, mAP@0.5 (%)", *curves]] + [[f"{g:g}", *(tables.mean_std(c[:, i]) for c in curves.values())]
                                                 for i, g in enumerate(trained)]
    heat = [["gamma in training, at test:", *(f"{t:g}" for t in tests)]] + [
        [f"{g:g}", *(f"{100 * v:.1f}" for v in grid[:, i].mean(axis=0))] for i, g in enumerate(trained)]
    text = (f"A model trained anew for every gamma in training and seed; protocol {protocol}; over the seeds with all "
            f"of them ({', '.join(map(str, whole))}).")
    return Page([(text, table), ("mAP@0.5 (%) over gamma in training and at test, mean over the seeds", heat)], frame,
                {"seeds_of_the_grid": whole, "gammas": trained, "gammas_at_test": tests, "grid": grid},
                ["gamma.png", "gamma-grid.png"])


# ---- figure 5
def _page_figure5(s):
    one, args, folder = next(opened(s, "em-mil")), s.args, s.folder("figure5")
    table, by_video = detections(one), {}
    for name, own in one.truth.groupby("video", sort=True):
        found = table[table["video"] == name]
        by_video[name] = own, found, eval_detection.evaluate(own, found, [0.5])
    records = {record["name"]: record for record in one.records}
    for name in args.videos:
        if name not in records:
            raise InputError(f"--videos: found {name}, expected the name of a test video such as {next(iter(records))}")
    chosen = {name: "named" for name in args.videos}
    rank = lambda sign: sorted(by_video, key=lambda v: (sign * by_video[v][2].map[0], -len(by_video[v][0]), v))
    picks = args.pick or ([] if args.videos else ["best", "worst"])
    for pick in picks:
        order = rank(-1) if pick == "best" else rank(1) if pick == "worst" else \
            np.random.default_rng(0).permutation(sorted(by_video)).tolist()
        for name in order[:args.n]:
            chosen.setdefault(name, pick)
    for path in [*folder.glob("*.png"), *folder.glob("*.pdf")]:
        path.unlink()                                   # of an earlier choice
    rows, figures = [], []
    for name, why in chosen.items():
        record = records[name]
        own, found, e = by_video.get(name, (one.truth[:0], table[table["video"] == name], None))
        pictures = thumbnails(args.video_dir, name, record["duration"]) if args.video_dir else ()
        for label in dict.fromkeys(own["label"]) or dict.fromkeys(found["label"]):
            segments = [t.loc[t["label"] == label, ["t_start", "t_end"]].to_numpy() for t in (own, found)]
            l = localize.fuse(record["em-mil"]["q"], record["em-mil"]["p"][:, one.classes.index(label)], one.o.lam)
            stem = "".join(ch if ch.isalnum() or ch in "-_" else "_" for ch in f"{name}-{label}")
            figures.localization_figure(
                folder / f"{stem}.pdf", folder / f"{stem}.png", scores=l, snippet_seconds=one.snippet_seconds,
                duration=record["duration"], threshold=[localize.threshold(l, g) for g in one.o.gammas_at_test],
                ground_truth=segments[0], predictions=segments[1], label=label, video=name, thumbnails=pictures)
            figures.append(f"{stem}.png")
            ap = e.ap[0][list(e.classes).index(label)] if e and label in e.classes else math.nan
            rows.append((name, label, why, ap, len(segments[0]), len(segments[1]), figures[-1]))
    frame = pd.DataFrame(rows, columns=["video", "label", "chosen", "ap", "ground_truth", "predictions", "file"])
    body = [["video", "class", "chosen", "AP@0.5 (%) in the video", "ground truth", "predictions"]] + [
        [r.video, r.label, r.chosen, tables.mean_std(r.ap), f"{r.ground_truth}", f"{r.predictions}"]
        for r in frame.itertuples()]
    text = (f"Seed {one.seed}. L over time with the threshold of Sec. 3.5, ground truth in red, predictions in blue. "
            "best, worst: by the mAP@0.5 within the video, so chosen with the ground truth at hand, for illustration; "
            "they are not typical. Each figure also as PDF.")
    return Page([(text, body)], frame, {"seed": one.seed}, figures)


def thumbnails(folder, video, duration, n=24, height=120):
    """[(seconds, RGB array)] of n moments spread over the video file of that name in `folder`, for localization_figure.

    Raises InputError without PyAV, without such a file, and where it cannot be decoded.
    """
    try:
        import av
    except ImportError:
        raise InputError("--video-dir: found no package av to decode videos, expected it: pip install av") from None
    try:
        files = sorted(path for path in Path(folder).iterdir() if path.stem == video)
    except OSError as error:
        raise InputError(f"--video-dir: {folder}: {error.strerror}, expected a folder of videos") from None
    if not files:
        raise InputError(f"--video-dir: {folder}: {video}: found no such file, expected {video}.mp4 or the like")
    images = []
    try:
        with av.open(str(files[0])) as container:
            stream = container.streams.video[0]
            for moment in (np.arange(n) + 0.5) / n * duration:
                container.seek(int(moment / stream.time_base), stream=stream)                # the key frame before it
                frame = next((f for f in container.decode(stream) if f.time is not None and f.time >= moment), None)
                if frame is not None:                   # the annotated duration may be longer than the file
                    width = max(2, round(height * frame.width / frame.height))
                    images.append((frame.time, frame.reformat(width, height).to_ndarray(format="rgb24")))
    except (av.error.FFmpegError, IndexError, ValueError) as error:
        raise InputError(f"{files[0]}: found no video that can be decoded ({error}), expected one") from None
    return images


# ---- convergence
def label_map(videos, masks, classes, truth, tiou):
    """mAP of pseudo-labels, a diagnostic: runs of positive clips as detections of each class of the video.

    videos: dataset.Videos; masks: bool (T,) each; truth: table of their segments. Pseudo-labels have no scores, so all
    detections of a class tie, and AP is that of one point of the curve: precision times recall.
    """
    rows = [(v.name, start * v.snippet_seconds, min(end * v.snippet_seconds, v.duration), classes[c], 1.0)
            for v, mask in zip(videos, masks) for start, end in localize.runs(mask)
            if start * v.snippet_seconds < v.duration for c in np.flatnonzero(v.labels)]
    table = pd.DataFrame(rows, columns=list(localize.COLUMNS))
    found = eval_detection.match(truth, table, np.array([tiou]), "activitynet", classes=classes)
    n, hits = (np.bincount(labels, minlength=len(classes)) for labels in (found.label, found.label[found.hit[0]]))
    with_truth = found.n_segments > 0
    return float((hits ** 2 / np.maximum(n * found.n_segments, 1))[with_truth].mean())


def _page_convergence(s):
    tables, o, data = [], s.o, None
    for seed, folder in finished(s, "em-mil").items():
        if data is None:
            truth = annotations.load(o.annotations, video_labels=o.video_labels)
            train_subset, test_subset = annotations.choose_subsets(truth, o.train_subset, o.test_subset)
            data = dataset.load(o.features, truth, train_subset=train_subset, test_subset=test_subset,
                                layout=o.feature_layout, flow_features=o.flow_features, in_memory=False,
                                snippet_seconds=o.snippet_seconds, allow_missing=o.allow_missing)
            segments = annotations.table([truth.videos[video.name] for video in data.train])
        maps = {phase: label_map(data.train, masks, data.classes, segments, 0.5)
                for phase, _, masks in em_trainer.label_history(training.load_checkpoint(folder)["memory"])}
        phases = figures.phase_table(run._log(folder))
        tables.append(phases.assign(seed=seed, map=phases["phase"].map(maps)))
    if not tables:
        raise InputError(f"{s.pool}: found no finished run of em-mil, expected at least one")
    frame = pd.concat(tables, ignore_index=True)
    figures.convergence_figure(s.folder("convergence") / "convergence.png", phases=frame)
    body = [["phase", "step", "after epochs", "positive clips (%)", "labels changed (%)", "empty bags", "mAP@0.5 (%)"]]
    for phase, rows in frame.groupby("phase"):
        body.append([f"{phase}", rows["step"].iloc[0], f"{rows['epoch'].iloc[0]}",
                     *(tables.mean_std(rows[c]) for c in ("positive", "changed")), f"{rows['empty'].mean():.1f}",
                     tables.mean_std(rows["map"])])
    text = ("The pseudo-labels that each phase trains on: share of positive clips, share that changed since the last "
            "phase of the same step, positive bags left without a positive clip (mean), and the labels' own mAP@0.5 on "
            "the training videos. That mAP is a diagnostic made after training, which sees no segment: runs of "
            "positive clips as detections of the video's classes; they have no scores, so AP is precision x recall.")
    return Page([(text, body)], frame, {}, ["convergence.png"])


# ---- timing
PARTS = ("loading", "pseudo-labels", "epochs", "rest of training", "scoring", "localization", "evaluation")


def thumos14_durations():
    """(seconds of 200 training videos, seconds of 212 test videos, where from)."""
    path = Path(opts.PRESETS["thumos14"]["annotations"])
    if path.exists():
        truth = annotations.load(path)
        parts = [[v.duration for v in annotations.in_subset(truth, subset) if v.duration]
                 for subset in annotations.choose_subsets(truth)]
        if all(parts):
            return *map(np.array, parts), "THUMOS14's annotated durations"
    # Log-normal like THUMOS14's, scaled to its total: 33,500 clips in training, and as many a video at test.
    rng = np.random.default_rng(0)
    whole = THUMOS14["clips"] * THUMOS14["snippet_seconds"]
    parts = [rng.lognormal(0, 0.7, THUMOS14[subset]) for subset in ("train", "test")]
    return *(x / x.sum() * whole * len(x) / THUMOS14["train"] for x in parts), \
        "random durations (log-normal) of THUMOS14's total, since its annotations are not here"


def stand_in(folder, share):
    """Writes random features of THUMOS14's shape, a `share` of its videos; returns facts about them.

    float16 canonical features, and annotations as random: good for timing, for nothing else.
    """
    rng, database, clips = np.random.default_rng(0), {}, {"train": 0, "test": 0}
    *durations, source = thumos14_durations()
    picked = [(subset, float(x)) for subset, xs in zip(clips, durations)
              for x in xs[np.linspace(0, len(xs) - 1, max(6, round(share * len(xs)))).round().astype(int)]]
    for k, (subset, duration) in enumerate(picked):
        starts = np.arange(0, max(duration - 5, 0.5), 15.0)            # an action of 4 s in 15 s, about THUMOS14's rate
        database[f"stand_in_{k:03d}"] = {"subset": subset, "duration": duration, "annotations": [
            {"label": f"class {k // 2 % THUMOS14['classes']:02d}", "segment": [float(t), float(min(t + 4, duration))]}
            for t in starts]}

    def items():
        for name, video in database.items():
            t = max(1, round(video["duration"] / THUMOS14["snippet_seconds"]))
            clips[video["subset"]] += t
            # |N(0, 1)|: not negative, as pooled features are
            yield name, *(np.abs(rng.standard_normal((t, THUMOS14["dim"]), np.float32)) for _ in range(2))

    folder.mkdir(parents=True, exist_ok=True)
    features.write_canonical(folder / "features.h5", items(), THUMOS14["snippet_seconds"])
    tables.write_json(folder / "annotations.json", {"database": database})
    return {"source": source, "videos": {n: sum(subset == n for subset, _ in picked) for n in clips}, "clips": clips,
            "full_clips": round(float(durations[0].sum()) / THUMOS14["snippet_seconds"])}


def _page_timing(s):
    """One run per method on stand-in features, one after the other, and where their logs say the time went."""
    small = s.args.command == "all" and not s.o.dataset.startswith("thumos14")
    share, iterations = (s.args.timing_share,) * 2 if s.args.timing_share else (0.02, 0.004) if small else (1.0, 1.0)
    folder, load = s.folder("timing"), os.getloadavg()[0]
    pool, data = folder / "runs", folder / "stand-in"
    shutil.rmtree(pool, ignore_errors=True)             # a timing is taken whole, now
    pool.mkdir()
    given = {**{name: value for name, value in s.given.items() if name not in OURS}, "dataset": "thumos14",
             "features": str(data / "features.h5"), "annotations": str(data / "annotations.json")}
    full = opts.resolve({"dataset": "thumos14"}).wtalc_iterations
    given.setdefault("wtalc_iterations", max(1, round(iterations * full)))
    # EM-MIL alone: the labels stand in for a classifier's scores.
    wanted = {(method, 1): {**given, "method": (method,), "seed": 1,
                            **({"video_classifier": "oracle"} if method == "em-mil" else {})} for method in run.METHODS}
    try:
        facts = stand_in(data, share)
        train(s, pool, wanted, 1)
    finally:
        shutil.rmtree(data, ignore_errors=True)
    o, part = opts.resolve(given), facts["clips"]["train"] / facts["full_clips"]
    lengths = {"em-mil": f"{sum(row[1] for row in opts.schedule(o))} epochs",
               "untrimmednet": f"{o.untrimmednet_epochs} epochs", "wtalc": f"{o.wtalc_iterations} iterations"}
    share_of = {"em-mil": part, "untrimmednet": part, "wtalc": o.wtalc_iterations / full}
    rows = [_spent(pool / f"{method}-s1", run.METHODS[method], lengths[method], share_of[method])
            for method in run.METHODS if (pool / f"{method}-s1" / "results.json").exists()]
    if not rows:
        raise InputError(f"{pool}: found no finished run, expected at least one")
    whole = all(abs(row["share_of_full_size"] - 1) < 0.01 for row in rows)
    figures.share_figure(folder / "timing.png", bars={row["method"]: {p: row[p] for p in PARTS} for row in rows})
    body = [["method", "length", "training (s)", *(() if whole else ("full size, estimated (s)",)),
             *(f"{part} (%)" for part in PARTS), "all (s)"]]
    for row in rows:
        body.append([row["method"], row["length"], f"{row['training_seconds']:.1f}",
                     *(() if whole else (f"{row['full_size_seconds']:.0f}",)),
                     *(f"{100 * row[part] / row['all_seconds']:.1f}" for part in PARTS), f"{row['all_seconds']:.1f}"])
    paper = [["training on THUMOS14, by the paper's Sec. 4.2", "seconds"],
             ["EM-MIL, 65 epochs, two TITAN RTX", "64.7"], ["AutoLoc", "44.5"], ["W-TALC", "6051.2"]]
    n, clips = facts["videos"], facts["clips"]
    machine = f"{_machine()}; load average before it began {load:.1f} (others at work make it slower)"
    text = (f"Data: random stand-in features of THUMOS14's shape ({facts['source']}; {THUMOS14['dim']} values per "
            f"stream, clips of {THUMOS14['snippet_seconds']:g} s): {n['train']} training videos with {clips['train']} "
            f"clips, {n['test']} test videos with {clips['test']} clips. Nothing but time is measured on them.\n\n")
    if not whole:
        text += (f"This is a reduced size: THUMOS14 has {THUMOS14['train']} and {THUMOS14['test']} videos, "
                 f"{facts['full_clips']} training clips, and W-TALC's length is {full} iterations. 'estimated' "
                 "multiplies the measured pseudo-labels and epochs by the ratio of clips (W-TALC: of iterations).\n\n")
    text += (f"Machine: {machine}. Training is pseudo-labels, epochs and the rest (start-up, checkpoints). The parts are "
             "of 'all'. EM-MIL is without its video-level classifier, whose time is a row of its own.")
    return Page([(text, body), ("Typed from the paper, not measured here", paper)], pd.DataFrame(rows),
                {**facts, "machine": machine, "paper_seconds": {"EM-MIL": 64.7, "AutoLoc": 44.5, "W-TALC": 6051.2}},
                ["timing.png"], papers=True)


def _spent(folder, label, length, share):
    """Where the seconds of a finished run went. share: of the full size, in what training time grows with."""
    spent, log = load_json(folder / "results.json")["seconds"], run._log(folder)
    labels = sum({record.get("phase"): record.get("label_seconds", 0.0) for record in log}.values())
    whole, epochs = spent[f"training {label}"], sum(record["seconds"] for record in log)
    parts = (spent["loading"] + spent["moving features"], labels, epochs, whole - labels - epochs, spent["scoring"],
             spent["localization"], spent["evaluation"])
    return {"method": label, "length": length, "training_seconds": whole, "share_of_full_size": share,
            "full_size_seconds": (labels + epochs) / share + whole - labels - epochs, "all_seconds": sum(parts),
            **dict(zip(PARTS, parts))}


def _machine():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        cpu = platform.processor() or platform.machine()
    gpus = [torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())]
    return "; ".join([*gpus, f"{_cores()} cores of {cpu}", platform.system(), f"PyTorch {torch.__version__}"])


# ---- pages
DATA = {"demo": "the embedded demo set, generated by demo_data.py: no footage, neither THUMOS14 nor ActivityNet1.2",
        "thumos14": "THUMOS14", "thumos14-unt": "THUMOS14, features of the UntrimmedNet backbone",
        "activitynet12": "ActivityNet1.2", "custom": "a set of the user's"}


def _head(s, name, page):
    """What every page begins with: title, data, runs, and what has not been measured."""
    o, lines, needs = s.o, [COMMANDS[name].title], COMMANDS[name].needs(s)
    if needs:
        test = load_json(next(f for v in needs for f in finished(s, v).values()) / "results.json")["test"]
        done = ", ".join(f"{len(finished(s, v))} of {v}" for v in needs)
        lines.append(f"Data: {DATA.get(o.dataset, DATA['custom'])} (features {o.features}, annotations "
                     f"{o.annotations}); {test['videos']} test videos, {test['segments']} segments, {test['classes']} classes.")
        lines.append(f"Runs: seeds 1 to {len(s.seeds)}; finished: {done}. Last epoch, recipe {o.recipe}, mean ± sample "
                     f"standard deviation over the seeds; nothing selected on the test set. Code: {_code(s, needs)}.")
    given = {k: v for k, v in s.given.items() if k not in ("features", "annotations", "dataset")}
    if given:
        lines.append(f"Options given: {' '.join(_flags(given))}")
    if s.failed:
        lines.append("Failed runs: " + "; ".join(f"{v} seed {seed}: {line}" for (v, seed), line in s.failed.items()))
    if page.papers:
        lines.append(NOT_MEASURED + (" The rows that are not the paper's were measured where this page was made."
                                     if needs and o.dataset not in ("demo", "custom") else ""))
    return lines


def _code(s, variants):
    """The commits that the runs were made with."""
    commits = set()
    for variant in variants:
        for folder in finished(s, variant).values():
            e = load_json(folder / "environment.json")
            commits.add((e["commit"] or "unknown")[:10] + (" with local changes" if e["dirty"] else ""))
    return ", ".join(sorted(commits))


def _write(s, name, page):
    """Prints and writes a page; returns its Markdown."""
    folder, head = s.folder(name), _head(s, name, page)
    print("\n" + "\n".join(head) + "\n")
    print("\n\n".join(text if table is None else f"{text}\n\n{tables.text(table)}" for text, table in page.blocks))
    print(f"\nFiles: {folder}/")
    title, *lines = head
    blocks = [text if table is None else f"{text}\n\n{tables.markdown(table)}" for text, table in page.blocks]
    body = [f"# {title}", *lines, *blocks]
    tables.write_text(folder / f"{name}.md", "\n\n".join(body + [f"![{f}]({f})" for f in page.figures]))
    tables.write_csv(folder / f"{name}.csv", page.frame)
    tables.write_json(folder / f"{name}.json", {
        "command": name, "dataset": s.o.dataset, "seeds": list(s.seeds), "about": lines,
        "options": dataclasses.asdict(s.o), **page.data, "rows": page.frame.to_dict("records"),
        "figures": page.figures})
    return "\n\n".join(body + [f"![{f}](../{folder.name}/{f})" for f in page.figures])


_PLAIN = lambda s: {"em-mil": {}}

COMMANDS = {
    "table1": Command("Table 1: mAP at tIoU 0.1 to 0.7, beside the published results on THUMOS14",
                      lambda s: _needs_table(s, eval_detection.TIOUS),
                      lambda s: _page_table(s, "table1", eval_detection.TIOUS, "thumos14")),
    "table2": Command("Table 2: mAP at tIoU 0.5, 0.7, 0.9 and over 0.5:0.05:0.95, beside those on ActivityNet1.2",
                      lambda s: _needs_table(s, TABLE2_TIOUS),
                      lambda s: _page_table(s, "table2", TABLE2_TIOUS, "activitynet12")),
    "table3": Command("Table 3: what the pseudo-labels and the alternation contribute",
                      lambda s: dict(_ablations(s).values()), _page_table3),
    "lambda": Command("mAP@0.5 over lambda (Eq. 9), and over lambda and gamma at test", _PLAIN, _page_lambda),
    "gamma": Command("mAP@0.5 over gamma (Eq. 5) in training and at test (Sec. 4.1)",
                     lambda s: {v: {} if v == "em-mil" else {"gamma": g} for g, v in _gamma_variants(s).items()},
                     _page_gamma),
    "figure5": Command("Figure 5: score maps, ground truth and predictions of test videos", _PLAIN, _page_figure5),
    "convergence": Command("How the pseudo-labels shrink from all-positive bags (Sec. 3.4)", _PLAIN, _page_convergence),
    "timing": Command("Wall times at THUMOS14's shape (Sec. 4.2)", lambda s: {}, _page_timing),
}


if __name__ == "__main__":
    main()
