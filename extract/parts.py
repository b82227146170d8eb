"""Finished videos of an output file OUT.h5, until they are joined: the folder OUT.h5.parts.

It holds settings.json; VIDEO.npz of each finished video, whole or not at all; and VIDEO.lock while
a video is made, so that several processes, also on several machines, work on one output. What a
killed process leaves is taken over by the next.
"""

import contextlib
import errno
import io
import json
from fractions import Fraction

import filelock
import h5py
import numpy as np

from formats.features import extract_settings, write_canonical
from formats.files import (
    NO_LOCKS,
    InputError,
    file_name,
    load_json,
    process_lock,
    show,
    sweep,
    write_atomically,
)
from formats.layouts import STREAMS, in_one_line
from formats.program import log


def check(out, settings):
    """InputError where the file `out`, or the videos in its folder, have other settings."""
    kept = {}
    if out.exists():
        kept[out] = extract_settings(out)
    if _videos(out):
        file = _within(out, "settings.json")
        kept[file] = load_json(file) if file.exists() else None
    for path, old in kept.items():
        if not isinstance(old, dict):
            raise InputError(path, "no settings of extract_features.py", "another name to write")
        for key in sorted({*old, *settings}):
            if old.get(key) != settings.get(key):
                found = f"features with {key} {show(old.get(key))}"
                same = "give the same settings, or another name to write"
                raise InputError(path, found, f"{settings.get(key)} as given now: {same}")


@contextlib.contextmanager
def claimed(out, settings, name):
    """Whether this process alone may make a video during the block. InputError as for `check`."""
    try:
        with contextlib.ExitStack() as stack:
            with _locked(_within(out, ".lock")):
                check(out, settings)
                if not _videos(out):
                    with write_atomically(_within(out, "settings.json")) as temporary:
                        temporary.write_text(json.dumps(settings, indent=1, sort_keys=True))
                lock = _within(out, file_name(name, ".lock"))
                mine = stack.enter_context(_locked(lock, wait=False))
            yield mine
    except BaseException:
        _tidy(out)
        raise


def write(out, name, arrays):
    """Keeps a video's features {stream: (T, 1024) float32}. The caller has claimed the video."""
    path = _part(out, name)
    sweep(path)
    with write_atomically(path) as temporary:
        np.savez(temporary, name=name, **arrays)


def finished(out, settings, names):
    """Those of `names` that wait in the folder, and what is in `out`; looked up in this order,
    because `join` moves videos from the one to the other."""
    waiting = {name for name in names if _read(_part(out, name), settings)}
    return waiting | stored(out)


def stored(out):
    """Names of the videos in the file `out`."""
    if not out.exists():
        return set()
    with in_one_line(out), h5py.File(out) as file:
        return set(file)


def join(out, settings):
    """Writes the canonical file `out` from the videos in the folder and those that it has already,
    and removes the folder. InputError where another process is making a video."""
    folder = _within(out, "")
    if not folder.exists():
        return
    with _locked(folder / ".lock"):
        for path in folder.glob("[!.]*.lock"):
            with _locked(path, wait=False) as left:  # by a killed process
                if not left:
                    found = f"another process that makes {path.stem}"
                    raise InputError(folder, found, "its end: then give the same command again")
        sweep(out)
        paths = folder.glob("[!.]*.npz")
        parts = {part[0]: path for path in paths if (part := _read(path, settings))}
        if parts:
            fps = Fraction(settings["fps"])
            attributes = {
                "clip_seconds": float(settings["clip"] / fps),
                "extract_settings": json.dumps(settings, sort_keys=True),
            }
            items, step = _items(out, parts, settings), float(settings["step"] / fps)
            write_canonical(out, items, step, "float32", **attributes)
        for path in parts.values():
            path.unlink()
    _tidy(out)


def _tidy(out):
    """Removes the folder unless a video waits or is made there."""
    folder = _within(out, "")
    with _locked(folder / ".lock", wait=False) as alone:
        if alone and not _videos(out):
            for path in (folder / "settings.json", *folder.glob(".*.????????.*")):
                path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()


def _items(out, parts, settings):
    """Yields (name, rgb, flow) of the parts {name: path} and of what is in `out`."""
    for name in sorted({*parts, *stored(out)}):
        if name in parts:
            _, arrays = _read(parts[name], settings)
        else:
            with in_one_line(f"{out}: {name}"), h5py.File(out) as old:
                arrays = {stream: old[f"{name}/{stream}"][()] for stream in _streams(settings)}
        yield name, arrays.get("rgb"), arrays.get("flow")


def _streams(settings):
    return [stream for stream in STREAMS if f"{stream}_weights_sha256" in settings]


def _within(out, name):
    return out.with_name(f"{out.name}.parts") / name


def _part(out, name):
    return _within(out, file_name(name, ".npz"))


def _videos(out):
    """Paths of finished videos and locks in the folder."""
    paths = _within(out, "").glob("[!.]*")
    return [path for path in paths if path.name != "settings.json"]


def _read(path, settings):
    """(name, {stream: (T, 1024)}) of a part; None where there is none. A damaged one is removed."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        arrays = dict(np.load(io.BytesIO(data)))
        name = arrays.pop("name").item()
        axes = {stream: array.ndim for stream, array in arrays.items()}
        if axes != dict.fromkeys(_streams(settings), 2):  # the archive's index has no checksum
            raise ValueError(f"arrays with {axes} axes")
    except Exception as error:  # a damaged archive raises nearly anything
        log.warning(f"{path}: damaged ({show(str(error))}), so its video is made again")
        path.unlink(missing_ok=True)
        return None
    return name, arrays


@contextlib.contextmanager
def _locked(path, wait=True):
    """Whether the lock file `path` is this process's alone during the block; it ends with the
    process, however that ends. On a file system without locks: True, and a warning."""
    lock, mine = process_lock(path), True
    try:
        lock.acquire(timeout=-1 if wait else 0, poll_interval=0.2)
    except filelock.Timeout:
        mine = False
    except (OSError, NotImplementedError) as error:
        if getattr(error, "errno", errno.ENOSYS) not in NO_LOCKS:
            raise
        log.warning(
            f"{path.parent}: no locks on this file system: start each --shard once, and the call "
            "without --shard when all have ended"
        )
    try:
        yield mine
    finally:
        if mine:
            with contextlib.suppress(OSError):  # Windows removes no open file
                path.unlink()
        lock.release()
