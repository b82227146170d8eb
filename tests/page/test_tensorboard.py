import sys

import pytest
import synthetic_page as synthetic

from formats.files import InputError
from report import tensorboard


class Writer:
    """Takes what a SummaryWriter would write."""

    def __init__(self, folder):
        self.folder, self.written, self.closed = folder, [], False
        Writer.last = self

    def add_scalar(self, name, value, step):
        self.written.append((name, value, step))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.closed = True


def test_scalars_of_a_log(tmp_path, monkeypatch):
    module = type(sys)("torch.utils.tensorboard")
    module.SummaryWriter = Writer
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    tensorboard.write_scalars(tmp_path, synthetic.LOG)
    written = Writer.last.written
    assert Writer.last.folder == str(tmp_path) and Writer.last.closed
    assert [row for row in written if row[0] == "untrimmednet/loss mil"] == [
        ("untrimmednet/loss mil", 2.0, 1),
        ("untrimmednet/loss mil", 1.0, 2),
        ("untrimmednet/loss mil", 2 / 3, 3),
    ]
    assert [row for row in written if row[0] == "em-mil/M loss rgb"] == [
        ("em-mil/M loss rgb", 1.0, 1),
        ("em-mil/M loss rgb", 1.0, 2),
        ("em-mil/M loss rgb", 1 / 3, 5),
        ("em-mil/M loss rgb", 1 / 3, 6),
    ]
    assert [row for row in written if "changed" in row[0]] == [
        ("em-mil/M changed", 0.25, 5),
        ("em-mil/M changed", 0.25, 6),
    ]


def test_a_missing_package_is_one_line_with_the_command(tmp_path, monkeypatch):
    for name in ("torch.utils.tensorboard", "tensorboardX"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match="pip install tensorboard"):
        tensorboard.write_scalars(tmp_path / "events", synthetic.LOG)
    assert not (tmp_path / "events").exists()


def test_the_packages_own_reader_finds_the_scalars(tmp_path):
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="no package tensorboard"
    )
    tensorboard.write_scalars(tmp_path, synthetic.LOG)
    events = accumulator.EventAccumulator(str(tmp_path))
    events.Reload()
    assert [event.step for event in events.Scalars("em-mil/E loss rgb")] == [3, 4]
    assert [event.value for event in events.Scalars("em-mil/E loss rgb")] == [0.5, 0.5]
