"""--predict: localize in new videos with the networks of a run."""

import contextlib
import dataclasses
import sys
from pathlib import Path

import numpy as np

import dataset
import localize
import opts
from engine import run_folder
from formats import annotations, clip_scores, features
from formats.files import InputError, count, some
from formats.layouts import seconds_text
from formats.program import Bar, log, printed
from jobs import record, results, setup
from methods import METHODS, apply


def predict(command):
    """--predict RUN: localizes in the videos of --features with a run's networks; returns the
    results.

    Writes what a run writes, but for the training's files, so that --evaluate works on it. Needs no
    annotations; where they are given, the durations of the videos are theirs, else those of the
    clips. With --keep-going a bad video is reported and left out, and the exit code is 3 in the
    end.
    """
    run = Path(command.predict)
    state, about, old = record.read_about(run)
    made, given = about["record"], command.given
    new = {*opts.names("files", "clips"), "key"}  # of the new videos: the run's do not count
    asked = {name: value for name, value in given.items() if name not in new}
    o = opts.at_test("predict", asked, old, run)
    own = {name: given.get(name, opts.FIELDS[name].default) for name in new}
    o = dataclasses.replace(o, **own)
    log.info(setup.option_lines(o, made["phases"], made["processes"]))
    if command.dry_run:
        return None
    if not o.features:
        raise InputError("--predict", "no --features", "those of the videos to localize in")
    if "video_scores" not in given and (o.video_classifier == "oracle" or o.video_scores):
        found = "classes that come from annotations or a file"
        raise InputError("--predict", found, "--video-scores for the new videos")
    device = setup.device_of(o)
    methods = _trained(o, state, run, device)
    place = results.place_of(command, run, ["predict", Path(o.features).stem])
    with results.new_folder(place) as folder:
        records, bad = _records(o, about, methods, device, command.keep_going)
        none = localize.table([])[0][results.LABELLED]
        scored = results.Scored(run, made, records, tuple(about["classes"]), none, none)
        title = f"{Path(o.features).name}, by {run.name}"
        found = results.finish(o, scored, folder, title, command.export)
        results.describe(folder, o, [made], none, none)
        clip_scores.write(folder / results.SCORES, records, scored.classes)
    results.say_where(place)
    if bad:
        printed(f"{count(bad, 'bad video')} left out: {some(bad)}", sys.stderr)
        sys.exit(3)
    return found


def _trained(o, state, folder, device):
    """The methods that `o` asks for, with what a run's checkpoint holds of them."""
    about, made = state["about"], {}
    for name in setup.wanted(o):
        method = METHODS[name](*about["dims"], len(about["classes"]), setup.settings_of(o, name))
        if name not in state["parts"]:
            found = f"no {method.title} in its checkpoint"
            raise InputError(folder, found, "a run that has trained it")
        done = [stage.split()[0] for stage in state["done"]].count(name)
        if done < (len(about["record"]["phases"]) if name == "em-mil" else 1):
            advice = setup.resume_command(folder, about["record"]["processes"])
            found = f"{method.title} not trained to its end"
            raise InputError(folder, found, f"it finished ({advice})")
        where = f"{folder / run_folder.CHECKPOINT}: {name}"
        run_folder.load_state(method, state["parts"][name], where)
        made[name] = method.to(device)
    return made


def _records(o, about, methods, device, keep_going):
    """(records of the videos of --features, names of the bad ones), which `keep_going` leaves
    out.
    """
    truth = annotations.load(o.annotations) if o.annotations else None
    source = features.open_features(o.features, truth, **opts.reading(o))
    with contextlib.closing(source):
        found = _survey(o, source, truth, about)
        results.outside_scores(o, source.names, about["classes"])
        records, bad = [], []
        for name in Bar(source.names, "videos", disable=None):
            try:
                if name in found.problems:
                    raise found.problems[name]
                records.append(apply.record_of(_video(found, name, about), methods, device))
                clip_scores.check(records[-1])
            except InputError as error:
                if not keep_going:
                    raise
                log.warning(f"left out: {error}")
                bad.append(name)
    return [one for one in records if one.name not in bad], bad


def _video(found, name, about):
    """One new video, without labels and segments; without an annotated duration it lasts as long as
    its clips.
    """
    length, *dims = found.shapes[name]
    if dims != about["dims"]:
        wide, expected = (" and ".join(map(str, filter(None, d))) for d in (dims, about["dims"]))
        where = f"{found.source.path}: {name}"
        raise InputError(where, f"{wide} features a clip", f"{expected} as in training")
    streams, seconds = found.source.read(name), found.seconds[name]
    duration = localize.length(length, *seconds)
    if found.truth:
        duration = found.truth.durations.get(name, duration)
    labels = np.zeros(len(about["classes"]), np.float32)
    none = np.zeros((0, 2)), np.zeros(0, int)
    return dataset.Video(name, *streams, labels, duration, *none, *seconds)


def _survey(o, source, truth, about):
    """dataset.survey of all videos of the source; InputError where extraction or clips differ from
    training.
    """
    if truth:
        unknown = [name for name in source.names if name not in truth.durations]
        if unknown:
            log.warning(
                f"{o.annotations}: found no duration of {len(unknown)} of {len(source.names)} "
                "videos, taken to be that of their clips"
            )
    step = about["snippet_seconds"]  # None: each video of the training had its own
    usual = step, about["clip_seconds"] or step
    found = dataset.survey(source, truth, source.names, usual)
    then, now = about["extractor"], features.extract_settings(o.features)
    for key in then if then and now else ():
        if then[key] != now.get(key):
            other = f"features extracted with {key} {now.get(key)}"
            raise InputError(source.path, other, f"{then[key]} as in training")
    _check_seconds(found, usual)
    return found


def _check_seconds(found, usual):
    """Warns where the seconds of the clips are those of training; InputError where they differ, or
    are not known. usual: (step, window) in training.
    """
    source, (step, _) = found.source, usual
    for name, both in found.seconds.items():
        where = f"{source.path}: {name}"
        if both[0] is None:
            expected = "them (--snippet-seconds): in training each video had its own"
            raise InputError(where, "no seconds per clip", expected)
        if step is not None and not np.isclose(both, usual, rtol=1e-3).all():
            expected = (
                f"clips of {seconds_text([usual])} as in training (--snippet-seconds and "
                "--clip-seconds override what the file says)"
            )
            raise InputError(where, f"clips of {seconds_text([both])}", expected)
    said = (source.snippet_seconds or source.seconds(name)[0] for name in found.seconds)
    if step and not all(said):
        log.warning(
            f"{source.path}: found no seconds per clip, taken to be {step:g} as in training"
        )
