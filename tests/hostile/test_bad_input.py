"""The catalogue of malformed annotations: each case ends in one line that names the file and says
what was found.

A case writes something wrong into a folder that holds a sound canonical set, and changes the
arguments of dataset.load.
"""

import json
import os
import pathlib
import tempfile

import feature_files
import pytest
from errors import line_of

FIRST = next(iter(feature_files.features()))  # a training video
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


def edit(arguments, change):
    """Change the annotation file through a function of its content."""
    content = json.loads(arguments["annotations"].read_text())
    change(content["database"])
    arguments["annotations"].write_text(json.dumps(content))


@case("nowhere.json: found no such file")
def missing_annotations(folder, arguments):
    arguments["annotations"] = folder / "nowhere.json"


@case("features.h5: found no features for 6 of 6 videos of ")
def features_of_other_videos(folder, arguments):
    edit(
        arguments,
        lambda database: [
            database.update({f"x{name}": database.pop(name)}) for name in list(database)
        ],
    )


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
def test_bad_input(tmp_path, arguments, function, expected, caplog):
    # the set is sound but for what the case does to it
    assert feature_files.warnings(caplog, **arguments) == []
    function(tmp_path, arguments)
    line = line_of(feature_files.load, **arguments)
    for text in expected:
        assert text in line


def test_every_case_has_its_name():
    assert len({case.id for case in CASES}) == len(CASES)


# ------------------------------------------------------------------------------------------------
# beyond the arguments


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="needs POSIX users")
def test_no_permission():
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folder lets nobody else in
        folder = pathlib.Path(folder)
        folder.chmod(0o755)
        streams = feature_files.features()
        paths = feature_files.canonical(folder, streams)
        truth = feature_files.write_json(folder / "gt.json", feature_files.database(streams))
        truth.chmod(0)
        user = os.geteuid()
        try:
            if user == 0:
                os.seteuid(65534)  # root may read everything
            line = line_of(
                feature_files.load,
                **paths,
                annotations=truth,
                train_subset="train",
                test_subset="test",
            )
            assert "gt.json: found no permission to read" in line
        finally:
            os.seteuid(user)
