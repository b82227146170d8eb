"""A linear layer at the machine's matrix rate: nn.Linear whose float32 products on CPU go to oneDNN.

PyTorch sends float32 matrix products to MKL, which on AMD processors does not use their widest instructions; oneDNN,
which PyTorch brings along for its convolutions, does: on an EPYC with AVX-512 it is more than twice as fast, on the
same float32 numbers. PyTorch has it as an operator of its own compiler's, without a derivative, hence `_Product`.
Anywhere else (GPU, autocast, a PyTorch without oneDNN) this is nn.Linear.
"""
import torch
from torch import nn


def product(x, weight, bias=None):
    """x @ weight.T + bias by oneDNN. x: (n, k), weight: (m, k), in any memory order; bias: (m,). Returns (n, m)."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


def _works():
    """The operator is not part of PyTorch's promised interface: where it is missing or another, do without."""
    try:
        found = product(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0], [5.0, 6.0]]), torch.tensor([7.0, 8.0]))
    except (AttributeError, RuntimeError, TypeError):
        return False
    return found.tolist() == [[18.0, 25.0]]


AVAILABLE = torch.backends.mkldnn.is_available() and _works()


def quick(x):
    """Whether oneDNN is to multiply x: float32 on CPU, outside autocast."""
    return AVAILABLE and x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")


def rows_for(x):
    """Number of rows, len(x) or a few more, to multiply x with.

    oneDNN writes a program for each shape that it meets, and keeps it with some MB of work space. With numbers of at
    most four binary digits (and zeros behind them) videos of any lengths need few of them.
    """
    n = len(x)
    step = 1 << max(n.bit_length() - 4, 0)
    return -(-n // step) * step if quick(x) else n


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight)
        return product(x, weight, bias)

    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        return product(grad, weight.T) if ctx.needs_input_grad[0] else None, product(grad.T, x.T), grad.sum(0)


class Linear(nn.Linear):
    """nn.Linear with a bias: the same parameters under the same names, drawn from the same distribution."""

    def forward(self, x):
        """x: (n, in_features). Returns (n, out_features)."""
        return _Product.apply(x, self.weight, self.bias) if quick(x) else super().forward(x)
