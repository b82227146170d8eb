"""Small videos made by PyAV: frame i shows the number i as 8 black or white bars, so that a
reader can name it."""

from fractions import Fraction

import av
import numpy as np

SIZE = 256


def picture(number):
    """(256, 256, 3) uint8: 8 vertical bars, bit 7 of `number` first, white for 1."""
    bars = np.array([number >> bit & 1 for bit in range(7, -1, -1)], np.uint8) * 255
    return np.ascontiguousarray(
        np.broadcast_to(bars.repeat(SIZE // 8)[None, :, None], (SIZE, SIZE, 3))
    )


def number(image):
    """The number that a picture shows."""
    bars = np.array_split(image.mean(2).mean(0), 8)
    return int(sum(1 << 7 - i for i, bar in enumerate(bars) if bar.mean() > 128))


def write(path, pictures, rate=25, times=None, codec="libx264", rotation=0, title="", options=None):
    """Encode `pictures` (iterable of (H, W, 3) uint8) at `rate` frames a second, or at `times` in
    milliseconds."""
    with av.open(str(path), "w") as container:
        container.metadata["title"] = title
        stream = container.add_stream(codec, rate=Fraction(rate), options=options)
        stream.pix_fmt = "yuv420p"
        stream.set_display_rotation(rotation)
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for i, image in enumerate(pictures):
            stream.height, stream.width = image.shape[:2]
            frame = av.VideoFrame.from_ndarray(image, "rgb24")
            if times is not None:
                frame.pts, frame.time_base = times[i], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def numbered(path, n, **options):
    return write(path, map(picture, range(n)), **options)
