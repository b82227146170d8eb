"""The scores of a run's test videos, stored so that localization can be done again without
network or features.

One HDF5 file: the dataset `classes`; a group per video, in order, with the attributes `name`,
`duration`, `snippet_seconds` and `clip_seconds`, the labels (C,) and a group per method with its
arrays, as the networks gave them.
"""

import dataclasses
import io

import h5py
import numpy as np

from formats.files import InputError, open_file, write_atomically
from formats.layouts import positive_seconds

SECONDS = ("duration", "snippet_seconds", "clip_seconds")


@dataclasses.dataclass(frozen=True, eq=False)
class Record:
    """What the networks say of one video of T clips, C classes."""

    name: str
    duration: float  # seconds
    labels: np.ndarray  # (C,)
    scores: dict  # {method: {key: array}}, each array (T,), (T, C) or (C,)
    snippet_seconds: float  # the step: from the start of one clip to the start of the next
    clip_seconds: float  # the window of a clip


def check(record):
    """Raises InputError where a video's scores are not finite, not of one T and C, or, as Q and P,
    not from 0 to 1."""
    for method, arrays in record.scores.items():
        for key, values in arrays.items():
            bad, what = values.size - np.count_nonzero(np.isfinite(values)), "are no finite numbers"
            if not bad and key in ("q", "p"):
                bad = np.count_nonzero((values < 0) | (values > 1 + 1e-6))  # rounding
                what = "do not lie from 0 to 1"
            if bad:
                found = f"{bad} of {values.size} scores that {what} ({method}, {key})"
                raise InputError(record.name, found, "scores of features like those in training")
        shapes, n_classes = {values.shape for values in arrays.values()}, len(record.labels)
        clips = {shape[:1] for shape in shapes if shape != (n_classes,)}  # {(T,)}
        fitting = {(n_classes,)} | clips | {(*t, n_classes) for t in clips}
        if len(clips) > 1 or (0,) in clips or () in shapes or not shapes <= fitting:
            found = f"scores of the shapes {sorted(shapes)} ({method})"
            raise InputError(record.name, found, f"one number of clips and {n_classes} classes")


def write(path, records, classes):
    """Writes an iterable of `Record`s, whole or not at all. Raises InputError where there
    is no room, and as `check`.

    The file is made in memory first: HDF5 itself ends in a crash where a disk is full.
    """
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file["classes"] = list(classes)  # an attribute holds 64 KiB
        for k, record in enumerate(records):
            check(record)
            group = file.create_group(f"{k:06d}")
            group.attrs["name"] = record.name
            group.attrs.update({what: getattr(record, what) for what in SECONDS})
            group["labels"] = record.labels
            for method, arrays in record.scores.items():
                for key, values in arrays.items():
                    group[f"{method}/{key}"] = values
    try:
        with write_atomically(path) as temporary:
            temporary.write_bytes(buffer.getbuffer())
    except OSError as error:
        raise InputError(path, error.strerror or error, "room to write the file") from None


def read(path):
    """(records, classes) as `write` got them. InputError where the file is missing or broken, or
    holds what no run writes."""
    try:
        with open_file(path):  # no pipe, for which HDF5 would wait
            pass
    except InputError as error:
        raise InputError(path, error.found, "the clip scores of a finished run") from None
    try:
        with h5py.File(path) as file:
            groups = _inside(file)
            classes = tuple(map(str, groups.pop("classes").asstr()[()]))
            records = [_record(group, len(classes)) for group in groups.values()]
    except InputError as error:
        raise InputError(f"{path}: {error.where}", error.found, error.expected) from None
    except (OSError, RuntimeError, KeyError, AttributeError, TypeError, ValueError) as error:
        found = f"no readable clip scores ({str(error).strip().splitlines()[0]})"
        raise InputError(path, found, "those of a finished run") from None
    if len({record.name for record in records}) < len(records) or len(set(classes)) < len(classes):
        raise InputError(path, "a video or a class twice", "each once")
    kinds = [{name: list(arrays) for name, arrays in record.scores.items()} for record in records]
    for record, kind in zip(records, kinds):
        if kind != kinds[0]:
            raise InputError(f"{path}: {record.name}", f"scores {kind}", f"{kinds[0]} as before")
    return records, classes


def _inside(group):
    """{name: member} of what lies in the group itself: a link may lead to a pipe."""
    kinds = {name: group.get(name, getlink=True) for name in group}
    if not all(isinstance(kind, h5py.HardLink) for kind in kinds.values()):
        raise ValueError("links to elsewhere")
    return {name: group[name] for name in group}


def _record(group, n_classes):
    name, arrays, scores = str(group.attrs["name"]), _inside(group), {}
    labels = arrays.pop("labels")[()]
    if labels.shape != (n_classes,) or not np.isin(labels, (0, 1)).all():
        raise InputError(name, f"labels of the shape {labels.shape}", f"{n_classes} times 0 or 1")
    for method, of_method in arrays.items():
        scores[method] = {key: values[()] for key, values in _inside(of_method).items()}
        for key, values in scores[method].items():
            if values.dtype.kind != "f":
                raise InputError(name, f"{values.dtype} as scores ({method}, {key})", "numbers")
    seconds = {what: positive_seconds(group.attrs[what], f"{name}: {what}") for what in SECONDS}
    record = Record(name=name, labels=labels, scores=scores, **seconds)
    check(record)
    return record
