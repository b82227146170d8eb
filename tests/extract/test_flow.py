"""Flow: sign, order of the channels, scale, clipping; the last frame; DeepMind's sample."""

import multiprocessing
import time
from types import SimpleNamespace

import numpy as np
import pytest
from places import SHARED

cv2 = pytest.importorskip("cv2", reason="needs OpenCV: pip install -r requirements-video.txt")
if not hasattr(cv2, "optflow"):
    pytest.skip(
        "needs opencv-contrib-python-headless: pip install -r requirements-video.txt",
        allow_module_level=True,
    )

from extract import flow

SAMPLE = SHARED / "data/i3d"


def texture(size, seed=0):
    """Smooth random grey (size, size) uint8, large enough in its parts for motion of several
    pixels."""
    noise = np.random.default_rng(seed).normal(size=(size, size)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 6)
    return cv2.normalize(smooth, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)


def moved(x, y):
    """Two views (128, 128) of one texture: its parts move right by x and down by y pixels."""
    large = texture(256)
    after = large[64 - y : 192 - y, 64 - x : 192 - x]
    return large[64:192, 64:192].copy(), after.copy()


def pixels(result):
    """The inner part's mean displacement (x, y)."""
    assert result.shape == (128, 128, 2) and result.dtype == np.uint8
    return result[32:96, 32:96].reshape(-1, 2).mean(0) / 255 * 40 - 20


@pytest.mark.parametrize("method", flow.METHODS)
@pytest.mark.parametrize("x, y", [(3, 0), (0, 3), (-4, 2), (5, -6)])
def test_direction_order_and_scale(method, x, y):
    """Tolerance: a step of the 256 is 0.157 pixels."""
    np.testing.assert_allclose(pixels(flow.flow(*moved(x, y), method)), (x, y), atol=0.25)
    np.testing.assert_allclose(
        pixels(flow.flow(*reversed(moved(x, y)), method)), (-x, -y), atol=0.25
    )


@pytest.mark.parametrize("method", flow.METHODS)
def test_no_motion_is_the_step_above_the_middle(method):
    """(0 + 20) * 255 / 40 = 127.5, which rounds to the even 128; 128 / 127.5 - 1 is 0.08
    pixels."""
    same = texture(128)
    assert (flow.flow(same, same, method) == 128).all()


def test_beyond_20_pixels_is_clipped():
    large = cv2.resize(texture(192), (768, 768))
    found = flow.flow(
        np.ascontiguousarray(large[200:500, 200:500]),
        np.ascontiguousarray(large[230:530, 172:472]),
        "dis",
    )
    assert (found[100:200, 100:200] == (255, 0)).mean() > 0.99  # right by 28, up by 30


class Inline:
    """An executor that computes when the result is asked for, and counts what waits."""

    waiting = most = submitted = 0

    def submit(self, function, *arguments):
        self.waiting += 1
        self.submitted += 1
        self.most = max(self.most, self.waiting)
        return SimpleNamespace(result=lambda: self.compute(function, *arguments))

    def compute(self, function, *arguments):
        self.waiting -= 1
        return function(*arguments)


def colour(grey):
    return np.repeat(grey[:, :, None], 3, 2)


def test_frame_k_has_the_flow_to_the_next_and_the_last_repeats():
    large = texture(256)
    shifts = [0, 2, 5, 5, 1]  # the texture moves right by 2, 3, 0, -4
    frames = [colour(large[64:192, 64 - shift : 192 - shift]) for shift in shifts]
    pool = Inline()
    found = list(flow.with_flow(iter(frames), "dis", pool, ahead=2))
    assert all(image is frame for (image, _), frame in zip(found, frames, strict=True))
    assert [round(pixels(result)[0]) for _, result in found] == [2, 3, 0, -4, -4]
    assert pool.submitted == 4


def test_one_frame_has_no_motion_and_none_has_nothing():
    ((_, result),) = flow.with_flow(iter([colour(texture(128))]), "tvl1", Inline(), ahead=2)
    assert (result == 128).all() and result.shape == (128, 128, 2)
    assert list(flow.with_flow(iter([]), "tvl1", Inline(), ahead=2)) == []


def test_memory_does_not_depend_on_the_length():
    pool, taken = Inline(), 0

    def frames():
        nonlocal taken
        for _ in range(50):
            taken += 1
            yield colour(texture(32, seed=taken))

    pairs = flow.with_flow(frames(), "dis", pool, ahead=3)
    next(pairs)
    assert taken == 5 and pool.most == 4  # the frames of 4 pairs
    assert len(list(pairs)) == 49 and pool.most == 4


@pytest.mark.slow
def test_processes_give_the_same():
    frames = [colour(image) for image in (*moved(2, 1), moved(0, 0)[0])]
    with flow.processes(2) as pool:
        there = [result for _, result in flow.with_flow(iter(frames), "tvl1", pool, ahead=4)]
    here = [result for _, result in flow.with_flow(iter(frames), "tvl1", Inline(), ahead=4)]
    np.testing.assert_array_equal(there, here)


@pytest.mark.slow
def test_processes_end_with_the_block():
    with flow.processes(1) as pool:
        pool.submit(time.sleep, 300)
        (process,) = multiprocessing.active_children()
    process.join(60)
    assert process.exitcode is not None


@pytest.mark.slow
@pytest.mark.skipif(not SAMPLE.is_dir(), reason="needs ../shared")
def test_deepminds_sample():
    """Frames and TV-L1 flow that DeepMind published; theirs: value / 255 - 0.5 = pixels / 20."""
    av = pytest.importorskip("av", reason="needs PyAV")
    rgb, theirs = (
        [
            frame.to_ndarray(format="rgb24")
            for frame in av.open(str(SAMPLE / f"cricket_{name}.gif")).decode()
        ]
        for name in ("rgb", "flow")
    )
    ours, expected = [], []
    for k in (0, 20, 40, 60):
        before, after = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in rgb[k : k + 2])
        ours.append(smooth(flow.flow(before, after, "tvl1") / 255 * 40 - 20))
        expected.append(smooth((theirs[k][:, :, :2] / 255 - 0.5) * 20))
    for channel, least in ((0, 0.9), (1, 0.85)):
        x, y = (np.concatenate(maps)[..., channel].ravel() for maps in (ours, expected))
        assert np.corrcoef(x, y)[0, 1] >= least
        inside = np.abs(x) < 9  # theirs is cut at 10 pixels
        assert 0.8 < (x * y)[inside].sum() / (x * x)[inside].sum() < 1.2  # the same unit


def smooth(maps):
    """Blurred by a pixel: the palettes of the two GIFs add noise from pixel to pixel."""
    return cv2.GaussianBlur(maps, (0, 0), 1)
