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
    """(folder of a run by all methods, {name: (rgb, flow)} of all its videos, names of its test
    videos).
    """
    flags = commands.write_set(folder / "data", **kwargs)
    run.main([*flags, "--method", *METHODS, "--out", str(folder / "run")])
    source = features.open_features(folder / "data/features.h5")
    streams = {name: source.read(name) for name in source.names}
    source.close()
    return folder / "run", streams, [name for name in streams if int(name[6:]) >= 8]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return trained_on(tmp_path_factory.mktemp("trained"))


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


def rows(path):
    return detections.read_detections(path)


# ------------------------------------------------------------------------------------------------
# the same as the run's
def test_the_test_split_gives_the_runs_own_detections(trained, unseen, tmp_path):
    folder, *_ = trained
    found = predict(folder, unseen, "--out", tmp_path / "out")
    names = ["detections", "detections-untrimmednet", "detections-wtalc"]
    for name in [name + suffix for name in names for suffix in (".json", ".csv")]:
        assert commands.same(tmp_path / "out" / name, folder / name)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(
        ["report.html", *(name + suffix for name in names for suffix in (".json", ".csv"))]
    )
    results = json.loads((folder / "results.json").read_text())
    assert found == {
        "videos": 4,
        "detections": str(tmp_path / "out/detections.json"),
        "localization": results["methods"]["em-mil"]["localization"],
    }


def test_among_other_videos_too(trained, tmp_path):
    folder, streams, names = trained
    predict(folder, folder.parent / "data/features.h5", "--out", tmp_path / "out")
    found = rows(tmp_path / "out/detections.csv")
    assert set(found["video"]) <= set(streams) and len(set(found["video"])) > len(names)
    found = found[found["video"].isin(names)].reset_index(drop=True)
    pd.testing.assert_frame_equal(found, rows(folder / "detections.csv"), check_exact=True)


def test_no_annotations_and_no_training_features_are_needed(trained, unseen, tmp_path):
    shutil.copytree(trained[0], tmp_path / "moved")
    saved = json.loads((tmp_path / "moved/opts.json").read_text())
    assert saved["features"] and saved["annotations"]
    for path in tmp_path.glob("moved/*"):  # nothing but the checkpoint is needed
        if path.name != run_folder.CHECKPOINT:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    predict(tmp_path / "moved", unseen, "--out", tmp_path / "out")
    assert commands.same(tmp_path / "out/detections.csv", trained[0] / "detections.csv")


def test_annotated_durations_end_the_last_segments(tmp_path):
    """The run cuts segments at the annotated durations, here 0.3 s before the clips end; features
    do not tell those.
    """
    folder, streams, names = trained_on(tmp_path, past_end=0.3)
    path, annotated = tmp_path / "features.h5", tmp_path / "data/annotations.json"
    features.write_canonical(path, ((name, *streams[name]) for name in names), 0.5, "float32")
    own = rows(folder / "detections.csv")
    predict(folder, path, "--annotations", annotated, "--out", tmp_path / "with")
    assert commands.same(tmp_path / "with/detections.csv", folder / "detections.csv")
    predict(folder, path, "--out", tmp_path / "without")
    found = rows(tmp_path / "without/detections.csv")
    durations = found["video"].map({name: len(streams[name][0]) * 0.5 for name in names})
    assert (found["t_end"] <= durations).all() and (found["t_end"] == durations).any()
    assert not found.equals(own)
    found["t_end"] = np.minimum(found["t_end"], durations - 0.3)
    pd.testing.assert_frame_equal(found, own, check_exact=True)


def test_annotations_without_the_videos(trained, unseen, tmp_path, capsys):
    database = {
        "video_09": {"subset": "x", "duration": 1.0, "annotations": []},
        "another": {
            "subset": "x",
            "duration": 9.0,
            "annotations": [{"label": "A", "segment": [0, 1]}],
        },
    }
    (tmp_path / "some.json").write_text(json.dumps({"database": database}))
    predict(trained[0], unseen, "--annotations", tmp_path / "some.json", "--out", tmp_path / "out")
    assert "some.json: found no duration of 3 of 4 videos" in capsys.readouterr().out
    found = rows(tmp_path / "out/detections.csv")
    cut = found["video"] == "video_09"
    assert found[cut]["t_end"].max() <= 1.0 < found[~cut]["t_end"].max()


def test_test_time_options(trained, unseen, tmp_path):
    flags = ["--lambda", "0.8", "--gamma", "0.1", "--gate", "0.6", "--method", "em-mil"]
    predict(trained[0], unseen, *flags, "--out", tmp_path / "out")
    run.main(["--evaluate", str(trained[0]), *flags, "--out", str(tmp_path / "evaluated")])
    assert commands.same(tmp_path / "out/detections.csv", tmp_path / "evaluated/detections.csv")
    assert not commands.same(tmp_path / "out/detections.csv", trained[0] / "detections.csv")


def test_the_gate_is_held_against_the_labels_of_training(trained, unseen, tmp_path, capsys):
    flags = "--gate", "0", "--method", "em-mil", "--out", tmp_path / "out"
    predict(trained[0], unseen, *flags)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "the gate 0 " in line]
    assert "2.00" in line and "1.00" in line and "--gate" in line


def test_video_scores_from_outside(trained, unseen, tmp_path):
    scores = {
        name: {"A": 0.9 * (k % 2), "B": 0.9 * (1 - k % 2)} for k, name in enumerate(trained[2])
    }
    (tmp_path / "scores.json").write_text(json.dumps(scores))
    predict(
        trained[0], unseen, "--video-scores", tmp_path / "scores.json", "--out", tmp_path / "out"
    )
    found = rows(tmp_path / "out/detections.csv")
    assert set(zip(found["video"], found["label"])) == {
        (name, "BA"[k % 2]) for k, name in enumerate(trained[2])
    }


# ------------------------------------------------------------------------------------------------
# what is written
def test_clip_scores_and_pictures(trained, unseen, tmp_path):
    predict(trained[0], unseen, "--out", tmp_path / "out", "--save-clip-scores", "--pictures", "2")
    own, classes = clip_scores.read(trained[0] / "clip_scores.h5")
    found, of_file = clip_scores.read(tmp_path / "out/clip_scores.h5")
    assert of_file == classes and [r.name for r in found] == trained[2]
    for a, b in zip(own, found):
        for method in METHODS:
            for score, values in a.scores[method].items():
                assert np.array_equal(values, b.scores[method][score])
    assert [path.name[:8] for path in sorted((tmp_path / "out/figures").iterdir())] == trained[2][
        :2
    ]


def test_json_and_csv_hold_the_same(trained, unseen, tmp_path, capsys):
    predict(
        trained[0], unseen, "--out", tmp_path / "new", "--save-clip-scores", "--method", "em-mil"
    )
    written, table = tmp_path / "new/detections.json", tmp_path / "new/detections.csv"
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
        "clip_scores.h5",
        "detections.csv",
        "detections.json",
        "report.html",
    ]
    pd.testing.assert_frame_equal(rows(written), rows(table), check_exact=True)
    assert f"4 videos, {len(rows(table))} detections: {written}" in capsys.readouterr().out
    content = json.loads(written.read_text())
    assert content["results"].keys() == set(rows(table)["video"])
    assert content["results"]["video_08"][0].keys() == {"label", "score", "segment"}


def test_by_default_a_new_folder_in_the_runs(trained, unseen, tmp_path):
    shutil.copytree(trained[0], tmp_path / "run")
    for _ in range(2):
        predict(tmp_path / "run", unseen)
    folders = list((tmp_path / "run").glob("predict-*"))
    assert len(folders) == 2 and all((folder / "detections.json").exists() for folder in folders)


def test_a_run_is_not_written_over(trained, unseen, capsys):
    before = commands.stamps(trained[0])
    error = refused(trained[0], unseen, capsys, "--out", trained[0])
    assert "found a run there, expected another folder" in error
    assert commands.stamps(trained[0]) == before


@pytest.mark.parametrize("name", ["new.json", "a file"])
def test_a_file_as_out_is_refused_before_the_work(trained, unseen, tmp_path, capsys, name):
    (tmp_path / "a file").write_text("kept")
    error = refused(trained[0], unseen, capsys, "--out", tmp_path / name)
    assert f"--out: found {tmp_path / name}, the name of a file; expected a folder" in error
    assert [path.name for path in tmp_path.iterdir()] == ["a file"]


def test_a_dry_run_writes_nothing(trained, tmp_path, capsys):
    assert predict(trained[0], "nowhere.h5", "--dry-run", "--out", tmp_path / "out") is None
    assert "Schedule" in capsys.readouterr().out and not (tmp_path / "out").exists()


# ------------------------------------------------------------------------------------------------
# features
def test_a_layout_that_does_not_tell_seconds(trained, tmp_path, capsys):
    folder, streams, names = trained
    features = feature_files.stream_files(
        tmp_path / "new", {name: streams[name] for name in names}
    )["features"]
    predict(folder, features, "--out", tmp_path / "out")
    assert "found no seconds per clip, taken to be 0.5 as in training" in capsys.readouterr().out
    key = ["video", "label", "t_start"]
    pd.testing.assert_frame_equal(
        rows(tmp_path / "out/detections.csv").sort_values(key, ignore_index=True),
        rows(folder / "detections.csv").sort_values(key, ignore_index=True),
        check_exact=True,
    )


def test_other_seconds_per_clip(trained, tmp_path, capsys):
    folder, streams, names = trained
    features.write_canonical(
        tmp_path / "f.h5", ((name, *streams[name]) for name in names), 0.64, "float32"
    )
    error = refused(folder, tmp_path / "f.h5", capsys, "--out", tmp_path / "out")
    assert f"f.h5: {names[0]}: found clips of 0.64 s, expected clips of 0.5 s as in tr" in error
    assert not (tmp_path / "out").exists()
    predict(folder, tmp_path / "f.h5", "--out", tmp_path / "out", "--snippet-seconds", "0.5")
    assert commands.same(tmp_path / "out/detections.csv", folder / "detections.csv")


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
    return {
        "nan": "found nan in flow, clip 3",
        "wide": "found 7 rgb and 7 flow dimensions, expected 6 and 5",
        "unequal": "expected equal lengths",
        "huge": "that are no finite numbers",
    }


def test_bad_videos(trained, tmp_path, capsys):
    folder, streams, names = trained
    bad = broken_set(tmp_path / "f.h5", streams, names)
    assert "huge: found" in refused(folder, tmp_path / "f.h5", capsys, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    about = {"subset": "test", "duration": 99, "annotations": [{"label": "A", "segment": [0, 1]}]}
    annotated = {name: about for name in [*names, *bad, "elsewhere"]}
    (tmp_path / "gt.json").write_text(json.dumps({"database": annotated}))
    code, error = ends(
        folder,
        tmp_path / "f.h5",
        capsys,
        *("--out", tmp_path / "out", "--annotations", tmp_path / "gt.json"),
        *("--keep-going", "--save-clip-scores", "--export", "fiftyone"),
    )
    lines = error.splitlines()
    assert code == 3 and len(lines) == 5 and lines[-1].startswith("4 bad videos left out: ")
    for name, said in bad.items():
        (line,) = [line for line in lines if line.startswith("left out: ") and f": {name}" in line]
        assert said in line and name in lines[-1]
    exported = json.loads((tmp_path / "out/fiftyone.json").read_text())
    assert set(exported["labels"]) == set(names)  # no bad video, and none without features
    for suffix in (".json", ".csv", "-wtalc.csv"):
        name = "detections" + suffix
        assert commands.same(tmp_path / "out" / name, folder / name)
    assert [r.name for r in clip_scores.read(tmp_path / "out/clip_scores.h5")[0]] == names


def test_nothing_but_bad_videos(trained, tmp_path, capsys):
    folder, streams, names = trained
    twice = ((name, streams[name][0], streams[name][0]) for name in names)
    features.write_canonical(tmp_path / "f.h5", twice, 0.5, "float32")
    code, error = ends(folder, tmp_path / "f.h5", capsys, "--out", tmp_path / "out", "--keep-going")
    assert code == 3 and "4 bad videos left out" in error
    assert not len(rows(tmp_path / "out/detections.csv"))
    assert not len(rows(tmp_path / "out/detections.json"))


def test_one_video_at_a_time_is_in_memory(trained, tmp_path, monkeypatch):
    """Of forty videos, the features and scores of no more than two exist at any time."""
    folder, streams, names = trained
    features.write_canonical(
        tmp_path / "f.h5", ((f"{k}", *streams[names[k % 4]]) for k in range(40)), 0.5, "float32"
    )
    alive, most, read, check = [], [], features.FeatureSource.read, clip_scores.check

    def watched_read(source, name):
        arrays = read(source, name)
        alive.extend(weakref.ref(x) for x in arrays)
        return arrays

    def watched_check(record):
        alive.append(weakref.ref(record))
        most.append(sum(ref() is not None for ref in alive))
        return check(record)

    monkeypatch.setattr(features.FeatureSource, "read", watched_read)
    monkeypatch.setattr(clip_scores, "check", watched_check)
    predict(folder, tmp_path / "f.h5", "--out", tmp_path / "out")
    assert len(most) == 40 and max(most) <= 6 and len(alive) == 120


# ------------------------------------------------------------------------------------------------
# refused, interrupted
@pytest.mark.parametrize(
    "flags, said",
    [
        (["--lr", "1"], "--lr: cannot be changed of a trained run"),
        (["--seed", "5"], "--seed: cannot be changed of a trained run"),
        (
            ["--protocol", "all", "--tiou", "0.5"],
            "--tiou, --protocol: cannot be changed here, where it has no effect",
        ),
        (["--exclude-video", "video_08"], "--exclude-video: cannot be changed here"),
        (["--video-classifier", "oracle"], "expected --video-scores for the new videos"),
        (["--video-scores", "nowhere.json"], "nowhere.json: found no such file"),
        (
            ["--video-scores", "nowhere.json", "--video-classifier", "oracle"],
            "nowhere.json: found no such file",
        ),
        (["--per-class"], "--per-class: found with --predict, where it has no effect"),
        (["--tensorboard"], "--tensorboard: found with --predict, where it has no effect"),
        (["--annotations", "nowhere.json"], "nowhere.json"),
        (["--feature-layout", "hdf5", "--flow-features", "nowhere.h5"], "nowhere.h5"),
    ],
)
def test_flags_that_are_refused(trained, unseen, tmp_path, capsys, flags, said):
    assert said in refused(trained[0], unseen, capsys, *flags, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_without_features(trained, capsys):
    with pytest.raises(SystemExit) as stopped:
        run.main(["--predict", str(trained[0])])
    assert stopped.value.code == 2 and "--predict: found no --features" in capsys.readouterr().err
    assert "nowhere.h5" in refused(trained[0], "nowhere.h5", capsys)


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


def test_a_run_that_is_not_trained_to_its_end(trained, unseen, tmp_path, capsys):
    state = run_folder.load_checkpoint(trained[0])
    torch.save({**state, "done": state["done"][:-1]}, tmp_path / run_folder.CHECKPOINT)
    error = refused(tmp_path, unseen, capsys, "--out", tmp_path / "out")
    assert f"{tmp_path}: found EM-MIL not trained to its end" in error
    assert f"--resume {tmp_path}" in error
    predict(tmp_path, unseen, "--out", tmp_path / "out", "--method", "untrimmednet")
    assert commands.same(
        tmp_path / "out/detections.csv", trained[0] / "detections-untrimmednet.csv"
    )


def test_a_network_that_the_run_has_not_trained(trained, unseen, tmp_path, capsys):
    state = run_folder.load_checkpoint(trained[0])
    parts = {name: part for name, part in state["parts"].items() if "wtalc" not in name}
    torch.save({**state, "parts": parts}, tmp_path / run_folder.CHECKPOINT)
    for flags in (["--method", "wtalc"], ["--method", "em-mil", "--video-classifier", "wtalc"]):
        assert "found no W-TALC in its checkpoint" in refused(tmp_path, unseen, capsys, *flags)


def test_told_to_stop(trained, unseen, tmp_path, monkeypatch, capsys):
    inner = clip_scores.check
    monkeypatch.setattr(
        clip_scores, "check", lambda record: os.kill(os.getpid(), signal.SIGTERM) or inner(record)
    )
    ended = ends(trained[0], unseen, capsys, "--out", tmp_path / "out", "--save-clip-scores")
    assert ended == (143, "stopped by SIGTERM\n")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_no_room(trained, unseen, tmp_path):
    paths = trained[0], unseen, tmp_path / "out"
    argv = commands.words("--predict {} --features {} --save-clip-scores --out {}", *paths)
    for limit, name in ((10_000, "clip_scores.h5"), (300, "detections-wtalc.json")):
        if name != "clip_scores.h5":
            argv.remove("--save-clip-scores")
        code, _, error = commands.command(argv, tmp_path / "output", file_limit=limit)
        assert code == 2 and error.startswith("error: ") and error.count("\n") == 1
        assert "File too large" in error
        assert not [
            path
            for path in (tmp_path / "out").iterdir()
            if path.name[0] == "." or path.name == name
        ]
