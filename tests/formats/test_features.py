"""Opened features: one stream or both, axes and crops, seconds, what stays on disk, what is written,
and whether the data has changed."""

import functools
import os
import shlex
import shutil
from concurrent.futures import ThreadPoolExecutor

import feature_files
import h5py
import numpy as np
import pytest
from errors import refused
from feature_files import SECONDS, lay, save, videos

import dataset
from formats import features
from formats.features import open_features
from formats.files import InputError

STREAMS = feature_files.features()
NAMES = list(STREAMS)
SUBSETS = dict(train_subset="train", test_subset="test")
load = functools.partial(feature_files.load, snippet_seconds=SECONDS, **SUBSETS)


def set_of(folder, arrays):
    """A file per video, VIDEO.npy."""
    for name, array in arrays.items():
        save(folder / f"{name}.npy", array)
    return folder


def joint(change=lambda array: array):
    """{video: both streams side by side, changed}."""
    return {name: change(np.hstack(pair)) for name, pair in STREAMS.items()}


def of_width(width):
    """{video: array (T, width)} of the clips of STREAMS."""
    rng = np.random.default_rng(0)
    return {name: rng.random((len(rgb), width), "f4") for name, (rgb, _) in STREAMS.items()}


# --------------------------------------------------------------------------------------- one stream


@pytest.mark.parametrize("stream, column", [("rgb", 0), ("flow", 1)])
def test_a_set_of_one_stream(tmp_path, truth, stream, column, caplog):
    folder = set_of(tmp_path / "f", {name: pair[column] for name, pair in STREAMS.items()})
    for memory_limit in (None, 0):
        data = load(folder, truth, streams=stream, memory_limit=memory_limit)
        assert data.dims == ((4, None) if stream == "rgb" else (None, 4))
        assert data.feature_bytes == 67 * 4 * 4  # 67 clips
        for name, video in videos(data).items():
            pair = [video.rgb, video.flow]
            np.testing.assert_array_equal(np.asarray(pair.pop(column)), STREAMS[name][column])
            assert pair == [None] and video.n_clips == len(STREAMS[name][column])
    assert all(stream in line for line in caplog.messages) and caplog.messages


@pytest.mark.parametrize(
    "writer", [feature_files.stream_files, feature_files.canonical, feature_files.joint_npy]
)
def test_one_stream_of_a_set_of_two(tmp_path, writer):
    source = open_features(writer(tmp_path, STREAMS)["features"], streams="flow")
    for name, (_, flow) in STREAMS.items():
        rgb, found = source.read(name)
        assert rgb is None and source.shape(name) == (len(flow), None, 4)
        np.testing.assert_array_equal(found, flow)


@pytest.mark.parametrize("width", [2, 150, 384, 1024, 1152, 2304, 3200, 4096])
def test_one_array_a_video_is_asked_about(tmp_path, truth, width):
    folder = set_of(tmp_path / "f", of_width(width))
    for allow_missing in (False, True):
        error = refused(load, folder, truth, allow_missing=allow_missing)
        assert error.where == f"{folder}: {NAMES[0]}" and f"{width} wide" in error.found
        assert "--allow-missing" not in error.expected
    for streams, dims in (
        ("rgb", (width, None)),
        ("flow", (None, width)),
        ("both", (width // 2, width // 2)),
    ):
        assert f"--streams {streams}" in error.expected
        source = open_features(folder, streams=streams)  # the advice works
        assert source.shape(NAMES[0])[1:] == dims


def test_one_array_of_2048_is_both_streams(tmp_path):
    arrays, odd = of_width(2048), NAMES[2]
    source = open_features(set_of(tmp_path / "f", arrays))
    for name, pair in ((name, source.read(name)) for name in NAMES):
        np.testing.assert_array_equal(np.hstack(pair), arrays[name])
        assert pair[0].shape[1] == 1024
    set_of(tmp_path / "f", {odd: arrays[odd][:, :1024]})  # is not halved among the others either
    source = open_features(tmp_path / "f")
    assert "1024 wide" in refused(source.read, odd).found
    source.read(NAMES[0])


def test_a_joint_file_is_not_asked_about(tmp_path, caplog):
    wide = {name: (np.ones((3, 512), "f4"), np.zeros((3, 512), "f4")) for name in NAMES}
    source = open_features(feature_files.joint_npy(tmp_path, wide)["features"])
    assert source.shape(NAMES[0]) == (3, 512, 512) and caplog.messages == []


@pytest.mark.parametrize("pattern", ["{STREAM}/{name}.npy", "my {stream}.h5:{name}"])
def test_a_path_named_after_a_stream_is_asked_about(tmp_path, pattern):
    lay(tmp_path, pattern, STREAMS)
    place, other = ("RGB", "FLOW") if ":" not in pattern else ("my rgb.h5", "my flow.h5")
    error = refused(open_features, tmp_path / place)
    assert error.where == str(tmp_path / place) and "rgb" in error.found
    words = shlex.split(error.expected)
    assert words[words.index("--flow-features") + 1] == str(tmp_path / other)
    for options, shape in (
        ({"flow_features": tmp_path / other}, (8, 4, 4)),
        ({"streams": "rgb"}, (8, 4, None)),
        ({"streams": "both"}, (8, 2, 2)),
    ):
        assert open_features(tmp_path / place, **options).shape(NAMES[0]) == shape


@pytest.mark.parametrize("n", [1, 7, 8, 9, 12])
@pytest.mark.parametrize("pattern", ["{name}.npz:{stream}", "{stream}/{name}.npy"])
def test_a_set_that_lacks_a_stream_is_asked_about_whatever_its_size(tmp_path, n, pattern):
    pattern = pattern.replace("{stream}", "rgb")
    lay(tmp_path / "f", pattern, feature_files.features([5] * n, (2, 2)))
    error = refused(open_features, tmp_path / "f")
    assert (error.where, error.found) == (str(tmp_path / "f"), "rgb only")
    assert "--streams rgb" in error.expected
    assert open_features(tmp_path / "f", streams="rgb").shape("v003") == (5, 4, None)
    assert "rgb only" == refused(open_features, tmp_path / "f", streams="both").found


def test_the_first_videos_that_can_be_opened_say_what_the_set_is(tmp_path):
    """Damaged files and files of one stream before them do not."""
    lay(tmp_path, "{name}.npz:{stream}", feature_files.features([5] * 20))
    for k, path in enumerate(sorted(tmp_path.iterdir())[:19]):
        path.write_bytes(b"PK") if k % 2 else np.savez(path, rgb=np.ones((5, 4)))
    source = open_features(tmp_path)
    assert source.streams == ("rgb", "flow")
    assert refused(source.read, source.names[0]).expected == "flow, too"
    assert "broken" in refused(source.read, source.names[1]).found
    source.read(source.names[-1])


def test_one_stream_of_a_canonical_file_is_read_without_being_asked(tmp_path, caplog):
    items = [(name, None, flow) for name, (_, flow) in STREAMS.items()]
    features.write_canonical(tmp_path / "out.h5", items, 0.5, "float32")
    source = open_features(tmp_path / "out.h5")
    assert source.streams == ("flow",) and "flow only" in caplog.messages[0]
    np.testing.assert_array_equal(source.read(NAMES[0])[1], STREAMS[NAMES[0]][1])


def test_odd_widths_are_told_of_the_option(tmp_path):
    folder = set_of(tmp_path / "f", of_width(2305))
    error = refused(open_features(folder).read, NAMES[0])
    assert "2305" in error.found and "--streams" in error.expected
    assert open_features(folder, streams="rgb").shape(NAMES[0]) == (8, 2305, None)


# ----------------------------------------------------------------------------------- axes and crops


@pytest.mark.parametrize(
    "change",
    [
        lambda a: a[None],
        lambda a: a[:, None, None],
        lambda a: a[..., None, None],
        lambda a: a[:, None],
    ],
    ids=["1TD", "T11D", "TD11", "T1D"],
)
def test_axes_of_length_1_are_dropped_and_said(tmp_path, change):
    source = open_features(set_of(tmp_path / "f", joint(change)), streams="both")
    for name, pair in STREAMS.items():  # one of them has a single clip
        np.testing.assert_array_equal(np.hstack(source.read(name)), np.hstack(pair))
        (how,) = source.how_read(name)
        assert str(change(np.hstack(pair)).shape) in how


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("crops", [10, 5, 3])
def test_crops_are_asked_about_averaged_or_the_first_taken(tmp_path, axis, crops):
    offsets = np.arange(crops, dtype=np.float32)  # crop k is the array + k
    arrays = joint(lambda array: np.stack([array + k for k in offsets], axis))
    del arrays[NAMES[1]]  # has a single clip
    error = refused(open_features, set_of(tmp_path / "f", arrays), streams="both")
    assert f"{crops} crops" in error.found
    for how, offset in (("first", 0), ("mean", offsets.mean())):
        assert f"--crops {how}" in error.expected
        source = open_features(tmp_path / "f", crops=how, streams="both")
        for name in arrays:
            flow = source.read(name)[1]
            np.testing.assert_allclose(flow, STREAMS[name][1] + offset, atol=1e-5)
            assert flow.dtype == np.float32
            assert source.how_read(name) == [f"the {how} of {crops} crops"]


def test_crops_of_videos_with_ten_clips(tmp_path):
    """Where a video has as many clips as crops, the other videos say which axis is which."""
    arrays = {
        name: np.random.default_rng(t).random((10, t, 8), "f4")
        for name, t in zip(NAMES, (10, 12, 10, 9, 30, 7))
    }
    source = open_features(set_of(tmp_path / "f", arrays), crops="first", streams="both")
    for name, array in arrays.items():
        np.testing.assert_array_equal(np.hstack(source.read(name)), array[0])


def test_spatial_axes_are_no_crops(tmp_path):
    folder = set_of(tmp_path / "f", {name: np.ones((8, 8, 7, 7)) for name in NAMES})
    assert "(8, 8, 7, 7)" in refused(open_features(folder, streams="both").read, NAMES[0]).found


# ------------------------------------------------------------------------------------------- values


@pytest.mark.parametrize(
    "t_rgb, t_flow, ok",
    [
        (3, 1, True),
        (4, 1, False),
        (100, 98, True),
        (97, 100, False),
        (300, 303, True),
        (400, 396, True),
        (300, 296, False),
        (1, 1, True),
    ],
)
def test_streams_are_cut_by_2_clips_or_1_percent(tmp_path, t_rgb, t_flow, ok):
    ((rgb, flow),) = feature_files.features((max(t_rgb, t_flow),)).values()
    path = feature_files.canonical(tmp_path, {"a": (rgb[:t_rgb], flow[:t_flow])})["features"]
    source = open_features(path)
    if not ok:
        error = refused(source.read, "a")
        assert error.found == f"{t_rgb} clips of rgb and {t_flow} of flow"
        return
    length = min(t_rgb, t_flow)
    assert source.shape("a") == (length, 4, 4)
    for k, stream in enumerate(("rgb", "flow")):
        np.testing.assert_array_equal(source.read("a")[k], (rgb, flow)[k][:length])
        np.testing.assert_array_equal(source.read_stream("a", stream), (rgb, flow)[k][:length])
    assert bool(source.how_read("a")) == (t_rgb != t_flow)


@pytest.mark.parametrize("dtype", ["float16", "float32", ">f4", "float64", "int16", "uint8"])
def test_types_are_converted_and_said(tmp_path, dtype):
    values = np.arange(24).reshape(6, 4)
    streams = {"a": (values.astype(dtype), values[::-1].astype("float32"))}
    source = open_features(feature_files.canonical(tmp_path, streams)["features"])
    rgb, _ = source.read("a")
    assert rgb.dtype == np.float32 and np.array_equal(rgb, values)
    usual = dtype in ("float16", "float32", ">f4")
    assert source.how_read("a") == ([] if usual else [f"{dtype} converted to float32"])


def test_big_finite_values_are_no_infinities(tmp_path):
    big = np.full((3, 4), 3e38, np.float32)  # their squares overflow
    path = feature_files.canonical(tmp_path, {"a": (big, -big)})["features"]
    np.testing.assert_array_equal(open_features(path).read("a")[1], -big)


def test_datasets_packed_by_other_filters_are_read(tmp_path):
    """scaleoffset stores small whole numbers in a few bits, and h5py names no compression."""
    with h5py.File(tmp_path / "f.h5", "w") as file:
        for stream in ("rgb", "flow"):
            packed = dict(data=np.ones((8, 4), "i4"), chunks=(8, 4), scaleoffset=0)
            assert file.create_dataset(f"a/{stream}", **packed).compression is None
    np.testing.assert_array_equal(open_features(tmp_path / "f.h5").read("a")[1], 1)


# ------------------------------------------------------------------------------------------ seconds


def attributes(path, member="/", **values):
    """Sets attributes of the feature file, or of a video in it; None removes one."""
    with h5py.File(path, "r+") as file:
        for name, value in values.items():
            if value is None:
                del file[member].attrs[name]
            else:
                file[member].attrs[name] = value


@pytest.mark.parametrize(
    "declared, own, given, expected",
    [
        ({}, {}, {}, (0.5, 0.5)),
        ({"clip_seconds": 2.0}, {}, {}, (0.5, 2.0)),
        ({}, {}, {"clip_seconds": 2.0}, (0.5, 2.0)),
        ({"clip_seconds": 2.0}, {}, {"clip_seconds": 1.0}, (0.5, 1.0)),
        # where only the step is replaced, there are as many steps in a window as before
        ({"clip_seconds": 2.0}, {}, {"snippet_seconds": 0.25}, (0.25, 1.0)),
        ({"clip_seconds": 0.5}, {}, {"snippet_seconds": 0.25}, (0.25, 0.25)),
        ({"clip_seconds": 2.0}, {}, {"snippet_seconds": 0.25, "clip_seconds": 3}, (0.25, 3.0)),
        ({}, {"snippet_seconds": 1.0}, {}, (1.0, 1.0)),
        ({"clip_seconds": 2.0}, {"snippet_seconds": 1.0}, {}, (1.0, 4.0)),
        ({"clip_seconds": 2.0}, {"snippet_seconds": 1.0, "clip_seconds": 1.5}, {}, (1.0, 1.5)),
        ({}, {"clip_seconds": 1.5}, {}, (0.5, 1.5)),
        ({}, {"snippet_seconds": 1.0}, {"snippet_seconds": 0.25}, (0.25, 0.25)),
        ({"snippet_seconds": None}, {"snippet_seconds": 1.0}, {}, (1.0, 1.0)),
        ({"snippet_seconds": None}, {}, {}, (None, None)),
        ({}, {}, {"snippet_seconds": "duration"}, (0.75, 0.75)),  # 6 s over 8 clips
    ],
)
@pytest.mark.parametrize("pattern", ["{name}/{stream}", "{name}"])
def test_who_says_step_and_window_of_a_video(tmp_path, pattern, declared, own, given, expected):
    lay(tmp_path, "f.h5:" + pattern, STREAMS)
    path, name = tmp_path / "f.h5", NAMES[0]
    attributes(path, snippet_seconds=0.5)
    attributes(path, **declared)
    attributes(path, name, **own)
    source = open_features(path, streams="both", **given)
    assert source.seconds(name, 6.0) == expected
    if expected == (None, None):
        assert source.seconds(name, 6.0, usual=(9.0, 12.0)) == (9.0, 12.0)


def test_given_seconds_win_over_declared_ones_and_that_is_said(tmp_path, caplog):
    path = feature_files.canonical(tmp_path, STREAMS)["features"]
    assert open_features(path, snippet_seconds=0.5).snippet_seconds == 0.5 and not caplog.messages
    assert open_features(path, snippet_seconds=0.52).snippet_seconds == 0.52
    assert "0.5 s" in caplog.messages[0] and "0.52 s" in caplog.messages[0]
    error = refused(open_features, path, snippet_seconds="duration", clip_seconds=1.0)
    assert error.where == "--clip-seconds"
    error = refused(open_features(path, snippet_seconds="duration").seconds, NAMES[1])
    assert (error.where, error.found) == (f"{path}: {NAMES[1]}", "no annotated duration")


def test_a_broken_attribute_stops_its_video_alone(tmp_path):
    path = feature_files.canonical(tmp_path, STREAMS)["features"]
    attributes(path, NAMES[0], snippet_seconds=-1.0)
    source = open_features(path)
    error = refused(source.read, NAMES[0])
    assert error.where == f"{path}: {NAMES[0]}: attribute snippet_seconds" and error.found == "-1.0"
    source.read(NAMES[1])


# ------------------------------------------------------------------------------------------- names


def test_names_of_the_annotations_are_adopted(tmp_path):
    """The rule is that of formats/names.py."""
    streams = dict(zip(("v_id1", "id2.mp4", "other"), STREAMS.values()))
    source = open_features(feature_files.canonical(tmp_path, streams)["features"])
    source.adopt(["id1", "id2", "elsewhere"])
    assert sorted(source.names) == ["id1", "id2", "other"] and "elsewhere" not in source
    np.testing.assert_array_equal(source.read("id1")[0], streams["v_id1"][0])
    np.testing.assert_array_equal(source.read("id2")[1], streams["id2.mp4"][1])


# ------------------------------------------------------------------------------------------ on disk


def test_values_left_on_disk_are_checked_when_read(tmp_path, truth):
    streams, name = feature_files.features(), NAMES[2]
    streams[name][1][5, 2] = np.nan
    path = feature_files.canonical(tmp_path, streams)["features"]
    data = load(path, truth, memory_limit=0)
    bad = videos(data)[name]
    assert isinstance(bad.rgb, features.StoredArray) and np.asarray(bad.rgb).shape == (12, 4)
    error = refused(np.asarray, bad.flow)
    assert error.where == f"{path}: {name}" and "nan in flow, clip 5 " in error.found


@pytest.mark.parametrize("change", ["shorter", "narrower", "gone"])
def test_a_file_that_changes_after_it_was_opened_is_one_line(tmp_path, change):
    folder = set_of(tmp_path / "f", joint())
    source, path = open_features(folder, streams="both"), folder / f"{NAMES[0]}.npy"
    source.shape(NAMES[0])
    if change == "gone":
        path.unlink()
    else:
        np.save(path, np.ones((7, 8) if change == "shorter" else (8, 6), "f4"))
    assert NAMES[0] in refused(source.read_stream, NAMES[0], "rgb").where
    source.read(NAMES[2])


@pytest.mark.parametrize("writer", [feature_files.canonical, feature_files.joint_npy])
def test_reading_beside_a_background_thread(tmp_path, writer):
    streams = feature_files.features([50 + i for i in range(20)])
    source = open_features(writer(tmp_path, streams)["features"])

    def wrong(order):
        return [
            name
            for name, pair in list(streams.items())[::order] * 5
            for stream, expected in zip(("rgb", "flow"), pair)
            if not np.array_equal(source.read_stream(name, stream), expected)
        ]

    with ThreadPoolExecutor(1) as background:
        there = background.submit(wrong, -1)
        assert wrong(1) == there.result() == []


def test_features_given_opened_are_closed_where_the_annotations_are_bad(tmp_path):
    source = open_features(feature_files.canonical(tmp_path, STREAMS)["features"])
    refused(dataset.load, source, tmp_path / "nope.json", **SUBSETS)
    with h5py.File(source.path, "r+"):  # HDF5 refuses to write a file that is open for reading
        pass


# ------------------------------------------------------------------------------------------ writing


def items(streams):
    return ((name, *pair) for name, pair in streams.items())


@pytest.mark.parametrize(
    "dtype, compression", [("float32", None), ("float16", None), ("float32", "gzip")]
)
def test_canonical_round_trip(tmp_path, dtype, compression):
    rng = np.random.default_rng(1)
    long = tuple(rng.normal(size=(1000, 300)).astype(np.float32) for _ in range(2))
    streams = {**STREAMS, "long": long, "Abuse/x": STREAMS[NAMES[0]]}
    path = tmp_path / "out.h5"
    assert features.write_canonical(path, items(streams), 0.64, dtype, compression) == 8
    with h5py.File(path) as file:
        assert file.attrs["snippet_seconds"] == file.attrs["clip_seconds"] == 0.64
        for name, pair in streams.items():
            for stream, expected in zip(("rgb", "flow"), pair):
                stored = file[f"{name}/{stream}"]
                assert stored.dtype == dtype and stored.compression == compression
                bound = 0 if dtype == "float32" else 2**-11 * np.abs(expected) + 2**-24
                assert (np.abs(stored[()] - expected) <= bound).all()
                rows, width = stored.chunks  # whole rows, at most 512 KiB
                assert width == expected.shape[1] and stored.dtype.itemsize * rows * width <= 2**19
    assert [file.name for file in tmp_path.iterdir()] == ["out.h5"]


def test_seconds_of_each_video_are_written_where_they_differ(tmp_path):
    own = {name: (0.5, 0.5) for name in NAMES}
    for window in (0.5, 2.0):
        own[NAMES[1]] = (0.5, window)
        features.write_canonical(tmp_path / "out.h5", items(STREAMS), own)
        source = open_features(tmp_path / "out.h5")
        assert [source.seconds(name) for name in NAMES] == [own[name] for name in NAMES]
        assert source.snippet_seconds == (0.5 if window == 0.5 else None)
        source.close()


@pytest.mark.parametrize(
    "bad, found",
    [
        (KeyboardInterrupt, None),
        (InputError("x: found y"), None),
        (("b", 70_000), "values up to 7e+04"),
        (("a", 1), "'a' as"),
        (("../a", 1), "'../a' as"),
        (("", 1), "'' as"),
        (("b", "empty"), "(0, 3)"),
    ],
)
def test_a_failed_write_leaves_what_was_there(tmp_path, bad, found):
    path, values = tmp_path / "out.h5", np.ones((2, 3), np.float32)
    features.write_canonical(path, items(STREAMS), 0.64, "float32")
    before = path.read_bytes()

    def broken():
        yield "a", values, values
        if found is None:
            raise bad
        yield bad[0], values, values[:0] if bad[1] == "empty" else values * bad[1]

    with pytest.raises(KeyboardInterrupt if bad is KeyboardInterrupt else InputError) as caught:
        features.write_canonical(path, broken(), 1.0)
    assert found is None or found in caught.value.found
    assert path.read_bytes() == before and [file.name for file in tmp_path.iterdir()] == ["out.h5"]


def test_what_was_written_is_read_back(tmp_path, monkeypatch):
    real = h5py.File

    def corrupting(path, mode="r", **options):
        if mode == "r":
            with real(path, "r+") as file:
                file[f"{NAMES[3]}/flow"][2, 1] += 0.5
        return real(path, mode, **options)

    monkeypatch.setattr(features.h5py, "File", corrupting)
    error = refused(features.write_canonical, tmp_path / "out.h5", items(STREAMS), 0.64)
    assert error.where == f"{tmp_path / 'out.h5'}: {NAMES[3]}/flow"
    assert list(tmp_path.iterdir()) == []


# --------------------------------------------------------------------------- has the data changed?


@pytest.mark.parametrize(
    "writer", [feature_files.canonical, feature_files.split_stream_files, feature_files.joint_npy]
)
def test_fingerprint_sees_values_names_and_sizes(tmp_path, writer):
    def written(name, streams):
        (tmp_path / name).mkdir()
        writer(tmp_path / name, streams)
        return tmp_path / name

    truth = feature_files.write_json(tmp_path / "gt.json", feature_files.database(STREAMS))
    one, streams = written("one", STREAMS), feature_files.features()
    before = features.fingerprint(one, truth, None)
    shutil.copytree(one, tmp_path / "copy", copy_function=shutil.copyfile)
    # neither place nor time of the files counts
    assert features.fingerprint(tmp_path / "copy", truth) == before
    last = NAMES[-1]
    rgb, flow = streams.pop(last)
    prints = {before, features.fingerprint(truth, one)}
    for name, change in (
        ("values", {last: (rgb, flow + np.float32(1e-6))}),
        ("name", {"other": (rgb, flow)}),
        ("length", {last: (rgb[:-1], flow[:-1])}),
    ):
        prints.add(features.fingerprint(written(name, {**streams, **change}), truth))
    truth.write_text(truth.read_text() + " ")
    prints.add(features.fingerprint(one, truth))
    assert len(prints) == 6
    refused(features.fingerprint, tmp_path / "nowhere")


def test_fingerprint_of_a_big_file_sees_a_changed_video(tmp_path):
    path = tmp_path / "big"
    path.write_bytes(b"")
    os.truncate(path, 100 * 2**20)  # beyond 32 MiB: samples, here 4 KiB of 16
    before = features.fingerprint(path)
    for offset, length, seen in ((50_000_003, 12 * 1024, True), (50 * 2**20 + 5000, 100, False)):
        for content in (b"x", b"\0"):
            with open(path, "r+b") as file:
                file.seek(offset)
                file.write(content * length)
            assert (features.fingerprint(path) != before) == (seen and content == b"x")


def test_what_a_link_leads_to_counts(tmp_path):
    source = tmp_path / "elsewhere" / "f.npy"
    save(source, np.ones((2, 2)))
    (tmp_path / "features").mkdir()
    (tmp_path / "features" / "rgb").symlink_to(tmp_path / "elsewhere")
    before = [hash(tmp_path / "features") for hash in (features.fingerprint, features.file_state)]
    np.save(source, np.zeros((3, 2)))
    after = [hash(tmp_path / "features") for hash in (features.fingerprint, features.file_state)]
    assert all(a != b for a, b in zip(before, after))


@pytest.mark.parametrize("change", ["cut", "same size", "gone", "new", "none"])
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_file_state_sees_what_was_written_meanwhile(tmp_path, change, kind):
    lay(tmp_path / "f", "{name}.npy", STREAMS)
    one = tmp_path / "f" / f"{NAMES[0]}.npy"
    paths = (one if kind == "file" else tmp_path / "f"), None
    before = features.file_state(*paths)
    if change == "cut":
        os.truncate(one, 40)
    elif change == "same size":
        old = one.stat()
        one.write_bytes(bytes(old.st_size))
        os.utime(one, ns=(old.st_atime_ns, old.st_mtime_ns + 10**6))
    elif change == "gone":
        one.unlink()
    elif change == "new":
        save(tmp_path / "f" / "new.npy", np.ones(1))
    seen = change != "none" and (change, kind) != ("new", "file")
    assert (features.file_state(*paths) != before) == seen
