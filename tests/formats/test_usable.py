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


# --------------------------------------------------------------------------------------- one stream


@pytest.mark.parametrize("stream, column", [("rgb", 0), ("flow", 1)])
def test_a_set_of_one_stream(tmp_path, streams, truth, stream, column):
    folder = files(tmp_path / "f", {name: pair[column] for name, pair in streams.items()})
    other = {"rgb": "flow", "flow": "rgb"}[stream]
    for memory_limit in (None, 0):
        data = load(folder, truth, streams=stream, memory_limit=memory_limit)
        assert data.dims == ((4, None) if stream == "rgb" else (None, 4))
        assert data.feature_bytes == 67 * 4 * 4  # 67 clips
        for name, video in videos(data).items():
            assert getattr(video, other) is None and video.n_clips == len(streams[name][column])
            np.testing.assert_array_equal(np.asarray(getattr(video, stream)), streams[name][column])
    assert any(f"every array is taken as one stream, {stream}" in note for note in data.notes)


def test_one_stream_of_a_set_of_two(tmp_path, streams, truth):
    for writer in (feature_files.stream_files, feature_files.canonical, feature_files.joint_npy):
        (tmp_path / writer.__name__).mkdir()
        path = writer(tmp_path / writer.__name__, streams)["features"]
        data = load(path, truth, streams="flow")
        assert data.dims == (None, 4)
        for name, video in videos(data).items():
            np.testing.assert_array_equal(video.flow, streams[name][1])


def of_width(width, streams):
    """{video: array (T, width)} of the clips of `streams`."""
    rng = np.random.default_rng(0)
    return {name: rng.random((len(rgb), width), "f4") for name, (rgb, _) in streams.items()}


@pytest.mark.parametrize("width", [2, 150, 384, 1024, 1152, 2304, 3200, 4096])
def test_one_array_a_video_is_asked_about(tmp_path, streams, truth, capsys, width):
    folder = files(tmp_path / "f", of_width(width, streams))
    first = NAMES[0]
    for allow_missing in (False, True):
        line = line_of(load, folder, truth, allow_missing=allow_missing)
        assert f"{folder}: {first}: found one array, {width} wide" in line
        assert "--allow-missing" not in line
    for streams, dims in (
        ("rgb", (width, None)),
        ("flow", (None, width)),
        ("both", (width // 2, width // 2)),
    ):
        assert f"--streams {streams}" in line
        data = load(folder, truth, streams=streams)  # the advice works
        assert data.dims == dims
    seconds = "--snippet-seconds", "0.5"
    code, _, error = tool(capsys, inspect_features, folder, truth, *seconds)
    assert code == 2 and f"found one array, {width} wide" in error
    for more in ((), ("--allow-missing",)):
        target = tmp_path / "out.h5"
        code, _, error = tool(capsys, convert_features, folder, truth, target, *seconds, *more)
        assert code == 2 and f"found one array, {width} wide" in error and not target.exists()


def test_one_array_of_2048_is_both_streams(tmp_path, streams, truth):
    arrays = of_width(2048, streams)
    odd = NAMES[2]
    data = load(files(tmp_path / "f", arrays), truth)
    for name, video in videos(data).items():
        np.testing.assert_array_equal(video.rgb, arrays[name][:, :1024])
        np.testing.assert_array_equal(video.flow, arrays[name][:, 1024:])
    files(tmp_path / "f", {odd: arrays[odd][:, :1024]})  # is not halved among the others either
    assert f"{odd}: found one array, 1024 wide" in line_of(load, tmp_path / "f", truth)
    assert sorted(videos(load(tmp_path / "f", truth, allow_missing=True))) == sorted(
        set(NAMES) - {odd}
    )


def test_a_joint_file_is_not_asked_about(tmp_path, streams, truth):
    wide = {
        name: (np.ones((len(rgb), 512), "f4"), np.zeros((len(rgb), 512), "f4"))
        for name, (rgb, _) in streams.items()
    }
    data = load(feature_files.joint_npy(tmp_path, wide)["features"], truth)
    assert data.dims == (512, 512) and data.notes == ()


def test_a_folder_named_after_a_stream_is_asked_about(tmp_path, streams, truth):
    feature_files.stream_files(tmp_path, streams)
    (tmp_path / "RGB").rename(tmp_path / "rgb")
    line = line_of(load, tmp_path / "rgb", truth)
    assert f"{tmp_path / 'rgb'}: found a folder named rgb, which may be one stream or both" in line
    assert f"--flow-features {tmp_path / 'flow'} to read both" in line
    assert load(tmp_path / "rgb", truth, flow_features=tmp_path / "flow").dims == (4, 4)
    assert load(tmp_path / "rgb", truth, streams="rgb").dims == (4, None)
    assert load(tmp_path / "rgb", truth, streams="both").dims == (2, 2)


def test_a_folder_with_the_folder_of_one_stream_only(tmp_path, streams, truth):
    files(tmp_path / "f" / "rgb", {name: rgb for name, (rgb, _) in streams.items()})
    line = line_of(load, tmp_path / "f", truth)
    assert "f: found rgb only, expected flow, too" in line and "--streams rgb for rgb alone" in line
    assert load(tmp_path / "f", truth, streams="rgb").dims == (4, None)
    assert "found rgb only" in line_of(load, tmp_path / "f", truth, streams="both")
    assert "found rgb only, expected flow" in line_of(load, tmp_path / "f", truth, streams="flow")


def test_one_stream_is_converted_and_read_without_being_asked(tmp_path, streams, truth, capsys):
    files(tmp_path / "f", {name: rgb for name, (rgb, _) in streams.items()})
    paths = tmp_path / "f", truth, tmp_path / "out.h5"
    options = "--snippet-seconds 0.5 --streams rgb --dtype float32".split()
    assert tool(capsys, convert_features, *paths, *options)[0] == 0
    with h5py.File(tmp_path / "out.h5") as file:
        assert all(list(group) == ["rgb"] for group in file.values())
    data = load(tmp_path / "out.h5", truth)
    assert data.dims == (4, None) and "found rgb only; it is the only stream" in data.notes[0]
    for name, video in videos(data).items():
        np.testing.assert_array_equal(video.rgb, streams[name][0])


def test_odd_widths_are_told_of_the_option(tmp_path, streams, truth):
    folder = files(
        tmp_path / "f", {name: np.ones((len(rgb), 2305)) for name, (rgb, _) in streams.items()}
    )
    assert "found 2305 dimensions, expected an even number" in (
        line := line_of(load, folder, truth)
    )
    assert "--streams rgb" in line and load(folder, truth, streams="rgb").dims == (2305, None)


# ----------------------------------------------------------------------------------- axes and crops

AXES = {
    "1TD": lambda a: a[None],
    "T11D": lambda a: a[:, None, None],
    "TD11": lambda a: a[..., None, None],
    "T1D": lambda a: a[:, None],
}


@pytest.mark.parametrize("axes", AXES)
def test_axes_of_length_1_are_dropped_with_a_note(tmp_path, streams, truth, axes):
    folder = files(
        tmp_path / "f",
        {name: AXES[axes](np.concatenate(pair, 1)) for name, pair in streams.items()},
    )
    for memory_limit in (None, 0):
        data = load(folder, truth, streams="both", memory_limit=memory_limit)
        for name, video in videos(data).items():  # one of them has a single clip
            np.testing.assert_array_equal(np.asarray(video.rgb), streams[name][0])
            np.testing.assert_array_equal(np.asarray(video.flow), streams[name][1])
        assert len(data.notes) == 1 + (memory_limit == 0)
        assert "axes of length 1 dropped from (" in data.notes[0]
        assert "in 6 videos" in data.notes[0]


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("crops", [10, 5, 3])
def test_crops_are_asked_about_averaged_or_the_first_taken(tmp_path, truth, streams, axis, crops):
    offsets = np.arange(crops, dtype=np.float32)  # crop k is the array + k
    arrays = {
        name: np.stack([np.concatenate(pair, 1) + k for k in offsets], axis)
        for name, pair in streams.items()
        if len(pair[0]) > 1
    }
    edit_names = json.loads(truth.read_text())
    edit_names["database"] = {
        name: entry for name, entry in edit_names["database"].items() if name in arrays
    }
    truth.write_text(json.dumps(edit_names))
    line = line_of(load, files(tmp_path / "f", arrays), truth)
    assert (
        f"look like {crops} crops a clip: --crops mean averages them, --crops first takes the first"
        in line
    )
    for how, offset in (("first", 0), ("mean", offsets.mean())):
        data = load(tmp_path / "f", truth, crops=how, streams="both")
        for name, video in videos(data).items():
            np.testing.assert_allclose(video.flow, streams[name][1] + offset, atol=1e-5)
            assert video.rgb.dtype == np.float32
        assert any(f"the {how} of {crops} crops in 5 videos" in note for note in data.notes)


def test_crops_of_videos_with_ten_clips(tmp_path, streams, truth):
    """Where a video has as many clips as crops, the other videos say which axis is which."""
    lengths = dict(zip(NAMES, (10, 12, 10, 9, 30, 7)))
    arrays = {
        name: np.random.default_rng(i).random((10, t, 8), "f4")
        for i, (name, t) in enumerate(lengths.items())
    }
    data = load(files(tmp_path / "f", arrays), truth, crops="first", streams="both")
    for name, video in videos(data).items():
        assert video.n_clips == lengths[name]
        np.testing.assert_array_equal(video.rgb, arrays[name][0, :, :4])


def test_spatial_axes_are_no_crops(tmp_path, streams, truth):
    folder = files(
        tmp_path / "f", {name: np.ones((len(rgb), 8, 7, 7)) for name, (rgb, _) in streams.items()}
    )
    assert "features: found a 4-D array (8, 8, 7, 7), expected (clips, dimensions)" in line_of(
        load, folder, truth
    )


# --------------------------------------------------------------------------------------- transposed


@pytest.mark.parametrize("declared", [0.5, None])
def test_transposed_arrays_are_asked_about_and_the_command_turns_them(
    tmp_path, streams, truth, capsys, declared
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
    data = load(target, truth, snippet_seconds=None)
    assert data.snippet_seconds == 0.5 and data.notes == ()
    for name, video in videos(data).items():
        np.testing.assert_array_equal(video.flow, long[name][1])


def test_transposed_arrays_of_equal_lengths(tmp_path, streams, truth):
    """2048 clips in 0.5 to 15 s are less than a frame each; 100 are features brought to one length,
    which is said."""
    folder = files(tmp_path / "f", {name: np.ones((2048, 100), "f4") for name in streams})
    assert "found 2048 clips of 100 dimensions in every video, less than a frame each" in line_of(
        load, folder, truth
    )
    folder = files(tmp_path / "g", {name: np.ones((10, 100), "f4") for name in streams})
    notes = load(folder, truth, streams="both").notes
    assert any("GEOMETRY" in note and "resampled" in note for note in notes)


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
def test_every_kind_of_missing_is_one_rule(tmp_path, streams, truth, kind, which, says, capsys):
    name, folder = NAMES[which], two_folders(tmp_path, streams)
    spoil(kind, folder, name)
    line = line_of(load, folder, truth)
    assert name in line and line.endswith("(--allow-missing goes on without them)")
    data = load(folder, truth, allow_missing=True)
    assert sorted(videos(data)) == sorted(set(NAMES) - {name})
    assert any(name in note and "left out" in note for note in data.notes)
    segments = [note for note in data.notes if "count as missed" in note]
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


def test_training_videos_without_times_and_test_videos_without_segments(tmp_path, streams, truth):
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
    assert data.notes == ()


@pytest.mark.slow
@pytest.mark.skipif(not THUMOS.is_dir(), reason="the annotations lie beside the repository")
def test_clips_against_segments_of_the_thumos14_json_without_durations(tmp_path):
    """BaS-Net's file; the lengths are those of the videos at 0.64 s a clip."""
    durations = annotations.load(THUMOS / "Thumos14reduced-Annotations").videos["duration"]
    truth = annotations.load(THUMOS / "gt-210test.json")
    with h5py.File(tmp_path / "f.h5", "w") as file:
        for name in truth.videos.index:
            file[name] = np.ones((int(durations[name] // 0.64), 2), "f2")

    def notes(seconds):
        data = load(tmp_path / "f.h5", truth.path, snippet_seconds=seconds, streams="both")
        return [note for note in data.notes if "GEOMETRY" in note]

    assert notes(0.64) == []  # 4 of 410 videos
    (short,) = notes(0.1333)
    assert "end past the clips in 406 of 410 videos" in short and "0.64 s (W-TALC" in short
    assert "too large" in notes(3.2)[0]


@pytest.mark.parametrize("with_durations", [True, False])
def test_segments_in_frames(tmp_path, streams, truth, capsys, with_durations):
    def frames(entry):
        entry["annotations"][0]["segment"] = [30, 30 * entry["duration"]]
        if not with_durations:
            del entry["duration"]

    edit(truth, frames)
    folder = two_folders(tmp_path, streams)
    assert any("GEOMETRY" in note and "frames" in note for note in load(folder, truth).notes)
    code, out, err = tool(capsys, inspect_features, folder, truth, "--snippet-seconds", "0.5")
    assert code == 2 and "are these frames" in err  # as a run
    assert verdict(out) == "not usable, 1 problem(s): a run would stop here"
    edit(truth, lambda entry: entry.update(subset={"train": "x", "test": "y"}[entry["subset"]]))
    code, out, _ = tool(capsys, inspect_features, folder, truth, "--snippet-seconds", "0.5")
    assert code == 0 and "times would be wrong" in verdict(out)  # who is tested is not known


def test_conversion_says_that_float16_rounds(tmp_path, streams, truth, capsys):
    folder = two_folders(tmp_path, streams)
    arguments = folder, truth, tmp_path / "out.h5", "--snippet-seconds", "0.5"
    assert "--dtype float32 keeps every bit" in tool(capsys, convert_features, *arguments)[1]
    assert "float16" not in tool(capsys, convert_features, *arguments, "--dtype", "float32")[1]
    for name, pair in streams.items():
        np.testing.assert_array_equal(
            features.open_features(tmp_path / "out.h5").read(name)[1], pair[1]
        )
