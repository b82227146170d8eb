"""--evaluate: other tables from the scores that a run has stored, after its features and
annotations are gone.
"""

import dataclasses
import json
import shutil

import commands
import numpy as np
import pandas as pd
import pytest

import eval_detection
import run
from engine import run_folder
from formats import clip_scores, detections
from report import tables


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a run whose features and annotations have been deleted since."""
    folder = tmp_path_factory.mktemp("trained")
    flags = commands.write_set(folder / "data")
    run.main([*flags, "--method", "em-mil", "untrimmednet", "wtalc", "--out", str(folder / "run")])
    shutil.rmtree(folder / "data")
    return folder / "run"


def evaluate(folder, *flags):
    return run.main(["--evaluate", str(folder), *map(str, flags)])


def refused(folder, capsys, *flags, job="--evaluate"):
    return commands.refused([job, folder, *flags], capsys)


def by_hand(folder, lam, gamma, gate=0.15):
    """EM-MIL's detections written out from the stored scores: Eq. 9 and Sec. 3.5, clip by clip."""
    rows = []
    records, classes = clip_scores.read(folder / "clip_scores.h5")
    for r in records:
        q, p, v = (
            x.astype(np.float64)
            for x in (
                r.scores["em-mil"]["q"],
                r.scores["em-mil"]["p"],
                r.scores["untrimmednet"]["video"],
            )
        )
        for c in [c for c in range(len(classes)) if v[c] >= gate] or [int(v.argmax())]:
            l = lam * q + (1 - lam) * p[:, c]
            above = [*(l > l.mean() + gamma * (l.max() - l.min())), False]
            start = None
            for t, high in enumerate(above):
                if high and start is None:
                    start = t
                if not high and start is not None:
                    rows.append(
                        (
                            r.name,
                            start * r.snippet_seconds,
                            min(t * r.snippet_seconds, r.duration),
                            classes[c],
                            l[start:t].mean(),
                        )
                    )
                    start = None
    return pd.DataFrame(rows, columns=["video", "t_start", "t_end", "label", "score"])


def sorted_rows(table):
    return table.sort_values(["video", "label", "t_start"], ignore_index=True)


@pytest.mark.parametrize(
    "flags, lam, gamma",
    [
        ([], 0.3, 0.0),
        (["--lambda", "0.9"], 0.9, 0.0),
        (["--gamma", "0.2"], 0.3, 0.2),
        (["--test-gamma", "0.2"], 0.3, 0.2),
        (["--lambda", "0.5", "--gamma", "0.1"], 0.5, 0.1),
    ],
)
def test_detections_by_hand(trained, tmp_path, flags, lam, gamma):
    results = evaluate(trained, *flags, "--out", tmp_path / "out")
    found = detections.read_detections(tmp_path / "out/detections.csv")
    pd.testing.assert_frame_equal(
        sorted_rows(found), sorted_rows(by_hand(trained, lam, gamma)), rtol=1e-9
    )
    assert results["methods"]["em-mil"]["localization"]["proposals"] == len(found)
    assert json.loads((tmp_path / "out/results.json").read_text()) == results
    saved = json.loads((tmp_path / "out/opts.json").read_text())
    assert (saved["lam"], saved["gamma"], saved["test_gamma"]) == (lam, 0.0, gamma or None)


def test_the_same_options_give_the_same_files(trained, tmp_path, capsys):
    before = commands.stamps(trained)
    results = evaluate(trained, "--out", tmp_path / "out")
    for path in [path for path in trained.glob("*") if path.name.startswith("detections")] + [
        trained / "table.md"
    ]:
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()
    first = json.loads((trained / "results.json").read_text())
    assert {**results, "seconds": None} == {**first, "seconds": None}
    assert report_table(capsys.readouterr().out) and (tmp_path / "out/figures").is_dir()
    assert commands.stamps(trained) == before


def report_table(printed):
    return [line for line in printed.splitlines() if line.startswith("EM-MIL  ")]


def test_every_call_writes_a_folder_of_its_own(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    for _ in range(3):
        evaluate(tmp_path / "run", "--pictures", "0")
    folders = list((tmp_path / "run").glob("evaluate-*"))
    assert len(folders) == 3 and all((folder / "results.json").exists() for folder in folders)


def test_all_protocols(trained, tmp_path, capsys):
    results = evaluate(
        trained, "--protocol", "all", "--tiou", "0.3", "0.5", "--out", tmp_path / "out"
    )
    truth = pd.read_csv(trained / "ground_truth.csv")
    found = detections.read_detections(tmp_path / "out/detections.csv")
    protocols = results["methods"]["em-mil"]["protocols"]
    assert list(protocols) == list(eval_detection.PROTOCOLS)
    for protocol, e in protocols.items():
        assert e["map"] == eval_detection.evaluate(truth, found, [0.3, 0.5], protocol).map.tolist()
    assert len(report_table(capsys.readouterr().out)) == 3


def test_other_classes_methods_and_thresholds(trained, tmp_path, capsys):
    flags = "--video-classifier oracle --gate 0 --method em-mil".split()
    oracle = evaluate(trained, *flags, "--out", tmp_path / "oracle")
    assert list(oracle["methods"]) == ["em-mil"]
    assert "EM-MIL (oracle classes)" in capsys.readouterr().out
    found = detections.read_detections(tmp_path / "oracle/detections.csv")
    truth = pd.read_csv(trained / "ground_truth.csv")
    assert set(zip(found["video"], found["label"])) <= set(zip(truth["video"], truth["label"]))

    evaluate(trained, "--method", "wtalc", "--out", tmp_path / "wtalc")
    assert commands.same(tmp_path / "wtalc/detections.csv", trained / "detections-wtalc.csv")

    flags = "--thresholds 0 0.3 --nms 0.5 --method em-mil".split()
    evaluate(trained, *flags, "--out", tmp_path / "nms")
    several = detections.read_detections(tmp_path / "nms/detections.csv")
    separate = pd.concat([by_hand(trained, 0.3, 0.0), by_hand(trained, 0.3, 0.3)])
    key = ["video", "label", "t_start", "t_end"]
    assert set(map(tuple, several[key].to_numpy())) <= set(map(tuple, separate[key].to_numpy()))

    left_out = evaluate(trained, "--exclude-video", "video_08", "--out", tmp_path / "without")
    assert left_out["test"]["videos"] == 3
    assert "video_08" not in set(
        detections.read_detections(tmp_path / "without/detections.csv")["video"]
    )


def test_a_gamma_wins_over_the_runs_own_thresholds(trained, tmp_path):
    """A run made with --thresholds localizes by them; --gamma given now is meant instead of
    them.
    """
    shutil.copytree(trained, tmp_path / "run")
    saved = json.loads((tmp_path / "run/opts.json").read_text())
    (tmp_path / "run/opts.json").write_text(
        json.dumps({**saved, "thresholds": [0.0, 0.4], "nms": 0.5})
    )
    evaluate(tmp_path / "run", "--gamma", "0.2", "--out", tmp_path / "out")
    found = detections.read_detections(tmp_path / "out/detections.csv")
    pd.testing.assert_frame_equal(
        sorted_rows(found), sorted_rows(by_hand(trained, 0.3, 0.2)), rtol=1e-9
    )


@pytest.mark.parametrize(
    "flags, said",
    [
        (["--lr", "1"], "--lr: cannot be changed of a trained run"),
        (["--seed", "5", "--keep-peak"], "--seed, --keep-peak: cannot be changed of a trained run"),
        (["--train-subset", "x"], "--train-subset: cannot be changed of a trained run"),
        (["--dataset", "demo"], "--dataset: cannot be changed of a trained run"),
        (["--features", "x.h5"], "--features: cannot be changed here, where it has no effect"),
        (["--device", "cpu"], "--device: cannot be changed here"),
        (["--checkpoint-every", "3"], "--checkpoint-every: found an option of an earlier version"),
        (["--other-code"], "--other-code: found without --resume"),
        (["--gamma", "0.1", "--test-gamma", "0.1"], "--gamma: found with --test-gamma"),
        (["--gamma", "0.1", "--thresholds", "0", "0.1"], "--thresholds: found with a gamma"),
        (["--test-gamma", "0.1", "--thresholds", "0.1"], "--thresholds: found with a gamma"),
        (["--keep-going"], "--keep-going: found without --predict"),
        (["--tensorboard"], "--tensorboard: found with --evaluate, where it has no effect"),
        (["--exclude-video", "nobody"], "--exclude-video: found nobody"),
        (["--gamma", "2"], "2.0, expected a number in [0, 1)"),
        (["--lambda", "nan"], "--lambda: found nan"),
        (["--ambiguous", "nowhere.csv"], "nowhere.csv: found no such file"),
        (["--video-scores", "nowhere.csv"], "nowhere.csv: found no such file"),
    ],
)
def test_flags_that_are_refused(trained, tmp_path, capsys, flags, said):
    assert said in refused(trained, capsys, *flags, "--out", tmp_path / "out")
    assert not (tmp_path / "out/results.json").exists()


def test_a_run_is_not_written_over(trained, capsys):
    before = commands.stamps(trained)
    assert "found a run there, expected another folder" in refused(
        trained, capsys, "--out", trained
    )
    assert commands.stamps(trained) == before


def test_results_are_not_mixed_with_others(trained, tmp_path, capsys):
    evaluate(trained, "--out", tmp_path / "out")
    before = commands.stamps(tmp_path / "out")
    said = refused(trained, capsys, "--method", "em-mil", "--out", tmp_path / "out")
    assert "found results there, expected a new folder" in said
    assert commands.stamps(tmp_path / "out") == before


def test_what_a_run_has_left_out_stays_out_and_is_said(tmp_path, capsys):
    flags = commands.write_set(tmp_path / "data")
    run.main([*flags, "--exclude-video", "video_08", "--out", str(tmp_path / "run")])
    capsys.readouterr()
    found = evaluate(tmp_path / "run", "--exclude-video", "v_video_09", "VIDEO_08.mp4")
    assert found["test"]["videos"] == 2
    assert "exclude-video video_08 v_video_09" in capsys.readouterr().out
    assert evaluate(tmp_path / "run", "--lambda", "0.5")["test"]["videos"] == 3
    assert "exclude-video video_08" in capsys.readouterr().out
    (tmp_path / "run/opts.json").write_text("{}")  # as before there was the option
    assert evaluate(tmp_path / "run")["test"]["videos"] == 3


def test_ambiguous_segments_go_by_any_form_of_a_videos_name(trained, tmp_path, capsys):
    """As detections do; those in other videos are not counted."""
    tables.write_csv(
        tmp_path / "ambiguous.csv",
        pd.DataFrame(
            [("v_video_08", 0.0, 9.0), ("video_00", 0.0, 9.0)], columns=eval_detection.SEGMENT
        ),
    )
    flags = "--protocol", "all", "--ambiguous", tmp_path / "ambiguous.csv"
    found = evaluate(trained, *flags, "--out", tmp_path / "all")
    assert found["test"]["ambiguous"] == 1
    assert "such as v_video_08 for video_08" in capsys.readouterr().out
    truth = pd.read_csv(trained / "ground_truth.csv")
    table = detections.read_detections(trained / "detections.csv")
    forgiven = pd.DataFrame([("video_08", 0.0, 9.0)], columns=eval_detection.SEGMENT)
    scored = found["methods"]["em-mil"]["protocols"]["thumos-2015"]
    expected = eval_detection.evaluate(truth, table, scored["tious"], "thumos-2015", forgiven)
    assert scored["map"] == expected.map.tolist()

    excluded = evaluate(
        trained, *flags, "--exclude-video", "video_08", "--out", tmp_path / "excluded"
    )
    assert excluded["test"]["ambiguous"] == 0
    assert "2 Ambiguous segments in other videos" in capsys.readouterr().out


def test_a_dry_run_writes_nothing(trained, tmp_path, capsys):
    assert evaluate(trained, "--lambda", "0.77", "--dry-run", "--out", tmp_path / "out") is None
    assert "lambda 0.77" in capsys.readouterr().out.replace("\n  ", " ")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "name, content, said",
    [
        ("clip_scores.h5", None, "found no such file"),
        ("clip_scores.h5", b"\x89HDF", "found no readable clip scores"),
        ("ground_truth.csv", None, "found no readable table"),
        ("ground_truth.csv", b"\0\xff", "found no readable table"),
        ("ground_truth.csv", b"video,t_start,t_end,label\nv,zero,1,A\n", "found no readable table"),
        ("ground_truth.csv", b"video,label\nv,A\n", "found no readable table"),
        ("ambiguous.csv", b"", "found no readable table"),
        ("opts.json", None, "found no such file"),
        ("opts.json", b"{", "expected valid JSON"),
        ("opts.json", b'{"no option": 1}', "which is no option"),
    ],
)
def test_a_run_with_a_broken_file(trained, tmp_path, capsys, name, content, said):
    shutil.copytree(trained, tmp_path / "run")
    (tmp_path / "run" / name).unlink()
    if content is not None:
        (tmp_path / "run" / name).write_bytes(content)
    error = refused(tmp_path / "run", capsys)
    assert said in error and (name in error or "no option" in said)
    assert not list((tmp_path / "run").glob("evaluate-*"))


def test_scores_of_a_method_that_the_run_has_not_trained(trained, tmp_path, capsys):
    shutil.copytree(trained, tmp_path / "run")
    records, classes = clip_scores.read(trained / "clip_scores.h5")
    without = [
        dataclasses.replace(r, scores={k: v for k, v in r.scores.items() if k != "wtalc"})
        for r in records
    ]
    clip_scores.write(tmp_path / "run/clip_scores.h5", without, classes)
    for flags in (["--method", "wtalc"], ["--method", "em-mil", "--video-classifier", "wtalc"]):
        assert "error: W-TALC: " in refused(tmp_path / "run", capsys, *flags)


def test_a_run_in_progress(trained, tmp_path, capsys):
    (tmp_path / "run").mkdir()
    for name in ("opts.json", run_folder.RECORDS, run_folder.CHECKPOINT, run_folder.LOG):
        shutil.copy(trained / name, tmp_path / "run")
    assert "expected the clip scores of a finished run" in refused(tmp_path / "run", capsys)


def test_names_are_text_and_times_exact(trained, tmp_path):
    """A class called NA or 007 keeps its name, and a time every digit."""
    shutil.copytree(trained, tmp_path / "run")
    records, _ = clip_scores.read(trained / "clip_scores.h5")
    clip_scores.write(tmp_path / "run/clip_scores.h5", records, ("007", "NA"))
    truth = pd.DataFrame(
        {
            "video": records[0].name,
            "t_start": [0.1 + 0.2, 1 / 3],
            "t_end": [1.7, 2.5],
            "label": ["NA", "007"],
        }
    )
    tables.write_csv(tmp_path / "run/ground_truth.csv", truth)
    results = evaluate(tmp_path / "run", "--pictures", "0", "--out", tmp_path / "out")
    assert set(results["methods"]["em-mil"]["protocols"]["activitynet"]["ap"]) == {"NA", "007"}
    found = detections.read_detections(tmp_path / "out/detections.csv")
    again = eval_detection.evaluate(truth, found, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7])
    assert again.map.tolist() == results["methods"]["em-mil"]["protocols"]["activitynet"]["map"]


def test_detections_only_where_no_segment_is_give_zero(trained, tmp_path):
    """Names fit, the method found nothing in the one video with segments: mAP 0, and a page."""
    shutil.copytree(trained, tmp_path / "run")
    records, classes = clip_scores.read(trained / "clip_scores.h5")
    for values in records[0].scores["em-mil"].values():
        values[:] = 0.5  # a constant score has no proposal
    clip_scores.write(tmp_path / "run/clip_scores.h5", records, classes)
    truth = pd.read_csv(trained / "ground_truth.csv")
    truth = truth[truth["video"] == records[0].name]
    tables.write_csv(tmp_path / "run/ground_truth.csv", truth)
    results = evaluate(tmp_path / "run", "--method", "em-mil", "--out", tmp_path / "out")
    found = detections.read_detections(tmp_path / "out/detections.csv")
    assert len(found) and len(truth) and set(found["video"]).isdisjoint(truth["video"])
    assert set(results["methods"]["em-mil"]["protocols"]["activitynet"]["map"]) == {0}
    assert (tmp_path / "out/report.html").exists()


def test_the_gate_is_held_against_the_labels_of_training(trained, tmp_path, capsys):
    """Of two classes, training videos have one each; a gate of 0 passes both, of 1 neither."""

    def said(folder, *flags):
        evaluate(folder, "--method", "em-mil", *flags)
        return [line for line in capsys.readouterr().out.splitlines() if "the gate 0 " in line]

    (line,) = said(trained, "--gate", "0", "--out", tmp_path / "all")
    assert line.startswith("warning: ") and "2.00" in line and "1.00" in line and "--gate" in line
    oracle = "--gate", "0", "--video-classifier", "oracle"
    assert said(trained, *oracle, "--out", tmp_path / "oracle") == []  # the gate does nothing there
    evaluate(trained, "--gate", "1", "--out", tmp_path / "none")
    assert "4 of 4 videos" in capsys.readouterr().out


def test_where_no_test_video_has_a_segment_there_are_detections_and_no_table(
    trained, tmp_path, capsys
):
    shutil.copytree(trained, tmp_path / "run")
    for name in ("ground_truth.csv", "ambiguous.csv"):
        head = (trained / name).read_text().splitlines()[0]
        (tmp_path / "run" / name).write_text(head + "\n")
    results = evaluate(tmp_path / "run", "--out", tmp_path / "out")
    assert results["methods"]["em-mil"]["protocols"] == {} and results["test"]["segments"] == 0
    assert (
        "No test video has a segment: detections are written, nothing is scored."
        in capsys.readouterr().out
    )
    assert commands.same(tmp_path / "out/detections.csv", trained / "detections.csv")


def test_the_caption_has_every_setting_that_shaped_the_table(trained, tmp_path, capsys):
    evaluate(
        trained, "--lambda", "0.9", "--gamma", "0.2", "--gate", "0.4", "--out", tmp_path / "out"
    )
    said = " ".join(capsys.readouterr().out.split())
    assert "seed 1, recipe paper, but " in said and "test-gamma 0.2" in said
    assert "lambda 0.9, gamma 0.2, gate 0.4, score mean; classes from untrimmednet" in said
    evaluate(trained, "--method", "wtalc", "--out", tmp_path / "wtalc")
    assert "classes from" not in capsys.readouterr().out
