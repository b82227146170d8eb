"""UntrimmedNet's attention-MIL loss by hand."""
import math

import pytest
import torch

from baselines.untrimmednet import attention_mil_loss


def t(*rows):
    return torch.tensor(rows, dtype=torch.float64)


def test_attention_mil_loss_by_hand():
    # a = (1/4, 3/4); class probabilities (1/2, 1/2) and (1/4, 3/4): p = (5/16, 11/16)
    a, c = torch.tensor([0.25, 0.75]).double(), t([0.5, 0.5], [0.25, 0.75])
    assert attention_mil_loss(a.log(), c.log(), t([1, 0])[0]).item() == pytest.approx(-math.log(5 / 16))
    both = attention_mil_loss(a.log(), c.log(), t([1, 1])[0]).item()          # labels L1-normalised
    assert both == pytest.approx(-(math.log(5 / 16) + math.log(11 / 16)) / 2)


def test_attention_mil_loss_of_a_vanishing_class_is_finite_with_a_gradient():
    logits = torch.tensor([[0.0, -500.0]], requires_grad=True)                # exp(-500) is 0 in float32
    loss = attention_mil_loss(torch.zeros(1), logits.log_softmax(1), torch.tensor([0.0, 1.0]))
    loss.backward()
    assert loss.item() == pytest.approx(500) and logits.grad[0, 1].item() == pytest.approx(-1)
