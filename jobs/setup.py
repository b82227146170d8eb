"""From the command line to options, device, data, folder and methods: run.py's first chapter."""

import dataclasses
import datetime
import os
from pathlib import Path

import numpy as np
import pandas as pd
import torch

import dataset
import eval_detection
import opts
from engine import distributed, run_folder
from formats import annotations, demo, detections, features, files, video_scores
from formats.files import InputError, count, load_json, show
from formats.layouts import seconds_text
from formats.names import match_names
from methods import METHODS
from report import summary, tables, tensorboard

# flags of the command, and the job that alone has a use for them, or those that have none
ONLY_WITH = {"keep_going": "predict", "save_clip_scores": "predict", "other_code": "resume"}
NOT_WITH = {"per_class": ("predict",), "tensorboard": ("predict", "evaluate")}


def options(command):
    """(Opts, folder of the run), from flags, a saved opts.json, or the run to resume."""
    check_flags(command)
    if command.tensorboard:
        tensorboard.writer()  # fail now rather than after training
    if command.resume:
        folder = Path(command.resume)
        saved = saved_options(folder / "opts.json")
        old, o = opts.resolve({}, saved), opts.resolve(command.given, saved)
        changed = opts.changed(old, o, "train")
        if wanted(old) != wanted(o):
            deciding = {"method", "video_classifier", "video_scores"}
            changed += [name for name in opts.changed(old, o, "test") if name in deciding]
        why = f"of {folder}, which has begun; resume without it, or start a new run"
        opts.refuse(changed, why)
        if command.out:
            raise opts.OptionError(
                f"--out: found with --resume, expected none: the run goes on in {folder}"
            )
        return o, folder
    saved = saved_options(Path(command.config)) if command.config else None
    # they name where the saved values come from, and set nothing
    for name in ("dataset", "recipe") if saved else ():
        if command.given.get(name, saved.get(name)) != saved.get(name):
            raise opts.OptionError(
                f"--{name}: found {command.given[name]!r}, expected {saved.get(name)!r} as in "
                f"{command.config}"
            )
    o = opts.resolve(command.given, saved)
    name = f"{o.dataset}-s{o.seed}-{datetime.datetime.now():%Y%m%d-%H%M%S}"
    folder = Path(command.out or Path("runs") / name)
    if (folder / "opts.json").exists():
        raise InputError(
            f"{folder}: found a run there, expected a new folder (--resume {folder} goes on with "
            "that run)"
        )
    return o, folder


def saved_options(path):
    """The options in a run's opts.json."""
    if not path.exists():
        raise InputError(
            f"{path}: found no such file, expected the options of a run (one that was stopped "
            "before it wrote them has nothing to resume: start a new run)"
        )
    saved = load_json(path)
    if not isinstance(saved, dict):
        raise InputError(f"{path}: found other JSON, expected a run's options")
    for f in dataclasses.fields(opts.Opts):
        if f.name in saved and not opts.fits(saved[f.name], f.type):
            raise InputError(
                f"{path}: {f.name}: found {show(saved[f.name])}, expected what {opts.flag_of(f)} "
                "takes"
            )
    return saved


def check_flags(command):
    """OptionError for a flag that the job has no use for."""
    for name, job in ONLY_WITH.items():
        if getattr(command, name) and not getattr(command, job):
            flag = name.replace("_", "-")
            raise opts.OptionError(f"--{flag}: found without --{job}, expected with it")
    for name, jobs in NOT_WITH.items():
        for job in jobs:
            if getattr(command, name) and getattr(command, job):
                flag = name.replace("_", "-")
                raise opts.OptionError(f"--{flag}: found with --{job}, where it has no effect")


def output_folder(given, run_dir, job):
    """Where a job on a run writes: the folder given, which must hold no run and no results, or a
    new one in the run's folder. InputError now rather than after the work.
    """
    new = datetime.datetime.now().strftime(f"{job}-%Y%m%d-%H%M%S-%f")
    folder = Path(given or run_dir / new)
    if (folder / "opts.json").exists() and (folder / run_folder.LOG).exists():
        raise InputError(f"{folder}: found a run there, expected another folder to write to")
    if (folder / "detections.json").exists():
        raise InputError(f"{folder}: found results there, expected a new folder to write to")
    if folder.suffix in (".json", ".csv") or folder.exists() and not folder.is_dir():
        raise InputError(f"--out: found {folder}, the name of a file; expected a folder")
    return folder


def device_kind(o):
    """ "cpu" or "cuda". OptionError where there is no GPU as asked for."""
    if o.device == "cuda" and not torch.cuda.is_available():
        raise opts.OptionError(
            "--device: found cuda, but PyTorch sees no GPU here; expected auto or cpu"
        )
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
        return torch.device("cpu")
    # with its number: in the thread that reads features, "cuda" alone is GPU 0
    return torch.device("cuda", torch.cuda.current_device())


def load_data(o, say):
    """(dataset.Data, table of the test videos' segments, table of ambiguous segments)."""
    find_files(o, say)
    truth, train_subset, test_subset = load_annotations(o)
    here = int(os.environ.get("LOCAL_WORLD_SIZE", 1))  # processes on this machine
    limit = (
        o.feature_memory * 1e9 if o.feature_memory is not None else files.free_memory() / 2 / here
    )
    source = features.open_features(o.features, truth.path, **features.asked(o))
    data = dataset.load(
        source,
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
    annotations.warn_unscored(truth, tested[tested.index.isin(list(durations))])
    for note in filter(None, (*data.notes, _one_class_note(o, data))):
        say(f"warning: {note}")
    for subset, videos in ((train_subset, data.train), (test_subset, data.test)):
        if not videos:
            raise InputError(
                o.annotations,
                f"no video of subset {' '.join(subset)} with features",
                "at least one",
            )
    ambiguous = read_ambiguous(o.ambiguous) if o.ambiguous else truth.ambiguous
    return data, segments, detections.ambiguous_in(tested.index, ambiguous, o.ambiguous)


def read_ambiguous(path):
    """Table of the Ambiguous segments in a file, with valid times."""
    table = detections.read_ambiguous(path)
    try:
        eval_detection.check(table, path, eval_detection.SEGMENT)
    except ValueError as error:
        raise InputError(error) from None
    return table


def load_annotations(o):
    """(annotations without what --exclude-video names, training subset, test subset)."""
    truth = annotations.load(o.annotations, video_labels=o.video_labels)
    left_out = excluded(o.exclude_video, truth.videos.index)
    truth = truth.only([name for name in truth.videos.index if name not in left_out])
    return truth, *annotations.choose_subsets(truth, o.train_subset, o.test_subset)


def find_files(o, say):
    """InputError where the features or annotations are not there; makes those of the demo."""
    preset = opts.PRESETS["demo"]
    if o.dataset == "demo" and (o.features, o.annotations) == (
        preset["features"],
        preset["annotations"],
    ):
        if distributed.world()[0] == 0:
            say(demo.write_demo(Path(o.features).parent))
        distributed.everywhere(None)  # all wait for the file
    for name in ("features", "annotations"):
        if not getattr(o, name):
            raise InputError(f"--{name}: found none for --dataset {o.dataset}, expected a path")
        path = Path(getattr(o, name))
        if not path.exists():
            start = "" if path.is_absolute() else f"; relative paths start at {Path.cwd()}"
            raise InputError(
                f"{path}: found no such file or folder, expected the {name} "
                f"(--{name} names another place{start})"
            )


def excluded(names, known):
    """The names in `known` that the `names` of --exclude-video mean, in any form. InputError for
    one that means none.
    """
    meant = {asked: name for name, asked in match_names(known, names).items()}
    for name in names:
        if name not in meant:
            raise InputError(
                f"--exclude-video: found {name}, expected the name of an annotated video, such as "
                f"{files.some(known, 3)}"
            )
    return set(meant.values())


def _one_class_note(o, data):
    """With one class a classifier has nothing to tell it from, and its score is 1 in every
    video.
    """
    if len(data.classes) > 1 or o.video_scores or o.video_classifier == "oracle":
        return None
    return (
        f"found the one class {data.classes[0]}: a video-level classifier gives it the score 1 in "
        "every video, so videos without it are localized too; give --video-scores FILE, or "
        "--video-classifier oracle"
    )


def outside_scores(o, names, classes):
    """--video-scores as (N, C) for the videos `names`, or None."""
    if not o.video_scores:
        return None
    return video_scores.read_video_scores(o.video_scores, names, classes)


def segments_of(path, columns=("video", "t_start", "t_end")):
    """A table of segments as a run keeps it: numbers exactly as written, names as text (a class may
    be NA or 007).
    """
    try:
        return pd.read_csv(
            path,
            keep_default_na=False,
            float_precision="round_trip",
            dtype={"video": str, "label": str, "t_start": float, "t_end": float},
        )[list(columns)]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"{path}: found no readable table ({error}), expected that of a finished run"
        ) from None


def labels_per_video(data):
    """Labels of a training video, on average."""
    return float(np.mean([video.labels.sum() for video in data.train]))


def source_of_weights(o, data, record):
    """What a run's checkpoint says of where its weights come from.

    record: see jobs/run_record.py.
    """
    return {
        "record": record,
        "train_videos": len(data.train),
        "classes": list(data.classes),
        "snippet_seconds": data.snippet_seconds,
        "clip_seconds": data.clip_seconds,
        "dims": list(data.dims),
        "extractor": features.extract_settings(o.features),
    }


def describe(folder, record, resumed, truth, ambiguous):
    """Writes opts.json, environment.json (an entry for each process that the weights come from) and
    the ground truth. resumed: whether there are weights of an earlier process.
    """
    tables.write_json(folder / "opts.json", record["options"])
    path = folder / run_folder.RECORDS
    before = load_json(path) if resumed and path.exists() else []
    tables.write_json(path, [*before, record])
    tables.write_csv(folder / "ground_truth.csv", truth)
    tables.write_csv(folder / "ambiguous.csv", ambiguous)


def wanted(o):
    """The methods a run trains, classifiers first: those that are shown, and the classifier that
    gates them.
    """
    gated = any(not METHODS[name].classifies for name in o.method)
    classifier = {o.video_classifier} if gated and not o.video_scores else set()
    names = [name for name in METHODS if name in classifier | set(o.method)]
    return sorted(names, key=lambda name: not METHODS[name].classifies)


def settings_of(o, name):
    kind = METHODS[name].Settings
    return kind(**{f.name: getattr(o, f.name) for f in dataclasses.fields(kind)})


def methods_of(o, about, this, device):
    """The methods by name, drawn from the run's seed and registered in its folder; no network's
    weights depend on which others there are.
    """
    made = {}
    for name in wanted(o):
        this.generator(f"weights of {name}", 0)
        method = METHODS[name](*about["dims"], len(about["classes"]), settings_of(o, name))
        made[name] = this.register(name, method.to(device))
    return made


def resume_command(folder, processes):
    """The command line that goes on with a run that has begun in so many processes."""
    python = "python" if processes == 1 else f"torchrun --nproc-per-node {processes}"
    return f"{python} run.py --resume {folder}"


def option_lines(o, phases, processes):
    """What is printed first. phases, processes: of the training, which may be over."""
    values = "; ".join(
        f"{opts.flag_of(f)[2:]} {opts.show(getattr(o, f.name))}" for f in dataclasses.fields(o)
    )
    return summary.option_lines(values, phases, opts.recipe_of(o, processes))


def data_lines(data, truth):
    clips = [sum(v.n_clips for v in videos) for videos in (data.train, data.test)]
    annotated = len(set(truth["video"]) & {video.name for video in data.test})
    streams = " and ".join(
        f"{stream} {dim}-d" for stream, dim in zip(("rgb", "flow"), data.dims) if dim
    )
    seconds = [(v.snippet_seconds, v.clip_seconds) for v in (*data.train, *data.test)]
    where = "in memory" if data.in_memory else "read from disk as needed"
    return (
        f"\nData ({data.layout} layout)\n"
        f"  training: {count(data.train, 'video')}, {count(clips[0], 'clip')}, "
        f"{labels_per_video(data):.2f} labels a video\n"
        f"  test: {count(data.test, 'video')}, {count(clips[1], 'clip')}; "
        f"{count(annotated, 'video')} with segments\n"
        f"  {count(data.classes, 'class', 'classes')}, {streams}, "
        f"clips of {seconds_text(seconds)}, {data.feature_bytes / 1e6:.0f} MB as float32, "
        f"{where}\n"
        + (
            ""
            if annotated
            else "  no test video has a segment: detections are written, nothing is scored\n"
        )
    )
