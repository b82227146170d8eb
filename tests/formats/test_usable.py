"""Whether a set can be used: one stream, axes and crops, transposed arrays, missing videos, times
that do not fit; and that inspection, conversion and loading judge it alike."""

import functools
import json
import shlex

import convert_features
import feature_files
import h5py
import inspect_features
import numpy as np
import pytest
from errors import line_of
from feature_files import SECONDS, save, videos
from places import SHARED

from formats import annotations, features

NAMES = list(feature_files.features())
load = functools.partial(
    feature_files.load, snippet_seconds=SECONDS, train_subset="train", test_subset="test"
)
THUMOS = SHARED / "data" / "thumos14"


def files(folder, arrays):
    for name, array in arrays.items():
        save(folder / f"{name}.npy", array)
    return folder


def tool(capsys, tool, *arguments):
    """(exit code, stdout, stderr) of a tool."""
    try:
        tool.main([str(argument) for argument in arguments])
        code = 0
    except SystemExit as end:
        code = end.code
    return code, *capsys.readouterr()


def verdict(out):
    return next(line[16:] for line in out.splitlines() if line.startswith("verdict"))


def edit(truth, change):
    content = json.loads(truth.read_text())
    for entry in content["database"].values():
        change(entry)
    truth.write_text(json.dumps(content))


# ----------------------------------------------------------------------------- what the tools ask


def test_one_array_a_video_is_asked_about_by_the_tools_too(tmp_path, streams, truth, capsys):
    folder = files(
        tmp_path / "f", {name: np.ones((len(a), 1152)) for name, (a, _) in streams.items()}
    )
    target, seconds = tmp_path / "out.h5", ("--snippet-seconds", "0.5")
    code, _, error = tool(capsys, inspect_features, folder, truth, *seconds)
    assert code == 2 and "1152 wide" in error
    for more in ((), ("--allow-missing",)):
        code, _, error = tool(capsys, convert_features, folder, truth, target, *seconds, *more)
        assert code == 2 and "1152 wide" in error and not target.exists()


def test_one_stream_is_converted_and_read_without_being_asked(tmp_path, streams, truth, capsys):
    files(tmp_path / "f", {name: rgb for name, (rgb, _) in streams.items()})
    paths = tmp_path / "f", truth, tmp_path / "out.h5"
    options = "--snippet-seconds 0.5 --streams rgb --dtype float32".split()
    assert tool(capsys, convert_features, *paths, *options)[0] == 0
    with h5py.File(tmp_path / "out.h5") as file:
        assert all(list(group) == ["rgb"] for group in file.values())
    data = load(tmp_path / "out.h5", truth)
    assert data.dims == (4, None)
    for name, video in videos(data).items():
        np.testing.assert_array_equal(video.rgb, streams[name][0])


@pytest.mark.parametrize("tool_, paths", [(inspect_features, 1), (convert_features, 3)])
def test_a_gone_option_is_refused_by_name(tmp_path, capsys, tool_, paths):
    words = ["x"] * paths
    code, _, error = tool(capsys, tool_, *words, "--feature-layout", "hdf5")
    assert code == 2 and "--feature-layout" in error.splitlines()[-1]


def test_features_of_other_videos_are_shown(tmp_path, streams, truth):
    others = {f"clip-{i}": np.hstack(pair) for i, pair in enumerate(streams.values())}
    files(tmp_path / "f", others)
    for allow_missing in (False, True):
        line = line_of(load, tmp_path / "f", truth, allow_missing=allow_missing)
        assert f"found no features for 6 of 6 videos of {truth}: {NAMES[0]}" in line
        assert "clip-0, clip-1, clip-2 and 3 more" in line
        assert "--allow-missing" not in line


# --------------------------------------------------------------------------------------- transposed


@pytest.mark.parametrize("declared", [0.5, None])
def test_transposed_arrays_are_asked_about_and_the_command_turns_them(
    tmp_path, streams, truth, capsys, declared, caplog
):
    # odd widths: neither halves nor mixed widths
    long = feature_files.features((80, 91, 120, 99, 130, 77))
    feature_files.write_json(truth, feature_files.database(long))
    folder = files(
        tmp_path / "my features", {name: np.concatenate(pair, 1).T for name, pair in long.items()}
    )
    line = line_of(load, folder, truth, snippet_seconds=declared, streams="both")
    assert (
        "found 8 clips in every video and another number of dimensions in each (77 to 130)" in line
    )
    code, out, err = tool(capsys, inspect_features, folder, truth)
    assert code == 2 and "are the arrays (dimensions, clips)?" in err
    command = shlex.split(line.split("turn them: ")[1])
    assert command[:2] == ["python", "tools/convert_features.py"] and "--transpose" in command
    target = tmp_path / "turned.h5"
    argv = [target if word == "OUT.h5" else word for word in command[2:]]
    assert tool(capsys, convert_features, *argv, "--dtype", "float32")[0] == 0
    caplog.clear()
    data = load(target, truth, snippet_seconds=None)
    assert data.snippet_seconds == 0.5 and caplog.messages == []
    for name, video in videos(data).items():
        np.testing.assert_array_equal(video.flow, long[name][1])


def test_transposed_arrays_of_equal_lengths(tmp_path, streams, truth, caplog):
    """2048 clips in 0.5 to 15 s are less than a frame each; 100 are features brought to one length,
    which is said."""
    folder = files(tmp_path / "f", {name: np.ones((2048, 100), "f4") for name in streams})
    assert "found 2048 clips of 100 dimensions in every video, less than a frame each" in line_of(
        load, folder, truth
    )
    folder = files(tmp_path / "g", {name: np.ones((10, 100), "f4") for name in streams})
    load(folder, truth, streams="both")
    assert any("GEOMETRY" in line and "resampled" in line for line in caplog.messages)


def test_transposed_arrays_are_asked_about_the_stream_once_they_are_turned(
    tmp_path, streams, truth, capsys
):
    long = {
        name: np.random.default_rng(0).random((1024, 40 + i), "f4")
        for i, name in enumerate(streams)
    }
    command = shlex.split(line_of(load, files(tmp_path / "f", long), truth).split("turn them: ")[1])
    target = tmp_path / "turned.h5"
    argv = [target if word == "OUT.h5" else word for word in command[2:]]
    code, _, error = tool(capsys, convert_features, *argv)
    assert code == 2 and "1024 wide" in error and "--streams both" in error
    assert tool(capsys, convert_features, *argv, "--streams", "both")[0] == 0
    assert load(target, truth).dims == (512, 512)


# ------------------------------------------------------------------------------------------ missing


def spoil(kind, folder, name):
    """Make the one video unusable."""
    rgb, flow = folder / "rgb" / f"{name}.npy", folder / "flow" / f"{name}.npy"
    if kind == "no file":
        rgb.unlink()
        flow.unlink()
    elif kind == "one stream":
        flow.unlink()
    elif kind == "no clips":
        np.save(flow, np.zeros((0, 4), "f4"))
    elif kind == "unreadable":
        flow.write_bytes(flow.read_bytes()[:-7])
    elif kind == "nan":
        np.save(flow, np.full_like(np.load(flow), np.nan))
    elif kind == "another width":
        np.save(flow, np.ones((len(np.load(flow)), 3), "f4"))
    elif kind == "unequal":
        np.save(flow, np.ones((50, 4), "f4"))


KINDS = ("no file", "one stream", "no clips", "unreadable", "nan", "another width", "unequal")


def two_folders(tmp_path, streams):
    for stream, k in (("rgb", 0), ("flow", 1)):
        files(tmp_path / "f" / stream, {name: pair[k] for name, pair in streams.items()})
    return tmp_path / "f"


@pytest.mark.parametrize("which, says", [(4, False), (3, True)])  # a training video, a test video
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_missing_is_one_rule(
    tmp_path, streams, truth, kind, which, says, capsys, caplog
):
    name, folder = NAMES[which], two_folders(tmp_path, streams)
    spoil(kind, folder, name)
    line = line_of(load, folder, truth)
    assert name in line and line.endswith("(--allow-missing goes on without them)")
    data = load(folder, truth, allow_missing=True)
    assert sorted(videos(data)) == sorted(set(NAMES) - {name})
    assert any(name in note and "left out" in note for note in caplog.messages)
    segments = [note for note in caplog.messages if "count as missed" in note]
    assert len(segments) == says
    assert not says or "1 test video of these with 1 segments" in segments[0]

    code, out, _ = tool(capsys, inspect_features, folder, truth, "--snippet-seconds", "0.5")
    assert (code, "--allow-missing" in verdict(out)) == (
        (0, True) if kind == "no file" else (2, False)
    )
    target = tmp_path / "out.h5"
    arguments = folder, truth, target, "--snippet-seconds", "0.5"
    if kind != "no file":
        code, _, err = tool(capsys, convert_features, *arguments)
        assert code == 2 and name in err and "--allow-missing" in err and not target.exists()
    assert tool(capsys, convert_features, *arguments, "--allow-missing")[0] == 0
    assert sorted(features.open_features(target).names) == sorted(set(NAMES) - {name})


@pytest.mark.parametrize(
    "kind", ["no clips", "unreadable", "nan", "another width", "unequal", "one stream"]
)
@pytest.mark.parametrize("annotated", [False, True])
def test_a_video_that_no_split_uses_stops_nobody(tmp_path, streams, truth, kind, annotated, capsys):
    """The video is not annotated, or belongs to a third subset."""
    name, folder = NAMES[0], two_folders(tmp_path, streams)
    spoil(kind, folder, name)
    content = json.loads(truth.read_text())
    if annotated:
        content["database"][name]["subset"] = "unused"
    else:
        del content["database"][name]
    truth.write_text(json.dumps(content))
    assert len(videos(load(folder, truth))) == 5
    code, out, _ = tool(capsys, inspect_features, folder, truth, "--snippet-seconds", "0.5")
    assert code == 0 and verdict(out) == "ready"
    assert "that no subset in use needs cannot be used" in out
    code, out, _ = tool(
        capsys, convert_features, folder, truth, tmp_path / "out.h5", "--snippet-seconds", "0.5"
    )
    assert code == 0 and "left out: " in out and name in out
    assert sorted(features.open_features(tmp_path / "out.h5").names) == sorted(NAMES[1:])


def test_allow_missing_is_not_advised_where_it_fails(tmp_path, streams, truth, capsys):
    folder = two_folders(tmp_path, streams)
    for name in NAMES[1::2]:  # the test subset
        spoil("one stream", folder, name)
    for allow_missing in (False, True):
        assert "--allow-missing" not in line_of(load, folder, truth, allow_missing=allow_missing)
    for name in NAMES[1::2]:
        (folder / "rgb" / f"{name}.npy").unlink()  # no file at all
    assert "all videos of one of the two subsets" in line_of(load, folder, truth)
    code, out, err = tool(capsys, inspect_features, folder, truth, "--snippet-seconds", "0.5")
    assert code == 2 and "--allow-missing" not in verdict(out) and "found no features for 3" in err


# -------------------------------------------------------------------------------------------- times


def test_training_videos_without_times_and_test_videos_without_segments(
    tmp_path, streams, truth, caplog
):
    """Durations may be absent."""

    def labels_alone(entry):
        train = entry["subset"] == "train"
        entry["annotations"] = [{"label": "a"}] if train else []
        del entry["duration"]

    edit(truth, labels_alone)
    folder = files(tmp_path / "f", {n: np.concatenate(pair, 1) for n, pair in streams.items()})
    data = load(folder, truth, streams="both")
    assert [video.labels.tolist() for video in data.train] == [[1]] * 3
    assert [len(video.segments) for video in data.test] == [0] * 3
    assert [v.name for v in data.test] == NAMES[1::2]
    assert data.test[0].duration == 0.5  # 1 clip
    assert caplog.messages == []


@pytest.mark.slow
@pytest.mark.skipif(not THUMOS.is_dir(), reason="the annotations lie beside the repository")
def test_clips_against_segments_of_the_thumos14_json_without_durations(tmp_path, caplog):
    """BaS-Net's file; the lengths are those of the videos at 0.64 s a clip."""
    durations = annotations.load(THUMOS / "Thumos14reduced-Annotations").videos["duration"]
    truth = annotations.load(THUMOS / "gt-210test.json")
    with h5py.File(tmp_path / "f.h5", "w") as file:
        for name in truth.videos.index:
            file[name] = np.ones((int(durations[name] // 0.64), 2), "f2")

    def notes(seconds):
        caplog.clear()
        load(tmp_path / "f.h5", truth.path, snippet_seconds=seconds, streams="both")
        return [line for line in caplog.messages if "GEOMETRY" in line]

    assert notes(0.64) == []  # 4 of 410 videos
    (short,) = notes(0.1333)
    assert "end past the clips in 406 of 410 videos" in short and "0.64 s (W-TALC" in short
    assert "too large" in notes(3.2)[0]


@pytest.mark.parametrize("with_durations", [True, False])
def test_segments_in_frames(tmp_path, streams, truth, capsys, caplog, with_durations):
    def frames(entry):
        entry["annotations"][0]["segment"] = [30, 30 * entry["duration"]]
        if not with_durations:
            del entry["duration"]

    edit(truth, frames)
    folder = two_folders(tmp_path, streams)
    load(folder, truth)
    assert any("GEOMETRY" in line and "frames" in line for line in caplog.messages)
    code, out, err = tool(capsys, inspect_features, folder, truth, "--snippet-seconds", "0.5")
    assert code == 2 and "are these frames" in err  # as a run
    assert verdict(out) == "not usable, 1 problem: a run would stop here"
    edit(truth, lambda entry: entry.update(subset={"train": "x", "test": "y"}[entry["subset"]]))
    code, out, _ = tool(capsys, inspect_features, folder, truth, "--snippet-seconds", "0.5")
    assert code == 0 and "times would be wrong" in verdict(out)  # who is tested is not known


def test_conversion_says_that_float16_rounds(tmp_path, streams, truth, capsys):
    folder = two_folders(tmp_path, streams)
    seconds = "--snippet-seconds", "0.5"
    half = tool(capsys, convert_features, folder, truth, tmp_path / "half.h5", *seconds)[1]
    assert "--dtype float32 keeps every bit" in half
    arguments = folder, truth, tmp_path / "out.h5", *seconds, "--dtype", "float32"
    assert "float16" not in tool(capsys, convert_features, *arguments)[1]
    for name, pair in streams.items():
        np.testing.assert_array_equal(
            features.open_features(tmp_path / "out.h5").read(name)[1], pair[1]
        )
