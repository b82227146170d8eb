"""Measures the parts whose speed is promised; prints raw seconds and ratios, never judges.

    python tools/bench.py eval [--json OUT]

A subcommand is a function that prints what it measures and returns it as a flat dict; `--json` writes that dict.
"""
import argparse
import json
import os
import pathlib
import platform
import resource
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402

import eval_detection  # noqa: E402
from safe_load import InputError, write_atomically  # noqa: E402

ACTIVITYNET_TIOUS = [round(0.5 + 0.05 * i, 2) for i in range(10)]


def seconds(function, *args, repeats=5):
    """Fastest of several calls after one that warms up."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        function(*args)
        times.append(time.perf_counter() - start)
    return min(times[1:])


# -------------------------------------------------------------------------------------------------------------- eval

def bench_eval():
    """The evaluator against a loop over detections as in the ActivityNet toolkit, and its growth with detections."""
    truth, found, name = _activitynet_tables()
    plain = plain_activitynet_map(truth, found, ACTIVITYNET_TIOUS)
    plain_s = seconds(plain_activitynet_map, truth, found, ACTIVITYNET_TIOUS, repeats=2)
    ours_s = seconds(eval_detection.evaluate, truth, found, ACTIVITYNET_TIOUS)
    ours = eval_detection.evaluate(truth, found, ACTIVITYNET_TIOUS).map
    difference = float(np.abs(ours - plain).max())
    print(f"{name}: {len(found):,} detections, {len(truth):,} segments, {len(ACTIVITYNET_TIOUS)} tIoUs")
    print(f"  loop over detections, as in the official toolkit  {plain_s:8.4f} s")
    print(f"  eval_detection.evaluate                           {ours_s:8.4f} s")
    print(f"  {plain_s / ours_s:,.0f} times faster; mAP differs by {difference:.1e}")
    report = {"eval_plain_over_ours": plain_s / ours_s, "eval_plain_s": plain_s, "eval_ours_s": ours_s,
              "eval_map_difference": difference, "eval_detections": len(found), "eval_set": name}

    print(f"growth, {len(ACTIVITYNET_TIOUS)} tIoUs, 3,358 segments of 20 classes in 212 videos")
    print(f"  {'detections':>12}" + "".join(f"{name:>16}" for name in eval_detection.PROTOCOLS) + "   peak memory")
    for exponent in range(3, 7):
        truth, found = random_tables(3358, 10**exponent, n_videos=212, n_classes=20)
        times = {protocol: seconds(eval_detection.evaluate, truth, found, ACTIVITYNET_TIOUS, protocol, repeats=2)
                 for protocol in eval_detection.PROTOCOLS}
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # Linux counts KiB
        print(f"  {len(found):>12,}" + "".join(f"{s:>14.4f} s" for s in times.values()) + f"   {peak_mb:>7,.0f} MiB")
        report |= {f"eval_{protocol.replace('-', '_')}_1e{exponent}_s": s for protocol, s in times.items()}
        report[f"eval_peak_mib_1e{exponent}"] = peak_mb
    return report


def _activitynet_tables():
    folder = ROOT.parent / "shared" / "data" / "eval_golden"
    if folder.is_dir():
        truth, found = (pd.read_csv(folder / name, keep_default_na=False) for name in
                        ("activitynet12_ground_truth.csv", "activitynet12_a/detections.csv"))
        return truth, found, "eval_golden/activitynet12_a"
    truth, found = random_tables(3579, 6398, n_videos=2381, n_classes=100)
    return truth, found, "random tables of ActivityNet1.2's size"


def random_tables(n_segments, n_detections, n_videos, n_classes):
    """Segments of about 5 s in videos of 200 s, detections jittered around them by 0.3 of their length."""
    rng = np.random.default_rng(0)
    start = rng.uniform(0, 200, n_segments)
    length = rng.exponential(5, n_segments) + 0.1
    truth = pd.DataFrame({"video": [f"video_{v:04d}" for v in rng.integers(0, n_videos, n_segments)],
                          "t_start": start, "t_end": start + length,
                          "label": [f"class_{c:03d}" for c in rng.integers(0, n_classes, n_segments)]})
    pick = rng.integers(0, n_segments, n_detections)
    first = (start + rng.normal(0, 0.3, n_segments) * length)[pick] + rng.normal(0, 0.3, n_detections) * length[pick]
    last = np.maximum((start + length)[pick] + rng.normal(0, 0.3, n_detections) * length[pick], first + 0.05)
    found = pd.DataFrame({"video": truth["video"].to_numpy()[pick], "t_start": first, "t_end": last,
                          "label": truth["label"].to_numpy()[pick], "score": rng.random(n_detections)})
    return truth, found


def plain_activitynet_map(truth, found, tious):
    """mAP (T,) the way the ActivityNet toolkit goes about it: a loop over the rows of the detections, a look-up of the
    video's ground truth by groupby, a loop over thresholds, a loop over segments from the best tIoU down."""
    found_by_class = found.groupby("label")
    ap = []
    for label, segments in truth.groupby("label"):
        segments = segments.reset_index(drop=True)
        if label not in found_by_class.groups:
            ap.append(np.zeros(len(tious)))
            continue
        rows = found_by_class.get_group(label)
        rows = rows.sort_values("score", ascending=False, kind="stable").reset_index(drop=True)
        by_video = segments.groupby("video")
        taken = np.full((len(tious), len(segments)), -1)
        hit = np.zeros((len(tious), len(rows)))
        for n, row in rows.iterrows():
            if row["video"] not in by_video.groups:
                continue
            mine = by_video.get_group(row["video"]).reset_index()
            start, end = mine["t_start"].to_numpy(), mine["t_end"].to_numpy()
            shared = (np.minimum(end, row["t_end"]) - np.maximum(start, row["t_start"])).clip(0)
            tiou = shared / ((end - start) + (row["t_end"] - row["t_start"]) - shared)
            for level, threshold in enumerate(tious):
                for best in tiou.argsort()[::-1]:
                    if tiou[best] < threshold:
                        break
                    if taken[level, mine.loc[best]["index"]] >= 0:
                        continue
                    taken[level, mine.loc[best]["index"]] = n
                    hit[level, n] = 1
                    break
        hits = hit.cumsum(axis=1)
        precision = hits / np.arange(1, len(rows) + 1)
        best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        ap.append((best * hit).sum(axis=1) / len(segments))
    return np.mean(ap, axis=0)


# ----------------------------------------------------------------------------------------------------------- command

COMMANDS = {"eval": bench_eval}


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, function in COMMANDS.items():
        command = commands.add_parser(name, help=function.__doc__.splitlines()[0], allow_abbrev=False)
        command.add_argument("--json", metavar="OUT", help="write the figures to this file, one flat object")
    args = parser.parse_args(argv)
    print(f"{platform.platform()}, {os.cpu_count()} CPUs, Python {platform.python_version()}, NumPy {np.__version__}")
    report = COMMANDS[args.command]()
    if args.json:
        try:
            with write_atomically(args.json) as temporary:
                temporary.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        except InputError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)
    return report


if __name__ == "__main__":
    main()
