"""Every setting of a run. Edit DATASET (or a row of PRESETS) below, or give a flag: `python run.py --help`.

A flag wins over the recipe, the recipe over the preset of `--dataset`, that over the preset of DATASET.
"""
import argparse
import dataclasses
import itertools
import math
from dataclasses import dataclass, field
from types import SimpleNamespace

DATASET = "demo"                      # "demo", "thumos14", "thumos14-unt", "activitynet12" or "custom"

THUMOS14 = dict(cycle=10, cycle_epochs=30, alternate_epochs=35, lr=1e-4, boost=4.0, boost_from=31,
                lam=0.8, gamma=0.15, gate=0.15, video_classifier="untrimmednet", wtalc_iterations=10000,
                tious=(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7))
ACTIVITYNET12 = dict(cycle=5, cycle_epochs=65, alternate_epochs=0, lr=1e-4, boost=1.0, boost_from=1,
                     lam=0.3, gamma=0.0, gate=0.15, video_classifier="wtalc", wtalc_iterations=20000,
                     tious=(0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95))

PRESETS = {
    # The embedded set: THUMOS14's row on generated data, written under data/demo on first use.
    "demo": dict(THUMOS14, features="data/demo/features.h5", annotations="data/demo/annotations.json",
                 wtalc_iterations=2000),
    # W-TALC's files do not say how long a clip is: put snippet_seconds=0.64 into the row for its I3D features (the
    # paper's own clips were 1.25 s), 0.4 for UntrimmedNet's. tools/inspect_features.py tells what fits.
    "thumos14": dict(THUMOS14, features="data/thumos14/Thumos14reduced-I3D-JOINTFeatures.npy",
                     annotations="data/thumos14/Thumos14reduced-Annotations", snippet_seconds=None),
    # The paper's row EM-MIL-UNT: features of the UntrimmedNet backbone.
    "thumos14-unt": dict(THUMOS14, features="data/thumos14/Thumos14reduced-UNT-JOINTFeatures.npy",
                         annotations="data/thumos14/Thumos14reduced-Annotations", snippet_seconds=None),
    "activitynet12": dict(ACTIVITYNET12, features="data/activitynet12/ActivityNet1.2-I3D-JOINTFeatures.npy",
                          annotations="data/activitynet12/ActivityNet1.2-Annotations", snippet_seconds=None),
    # Your own set: give --features and --annotations. ActivityNet1.2's schedule, lambda and gamma; UntrimmedNet as
    # classifier; THUMOS14's tIoUs.
    "custom": dict(ACTIVITYNET12, video_classifier="untrimmednet", tious=THUMOS14["tious"], wtalc_iterations=10000),
}

RECIPES = {
    "paper": {},
    # The released code where it is a runnable choice: 4x learning rate ten epochs early, and the lambda and gamma that
    # its test code amounts to. NOTE(paper): Sec. 4.1 gives the values of "paper".
    "release": dict(boost_from=21, lam=0.5, test_gamma=0.05),
}


# ------------------------------------------------------------------------------------------------ the options
class OptionError(ValueError):
    """One line for the user: the option, its value, what is allowed."""


def option(default, text, *, low=None, high=None, choices=None, when="train", flag=None, low_open=False, high_open=False):
    """A field of Opts. `when`: what it takes to change it later: "train" (train anew), "test" (evaluate again) or "run"."""
    return field(default=default, metadata=dict(help=text, low=low, high=high, choices=choices, when=when, flag=flag,
                                                low_open=low_open, high_open=high_open))


@dataclass(frozen=True)
class Opts:
    """The resolved options of one run; immutable, validated on construction (raises OptionError)."""
    dataset: str = option("demo", "preset to start from", choices=tuple(PRESETS))
    recipe: str = option("paper", "the paper's values, or what the released code (THUMOS14 only) amounts to: "
                         "--boost-from 21 --lambda 0.5 --test-gamma 0.05",
                         choices=tuple(RECIPES))
    method: tuple = option(("em-mil",), "localizers to evaluate, one table row each",
                           choices=("em-mil", "untrimmednet", "wtalc"), when="test")
    # data
    features: str = option("", "feature file or folder (README: \"Put your features in\")", when="run")
    flow_features: str | None = option(None, "second file, where the flow stream has one of its own", when="run")
    feature_layout: str = option("auto", "force a layout instead of recognising it",
                                 choices=("auto", "canonical", "joint-npy", "per-video", "released-pt", "hdf5"))
    annotations: str = option("", "annotation file or folder", when="run")
    train_subset: str = option("auto", "subset to train on; auto: train/training, else validation")
    test_subset: str = option("auto", "subset to test on; auto: test/testing, else validation, where it has segments")
    video_labels: str = option("segments", "source of the training labels in W-TALC's annotation folder",
                               choices=("segments", "labels_all"))
    snippet_seconds: float | None = option(None, "duration of a clip [s]; default: what the feature file says",
                                           low=0.0, low_open=True)
    allow_missing: bool = option(False, "go on where videos of the split have no features")
    exclude_video: tuple = option((), "test videos to leave out, by name", when="test")
    feature_memory: float | None = option(None, "memory for features [GB]; larger sets are read from disk as they are "
                                          "needed. Default: half of the memory that is free", low=0.0, when="run")
    # the schedule (Sec. 4.1)
    cycle: int = option(10, "epochs of a phase while phases are long", low=1)
    cycle_epochs: int = option(30, "epochs trained in phases of that length, starting with M", low=1)
    alternate_epochs: int = option(35, "epochs after those, E and M in turn, one epoch each", low=0)
    lr: float = option(1e-4, "learning rate of Adam", low=0.0, low_open=True)
    boost: float = option(4.0, "factor on the learning rate from epoch --boost-from on", low=0.0, low_open=True)
    boost_from: int = option(31, "first epoch (from 1) of the boosted learning rate; must begin a phase", low=1)
    # EM-MIL
    seed: int = option(1, "seed of everything random", low=0, high=2**32 - 1)
    gamma: float = option(0.15, "Eq. 5: threshold between mean and range of Q, in training and at test", low=0.0, high=1.0,
                          high_open=True)
    keep_peak: bool = option(False, "Eq. 5: a positive bag with no clip above the threshold keeps its top clip")
    rgb_weight: float = option(0.5, "weight of the RGB stream in the fused scores; flow has the rest", low=0.0, high=1.0)
    objective: str = option("pseudo-labels", "what the branches learn from (attention: an ablation of Table 3)",
                            choices=("pseudo-labels", "attention"))
    joint: str = option("off", "train both branches in every update, with pseudo-labels anew every epoch or step "
                        "(an ablation of Table 3)", choices=("off", "epoch", "step"))
    videos_per_step: int = option(1, "videos per update and process; the paper's recipe is 1, more is a different one",
                                  low=1)
    precision: str = option("fp32", "arithmetic of EM-MIL's products in training (classifiers: fp32 or tf32)",
                            choices=("fp32", "tf32", "bf16"))
    # the video-level classifier (Sec. 3.5)
    video_classifier: str = option("untrimmednet", "what says which classes a test video has; oracle: its annotations "
                                   "(marked in every table)", choices=("untrimmednet", "wtalc", "oracle"), when="test")
    video_scores: str | None = option(None, "CSV or JSON of video-level scores to take instead of a classifier's",
                                      when="test")
    untrimmednet_epochs: int = option(45, "epochs of UntrimmedNet", low=1)
    wtalc_iterations: int = option(10000, "iterations of W-TALC, batches of 10 videos", low=1)
    wtalc_max_clips: int = option(750, "W-TALC trains on random crops of at most so many clips", low=1)
    # localization (Sec. 3.5)
    lam: float = option(0.8, "Eq. 9: weight of Q in L = lambda Q + (1 - lambda) P", low=0.0, high=1.0, when="test",
                        flag="--lambda")
    test_gamma: float | None = option(None, "Sec. 3.5: gamma at test; default: --gamma", low=0.0, high=1.0,
                                      high_open=True, when="test")
    gate: float = option(0.15, "classes of a test video: score at least this, else the best one", low=0.0, high=1.0,
                         when="test")
    proposal_score: str = option("mean", "score of a proposal, from L inside it (and around it); W-TALC has its own, and "
                                 "none of the options from here to --soft-nms",
                                 choices=("mean", "max", "outer-inner", "constant"), when="test")
    video_weight: float = option(0.0, "weight of the video-level class score in a proposal's score", low=0.0, when="test")
    thresholds: tuple = option((), "several gammas at test instead of one; combine with --nms", low=0.0, high=1.0,
                               high_open=True, when="test")
    nms: float | None = option(None, "tIoU above which the lower-scored proposal of a class goes", low=0.0, high=1.0,
                               when="test")
    soft_nms: bool = option(False, "with --nms: lower the score by the overlap (linear) instead", when="test")
    # evaluation
    tious: tuple = option((0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7), "tIoU thresholds of the table", low=0.0, high=1.0,
                          low_open=True, when="test", flag="--tiou")
    protocol: str = option("activitynet", "evaluator", when="test",
                           choices=("activitynet", "thumos-2014", "thumos-2015", "all"))
    ambiguous: str | None = option(None, "ambiguous segments for the THUMOS protocols (Ambiguous_test.txt or CSV)",
                                   when="test")
    # the run
    device: str = option("auto", "where to train; auto: CUDA if there is one", choices=("auto", "cpu", "cuda"), when="run")
    deterministic: bool = option(False, "PyTorch's deterministic algorithms only", when="run")
    checkpoint_every: int = option(10, "epochs between checkpoints, besides one at the end of each phase; 0: only those",
                                   low=0, when="run")
    pictures: int = option(6, "test videos to draw (Fig. 5)", low=0, when="run")

    def __post_init__(self):
        for f in dataclasses.fields(self):
            _check(f, getattr(self, f.name))
        if self.soft_nms and self.nms is None:
            raise OptionError("--soft-nms: found without --nms, expected --nms with its tIoU")
        starts = [1, *(1 + n for n in itertools.accumulate(epochs for _, epochs, _, _ in schedule(self)))][:-1]
        if self.boost != 1 and self.boost_from not in starts and self.boost_from <= self.cycle_epochs + self.alternate_epochs:
            raise OptionError(f"--boost-from: found {self.boost_from}, expected the first epoch of a phase: "
                              f"{', '.join(map(str, starts[:6]))}, ...")

    @property
    def gammas_at_test(self):
        """The gammas of Sec. 3.5's threshold: one by the paper."""
        return self.thresholds or ((self.gamma if self.test_gamma is None else self.test_gamma),)


def schedule(o):
    """The phases as rows (step, epochs, learning rate, source of the targets), from an Opts.

    Long phases M, E, M, ... of `cycle` epochs (the last one shorter if need be), then E, M, ... of one epoch. The
    first phase labels every clip of a positive bag 1 (Sec. 3.4). `joint` trains both branches in every update instead,
    for as many updates, with labels from the first epoch's end on. NOTE(paper): Sec. 4.1 does not say which step comes
    first after the long phases, nor how long ActivityNet1.2 is trained; E and 65 epochs are ours.
    """
    total = o.cycle_epochs + o.alternate_epochs
    lr = lambda epoch: o.lr * (o.boost if epoch >= o.boost_from else 1.0)
    if o.joint != "off":
        return [("EM", 1, lr(e), "bag" if e == 1 else "frozen") for e in range(1, total + 1)]
    lengths = [min(o.cycle, o.cycle_epochs - e) for e in range(0, o.cycle_epochs, o.cycle)] + [1] * o.alternate_epochs
    rows, epoch = [], 1
    for k, epochs in enumerate(lengths):
        rows.append(("ME"[k % 2], epochs, lr(epoch), "bag" if k == 0 else "frozen"))
        epoch += epochs
    return rows


# ------------------------------------------------------------------------------------------------ the command line
def flag_of(f):
    """The flag of a field."""
    return f.metadata["flag"] or "--" + f.name.replace("_", "-")


def _check(f, value):
    m, number = f.metadata, lambda v: isinstance(v, (int, float)) and not isinstance(v, bool)
    for v in value if isinstance(value, tuple) else () if value is None else (value,):
        if m["choices"] and v not in m["choices"]:
            raise OptionError(f"{flag_of(f)}: found {v!r}, expected one of {', '.join(m['choices'])}")
        low, high = m["low"], m["high"]
        if (low is None and high is None) or (number(v) and math.isfinite(v)
                                              and (low is None or v > low or (v == low and not m["low_open"]))
                                              and (high is None or v < high or (v == high and not m["high_open"]))):
            continue
        left = "(-inf" if low is None else f"{'(' if m['low_open'] else '['}{low:g}"
        right = "inf)" if high is None else f"{high:g}{')' if m['high_open'] else ']'}"
        raise OptionError(f"{flag_of(f)}: found {v!r}, expected a number in {left}, {right}")


def _kind(f):
    """The type of a field's (items') text on the command line."""
    if f.name in ("tious", "thresholds") or "float" in str(f.type):
        return float
    return int if "int" in str(f.type) else str


def show(value):
    """A value as its flag would take it; "none" where there is none."""
    return " ".join(map(str, value)) or "none" if isinstance(value, tuple) else "none" if value in (None, "") else str(value)


def _defaults(f):
    values = {name: row.get(f.name, f.default) for name, row in PRESETS.items()}
    if f.name == "dataset":
        return DATASET
    if len(set(values.values())) == 1:
        return show(f.default)
    return "; ".join(f"{name} {show(v)}" for name, v in values.items())


ACTIONS = {
    "resume": "go on with an interrupted run of this folder, to the result it would have had",
    "evaluate": "score a finished run's stored clip scores again, with other test-time options",
    "predict": "localize in the videos of --features with the networks of this run; no annotations needed",
    "config": "repeat the run of this opts.json",
}


def parse(argv=None, prog="run.py"):
    """The command line: an object with `given` (fields of Opts that flags set) and the command's own arguments.

    Touches no disk. Unknown or abbreviated flags end the program with code 2.
    """
    parser = argparse.ArgumentParser(
        prog=prog, allow_abbrev=False, argument_default=argparse.SUPPRESS,
        description="EM-MIL: train, localize, evaluate. A flag wins over --recipe, that over the preset of --dataset, "
                    f"that over the preset of DATASET in opts.py (now {DATASET}).")
    parser.add_argument("--out", help="folder of this run; default: runs/DATASET-sSEED-TIME (--predict: see there)")
    parser.add_argument("--dry-run", action="store_true", help="print options and schedule, touch nothing")
    actions = parser.add_mutually_exclusive_group()
    for name, text in ACTIONS.items():
        actions.add_argument(f"--{name}", metavar="FILE" if name == "config" else "RUN", help=text)
    parser.add_argument("--keep-going", action="store_true", help="--predict: report a bad video and go on (exit code 3)")
    parser.add_argument("--save-clip-scores", action="store_true", help="--predict: write Q, P, L to clip_scores.h5")
    for f in dataclasses.fields(Opts):
        text = f"{f.metadata['help']} [{_defaults(f)}]".replace("%", "%%")
        if f.type in (bool, "bool"):
            parser.add_argument(flag_of(f), dest=f.name, action=argparse.BooleanOptionalAction, help=text)
        else:
            many = f.type in (tuple, "tuple")
            parser.add_argument(flag_of(f), dest=f.name, type=_kind(f), nargs="+" if many else None, help=text,
                                metavar="|".join(f.metadata["choices"]) if f.metadata["choices"] else
                                _kind(f).__name__.upper().replace("STR", "TEXT"))
    found = vars(parser.parse_args(argv))
    fields = {f.name for f in dataclasses.fields(Opts)}
    given = {k: tuple(v) if isinstance(v, list) else v for k, v in found.items() if k in fields}
    rest = dict(out=None, dry_run=False, keep_going=False, save_clip_scores=False, **dict.fromkeys(ACTIONS))
    return SimpleNamespace(given=given, **{**rest, **{k: v for k, v in found.items() if k not in fields}})


def resolve(given, saved=None):
    """Opts from the flags given, over a saved run's options (dict) or over recipe and preset.

    Raises OptionError, naming option, value and range.
    """
    if saved is not None:
        return Opts(**{**from_json(saved), **given})
    dataset, recipe = given.get("dataset", DATASET), given.get("recipe", "paper")
    if dataset not in PRESETS:
        raise OptionError(f"DATASET: found {dataset!r}, expected one of {', '.join(PRESETS)}")
    if recipe not in RECIPES:
        raise OptionError(f"--recipe: found {recipe!r}, expected one of {', '.join(RECIPES)}")
    return Opts(**{"dataset": dataset, **PRESETS[dataset], **RECIPES[recipe], **given})


def from_json(saved):
    """The fields of a saved opts.json: lists become tuples. Raises OptionError for a name that is no option."""
    known = {f.name for f in dataclasses.fields(Opts)}
    for name in saved:
        if name not in known:
            raise OptionError(f"saved options: found {name!r}, which is no option of this version")
    return {k: tuple(v) if isinstance(v, list) else v for k, v in saved.items()}


def changed(old, new, when):
    """Names of the fields with `when` in which two Opts differ."""
    return [f.name for f in dataclasses.fields(Opts)
            if f.metadata["when"] == when and getattr(old, f.name) != getattr(new, f.name)]
