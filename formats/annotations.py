"""Annotations of every dialect as one kind of object: which videos there are, in which
subset, with which actions when.

`load` takes JSON (ActivityNet, BSN and mmaction2, Charades), CSV, the W-TALC folder of .npy
files and THUMOS14's folder of text files; `in_subset` picks the videos of a subset, `table`
makes the ground-truth table out of them. The dialects are read in formats/dialects.py and
shown in docs/data.md.
"""

import dataclasses
import itertools
import os
import pathlib
from collections import Counter

import numpy as np
import pandas as pd

from formats import dialects
from formats.dialects import AMBIGUOUS, EVALKIT_IDS, wtalc_names  # noqa: F401
from formats.files import InputError, count, open_file, show
from formats.names import choose_test, choose_train, same_subset
from formats.text_files import require_text, to_seconds

COLUMNS = ("video", "t_start", "t_end", "label")
PAST_END = 0.1  # s; durations are rounded, and ActivityNet's segments end up to 5 ms after them


@dataclasses.dataclass(frozen=True, eq=False)
class VideoAnnotation:
    """One video. `labels` are video-level, sorted and unique; `segments` are (n, 2) float64
    in seconds."""

    name: str
    subset: str
    duration: float | None  # s; None where the file has none
    segments: np.ndarray  # (n, 2)
    segment_labels: tuple  # n class names
    labels: tuple  # of the segments, and those without times
    rows: np.ndarray | None = None  # (n,) place of each segment in the file: the order of the table
    alias: str | None = None  # the YouTube id where `name` is anonymous


@dataclasses.dataclass(frozen=True, eq=False)
class Annotations:
    """A whole annotation file or folder."""

    path: str
    videos: dict  # name -> VideoAnnotation, in file order
    classes: tuple  # class names, sorted
    ambiguous: pd.DataFrame  # video, t_start, t_end, label; every label "Ambiguous"; often empty
    notes: tuple  # what was odd, one line each, with counts

    @property
    def aliases(self):
        """{name: YouTube id} of the videos that have another name here."""
        return {name: video.alias for name, video in self.videos.items() if video.alias}


# ---- loading
def load(path, video_labels="segments"):
    """Read annotations of any dialect; which one it is, the content says.

    path: a .json or .csv file; a folder of W-TALC (videoname.npy, ...), of THUMOS14 (CLASS_val.txt,
    CLASS_test.txt), or with a .json or .csv file per subset (..._train.json, ..._val.json). A
    segment of class "Ambiguous" goes to `.ambiguous`, not to the video.
    video_labels: "segments", or "labels_all" for W-TALC's labels_all.npy.
    Zero-length and reversed segments are dropped, segments past the video's end kept; both are
    counted in the notes.
    Raises InputError, naming file and video, for times that are no finite numbers >= 0, empty
    names, repeated videos, labels outside the class list, missing files or parts.
    """
    if video_labels not in ("segments", "labels_all"):
        raise ValueError(
            f"video_labels: found {video_labels!r}, expected 'segments' or 'labels_all'"
        )
    folder, rows = pathlib.Path(path), itertools.count()
    try:
        inside = os.listdir(folder) if os.path.isdir(folder) else None
    except OSError as error:
        raise InputError(
            f"{path}: found {error.strerror}, expected a folder that can be read"
        ) from None
    if inside is not None and "videoname.npy" in inside:
        return _load_wtalc(folder, rows, video_labels)
    if video_labels == "labels_all":
        raise InputError(
            f"{path}: found no labels_all.npy, expected a W-TALC folder for "
            "video_labels='labels_all'"
        )
    if inside is None:
        return _annotations(path, _read_file(folder, rows))
    files = [] if "detclasslist.txt" in inside else dialects.subset_files(folder)
    if files:
        return _annotations(path, [video for file in files for video in _read_file(file, rows)])
    if "detclasslist.txt" not in inside and not dialects.thumos_files(folder):
        found = f"{', '.join(sorted(inside)[:3])} ..." if inside else "nothing"
        raise InputError(
            f"{path}: found a folder without annotations, expected videoname.npy (W-TALC), "
            "CLASS_val.txt or CLASS_test.txt (THUMOS14), or ..._train.json, ..._test.json "
            f"in it, or a .json or .csv file as the path; in it: {found}"
        )
    return _annotations(path, *dialects.read_thumos(folder, rows))


def _read_file(path, rows):
    readers = {".json": dialects.read_json, ".csv": dialects.read_csv_truth}
    if path.suffix.lower() not in readers:
        with open_file(path):
            raise InputError(
                f"{path}: found a file of type {path.suffix or '(none)'}, expected .json, "
                ".csv or a folder"
            )
    return readers[path.suffix.lower()](path, rows)


def _load_wtalc(folder, rows, video_labels):
    videos, classes, labels_all = dialects.read_wtalc(folder, rows)
    excused = folder / "Ambiguous_test.txt"
    truth = _annotations(
        folder, videos, classes, dialects.read_segments(excused) if excused.exists() else []
    )
    if labels_all is None:
        if video_labels == "labels_all":
            raise InputError(f"{folder / 'labels_all.npy'}: found no such file, expected one")
        return truth
    for name, labels in labels_all.items():
        if unknown := set(labels) - set(classes):
            raise InputError(
                f"{folder}: {name}: found label {show(min(unknown))} in labels_all.npy, "
                "expected a class of the class list"
            )
    differing = Counter(
        truth.videos[name].subset
        for name, labels in labels_all.items()
        if set(labels) != set(truth.videos[name].labels)
    )
    notes = truth.notes
    if differing:
        each = ", ".join(f"{n} {subset}" for subset, n in sorted(differing.items()))
        chosen = "labels_all.npy" if video_labels == "labels_all" else "the segments' labels"
        notes += (
            f"{folder}: labels_all.npy and the segments' labels disagree on "
            f"{count(differing.total(), 'video')} ({each}); using {chosen}",
        )
    videos = truth.videos
    if video_labels == "labels_all":
        videos = {
            name: dataclasses.replace(video, labels=tuple(sorted(set(labels_all[name]))))
            for name, video in videos.items()
        }
    return dataclasses.replace(truth, videos=videos, notes=notes)


# ---- subsets and tables
def in_subset(annotations, subset):
    """The videos of a subset, in file order: those of exactly that name, else of its group
    of names, in any case.

    The groups are train/training, test/testing and val/validation. Raises InputError that
    names the subsets found.
    """
    found = Counter(video.subset for video in annotations.videos.values())
    wanted = same_subset(subset, found)
    if not wanted:
        listed = ", ".join(
            f"{_subset(name)} ({count(n, 'video')})" for name, n in sorted(found.items())
        )
        raise InputError(f"{annotations.path}: found the subsets {listed}, expected {show(subset)}")
    return [video for video in annotations.videos.values() if video.subset in wanted]


def choose_subsets(annotations, train="auto", test="auto"):
    """The names (train, test) of the subsets to train and to test on; a name that is not "auto" is
    kept as it is.

    Auto takes what the dialects mean: to train, the training subset, else the validation subset
    (THUMOS14 trains on its validation videos); to test, the test or the validation subset that is
    not that one, with segments if one of them has some (ActivityNet's testing videos have none).
    Raises InputError, naming the subsets found, where that leaves none.
    """
    found, annotated = subset_names(annotations)
    if train == "auto":
        train = choose_train(found)
    if test == "auto":
        test = choose_test(found, annotated, train)
    if train is None or test is None:
        raise InputError(
            f"{annotations.path}: found the subsets {', '.join(map(_subset, sorted(found)))}, "
            "expected one to train and one to test on: name them with --train-subset and "
            "--test-subset, or add them to the file (subset of each video), or give a folder with "
            "a file per subset (..._train.json, ..._test.json)"
        )
    return train, test


def subset_names(annotations):
    """(names of all subsets, names of those with segments), lists in the order of the file."""
    videos = annotations.videos.values()
    return (
        list(dict.fromkeys(video.subset for video in videos)),
        list(dict.fromkeys(video.subset for video in videos if len(video.segments))),
    )


def table(videos):
    """The segments of VideoAnnotations as a table video, t_start, t_end, label, in the
    order of the file."""
    segments = np.concatenate([np.zeros((0, 2))] + [video.segments for video in videos])  # (N, 2)
    rows = pd.DataFrame(
        {
            "video": np.repeat(
                np.array([v.name for v in videos], dtype=object), [len(v.segments) for v in videos]
            ),
            "t_start": segments[:, 0],
            "t_end": segments[:, 1],
            "label": np.array([c for v in videos for c in v.segment_labels], dtype=object),
        }
    )
    if videos and all(video.rows is not None for video in videos):
        order = np.argsort(np.concatenate([video.rows for video in videos]), kind="stable")
        rows = rows.iloc[order].reset_index(drop=True)
    return rows


# ---- what looks wrong
def scoring_note(path, subset, videos):
    """A line on the videos of the test subset without segments, None where all have some.

    videos: VideoAnnotations, or anything with `segments`. Without segments a video can be
    localized in and not scored.
    """
    without = sum(not len(video.segments) for video in videos)
    if not without:
        return None
    if without == len(videos):
        return (
            f"{path}: none of the {count(len(videos), 'video')} of subset {_subset(subset)} has a "
            "segment: detections are written, and there is no table of mAP"
        )
    return (
        f"{path}: {len(videos) - without} of {count(len(videos), 'video')} of subset "
        f"{_subset(subset)} have segments; detections in the other {without} count as false "
        "positives (--exclude-video leaves videos out)"
    )


def time_unit_problem(path, videos, durations=None):
    """A line where the segments cannot be in seconds: nearly all (9 of 10) end past their
    video's end; else None.

    videos: VideoAnnotations; durations: {name: seconds} for those without an annotated
    duration, from their clips.
    """
    ends = []  # (part of the duration, end, duration, name)
    for video in videos:
        duration = video.duration or (durations or {}).get(video.name)
        if duration:
            ends += [(end / duration, end, duration, video.name) for end in video.segments[:, 1]]
    past = [entry for entry in ends if entry[1] > entry[2] + PAST_END]
    if not past or len(past) < 0.9 * len(ends) or np.median([part for part, *_ in ends]) < 1.5:
        return None
    _, end, duration, name = max(past)
    return (
        f"{path}: found {len(past)} of {count(len(ends), 'segment')} past the end of their "
        f"video (such as {name}: a segment ends at {end:g}, the video at {duration:.4g} s), "
        "expected seconds: are these frames (divide them by the frames per second) or "
        "milliseconds? If they are seconds, the durations are wrong"
    )


# ---- from raw to checked
def _annotations(path, raw, classes=None, ambiguous=(), notes=()):
    """Check `Raw` videos and make the Annotations of them.

    classes: the class list where the dialect has one. ambiguous: (video, start, end) from a
    file beside them.
    """
    if not raw:
        raise InputError(f"{path}: found no video, expected some")
    if classes is not None and len(set(classes)) < len(classes):
        raise InputError(
            f"{path}: found the class list {show(sorted(classes))} with a class twice, "
            "expected each once"
        )
    listed, videos = None if classes is None else set(classes), {}
    odd = {"dropped": [], "past": [], "ambiguous": []}  # filled by `_video`
    for i, video in enumerate(raw):
        checked = _video(path, i, video, listed, odd)
        if checked.name in videos:
            raise InputError(
                f"{path}: {checked.name}: found this video twice, expected it once, in one subset"
            )
        videos[checked.name] = checked
    names = sorted(listed or {label for video in videos.values() for label in video.labels})
    if not names:
        raise InputError(f"{path}: found no label, expected at least one class")
    excused = pd.DataFrame([*ambiguous, *odd["ambiguous"]], columns=list(COLUMNS[:3])).astype(
        {"t_start": float, "t_end": float}
    )
    return Annotations(
        str(path),
        videos,
        tuple(names),
        excused.assign(label=AMBIGUOUS),
        (*notes, *_notes(path, odd)),
    )


def _video(path, number, raw, listed, odd):
    """The VideoAnnotation of a `Raw`; what is odd goes to `odd`. listed: set of the allowed
    classes, or None."""
    name = require_text(f"{path}: video {number}", raw.name, "video name")
    where = f"{path}: {name}"
    duration = None if raw.duration is None else to_seconds(where, raw.duration, "duration")
    if duration == 0:
        raise InputError(f"{where}: found duration 0, expected seconds above 0")
    kept, labels = [], set()
    for row, label, segment in raw.actions:
        label = require_text(where, label, "label")
        times = None if segment is None else _segment(where, segment)
        if label == AMBIGUOUS and (listed is None or label not in listed):
            if times:
                odd["ambiguous"].append((name, *times))
            continue
        if listed is not None and label not in listed:
            raise InputError(
                f"{where}: found label {show(label)}, expected a class of the class list"
            )
        labels.add(label)
        if times is None:
            continue
        if times[1] <= times[0]:
            odd["dropped"].append((name, *times))
            continue
        if duration is not None and times[1] > duration + PAST_END:
            odd["past"].append((times[1] - duration, name))
        kept.append((times, label, row))
    segments, segment_labels, rows = zip(*kept) if kept else ((), (), ())
    return VideoAnnotation(
        name,
        raw.subset,
        duration,
        np.array(segments, dtype=float).reshape(-1, 2),
        segment_labels,
        tuple(sorted(labels)),
        np.array(rows, dtype=int),
        raw.alias,
    )


def _notes(path, odd):
    notes = []
    if odd["dropped"]:
        name, start, end = odd["dropped"][0]
        notes.append(
            f"{path}: {count(len(odd['dropped']), 'zero-length or reversed segment')} dropped "
            f"(first: {name} [{start:g}, {end:g}]); their labels still count for the video"
        )
    if odd["past"]:
        by, name = max(odd["past"])
        notes.append(
            f"{path}: {count(len(odd['past']), 'segment')} of "
            f"{count(len({n for _, n in odd['past']}), 'video')} more "
            f"than {PAST_END:g} s past the video's end, kept (worst: {name}, {by:.1f} s)"
        )
    if odd["ambiguous"]:
        notes.append(
            f"{path}: {count(len(odd['ambiguous']), 'segment')} of class {AMBIGUOUS} set aside: "
            "no class to learn or to score"
        )
    return notes


def _segment(where, value):
    """(start, end) in seconds."""
    if not dialects.is_list(value) or len(value) != 2:
        raise InputError(f"{where}: found segment {show(value)}, expected [start, end]")
    return to_seconds(where, value[0], "segment start"), to_seconds(where, value[1], "segment end")


def _subset(name):
    return show(name) if name else "(none given)"
