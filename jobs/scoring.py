"""From scores of clips to detections, tables and the page, for a run, --evaluate, --predict."""

import contextlib
import dataclasses
import datetime
import time
from pathlib import Path

import pandas as pd

import eval_detection
import localize
import opts
from engine import run_folder
from formats import detections, exports
from formats.files import InputError
from jobs import setup
from jobs.run_record import commit_of, trained_on
from methods import METHODS, apply
from report import outcome, published, summary, tables
from report.page import About

PAGE = "report.html"


@dataclasses.dataclass(frozen=True)
class Source:
    """What scores and tables come from."""

    folder: Path  # of the run
    record: dict  # of the training, see jobs.run_record
    checkout: dict  # code, commit and dirty of the process that localizes


@dataclasses.dataclass(frozen=True)
class Scored:
    """A set of test videos with the scores of their clips, and what they are held to."""

    records: list  # of clip_scores.Record
    classes: tuple
    # segments; None where there are no annotations (--predict)
    truth: pd.DataFrame | None = None
    ambiguous: pd.DataFrame | None = None


def finish(o, command, source, out, scored, say, seconds):
    """Localizes, evaluates, prints and writes into `out`; returns the results.

    seconds: wall times so far, by section. The results: `methods` -> {label, localization counts,
    `protocols` -> {tious, map, averages, ap by class, counts}}, `classification` of each
    video-level classifier, `seconds`, and what the numbers come from. Where no test video has a
    segment, there are detections and no scores.
    """
    names = [record.name for record in scored.records]
    outside = setup.outside_scores(o, names, scored.classes)
    out.mkdir(parents=True, exist_ok=True)
    results = _source_of_numbers(o, source, scored)
    found = {}
    for name in o.method:
        with timed(seconds, "localization"):
            found[name], counts = localize.table(localized(o, name, scored, outside))
        with timed(seconds, "evaluation"):
            protocols = _evaluated(o, scored, found[name]) if len(scored.truth) else {}
        results["methods"][name] = {
            "label": METHODS[name].title + row_label(o),
            "localization": counts,
            "protocols": protocols,
        }
    results["seconds"] = {name: round(value, 3) for name, value in seconds.items()}

    theirs = published.published_rows(o.dataset, [METHODS[name].title for name in o.method])
    blocks = summary.page(results, theirs, published.NOTE)
    say(summary.as_text(blocks, per_class=command.per_class))
    tables.write_text(out / "table.md", summary.as_markdown(blocks))
    _write_found(o, command.export, out, scored, found)
    first = found[o.method[0]]
    there = (source.folder / run_folder.LOG).exists()
    log = run_folder.read_log(source.folder) if there else []
    title = f"{METHODS[o.method[0]].title}: {o.dataset}, seed {o.seed}"
    outcome.write_page(
        out / PAGE,
        About(title, header(o, source), *summary.for_page(blocks)),
        scored,
        first,
        outcome.page_scores(class_scores(o, o.method[0], scored, outside), o.gate),
        rule_of(o),
        outcome.evaluation(scored, first, results["methods"][o.method[0]]["protocols"]),
        log,
    )
    say(f"\nFiles: {out}/\nTo look at: {out / PAGE}")
    return results


def _source_of_numbers(o, source, scored):
    """The results before any method: code, data, options, and how well the classifiers do."""
    return {
        "code": source.checkout["code"],
        "local_changes": source.checkout["dirty"],
        "dataset": o.dataset,
        "features": o.features,
        "seed": o.seed,
        "recipe": opts.recipe_of(o, source.record["processes"]),
        "rule": {**dataclasses.asdict(rule_of(o)), "gammas": list(o.gammas_at_test)},
        "run": str(source.folder),
        "classes_from": _classes_from(o),
        "train": {"labels_per_video": source.record["labels_per_video"]},
        "test": {
            "videos": len(scored.records),
            "segments": len(scored.truth),
            "classes": len(set(scored.truth["label"])),
            "ambiguous": len(scored.ambiguous),
        },
        "methods": {},
        "classification": apply.classification(scored.records),
    }


def _write_found(o, export, out, scored, found):
    """The detections of each method, those of the first also in other forms, and EM-MIL's
    pictures.
    """
    for name, table in found.items():
        write_detections(table, out / stem_of(o, name))
    first = found[o.method[0]]
    durations = {record.name: record.duration for record in scored.records}
    for kind in export:
        exports.write_export(kind, out / f"{kind}.json", first, durations)
    if "em-mil" in found:
        outcome.draw(out, scored, found["em-mil"], o.pictures, rule_of(o))


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


def class_scores(o, name, scored, outside):
    """methods.apply.class_scores with the classifier of the options."""
    return apply.class_scores(name, scored.records, o.video_classifier, outside)


def localized(o, name, scored, outside):
    """(rows, counts) of each video by the method `name`, for localize.table."""
    gated = class_scores(o, name, scored, outside)
    return apply.localized(name, gated, scored.classes, rule_of(o))


def _evaluated(o, scored, table):
    """{protocol: its results} of one method's detections."""
    protocols = eval_detection.PROTOCOLS if o.protocol == "all" else (o.protocol,)
    results = {}
    for protocol in protocols:
        try:
            e = eval_detection.score(scored.truth, table, o.tious, protocol, scored.ambiguous)
        # eval_detection knows no InputError: it can be copied alone
        except ValueError as error:
            raise InputError(error) from None
        results[protocol] = {
            "tious": e.tious.tolist(),
            "map": e.map.tolist(),
            "averages": eval_detection.distinct_averages(e.tious, e.map),
            "counts": e.counts,
            "ap": dict(zip(e.classes, e.ap.T.tolist())),
            "segments": dict(zip(e.classes, e.n_segments.tolist())),
        }
    return results


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


def write_detections(table, stem):
    for suffix in (".json", ".csv"):
        detections.write_detections(table, stem.with_name(stem.name + suffix))


def header(o, source):
    """(name, value) of what the page's numbers come from."""
    trained, here = source.record, source.checkout
    changed = opts.different_options(o, trained["processes"]).values()
    return [
        ("dataset", o.dataset),
        ("features", o.features),
        ("seed", str(o.seed)),
        ("recipe", opts.recipe_of(o, trained["processes"])),
        ("options that differ from the preset", ", ".join(changed) or "none"),
        ("run", str(source.folder)),
        ("trained", f"on {trained_on(trained)}; code {trained['code']}"),
        ("code", f"{here['code']}, commit {commit_of(here)}"),
        ("made", f"{datetime.datetime.now():%Y-%m-%d %H:%M}"),
    ]


@contextlib.contextmanager
def timed(seconds, name):
    began = time.perf_counter()
    yield
    seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - began
