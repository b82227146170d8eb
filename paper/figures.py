"""Figure 5 of the paper, and the pseudo-labels of each phase (Sec. 3.4)."""

import dataclasses
import math

import numpy as np
import pandas as pd

import eval_detection
import localize
from engine import labels, run_folder
from formats import annotations
from formats.files import InputError, file_name
from jobs import results, setup
from methods import apply
from paper.runs import TIOU, Page, finished, opened
from report import figures, tables


# ---- figure 5
def page_figure5(s):
    """Score maps of test videos: those named, or the best and the worst."""
    one, folder = next(opened(s, "em-mil")), s.folder("figure5")
    found = one.detections()
    chosen = _choose(s.args, one, found)
    for path in [*folder.glob("*.png"), *folder.glob("*.pdf")]:
        path.unlink()  # of an earlier choice
    rows = []
    for name, why in chosen.items():
        k = next(k for k, record in enumerate(one.scored.records) if record.name == name)
        truth = one.scored.truth[one.scored.truth["video"] == name]
        own = found[found["video"] == name]
        ap = eval_detection.score(truth, own, [TIOU]) if len(truth) else None
        for label in dict.fromkeys(truth["label"]) or dict.fromkeys(own["label"]):
            stem, timeline = timeline_of(
                *(one.scored.records[k], one.scored.classes, label, truth, own),
                *(results.rule_of(one.o), _gate_note(one, k, label)),
            )
            paths = folder / f"{stem}.pdf", folder / f"{stem}.png"
            figures.localization_figure(*paths, timeline=timeline)
            value = ap.ap[0][list(ap.classes).index(label)] if ap else math.nan
            n = len(timeline.ground_truth), len(timeline.predictions)
            rows.append((name, label, why, value, *n, timeline.note, f"{stem}.png"))
    columns = ["video", "label", "chosen", "ap", "ground_truth", "predictions", "note", "file"]
    frame = pd.DataFrame(rows, columns=columns)
    body = [["video", "class", "chosen", "AP@0.5 (%) in the video", "ground truth", "predictions"]]
    for name, label, why, value, *n, _, _ in rows:
        body.append([name, label, why, tables.mean_std(value), *map(str, n)])
    text = (
        f"Seed {one.seed}. L over time with the threshold of Sec. 3.5, ground truth in red, "
        "predictions in blue. best, worst: by the mAP@0.5 within the video, so chosen with the "
        "ground truth, as the paper pairs a good and a bad example; they are not typical. Each "
        "figure also as PDF."
    )
    return Page([(text, body)], frame, list(frame["file"]))


def _choose(args, one, found):
    """{video: why}: those named by --videos, and those of --pick."""
    names = [record.name for record in one.scored.records]
    for name in args.videos:
        if name not in names:
            raise InputError("--videos", name, f"the name of a test video such as {names[0]}")
    chosen = dict.fromkeys(args.videos, "named")
    ranked = []
    for name, truth in one.scored.truth.groupby("video", sort=True):
        value = eval_detection.score(truth, found[found["video"] == name], [TIOU]).map[0]
        ranked.append((value, len(truth), name))
    orders = {
        "best": [r[2] for r in sorted(ranked, key=lambda r: (-r[0], -r[1], r[2]))],
        "worst": [r[2] for r in sorted(ranked, key=lambda r: (r[0], -r[1], r[2]))],
        "random": np.random.default_rng(0).permutation([r[2] for r in ranked]).tolist(),
    }
    for pick in args.pick or ([] if args.videos else ["best", "worst"]):
        for name in orders[pick][: args.n]:
            chosen.setdefault(name, pick)
    return chosen


def timeline_of(record, classes, label, truth, found, rule, note):
    """(name for a file, figures.Timeline) of one class of one video. truth, found: its segments."""
    scores, c = record.scores["em-mil"], list(classes).index(label)
    l = localize.fuse(scores["q"], scores["p"][:, c], rule.lam)
    edges = localize.times(np.arange(len(l) + 1), record.snippet_seconds, record.clip_seconds)
    levels = [localize.threshold(l, gamma) for gamma in rule.gammas]
    real, mine = (
        table.loc[table["label"] == label, ["t_start", "t_end"]].to_numpy()
        for table in (truth, found)
    )
    # no name has a line break: so no two pairs have one file, whatever their names are
    sign = "\n" if "-" in label else "-"
    stem = file_name(f"{record.name}{sign}{label}")
    about = label, record.name, note
    return stem, figures.Timeline(l, edges, record.duration, levels, real, mine, *about)


def _gate_note(one, k, label):
    """Why the k-th video has no prediction of a class, where the gate is the reason."""
    c = list(one.scored.classes).index(label)
    classifier = one.o.video_classifier
    gated = list(apply.class_scores("em-mil", one.scored.records, classifier, one.outside))
    of_video = gated[k][1]  # (C,), or None: no true class
    if of_video is None or c in localize.gate(of_video, one.o.gate):
        return ""
    return f"removed by the gate: video score {max(of_video[c], 0):.2f} < {one.o.gate:g}"


# ---- convergence
def training_set(o):
    """(training videos, their masks): the mask (T, C) of a video says which clips have their middle
    in a segment of a class. Training itself sees no segment.
    """
    # Features are read from disk as needed.
    data = setup.load_data(dataclasses.replace(o, feature_memory=0.0))[0]
    truth = annotations.load(o.annotations, video_labels=o.video_labels)
    segments = truth.only([video.name for video in data.train]).segments
    by_video = dict(list(segments.groupby("video")))
    none = segments[:0]
    return data.train, [
        clips_inside(video, data.classes, by_video.get(video.name, none)) for video in data.train
    ]


def clips_inside(video, classes, segments):
    """(T, C) True where the middle of a clip lies in a segment of the class. segments: its own."""
    middles = localize.times(
        np.arange(video.n_clips) + 0.5, video.snippet_seconds, video.clip_seconds
    )
    inside = np.zeros((len(middles), len(classes)), bool)
    for row in segments.itertuples():
        within = (row.t_start <= middles) & (middles < row.t_end)
        inside[:, list(classes).index(row.label)] |= within
    return inside


def label_counts(found, masks):
    """(videos, 3): of each video's clips, or pairs of clip and class, how many are positive and
    inside a segment, inside, positive. found: labels (T,) or (T, C) of each video; masks: (T, C).
    """
    rows = []
    for of_video, mask in zip(found, masks):
        inside, positive = mask.any(axis=1) if of_video.ndim == 1 else mask, of_video > 0.5
        rows.append(((positive & inside).sum(), inside.sum(), positive.sum()))
    return np.array(rows)


def page_convergence(s):
    """What each phase's pseudo-labels are: positive clips, changed ones, recall and precision."""
    parts, masks = [], None
    for seed, one in finished(s, "em-mil").items():
        masks = masks or training_set(one.o)[1]
        phases = tables.phase_table(run_folder.read_log(one.folder))
        counts = []
        for phase in phases.itertuples():
            found = labels.read(one.folder, phase.phase, phase.step)
            counts.append(label_counts(found, masks).sum(axis=0))
        hits, inside, positive = np.array(counts).T
        shares = {"recall": hits / inside, "precision": hits / np.maximum(positive, 1)}
        parts.append(phases.assign(seed=seed, **shares))
    if not parts:
        raise InputError(s.pool, "no finished run of em-mil", "at least one")
    frame = pd.concat(parts, ignore_index=True)
    figures.convergence_figure(s.folder("convergence") / "convergence.png", phases=frame)
    text = (
        "The pseudo-labels that each phase trains on: share of positive clips, share that changed "
        "since the last phase of the same step, positive bags without a positive clip (mean). "
        "Recall and precision hold them against the segments of the training videos, which "
        "training never sees: of clips (E, Eq. 3) or pairs of clip and class (M, Eq. 5), those "
        "whose middle lies in a segment."
    )
    return Page([(text, _phase_rows(frame))], frame, ["convergence.png"])


def _phase_rows(frame):
    shares = {"positive": "positive clips", "changed": "labels changed"}
    shares |= {"recall": "recall", "precision": "precision"}
    head = ["phase", "step", "after epochs", *(f"{name} (%)" for name in shares.values())]
    body = [[*head, "empty bags"]]
    for phase, rows in frame.groupby("phase"):
        first, cells = rows.iloc[0], [tables.mean_std(rows[name]) for name in shares]
        empty = f"{rows['empty'].mean():.1f}"
        body.append([f"{phase}", first["step"], f"{first['epoch']}", *cells, empty])
    return body
