"""2,000 damaged inputs: every command ends with its result or with one line, and leaves nothing half
written.

Each input is a sound file with one change that is drawn from (kind, number): values of JSON, cells of
CSV, arrays and attributes of HDF5, bytes of everything else. (HDF5's own bytes are left alone: the
HDF5 library itself can crash on them.)
"""

import json
import shutil
import signal
import sys

import commands
import h5py
import inspect_features
import numpy as np
import pytest
import torch

import dataset
import eval_detection
import run
from formats import annotations as annotation_files
from formats.features import open_features
from formats.files import InputError

SECONDS = 20  # an input that takes longer hangs
NEAR = [None, -1, 0, 2, 1e308, "", "x", " A ", [], {}, [[]], True, 10**30, "0:30", "é\n\x1b[2J|=1"]
NEAR += [float("nan"), float("inf"), "x" * 5000, [None], {"a": 1}, [1, 2], ["A"], "nan", "1,5"]


# ---- what is changed
def change_json(path, rng):
    lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
    line = rng.integers(len(lines))
    root = {"": json.loads(lines[line])}
    spots = list(_spots(root))
    container, key = spots[rng.integers(len(spots))]
    action = rng.integers(4)
    if action == 0 and container is not root:
        del container[key]
    elif action == 1 and isinstance(container, dict) and container is not root:
        container[key[:-1] + rng.choice(["", "x", key[-1:].upper()])] = container.pop(key)
    else:
        container[key] = NEAR[rng.integers(len(NEAR))]
    lines[line] = json.dumps(root[""])
    path.write_text("\n".join(lines) + "\n")


def _spots(value):
    """(container, key) of every value within lists and dicts."""
    for key in value if isinstance(value, dict) else range(len(value)):
        yield value, key
        if isinstance(value[key], (dict, list)):
            yield from _spots(value[key])


def change_csv(path, rng):
    rows = [line.split(",") for line in path.read_text().splitlines()]
    row = rows[rng.integers(len(rows))]
    action = rng.integers(4)
    if action == 0:
        row.pop(rng.integers(len(row)))
    elif action == 1:
        row.insert(rng.integers(len(row) + 1), "x")
    elif action == 2:
        rows.insert(rng.integers(len(rows)), row)
    else:
        row[rng.integers(len(row))] = str(NEAR[rng.integers(len(NEAR))])
    path.write_text("\n".join(",".join(row) for row in rows) + "\n")


def change_hdf5(path, rng):
    with h5py.File(path, "r+") as file:
        items = []
        file.visit(items.append)
        name = sorted(items)[rng.integers(len(items))]
        places = [file, file[name]]
        attributes = [(place, key) for place in places for key in sorted(place.attrs)]
        if attributes and rng.integers(2):
            place, key = attributes[rng.integers(len(attributes))]
            del place.attrs[key]
            if rng.integers(3):
                place.attrs[key] = _values(rng)
        else:
            old = file[name]
            del file[name]
            if rng.integers(3):
                array = old[()] if isinstance(old, h5py.Dataset) else np.zeros(3)
                file[name] = _other_array(array, rng)


def _values(rng):
    choices = ["x", "", -1.0, 0, np.nan, np.inf, 1e308, np.zeros(3), b"\xff", "[]", "é\x1b["]
    return choices[rng.integers(len(choices))]


def _other_array(array, rng):
    """The array with another number, shape or type."""
    array = np.array(array)
    if array.dtype.kind not in "fiub" or not array.size:
        return np.zeros((2, 3))
    action = rng.integers(7)
    if action == 0:
        array = array.astype(np.float64)
        array.flat[rng.integers(array.size)] = [np.nan, np.inf, -1e300, -1][rng.integers(4)]
        return array
    return [array[:-1], array[None], array.T, array.astype("S4"), array[:0], array.astype("i8")][
        action - 1
    ]


def change_bytes(path, rng):
    data = bytearray(path.read_bytes())
    begin = int(rng.integers(len(data)))
    action = rng.integers(5)
    if action == 0:
        del data[begin:]
    elif action == 1:
        del data[begin : begin + int(rng.integers(1, 64))]
    elif action == 2:
        data[begin:begin] = data[: int(rng.integers(1, 64))]
    else:
        for _ in range(rng.integers(1, 8)):
            data[int(rng.integers(min(len(data), 400)))] = rng.integers(256)  # headers come first
            data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
    path.write_bytes(data)


CHANGES = {".json": change_json, ".jsonl": change_json, ".csv": change_csv, ".h5": change_hdf5}


# ---- what is read
@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A run, its set in several forms, and detections, to be copied for each input."""
    folder = tmp_path_factory.mktemp("sound")
    flags = commands.write_set(folder / "data", n_train=4, n_test=2)
    run.main([*flags, "--method", "em-mil", "untrimmednet", "--out", str(folder / "run")])
    arrays = {}
    with h5py.File(folder / "data/features.h5") as file:
        for name in file:
            arrays[name] = {stream: file[name][stream][()] for stream in ("rgb", "flow")}
    np.save(folder / "data/all.npy", arrays, allow_pickle=True)
    torch.save(
        {n: {k: torch.from_numpy(x) for k, x in of.items()} for n, of in arrays.items()},
        folder / "data/all.pt",
    )
    (folder / "data/each").mkdir()
    for name, of in arrays.items():
        np.savez(folder / "data/each" / f"{name}.npz", **of)
    database = json.loads((folder / "data/annotations.json").read_text())["database"]
    rows = ["video,subset,duration,t_start,t_end,label"]
    rows += [
        f"{name},{v['subset']},{v['duration']},{a['segment'][0]},{a['segment'][1]},{a['label']}"
        for name, v in database.items()
        for a in v["annotations"]
    ]
    (folder / "data/annotations.csv").write_text("\n".join(rows) + "\n")
    return folder


TRUTH = "data/annotations.json"


def load(argv):
    """dataset.load as a command."""
    features, annotations = argv
    try:
        truth = annotation_files.load(annotations)
        source = open_features(features, truth, snippet_seconds=0.5)
        dataset.load(source, truth, train_subset="train", test_subset="test")
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


# (name, the file that is changed, number of inputs, program, its words)
KINDS = [
    ("canonical", "data/features.h5", 150, load, ["features.h5", "annotations.json"]),
    ("dict.npy", "data/all.npy", 250, load, ["all.npy", "annotations.json"]),
    ("dict.pt", "data/all.pt", 150, load, ["all.pt", "annotations.json"]),
    ("a file a video", "data/each/video_01.npz", 150, load, ["each", "annotations.json"]),
    ("annotations.json", TRUTH, 300, load, ["features.h5", "annotations.json"]),
    ("annotations.csv", "data/annotations.csv", 200, load, ["features.h5", "annotations.csv"]),
    ("detections.json", "run/detections.json", 150, eval_detection.main, []),
    ("detections.csv", "run/detections.csv", 100, eval_detection.main, []),
    ("options", "run/opts.json", 100, run.main, ["--evaluate"]),
    ("record", "run/environment.json", 70, run.main, ["--evaluate"]),
    ("log", "run/log.jsonl", 70, run.main, ["--evaluate"]),
    ("clip scores", "run/clip_scores.h5", 150, run.main, ["--evaluate"]),
    ("checkpoint", "run/checkpoint.pt", 60, run.main, ["--predict"]),
    ("table of the run", "run/ground_truth.csv", 50, run.main, ["--evaluate"]),
    ("inspected", "data/each/video_01.npz", 50, inspect_features.main, []),
]


def test_there_are_2000_of_them():
    assert sum(kind[2] for kind in KINDS) == 2000


def argv(program, words, changed, folder):
    if program is eval_detection.main:
        return [folder / TRUTH, folder / changed]
    if program is inspect_features.main:
        return [folder / "data/each", folder / TRUTH, "--snippet-seconds", "0.5"]
    if words == ["--evaluate"]:
        return ["--evaluate", folder / "run", "--out", folder / "again"]
    if words == ["--predict"]:
        features = folder / "data/features.h5"
        return ["--predict", folder / "run", "--features", features, "--out", folder / "again"]
    return [folder / "data" / word for word in words]


@pytest.mark.slow
@pytest.mark.parametrize("name, changed, n, program, words", KINDS, ids=[k[0] for k in KINDS])
def test_damaged_inputs(name, changed, n, program, words, sound, tmp_path, capsys):
    ends = {0: 0, 2: 0}
    for number in range(n):
        folder = tmp_path / str(number)
        shutil.copytree(sound, folder)
        path = folder / changed
        rng = np.random.default_rng([len(name), n, number])
        if number:  # number 0 is sound
            CHANGES.get(path.suffix, change_bytes)(path, rng)
        signal.signal(signal.SIGALRM, _hangs)
        signal.alarm(SECONDS)
        try:
            program([str(word) for word in argv(program, words, changed, folder)])
            code = 0
        except SystemExit as stopped:
            code = stopped.code or 0
        except BaseException as error:
            raise AssertionError(f"{name} {number} in {folder}") from error
        finally:
            signal.alarm(0)
        error = capsys.readouterr().err
        assert code in (ends if number else [0]), (number, error)
        errors = [line for line in error.splitlines() if line.startswith("error: ")]
        assert len(errors) == (code == 2), (number, error)
        assert not list(folder.rglob(".*again*")) and (code == 0 or not (folder / "again").exists())
        ends[code] += 1
        shutil.rmtree(folder)
    assert ends[2]  # some are found; a zip's checksums find all


def _hangs(signum, frame):
    raise TimeoutError(f"no end after {SECONDS} s")
