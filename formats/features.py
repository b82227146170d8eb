"""Every feature layout that people hold: open it, list its videos, read them one by one; write the canonical file.

A layout is a function that looks at a path and lists, per video, where its arrays lie (`_LAYOUTS`, at the end of the
readers); everything after that, shapes, checks, conversion to float32, is the same for all of them. Nothing is read
before its header has been checked, and the name of a video is only ever looked up among the names a layout listed, so
that no name becomes a path. Whatever is wrong ends in an `InputError` of one line.
"""
import contextlib
import functools
import hashlib
import json
import math
import os
import re
import zlib
from pathlib import Path

import h5py
import numpy as np

from formats import annotations as annotation_files
from formats import npy
from formats.files import InputError, load_json, load_pt, open_file, show, write_atomically


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
        annotated = {video.name for video in videos}
        stored = {video.name: other for video in videos if video.name not in self
                  for known in filter(None, (video.alias, video.name))
                  for other in (known, f"v_{known}", known.removeprefix("v_"))
                  if other in self and other not in annotated}
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
            found, expected = None, "(clips, dimensions), at least 1 of each"
            if array.dtype.kind not in "fiu":
                found, expected = f"values of type {array.dtype}", "floating-point numbers"
            elif len(array.shape) != 2:
                found = f"a {len(array.shape)}-D array {_shape(array)}"
            elif 0 in array.shape:
                found = f"{('0 dimensions', '0 clips')[array.shape[0] == 0]} {_shape(array)}"
            if found:
                raise InputError(f"{self.path}: {name}: {stream}: found {found}, expected {expected}")
        if len(arrays) == 2:
            return arrays[0].shape, arrays[1].shape
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
        with _in_one_line(f"{self.path}: {name}"):
            return self._streams[name][i].read()

    def _checked(self, raw, name, stream):
        with np.errstate(over="ignore", invalid="ignore"):  # beyond float32 becomes infinite, which is reported below
            array = np.ascontiguousarray(raw, dtype=np.float32)
            finite = np.isfinite(np.vdot(array, array))     # one cheap pass; it may overflow, hence the second
        if not finite and not (good := np.isfinite(array)).all():
            clip, dimension = np.argwhere(~good)[0]
            raise InputError(f"{self.path}: {name}: found {array[clip, dimension]} in {('rgb', 'flow')[stream]}, clip "
                             f"{clip} ({(~good).sum()} of {array.size} values), expected finite numbers")
        return array

    def release(self, name):
        """Closes what reading this video opened, so that a pass over very many keeps nothing of those behind it."""
        for array in self._streams[name]:
            vars(array).pop("_dataset", None)

    def close(self):
        for handle in self._handles:
            handle.close()


@contextlib.contextmanager
def _in_one_line(where):
    """Turn what h5py raises on broken data, which may be nearly anything, into InputError."""
    try:
        yield
    except InputError:
        raise
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, MemoryError) as error:
        raise InputError(f"{where}: found broken data ({_one_line(error)}), expected readable features") from None


def _open_h5(path):
    with open_file(path):     # says what is wrong with the path itself better than HDF5 does
        pass
    with _in_one_line(path):
        # without chunk cache: every dataset is read whole, and thousands of them stay open in a streamed set
        return h5py.File(path, "r", rdcc_nbytes=0)


def _names(group):
    return [_text(name, group.file.filename) for name in group]


def _members(group, where):
    """{video: array} of the datasets in a group, or of the single dataset of each of its groups."""
    found = {}
    for name in _names(group):
        key, member = name, group.get(name)
        if isinstance(member, h5py.Group):
            inside = _names(member)
            if len(inside) != 1:
                raise InputError(f"{where}: {name}: found a group of {some(inside) or 'nothing'}, "
                                 "expected `rgb` and `flow`, or one dataset")
            key = f"{name}/{inside[0]}"
        found[name] = _H5Array(group, key, f"{where}: {name}")
    return found


def _declared_snippet_seconds(file):
    if "snippet_seconds" not in file.attrs:
        return None
    return _seconds(file.attrs["snippet_seconds"], f"{file.filename}: attribute snippet_seconds")


class _H5Array:
    """A dataset of an open HDF5 file, opened and checked when its shape is first asked for, and kept open."""

    def __init__(self, parent, key, where):
        self._parent, self._key, self._where = parent, key, where

    @functools.cached_property
    def _dataset(self):
        with _in_one_line(self._where):
            # the low-level call: half of the time that parent[key] takes, which counts in sets of many short videos
            found = h5py.h5d.open(self._parent.id, self._key.encode())
            made, dataset = found.get_create_plist(), h5py.Dataset(found)
            if (made.get_external_count() or made.get_layout() == h5py.h5d.VIRTUAL
                    or h5py.h5f.get_name(found) != h5py.h5f.get_name(self._parent.id)):
                raise InputError(f"{self._where}: found a dataset stored in another file, expected the values here")
            if dataset.shape is None:
                raise InputError(f"{self._where}: found an empty dataset, expected (clips, dimensions)")
            claimed, held = math.prod(dataset.shape) * dataset.dtype.itemsize, found.get_storage_size()
            # deflate packs at most 1032 to 1; a shape beyond that is a claim that no bytes stand behind
            if claimed > held * (1100 if made.get_nfilters() else 1):
                raise InputError(f"{self._where}: found a claim of {claimed} bytes {_shape(dataset)} over {held} "
                                 "stored ones, expected all values in the file")
            return dataset

    @functools.cached_property
    def shape(self):
        return self._dataset.shape

    @functools.cached_property
    def dtype(self):
        return self._dataset.dtype

    def read(self):
        return self._dataset[()]


class _NpyArray:
    """A plain .npy file; only its header is read until its values are asked for."""

    def __init__(self, path):
        self._path = path

    @functools.cached_property
    def _header(self):
        return npy.npy_header(self._path)

    @property
    def shape(self):
        return self._header[0]

    @property
    def dtype(self):
        return self._header[1]

    def read(self):
        return npy.load_npy(self._path)


class _WholeFile:
    """An array that has to be read for its shape to be known, and is read again for its values."""

    def __init__(self, read, *where):
        self.read = functools.partial(read, *where)

    @functools.cached_property
    def _header(self):
        array = self.read()
        return array.shape, array.dtype

    shape, dtype = _NpyArray.shape, _NpyArray.dtype


def _whole(read, *places):
    return tuple(_WholeFile(read, *place) for place in places)


def _read_npz(path, key):
    arrays = npy.load_npz(path)
    if key not in arrays:
        raise InputError(f"{path}: found arrays {some(arrays) or 'none'}, expected rgb and flow")
    return arrays[key]


def _read_pt(path):
    import torch    # here, so that nobody without .pt files pays for it
    tensor = load_pt(path)
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
                           for stream in ("rgb", "flow")) for name in _names(file)}
    return FeatureSource(path, "canonical", streams, _declared_snippet_seconds(file), (file,))


def _hdf5(path, flow_path, annotations):
    """HDF5 of other shapes. Two files, one per stream, a dataset per video in each; or one file with groups `rgb` and
    `flow` like these; or one file with a dataset per video, streams side by side. A group around a single dataset will
    do for a dataset."""
    file = _open_h5(path)
    if flow_path is not None:
        flow = _open_h5(flow_path)
        pair = _members(file, path), _members(flow, flow_path)
        return FeatureSource(path, "hdf5", _paired(*pair, (path, flow_path)), _declared_snippet_seconds(file),
                             (file, flow))
    top = {name.lower(): name for name in _names(file)}
    if set(top) == {"rgb", "flow"} and all(isinstance(file.get(name), h5py.Group) for name in top.values()):
        pair = (_members(file[top[stream]], f"{path}: {stream}") for stream in ("rgb", "flow"))
        streams = _paired(*pair, (f"{path}: rgb", f"{path}: flow"))
    else:
        streams = {name: (array,) for name, array in _members(file, path).items()}
    return FeatureSource(path, "hdf5", streams, _declared_snippet_seconds(file), (file,))


def _joint_npy(path, flow_path, annotations):
    """W-TALC's joint file: a pickled object array, per video (T, 2D) with RGB first, in the order of videoname.npy."""
    if os.path.isdir(path):
        joint = sorted(Path(path).glob("*JOINTFeatures.npy"))
        if len(joint) != 1:
            raise InputError(f"{path}: found {count(joint, 'file')} *JOINTFeatures.npy, expected one: name the file")
        path, = joint
    arrays = npy.index_object_npy(path)
    places = [Path(annotations)] if annotations is not None and os.path.isdir(annotations) else []
    places += [Path(path).parent, *sorted(Path(path).parent.glob("*Annotations"))]
    listed = next((place / "videoname.npy" for place in places if (place / "videoname.npy").is_file()), None)
    if listed is None:
        raise InputError(f"{path}: found no videoname.npy, expected it in the annotation folder: "
                         "the joint file alone does not say which video is which")
    names = annotation_files.wtalc_names(listed.parent)
    if len(names) != len(arrays):
        raise InputError(f"{path}: found {len(arrays)} arrays, expected {len(names)}: one per name in {listed}")
    return FeatureSource(path, "joint-npy", {name: (array,) for name, array in zip(names, arrays)})


def _per_video(path, flow_path, annotations):
    """A folder with files per video. DIR/{rgb,flow}/VIDEO.npy; DIR/VIDEO.npy with both streams side by side;
    DIR/VIDEO.npz with arrays `rgb` and `flow`; each of them also in DIR/{train,test,val}; or two folders of VIDEO.npy,
    one per stream, given as two paths."""
    if flow_path is not None:
        return FeatureSource(path, "per-video", _paired(_npy_files(path), _npy_files(flow_path), (path, flow_path)))
    streams = {}
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
            _add(streams, file.stem, _whole(_read_npz, (file, "rgb"), (file, "flow")), path)
    return FeatureSource(path, "per-video", streams)


def _released_pt(path, flow_path, annotations):
    """The layout of the released EM-MIL code, DIR/{trainSet,...}/{X_RGB,X_flow,Name_flow}/N.pt. Y_flow is not read:
    the labels come from the annotations."""
    streams = {}
    for folder in (Path(path), *_subfolders(path)):
        if not (folder / "X_RGB").is_dir():
            continue
        numbers = {file.name for file in (folder / "X_RGB").glob("*.pt")}
        for key in ("X_flow", "Name_flow"):
            other = {file.name for file in (folder / key).glob("*.pt")}
            if other != numbers:
                raise InputError(f"{folder}: found {len(numbers)} files in X_RGB and {len(other)} in {key}, expected "
                                 f"the same N.pt in both (not so: {some(sorted(numbers ^ other))})")
        for number in sorted(numbers, key=lambda number: (len(number), number)):
            named = folder / "Name_flow" / number
            _add(streams, _text(load_pt(named), named),
                 _whole(_read_pt, (folder / "X_RGB" / number,), (folder / "X_flow" / number,)), path)
    return FeatureSource(path, "released-pt", streams)


_LAYOUTS = {"canonical": _canonical, "joint-npy": _joint_npy, "per-video": _per_video, "released-pt": _released_pt,
            "hdf5": _hdf5}
LAYOUTS = ("auto", *_LAYOUTS)
_SPLITS = ("train", "training", "test", "testing", "val", "validation")


def _recognise(path, flow_path):
    """The layout of what lies at `path`, by looking."""
    path = Path(path)
    if path.is_dir():
        if flow_path is not None:
            return "per-video"
        if any((folder / "X_RGB").is_dir() for folder in (path, *_subfolders(path))):
            return "released-pt"
        if any(path.glob("*JOINTFeatures.npy")):
            return "joint-npy"
        inside = sorted(file.name for pattern in ("*.h5", "*.hdf5") for file in path.glob(pattern))
        if inside:
            raise InputError(f"{path}: found a folder with {some(inside)}, expected the file itself as the path")
        return "per-video"
    with open_file(path) as (file, _):
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
        return "joint-npy"
    raise InputError(f"{path}: found a file that is neither HDF5 nor NumPy, expected features"
                     + (" (are features and annotations swapped?)" if start.lstrip()[:1] == b"{" else ""))


def _subfolders(path, *names):
    """The folders in `path`, those of the given names only (in any case) if some are given."""
    try:
        return sorted(child for child in Path(path).iterdir()
                      if child.is_dir() and (not names or child.name.lower() in names))
    except OSError as error:
        raise InputError(f"{path}: found {error.strerror}, expected a folder") from None


def _npy_files(folder):
    try:
        return {file.stem: _NpyArray(file) for file in sorted(Path(folder).iterdir()) if file.suffix == ".npy"}
    except OSError as error:
        raise InputError(f"{folder}: found {error.strerror}, expected a folder") from None


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
        raise InputError(f"{where}: found {show(name)} as the name of a video, expected text")
    return str(name)


def describe(layout):
    """What a layout looks like: the first sentence about it."""
    return " ".join(re.split(r"\.(?:\s|$)", _LAYOUTS[layout].__doc__)[0].split())


def open_features(path, *, layout="auto", flow_path=None, annotations=None, snippet_seconds=None):
    """Open the features at `path` as a `FeatureSource`; reads headers at most.

    `layout` is one of LAYOUTS; "auto" recognises it by looking. `flow_path` is the second file or folder where the
    two streams lie apart (`path` then holds RGB). `annotations` is needed by the W-TALC joint file, whose order is
    in videoname.npy of the annotation folder. `snippet_seconds` (s) overrides what the file declares.
    InputError where there is nothing of the kind.
    """
    if layout not in LAYOUTS:
        raise InputError(f"feature layout: found {layout!r}, expected one of {', '.join(LAYOUTS)}")
    with _in_one_line(path):
        if layout == "auto":
            layout = _recognise(path, flow_path)
        if flow_path is not None and layout not in ("per-video", "hdf5"):
            raise InputError(f"{flow_path}: found a second path for the flow stream, expected none ({layout} layout)")
        source = _LAYOUTS[layout](path, flow_path, annotations)
    if not source.names:
        source.close()
        raise InputError(f"{path}: found no videos, expected features ({source.layout}: {describe(source.layout)})")
    if snippet_seconds is not None:
        snippet_seconds = _seconds(snippet_seconds, "snippet_seconds")
        if source.snippet_seconds and not np.isclose(source.snippet_seconds, snippet_seconds, rtol=1e-3):
            source.notes.append(f"{path}: the file declares {source.snippet_seconds:g} s per clip; "
                                f"the given {snippet_seconds:g} s is used")
        source.snippet_seconds = snippet_seconds
    return source


# ------------------------------------------------------------------------------------------------ writing

def write_canonical(path, items, snippet_seconds, dtype="float16", compression=None):
    """Write one canonical HDF5 file from `items`, an iterable of (name, rgb (T, D), flow (T, D')); returns their count.

    One video at a time is in memory. What lies in the file is read back and compared before the file takes its name,
    and an interrupted call leaves none. `compression`: None or "gzip". InputError on values that do not fit `dtype`,
    names that HDF5 cannot hold or that come twice, and a file that does not read back.
    """
    snippet_seconds = _seconds(snippet_seconds, "snippet_seconds")
    try:
        with write_atomically(path) as temporary:
            with h5py.File(temporary, "w", rdcc_nbytes=0) as file:
                file.attrs["snippet_seconds"] = snippet_seconds
                sums = {}
                for name, rgb, flow in items:
                    if name in ("", ".") or "/" in name or "\0" in name or name in file:
                        raise InputError(f"{path}: found {show(name)} as the name of a video, expected a new "
                                         "one without / and NUL")
                    for stream, array in (("rgb", rgb), ("flow", flow)):
                        stored = _fitting(array, dtype, f"{path}: {name}: {stream}")
                        file.create_dataset(f"{name}/{stream}", data=stored, chunks=_chunks(stored),
                                            compression=compression, shuffle=compression is not None)
                        sums[f"{name}/{stream}"] = stored.shape, zlib.crc32(stored)
            with h5py.File(temporary, "r", rdcc_nbytes=0) as file:
                for key, expected in sums.items():
                    array = file[key][()]
                    if (array.shape, zlib.crc32(array)) != expected:
                        raise InputError(f"{path}: {key}: found other values than were written, expected the same "
                                         "(is the disk sound?)")
    except (OSError, RuntimeError) as error:
        raise InputError(f"{path}: found {_one_line(error)}, expected to write the file") from None
    return len(sums) // 2


def _fitting(array, dtype, where):
    array = np.asarray(array)
    if array.ndim != 2 or 0 in array.shape:
        raise InputError(f"{where}: found an array {_shape(array)}, expected (clips, dimensions)")
    with np.errstate(over="ignore"):
        stored = np.ascontiguousarray(array, dtype=dtype)
    if not np.isfinite(stored).all():
        raise InputError(f"{where}: found values up to {np.abs(array).max():.4g}, expected finite ones of {dtype}")
    return stored


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
        files = sorted(Path(folder, name) for folder, _, names in os.walk(path, followlinks=True)
                       for name in names) or [path]
        total = sum(file.stat().st_size for file in files if file.is_file())
        step = 4096 * max(1, -(-total // 2**25))
        for name in files:
            with open_file(name) as (file, size):
                digest.update(f"{name.relative_to(path)}:{size};".encode())
                for offset in range(0, size, step):
                    digest.update(os.pread(file.fileno(), 4096, offset))
    return digest.hexdigest()


# ------------------------------------------------------------------------------------------------ words

def _seconds(value, where):
    """`value` as a positive number of seconds. InputError for anything else."""
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = math.nan
    if not 0 < seconds < math.inf:
        found = show(value.item() if isinstance(value, np.generic) else value)
        raise InputError(f"{where}: found {found}, expected a positive number of seconds")
    return seconds


def _shape(array):
    return "(" + ", ".join(map(str, array.shape)) + ")"


def _one_line(error):
    system = re.search("error message = '([^']*)'", str(error))     # what HDF5 wraps into a paragraph
    return system[1] if system else " ".join(str(error).strip("'\"").split()) or type(error).__name__


def count(things, singular, plural=None):
    return f"{len(things)} {singular if len(things) == 1 else plural or singular + 's'}"


def some(names, most=5):
    """The first few of `names` for a message, and how many more there are."""
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


# ------------------------------------------------------------------------------------------------ our extractor

def extract_settings(path):
    """The settings with which tools/extract_features.py made the features at `path`, a dict; None for other features.

    They are in the attribute `extract_settings` of the HDF5 file, or in extract_settings.json of the folder.
    InputError where they cannot be read.
    """
    if os.path.isdir(path):
        stored = Path(path, "extract_settings.json")
        return load_json(stored) if stored.is_file() else None
    if not h5py.is_hdf5(path):
        return None
    with _in_one_line(path), _open_h5(path) as file:
        return json.loads(file.attrs.get("extract_settings", "null"))
