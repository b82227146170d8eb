"""Say what a feature file or folder holds, whether it fits its annotations, and what to set in opts.py.

    python tools/inspect_features.py SRC [ANNOTATIONS]
"""
import argparse
import sys
from collections import Counter
from pathlib import Path

import numpy as np
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import dataset  # noqa: E402  (the repository is on the path from here on)
from formats import annotations, features  # noqa: E402
from formats.files import InputError  # noqa: E402


def main(argv=None):
    """The command. Features that a run would refuse: their problems, one `error:` line and exit code 2."""
    parser = argparse.ArgumentParser(prog="inspect_features.py", allow_abbrev=False, description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("features", metavar="SRC", help="feature file or folder in any layout")
    parser.add_argument("annotations", metavar="ANNOTATIONS", nargs="?", help="annotation file or folder")
    parser.add_argument("--flow-features", metavar="SRC", help="second file or folder, where flow lies apart")
    parser.add_argument("--feature-layout", choices=features.LAYOUTS, default="auto", help="default: recognise it")
    parser.add_argument("--snippet-seconds", type=float, metavar="S", help="check this duration of a clip")
    args = parser.parse_args(argv)
    try:
        problems = inspect(args.features, args.annotations, flow_features=args.flow_features,
                           layout=args.feature_layout, snippet_seconds=args.snippet_seconds)
    except InputError as error:
        problems = [error]
    except KeyboardInterrupt:
        sys.exit(130)
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        print(f"error: {problems[0]}{more}", file=sys.stderr)
        sys.exit(2)


def inspect(path, annotation_path, *, flow_features, layout, snippet_seconds):
    """Print the report and return the problems, InputErrors that a run would stop at. Reads every value once."""
    truth = annotations.load(annotation_path) if annotation_path else None
    source = features.open_features(path, layout=layout, flow_path=flow_features, annotations=annotation_path,
                                   snippet_seconds=snippet_seconds)
    notes, problems = [*(truth.notes if truth else ()), *source.notes], []
    line("features", " + ".join(filter(None, (source.path, flow_features))))
    line("layout", f"{source.layout}: {features.describe(source.layout)}")
    if truth:
        source.adopt(list(truth.videos.values()))
    print_videos(source, truth, notes, problems)
    shapes = scan(source, problems)
    advice = print_geometry(source, truth, shapes, notes)
    for note in notes:
        line("note", note)
    for problem in problems[:10]:
        line("problem", problem)
    if len(problems) > 10:
        line("", f"and {len(problems) - 10} more")
    line("verdict", f"not usable, {len(problems)} problem(s): a run would stop here" if problems else advice or "ready")
    source.close()
    return problems


def print_videos(source, truth, notes, problems):
    """Videos per subset, missing and surplus ones."""
    if not truth:
        return line("videos", f"{len(source.names)}, no annotations given")
    subsets = Counter(video.subset for video in truth.videos.values())
    have = Counter(video.subset for video in truth.videos.values() if video.name in source)
    line("annotations", f"{truth.path}: {len(truth.videos)} videos, {len(truth.classes)} classes")
    line("videos", f"{len(source.names)} with features: "
         + ", ".join(f"{subset or '(no subset)'} {have[subset]} of {n}" for subset, n in subsets.items()))
    missing = [name for name in truth.videos if name not in source]
    surplus = [name for name in source.names if name not in truth.videos]
    line("missing", features.some(missing) or "none")
    line("surplus", features.some(surplus) or "none")
    if len(missing) == len(truth.videos):
        problems.append(InputError(f"{source.path}: found no features for any video of {truth.path}, such as "
                                   f"{missing[0]}; the features are of videos such as {surplus[0]}"))
    elif missing:
        notes.append(f"a run needs features for every video of its subsets, or --allow-missing: {len(missing)} missing")


def scan(source, problems):
    """Read all videos one by one, print shapes and values; returns {name: (T, D, D')} of the sound ones."""
    shapes, dtypes, cut = {}, Counter(), 0
    low, high = np.full(2, np.inf), np.full(2, -np.inf)
    zeros, size = np.zeros(2), np.zeros(2)
    for name in tqdm(source.names, desc="reading", unit="video", disable=None):
        try:
            (t_rgb, _), (t_flow, _) = source.stream_shapes(name)
            shape = source.shape(name)
            for i, array in enumerate(source.read(name)):
                low[i], high[i] = min(low[i], array.min()), max(high[i], array.max())
                zeros[i] += array.size - np.count_nonzero(array)
                size[i] += array.size
        except InputError as error:
            problems.append(error)
            continue
        shapes[name] = shape
        cut += t_rgb != t_flow
        dtypes.update({dtype.name for dtype in source.dtypes(name)})
    if not shapes:
        return shapes
    widths = Counter(shape[1:] for shape in shapes.values()).most_common()
    lengths = np.array([shape[0] for shape in shapes.values()])
    line("dimensions", ", ".join(f"rgb {rgb}, flow {flow}" + (f" ({n} videos)" if len(widths) > 1 else "")
                                 for (rgb, flow), n in widths))
    if len(widths) > 1:
        odd = next(name for name, shape in shapes.items() if shape[1:] != widths[0][0])
        problems.append(InputError(f"{source.path}: {odd}: found rgb {shapes[odd][1]} and flow {shapes[odd][2]} "
                                   f"dimensions, expected {widths[0][0][0]} and {widths[0][0][1]} as in "
                                   f"{widths[0][1]} others"))
    line("type", ", ".join(f"{dtype} ({n} videos)" if len(dtypes) > 1 else dtype for dtype, n in dtypes.most_common()))
    line("clips", f"{lengths.min()} to {lengths.max()} per video, median {np.median(lengths):g}, {lengths.sum():,} in "
                  f"all; streams cut to equal length in {cut} videos")
    for i, stream in enumerate(("rgb", "flow")):
        line(f"{stream} values", f"{low[i]:.4g} to {high[i]:.4g}, {100 * zeros[i] / size[i]:.1f}% zeros")
    line("as float32", f"{sum(t * (rgb + flow) * 4 for t, rgb, flow in shapes.values()) / 1e9:.3f} GB in memory")
    return shapes


def print_geometry(source, truth, shapes, notes):
    """snippet_seconds as declared and as the durations imply it, each known convention, and what to set; returns what
    is left to do, or None."""
    declared = source.snippet_seconds
    known = f"{declared:g} as declared or given" if declared else "not declared"
    videos = [truth.videos[name] for name in shapes if name in truth.videos] if truth else []
    lengths = {name: shape[0] for name, shape in shapes.items()}
    implied = dataset.implied_snippet_seconds(videos, lengths)
    setting, advice = declared, None
    if implied is None:
        line("snippet_seconds", f"{known}; no annotated durations to hold it against")
    else:
        each = [video.duration / lengths[video.name] for video in videos if video.duration]
        line("snippet_seconds", f"{known}; {implied:.4g} implied by the durations (median; "
                                "{:.4g} to {:.4g} without the outer tenths)".format(*np.percentile(each, (10, 90))))
        best = dataset.fitting_convention(implied)
        for seconds, meaning in sorted(dataset.CONVENTIONS.items(), reverse=True):
            verdict = "no" if abs(seconds / implied - 1) > dataset.GEOMETRY_TOLERANCE else \
                "fits best" if seconds == best else "fits"
            line("", f"{seconds:<6.4g} covers {100 * seconds / implied:4.0f}% of the durations: {verdict:9} "
                     f"({meaning})")
        if not declared or abs(declared / implied - 1) > dataset.GEOMETRY_TOLERANCE:
            setting = best or implied
    if not declared:
        advice = "usable once snippet_seconds is set"
    elif setting != declared:
        dataset.check_geometry(source, truth, videos, shapes, notes)
        advice = "usable, but the times would be wrong: see snippet_seconds"
    if truth:
        line("in opts.py", f'features="{source.path}", annotations="{truth.path}"'
             + (f", snippet_seconds={setting:.4g}" if setting and setting != declared else ""))
    return advice


def line(key, text):
    print(f"{key:<16}{text}")


if __name__ == "__main__":
    main()
