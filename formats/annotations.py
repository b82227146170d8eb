"""Annotations of every dialect as tables: which videos there are, in which subset, with which
actions when.

`load` takes JSON (ActivityNet, BSN and mmaction2, Charades, lists of records, what --export
writes), CSV, the W-TALC folder of .npy files and THUMOS14's folder of text files; docs/data.md
shows an example of each. The reader of a dialect yields `Row`s, as written; `_tables` checks them.

Times become seconds here, and here alone it is decided whether they can be seconds
(`unit_problem`). Whether a table of them is valid, eval_detection.check says to who scores it.
"""

import dataclasses
import difflib
import functools
import os
import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from formats import exports
from formats.files import InputError, count, load_json, open_file, show, some
from formats.names import (
    choose_test,
    choose_train,
    decoded,
    plain_label,
    same_subset,
    subset_of_file,
)
from formats.npy import load_npy
from formats.program import log
from formats.text_files import (
    NAMES,
    columns,
    missing,
    misspelt,
    read_csv,
    read_words,
    require_text,
    timed,
    to_seconds,
)

SEGMENT = ["video", "t_start", "t_end"]
PAST_END = 0.1  # s; durations are rounded, and ActivityNet's segments end up to 5 ms after them
LONGEST = 24 * 3600  # s of a video: a longer duration is one in milliseconds, or damaged
FILES = (".json", ".jsonl", ".csv")
PARTS = ("annotations", "annotation", "actions", "action", "clips", "instances", "segments")
AMBIGUOUS = "Ambiguous"  # segments that the THUMOS14 protocols neither count nor punish
_KIT = """BaseballPitch 7 BasketballDunk 9 Billiards 12 CleanAndJerk 21 CliffDiving 22
CricketBowling 23 CricketShot 24 Diving 26 FrisbeeCatch 31 GolfSwing 33 HammerThrow 36 HighJump 40
JavelinThrow 45 LongJump 51 PoleVault 68 Shotput 79 SoccerPenalty 85 TennisSwing 92 ThrowDiscus 93
VolleyballSpiking 97""".split()
EVALKIT_IDS = dict(zip(_KIT[::2], map(int, _KIT[1::2])))


class Row(NamedTuple):
    """What is written of a segment or a label, or of a video that has neither. Nothing checked."""

    where: str  # file, and line where there are lines
    video: object
    subset: object = None
    duration: object = None
    label: object = None
    segment: object = None  # [start, end]
    score: object = None


@dataclasses.dataclass(frozen=True, eq=False)
class Annotations:
    """A whole annotation file or folder."""

    path: str
    classes: tuple  # names, sorted
    # by name, as in the file: subset, duration (s; NaN: none), labels (tuple: of the segments, and
    # those without times), untimed (how many of the annotations have no times)
    videos: pd.DataFrame
    segments: pd.DataFrame  # video, t_start, t_end, label; s; in the order of the file
    ambiguous: pd.DataFrame  # video, t_start, t_end; often empty

    @functools.cached_property
    def durations(self):
        """{name: seconds} of the videos that have a duration."""
        return self.videos["duration"].dropna().to_dict()

    def only(self, names):
        """The annotations of these videos."""
        kept = self.segments[self.segments["video"].isin(names)].reset_index(drop=True)
        videos = self.videos[self.videos.index.isin(names)]
        return dataclasses.replace(self, videos=videos, segments=kept)


# ---- loading
def load(path, video_labels="segments"):
    """Read annotations of any dialect; which one it is, the content says.

    path: a .json, .jsonl or .csv file; a folder of W-TALC (videoname.npy, ...), of THUMOS14
    (CLASS_val.txt, CLASS_test.txt), or with a file per subset (..._train.json, ..._val.json). A
    segment of class "Ambiguous" goes to `.ambiguous`, not to the video.
    video_labels: "segments", or "labels_all" for W-TALC's labels_all.npy.
    Zero-length and reversed segments are dropped, segments past the video's end kept; a warning
    counts them.
    Raises InputError, naming file and video, for times that are no finite numbers >= 0, empty
    names, contradictory lines, labels outside the class list, missing files or parts.
    """
    if video_labels not in ("segments", "labels_all"):
        raise ValueError(f"video_labels: found {video_labels!r}, expected segments or labels_all")
    folder = Path(path)
    try:
        inside = os.listdir(folder) if folder.is_dir() else None
    except OSError as error:
        raise InputError(path, error.strerror, "a folder that can be read") from None
    if inside is not None and "videoname.npy" in inside:
        return _sound(_read_wtalc(folder, video_labels))
    if video_labels == "labels_all":
        raise InputError(path, "no labels_all.npy", "a W-TALC folder for labels_all")
    files = [folder] if inside is None else _subset_files(folder)
    if files and "detclasslist.txt" not in (inside or ()):
        return _sound(_tables(path, [row for file in files for row in _read_file(file)]))
    if "detclasslist.txt" in inside or _thumos_files(folder):
        return _sound(_tables(path, *_read_thumos(folder)))
    raise InputError(
        path,
        f"a folder without annotations ({some(sorted(inside), 3) or 'empty'})",
        "videoname.npy (W-TALC), CLASS_val.txt or CLASS_test.txt (THUMOS14), ..._train.json, "
        "..._test.json in it, or a .json, .jsonl or .csv file as the path",
    )


def _read_file(path):
    """Rows of a file of FILES; without any subset in it, that of its name."""
    rows = list(read_rows(path))
    if any(row.score is not None for row in rows):
        raise InputError(path, "scores", "a ground truth; are these detections?")
    if all(row.subset is None for row in rows):
        rows = [row._replace(subset=subset_of_file(path.stem) or "") for row in rows]
    return rows


def _subset_files(folder):
    """The files in a folder whose names end with a subset, as anet_anno_train.json does."""
    return [
        path
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in FILES and subset_of_file(path.stem) and path.name[0] != "."
    ]


# ---- from rows to tables
def _tables(path, rows, classes=None, excused=()):
    """Checks `Row`s and makes the Annotations of them. classes: the class list where the dialect
    has one; excused: rows of ambiguous segments from a file beside them."""
    listed = set(classes or ())
    if len(listed) < len(classes or ()):
        raise InputError(path, f"the class list {show(sorted(classes))}", "each class once")
    videos, segments, ambiguous = {}, [], [_segment(row) for row in excused]
    for row in rows:
        name = require_text(row.where, row.video, "video name")
        where = f"{row.where}: {name}"
        video = _merged(where, row, videos.setdefault(name, {"labels": set(), "untimed": 0}))
        if row.label is None:
            continue
        label = require_text(where, row.label, "label")
        if label == AMBIGUOUS and label not in listed:
            ambiguous += [_segment(row)] if row.segment is not None else []
            continue
        if classes is not None and label not in listed:
            raise InputError(where, f"label {show(label)}", "a class of the class list")
        video["labels"].add(label)
        video["untimed"] += row.segment is None
        segments += [(*_segment(row), label)] if row.segment is not None else []
    for name, video in videos.items():
        if "subset" not in video:
            raise InputError(f"{path}: {name}", "no subset", "one, as other videos have")
        video["labels"] = tuple(sorted(video["labels"]))
    if ambiguous and not excused:
        aside = f"{count(ambiguous, 'segment')} of class {AMBIGUOUS} set aside"
        log.warning(f"{path}: {aside}: no class to learn or to score")
    names = sorted(listed or {label for video in videos.values() for label in video["labels"]})
    if not videos or not names:
        found, expected = ("no label", "at least one class") if videos else ("no video", "some")
        raise InputError(path, found, expected)
    about = ["subset", "duration", "labels", "untimed"]
    of_videos = pd.DataFrame(list(videos.values()), pd.Index(videos, dtype=object), about)
    return Annotations(
        str(path),
        tuple(names),
        of_videos.astype({"subset": object, "duration": float}),
        frame(segments, [*SEGMENT, "label"]),
        frame(ambiguous, SEGMENT),
    )


def _merged(where, row, video):
    """`video` {labels, subset, duration} with what a row says of it. InputError where that is
    another subset or duration than before."""
    said = {"subset": row.subset, "duration": row.duration}
    if row.subset not in (None, ""):
        said["subset"] = require_text(where, row.subset, "subset")
    if row.duration is not None:
        said["duration"] = to_seconds(where, row.duration, "duration")
        if said["duration"] <= 0:
            raise InputError(where, f"duration {show(row.duration)}", "seconds above 0")
    for what, value in said.items():
        first = value if value is None else video.setdefault(what, value)
        if first != value:
            raise InputError(where, f"{what} {first!r} and {value!r} of this video", "one")
    return video


def _segment(row):
    """(video, start, end); seconds."""
    video = require_text(row.where, row.video, "video name")
    return video, *segment_times(f"{row.where}: {video}", row.segment)


def segment_times(where, segment):
    """(start, end) of a segment as written. InputError unless these are two finite numbers."""
    if not _is_list(segment) or len(segment) != 2:
        raise InputError(where, f"segment {show(segment)}", "[start, end]")
    times = zip(segment, ("segment start", "segment end"))
    return tuple(to_seconds(where, value, what) for value, what in times)


def frame(rows, names):
    """A table of rows (video, t_start, t_end[, label[, score]]): times and scores are floats."""
    kinds = {name: object if name in ("video", "label") else float for name in names}
    return pd.DataFrame(rows, columns=names).astype(kinds)


def _sound(truth):
    """The annotations without segments of no length and impossible durations; warns of both, and
    of what else looks wrong. InputError for a time before 0."""
    path, table, durations = truth.path, truth.segments, truth.videos["duration"]
    early = table[table[["t_start", "t_end"]].min(axis=1) < 0]
    if len(early):
        video, start, end, _ = early.iloc[0]
        raise InputError(f"{path}: {video}", f"segment [{start:g}, {end:g}]", "times from 0 on")
    empty = table["t_end"] <= table["t_start"]
    if empty.any():
        video, start, end, _ = table[empty].iloc[0]
        log.warning(
            f"{path}: {count(int(empty.sum()), 'zero-length or reversed segment')} dropped (first: "
            f"{video} [{start:g}, {end:g}]); their labels still count for the video"
        )
    endless = durations[durations > LONGEST]
    if len(endless):
        log.warning(
            f"{path}: {count(len(endless), 'duration')} of more than a day not used (such as "
            f"{endless.index[0]}: {endless.iloc[0] / LONGEST:.3g} days): are they in milliseconds?"
        )
    _warn_names(path, Counter(truth.videos["subset"]), truth.classes)
    table, durations = table[~empty].reset_index(drop=True), durations.mask(durations > LONGEST)
    warn_outside(path, table, durations, PAST_END)
    videos = truth.videos.assign(duration=durations)
    return dataclasses.replace(truth, segments=table, videos=videos)


def _warn_names(path, subsets, classes):
    """Warns of a subset that is nearly a larger one (trainng), and of classes that differ by case
    and signs alone."""
    for name, n in subsets.items():
        larger = [other for other in subsets if subsets[other] > n and name.isalpha()]
        for other in difflib.get_close_matches(name, larger, 1, 0.85):
            if not same_subset(name, [other]):
                found = f"{count(n, 'video')} in the subset {show(name)}"
                log.warning(f"{path}: found {found}: is it {other}?")
    alike = defaultdict(list)
    for label in classes:
        alike[plain_label(label)].append(show(label))
    for labels in alike.values():
        if len(labels) > 1:
            log.warning(f"{path}: {some(labels)} are different classes")


# ---- subsets
def in_subset(annotations, names):
    """The rows of `.videos` in a subset, or in several: those of exactly that name, else of its
    group of names, in any case.

    The groups are train/training, test/testing and val/validation. Raises InputError that
    names the subsets found.
    """
    times, wanted = Counter(annotations.videos["subset"]), []
    for name in [names] if isinstance(names, str) else names:
        same = same_subset(name, times)
        if not same:
            there = [f"{_called(one)} ({count(n, 'video')})" for one, n in sorted(times.items())]
            raise InputError(annotations.path, f"the subsets {some(there, 20)}", show(name))
        wanted += same
    return annotations.videos[annotations.videos["subset"].isin(wanted)]


def choose_subsets(annotations, train="auto", test="auto"):
    """The names of the subsets (to train on, to test on), two tuples. A name or several that are
    not "auto" are kept as they are; a test on "none" is ().

    Auto takes what the dialects mean: to train, the training subset, else the validation subset
    (THUMOS14 trains on its validation videos), and without a test else all; to test, the test or
    the validation subset that is not that one, with segments if one of them has some (ActivityNet's
    testing videos have none).
    Raises InputError, naming the subsets found, where that leaves none.
    """
    found, annotated = subset_names(annotations)
    train, test = ((x,) if isinstance(x, str) else tuple(x) for x in (train, test))
    if train == ("auto",):
        every = tuple(found) if test == ("none",) else ()
        train = tuple(filter(None, [choose_train(found)])) or every
    if test == ("auto",):
        test = tuple(filter(None, [choose_test(found, annotated, train)]))
    if not train or not test:
        raise InputError(
            annotations.path,
            f"the subsets {', '.join(map(_called, sorted(found)))}",
            "one to train and one to test on: name them with --train-subset and --test-subset "
            "(none: no test), or add them to the file (subset of each video), or give a folder "
            "with a file per subset (..._train.json, ..._test.json)",
        )
    return train, () if test == ("none",) else test


def subset_names(annotations):
    """(names of all subsets, names of those with segments), lists in the order of the file."""
    videos = annotations.videos
    with_segments = videos[videos.index.isin(annotations.segments["video"])]
    return list(videos["subset"].unique()), list(with_segments["subset"].unique())


def _called(name):
    return show(name) if name else "(none given)"


# ---- what looks wrong
def warn_unscored(annotations, videos):
    """Warns of tested `videos`, rows of `.videos`, that have annotations without times: there they
    are localized in and not scored."""
    path, n = annotations.path, count(len(videos), "test video")
    scored = int(videos.index.isin(annotations.segments["video"]).sum())
    lost = videos["untimed"][videos["untimed"] > 0]
    if not scored:
        log.warning(
            f"{path}: none of the {n} has a segment: detections are written, and there is no table "
            "of mAP"
        )
    elif scored < len(videos):
        log.warning(
            f"{path}: {scored} of {n} have segments; detections in the other "
            f"{len(videos) - scored} count as false positives (--exclude-video leaves videos out)"
        )
    if scored and len(lost):
        log.warning(
            f"{path}: {count(int(lost.sum()), 'annotation')} of {count(len(lost), 'test video')} "
            f"without times (such as in {lost.index[0]}): the ground truth lacks them"
        )


def warn_outside(path, table, durations, seconds, share=0.0, what="segment"):
    """Warns of rows of a `table` that begin before 0, or end past their video's end by more than
    `seconds` and a `share` of the duration. durations: {video: s}; a video may be absent."""
    duration = table["video"].map(durations).astype(float)
    by = table["t_end"] - duration
    late, early = by[by > np.maximum(seconds, share * duration)], int((table["t_start"] < 0).sum())
    if len(late):
        videos = table["video"][late.index]
        log.warning(
            f"{path}: {count(len(late), what)} of {count(videos.nunique(), 'video')} more than "
            f"{seconds:g} s past the video's end, kept (worst: {videos[late.idxmax()]}, "
            f"{late.max():.1f} s)"
        )
    if early:
        log.warning(f"{path}: {count(early, what)} of {len(table)} before the video's start, kept")


def unit_problem(path, table, durations, what="segment"):
    """The InputError for times that cannot be seconds: half of the rows end later than 1.5 times
    their video's duration. None else. durations: {video: seconds}; a video may be absent."""
    duration = table["video"].map(durations).astype(float)
    parts = (table["t_end"] / duration).dropna()
    if not len(parts) or parts.median() < 1.5:
        return None
    at, late = parts.idxmax(), int((table["t_end"] > duration + PAST_END).sum())
    return InputError(
        path,
        f"{late} of {count(len(parts), what)} past the end of their video (such as "
        f"{table['video'][at]}: a {what} ends at {table['t_end'][at]:g}, the video at "
        f"{duration[at]:.4g} s)",
        "seconds: are these frames (divide them by the frames per second) or milliseconds? If "
        "they are seconds, the durations are wrong",
    )


# ---- JSON and CSV
def read_rows(path, wanted=("video", "label")):
    """Yields the `Row`s of a file of FILES. wanted: the names of text_files.NAMES that a CSV file
    must have; without "score" among them, the scores that --export has written are dropped."""
    path, seen = Path(path), {}
    if path.suffix.lower() not in FILES:
        with open_file(path):
            found = f"a file of type {path.suffix or '(none)'}"
            raise InputError(path, found, f"{', '.join(FILES)} or a folder")
    if path.suffix.lower() == ".csv":
        yield from _csv_rows(path, wanted, seen)
    else:
        content = load_json(path)
        exported = exports.records(path, content, scores="score" in wanted)
        content = content if exported is None else exported
        for number, (name, item) in enumerate(_objects(path, content), 1):
            above = {} if name is None else {"video": name}
            where = f"{path}: record {number}" if name is None else path
            yield from _object_rows(where, item, above, seen)
    _check_names(path, seen)


def _check_names(path, seen):
    """InputError for times that are no seconds by their name (startFrame); warns of misspelt names.

    seen: {names of an object or a line: whether it is one of a segment}.
    """
    odd, times = {}, ("segment", "t_start", "t_end")
    for names, of_segment in seen.items():
        found = columns(names)
        if not found.keys() & set(times):
            near = misspelt(names, times)
            if of_segment and "label" in found and timed(names) and not near:
                there = show(", ".join(names))
                raise InputError(path, there, "times in seconds: t_start and t_end, or segment")
            odd |= near
        odd |= misspelt(names, ("label", "subset", "duration"))
    for name in [name for name in odd if name not in PARTS]:
        usual = NAMES[odd[name]].split()[0]
        log.warning(f"{path}: found the name {show(name)}, which is not read: is it {usual}?")


def _objects(path, content):
    """[(video's name or None, object)] of a JSON file: ActivityNet's `database` or `results`, the
    videos themselves as BSN, BMN and mmaction2 have them, or a list of records, also under a
    key."""
    inner = content
    if isinstance(content, dict):
        lists = [value for value in content.values() if _are_records(value)] or [content]
        inner = content.get("database", content.get("results", lists[0]))
    if isinstance(inner, list):
        return [(None, item) for item in inner]
    about = ("version", "taxonomy", "external_data") if inner is content else ()
    if not isinstance(inner, dict) or not inner.keys() - set(about) and inner is content:
        read = "'database': {video: ...}, videos at the top, or a list of records"
        raise InputError(path, f"JSON {show(content)}", read)
    return [(name, item) for name, item in inner.items() if name not in about]


def _are_records(value):
    """Whether these are objects that say of which video they are."""
    if not isinstance(value, list) or not value or not isinstance(value[0], dict):
        return False
    return columns(tuple(value[0])).get("video") not in (None, "id", "name")


def _object_rows(where, item, above, seen, level=0):
    """Rows of an object: a video, a segment in its list, a clip with a list of its own, a record.

    above: {video, subset, duration} as the objects around it say, {} for a record; level: how many
    lists are around it; seen: of `_check_names`.
    """
    place = f"{where}: {above['video']}" if "video" in above else where
    if isinstance(item, list) and above and not level:  # {video: [segments]}, as detections are
        item = {"annotations": item}
    elif isinstance(item, list) and len(item) == 3:  # Charades, MultiTHUMOS
        item = {"label": item[0], "segment": item[1:]}
    if not isinstance(item, dict) or level > 4:
        expected = "an object with a list 'annotations', in it labels or [class, start, end]"
        raise InputError(place, show(item), expected)
    at = columns(tuple(item))
    seen[tuple(item)] = seen.get(tuple(item)) or level > 0 or not above
    if not level:
        own = {name: item[at[name]] for name in ("video", "subset", "duration") if name in at}
        above = {name: value for name, value in own.items() if value not in ("", None)} | above
        if "video" not in above.keys() | at.keys():
            raise missing(place, item, ["video"])
    parts = _parts(place, item, at)
    if parts is None and "label" not in at:
        if level:
            raise missing(place, item, ["label"])
        if not at or any(isinstance(value, list) for value in item.values()):
            raise InputError(place, show(item), "an object with a list 'annotations'")
    rows = []
    for part in parts or ():
        rows += _object_rows(where, part, above, seen, level + 1)
    rows = rows or list(_labelled(where, item, at, above))
    yield from rows if rows or level else [Row(where, **{"video": None, **above})]


def _parts(place, item, at):
    """The objects in a list below an object; [] for an empty list, None without one."""
    for key in (*PARTS, at.get("label")):
        value = item.get(key)
        if key in ("annotations", "actions"):
            if not isinstance(value, (list, type(None))):
                raise InputError(place, f"{key} {show(value)}", f"an object with a list '{key}'")
            if value:
                return value
        elif isinstance(value, list) and value and isinstance(value[0], (dict, list)):
            if key != "segments" or isinstance(value[0], dict):
                return value
    return [] if any(key in item for key in PARTS) else None


def _labelled(where, item, at, above):
    """Rows of an object's own labels, each with its time where it has one."""
    above = {"video": None, **above}
    label, score = item.get(at.get("label")), item.get(at.get("score"))
    labels = label if isinstance(label, list) else [] if label is None else [label]
    segment = [item.get(at.get(name)) for name in ("t_start", "t_end")]
    segment = item[at["segment"]] if "segment" in at else segment
    segment = None if segment in ([], [None, None]) else segment
    segments = item.get("segments")
    if not segments or isinstance(segments, str):
        segments = [segment] * len(labels)
    if not _is_list(segments) or len(segments) != len(labels) or segment and not labels:
        found = f"labels {show(labels)} and segments {show(segments if labels else segment)}"
        raise InputError(f"{where}: {above['video']}", found, "as many of both")
    for label, segment in zip(labels, segments):
        yield Row(where, **above, label=label, segment=segment, score=score)


def _csv_rows(path, wanted, seen):
    """Rows of CSV with a line per segment, a line per video and label, or a line per video with
    Charades' `actions`."""
    header, lines = read_csv(path)
    at, charades = columns(tuple(header)), "actions" in header
    timed_too = ("t_start", "t_end") if {"t_start", "t_end"} & at.keys() else ()
    wanted = ["video"] if charades else [*wanted, *timed_too]
    if not set(wanted) <= at.keys():
        raise missing(path, header, wanted)
    if not charades:
        seen[tuple(header)] = True
    for line, fields in lines:
        where, item = f"{path}: line {line}", {name: text or None for name, text in fields.items()}
        above = {name: item[at[name]] for name in ("video", "subset", "duration") if name in at}
        if charades:  # "c092 11.90 21.20;c147 0.00 12.60"
            actions = [one.split() for one in fields["actions"].split(";") if one.strip()]
            item = {"annotations": actions, "duration": item.get("length"), **above}
            rows = _object_rows(where, item, {}, seen)
        elif at["label"] == at.get("labels"):  # "a;b" in a column called labels
            several = [one for one in fields[at["label"]].split(";") if one.strip()]
            rows = _labelled(where, {**item, at["label"]: several}, at, above)
        else:
            rows = _labelled(where, item, at, above)
        yield from list(rows) or [Row(where, **above)]


# ---- W-TALC
def wtalc_names(folder):
    """The videos of a W-TALC annotation folder, in the order of its joint feature file: by the
    YouTube id where url.npy has one, else as in videoname.npy."""
    renamed = youtube_ids(folder)
    return [renamed.get(name, name) for name in _videoname(Path(folder))]


def youtube_ids(folder):
    """{name in videoname.npy: the YouTube id by which the video goes here}; {} without url.npy."""
    folder = Path(folder)
    if not (folder / "url.npy").is_file():
        return {}
    names = _videoname(folder)
    urls = [str(decoded(url)) for url in _wtalc_column(folder, "url", names)]
    found = [re.search(r"[?&]v=([\w-]{11})", url) for url in urls]
    times = Counter(one[1] for one in found if one)
    return {name: one[1] for name, one in zip(names, found) if one and times[one[1]] == 1}


def _videoname(folder):
    path = folder / "videoname.npy"
    names = _texts(path, "name")
    for name, n in Counter(names).items():
        if n > 1:
            raise InputError(f"{path}: {name}", f"this video {n} times", "once")
    return names


def _texts(path, what):
    """The names in a file."""
    values = map(decoded, load_npy(path).reshape(-1).tolist())
    return [require_text(f"{path}: entry {i}", value, what) for i, value in enumerate(values)]


def _read_wtalc(folder, video_labels):
    names, excused = wtalc_names(folder), folder / "Ambiguous_test.txt"
    excused = list(read_segments(excused)) if excused.exists() else []
    classes = _texts(folder / "classlist.npy", "class name")
    written = {"subset": list(map(decoded, _wtalc_column(folder, "subset", names)))}
    if (folder / "duration.npy").exists():
        written["duration"] = _wtalc_column(folder, "duration", names)
    of_file = {**written, "labels": _wtalc_column(folder, "labels", names, lists=True)}
    if (folder / "segments.npy").exists():
        of_file["segments"] = _wtalc_column(folder, "segments", names, lists=True)
    truth = _tables(folder, _wtalc_rows(folder, names, of_file), classes, excused)
    path = folder / "labels_all.npy"
    if not path.exists() and video_labels != "labels_all":
        return truth
    written["labels"] = _wtalc_column(folder, "labels_all", names, lists=True)
    labels = _tables(path, _wtalc_rows(path, names, written), classes).videos["labels"]
    differs = Counter(truth.videos["subset"][labels != truth.videos["labels"]])
    chosen = "labels_all.npy" if video_labels == "labels_all" else "the segments' labels"
    if differs:
        each = ", ".join(f"{n} {subset}" for subset, n in sorted(differs.items()))
        log.warning(
            f"{folder}: labels_all.npy and the segments' labels disagree on "
            f"{count(differs.total(), 'video')} ({each}); using {chosen}"
        )
    if video_labels == "labels_all":
        return dataclasses.replace(truth, videos=truth.videos.assign(labels=labels))
    return truth


def _wtalc_rows(where, names, written):
    """Rows of videos, of which each has a value in every one of `written`."""
    for name, *values in zip(names, *written.values()):
        item = dict(zip(written, values))
        item["labels"] = list(map(decoded, item["labels"]))
        yield from _object_rows(where, item, {"video": name}, {})


def _wtalc_column(folder, column, names, lists=False):
    """The values of a file, one a video; with `lists`, each a list of values."""
    path = folder / f"{column}.npy"
    values = load_npy(path)
    if values.ndim == 2 and not lists:  # THUMOS14's duration.npy is (412, 1)
        values = values.reshape(-1)
    if values.ndim == 0 or len(values) != len(names):
        expected = f"{len(names)} entries as in videoname.npy"
        raise InputError(path, f"shape {values.shape}", expected)
    values = values.tolist()
    for name, value in zip(names, values):
        if lists and not _is_list(value):
            raise InputError(f"{path}: {name}", show(value), "a list")
    return [list(value) for value in values] if lists else values


def _is_list(value):
    """A Python list or tuple, or an array with an axis."""
    return isinstance(value, (list, tuple)) or getattr(value, "ndim", 0) > 0


# ---- THUMOS14
def _thumos_files(folder):
    """{(subset, class): path} of the files CLASS_val.txt and CLASS_test.txt in a folder, or
    in the folders in it."""
    found = {}
    for pattern in ("*", "*/*", "*/*/*"):
        for path in sorted(folder.glob(f"{pattern}.txt")):
            label, _, subset = path.stem.rpartition("_")
            if subset in ("val", "test") and found.setdefault((subset, label), path) != path:
                raise InputError(folder, f"{found[subset, label]} and {path}", "one of the two")
        if found:
            break
    return found


def _read_thumos(folder):
    """(rows, class list, Ambiguous rows) of THUMOS14's text files, `video start end` a line.

    The evaluation kit's test annotation, the challenge's validation annotation, or both in a
    folder. The class list is detclasslist.txt if it is there, else the names of the files.
    """
    files, listed = _thumos_files(folder), folder / "detclasslist.txt"
    subsets = sorted({subset for subset, _ in files}, reverse=True) or ["test"]  # validation, test
    classes = sorted({label for _, label in files} - {AMBIGUOUS})
    if listed.exists():  # `id class` a line
        classes = [words[-1] for _, words in read_words(listed)]
    for subset, label in sorted(files):
        if label not in (*classes, AMBIGUOUS):
            raise InputError(folder, f"{label}_{subset}.txt", "only classes of detclasslist.txt")
    rows, excused = [], []
    for subset in subsets:
        name = "validation" if subset == "val" else "test"
        for label in classes:
            absent = folder / f"{label}_{subset}.txt"  # its reader refuses it in one line
            found = read_segments(files.get((subset, label), absent))
            rows += [row._replace(subset=name, label=label) for row in found]
        if (subset, AMBIGUOUS) in files:
            excused += read_segments(files[subset, AMBIGUOUS])
        elif subset == "test":
            log.warning(
                f"{folder}: no Ambiguous_test.txt, so no detection is excused for lying on an "
                "ambiguous segment"
            )
    return rows, classes, excused


def read_segments(path):
    """Yields the rows of a text file, `video start end` a line."""
    for number, words in read_words(path):
        where = f"{path}: line {number}"
        if len(words) != 3:
            raise InputError(where, show(" ".join(words)), "'video start end'")
        yield Row(where, words[0], segment=words[1:])
