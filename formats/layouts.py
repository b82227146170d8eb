"""Where the arrays of each feature layout lie: a reader looks at a path and lists them by video.

A reader gives `Found`. Its entries map a video's name to {stream: array}. A stream is "rgb",
"flow", or "features": one array that is both streams side by side or the only stream. An array has
.shape, .dtype and .read(). Where a file has to be opened to know more, a function stands in the
place of the array or of the dict; `resolve` calls it when the video is asked for, so that a damaged
video stops only those who need it.
"""

import contextlib
import functools
import math
import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from formats import annotations as annotation_files
from formats import npy
from formats.files import InputError, count, load_pt, open_file, show, some
from formats.names import SUBSETS, decoded, subset_of_file

STREAMS = ("rgb", "flow")
SECONDS = ("snippet_seconds", "clip_seconds")  # attributes of an HDF5 file, or of one video in it
HDF5 = (".h5", ".hdf5")
# The first kind that a folder has is read.
ARRAY_FILES = ((".npy", ".npz"), (".pt", ".pth"), (".pkl", ".pickle"))
EXPECTED = (
    "expected an HDF5 file, or a folder with VIDEO.npy, .npz, .pt or .pkl, or with folders "
    "rgb and flow of these (docs/data.md lists all layouts)"
)


@dataclass
class Found:
    """What a reader found at a path."""

    layout: str
    entries: dict  # name -> {stream: array}, or a function that gives this
    seconds: tuple = (None, None)  # declared by the file: from clip to clip, of a clip's window
    handles: tuple = ()  # open files
    notes: tuple = ()
    joint: bool = False  # "features" is RGB and flow side by side for certain


# ---- arrays
class FileArray:
    """An array of a file that is opened again for its values. `header` gives (shape, dtype) when
    first asked. seconds: as in `Found`, declared by the video itself."""

    def __init__(self, header, read, seconds=(None, None)):
        self._read_header, self.read, self.seconds = header, read, seconds

    @functools.cached_property
    def _header(self):
        return self._read_header()

    @property
    def shape(self):
        return self._header[0]

    @property
    def dtype(self):
        return self._header[1]


def _h5_array(parent, key, where, seconds):
    """A dataset of an open HDF5 file: checked with its header, opened again for its values."""

    def header():
        with in_one_line(where):
            found = parent[key]
            if not isinstance(found, h5py.Dataset):
                raise InputError(f"{where}: found a group, expected a dataset (clips, dimensions)")
            if found.external or found.is_virtual or found.file.filename != parent.file.filename:
                raise InputError(
                    f"{where}: found a dataset stored in another file, expected the values here"
                )
            if found.shape is None:
                raise InputError(f"{where}: found an empty dataset, expected (clips, dimensions)")
            held = found.id.get_storage_size()
            # deflate packs at most 1032 to 1: a larger shape is more than the file can hold
            if found.nbytes > held * (1100 if found.id.get_create_plist().get_nfilters() else 1):
                raise InputError(
                    f"{where}: found a claim of {found.nbytes} bytes {shape_text(found.shape)} "
                    f"over {held} stored ones, expected all values in the file"
                )
            return found.shape, found.dtype

    return FileArray(header, lambda: parent[key][()], seconds)


def _pt_array(tensor, path, key=None):
    array = _numpy(tensor, path)
    header = array.shape, array.dtype  # without the values, which are read again when needed
    return FileArray(lambda: header, functools.partial(_read_pt, path, key))


def _read_pt(path, key=None):
    content = load_pt(path)
    return _numpy(content if key is None else content[key], path)


def _numpy(tensor, path):
    import torch  # here, so that nobody without .pt files pays for it

    if not isinstance(tensor, torch.Tensor):
        raise InputError(
            f"{path}: found {type(tensor).__name__}, expected a tensor (clips, dimensions)"
        )
    tensor = tensor.detach()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


# ---- HDF5
def _open_h5(path):
    with open_file(path):  # a clearer message than HDF5's where the path itself is wrong
        pass
    with in_one_line(path):
        # without chunk cache: every dataset is read whole
        return h5py.File(path, "r", rdcc_nbytes=0)


def _h5_file(path):
    """`Found` of one HDF5 file: a dataset or a group per video, or groups of these that are named
    after streams or subsets."""
    file = _open_h5(path)
    with in_one_line(path):
        first = next((file.get(name) for name in file), None)
        is_group = isinstance(first, h5py.Group)
        canonical = first is None or is_group and ("rgb" in first or "flow" in first)
        parts = {}  # name of a group -> the stream whose videos it has, None for all streams
        if is_group and not canonical and len(file) <= 6:
            parts = {
                name: stream_word(name)
                for name in file
                if stream_word(name) or name.lower() in SUBSETS
            }
        if parts and len(parts) == len(file):
            entries = _merged(
                [
                    (name, stream, entry, part)
                    for part, stream in parts.items()
                    for name, entry in _h5_group(file[part], f"{path}: {part}").items()
                ],
                path,
            )
        else:
            entries = _h5_group(file, path)
        seconds = _declared_seconds(file, path)
    return Found("canonical" if canonical else "hdf5", entries, seconds, (file,))


def _declared_seconds(member, where):
    """(snippet_seconds, clip_seconds): attributes of a file, group or dataset; None: not there."""
    return tuple(
        positive_seconds(member.attrs[name], f"{where}: attribute {name}")
        if name in member.attrs
        else None
        for name in SECONDS
    )


def _h5_group(group, where):
    names = [name_text(name, where) for name in group]
    return {name: functools.partial(_h5_video, group, name, f"{where}: {name}") for name in names}


def _h5_video(group, name, where):
    """{stream: array} of one member: a dataset, or a group with datasets of the streams or with a
    single one."""
    with in_one_line(where):
        member = group.get(name)
        own = (None, None) if member is None else _declared_seconds(member, where)
        if not isinstance(member, h5py.Group):
            return {"features": _h5_array(group, name, where, own)}
        keys = list(member)
    streams = {stream_word(key): key for key in keys}
    if set(streams) & set(STREAMS):
        return {
            stream: _h5_array(group, f"{name}/{streams[stream]}", f"{where}: {stream}", own)
            for stream in STREAMS
            if stream in streams
        }
    if len(keys) != 1:
        raise InputError(
            f"{where}: found a group of {some(keys) or 'nothing'}, "
            "expected `rgb` and `flow`, or one dataset"
        )
    return {"features": _h5_array(group, f"{name}/{keys[0]}", where, own)}


def _h5_folder(path):
    """`Found` of a folder with HDF5 files, of which each holds some of the videos, or one stream of
    them."""
    files = [file for file in visible(path) if file.suffix.lower() in HDF5]
    found = [_h5_file(file) for file in files]
    if len(files) == 1:
        return found[0]
    parts, declared = [], [one.seconds for one in found if any(one.seconds)]
    for file, one in zip(files, found):
        stream = stream_word(file.stem)
        parts += [(name, stream, entry, file.name) for name, entry in one.entries.items()]
    said = {seconds_text([(step or window, window or step)]) for step, window in declared}
    if len(said) > 1:
        raise InputError(
            f"{path}: found files of clips of {' and '.join(sorted(said))}, expected one duration"
        )
    note = f"{path}: {count(files, 'file')} read as one set: {some(file.name for file in files)}"
    return Found(
        "hdf5",
        _merged(parts, path),
        max(declared, key=all, default=(None, None)),  # one that says both, if there is one
        tuple(handle for one in found for handle in one.handles),
        (note,),
    )


# ---- one file, many videos
def _joint_file(path, annotations):
    """`Found` of a .npy, .pkl or .pt file with all videos, or of the folder of the one
    *JOINTFeatures.npy: a dict by name, or W-TALC's list in the order of videoname.npy."""
    if os.path.isdir(path):
        files = [file for file in visible(path) if file.name.endswith("JOINTFeatures.npy")]
        if len(files) != 1:
            raise InputError(
                f"{path}: found {count(files, 'file')} *JOINTFeatures.npy, expected "
                "one: name the file"
            )
        (path,) = files
    file = Path(path)
    joint = "joint" in file.name.lower()
    if file.suffix in (".pt", ".pth"):
        items = load_pt(path)
    elif file.suffix in (".pkl", ".pickle"):
        items = npy.index_pickle(path)
    else:
        items = npy.index_object_npy(path)
    if isinstance(items, dict):
        named = {name_text(key, path): item for key, item in items.items()}
        entries = {
            name: functools.partial(_streams_of, item, f"{path}: {name}")
            for name, item in named.items()
        }
        return Found("joint-npy", entries, joint=joint)
    if not isinstance(items, list):
        raise InputError(
            f"{path}: found one array, expected one per video: a dict "
            f"{{video: array}}, or a folder with a file per video"
        )
    listed = _videoname(file.parent, annotations)
    if listed is None:
        raise InputError(
            f"{path}: found no videoname.npy, expected it in the annotation folder: "
            "the joint file alone does not say which video is which"
        )
    names = annotation_files.wtalc_names(listed.parent)
    if len(names) != len(items):
        raise InputError(
            f"{path}: found {len(items)} arrays, expected {len(names)}: one per name in {listed}"
        )
    entries = {name: {"features": item} for name, item in zip(names, items)}
    return Found("joint-npy", entries, joint=joint)


def _videoname(folder, annotations):
    """Path of the videoname.npy that belongs to a joint file in `folder`, or None."""
    places = [] if annotations is None else [Path(annotations)]
    places += [folder, *sorted(folder.glob("*Annotations"))]
    files = [place / "videoname.npy" for place in places]
    return next((file for file in files if file.is_file()), None)


def _streams_of(item, where):
    """{stream: array} of what a file holds for one video: an array, or a dict with arrays of the
    streams or one."""
    if not isinstance(item, dict):
        return {"features": _as_array(item, where)}
    streams = {stream_word(str(key)): value for key, value in item.items()}
    if set(streams) & set(STREAMS):
        return {
            stream: _as_array(streams[stream], where) for stream in STREAMS if stream in streams
        }
    arrays = {key: value for key, value in item.items() if len(getattr(value, "shape", ())) > 1}
    arrays = arrays or item
    if len(arrays) != 1:
        raise InputError(
            f"{where}: found arrays {some(map(str, item)) or 'none'}, expected rgb "
            "and flow, or one array of (clips, dimensions)"
        )
    return {"features": _as_array(next(iter(arrays.values())), where)}


def _as_array(value, where):
    """An array with .read(), also of a tensor."""
    if hasattr(value, "read"):
        return value
    array = _numpy(value, where)
    return FileArray(lambda: (array.shape, array.dtype), lambda: array)


# ---- a file per video
def _per_video(path):
    """`Found` of a folder with a file per video, or one per video and stream."""
    files, descended = _array_files(Path(path))
    marks = [_marked(file, stream) for file, stream in files]
    names = Counter(name for name, stream in marks if stream)
    use_marks = any(n > 1 for n in names.values()) or all(stream for _, stream in marks)
    notes, parts = [], []
    for (file, stream), (name, marked) in zip(files, marks):
        if not use_marks or not marked:
            name, marked = file.stem, stream
        # video_features writes VIDEO_fps.npy and VIDEO_timestamps_ms.npy beside the features
        extra = re.fullmatch(r"(.+)_(fps|timestamps_ms)", file.stem)
        if not (extra and use_marks and extra[1] in names):
            place = file.relative_to(path).as_posix()
            parts.append((name, marked, functools.partial(_file_streams, file), place))
    if use_marks and any(not stream for _, stream in files):
        notes.append(
            f"{path}: the streams are told by the files' names, such as "
            f"{some((f.name for f, _ in files), 2)}"
        )
    if descended:
        notes.append(f"{path}: the features are read from {some(descended)}")
    return Found("per-video", _merged(parts, path), notes=tuple(notes))


def _array_files(path):
    """([(file, its stream or None)], folders): the array files in `path`, and the folders below
    that were searched because `path` itself holds neither these nor folders of streams or
    subsets."""
    files = _files_here(path, None)
    if files:
        return files, []
    below = {child: _array_files(child)[0] for child in subfolders(path) if _holds_features(child)}
    return [file for files in below.values() for file in files], [child.name for child in below]


def _files_here(folder, stream):
    """The array files in `folder` and in its folders for streams and subsets."""
    children = visible(folder)
    folders = [child for child in children if child.is_dir()]
    files = [(file, stream) for file in _one_kind(children)]
    if stream is None:
        of_stream = {child: stream_word(child.name) for child in folders}
        apart = [
            one for child, word in of_stream.items() if word for one in _files_here(child, word)
        ]
        if apart and (not files or {word for _, word in apart} == set(STREAMS)):
            files = apart
    for child in folders:
        if subset_of_file(child.name) and stream_word(child.name) is None:
            files = files + _files_here(child, stream)
    return files


def _one_kind(children):
    """The array files among `children`, of the first kind of ARRAY_FILES that is there."""
    for suffixes in ARRAY_FILES:
        if files := [child for child in children if child.suffix.lower() in suffixes]:
            return files
    return []


def _marked(file, stream):
    """(name, stream) of a file that is called VIDEO_rgb, VIDEO-flow, rgb_VIDEO; the file's stem and
    None else."""
    name, word = file.stem, None
    if last := re.fullmatch(r"(.+?)[-_. ]+(rgb|flow)", file.stem, re.IGNORECASE):
        name, word = last.groups()
    elif first := re.fullmatch(r"(rgb|flow)[-_. ]+(.+)", file.stem, re.IGNORECASE):
        word, name = first.groups()
    if word is None or stream not in (None, word.lower()):
        return file.stem, None
    return name, word.lower()


def _file_streams(file):
    """{stream: array} of a file that holds one video, or one stream of it."""
    suffix = file.suffix.lower()
    if suffix == ".npy":
        header = npy.npy_header(file)
        if header[1].kind == "O" and isinstance(items := npy.index_object_npy(file), dict):
            return _streams_of(items, file)
        return {"features": FileArray(lambda: header, functools.partial(npy.load_npy, file))}
    if suffix == ".npz":
        headers = npy.npz_headers(file)
        return _streams_of(
            {
                key: FileArray(
                    functools.partial(headers.get, key),
                    functools.partial(npy.load_npz_member, file, key),
                )
                for key in headers
            },
            file,
        )
    if suffix in (".pkl", ".pickle"):
        return _streams_of(npy.index_pickle(file), file)
    content = load_pt(file)
    if not isinstance(content, dict):
        return {"features": _pt_array(content, file)}
    return _streams_of(
        {
            key: _pt_array(value, file, key)
            for key, value in content.items()
            if hasattr(value, "shape")
        },
        file,
    )


def _released_pt(path):
    """`Found` of the released code's folder {trainSet,...}/{X_RGB,X_flow,Name_flow}/N.pt."""
    parts = []
    for folder in (Path(path), *subfolders(path)):
        if not (folder / "X_RGB").is_dir():
            continue
        numbers = _numbers(folder / "X_RGB")
        for key in ("X_flow", "Name_flow"):
            other = _numbers(folder / key)
            if other != numbers:
                raise InputError(
                    f"{folder}: found {len(numbers)} files in X_RGB and {len(other)} in {key}, "
                    f"expected the same N.pt in both (not so: {some(sorted(numbers ^ other))})"
                )
        for number in sorted(numbers, key=lambda number: (len(number), number)):
            named = folder / "Name_flow" / number
            name, place = name_text(load_pt(named), named), f"{folder.name}/{number}"
            for stream, key in zip(STREAMS, ("X_RGB", "X_flow")):
                parts.append(
                    (name, stream, functools.partial(_file_streams, folder / key / number), place)
                )
    return Found("released-pt", _merged(parts, path))


def _numbers(folder):
    return {file.name for file in folder.glob("[!.]*.pt")}


# ---- put together
def resolve(entry):
    """{stream: array} of an entry."""
    arrays = {}
    for stream, value in (entry() if callable(entry) else entry).items():
        found = value() if callable(value) else {stream: value}
        if stream == "features":
            arrays.update(found)
        else:
            arrays[stream] = found[stream] if stream in found else next(iter(found.values()))
    return arrays


def pair(rgb, flow):
    """Entries of two sets of entries, one per stream."""
    return _merged(
        [
            (name, stream, entry, stream)
            for stream, entries in zip(STREAMS, (rgb, flow))
            for name, entry in entries.items()
        ],
        "",
    )


def _merged(parts, path):
    """Entries of (name, stream or None, entry, place): put together by video."""
    entries, places = {}, {}
    for name, stream, entry, place in parts:
        stream = stream or "features"
        earlier = places.setdefault(name, {})
        if stream in earlier or "features" in earlier or stream == "features" and earlier:
            entries[name] = functools.partial(
                _refuse,
                f"{path}: {name}: found twice, expected each video once "
                f"({', '.join(earlier.values())} and {place})",
            )
        elif not callable(entries.get(name)):
            entries.setdefault(name, {})[stream] = functools.partial(resolve, entry)
        earlier[stream] = place
    return entries


def _refuse(message):
    raise InputError(message)


# ---- recognise
def _hdf5(path, annotations):
    return _h5_folder(path) if os.path.isdir(path) else _h5_file(path)


# layout: what it looks like, and its reader (path, annotations) -> Found
LAYOUTS = {
    "canonical": (
        "One HDF5 file: a group per video with datasets `rgb` and `flow` (or one of them), the "
        "file's attributes `snippet_seconds` and `clip_seconds`",
        lambda path, annotations: _h5_file(path),
    ),
    "joint-npy": (
        "One .npy, .pkl or .pt file with all videos, (T, 2D) with RGB first: a dict by "
        "name, or a list in the order of videoname.npy (W-TALC)",
        _joint_file,
    ),
    "per-video": (
        "A folder with files per video (.npy, .npz, .pt, .pkl): VIDEO.npy with both streams side "
        "by side, rgb/VIDEO.npy and flow/VIDEO.npy, or VIDEO_rgb.npy and VIDEO_flow.npy",
        lambda path, annotations: _per_video(path),
    ),
    "released-pt": (
        "The layout of the released EM-MIL code, DIR/{trainSet,...}/{X_RGB,X_flow,Name_flow}/N.pt",
        lambda path, annotations: _released_pt(path),
    ),
    "hdf5": (
        "HDF5 of other shapes: a dataset per video, groups `rgb` and `flow` of these, or "
        "several files",
        _hdf5,
    ),
}


def read_layout(path, layout, annotations=None):
    """`Found` at a path, in a layout of LAYOUTS or, for "auto", in the one that it looks like."""
    notes = ()
    with in_one_line(path):
        if layout == "auto":
            given, (path, layout) = Path(path), _recognise(Path(path))
            notes = (f"{given}: the features are read from {path}",) if path != given else ()
        found = LAYOUTS[layout][1](path, annotations)
    found.notes += notes
    return found


def _recognise(path):
    """(path, layout) of what lies at `path`; of a folder around the features' folder, that one."""
    if path.is_dir():
        while not _files_here(path, None) and not _whole_layout(path):
            inside = [child for child in subfolders(path) if _holds_features(child)]
            if len(inside) != 1:
                break
            path = inside[0]
        return path, _whole_layout(path) or "per-video"
    with open_file(path) as (file, _):
        start = file.read(8)
    if start == b"\x89HDF\r\n\x1a\n":
        return path, "hdf5"
    if (
        start[:6] == b"\x93NUMPY"
        or path.suffix.lower() in (".pkl", ".pickle", ".pt", ".pth")
        and start
    ):
        return path, "joint-npy"
    swapped = " (are features and annotations swapped?)" if start.lstrip()[:1] == b"{" else ""
    raise InputError(
        f"{path}: found a file that is neither HDF5 nor NumPy, expected features{swapped}"
    )


def _whole_layout(folder):
    """The layout of a folder that holds the whole set in a form of its own, or None."""
    if any((place / "X_RGB").is_dir() for place in (folder, *subfolders(folder))):
        return "released-pt"
    if any(file.name.endswith("JOINTFeatures.npy") for file in visible(folder)):
        return "joint-npy"
    return "hdf5" if any(file.suffix.lower() in HDF5 for file in visible(folder)) else None


def nothing_found(path):
    """The line for a path in which no video was found: what lies there instead."""
    if not os.path.isdir(path):
        return f"{path}: found no videos in this file, {EXPECTED}"
    files, folders = Counter(), []
    for child in visible(path):
        if child.is_dir():
            folders.append(child.name)
        else:
            files[child.suffix.lower() or "(no suffix)"] += 1
    found = [count(n, f"{suffix} file") for suffix, n in files.most_common(4)]
    if folders:
        found.append(f"{count(folders, 'folder')} ({some(folders, 3)})")
    advice = ""
    if set(files) & {".mp4", ".avi", ".mkv", ".webm", ".mov"}:
        advice = "; of videos, features are made first (docs/video.md)"
    elif set(files) & {".csv", ".txt", ".mat"}:
        advice = "; save each table with np.save as VIDEO.npy, an array (clips, dimensions)"
    there = " and ".join(found) or "an empty folder"
    return f"{path}: found no videos, but {there}, {EXPECTED}{advice}"


# ---- words
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


def _holds_features(folder):
    """Whether a folder has files that may be features anywhere inside; W-TALC's annotations are
    none."""
    suffixes = {*HDF5, *(suffix for kind in ARRAY_FILES for suffix in kind)}
    return any(
        not name.startswith(".") and Path(name).suffix.lower() in suffixes
        for _, _, names in os.walk(folder)
        if "videoname.npy" not in names
        for name in names
    )


def visible(folder):
    """What lies in a folder, sorted; names that begin with a dot are left out (a Mac's archives add
    ._VIDEO.npy)."""
    try:
        return sorted(child for child in Path(folder).iterdir() if not child.name.startswith("."))
    except OSError as error:
        raise InputError(f"{folder}: found {error.strerror}, expected a folder") from None


def subfolders(path):
    return [child for child in visible(path) if child.is_dir()]


def name_text(name, where):
    """A video's name from str, bytes or NumPy's forms of them. InputError for anything else."""
    name = decoded(name)
    if not isinstance(name, str) or not name:
        raise InputError(f"{where}: found {show(name)} as the name of a video, expected text")
    return str(name)


def positive_seconds(value, where):
    """`value` as a positive number of seconds. InputError for anything else."""
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = math.nan
    if not 0 < seconds < math.inf:
        found = show(value.item() if isinstance(value, np.generic) else value)
        raise InputError(f"{where}: found {found}, expected a positive number of seconds")
    return seconds


def seconds_text(seconds):
    """How long the clips of a set are, in words, from the (step, window) of each video."""
    step, window = (
        f"{min(of):g} s" if min(of) == max(of) else f"{min(of):g} to {max(of):g} s"
        for of in zip(*seconds)
    )
    return window if window == step else f"{window} every {step}"


@contextlib.contextmanager
def in_one_line(where):
    """Turn what h5py raises on broken data, which may be nearly anything, into InputError."""
    try:
        yield
    except InputError:
        raise
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, MemoryError) as error:
        raise InputError(
            f"{where}: found broken data ({one_line(error)}), expected readable features"
        ) from None


def one_line(error):
    system = re.search("error message = '([^']*)'", str(error))  # what HDF5 wraps into a paragraph
    if system:
        return system[1]
    return " ".join(str(error).strip("'\"").split()) or type(error).__name__


def shape_text(shape):
    return "(" + ", ".join(map(str, shape)) + ")"
