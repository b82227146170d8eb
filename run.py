"""EM-MIL from features to the mAP table: `python run.py`. Options: opts.py, or `python run.py --help`.

The file that puts the others together. `main` picks the job: `run` trains and is the story, in numbered sections;
`evaluate_again` and `predict` use what a run left behind.
"""
import contextlib
import dataclasses
import datetime
import functools
import json
import os
import platform
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

# Read when PyTorch first allocates, which `linear` makes it do on import: tensors of 2 MB and more begin at a page, and
# Linux is asked for huge pages. Measured (tools/bench.py memory): the peak is a tenth lower.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

import h5py
import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from formats import annotations
import dataset
from formats import features
from formats import demo as demo_data
import em_trainer
import eval_detection
from formats import detections
import localize
import opts
from report import figures
from report import tables
from paper import published
from formats import clip_scores as score_file
from engine import loop as training
from baselines import classifiers as video_classifier
import formats.video_scores
from model import EMMIL
from formats.files import InputError, load_json, show

METHODS = {"em-mil": "EM-MIL", "untrimmednet": "UntrimmedNet", "wtalc": "W-TALC"}
CLASSIFIERS = {"untrimmednet": video_classifier.UntrimmedNet, "wtalc": video_classifier.WTALC}


def main(argv=None):
    """Runs the command line `argv` (default: the program's); returns the results (see `finish`), or None.

    Bad input ends the program with one line on stderr and code 2, Ctrl-C and SIGTERM with one line and 130 or 143.
    """
    command = opts.parse(argv)
    with _signals() as session_slot:
        try:
            try:
                training.join_processes()
                job = predict if command.predict else evaluate_again if command.evaluate else run
                if job is not run and training.world()[1] > 1:
                    raise InputError(f"found {training.world()[1]} processes, expected one: only training takes several")
                return job(command, session_slot)
            except training.Interrupted as stopped:
                _end_stopped(stopped)
        except training.Interrupted as stopped:         # a second signal, on the heels of the first
            _end_stopped(stopped)
        except (training.Reported, opts.OptionError) as error:
            _end(2, f"error: {error}", once=True)
        except InputError as error:
            _end(2, f"error: {error}")
        except OSError as error:                        # disk full, no permission; files are replaced whole or not at all
            _end(2, f"error: {error.filename2 or error.filename or 'while writing'}: {error.strerror or error}")
        finally:
            for session in session_slot:
                session.close()
            training.leave_processes()


def run(command, session_slot):
    """Trains, localizes, evaluates; resumes where --resume names a run."""
    # 1. Options and device
    with training.all_or_none():
        o, folder = _options(command)
    rank, ranks = training.world()
    say = print if rank == 0 else lambda *_: None
    say(_option_lines(o))
    if command.dry_run:
        return None
    if command.resume and (folder / "results.json").exists():
        say(f"{folder}: this run is finished; to score it again: python run.py --evaluate {folder}")
        return load_json(folder / "results.json")
    device = _device(o)
    seconds = {}

    # 2. Data. Training videos carry their video-level labels and no segments.
    with _timed(seconds, "loading"), training.all_or_none():
        data, truth, ambiguous = _data(o, say)
        _test_time_input(o, [video.name for video in data.test], data.classes)     # before training, lest it be in vain
    say(_data_lines(data))

    # 3. The run's folder: what is needed to go on, or to score again, without asking anybody
    about = {"options": dataclasses.asdict(o), "classes": list(data.classes), "snippet_seconds": data.snippet_seconds,
             "dims": [data.train[0].rgb.shape[1], data.train[0].flow.shape[1]],
             "fingerprint": features.fingerprint(o.features, o.flow_features, o.annotations)}
    with training.all_or_none():
        session = training.Session(folder, seed=o.seed, every=o.checkpoint_every, resume=bool(command.resume))
        session_slot.append(session)
        if command.resume:
            _same_data(session.about, about, folder)
    session.about = about
    if rank == 0:
        tables.write_json(folder / "opts.json", about["options"])
        if not (folder / "environment.json").exists():  # that of the process which began the run
            tables.write_json(folder / "environment.json", _environment(device))
        tables.write_csv(folder / "ground_truth.csv", truth)
        tables.write_csv(folder / "ambiguous.csv", ambiguous)

    # 4. Training: the video-level classifiers, then EM-MIL's phases
    mine = data.train[rank::ranks]
    with _timed(seconds, "moving features"):
        feed = training.feeder(mine, device)
    common = {"session": session, "feed": feed, "names": [video.name for video in mine],
              "labels": torch.from_numpy(np.stack([video.labels for video in data.train])).to(device)}
    networks = {name: session.add(name, network.to(device)) for name, network in _networks(o, about, session).items()}
    for name, network in networks.items():
        with _timed(seconds, f"training {METHODS[name]}"):
            if name == "em-mil":
                phases = [em_trainer.Phase(*row) for row in opts.schedule(o)]
                with _bar(METHODS[name], sum(phase.epochs for phase in phases)) as bar:
                    em_trainer.fit(network, phases=phases, gamma=o.gamma, keep_peak=o.keep_peak, objective=o.objective,
                                   refresh=o.joint, per_step=o.videos_per_step, autocast=_autocast(o, device), bar=bar,
                                   **common)
            else:
                length = {"untrimmednet": o.untrimmednet_epochs, "wtalc": o.wtalc_iterations}[name]
                with _bar(METHODS[name], video_classifier.epochs_of(network, length)) as bar:
                    video_classifier.fit(network, lr=o.lr, length=length, max_clips=o.wtalc_max_clips, bar=bar, **common)
    say(_training_lines(folder, seconds))

    # 5. Scores of the test videos' clips
    with _timed(seconds, "scoring"):
        records = training.gathered([_scores(video, networks, o, device) for video in data.test[rank::ranks]])
    if rank != 0:
        return None
    score_file.write(folder / "clip_scores.h5", records, data.classes, data.snippet_seconds)

    # 6. Localization, evaluation, tables, files
    results = finish(o, folder, folder, records, data.classes, data.snippet_seconds, truth, ambiguous, seconds)
    figures.training_figure(folder / "training.png", records=_log(folder))
    figures.convergence_figure(folder / "pseudo_labels.png", phases=figures.phase_table(_log(folder)))
    tables.write_json(folder / "results.json", results)  # last: its presence says that the run is finished
    return results


def evaluate_again(command, _):
    """--evaluate RUN: localizes and scores from a finished run's stored clip scores, with other test-time options."""
    folder = Path(command.evaluate)
    o = _at_test(command, _saved_options(folder / "opts.json"), no_effect=set(_fields("run")) - {"pictures"})
    _only_predict(command)
    print(_option_lines(o))
    if command.dry_run:
        return None
    records, classes, snippet_seconds = score_file.read(folder / "clip_scores.h5")
    truth = _segments(folder / "ground_truth.csv", ("video", "t_start", "t_end", "label"))
    ambiguous = (detections.read_ambiguous(o.ambiguous) if "ambiguous" in command.given else
                 _segments(folder / "ambiguous.csv"))
    out = _output_folder(command.out, folder, "evaluate")
    results = finish(o, folder, out, records, classes, snippet_seconds, truth, ambiguous, {})
    tables.write_json(out / "opts.json", dataclasses.asdict(o))
    tables.write_json(out / "results.json", results)
    return results


def finish(o, run_folder, out, records, classes, snippet_seconds, truth, ambiguous, seconds):
    """Localizes, evaluates, prints and writes into `out`; returns the results.

    records: see score_file. truth, ambiguous: tables of segments. seconds: wall times so far, by section.
    The results: `methods` -> {label, localization counts, `protocols` -> {tious, map, averages, ap by class, counts}},
    `classification` of each video-level classifier, `seconds`, and what the numbers come from.
    """
    given = _test_time_input(o, [record["name"] for record in records], classes)
    if given is not None:
        given = given[[record["name"] not in o.exclude_video for record in records]]
    records = [record for record in records if record["name"] not in o.exclude_video]
    truth = truth[~truth["video"].isin(o.exclude_video)].reset_index(drop=True)
    if not len(truth):
        raise InputError(f"{o.annotations}: found no segment in the test videos, expected at least one to score against")
    out.mkdir(parents=True, exist_ok=True)
    protocols = eval_detection.PROTOCOLS if o.protocol == "all" else (o.protocol,)
    results = {"dataset": o.dataset, "features": o.features, "seed": o.seed, "recipe": o.recipe, "run": str(run_folder),
               "test": {"videos": len(records), "segments": len(truth), "classes": len(set(truth["label"])),
                        "ambiguous": len(ambiguous)},
               "methods": {}, "classification": {}}
    rows, localized = {protocol: {} for protocol in protocols}, {}
    for method in o.method:
        label = METHODS[method] + _classes_from(o, method)
        with _timed(seconds, "localization"):
            table, counts = localize.table(_localized(o, method, records, classes, snippet_seconds, given))
        localized[method], results["methods"][method] = table, {"label": label, "localization": counts, "protocols": {}}
        for protocol in protocols:
            with _timed(seconds, "evaluation"):
                e = eval_detection.evaluate(truth, table, o.tious, protocol, ambiguous)
            means = eval_detection.averages(e.tious, e.map)
            if len(e.tious) == 7 and "0.1:0.7" in means:
                del means["all"]                        # the same mean under another name
            rows[protocol][label] = {**dict(zip(e.tious.tolist(), e.map.tolist())), **means}
            results["methods"][method]["protocols"][protocol] = {
                "tious": e.tious.tolist(), "map": e.map.tolist(), "averages": means, "counts": e.counts,
                "ap": dict(zip(e.classes, e.ap.T.tolist())), "segments": dict(zip(e.classes, e.n_segments.tolist()))}
    for name in CLASSIFIERS:
        if records and name in records[0]:
            metrics = video_classifier.classification_metrics(np.stack([r[name]["video"] for r in records]),
                                                              np.stack([r["labels"] for r in records]))
            results["classification"][METHODS[name]] = {"map": metrics.map, "top1": metrics.top1}
    results["seconds"] = {name: round(value, 3) for name, value in seconds.items()}

    page = _page(o, results, rows)
    print("\n\n".join(text if table is None else f"{text}\n\n{tables.text(table)}" for text, table in page))
    tables.write_text(out / "table.md", "\n\n".join(text if table is None else f"{text}\n\n{tables.markdown(table)}"
                                                    for text, table in page) + "\n")
    for method, table in localized.items():
        for suffix in (".json", ".csv"):
            stem = "detections" if method == o.method[0] else f"detections-{method}"
            detections.write_detections(table, out / (stem + suffix))
    if "em-mil" in localized:
        _draw(o, out, records, classes, snippet_seconds, truth, localized["em-mil"])
    print(f"\nFiles: {out}/")
    return results


def predict(command, _):
    """--predict RUN: localizes in the videos of --features with a run's networks, one video at a time.

    Writes detections.json and .csv, with --save-clip-scores clip_scores.h5, with --pictures N figures of the first N
    videos, into --out (a folder, or a .json file and what goes beside it), by default predict-TIME in the run's
    folder. Needs no annotations; given, they tell the videos' durations, which otherwise are those of their clips.
    With --keep-going a bad video is reported and left out, and the exit code is 3 in the end.
    """
    folder = Path(command.predict)
    state = training.load_checkpoint(folder)
    wanting = {"options", "classes", "dims", "snippet_seconds"} - set(state["about"])
    if wanting:
        raise InputError(f"{folder}: found a checkpoint without {', '.join(sorted(wanting))}, expected that of a run")
    about, paths = state["about"], ("features", "flow_features", "feature_layout", "snippet_seconds", "annotations")
    o = _at_test(command, about["options"], apart=paths, no_effect={"tious", "protocol", "ambiguous", "exclude_video",
                                                                    "feature_memory", "checkpoint_every"})
    at, classes = {name: command.given.get(name) for name in paths}, about["classes"]
    if command.dry_run:
        return print(_option_lines(o))
    if not at["features"]:
        raise InputError("--predict: found no --features, expected the features of the videos to localize in")
    if o.video_classifier == "oracle" or (o.video_scores and "video_scores" not in command.given):
        raise InputError("--predict: found a run without a video-level classifier, expected --video-scores for the "
                         "new videos")
    device = _device(o)
    networks = _trained_networks(o, state, folder, device)

    source = features.open_features(at["features"], layout=at["feature_layout"] or "auto", flow_path=at["flow_features"],
                                   annotations=at["annotations"], snippet_seconds=at["snippet_seconds"])
    with contextlib.closing(source):
        truth = list(annotations.load(at["annotations"]).videos.values()) if at["annotations"] else []
        source.adopt(truth)
        durations = {video.name: video.duration for video in truth if video.duration is not None}
        notes = list(source.notes)
        if not source.snippet_seconds:
            notes.append(f"{source.path}: found no seconds per clip, taken to be {about['snippet_seconds']:g} as in "
                         "training")
        unknown = [name for name in source.names if name not in durations] if truth else []
        if unknown:
            notes.append(f"{at['annotations']}: found no duration of {len(unknown)} of {len(source.names)} videos, "
                         "taken to be that of their clips")
        for note in notes:
            print(f"warning: {note}")
        step = source.snippet_seconds or about["snippet_seconds"]
        if abs(step - about["snippet_seconds"]) > 1e-3 * step:
            raise InputError(f"{source.path}: found clips of {step:g} s, expected {about['snippet_seconds']:g} s as in "
                             "training (--snippet-seconds overrides what the file says)")
        given = formats.video_scores.read_video_scores(o.video_scores, source.names, classes) if o.video_scores else None
        bad, drawn, found = [], [], {method: [] for method in o.method}

        def scored():
            for k, name in enumerate(Bar(source.names, "videos", disable=None)):
                try:
                    dims = list(source.shape(name)[1:])
                    if dims != about["dims"]:
                        raise InputError(f"{source.path}: {name}: found {dims[0]} and {dims[1]} features a clip, expected "
                                         f"{about['dims'][0]} and {about['dims'][1]} as in training")
                    rgb, flow = source.read(name)
                    source.release(name)
                    record = _scores(dataset.Video(name, rgb, flow, np.zeros(len(classes), np.float32),
                                                   durations.get(name, len(rgb) * step), np.zeros((0, 2)),
                                                   np.zeros(0, int), step), networks, o, device)
                    score_file.check(record)
                except InputError as error:
                    if not command.keep_going:
                        raise
                    bad.append(name)
                    print(f"left out: {error}", file=sys.stderr)
                    continue
                for method, rows in found.items():
                    rows += _localized(o, method, [record], classes, step, None if given is None else given[k:k + 1])
                if len(drawn) < command.given.get("pictures", 0):
                    drawn.append(record)
                if "em-mil" in record:
                    scores = record["em-mil"]
                    record = {**record, "em-mil": {**scores, "l": localize.fuse(scores["q"], scores["p"], o.lam)}}
                yield record

        target = Path(command.out or "")
        named = target.suffix in (".json", ".csv")
        out = _output_folder(target.parent if named else command.out, folder, "predict")
        stem = target.stem if named else "detections"
        if command.save_clip_scores:
            out.mkdir(parents=True, exist_ok=True)
            score_file.write(out / (f"{stem}-clip_scores.h5" if named else "clip_scores.h5"), scored(), classes, step)
        else:
            for _ in scored():
                pass
    out.mkdir(parents=True, exist_ok=True)
    for method in reversed(o.method):                   # the first method's table and counts stay for what follows
        table, counts = localize.table(found[method])
        path = out / f"{stem if method == o.method[0] else f'{stem}-{method}'}.json"
        for suffix in (".json", ".csv"):
            detections.write_detections(table, path.with_name(path.stem + suffix))
        print(f"{METHODS[method]}: {counts['videos']} videos, {counts['proposals']} detections: {path} and .csv")
        if method == "em-mil":
            _draw(o, out, drawn, classes, step, None, table)
    if bad:
        _end(3, f"{len(bad)} bad videos left out: {', '.join(bad[:5])}{' ...' if len(bad) > 5 else ''}")
    return {"videos": counts["videos"], "detections": str(path), "localization": counts}


def _trained_networks(o, state, folder, device):
    """The networks that `o` asks for with what a run's checkpoint holds of them."""
    networks = _networks(o, state["about"], training.Session(seed=o.seed))
    done = [stage.split()[0] for stage in state["done"]]
    for name, network in networks.items():
        if name not in state["parts"]:
            raise InputError(f"{folder}: found no {METHODS[name]} in its checkpoint, expected a run that has trained it")
        if done.count(name) < (len(opts.schedule(o)) if name == "em-mil" else 1):
            raise InputError(f"{folder}: found {METHODS[name]} not trained to its end, expected it finished "
                             f"(python run.py --resume {folder})")
        training.load_state(network, state["parts"][name], f"{folder / training.CHECKPOINT}: {name}")
        network.to(device)
    return networks


# ------------------------------------------------------------------------------------------------ options, device, data
def _options(command):
    """(Opts, folder of the run), from flags, a saved opts.json, or the run to resume."""
    _only_predict(command)
    if command.resume:
        folder = Path(command.resume)
        saved = _saved_options(folder / "opts.json")
        old, o = opts.resolve({}, saved), opts.resolve(command.given, saved)
        deciding = {"method", "video_classifier", "video_scores"} if _trained(old) != _trained(o) else set()
        _refuse(opts.changed(old, o, "train") + [name for name in opts.changed(old, o, "test") if name in deciding],
                f"of {folder}, which has begun; resume without it, or begin anew")
        if command.out:
            raise opts.OptionError(f"--out: found with --resume, expected none: the run goes on in {folder}")
        return o, folder
    saved = _saved_options(Path(command.config)) if command.config else None
    for name in ("dataset", "recipe") if saved else ():  # names of what the saved values are, not values of their own
        if command.given.get(name, saved.get(name)) != saved.get(name):
            raise opts.OptionError(f"--{name}: found {command.given[name]!r}, expected {saved.get(name)!r} as in "
                                   f"{command.config}")
    o = opts.resolve(command.given, saved)
    name = f"{o.dataset}-s{o.seed}-{datetime.datetime.now():%Y%m%d-%H%M%S}"
    folder = Path(command.out or Path("runs") / name)
    if (folder / "opts.json").exists():
        raise InputError(f"{folder}: found a run there, expected a new folder (--resume {folder} goes on with that run)")
    return o, folder


def _saved_options(path):
    """The options in a run's opts.json."""
    if not path.exists():
        raise InputError(f"{path}: found no such file, expected that of a run (one that was stopped before it wrote its "
                         "options has nothing to resume: begin it anew)")
    saved = load_json(path)
    if not isinstance(saved, dict):
        raise InputError(f"{path}: found other JSON, expected a run's options")
    for f in dataclasses.fields(opts.Opts):
        if f.name in saved and not _fits(saved[f.name], f.type):
            raise InputError(f"{path}: {f.name}: found {show(saved[f.name])}, expected what {opts.flag_of(f)} takes")
    return saved


def _fits(value, kind):
    """Whether a value from JSON is of an option's type; a whole number may stand for a float."""
    if kind is tuple:
        return isinstance(value, list) and all(_fits(item, str | float) for item in value)
    if isinstance(value, bool):
        return kind is bool
    if isinstance(value, int):
        return abs(value) < 2**63 and (isinstance(0, kind) or isinstance(0.5, kind))
    return isinstance(value, kind)


def _at_test(command, saved, no_effect, apart=()):
    """Opts for using a trained run: only what touches test time may differ from `saved`, and --gamma means the test's.

    no_effect: fields that would be silently without one. apart: fields that here are no options of the run.
    """
    given = {name: value for name, value in command.given.items() if name not in apart}
    if "gamma" in given and "test_gamma" in given:
        raise opts.OptionError("--gamma: found with --test-gamma, expected one: both are the gamma of the test here")
    if "gamma" in given:
        given["test_gamma"] = given.pop("gamma")
    if "test_gamma" in given:
        given.setdefault("thresholds", ())              # the run's own would win over it
    old, o = opts.resolve({}, saved), opts.resolve(given, saved)
    _refuse(opts.changed(old, o, "train"), "of a trained run; train anew to change it")
    _refuse([name for name in given if name in no_effect], "here, where it has no effect")
    return o


def _fields(when):
    return [f.name for f in dataclasses.fields(opts.Opts) if f.metadata["when"] == when]


def _refuse(names, why):
    if names:
        flags = [opts.flag_of(f) for f in dataclasses.fields(opts.Opts) if f.name in names]
        raise opts.OptionError(f"{', '.join(flags)}: cannot be changed {why}")


def _only_predict(command):
    for name in ("keep_going", "save_clip_scores"):
        if getattr(command, name):
            raise opts.OptionError(f"--{name.replace('_', '-')}: found without --predict, expected with it")


def _output_folder(given, run_folder, job):
    """Where a job on a run writes: the folder given, which must not be a run's, or a new one in the run's folder."""
    folder = Path(given) if given else run_folder / datetime.datetime.now().strftime(f"{job}-%Y%m%d-%H%M%S-%f")
    if (folder / "opts.json").exists() and (folder / training.LOG).exists():
        raise InputError(f"{folder}: found a run there, expected another folder to write to")
    return folder


def _trained(o):
    """The networks a run trains, in order: classifiers that are shown or that gate, then EM-MIL."""
    wanted = set(o.method) | ({o.video_classifier} if "em-mil" in o.method and not o.video_scores else set())
    return [name for name in (*CLASSIFIERS, "em-mil") if name in wanted]


def _networks(o, about, session):
    """The networks by name, each drawn from the run's seed; no network's draw depends on which others there are."""
    (rgb_dim, flow_dim), n_classes, networks = about["dims"], len(about["classes"]), {}
    for name in _trained(o):
        session.generator(f"weights of {name}", 0)
        networks[name] = EMMIL(rgb_dim, flow_dim, n_classes, o.rgb_weight) if name == "em-mil" else CLASSIFIERS[name](
            rgb_dim, flow_dim, n_classes)
    return networks


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


def _autocast(o, device):
    return functools.partial(torch.autocast, device.type, torch.bfloat16) if o.precision == "bf16" else contextlib.nullcontext


def _data(o, say):
    """(dataset.Data, table of the test videos' segments, table of ambiguous segments)."""
    rank, ranks = training.world()
    preset = opts.PRESETS["demo"]
    if o.dataset == "demo" and (o.features, o.annotations) == (preset["features"], preset["annotations"]):
        if rank == 0:
            say(demo_data.write_demo(Path(o.features).parent))
        training.wait_for_all()
    for name in ("features", "annotations"):
        if not getattr(o, name):
            raise InputError(f"--{name}: found none for --dataset {o.dataset}, expected a path")
    truth = annotations.load(o.annotations, video_labels=o.video_labels)
    train_subset, test_subset = annotations.choose_subsets(truth, o.train_subset, o.test_subset)
    here = int(os.environ.get("LOCAL_WORLD_SIZE", 1))   # processes on this machine
    limit = o.feature_memory * 1e9 if o.feature_memory is not None else _free_memory() / 2 / here
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


def _test_time_input(o, names, classes):
    """--video-scores as (N, C) for the test videos `names`, or None; --exclude-video is checked against them."""
    unknown = sorted(set(o.exclude_video) - set(names))
    if unknown:
        raise InputError(f"--exclude-video: found {unknown[0]}, expected the name of a test video")
    return formats.video_scores.read_video_scores(o.video_scores, names, classes) if o.video_scores else None


def _segments(path, columns=("video", "t_start", "t_end")):
    """A table of segments as a run keeps it: numbers exactly as written, names as text (a class may be NA or 007)."""
    try:
        return pd.read_csv(path, keep_default_na=False, float_precision="round_trip",
                           dtype={"video": str, "label": str, "t_start": float, "t_end": float})[list(columns)]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path}: found no readable table ({error}), expected that of a finished run") from None


def _free_memory():
    """Bytes of memory that this process may take."""
    try:
        fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        free = int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):             # not Linux
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:                                                # a container's limit, if it has one
        limit, used = (int(Path(f"/sys/fs/cgroup/memory.{name}").read_text()) for name in ("max", "current"))
        return max(min(free, limit - used), 0)
    except (OSError, ValueError):
        return free


def _same_data(then, now, folder):
    """then, now: `about` of the checkpoint, {} where there is none yet, and of this process."""
    if not then:
        return
    old, new = (opts.resolve({}, about["options"]) for about in (then, now))
    _refuse(opts.changed(old, new, "train"), f"in {folder}/opts.json: the run began with another value")
    for name, what in (("snippet_seconds", "seconds per clip"), ("dims", "dimensions"), ("classes", "classes"),
                       ("fingerprint", "fingerprint")):
        if then[name] != now[name]:
            raise InputError(f"{folder}: found features or annotations that have changed since the run began ({what}: "
                             f"{show(then[name])} then, {show(now[name])} now), expected the same ones")


# ------------------------------------------------------------------------------------------------ scores and detections
def _scores(video, networks, o, device):
    """What the networks say of one test video: a record of score_file."""
    rgb, flow = (torch.from_numpy(np.asarray(x)).to(device) for x in (video.rgb, video.flow))
    record = {"name": video.name, "duration": video.duration, "labels": video.labels}
    for name, network in networks.items():
        if name == "em-mil":
            q, p = em_trainer.clip_scores(network, rgb, flow, o.objective)
            record[name] = {"q": q, "p": p}
        else:
            record[name] = {k: v for k, v in video_classifier.scores(network, rgb, flow)._asdict().items() if v is not None}
        record[name] = {score: values.cpu().numpy() for score, values in record[name].items()}
    return record


def _localized(o, method, records, classes, snippet_seconds, given):
    """(rows, counts) of each video, for localize.table. given: (N, C) video-level scores from outside, or None."""
    for k, record in enumerate(records):
        classifier = o.video_classifier if method == "em-mil" else method
        missing = [n for n in {method} | ({classifier} if given is None and o.video_classifier != "oracle" else set())
                   if n not in record]
        if missing:
            raise InputError(f"found no scores of {METHODS[missing[0]]} in this run, expected a run that has trained it")
        if given is not None:
            video_scores = given[k]
        elif o.video_classifier == "oracle":
            video_scores = record["labels"]
            if not video_scores.any():                  # nothing to localize, and the gate would take a class anyway
                yield [], {"videos": 1}
                continue
        else:
            video_scores = record[classifier]["video"]
        scores = record[method]
        common = dict(snippet_seconds=snippet_seconds, duration=record["duration"], gate_threshold=o.gate)
        by_threshold = dict(gammas=o.gammas_at_test, score=o.proposal_score, video_weight=o.video_weight, nms_tiou=o.nms,
                            soft=o.soft_nms)
        if method == "em-mil":
            yield localize.em_mil(record["name"], scores["q"], scores["p"], video_scores, classes, lam=o.lam, **common,
                                  **by_threshold)
        elif method == "untrimmednet":
            yield localize.untrimmednet(record["name"], scores["attention"], scores["clips"], video_scores, classes,
                                        **common, **by_threshold)
        else:
            yield localize.wtalc(record["name"], scores["clips"], video_scores, classes, **common)


def _classes_from(o, method):
    """What a row's label adds where a test video's classes are not from the method's own classifier."""
    if o.video_scores:
        return f" (classes from {Path(o.video_scores).name})"
    return " (oracle classes)" if o.video_classifier == "oracle" else ""


# ------------------------------------------------------------------------------------------------ what is printed
def _option_lines(o):
    values = "; ".join(f"{opts.flag_of(f)[2:]} {opts.show(getattr(o, f.name))}" for f in dataclasses.fields(o))
    rows = opts.schedule(o)
    phases = " ".join(f"{step}{epochs}" for step, epochs, _, _ in rows[:8]) + (" ..." if len(rows) > 8 else "")
    rates = " then ".join(f"{lr:g}" for lr in dict.fromkeys(row[2] for row in rows))
    wrap = functools.partial(textwrap.fill, width=100, initial_indent="  ", subsequent_indent="  ",
                             break_long_words=False, break_on_hyphens=False)
    return (f"Options\n{wrap(values)}\n"
            f"Schedule\n  {phases} ({sum(row[1] for row in rows)} epochs), learning rate {rates}")


def _data_lines(data):
    clips = [sum(_clips(v) for v in videos) for videos in (data.train, data.test)]
    labels = np.mean([video.labels.sum() for video in data.train])
    where = "in memory" if data.in_memory else "read from disk as needed"
    return (f"\nData ({data.layout} layout)\n"
            f"  training: {len(data.train)} videos, {clips[0]} clips, {labels:.2f} labels a video\n"
            f"  test: {len(data.test)} videos, {clips[1]} clips\n"
            f"  {len(data.classes)} classes, rgb {data.train[0].rgb.shape[1]}-d and flow {data.train[0].flow.shape[1]}-d, "
            f"clips of {data.snippet_seconds:g} s, {data.feature_bytes / 1e6:.0f} MB as float32, {where}\n")


def _clips(video):
    return video.rgb.shape[0]


def _training_lines(folder, seconds):
    last = {record["stage"].split()[0] + record.get("step", ""): record for record in _log(folder)}
    lines = ["Training"]
    for record in last.values():
        losses = ", ".join(f"{name} {value:.4f}" for name, value in record["loss"].items())
        lines.append(f"  {record['stage']}: loss {losses} in the last epoch")
    spent = [f"{name.removeprefix('training ')} {value:.1f} s" for name, value in seconds.items() if "training" in name]
    return "\n".join([*lines, f"  wall time: {', '.join(spent)}\n"])


def _page(o, results, rows):
    """The result page: (text, table or None), printed and written alike."""
    test, page = results["test"], []
    for classifier, m in results["classification"].items():
        page.append((f"Video-level classification, {classifier}: mAP {100 * m['map']:.1f}%, top-1 {100 * m['top1']:.1f}%",
                     None))
    papers = published.published_rows(o.dataset, [METHODS[method] for method in o.method])
    for protocol, methods in rows.items():
        ours = results["methods"].get("em-mil", {}).get("label")
        theirs = next((name for name in papers if name.startswith("EM-MIL")), None)
        compared = (ours, theirs) if ours == METHODS["em-mil"] and theirs else None     # not with oracle classes
        page.append((f"{o.dataset}, seed {o.seed}, recipe {o.recipe}: {test['videos']} test videos, "
                     f"{test['segments']} segments, {test['classes']} classes; protocol {protocol}"
                     + (f", {test['ambiguous']} Ambiguous segments" if protocol.startswith("thumos") else "") + "; "
                     f"EM-MIL's classes from {o.video_scores or o.video_classifier}",
                     tables.map_table(methods, published=papers, compare=compared)))
    if papers:
        page.append((published.PUBLISHED_NOTE, None))
    for name, method in results["methods"].items():
        protocol, e = next(iter(method["protocols"].items()))
        tiou = min(e["tious"], key=lambda x: abs(x - 0.5))
        ap = np.array(list(e["ap"].values()))[:, [e["tious"].index(tiou)]].T
        page.append((f"{method['label']}, by class, protocol {protocol}",
                     tables.class_table(list(e["ap"]), ap, [tiou], list(e["segments"].values()))))
        c = method["localization"]
        page.append((f"{c['proposals']} proposals; {c['pairs_empty']} of {c['pairs']} pairs of video and class without one "
                     f"({c['pairs_constant']} with a constant score); {c['gate_fallback']} videos with no class above the gate",
                     None))
    return page


def _draw(o, out, records, classes, snippet_seconds, truth, table):
    """Fig. 5 for `--pictures` videos, spread evenly over those with something to show."""
    shown = [r for r in records if (table["video"] == r["name"]).any() or truth is not None and (truth["video"] == r["name"]).any()]
    if shown and o.pictures:
        (out / "figures").mkdir(exist_ok=True)
    for k in np.unique(np.linspace(0, len(shown) - 1, min(o.pictures, len(shown))).round().astype(int)):
        record = shown[k]
        own = [t[t["video"] == record["name"]] if t is not None else table[:0] for t in (truth, table)]
        label = (own[0] if len(own[0]) else own[1])["label"].iloc[0]
        l = localize.fuse(record["em-mil"]["q"], record["em-mil"]["p"][:, list(classes).index(label)], o.lam)
        segments = [t.loc[t["label"] == label, ["t_start", "t_end"]].to_numpy() for t in own]
        stem = "".join(ch if ch.isalnum() or ch in "-_" else "_" for ch in f"{record['name']}-{label}")
        figures.localization_figure(out / f"figures/{stem}.png", scores=l, snippet_seconds=snippet_seconds,
                                   duration=record["duration"], threshold=[localize.threshold(l, g) for g in o.gammas_at_test],
                                   ground_truth=segments[0], predictions=segments[1], label=label, video=record["name"])


# ------------------------------------------------------------------------------------------------ around a run
def _log(folder):
    return [json.loads(line) for line in (folder / training.LOG).read_text().splitlines()]


def _environment(device):
    """Where and with what a run was made."""
    here = Path(__file__).resolve().parent

    def git(*words):
        try:
            return subprocess.run(["git", *words], cwd=here, capture_output=True, text=True).stdout.strip()
        except OSError:                                 # no git on this machine
            return ""

    ours = git("rev-parse", "--show-toplevel") == str(here)                  # not a copy inside somebody's repository
    versions = {module.__name__: module.__version__ for module in (torch, np, pd, h5py)}
    return {"commit": git("rev-parse", "HEAD") if ours else None,
            "dirty": bool(git("status", "--porcelain", "--untracked-files=no")) if ours else None,
            "python": platform.python_version(), "machine": platform.platform(), "versions": versions,
            "device": torch.cuda.get_device_name() if device.type == "cuda" else platform.processor() or platform.machine(),
            "threads": torch.get_num_threads(), "processes": training.world()[1]}


@contextlib.contextmanager
def _timed(seconds, name):
    began = time.perf_counter()
    yield
    seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - began


class Bar(tqdm):
    """tqdm, whose destructor calls `close` and fails there on a bar that a signal cut short in its making."""

    def close(self):
        if hasattr(self, "start_t"):                    # the last thing that tqdm sets
            super().close()


def _bar(name, epochs):
    return Bar(total=epochs, desc=name, unit="epoch", disable=None if training.world()[0] == 0 else True)


@contextlib.contextmanager
def _signals():
    """Ctrl-C and SIGTERM reach the session (appended to the list this yields), which stops where it can go on later."""
    slot = []

    def handler(signum, _):
        if not slot:
            raise training.Interrupted(signum)
        slot[0].interrupt(signum)

    before = {s: signal.signal(s, handler) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield slot
    finally:
        for s, old in before.items():
            if signal.getsignal(s) is handler:
                signal.signal(s, old)


def _ignore_signals():
    """Until the process ends, which was told to: a second signal has nothing left to stop."""
    for s in (signal.SIGINT, signal.SIGTERM):
        signal.signal(s, signal.SIG_IGN)


def _end_stopped(stopped):
    _ignore_signals()
    begun = stopped.folder and (stopped.folder / "opts.json").exists()
    kept = f"; go on with: python run.py --resume {stopped.folder}" if begun else ""
    _end(128 + stopped.signum, f"stopped by {signal.Signals(stopped.signum).name}{kept}", once=True)


def _end(code, line, once=False):
    """Ends the program with a line on stderr. once: all processes come here, and the first one says it for all."""
    try:
        sys.stdout.flush()
    except OSError:                                     # its disk is full, or nobody reads it: Python would say so again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if not once or training.world()[0] == 0:
        print(line, file=sys.stderr)
    raise SystemExit(code)


if __name__ == "__main__":
    main()
