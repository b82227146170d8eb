"""Features of many videos: open them in any layout, read them one by one, write the canonical file.

Where the arrays of each layout lie is in formats/layouts.py; shapes, checks and the conversion to
float32 are here and are the same for all of them. Nothing is read before its header has been
checked, and a video's name is only looked up among the names that a layout listed, so that no name
becomes a path. Bad input ends in an `InputError` of one line.
"""

import functools
import hashlib
import json
import os
import shlex
import zlib
from pathlib import Path

import h5py
import numpy as np

from formats import layouts
from formats.annotations import youtube_ids
from formats.files import InputError, open_file, show, some, write_atomically
from formats.layouts import STREAMS, in_one_line, one_line, positive_seconds, shape_text
from formats.names import match_names

LAYOUTS = ("auto", *layouts.LAYOUTS)
BOTH_WIDE = 2048  # the one width of an array that is both streams without saying so: 1024 each
USUAL_CROPS, MOST_CROPS = (5, 10), 32
DURATION = "duration"  # in place of a number of seconds from clip to clip: duration / clips
SAMPLE = 8  # videos are looked at to see what kind of set it is


class StoredArray:
    """One stream of one video, left on disk: `.shape`, `.dtype`; np.asarray(it) reads and checks it
    each time."""

    dtype = np.dtype(np.float32)

    def __init__(self, source, name, stream, shape):
        self._source, self._name, self._stream, self.shape = source, name, stream, shape

    def __array__(self, dtype=None, copy=None):
        array = self._source.read_stream(self._name, self._stream)
        return array if dtype is None else array.astype(dtype, copy=False)


# ---- sources
class FeatureSource:
    """The features of many videos, left on disk until asked for. Made by `open_features`.

    `streams` are those that are read, ("rgb", "flow") or one of them. One background thread may
    read while another does.
    """

    def __init__(self, path, found, *, streams=None, crops=None, transpose=False):
        self.path, self.layout, self.names = str(path), found.layout, list(found.entries)
        self._declared, self._given = found.seconds, (None, None)
        self.notes = list(found.notes)
        self.options = ""  # those given to open_features, as a command takes them
        self.streams = (streams,) if streams in STREAMS else STREAMS
        # whether an array "features" is both streams side by side, and whether somebody says so
        self._halves = streams not in STREAMS or found.joint
        self._told = streams is not None or found.joint
        self._crops, self._transpose = crops, transpose
        self._entries, self._handles, self._shapes = dict(found.entries), found.handles, {}

    def __contains__(self, name):
        return name in self._entries

    def adopt(self, names):
        """Call the stored videos by the annotated names, where match_names finds them."""
        matched = match_names(names, self.names, self.path)
        self._rename({held: name for name, held in matched.items()})

    def _rename(self, names):
        """names: {stored name: other name} of some videos."""
        self._entries = {names.get(name, name): entry for name, entry in self._entries.items()}
        self.names = list(self._entries)

    @property
    def snippet_seconds(self):
        """From clip to clip in all videos but those that declare their own: given ("duration", too)
        or declared by the file. None: not said."""
        return self._given[0] or self._declared[0]

    @property
    def clip_seconds(self):
        """Of a clip's window, likewise."""
        return self._given[1] or self._declared[1]

    def seconds(self, name, duration=None, usual=(None, None)):
        """(step, window) in seconds: from clip to clip of a video, and of a clip's window.

        What is given counts before what the video declares, that before what the file declares, and
        `usual` last. Where only the step is replaced, the window grows with it; a window of which
        nothing is said is as long as the step. (None, None) where no step is known. duration: the
        annotated one, or None; InputError where it has to be divided and is not known.
        """
        if self._given[0] == DURATION:
            if not duration:
                raise InputError(
                    f"{self.path}: {name}: found no annotated duration, expected one: "
                    f"--snippet-seconds {DURATION} divides it by the number of clips"
                )
            return (duration / self.shape(name)[0],) * 2
        own = [getattr(array, "seconds", (None, None)) for array in self._arrays(name).values()]
        said = self._declared
        for nearer in (next(filter(any, own), (None, None)), self._given):
            said = _replaced(said, *nearer)
        step, window = (value or other for value, other in zip(said, usual))
        return step, window or step

    def dtypes(self, name):
        """Element types on disk, one per array of the video."""
        return [array.dtype for array in self._arrays(name).values()]

    def array_shapes(self, name):
        """{stream: (T, D)} of the arrays as they are stored, without axes of length 1 and crops;
        "features" for one that is not yet told apart. InputError where an array is no such
        thing."""
        return {
            stream: self._two_axes(name, stream, array)
            for stream, array in self._arrays(name).items()
        }

    def stream_shapes(self, name):
        """{stream: (T, D)} of the streams that are read. InputError where one is missing."""
        shapes = self.array_shapes(name)
        if "features" in shapes:
            length, width = shapes["features"]
            if self._halves and width % 2:
                raise InputError(
                    f"{self.path}: {name}: found {width} dimensions, expected an even number: RGB "
                    "and flow side by side (--streams rgb or --streams flow reads a single stream)"
                )
            if width != BOTH_WIDE and not self._told:
                raise InputError(
                    f"{self.path}: {name}: found one array, {width} wide, which may be one stream "
                    "or both: --streams rgb or --streams flow if it is one, --streams both if it "
                    f"is RGB and flow side by side ({width // 2} each)"
                )
            return dict.fromkeys(self.streams, (length, width // 2 if self._halves else width))
        missing = [stream for stream in self.streams if stream not in shapes]
        if missing:
            raise InputError(
                f"{self.path}: {name}: found {' and '.join(shapes)} only, expected "
                f"{missing[0]}{', too' if len(self.streams) == 2 else ''}"
            )
        return {stream: shapes[stream] for stream in self.streams}

    def shape(self, name):
        """(T, D_rgb, D_flow), None for a stream that is not read. Streams that differ by at most 2
        clips or 1% are cut to the shorter, else InputError."""
        if name not in self._shapes:
            shapes = self.stream_shapes(name)
            lengths = [length for length, _ in shapes.values()]
            if max(lengths) - min(lengths) > max(2, 0.01 * max(lengths)):
                raise InputError(
                    f"{self.path}: {name}: found {lengths[0]} clips of rgb and {lengths[1]} of "
                    "flow, expected equal lengths (up to 2 clips or 1%)"
                )
            widths = (shapes[stream][1] if stream in shapes else None for stream in STREAMS)
            self._shapes[name] = min(lengths), *widths
        return self._shapes[name]

    def read(self, name):
        """(rgb (T, D), flow (T, D')) as float32, None for a stream that is not read. InputError on
        NaN or infinity."""
        joint = self._joint(name)
        return tuple(
            self._stream(name, stream, joint) if stream in self.streams else None
            for stream in STREAMS
        )

    def read_stream(self, name, stream):
        """The stream "rgb" or "flow" of one video: (T, D) float32. InputError on NaN or
        infinity."""
        return self._stream(name, stream, self._joint(name))

    def how_read(self, name):
        """In words, how the arrays of a video are brought to two axes; "" where they have two."""
        ways = {self._way(array.shape) for array in self._arrays(name).values()} - {""}
        return ", ".join(sorted(ways))

    def beside(self):
        """For a message: what lies beside a path that seems to be one part of a set; "" where there
        is nothing."""
        path = Path(self.path)
        if path.is_dir() and not layouts.is_part(path.name):
            return ""
        opened = {Path(handle.filename).name for handle in self._handles} | {path.name}
        others = [
            other.name
            for other in layouts.visible(path.parent)
            if other.name not in opened
            and other.suffix == path.suffix
            and layouts.is_part(other.stem)
        ]
        if not others:
            return ""
        return f"; beside it: {some(others)}; give the folder {path.parent} to read all"

    def close(self):
        for handle in self._handles:
            handle.close()

    def _arrays(self, name):
        """{stream: array} of a video."""
        with in_one_line(f"{self.path}: {name}"):
            arrays = layouts.resolve(self._entries[name])
        self._entries[name] = arrays
        return arrays

    def _two_axes(self, name, stream, array):
        """(T, D) of a stored array. InputError where it is no array of numbers with two axes."""
        shape, expected = array.shape, "(clips, dimensions), at least 1 of each"
        if array.dtype.kind not in "fiu":
            found, expected = f"values of type {array.dtype}", "floating-point numbers"
        elif 0 in shape:
            found = f"0 {'clips' if shape[0] == 0 else 'dimensions'} {shape_text(shape)}"
        else:
            plain = _without_ones(shape)
            axis = self._crop_axis if len(plain) == 3 and self._crops else None
            if axis is not None:
                plain = plain[:axis] + plain[axis + 1 :]
            if len(plain) == 2 and len(shape) > 1:
                return plain[::-1] if self._transpose else plain
            found = f"a {len(shape)}-D array {shape_text(shape)}"
        raise InputError(f"{self.path}: {name}: {stream}: found {found}, expected {expected}")

    @functools.cached_property
    def _crop_axis(self):
        """The axis of the crops in arrays of three axes: short, and equally long in all videos;
        None without one."""
        shapes = [shape for shape in _plain_shapes(self) if len(shape) == 3]
        same = [
            axis
            for axis in (1, 0)
            if len({shape[axis] for shape in shapes}) == 1 and 2 <= shapes[0][axis] <= MOST_CROPS
        ]
        usual = [axis for axis in same if shapes[0][axis] in USUAL_CROPS]
        if not usual and len(set(shapes)) > 1:
            usual = same
        return usual[0] if usual else None

    def _way(self, shape):
        plain = _without_ones(shape)
        if len(plain) == 3:
            return f"the {self._crops} of {plain[self._crop_axis]} crops"
        return f"axes of length 1 dropped from {shape_text(shape)}" if len(shape) > 2 else ""

    def _raw(self, name, stream):
        """The values of a stored array with two axes."""
        with in_one_line(f"{self.path}: {name}"):
            raw = self._arrays(name)[stream].read()
        raw = raw.reshape(_without_ones(raw.shape))
        if raw.ndim == 3:
            axis = self._crop_axis
            raw = raw.mean(axis, dtype=np.float64) if self._crops == "mean" else raw.take(0, axis)
        return raw.T if self._transpose else raw

    def _joint(self, name):
        """The values of the one array "features"; None where the streams have their own."""
        return self._raw(name, "features") if "features" in self._arrays(name) else None

    def _stream(self, name, stream, joint):
        """One stream, from the array of both where there is one. (T, D) float32"""
        length = self.shape(name)[0]
        if joint is None:
            raw = self._raw(name, stream)[:length]
        elif self._halves:
            half = joint.shape[1] // 2
            raw = joint[:, :half] if stream == "rgb" else joint[:, half:]
        else:
            raw = joint
        return self._checked(raw, name, stream)

    def _checked(self, raw, name, stream):
        # Values beyond float32 become infinite, which is reported below.
        with np.errstate(over="ignore", invalid="ignore"):
            # in the memory order of (D, T), which a convolution over the clips reads
            array = np.array(raw, dtype=np.float32, order="F")
            # one cheap pass; its sum may overflow, hence the second
            finite = np.isfinite(np.vdot(array.T, array.T))
        if not finite and not (good := np.isfinite(array)).all():
            clip, dimension = np.argwhere(~good)[0]
            raise InputError(
                f"{self.path}: {name}: found {array[clip, dimension]} in {stream}, clip {clip} "
                f"({(~good).sum()} of {array.size} values), expected finite numbers"
            )
        return array


def _replaced(said, step, window):
    """(step, window) `said`, in place of which `step` and `window` are said, each or None."""
    old_step, old_window = said
    if step and old_step and old_window:
        old_window *= step / old_step
    return step or old_step, window or old_window


def _without_ones(shape):
    """A shape without its axes of length 1, but with two axes at least: what is one vector is one
    clip."""
    if len(shape) <= 2:
        return tuple(shape)
    plain = tuple(n for n in shape if n != 1)
    return (1,) * (2 - len(plain)) + plain


# ---- open
def open_features(
    path,
    annotations=None,
    *,
    flow_features=None,
    feature_layout="auto",
    snippet_seconds=None,
    clip_seconds=None,
    streams=None,
    crops=None,
    transpose=False,
):
    """Open the features at `path` as a `FeatureSource`; reads headers at most.

    feature_layout: one of LAYOUTS; "auto" recognises it by looking. flow_features: the second file
    or folder where the two streams lie apart (`path` then holds RGB). annotations: the annotations'
    path, needed by W-TALC's joint file, whose order is in videoname.npy of the annotation folder.
    snippet_seconds (s, or "duration": duration / clips of each video), clip_seconds (s): in place
    of what the file and its videos declare, see `FeatureSource.seconds`.
    streams: "both", "rgb" or "flow"; None: both, and one array a video is halved only in a joint
    file and where it is 2048 wide; the error asks elsewhere.
    crops: "mean" or "first" of the crops in arrays of three axes.
    transpose: the arrays are stored (dimensions, clips).
    InputError where there are no features, and where what is meant cannot be known.
    """
    if feature_layout not in LAYOUTS:
        raise InputError(
            f"feature layout: found {feature_layout!r}, expected one of {', '.join(LAYOUTS)}"
        )
    if flow_features is not None and feature_layout not in ("auto", "per-video", "hdf5"):
        raise InputError(
            f"{flow_features}: found a second path for the flow stream, expected none "
            f"({feature_layout} layout)"
        )
    found = layouts.read_layout(path, feature_layout, annotations)
    if flow_features is not None and found.entries:
        flow = layouts.read_layout(flow_features, feature_layout, annotations)
        found.entries = layouts.pair(found.entries, flow.entries)
        found.handles += flow.handles
        found.layout = "hdf5" if found.layout == "canonical" else found.layout
    source = FeatureSource(path, found, streams=streams, crops=crops, transpose=transpose)
    ids = {} if annotations is None else youtube_ids(annotations)
    stored = match_names([name for name in ids if ids[name] not in source], source.names)
    source._rename({held: ids[name] for name, held in stored.items()})
    source.options = _as_options(
        {
            "--flow-features": flow_features,
            "--feature-layout": feature_layout if feature_layout != "auto" else None,
            "--snippet-seconds": snippet_seconds,
            "--clip-seconds": clip_seconds,
            "--streams": streams,
            "--crops": crops,
        }
    )
    try:
        if not source.names:
            raise InputError(layouts.nothing_found(path))
        _ask(source, found, streams, crops, flow_features)
        _set_seconds(source, snippet_seconds, clip_seconds)
    except InputError:
        source.close()
        raise
    return source


def _as_options(given):
    """{flag: value or None} as words of a command, with a blank before each."""
    return "".join(f" {flag} {shlex.quote(str(value))}" for flag, value in given.items() if value)


def _set_seconds(source, snippet_seconds, clip_seconds):
    """Seconds to take in place of what the file and its videos declare; None: what they declare."""
    duration = snippet_seconds == DURATION
    if duration and clip_seconds is not None:
        raise InputError(
            f"--clip-seconds: found with --snippet-seconds {DURATION}, expected none: clips then "
            "lie side by side"
        )
    source._given = tuple(
        value if value in (None, DURATION) else positive_seconds(value, what)
        for what, value in zip(layouts.SECONDS, (snippet_seconds, clip_seconds))
    )
    for what, now, then in zip(("clip", "window"), source._given, source._declared):
        if now and then and (duration or not np.isclose(then, now, rtol=1e-3)):
            now = "duration of each video / clips" if duration else f"{now:g} s"
            source.notes.append(
                f"{source.path}: the file declares {then:g} s per {what}; the given {now} is used"
            )


def _sample(source):
    """{stream: array} of the first videos that can be opened."""
    opened = []
    for name in source.names[:SAMPLE]:
        try:
            arrays = source._arrays(name)
            if all(array.shape for array in arrays.values()):
                opened.append(arrays)
        except InputError:  # reported where the video is needed
            pass
    return opened


def _plain_shapes(source):
    """Shapes, without axes of length 1, of the arrays of the first videos."""
    return [_without_ones(array.shape) for arrays in _sample(source) for array in arrays.values()]


def _ask(source, found, streams, crops, flow_path):
    """InputError where what the arrays are cannot be known from them; a note on how a single stream
    is read."""
    shape = next((shape for shape in _plain_shapes(source) if len(shape) == 3), None)
    if shape and crops is None and (axis := source._crop_axis) is not None:
        raise InputError(
            f"{source.path}: found arrays of three axes, such as {shape_text(shape)}, "
            f"which look like {shape[axis]} crops a clip: --crops mean averages them, "
            "--crops first takes the first"
        )
    kinds = {frozenset(entry) for entry in source._entries.values() if not callable(entry)}
    kinds |= {frozenset(arrays) for arrays in _sample(source)}
    (only,) = kinds if len(kinds) == 1 else (frozenset(STREAMS),)
    if streams in STREAMS:
        if only == {"features"} and not found.joint:
            source.notes.append(
                f"{source.path}: every array is taken as one stream, {streams}, as given"
            )
    elif only == {"features"} and not found.joint and streams is None and flow_path is None:
        _ask_halves(source.path)
    elif only in ({"rgb"}, {"flow"}):
        (stream,) = only
        if streams is None and found.layout == "canonical":
            source.streams = (stream,)
            source.notes.append(f"{source.path}: found {stream} only; it is the only stream")
        else:
            other = "flow" if stream == "rgb" else "rgb"
            raise InputError(
                f"{source.path}: found {stream} only, expected {other}, too: give the "
                f"path that holds both, or --streams {stream} for {stream} alone"
            )


def _ask_halves(path):
    """InputError where the path is named after one stream, and each array may be both."""
    path = Path(path)
    word = layouts.stream_word(path.stem if path.is_file() else path.name)
    if word:
        other = _beside(path, word)
        more = f", --flow-features {other} to read both" if other and word == "rgb" else ""
        raise InputError(
            f"{path}: found a {'file' if path.is_file() else 'folder'} named {word}, which may be "
            f"one stream or both: --streams {word} to read one{more}, --streams both if every "
            "array is RGB and flow side by side"
        )


def _beside(path, word):
    """The path beside `path` that has the other stream's name, or None."""
    name = path.name.lower().replace(word, "flow" if word == "rgb" else "rgb")
    there = layouts.visible(path.parent)
    return next((other for other in there if other.name.lower() == name), None)


# ---- writing
def write_canonical(
    path,
    items,
    snippet_seconds,
    dtype="float16",
    compression=None,
    clip_seconds=None,
    own=None,
    **attributes,
):
    """Write one canonical HDF5 file from `items`, an iterable of (name, rgb (T, D), flow (T, D'));
    returns their count.

    A stream that is None is left out. One video at a time is in memory. What lies in the file is
    read back and compared before the file takes its name, and an interrupted call leaves none.
    compression: None or "gzip". snippet_seconds, clip_seconds (default: the same), attributes: of
    the file. own, {name: (snippet_seconds, clip_seconds)}, in place of these two: of the file where
    all are equal, else of each video. InputError on values that do not fit `dtype`, names that HDF5
    cannot hold or that come twice, and a file that does not read back.
    """
    if own:
        snippet_seconds, clip_seconds = in_common(own.values())
    differ = bool(own) and snippet_seconds is None
    of_file = {} if differ else _both_seconds(path, snippet_seconds, clip_seconds)
    try:
        with write_atomically(path) as temporary:
            with h5py.File(temporary, "w", rdcc_nbytes=0) as file:
                file.attrs.update(of_file, **attributes)
                sums, n = {}, 0
                for n, (name, rgb, flow) in enumerate(items, 1):
                    if name in ("", ".") or "/" in name or "\0" in name or name in file:
                        raise InputError(
                            f"{path}: found {show(name)} as the name of a video, "
                            "expected a new one without / and NUL"
                        )
                    for stream, array in zip(STREAMS, (rgb, flow)):
                        if array is None:
                            continue
                        stored = _fitting(array, dtype, f"{path}: {name}: {stream}")
                        file.create_dataset(
                            f"{name}/{stream}",
                            data=stored,
                            chunks=_chunks(stored),
                            compression=compression,
                            shuffle=compression is not None,
                        )
                        sums[f"{name}/{stream}"] = stored.shape, zlib.crc32(stored)
                    if differ:
                        file[name].attrs.update(_both_seconds(f"{path}: {name}", *own[name]))
            with h5py.File(temporary, "r", rdcc_nbytes=0) as file:
                for key, expected in sums.items():
                    array = file[key][()]
                    if (array.shape, zlib.crc32(array)) != expected:
                        raise InputError(
                            f"{path}: {key}: found other values than were written, "
                            "expected the same (is the disk sound?)"
                        )
    except (OSError, RuntimeError) as error:
        raise InputError(f"{path}: found {one_line(error)}, expected to write the file") from None
    return n


def in_common(seconds):
    """The one pair (step, window) of all videos; (None, None) where they differ."""
    pairs = set(seconds)
    return pairs.pop() if len(pairs) == 1 else (None, None)


def _both_seconds(where, step, window):
    """The attributes of a file or group. window: None where it is as long as the step."""
    both = zip(layouts.SECONDS, (step, step if window is None else window))
    return {what: positive_seconds(value, f"{where}: {what}") for what, value in both}


def _fitting(array, dtype, where):
    array = np.asarray(array)
    if array.ndim != 2 or 0 in array.shape:
        raise InputError(
            f"{where}: found an array {shape_text(array.shape)}, expected (clips, dimensions)"
        )
    with np.errstate(over="ignore"):
        stored = np.ascontiguousarray(array, dtype=dtype)
    if not np.isfinite(stored).all():
        hint = " (float32 holds more)" if dtype == "float16" else ""
        raise InputError(
            f"{where}: found values up to {np.abs(array).max():.4g}, expected finite "
            f"ones of {dtype}{hint}"
        )
    return stored


def _chunks(array):
    """Chunk shape: whole rows, all chunks of about the same length, at most 512 KiB each."""
    length, width = array.shape
    pieces = -(-array.nbytes // 2**19)
    return -(-length // pieces), width


def _files_at(paths):
    """(path, its files) of each of the paths; None is skipped."""
    for path in (Path(path) for path in paths if path is not None):
        below = os.walk(path, followlinks=True)
        yield path, sorted(Path(place, n) for place, _, names in below for n in names) or [path]


def file_state(*paths):
    """[(name, size, time of the last change)] of the files at `paths` (files or folders; None is
    skipped), to notice that somebody writes to them.
    """
    files = [file for _, files in _files_at(paths) for file in files if file.is_file()]
    return [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]


def fingerprint(*paths):
    """A hash (16 hex digits) of the data at `paths` (files or folders; None is skipped), to notice
    that they changed.

    It sees the names (of files within a folder), the sizes, and the bytes: all of them up to 32 MiB
    per path, beyond that 4 KiB at regular steps, 32 MiB in all. New features, another
    order, another length or a change of a whole video are noticed, a change that fits between two
    samples is not (in 1 GB: 124 KiB, 60 clips of 1024 float16). Copying or touching the files
    changes nothing. InputError where a path cannot be read.
    """
    digest = hashlib.blake2b(digest_size=8)
    for path, files in _files_at(paths):
        total = sum(file.stat().st_size for file in files if file.is_file())
        step = 4096 * max(1, -(-total // 2**25))
        for name in files:
            with open_file(name) as (file, size):
                digest.update(f"{name.relative_to(path)}:{size};".encode())
                for offset in range(0, size, step):
                    file.raw.seek(offset)
                    digest.update(file.raw.read(4096))
    return digest.hexdigest()


def extract_settings(path):
    """The settings with which tools/extract_features.py made the features at `path`, a dict from
    the HDF5 file's attribute `extract_settings`; None for other features.

    InputError where they cannot be read.
    """
    if os.path.isdir(path) or not h5py.is_hdf5(path):
        return None
    with in_one_line(path), h5py.File(path) as file:
        settings = json.loads(file.attrs.get("extract_settings", "null"))
    if settings is not None and not isinstance(settings, dict):
        raise InputError(path, f"extract_settings {show(settings)}", "a JSON object")
    return settings
