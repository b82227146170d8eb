"""EM-MIL from features to the mAP table: `python run.py`. Options: opts.py, or `python run.py --help`.

The file that puts the others together. `main` picks the job: `run` trains and is the story, in numbered sections;
`evaluate_again` and `predict` use what a run has left.
"""
import sys

if sys.version_info < (3, 10):
    sys.exit("error: found Python %d.%d, expected 3.10 or newer" % sys.version_info[:2])

import contextlib
import dataclasses
import datetime
import os
import time
from pathlib import Path

try:
    from engine import cpu
    cpu.keep_memory()                                   # before PyTorch allocates
except ImportError:                                     # works without that file
    cpu = None

import numpy as np
import pandas as pd
import torch

import dataset
import eval_detection
import localize
import opts
from baselines import METHODS
from engine import console, distributed, run_folder
from engine.loop import TrainingSet
from formats import annotations, clip_scores, demo, detections, features, video_scores
from formats.files import InputError, load_json, show
from paper import published
from report import figures, summary, tables

opts.CHOICES.update(
    method=METHODS, protocol=(*eval_detection.PROTOCOLS, "all"), proposal_score=localize.PROPOSAL_SCORES,
    video_classifier=(*(name for name, method in METHODS.items() if method.classifies), "oracle"),
    feature_layout=features.LAYOUTS)


def main(argv=None):
    """Runs the command line `argv` (default: the program's); returns the results (see `finish`), or None.

    Bad input ends the program with one line on stderr and code 2; Ctrl-C, SIGTERM and SIGHUP with one line and 130,
    143, 129.
    """
    with console.signals():
        return _main(argv)


def program(argv=None):
    """`main` for a process that ends with it."""
    with console.signals(restore=False):
        _main(argv)
        console.ignore_signals()
    with contextlib.suppress(OSError):
        sys.stdout.flush()


def _main(argv):
    command = None
    with contextlib.ExitStack() as open_things:
        try:
            try:
                command = opts.parse(argv)
                distributed.join_processes()
                open_things.callback(distributed.leave_processes)
                job = predict if command.predict else evaluate_again if command.evaluate else run
                if job is not run and distributed.world()[1] > 1:
                    raise InputError(f"found {distributed.world()[1]} processes, expected one: only training takes several")
                return job(command, console.Console(), open_things)
            except console.Stopped as stopped:
                _end_stopped(stopped, command)
        except console.Stopped as stopped:              # a second signal, on the heels of the first
            _end_stopped(stopped, command)
        except (distributed.Reported, opts.OptionError) as error:
            console.end(2, f"error: {error}", once=True)
        except InputError as error:
            console.end(2, f"error: {error}")
        except OSError as error:                        # disk full, no permission; files are written whole or not at all
            where = error.filename2 or error.filename or "while writing"
            console.end(2, f"error: {where}: {error.strerror or error}")


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
        out.say(f"{folder}: this run is finished; to score it again: python run.py --evaluate {folder}")
        return load_json(folder / "results.json")
    device = _device(o)
    seconds = {}

    # 2. Data. Training videos carry their video-level labels and no segments.
    with _timed(seconds, "loading"), distributed.all_or_none():
        data, truth, ambiguous = load_data(o, out.say)
        outside_scores(o, [video.name for video in data.test], data.classes)     # fail now rather than after training
    out.say(_data_lines(data, truth))

    # 3. The run's folder: what is needed to go on, or to score again
    about = {"options": dataclasses.asdict(o), "classes": list(data.classes), "snippet_seconds": data.snippet_seconds,
             "dims": list(data.dims), "fingerprint": features.fingerprint(o.features, o.flow_features, o.annotations),
             "code": run_folder.code_hash()}
    with distributed.all_or_none():
        this = run_folder.RunFolder(folder, seed=o.seed, resume=bool(command.resume))
        open_things.callback(this.close)
        if command.resume:
            _same_run(this.about, about, folder, command.other_code)
    this.about = about
    if rank == 0:
        _describe(folder, about, device, truth, ambiguous)
        command.run = folder                            # from here on there is something to resume
        out.keep_in(folder / "log.txt")
    out.say(f"Run: {folder}/\n")

    # 4. Training: the video-level classifiers, then EM-MIL's phases
    with _timed(seconds, "moving features"):
        train_set = TrainingSet(data.train, device)
    methods = {name: this.register(name, method.to(device)) for name, method in _methods(o, about, this).items()}
    for method in methods.values():
        bar = console.Progress(method.title, method.epochs, out.say)
        with contextlib.closing(bar):
            method.fit(train_set, this, bar)
    log = run_folder.read_log(folder) if rank == 0 else []
    seconds |= summary.training_seconds(log, methods)
    out.say(summary.training_lines(log, seconds))

    # 5. Scores of the test videos' clips
    with _timed(seconds, "scoring"):
        records = distributed.gathered([_record(video, methods, device) for video in data.test[rank::ranks]])
    if rank != 0:
        return None
    clip_scores.write(folder / "clip_scores.h5", records, data.classes, data.snippet_seconds)

    # 6. Localization, evaluation, tables, files
    scored = Scored(records, data.classes, data.snippet_seconds, truth, ambiguous)
    results = finish(o, command, folder, folder, scored, out.say, seconds)
    phases = figures.phase_table(log)
    figures.training_figure(folder / "training.png", records=log)
    figures.convergence_figure(folder / "pseudo_labels.png", phases=phases)
    tables.write_json(folder / "results.json", results)  # last: its presence says that the run is finished
    return results


@dataclasses.dataclass(frozen=True)
class Scored:
    """A set of test videos with the scores of their clips, and what they are held to."""
    records: list              # of clip_scores.Record
    classes: tuple
    snippet_seconds: float
    truth: pd.DataFrame | None = None          # segments; None where there are no annotations (--predict)
    ambiguous: pd.DataFrame | None = None


def evaluate_again(command, out, _):
    """--evaluate RUN: localizes and scores from a finished run's stored clip scores, with other test-time options."""
    folder = Path(command.evaluate)
    o = opts.at_test(command.given, saved_options(folder / "opts.json"), no_effect=opts.names("run") - {"pictures"})
    _only_with(command, "predict", "keep_going", "save_clip_scores")
    _only_with(command, "resume", "other_code")
    out.say(_option_lines(o))
    if command.dry_run:
        return None
    records, classes, snippet_seconds = clip_scores.read(folder / "clip_scores.h5")
    truth = segments_of(folder / "ground_truth.csv", ("video", "t_start", "t_end", "label"))
    ambiguous = (detections.read_ambiguous(o.ambiguous) if "ambiguous" in command.given else
                 segments_of(folder / "ambiguous.csv"))
    target = _output_folder(command.out, folder, "evaluate")
    scored = Scored(records, classes, snippet_seconds, truth, ambiguous)
    results = finish(o, command, folder, target, scored, out.say, {})
    tables.write_json(target / "opts.json", dataclasses.asdict(o))
    tables.write_json(target / "results.json", results)
    return results


def finish(o, command, run_dir, out, scored, say, seconds):
    """Localizes, evaluates, prints and writes into `out`; returns the results.

    seconds: wall times so far, by section. The results: `methods` -> {label, localization counts, `protocols` -> {tious,
    map, averages, ap by class, counts}}, `classification` of each video-level classifier, `seconds`, and what the
    numbers come from. Where no test video has a segment, there are detections and no scores.
    """
    outside = outside_scores(o, [record.name for record in scored.records], scored.classes)
    kept = [record.name not in o.exclude_video for record in scored.records]
    outside = None if outside is None else outside[kept]
    records = [record for record, keep in zip(scored.records, kept) if keep]
    truth = scored.truth[~scored.truth["video"].isin(o.exclude_video)].reset_index(drop=True)
    out.mkdir(parents=True, exist_ok=True)
    results = {"dataset": o.dataset, "features": o.features, "seed": o.seed, "recipe": opts.recipe_of(o),
               "rule": {**dataclasses.asdict(_rule(o)), "gammas": list(o.gammas_at_test)}, "run": str(run_dir), "classes_from": _classes_from(o),
               "test": {"videos": len(records), "segments": len(truth), "classes": len(set(truth["label"])),
                        "ambiguous": len(scored.ambiguous)},
               "methods": {}, "classification": _classification(records)}
    scored = dataclasses.replace(scored, records=records, truth=truth)
    found = {}
    for name in o.method:
        with _timed(seconds, "localization"):
            found[name], counts = localize.table(localized(o, name, scored, outside))
        results["methods"][name] = {"label": METHODS[name].title + row_label(o), "localization": counts,
                                    "protocols": {}}
        with _timed(seconds, "evaluation"):
            if len(truth):
                results["methods"][name]["protocols"] = _evaluated(o, scored, found[name])
    results["seconds"] = {name: round(value, 3) for name, value in seconds.items()}

    theirs = published.published_rows(o.dataset, [METHODS[name].title for name in o.method])
    page = summary.page(results, theirs, published.NOTE, len(scored.classes), o.gate)
    say(summary.as_text(page, per_class=command.per_class))
    tables.write_text(out / "table.md", summary.as_markdown(page))
    for name, table in found.items():
        _write_detections(table, out / ("detections" if name == o.method[0] else f"detections-{name}"))
    if "em-mil" in found:
        _draw(o, out, scored, found["em-mil"])
    say(f"\nFiles: {out}/")
    return results


def predict(command, out, open_things):
    """--predict RUN: localizes in the videos of --features with a run's networks, one video at a time.

    Writes detections.json and .csv, with --save-clip-scores clip_scores.h5, with --pictures N figures of the first N
    videos, into --out (a folder, or a .json file and what goes beside it), by default predict-TIME in the run's
    folder. Needs no annotations; where they are given, the durations of the videos are theirs, else those of the clips.
    With --keep-going a bad video is reported and left out, and the exit code is 3 in the end.
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
        raise InputError("--predict: found no --features, expected the features of the videos to localize in")
    if o.video_classifier == "oracle" or (o.video_scores and "video_scores" not in command.given):
        raise InputError("--predict: found a run without a video-level classifier, expected --video-scores for the "
                         "new videos")
    device = _device(o)
    methods = _trained_methods(o, state, folder, device)
    source, durations = _videos_to_predict(o, at, about, out.say)
    open_things.callback(source.close)
    outside = video_scores.read_video_scores(o.video_scores, source.names, about["classes"]) if o.video_scores else None

    target = Path(command.out or "")
    named = target.suffix in (".json", ".csv")
    place = _output_folder(target.parent if named else command.out, folder, "predict")
    stem = target.stem if named else "detections"
    job = Prediction(o, about, source, durations, methods, device, outside, command.keep_going)
    records = job.records(drawn=command.given.get("pictures", 0))
    if command.save_clip_scores:
        place.mkdir(parents=True, exist_ok=True)
        clip_scores.write(place / (f"{stem}-clip_scores.h5" if named else "clip_scores.h5"), records,
                          about["classes"], job.step)
    else:
        for _ in records:
            pass
    place.mkdir(parents=True, exist_ok=True)
    for name in reversed(o.method):                     # the first method's table and counts stay for what follows
        table, counts = localize.table(job.found[name])
        path = place / (stem if name == o.method[0] else f"{stem}-{name}")
        _write_detections(table, path)
        out.say(f"{METHODS[name].title}: {counts['videos']} videos, {counts['proposals']} detections: {path}.json and .csv")
        if name == "em-mil":
            _draw(o, place, Scored(job.drawn, about["classes"], job.step), table)
    if job.bad:
        console.end(3, f"{len(job.bad)} bad video{'s' * (len(job.bad) > 1)} left out: {features.some(job.bad)}")
    return {"videos": counts["videos"], "detections": f"{path}.json", "localization": counts}


@dataclasses.dataclass
class Prediction:
    """--predict: the videos one by one, and what has been found so far."""
    o: opts.Opts
    about: dict
    source: object             # formats.features.FeatureSource
    durations: dict            # s, of the videos that have annotations
    methods: dict
    device: torch.device
    outside: np.ndarray | None
    keep_going: bool

    def __post_init__(self):
        self.step = self.source.snippet_seconds or self.about["snippet_seconds"]
        self.found = {name: [] for name in self.o.method}
        self.bad, self.drawn = [], []

    def records(self, drawn):
        """Yields the record of each video, localized into `found`; the first `drawn` records are kept for pictures."""
        names = self.source.names
        bar = console.tqdm(names, "videos", disable=None)
        for k, name in enumerate(bar):
            try:
                record = self._record(name)
            except InputError as error:
                if not self.keep_going:
                    raise
                self.bad.append(name)
                console.printed(f"left out: {error}", sys.stderr)
                continue
            one = Scored([record], self.about["classes"], self.step)
            for method, rows in self.found.items():
                rows += localized(self.o, method, one, None if self.outside is None else self.outside[k:k + 1])
            if len(self.drawn) < drawn:
                self.drawn.append(record)
            if "em-mil" in record.scores:
                scores = record.scores["em-mil"]
                l = localize.fuse(scores["q"], scores["p"], self.o.lam)
                record = dataclasses.replace(record, scores={**record.scores, "em-mil": {**scores, "l": l}})
            yield record

    def _record(self, name):
        dims = list(self.source.shape(name)[1:])
        if dims != self.about["dims"]:
            found, expected = (" and ".join(map(str, filter(None, d))) for d in (dims, self.about["dims"]))
            raise InputError(f"{self.source.path}: {name}: found {found} features a clip, expected {expected} as in "
                             "training")
        rgb, flow = self.source.read(name)
        self.source.release(name)
        length = len(flow if rgb is None else rgb)
        video = dataset.Video(name, rgb, flow, np.zeros(len(self.about["classes"]), np.float32),
                              self.durations.get(name, length * self.step), np.zeros((0, 2)), np.zeros(0, int), self.step)
        record = _record(video, self.methods, self.device)
        clip_scores.check(record)
        return record


def _videos_to_predict(o, at, about, say):
    """(source of the features, {video: duration in s}) of --predict; prints what was assumed."""
    source = features.open_features(at["features"], layout=at["feature_layout"] or "auto", flow_path=at["flow_features"],
                                    annotations=at["annotations"], snippet_seconds=at["snippet_seconds"])
    truth = list(annotations.load(at["annotations"]).videos.values()) if at["annotations"] else []
    source.adopt(truth)
    durations = {video.name: video.duration for video in truth if video.duration is not None}
    notes = list(source.notes)
    if not source.snippet_seconds:
        notes.append(f"{source.path}: found no seconds per clip, taken to be {about['snippet_seconds']:g} as in training")
    unknown = [name for name in source.names if name not in durations] if truth else []
    if unknown:
        notes.append(f"{at['annotations']}: found no duration of {len(unknown)} of {len(source.names)} videos, taken to "
                     "be that of their clips")
    for note in notes:
        say(f"warning: {note}")
    step = source.snippet_seconds or about["snippet_seconds"]
    if abs(step - about["snippet_seconds"]) > 1e-3 * step:
        source.close()
        raise InputError(f"{source.path}: found clips of {step:g} s, expected {about['snippet_seconds']:g} s as in "
                         "training (--snippet-seconds overrides what the file says)")
    return source, durations


def _trained_methods(o, state, folder, device):
    """The methods that `o` asks for, with what a run's checkpoint holds of them."""
    about, made = state["about"], {}
    for name in wanted(o):
        method = METHODS[name](*about["dims"], len(about["classes"]), settings_of(o, name))
        if name not in state["parts"]:
            raise InputError(f"{folder}: found no {method.title} in its checkpoint, expected a run that has trained it")
        done = [stage.split()[0] for stage in state["done"]].count(name)
        if done < (len(o.phases) if name == "em-mil" else 1):
            raise InputError(f"{folder}: found {method.title} not trained to its end, expected it finished "
                             f"(python run.py --resume {folder})")
        run_folder.load_state(method, state["parts"][name], f"{folder / run_folder.CHECKPOINT}: {name}")
        made[name] = (cpu.prepare(method) if cpu else method).to(device)
    return made


# ------------------------------------------------------------------------------------------------ options, device, data
def _options(command):
    """(Opts, folder of the run), from flags, a saved opts.json, or the run to resume."""
    _only_with(command, "predict", "keep_going", "save_clip_scores")
    _only_with(command, "resume", "other_code")
    if command.resume:
        folder = Path(command.resume)
        saved = saved_options(folder / "opts.json")
        old, o = opts.resolve({}, saved), opts.resolve(command.given, saved)
        deciding = {"method", "video_classifier", "video_scores"} if wanted(old) != wanted(o) else set()
        opts.refuse(opts.changed(old, o, "train") + [name for name in opts.changed(old, o, "test") if name in deciding],
                    f"of {folder}, which has begun; resume without it, or start a new run")
        if command.out:
            raise opts.OptionError(f"--out: found with --resume, expected none: the run goes on in {folder}")
        return o, folder
    saved = saved_options(Path(command.config)) if command.config else None
    for name in ("dataset", "recipe") if saved else ():  # they name where the saved values come from, and set nothing
        if command.given.get(name, saved.get(name)) != saved.get(name):
            raise opts.OptionError(f"--{name}: found {command.given[name]!r}, expected {saved.get(name)!r} as in "
                                   f"{command.config}")
    o = opts.resolve(command.given, saved)
    name = f"{o.dataset}-s{o.seed}-{datetime.datetime.now():%Y%m%d-%H%M%S}"
    folder = Path(command.out or Path("runs") / name)
    if (folder / "opts.json").exists():
        raise InputError(f"{folder}: found a run there, expected a new folder (--resume {folder} goes on with that run)")
    return o, folder


def saved_options(path):
    """The options in a run's opts.json."""
    if not path.exists():
        raise InputError(f"{path}: found no such file, expected the options of a run (one that was stopped before it "
                         "wrote them has nothing to resume: start a new run)")
    saved = load_json(path)
    if not isinstance(saved, dict):
        raise InputError(f"{path}: found other JSON, expected a run's options")
    for f in dataclasses.fields(opts.Opts):
        if f.name in saved and not opts.fits(f, saved[f.name]):
            raise InputError(f"{path}: {f.name}: found {show(saved[f.name])}, expected what {opts.flag_of(f)} takes")
    return saved


def _only_with(command, job, *names):
    for name in names:
        if getattr(command, name) and not getattr(command, job):
            raise opts.OptionError(f"--{name.replace('_', '-')}: found without --{job}, expected with it")


def _output_folder(given, run_dir, job):
    """Where a job on a run writes: the folder given, which must not be a run's, or a new one in the run's folder."""
    folder = Path(given) if given else run_dir / datetime.datetime.now().strftime(f"{job}-%Y%m%d-%H%M%S-%f")
    if (folder / "opts.json").exists() and (folder / run_folder.LOG).exists():
        raise InputError(f"{folder}: found a run there, expected another folder to write to")
    return folder


def _device(o):
    if o.device == "cuda" and not torch.cuda.is_available():
        raise opts.OptionError("--device: found cuda, but PyTorch sees no GPU here; expected auto or cpu")
    device = torch.device("cpu" if o.device == "cpu" or not torch.cuda.is_available() else "cuda")
    if o.precision == "tf32" and device.type != "cuda":
        raise opts.OptionError("--precision: found tf32, which needs a GPU; expected fp32 or bf16")
    torch.set_float32_matmul_precision("high" if o.precision == "tf32" else "highest")
    if o.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if o.deterministic != torch.are_deterministic_algorithms_enabled():     # the call imports PyTorch's compiler
        torch.use_deterministic_algorithms(o.deterministic)
    return device


def load_data(o, say):
    """(dataset.Data, table of the test videos' segments, table of ambiguous segments)."""
    rank, ranks = distributed.world()
    preset = opts.PRESETS["demo"]
    if o.dataset == "demo" and (o.features, o.annotations) == (preset["features"], preset["annotations"]):
        if rank == 0:
            say(demo.write_demo(Path(o.features).parent))
        distributed.everywhere(None)                    # all wait for the file
    for name in ("features", "annotations"):
        if not getattr(o, name):
            raise InputError(f"--{name}: found none for --dataset {o.dataset}, expected a path")
    truth = annotations.load(o.annotations, video_labels=o.video_labels)
    train_subset, test_subset = annotations.choose_subsets(truth, o.train_subset, o.test_subset)
    here = int(os.environ.get("LOCAL_WORLD_SIZE", 1))   # processes on this machine
    limit = o.feature_memory * 1e9 if o.feature_memory is not None else free_memory() / 2 / here
    data = dataset.load(o.features, truth, train_subset=train_subset, test_subset=test_subset, layout=o.feature_layout,
                        flow_features=o.flow_features, snippet_seconds=o.snippet_seconds,
                        allow_missing=o.allow_missing, memory_limit=limit, shard=(rank, ranks))
    for note in data.notes:
        say(f"warning: {note}")
    for subset, videos in ((train_subset, data.train), (test_subset, data.test)):
        if not videos:
            raise InputError(f"{o.annotations}: found no video of subset {subset} with features, expected at least one")
    # All of the subset's segments: those of a video without features (--allow-missing) are missed, not forgiven.
    segments = annotations.table(annotations.in_subset(truth, test_subset))
    return data, segments, detections.read_ambiguous(o.ambiguous) if o.ambiguous else truth.ambiguous


def free_memory():
    """Bytes of memory that this process may take."""
    try:
        fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        free = int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):             # not Linux
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 8e9
    try:                                                # a container's limit, if it has one
        limit, used = (int(Path(f"/sys/fs/cgroup/memory.{name}").read_text()) for name in ("max", "current"))
        return max(min(free, limit - used), 0)
    except (OSError, ValueError):
        return free


def outside_scores(o, names, classes):
    """--video-scores as (N, C) for the test videos `names`, or None; --exclude-video is checked against them."""
    unknown = sorted(set(o.exclude_video) - set(names))
    if unknown:
        raise InputError(f"--exclude-video: found {unknown[0]}, expected the name of a test video")
    return video_scores.read_video_scores(o.video_scores, names, classes) if o.video_scores else None


def segments_of(path, columns=("video", "t_start", "t_end")):
    """A table of segments as a run keeps it: numbers exactly as written, names as text (a class may be NA or 007)."""
    try:
        return pd.read_csv(path, keep_default_na=False, float_precision="round_trip",
                           dtype={"video": str, "label": str, "t_start": float, "t_end": float})[list(columns)]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path}: found no readable table ({error}), expected that of a finished run") from None


def _same_run(then, now, folder, other_code):
    """then, now: `about` of the checkpoint, {} where there is none yet, and of this process."""
    if not then:
        return
    old, new = (opts.resolve({}, about["options"]) for about in (then, now))
    opts.refuse(opts.changed(old, new, "train"), f"in {folder}/opts.json: the run began with another value")
    for name, what in (("snippet_seconds", "seconds per clip"), ("dims", "dimensions"), ("classes", "classes"),
                       ("fingerprint", "fingerprint")):
        if then[name] != now[name]:
            raise InputError(f"{folder}: found features or annotations that have changed since the run began ({what}: "
                             f"{show(then[name])} then, {show(now[name])} now), expected the same ones")
    if then["code"] != now["code"] and not other_code:
        raise InputError(f"{folder}: found other code than the run began with ({then['code']} then, {now['code']} now), "
                         "expected the same (--other-code goes on with it, and environment.json then records both)")


def _describe(folder, about, device, truth, ambiguous):
    """Writes opts.json, environment.json (an entry for each process that worked on the run) and the ground truth."""
    tables.write_json(folder / "opts.json", about["options"])
    path = folder / "environment.json"
    before = load_json(path) if path.exists() else []
    tables.write_json(path, [*before, run_folder.environment(device)])
    tables.write_csv(folder / "ground_truth.csv", truth)
    tables.write_csv(folder / "ambiguous.csv", ambiguous)


# ------------------------------------------------------------------------------------------------ methods, detections
def wanted(o):
    """The methods a run trains, classifiers first: those that are shown, and the classifier that gates them."""
    gated = any(not METHODS[name].classifies for name in o.method)
    classifier = {o.video_classifier} if gated and not o.video_scores else set()
    names = [name for name in METHODS if name in classifier | set(o.method)]
    return sorted(names, key=lambda name: not METHODS[name].classifies)


def settings_of(o, name):
    kind = METHODS[name].Settings
    return kind(**{f.name: getattr(o, f.name) for f in dataclasses.fields(kind)})


def _methods(o, about, this):
    """The methods by name, drawn from the run's seed; no network's weights depend on which others there are."""
    made = {}
    for name in wanted(o):
        this.generator(f"weights of {name}", 0)
        method = METHODS[name](*about["dims"], len(about["classes"]), settings_of(o, name))
        made[name] = cpu.prepare(method) if cpu else method
    return made


def _record(video, methods, device):
    """What the methods say about the clips of one test video."""
    rgb, flow = (x if x is None else torch.from_numpy(np.asarray(x)).to(device) for x in (video.rgb, video.flow))
    scores = {name: {key: values.cpu().numpy() for key, values in method.scores(rgb, flow).items()}
              for name, method in methods.items()}
    return clip_scores.Record(video.name, video.duration, video.labels, scores)


def _rule(o):
    return localize.Rule(lam=o.lam, gammas=o.gammas_at_test, gate=o.gate, score=o.proposal_score,
                         video_weight=o.video_weight, nms=o.nms, soft=o.soft_nms)


def localized(o, name, scored, outside):
    """(rows, counts) of each video, for localize.table. outside: (N, C) video-level scores from a file, or None."""
    rule = _rule(o)
    classifier = name if METHODS[name].classifies else o.video_classifier
    for k, record in enumerate(scored.records):
        needed = [name] if outside is not None or o.video_classifier == "oracle" else [name, classifier]
        for other in needed:
            if other not in record.scores:
                raise InputError(f"found no scores of {METHODS[other].title} in this run, expected a run that has "
                                 "trained it")
        if outside is not None:
            of_video = outside[k]
        elif o.video_classifier == "oracle":
            of_video = record.labels
            if not of_video.any():                      # nothing to localize, and the gate would take a class anyway
                yield [], {"videos": 1}
                continue
        else:
            of_video = record.scores[classifier]["video"]
        yield METHODS[name].localize(record, scored.classes, scored.snippet_seconds, of_video, rule)


def _evaluated(o, scored, table):
    """{protocol: its results} of one method's detections."""
    protocols = eval_detection.PROTOCOLS if o.protocol == "all" else (o.protocol,)
    results = {}
    for protocol in protocols:
        e = eval_detection.evaluate(scored.truth, table, o.tious, protocol, scored.ambiguous)
        means = eval_detection.averages(e.tious, e.map)
        if len(e.tious) == 7 and "0.1:0.7" in means:
            del means["all"]                            # the same mean under another name
        results[protocol] = {"tious": e.tious.tolist(), "map": e.map.tolist(), "averages": means, "counts": e.counts,
                             "ap": dict(zip(e.classes, e.ap.T.tolist())),
                             "segments": dict(zip(e.classes, e.n_segments.tolist()))}
    return results


def _classification(records):
    """{title: {map, top1}} of the video-level classifiers that have scored these videos."""
    results = {}
    for name, method in METHODS.items():
        if method.classifies and records and name in records[0].scores:
            of_videos = np.stack([record.scores[name]["video"] for record in records])
            metrics = eval_detection.classification_metrics(of_videos, np.stack([record.labels for record in records]))
            results[method.title] = {"map": metrics.map, "top1": metrics.top1}
    return results


def _classes_from(o):
    """Where the classes of a test video come from, for methods that are no classifiers; None where there is none."""
    if all(METHODS[name].classifies for name in o.method) and not o.video_scores and o.video_classifier != "oracle":
        return None
    return Path(o.video_scores).name if o.video_scores else o.video_classifier


def row_label(o):
    """What a row's label adds where a test video's classes are not the method's own or its classifier's."""
    if o.video_scores:
        return f" (classes from {Path(o.video_scores).name})"
    return " (oracle classes)" if o.video_classifier == "oracle" else ""


def _write_detections(table, stem):
    for suffix in (".json", ".csv"):
        detections.write_detections(table, stem.with_name(stem.name + suffix))


# ------------------------------------------------------------------------------------------------ what is printed
def _option_lines(o):
    values = "; ".join(f"{opts.flag_of(f)[2:]} {opts.show(getattr(o, f.name))}" for f in dataclasses.fields(o))
    return summary.option_lines(values, o.phases, opts.recipe_of(o))


def _data_lines(data, truth):
    clips = [sum(_clips(v) for v in videos) for videos in (data.train, data.test)]
    labels = np.mean([video.labels.sum() for video in data.train])
    annotated = len(set(truth["video"]) & {video.name for video in data.test})
    streams = " and ".join(f"{stream} {dim}-d" for stream, dim in zip(("rgb", "flow"), data.dims) if dim)
    where = "in memory" if data.in_memory else "read from disk as needed"
    return (f"\nData ({data.layout} layout)\n"
            f"  training: {len(data.train)} videos, {clips[0]} clips, {labels:.2f} labels a video\n"
            f"  test: {len(data.test)} videos, {clips[1]} clips; {annotated} videos with segments\n"
            f"  {len(data.classes)} classes, {streams}, clips of {data.snippet_seconds:g} s, "
            f"{data.feature_bytes / 1e6:.0f} MB as float32, {where}\n"
            + ("" if annotated else "  no test video has a segment: detections are written, nothing is scored\n"))


def _clips(video):
    return (video.flow if video.rgb is None else video.rgb).shape[0]


def _draw(o, out, scored, table):
    """Fig. 5 for `--pictures` videos, spread evenly over those with something to show."""
    truth = scored.truth if scored.truth is not None else table[:0]
    shown = [r for r in scored.records if (table["video"] == r.name).any() or (truth["video"] == r.name).any()]
    if shown and o.pictures:
        (out / "figures").mkdir(exist_ok=True)
    for k in np.unique(np.linspace(0, len(shown) - 1, min(o.pictures, len(shown))).round().astype(int)):
        record = shown[k]
        mine, real = (t[t["video"] == record.name] for t in (table, truth))
        label = real["label"].iloc[0] if len(real) else mine.loc[mine["score"].idxmax(), "label"]
        scores = record.scores["em-mil"]
        l = localize.fuse(scores["q"], scores["p"][:, list(scored.classes).index(label)], o.lam)
        segments = [t.loc[t["label"] == label, ["t_start", "t_end"]].to_numpy() for t in (real, mine)]
        stem = "".join(ch if ch.isalnum() or ch in "-_" else "_" for ch in f"{record.name}-{label}")
        timeline = figures.Timeline(
            l, scored.snippet_seconds, record.duration, [localize.threshold(l, g) for g in o.gammas_at_test],
            segments[0] if scored.truth is not None else None, segments[1], label, record.name)
        figures.localization_figure(out / f"figures/{stem}.png", timeline=timeline)


@contextlib.contextmanager
def _timed(seconds, name):
    began = time.perf_counter()
    yield
    seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - began


def _end_stopped(stopped, command):
    console.ignore_signals()
    begun = getattr(command, "run", None)
    kept = f"; go on with: python run.py --resume {begun}" if begun else ""
    console.end(128 + stopped.signum, f"stopped by {console.name_of(stopped.signum)}{kept}", once=True)


if __name__ == "__main__":
    program()
