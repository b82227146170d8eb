"""From the command line to options, device, data, folder and networks: run.py's first chapter."""

import contextlib
import dataclasses
import datetime
import itertools
import os
import shlex
from pathlib import Path

import torch

import dataset
import eval_detection
import localize
import opts
from engine import distributed
from formats import annotations, demo, detections, exports, features, files
from formats.files import InputError, count, load_json
from formats.layouts import seconds_text
from formats.names import match_names
from formats.program import log
from methods import METHODS
from report import summary

opts.CHOICES.update(
    method=METHODS,
    export=exports.KINDS,
    protocol=(*eval_detection.PROTOCOLS, "all"),
    proposal_score=localize.PROPOSAL_SCORES,
    video_classifier=(*(name for name, method in METHODS.items() if method.classifies), "oracle"),
)


# ---- options
def options(command):
    """The Opts of a run to train: the flags, over the options of the run that --resume or --config
    names.
    """
    named = command.resume or command.config
    old = saved(named) if named else None
    o = opts.resolve(command.given, old)
    if command.resume:
        opts.allow("resume", old, o, named)
        if wanted(o) != wanted(old):
            found, expected = (", ".join(wanted(of)) for of in (o, old))
            raise InputError(named, f"options that need {found}", f"{expected}, as it began")
        if command.out:
            raise InputError("--out", "it with --resume", f"none: the run goes on in {named}")
    elif command.out and (Path(command.out) / "opts.json").exists():
        advice = f"--resume {shlex.quote(command.out)} goes on with that run"
        raise InputError(command.out, "a run there", f"a new folder ({advice})")
    # dataset and recipe say where the saved values come from, and cannot change them
    for name in ("dataset", "recipe") if command.config else ():
        if getattr(o, name) != getattr(old, name):
            expected = f"{getattr(old, name)} as in {named}"
            raise InputError(f"--{name}", getattr(o, name), expected)
    for name in wanted(o):
        settings_of(o, name)
    return o


def saved(path):
    """The Opts in an opts.json, or in that of a run's folder."""
    path = Path(path)
    path = path if path.is_file() else path / "opts.json"
    if not path.exists():
        expected = (
            "the options of a run (one that was stopped before it wrote them has nothing to "
            "resume: start a new run)"
        )
        raise InputError(path, "no such file", expected)
    content = load_json(path)
    return opts.of_json(content, path)


def wanted(o):
    """The networks a run trains, classifiers first: those that are shown, and the classifier that
    gates them.
    """
    gated = any(not METHODS[name].classifies for name in o.method)
    classifier = {o.video_classifier} if gated and not o.video_scores else set()
    names = [name for name in METHODS if name in classifier | set(o.method)]
    return sorted(names, key=lambda name: not METHODS[name].classifies)


def settings_of(o, name):
    """The Settings of a method, from the options of the same names."""
    kind = METHODS[name].Settings
    fields = [f.name for f in dataclasses.fields(kind)]
    for field in fields:
        if not hasattr(o, field):
            found = f"{field}, which is no option"
            raise InputError(f"Settings of {name}", found, "a field of Opts in opts.py")
    return kind(**{field: getattr(o, field) for field in fields})


def option_lines(o, phases, processes):
    """What is printed first. phases, processes: of the training, which may be over."""
    recipe, own = opts.recipe_of(o, processes), opts.names(*opts.RECIPE, "run")
    differs = [text for name, text in opts.different(o, processes).items() if name not in own]
    values = "; ".join([f"dataset {o.dataset}; seed {o.seed}", *differs])
    return summary.option_lines(values, phases, recipe)


# ---- device
def device_kind(o):
    """ "cpu" or "cuda". InputError where there is no GPU as asked for."""
    if o.device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device", "cuda, but PyTorch sees no GPU here", "auto or cpu")
    return "cuda" if o.device != "cpu" and torch.cuda.is_available() else "cpu"


def device_of(o):
    """The device of this process, with PyTorch set to the arithmetic of float32 and to
    --deterministic.
    """
    kind = device_kind(o)
    # TF32 has 10 bits of mantissa, float32 23; the first line leaves cuDNN, which convolves, alone
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    if o.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # the call imports PyTorch's compiler
    if o.deterministic != torch.are_deterministic_algorithms_enabled():
        torch.use_deterministic_algorithms(o.deterministic)
    if kind == "cpu":
        why = "--device cpu" if o.device == "cpu" else "PyTorch sees no GPU"
        log.info(f"Computes on the CPU ({why})")
        return torch.device("cpu")
    # with its number: in the thread that reads features, "cuda" alone is GPU 0
    device = torch.device("cuda", torch.cuda.current_device())
    log.info(f"Computes on {torch.cuda.get_device_name(device)}")
    return device


# ---- data
def load_data(o):
    """(dataset.Data, table of the test videos' segments, table of Ambiguous segments)."""
    truth, train_subset, test_subset = load_annotations(o)
    here = int(os.environ.get("LOCAL_WORLD_SIZE", 1))  # processes on this machine
    limit = files.free_memory() / 2 / here if o.feature_memory is None else o.feature_memory * 1e9
    data = dataset.load(
        features.open_features(o.features, truth, **opts.reading(o)),
        truth,
        train_subset=train_subset,
        test_subset=test_subset,
        allow_missing=o.allow_missing,
        memory_limit=limit,
        shard=distributed.world(),
    )
    tested = annotations.in_subset(truth, test_subset)
    # All of the subset's segments: those of a video without features (--allow-missing) are missed,
    # not forgiven.
    segments = truth.only(tested.index).segments
    durations = {video.name: video.duration for video in data.test}
    if wrong := annotations.unit_problem(truth.path, segments, durations):
        raise wrong
    if data.test:
        annotations.warn_unscored(truth, tested[tested.index.isin(list(durations))])
    for subset, videos in ((train_subset, data.train), (test_subset, data.test)):
        if subset and not videos:
            found = f"no video of subset {' '.join(subset)} with features"
            raise InputError(o.annotations, found, "at least one")
    if len(data.classes) == 1 and not o.video_scores and o.video_classifier != "oracle":
        log.warning(
            f"the one class {data.classes[0]} has the score 1 in every video, so that none is "
            "rejected; give --video-scores FILE, or --video-classifier oracle"
        )
    forgiven = read_ambiguous(o.ambiguous) if o.ambiguous else truth.ambiguous
    return data, segments, detections.ambiguous_in(tested.index, forgiven, o.ambiguous)


def read_ambiguous(path):
    """Table of the Ambiguous segments in a file."""
    return valid(detections.read_ambiguous(path), path, eval_detection.SEGMENT)


def valid(table, path, columns):
    """The table of a file; an InputError that names the file where eval_detection refuses it."""
    try:
        eval_detection.check(table, path, columns)
    except ValueError as error:  # eval_detection knows no InputError: it can be copied alone
        raise InputError(error) from None
    return table


def load_annotations(o):
    """(annotations without what --exclude-video names, training subsets, test subsets)."""
    truth = annotations.load(o.annotations, video_labels=o.video_labels)
    left_out = excluded(o.exclude_video, truth.videos.index)
    truth = truth.only([name for name in truth.videos.index if name not in left_out])
    return truth, *annotations.choose_subsets(truth, o.train_subset, o.test_subset)


def find_files(o):
    """InputError where the features or annotations are not there; makes those of the demo."""
    preset = opts.PRESETS["demo"]
    own = (o.features, o.annotations) == (preset["features"], preset["annotations"])
    if o.dataset == "demo" and own:
        if distributed.world()[0] == 0:
            log.info(demo.write_demo(Path(o.features).parent))
        distributed.everywhere(None)  # all wait for the file
    for name in ("features", "annotations"):
        path = getattr(o, name)
        if not path:
            raise InputError(f"--{name}", f"none for --dataset {o.dataset}", "a path")
        if not Path(path).exists():
            start = "" if Path(path).is_absolute() else f"; relative paths start at {Path.cwd()}"
            expected = f"the {name} (--{name} names another place{start})"
            raise InputError(path, "no such file or folder", expected)


def excluded(names, known):
    """The names in `known` that the `names` of --exclude-video mean, in any form. InputError for
    one that means none.
    """
    meant = {asked: name for name, asked in match_names(known, names).items()}
    for name in names:
        if name not in meant:
            expected = f"the name of an annotated video, such as {files.some(known, 3)}"
            raise InputError("--exclude-video", name, expected)
    return set(meant.values())


def data_lines(data, truth):
    clips = [sum(v.n_clips for v in videos) for videos in (data.train, data.test)]
    annotated = len(set(truth["video"]) & {video.name for video in data.test})
    streams = " and ".join(
        f"{stream} {dim}-d" for stream, dim in zip(opts.STREAMS, data.dims) if dim
    )
    seconds = [(v.snippet_seconds, v.clip_seconds) for v in (*data.train, *data.test)]
    where = "in memory" if data.in_memory else "read from disk as needed"
    nothing = ""
    if data.test and not annotated:
        nothing = "  no test video has a segment: detections are written, nothing is scored\n"
    return (
        f"\nData ({data.layout} layout)\n"
        f"  training: {count(data.train, 'video')}, {count(clips[0], 'clip')}, "
        f"{data.labels_per_video:.2f} labels a video\n"
        f"  test: {count(data.test, 'video')}, {count(clips[1], 'clip')}; "
        f"{count(annotated, 'video')} with segments\n"
        f"  {count(data.classes, 'class', 'classes')}, {streams}, "
        f"clips of {seconds_text(seconds)}, {data.feature_bytes / 1e6:.0f} MB as float32, "
        f"{where}\n{nothing}"
    )


# ---- folder and networks
def folder_of(command, o):
    """The folder of a run, the same on all processes: --resume's or --out's, or a new one."""
    folder = command.resume or command.out
    if not folder and distributed.world()[0] == 0:
        name = f"{o.dataset}-s{o.seed}-{datetime.datetime.now():%Y%m%d-%H%M%S}"
        for number in itertools.count(1):
            folder = Path("runs", name if number == 1 else f"{name}-{number}")
            with contextlib.suppress(FileExistsError):  # of another run that began in this second
                folder.mkdir(parents=True)
                break
    return Path(distributed.everywhere(folder)[0])


def networks(o, this, device):
    """The methods by name, drawn from the run's seed and registered in its folder; no network's
    weights depend on which others there are.
    """
    made, about = {}, this.about
    for name in wanted(o):
        this.generator(f"weights of {name}", 0)
        method = METHODS[name](*about["dims"], len(about["classes"]), settings_of(o, name))
        made[name] = this.register(name, method.to(device))
    return made


def resume_command(folder, processes):
    """The command line that goes on with a run that has begun in so many processes."""
    python = "python" if processes == 1 else f"torchrun --nproc-per-node {processes}"
    return f"{python} run.py --resume {shlex.quote(str(folder))}"
