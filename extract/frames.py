"""Frames of a video on a regular grid of time, resized and cropped; clips of them. Decoded by
PyAV (FFmpeg).

Frame k of the grid is the one on screen k/fps seconds after the video's first frame, by the
presentation times in the file, so that variable rates and streams that start late need no special
case. Memory does not depend on the length.
"""

import collections
import contextlib
from fractions import Fraction

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from formats.files import InputError, open_file

SHORTER_SIDE, SIDE = 256, 224  # pixels, before and after the crop


def check(path):
    """Seconds that the file declares (0.0: unknown). InputError for a file without a picture that
    can be decoded."""
    with _opened(path) as (container, stream):
        if next(_decoded(container, stream, []), None) is None:
            raise InputError(f"{path}: found no picture that can be decoded, expected a video")
        return float(_declared(container, stream))


def read_frames(path, fps, crop, notes):
    """Yields frame 0, 1, ... of the grid, (H, W, 3) uint8 RGB, until the video ends.

    fps: frames a second (Fraction). crop: "center" resizes the shorter side to 256 and keeps the
    aspect (`centre` cuts 224 out of it, after the flow is computed); "resize" squeezes the whole
    frame into 224 x 224. What could not be decoded goes to the list `notes`, a line each.
    InputError for files without a picture that can be decoded.
    """
    with _opened(path) as (container, stream):
        convert, k, end = _converter(crop), 0, Fraction(0)
        for frame, end in _shown(container, stream, path, notes):
            image = None
            while k < end * fps:  # this frame is on screen at k / fps seconds
                image = convert(frame) if image is None else image
                yield image
                k += 1
        if k == 0:
            raise InputError(f"{path}: found no picture that can be decoded, expected a video")
        declared = _declared(container, stream)
        if end + max(0, _start(stream)) < declared - max(1, declared / 100):
            notes.append(
                f"{path}: {float(end):.1f} of {float(declared):.1f} s could be decoded, these are "
                "used"
            )


def centre(image):
    """The middle 224 x 224 of an image (H, W, ...)."""
    top, left = ((size - SIDE) // 2 for size in image.shape[:2])
    return image[top : top + SIDE, left : left + SIDE]


def clips(frames, clip, step):
    """Yields lists of `clip` consecutive frames, a list every `step` frames.

    Frames at the end that fill no clip are left out; a video shorter than one clip is one clip,
    its last frame repeated.
    """
    window, skip, none_yet = collections.deque(), 0, True
    for frame in frames:
        if skip:
            skip -= 1
            continue
        window.append(frame)
        if len(window) == clip:
            yield list(window)
            none_yet = False
            skip = max(0, step - clip)
            for _ in range(min(step, clip)):
                window.popleft()
    if none_yet and window:
        yield [*window, *[window[-1]] * (clip - len(window))]


# ---- decoding
@contextlib.contextmanager
def _opened(path):
    """(container, video stream) of a file. InputError where FFmpeg finds none."""
    with open_file(path) as (_, size):
        if not size:
            raise InputError(f"{path}: found an empty file, expected a video")
    try:
        container = av.open(f"file:{path}")
    except av.FFmpegError as error:
        raise InputError(
            f"{path}: found no video ({error.strerror}), expected one that FFmpeg reads"
        ) from None
    with container:
        streams = [
            stream
            for stream in container.streams.video
            if stream.codec_context and not stream.disposition & av.stream.Disposition.attached_pic
        ]
        if not streams:
            raise InputError(f"{path}: found no video stream, expected one (a file of sound only?)")
        streams[0].thread_type = "AUTO"
        yield container, streams[0]


def _decoded(container, stream, damaged):
    """Yields the stream's frames; every packet that cannot be decoded adds to `damaged`, and what
    follows is tried."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except av.FFmpegError as error:  # the file breaks off: what the decoder holds is left
            damaged.append(error)
            packet = None
        try:
            yield from stream.decode(packet)
        except av.FFmpegError as error:
            if not isinstance(error, EOFError):  # the decoder was emptied by the last packet
                damaged.append(error)
        if packet is None:
            return


def _shown(container, stream, path, notes):
    """Yields (frame, seconds after the first frame at which it leaves the screen), in the order
    of time."""
    held, first, begin, seconds = None, None, None, Fraction(0)
    damaged, late = [], 0
    for frame in _decoded(container, stream, damaged):
        pts = frame.dts if frame.pts is None else frame.pts
        time = begin + seconds if pts is None and held else (pts or 0) * frame.time_base
        if held:
            if time <= begin:  # not after the frame before it
                late += 1
                continue
            yield held, time - first
            seconds = time - begin
        held, begin, first = frame, time, time if first is None else first
    if held:
        rate = stream.average_rate or 25
        last = held.duration * held.time_base if held.duration else seconds or 1 / Fraction(rate)
        yield held, begin - first + last
    if damaged:
        notes.append(
            f"{path}: {len(damaged)} damaged packets passed over, the frame before stays on screen"
        )
    if late:
        notes.append(f"{path}: {late} frames with a time not after the frame before them left out")


def _converter(crop):
    """A function: PyAV frame -> (H, W, 3) uint8 RGB, resized by FFmpeg's bilinear scaler and
    turned upright."""
    reformatter, size = VideoReformatter(), None

    def convert(frame):
        nonlocal size
        if size is None:  # the first frame's for all: the size may change
            shorter = min(frame.width, frame.height)
            size = [round(s * SHORTER_SIDE / shorter) for s in (frame.width, frame.height)]
            if crop == "resize":
                size = [SIDE, SIDE]
        resized = reformatter.reformat(frame, *size, format="rgb24", interpolation="BILINEAR")
        upright = np.rot90(resized.to_ndarray(), round(frame.rotation / 90))  # counterclockwise
        return np.ascontiguousarray(upright)

    return convert


def _start(stream):
    return (stream.start_time or 0) * stream.time_base


def _declared(container, stream):
    """Seconds of the video as the file declares them, 0 where it does not."""
    if stream.duration:
        return stream.duration * stream.time_base
    return Fraction(container.duration or 0, av.time_base)
