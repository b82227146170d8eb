"""Entry point: `python run.py`; options: `python run.py --help`.

`run` trains, localizes and evaluates in six sections; the other two jobs use a finished run.
"""

import sys

if sys.version_info < (3, 10):
    print(
        "error: found Python %d.%d, expected 3.10 or newer" % sys.version_info[:2], file=sys.stderr
    )
    sys.exit(2)

import contextlib
import shlex
from pathlib import Path

try:
    # before PyTorch, which reads its settings when it starts
    from engine import cpu
except ImportError:  # works without that file
    cpu = None

import numpy as np

import opts
from engine import distributed, run_folder
from engine.loop import TrainingSet
from formats import clip_scores, features
from formats.files import InputError
from formats.program import Progress, keep_log, log, program
from jobs import evaluate, predict, record, results, setup
from methods import apply
from report import summary


def main(argv=None):
    """Runs the command line `argv`, by default the program's; returns its results.

    Bad input ends the program with one line on stderr and code 2; Ctrl-C, SIGTERM and SIGHUP with
    one line and 130, 143, 129.
    """
    go_on = []  # the advice of a stop, once there is something to resume
    with program(lambda: "".join(go_on), last=argv is None), contextlib.ExitStack() as stack:
        command = opts.parse(argv)
        distributed.join_processes()
        stack.callback(distributed.leave_processes)
        ranks = distributed.world()[1]
        if command.job in ("train", "resume"):
            return run(command, stack, go_on)
        if ranks > 1:
            raise InputError(
                f"--{command.job}", f"{ranks} processes", "one: only training takes more"
            )
        return {"predict": predict.predict, "evaluate": evaluate.evaluate}[command.job](command)


def run(command, stack, go_on):
    """Trains, localizes, evaluates; resumes where --resume names a run."""
    # 1. Options and device
    with distributed.all_or_none():
        o = setup.options(command)
    rank, ranks = distributed.world()
    log.info(setup.option_lines(o, o.phases, ranks))
    if command.dry_run:
        return None
    if command.resume and (Path(command.resume) / "results.json").exists():
        return finished(command.resume)
    device, seconds = setup.device_of(o), {}

    # 2. Data. Training videos carry their video-level labels and no segments.
    with results.timed(seconds, "loading"), distributed.all_or_none():
        setup.find_files(o)
        files = o.features, o.flow_features, o.annotations
        state = features.file_state(*files)
        data, truth, ambiguous = setup.load_data(o)
        # bad scores fail now, not after training
        results.outside_scores(o, [video.name for video in data.test], data.classes)
    log.info(setup.data_lines(data, truth))

    # 3. The run's folder: what is needed to go on, or to score again
    if cpu:  # before the record, which names the number of threads
        cpu.keep_memory()
        cpu.choose_threads(np.mean([v.n_clips for v in data.train]), sum(filter(None, data.dims)))
    this, made = open_folder(command, o, data, device, stack)
    if rank == 0:
        results.describe(this.folder, o, made, truth, ambiguous)
        go_on.append(f"; go on with: {setup.resume_command(this.folder, ranks)}")
        keep_log(this.folder / "log.txt")
    log.info(f"Run: {this.folder}/\n")

    # 4. Training: the video-level classifiers, then EM-MIL's phases
    methods = setup.networks(o, this, device)
    train(methods, data, this, device, seconds)

    # 5. Scores of the test videos' clips
    with results.timed(seconds, "scoring"):
        records = distributed.gathered(
            [apply.record_of(video, methods, device) for video in data.test[rank::ranks]]
        )
    if rank != 0:
        return None
    if features.file_state(*files) != state:
        found = "files that have changed since the run began"
        raise InputError(o.features, found, "files that stay as they are: train again")
    if not data.test:
        ready = f"python run.py --predict {shlex.quote(str(this.folder))} --features FEATURES"
        log.info(f"No test: the networks are in {this.folder}/; to localize with them: {ready}")
        return None
    clip_scores.write(this.folder / results.SCORES, records, data.classes)

    # 6. Localization, evaluation, tables, files
    scored = results.Scored(this.folder, made[-1], records, data.classes, truth, ambiguous)
    title, how = f"{o.dataset}, seed {o.seed}", (command.export, command.per_class)
    found = results.finish(o, scored, this.folder, title, *how, seconds)
    results.say_where(this.folder)
    return found


def finished(folder):
    """Says that there is nothing to resume, and returns the run's results."""
    again = f"python run.py --evaluate {shlex.quote(folder)}"
    log.info(f"{folder}: this run is finished; to score it again: {again}")
    return results.stored(folder)


def open_folder(command, o, data, device, stack):
    """(RunFolder, records of the processes that the weights come from, this one's last); the folder
    is locked until `stack` is closed.
    """
    about = record.about(o, data, device)
    with distributed.all_or_none():
        folder = setup.folder_of(command, o)
        this = run_folder.RunFolder(folder, seed=o.seed, resume=bool(command.resume))
        stack.callback(this.close)
        before = []
        if this.about:
            before = record.resumed(this.about, about, folder, command.other_code)
    this.about = about
    return this, [*before, about["record"]]


def train(methods, data, this, device, seconds):
    """Trains `methods`, {name: method}, in place, without what the run folder `this` has done; adds
    the seconds of training to `seconds`.
    """
    with results.timed(seconds, "moving features"):
        train_set = TrainingSet(data.train, device)
    for method in methods.values():
        with contextlib.closing(Progress(method.title, method.epochs)) as bar:
            method.fit(train_set, this, bar)
    if distributed.world()[0] == 0:
        training = run_folder.read_log(this.folder)
        seconds |= summary.training_seconds(training, methods)
        log.info(summary.training_lines(training, seconds))


if __name__ == "__main__":
    main()
