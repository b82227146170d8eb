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
from pathlib import Path

try:
    # before PyTorch, which reads its settings when it starts
    from engine import cpu
except ImportError:  # works without that file
    cpu = None

import numpy as np

import eval_detection
import localize
import opts
from engine import console, distributed, run_folder
from engine.loop import TrainingSet
from formats import clip_scores, detections, exports, features
from formats.files import InputError, load_json
from formats.names import match_names
from jobs import predict, run_record, scoring, setup
from methods import METHODS, apply
from report import figures, summary, tables, tensorboard

opts.CHOICES.update(
    method=METHODS,
    export=exports.KINDS,
    protocol=(*eval_detection.PROTOCOLS, "all"),
    proposal_score=localize.PROPOSAL_SCORES,
    video_classifier=(*(name for name, method in METHODS.items() if method.classifies), "oracle"),
    feature_layout=features.LAYOUTS,
)


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
                job = run
                if command.predict or command.evaluate:
                    job = predict.predict if command.predict else evaluate_again
                if job is not run and distributed.world()[1] > 1:
                    raise InputError(
                        f"found {distributed.world()[1]} processes, expected one: only training "
                        "takes several"
                    )
                return job(command, console.Console(), open_things)
        except console.Stopped as stopped:
            _end_stopped(stopped, command)
        except opts.OptionError as error:
            console.end(2, f"error: {error}", once=True)
        except InputError as error:
            if not str(error):  # process 0 has the line
                sys.exit(2)
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
        o, folder = setup.options(command)
    rank, ranks = distributed.world()
    out.say(setup.option_lines(o, o.phases, ranks))
    if command.dry_run:
        return None
    if command.resume and (folder / "results.json").exists():
        out.say(
            f"{folder}: this run is finished; to score it again: python run.py --evaluate {folder}"
        )
        return load_json(folder / "results.json")
    device, seconds = setup.device_of(o), {}

    # 2. Data. Training videos carry their video-level labels and no segments.
    with scoring.timed(seconds, "loading"), distributed.all_or_none():
        data, truth, ambiguous = setup.load_data(o, out.say)
        tested = [video.name for video in data.test]  # the scores fail now, not after training
        setup.outside_scores(o, tested, data.classes)
    out.say(setup.data_lines(data, truth))

    # 3. The run's folder: what is needed to go on, or to score again
    about = about_of(o, data, device)
    with distributed.all_or_none():
        this = run_folder.RunFolder(folder, seed=o.seed, resume=bool(command.resume))
        open_things.callback(this.close)
        run_record.same_run(this.about, about, folder, command.other_code, out.say)
    resumed, this.about = bool(this.about), about
    if rank == 0:
        setup.describe(folder, about["record"], resumed, truth, ambiguous)
        command.go_on = setup.resume_command(folder, ranks)  # now there is something to resume
        out.keep_in(folder / "log.txt")
    out.say(f"Run: {folder}/\n")

    # 4. Training: the video-level classifiers, then EM-MIL's phases
    methods = setup.methods_of(o, about, this, device)
    log = train(methods, data, this, device, out.say, seconds)

    # 5. Scores of the test videos' clips
    with scoring.timed(seconds, "scoring"):
        records = distributed.gathered(
            [apply.record_of(video, methods, device) for video in data.test[rank::ranks]]
        )
    if rank != 0:
        return None
    clip_scores.write(folder / "clip_scores.h5", records, data.classes)

    # 6. Localization, evaluation, tables, files
    scored = scoring.Scored(records, data.classes, truth, ambiguous)
    source = scoring.Source(folder, about["record"], about["record"])
    results = scoring.finish(o, command, source, folder, scored, out.say, seconds)
    figures.training_figure(folder / "training.png", records=log)
    if command.tensorboard:
        tensorboard.write_scalars(folder / "tensorboard", log)
    tables.write_json(folder / "results.json", results)  # last: it says that the run is finished
    return results


def about_of(o, data, device):
    """What the checkpoint says about the run, its record among it. The number of threads is chosen
    before, since the record names it.
    """
    if cpu:
        cpu.keep_memory()
        clips = np.mean([video.n_clips for video in data.train])
        cpu.choose_threads(clips, sum(filter(None, data.dims)))
    fingerprint = features.fingerprint(o.features, o.flow_features, o.annotations)
    record = run_record.of(
        o, fingerprint, run_folder.environment(device), setup.labels_per_video(data)
    )
    return setup.source_of_weights(o, data, record)


def train(methods, data, this, device, say, seconds):
    """Trains `methods`, {name: method}, in place, without what the run folder `this` has done.
    Returns the log on rank 0, [] elsewhere; adds the seconds of training to `seconds`.
    """
    with scoring.timed(seconds, "moving features"):
        train_set = TrainingSet(data.train, device)
    for method in methods.values():
        bar = console.Progress(method.title, method.epochs, say)
        with contextlib.closing(bar):
            method.fit(train_set, this, bar)
    log = run_folder.read_log(this.folder) if distributed.world()[0] == 0 else []
    seconds |= summary.training_seconds(log, methods)
    say(summary.training_lines(log, seconds))
    return log


def evaluate_again(command, out, _):
    """--evaluate RUN: localizes and scores from a finished run's stored clip scores, with other
    test-time options.
    """
    folder = Path(command.evaluate)
    saved = setup.saved_options(folder / "opts.json")
    o = opts.at_test(command.given, saved, no_effect=opts.names("run") - {"pictures"})
    # what the run has left out stays out
    before = opts.resolve({}, saved).exclude_video
    given = command.given.get("exclude_video", ())
    already = match_names(before, given).values()
    more = [name for name in given if name not in already]
    o = dataclasses.replace(o, exclude_video=(*before, *more))
    setup.check_flags(command)
    made = run_folder.read_records(folder)[-1]
    out.say(setup.option_lines(o, made["phases"], made["processes"]))
    if command.dry_run:
        return None
    records, classes = clip_scores.read(folder / "clip_scores.h5")
    truth = setup.segments_of(folder / "ground_truth.csv", ("video", "t_start", "t_end", "label"))
    known = dict.fromkeys([*(record.name for record in records), *truth["video"]])
    left_out = setup.excluded(more, known)
    records = [record for record in records if record.name not in left_out]
    truth = truth[~truth["video"].isin(left_out)].reset_index(drop=True)
    path = o.ambiguous if "ambiguous" in command.given else None
    ambiguous = detections.ambiguous_in(
        [name for name in known if name not in left_out],
        setup.segments_of(folder / "ambiguous.csv") if path is None else setup.read_ambiguous(path),
        path,
    )
    target = setup.output_folder(command.out, folder, "evaluate")
    scored = scoring.Scored(records, classes, truth, ambiguous)
    source = scoring.Source(folder, made, run_folder.checkout())
    results = scoring.finish(o, command, source, target, scored, out.say, {})
    tables.write_json(target / "opts.json", dataclasses.asdict(o))
    tables.write_json(target / "results.json", results)
    return results


def _end_stopped(stopped, command):
    go_on = getattr(command, "go_on", None)
    kept = f"; go on with: {go_on}" if go_on else ""
    console.end(
        128 + stopped.signum, f"stopped by {console.name_of(stopped.signum)}{kept}", once=True
    )


if __name__ == "__main__":
    program()
