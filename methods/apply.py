"""Methods applied to videos: scores of clips, video-level scores that gate, detections."""

import numpy as np
import torch

import eval_detection
from formats.clip_scores import Record
from formats.files import InputError
from methods import METHODS


def record_of(video, methods, device):
    """What the methods {name: method} say about the clips of one video (a dataset.Video)."""
    rgb, flow = (
        x if x is None else torch.from_numpy(np.asarray(x)).to(device)
        for x in (video.rgb, video.flow)
    )
    scores = {
        name: {key: values.cpu().numpy() for key, values in method.scores(rgb, flow).items()}
        for name, method in methods.items()
    }
    return Record(
        video.name, video.duration, video.labels, scores, video.snippet_seconds, video.clip_seconds
    )


def class_scores(name, records, classifier, outside=None):
    """Yields (record, video-level scores (C,)) that gate the method `name`; None for a video
    without a true class.

    classifier: the method whose scores gate EM-MIL; classifiers use their own. "oracle": the true
    labels gate all. outside: (N, C) video-level scores from a file, which gate all. InputError
    where a method has no scores.
    """
    oracle = outside is None and classifier == "oracle"
    gating = name if METHODS[name].classifies else classifier
    needed = [name] if outside is not None or oracle else [name, gating]
    for k, record in enumerate(records):
        for other in needed:
            if other not in record.scores:
                where = f"{METHODS[other].title}: {record.name}"
                raise InputError(where, "no scores in this run", "a run that has trained it")
        if outside is not None:
            yield record, outside[k]
        elif oracle:
            labels = np.where(record.labels > 0, 1.0, -1.0)  # -1 fails a gate of 0, too
            yield record, labels if record.labels.any() else None
        else:
            yield record, record.scores[gating]["video"]


def localized(name, gated, classes, rule):
    """(rows, counts) of each video for localize.table. gated: what `class_scores` yields; rule:
    localize.Rule.
    """
    for record, of_video in gated:
        if of_video is None:  # nothing to localize, but the gate passes at least one class
            yield [], {"videos": 1}
        else:
            yield METHODS[name].localize(record, classes, of_video, rule)


def classification(records):
    """{title: {map, top1}} of the video-level classifiers that have scored these videos."""
    results = {}
    for name, method in METHODS.items():
        if method.classifies and records and name in records[0].scores:
            of_videos = np.stack([record.scores[name]["video"] for record in records])
            labels = np.stack([record.labels for record in records])
            values = eval_detection.classification_metrics(of_videos, labels)
            results[method.title] = dict(zip(("map", "top1"), values))
    return results
