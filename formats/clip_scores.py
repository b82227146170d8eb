"""The scores of a run's test videos, stored so that localization can be done again without network or features.

One HDF5 file: attributes `classes` and `snippet_seconds`; a group per video, in order, with the attributes `name` and
`duration`, `labels` (C,) and a group per method: `em-mil` with `q` (T,) and `p` (T, C); `untrimmednet` with
`attention` (T,), `clips` (T, C) and `video` (C,); `wtalc` with `clips` and `video`. float32, as the networks gave them.
"""
import os

import h5py
import numpy as np

from formats.files import InputError, write_atomically

# Per method its scores, and whether they have an axis of clips and one of classes.
SCORES = {"em-mil": (("q", True, False), ("p", True, True)),
          "untrimmednet": (("attention", True, False), ("clips", True, True), ("video", False, True)),
          "wtalc": (("clips", True, True), ("video", False, True))}

ROOM = 2**16                           # bytes of HDF5's own that a video's groups need at most, several times over


def check(record):
    """Raises InputError where a video's scores are not finite, which features of absurd size lead to."""
    for method, scores in record.items():
        for score, values in scores.items() if isinstance(scores, dict) else ():
            if not np.isfinite(values).all():
                bad = np.count_nonzero(~np.isfinite(values))
                raise InputError(f"{record['name']}: found {bad} of {values.size} scores ({method}, {score}) that are "
                                 "no finite numbers, expected features as in training")


def write(path, records, classes, snippet_seconds):
    """records: iterable of dicts {"name", "duration", "labels" (C,), method: {score: array}}.

    The file is written whole or not at all. Raises InputError where there is no room, and for scores not finite.
    """
    try:
        with write_atomically(path) as temporary, open(temporary, "rb+") as room:
            _reserve(room, 2 * ROOM)
            with h5py.File(temporary, "w") as file:
                file.attrs["classes"], file.attrs["snippet_seconds"] = list(classes), snippet_seconds
                for k, record in enumerate(records):
                    check(record)
                    methods = {method: scores for method, scores in record.items() if isinstance(scores, dict)}
                    size = sum(values.nbytes for scores in methods.values() for values in scores.values())
                    _reserve(room, file.id.get_filesize() + size + 2 * ROOM)
                    group = file.create_group(f"{k:06d}")
                    group.attrs["name"], group.attrs["duration"] = record["name"], record["duration"]
                    group["labels"] = record["labels"]
                    for method, scores in methods.items():
                        for score, values in scores.items():
                            group[f"{method}/{score}"] = values
                file.flush()
                size = file.id.get_filesize()
            room.truncate(size)                         # of the last room nothing was needed
    except OSError as error:
        raise InputError(f"{path}: found {error.strerror or error}, expected room to write the file") from None


def _reserve(file, size):
    """Room on the disk before HDF5 writes there: without, HDF5 ends in a crash and not in an error."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)


def read(path):
    """(records, classes, snippet_seconds) as `write` got them. InputError where the file is missing or broken."""
    try:
        with h5py.File(path) as file:
            records = [{"name": str(group.attrs["name"]), "duration": float(group.attrs["duration"]),
                        "labels": group["labels"][()],
                        **{method: {score: values[()] for score, values in scores.items()}
                           for method, scores in group.items() if isinstance(scores, h5py.Group)}}
                       for group in file.values()]
            classes = tuple(str(c) for c in np.atleast_1d(file.attrs["classes"]))
            for record in records:
                for method, scores in SCORES.items():
                    for score, per_clip, per_class in scores if method in record else ():
                        shape = record[method][score].shape
                        if len(shape) != per_clip + per_class or (per_class and shape[-1] != len(classes)):
                            raise ValueError(f"{record['name']}: {method}/{score} has the shape {shape}")
                check(record)
            return records, classes, float(file.attrs["snippet_seconds"])
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except (OSError, RuntimeError, KeyError, AttributeError, TypeError, ValueError) as error:
        why = str(error).strip().split("\n")[0]
        raise InputError(f"{path}: found no readable clip scores ({why}), expected those of a finished run") from None
