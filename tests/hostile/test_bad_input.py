"""Annotations that a run cannot use: one line that names the file and says what was found."""

import feature_files
import pytest
from errors import line_of

CHANGES = [  # arguments of dataset.load, what becomes of the training labels, what the line says
    ({"train_subset": "validation"}, False, ("found the subsets ", "(3 videos)", "'validation'")),
    ({"test_subset": "training"}, False, ("found 3 videos both in the training and in the test",)),
    ({"test_subset": None}, True, ("found no videos in the chosen subsets",)),
]


@pytest.mark.parametrize("changed, unlabelled, expected", CHANGES)
def test_subsets_that_a_run_cannot_use(tmp_path, caplog, changed, unlabelled, expected):
    streams = feature_files.features()
    database, path = feature_files.database(streams), tmp_path / "gt.json"
    arguments = dict(feature_files.canonical(tmp_path, streams), annotations=path)
    arguments.update(train_subset="train", test_subset="test")
    feature_files.write_json(path, database)
    assert feature_files.warnings(caplog, **arguments) == []  # sound but for what comes now
    for video in database.values() if unlabelled else ():
        if video["subset"] == "train":
            video["annotations"] = []
    feature_files.write_json(path, database)
    line = line_of(feature_files.load, **{**arguments, **changed})
    assert line.startswith(f"{path}: ") and all(text in line for text in expected)
