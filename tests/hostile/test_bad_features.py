"""Malformed features: each ends in one line that names the file and the video and says what was
found; nothing in a file is executed."""

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
import torch
from errors import malice, refused
from feature_files import SECONDS, by_pattern, objects, save

from formats.features import open_features

STREAMS = feature_files.features()
NAMES = list(STREAMS)
FIRST, SECOND = NAMES[:2]  # a training and a test video


def load(path, truth, **options):
    options = dict(snippet_seconds=SECONDS, streams="both") | options
    return feature_files.load(path, truth, train_subset="train", test_subset="test", **options)


@pytest.fixture
def truth(tmp_path):
    return feature_files.write_json(tmp_path / "gt.json", feature_files.database(STREAMS))


@pytest.fixture
def canonical(tmp_path):
    return feature_files.canonical(tmp_path, STREAMS)["features"]


def put(path, key, value, **options):
    """Replace a dataset of an HDF5 file."""
    with h5py.File(path, "r+") as file:
        file.pop(key, None)
        if options:
            file.create_dataset(key, **options)
        elif value is not None:
            file[key] = value


BAD = np.ones((8, 4))
BAD[2, 1] = BAD[2, 3] = BAD[7, 0] = np.nan
VIRTUAL = h5py.VirtualLayout((8, 4), "f4")
VIRTUAL[:] = h5py.VirtualSource("/elsewhere.h5", "x", (8, 4))
# name: what lies under VIDEO/rgb, whether the line names the stream, what is found
DATASETS = {
    "vector": (np.ones(8), True, "a 1-D array (8,)"),
    "three axes": (np.ones((8, 7, 4)), True, "a 3-D array (8, 7, 4)"),
    "number": (3.0, True, "a 0-D array ()"),
    "no clips": (np.ones((0, 4)), True, "0 clips (0, 4)"),
    "no dimensions": (np.ones((8, 0)), True, "0 dimensions (8, 0)"),
    "booleans": (np.ones((8, 4), bool), True, "values of type bool"),
    "complex": (np.ones((8, 4), np.complex64), True, "values of type complex64"),
    "texts": ([["0.1", "0.2"]] * 8, True, "values of type object"),
    "empty": (h5py.Empty("f4"), True, "an empty dataset"),
    "nan": (BAD, False, "nan in rgb, clip 2 (3 of 32 values)"),
    "infinity": (np.full((8, 4), -np.inf, np.float16), False, "-inf in rgb, clip 0 (32 of 32"),
    "beyond float32": (np.full((8, 4), 1e300), False, "inf in rgb, clip 0"),
    "no stream": (None, False, "flow only"),
    "other width": (np.ones((8, 3)), None, "3 rgb and 4 flow dimensions"),
    "other length": (np.ones((5, 4)), False, "5 clips of rgb and 8 of flow"),
}
# what create_dataset is told
CLAIMS = {
    "another file": (
        dict(shape=(8, 4), dtype="f4", external=[("/etc/passwd", 0, 128)]),
        "a dataset stored in another file",
    ),
    "absurd": (
        dict(shape=(2_000_000_000, 4000), dtype="f4", chunks=(1000, 4000)),
        "a claim of 32000000000000 bytes",
    ),
    "absurd and packed": (
        dict(shape=(2_000_000, 4000), dtype="f4", chunks=(10, 4000), compression="gzip"),
        "a claim of 32000000000 bytes",
    ),
}


@pytest.mark.parametrize("case", [*DATASETS, *CLAIMS])
def test_one_bad_dataset_stops_its_video_alone(canonical, truth, case):
    if case in DATASETS:
        value, stream, found = DATASETS[case]
        put(canonical, f"{FIRST}/rgb", value)
    else:
        options, found = CLAIMS[case]
        put(canonical, f"{FIRST}/rgb", None, **options)
        stream = True
    error = refused(load, canonical, truth)
    where = f"{canonical}: {FIRST}"
    assert error.where == (f"{where}: rgb" if stream else where) or stream is None
    assert error.where.startswith(where) and error.found.startswith(found)
    assert "--allow-missing" in error.expected
    kept = feature_files.videos(load(canonical, truth, allow_missing=True))
    assert sorted(kept) == sorted(NAMES[1:])


def test_other_bad_members_of_an_hdf5_file(canonical, truth):
    with h5py.File(canonical, "r+") as file:
        del file[f"{FIRST}/rgb"], file[f"{SECOND}/rgb"]
        file.create_group(f"{FIRST}/rgb")
        file.create_virtual_dataset(f"{SECOND}/rgb", VIRTUAL)
    source = open_features(canonical)
    assert refused(source.read, FIRST).found == "a group"
    assert refused(source.read, SECOND).found == "a dataset stored in another file"
    source.close()
    with h5py.File(canonical, "w") as file:
        for name in NAMES:
            file[f"{name}/x"] = np.ones((2, 2))
        file[f"{FIRST}/y"] = np.ones((2, 2))
    source = open_features(canonical, streams="both")
    assert refused(source.read, FIRST).found == "the arrays x, y"
    assert source.shape(SECOND) == (2, 1, 1)


@pytest.mark.parametrize("value", ["fast", 0.0, -1.0, np.nan, np.inf, [1.0, 2.0]])
def test_declared_and_given_seconds(canonical, value):
    with h5py.File(canonical, "r+") as file:
        file.attrs["snippet_seconds"] = value
    error = refused(open_features, canonical)
    assert error.where == f"{canonical}: attribute snippet_seconds"
    assert error.found == ("an array (2,) of float64" if value == [1, 2] else repr(value))
    with h5py.File(canonical, "r+") as file:
        file.attrs["snippet_seconds"] = 1.0
    given = refused(open_features, canonical, snippet_seconds=value)
    assert given.where == "snippet_seconds"


# ------------------------------------------------------------------------------------------ files


def cut(n):
    return lambda path: path.write_bytes(path.read_bytes()[:n])


def array(value):
    return lambda path: np.save(path, value)


def pt(value):
    return lambda path: torch.save(value, path)


def evil(write):
    """write: (path, object that creates the file `executed` in the folder above the set)."""
    return lambda path: write(path, malice(next(p for p in path.parents if p.name == "set").parent))


def lie(path):
    with open(path, "wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (10**6, 10**6)}
        np.lib.format.write_array_header_1_0(file, header)


def folder_instead(path):
    path.unlink()
    path.mkdir()


def pipe_instead(path):
    path.unlink()
    os.mkfifo(path)


def again(path):
    shutil.copy(path, path.parents[2] / "test" / "rgb")


NPY, NPZ, PKL = (by_pattern(p) for p in ("{name}.npy", "{name}.npz:{stream}", "{name}.pkl"))
STREAM, H5 = by_pattern("{subset}/{stream}/{name}.npy"), by_pattern("f.h5:{name}/{stream}", "f.h5")
JOINT, RELEASED = feature_files.joint_npy, feature_files.released_pt
V, J, R = f"{FIRST}.npy", "Set-I3D-JOINTFeatures.npy", "trainSet/X_RGB/0.pt"
SIX = "Set-Annotations/videoname.npy"
ONE = np.ones((8, 4))
# writer, the file, what is done to it, the end of the place that the line names, what is found
FILES = [
    (NPY, V, cut(-10), V, "246 bytes after the header"),
    (NPY, V, lie, V, "0 bytes after the header"),
    (NPY, V, lambda p: p.write_text("0.1,0.2"), V, "a file that starts with b'0.1,0.2"),
    (NPY, V, folder_instead, V, "a folder"),
    (NPY, V, pipe_instead, V, "a device or pipe"),
    (NPY, V, array([["0.1"]]), f"{FIRST}: features", "values of type <U3"),
    (NPY, V, array(np.ones((8, 7))), FIRST, "7 dimensions"),
    (NPY, V, array(objects([[1, 2], [3, 4]])), V, "[[[1, 2], [3, 4]]]"),
    (NPY, V, evil(lambda p, x: np.save(p, objects(x))), V, "a pickle that asks for "),
    (
        PKL,
        f"{FIRST}.pkl",
        evil(lambda p, x: p.write_bytes(pickle.dumps(x))),
        ".pkl",
        "a pickle that",
    ),
    (NPZ, f"{FIRST}.npz", lambda p: np.savez(p, rgb=ONE), FIRST, "rgb only"),
    (NPZ, f"{FIRST}.npz", cut(-100), f"{FIRST}.npz", "a broken .npz"),
    (
        NPZ,
        f"{FIRST}.npz",
        evil(lambda p, x: np.savez(p, rgb=ONE, flow=objects(x))),
        "flow",
        "values",
    ),
    (STREAM, f"train/flow/{V}", os.unlink, FIRST, "rgb only"),
    (STREAM, f"train/rgb/{V}", again, FIRST, f"twice (test/rgb/{V} and train/"),
    (H5, "f.h5", cut(2000), "f.h5", "broken data ("),
    (H5, "f.h5", lambda p: p.write_bytes(b"\x89HDF\r\n\x1a\n" * 200), "f.h5", "broken data ("),
    (RELEASED, "trainSet/X_flow/1.pt", os.unlink, "trainSet", "3 files in X_RGB and 2 in X_flow"),
    (RELEASED, "trainSet/Name_flow/0.pt", pt(torch.tensor(7)), "Name_flow/0.pt", "tensor(7) as"),
    (RELEASED, "testSet/Name_flow/1.pt", pt(FIRST), FIRST, "twice (testSet/1.pt and trainSet/0.pt"),
    (RELEASED, R, pt([torch.ones(8, 4)]), "X_RGB/0.pt", "[tensor("),
    (RELEASED, R, cut(200), "X_RGB/0.pt", "a broken file"),
    (RELEASED, R, evil(lambda p, x: torch.save(x, p)), "X_RGB/0.pt", "a file that asks for "),
    (JOINT, J, array(objects(*[np.ones((8, 8))] * 5)), J, "5 arrays"),
    (JOINT, J, cut(-300), J, "a broken pickle"),
    (JOINT, J, array(objects(np.ones((8, 8)), *"abcde")), "item 1", "'a'"),
    (JOINT, J, array(objects(*[np.ones(8)] * 6)), f"{FIRST}: features", "a 1-D array (8,)"),
    (JOINT, J, evil(lambda p, x: np.save(p, objects(*[x] * 6))), J, "a pickle that asks for "),
    (JOINT, SIX, os.unlink, J, "a list of arrays"),
    (JOINT, SIX, array([*NAMES[:5], FIRST]), f"videoname.npy: {FIRST}", None),
    (JOINT, SIX, evil(lambda p, x: np.save(p, objects(*[x] * 6))), SIX, "a pickle that asks for "),
]


@pytest.mark.parametrize(
    "writer, file, spoil, where, found", FILES, ids=[f"{row[1]}-{row[-1]}" for row in FILES]
)
def test_one_bad_file(tmp_path, truth, writer, file, spoil, where, found):
    (tmp_path / "set").mkdir()
    arguments = writer(tmp_path / "set", STREAMS)
    load(arguments["features"], truth)  # is sound
    spoil(tmp_path / "set" / file)
    error = refused(load, arguments["features"], truth)
    if found is not None:
        assert error.where.endswith(where) and error.found.startswith(found)
    assert where in str(error) and str(tmp_path) in error.where
    assert not (tmp_path / "executed").exists()


def test_malice_would_execute_elsewhere(tmp_path):
    """The crafted pickle of the cases does what it says where pickles are trusted."""
    pickle.loads(pickle.dumps(malice(tmp_path)))
    assert (tmp_path / "executed").exists()


def test_paths_that_are_no_features(tmp_path, truth, canonical):
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.h5").write_text("0.1, 0.2")
    (tmp_path / "none.h5").write_bytes(b"")
    h5py.File(tmp_path / "no.h5", "w").close()
    for name, found in (
        ("nowhere.h5", "no such file"),
        ("empty", "no videos, but an empty folder"),
        ("gt.json", "a file that is neither HDF5 nor NumPy"),
        ("x.h5", "a file that is neither HDF5 nor NumPy"),
        ("none.h5", "a file that is neither HDF5 nor NumPy"),
        ("no.h5", "no videos in this file"),
    ):
        for options in ({}, {"flow_features": tmp_path / name}):
            error = refused(open_features, canonical if options else tmp_path / name, **options)
            assert (error.where, error.found) == (str(tmp_path / name), found)
    assert "swapped" in refused(open_features, truth).expected
    feature_files.joint_npy(tmp_path / "two", STREAMS)
    shutil.copy(tmp_path / "two" / J, tmp_path / "two" / "Set-UNT-JOINTFeatures.npy")
    assert refused(open_features, tmp_path / "two").found.startswith("2 files")


def test_no_name_leads_out_of_the_set(tmp_path, truth, canonical):
    save(tmp_path / "secret.npy", np.ones((8, 8)))
    feature_files.lay(tmp_path / "set", "{name}.npy", STREAMS)
    for path, name in ((tmp_path / "set", "../secret"), (canonical, f"./{FIRST}")):
        source = open_features(path, streams="both")
        source.adopt([*NAMES, name])
        assert name not in source


def test_the_57th_video_is_named(tmp_path, truth):
    streams = feature_files.features([3 + i for i in range(70)])
    name = list(streams)[56]
    streams[name] = streams[name][0][:, :3], streams[name][1]
    path = feature_files.canonical(tmp_path, streams)["features"]
    database = feature_files.database(streams)
    for entry in database.values():
        entry["subset"] = "train"
    feature_files.write_json(truth, database)
    options = dict(train_subset="train", test_subset=None)
    line = str(refused(feature_files.load, path, truth, **options))
    assert f"{path}: {name}" in line and "57th" in line and "as in 69 others" in line


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="needs POSIX users")
def test_no_permission():
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folder lets nobody else in
        folder = pathlib.Path(folder)
        folder.chmod(0o755)
        path = feature_files.canonical(folder, STREAMS)["features"]
        path.chmod(0)
        user = os.geteuid()
        try:
            if user == 0:
                os.seteuid(65534)  # root may read everything
            assert refused(open_features, path).found == "no permission to read"
        finally:
            os.seteuid(user)


def test_data_destroyed_inside_hdf5(tmp_path, truth):
    """A file that opens and whose chunks do not unpack."""
    path = feature_files.canonical_gzip(tmp_path, feature_files.features((200, 200)))["features"]
    with h5py.File(path) as file:
        chunk = file[f"{FIRST}/rgb"].id.get_chunk_info(0)
    with open(path, "r+b") as file:
        file.seek(chunk.byte_offset)
        file.write(b"\xff" * chunk.size)
    error = refused(open_features(path).read, FIRST)
    assert error.where == f"{path}: {FIRST}" and error.found.startswith("broken data (")


@pytest.mark.parametrize(
    "case", [("nan", "nan in rgb"), ("cut", "broken data"), ("evil", "a pickle")]
)
def test_tools_print_one_line_and_exit_with_2(tmp_path, capsys, canonical, truth, case):
    kind, found = case
    if kind == "nan":
        put(canonical, f"{FIRST}/rgb", BAD)
    elif kind == "cut":
        cut(2000)(canonical)
    else:
        np.save(tmp_path / "all.npy", objects(malice(tmp_path)))
        canonical = tmp_path / "all.npy"
    out = tmp_path / "empty" / "out.h5"
    out.parent.mkdir()
    for tool, more in ((inspect_features, []), (convert_features, [out, "--snippet-seconds", "1"])):
        code, error = commands.stops([canonical, truth, *more], capsys, tool.main)
        last = error.splitlines()[-1]
        assert code == 2 and "Traceback" not in error
        assert last.startswith("error: ") and str(canonical) in last and found in last
    assert list(out.parent.iterdir()) == [] and not (tmp_path / "executed").exists()
