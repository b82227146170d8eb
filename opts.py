"""Every setting of a run. Edit DATASET (or a row of PRESETS) below, or give a flag: `python run.py
--help`.

A flag wins over the recipe, the recipe over the preset of `--dataset`, the preset over the
defaults.
"""

import argparse
import dataclasses
import difflib
import itertools
import re
import reprlib
import sys
from dataclasses import dataclass, field
from types import SimpleNamespace

from formats.files import InputError, fits

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
# a set of your own: ActivityNet1.2's schedule, lambda and gamma, UntrimmedNet, THUMOS14's tIoUs
CUSTOM = dict(
    ACTIVITYNET12, video_classifier="untrimmednet", tious=THUMOS14["tious"], wtalc_iterations=10000
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
    # Give --features and --annotations, or paste the row that tools/inspect_features.py prints.
    "custom": dict(CUSTOM),
}

RECIPES = {
    "paper": {},
    # The released code where it is a runnable choice: 4x learning rate ten epochs early, and the
    # lambda and gamma that its test code amounts to. NOTE(paper): Sec. 4.1 gives the values of
    # "paper". The released code's constant score of proposals is left out: with it the order of
    # ties alone decides AP (--proposal-score constant shows it).
    "release": dict(boost_from=21, lam=0.5, test_gamma=0.05),
}

# Allowed values of options whose list another module owns (methods, protocols, ...);
# jobs/setup.py fills it.
CHOICES = {}

GROUPS = {  # of options: the heading in --help
    "run": "run",  # what a run is called by
    "machine": "run",  # where it is computed
    "files": "data",  # where the set lies; its fingerprint says whether it is the same
    "clips": "data",  # seconds of a clip
    "arrays": "data",  # which arrays are read
    "data": "data",  # which videos, with which labels
    "train": "training",
    "classes": "classes of a test video",
    "test": "localization",
    "show": "evaluation",
}
# The groups in which a job may differ from the run that it works on.
JOBS = {
    "resume": ("machine", "files", "classes", "test", "show"),
    "evaluate": ("classes", "test", "show"),
    "predict": ("machine", "files", "clips", "arrays", "classes", "test", "show"),
}
# An option of another group is no departure from a recipe.
RECIPE = ("arrays", "data", "train", "classes", "test")


STREAMS, DEVICES = ("rgb", "flow"), ("auto", "cpu", "cuda")
GPUS = "CUDA_VISIBLE_DEVICES=N chooses it"


# ---- the options
def option(group, default, text, values=None, *, choices=None, flag=None, kind="NAME"):
    """A field of Opts. group: of GROUPS. values: range of a number, such as "[0, 1)". choices:
    allowed texts. kind: what a text stands for in --help.
    """
    about = dict(group=group, help=text, values=values, choices=choices, flag=flag, kind=kind)
    return field(default=default, metadata=about)


@dataclass(frozen=True)
class Opts:
    """The resolved options of one run; immutable, checked when made (InputError)."""

    dataset: str = option("run", "demo", "preset to start from", choices=tuple(PRESETS))
    recipe: str = option(
        "run", "paper", "values of the paper or of its released code", choices=tuple(RECIPES)
    )
    seed: int = option("run", 1, "seed of everything random", "[0, 4294967295]")
    device: str = option("machine", "auto", f"auto: a GPU if there is one; {GPUS}", choices=DEVICES)
    feature_memory: float | None = option(
        "machine", None, "GB of features in memory, others stay on disk; default: half", "[0, inf)"
    )
    deterministic: bool = option("machine", False, "PyTorch's deterministic algorithms only")
    # data
    features: str = option("files", "", "features, see docs/data.md", kind="PATH")
    flow_features: str | None = option("files", None, "second path, of flow alone", kind="PATH")
    annotations: str = option("files", "", "--predict takes durations alone", kind="PATH")
    snippet_seconds: float | str | None = option(
        "clips",
        None,
        "from clip to clip, in place of the declared; duration: a video's / its clips",
        "(0, inf)",
        choices=("duration",),
    )
    clip_seconds: float | None = option(
        "clips", None, "length of a clip, where clips overlap; default: as declared", "(0, inf)"
    )
    streams: str | None = option(
        "arrays", None, "default: both; asks where it could be one", choices=("both", *STREAMS)
    )
    crops: str | None = option(
        "arrays", None, "of several crops: their mean, or the first", choices=("mean", "first")
    )
    key: str | None = option("arrays", None, "the array to read, where a file has several")
    train_subset: tuple = option("data", ("auto",), "auto: train or training, else validation")
    test_subset: tuple = option(
        "data", ("auto",), "auto: test or testing, else validation; none: train only"
    )
    video_labels: str = option(
        "data", "segments", "where W-TALC's folder has labels", choices=("segments", "labels_all")
    )
    allow_missing: bool = option("data", False, "leave out videos without usable features")
    exclude_video: tuple = option("data", (), "videos to leave out (=NAME where it begins with -)")
    # the schedule (Sec. 4.1)
    cycle: int = option("train", 10, "epochs of a phase while phases are long", "[1, inf)")
    cycle_epochs: int = option("train", 30, "epochs in such phases, M first", "[1, inf)")
    alternate_epochs: int = option("train", 35, "epochs after those, E and M in turn", "[0, inf)")
    lr: float = option("train", 1e-4, "learning rate of Adam", "(0, inf)")
    boost: float = option("train", 4.0, "factor on it from epoch --boost-from on", "(0, inf)")
    boost_from: int = option("train", 31, "first boosted epoch, begins a phase", "[1, inf)")
    # EM-MIL
    gamma: float = option("train", 0.15, "Eq. 5: between mean and range of Q", "[0, 1)")
    keep_peak: bool = option("train", False, "Eq. 5: a positive bag keeps its top clip at least")
    rgb_weight: float = option("train", 0.5, "weight of RGB; flow has the rest", "[0, 1]")
    objective: str = option(
        "train", "pseudo-labels", "attention: an ablation", choices=("pseudo-labels", "attention")
    )
    joint: str = option(
        "train",
        "off",
        "train both branches at once: an ablation",
        choices=("off", "epoch", "step", "half"),
    )
    other_first: str = option(
        "train",
        "off",
        "begin the long phases with E, or the short ones with M: a variant",
        choices=("off", "long", "short"),
    )
    labels: str = option(
        "train",
        "fused",
        "stream: from each stream's own scores, a variant",
        choices=("fused", "stream"),
    )
    videos_per_step: int = option("train", 1, "per update and process; the paper: 1", "[1, inf)")
    untrimmednet_epochs: int = option("train", 45, "epochs of UntrimmedNet", "[1, inf)")
    wtalc_iterations: int = option("train", 10000, "steps of W-TALC, 10 videos each", "[1, inf)")
    wtalc_max_clips: int = option("train", 750, "W-TALC crops longer videos to it", "[1, inf)")
    # the video-level classifier (Sec. 3.5)
    video_classifier: str = option("classes", "untrimmednet", "oracle: the annotations")
    video_scores: str | None = option("classes", None, "scores in its place", kind="FILE")
    # localization (Sec. 3.5)
    gate: float = option("test", 0.15, "least video-level score of a class, else best", "[0, 1]")
    lam: float = option(
        "test", 0.8, "Eq. 9: L = lambda Q + (1 - lambda) P", "[0, 1]", flag="--lambda"
    )
    test_gamma: float | None = option("test", None, "Sec. 3.5; default: --gamma", "[0, 1)")
    proposal_score: str = option("test", "mean", "of L inside; W-TALC has a score and no NMS")
    video_weight: float = option("test", 0.0, "of the video-level score in it", "[0, inf)")
    thresholds: tuple = option("test", (), "several gammas at test; see --nms", "[0, 1)")
    nms: float | None = option("test", None, "least tIoU that suppresses a proposal", "[0, 1]")
    soft_nms: bool = option("test", False, "with --nms: lower the score by the overlap instead")
    # evaluation
    method: tuple = option("show", ("em-mil",), "localizers, a row of the table each")
    tious: tuple = option("show", THUMOS14["tious"], "thresholds", "(0, 1]", flag="--tiou")
    protocol: str = option("show", "activitynet", "evaluator")
    ambiguous: str | None = option("show", None, "segments of the thumos protocols", kind="FILE")

    def __post_init__(self):
        for f in dataclasses.fields(self):
            _check(f, getattr(self, f.name))
        for name in ("method", "tious", "train_subset", "test_subset"):
            if not getattr(self, name):
                raise InputError(flag_of(FIELDS[name]), "none", "at least one")
        if self.soft_nms and self.nms is None:
            raise InputError("--soft-nms", "it without --nms", "--nms with its tIoU")
        lengths = [epochs for _, epochs, _, _ in self.phases]
        starts = list(itertools.accumulate(lengths[:-1], initial=1))
        total = self.cycle_epochs + self.alternate_epochs
        if (
            self.joint == "off"
            and self.boost != 1
            and self.boost_from not in starts
            and self.boost_from <= total
        ):
            first = ", ".join(map(str, starts[:6]))
            expected = f"the first epoch of a phase: {first}, ..."
            raise InputError("--boost-from", self.boost_from, expected)
        if self.recipe == "release" and self.dataset == "activitynet12":
            expected = (
                "paper: the released code cannot do ActivityNet1.2, and its lambda and gamma are "
                "THUMOS14's"
            )
            raise InputError("--recipe", "release with activitynet12", expected)

    @property
    def gammas_at_test(self):
        """The gammas of Sec. 3.5's threshold: one by the paper."""
        return self.thresholds or ((self.gamma if self.test_gamma is None else self.test_gamma),)

    @property
    def phases(self):
        """The schedule of EM-MIL, see `schedule`."""
        return tuple(schedule(self))


FIELDS = {f.name: f for f in dataclasses.fields(Opts)}


def schedule(o):
    """The phases as rows (step, epochs, learning rate, source of the targets), from an Opts.

    Long phases M, E, M, ... of `cycle` epochs (the last one shorter if need be), then E, M, ... of
    one epoch. The first phase labels every clip of a positive bag 1 (Sec. 3.4). `joint` trains both
    branches in every update instead, for as many updates, with labels from the first epoch's end
    on; "half" takes every second of these epochs, so that a branch has about as many updates as in
    turn. NOTE(paper): Sec. 4.1 does not say which step comes first after the long phases, nor how
    long ActivityNet1.2 is trained; E and 65 epochs are ours. Algorithm 1 writes E before M; before
    the first M there is no classifier to label with. `other_first` has the other orders.
    """
    total = o.cycle_epochs + o.alternate_epochs

    def lr(epoch):
        return o.lr * (o.boost if epoch >= o.boost_from else 1.0)

    if o.joint != "off":
        each = range(1, total + 1, 2 if o.joint == "half" else 1)
        return [("EM", 1, lr(e), "bag" if e == 1 else "frozen") for e in each]
    lengths = [min(o.cycle, o.cycle_epochs - e) for e in range(0, o.cycle_epochs, o.cycle)]
    short = len(lengths)
    lengths += [1] * o.alternate_epochs
    rows, epoch = [], 1
    for k, epochs in enumerate(lengths):
        other = o.other_first == "long" or o.other_first == "short" and k >= short
        rows.append(("ME"[(k + other) % 2], epochs, lr(epoch), "bag" if k == 0 else "frozen"))
        epoch += epochs
    return rows


# ---- values
def flag_of(f):
    """The flag of a field."""
    return f.metadata["flag"] or "--" + f.name.replace("_", "-")


def names(*groups):
    """The fields of these groups, in their order."""
    return [f.name for f in FIELDS.values() if f.metadata["group"] in groups]


def show(value):
    """A value as its flag would take it; "none" where there is none."""
    words = value if isinstance(value, tuple) else (value,)
    return " ".join(str(word) for word in words if word is not None) or "none"


def _choices(f):
    return CHOICES.get(f.name, f.metadata["choices"]) or ()


def _check(f, value):
    """InputError for a value out of the field's range or choices."""
    choices, values = _choices(f), f.metadata["values"]
    if value is None or not (choices or values):
        return
    expected = f"one of {', '.join(choices)}"
    if values:
        expected = " or ".join([f"a number in {values}", *choices])
    if "cuda" in choices:
        expected += f" ({GPUS})"
    for v in value if isinstance(value, tuple) else (value,):
        if v not in choices and not (values and _in_range(v, values)):
            raise InputError(flag_of(f), reprlib.repr(v), expected)


def _in_range(v, values):
    if isinstance(v, bool) or not isinstance(v, (int, float)):
        return False
    low, high = map(float, values[1:-1].split(","))
    return low < v < high or v == low and values[0] == "[" or v == high and values[-1] == "]"


def resolve(given, base=None):
    """Opts from the flags given, over those of a run (`base`), or over recipe and preset.

    InputError, which names option, value and range.
    """
    if given.get("thresholds") and given.get("test_gamma") is not None:
        raise InputError("--thresholds", "it with a gamma at test", "one: both are gammas there")
    if base is not None:
        return dataclasses.replace(base, **given)
    return Opts(**_start(given) | given)


def _start(given):
    """The values of the recipe and of the preset that are asked for, by field."""
    dataset, recipe = given.get("dataset", DATASET), given.get("recipe", "paper")
    if dataset not in PRESETS:
        where = "--dataset" if "dataset" in given else "DATASET in opts.py"
        raise InputError(where, reprlib.repr(dataset), f"one of {', '.join(PRESETS)}")
    _check_names(PRESETS[dataset], f"PRESETS[{dataset}] in opts.py")
    return {"dataset": dataset} | PRESETS[dataset] | RECIPES.get(recipe, {})


def _check_names(options, where, more=""):
    for name in options:
        if name not in FIELDS:
            near = difflib.get_close_matches(name, FIELDS, n=1)
            hint = f"{near[0]}?" if near else f"an option of opts.Opts{more}"
            raise InputError(where, f"{reprlib.repr(name)}, which is no option", hint)


def of_json(saved, where):
    """The Opts of a run's opts.json, already parsed. What it lacks is the preset's.

    InputError, which begins with `where`, for another type, an unknown name, a value out of range.
    """
    if not isinstance(saved, dict):
        raise InputError(where, "other JSON", "the options of a run")
    _check_names(saved, where, "; of an earlier version? Train again")
    for name, value in saved.items():
        kind = FIELDS[name].type
        if not fits(value, [str | float] if kind is tuple else kind):
            flag = flag_of(FIELDS[name])
            raise InputError(f"{where}: {name}", reprlib.repr(value), f"what {flag} takes")
    saved = {name: tuple(v) if isinstance(v, list) else v for name, v in saved.items()}
    try:
        return Opts(**_start(saved) | saved)
    except InputError as error:
        raise InputError(f"{where}: {error.where}", error.found, error.expected) from None


# ---- what differs
def changed(old, new, *groups):
    """Names of the fields of these groups in which two Opts differ."""
    return [name for name in names(*groups) if getattr(old, name) != getattr(new, name)]


def allow(job, old, new, folder):
    """InputError for options in which a job on the run in `folder` must not differ from it."""
    others = [group for group in GROUPS if group not in JOBS[job]]
    if found := changed(old, new, *others):
        flags = ", ".join(flag_of(FIELDS[name]) for name in found)
        before, here = ("; ".join(show(getattr(o, name)) for name in found) for o in (old, new))
        raise InputError(flags, here, f"{before} as in {folder}: --{job} cannot change it")


def at_test(job, given, old, folder):
    """Opts for a job on the trained run `old`. --gamma means the gamma of the test there.

    InputError for options that the job does not take.
    """
    given = dict(given)
    if {"gamma", "test_gamma"} <= given.keys():
        raise InputError("--gamma", "it with --test-gamma", "one: both are the gamma of the test")
    if "gamma" in given:
        given["test_gamma"] = given.pop("gamma")
    if given.get("thresholds"):
        given.setdefault("test_gamma", None)  # not the run's
    elif "test_gamma" in given:
        given.setdefault("thresholds", ())  # the run's thresholds would win over it
    o = resolve(given, old)
    allow(job, old, o, folder)
    return o


def in_words(o, names):
    """{field: "gamma 0.2"} of these fields."""
    return {name: f"{flag_of(FIELDS[name])[2:]} {show(getattr(o, name))}" for name in names}


def different(o, processes):
    """{field: "gamma 0.2"} of every option of an Opts that differs from its dataset's and recipe's
    preset. An update takes --videos-per-step videos of each process.
    """
    plain = resolve({"dataset": o.dataset, "recipe": o.recipe})
    differs = in_words(o, changed(plain, o, *GROUPS))
    if processes > 1:
        videos = processes * o.videos_per_step
        differs["videos_per_step"] = f"{videos} videos per update ({processes} processes)"
    return differs


def recipe_of(o, processes):
    """The name of the recipe of a run in so many processes: "paper", or "paper, but gamma 0.2, ..."
    with all that differs.
    """
    differs, own = different(o, processes), names(*RECIPE)
    differs = [text for name, text in differs.items() if name in own]
    return o.recipe + (f", but {', '.join(differs)}" if differs else "")


# ---- the command line
ACTIONS = {
    "resume": "go on with an interrupted run, to the result it would have had",
    "evaluate": "score a run's stored clip scores again, with other options of the test",
    "predict": "localize in the videos of --features with a run's networks",
    "config": "the options of this run, or of an opts.json",
}
SWITCHES = {  # flag: the job that alone takes it, or None; help
    "dry-run": (None, "print options and schedule, touch nothing"),
    "per-class": (None, "print the AP of every class, not only best and worst"),
    "other-code": ("resume", "--resume: go on although the code has changed"),
    "keep-going": ("predict", "--predict: leave bad videos out (exit code 3)"),
}
_LOOK = "report.html shows the same; reproduce.py figure5 draws the paper's figures"
REMOVED = {
    "--checkpoint-every": "a checkpoint is written at the end of each phase and every 30 s",
    "--precision": "all training is in float32",
    "--pictures": _LOOK,
    "--tensorboard": _LOOK,
    "--feature-layout": "the layout is recognised; --streams, --crops and --key settle the rest",
    "--save-clip-scores": "--predict always writes clip_scores.h5",
    "--video-dir": "the figures show no frames",
}


class Parser(argparse.ArgumentParser):
    """Flags in full; for bad ones an InputError, which names the nearest flag."""

    def __init__(self, prog, description):
        def wide(prog):
            return argparse.RawDescriptionHelpFormatter(prog, max_help_position=30, width=100)

        usage = f"python {prog} [options]"
        super().__init__(prog, usage, description, formatter_class=wide, allow_abbrev=False)

    def parse_args(self, argv=None):
        argv = sys.argv[1:] if argv is None else [str(word) for word in argv]
        for flag in [word.split("=")[0] for word in argv]:
            if flag in REMOVED:
                raise InputError(flag, "a flag of an earlier version", f"none: {REMOVED[flag]}")
        found, rest = self.parse_known_args(argv)
        if rest:
            known = re.findall(r"(?<![\w-])--[a-z-]+", self.format_help())
            near = difflib.get_close_matches(rest[0].split("=")[0], known, 1, 0.7)
            raise InputError(rest[0], "no such option", f"{near[0]}?" if near else "none (--help)")
        return found

    def error(self, message):
        if "expected" in message:
            message += " (a value that begins with - is given as --FLAG=VALUE)"
        raise InputError(message)


def add_flags(parser, groups, without=(), dataset=DATASET):
    """Adds the flags of the options of these groups, under their headings; the defaults shown are
    those of `dataset`. What was given, `given` tells.
    """
    sections = {}
    for name in names(*groups):
        if name not in without:
            f = FIELDS[name]
            heading = GROUPS[f.metadata["group"]]
            section = sections.get(heading) or parser.add_argument_group(heading)
            sections[heading] = section
            _add_flag(section, f, PRESETS.get(dataset, {}).get(name, f.default))


def _add_flag(section, f, default):
    flag, help = flag_of(f), f"{f.metadata['help']} [{show(default)}]".replace("%", "%%")
    # no default, so that only flags that are given are in the result
    how = dict(dest=f.name, default=argparse.SUPPRESS, help=help)
    if f.type is bool:
        section.add_argument(flag, action=argparse.BooleanOptionalAction, **how)
        return
    kind, choices = _kind(f), _choices(f)
    number = {int: ["INT"], float: ["FLOAT"], str: []}.get(kind, ["FLOAT"])
    how |= dict(type=kind, metavar="|".join((*number, *choices)) or f.metadata["kind"])
    if f.type is tuple:
        how |= dict(nargs="+", action="extend" if f.name == "exclude_video" else "store")
    section.add_argument(flag, **how)


def _kind(f):
    """The type of a field's (items') text on the command line."""
    if "float | str" in str(f.type):
        return _number_or_word
    if f.type is tuple:
        return float if f.metadata["values"] else str
    return next((kind for kind in (float, int) if kind.__name__ in str(f.type)), str)


def _number_or_word(text):
    try:
        return float(text)
    except ValueError:
        return text


def given(found):
    """{field: value} of the options that a parser with `add_flags` has found."""
    values = {name: value for name, value in vars(found).items() if name in FIELDS}
    return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}


def reading(options):
    """What options (an Opts, or what a parser has found) say of how features are read, for
    formats.features.open_features.
    """
    said = ["flow_features", *names("clips", "arrays")]
    said = {name: getattr(options, name, None) for name in said}
    return {name: value for name, value in said.items() if value is not None}


def parse(argv=None):
    """The command line of run.py: an object with `given` (fields of Opts that flags set), `job`
    ("train", or one of JOBS) and the command's own arguments. Touches no disk.
    """
    argv = sys.argv[1:] if argv is None else [str(word) for word in argv]
    words = [part for word in argv for part in word.split("=")]
    named = [word for flag, word in zip(words, words[1:]) if flag == "--dataset"]
    dataset = named[-1] if named and named[-1] in PRESETS else DATASET
    parser = Parser(
        "run.py",
        "EM-MIL: train, localize, evaluate. A flag wins over --recipe, --recipe over the preset\n"
        f"of --dataset; the defaults below are those of {dataset}.",
    )
    section = parser.add_argument_group("job")
    actions = section.add_mutually_exclusive_group()
    for name, text in ACTIONS.items():
        actions.add_argument(f"--{name}", metavar="RUN", help=text)
    section.add_argument("--out", metavar="FOLDER", help="where to write; default: below runs/")
    for flag, (_, text) in SWITCHES.items():
        section.add_argument(f"--{flag}", action="store_true", help=text)
    text = "write the detections for these annotation tools"
    kinds = CHOICES.get("export", ())
    how = dict(nargs="+", default=(), choices=kinds, metavar="|".join(kinds), help=text)
    section.add_argument("--export", **how)
    add_flags(parser, GROUPS, dataset=dataset)
    found = parser.parse_args(argv)
    job = next((name for name in JOBS if getattr(found, name)), "train")
    for flag, (only, _) in SWITCHES.items():
        if only not in (None, job) and getattr(found, flag.replace("-", "_")):
            raise InputError(f"--{flag}", f"it without --{only}", "both")
    own = {name: value for name, value in vars(found).items() if name not in FIELDS}
    return SimpleNamespace(given=given(found), job=job, **own)
