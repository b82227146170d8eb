"""A small set of features, written in every layout that dataset.py reads: for the tests of reading
and the tools.
"""

import inspect
import json
import pickle

import h5py
import numpy as np
import torch

import dataset
from formats import annotations as annotation_files
from formats.features import open_features

SECONDS = 0.5  # per clip


def load(features, annotations, *, video_labels="segments", **options):
    """dataset.load of features that are opened with options, as run.py does it."""
    truth = annotation_files.load(annotations, video_labels=video_labels)
    how = inspect.signature(open_features).parameters
    opening = {name: options.pop(name) for name in list(options) if name in how}
    return dataset.load(open_features(features, truth, **opening), truth, **options)


def warnings(caplog, *arguments, **options):
    """What `load` warns of: a list of lines."""
    caplog.clear()
    load(*arguments, **options)
    return list(caplog.messages)


def videos(data):
    """{name: Video} of both subsets."""
    return {video.name: video for video in (*data.train, *data.test)}


def features(lengths=(8, 1, 12, 9, 30, 7), widths=(4, 4), seed=0):
    """{video: (rgb (T, D), flow (T, D'))} float32; the names are out of alphabetical order."""
    rng = np.random.default_rng(seed)
    return {
        f"v{(617 * i + 3) % 1000:03d}": tuple(
            rng.normal(size=(t, width)).astype(np.float32) for width in widths
        )
        for i, t in enumerate(lengths)
    }


def database(streams):
    """ActivityNet's database of them: classes b and a, every other video for the test, exact
    durations.
    """
    return {
        name: {
            "subset": ("train", "test")[i % 2],
            "duration": len(rgb) * SECONDS,
            "annotations": [{"label": "ba"[i // 2 % 2], "segment": [0.0, len(rgb) * SECONDS / 2]}],
        }
        for i, (name, (rgb, _)) in enumerate(streams.items())
    }


def write_json(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"database": content}))
    return path


def objects(*values):
    """An object array (N,) of anything, arrays of equal shape included."""
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array)


def lay(folder, pattern, streams):
    """Write the set by a pattern FILE or FILE:KEY, in which {name}, {stream}, {STREAM}, {Stream},
    {subset} and {k} (of 3 classes) stand for a part of each path; without a stream, both lie side
    by side. A key A/B is a dict in a dict, in HDF5 a group.
    """
    files = {}
    for i, (name, pair) in enumerate(streams.items()):
        words = dict(name=name, subset=("train", "test")[i % 2], k=i % 3)
        parts = zip(("rgb", "flow"), pair)
        for stream, array in parts if "{stream" in pattern.lower() else [("", np.hstack(pair))]:
            words.update(stream=stream, STREAM=stream.upper(), Stream=stream.title())
            file, _, key = pattern.format(**words).partition(":")
            files.setdefault(file, {})[key] = array
    for file, arrays in files.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        write_file(folder / file, arrays)


def write_file(path, arrays):
    """A file of {key: array}, or of the one array under the key ""."""
    if path.suffix == ".h5":
        with h5py.File(path, "w") as file:
            for key, array in arrays.items():
                file[key] = array
        return
    content = arrays.get("", {})
    for key, array in arrays.items() if "" not in arrays else ():
        *outer, last = key.split("/")
        place = content
        for step in outer:
            place = place.setdefault(step, {})
        place[last] = array
    if path.suffix == ".npz":
        np.savez(path, **content) if isinstance(content, dict) else np.savez(path, content)
    elif path.suffix == ".pt":
        torch.save(tensors(content), path)
    elif path.suffix == ".pkl":
        path.write_bytes(pickle.dumps(content))
    else:
        np.save(path, np.array(content, object) if isinstance(content, dict) else content)


def tensors(content):
    if isinstance(content, dict):
        return {key: tensors(value) for key, value in content.items()}
    return torch.from_numpy(content)


def by_pattern(pattern, features="", **options):
    """A writer (folder, streams) -> arguments of `load`."""

    def writer(folder, streams):
        lay(folder, pattern, streams)
        if "{stream" not in pattern.lower():
            options["streams"] = "both"
        return {"features": folder / features, **options}

    writer.__name__ = pattern
    return writer


def canonical(folder, streams, snippet_seconds=SECONDS, **options):
    with h5py.File(folder / "features.h5", "w") as file:
        if snippet_seconds is not None:
            file.attrs["snippet_seconds"] = snippet_seconds
        for name, (rgb, flow) in streams.items():
            file.create_dataset(f"{name}/rgb", data=rgb, **options)
            file.create_dataset(f"{name}/flow", data=flow, **options)
    return {"features": folder / "features.h5"}


def canonical_gzip(folder, streams):
    return canonical(folder, streams, compression="gzip", shuffle=True)


def joint_npy(folder, streams, names=None):
    arrays = objects(*[np.concatenate(pair, 1) for pair in streams.values()])
    save(folder / "Set-I3D-JOINTFeatures.npy", arrays)
    names = np.array([name.encode() for name in names or streams])
    save(folder / "Set-Annotations" / "videoname.npy", names)
    return {"features": folder / "Set-I3D-JOINTFeatures.npy"}


def joint_npy_folder(folder, streams):
    joint_npy(folder, streams)
    return {"features": folder}


def two_folders(folder, streams):
    lay(folder, "{stream}/{name}.npy", streams)
    for stream, place in (("rgb", "A"), ("flow", "B")):
        (folder / stream).rename(folder / place)
    return {"features": folder / "A", "flow_features": folder / "B"}


def hdf5_file_per_stream(folder, streams):
    lay(folder, "{stream}.h5:{name}", streams)
    return {"features": folder / "rgb.h5", "flow_features": folder / "flow.h5"}


def released_pt(folder, streams):
    for i, (name, (rgb, flow)) in enumerate(streams.items()):
        place = folder / ("trainSet", "testSet")[i % 2]
        parts = {"X_RGB": torch.from_numpy(rgb), "X_flow": torch.from_numpy(flow)}
        for key, value in {**parts, "Y_flow": torch.zeros(2), "Name_flow": name}.items():
            (place / key).mkdir(parents=True, exist_ok=True)
            torch.save(value, place / key / f"{i // 2}.pt")
    return {"features": folder}


stream_files = by_pattern("{stream}/{name}.npy")
split_stream_files = by_pattern("{subset}/{stream}/{name}.npy")
side_by_side_files = by_pattern("{name}.npy")
split_side_by_side_files = by_pattern("{subset}/{name}.npy")
npz_files = by_pattern("{name}.npz:{stream}")
hdf5_side_by_side = by_pattern("features.h5:{name}", "features.h5")

# writer: the layout that it is
LAYOUTS = {
    canonical: "canonical",
    canonical_gzip: "canonical",
    joint_npy: "joint-npy",
    joint_npy_folder: "joint-npy",
    split_stream_files: "per-video",
    stream_files: "per-video",
    side_by_side_files: "per-video",
    split_side_by_side_files: "per-video",
    npz_files: "per-video",
    two_folders: "per-video",
    released_pt: "released-pt",
    hdf5_side_by_side: "hdf5",
    by_pattern("features.h5:{name}/i3d_features", "features.h5"): "hdf5",
    by_pattern("features.h5:{stream}/{name}", "features.h5"): "hdf5",
    hdf5_file_per_stream: "hdf5",
}
DECLARES_SECONDS = (canonical, canonical_gzip)
