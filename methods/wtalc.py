"""W-TALC (Paul et al., ECCV 2018) on precomputed features: network, losses, training, localizer.

It averages each class's highest clips, and makes similar what videos of one class attend to. T
clips, C classes, B videos of a batch, F = D + D' features of a clip.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import pad_sequence

import localize
from engine.distributed import world
from engine.loop import Adam, train_method

BATCH = 10  # videos per step and process ...
PAIRS = 3  # ... of which the first 2 * PAIRS are pairs that share a class
ITERATIONS = 100  # of one epoch in the log; W-TALC counts iterations, not epochs
WEIGHT_DECAY = 5e-4
TOP = 8  # a class's score is the mean of its ceil(T / TOP) highest clips
MARGIN = 0.5  # of the ranking hinge, in units of cosine distance


@dataclass(frozen=True)
class Settings:
    """By the names of the options in opts.py."""

    lr: float
    wtalc_iterations: int
    wtalc_max_clips: int  # it trains on so many clips of a longer video, at a random place


class WTALC(nn.Module):
    """Linear(F, F), ReLU, dropout 0.7, Linear(F, C) on the concatenated streams.

    Xavier-uniform weights and zero biases, as its code has them.
    """

    name, title, classifies = "wtalc", "W-TALC", True
    Settings = Settings

    def __init__(self, rgb_dim, flow_dim, n_classes, settings):
        super().__init__()
        width = (rgb_dim or 0) + (flow_dim or 0)
        self.hidden = nn.Linear(width, width)
        self.classifier = nn.Linear(width, n_classes)
        for layer in (self.hidden, self.classifier):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.settings, self.epochs = settings, -(-settings.wtalc_iterations // ITERATIONS)

    def forward(self, features):
        """features: (T, F), clips of one video or of several, one after the other.

        Returns hidden features (T, F), after the dropout, and class activations (T, C).
        """
        hidden = F.dropout(torch.relu(self.hidden(features)), 0.7, self.training)
        return hidden, self.classifier(hidden)

    def fit(self, train_set, run, bar=None):
        """Batches of 10 videos with 3 pairs, from the videos of this process; the log counts 100 of
        them as an epoch.

        In several processes a step takes 10 videos of each, and pairs only where a process owns
        both videos.
        """
        rank, ranks = world()
        labels = train_set.labels[train_set.mine].cpu().numpy()  # (n, C)
        pairs = PAIRS if (labels.sum(axis=0) > 1).any() else 0
        n_videos = BATCH * min(ranks, len(train_set))
        optimizer = run.register(
            f"adam {self.name}", Adam(self.parameters(), self.settings.lr, WEIGHT_DECAY)
        )

        def of_epoch(epoch, rng):
            steps = min(ITERATIONS, self.settings.wtalc_iterations - ITERATIONS * epoch)
            indices = [
                [train_set.mine[i] for i in batch]
                for batch in paired_batches(labels, steps, rng.spawn(ranks)[rank])
            ]
            batches = ((bags, n_videos) for bags in train_set.read(indices))
            return batches, lambda bags: self.losses(bags, pairs, rng), n_videos * steps

        self.train()
        train_method(self, optimizer, run, bar, of_epoch)

    def losses(self, bags, pairs, rng):
        """Both losses of one batch, 0.5 each. bags: pairs first."""
        features = [joined(bag.rgb, bag.flow) for bag in bags]
        longest = self.settings.wtalc_max_clips
        begin = [int(rng.integers(max(len(x) - longest, 0) + 1)) for x in features]
        features = [x[b : b + longest] for x, b in zip(features, begin)]
        clips, y = [len(x) for x in features], torch.stack([bag.y for bag in bags])
        # (B, T, F or C)
        hidden, activations = (
            pad_sequence(x.split(clips), batch_first=True)
            # the layers never see the padding
            for x in self(torch.cat(features))
        )
        # (B, T); made on the device, since a copy to a GPU waits
        present = pad_sequence([y.new_ones(n, dtype=torch.bool) for n in clips], batch_first=True)
        paired = slice(2 * pairs)
        return {
            "k-max": 0.5 * k_max_loss(activations, present, y),
            "co-activity": 0.5
            * co_activity_loss(hidden[paired], activations[paired], present[paired], y[paired]),
        }

    @torch.no_grad()
    def scores(self, rgb, flow):
        """clips (T, C): activations before any softmax; video (C,): softmax of the top-k means. No
        dropout.
        """
        _, activations = self.eval()(joined(rgb, flow))
        present = torch.ones(1, len(activations), dtype=torch.bool, device=activations.device)
        return {"clips": activations, "video": top_k_mean(activations[None], present)[0].softmax(0)}

    @classmethod
    def curves(cls, record, _):
        """The class activations A, (T, C)."""
        return np.asarray(record.scores[cls.name]["clips"], np.float64)

    @staticmethod
    def levels(curves, _):
        """max(A) - 0.5 * (max(A) - min(A)), with the constant of its code; (1, C)."""
        low, high = curves.min(axis=0), curves.max(axis=0)
        return (high - 0.5 * (high - low))[None]

    @classmethod
    def localize(cls, record, classes, video_scores, rule):
        """With the constants of its code: runs of at least 2 clips above the threshold, scored max
        of A inside + 0.7 * top-k mean of A over the video.

        Its code gates by a positive top-k mean; here every method is gated by `video_scores`. Of
        `rule` only the gate counts.
        """
        activations = cls.curves(record, rule)
        k = -(-len(activations) // TOP)
        tops = np.sort(activations, axis=0)[len(activations) - k :].mean(axis=0)  # (C,)

        def propose(lines, passed):
            found = localize.runs_of_rows(lines > cls.levels(lines.T, rule).T)
            found = found[found[:, 2] - found[:, 1] >= 2]
            best = localize.scores_of_rows(lines, found, "max")
            return found, best + 0.7 * tops[passed][found[:, 0]]

        gate_only = localize.Rule(gate=rule.gate)
        return localize.detect(record, activations, video_scores, classes, gate_only, propose)


def joined(rgb, flow):
    """The streams side by side, (T, F); the one there is where the set has one stream."""
    return torch.cat([x for x in (rgb, flow) if x is not None], dim=1)


def top_k_mean(activations, present):
    """Mean of the k = ceil(T / 8) highest activations of each class, T being the video's own number
    of clips.

    activations: (B, T, C); present: (B, T), True = clip of the video, False = padding behind it.
    Returns (B, C).
    """
    k = -(-present.sum(dim=1, keepdim=True) // TOP)  # (B, 1)
    most = -(-activations.shape[1] // TOP)
    # (B, most, C)
    top = activations.masked_fill(~present[..., None], -torch.inf).topk(most, dim=1).values
    beyond = torch.arange(most, device=k.device) >= k  # (B, most)
    return top.masked_fill(beyond[..., None], 0).sum(dim=1) / k


def k_max_loss(activations, present, y):
    """W-TALC's multiple-instance loss: mean over videos of -sum_c y[c]/|y|_1 * log softmax_c(top-k
    mean)[c].

    activations: (B, T, C); present: (B, T), True = clip; y: (B, C) multi-hot, at least one 1 a row.
    Returns a scalar.
    """
    log_video = top_k_mean(activations, present).log_softmax(dim=1)  # (B, C)
    return -(y / y.sum(dim=1, keepdim=True) * log_video).sum(dim=1).mean()


def co_activity_loss(hidden, activations, present, y):
    """W-TALC's co-activity similarity loss, over pairs of videos; rows 2j and 2j + 1 are a pair.

    hidden: (2n, T, F); activations: (2n, T, C); present: (2n, T), True = clip; y: (2n, C)
    multi-hot. Returns a scalar: the mean over all pairs and the classes that both videos of a pair
    have, 0 where there is none (n = 0 included).

    Of each class, the softmax of its activations over time weighs the hidden features into a
    high-attention aggregate H, and (1 - softmax) / (T - 1) into a low-attention one, L. With d the
    cosine distance,
        loss = 1/2 max(0, d(H1, H2) - d(H1, L2) + 1/2) + 1/2 max(0, d(H1, H2) - d(L1, H2) + 1/2).
    A video of one clip has no low-attention part: L = 0, and its distance to anything is 1.
    """
    # (2n, T, C)
    attention = activations.masked_fill(~present[..., None], -torch.inf).softmax(dim=1)
    features = hidden.transpose(1, 2)  # (2n, F, T)
    high = features @ attention  # (2n, F, C)
    # L's divisor T - 1 is left out: no cosine depends on it, and it is 0 for T = 1.
    low = features @ (present[..., None].to(attention.dtype) - attention)  # (2n, F, C)
    (high1, low1), (high2, low2) = ((high[i::2], low[i::2]) for i in (0, 1))
    closer = 1 - F.cosine_similarity(high1, high2, dim=1)  # (n, C)
    farther = (
        1 - F.cosine_similarity(high1, low2, dim=1),
        1 - F.cosine_similarity(low1, high2, dim=1),
    )
    hinge = sum(torch.relu(closer - d + MARGIN) for d in farther) / 2  # (n, C)
    shared = y[0::2] * y[1::2]  # (n, C)
    return (hinge * shared).sum() / shared.sum().clamp(min=1)


def paired_batches(labels, iterations, rng):
    """W-TALC's batches, lists of BATCH video indices that begin with PAIRS pairs of videos sharing
    a class.

    labels: (n, C) NumPy multi-hot; rng: NumPy generator. A pair is two different videos of a class
    that is drawn evenly from those with at least two videos; where there is no such class, no batch
    has pairs. The other videos are drawn evenly from all n, and may repeat, as in W-TALC's code. n
    = 0 gives empty batches.
    """
    classes = [videos for videos in map(np.flatnonzero, labels.T) if len(videos) > 1]
    pairs = PAIRS if classes else 0
    batches = []
    for _ in range(iterations):
        batch = [
            i
            for c in rng.integers(len(classes), size=pairs)
            for i in rng.choice(classes[c], 2, replace=False)
        ]
        batch += list(rng.integers(len(labels), size=BATCH - len(batch))) if len(labels) else []
        batches.append([int(i) for i in batch])
    return batches
