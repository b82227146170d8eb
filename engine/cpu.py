"""What only makes training faster: oneDNN's products, several videos in one pass, memory that is
kept, few threads. The program works without it.

PyTorch sends float32 products on CPU to MKL; oneDNN, which PyTorch has for its convolutions, does
some of a head's products faster. PyTorch offers it without a derivative, so a head's derivative is
written here, both layers in one piece.
"""

import contextlib
import ctypes
import os

# Read when PyTorch starts, so set before its import. Huge pages; and threads that wait at a barrier
# give their core back at once: where another program holds a core, they would spin for longer than
# they compute.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")

import torch
import torch.nn.functional as F

SMALL = 60_000  # values of a video; hapt30 has 10,000, the demo 12,000, THUMOS14 275,000


def keep_memory():
    """Makes glibc's malloc keep freed memory for the next step; does nothing elsewhere.

    By default it returns the few MB of a step's gradients to the system and asks for them again,
    which costs a quarter of the training time.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # TypeError: Windows has no library of no name
        return
    # M_MMAP_THRESHOLD: large tensors share the heap
    mallopt(-3, 1 << 30)
    mallopt(-1, (1 << 31) - 1)  # M_TRIM_THRESHOLD: the heap's end is kept


def choose_threads(clips, features):
    """One thread where a step is small: a second one saves little there (docs/speed.md), and waits
    for busy cores at every operator.

    clips: of a video, on average; features: of a clip, over both streams. A number that the user
    has set (OMP_NUM_THREADS) stays. The choice depends on the data alone, so that the bits do not
    depend on the machine's load.
    """
    if "OMP_NUM_THREADS" not in os.environ and clips * features < SMALL:
        torch.set_num_threads(1)


def onednn_product(a, b):
    """a @ b.T by oneDNN. a: (m, k), b: (n, k), in any memory order. Returns (m, n)."""
    return torch.ops.mkldnn._linear_pointwise(a, b, None, "none", [], "")


def _works():
    """Whether a trial product is right: the operator is not part of PyTorch's public interface."""
    try:
        found = onednn_product(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0], [5.0, 6.0]]))
    except (AttributeError, RuntimeError, TypeError):
        return False
    return found.tolist() == [[11.0, 17.0]]


AVAILABLE = torch.backends.mkldnn.is_available() and _works()
# MKL leaves AVX-512 unused on AMD processors. With AVX2, its forward product is the faster one.
ONEDNN_FORWARD = AVAILABLE and "AVX512" in torch.backends.cpu.get_cpu_capability()


def forward_product(a, b):
    """a @ b.T by the library that is faster in a forward pass. As onednn_product."""
    return onednn_product(a, b) if ONEDNN_FORWARD else a @ b.T


def head_forward(conv, linear, x):
    """linear(relu(conv(x))) over the clips x (T, D), fast for Conv1d(D, H, 3, padding=1). Returns
    (T, K).
    """
    if id(x) in _together:
        return _scored_together(conv, linear, x)
    usual = conv.kernel_size == (3,) and conv.padding == (1,)
    plain = x.dtype == torch.float32 and not x.requires_grad
    if not (AVAILABLE and usual and plain and x.device.type == "cpu"):
        return linear(F.relu(conv(x.T).T))  # PyTorch's own layers
    return _TwoLayers.apply(
        shifted(x, _columns_for(len(x))), len(x), conv.weight, conv.bias, linear.weight, linear.bias
    )


_together = {}  # id of features -> (features of all videos of its group, their scores by head)


@contextlib.contextmanager
def together(bags):
    """Inside, head_forward computes the scores of all `bags` in one pass when it is first asked for
    those of one: faster than many small products, and equal but for rounding.

    For weights that do not change inside, and without gradients.
    """
    for stream in ("rgb", "flow"):
        group = [getattr(bag, stream) for bag in bags], {}
        _together.update({id(x): group for x in group[0] if x is not None})
    try:
        yield
    finally:
        _together.clear()


def _scored_together(conv, linear, x):
    videos, scores = _together[id(x)]
    if (conv, linear) not in scores:
        zeros = x.new_zeros(x.shape[1], conv.padding[0])  # what the convolution pads a video with
        joined = torch.cat([part for video in videos for part in (video.T, zeros)], dim=1).T
        lengths = [n for video in videos for n in (len(video), zeros.shape[1])]
        parts = head_forward(conv, linear, joined).split(lengths)[::2]
        scores[conv, linear] = dict(zip(map(id, videos), parts))
    return scores[conv, linear][id(x)]


def shifted(x, columns):
    """Of each feature the clip before, the clip itself and the clip after, one below the other:
    what the convolution's weights, (H, D, 3), multiply as one matrix (H, 3D).

    x: (T, D); fastest where it lies in memory as (D, T). Returns (3D, columns), columns >= T; zeros
    past both ends.
    """
    t, d = x.shape
    padded = F.pad(x.T, (1, 1 + columns - t))  # (D, columns + 2)
    return padded.unfold(1, columns, 1).contiguous().view(3 * d, columns)


def _columns_for(n):
    """n or a few columns more, a number of at most four binary digits and zeros behind them.

    oneDNN compiles a program for each shape and keeps it with some MB of work space: videos of all
    lengths need few. MKL is faster with such numbers.
    """
    step = 1 << max(n.bit_length() - 4, 0)
    return -(-n // step) * step


class _TwoLayers(torch.autograd.Function):
    """Clips are columns in the features and in the hidden layer: no large product then has to
    transpose an operand first.
    """

    @staticmethod
    def forward(ctx, x, t, weight1, bias1, weight2, bias2):
        hidden = forward_product(weight1.flatten(1), x.T)  # (H, columns)
        hidden.add_(bias1[:, None]).relu_()
        ctx.save_for_backward(x, hidden, weight2)
        return torch.addmm(bias2, hidden.T, weight2.T)[:t]  # (t, K)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        x, hidden, weight2 = ctx.saved_tensors
        grad = F.pad(grad, (0, 0, 0, hidden.shape[1] - len(grad)))  # (columns, K)
        # (H, columns): 0 where hidden is
        inner = torch.ops.aten.threshold_backward(weight2.T @ grad.T, hidden, 0)
        weight1 = onednn_product(inner, x).unflatten(1, (-1, 3))  # (H, D, 3)
        return None, None, weight1, inner.sum(1), grad.T @ hidden.T, grad.sum(0)
