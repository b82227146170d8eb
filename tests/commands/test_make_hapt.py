"""The set of motion recordings from a tiny archive of the same form; values worked out by hand."""

import hashlib
import json
import runpy
import zipfile

import commands
import h5py
import make_hapt
import numpy as np
import pytest
from places import SHARED

import dataset

NAMES = ["hapt_exp01_user01_000", "hapt_exp01_user01_001", "hapt_exp02_user02_000"]
# experiment, person, activity, first sample, last sample (50 a second; an excerpt is 1500)
LABELS = [
    (1, 1, 5, 250, 1475),
    (1, 1, 7, 1475, 1524),
    (1, 1, 4, 1524, 3050),
    (2, 2, 1, 100, 125),
    (2, 2, 4, 200, 224),
]
ACTIVITIES = (
    "1 WALKING           \n4 SITTING           \n5 STANDING          \n7 STAND_TO_SIT      \n\n"
)


def constant(*pieces):
    """Samples (n, 3) of pieces (n, value): x is the value, y and z are 0."""
    return np.concatenate([np.tile([value, 0.0, 0.0], (n, 1)) for n, value in pieces])


# Person 1 is for training: x is 1 in one excerpt and 3 in the next, 100 samples are left over.
# Person 2 is for the test: x is 2.5 in one excerpt, 1499 samples are left over.
SIGNALS = {
    "acc_exp01_user01": constant((1500, 1), (1500, 3), (100, 50)),
    "gyro_exp01_user01": constant((3100, 0)),
    "acc_exp02_user02": constant((1500, 2.5), (1499, 50)),
    "gyro_exp02_user02": constant((2999, 1)),
}


def archive(folder, signals=SIGNALS, labels=LABELS):
    """An unpacked archive in `folder`; returns it."""
    (folder / "RawData").mkdir(parents=True)
    (folder / "activity_labels.txt").write_text(ACTIVITIES)
    np.savetxt(folder / "RawData" / "labels.txt", labels, "%d")
    for name, signal in signals.items():
        np.savetxt(folder / "RawData" / f"{name}.txt", signal, "%.17g")
    return folder


def zipped(folder, top):
    """The archive as a zip whose files lie in a folder `top`."""
    path = folder.parent / "hapt.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for source in folder.rglob("*.txt"):
            file.write(source, f"{top}{source.relative_to(folder)}")
    return path


def make(source, out):
    """(annotations, {name: (rgb, flow)} as stored) of the set made from an archive."""
    make_hapt.main([str(source), str(out)])
    return stored(out)


def stored(folder):
    with h5py.File(folder / "features.h5") as file:
        assert file.attrs["snippet_seconds"] == 0.64
        streams = {name: (group["rgb"][()], group["flow"][()]) for name, group in file.items()}
    return json.loads((folder / "annotations.json").read_text()), streams


def fails(source, out, capsys):
    """The one line of an error."""
    (line,) = commands.refused([source, out], capsys, make_hapt.main).splitlines()
    assert not (out / "features.h5").exists()
    return line


# -------------------------------------------------------------------------------------- statistics


def test_statistics_of_a_ramp():
    i = np.arange(128.0)  # the vector's length is 5 i
    table = make_hapt.window_statistics(np.stack([3 * i, 4 * i, np.full(128, 0.0)], axis=1))
    assert table.shape == (3, 111) and table.dtype == np.float32
    slopes = np.array([3, 4, 0, 5])
    k = np.arange(1, 17)[:, None]
    for row, first in zip(table, (0, 32, 64)):  # the windows 0..63, 32..95, 64..127
        expected = [
            slopes * (first + 31.5),  # mean
            slopes * np.sqrt((64**2 - 1) / 12),  # standard deviation of 0..63
            slopes * first,
            slopes * (first + 63),  # minimum, maximum
            *(slopes * (first + 63 * part) for part in (0.1, 0.25, 0.5, 0.75, 0.9)),
            np.log(1 + slopes * 32 / np.sin(np.pi * k / 64)).ravel(),  # |FFT of 0..63|
            slopes,
            slopes * 32,  # step; second half minus first half
            [1, 0, 0],  # correlations xy, xz, yz
        ]
        np.testing.assert_allclose(row, np.concatenate(expected), rtol=1e-6, atol=1e-6)


def test_a_wave_is_found_at_its_frequency_and_has_no_correlation_with_one_shifted_by_a_quarter():
    angle = 2 * np.pi * 3 * np.arange(64) / 64  # 3 periods a window
    (row,) = make_hapt.window_statistics(
        np.stack([np.sin(angle), np.cos(angle), -np.sin(angle)], axis=1)
    )
    spectrum = row[36:100].reshape(16, 4)  # after 9 statistics of 4 signals
    expected = np.zeros((16, 3))
    expected[2] = np.log(33)  # amplitude 64 / 2
    np.testing.assert_allclose(spectrum[:, :3], expected, atol=1e-6)
    np.testing.assert_allclose(row[108:], [0, -1, 0], atol=3e-6)


@pytest.mark.parametrize("samples, clips", [(64, 1), (95, 1), (96, 2), (1500, 45)])
def test_number_of_clips(samples, clips):
    assert make_hapt.window_statistics(np.zeros((samples, 3))).shape == (clips, 111)


# ----------------------------------------------------------------------------------------- the set


def test_features_are_standardised_on_the_training_people_and_cut_to_8(tmp_path):
    _, streams = make(archive(tmp_path / "raw"), tmp_path / "out")
    assert list(streams) == NAMES
    assert {(x.shape, x.dtype) for pair in streams.values() for x in pair} == {
        ((45, 111), np.dtype(np.float16))
    }
    # x is 1 and 3 in training: mean 2, standard deviation 1. In the test excerpt x is 2.5.
    for name, value in zip(NAMES, (-1, 1, 0.5)):
        rgb = streams[name][0]
        # mean, minimum, maximum of x and of the length; percentiles of x
        for column in (0, 3, 8, 11, 12, 15, *range(16, 36, 4)):
            np.testing.assert_array_equal(rgb[:, column], np.full(45, value, np.float16))
        np.testing.assert_array_equal(rgb[:, [1, 2, 4, 5, 9, 10]], np.zeros((45, 6)))
    # The gyroscope's x is 0 in training and 1 in the test excerpt: 1 / 1e-6 is cut to 8.
    assert [streams[name][1][0, 0] for name in NAMES] == [0, 0, 8]


def test_annotations(tmp_path, capsys):
    content, _ = make(archive(tmp_path / "raw"), tmp_path / "out")
    assert content["version"] == "HAPT raw, 30s excerpts"
    assert content["database"] == {
        NAMES[0]: {
            "subset": "train",
            "duration": 30.0,
            "annotations": [  # 25 samples are kept
                {"label": "STANDING", "segment": [5.0, 29.5]},
                {"label": "STAND_TO_SIT", "segment": [29.5, 30.0]},
            ],
        },
        NAMES[1]: {
            "subset": "train",
            "duration": 30.0,
            "annotations": [  # 24 samples are not; the end is cut
                {"label": "SITTING", "segment": [0.48, 30.0]}
            ],
        },
        NAMES[2]: {
            "subset": "test",
            "duration": 30.0,
            "annotations": [{"label": "WALKING", "segment": [2.0, 2.5]}],
        },
    }
    counts, *sums, licence = capsys.readouterr().out.splitlines()
    assert "3 excerpts of 30 s, 2 to train and 1 to test; 0 without a label" in counts
    for line, name in zip(sums, ("features.h5", "annotations.json"), strict=True):
        data = (tmp_path / "out" / name).read_bytes()
        assert line == f"{tmp_path / 'out' / name}: SHA-256 {hashlib.sha256(data).hexdigest()}"
    assert "Reyes-Ortiz" in licence and "prohibit commercial use" in licence


def test_the_set_can_be_loaded(tmp_path, caplog):
    make(archive(tmp_path / "raw"), tmp_path / "out")
    data = dataset.load(
        tmp_path / "out" / "features.h5",
        tmp_path / "out" / "annotations.json",
        train_subset="train",
        test_subset="test",
    )
    assert [video.name for video in (*data.train, *data.test)] == NAMES
    assert (data.snippet_seconds, data.clip_seconds) == (0.64, 1.28)
    assert not any("GEOMETRY" in note for note in caplog.messages)


@pytest.mark.parametrize("top", ["", "HAPT Data Set/"])
def test_the_zip_gives_the_same_set(tmp_path, top):
    folder = archive(tmp_path / "raw")
    content, streams = make(folder, tmp_path / "out")
    again, others = make(zipped(folder, top), tmp_path / "zip")
    assert again == content and list(others) == list(streams)
    np.testing.assert_array_equal(
        [others[name] for name in NAMES], [streams[name] for name in NAMES]
    )


def test_equal_to_the_script_that_cut_the_measured_set(tmp_path):
    script = SHARED / "make_hapt.py"
    if not script.is_file():
        pytest.skip("the script lies beside the repository")
    rng = np.random.default_rng(0)
    people, signals, labels = {1: 1, 2: 2, 3: 2, 4: 30, 5: 24}, {}, []
    for experiment, person in people.items():
        n = int(rng.integers(1400, 5000))
        for sensor in ("acc", "gyro"):
            signals[f"{sensor}_exp{experiment:02d}_user{person:02d}"] = (
                rng.normal(size=(n, 3)).cumsum(axis=0) * 0.01
            )
        ends = np.sort(rng.integers(0, n, 12))
        labels += [
            (experiment, person, rng.choice([1, 4, 5, 7]), *pair)
            for pair in zip(ends[:-1], ends[1:])
        ]
    folder = archive(tmp_path / "raw", signals, labels)
    content, streams = make(folder, tmp_path / "ours")
    runpy.run_path(str(script))["main"](folder, tmp_path / "theirs")
    expected, others = stored(tmp_path / "theirs")
    assert content == expected and list(content["database"]) == list(expected["database"])
    assert list(streams) == list(others) and len(streams) > 4
    for name, pair in others.items():
        np.testing.assert_array_equal(streams[name], pair, name)


def test_the_measured_set_has_the_same_test_people_and_lengths():
    folder = SHARED / "data" / "hapt30"
    if not folder.is_dir():
        pytest.skip("hapt30 lies beside the repository")
    content, streams = stored(folder)
    assert {x.shape for pair in streams.values() for x in pair} == {
        (make_hapt.EXCERPT // make_hapt.HOP - 1, 111)
    }
    people = {"train": set(), "test": set()}
    for name, video in content["database"].items():
        people[video["subset"]].add(int(name[15:17]))
    assert people["test"] == make_hapt.TEST_PEOPLE
    assert people["train"] == {*range(1, 31)} - make_hapt.TEST_PEOPLE


# --------------------------------------------------------------------------------------- bad input


def test_no_archive(tmp_path, capsys):
    out = tmp_path / "out"
    assert "none.zip: found No such file" in fails(tmp_path / "none.zip", out, capsys)
    (tmp_path / "text.zip").write_text("a page that says 404")
    assert "text.zip: found File is not a zip file" in fails(tmp_path / "text.zip", out, capsys)
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as file:
        file.writestr("README.txt", "something else")
    assert "other.zip: found no RawData/labels.txt" in fails(tmp_path / "other.zip", out, capsys)


@pytest.mark.parametrize(
    "name, text, found",
    [
        ("RawData/acc_exp01_user01", None, "no such file"),
        ("RawData/acc_exp01_user01", "1 2 3\n4 5\n", "setting an array element"),
        ("RawData/gyro_exp01_user01", "1 2\n" * 3100, "2 columns"),
        ("RawData/gyro_exp01_user01", "1 2 nan\n" * 3100, "3 columns, or no finite number"),
        ("RawData/gyro_exp02_user02", "1 2 3\n" * 1499, "1499 samples"),
        ("RawData/labels", "1 1 5 250 x\n", "invalid literal"),
        ("RawData/labels", "1 1 9 250 300\n", "activity 9"),
        ("RawData/labels", "2 2 1 100 125\n", "no recording"),
    ],
)
def test_damaged_archive(tmp_path, capsys, name, text, found):
    folder = archive(tmp_path / "raw")
    path = folder / f"{name}.txt"
    path.unlink() if text is None else path.write_text(text)
    for source in (folder, zipped(folder, "top/")):
        line = fails(source, tmp_path / "out", capsys)
        assert f"found {found}" in line and (f"{name}.txt" in line or found == "no recording")


def test_damaged_zip(tmp_path, capsys):
    path = zipped(archive(tmp_path / "raw"), "")
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as file:
        begin = file.getinfo("RawData/acc_exp01_user01.txt").header_offset
    content[begin + 60 : begin + 80] = bytes(20)
    path.write_bytes(content)
    assert "acc_exp01_user01.txt: found " in fails(path, tmp_path / "out", capsys)


def test_out_is_a_file(tmp_path, capsys):
    (tmp_path / "out").write_text("mine")
    assert str(tmp_path / "out") in fails(archive(tmp_path / "raw"), tmp_path / "out", capsys)
    assert (tmp_path / "out").read_text() == "mine"
