"""The small set that the tests of reading have in common, and what a reader warned of."""

import feature_files
import pytest


@pytest.fixture
def streams():
    return feature_files.features()


@pytest.fixture
def truth(tmp_path, streams):
    return feature_files.write_json(tmp_path / "gt.json", feature_files.database(streams))


@pytest.fixture
def warned(caplog):
    """The warnings since it was last called, one text each."""

    def since():
        lines = [record.getMessage() for record in caplog.records]
        caplog.clear()
        return lines

    return since
