"""Convert features of any layout to the canonical HDF5 file: one video at a time, checked, read back, atomically.

    python tools/convert_features.py SRC ANNOTATIONS OUT.h5 [--snippet-seconds 0.64]
"""
import argparse
import os
import sys
from pathlib import Path

from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import dataset  # noqa: E402  (the repository is on the path from here on)
from formats import annotations, features  # noqa: E402
from formats.files import InputError  # noqa: E402


def main(argv=None):
    """The command. Bad input: one `error:` line and exit code 2, and no file under the final name."""
    parser = argparse.ArgumentParser(prog="convert_features.py", allow_abbrev=False, description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("features", metavar="SRC", help="feature file or folder in any layout")
    parser.add_argument("annotations", metavar="ANNOTATIONS", help="annotation file or folder")
    parser.add_argument("out", metavar="OUT.h5", help="the file to write")
    parser.add_argument("--flow-features", metavar="SRC", help="second file or folder, where flow lies apart")
    parser.add_argument("--feature-layout", choices=features.LAYOUTS, default="auto", help="default: recognise it")
    parser.add_argument("--snippet-seconds", type=float, metavar="S",
                        help="duration of a clip; needed where SRC does not declare it")
    parser.add_argument("--dtype", choices=("float16", "float32"), default="float16", help="default: float16")
    parser.add_argument("--compress", action="store_true", help="gzip: smaller and slower to read")
    args = parser.parse_args(argv)
    try:
        convert(args.features, args.annotations, args.out, flow_features=args.flow_features,
                layout=args.feature_layout, snippet_seconds=args.snippet_seconds, dtype=args.dtype,
                compression="gzip" if args.compress else None)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(f"interrupted: {args.out} was not written", file=sys.stderr)
        sys.exit(130)


def convert(path, annotation_path, out, *, flow_features, layout, snippet_seconds, dtype, compression):
    """Write all videos of `path` to `out` and print what was done. Raises InputError."""
    if Path(out).suffix not in (".h5", ".hdf5"):
        raise InputError(f"{out}: found the ending {Path(out).suffix!r}, expected a file to write that ends in .h5")
    if any(path and os.path.exists(path) and os.path.exists(out) and os.path.samefile(path, out)
           for path in (path, flow_features)):
        raise InputError(f"{out}: found the source under this name, expected another file to write")
    truth = annotations.load(annotation_path)
    source = features.open_features(path, layout=layout, flow_path=flow_features, annotations=annotation_path,
                                   snippet_seconds=snippet_seconds)
    source.adopt(list(truth.videos.values()))
    notes = [*truth.notes, *source.notes]
    missing = [name for name in truth.videos if name not in source]
    if missing:
        notes.append(f"{source.path}: no features for {len(missing)} of {len(truth.videos)} annotated videos, "
                     f"such as {missing[0]}")
    shapes = dataset.check_shapes(source, source.names, notes)
    annotated = [truth.videos[name] for name in source.names if name in truth.videos]
    dataset.check_geometry(source, truth, annotated, shapes, notes)
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    bar = tqdm(source.names, desc="converting", unit="video", disable=None)
    n = features.write_canonical(out, ((name, *source.read(name)) for name in bar), source.snippet_seconds, dtype,
                                compression)
    source.close()
    print(f"{out}: {n} videos, {sum(shape[0] for shape in shapes.values()):,} clips of {source.snippet_seconds:g} s, "
          f"{dtype}, {os.path.getsize(out) / 1e6:.1f} MB, from {source.layout} layout; read back and compared")


if __name__ == "__main__":
    main()
