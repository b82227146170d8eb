"""Measures what a user may want to know: how long training, localization and evaluation take.

    python tools/bench.py [train | localize | eval] [--json OUT]

Without a part it measures all three. A part is a function that returns its figures as a flat dict;
they are printed at the end, and `--json` writes them. Seconds differ from machine to machine and
from hour to hour: the ratios of one run say more.
"""

import argparse
import os
import platform
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from engine import cpu  # noqa: I001  (before PyTorch, as in run.py)
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import nn

import em_trainer
import eval_detection
import localize
import opts
from engine.loop import TrainingSet
from engine.run_folder import RunFolder, read_log
from formats.program import log, program
from model import EMMIL
from report import tables

TIOUS = [round(0.5 + 0.05 * i, 2) for i in range(10)]  # ActivityNet's


def log_normal(videos, clips):
    """Numbers of clips, (videos,), of which `clips` are the sum but for rounding. The standard
    deviation of their logarithm is 0.9; THUMOS14's is 0.92 (validation) and 0.84 (test).
    """
    drawn = np.random.default_rng(0).lognormal(sigma=0.9, size=videos)
    return np.maximum(drawn * clips / drawn.sum(), 1).round().astype(int)


# THUMOS14 has 33,351 clips of 1.25 s in 200 validation videos (median 120, longest 1,127), 36,649
# in 212 test videos (median 129, longest 1,338). Drawn: median 122, longest 705; 125 and 953.
TRAIN_LENGTHS, TEST_LENGTHS = log_normal(200, 33_351), log_normal(212, 36_649)
# THUMOS14's shape, and the motion recordings'; the names of the latter's figures begin with small_.
SHAPES = {
    "": {"lengths": TRAIN_LENGTHS, "dim": 1024, "classes": 20},
    "small_": {"lengths": [45] * 491, "dim": 111, "classes": 12},
}


def in_turns(functions, rounds):
    """{name: seconds of the fastest turn}. A turn is two calls, of which the second counts: the
    first finds the processor's caches full of what the other functions use.
    """
    times = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            function()
            began = time.perf_counter()
            function()
            times[name].append(time.perf_counter() - began)
    return {name: min(values) for name, values in times.items()}


# ---- train
def measure_training(shapes=SHAPES, rounds=3):
    """THUMOS14's 65 epochs as run.py trains them, against as many of the released code's step."""
    phases = [em_trainer.Phase(*row) for row in opts.resolve({"dataset": "thumos14"}).phases]
    threads, figures = torch.get_num_threads(), {}
    cpu.keep_memory()
    for prefix, shape in shapes.items():
        cpu.choose_threads(np.mean(shape["lengths"]), 2 * shape["dim"])
        found = _training_figures(random_videos(**shape), phases, rounds)
        figures |= {prefix + name: value for name, value in found.items()}
        torch.set_num_threads(threads)
    return figures


def _training_figures(videos, phases, rounds):
    ways = {"none": ReleasedStep(videos, zeros=False), "zeroed": ReleasedStep(videos, zeros=True)}
    epoch = in_turns({(w, s): partial(ways[w].epoch, s) for w in ways for s in "EM"}, rounds)
    none, zeroed = (sum(p.epochs * epoch[way, p.step] for p in phases) for way in ways)
    began = time.perf_counter()
    log = train(videos, phases)[0]
    whole = time.perf_counter() - began
    fastest, labels = at_fastest(whole, log)
    return {
        "release_like_none_over_training": none / fastest,
        "release_like_zeroed_over_training": zeroed / fastest,
        "labels_over_training": labels / fastest,
        "training_s": whole,
        "training_fastest_s": fastest,
        "released_none_s": none,
        "released_zeroed_s": zeroed,
    }


def random_videos(lengths, dim, classes):
    """Videos of `lengths` clips with random features in two streams; one or two labels each."""
    rng = np.random.default_rng(0)
    labels = np.zeros((len(lengths), classes), np.float32)
    for _ in range(2):
        labels[np.arange(len(lengths)), rng.integers(0, classes, len(lengths))] = 1
    return [
        SimpleNamespace(
            name=f"video {i}",
            # (T, D), in memory as (D, T) like features that are loaded from a file
            rgb=rng.standard_normal((dim, t), np.float32).T,
            flow=rng.standard_normal((dim, t), np.float32).T,
            labels=y,
        )
        for i, (t, y) in enumerate(zip(lengths, labels))
    ]


def train(videos, phases):
    """All phases as run.py trains them, labels and checkpoints included. Returns (log, model)."""
    torch.manual_seed(0)
    model = EMMIL(videos[0].rgb.shape[1], videos[0].flow.shape[1], len(videos[0].labels))
    steps = {"E": em_trainer.EStep(model), "M": em_trainer.MStep(model, gamma=0.15)}
    with tempfile.TemporaryDirectory() as folder:
        em_trainer.fit(steps, TrainingSet(videos), RunFolder(folder), phases)
        return read_log(folder), model


def at_fastest(whole, log):
    """(seconds of all training, seconds of its passes for labels) if each epoch and each pass were
    as fast as the fastest of its step: no long training has a shared machine to itself.
    """
    log = pd.DataFrame(log)
    epochs = log.groupby("step")["seconds"]
    # the first phase has the labels of the bags and makes no pass
    passes = log.query("epoch == 1 and phase > 1").groupby("step")["label_seconds"]
    lost = sum((kind.sum() - kind.size() * kind.min()).sum() for kind in (epochs, passes))
    return whole - lost, (passes.size() * passes.min()).sum()


class ReleasedStep:
    """The training step of the released code, in our words: Conv1d over (1, D, T), one default Adam
    over both branches, both evaluated in every step, new pseudo-labels in every step, a loss for
    each class in a Python loop.

    zeros: gradients are set to zero instead of to None, as PyTorch did by default when the code was
    released; Adam then steps over both branches.
    """

    def __init__(self, videos, zeros):
        # in memory as (T, D)
        rows = [(np.ascontiguousarray(v.rgb), np.ascontiguousarray(v.flow)) for v in videos]
        self.data = [(torch.from_numpy(rgb), torch.from_numpy(flow)) for rgb, flow in rows]
        self.labels, self.zeros = torch.from_numpy(np.stack([v.labels for v in videos])), zeros
        self.heads = nn.ModuleDict()
        for kind, x in zip(("rgb", "flow"), rows[0]):
            for name, outputs in ((f"q_{kind}", 1), (f"p_{kind}", self.labels.shape[1])):
                conv = nn.Conv1d(x.shape[1], 256, 3, padding=1)
                self.heads[name] = nn.ModuleList([conv, nn.Linear(256, outputs)])
        self.adam = torch.optim.Adam(self.heads.parameters(), lr=1e-4)

    def score(self, name, x):
        conv, last = self.heads[name]
        return torch.sigmoid(last(F.relu(conv(x.T[None]))[0].T))

    def epoch(self, step, gamma=0.15):
        """Trains one epoch of `step`, "E" or "M"; returns the mean loss of a video."""
        total = 0.0
        for i in torch.randperm(len(self.data)).tolist():
            rgb, flow = self.data[i]
            q = [self.score("q_rgb", rgb)[:, 0], self.score("q_flow", flow)[:, 0]]
            p = [self.score("p_rgb", rgb), self.score("p_flow", flow)]
            fused_q, fused_p = (q[0] + q[1]).detach() / 2, (p[0] + p[1]).detach() / 2
            loss = 0.0
            if step == "E":
                key = torch.zeros(len(rgb))
                for c in range(self.labels.shape[1]):
                    if self.labels[i, c] == 1:
                        key[fused_p[:, c] > fused_p[:, c].mean()] = 1
                for stream in q:
                    loss = loss + F.binary_cross_entropy(stream, key)
            else:
                for c in range(self.labels.shape[1]):
                    target = torch.zeros(len(rgb))
                    if self.labels[i, c] == 1:
                        least = fused_q.mean() + gamma * (fused_q.max() - fused_q.min())
                        target[fused_q > least] = 1
                    for stream in p:
                        loss = loss + F.binary_cross_entropy(stream[:, c], target)
            self.adam.zero_grad(set_to_none=not self.zeros)
            loss.backward()
            self.adam.step()
            total += loss.item()
        return total / len(self.data)


# ---- localize
def measure_localization(lengths=TEST_LENGTHS, classes=20):
    """Localization in videos of `lengths` clips, every class above the gate."""
    scores = smooth_scores(lengths, classes)
    spent = in_turns({"localize": partial(localized, scores)}, rounds=3)["localize"]
    return {"localize_seconds": spent, "localize_proposals": len(localized(scores))}


def smooth_scores(lengths, classes):
    """(T, 1 + classes) for each video: Q and P, noise smoothed over 9 clips, in [0, 1]."""
    rng = np.random.default_rng(0)
    noise = [rng.normal(size=(t, 1 + classes)) for t in lengths]
    return [1 / (1 + np.exp(-3 * ndimage.uniform_filter1d(x, 9, axis=0))) for x in noise]


def localized(scores):
    """The detections in videos with these scores of clips, as smooth_scores returns them."""
    rule, found = localize.Rule(lam=0.8, gammas=(0.15,), gate=0.0), []
    for i, of_video in enumerate(scores):
        curves = localize.fuse(of_video[:, 0], of_video[:, 1:], rule.lam)
        video = SimpleNamespace(
            name=f"video {i}", duration=len(curves) * 1.25, snippet_seconds=1.25, clip_seconds=1.25
        )
        of_classes, classes = np.ones(curves.shape[1]), list(map(str, range(curves.shape[1])))
        found.append(localize.detect(video, curves, of_classes, classes, rule))
    return localize.table(found)[0]


# ---- eval
def measure_evaluation(segments=3579, detections=6398, videos=2381, classes=100):
    """mAP on tables of ActivityNet1.2's size, against the loops of the ActivityNet toolkit."""
    truth_and_found = random_tables(segments, detections, videos, classes)
    functions = {
        "plain": partial(plain_activitynet_map, *truth_and_found, TIOUS),
        "ours": partial(eval_detection.evaluate, *truth_and_found, TIOUS),
    }
    spent = in_turns(functions, rounds=2)
    return {
        "eval_plain_over_ours": spent["plain"] / spent["ours"],
        "eval_plain_s": spent["plain"],
        "eval_ours_s": spent["ours"],
    }


def random_tables(segments, detections, videos, classes):
    """(ground truth, detections): segments of about 5 s in videos of 200 s; detections whose start
    and end are off by about 0.3 of the segment's length.
    """
    rng = np.random.default_rng(0)
    truth = pd.DataFrame({"t_start": rng.uniform(0, 200, segments)})
    truth["t_end"] = truth["t_start"] + rng.exponential(5, segments) + 0.1
    truth["video"] = [f"video {v}" for v in rng.integers(0, videos, segments)]
    truth["label"] = [f"class {c}" for c in rng.integers(0, classes, segments)]
    found = truth.iloc[rng.integers(0, segments, detections)].reset_index(drop=True)
    spread = 0.3 * (found["t_end"] - found["t_start"])
    found["t_start"] += spread * rng.normal(size=detections)
    end = found["t_end"] + spread * rng.normal(size=detections)
    found["t_end"] = np.maximum(end, found["t_start"] + 0.05)
    found["score"] = rng.random(detections)
    return truth, found


def plain_activitynet_map(truth, found, tious):
    """mAP (tIoUs,) the way the ActivityNet toolkit goes about it: a loop over the detections, a
    look-up of the video's ground truth by groupby, a loop over thresholds, a loop over segments
    from the best tIoU down.
    """
    found_by_class = found.groupby("label")
    ap = []
    for label, segments in truth.groupby("label"):
        segments = segments.reset_index(drop=True)
        if label not in found_by_class.groups:
            ap.append(np.zeros(len(tious)))
            continue
        rows = found_by_class.get_group(label)
        rows = rows.sort_values("score", ascending=False, kind="stable").reset_index(drop=True)
        by_video = segments.groupby("video")
        taken = np.full((len(tious), len(segments)), -1)
        hit = np.zeros((len(tious), len(rows)))
        for n, row in rows.iterrows():
            if row["video"] not in by_video.groups:
                continue
            mine = by_video.get_group(row["video"]).reset_index()
            start, end = mine["t_start"].to_numpy(), mine["t_end"].to_numpy()
            shared = (np.minimum(end, row["t_end"]) - np.maximum(start, row["t_start"])).clip(0)
            tiou = shared / ((end - start) + (row["t_end"] - row["t_start"]) - shared)
            for level, threshold in enumerate(tious):
                for best in tiou.argsort()[::-1]:
                    if tiou[best] < threshold:
                        break
                    if taken[level, mine.loc[best]["index"]] >= 0:
                        continue
                    taken[level, mine.loc[best]["index"]] = n
                    hit[level, n] = 1
                    break
        hits = hit.cumsum(axis=1)
        precision = hits / np.arange(1, len(rows) + 1)
        best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        ap.append((best * hit).sum(axis=1) / len(segments))
    return np.mean(ap, axis=0)


# ---- command
PARTS = {"train": measure_training, "localize": measure_localization, "eval": measure_evaluation}


def main(argv=None):
    text = "How long training, localization and evaluation take."
    parser = argparse.ArgumentParser(description=text, allow_abbrev=False)
    parser.add_argument("part", nargs="?", choices=PARTS, help="what to measure; default: all")
    parser.add_argument("--json", metavar="OUT", help="write the figures to this file")
    args = parser.parse_args(argv)
    with program(last=argv is None):
        return measure(args)


def measure(args):
    """Prints and returns the figures of the parts asked for."""
    log.info(
        f"{platform.platform()}, {os.cpu_count()} CPUs ({torch.backends.cpu.get_cpu_capability()}),"
        f" {torch.get_num_threads()} threads, Python {platform.python_version()}, "
        f"NumPy {np.__version__}, PyTorch {torch.__version__}\n"
    )
    figures = {}
    for part in [args.part] if args.part else PARTS:
        figures |= PARTS[part]()
    values = [f"{x:.4g}" if isinstance(x, float) else str(x) for x in figures.values()]
    log.info(tables.text([["", "measured"], *map(list, zip(figures, values))]))
    if args.json:
        tables.write_json(args.json, figures)
    return figures


if __name__ == "__main__":
    main()
