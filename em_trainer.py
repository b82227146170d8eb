"""EM-MIL's training (Sec. 3.1 to 3.4): a list of phases, walked by one flat loop.

An E phase trains the assignment branch q_phi on Eq. 3's labels with the classifier frozen; an M phase trains the
classifier p_theta on Eq. 5's labels with the assignment frozen. The frozen branch does not move during a phase, so its
pseudo-labels are constant there: they are computed once, for all videos, when the phase begins.

Two more choices serve the ablation of Table 3: the step "EM" trains both branches in every update, and
`objective="attention"` replaces the pseudo-labels by UntrimmedNet's attention-MIL loss.
"""
import contextlib
import time
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from pseudo_labels import attention_mil_loss, class_labels, key_instance_labels
from engine.loop import adam, gathered, shuffled, train, world


class Phase(NamedTuple):
    """One row of the schedule."""
    step: str          # "E", "M", or "EM": both branches in every update
    epochs: int
    lr: float
    targets: str       # "bag": every clip of a positive bag is positive; "frozen": from the branch that does not move


def assignment_loss(q_logits, z_hat):
    """Eq. (4): BCE(Q[t], z_hat[t]), averaged over the clips. q_logits: (T,) before the sigmoid, z_hat: (T,) of 0 and 1."""
    return F.binary_cross_entropy_with_logits(q_logits, z_hat)


def classification_loss(p_logits, y_hat):
    """Eq. (6): BCE(P[t,c], y_hat[t,c]), averaged over the clips, summed over the classes.

    p_logits: (T, C) before the sigmoid, y_hat: (T, C) of 0 and 1. NOTE(paper): the paper does not say how the terms are
    reduced; this is the released code's way.
    """
    return F.binary_cross_entropy_with_logits(p_logits, y_hat, reduction="sum") / len(p_logits)


def fit(model, *, session, feed, names, labels, phases, gamma, keep_peak=False, objective="pseudo-labels",
        refresh="epoch", per_step=1, autocast=contextlib.nullcontext, bar=None):
    """Trains `model` (an EMMIL) in place, phase by phase.

    session: training.Session. feed: see training.feeder. names: of this process's videos. labels: (N, C) multi-hot
    float tensor of the whole set on the device, at least one 1 a row. phases: list of Phase. gamma, keep_peak: Eq. 5.
    objective: "pseudo-labels" or "attention". refresh: of step "EM", labels anew every "epoch" or every "step".
    per_step: videos per update and process. autocast: context factory for the forward passes. bar: tqdm over epochs.
    Raises InputError where a loss is not finite, Interrupted after a signal (both from training.train).
    The log says how long a phase's labels took (label_seconds), and session.memory keeps them (see `label_history`).
    """
    rank, ranks = world()
    mine = labels[rank::ranks]                                        # (n, C): this process's videos
    branches = {"E": model.assignment, "M": model.classifier}
    # NOTE(paper): one Adam per branch, so that momentum cannot move the frozen one (as it does in the released code).
    optimisers = {step: session.add(f"adam {step}", adam(branch.parameters(), lr=phases[0].lr))
                  for step, branch in branches.items()}
    attention = objective == "attention"

    def targets_of(step, source, i, rgb, flow):
        """What the branch of `step` learns on video i: a function of the other branch, constant while that is frozen."""
        if attention:
            if step == "E":
                return log_class_probabilities(model, rgb, flow)                             # (T, C)
            return log_attention(model, rgb, flow, uniform=source == "bag")                  # (T,)
        if source == "bag":                                            # Sec. 3.4: all clips of a positive bag
            return torch.ones(len(rgb), dtype=torch.bool, device=rgb.device)                 # (T,)
        if step == "E":
            p = model.classifier.fuse(model.classifier(rgb, flow))                           # (T, C)
            return key_instance_labels(p, mine[i]) > 0
        q = model.assignment.fuse(model.assignment(rgb, flow))[:, 0]                         # (T,)
        # Eq. 5 gives each positive class the same clips, so their (T,) mask is all there is to keep.
        return class_labels(q, mine[i], gamma, keep_peak).amax(dim=1) > 0

    def loss_of(step, target, i, rgb, flow):
        """What is minimised on one video, by stream: each has its own loss against the same fused target."""
        logits = branches[step](rgb, flow)._asdict()
        if attention and step == "E":
            return {stream: attention_mil_loss(s[:, 0].log_softmax(0), target, mine[i]) for stream, s in logits.items()}
        if attention:
            return {stream: attention_mil_loss(target, s.log_softmax(1), mine[i]) for stream, s in logits.items()}
        if step == "E":
            z_hat = target.float()                                                           # (T,)
            return {stream: assignment_loss(s[:, 0], z_hat) for stream, s in logits.items()}
        y_hat = target[:, None] * mine[i]                                                    # (T, C)
        return {stream: classification_loss(s, y_hat) for stream, s in logits.items()}

    for k, phase in enumerate(phases):
        stage = f"em-mil {k + 1:02d} {phase.step}"
        if stage in session.done:
            continue
        steps = tuple(phase.step)                                      # "EM" is both
        if session.stage == stage:                                     # resumed inside this phase
            facts, targets = session.memory["facts"], {step: _unpack(session.memory[f"targets {step}"], labels.device)
                                                       for step in steps}
        else:
            facts, targets, began = {"phase": k + 1, "step": phase.step}, {}, time.perf_counter()
            for step in steps:
                with torch.no_grad(), autocast():
                    own = [targets_of(step, phase.targets, *clips)
                           for batch in feed([[i] for i in range(len(mine))]) for clips in batch]
                targets[step] = own if ranks == 1 else [t.to(labels.device) for t in gathered([t.cpu() for t in own])]
                if not attention:
                    facts.update(_label_facts(step, targets[step], session.memory.get(f"targets {step}"), labels))
                    bits = np.packbits(torch.cat(targets[step]).cpu().numpy())
                    session.memory.setdefault("history", []).append([k + 1, step, torch.from_numpy(bits)])
                session.memory[f"targets {step}"] = _pack(targets[step])
            facts["label_seconds"] = round(time.perf_counter() - began, 4)
            session.memory["facts"] = facts
        for step in steps:
            optimisers[step].param_groups[0]["lr"] = phase.lr

        def loss(batch, rng):
            terms = {}
            with autocast():
                for i, rgb, flow in batch:
                    for step in steps:
                        target = targets[step][i * ranks + rank]
                        if refresh == "step" and phase.targets == "frozen":
                            with torch.no_grad():
                                target = targets_of(step, "frozen", i, rgb, flow)
                        for stream, value in loss_of(step, target, i, rgb, flow).items():
                            name = stream if len(steps) == 1 else f"{stream} {step}"
                            terms.setdefault(name, []).append(value)
            return {name: values[0] if len(values) == 1 else torch.stack(values).mean()
                    for name, values in terms.items()}

        train(stage, phase.epochs, session=session, optimisers=[optimisers[step] for step in steps], feed=feed,
              names=names, batches=lambda rng: shuffled(len(labels), per_step, rng), loss=loss, facts=facts, bar=bar)


def log_class_probabilities(model, rgb, flow):
    """Log of the softmax over classes, fused over the streams, (T, C): what the attention objective makes of p_theta."""
    logits = model.classifier(rgb, flow)
    return _log_average(logits.rgb.log_softmax(1), logits.flow.log_softmax(1), model.classifier.rgb_weight)


def log_attention(model, rgb, flow, uniform=False):
    """Log of the softmax over time, fused over the streams, (T,): what the attention objective makes of q_phi.

    uniform: equal weights instead, the counterpart of labelling every clip 1 before the first E phase.
    """
    if uniform:
        return rgb.new_zeros(len(rgb)).log_softmax(0)
    logits = model.assignment(rgb, flow)
    return _log_average(logits.rgb[:, 0].log_softmax(0), logits.flow[:, 0].log_softmax(0), model.assignment.rgb_weight)


def _log_average(log_a, log_b, weight):
    """log(weight * a + (1 - weight) * b) without leaving logarithms."""
    log_w, log_rest = torch.tensor([weight, 1 - weight]).log().tolist()
    return torch.logaddexp(log_a + log_w, log_b + log_rest)


@torch.no_grad()
def clip_scores(model, rgb, flow, objective="pseudo-labels"):
    """Q (T,) and P (T, C) of one video at test time, each in [0, 1].

    Of a network trained with the attention objective Q is the attention over its largest value in the video, and P
    the softmax over classes, since its sigmoids have not been trained.
    """
    if objective == "attention":
        attention = log_attention(model, rgb, flow)
        return (attention - attention.max()).exp(), log_class_probabilities(model, rgb, flow).exp()
    scores = model(rgb, flow)
    return scores.q, scores.p


def _label_facts(step, masks, packed_before, labels):
    """What the log says of a phase's pseudo-labels, over all videos.

    positive: share of clips labelled 1. empty: positive bags left with no positive clip (E: videos; M: pairs of video
    and class). changed: share of clips whose label differs from the last phase of the same step; None in the first.
    """
    flat = torch.cat(masks)
    empty = torch.stack([~m.any() for m in masks])
    bags = empty if step == "E" else empty * labels.sum(1)
    before = packed_before and torch.cat(_unpack(packed_before, flat.device))
    return {"positive": flat.float().mean().item(), "empty": int(bags.sum()),
            "changed": None if before is None else (flat != before).float().mean().item()}


def label_history(memory):
    """Every phase's pseudo-labels, from a session's memory: [(phase, step, [bool (T,) array of each video])].

    For diagnostics after training; training reads none of it back. A bit per clip and phase is what it costs.
    """
    return [(phase, step, np.split(np.unpackbits(bits.numpy(), count=sum(clips)).astype(bool), np.cumsum(clips)[:-1]))
            for phase, step, bits in memory.get("history", []) for clips in [memory[f"targets {step}"]["clips"]]]


def _pack(targets):
    """A list of (T, ...) tensors as one tensor and its lengths: a checkpoint of thousands of tensors is slow to write."""
    return {"values": torch.cat(targets), "clips": [len(t) for t in targets]}


def _unpack(packed, device):
    return list(packed["values"].to(device).split(packed["clips"]))
