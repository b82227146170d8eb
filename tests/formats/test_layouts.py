"""Feature sets as people hold them beyond the 15 forms of feature_files: what is read, what is
asked, what is said."""

import functools
import pickle

import feature_files
import h5py
import numpy as np
import pytest
from errors import line_of, malice
from feature_files import SECONDS, save, videos

from formats import features

NAMES = list(feature_files.features())
load = functools.partial(
    feature_files.load,
    snippet_seconds=SECONDS,
    streams="both",  # one array a video is RGB and flow side by side
    train_subset="train",
    test_subset="test",
)


def check(data, streams):
    """Every video has exactly these streams."""
    found = videos(data)
    assert sorted(found) == sorted(streams)
    for name, pair in streams.items():
        np.testing.assert_array_equal(found[name].rgb, pair[0])
        np.testing.assert_array_equal(found[name].flow, pair[1])


# --------------------------------------------------------------------------------- names and places


def stream_in_name(folder, streams, suffix="_{}.npy", upper=False):
    for name, pair in streams.items():
        for stream, array in zip(("rgb", "flow"), pair):
            save(folder / (name + suffix.format(stream.upper() if upper else stream)), array)


@pytest.mark.parametrize(
    "suffix, upper", [("_{}.npy", False), ("-{}.npy", False), (".{}.npy", False), ("_{}.npy", True)]
)
def test_stream_in_the_files_name(tmp_path, streams, truth, suffix, upper):
    stream_in_name(tmp_path / "f", streams, suffix, upper)
    data = load(tmp_path / "f", truth)
    check(data, streams)
    assert data.layout == "per-video" and "told by the files' names" in data.notes[0]
    assert len(data.notes) == 1


def test_stream_before_the_name_and_video_features_extra_files(tmp_path, streams, truth):
    for name, pair in streams.items():
        for stream, array in zip(("rgb", "flow"), pair):
            save(tmp_path / "a" / f"{stream}_{name}.npy", array)
            save(tmp_path / "b" / f"{name}_{stream}.npy", array)
        save(tmp_path / "b" / f"{name}_fps.npy", np.array(25.0))
        save(tmp_path / "b" / f"{name}_timestamps_ms.npy", np.arange(3.0))
    check(load(tmp_path / "a", truth), streams)
    check(load(tmp_path / "b", truth), streams)
    assert features.open_features(tmp_path / "b").names == sorted(streams)


def test_a_video_may_be_called_like_a_stream(tmp_path):
    """Where not all files are marked and none is a pair, the mark belongs to the name."""
    streams = dict(zip(("cash_flow", "plain"), feature_files.features((4, 5)).values()))
    feature_files.side_by_side_files(tmp_path, streams)
    assert features.open_features(tmp_path).names == ["cash_flow", "plain"]


@pytest.mark.parametrize(
    "folders",
    [
        ("rgb_features", "flow_features"),
        ("RGB", "Flow"),
        ("i3d_rgb", "i3d_flow"),
        ("rgb_feature", "flow_feature"),
        ("RGBFeatures", "FlowFeatures"),
    ],
)
def test_folders_of_streams(tmp_path, streams, truth, folders):
    for name, pair in streams.items():
        for folder, array in zip(folders, pair):
            save(tmp_path / "f" / folder / f"{name}.npy", array)
    check(load(tmp_path / "f", truth), streams)


def test_stream_folders_with_subsets_inside_or_in_their_names(tmp_path, streams, truth):
    for i, (name, pair) in enumerate(streams.items()):
        subset = ("train", "test")[i % 2]
        for stream, array in zip(("rgb", "flow"), pair):
            save(tmp_path / "a" / stream / subset / f"{name}.npy", array)
            save(tmp_path / "b" / f"{stream}_{subset}" / f"{name}.npy", array)
    check(load(tmp_path / "a", truth), streams)
    check(load(tmp_path / "b", truth), streams)


def test_npz_of_a_stream_under_any_key(tmp_path, streams, truth):
    for name, pair in streams.items():
        for stream, array in zip(("rgb", "flow"), pair):
            (tmp_path / "f" / stream).mkdir(parents=True, exist_ok=True)
            np.savez(
                tmp_path / "f" / stream / f"{name}-{stream}.npz",
                feature=array[None],
                frame_cnt=16,
                video_name=name,
            )
        (tmp_path / "g").mkdir(exist_ok=True)
        np.savez_compressed(tmp_path / "g" / f"{name}.npz", arr_0=np.concatenate(pair, 1))
    data = load(tmp_path / "f", truth)
    check(data, streams)
    assert any(
        "axes of length 1 dropped from (1, " in note and "in 6 videos" in note
        for note in data.notes
    )
    check(load(tmp_path / "g", truth), streams)
    apart = load(tmp_path / "f" / "rgb", truth, flow_features=tmp_path / "f" / "flow")
    check(apart, streams)


@pytest.mark.parametrize("kind", ["pt", "pkl", "pt-dict", "pkl-dict"])
def test_pt_and_pkl_files_per_video(tmp_path, streams, truth, kind):
    import torch

    for name, pair in streams.items():
        content = (
            dict(zip(("RGB", "flow"), pair)) if kind.endswith("dict") else np.concatenate(pair, 1)
        )
        if kind.startswith("pkl"):
            (tmp_path / "f").mkdir(exist_ok=True)
            (tmp_path / "f" / f"{name}.pkl").write_bytes(pickle.dumps(content))
        else:
            (tmp_path / "f").mkdir(exist_ok=True)
            tensors = (
                {k: torch.from_numpy(v) for k, v in content.items()}
                if isinstance(content, dict)
                else torch.from_numpy(content)
            )
            torch.save(tensors, tmp_path / "f" / f"{name}.pt")
    check(load(tmp_path / "f", truth), streams)


def test_a_pkl_that_executes_is_refused(tmp_path, streams, truth):
    for name in streams:
        (tmp_path / "f").mkdir(exist_ok=True)
        (tmp_path / "f" / f"{name}.pkl").write_bytes(pickle.dumps({"rgb": malice(tmp_path)}))
    assert "found a pickle that asks for " in line_of(load, tmp_path / "f", truth)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("suffix", [".npy", ".pkl", ".pt"])
@pytest.mark.parametrize("apart", [False, True])
def test_one_file_with_a_dict_of_all_videos(tmp_path, streams, truth, suffix, apart):
    import torch

    content = {
        name: dict(zip(("rgb", "flow"), pair)) if apart else np.concatenate(pair, 1)
        for name, pair in streams.items()
    }
    path = tmp_path / f"features{suffix}"
    if suffix == ".npy":
        np.save(path, np.array(content, dtype=object))
    elif suffix == ".pkl":
        path.write_bytes(pickle.dumps(content))
    else:
        tensors = {
            name: {k: torch.from_numpy(v) for k, v in value.items()}
            if apart
            else torch.from_numpy(value)
            for name, value in content.items()
        }
        torch.save(tensors, path)
    data = load(path, truth)
    check(data, streams)
    assert data.layout == "joint-npy"


def test_names_in_a_pickle_are_utf_8_or_latin_1(tmp_path):
    array = pickle.dumps(np.ones((2, 4), np.float32), 2)[2:-1]  # without protocol and stop
    for name, raw in (("Café", "Café".encode()), ("Café", "Café".encode("latin1"))):
        path = tmp_path / "f.pkl"
        # Python 2's {str: array}
        path.write_bytes(b"\x80\x02}U" + bytes([len(raw)]) + raw + array + b"s.")
        assert features.open_features(path).names == [name]
    np.save(tmp_path / "v.npy", {b"Caf\xe9": np.ones((2, 4))})
    assert features.open_features(tmp_path / "v.npy").names == ["Café"]


def four_hdf5(folder, streams):
    folder.mkdir()
    for i, stream in enumerate(("rgb", "flow")):
        for k, subset in enumerate(("val", "test")):
            with h5py.File(folder / f"{stream}_{subset}.h5", "w") as file:
                for name in list(streams)[k::2]:
                    file[name] = streams[name][i]


def test_four_hdf5_files(tmp_path, streams, truth):
    four_hdf5(tmp_path / "h", streams)
    data = load(tmp_path / "h", truth)
    check(data, streams)
    assert data.layout == "hdf5"
    assert "4 files read as one set: flow_test.h5, flow_val.h5" in data.notes[0]


def test_advice_to_give_the_folder_around_part_of_a_set_works(tmp_path, streams, truth):
    four_hdf5(tmp_path / "h", streams)
    # without the whole test subset there is nothing to go on with
    for allow_missing in (False, True):
        line = line_of(
            load,
            tmp_path / "h" / "rgb_val.h5",
            truth,
            flow_features=tmp_path / "h" / "flow_val.h5",
            allow_missing=allow_missing,
        )
        assert "found no features for 3 of 6 videos" in line and "--allow-missing" not in line
        assert line.endswith(
            f"; beside it: flow_test.h5, rgb_test.h5; give the folder {tmp_path / 'h'} to read all"
        )
    check(load(tmp_path / "h", truth), streams)
    feature_files.split_side_by_side_files(tmp_path / "f", streams)
    line = line_of(load, tmp_path / "f" / "train", truth)
    assert line.endswith(f"; beside it: test; give the folder {tmp_path / 'f'} to read all")
    check(load(tmp_path / "f", truth), streams)


def test_hdf5_in_a_folder_and_several_canonical_files(tmp_path, streams, truth):
    (tmp_path / "one").mkdir()
    feature_files.canonical(tmp_path / "one", streams)
    data = load(tmp_path / "one", truth)
    check(data, streams)
    assert data.layout == "canonical"
    for i, part in enumerate(("train", "test")):
        (tmp_path / part).mkdir()
        feature_files.canonical(tmp_path / part, {name: streams[name] for name in NAMES[i::2]})
        (tmp_path / "two").mkdir(exist_ok=True)
        (tmp_path / part / "features.h5").rename(tmp_path / "two" / f"{part}.h5")
    check(load(tmp_path / "two", truth, snippet_seconds=None), streams)
    with h5py.File(tmp_path / "two" / "test.h5", "r+") as file:
        file.attrs["snippet_seconds"] = 0.4
    assert "found files of clips of 0.4 s and 0.5 s" in line_of(load, tmp_path / "two", truth)


def test_hdf5_with_groups_of_subsets(tmp_path, streams, truth):
    with h5py.File(tmp_path / "f.h5", "w") as file:
        for i, (name, pair) in enumerate(streams.items()):
            file[f"{('train', 'Test')[i % 2]}/{name}"] = np.concatenate(pair, 1)
    check(load(tmp_path / "f.h5", truth), streams)


def test_a_pickled_dict_in_the_npy_of_a_video(tmp_path, streams, truth):
    for name, (rgb, flow) in streams.items():
        save(tmp_path / "f" / f"{name}.npy", np.array({"flow": flow, "rgb": rgb}, dtype=object))
    check(load(tmp_path / "f", truth), streams)


@pytest.mark.parametrize("inside", ["features", "features/thumos", "data/i3d"])
@pytest.mark.parametrize(
    "writer", [feature_files.stream_files, feature_files.canonical, feature_files.joint_npy]
)
def test_the_root_around_the_features(tmp_path, streams, truth, inside, writer):
    (tmp_path / "root" / inside).mkdir(parents=True)
    (tmp_path / "root" / "annotations").mkdir()
    (tmp_path / "root" / "annotations" / "gt.json").write_text(truth.read_text())
    (tmp_path / "root" / "README.txt").write_text("from somewhere")
    writer(tmp_path / "root" / inside, streams)
    data = load(tmp_path / "root", truth)
    check(data, streams)
    assert f"root: the features are read from {tmp_path / 'root' / inside}" in data.notes[0]


def test_folders_of_classes(tmp_path, streams, truth):
    for i, (name, pair) in enumerate(streams.items()):
        save(tmp_path / "f" / f"class_{i % 3}" / f"{name}.npy", np.concatenate(pair, 1))
    data = load(tmp_path / "f", truth)
    check(data, streams)
    assert "read from class_0, class_1, class_2" in data.notes[0]


def test_names_that_begin_with_a_dot_are_skipped(tmp_path, streams, truth):
    for writer in (
        feature_files.side_by_side_files,
        feature_files.stream_files,
        feature_files.npz_files,
    ):
        folder = tmp_path / writer.__name__
        folder.mkdir()
        writer(folder, streams)
        for file in [file for file in folder.rglob("*.np*")]:
            file.with_name(f"._{file.name}").write_bytes(b"\0\5\26\7\0\2\0\0Mac OS X")
        (folder / ".DS_Store").write_bytes(b"x")
        data = load(folder, truth)
        check(data, streams)
        assert data.notes == ()


@pytest.mark.parametrize("stored", ["v_{}", "{}.mp4", "{}_i3d"])
def test_names_with_prefix_or_suffix(tmp_path, streams, truth, stored, warned):
    feature_files.side_by_side_files(
        tmp_path / "f", {stored.format(name): pair for name, pair in streams.items()}
    )
    data = load(tmp_path / "f", truth)
    check(data, streams)
    assert "6 of 6 videos have another form of their name" in warned()[0]


# ------------------------------------------------------------------------------------ nothing found


@pytest.mark.parametrize(
    "suffix, advice",
    [(".csv", "np.save"), (".mat", "np.save"), (".mp4", "docs/video.md"), (".zip", "")],
)
def test_what_lies_there_is_said(tmp_path, suffix, advice):
    (tmp_path / "f" / "logs").mkdir(parents=True)
    for name in NAMES[:5]:
        (tmp_path / "f" / f"{name}{suffix}").write_text("1,2\n3,4\n")
    line = line_of(features.open_features, tmp_path / "f")
    assert (
        f"found no videos, but 5 {suffix} files and 1 folder (logs), expected an HDF5 file" in line
    )
    assert advice in line and "VIDEO.npy" in line


def test_the_advice_on_tables_works(tmp_path, streams, truth):
    for name, pair in streams.items():
        (tmp_path / "f").mkdir(exist_ok=True)
        np.savetxt(tmp_path / "f" / f"{name}.csv", np.concatenate(pair, 1), delimiter=",")
    assert "save each table with np.save as VIDEO.npy, an array (clips, dimensions)" in line_of(
        load, tmp_path / "f", truth
    )
    for file in (tmp_path / "f").glob("*.csv"):
        np.save(
            file.with_suffix(".npy"), np.loadtxt(file, delimiter=",", ndmin=2).astype(np.float32)
        )
    assert len(videos(load(tmp_path / "f", truth))) == 6


def test_features_of_other_videos_are_shown(tmp_path, streams, truth):
    feature_files.side_by_side_files(
        tmp_path / "f", {f"clip-{i}": pair for i, pair in enumerate(streams.values())}
    )
    for allow_missing in (False, True):
        line = line_of(load, tmp_path / "f", truth, allow_missing=allow_missing)
        assert f"found no features for 6 of 6 videos of {truth}: {NAMES[0]}" in line
        assert "found there: clip-0, clip-1, clip-2 and 3 more" in line
        assert "--allow-missing" not in line
