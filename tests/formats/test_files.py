"""Names of files from names in the data, temporary files of killed processes, folders with links,
damaged .pt files."""

import os
import tempfile
from pathlib import Path

import pytest
import torch
from errors import line_of

from formats import files


def test_file_names():
    for name in ("video_test_0000004", "test.1", "test 1", "v_-abc", "\u6f22" * 50):
        assert files.file_name(name, ".npz") == f"{name}.npz"
    long = "\u6f22" * 60
    odd = [
        long,
        long + "1",
        "a/b",
        "a\\b",
        "a?b",
        "a~b",
        ".a",
        "..",
        " a",
        "a.",
        "",
        "\udce9",
        "\n",
    ]
    names = [*odd, "a_b", files.file_name(long), files.file_name("a/b")]
    made = [files.file_name(name, ".npz") for name in names]
    assert len({name.lower() for name in made}) == len(names)
    for name in made:
        assert len(name) <= 54 and len(name.encode()) <= 204 and not name.startswith((".", " "))
        assert not set(name) & set('/\\:*?"<>|\n')
    assert made[2].startswith("a_b~") and made[0].startswith("\u6f22" * 33 + "~")


def test_what_killed_processes_left_of_a_file_is_swept(tmp_path):
    name = "[x]" * 20
    others = [tmp_path / other for other in (name + "1.h5", "[x].h5", "x.json")]
    left = []
    for path in (tmp_path / f"{name}.h5", *others):
        writing = files.write_atomically(path)
        left.append((writing, writing.__enter__()))  # kept: its end would remove the file
    files.sweep(tmp_path / f"{name}.h5")
    assert [path.exists() for _, path in left] == [False, True, True, True]


def test_a_folder_is_read_once_whatever_links_to_it(tmp_path):
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/v.mp4").touch()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "w.mp4").touch()
    (tmp_path / "a/elsewhere").symlink_to(elsewhere)
    for link in ("one", "two"):
        (tmp_path / "a" / link).symlink_to(tmp_path / "a")
    found = sorted(files.files_below(tmp_path / "a"))
    assert found == [tmp_path / "a/b/v.mp4", tmp_path / "a/elsewhere/w.mp4"]


def test_a_folder_that_cannot_be_read():
    with tempfile.TemporaryDirectory() as place:  # pytest's own folder lets nobody else in
        place, user, said = Path(place), os.geteuid(), []
        place.chmod(0o755)
        (place / "v.mp4").touch()
        (place / "closed").mkdir(mode=0)
        try:
            if user == 0:
                os.seteuid(65534)  # root may read everything
            assert list(files.files_below(place, said.append)) == [place / "v.mp4"]
            with pytest.raises(PermissionError):
                list(files.files_below(place / "closed"))
        finally:
            os.seteuid(user)
        assert [error.filename for error in said] == [str(place / "closed")]


# ------------------------------------------------------------------------ .pt
@pytest.mark.parametrize(
    "damage, found",
    [("bit", "damaged bytes in"), ("version", "zip file version 25.5"), ("name", "can't decode")],
)
def test_a_damaged_archive(tmp_path, damage, found):
    """PyTorch itself reads a file with a flipped bit."""
    path = tmp_path / "0.pt"
    torch.save({"x": torch.full((500,), 3.0)}, path)
    data = bytearray(path.read_bytes())
    entry = data.index(b"PK\x01\x02")  # of the archive's table of contents
    if damage == "bit":
        data[data.index(b"\x00\x00\x40\x40" * 100) + 50] ^= 1
    elif damage == "version":
        data[entry + 6] = 255
    else:
        data[entry + 9] |= 8  # the name is UTF-8
        data[entry + 46] = 0xFF
    path.write_bytes(data)
    if damage == "bit":
        assert not torch.load(path, weights_only=True)["x"].eq(3).all()
    assert found in line_of(files.load_pt, path)


def test_lists_without_an_end(tmp_path):
    path = tmp_path / "0.pt"
    endless = [torch.zeros(2)]
    endless.append(endless)
    torch.save(endless, path)
    assert files.load_pt(path)[0].equal(torch.zeros(2))
    deep = [torch.zeros(2)]
    for _ in range(60):
        deep = [deep, deep]
    torch.save(deep, path)
    assert len(files.load_pt(path)) == 2
