"""Features and annotations in, Videos out, checked once.

    data = dataset.load("features.h5", "annotations.json", train_subset="train", test_subset="test")

The layouts of feature files are in formats/layouts.py, the dialects of annotations in
formats/annotations.py; docs/data.md lists both. Bad input ends in an `InputError` of one line.
"""

import contextlib
import dataclasses
import shlex
from collections import Counter

import numpy as np

import localize
from formats import annotations as annotation_files
from formats.features import DURATION, FeatureSource, StoredArray, in_common, open_features
from formats.files import InputError, count, some
from formats.layouts import seconds_text
from formats.program import log

# (snippet_seconds, clip_seconds) of the feature files in circulation, to recognise what the
# durations imply.
CONVENTIONS = {
    (1.25, 1.25): "EM-MIL paper on THUMOS14: 15 frames at 12 fps",
    (0.64, 0.64): "W-TALC: 16 frames at 25 fps",
    (0.6, 0.6): "EM-MIL paper on ActivityNet1.2: 15 frames at 25 fps",
    (16 / 30, 32 / 30): "SlowFast on EPIC-Kitchens: 32 frames every 16 at 30 fps",
    (0.4, 0.4): "UntrimmedNet features",
    (4 / 30, 16 / 30): "ActionFormer on THUMOS14: 16 frames every 4 at 30 fps",
}
# of the median ratio between what the clips cover and the annotated duration
GEOMETRY_TOLERANCE = 0.05
FRAME_SECONDS = 0.04  # clips closer than this are closer than the frames of most videos


@dataclasses.dataclass(frozen=True, eq=False)
class Video:
    """One video: a bag of T clips in two streams, or in one, with its labels.

    `rgb` (T, D) and `flow` (T, D') are float32 arrays, or `StoredArray`s when the set stays on
    disk; in a set of one stream the other is None. `labels` (C,) is float32 multi-hot. A training
    video has no `segments`: what trains on it cannot see more than the video's labels.
    """

    name: str
    rgb: "np.ndarray | StoredArray | None"  # (T, D)
    flow: "np.ndarray | StoredArray | None"  # (T, D')
    labels: np.ndarray  # (C,)
    duration: float  # seconds; what the clips cover where the annotations have none
    segments: np.ndarray  # (n, 2) seconds; a test video may have none
    segment_labels: np.ndarray  # (n,) index of the class
    snippet_seconds: float  # the step: from the start of one clip to the start of the next
    clip_seconds: float  # the window of a clip, see localize.times

    @property
    def n_clips(self):
        return (self.rgb if self.rgb is not None else self.flow).shape[0]


@dataclasses.dataclass(frozen=True, eq=False)
class Data:
    """What `load` returns."""

    train: list
    test: list
    classes: tuple
    snippet_seconds: float | None  # None where they differ from video to video
    clip_seconds: float | None
    layout: str
    in_memory: bool
    feature_bytes: int  # of all streams of all videos as float32
    dims: tuple  # (D_rgb, D_flow); None for a stream that the set lacks

    @property
    def labels_per_video(self):
        """Labels of a training video, on average."""
        return float(np.mean([video.labels.sum() for video in self.train]))


# ---- loading
def load(
    features,
    annotations,
    *,
    train_subset,
    test_subset,
    allow_missing=False,
    memory_limit=None,
    shard=(0, 1),
):
    """Read features and annotations, check them against each other, and return `Data`.

    features: a path, or what formats.features.open_features made of it and the annotations; it is
    closed here unless features stay on disk.
    annotations: a path, or what formats.annotations.load made of one.
    train_subset, test_subset: a name of the annotations' subsets, or several; None for none.
    allow_missing: videos without usable features (no file, one stream, no clips, unreadable, of
    another width) are left out with a warning instead of an error.
    memory_limit: in bytes; features that are larger as float32 stay on disk (`StoredArray`), and
    NaN and infinity are then found when a video is read.
    shard (rank, ranks): of both subsets only the videos rank, rank + ranks, ... are read here; the
    others are listed, too, and stay on disk. The limit is for what is read here.
    InputError on everything that cannot be right; what was mended or looks odd is a warning.
    """
    with contextlib.ExitStack() as stack:
        source, truth = _opened(features, annotations, stack)
        wanted = _wanted(truth, train_subset, test_subset)
        found = survey(source, truth, [*wanted[0], *wanted[1]])
        settle(found, wanted, allow_missing)
        check_geometry(found)
        shapes = found.shapes.values()
        size = sum(4 * clips * ((rgb or 0) + (flow or 0)) for clips, rgb, flow in shapes)
        in_memory = _in_memory(source, size / shard[1], memory_limit)
        train, test = (
            _videos(found, subset, shard if in_memory else (None, 1)) for subset in wanted
        )
        settle(found, wanted, allow_missing)  # what reading has found
        _say_left_out(found, wanted)
        _say_untrained(truth, train)
        if not in_memory or shard[1] > 1:
            stack.pop_all()  # the StoredArrays keep the source open
    return Data(
        [_without_segments(video) for video in train],
        test,
        truth.classes,
        *in_common((video.snippet_seconds, video.clip_seconds) for video in (*train, *test)),
        source.layout,
        in_memory,
        size,
        next(iter(shapes))[1:],
    )


def _opened(features, annotations, stack):
    """(FeatureSource, Annotations) of paths, or of what is open already; `stack` closes the
    source, also where the annotations are bad.
    """
    if isinstance(features, FeatureSource):
        stack.callback(features.close)
    if not isinstance(annotations, annotation_files.Annotations):
        annotations = annotation_files.load(annotations)
    if not isinstance(features, FeatureSource):
        features = open_features(features, annotations)
        stack.callback(features.close)
    return features, annotations


def _without_segments(video):
    return dataclasses.replace(
        video, segments=video.segments[:0], segment_labels=video.segment_labels[:0]
    )


def _in_memory(source, size, limit):
    """Whether `size` bytes are within the limit; a warning where they are not, unless it is 0."""
    if limit is None or size <= limit:
        return True
    if limit:
        sizes = f"{size / 1e9:.2f} GB of features stay on disk (limit {limit / 1e9:.2f} GB)"
        log.warning(f"{source.path}: {sizes}")
    return False


def _wanted(truth, train_subset, test_subset):
    """[names of training videos with a label, names of test videos]."""
    wanted = [
        list(annotation_files.in_subset(truth, () if subset is None else subset).index)
        for subset in (train_subset, test_subset)
    ]
    both = set(wanted[0]) & set(wanted[1])
    if both:
        found = f"{count(both, 'video')} both in the training and in the test subset"
        expected = "two subsets apart (--test-subset none trains without a test)"
        raise InputError(truth.path, f"{found}, such as {min(both)}", expected)
    labels = truth.videos["labels"]
    unlabelled = [name for name in wanted[0] if not labels[name]]
    if unlabelled:
        log.warning(
            f"{truth.path}: {count(unlabelled, 'training video')} without any label left "
            f"out: {some(unlabelled)}"
        )
        wanted[0] = [name for name in wanted[0] if labels[name]]
    if not any(wanted):
        raise InputError(truth.path, "no videos in the chosen subsets", "at least one")
    return wanted


def _videos(found, names, shard):
    """`Video`s of a subset's usable videos; those that cannot be read go to `found.problems`. Rank
    None leaves all on disk."""
    made, (rank, ranks) = [], shard
    segments = dict(list(found.truth.segments.groupby("video")))
    for i, name in enumerate(name for name in names if name in found.shapes):
        of_video = segments.get(name, found.truth.segments[:0])
        try:
            made.append(_video(found, name, of_video, i % ranks == rank))
        except InputError as error:
            found.problems[name] = error
    return made


def _video(found, name, segments, in_memory):
    """`Video` of one annotated video; the streams are read here unless they stay on disk."""
    truth, (length, *widths) = found.truth, found.shapes[name]
    if in_memory:
        streams = found.source.read(name)
    else:
        streams = [
            None if width is None else StoredArray(found.source, name, stream, (length, width))
            for stream, width in zip(("rgb", "flow"), widths)
        ]
    labels = np.zeros(len(truth.classes), np.float32)
    labels[[truth.classes.index(label) for label in truth.videos["labels"][name]]] = 1
    step, window = found.seconds[name]
    return Video(
        name,
        *streams,
        labels,
        truth.durations.get(name, localize.length(length, step, window)),
        segments[["t_start", "t_end"]].to_numpy(dtype=float),
        np.array([truth.classes.index(label) for label in segments["label"]], np.int64),
        step,
        window,
    )


# ---- usable or not
@dataclasses.dataclass(frozen=True, eq=False)
class Survey:
    """Which videos can be used. Where reading one fails later, its error joins `problems`."""

    source: FeatureSource
    truth: "annotation_files.Annotations | None"
    shapes: dict  # {name: (T, D_rgb, D_flow)} of the usable videos
    problems: dict  # {name: InputError} of the others
    seconds: dict  # {name: (step, window)} of the usable videos, (None, None) where nobody says


def survey(source, truth, names, usual=(None, None)):
    """The `Survey` of the videos `names`: the one check of inspection, conversion, run and
    prediction.

    Reads headers only, and warns of arrays that are cut, converted or lose axes. truth: the
    annotations, or None. usual: (step, window) in seconds where the features declare none.
    InputError where the whole set is stored as (dimensions, clips).
    """
    arrays, shapes, seconds, problems = {}, {}, {}, {}
    for name in names:
        try:
            if name not in source:
                raise InputError(f"{source.path}: {name}", "no features of this video")
            arrays[name] = source.array_shapes(name)
        except InputError as error:
            problems[name] = error
    _check_axes(source, truth, arrays)
    durations = {} if truth is None else truth.durations
    for name in arrays:
        try:
            shapes[name] = source.shape(name)
            seconds[name] = source.seconds(name, durations.get(name), usual)
        except InputError as error:
            problems[name] = error
    usual_dims = Counter(shapes[name][1:] for name in seconds).most_common(1)
    for name in list(seconds):
        dims, of = shapes[name][1:], usual_dims[0]
        if dims != of[0]:
            del seconds[name]
            where, found = f"{source.path}: {name}", f"{_dims(dims)} dimensions"
            problems[name] = InputError(where, found, f"{_dims(of[0])} as in {of[1]} others")
    _say_how_read(source, seconds)
    return Survey(
        source,
        truth,
        {name: shapes[name] for name in seconds},
        {name: problems[name] for name in names if name in problems},
        seconds,
    )


def _dims(widths):
    return " and ".join(f"{n} {stream}" for n, stream in zip(widths, ("rgb", "flow")) if n)


def _say_how_read(source, names):
    """Warns of the videos whose arrays are cut, converted or brought to two axes."""
    groups = {}
    for name in names:
        for how in source.how_read(name):
            groups.setdefault(how.split(" from ")[0], []).append((name, how))
    for _, of in sorted(groups.items()):
        log.warning(f"{source.path}: {of[0][1]} in {count(of, 'video')}, such as {of[0][0]}")


def default_subsets(truth):
    """[names of training videos with a label, of test videos] that a run takes by default; [all
    annotated ones] where the subsets' names do not say which these are."""
    try:
        subsets = annotation_files.choose_subsets(truth)
    except InputError:
        return [list(truth.videos.index)]
    train, test = (annotation_files.in_subset(truth, subset) for subset in subsets)
    return [list(train.index[train["labels"].map(len) > 0]), list(test.index)]


def _check_axes(source, truth, arrays):
    """InputError where `arrays` {name: {stream: (T, D)}} look like (dimensions, clips)."""
    shapes = {name: next(iter(of.values())) for name, of in arrays.items()}
    lengths, widths = {t for t, _ in shapes.values()}, {d for _, d in shapes.values()}
    if len(shapes) < 2 or len(lengths) > 1:
        return
    length, durations = lengths.pop(), _durations(truth, shapes)
    if len(widths) > 1 and 2 * len(widths) >= len(shapes):
        found = (
            f"{length} clips in every video and another number of dimensions in each "
            f"({min(widths)} to {max(widths)})"
        )
    elif (
        len(widths) == 1
        and len(shapes) > 2
        and durations
        and np.median(list(durations.values())) < FRAME_SECONDS * length
    ):
        found = (
            f"{length} clips of {min(widths)} dimensions in every video, less than a frame "
            f"each by the durations of {truth.path}"
        )
    else:
        return
    turned = np.array([shapes[name][1] for name in durations])
    clips = "" if source.snippet_seconds else f" {_flags(np.array([*durations.values()]), turned)}"
    path = "ANNOTATIONS" if truth is None else shlex.quote(str(truth.path))
    raise InputError(
        source.path,
        found,
        "(clips, dimensions); are the arrays (dimensions, clips)? Then turn them: python "
        f"tools/convert_features.py {shlex.quote(source.path)} {path} OUT.h5 "
        f"--transpose{source.options}{clips}",
    )


def _durations(truth, names):
    """{name: seconds} of those of `names` that have an annotated duration."""
    known = {} if truth is None else truth.durations
    return {name: known[name] for name in names if name in known}


def settle(found, wanted, allow_missing):
    """InputError where the problems of a Survey stop a run. wanted: a list of names per subset."""
    source, truth = found.source, found.truth
    names = [name for subset in wanted for name in subset]
    problems = {name: found.problems[name] for name in names if name in found.problems}
    missing = [name for name in names if name not in source]
    whole = any(subset and all(name in problems for name in subset) for subset in wanted)
    if not problems or allow_missing and not whole:
        return
    advice = "" if whole else " (--allow-missing goes on without them)"
    first = next((problem for name, problem in problems.items() if name in source), None)
    if first and not (whole and missing):
        more = f"; {len(problems) - 1} more cannot be used" if len(problems) > 1 else ""
        raise InputError(first.where, first.found, f"{first.expected}{more}{advice}")
    line = f"no features for {len(missing)} of {len(names)} videos of {truth.path}: {some(missing)}"
    if not whole:
        raise InputError(source.path, line, f"all{advice}")
    others = [name for name in source.names if name not in truth.videos.index]
    expected = None
    if others:
        line += f"; there are {some(others, 3)}"
        expected = (
            "the annotated names, which may differ in folders, v_, a video's file suffix, letter "
            "case and what all names begin or end with (of several files a video, such as "
            "VIDEO_clip and VIDEO_fps, put one kind into a folder)"
        )
    elif len(missing) < len(names):
        line += "; these are all videos of one of the two subsets"
    raise InputError(source.path, line + source.beside(), expected)


def _say_left_out(found, wanted):
    """Warns of videos without annotation, of those without usable features, and of what becomes of
    their segments."""
    source, truth, problems = found.source, found.truth, found.problems
    surplus = [name for name in source.names if name not in truth.videos.index]
    if surplus:
        unused = f"{count(surplus, 'video')} not used, which have no annotation or are excluded"
        log.warning(f"{source.path}: {unused}: {some(surplus)}")
    n = sum(map(len, wanted))
    missing = [name for name in problems if name not in source]
    if missing:
        log.warning(
            f"{source.path}: found no features for {len(missing)} of {n} videos of {truth.path}: "
            f"{some(missing)}; left out"
        )
    unusable = [name for name in problems if name in source]
    if unusable:
        log.warning(
            f"{source.path}: {count(unusable, 'video')} of {n} that cannot be used left out: "
            f"{some(unusable)} (the first: {problems[unusable[0]]})"
        )
    tested = [name for name in wanted[1] if name in problems]
    segments = int(truth.segments["video"].isin(tested).sum())
    if segments:
        log.warning(
            f"{truth.path}: {count(tested, 'test video')} of these with {segments} "
            "segments, which stay in the ground truth and count as missed "
            "(--exclude-video NAME leaves a video's segments out, too)"
        )


def _say_untrained(truth, train):
    untrained = set(truth.classes)
    untrained -= {c for video in train for c in truth.videos["labels"][video.name]}
    if train and untrained:
        classes = count(untrained, "class", "classes")
        log.warning(f"{truth.path}: {classes} without a training video: {some(sorted(untrained))}")


# ---- geometry
def with_duration(found):
    """(names, durations (n,) in seconds, lengths (n,) in clips) of the usable videos that have an
    annotated duration."""
    durations = _durations(found.truth, found.shapes)
    lengths = np.array([found.shapes[name][0] for name in durations])
    return list(durations), np.array(list(durations.values())), lengths


def stretch(durations, lengths, step=1.0, window=1.0):
    """How many times as long as its clips each video is, (n,): 1 where step and window are right.

    durations: (n,) annotated seconds; lengths: (n,) numbers of clips; step, window: seconds, of all
    videos or (n,). With both at 1 s: the seconds per clip that the durations imply.
    """
    return durations / localize.length(lengths, step, window)


def fits(stretched):
    """Whether the clips cover the durations within 5%, in the median. stretched: of `stretch`."""
    return abs(1 / float(np.median(stretched)) - 1) <= GEOMETRY_TOLERANCE


def differing(stretched):
    """Which videos, (n,) of bool, are stretched by over 20% more or less than the median; none
    where these are at most 10% of all."""
    off = np.abs(stretched / np.median(stretched) - 1) > 0.2
    return off & (off.mean() > 0.1)


def fitting_convention(durations, lengths):
    """(step, window) of CONVENTIONS whose clips cover the durations best, if within 5%; else
    None."""
    stretched = {known: stretch(durations, lengths, *known) for known in CONVENTIONS}
    best = min(stretched, key=lambda known: abs(np.log(np.median(stretched[known]))))
    return best if fits(stretched[best]) else None


def fitting_seconds(durations, lengths):
    """(snippet_seconds, clip_seconds) to set so that clips cover the durations: a known
    convention's, else the implied seconds, "duration" where these differ from video to video."""
    implied = stretch(durations, lengths)
    if differing(implied).any():
        return DURATION, DURATION
    return fitting_convention(durations, lengths) or (float(np.median(implied)),) * 2


def _flags(durations, lengths):
    """The options that set `fitting_seconds`, as text."""
    if not len(durations):
        return "--snippet-seconds SECONDS"
    step, window = (x if x == DURATION else f"{x:g}" for x in fitting_seconds(durations, lengths))
    return f"--snippet-seconds {step}" + ("" if window == step else f" --clip-seconds {window}")


def _implied_text(truth, implied, known):
    """What the durations imply, in words. implied: seconds from clip to clip (n,); known: what
    `fitting_convention` returns."""
    said = f"the durations of {truth.path} imply "
    if differing(implied).any():
        return f"{said}{implied.min():.4g} to {implied.max():.4g} s"
    said += f"{np.median(implied):.4g} s"
    if known is None:
        return said
    return f"{said}; the known convention {known[0]:.4g} s ({CONVENTIONS[known]}) fits"


def check_geometry(found):
    """What the clips cover against the annotated durations: the commonest cause of wrong numbers.
    Warns where the median is off by more than 5%, where videos differ and where segments do not
    fit; returns whether all fits. InputError where nobody says what snippet_seconds is."""
    source, seconds = found.source, found.seconds
    unknown = [name for name, (step, _) in seconds.items() if step is None]
    if unknown:
        annotated, durations, lengths = with_duration(found)
        advice = ""
        if annotated:
            known = fitting_convention(durations, lengths)
            advice = f"; {_implied_text(found.truth, stretch(durations, lengths), known)}"
        raise InputError(
            source.path if len(unknown) == len(seconds) else f"{source.path}: {unknown[0]}",
            "no snippet_seconds (seconds per clip)",
            "it as the attribute snippet_seconds of the file or given as snippet_seconds "
            f"in opts.py ({_flags(durations, lengths)}){advice}",
        )
    _say_window(source)
    lines = [*_segments_off(found), *_durations_off(found)]
    for line in lines:
        log.warning(line)
    return not lines


def _durations_off(found):
    """Lines where the durations imply other seconds than those of the clips."""
    annotated, durations, lengths = with_duration(found)
    if not annotated:
        return
    of_annotated = [found.seconds[name] for name in annotated]
    steps, windows = np.array(of_annotated).T  # (n,)
    stretched = stretch(durations, lengths, steps, windows)
    off, each = differing(stretched), stretched * steps
    if not fits(stretched):
        implied = _implied_text(found.truth, each, fitting_convention(durations, lengths))
        yield (
            f"{found.source.path}: GEOMETRY: clips of {seconds_text(of_annotated)} cover "
            f"{100 / float(np.median(stretched)):.0f}% of the annotated durations "
            f"(median), so times will be wrong; {implied}: check snippet_seconds"
        )
    if off.any():
        yield (
            f"{found.source.path}: GEOMETRY: {off.sum()} of {len(each)} videos imply seconds "
            f"per clip that differ by more than 20% from the median ({each.min():.4g} to "
            f"{each.max():.4g} s), so their times will be wrong (features resampled to a "
            "fixed length, of several frame rates, or stored as (dimensions, clips)?): "
            f"--snippet-seconds {DURATION} takes duration / clips of each video"
        )


def _say_window(source):
    """Warns where the step is a known one of longer windows, and the window is not said."""
    step = source.snippet_seconds
    if source.clip_seconds or step in (None, DURATION):
        return
    for (known, window), name in CONVENTIONS.items():
        if window != known and np.isclose(known, step, rtol=0.01):
            log.warning(
                f"{source.path}: clips begin every {step:g} s, as in {name}, whose windows last "
                f"{window:.4g} s: give --clip-seconds {window:g} for such windows, or "
                f"--clip-seconds {step:g}, which is assumed, for windows as long as the step"
            )


def _segments_off(found):
    """Lines where the segments do not fit the videos: in frames instead of seconds, or, of videos
    without a duration, past the clips or in their first half only."""
    source, truth, seconds = found.source, found.truth, found.seconds
    segments = truth.segments[truth.segments["video"].isin(list(seconds))]
    ends = segments.groupby("video", sort=False)["t_end"].max()  # by video
    names, last = list(ends.index), ends.to_numpy()  # (n,)
    if not names:
        return
    known = _durations(truth, names)
    length = np.array([found.shapes[name][0] for name in names])  # (n,)
    steps, windows = np.array([seconds[name] for name in names]).T  # (n,)
    covered = localize.length(length, steps, windows)  # (n,)
    if known:
        lasting = dict(zip(names, covered)) | known
        problem = annotation_files.unit_problem(truth.path, segments, lasting)
        if problem is not None:
            yield f"{truth.path}: GEOMETRY: found {problem.found}, expected {problem.expected}"
        return

    def past(step, window):
        return int((last > localize.length(length, step, window) + step).sum())

    clips = f"{source.path}: GEOMETRY: with clips of {seconds_text(list(seconds.values()))}, "
    if past(steps, windows) > 0.05 * len(names):
        fitting = [known for known in CONVENTIONS if past(*known) <= 0.05 * len(names)]
        advice = "no known duration of a clip fits: are the segments in frames instead of seconds?"
        if fitting:
            name = CONVENTIONS[min(fitting)]
            advice = f"{min(fitting)[0]:.4g} s ({name}) is the shortest known clip that fits"
        yield (
            f"{clips}segments of {truth.path} end past the clips in {past(steps, windows)} of "
            f"{len(names)} videos, so times will be wrong: check snippet_seconds; {advice}"
        )
    elif len(names) > 2 and np.quantile(last / covered, 0.95) < 0.5:
        yield (
            f"{clips}nearly no segment of {truth.path} ends in the second half of its video, so "
            "snippet_seconds may be too large"
        )
