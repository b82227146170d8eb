"""Say what a feature file or folder holds, whether it fits its annotations, and what to set in
opts.py.

    python tools/inspect_features.py SRC [ANNOTATIONS]
"""

import contextlib
import sys
from collections import Counter
from pathlib import Path

import numpy as np
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import dataset  # noqa: E402  (the repository is on the path from here on)
import localize  # noqa: E402
import opts  # noqa: E402
from formats import annotations, features, files, layouts  # noqa: E402
from formats.files import InputError  # noqa: E402
from formats.program import log, program  # noqa: E402


def main(argv=None):
    """The command. Features that a run would refuse: their problems, one `error:` line and exit
    code 2."""
    parser = opts.Parser("tools/inspect_features.py SRC [ANNOTATIONS]", __doc__)
    add = parser.add_argument
    add("features", metavar="SRC", help="feature file or folder in any layout")
    add("annotations", metavar="ANNOTATIONS", nargs="?", help="annotation file or folder")
    opts.add_flags(parser, ("files", "clips", "arrays"), ("features", "annotations"))
    with program(last=argv is None):
        args = parser.parse_args(argv)
        truth = annotations.load(args.annotations) if args.annotations else None
        asked = opts.reading(args)
        source = features.open_features(args.features, truth, **asked)
        with contextlib.closing(source):
            line("features", " + ".join(filter(None, (source.path, asked.get("flow_features")))))
            problems = inspect(source, truth, asked)
        if problems:
            more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            raise InputError(f"{problems[0]}{more}")


def inspect(source, truth, asked):
    """Print the report and return the problems, InputErrors that a run would stop at. Reads every
    value once. asked: the options that say how the features are read, for the row of opts.py."""
    line("layout", source.layout)
    print_videos(source, truth)
    subsets = dataset.default_subsets(truth) if truth else []
    needed = [name for subset in subsets for name in subset] if truth else source.names
    found = dataset.survey(source, truth, list(dict.fromkeys([*source.names, *needed])))
    print_values(found)
    missing = [name for name in needed if name not in source]
    bad = {name: error for name, error in found.problems.items() if name in source}
    problems = [error for name, error in bad.items() if name in needed]
    try:
        dataset.settle(found, subsets, allow_missing=True)
    except InputError as error:
        if missing:  # what cannot be read is among the problems already
            problems.insert(0, error)
    spare = [error for name, error in bad.items() if name not in needed]
    if spare:
        log.warning(
            f"{files.count(spare, 'video')} that no subset in use needs cannot be used "
            f"(the first: {spare[0]})"
        )
    advice = print_geometry(found, asked)
    if len(subsets) == 2:  # else who trains and who is tested is not known
        tested = truth.only(subsets[-1])
        wrong = annotations.unit_problem(truth.path, tested.segments, covered(found, tested))
        problems += [wrong] if wrong else []
    if missing:
        advice = (
            f"usable with --allow-missing: {files.count(missing, 'video')} without "
            f"features; {advice or 'else ready'}"
        )
    for problem in problems[:10]:
        line("problem", problem)
    if len(problems) > 10:
        line("", f"and {len(problems) - 10} more")
    stop = f"not usable, {files.count(problems, 'problem')}: a run would stop here"
    line("verdict", stop if problems else advice or "ready")
    return problems


def print_videos(source, truth):
    """Videos per subset, missing and surplus ones."""
    if not truth:
        return line("videos", f"{len(source.names)}, no annotations given")
    subsets = Counter(truth.videos["subset"])
    have = Counter(truth.videos["subset"][[name in source for name in truth.videos.index]])
    line("annotations", f"{truth.path}: {len(truth.videos)} videos, {len(truth.classes)} classes")
    each = [f"{subset or '(no subset)'} {have[subset]} of {n}" for subset, n in subsets.items()]
    line("videos", f"{len(source.names)} with features: {', '.join(each)}")
    missing = [name for name in truth.videos.index if name not in source]
    surplus = [name for name in source.names if name not in truth.videos.index]
    line("missing", files.some(missing) or "none")
    line("surplus", files.some(surplus) or "none")


def print_values(found):
    """Read the usable videos one by one and print their shapes and values; those that cannot be
    read become problems."""
    source, shapes, seconds = found.source, found.shapes, found.seconds
    dtypes, cut = Counter(), 0
    low, high, zeros, size = (Counter() for _ in range(4))
    for name in tqdm(list(shapes), desc="reading", unit="video", disable=None):
        try:
            for stream, array in zip(("rgb", "flow"), source.read(name)):
                if array is not None:
                    low[stream] = min(low.get(stream, np.inf), array.min())
                    high[stream] = max(high.get(stream, -np.inf), array.max())
                    zeros[stream] += array.size - np.count_nonzero(array)
                    size[stream] += array.size
        except InputError as error:
            found.problems[name] = error
            del shapes[name], seconds[name]
            continue
        cut += len({length for length, _ in source.stream_shapes(name).values()}) > 1
        dtypes.update({dtype.name for dtype in source.dtypes(name)})
    if not shapes:
        return
    widths = next(iter(shapes.values()))[1:]
    lengths = np.array([shape[0] for shape in shapes.values()])
    line(
        "dimensions", ", ".join(f"{stream} {n}" for stream, n in zip(("rgb", "flow"), widths) if n)
    )
    line(
        "type",
        ", ".join(
            f"{dtype} ({n} videos)" if len(dtypes) > 1 else dtype
            for dtype, n in dtypes.most_common()
        ),
    )
    line(
        "clips",
        f"{lengths.min()} to {lengths.max()} per video, median {np.median(lengths):g}, "
        f"{lengths.sum():,} in all; streams cut to equal length in {cut} videos",
    )
    for stream in size:
        line(
            f"{stream} values",
            f"{low[stream]:.4g} to {high[stream]:.4g}, "
            f"{100 * zeros[stream] / size[stream]:.1f}% zeros",
        )
    line("as float32", f"{sum(size.values()) * 4 / 1e9:.3f} GB in memory")


def print_geometry(found, asked):
    """The seconds of the clips as they are said and as the durations imply them, each known
    convention, and what to set; returns what is left to do, or None."""
    truth, seconds = found.truth, found.seconds
    declared = bool(seconds) and all(step for step, _ in seconds.values())
    declared_text = (
        f"{layouts.seconds_text(seconds.values())} as declared or given"
        if declared
        else "not declared"
    )
    annotated, durations, lengths = dataset.with_duration(found)
    setting = {}
    if not annotated:
        line("snippet_seconds", f"{declared_text}; no annotated durations to compare it with")
    else:
        pairs = [seconds[name] for name in annotated] if declared else [(1, 1)]
        steps, windows = np.array(pairs).T
        stretched = dataset.stretch(durations, lengths, steps, windows)
        low, implied, high = np.percentile(stretched * steps, (10, 50, 90))
        line(
            "snippet_seconds",
            f"{declared_text}; {implied:.4g} implied by the durations (median; "
            f"{low:.4g} to {high:.4g} without the outer tenths)",
        )
        print_conventions(durations, lengths)
        if not declared or not dataset.fits(stretched) or dataset.differing(stretched).any():
            step, window = dataset.fitting_seconds(durations, lengths)
            setting = {"snippet_seconds": step}
            setting |= {"clip_seconds": window} if window != step else {}
    if truth:
        row = {"features": found.source.path, "annotations": str(truth.path)} | asked | setting
        values = ", ".join(f"{name}={_value(value)}" for name, value in row.items())
        line("in opts.py", f'"custom": dict(CUSTOM, {values}),')
    if not declared:
        return "usable once snippet_seconds is set"
    if truth and not dataset.check_geometry(found):
        return "usable, but the times would be wrong: see the warnings of GEOMETRY"
    return None


def print_conventions(durations, lengths):
    """How much of the durations each known step and window covers."""
    best = dataset.fitting_convention(durations, lengths)
    for known, meaning in sorted(dataset.CONVENTIONS.items(), reverse=True):
        stretched = dataset.stretch(durations, lengths, *known)
        verdict = "no"
        if dataset.fits(stretched):
            verdict = "fits best" if known == best else "fits"
        step, window = known
        more = "" if window == step else f", clip_seconds {window:.4g}"
        line(
            "",
            f"{step:<6.4g} covers {100 / np.median(stretched):4.0f}% of the durations: "
            f"{verdict:9} ({meaning}{more})",
        )


def _value(value):
    """A value as Python writes it; a number with six digits."""
    return f"{value:.6g}" if isinstance(value, float) else repr(value)


def covered(found, tested):
    """{name: seconds} of annotated videos: as annotated, else what their clips cover, where the
    step is known."""
    lasting = {
        name: localize.length(found.shapes[name][0], step, window)
        for name, (step, window) in found.seconds.items()
        if step
    }
    return lasting | tested.durations


def line(key, text):
    log.info(f"{key:<16}{text}")


if __name__ == "__main__":
    main()
