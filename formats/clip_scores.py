"""stub"""
import io
from dataclasses import dataclass, field

import h5py
import numpy as np

from formats.files import InputError, write_atomically


@dataclass(frozen=True)
class Record:
    name: str
    duration: float
    labels: np.ndarray
    scores: dict = field(default_factory=dict)


def check(record):
    for method, scores in record.scores.items():
        for score, values in scores.items():
            if not np.isfinite(values).all():
                bad = np.count_nonzero(~np.isfinite(values))
                raise InputError(f"{record.name}: found {bad} of {values.size} scores ({method}, {score}) that are no finite numbers, expected features as in training")


def write(path, records, classes, snippet_seconds):
    whole = io.BytesIO()
    with h5py.File(whole, "w") as file:
        file.attrs["classes"], file.attrs["snippet_seconds"] = list(classes), snippet_seconds
        for k, record in enumerate(records):
            check(record)
            group = file.create_group(f"{k:06d}")
            group.attrs["name"], group.attrs["duration"] = record.name, record.duration
            group["labels"] = record.labels
            for method, scores in record.scores.items():
                for score, values in scores.items():
                    group[f"{method}/{score}"] = values
    with write_atomically(path) as temporary:
        temporary.write_bytes(whole.getbuffer())


def read(path):
    with h5py.File(path) as file:
        records = [Record(str(g.attrs["name"]), float(g.attrs["duration"]), g["labels"][()], {m: {s: v[()] for s, v in x.items()} for m, x in g.items() if isinstance(x, h5py.Group)}) for g in file.values()]
        return records, tuple(str(c) for c in file.attrs["classes"]), float(file.attrs["snippet_seconds"])
