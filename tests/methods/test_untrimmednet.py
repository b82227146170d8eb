"""UntrimmedNet: scores against NumPy, the attention-MIL loss by hand, one stream."""

import math

import numpy as np
import pytest
import torch
from toy_sets import softmax, streams, video

from engine.loop import TrainingSet
from engine.run_folder import RunFolder, read_log
from methods.untrimmednet import Settings, UntrimmedNet, attention_mil_loss, log_average

SETTINGS = Settings(lr=1e-3, untrimmednet_epochs=1)


def t(*rows):
    return torch.tensor(rows, dtype=torch.float64)


# ------------------------------------------------------------------------------------------------
# scores
@pytest.mark.parametrize("clips, classes", [(7, 4), (1, 4), (7, 1), (1, 1)])
def test_the_streams_are_blended_before_the_product(clips, classes):
    model = UntrimmedNet(5, 3, classes, SETTINGS)
    rgb, flow = streams(clips)
    logits = [
        x.numpy() @ head.weight.detach().numpy().T + head.bias.detach().numpy()
        for x, head in ((rgb, model.rgb), (flow, model.flow))
    ]
    attention = np.mean([softmax(s[:, 0], 0) for s in logits], axis=0)
    of_clips = np.mean([softmax(s[:, 1:], 1) for s in logits], axis=0)

    found = model.scores(rgb, flow)

    np.testing.assert_allclose(found["attention"], attention, atol=1e-6)
    np.testing.assert_allclose(found["clips"], of_clips, atol=1e-6)
    np.testing.assert_allclose(found["video"], attention @ of_clips, atol=1e-6)
    assert found["attention"].sum().item() == pytest.approx(1, abs=1e-6)
    assert found["video"].sum().item() == pytest.approx(1, abs=1e-6) and found["video"].max() <= 1
    assert not any(scores.requires_grad for scores in found.values())


def test_log_average_of_two_streams_and_of_one():
    a, b = t(0.2, 0.8), t(0.6, 0.4)
    assert log_average([a.log(), b.log()], 0.25).exp().tolist() == pytest.approx([0.5, 0.5])
    assert log_average([a.log()], 0.25).exp().tolist() == pytest.approx([0.2, 0.8])
    assert log_average([t(-1000.0), t(-1001.0)], 0.5).item() == pytest.approx(
        -1000 + math.log((1 + math.exp(-1)) / 2)
    )  # exp(-1000) is 0, its logarithm is not lost


# ------------------------------------------------------------------------------------------------
# the loss
def test_attention_mil_loss_by_hand():
    # a = (1/4, 3/4); class probabilities (1/2, 1/2) and (1/4, 3/4): p = (5/16, 11/16)
    a, c = t(0.25, 0.75), t([0.5, 0.5], [0.25, 0.75])
    assert attention_mil_loss(a.log(), c.log(), t(1, 0)).item() == pytest.approx(-math.log(5 / 16))
    both = attention_mil_loss(a.log(), c.log(), t(1, 1)).item()  # labels L1-normalised
    assert both == pytest.approx(-(math.log(5 / 16) + math.log(11 / 16)) / 2)


def test_attention_mil_loss_of_a_vanishing_class_is_finite_with_a_gradient():
    logits = torch.tensor([[0.0, -500.0]], requires_grad=True)  # exp(-500) is 0 in float32
    loss = attention_mil_loss(torch.zeros(1), logits.log_softmax(1), torch.tensor([0.0, 1.0]))
    loss.backward()
    assert loss.item() == pytest.approx(500) and logits.grad[0, 1].item() == pytest.approx(-1)


def test_it_trains_on_minus_log_of_its_video_scores(tmp_path):
    rgb, flow = streams(6)
    model = UntrimmedNet(5, 3, 4, SETTINGS)
    p = model.scores(rgb, flow)["video"].numpy()
    model.fit(
        TrainingSet([video("a", rgb.numpy(), flow.numpy(), [1, 0, 1, 0])]), RunFolder(tmp_path)
    )
    (record,) = read_log(tmp_path)
    assert record["loss"] == {
        "attention-mil": pytest.approx(-(math.log(p[0]) + math.log(p[2])) / 2, rel=1e-5)
    }
    assert (record["stage"], record["epoch"], record["videos"], record["lr"]) == (
        "untrimmednet",
        1,
        1,
        1e-3,
    )
