"""The paper's commands on a small set: what their pages say is what the runs left behind."""
import json
import sys

import numpy as np
import pandas as pd
import pytest
import torch

import dataset
import em_trainer
import opts
import reproduce
import run
from engine import loop as training
from model import EMMIL
from test_run import write_set


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """(flags of a small set, its Setup): seeds 1 and 2 of em-mil and joint-epoch are trained already."""
    folder = tmp_path_factory.mktemp("reproduce")
    flags = write_set(folder / "data")
    s = setup("table3", *flags, "--out", folder / "out")
    for variant, more in {"em-mil": {}, "joint-epoch": {"joint": "epoch"}}.items():
        for seed in (1, 2):
            make(s, variant, seed, more)
    return [*flags, "--out", str(folder / "out"), "--seeds", "2", "--jobs", "2"], s


def setup(*argv):
    """The Setup that `main` makes."""
    caught = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reproduce, "_run_commands", lambda s: caught.append(s))
        reproduce.main([str(word) for word in argv])
    return caught[0]


def make(s, variant, seed, more):
    given = {**s.given, **more, "seed": seed, "pictures": 0}
    run.main(["--out", str(s.pool / f"{variant}-s{seed}"), *reproduce._flags(given)])


def page(s, name):
    folder = s.folder(name)
    return (json.loads((folder / f"{name}.json").read_text()), (folder / f"{name}.md").read_text(),
            pd.read_csv(folder / f"{name}.csv"))


def results(s, variant, seed):
    return json.loads((s.pool / f"{variant}-s{seed}" / "results.json").read_text())


def maps(s, variant, method="em-mil", protocol="activitynet"):
    """(seeds, tIoUs) as the runs themselves say."""
    return np.array([results(s, variant, seed)["methods"][method]["protocols"][protocol]["map"] for seed in (1, 2)])


def fails(capsys, *argv):
    """The one line that a command ends with."""
    with pytest.raises(SystemExit) as caught:
        reproduce.main([str(word) for word in argv])
    assert caught.value.code == 2
    return capsys.readouterr().err.strip().splitlines()[-1]


# ------------------------------------------------------------------------------------------------ runs
def test_table3_trains_what_is_missing_and_shows_what_the_runs_say(small, capsys):
    flags, s = small
    (s.pool / "em-mil-s2" / "results.json").unlink()                   # as if stopped at the end of its training
    before = {p: p.stat().st_mtime_ns for p in s.pool.glob("joint-epoch-s*/checkpoint.pt")}
    reproduce.main(["table3", *flags])
    printed = capsys.readouterr().out
    assert "6 runs, 3 of them finished before; 2 side by side" in printed
    assert before == {p: p.stat().st_mtime_ns for p in s.pool.glob("joint-epoch-s*/checkpoint.pt")}
    data, text, frame = page(s, "table3")
    for label, variant in (("Full", "em-mil"), ("Pseudo labeling (labels anew every epoch)", "joint-epoch"),
                           ("Alternating", "attention")):
        ours = 100 * maps(s, variant)
        cells = [f"{m:.1f} ± {d:.1f}" for m, d in zip(ours.mean(axis=0), ours.std(axis=0, ddof=1))]
        line = next(line for line in text.splitlines() if line.startswith(f"| {label} "))
        assert [cell.strip() for cell in line.split("|")[2:9]] == cells
        np.testing.assert_allclose(frame[frame["method"] == label][["0.1", "0.5", "0.7"]], ours[:, [0, 4, 6]] / 100)
    saved = [json.loads((s.pool / f"{v}-s2" / "opts.json").read_text()) for v in ("em-mil", "joint-epoch", "attention")]
    assert [(o["joint"], o["objective"], o["seed"]) for o in saved] == [
        ("off", "pseudo-labels", 2), ("epoch", "pseudo-labels", 2), ("off", "attention", 2)]
    assert (s.folder("table3") / "table3.png").exists() and data["seeds"] == [1, 2]
    assert "a set of the user's" in text and "nothing selected on the test set" in text


def test_a_failing_seed_does_not_lose_the_others(small, tmp_path, capsys):
    flags, _ = small
    flags = [*flags[:-6], "--out", str(tmp_path / "out")]
    s = setup("lambda", *flags, "--seeds", "2")
    make(s, "em-mil", 1, {})
    (s.pool / "em-mil-s2").mkdir()
    (s.pool / "em-mil-s2" / "checkpoint.pt").write_bytes(b"no checkpoint")
    with pytest.raises(SystemExit) as caught:
        reproduce.main(["lambda", *flags, "--seeds", "2"])
    err = capsys.readouterr().err
    assert caught.value.code == 1 and "1 runs failed" in err and "em-mil, seed 2: error: " in err
    _, text, frame = page(s, "lambda")
    assert set(frame["seed"]) == {1} and "finished: 1 of em-mil" in text
    assert "Failed runs: em-mil seed 2: error: " in text


def test_a_finished_run_with_other_options_or_data_is_refused(small, tmp_path, capsys):
    flags, _ = small
    flags = [*flags[:-6], "--out", str(tmp_path / "out"), "--seeds", "1"]
    s = setup("lambda", *flags)
    make(s, "em-mil", 1, {"lr": 0.5})
    assert fails(capsys, "lambda", *flags) == (f"error: {s.pool}/em-mil-s1: found a run with other lr, expected those "
                                               "of now (another --out begins anew)")


@pytest.mark.parametrize("argv, line", [
    (["table1", "--seed", "3"], "error: --seed: found with reproduce.py, which chooses it itself"),
    (["table1", "--evaluate", "x"], "error: --evaluate: found with reproduce.py, expected run.py for that"),
    (["table2", "--dataset", "thumos14"],
     "error: table2: found --dataset thumos14, expected ActivityNet1.2 or data of your own"),
    (["table3", "--dataset", "custom"], "error: --features: found none for --dataset custom, expected a path"),
    (["table3", "--dataset", "custom", "--features", "nowhere.h5", "--annotations", "x.json"],
     "error: nowhere.h5: found no such file or folder, expected the features"),
    (["table3", "--seeds", "0"], "error: --seeds: found 0, expected a number from 1 on"),
    (["table3", "--no-such-option"], "reproduce.py: error: unrecognized arguments: --no-such-option"),
    (["table3", "--lambda", "2"], "error: --lambda: found 2.0, expected a number in [0, 1]")])
def test_bad_options_are_one_line(tmp_path, capsys, argv, line):
    assert fails(capsys, *argv, "--out", tmp_path) == line
    assert not any(tmp_path.iterdir())


def test_flags_say_what_was_given():
    given = opts.parse(["--dataset", "custom", "--lr", "3e-05", "--keep-peak", "--no-allow-missing", "--tiou", "0.1",
                        "0.5", "--lambda", "0.25", "--exclude-video", "a b", "c"]).given
    assert opts.parse(reproduce._flags(given)).given == given


def test_folders_of_other_options_are_others(small, tmp_path):
    flags, s = small
    tag = lambda *more: setup("table3", *flags, *more).tag
    assert s.tag.startswith("custom-") and tag() == s.tag
    assert len({s.tag, tag("--lr", "1e-3"), tag("--lambda", "0.9")}) == 3
    assert tag("--pictures", "9", "--device", "cpu") == s.tag          # these change no result


# ------------------------------------------------------------------------------------------------ pages
def test_table1_has_each_method_from_its_own_run_and_the_published_rows_apart(small, capsys):
    flags, s = small
    for seed in (1, 2):
        make(s, "wtalc", seed, {"method": ("wtalc",)})
    reproduce.main(["table1", *flags])
    printed = capsys.readouterr().out
    data, text, frame = page(s, "table1")
    ours = frame[frame["protocol"] == "activitynet"].set_index("method")
    np.testing.assert_allclose(ours.loc["EM-MIL", "0.5"], maps(s, "em-mil")[:, 4])
    np.testing.assert_allclose(ours.loc["W-TALC", "0.5"], maps(s, "wtalc", "wtalc")[:, 4])
    again = run.main(["--evaluate", str(s.pool / "wtalc-s2"), "--video-classifier", "oracle"])
    assert ours.loc["W-TALC (oracle classes)", "0.5"].iloc[1] == pytest.approx(
        again["methods"]["wtalc"]["protocols"]["activitynet"]["map"][4])
    assert len(set(ours.index)) == 6 and {"EM-MIL", "UntrimmedNet", "EM-MIL (oracle classes)"} < set(ours.index)
    assert set(frame["protocol"]) == {"activitynet", "thumos-2014", "thumos-2015"}
    for page_text in (text, printed):
        assert reproduce.NOT_MEASURED in page_text
        assert "as printed there" in page_text and "cannot be compared" in page_text
        assert "EM-MIL, Luo et al., ECCV 2020" in page_text and "difference" not in page_text


def test_table2_averages_over_ten_thresholds(small, capsys):
    flags, s = small
    reproduce.main(["table2", *flags, "--protocol", "activitynet"])
    _, text, frame = page(setup("table2", *flags, "--protocol", "activitynet"), "table2")
    tious = [f"{0.5 + 0.05 * k:g}" for k in range(10)]
    np.testing.assert_allclose(frame["avg"], frame[tious].mean(axis=1))
    assert "| mAP (%) at tIoU | 0.5 | 0.7 | 0.9 | avg |" in text


def test_lambda_needs_no_training_and_meets_the_run_at_its_own_lambda(small):
    flags, s = small
    reproduce.main(["lambda", *flags])
    data, _, frame = page(s, "lambda")
    own = frame[(frame["lambda"] == 0.3) & (frame["test_gamma"] == "own")]["map"]
    np.testing.assert_allclose(own, maps(s, "em-mil")[:, 4])
    assert np.shape(data["map"]) == (2, 11) and np.shape(data["grid"]) == (2, 5, 11)
    np.testing.assert_allclose(np.array(data["grid"])[:, 0, 3], own)   # gamma 0 is the set's own
    assert {p.name for p in s.folder("lambda").glob("*.png")} == {"lambda.png", "lambda-gamma.png"}


def test_gamma_tells_training_from_test(small, monkeypatch):
    flags, s = small
    monkeypatch.setattr(reproduce, "GAMMAS", (0.0, 0.1))
    for seed in (1, 2):
        make(s, "gamma-0.1", seed, {"gamma": 0.1})
    reproduce.main(["gamma", *flags])
    data, text, _ = page(s, "gamma")
    grid = np.array(data["grid"])                                      # (seeds, training, test)
    np.testing.assert_allclose(grid[:, 0, 0], maps(s, "em-mil")[:, 4])
    np.testing.assert_allclose(grid[:, 1, 1], maps(s, "gamma-0.1")[:, 4])
    cells = [f"{100 * x.mean():.1f} ± {100 * x.std(ddof=1):.1f}" for x in (grid[:, 1, 0], grid[:, 0, 1], grid[:, 1, 1])]
    assert "| 0.1 | " + " | ".join(cells) + " |" in text               # training only, test only, both


def test_figure5_draws_the_videos_named_and_those_picked(small, capsys):
    flags, s = small
    name, label = pd.read_csv(s.pool / "em-mil-s1" / "ground_truth.csv").loc[1, ["video", "label"]]
    reproduce.main(["figure5", *flags, "--videos", name])
    _, text, frame = page(s, "figure5")
    assert frame[["video", "label", "chosen"]].values.tolist() == [[name, label, "named"]]
    folder = s.folder("figure5")
    assert {p.name for p in folder.glob("video*")} == {f"{name}-{label}.pdf", f"{name}-{label}.png"}
    reproduce.main(["figure5", *flags, "--pick", "best", "worst", "--n", "1"])
    _, text, frame = page(s, "figure5")
    assert frame["chosen"].tolist() == ["best", "worst"] and frame["ap"][0] > frame["ap"][1]
    assert {p.name for p in folder.glob("video*.png")} == set(frame["file"])
    assert fails(capsys, "figure5", *flags, "--videos", "nobody").startswith("error: --videos: found nobody, expected")


def test_thumbnails_without_their_library_are_one_line(small, tmp_path, capsys, monkeypatch):
    flags, _ = small
    monkeypatch.setitem(sys.modules, "av", None)
    assert fails(capsys, "figure5", *flags, "--video-dir", tmp_path) == (
        "error: --video-dir: found no package av to decode videos, expected it: pip install av")


def test_thumbnails_are_the_frames_of_their_moments(tmp_path):
    av = pytest.importorskip("av", reason="thumbnails need the optional package av")
    with av.open(str(tmp_path / "clip.mp4"), "w") as container:        # 8 s at 5 frames a second, brighter and brighter
        stream = container.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for k in range(40):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 6 * k, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    images = reproduce.thumbnails(tmp_path, "clip", 8.0, n=4)
    assert [seconds for seconds, _ in images] == pytest.approx([1, 3, 5, 7], abs=0.21)
    assert all(image.shape == (120, 160, 3) for _, image in images)
    assert [image.mean() for _, image in images] == pytest.approx([30, 90, 150, 210], abs=12)
    with pytest.raises(reproduce.InputError, match="other: found no such file"):
        reproduce.thumbnails(tmp_path, "other", 8.0)
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    with pytest.raises(reproduce.InputError, match="broken.mp4: found no video that can be decoded"):
        reproduce.thumbnails(tmp_path, "broken", 8.0)


def test_convergence_shows_the_labels_that_were_trained_on(small):
    flags, s = small
    reproduce.main(["convergence", *flags])
    _, text, frame = page(s, "convergence")
    assert frame[["seed", "phase", "step"]].values.tolist() == [
        [1, 1, "M"], [1, 2, "E"], [1, 3, "M"], [2, 1, "M"], [2, 2, "E"], [2, 3, "M"]]
    assert frame[frame["phase"] == 1]["positive"].tolist() == [1, 1] and frame["map"].notna().all()
    assert "diagnostic" in text and (s.folder("convergence") / "convergence.png").exists()


def test_label_map_is_precision_times_recall():
    def video(name, labels):
        return dataset.Video(name, None, None, np.array(labels, np.float32), 5.0, None, None, 0.5)

    videos = [video("a", [1, 0]), video("b", [1, 1]), video("c", [0, 1])]
    masks = [np.array(x, bool) for x in ([1, 1, 0, 0, 1, 1, 0, 0, 0, 0], [0, 0, 0, 0, 1, 1, 1, 1, 0, 0], [0] * 10)]
    truth = pd.DataFrame([("a", 0.0, 1.0, "x"), ("a", 4.0, 5.0, "x"), ("b", 2.0, 3.5, "y"), ("c", 0.0, 5.0, "y")],
                         columns=["video", "t_start", "t_end", "label"])
    # x: runs a 0-1 (hit), a 2-3, b 2-4: 1 of 3 right, 1 of 2 found. y: run b 2-4 (tIoU 0.75): 1 of 1, 1 of 2.
    assert reproduce.label_map(videos, masks, ("x", "y"), truth, 0.5) == pytest.approx((1 / 3 * 1 / 2 + 1 * 1 / 2) / 2)
    assert reproduce.label_map(videos, masks, ("x", "y"), truth, 0.8) == pytest.approx(1 / 3 * 1 / 2 / 2)
    assert reproduce.label_map(videos, masks, ("x", "y", "z"), truth, 0.8) == pytest.approx(1 / 3 * 1 / 2 / 2)
    assert reproduce.label_map(videos, [np.zeros(10, bool)] * 3, ("x", "y"), truth, 0.5) == 0


def test_label_history_is_what_the_phases_trained_on(tmp_path):
    """Phase 2's labels come from the classifier after phase 1, worked out here by the equation."""
    rng = np.random.default_rng(0)
    videos = [dataset.Video("", *(rng.normal(size=(t, d)).astype(np.float32) for d in (6, 5)), None, 1.0, None, None, 1)
              for t in (3, 11, 1)]
    labels = torch.tensor([[1.0, 0], [0, 1], [1, 1]])
    session = training.Session(tmp_path, seed=1)
    model = EMMIL(6, 5, 2)
    phases = [em_trainer.Phase("M", 2, 1e-2, "bag"), em_trainer.Phase("E", 1, 1e-3, "frozen")]
    em_trainer.fit(model, session=session, feed=training.feeder(videos), names=["a", "b", "c"], labels=labels,
                   phases=phases, gamma=0.1)
    history = em_trainer.label_history(training.load_checkpoint(tmp_path)["memory"])
    assert [(phase, step) for phase, step, _ in history] == [(1, "M"), (2, "E")]
    assert all(mask.all() and len(mask) == len(v.rgb) for v, mask in zip(videos, history[0][2]))
    for video, y, mask in zip(videos, labels, history[1][2]):          # the classifier has not moved since
        p = model(torch.from_numpy(video.rgb), torch.from_numpy(video.flow)).p
        assert mask.tolist() == [any(y[c] and len(p) > 1 and p[t, c] > p[:, c].mean() for c in (0, 1))
                                 for t in range(len(p))]


def test_timing_measures_each_method_and_says_its_size(tmp_path, monkeypatch):
    monkeypatch.setattr(reproduce, "THUMOS14", {**reproduce.THUMOS14, "dim": 8})
    monkeypatch.setattr(reproduce, "thumos14_durations", lambda: (np.full(200, 12.5), np.full(212, 20.0), "made up"))
    reproduce.main(["timing", "--cycle", "1", "--cycle-epochs", "3", "--alternate-epochs", "0", "--boost", "1",
                    "--untrimmednet-epochs", "2", "--timing-share", "0.03", "--wtalc-iterations", "50",
                    "--out", str(tmp_path)])
    folder = next(tmp_path.glob("reproduce-timing-*"))
    data, text = json.loads((folder / "timing.json").read_text()), (folder / "timing.md").read_text()
    assert data["videos"] == {"train": 6, "test": 6} and data["clips"] == {"train": 60, "test": 96}
    assert data["full_clips"] == 2000
    assert [(r["method"], r["length"], r["share_of_full_size"]) for r in data["rows"]] == [
        ("EM-MIL", "3 epochs", 0.03), ("UntrimmedNet", "2 epochs", 0.03), ("W-TALC", "50 iterations", 0.005)]
    for row in data["rows"]:
        assert row["training_seconds"] == pytest.approx(row["pseudo-labels"] + row["epochs"] + row["rest of training"])
        assert row["all_seconds"] == pytest.approx(sum(row[part] for part in reproduce.PARTS))
        assert row["full_size_seconds"] == pytest.approx(
            (row["pseudo-labels"] + row["epochs"]) / row["share_of_full_size"] + row["rest of training"])
    assert data["rows"][0]["pseudo-labels"] > 0 == data["rows"][1]["pseudo-labels"]
    assert "This is a reduced size" in text and "64.7" in text and reproduce.NOT_MEASURED in text
    assert not (folder / "stand-in").exists()


def test_durations_that_stand_in_have_thumos14s_total(monkeypatch, tmp_path):
    monkeypatch.setattr(reproduce, "HERE", tmp_path / "x")
    monkeypatch.chdir(tmp_path)
    train, test, source = reproduce.thumos14_durations()
    assert (len(train), len(test)) == (200, 212) and train.sum() == pytest.approx(33500 * 1.25) and "random" in source
