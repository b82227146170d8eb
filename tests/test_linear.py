"""The layer on oneDNN against PyTorch's own, in values and gradients."""
import pytest
import torch
from torch import nn

import linear
from linear import Linear, rows_for
from model import Head, shifted


def layers(inputs, outputs):
    ours, plain = Linear(inputs, outputs), nn.Linear(inputs, outputs)
    plain.load_state_dict(ours.state_dict())            # the same names and shapes
    return ours, plain


@pytest.mark.parametrize("n", [1, 3, 45, 167])
def test_values_and_all_three_gradients(n):
    ours, plain = layers(12, 5)
    a, b = (torch.randn(n, 12, generator=torch.Generator().manual_seed(n), requires_grad=True) for _ in range(2))
    weights = torch.randn(n, 5)
    (ours(a) * weights).sum().backward()
    (plain(b) * weights).sum().backward()
    torch.testing.assert_close(ours(a), plain(b))
    for x, y in ((a, b), (ours.weight, plain.weight), (ours.bias, plain.bias)):
        torch.testing.assert_close(x.grad, y.grad, rtol=1e-5, atol=1e-5)


def test_the_same_random_weights_as_pytorch_s_layer():
    torch.manual_seed(0)
    ours = Linear(4, 3)
    torch.manual_seed(0)
    plain = nn.Linear(4, 3)
    assert ours.weight.equal(plain.weight) and ours.bias.equal(plain.bias)


@pytest.mark.parametrize("prepare", ["double", "autocast", "unavailable"])
def test_pytorch_s_own_layer_elsewhere(prepare, monkeypatch):
    ours, plain = layers(12, 5)
    x = torch.randn(7, 12)
    monkeypatch.setattr(linear, "product", None)        # raises where it is called
    if prepare == "double":
        ours, plain, x = ours.double(), plain.double(), x.double()
    if prepare == "unavailable":
        monkeypatch.setattr(linear, "AVAILABLE", False)
    with torch.autocast("cpu", torch.bfloat16, enabled=prepare == "autocast"):
        assert rows_for(x) == 7
        found, expected = ours(x), plain(x)
    assert found.equal(expected) and found.dtype == {"double": torch.float64, "autocast": torch.bfloat16,
                                                     "unavailable": torch.float32}[prepare]


@pytest.mark.skipif(not linear.AVAILABLE, reason="this PyTorch has no oneDNN")
def test_few_numbers_of_rows_for_any_length():
    rows = {t: rows_for(torch.zeros(t, 1)) for t in range(1, 2049)}
    assert [rows[t] for t in (1, 7, 15, 16, 17, 45, 167, 1127)] == [1, 7, 15, 16, 18, 48, 176, 1152]
    assert all(t <= r <= 1.125 * t for t, r in rows.items()) and len(set(rows.values())) == 72


@pytest.mark.parametrize("t", [1, 2, 17, 45])
def test_the_rows_beyond_a_video_change_nothing(t, monkeypatch):
    head, x = Head(6, 3), torch.randn(t, 6)
    found = head(x)
    found.square().sum().backward()
    grads = [p.grad.clone() for p in head.parameters()]
    head.zero_grad()
    monkeypatch.setattr(linear, "AVAILABLE", False)
    assert shifted(x, t + 3)[:t].equal(shifted(x)) and shifted(x, t + 3)[t + 1:].count_nonzero() == 0
    expected = head(x)
    expected.square().sum().backward()
    torch.testing.assert_close(found, expected)
    for p, grad in zip(head.parameters(), grads):
        torch.testing.assert_close(grad, p.grad, rtol=1e-5, atol=1e-5)
