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
    """What `load` returns. `notes` are warnings of one line each, for the user to see."""

    train: list
    test: list
    classes: tuple
    snippet_seconds: float | None  # None where they differ from video to video
    clip_seconds: float | None
    notes: tuple
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

    features: a path, or what formats.features.open_features made of one; it is closed here unless
    features stay on disk.
    annotations: a path, or what formats.annotations.load made of one.
    train_subset, test_subset: a name of the annotations' subsets, or several; None for none.
    allow_missing: videos without usable features (no file, one stream, no clips, unreadable, of
    another width) are left out and become a note instead of an error.
    memory_limit: in bytes; features that are larger as float32 stay on disk (`StoredArray`), and
    NaN and infinity are then found when a video is read.
    shard (rank, ranks): of both subsets only the videos rank, rank + ranks, ... are read here; the
    others are listed, too, and stay on disk. The limit is for what is read here.
    InputError on everything that cannot be right; what was mended or looks odd is in `Data.notes`.
    """
    with contextlib.ExitStack() as stack:
        source, truth = _opened(features, annotations, stack)
        notes = []
        classes = truth.classes
        wanted = _wanted(truth, train_subset, test_subset, notes)
        shapes, problems = _usable(source, truth, wanted, allow_missing, notes)
        size = sum(4 * clips * ((rgb or 0) + (flow or 0)) for clips, rgb, flow in shapes.values())
        in_memory = _in_memory(source, size / shard[1], memory_limit, notes)
        train, test = (
            _videos(source, truth, subset, shapes, problems, shard if in_memory else (None, 1))
            for subset in wanted
        )
        settle(source, truth, wanted, problems, allow_missing)  # what reading has found
        _say_left_out(source, truth, wanted, problems, notes)
        _say_untrained(truth, train, classes, notes)
        if not in_memory or shard[1] > 1:
            stack.pop_all()  # the StoredArrays keep the source open
    return Data(
        [_without_segments(video) for video in train],
        test,
        classes,
        *in_common((video.snippet_seconds, video.clip_seconds) for video in (*train, *test)),
        tuple(notes),
        source.layout,
        in_memory,
        size,
        next(shape[1:] for shape in shapes.values()),
    )


def seconds_of(source, durations, problems, usual=(None, None)):
    """{name: (step, window)} of the videos in `durations` {name: seconds or None}, see
    FeatureSource.seconds; where they cannot be known, the InputError goes to `problems`."""
    seconds = {}
    for name, duration in durations.items():
        try:
            seconds[name] = source.seconds(name, duration, usual)
        except InputError as error:
            problems[name] = error
    return seconds


def _opened(features, annotations, stack):
    """(FeatureSource, Annotations) of paths, or of what is open already; `stack` closes the
    source, also where the annotations are bad.
    """
    if isinstance(features, FeatureSource):
        stack.callback(features.close)
    if not isinstance(annotations, annotation_files.Annotations):
        annotations = annotation_files.load(annotations)
    if not isinstance(features, FeatureSource):
        features = open_features(features, annotations=annotations.path)
        stack.callback(features.close)
    return features, annotations


def _usable(source, truth, wanted, allow_missing, notes):
    """Adopts the names, examines the videos of `wanted` and checks their geometry; returns what
    `examine` does. InputError where what it finds stops a run.
    """
    adopt(source, truth, notes)
    names = [name for subset in wanted for name in subset]
    shapes, problems = examine(source, truth, names, notes)
    settle(source, truth, wanted, problems, allow_missing)
    check_geometry(source, truth, list(shapes), shapes, notes)
    return shapes, problems


def _without_segments(video):
    return dataclasses.replace(
        video, segments=video.segments[:0], segment_labels=video.segment_labels[:0]
    )


def _in_memory(source, size, limit, notes):
    """Whether `size` bytes are within the limit; a note where they are not."""
    if limit is None or size <= limit:
        return True
    notes.append(
        f"{source.path}: {size / 1e9:.2f} GB of features stay on disk (limit {limit / 1e9:.2f} GB)"
    )
    return False


def _wanted(truth, train_subset, test_subset, notes):
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
        notes.append(
            f"{truth.path}: {count(unlabelled, 'training video')} without any label left "
            f"out: {some(unlabelled)}"
        )
        wanted[0] = [name for name in wanted[0] if labels[name]]
    if not any(wanted):
        raise InputError(
            f"{truth.path}: found no videos in the chosen subsets, expected at least one"
        )
    return wanted


def _videos(source, truth, names, shapes, problems, shard):
    """`Video`s of a subset's usable videos; those that cannot be read go to `problems`. Rank None
    leaves all on disk."""
    made, (rank, ranks) = [], shard
    segments = dict(list(truth.segments.groupby("video")))
    for i, name in enumerate(name for name in names if name in shapes):
        of_video = segments.get(name, truth.segments[:0])
        try:
            made.append(_video(source, truth, name, of_video, shapes[name], i % ranks == rank))
        except InputError as error:
            problems[name] = error
    return made


def _video(source, truth, name, segments, shape, in_memory):
    """`Video` of one annotated video; the streams are read here unless they stay on disk."""
    length, *widths = shape
    if in_memory:
        streams = source.read(name)
    else:
        streams = [
            None if width is None else StoredArray(source, name, stream, (length, width))
            for stream, width in zip(("rgb", "flow"), widths)
        ]
    labels = np.zeros(len(truth.classes), np.float32)
    labels[[truth.classes.index(label) for label in truth.videos["labels"][name]]] = 1
    duration = _duration(truth, name)
    step, window = source.seconds(name, duration)
    return Video(
        name,
        *streams,
        labels,
        localize.length(length, step, window) if duration is None else duration,
        segments[["t_start", "t_end"]].to_numpy(dtype=float),
        np.array([truth.classes.index(label) for label in segments["label"]], np.int64),
        step,
        window,
    )


def _duration(truth, name):
    """Annotated seconds of a video, or None."""
    duration = float(truth.videos["duration"][name])
    return None if np.isnan(duration) else duration


# ---- usable or not
def adopt(source, truth, notes):
    """Call the features' videos by the names of the annotations; videos that the annotations lack
    go to `notes`."""
    source.adopt(truth.videos.index)
    surplus = [name for name in source.names if name not in truth.videos.index]
    if surplus and len(surplus) < len(source.names):
        notes.append(
            f"{source.path}: {count(surplus, 'video')} without annotation not used: {some(surplus)}"
        )


def default_subsets(truth):
    """[names of training videos with a label, of test videos] that a run takes by default; [all
    annotated ones] where the subsets' names do not say which these are."""
    try:
        subsets = annotation_files.choose_subsets(truth)
    except InputError:
        return [list(truth.videos.index)]
    train, test = (annotation_files.in_subset(truth, subset) for subset in subsets)
    return [list(train.index[train["labels"].map(len) > 0]), list(test.index)]


def examine(source, truth, names, notes):
    """Whether the features of the videos `names` can be used: the one check of inspection,
    conversion and run.

    Reads headers only. Returns ({name: (T, D_rgb, D_flow)} of the usable videos, {name: InputError}
    of the others); how arrays are read (cut, converted, axes dropped) goes to `notes`. truth: the
    annotations, or None. InputError where the whole set is stored as (dimensions, clips).
    """
    arrays, shapes, problems = {}, {}, {}
    for name in names:
        try:
            if name not in source:
                raise InputError(f"{source.path}: {name}: found no features of this video")
            arrays[name] = source.array_shapes(name)
        except InputError as error:
            problems[name] = error
    _check_axes(source, truth, arrays)
    for name in arrays:
        try:
            shapes[name] = source.shape(name)
        except InputError as error:
            problems[name] = error
    usual, n_usual = (
        Counter(shape[1:] for shape in shapes.values()).most_common(1)[0] if shapes else (None, 0)
    )
    for i, name in enumerate(names, 1):
        if name in shapes and shapes[name][1:] != usual:
            problems[name] = InputError(
                f"{source.path}: {name} (the {_ordinal(i)} video)",
                f"{_dims(shapes.pop(name)[1:])} dimensions",
                f"{' and '.join(str(n) for n in usual if n)} as in {n_usual} others",
            )
    notes += _how_read(source, shapes)
    return shapes, {name: problems[name] for name in names if name in problems}


def _dims(widths):
    return " and ".join(f"{n} {stream}" for n, stream in zip(widths, ("rgb", "flow")) if n)


def _how_read(source, names):
    """Notes on the videos whose arrays are cut, converted or brought to two axes."""
    groups = {}
    for name in names:
        for how in source.how_read(name):
            groups.setdefault(how.split(" from ")[0], []).append((name, how))
    return [
        f"{source.path}: {found[0][1]} in {count(found, 'video')}, such as {found[0][0]}"
        for _, found in sorted(groups.items())
    ]


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
        f"{source.path}: found {found}, expected (clips, dimensions); are the arrays "
        "(dimensions, clips)? Then turn them: python tools/convert_features.py "
        f"{shlex.quote(source.path)} {path} OUT.h5 --transpose{source.options}{clips}"
    )


def _durations(truth, names):
    """{name: seconds} of those of `names` that have an annotated duration."""
    known = {} if truth is None else truth.videos["duration"].dropna().to_dict()
    return {name: known[name] for name in names if name in known}


def settle(source, truth, wanted, problems, allow_missing):
    """InputError where the `problems` {name: InputError} of `wanted`, a list of names per subset,
    stop a run."""
    names = [name for subset in wanted for name in subset]
    missing = [name for name in names if name not in source]
    whole = any(subset and all(name in problems for name in subset) for subset in wanted)
    if not problems or allow_missing and not whole:
        return
    advice = "" if whole else " (--allow-missing goes on without them)"
    first = next((problem for name, problem in problems.items() if name in source), None)
    if first and not (whole and missing):
        more = f"; {len(problems) - 1} more cannot be used" if len(problems) > 1 else ""
        raise InputError(first.where, first.found, f"{first.expected}{more}{advice}")
    line = (
        f"{source.path}: found no features for {len(missing)} of {len(names)} videos of "
        f"{truth.path}: {some(missing)}"
    )
    if not whole:
        raise InputError(f"{line}, expected all{advice}")
    others = [name for name in source.names if name not in truth.videos.index]
    if others:
        line += (
            f"; found there: {some(others, 3)}; expected the same names but for folders, v_, a "
            "video's file suffix, letter case and what all names begin or end with"
        )
    elif len(missing) < len(names):
        line += "; these are all videos of one of the two subsets"
    raise InputError(line + source.beside())


def _say_left_out(source, truth, wanted, problems, notes):
    """Notes on the videos without usable features, and on what becomes of their segments."""
    names = [name for subset in wanted for name in subset]
    missing = [name for name in problems if name not in source]
    if missing:
        notes.append(
            f"{source.path}: found no features for {len(missing)} of {len(names)} videos "
            f"of {truth.path}: {some(missing)}; left out"
        )
    unusable = [name for name in problems if name in source]
    if unusable:
        notes.append(
            f"{source.path}: {count(unusable, 'video')} of {len(names)} that cannot be "
            f"used left out: {some(unusable)} (the first: {problems[unusable[0]]})"
        )
    tested = [name for name in wanted[1] if name in problems]
    segments = int(truth.segments["video"].isin(tested).sum())
    if segments:
        notes.append(
            f"{truth.path}: {count(tested, 'test video')} of these with {segments} "
            "segments, which stay in the ground truth and count as missed "
            "(--exclude-video NAME leaves a video's segments out, too)"
        )


def _say_untrained(truth, train, classes, notes):
    trained = np.sum([video.labels for video in train], axis=0) if train else np.ones(len(classes))
    untrained = [label for label, n in zip(classes, trained) if not n]
    if untrained:
        notes.append(
            f"{truth.path}: {count(untrained, 'class', 'classes')} without a training "
            f"video: {some(untrained)}"
        )


# ---- geometry
def with_duration(truth, names, shapes):
    """(names, durations (n,) in seconds, lengths (n,) in clips) of the annotated videos `names`
    that have a duration."""
    durations = _durations(truth, names)
    lengths = np.array([shapes[name][0] for name in durations])
    return list(durations), np.array(list(durations.values())), lengths


def stretch(durations, lengths, step=1.0, window=1.0):
    """How many times as long as its clips each video is, (n,): 1 where step and window are right.

    durations: (n,) annotated seconds; lengths: (n,) numbers of clips; step, window: seconds, of all
    videos or (n,). With both at 1 s: the seconds per clip that the durations imply.
    """
    return durations / localize.length(lengths, step, window)


def fits(stretched):
    """Whether the clips cover the durations within 5%, in the median. stretched: of `stretch`."""
    return abs(1 / np.median(stretched) - 1) <= GEOMETRY_TOLERANCE


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


def check_geometry(source, truth, names, shapes, notes):
    """What the clips cover against the annotated durations: the commonest cause of wrong numbers. A
    median off by more than 5% goes to `notes`, and videos that differ; InputError where nobody says
    what snippet_seconds is."""
    annotated, durations, lengths = with_duration(truth, names, shapes)
    known = fitting_convention(durations, lengths) if annotated else None
    seconds = {name: source.seconds(name, _duration(truth, name)) for name in names}
    unknown = [name for name, (step, _) in seconds.items() if step is None]
    if unknown:
        where = source.path if len(unknown) == len(seconds) else f"{source.path}: {unknown[0]}"
        implied = stretch(durations, lengths)
        advice = f"; {_implied_text(truth, implied, known)}" if annotated else ""
        raise InputError(
            f"{where}: found no snippet_seconds (seconds per clip), expected it "
            "as the attribute snippet_seconds of the file or given as snippet_seconds "
            f"in opts.py ({_flags(durations, lengths)}){advice}"
        )
    notes += _unsaid_window(source)
    notes += geometry_of_segments(source, truth, shapes, seconds)
    if not annotated:
        return
    of_annotated = [seconds[name] for name in annotated]
    steps, windows = np.array(of_annotated).T  # (n,)
    stretched = stretch(durations, lengths, steps, windows)
    off, each = differing(stretched), stretched * steps
    if not fits(stretched):
        notes.append(
            f"{source.path}: GEOMETRY: clips of {seconds_text(of_annotated)} cover "
            f"{100 / np.median(stretched):.0f}% of the annotated durations "
            f"(median), so times will be wrong; {_implied_text(truth, each, known)}: check "
            "snippet_seconds"
        )
    if off.any():
        notes.append(
            f"{source.path}: GEOMETRY: {off.sum()} of {len(each)} videos imply seconds "
            f"per clip that differ by more than 20% from the median ({each.min():.4g} to "
            f"{each.max():.4g} s), so their times will be wrong (features resampled to a "
            "fixed length, of several frame rates, or stored as (dimensions, clips)?): "
            f"--snippet-seconds {DURATION} takes duration / clips of each video"
        )


def _unsaid_window(source):
    """A note where the step is a known one of longer windows, and the window is not said."""
    step = source.snippet_seconds
    if source.clip_seconds or step in (None, DURATION):
        return []
    return [
        f"{source.path}: clips begin every {step:g} s, as in {name}, whose windows last "
        f"{window:.4g} s: give --clip-seconds {window:g} for such windows, or --clip-seconds "
        f"{step:g}, which is assumed, for windows as long as the step"
        for (known, window), name in CONVENTIONS.items()
        if window != known and np.isclose(known, step, rtol=0.01)
    ]


def geometry_of_segments(source, truth, shapes, seconds):
    """Notes where the segments do not fit the videos: in frames instead of seconds, or, of videos
    without a duration, past the clips or in their first half only. seconds: {name: (step, window)}
    of the videos to look at.
    """
    if truth is None:
        return []
    segments = truth.segments[truth.segments["video"].isin(seconds)]
    ends = segments.groupby("video", sort=False)["t_end"].max()  # by video
    names, last = list(ends.index), ends.to_numpy()  # (n,)
    if not names:
        return []
    known = _durations(truth, names)
    length = np.array([shapes[name][0] for name in names])  # (n,)
    steps, windows = np.array([seconds[name] for name in names]).T  # (n,)
    if known:
        covered = dict(zip(names, localize.length(length, steps, windows))) | known
        problem = annotation_files.unit_problem(truth.path, segments, covered)
        if problem is None:
            return []
        return [f"{truth.path}: GEOMETRY: found {problem.found}, expected {problem.expected}"]

    def past(step, window):
        return int((last > localize.length(length, step, window) + step).sum())

    clips = seconds_text([seconds[name] for name in names])
    if past(steps, windows) > 0.05 * len(names):
        fitting = [known for known in CONVENTIONS if past(*known) <= 0.05 * len(names)]
        advice = "no known duration of a clip fits: are the segments in frames instead of seconds?"
        if fitting:
            name = CONVENTIONS[min(fitting)]
            advice = f"{min(fitting)[0]:.4g} s ({name}) is the shortest known clip that fits"
        return [
            f"{source.path}: GEOMETRY: with clips of {clips}, segments of {truth.path} "
            f"end past the clips in {past(steps, windows)} of {len(names)} videos, "
            f"so times will be wrong: check snippet_seconds; {advice}"
        ]
    if len(names) > 2 and np.quantile(last / localize.length(length, steps, windows), 0.95) < 0.5:
        return [
            f"{source.path}: GEOMETRY: with clips of {clips}, nearly no segment of "
            f"{truth.path} ends in the second half of its video, so snippet_seconds may be too "
            "large"
        ]
    return []


def _ordinal(n):
    endings = {} if 10 <= n % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}
    return f"{n}{endings.get(n % 10, 'th')}"
