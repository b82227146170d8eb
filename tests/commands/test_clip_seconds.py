"""Windows longer than their step, and a step for each video: from the flag or the file to the
detections of a run, of --evaluate and of --predict.
"""

import json
import shutil

import commands
import h5py
import pandas as pd
import pytest

import run
from formats import clip_scores

STEP, WINDOW = 0.5, 1.5  # so a clip stands for times that begin half a second later
SHORT = "--cycle 1 --cycle-epochs 3 --untrimmednet-epochs 2".split()


def table(path):
    rows = pd.read_csv(path, float_precision="round_trip")
    return rows.sort_values(["video", "label", "t_start"], ignore_index=True)


def train(flags, out, *more):
    run.main([*flags, *map(str, more), "--out", str(out)])
    return table(out / "detections.csv")


def written(folder):
    """(flags, {video: duration}) of a set whose file declares the step alone."""
    flags = [*commands.write_set(folder)[:6], *SHORT]
    with h5py.File(folder / "features.h5", "r+") as file:
        del file.attrs["clip_seconds"]
    content = json.loads((folder / "annotations.json").read_text())["database"]
    return flags, {name: video["duration"] for name, video in content.items()}


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """(flags of the set, {video: duration}, detections of a run where windows equal the step)."""
    folder = tmp_path_factory.mktemp("plain")
    flags, durations = written(folder / "set")
    found = train(flags, folder / "run")
    assert len(found) > 4
    return flags, durations, found


@pytest.fixture(scope="module")
def longer(plain, tmp_path_factory):
    """The folder of the same run with longer windows."""
    folder = tmp_path_factory.mktemp("longer") / "run"
    train(plain[0], folder, "--clip-seconds", WINDOW)
    return folder


def test_detections_begin_half_of_window_minus_step_later(plain, longer):
    _, durations, found = plain
    ends = found["video"].map(durations)
    late = found.assign(t_start=found.t_start + 0.5, t_end=(found.t_end + 0.5).clip(upper=ends))
    pd.testing.assert_frame_equal(
        table(longer / "detections.csv"),
        late[late.t_start < late.t_end].reset_index(drop=True),
        check_exact=True,
    )
    records, _ = clip_scores.read(longer / "clip_scores.h5")
    assert {(r.snippet_seconds, r.clip_seconds) for r in records} == {(STEP, WINDOW)}
    assert "clips of 1.5 s every 0.5 s" in (longer / "log.txt").read_text()


def test_the_attribute_of_the_file_says_the_same_as_the_flag(plain, longer, tmp_path):
    shutil.copy(plain[0][3], tmp_path / "features.h5")
    with h5py.File(tmp_path / "features.h5", "r+") as file:
        file.attrs["clip_seconds"] = WINDOW
    train(plain[0], tmp_path / "run", "--features", tmp_path / "features.h5")
    assert commands.same(tmp_path / "run/detections.csv", longer / "detections.csv")


def test_evaluating_again_and_predicting_keep_the_window(plain, longer, tmp_path, capsys):
    run.main(["--evaluate", str(longer), "--out", str(tmp_path / "again")])
    assert commands.same(tmp_path / "again/detections.csv", longer / "detections.csv")
    argv = ["--predict", longer, "--features", plain[0][3], "--annotations", plain[0][5]]
    run.main([*map(str, argv), "--out", str(tmp_path / "new")])
    new, own = table(tmp_path / "new/detections.csv"), table(longer / "detections.csv")
    new = new[new["video"].isin(own["video"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(new, own, check_exact=True)
    error = commands.refused([*argv, "--clip-seconds", "0.5", "--out", tmp_path / "x"], capsys)
    assert "found clips of 0.5 s, expected clips of 1.5 s every 0.5 s as in training" in error


@pytest.fixture(scope="module")
def two_rates(tmp_path_factory):
    """(flags, folder) of the set where every second video has half of the frame rate: clips of 0.5
    and of 1 s, which the file does not say."""
    folder = tmp_path_factory.mktemp("rates")
    flags, durations = written(folder / "set")
    content = json.loads((folder / "set/annotations.json").read_text())
    for name in list(durations)[1::2]:
        video = content["database"][name]
        video["duration"] *= 2
        for one in video["annotations"]:
            one["segment"] = [2 * t for t in one["segment"]]
    (folder / "set/annotations.json").write_text(json.dumps(content))
    return flags, folder


@pytest.fixture(scope="module")
def by_duration(two_rates):
    folder = two_rates[1] / "run"
    train(two_rates[0], folder, "--snippet-seconds", "duration")
    return folder


def test_duration_over_clips_gives_each_video_its_step(plain, by_duration):
    found = plain[2]
    factor = found["video"].str[-1].astype(int) % 2 + 1  # clips of 1 s are twice those of 0.5 s
    pd.testing.assert_frame_equal(
        table(by_duration / "detections.csv"),
        found.assign(t_start=found.t_start * factor, t_end=found.t_end * factor),
        check_exact=True,
    )
    records, _ = clip_scores.read(by_duration / "clip_scores.h5")
    assert [(r.snippet_seconds, r.clip_seconds) for r in records] == [(0.5, 0.5), (1.0, 1.0)] * 2
    printed = (by_duration / "log.txt").read_text()
    assert "clips of 0.5 to 1 s" in printed and "GEOMETRY" not in printed


def test_a_video_that_declares_its_own_step_needs_no_option(two_rates, by_duration, tmp_path):
    flags = two_rates[0]
    shutil.copy(flags[3], tmp_path / "features.h5")
    with h5py.File(tmp_path / "features.h5", "r+") as file:
        for name in list(file)[1::2]:
            file[name].attrs["snippet_seconds"] = 1.0
    train(flags, tmp_path / "run", "--features", tmp_path / "features.h5")
    assert commands.same(tmp_path / "run/detections.csv", by_duration / "detections.csv")


def test_steps_of_videos_are_kept_and_have_to_be_said_for_new_ones(
    two_rates, by_duration, tmp_path, capsys
):
    flags = two_rates[0]
    run.main(["--evaluate", str(by_duration), "--out", str(tmp_path / "again")])
    assert commands.same(tmp_path / "again/detections.csv", by_duration / "detections.csv")
    shutil.copy(flags[3], tmp_path / "features.h5")
    with h5py.File(tmp_path / "features.h5", "r+") as file:
        del file.attrs["snippet_seconds"]
    argv = ["--predict", by_duration, "--features", tmp_path / "features.h5"]
    error = commands.refused([*argv, "--out", tmp_path / "no"], capsys)
    assert "video_00: found no seconds per clip" in error
    error = commands.refused(
        [*argv, "--snippet-seconds", "duration", "--out", tmp_path / "no"], capsys
    )
    assert "video_00: found no annotated duration" in error and not (tmp_path / "no").exists()
    more = ["--snippet-seconds", "duration", "--annotations", flags[5]]
    run.main([*map(str, (*argv, *more)), "--out", str(tmp_path / "new")])
    new, own = table(tmp_path / "new/detections.csv"), table(by_duration / "detections.csv")
    new = new[new["video"].isin(own["video"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(new, own, check_exact=True)


def test_a_window_beside_duration_over_clips_is_refused(two_rates, tmp_path, capsys):
    argv = [*two_rates[0], "--snippet-seconds", "duration", "--clip-seconds", "2"]
    error = commands.refused([*argv, "--out", tmp_path / "run"], capsys)
    assert "--clip-seconds: found with --snippet-seconds duration" in error
    assert not (tmp_path / "run").exists()
