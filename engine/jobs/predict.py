"""--predict: localize in new videos with the networks of a run, one video at a time."""

import dataclasses
import sys
from pathlib import Path

import numpy as np

import dataset
import localize
import opts
from baselines import METHODS, apply
from engine import console, run_folder
from engine.jobs import scoring, setup
from formats import annotations, clip_scores, exports, features
from formats.files import InputError, count, some
from report import outcome, summary
from report.page import About

# what says where the new videos are: the run's own does not count
PLACES = dict(
    features="", flow_features=None, feature_layout="auto", snippet_seconds=None, annotations=""
)


def predict(command, out, open_things):
    """--predict RUN: localizes in the videos of --features with a run's networks, one video at a
    time.

    Writes detections.json and .csv, with --pictures N figures of the first N videos, into --out, by
    default predict-TIME in the run's folder; with --save-clip-scores clip_scores.h5, for which all
    scores stay in memory. Needs no annotations; where they are given, the durations of the videos
    are theirs, else those of the clips. With --keep-going a bad video is reported and left out, and
    the exit code is 3 in the end.
    """
    folder = Path(command.predict)
    state = run_folder.load_checkpoint(folder)
    about = state["about"]
    no_effect = {"tious", "protocol", "ambiguous", "exclude_video", "feature_memory"}
    o = opts.at_test(command.given, about["options"], apart=PLACES, no_effect=no_effect)
    o = dataclasses.replace(o, **{k: command.given.get(k, v) for k, v in PLACES.items()})
    if command.dry_run:
        return out.say(setup.option_lines(o))
    _check_given(command, o)
    device = setup.device_of(o)
    methods = _trained_methods(o, state, folder, device)
    source, step, durations, problems = _videos_to_predict(o, about, out.say)
    open_things.callback(source.close)
    outside = setup.outside_scores(o, source.names, about["classes"], say=out.say)
    place = setup.output_folder(command.out, folder, "predict")

    found, kept, pages, bad = {name: [] for name in o.method}, [], [], []
    pictures = command.given.get("pictures", 0)
    for k, name in enumerate(console.Bar(source.names, "videos", disable=None)):
        try:
            if name in problems:
                raise problems[name]
            record = _record(name, about, source, step, durations, methods, device)
        except InputError as error:
            if not command.keep_going:
                raise
            bad.append(name)
            console.printed(f"left out: {error}", sys.stderr)
            continue
        one = scoring.Scored([record], about["classes"], step)
        of_video = None if outside is None else outside[k : k + 1]
        for method, rows in found.items():
            rows += scoring.localized(o, method, one, of_video)
        gated = scoring.class_scores(o, o.method[0], one, of_video)
        pages += outcome.page_scores(gated, o.gate, np.float16)
        if command.save_clip_scores or len(kept) < pictures:
            kept.append(record)

    place.mkdir(parents=True, exist_ok=True)
    if command.save_clip_scores:
        clip_scores.write(place / "clip_scores.h5", kept, about["classes"], step)
    labels = about.get("labels_per_video")
    scored = scoring.Scored(kept[:pictures], about["classes"], step, labels_per_video=labels)
    durations = {name: durations[name] for name in source.names if name not in bad}
    table, results = _write_found(o, found, scored, place, command.export, durations, out.say)
    path = place / scoring.PAGE
    outcome.write_page(path, _about(o, folder), scored, table, pages, scoring.rule_of(o))
    out.say(f"To look at: {path}")
    if bad:
        console.end(3, f"{count(bad, 'bad video')} left out: {some(bad)}")
    return results


def _about(o, folder):
    """The head of the page."""
    header = scoring.header(o, folder, run_folder.environment("cpu"))
    return About(f"{METHODS[o.method[0]].title}: {folder}", header, [], [])


def _check_given(command, o):
    if not o.features:
        raise InputError(
            "--predict: found no --features, expected the features of the videos to localize in"
        )
    setup.check_flags(command)
    if "video_scores" not in command.given and (o.video_classifier == "oracle" or o.video_scores):
        raise InputError(
            "--predict: found classes that come from annotations or a file, expected "
            "--video-scores for the new videos"
        )


def _record(name, about, source, step, durations, methods, device):
    """The scores of one video; durations grows by that of its clips."""
    dims = list(source.shape(name)[1:])
    if dims != about["dims"]:
        found, expected = (" and ".join(map(str, filter(None, d))) for d in (dims, about["dims"]))
        raise InputError(
            f"{source.path}: {name}: found {found} features a clip, expected {expected} as in "
            "training"
        )
    rgb, flow = source.read(name)
    duration = durations.setdefault(name, len(flow if rgb is None else rgb) * step)
    labels = np.zeros(len(about["classes"]), np.float32)
    none = np.zeros((0, 2)), np.zeros(0, int)
    video = dataset.Video(name, rgb, flow, labels, duration, *none, step)
    record = apply.record_of(video, methods, device)
    clip_scores.check(record)
    return record


def _write_found(o, found, scored, place, export, durations, say):
    """Writes the detections of each method and pictures of EM-MIL's; returns the first method's
    table and the results.
    """
    # the first method's table and counts stay for what follows
    for name in reversed(o.method):
        table, counts = localize.table(found[name])
        path = place / scoring.stem_of(o, name)
        scoring.write_detections(table, path)
        say(
            f"{METHODS[name].title}: {counts['videos']} videos, {counts['proposals']} "
            f"detections: {path}.json and .csv"
        )
        if of_gate := summary.gate_warning(counts, o.gate, scored.labels_per_video):
            say(of_gate)
        if name == "em-mil":
            outcome.draw(place, scored, table, o.pictures, scoring.rule_of(o))
    for kind in export:
        exports.write_export(kind, place / f"detections-{kind}.json", table, durations)
    results = {"videos": counts["videos"], "detections": f"{path}.json", "localization": counts}
    return table, results


def _videos_to_predict(o, about, say):
    """(source of the features, seconds per clip, {video: duration in s}, {bad video: InputError});
    prints what was assumed.
    """
    source = features.open_features(o.features, o.annotations or None, **features.asked(o))
    notes, durations = list(source.notes), {}
    truth = annotations.load(o.annotations) if o.annotations else None
    if truth:
        source.adopt(list(truth.videos.values()))
        durations = {v.name: v.duration for v in truth.videos.values() if v.duration is not None}
        unknown = [name for name in source.names if name not in durations]
        if unknown:
            notes.append(
                f"{o.annotations}: found no duration of {len(unknown)} of {len(source.names)} "
                "videos, taken to be that of their clips"
            )
    _, problems = dataset.examine(source, truth, source.names, notes)
    usual = about["snippet_seconds"]
    if not source.snippet_seconds:
        notes.append(
            f"{source.path}: found no seconds per clip, taken to be {usual:g} as in training"
        )
    for note in dict.fromkeys(notes):
        say(f"warning: {note}")
    step = source.snippet_seconds or usual
    if abs(step - usual) > 1e-3 * step:
        source.close()
        raise InputError(
            f"{source.path}: found clips of {step:g} s, expected {usual:g} s as in training "
            "(--snippet-seconds overrides what the file says)"
        )
    _same_extractor(about["extractor"], features.extract_settings(o.features), source.path)
    return source, step, durations, problems


def _same_extractor(then, now, path):
    """InputError where the features of a run and new ones were extracted with other settings, if
    both are known.
    """
    if not then or not now:
        return
    for key in then:
        if then[key] != now.get(key):
            raise InputError(
                f"{path}: found features extracted with {key} {now.get(key)}, expected {then[key]} "
                "as in training (tools/extract_features.py)"
            )


def _trained_methods(o, state, folder, device):
    """The methods that `o` asks for, with what a run's checkpoint holds of them."""
    about, made = state["about"], {}
    for name in setup.wanted(o):
        method = METHODS[name](*about["dims"], len(about["classes"]), setup.settings_of(o, name))
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
        made[name] = method.to(device)
    return made
