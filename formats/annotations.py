"""Annotations of every dialect as one kind of object: which videos there are, in which subset, with which actions when.

`load` takes ActivityNet JSON, the W-TALC folder of .npy files, the THUMOS14 evaluation kit's folder of text files and
CSV; `in_subset` picks the videos of a subset, `table` makes the ground-truth table out of them.

What the dialects are like, as the files that people hold show it:
- Times are seconds, as numbers or as text. Durations may be absent (BaS-Net's THUMOS14 JSON has none).
- Subsets go by any name: validation videos of ActivityNet1.2 are "validation" in one file and "test" in another.
- ActivityNet1.2 has segments of no length ([0, 0]): they are dropped and counted, the label still holds for the video.
  In 21 of its videos a segment is listed twice; it stays so, as the official evaluator counts it twice.
- W-TALC's labels_all.npy and the labels of its segments disagree on 28 THUMOS14 videos, 8 of them for training:
  `video_labels="segments"` (default) takes the labels of the segments, `"labels_all"` the other file.
- W-TALC's ActivityNet1.2 folder calls its videos video_4, ..., which is also the order of the joint feature file; the
  YouTube id, the name everywhere else, is read from url.npy into `alias`.
- The test set of THUMOS14 is 213 videos, of which video_test_0001292 has Ambiguous segments only: 212 here. Segments of
  video_test_0000270 run far past its end; BaS-Net's 210 are without that one and video_test_0001496.
"""
import csv
import io
import math
import os
import pathlib
import re
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pandas as pd

from formats.files import InputError, load_json, open_file, show
from formats.npy import load_npy

COLUMNS = ("video", "t_start", "t_end", "label")
AMBIGUOUS = "Ambiguous"             # the name of the segments that the THUMOS14 protocols neither count nor punish
SUBSET_ALIASES = ({"train", "training"}, {"test", "testing"}, {"val", "validation"})
PAST_END = 0.1                      # s; durations are rounded, and ActivityNet's segments end up to 5 ms after them
EVALKIT_IDS = {"BaseballPitch": 7, "BasketballDunk": 9, "Billiards": 12, "CleanAndJerk": 21, "CliffDiving": 22,
               "CricketBowling": 23, "CricketShot": 24, "Diving": 26, "FrisbeeCatch": 31, "GolfSwing": 33,
               "HammerThrow": 36, "HighJump": 40, "JavelinThrow": 45, "LongJump": 51, "PoleVault": 68, "Shotput": 79,
               "SoccerPenalty": 85, "TennisSwing": 92, "ThrowDiscus": 93, "VolleyballSpiking": 97}


@dataclass(frozen=True, eq=False)
class VideoAnnotation:
    """One video. `labels` are video-level, sorted and unique; `segments` are (n, 2) float64 in seconds."""
    name: str
    subset: str
    duration: float | None          # s; None where the file has none
    segments: np.ndarray            # (n, 2)
    segment_labels: tuple           # n class names
    labels: tuple
    rows: np.ndarray | None = None  # (n,) place of each segment in the file, which the order of the table follows
    alias: str | None = None        # the YouTube id where `name` is anonymous


@dataclass(frozen=True, eq=False)
class Annotations:
    """A whole annotation file or folder."""
    path: str
    videos: dict                    # name -> VideoAnnotation, in file order
    classes: tuple                  # class names, sorted
    ambiguous: pd.DataFrame         # video, t_start, t_end, label; every label "Ambiguous"; often empty
    notes: tuple                    # what was odd, one line each, with counts


def load(path, video_labels="segments"):
    """Read annotations of any dialect, told apart by looking.

    A .json file is ActivityNet's (`database -> video -> subset, annotations[label, segment]`, `duration` optional), a
    .csv file has the columns video, t_start, t_end, label and, if it likes, subset and duration; a folder is W-TALC's
    (videoname.npy, ...) or the evaluation kit's (detclasslist.txt, CLASS_test.txt, Ambiguous_test.txt). A segment of
    class "Ambiguous" goes to `.ambiguous`, not to the video.
    video_labels: "segments", or "labels_all" for W-TALC's labels_all.npy.
    Zero-length and reversed segments are dropped, segments past the video's end kept; both are counted in the notes.
    Raises InputError, naming file and video, for times that are no finite numbers >= 0, empty names, repeated videos,
    labels outside the class list, missing files or parts.
    """
    if video_labels not in ("segments", "labels_all"):
        raise ValueError(f"video_labels: found {video_labels!r}, expected 'segments' or 'labels_all'")
    folder = pathlib.Path(path)
    try:
        inside = os.listdir(folder) if os.path.isdir(folder) else None
    except OSError as error:
        raise InputError(f"{path}: found {error.strerror}, expected a folder that can be read") from None
    if inside is not None and "videoname.npy" in inside:
        return _load_wtalc(folder, inside, video_labels)
    if video_labels == "labels_all":
        raise InputError(f"{path}: found no labels_all.npy, expected a W-TALC folder for video_labels='labels_all'")
    if inside is not None and "detclasslist.txt" in inside:
        return _load_evalkit(folder, inside)
    if inside is not None:
        raise InputError(f"{path}: found a folder without annotations, expected videoname.npy (W-TALC) or "
                         f"detclasslist.txt (evaluation kit) in it, or a .json or .csv file as the path")
    readers = {".json": _load_activitynet, ".csv": _load_csv}
    if folder.suffix.lower() not in readers:
        with open_file(path):
            raise InputError(f"{path}: found a file of type {folder.suffix or '(none)'}, expected .json, .csv or a "
                             f"folder")
    return readers[folder.suffix.lower()](path)


def in_subset(annotations, subset):
    """The videos of a subset, in file order: those of exactly that name, else of its group of names, in any case.

    The groups are train/training, test/testing and val/validation. Raises InputError that names the subsets found.
    """
    found = Counter(video.subset for video in annotations.videos.values())
    wanted = {subset}
    if subset not in found:
        low = str(subset).lower()
        group = next((g for g in SUBSET_ALIASES if low in g), {low})
        wanted = {name for name in found if name.lower() in group}
    if not wanted & set(found):
        listed = ", ".join(f"{show(name) if name else '(none given)'} ({_some(n, 'video')})"
                           for name, n in sorted(found.items()))
        raise InputError(f"{annotations.path}: found the subsets {listed}, expected {show(subset)}")
    return [video for video in annotations.videos.values() if video.subset in wanted]


def choose_subsets(annotations, train="auto", test="auto"):
    """The names (train, test) of the subsets to train and to test on; a name that is not "auto" is kept as it is.

    Auto takes what the dialects mean: train or training if there is one, else validation (THUMOS14 trains on its
    validation videos); to test, the first of test, testing, val, validation that is not that one and has a segment
    (ActivityNet's testing videos have none). Raises InputError, naming the subsets found, where that leaves none.
    """
    found = {video.subset: False for video in annotations.videos.values()}
    for video in annotations.videos.values():
        found[video.subset] |= len(video.segments) > 0
    names = {subset.lower(): subset for subset in found}
    if train == "auto":
        train = next((names[n] for n in ("train", "training", "val", "validation") if n in names), None)
    if test == "auto":
        test = next((names[n] for n in ("test", "testing", "val", "validation")
                     if n in names and names[n] != train and found[names[n]]), None)
    if train is None or test is None:
        listed = ", ".join(show(name) if name else "(none given)" for name in sorted(found))
        raise InputError(f"{annotations.path}: found the subsets {listed}, expected one to train and one to test on, "
                         f"by name or with --train-subset and --test-subset")
    return train, test


def table(videos):
    """The segments of VideoAnnotations as a table video, t_start, t_end, label, in the order of the file."""
    segments = np.concatenate([np.zeros((0, 2))] + [video.segments for video in videos])                    # (N, 2)
    rows = pd.DataFrame({"video": np.repeat(np.array([v.name for v in videos], dtype=object),
                                            [len(v.segments) for v in videos]),
                         "t_start": segments[:, 0], "t_end": segments[:, 1],
                         "label": np.array([c for v in videos for c in v.segment_labels], dtype=object)})
    if videos and all(video.rows is not None for video in videos):
        order = np.argsort(np.concatenate([video.rows for video in videos]), kind="stable")
        rows = rows.iloc[order].reset_index(drop=True)
    return rows


def wtalc_names(folder):
    """The video names of a W-TALC annotation folder: the order of the arrays in its joint feature file."""
    path = pathlib.Path(folder) / "videoname.npy"
    names = [_text(name, path, f"entry {i}", "name") for i, name in enumerate(load_npy(path).reshape(-1).tolist())]
    twice = [name for name, n in Counter(names).items() if n > 1]
    if twice:
        raise InputError(f"{path}: {twice[0]}: found this video {names.count(twice[0])} times, expected once")
    return names


# ---- the dialects ----------------------------------------------------------------------------------------------------

def _load_activitynet(path):
    content = load_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("database"), dict):
        found = f"the keys {show(list(content))}" if isinstance(content, dict) else f"a {type(content).__name__}"
        raise InputError(f"{path}: found {found}, expected a JSON object with 'database': {{video: ...}}")
    entries, row = [], 0
    for name, video in content["database"].items():
        if not isinstance(video, dict) or not isinstance(video.get("annotations"), list):
            raise InputError(f"{path}: {name}: found {show(video)}, expected an object with a list 'annotations'")
        segments = []
        for a in video["annotations"]:
            if not isinstance(a, dict) or "segment" not in a or "label" not in a:
                raise InputError(f"{path}: {name}: found the annotation {show(a)}, expected 'segment' and 'label'")
            segments.append((a["segment"], a["label"], row))
            row += 1
        entries.append((name, video.get("subset"), video.get("duration"), segments))
    return _annotations(path, entries)


def _load_wtalc(folder, inside, video_labels):
    names = wtalc_names(folder)

    def column(file, required=True, lists=False):
        """A value per video; with `lists`, a list of values per video."""
        if not required and file not in inside:
            return None
        values = load_npy(folder / file)
        if values.ndim == 2 and not lists:                          # THUMOS14's duration.npy is (412, 1)
            values = values.reshape(-1)
        if values.ndim == 0 or len(values) != len(names):
            raise InputError(f"{folder / file}: found shape {values.shape}, expected {len(names)} entries as in "
                             f"videoname.npy")
        values = values.tolist()
        for name, value in zip(names, values):
            if lists and not _is_list(value):
                raise InputError(f"{folder / file}: {name}: found {show(value)}, expected a list")
        return values

    subsets, durations, urls = column("subset.npy"), column("duration.npy", False), column("url.npy", False)
    labels, segments = column("labels.npy", lists=True), column("segments.npy", lists=True)
    labels_all = column("labels_all.npy", required=video_labels == "labels_all", lists=True)
    classes = [_text(name, folder / "classlist.npy", f"entry {i}", "class name")
               for i, name in enumerate(load_npy(folder / "classlist.npy").reshape(-1).tolist())]
    entries, row = [], 0
    for i, name in enumerate(names):
        if len(segments[i]) != len(labels[i]):
            raise InputError(f"{folder}: {name}: found {len(segments[i])} segments and {len(labels[i])} labels, "
                             f"expected as many of both")
        entries.append((name, subsets[i], durations[i] if durations else None,
                        [(s, label, row + k) for k, (s, label) in enumerate(zip(segments[i], labels[i]))]))
        row += len(segments[i])
    aliases = None
    if urls is not None:
        ids = [re.search(r"[?&]v=([\w-]{11})", _text(url, folder / "url.npy", name, "URL"))
               for name, url in zip(names, urls)]
        aliases = [match and match[1] for match in ids]
    given = labels_all and [[_text(label, folder / "labels_all.npy", name, "label") for label in value]
                            for name, value in zip(names, labels_all)]
    ambiguous = _read_segments(folder / "Ambiguous_test.txt") if "Ambiguous_test.txt" in inside else ()
    return _annotations(folder, entries, classes=classes, ambiguous=ambiguous, aliases=aliases, given_labels=given,
                        use_given=video_labels == "labels_all")


def _load_evalkit(folder, inside):
    classes = []
    for number, fields in _fields(folder / "detclasslist.txt"):
        where = f"{folder / 'detclasslist.txt'}: line {number}"
        if len(fields) != 2 or not re.fullmatch("[0-9]{1,9}", fields[0]):
            raise InputError(f"{where}: found {show(' '.join(fields))}, expected 'id class'")
        if EVALKIT_IDS.get(fields[1], int(fields[0])) != int(fields[0]):
            raise InputError(f"{where}: found id {fields[0]} for {fields[1]}, expected {EVALKIT_IDS[fields[1]]}")
        classes.append(fields[1])
    unlisted = {file[:-len("_test.txt")] for file in inside if file.endswith("_test.txt")} - {*classes, AMBIGUOUS}
    if unlisted:
        raise InputError(f"{folder}: found {sorted(unlisted)[0]}_test.txt, expected only classes of detclasslist.txt")
    videos, row = {}, 0
    for label in classes:
        for video, start, end in _read_segments(folder / f"{label}_test.txt"):
            videos.setdefault(video, []).append(((start, end), label, row))
            row += 1
    notes, ambiguous = [], []
    if "Ambiguous_test.txt" in inside:
        ambiguous = _read_segments(folder / "Ambiguous_test.txt")
    else:
        notes.append(f"{folder}: no Ambiguous_test.txt, so no detection is excused for lying on an ambiguous segment")
    entries = [(name, "test", None, segments) for name, segments in videos.items()]
    return _annotations(folder, entries, classes=classes, ambiguous=ambiguous, notes=notes)


def _load_csv(path):
    reader = csv.reader(io.StringIO(_text_of(path), newline=""), strict=True)
    header, videos = None, {}
    try:
        for row, fields in enumerate(reader):
            fields = [field.strip() for field in fields]
            if header is None:
                header = fields
                if set(COLUMNS) - set(header) or "score" in header or len(set(header)) < len(header):
                    raise InputError(f"{path}: found the columns {show(', '.join(header))}, expected a ground truth: "
                                     f"{', '.join(COLUMNS)}[, subset, duration]")
                continue
            if not any(fields):
                continue
            if len(fields) != len(header):
                raise InputError(f"{path}: line {reader.line_num}: found {len(fields)} fields, expected {len(header)}")
            cells = dict(zip(header, fields))
            name = _text(cells["video"], path, f"line {reader.line_num}", "video name")
            about = cells.get("subset"), cells.get("duration")
            first, segments = videos.setdefault(name, (about, []))
            if first != about:
                raise InputError(f"{path}: {name}: found subset and duration {about} in line {reader.line_num}, "
                                 f"expected {first} as above")
            segments.append(((cells["t_start"], cells["t_end"]), cells["label"], row))
    except csv.Error as error:
        raise InputError(f"{path}: line {reader.line_num}: found {error}, expected CSV") from None
    return _annotations(path, [(name, subset, duration or None, segments)
                               for name, ((subset, duration), segments) in videos.items()],
                        subset_given="subset" in (header or ()))


def _text_of(path):
    with open_file(path) as (file, _):
        data = file.read()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: found bytes at {error.start} that are not UTF-8, expected a text file") from None


def _fields(path):
    """(line number, words) of the lines of a text file that are not blank."""
    return [(number, line.split()) for number, line in enumerate(_text_of(path).splitlines(), 1) if line.strip()]


def _read_segments(path):
    """The lines 'video start end' of an evaluation-kit file."""
    segments = []
    for number, fields in _fields(path):
        if len(fields) != 3:
            raise InputError(f"{path}: line {number}: found {show(' '.join(fields))}, expected 'video start end'")
        segments.append((fields[0], *_segment(fields[1:], path, fields[0])))
    return segments


# ---- from raw entries to checked objects -----------------------------------------------------------------------------

def _annotations(path, entries, classes=None, ambiguous=(), aliases=None, given_labels=None, use_given=False, notes=(),
                 subset_given=True):
    """Check the entries (name, subset, duration, [(segment, label, row)]) and make the Annotations of them.

    classes: the class list where the dialect has one; given_labels: video-level labels beside those of the segments.
    """
    if not entries:
        raise InputError(f"{path}: found no video, expected some")
    if classes is not None and len(set(classes)) < len(classes):
        raise InputError(f"{path}: found the class list {show(sorted(classes))} with a class twice, expected each once")
    listed = None if classes is None else set(classes)
    videos, dropped, past, differing = {}, [], [], []
    ambiguous, stray = list(ambiguous), 0
    for i, (name, subset, duration, segments) in enumerate(entries):
        name = _text(name, path, f"video {i}", "video name")
        subset = _text(subset, path, name, "subset") if subset_given else ""
        if duration is not None:
            duration = _number(duration, path, name, "duration")
            if duration == 0:
                raise InputError(f"{path}: {name}: found duration 0, expected seconds above 0")
        kept, kept_labels, kept_rows, labels = [], [], [], set()
        for segment, label, row in segments:
            label = _text(label, path, name, "label")
            start, end = _segment(segment, path, name)
            if label == AMBIGUOUS and (listed is None or label not in listed):
                ambiguous.append((name, start, end))
                stray += 1
                continue
            if listed is not None and label not in listed:
                raise InputError(f"{path}: {name}: found label {show(label)}, expected a class of the class list")
            labels.add(label)
            if end <= start:
                dropped.append((name, start, end))
                continue
            if duration is not None and end > duration + PAST_END:
                past.append((end - duration, name))
            kept.append((start, end))
            kept_labels.append(label)
            kept_rows.append(row)
        if given_labels is not None:
            given = set(given_labels[i])
            unknown = given - listed
            if unknown:
                raise InputError(f"{path}: {name}: found label {show(min(unknown))} in labels_all.npy, expected a "
                                 f"class of the class list")
            if given != labels:
                differing.append(subset)
            labels = given if use_given else labels
        videos[name] = VideoAnnotation(name, subset, duration, np.array(kept, dtype=float).reshape(-1, 2),
                                       tuple(kept_labels), tuple(sorted(labels)), np.array(kept_rows, dtype=int),
                                       aliases[i] if aliases else None)
    notes = list(notes)
    if dropped:
        name, start, end = dropped[0]
        notes.append(f"{path}: {_some(len(dropped), 'zero-length or reversed segment')} dropped (first: {name} "
                     f"[{start:g}, {end:g}]); their labels still count for the video")
    if past:
        by, name = max(past)
        notes.append(f"{path}: {_some(len(past), 'segment')} of {_some(len({n for _, n in past}), 'video')} more than "
                     f"{PAST_END:g} s past the video's end, kept (worst: {name}, {by:.1f} s)")
    if stray:
        notes.append(f"{path}: {_some(stray, 'segment')} of class {AMBIGUOUS} set aside: no class to learn or to score")
    if differing:
        each = ", ".join(f"{n} {subset}" for subset, n in sorted(Counter(differing).items()))
        chosen = "labels_all.npy" if use_given else "the segments' labels"
        notes.append(f"{path}: labels_all.npy and the segments' labels disagree on {_some(len(differing), 'video')} "
                     f"({each}); using {chosen}")
    names = sorted(set(classes) if classes else {c for v in videos.values() for c in v.labels})
    if not names:
        raise InputError(f"{path}: found no label, expected at least one class")
    excused = pd.DataFrame(ambiguous, columns=list(COLUMNS[:3])).astype({"t_start": float, "t_end": float})
    return Annotations(str(path), videos, tuple(names), excused.assign(label=AMBIGUOUS), tuple(notes))


def _some(n, thing):
    return f"{n} {thing}{'' if n == 1 else 's'}"


def _is_list(value):
    return isinstance(value, (list, tuple)) or isinstance(value, np.ndarray) and value.ndim > 0


def _text(value, path, video, what):
    """A name, label or subset as str; bytes are read as UTF-8, or as Latin-1 where they are not."""
    if isinstance(value, bytes):
        try:
            value = value.decode("utf-8")
        except UnicodeDecodeError:
            value = value.decode("latin1")
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{path}: {video}: found {what} {show(value)}, expected a text that is not empty")
    return str(value)


def _number(value, path, video, what):
    """A time in seconds: a finite number >= 0, or its text."""
    if not isinstance(value, (int, float, str, bytes, np.integer, np.floating)) or isinstance(value, bool):
        raise InputError(f"{path}: {video}: found {what} {show(value)}, expected a number of seconds")
    try:
        number = float(value)
    except (ValueError, OverflowError):
        number = math.nan
    if not 0 <= number < math.inf:
        raise InputError(f"{path}: {video}: found {what} {show(value)}, expected a finite number of seconds >= 0")
    return number


def _segment(value, path, video):
    if not _is_list(value) or len(value) != 2:
        raise InputError(f"{path}: {video}: found segment {show(value)}, expected [start, end]")
    return _number(value[0], path, video, "segment start"), _number(value[1], path, video, "segment end")
