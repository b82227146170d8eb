"""The labels of a phase on disk, labels/03-M.npz of step M in phase 3, and in the run's log."""

from pathlib import Path

import numpy as np
import torch

from engine.distributed import gathered
from engine.run_folder import LABELS
from formats.files import InputError


def _file(phase, step):
    return f"{LABELS}/{phase:02d}-{step}.npz"


def read(folder, phase, step, shapes=None):
    """The labels of one step in a phase: a (T, ...) array for each video, in the order of the set;
    None where there is no file. shapes: those expected. InputError for other or unreadable labels.
    """
    path = Path(folder) / _file(phase, step)
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            values, clips = file["labels"], file["clips"]
        labels = np.split(values, np.cumsum(clips)[:-1])
    except Exception as error:  # NumPy raises errors of many kinds for a damaged archive
        raise InputError(path, f"no readable labels ({error})", "those of a phase") from None
    whole = values.dtype.kind in "bf" and [len(x) for x in labels] == clips.tolist()
    if not whole or shapes not in (None, [x.shape for x in labels]):
        raise InputError(path, "labels of other clips", "those of the training videos")
    return labels


def saved(run, stage, phase, steps, train_set):
    """{name of the step: its labels, {index of the video: tensor}} of a phase that is resumed in
    the middle; {} where it begins.

    A rule that draws at random, or reads the trained branch, would now make other labels.
    """
    found = {}
    for step in steps if run.stage == stage and run.epoch > 0 else ():
        labels = read(run.folder, phase, step.name, _shapes(step, train_set))
        if labels is not None:
            tensors = [torch.from_numpy(labels[i]).to(train_set.labels) for i in train_set.mine]
            found[step.name] = dict(zip(train_set.mine, tensors))
    return found


def record(run, phase, steps, targets, train_set):
    """Saves the labels that begin a phase. Returns what the log says about them (`facts`); with two
    steps, about those of the last one.

    targets: {name of the step: {index of the video of this process: tensor}}.
    """
    described = {}
    for step in (step for step in steps if step.log_facts):
        labels = gathered(_arrays(targets[step.name]))
        whole = dict(labels=np.concatenate(labels), clips=[len(x) for x in labels])
        run.write(_file(phase, step.name), lambda path: np.savez_compressed(path, **whole))
        shapes = _shapes(step, train_set)
        earlier = (read(run.folder, n, step.name, shapes) for n in range(phase - 1, 0, -1))
        before = next((x for x in earlier if x is not None), None)
        described = facts(labels, before, train_set.labels.cpu().numpy())
    return described


def facts(labels, before, bags):
    """What the log says about labels, over all videos.

    labels: (T,) or (T, C) of each video; before: the same of the step's last phase, or None; bags:
    (N, C) multi-hot. A clip counts as positive where its label, or its label of some class, is
    above 0.5. Returns positive: share of such clips; empty: bags without one (E: videos; M: pairs
    of video and class); changed: share of clips whose label differs from the last phase, None in
    the first.
    """
    positive = [x > 0.5 for x in labels]
    if labels[0].ndim == 1:
        empty = sum(not x.any() for x in positive)
    else:
        empty = sum(int(((y > 0) & ~x.any(axis=0)).sum()) for x, y in zip(positive, bags))
    differs = None if before is None else [x != y for x, y in zip(labels, before)]
    return {"positive": _share(positive), "empty": empty, "changed": differs and _share(differs)}


def _share(masks):
    """Of the clips, those where a mask is true, in any class of (T, C)."""
    masks = [mask if mask.ndim == 1 else mask.any(axis=1) for mask in masks]
    return sum(int(mask.sum()) for mask in masks) / sum(map(len, masks))


def _shapes(step, train_set):
    classes = train_set.labels.shape[1]
    return [step.label_shape(clips, classes) for clips in train_set.lengths]


def _arrays(targets):
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
