"""A variant of EM-MIL: labels of each stream from its own scores in the frozen branch, not from the
fused ones. "Separately for RGB and Flow branch. Then, we fuse" (Sec. 4.1) fits both.
"""

import torch

from em_trainer import EStep, MStep, assignment_loss, classification_loss
from pseudo_labels import class_labels, key_instance_labels


class StreamEStep(EStep):
    """Trains each stream of q_phi on Eq. 3's labels from the same stream of the classifier."""

    log_facts = False  # the log describes one label a clip

    def label_shape(self, clips, classes):
        return (clips, _streams(self.branch))

    def bag_labels(self, bag):
        return bag.y.new_ones(bag.length, 1)

    def pseudo_labels(self, bag):
        """(T, streams)."""
        return torch.stack([key_instance_labels(p, bag.y) for p in _scores(self.frozen, bag)], -1)

    def losses(self, bag, z_hat):
        streams = self.branch(bag.rgb, bag.flow).present()
        return {
            stream: assignment_loss(logits[:, 0], z_hat[:, s])
            for s, (stream, logits) in enumerate(streams)
        }


class StreamMStep(MStep):
    """Trains each stream of p_theta on Eq. 5's labels from the same stream of the assignment."""

    log_facts = False

    def label_shape(self, clips, classes):
        return (clips, classes, _streams(self.branch))

    def bag_labels(self, bag):
        return bag.y[:, None].expand(bag.length, -1, 1)

    def pseudo_labels(self, bag):
        """(T, C, streams)."""
        rule = bag.y, self.gamma, self.keep_peak
        return torch.stack([class_labels(q[:, 0], *rule) for q in _scores(self.frozen, bag)], -1)

    def losses(self, bag, y_hat):
        streams = self.branch(bag.rgb, bag.flow).present()
        return {
            stream: classification_loss(logits, y_hat[..., s])
            for s, (stream, logits) in enumerate(streams)
        }


def _streams(branch):
    return (branch.rgb is not None) + (branch.flow is not None)


def _scores(branch, bag):
    """The sigmoid scores of each stream, (T, outputs)."""
    return [torch.sigmoid(logits) for _, logits in branch(bag.rgb, bag.flow).present()]
