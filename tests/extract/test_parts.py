"""Finished videos until they are joined: damaged ones, other settings, other processes, what killed
processes leave."""

import errno
import fcntl
import io
import json

import h5py
import numpy as np
import pytest
from errors import line_of

from extract import parts
from formats import features

SETTINGS = {"fps": "5", "clip": 3, "step": 2, "rgb_weights_sha256": "0", "flow_weights_sha256": "1"}
LONG = "\u9577" * 83


@pytest.fixture
def out(tmp_path):
    return tmp_path / "o.h5"


def array(value):
    return np.full((2, 4), value, np.float32)


def make(out, *names):
    """Writes the parts of videos as the tool does."""
    for name in names:
        with parts.claimed(out, SETTINGS, name) as mine:
            assert mine
            parts.write(out, name, {"rgb": array(len(name)), "flow": array(-len(name))})


def joined(out, *names):
    """`out` holds these videos, and nothing is beside it."""
    assert list(out.parent.iterdir()) == [out]
    with h5py.File(out) as file:
        assert sorted(file) == sorted(names)
        for name in names:
            np.testing.assert_array_equal(file[name]["rgb"], array(len(name)))
            np.testing.assert_array_equal(file[name]["flow"], array(-len(name)))
        return dict(file.attrs)


def test_parts_become_the_file(out):
    names = "b", "test.1", "test 1", LONG, LONG + "1"
    make(out, *names)
    assert parts.finished(out, SETTINGS, [*names, "a"]) == set(names) and not out.exists()
    parts.join(out, SETTINGS)
    about = joined(out, *names)
    assert about["snippet_seconds"] == 0.4 and about["clip_seconds"] == 0.6
    assert parts.finished(out, SETTINGS, []) == set(names)


def test_more_videos_give_the_bytes_of_one_call(out):
    make(out, "a", "b", "c")
    parts.join(out, SETTINGS)
    whole = out.read_bytes()
    out.unlink()
    for names in ("c", "ab"):
        make(out, *names)
        parts.join(out, SETTINGS)
    assert out.read_bytes() == whole


def npy():
    stream = io.BytesIO()
    np.save(stream, array(1))
    return stream.getvalue()


def flipped(data):
    middle = data.index(array(1).tobytes())
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


DAMAGES = {
    "empty": lambda data: b"",
    "cut": lambda data: data[:-9],
    "bit": flipped,
    "name": lambda data: data.replace(b"flow.npy", b"flox.npy"),
    "text": lambda data: b"x",
    "npy": lambda data: npy(),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_part_is_made_again(out, caplog, damage):
    make(out, "a", "b")
    part = out.with_name("o.h5.parts") / "a.npz"
    part.write_bytes(damage(part.read_bytes()))
    assert parts.finished(out, SETTINGS, "ab") == {"b"} and not part.exists()
    assert [record.getMessage().split(": ")[0] for record in caplog.records] == [str(part)]
    make(out, "a")
    parts.join(out, SETTINGS)
    joined(out, "a", "b")


# ------------------------------------------------------------------------ other settings
def test_other_settings_are_refused(out):
    make(out, "a")
    for other in ({**SETTINGS, "fps": "6"}, {**SETTINGS, "crop": "resize"}):
        line = line_of(parts.claimed(out, other, "b").__enter__)
        assert str(out.with_name("o.h5.parts") / "settings.json") in line
    assert "found features with fps '5', expected 6" in line_of(
        parts.check, out, {**SETTINGS, "fps": "6"}
    )
    parts.join(out, SETTINGS)
    assert str(out) in line_of(parts.check, out, {**SETTINGS, "fps": "6"})
    joined(out, "a")


@pytest.mark.parametrize("text", ["[]", '"x"', "3", "", None])
def test_settings_that_are_none(out, text):
    make(out, "a")
    file = out.with_name("o.h5.parts") / "settings.json"
    file.unlink()
    if text is not None:
        file.write_text(text)
    assert str(file) in line_of(parts.check, out, SETTINGS)


def test_settings_of_a_call_that_finished_no_video(out):
    file = out.with_name("o.h5.parts") / "settings.json"
    file.parent.mkdir()
    file.write_text('{"fps": "6"}')
    make(out, "a")
    assert json.loads(file.read_text()) == SETTINGS


def test_features_that_others_made(out):
    np.save(out.with_suffix(".npy"), array(1))
    assert features.extract_settings(out.with_suffix(".npy")) is None
    assert features.extract_settings(out.parent) is None
    with h5py.File(out, "w") as file:
        file["a/rgb"] = array(1)
    assert features.extract_settings(out) is None
    assert str(out) in line_of(parts.check, out, SETTINGS)
    for about in ("[]", "x", 3):
        with h5py.File(out, "w") as file:
            file.attrs["extract_settings"] = about
        assert str(out) in line_of(features.extract_settings, out)


def test_a_broken_group_in_the_output(out):
    make(out, "a")
    parts.join(out, SETTINGS)
    with h5py.File(out, "a") as file:
        del file["a"]["flow"]
    make(out, "b")
    assert f"{out}: a: found broken data" in line_of(parts.join, out, SETTINGS)


# ------------------------------------------------------------------------ other processes
def test_a_video_is_made_by_one_process(out):
    with parts.claimed(out, SETTINGS, "a") as mine:
        with parts.claimed(out, SETTINGS, "a") as second:
            assert mine and not second
        make(out, "b")
        assert "another process that makes a" in line_of(parts.join, out, SETTINGS)
    parts.join(out, SETTINGS)
    joined(out, "b")


def test_what_killed_processes_leave_goes_and_what_a_living_one_writes_stays(out):
    make(out, "c")
    folder = out.with_name("o.h5.parts")
    left = [folder / name for name in (".a.12345678.npz", ".settings.12345678.json", "a.lock")]
    left += [folder / ".gone.12345678.npz", folder / "gone.lock", out.with_name(".o.12345678.h5")]
    for path in left:
        path.touch()
    with parts.claimed(out, SETTINGS, "b"):
        living = folder / ".b.12345678.npz"
        living.touch()
        make(out, "a")
        assert not left[0].exists() and not left[2].exists() and living.exists()
    parts.join(out, SETTINGS)
    joined(out, "a", "c")


def test_nothing_stays_of_a_video_that_was_not_finished(out):
    with pytest.raises(KeyboardInterrupt), parts.claimed(out, SETTINGS, "a"):
        raise KeyboardInterrupt
    assert list(out.parent.iterdir()) == []


def test_a_file_system_without_locks(out, caplog, monkeypatch):
    def flock(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", flock)
    make(out, "a", "b")
    assert "no locks on this file system" in caplog.text
    monkeypatch.undo()
    parts.join(out, SETTINGS)
    joined(out, "a", "b")


def test_a_lock_that_may_not_be_opened_is_an_error(out):
    make(out, "a")
    (out.with_name("o.h5.parts") / "b.lock").mkdir()
    with pytest.raises(OSError), parts.claimed(out, SETTINGS, "b"):
        pass
