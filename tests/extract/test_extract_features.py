"""The command: from a folder of videos to one feature file; stopped and started again; bad
videos; refusals."""

import fcntl
import hashlib
import json
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
from places import ROOT, SHARED

pytest.importorskip("av", reason="needs PyAV: pip install -r requirements-video.txt")
pytest.importorskip(
    "cv2.optflow",
    reason="needs opencv-contrib-python-headless: pip install -r requirements-video.txt",
)

import extract_features
import feature_files
import inspect_features
import videos
from commands import words

import run
from extract import i3d
from formats import features

pytestmark = pytest.mark.slow
SAMPLE = SHARED / "data/i3d"
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
    """Three videos of 2.0, 1.2 and 0.4 s: 10, 6 and 2 frames at 5 a second, so 3, 2 and 1 clips
    of 3."""
    place = tmp_path_factory.mktemp("videos")
    (place / "more").mkdir()
    videos.numbered(place / "b.mp4", 50)
    videos.numbered(place / "more/a.avi", 30, codec="mpeg4")
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
    capsys.readouterr()
    ends(2, *arguments)
    error = [
        line for line in capsys.readouterr().err.splitlines() if not line.startswith("warning: ")
    ]
    assert len(error) == 1 and error[0].startswith("error: "), error
    return error[0]


def content(path):
    with h5py.File(path) as file:
        return {name: {stream: file[name][stream][()] for stream in file[name]} for name in file}


# ------------------------------------------------------------------------ what is written
def test_the_file(whole):
    stored = content(whole)
    assert {
        name: {stream: array.shape for stream, array in arrays.items()}
        for name, arrays in stored.items()
    } == {
        name: {"rgb": (clips, 1024), "flow": (clips, 1024)}
        for name, clips in (("a", 2), ("b", 3), ("c", 1))
    }
    assert all(array.dtype == np.float32 for arrays in stored.values() for array in arrays.values())
    with h5py.File(whole) as file:
        assert file.attrs["snippet_seconds"] == file.attrs["clip_seconds"] == 0.6
    assert list(whole.parent.iterdir()) == [whole]


def test_rows_are_the_networks_features_of_the_clips(whole, folder, weights):
    """Frames 0, 5, 10, ... of video b are on the grid: clip 1 is frames 15, 20, 25."""
    network, _ = i3d.load(weights[1], "rgb")
    frames = [videos.picture(i)[16:240, 16:240] for i in (15, 20, 25)]
    expected = network.features(np.stack(frames)[None])[0]
    found = content(whole)["b"]["rgb"][1]
    # what the codec loses
    assert np.linalg.norm(found - expected) < 0.02 * np.linalg.norm(expected)
    others = content(whole)["b"]["rgb"][[0, 2]]
    assert (np.linalg.norm(others - expected, axis=1) > 0.05 * np.linalg.norm(expected)).all()


def test_the_settings_are_in_the_file(whole, weights):
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


def test_other_features_have_no_settings(tmp_path):
    feature_files.canonical(tmp_path, feature_files.features())
    assert features.extract_settings(tmp_path / "features.h5") is None
    assert features.extract_settings(tmp_path) is None
    np.save(tmp_path / "x.npy", np.zeros(3))
    assert features.extract_settings(tmp_path / "x.npy") is None


def test_a_folder_with_a_file_per_video_holds_the_same(whole, folder, weights, tmp_path):
    out = tmp_path / "out"
    for name in ("c.mkv", "b.mp4"):
        extract_features.main(
            [str(folder / name), str(out), *SMALL, *weights, "--layout", "per-video"]
        )
    assert sorted(path.name for path in out.iterdir()) == [
        "b.npz",
        "c.npz",
        "extract_settings.json",
    ]
    assert features.extract_settings(out) == features.extract_settings(whole)
    source, expected = features.open_features(out, snippet_seconds=0.6), content(whole)
    for name in ("b", "c"):
        for array, stream in zip(source.read(name), ("rgb", "flow")):
            np.testing.assert_array_equal(array, expected[name][stream])


def test_one_stream_needs_no_weights_of_the_other(whole, folder, weights, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2.optflow", None)
    out = tmp_path / "rgb.h5"
    extract_features.main(
        [str(folder / "b.mp4"), str(out), *SMALL, *weights[:2], "--streams", "rgb"]
    )
    stored = content(out)
    assert list(stored) == ["b"] and list(stored["b"]) == ["rgb"]
    np.testing.assert_allclose(stored["b"]["rgb"], content(whole)["b"]["rgb"], rtol=1e-4, atol=1e-6)
    assert {"flow", "flow_weights_sha256"}.isdisjoint(features.extract_settings(out))


def test_step_is_the_time_from_clip_to_clip(folder, weights, tmp_path):
    """10 frames, clips of 3 every 2: 0, 2, 4, 6, so 4 clips of 0.6 s, one every 0.4 s."""
    out = tmp_path / "out.h5"
    extract_features.main(
        [str(folder / "b.mp4"), str(out), *SMALL, *weights[:2], "--streams", "rgb", "--step", "2"]
    )
    assert content(out)["b"]["rgb"].shape == (4, 1024)
    with h5py.File(out) as file:
        assert dict(file.attrs) == {
            "snippet_seconds": 0.4,
            "clip_seconds": 0.6,
            "extract_settings": file.attrs["extract_settings"],
        }


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
    before, stamp = out.read_bytes(), out.stat().st_mtime_ns
    extract_features.main(call)
    assert out.read_bytes() == before and out.stat().st_mtime_ns == stamp
    assert capsys.readouterr().out.splitlines()[-1] == (
        f"{out}: 2 videos, 2 of these finished before; rgb and flow, snippet_seconds 0.6, "
        "clip_seconds 0.6"
    )
    (place / "a.avi").symlink_to(folder / "more/a.avi")
    extract_features.main(call)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "1 of 1 videos, 0.0 of 0.0 min, 00:00 left: a: 2 clips"
    assert out.read_bytes() == whole.read_bytes()


def start(*arguments):
    return subprocess.Popen(
        [sys.executable, str(ROOT / "tools/extract_features.py"), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def wait_for(path, process):
    deadline = time.monotonic() + 120
    while not path.exists():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.01)


def test_killed_between_and_within_videos_and_started_again(whole, folder, weights, tmp_path):
    out = tmp_path / "features.h5"
    parts, call = tmp_path / "features.h5.parts", [folder, out, *SMALL, *weights]

    process = start(*call)  # killed within the first video
    wait_for(parts / "extract_settings.json", process)
    process.kill()
    process.communicate()
    assert not out.exists()

    process = start(*call)  # SIGTERM between or within the others ends it in one line
    wait_for(parts / "a.npz", process)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 143 and "Traceback" not in error
    assert error.splitlines()[-1] == "stopped: finished videos are kept, the same command goes on"
    assert not out.exists() and not (parts / "c.npz").exists()
    # what a kill in the middle of writing leaves
    (parts / ".b.12345678.npz").write_bytes(b"half a video")

    process = start(*call)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 0, error
    assert out.read_bytes() == whole.read_bytes()
    assert list(tmp_path.iterdir()) == [out]


def test_other_settings_or_weights_are_refused(whole, folder, weights, tmp_path, capsys):
    before = whole.read_bytes()
    other = tmp_path / "other.pt"
    torch.manual_seed(9)
    torch.save(i3d.I3D(3).state_dict(), other)
    for flags, line in (
        (["--fps", "6"], "found features with fps 5, expected 6 as given now"),
        (["--crop", "resize"], "found features with crop center, expected resize as given now"),
        (
            ["--flow", "tvl1"],
            "found features with flow DIS, not the paper's TV-L1, expected TV-L1 as given now",
        ),
        (
            ["--streams", "rgb"],
            "found features with flow DIS, not the paper's TV-L1, expected None as given now",
        ),
        (["--rgb-weights", other], "found features with rgb_weights_sha256 "),
    ):
        assert f"{whole}: {line}" in refused(capsys, folder, whole, *SMALL, *weights, *flags)
    assert whole.read_bytes() == before and list(whole.parent.iterdir()) == [whole]


def test_files_and_folders_of_others_are_refused(folder, weights, tmp_path, capsys):
    call = [folder, tmp_path / "out.h5", *SMALL, *weights]
    feature_files.canonical(tmp_path, feature_files.features())
    (tmp_path / "features.h5").rename(tmp_path / "out.h5")
    assert "out.h5: found something that this tool did not write" in refused(capsys, *call)
    assert f"{tmp_path}: found something that this tool did not write" in refused(
        capsys, folder, tmp_path, *call[2:], "--layout", "per-video"
    )
    (tmp_path / "out.h5").unlink()
    (tmp_path / "out.h5.parts").mkdir()
    with open(tmp_path / "out.h5.parts/.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "found another process that writes here" in refused(capsys, *call)


# ------------------------------------------------------------------------ bad input
@pytest.fixture
def hostile(tmp_path):
    """Good videos with long and non-ASCII names, one of a single frame, one without its end, and
    four bad ones."""
    place = tmp_path / "videos"
    place.mkdir()
    videos.numbered(place / "ok \u6f22\u5b57 \U0001f6b2 'n' \"q\".mp4", 10)
    videos.numbered(place / (LONG + ".mp4"), 10)  # 253 of the 255 bytes of a file name
    videos.numbered(place / "one.mp4", 1)
    tail = videos.numbered(place / "tail.mkv", 100)
    tail.write_bytes(tail.read_bytes()[: tail.stat().st_size // 2])
    (place / "text.mp4").write_text("not a video")
    (place / "empty.mkv").touch()
    (place / "cut.mp4").write_bytes((place / "one.mp4").read_bytes()[:-100])
    videos.sound_only(place / "sound.mp4")
    (place / "notes.txt").write_text("no video")
    (place / ".hidden.mp4").write_text("no video")
    return place


def test_a_hostile_folder(hostile, weights, tmp_path, capsys):
    out = tmp_path / "out.h5"
    call = [hostile, out, *SMALL, *weights[:2], "--streams", "rgb"]
    assert f"{hostile}/cut.mp4: found no picture that can be decoded" in refused(capsys, *call)
    assert sorted(tmp_path.iterdir()) == [hostile]
    ends(3, *call, "--keep-going")
    error = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[:2] for line in error if line.startswith("left out")] == [
        ["left out", f"{hostile}/{name}"]
        for name in ("cut.mp4", "empty.mkv", "sound.mp4", "text.mp4")
    ]
    assert [
        line for line in error if line.startswith("note: ") and "of 4.0 s could be decoded" in line
    ]
    assert error[-1] == "error: 4 videos left out: cut, empty, sound, text"
    found = {name: len(arrays["rgb"]) for name, arrays in content(out).items()}
    assert 0 < found.pop("tail") < 6
    assert found == {"ok \u6f22\u5b57 \U0001f6b2 'n' \"q\"": 1, LONG: 1, "one": 1}


def test_a_name_twice(hostile, weights, tmp_path, capsys):
    (hostile / "sub").mkdir()
    (hostile / "sub/one.avi").write_text("another")
    assert f"{hostile}: found one.mp4 and sub/one.avi, expected every name once" in refused(
        capsys, hostile, tmp_path / "out.h5", *SMALL, *weights, "--keep-going"
    )


def test_nothing_to_read(tmp_path, weights, capsys):
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos/a.txt").touch()
    for place in ("videos", "absent"):
        assert f"{tmp_path / place}: found no video among {place == 'videos':d} files" in refused(
            capsys, tmp_path / place, tmp_path / "out.h5", *SMALL, *weights
        )


@pytest.mark.parametrize(
    "flags, line",
    [
        (["--fps", "0"], "--fps: found 0, expected a number"),
        (["--fps", "fast"], "--fps: found fast, expected a number"),
        (["--clip", "0"], "--clip: found 0, expected at least 1"),
        (["--jobs", "0"], "--jobs: found 0, expected"),
        (["--rgb-weights", "absent.pt"], "absent.pt: found no such file"),
    ],
)
def test_bad_options(folder, weights, tmp_path, capsys, flags, line):
    assert line in refused(capsys, folder, tmp_path / "out.h5", *SMALL, *weights, *flags)
    assert list(tmp_path.iterdir()) == []


def test_the_ending_of_the_output(folder, weights, tmp_path, capsys):
    assert "--layout per-video" in refused(capsys, folder, tmp_path / "out", *SMALL, *weights)


@pytest.mark.parametrize("module", ["av", "cv2.optflow"])
def test_a_missing_package_is_one_line(folder, weights, tmp_path, capsys, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    assert refused(capsys, folder, tmp_path / "out.h5", *SMALL, *weights).endswith(
        "expected it: pip install -r requirements-video.txt"
    )


# ------------------------------------------------------------------------ the three commands
@pytest.mark.skipif(not SAMPLE.is_dir(), reason="needs ../shared")
def test_from_a_video_to_detections(weights, tmp_path, capsys):
    """bikes.mp4 at 1 frame a second: 2 clips of 5 frames, 5 s; the trained run has seen other
    features."""
    out = tmp_path / "bikes.h5"
    paths = SAMPLE / "bikes.mp4", out, SAMPLE / "rgb_kinetics400.pt"
    line = "{} {} --fps 1 --clip 5 --flow dis --jobs 1 --rgb-weights {}"
    extract_features.main([*words(line, *paths), *weights[2:]])
    inspect_features.main([str(out)])
    assert "verdict         ready" in capsys.readouterr().out
    streams = feature_files.features(widths=(1024, 1024))
    feature_files.canonical(tmp_path, streams, snippet_seconds=5)
    truth = feature_files.write_json(
        tmp_path / "gt.json",
        {
            name: {**about, "duration": 5.0 * len(streams[name][0])}
            for name, about in feature_files.database(streams).items()
        },
    )
    line = (
        "--dataset custom --features {} --annotations {} --cycle 1 --cycle-epochs 2 "
        "--alternate-epochs 0 --untrimmednet-epochs 1 --out {}"
    )
    run.main(words(line, tmp_path / "features.h5", truth, tmp_path / "run"))
    line = "--predict {} --features {} --out {}"
    run.main(words(line, tmp_path / "run", out, tmp_path / "found"))
    assert "bikes" in json.loads((tmp_path / "found/detections.json").read_text())["results"]
