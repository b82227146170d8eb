"""The command: from a folder of videos to one feature file; shares of it; bad videos; refusals."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from errors import line_of
from places import ROOT

pytest.importorskip("av", reason="needs PyAV: pip install -r requirements-video.txt")
pytest.importorskip(
    "cv2.optflow",
    reason="needs opencv-contrib-python-headless: pip install -r requirements-video.txt",
)

import extract_features
import videos

from extract import i3d
from formats import features

pytestmark = pytest.mark.slow
SMALL = ["--fps", "5", "--clip", "3", "--jobs", "1", "--flow", "dis"]  # clips of 0.6 s
LONG = "\u9577" * 83


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Flags for random weights."""
    folder, flags = tmp_path_factory.mktemp("weights"), []
    for stream, channels in i3d.CHANNELS.items():
        torch.manual_seed(channels)
        torch.save(i3d.I3D(channels).state_dict(), folder / f"{stream}.pt")
        flags += [f"--{stream}-weights", str(folder / f"{stream}.pt")]
    return flags


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three videos of 1.2, 2.0 and 0.4 s: 6, 10 and 2 frames at 5 a second, so 2, 3 and 1 clips
    of 3."""
    place = tmp_path_factory.mktemp("videos")
    (place / "more").mkdir()
    videos.numbered(place / "more/a.avi", 30, codec="mpeg4")
    videos.numbered(place / "b.mp4", 50)
    videos.numbered(place / "c.mkv", 10)
    (place / "readme.txt").write_text("three videos")
    return place


@pytest.fixture(scope="module")
def whole(folder, weights, tmp_path_factory):
    """The file of an uninterrupted call."""
    out = tmp_path_factory.mktemp("whole") / "features.h5"
    extract_features.main([str(folder), str(out), *SMALL, *weights])
    return out


def ends(code, *arguments):
    with pytest.raises(SystemExit) as caught:
        extract_features.main([str(argument) for argument in arguments])
    assert caught.value.code == code


def refused(capsys, *arguments):
    """The line of stderr with which the command ends."""
    capsys.readouterr()
    ends(2, *arguments)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    return line


def content(path):
    with h5py.File(path) as file:
        return {name: {stream: file[name][stream][()] for stream in file[name]} for name in file}


# ------------------------------------------------------------------------ what is written
def test_the_file(whole, weights):
    source = features.open_features(whole)
    assert source.streams == ("rgb", "flow") and source.snippet_seconds == 0.6
    for name, clips in {"a": 2, "b": 3, "c": 1}.items():
        for array in source.read(name):
            assert array.shape == (clips, 1024) and array.dtype == np.float32
    source.close()
    assert features.extract_settings(whole) == {
        "network": "I3D, Mixed_5c averaged over time and space",
        "fps": "5",
        "clip": 3,
        "step": 3,
        "crop": "center",
        "resizer": "FFmpeg bilinear",
        "flow": "DIS, not the paper's TV-L1",
        "rgb_weights_sha256": hashlib.sha256(Path(weights[1]).read_bytes()).hexdigest(),
        "flow_weights_sha256": hashlib.sha256(Path(weights[3]).read_bytes()).hexdigest(),
    }
    assert list(whole.parent.iterdir()) == [whole]


def test_rows_are_the_networks_features_of_the_clips(whole, weights):
    """Frames 0, 5, 10, ... of video b are on the grid: clip 1 is frames 15, 20, 25."""
    network, _ = i3d.load(weights[1], "rgb")
    frames = [videos.picture(i)[16:240, 16:240] for i in (15, 20, 25)]
    expected = network.features(np.stack(frames)[None])[0]
    found = content(whole)["b"]["rgb"]
    apart = np.linalg.norm(found - expected, axis=1) / np.linalg.norm(expected)
    assert apart[1] < 0.02 and (apart[[0, 2]] > 0.05).all()  # 0.02: what the codec loses


def test_one_stream_and_overlapping_clips(whole, folder, weights, tmp_path, monkeypatch):
    """10 frames, clips of 3 every 2: from 0, 2, 4 and 6, so the first and the last are clips 0 and
    2 of the whole file. RGB needs neither OpenCV nor flow weights."""
    monkeypatch.setitem(sys.modules, "cv2.optflow", None)
    out = tmp_path / "rgb.h5"
    call = [folder / "b.mp4", out, *SMALL, *weights[:2], "--streams", "rgb", "--step", "2"]
    extract_features.main([str(argument) for argument in call])
    stored = content(out)
    assert list(stored) == ["b"] and list(stored["b"]) == ["rgb"]
    found, expected = stored["b"]["rgb"], content(whole)["b"]["rgb"]
    assert found.shape == (4, 1024)
    np.testing.assert_allclose(found[[0, 3]], expected[[0, 2]], rtol=1e-4, atol=1e-6)
    with h5py.File(out) as file:
        assert file.attrs["snippet_seconds"] == 0.4 and file.attrs["clip_seconds"] == 0.6
    assert {"flow", "flow_weights_sha256"}.isdisjoint(features.extract_settings(out))


# ------------------------------------------------------------------------ called again
def test_a_finished_file_is_left_alone_and_a_new_video_added(
    whole, folder, weights, tmp_path, capsys
):
    place, out = tmp_path / "videos", tmp_path / "features.h5"
    place.mkdir()
    for name in ("b.mp4", "c.mkv"):
        (place / name).symlink_to(folder / name)
    call = [str(place), str(out), *SMALL, *weights]
    extract_features.main(call)
    stamp = out.stat().st_mtime_ns
    extract_features.main(call)
    assert out.stat().st_mtime_ns == stamp
    (place / "more").symlink_to(folder / "more")
    capsys.readouterr()
    extract_features.main(call)
    assert ": a: 2 clips" in capsys.readouterr().out.splitlines()[1]
    assert out.read_bytes() == whole.read_bytes()
    assert "found features with crop 'center', expected resize" in refused(
        capsys, *call, "--crop", "resize"
    )
    assert out.read_bytes() == whole.read_bytes() and sorted(tmp_path.iterdir()) == [out, place]


def start(*arguments):
    return subprocess.Popen(
        [sys.executable, str(ROOT / "tools/extract_features.py"), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def wait_for(path, process):
    deadline = time.monotonic() + 240
    while not path.exists():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.01)


def test_shards_at_once_one_killed_one_stopped(whole, folder, weights, tmp_path):
    """a and b are being made when their processes end, one killed, one told to stop."""
    out = tmp_path / "features.h5"
    kept, call = tmp_path / "features.h5.parts", [folder, out, *SMALL, *weights]
    killed, stopped, third = (start(*call, "--shard", f"{k}/3") for k in (1, 2, 3))
    wait_for(kept / "a.lock", killed)
    killed.kill()
    wait_for(kept / "b.lock", stopped)
    stopped.terminate()
    _, error = stopped.communicate(timeout=120)
    assert stopped.returncode == 128 + signal.SIGTERM and len(error.splitlines()) == 1
    _, error = third.communicate(timeout=240)
    assert third.returncode == 0 and not error
    killed.communicate()
    assert not out.exists() and [path.name for path in kept.glob("*.npz")] == ["c.npz"]

    last = start(*call)  # takes over a and b
    printed, error = last.communicate(timeout=240)
    assert last.returncode == 0 and not error
    assert f"{out}: 3 videos, 1 of these finished before" in printed
    assert out.read_bytes() == whole.read_bytes()
    assert list(tmp_path.iterdir()) == [out]


# ------------------------------------------------------------------------ bad input
def test_a_hostile_folder(weights, tmp_path, capsys):
    """Good videos with long and non-ASCII names, one of a single frame, one without its end, and
    five bad ones; the times of jump.mkv are seen when it is read."""
    place, out = tmp_path / "videos", tmp_path / "out.h5"
    place.mkdir()
    odd = "ok \u6f22\u5b57 \U0001f6b2 'n' \"q\""
    videos.numbered(place / f"{odd}.mp4", 10)
    videos.numbered(place / f"{LONG}.mp4", 10)  # 253 of the 255 bytes of a file name
    videos.numbered(place / "one.mp4", 1)
    tail = videos.numbered(place / "tail.mkv", 100)
    tail.write_bytes(tail.read_bytes()[: tail.stat().st_size // 2])
    (place / "text.mp4").write_text("not a video")
    (place / "empty.mkv").touch()
    (place / "cut.mp4").write_bytes((place / "one.mp4").read_bytes()[:-100])
    (place / "gone.mp4").symlink_to("absent.mp4")
    videos.numbered(place / "jump.mkv", 3, times=[0, 40, 11_000])
    (place / ".hidden.mp4").write_text("no video")
    call = [place, out, *SMALL, *weights[:2], "--streams", "rgb"]
    assert f"{place}/cut.mp4: found no picture" in refused(capsys, *call)
    assert list(tmp_path.iterdir()) == [place]
    ends(3, *call, "--keep-going")
    printed = capsys.readouterr()
    bad = ["cut", "empty", "gone", "text", "jump"]
    lines = [line for line in printed.out.splitlines() if line.startswith("warning: left out")]
    assert [Path(line.split(": ")[2]).stem for line in lines] == bad
    assert printed.err == f"error: 5 videos left out: {', '.join(bad)}\n"
    assert f"warning: {place}/tail.mkv: " in printed.out
    found = {name: len(arrays["rgb"]) for name, arrays in content(out).items()}
    assert 0 < found.pop("tail") < 6
    assert found == {odd: 1, LONG: 1, "one": 1}
    assert sorted(tmp_path.iterdir()) == [out, place]


def test_a_name_twice(tmp_path):
    (tmp_path / "sub").mkdir()
    for name in ("one.mp4", "sub/one.avi"):
        (tmp_path / name).touch()
    assert "found one.mp4 and sub/one.avi" in line_of(extract_features.find_videos, tmp_path)


def test_nothing_to_read(tmp_path, weights, capsys):
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos/a.txt").touch()
    for place, found in (("videos", "found no video among 1 file"), ("absent", "No such file")):
        assert f"{tmp_path / place}: {found}" in refused(
            capsys, tmp_path / place, tmp_path / "out.h5", *SMALL, *weights
        )


@pytest.mark.parametrize(
    "flags, where",
    [
        (["--fps", "0"], "--fps: found 0"),
        (["--fps", "fast"], "--fps: found fast"),
        (["--clip", "0"], "--clip: found 0"),
        (["--jobs", "0"], "--jobs: found 0"),
        (["--shard", "4/3"], "--shard: found 4/3"),
        (["--shard", "0/3"], "--shard: found 0/3"),
        (["--shard", "3"], "--shard: found 3"),
        (["--layout", "per-video"], "--layout: "),
        (["--rgb-weights", "absent.pt"], "--rgb-weights: found no file absent.pt"),
    ],
)
def test_bad_options(folder, weights, tmp_path, capsys, flags, where):
    assert where in refused(capsys, folder, tmp_path / "out.h5", *SMALL, *weights, *flags)
    assert list(tmp_path.iterdir()) == []


def test_the_ending_of_the_output(folder, weights, tmp_path, capsys):
    assert f"{tmp_path / 'out'}: " in refused(capsys, folder, tmp_path / "out", *SMALL, *weights)


@pytest.mark.parametrize("module", ["av", "cv2.optflow"])
def test_a_missing_package_is_one_line(folder, weights, tmp_path, capsys, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    line = refused(capsys, folder, tmp_path / "out.h5", *SMALL, *weights)
    assert f"error: {module}: " in line and "requirements-video.txt" in line
