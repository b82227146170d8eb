"""Stored clip scores come back as they were, or not at all."""

import multiprocessing
import os
import resource

import h5py
import numpy as np
import pytest
from errors import refused

from formats import clip_scores as score_file
from formats.clip_scores import Record
from formats.files import InputError


def record(arrays=None, name="v", labels=3):
    arrays = {"0": np.zeros((5, 3))} if arrays is None else arrays
    return Record(name, 6.0, np.zeros(labels), {"m": arrays}, 1.25, 2.5)


def records(n, clips=4, classes=3, seed=0):
    rng = np.random.default_rng(seed)

    def score(*shape):
        return rng.random(shape).astype(np.float32)

    for k in range(n):
        yield Record(
            f"video/{k} é",
            1.25 * clips - 0.1,
            score(classes) > 0.5,
            {
                "em-mil": {"q": score(clips), "p": score(clips, classes)},
                "a new one": {"video": score(classes) - 7},
                "wtalc": {"clips": score(clips, classes), "video": score(classes)},
            },
            1.25 + k,
            2.5 / (1 + k),
        )


def equal(a, b):
    if isinstance(a, Record):
        return all(equal(vars(a)[key], vars(b)[key]) for key in vars(a))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    return np.array_equal(a, b)


@pytest.mark.parametrize("n, clips, classes", [(3, 4, 3), (1, 1, 1), (0, 4, 2), (101, 2, 2)])
def test_what_is_written_is_read(tmp_path, n, clips, classes):
    names = tuple(["ü", "NA", "3"][:classes])
    written = list(records(n, clips, classes))
    score_file.write(tmp_path / "scores.h5", iter(written), names)
    found, of_file = score_file.read(tmp_path / "scores.h5")
    assert of_file == names and len(found) == n
    assert all(equal(a, b) for a, b in zip(written, found))
    assert all(b.scores["em-mil"]["q"].dtype == np.float32 and type(b.name) is str for b in found)


def test_many_classes(tmp_path):
    """An attribute of HDF5 would hold 4,093 of these."""
    names = tuple(f"class {c} {'é' * 20}" for c in range(5000))
    score_file.write(tmp_path / "scores.h5", [record({"0": np.zeros(5000)}, labels=5000)], names)
    assert score_file.read(tmp_path / "scores.h5")[1] == names


@pytest.mark.parametrize(
    "shapes",
    [[(5, 3), (4,)], [(5, 3), (4, 3)], [(5, 2)], [(5,), (4,)], [()], [(5, 3, 1)], [(3, 5)], [(0,)]],
)
def test_scores_of_other_shapes_are_refused_in_writing_and_in_reading(tmp_path, shapes):
    path, arrays = tmp_path / "scores.h5", {str(i): np.zeros(s) for i, s in enumerate(shapes)}
    error = refused(score_file.write, path, [record(arrays)], "abc")
    assert error.where == "v" and str(sorted(shapes)) in error.found
    assert not list(tmp_path.iterdir())
    score_file.write(path, [record()], "abc")
    with h5py.File(path, "r+") as file:
        del file["000000/m"]
        for name, values in arrays.items():
            file[f"000000/m/{name}"] = values
    error = refused(score_file.read, path)
    assert error.where == f"{path}: v" and str(sorted(shapes)) in error.found


@pytest.mark.parametrize(
    "shapes", [[(5,), (5, 3), (3,)], [(3,), (3, 3)], [(3,)], [(5,)], [(1,), (1, 3), (3,)]]
)
def test_scores_of_these_shapes_are_a_method(shapes):
    score_file.check(record({str(i): np.zeros(shape) for i, shape in enumerate(shapes)}))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1.01, -1e-3])
def test_scores_out_of_range(tmp_path, value):
    broken = list(records(3))
    broken[1].scores["em-mil"]["p"][2, 1] = value
    error = refused(score_file.write, tmp_path / "scores.h5", broken, "abc")
    assert error.where == "video/1 é" and "1 of 12 scores" in error.found
    assert "(em-mil, p)" in error.found and not list(tmp_path.iterdir())


def test_a_source_that_fails_leaves_the_file_as_it_was(tmp_path):
    def failing():
        yield from records(2)
        raise InputError("bad video")

    score_file.write(tmp_path / "scores.h5", records(3), "abc")
    before = (tmp_path / "scores.h5").read_bytes()
    assert refused(score_file.write, tmp_path / "scores.h5", failing(), "abc").where == "bad video"
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [
        ("scores.h5", before)
    ]


def with_limits(path, limits):
    for limit in limits:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        assert refused(score_file.write, path, records(10), "abc").found == "File too large"
    assert not list(path.parent.iterdir())


def test_no_room_at_any_point(tmp_path):
    """In a child, since the limit is for the whole process."""
    path = tmp_path / "scores.h5"
    score_file.write(path, records(10), "abc")
    size = path.stat().st_size
    path.unlink()
    limits = [0, 1, 1000, size // 2, size - 1]
    child = multiprocessing.get_context("spawn").Process(target=with_limits, args=(path, limits))
    child.start()
    child.join(120)
    assert child.exitcode == 0


# ---- what no run writes
def replace(file, name, value):
    del file[name]
    file[name] = value


def link_elsewhere(file, place):
    os.mkfifo(place)  # that HDF5 would wait for
    del file["000001/em-mil/q"]
    file["000001/em-mil/q"] = h5py.ExternalLink(place, "q")


EDITS = {
    "no classes": lambda file: file.__delitem__("classes"),
    "a class twice": lambda file: replace(file, "classes", ["a", "a", "b"]),
    "numbers for classes": lambda file: replace(file, "classes", [1, 2, 3]),
    "fewer classes": lambda file: replace(file, "classes", ["a", "b"]),
    "a video twice": lambda file: file["000001"].attrs.update(name="video/0 é"),
    "no name": lambda file: file["000001"].attrs.__delitem__("name"),
    "a group for labels": lambda file: replace(file, "000001/labels", h5py.SoftLink("/000000")),
    "other labels": lambda file: replace(file, "000001/labels", [1, 0, 2]),
    "labels that are nan": lambda file: replace(file, "000001/labels", [1, 0, np.nan]),
    "texts for scores": lambda file: replace(file, "000001/em-mil/q", ["a", "b", "c", "d"]),
    "integers for scores": lambda file: replace(file, "000001/em-mil/q", [0, 1, 0, 1]),
    "a score of 2": lambda file: replace(file, "000001/em-mil/q", [0.5, 2, 0.5, 1]),
    "no q": lambda file: file.__delitem__("000001/em-mil/q"),
    "no em-mil": lambda file: file.__delitem__("000001/em-mil"),
    "a dataset for a video": lambda file: replace(file, "000001", [1.0]),
    **{
        f"{what} of {value}": lambda file, what=what, value=value: file["000001"].attrs.update(
            {what: value}
        )
        for what in score_file.SECONDS
        for value in (0.0, -1.0, np.nan, np.inf, "long")
    },
}


@pytest.mark.parametrize("edit", EDITS)
def test_what_no_run_writes_is_one_line(tmp_path, edit):
    path = tmp_path / "scores.h5"
    score_file.write(path, records(3), "abc")
    with h5py.File(path, "r+") as file:
        EDITS[edit](file)
    error = refused(score_file.read, path)
    assert error.where.startswith(str(path))
    if edit in ("other labels", "integers for scores", "a score of 2", "no q", "no em-mil"):
        assert error.where == f"{path}: video/1 é"


@pytest.mark.parametrize("what", ["missing", "empty", "cut", "text", "a pipe", "a link to a pipe"])
def test_a_file_that_is_none(tmp_path, what):
    path = tmp_path / "scores.h5"
    score_file.write(path, records(3), "abc")
    data = {"empty": b"", "cut": path.read_bytes()[:3000], "text": b"q: 0.5\n" * 900}
    if what == "a link to a pipe":
        with h5py.File(path, "r+") as file:
            link_elsewhere(file, tmp_path / "pipe")
    elif what in data:
        path.write_bytes(data[what])
    else:
        path.unlink()
    if what == "a pipe":
        os.mkfifo(path)
    assert refused(score_file.read, path).where == str(path)
