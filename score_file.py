"""The scores of a run's test videos, stored so that localization can be done again without network or features.

One HDF5 file: attributes `classes` and `snippet_seconds`; a group per video, in order, with the attributes `name` and
`duration`, `labels` (C,) and a group per method: `em-mil` with `q` (T,) and `p` (T, C); `untrimmednet` with
`attention` (T,), `clips` (T, C) and `video` (C,); `wtalc` with `clips` and `video`. float32, as the networks gave them.
"""
import h5py
import numpy as np

from safe_load import InputError, write_atomically


def write(path, records, classes, snippet_seconds):
    """records: iterable of dicts {"name", "duration", "labels" (C,), method: {score: array}}; written whole or not at all."""
    with write_atomically(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["classes"], file.attrs["snippet_seconds"] = list(classes), snippet_seconds
        for k, record in enumerate(records):
            group = file.create_group(f"{k:06d}")
            group.attrs["name"], group.attrs["duration"] = record["name"], record["duration"]
            group["labels"] = record["labels"]
            for method, scores in record.items():
                if isinstance(scores, dict):
                    for score, values in scores.items():
                        group[f"{method}/{score}"] = values


def read(path):
    """(records, classes, snippet_seconds) as `write` got them. Raises InputError where the file is missing or broken."""
    try:
        with h5py.File(path) as file:
            records = [{"name": group.attrs["name"], "duration": float(group.attrs["duration"]),
                        "labels": group["labels"][()],
                        **{method: {score: values[()] for score, values in scores.items()}
                           for method, scores in group.items() if isinstance(scores, h5py.Group)}}
                       for group in file.values()]
            return records, tuple(str(c) for c in np.atleast_1d(file.attrs["classes"])), float(file.attrs["snippet_seconds"])
    except (OSError, KeyError) as error:
        raise InputError(f"{path}: found no readable clip scores ({error}), expected those of a finished run") from None
