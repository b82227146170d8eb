"""Features and annotations in, Videos out, checked once.

    data = dataset.load("features.h5", "annotations.json", train_subset="train", test_subset="test")

The layouts of feature files are in formats/features.py, the dialects of annotations in formats/annotations.py. Whatever
is wrong ends in an `InputError` of one line.
"""
import contextlib
import dataclasses
from collections import Counter

import numpy as np

from formats import annotations as annotation_files
from formats.features import StoredArray, count, open_features, some
from formats.files import InputError

# Seconds per clip of the feature files in circulation, to recognise a value that the durations imply.
CONVENTIONS = {
    1.25: "EM-MIL paper on THUMOS14: 15 frames at 12 fps",
    0.64: "W-TALC: 16 frames at 25 fps",
    0.6: "EM-MIL paper on ActivityNet1.2: 15 frames at 25 fps",
    0.4: "UntrimmedNet features",
    4 / 30: "ActionFormer on THUMOS14: 4 frames at 30 fps",
}
GEOMETRY_TOLERANCE = 0.05   # of the median ratio between clips * snippet_seconds and the annotated duration


@dataclasses.dataclass(frozen=True, eq=False)
class Video:
    """One video: a bag of T clips in two streams, with its labels.

    `rgb` (T, D) and `flow` (T, D') are float32 arrays, or `StoredArray`s when the set stays on disk. `labels` (C,) is
    float32 multi-hot. A training video has no `segments`: what trains on it cannot see more than the video's labels.
    """
    name: str
    rgb: "np.ndarray | StoredArray"     # (T, D)
    flow: "np.ndarray | StoredArray"    # (T, D')
    labels: np.ndarray                  # (C,)
    duration: float                     # seconds; T * snippet_seconds where the annotations have none
    segments: np.ndarray                # (n, 2) seconds
    segment_labels: np.ndarray          # (n,) index of the class
    snippet_seconds: float


@dataclasses.dataclass(frozen=True, eq=False)
class Data:
    """What `load` returns. `notes` are warnings of one line each, for the user to see."""
    train: list
    test: list
    classes: tuple
    snippet_seconds: float
    notes: tuple
    layout: str
    in_memory: bool
    feature_bytes: int                  # of all streams of all videos as float32
    dims: tuple                         # (D, D'); None for a stream that the set lacks


# ------------------------------------------------------------------------------------------------ loading

def load(features, annotations, *, train_subset, test_subset, classes=None, snippet_seconds=None, layout="auto",
         flow_features=None, video_labels="segments", allow_missing=False, in_memory=True, memory_limit=None,
         shard=(0, 1)):
    """Read features and annotations, check them against each other, and return `Data`.

    `annotations`: a path, or what annotations.load made of one (`video_labels` is then not looked at).
    `train_subset`/`test_subset`: names of the annotations' subsets, None for none. `classes`: class list in order;
    default: all of the annotations, sorted. `video_labels`: see annotations.load. `allow_missing`: videos without
    features become a note instead of an error. `in_memory=False` leaves the features on disk (`StoredArray`), and so
    does more than `memory_limit` bytes of them as float32; NaN and infinity are then found when a video is read.
    `shard` (rank, ranks): of both subsets' lists only the videos rank, rank + ranks, ... are to be read here; the others
    are listed all the same, and stay on disk. The limit is for what is read here.
    InputError on everything that cannot be right; what was mended or looks odd is in `Data.notes`.
    """
    truth = annotations
    if not isinstance(truth, annotation_files.Annotations):
        truth = annotation_files.load(annotations, video_labels=video_labels)
    notes = list(truth.notes)
    wanted = [annotation_files.in_subset(truth, subset) if subset is not None else []
              for subset in (train_subset, test_subset)]
    _check_apart(truth, wanted, train_subset, test_subset)
    classes = tuple(truth.classes if classes is None else classes)
    _check_labels(truth, wanted, classes)
    unlabelled = [video.name for video in wanted[0] if not video.labels]
    if unlabelled:
        notes.append(f"{truth.path}: {count(unlabelled, 'training video')} without any label left out: "
                     f"{some(unlabelled)}")
        wanted[0] = [video for video in wanted[0] if video.labels]

    source = open_features(features, layout=layout, flow_path=flow_features, annotations=truth.path,
                           snippet_seconds=snippet_seconds)
    with contextlib.ExitStack() as stack:
        stack.callback(source.close)
        notes += source.notes
        if renamed := source.adopt(list(truth.videos.values())):
            notes.append(f"{source.path}: {renamed} of the videos of {truth.path} found by their YouTube id or "
                         "its prefix v_")
        wanted = _drop_missing(source, truth, wanted, allow_missing, notes)
        videos = [video for subset in wanted for video in subset]
        if not videos:
            raise InputError(f"{truth.path}: found no videos in the chosen subsets, expected at least one")
        shapes = check_shapes(source, [video.name for video in videos], notes)
        check_geometry(source, truth, videos, shapes, notes)
        trained = {label for video in wanted[0] for label in video.labels}
        untrained = [label for label in classes if label not in trained]
        if trained and untrained:
            notes.append(f"{truth.path}: {count(untrained, 'class', 'classes')} without a training video: "
                         f"{some(untrained)}")

        size = sum(t * (d_rgb + d_flow) * 4 for t, d_rgb, d_flow in shapes.values())
        rank, ranks = shard
        if in_memory and memory_limit is not None and size / ranks > memory_limit:
            in_memory = False
            notes.append(f"{source.path}: {size / ranks / 1e9:.2f} GB of features stay on disk "
                         f"(limit {memory_limit / 1e9:.2f} GB)")
        train, test = ([_video(source, video, classes, shapes[video.name], in_memory and i % ranks == rank,
                               with_segments) for i, video in enumerate(subset)]
                       for subset, with_segments in zip(wanted, (False, True)))
        if not in_memory or ranks > 1:
            stack.pop_all()     # the StoredArrays keep the source open
    return Data(train, test, classes, source.snippet_seconds, tuple(notes), source.layout, in_memory, size,
                next((shape[1:] for shape in shapes.values()), (None, None)))


def _video(source, video, classes, shape, in_memory, with_segments):
    """`Video` of one annotated video; the streams are read here unless they stay on disk."""
    length, *widths = shape
    if in_memory:
        rgb, flow = source.read(video.name)
    else:
        rgb, flow = (StoredArray(source, video.name, i, (length, width)) for i, width in enumerate(widths))
    labels = np.zeros(len(classes), np.float32)
    labels[[classes.index(label) for label in video.labels]] = 1
    segments, segment_labels = (video.segments, video.segment_labels) if with_segments else ((), ())
    duration = length * source.snippet_seconds if video.duration is None else float(video.duration)
    return Video(video.name, rgb, flow, labels, duration, np.asarray(segments, np.float64).reshape(-1, 2),
                 np.array([classes.index(label) for label in segment_labels], np.int64), source.snippet_seconds)


def _check_apart(truth, wanted, train_subset, test_subset):
    both = {video.name for video in wanted[0]} & {video.name for video in wanted[1]}
    if both:
        raise InputError(f"{truth.path}: found {count(both, 'video')} both in the training subset {train_subset!r} "
                         f"and the test subset {test_subset!r}, expected two apart")


def _check_labels(truth, wanted, classes):
    if len(set(classes)) < len(classes):
        twice = next(c for c, n in Counter(classes).items() if n > 1)
        raise InputError(f"classes: found {twice!r} twice, expected distinct names")
    known = set(classes)
    for video in (video for subset in wanted for video in subset):
        for label in (*video.labels, *video.segment_labels):
            if label not in known:
                raise InputError(f"{truth.path}: {video.name}: found label {label!r}, "
                                 f"expected one of the {len(classes)} classes ({some(classes)})")


def _drop_missing(source, truth, wanted, allow_missing, notes):
    """The annotated videos that have features; the rest is an error unless allowed. Surplus features become a note."""
    missing = [video.name for subset in wanted for video in subset if video.name not in source]
    if missing:
        line = (f"{source.path}: found no features for {len(missing)} of {sum(map(len, wanted))} videos of "
                f"{truth.path}: {some(missing)}")
        if not allow_missing:
            raise InputError(f"{line}, expected all (--allow-missing goes on without them)")
        notes.append(f"{line}; left out")
    surplus = [name for name in source.names if name not in truth.videos]
    if surplus:
        notes.append(f"{source.path}: {count(surplus, 'video')} without annotation not used: {some(surplus)}")
    return [[video for video in subset if video.name in source] for subset in wanted]


def check_shapes(source, names, notes):
    """{name: (T, D, D')}. InputError on mixed dimensions; cut streams and converted types go to `notes`."""
    shapes, cut, converted = {}, [], {}
    for name in names:
        (t_rgb, _), (t_flow, _) = source.stream_shapes(name)
        shapes[name] = source.shape(name)
        if t_rgb != t_flow:
            cut.append(name)
        for dtype in {dtype.name for dtype in source.dtypes(name)} - {"float16", "float32"}:
            converted.setdefault(dtype, []).append(name)
    (expected, n_usual), = Counter((d_rgb, d_flow) for _, d_rgb, d_flow in shapes.values()).most_common(1)
    for i, (name, (_, *widths)) in enumerate(shapes.items(), 1):
        if tuple(widths) != expected:
            raise InputError(f"{source.path}: {name} (the {_ordinal(i)} video): found {widths[0]} rgb and {widths[1]} "
                             f"flow dimensions, expected {expected[0]} and {expected[1]} as in {n_usual} others")
    if cut:
        notes.append(f"{source.path}: {count(cut, 'video')} with streams of unequal length cut to the shorter: "
                     f"{some(cut)}")
    for dtype, names in sorted(converted.items()):
        notes.append(f"{source.path}: {count(names, 'video')} of type {dtype} converted to float32: {some(names)}")
    return shapes


def implied_snippet_seconds(videos, lengths):
    """Seconds per clip that make `lengths` {name: T} cover the annotated durations, in the median; None without any."""
    implied = [video.duration / lengths[video.name] for video in videos if video.duration]
    return float(np.median(implied)) if implied else None


def fitting_convention(implied):
    """The known seconds per clip nearest to `implied`, if within 5% of it, else None."""
    nearest = min(CONVENTIONS, key=lambda known: abs(np.log(known / implied)))
    return nearest if abs(nearest / implied - 1) <= GEOMETRY_TOLERANCE else None


def check_geometry(source, truth, videos, shapes, notes):
    """T * snippet_seconds against the annotated durations: the commonest cause of wrong numbers. A median off by more
    than 5% goes to `notes`; InputError where nobody says what snippet_seconds is."""
    implied = implied_snippet_seconds(videos, {name: shape[0] for name, shape in shapes.items()})
    fits = ""
    if implied is not None:
        known = fitting_convention(implied)
        fits = f"the durations of {truth.path} imply {implied:.4g} s" + (
            f"; the known convention {known:.4g} s ({CONVENTIONS[known]}) fits" if known else "")
    if source.snippet_seconds is None:
        value = "SECONDS" if implied is None else f"{fitting_convention(implied) or implied:.4g}"
        raise InputError(f"{source.path}: found no snippet_seconds (seconds per clip), expected it as the attribute "
                         f"snippet_seconds of the file or given as snippet_seconds in opts.py "
                         f"(--snippet-seconds {value}){'; ' + fits if fits else ''}")
    if implied is None:
        return
    if abs(source.snippet_seconds / implied - 1) > GEOMETRY_TOLERANCE:
        notes.append(f"{source.path}: GEOMETRY: clips of {source.snippet_seconds:.4g} s cover "
                     f"{100 * source.snippet_seconds / implied:.0f}% of the annotated durations (median), so times "
                     f"will be wrong; {fits}: check snippet_seconds")
    each = np.array([video.duration / shapes[video.name][0] for video in videos if video.duration])
    off = np.abs(each / implied - 1) > 0.2
    if off.mean() > 0.1:
        notes.append(f"{source.path}: GEOMETRY: {off.sum()} of {len(each)} videos imply seconds per clip that differ "
                     f"by more than 20% from the median ({each.min():.4g} to {each.max():.4g} s), so their times "
                     "will be wrong (features resampled to a fixed length, or of several frame rates?)")


def _ordinal(n):
    return f"{n}{'th' if 10 <= n % 100 <= 20 else {1: 'st', 2: 'nd', 3: 'rd'}.get(n % 10, 'th')}"
