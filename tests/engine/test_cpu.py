"""The faster forward of a head against PyTorch's own layers, in values and gradients; and training
without it.
"""

import json
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from places import ROOT, python
from torch import nn

from engine import cpu
from engine.cpu import head_forward, onednn_product, shifted, together
from model import Branch

needs_onednn = pytest.mark.skipif(not cpu.AVAILABLE, reason="this PyTorch has no oneDNN")


def layers(inputs, hidden, outputs, dtype=torch.float32):
    torch.manual_seed(0)
    return nn.Conv1d(inputs, hidden, 3, padding=1, dtype=dtype), nn.Linear(
        hidden, outputs, dtype=dtype
    )


def plain(conv, linear, x):
    return linear(F.relu(conv(x.T[None])[0].T))


def parameters_of(*modules):
    return [p for module in modules for p in module.parameters()]


def refuse(monkeypatch):
    """Lets oneDNN's product fail where it is called."""
    monkeypatch.setattr(cpu, "onednn_product", None)


@pytest.mark.parametrize("by_feature", [True, False])
@pytest.mark.parametrize("onednn", ["forward and backward", "backward", "nowhere"])
@pytest.mark.parametrize("t", [1, 2, 3, 17, 45, 167])
def test_values_and_all_four_gradients(t, onednn, by_feature, monkeypatch):
    """by_feature: the features lie in memory as (D, T), as they are loaded."""
    if onednn == "nowhere":
        monkeypatch.setattr(cpu, "AVAILABLE", False)
        refuse(monkeypatch)
    elif not cpu.AVAILABLE:
        pytest.skip("this PyTorch has no oneDNN")
    monkeypatch.setattr(cpu, "ONEDNN_FORWARD", onednn == "forward and backward")
    conv, linear = layers(12, 7, 5)
    x, weights = torch.randn(12, t).T if by_feature else torch.randn(t, 12), torch.randn(t, 5)
    parameters = parameters_of(conv, linear)
    found, expected = head_forward(conv, linear, x), plain(conv, linear, x)
    torch.testing.assert_close(found, expected)
    for a, b in zip(
        *(torch.autograd.grad((y * weights).sum(), parameters) for y in (found, expected)),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@needs_onednn
@pytest.mark.parametrize("forward", [True, False])
def test_which_products_are_oned_nn_s(forward, monkeypatch):
    refuse(monkeypatch)
    monkeypatch.setattr(cpu, "ONEDNN_FORWARD", forward)
    conv, linear = layers(4, 6, 3)
    if forward:
        with pytest.raises(TypeError):
            head_forward(conv, linear, torch.randn(5, 4))
    else:
        y = head_forward(conv, linear, torch.randn(5, 4))
        with pytest.raises(TypeError):
            y.sum().backward()


def test_by_hand():
    conv, linear = nn.Conv1d(1, 2, 3, padding=1), nn.Linear(2, 1)
    values = [[[0.0, 2.0, 0.0]], [[1.0, -1.0, 0.0]]], [0.0, 0.0], [[3.0, 5.0]], [7.0]
    with torch.no_grad():
        for p, value in zip(parameters_of(conv, linear), values):
            p.copy_(torch.tensor(value))
    y = head_forward(conv, linear, torch.tensor([[1.0], [-4.0], [0.0]]))
    # Hidden: 2 x[t] is 2, -8, 0; x[t-1] - x[t] is -1, 5, -4. After the ReLU 2, 0, 0 and 0, 5, 0.
    assert y.tolist() == [[13.0], [32.0], [7.0]]  # 3*2+7, 5*5+7; a hidden layer of zeros
    y.sum().backward()
    # Channel 0 lives at clip 0 (0, 1, -4 around it), channel 1 at clip 1 (1, -4, 0); PyTorch's ReLU
    # has slope 0 at 0.
    assert conv.weight.grad.tolist() == [[[0.0, 3.0, -12.0]], [[5.0, -20.0, 0.0]]]
    assert conv.bias.grad.tolist() == [3.0, 5.0]
    assert linear.weight.grad.tolist() == [[2.0, 5.0]] and linear.bias.grad.tolist() == [3.0]


@pytest.mark.parametrize("why", ["a gradient of the features", "float64"])
def test_pytorch_s_own_layers(why, monkeypatch):
    refuse(monkeypatch)
    dtype = torch.float64 if why == "float64" else torch.float32
    conv, linear = layers(12, 7, 5, dtype)
    x = torch.randn(9, 12, dtype=dtype, requires_grad=why == "a gradient of the features")
    found, expected = head_forward(conv, linear, x), plain(conv, linear, x)
    assert found.dtype == dtype
    torch.testing.assert_close(found, expected)
    if x.requires_grad:
        a, b = (torch.autograd.grad(y.square().sum(), x)[0] for y in (found, expected))
        assert a.count_nonzero() == a.numel()
        torch.testing.assert_close(a, b)


@needs_onednn
def test_onednn_multiplies_in_any_memory_order():
    a, b = torch.randn(6, 4), torch.randn(4, 9)
    for x, y in ((a, b.T), (a, b.T.contiguous()), (a.T.contiguous().T, b.T)):
        torch.testing.assert_close(onednn_product(x, y), a @ b)


def test_shifted_puts_neighbours_below_each_other():
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    before, here, after = [0, 1, 3], [1, 3, 5], [3, 5, 0]  # of the first feature
    rows = [before, here, after, [0, 2, 4], [2, 4, 6], [4, 6, 0]]
    assert shifted(x, 3).tolist() == rows
    ends = [[5, 0], [0, 0], [0, 0], [6, 0], [0, 0], [0, 0]]
    assert shifted(x, 5).tolist() == [row + end for row, end in zip(rows, ends)]
    assert shifted(x[:1], 1).tolist() == [[0], [1], [0], [0], [2], [0]]


def test_few_numbers_of_columns_for_any_length(monkeypatch):
    seen = []

    def product(weight, columns):
        seen.append(len(columns))
        return torch.zeros(len(weight), len(columns))

    monkeypatch.setattr(cpu, "AVAILABLE", True)
    monkeypatch.setattr(cpu, "ONEDNN_FORWARD", True)
    monkeypatch.setattr(cpu, "onednn_product", product)
    conv, linear = layers(1, 2, 1)
    made = {}
    for t in range(1, 2049):
        head_forward(conv, linear, torch.zeros(t, 1))
        made[t] = seen[-1]
    assert [made[t] for t in (1, 7, 15, 16, 17, 45, 167, 1127)] == [1, 7, 15, 16, 18, 48, 176, 1152]
    assert all(t <= n <= 1.125 * t for t, n in made.items()) and len(set(made.values())) == 72


@pytest.mark.parametrize("t", [10, 11, 12, 17, 18, 19, 35])
def test_a_long_video_is_computed_in_pieces(t, monkeypatch):
    """Pieces of ten clips, which see a clip more on either side, so that eight are kept."""
    monkeypatch.setattr(cpu, "LONG", 10)
    seen, inner = [], cpu.shifted
    monkeypatch.setattr(cpu, "shifted", lambda x, n: seen.append(len(x)) or inner(x, n))
    conv, linear = layers(4, 6, 3)
    x, parameters = torch.randn(t, 4), parameters_of(conv, linear)
    found, expected = head_forward(conv, linear, x), plain(conv, linear, x)
    torch.testing.assert_close(found, expected)
    whole = [torch.autograd.grad(y.square().sum(), parameters) for y in (found, expected)]
    for a, b in zip(*whole, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
    assert max(seen, default=0) <= 10


# ------------------------------------------------------------------------------------------------
# without the file
TRAINING = """
import json, sys, tempfile
from types import SimpleNamespace
if sys.argv[1] == "without":
    sys.modules["engine.cpu"] = None
import numpy as np
import torch
import em_trainer, model
from engine.loop import TrainingSet
from engine.run_folder import RunFolder, read_log

assert (model.head_forward is None) == (sys.argv[1] == "without")
rng = np.random.default_rng(0)
videos = [SimpleNamespace(name=f"v{i}", rgb=rng.normal(size=(t, 6)).astype(np.float32),
                          flow=rng.normal(size=(t, 5)).astype(np.float32), labels=np.eye(3, dtype=np.float32)[i % 3])
          for i, t in enumerate((1, 2, 9, 17, 4, 30))]
torch.manual_seed(0)
network = model.EMMIL(6, 5, 3)
steps = {"E": em_trainer.EStep(network), "M": em_trainer.MStep(network, 0.1)}
phases = [em_trainer.Phase("M", 3, 1e-3, "bag"), em_trainer.Phase("E", 3, 1e-3, "frozen"),
          em_trainer.Phase("M", 3, 1e-3, "frozen")]
with tempfile.TemporaryDirectory() as folder:
    em_trainer.fit(steps, TrainingSet(videos), RunFolder(folder), phases)
    print(json.dumps([record["loss"] for record in read_log(folder)]))
"""


@pytest.mark.slow
def test_training_without_the_file_gives_the_same_losses():
    losses = {}
    for how in ("with", "without"):
        done = python("-c", TRAINING, how, environment={"PYTHONPATH": str(ROOT)})
        assert done.returncode == 0, done.stderr
        losses[how] = json.loads(done.stdout)
    assert len(losses["with"]) == 9
    for a, b in zip(losses["with"], losses["without"], strict=True):
        assert a == {stream: pytest.approx(value, rel=1e-4) for stream, value in b.items()}


# ------------------------------------------------------------------------------------------------
# several videos in one pass
def bags_of(lengths, rgb=4, flow=3):
    """Bags with streams of these widths, None for 0."""
    torch.manual_seed(1)

    def features(t, width):
        return torch.randn(width, t).T if width else None

    return [SimpleNamespace(rgb=features(t, rgb), flow=features(t, flow)) for t in lengths]


@torch.no_grad()
@pytest.mark.parametrize("widths", [(4, 3), (4, 0), (0, 3)])
def test_together_gives_what_each_video_alone_has(widths):
    bags, branch = bags_of([1, 4, 1, 7], *widths), Branch(*widths, 2, 0.5)
    with together(branch, bags):
        for bag in bags:
            for stream, found in branch(bag.rgb, bag.flow).present():
                head, x = getattr(branch, stream), getattr(bag, stream)
                torch.testing.assert_close(found, plain(head.conv, head.linear, x))
                # other features of the same size
                torch.testing.assert_close(head(x + 1), plain(head.conv, head.linear, x + 1))


@torch.no_grad()
def test_together_makes_one_pass_and_nothing_of_it_stays():
    bags, branch = bags_of([5, 3], flow=0), Branch(4, 0, 2, 0.5)
    head = branch.rgb
    first, second = (plain(head.conv, head.linear, bag.rgb) for bag in bags)
    with pytest.raises(ZeroDivisionError), together(branch, bags):
        torch.testing.assert_close(head(bags[0].rgb), first)
        head.linear.bias += 1
        torch.testing.assert_close(head(bags[1].rgb), second)
        raise ZeroDivisionError
    torch.testing.assert_close(head(bags[1].rgb), second + 1)


@torch.no_grad()
@pytest.mark.parametrize("kernel", [{"kernel_size": 7, "padding": 3}, {"kernel_size": 1}])
@pytest.mark.parametrize("dilation", [1, 2])
def test_another_kernel_takes_effect_alone_and_together(kernel, dilation):
    kernel = {**kernel, "dilation": dilation, "padding": kernel.get("padding", 0) * dilation}
    bags, branch = bags_of([2, 1, 5], flow=0), Branch(4, 0, 2, 0.5)
    head = branch.rgb
    head.conv = nn.Conv1d(4, 256, **kernel)
    expected = [plain(head.conv, head.linear, bag.rgb) for bag in bags]
    alone = [head(bag.rgb) for bag in bags]
    with together(branch, bags):
        for a, b, c in zip(expected, alone, [head(bag.rgb) for bag in bags]):
            torch.testing.assert_close(a, b)
            torch.testing.assert_close(a, c)
