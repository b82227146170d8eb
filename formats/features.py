"""Features of many videos: open them in any layout, read them one by one, write the canonical file.

Where the arrays of each layout lie is in formats/layouts.py; shapes, checks and the conversion to
float32 are here and are the same for all of them. Nothing is read before its header has been
checked, and a video's name is only looked up among the names that a layout listed, so that no name
becomes a path. Bad input ends in an `InputError` of one line.
"""

import contextlib
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
from formats.files import InputError, files_below, open_file, show, some, write_atomically
from formats.layouts import STREAMS, positive_seconds
from formats.names import match_names
from formats.npy import in_one_line, reason
from formats.program import log

BOTH_WIDE = 2048  # the one width of an array that is both streams without saying so: 1024 each
USUAL_CROPS = 5, 10
DURATION = "duration"  # in place of a number of seconds from clip to clip: duration / clips
TWO_AXES = "(clips, dimensions), at least 1 of each"


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

    def __init__(self, path, found, streams=None, crops=None, transpose=False):
        self.path, self.layout, self.options = str(path), found.layout, ""
        self.streams = (streams,) if streams in STREAMS else STREAMS
        self._videos, self._handles, self.close = found.videos(), found.handles, found.close
        self.names = list(self._videos)
        self._declared, self._given = found.seconds, (None, None)
        # whether an array "features" is both streams side by side, and whether somebody says so
        self._halves = streams not in STREAMS or found.joint
        self._told = streams is not None or found.joint
        self._crops, self._transpose = crops, transpose
        self._opened, self._shapes = {}, {}

    def __contains__(self, name):
        return name in self._videos

    def adopt(self, names):
        """Call the stored videos by the annotated names, where match_names finds them."""
        matched = match_names(names, self.names, self.path)
        self._rename({held: name for name, held in matched.items()})
        folders = {}
        for held in self._videos:
            folders.setdefault(held.rpartition("/")[2], []).append(held)
        for name in names:
            if name not in self._videos and len(folders.get(name, ())) > 1:
                places = " and ".join(folders[name])
                refuse = functools.partial(layouts.refuse_twice, self.path, name, places)
                self._videos[name] = {"features": (places, refuse)}
        self.names = list(self._videos)

    def _rename(self, names):
        """names: {stored name: other name} of some videos."""
        self._videos = {names.get(name, name): parts for name, parts in self._videos.items()}
        self._opened, self.names = {}, list(self._videos)

    # -- seconds
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
                divided = f"one: --snippet-seconds {DURATION} divides it by the number of clips"
                raise InputError(f"{self.path}: {name}", "no annotated duration", divided)
            return (duration / self.shape(name)[0],) * 2
        own = [array.seconds for array in self._arrays(name).values()]
        step, window = self._declared
        for new_step, new_window in (next(filter(any, own), (None, None)), self._given):
            if new_step and step and window:
                window *= new_step / step
            step, window = new_step or step, new_window or window
        step, window = (value or other for value, other in zip((step, window), usual))
        return step, window or step

    # -- shapes
    def dtypes(self, name):
        """Element types on disk, one per array of the video."""
        return [array.dtype for array in self._arrays(name).values()]

    def array_shapes(self, name):
        """{stream: (T, D)} of the arrays as they are stored, without axes of length 1 and crops;
        "features" for one that is not yet told apart. InputError where an array is no such
        thing."""
        shapes = {}
        for stream, array in self._arrays(name).items():
            where, shape = f"{self.path}: {name}: {stream}", array.shape
            if array.dtype.kind not in "fiu":
                raise InputError(where, f"values of type {array.dtype}", "floating-point numbers")
            if 0 in shape:
                none = "clips" if shape[0] == 0 else "dimensions"
                raise InputError(where, f"0 {none} {shape}", TWO_AXES)
            plain = _without_ones(shape)
            if len(plain) == 3 and self._crops and self._crop_axis is not None:
                plain = plain[: self._crop_axis] + plain[self._crop_axis + 1 :]
            if len(plain) != 2 or len(shape) < 2:
                raise InputError(where, f"a {len(shape)}-D array {shape}", TWO_AXES)
            shapes[stream] = plain[::-1] if self._transpose else plain
        return shapes

    def stream_shapes(self, name):
        """{stream: (T, D)} of the streams that are read. InputError where one is missing."""
        shapes, where = self.array_shapes(name), f"{self.path}: {name}"
        if "features" not in shapes:
            missing = [stream for stream in self.streams if stream not in shapes]
            if missing:
                more = ", too" if len(self.streams) == 2 else ""
                raise InputError(where, f"{' and '.join(shapes)} only", f"{missing[0]}{more}")
            return {stream: shapes[stream] for stream in self.streams}
        length, width = shapes["features"]
        if self._halves and width % 2:
            expected = "an even number: RGB and flow side by side (or a single stream: --streams)"
            raise InputError(where, f"{width} dimensions", expected)
        if width != BOTH_WIDE and not self._told:
            found = f"one array, {width} wide, which may be one stream or both"
            both = f"--streams both if it is RGB and flow side by side ({width // 2} each)"
            raise InputError(where, found, f"--streams rgb or --streams flow if it is one, {both}")
        return dict.fromkeys(self.streams, (length, width // 2 if self._halves else width))

    def shape(self, name):
        """(T, D_rgb, D_flow), None for a stream that is not read. Streams that differ by at most 2
        clips or 1% are cut to the shorter, else InputError."""
        if name not in self._shapes:
            shapes = self.stream_shapes(name)
            lengths = [length for length, _ in shapes.values()]
            if max(lengths) - min(lengths) > max(2, 0.01 * max(lengths)):
                found = f"{lengths[0]} clips of rgb and {lengths[1]} of flow"
                equal = "equal lengths, up to 2 clips or 1% (resample one to the other's times)"
                raise InputError(f"{self.path}: {name}", found, equal)
            widths = (shapes[stream][1] if stream in shapes else None for stream in STREAMS)
            self._shapes[name] = min(lengths), *widths
        return self._shapes[name]

    def how_read(self, name):
        """In words, what is changed when a video is read: a list."""
        ways = []
        for array in self._arrays(name).values():
            plain = _without_ones(array.shape)
            if len(plain) == 3:
                ways.append(f"the {self._crops} of {plain[self._crop_axis]} crops")
            elif len(array.shape) > 2:
                ways.append(f"axes of length 1 dropped from {array.shape}")
            if array.dtype.name not in ("float16", "float32"):
                ways.append(f"{array.dtype.name} converted to float32")
        if len({length for length, _ in self.stream_shapes(name).values()}) > 1:
            ways.append("streams of unequal length cut to the shorter")
        return list(dict.fromkeys(ways))

    @functools.cached_property
    def _crop_axis(self):
        """The axis of the crops in arrays of three axes: short, and equally long in all videos;
        None without one."""
        shapes = [shape for shape in self._sample() if len(shape) == 3]
        same = [
            axis
            for axis in (1, 0)
            if len({shape[axis] for shape in shapes}) == 1
            and 2 <= shapes[0][axis] <= layouts.MOST_CROPS
        ]
        usual = [axis for axis in same if shapes[0][axis] in USUAL_CROPS]
        return next(iter(usual or (same if len(set(shapes)) > 1 else ())), None)

    def _sample(self):
        """Shapes, without axes of length 1, of the arrays of the first videos that can be
        opened."""
        opened = []
        for name in self.names:
            with contextlib.suppress(InputError):  # reported where the video is needed
                opened.append([_without_ones(array.shape) for array in self._arrays(name).values()])
            if len(opened) == layouts.SAMPLE:
                break
        return [shape for shapes in opened for shape in shapes]

    # -- values
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

    def _arrays(self, name):
        """{stream: FileArray} of a video."""
        if name not in self._opened:
            with in_one_line(f"{self.path}: {name}"):
                self._opened[name] = layouts.arrays_of(self._videos[name])
        return self._opened[name]

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
        """One stream, from the array of both where there is one: (T, D) float32, checked."""
        length, *widths = self.shape(name)
        shape, where = (length, widths[STREAMS.index(stream)]), f"{self.path}: {name}"
        raw = self._raw(name, stream)[:length] if joint is None else joint
        if joint is not None and self._halves:
            raw = joint[:, : shape[1]] if stream == "rgb" else joint[:, shape[1] :]
        if raw.shape != shape:
            raise InputError(where, f"{raw.shape} values", f"{shape}: has the file changed?")
        # Values beyond float32 become infinite, which is reported below.
        with np.errstate(over="ignore", invalid="ignore"):
            # in the memory order of (D, T), which a convolution over the clips reads
            array = np.array(raw, dtype=np.float32, order="F")
            # one cheap pass; its sum may overflow, hence the second
            finite = np.isfinite(np.vdot(array.T, array.T))
        if not finite and not (good := np.isfinite(array)).all():
            clip, dimension = np.argwhere(~good)[0]
            found = f"{array[clip, dimension]} in {stream}, clip {clip}"
            found = f"{found} ({(~good).sum()} of {array.size} values)"
            raise InputError(where, found, "finite numbers")
        return array

    def beside(self):
        """For a message: the other parts of a set beside a path that seems to be a part of it."""
        path, opened = Path(self.path), {os.path.basename(file.filename) for file in self._handles}
        there = [other for other in layouts.visible(path.parent) if other.suffix == path.suffix]
        others = [other.name for other in there if layouts.is_part(other.stem) and other != path]
        others = [name for name in others if name not in opened]
        if not others or not layouts.is_part(path.stem):
            return ""
        return f"; beside it: {some(others)}; give the folder {path.parent} to read all"


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
    truth=None,
    *,
    flow_features=None,
    snippet_seconds=None,
    clip_seconds=None,
    streams=None,
    crops=None,
    key=None,
    transpose=False,
):
    """Open the features at `path` as a `FeatureSource`; reads headers at most.

    flow_features: the second file or folder where the two streams lie apart (`path` then holds
    RGB). truth: the annotations, whose names the videos take; the order of W-TALC's joint file is
    in videoname.npy of their folder.
    snippet_seconds (s, or "duration": duration / clips of each video), clip_seconds (s): in place
    of what the file and its videos declare, see `FeatureSource.seconds`.
    streams: "both", "rgb" or "flow"; None: both, and one array a video is halved only in a joint
    file and where it is 2048 wide; the error asks elsewhere.
    crops: "mean" or "first" of the crops in arrays of three axes, or in files VIDEO__0.npy, ...
    key: the name of the array to read, where a video has several.
    transpose: the arrays are stored (dimensions, clips).
    InputError where there are no features, and where what is meant cannot be known.
    """
    given = {"flow_features": flow_features, "snippet_seconds": snippet_seconds}
    given |= {"clip_seconds": clip_seconds, "streams": streams, "crops": crops, "key": key}
    place = None if truth is None else truth.path
    found = layouts.find(path, place, key, crops)
    try:
        if flow_features is not None:
            found = layouts.pair(found, layouts.find(flow_features, place, key, crops))
        source = FeatureSource(path, found, streams, crops, transpose)
        source.options = "".join(
            f" --{name.replace('_', '-')} {shlex.quote(str(value))}"
            for name, value in given.items()
            if value is not None
        )
        if truth is not None:
            _by_youtube_ids(source, place)
            source.adopt(truth.videos.index)
        _ask(source, found, given)
        _set_seconds(source, snippet_seconds, clip_seconds)
    except InputError:
        found.close()
        raise
    return source


def _by_youtube_ids(source, place):
    """Calls the videos of W-TALC's joint file as its annotations do: by the ids in url.npy."""
    ids = youtube_ids(place)
    stored = match_names([name for name in ids if ids[name] not in source], source.names)
    source._rename({held: ids[name] for name, held in stored.items()})


def _set_seconds(source, snippet_seconds, clip_seconds):
    """Seconds to take in place of what the file and its videos declare; None: what they declare."""
    duration = snippet_seconds == DURATION
    if duration and clip_seconds is not None:
        found = f"with --snippet-seconds {DURATION}"
        raise InputError("--clip-seconds", found, "none: clips then lie side by side")
    source._given = tuple(
        value if value in (None, DURATION) else positive_seconds(value, what)
        for what, value in zip(layouts.SECONDS, (snippet_seconds, clip_seconds))
    )
    for what, now, then in zip(("clip", "window"), source._given, source._declared):
        if now and then and (duration or not np.isclose(then, now, rtol=1e-3)):
            now = "duration of each video / clips" if duration else f"{now:g} s"
            log.warning(
                f"{source.path}: the file declares {then:g} s per {what}; the given {now} is used"
            )


def _ask(source, found, given):
    """InputError where what the arrays are cannot be known from them; a warning on how a single
    stream is read."""
    path, streams = source.path, given["streams"]
    shape = next((shape for shape in source._sample() if len(shape) == 3), None)
    if shape and given["crops"] is None and (axis := source._crop_axis) is not None:
        crops = f"arrays of three axes, such as {shape}, which look like {shape[axis]} crops a clip"
        raise InputError(path, crops, "--crops mean (averages them) or --crops first")
    only = _only_kind(source)
    whole = only == "features" and not found.joint  # one array a video, which may be both
    if whole and streams in STREAMS:
        log.warning(f"{path}: every array is taken as one stream, {streams}, as given")
    elif whole and streams is None and given["flow_features"] is None:
        word = layouts.stream_word(Path(path).stem)
        if word:
            one = f"--streams {word} (one), --streams both (RGB and flow side by side in each array"
            name = f"a name of {word}, which may be one stream or both"
            raise InputError(path, name, f"{one}), or --flow-features {_second(Path(path))}")
    elif only in STREAMS and streams is None and found.layout == "canonical":
        source.streams = (only,)
        log.warning(f"{path}: found {only} only; it is the only stream")
    elif only in STREAMS and streams not in STREAMS:
        other = {"rgb": "flow", "flow": "rgb"}[only]
        ways = f"--flow-features {_second(Path(path))}, or --streams {only} for {only} alone"
        raise InputError(path, f"{only} only", f"{other}, too: the path that holds both, {ways}")


def _only_kind(source):
    """The one stream, or "features", that all videos have; None where they have both streams.
    Videos are opened until that is clear."""
    kinds = {stream for parts in source._videos.values() for stream in parts} - {"features"}
    for name, parts in source._videos.items():
        if len(kinds) > 1 or "features" in kinds:
            break
        if "features" in parts:
            with contextlib.suppress(InputError):  # reported where the video is needed
                kinds |= set(source._arrays(name))
    return kinds.pop() if len(kinds) == 1 else None


def _second(path):
    """What --flow-features may name, as a word of a command: flow beside an RGB path, else a folder
    of another modality in `path`; PATH where there is none."""
    if layouts.stream_word(path.stem):
        there = [p for p in layouts.visible(path.parent) if p.suffix == path.suffix and p != path]
        there = [p for p in there if layouts.stream_word(p.stem) == "flow"]
    else:
        there = [p for p in layouts.visible(path) if p.is_dir()] if path.is_dir() else []
        there = [p for p in there if not layouts.is_part(p.name) and layouts.holds_features(p)]
    return shlex.quote(str(there[0])) if there else "PATH"


# ---- writing
def write_canonical(
    path, items, snippet_seconds, dtype="float16", compression=None, clip_seconds=None, **attributes
):
    """Write one canonical HDF5 file from `items`, an iterable of (name, rgb (T, D), flow (T, D'));
    returns their count.

    A stream that is None is left out. One video at a time is in memory. What lies in the file is
    read back and compared before the file takes its name, and an interrupted call leaves none.
    snippet_seconds, clip_seconds (default: the same): of all videos, attributes of the file; or
    snippet_seconds is {name: (step, window)}, attributes of each video where they differ.
    compression: None or "gzip". attributes: of the file. InputError on values that do not fit
    `dtype`, names that HDF5 cannot hold or that come twice, and a file that does not read back.
    """
    seconds, own = (snippet_seconds, clip_seconds or snippet_seconds), {}
    if isinstance(snippet_seconds, dict):
        seconds, own = in_common(snippet_seconds.values()), snippet_seconds
    try:
        with write_atomically(path) as temporary:
            with h5py.File(temporary, "w", rdcc_nbytes=0) as file:
                file.attrs.update({} if seconds[0] is None else _both(path, seconds), **attributes)
                sums, n = {}, 0
                for n, (name, *streams) in enumerate(items, 1):
                    if {"", ".", ".."} & set(name.split("/")) or "\0" in name or name in file:
                        found = f"{show(name)} as the name of a video"
                        raise InputError(path, found, "a new one that HDF5 can hold")
                    for stream, array in zip(STREAMS, streams):
                        if array is not None:
                            key = f"{name}/{stream}"
                            stored = _fitting(array, dtype, f"{path}: {name}: {stream}")
                            how = dict(compression=compression, shuffle=compression is not None)
                            file.create_dataset(key, data=stored, chunks=_chunks(stored), **how)
                            sums[key] = stored.shape, zlib.crc32(stored)
                    if seconds[0] is None:
                        file[name].attrs.update(_both(f"{path}: {name}", own[name]))
            with h5py.File(temporary, "r", rdcc_nbytes=0) as file:
                for key, expected in sums.items():
                    array = file[key][()]
                    if (array.shape, zlib.crc32(array)) != expected:
                        found = "other values than were written"
                        raise InputError(f"{path}: {key}", found, "the same (is the disk sound?)")
    except (OSError, RuntimeError) as error:
        raise InputError(path, reason(error), "to write the file") from None
    return n


def in_common(seconds):
    """The one pair (step, window) of all videos; (None, None) where they differ."""
    pairs = set(seconds)
    return pairs.pop() if len(pairs) == 1 else (None, None)


def _both(where, seconds):
    """The attributes of a file or group."""
    both = zip(layouts.SECONDS, seconds)
    return {what: positive_seconds(value, f"{where}: {what}") for what, value in both}


def _chunks(array):
    """The shape of chunks of whole rows, all about as long, at most 512 KiB each. (On a full disk,
    HDF5 crashes when Python ends if a dataset has no chunks.)"""
    length, width = array.shape
    return -(-length // -(-array.nbytes // 2**19)), width


def _fitting(array, dtype, where):
    array = np.asarray(array)
    if array.ndim != 2 or 0 in array.shape:
        raise InputError(where, f"an array {array.shape}", TWO_AXES)
    with np.errstate(over="ignore"):
        stored = np.ascontiguousarray(array, dtype=dtype)
    if not np.isfinite(stored).all():
        hint = " (float32 holds more)" if dtype == "float16" else ""
        most = f"values up to {np.abs(array).max():.4g}"
        raise InputError(where, most, f"finite ones of {dtype}{hint}")
    return stored


# ---- has the data changed?
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
    for path in (Path(path) for path in paths if path is not None):
        files = _named_files(path)
        total = sum(file.stat().st_size for file in files.values() if file.is_file())
        step = 4096 * max(1, -(-total // 2**25))
        for name, file in files.items():
            with open_file(file) as (opened, size):
                digest.update(name + f":{size};".encode())
                for offset in range(0, size, step):
                    opened.raw.seek(offset)
                    digest.update(opened.raw.read(4096))
    return digest.hexdigest()


def file_state(*paths):
    """A hash (16 hex digits) of the names, sizes and times of the files at `paths` (None is
    skipped): equal before and after a run if nobody wrote to them. Reads no file."""
    digest = hashlib.blake2b(digest_size=8)
    for path in (Path(path) for path in paths if path is not None):
        for name, file in _named_files(path).items():
            with contextlib.suppress(OSError):  # a file that is gone is another state
                about = file.stat()
                name += f":{about.st_size}:{about.st_mtime_ns};".encode()
            digest.update(name)
    return digest.hexdigest()


def _named_files(path):
    """{name within the path, as bytes that are the same on all systems: file}, in order."""
    files = files_below(path) if path.is_dir() else ()
    named = {os.fsencode(file.relative_to(path).as_posix()): file for file in files}
    return dict(sorted(named.items())) or {b".": path}


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
