"""From clip scores to detections: Eq. (9), the threshold of Section 3.5, runs of clips, scores, seconds.

Arrays in, a detections table out; no torch. One function per method turns one video's scores into rows,
`table` turns the rows of all videos into one table:

    detections, counts = localize.table(localize.em_mil(v.name, q, p, video_scores, classes, ...) for ...)

`em_mil` is the paper's localizer. `untrimmednet` and `wtalc` are the localizers it is compared with; they share
everything from the runs on, so that a difference between rows of a table is a difference between methods.

A clip t covers the seconds [t * snippet_seconds, (t + 1) * snippet_seconds); a run of clips [start, end) covers
[start * snippet_seconds, end * snippet_seconds), both ends cut to the video's duration.

T clips, C classes, n runs. Scores may be anything `np.asarray` takes; the arithmetic is in float64.
"""
from collections import Counter

import numpy as np
import pandas as pd

COLUMNS = ("video", "t_start", "t_end", "label", "score")
PROPOSAL_SCORES = ("mean", "max", "outer-inner", "constant")


# ------------------------------------------------------------------------------------------------ equations

def fuse(q, p, lam):
    """Eq. (9): L[t] = lambda * Q[t] + (1 - lambda) * P[t, c].

    q: (T,) assignment scores; p: (T, C) class scores, or (T,) those of one class. Returns L, the shape of p.
    Raises ValueError where q and p do not have the same T.
    """
    q, p = np.asarray(q, np.float64), np.asarray(p, np.float64)
    if q.ndim != 1 or p.ndim not in (1, 2) or len(q) != len(p):
        raise ValueError(f"found q {q.shape} and p {p.shape}, expected q (T,) and p (T, C) or (T,)")
    return lam * (q if p.ndim == 1 else q[:, None]) + (1 - lam) * p


def threshold(l, gamma):
    """Sec. 3.5 (the scheme of Eq. 5): mean(L) + gamma * (max(L) - min(L)), over the T > 0 clips of l (T,)."""
    low, high = l.min(), l.max()
    # A mean lies between min and max; rounding can put it just below the value of a constant L, and every clip of it
    # would be foreground.
    return float(np.clip(l.mean(), low, high) + gamma * (high - low))


def foreground(l, gamma):
    """Sec. 3.5: clip t is foreground if L[t] > mean(L) + gamma * (max(L) - min(L)), strictly.

    l: (T,). Returns a boolean (T,), True = foreground. A constant L, hence also T = 1, has no foreground.
    """
    l = np.asarray(l, np.float64)
    return l > threshold(l, gamma) if l.size else np.zeros(0, bool)


def runs(mask):
    """Maximal runs of True in mask (T,): a list of half-open (start, end), in order of time.

    NOTE(paper): a run that is still open at the last clip ends at T; the released code drops it.
    """
    edges = np.flatnonzero(np.diff(np.concatenate(([False], np.asarray(mask, bool), [False])))).tolist()
    return list(zip(edges[::2], edges[1::2]))


def gate(video_scores, gate_threshold):
    """Class indices whose video-level score is >= gate_threshold; the best class alone if none is.

    video_scores: (C,). Returns a sorted int array with at least one index; the first best one on a tie.
    NOTE(paper): no gate is given; the released code's has no fallback.
    """
    video_scores = np.asarray(video_scores)
    passed = np.flatnonzero(video_scores >= gate_threshold)
    return passed if passed.size else np.array([video_scores.argmax()])


# ---------------------------------------------------------------------------------------------------- scores

def _segment_sums(l, start, end):
    """sum(l[start:end]) for arrays of indices, 0 where a segment is empty; exact where a cumulative sum is not."""
    edges = np.column_stack([start, end]).ravel()
    return np.where(end > start, np.add.reduceat(np.append(l, 0.0), edges)[::2], 0.0)  # reduceat: indices < len


def proposal_scores(l, runs, kind):
    """Confidence of each run [start, end) of the curve l (T,). Returns (n,).

    mean         mean of l inside the run
    max          maximum of l inside the run
    outer-inner  mean inside minus mean outside, after AutoLoc (Shou et al., ECCV 2018): outside are the
                 ceil((end - start) / 4) clips before the run and as many after it, so at least one on each side.
                 What lies beyond the video is left out, and the clips that remain on both sides share one mean; a run
                 that covers the whole video has nothing outside and keeps its inside mean (0 is subtracted).
                 Neighbouring runs inside the margin count as outside. May be negative.
    constant     1
    """
    l = np.asarray(l, np.float64)
    start, end = np.asarray(runs, int).reshape(-1, 2).T
    if kind == "constant":
        return np.ones(len(start))
    if kind == "max":
        return np.maximum.reduceat(np.append(l, -np.inf), np.column_stack([start, end]).ravel())[::2]
    if kind not in PROPOSAL_SCORES:
        raise ValueError(f"found proposal score {kind!r}, expected one of {', '.join(PROPOSAL_SCORES)}")
    inside = _segment_sums(l, start, end) / (end - start)
    if kind == "mean":
        return inside
    margin = -(-(end - start) // 4)
    left, right = np.maximum(start - margin, 0), np.minimum(end + margin, len(l))
    outside = _segment_sums(l, left, start) + _segment_sums(l, end, right)
    return inside - outside / np.maximum(start - left + right - end, 1)


def nms(t_start, t_end, scores, tiou, soft=False):
    """Temporal non-maximum suppression in seconds, for the n proposals of one class in one video.

    From the best score down (the earlier row on a tie), a proposal whose temporal IoU with a better one is > tiou is
    dropped; with soft=True it stays and its score s loses IoU * |s| instead, which for s >= 0 is the linear soft-NMS
    of Bodla et al. (ICCV 2017), s * (1 - IoU), and for s < 0 still lowers it.
    Returns the kept row indices (ascending) and their scores.
    """
    t_start, t_end, scores = (np.array(x, np.float64) for x in (t_start, t_end, scores))  # copies: scores is changed
    left, kept = np.arange(len(scores)), []
    while left.size:
        best = left[scores[left].argmax()]
        kept.append(best)
        left = left[left != best]
        overlap = np.clip(np.minimum(t_end[best], t_end[left]) - np.maximum(t_start[best], t_start[left]), 0, None)
        union = (t_end[best] - t_start[best]) + (t_end[left] - t_start[left]) - overlap
        iou = overlap / union
        if soft:
            scores[left] -= np.where(iou > tiou, iou * np.abs(scores[left]), 0.0)
        else:
            left = left[iou <= tiou]
    kept = np.sort(np.array(kept, int))
    return kept, scores[kept]


# --------------------------------------------------------------------------------------------------- methods

def em_mil(name, q, p, video_scores, classes, *, snippet_seconds, duration, lam, gammas, gate_threshold,
           score="mean", video_weight=0.0, nms_tiou=None, soft=False):
    """Sec. 3.5: L = lambda * Q + (1 - lambda) * P per class that passes the gate, thresholded, its runs are proposals.

    q: (T,) and p: (T, C) from EM-MIL; video_scores: (C,) from the video-level classifier; classes: C names.
    snippet_seconds, duration: seconds. gammas: one threshold (the paper) or several, whose runs are pooled (a run
    found by several of them once). score: see `proposal_scores`; the proposal's score is
    proposal_scores(L) + video_weight * video_scores[c]. nms_tiou: temporal IoU of `nms` over the proposals of a
    class, None for none (runs of one threshold are disjoint and need none); soft: soft-NMS.

    Returns (rows, counts) for `table`. Raises ValueError naming the video where shapes do not agree, a score is
    NaN or infinite, or snippet_seconds or duration is not positive.
    """
    q, p = np.asarray(q), np.asarray(p)
    if p.ndim != 2 or q.shape != p.shape[:1]:
        raise ValueError(f"{name}: found q {q.shape} and p {p.shape}, expected q (T,) and p (T, C)")
    return _localize(name, fuse(q, p, lam), video_scores, classes, _above_thresholds(gammas, score),
                     snippet_seconds=snippet_seconds, duration=duration, gate_threshold=gate_threshold,
                     video_weight=video_weight, nms_tiou=nms_tiou, soft=soft)


def untrimmednet(name, attention, class_scores, video_scores, classes, *, snippet_seconds, duration, gammas,
                 gate_threshold, score="mean", video_weight=0.0, nms_tiou=None, soft=False):
    """UntrimmedNet (Wang et al., CVPR 2017) as a localizer: L[t] = a[t] / max(a) * s[t, c], then as `em_mil`.

    attention a: (T,) softmax over time; class_scores s: (T, C) softmax over classes. The other arguments, the result
    and the errors as `em_mil`.
    The attention sums to 1 over the video, so its size is about 1 / T; dividing by its maximum makes scores of long
    and short videos comparable. The threshold of Sec. 3.5 does not depend on that factor. (A min-max scaling would
    change the shape of the product as well, and give the least attended clip a score of exactly 0.)
    """
    attention, class_scores = np.asarray(attention, np.float64), np.asarray(class_scores, np.float64)
    if class_scores.ndim != 2 or not attention.size or attention.shape != class_scores.shape[:1]:
        raise ValueError(f"{name}: found attention {attention.shape} and class scores {class_scores.shape}, "
                         "expected (T,) and (T, C) with T > 0")
    curves = attention[:, None] / attention.max() * class_scores
    return _localize(name, curves, video_scores, classes, _above_thresholds(gammas, score),
                     snippet_seconds=snippet_seconds, duration=duration, gate_threshold=gate_threshold,
                     video_weight=video_weight, nms_tiou=nms_tiou, soft=soft)


def top_k_mean(activations):
    """Mean over time of the k = ceil(T / 8) largest values of each class (W-TALC). (T, C) -> (C,)."""
    activations = np.asarray(activations, np.float64)
    k = -(-len(activations) // 8)
    return np.sort(activations, axis=0)[len(activations) - k:].mean(axis=0)


def wtalc(name, activations, video_scores, classes, *, snippet_seconds, duration, gate_threshold, top_k_means=None):
    """W-TALC (Paul et al., ECCV 2018) as a localizer, with the constants of its code.

    activations: (T, C) class activation sequence before any softmax. Per class that passes the gate, clip t is
    foreground if A[t] > max(A) - 0.5 * (max(A) - min(A)); runs of at least 2 clips are proposals, scored
    max of A inside + 0.7 * top-k mean of A over the video (top_k_means (C,), `top_k_mean` if None).
    Its code gates by a positive top-k mean; here every method is gated by `video_scores`.
    The other arguments, the result and the errors as `em_mil`.
    """
    activations = np.asarray(activations, np.float64)
    top_k_means = top_k_mean(activations) if top_k_means is None else np.asarray(top_k_means, np.float64)

    def propose(curve, c):
        mask = curve > curve.max() - 0.5 * (curve.max() - curve.min())
        found = [(start, end) for start, end in runs(mask) if end - start >= 2]
        return found, proposal_scores(curve, found, "max") + 0.7 * top_k_means[c]

    return _localize(name, activations, video_scores, classes, propose, snippet_seconds=snippet_seconds,
                     duration=duration, gate_threshold=gate_threshold)


def table(videos):
    """One table from an iterable of (rows, counts), as the functions above return for each video.

    Returns a DataFrame (video, t_start, t_end, label, score), times in seconds, and the summed counts:
    videos; gate_fallback (videos without a class above the gate, so that their best one was taken); pairs (video and
    class that were localized); pairs_constant (of these, with one value on all clips, T = 1 included: no proposal by
    the formula); pairs_empty (of these, all without a proposal, the constant ones included); past_end (proposals
    dropped because they start at or after the video's duration); proposals.
    """
    rows, counts = [], Counter(dict.fromkeys(("videos", "gate_fallback", "pairs", "pairs_constant", "pairs_empty",
                                              "past_end", "proposals"), 0))
    for video_rows, video_counts in videos:
        rows += video_rows
        counts.update(video_counts)
    types = {"t_start": np.float64, "t_end": np.float64, "score": np.float64}
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(types), dict(counts)


# ------------------------------------------------------------------------------------- shared by the methods

def _above_thresholds(gammas, score):
    def propose(curve, _):
        found = sorted({run for gamma in gammas for run in runs(foreground(curve, gamma))})
        return found, proposal_scores(curve, found, score)
    return propose


def _localize(name, curves, video_scores, classes, propose, *, snippet_seconds, duration, gate_threshold,
              video_weight=0.0, nms_tiou=None, soft=False):
    """Gate, propose per class, seconds, NMS. propose(curve (T,), c) -> runs, scores. Returns (rows, counts)."""
    video_scores = np.asarray(video_scores, np.float64)
    if curves.ndim != 2 or not len(curves) or not curves.shape[1:] == video_scores.shape == (len(classes),):
        raise ValueError(f"{name}: found clip scores {curves.shape} and video scores {video_scores.shape}, expected "
                         f"(T, {len(classes)}) with T > 0 and ({len(classes)},)")
    for what, values in (("clip scores", curves), ("video scores", video_scores)):
        bad = np.count_nonzero(~np.isfinite(values))
        if bad:
            raise ValueError(f"{name}: found {bad} NaN or infinite of {values.size} {what}, expected finite ones")
    for what, seconds in (("snippet_seconds", snippet_seconds), ("duration", duration)):
        if not 0 < seconds < np.inf:
            raise ValueError(f"{name}: found {what} {seconds}, expected a positive number of seconds")
    rows, counts = [], Counter(videos=1)
    counts["gate_fallback"] += int(video_scores.max() < gate_threshold)
    for c in gate(video_scores, gate_threshold).tolist():
        curve = curves[:, c]
        found, scores = propose(curve, c)
        scores = scores + video_weight * video_scores[c]
        counts["pairs"] += 1
        counts["pairs_constant"] += int(curve.max() == curve.min())
        t_start, t_end = np.minimum(np.asarray(found, float).reshape(-1, 2) * snippet_seconds, duration).T
        inside = t_end > t_start
        counts["past_end"] += int(np.count_nonzero(~inside))
        t_start, t_end, scores = t_start[inside], t_end[inside], scores[inside]
        if nms_tiou is not None:
            kept, scores = nms(t_start, t_end, scores, nms_tiou, soft)
            t_start, t_end = t_start[kept], t_end[kept]
        counts["pairs_empty"] += int(not len(scores))
        counts["proposals"] += len(scores)
        rows += [(name, s, e, classes[c], x) for s, e, x in zip(t_start.tolist(), t_end.tolist(), scores.tolist())]
    return rows, counts
