"""Convert features of any layout to the canonical HDF5 file: one video at a time, checked, read
back, atomically.

    python tools/convert_features.py SRC ANNOTATIONS OUT.h5 [--snippet-seconds 0.64]
"""

import contextlib
import os
import sys
from pathlib import Path

from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import dataset  # noqa: E402  (the repository is on the path from here on)
import opts  # noqa: E402
from formats import annotations, features, files, layouts  # noqa: E402
from formats.files import InputError  # noqa: E402
from formats.program import log, program  # noqa: E402


def arguments():
    """The command's parser."""
    parser = opts.Parser("tools/convert_features.py SRC ANNOTATIONS OUT.h5", __doc__)
    add = parser.add_argument
    add("features", metavar="SRC", help="feature file or folder in any layout")
    add("annotations", metavar="ANNOTATIONS", help="annotation file or folder")
    add("out", metavar="OUT.h5", help="the file to write")
    opts.add_flags(parser, ("files", "clips", "arrays"), ("features", "annotations"))
    add("--transpose", action="store_true", help="the arrays are (dimensions, clips): turn them")
    add("--allow-missing", action="store_true", help="leave out videos that cannot be read")
    add(
        "--dtype",
        choices=("float16", "float32"),
        default="float16",
        help="default: float16, half the size, values rounded; float32 keeps every bit",
    )
    add("--compress", action="store_true", help="gzip: smaller and slower to read")
    return parser


def main(argv=None):
    """The command. Bad input: one `error:` line and exit code 2, and no file under the final
    name."""
    with program(lambda: "; nothing was written", last=argv is None):
        args = arguments().parse_args(argv)
        asked = opts.reading(args) | {"transpose": args.transpose}
        with files.alone(args.out):
            check_target(args.out)
            truth = annotations.load(args.annotations)
            source = features.open_features(args.features, truth, **asked)
            compression = "gzip" if args.compress else None
            with contextlib.closing(source):
                convert(source, truth, args.out, args.dtype, compression, args.allow_missing)


def check_target(out):
    """InputError where `out` is no .h5 file to write, or there already."""
    if Path(out).suffix not in (".h5", ".hdf5"):
        raise InputError(out, f"the ending {Path(out).suffix!r}", "a file to write, OUT.h5")
    if os.path.lexists(out):
        raise InputError(out, "a file there", "another name (nothing is overwritten)")


def convert(source, truth, out, dtype, compression, allow_missing):
    """Write the videos of `source` to `out` and print what was done. InputError on an annotated
    video that is damaged (unless `allow_missing`); one that no subset in use needs is left out and
    said."""
    missing = [name for name in truth.videos.index if name not in source]
    if missing:
        log.warning(
            f"{source.path}: no features for {len(missing)} of {len(truth.videos)} "
            f"annotated videos, such as {missing[0]}"
        )
    found = dataset.survey(source, truth, source.names)
    shapes = found.shapes
    needed = {name for subset in dataset.default_subsets(truth) for name in subset}
    left_out = []

    def passed_over(name, error):
        if name in needed and not (allow_missing and shapes):
            raise InputError(
                f"{error} (--allow-missing leaves such videos out)" if shapes else error
            )
        left_out.append(error)

    for name, error in found.problems.items():
        passed_over(name, error)
    if not shapes:
        raise InputError(f"{left_out[0]}; no other video can be used either")
    dataset.check_geometry(found)
    clips = 0

    def items():
        nonlocal clips
        for name in tqdm(shapes, desc="converting", unit="video", disable=None):
            try:
                streams = source.read(name)
            except InputError as error:
                passed_over(name, error)
                continue
            clips += shapes[name][0]
            yield name, *streams

    n = features.write_canonical(out, items(), found.seconds, dtype, compression)
    for error in left_out:
        log.warning(f"left out: {error}")
    log.info(
        f"{out}: {n} videos, {clips:,} clips of {layouts.seconds_text(found.seconds.values())}, "
        f"{dtype}, {os.path.getsize(out) / 1e6:.1f} MB, from {source.layout} layout; read back and "
        "compared"
    )
    if dtype == "float16":
        log.info(
            "float16 keeps 11 bits of each value; --dtype float32 keeps every bit, at twice the "
            "size"
        )


if __name__ == "__main__":
    main()
