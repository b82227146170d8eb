"""The network's shapes and fusion by hand, against layers written out, and with one stream."""

import pytest
import torch

from model import EMMIL, HIDDEN, Head


@pytest.mark.parametrize("clips", [1, 2, 9])
def test_a_head_is_a_convolution_over_time_by_hand(clips):
    """Written out: every clip times the middle weights, its neighbours times the outer ones, zeros
    past the ends.
    """
    torch.manual_seed(0)
    head = Head(5, 3)
    x = torch.randn(clips, 5)
    w, zero = head.conv.weight, torch.zeros(5)
    rows = []
    for t in range(clips):
        before, after = x[t - 1] if t else zero, x[t + 1] if t + 1 < clips else zero
        hidden = w[:, :, 0] @ before + w[:, :, 1] @ x[t] + w[:, :, 2] @ after + head.conv.bias
        rows.append(head.linear.weight @ hidden.clamp(min=0) + head.linear.bias)
    torch.testing.assert_close(head(x), torch.stack(rows))


def test_the_state_dict_is_the_released_layout():
    state = EMMIL(4, 6, 2).state_dict()
    assert {
        name: tuple(w.shape) for name, w in state.items() if name.startswith("assignment.flow")
    } == {
        "assignment.flow.conv.weight": (HIDDEN, 6, 3),
        "assignment.flow.conv.bias": (HIDDEN,),
        "assignment.flow.linear.weight": (1, HIDDEN),
        "assignment.flow.linear.bias": (1,),
    }
    assert {name.rsplit(".", 2)[0] for name in state} == {
        f"{branch}.{stream}"
        for branch in ("assignment", "classifier")
        for stream in ("rgb", "flow")
    }


def test_scores_have_the_right_shapes_and_fuse_the_streams():
    torch.manual_seed(1)
    model = EMMIL(4, 6, 3, rgb_weight=0.25)
    out = model(torch.randn(7, 4), torch.randn(7, 6))
    assert out.q.shape == (7,) and out.p.shape == (7, 3)
    assert out.q_logits.rgb.shape == (7, 1) and out.p_logits.flow.shape == (7, 3)
    expected = 0.25 / (1 + torch.exp(-out.p_logits.rgb)) + 0.75 / (
        1 + torch.exp(-out.p_logits.flow)
    )
    torch.testing.assert_close(out.p, expected)
    torch.testing.assert_close(
        out.q, (0.25 * out.q_logits.rgb.sigmoid() + 0.75 * out.q_logits.flow.sigmoid())[:, 0]
    )


@pytest.mark.parametrize("stream", ["rgb", "flow"])
def test_with_one_stream_q_and_p_are_the_scores_of_its_head(stream):
    dims, x = {"rgb": (4, None), "flow": (None, 4)}[stream], torch.randn(7, 4)
    model = EMMIL(*dims, 3, rgb_weight=0.25)
    out = model(x, None) if stream == "rgb" else model(None, x)
    head = getattr(model.classifier, stream)
    torch.testing.assert_close(out.p, head(x).sigmoid())
    assert out.q.shape == (7,) and [name for name, _ in out.p_logits.present()] == [stream]
    assert {name.split(".")[1] for name in model.state_dict()} == {stream}


def test_conv_weights_start_like_conv1d():
    torch.manual_seed(2)
    bound = 1 / (3 * 16) ** 0.5  # nn.Conv1d: uniform within 1/sqrt(fan in)
    weight = Head(16, 1).conv.weight
    assert weight.abs().max() <= bound and weight.abs().max() > 0.99 * bound
    assert weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)
