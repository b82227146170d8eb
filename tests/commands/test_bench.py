"""What the benchmark compares must agree, or its ratio means nothing."""

import json

import bench
import numpy as np
import pytest
from places import SHARED
from torch.utils.flop_counter import FlopCounterMode

import em_trainer
import eval_detection
from formats import annotations


def test_the_plain_loop_gives_the_evaluator_s_map():
    truth, found = bench.random_tables(60, 300, n_videos=8, n_classes=4)
    ours = eval_detection.evaluate(truth, found, bench.ACTIVITYNET_TIOUS).map
    np.testing.assert_allclose(
        bench.plain_activitynet_map(truth, found, bench.ACTIVITYNET_TIOUS), ours, atol=1e-12
    )
    assert ours[0] > 0.1 > ours[-1]


@pytest.mark.parametrize("step, zeros", [("E", True), ("E", False), ("M", True), ("M", False)])
def test_the_plain_training_loop_s_first_losses_are_ours(step, zeros):
    """With a step too small to move anything both loops see the same weights in every step,
    whatever their order.
    """
    videos = bench.synthetic([3, 9, 17, 1], 6, 4)
    ours, plain = bench.Ours(videos), bench.Plain(videos, zeros)
    state = ours.model.state_dict()
    names = {
        "q_rgb": "assignment.rgb",
        "q_flow": "assignment.flow",
        "p_rgb": "classifier.rgb",
        "p_flow": "classifier.flow",
    }
    for short, long in names.items():
        for k, layer in enumerate(("conv", "linear")):
            plain.heads[short][k].load_state_dict(
                {w: state[f"{long}.{layer}.{w}"] for w in ("weight", "bias")}
            )
    plain.adam.param_groups[0]["lr"] = 1e-12
    log = ours.train([em_trainer.Phase(step, 1, 1e-12, "frozen")])
    assert plain.epoch(step) == pytest.approx(sum(log[0]["loss"].values()), rel=1e-4)


def test_lengths_are_those_of_the_published_durations():
    folder = SHARED / "data" / "thumos14" / "Thumos14reduced-Annotations"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    videos = annotations.load(str(folder)).videos.values()
    for name, subset in (("train", "validation"), ("test", "test")):
        assert bench.THUMOS14[name] == [
            int(v.duration / 1.25) for v in videos if v.subset == subset
        ]


def test_the_floor_holds_every_product_of_an_epoch():
    shapes = []

    def product(a, b):
        shapes.append((*a.shape, len(b)))
        return a @ b.T

    with FlopCounterMode(display=False) as counter:
        bench.floor(bench.columns([5, 7], 12), [5, 7], 3, product, product)()
    assert shapes == [(256, 12, 5), (256, 5, 12)] * 2 + [(256, 12, 7), (256, 7, 12)] * 2
    # Two streams; of a multiply and an add each, two products of the first layer and three of the
    # second.
    assert counter.get_total_flops() == 2 * 2 * (5 + 7) * (2 * 12 * 256 + 3 * 256 * 3)


def test_a_set_from_disk_trains_alike_streamed_and_in_memory(tmp_path):
    bench.write_set(tmp_path, [5, 9, 2], 6, 2, 0.5)
    phases = [em_trainer.Phase("M", 1, 1e-3, "bag"), em_trainer.Phase("E", 1, 1e-3, "frozen")]
    found = [bench.train_from_disk(tmp_path, limit, phases) for limit in (None, 0)]
    assert [f["in_memory"] for f in found] == [True, False]
    assert all(len(f["epochs_s"]) == 2 for f in found)
    assert found[0]["feature_bytes"] == (5 + 9 + 2 + 1) * 12 * 4
    assert found[0]["loss"] == found[1]["loss"]


@pytest.mark.slow
def test_command_writes_a_flat_object(tmp_path, capsys):
    figures = bench.main(["localize", "--json", str(tmp_path / "out.json")])
    assert json.loads((tmp_path / "out.json").read_text()) == figures
    assert figures["localize_seconds"] > 0 and figures["localize_proposals"] > 4000
    last = capsys.readouterr().out.splitlines()[-1].split()
    assert last == ["localize_proposals", str(figures["localize_proposals"])]
