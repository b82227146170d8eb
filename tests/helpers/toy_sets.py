"""Small sets of videos in memory, for the tests of what is trained."""

from types import SimpleNamespace

import numpy as np
import torch

# a short training by each method
PHASES = (("M", 2, 1e-2, "bag"), ("E", 2, 1e-2, "frozen"), ("M", 1, 1e-2, "frozen"))
SETTINGS = {
    "em-mil": dict(
        phases=PHASES,
        gamma=0.1,
        keep_peak=False,
        rgb_weight=0.5,
        objective="pseudo-labels",
        joint="off",
        videos_per_step=1,
    ),
    "untrimmednet": dict(lr=1e-2, untrimmednet_epochs=3),
    "wtalc": dict(lr=1e-2, wtalc_iterations=20, wtalc_max_clips=750),
}


def video(name, rgb, flow, labels):
    return SimpleNamespace(name=name, rgb=rgb, flow=flow, labels=np.asarray(labels, np.float32))


def softmax(x, axis):
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def streams(clips, rgb_dim=5, flow_dim=3, seed=0):
    """Features (T, D) and (T, D') of one video."""
    rng = np.random.default_rng(seed)
    return [
        torch.from_numpy(rng.normal(size=(clips, d)).astype(np.float32))
        for d in (rgb_dim, flow_dim)
    ]


def tiny(n=12, classes=2):
    """Videos of 1 to 13 clips and 6 features a stream, whose class shifts the features of a third
    of the clips.
    """
    rng, videos = np.random.default_rng(5), []
    for i in range(n):
        y = np.eye(classes, dtype=np.float32)[i % classes]
        clips = int(rng.integers(1, 14))
        rgb, flow = rng.normal(size=(2, clips, 6)).astype(np.float32)
        rgb[: -(-clips // 3), y.argmax()] += 4
        videos.append(video(f"v{i}", rgb, flow, y))
    return videos
