"""Average precision of temporal detections under the three protocols of the field, each equal to
its official program.

    python eval_detection.py GROUND_TRUTH DETECTIONS --protocol all

Tables. Ground truth and detections are pandas tables with the columns `video, t_start, t_end,
label[, score]`; times in seconds, labels are class names.

Rules. Each class is scored on its own. A true positive is a detection matched to a ground-truth
segment of its class and video, one to one; every other detection is a false positive, also in a
video without any ground truth. AP sums up precision along the list of detections sorted by score;
mAP is the mean over the classes that have ground truth, and such a class without any detection has
AP 0.

| protocol    | who chooses, in which order  | takes, of those still free   | if      |
|-------------|------------------------------|------------------------------|---------|
| activitynet | detections, best score first | the segment with most tIoU   | >= tIoU |
| thumos-2015 | ground truths, order of rows | the detection with most tIoU | > tIoU  |
| thumos-2014 | ground truths, order of rows | the detection with most tIoU | > tIoU  |

AP is the area under the envelope of the precision-recall curve (`activitynet`), the sum of the
precision at the hits over the number of ground truths (`thumos-2015`), or interpolated at 11 points
(`thumos-2014`).

- `activitynet`: the ActivityNet toolkit, `eval_detection.py`. Ambiguous segments play no
  part.
- `thumos-2015`: the THUMOS14 evaluation kit as updated on 2015-09-30, `TH14eventdetpr.m`. A
  false positive that overlaps an Ambiguous segment of its video, however little, is removed
  from the list.
- `thumos-2014`: the kit of the 2014 challenge; Ambiguous segments as in 2015.

Order. Nothing depends on an unstable sort. At equal scores `activitynet` keeps the order of the
rows, `thumos-2015` sorts by video name and then keeps the order of the rows, `thumos-2014` puts
true positives first. At equal tIoU a ground truth (thumos) takes the detection with the higher
score, and at equal scores the one of the earlier row: the kits sort by score before `max`. At equal
tIoU a detection (`activitynet`) takes the ground truth of the later row, as the toolkit's reversed
ascending sort does. The toolkit's own sorts are unstable, so that at equal scores or equal tIoU its
AP is one of several, depending on NumPy and the processor.

Zero length. A zero-length segment overlaps nothing, so no detection finds it, with one exception:
under `activitynet` a zero-length detection of its class finds it at every threshold, wherever in
the video the two are. The toolkit's tIoU of the two is 0 / 0 = NaN, and NaN is not below any
threshold.

Rows are never merged: two equal ground-truth rows are two segments to find, two equal detections
are a hit and a double detection. That is what all three programs do. Duplicate names are refused: a
video twice in a JSON file, a class twice in `classes`.

The test set of THUMOS14 is not one set. Published numbers are on 213, 212, 211 or 210 videos.
Nothing is left out here unless `--exclude-video` names it, and the header of the command says what
was scored:

- 213 videos are in the kit's folder, 212 of them with 3,358 segments of the 20 classes:
  `video_test_0001292` has Ambiguous segments only. Detections in it can only be false
  positives, so leaving it out can change the AP.
- `video_test_0000270` (HammerThrow): its 29 segments run up to 713.7 s, the video ends
  after 176.2 s, so that most cannot be found. Without it 211 videos and 3,329 segments
  remain.
- `video_test_0001496`: its video-level label is FrisbeeCatch, its 18 segments are
  CricketShot. Without it and the former remain 210 videos and 3,311 segments, the set of
  `gt-210test.json`.
"""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

PROTOCOLS = ("activitynet", "thumos-2014", "thumos-2015")
TIOUS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
KINDS = {  # of detections, after DETAD (Alwassel et al., ECCV 2018): name: (word, explanation)
    "true positive": ("hit", "matched to a segment of its class"),
    "double detection": ("double", "enough overlap, but the segment has its hit"),
    "localization": ("shifted", "right class, too little overlap (0.1 or more)"),
    "wrong label": ("wrong class", "enough overlap with another class"),
    "confusion": ("wrong class and shifted", "another class, too little overlap (0.1 or more)"),
    "background": ("background", "overlap below 0.1 with every segment"),
    "ignored": ("ignored", "false, but on an Ambiguous segment: not counted"),
    "": ("not scored", "class without a segment in the ground truth"),
}
INTERVAL = (2.5, 97.5)  # percent of the draws of `bootstrap`
PAIRS_AT_ONCE = 1 << 21  # pairs of detection and segment looked at in one go, about 150 MB
SEGMENT = ["video", "t_start", "t_end"]
DETECTION = SEGMENT + ["label", "score"]


# ---- evaluation
@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` returns: T tIoU thresholds, C classes.

    `ap` (T, C) and `map` (T,) are fractions, not percent; `n_segments` (C,) ground truths
    per class. `counts`: `segments`, `videos` with segments, `classes` with segments,
    `detections` scored, and `unscored_detections`, those of a class that has no ground
    truth or is not among `classes`.
    """

    protocol: str
    tious: np.ndarray
    classes: tuple
    ap: np.ndarray
    map: np.ndarray
    n_segments: np.ndarray
    counts: dict


def evaluate(ground_truth, detections, tious, protocol="activitynet", ambiguous=None, classes=None):
    """AP of every class and mAP at every tIoU threshold; the module's docstring has the rules.

    ground_truth, detections: tables as in the module's docstring; the detections' `score` column
        is finite.
    tious: one threshold or T of them, in (0, 1].
    ambiguous: table `video, t_start, t_end` of segments that forgive false positives (thumos
        protocols only).
    classes: the classes to score, in the order of `.ap`'s columns; by default the sorted classes
        of the ground truth. One without ground truth gets NaN and is left out of the mean; rows
        of other classes are left out.
    Detections of a class without ground truth cannot change any AP: they are counted in `.counts`,
    not refused. Without any detection every AP is 0.

    Returns an `Evaluation`. Raises ValueError for a missing column, NaN or infinite times or
    scores, an end before its start, missing names, thresholds outside (0, 1], an unknown protocol,
    duplicate classes, no ground truth at all, and for detections without a video, or without a
    class, in common with the ground truth: the names are then spelled differently. With `classes`
    given, a class without any detection is no error.
    """
    result = score(ground_truth, detections, tious, protocol, ambiguous, classes)
    for column in ["video", "label"] if classes is None else ["video"]:
        known, found = (table[column].unique().tolist() for table in (ground_truth, detections))
        if found and set(known).isdisjoint(found):
            known, found = (", ".join(map(repr, names[:3])) for names in (known, found))
            raise bad_input(
                f"detections: found {column}s such as {found}, none of them in the ground truth, "
                f"expected {column}s such as {known}"
            )
    return result


def score(ground_truth, detections, tious, protocol="activitynet", ambiguous=None, classes=None):
    """`evaluate` for tables whose names are known to fit, such as a run's own.

    Detections without a video or a class in common with the ground truth are no error: AP is 0.
    """
    tious = np.atleast_1d(np.asarray(tious, dtype=float))
    if tious.ndim != 1 or not len(tious) or not np.all((tious > 0) & (tious <= 1)):
        raise bad_input(f"tIoU: found {tious.tolist()}, expected thresholds in (0, 1]")
    found = match(ground_truth, detections, tious, protocol, ambiguous, classes)
    average_precision = AVERAGE_PRECISION[protocol]

    ap = np.full((len(tious), len(found.classes)), np.nan)
    edges = np.searchsorted(found.label, np.arange(len(found.classes) + 1))
    for c, (first, last) in enumerate(zip(edges[:-1], edges[1:])):
        if found.n_segments[c]:
            hit = found.hit[:, first:last]
            counted = hit | ~found.forgiven[first:last]
            ap[:, c] = average_precision(hit, counted, found.score[first:last], found.n_segments[c])

    scored = found.n_segments > 0
    own = ground_truth["label"].isin(
        [name for name, n in zip(found.classes, found.n_segments) if n]
    )
    n_scored = int(scored[found.label].sum())
    counts = {
        "videos": int(ground_truth["video"][own].nunique()),
        "segments": int(found.n_segments.sum()),
        "classes": int(scored.sum()),
        "detections": n_scored,
        "unscored_detections": len(detections) - n_scored,
    }
    return Evaluation(
        protocol, tious, found.classes, ap, ap[:, scored].mean(axis=1), found.n_segments, counts
    )


def averages(tious, values):
    """Mean of values (T,) over all tious (`all`) and over 0.1:0.5, 0.3:0.7, 0.1:0.7 (step
    0.1) where all are given."""
    tious, values = np.asarray(tious, dtype=float), np.asarray(values, dtype=float)
    means = {"all": float(values.mean())}
    for first, last in ((1, 5), (3, 7), (1, 7)):
        members = [
            np.flatnonzero(np.isclose(tious, tenth / 10)) for tenth in range(first, last + 1)
        ]
        if all(len(at) for at in members):
            means[f"0.{first}:0.{last}"] = float(np.mean([values[at[0]] for at in members]))
    return means


def distinct_averages(tious, values):
    """`averages` without `all` where 0.1:0.7 is the same mean."""
    means = averages(tious, values)
    if len(tious) == 7 and "0.1:0.7" in means:
        del means["all"]
    return means


def main_tiou(tious):
    """The threshold nearest to 0.5, at which classes and errors are shown."""
    return min(tious, key=lambda tiou: abs(tiou - 0.5))


@dataclass(frozen=True)
class Matching:
    """n detections of the scored classes, class by class, in the protocol's order within a class.

    `rows` (n,) rows of the detections table, `label` (n,) class index, `score` (n,), `hit` (T, n)
    true positive, `forgiven` (n,) removed from the list where it is no hit; `n_segments` (C,);
    `found` (T, G) rows of the ground truth that a true positive is matched to.
    """

    classes: tuple
    n_segments: np.ndarray
    rows: np.ndarray
    label: np.ndarray
    score: np.ndarray
    hit: np.ndarray
    forgiven: np.ndarray
    found: np.ndarray


def match(ground_truth, detections, tious, protocol, ambiguous=None, classes=None):
    """Matches detections to ground truth at T thresholds; a `Matching`.

    Arguments and errors as in `evaluate`.
    """
    thumos = protocol != "activitynet"
    if ambiguous is None or not thumos:
        ambiguous = pd.DataFrame(columns=SEGMENT)
    classes = _checked_classes(ground_truth, detections, protocol, ambiguous, classes)
    gt_label = pd.Index(classes, dtype=object).get_indexer(ground_truth["label"])
    if not np.any(gt_label >= 0):
        raise bad_input(
            "ground truth: found no segment of the classes to score, expected at least one"
        )
    label = pd.Index(classes, dtype=object).get_indexer(detections["label"])
    gt_video, video, ambiguous_video = _video_codes(ground_truth, detections, ambiguous)
    n_videos = 1 + max(part.max(initial=0) for part in (gt_video, video, ambiguous_video))

    score = detections["score"].to_numpy(dtype=float)
    order = np.lexsort((video, -score, label) if protocol == "thumos-2015" else (-score, label))
    order = order[label[order] >= 0]
    start, end = _times(detections)
    start, end, group = start[order], end[order], (label * n_videos + video)[order]

    gt_group = gt_label * n_videos + gt_video  # negative, no detection's, where it is not scored
    det, gt, tiou = tiou_pairs(
        group, start, end, gt_group, *_times(ground_truth), protocol, min(tious)
    )

    # One list of choices per chooser, best first; thresholds are independent, so each has
    # its own copy of everyone.
    best_first = np.lexsort((det, -tiou, gt) if thumos else (-gt, -tiou, det))
    det, gt, tiou = det[best_first], gt[best_first], tiou[best_first]
    level, pair = np.nonzero(_reaches(tiou, tious[:, None], protocol))
    det, gt = level * len(order) + det[pair], level * len(ground_truth) + gt[pair]
    made = serial_choice(gt, det) if thumos else serial_choice(det, gt)
    hit = np.zeros((len(tious), len(order)), dtype=bool)
    hit.flat[det[made]] = True
    found = np.zeros((len(tious), len(ground_truth)), dtype=bool)
    found.flat[gt[made]] = True

    forgiven = np.zeros(len(order), dtype=bool)
    touched, _, _ = tiou_pairs(
        video[order], start, end, ambiguous_video, *_times(ambiguous), protocol, 0.0
    )
    forgiven[touched] = True
    n_segments = np.bincount(gt_label[gt_label >= 0], minlength=len(classes))
    return Matching(classes, n_segments, order, label[order], score[order], hit, forgiven, found)


def _checked_classes(ground_truth, detections, protocol, ambiguous, classes):
    """The classes to score, after checks of everything that `match` gets."""
    if protocol not in PROTOCOLS:
        raise bad_input(f"protocol: found {protocol!r}, expected one of {', '.join(PROTOCOLS)}")
    check(ground_truth, "ground truth", SEGMENT + ["label"])
    check(detections, "detections", DETECTION)
    check(ambiguous, "Ambiguous segments", SEGMENT)
    if classes is None:
        return tuple(sorted(set(ground_truth["label"])))
    twice = len(classes) - len(set(classes))
    if twice:
        raise bad_input(f"classes: found {twice} duplicate names, expected each class once")
    return tuple(classes)


def tiou_pairs(group, start, end, gt_group, gt_start, gt_end, protocol, least):
    """All (detection, segment) pairs of one group that overlap, with a tIoU of at least `least`.

    group, start, end (N,): detections; gt_group, gt_start, gt_end (G,): segments.
    Returns detection indices, segment indices and tIoU, (P,) each. The quotient is the official
    program's to the last bit: intersection over the sum of lengths less the intersection, or over
    the extent of both (thumos kits). Two zero-length intervals are a pair under `activitynet` only;
    their tIoU is NaN.
    """
    gt_order = np.argsort(gt_group, kind="stable")
    gt_group = gt_group[gt_order]
    first = np.searchsorted(gt_group, group, side="left")
    count = np.searchsorted(gt_group, group, side="right") - first  # (N,)
    upto = np.cumsum(count)
    cuts = np.searchsorted(upto, np.arange(PAIRS_AT_ONCE, count.sum(), PAIRS_AT_ONCE), side="right")
    cuts = np.unique(np.concatenate(([0], cuts, [len(group)])))
    kept = [(np.empty(0, dtype=int), np.empty(0, dtype=int), np.empty(0))]
    for low, high in zip(cuts[:-1], cuts[1:]):
        n = count[low:high]
        det = np.repeat(np.arange(low, high), n)
        gt = gt_order[np.arange(len(det)) + np.repeat(first[low:high] - (np.cumsum(n) - n), n)]
        shared = np.minimum(end[det], gt_end[gt]) - np.maximum(start[det], gt_start[gt])
        pair = shared > 0
        if protocol == "activitynet":
            pair |= (start[det] == end[det]) & (gt_start[gt] == gt_end[gt])
        det, gt, shared = det[pair], gt[pair], shared[pair].clip(0)
        if protocol == "activitynet":
            whole = (gt_end[gt] - gt_start[gt]) + (end[det] - start[det]) - shared
        else:
            whole = np.maximum(end[det], gt_end[gt]) - np.minimum(start[det], gt_start[gt])
        with np.errstate(invalid="ignore"):  # 0 / 0
            tiou = shared / whole
        near = ~(tiou < least)
        kept.append((det[near], gt[near], tiou[near]))
    return tuple(np.concatenate(part) for part in zip(*kept))


def serial_choice(chooser, chosen):
    """Choosers in ascending order each take the first of their choices that is still free.

    chooser, chosen (P,): the pairs, sorted by chooser, and for each chooser the best choice first.
    Returns the indices of the pairs so made.
    """
    served, taken, made = set(), set(), []
    for pair, (one, choice) in enumerate(zip(chooser.tolist(), chosen.tolist())):
        if one not in served and choice not in taken:
            served.add(one)
            taken.add(choice)
            made.append(pair)
    return np.array(made, dtype=int)


def _reaches(tiou, threshold, protocol):
    return ~(tiou < threshold) if protocol == "activitynet" else tiou > threshold


def _ap_all_points(hit, counted, score, n_segments):
    """ActivityNet, `interpolated_prec_rec`: each ground truth found adds 1/#GT of the best
    precision from there on."""
    precision = np.cumsum(hit, axis=1) / np.arange(1, hit.shape[1] + 1)  # (T, n)
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    return (best * hit).sum(axis=1) / n_segments


def _ap_at_hits(hit, counted, score, n_segments):
    """THUMOS14 kit of 2015-09-30: sum of precision at each true positive / #GT."""
    precision = np.cumsum(hit, axis=1) / np.maximum(np.cumsum(counted, axis=1), 1)  # (T, n)
    return (precision * hit).sum(axis=1) / n_segments


def _ap_11_points(hit, counted, score, n_segments):
    """THUMOS14 kit of 2014: mean over t = 0, 0.1 ... 1 of the best precision at recall >=
    t; among ties hits first."""
    if not hit.shape[1]:
        return np.zeros(len(hit))
    # (n,) number of the run of equal scores
    tie = np.cumsum(np.diff(score, prepend=score[:1]) != 0)
    hits_first = np.argsort(2 * tie + ~hit, axis=1, kind="stable")
    hit, counted = (np.take_along_axis(x, hits_first, axis=1) for x in (hit, counted))
    hits = np.cumsum(hit, axis=1)  # (T, n)
    precision, recall = hits / np.maximum(np.cumsum(counted, axis=1), 1), hits / n_segments
    # As in the kit's 0:0.1:1, the point 0.3 is 0.1 * 3 = 0.30000000000000004, which a
    # recall of 36/120 does not reach.
    points = [np.where(recall >= 0.1 * tenth, precision, 0).max(axis=1) for tenth in range(11)]
    return np.sum(points, axis=0) / 11


AVERAGE_PRECISION = {
    "activitynet": _ap_all_points,
    "thumos-2014": _ap_11_points,
    "thumos-2015": _ap_at_hits,
}


def _video_codes(*tables):
    """One integer per video name over all tables, in the order of the names; an array per table."""
    names = np.concatenate([table["video"].to_numpy(dtype=object) for table in tables])
    codes, _ = pd.factorize(names, sort=True)
    return np.split(codes, np.cumsum([len(table) for table in tables])[:-1])


def _times(table):
    return table["t_start"].to_numpy(dtype=float), table["t_end"].to_numpy(dtype=float)


def bad_input(message):
    """The ValueError to raise: its message is one line, whatever the names in it."""
    return ValueError("".join(c if c.isprintable() else " " for c in message))


def check(table, source, columns):
    """Raises ValueError, naming source, video and row, unless the table has the columns,
    names in every row, finite numbers, and no end before its start."""
    missing = [name for name in columns if name not in table.columns]
    if missing:
        there = ", ".join(map(str, table.columns))
        raise bad_input(f"{source}: found columns {there}, expected also {', '.join(missing)}")

    def refuse(wrong, what, expected):
        if wrong.any():
            row = int(np.argmax(wrong))
            more = f" and {wrong.sum() - 1:,} more" if wrong.sum() > 1 else ""
            raise bad_input(
                f"{source}: {table['video'].iloc[row]}: found {what(table.iloc[row])} in row "
                f"{row + 1}{more}, expected {expected}"
            )

    for name in columns:
        if name in ("video", "label"):
            refuse(
                table[name].isna().to_numpy(), lambda row: f"no {name}", f"a {name} in every row"
            )
            continue
        try:
            values = table[name].to_numpy(dtype=float)
        except (TypeError, ValueError):
            raise bad_input(
                f"{source}: found a {name} that is no number, expected numbers"
            ) from None
        refuse(~np.isfinite(values), lambda row: f"{name} {row[name]}", "a finite number")
    start, end = _times(table)
    refuse(
        end < start, lambda row: f"end {row['t_end']} before start {row['t_start']}", "start <= end"
    )


# ---- kinds of detections
def detection_kinds(ground_truth, detections, tiou=0.5, protocol="activitynet", ambiguous=None):
    """What every detection is, and which segments are found; after DETAD (Alwassel, ECCV 2018).

    A false positive is judged by the segment of its video, of any class, that it overlaps most
    (its own class on ties): enough tIoU, own class: `double detection`; enough, other class:
    `wrong label`; less but at least 0.1: `localization` or `confusion`; less than 0.1:
    `background`. `ignored` are those that an Ambiguous segment forgives.

    Returns (kinds, found, judged_by), in the order of the tables' rows: kinds (N,) strings, names
    of KINDS; found (G,) True where a true positive is matched to the segment; judged_by (N,) row
    of the segment that is overlapped most, -1 where none is by 0.1. Raises ValueError as
    `evaluate` does.
    """
    found = match(ground_truth, detections, np.array([tiou]), protocol, ambiguous)
    index = pd.Index(found.classes, dtype=object)
    scored = found.n_segments[found.label] > 0
    rows, label, hit, forgiven = (
        part[scored] for part in (found.rows, found.label, found.hit[0], found.forgiven)
    )
    gt_video, video = _video_codes(ground_truth, detections)
    gt_label = index.get_indexer(ground_truth["label"])
    start, end = (times[rows] for times in _times(detections))
    det, gt, overlap = tiou_pairs(
        video[rows], start, end, gt_video, *_times(ground_truth), protocol, min(0.1, tiou)
    )
    own = gt_label[gt] == label[det]
    most = np.lexsort((own, overlap, det))  # each detection's largest overlap comes last
    most = most[np.diff(det[most], append=-1) != 0]
    best, same = np.zeros(len(rows)), np.zeros(len(rows), dtype=bool)
    best[det[most]], same[det[most]] = overlap[most], own[most]
    judged_by = np.full(len(detections), -1)
    judged_by[rows[det[most]]] = gt[most]

    enough = _reaches(best, tiou, protocol)
    kinds = np.full(len(detections), "", dtype=object)
    kinds[rows] = np.select(
        [hit, forgiven, enough & same, enough, (best >= 0.1) & same, best >= 0.1],
        [
            "true positive",
            "ignored",
            "double detection",
            "wrong label",
            "localization",
            "confusion",
        ],
        "background",
    )
    return kinds, found.found[0], judged_by


def error_profile(ground_truth, detections, tiou=0.5, protocol="activitynet", ambiguous=None):
    """Counts of the kinds of `detection_kinds`, and of `missed segments`, without a true positive.

    Raises ValueError as `evaluate` does.
    """
    kinds, found, _ = detection_kinds(ground_truth, detections, tiou, protocol, ambiguous)
    profile = {name: int(np.count_nonzero(kinds == name)) for name in KINDS if name}
    return {**profile, "missed segments": int(np.count_nonzero(~found))}


def video_ap(ground_truth, detections, tiou=0.5, protocol="activitynet", ambiguous=None):
    """AP of every video on its own, as {video: mean over the classes of its ground truth}.

    Videos without ground truth are left out, and detections of other classes do not lower it. Its
    mean over videos is not mAP, which ranks the detections of all videos together. Raises
    ValueError as `evaluate` does.
    """
    truth, found = (
        table.assign(label=list(zip(table["video"], table["label"])))
        for table in (ground_truth, detections)
    )
    result = score(truth, found, [tiou], protocol, ambiguous)
    return pd.Series(result.ap[0]).groupby([video for video, _ in result.classes]).mean().to_dict()


# ---- other test videos
def bootstrap(ground_truth, tables, tious, protocol="activitynet", seed=0):
    """Yields mAP (n, T) of n tables of detections, for one draw of the test videos after another,
    without end.

    tables: (detections, ambiguous or None) each; they share a draw. Drawn with replacement are the
    videos that have a segment or a detection. A video that is drawn twice counts twice, with its
    segments and its detections. A draw without a segment has no mAP and is replaced by the next
    one. Detections are matched once: a video's matches do not depend on the other videos. Among
    equal scores the copies of a detection follow each other. Raises ValueError as `evaluate` does.
    """
    tious = np.atleast_1d(np.asarray(tious, dtype=float))
    classes = sorted(set(ground_truth["label"]))
    videos = set(ground_truth["video"]).union(*(table["video"] for table, _ in tables))
    videos = pd.Index(sorted(videos))
    segments = pd.crosstab(ground_truth["label"], ground_truth["video"])
    segments = segments.reindex(index=classes, columns=videos, fill_value=0).to_numpy()
    matched = []
    for table, ambiguous in tables:
        found = match(ground_truth, table, tious, protocol, ambiguous)
        video = videos.get_indexer(table["video"])[found.rows]
        matched.append([_of_class(found, video, c) for c in range(len(classes))])
    rng = np.random.default_rng(seed)
    while True:
        counts = np.bincount(rng.integers(len(videos), size=len(videos)), minlength=len(videos))
        n_segments = segments @ counts  # (C,)
        if n_segments.any():
            yield np.array([_map_of_draw(one, counts, n_segments, protocol) for one in matched])


def _of_class(found, video, c):
    """Of a `Matching`: (video of each detection (n,), hit (T, n), counted (T, n), score (n,))."""
    own = found.label == c
    hit = found.hit[:, own]
    return video[own], hit, hit | ~found.forgiven[own], found.score[own]


def _map_of_draw(parts, counts, n_segments, protocol):
    """mAP (T,) with every video counted `counts` times; classes without a segment stay out."""
    ap = []
    for (video, hit, counted, score), n in zip(parts, n_segments):
        if n:
            rows = np.repeat(np.arange(len(video)), counts[video])
            ap.append(AVERAGE_PRECISION[protocol](hit[:, rows], counted[:, rows], score[rows], n))
    return np.mean(ap, axis=0)


# ---- video-level classification
def classification_metrics(scores, labels):
    """Video-level (mean average precision, top-1 accuracy); NaN where nothing counts towards it.

    scores, labels: (N, C), labels multi-hot. AP is the area under the steps of the
    precision-recall curve, sum_n (R[n] - R[n-1]) P[n] over the distinct scores from the
    highest down, so the order of ties does not matter (scikit-learn's definition). mAP is
    its mean over the classes that some video has. Top-1: the best class is one of the
    video's; videos without any label are left out of it, while in mAP they are negatives.
    """
    scores, labels = np.asarray(scores, np.float64), np.asarray(labels) > 0
    ap = np.array([_ap_of_videos(s, y) for s, y in zip(scores.T, labels.T)])
    labelled = labels.any(axis=1)
    hits = labels[np.arange(len(labels)), scores.argmax(axis=1)][labelled]
    return (
        float(np.nanmean(ap)) if labels.any() else math.nan,
        float(hits.mean()) if labelled.any() else math.nan,
    )


def _ap_of_videos(scores, positive):
    if not positive.any():
        return math.nan
    order = np.argsort(-scores, kind="stable")
    last_of_ties = np.append(np.diff(scores[order]) != 0, True)
    found = np.cumsum(positive[order])[last_of_ties]
    precision = found / (np.flatnonzero(last_of_ties) + 1)
    return float(np.sum(np.diff(found, prepend=0) * precision) / positive.sum())


# ---- the command
def classes_to_show(ap, each=5):
    """Indices of the `each` best and the `each` worst classes by their mean AP, best first;
    all where that hides no more than four.

    ap: (T, C), NaN for classes without ground truth, which are hidden first.
    """
    most = 2 * each + 4
    if ap.shape[1] <= most:
        return list(range(ap.shape[1]))
    order = [
        c for c in np.argsort(-ap.mean(axis=0), kind="stable").tolist() if not np.isnan(ap[0, c])
    ]
    return order if len(order) <= most else order[:each] + order[-each:]


def main(argv=None):
    """The stand-alone command; returns the results as a dict. Bad input: one line, exit code 2."""
    from jobs import score  # here: the rest can be copied on its own

    return score.main(argv)


if __name__ == "__main__":
    main()
