"""The released code beside ours where EM_MIL_RELEASE names a clone of it; else what it refuses."""

import os
import sys
from pathlib import Path

import check_release
import pytest
from commands import refused

RELEASE = os.environ.get("EM_MIL_RELEASE")
OTHER = {
    "an error": (
        "raise RuntimeError('two\\nlines')",
        "found code that stops with RuntimeError: two",
    ),
    "an end": ("import sys; sys.exit(0)", "found code that stops with SystemExit: 0"),
    "nothing": ("", "found code that stops with AttributeError"),
}


def fails(folder, capsys):
    return refused([folder, "--videos", 2, "--test-videos", 1], capsys, check_release.main)


def test_no_such_folder_and_folders_without_the_files(tmp_path, capsys):
    (tmp_path / "main.py").touch()
    for folder, found in (
        (tmp_path / "none", "found no such folder"),
        (tmp_path / "main.py", "found no such folder"),
        (tmp_path, "found no main_unt.py"),
    ):
        line = fails(folder, capsys)
        assert line.startswith(f"error: {folder}: {found}") and check_release.URL in line


@pytest.mark.parametrize("name", OTHER)
def test_other_code_in_files_of_these_names(tmp_path, capsys, name):
    """Our own modules of the same names come back, and the folder is left as it was."""
    code, found = OTHER[name]
    for file in check_release.FILES:
        (tmp_path / f"{file}.py").write_text(code)
    modules, path, files = dict(sys.modules), list(sys.path), sorted(tmp_path.iterdir())
    assert fails(tmp_path, capsys).startswith(f"error: {tmp_path}: {found}")
    assert {file: sys.modules.get(file) for file in check_release.FILES} == {
        file: modules.get(file) for file in check_release.FILES
    }
    assert sys.path == path and sorted(tmp_path.iterdir()) == files
    assert not sys.modules.keys() & check_release.ABSENT.keys() - modules.keys()


@pytest.mark.slow
@pytest.mark.skipif(not RELEASE, reason="EM_MIL_RELEASE names no clone of the released code")
def test_the_released_code_gives_the_same_weights_and_segments(capsys):
    sizes = ["--videos", "10", "--test-videos", "60", "--dim", "16"]
    before = sorted(Path(RELEASE).rglob("*"))
    rows = {
        row.split(",")[0] if row.startswith("UntrimmedNet as") else row: figure
        for row, figure in check_release.main([RELEASE, *sizes])["float64"].items()
    }
    assert sorted(Path(RELEASE).rglob("*")) == before
    assert rows["EM-MIL, weights after 65 epochs, gradients None"] < 1e-12
    assert rows["EM-MIL, weights after 65 epochs, gradients zeroed"] > 1e-3
    assert rows["UntrimmedNet, weights after 45 epochs, sign of the loss turned"] < 1e-12
    assert rows["UntrimmedNet as published"] <= 2  # of 10: it learns to rank true classes last
    assert rows["segments of the released code"] > 50
    assert rows["of these, not found by this program"] == 0
    alone = {row.split(": ")[1]: n for row, n in rows.items() if "alone" in row}
    assert alone.pop("others") == 0 and len(alone) == 2 and min(alone.values()) > 0
    assert "supplied: module check_untrimmed, because" in capsys.readouterr().out
