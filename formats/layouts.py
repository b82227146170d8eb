"""Where the arrays of a feature set lie: one way down from a path to the arrays of each video.

Folders, files and keys (of HDF5 groups, dicts and .npz files) are steps down. A step is named after
a stream, a subset or the video; other folders and groups, such as those of classes, are searched.
`find` gives `Found`: the videos, and how the arrays of each are read. A file with one video is
opened when the video is asked for, so that a damaged one stops only those who need it.
"""

import contextlib
import math
import os
import re
import shlex
from collections import Counter
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path

import h5py
import numpy as np

from formats import annotations as annotation_files
from formats import npy
from formats.files import InputError, count, load_pt, open_file, show, some
from formats.names import SUBSETS, VIDEO_SUFFIX, decoded, subset_of_file
from formats.npy import FileArray, in_one_line
from formats.program import log

STREAMS = ("rgb", "flow")
ARRAYS = ("feats", "feature", "features")  # of several arrays of a video, the one that is read
SECONDS = ("snippet_seconds", "clip_seconds")  # attributes of an HDF5 file, or of one video in it
# The first kind that a folder has is read.
KINDS = ((".h5", ".hdf5"), (".npy", ".npz"), (".pt", ".pth"), (".pkl", ".pickle"))
SAMPLE = 8  # videos, or members of a group, are looked at to see what kind of set it is
MOST_CROPS = 32
JOINT = "JOINTFeatures.npy"  # the end of the name of W-TALC's joint file
RELEASED = ("X_RGB", "X_flow", "Name_flow")  # folders of the released code
EXPECTED = (
    "an HDF5 file, or a folder with VIDEO.npy, .npz, .pt or .pkl, or with folders rgb and flow of "
    "these (docs/data.md lists all layouts)"
)


@dataclass
class Found:
    """What lies at a path."""

    path: Path
    key: str | None = None  # the name of the array to read, where a video has several
    crops: str | None = None  # what to read of several crops in files: their "mean", the "first"
    layout: str = "per-video"
    joint: bool = False  # one array a video is RGB and flow side by side for certain
    seconds: tuple = (None, None)  # declared by the file: from clip to clip, of a clip's window
    handles: list = field(default_factory=list)  # open files
    parts: dict = field(default_factory=dict)  # (folders, name) -> {stream: (places, read)}
    seen: set = field(default_factory=set)  # groups that were searched

    def add(self, name, stream, place, read, folders=()):
        """Add a video or one stream of it.

        stream: "rgb", "flow", or None where only `read()`, which gives {stream: FileArray}, knows;
        the stream "features" is one array that is both streams side by side or the only stream.
        place: for messages. folders: those on the way that name neither a stream nor a subset.
        """
        parts, stream = self.parts.setdefault((folders, name), {}), stream or "features"
        places = (place,)
        if parts and (stream in parts or "features" in (stream, *parts)):
            held = [one for those, _ in parts.values() for one in those]
            places = tuple(dict.fromkeys((*held, place)))
            read, stream = partial(refuse_twice, self.path, name, " and ".join(places)), "features"
            parts.clear()
        parts[stream] = places, read

    def close(self):
        for handle in self.handles:
            handle.close()

    def videos(self):
        """{name: {stream: (places, read)}}; where a name lies in several folders, each has its path
        as name."""
        times = Counter(name for _, name in self.parts)
        return {
            "/".join((*folders, name)) if times[name] > 1 else name: parts
            for (folders, name), parts in self.parts.items()
        }


def refuse_twice(path, name, places):
    expected = "each video once (a second stream in a place of its own: --flow-features)"
    raise InputError(f"{path}: {name}", f"twice ({places})", expected)


def arrays_of(parts):
    """{stream: FileArray} of a video from its parts, which are opened here."""
    arrays = {}
    for stream, (_, read) in parts.items():
        held = read()
        only = {stream: held.get(stream, next(iter(held.values())))}
        arrays.update(held if stream == "features" else only)
    return arrays


def find(path, annotations=None, key=None, crops=None):
    """`Found` at a path, recognised by looking. annotations: their path, for W-TALC's joint file,
    whose order is in videoname.npy. InputError where no features can lie, or several crops."""
    found = Found(Path(path), key, crops)
    try:
        with in_one_line(path):
            if os.path.isdir(path):
                _folder(found, annotations)
            else:
                _file(found, found.path, annotations)
        if not found.parts:
            raise _nothing_found(found.path)
    except InputError:
        found.close()
        raise
    return found


def pair(rgb, flow):
    """`Found` of two sets, one per stream."""
    layout = "hdf5" if rgb.layout == "canonical" else rgb.layout
    both = Found(rgb.path, layout=layout, seconds=rgb.seconds, handles=rgb.handles + flow.handles)
    for stream, found in zip(STREAMS, (rgb, flow)):
        for name, parts in found.videos().items():
            both.add(name, stream, stream, partial(arrays_of, parts))
    return both


# ---- folders
def _folder(found, annotations):
    files = _files(found.path, set())
    searched = dict.fromkeys("/".join(folders) for *_, folders in files if folders)
    if searched:
        log.warning(f"{found.path}: the features are read from {some(searched)}")
    above = len(os.path.commonprefix([folders for *_, folders in files]))
    files = [(file, stream, folders[above:]) for file, stream, folders in files]
    first = files[0][0] if files else found.path
    if _is_joint(first):
        if len(files) > 1:
            raise InputError(found.path, f"{len(files)} files *{JOINT}", "one: name the file")
        _file(found, first, annotations)
    elif _is_released(first):
        found.layout = "released-pt"
        for folder, *_ in files:
            _released(found, folder)
    elif first.suffix.lower() in KINDS[0]:
        _h5_files(found, files)
    else:
        _per_video(found, files)


def _files(folder, seen, stream=None, folders=()):
    """[(file, its stream or None, folders)]: the array files of a folder and of those in it.

    Folders of streams and subsets belong to the set; others are searched where there is nothing
    else, and are the `folders` of what lies there. seen: the folders visited, for a link may lead
    to a folder around it.
    """
    children, here = visible(folder), os.path.realpath(folder)
    files = [child for child in children if _is_joint(child)]
    if here in seen or not files and folder / "videoname.npy" in children:
        return []  # the latter are W-TALC's annotations
    seen.add(here)
    inside = {child: stream_word(child.name) for child in children if child.is_dir()}
    if released := [child for child in (folder, *inside) if _is_released(child)]:
        return [(child, stream, folders) for child in released]
    for kind in KINDS:
        files = files or [child for child in children if child.suffix.lower() in kind]
    found = [(file, stream, folders) for file in files]
    if stream is None:
        streams = [(child, word) for child, word in inside.items() if word]
        apart = [one for child, word in streams for one in _files(child, seen, word, folders)]
        if apart and (not found or {word for _, word, _ in apart} == set(STREAMS)):
            found = apart
    others = [child for child, word in inside.items() if word is None]
    for child in others:
        if subset_of_file(child.name):
            found += _files(child, seen, stream, folders)
    for child in others if not found else ():
        found += _files(child, seen, stream, (*folders, child.name))
    return found


def _is_joint(path):
    return path.name.endswith(JOINT)


def _is_released(path):
    return (path / "X_RGB").is_dir()


def _released(found, folder):
    """The released code's folder {X_RGB,X_flow,Name_flow}/N.pt."""
    numbers = {key: {file.name for file in folder.glob(f"{key}/[!.]*.pt")} for key in RELEASED}
    for key, there in numbers.items():
        if odd := there ^ numbers["X_RGB"]:
            lengths = f"{len(numbers['X_RGB'])} files in X_RGB and {len(there)} in {key}"
            expected = f"the same N.pt in both (not so: {some(sorted(odd))})"
            raise InputError(folder, lengths, expected)
    for number in sorted(numbers["X_RGB"], key=lambda number: (len(number), number)):
        named = folder / "Name_flow" / number
        name, place = name_text(load_pt(named), named), f"{folder.name}/{number}"
        for stream, key in zip(STREAMS, RELEASED):
            found.add(name, stream, place, partial(_of_file, folder / key / number, found.key))


# ---- a file per video
def _per_video(found, files):
    """Files per video, per video and stream, or per video and crop."""
    marks = [_marked(file.stem, stream) for file, stream, _ in files]
    names = Counter(name for name, word in marks if word)
    use_marks = any(n > 1 for n in names.values()) or all(word for _, word in marks)
    if use_marks and any(stream is None for _, stream, _ in files):
        such = some((file.name for file, *_ in files), 2)
        log.warning(f"{found.path}: the streams are told by the files' names, such as {such}")
    # video_features writes VIDEO_fps.npy and VIDEO_timestamps_ms.npy beside VIDEO_clip.npy
    extras = {file: re.fullmatch(r"(.+)_(fps|timestamps_ms)", file.stem) for file, *_ in files}
    stems = {file.stem for file, extra in extras.items() if not extra}
    stems |= {stem.rpartition("_")[0] for stem in stems} | (set(names) if use_marks else set())
    named = {}  # file -> (name, stream, folders)
    for (file, stream, folders), (name, word) in zip(files, marks):
        if not extras[file] or extras[file][1] not in stems:
            marked = use_marks and word
            named[file] = (name, word, folders) if marked else (file.stem, stream, folders)
    crops = _crops(named)
    usual = max(map(len, crops.values()), default=0)
    if usual:
        such = f"{usual} crops a video in files such as {next(iter(crops.values()))[0].name}"
        if found.crops is None:
            raise InputError(found.path, such, "--crops mean (averages them) or --crops first")
        log.warning(f"{found.path}: found {such}; read is the {found.crops}")
    for (name, stream, folders), of_video in crops.items():
        read = partial(_of_crops, of_video, usual, found)
        found.add(_text(name), stream, of_video[0].name, read, folders)
        for file in of_video:
            del named[file]
    for file, (name, stream, folders) in named.items():
        place = file.relative_to(found.path).as_posix()
        found.add(_text(name), stream, place, partial(_of_file, file, found.key), folders)


def _marked(stem, stream):
    """(name, stream) of a file that is called VIDEO_rgb, VIDEO-flow, rgb_VIDEO; (stem, None)
    else. stream: that of its folder, or None."""
    last = re.fullmatch(r"(.+?)[-_. ]+(rgb|flow)", stem, re.IGNORECASE)
    first = re.fullmatch(r"(rgb|flow)[-_. ]+(.+)", stem, re.IGNORECASE)
    name, word = last.groups() if last else first.groups()[::-1] if first else (stem, None)
    if word is None or stream not in (None, word.lower()):
        return stem, None
    return name, word.lower()


def _crops(named):
    """{(name, stream, folders): [files in order]} of videos with a file per crop, VIDEO__0.npy to
    VIDEO__4.npy: most of them have the same numbers, from 0 or 1 on."""
    crops = {}
    for file, (name, *more) in named.items():
        if crop := re.fullmatch(r"(.+?)(?:__|[-_. ]+crop[-_. ]*)(\d{1,3})", name, re.IGNORECASE):
            crops.setdefault((crop[1], *more), {})[int(crop[2])] = file
    crops = {video: dict(sorted(of.items())) for video, of in crops.items() if len(of) > 1}
    numbers = Counter(map(tuple, crops.values()))
    usual, n = max(numbers.items(), key=lambda item: item[1], default=((), 0))
    in_order = usual in [tuple(range(k, k + len(usual))) for k in (0, 1)]
    if not in_order or len(usual) > MOST_CROPS or 2 * n <= len(crops):
        return {}
    return {video: list(files.values()) for video, files in crops.items()}


def _of_crops(files, usual, found):
    """`_arrays` of the first, or the mean, of the crops of a video, each in a file."""
    if len(files) != usual:
        raise InputError(files[0], f"{len(files)} crops", f"{usual} as in other videos")
    first = _of_file(files[0], found.key)
    if found.crops == "first":
        return first
    crops, arrays = [first, *(_of_file(file, found.key) for file in files[1:])], {}
    for stream, one in first.items():
        of_stream = [crop[stream] for crop in crops]
        if {array.shape for array in of_stream} != {one.shape}:
            raise InputError(files[0], f"{one.shape}, and other shapes in other crops", "one shape")
        arrays[stream] = FileArray(one.shape, one.dtype, partial(_mean, of_stream))
    return arrays


def _mean(arrays):
    return np.mean([array.read() for array in arrays], 0, dtype=np.float64)


# ---- array files
def _content(file):
    """What an array file holds: an array, or a dict or list of them."""
    suffix = file.suffix.lower()
    if suffix == ".npz":
        return npy.index_npz(file)
    if suffix in KINDS[2]:
        return load_pt(file)
    return npy.index_pickle(file) if suffix in KINDS[3] else npy.index_npy(file)


def _of_file(file, key):
    """`_arrays` of a file that holds one video, or one stream of it."""
    arrays = _arrays(_content(file), file, key)
    if file.suffix.lower() not in KINDS[2]:
        return arrays
    return {  # tensors are in memory: these are read again
        stream: FileArray(array.shape, array.dtype, partial(_again, file, key, stream))
        for stream, array in arrays.items()
    }


def _again(file, key, stream):
    return _arrays(_content(file), file, key)[stream].read()


def _file(found, path, annotations):
    """A file with all videos, or with a single one, which has the file's name."""
    with open_file(path) as (file, _):
        start = file.read(8)
    if start == b"\x89HDF\r\n\x1a\n":
        found.seconds = _h5_file(found, path)
        return
    if VIDEO_SUFFIX.search(path.name):
        raise InputError(path, "a video", f"its features; they are made first: {_extraction(path)}")
    others = {".npz", *(suffix for kind in KINDS[2:] for suffix in kind)}
    if start[:6] != b"\x93NUMPY" and not (start and path.suffix.lower() in others):
        swapped = " (are features and annotations swapped?)" if start.lstrip()[:1] == b"{" else ""
        raise InputError(path, "a file that is neither HDF5 nor NumPy", f"features{swapped}")
    found.joint = "joint" in path.name.lower()
    content, listed = _content(path), _videoname(path.parent, annotations)
    if isinstance(content, FileArray) and (found.joint or listed and len(content.shape) > 2):
        content = npy.index_npy(path, rows=True)
    single = hasattr(content, "shape")
    if path.suffix.lower() == ".npz":
        single = sum(len(array.shape) > 1 for array in content.values()) < 2
    if single:
        found.add(_text(path.stem), None, path.name, partial(_of_file, path, found.key))
        return
    found.layout = "joint-npy"
    if isinstance(content, dict):
        kind = _inside(found, content, path, path.stem)
        found.layout = "per-video" if kind == "arrays" else "joint-npy"
    elif isinstance(content, list):
        _listed(found, content, path, listed)
    else:
        raise InputError(path, show(content), "arrays (clips, dimensions)")


def _listed(found, items, path, listed):
    """W-TALC's list of arrays, in the order of the videoname.npy at the path `listed`, or None."""
    if listed is None:
        expected = "videoname.npy in the annotation folder, or a dict {video: array}"
        raise InputError(path, "a list of arrays that does not say which video is which", expected)
    names = annotation_files.wtalc_names(listed.parent)
    if len(names) != len(items):
        raise InputError(path, f"{len(items)} arrays", f"{len(names)}: one per name in {listed}")
    for i, (name, item) in enumerate(zip(names, items)):
        array = _leaf(item, f"{path}: item {i}")
        found.add(name, None, f"item {i}", partial(dict, features=array))


def _videoname(folder, annotations):
    """Path of the videoname.npy that belongs to a joint file in `folder`, or None."""
    places = [] if annotations is None else [Path(annotations)]
    places += [folder, *sorted(folder.glob("*Annotations"))]
    files = [place / "videoname.npy" for place in places]
    return next((file for file in files if file.is_file()), None)


def _h5_files(found, files):
    """HDF5 files of which each holds some of the videos, one stream of them, or one video."""
    declared = []
    for file, stream, folders in files:
        name, word = _marked(file.stem, stream)
        stream = stream or word or (stream_word(file.stem) if len(files) > 1 else None)
        declared.append(_h5_file(found, file, name, stream, folders))
    declared = [seconds for seconds in declared if any(seconds)]
    said = {seconds_text([(step or window, window or step)]) for step, window in declared}
    if len(said) > 1:
        clips = f"files of clips of {' and '.join(sorted(said))}"
        raise InputError(found.path, clips, "one duration")
    found.seconds = max(declared, key=all, default=(None, None))  # one that says both, if any
    if len(files) > 1:
        found.layout, such = "hdf5", some(file.name for file, *_ in files)
        log.warning(f"{found.path}: {count(files, 'file')} read as one set: {such}")


def _h5_file(found, path, name=None, stream=None, folders=()):
    """Add what an HDF5 file holds; returns the seconds that it declares."""
    with open_file(path), in_one_line(path):  # HDF5 would wait for a pipe
        file = h5py.File(path, "r", rdcc_nbytes=0)  # without chunk cache: datasets are read whole
        found.handles.append(file)
        kind = _inside(found, file, path, name or path.stem, stream, folders)
        found.layout = "canonical" if kind == "canonical" else "hdf5"
        return _declared_seconds(file, path)


# ---- groups of HDF5, and dicts
def _inside(found, node, where, name, stream=None, folders=()):
    """Add the videos in an HDF5 group or a dict; returns what `_kind` says of it. name: of the
    video, where the node is one."""
    kind, place = _kind(node, where, found.key), os.path.basename(where)
    here = id(node) if isinstance(node, dict) else node
    if kind == "arrays":
        found.add(_text(name), stream, place, partial(_arrays, node, where, found.key), folders)
    elif here not in found.seen:  # groups may hold each other
        found.seen.add(here)
        for key in node:
            text = name_text(key, where)
            below, word = f"{where}: {text}", stream or stream_word(text)
            if kind == "groups":
                inside = folders if word or text.lower() in SUBSETS else (*folders, text)
                _inside(found, _member(node, key, below), below, text, word, inside)
            else:
                read = partial(_of_member, node, key, below, found.key)
                found.add(text, stream, place, read, folders)
    return kind


def _kind(node, where, key):
    """What the members of an HDF5 group or a dict are, by the first that can be opened: "arrays" of
    one video, "videos" (in "canonical" form), or "groups" of videos."""
    members = {}
    for name in node:
        with contextlib.suppress(InputError):  # reported where the video is needed
            members[name_text(name, where)] = _member(node, name, where)
        if len(members) == SAMPLE:
            break
    groups = [member for member in members.values() if _is_group(member)]
    if len(groups) < len(members) or not groups:
        return "arrays" if _of_one_video(members, key) else "videos"
    if all(_holds_groups(group, where) for group in groups):
        return "groups"
    inside = [[str(decoded(name)) for name in group] for group in groups]
    if any(set(STREAMS) & set(names) for names in inside):
        return "canonical"
    if any(_of_one_video(names, key) for names in inside):
        return "arrays" if _of_one_video(members, None) else "videos"
    # arrays have the same names in several videos; groups of videos have each its own
    apart = len(set(map(frozenset, inside))) == len(inside) < sum(map(len, inside))
    parts = all(stream_word(name) or name.lower() in SUBSETS for name in members)
    return "groups" if parts or apart else "videos"


def _of_one_video(names, key):
    """Whether names are those of a video's arrays, not of videos."""
    words = sorted(str(stream_word(name)) for name in names)
    known = not {*STREAMS, *ARRAYS}.isdisjoint(name.lower() for name in names)
    return known or key in names or words == sorted(STREAMS)


def _is_group(member):
    return isinstance(member, (dict, h5py.Group))


def _holds_groups(group, where):
    for name in group:
        with contextlib.suppress(InputError):
            return _is_group(_member(group, name, where))
    return False


def _member(node, key, where):
    """What lies in an HDF5 group or a dict under a key."""
    if isinstance(node, dict):
        return node[key]
    with in_one_line(where):
        # an external link may lead to a pipe, on which HDF5 waits for ever
        if node.get(key, getlink=True, getclass=True) is not h5py.HardLink:
            raise InputError(where, "a link", "the values themselves, in this file")
        return node[key]


# ---- the arrays of a video
def _of_member(node, name, where, key):
    return _arrays(_member(node, name, where), where, key)


def _arrays(value, where, key):
    """{stream: FileArray} of what a video is: one array, or an HDF5 group or a dict of its streams
    or with one array. key: the name of the array to read, or None."""
    seconds = _declared_seconds(value, where)
    if not _is_group(value):
        return {"features": _leaf(value, where, seconds)}
    named = {str(decoded(name)): name for name in value}

    def under(name, place):
        member = _member(value, named[name], place)
        if _is_group(member) and len(member) == 1:  # VIDEO/rgb/features
            member = _member(member, next(iter(member)), place)
        return _leaf(member, place, seconds)

    if key is not None:
        if key not in named:
            raise InputError(where, f"the arrays {some(named) or 'none'}", f"{key} (--key)")
        return {stream_word(key) or "features": under(key, where)}
    streams = {}
    for stream in STREAMS:
        those = [name for name in named if stream_word(name) == stream]
        those = [name for name in those if name.lower() == stream] or those
        if len(those) > 1:
            raise InputError(where, f"the arrays {some(those)}", f"one; {_which(those)}")
        if those:
            streams[stream] = under(those[0], f"{where}: {stream}")
    first = [name for name in ARRAYS if name in named]
    if streams or first:
        return streams or {"features": under(first[0], where)}
    members = {name: _member(value, inner, where) for name, inner in named.items()}
    wide = [name for name, one in members.items() if len(getattr(one, "shape", None) or ()) > 1]
    wide = wide or list(named)
    if len(wide) != 1:
        expected = f"rgb and flow, or one array; {_which(wide)}"
        raise InputError(where, f"the arrays {some(named) or 'none'}", expected)
    return {"features": under(wide[0], where)}


def _which(names):
    return f"--key says which, such as --key {shlex.quote(next(iter(names), 'NAME'))}"


def _declared_seconds(member, where):
    """(snippet_seconds, clip_seconds): attributes of a file, group or dataset; None: not there."""
    with in_one_line(where):
        stored = getattr(member, "attrs", {})
        return tuple(
            positive_seconds(stored[name], f"{where}: attribute {name}") if name in stored else None
            for name in SECONDS
        )


def _leaf(value, where, seconds=(None, None)):
    """The FileArray of an array, a tensor, or a dataset in an open HDF5 file, which is checked with
    its header. InputError for anything else."""
    if isinstance(value, FileArray):
        return value
    if hasattr(value, "detach"):
        value = value.detach()
        value = (value.float() if str(value.dtype) == "torch.bfloat16" else value).numpy()
    if isinstance(value, np.ndarray):
        return FileArray(value.shape, value.dtype, value.copy)
    if not isinstance(value, h5py.Dataset):
        found = "a group" if isinstance(value, h5py.Group) else show(value)
        raise InputError(where, found, "an array (clips, dimensions)")
    with in_one_line(where):
        held = value.id.get_storage_size()
        if value.external or value.is_virtual:
            raise InputError(where, "a dataset stored in another file", "the values here")
        if value.shape is None:
            raise InputError(where, "an empty dataset", "an array (clips, dimensions)")
        # deflate packs at most 1032 to 1: a larger shape is more than the file can hold
        if value.nbytes > held * (1100 if value.id.get_create_plist().get_nfilters() else 1):
            claim = f"a claim of {value.nbytes} bytes {value.shape} over {held} stored ones"
            raise InputError(where, claim, "all values in the file")
        read = partial(_dataset_values, value.file, value.name)
        return FileArray(value.shape, value.dtype, read, seconds)


def _dataset_values(file, name):
    return file[name][()]


# ---- words
def _nothing_found(path):
    """The InputError for a path in which no video was found: what lies there instead."""
    if not os.path.isdir(path):
        return InputError(path, "no videos in this file", EXPECTED)
    there = Counter(
        "folder" if child.is_dir() else f"{child.suffix.lower() or 'plain'} file"
        for child in visible(path)
    )
    expected, suffixes = EXPECTED, {kind.split()[0] for kind in there}
    if any(map(VIDEO_SUFFIX.search, suffixes)):
        expected += f"; of videos, features are made first: {_extraction(path)}"
    elif suffixes & {".csv", ".txt", ".mat"}:
        expected += "; save each table with np.save as VIDEO.npy, an array (clips, dimensions)"
    found = some([count(n, kind) for kind, n in there.most_common()]) or "an empty folder"
    return InputError(path, f"no videos, but {found}", expected)


def _extraction(path):
    command = f"python tools/extract_features.py {shlex.quote(str(path))} features.h5"
    return f"{command} (docs/video.md)"


@lru_cache(2**16)
def stream_word(name):
    """ "rgb" or "flow" where the name of a folder, file or key has that word (I3D_RGB,
    FlowFeatures), else None."""
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
    words = set(re.findall(r"rgb|(?<![a-z])flow(?![a-z])", apart))
    return words.pop() if len(words) == 1 else None


def is_part(name):
    """Whether a folder or a file's stem is named after a stream or a subset, which makes it a part
    of a set."""
    return stream_word(name) is not None or subset_of_file(name) is not None


def visible(folder):
    """What lies in a folder, sorted; names that begin with a dot are left out (a Mac's archives add
    ._VIDEO.npy)."""
    try:
        return sorted(child for child in Path(folder).iterdir() if not child.name.startswith("."))
    except OSError as error:
        raise InputError(folder, error.strerror, "a folder") from None


def holds_features(folder):
    """Whether there are array files in a folder, or anywhere below."""
    return bool(_files(Path(folder), set()))


def name_text(name, where):
    """A video's name from str, bytes or NumPy's forms of them. InputError for anything else."""
    name = decoded(name)
    if not isinstance(name, str) or not name:
        raise InputError(where, f"{show(name)} as the name of a video", "text")
    return _text(name) if re.search("[\ud800-\udfff]", name) else str(name)


def _text(name):
    """A name of the file system, whose bytes need not be UTF-8, as text."""
    return decoded(os.fsencode(name))


def positive_seconds(value, where):
    """`value` as a positive number of seconds. InputError for anything else."""
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = math.nan
    if not 0 < seconds < math.inf:
        found = show(value.item() if isinstance(value, np.generic) else value)
        raise InputError(where, found, "a positive number of seconds")
    return seconds


def seconds_text(seconds):
    """How long the clips of a set are, in words, from the (step, window) of each video."""
    step, window = (
        f"{min(of):g} s" if min(of) == max(of) else f"{min(of):g} to {max(of):g} s"
        for of in zip(*seconds)
    )
    return window if window == step else f"{window} every {step}"
