"""Features and annotations in, Videos out: every feature layout that people hold, read safely and checked once.

    data = dataset.load("features.h5", "annotations.json", train_subset="train", test_subset="test")

A layout is a function that looks at a path and lists, per video, where its arrays lie (`_LAYOUTS`, at the end of the
readers); everything after that, shapes, checks, conversion to float32, is the same for all of them. Nothing is read
before its header has been checked, and the name of a video is only ever looked up among the names a layout listed, so
that no name becomes a path. Whatever is wrong ends in a `safe_load.InputError` of one line.
"""
import contextlib
import dataclasses
import functools
import hashlib
import math
import os
import zlib
from collections import Counter
from pathlib import Path

import h5py
import numpy as np

import annotations as annotation_files
import safe_load
from safe_load import InputError

# Seconds per clip of the feature files in circulation, to recognise a value that the durations imply.
CONVENTIONS = {
    1.25: "EM-MIL paper on THUMOS14: 15 frames at 12 fps",
    0.64: "W-TALC: 16 frames at 25 fps",
    0.6: "EM-MIL paper on ActivityNet1.2: 15 frames at 25 fps",
    0.4: "UntrimmedNet features",
    4 / 30: "ActionFormer on THUMOS14: 4 frames at 30 fps",
}
GEOMETRY_TOLERANCE = 0.05   # of the median ratio between clips * snippet_seconds and the annotated duration


@dataclasses.dataclass(frozen=True, eq=False)
class Video:
    """One video: a bag of T clips in two streams, with its labels.

    `rgb` (T, D) and `flow` (T, D') are float32 arrays, or `StoredArray`s when the set stays on disk. `labels` (C,) is
    float32 multi-hot. A training video has no `segments`: what trains on it cannot see more than the video's labels.
    """
    name: str
    rgb: "np.ndarray | StoredArray"     # (T, D)
    flow: "np.ndarray | StoredArray"    # (T, D')
    labels: np.ndarray                  # (C,)
    duration: float                     # seconds; T * snippet_seconds where the annotations have none
    segments: np.ndarray                # (n, 2) seconds
    segment_labels: np.ndarray          # (n,) index of the class
    snippet_seconds: float


@dataclasses.dataclass(frozen=True, eq=False)
class Data:
    """What `load` returns. `notes` are warnings of one line each, for the user to see."""
    train: list
    test: list
    classes: tuple
    snippet_seconds: float
    notes: tuple
    layout: str
    in_memory: bool
    feature_bytes: int                  # of all streams of all videos as float32


class StoredArray:
    """One stream of one video, left on disk: `.shape`, `.dtype`, and np.asarray(it) reads and checks it anew."""
    dtype = np.dtype(np.float32)

    def __init__(self, source, name, stream, shape):
        self._source, self._name, self._stream, self.shape = source, name, stream, shape

    def __array__(self, dtype=None, copy=None):
        array = self._source.read_stream(self._name, self._stream)
        return array if dtype is None else array.astype(dtype, copy=False)


# ------------------------------------------------------------------------------------------------ sources

class FeatureSource:
    """The features of many videos, left on disk until asked for. Made by `open_features`.

    `streams` maps a video's name to its arrays on disk, objects with .shape, .dtype and .read(): two of them (RGB,
    flow), or one that holds both streams side by side, RGB in the first half of the columns. One background thread
    may read while another does.
    """

    def __init__(self, path, layout, streams, snippet_seconds=None, handles=()):
        self.path, self.layout, self.names = str(path), layout, list(streams)
        self.snippet_seconds = snippet_seconds      # as the file declares it, or as the user gave it; None: unknown
        self.notes = []
        self._streams, self._handles, self._shapes = streams, handles, {}

    def __contains__(self, name):
        return name in self._streams

    def adopt(self, videos):
        """Find those annotated videos that are stored under their YouTube id, or with or without its prefix `v_`, and
        call them by the name in the annotations. Returns how many."""
        stored = {video.name: other for video in videos if video.name not in self
                  for known in filter(None, (video.alias, video.name))
                  for other in (known, f"v_{known}", known.removeprefix("v_")) if other in self}
        self._streams = {**{name: array for name, array in self._streams.items() if name not in stored.values()},
                         **{name: self._streams[other] for name, other in stored.items()}}
        self.names = list(self._streams)
        return len(stored)

    def dtypes(self, name):
        """Element types on disk, one per array of the video."""
        return [array.dtype for array in self._streams[name]]

    def stream_shapes(self, name):
        """((T, D), (T', D')) of the RGB and flow stream as stored. InputError where they are no such arrays."""
        arrays = self._streams[name]
        for stream, array in zip(("rgb", "flow") if len(arrays) == 2 else ("features",), arrays):
            where = f"{self.path}: {name}: {stream}"
            if array.dtype.kind not in "fiu":
                raise InputError(f"{where}: found values of type {array.dtype}, expected floating-point numbers")
            if len(array.shape) != 2:
                raise InputError(f"{where}: found a {len(array.shape)}-D array {_shape(array)}, "
                                 "expected (clips, dimensions)")
            if array.shape[0] == 0:
                raise InputError(f"{where}: found 0 clips {_shape(array)}, expected at least 1")
            if array.shape[1] == 0:
                raise InputError(f"{where}: found 0 dimensions {_shape(array)}, expected at least 1")
        if len(arrays) == 2:
            return tuple(tuple(array.shape) for array in arrays)
        length, width = arrays[0].shape
        if width % 2:
            raise InputError(f"{self.path}: {name}: found {width} dimensions, expected an even number: "
                             "RGB and flow side by side")
        return (length, width // 2), (length, width // 2)

    def shape(self, name):
        """(T, D_rgb, D_flow). Streams that differ by at most 2 clips or 1% are cut to the shorter, else InputError."""
        if name in self._shapes:
            return self._shapes[name]
        (t_rgb, d_rgb), (t_flow, d_flow) = self.stream_shapes(name)
        if abs(t_rgb - t_flow) > max(2, 0.01 * max(t_rgb, t_flow)):
            raise InputError(f"{self.path}: {name}: found {t_rgb} clips of rgb and {t_flow} of flow, "
                             "expected equal lengths (up to 2 clips or 1%)")
        self._shapes[name] = min(t_rgb, t_flow), d_rgb, d_flow
        return self._shapes[name]

    def read(self, name):
        """(rgb (T, D), flow (T, D')) as float32. InputError on NaN or infinity."""
        arrays = self._streams[name]
        if len(arrays) == 2:
            return self.read_stream(name, 0), self.read_stream(name, 1)
        length, width, _ = self.shape(name)
        raw = self._raw(name, 0)
        return tuple(self._checked(raw[:, i * width:(i + 1) * width], name, i) for i in (0, 1))

    def read_stream(self, name, stream):
        """Stream 0 (RGB) or 1 (flow) of one video: (T, D) float32, contiguous. InputError on NaN or infinity."""
        length, *widths = self.shape(name)
        if len(self._streams[name]) == 2:
            return self._checked(self._raw(name, stream)[:length], name, stream)
        return self._checked(self._raw(name, 0)[:, stream * widths[0]:(stream + 1) * widths[0]], name, stream)

    def _raw(self, name, i):
        array = self._streams[name][i]
        try:
            return array.read()
        except (OSError, EOFError, RuntimeError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{self.path}: {name}: cannot be read: {_one_line(error)}") from None

    def _checked(self, raw, name, stream):
        with np.errstate(over="ignore", invalid="ignore"):  # beyond float32 becomes infinite, which is reported below
            array = np.ascontiguousarray(raw, dtype=np.float32)
            finite = np.isfinite(np.vdot(array, array))     # one cheap pass; it may overflow, hence the second
        if not finite and not (good := np.isfinite(array)).all():
            clip, dimension = np.argwhere(~good)[0]
            raise InputError(f"{self.path}: {name}: found {array[clip, dimension]} in {('rgb', 'flow')[stream]}, clip "
                             f"{clip} ({(~good).sum()} of {array.size} values), expected finite numbers")
        return array

    def close(self):
        for handle in self._handles:
            handle.close()


def _open_h5(path):
    with safe_load.open_file(path):     # says what is wrong with the path itself better than HDF5 does
        pass
    try:
        # without chunk cache: every dataset is read whole, and thousands of them stay open in a streamed set
        return h5py.File(path, "r", rdcc_nbytes=0)
    except OSError as error:
        raise InputError(f"{path}: cannot be opened as HDF5: {_one_line(error)}") from None


def _members(group, where):
    """{video: array} of the datasets in a group, or of the single dataset of each of its groups."""
    found = {}
    for name in group:
        key, member = name, group.get(name)
        if isinstance(member, h5py.Group):
            inside = list(member)
            if len(inside) != 1:
                raise InputError(f"{where}: {name}: found a group of {_some(inside) or 'nothing'}, "
                                 "expected `rgb` and `flow`, or one dataset")
            key = f"{name}/{inside[0]}"
        found[name] = _H5Array(group, key, f"{where}: {name}")
    return found


def _declared_snippet_seconds(file):
    if "snippet_seconds" not in file.attrs:
        return None
    found = file.attrs["snippet_seconds"]
    try:
        return _positive(found.decode() if isinstance(found, bytes) else found)
    except (TypeError, ValueError):
        raise InputError(f"{file.filename}: attribute snippet_seconds: found {safe_load.show(found)}, "
                         "expected a positive number of seconds") from None


class _H5Array:
    """A dataset of an open HDF5 file, opened when its shape is first asked for."""

    def __init__(self, parent, key, where):
        self._parent, self._key, self._where, self._dataset = parent, key, where, None

    def _open(self):
        if self._dataset is None:
            try:
                dataset = self._parent[self._key]
            except (KeyError, OSError, RuntimeError) as error:
                raise InputError(f"{self._where}: no readable dataset here: {_one_line(error)}") from None
            if not isinstance(dataset, h5py.Dataset):
                raise InputError(f"{self._where}: found a group, expected a dataset")
            if dataset.shape is None:
                raise InputError(f"{self._where}: found an empty dataset, expected (clips, dimensions)")
            made = dataset.id.get_create_plist()
            if (made.get_external_count() or made.get_layout() == h5py.h5d.VIRTUAL
                    or h5py.h5f.get_name(dataset.id) != h5py.h5f.get_name(self._parent.id)):
                raise InputError(f"{self._where}: found a dataset stored in another file, expected the values here")
            claimed, held = math.prod(dataset.shape) * dataset.dtype.itemsize, dataset.id.get_storage_size()
            # deflate packs at most 1032 to 1; a shape beyond that is a claim that no bytes stand behind
            if claimed > held * (1100 if made.get_nfilters() else 1):
                raise InputError(f"{self._where}: found a claim of {claimed} bytes {_shape(dataset)} over {held} "
                                 "stored ones, expected all values in the file")
            self._dataset = dataset
        return self._dataset

    @property
    def shape(self):
        return self._open().shape

    @property
    def dtype(self):
        return self._open().dtype

    def read(self):
        return self._open()[()]


class _NpyArray:
    """A plain .npy file; only its header is read until its values are asked for."""

    def __init__(self, path):
        self._path = path

    @functools.cached_property
    def _header(self):
        with safe_load.open_file(self._path) as (file, size):
            return safe_load._read_header(file, size, self._path)

    @property
    def dtype(self):
        return self._header[0]

    @property
    def shape(self):
        return self._header[1]

    def read(self):
        return safe_load.load_npy(self._path)


class _WholeFile:
    """An array that has to be read for its shape to be known, and is read again for its values."""

    def __init__(self, read):
        self.read = read

    @functools.cached_property
    def _header(self):
        array = self.read()
        return array.dtype, array.shape

    dtype, shape = _NpyArray.dtype, _NpyArray.shape


def _read_npz(path, key):
    arrays = safe_load.load_npz(path)
    if key not in arrays:
        raise InputError(f"{path}: found arrays {_some(arrays) or 'none'}, expected rgb and flow")
    return arrays[key]


def _read_pt(path):
    import torch    # here, so that nobody without .pt files pays for it
    tensor = safe_load.load_pt(path)
    if not isinstance(tensor, torch.Tensor):
        raise InputError(f"{path}: found {type(tensor).__name__}, expected a tensor (clips, dimensions)")
    tensor = tensor.detach()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


class _Absent:
    """The stream that a video lacks."""

    def __init__(self, place, name):
        self._line = f"{place}: {name}: found the other stream only, expected both"

    @property
    def dtype(self):
        raise InputError(self._line)


# ------------------------------------------------------------------------------------------------ layouts

def _canonical(path, flow_path, annotations):
    """One HDF5 file: a group per video with datasets `rgb` and `flow`, the file's attribute `snippet_seconds`."""
    file = _open_h5(path)
    streams = {name: tuple(_H5Array(file, f"{name}/{stream}", f"{path}: {name}: {stream}")
                           for stream in ("rgb", "flow")) for name in file}
    return FeatureSource(path, "canonical", streams, _declared_snippet_seconds(file), (file,))


def _hdf5(path, flow_path, annotations):
    """HDF5 of other shapes, three of them. Two files, one per stream; one file with groups `rgb` and `flow`, a dataset
    per video in each; one file with a dataset per video, streams side by side. Where a dataset is expected, a group
    around a single one will do."""
    file = _open_h5(path)
    if flow_path is not None:
        flow = _open_h5(flow_path)
        pair = _members(file, path), _members(flow, flow_path)
        return FeatureSource(path, "hdf5", _paired(*pair, (path, flow_path)), _declared_snippet_seconds(file),
                             (file, flow))
    top = {name.lower(): name for name in file}
    if set(top) == {"rgb", "flow"} and all(isinstance(file.get(name), h5py.Group) for name in file):
        pair = (_members(file[top[stream]], f"{path}: {stream}") for stream in ("rgb", "flow"))
        streams = _paired(*pair, (f"{path}: rgb", f"{path}: flow"))
    else:
        streams = {name: (array,) for name, array in _members(file, path).items()}
    return FeatureSource(path, "hdf5", streams, _declared_snippet_seconds(file), (file,))


def _wtalc(path, flow_path, annotations):
    """W-TALC's joint file: a pickled object array, per video (T, 2D) with RGB first, in the order of videoname.npy."""
    if os.path.isdir(path):
        joint = sorted(Path(path).glob("*JOINTFeatures.npy"))
        if len(joint) != 1:
            raise InputError(f"{path}: found {_count(joint, 'file')} *JOINTFeatures.npy, expected one: name the file")
        path, = joint
    arrays = safe_load.index_object_npy(path)
    places = [Path(annotations)] if annotations is not None and os.path.isdir(annotations) else []
    places += [Path(path).parent, *sorted(Path(path).parent.glob("*Annotations"))]
    listed = next((place / "videoname.npy" for place in places if (place / "videoname.npy").is_file()), None)
    if listed is None:
        raise InputError(f"{path}: found no videoname.npy, expected it in the annotation folder: "
                         "the joint file alone does not say which video is which")
    names = annotation_files.wtalc_names(listed.parent)
    if len(names) != len(arrays):
        raise InputError(f"{path}: found {len(arrays)} arrays, expected {len(names)}: one per name in {listed}")
    streams = {}
    for name, array in zip(names, arrays):
        _add(streams, name, (array,), listed)
    return FeatureSource(path, "wtalc", streams)


def _files(path, flow_path, annotations):
    """A file per video and stream: DIR/{rgb,flow}/VIDEO.npy; or a file per video: DIR/VIDEO.npy with both streams side
    by side, DIR/VIDEO.npz with arrays `rgb` and `flow`; each also with DIR/{train,test,val}; or two folders, one per
    stream, given as two paths."""
    streams = {}
    if flow_path is not None:
        return FeatureSource(path, "files", _paired(_npy_files(path), _npy_files(flow_path), (path, flow_path)))
    for folder in (Path(path), *_subfolders(path, *_SPLITS)):
        found = {child.name.lower(): child for child in _subfolders(folder, "rgb", "flow")}
        videos = {}
        if len(found) == 2:
            pair = found["rgb"], found["flow"]
            videos = _paired(*map(_npy_files, pair), pair)
        else:
            videos = {name: (array,) for name, array in _npy_files(folder).items()}
        for name, arrays in videos.items():
            _add(streams, name, arrays, path)
        for file in sorted(folder.glob("*.npz")):
            _add(streams, file.stem, tuple(_WholeFile(functools.partial(_read_npz, file, key)) for key in ("rgb", "flow")), path)
    return FeatureSource(path, "files", streams)


def _release(path, flow_path, annotations):
    """The layout of the released EM-MIL code: DIR/{trainSet,...}/{X_RGB,X_flow,Name_flow}/N.pt. Its Y_flow is not
    read: the labels come from the annotations."""
    streams = {}
    for folder in (Path(path), *_subfolders(path)):
        if not (folder / "X_RGB").is_dir():
            continue
        for file in sorted((folder / "X_RGB").glob("*.pt"), key=lambda file: (len(file.stem), file.stem)):
            label = folder / "Name_flow" / file.name
            _add(streams, _text(safe_load.load_pt(label), label),
                 tuple(_WholeFile(functools.partial(_read_pt, folder / key / file.name)) for key in ("X_RGB", "X_flow")),
                 path)
    return FeatureSource(path, "release", streams)


_LAYOUTS = {"canonical": _canonical, "wtalc": _wtalc, "files": _files, "release": _release, "hdf5": _hdf5}
LAYOUTS = ("auto", *_LAYOUTS)
_SPLITS = ("train", "training", "test", "testing", "val", "validation")


def _recognise(path, flow_path):
    """The layout of what lies at `path`, by looking."""
    path = Path(path)
    if path.is_dir():
        if flow_path is not None:
            return "files"
        if any((folder / "X_RGB").is_dir() for folder in (path, *_subfolders(path))):
            return "release"
        if any(path.glob("*JOINTFeatures.npy")):
            return "wtalc"
        inside = sorted(file.name for pattern in ("*.h5", "*.hdf5") for file in path.glob(pattern))
        if inside:
            raise InputError(f"{path}: found a folder with {_some(inside)}, expected the file itself as the path")
        return "files"
    with safe_load.open_file(path) as (file, _):
        start = file.read(8)
    if start == b"\x89HDF\r\n\x1a\n":
        if flow_path is not None:
            return "hdf5"
        file = _open_h5(path)
        with file:
            first = next((file.get(name) for name in file), None)
            return "canonical" if first is None or isinstance(first, h5py.Group) and (
                "rgb" in first or "flow" in first) else "hdf5"
    if start[:6] == b"\x93NUMPY":
        return "wtalc"
    raise InputError(f"{path}: found a file that is neither HDF5 nor NumPy, expected features"
                     + (" (are features and annotations swapped?)" if start.lstrip()[:1] == b"{" else ""))


def _subfolders(path, *names):
    """The folders in `path`, those of the given names only (in any case) if some are given."""
    try:
        return sorted(child for child in Path(path).iterdir()
                      if child.is_dir() and (not names or child.name.lower() in names))
    except OSError as error:
        raise InputError(f"{path}: cannot be listed: {error.strerror}") from None


def _npy_files(folder):
    try:
        return {file.stem: _NpyArray(file) for file in sorted(Path(folder).iterdir()) if file.suffix == ".npy"}
    except OSError as error:
        raise InputError(f"{folder}: cannot be listed: {error.strerror}") from None


def _paired(rgb, flow, places):
    """{name: (rgb, flow)}; a video that only one of the two has fails when it is asked for, not before."""
    return {name: (rgb.get(name) or _Absent(places[0], name), flow.get(name) or _Absent(places[1], name))
            for name in (*rgb, *(name for name in flow if name not in rgb))}


def _add(streams, name, arrays, where):
    if name in streams:
        raise InputError(f"{where}: {name}: found twice, expected each video once")
    streams[name] = arrays


def _text(name, where):
    """A video's name from str, bytes or NumPy's forms of them. InputError for anything else."""
    try:
        name = name.decode() if isinstance(name, bytes) else name
    except UnicodeDecodeError:
        pass
    if not isinstance(name, str) or not name:
        raise InputError(f"{where}: found {safe_load.show(name)} as the name of a video, expected text")
    return str(name)


def open_features(path, *, layout="auto", flow_path=None, annotations=None, snippet_seconds=None):
    """Open the features at `path` as a `FeatureSource`; reads headers at most.

    `layout` is one of LAYOUTS; "auto" recognises it by looking. `flow_path` is the second file or folder where the
    two streams lie apart (`path` then holds RGB). `annotations` is needed by the W-TALC joint file, whose order is
    in videoname.npy of the annotation folder. `snippet_seconds` (s) overrides what the file declares.
    InputError where there is nothing of the kind.
    """
    if layout not in LAYOUTS:
        raise InputError(f"feature layout: found {layout!r}, expected one of {', '.join(LAYOUTS)}")
    if layout == "auto":
        layout = _recognise(path, flow_path)
    if flow_path is not None and layout not in ("files", "hdf5"):
        raise InputError(f"{flow_path}: found a second path for the flow stream, expected none ({layout} layout)")
    source = _LAYOUTS[layout](path, flow_path, annotations)
    if not source.names:
        source.close()
        raise InputError(f"{path}: found no videos, expected features ({source.layout} layout)")
    if snippet_seconds is not None:
        try:
            snippet_seconds = _positive(snippet_seconds)
        except (TypeError, ValueError):
            raise InputError(f"snippet_seconds: found {snippet_seconds!r}, expected a positive number") from None
        if source.snippet_seconds and not np.isclose(source.snippet_seconds, snippet_seconds, rtol=1e-3):
            source.notes.append(f"{path}: the file declares {source.snippet_seconds:g} s per clip; "
                                f"the given {snippet_seconds:g} s is used")
        source.snippet_seconds = snippet_seconds
    return source


# ------------------------------------------------------------------------------------------------ loading

def load(features, annotations, *, train_subset, test_subset, classes=None, snippet_seconds=None, layout="auto",
         flow_features=None, video_labels="segments", allow_missing=False, in_memory=True, memory_limit=None):
    """Read features and annotations, check them against each other, and return `Data`.

    `train_subset`/`test_subset`: names of the annotations' subsets, None for none. `classes`: class list in order;
    default: all of the annotations, sorted. `video_labels`: see annotations.load. `allow_missing`: videos without
    features become a note instead of an error. `in_memory=False` leaves the features on disk (`StoredArray`), and so
    does more than `memory_limit` bytes of them as float32; NaN and infinity are then found when a video is read.
    InputError on everything that cannot be right; what was mended or looks odd is in `Data.notes`.
    """
    truth = annotation_files.load(annotations, video_labels=video_labels)
    notes = list(truth.notes)
    wanted = [annotation_files.in_subset(truth, subset) if subset is not None else []
              for subset in (train_subset, test_subset)]
    _check_apart(truth, wanted, train_subset, test_subset)
    classes = tuple(truth.classes if classes is None else classes)
    _check_labels(truth, wanted, classes)
    unlabelled = [video.name for video in wanted[0] if not video.labels]
    if unlabelled:
        notes.append(f"{truth.path}: {_count(unlabelled, 'training video')} without any label left out: "
                     f"{_some(unlabelled)}")
        wanted[0] = [video for video in wanted[0] if video.labels]

    source = open_features(features, layout=layout, flow_path=flow_features, annotations=annotations,
                           snippet_seconds=snippet_seconds)
    with contextlib.ExitStack() as stack:
        stack.callback(source.close)
        notes += source.notes
        if renamed := source.adopt(truth.videos.values()):
            notes.append(f"{source.path}: {renamed} videos of {truth.path} found under their YouTube id or by the prefix "
                         "v_")
        wanted = _drop_missing(source, truth, wanted, allow_missing, notes)
        videos = [video for subset in wanted for video in subset]
        if not videos:
            raise InputError(f"{truth.path}: found no videos in the chosen subsets, expected at least one")
        shapes = _check_shapes(source, videos, notes)
        _check_geometry(source, truth, videos, shapes, notes)
        untrained = [c for c in classes if wanted[0] and not any(c in video.labels for video in wanted[0])]
        if untrained:
            notes.append(f"{truth.path}: {_count(untrained, 'class', 'classes')} without a training video: "
                         f"{_some(untrained)}")

        size = sum(t * (d_rgb + d_flow) * 4 for t, d_rgb, d_flow in shapes.values())
        if in_memory and memory_limit is not None and size > memory_limit:
            in_memory = False
            notes.append(f"{source.path}: {size / 1e9:.2f} GB of features stay on disk "
                         f"(limit {memory_limit / 1e9:.2f} GB)")
        train, test = ([_video(source, video, classes, shapes[video.name], in_memory, with_segments)
                        for video in subset] for subset, with_segments in zip(wanted, (False, True)))
        if not in_memory:
            stack.pop_all()     # the StoredArrays keep the source open
    return Data(train, test, classes, source.snippet_seconds, tuple(notes), source.layout, in_memory, size)


def _video(source, video, classes, shape, in_memory, with_segments):
    """`Video` of one annotated video; the streams are read here unless they stay on disk."""
    length, *widths = shape
    if in_memory:
        rgb, flow = source.read(video.name)
    else:
        rgb, flow = (StoredArray(source, video.name, i, (length, width)) for i, width in enumerate(widths))
    labels = np.zeros(len(classes), np.float32)
    labels[[classes.index(label) for label in video.labels]] = 1
    segments, segment_labels = (video.segments, video.segment_labels) if with_segments else ((), ())
    duration = length * source.snippet_seconds if video.duration is None else float(video.duration)
    return Video(video.name, rgb, flow, labels, duration, np.asarray(segments, np.float64).reshape(-1, 2),
                 np.array([classes.index(label) for label in segment_labels], np.int64), source.snippet_seconds)


def _check_apart(truth, wanted, train_subset, test_subset):
    both = {video.name for video in wanted[0]} & {video.name for video in wanted[1]}
    if both:
        raise InputError(f"{truth.path}: found {_count(both, 'video')} both in the training subset {train_subset!r} "
                         f"and the test subset {test_subset!r}, expected two apart")


def _check_labels(truth, wanted, classes):
    if len(set(classes)) < len(classes):
        twice = next(c for c, n in Counter(classes).items() if n > 1)
        raise InputError(f"classes: found {twice!r} twice, expected distinct names")
    for video in (video for subset in wanted for video in subset):
        for label in (*video.labels, *video.segment_labels):
            if label not in classes:
                raise InputError(f"{truth.path}: {video.name}: found label {label!r}, "
                                 f"expected one of the {len(classes)} classes ({_some(classes)})")


def _drop_missing(source, truth, wanted, allow_missing, notes):
    """The annotated videos that have features; the rest is an error unless allowed. Surplus features become a note."""
    missing = [video.name for subset in wanted for video in subset if video.name not in source]
    if missing:
        line = (f"{source.path}: found no features for {len(missing)} of {sum(map(len, wanted))} videos of "
                f"{truth.path}: {_some(missing)}")
        if not allow_missing:
            raise InputError(f"{line}, expected all (--allow-missing goes on without them)")
        notes.append(f"{line}; left out")
    surplus = [name for name in source.names if name not in truth.videos]
    if surplus:
        notes.append(f"{source.path}: {_count(surplus, 'video')} without annotation not used: {_some(surplus)}")
    return [[video for video in subset if video.name in source] for subset in wanted]


def _check_shapes(source, videos, notes):
    """{name: (T, D, D')} of all videos. InputError on mixed dimensions, notes on cut streams and converted types."""
    shapes, cut, converted = {}, [], {}
    for video in videos:
        name = video.name
        (t_rgb, _), (t_flow, _) = source.stream_shapes(name)
        shapes[name] = source.shape(name)
        if t_rgb != t_flow:
            cut.append(name)
        for dtype in set(source.dtypes(name)) - {np.dtype(np.float32), np.dtype(np.float16)}:
            converted.setdefault(dtype.name, []).append(name)
    (expected, n_usual), = Counter((d_rgb, d_flow) for _, d_rgb, d_flow in shapes.values()).most_common(1)
    for i, (name, (_, *widths)) in enumerate(shapes.items(), 1):
        if tuple(widths) != expected:
            raise InputError(f"{source.path}: {name} (the {_ordinal(i)} video): found {widths[0]} rgb and {widths[1]} "
                             f"flow dimensions, expected {expected[0]} and {expected[1]} as in {n_usual} others")
    if cut:
        notes.append(f"{source.path}: {_count(cut, 'video')} with streams of unequal length cut to the shorter: "
                     f"{_some(cut)}")
    for dtype, names in sorted(converted.items()):
        notes.append(f"{source.path}: {_count(names, 'video')} of type {dtype} converted to float32: {_some(names)}")
    return shapes


def implied_snippet_seconds(videos, lengths):
    """Seconds per clip that make `lengths` {name: T} cover the annotated durations, in the median; None without any."""
    implied = [video.duration / lengths[video.name] for video in videos if video.duration]
    return float(np.median(implied)) if implied else None


def fitting_convention(implied):
    """The known seconds per clip nearest to `implied`, if within 5% of it, else None."""
    nearest = min(CONVENTIONS, key=lambda known: abs(np.log(known / implied)))
    return nearest if abs(nearest / implied - 1) <= GEOMETRY_TOLERANCE else None


def _check_geometry(source, truth, videos, shapes, notes):
    """T * snippet_seconds against the annotated durations: the commonest cause of wrong numbers."""
    implied = implied_snippet_seconds(videos, {name: shape[0] for name, shape in shapes.items()})
    fits = ""
    if implied is not None:
        known = fitting_convention(implied)
        fits = f"the durations of {truth.path} imply {implied:.4g} s" + (
            f"; the known convention {known:.4g} s ({CONVENTIONS[known]}) fits" if known else "")
    if source.snippet_seconds is None:
        value = "SECONDS" if implied is None else f"{fitting_convention(implied) or implied:.4g}"
        raise InputError(f"{source.path}: found no snippet_seconds (seconds per clip), expected it as the attribute "
                         f"snippet_seconds of the file or given as snippet_seconds in opts.py "
                         f"(--snippet-seconds {value}){'; ' + fits if fits else ''}")
    if implied is not None and abs(source.snippet_seconds / implied - 1) > GEOMETRY_TOLERANCE:
        notes.append(f"{source.path}: GEOMETRY: clips of {source.snippet_seconds:.4g} s cover "
                     f"{100 * source.snippet_seconds / implied:.0f}% of the annotated durations (median), so times will "
                     f"be wrong; {fits}: check snippet_seconds")


# ------------------------------------------------------------------------------------------------ writing

def write_canonical(path, items, snippet_seconds, dtype="float16", compression=None):
    """Write one canonical HDF5 file from `items`, an iterable of (name, rgb (T, D), flow (T, D')); returns their count.

    One video at a time is in memory. What lies in the file is read back and compared before the file takes its name,
    and an interrupted call leaves none. `compression`: None or "gzip". InputError on values that do not fit `dtype`,
    names that HDF5 cannot hold or that come twice, and a file that does not read back.
    """
    snippet_seconds = _positive(snippet_seconds)
    sums = {}
    with safe_load.write_atomically(path) as temporary:
        with h5py.File(temporary, "w", rdcc_nbytes=0) as file:
            file.attrs["snippet_seconds"] = snippet_seconds
            for name, rgb, flow in items:
                if not name or name == "." or "/" in name or "\0" in name:
                    raise InputError(f"{path}: found {name!r} as the name of a video, expected one without / and NUL")
                if name in file:
                    raise InputError(f"{path}: {name}: found twice, expected each video once")
                for stream, array in (("rgb", rgb), ("flow", flow)):
                    with np.errstate(over="ignore"):
                        stored = np.ascontiguousarray(array, dtype=dtype)
                    if not np.isfinite(stored).all():
                        raise InputError(f"{path}: {name}: found {np.abs(array).max():.4g} in {stream}, "
                                         f"expected values within {dtype} (float32 holds more)")
                    file.create_dataset(f"{name}/{stream}", data=stored, chunks=_chunks(stored),
                                        compression=compression, shuffle=compression is not None)
                    sums[f"{name}/{stream}"] = stored.shape, zlib.crc32(stored)
        with h5py.File(temporary, "r", rdcc_nbytes=0) as file:
            for key, expected in sums.items():
                array = file[key][()]
                if (array.shape, zlib.crc32(array)) != expected:
                    raise InputError(f"{path}: {key}: found other values than were written, expected the same "
                                     "(is the disk sound?)")
    return len(sums) // 2


def _chunks(array):
    """Chunk shape: whole rows, all chunks of about the same length, at most 512 KiB each."""
    length, width = array.shape
    pieces = -(-array.nbytes // 2**19)
    return -(-length // pieces), width


def fingerprint(*paths):
    """A hash (16 hex digits) of the data at `paths` (files or folders; None is skipped), to notice that they changed.

    It sees the names (of files within a folder), the sizes, and the bytes: all of them up to 32 MiB per path, beyond
    that 4 KiB at regular steps, 32 MiB in all. Features extracted anew, another order, another length or a change of
    a whole video are noticed, a change that fits between two samples is not (in 1 GB: 124 KiB, 60 clips of 1024
    float16). Copying or touching the files changes nothing. InputError where a path cannot be read.
    """
    digest = hashlib.blake2b(digest_size=8)
    for path in (Path(path) for path in paths if path is not None):
        files = sorted(Path(folder, name) for folder, _, names in os.walk(path) for name in names) or [path]
        total = sum(file.stat().st_size for file in files if file.is_file())
        step = 4096 * max(1, -(-total // 2**25))
        for name in files:
            with safe_load.open_file(name) as (file, size):
                digest.update(f"{name.relative_to(path)}:{size};".encode())
                for offset in range(0, size, step):
                    digest.update(os.pread(file.fileno(), 4096, offset))
    return digest.hexdigest()


# ------------------------------------------------------------------------------------------------ words

def _positive(value):
    value = float(value)
    if not 0 < value < float("inf"):
        raise ValueError(value)
    return value


def _shape(array):
    return "(" + ", ".join(map(str, array.shape)) + ")"


def _one_line(error):
    return " ".join(str(error).split()) or type(error).__name__


def _count(things, singular, plural=None):
    return f"{len(things)} {singular if len(things) == 1 else plural or singular + 's'}"


def _some(names, most=5):
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _ordinal(n):
    return f"{n}{'th' if 10 <= n % 100 <= 20 else {1: 'st', 2: 'nd', 3: 'rd'}.get(n % 10, 'th')}"
