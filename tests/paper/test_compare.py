"""`reproduce.py compare`: statistics by hand, the bootstrap by evaluating every draw."""

import json
import re
import shutil
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from commands import stops, words, write_set

import eval_detection
import opts
import reproduce
import run
from engine import run_folder
from formats.files import InputError
from jobs import record
from paper import compare

TIOUS = (0.3, 0.5)
DETECTION = ["video", "t_start", "t_end", "label", "score"]


def group(truth, detections, ambiguous=(), name="runs", code="1"):
    """A Group from rows. detections: {seed: rows}."""
    segment = ["video", "t_start", "t_end"]
    environment = run_folder.environment(torch.device("cpu"))
    o = opts.resolve({})
    return compare.Group(
        name,
        o,
        [record.of(o, "data", {**environment, "code": code})],
        pd.DataFrame(truth, columns=[*segment, "label"]),
        pd.DataFrame(list(ambiguous), columns=segment),
        {seed: pd.DataFrame(list(rows), columns=DETECTION) for seed, rows in detections.items()},
    )


# ------------------------------------------------------------------------------------- statistics


def test_paired_t_test_by_hand():
    # t = 2 / (1 / sqrt(3)) = 3.464; with 2 degrees of freedom p = 1 - t / sqrt(2 + t^2).
    found = compare.paired_tests([0.01, 0.02, 0.03])
    assert found["t"] == pytest.approx(1 - 12**0.5 / 14**0.5) and found["wilcoxon"] is None


def test_wilcoxon_where_six_pairs_allow_it():
    differences = [0.01, 0.02, 0.03, 0.04, 0.05, 0.06]
    assert compare.paired_tests(differences)["wilcoxon"] == pytest.approx(2 / 2**6)
    assert compare.paired_tests(differences[:5])["wilcoxon"] is None


def test_no_test_is_made_up():
    """One pair, or differences without spread, have no t-test."""
    assert compare.paired_tests([0.1]) == {"t": None, "wilcoxon": None}
    assert compare.paired_tests([0.1, 0.1])["t"] is None
    equal = np.array([2 / 3, 1.0]) - np.array([1 / 3, 2 / 3])  # but for rounding
    assert equal[0] != equal[1] and compare.paired_tests(equal)["t"] is None
    assert compare.paired_tests([0.0] * 6) == {"t": None, "wilcoxon": None}


# -------------------------------------------------------------------------------------- bootstrap


def test_bootstrap_of_two_videos_by_hand():
    """B finds the segment of v1, nobody that of v2: with k draws of v1 of two, B is at k / 2."""
    truth = [("v1", 0, 10, "x"), ("v2", 0, 10, "x")]
    a, b = group(truth, {1: []}), group(truth, {1: [("v1", 0, 10, "x", 0.9)]})
    samples = compare.bootstrap(a, b, [1], TIOUS, "activitynet", 4000)
    assert set(samples) == {0.3, 0.5, "all"}
    share = [np.mean(samples[0.5] == value) for value in (0, 0.5, 1)]
    assert sum(share) == 1 and share == pytest.approx([0.25, 0.5, 0.25], abs=0.03)


@pytest.mark.parametrize("seed", range(5))
def test_a_draw_without_a_segment_is_made_again(seed):
    """One video with a segment, detections in 30 others."""
    truth = [("v0", 0, 10, "x")]
    a = group(truth, {1: [(f"v{i}", 0, 10, "x", 0.5) for i in range(1, 31)]})
    b = group(truth, {1: [("v0", 0, 10, "x", 0.9)]})
    samples = compare.bootstrap(a, b, [1], (0.5,), "activitynet", 3, seed)
    assert samples[0.5].tolist() == [1, 1, 1]


def random_group(seed, truth, videos, digits):
    """Detections near the segments and elsewhere; few digits make ties in the scores."""
    rng = np.random.default_rng(seed)
    tables = {}
    for s in (1, 2):
        rows = []
        for video, start, end, label in truth:
            if rng.random() < 0.7:
                shift = rng.normal(0, 1.5)
                rows.append((video, start + shift, end + shift, label, round(rng.random(), digits)))
        for _ in range(10):
            start = rng.uniform(0, 40)
            rows.append(
                (
                    rng.choice(videos),
                    start,
                    start + 5,
                    rng.choice(["x", "y"]),
                    round(rng.random(), digits),
                )
            )
        tables[s] = rows
    return tables


@pytest.mark.parametrize("protocol", eval_detection.PROTOCOLS)
def test_bootstrap_is_the_evaluation_of_every_draw(protocol):
    """Each draw evaluated as a set of its own, where a video drawn twice is two videos."""
    videos = [f"v{k}" for k in range(6)]
    truth = [
        (video, 10 * k, 10 * k + 6, "xy"[(i + k) % 2])
        for i, video in enumerate(videos)
        for k in range(1 + i % 3)
    ]
    ambiguous = [("v1", 20, 26), ("v4", 0, 4)] if protocol.startswith("thumos") else []
    # This kit sorts ties by video, so that the copies of one detection are not neighbours there.
    digits = 9 if protocol == "thumos-2015" else 1
    a = group(truth, random_group(1, truth, videos, digits), ambiguous)
    b = group(truth, random_group(2, truth, videos, digits), ambiguous)
    samples = compare.bootstrap(a, b, [1, 2], TIOUS, protocol, 20, seed=5)
    rng = np.random.default_rng(5)
    for k in range(20):
        counts = np.bincount(rng.integers(6, size=6), minlength=6)
        maps = {
            side: [evaluated(one, s, videos, counts, protocol) for s in (1, 2)]
            for side, one in (("a", a), ("b", b))
        }
        expected = np.mean(maps["b"], axis=0) - np.mean(maps["a"], axis=0)
        assert [samples[tiou][k] for tiou in TIOUS] == pytest.approx(expected, abs=1e-12)
        assert samples["all"][k] == pytest.approx(expected.mean(), abs=1e-12)


def evaluated(one, seed, videos, counts, protocol):
    """mAP of one draw, its videos under names of their own that keep their order."""

    def drawn(table):
        parts = [
            table[table["video"] == video].assign(video=f"{video}-{copy}")
            for video, n in zip(videos, counts)
            for copy in range(n)
        ]
        return pd.concat(parts, ignore_index=True)

    found = one.detections[seed]
    # A draw's rows in the order of the table: copies of a row follow each other.
    found = pd.concat(
        [
            found.iloc[[k]].assign(video=f"{video}-{copy}")
            for k, video in enumerate(found["video"])
            for copy in range(counts[videos.index(video)])
        ],
        ignore_index=True,
    )
    return eval_detection.evaluate(
        drawn(one.truth),
        found,
        TIOUS,
        protocol,
        drawn(one.ambiguous) if len(one.ambiguous) else None,
    ).map


def test_comparison_of_two_groups_by_hand():
    """Three pairs of one class and one segment each in two videos: mAP 0.5 or 1."""
    truth = [("v1", 0, 10, "x"), ("v2", 0, 10, "x")]
    one, both = [("v1", 0, 10, "x", 0.9)], [("v1", 0, 10, "x", 0.9), ("v2", 0, 10, "x", 0.8)]
    a = group(truth, {1: one, 2: one, 3: both, 9: one}, name="A")
    b = group(truth, {1: both, 2: both, 3: both}, name="B", code="2")
    found = compare.compare(a, b, (0.5,), "activitynet", 200)
    column = found[0.5]
    assert compare.differences(a, b) == {"code": ("1", "2")}
    assert column["a"].tolist() == [0.5, 0.5, 1.0] and column["b"].tolist() == [1.0, 1.0, 1.0]
    assert column["difference"] == pytest.approx(1 / 3)
    t = (1 / 3) / (np.std([0.5, 0.5, 0], ddof=1) / 3**0.5)
    assert column["t"] == pytest.approx(1 - t / (2 + t * t) ** 0.5)
    # Draws give A (0, 0, 1), (0.5, 0.5, 1) or (1, 1, 1) and B 1: differences 2/3, 1/3, 0.
    assert column["videos"] == pytest.approx([0, 2 / 3])
    assert compare.table_of(found) == [
        ["mAP (%) at tIoU", "A", "B", "B - A", "t-test", "Wilcoxon", "videos"],
        ["0.5", "66.7 ± 28.9", "100.0 ± 0.0", "+33.3", "0.184", "-", "+0.0 to +66.7"],
    ]


# ---------------------------------------------------------------------------------------- command


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Runs of two gammas, two seeds each: (folder of A, folder of B)."""
    folder = tmp_path_factory.mktemp("compare")
    flags = write_set(folder / "data")
    flags[flags.index("--method") + 1 : flags.index("--untrimmednet-epochs")] = ["em-mil"]
    for name, gamma in (("before", "0"), ("after", "0.1")):
        for seed in ("1", "2"):
            run.main(
                flags
                + words("--seed {} --gamma {} --out {}", seed, gamma, folder / name / f"s{seed}")
            )
    return folder / "before", folder / "after"


def test_the_command_shows_what_the_runs_say(folders, tmp_path, capsys):
    before, after = folders
    reproduce.main(
        words("compare {} {} --resamples 50 --json {}", before, after / "s*", tmp_path / "out.json")
    )
    out = capsys.readouterr().out
    found = json.loads((tmp_path / "out.json").read_text())
    for side, folder in (("a", before), ("b", after)):
        for k in (0, 1):
            own = json.loads((folder / f"s{k + 1}" / "results.json").read_text())
            values = own["methods"]["em-mil"]["protocols"]["activitynet"]
            ours = [found["columns"][f"{tiou:g}"][side][k] for tiou in values["tious"]]
            assert ours == pytest.approx(values["map"], abs=1e-12)
            assert found["columns"]["0.3:0.7"][side][k] == pytest.approx(
                values["averages"]["0.3:0.7"]
            )
    assert found["differs"] == ["gamma: 0.0, 0.1"] and found["seeds"] == [1, 2]
    assert "They differ in (A, B): gamma: 0.0, 0.1" in out and "2 pairs of seeds: 1, 2" in out
    assert "recipe paper, but" in out and "bootstrap samples" in out


@pytest.mark.slow
def test_both_sides_are_of_the_first_localizer_of_a(tmp_path, capsys):
    flags = write_set(tmp_path / "data")
    at = flags.index("--method") + 1
    end = flags.index("--untrimmednet-epochs")
    for name, methods in (("a[1]", ["em-mil", "untrimmednet"]), ("b", ["untrimmednet", "em-mil"])):
        run.main([*flags[:at], *methods, *flags[end:], "--out", str(tmp_path / name)])
    capsys.readouterr()
    found = reproduce.main(
        ["compare", str(tmp_path / "a[1]"), str(tmp_path / "b"), "--resamples", "9"]
    )
    assert found["methods"] == ("em-mil", "em-mil")
    assert all(c["a"].tolist() == c["b"].tolist() for c in found["columns"].values())


@pytest.mark.slow
def test_two_methods_of_one_folder(tmp_path):
    flags = write_set(tmp_path / "data")  # em-mil and wtalc
    for seed in ("1", "2"):
        run.main([*flags, *words("--seed {} --out {}", seed, tmp_path / "runs" / seed)])
    argv = words("compare {} {} --resamples 9", tmp_path / "runs", tmp_path / "runs")
    found = reproduce.main([*argv, "--method", "em-mil", "wtalc"])
    for side, name in (("a", "em-mil"), ("b", "wtalc")):
        for k, seed in enumerate("12"):
            own = json.loads((tmp_path / "runs" / seed / "results.json").read_text())
            expected = own["methods"][name]["protocols"]["activitynet"]["map"]
            ours = [found["columns"][tiou][side][k] for tiou in (0.1, 0.5)]
            assert ours == pytest.approx([expected[0], expected[4]], abs=1e-12)
    assert found["differs"] == [] and found["seeds"] == [1, 2]


def test_folders_that_are_no_runs_are_passed_over(folders, tmp_path):
    """Of --evaluate and of the pages; named alone, such a folder is none."""
    shutil.copytree(folders[0] / "s1", tmp_path / "s1")
    run.main(words("--evaluate {} --lambda 0.9 --out {}", tmp_path / "s1", tmp_path / "again"))
    (tmp_path / "reproduce-table1-demo").mkdir()
    assert set(compare.read_group(tmp_path).detections) == {1}
    with pytest.raises(InputError) as caught:
        compare.read_group(tmp_path / "again")
    assert caught.value.found == "no finished run"


@pytest.mark.parametrize(
    "videos, classes, few", [(60, 12, 0), (59, 6, 1), (60, 13, 1), (200, 20, 0)]
)
def test_few_test_videos_are_told(videos, classes, few):
    truth = [(f"v{k}", 0, 1, f"c{k % classes}") for k in range(videos)]
    assert bool(compare.few_videos(group(truth, {1: []}).truth)) == few


@pytest.mark.parametrize(
    "a, b, line",
    [
        ("nowhere", "after", "nowhere: found no finished run, expected at least one"),
        ("*/s1", "after", "found other gamma: 0.1, 0.0 than in "),
        ("before/s1", "after/s2", "found seeds 2, expected some of A's: 1"),
    ],
)
def test_groups_that_cannot_be_compared_are_one_line(folders, capsys, a, b, line):
    root = folders[0].parent
    code, error = stops(["compare", root / a, root / b], capsys, reproduce.main)
    last = error.strip().splitlines()[-1]
    assert code == 2 and last.startswith("error: ") and line in last


def differs(capsys, a, b):
    """What the command says, and its JSON holds, about two sides."""
    found = reproduce.main(words("compare {} {} --resamples 9", a, b))["differs"]
    said = "; ".join(found) or "nothing that is recorded"
    assert f"They differ in (A, B): {said}\n" in capsys.readouterr().out
    return found


@pytest.mark.slow
def test_runs_on_other_features_are_told_apart(folders, tmp_path, capsys):
    """The same videos and segments, features with noise."""
    o = json.loads((folders[0] / "s1" / "opts.json").read_text())
    data = shutil.copytree(Path(o["features"]).parent, tmp_path / "data")
    with h5py.File(data / "features.h5", "a") as file:
        file["video_00/rgb"][0, 0] += 1
    for name, features in (("same", o["features"]), ("noisy", data / "features.h5")):
        flags = words("--config {} --features {}", folders[0] / "s1" / "opts.json", features)
        run.main([*flags, "--out", str(tmp_path / name)])
    assert differs(capsys, folders[0] / "s1", tmp_path / "same") == []
    (line,) = differs(capsys, folders[0] / "s1", tmp_path / "noisy")
    assert re.fullmatch("data: [0-9a-f]{16}, [0-9a-f]{16}", line)


def changed_record(folder, **values):
    """Puts other values into the record of a run."""
    (made,) = record.made_with(folder)
    (folder / run_folder.RECORDS).write_text(json.dumps([{**made, **values}]))
    return folder, made


@pytest.mark.parametrize(
    "name, value",
    [
        ("processes", 2),
        ("device", "cuda"),
        ("capability", "NONE"),
        ("processor", "Z80"),
        ("threads", 64),
        ("machine", "another"),
    ],
)
def test_another_machine_is_told(folders, tmp_path, capsys, name, value):
    copy = shutil.copytree(folders[0] / "s1", tmp_path / "s1")
    _, made = changed_record(copy, **{name: value})
    assert differs(capsys, folders[0] / "s1", copy) == [f"{name}: {made[name]}, {value}"]


def test_runs_of_one_side_may_differ_in_rounding_alone(folders, tmp_path, capsys):
    for seed in ("s1", "s2"):
        copy, made = changed_record(shutil.copytree(folders[0] / seed, tmp_path / seed))
    changed_record(copy, threads=64)
    assert differs(capsys, folders[0], tmp_path) == [f"threads: {made['threads']}, 1 and 64"]
    changed_record(copy, device="cuda")
    with pytest.raises(InputError, match="s2: found other device: cpu, cuda than in .*s1"):
        compare.read_group(tmp_path)


def test_another_schedule_is_told(folders, tmp_path, capsys):
    copy, made = changed_record(shutil.copytree(folders[0] / "s1", tmp_path / "s1"))
    assert [row[:2] for row in made["phases"][:4]] == [["M", 2], ["E", 2], ["M", 1], ["E", 1]]
    swapped = [*made["phases"][:2], *made["phases"][3:1:-1], *made["phases"][4:]]
    changed_record(copy, phases=swapped)
    assert differs(capsys, folders[0] / "s1", copy) == [
        "phase 3: M 1 0.0001 frozen, E 1 0.0001 frozen"
    ]


@pytest.mark.parametrize(
    "flags, line",
    [
        (["--tiou", "2"], "tIoU: found [2.0], expected thresholds in (0, 1]"),
        (["--resamples", "0"], "--resamples: found 0, expected a number from 1 on"),
    ],
)
def test_bad_options_are_one_line(folders, capsys, flags, line):
    code, error = stops(["compare", *folders, *flags], capsys, reproduce.main)
    assert code == 2 and error.strip().splitlines()[-1] == f"error: {line}"


def test_a_seed_twice_is_refused(folders, tmp_path):
    for name in ("one", "two"):
        shutil.copytree(folders[0] / "s1", tmp_path / name)
    with pytest.raises(InputError, match="found seed 1 a second time"):
        compare.read_group(tmp_path)
    with pytest.raises(InputError, match="found em-mil, expected a run with --method wtalc"):
        compare.read_group(tmp_path / "one", "wtalc")
