"""EM-MIL's training (Sec. 3.1 to 3.4): E and M steps, and the phases of the schedule.

An E phase trains the assignment branch q_phi on Eq. 3's labels with the classifier frozen; an M
phase trains the classifier p_theta on Eq. 5's labels with the assignment frozen. The frozen branch
does not move during a phase, so its pseudo-labels are constant there: they are computed once, for
all videos, when the phase begins. A rule may also read the trained branch; it then sees the weights
at the start of the phase. (In the ablation's "EM" phases both branches are trained.)

A step is any object with
    name                    "E" or "M", as the schedule names it
    branch, frozen          the branch that is trained, and the one that gives the labels
    bag_labels(bag)         the labels of the first phase (Sec. 3.4)
    pseudo_labels(bag)      the labels from the frozen branch
    label_shape(T, C)       the shape of its labels, (T,) or (T, C)
    losses(bag, labels)     {name: scalar}, summed; `labels` are what the two functions above return
    log_facts               whether its labels, in [0, 1], are saved and described in the log
so another rule for the labels, hard or soft, for each class or for all, takes effect where it is
written.
"""

import time
from typing import NamedTuple

import torch
import torch.nn.functional as F

from engine import labels
from engine.loop import Adam, together, train_epoch
from formats.files import InputError
from pseudo_labels import class_labels, key_instance_labels


class Phase(NamedTuple):
    """One row of the schedule."""

    step: str  # "E", "M", or "EM": both branches in every update (an ablation)
    epochs: int
    lr: float
    targets: str  # "bag": all clips of a positive bag are 1; "frozen": from the frozen branch


# ---- equations
def assignment_loss(q_logits, z_hat):
    """Eq. (4): BCE(Q[t], z_hat[t]), averaged over the clips.

    q_logits: (T,) before the sigmoid; z_hat: (T,) in [0, 1].
    """
    return F.binary_cross_entropy_with_logits(q_logits, z_hat)


def classification_loss(p_logits, y_hat):
    """Eq. (6): BCE(P[t,c], y_hat[t,c]), averaged over the clips, summed over the classes.

    p_logits: (T, C) before the sigmoid; y_hat: (T, C) in [0, 1]. NOTE(paper): the paper does not
    say how the terms are reduced; this is the released code's way.
    """
    return F.binary_cross_entropy_with_logits(p_logits, y_hat, reduction="sum") / len(p_logits)


# ---- steps
class EStep:
    """Trains the assignment branch q_phi on Eq. 3's labels; the classifier is frozen."""

    name, log_facts = "E", True

    def __init__(self, model):
        self.branch, self.frozen = model.assignment, model.classifier

    def label_shape(self, clips, classes):
        return (clips,)

    def bag_labels(self, bag):
        """Sec. 3.4: every clip of a bag is a key instance, (T,)."""
        return bag.y.new_ones(bag.length)

    def pseudo_labels(self, bag):
        p = self.frozen.fuse(self.frozen(bag.rgb, bag.flow))  # (T, C)
        return key_instance_labels(p, bag.y)  # (T,)

    def losses(self, bag, z_hat):
        q = self.branch(bag.rgb, bag.flow)
        return {stream: assignment_loss(logits[:, 0], z_hat) for stream, logits in q.present()}


class MStep:
    """Trains the classifier p_theta on Eq. 5's labels; the assignment branch is frozen."""

    name, log_facts = "M", True

    def __init__(self, model, gamma, keep_peak=False):
        self.branch, self.frozen = model.classifier, model.assignment
        self.gamma, self.keep_peak = gamma, keep_peak

    def label_shape(self, clips, classes):
        return (clips, classes)

    def bag_labels(self, bag):
        """Sec. 3.4: every clip has the labels of its bag, (T, C)."""
        return bag.y.expand(bag.length, -1)

    def pseudo_labels(self, bag):
        q = self.frozen.fuse(self.frozen(bag.rgb, bag.flow))[:, 0]  # (T,)
        return class_labels(q, bag.y, self.gamma, self.keep_peak)  # (T, C)

    def losses(self, bag, y_hat):
        p = self.branch(bag.rgb, bag.flow)
        return {stream: classification_loss(logits, y_hat) for stream, logits in p.present()}


# ---- training
def fit(steps, train_set, run, phases, *, per_step=1, refresh="epoch", bar=None):
    """Trains the branches of `steps` in place, phase by phase.

    steps: {"E": EStep, "M": MStep}. train_set: engine.loop.TrainingSet. run:
    engine.run_folder.RunFolder, which skips what is done. phases: list of Phase. per_step: videos
    per update and process. refresh: in "EM" phases, labels from the branches as they are at the
    start of an "epoch" or of every "step". bar: has `update(epoch's losses)`, for the progress.
    Raises InputError where a loss is not finite.
    """
    # NOTE(paper): one Adam per branch, so that momentum cannot move the frozen one (as it does in
    # the released code).
    adam = {
        name: run.register(f"adam {name}", Adam(step.branch.parameters(), lr=phases[0].lr))
        for name, step in steps.items()
    }
    for number, phase in enumerate(phases, 1):
        stage = f"em-mil {number:02d} {phase.step}"
        if stage in run.done:
            continue
        trained = [steps[name] for name in phase.step]  # both in an "EM" phase
        began = time.perf_counter()
        run.generator(f"{stage} labels", 0)  # for a rule that draws labels from PyTorch's generator
        saved = labels.saved(run, stage, number, trained, train_set)
        targets = {
            step.name: saved.get(step.name) or label_all(step, train_set, phase.targets)
            for step in trained
        }
        facts = labels.record(run, number, trained, targets, train_set)
        facts["label_seconds"] = round(time.perf_counter() - began, 4)
        loss = _loss(trained, targets, refresh == "step" and phase.targets == "frozen")
        optimizers = [adam[name] for name in phase.step]
        for optimizer in optimizers:
            optimizer.param_groups[0]["lr"] = phase.lr
        for epoch in run.epochs(stage, phase.epochs):
            began = time.perf_counter()
            batches = train_set.shuffled(run.generator(stage, epoch), per_step)
            losses = train_epoch(batches, loss, optimizers, where=f"{stage}, epoch {epoch + 1}")
            run.log(
                stage=stage,
                epoch=epoch + 1,
                phase=number,
                step=phase.step,
                **facts,
                lr=phase.lr,
                loss=losses,
                videos=len(train_set),
                seconds=round(time.perf_counter() - began, 4),
            )
            if bar is not None:
                bar.update(losses)


def label_all(step, train_set, source):
    """The labels of all videos of this process for one step, {index of the video: tensor}.

    source: as in Phase.targets.
    """
    found = {}
    for bags in train_set.groups():
        with together(step.frozen, bags):  # the frozen branch scores them in one pass
            found |= {bag.index: _labels_of(step, bag, source) for bag in bags}
    return found


@torch.no_grad()
def _labels_of(step, bag, source):
    """What the step's rule returns, as numbers of the shape that its loss expects.

    Labels of a whole video, (C,), or of a clip for all classes, (T, 1), are spread over the rest.
    """
    made = step.bag_labels(bag) if source == "bag" else step.pseudo_labels(bag)
    shape = step.label_shape(bag.length, len(bag.y))
    try:
        return made.to(bag.y.dtype).expand(shape)
    except RuntimeError:
        raise InputError(
            f"em-mil {step.name}: {bag.name}",
            f"labels of the shape {tuple(made.shape)}",
            f"{shape} (E step: a label for each clip; M step: for each clip and class)",
        ) from None


def _loss(trained, targets, fresh):
    """The function bags -> {name: mean loss} that an epoch minimises. fresh: the labels are made
    in every step, instead of `targets`.
    """

    def loss(bags):
        terms = {}
        for bag in bags:
            for step in trained:
                of_bag = _labels_of(step, bag, "frozen") if fresh else targets[step.name][bag.index]
                for stream, value in step.losses(bag, of_bag).items():
                    name = stream if len(trained) == 1 else f"{stream} {step.name}"
                    terms.setdefault(name, []).append(value)
        return {
            name: values[0] if len(values) == 1 else torch.stack(values).mean()
            for name, values in terms.items()
        }

    return loss
