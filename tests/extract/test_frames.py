"""The grid of frames against its definition and against FFmpeg's filter `fps`; damaged and odd
files; clips."""

import wave
from fractions import Fraction

import numpy as np
import pytest

av = pytest.importorskip("av", reason="needs PyAV: pip install -r requirements-video.txt")

import videos
from errors import line_of

from extract import frames

pytestmark = pytest.mark.slow
# milliseconds: fast, slow, and a gap of half a second
VARIABLE = [0, 40, 100, 110, 300, 310, 400, 480, 500, 1000, 1033, 1066, 1300, 1308]


def shown(path, fps):
    """Numbers of the pictures on the grid."""
    return [videos.number(image) for image in frames.read_frames(path, Fraction(fps), "center")]


def by_definition(times, last, fps):
    """Picture i is on screen from times[i] to times[i + 1], the last one for `last`; seconds,
    exact."""
    fps, times = Fraction(fps), [Fraction(time) - Fraction(times[0]) for time in times]
    expected, k = [], 0
    while k / fps < times[-1] + last:
        expected.append(sum(time <= k / fps for time in times) - 1)
        k += 1
    return expected


def by_ffmpeg(path, fps):
    """What the filter fps=FPS:round=up keeps: picture i from the first grid time that is not
    before it."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        graph = av.filter.Graph()
        graph.link_nodes(
            graph.add_buffer(template=stream),
            graph.add("fps", f"fps={fps}:round=up"),
            graph.add("buffersink"),
        ).configure()
        found = []
        for frame in (*container.decode(stream), None):
            graph.push(frame)
            while True:
                try:
                    found.append(videos.number(graph.pull().to_ndarray(format="rgb24")))
                except (av.BlockingIOError, av.EOFError):
                    break
    return found


@pytest.mark.parametrize("fps", ["12", "25", "30000/1001"])
@pytest.mark.parametrize("rate", ["10", "25", "30000/1001", "60"])
def test_grid_at_constant_rates(tmp_path, rate, fps):
    path = videos.numbered(tmp_path / "v.mp4", 50, rate=rate)
    # mp4 keeps the times of these rates exactly
    expected = by_definition([i / Fraction(rate) for i in range(50)], 1 / Fraction(rate), fps)
    assert shown(path, fps) == expected == by_ffmpeg(path, fps)


@pytest.mark.parametrize("start", [0, 5000])
@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
@pytest.mark.parametrize("fps", ["12", "25"])
def test_grid_of_a_variable_rate_counts_from_the_first_frame(tmp_path, start, suffix, fps):
    times = [time + start for time in VARIABLE]
    path = videos.numbered(tmp_path / f"v{suffix}", len(times), times=times)
    with av.open(str(path)) as container:  # the container decides how long the last one stays
        last = [frame.duration * frame.time_base for frame in container.decode(video=0)][-1]
    expected = by_definition([Fraction(time, 1000) for time in times], last, fps)
    assert shown(path, fps) == expected == by_ffmpeg(path, fps)[: len(expected)]
    assert len(expected) >= 1.3 * int(fps)


def test_grid_worked_out_by_hand(tmp_path):
    """4 frames at 10 a second last 0.4 s: grid times 0, 1/12, ..., 4/12 at 12 a second."""
    assert shown(videos.numbered(tmp_path / "v.mp4", 4, rate=10), 12) == [0, 0, 1, 2, 3]
    assert shown(videos.numbered(tmp_path / "u.mp4", 3, rate=10), 10) == [0, 1, 2]
    assert shown(videos.numbered(tmp_path / "w.mp4", 1, rate=10), 12) == [0, 0]
    assert shown(videos.numbered(tmp_path / "x.mp4", 1, rate=25), 12) == [0]


@pytest.mark.parametrize(
    "suffix, codec", [(".avi", "mpeg4"), (".ts", "libx264"), (".flv", "flv1"), (".mov", "mpeg4")]
)
def test_other_containers(tmp_path, suffix, codec):
    path = videos.numbered(tmp_path / f"v{suffix}", 25, codec=codec)
    assert shown(path, 25) == list(range(25))


# ------------------------------------------------------------------------ pictures
def test_sizes(tmp_path):
    path = videos.write(tmp_path / "v.mp4", [np.zeros((90, 160, 3), np.uint8)] * 2)
    for crop, size in (("center", (256, 455, 3)), ("resize", (224, 224, 3))):  # 160 * 256 / 90
        image, *_ = frames.read_frames(path, Fraction(25), crop)
        assert image.shape == size and image.dtype == np.uint8
        assert frames.centre(image).shape == (224, 224, 3)
    image = np.arange(256 * 455).reshape(256, 455)
    assert frames.centre(image)[0, 0] == 16 * 455 + 115
    assert frames.centre(image)[-1, -1] == 239 * 455 + 338


@pytest.mark.parametrize(
    "angle, corner", [(0, (0, 0)), (90, (-1, 0)), (180, (-1, -1)), (-90, (0, -1))]
)
def test_rotation_in_the_metadata_is_applied(tmp_path, angle, corner):
    """FFmpeg's display rotation counts counterclockwise: by 90 degrees the top left corner comes
    to the bottom left."""
    image = np.zeros((128, 256, 3), np.uint8)
    image[:64, :128] = 255
    path = videos.write(tmp_path / "v.mp4", [image] * 3, rotation=angle)
    upright, *_ = frames.read_frames(path, Fraction(25), "center")
    assert upright.shape == ((256, 512, 3) if angle in (0, 180) else (512, 256, 3))
    quarters = {(y, x): upright[y, x].mean() for y in (0, -1) for x in (0, -1)}
    assert max(quarters, key=quarters.get) == corner and sorted(quarters.values())[2] < 20


# ------------------------------------------------------------------------ damaged and odd files
def test_a_broken_tail_counts_as_far_as_it_goes(tmp_path, caplog):
    """Decoded when asked for: what is behind the cut is noticed when the reader comes there."""
    path = videos.numbered(tmp_path / "v.mkv", 200)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    reader = frames.read_frames(path, Fraction(25), "center")
    assert videos.number(next(reader)) == 0 and not caplog.records
    found = [videos.number(image) for image in reader]
    assert found[:99] == list(range(1, 100)) and 99 < len(found) < 175
    assert f"{path}: {(len(found) + 1) / 25:.1f} of 8.0 s" in caplog.messages[-1]


def test_a_damaged_frame_shows_the_one_before_it(tmp_path, caplog):
    # no frame needs another
    path = videos.numbered(tmp_path / "v.mkv", 100, codec="mpeg4", options={"g": "1"})
    data = path.read_bytes()
    with av.open(str(path)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    for packet in packets[40:43]:
        data = data.replace(packet, bytes(len(packet)))
    path.write_bytes(data)
    assert shown(path, 25) == [*range(40), 39, 39, 39, *range(43, 100)]
    (line,) = caplog.messages
    assert line.startswith(f"{path}: 3 damaged packets")


@pytest.mark.parametrize("gap", [9_960, 10_040, 86_400_000])
def test_a_gap_of_more_than_10_seconds_is_not_filled(tmp_path, gap):
    """At 25 a second picture 1 is on screen from 40 ms on."""
    path = videos.numbered(tmp_path / "v.mkv", 3, times=[0, 40, 40 + gap])
    if gap < 10_000:
        assert shown(path, 25) == [0, *[1] * (gap // 40), 2]
    else:
        assert f"{path}: found a gap of {gap / 1000:.1f} s after 0.0 s" in line_of(shown, path, 25)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_a_title_that_is_not_utf8(tmp_path, suffix):
    path = videos.numbered(tmp_path / f"v{suffix}", 3, codec="mpeg4", title="caf\u00e9")
    path.write_bytes(path.read_bytes().replace("caf\u00e9".encode(), b"caf\xe9 "))
    with pytest.raises(UnicodeDecodeError):
        av.open(str(path))
    assert shown(path, 25) == [0, 1, 2]


def test_files_without_a_video(tmp_path):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("not a video\n" * 50)
    whole = videos.numbered(tmp_path / "whole.mp4", 50).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[:-200])  # its index is at the end
    with wave.open(str(tmp_path / "sound.mp4"), "wb") as sound:
        sound.setparams((1, 2, 8000, 8000, "NONE", ""))
        sound.writeframes(bytes(16000))
    for name, found in {
        "empty": "an empty file",
        "text": "no video (Invalid data",
        "cut": "no video (Invalid data",
        "sound": "no video stream",
        "absent": "no such file",
    }.items():
        path = tmp_path / f"{name}.mp4"
        for read in (frames.check, lambda path: shown(path, 12)):
            assert line_of(read, path).startswith(f"{path}: found {found}")
    assert frames.check(tmp_path / "whole.mp4") == 2  # declared seconds


def test_a_picture_that_cannot_be_resized(tmp_path):
    """8000 x 2 would become 1,024,000 x 256, which FFmpeg's scaler refuses."""
    image = np.zeros((2, 8000, 3), np.uint8)
    path = videos.write(tmp_path / "v.mkv", [image] * 2, codec="ffv1")
    assert f"{path}: found no video (" in line_of(shown, path, 12)


# ------------------------------------------------------------------------ clips
@pytest.mark.parametrize(
    "n, clip, step, expected",
    [
        (10, 3, 3, [[0, 1, 2], [3, 4, 5], [6, 7, 8]]),
        (9, 3, 3, [[0, 1, 2], [3, 4, 5], [6, 7, 8]]),
        (6, 3, 1, [[0, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 5]]),
        (10, 2, 5, [[0, 1], [5, 6]]),
        (7, 2, 5, [[0, 1], [5, 6]]),
        (6, 2, 5, [[0, 1]]),
        (2, 4, 4, [[0, 1, 1, 1]]),
        (1, 3, 1, [[0, 0, 0]]),
        (0, 3, 3, []),
    ],
)
def test_clips(n, clip, step, expected):
    assert list(frames.clips(iter(range(n)), clip, step)) == expected
