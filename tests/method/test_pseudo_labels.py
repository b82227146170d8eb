"""Eq. 3, Eq. 5 and the attention loss against numbers worked out by hand."""

import pytest
import torch

from pseudo_labels import class_labels, key_instance_labels


def t(*rows):
    return torch.tensor(rows, dtype=torch.float64)


def test_eq3_any_positive_class_above_its_own_mean():
    # class 0: mean 0.4 -> clips 1, 2 above; class 1: mean 0.5 -> clip 0 above; class 2 is negative
    # and does not vote
    p = t([0.1, 0.9, 0.0], [0.5, 0.3, 0.0], [0.6, 0.3, 0.0], [0.4, 0.5, 1.0])
    assert key_instance_labels(p, t(1, 0, 0)[0:3].flatten()).tolist() == [0, 1, 1, 0]
    assert key_instance_labels(p, torch.tensor([1.0, 1.0, 0.0])).tolist() == [1, 1, 1, 0]
    assert key_instance_labels(p, torch.tensor([0.0, 0.0, 1.0])).tolist() == [0, 0, 0, 1]


def test_eq3_is_strict_at_the_mean():
    p = t([0.25], [0.5], [0.75])  # mean is exactly 0.5
    assert key_instance_labels(p, torch.ones(1)).tolist() == [0, 0, 1]


@pytest.mark.parametrize("p", [t([0.5, 0.25]), t([0.5, 0.25], [0.5, 0.25], [0.5, 0.25])])
def test_eq3_constant_scores_and_a_single_clip_vote_for_nothing(p):
    assert key_instance_labels(p, torch.ones(2)).tolist() == [0] * len(p)


@pytest.mark.parametrize("value", [0.1, 0.3, 0.7, 0.9])
def test_constant_scores_whose_rounded_mean_is_below_them_give_nothing(value):
    """In float32 the mean of e.g. seven times 0.3 is below 0.3."""
    for clips in range(1, 60):
        q = torch.full((clips,), value)
        assert key_instance_labels(q[:, None], torch.ones(1)).sum() == 0
        assert class_labels(q, torch.ones(1), 0.0).sum() == 0


def test_eq3_without_a_positive_class_is_zero():
    assert key_instance_labels(t([0.1], [0.9]), torch.zeros(1)).tolist() == [0, 0]


def test_eq5_threshold_by_hand():
    # mean 0.5, range 1: threshold 0.5 at gamma 0, 0.625 at gamma 1/8, 0.75 at 1/4; all exact in
    # binary
    q = torch.tensor([0.0, 1.0, 0.625, 0.375])
    y = torch.tensor([0.0, 1.0, 1.0])
    assert class_labels(q, y, 0.0).tolist() == [[0, 0, 0], [0, 1, 1], [0, 1, 1], [0, 0, 0]]
    # strict at 0.625
    assert class_labels(q, y, 0.125).tolist() == [[0, 0, 0], [0, 1, 1], [0, 0, 0], [0, 0, 0]]
    assert class_labels(q, y, 0.25).tolist() == [[0, 0, 0], [0, 1, 1], [0, 0, 0], [0, 0, 0]]
    # mean 0.3125, median 0.125
    q = torch.tensor([0.25, 0.0, 0.0, 1.0])
    assert class_labels(q, torch.ones(1), 0.0).tolist() == [[0], [0], [0], [1]]


def test_eq5_negative_classes_are_zero_on_every_clip():
    assert class_labels(torch.tensor([0.0, 1.0]), torch.tensor([0.0, 0.0]), 0.1).sum() == 0


@pytest.mark.parametrize("q", [torch.tensor([0.5]), torch.full((4,), 0.25)])
def test_eq5_constant_scores_give_zeros_and_keep_peak_the_first_clip(q):
    y = torch.tensor([1.0, 0.0])
    assert class_labels(q, y, 0.0).sum() == 0
    kept = class_labels(q, y, 0.0, keep_peak=True)
    assert kept.tolist() == [[1, 0]] + [[0, 0]] * (len(q) - 1)


def test_eq5_keep_peak_changes_nothing_where_a_clip_passes():
    q, y = torch.tensor([0.0, 1.0, 0.75, 0.0]), torch.ones(1)
    assert class_labels(q, y, 0.25, keep_peak=True).equal(class_labels(q, y, 0.25))
    # threshold 0.4375 + 0.25 = 0.6875
    assert class_labels(q, y, 0.25).flatten().tolist() == [0, 1, 1, 0]


def test_labels_are_detached_and_leave_their_input_alone():
    p = torch.rand(5, 3, requires_grad=True)
    q = torch.rand(5, requires_grad=True)
    before = p.detach().clone(), q.detach().clone()
    z, labels = (
        key_instance_labels(p, torch.ones(3)),
        class_labels(q, torch.ones(3), 0.1, keep_peak=True),
    )
    assert not z.requires_grad and not labels.requires_grad
    assert p.equal(before[0]) and q.equal(before[1])
    assert z.shape == (5,) and labels.shape == (5, 3)
    assert set(z.tolist()) | set(labels.flatten().tolist()) <= {0.0, 1.0}
