"""The EM-MIL network: two branches over two feature streams, forward only.

                     rgb (T, D) ──► head ──┐
    assignment q_phi                       ├─ sigmoid, weighted average ──► Q (T,)
                    flow (T, D') ─► head ──┘
    classifier p_theta: the same with one output per class ──► P (T, C)

A head is Conv1d(D, 256, kernel 3, padding 1), ReLU, Linear(256, K). NOTE(paper): the paper does not give the heads'
layers; these are the released code's. The convolution is written as one matrix product over three shifted copies of
the features: the same sums as nn.Conv1d, at the machine's matrix rate. `to_conv1d` and `from_conv1d` translate a
state dict between the two forms.
"""
from typing import NamedTuple

import torch
from torch import nn

from engine.cpu import rows_for, two_layers

HIDDEN = 256


class StreamLogits(NamedTuple):
    """Pre-sigmoid scores of one branch, each (T, K)."""
    rgb: torch.Tensor
    flow: torch.Tensor


class Scores(NamedTuple):
    """Fused scores in [0, 1], and the logits of each stream they come from."""
    q: torch.Tensor                    # (T,)
    p: torch.Tensor                    # (T, C)
    q_logits: StreamLogits             # (T, 1) each
    p_logits: StreamLogits             # (T, C) each


def shifted(x, rows=None):
    """Features of the clip before, the clip itself and the clip after, side by side; zeros past the ends.

    x: (T, D). Returns (T, 3D): the rows that a kernel-3 convolution with padding 1 multiplies by its weights; with
    `rows` (rows, 3D), of which those after the T-th belong to no clip.
    """
    (t, d), rows = x.shape, rows or len(x)
    padded = torch.nn.functional.pad(x, (0, 0, 1, 1 + rows - t))      # (rows + 2, D)
    return padded.as_strided((rows, 3 * d), (d, 1)).contiguous()      # row t is padded[t : t + 3], flattened


class Head(nn.Module):
    """Conv1d(dim, 256, kernel 3, padding 1), ReLU, Linear(256, outputs) over the clips of one video."""

    def __init__(self, dim, outputs):
        super().__init__()
        # nn.Conv1d and nn.Linear draw from the same distribution here: both have a fan-in of 3 * dim.
        self.conv = nn.Linear(3 * dim, HIDDEN)
        self.linear = nn.Linear(HIDDEN, outputs)

    def forward(self, x):
        """x: (T, dim). Returns logits (T, outputs)."""
        logits = two_layers(shifted(x, rows_for(x)), len(x), self.conv, self.linear)
        return logits.to(x.dtype)                                     # autocast, if any, ends here


class Branch(nn.Module):
    """One head per stream; the streams meet in `fuse`."""

    def __init__(self, rgb_dim, flow_dim, outputs, rgb_weight):
        super().__init__()
        self.rgb = Head(rgb_dim, outputs)
        self.flow = Head(flow_dim, outputs)
        self.rgb_weight = rgb_weight

    def forward(self, rgb, flow):
        """rgb: (T, D), flow: (T, D'). Returns StreamLogits of (T, outputs)."""
        return StreamLogits(self.rgb(rgb), self.flow(flow))

    def fuse(self, logits):
        """Weighted average of the streams' sigmoid scores, (T, outputs).

        NOTE(paper): "weighted averaging" without the weights; the released code takes 0.5 and 0.5, and so do we.
        """
        return self.rgb_weight * torch.sigmoid(logits.rgb) + (1 - self.rgb_weight) * torch.sigmoid(logits.flow)


class EMMIL(nn.Module):
    """q_phi (`assignment`: is this clip a key instance?) and p_theta (`classifier`: of which class?)."""

    def __init__(self, rgb_dim, flow_dim, n_classes, rgb_weight=0.5):
        super().__init__()
        self.assignment = Branch(rgb_dim, flow_dim, 1, rgb_weight)
        self.classifier = Branch(rgb_dim, flow_dim, n_classes, rgb_weight)

    def forward(self, rgb, flow):
        """rgb: (T, D) and flow: (T, D') of one video. Returns Scores."""
        q_logits, p_logits = self.assignment(rgb, flow), self.classifier(rgb, flow)
        return Scores(self.assignment.fuse(q_logits)[:, 0], self.classifier.fuse(p_logits), q_logits, p_logits)


def to_conv1d(state):
    """State dict of a network whose heads hold nn.Conv1d: `conv.weight` (256, 3D) becomes (256, D, 3)."""
    return {name: (w.reshape(HIDDEN, 3, -1).permute(0, 2, 1).contiguous() if name.endswith("conv.weight") else w)
            for name, w in state.items()}


def from_conv1d(state):
    """The way back: `conv.weight` (256, D, 3) becomes (256, 3D)."""
    return {name: (w.permute(0, 2, 1).reshape(HIDDEN, -1).contiguous() if name.endswith("conv.weight") else w)
            for name, w in state.items()}
