"""Measures what a user or maintainer may want to know again; prints seconds and ratios, never
judges.

    python tools/bench.py [PART] [--json OUT]

Without a part it measures all but `large`, which writes a set of 3.8 GB. A part is a function that
returns its figures as a flat dict: they are printed at the end, and `--json` writes them.
What is compared is timed in turns, two calls a turn of which the second counts, and the fastest
turn of each: other programs can only make it slower.
"""

import argparse
import json
import multiprocessing
import os
import pathlib
import platform
import subprocess
import sys
import tempfile
import time
from types import SimpleNamespace

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from engine import cpu  # noqa: E402,I001  (before PyTorch, as in run.py)
import h5py  # noqa: E402
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402

import dataset  # noqa: E402
import em_trainer  # noqa: E402
import eval_detection  # noqa: E402
import localize  # noqa: E402
import opts  # noqa: E402
from em_trainer import EStep, MStep, Phase, label_all  # noqa: E402
from engine.loop import Adam, TrainingSet, train_epoch  # noqa: E402
from engine.run_folder import RunFolder, read_log  # noqa: E402
from formats import annotations, features  # noqa: E402
from formats.files import InputError  # noqa: E402
from model import EMMIL  # noqa: E402
from report import tables  # noqa: E402

ACTIVITYNET_TIOUS = [round(0.5 + 0.05 * i, 2) for i in range(10)]

# Whole clips of 1.25 s in THUMOS14's 200 validation and 212 test videos, by the durations that
# W-TALC distributes.
THUMOS14 = {
    name: [int(clips) for clips in text.split()]
    for name, text in {
        "train": """
        135 133 157 108 130 110 182 105 183 149 26 132 137 42 60 190 40 245 356 326 49 158 187
        138 85 116 168 109 155 172 121 83 168 122 63 109 121 91 148 176 119 81 65 134 48 72 48
        136 88 7 35 151 151 235 429 143 146 119 460 111 18 26 37 227 41 137 305 245 17 54 182 30
        49 54 104 175 103 89 105 53 559 63 105 718 127 161 171 149 237 419 557 397 597 90 215 25
        108 228 919 603 648 307 574 242 225 433 285 197 724 704 348 70 96 759 219 153 245 90 161
        275 134 78 180 175 419 1127 265 296 185 109 52 135 30 54 103 24 26 105 16 224 101 96 157
        71 112 85 31 54 146 80 24 188 56 13 123 66 39 89 50 25 97 474 438 182 135 331 27 210 157
        153 74 90 139 61 78 34 46 27 124 28 185 63 86 152 152 74 78 24 16 16 104 17 109 37 149
        16 82 99 29 98""",
        "test": """
        27 53 386 63 166 116 181 188 142 92 91 12 79 176 68 153 104 153 134 431 79 196 82 37 169
        167 140 103 172 154 60 186 193 111 119 57 516 101 178 235 97 678 88 147 165 34 167 122
        110 163 124 233 125 80 22 99 568 58 190 146 23 57 54 160 40 70 131 26 44 345 166 142 165
        261 164 95 204 25 68 275 93 32 136 104 141 13 51 143 536 32 181 116 85 118 329 28 106 93
        61 178 70 78 1338 101 87 127 144 306 135 21 188 181 156 27 198 309 181 96 252 74 22 1052
        50 22 147 154 65 79 96 187 141 772 220 121 227 169 51 78 392 55 93 133 38 56 205 144 54
        147 38 173 102 482 96 80 677 87 187 95 103 719 330 36 882 280 122 92 192 672 74 1010 198
        100 75 211 49 56 163 67 139 275 44 131 140 125 332 175 461 113 248 138 286 15 228 183 58
        651 23 85 147 33 164 422 120 149 42 37 170 173 191 91 82 114""",
    }.items()
}
THUMOS14_SHAPE = {"lengths": THUMOS14["train"], "dim": 1024, "classes": 20}
HAPT30_SHAPE = {"lengths": [45] * 491, "dim": 111, "classes": 12}


def seconds(function, *args, repeats=5):
    """Fastest of several calls after one that warms up."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        function(*args)
        times.append(time.perf_counter() - start)
    return min(times[1:])


def in_turns(functions, rounds):
    """{name: fastest of `rounds` turns}. A turn is two calls, of which the second counts: the first
    one pays for what the functions before it have pushed out of the processor's caches and out of
    oneDNN's store of programs."""
    times = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            function()
            start = time.perf_counter()
            function()
            times[name].append(time.perf_counter() - start)
    return {name: min(values) for name, values in times.items()}


# ---- train
def synthetic(lengths, dim, classes):
    """Videos with random features of `lengths` clips in two streams, and labels (classes,), one or
    two a video.
    """
    rng = np.random.default_rng(0)
    labels = np.zeros((len(lengths), classes), np.float32)
    for _ in range(2):
        labels[np.arange(len(lengths)), rng.integers(0, classes, len(lengths))] = 1
    return [
        SimpleNamespace(
            name=f"video {i}",
            rgb=rng.standard_normal((dim, t), np.float32).T,  # in memory as they are loaded
            flow=rng.standard_normal((dim, t), np.float32).T,
            labels=y,
        )
        for i, (t, y) in enumerate(zip(lengths, labels))
    ]


class Ours:
    """A network and what it takes to train it as run.py does."""

    def __init__(self, videos, device="cpu"):
        torch.manual_seed(0)
        dims = videos[0].rgb.shape[1], videos[0].flow.shape[1]
        self.model = EMMIL(*dims, len(videos[0].labels)).to(device)
        self.train_set = TrainingSet(videos, device)
        self.steps = {"E": EStep(self.model), "M": MStep(self.model, 0.15)}
        self.optimizers = {
            name: Adam(step.branch.parameters(), 1e-4) for name, step in self.steps.items()
        }
        self.targets = {
            name: label_all(step, self.train_set, "bag") for name, step in self.steps.items()
        }

    def epoch(self, name):
        """One epoch of step `name`, on labels made before."""
        step, targets = self.steps[name], self.targets[name]
        batches = self.train_set.shuffled(np.random.default_rng(0))
        return train_epoch(
            batches,
            lambda bags: step.losses(bags[0], targets[bags[0].index]),
            [self.optimizers[name]],
        )

    def label_pass(self, name):
        """The labels of all videos for step `name`, as at the start of a phase."""
        return label_all(self.steps[name], self.train_set, "frozen")

    def train(self, phases):
        """All phases as run.py trains them, labels and checkpoints included. Returns the log."""
        with tempfile.TemporaryDirectory() as folder:
            em_trainer.fit(self.steps, self.train_set, RunFolder(folder), phases)
            return read_log(folder)


class Plain:
    """The training step of the released code: Conv1d over (1, D, T), one default Adam over both
    branches, both evaluated in every step, new pseudo-labels in every step, a loss for each class
    in a Python loop.

    zeros: gradients are set to zero instead of to None, as PyTorch did by default when the code was
    released; Adam then steps over both branches.
    """

    def __init__(self, videos, zeros):
        self.data = [(torch.from_numpy(v.rgb), torch.from_numpy(v.flow)) for v in videos]
        self.labels, self.zeros = torch.from_numpy(np.stack([v.labels for v in videos])), zeros
        self.heads = nn.ModuleDict(
            {
                name: nn.ModuleList(
                    [
                        nn.Conv1d(self.data[0][stream].shape[1], 256, 3, padding=1),
                        nn.Linear(256, outputs),
                    ]
                )
                for stream, kind in enumerate(("rgb", "flow"))
                for name, outputs in ((f"q_{kind}", 1), (f"p_{kind}", self.labels.shape[1]))
            }
        )
        self.adam = torch.optim.Adam(self.heads.parameters(), lr=1e-4)

    def score(self, name, x):
        conv, last = self.heads[name]
        return torch.sigmoid(last(F.relu(conv(x.T[None]))[0].T))

    def epoch(self, step, gamma=0.15):
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
                        target[
                            fused_q > fused_q.mean() + gamma * (fused_q.max() - fused_q.min())
                        ] = 1
                    for stream in p:
                        loss = loss + F.binary_cross_entropy(stream[:, c], target)
            self.adam.zero_grad(set_to_none=not self.zeros)
            loss.backward()
            self.adam.step()
            total += loss.item()
        return total / len(self.data)


def columns(lengths, width):
    """{t: random (width, t)} of all lengths t of `lengths`."""
    return {t: torch.randn(width, t) for t in set(lengths)}


def floor(x, lengths, outputs, forward, backward=None):
    """The products that an epoch of one branch cannot avoid, with operands that stay in place:
    forward, weight gradient and, of the small second layer, input gradient, both streams.

    x: {t: (3D, t)} of all lengths. forward, backward: functions of a (m, k) and b (n, k) that give
    a @ b.T, for the first layer; without backward, a pass for labels. Returns a function.
    """
    w1, w2 = torch.randn(256, len(x[lengths[0]])), torch.randn(outputs, 256)
    hidden, out = columns(lengths, 256), columns(lengths, outputs)

    def epoch():
        for t in lengths:
            for _ in range(2):
                forward(w1, x[t].T)
                hidden[t].T @ w2.T
                if backward is not None:
                    w2.T @ out[t]
                    out[t] @ hidden[t].T
                    backward(hidden[t], x[t])

    return epoch


def bare_adam(branch, steps):
    """Adam's fused kernel over the parameters of a branch, `steps` times, without PyTorch's
    wrapper.
    """
    params = [p.detach().clone() for p in branch.parameters()]
    grads, means, squares = ([torch.full_like(p, 1e-3) for p in params] for _ in range(3))
    counts = [torch.tensor(1.0) for _ in params]

    def run():
        for _ in range(steps):
            torch._fused_adam_(
                params,
                grads,
                means,
                squares,
                [],
                counts,
                amsgrad=False,
                lr=1e-4,
                beta1=0.9,
                beta2=0.999,
                weight_decay=0.0,
                eps=1e-8,
                maximize=False,
            )

    return run


def _times(shape, rounds):
    """{name: seconds} of epochs, passes and their limits, for a step each."""
    videos = synthetic(**shape)
    # the released code has its features in the order of (T, D)
    rows = [
        SimpleNamespace(
            rgb=np.ascontiguousarray(v.rgb), flow=np.ascontiguousarray(v.flow), labels=v.labels
        )
        for v in videos
    ]
    ours, plain, plain_none = Ours(videos), Plain(rows, zeros=True), Plain(rows, zeros=False)
    x = columns(shape["lengths"], 3 * shape["dim"])
    backward = cpu.onednn_product if cpu.AVAILABLE else lambda a, b: a @ b.T
    functions = {}
    for step, outputs, frozen in (("E", 1, shape["classes"]), ("M", shape["classes"], 1)):
        sizes = x, shape["lengths"]
        functions |= {
            f"products {step}": floor(*sizes, outputs, cpu.forward_product, backward),
            f"adam {step}": bare_adam(ours.steps[step].branch, len(videos)),
            f"epoch {step}": lambda step=step: ours.epoch(step),
            f"pass products {step}": floor(*sizes, frozen, cpu.forward_product),
            f"pass {step}": lambda step=step: ours.label_pass(step),
            f"zeroed {step}": lambda step=step: plain.epoch(step),
            f"none {step}": lambda step=step: plain_none.epoch(step),
        }
    return in_turns(functions, rounds)


def bench_train():
    """Training at two shapes: one epoch and its limit, all 65 epochs against the released code's
    training step.
    """
    figures = {}
    phases = [Phase(*row) for row in opts.resolve({"dataset": "thumos14"}).phases]
    for shape, name, prefix, rounds in (
        (THUMOS14_SHAPE, "THUMOS14", "", 3),
        (HAPT30_SHAPE, "hapt30", "small_", 5),
    ):
        cpu.keep_memory()
        threads = torch.get_num_threads()
        cpu.choose_threads(np.mean(shape["lengths"]), 2 * shape["dim"])
        print(
            f"{name}'s shape: {len(shape['lengths'])} videos, {sum(shape['lengths']):,} clips, 2 "
            f"x {shape['dim']}-d, {shape['classes']} classes, batch size 1, "
            f"{torch.get_num_threads()} threads"
        )
        of_shape = _training_figures(_times(shape, rounds), *_whole_training(shape, phases), phases)
        figures |= {f"{prefix}{key}": value for key, value in of_shape.items()}
        torch.set_num_threads(threads)
    if torch.cuda.is_available():
        figures |= _gpu(phases)
    return figures


def _whole_training(shape, phases):
    """(seconds of all phases, seconds with each epoch and pass as fast as the fastest of its kind).

    The second is what parts timed by `in_turns` can be compared with: no long training has a shared
    machine to itself.
    """
    began = time.perf_counter()
    log = Ours(synthetic(**shape)).train(phases)
    whole = time.perf_counter() - began
    # the first phase has the labels of the bags and makes no pass
    passes = {record["phase"]: record for record in log if record["phase"] > 1}.values()
    kinds = [[r["seconds"] for r in log if r["step"] == step] for step in "EM"]
    kinds += [[r["label_seconds"] for r in passes if r["step"] == step] for step in "EM"]
    return whole, whole - sum(sum(spent) - len(spent) * min(spent) for spent in kinds)


def _training_figures(t, whole, fastest, phases):
    """The figures of one shape. t: of `_times`; whole, fastest: of `_whole_training`."""
    epochs = {step: sum(phase.epochs for phase in phases if phase.step == step) for step in "EM"}
    passes = {
        step: sum(phase.step == step and phase.targets == "frozen" for phase in phases)
        for step in "EM"
    }
    mean = {key: (t[f"{key} E"] + t[f"{key} M"]) / 2 for key in dict.fromkeys(k[:-2] for k in t)}
    limit = sum(
        epochs[s] * (t[f"products {s}"] + t[f"adam {s}"]) + passes[s] * t[f"pass products {s}"]
        for s in "EM"
    )
    none, zeroed = (sum(epochs[s] * t[f"{key} {s}"] for s in "EM") for key in ("none", "zeroed"))
    return {
        "epoch_over_floor": mean["epoch"] / (mean["products"] + mean["adam"]),
        "label_pass_over_products": mean["pass"] / mean["pass products"],
        "training_over_limit": fastest / limit,
        "release_like_none_over_training": none / fastest,
        "release_like_zeroed_over_training": zeroed / fastest,
        "plain_over_epoch": mean["zeroed"] / mean["epoch"],
        "training_s": whole,
        "training_fastest_s": fastest,
        "training_limit_s": limit,
        "released_none_s": none,
        "released_zeroed_s": zeroed,
        **{f"{key.replace(' ', '_')}_s": value for key, value in mean.items()},
    }


def _gpu(phases):
    """All 65 epochs at THUMOS14's shape on the GPU, features on it."""
    ours = Ours(synthetic(**THUMOS14_SHAPE), "cuda")
    ours.train(phases[:1])
    torch.cuda.synchronize()
    began = time.perf_counter()
    ours.train(phases)
    torch.cuda.synchronize()
    figures = {"gpu_65_epochs_s": time.perf_counter() - began, "gpu": torch.cuda.get_device_name()}
    print(f"  THUMOS14's 65 epochs on {figures['gpu']}: {figures['gpu_65_epochs_s']:.2f} s")
    return figures


# ---- shared cores
BUSY_SHAPES = {
    "thumos14": ({**THUMOS14_SHAPE, "lengths": THUMOS14["train"][:40]}, 2),
    "hapt30": ({**HAPT30_SHAPE, "lengths": [45] * 100}, 8),
}


def train_once(name):
    """For a process with an environment to itself: trains some epochs as run.py does; prints
    seconds and a checksum.
    """
    shape, epochs = BUSY_SHAPES[name]
    cpu.keep_memory()
    cpu.choose_threads(np.mean(shape["lengths"]), 2 * shape["dim"])
    ours = Ours(synthetic(**shape))
    ours.epoch("M")
    began = time.perf_counter()
    for _ in range(epochs):
        ours.epoch("M")
    spent = time.perf_counter() - began
    print(spent, float(sum(p.double().sum() for p in ours.model.parameters())))


def _train_apart(name, environment):
    place = str(ROOT / "tools")
    code = f"import sys; sys.path.insert(0, {place!r}); import bench; bench.train_once({name!r})"
    kept = {
        k: v
        for k, v in os.environ.items()
        if k not in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    }
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**kept, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return [float(word) for word in done.stdout.split()]


def bench_busy():
    """Training beside two programs that keep two cores busy, and alone: as run.py does it, and in
    other ways.
    """
    ways = {
        "as run.py": {},
        "one thread": {"OMP_NUM_THREADS": "1"},
        "all threads, spinning": {
            "OMP_NUM_THREADS": str(os.cpu_count()),
            "GOMP_SPINCOUNT": "300000",
        },
    }
    figures = {}
    for name in BUSY_SHAPES:
        prefix = "" if name == "thumos14" else "small_"
        for load in ("quiet", "busy"):
            burners = [
                subprocess.Popen([sys.executable, "-c", "while True: pass"])
                for _ in range(2 * (load == "busy"))
            ]
            try:
                turns = [
                    {way: _train_apart(name, env) for way, env in ways.items()} for _ in range(3)
                ]
            finally:
                for burner in burners:
                    burner.kill()
            times = {way: float(np.median([turn[way][0] for turn in turns])) for way in ways}
            sums = {turn["as run.py"][1] for turn in turns}
            print(
                f"  {name:<10}{load:<7}"
                + ", ".join(f"{way} {value:.2f} s" for way, value in times.items())
                + f"; {len(sums)} different result{'s' * (len(sums) > 1)}"
            )
            figures |= {
                f"{prefix}{load}_over_single_thread": times["as run.py"] / times["one thread"],
                f"{prefix}{load}_over_spinning": times["as run.py"]
                / times["all threads, spinning"],
            }
    return figures


# ---- memory, large set
def write_set(folder, lengths, dim, classes, snippet_seconds, dtype="float16"):
    """A canonical set of training videos with random features, and one clip of test video; its
    files' folder.
    """
    pool = (
        np.random.default_rng(0)
        .standard_normal((max(lengths) + 997, 2 * dim), np.float32)
        .astype(np.float16)
    )
    lengths = [*lengths, 1]
    names = [f"video_{i:05d}" for i in range(len(lengths))]
    features.write_canonical(
        folder / "features.h5",
        (
            (name, pool[i % 997 : i % 997 + t, :dim], pool[i % 997 : i % 997 + t, dim:])
            for i, (name, t) in enumerate(zip(names, lengths))
        ),
        snippet_seconds,
        dtype,
    )
    database = {
        name: {
            "subset": "train",
            "duration": t * snippet_seconds,
            "annotations": [
                {"label": f"class {i % classes:03d}", "segment": [0.0, t * snippet_seconds]}
            ],
        }
        for i, (name, t) in enumerate(zip(names, lengths))
    }
    database[names[-1]]["subset"] = "test"
    (folder / "annotations.json").write_text(json.dumps({"database": database}), encoding="utf-8")


def train_from_disk(folder, limit, phases):
    """Loads a set as run.py does and trains on it: seconds to load, seconds of each epoch, and peak
    memory in bytes.
    """
    start = time.perf_counter()
    data = dataset.load(
        folder / "features.h5",
        folder / "annotations.json",
        train_subset="train",
        test_subset="test",
        memory_limit=limit,
    )
    cpu.keep_memory()
    ours = Ours(data.train)
    loaded = time.perf_counter()
    log = ours.train(phases)
    return {
        "load_s": loaded - start,
        "train_s": time.perf_counter() - loaded,
        "in_memory": data.in_memory,
        "epochs_s": [record["seconds"] for record in log],
        "loss": [record["loss"] for record in log],
        "feature_bytes": data.feature_bytes,
        "peak_bytes": peak_bytes(),
    }


def peak_bytes():
    """Peak memory of this process. getrusage would count that of the process which started it as
    well.
    """
    status = dict(
        line.split(":", 1) for line in pathlib.Path("/proc/self/status").read_text().splitlines()
    )
    return int(status["VmHWM"].split()[0]) * 1024


def apart(function, *args):
    """function(*args) in another process, whose peak memory counts nothing else."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, args)


def bench_memory():
    """Peak memory of a process that loads and trains THUMOS14's shape, over the features' float32
    size.
    """
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        write_set(folder, **THUMOS14_SHAPE, snippet_seconds=1.25)
        found = apart(
            train_from_disk,
            folder,
            None,
            [
                Phase("M", 1, 1e-4, "bag"),
                Phase("E", 1, 1e-4, "frozen"),
                Phase("M", 1, 1e-4, "frozen"),
            ],
        )
    size, peak = found["feature_bytes"], found["peak_bytes"]
    return {
        "peak_memory_over_features": peak / size,
        "peak_memory_bytes": peak,
        "feature_bytes": size,
    }


def bench_large():
    """ActivityNet1.2's 4,819 training videos (3.8 GB on disk): one M and one E epoch, streamed and
    in memory.
    """
    known = ROOT.parent / "shared" / "data" / "activitynet12" / "ActivityNet1.2-Annotations"
    if known.is_dir():
        lengths = [
            max(1, int(video.duration / 0.6))
            for video in annotations.load(str(known)).videos.values()
            if video.subset == "training"
        ]
    else:
        lengths = np.random.default_rng(0).integers(4, 390, 4819).tolist()
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        write_set(folder, lengths, 1024, 100, 0.6)
        phases = [Phase("M", 1, 1e-4, "bag"), Phase("E", 1, 1e-4, "frozen")]
        print(
            f"{len(lengths)} videos, {sum(lengths):,} clips, 2 x 1024-d, 100 classes; "
            f"{(folder / 'features.h5').stat().st_size / 1e9:.2f} GB on disk"
        )
        for name, limit in (("streamed", 1e9), ("in_memory", None)):
            found = apart(train_from_disk, folder, limit, phases)
            assert found["in_memory"] == (name == "in_memory")
            figures |= {
                f"large_{name}_load_s": found["load_s"],
                f"large_{name}_epoch_s": np.mean(found["epochs_s"]),
                f"large_{name}_train_s": found["train_s"],
                f"large_{name}_peak_bytes": found["peak_bytes"],
            }
    ratio = figures["large_streamed_epoch_s"] / figures["large_in_memory_epoch_s"]
    return {"large_streamed_over_in_memory": ratio, **figures}


# ---- read
def bench_read():
    """Reading a canonical file of THUMOS14's shape, against h5py reading the same datasets."""
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        for dtype in ("float16", "float32"):
            (place := pathlib.Path(folder, dtype)).mkdir()
            write_set(place, **THUMOS14_SHAPE, snippet_seconds=1.25, dtype=dtype)
            path = place / "features.h5"

            def ours():
                source = features.open_features(path)
                arrays = [source.read(name) for name in source.names]
                source.close()
                return arrays

            def h5py_alone(convert):
                with h5py.File(path) as file:
                    return [
                        [convert(file[name][stream][()]) for stream in ("rgb", "flow")]
                        for name in file
                    ]

            times = in_turns(
                {
                    "ours": ours,
                    "h5py": lambda: h5py_alone(lambda x: x.astype(np.float32, copy=False)),
                    "raw": lambda: h5py_alone(lambda x: x),
                },
                4,
            )
            prefix = "read" if dtype == "float16" else "read_float32"
            figures |= {
                f"{prefix}_over_h5py": times["ours"] / times["h5py"],
                f"{prefix}_s": times["ours"],
                f"{prefix}_over_h5py_unconverted": times["ours"] / times["raw"],
                f"{prefix}_h5py_s": times["h5py"],
                f"{prefix}_h5py_unconverted_s": times["raw"],
            }
    return figures


# ---- localize
def smooth_scores(lengths, classes):
    """Per video Q (T,), P (T, classes) and video-level scores (classes,): noise smoothed over 9
    clips, in [0, 1].
    """
    rng, window = np.random.default_rng(0), np.ones(9) / 9
    videos = []
    for t in lengths:
        curves = [
            np.convolve(rng.normal(size=t + 8), window, "valid") * 3 for _ in range(classes + 1)
        ]
        scores = 1 / (1 + np.exp(-np.stack(curves, axis=1))).astype(np.float32)  # (T, 1 + classes)
        videos.append((scores[:, 0], scores[:, 1:], rng.random(classes)))
    return videos


def localized(videos, classes, gate):
    rule = localize.Rule(lam=0.8, gammas=(0.15,), gate=gate)
    return localize.table(
        localize.detect(
            SimpleNamespace(
                name=f"video {i}", duration=len(q) * 1.25, snippet_seconds=1.25, clip_seconds=1.25
            ),
            localize.fuse(q, p, 0.8),
            scores,
            classes,
            rule,
        )
        for i, (q, p, scores) in enumerate(videos)
    )


def bench_localize():
    """Localization in THUMOS14's 212 test videos, all of 20 classes above the gate."""
    classes = [f"class {c:02d}" for c in range(20)]
    videos = smooth_scores(THUMOS14["test"], 20)
    spent = seconds(localized, videos, classes, 0.0)
    _, counts = localized(videos, classes, 0.0)
    return {"localize_seconds": spent, "localize_proposals": counts["proposals"]}


# ---- eval
def bench_eval():
    """The evaluator against a loop over detections as in the ActivityNet toolkit, and its growth
    with detections.
    """
    truth, found, name = _activitynet_tables()
    plain = plain_activitynet_map(truth, found, ACTIVITYNET_TIOUS)
    plain_s = seconds(plain_activitynet_map, truth, found, ACTIVITYNET_TIOUS, repeats=2)
    ours_s = seconds(eval_detection.evaluate, truth, found, ACTIVITYNET_TIOUS)
    ours = eval_detection.evaluate(truth, found, ACTIVITYNET_TIOUS).map
    report = {
        "eval_plain_over_ours": plain_s / ours_s,
        "eval_plain_s": plain_s,
        "eval_ours_s": ours_s,
        "eval_map_difference": float(np.abs(ours - plain).max()),
        "eval_detections": len(found),
        "eval_set": name,
    }

    for exponent in range(3, 7):
        truth, found = random_tables(3358, 10**exponent, n_videos=212, n_classes=20)
        times = {
            protocol: seconds(
                eval_detection.evaluate, truth, found, ACTIVITYNET_TIOUS, protocol, repeats=2
            )
            for protocol in eval_detection.PROTOCOLS
        }
        report |= {
            f"eval_{protocol.replace('-', '_')}_1e{exponent}_s": s for protocol, s in times.items()
        }
        report[f"eval_peak_mib_1e{exponent}"] = peak_bytes() / 2**20
    return report


def _activitynet_tables():
    folder = ROOT.parent / "shared" / "data" / "eval_golden"
    if folder.is_dir():
        truth, found = (
            pd.read_csv(folder / name, keep_default_na=False)
            for name in ("activitynet12_ground_truth.csv", "activitynet12_a/detections.csv")
        )
        return truth, found, "eval_golden/activitynet12_a"
    truth, found = random_tables(3579, 6398, n_videos=2381, n_classes=100)
    return truth, found, "random tables of ActivityNet1.2's size"


def random_tables(n_segments, n_detections, n_videos, n_classes):
    """Segments of about 5 s in videos of 200 s, detections jittered around them by 0.3 of their
    length.
    """
    rng = np.random.default_rng(0)
    start = rng.uniform(0, 200, n_segments)
    length = rng.exponential(5, n_segments) + 0.1
    truth = pd.DataFrame(
        {
            "video": [f"video_{v:04d}" for v in rng.integers(0, n_videos, n_segments)],
            "t_start": start,
            "t_end": start + length,
            "label": [f"class_{c:03d}" for c in rng.integers(0, n_classes, n_segments)],
        }
    )
    pick = rng.integers(0, n_segments, n_detections)
    first = (start + rng.normal(0, 0.3, n_segments) * length)[pick] + rng.normal(
        0, 0.3, n_detections
    ) * length[pick]
    last = np.maximum(
        (start + length)[pick] + rng.normal(0, 0.3, n_detections) * length[pick], first + 0.05
    )
    found = pd.DataFrame(
        {
            "video": truth["video"].to_numpy()[pick],
            "t_start": first,
            "t_end": last,
            "label": truth["label"].to_numpy()[pick],
            "score": rng.random(n_detections),
        }
    )
    return truth, found


def plain_activitynet_map(truth, found, tious):
    """mAP (T,) the way the ActivityNet toolkit goes about it: a loop over the rows of the
    detections, a look-up of the video's ground truth by groupby, a loop over thresholds, a loop
    over segments from the best tIoU down."""
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
COMMANDS = {
    "eval": bench_eval,
    "train": bench_train,
    "busy": bench_busy,
    "memory": bench_memory,
    "read": bench_read,
    "localize": bench_localize,
}
ON_REQUEST = {"large": bench_large}  # writes 3.8 GB


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], allow_abbrev=False)
    parser.add_argument(
        "part",
        nargs="?",
        choices=[*COMMANDS, *ON_REQUEST],
        help="what to measure; default: all but large",
    )
    parser.add_argument(
        "--json", metavar="OUT", help="write the figures to this file, one flat object"
    )
    args = parser.parse_args(argv)
    print(
        f"{platform.platform()}, {os.cpu_count()} CPUs, {torch.get_num_threads()} threads, "
        f"Python {platform.python_version()}, NumPy {np.__version__}, PyTorch {torch.__version__}"
    )
    figures = {}
    try:
        for name in [args.part] if args.part else COMMANDS:
            print(f"\n[{name}]")
            figures |= {**COMMANDS, **ON_REQUEST}[name]()
        print("\n" + tables.text([["", "measured"], *([k, _short(v)] for k, v in figures.items())]))
        if args.json:
            tables.write_json(args.json, figures)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    return figures


def _short(value):
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
