"""Results of a run that was never trained, for any number of videos, and their page."""

import dataclasses
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pandas as pd

import eval_detection
import localize
from report import page, tables

LAM, GAMMA, GATE, SNIPPET_SECONDS = 0.8, 0.15, 0.15, 0.64
TIOUS = (0.3, 0.5)


def epoch(phase, step, number, loss, positive=None, changed=None):
    """A record of EM-MIL's log."""
    stage = f"em-mil {phase:02d} {step}"
    labels = dict(positive=positive, changed=changed, empty=0)
    return dict(stage=stage, epoch=number, phase=phase, step=step, loss=loss, **labels)


LOG = [{"stage": "UntrimmedNet", "epoch": k, "loss": {"mil": 2.0 / k}} for k in (1, 2, 3)] + [
    epoch(phase, step, number, {"rgb": 1.0 / phase, "flow": 0.5}, 0.5, None if phase < 3 else 0.25)
    for phase, step in ((1, "M"), (2, "E"), (3, "M"))
    for number in (1, 2)
]


@dataclass(frozen=True)
class Results:
    """classes: names. videos: of clip_scores.Record what the page needs. scores: {video: (q, p,
    video-level scores)}. truth: table. rule: localize.Rule."""

    classes: list
    videos: list
    scores: dict
    truth: pd.DataFrame
    rule: localize.Rule

    def again(self, lam, gamma=None):
        """Detections with another lambda, and another gamma if there is one."""
        gammas = self.rule.gammas if gamma is None else (gamma,)
        rule = dataclasses.replace(self.rule, lam=lam, gammas=gammas)
        rows = []
        for video in self.videos:
            q, p, of_video = self.scores[video.name]
            curves = localize.fuse(q, p, lam)
            rows.append(localize.detect(video, curves, of_video, self.classes, rule))
        return localize.table(rows)[0]

    @property
    def detections(self):
        return self.again(self.rule.lam)

    def curves(self):
        for video in self.videos:
            q, p, of_video = self.scores[video.name]
            l = localize.fuse(q, p, self.rule.lam)
            levels = [[localize.threshold(c, gamma) for c in l.T] for gamma in self.rule.gammas]
            passed = localize.gate(of_video, self.rule.gate).tolist()
            yield page.Curves(l, np.array(levels), passed, q, p)


def video(name, duration, step=SNIPPET_SECONDS, window=None):
    return SimpleNamespace(
        name=name, duration=duration, snippet_seconds=step, clip_seconds=window or step
    )


def results(n_videos, n_classes, mean_seconds, seed=0, gammas=(GAMMA,), window=SNIPPET_SECONDS):
    """Videos of log-normal length with one to four segments of a class, which q and p follow."""
    rng, classes = np.random.default_rng(seed), [f"class {c:02d}" for c in range(n_classes)]
    videos, scores, truth = [], {}, []
    for k in range(n_videos):
        name, c = f"video_{k:04d}", int(rng.integers(n_classes))
        length = mean_seconds * np.exp(0.6 * rng.standard_normal() - 0.18)
        duration = round(float(np.clip(length, 8, 1500)), 2)
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
        videos.append(video(name, duration, SNIPPET_SECONDS, window))
        scores[name] = q, p, video_scores
    truth = pd.DataFrame(truth, columns=["video", "t_start", "t_end", "label"])
    return Results(classes, videos, scores, truth, localize.Rule(LAM, gammas, GATE))


def protocols_of(truth, detections, names=("activitynet",), ambiguous=None, tious=TIOUS):
    """{protocol: results} as in results.json."""
    found = {}
    for name in names:
        e = eval_detection.score(truth, detections, tious, name, ambiguous)
        found[name] = {
            "tious": e.tious.tolist(),
            "map": e.map.tolist(),
            "averages": eval_detection.distinct_averages(e.tious, e.map),
            "ap": dict(zip(e.classes, e.ap.T.tolist())),
            "segments": dict(zip(e.classes, e.n_segments.tolist())),
        }
    return found


def method(found, label="EM-MIL", evaluated=True, **settings):
    """page.Method of `results`. settings: of `protocols_of`."""
    detections = found.detections
    scored = protocols_of(found.truth, detections, **settings) if evaluated else {}
    return page.Method(label, detections, scored, list(found.curves()), found.rule, found.again)


def about(methods, **words):
    """page.About with the tables of mAP of these methods."""
    maps = [
        (name, f"protocol {name}", tables.map_table({m.label: rows_of(m, name) for m in methods}))
        for name in methods[0].protocols
    ]
    head = dict(title="EM-MIL on a synthetic set", header=[("seed", "1")], notes=["Not trained."])
    return page.About(**{**head, "maps": maps, **words})


def rows_of(method, protocol):
    e = method.protocols[protocol]
    return {**dict(zip(e["tious"], e["map"])), **e["averages"]}


def write(path, found, methods=None, log=LOG, ambiguous=None, words=None, **settings):
    """The page of `results`; settings: of `method`."""
    methods = [method(found, ambiguous=ambiguous, **settings)] if methods is None else methods
    truth = found.truth if methods[0].protocols else None
    head = about(methods, **(words or {}))
    data = found.classes, found.videos, methods, truth, ambiguous
    page.write_page(path, head, *data, log)
    return methods[0]
