"""`reproduce.py compare A B`: whether two sets of runs, paired by seed, differ in mAP.

Two questions with two answers. Over seeds: is the mean difference more than what another seed does
(paired t-test, and Wilcoxon's signed-rank test where there are enough seeds for it)? Over test
videos: would the difference of the means be the same on other videos (a bootstrap interval over
the videos)?
"""

import argparse
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
from formats.detections import read_detections
from formats.files import InputError, some
from formats.program import log
from jobs import record, results
from report import tables

WILCOXON_FROM = 6  # pairs: with fewer, no result has p < 0.05


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
    parser = argparse.ArgumentParser(
        prog="reproduce.py compare", allow_abbrev=False, description="Do two sets of runs differ?"
    )
    add = parser.add_argument
    add("a", help="a folder of finished runs, one run, or a quoted pattern such as 'runs/before-*'")
    add("b", help="the same of the runs that A is compared with; pairs have the same seed")
    add("--method", help="localizer to compare [the first of A's]")
    add("--tiou", nargs="+", type=float, help="tIoU thresholds [A's]")
    add("--protocol", choices=eval_detection.PROTOCOLS, default="activitynet", help="[activitynet]")
    add("--resamples", type=int, default=1000, help="bootstrap samples of the test videos [1000]")
    add("--json", metavar="OUT", help="write all numbers to this file")
    args = parser.parse_args(argv)
    a = read_group(args.a, args.method)
    method = args.method or a.o.method[0]
    b = read_group(args.b, method)
    if args.resamples < 1:
        raise InputError(f"--resamples: found {args.resamples}, expected a number from 1 on")
    _check_pair(a, b)
    tious = tuple(args.tiou or a.o.tious)
    try:
        found = compare(a, b, tious, args.protocol, args.resamples)
    except ValueError as error:  # of eval_detection, such as a tIoU of 2
        raise InputError(error) from None
    found["method"] = method
    log.info("\n".join(_head(a, b, found)) + "\n")
    log.info(tables.text(table_of(found)))
    log.info("\n" + NOTE.format(resamples=args.resamples))
    if args.json:
        tables.write_json(args.json, found)
    return found


NOTE = (
    "B - A in points of mAP. t-test, Wilcoxon: p-values of paired tests over the seeds, as if "
    "no difference were there; Wilcoxon needs six pairs. videos: 95% interval of the "
    "difference of the means over {resamples} bootstrap samples of the test videos. An "
    "interval that holds 0: these videos do not show which is better."
)


# ---------------------------------------------------------------------------------------- reading


def read_group(pattern, method=None):
    """The Group of the finished runs that `pattern` names: a run, a folder of runs, or a glob.

    Raises InputError for no run, a seed twice, or runs that differ in more than their seed.
    """
    folders = []
    named = [pattern] if Path(pattern).exists() else glob.glob(str(pattern))
    for path in sorted(map(Path, named)):
        if (path / "results.json").exists():
            folders.append(path)
        else:
            folders += sorted(results.parent for results in path.glob("*/results.json"))
    if not folders:
        raise InputError(f"{pattern}: found no finished run, expected at least one")
    first, records, detections = None, [], {}
    for folder in folders:
        one = _read_run(folder, method)
        seed, first = one.o.seed, first or one
        _check_alike(first, one)
        records += one.records
        if seed in detections:
            raise InputError(
                f"{folder}: found seed {seed} a second time in {pattern}, expected "
                "runs that differ in their seed alone"
            )
        detections |= one.detections
    return dataclasses.replace(first, name=str(pattern), records=records, detections=detections)


def _read_run(folder, method):
    """A Group of one run."""
    o, scored = results.read(folder)
    method = method or o.method[0]
    if method not in o.method:
        raise InputError(
            f"{folder}: found {', '.join(o.method)}, expected a run with --method {method}"
        )
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
        raise InputError(
            f"{one.name}: found other {'; '.join(found)} than in {first.name}, "
            "expected runs that differ in their seed alone"
        )


def _check_pair(a, b):
    """Raises InputError where A and B cannot be paired."""
    if not a.truth.equals(b.truth):
        raise InputError(
            f"{b.name}: found other test segments than in {a.name}, expected the same data"
        )
    if not set(a.detections) & set(b.detections):
        raise InputError(f"{b.name}: found seeds {_some(b)}, expected some of A's: {_some(a)}")


def _some(group):
    return some(map(str, sorted(group.detections)))


# -------------------------------------------------------------------------------------- statistics


def compare(a, b, tious, protocol, resamples):
    """All numbers of the comparison, by column (tIoU or name of an average), as fractions.

    `seeds` of the pairs, `differs` (see `differences`), and `columns`: {column: {"a", "b": mAP of
    each seed, "difference": their mean difference B - A, "t": p, "wilcoxon": p, "videos":
    interval}}; a p that cannot be worked out is None.
    """
    seeds = sorted(set(a.detections) & set(b.detections))
    samples = bootstrap(a, b, seeds, tious, protocol, resamples)
    before, after = (_map_by_seed(group, seeds, tious, protocol) for group in (a, b))
    columns = {}
    for column in samples:
        gap = after[column] - before[column]
        columns[column] = {
            "a": before[column],
            "b": after[column],
            "difference": float(gap.mean()),
            **paired_tests(gap),
            "videos": np.percentile(samples[column], eval_detection.INTERVAL).tolist(),
        }
    return {
        "a": a.name,
        "b": b.name,
        "seeds": seeds,
        "differs": _lines(differences(a, b)),
        "protocol": protocol,
        "resamples": resamples,
        "columns": columns,
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


# ------------------------------------------------------------------------------------------ output


def _head(a, b, results):
    lines = [
        f"{side}: {group.name}, recipe {opts.recipe_of(group.o, group.records[0]['processes'])}"
        for side, group in (("A", a), ("B", b))
    ]
    differs = results["differs"] or ["nothing that is recorded"]
    lines.append(f"They differ in (A, B): {'; '.join(differs)}")
    lines.append(
        f"{len(results['seeds'])} pairs of seeds: {', '.join(map(str, results['seeds']))}; "
        f"localizer {results['method']}; protocol {results['protocol']}; "
        f"{a.truth['video'].nunique()} test videos with segments"
    )
    return lines


def table_of(results):
    """The comparison as a table of text, in percent."""
    table = [["mAP (%) at tIoU", "A", "B", "B - A", "t-test", "Wilcoxon", "videos"]]
    for column, c in results["columns"].items():
        low, high = c["videos"]
        table.append(
            [
                tables.column_name(column),
                tables.mean_std(c["a"]),
                tables.mean_std(c["b"]),
                f"{100 * c['difference']:+.1f}",
                _p(c["t"]),
                _p(c["wilcoxon"]),
                f"{100 * low:+.1f} to {100 * high:+.1f}",
            ]
        )
    return table


def _p(value):
    if value is None:
        return "-"
    return f"{value:.3f}" if value >= 0.001 else "<0.001"
