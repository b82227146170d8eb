"""`reproduce.py compare A B`: whether two sets of runs, paired by seed, differ in mAP.

Two questions with two answers. Over seeds: is the mean difference more than what another seed does
(paired t-test, and Wilcoxon's signed-rank test where there are enough seeds for it)? Over test
videos: would the difference of the means be the same on other videos (a bootstrap interval over
the videos)?
"""

import dataclasses
import glob
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats
from tqdm import tqdm

import eval_detection
import opts
from engine import run_folder
from formats.detections import read_detections
from formats.files import InputError, count, some
from formats.program import log
from jobs import record, results
from methods import METHODS
from report import tables

WILCOXON_FROM = 6  # pairs: with fewer, no result has p < 0.05
RESAMPLES = 1000
NOTE = (
    "B - A in points of mAP. t-test, Wilcoxon: p-values of paired tests over the seeds, as if "
    "no difference were there; Wilcoxon needs six pairs. videos: 95% interval of the "
    "difference of the means over {resamples} bootstrap samples of the test videos. An "
    "interval that holds 0: these videos do not show which is better."
)
FEW = (
    "The interval is made for many test videos; here are {videos} with segments, of {classes} "
    "classes. On simulated sets with known truth, a 95% interval held it in 94% of cases for 40 "
    "videos of 6 classes, in 89% for 40 of 20, in 88 to 91% for 12."
)


@dataclasses.dataclass(frozen=True)
class Group:
    """Runs that differ in nothing but the seed."""

    name: str
    o: opts.Opts  # of the first run
    records: list  # what shaped the runs, see jobs/record.py
    truth: pd.DataFrame
    ambiguous: pd.DataFrame
    detections: dict  # {seed: table}


def main(argv):
    """The command; returns the results as a dict. Raises InputError."""
    parser = opts.Parser("reproduce.py compare A B", "Do two sets of runs differ?")
    add = parser.add_argument
    add("a", help="a folder of finished runs, one run, or a quoted pattern such as 'runs/before-*'")
    add("b", help="the same of the runs that A is compared with; pairs have the same seed")
    text = "localizer to compare, or two: A's and B's [the first of A's]"
    add("--method", nargs="+", choices=METHODS, help=text)
    add("--tiou", nargs="+", type=float, help="tIoU thresholds [A's]")
    add("--protocol", choices=eval_detection.PROTOCOLS, default="activitynet", help="[activitynet]")
    text = f"bootstrap samples of the test videos [{RESAMPLES}]"
    add("--resamples", type=int, default=RESAMPLES, help=text)
    add("--json", metavar="OUT", help="write all numbers to this file")
    args = parser.parse_args(argv)
    if args.resamples < 1:
        raise InputError("--resamples", args.resamples, "a number from 1 on")
    if len(args.method or ()) > 2:
        raise InputError("--method", " ".join(args.method), "one localizer, or two: A's and B's")
    a = read_group(args.a, args.method[0] if args.method else None)
    methods = (args.method or a.o.method)[0], (args.method or a.o.method[:1])[-1]
    b = read_group(args.b, methods[1])
    _check_pair(a, b)
    found = {
        "a": a.name,
        "b": b.name,
        "methods": methods,
        "seeds": sorted(set(a.detections) & set(b.detections)),
        "differs": _lines(differences(a, b)),
        "protocol": args.protocol,
        "resamples": args.resamples,
    }
    try:
        found["columns"] = compare(a, b, args.tiou or a.o.tious, args.protocol, args.resamples)
    except ValueError as error:  # of eval_detection, such as a tIoU of 2
        raise InputError(error) from None
    log.info("\n".join(_head(a, b, found)) + "\n")
    log.info(tables.text(table_of(found["columns"])))
    log.info("\n" + NOTE.format(resamples=args.resamples))
    if note := few_videos(a.truth):
        log.info(note)
    if args.json:
        tables.write_json(args.json, found)
    return found


# ---- reading
def read_group(pattern, method=None):
    """The Group of the finished runs that `pattern` names: a run, a folder of runs, or a glob.

    A folder that is no run, such as that of --evaluate or --predict, is passed over. InputError for
    no run, a seed twice, or runs that differ in more than their seed.
    """
    named = [pattern] if Path(pattern).exists() else glob.glob(str(pattern))
    folders = []
    for path in sorted(map(Path, named)):
        folders += [path] if _is_run(path) else sorted(filter(_is_run, path.glob("*")))
    if not folders:
        raise InputError(pattern, "no finished run", "at least one")
    first, records, detections = None, [], {}
    for folder in folders:
        one = _read_run(folder, method)
        seed, first = one.o.seed, first or one
        _check_alike(first, one)
        records += one.records
        if seed in detections:
            expected = "runs that differ in their seed alone"
            raise InputError(folder, f"seed {seed} a second time in {pattern}", expected)
        detections |= one.detections
    return dataclasses.replace(first, name=str(pattern), records=records, detections=detections)


def _is_run(path):
    """Whether a folder is that of a finished training."""
    return all((path / name).exists() for name in ("results.json", run_folder.LOG))


def _read_run(folder, method):
    """A Group of one run."""
    o, scored = results.read(folder)
    method = method or o.method[0]
    if method not in o.method:
        raise InputError(folder, ", ".join(o.method), f"a run with --method {method}")
    found = read_detections(folder / f"{results.stem_of(o, method)}.csv")
    made, seeds = record.made_with(folder), {o.seed: found}
    return Group(str(folder), o, made, scored.truth, scored.ambiguous, seeds)


def differences(a, b):
    """{name: (A's, B's)} of what shaped two groups and differs, seeds apart, as text."""
    found = record.differences(record.facts(*a.records), record.facts(*b.records))
    return {name: texts for name, texts in found.items() if name != "seed"}


def _lines(differs):
    return [f"{name}: {before}, {after}" for name, (before, after) in differs.items()]


def _check_alike(first, one):
    """InputError where two runs of one side differ by more than the seed and rounding."""
    differs = differences(first, one)
    found = _lines({name: of for name, of in differs.items() if name not in record.LISTED})
    if found:
        expected = "runs that differ in their seed alone"
        raise InputError(one.name, f"other {'; '.join(found)} than in {first.name}", expected)


def _check_pair(a, b):
    """Raises InputError where A and B cannot be paired."""
    if not a.truth.equals(b.truth):
        raise InputError(b.name, f"other test segments than in {a.name}", "the same data")
    if not set(a.detections) & set(b.detections):
        found, expected = (some(map(str, sorted(side.detections))) for side in (b, a))
        raise InputError(b.name, f"seeds {found}", f"some of A's: {expected}")


# ---- statistics
def compare(a, b, tious, protocol, resamples=RESAMPLES):
    """{column: numbers} of two Groups, by tIoU or name of an average, as fractions.

    The numbers: "a", "b": mAP of each common seed; "difference": their mean difference B - A; "t",
    "wilcoxon": p, or None where it cannot be worked out; "videos": interval.
    """
    seeds = sorted(set(a.detections) & set(b.detections))
    samples = bootstrap(a, b, seeds, tious, protocol, resamples)
    before, after = (_map_by_seed(group, seeds, tious, protocol) for group in (a, b))
    return {
        column: {
            "a": before[column],
            "b": after[column],
            **tested(after[column] - before[column], samples[column]),
        }
        for column in samples
    }


def tested(gaps, samples):
    """The difference of the means of the seeds, its p-values, and the interval of its samples."""
    return {
        "difference": float(np.mean(gaps)),
        **paired_tests(gaps),
        "videos": np.percentile(samples, eval_detection.INTERVAL).tolist(),
    }


def _map_by_seed(group, seeds, tious, protocol):
    """{column: mAP of each seed (n,)}."""
    rows = []
    for seed in seeds:
        found = eval_detection.score(
            group.truth, group.detections[seed], tious, protocol, group.ambiguous
        )
        rows.append(_columns(tious, found.map))
    return {column: np.array([row[column] for row in rows]) for column in rows[0]}


def _columns(tious, values):
    """{tIoU or name of an average: value}."""
    means = eval_detection.distinct_averages(tious, values)
    if len(tious) == 1:
        del means["all"]  # the same number under another name
    return dict(zip(tious, np.asarray(values).tolist())) | means


def paired_tests(differences):
    """p of the paired t-test and of Wilcoxon's signed-rank test, from (n,) differences; or None."""
    differences, n = np.asarray(differences, float), len(differences)
    t = wilcoxon = None
    if n > 1 and np.ptp(differences) > 1e-9:  # not equal but for rounding
        t = float(stats.ttest_rel(differences, np.zeros(n)).pvalue)
    if n >= WILCOXON_FROM and np.any(differences):
        wilcoxon = float(stats.wilcoxon(differences).pvalue)
    return {"t": t, "wilcoxon": wilcoxon}


def bootstrap(a, b, seeds, tious, protocol, resamples, seed=0):
    """Differences B - A of the mean mAP on test videos drawn with replacement
    (eval_detection.bootstrap), {column: (resamples,)}. Both sides have the same draws.
    """
    found = [(group.detections[s], group.ambiguous) for group in (a, b) for s in seeds]
    draws = eval_detection.bootstrap(a.truth, found, tious, protocol, seed)
    samples = []
    for maps in tqdm(islice(draws, resamples), "bootstrap", resamples, disable=None):
        before, after = maps[: len(seeds)], maps[len(seeds) :]  # (seeds, T) each
        samples.append(_columns(tious, after.mean(axis=0) - before.mean(axis=0)))
    return {column: np.array([row[column] for row in samples]) for column in samples[0]}


def few_videos(truth):
    """A line on the interval where the test set is small, else ""."""
    videos, classes = truth["video"].nunique(), truth["label"].nunique()
    few = videos < 60 or videos < 5 * classes
    return FEW.format(videos=videos, classes=classes) if few else ""


# ---- output
def _head(a, b, found):
    lines = [
        f"{side}: {group.name}, {METHODS[method].title}, recipe "
        f"{opts.recipe_of(group.o, group.records[0]['processes'])}"
        for side, group, method in zip("AB", (a, b), found["methods"])
    ]
    differs = found["differs"] or ["nothing that is recorded"]
    lines.append(f"They differ in (A, B): {'; '.join(differs)}")
    pairs = count(found["seeds"], "pair of seeds", "pairs of seeds")
    lines.append(
        f"{pairs}: {', '.join(map(str, found['seeds']))}; "
        f"protocol {found['protocol']}; {a.truth['video'].nunique()} test videos with segments"
    )
    return lines


def table_of(columns):
    """The numbers of `compare` as a table of text, in percent."""
    table = [["mAP (%) at tIoU", "A", "B", "B - A", "t-test", "Wilcoxon", "videos"]]
    for column, c in columns.items():
        sides = tables.mean_std(c["a"]), tables.mean_std(c["b"]), points(c["difference"])
        p = p_text(c["t"]), p_text(c["wilcoxon"])
        table.append([tables.column_name(column), *sides, *p, interval_text(c["videos"])])
    return table


def points(fraction):
    return f"{100 * fraction:+.1f}"


def p_text(value):
    if value is None:
        return "-"
    return f"{value:.3f}" if value >= 0.001 else "<0.001"


def interval_text(interval):
    return " to ".join(map(points, interval))
