"""The two layers with their hand-made derivative against PyTorch's own, in values and gradients."""
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from engine import cpu as linear
from engine.cpu import onednn_product, rows_for, two_layers
from model import Head, shifted


def layers(inputs, hidden, outputs, dtype=torch.float32):
    torch.manual_seed(0)
    return nn.Linear(inputs, hidden, dtype=dtype), nn.Linear(hidden, outputs, dtype=dtype)


@pytest.mark.parametrize("onednn", [True, False])
@pytest.mark.parametrize("n", [1, 3, 45, 167])
def test_values_and_all_four_gradients(n, onednn, monkeypatch):
    if not onednn:
        monkeypatch.setattr(linear, "AVAILABLE", False)
        monkeypatch.setattr(linear, "onednn_product", None)           # raises where it is called
    elif not linear.AVAILABLE:
        pytest.skip("this PyTorch has no oneDNN")
    first, second = layers(12, 7, 5)
    x, weights = torch.randn(n, 12), torch.randn(n, 5)
    parameters = [*first.parameters(), *second.parameters()]
    found = two_layers(x, len(x), first, second)
    expected = second(F.relu(first(x)))
    torch.testing.assert_close(found, expected)
    for a, b in zip(*(torch.autograd.grad((y * weights).sum(), parameters) for y in (found, expected)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_the_derivative_against_finite_differences():
    first, second = layers(4, 6, 3, torch.float64)
    x = torch.randn(5, 4, dtype=torch.float64)
    before = first(x)
    assert (before > 0).any() and (before < 0).any() and before.abs().min() > 1e-3      # away from the ReLU's corner
    assert torch.autograd.gradcheck(lambda *p: linear._TwoLayers.apply(x, 4, *p),
                                    [*first.parameters(), *second.parameters()])


def test_by_hand():
    first, second = nn.Linear(1, 2), nn.Linear(2, 1)
    with torch.no_grad():
        for p, value in zip([*first.parameters(), *second.parameters()], ([[2.], [-1.]], [0., 0.], [[3., 5.]], [7.])):
            p.copy_(torch.tensor(value))
    # the fourth row belongs to no clip
    y = two_layers(torch.tensor([[1.], [-4.], [0.], [9.]]), 3, first, second)
    assert y.tolist() == [[13.], [27.], [7.]]                         # 3*2+7, 5*4+7; a hidden layer of zeros
    y.sum().backward()
    assert first.weight.grad.tolist() == [[3.], [-20.]]               # 3*1 from clip 0, 5*-4 from clip 1
    assert first.bias.grad.tolist() == [3., 5.]                       # the ReLU's derivative at 0 is 0, as PyTorch's
    assert second.weight.grad.tolist() == [[2., 4.]] and second.bias.grad.tolist() == [3.]


@pytest.mark.parametrize("autocast", [True, False])
def test_pytorch_s_own_layers_under_autocast_and_for_a_gradient_of_the_features(autocast, monkeypatch):
    first, second = layers(12, 7, 5)
    x = torch.randn(9, 12, requires_grad=not autocast)
    monkeypatch.setattr(linear._TwoLayers, "apply", None)             # raises where it is called
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        found, expected = two_layers(x, 7, first, second), second(F.relu(first(x)))[:7]
    assert found.equal(expected) and found.dtype == (torch.bfloat16 if autocast else torch.float32)
    if not autocast:
        found.sum().backward()
        assert x.grad[:7].count_nonzero() and not x.grad[7:].any()


def test_a_head_under_autocast_is_near_float32():
    torch.manual_seed(0)
    head, x = Head(6, 3), torch.randn(17, 6)                          # 17 clips in 18 rows
    grads = []
    for enabled in (True, False):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            y = head(x)
        assert y.shape == (17, 3) and y.dtype == torch.float32
        grads.append(torch.autograd.grad(y.square().sum(), list(head.parameters())))
    for half, full in zip(*grads, strict=True):
        assert 0 < (half - full).norm() < 0.1 * full.norm()           # bfloat16 has 8 bits, and a ReLU may tip over


def test_there_is_no_second_derivative():
    first, second = layers(4, 6, 3)
    parameters = [*first.parameters(), *second.parameters()]
    y = two_layers(torch.randn(5, 4), 5, first, second).square().sum()
    with pytest.raises(RuntimeError, match="once_differentiable"):
        sum(g.sum() for g in torch.autograd.grad(y, parameters, create_graph=True)).backward()


@pytest.mark.skipif(not linear.AVAILABLE, reason="this PyTorch has no oneDNN")
def test_onednn_multiplies_in_any_memory_order():
    a, b = torch.randn(6, 4), torch.randn(4, 9)
    for x, y in ((a, b.T), (a, b.T.contiguous()), (a.T.contiguous().T, b.T)):
        torch.testing.assert_close(onednn_product(x, y), a @ b)


@pytest.mark.skipif(not linear.AVAILABLE, reason="this PyTorch has no oneDNN")
def test_few_numbers_of_rows_for_any_length():
    rows = {t: rows_for(torch.zeros(t, 1)) for t in range(1, 2049)}
    assert [rows[t] for t in (1, 7, 15, 16, 17, 45, 167, 1127)] == [1, 7, 15, 16, 18, 48, 176, 1152]
    assert all(t <= r <= 1.125 * t for t, r in rows.items()) and len(set(rows.values())) == 72
    assert rows_for(torch.zeros(17, 1, dtype=torch.float64)) == 17


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
