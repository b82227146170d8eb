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

from formats.files import InputError, open_file, show
from formats.program import log

SHORTER_SIDE, SIDE = 256, 224  # pixels, before and after the crop
LONGEST = 10  # seconds that one picture may stay on screen


def check(path):
    """Seconds that the file declares (0.0: unknown). InputError for a file without a picture that
    can be decoded."""
    with _opened(path) as (container, stream):
        next(_decoded(container, stream, path))
        return float(_declared(container, stream))


def read_frames(path, fps, crop):
    """Yields frame 0, 1, ... of the grid, (H, W, 3) uint8 RGB, until the video ends.

    fps: frames a second (Fraction). crop: "center" resizes the shorter side to 256 and keeps the
    aspect (`centre` cuts 224 out of it, after the flow is computed); "resize" squeezes the whole
    frame into 224 x 224. What could not be decoded is logged. InputError for files without a
    picture that can be decoded, and where one stays longer than LONGEST: the times are damaged, and
    what follows cannot be placed.
    """
    with _opened(path) as (container, stream):
        scaler, size, k, end = VideoReformatter(), None, 0, Fraction(0)
        for frame, until in _shown(container, stream, path):
            if until - end > LONGEST:
                found = f"a gap of {float(until - end):.1f} s after {float(end):.1f} s of pictures"
                advice = f"at most {LONGEST} s (docs/video.md says how to mend a video's times)"
                raise InputError(path, found, advice)
            size = size or _size(frame, crop)  # the first frame's for all: the size may change
            end, image = until, None
            while k < end * fps:  # this frame is on screen at k / fps seconds
                image = _picture(scaler, frame, size) if image is None else image
                yield image
                k += 1
        declared = _declared(container, stream)
        begin = max(0, (stream.start_time or 0) * stream.time_base)
        if begin + end < declared - max(1, declared / 100):
            log.warning(
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
    """(container, video stream) of a file. InputError for whatever is raised while it is open."""
    with open_file(path) as (_, size):
        if not size:
            raise InputError(path, "an empty file", "a video")
    try:
        with av.open(f"file:{path}", metadata_errors="replace") as container:
            streams = [
                stream
                for stream in container.streams.video
                if stream.codec_context
                and not stream.disposition & av.stream.Disposition.attached_pic
            ]
            if not streams:
                raise InputError(path, "no video stream", "one (a file of sound only?)")
            streams[0].thread_type = "AUTO"
            yield container, streams[0]
    except InputError:
        raise
    except Exception as error:  # PyAV raises nearly anything on a file that FFmpeg does not take
        reason = getattr(error, "strerror", None) or show(str(error))
        raise InputError(path, f"no video ({reason})", "one that FFmpeg reads") from None


def _decoded(container, stream, path):
    """Yields the stream's frames. A packet that cannot be decoded is passed over. InputError where
    there is no frame."""
    packets, damaged, decoded = container.demux(stream), 0, False
    packet = True
    while packet is not None:
        try:
            packet = next(packets, None)
        except av.FFmpegError:  # the file breaks off: what the decoder holds is left
            damaged += 1
            packet = None
        try:
            for frame in stream.decode(packet):
                decoded = True
                yield frame
        except av.EOFError:  # the decoder was emptied by the last packet
            pass
        except av.FFmpegError:
            damaged += 1
    if not decoded:
        raise InputError(path, "no picture that can be decoded", "a video")
    if damaged:
        log.warning(
            f"{path}: {damaged} damaged packets passed over, the frame before stays on screen"
        )


def _shown(container, stream, path):
    """Yields (frame, seconds after the first frame at which it leaves the screen), in the order
    of time."""
    held, first, begin, seconds = None, None, None, Fraction(0)
    late = 0
    for frame in _decoded(container, stream, path):
        pts = frame.dts if frame.pts is None else frame.pts
        time = begin + seconds if pts is None and held else (pts or 0) * frame.time_base
        if held:
            if time <= begin:  # not after the frame before it
                late += 1
                continue
            yield held, time - first
            seconds = time - begin
        held, begin, first = frame, time, time if first is None else first
    rate = stream.average_rate or 25
    last = held.duration * held.time_base if held.duration else seconds or 1 / Fraction(rate)
    yield held, begin - first + last
    if late:
        log.warning(f"{path}: {late} frames with a time not after the frame before them left out")


def _size(frame, crop):
    """(width, height) in which frames are computed."""
    if crop == "resize":
        return SIDE, SIDE
    shorter = min(frame.width, frame.height)
    return tuple(round(side * SHORTER_SIDE / shorter) for side in (frame.width, frame.height))


def _picture(scaler, frame, size):
    """(H, W, 3) uint8 RGB of a PyAV frame, resized by FFmpeg's bilinear scaler, then turned upright
    by the rotation in the metadata (counterclockwise)."""
    resized = scaler.reformat(frame, *size, format="rgb24", interpolation="BILINEAR")
    return np.ascontiguousarray(np.rot90(resized.to_ndarray(), round(frame.rotation / 90)))


def _declared(container, stream):
    """Seconds of the video as the file declares them, 0 where it does not."""
    if stream.duration:
        return stream.duration * stream.time_base
    return Fraction(container.duration or 0, av.time_base)
