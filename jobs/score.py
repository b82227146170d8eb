"""The command of eval_detection.py: two files in, mAP under the protocols out."""

from pathlib import Path

import numpy as np

import eval_detection
import opts
from formats import annotations, detections, names
from formats.files import InputError, some
from formats.program import log, program
from jobs import results, setup
from report import tables


def main(argv=None):
    """Runs the command line `argv`, by default the program's; returns the results as a dict."""
    with program(last=argv is None):
        args = _parser().parse_args(argv)
        truth = annotations.load(args.ground_truth)
        subset = _subset(truth, args.subset)
        videos = annotations.in_subset(truth, subset)
        found = _detections(args.detections, truth, videos, subset)
        ambiguous, source = _ambiguous(args.ambiguous, truth, found)
        everywhere = dict.fromkeys([*truth.videos.index, *found["video"]])
        meant = names.match_names(everywhere, args.exclude_video)
        if unknown := set(args.exclude_video) - set(meant.values()):
            expected = f"videos such as {some(videos.index, 3)}"
            raise InputError("--exclude-video", some(sorted(unknown)), expected)
        videos = videos[~videos.index.isin(list(meant))]
        found = found[~found["video"].isin(meant)]
        scored = [name for name in everywhere if name not in meant]
        ambiguous = detections.ambiguous_in(scored, ambiguous, source)
        table = truth.only(videos.index).segments
        if not len(table):
            where = f"no segment in {len(videos)} videos of subset {subset}"
            raise InputError(args.ground_truth, where, "some")
        annotations.warn_unscored(truth, videos)
        if in_frames := annotations.unit_problem(truth.path, table, videos["duration"]):
            log.warning(in_frames)
        words = {kind: word for kind, (word, _) in eval_detection.KINDS.items()}
        protocols = results.evaluated(table, ambiguous, found, args.tiou, args.protocol)
        for name, e in protocols.items():
            kinds = eval_detection.error_profile(table, found, 0.5, name, ambiguous)
            e["errors"] = {words.get(kind, kind): n for kind, n in kinds.items()}
        about = {
            "ground_truth": args.ground_truth,
            "subset": subset,
            "excluded_videos": sorted(meant),
            "videos": len(videos),
            "ambiguous_segments": len(ambiguous),
            "detections_file": args.detections,
            "detections": len(found),
            "detections_outside": int((~found["video"].isin(videos.index)).sum()),
            "protocols": protocols,
        }
        _print(about, args.per_class)
        if args.json:
            tables.write_json(args.json, about)
    return about


def _parser():
    parser = opts.Parser(
        "eval_detection.py GROUND_TRUTH DETECTIONS",
        "mAP of temporal detections under the protocols of ActivityNet and of both THUMOS14 kits.\n"
        "Videos that papers leave out of THUMOS14's test set: video_test_0000270,\n"
        "video_test_0001292, video_test_0001496 (see the head of eval_detection.py).\n"
        "ActivityNet's thresholds: --tiou $(seq 0.5 0.05 0.95)",
    )
    add, protocols = parser.add_argument, [*eval_detection.PROTOCOLS, "all"]
    add("ground_truth", help="annotations: JSON, CSV, THUMOS14's or W-TALC's folder")
    add("detections", help="ActivityNet result .json, .csv, or .txt of the THUMOS14 kit")
    tious = eval_detection.TIOUS
    add("--tiou", nargs="+", type=float, default=tious, metavar="T", help="[0.1 0.2 ... 0.7]")
    text = "of the ground truth [the only one with segments, else test, else validation]"
    add("--subset", metavar="NAME", help=text)
    add("--protocol", choices=protocols, default=protocols[0], help=f"[{protocols[0]}]")
    text = (
        "Ambiguous segments for the thumos protocols, .csv or .txt [those of the ground truth's "
        "folder, or ambiguous.csv beside a ground truth in CSV]"
    )
    add("--ambiguous", metavar="FILE", help=text)
    many = dict(nargs="+", action="extend", default=[])
    add("--exclude-video", metavar="NAME", help="videos to leave out", **many)
    add("--per-class", action="store_true", help="every class, not the five best and worst")
    add("--json", metavar="OUT", help="write all results to this file")
    return parser


def _subset(truth, asked):
    """The subset to score: the one asked for, or the only one with segments, else the test, else
    the validation one.
    """
    if asked is not None:
        return asked
    _, annotated = annotations.subset_names(truth)
    subset = annotated[0] if len(annotated) == 1 else names.choose_test(annotated, annotated)
    if subset is None:
        found = f"the subsets {some(annotated) or 'without segments'}"
        raise InputError(truth.path, found, "--subset to name one")
    return subset


def _detections(path, truth, videos, subset):
    """The detections of known classes, under the names of the ground truth."""
    read = setup.valid(detections.read_detections(path), path, eval_detection.DETECTION)
    read = detections.with_known_names(read, path, truth.videos.index)
    found = detections.with_known_labels(read, path, truth.classes)
    if len(read) and not len(found):
        expected = f"classes of {truth.path}, such as {some(truth.classes)}"
        raise InputError(path, f"classes such as {some(sorted(set(read['label'])))}", expected)
    if len(found) and set(videos.index).isdisjoint(found["video"]):
        there = sorted(set(found["video"]))
        elsewhere = sum(name in truth.videos.index for name in there)
        hint = f" ({elsewhere} of another subset: see --subset)" if elsewhere else ""
        expected = (
            f"videos of subset {subset} of {truth.path}, such as {some(videos.index, 3)}{hint}"
        )
        raise InputError(path, f"videos such as {some(there)}", expected)
    annotations.warn_outside(path, found, videos["duration"], 2, share=0.05, what="detection")
    if in_frames := annotations.unit_problem(path, found, videos["duration"], "detection"):
        log.warning(in_frames)
    return found


def _ambiguous(path, truth, found):
    """(segments, their file or None): of the file, else of the annotations, else of ambiguous.csv
    beside those in CSV.
    """
    beside = Path(truth.path).with_name("ambiguous.csv")
    if path is None and Path(truth.path).suffix.lower() == ".csv" and beside.exists():
        path = beside
    ambiguous = truth.ambiguous if path is None else setup.read_ambiguous(path)
    return ambiguous, path


def _print(r, per_class):
    """Prints the results; the table of mAP, which matters most, comes last."""
    first = next(iter(r["protocols"].values()))
    counts = first["counts"]
    log.info(
        f"ground truth  {r['ground_truth']}, subset {r['subset']}: {r['videos']:,} videos, "
        f"{counts['videos']:,} of them with {counts['segments']:,} segments, "
        f"{counts['classes']} classes; Ambiguous segments: {r['ambiguous_segments']:,}"
    )
    if r["excluded_videos"]:
        log.info(f"              left out: {', '.join(r['excluded_videos'])}")
    log.info(
        f"detections    {r['detections_file']}: {r['detections']:,}; {r['detections_outside']:,} "
        f"in videos outside the subset, never hits; {counts['unscored_detections']:,} of classes "
        "without a segment there, not scored"
    )
    for name, e in r["protocols"].items():
        labels, ap = list(e["ap"]), np.array([*e["ap"].values()]).T  # (T, C)
        shown = range(len(labels)) if per_class else eval_detection.classes_to_show(ap)
        part = (
            "" if len(shown) == len(labels) else f", the {len(shown)} best and worst (--per-class)"
        )
        table = [["AP (%) at tIoU", *map(tables.column_name, e["tious"]), "segments"]]
        for label, values in ((labels[c], ap[:, c]) for c in shown):
            table.append([label, *map(tables.mean_std, values), str(e["segments"][label])])
        log.info("\n" + tables.block(f"{name}, by class{part}", table, tables.text))
        kinds = ", ".join(f"{n:,} {kind}" for kind, n in e["errors"].items())
        log.info(f"\n{name}, what the detections are at tIoU 0.5: {kinds}")
    rows = {
        name: dict(zip(e["tious"], e["map"])) | e["averages"] for name, e in r["protocols"].items()
    }
    log.info("\n" + tables.text(tables.map_table(rows)))
