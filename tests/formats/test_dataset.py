import subprocess
import sys

import feature_files
import h5py
import numpy as np
import pytest
from feature_files import SECONDS, videos
from places import SHARED

import dataset
from formats import annotations, features
from formats.files import InputError

SUBSETS = dict(train_subset="train", test_subset="test")


def write(folder, streams, database=None, writer=feature_files.canonical, **options):
    """Write features and annotations; returns the arguments of dataset.load."""
    (folder / "features").mkdir(exist_ok=True)
    paths = writer(folder / "features", streams, **options)
    content = feature_files.database(streams) if database is None else database
    return dict(paths, annotations=feature_files.write_json(folder / "gt.json", content), **SUBSETS)


def has(notes, *texts):
    return sum(all(text in note for text in texts) for note in notes)


@pytest.mark.slow
@pytest.mark.skipif(
    not SHARED.is_dir(), reason="the stand-in script and its annotations lie beside the repository"
)
def test_the_stand_in_script_s_layouts_load_to_the_same_tensors(tmp_path):
    loaded = {}
    truth = SHARED / "data" / "thumos14" / "Thumos14reduced-Annotations"
    for layout in ("wtalc", "npy", "release"):
        subprocess.run(
            [
                *(sys.executable, SHARED / "make_thumos_like.py", tmp_path / layout),
                *f"--layout {layout} --dim 2 --snippet-seconds 8".split(),
            ],
            check=True,
            capture_output=True,
        )
        features = tmp_path / layout / ("features" if layout == "npy" else "")
        loaded[layout] = feature_files.load(
            features, truth, train_subset="validation", test_subset="test", snippet_seconds=8
        )
    first = loaded["wtalc"]
    assert (len(first.train), len(first.test), len(first.classes)) == (200, 212, 20)
    for other in (loaded["npy"], loaded["release"]):
        assert other.classes == first.classes and list(videos(other)) == list(videos(first))
        for a, b in zip(videos(first).values(), videos(other).values()):
            np.testing.assert_array_equal(a.rgb, b.rgb)
            np.testing.assert_array_equal(a.flow, b.flow)
            np.testing.assert_array_equal(a.labels, b.labels)


@pytest.mark.slow
def test_real_canonical_file():
    folder = SHARED / "data" / "hapt30"
    if not folder.is_dir():
        pytest.skip("hapt30 lies beside the repository")
    data = feature_files.load(folder / "features.h5", folder / "annotations.json", **SUBSETS)
    # 18 and 3 excerpts have no label
    assert (len(data.train), len(data.test), len(data.classes)) == (491, 206, 12)
    assert data.snippet_seconds == 0.64 and data.feature_bytes == (491 + 206) * 45 * 222 * 4
    with h5py.File(folder / "features.h5") as file:
        for video in data.test[::20]:
            np.testing.assert_array_equal(
                video.flow, file[video.name]["flow"][()].astype(np.float32)
            )


@pytest.mark.parametrize("stored, annotated", [("v_abc", "abc"), ("abc", "v_abc")])
def test_another_form_of_a_name_is_looked_through(tmp_path, stored, annotated, warned):
    streams = dict(zip((stored, "b"), feature_files.features((3, 4)).values()))
    database = dict(zip((annotated, "b"), feature_files.database(streams).values()))
    data = feature_files.load(**write(tmp_path, streams, database))
    np.testing.assert_array_equal(videos(data)[annotated].rgb, streams[stored][0])
    (line,) = warned()
    assert f"1 of 2 videos have another form of their name, such as {stored} for" in line


def test_prefix_of_a_video_of_its_own_is_not_looked_through(tmp_path):
    streams = dict(zip(("v_a", "b"), feature_files.features((3, 4)).values()))
    database = feature_files.database(streams)
    database["a"] = database["b"]
    with pytest.raises(InputError, match="no features for 1 of 3 videos .*: a,"):
        feature_files.load(**write(tmp_path, streams, database))


@pytest.mark.parametrize("form", ["id", "v_{}.npy", "video_1", "joint"])
def test_a_w_talc_set_whose_videos_have_youtube_ids(tmp_path, form, warned):
    """The name is the id of url.npy; features may also be called as in videoname.npy."""
    numbers = ["video_1", "video_2", "video_3"]
    ids = ["--0edUL8zmA", "v_B-c123456", "Zz234567890"]
    streams = dict(zip(ids, feature_files.features((3, 4, 5)).values()))
    truth, place = tmp_path / "truth", tmp_path / "features"
    for name, values in {
        "videoname": numbers,
        "url": [f"https://www.youtube.com/watch?v={one}" for one in ids],
        "subset": ["train", "test", "test"],
        "classlist": ["a"],
        "labels": feature_files.objects(["a"], ["a"], ["a"]),
    }.items():
        feature_files.save(truth / f"{name}.npy", np.array(values))
    if form == "joint":
        feature_files.joint_npy(place, streams)
        place = place / "Set-I3D-JOINTFeatures.npy"
    else:
        names = {"id": ids, "v_{}.npy": [f"v_{one}" for one in ids], "video_1": numbers}[form]
        feature_files.side_by_side_files(place, dict(zip(names, streams.values())))
    data = feature_files.load(place, truth, snippet_seconds=1.0, streams="both", **SUBSETS)
    assert [video.name for video in (*data.train, *data.test)] == ids
    for name, video in videos(data).items():
        np.testing.assert_array_equal(video.rgb, streams[name][0])
    assert len(warned()) == (form == "v_{}.npy")


# ------------------------------------------------------------------------------------------------
# contents


def test_labels_and_segments(tmp_path, streams, caplog):
    train, test, train_2, *_ = names = list(streams)
    database = feature_files.database(streams)
    database[train]["annotations"] = [
        {"label": "c", "segment": [0, 1]},
        {"label": "a", "segment": [1, 2]},
        {"label": "c", "segment": [2, 3]},
    ]
    database[test]["annotations"] = [
        {"label": "b", "segment": [0, 0.25]},
        {"label": "a", "segment": [0.25, 0.5]},
    ]
    database[train_2]["annotations"] = []
    database[names[3]]["annotations"] = []
    data = feature_files.load(**write(tmp_path, streams, database))
    assert data.classes == ("a", "b", "c")
    found = videos(data)
    assert found[train].labels.tolist() == [1, 0, 1] and found[train].labels.dtype == np.float32
    assert found[test].labels.tolist() == [1, 1, 0]
    assert found[test].segments.tolist() == [[0, 0.25], [0.25, 0.5]]
    assert found[test].segment_labels.tolist() == [1, 0]
    assert found[test].segment_labels.dtype == np.int64
    assert train_2 not in found
    assert has(caplog.messages, "1 training video without any label", train_2) == 1
    assert found[names[3]].labels.tolist() == [0, 0, 0] and found[names[3]].segments.shape == (0, 2)
    for video in data.train:  # nothing but the video's labels
        assert video.segments.shape == (0, 2) and video.segment_labels.shape == (0,)


def test_features_may_be_given_opened_and_annotations_loaded(tmp_path, streams):
    arguments = write(tmp_path, streams)
    truth = annotations.load(arguments["annotations"])
    source = features.open_features(arguments["features"], snippet_seconds=2 * SECONDS)
    data = dataset.load(source, truth, **SUBSETS)
    assert len(data.train) == 3 and data.snippet_seconds == 2 * SECONDS
    assert len(dataset.load(arguments["features"], arguments["annotations"], **SUBSETS).train) == 3


def test_one_subset_only(tmp_path, streams, caplog):
    arguments = dict(write(tmp_path, streams), train_subset=None)
    data = feature_files.load(**arguments)
    assert data.train == [] and len(data.test) == 3 and caplog.messages == []


def test_duration_falls_back_on_the_clips(tmp_path, streams):
    database = feature_files.database(streams)
    first, second, *_ = streams
    del database[first]["duration"]
    database[second]["duration"] = 0.51
    found = videos(feature_files.load(**write(tmp_path, streams, database)))
    assert found[first].duration == 4.0  # 8 clips of 0.5 s
    assert found[second].duration == 0.51


def test_missing_videos_are_left_out_where_allowed(tmp_path, streams, caplog):
    names = list(streams)
    database = feature_files.database(streams)
    kept = {name: streams[name] for name in names[2:]}
    arguments = write(tmp_path, kept, database)
    with pytest.raises(
        InputError, match=f"no features for 2 of 6 videos .*: {names[0]}, {names[1]}, expected all"
    ):
        feature_files.load(**arguments)
    data = feature_files.load(**arguments, allow_missing=True)
    assert sorted(videos(data)) == sorted(kept)
    assert has(caplog.messages, "2 of 6", names[0], names[1], "left out") == 1


def test_surplus_features_are_said(tmp_path, streams, caplog):
    database = feature_files.database(streams)
    surplus = list(database)[0]
    del database[surplus]
    data = feature_files.load(**write(tmp_path, streams, database))
    assert surplus not in videos(data)
    assert has(caplog.messages, "1 video not used", surplus) == 1


# ------------------------------------------------------------------------------------------------
# geometry


@pytest.mark.parametrize(
    "declared, warned",
    [(1.0, False), (0.96, False), (1.04, False), (0.94, True), (1.06, True), (0.5, True)],
)
def test_geometry_is_held_against_the_durations(tmp_path, declared, warned, caplog):
    streams = feature_files.features((100, 40, 20))
    database = feature_files.database(streams)
    for (rgb, _), entry in zip(streams.values(), database.values()):
        entry["duration"] = float(len(rgb))  # 1 s per clip
    data = feature_files.load(**write(tmp_path, streams, database, snippet_seconds=declared))
    assert (
        has(caplog.messages, "GEOMETRY", f"{declared:g} s", f"{100 * declared:.0f}%", "imply 1 s")
        == warned
    )
    assert data.snippet_seconds == declared  # a warning, no correction


def test_geometry_is_the_median(tmp_path, caplog):
    streams = feature_files.features((10, 10, 10))
    database = feature_files.database(streams)
    database[list(streams)[1]]["duration"] = 5.5  # one video off by 10%
    feature_files.load(**write(tmp_path, streams, database))
    assert caplog.messages == []


def test_geometry_sees_features_of_a_fixed_length(tmp_path, caplog):
    streams = feature_files.features((10, 10, 10, 10))
    database = feature_files.database(streams)
    for seconds, entry in zip((3.0, 4.5, 5.5, 50.0), database.values()):
        entry["duration"] = seconds
    feature_files.load(**write(tmp_path, streams, database))
    assert (
        has(caplog.messages, "GEOMETRY: 2 of 4 videos", "0.3 to 5 s") == 1
        and len(caplog.messages) == 1
    )


def test_undeclared_seconds_are_asked_for_with_the_value_that_fits(tmp_path, caplog):
    streams = feature_files.features((100, 40, 20))
    database = feature_files.database(streams)
    for seconds, expected in (
        (
            0.65,
            "--snippet-seconds 0.64); the durations of .* imply 0.65 s; the known convention 0.64 s .W-TALC",
        ),
        (0.3, "--snippet-seconds 0.3); the durations of .* imply 0.3 s$"),
    ):
        for (rgb, _), entry in zip(streams.values(), database.values()):
            entry["duration"] = len(rgb) * seconds
        with pytest.raises(InputError, match=expected.replace(")", r"\)")):
            feature_files.load(**write(tmp_path, streams, database, snippet_seconds=None))
    for entry in database.values():
        del entry["duration"]
    with pytest.raises(InputError, match=r"--snippet-seconds SECONDS\)$"):
        feature_files.load(**write(tmp_path, streams, database, snippet_seconds=None))
    paths = write(tmp_path, streams, database, snippet_seconds=None)
    assert feature_files.warnings(caplog, **paths, snippet_seconds=0.4) == []


@pytest.mark.parametrize(
    "step, window, fits",
    [
        (1.25, 1.25, (1.25, 1.25)),
        (0.64, 0.64, (0.64, 0.64)),
        (0.62, 0.62, (0.64, 0.64)),
        (0.618, 0.618, (0.6, 0.6)),
        (0.6, 0.6, (0.6, 0.6)),
        (0.4, 0.4, (0.4, 0.4)),
        (4 / 30, 16 / 30, (4 / 30, 16 / 30)),
        (16 / 30, 32 / 30, (16 / 30, 32 / 30)),
        (0.5, 0.5, None),
        (0.43, 0.43, None),
        (10, 10, None),
    ],
)
def test_known_conventions(step, window, fits):
    lengths = np.array([40, 60, 80])
    assert dataset.fitting_convention((lengths - 1) * step + window, lengths) == fits


def test_the_window_counts_where_videos_are_short():
    lengths = np.array([3, 4, 5])  # 4 clips of ActionFormer's last 0.933 s, 0.233 s each
    durations = (lengths - 1) * 4 / 30 + 16 / 30
    assert dataset.fitting_convention(durations, lengths) == (4 / 30, 16 / 30)


# ------------------------------------------------------------------------------------------------
# windows, and the step of a video


def attributes(arguments, member="/", **values):
    """Sets attributes of the feature file, or of a video in it; None removes one."""
    with h5py.File(arguments["features"], "r+") as file:
        for name, value in values.items():
            if value is None:
                del file[member].attrs[name]
            else:
                file[member].attrs[name] = value


def of_video(data, name):
    video = videos(data)[name]
    return video.snippet_seconds, video.clip_seconds


def test_the_seconds_of_a_set_are_those_that_all_videos_have(tmp_path, streams):
    arguments, name = write(tmp_path, streams), list(streams)[0]
    data = feature_files.load(**arguments, clip_seconds=2.0)
    assert (data.snippet_seconds, data.clip_seconds) == (0.5, 2.0)
    attributes(arguments, name, snippet_seconds=1.0)
    data = feature_files.load(**arguments)
    assert of_video(data, name) == (1.0, 1.0)
    assert (data.snippet_seconds, data.clip_seconds) == (None, None)


def test_without_a_duration_a_video_lasts_until_its_last_window_ends(tmp_path, streams):
    database = feature_files.database(streams)
    for entry in database.values():
        del entry["duration"]
    data = feature_files.load(**write(tmp_path, streams, database), clip_seconds=2.0)
    for name, video in videos(data).items():
        assert video.duration == (len(streams[name][0]) - 1) * 0.5 + 2.0


def test_a_file_that_says_a_step_for_some_videos_only(tmp_path, streams):
    arguments = write(tmp_path, streams)
    attributes(arguments, snippet_seconds=None)
    attributes(arguments, list(streams)[0], snippet_seconds=0.5)
    with pytest.raises(InputError, match=r"features\.h5: v\w+: found no snippet_seconds"):
        feature_files.load(**arguments)


def test_long_windows_are_held_against_the_durations(tmp_path, caplog):
    streams = feature_files.features((6, 5, 4))
    database = feature_files.database(streams)
    for (rgb, _), entry in zip(streams.values(), database.values()):
        entry["duration"] = (len(rgb) - 1) * 0.5 + 2.0  # 4.5, 4 and 3.5 s
    arguments = write(tmp_path, streams, database)
    assert feature_files.warnings(caplog, **arguments, clip_seconds=2.0) == []
    # side by side, 5 clips of 0.5 s cover 2.5 of 4 s; windows of 4 s cover 6 of 4 s
    assert has(feature_files.warnings(caplog, **arguments), "GEOMETRY", "cover 62% of") == 1
    feature_files.load(**arguments, clip_seconds=4.0)
    assert has(caplog.messages, "GEOMETRY: clips of 4 s every 0.5 s cover 150% of") == 1


@pytest.mark.parametrize("declared", [SECONDS, None])
def test_videos_that_differ_are_told_of_duration_which_puts_it_right(tmp_path, declared, caplog):
    streams = feature_files.features((10, 10, 10, 10))
    database = feature_files.database(streams)
    for seconds, entry in zip((3.0, 4.5, 5.5, 50.0), database.values()):
        entry["duration"], entry["annotations"][0]["segment"] = seconds, [0, seconds]
    arguments = write(tmp_path, streams, database, snippet_seconds=declared)
    if declared:
        assert has(feature_files.warnings(caplog, **arguments), "--snippet-seconds duration") == 1
    else:
        with pytest.raises(InputError, match=r"\(--snippet-seconds duration\).* 0.3 to 5 s"):
            feature_files.load(**arguments)
    caplog.clear()
    data = feature_files.load(**arguments, snippet_seconds="duration")
    assert has(caplog.messages, "GEOMETRY") == 0
    found = [of_video(data, name) for name in streams]
    assert found == [(0.3, 0.3), (0.45, 0.45), (0.55, 0.55), (5.0, 5.0)]


def test_duration_over_clips_needs_the_duration(tmp_path, streams):
    database = feature_files.database(streams)
    name = list(streams)[2]
    del database[name]["duration"]
    arguments = write(tmp_path, streams, database)
    with pytest.raises(InputError, match=f"features.h5: {name}: found no annotated duration"):
        feature_files.load(**arguments, snippet_seconds="duration")


def test_known_features_of_long_windows_are_asked_about(tmp_path, caplog):
    streams = feature_files.features((300, 400, 500))
    database = feature_files.database(streams)
    for (rgb, _), entry in zip(streams.values(), database.values()):
        entry["duration"] = (len(rgb) - 1) * 4 / 30 + 16 / 30
        entry["annotations"][0]["segment"] = [0, entry["duration"]]
    arguments = write(tmp_path, streams, database, snippet_seconds=4 / 30)
    assert (
        has(feature_files.warnings(caplog, **arguments), "ActionFormer", "--clip-seconds 0.5333")
        == 1
    )
    for window in (16 / 30, 4 / 30):
        assert feature_files.warnings(caplog, **arguments, clip_seconds=window) == []
    attributes(arguments, snippet_seconds=None)
    with pytest.raises(InputError, match="--snippet-seconds 0.1333.* --clip-seconds 0.5333"):
        feature_files.load(**arguments)


# ------------------------------------------------------------------------------------------------
# on disk


def test_memory_limit_decides(tmp_path, streams, caplog):
    arguments = write(tmp_path, streams)
    size = sum(rgb.size + flow.size for rgb, flow in streams.values()) * 4
    data = feature_files.load(**arguments, memory_limit=size)
    assert data.feature_bytes == size and data.in_memory
    assert isinstance(data.train[0].rgb, np.ndarray)
    data = feature_files.load(**arguments, memory_limit=size - 1)
    assert data.feature_bytes == size and not data.in_memory
    assert isinstance(data.train[0].rgb, features.StoredArray)
    assert has(caplog.messages, "stay on disk") == 1
