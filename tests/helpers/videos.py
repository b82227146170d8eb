"""Small videos made by PyAV: frame i shows the number i as 8 black or white bars, so that a
reader can name it."""

from fractions import Fraction

import av
import numpy as np

SIZE = 256


def picture(number, size=(SIZE, SIZE)):
    """(H, W, 3) uint8: 8 vertical bars, bit 7 of `number` first, white for 1."""
    bars = np.array([number >> bit & 1 for bit in range(7, -1, -1)], np.uint8) * 255
    return np.ascontiguousarray(
        np.broadcast_to(bars.repeat(size[1] // 8)[None, :, None], (*size, 3))
    )


def number(image):
    """The number that a picture shows."""
    bars = np.array_split(image.mean(2).mean(0), 8)
    return int(sum(1 << 7 - i for i, bar in enumerate(bars) if bar.mean() > 128))


def write(path, pictures, rate=25, times=None, codec="libx264", rotation=None, options=None):
    """Encode `pictures` (iterable of (H, W, 3) uint8) at `rate` frames a second, or at `times` in
    milliseconds."""
    with av.open(str(path), "w") as container:
        stream = None
        for i, image in enumerate(pictures):
            if stream is None:
                stream = container.add_stream(codec, rate=Fraction(rate), options=options)
                stream.height, stream.width = image.shape[:2]
                stream.pix_fmt = "yuv420p"
                if rotation is not None:
                    stream.set_display_rotation(rotation)
                if times is not None:
                    stream.codec_context.time_base = Fraction(1, 1000)
            frame = av.VideoFrame.from_ndarray(image, "rgb24")
            if times is not None:
                frame.pts, frame.time_base = times[i], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def numbered(path, n, **options):
    return write(path, map(picture, range(n)), **options)


def sound_only(path):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), "fltp", "mono")
        frame.rate, frame.pts = 8000, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path
