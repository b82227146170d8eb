"""The embedded demo set: small two-stream features with known actions, drawn from a seed.

`write_demo(folder)` writes features.h5 and annotations.json in the canonical format, 60 training
and 40 test videos of 6 classes, unless they are there already. Nothing is recorded footage, and a
number measured on it says nothing about THUMOS14 or ActivityNet. What it is for: to run the whole
system in a minute, on data that has the traits which make weakly supervised localization hard.

What a video shows, and why
  scene       Each class has its scene (a court, a kitchen) that fills its videos, action
              and background alike, and a quarter of all videos have the scene of a class that does
              not occur in them. A classifier that learns the scene is good on the whole video
              and says nothing about when: the confusion of context and action.
  core        A third or so of each action, the strongest and most discriminative evidence (the ball
              leaves the hand). A classifier can be right by the core alone; localizing the whole
              action takes more.
  remainder   The rest of the action (run-up, follow-through), weaker, and half of it shared with a
              partner class.
  near miss   Bursts of 1 to 2 s of the remainder's movement where no action is annotated, in
              videos of the class, and in a third of the videos those of an absent class.
  shake       Strong movement that belongs to no class (camera, cuts), in flow only.
  style       A direction per video (actor, light) and one per action instance, so that instances
              differ.
The two streams see different things: rgb the scene and what the core looks like, flow the movement
of core and remainder and the shake, but hardly the scene.

The constants below are amplitudes over noise of standard deviation 1 per dimension, along random
directions of length 1: an amplitude is the distance between two means, in standard deviations, that
the best linear detector of one clip in one stream sees, before the ReLU and the styles take their
part. The remainder (4 in flow) is two thirds of the core (6), and rgb hardly sees it (2); a near
miss equals a remainder; scene (rgb) and shake (flow) are as strong as a core. Noise is correlated
over time, 0.7 from clip to clip, since pictures 0.64 s apart have most in common. The size of it
all was set by a supervised reference, not by a weakly supervised method: a linear detector of three
clips, trained on the true segments and told the classes of the test videos, has an average
precision of 0.81 over clips (0.07 by chance), and its runs a mAP@0.5 of 40%, as fully supervised
methods had on THUMOS14 in those years (BSN 36.9%, P-GCN 49.1%). So evidence overlaps with
background, and nothing gets everything right.
"""

import hashlib
import json
import pathlib

import h5py
import numpy as np

from formats.features import write_canonical
from formats.files import write_atomically

# Neighbours (0, 1), (2, 3), (4, 5) are partners.
CLASSES = ("chop", "jump", "kick", "pour", "throw", "wave")
VIDEOS = {"training": 60, "testing": 40}
DIMS = {"rgb": 96, "flow": 64}
SNIPPET_SECONDS = 0.64  # 16 frames at 25 per second, usual for I3D
DURATION = 20.0, 110.0  # seconds, log-uniform
ACTION_SECONDS = 2.0, 25.0  # log-normal around 6 s, cut to this range
ACTION_SHARE = 0.6  # of a video at most; THUMOS14 has about a third
CORE_SHARE = 0.25, 0.5  # of an action
TWO_CLASSES = 0.15  # share of videos; THUMOS14's training part: 1 in 7
FOREIGN_SCENE, FOREIGN_BURSTS = 0.25, 1 / 3  # share of videos
NEAR_MISS_EVERY, SHAKE_EVERY = 30.0, 20.0  # seconds between two, on average
NOISE_MEMORY = 0.7  # correlation of a clip's noise with the clip before
AMPLITUDE = {
    "rgb": dict(core=6.0, remainder=2.0, scene=6.0, shake=0.0, video_style=1.5, action_style=1.0),
    "flow": dict(core=6.0, remainder=4.0, scene=0.5, shake=6.0, video_style=0.5, action_style=1.0),
}


def _directions(rng, n, dim):
    x = rng.standard_normal((n, dim))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def noise(rng, n_clips, dim):
    """Noise of unit variance that remembers the clip before. (T, D)"""
    x = rng.standard_normal((n_clips, dim))
    for t in range(1, n_clips):
        x[t] = NOISE_MEMORY * x[t - 1] + np.sqrt(1 - NOISE_MEMORY**2) * x[t]
    return x


def _vocabulary(rng, dim):
    """The directions of one stream: per class core, remainder and scene, and three kinds of
    shake."""
    n = len(CLASSES)
    own, shared = _directions(rng, n, dim), np.repeat(_directions(rng, n // 2, dim), 2, axis=0)
    remainder = (own + shared) / np.linalg.norm(own + shared, axis=1, keepdims=True)
    return {
        "core": _directions(rng, n, dim),
        "remainder": remainder,
        "scene": _directions(rng, n, dim),
        "shake": _directions(rng, 3, dim),
    }


def _plan(rng, c):
    """Duration and actions [(start, end, class)] of one video whose first class is c, in seconds,
    without overlap."""
    duration = round(float(np.exp(rng.uniform(*np.log(DURATION)))), 2)
    lengths = np.clip(
        6.0 * np.exp(0.6 * rng.standard_normal(1 + rng.poisson(duration / 20))), *ACTION_SECONDS
    )
    n = max(1, int((lengths.cumsum() <= ACTION_SHARE * duration).sum()))
    lengths = np.minimum(lengths[:n], ACTION_SHARE * duration)
    labels = np.full(n, c)
    if n > 1 and rng.random() < TWO_CLASSES:
        other = rng.choice([k for k in range(len(CLASSES)) if k != c])
        labels = rng.permutation(np.where(np.arange(n) < 1 + rng.integers(n - 1), other, c))
    gaps = rng.dirichlet(np.ones(n + 1)) * (duration - lengths.sum())
    start = (gaps[:-1] + np.concatenate(([0.0], lengths[:-1]))).cumsum()
    return duration, [
        (round(s, 2), round(s + l, 2), int(k)) for s, l, k in zip(start, lengths, labels)
    ]


def _overlap(n_clips, start, end):
    """Share of each clip that [start, end) seconds covers. (T,)"""
    t = np.arange(n_clips) * SNIPPET_SECONDS
    return (
        np.clip(np.minimum(t + SNIPPET_SECONDS, end) - np.maximum(t, start), 0, None)
        / SNIPPET_SECONDS
    )


def _bursts(rng, n_clips, every, seconds):
    """Share of each clip that random bursts cover: one per `every` seconds on average. (T,)"""
    length = n_clips * SNIPPET_SECONDS
    starts = rng.uniform(0, length, rng.poisson(length / every))
    return sum(
        (_overlap(n_clips, s, s + rng.uniform(*seconds)) for s in starts), np.zeros(n_clips)
    ).clip(0, 1)


def _features(rng, duration, actions, vocabularies):
    """One video's streams: {"rgb": (T, 96), "flow": (T, 64)} float16, non-negative like features
    after a ReLU."""
    n_clips = max(1, int(duration / SNIPPET_SECONDS))
    present = sorted({c for _, _, c in actions})
    absent = [c for c in range(len(CLASSES)) if c not in present]
    background = 1 - sum(_overlap(n_clips, s, e) for s, e, _ in actions).clip(0, 1)  # (T,)

    tracks = []  # (kind, index in the vocabulary, strength (T,))
    parts = []  # strength (T,) of each action, for its own style
    for start, end, c in actions:
        strength = rng.uniform(0.7, 1.3)
        core_length = rng.uniform(*CORE_SHARE) * (end - start)
        core_start = rng.uniform(start, end - core_length)
        whole, core = (
            _overlap(n_clips, start, end),
            _overlap(n_clips, core_start, core_start + core_length),
        )
        tracks += [("core", c, strength * core), ("remainder", c, strength * (whole - core))]
        parts.append(whole)
    foreign = [int(rng.choice(absent))] if rng.random() < FOREIGN_BURSTS else []
    tracks += [
        ("remainder", c, background * _bursts(rng, n_clips, NEAR_MISS_EVERY, (1, 2)))
        for c in present + foreign
    ]
    scenes = present + ([int(rng.choice(absent))] if rng.random() < FOREIGN_SCENE else [])
    for c in scenes:  # a scene fades slowly in and out of view
        fade = np.sin(
            2 * np.pi * (np.arange(n_clips) * SNIPPET_SECONDS / rng.uniform(20, 60) + rng.random())
        )
        tracks.append(("scene", c, rng.uniform(0.3, 1.0) * (0.75 + 0.25 * fade)))
    tracks.append(("shake", rng.integers(3), _bursts(rng, n_clips, SHAKE_EVERY, (1, 4))))

    streams = {}
    for stream, dim in DIMS.items():
        amplitude, words = AMPLITUDE[stream], vocabularies[stream]
        x = noise(rng, n_clips, dim) + amplitude["video_style"] * _directions(rng, 1, dim)  # (T, D)
        for kind, index, strength in tracks:
            x += amplitude[kind] * np.outer(strength, words[kind][index])
        x += amplitude["action_style"] * np.stack(parts, 1) @ _directions(rng, len(parts), dim)
        streams[stream] = np.maximum(x, 0).astype(np.float16)
    return streams


def generate(seed=0):
    """Yields (name, subset, duration s, [(start s, end s, class name)], {"rgb": (T, 96), "flow":
    (T, 64)} float16)."""
    rng = np.random.default_rng(seed)
    vocabularies = {stream: _vocabulary(rng, dim) for stream, dim in DIMS.items()}
    for subset, n in VIDEOS.items():
        for i in range(n):
            duration, actions = _plan(rng, i % len(CLASSES))
            streams = _features(rng, duration, actions, vocabularies)
            yield (
                f"demo_{subset}_{i:03d}",
                subset,
                duration,
                [(s, e, CLASSES[c]) for s, e, c in actions],
                streams,
            )


def _marker(seed):
    source = hashlib.sha256(pathlib.Path(__file__).read_bytes()).hexdigest()[:12]
    return f"embedded demo, seed {seed}, generator {source}"


def _present(features, annotations, marker):
    try:
        with h5py.File(features) as file:
            return (
                file.attrs.get("recipe") == marker == json.loads(annotations.read_text())["version"]
            )
    except (OSError, ValueError, TypeError, KeyError):  # absent, cut off or not ours: to be written
        return False


def write_demo(folder, seed=0):
    """Write FOLDER/features.h5 and FOLDER/annotations.json, unless this generator and seed wrote
    them already.

    Both files carry a marker made from the seed and this file's text: files of another seed, of an
    older generator or from an interrupted write are replaced, each at once. Returns one line that
    says what was done.
    """
    folder = pathlib.Path(folder)
    features, annotations = folder / "features.h5", folder / "annotations.json"
    marker = _marker(seed)
    if _present(features, annotations, marker):
        return f"{folder}: {marker}, as written before"
    folder.mkdir(parents=True, exist_ok=True)
    database = {}

    def items():
        for name, subset, duration, actions, streams in generate(seed):
            yield name, streams["rgb"], streams["flow"]
            segments = [{"label": c, "segment": [s, e]} for s, e, c in actions]
            database[name] = {"subset": subset, "duration": duration, "annotations": segments}

    with write_atomically(annotations) as temporary:  # a failure leaves both files as they were
        write_canonical(features, items(), SNIPPET_SECONDS, recipe=marker)
        temporary.write_text(json.dumps({"version": marker, "database": database}, indent=1))
    counts = " and ".join(f"{n} {subset}" for subset, n in VIDEOS.items())
    return f"{folder}: wrote {counts} videos ({marker})"
