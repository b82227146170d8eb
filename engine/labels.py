"""Pseudo-labels as a run's folder keeps them (labels/) and as its log describes them."""

import numpy as np
import torch


def as_arrays(targets):
    """Labels as NumPy arrays, in the order of the videos; 0/1 labels as booleans, which take a
    fourth of the room.
    """
    if not targets:  # a process without videos
        return []
    labels = [targets[i] for i in sorted(targets)]
    values = torch.cat(labels).float().cpu().numpy()  # one wait for the device
    if np.isin(values, (0, 1)).all():
        values = values > 0
    return np.split(values, np.cumsum([len(x) for x in labels])[:-1])


def label_facts(labels, before, bags):
    """What the log says about the labels of a phase, over all videos.

    labels: [(T,) or (T, C)] of each video; before: the same of the step's last phase, or None;
    bags: (N, C) multi-hot. A clip counts as positive where its label, or its label of some class,
    is above 0.5. Returns positive: share of such clips; empty: bags without one (E: videos; M:
    pairs of video and class); changed: share of clips whose label differs from the last phase, None
    in the first.
    """
    positive = [x > 0.5 for x in labels]
    if labels[0].ndim == 1:
        empty = sum(not x.any() for x in positive)
    else:
        empty = sum(int(((y > 0) & ~x.any(axis=0)).sum()) for x, y in zip(positive, bags))
    changed = None
    if before is not None:
        changed = _share([_any_class(x != y) for x, y in zip(labels, before)])
    return {
        "positive": _share([_any_class(x) for x in positive]),
        "empty": empty,
        "changed": changed,
    }


def _any_class(mask):
    return mask if mask.ndim == 1 else mask.any(axis=1)


def _share(masks):
    return sum(int(mask.sum()) for mask in masks) / sum(map(len, masks))
