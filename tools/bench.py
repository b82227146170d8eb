"""Measures the parts whose speed is promised; prints raw seconds and ratios, never judges.

    python tools/bench.py [SUBCOMMAND] [--json OUT]

Without a subcommand it runs all of them but `large`, which writes a set of 3.8 GB. A subcommand is a function that
prints what it measures and returns it as a flat dict; `--json` writes that dict. What is compared is timed in turns
within one process, two calls a turn of which the second counts, and the fastest turn of each, since other programs can
only make it slower.
"""
import argparse
import json
import multiprocessing
import os
import pathlib
import platform
import sys
import tempfile
import time
from types import SimpleNamespace

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")     # as run.py does

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
from engine import cpu as linear, loop as training  # noqa: E402
from formats import annotations, features  # noqa: E402
from report import tables  # noqa: E402
from em_trainer import Phase  # noqa: E402
from model import EMMIL  # noqa: E402
from pseudo_labels import class_labels, key_instance_labels  # noqa: E402
from formats.files import InputError, write_atomically  # noqa: E402

ACTIVITYNET_TIOUS = [round(0.5 + 0.05 * i, 2) for i in range(10)]

# Whole clips of 1.25 s in THUMOS14's 200 validation and 212 test videos, by the durations that W-TALC distributes.
THUMOS14 = {name: [int(clips) for clips in text.split()] for name, text in {
    "train": """
        135 133 157 108 130 110 182 105 183 149 26 132 137 42 60 190 40 245 356 326 49 158 187 138 85 116 168 109 155
        172 121 83 168 122 63 109 121 91 148 176 119 81 65 134 48 72 48 136 88 7 35 151 151 235 429 143 146 119 460 111
        18 26 37 227 41 137 305 245 17 54 182 30 49 54 104 175 103 89 105 53 559 63 105 718 127 161 171 149 237 419 557
        397 597 90 215 25 108 228 919 603 648 307 574 242 225 433 285 197 724 704 348 70 96 759 219 153 245 90 161 275
        134 78 180 175 419 1127 265 296 185 109 52 135 30 54 103 24 26 105 16 224 101 96 157 71 112 85 31 54 146 80 24
        188 56 13 123 66 39 89 50 25 97 474 438 182 135 331 27 210 157 153 74 90 139 61 78 34 46 27 124 28 185 63 86 152
        152 74 78 24 16 16 104 17 109 37 149 16 82 99 29 98""",
    "test": """
        27 53 386 63 166 116 181 188 142 92 91 12 79 176 68 153 104 153 134 431 79 196 82 37 169 167 140 103 172 154 60
        186 193 111 119 57 516 101 178 235 97 678 88 147 165 34 167 122 110 163 124 233 125 80 22 99 568 58 190 146 23
        57 54 160 40 70 131 26 44 345 166 142 165 261 164 95 204 25 68 275 93 32 136 104 141 13 51 143 536 32 181 116 85
        118 329 28 106 93 61 178 70 78 1338 101 87 127 144 306 135 21 188 181 156 27 198 309 181 96 252 74 22 1052 50 22
        147 154 65 79 96 187 141 772 220 121 227 169 51 78 392 55 93 133 38 56 205 144 54 147 38 173 102 482 96 80 677
        87 187 95 103 719 330 36 882 280 122 92 192 672 74 1010 198 100 75 211 49 56 163 67 139 275 44 131 140 125 332
        175 461 113 248 138 286 15 228 183 58 651 23 85 147 33 164 422 120 149 42 37 170 173 191 91 82 114""",
}.items()}
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
    """{name: fastest of `rounds` turns}. A turn is two calls, of which the second counts: the first one pays for what
    the functions before it have pushed out of the processor's caches and out of oneDNN's store of programs."""
    times = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            function()
            start = time.perf_counter()
            function()
            times[name].append(time.perf_counter() - start)
    return {name: min(values) for name, values in times.items()}


# ------------------------------------------------------------------------------------------------------------- train

def synthetic(lengths, dim, classes):
    """Videos with random features of `lengths` clips in two streams, and labels (N, classes), one or two a video."""
    rng = np.random.default_rng(0)
    videos = [SimpleNamespace(**{stream: rng.standard_normal((t, dim), np.float32) for stream in ("rgb", "flow")})
              for t in lengths]
    labels = torch.zeros(len(lengths), classes)
    for k in range(2):
        labels[np.arange(len(lengths)), rng.integers(0, classes, len(lengths))] = 1
    return videos, labels


class Ours:
    """A network and what it takes to train it as run.py does."""

    def __init__(self, videos, labels, device="cpu"):
        self.names, self.labels = [f"video {i}" for i in range(len(videos))], labels.to(device)
        self.feed = training.feeder(videos, device)
        dims = videos[0].rgb.shape[1], videos[0].flow.shape[1]
        torch.manual_seed(0)
        self.model = EMMIL(*dims, labels.shape[1]).to(device)

    def train(self, *phases):
        """Trains phase by phase. Returns the log: a dict an epoch."""
        session, log = training.Session(), []
        session.write = log.append
        em_trainer.fit(self.model, session=session, feed=self.feed, names=self.names, labels=self.labels,
                       phases=phases, gamma=0.15)
        return log

    @torch.no_grad()
    def passes(self, branch):
        """Forward passes of a branch over all videos, as at the start of a phase."""
        branch = getattr(self.model, branch)
        return [branch.fuse(branch(rgb, flow)) for batch in self.feed([[i] for i in range(len(self.names))])
                for _, rgb, flow in batch]


class Plain:
    """The method as released code goes about it: Conv1d over (1, D, T), one default Adam over both branches, both
    evaluated in every step, pseudo-labels anew in every step, a loss for each class in a Python loop.

    zeros: gradients are set to zero instead of to None, as PyTorch did by default when the code was released; Adam then
    steps over both branches.
    """

    def __init__(self, videos, labels, zeros):
        self.data = [(torch.from_numpy(v.rgb), torch.from_numpy(v.flow)) for v in videos]
        self.labels, self.zeros = labels, zeros
        self.heads = nn.ModuleDict({name: nn.ModuleList([nn.Conv1d(self.data[0][stream].shape[1], 256, 3, padding=1),
                                                         nn.Linear(256, outputs)])
                                    for stream, kind in enumerate(("rgb", "flow"))
                                    for name, outputs in ((f"q_{kind}", 1), (f"p_{kind}", labels.shape[1]))})
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
                        target[fused_q > fused_q.mean() + gamma * (fused_q.max() - fused_q.min())] = 1
                    for stream in p:
                        loss = loss + F.binary_cross_entropy(stream[:, c], target)
            self.adam.zero_grad(set_to_none=not self.zeros)
            loss.backward()
            self.adam.step()
            total += loss.item()
        return total / len(self.data)


def floor(lengths, dim, outputs, product):
    """The products that an epoch of one branch cannot avoid, with operands that stay in place: forward, weight gradient
    and, of the small second layer, input gradient, both streams, the way round that the epoch has them.

    product(a (m, k), b (n, k)): a @ b.T, for the first layer. Returns a function.
    """
    longest = max(lengths)
    x, hidden, out = (torch.randn(longest, width) for width in (3 * dim, 256, outputs))
    w1, w2 = torch.randn(256, 3 * dim), torch.randn(outputs, 256)
    inner = {t: torch.randn(256, t) for t in set(lengths)}

    def epoch():
        for t in lengths:
            for _ in range(2):
                product(w1, x[:t])
                hidden[:t] @ w2.T
                w2.T @ out[:t].T
                out[:t].T @ hidden[:t]
                product(inner[t], x[:t].T)

    return epoch


def _training_times(shape, rounds):
    videos, labels = synthetic(**shape)
    ours = Ours(videos, labels)
    plain, plain_none = (Plain(videos, labels, zeros) for zeros in (True, False))
    one_epoch = {step: Phase(step, 1, 1e-4, "bag") for step in "EM"}          # "bag": no pass for labels
    functions = {}
    for step, outputs in (("E", 1), ("M", shape["classes"])):
        sizes = shape["lengths"], shape["dim"], outputs
        functions[f"floor_mm {step}"] = floor(*sizes, lambda a, b: a @ b.T)
        if linear.AVAILABLE:
            functions[f"floor_onednn {step}"] = floor(*sizes, linear.onednn_product)
        functions[f"epoch {step}"] = lambda step=step: ours.train(one_epoch[step])
        functions[f"plain {step}"] = lambda step=step: plain.epoch(step)
        functions[f"plain_none {step}"] = lambda step=step: plain_none.epoch(step)
    times = in_turns(functions, rounds)
    return {name: (times[f"{name} E"] + times[f"{name} M"]) / 2 for name in dict.fromkeys(n[:-2] for n in times)}


def bench_train():
    """One training epoch (mean of an E and an M step's) against its products and a plain loop, at two shapes."""
    figures = {}
    for shape, name, prefix, rounds in ((THUMOS14_SHAPE, "THUMOS14", "", 3), (HAPT30_SHAPE, "hapt30", "small_", 5)):
        times = _training_times(shape, rounds)
        floor_s = min(value for key, value in times.items() if key.startswith("floor"))
        epoch_s = times["epoch"]
        flops = sum(shape["lengths"]) * 3 * shape["dim"] * 256 * 2 * 2 * 2
        print(f"one training epoch at {name}'s shape: {len(shape['lengths'])} videos, {sum(shape['lengths']):,} clips, "
              f"2 x {shape['dim']}-d, {shape['classes']} classes, batch size 1, {torch.get_num_threads()} threads")
        for key, text in (("floor_mm", "bare products, torch.mm"), ("floor_onednn", "bare products, oneDNN"),
                          ("epoch", "epoch"), ("plain", "plain loop"), ("plain_none", "plain loop, gradients None")):
            if key in times:
                print(f"  {text:<28}{times[key]:9.4f} s   {times[key] / epoch_s:6.2f} epochs"
                      + (f"   {flops / times[key] / 1e9:6.0f} GFLOP/s" if key.startswith("floor") else ""))
        print(f"  epoch over the faster products {epoch_s / floor_s:.2f}, over torch.mm's "
              f"{epoch_s / times['floor_mm']:.2f}")
        figures |= {f"{prefix}epoch_over_floor": epoch_s / floor_s,
                    f"{prefix}epoch_over_mm_floor": epoch_s / times["floor_mm"],
                    f"{prefix}plain_over_epoch": times["plain"] / epoch_s,
                    f"{prefix}plain_none_over_epoch": times["plain_none"] / epoch_s, f"{prefix}floor_s": floor_s,
                    **{f"{prefix}{key}_s": value for key, value in times.items()}}
    return figures


def bench_labels():
    """Pseudo-labels of all videos as a share of THUMOS14's 65 epochs: the equations, and with the pass they need."""
    videos, labels = synthetic(**THUMOS14_SHAPE)
    ours = Ours(videos, labels)
    q, p = [x[:, 0] for x in ours.passes("assignment")], ours.passes("classifier")
    times = in_turns({
        "equations E": lambda: [key_instance_labels(scores, y) for scores, y in zip(p, labels)],
        "equations M": lambda: [class_labels(scores, y, 0.15) for scores, y in zip(q, labels)],
        "pass E": lambda: ours.passes("classifier"), "pass M": lambda: ours.passes("assignment"),
        "epoch E": lambda: ours.train(Phase("E", 1, 1e-4, "bag")),
        "epoch M": lambda: ours.train(Phase("M", 1, 1e-4, "bag"))}, 3)
    phases = [Phase(*row) for row in opts.schedule(opts.resolve({"dataset": "thumos14"}))]
    anew = [phase for phase in phases if phase.targets == "frozen"]
    equations = sum(times[f"equations {phase.step}"] for phase in anew)
    passes = sum(times[f"pass {phase.step}"] for phase in anew)
    epochs = sum(phase.epochs * times[f"epoch {phase.step}"] for phase in phases)
    whole = equations + passes + epochs
    print(f"pseudo-labels at THUMOS14's shape: {len(anew)} of {len(phases)} phases label all videos anew")
    print(f"  {sum(phase.epochs for phase in phases)} epochs{epochs:13.2f} s")
    print(f"  Eq. 3 and Eq. 5   {equations:7.2f} s   {100 * equations / whole:5.2f}% of training")
    print(f"  forward passes    {passes:7.2f} s   {100 * passes / whole:5.2f}% of training")
    print("  The passes are products over all clips, which a schedule of one-epoch phases cannot do without.")
    return {"pseudo_label_share": equations / whole, "pseudo_label_pass_share": (equations + passes) / whole,
            "pseudo_label_equations_s": equations, "pseudo_label_passes_s": passes, "training_65_epochs_s": whole}


WAITS = ("aten::item", "aten::_local_scalar_dense", "aten::is_nonzero", "aten::nonzero")     # read a value on the host


def _within_adam(event):
    while event is not None and event.name != "aten::_fused_adam_":
        event = event.cpu_parent
    return event is not None


def bench_profile():
    """Where an epoch's time goes, and that no step waits for the device; on a GPU, THUMOS14's 65 epochs."""
    videos, labels = synthetic(**THUMOS14_SHAPE)
    counts, phase = {}, Phase("M", 1, 1e-4, "bag")
    for n in (20, 40):
        ours = Ours(videos[:n], labels[:n])
        ours.train(phase)
        with torch.profiler.profile() as profile:
            ours.train(phase)
        counts[n] = sum(event.name in WAITS and not _within_adam(event) for event in profile.events())
    rows, own = profile.key_averages(), {}
    for row in rows:
        own[row.key] = own.get(row.key, 0) + row.self_cpu_time_total
    whole = sum(own.values())
    print("profile of a training epoch (M step, 40 videos), share of its time by operator, without its callees")
    for name, value in sorted(own.items(), key=lambda item: -item[1])[:10]:
        print(f"  {name:<60}{100 * value / whole:6.1f}%")
    figures = {"waits_per_step": (counts[40] - counts[20]) / 20, "waits_20_videos": counts[20],
               "waits_40_videos": counts[40]}
    print(f"operators that read a value on the host, in a phase of one epoch: {counts[20]} with 20 videos, "
          f"{counts[40]} with 40: {figures['waits_per_step']:g} a step\n"
          f"  ({', '.join(WAITS)}; those in which Adam's CPU kernel reads its own step counter left out)")
    if not torch.cuda.is_available():
        print("  no GPU here: THUMOS14's 65 epochs on one are not measured")
        return figures
    ours = Ours(videos, labels, "cuda")
    phases = [Phase(*row) for row in opts.schedule(opts.resolve({"dataset": "thumos14"}))]
    ours.train(Phase("M", 1, 1e-4, "bag"))
    torch.cuda.synchronize()
    start = time.perf_counter()
    ours.train(*phases)
    torch.cuda.synchronize()
    figures |= {"gpu_65_epochs_s": time.perf_counter() - start, "gpu": torch.cuda.get_device_name()}
    print(f"  THUMOS14's 65 epochs on {figures['gpu']}, features on it: {figures['gpu_65_epochs_s']:.2f} s")
    return figures


# -------------------------------------------------------------------------------------------------- memory, large set

def write_set(folder, lengths, dim, classes, snippet_seconds, dtype="float16"):
    """A canonical set of training videos with random features, and one clip of test video; its files' folder."""
    pool = np.random.default_rng(0).standard_normal((max(lengths) + 997, 2 * dim), np.float32).astype(np.float16)
    lengths = [*lengths, 1]
    names = [f"video_{i:05d}" for i in range(len(lengths))]
    features.write_canonical(folder / "features.h5", (
        (name, pool[i % 997:i % 997 + t, :dim], pool[i % 997:i % 997 + t, dim:])
        for i, (name, t) in enumerate(zip(names, lengths))), snippet_seconds, dtype)
    database = {name: {"subset": "train", "duration": t * snippet_seconds, "annotations": [
        {"label": f"class {i % classes:03d}", "segment": [0.0, t * snippet_seconds]}]}
        for i, (name, t) in enumerate(zip(names, lengths))}
    database[names[-1]]["subset"] = "test"
    (folder / "annotations.json").write_text(json.dumps({"database": database}), encoding="utf-8")


def train_from_disk(folder, limit, phases):
    """Loads a set as run.py does and trains on it: seconds to load, seconds of each epoch, and peak memory in bytes."""
    start = time.perf_counter()
    data = dataset.load(folder / "features.h5", folder / "annotations.json", train_subset="train", test_subset="test",
                        memory_limit=limit)
    ours = Ours(data.train, torch.from_numpy(np.stack([video.labels for video in data.train])))
    loaded = time.perf_counter()
    log = ours.train(*phases)
    return {"load_s": loaded - start, "train_s": time.perf_counter() - loaded, "in_memory": data.in_memory,
            "epochs_s": [record["seconds"] for record in log], "loss": [record["loss"] for record in log],
            "feature_bytes": data.feature_bytes, "peak_bytes": peak_bytes()}


def peak_bytes():
    """Peak memory of this process. getrusage would count that of the process which started it as well."""
    status = dict(line.split(":", 1) for line in pathlib.Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) * 1024


def apart(function, *args):
    """function(*args) in a process of its own, whose peak memory is its own too."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, args)


def bench_memory():
    """Peak memory of a process that loads and trains THUMOS14's shape, over the features' float32 size."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        write_set(folder, **THUMOS14_SHAPE, snippet_seconds=1.25)
        found = apart(train_from_disk, folder, None, [Phase("M", 1, 1e-4, "bag"), Phase("E", 1, 1e-4, "frozen"),
                                                      Phase("M", 1, 1e-4, "frozen")])
    size, peak = found["feature_bytes"], found["peak_bytes"]
    print(f"peak memory of loading and training at THUMOS14's shape: {peak / 1e6:,.0f} MB = "
          f"1.0 x {size / 1e6:,.0f} MB of features as float32 + {(peak - size) / 1e6:,.0f} MB")
    return {"peak_memory_over_features": peak / size, "peak_memory_bytes": peak, "feature_bytes": size}


def bench_large():
    """ActivityNet1.2's 4,819 training videos (3.8 GB on disk): one M and one E epoch, streamed and in memory."""
    known = ROOT.parent / "shared" / "data" / "activitynet12" / "ActivityNet1.2-Annotations"
    if known.is_dir():
        lengths = [max(1, int(video.duration / 0.6)) for video in annotations.load(str(known)).videos.values()
                   if video.subset == "training"]
    else:
        lengths = np.random.default_rng(0).integers(4, 390, 4819).tolist()
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        write_set(folder, lengths, 1024, 100, 0.6)
        phases = [Phase("M", 1, 1e-4, "bag"), Phase("E", 1, 1e-4, "frozen")]
        print(f"{len(lengths)} videos, {sum(lengths):,} clips, 2 x 1024-d, 100 classes; "
              f"{(folder / 'features.h5').stat().st_size / 1e9:.2f} GB on disk")
        for name, limit in (("streamed", 1e9), ("in_memory", None)):
            found = apart(train_from_disk, folder, limit, phases)
            assert found["in_memory"] == (name == "in_memory")
            print(f"  {name.replace('_', ' '):<10} loading {found['load_s']:6.1f} s, epochs "
                  + " and ".join(f"{s:.1f}" for s in found["epochs_s"])
                  + f" s, training with the pass for labels {found['train_s']:6.1f} s, "
                  f"peak {found['peak_bytes'] / 1e9:.2f} GB")
            figures |= {f"large_{name}_load_s": found["load_s"], f"large_{name}_epoch_s": np.mean(found["epochs_s"]),
                        f"large_{name}_train_s": found["train_s"], f"large_{name}_peak_bytes": found["peak_bytes"]}
    ratio = figures["large_streamed_epoch_s"] / figures["large_in_memory_epoch_s"]
    print(f"  an epoch takes {ratio:.2f} times as long streamed as in memory")
    return {"large_streamed_over_in_memory": ratio, **figures}


# -------------------------------------------------------------------------------------------------------------- read

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
                    return [[convert(file[name][stream][()]) for stream in ("rgb", "flow")] for name in file]

            times = in_turns({"ours": ours, "h5py": lambda: h5py_alone(lambda x: x.astype(np.float32, copy=False)),
                              "raw": lambda: h5py_alone(lambda x: x)}, 4)
            print(f"reading {path.stat().st_size / 1e6:,.0f} MB of {dtype}, from the file cache: "
                  f"{times['ours']:.3f} s; h5py {times['h5py']:.3f} s as float32, {times['raw']:.3f} s as stored; "
                  f"{times['ours'] / times['h5py']:.2f} and {times['ours'] / times['raw']:.2f} times")
            prefix = "read" if dtype == "float16" else "read_float32"
            figures |= {f"{prefix}_over_h5py": times["ours"] / times["h5py"], f"{prefix}_s": times["ours"],
                        f"{prefix}_over_h5py_unconverted": times["ours"] / times["raw"],
                        f"{prefix}_h5py_s": times["h5py"], f"{prefix}_h5py_unconverted_s": times["raw"]}
    return figures


# ---------------------------------------------------------------------------------------------------------- localize

def smooth_scores(lengths, classes):
    """Per video Q (T,), P (T, classes) and video-level scores (classes,): noise smoothed over 9 clips, in [0, 1]."""
    rng, window = np.random.default_rng(0), np.ones(9) / 9
    videos = []
    for t in lengths:
        curves = [np.convolve(rng.normal(size=t + 8), window, "valid") * 3 for _ in range(classes + 1)]
        scores = 1 / (1 + np.exp(-np.stack(curves, axis=1))).astype(np.float32)        # (T, 1 + classes)
        videos.append((scores[:, 0], scores[:, 1:], rng.random(classes)))
    return videos


def localized(videos, classes, gate):
    return localize.table(localize.em_mil(f"video {i}", q, p, scores, classes, snippet_seconds=1.25,
                                          duration=len(q) * 1.25, lam=0.8, gammas=(0.15,), gate_threshold=gate)
                          for i, (q, p, scores) in enumerate(videos))


def bench_localize():
    """Localization in THUMOS14's 212 test videos, all of 20 classes above the gate."""
    classes = [f"class {c:02d}" for c in range(20)]
    videos = smooth_scores(THUMOS14["test"], 20)
    spent = seconds(localized, videos, classes, 0.0)
    _, counts = localized(videos, classes, 0.0)
    print(f"localization, {counts['videos']} test videos, {counts['pairs']:,} pairs of video and class, "
          f"{counts['proposals']:,} proposals: {spent:.3f} s")
    return {"localize_seconds": spent, "localize_proposals": counts["proposals"]}


# ------------------------------------------------------------------------------------------------------------ growth

def bench_growth():
    """How an epoch, the pass for pseudo-labels and localization grow with videos, their length and classes."""
    base = THUMOS14["train"][::8]
    series = {"videos": [(k, base * k, 20) for k in (1, 2, 4, 8)],
              "length": [(k, [t * k for t in base], 20) for k in (1, 2, 4, 8)],
              "classes": [(c, base, c) for c in (20, 50, 100, 200, 400)]}
    figures = {}
    print(f"growth from {len(base)} videos of THUMOS14's lengths, {sum(base):,} clips, 2 x 1024-d; all classes "
          "localized")
    for name, rows in series.items():
        print(f"  {name:>8}      epoch   label pass   localization")
        for factor, lengths, n_classes in rows:
            videos, labels = synthetic(lengths, 1024, n_classes)
            ours, scores = Ours(videos, labels), smooth_scores(lengths, n_classes)
            names = [f"class {c:03d}" for c in range(n_classes)]
            times = in_turns({"training epoch": lambda: ours.train(Phase("M", 1, 1e-4, "bag")),
                              "pass for labels": lambda: ours.passes("classifier"),
                              "localization": lambda: localized(scores, names, 0.0)}, 2)
            print(f"  {factor:>8}{times['training epoch']:>9.3f} s{times['pass for labels']:>11.3f} s"
                  f"{times['localization']:>13.3f} s")
            for curve, value in times.items():
                figures[f"growth_{name}_{factor}_{curve.replace(' ', '_')}_s"] = value
    return figures


# -------------------------------------------------------------------------------------------------------------- eval

def bench_eval():
    """The evaluator against a loop over detections as in the ActivityNet toolkit, and its growth with detections."""
    truth, found, name = _activitynet_tables()
    plain = plain_activitynet_map(truth, found, ACTIVITYNET_TIOUS)
    plain_s = seconds(plain_activitynet_map, truth, found, ACTIVITYNET_TIOUS, repeats=2)
    ours_s = seconds(eval_detection.evaluate, truth, found, ACTIVITYNET_TIOUS)
    ours = eval_detection.evaluate(truth, found, ACTIVITYNET_TIOUS).map
    difference = float(np.abs(ours - plain).max())
    print(f"{name}: {len(found):,} detections, {len(truth):,} segments, {len(ACTIVITYNET_TIOUS)} tIoUs")
    print(f"  loop over detections, as in the official toolkit  {plain_s:8.4f} s")
    print(f"  eval_detection.evaluate                           {ours_s:8.4f} s")
    print(f"  {plain_s / ours_s:,.0f} times faster; mAP differs by {difference:.1e}")
    report = {"eval_plain_over_ours": plain_s / ours_s, "eval_plain_s": plain_s, "eval_ours_s": ours_s,
              "eval_map_difference": difference, "eval_detections": len(found), "eval_set": name}

    print(f"growth, {len(ACTIVITYNET_TIOUS)} tIoUs, 3,358 segments of 20 classes in 212 videos")
    print(f"  {'detections':>12}" + "".join(f"{name:>16}" for name in eval_detection.PROTOCOLS) + "   peak memory")
    for exponent in range(3, 7):
        truth, found = random_tables(3358, 10**exponent, n_videos=212, n_classes=20)
        times = {protocol: seconds(eval_detection.evaluate, truth, found, ACTIVITYNET_TIOUS, protocol, repeats=2)
                 for protocol in eval_detection.PROTOCOLS}
        peak_mb = peak_bytes() / 2**20
        print(f"  {len(found):>12,}" + "".join(f"{s:>14.4f} s" for s in times.values()) + f"   {peak_mb:>7,.0f} MiB")
        report |= {f"eval_{protocol.replace('-', '_')}_1e{exponent}_s": s for protocol, s in times.items()}
        report[f"eval_peak_mib_1e{exponent}"] = peak_mb
    return report


def _activitynet_tables():
    folder = ROOT.parent / "shared" / "data" / "eval_golden"
    if folder.is_dir():
        truth, found = (pd.read_csv(folder / name, keep_default_na=False) for name in
                        ("activitynet12_ground_truth.csv", "activitynet12_a/detections.csv"))
        return truth, found, "eval_golden/activitynet12_a"
    truth, found = random_tables(3579, 6398, n_videos=2381, n_classes=100)
    return truth, found, "random tables of ActivityNet1.2's size"


def random_tables(n_segments, n_detections, n_videos, n_classes):
    """Segments of about 5 s in videos of 200 s, detections jittered around them by 0.3 of their length."""
    rng = np.random.default_rng(0)
    start = rng.uniform(0, 200, n_segments)
    length = rng.exponential(5, n_segments) + 0.1
    truth = pd.DataFrame({"video": [f"video_{v:04d}" for v in rng.integers(0, n_videos, n_segments)],
                          "t_start": start, "t_end": start + length,
                          "label": [f"class_{c:03d}" for c in rng.integers(0, n_classes, n_segments)]})
    pick = rng.integers(0, n_segments, n_detections)
    first = (start + rng.normal(0, 0.3, n_segments) * length)[pick] + rng.normal(0, 0.3, n_detections) * length[pick]
    last = np.maximum((start + length)[pick] + rng.normal(0, 0.3, n_detections) * length[pick], first + 0.05)
    found = pd.DataFrame({"video": truth["video"].to_numpy()[pick], "t_start": first, "t_end": last,
                          "label": truth["label"].to_numpy()[pick], "score": rng.random(n_detections)})
    return truth, found


def plain_activitynet_map(truth, found, tious):
    """mAP (T,) the way the ActivityNet toolkit goes about it: a loop over the rows of the detections, a look-up of the
    video's ground truth by groupby, a loop over thresholds, a loop over segments from the best tIoU down."""
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


# ----------------------------------------------------------------------------------------------------------- command

COMMANDS = {"eval": bench_eval, "train": bench_train, "labels": bench_labels, "profile": bench_profile,
            "memory": bench_memory, "read": bench_read, "localize": bench_localize, "growth": bench_growth}
ASKED_FOR = {"large": bench_large}                     # not without being named
TARGETS = {"epoch_over_floor": "1.35", "plain_over_epoch": "at least 3", "small_plain_over_epoch": "at least 2.5",
           "pseudo_label_share": "0.03", "peak_memory_over_features": "1.3 + 600 MB", "read_over_h5py": "1.3",
           "localize_seconds": "1", "eval_plain_over_ours": "-"}


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], allow_abbrev=False)
    parser.add_argument("--json", metavar="OUT", help="write the figures to this file, one flat object")
    commands = parser.add_subparsers(dest="command")
    for name, function in {**COMMANDS, **ASKED_FOR}.items():
        command = commands.add_parser(name, help=function.__doc__.splitlines()[0], allow_abbrev=False)
        command.add_argument("--json", metavar="OUT", default=argparse.SUPPRESS, help="as above")
    args = parser.parse_args(argv)
    print(f"{platform.platform()}, {os.cpu_count()} CPUs, {torch.get_num_threads()} threads, "
          f"Python {platform.python_version()}, NumPy {np.__version__}, PyTorch {torch.__version__}")
    figures = {}
    try:
        for name in [args.command] if args.command else COMMANDS:
            print(f"\n[{name}]")
            figures |= {**COMMANDS, **ASKED_FOR}[name]()
        if not args.command:
            print("\n" + tables.text([["", "measured", "target"], *(
                [key, f"{figures[key]:.4g}", target] for key, target in TARGETS.items())]))
        if args.json:
            with write_atomically(args.json) as temporary:
                temporary.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    return figures


if __name__ == "__main__":
    main()
