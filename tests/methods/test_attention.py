"""Table 3's Alternating: its steps by hand, what they freeze, its scores."""

import numpy as np
import pytest
import torch
from toy_sets import streams, video

import em_trainer
from em_trainer import Phase
from engine.loop import TrainingSet
from engine.run_folder import RunFolder, read_log
from methods.attention import (
    AttentionEStep,
    AttentionMStep,
    attention_scores,
    log_attention,
    log_class_probabilities,
)
from model import EMMIL


def small_set(n=5):
    rng = np.random.default_rng(0)
    return [
        video(
            f"v{i}",
            *(x.numpy() for x in streams(int(rng.integers(2, 9)), 6, 5, seed=i)),
            np.eye(3)[i % 3],
        )
        for i in range(n)
    ]


def fit(folder, videos, phases):
    torch.manual_seed(3)
    model, run = EMMIL(6, 5, 3), RunFolder(folder, seed=3)
    em_trainer.fit(
        {"E": AttentionEStep(model), "M": AttentionMStep(model)}, TrainingSet(videos), run, phases
    )
    run.close()
    return model, read_log(folder)


def fresh():
    torch.manual_seed(3)
    return EMMIL(6, 5, 3)


def features(v):
    return torch.from_numpy(v.rgb), torch.from_numpy(v.flow)


@pytest.mark.parametrize("targets", ["bag", "frozen"])
@pytest.mark.parametrize("step", ["E", "M"])
def test_a_step_by_hand(tmp_path, step, targets):
    """-log of the class's probability, weighed by the attention: of each stream for the branch that
    is trained, averaged over the streams for the frozen one; uniform attention at the start."""
    (v,) = small_set(1)
    _, log = fit(tmp_path, [v], [Phase(step, 1, 1e-3, targets)])
    model = fresh()
    q, p = model.assignment(*features(v)), model.classifier(*features(v))
    attention = {name: getattr(q, name)[:, 0].softmax(0) for name in ("rgb", "flow")}
    probability = {name: getattr(p, name).softmax(1)[:, 0] for name in ("rgb", "flow")}
    frozen = attention if step == "M" else probability
    mean = (frozen["rgb"] + frozen["flow"]) / 2
    if step == "M" and targets == "bag":
        mean = torch.full_like(mean, 1 / len(mean))
    for stream, trained in (probability if step == "M" else attention).items():
        expected = -(mean * trained).sum().log().item()
        assert log[0]["loss"][stream] == pytest.approx(expected, rel=1e-5)
    assert not {"positive", "empty", "changed"} & log[0].keys()  # of labels in [0, 1] only
    assert not (tmp_path / "labels").exists()


def test_scores_lie_in_the_unit_interval_and_phases_freeze(tmp_path):
    videos = small_set()
    before, _ = fit(tmp_path / "before", videos, [Phase("M", 1, 1e-3, "bag")])
    after, _ = fit(
        tmp_path / "after", videos, [Phase("M", 1, 1e-3, "bag"), Phase("E", 1, 1e-3, "frozen")]
    )
    assert all(
        a.equal(b) for a, b in zip(before.classifier.parameters(), after.classifier.parameters())
    )
    assert not any(
        a.equal(b) for a, b in zip(before.assignment.parameters(), after.assignment.parameters())
    )
    scores = attention_scores(after, *features(videos[0]))
    assert scores["q"].max() == 1 and (scores["q"] > 0).all() and not scores["q"].requires_grad
    torch.testing.assert_close(scores["p"].sum(1), torch.ones(len(scores["p"])))


def test_the_streams_are_averaged_with_their_weights():
    torch.manual_seed(0)
    model = EMMIL(6, 5, 3, rgb_weight=0.25)
    rgb, flow = streams(4, 6, 5)
    q, p = model.assignment(rgb, flow), model.classifier(rgb, flow)
    torch.testing.assert_close(
        log_attention(model.assignment, rgb, flow).exp(),
        (0.25 * q.rgb.softmax(0) + 0.75 * q.flow.softmax(0))[:, 0],
    )
    torch.testing.assert_close(
        log_class_probabilities(model.classifier, rgb, flow).exp(),
        0.25 * p.rgb.softmax(1) + 0.75 * p.flow.softmax(1),
    )
