"""From scores of clips to detections, tables and the page: the one road of a run, --evaluate,
--predict and the pages of the paper.

`read` opens a finished run, `finish` localizes, scores, prints and writes.
"""

import contextlib
import dataclasses
import datetime
import itertools
import os
import re
import shutil
import time
from pathlib import Path

import numpy as np
import pandas as pd

import eval_detection
import localize
import opts
from engine import run_folder
from formats import clip_scores, detections, exports, video_scores
from formats.files import InputError, alone, check_kinds, file_name, load_json
from formats.program import log
from jobs import record, setup
from methods import METHODS, apply
from report import page, published, summary, tables

PAGE = "report.html"
SCORES, TRUTH, AMBIGUOUS = "clip_scores.h5", "ground_truth.csv", "ambiguous.csv"
LABELLED = [*eval_detection.SEGMENT, "label"]


@dataclasses.dataclass(frozen=True)
class Scored:
    """Test videos with the scores of their clips, and what they are held to."""

    run: Path  # folder of the run that scored them
    made: dict  # the record of its training, see jobs/record.py
    records: list  # of clip_scores.Record
    classes: tuple
    truth: pd.DataFrame  # segments; empty where nobody knows them
    ambiguous: pd.DataFrame


# ---- a finished run
def read(folder):
    """(Opts, Scored) of a finished run or prediction. InputError, which names the file, where one
    is missing or not as a run writes it.
    """
    folder = Path(folder)
    o, made = setup.saved(folder), record.made_with(folder)[-1]
    records, classes = clip_scores.read(folder / SCORES)
    for first in records[:1]:  # none where --keep-going has left out all videos
        _check_scores(first, folder / SCORES)
    truth = _segments(folder / TRUTH, LABELLED)
    ambiguous = _segments(folder / AMBIGUOUS, eval_detection.SEGMENT)
    return o, Scored(folder, made, records, classes, truth, ambiguous)


def stored(folder):
    """The results.json of a finished run."""
    path = Path(folder) / "results.json"
    results = load_json(path)
    kinds = {"methods": {str: dict}, "seconds": {str: float}, "test": {str: int}}
    check_kinds(results, kinds, path)
    return results


def _check_scores(record, path):
    """InputError where the first record, whose kinds of scores all have, lacks some that a table
    needs.
    """
    for method, arrays in record.scores.items():
        needed = {"video"} if method in METHODS and METHODS[method].classifies else set()
        needed |= {"q", "p"} if method == "em-mil" else set()
        if needed - arrays.keys():
            found = f"the scores {', '.join(arrays)} of {method}"
            raise InputError(f"{path}: {record.name}", found, ", ".join(sorted(needed)))


def _segments(path, columns):
    """A table of segments as a run keeps it: numbers exactly as written, names as text (a class may
    be NA or 007).
    """
    texts, numbers = dict.fromkeys(("video", "label"), str), ("t_start", "t_end")
    try:
        table = pd.read_csv(
            path,
            keep_default_na=False,
            float_precision="round_trip",
            dtype=texts | dict.fromkeys(numbers, float),
        )[columns]
        eval_detection.check(table, path, columns)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(path, f"no readable table ({error})", "that of a finished run") from None
    return table


def describe(folder, o, made, truth, ambiguous):
    """Writes what `read` reads but for the scores: the options, the records of the processes that
    the weights come from, and the ground truth.
    """
    tables.write_json(folder / "opts.json", dataclasses.asdict(o))
    tables.write_json(folder / run_folder.RECORDS, made)
    tables.write_csv(folder / TRUTH, truth)
    tables.write_csv(folder / AMBIGUOUS, ambiguous)


# ---- a folder that is written whole
@contextlib.contextmanager
def new_folder(place):
    """A hidden folder to write in, which takes the name `place` when the block ends well.

    Nothing is left of a block that fails, and what a killed process has left is removed. InputError
    where something is there, and where another process writes there.
    """
    place = Path(os.path.realpath(place))  # of a link, the folder that it leads to
    place.parent.mkdir(parents=True, exist_ok=True)
    hidden = place.with_name(f".{file_name(place.name)}.partial")
    with alone(place):
        if place.suffix in (".json", ".csv") or place.exists() and not place.is_dir():
            raise InputError(place, "the name of a file", "a folder to write to")
        if place.exists() and any(place.iterdir()):
            raise InputError(place, "files there", "a new folder to write to")
        shutil.rmtree(hidden, ignore_errors=True)
        hidden.mkdir()
        try:
            yield hidden
            if place.exists():
                place.rmdir()
            os.rename(hidden, place)
        finally:
            shutil.rmtree(hidden, ignore_errors=True)


def place_of(command, folder, words):
    """Where a job on the run in `folder` writes: --out, or a new folder in the run's, which is
    called by the words, and numbered from 2 on.
    """
    name = file_name(re.sub(r"[^\w.-]+", "-", "-".join(words)))
    names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    new = next(folder / name for name in names if not (folder / name).exists())
    return Path(command.out or new)


# ---- localize, evaluate, write
def finish(o, scored, folder, title, export=(), per_class=False, seconds=()):
    """Localizes, evaluates, prints and writes into `folder`; returns the results.

    title: of the page. export: of exports.KINDS. seconds: wall times so far, by section. The
    results: `methods` -> {label, localization counts, `protocols` -> {tious, map, averages, ap by
    class, counts}}, `classification` of each video-level classifier, `seconds`, and what the
    numbers come from. Where no test video has a segment, there are detections and no scores.
    """
    seconds, rule = dict(seconds), rule_of(o)
    names = [one.name for one in scored.records]
    outside = outside_scores(o, names, scored.classes)
    has_log = (scored.run / run_folder.LOG).exists()
    training = run_folder.read_log(scored.run) if has_log else []
    results, found = _source_of_numbers(o, scored, rule), {}
    for name in o.method:
        with timed(seconds, "localization"):
            found[name], counts = localized(o, name, scored, outside)
        with timed(seconds, "evaluation"):
            truth = scored.truth, scored.ambiguous
            protocols = evaluated(*truth, found[name], o.tious, o.protocol)
        label = METHODS[name].title + row_label(o)
        parts = {"label": label, "localization": counts, "protocols": protocols}
        results["methods"][name] = parts
    results["seconds"] = {name: round(value, 3) for name, value in seconds.items()}

    theirs = published.published_rows(o.dataset, [METHODS[name].title for name in o.method])
    blocks = summary.page(results, theirs, published.NOTE)
    log.info(summary.as_text(blocks, per_class=per_class))
    tables.write_text(folder / "table.md", summary.as_markdown(blocks))
    for name, table in found.items():
        for suffix in (".json", ".csv"):
            detections.write_detections(table, folder / f"{stem_of(o, name)}{suffix}")
    first = found[o.method[0]]
    durations = {one.name: one.duration for one in scored.records}
    for kind in export:
        exports.write_export(kind, folder / f"{kind}.json", first, durations)
    shown = [shown_method(o, name, scored, outside, found[name], results) for name in o.method]
    title = f"{', '.join(METHODS[name].title for name in o.method)}: {title}"
    about = title, header(results), summary.map_tables(results, theirs), summary.notes(blocks)
    data = scored.classes, scored.records, shown, scored.truth, scored.ambiguous
    page.write_page(folder / PAGE, page.About(*about), *data, log=_titled(training))
    tables.write_json(folder / "results.json", results)  # last: it says that all is there
    return results


def _titled(training):
    """The records of a run's log with the titles of the methods in place of their names."""
    titles = {name: method.title for name, method in METHODS.items()}
    return [{**line, "stage": titles.get(line["stage"], line["stage"])} for line in training]


def shown_method(o, name, scored, outside, table, results):
    """page.Method of one method. table: its detections; results: as `finish` returns them."""
    rule, method, mine = rule_of(o), METHODS[name], results["methods"][name]
    gated = list(apply.class_scores(name, scored.records, o.video_classifier, outside))
    fused = name == "em-mil"  # the curves are made of Q and P

    def again(lam, gamma):
        other = dataclasses.replace(rule, lam=lam, gammas=(gamma,))
        return localize.table(apply.localized(name, gated, scored.classes, other))[0]

    def curves(record, of_video):
        passed = [] if of_video is None else localize.gate(of_video, rule.gate).tolist()
        if not hasattr(method, "curves"):
            return page.Curves(np.zeros((0, 0)), np.zeros((0, 0)), passed)
        values = method.curves(record, rule)
        own = (record.scores[name][key] for key in "qp") if fused else ()
        return page.Curves(values, method.levels(values, rule), passed, *own)

    shown = (curves(*item) for item in gated)
    return page.Method(
        mine["label"], table, mine["protocols"], shown, rule, again if fused else None
    )


def say_where(folder):
    log.info(f"\nFiles: {folder}/\nTo look at: {folder / PAGE}")


def outside_scores(o, names, classes):
    """--video-scores as (N, C) for the videos `names`, or None."""
    if not o.video_scores:
        return None
    return video_scores.read_video_scores(o.video_scores, names, classes)


def localized(o, name, scored, outside):
    """(detections, counts) of the method `name`, see localize.table. outside: (N, C) video-level
    scores from a file, or None.
    """
    gated = apply.class_scores(name, scored.records, o.video_classifier, outside)
    return localize.table(apply.localized(name, gated, scored.classes, rule_of(o)))


def evaluated(truth, ambiguous, table, tious, protocol):
    """{protocol: its results} of a table of detections; protocol: of eval_detection.PROTOCOLS, or
    "all". {} where there is no segment.
    """
    results, protocols = {}, eval_detection.PROTOCOLS if protocol == "all" else (protocol,)
    for name in protocols if len(truth) else ():
        try:
            e = eval_detection.score(truth, table, tious, name, ambiguous)
        except ValueError as error:  # eval_detection knows no InputError: it can be copied alone
            raise InputError(error) from None
        results[name] = {
            "tious": e.tious.tolist(),
            "map": e.map.tolist(),
            "averages": eval_detection.distinct_averages(e.tious, e.map),
            "counts": e.counts,
            "ap": dict(zip(e.classes, e.ap.T.tolist())),
            "segments": dict(zip(e.classes, e.n_segments.tolist())),
        }
    return results


def _source_of_numbers(o, scored, rule):
    """The results before any method: code, data, options, and how well the classifiers do."""
    here, made = run_folder.checkout(), scored.made
    # where the set lies and what computes it change no number
    apart, differs = opts.names("files", "machine"), opts.different(o, made["processes"])
    return {
        "code": here["code"],
        "commit": record.commit_of(here),
        "local_changes": here["dirty"],
        "dataset": o.dataset,
        "features": o.features,
        "annotations": o.annotations,
        "seed": o.seed,
        "recipe": opts.recipe_of(o, made["processes"]),
        "differs": [text for name, text in differs.items() if name not in apart],
        "rule": {**dataclasses.asdict(rule), "gammas": list(rule.gammas)},
        "run": str(scored.run),
        "trained": f"on {record.trained_on(made)}; code {made['code']}",
        "classes_from": _classes_from(o),
        "train": {"labels_per_video": made["labels_per_video"]},
        "test": {
            "videos": len(scored.records),
            "segments": len(scored.truth),
            "classes": len(set(scored.truth["label"])),
            "ambiguous": len(scored.ambiguous),
        },
        "methods": {},
        "classification": apply.classification(scored.records),
    }


def header(results):
    """(name, value) of what the page's numbers come from."""
    names = "dataset features annotations seed recipe".split()
    return [
        *((name, str(results[name]) or "none") for name in names),
        ("options that differ from the preset", ", ".join(results["differs"]) or "none"),
        ("run", results["run"]),
        ("trained", results["trained"]),
        ("code", f"{results['code']}, commit {results['commit']}"),
        ("made", f"{datetime.datetime.now():%Y-%m-%d %H:%M}"),
    ]


def rule_of(o):
    return localize.Rule(
        lam=o.lam,
        gammas=o.gammas_at_test,
        gate=o.gate,
        score=o.proposal_score,
        video_weight=o.video_weight,
        nms=o.nms,
        soft=o.soft_nms,
    )


def _classes_from(o):
    """Where the classes of a test video come from, for methods that are no classifiers; None where
    there is none.
    """
    if o.video_scores:
        return Path(o.video_scores).name
    own = all(METHODS[name].classifies for name in o.method)
    return None if own and o.video_classifier != "oracle" else o.video_classifier


def row_label(o):
    """What a row's label adds where a test video's classes are not the method's own or its
    classifier's.
    """
    if o.video_scores:
        return f" (classes from {Path(o.video_scores).name})"
    return " (oracle classes)" if o.video_classifier == "oracle" else ""


def stem_of(o, name):
    """What the files of the method's detections are called, but for the suffix."""
    return "detections" if name == o.method[0] else f"detections-{name}"


@contextlib.contextmanager
def timed(seconds, name):
    began = time.perf_counter()
    yield
    seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - began
