"""A head's two layers, Linear, ReLU, Linear, at the machine's matrix rate.

PyTorch sends float32 matrix products on CPU to MKL, which on AMD processors does not use their widest instructions;
oneDNN, which PyTorch brings along for its convolutions, does: on an EPYC with AVX-512 it is up to twice as fast, on the
same float32 numbers. PyTorch has it as an operator of its own compiler's, without a derivative. So the derivative is
worked out here, for both layers in one piece: with it a step on short videos takes a tenth less.
"""
import torch
import torch.nn.functional as F


def onednn_product(a, b):
    """a @ b.T by oneDNN. a: (m, k), b: (n, k), in any memory order. Returns (m, n)."""
    return torch.ops.mkldnn._linear_pointwise(a, b, None, "none", [], "")


def _works():
    """The operator is not part of PyTorch's promised interface: where it is missing or another, do without."""
    try:
        found = onednn_product(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0], [5.0, 6.0]]))
    except (AttributeError, RuntimeError, TypeError):
        return False
    return found.tolist() == [[11.0, 17.0]]


AVAILABLE = torch.backends.mkldnn.is_available() and _works()


def quick(x):
    """Whether oneDNN is to multiply x: float32 on CPU."""
    return AVAILABLE and x.device.type == "cpu" and x.dtype == torch.float32


def product(a, b):
    """a @ b.T, by oneDNN where that is quick. a: (m, k), b: (n, k). Returns (m, n)."""
    return onednn_product(a, b) if quick(a) else a @ b.T


def rows_for(x):
    """Number of rows, len(x) or a few more, to multiply x with.

    oneDNN writes a program for each shape that it meets, and keeps it with some MB of work space. With numbers of at
    most four binary digits (and zeros behind them) videos of any lengths need few of them.
    """
    n = len(x)
    step = 1 << max(n.bit_length() - 4, 0)
    return -(-n // step) * step if quick(x) else n


class _TwoLayers(torch.autograd.Function):
    """The hidden layer is held as (m, n), one clip a column, so that no product has to turn it first."""

    @staticmethod
    def forward(ctx, x, t, weight1, bias1, weight2, bias2):
        hidden = product(weight1, x).add_(bias1[:, None]).relu_()     # (m, n)
        ctx.save_for_backward(x, hidden, weight2)
        return torch.addmm(bias2, hidden.T, weight2.T)[:t]            # (t, k)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        x, hidden, weight2 = ctx.saved_tensors
        grad = F.pad(grad, (0, 0, 0, len(x) - len(grad)))             # (n, k)
        inner = torch.ops.aten.threshold_backward(weight2.T @ grad.T, hidden, 0)        # (m, n): 0 where hidden is 0
        return None, None, product(inner, x.T), inner.sum(1), grad.T @ hidden.T, grad.sum(0)


def two_layers(x, t, first, second):
    """second(relu(first(x))) of two nn.Linear with biases, on the first t rows of x (n, inputs). Returns (t, outputs).

    Under autocast, which has precisions of its own, and where x itself needs a gradient these are PyTorch's own layers.
    """
    kind = x.device.type
    if x.requires_grad or torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
        return second(F.relu(first(x)))[:t]
    return _TwoLayers.apply(x, t, first.weight, first.bias, second.weight, second.bias)
