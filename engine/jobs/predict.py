"""--predict: localize in new videos with the networks of a run, one video at a time."""

import dataclasses
import functools
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
from formats.files import InputError
from formats.layouts import count
from report import outcome


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
    o, at = _options(command, about)
    if command.dry_run:
        return out.say(setup.option_lines(o))
    _check_given(command, o, at)
    device = setup.device_of(o)
    methods = _trained_methods(o, state, folder, device)
    source, durations, problems = _videos_to_predict(o, at, about, out.say)
    open_things.callback(source.close)
    outside = setup.outside_scores(o, source.names, about["classes"], say=out.say)

    target = Path(command.out or "")
    named = target.suffix in (".json", ".csv")
    place = setup.output_folder(target.parent if named else command.out, folder, "predict")
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
        path = place / (f"{stem}-clip_scores.h5" if named else "clip_scores.h5")
        clip_scores.write(path, records, job.classes, job.step)
    else:
        for _ in records:
            pass
    place.mkdir(parents=True, exist_ok=True)
    table, found = _write_found(job, place, stem, command.export, durations, out.say)
    report = place / (f"{stem}-{scoring.PAGE}" if named else scoring.PAGE)
    outcome.write_page(
        report,
        outcome.about(
            f"{METHODS[o.method[0]].title}: {folder}",
            scoring.header(o, folder, run_folder.environment("cpu")),
        ),
        scoring.Scored([], job.classes, job.step),
        table,
        job.pages,
        scoring.rule_of(o),
    )
    out.say(f"To look at: {report}")
    if job.bad:
        console.end(3, f"{count(job.bad, 'bad video')} left out: {features.some(job.bad)}")
    return found


def _options(command, about):
    """(Opts at test, {option that says where the new videos are: what was given, or None})."""
    paths = ("features", "flow_features", "feature_layout", "snippet_seconds", "annotations")
    no_effect = {"tious", "protocol", "ambiguous", "exclude_video", "feature_memory"}
    o = opts.at_test(command.given, about["options"], apart=paths, no_effect=no_effect)
    return o, {name: command.given.get(name) for name in paths}


def _check_given(command, o, at):
    if not at["features"]:
        raise InputError(
            "--predict: found no --features, expected the features of the videos to localize in"
        )
    if o.video_classifier == "oracle" or (o.video_scores and "video_scores" not in command.given):
        raise InputError(
            "--predict: found a run without a video-level classifier, expected --video-scores "
            "for the new videos"
        )


def _write_found(job, place, stem, export, durations, say):
    """Writes the detections of each method and pictures of EM-MIL's; returns the first method's
    table and the results.
    """
    o = job.o
    # the first method's table and counts stay for what follows
    for name in reversed(o.method):
        table, counts = localize.table(job.found[name])
        path = place / (stem if name == o.method[0] else f"{stem}-{name}")
        scoring.write_detections(table, path)
        say(
            f"{METHODS[name].title}: {counts['videos']} videos, {counts['proposals']} "
            f"detections: {path}.json and .csv"
        )
        if name == "em-mil":
            scored = scoring.Scored(job.drawn, job.classes, job.step)
            outcome.draw(place, scored, table, o.pictures, scoring.rule_of(o))
    for kind in export:
        exports.write_export(kind, path.with_name(f"{path.name}-{kind}.json"), table, durations)
    results = {"videos": counts["videos"], "detections": f"{path}.json", "localization": counts}
    return table, results


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
            one = scoring.Scored([record], self.classes, self.step)
            of_video = None if outside is None else outside[k : k + 1]
            for method, rows in self.found.items():
                rows += scoring.localized(self.o, method, one, of_video)
            gated = scoring.class_scores(self.o, self.o.method[0], one, of_video)
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
