"""The scores of a run's test videos, stored so that localization can be done again without
network or features.

One HDF5 file: the attribute `classes`; a group per video, in order, with the attributes `name`,
`duration`, `snippet_seconds` and `clip_seconds`, the labels (C,) and a group per method with its
arrays, as the networks gave them.
"""

import dataclasses
import io

import h5py
import numpy as np

from formats.files import InputError, write_atomically
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
    """Raises InputError where a video's scores are not finite or not of one T and C."""
    for method, arrays in record.scores.items():
        for key, values in arrays.items():
            bad = values.size - np.count_nonzero(np.isfinite(values))
            if bad:
                raise InputError(
                    f"{record.name}: found {bad} of {values.size} scores ({method}, {key}) "
                    "that are no finite numbers, expected features as in training"
                )
        shapes, n_classes = {values.shape for values in arrays.values()}, len(record.labels)
        clips = {shape[:1] for shape in shapes if shape != (n_classes,)}  # {(T,)}
        fitting = {(n_classes,)} | clips | {(*t, n_classes) for t in clips}
        if len(clips) > 1 or () in shapes or not shapes <= fitting:
            raise InputError(
                f"{record.name}: found scores of the shapes {sorted(shapes)} ({method}), "
                f"expected one number of clips and {n_classes} classes"
            )


def write(path, records, classes):
    """Writes an iterable of `Record`s, whole or not at all. Raises InputError where there
    is no room, and as `check`.

    The file is made in memory first: HDF5 itself ends in a crash where a disk is full.
    """
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file.attrs["classes"] = list(classes)
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
        raise InputError(
            f"{path}: found {error.strerror or error}, expected room to write the file"
        ) from None


def read(path):
    """(records, classes) as `write` got them. InputError where the file is missing or broken."""
    try:
        with h5py.File(path) as file:
            classes = tuple(str(c) for c in np.atleast_1d(file.attrs["classes"]))
            records = [_record(group) for group in file.values()]
            for record in records:
                if record.labels.shape != (len(classes),):
                    raise ValueError(f"{record.name}: labels of the shape {record.labels.shape}")
                check(record)
            return records, classes
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except (OSError, RuntimeError, KeyError, AttributeError, TypeError, ValueError) as error:
        why = str(error).strip().split("\n")[0]
        raise InputError(
            f"{path}: found no readable clip scores ({why}), expected those of a finished run"
        ) from None


def _record(group):
    scores = {
        method: {key: values[()] for key, values in arrays.items()}
        for method, arrays in group.items()
        if isinstance(arrays, h5py.Group)
    }
    name = str(group.attrs["name"])
    seconds = {what: positive_seconds(group.attrs[what], f"{name}: {what}") for what in SECONDS}
    return Record(name=name, labels=group["labels"][()], scores=scores, **seconds)
