"""Figure 5 of the paper, and how the pseudo-labels shrink (Sec. 3.4)."""

import dataclasses
import math

import numpy as np
import pandas as pd

import eval_detection
import localize
from engine import labels, run_folder
from formats import annotations
from formats.files import InputError
from jobs import results, setup
from methods import apply
from paper.pages import Page
from paper.runs import detections, finished, opened
from report import figures, tables

# -------------------------------------------------------------------------------------- figure 5


def page_figure5(s):
    """Score maps of test videos: those named, or the best and the worst."""
    one, folder = next(opened(s, "em-mil")), s.folder("figure5")
    found = detections(one)
    chosen = _choose(s.args, one, found)
    for path in [*folder.glob("*.png"), *folder.glob("*.pdf")]:
        path.unlink()  # of an earlier choice
    rows = []
    for name, why in chosen.items():
        k = next(k for k, record in enumerate(one.scored.records) if record.name == name)
        truth = one.scored.truth[one.scored.truth["video"] == name]
        own = found[found["video"] == name]
        ap = eval_detection.score(truth, own, [0.5]) if len(truth) else None
        for label in dict.fromkeys(truth["label"]) or dict.fromkeys(own["label"]):
            stem, timeline = timeline_of(
                *(one.scored.records[k], one.scored.classes, label, truth, own),
                *(results.rule_of(one.o), _gate_note(one, k, label)),
            )
            figures.localization_figure(
                folder / f"{stem}.pdf", folder / f"{stem}.png", timeline=timeline
            )
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
    return Page([(text, body)], frame, {"seed": one.seed}, list(frame["file"]))


def _choose(args, one, found):
    """{video: why}: those named by --videos, and those of --pick."""
    names = [record.name for record in one.scored.records]
    for name in args.videos:
        if name not in names:
            raise InputError(
                f"--videos: found {name}, expected the name of a test video such as {names[0]}"
            )
    chosen = dict.fromkeys(args.videos, "named")
    ranked = []
    for name, truth in one.scored.truth.groupby("video", sort=True):
        value = eval_detection.score(truth, found[found["video"] == name], [0.5]).map[0]
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
    stem = "".join(ch if ch.isalnum() or ch in "-_" else "_" for ch in f"{record.name}-{label}")
    about = label, record.name, note
    return stem, figures.Timeline(l, edges, record.duration, levels, real, mine, *about)


def _gate_note(one, k, label):
    """Why the k-th video has no prediction of a class, where the gate is the reason."""
    c = list(one.scored.classes).index(label)
    records, classifier = one.scored.records, one.o.video_classifier
    gated = list(apply.class_scores("em-mil", records, classifier, one.outside))
    of_video = gated[k][1]  # (C,), or None: no true class
    if of_video is None or c in localize.gate(of_video, one.o.gate):
        return ""
    return f"removed by the gate: video score {max(of_video[c], 0):.2f} < {one.o.gate:g}"


# ----------------------------------------------------------------------------------- convergence


def label_map(videos, labels, classes, truth, tiou):
    """mAP of pseudo-labels at one tIoU, a diagnostic: runs of positive clips as detections.

    videos: dataset.Videos. labels: of each video (T,), the same for all its classes, or (T, C).
    truth: table of their segments. Pseudo-labels have no scores, so all detections of a class
    tie, and AP is one point of the curve: precision times recall.
    """
    rows = []
    for video, of_video in zip(videos, labels):
        for c in np.flatnonzero(video.labels):
            positive = (of_video if of_video.ndim == 1 else of_video[:, c]) > 0.5
            for start, end in localize.runs(positive):
                t_start, t_end = localize.times(
                    (start, end), video.snippet_seconds, video.clip_seconds, video.duration
                )
                if t_start < t_end:
                    rows.append((video.name, t_start, t_end, classes[c], 1.0))
    table = pd.DataFrame(rows, columns=list(localize.COLUMNS))
    found = eval_detection.match(truth, table, np.array([tiou]), "activitynet", classes=classes)
    n = np.bincount(found.label, minlength=len(classes))
    hits = np.bincount(found.label[found.hit[0]], minlength=len(classes))
    known = found.n_segments > 0
    return float((hits**2 / np.maximum(n * found.n_segments, 1))[known].mean())


def page_convergence(s):
    """What each phase's pseudo-labels are: positive clips, changed ones, their own mAP."""
    parts, data, segments = [], None, None
    for seed, one in finished(s, "em-mil").items():
        if data is None:
            # Read from disk as needed: no network sees these features.
            o = dataclasses.replace(one.o, feature_memory=0.0)
            data = setup.load_data(o)[0]
            truth = annotations.load(o.annotations, video_labels=o.video_labels)
            segments = truth.only([video.name for video in data.train]).segments
        phases = tables.phase_table(run_folder.read_log(one.folder))
        values = []
        for phase in phases.itertuples():
            found = labels.read(one.folder, phase.phase, phase.step)
            values.append(
                math.nan
                if found is None
                else label_map(data.train, found, data.classes, segments, 0.5)
            )
        parts.append(phases.assign(seed=seed, map=values))
    if not parts:
        raise InputError(f"{s.pool}: found no finished run of em-mil, expected at least one")
    frame = pd.concat(parts, ignore_index=True)
    figures.convergence_figure(s.folder("convergence") / "convergence.png", phases=frame)
    text = (
        "The pseudo-labels that each phase trains on: share of positive clips, share that changed "
        "since the last phase of the same step, positive bags without a positive clip (mean), and "
        "the labels' own mAP@0.5 on the training videos. That mAP is a diagnostic made after "
        "training, which sees no segment: runs of positive clips are taken as detections of the "
        "video's classes; they have no scores, so AP is precision times recall."
    )
    return Page([(text, _phase_rows(frame))], frame, {}, ["convergence.png"])


def _phase_rows(frame):
    body = [
        [
            "phase",
            "step",
            "after epochs",
            "positive clips (%)",
            "labels changed (%)",
            "empty bags",
            "mAP@0.5 (%)",
        ]
    ]
    for phase, rows in frame.groupby("phase"):
        body.append(
            [
                f"{phase}",
                rows["step"].iloc[0],
                f"{rows['epoch'].iloc[0]}",
                tables.mean_std(rows["positive"]),
                tables.mean_std(rows["changed"]),
                f"{rows['empty'].mean():.1f}",
                tables.mean_std(rows["map"]),
            ]
        )
    return body
