"""--predict: localize in new videos with the networks of a run, one video at a time."""

import dataclasses
import sys
from pathlib import Path

import numpy as np

import dataset
import localize
import opts
from engine import console, run_folder
from formats import annotations, clip_scores, exports, features
from formats.files import InputError, count, some
from formats.layouts import seconds_text
from jobs import scoring, setup
from methods import METHODS, apply
from report import outcome, summary
from report.page import About

# what says where the new videos are: the run's own does not count
PLACES = dict(
    features="",
    flow_features=None,
    feature_layout="auto",
    snippet_seconds=None,
    clip_seconds=None,
    annotations="",
)


def predict(command, out, open_things):
    """--predict RUN: localizes in the videos of --features, one at a time, with a run's networks.

    Writes detections.json and .csv, with --pictures N figures of the first N videos, into --out, by
    default predict-TIME in the run's folder; with --save-clip-scores clip_scores.h5, for which all
    scores stay in memory. Needs no annotations; where they are given, the durations of the videos
    are theirs, else those of the clips. With --keep-going a bad video is reported and left out, and
    the exit code is 3 in the end.
    """
    folder = Path(command.predict)
    state = run_folder.load_checkpoint(folder)
    about, made = state["about"], state["about"]["record"]
    no_effect = {"tious", "protocol", "ambiguous", "exclude_video", "feature_memory"}
    o = opts.at_test(command.given, made["options"], apart=PLACES, no_effect=no_effect)
    o = dataclasses.replace(o, **{k: command.given.get(k, v) for k, v in PLACES.items()})
    if command.dry_run:
        return out.say(setup.option_lines(o, made["phases"], made["processes"]))
    _check_given(command, o)
    device = setup.device_of(o)
    methods = _trained_methods(o, state, folder, device)
    source, seconds, durations, problems = _videos_to_predict(o, about, out.say)
    open_things.callback(source.close)
    outside = setup.outside_scores(o, source.names, about["classes"])
    place = setup.output_folder(command.out, folder, "predict")

    found, kept, pages, bad = {name: [] for name in o.method}, [], [], []
    pictures = command.given.get("pictures", 0)
    for k, name in enumerate(console.Bar(source.names, "videos", disable=None)):
        try:
            if name in problems:
                raise problems[name]
            record = _record(name, about, source, seconds[name], durations, methods, device)
        except InputError as error:
            if not command.keep_going:
                raise
            bad.append(name)
            console.printed(f"left out: {error}", sys.stderr)
            continue
        one = scoring.Scored([record], about["classes"])
        of_video = None if outside is None else outside[k : k + 1]
        for method, rows in found.items():
            rows += scoring.localized(o, method, one, of_video)
        gated = scoring.class_scores(o, o.method[0], one, of_video)
        pages += outcome.page_scores(gated, o.gate, np.float16)
        if command.save_clip_scores or len(kept) < pictures:
            kept.append(record)

    place.mkdir(parents=True, exist_ok=True)
    if command.save_clip_scores:
        clip_scores.write(place / "clip_scores.h5", kept, about["classes"])
    scored = scoring.Scored(kept[:pictures], about["classes"])
    durations = {name: durations[name] for name in source.names if name not in bad}
    table, results = _write_found(
        o, found, scored, place, command.export, durations, made["labels_per_video"], out.say
    )
    path = place / scoring.PAGE
    about = _about(o, scoring.Source(folder, made, run_folder.checkout()))
    outcome.write_page(path, about, scored, table, pages, scoring.rule_of(o))
    out.say(f"To look at: {path}")
    if bad:
        console.end(3, f"{count(bad, 'bad video')} left out: {some(bad)}")
    return results


def _about(o, source):
    """The head of the page."""
    title = f"{METHODS[o.method[0]].title}: {source.folder}"
    return About(title, scoring.header(o, source), [], [])


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


def _record(name, about, source, seconds, durations, methods, device):
    """The scores of one video, whose clips have the `seconds` (step, window); durations grows by
    what they cover."""
    dims = list(source.shape(name)[1:])
    if dims != about["dims"]:
        found, expected = (" and ".join(map(str, filter(None, d))) for d in (dims, about["dims"]))
        raise InputError(
            f"{source.path}: {name}: found {found} features a clip, expected {expected} as in "
            "training"
        )
    rgb, flow = source.read(name)
    covered = localize.length(len(flow if rgb is None else rgb), *seconds)
    duration = durations.setdefault(name, covered)
    labels = np.zeros(len(about["classes"]), np.float32)
    none = np.zeros((0, 2)), np.zeros(0, int)
    video = dataset.Video(name, rgb, flow, labels, duration, *none, *seconds)
    record = apply.record_of(video, methods, device)
    clip_scores.check(record)
    return record


def _write_found(o, found, scored, place, export, durations, labels, say):
    """Writes the detections of each method and pictures of EM-MIL's; returns the first method's
    table and the results. labels: of a training video, on average.
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
        if of_gate := summary.gate_warning(counts, o.gate, labels):
            say(of_gate)
        if name == "em-mil":
            outcome.draw(place, scored, table, o.pictures, scoring.rule_of(o))
    for kind in export:
        exports.write_export(kind, place / f"{kind}.json", table, durations)
    results = {"videos": counts["videos"], "detections": f"{path}.json", "localization": counts}
    return table, results


def _videos_to_predict(o, about, say):
    """(source of the features, {video: (step, window) of its clips in s}, {video: duration in s},
    {bad video: InputError}); prints what was assumed.
    """
    source = features.open_features(o.features, o.annotations or None, **features.asked(o))
    notes, durations = list(source.notes), {}
    truth = annotations.load(o.annotations) if o.annotations else None
    if truth:
        source.adopt(truth.videos.index)
        durations = truth.videos["duration"].dropna().to_dict()
        unknown = [name for name in source.names if name not in durations]
        if unknown:
            notes.append(
                f"{o.annotations}: found no duration of {len(unknown)} of {len(source.names)} "
                "videos, taken to be that of their clips"
            )
    _, problems = dataset.examine(source, truth, source.names, notes)
    seconds = _seconds_of_clips(source, durations, about, problems, notes)
    for note in dict.fromkeys(notes):
        say(f"warning: {note}")
    _same_extractor(about["extractor"], features.extract_settings(o.features), source.path)
    return source, seconds, durations, problems


def _seconds_of_clips(source, durations, about, problems, notes):
    """{video: (step, window) in s}, those of training where nothing else is said. InputError where
    they differ from training; a video whose duration has to be known and is not goes to `problems`.
    """
    step = about["snippet_seconds"]  # None: each video of the training had its own
    usual = step, about.get("clip_seconds") or step
    known = {name: durations.get(name) for name in source.names if name not in problems}
    said = dataset.seconds_of(source, known, problems)
    seconds = dataset.seconds_of(source, known, problems, usual)
    unsaid = [name for name, (found, _) in said.items() if found is None]
    if unsaid and step is None:
        raise InputError(
            f"{source.path}: {unsaid[0]}: found no seconds per clip, expected them "
            "(--snippet-seconds): in training each video had its own"
        )
    if unsaid:
        notes.append(
            f"{source.path}: found no seconds per clip, taken to be {step:g} as in training"
        )
    for name, both in seconds.items():
        if step is not None and not np.isclose(both, usual, rtol=1e-3).all():
            raise InputError(
                f"{source.path}: {name}: found clips of {seconds_text([both])}, expected "
                f"clips of {seconds_text([usual])} as in training (--snippet-seconds and "
                "--clip-seconds override what the file says)"
            )
    return seconds


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
        if done < (len(about["record"]["phases"]) if name == "em-mil" else 1):
            raise InputError(
                f"{folder}: found {method.title} not trained to its end, expected it finished "
                f"({setup.resume_command(folder, about['record']['processes'])})"
            )
        run_folder.load_state(
            method, state["parts"][name], f"{folder / run_folder.CHECKPOINT}: {name}"
        )
        made[name] = method.to(device)
    return made
