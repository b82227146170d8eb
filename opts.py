"""Every setting of a run. Edit DATASET (or a row of PRESETS) below, or give a flag: `python run.py
--help`.

A flag wins over the recipe, the recipe over the preset of `--dataset`, the preset over the
defaults.
"""

import argparse
import dataclasses
import difflib
import functools
import itertools
import sys
from dataclasses import dataclass, field
from types import SimpleNamespace

# "demo", "thumos14", "thumos14-unt", "activitynet12" or "custom"
DATASET = "demo"

THUMOS14 = dict(
    cycle=10,
    cycle_epochs=30,
    alternate_epochs=35,
    lr=1e-4,
    boost=4.0,
    boost_from=31,
    lam=0.8,
    gamma=0.15,
    gate=0.15,
    video_classifier="untrimmednet",
    wtalc_iterations=10000,
    tious=(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7),
)
ACTIVITYNET12 = dict(
    cycle=5,
    cycle_epochs=65,
    alternate_epochs=0,
    lr=1e-4,
    boost=1.0,
    boost_from=1,
    lam=0.3,
    gamma=0.0,
    gate=0.15,
    video_classifier="wtalc",
    wtalc_iterations=20000,
    tious=(0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95),
)

PRESETS = {
    # The embedded set: THUMOS14's row on generated data, written under data/demo on first use. Its
    # gate is 1.2 times chance (1 / 6): THUMOS14's 0.15 lies below chance for 6 classes and would
    # pass nearly all of them.
    "demo": dict(
        THUMOS14,
        features="data/demo/features.h5",
        annotations="data/demo/annotations.json",
        gate=0.2,
        wtalc_iterations=2000,
    ),
    # W-TALC's files do not say how long a clip is: put snippet_seconds=0.64 into the row for its
    # I3D features (the paper's own clips were 1.25 s), 0.4 for UntrimmedNet's.
    # tools/inspect_features.py shows what fits.
    "thumos14": dict(
        THUMOS14,
        features="data/thumos14/Thumos14reduced-I3D-JOINTFeatures.npy",
        annotations="data/thumos14/Thumos14reduced-Annotations",
        snippet_seconds=None,
    ),
    # The paper's row EM-MIL-UNT: features of the UntrimmedNet backbone.
    "thumos14-unt": dict(
        THUMOS14,
        features="data/thumos14/Thumos14reduced-UNT-JOINTFeatures.npy",
        annotations="data/thumos14/Thumos14reduced-Annotations",
        snippet_seconds=None,
    ),
    "activitynet12": dict(
        ACTIVITYNET12,
        features="data/activitynet12/ActivityNet1.2-I3D-JOINTFeatures.npy",
        annotations="data/activitynet12/ActivityNet1.2-Annotations",
        snippet_seconds=None,
    ),
    # Your own set: give --features and --annotations. ActivityNet1.2's schedule, lambda and gamma;
    # UntrimmedNet as classifier; THUMOS14's tIoUs.
    "custom": dict(
        ACTIVITYNET12,
        video_classifier="untrimmednet",
        tious=THUMOS14["tious"],
        wtalc_iterations=10000,
    ),
}

RECIPES = {
    "paper": {},
    # The released code where it is a runnable choice: 4x learning rate ten epochs early, and the
    # lambda and gamma that its test code amounts to. NOTE(paper): Sec. 4.1 gives the values of
    # "paper". The released code's constant score of proposals is left out: with it the order of
    # ties alone decides AP (--proposal-score constant shows it).
    "release": dict(boost_from=21, lam=0.5, test_gamma=0.05),
}

# Allowed values of options whose list another module owns (methods, protocols, ...); run.py fills
# it.
CHOICES = {}


# ---- the options
class OptionError(ValueError):
    """One line for the user: the option, its value, what is allowed."""


def option(default, text, values=None, *, choices=None, when="train", flag=None):
    """A field of Opts. values: range of a number, such as "[0, 1)". when: what a change needs:
    "train" (training again), "test" (evaluating again), "run" (nothing).
    """
    about = dict(help=text, values=values, choices=choices, when=when, flag=flag)
    return field(default=default, metadata=about)


test_option = functools.partial(option, when="test")
run_option = functools.partial(option, when="run")


@dataclass(frozen=True)
class Opts:
    """The resolved options of one run; immutable, validated on construction (raises
    OptionError).
    """

    dataset: str = option("demo", "preset to start from", choices=tuple(PRESETS))
    recipe: str = option(
        "paper",
        "the paper's values, or what the released code (THUMOS14 only) amounts to: "
        "--boost-from 21 --lambda 0.5 --test-gamma 0.05",
        choices=tuple(RECIPES),
    )
    method: tuple = test_option(("em-mil",), "localizers to evaluate, one table row each")
    # data
    features: str = run_option("", "feature file or folder (docs/data.md)")
    flow_features: str | None = run_option(
        None, "second file, where the flow stream has one of its own"
    )
    feature_layout: str = option("auto", "force a layout instead of recognising it")
    streams: str | None = option(
        None,
        "streams of the set; default: both, and a question where it could be one",
        choices=("both", "rgb", "flow"),
    )
    crops: str | None = option(
        None, "of several crops a clip: their mean, or the first one", choices=("mean", "first")
    )
    annotations: str = run_option("", "annotation file or folder")
    train_subset: str = option("auto", "subset to train on; auto: train/training, else validation")
    test_subset: str = option(
        "auto", "subset to test on; auto: test/testing, else validation, where it has segments"
    )
    video_labels: str = option(
        "segments",
        "source of the training labels in W-TALC's annotation folder",
        choices=("segments", "labels_all"),
    )
    snippet_seconds: float | str | None = option(
        None,
        "from clip to clip [s]; duration: each video's duration / clips; default: what the feature "
        "file says",
        "(0, inf)",
        choices=("duration",),
    )
    clip_seconds: float | None = option(
        None,
        "length of a clip [s], where clips overlap; default: what the feature file says, else "
        "--snippet-seconds",
        "(0, inf)",
    )
    allow_missing: bool = option(False, "go on without the videos that have no usable features")
    exclude_video: tuple = test_option((), "videos to leave out, by name")
    feature_memory: float | None = run_option(
        None,
        "memory for features [GB]; larger sets are read from disk as they are "
        "needed. Default: half of the memory that is free",
        "[0, inf)",
    )
    # the schedule (Sec. 4.1)
    cycle: int = option(10, "epochs of a phase while phases are long", "[1, inf)")
    cycle_epochs: int = option(
        30, "epochs trained in phases of that length, starting with M", "[1, inf)"
    )
    alternate_epochs: int = option(
        35, "epochs after those, E and M in turn, one epoch each", "[0, inf)"
    )
    lr: float = option(1e-4, "learning rate of Adam", "(0, inf)")
    boost: float = option(4.0, "factor on the learning rate from epoch --boost-from on", "(0, inf)")
    boost_from: int = option(
        31, "first epoch (from 1) of the boosted learning rate; must begin a phase", "[1, inf)"
    )
    # EM-MIL
    seed: int = option(1, "seed of everything random", "[0, 4294967295]")
    gamma: float = option(
        0.15, "Eq. 5: threshold between mean and range of Q, in training and at test", "[0, 1)"
    )
    keep_peak: bool = option(
        False, "Eq. 5: a positive bag with no clip above the threshold keeps its top clip"
    )
    rgb_weight: float = option(
        0.5, "weight of the RGB stream in the fused scores; flow has the rest", "[0, 1]"
    )
    objective: str = option(
        "pseudo-labels",
        "what the branches learn from (attention: an ablation of Table 3)",
        choices=("pseudo-labels", "attention"),
    )
    joint: str = option(
        "off",
        "train both branches in every update, with new pseudo-labels every epoch or step "
        "(an ablation of Table 3)",
        choices=("off", "epoch", "step"),
    )
    videos_per_step: int = option(
        1,
        "videos per update and process; the paper's recipe is 1, more is a different one",
        "[1, inf)",
    )
    # the video-level classifier (Sec. 3.5)
    video_classifier: str = test_option(
        "untrimmednet",
        "what says which classes a test video has; oracle: its annotations (marked in every table)",
    )
    video_scores: str | None = test_option(
        None, "CSV or JSON of video-level scores to take instead of a classifier's"
    )
    untrimmednet_epochs: int = option(45, "epochs of UntrimmedNet", "[1, inf)")
    wtalc_iterations: int = option(10000, "iterations of W-TALC, batches of 10 videos", "[1, inf)")
    wtalc_max_clips: int = option(
        750, "W-TALC trains on random crops of at most so many clips", "[1, inf)"
    )
    # localization (Sec. 3.5)
    lam: float = test_option(
        0.8, "Eq. 9: weight of Q in L = lambda Q + (1 - lambda) P", "[0, 1]", flag="--lambda"
    )
    test_gamma: float | None = test_option(
        None, "Sec. 3.5: gamma at test; default: --gamma", "[0, 1)"
    )
    gate: float = test_option(
        0.15, "classes of a test video: score at least this, else the best one", "[0, 1]"
    )
    proposal_score: str = test_option(
        "mean",
        "score of a proposal, from L inside it (and around it); W-TALC has one already, and "
        "ignores the options from here to --soft-nms",
    )
    video_weight: float = test_option(
        0.0, "weight of the video-level class score in a proposal's score", "[0, inf)"
    )
    thresholds: tuple = test_option(
        (), "several gammas at test instead of one; combine with --nms", "[0, 1)"
    )
    nms: float | None = test_option(
        None, "tIoU above which the lower-scored proposal of a class goes", "[0, 1]"
    )
    soft_nms: bool = test_option(
        False, "with --nms: lower the score by the overlap (linear) instead of dropping"
    )
    # evaluation
    tious: tuple = test_option(
        (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7), "tIoU thresholds of the table", "(0, 1]", flag="--tiou"
    )
    protocol: str = test_option("activitynet", "evaluator")
    ambiguous: str | None = test_option(
        None, "ambiguous segments for the THUMOS protocols (Ambiguous_test.txt or CSV)"
    )
    # the run
    device: str = run_option(
        "auto", "where to train; auto: CUDA if there is one", choices=("auto", "cpu", "cuda")
    )
    deterministic: bool = run_option(False, "PyTorch's deterministic algorithms only")
    pictures: int = run_option(6, "test videos to draw (Fig. 5)", "[0, inf)")

    def __post_init__(self):
        for f in dataclasses.fields(self):
            _check(f, getattr(self, f.name))
        if self.soft_nms and self.nms is None:
            raise OptionError("--soft-nms: found without --nms, expected --nms with its tIoU")
        lengths = [epochs for _, epochs, _, _ in self.phases]
        starts = list(itertools.accumulate(lengths[:-1], initial=1))
        if (
            self.boost != 1
            and self.boost_from not in starts
            and self.boost_from <= self.cycle_epochs + self.alternate_epochs
        ):
            raise OptionError(
                f"--boost-from: found {self.boost_from}, expected the first epoch of a phase: "
                f"{', '.join(map(str, starts[:6]))}, ..."
            )
        if self.recipe == "release" and self.dataset == "activitynet12":
            raise OptionError(
                "--recipe: found release with activitynet12, expected paper: the released code "
                "cannot do ActivityNet1.2, and its lambda and gamma are THUMOS14's"
            )

    @property
    def gammas_at_test(self):
        """The gammas of Sec. 3.5's threshold: one by the paper."""
        return self.thresholds or ((self.gamma if self.test_gamma is None else self.test_gamma),)

    @property
    def phases(self):
        """The schedule of EM-MIL, see `schedule`."""
        return tuple(schedule(self))


def schedule(o):
    """The phases as rows (step, epochs, learning rate, source of the targets), from an Opts.

    Long phases M, E, M, ... of `cycle` epochs (the last one shorter if need be), then E, M, ... of
    one epoch. The first phase labels every clip of a positive bag 1 (Sec. 3.4). `joint` trains both
    branches in every update instead, for as many updates, with labels from the first epoch's end
    on. NOTE(paper): Sec. 4.1 does not say which step comes first after the long phases, nor how
    long ActivityNet1.2 is trained; E and 65 epochs are ours.
    """
    total = o.cycle_epochs + o.alternate_epochs

    def lr(epoch):
        return o.lr * (o.boost if epoch >= o.boost_from else 1.0)

    if o.joint != "off":
        return [("EM", 1, lr(e), "bag" if e == 1 else "frozen") for e in range(1, total + 1)]
    lengths = [min(o.cycle, o.cycle_epochs - e) for e in range(0, o.cycle_epochs, o.cycle)]
    lengths += [1] * o.alternate_epochs
    rows, epoch = [], 1
    for k, epochs in enumerate(lengths):
        rows.append(("ME"[k % 2], epochs, lr(epoch), "bag" if k == 0 else "frozen"))
        epoch += epochs
    return rows


# ---- the command line
def flag_of(f):
    """The flag of a field."""
    return f.metadata["flag"] or "--" + f.name.replace("_", "-")


def choices_of(f):
    """The values that a field may have, in place of a number of its range; None where there are
    none."""
    return CHOICES.get(f.name, f.metadata["choices"])


def _check(f, value):
    choices, values = choices_of(f), f.metadata["values"]
    if value is None:
        return
    for v in value if isinstance(value, tuple) else (value,):
        if choices and v in choices or values and _in_range(v, values):
            continue
        if values:
            words = "".join(f" or {word}" for word in choices or ())
            raise OptionError(f"{flag_of(f)}: found {v!r}, expected a number in {values}{words}")
        if choices:
            raise OptionError(f"{flag_of(f)}: found {v!r}, expected one of {', '.join(choices)}")


def _in_range(v, values):
    if isinstance(v, bool) or not isinstance(v, (int, float)):
        return False
    low, high = map(float, values[1:-1].split(","))
    return low < v < high or v == low and values[0] == "[" or v == high and values[-1] == "]"


def _kind(f):
    """The type of a field's (items') text on the command line."""
    if "float | str" in str(f.type):
        return _number_or_word
    if f.name in ("tious", "thresholds") or "float" in str(f.type):
        return float
    return int if "int" in str(f.type) else str


def _number_or_word(text):
    try:
        return float(text)
    except ValueError:
        return text


def show(value):
    """A value as its flag would take it; "none" where there is none."""
    words = value if isinstance(value, tuple) else (value,)
    return " ".join(str(word) for word in words if word is not None) or "none"


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
    "predict": "localize in the videos of --features with this run; needs no annotations",
    "config": "repeat the run of this opts.json",
}
REMOVED = {
    "--checkpoint-every": "a checkpoint is written at the end of each phase and every 30 s",
    "--precision": "all training is in float32, which needs no option: leave it out",
}


def parse(argv=None, prog="run.py"):
    """The command line: an object with `given` (fields of Opts that flags set) and the command's
    own arguments.

    Touches no disk. Unknown or abbreviated flags end the program with code 2.
    """
    parser = argparse.ArgumentParser(
        prog=prog,
        allow_abbrev=False,
        description="EM-MIL: train, localize, evaluate. A flag wins over --recipe, --recipe over "
        f"the preset of --dataset. Without --dataset: DATASET in opts.py (now {DATASET}).",
    )
    _add_arguments(parser)
    for f in dataclasses.fields(Opts):
        _add_flag(parser, f)
    argv = sys.argv[1:] if argv is None else argv
    for word in argv:
        flag = word.split("=")[0]
        if flag in REMOVED:
            raise OptionError(
                f"{flag}: found an option of an earlier version, expected none: {REMOVED[flag]}"
            )
    found = vars(parser.parse_args(argv))
    given = {f.name: found.pop(f.name) for f in dataclasses.fields(Opts) if f.name in found}
    given = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}
    return SimpleNamespace(given=given, **found)


def _add_arguments(parser):
    """The arguments of the command itself; the other flags are the fields of Opts."""
    add = parser.add_argument
    add("--out", help="folder of this run; default: runs/DATASET-sSEED-TIME (--predict: see there)")
    add("--dry-run", action="store_true", help="print options and schedule, touch nothing")
    actions = parser.add_mutually_exclusive_group()
    for name, text in ACTIONS.items():
        actions.add_argument(f"--{name}", metavar="FILE" if name == "config" else "RUN", help=text)
    for flag, text in (
        ("--other-code", "--resume: go on although the code has changed"),
        ("--keep-going", "--predict: report a bad video and go on (exit code 3)"),
        ("--save-clip-scores", "--predict: write Q and P to clip_scores.h5"),
        ("--per-class", "print the AP of every class, not only best and worst"),
        ("--tensorboard", "write the log for TensorBoard (RUN/tensorboard)"),
    ):
        add(flag, action="store_true", help=text)
    add(
        "--export",
        nargs="+",
        default=(),
        choices=CHOICES.get("export"),
        help="write the detections for these annotation tools",
    )


def _add_flag(parser, f):
    text = f"{f.metadata['help']} [{_defaults(f)}]".replace("%", "%%")
    if f.type is bool:
        how = {"action": argparse.BooleanOptionalAction}
    else:
        choices, kind = choices_of(f) or (), _kind(f)
        number = ("FLOAT",) if kind is _number_or_word else ()
        metavar = "|".join((*number, *choices)) or kind.__name__.upper().replace("STR", "TEXT")
        many = f.type is tuple
        how = {"type": kind, "nargs": "+" if many else None, "metavar": metavar}
    # no default, so that `given` holds what flags set
    parser.add_argument(flag_of(f), dest=f.name, default=argparse.SUPPRESS, help=text, **how)


def resolve(given, saved=None):
    """Opts from the flags given, over a saved run's options (dict) or over recipe and preset.

    Raises OptionError, naming option, value and range.
    """
    if given.get("thresholds") and given.get("test_gamma") is not None:
        raise OptionError(
            "--thresholds: found with a gamma at test, expected one: both are gammas of the test"
        )
    if saved is not None:
        _check_names(saved, "saved options", "; a run of an earlier version: train again")
        saved = {k: tuple(v) if isinstance(v, list) else v for k, v in saved.items()}
        return Opts(**{**saved, **given})
    dataset, recipe = given.get("dataset", DATASET), given.get("recipe", "paper")
    if dataset not in PRESETS:
        raise OptionError(f"DATASET: found {dataset!r}, expected one of {', '.join(PRESETS)}")
    _check_names(PRESETS[dataset], f"PRESETS[{dataset}] in opts.py")
    return Opts(**{"dataset": dataset, **PRESETS[dataset], **RECIPES.get(recipe, {}), **given})


def _check_names(options, where, more=""):
    known = {f.name for f in dataclasses.fields(Opts)}
    for name in options:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise OptionError(f"{where}: found {name}, which is no option{hint}{more}")


# ---- what may change later
# Options that say what is measured, not how: they are no departure from a recipe.
NOT_OF_THE_RECIPE = {
    "dataset",
    "recipe",
    "features",
    "flow_features",
    "feature_layout",
    "annotations",
    "snippet_seconds",
    "clip_seconds",
    "seed",
    "method",
    "tious",
    "protocol",
    "ambiguous",
    "device",
    "deterministic",
    "feature_memory",
    "pictures",
}


def recipe_of(o, processes):
    """The name of the recipe of a run in so many processes: "paper", or "paper, but gamma 0.2, ..."
    with all that differs.
    """
    differs = different_options(o, processes).items()
    differs = [text for name, text in differs if name not in NOT_OF_THE_RECIPE]
    return o.recipe + (f", but {', '.join(differs)}" if differs else "")


def different_options(o, processes):
    """{field: "gamma 0.2"} of every option of an Opts that differs from its dataset's and recipe's
    preset. An update takes --videos-per-step videos of each process.
    """
    plain = resolve({"dataset": o.dataset, "recipe": o.recipe})
    differs = {
        f.name: f"{flag_of(f)[2:]} {show(getattr(o, f.name))}"
        for f in dataclasses.fields(o)
        if getattr(o, f.name) != getattr(plain, f.name)
    }
    if processes > 1:
        videos = processes * o.videos_per_step
        differs["videos_per_step"] = f"{videos} videos per update ({processes} processes)"
    return differs


def changed(old, new, when):
    """Names of the fields with `when` in which two Opts differ."""
    return [
        f.name
        for f in dataclasses.fields(Opts)
        if f.metadata["when"] == when and getattr(old, f.name) != getattr(new, f.name)
    ]


def refuse(names, why):
    """Raises OptionError with the flags of these fields, if there are any."""
    if names:
        flags = [flag_of(f) for f in dataclasses.fields(Opts) if f.name in names]
        raise OptionError(f"{', '.join(flags)}: cannot be changed {why}")


def fits(value, kind):
    """Whether a value from JSON is of a field's type; a whole number may stand for a float."""
    if kind is tuple:
        return isinstance(value, list) and all(fits(item, str | float) for item in value)
    if isinstance(value, bool):
        return kind is bool
    if isinstance(value, int):
        return abs(value) < 2**63 and (isinstance(0, kind) or isinstance(0.5, kind))
    return isinstance(value, kind)


def at_test(given, saved, no_effect, apart=()):
    """Opts for using a trained run: only what touches test time may differ from `saved` (dict).

    --gamma means the gamma of the test there. no_effect: fields that are refused because they would
    do nothing. apart: fields that are not options of the run there. Raises OptionError.
    """
    given = {name: value for name, value in given.items() if name not in apart}
    if "gamma" in given and "test_gamma" in given:
        raise OptionError(
            "--gamma: found with --test-gamma, expected one: both are the gamma of the test here"
        )
    if "gamma" in given:
        given["test_gamma"] = given.pop("gamma")
    if given.get("thresholds"):
        given.setdefault("test_gamma", None)  # not the run's
    elif "test_gamma" in given:
        given.setdefault("thresholds", ())  # the run's thresholds would win over it
    old, o = resolve({}, saved), resolve(given, saved)
    refuse(changed(old, o, "train"), "of a trained run; train again to change it")
    refuse([name for name in given if name in no_effect], "here, where it has no effect")
    return o


def names(when):
    """The fields with this `when`."""
    return {f.name for f in dataclasses.fields(Opts) if f.metadata["when"] == when}
