"""Stored clip scores come back as they were, or not at all."""

import multiprocessing
import resource

import h5py
import numpy as np
import pytest

from formats import clip_scores as score_file
from formats.clip_scores import Record
from formats.files import InputError


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
                "a new one": {"video": score(classes)},
                "untrimmednet": {
                    "attention": score(clips),
                    "clips": score(clips, classes),
                    "video": score(classes),
                },
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
    with h5py.File(tmp_path / "scores.h5") as file:  # HDF5 refuses a file that was cut too short
        assert list(file) == [f"{k:06d}" for k in range(n)]
    assert all(equal(a, b) for a, b in zip(written, found))
    assert all(b.scores["em-mil"]["q"].dtype == np.float32 and type(b.name) is str for b in found)


@pytest.mark.parametrize(
    "shapes",
    [[(5, 3), (4,)], [(5, 3), (4, 3)], [(5, 2)], [(5,), (4,)], [()], [(5, 3, 1)], [(3, 5)]],
)
def test_scores_of_other_shapes_are_refused_in_writing_and_in_reading(tmp_path, shapes):
    record = Record(
        "v",
        6.0,
        np.zeros(3),
        {"m": {str(i): np.zeros(shape) for i, shape in enumerate(shapes)}},
        1.25,
        2.5,
    )
    with pytest.raises(
        InputError,
        match="^v: found scores of the shapes .*, expected one number of clips and 3 classes",
    ):
        score_file.write(tmp_path / "scores.h5", [record], "abc")
    assert not list(tmp_path.iterdir())
    score_file.write(
        tmp_path / "scores.h5",
        [Record("v", 6.0, np.zeros(3), {"m": {"0": np.zeros((5, 3))}}, 1.25, 2.5)],
        "abc",
    )
    with h5py.File(tmp_path / "scores.h5", "r+") as file:
        del file["000000/m"]
        for i, shape in enumerate(shapes):
            file[f"000000/m/{i}"] = np.zeros(shape)
    with pytest.raises(InputError, match="scores.h5: v: found scores of the shapes"):
        score_file.read(tmp_path / "scores.h5")


@pytest.mark.parametrize(
    "shapes", [[(5,), (5, 3), (3,)], [(3,), (3, 3)], [(3,)], [(5,)], [(1,), (1, 3), (3,)]]
)
def test_scores_of_these_shapes_are_a_method(shapes):
    score_file.check(
        Record(
            "v",
            6.0,
            np.zeros(3),
            {"m": {str(i): np.zeros(shape) for i, shape in enumerate(shapes)}},
            1.25,
            2.5,
        )
    )


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite(tmp_path, value):
    broken = list(records(3))
    broken[1].scores["em-mil"]["p"][2, 1] = value
    with pytest.raises(
        InputError,
        match=r"^video/1 é: found 1 of 12 scores \(em-mil, p\) that are no finite numbers",
    ):
        score_file.write(tmp_path / "scores.h5", broken, "abc")
    assert not list(tmp_path.iterdir())


def test_a_source_that_fails_leaves_the_file_as_it_was(tmp_path):
    def failing():
        yield from records(2)
        raise InputError("bad video")

    score_file.write(tmp_path / "scores.h5", records(3), "abc")
    before = (tmp_path / "scores.h5").read_bytes()
    with pytest.raises(InputError, match="bad video"):
        score_file.write(tmp_path / "scores.h5", failing(), "abc")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [
        ("scores.h5", before)
    ]


def with_limits(path, limits):
    for limit in limits:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        with pytest.raises(InputError, match="scores.h5: found File too large, expected room"):
            score_file.write(path, records(10), "abc")
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


@pytest.mark.parametrize("what", ["duration", "snippet_seconds", "clip_seconds"])
def test_seconds_that_are_none_name_the_video(tmp_path, what):
    score_file.write(tmp_path / "scores.h5", records(3), "abc")
    with h5py.File(tmp_path / "scores.h5", "r+") as file:
        file["000001"].attrs[what] = -1.0
    with pytest.raises(InputError, match=f"scores.h5: video/1 é: {what}: found -1.0, expected a"):
        score_file.read(tmp_path / "scores.h5")


@pytest.mark.parametrize(
    "what",
    [
        "missing",
        "empty",
        "cut",
        "text",
        "foreign",
        "no classes",
        "a group for an array",
        "texts for scores",
        "labels of other classes",
    ],
)
def test_a_file_that_is_none(tmp_path, what):
    path = tmp_path / "scores.h5"
    score_file.write(path, records(3), "abc")
    if what in ("empty", "cut", "text"):
        path.write_bytes(
            {"empty": b"", "cut": path.read_bytes()[:3000], "text": b"q: 0.5\n" * 900}[what]
        )
    elif what == "missing":
        path.unlink()
    else:
        with h5py.File(path, "w" if what == "foreign" else "r+") as file:
            if what == "foreign":
                file["video/rgb"] = np.zeros((3, 2))
            elif what == "no classes":
                del file.attrs["classes"]
            elif what == "texts for scores":
                del file["000001/em-mil/q"]
                file["000001/em-mil/q"] = ["a", "b", "c", "d"]
            elif what == "labels of other classes":
                del file["000001/labels"]
                file["000001/labels"] = [1, 0]
            else:
                del file["000001/labels"]
                file["000001/labels/x"] = 1.0
    said = "scores.h5: found no readable clip scores .*, expected those of a finished run"
    with pytest.raises(InputError, match=said) as e:
        score_file.read(path)
    assert "\n" not in str(e.value)
