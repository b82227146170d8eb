"""Where features lie: every layout gives the same tensors; what is asked and refused, what is said."""

import functools
import os
import pickle
import shlex

import feature_files
import h5py
import numpy as np
import pytest
from errors import refused
from feature_files import SECONDS, by_pattern, lay, save, videos, write_file

from formats import features
from formats.features import open_features

STREAMS = feature_files.features()
NAMES = list(STREAMS)
load = functools.partial(
    feature_files.load, snippet_seconds=SECONDS, train_subset="train", test_subset="test"
)


def check(data, streams):
    """Every video has exactly these streams, each in an array of its own."""
    assert [video.name for video in data.train] == [name for name in NAMES[0::2] if name in streams]
    assert [video.name for video in data.test] == [name for name in NAMES[1::2] if name in streams]
    for name, video in videos(data).items():
        for found, expected in zip((video.rgb, video.flow), streams[name]):
            assert found.shape == expected.shape and found.dtype == np.float32
            array = np.asarray(found)
            np.testing.assert_array_equal(array, expected)
            assert array.flags.f_contiguous and array.flags.writeable and array.flags.owndata


def by_columns(folder, streams):
    for name, pair in streams.items():
        save(folder / f"{name}.npy", np.asfortranarray(np.hstack(pair)))
    return {"features": folder, "streams": "both"}


def wtalc_rows(folder, streams):
    """Videos of one length: np.save makes one plain array of the list."""
    feature_files.joint_npy(folder, streams)
    rows = np.array([np.hstack(pair)[:1] for pair in streams.values()])
    save(folder / "Set-I3D-JOINTFeatures.npy", rows)
    for name, pair in streams.items():
        streams[name] = pair[0][:1], pair[1][:1]
    return {"features": folder}


def one_stream_as_npz(folder, streams):
    for name, pair in streams.items():
        for stream, array in zip(("rgb", "flow"), pair):
            (folder / stream).mkdir(exist_ok=True)
            path = folder / stream / f"{name}-{stream}.npz"
            np.savez(path, feature=array, frame_cnt=16, video_name=name)
    return {"features": folder}


# of files per video: the pattern, and a part of the one warning
PER_VIDEO = {
    "{name}_{stream}.npy": "v003_flow.npy",
    "{name}-{stream}.npy": "v003-flow.npy",
    "{name}.{stream}.npy": "v003.flow.npy",
    "{name}_{STREAM}.npy": "v003_FLOW.npy",
    "{stream}_{name}.npy": "flow_v003.npy",
    "{stream}_features/{name}.npy": None,
    "{STREAM}/{name}.npy": None,
    "i3d_{stream}/{name}.npy": None,
    "{Stream}Features/{name}.npy": None,
    "{stream}/{subset}/{name}.npy": None,
    "{stream}_{subset}/{name}.npy": None,
    "{stream}/{name}.npz:any_key": None,
    "{stream}/class_{k}/{name}.npy": "class_0, class_1, class_2",
    "class_{k}/{stream}/{name}.npy": "class_0, class_1, class_2",
    "class_{k}/{name}.npy": "class_0, class_1, class_2",
    "{name}.npz:any_key": None,
    "{name}.npz:{STREAM}": None,
    "{name}.npy:{stream}": None,
    "{name}.pt": None,
    "{name}.pt:{stream}": None,
    "{name}.pkl": None,
    "{name}.pkl:{stream}": None,
}
# pattern, what is given as --features, layout, a part of the one warning
ONE_FILE = [
    *(
        (f"all{suffix}:{key}", f"all{suffix}", "joint-npy", None)
        for suffix in (".npy", ".npz", ".pkl", ".pt")
        for key in ("{name}", "{name}/{stream}", "{stream}/{name}", "{subset}/{name}")
        if suffix != ".npz" or "/" not in key
    ),
    ("all.h5:{subset}/{name}", "all.h5", "hdf5", None),
    ("all.h5:{subset}/{stream}/{name}", "all.h5", "hdf5", None),
    ("all.h5:class_{k}/{name}", "all.h5", "hdf5", None),
    ("all.h5:class_{k}/{name}/{stream}", "all.h5", "hdf5", None),
    ("all.h5:features/{name}", "all.h5", "hdf5", None),
    ("all.h5:{name}/{stream}/features", "all.h5", "hdf5", None),
    ("{stream}_{subset}.h5:{name}", "", "hdf5", "flow_test.h5, flow_train.h5"),
    ("{subset}.h5:{name}/{stream}", "", "hdf5", "test.h5, train.h5"),
    ("{stream}/{subset}.h5:{name}", "", "hdf5", "test.h5, train.h5"),
    ("{name}.h5:{stream}", "", "hdf5", "v003.h5, v088.h5"),
    ("{name}.h5:features", "", "hdf5", "v003.h5, v088.h5"),
]
TABLE = [
    *((writer, layout, None) for writer, layout in feature_files.LAYOUTS.items()),
    *((by_pattern(pattern), "per-video", said) for pattern, said in PER_VIDEO.items()),
    *((by_pattern(p, given), layout, said) for p, given, layout, said in ONE_FILE),
    (by_columns, "per-video", None),
    (wtalc_rows, "joint-npy", None),
    (one_stream_as_npz, "per-video", None),
]


@pytest.mark.parametrize(
    "writer, layout, said", TABLE, ids=[writer.__name__ for writer, *_ in TABLE]
)
def test_every_layout_loads_to_the_same_tensors(tmp_path, truth, writer, layout, said, caplog):
    streams = feature_files.features()
    (tmp_path / "set").mkdir()
    arguments = writer(tmp_path / "set", streams)
    if writer is wtalc_rows:
        feature_files.write_json(truth, feature_files.database(streams))
    for memory_limit in (None, 0):
        caplog.clear()
        data = load(**arguments, annotations=truth, memory_limit=memory_limit)
        assert data.layout == layout
        assert data.in_memory == (memory_limit is None)
        check(data, streams)
        (line,) = caplog.messages or [None]
        assert line is said is None or said in line


# ------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize("pattern", ["{name}_{stream}.npy", "{name}.npy", "{name}_clip.npy"])
def test_the_extra_files_of_video_features_are_no_videos(tmp_path, pattern):
    lay(tmp_path, pattern, STREAMS)
    for name in STREAMS:
        save(tmp_path / f"{name}_fps.npy", np.array(25.0))
        save(tmp_path / f"{name}_timestamps_ms.npy", np.arange(3.0))
    names = [name.removesuffix("_clip") for name in open_features(tmp_path, streams="both").names]
    assert names == sorted(STREAMS)


def test_a_video_may_be_called_like_a_stream(tmp_path):
    """Where not all files are marked and none is a pair, the mark belongs to the name."""
    streams = dict(zip(("cash_flow", "plain"), STREAMS.values()))
    lay(tmp_path, "{name}.npy", streams)
    assert open_features(tmp_path).names == ["cash_flow", "plain"]


def test_names_in_a_pickle_are_utf_8_or_latin_1(tmp_path):
    array = pickle.dumps(np.ones((2, 4), np.float32), 2)[2:-1]  # without protocol and stop
    for raw in ("Café".encode(), "Café".encode("latin1")):
        path = tmp_path / "f.pkl"
        # Python 2's {str: array}
        path.write_bytes(b"\x80\x02}U" + bytes([len(raw)]) + raw + array + b"s.")
        assert open_features(path).names == ["Café"]
    np.save(tmp_path / "v.npy", {b"Caf\xe9": np.ones((2, 4))})
    assert open_features(tmp_path / "v.npy").names == ["Café"]


def test_a_file_name_that_is_not_utf_8(tmp_path, truth):
    folder = tmp_path / "set"
    lay(folder, "{name}.npz:{stream}", STREAMS)
    stray = os.fsencode(folder) + b"/caf\xe9.npz"
    os.rename(folder / f"{NAMES[0]}.npz", stray)
    source = open_features(folder)
    assert sorted(source.names) == sorted(["café", *NAMES[1:]])
    np.testing.assert_array_equal(source.read("café")[0], STREAMS[NAMES[0]][0])
    assert features.write_canonical(
        tmp_path / "a.h5", ((name, *source.read(name)) for name in source.names), 1.0
    ) == len(NAMES)
    prints = {features.fingerprint(folder), features.file_state(folder)}
    os.rename(stray, os.fsencode(folder) + b"/caf\xea.npz")
    assert prints.isdisjoint({features.fingerprint(folder), features.file_state(folder)})
    str(refused(open_features(folder).read, "no such video")).encode()


def test_names_of_a_joint_file_as_bytes_or_text(tmp_path):
    path = feature_files.joint_npy(tmp_path, STREAMS)["features"]
    raw = [name.encode() for name in NAMES]
    for names in (
        np.array(raw, "S9"),
        np.array(NAMES, "U9"),
        feature_files.objects(*raw),
        feature_files.objects(*NAMES),
    ):
        np.save(tmp_path / "Set-Annotations" / "videoname.npy", names)
        assert open_features(path).names == NAMES


def test_released_numbers_are_in_order(tmp_path):
    streams = feature_files.features([2] * 24)
    feature_files.released_pt(tmp_path, streams)
    # testSet, trainSet; 2.pt before 10.pt
    assert open_features(tmp_path).names == [*list(streams)[1::2], *list(streams)[0::2]]


@pytest.mark.parametrize("given", ["", "all.h5"])
def test_a_name_in_several_folders_becomes_the_path(tmp_path, given):
    both = [np.hstack(pair) for pair in STREAMS.values()]
    arrays = dict(zip(("Abuse/x", "Abuse/y", "Arson/x", "Arson/z"), both))
    for place, array in arrays.items():
        save(tmp_path / f"{place}.npy", array)
    if given:
        write_file(tmp_path / given, arrays)
    source = open_features(tmp_path / given, streams="both")
    assert sorted(source.names) == ["Abuse/x", "Arson/x", "y", "z"]
    np.testing.assert_array_equal(np.hstack(source.read("Arson/x")), arrays["Arson/x"])
    np.testing.assert_array_equal(np.hstack(source.read("z")), arrays["Arson/z"])
    source.adopt(["x", "y"])
    error = refused(source.read, "x")
    assert error.where.endswith(": x") and error.found == "twice (Abuse/x and Arson/x)"


def test_a_second_modality_is_named_and_read(tmp_path, truth):
    """visual/ and audio/, or rgb/ and another folder: the line names --flow-features."""
    lay(tmp_path / "a", "{stream}/{name}.npy", STREAMS)
    (tmp_path / "a" / "rgb").rename(tmp_path / "a" / "visual")
    (tmp_path / "a" / "flow").rename(tmp_path / "a" / "audio")
    error = refused(load, tmp_path / "a", truth)
    assert error.where == f"{tmp_path / 'a'}: {NAMES[0]}" and "twice" in error.found
    assert "--flow-features" in error.expected
    (tmp_path / "a" / "visual").rename(tmp_path / "a" / "rgb")
    (tmp_path / "a" / "audio").rename(tmp_path / "a" / "vgg ish")
    error = refused(load, tmp_path / "a", truth)
    words = shlex.split(error.expected)
    second = words[words.index("--flow-features") + 1].rstrip(",")
    assert (error.found, second) == ("rgb only", str(tmp_path / "a" / "vgg ish"))
    for place in (tmp_path / "a", tmp_path / "a" / "rgb"):
        check(load(place, truth, flow_features=second), STREAMS)


# ------------------------------------------------------------------------------------------- crops


def crops(folder, pattern, n, streams=STREAMS, by="{name}.npy"):
    """Crop k is the set + k, in files of its own."""
    for k in range(n):
        crop = {name: [array + k for array in pair] for name, pair in streams.items()}
        lay(folder, by.replace("{name}", pattern.format(k=k, name="{name}")), crop)


@pytest.mark.parametrize("pattern", ["{name}__{k}", "{name}_crop{k}", "{name}-crop-{k}"])
@pytest.mark.parametrize("by", ["{name}.npy", "{stream}/{name}.npy", "{name}.npz:{stream}"])
def test_crops_in_files_go_by_crops(tmp_path, truth, pattern, by, caplog):
    crops(tmp_path / "set", pattern, 5, by=by)
    error = refused(load, tmp_path / "set", truth, streams="both")
    assert "5 crops" in error.found and "--crops mean" in error.expected
    for how, offset in (("first", 0), ("mean", 2)):
        data = load(tmp_path / "set", truth, streams="both", crops=how)
        for name, video in videos(data).items():
            np.testing.assert_allclose(video.flow, STREAMS[name][1] + offset, atol=1e-5)
        assert "5 crops" in caplog.messages[-1] and how in caplog.messages[-1]


def test_a_video_without_one_of_its_crops_stops_itself_alone(tmp_path, truth):
    crops(tmp_path / "set", "{name}__{k}", 5)
    (tmp_path / "set" / f"{NAMES[0]}__3.npy").unlink()
    np.save(tmp_path / "set" / f"{NAMES[1]}__3.npy", np.ones((50, 8)))
    data = load(tmp_path / "set", truth, streams="both", crops="mean", allow_missing=True)
    assert sorted(videos(data)) == sorted(NAMES[2:])


def test_numbers_that_are_no_crops_belong_to_the_name(tmp_path):
    names = ("a__1", "a__2", "b__1", "c__7", "d__3", "d__9")
    lay(tmp_path, "{name}.npy", dict(zip(names, STREAMS.values())))
    assert open_features(tmp_path).names == list(names)


# ------------------------------------------------------------------------------- which array: --key


@pytest.mark.parametrize("suffix", [".npz", ".npy", ".pkl", ".pt", ".h5"])
def test_of_several_arrays_one_is_named(tmp_path, truth, suffix):
    def write(**arrays):
        for name, pair in STREAMS.items():
            content = {key: np.hstack(pair) + k for key, k in arrays.items()}
            if suffix == ".h5":
                content = {f"{name}/{key}": array for key, array in content.items()}
                with h5py.File(tmp_path / "set.h5", "a") as file:
                    file.pop(name, None)
                    for key, array in content.items():
                        file[key] = array
            else:
                path.mkdir(exist_ok=True)
                write_file(path / f"{name}{suffix}", content)

    def read(**options):
        data = load(path, truth, streams="both", **options)
        (offset,) = {
            round(float((video.rgb - STREAMS[name][0]).mean()), 3)
            for name, video in videos(data).items()
        }
        return offset

    path = tmp_path / ("set.h5" if suffix == ".h5" else "set")
    write(before=1, middle=2, after=3)
    error = refused(load, path, truth, streams="both")
    assert all(name in error.found for name in ("before", "middle", "after"))
    assert "--key" in error.expected
    assert [read(key=key) for key in ("before", "middle", "after")] == [1, 2, 3]
    error = refused(load, path, truth, streams="both", key="none")
    assert "before" in error.found and "none" in error.expected
    write(before=1, features=2, after=3)
    assert read() == 2
    write(before=1, features=2, feature=3)
    assert read() == 3
    write(feats=1, features=2, feature=3)
    assert read() == 1


def test_two_arrays_of_a_stream_are_asked_about(tmp_path):
    for name, (rgb, flow) in STREAMS.items():
        np.savez(tmp_path / f"{name}.npz", rgb_a=rgb, rgb_b=rgb + 1, flow=flow)
    source = open_features(tmp_path)
    error = refused(source.read, NAMES[0])
    assert error.found == "the arrays rgb_a, rgb_b" and "--key" in error.expected
    source = open_features(tmp_path, key="rgb_b", streams="rgb")
    np.testing.assert_array_equal(source.read(NAMES[0])[0], STREAMS[NAMES[0]][0] + 1)


# ---------------------------------------------------------------------------------------- one file


@pytest.mark.parametrize(
    "pattern", ["{name}.npy", "{name}.npz:{stream}", "{name}.npz:any", "{name}.pt", "{name}.pkl"]
)
@pytest.mark.parametrize("more", [{}, {"key": "chosen"}])
def test_a_file_of_one_video_has_the_video_s_name(tmp_path, pattern, more):
    if more:
        pattern = "{name}.npz:chosen"
    one = {"my video": STREAMS[NAMES[0]]}
    lay(tmp_path, pattern, one)
    path = tmp_path / pattern.partition(":")[0].format(name="my video")
    source = open_features(path, streams="both", **more)
    assert source.names == ["my video"] and source.layout == "per-video"
    for found, expected in zip(source.read("my video"), STREAMS[NAMES[0]]):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    "keys", [("rgb", "flow"), ("i3d_rgb", "i3d_flow"), ("RGB", "Flow", "fps"), ("features", "fps")]
)
def test_an_hdf5_file_of_one_video(tmp_path, keys):
    arrays = dict(zip(keys, (*STREAMS[NAMES[0]], np.array(25.0))))
    if "features" in keys:
        arrays = {"features": np.hstack(STREAMS[NAMES[0]]), "fps": np.array(25.0)}
    write_file(tmp_path / "v.h5", arrays)
    source = open_features(tmp_path / "v.h5", streams="both")
    assert source.names == ["v"]
    np.testing.assert_array_equal(source.read("v")[1], STREAMS[NAMES[0]][1])


def test_a_list_of_arrays_is_the_only_file_that_needs_videoname(tmp_path):
    """Three axes are crops or rows of a joint file; which, its name or videoname.npy says."""
    save(tmp_path / "v.npy", np.ones((1, 6, 8), np.float32))
    assert open_features(tmp_path / "v.npy", streams="both").shape("v") == (6, 4, 4)
    np.save(tmp_path / "l.npy", feature_files.objects(np.ones((2, 8)), np.ones((3, 8))))
    error = refused(open_features, tmp_path / "l.npy")
    assert "videoname.npy" in error.expected and error.where == str(tmp_path / "l.npy")


@pytest.mark.parametrize("place", ["a film.mp4", "some; films"])
def test_of_videos_features_are_made_first(tmp_path, place):
    path = tmp_path / place
    (path.mkdir() if path.suffix == "" else None, path := path / "x.MKV") if not path.suffix else 0
    path.write_bytes(b"\0\0\0\x18ftypmp42")
    error = refused(open_features, tmp_path / place)
    command = shlex.split(error.expected[error.expected.index("python tools/extract_features") :])
    assert command[:3] == ["python", "tools/extract_features.py", str(tmp_path / place)]


# --------------------------------------------------------------------------------- around and beside


@pytest.mark.parametrize(
    "inside, writer",
    [
        ("features", feature_files.stream_files),
        ("features/thumos", feature_files.canonical),
        ("data/i3d", feature_files.joint_npy),
        ("data", feature_files.released_pt),
    ],
)
def test_the_root_around_the_features(tmp_path, truth, inside, writer, caplog):
    root = tmp_path / "root"
    (root / inside).mkdir(parents=True)
    (root / "annotations").mkdir()
    (root / "annotations" / "gt.json").write_text(truth.read_text())
    (root / "README.txt").write_text("from somewhere")
    writer(root / inside, STREAMS)
    check(load(root, truth), STREAMS)
    assert caplog.messages == [f"{root}: the features are read from {inside}"]


def test_names_that_begin_with_a_dot_are_skipped(tmp_path, truth, caplog):
    lay(tmp_path / "a", "{name}.npz:{stream}", STREAMS)
    lay(tmp_path / "b", "{stream}/{name}.npy", STREAMS)
    for folder in (tmp_path / "a", tmp_path / "b"):
        for file in [*folder.rglob("*.np*")]:
            file.with_name(f"._{file.name}").write_bytes(b"\0\5\26\7\0\2\0\0Mac OS X")
        (folder / ".DS_Store").write_bytes(b"x")
        data = load(folder, truth)
        check(data, STREAMS)
        assert caplog.messages == []


@pytest.mark.parametrize("stored", ["v_{}", "{}.mp4", "{}_i3d"])
def test_names_with_prefix_or_suffix(tmp_path, streams, truth, stored, warned):
    feature_files.side_by_side_files(
        tmp_path / "f", {stored.format(name): pair for name, pair in streams.items()}
    )
    data = load(tmp_path / "f", truth, streams="both")
    check(data, streams)
    assert any("6 of 6 videos have another form of their name" in line for line in warned())


def test_advice_to_give_the_folder_around_part_of_a_set_works(tmp_path, truth):
    lay(tmp_path / "h", "{stream}_{subset}.h5:{name}", STREAMS)
    flow = {"flow_features": tmp_path / "h" / "flow_train.h5"}
    # without the whole test subset there is nothing to go on with
    for allow_missing in (False, True):
        line = str(
            refused(
                load, tmp_path / "h" / "rgb_train.h5", truth, **flow, allow_missing=allow_missing
            )
        )
        assert "--allow-missing" not in line
        assert line.endswith(
            f"; beside it: flow_test.h5, rgb_test.h5; give the folder {tmp_path / 'h'} to read all"
        )
    lay(tmp_path / "f", "{subset}/{name}.npy", STREAMS)
    line = str(refused(load, tmp_path / "f" / "train", truth, streams="both"))
    assert line.endswith(f"; beside it: test; give the folder {tmp_path / 'f'} to read all")


def test_several_files_declare_one_duration(tmp_path, truth):
    for i, part in enumerate(("train", "test")):
        (tmp_path / part).mkdir()
        feature_files.canonical(tmp_path / part, {name: STREAMS[name] for name in NAMES[i::2]})
        (tmp_path / "two").mkdir(exist_ok=True)
        (tmp_path / part / "features.h5").rename(tmp_path / "two" / f"{part}.h5")
    check(load(tmp_path / "two", truth, snippet_seconds=None), STREAMS)
    with h5py.File(tmp_path / "two" / "test.h5", "r+") as file:
        file.attrs["snippet_seconds"] = 0.4
    error = refused(load, tmp_path / "two", truth)
    assert "0.4 s and 0.5 s" in error.found and error.where == str(tmp_path / "two")


# ------------------------------------------------------------------------------------------- links


def test_links_of_folders_that_lead_back(tmp_path, truth):
    lay(tmp_path / "set" / "class_0", "{name}.npy", STREAMS)
    (tmp_path / "set" / "back").symlink_to(tmp_path / "set")
    (tmp_path / "set" / "class_1").symlink_to(tmp_path / "set")
    data = load(tmp_path / "set", truth, streams="both")
    check(data, STREAMS)
    assert features.fingerprint(tmp_path / "set") and features.file_state(tmp_path / "set")


@pytest.mark.parametrize("link", ["external", "soft"])
@pytest.mark.parametrize("at", ["video", "stream", "first"])
def test_links_in_hdf5_are_refused_before_they_are_followed(tmp_path, truth, link, at):
    """An external link to a pipe would be waited for for ever."""
    path = feature_files.canonical(tmp_path, STREAMS)["features"]
    os.mkfifo(tmp_path / "pipe")
    name = {"video": NAMES[0], "stream": f"{NAMES[0]}/flow", "first": "a"}[at]
    with h5py.File(path, "r+") as file:
        file.pop(name, None)
        file[name] = {
            "external": h5py.ExternalLink(tmp_path / "pipe", "/x"),
            "soft": h5py.SoftLink("/elsewhere"),
        }[link]
    source = open_features(path)
    error = refused(source.read, name.partition("/")[0])
    assert error.found == "a link" and str(path) in error.where
    source.read(NAMES[1])


def test_groups_that_hold_each_other(tmp_path):
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["class_0/v/rgb"], file["class_0/v/flow"] = STREAMS[NAMES[0]]
        file["class_0/again"], file["class_0/v2"] = file["/"], file["class_0/v"]
    assert set(open_features(tmp_path / "f.h5").names) >= {"v", "v2"}


# ------------------------------------------------------------------------------------ nothing found


@pytest.mark.parametrize(
    "suffix, advice", [(".csv", "np.save"), (".mat", "np.save"), (".zip", "VIDEO.npy")]
)
def test_what_lies_there_is_said(tmp_path, suffix, advice):
    (tmp_path / "f" / "logs").mkdir(parents=True)
    for name in NAMES[:5]:
        (tmp_path / "f" / f"{name}{suffix}").write_text("1,2\n3,4\n")
    error = refused(open_features, tmp_path / "f")
    assert error.where == str(tmp_path / "f") and advice in error.expected
    assert f"5 {suffix} files" in error.found and "1 folder" in error.found
