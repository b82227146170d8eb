"""Which classes a video holds: the video-level classifiers of Sec. 3.5, UntrimmedNet and W-TALC.

Both learn from video-level labels alone and give scores of the video, which gate EM-MIL's classes at test time, and of
its clips, from which `localize` makes them localizers of their own (Tables 1 and 2). One interface for both:

    model = UntrimmedNet(rgb_dim, flow_dim, n_classes)          # or WTALC
    fit(model, session=..., feed=..., names=..., labels=..., lr=1e-4, length=45)
    video_scores(model, rgb, flow), clip_scores(model, rgb, flow)

UntrimmedNet (Wang et al., CVPR 2017) weighs the clips by an attention over time that knows no class. W-TALC (Paul et
al., ECCV 2018) averages each class's highest clips, and pulls together what videos of one class attend to. At the end
of the file: scores from a classifier of the user's own, and the metrics that all of them are judged by.

T clips, C classes, B videos of a batch.
"""
import math
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from pseudo_labels import attention_mil_loss
from engine.loop import adam, shuffled, train, world

BATCH = 10                # W-TALC: videos per step and process ...
PAIRS = 3                 # ... of which the first 2 * PAIRS are pairs that share a class
ITERATIONS = 100          # of W-TALC in an epoch of the log and of the checkpoints; it has no epochs of its own
WEIGHT_DECAY = 5e-4       # of W-TALC
TOP = 8                   # W-TALC: a class's score is the mean of its ceil(T / TOP) highest clips
MARGIN = 0.5              # W-TALC: of the ranking hinge, in units of cosine distance


class Scores(NamedTuple):
    """What a classifier says of one video."""
    video: torch.Tensor                # (C,) in [0, 1], summing to 1
    clips: torch.Tensor                # (T, C): UntrimmedNet's softmax over classes; W-TALC's activations, unbounded
    attention: torch.Tensor | None     # (T,), summing to 1; None of W-TALC


# ------------------------------------------------------------------------------------------------ UntrimmedNet
class UntrimmedNet(nn.Module):
    """UntrimmedNet's soft selection on precomputed features: p[c] = sum_t a[t] * softmax_c(s[t])[c].

    NOTE(paper): cited without its layers. As in UntrimmedNet itself both heads are linear on the features of a stream:
    one attention logit a clip, normalised by a softmax over time, and C class logits, by a softmax over classes. Both
    are averaged over the streams, 0.5 and 0.5, before they are multiplied, as in the released code of EM-MIL.
    """

    def __init__(self, rgb_dim, flow_dim, n_classes):
        super().__init__()
        self.rgb = nn.Linear(rgb_dim, 1 + n_classes)                  # output 0 is the attention's
        self.flow = nn.Linear(flow_dim, 1 + n_classes)

    def forward(self, rgb, flow):
        """rgb: (T, D), flow: (T, D') of one video. Returns logarithms of the attention (T,) and class scores (T, C)."""
        rgb, flow = self.rgb(rgb), self.flow(flow)                    # (T, 1 + C)
        log_attention = torch.logaddexp(rgb[:, 0].log_softmax(0), flow[:, 0].log_softmax(0)) - math.log(2)
        log_class = torch.logaddexp(rgb[:, 1:].log_softmax(1), flow[:, 1:].log_softmax(1)) - math.log(2)
        return log_attention, log_class

    def scores(self, rgb, flow):
        log_attention, log_class = self(rgb, flow)
        attention, clips = log_attention.exp(), log_class.exp()
        return Scores((attention @ clips).clamp(max=1), clips, attention)    # rounding can end just above 1


# ------------------------------------------------------------------------------------------------ W-TALC
class WTALC(nn.Module):
    """W-TALC's network: Linear(F, F), ReLU, dropout 0.7, Linear(F, C) on the concatenated streams, F = D + D'.

    Xavier-uniform weights and zero biases, as its code has them.
    """

    def __init__(self, rgb_dim, flow_dim, n_classes):
        super().__init__()
        self.hidden = nn.Linear(rgb_dim + flow_dim, rgb_dim + flow_dim)
        self.classifier = nn.Linear(rgb_dim + flow_dim, n_classes)
        for layer in (self.hidden, self.classifier):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, rgb, flow):
        """rgb: (T, D), flow: (T, D'), clips of one video or of several, one after the other.

        Returns hidden features (T, F), after the dropout, and class activations (T, C).
        """
        hidden = F.dropout(torch.relu(self.hidden(torch.cat([rgb, flow], dim=1))), 0.7, self.training)
        return hidden, self.classifier(hidden)

    def scores(self, rgb, flow):
        _, activations = self(rgb, flow)
        present = torch.ones(1, len(activations), dtype=torch.bool, device=activations.device)
        return Scores(top_k_mean(activations[None], present)[0].softmax(0), activations, None)


def top_k_mean(activations, present):
    """Mean of the k = ceil(T / 8) highest activations of each class, T being the video's own number of clips.

    activations: (B, T, C); present: (B, T), True = clip of the video, False = padding behind it. Returns (B, C).
    """
    k = -(-present.sum(dim=1, keepdim=True) // TOP)                   # (B, 1)
    most = -(-activations.shape[1] // TOP)
    top = activations.masked_fill(~present[..., None], -torch.inf).topk(most, dim=1).values        # (B, most, C)
    beyond = torch.arange(most, device=k.device) >= k                 # (B, most)
    return top.masked_fill(beyond[..., None], 0).sum(dim=1) / k


def k_max_loss(activations, present, y):
    """W-TALC's multiple-instance loss: mean over videos of -sum_c y[c]/|y|_1 * log softmax_c(top-k mean)[c].

    activations: (B, T, C); present: (B, T), True = clip; y: (B, C) multi-hot, at least one 1 a row. Returns a scalar.
    """
    log_video = top_k_mean(activations, present).log_softmax(dim=1)   # (B, C)
    return -(y / y.sum(dim=1, keepdim=True) * log_video).sum(dim=1).mean()


def co_activity_loss(hidden, activations, present, y):
    """W-TALC's co-activity similarity loss, over pairs of videos; rows 2j and 2j + 1 are a pair.

    hidden: (2n, T, F); activations: (2n, T, C); present: (2n, T), True = clip; y: (2n, C) multi-hot. Returns a scalar:
    the mean over all pairs and the classes that both videos of a pair have, 0 where there is none (n = 0 included).

    Of each class, the softmax of its activations over time weighs the hidden features into a high-attention aggregate
    H, and (1 - softmax) / (T - 1) into a low-attention one, L. With d the cosine distance,
        loss = 1/2 max(0, d(H1, H2) - d(H1, L2) + 1/2) + 1/2 max(0, d(H1, H2) - d(L1, H2) + 1/2).
    A video of one clip has no low-attention part: L = 0, and its distance to anything is 1.
    """
    attention = activations.masked_fill(~present[..., None], -torch.inf).softmax(dim=1)            # (2n, T, C)
    features = hidden.transpose(1, 2)                                                              # (2n, F, T)
    high = features @ attention                                                                    # (2n, F, C)
    # L's divisor T - 1 is left out: no cosine depends on it, and it is 0 for T = 1.
    low = features @ (present[..., None].to(attention.dtype) - attention)                          # (2n, F, C)
    (high1, low1), (high2, low2) = ((high[i::2], low[i::2]) for i in (0, 1))
    closer = 1 - F.cosine_similarity(high1, high2, dim=1)                                          # (n, C)
    farther = 1 - F.cosine_similarity(high1, low2, dim=1), 1 - F.cosine_similarity(low1, high2, dim=1)
    hinge = sum(torch.relu(closer - d + MARGIN) for d in farther) / 2                              # (n, C)
    shared = y[0::2] * y[1::2]                                                                     # (n, C)
    return (hinge * shared).sum() / shared.sum().clamp(min=1)


def paired_batches(labels, iterations, rng):
    """W-TALC's batches, lists of BATCH video indices that begin with PAIRS pairs of videos sharing a class.

    labels: (n, C) NumPy multi-hot; rng: NumPy generator. A pair is two different videos of a class that is drawn
    evenly from those with at least two videos; where there is no such class, no batch has pairs. The other videos are
    drawn evenly from all n, and may repeat, as in W-TALC's code. n = 0 gives empty batches.
    """
    classes = [videos for videos in map(np.flatnonzero, labels.T) if len(videos) > 1]
    pairs = PAIRS if classes else 0
    batches = []
    for _ in range(iterations):
        batch = [i for c in rng.integers(len(classes), size=pairs) for i in rng.choice(classes[c], 2, replace=False)]
        batch += list(rng.integers(len(labels), size=BATCH - len(batch))) if len(labels) else []
        batches.append([int(i) for i in batch])
    return batches


def _wtalc_losses(model, batch, labels, pairs, max_clips, rng):
    """Both losses of one batch, 0.5 each. batch: list of (index, rgb, flow), pairs first."""
    index, rgb, flow = zip(*batch)
    begin = [int(rng.integers(max(len(r) - max_clips, 0) + 1)) for r in rgb]
    rgb, flow = ([x[b:b + max_clips] for x, b in zip(stream, begin)] for stream in (rgb, flow))
    clips = [len(r) for r in rgb]
    hidden, activations = (pad_sequence(x.split(clips), batch_first=True)                          # (B, T, F or C)
                           for x in model(torch.cat(rgb), torch.cat(flow)))   # the layers never see the padding
    present = torch.arange(max(clips)) < torch.tensor(clips)[:, None]                              # (B, T)
    present, y, paired = present.to(hidden.device), labels[list(index)], slice(2 * pairs)
    return {"k-max": 0.5 * k_max_loss(activations, present, y),
            "co-activity": 0.5 * co_activity_loss(hidden[paired], activations[paired], present[paired], y[paired])}


# ------------------------------------------------------------------------------------------------ both
def epochs_of(model, length):
    """Epochs of the log (and of a progress bar) that `fit` with this length makes."""
    return -(-length // ITERATIONS) if isinstance(model, WTALC) else length


def fit(model, *, session, feed, names, labels, lr, length, max_clips=750, bar=None):
    """Trains an UntrimmedNet or a WTALC in place, as the stage "untrimmednet" or "wtalc".

    session, feed, names, bar: see training.train. labels: (N, C) multi-hot float tensor of the whole set on the
    device, at least one 1 a row. lr: of Adam. length: epochs of UntrimmedNet, one video a step; iterations of W-TALC,
    of which the log counts each 100 as an epoch. max_clips: W-TALC trains on that many clips of a longer video, at a
    place drawn anew each time; UntrimmedNet on all clips.
    The log's losses are what is minimised: of W-TALC, each after its weight of 0.5.
    In several processes UntrimmedNet's step takes a video, and W-TALC's a batch of 10 with 3 pairs, from every
    process's own videos: 10 * processes videos a step, and pairs only where a process owns both.
    Raises InputError where a loss is not finite, Interrupted after a signal (both from training.train).
    """
    rank, ranks = world()
    mine = labels[rank::ranks]                                        # (n, C): this process's videos
    if isinstance(model, WTALC):
        stage, weight_decay, label_array = "wtalc", WEIGHT_DECAY, mine.cpu().numpy()
        pairs = PAIRS if (label_array.sum(axis=0) > 1).any() else 0

        def batches(rng):
            steps = min(ITERATIONS, length - ITERATIONS * session.epoch)
            return paired_batches(label_array, steps, rng.spawn(ranks)[rank]), [BATCH * min(ranks, len(labels))] * steps

        def loss(batch, rng):
            return _wtalc_losses(model, batch, mine, pairs, max_clips, rng)
    else:
        stage, weight_decay = "untrimmednet", 0.0

        def batches(rng):
            return shuffled(len(labels), 1, rng)

        def loss(batch, rng):
            return {"attention-mil": sum(attention_mil_loss(*model(rgb, flow), mine[i])
                                         for i, rgb, flow in batch) / len(batch)}

    model.train()
    optimiser = session.add(f"adam {stage}", adam(model.parameters(), lr, weight_decay))
    train(stage, epochs_of(model, length), session=session, optimisers=[optimiser], feed=feed, names=names,
          batches=batches, loss=loss, bar=bar)


@torch.no_grad()
def scores(model, rgb, flow):
    """Scores of one video at test time: all clips, no dropout. rgb: (T, D), flow: (T, D') on the model's device."""
    return model.eval().scores(rgb, flow)


def video_scores(model, rgb, flow):
    """(C,) in [0, 1]. UntrimmedNet: sum_t a[t] c[t]; W-TALC: softmax over classes of the top-k mean. Both sum to 1."""
    return scores(model, rgb, flow).video


def clip_scores(model, rgb, flow):
    """(T, C). UntrimmedNet: softmax over classes; W-TALC: class activations before any softmax."""
    return scores(model, rgb, flow).clips


# ------------------------------------------------------------------------------------------------ metrics
class Metrics(NamedTuple):
    """Of video-level classification, each in [0, 1]; NaN where nothing counts towards it."""
    map: float
    top1: float
    ap: np.ndarray                     # (C,), NaN for classes without a positive video


def classification_metrics(scores, labels):
    """Video-level mean average precision and top-1 accuracy.

    scores, labels: (N, C), labels multi-hot. AP is the area under the steps of the precision-recall curve,
    sum_n (R[n] - R[n-1]) P[n] over the distinct scores from the highest down, so the order of ties does not matter
    (scikit-learn's definition). mAP is its mean over the classes that some video has. Top-1: the best class is one of
    the video's; videos without any label are left out of it, while in mAP they are negatives.
    """
    scores, labels = np.asarray(scores, np.float64), np.asarray(labels) > 0
    ap = np.array([_average_precision(s, y) for s, y in zip(scores.T, labels.T)])
    labelled = labels.any(axis=1)
    hits = labels[np.arange(len(labels)), scores.argmax(axis=1)][labelled]
    return Metrics(float(np.nanmean(ap)) if labels.any() else math.nan,
                   float(hits.mean()) if labelled.any() else math.nan, ap)


def _average_precision(scores, positive):
    if not positive.any():
        return math.nan
    order = np.argsort(-scores, kind="stable")
    last_of_ties = np.append(np.diff(scores[order]) != 0, True)
    found = np.cumsum(positive[order])[last_of_ties]
    precision = found / (np.flatnonzero(last_of_ties) + 1)
    return float(np.sum(np.diff(found, prepend=0) * precision) / positive.sum())
