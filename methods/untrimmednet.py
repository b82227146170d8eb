"""UntrimmedNet (Wang et al., CVPR 2017), soft selection on precomputed features: network, loss,
training, localizer.

It weighs the clips by an attention over time that does not depend on the class. T clips, C classes.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

import localize
from engine.loop import Adam, train_method


@dataclass(frozen=True)
class Settings:
    """By the names of the options in opts.py."""

    lr: float
    untrimmednet_epochs: int


class UntrimmedNet(nn.Module):
    """p[c] = sum_t a[t] * softmax_c(s[t])[c].

    NOTE(paper): cited without its layers. As in UntrimmedNet itself both heads are linear on the
    features of a stream: one attention logit a clip, normalised by a softmax over time, and C class
    logits, by a softmax over classes. Both are averaged over the streams, 0.5 and 0.5, before they
    are multiplied, as in the released code of EM-MIL.
    """

    name, title, classifies = "untrimmednet", "UntrimmedNet", True
    Settings = Settings

    def __init__(self, rgb_dim, flow_dim, n_classes, settings):
        super().__init__()
        # output 0 is the attention's
        self.rgb = nn.Linear(rgb_dim, 1 + n_classes) if rgb_dim else None
        self.flow = nn.Linear(flow_dim, 1 + n_classes) if flow_dim else None
        self.settings, self.epochs = settings, settings.untrimmednet_epochs

    def forward(self, rgb, flow):
        """rgb: (T, D), flow: (T, D') of one video. Returns logarithms of the attention (T,) and
        class scores (T, C).
        """
        # (T, 1 + C) each
        streams = [head(x) for head, x in ((self.rgb, rgb), (self.flow, flow)) if head]
        return (
            log_average([s[:, 0].log_softmax(0) for s in streams], 0.5),
            log_average([s[:, 1:].log_softmax(1) for s in streams], 0.5),
        )

    def fit(self, train_set, run, bar=None):
        """One video a step (and process)."""

        def loss(bags):
            losses = [attention_mil_loss(*self(bag.rgb, bag.flow), bag.y) for bag in bags]
            return {"attention-mil": sum(losses) / len(bags)}

        def of_epoch(_, rng):
            return train_set.shuffled(rng), loss, len(train_set)

        optimizer = run.register(f"adam {self.name}", Adam(self.parameters(), self.settings.lr))
        train_method(self, optimizer, run, bar, of_epoch)

    @torch.no_grad()
    def scores(self, rgb, flow):
        """attention (T,), summing to 1; clips (T, C), softmax over classes; video (C,), summing to
        1.
        """
        log_attention, log_class = self(rgb, flow)
        attention, clips = log_attention.exp(), log_class.exp()
        # rounding can end just above 1
        video = (attention @ clips).clamp(max=1)
        return {"attention": attention, "clips": clips, "video": video}

    levels = staticmethod(localize.levels)

    @classmethod
    def curves(cls, record, _):
        """L[t, c] = a[t] / max(a) * s[t, c], (T, C).

        The attention sums to 1 over the video, so its size is about 1 / T; divided by its maximum,
        scores of long and short videos are comparable. The threshold does not depend on that
        factor.
        """
        scores = record.scores[cls.name]
        attention = np.asarray(scores["attention"], np.float64)
        return attention[:, None] / attention.max() * np.asarray(scores["clips"], np.float64)

    @classmethod
    def localize(cls, record, classes, video_scores, rule):
        """The runs of L above the threshold of Sec. 3.5."""
        return localize.detect(record, cls.curves(record, rule), video_scores, classes, rule)


def attention_mil_loss(log_attention, log_class, y):
    """UntrimmedNet's attention-MIL loss, -sum_c y[c]/|y|_1 * log sum_t a[t] * softmax(s)[t,c], in
    logarithms.

    log_attention: (T,), log of weights that sum to 1; log_class: (T, C), log-softmax over classes;
    y: (C,) multi-hot with at least one 1. Returns a scalar. All classes of a clip compete in its
    softmax, and the attention is applied to whatever the video holds: this is what Eq. 3 and Eq. 5
    replace. The sum stays in logarithms, so that a class of vanishing probability has a finite loss
    and a gradient.
    """
    log_video = torch.logsumexp(log_attention[:, None] + log_class, dim=0)  # (C,)
    return -(y / y.sum() * log_video).sum()


def log_average(streams, rgb_weight):
    """Log of the weighted average of probabilities given as logarithms, without leaving logarithms.

    streams: [rgb, flow], or the one stream there is. rgb_weight: weight of the first of two.
    """
    if len(streams) == 1:
        return streams[0]
    log_w, log_rest = torch.tensor([rgb_weight, 1 - rgb_weight]).log().tolist()
    return torch.logaddexp(streams[0] + log_w, streams[1] + log_rest)
