"""From clip scores to detections: Eq. (9), the threshold of Section 3.5, runs of clips, scores,
seconds.

Arrays in, a detections table out; no torch. `detect` turns the curves of one video into rows,
`table` turns the rows of all videos into one table. The methods (methods/) differ in their curves
and share everything from the runs on, so that a difference between rows of a table is a difference
between methods.

Where clips lie in time is in `times` and `length`, and nowhere else.

T clips, C classes, n runs. Scores may be anything `np.asarray` takes; the arithmetic is in float64.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pandas as pd

COLUMNS = ("video", "t_start", "t_end", "label", "score")
PROPOSAL_SCORES = ("mean", "max", "outer-inner", "constant")


@dataclass(frozen=True)
class Rule:
    """How clip scores become detections (Sec. 3.5)."""

    lam: float = 0.8  # Eq. 9: weight of Q
    gammas: tuple = (0.15,)  # one threshold (the paper) or several, whose runs are pooled
    # classes with at least this video-level score, else the best one
    gate: float = 0.15
    score: str = "mean"  # of PROPOSAL_SCORES
    video_weight: float = 0.0  # times the video-level score, added to a proposal's score
    nms: float | None = None  # tIoU of `nms` over a class's proposals; None: no NMS
    soft: bool = False  # soft-NMS


# ---- equations
def fuse(q, p, lam):
    """Eq. (9): L[t] = lambda * Q[t] + (1 - lambda) * P[t, c].

    q: (T,) assignment scores; p: (T, C) class scores, or (T,) those of one class. Returns L, the
    shape of p.
    Raises ValueError where q and p do not have the same T.
    """
    q, p = np.asarray(q, np.float64), np.asarray(p, np.float64)
    if q.ndim != 1 or p.ndim not in (1, 2) or len(q) != len(p):
        raise ValueError(f"found q {q.shape} and p {p.shape}, expected q (T,) and p (T, C) or (T,)")
    return lam * (q if p.ndim == 1 else q[:, None]) + (1 - lam) * p


def threshold(l, gamma):
    """Sec. 3.5 (the scheme of Eq. 5): mean(L) + gamma * (max(L) - min(L)) over the T > 0 clips.

    l: (T,), or (C, T) the curves of C classes. Returns a number, or (C,).
    """
    low, high = l.min(axis=-1), l.max(axis=-1)
    # A mean lies between min and max; rounding can put it just below the value of a constant L, and
    # every clip of it would be foreground.
    return np.clip(l.mean(axis=-1), low, high) + gamma * (high - low)


def foreground(l, gamma):
    """Sec. 3.5: clip t is foreground if L[t] > mean(L) + gamma * (max(L) - min(L)), strictly.

    l: (T,). Returns a boolean (T,), True = foreground. A constant L, hence also T = 1, has no
    foreground.
    """
    l = np.asarray(l, np.float64)
    return l > threshold(l, gamma) if l.size else np.zeros(0, bool)


def runs(mask):
    """Maximal runs of True in mask (T,): a list of half-open (start, end), in order of time.

    NOTE(paper): a run that is still open at the last clip ends at T; the released code drops it.
    """
    return [(start, end) for _, start, end in runs_of_rows(np.asarray(mask, bool)[None]).tolist()]


def runs_of_rows(mask):
    """`runs` of every row of mask (C, T): an int array (n, 3) of row, start, end, row by row."""
    change = np.diff(mask.astype(np.int8), axis=1, prepend=0, append=0)  # (C, T + 1)
    row, start = np.nonzero(change == 1)
    return np.stack([row, start, np.nonzero(change == -1)[1]], axis=1)


def gate(video_scores, gate_threshold):
    """Class indices whose video-level score is >= gate_threshold; the best class alone if none is.

    video_scores: (C,). Returns a sorted int array with at least one index; the first best one on a
    tie.
    NOTE(paper): no gate is given; the released code's has no fallback.
    """
    video_scores = np.asarray(video_scores)
    passed = np.flatnonzero(video_scores >= gate_threshold)
    return passed if passed.size else np.array([video_scores.argmax()])


# ---- scores
def proposal_scores(l, runs, kind):
    """Confidence of each run [start, end) of the curve l (T,). Returns (n,).

    mean         mean of l inside the run
    max          maximum of l inside the run
    outer-inner  mean inside minus mean outside, after AutoLoc (Shou et al., ECCV 2018). Outside are
                 the ceil((end - start) / 4) clips before the run and as many after it, within the
                 video, also where they belong to another run; they share one mean, which is 0 for a
                 run that covers the whole video. May be negative.
    constant     1
    """
    if kind not in PROPOSAL_SCORES:
        raise ValueError(f"found score {kind!r}, expected one of {', '.join(PROPOSAL_SCORES)}")
    l = np.asarray(l, np.float64)
    if kind == "constant":
        return np.ones(len(runs))
    score = {"mean": _mean, "max": _max, "outer-inner": _contrast}[kind]
    return np.array([score(l, start, end) for start, end in runs], np.float64)


def _mean(l, start, end):
    return np.add.reduce(l[start:end]) / (end - start)  # what np.mean does, without its checks


def _max(l, start, end):
    return np.maximum.reduce(l[start:end])


def _contrast(l, start, end):
    """Mean of the run minus the mean of the clips beside it."""
    margin = -(-(end - start) // 4)
    outside = np.append(l[max(start - margin, 0) : start], l[end : end + margin])
    return _mean(l, start, end) - (outside.mean() if len(outside) else 0)


def nms(t_start, t_end, scores, tiou, soft=False):
    """Temporal non-maximum suppression in seconds, for the n proposals of one class in one video.

    From the best score down (the earlier row on a tie), a proposal whose temporal IoU with a better
    one is > tiou is dropped; with soft=True it stays and its score s loses IoU * |s| instead, which
    for s >= 0 is the linear soft-NMS of Bodla et al. (ICCV 2017), s * (1 - IoU), and for s < 0
    still lowers it.
    Returns the kept row indices (ascending) and their scores.
    """
    # copies: scores is changed
    t_start, t_end, scores = (np.array(x, np.float64) for x in (t_start, t_end, scores))
    left, kept = np.arange(len(scores)), []
    while left.size:
        best = left[scores[left].argmax()]
        kept.append(best)
        left = left[left != best]
        overlap = np.clip(
            np.minimum(t_end[best], t_end[left]) - np.maximum(t_start[best], t_start[left]), 0, None
        )
        union = (t_end[best] - t_start[best]) + (t_end[left] - t_start[left]) - overlap
        iou = np.divide(overlap, union, out=np.zeros(len(left)), where=union > 0)
        if soft:
            scores[left] -= np.where(iou > tiou, iou * np.abs(scores[left]), 0.0)
        else:
            left = left[iou <= tiou]
    kept = np.sort(np.array(kept, int))
    return kept, scores[kept]


# ---- seconds
def times(clips, step, window, duration=np.inf):
    """Numbers of clips in seconds: a run of clips [start, end) lies between the times of its two
    numbers.

    A clip is a window of `window` s, and a new one begins every `step` s. Clip t is centred at
    t * step + window / 2 and stands for the `step` s around that centre,
    [t * step + (window - step) / 2, (t + 1) * step + (window - step) / 2), cut to [0, duration], so
    that neighbours meet. Where windows are longer than the step, the first and the last
    (window - step) / 2 s that the clips cover belong to none of them, also where a video has only
    one clip: no detection reaches into them.
    clips: an array of any shape, such as runs (n, 2). Returns float64 of that shape.
    """
    return np.clip(np.asarray(clips, np.float64) * step + (window - step) / 2, 0, duration)


def length(n_clips, step, window):
    """Seconds that `n_clips` clips cover, (n_clips - 1) * step + window; n_clips * step, without
    rounding, where step and window are equal.
    """
    return n_clips * step + (window - step)


# ---- one video, all videos
def detect(video, curves, video_scores, classes, rule, propose=None):
    """Detections of one video: gate, proposals of each class, seconds, NMS. Returns (rows, counts)
    for `table`.

    video: has `.name`, `.duration`, `.snippet_seconds` (the step) and `.clip_seconds` (the window
    of a clip), in seconds. curves: (T, C), the score of each clip and class. video_scores: (C,).
    classes: C names. propose(curves (C', T), indices of the C' classes) -> (runs (n, 3), scores
    (n,)), the runs as `runs_of_rows` returns them; default: `above_thresholds` of `rule`.
    Raises ValueError naming the video where shapes do not agree, a score is NaN or infinite, or a
    time is not positive.
    """
    curves, video_scores = np.asarray(curves, np.float64), np.asarray(video_scores, np.float64)
    _check(video, curves, video_scores, classes)
    passed = gate(video_scores, rule.gate)
    lines = np.ascontiguousarray(curves.T[passed])  # (C', T)
    found, scores = propose(lines, passed) if propose else above_thresholds(lines, rule)
    scores = scores + rule.video_weight * video_scores[passed][found[:, 0]]
    seconds = times(found[:, 1:], video.snippet_seconds, video.clip_seconds, video.duration)
    inside = seconds[:, 1] > seconds[:, 0]
    row, (t_start, t_end), scores = found[inside, 0], seconds[inside].T, scores[inside]
    if rule.nms is not None:
        row, t_start, t_end, scores = _without_overlap(row, t_start, t_end, scores, rule)
    names = [classes[c] for c in passed[row].tolist()]
    rows = zip([video.name] * len(row), t_start.tolist(), t_end.tolist(), names, scores.tolist())
    counts = Counter(
        videos=1,
        gate_fallback=int(video_scores.max() < rule.gate),
        pairs=len(passed),
        pairs_constant=int(np.count_nonzero(lines.max(axis=1) == lines.min(axis=1))),
        past_end=int(np.count_nonzero(~inside)),
        pairs_empty=len(passed) - len(set(row.tolist())),
        proposals=len(row),
    )
    return list(rows), counts


def levels(curves, rule):
    """The thresholds of `rule` on curves (T, C), one for each gamma. Returns (n, C)."""
    lines = np.ascontiguousarray(np.asarray(curves, np.float64).T)  # (C, T)
    return np.stack([threshold(lines, gamma) for gamma in rule.gammas])


def above_thresholds(lines, rule):
    """The runs of the curves `lines` (C, T) above each threshold of `rule`; a run that several
    thresholds find is listed once. Returns runs (n, 3), scores (n,).
    """
    masks = [lines > level[:, None] for level in levels(lines.T, rule)]
    found = np.concatenate([runs_of_rows(mask) for mask in masks])
    if len(masks) > 1:
        found = np.unique(found, axis=0)  # in the order of class, start, end
    return found, scores_of_rows(lines, found, rule.score)


def scores_of_rows(curves, found, kind):
    """`proposal_scores` of the runs `found` (n, 3) of the rows of curves (C, T). Returns (n,)."""
    ends = np.searchsorted(found[:, 0], np.arange(len(curves) + 1)).tolist()
    spans = list(map(tuple, found[:, 1:].tolist()))
    parts = [
        proposal_scores(curve, spans[first:last], kind)
        for curve, first, last in zip(curves, ends, ends[1:])
    ]
    return np.concatenate(parts)


def _without_overlap(row, t_start, t_end, scores, rule):
    """What the NMS of `rule` keeps, class by class."""
    kept, new = [], []
    for c in np.unique(row):
        own = np.flatnonzero(row == c)
        stay, lowered = nms(t_start[own], t_end[own], scores[own], rule.nms, rule.soft)
        kept.append(own[stay])
        new.append(lowered)
    kept = np.concatenate([np.zeros(0, int), *kept])
    return row[kept], t_start[kept], t_end[kept], np.concatenate([np.zeros(0), *new])


def _check(video, curves, video_scores, classes):
    n = len(classes)
    if curves.ndim != 2 or not len(curves) or not curves.shape[1:] == video_scores.shape == (n,):
        raise ValueError(
            f"{video.name}: found clip scores {curves.shape} and video scores "
            f"{video_scores.shape}, expected (T, {n}) with T > 0 and ({n},)"
        )
    for what, values in (("clip scores", curves), ("video scores", video_scores)):
        bad = np.count_nonzero(~np.isfinite(values))
        if bad:
            raise ValueError(
                f"{video.name}: found {bad} NaN or infinite of {values.size} {what}, expected "
                "finite ones"
            )
    for what in ("snippet_seconds", "clip_seconds", "duration"):
        seconds = getattr(video, what)
        if not 0 < seconds < np.inf:
            raise ValueError(
                f"{video.name}: found {what} {seconds}, expected a positive number of seconds"
            )


def table(videos):
    """One table from an iterable of (rows, counts), as `detect` returns for each video.

    Returns a DataFrame (video, t_start, t_end, label, score), times in seconds, and the summed
    counts: videos; gate_fallback (videos without a class above the gate, so that their best one was
    taken); pairs (video and class that were localized); pairs_constant (of these, with one value on
    all clips, T = 1 included: no proposal by the formula); pairs_empty (of these, all without a
    proposal, the constant ones included); past_end (proposals dropped because they start at or
    after the video's duration); proposals.
    """
    names = "videos gate_fallback pairs pairs_constant pairs_empty past_end proposals".split()
    rows, counts = [], Counter(dict.fromkeys(names, 0))
    for video_rows, video_counts in videos:
        rows += video_rows
        counts.update(video_counts)
    types = {"t_start": np.float64, "t_end": np.float64, "score": np.float64}
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(types), dict(counts)
