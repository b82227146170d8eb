"""Table 3's "Alternating": EM-MIL's alternation with attention in place of pseudo-labels.

Each branch minimises UntrimmedNet's attention-MIL loss while the other is frozen: q_phi as weights
of the clips (softmax over time), p_theta as probabilities of the classes (softmax over classes), in
logarithms throughout.
"""

import torch

from methods.untrimmednet import attention_mil_loss, log_average


class AttentionEStep:
    """Trains the attention over time; the class probabilities are frozen."""

    name, log_facts = "E", False

    def __init__(self, model):
        self.branch, self.frozen = model.assignment, model.classifier

    def label_shape(self, clips, classes):
        return (clips, classes)

    def pseudo_labels(self, bag):
        return log_class_probabilities(self.frozen, bag.rgb, bag.flow)  # (T, C)

    bag_labels = pseudo_labels

    def losses(self, bag, log_class):
        logits = self.branch(bag.rgb, bag.flow)
        return {
            stream: attention_mil_loss(s[:, 0].log_softmax(0), log_class, bag.y)
            for stream, s in logits.present()
        }


class AttentionMStep:
    """Trains the class probabilities; the attention over time is frozen."""

    name, log_facts = "M", False

    def __init__(self, model):
        self.branch, self.frozen = model.classifier, model.assignment

    def label_shape(self, clips, classes):
        return (clips,)

    def bag_labels(self, bag):
        """Equal weights: the counterpart of labelling every clip 1, (T,)."""
        return bag.y.new_zeros(bag.length).log_softmax(0)

    def pseudo_labels(self, bag):
        return log_attention(self.frozen, bag.rgb, bag.flow)  # (T,)

    def losses(self, bag, log_weights):
        logits = self.branch(bag.rgb, bag.flow)
        return {
            stream: attention_mil_loss(log_weights, s.log_softmax(1), bag.y)
            for stream, s in logits.present()
        }


def log_class_probabilities(classifier, rgb, flow):
    """Log of the softmax over classes, fused over the streams, (T, C)."""
    logits = classifier(rgb, flow).present()
    return log_average([s.log_softmax(1) for _, s in logits], classifier.rgb_weight)


def log_attention(assignment, rgb, flow):
    """Log of the softmax over time, fused over the streams, (T,)."""
    logits = assignment(rgb, flow).present()
    return log_average([s[:, 0].log_softmax(0) for _, s in logits], assignment.rgb_weight)


@torch.no_grad()
def attention_scores(model, rgb, flow):
    """Q and P at test: the attention over its largest value in the video (T,), and the class
    probabilities (T, C).

    NOTE(paper): the paper does not say how the ablation is localized; its sigmoids have not been
    trained.
    """
    attention = log_attention(model.assignment, rgb, flow)
    return {
        "q": (attention - attention.max()).exp(),
        "p": log_class_probabilities(model.classifier, rgb, flow).exp(),
    }
