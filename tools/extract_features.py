"""Make the paper's features of a folder of videos: frames, TV-L1 flow, two-stream I3D, one
feature file.

    python tools/extract_features.py VIDEOS OUT.h5 --dataset thumos14

A finished video is never computed again: the same command goes on where it was stopped. See
docs/video.md.
"""

import argparse
import concurrent.futures
import contextlib
import importlib
import itertools
import json
import os
import signal
import sys
import time
from fractions import Fraction
from pathlib import Path

import h5py
import numpy as np
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from formats.features import extract_settings, write_canonical  # noqa: E402
from formats.files import InputError, process_lock, write_atomically  # noqa: E402
from formats.layouts import in_one_line  # noqa: E402

FPS = {"thumos14": 12, "activitynet12": 25}  # Sec. 4.1
SUFFIXES = set(".3gp .avi .flv .m4v .mkv .mov .mp4 .mpeg .mpg .ogv .ts .webm .wmv".split())
FLOWS = {"tvl1": "TV-L1", "dis": "DIS, not the paper's TV-L1"}
SETTINGS = "extract_settings.json"


def main(argv=None):
    """The command. Bad input: one `error:` line and exit code 2; with --keep-going exit code 3 in
    the end."""
    args = _parser().parse_args(argv)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    try:
        bad = extract(args)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    if bad:
        print(f"error: {len(bad)} videos left out: {', '.join(bad)}", file=sys.stderr)
        sys.exit(3)


def _parser():
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parser = argparse.ArgumentParser(
        prog="extract_features.py",
        allow_abbrev=False,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("videos", metavar="VIDEOS", type=Path, help="folder (with its subfolders), or one video")
    add("out", metavar="OUT", type=Path, help=".h5 file to write; a folder with --layout per-video")
    add(
        "--dataset",
        choices=FPS,
        default="thumos14",
        help="the paper's rate: 12 frames a second (thumos14, the default) or 25 (activitynet12)",
    )
    add("--fps", help="another rate: 10, 29.97, 30000/1001")
    add("--clip", type=int, default=15, help="frames a clip; default: 15")
    add("--step", type=int, help="frames from clip to clip; default: as many as a clip has")
    streams = ["rgb", "flow"]
    for stream in streams:
        add(
            f"--{stream}-weights",
            default=f"{stream}_imagenet.pt",
            metavar="FILE",
            help=f"I3D's state dict for {stream}; default: {stream}_imagenet.pt",
        )
    add("--streams", nargs="+", choices=streams, default=streams, help="default: both")
    add(
        "--flow",
        choices=FLOWS,
        default="tvl1",
        help="tvl1 as in the paper (default), or dis: 100 times faster and not the paper's",
    )
    add(
        "--crop",
        choices=("center", "resize"),
        default="center",
        help="center: shorter side 256, middle 224 (default); resize: all squeezed into 224",
    )
    add(
        "--layout",
        choices=("hdf5", "per-video"),
        default="hdf5",
        help="one HDF5 file (default), or a folder with VIDEO.npz",
    )
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="of the network")
    add("--jobs", type=int, default=cores, help="processes that compute flow; default: one a core")
    add("--batch", type=int, default=4, help="clips that the network takes at once; default: 4")
    add(
        "--keep-going",
        action="store_true",
        help="report bad videos, leave them out, end with exit code 3",
    )
    return parser


def _stop(number, _):
    print("stopped: finished videos are kept, the same command goes on", file=sys.stderr)
    sys.exit(128 + number)


def extract(args):
    """Extract what is not finished yet and print the progress; returns the names of bad videos.
    Raises InputError."""
    fps, step = _checked(args)
    videos = find_videos(args.videos)
    _check_packages(args.streams)
    networks, hashes = load_networks(
        {stream: vars(args)[f"{stream}_weights"] for stream in args.streams}, args.device
    )
    settings = {
        "network": "I3D, Mixed_5c averaged over time and space",
        "fps": str(fps),
        "clip": args.clip,
        "step": step,
        "crop": args.crop,
        "resizer": "FFmpeg bilinear",
        **hashes,
    }
    if "flow" in networks:
        settings["flow"] = FLOWS[args.flow]
        if args.flow != "tvl1":
            print(f"warning: the flow is {FLOWS[args.flow]}", file=sys.stderr)
    folder = args.out
    if args.layout == "hdf5":
        folder = args.out.with_name(f"{args.out.name}.parts")
    method = args.flow if "flow" in networks else None
    with _kept(folder, args.out, settings), _with_flow(method, args.jobs) as flows:
        done = finished(folder, args.out)
        todo = {name: path for name, path in videos.items() if name not in done}
        bad = extract_all(todo, folder, settings, networks, flows, args.batch, args.keep_going)
        if args.layout == "hdf5" and _parts(folder):
            join(folder, args.out, settings)
        done = finished(folder, args.out)
    print(
        f"{args.out}: {len(done)} videos, {len(videos) - len(todo)} of these finished before; "
        f"{' and '.join(networks)}, snippet_seconds {float(step / fps):g}, "
        f"clip_seconds {float(args.clip / fps):g}"
    )
    return bad


# ---- what is asked for
def _checked(args):
    """(frames a second, frames from clip to clip). InputError for numbers that are none."""
    try:
        fps = Fraction(args.fps or FPS[args.dataset])
    except (ValueError, ZeroDivisionError):
        fps = 0
    if not 0 < fps <= 1000:
        raise InputError(
            f"--fps: found {args.fps}, expected a number of frames a second, such as 12 or "
            "30000/1001"
        )
    for option in ("clip", "step", "jobs", "batch"):
        if vars(args)[option] is not None and vars(args)[option] < 1:
            raise InputError(f"--{option}: found {vars(args)[option]}, expected at least 1")
    if args.layout == "hdf5" and (args.out.suffix not in (".h5", ".hdf5") or args.out.is_dir()):
        raise InputError(
            f"{args.out}: found a folder or a name without .h5, expected an .h5 file to write "
            "(or --layout per-video for a folder)"
        )
    return fps, args.step or args.clip


def find_videos(path):
    """{name: path} of the videos in a folder and its subfolders, or of one file, by name.
    InputError: none, or a name twice."""
    if path.is_file():
        files = [path]
    else:
        files = sorted(
            file for file in path.rglob("*") if file.is_file() and not file.name.startswith(".")
        )
    videos = {}
    for file in files:
        if file.suffix.lower() not in SUFFIXES:
            continue
        other = videos.setdefault(file.stem, file)
        if other != file:
            raise InputError(
                f"{path}: found {other.relative_to(path)} and {file.relative_to(path)}, "
                "expected every name once, because features are stored under it: rename one"
            )
        try:
            file.stem.encode()
        except UnicodeEncodeError:
            raise InputError(
                f"{file}: found a file name that is not UTF-8, expected one that is: rename it"
            ) from None
    if not videos:
        raise InputError(
            f"{path}: found no video among {len(files)} files, expected names that end in "
            f"{' '.join(sorted(SUFFIXES))}"
        )
    return dict(sorted(videos.items()))


def _check_packages(streams):
    """InputError where an optional package is not installed, before anything is computed."""
    for module in ("av", "cv2.optflow") if "flow" in streams else ("av",):
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise InputError(
                f"{module.split('.')[0]}: found no such package ({error}), expected it: "
                "pip install -r requirements-video.txt"
            ) from None


def load_networks(weights, device):
    """({stream: network on the device}, {stream_weights_sha256: hash}) of {stream: file}."""
    import torch

    from extract import i3d

    if device == "cuda" and not torch.cuda.is_available():
        raise InputError(
            "--device cuda: found no GPU that PyTorch can use, expected one (--device cpu)"
        )
    device = ("cpu", "cuda")[torch.cuda.is_available()] if device == "auto" else device
    torch.backends.cudnn.allow_tf32 = False  # its 10 bits of mantissa are not float32's features
    loaded = {stream: i3d.load(path, stream, device) for stream, path in weights.items()}
    return (
        {stream: network for stream, (network, _) in loaded.items()},
        {f"{stream}_weights_sha256": digest for stream, (_, digest) in loaded.items()},
    )


@contextlib.contextmanager
def _with_flow(method, jobs):
    """A function: frames -> (frame, flow) pairs, by `jobs` processes; flow is None without a
    method."""
    if method is None:
        yield lambda frames: ((frame, None) for frame in frames)
        return
    from extract import flow

    pool = flow.processes(jobs)
    try:
        yield lambda frames: flow.with_flow(frames, method, pool, ahead=2 * jobs)
    except concurrent.futures.BrokenExecutor:
        raise InputError(
            "--jobs: found a process that computes flow ended (out of memory?), expected it to "
            "stay; finished videos are kept: give the same command with fewer --jobs"
        ) from None
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


# ---- computing
def extract_all(videos, folder, settings, networks, flows, batch, keep_going):
    """Write FOLDER/NAME.npz for each of `videos` {name: path}; returns the names of bad ones
    (with keep_going).

    Every file is opened first, so that a bad one is found before hours are spent on the others.
    """
    from extract import frames

    bad, minutes = [], {}

    def attempt(name, task, *arguments):
        try:
            return task(*arguments)
        except InputError as error:
            if not keep_going:
                raise
            print(f"left out: {error}", file=sys.stderr)
            bad.append(name)

    for name, path in videos.items():
        seconds = attempt(name, frames.check, path)
        if seconds is not None:
            minutes[name] = seconds / 60
    passed, start = 0, time.monotonic()
    layout = "{percentage:3.0f}%|{bar}| {n:.1f} of {total:.1f} min of video, {remaining} left"
    with tqdm(total=sum(minutes.values()), disable=None, bar_format=layout) as bar:
        for i, name in enumerate(minutes, 1):
            arrays = attempt(
                name, extract_video, videos[name], settings, networks, flows, batch, bar.update
            )
            if arrays:
                with write_atomically(folder / f"{name}.npz") as temporary:
                    np.savez(temporary, **arrays)
            passed += minutes[name]
            bar.update(passed - bar.n)
            left = (time.monotonic() - start) * (bar.total / passed - 1) if passed else 0
            clips = len(next(iter(arrays.values()))) if arrays else "no"
            bar.write(
                f"{i} of {len(minutes)} videos, {passed:.1f} of {bar.total:.1f} min, "
                f"{tqdm.format_interval(left)} left: {name}: {clips} clips"
            )
    return bad


def extract_video(path, settings, networks, flows, batch, tick):
    """{stream: (T, 1024) float32} of a video; notes go to stderr. tick(minutes of video) is
    called along the way."""
    from extract import frames as video

    fps, clip, step, notes = Fraction(settings["fps"]), settings["clip"], settings["step"], []
    both = flows(video.read_frames(path, fps, settings["crop"], notes))
    cropped = (
        {"rgb": video.centre(image), "flow": moved if moved is None else video.centre(moved)}
        for image, moved in both
    )
    rows = {stream: [] for stream in networks}
    clips = video.clips(cropped, clip, step)
    for group in iter(lambda: list(itertools.islice(clips, batch)), []):
        for stream, network in networks.items():
            stacked = [np.stack([frame[stream] for frame in frames]) for frames in group]
            rows[stream].append(network.features(np.stack(stacked)))  # (B, clip, 224, 224, C)
        tick(float(len(group) * step / fps / 60))
    arrays = {stream: np.concatenate(parts) for stream, parts in rows.items()}
    for stream, array in arrays.items():
        if not np.isfinite(array).all():
            raise InputError(
                f"{path}: found {stream} features that are not finite, expected numbers: are "
                "the weights sound?"
            )
    for note in notes:
        tqdm.write(f"note: {note}", file=sys.stderr)
    return arrays


# ---- what is kept
@contextlib.contextmanager
def _kept(folder, out, settings):
    """The folder of finished videos, for this process alone. InputError if it, or the file `out`,
    has other settings."""
    for place in (folder, out):
        _check_same(place, settings)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = process_lock(folder / ".lock").acquire(timeout=0)
    except (OSError, NotImplementedError) as error:  # filelock.Timeout is an OSError
        found = getattr(error, "strerror", None) or "another process that writes here"
        raise InputError(f"{folder}: found {found}, expected a folder to write in") from None
    with held:
        for file in folder.glob(".*.npz"):  # a kill left it half-written
            file.unlink()
        with write_atomically(folder / SETTINGS) as temporary:
            temporary.write_text(json.dumps(settings, indent=1, sort_keys=True))
        try:
            yield
        finally:
            joined = folder != out and set(_parts(folder)) <= set(_stored(out))
            if joined or not _parts(folder):
                _remove(folder)
            (folder / ".lock").unlink(missing_ok=True)


def _remove(folder):
    """Remove what this tool put into a folder, and the folder if nothing else is in it."""
    for file in (*_parts(folder).values(), folder / SETTINGS, folder / ".lock"):
        file.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()


def _check_same(place, settings):
    """InputError if other files, or features with other settings, lie at `place`."""
    inside = [file.name for file in place.glob("[!.]*")] if place.is_dir() else []
    if not place.exists() or place.is_dir() and not inside:
        return
    old = extract_settings(place)
    if old is None:
        such = f" (such as {min(inside)} in it)" if inside else ""
        raise InputError(
            f"{place}: found something that this tool did not write{such}, expected another name"
        )
    for key in sorted({*old, *settings}):
        if old.get(key) != settings.get(key):
            raise InputError(
                f"{place}: found features with {key} {old.get(key)}, expected {settings.get(key)} "
                "as given now: give the same settings, or another name to write"
            )


def _parts(folder):
    """{name: path} of the finished videos in a folder."""
    return {file.stem: file for file in folder.glob("*.npz") if not file.name.startswith(".")}


def _stored(out):
    if not out.is_file():
        return []
    with h5py.File(out, "r") as file:
        return list(file)


def finished(folder, out):
    """Names of the videos that need no more work."""
    return {*_parts(folder), *_stored(out)}


def join(folder, out, settings):
    """Write the canonical file `out` from the videos in `folder` and those that it has already,
    one at a time."""
    parts = _parts(folder)

    def items():
        for name in sorted({*parts, *_stored(out)}):
            if name in parts:
                arrays = dict(np.load(parts[name]))
            else:
                with in_one_line(f"{out}: {name}"), h5py.File(out) as old:
                    arrays = {stream: array[()] for stream, array in old[name].items()}
            yield name, arrays.get("rgb"), arrays.get("flow")

    about = json.dumps(settings, sort_keys=True)
    step, clip = (float(settings[name] / Fraction(settings["fps"])) for name in ("step", "clip"))
    try:
        write_canonical(out, items(), step, "float32", clip_seconds=clip, extract_settings=about)
    except InputError as error:
        raise InputError(f"{error}; the features are kept in {folder}") from None


if __name__ == "__main__":
    main()
