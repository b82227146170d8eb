"""What only makes training faster or smaller: oneDNN's products, several videos in one pass, long
videos in pieces, memory that is kept, few threads. The program works without this file.

PyTorch sends float32 products on CPU to MKL. oneDNN, which PyTorch has for its convolutions, does
some of a head's products faster, but PyTorch has no gradient for them: this file computes it.
"""

import contextlib
import ctypes
import os

# Read when PyTorch starts, so set before its import: huge pages, and threads that give their core
# back at once when they wait, since beside a busy program they would spin longer than they compute.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")

import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

LONG = 32_768  # clips of a video; 11 hours in clips of 1.25 s
SMALL = 60_000  # values of a video; hapt30 has 10,000, the demo 12,000, THUMOS14 275,000


def keep_memory():
    """Makes glibc's malloc keep freed memory for the next step; does nothing elsewhere. To return a
    step's gradients to the system and ask for them again costs a quarter of the training time.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):  # TypeError: on Windows
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD: large tensors share the heap
        mallopt(-1, (1 << 31) - 1)  # M_TRIM_THRESHOLD: the heap's end is kept


def choose_threads(clips, features):
    """One thread where a step is small: a second one saves little there (docs/speed.md), and waits
    for busy cores at every operator. The number in OMP_NUM_THREADS, if set, stays.

    clips: of a video, on average; features: of a clip, over both streams. The choice depends on the
    data alone, so the bits do not depend on the machine's load.
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


def head_forward(conv, linear, x, group=None):
    """linear(relu(conv(x))) over the clips x (T, D), fast for Conv1d(D, H, 3, padding=1). Returns
    (T, K).

    group: a Group or None. Where x is one of its videos, x's part of the group's scores.
    """
    if group is not None and (number := group.find(x)) is not None:
        return group.scored(conv, linear)[number]
    usual = conv.kernel_size == (3,) and conv.padding == (1,)
    plain = x.dtype == torch.float32 and not x.requires_grad
    if not (AVAILABLE and usual and plain and x.device.type == "cpu"):
        return linear(F.relu(conv(x.T).T))  # PyTorch's own layers
    if len(x) > LONG:
        return _in_pieces(conv, linear, x)
    return _TwoLayers.apply(
        shifted(x, _columns_for(len(x))), len(x), conv.weight, conv.bias, linear.weight, linear.bias
    )


def _in_pieces(conv, linear, x):
    """head_forward of a long video, LONG clips at a time. A clip's hidden layer, which the
    derivative needs, can take more memory than its features, so it is computed a second time.
    """

    def piece(begin):
        first = max(begin - 1, 0)
        found = head_forward(conv, linear, x[first : begin + LONG - 1])
        return found[begin - first :][: LONG - 2]

    begins = range(0, len(x), LONG - 2)  # a piece sees a clip more on either side
    return torch.cat([checkpoint(piece, begin, use_reentrant=False) for begin in begins])


class Group:
    """The features of several videos, which a head scores in one pass when the first is asked for.

    One large product is faster than many small ones; the scores are equal but for rounding. For
    weights that stay while the group is in use, and without gradients.
    """

    def __init__(self, videos):
        self.videos, self.scores = videos, None

    def find(self, x):
        """The number of x among the videos; None for any other tensor, also for a copy."""
        return next((k for k, video in enumerate(self.videos) if video is x), None)

    def scored(self, conv, linear):
        """The scores (T, K) of each video."""
        if self.scores is None:
            first = self.videos[0]
            zeros = first.new_zeros(first.shape[1], conv.padding[0])  # as the convolution pads
            parts = [part for video in self.videos for part in (video.T, zeros)]
            lengths = [part.shape[1] for part in parts]
            joined = head_forward(conv, linear, torch.cat(parts, dim=1).T)
            self.scores = joined.split(lengths)[::2]
        return self.scores


@contextlib.contextmanager
def together(branch, bags):
    """Inside, the heads of `branch` (a model.Branch) score each bag as one of a Group."""
    for stream, head in branch.named_children():
        head.group = Group([getattr(bag, stream, None) for bag in bags])
    try:
        yield
    finally:
        for head in branch.children():
            head.group = None


def shifted(x, columns):
    """Each feature of the clip before, the clip and the clip after, in three rows: what the
    convolution's weights, (H, D, 3), multiply as one matrix (H, 3D).

    x: (T, D), fastest where it lies in memory as (D, T). Returns (3D, columns), columns >= T; zeros
    past both ends.
    """
    t, d = x.shape
    padded = F.pad(x.T, (1, 1 + columns - t))  # (D, columns + 2)
    return padded.unfold(1, columns, 1).contiguous().view(3 * d, columns)


def _columns_for(n):
    """n or a few more: four binary digits followed by zeros. oneDNN compiles a program for each
    shape and keeps it with some MB of work space, so few shapes serve videos of all lengths; MKL is
    faster with such numbers.
    """
    step = 1 << max(n.bit_length() - 4, 0)
    return -(-n // step) * step


class _TwoLayers(torch.autograd.Function):
    """Clips are columns in the features and in the hidden layer, so that no large product has to
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
        inner = torch.ops.aten.threshold_backward(weight2.T @ grad.T, hidden, 0)  # (H, columns)
        weight1 = onednn_product(inner, x).unflatten(1, (-1, 3))  # (H, D, 3)
        return None, None, weight1, inner.sum(1), grad.T @ hidden.T, grad.sum(0)
