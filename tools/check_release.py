"""Run the paper's released code beside this program and print how far their numbers lie apart.

    git clone https://github.com/airmachine/EM-MIL-WeaklyActionDetection RELEASE
    python tools/check_release.py RELEASE

This executes the Python files in RELEASE with your rights: use a clone that you trust. Nothing is
written to RELEASE. Both programs begin with the same weights and see the same generated videos in
the same order: EM-MIL in the 65 epochs of `--recipe release`, UntrimmedNet in its 45 epochs, then
localization in the test videos. None of the released code is part of this program. Modules that it
imports and that are absent are supplied, and some of its names are replaced while it runs; the
output lists both, with the reason. At the end stands a Markdown table, in which a difference is the
largest absolute one.
"""

import argparse
import contextlib
import copy
import functools
import hashlib
import importlib
import importlib.util
import io
import os
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from engine import cpu  # noqa: E402,I001  (before PyTorch, as in run.py)
import numpy as np  # noqa: E402
import torch  # noqa: E402

import localize  # noqa: E402
import opts  # noqa: E402
from methods import METHODS, apply  # noqa: E402
from jobs import results, setup  # noqa: E402
from engine.loop import TrainingSet  # noqa: E402
from engine.run_folder import RunFolder, environment  # noqa: E402
from formats.files import InputError  # noqa: E402
from formats.program import log, program  # noqa: E402
from report import tables  # noqa: E402

URL = "https://github.com/airmachine/EM-MIL-WeaklyActionDetection"
FILES = "main main_unt model model_unt train train_unt test opts weaklyDataset".split()
# Imported by the released code and not used there.
ABSENT = {
    "check_untrimmed": "main_unt.py imports it, and it was not released",
    "torchvision": "weaklyDataset.py imports it, and it is not installed",
}
REPLACED = {
    "weaklyDataset, DataLoader": "the videos come from memory, in the order of our epochs",
    "generate_model, generate_model_unt": "both programs begin with the same weights",
    "torch.save": "weights stay in memory",
    "torch.cuda.is_available": "both programs run on the CPU",
    "torch.optim.Adam": "some rows have gradients zeroed, or the sign of the loss turned",
}
CLASSES = tuple("12345678")  # the released code writes a class as its number, from 1
CLIPS = 10, 100  # of a video: fewest and most
SECONDS = 1.25  # of a clip: 15 frames, every second one of 24 a second


def main(argv=None):
    """The command. Returns {precision: {row of the table: figure}}. Bad input: one `error:` line
    and exit code 2.
    """
    parser = argparse.ArgumentParser(
        prog="check_release.py",
        allow_abbrev=False,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("release", metavar="RELEASE", type=Path, help="folder of the released code")
    add = functools.partial(parser.add_argument, type=positive, metavar="N")
    add("--videos", default=40, help="training videos [40]")
    add("--test-videos", default=600, help="test videos [600]")
    add("--dim", default=128, help="dimensions of a stream's features [128]")
    add("--seed", default=1, help="seed of videos, weights and order [1]")
    args, found = parser.parse_args(argv), {}
    with program(last=argv is None), contextlib.ExitStack() as stack:
        stack.callback(torch.set_default_dtype, torch.get_default_dtype())
        released = Released(args.release, args.dim)
        print_circumstances(args)
        cpu.choose_threads(np.mean(CLIPS), 2 * args.dim)
        for number in ("float64", "float32"):
            log.info(f"running: {number}")
            torch.set_default_dtype(getattr(torch, number))
            found[number] = figures(released, args, number)
        rows = [[what, *(show(of[what]) for of in found.values())] for what in found["float64"]]
        log.info("\n" + tables.markdown([["what", *found], *rows]))
    return found


def positive(text):
    """A whole number from 1 on."""
    if int(text) < 1:
        raise ValueError
    return int(text)


def show(figure):
    return f"{figure:,}" if isinstance(figure, int) else f"{figure:.1e}"


def print_circumstances(args):
    """What the figures depend on, and what of the released code is replaced."""
    ours = environment(torch.device("cpu"))
    content = b"".join((args.release / f"{name}.py").read_bytes() for name in FILES)
    for name, why in REPLACED.items():
        log.info(f"replaced: {name}, because {why}")
    log.info(f"released code: {args.release}, sha256 {hashlib.sha256(content).hexdigest()[:12]}")
    log.info(f"this program: commit {ours['commit']}{', with changes' if ours['dirty'] else ''}")
    log.info(f"PyTorch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}")
    log.info(
        f"generated: {args.videos} training and {args.test_videos} test videos of {CLIPS[0]} to "
        f"{CLIPS[1]} clips, {len(CLASSES)} classes, 2 x {args.dim}-d, seed {args.seed}"
    )


def make_videos(rng, n_train, n_test, dim, number):
    """(training videos, test videos). Features are noise; each class of a video is added to a third
    of its clips.
    """
    videos = []
    looks = 0.3 * rng.standard_normal((2, len(CLASSES), dim))  # of a class, in each stream
    for i in range(n_train + n_test):
        n = int(rng.integers(CLIPS[0], CLIPS[1] + 1))
        streams, labels = rng.standard_normal((2, n, dim)), np.zeros(len(CLASSES), number)
        labels[i % len(CLASSES)] = 1
        if i % 3 == 0:
            labels[rng.integers(len(CLASSES))] = 1
        for c in labels.nonzero()[0]:
            start = rng.integers(n - n // 3)
            streams[:, start : start + n // 3] += looks[:, None, c]
        rgb, flow = streams.astype(number)
        video = dict(name=f"v{i}", rgb=rgb, flow=flow, labels=labels, duration=n * SECONDS)
        videos.append(SimpleNamespace(**video, snippet_seconds=SECONDS, clip_seconds=SECONDS))
    return videos[:n_train], videos[n_train:]


# ---- the released code
class Released:
    """The released code of a folder. InputError where it is not there or stops.

    dim: of a stream's features. Weights are {name: tensor}; videos as of make_videos; order:
    indices of the videos, a row for each pass.
    """

    def __init__(self, folder, dim):
        self.folder, self.dim = folder, dim
        if not folder.is_dir():
            raise InputError(f"{folder}: found no such folder, expected a clone of {URL}")
        for name in FILES:
            if not (folder / f"{name}.py").is_file():
                raise InputError(f"{folder}: found no {name}.py there, expected a clone of {URL}")
        # its files have names of ours, such as model
        names = {*FILES, *ABSENT}
        ours = {name: sys.modules.pop(name) for name in names if name in sys.modules}
        before = sys.path, sys.dont_write_bytecode
        sys.path, sys.dont_write_bytecode = [str(folder.resolve()), *sys.path], True
        try:
            for name, why in ABSENT.items():
                if importlib.util.find_spec(name) is None:
                    log.info(f"supplied: module {name}, because {why}")
                    sys.modules[name] = mock.Mock()
            with self.running():
                self.modules = {name: importlib.import_module(name) for name in FILES}
        finally:
            sys.path, sys.dont_write_bytecode = before
            for name in names:
                sys.modules.pop(name, None)
            sys.modules.update(ours)

    @contextlib.contextmanager
    def running(self, **options):
        """Its code runs inside: on the CPU, with these options, without its prints."""
        options |= {"dim": self.dim, "n_classes": len(CLASSES)}
        argv = ["run.py", *(f"--{name}={value}" for name, value in options.items())]
        try:
            with (
                mock.patch.object(sys, "argv", argv),
                mock.patch.object(torch.cuda, "is_available", lambda: False),
                mock.patch.dict(os.environ),
                contextlib.redirect_stdout(io.StringIO()),
            ):
                yield
        except (Exception, SystemExit) as error:
            raise InputError(
                f"{self.folder}: found code that stops with {type(error).__name__}: {error}; "
                f"expected that of {URL}"
            ) from error

    def train(self, name, weights, videos, order, adam=torch.optim.Adam):
        """The weights after its function `main` or `main_unt`, which begins with `weights`."""
        saved, module = [], self.modules[name]
        make = name.replace("main", "generate_model")
        network = self.network(make, weights)
        with (
            tempfile.TemporaryDirectory() as folder,
            self.running(model_weight=folder, model_unt_weight=folder),
            mock.patch.object(module, "weaklyDataset"),
            mock.patch.object(module, "DataLoader", lambda *_, **__: Batches(videos, order)),
            mock.patch.object(module, make, lambda _: (network, network.parameters())),
            mock.patch.object(torch, "save", lambda state, _: saved.append(state)),
            mock.patch.object(torch.optim, "Adam", adam),
        ):
            getattr(module, name)()
            return saved[-1]

    def network(self, make, weights):
        """The network of its function `generate_model` or `generate_model_unt`."""
        with self.running():
            module = self.modules[make.replace("generate_", "")]
            network, _ = getattr(module, make)(self.modules["opts"].parse_opts())
            network.load_state_dict(weights)
        return network

    def localize(self, em_mil, unt, videos):
        """{(video, start s, end s, class)} of its function `test`, by the weights of both."""
        networks = self.network("generate_model", em_mil), self.network("generate_model_unt", unt)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "results.txt"
            with self.running(result_path=path):
                opt = self.modules["opts"].parse_opts()
                self.modules["test"].test(Batches(videos, [range(len(videos))]), *networks, opt)
                return segments(line.split() for line in path.read_text().splitlines())


class Batches:
    """Batches of one video. order: indices of the videos, a row for each pass."""

    def __init__(self, videos, order):
        self.videos, self.order = videos, iter(order)

    def __iter__(self):
        for i in next(self.order):
            v = self.videos[i]
            rgb, flow, labels = map(torch.from_numpy, (v.rgb, v.flow, v.labels))
            yield rgb[None], flow[None], labels[None], [v.name]


class Zeroed(torch.optim.Adam):
    """Adam as it was at the time of the release: gradients are set to zero, today to None."""

    def zero_grad(self, set_to_none=False):
        super().zero_grad(set_to_none)


# ---- both programs
class Noted(TrainingSet):
    """A training set that notes the order in which its videos come."""

    def __init__(self, videos):
        super().__init__(videos)
        self.order = []

    def shuffled(self, rng, per_step=1):
        for bags, n in super().shuffled(rng, per_step):
            self.order.append(bags[0].index)
            yield bags, n


def train_ours(name, o, videos):
    """(the trained method, its first weights, order of the videos (epochs, N))."""
    torch.manual_seed(o.seed)
    dim, train_set = videos[0].rgb.shape[1], Noted(videos)
    method = METHODS[name](dim, dim, len(CLASSES), setup.settings_of(o, name))
    first = as_released(method)
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder(folder, seed=o.seed)
        method.fit(train_set, run)
        run.close()
    return method, first, np.reshape(train_set.order, (-1, len(videos)))


def as_released(method):
    """A copy of our EM-MIL's or UntrimmedNet's weights, {name in the released code: tensor}."""
    found = {}
    for name, value in copy.deepcopy(method.state_dict()).items():
        place, kind = name.rsplit(".", 1)
        if place in ("rgb", "flow"):  # UntrimmedNet, whose first output is the attention
            found[f"att_{place}.0.{kind}"], found[f"cls_{place}.0.{kind}"] = value[:1], value[1:]
        else:
            branch, stream, layer = place.split(".")
            branch = {"assignment": "key", "classifier": "cls"}[branch]
            layer = {"conv": f"{branch}_{stream}.0", "linear": f"{branch}_tail_{stream}.1"}[layer]
            found[f"{layer}.{kind}"] = value
    return found


def difference(method, theirs):
    """The largest difference of a weight. A softmax over time ignores its bias (att_*), whose
    gradient is rounding that Adam enlarges: it is left out.
    """
    ours, free = as_released(method), ("att_rgb.0.bias", "att_flow.0.bias")
    return max((ours[k] - theirs[k]).abs().max().item() for k in ours if k not in free)


def segments(rows):
    """{(video, start s, end s, class)} of rows that begin with these."""
    return {(video, float(start), float(end), label) for video, start, end, label, *_ in rows}


def figures(released, args, number):
    """{row of the table: figure}, with numbers of one type."""
    o = opts.resolve({"dataset": "thumos14", "recipe": "release", "seed": args.seed})
    sizes = args.videos, args.test_videos, args.dim
    train, test = make_videos(np.random.default_rng(args.seed), *sizes, number)
    em_mil, first, order = train_ours("em-mil", o, train)
    found = {}
    for gradients, adam in (("None", torch.optim.Adam), ("zeroed", Zeroed)):
        theirs = released.train("main", first, train, order, adam)
        row = f"EM-MIL, weights after 65 epochs, gradients {gradients}"
        found[row] = difference(em_mil, theirs)
    for v in train:  # by their last bit
        v.rgb, v.flow = (np.nextafter(x, np.inf, dtype=number) for x in (v.rgb, v.flow))
    again, _, _ = train_ours("em-mil", o, train)
    row = "for comparison: this program twice, features changed in their last bit"
    found[row] = difference(em_mil, as_released(again))

    unt, first, order = train_ours("untrimmednet", o, train)
    turned = functools.partial(torch.optim.Adam, maximize=True)
    theirs = released.train("main_unt", first, train, order, turned)
    row = "UntrimmedNet, weights after 45 epochs, sign of the loss turned"
    found[row] = difference(unt, theirs)
    theirs = released.train("main_unt", first, train, order)
    published = released.network("generate_model_unt", theirs)
    best = [published(*map(torch.from_numpy, (v.rgb, v.flow))).argmax() for v in train]
    row = f"UntrimmedNet as published, videos whose highest class is true, of {len(train)}"
    found[row] = sum(int(v.labels[c]) for v, c in zip(train, best))
    return found | localization(released, em_mil, unt, o, test)


def localization(released, em_mil, unt, o, videos):
    """How many segments of the released code this program finds, and what it finds besides."""
    methods = {"em-mil": em_mil, "untrimmednet": unt}
    records = [apply.record_of(video, methods, "cpu") for video in videos]
    gated = apply.class_scores("em-mil", records, o.video_classifier)
    table, _ = localize.table(apply.localized("em-mil", gated, CLASSES, results.rule_of(o)))
    ours = segments(table[list(localize.COLUMNS)].itertuples(index=False))
    theirs = released.localize(as_released(em_mil), as_released(unt), videos)
    more, ends = ours - theirs, {(video.name, video.duration) for video in videos}
    below = {r.name for r in records if r.scores["untrimmednet"]["video"].max() < o.gate}
    fallback = {row for row in more if row[0] in below}
    last = {row for row in more - fallback if (row[0], row[2]) in ends}
    return {
        "segments of the released code": len(theirs),
        "of these, not found by this program": len(theirs - ours),
        "found by this program alone: no class of the video passes the gate": len(fallback),
        "found by this program alone: open at the last clip": len(last),
        "found by this program alone: others": len(more - fallback - last),
    }


if __name__ == "__main__":
    main()
