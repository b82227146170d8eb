"""The catalogue of malformed input: each case ends in one line that names the file and says what
was found.

A case writes something wrong into a folder that holds a sound canonical set, and changes the
arguments of dataset.load.
"""

import json
import os
import pathlib
import pickle
import shutil
import tempfile

import commands
import convert_features
import feature_files
import h5py
import inspect_features
import numpy as np
import pytest
from errors import line_of, malice
from feature_files import SECONDS, objects, save

from formats.files import InputError

FIRST, SECOND = list(feature_files.features())[:2]  # a training and a test video
CASES = []


def case(expected, name=None):
    """Add a function (folder, arguments) as a case; `expected` are the texts that the line must
    contain.
    """

    def add(function):
        CASES.append(
            pytest.param(
                function,
                (expected,) if isinstance(expected, str) else expected,
                id=name or function.__name__,
            )
        )
        return function

    return add


@pytest.fixture
def arguments(tmp_path):
    """A sound set: the arguments with which it loads."""
    streams = feature_files.features()
    (tmp_path / "other").mkdir()
    return dict(
        feature_files.canonical(tmp_path, streams),
        train_subset="train",
        test_subset="test",
        annotations=feature_files.write_json(tmp_path / "gt.json", feature_files.database(streams)),
    )


def change(arguments, **arrays):
    """Replace datasets of the canonical file, by keys video__stream."""
    with h5py.File(arguments["features"], "r+") as file:
        for key, array in arrays.items():
            key = key.replace("__", "/")
            del file[key]
            file[key] = array


def relayout(folder, arguments, writer, streams=None, **options):
    """The same set in another layout."""
    arguments.update(
        writer(folder / "other", streams or feature_files.features(), **options),
        snippet_seconds=SECONDS,
    )


def edit(arguments, change):
    """Change the annotation file through a function of its content."""
    content = json.loads(arguments["annotations"].read_text())
    change(content["database"])
    arguments["annotations"].write_text(json.dumps(content))


# ------------------------------------------------------------------------------------------------
# paths


@case("nowhere.h5: found no such file")
def missing_features(folder, arguments):
    arguments["features"] = folder / "nowhere.h5"


@case("nowhere.json: found no such file")
def missing_annotations(folder, arguments):
    arguments["annotations"] = folder / "nowhere.json"


@case("nowhere: found No such file or directory, expected a folder")
def missing_folder(folder, arguments):
    arguments.update(features=folder / "nowhere", feature_layout="per-video")


@case(
    (
        "other: found no videos, but an empty folder, expected an HDF5 file, or a folder with VIDEO.npy",
        "docs/data.md",
    )
)
def empty_folder(folder, arguments):
    arguments["features"] = folder / "other"


@case("other: found a folder, expected a file")
def folder_for_a_file(folder, arguments):
    arguments.update(features=folder / "other", feature_layout="canonical")


@case("features.h5: found Not a directory, expected a folder")
def file_for_a_folder(folder, arguments):
    arguments["feature_layout"] = "per-video"


@case(
    "gt.json: found a file that is neither HDF5 nor NumPy, expected features (are features and annotations swapped?)"
)
def features_and_annotations_swapped(folder, arguments):
    arguments["features"] = arguments["annotations"]


@case("x.h5: found a file that is neither HDF5 nor NumPy")
def text_for_features(folder, arguments):
    arguments["features"] = folder / "x.h5"
    arguments["features"].write_text("0.1, 0.2")


@case("features.h5: found a file that is neither HDF5 nor NumPy")
def empty_file_for_features(folder, arguments):
    arguments["features"].write_bytes(b"")


@case("feature layout: found 'mat', expected one of auto, canonical")
def unknown_layout(folder, arguments):
    arguments["feature_layout"] = "mat"


@case("flow.h5: found a second path for the flow stream, expected none (canonical layout)")
def second_path_to_a_joint_layout(folder, arguments):
    arguments.update(feature_layout="canonical", flow_features="flow.h5")


@case("other: found 2 files *JOINTFeatures.npy, expected one")
def two_joint_files(folder, arguments):
    relayout(folder, arguments, feature_files.joint_npy)
    shutil.copy(arguments["features"], folder / "other" / "Set-UNT-JOINTFeatures.npy")
    arguments["features"] = folder / "other"


# ------------------------------------------------------------------------------------------------
# HDF5


@case(("features.h5: found broken data (", "expected readable features"))
def truncated_hdf5(folder, arguments):
    data = arguments["features"].read_bytes()
    arguments["features"].write_bytes(data[: len(data) // 2])


@case("features.h5: found broken data (")
def hdf5_signature_and_noise(folder, arguments):
    arguments["features"].write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(range(256)) * 20)


@case(
    "features.h5: found no videos in this file, expected an HDF5 file, or a folder with VIDEO.npy"
)
def empty_hdf5(folder, arguments):
    h5py.File(arguments["features"], "w").close()


@case("features.h5: found no features for 1 of 6 videos of ")
def video_without_features(folder, arguments):
    with h5py.File(arguments["features"], "r+") as file:
        del file[SECOND]


@case("features.h5: found no features for 6 of 6 videos of ")
def features_of_other_videos(folder, arguments):
    edit(
        arguments,
        lambda database: [
            database.update({f"x{name}": database.pop(name)}) for name in list(database)
        ],
    )


@case(
    f"features.h5: {FIRST}: found rgb only, expected flow, too (--allow-missing goes on without them)"
)
def stream_missing(folder, arguments):
    with h5py.File(arguments["features"], "r+") as file:
        del file[f"{FIRST}/flow"]


@case(f"features.h5: {FIRST}: rgb: found a group, expected a dataset (clips, dimensions)")
def group_for_a_dataset(folder, arguments):
    with h5py.File(arguments["features"], "r+") as file:
        del file[f"{FIRST}/rgb"]
        file.create_group(f"{FIRST}/rgb")


@case(f"features.h5: {FIRST}: rgb: found an empty dataset")
def dataset_without_a_shape(folder, arguments):
    change(arguments, **{f"{FIRST}__rgb": h5py.Empty("f4")})


@case(f"features.h5: {FIRST}: found a group of x, y, expected `rgb` and `flow`, or one dataset")
def group_of_unknown_datasets(folder, arguments):
    with h5py.File(arguments["features"], "w") as file:
        for name in feature_files.features():
            file[f"{name}/x"] = np.ones((2, 2))
        file[f"{FIRST}/y"] = np.ones((2, 2))


@case(
    f"features.h5: {FIRST}: found 7 dimensions, expected an even number: RGB and flow side by side"
)
def side_by_side_of_odd_width(folder, arguments):
    with h5py.File(arguments["features"], "w") as file:
        for name in feature_files.features():
            file[name] = np.ones((3, 7))


@case(f"rgb.h5: {SECOND}: found rgb only, expected flow, too")
def video_in_one_of_two_files(folder, arguments):
    relayout(folder, arguments, feature_files.hdf5_file_per_stream)
    with h5py.File(arguments["flow_features"], "r+") as file:
        del file[SECOND]


@case(f"features.h5: {FIRST}: rgb: found a dataset stored in another file")
def external_link(folder, arguments):
    shutil.copy(arguments["features"], folder / "elsewhere.h5")
    with h5py.File(arguments["features"], "r+") as file:
        del file[FIRST]
        file[FIRST] = h5py.ExternalLink(folder / "elsewhere.h5", FIRST)


@case(f"features.h5: {FIRST}: rgb: found a dataset stored in another file")
def external_bytes(folder, arguments):
    with h5py.File(arguments["features"], "r+") as file:
        del file[f"{FIRST}/rgb"]
        file.create_dataset(f"{FIRST}/rgb", (8, 4), "f4", external=[("/etc/passwd", 0, 128)])


@case(f"features.h5: {FIRST}: rgb: found a dataset stored in another file")
def virtual_dataset(folder, arguments):
    layout = h5py.VirtualLayout((8, 4), "f4")
    layout[:] = h5py.VirtualSource(str(folder / "elsewhere.h5"), "x", (8, 4))
    with h5py.File(arguments["features"], "r+") as file:
        del file[f"{FIRST}/rgb"]
        file.create_virtual_dataset(f"{FIRST}/rgb", layout)


@case((f"features.h5: {FIRST}: flow: found a claim of 32000000000000 bytes", "over 0 stored ones"))
def absurd_shape(folder, arguments):
    with h5py.File(arguments["features"], "r+") as file:
        del file[f"{FIRST}/flow"]
        file.create_dataset(f"{FIRST}/flow", (2_000_000_000, 4000), "f4", chunks=(1000, 4000))


@case(
    (
        f"features.h5: {FIRST}: flow: found a claim of ",
        "stored ones, expected all values in the file",
    )
)
def absurd_shape_behind_compression(folder, arguments):
    with h5py.File(arguments["features"], "r+") as file:
        del file[f"{FIRST}/flow"]
        flow = file.create_dataset(
            f"{FIRST}/flow", (2_000_000, 4000), "f4", chunks=(10, 4000), compression="gzip"
        )
        flow[:10] = 1


@pytest.mark.parametrize(
    "value, text",
    [
        ("fast", "'fast'"),
        (0.0, "0.0"),
        (-1.0, "-1.0"),
        (np.nan, "nan"),
        (np.inf, "inf"),
        ([1.0, 2.0], "an array (2,) of float64"),
    ],
)
def test_declared_seconds(tmp_path, arguments, value, text):
    with h5py.File(arguments["features"], "r+") as file:
        file.attrs["snippet_seconds"] = value
    said = f"features.h5: attribute snippet_seconds: found {text}, expected a positive number"
    assert said in line_of(feature_files.load, **arguments)


@case("features.h5: found no snippet_seconds (seconds per clip), expected it as the attribute")
def seconds_undeclared(folder, arguments):
    with h5py.File(arguments["features"], "r+") as file:
        del file.attrs["snippet_seconds"]


@case("snippet_seconds: found -0.5, expected a positive number of seconds")
def seconds_given_negative(folder, arguments):
    arguments["snippet_seconds"] = -0.5


# ------------------------------------------------------------------------------------------------
# arrays


@case(f"features.h5: {FIRST}: rgb: found a 1-D array (8), expected (clips, dimensions)")
def one_dimension(folder, arguments):
    change(arguments, **{f"{FIRST}__rgb": np.ones(8)})


@case(f"features.h5: {FIRST}: flow: found a 3-D array (8, 7, 4), expected (clips, dimensions)")
def three_dimensions(folder, arguments):
    change(arguments, **{f"{FIRST}__flow": np.ones((8, 7, 4))})


@case(f"features.h5: {FIRST}: flow: found a 0-D array (), expected (clips, dimensions)")
def a_number_for_an_array(folder, arguments):
    change(arguments, **{f"{FIRST}__flow": 3.0})


@case(
    f"features.h5: {SECOND}: rgb: found 0 clips (0, 4), expected (clips, dimensions), at least 1 of each"
)
def no_clips(folder, arguments):
    change(arguments, **{f"{SECOND}__rgb": np.ones((0, 4))})


@case(
    f"features.h5: {SECOND}: rgb: found 0 dimensions (5, 0), expected (clips, dimensions), at least 1 of each"
)
def no_dimensions(folder, arguments):
    change(arguments, **{f"{SECOND}__rgb": np.ones((5, 0))})


@case(
    f"features.h5: {FIRST}: found 8 clips of rgb and 5 of flow, expected equal lengths (up to 2 clips or 1%)"
)
def streams_of_unequal_length(folder, arguments):
    change(arguments, **{f"{FIRST}__flow": np.ones((5, 4))})


@case(
    "found 3 rgb and 4 flow dimensions, expected 4 and 4 as in 69 others",
    "wrong_dimensions_in_the_57th_video",
)
def wrong_dimensions_in_one_of_many(folder, arguments):
    streams = feature_files.features([3 + i for i in range(70)])
    database = feature_files.database(streams)
    for entry in database.values():
        entry["subset"] = "train"
    name = list(streams)[56]
    streams[name] = streams[name][0][:, :3], streams[name][1]
    feature_files.canonical(folder, streams)
    feature_files.write_json(arguments["annotations"], database)
    arguments["test_subset"] = None


def test_the_57th_video_is_named(tmp_path, arguments):
    wrong_dimensions_in_one_of_many(tmp_path, arguments)
    with pytest.raises(InputError, match=r"features.h5: v555 \(the 57th video\): found 3 rgb"):
        feature_files.load(**arguments)


@case(
    (
        f"features.h5: {SECOND} (the ",
        "found 4 rgb and 6 flow dimensions, expected 4 and 4 as in 5 others",
    )
)
def wrong_dimensions_of_flow(folder, arguments):
    change(arguments, **{f"{SECOND}__flow": np.ones((1, 6))})


@case(f"features.h5: {FIRST}: found nan in rgb, clip 2 (3 of 32 values), expected finite numbers")
def nan(folder, arguments):
    array = np.ones((8, 4))
    array[2, 1] = array[2, 3] = array[7, 0] = np.nan
    change(arguments, **{f"{FIRST}__rgb": array})


@case(f"features.h5: {SECOND}: found -inf in flow, clip 0 (1 of 4 values), expected finite numbers")
def infinity(folder, arguments):
    change(arguments, **{f"{SECOND}__flow": np.array([[1, 2, -np.inf, 3]], np.float16)})


@case(f"features.h5: {SECOND}: found inf in flow, clip 0 (1 of 4 values)")
def beyond_float32(folder, arguments):
    change(arguments, **{f"{SECOND}__flow": np.array([[1, 2, 1e300, 3]])})


@case(f"features.h5: {FIRST}: rgb: found values of type bool, expected floating-point numbers")
def booleans(folder, arguments):
    change(arguments, **{f"{FIRST}__rgb": np.ones((8, 4), bool)})


@case(f"features.h5: {FIRST}: rgb: found values of type complex64, expected floating-point numbers")
def complex_numbers(folder, arguments):
    change(arguments, **{f"{FIRST}__rgb": np.ones((8, 4), np.complex64)})


@case(f"features.h5: {FIRST}: rgb: found values of type object, expected floating-point numbers")
def strings_in_hdf5(folder, arguments):
    change(arguments, **{f"{FIRST}__rgb": [["0.1", "0.2"]] * 8})


@case(f"{FIRST}: features: found values of type <U3, expected floating-point numbers")
def strings_in_npy(folder, arguments):
    relayout(folder, arguments, feature_files.side_by_side_files)
    save(folder / "other" / f"{FIRST}.npy", np.array([["0.1", "0.2"]] * 8))


# ------------------------------------------------------------------------------------------------
# W-TALC's joint file


@case(("JOINTFeatures.npy: found 6 arrays, expected 5: one per name in ", "videoname.npy"))
def joint_file_of_another_length(folder, arguments):
    relayout(folder, arguments, feature_files.joint_npy, names=list(feature_files.features())[:5])


@case("JOINTFeatures.npy: found no videoname.npy, expected it in the annotation folder")
def joint_file_without_names(folder, arguments):
    relayout(folder, arguments, feature_files.joint_npy)
    shutil.rmtree(folder / "other" / "Set-Annotations")


@case((f"videoname.npy: {FIRST}: found this video 2 times",))
def joint_file_with_a_name_twice(folder, arguments):
    names = list(feature_files.features())
    relayout(folder, arguments, feature_files.joint_npy, names=[*names[:5], FIRST])


@case("JOINTFeatures.npy: found a pickle that asks for ")
def joint_file_that_executes(folder, arguments):
    relayout(folder, arguments, feature_files.joint_npy)
    save(arguments["features"], objects(*[malice(folder)] * 6))


@case("videoname.npy: found a pickle that asks for ")
def names_that_execute(folder, arguments):
    relayout(folder, arguments, feature_files.joint_npy)
    save(folder / "other" / "Set-Annotations" / "videoname.npy", objects(*[malice(folder)] * 6))


@case("JOINTFeatures.npy: found a broken pickle")
def joint_file_truncated(folder, arguments):
    relayout(folder, arguments, feature_files.joint_npy)
    data = arguments["features"].read_bytes()
    arguments["features"].write_bytes(data[:-300])


@case("JOINTFeatures.npy: item 1: found 'a', expected an array")
def joint_file_of_texts(folder, arguments):
    relayout(folder, arguments, feature_files.joint_npy)
    save(arguments["features"], objects(np.ones((8, 8)), "a", "b", "c", "d", "e"))


@case(
    (f"JOINTFeatures.npy: {FIRST}: features: found a 1-D array (8), expected (clips, dimensions)",)
)
def joint_file_of_one_dimension(folder, arguments):
    relayout(folder, arguments, feature_files.joint_npy)
    save(arguments["features"], objects(*[np.ones(8)] * 6))


# ------------------------------------------------------------------------------------------------
# files per video


@case(f"other: {SECOND}: found rgb only, expected flow, too")
def file_of_one_stream_missing(folder, arguments):
    relayout(folder, arguments, feature_files.split_stream_files)
    (folder / "other" / "test" / "flow" / f"{SECOND}.npy").unlink()


@case(f"other: {FIRST}: found twice, expected each video once")
def video_in_two_folders(folder, arguments):
    relayout(folder, arguments, feature_files.split_stream_files)
    for stream in ("rgb", "flow"):
        shutil.copy(
            folder / "other" / "train" / stream / f"{FIRST}.npy", folder / "other" / "test" / stream
        )


@case((f"{FIRST}.npy: found ", "bytes after the header, expected "))
def npy_truncated(folder, arguments):
    relayout(folder, arguments, feature_files.side_by_side_files)
    path = folder / "other" / f"{FIRST}.npy"
    path.write_bytes(path.read_bytes()[:-10])


@case((f"{FIRST}.npy: found ", "expected 4000000000000 for (1000000, 1000000) float32"))
def npy_that_claims_more_than_it_holds(folder, arguments):
    relayout(folder, arguments, feature_files.side_by_side_files)
    with open(folder / "other" / f"{FIRST}.npy", "wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "<f4", "fortran_order": False, "shape": (10**6, 10**6)}
        )


@case(f"{FIRST}.npy: found a pickle that asks for ")
def npy_that_executes(folder, arguments):
    relayout(folder, arguments, feature_files.side_by_side_files)
    save(folder / "other" / f"{FIRST}.npy", objects(malice(folder)))


@case(f"{FIRST}.npy: found a file that starts with b'0.1,0.2")
def text_for_npy(folder, arguments):
    relayout(folder, arguments, feature_files.side_by_side_files)
    (folder / "other" / f"{FIRST}.npy").write_text("0.1,0.2,0.3")


@case(f"{FIRST}.npy: found a folder, expected a file")
def folder_for_npy(folder, arguments):
    relayout(folder, arguments, feature_files.side_by_side_files)
    (folder / "other" / f"{FIRST}.npy").unlink()
    (folder / "other" / f"{FIRST}.npy").mkdir()


@case(f"other: {FIRST}: found rgb only, expected flow, too")
def npz_of_one_stream(folder, arguments):
    relayout(folder, arguments, feature_files.npz_files)
    np.savez(folder / "other" / f"{FIRST}.npz", rgb=np.ones((8, 4)))


@case(f"{FIRST}.npz: found a broken .npz")
def npz_truncated(folder, arguments):
    relayout(folder, arguments, feature_files.npz_files)
    path = folder / "other" / f"{FIRST}.npz"
    path.write_bytes(path.read_bytes()[:-100])


@case(f"{FIRST}: flow: found values of type object, expected floating-point numbers")
def npz_that_executes(folder, arguments):
    relayout(folder, arguments, feature_files.npz_files)
    np.savez(folder / "other" / f"{FIRST}.npz", rgb=np.ones((8, 4)), flow=objects(malice(folder)))


@case("other: found no features for 1 of 7 videos of ")
def name_that_leads_out_of_the_folder(folder, arguments):
    relayout(folder, arguments, feature_files.side_by_side_files)
    save(folder / "secret.npy", np.ones((8, 8)))
    edit(arguments, lambda database: database.update({"../secret": database[FIRST]}))


@case("features.h5: found no features for 1 of 7 videos of ")
def name_that_leads_out_of_the_group(folder, arguments):
    edit(arguments, lambda database: database.update({f"./{FIRST}": database[FIRST]}))


# ------------------------------------------------------------------------------------------------
# the released layout


@case(
    (
        "trainSet: found 3 files in X_RGB and 2 in X_flow, expected the same N.pt in both (not so: 1.pt)",
    )
)
def released_number_missing(folder, arguments):
    relayout(folder, arguments, feature_files.released_pt)
    (folder / "other" / "trainSet" / "X_flow" / "1.pt").unlink()


@case("0.pt: found tensor(7) as the name of a video, expected text")
def released_name_is_a_tensor(folder, arguments):
    import torch

    relayout(folder, arguments, feature_files.released_pt)
    torch.save(torch.tensor(7), folder / "other" / "trainSet" / "Name_flow" / "0.pt")


@case(f"other: {FIRST}: found twice, expected each video once")
def released_name_twice(folder, arguments):
    import torch

    relayout(folder, arguments, feature_files.released_pt)
    torch.save(FIRST, folder / "other" / "testSet" / "Name_flow" / "1.pt")


@case("0.pt: found list, expected a tensor (clips, dimensions)")
def released_list(folder, arguments):
    import torch

    relayout(folder, arguments, feature_files.released_pt)
    torch.save([torch.ones(8, 4)], folder / "other" / "trainSet" / "X_RGB" / "0.pt")


@case(("X_RGB/0.pt: found a file that asks for ", "system"))
def released_file_that_executes(folder, arguments):
    import torch

    relayout(folder, arguments, feature_files.released_pt)
    torch.save(malice(folder), folder / "other" / "trainSet" / "X_RGB" / "0.pt")


@case("X_flow/0.pt: found a broken file")
def released_file_truncated(folder, arguments):
    relayout(folder, arguments, feature_files.released_pt)
    path = folder / "other" / "trainSet" / "X_flow" / "0.pt"
    path.write_bytes(path.read_bytes()[:200])


# ------------------------------------------------------------------------------------------------
# labels and subsets


@case(("gt.json: found the subsets ", "train", "(3 videos)", "expected 'validation'"))
def subset_unknown(folder, arguments):
    arguments["train_subset"] = "validation"


@case("gt.json: found 3 videos both in the training and in the test subset")
def subsets_the_same(folder, arguments):
    arguments["test_subset"] = "training"


@case("gt.json: found no videos in the chosen subsets")
def no_labelled_video(folder, arguments):
    edit(
        arguments,
        lambda database: [
            entry.update(annotations=[])
            for entry in database.values()
            if entry["subset"] == "train"
        ],
    )
    arguments["test_subset"] = None


@case("gt.json: found no labels_all.npy")
def labels_all_of_json(folder, arguments):
    arguments["video_labels"] = "labels_all"


# ------------------------------------------------------------------------------------------------
# the test


@pytest.mark.parametrize("function, expected", CASES)
def test_bad_input(tmp_path, arguments, function, expected):
    # the set is sound but for what the case does to it
    assert feature_files.load(**arguments).notes == ()
    function(tmp_path, arguments)
    line = line_of(feature_files.load, **arguments)
    for text in expected:
        assert text in line
    assert not (tmp_path / "executed").exists()


def test_every_case_has_its_name():
    assert len({case.id for case in CASES}) == len(CASES)


# ------------------------------------------------------------------------------------------------
# beyond the arguments


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="needs POSIX users")
@pytest.mark.parametrize("which", ["features", "annotations"])
def test_no_permission(which):
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folder lets nobody else in
        folder = pathlib.Path(folder)
        folder.chmod(0o755)
        streams = feature_files.features()
        paths = {
            "features": feature_files.canonical(folder, streams)["features"],
            "annotations": feature_files.write_json(
                folder / "gt.json", feature_files.database(streams)
            ),
        }
        paths[which].chmod(0)
        user = os.geteuid()
        try:
            if user == 0:
                os.seteuid(65534)  # root may read everything
            with pytest.raises(
                InputError, match=f"{paths[which].name}: found no permission to read"
            ):
                feature_files.load(**paths, train_subset="train", test_subset="test")
        finally:
            os.seteuid(user)


def test_features_that_vanish_while_they_stream(tmp_path, arguments):
    relayout(tmp_path, arguments, feature_files.side_by_side_files)
    data = feature_files.load(**arguments, memory_limit=0)
    (tmp_path / "other" / f"{FIRST}.npy").unlink()
    with pytest.raises(InputError, match=f"{FIRST}.npy: found no such file"):
        np.asarray(data.train[0].rgb)


def test_data_destroyed_inside_hdf5(tmp_path, arguments):
    """A file that opens and whose chunks do not unpack."""
    streams = feature_files.features((200, 200))
    feature_files.canonical_gzip(tmp_path, streams)
    with h5py.File(arguments["features"]) as file:
        chunk = file[f"{FIRST}/rgb"].id.get_chunk_info(0)
    with open(arguments["features"], "r+b") as file:
        file.seek(chunk.byte_offset)
        file.write(b"\xff" * chunk.size)
    feature_files.write_json(arguments["annotations"], feature_files.database(streams))
    with pytest.raises(
        InputError, match=f"features.h5: {FIRST}: found broken data .*expected readable features"
    ):
        feature_files.load(**arguments)


def test_malice_would_execute_elsewhere(tmp_path):
    """The crafted pickle of the cases does what it says where pickles are trusted."""
    pickle.loads(pickle.dumps(malice(tmp_path)))
    assert (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    "function, expected",
    [
        (missing_features, "nowhere.h5: found no such file"),
        (truncated_hdf5, "features.h5: found broken data ("),
        (nan, f"features.h5: {FIRST}: found nan in rgb, clip 2"),
        (joint_file_that_executes, "JOINTFeatures.npy: found a pickle that asks for "),
        (released_file_that_executes, "X_RGB/0.pt: found a file that asks for "),
    ],
)
def test_tools_print_one_line_and_exit_with_2(tmp_path, capsys, arguments, function, expected):
    function(tmp_path, arguments)
    paths = [arguments["features"], arguments["annotations"]]
    out = tmp_path / "empty" / "out.h5"
    out.parent.mkdir()
    for tool, more in (
        (inspect_features, []),
        (convert_features, [out, "--snippet-seconds", "0.5"]),
    ):
        code, error = commands.stops([*paths, *more], capsys, tool.main)
        assert code == 2 and "Traceback" not in error
        last = error.splitlines()[-1]
        assert last.startswith("error: ") and expected in last
    assert list((tmp_path / "empty").iterdir()) == []
    assert not (tmp_path / "executed").exists()
