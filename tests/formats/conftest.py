"""The small set that the tests of reading have in common."""

import feature_files
import pytest


@pytest.fixture
def streams():
    return feature_files.features()


@pytest.fixture
def truth(tmp_path, streams):
    return feature_files.write_json(tmp_path / "gt.json", feature_files.database(streams))
