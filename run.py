"""EM-MIL from features to the mAP table: `python run.py`; options: `python run.py --help`.

The file that puts the others together. `main` picks the job: `run` trains and is the story, in
numbered sections; `evaluate_again` and `predict` use what a run has left.
"""

import sys

if sys.version_info < (3, 10):
    print(
        "error: found Python %d.%d, expected 3.10 or newer" % sys.version_info[:2], file=sys.stderr
    )
    sys.exit(2)

import contextlib
import dataclasses
import datetime
import functools
import os
import time
from pathlib import Path

try:
    # before PyTorch, which reads its settings when it starts
    from engine import cpu
except ImportError:  # works without that file
    cpu = None

import numpy as np
import pandas as pd
import torch

import dataset
import eval_detection
import localize
import opts
from baselines import METHODS, apply
from engine import console, distributed, run_folder
from engine.loop import TrainingSet
from formats import (
    annotations,
    clip_scores,
    demo,
    detections,
    exports,
    features,
    files,
    video_scores,
)
from formats.files import InputError, load_json, show
from formats.names import match_names
from paper import published
from report import figures, outcome, summary, tables, tensorboard

opts.CHOICES.update(
    method=METHODS,
    export=exports.KINDS,
    protocol=(*eval_detection.PROTOCOLS, "all"),
    proposal_score=localize.PROPOSAL_SCORES,
    video_classifier=(*(name for name, method in METHODS.items() if method.classifies), "oracle"),
    feature_layout=features.LAYOUTS,
)


YOUTUBE_IDS, PAGE = "youtube_ids.json", "report.html"


def main(argv=None):
    """Runs the command line `argv`, by default the program's; returns the results of `finish`.

    Bad input ends the program with one line on stderr and code 2; Ctrl-C, SIGTERM and SIGHUP with
    one line and 130, 143, 129.
    """
    with console.signals():
        return _main(argv)


def program(argv=None):
    """`main` for a process that ends with it."""
    with console.signals(restore=False):
        _main(argv)
        console.ignore_signals()
    with contextlib.suppress(OSError, ValueError, AttributeError):  # nobody reads it any more
        sys.stdout.flush()


def _main(argv):
    command = None
    try:
        try:
            with contextlib.ExitStack() as open_things:
                command = opts.parse(argv)
                distributed.join_processes()
                open_things.callback(distributed.leave_processes)
                job = predict if command.predict else evaluate_again if command.evaluate else run
                if job is not run and distributed.world()[1] > 1:
                    raise InputError(
                        f"found {distributed.world()[1]} processes, expected one: only training "
                        "takes several"
                    )
                return job(command, console.Console(), open_things)
        except console.Stopped as stopped:
            _end_stopped(stopped, command)
        except (distributed.Reported, opts.OptionError) as error:
            console.end(2, f"error: {error}", once=True)
        except InputError as error:
            console.end(2, f"error: {error}")
        # disk full, no permission; files are written whole or not at all
        except OSError as error:
            where = error.filename2 or error.filename or "while writing"
            console.end(2, f"error: {where}: {error.strerror or error}")
    # a second signal, or one while the program ends
    except console.Stopped as stopped:
        _end_stopped(stopped, command)


def run(command, out, open_things):
    """Trains, localizes, evaluates; resumes where --resume names a run."""
    # 1. Options and device
    with distributed.all_or_none():
        o, folder = _options(command)
    rank, ranks = distributed.world()
    out.say(_option_lines(o))
    if command.dry_run:
        return None
    if command.resume and (folder / "results.json").exists():
        out.say(
            f"{folder}: this run is finished; to score it again: python run.py --evaluate {folder}"
        )
        return load_json(folder / "results.json")
    device = _device(o)
    seconds = {}

    # 2. Data. Training videos carry their video-level labels and no segments.
    with _timed(seconds, "loading"), distributed.all_or_none():
        data, truth, ambiguous, youtube_ids = load_data(o, out.say)
        # Fail now rather than after training.
        outside_scores(o, [video.name for video in data.test], data.classes, youtube_ids, out.say)
    out.say(_data_lines(data, truth))

    # 3. The run's folder: what is needed to go on, or to score again
    about = {
        "options": dataclasses.asdict(o),
        "train_videos": len(data.train),
        "classes": list(data.classes),
        "snippet_seconds": data.snippet_seconds,
        "dims": list(data.dims),
        "fingerprint": features.fingerprint(o.features, o.flow_features, o.annotations),
        "extractor": features.extract_settings(o.features),
        "code": run_folder.code_hash(),
    }
    with distributed.all_or_none():
        this = run_folder.RunFolder(folder, seed=o.seed, resume=bool(command.resume))
        open_things.callback(this.close)
        if command.resume:
            _same_run(this.about, about, folder, command.other_code)
    this.about = about
    if rank == 0:
        _describe(folder, about, device, truth, ambiguous, youtube_ids)
        command.run = folder  # from here on there is something to resume
        out.keep_in(folder / "log.txt")
    out.say(f"Run: {folder}/\n")

    # 4. Training: the video-level classifiers, then EM-MIL's phases
    if cpu:
        cpu.keep_memory()
        cpu.choose_threads(
            np.mean([video.n_clips for video in data.train]), sum(filter(None, data.dims))
        )
    with _timed(seconds, "moving features"):
        train_set = TrainingSet(data.train, device)
    methods = {
        name: this.register(name, method.to(device))
        for name, method in _methods(o, about, this).items()
    }
    for method in methods.values():
        bar = console.Progress(method.title, method.epochs, out.say)
        with contextlib.closing(bar):
            method.fit(train_set, this, bar)
    log = run_folder.read_log(folder) if rank == 0 else []
    if command.tensorboard and rank == 0:
        tensorboard.write_scalars(folder / "tensorboard", log)
    seconds |= summary.training_seconds(log, methods)
    out.say(summary.training_lines(log, seconds))

    # 5. Scores of the test videos' clips
    with _timed(seconds, "scoring"):
        records = distributed.gathered(
            [apply.record_of(video, methods, device) for video in data.test[rank::ranks]]
        )
    if rank != 0:
        return None
    clip_scores.write(folder / "clip_scores.h5", records, data.classes, data.snippet_seconds)

    # 6. Localization, evaluation, tables, files
    scored = Scored(records, data.classes, data.snippet_seconds, truth, ambiguous, youtube_ids)
    results = finish(o, command, folder, folder, scored, out.say, seconds)
    phases = figures.phase_table(log)
    figures.training_figure(folder / "training.png", records=log)
    figures.convergence_figure(folder / "pseudo_labels.png", phases=phases)
    # last: its presence says that the run is finished
    tables.write_json(folder / "results.json", results)
    return results


@dataclasses.dataclass(frozen=True)
class Scored:
    """A set of test videos with the scores of their clips, and what they are held to."""

    records: list  # of clip_scores.Record
    classes: tuple
    snippet_seconds: float
    # segments; None where there are no annotations (--predict)
    truth: pd.DataFrame | None = None
    ambiguous: pd.DataFrame | None = None
    # {video: id}, where the annotations call videos otherwise
    youtube_ids: dict | None = None


def evaluate_again(command, out, _):
    """--evaluate RUN: localizes and scores from a finished run's stored clip scores, with other
    test-time options.
    """
    folder = Path(command.evaluate)
    o = opts.at_test(
        command.given,
        saved_options(folder / "opts.json"),
        no_effect=opts.names("run") - {"pictures"},
    )
    _only_with(command, "predict", "keep_going", "save_clip_scores")
    _only_with(command, "resume", "other_code")
    out.say(_option_lines(o))
    if command.dry_run:
        return None
    records, classes, snippet_seconds = clip_scores.read(folder / "clip_scores.h5")
    truth = segments_of(folder / "ground_truth.csv", ("video", "t_start", "t_end", "label"))
    if "exclude_video" in command.given:
        left_out = _excluded(
            o, [*dict.fromkeys([record.name for record in records] + truth["video"].tolist())]
        )
        records = [record for record in records if record.name not in left_out]
        truth = truth[~truth["video"].isin(left_out)].reset_index(drop=True)
    ambiguous = (
        detections.read_ambiguous(o.ambiguous)
        if "ambiguous" in command.given
        else segments_of(folder / "ambiguous.csv")
    )
    target = _output_folder(command.out, folder, "evaluate")
    youtube_ids = load_json(folder / YOUTUBE_IDS) if (folder / YOUTUBE_IDS).exists() else None
    scored = Scored(records, classes, snippet_seconds, truth, ambiguous, youtube_ids)
    results = finish(o, command, folder, target, scored, out.say, {})
    tables.write_json(target / "opts.json", dataclasses.asdict(o))
    tables.write_json(target / "results.json", results)
    return results


def finish(o, command, run_dir, out, scored, say, seconds):
    """Localizes, evaluates, prints and writes into `out`; returns the results.

    seconds: wall times so far, by section. The results: `methods` -> {label, localization counts,
    `protocols` -> {tious, map, averages, ap by class, counts}}, `classification` of each
    video-level classifier, `seconds`, and what the numbers come from. Where no test video has a
    segment, there are detections and no scores.
    """
    names = [record.name for record in scored.records]
    outside = outside_scores(o, names, scored.classes, scored.youtube_ids)
    out.mkdir(parents=True, exist_ok=True)
    results = {
        "dataset": o.dataset,
        "features": o.features,
        "seed": o.seed,
        "recipe": opts.recipe_of(o),
        "rule": {**dataclasses.asdict(_rule(o)), "gammas": list(o.gammas_at_test)},
        "run": str(run_dir),
        "classes_from": _classes_from(o),
        "test": {
            "videos": len(scored.records),
            "segments": len(scored.truth),
            "classes": len(set(scored.truth["label"])),
            "ambiguous": len(scored.ambiguous),
        },
        "methods": {},
        "classification": apply.classification(scored.records),
    }
    found = {}
    for name in o.method:
        with _timed(seconds, "localization"):
            found[name], counts = localize.table(localized(o, name, scored, outside))
        results["methods"][name] = {
            "label": METHODS[name].title + row_label(o),
            "localization": counts,
            "protocols": {},
        }
        with _timed(seconds, "evaluation"):
            if len(scored.truth):
                results["methods"][name]["protocols"] = _evaluated(o, scored, found[name])
    results["seconds"] = {name: round(value, 3) for name, value in seconds.items()}

    theirs = published.published_rows(o.dataset, [METHODS[name].title for name in o.method])
    blocks = summary.page(results, theirs, published.NOTE, len(scored.classes), o.gate)
    say(summary.as_text(blocks, per_class=command.per_class))
    tables.write_text(out / "table.md", summary.as_markdown(blocks))
    for name, table in found.items():
        _write_detections(
            table, out / ("detections" if name == o.method[0] else f"detections-{name}")
        )
    first = found[o.method[0]]
    if scored.youtube_ids:
        detections.write_detections(
            detections.under_aliases(first, scored.youtube_ids), out / "detections-youtube.json"
        )
    for kind in command.export:
        exports.write_export(
            kind,
            out / f"{kind}.json",
            first,
            {record.name: record.duration for record in scored.records},
        )
    if "em-mil" in found:
        outcome.draw(out, scored, found["em-mil"], o.pictures, _rule(o))
    log = run_folder.read_log(run_dir) if (Path(run_dir) / run_folder.LOG).exists() else []
    outcome.write_page(
        out / PAGE,
        outcome.about(
            f"{METHODS[o.method[0]].title}: {o.dataset}, seed {o.seed}",
            _header(o, results["recipe"], run_dir),
            *summary.for_page(blocks),
        ),
        scored,
        first,
        outcome.page_scores(class_scores(o, o.method[0], scored, outside), o.gate),
        _rule(o),
        outcome.evaluation(scored, first, results["methods"][o.method[0]]["protocols"]),
        log,
    )
    say(f"\nFiles: {out}/\nTo look at: {out / PAGE}")
    return results


def predict(command, out, open_things):
    """--predict RUN: localizes in the videos of --features with a run's networks, one video at a
    time.

    Writes detections.json and .csv, with --save-clip-scores clip_scores.h5, with --pictures N
    figures of the first N videos, into --out (a folder, or a .json file and what goes beside it),
    by default predict-TIME in the run's folder. Needs no annotations; where they are given, the
    durations of the videos are theirs, else those of the clips. With --keep-going a bad video is
    reported and left out, and the exit code is 3 in the end.
    """
    folder = Path(command.predict)
    state = run_folder.load_checkpoint(folder)
    about = state["about"]
    paths = ("features", "flow_features", "feature_layout", "snippet_seconds", "annotations")
    no_effect = {"tious", "protocol", "ambiguous", "exclude_video", "feature_memory"}
    o = opts.at_test(command.given, about["options"], apart=paths, no_effect=no_effect)
    at = {name: command.given.get(name) for name in paths}
    if command.dry_run:
        return out.say(_option_lines(o))
    if not at["features"]:
        raise InputError(
            "--predict: found no --features, expected the features of the videos to localize in"
        )
    if o.video_classifier == "oracle" or (o.video_scores and "video_scores" not in command.given):
        raise InputError(
            "--predict: found a run without a video-level classifier, expected --video-scores "
            "for the "
            "new videos"
        )
    device = _device(o)
    methods = _trained_methods(o, state, folder, device)
    source, durations, problems = _videos_to_predict(o, at, about, out.say)
    open_things.callback(source.close)
    outside = outside_scores(o, source.names, about["classes"], say=out.say)

    target = Path(command.out or "")
    named = target.suffix in (".json", ".csv")
    place = _output_folder(target.parent if named else command.out, folder, "predict")
    stem = target.stem if named else "detections"
    job = Prediction(o, about["classes"], source.snippet_seconds or about["snippet_seconds"])
    records = job.localize(
        _predicted(about, source, durations, problems, methods, device),
        outside,
        command.keep_going,
        command.given.get("pictures", 0),
    )
    if command.save_clip_scores:
        place.mkdir(parents=True, exist_ok=True)
        clip_scores.write(
            place / (f"{stem}-clip_scores.h5" if named else "clip_scores.h5"),
            records,
            job.classes,
            job.step,
        )
    else:
        for _ in records:
            pass
    place.mkdir(parents=True, exist_ok=True)
    # the first method's table and counts stay for what follows
    for name in reversed(o.method):
        table, counts = localize.table(job.found[name])
        path = place / (stem if name == o.method[0] else f"{stem}-{name}")
        _write_detections(table, path)
        out.say(
            f"{METHODS[name].title}: {counts['videos']} videos, {counts['proposals']} "
            f"detections: {path}.json and .csv"
        )
        if name == "em-mil":
            outcome.draw(
                place, Scored(job.drawn, job.classes, job.step), table, o.pictures, _rule(o)
            )
    for kind in command.export:
        exports.write_export(kind, path.with_name(f"{path.name}-{kind}.json"), table, durations)
    report = place / (f"{stem}-{PAGE}" if named else PAGE)
    about_page = outcome.about(
        f"{METHODS[o.method[0]].title}: {folder}", _header(o, opts.recipe_of(o), folder)
    )
    outcome.write_page(
        report, about_page, Scored([], job.classes, job.step), table, job.pages, _rule(o)
    )
    out.say(f"To look at: {report}")
    if job.bad:
        console.end(
            3,
            f"{len(job.bad)} bad video{'s' * (len(job.bad) > 1)} left out: "
            f"{features.some(job.bad)}",
        )
    return {"videos": counts["videos"], "detections": f"{path}.json", "localization": counts}


class Prediction:
    """--predict: what has been found so far, video by video."""

    def __init__(self, o, classes, step):
        self.o, self.classes, self.step = o, classes, step
        self.found = {name: [] for name in o.method}
        self.bad, self.drawn, self.pages = [], [], []

    def localize(self, records, outside, keep_going, drawn):
        """Yields the record of each video, localized into `found`; the first `drawn` records are
        kept for pictures.

        records: (name, function that makes the record or raises InputError). outside: (N, C)
        video-level scores or None.
        """
        for k, (name, make) in enumerate(records):
            try:
                record = make()
            except InputError as error:
                if not keep_going:
                    raise
                self.bad.append(name)
                console.printed(f"left out: {error}", sys.stderr)
                continue
            one = Scored([record], self.classes, self.step)
            of_video = None if outside is None else outside[k : k + 1]
            for method, rows in self.found.items():
                rows += localized(self.o, method, one, of_video)
            gated = class_scores(self.o, self.o.method[0], one, of_video)
            self.pages += outcome.page_scores(gated, self.o.gate, np.float16)
            if len(self.drawn) < drawn:
                self.drawn.append(record)
            if "em-mil" in record.scores:
                scores = record.scores["em-mil"]
                l = localize.fuse(scores["q"], scores["p"], self.o.lam)
                record = dataclasses.replace(
                    record, scores={**record.scores, "em-mil": {**scores, "l": l}}
                )
            yield record


def _predicted(about, source, durations, problems, methods, device):
    """(name, function that makes the video's record) of each video; durations grows by those of the
    clips.
    """
    step = source.snippet_seconds or about["snippet_seconds"]

    def make(name):
        if name in problems:
            raise problems[name]
        dims = list(source.shape(name)[1:])
        if dims != about["dims"]:
            found, expected = (
                " and ".join(map(str, filter(None, d))) for d in (dims, about["dims"])
            )
            raise InputError(
                f"{source.path}: {name}: found {found} features a clip, expected {expected} as "
                "in training"
            )
        rgb, flow = source.read(name)
        source.release(name)
        duration = durations.setdefault(name, len(flow if rgb is None else rgb) * step)
        labels = np.zeros(len(about["classes"]), np.float32)
        video = dataset.Video(
            name, rgb, flow, labels, duration, np.zeros((0, 2)), np.zeros(0, int), step
        )
        record = apply.record_of(video, methods, device)
        clip_scores.check(record)
        return record

    for name in console.Bar(source.names, "videos", disable=None):
        yield name, functools.partial(make, name)


def _videos_to_predict(o, at, about, say):
    """(source of the features, {video: duration in s}, {bad video: InputError}); prints what was
    assumed.
    """
    source = features.open_features(
        at["features"],
        layout=at["feature_layout"] or "auto",
        flow_path=at["flow_features"],
        annotations=at["annotations"],
        snippet_seconds=at["snippet_seconds"],
        streams=o.streams,
        crops=o.crops,
    )
    notes, durations = list(source.notes), {}
    truth = annotations.load(at["annotations"]) if at["annotations"] else None
    if truth:
        source.adopt(list(truth.videos.values()))
        durations = {
            video.name: video.duration
            for video in truth.videos.values()
            if video.duration is not None
        }
        unknown = [name for name in source.names if name not in durations]
        if unknown:
            notes.append(
                f"{at['annotations']}: found no duration of {len(unknown)} of "
                f"{len(source.names)} videos, taken "
                "to be that of their clips"
            )
    _, problems = dataset.examine(source, truth, source.names, notes)
    if not source.snippet_seconds:
        notes.append(
            f"{source.path}: found no seconds per clip, taken to be {about['snippet_seconds']:g} "
            "as in training"
        )
    for note in dict.fromkeys(notes):
        say(f"warning: {note}")
    step = source.snippet_seconds or about["snippet_seconds"]
    if abs(step - about["snippet_seconds"]) > 1e-3 * step:
        source.close()
        raise InputError(
            f"{source.path}: found clips of {step:g} s, expected {about['snippet_seconds']:g} s "
            "as in "
            "training (--snippet-seconds overrides what the file says)"
        )
    _same_extractor(about["extractor"], features.extract_settings(at["features"]), source.path)
    return source, durations, problems


def _same_extractor(then, now, path):
    """InputError where the features of a run and new ones were extracted with other settings, if
    both are known.
    """
    if not then or not now:
        return
    for key in then:
        if then[key] != now.get(key):
            raise InputError(
                f"{path}: found features extracted with {key} {now.get(key)}, expected "
                f"{then[key]} as in "
                "training (tools/extract_features.py)"
            )


def _trained_methods(o, state, folder, device):
    """The methods that `o` asks for, with what a run's checkpoint holds of them."""
    about, made = state["about"], {}
    for name in wanted(o):
        method = METHODS[name](*about["dims"], len(about["classes"]), settings_of(o, name))
        if name not in state["parts"]:
            raise InputError(
                f"{folder}: found no {method.title} in its checkpoint, expected a run that has "
                "trained it"
            )
        done = [stage.split()[0] for stage in state["done"]].count(name)
        if done < (len(o.phases) if name == "em-mil" else 1):
            raise InputError(
                f"{folder}: found {method.title} not trained to its end, expected it finished "
                f"(python run.py --resume {folder})"
            )
        run_folder.load_state(
            method, state["parts"][name], f"{folder / run_folder.CHECKPOINT}: {name}"
        )
        made[name] = (cpu.prepare(method) if cpu else method).to(device)
    return made


# ---- options, device, data
def _options(command):
    """(Opts, folder of the run), from flags, a saved opts.json, or the run to resume."""
    _only_with(command, "predict", "keep_going", "save_clip_scores")
    _only_with(command, "resume", "other_code")
    if command.resume:
        folder = Path(command.resume)
        saved = saved_options(folder / "opts.json")
        old, o = opts.resolve({}, saved), opts.resolve(command.given, saved)
        deciding = (
            {"method", "video_classifier", "video_scores"} if wanted(old) != wanted(o) else set()
        )
        opts.refuse(
            opts.changed(old, o, "train")
            + [name for name in opts.changed(old, o, "test") if name in deciding],
            f"of {folder}, which has begun; resume without it, or start a new run",
        )
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
            "before it "
            "wrote them has nothing to resume: start a new run)"
        )
    saved = load_json(path)
    if not isinstance(saved, dict):
        raise InputError(f"{path}: found other JSON, expected a run's options")
    for f in dataclasses.fields(opts.Opts):
        if f.name in saved and not opts.fits(f, saved[f.name]):
            raise InputError(
                f"{path}: {f.name}: found {show(saved[f.name])}, expected what {opts.flag_of(f)} "
                "takes"
            )
    return saved


def _only_with(command, job, *names):
    for name in names:
        if getattr(command, name) and not getattr(command, job):
            raise opts.OptionError(
                f"--{name.replace('_', '-')}: found without --{job}, expected with it"
            )


def _output_folder(given, run_dir, job):
    """Where a job on a run writes: the folder given, which must not be a run's, or a new one in the
    run's folder.
    """
    folder = (
        Path(given)
        if given
        else run_dir / datetime.datetime.now().strftime(f"{job}-%Y%m%d-%H%M%S-%f")
    )
    if (folder / "opts.json").exists() and (folder / run_folder.LOG).exists():
        raise InputError(f"{folder}: found a run there, expected another folder to write to")
    return folder


def _device(o):
    if o.device == "cuda" and not torch.cuda.is_available():
        raise opts.OptionError(
            "--device: found cuda, but PyTorch sees no GPU here; expected auto or cpu"
        )
    device = torch.device("cpu" if o.device == "cpu" or not torch.cuda.is_available() else "cuda")
    if o.precision == "tf32" and device.type != "cuda":
        raise opts.OptionError("--precision: found tf32, which needs a GPU; expected fp32 or bf16")
    torch.set_float32_matmul_precision("high" if o.precision == "tf32" else "highest")
    if o.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # the call imports PyTorch's compiler
    if o.deterministic != torch.are_deterministic_algorithms_enabled():
        torch.use_deterministic_algorithms(o.deterministic)
    return device


def load_data(o, say):
    """(dataset.Data, table of the test videos' segments, table of ambiguous segments, {video:
    YouTube id}).
    """
    rank, ranks = distributed.world()
    preset = opts.PRESETS["demo"]
    if o.dataset == "demo" and (o.features, o.annotations) == (
        preset["features"],
        preset["annotations"],
    ):
        if rank == 0:
            say(demo.write_demo(Path(o.features).parent))
        distributed.everywhere(None)  # all wait for the file
    for name in ("features", "annotations"):
        if not getattr(o, name):
            raise InputError(f"--{name}: found none for --dataset {o.dataset}, expected a path")
    truth = annotations.load(o.annotations, video_labels=o.video_labels)
    left_out = _excluded(o, truth.videos, truth.aliases)
    truth = dataclasses.replace(
        truth, videos={name: v for name, v in truth.videos.items() if name not in left_out}
    )
    train_subset, test_subset = annotations.choose_subsets(truth, o.train_subset, o.test_subset)
    here = int(os.environ.get("LOCAL_WORLD_SIZE", 1))  # processes on this machine
    limit = (
        o.feature_memory * 1e9 if o.feature_memory is not None else files.free_memory() / 2 / here
    )
    data = dataset.load(
        o.features,
        truth,
        train_subset=train_subset,
        test_subset=test_subset,
        layout=o.feature_layout,
        flow_features=o.flow_features,
        snippet_seconds=o.snippet_seconds,
        streams=o.streams,
        crops=o.crops,
        allow_missing=o.allow_missing,
        memory_limit=limit,
        shard=(rank, ranks),
    )
    tested = annotations.in_subset(truth, test_subset)
    wrong = annotations.time_unit_problem(
        truth.path, tested, {video.name: video.duration for video in data.test}
    )
    if wrong:
        raise InputError(wrong)
    for note in filter(
        None,
        (
            *data.notes,
            annotations.scoring_note(truth.path, test_subset, data.test),
            _one_class_note(o, data),
        ),
    ):
        say(f"warning: {note}")
    for subset, videos in ((train_subset, data.train), (test_subset, data.test)):
        if not videos:
            raise InputError(
                f"{o.annotations}: found no video of subset {subset} with features, expected at "
                "least one"
            )
    # All of the subset's segments: those of a video without features (--allow-missing) are missed,
    # not forgiven.
    ambiguous = detections.read_ambiguous(o.ambiguous) if o.ambiguous else truth.ambiguous
    return data, annotations.table(tested), ambiguous, truth.aliases


def _excluded(o, known, youtube_ids=None):
    """The names in `known` that --exclude-video means, in any form. InputError for one that means
    none.
    """
    by_id = {alias: name for name, alias in (youtube_ids or {}).items() if alias}
    meant = {name: by_id[name] for name in o.exclude_video if name in by_id}
    meant |= match_names([name for name in o.exclude_video if name not in meant], known)
    for name in o.exclude_video:
        if name not in meant:
            raise InputError(
                f"--exclude-video: found {name}, expected the name of an annotated video, such as "
                f"{features.some(known, 3)}"
            )
    return set(meant.values())


def _one_class_note(o, data):
    """With one class a classifier has nothing to tell it from, and its score is 1 in every
    video.
    """
    if len(data.classes) > 1 or o.video_scores or o.video_classifier == "oracle":
        return None
    return (
        f"found the one class {data.classes[0]}: a video-level classifier gives it the score 1 "
        "in every video, so "
        "videos without it are localized too; give --video-scores FILE, or --video-classifier "
        "oracle"
    )


def outside_scores(o, names, classes, youtube_ids=None, say=None):
    """--video-scores as (N, C) for the videos `names`, or None; `say` prints how names were
    matched.
    """
    if not o.video_scores:
        return None
    notes = []
    found = video_scores.read_video_scores(o.video_scores, names, classes, youtube_ids, notes)
    for note in notes if say else ():
        say(f"warning: {note}")
    return found


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


def _same_run(then, now, folder, other_code):
    """then, now: `about` of the checkpoint, {} where there is none yet, and of this process."""
    if not then:
        return
    old, new = (opts.resolve({}, about["options"]) for about in (then, now))
    opts.refuse(
        opts.changed(old, new, "train"), f"in {folder}/opts.json: the run began with another value"
    )
    for name, what in (
        ("snippet_seconds", "seconds per clip"),
        ("dims", "dimensions"),
        ("classes", "classes"),
        ("train_videos", "training videos"),
        ("fingerprint", "fingerprint"),
    ):
        if then[name] != now[name]:
            raise InputError(
                f"{folder}: found features or annotations that have changed since the run began "
                f"({what}: "
                f"{show(then[name])} then, {show(now[name])} now), expected the same ones"
            )
    if then["code"] != now["code"] and not other_code:
        raise InputError(
            f"{folder}: found other code than the run began with ({then['code']} then, "
            f"{now['code']} now), "
            "expected the same (--other-code goes on with it, and environment.json then records "
            "both)"
        )


def _describe(folder, about, device, truth, ambiguous, youtube_ids):
    """Writes opts.json, environment.json (an entry for each process that worked on the run) and the
    ground truth.
    """
    tables.write_json(folder / "opts.json", about["options"])
    path = folder / "environment.json"
    before = load_json(path) if path.exists() else []
    tables.write_json(path, [*before, run_folder.environment(device)])
    tables.write_csv(folder / "ground_truth.csv", truth)
    tables.write_csv(folder / "ambiguous.csv", ambiguous)
    if youtube_ids:
        tables.write_json(folder / YOUTUBE_IDS, youtube_ids)


# ---- methods, detections
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


def _methods(o, about, this):
    """The methods by name, drawn from the run's seed; no network's weights depend on which others
    there are.
    """
    made = {}
    for name in wanted(o):
        this.generator(f"weights of {name}", 0)
        method = METHODS[name](*about["dims"], len(about["classes"]), settings_of(o, name))
        made[name] = cpu.prepare(method) if cpu else method
    return made


def _rule(o):
    return localize.Rule(
        lam=o.lam,
        gammas=o.gammas_at_test,
        gate=o.gate,
        score=o.proposal_score,
        video_weight=o.video_weight,
        nms=o.nms,
        soft=o.soft_nms,
    )


def class_scores(o, name, scored, outside):
    """baselines.apply.class_scores with the classifier of the options."""
    return apply.class_scores(name, scored.records, o.video_classifier, outside)


def localized(o, name, scored, outside):
    """(rows, counts) of each video by the method `name`, for localize.table."""
    gated = class_scores(o, name, scored, outside)
    return apply.localized(name, gated, scored.classes, scored.snippet_seconds, _rule(o))


def _evaluated(o, scored, table):
    """{protocol: its results} of one method's detections."""
    protocols = eval_detection.PROTOCOLS if o.protocol == "all" else (o.protocol,)
    results = {}
    for protocol in protocols:
        try:
            e = eval_detection.evaluate(scored.truth, table, o.tious, protocol, scored.ambiguous)
        # eval_detection knows no InputError: it can be copied alone
        except ValueError as error:
            raise InputError(error) from None
        means = eval_detection.averages(e.tious, e.map)
        if len(e.tious) == 7 and "0.1:0.7" in means:
            del means["all"]  # the same mean under another name
        results[protocol] = {
            "tious": e.tious.tolist(),
            "map": e.map.tolist(),
            "averages": means,
            "counts": e.counts,
            "ap": dict(zip(e.classes, e.ap.T.tolist())),
            "segments": dict(zip(e.classes, e.n_segments.tolist())),
        }
    return results


def _classes_from(o):
    """Where the classes of a test video come from, for methods that are no classifiers; None where
    there is none.
    """
    if (
        all(METHODS[name].classifies for name in o.method)
        and not o.video_scores
        and o.video_classifier != "oracle"
    ):
        return None
    return Path(o.video_scores).name if o.video_scores else o.video_classifier


def row_label(o):
    """What a row's label adds where a test video's classes are not the method's own or its
    classifier's.
    """
    if o.video_scores:
        return f" (classes from {Path(o.video_scores).name})"
    return " (oracle classes)" if o.video_classifier == "oracle" else ""


def _write_detections(table, stem):
    for suffix in (".json", ".csv"):
        detections.write_detections(table, stem.with_name(stem.name + suffix))


# ---- what is printed
def _option_lines(o):
    values = "; ".join(
        f"{opts.flag_of(f)[2:]} {opts.show(getattr(o, f.name))}" for f in dataclasses.fields(o)
    )
    return summary.option_lines(values, o.phases, opts.recipe_of(o))


def _data_lines(data, truth):
    clips = [sum(v.n_clips for v in videos) for videos in (data.train, data.test)]
    labels = np.mean([video.labels.sum() for video in data.train])
    annotated = len(set(truth["video"]) & {video.name for video in data.test})
    streams = " and ".join(
        f"{stream} {dim}-d" for stream, dim in zip(("rgb", "flow"), data.dims) if dim
    )
    where = "in memory" if data.in_memory else "read from disk as needed"
    return (
        f"\nData ({data.layout} layout)\n"
        f"  training: {len(data.train)} videos, {clips[0]} clips, {labels:.2f} labels a video\n"
        f"  test: {len(data.test)} videos, {clips[1]} clips; {annotated} videos with segments\n"
        f"  {len(data.classes)} classes, {streams}, clips of {data.snippet_seconds:g} s, "
        f"{data.feature_bytes / 1e6:.0f} MB as float32, {where}\n"
        + (
            ""
            if annotated
            else "  no test video has a segment: detections are written, nothing is scored\n"
        )
    )


def _header(o, recipe, run_dir):
    """(name, value) of what the page's numbers come from."""
    plain = opts.resolve({"dataset": o.dataset, "recipe": o.recipe})
    code = run_folder.environment("cpu")
    changed = [
        f"{opts.flag_of(f)[2:]} {opts.show(getattr(o, f.name))}"
        for f in dataclasses.fields(o)
        if getattr(o, f.name) != getattr(plain, f.name)
    ]
    return [
        ("dataset", o.dataset),
        ("features", o.features),
        ("seed", str(o.seed)),
        ("recipe", recipe),
        ("options that differ from the preset", ", ".join(changed) or "none"),
        ("run", str(run_dir)),
        (
            "code",
            f"{code['code']}, commit {code['commit']}"
            + (", with local changes" if code["dirty"] else ""),
        ),
        ("made", f"{datetime.datetime.now():%Y-%m-%d %H:%M}"),
    ]


@contextlib.contextmanager
def _timed(seconds, name):
    began = time.perf_counter()
    yield
    seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - began


def _end_stopped(stopped, command):
    begun = getattr(command, "run", None)
    kept = f"; go on with: python run.py --resume {begun}" if begun else ""
    console.end(
        128 + stopped.signum, f"stopped by {console.name_of(stopped.signum)}{kept}", once=True
    )


if __name__ == "__main__":
    program()
