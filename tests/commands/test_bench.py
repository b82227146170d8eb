"""What the benchmark compares must agree, or its ratio means nothing."""

import json

import bench
import numpy as np
import pytest
import torch
from places import SHARED

import eval_detection
from em_trainer import Phase
from formats import annotations


@pytest.mark.parametrize("step, zeros", [("E", True), ("E", False), ("M", True), ("M", False)])
def test_the_released_step_s_first_losses_are_ours(step, zeros):
    """With a step too small to move anything both loops see the same weights in every step,
    whatever their order.
    """
    videos = bench.random_videos([3, 9, 17, 1], 6, 4)
    log, model = bench.train(videos, [Phase(step, 1, 1e-12, "frozen")])
    released, state = bench.ReleasedStep(videos, zeros), model.state_dict()
    for short, branch in (("q", "assignment"), ("p", "classifier")):
        for stream in ("rgb", "flow"):
            for layer, name in zip(released.heads[f"{short}_{stream}"], ("conv", "linear")):
                prefix = f"{branch}.{stream}.{name}."
                layer.load_state_dict({w: state[prefix + w] for w in ("weight", "bias")})
    released.adam.param_groups[0]["lr"] = 1e-12
    assert released.epoch(step) == pytest.approx(sum(log[0]["loss"].values()), rel=1e-4)
    # a step of the other branch: Adam's momentum moves this one where its gradients are zeros
    released.adam.param_groups[0]["lr"] = 1e-2
    weight = released.heads["q_rgb" if step == "E" else "p_rgb"][0].weight
    before = weight.detach().clone()
    released.epoch("M" if step == "E" else "E")
    assert torch.equal(weight, before) is not zeros


def test_training_as_fast_as_its_fastest_epochs_and_passes():
    rows = [("M", 1, 1, 3.0, 0.5), ("M", 1, 2, 2.0, 0.5), ("E", 2, 1, 4.0, 0.25)]
    rows += [("M", 3, 1, 2.5, 0.75), ("E", 4, 1, 6.0, 0.125), ("M", 5, 1, 2.0, 1.0)]
    names = "step", "phase", "epoch", "seconds", "label_seconds"
    log = [dict(zip(names, row)) for row in rows]
    # lost: epochs M 1 + 0.5, E 2; passes M 0.25, E 0.125. Phase 1 makes no pass.
    assert bench.at_fastest(25.0, log) == (25 - 3.875, 2 * 0.75 + 2 * 0.125)


def test_training_at_tiny_shapes():
    shape = {"lengths": [3, 9, 1], "dim": 6, "classes": 4}
    figures = bench.measure_training({"": shape, "small_": shape}, rounds=1)
    assert len(figures) == 14 and np.isfinite(list(figures.values())).all()
    for prefix in ("", "small_"):
        ratio = figures[f"{prefix}release_like_none_over_training"]
        spent = figures[f"{prefix}released_none_s"] / figures[f"{prefix}training_fastest_s"]
        assert ratio == spent and 0 < figures[f"{prefix}labels_over_training"] < 1


@pytest.mark.parametrize("name, subset", [("TRAIN", "validation"), ("TEST", "test")])
def test_the_drawn_lengths_are_like_those_of_the_published_durations(name, subset):
    folder = SHARED / "data" / "thumos14" / "Thumos14reduced-Annotations"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    videos = annotations.in_subset(annotations.load(folder), subset)
    published = [int(duration / 1.25) for duration in videos["duration"]]
    drawn = getattr(bench, f"{name}_LENGTHS")
    assert len(drawn) == len(published)
    assert sum(drawn) == pytest.approx(sum(published), abs=10)
    assert np.median(drawn) == pytest.approx(np.median(published), rel=0.05)
    assert np.std(np.log(drawn)) == pytest.approx(np.std(np.log(published)), abs=0.1)


def test_proposals_of_localization_are_runs_above_the_threshold():
    runs = 0
    for scores in bench.smooth_scores([1, 40, 7], 3):
        l = 0.8 * scores[:, :1] + 0.2 * scores[:, 1:]  # (T, C)
        above = l > l.mean(axis=0) + 0.15 * (l.max(axis=0) - l.min(axis=0))
        runs += np.sum(above[0]) + np.sum(above[1:] & ~above[:-1])
    figures = bench.measure_localization([1, 40, 7], 3)
    assert figures["localize_proposals"] == runs > 6
    assert figures["localize_seconds"] > 0


def test_the_toolkit_s_loops_give_the_evaluator_s_map():
    tables = bench.random_tables(60, 300, videos=8, classes=4)
    ours = eval_detection.evaluate(*tables, bench.TIOUS).map
    np.testing.assert_allclose(bench.plain_activitynet_map(*tables, bench.TIOUS), ours, atol=1e-12)
    assert ours[0] > 0.1 > ours[-1]
    assert np.isfinite(bench.measure_evaluation(60, 300, 8, 4)["eval_plain_over_ours"])


def test_command_writes_a_flat_object(tmp_path, capsys, monkeypatch):
    for part in bench.PARTS:
        monkeypatch.setitem(
            bench.PARTS, part, lambda part=part: {part: 0.25, f"{part} count": 49554}
        )
    figures = bench.main(["--json", str(tmp_path / "out.json")])
    assert json.loads((tmp_path / "out.json").read_text()) == figures
    assert list(figures.values()) == [0.25, 49554] * 3
    lines = capsys.readouterr().out.splitlines()[-6:]
    assert [line.split()[-1] for line in lines] == ["0.25", "49554"] * 3
    assert bench.main(["eval"]) == {"eval": 0.25, "eval count": 49554}
