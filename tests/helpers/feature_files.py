"""A small set of features, written in every layout that dataset.py reads: for the tests of reading
and the tools.
"""

import inspect
import json

import h5py
import numpy as np

import dataset
from formats import annotations as annotation_files
from formats.features import open_features

SECONDS = 0.5  # per clip


def load(features, annotations, *, video_labels="segments", **options):
    """dataset.load of features that are opened with options, as run.py does it."""
    truth = annotation_files.load(annotations, video_labels=video_labels)
    how = inspect.signature(open_features).parameters
    opening = {name: options.pop(name) for name in list(options) if name in how}
    return dataset.load(open_features(features, truth.path, **opening), truth, **options)


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
    save(
        folder / "Set-I3D-JOINTFeatures.npy",
        objects(*[np.concatenate(pair, 1) for pair in streams.values()]),
    )
    save(
        folder / "Set-Annotations" / "videoname.npy",
        np.array([name.encode() for name in names or streams]),
    )
    return {"features": folder / "Set-I3D-JOINTFeatures.npy"}


def joint_npy_folder(folder, streams):
    joint_npy(folder, streams)
    return {"features": folder}


def split_stream_files(folder, streams):
    for i, (name, pair) in enumerate(streams.items()):
        for stream, array in zip(("rgb", "flow"), pair):
            save(folder / ("train", "test", "val")[i % 3] / stream / f"{name}.npy", array)
    return {"features": folder}


def stream_files(folder, streams):
    for name, pair in streams.items():
        for stream, array in zip(("RGB", "flow"), pair):
            save(folder / stream / f"{name}.npy", array)
    return {"features": folder}


def side_by_side_files(folder, streams):
    for name, pair in streams.items():
        save(folder / f"{name}.npy", np.concatenate(pair, 1))
    return {"features": folder, "streams": "both"}


def split_side_by_side_files(folder, streams):
    for i, (name, pair) in enumerate(streams.items()):
        save(folder / ("train", "test")[i % 2] / f"{name}.npy", np.concatenate(pair, 1))
    return {"features": folder, "streams": "both"}


def npz_files(folder, streams):
    for name, (rgb, flow) in streams.items():
        np.savez(folder / f"{name}.npz", rgb=rgb, flow=flow)
    return {"features": folder}


def two_folders(folder, streams):
    for name, pair in streams.items():
        for stream, array in zip(("A", "B"), pair):
            save(folder / stream / f"{name}.npy", array)
    return {"features": folder / "A", "flow_features": folder / "B"}


def released_pt(folder, streams):
    import torch

    for i, (name, (rgb, flow)) in enumerate(streams.items()):
        number = i // 2
        for key, value in (
            ("X_RGB", torch.from_numpy(rgb)),
            ("X_flow", torch.from_numpy(flow)),
            ("Y_flow", torch.zeros(2)),
            ("Name_flow", name),
        ):
            place = folder / ("trainSet", "testSet")[i % 2] / key
            place.mkdir(parents=True, exist_ok=True)
            torch.save(value, place / f"{number}.pt")
    return {"features": folder}


def hdf5_side_by_side(folder, streams):
    with h5py.File(folder / "features.hdf5", "w") as file:
        for name, pair in streams.items():
            file[name] = np.concatenate(pair, 1)
    return {"features": folder / "features.hdf5", "streams": "both"}


def hdf5_single_in_group(folder, streams):
    with h5py.File(folder / "features.hdf5", "w") as file:
        for name, pair in streams.items():
            file[f"{name}/i3d_features"] = np.concatenate(pair, 1)
    return {"features": folder / "features.hdf5", "streams": "both"}


def hdf5_group_per_stream(folder, streams):
    with h5py.File(folder / "features.hdf5", "w") as file:
        for name, pair in streams.items():
            for stream, array in zip(("rgb", "flow"), pair):
                file[f"{stream}/{name}"] = array
    return {"features": folder / "features.hdf5"}


def hdf5_file_per_stream(folder, streams):
    for i, stream in enumerate(("rgb", "flow")):
        with h5py.File(folder / f"{stream}.h5", "w") as file:
            for name, pair in streams.items():
                file[name] = pair[i]
    return {"features": folder / "rgb.h5", "flow_features": folder / "flow.h5"}


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
    hdf5_single_in_group: "hdf5",
    hdf5_group_per_stream: "hdf5",
    hdf5_file_per_stream: "hdf5",
}
DECLARES_SECONDS = (canonical, canonical_gzip)
