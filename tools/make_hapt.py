"""Build the set of motion recordings that the README measures, from the public archive HAPT.

    python tools/make_hapt.py ARCHIVE OUT

ARCHIVE is the downloaded zip (https://doi.org/10.24432/C54G7M), or the folder that it unpacks to.
OUT/features.h5 (canonical layout) and OUT/annotations.json are written. Each recording (50 Hz) is
cut into excerpts of 30 s, the "videos"; what is left at its end is not used. A clip is a window of
1.28 s, one every 0.64 s. 111 statistics of the accelerometer (g) are stored as `rgb`, the same
statistics of the gyroscope (rad/s) as `flow`, standardised on the training people. Training and
test people are the published ones.

The archive is Reyes-Ortiz, Anguita, Oneto, Parra: Smartphone-Based Recognition of Human Activities
and Postural Transitions (HAPT), UCI, 2015. Its authors prohibit commercial use and ask to cite
Reyes-Ortiz, Oneto, Samà, Parra, Anguita: Transition-Aware Human Activity Recognition Using
Smartphones, Neurocomputing.
"""

import argparse
import hashlib
import json
import sys
import zipfile
import zlib
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from formats import features  # noqa: E402  (the repository is on the path from here on)
from formats.files import InputError, write_atomically  # noqa: E402
from formats.program import Bar, log, program  # noqa: E402

HZ = 50
WINDOW, HOP = 64, 32  # samples of a clip, and from one clip to the next
SECONDS = 30.0  # of an excerpt
EXCERPT = int(SECONDS * HZ)  # samples
SHORTEST = HZ // 2  # samples; shorter parts of actions are left out
TEST_PEOPLE = {2, 4, 9, 10, 12, 13, 18, 20, 24}
SENSORS = ("acc", "gyro")  # stored as rgb and flow
LABELS = "RawData/labels.txt"
WANTED = "the archive HAPT of UCI, complete, as its zip or unpacked"
LICENCE = (
    "HAPT's authors prohibit commercial use and ask to cite: Reyes-Ortiz et al., "
    "Transition-Aware Human Activity Recognition Using Smartphones, Neurocomputing."
)


def main(argv=None):
    """The command. Bad input: one `error:` line and exit code 2, and nothing is written."""
    parser = argparse.ArgumentParser(
        prog="make_hapt.py",
        allow_abbrev=False,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("archive", metavar="ARCHIVE", help="the archive's zip, or its folder")
    parser.add_argument("out", metavar="OUT", help="the folder to write")
    args = parser.parse_args(argv)
    with program(lambda: "; the set was not written whole", last=argv is None):
        make_set(args.archive, Path(args.out))


def make_set(archive, out):
    """Writes features.h5 and annotations.json to the folder `out`; prints what they hold.

    InputError where the archive is not complete or `out` cannot be written.
    """
    windows, database = {}, {}
    excerpts = read_excerpts(open_archive(archive))
    for name, streams, video in Bar(excerpts, "reading", unit="excerpt", disable=None):
        windows[name], database[name] = streams, video
    train = [name for name, video in database.items() if video["subset"] == "train"]
    if not train:
        raise InputError(archive, f"no recording of {SECONDS:g} s of a training person", WANTED)
    rgb, flow = (
        standardised({name: streams[i] for name, streams in windows.items()}, train)
        for i in range(2)
    )
    out.mkdir(parents=True, exist_ok=True)
    items = ((name, rgb[name], flow[name]) for name in database)
    features.write_canonical(out / "features.h5", items, HOP / HZ, clip_seconds=WINDOW / HZ)
    content = {"version": f"HAPT raw, {SECONDS:g}s excerpts", "database": database}
    with write_atomically(out / "annotations.json") as temporary:
        temporary.write_text(json.dumps(content), encoding="utf-8")
    unlabelled = sum(not video["annotations"] for video in database.values())
    log.info(
        f"{out}: {len(database)} excerpts of {SECONDS:g} s, {len(train)} to train and "
        f"{len(database) - len(train)} to test; {unlabelled} without a label"
    )
    for path in (out / "features.h5", out / "annotations.json"):
        log.info(f"{path}: SHA-256 {hashlib.sha256(path.read_bytes()).hexdigest()}")
    log.info(LICENCE)


def open_archive(path):
    """The folder that holds activity_labels.txt and RawData: a Path, or a zipfile.Path in a zip.
    InputError where there is none.
    """
    root = Path(path)
    if not root.is_dir():
        try:
            inside = [name for name in zipfile.ZipFile(path).namelist() if name.endswith(LABELS)]
        except (OSError, zipfile.BadZipFile) as error:
            raise InputError(path, getattr(error, "strerror", None) or error, WANTED) from None
        root = zipfile.Path(path, inside[0].removesuffix(LABELS) if inside else "")
    if not (root / LABELS).is_file():
        raise InputError(path, f"no {LABELS} in it", WANTED)
    return root


def read_excerpts(root):
    """Yields (name, [rgb, flow] (45, 111) each, entry of the annotations) of all excerpts, in the
    order of their names. InputError where a file is missing or damaged.
    """
    activities = dict(read_table(root / "activity_labels.txt", 2, str))
    # columns: experiment, person, activity, first sample, last sample
    labels = read_table(root / LABELS, 5, int)
    unknown = {str(number) for number in labels[:, 2]} - set(activities)
    if unknown:
        raise InputError(root / LABELS, f"activity {min(unknown)}", "one of activity_labels.txt")
    for experiment, person in np.unique(labels[:, :2], axis=0).tolist():
        recording = f"exp{experiment:02d}_user{person:02d}"
        files = [root / "RawData" / f"{sensor}_{recording}.txt" for sensor in SENSORS]
        signals = [read_table(file, 3, float) for file in files]
        n, other = (len(signal) // EXCERPT for signal in signals)
        if n != other:
            raise InputError(files[1], f"{len(signals[1])} samples", f"{len(signals[0])} as of acc")
        rows = labels[(labels[:, :2] == (experiment, person)).all(axis=1), 2:].tolist()
        for number in range(n):
            start = number * EXCERPT
            yield (
                f"hapt_{recording}_{number:03d}",
                [window_statistics(signal[start : start + EXCERPT]) for signal in signals],
                {
                    "subset": "test" if person in TEST_PEOPLE else "train",
                    "duration": SECONDS,
                    "annotations": actions_within(rows, start, activities),
                },
            )


def read_table(path, columns, dtype):
    """The numbers or words of a text file, (rows, columns). InputError where it holds others."""
    try:
        with path.open(encoding="utf-8") as file:
            lines = [line for line in file if line.strip()] or [""]
        table = np.array([line.split() for line in lines]).astype(dtype)
        if table.shape[1] != columns or dtype is float and not np.isfinite(table).all():
            raise ValueError(f"{table.shape[1]} columns, or no finite number")
    except (OSError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        found = "no such file" if isinstance(error, FileNotFoundError) else error
        raise InputError(path, found, f"{columns} columns without gaps ({WANTED})") from None
    return table


def actions_within(rows, start, activities):
    """The annotations of the excerpt that begins at sample `start`: the part of each row (activity,
    first sample, last sample) that lies in it, where it is half a second or more. In seconds."""
    actions = []
    for activity, first, last in rows:
        begin, end = max(first - start, 0), min(last - start, EXCERPT)
        if end - begin >= SHORTEST:
            segment = [round(begin / HZ, 2), round(end / HZ, 2)]
            actions.append({"label": activities[str(activity)], "segment": segment})
    return actions


def window_statistics(signal):
    """111 statistics of each window of a signal (n, 3): (T, 111) float32, T = (n - 64) // 32 + 1.

    Of x, y, z and the length of the vector: mean, standard deviation, minimum, maximum, the
    percentiles 10, 25, 50, 75, 90, log(1 + amplitude) at the frequencies 1 to 16 per window, mean
    step from sample to sample, second half minus first half; then the correlations xy, xz, yz.
    """
    signal = np.column_stack([signal, np.linalg.norm(signal, axis=1)])  # (n, 4)
    starts = np.arange(0, len(signal) - WINDOW + 1, HOP)
    windows = signal[starts[:, None] + np.arange(WINDOW)]  # (T, 64, 4)
    mean, std = windows.mean(axis=1), windows.std(axis=1)  # (T, 4)
    centred = windows - mean[:, None]
    percentiles = np.percentile(windows, [10, 25, 50, 75, 90], axis=1)  # (5, T, 4)
    amplitudes = np.abs(np.fft.rfft(centred, axis=1))[:, 1:17]  # (T, 16, 4)
    halves = windows[:, WINDOW // 2 :].mean(axis=1) - windows[:, : WINDOW // 2].mean(axis=1)
    a, b = [0, 0, 1], [1, 2, 2]  # xy, xz, yz
    covariance = (centred[..., a] * centred[..., b]).mean(axis=1)  # (T, 3)
    correlation = covariance / (std[:, a] * std[:, b] + 1e-6)
    steps = np.abs(np.diff(windows, axis=1)).mean(axis=1)  # (T, 4)
    parts = [
        mean,
        std,
        windows.min(axis=1),
        windows.max(axis=1),
        *percentiles,
        np.log1p(amplitudes).reshape(len(windows), -1),
        steps,
        halves,
        correlation,
    ]
    return np.concatenate(parts, axis=1).astype(np.float32)


def standardised(windows, train):
    """{name: (T, F)} with mean 0 and standard deviation 1 over the clips of the names in `train`,
    cut to [-8, 8]."""
    clips = np.concatenate([windows[name] for name in train])  # (N, F)
    mean, std = clips.mean(axis=0), clips.std(axis=0) + 1e-6
    return {name: ((x - mean) / std).clip(-8, 8) for name, x in windows.items()}


if __name__ == "__main__":
    main()
