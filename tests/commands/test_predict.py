"""--predict: a run's networks on feature files that nobody annotated."""

import json
import os
import shutil
import signal
import weakref

import commands
import feature_files
import h5py
import numpy as np
import pandas as pd
import pytest
import torch

import opts
import run
from engine import run_folder
from formats import clip_scores, detections, features

METHODS = ("em-mil", "untrimmednet", "wtalc")


def trained_on(folder, **kwargs):
    """A run by all methods, as `of_run` returns it."""
    flags = commands.write_set(folder / "data", **kwargs)
    run.main([*flags, "--method", *METHODS, "--out", str(folder / "run")])
    return of_run(folder)


def of_run(folder):
    """(folder of the run, {name: (rgb, flow)} of all its videos, names of its test videos)."""
    source = features.open_features(folder / "data/features.h5")
    streams = {name: source.read(name) for name in source.names}
    source.close()
    return folder / "run", streams, [name for name in streams if int(name[6:]) >= 8]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return of_run(commands.once(tmp_path_factory, "predicted", trained_on))


@pytest.fixture(scope="module")
def unseen(trained, tmp_path_factory):
    """A file of the test videos alone."""
    _, streams, names = trained
    path = tmp_path_factory.mktemp("unseen") / "features.h5"
    features.write_canonical(path, ((name, *streams[name]) for name in names), 0.5, "float32")
    return path


def predict(folder, features, *flags):
    return run.main(["--predict", str(folder), "--features", str(features), *map(str, flags)])


def ends(folder, features, capsys, *flags):
    return commands.stops(["--predict", folder, "--features", features, *flags], capsys)


def refused(folder, features, capsys, *flags):
    return commands.refused(["--predict", folder, "--features", features, *flags], capsys)


def rows(folder):
    return detections.read_detections(folder / "detections.csv")


# ---- the same as the run's
def test_the_test_split_gives_the_runs_own_scores_and_detections(trained, unseen, tmp_path):
    folder, _, names = trained
    results = predict(folder, unseen, "--out", tmp_path / "out")
    for path in folder.glob("detections*"):
        assert commands.same(tmp_path / "out" / path.name, path)
    own, classes = clip_scores.read(folder / "clip_scores.h5")
    found, of_file = clip_scores.read(tmp_path / "out/clip_scores.h5")
    assert of_file == classes and [r.name for r in found] == names
    for a, b in zip(own, found):
        for method in METHODS:
            for score, values in a.scores[method].items():
                assert np.array_equal(values, b.scores[method][score])
    of_run = json.loads((folder / "results.json").read_text())["methods"]
    for name, method in results["methods"].items():
        assert method["localization"] == of_run[name]["localization"] and not method["protocols"]
    content = json.loads((tmp_path / "out/detections.json").read_text())
    assert content["results"].keys() == set(rows(folder)["video"])
    assert content["results"]["video_08"][0].keys() == {"label", "score", "segment"}


def test_a_prediction_can_be_evaluated_again(trained, unseen, tmp_path):
    flags = "--lambda 0.8 --gamma 0.1 --gate 0.6 --method em-mil".split()
    predict(trained[0], unseen, *flags, "--out", tmp_path / "at once")
    predict(trained[0], unseen, "--out", tmp_path / "out")
    for source, out in ((tmp_path / "out", "again"), (trained[0], "of the run")):
        run.main(["--evaluate", str(source), *flags, "--out", str(tmp_path / out)])
        assert commands.same(tmp_path / out / "detections.csv", tmp_path / "at once/detections.csv")
    assert not commands.same(tmp_path / "again/detections.csv", trained[0] / "detections.csv")


def test_among_other_videos_too(trained, tmp_path):
    folder, streams, names = trained
    predict(folder, folder.parent / "data/features.h5", "--out", tmp_path / "out")
    found = rows(tmp_path / "out")
    assert set(found["video"]) <= set(streams) and len(set(found["video"])) > len(names)
    found = found[found["video"].isin(names)].reset_index(drop=True)
    pd.testing.assert_frame_equal(found, rows(folder), check_exact=True)


def test_nothing_but_the_checkpoint_is_needed(trained, unseen, tmp_path):
    (tmp_path / "moved").mkdir()
    shutil.copy(trained[0] / run_folder.CHECKPOINT, tmp_path / "moved")
    predict(tmp_path / "moved", unseen, "--out", tmp_path / "out")
    assert commands.same(tmp_path / "out/detections.csv", trained[0] / "detections.csv")


def test_annotated_durations_end_the_last_segments(tmp_path):
    """The run cuts segments at the annotated durations, here 0.3 s before the clips end; features
    do not tell those.
    """
    folder, streams, names = trained_on(tmp_path, past_end=0.3)
    path, annotated = tmp_path / "features.h5", tmp_path / "data/annotations.json"
    features.write_canonical(path, ((name, *streams[name]) for name in names), 0.5, "float32")
    predict(folder, path, "--annotations", annotated, "--out", tmp_path / "with")
    assert commands.same(tmp_path / "with/detections.csv", folder / "detections.csv")
    predict(folder, path, "--out", tmp_path / "without")
    found, own = rows(tmp_path / "without"), rows(folder)
    durations = found["video"].map({name: len(streams[name][0]) * 0.5 for name in names})
    assert (found["t_end"] <= durations).all() and (found["t_end"] == durations).any()
    found["t_end"] = np.minimum(found["t_end"], durations - 0.3)
    pd.testing.assert_frame_equal(found, own, check_exact=True)


def test_annotations_without_the_videos(trained, unseen, tmp_path, capsys):
    segment = [{"label": "A", "segment": [0, 1]}]
    database = {
        "video_09": {"subset": "x", "duration": 1.0, "annotations": []},
        "another": {"subset": "x", "duration": 9.0, "annotations": segment},
    }
    (tmp_path / "some.json").write_text(json.dumps({"database": database}))
    predict(trained[0], unseen, "--annotations", tmp_path / "some.json", "--out", tmp_path / "out")
    assert "some.json: found no duration of 3 of 4 videos" in capsys.readouterr().out
    found = rows(tmp_path / "out")
    cut = found["video"] == "video_09"
    assert found[cut]["t_end"].max() <= 1.0 < found[~cut]["t_end"].max()


def test_video_scores_from_outside(trained, unseen, tmp_path):
    scores = {
        name: {"A": 0.9 * (k % 2), "B": 0.9 * (1 - k % 2)} for k, name in enumerate(trained[2])
    }
    (tmp_path / "scores.json").write_text(json.dumps(scores))
    outside = "--video-scores", tmp_path / "scores.json"
    predict(trained[0], unseen, *outside, "--out", tmp_path / "out")
    found, expected = rows(tmp_path / "out"), enumerate(trained[2])
    pairs = {(name, "BA"[k % 2]) for k, name in expected}
    assert set(zip(found["video"], found["label"])) == pairs


# ---- where it is written
def test_by_default_a_new_folder_in_the_runs(trained, unseen, tmp_path):
    shutil.copytree(trained[0], tmp_path / "run")
    for _ in range(2):
        predict(tmp_path / "run", unseen)
    folders = sorted(path.name for path in (tmp_path / "run").glob("predict*"))
    assert folders == ["predict-features", "predict-features-2"]


@pytest.mark.parametrize("name", ["new.json", "a file"])
def test_a_place_that_is_not_free_is_refused_before_the_work(
    trained, unseen, tmp_path, capsys, monkeypatch, name
):
    monkeypatch.setattr(features, "open_features", lambda *_, **__: pytest.fail("has begun"))
    (tmp_path / "a file").write_text("kept")
    assert str(tmp_path / name) in refused(trained[0], unseen, capsys, "--out", tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["a file"]


def test_a_dry_run_writes_nothing(trained, tmp_path, capsys):
    assert predict(trained[0], "nowhere.h5", "--dry-run", "--out", tmp_path / "out") is None
    assert "Schedule" in capsys.readouterr().out and not list(tmp_path.iterdir())


def test_nothing_is_left_of_one_that_is_stopped(trained, unseen, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(clip_scores, "check", lambda _: os.kill(os.getpid(), signal.SIGTERM))
    assert ends(trained[0], unseen, capsys, "--out", tmp_path / "out")[0] == 143
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("limit", [10_000, 300])
def test_no_room(trained, unseen, tmp_path, limit):
    argv = commands.words("--predict {} --features {} --out {}", trained[0], unseen, tmp_path / "o")
    code, _, error = commands.command(argv, tmp_path / "output", file_limit=limit)
    assert code == 2 and commands.one_line(error, "error: ", "File too large")
    assert {path.name for path in tmp_path.iterdir()} == {"output.out", "output.err"}


# ---- features
def test_a_layout_that_does_not_tell_seconds(trained, tmp_path, capsys):
    folder, streams, names = trained
    new = {name: streams[name] for name in names}
    path = feature_files.stream_files(tmp_path / "new", new)["features"]
    predict(folder, path, "--out", tmp_path / "out")
    assert "taken to be 0.5 as in training" in capsys.readouterr().out
    key = ["video", "label", "t_start"]
    found, own = (
        one.sort_values(key, ignore_index=True) for one in map(rows, (tmp_path / "out", folder))
    )
    pd.testing.assert_frame_equal(found, own, check_exact=True)


def test_other_seconds_per_clip(trained, tmp_path, capsys):
    folder, streams, names = trained
    path, items = tmp_path / "f.h5", ((name, *streams[name]) for name in names)
    features.write_canonical(path, items, 0.64, "float32")
    error = refused(folder, path, capsys, "--out", tmp_path / "out")
    assert f"f.h5: {names[0]}: found clips of 0.64 s, expected clips of 0.5 s as in tr" in error
    predict(folder, path, "--out", tmp_path / "out", "--snippet-seconds", "0.5")
    assert commands.same(tmp_path / "out/detections.csv", folder / "detections.csv")


def test_one_array_of_both_streams_once_it_is_said(trained, tmp_path, capsys):
    """The advice of the line that asks can be followed: how arrays are read is the new file's."""
    folder, streams, names = trained
    (tmp_path / "new").mkdir()
    for name in names:
        both = [x[:, :5] for x in streams[name]]  # halves are equally wide
        np.save(tmp_path / "new" / f"{name}.npy", np.concatenate(both, 1))
    assert "--streams both" in refused(folder, tmp_path / "new", capsys)
    error = refused(folder, tmp_path / "new", capsys, "--streams", "both")
    assert f"{names[0]}: found 5 and 5 features a clip, expected 6 and 5" in error


def broken_set(path, streams, names):
    """The videos `names` with four bad ones among them; returns what is said of each."""
    nan, huge = (tuple(x.copy() for x in streams[names[0]]) for _ in range(2))
    nan[1][3, 1] = np.nan
    huge[0][:] = 3e38
    items = [
        ("nan", *nan),
        (names[0], *streams[names[0]]),
        ("wide", *(np.ones((9, 7), np.float32),) * 2),
        (names[1], *streams[names[1]]),
        ("unequal", streams[names[1]][0], streams[names[1]][1][:-4]),
        (names[2], *streams[names[2]]),
        ("huge", *huge),
        (names[3], *streams[names[3]]),
    ]
    with h5py.File(path, "w") as file:
        file.attrs["snippet_seconds"] = 0.5
        for name, rgb, flow in items:
            file[f"{name}/rgb"], file[f"{name}/flow"] = rgb, flow
    return ["nan", "wide", "unequal", "huge"]


def test_bad_videos(trained, tmp_path, capsys):
    folder, streams, names = trained
    bad = broken_set(tmp_path / "f.h5", streams, names)
    assert "huge: found" in refused(folder, tmp_path / "f.h5", capsys, "--out", tmp_path / "out")
    about = {"subset": "test", "duration": 99, "annotations": [{"label": "A", "segment": [0, 1]}]}
    annotated = {name: about for name in [*names, *bad, "elsewhere"]}
    (tmp_path / "gt.json").write_text(json.dumps({"database": annotated}))
    more = commands.words("--out {} --annotations {}", tmp_path / "out", tmp_path / "gt.json")
    argv = ["--predict", folder, "--features", tmp_path / "f.h5", *more]
    argv += "--keep-going --export fiftyone".split()
    with pytest.raises(SystemExit) as stopped:
        run.main([str(word) for word in argv])
    out, error = capsys.readouterr()
    assert stopped.value.code == 3 and commands.one_line(error, *bad)
    for name in bad:
        assert sum("left out: " in line and name in line for line in out.splitlines()) == 1
    exported = json.loads((tmp_path / "out/fiftyone.json").read_text())
    assert set(exported["labels"]) == set(names)  # no bad video, and none without features
    for path in folder.glob("detections*"):
        assert commands.same(tmp_path / "out" / path.name, path)
    assert [r.name for r in clip_scores.read(tmp_path / "out/clip_scores.h5")[0]] == names


def test_nothing_but_bad_videos(trained, tmp_path, capsys):
    folder, streams, names = trained
    twice = ((name, streams[name][0], streams[name][0]) for name in names)
    features.write_canonical(tmp_path / "f.h5", twice, 0.5, "float32")
    code, error = ends(folder, tmp_path / "f.h5", capsys, "--out", tmp_path / "out", "--keep-going")
    assert code == 3 and "4 bad videos left out" in error and not len(rows(tmp_path / "out"))
    assert run.main(["--evaluate", str(tmp_path / "out")])["test"]["videos"] == 0


def test_the_features_of_one_video_at_a_time_are_in_memory(trained, tmp_path, monkeypatch):
    folder, streams, names = trained
    items = ((f"{k}", *streams[names[k % 4]]) for k in range(40))
    features.write_canonical(tmp_path / "f.h5", items, 0.5, "float32")
    alive, most, read = [], [], features.FeatureSource.read

    def watched(source, name):
        most.append(sum(ref() is not None for ref in alive))
        arrays = read(source, name)
        alive.extend(weakref.ref(x) for x in arrays)
        return arrays

    monkeypatch.setattr(features.FeatureSource, "read", watched)
    predict(folder, tmp_path / "f.h5", "--out", tmp_path / "out")
    assert len(most) == 40 and max(most) <= 2 and len(alive) == 80


# ---- refused
@pytest.mark.parametrize(
    "flags, where",
    [
        ("--seed 5", "--seed: found 5"),
        ("--exclude-video video_08", "--exclude-video: found video_08"),
        ("--video-classifier oracle", "--video-scores"),
        ("--video-scores nowhere.json", "nowhere.json"),
        ("--annotations nowhere.json", "nowhere.json"),
        ("--flow-features nowhere.h5", "nowhere.h5"),
        ("--features nowhere.h5", "nowhere.h5"),
        ("--features=", "--features"),
    ],
)
def test_what_is_refused(trained, unseen, tmp_path, capsys, flags, where):
    assert where in refused(trained[0], unseen, capsys, *flags.split(), "--out", tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_run_keeps_its_own_schedule(trained, unseen, tmp_path, monkeypatch, capsys):
    """It is finished by the phases that it was trained in, and these are shown."""
    longer = [*opts.schedule(opts.Opts()), ("M", 1, 1e-4, "frozen")]
    monkeypatch.setattr(opts, "schedule", lambda o: longer)
    predict(trained[0], unseen, "--out", tmp_path / "out")
    assert commands.same(tmp_path / "out/detections.csv", trained[0] / "detections.csv")
    capsys.readouterr()
    for job in (["--predict", trained[0]], ["--evaluate", trained[0]]):
        run.main([*map(str, job), "--dry-run"])
        assert "M2 E2 M1 E1 M1 (7 epochs)" in capsys.readouterr().out


@pytest.fixture
def changed(trained, tmp_path):
    """Writes the run's checkpoint, changed, into a folder; returns the folder."""

    def change(function):
        state = run_folder.load_checkpoint(trained[0])
        function(state)
        folder = tmp_path / "it's a run"
        folder.mkdir(exist_ok=True)
        torch.save(state, folder / run_folder.CHECKPOINT)
        return folder

    return change


def test_a_run_that_is_not_trained_to_its_end(trained, unseen, changed, tmp_path, capsys):
    folder = changed(lambda state: state["done"].pop())
    error = refused(folder, unseen, capsys)
    assert f"{folder}: found EM-MIL" in error and "--resume '" in error  # quoted for a shell
    predict(folder, unseen, "--out", tmp_path / "out", "--method", "untrimmednet")
    own = trained[0] / "detections-untrimmednet.csv"
    assert commands.same(tmp_path / "out/detections.csv", own)


def test_a_network_that_the_run_has_not_trained(unseen, changed, capsys):
    folder = changed(lambda state: state["parts"].pop("wtalc"))
    for flags in (["--method", "wtalc"], ["--method", "em-mil", "--video-classifier", "wtalc"]):
        assert "W-TALC" in refused(folder, unseen, capsys, *flags)


@pytest.mark.parametrize(
    "key, value",
    [
        ("about", 5),
        ("record", None),
        ("dims", [6]),
        ("dims", ["6", "5"]),
        ("classes", "AB"),
        ("snippet_seconds", "0.5"),
        ("extractor", [1]),
        ("options", {"lr": "x"}),
        ("phases", [["M"]]),
        ("processes", None),
    ],
)
def test_a_checkpoint_that_says_something_else(unseen, changed, capsys, key, value):
    def change(state):
        about = state["about"]
        place = {"about": state, "options": about["record"]}.get(key, about)
        (about["record"] if key in about["record"] else place)[key] = value

    folder = changed(change)
    assert f"{folder}/{run_folder.CHECKPOINT}" in refused(folder, unseen, capsys)
