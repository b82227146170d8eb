"""The EM-MIL network: two branches over two feature streams, forward only.

                     rgb (T, D) ──► head ──┐
    assignment q_phi                       ├─ sigmoid, weighted average ──► Q (T,)
                    flow (T, D') ─► head ──┘
    classifier p_theta: the same with one output per class ──► P (T, C)

A head is Conv1d(D, 256, kernel 3, padding 1), ReLU, Linear(256, K). NOTE(paper): the paper does not
give the heads' layers; these are the released code's, and its weights load as they are. For a set
with one stream the other is None.
"""

from typing import NamedTuple

import torch
from torch import nn

try:
    # the same numbers, faster on a CPU
    from engine.cpu import head_forward
except ImportError:  # works without that file
    head_forward = None

HIDDEN = 256


class StreamLogits(NamedTuple):
    """Scores of one branch before the sigmoid, each (T, K); None for a stream that the set
    lacks.
    """

    rgb: torch.Tensor | None
    flow: torch.Tensor | None

    def present(self):
        """(stream, logits) of the streams that there are."""
        return [(stream, logits) for stream, logits in self._asdict().items() if logits is not None]


class Scores(NamedTuple):
    """Fused scores in [0, 1], and the logits of each stream they come from."""

    q: torch.Tensor  # (T,)
    p: torch.Tensor  # (T, C)
    q_logits: StreamLogits  # (T, 1) each
    p_logits: StreamLogits  # (T, C) each


class Head(nn.Module):
    """Conv1d(dim, 256, kernel 3, padding 1), ReLU, Linear(256, outputs) over the clips of one
    video.
    """

    def __init__(self, dim, outputs):
        super().__init__()
        self.conv = nn.Conv1d(dim, HIDDEN, 3, padding=1)
        self.linear = nn.Linear(HIDDEN, outputs)
        self.group = None  # in a pass for labels: videos to score at once (engine/cpu.py)

    def forward(self, x):
        """x: (T, dim). Returns logits (T, outputs)."""
        # for these layers alone: to try another activation, take these two lines out
        if head_forward is not None:
            return head_forward(self.conv, self.linear, x, self.group)
        hidden = torch.relu(self.conv(x.T).T)  # (T, 256)
        return self.linear(hidden)


class Branch(nn.Module):
    """One head for each stream; the streams meet in `fuse`."""

    def __init__(self, rgb_dim, flow_dim, outputs, rgb_weight):
        super().__init__()
        self.rgb = Head(rgb_dim, outputs) if rgb_dim else None
        self.flow = Head(flow_dim, outputs) if flow_dim else None
        self.rgb_weight = rgb_weight

    def forward(self, rgb, flow):
        """rgb: (T, D), flow: (T, D'). Returns StreamLogits of (T, outputs)."""
        return StreamLogits(
            self.rgb(rgb) if self.rgb else None, self.flow(flow) if self.flow else None
        )

    def fuse(self, logits):
        """Weighted average of the streams' sigmoid scores, (T, outputs); of one stream, its own
        scores.

        NOTE(paper): "weighted averaging" without the weights; the released code takes 0.5 and 0.5,
        and so do we.
        """
        scores = [torch.sigmoid(stream) for _, stream in logits.present()]
        if len(scores) == 1:
            return scores[0]
        return self.rgb_weight * scores[0] + (1 - self.rgb_weight) * scores[1]


class EMMIL(nn.Module):
    """q_phi (`assignment`: is this clip a key instance?) and p_theta (`classifier`: of which
    class?).
    """

    def __init__(self, rgb_dim, flow_dim, n_classes, rgb_weight=0.5):
        super().__init__()
        self.assignment = Branch(rgb_dim, flow_dim, 1, rgb_weight)
        self.classifier = Branch(rgb_dim, flow_dim, n_classes, rgb_weight)

    def forward(self, rgb, flow):
        """rgb: (T, D) and flow: (T, D') of one video. Returns Scores."""
        q_logits, p_logits = self.assignment(rgb, flow), self.classifier(rgb, flow)
        return Scores(
            self.assignment.fuse(q_logits)[:, 0], self.classifier.fuse(p_logits), q_logits, p_logits
        )
