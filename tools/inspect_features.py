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
        source = features.open_features(args.features, args.annotations, **asked)
        with contextlib.closing(source):
            line("features", " + ".join(filter(None, (source.path, asked.get("flow_features")))))
            problems = inspect(source, truth)
        if problems:
            more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            raise InputError(f"{problems[0]}{more}")


def inspect(source, truth):
    """Print the report and return the problems, InputErrors that a run would stop at. Reads every
    value once."""
    notes = []
    line("layout", source.layout)
    if truth:
        dataset.adopt(source, truth, notes)
    subsets = dataset.default_subsets(truth) if truth else []
    needed = [name for subset in subsets for name in subset] if truth else source.names
    print_videos(source, truth)
    names = dict.fromkeys([*source.names, *needed])
    shapes, bad = dataset.examine(source, truth, list(names), notes)
    print_values(source, shapes, bad)
    missing = [name for name in needed if name not in source]
    problems = [error for name, error in bad.items() if name in needed and name in source]
    try:
        bad_needed = {name: bad[name] for name in needed if name in bad}
        dataset.settle(source, truth, subsets, bad_needed, allow_missing=True)
    except InputError as error:
        if missing:  # what cannot be read is among the problems already
            problems.insert(0, error)
    spare = [error for name, error in bad.items() if name not in needed]
    if spare:
        notes.append(
            f"{files.count(spare, 'video')} that no subset in use needs cannot be used "
            f"(the first: {spare[0]})"
        )
    advice = print_geometry(source, truth, shapes, notes)
    if len(subsets) == 2:  # else who trains and who is tested is not known
        tested = truth.only(subsets[-1])
        seconds = covered(source, tested, shapes)
        wrong = annotations.unit_problem(truth.path, tested.segments, seconds)
        problems += [wrong] if wrong else []
    if missing:
        advice = (
            f"usable with --allow-missing: {files.count(missing, 'video')} without "
            f"features; {advice or 'else ready'}"
        )
    for note in notes:
        line("note", note)
    for problem in problems[:10]:
        line("problem", problem)
    if len(problems) > 10:
        line("", f"and {len(problems) - 10} more")
    stop = f"not usable, {len(problems)} problem(s): a run would stop here"
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


def print_values(source, shapes, bad):
    """Read the usable videos one by one and print their shapes and values; those that cannot be
    read move from `shapes` to `bad`."""
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
            bad[name] = error
            del shapes[name]
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


def print_geometry(source, truth, shapes, notes):
    """The seconds of the clips as they are said and as the durations imply them, each known
    convention, and what to set; returns what is left to do, or None."""
    names = [name for name in shapes if name in truth.videos.index] if truth else []
    known = truth.videos["duration"].dropna().to_dict() if truth else {}
    said = {name: source.seconds(name, known.get(name)) for name in (names if truth else shapes)}
    declared = bool(said) and all(step for step, _ in said.values())
    declared_text = (
        f"{layouts.seconds_text(said.values())} as declared or given"
        if declared
        else "not declared"
    )
    annotated, durations, lengths = dataset.with_duration(truth, names, shapes)
    setting = None
    if not annotated:
        line("snippet_seconds", f"{declared_text}; no annotated durations to compare it with")
    else:
        pairs = [said[name] for name in annotated] if declared else [(1, 1)]
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
            setting = dataset.fitting_seconds(durations, lengths)
    if truth:
        line(
            "in opts.py",
            f"features={source.path!r}, annotations={str(truth.path)!r}{setting_text(setting)}",
        )
    if not declared:
        return "usable once snippet_seconds is set"
    before = len(notes)
    dataset.check_geometry(source, truth, names, shapes, notes)
    if any("GEOMETRY" in note for note in notes[before:]):
        return "usable, but the times would be wrong: see the notes on GEOMETRY and snippet_seconds"
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


def setting_text(setting):
    """What to set in opts.py, as text; "" for None."""
    if setting is None:
        return ""
    step, window = (f'"{x}"' if x == features.DURATION else f"{x:.6g}" for x in setting)
    return f", snippet_seconds={step}" + ("" if window == step else f", clip_seconds={window}")


def covered(source, tested, shapes):
    """{name: seconds} of annotated videos: as annotated, else what their clips cover, where the
    step is known."""
    seconds = tested.videos["duration"].dropna().to_dict()
    for name in tested.videos.index:
        if name in shapes and name not in seconds:
            step, window = source.seconds(name)
            if step:
                seconds[name] = localize.length(shapes[name][0], step, window)
    return seconds


def line(key, text):
    log.info(f"{key:<16}{text}")


if __name__ == "__main__":
    main()
