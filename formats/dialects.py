"""The dialects of annotations: what a file says, video by video, with nothing checked but its form.

`read_json`, `read_csv_truth`, `read_wtalc` and `read_thumos` give a list of `Raw` videos each;
formats/annotations.py chooses the reader and checks the content. docs/data.md shows an example of
each dialect.
"""

import pathlib
import re
from collections import Counter
from typing import NamedTuple

from formats.files import InputError, load_json, show
from formats.names import decoded, subset_of_file
from formats.npy import load_npy
from formats.text_files import find, read_csv, read_words, require_text, timed, to_seconds

AMBIGUOUS = "Ambiguous"  # segments that the THUMOS14 protocols neither count nor punish
EVALKIT_IDS = {
    "BaseballPitch": 7,
    "BasketballDunk": 9,
    "Billiards": 12,
    "CleanAndJerk": 21,
    "CliffDiving": 22,
    "CricketBowling": 23,
    "CricketShot": 24,
    "Diving": 26,
    "FrisbeeCatch": 31,
    "GolfSwing": 33,
    "HammerThrow": 36,
    "HighJump": 40,
    "JavelinThrow": 45,
    "LongJump": 51,
    "PoleVault": 68,
    "Shotput": 79,
    "SoccerPenalty": 85,
    "TennisSwing": 92,
    "ThrowDiscus": 93,
    "VolleyballSpiking": 97,
}


class Raw(NamedTuple):
    """One video as the file has it."""

    name: str
    subset: str  # "" where the file names none
    duration: object  # None where there is none
    actions: list  # (row, label, segment); segment None where there are no times
    alias: str | None = None  # its YouTube id, where `name` is another


# ---- JSON
def read_json(path, rows):
    """ActivityNet's `database`, or the videos themselves at the top, as BSN, BMN and
    mmaction2 have them.

    Of a video, the actions are `annotations` (ActivityNet), `actions` (Charades,
    MultiTHUMOS) or `labels`, with or without `segments`. rows: iterator of row numbers.
    """
    content = load_json(path)
    database = content.get("database", content) if isinstance(content, dict) else None
    if not isinstance(database, dict) or (
        database is content and not any(map(_is_video, content.values()))
    ):
        found = (
            f"the keys {show(list(content))}"
            if isinstance(content, dict)
            else f"a {type(content).__name__}"
        )
        raise InputError(
            f"{path}: found {found}, expected a JSON object with 'database': {{video: ...}}, "
            "or the videos themselves, each with 'annotations', 'actions' or 'labels'"
        )
    if database is content:
        database = {
            name: video for name, video in content.items() if name not in ("version", "taxonomy")
        }
    subset_given = any(
        isinstance(video, dict) and find("subset", video) for video in database.values()
    )
    videos, of_file = [], subset_of_file(pathlib.Path(path).stem) or ""
    for name, video in database.items():
        where = f"{path}: {name}"
        actions = [(next(rows), *action) for action in _json_actions(where, video)]
        subset = require_text(where, _get("subset", video), "subset") if subset_given else of_file
        videos.append(Raw(name, subset, _get("duration", video), actions))
    return videos


def _is_video(value):
    return isinstance(value, dict) and any(
        key in value for key in ("annotations", "actions", "labels", "label")
    )


def _get(name, item):
    """The value that stands for `name` of text_files.NAMES in a JSON object; None without one."""
    return item.get(find(name, item)) if isinstance(item, dict) else None


def _json_actions(where, video):
    """(label, segment or None) of each action of a video; `where` is for messages."""
    lists = [v for v in video.values() if isinstance(v, list)] if isinstance(video, dict) else []
    known = isinstance(video, dict) and (
        _is_video(video) or not lists and (find("subset", video) or find("duration", video))
    )
    if not known:
        raise InputError(
            f"{where}: found {show(video)}, expected an object with a list 'annotations'"
        )
    if video.get("annotations"):
        return [_annotation(where, item) for item in _list(where, video, "annotations")]
    if video.get("actions"):
        return [_charades_action(where, item) for item in _list(where, video, "actions")]
    for key in ("annotations", "actions"):
        if video.get(key) is not None:
            _list(where, video, key)  # an empty list is one, an empty object is not
    labels = video.get("labels", video.get("label")) or []
    labels = labels if isinstance(labels, list) else [labels]
    segments = video.get("segments") or [None] * len(labels)
    if not isinstance(segments, list) or len(segments) != len(labels):
        raise InputError(
            f"{where}: found labels {show(labels)} and segments {show(segments)}, expected "
            "as many of both"
        )
    return list(zip(labels, segments))


def _list(where, video, key):
    if not isinstance(video[key], list):
        raise InputError(
            f"{where}: found {key} {show(video[key])}, expected an object with a list '{key}'"
        )
    return video[key]


def _annotation(where, item):
    label = _get("label", item)
    if label is None:
        raise InputError(
            f"{where}: found the annotation {show(item)}, expected 'label': its class, and "
            "'segment': [start, end] in seconds where it is known"
        )
    times = [_get("t_start", item), _get("t_end", item)]
    segment = item.get("segment", times)
    if segment is times and times == [None, None] and timed(item):
        raise InputError(
            f"{where}: found the annotation {show(item)}, expected 'segment': [start, end] "
            "in seconds"
        )
    return label, None if segment in ([], [None, None]) else segment


def _charades_action(where, item):
    if not isinstance(item, (list, tuple)) or len(item) != 3 or isinstance(item[0], bool):
        raise InputError(f"{where}: found the action {show(item)}, expected [class, start, end]")
    return str(item[0]) if isinstance(item[0], int) else item[0], item[1:]


# ---- CSV
def read_csv_truth(path, rows):
    """CSV with a line per segment, a line per video and label, or a line per video with
    Charades' `actions`.

    rows: iterator of row numbers.
    """
    table = read_csv(path)
    charades = "actions" in table.header
    times = [name for name in ("t_start", "t_end") if name in table.at and not charades]
    if (
        "video" not in table.at
        or "score" in table.at
        or len(times) == 1
        or not (charades or "label" in table.at)
    ):
        raise InputError(
            f"{path}: found the columns {show(', '.join(table.header))}, expected a ground "
            "truth: video, t_start, t_end, label[, subset, duration], or without times "
            "video, label[, subset]"
        )
    if not times and not charades and timed(table.header):
        raise InputError(
            f"{path}: found the columns {show(', '.join(table.header))}, expected times in "
            "seconds: t_start, t_end"
        )
    of_file = subset_of_file(pathlib.Path(path).stem) or ""
    several = table.at.get("labels") == table.at.get("label")  # "a;b" in a column called labels
    videos = {}
    for line, fields in table.rows:
        cell = {name: fields[at] for name, at in table.at.items()}
        if charades:  # its duration is called length
            cell.setdefault("duration", dict(zip(table.header, fields)).get("length"))
            actions = _charades_cell(f"{path}: line {line}", fields[table.header.index("actions")])
        else:
            timed_line = times and (cell["t_start"] or cell["t_end"])
            segment = (cell["t_start"], cell["t_end"]) if timed_line else None
            labels = cell["label"].split(";") if several else [cell["label"]]
            # a line without times and label is a video without any action
            actions = [(label.strip(), segment) for label in labels if label.strip() or segment]
        if not cell["video"]:
            raise InputError(
                f"{path}: line {line}: found video name '', expected a text that is not empty"
            )
        about = cell.get("subset"), cell.get("duration")
        first, listed = videos.setdefault(cell["video"], (about, []))
        if first != about:
            raise InputError(
                f"{path}: {cell['video']}: found subset and duration {about} in line {line}, "
                f"expected {first} as above"
            )
        listed += [(next(rows), *action) for action in actions]
    return [
        Raw(
            name,
            of_file if subset is None else require_text(f"{path}: {name}", subset, "subset"),
            duration or None,
            actions,
        )
        for name, ((subset, duration), actions) in videos.items()
    ]


def _charades_cell(where, text):
    """(class, (start, end)) of "c092 11.90 21.20;c147 0.00 12.60"."""
    actions = [words.split() for words in text.split(";") if words.strip()]
    for words in actions:
        if len(words) != 3:
            raise InputError(
                f"{where}: found the action {show(' '.join(words))}, expected 'class start end'"
            )
    return [(label, times) for label, *times in actions]


# ---- W-TALC
def wtalc_names(folder):
    """The video names of a W-TALC annotation folder: the order of the arrays in its joint
    feature file."""
    path = pathlib.Path(folder) / "videoname.npy"
    names = _texts(path, load_npy(path).reshape(-1).tolist(), "name")
    twice = [name for name, n in Counter(names).items() if n > 1]
    if twice:
        raise InputError(
            f"{path}: {twice[0]}: found this video {names.count(twice[0])} times, expected once"
        )
    return names


def read_wtalc(folder, rows):
    """(videos, class list, labels of labels_all.npy by video or None) of a folder of
    W-TALC's .npy files."""
    names = wtalc_names(folder)
    subsets = _texts(folder / "subset.npy", _wtalc_column(folder, "subset", names), "subset", names)
    labels = _wtalc_column(folder, "labels", names, lists=True)
    segments, labels_all, durations, urls = (
        _wtalc_column(folder, column, names, lists) if (folder / f"{column}.npy").exists() else None
        for column, lists in (
            ("segments", True),
            ("labels_all", True),
            ("duration", False),
            ("url", False),
        )
    )
    classes = _texts(
        folder / "classlist.npy",
        load_npy(folder / "classlist.npy").reshape(-1).tolist(),
        "class name",
    )
    videos = []
    for i, name in enumerate(names):
        times = list(segments[i]) if segments else []
        times = times or [None] * len(labels[i])  # no label has times, or each has
        if len(times) != len(labels[i]):
            raise InputError(
                f"{folder}: {name}: found {len(times)} segments and {len(labels[i])} labels, "
                "expected as many of both"
            )
        url = urls and re.search(r"[?&]v=([\w-]{11})", str(decoded(urls[i])))
        actions = [
            (next(rows), decoded(label), segment) for label, segment in zip(labels[i], times)
        ]
        videos.append(
            Raw(
                name,
                subsets[i],
                durations[i] if durations else None,
                actions,
                url[1] if url else None,
            )
        )
    if labels_all is not None:
        labels_all = {
            name: _texts(f"{folder / 'labels_all.npy'}: {name}", listed, "label")
            for name, listed in zip(names, labels_all)
        }
    return videos, classes, labels_all


def _wtalc_column(folder, column, names, lists=False):
    """The values of a file, one a video; with `lists`, each a list of values."""
    path = folder / f"{column}.npy"
    values = load_npy(path)
    if values.ndim == 2 and not lists:  # THUMOS14's duration.npy is (412, 1)
        values = values.reshape(-1)
    if values.ndim == 0 or len(values) != len(names):
        raise InputError(
            f"{path}: found shape {values.shape}, expected {len(names)} entries as in videoname.npy"
        )
    values = values.tolist()
    for name, value in zip(names, values):
        if lists and not is_list(value):
            raise InputError(f"{path}: {name}: found {show(value)}, expected a list")
    return values


def _texts(where, values, what, names=None):
    return [
        require_text(f"{where}: {names[i] if names else f'entry {i}'}", decoded(value), what)
        for i, value in enumerate(values)
    ]


def is_list(value):
    """Whether a value from a file is a list: a Python list or tuple, or an array with an axis."""
    return isinstance(value, (list, tuple)) or getattr(value, "ndim", 0) > 0


# ---- THUMOS14
def thumos_files(folder):
    """{(subset, class): path} of the files CLASS_val.txt and CLASS_test.txt in a folder, or
    in the folders in it."""
    found = {}
    for pattern in ("*", "*/*", "*/*/*"):
        for path in sorted(folder.glob(f"{pattern}.txt")):
            label, _, subset = path.stem.rpartition("_")
            if subset not in ("val", "test"):
                continue
            if found.setdefault((subset, label), path) != path:
                raise InputError(
                    f"{folder}: found {found[subset, label]} and {path}, expected one of the two"
                )
        if found:
            break
    return found


def read_thumos(folder, rows):
    """(videos, class list, Ambiguous segments, notes) of THUMOS14's text files, `video start end` a
    line.

    The evaluation kit's test annotation, the challenge's validation annotation, or both in a
    folder. The class list is detclasslist.txt if it is there, else the names of the files.
    """
    files, listed = thumos_files(folder), folder / "detclasslist.txt"
    subsets = sorted({subset for subset, _ in files}, reverse=True) or ["test"]  # validation, test
    if listed.exists():
        classes = _thumos_classes(listed)
    else:
        classes = sorted({label for _, label in files} - {AMBIGUOUS})
    for subset, label in sorted(files):
        if label not in (*classes, AMBIGUOUS):
            raise InputError(
                f"{folder}: found {label}_{subset}.txt, expected only classes of detclasslist.txt"
            )
    videos, ambiguous, notes = {}, [], []
    for subset in subsets:
        name = "validation" if subset == "val" else "test"
        for label in classes:
            missing = folder / f"{label}_{subset}.txt"  # its reader refuses it in one line
            path = files.get((subset, label), missing)
            for video, *segment in read_segments(path):
                entry = videos.setdefault((name, video), Raw(video, name, None, []))
                entry.actions.append((next(rows), label, segment))
        if (subset, AMBIGUOUS) in files:
            ambiguous += read_segments(files[subset, AMBIGUOUS])
        elif subset == "test":
            notes.append(
                f"{folder}: no Ambiguous_test.txt, so no detection is excused for lying on "
                "an ambiguous segment"
            )
    return list(videos.values()), classes, ambiguous, notes


def read_segments(path):
    """[(video, start, end)] of the lines of a text file; times in seconds."""
    segments = []
    for number, words in read_words(path):
        if len(words) != 3:
            raise InputError(
                f"{path}: line {number}: found {show(' '.join(words))}, expected 'video start end'"
            )
        where = f"{path}: {words[0]}"
        segments.append(
            (
                words[0],
                to_seconds(where, words[1], "segment start"),
                to_seconds(where, words[2], "segment end"),
            )
        )
    return segments


def _thumos_classes(path):
    classes = []
    for number, words in read_words(path):
        where = f"{path}: line {number}"
        if len(words) != 2 or not re.fullmatch("[0-9]{1,9}", words[0]):
            raise InputError(f"{where}: found {show(' '.join(words))}, expected 'id class'")
        if EVALKIT_IDS.get(words[1], int(words[0])) != int(words[0]):
            raise InputError(
                f"{where}: found id {words[0]} for {words[1]}, expected {EVALKIT_IDS[words[1]]}"
            )
        classes.append(words[1])
    return classes


# ---- a file per subset
def subset_files(folder):
    """The .json and .csv files in a folder whose names end with a subset, as
    anet_anno_train.json does."""
    return [
        path
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in (".json", ".csv")
        and subset_of_file(path.stem)
        and path.name[0] != "."
    ]
