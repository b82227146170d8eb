"""Results of a run that was never trained, for any number of videos, and their page."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

import eval_detection
import localize
from report import page

LAM, GAMMA, GATE, SNIPPET_SECONDS = 0.8, 0.15, 0.15, 0.64
ABOUT = page.About(
    "EM-MIL on a synthetic set",
    [("seed", "1"), ("gamma", "0.15")],
    [("mAP", [["mAP (%) at tIoU", "0.5"], ["EM-MIL", "27.3"]])],
    ["Nothing here was trained."],
)


def epoch(phase, step, number, loss, positive=None, changed=None):
    """A record of EM-MIL's log."""
    stage = f"em-mil {phase:02d} {step}"
    labels = dict(positive=positive, changed=changed, empty=0)
    return dict(stage=stage, epoch=number, phase=phase, step=step, loss=loss, **labels)


LOG = [{"stage": "untrimmednet", "epoch": k, "loss": {"mil": 2.0 / k}} for k in (1, 2, 3)] + [
    epoch(phase, step, number, {"rgb": 1.0 / phase, "flow": 0.5}, 0.5, None if phase < 3 else 0.25)
    for phase, step in ((1, "M"), (2, "E"), (3, "M"))
    for number in (1, 2)
]


def rule(lam, gammas, gate):
    """Eq. 9 and Sec. 3.5 as the page is told them."""
    return {"lam": lam, "gammas": gammas, "gate": gate}


@dataclass(frozen=True)
class Results:
    """scores: page.Scores by video name; truth, detections: tables; classes: names."""

    classes: list
    scores: dict
    truth: pd.DataFrame
    detections: pd.DataFrame


def results(n_videos, n_classes, mean_seconds, seed=0, gammas=(GAMMA,), window=SNIPPET_SECONDS):
    """Videos of log-normal length with one to four segments of a class, which q and p follow."""
    rng, applied = np.random.default_rng(seed), localize.Rule(LAM, gammas, GATE)
    classes = [f"class {c:02d}" for c in range(n_classes)]
    scores, truth, rows = {}, [], []
    for k in range(n_videos):
        name, c = f"video_{k:04d}", int(rng.integers(n_classes))
        duration = round(
            float(np.clip(mean_seconds * np.exp(0.6 * rng.standard_normal() - 0.18), 8, 1500)), 2
        )
        clips = int(np.ceil(duration / SNIPPET_SECONDS))  # the last one ends after the video
        seconds = (np.arange(clips) + 0.5) * SNIPPET_SECONDS
        curve = np.zeros(clips)
        for start in np.sort(rng.uniform(0, duration * 0.8, rng.integers(1, 5))):
            end = min(start + rng.lognormal(1.5, 0.8), duration)
            truth.append((name, round(start, 2), round(end, 2), classes[c]))
            curve += (seconds > start) & (seconds < end)
        noise = np.convolve(rng.standard_normal(clips + 4), np.ones(5) / 3, "valid")
        q = 1 / (1 + np.exp(2 - 3 * curve.clip(0, 1) - noise))
        p = 1 / (1 + np.exp(3 + 0.5 * rng.standard_normal((clips, n_classes))))
        p[:, c] = 1 / (1 + np.exp(2.5 - 3 * curve.clip(0, 1) - noise[::-1]))
        video_scores = np.zeros(n_classes)
        video_scores[[c, (c + 1) % n_classes]] = 0.1 if k % 3 == 1 else 0.5, rng.uniform(0.1, 0.3)
        passed = localize.gate(video_scores, GATE).tolist()
        scores[name] = page.Scores(name, duration, q, p, passed, SNIPPET_SECONDS, window)
        curves = localize.fuse(q, p, LAM)
        rows.append(localize.detect(scores[name], curves, video_scores, classes, applied))
    truth = pd.DataFrame(truth, columns=["video", "t_start", "t_end", "label"])
    return Results(classes, scores, truth, localize.table(rows)[0])


def evaluation(truth, detections):
    """An `Evaluation` at tIoU 0.5 under the activitynet protocol."""
    kinds, found = eval_detection.detection_kinds(truth, detections)
    scored = eval_detection.evaluate(truth, detections, 0.5)
    return page.Evaluation(
        truth,
        kinds,
        found,
        eval_detection.video_ap(truth, detections),
        dict(zip(scored.classes, scored.ap[0])),
        dict(zip(scored.classes, scored.n_segments)),
    )


def content(found, evaluated=True, log=LOG, gammas=(GAMMA,)):
    """page_content of `results`."""
    return page.page_content(
        found.classes,
        rule(LAM, gammas, GATE),
        found.scores.values(),
        found.detections,
        evaluation(found.truth, found.detections) if evaluated else None,
        log,
    )
