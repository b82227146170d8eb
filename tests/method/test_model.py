"""The network against nn.Conv1d, and its shapes and fusion by hand."""
import pytest
import torch
from torch import nn

from model import EMMIL, HIDDEN, Head, from_conv1d, shifted, to_conv1d


def test_shifted_puts_neighbours_side_by_side():
    x = torch.tensor([[1., 2.], [3., 4.], [5., 6.]])
    assert shifted(x).tolist() == [[0, 0, 1, 2, 3, 4], [1, 2, 3, 4, 5, 6], [3, 4, 5, 6, 0, 0]]
    assert shifted(x[:1]).tolist() == [[0, 0, 1, 2, 0, 0]]


@pytest.mark.parametrize("clips", [1, 2, 9])
def test_head_equals_conv1d(clips):
    torch.manual_seed(0)
    head = Head(5, 3).double()
    conv = nn.Conv1d(5, HIDDEN, 3, padding=1).double()
    state = to_conv1d({f"conv.{k}": v for k, v in head.conv.state_dict().items()})
    conv.load_state_dict({k.removeprefix("conv."): v for k, v in state.items()})
    x = torch.randn(clips, 5, dtype=torch.float64)
    expected = head.linear(torch.relu(conv(x.T[None])[0].T))
    torch.testing.assert_close(head(x), expected)


def test_conv1d_state_dict_round_trip():
    state = EMMIL(4, 6, 2).state_dict()
    conv = to_conv1d(state)
    assert conv["assignment.flow.conv.weight"].shape == (HIDDEN, 6, 3)
    assert conv["assignment.flow.linear.weight"].shape == (1, HIDDEN)
    back = from_conv1d(conv)
    assert all(back[k].equal(v) for k, v in state.items())


def test_scores_have_the_right_shapes_and_fuse_the_streams():
    torch.manual_seed(1)
    model = EMMIL(4, 6, 3, rgb_weight=0.25)
    out = model(torch.randn(7, 4), torch.randn(7, 6))
    assert out.q.shape == (7,) and out.p.shape == (7, 3)
    assert out.q_logits.rgb.shape == (7, 1) and out.p_logits.flow.shape == (7, 3)
    expected = 0.25 / (1 + torch.exp(-out.p_logits.rgb)) + 0.75 / (1 + torch.exp(-out.p_logits.flow))
    torch.testing.assert_close(out.p, expected)
    torch.testing.assert_close(out.q, (0.25 * out.q_logits.rgb.sigmoid() + 0.75 * out.q_logits.flow.sigmoid())[:, 0])


def test_conv_weights_start_like_conv1d():
    torch.manual_seed(2)
    bound = 1 / (3 * 16) ** 0.5                             # nn.Conv1d: uniform within 1/sqrt(fan in)
    weight = Head(16, 1).conv.weight
    assert weight.abs().max() <= bound and weight.abs().max() > 0.99 * bound
    assert weight.std().item() == pytest.approx(bound / 3 ** 0.5, rel=0.05)
