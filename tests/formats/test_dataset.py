import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

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


# ------------------------------------------------------------------------------------------------
# layouts


@pytest.mark.parametrize("writer", feature_files.LAYOUTS, ids=lambda writer: writer.__name__)
def test_every_layout_loads_to_the_same_tensors(tmp_path, streams, writer):
    arguments = write(tmp_path, streams, writer=writer)
    layout = feature_files.LAYOUTS[writer]
    if writer not in feature_files.DECLARES_SECONDS:
        arguments["snippet_seconds"] = SECONDS
    for options in ({}, {"feature_layout": layout}, {"memory_limit": 0}):
        data = feature_files.load(**arguments, **options)
        assert data.layout == layout
        on_disk = [note for note in data.notes if "stay on disk" in note]
        assert list(data.notes) == on_disk and len(on_disk) == ("memory_limit" in options)
        assert [video.name for video in data.train] == list(streams)[0::2]
        assert [video.name for video in data.test] == list(streams)[1::2]
        assert data.in_memory == ("memory_limit" not in options)
        for name, video in videos(data).items():
            for found, expected in zip((video.rgb, video.flow), streams[name]):
                assert found.shape == expected.shape and found.dtype == np.float32
                array = np.asarray(found)
                np.testing.assert_array_equal(array, expected)
                assert array.flags.f_contiguous and array.flags.writeable
                assert array.flags.owndata  # keeps neither the other stream nor a copy alive


def test_a_stream_of_a_joint_array_by_columns_does_not_keep_the_other(tmp_path, streams):
    for name, pair in streams.items():
        feature_files.save(tmp_path / f"f/{name}.npy", np.asfortranarray(np.concatenate(pair, 1)))
    truth = feature_files.write_json(tmp_path / "gt.json", feature_files.database(streams))
    for name, video in videos(
        feature_files.load(
            tmp_path / "f", truth, snippet_seconds=SECONDS, streams="both", **SUBSETS
        )
    ).items():
        np.testing.assert_array_equal(video.flow, streams[name][1])
        assert video.rgb.flags.owndata and video.flow.flags.owndata


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


@pytest.mark.parametrize("kind", ["S9", "U9", bytes, str])
def test_names_of_a_joint_file_as_bytes_or_text(tmp_path, streams, kind):
    arguments = write(tmp_path, streams, writer=feature_files.joint_npy)
    names = [name.encode() if kind in ("S9", bytes) else name for name in streams]
    names = feature_files.objects(*names) if isinstance(kind, type) else np.array(names, kind)
    np.save(tmp_path / "features" / "Set-Annotations" / "videoname.npy", names)
    assert features.open_features(arguments["features"]).names == list(streams)


def test_released_numbers_are_in_order(tmp_path):
    streams = feature_files.features([2] * 24)
    source = features.open_features(
        write(tmp_path, streams, writer=feature_files.released_pt)["features"]
    )
    # testSet, trainSet; 2.pt before 10.pt
    assert source.names == [*list(streams)[1::2], *list(streams)[0::2]]


# ------------------------------------------------------------------------------------------------
# contents


def test_labels_and_segments(tmp_path, streams):
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
    assert has(data.notes, "1 training video without any label", train_2) == 1
    assert found[names[3]].labels.tolist() == [0, 0, 0] and found[names[3]].segments.shape == (0, 2)
    for video in data.train:  # nothing but the video's labels
        assert video.segments.shape == (0, 2) and video.segment_labels.shape == (0,)


def test_datasets_packed_by_other_filters_are_read(tmp_path, streams):
    """scaleoffset stores small whole numbers in a few bits, and h5py names no compression."""
    whole = {name: (np.ones((8, 4), "i4"), np.ones((8, 4), "i4")) for name in streams}
    arguments = write(
        tmp_path, {name: (a.astype("f4"), b.astype("f4")) for name, (a, b) in whole.items()}
    )
    with h5py.File(arguments["features"], "r+") as file:
        for name, pair in whole.items():
            for stream, x in zip(("rgb", "flow"), pair):
                del file[f"{name}/{stream}"]
                file.create_dataset(f"{name}/{stream}", data=x, chunks=x.shape, scaleoffset=0)
                assert file[f"{name}/{stream}"].compression is None
    for video in videos(feature_files.load(**arguments)).values():
        np.testing.assert_array_equal(np.asarray(video.rgb), 1)


def test_features_may_be_given_opened_and_annotations_loaded(tmp_path, streams):
    arguments = write(tmp_path, streams)
    truth = annotations.load(arguments["annotations"])
    source = features.open_features(arguments["features"], snippet_seconds=2 * SECONDS)
    data = dataset.load(source, truth, **SUBSETS)
    assert len(data.train) == 3 and data.snippet_seconds == 2 * SECONDS
    assert len(dataset.load(arguments["features"], arguments["annotations"], **SUBSETS).train) == 3


def test_features_given_opened_are_closed_where_the_annotations_are_bad(tmp_path, streams):
    source = features.open_features(write(tmp_path, streams)["features"])
    with pytest.raises(InputError, match="nope.json: found no such file"):
        dataset.load(source, tmp_path / "nope.json", **SUBSETS)
    with h5py.File(source.path, "r+"):  # HDF5 refuses to write a file that is open for reading
        pass


def test_one_subset_only(tmp_path, streams):
    arguments = dict(write(tmp_path, streams), train_subset=None)
    data = feature_files.load(**arguments)
    assert data.train == [] and len(data.test) == 3 and data.notes == ()


def test_duration_falls_back_on_the_clips(tmp_path, streams):
    database = feature_files.database(streams)
    first, second, *_ = streams
    del database[first]["duration"]
    database[second]["duration"] = 0.51
    found = videos(feature_files.load(**write(tmp_path, streams, database)))
    assert found[first].duration == 4.0  # 8 clips of 0.5 s
    assert found[second].duration == 0.51


def test_missing_videos_are_left_out_where_allowed(tmp_path, streams):
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
    assert has(data.notes, "2 of 6", names[0], names[1], "left out") == 1


def test_surplus_features_are_said(tmp_path, streams):
    database = feature_files.database(streams)
    surplus = list(database)[0]
    del database[surplus]
    data = feature_files.load(**write(tmp_path, streams, database))
    assert surplus not in videos(data)
    assert has(data.notes, "1 video without annotation", surplus) == 1


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
    streams = {"a": (rgb[:t_rgb], flow[:t_flow]), "b": (rgb, flow)}
    arguments = write(tmp_path, streams)
    if not ok:
        with pytest.raises(InputError, match=f"a: found {t_rgb} clips of rgb and {t_flow} of flow"):
            feature_files.load(**arguments)
        return
    for memory_limit in (None, 0):
        data = feature_files.load(**arguments, memory_limit=memory_limit)
        video = data.train[0]
        length = min(t_rgb, t_flow)
        assert video.rgb.shape == video.flow.shape == (length, 4)
        np.testing.assert_array_equal(video.rgb, rgb[:length])
        np.testing.assert_array_equal(video.flow, flow[:length])
        assert has(data.notes, "1 video with streams of unequal length") == (t_rgb != t_flow)


@pytest.mark.parametrize(
    "dtype, said",
    [
        ("float16", False),
        ("float32", False),
        (">f4", False),
        ("float64", True),
        ("int16", True),
        ("uint8", True),
    ],
)
def test_types_are_converted_and_said(tmp_path, dtype, said):
    values = np.arange(24).reshape(6, 4)
    streams = {name: (values.astype(dtype), values[::-1].astype("float32")) for name in "ab"}
    data = feature_files.load(**write(tmp_path, streams))
    for video in videos(data).values():
        assert video.rgb.dtype == np.float32 and np.array_equal(video.rgb, values)
    assert len(data.notes) == said
    assert has(data.notes, f"2 videos of type {dtype} converted to float32") == said


def test_big_finite_values_are_no_infinities(tmp_path):
    big = np.full((3, 4), 3e38, np.float32)  # their squares overflow
    streams = {name: (big, -big) for name in "ab"}
    np.testing.assert_array_equal(feature_files.load(**write(tmp_path, streams)).test[0].flow, -big)


# ------------------------------------------------------------------------------------------------
# geometry


@pytest.mark.parametrize(
    "declared, warned",
    [(1.0, False), (0.96, False), (1.04, False), (0.94, True), (1.06, True), (0.5, True)],
)
def test_geometry_is_held_against_the_durations(tmp_path, declared, warned):
    streams = feature_files.features((100, 40, 20))
    database = feature_files.database(streams)
    for (rgb, _), entry in zip(streams.values(), database.values()):
        entry["duration"] = float(len(rgb))  # 1 s per clip
    data = feature_files.load(**write(tmp_path, streams, database, snippet_seconds=declared))
    assert (
        has(data.notes, "GEOMETRY", f"{declared:g} s", f"{100 * declared:.0f}%", "imply 1 s")
        == warned
    )
    assert data.snippet_seconds == declared  # a warning, no correction


def test_geometry_is_the_median(tmp_path):
    streams = feature_files.features((10, 10, 10))
    database = feature_files.database(streams)
    database[list(streams)[1]]["duration"] = 5.5  # one video off by 10%
    assert feature_files.load(**write(tmp_path, streams, database)).notes == ()


def test_geometry_sees_features_of_a_fixed_length(tmp_path):
    streams = feature_files.features((10, 10, 10, 10))
    database = feature_files.database(streams)
    for seconds, entry in zip((3.0, 4.5, 5.5, 50.0), database.values()):
        entry["duration"] = seconds
    data = feature_files.load(**write(tmp_path, streams, database))
    assert has(data.notes, "GEOMETRY: 2 of 4 videos", "0.3 to 5 s") == 1 and len(data.notes) == 1


def test_undeclared_seconds_are_asked_for_with_the_value_that_fits(tmp_path):
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
    assert (
        feature_files.load(
            **write(tmp_path, streams, database, snippet_seconds=None), snippet_seconds=0.4
        ).notes
        == ()
    )


def test_given_seconds_win_and_say_so(tmp_path, streams):
    arguments = write(tmp_path, streams)
    data = feature_files.load(**arguments, snippet_seconds=0.52)
    assert data.snippet_seconds == 0.52 and data.test[0].snippet_seconds == 0.52
    assert data.notes == (
        f"{arguments['features']}: the file declares 0.5 s per clip; the given 0.52 s is used",
    )
    assert feature_files.load(**arguments, snippet_seconds=0.5).notes == ()


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
    ],
)
def test_who_says_step_and_window_of_a_video(tmp_path, streams, declared, own, given, expected):
    arguments, name = write(tmp_path, streams), list(streams)[0]
    for other in list(streams)[1:] if "snippet_seconds" in declared else ():
        attributes(arguments, other, snippet_seconds=0.5)
    attributes(arguments, **declared)
    attributes(arguments, name, **own)
    data = feature_files.load(**arguments, **given)
    assert of_video(data, name) == expected
    others = {of_video(data, other) for other in list(streams)[1:]}
    in_common = (data.snippet_seconds, data.clip_seconds)
    assert in_common == (expected if others == {expected} else (None, None))


def test_datasets_of_another_layout_declare_seconds_likewise(tmp_path, streams):
    arguments = write(tmp_path, streams, writer=feature_files.hdf5_side_by_side)
    attributes(arguments, snippet_seconds=0.5)
    attributes(arguments, list(streams)[0], snippet_seconds=1.0, clip_seconds=3.0)
    data = feature_files.load(**arguments)
    assert [of_video(data, name) for name in list(streams)[:2]] == [(1.0, 3.0), (0.5, 0.5)]


def test_without_a_duration_a_video_lasts_until_its_last_window_ends(tmp_path, streams):
    database = feature_files.database(streams)
    for entry in database.values():
        del entry["duration"]
    data = feature_files.load(**write(tmp_path, streams, database), clip_seconds=2.0)
    for name, video in videos(data).items():
        assert video.duration == (len(streams[name][0]) - 1) * 0.5 + 2.0


def test_a_broken_attribute_stops_its_video_alone(tmp_path, streams):
    arguments, name = write(tmp_path, streams), list(streams)[0]
    attributes(arguments, name, snippet_seconds=-1.0)
    with pytest.raises(InputError, match=f"{name}: attribute snippet_seconds: found -1.0, expec"):
        feature_files.load(**arguments)
    assert name not in videos(feature_files.load(**arguments, allow_missing=True))


def test_a_file_that_says_a_step_for_some_videos_only(tmp_path, streams):
    arguments = write(tmp_path, streams)
    attributes(arguments, snippet_seconds=None)
    attributes(arguments, list(streams)[0], snippet_seconds=0.5)
    with pytest.raises(InputError, match=r"features\.h5: v\w+: found no snippet_seconds"):
        feature_files.load(**arguments)


def test_long_windows_are_held_against_the_durations(tmp_path):
    streams = feature_files.features((6, 5, 4))
    database = feature_files.database(streams)
    for (rgb, _), entry in zip(streams.values(), database.values()):
        entry["duration"] = (len(rgb) - 1) * 0.5 + 2.0  # 4.5, 4 and 3.5 s
    arguments = write(tmp_path, streams, database)
    assert feature_files.load(**arguments, clip_seconds=2.0).notes == ()
    # side by side, 5 clips of 0.5 s cover 2.5 of 4 s; windows of 4 s cover 6 of 4 s
    assert has(feature_files.load(**arguments).notes, "GEOMETRY", "cover 62% of") == 1
    data = feature_files.load(**arguments, clip_seconds=4.0)
    assert has(data.notes, "GEOMETRY: clips of 4 s every 0.5 s cover 150% of") == 1


@pytest.mark.parametrize("declared", [SECONDS, None])
def test_videos_that_differ_are_told_of_duration_which_puts_it_right(tmp_path, declared):
    streams = feature_files.features((10, 10, 10, 10))
    database = feature_files.database(streams)
    for seconds, entry in zip((3.0, 4.5, 5.5, 50.0), database.values()):
        entry["duration"], entry["annotations"][0]["segment"] = seconds, [0, seconds]
    arguments = write(tmp_path, streams, database, snippet_seconds=declared)
    if declared:
        assert has(feature_files.load(**arguments).notes, "--snippet-seconds duration") == 1
    else:
        with pytest.raises(InputError, match=r"\(--snippet-seconds duration\).* 0.3 to 5 s"):
            feature_files.load(**arguments)
    data = feature_files.load(**arguments, snippet_seconds="duration")
    assert has(data.notes, "GEOMETRY") == 0
    found = [of_video(data, name) for name in streams]
    assert found == [(0.3, 0.3), (0.45, 0.45), (0.55, 0.55), (5.0, 5.0)]


def test_duration_over_clips_needs_the_duration(tmp_path, streams):
    database = feature_files.database(streams)
    name = list(streams)[2]
    del database[name]["duration"]
    arguments = write(tmp_path, streams, database)
    with pytest.raises(InputError, match=f"features.h5: {name}: found no annotated duration"):
        feature_files.load(**arguments, snippet_seconds="duration")


def test_known_features_of_long_windows_are_asked_about(tmp_path):
    streams = feature_files.features((300, 400, 500))
    database = feature_files.database(streams)
    for (rgb, _), entry in zip(streams.values(), database.values()):
        entry["duration"] = (len(rgb) - 1) * 4 / 30 + 16 / 30
        entry["annotations"][0]["segment"] = [0, entry["duration"]]
    arguments = write(tmp_path, streams, database, snippet_seconds=4 / 30)
    assert has(feature_files.load(**arguments).notes, "ActionFormer", "--clip-seconds 0.5333") == 1
    for window in (16 / 30, 4 / 30):
        assert feature_files.load(**arguments, clip_seconds=window).notes == ()
    attributes(arguments, snippet_seconds=None)
    with pytest.raises(InputError, match="--snippet-seconds 0.1333.* --clip-seconds 0.5333"):
        feature_files.load(**arguments)


# ------------------------------------------------------------------------------------------------
# on disk


def test_memory_limit_decides(tmp_path, streams):
    arguments = write(tmp_path, streams)
    size = sum(rgb.size + flow.size for rgb, flow in streams.values()) * 4
    data = feature_files.load(**arguments, memory_limit=size)
    assert data.feature_bytes == size and data.in_memory
    assert isinstance(data.train[0].rgb, np.ndarray)
    data = feature_files.load(**arguments, memory_limit=size - 1)
    assert data.feature_bytes == size and not data.in_memory
    assert isinstance(data.train[0].rgb, features.StoredArray)
    assert has(data.notes, "stay on disk") == 1


def test_values_left_on_disk_are_checked_when_read(tmp_path, streams):
    name = list(streams)[2]
    streams[name][1][5, 2] = np.nan
    data = feature_files.load(**write(tmp_path, streams), memory_limit=0)
    bad = videos(data)[name]
    assert np.asarray(bad.rgb).shape == (12, 4)
    with pytest.raises(InputError, match=f"{name}: found nan in flow, clip 5 "):
        np.asarray(bad.flow)


@pytest.mark.parametrize("writer", [feature_files.canonical, feature_files.joint_npy])
def test_reading_beside_a_background_thread(tmp_path, writer):
    streams = feature_files.features([50 + i for i in range(20)])
    data = feature_files.load(
        **write(tmp_path, streams, writer=writer), memory_limit=0, snippet_seconds=SECONDS
    )

    def wrong(order):
        return [
            name
            for name, video in list(videos(data).items())[::order] * 5
            for stored, expected in zip((video.rgb, video.flow), streams[name])
            if not np.array_equal(np.asarray(stored), expected)
        ]

    with ThreadPoolExecutor(1) as background:
        there = background.submit(wrong, -1)
        assert wrong(1) == there.result() == []


# ------------------------------------------------------------------------------------------------
# writing


def read_back(path, streams, **tolerance):
    source = features.open_features(path)
    assert source.layout == "canonical" and source.snippet_seconds == 0.64
    assert sorted(source.names) == sorted(streams)
    for name, pair in streams.items():
        for found, expected in zip(source.read(name), pair):
            np.testing.assert_allclose(found, expected, **tolerance)
    source.close()


@pytest.mark.parametrize(
    "dtype, compression", [("float32", None), ("float16", None), ("float32", "gzip")]
)
def test_canonical_round_trip(tmp_path, streams, dtype, compression):
    streams["long"] = tuple(
        np.random.default_rng(1).normal(size=(1000, 300)).astype(np.float32) for _ in range(2)
    )
    path = tmp_path / "out.h5"
    items = ((name, *pair) for name, pair in streams.items())
    assert features.write_canonical(path, items, 0.64, dtype, compression) == 7
    read_back(
        path,
        streams,
        rtol=0 if dtype == "float32" else 2**-11,
        atol=0 if dtype == "float32" else 2**-24,
    )
    with h5py.File(path) as file:
        assert file["long/rgb"].dtype == dtype and file["long/rgb"].compression == compression
        rows, width = file["long/rgb"].chunks
        assert width == 300 and 100_000 < rows * width * np.dtype(dtype).itemsize <= 2**19
    assert [file.name for file in tmp_path.iterdir()] == ["out.h5"]


@pytest.mark.parametrize(
    "bad", [KeyboardInterrupt, InputError("x: found y"), "overflow", "twice", "slash", "empty"]
)
def test_a_failed_write_leaves_what_was_there(tmp_path, streams, bad):
    path = tmp_path / "out.h5"
    features.write_canonical(
        path, ((name, *pair) for name, pair in streams.items()), 0.64, "float32"
    )
    before = path.read_bytes()
    values = np.ones((2, 3), np.float32)

    def items():
        yield "a", values, values
        if bad == "overflow":
            yield "b", values, values * 70_000
        elif bad == "twice":
            yield "a", values, values
        elif bad == "slash":
            yield "../a", values, values
        elif bad == "empty":
            yield "b", values[:0], values[:0]
        else:
            raise bad

    expected = {
        "overflow": "b: flow: found values up to 7e\\+04, expected finite ones of float16",
        "twice": "found 'a' as",
        "slash": "found '../a' as",
        "empty": r"b: rgb: found an array \(0, 3\)",
    }.get(bad)
    with pytest.raises(
        KeyboardInterrupt if bad is KeyboardInterrupt else InputError, match=expected
    ):
        features.write_canonical(path, items(), 1.0)
    assert path.read_bytes() == before and [file.name for file in tmp_path.iterdir()] == ["out.h5"]


def test_what_was_written_is_read_back(tmp_path, streams, monkeypatch):
    real = h5py.File

    def corrupting(path, mode="r", **options):
        if mode == "r":
            with real(path, "r+") as file:
                file[f"{list(streams)[3]}/flow"][2, 1] += 0.5
        return real(path, mode, **options)

    monkeypatch.setattr(features.h5py, "File", corrupting)
    with pytest.raises(
        InputError, match=f"{list(streams)[3]}/flow: found other values than were written"
    ):
        features.write_canonical(
            tmp_path / "out.h5", ((name, *pair) for name, pair in streams.items()), 0.64
        )
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------------------
# fingerprint


@pytest.mark.parametrize(
    "writer", [feature_files.canonical, feature_files.split_stream_files, feature_files.joint_npy]
)
def test_fingerprint_sees_values_names_and_sizes(tmp_path, streams, writer):
    def written(name, streams):
        folder = tmp_path / name
        folder.mkdir()
        write(folder, streams, feature_files.database(feature_files.features()), writer=writer)
        return folder

    one = written("one", streams)
    before = features.fingerprint(one / "features", one / "gt.json", None)
    shutil.copytree(one, tmp_path / "copy", copy_function=shutil.copyfile)
    copy = tmp_path / "copy" / "features", tmp_path / "copy" / "gt.json"
    assert features.fingerprint(*copy) == before  # neither place nor time of the files counts
    last = list(streams)[-1]
    rgb, flow = streams.pop(last)
    prints = {before, features.fingerprint(*copy[::-1])}
    for name, change in (
        ("values", {last: (rgb, flow + np.float32(1e-6))}),
        ("name", {"other": (rgb, flow)}),
        ("length", {last: (rgb[:-1], flow[:-1])}),
    ):
        prints.add(
            features.fingerprint(written(name, {**streams, **change}) / "features", one / "gt.json")
        )
    with open(one / "gt.json", "a") as file:
        file.write(" ")
    prints.add(features.fingerprint(one / "features", one / "gt.json"))
    assert len(prints) == 6


def test_fingerprint_of_a_big_file_sees_a_changed_video(tmp_path):
    path = tmp_path / "big"
    path.write_bytes(b"")
    with open(path, "r+b") as file:
        file.truncate(100 * 2**20)  # beyond 32 MiB: samples, here 4 KiB of 16
    before = features.fingerprint(path)
    for offset, length, seen in ((50_000_003, 12 * 1024, True), (50 * 2**20 + 5000, 100, False)):
        with open(path, "r+b") as file:
            file.seek(offset)
            file.write(b"x" * length)
        assert (features.fingerprint(path) != before) == seen
        with open(path, "r+b") as file:
            file.seek(offset)
            file.write(b"\0" * length)
    assert features.fingerprint(path) == before


def test_fingerprint_looks_through_links(tmp_path):
    source = tmp_path / "elsewhere" / "f.npy"
    feature_files.save(source, np.ones((2, 2)))
    (tmp_path / "features").mkdir()
    (tmp_path / "features" / "rgb").symlink_to(tmp_path / "elsewhere")
    before = features.fingerprint(tmp_path / "features")
    np.save(source, np.zeros((2, 2)))
    assert features.fingerprint(tmp_path / "features") != before


def test_fingerprint_of_nothing(tmp_path):
    with pytest.raises(InputError, match="nowhere: found no such file"):
        features.fingerprint(tmp_path / "nowhere")
