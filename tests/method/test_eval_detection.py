"""The three protocols against the official programs' numbers, cases worked out by hand, and
literal loops."""

import json
import os
import random
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from places import ROOT, SHARED, python
from rows import detections, ground_truth

import eval_detection
from eval_detection import (
    PROTOCOLS,
    average_recall,
    averages,
    classes_to_show,
    classification_metrics,
    detection_kinds,
    error_profile,
    evaluate,
    score,
    video_ap,
)
from formats.detections import write_detections

DATA = SHARED / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"no published annotations in {DATA}")


def read_table(path):
    return pd.read_csv(
        path,
        dtype={"video": str, "label": str},
        keep_default_na=False,
        float_precision="round_trip",
    )


# ------------------------------------------------------------------ the official programs' numbers


@pytest.mark.parametrize("name", ["thumos14_a", "thumos14_b", "activitynet12_a"])
@pytest.mark.parametrize(
    "protocol, key, tolerance",
    [
        ("activitynet", "activitynet", 1e-9),
        ("thumos-2015", "thumos_20150930", 1e-6),
        ("thumos-2014", "thumos_2014", 1e-6),
    ],
)
def test_golden_sets(golden_sets, name, protocol, key, tolerance):
    expected = json.loads((golden_sets / name / "expected.json").read_text())
    if key not in expected:
        assert name == "activitynet12_a"
        return
    kind = name.split("_")[0]
    truth, found = (
        read_table(golden_sets / f"{kind}_ground_truth.csv"),
        read_table(golden_sets / name / "detections.csv"),
    )
    ambiguous = None
    if kind == "thumos14":
        ambiguous = read_table(golden_sets / "thumos14_ambiguous.csv")
    result = evaluate(
        truth, found, expected[key].get("tiou", expected["tiou"]), protocol, ambiguous
    )
    assert list(result.classes) == expected["classes"]
    np.testing.assert_allclose(result.ap, expected[key]["ap"], rtol=0, atol=tolerance)
    np.testing.assert_allclose(result.map, expected[key]["map"], rtol=0, atol=tolerance)


def test_ties_as_in_the_official_kits(golden_sets):
    """Equal tIoU, equal scores and repeated rows; null where the kit itself stops."""
    compared = 0
    for case in json.loads((golden_sets / "thumos_ties_a.json").read_text()):
        ambiguous = pd.DataFrame(case["ambiguous"], columns=["video", "t_start", "t_end"])
        tables = ground_truth(*case["ground_truth"]), detections(*case["detections"])
        for protocol, expected in case["ap"].items():
            result = evaluate(*tables, case["tiou"], protocol, ambiguous, case["classes"])
            expected = np.array(expected, dtype=float)
            known = ~np.isnan(expected)
            np.testing.assert_allclose(result.ap[known], expected[known], rtol=0, atol=1e-11)
            compared += known.sum()
    assert compared == 652


# ------------------------------------------------------------------------------------- small cases

# name: truth, detections, Ambiguous segments; AP of each of PROTOCOLS
CASES = {
    "a better one with a lower score": ("a 0 10", "a 0 6 0.9; a 0 10 0.5", "", (1, 1 / 2, 1 / 2)),
    # activitynet: row order, FP TP FP TP: precision 1/2 at both hits
    "all scores equal": (
        "a 10 20; b 10 20",
        "a 0 5 1; a 10 20 1; b 0 5 1; b 10 20 1",
        "",
        (1 / 2, 1, 1 / 2),
    ),
    "tIoU at the threshold": ("a 0 10", "a 0 5 1", "", (1, 0, 0)),
    "a false positive on Ambiguous": (
        "a 0 10",
        "a 22 28 0.9; a 0 10 0.5",
        "a 20 30",
        (1 / 2, 1, 1),
    ),
    "a true positive on Ambiguous": ("a 0 10", "a 0 10 0.9", "a 9 12", (1, 1, 1)),
    "a false positive in a third video": (
        "a 0 10; b 0 10",
        "c 0 10 0.9; a 0 10 0.8; b 0 10 0.7",
        "",
        (2 / 3, 2 / 3, (1 / 2 + 2 / 3) / 2),
    ),
    "half of the ground truth": ("a 0 10; b 0 10", "a 0 10 1", "", (1 / 2, 6 / 11, 1 / 2)),
    "a duplicate": (
        "a 0 10; b 0 10",
        "a 0 10 0.9; a 0 10 0.8; b 0 10 0.7",
        "",
        (1 / 2 + 1 / 3, (6 + 5 * 2 / 3) / 11, 1 / 2 + 1 / 3),
    ),
    # activitynet: the second takes what is left, [4, 20] at tIoU 0.5
    "the second best that is free": ("a 0 10; a 4 20", "a 0 10 0.9; a 2 14 0.8", "", (1, 1, 1)),
    "only touching Ambiguous": ("a 0 10", "a 10 20 0.9; a 0 10 0.5", "a 20 30", (0.5, 0.5, 0.5)),
    "Ambiguous of another video": ("a 0 10", "a 20 30 0.9; a 0 10 0.5", "b 20 30", (0.5, 0.5, 0.5)),
    "nothing detected": ("a 0 10", "", "a 20 30", (0, 0, 0)),
    "a zero-length detection": ("a 0 10", "a 5 5 0.9; a 0 10 0.5", "", (0.5, 0.5, 0.5)),
    # activitynet: 0 / 0 is not below the threshold; a second one finds nothing free
    "a zero-length ground truth": (
        "a 5 5; a 0 10",
        "a 5 5 0.9; a 0 10 0.8",
        "",
        (1, 6 / 2 / 11, 1 / 4),
    ),
    "a zero-length ground truth elsewhere": ("a 5 5", "a 0 10 0.9; a 7 7 0.8", "", (1 / 2, 0, 0)),
    "two zero-length detections": ("a 5 5; a 0 10", "a 5 5 0.9; a 5 5 0.8", "", (1 / 2, 0, 0)),
    "equal segments": ("a 0 10; a 0 10", "a 0 10 0.9; a 0 10 0.8", "", (1, 1, 1)),
}


def segments_of(text):
    """Rows (video, start, end[, score]) of "a 0 10; b 0 10"."""
    return [(row[0], *map(float, row[1:])) for row in map(str.split, text.split(";")) if row]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_small_cases(name, protocol):
    *texts, expected = CASES[name]
    truth, found, ambiguous = map(segments_of, texts)
    truth = ground_truth(*[(*row, "x") for row in truth])
    found = detections(*[(*row[:3], "x", row[3]) for row in found])
    ambiguous = pd.DataFrame(ambiguous, columns=["video", "t_start", "t_end"])
    result = evaluate(truth, found, [0.5], protocol, ambiguous)
    assert result.ap.shape == (1, 1)
    assert result.ap[0, 0] == pytest.approx(expected[PROTOCOLS.index(protocol)], abs=1e-12)


def test_equal_overlap_takes_the_later_ground_truth():
    """[0, 10] overlaps both halves by 0.5; having taken [5, 10], it leaves [0, 5] to the
    second detection."""
    truth = ground_truth(("a", 0, 5, "x"), ("a", 5, 10, "x"))
    first = detections(("a", 0, 10, "x", 0.9), ("a", 0, 5, "x", 0.8))
    second = detections(("a", 0, 10, "x", 0.9), ("a", 5, 10, "x", 0.8))
    assert evaluate(truth, first, 0.5).map[0] == 1
    assert evaluate(truth, second, 0.5).map[0] == 0.5


def test_equal_overlap_takes_the_detection_with_the_higher_score_in_thumos():
    truth = ground_truth(("a", 0, 10, "x"))
    # tIoU 0.8 both
    found = detections(("a", 0, 8, "x", 0.1), ("a", 2, 10, "x", 0.9))
    for protocol in ("thumos-2014", "thumos-2015"):
        assert evaluate(truth, found, 0.5, protocol).map[0] == 1
        assert evaluate(truth, found[::-1], 0.5, protocol).map[0] == 1


def test_equal_overlap_and_score_take_the_earlier_detection_in_thumos():
    """[0, 10] takes the earlier row of two with tIoU 0.8; [0, 6] finds only [0, 8] near enough."""
    truth = ground_truth(("a", 0, 10, "x"), ("a", 0, 6, "x"))
    found = detections(("a", 2, 10, "x", 0.5), ("a", 0, 8, "x", 0.5))
    for protocol in ("thumos-2014", "thumos-2015"):
        assert evaluate(truth, found, 0.7, protocol).map[0] == 1
        assert evaluate(truth, found[::-1], 0.7, protocol).map[0] < 1


def test_thumos_ground_truths_choose_in_row_order():
    """Whoever chooses first takes the detection that both want, and the other may be left
    with too little."""
    found = detections(("a", 0, 10, "x", 0.9), ("a", 2, 10, "x", 0.8))
    # [0, 9] takes [0, 10] (0.9); [0, 10] gets [2, 10] (0.8)
    greedy = ground_truth(("a", 0, 9, "x"), ("a", 0, 10, "x"))
    assert evaluate(greedy, found, 0.75, "thumos-2015").map[0] == 1
    # [0, 10] takes its equal; [0, 9] is left with 0.7
    other = ground_truth(("a", 0, 10, "x"), ("a", 0, 9, "x"))
    assert evaluate(other, found, 0.75, "thumos-2015").map[0] == 0.5


def test_ties_follow_rows_in_activitynet_and_videos_in_thumos_2015():
    truth = ground_truth(("a", 0, 10, "x"), ("b", 0, 10, "x"))
    good_last = detections(("b", 50, 60, "x", 0.5), ("a", 0, 10, "x", 0.5))
    assert evaluate(truth, good_last, 0.5).map[0] == 0.25
    assert evaluate(truth, good_last, 0.5, "thumos-2015").map[0] == 0.5
    assert evaluate(truth, good_last[::-1], 0.5).map[0] == 0.5
    assert evaluate(truth, good_last[::-1], 0.5, "thumos-2015").map[0] == 0.5


# -------------------------------------------------------------------------------- literal programs


def overlap(protocol, a, b):
    shared = max(min(a[1], b[1]) - max(a[0], b[0]), 0)
    if protocol == "activitynet":
        whole = (a[1] - a[0]) + (b[1] - b[0]) - shared
        return shared / whole if whole else float("nan")
    return shared / (max(a[1], b[1]) - min(a[0], b[0])) if shared else 0.0


def literal_ap(protocol, truth, found, ambiguous, threshold):
    """AP of one class by plain loops. truth, ambiguous [(video, start, end)], found
    [(video, start, end, score)]."""
    if protocol == "activitynet":
        taken, flags = set(), []
        for video, start, end, _ in sorted(found, key=lambda d: -d[3]):
            mine = [i for i, g in enumerate(truth) if g[0] == video]
            tious = [overlap(protocol, (start, end), truth[i][1:]) for i in mine]
            flag = False
            for k in np.argsort(tious, kind="stable")[::-1]:  # NaN first
                if tious[k] < threshold:
                    break
                if mine[k] not in taken:
                    taken.add(mine[k])
                    flag = True
                    break
            flags.append(flag)
        precision, recall, hits = [0.0], [0.0], 0
        for n, flag in enumerate(flags, start=1):
            hits += flag
            precision.append(hits / n)
            recall.append(hits / len(truth))
        precision, recall = precision + [0.0], recall + [1.0]
        for i in reversed(range(len(precision) - 1)):
            precision[i] = max(precision[i], precision[i + 1])
        return sum((recall[i] - recall[i - 1]) * precision[i] for i in range(1, len(recall)))

    rows = []  # (score, is a hit), video by video
    for video in sorted({d[0] for d in found}):
        mine = sorted((d for d in found if d[0] == video), key=lambda d: -d[3])
        free = [True] * len(mine)
        for g in (g for g in truth if g[0] == video):
            best, which = -1.0, None
            for i, d in enumerate(mine):
                if free[i] and overlap(protocol, g[1:], d[1:3]) > best:
                    best, which = overlap(protocol, g[1:], d[1:3]), i
            if best > threshold:
                free[which] = False
        for i, d in enumerate(mine):
            if not free[i]:
                rows.append((d[3], True))
            elif not any(a[0] == video and overlap(protocol, a[1:], d[1:3]) > 0 for a in ambiguous):
                rows.append((d[3], False))
    if protocol == "thumos-2014":
        rows = [row for row in rows if row[1]] + [row for row in rows if not row[1]]
    hits, points = 0, []  # (precision, recall, is a hit)
    for n, (_, flag) in enumerate(sorted(rows, key=lambda row: -row[0]), start=1):
        hits += flag
        points.append((hits / n, hits / len(truth), flag))
    if protocol == "thumos-2015":
        return sum(precision for precision, _, flag in points if flag) / len(truth)
    return (
        sum(max([p for p, recall, _ in points if recall >= 0.1 * k], default=0) for k in range(11))
        / 11
    )


def random_tables(seed):
    """Small tables on a coarse grid: ties of score and tIoU, duplicates, classes and videos
    known to one side only."""
    rng = random.Random(seed)
    n_videos, n_classes, grid = rng.randint(1, 4), rng.randint(1, 3), rng.choice([4, 8, 20])

    def segment():
        start, end = sorted((rng.randint(0, grid), rng.randint(0, grid)))
        return start / 2, end / 2

    def rows(n, extra, score):
        found = []
        for _ in range(n):
            if found and rng.random() < 0.1:
                found.append(rng.choice(found))
                continue
            row = (
                f"v{rng.randrange(n_videos + extra)}",
                *segment(),
                f"c{rng.randrange(n_classes + extra)}",
            )
            found.append(row + ((rng.randint(0, 4) / 4,) if score else ()))
        return found

    ambiguous = [row[:3] for row in rows(rng.randint(0, 3), 0, False)]
    return rows(rng.randint(1, 25), 0, False), rows(rng.choice([0, 10, 40, 60]), 1, True), ambiguous


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_random_tables_against_literal_loops(protocol):
    tious = [0.1, 0.25, 0.5, 0.75, 1.0]
    hits = 0
    for seed in range(150):
        truth, found, ambiguous = random_tables(seed)
        result = evaluate(
            ground_truth(*truth),
            detections(*found),
            tious,
            protocol,
            pd.DataFrame(ambiguous, columns=["video", "t_start", "t_end"]),
        )
        assert result.classes == tuple(sorted({row[3] for row in truth}))
        expected = [
            [
                literal_ap(
                    protocol,
                    [row[:3] for row in truth if row[3] == label],
                    [(*row[:3], row[4]) for row in found if row[3] == label],
                    ambiguous,
                    threshold,
                )
                for label in result.classes
            ]
            for threshold in tious
        ]
        np.testing.assert_allclose(result.ap, expected, rtol=0, atol=1e-12, err_msg=f"seed {seed}")
        np.testing.assert_allclose(result.map, np.mean(expected, axis=1), rtol=0, atol=1e-12)
        hits += np.count_nonzero(result.ap)
    assert hits > 300  # the tables are not all misses


def test_serial_choice_is_taking_turns():
    rng = np.random.default_rng(0)
    for _ in range(200):
        n_choosers, n_chosen = rng.integers(1, 12, size=2)
        wishes = [
            rng.permutation(n_chosen)[: rng.integers(0, n_chosen + 1)] for _ in range(n_choosers)
        ]
        chooser = np.repeat(np.arange(n_choosers), [len(w) for w in wishes])
        chosen = np.concatenate(wishes)
        taken, turns = set(), set()
        for k, wish in enumerate(wishes):
            left = [item for item in wish if item not in taken]
            if left:
                taken.add(left[0])
                turns.add((k, left[0]))
        made = eval_detection.serial_choice(chooser, chosen)
        assert {(chooser[i], chosen[i]) for i in made} == turns and len(made) == len(turns)


def test_pairs_in_small_chunks_change_nothing(monkeypatch):
    tables = [
        (ground_truth(*truth), detections(*found))
        for truth, found, _ in map(random_tables, range(20))
    ]
    whole = [evaluate(*pair, [0.1, 0.5]).ap for pair in tables]
    monkeypatch.setattr(eval_detection, "PAIRS_AT_ONCE", 3)
    for pair, ap in zip(tables, whole):
        np.testing.assert_array_equal(evaluate(*pair, [0.1, 0.5]).ap, ap)
    assert sum(ap.any() for ap in whole) > 10


# ----------------------------------------------------------------------------- classes, bad tables

TRUTH = ground_truth(("a", 0, 10, "run"), ("a", 20, 30, "jump"), ("b", 0, 10, "run"))
FOUND = detections(("a", 0, 10, "run", 0.9), ("b", 0, 10, "run", 0.8), ("b", 0, 10, "swim", 0.7))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_classes_without_detections_count_and_classes_without_ground_truth_do_not(protocol):
    result = evaluate(TRUTH, FOUND, [0.5, 0.7], protocol)
    assert result.classes == ("jump", "run")
    np.testing.assert_allclose(result.ap, [[0, 1], [0, 1]])
    np.testing.assert_allclose(result.map, [0.5, 0.5])
    assert result.n_segments.tolist() == [1, 2]
    assert result.counts == {
        "videos": 2,
        "segments": 3,
        "classes": 2,
        "detections": 2,
        "unscored_detections": 1,
    }


def test_given_classes_keep_their_order():
    result = evaluate(TRUTH, FOUND, [0.5], classes=["swim", "run", "jump"])
    assert result.classes == ("swim", "run", "jump")
    np.testing.assert_array_equal(result.ap, [[np.nan, 1, 0]])
    assert result.map.tolist() == [0.5]
    assert result.counts["unscored_detections"] == 1
    assert evaluate(TRUTH, FOUND, [0.5], classes=["run"]).map.tolist() == [1]
    assert evaluate(TRUTH, FOUND, [0.5], classes=["run"]).counts["videos"] == 2


def test_tables_are_left_alone_and_index_and_columns_may_be_any():
    truth, found = TRUTH.copy(), FOUND.copy()
    truth.index, found.index = [7, 7, 7], [9, 1, 1]
    found = found[["score", "label", "video", "t_end", "t_start"]].assign(note="x")
    before = truth.copy(), found.copy()
    assert evaluate(truth, found, [0.5]).map.tolist() == [0.5]
    pd.testing.assert_frame_equal(truth, before[0])
    pd.testing.assert_frame_equal(found, before[1])


def bad(table, **columns):
    table = table.astype({name: object for name in columns})
    for name, value in columns.items():
        table.iloc[1, table.columns.get_loc(name)] = value
    return table


@pytest.mark.parametrize(
    "truth, found, options, words",
    [
        (
            TRUTH,
            bad(FOUND, score=float("nan")),
            {},
            ["detections", "b", "row 2", "score nan", "finite"],
        ),
        (TRUTH, bad(FOUND, score=float("inf")), {}, ["score inf"]),
        (TRUTH, bad(FOUND, score="high"), {}, ["score that is no number"]),
        (TRUTH, bad(FOUND, t_end=-1), {}, ["detections: b", "end -1 before start 0"]),
        (bad(TRUTH, t_end=1), FOUND, {}, ["ground truth: a", "end 1 before start 20"]),
        (bad(TRUTH, t_start=float("nan")), FOUND, {}, ["ground truth: a", "t_start nan"]),
        (bad(TRUTH, label=None), FOUND, {}, ["no label", "row 2"]),
        (TRUTH, bad(FOUND, video=None), {}, ["no video", "row 2"]),
        (TRUTH, FOUND.drop(columns="score"), {}, ["expected also score"]),
        (
            TRUTH,
            FOUND.assign(video=[1, 2, 3]),
            {},
            ["videos such as 1, 2, 3,", "videos such as 'a', 'b'"],
        ),
        (TRUTH, FOUND.assign(video="v_" + FOUND["video"]), {}, ["'v_a', 'v_b'", "'a', 'b'"]),
        (
            TRUTH,
            FOUND.assign(label=FOUND["label"].str.upper()),
            {},
            ["labels such as 'RUN', 'SWIM',", "labels such as 'run', 'jump'"],
        ),
        (TRUTH[:0], FOUND, {}, ["ground truth", "no segment"]),
        (TRUTH, FOUND, {"classes": ["swim"]}, ["ground truth", "no segment"]),
        (TRUTH, FOUND, {"classes": ["run", "jump", "run"]}, ["1 duplicate"]),
        (TRUTH, FOUND, {"protocol": "thumos"}, ["'thumos'", "thumos-2014"]),
        (TRUTH, FOUND, {"tious": [0.5, 1.5]}, ["1.5", "(0, 1]"]),
        (TRUTH, FOUND, {"tious": [0]}, ["(0, 1]"]),
        (TRUTH, FOUND, {"tious": []}, ["(0, 1]"]),
        (
            TRUTH,
            FOUND,
            {"protocol": "thumos-2015", "ambiguous": bad(TRUTH, t_end=1)},
            ["Ambiguous segments: a", "before"],
        ),
    ],
)
def test_bad_tables_give_one_line(truth, found, options, words):
    options = {"tious": [0.5], **options}
    with pytest.raises(ValueError) as error:
        evaluate(truth, found, **options)
    message = str(error.value)
    assert "\n" not in message and all(word in message for word in words), message


def test_names_are_refused_only_where_none_is_known():
    for found in (FOUND[:0], FOUND.assign(video=["a", 1, 2]), FOUND.assign(label="jump")):
        assert evaluate(TRUTH, found, 0.5).map[0] <= 0.5
    assert evaluate(TRUTH, FOUND.assign(label="swim"), 0.5, classes=["jump"]).map[0] == 0
    strangers = FOUND.assign(video="elsewhere"), FOUND.assign(label="swim")
    assert [score(TRUTH, found, 0.5).ap.tolist() for found in strangers] == [[[0, 0]]] * 2


def test_averages():
    tious = np.arange(1, 8) / 10
    values = np.array([0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1])
    assert averages(tious, values) == pytest.approx(
        {"all": 0.4, "0.1:0.5": 0.5, "0.3:0.7": 0.3, "0.1:0.7": 0.4}
    )
    assert averages(tious[2:], values[2:]) == pytest.approx({"all": 0.3, "0.3:0.7": 0.3})
    assert averages([0.5, 0.75, 0.95], [0.3, 0.2, 0.1]) == pytest.approx({"all": 0.2})
    assert averages(tious[::-1], values[::-1])["0.1:0.5"] == pytest.approx(0.5)


# ------------------------------------------------------------------------ recall and error profile


def test_average_recall_by_hand():
    truth = ground_truth(
        ("a", 0, 10, "x"), ("a", 20, 30, "y"), ("b", 0, 10, "x"), ("c", 0, 10, "x")
    )
    found = detections(
        ("a", 0, 6, "z", 0.9),
        ("a", 20, 30, "x", 0.8),
        ("b", 50, 60, "x", 0.7),
        ("b", 0, 10, "x", 0.6),
    )
    # N=1: [0, 6] finds one of four at tIoU 0.5 only; N=2: also [20, 30] and b's [0, 10], at
    # both thresholds
    expected = [1 / 8, (3 / 4 + 2 / 4) / 2, 5 / 8]
    np.testing.assert_allclose(average_recall(truth, found, (1, 2, 100), (0.5, 0.9)), expected)
    assert average_recall(truth, found[:0], (1,), (0.5,)).tolist() == [0]


def test_average_recall_against_a_loop():
    for seed in range(40):
        truth, found, _ = random_tables(seed)
        numbers, tious = (1, 2, 5), (0.25, 0.5, 1.0)
        expected = []
        for n in numbers:
            best = {}
            for video in {row[0] for row in found}:
                best[video] = sorted((d for d in found if d[0] == video), key=lambda d: -d[4])[:n]
            expected.append(
                np.mean(
                    [
                        any(overlap("activitynet", g[1:3], d[1:3]) >= t for d in best.get(g[0], []))
                        for g in truth
                        for t in tious
                    ]
                )
            )
        np.testing.assert_allclose(
            average_recall(ground_truth(*truth), detections(*found), numbers, tious), expected
        )


def test_error_profile_by_hand():
    truth = ground_truth(("a", 0, 10, "x"), ("a", 20, 30, "y"), ("a", 40, 50, "x"))
    found = detections(
        ("a", 0, 10, "x", 0.9),  # true positive
        ("a", 0, 9, "x", 0.8),  # double detection
        ("a", 0, 3, "x", 0.7),  # localization, tIoU 0.3
        ("a", 20, 30, "x", 0.6),  # wrong label
        ("a", 20, 23, "x", 0.5),  # confusion
        ("a", 60, 70, "x", 0.4),  # background
        ("a", 29.5, 60, "x", 0.3),  # localization: 10/30.5 of x, 0.5/40 of y
        ("b", 0, 10, "x", 0.2),  # background: nothing in this video
        ("a", 0, 10, "w", 0.1),  # a class without ground truth: not counted
    )
    expected = {
        "true positive": 1,
        "double detection": 1,
        "localization": 2,
        "wrong label": 1,
        "confusion": 1,
        "background": 2,
        "ignored": 0,
        "missed segments": 2,
    }
    assert error_profile(truth, found) == expected
    ambiguous = ground_truth(("a", 65, 80, "Ambiguous"), ("b", 9, 10, "Ambiguous"))
    assert error_profile(truth, found, ambiguous=ambiguous) == expected
    assert error_profile(truth, found, 0.5, "thumos-2015", ambiguous) == {
        **expected,
        "background": 0,
        "ignored": 2,
    }


def test_error_profile_counts_every_detection_once():
    for seed in range(40):
        truth, found, _ = random_tables(seed)
        truth, found = ground_truth(*truth), detections(*found)
        profile = error_profile(truth, found)
        missed = profile.pop("missed segments")
        assert sum(profile.values()) == found["label"].isin(truth["label"]).sum()
        assert profile["true positive"] + missed == len(truth)
    profile = error_profile(TRUTH, FOUND[:0])
    assert profile.pop("missed segments") == 3 and not any(profile.values())


def test_detection_kinds_by_hand():
    truth = ground_truth(
        ("b", 20, 30, "y"), ("a", 40, 50, "x"), ("b", 0, 10, "x"), ("a", 0, 10, "z")
    )
    found = detections(
        ("a", 60, 70, "x", 0.95),  # background
        ("b", 0, 9, "x", 0.8),  # double detection of a better one
        ("a", 0, 10, "w", 0.7),  # a class without ground truth
        ("b", 0, 10, "x", 0.9),  # true positive
        ("b", 20, 30, "x", 0.6),  # wrong label
        ("b", 20, 23, "y", 0.5),  # localization, tIoU 0.3
        ("b", 20, 23, "x", 0.4),  # confusion
    )
    kinds, hit = detection_kinds(truth, found)
    assert kinds.tolist() == [
        "background",
        "double detection",
        "",
        "true positive",
        "wrong label",
        "localization",
        "confusion",
    ]
    assert hit.tolist() == [False, False, True, False]
    kinds, hit = detection_kinds(truth, found, 0.3)
    assert kinds[5] == "true positive" and hit.tolist() == [True, False, True, False]
    ambiguous = ground_truth(("a", 65, 80, "Ambiguous"))
    assert detection_kinds(truth, found, 0.5, "thumos-2015", ambiguous)[0][0] == "ignored"


def test_found_segments_are_as_many_as_true_positives():
    for seed in range(40):
        truth, found, ambiguous = random_tables(seed)
        for protocol in PROTOCOLS:
            kinds, hit = detection_kinds(ground_truth(*truth), detections(*found), 0.4, protocol)
            assert hit.sum() == np.count_nonzero(kinds == "true positive")
            for label in {row[3] for row in truth}:
                own = [k for k, row in enumerate(truth) if row[3] == label]
                assert hit[own].sum() == sum(
                    kind == "true positive" and row[3] == label for kind, row in zip(kinds, found)
                )


def test_video_ap_by_hand():
    truth = ground_truth(
        ("a", 0, 10, "x"),
        ("a", 20, 30, "x"),
        ("a", 40, 50, "y"),
        ("b", 0, 10, "x"),
        ("c", 0, 10, "x"),
    )
    found = detections(
        ("a", 60, 70, "x", 0.9),  # of a, x: a miss before the hit, one of two found: 1/2 * 1/2
        ("a", 0, 10, "x", 0.8),
        ("a", 40, 50, "y", 0.1),  # of a, y: 1
        ("b", 0, 10, "x", 0.05),  # of b: 1, whatever stands in other videos
        ("b", 0, 10, "y", 0.9),  # a class that b does not have
        ("d", 0, 10, "x", 0.9),  # a video without ground truth
    )
    assert video_ap(truth, found) == {"a": (1 / 4 + 1) / 2, "b": 1, "c": 0}
    assert video_ap(truth, found[:0]) == {"a": 0, "b": 0, "c": 0}
    assert video_ap(truth, found[4:]) == {"a": 0, "b": 0, "c": 0}


# ---------------------------------------------------------------------- video-level classification


def test_classification_metrics_by_hand():
    found = np.array([[0.9, 0.1, 0.0], [0.8, 0.7, 0.0], [0.4, 0.3, 0.0], [0.2, 0.6, 0.0]])
    labels = np.array([[1, 0, 0], [0, 0, 0], [1, 1, 0], [0, 1, 0]])
    mean, top1 = classification_metrics(found, labels)
    # class 0 ranks + - + -: (1/1 + 2/3) / 2; class 1 ranks - + + -: (1/2 + 2/3) / 2; class
    # 2 has no video
    assert mean == pytest.approx((5 / 6 + 7 / 12) / 2)
    assert top1 == 1  # video 1 has no label and is left out
    assert classification_metrics(1 - found[:, :2], labels[:, :2])[1] == pytest.approx(1 / 3)


def test_video_level_ap_does_not_depend_on_the_order_of_ties():
    labels = np.array([[1], [0], [1], [0]])
    for order in ([0, 1, 2, 3], [1, 0, 3, 2], [3, 2, 1, 0]):
        # one threshold at 0.5 (recall 1/2, precision 1/2), one at 0.1 (recall 1, precision 1/2)
        found = np.array([[0.5], [0.5], [0.1], [0.1]])
        assert classification_metrics(found[order], labels[order])[0] == pytest.approx(0.5)
    assert classification_metrics(np.zeros((4, 1)), labels)[0] == pytest.approx(0.5)


def test_classification_metrics_of_the_oracle_and_of_nothing():
    labels = np.array([[1, 1], [0, 1], [0, 0]])
    assert classification_metrics(labels, labels)[:2] == (1, 1)
    assert np.isnan(classification_metrics(np.zeros((2, 2)), np.zeros((2, 2)))[:2]).all()


# ------------------------------------------------------------------------------------- the command


@pytest.fixture
def files(tmp_path):
    """Ground truth with a training subset, and detections: jump missed, run found once of twice."""
    database = {
        "a": ("testing", [("run", [0, 10]), ("jump", ["20", "30.0"])]),
        "b": ("testing", [("run", [0, 10])]),
        "c": ("training", [("swim", [0, 5])]),
        "d": ("testing", []),
    }
    (tmp_path / "gt.json").write_text(
        json.dumps(
            {
                "database": {
                    video: {
                        "subset": subset,
                        "annotations": [{"label": label, "segment": s} for label, s in segments],
                    }
                    for video, (subset, segments) in database.items()
                }
            }
        )
    )
    write_detections(
        detections(("a", 0, 10, "run", 0.9), ("a", 20, 30, "run", 0.8), ("c", 0, 5, "swim", 0.7)),
        tmp_path / "found.csv",
    )
    return tmp_path


def command(capsys, *argv):
    results = eval_detection.main([str(word) for word in argv])
    return results, capsys.readouterr().out


def failure(capsys, *argv):
    with pytest.raises(SystemExit) as stop:
        eval_detection.main([str(word) for word in argv])
    streams = capsys.readouterr()
    assert stop.value.code == 2
    assert all(line.startswith("warning: ") for line in streams.out.splitlines())
    assert streams.err.startswith("error: ") and streams.err.count("\n") == 1
    return streams.err


def test_command_prints_what_was_scored(files, capsys):
    results, out = command(
        capsys,
        *(files / "gt.json", files / "found.csv", "--json", files / "out.json"),
        *"--tiou 0.5 0.75 --per-class".split(),
    )
    assert "subset testing" in out and "3 videos, 2 of them with 3 segments, 2 classes" in out
    assert "3 in 2 videos" in out and "1 in videos outside the subset" in out
    assert "protocol      activitynet\n" in out
    table = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line}
    assert table["activitynet"] == ["25.00", "25.00", "|", "25.00"]
    assert table["run"] == ["50.00", "50.00", "2"] and table["jump"] == ["0.00", "0.00", "1"]
    assert "1 true positive" in out and "1 wrong label" in out and "2 missed segments" in out
    assert "AR@1 33.33" in out and "AR@5 66.67" in out
    assert json.loads((files / "out.json").read_text()) == results
    assert results["protocols"]["activitynet"]["map"] == [0.25, 0.25]
    assert results["segments_per_class"] == [1, 2] and results["unscored_detections"] == 1


def test_command_with_all_protocols_and_ambiguous(files, capsys):
    (files / "ambiguous.txt").write_text("a 25.0 26.0\n")
    (files / "ambiguous.csv").write_text("video,t_start,t_end,label\na,25.0,26.0,Ambiguous\n")
    (files / "named.csv").write_text("video,t_start,t_end\nv_a.mp4,25,26\nelsewhere,1,2\n")
    write_detections(
        detections(("a", 20, 30, "run", 0.9), ("a", 0, 10, "run", 0.8)), files / "found.json"
    )
    for name in ("ambiguous.txt", "ambiguous.csv", "named.csv"):
        argv = files / "gt.json", files / "found.json", "--ambiguous", files / name
        results, out = command(capsys, *argv, *"--protocol all --tiou 0.5".split())
        assert [line.split()[0] for line in out.splitlines() if "|" in line][1:] == list(PROTOCOLS)
        assert "1 Ambiguous segments" in out
        got = [results["protocols"][name]["map"][0] for name in PROTOCOLS]
        assert got == pytest.approx([0.25 / 2, 6 / 11 / 2, 0.25])
        assert results["protocols"]["thumos-2015"]["errors"]["ignored"] == 1
        results, _ = command(capsys, *argv, "--exclude-video", "v_a")
        assert results["excluded_videos"] == ["a"] and results["ambiguous_segments"] == 0


def test_command_leaves_out_videos(files, capsys):
    more = "--exclude-video b --exclude-video c".split()
    results, out = command(capsys, files / "gt.json", files / "found.csv", *more)
    assert "left out: b, c" in out and "2 videos, 1 of them with 2 segments, 2 classes" in out
    assert results["detections"] == 2
    assert results["protocols"]["activitynet"]["averages"]["all"] == pytest.approx(0.5)


def test_command_without_detections(files, capsys):
    write_detections(FOUND[:0], files / "none.csv")
    results, out = command(capsys, files / "gt.json", files / "none.csv", "--protocol", "all")
    assert all(set(score["map"]) == {0} for score in results["protocols"].values())
    assert "0 in 0 videos" in out


def test_command_with_detections_only_where_the_subset_has_no_segment(files, capsys):
    write_detections(detections(("d", 0, 10, "run", 0.9)), files / "d.csv")
    results, _ = command(capsys, files / "gt.json", files / "d.csv", "--protocol", "all")
    assert all(set(score["map"]) == {0} for score in results["protocols"].values())


def test_command_refuses(files, capsys):
    truth, found = files / "gt.json", files / "found.csv"
    assert "no such file" in failure(capsys, files / "nowhere.json", found)
    assert "no such file" in failure(capsys, truth, files / "nowhere.csv")
    line = failure(capsys, truth, found, "--subset", "validation")
    assert "testing" in line and "training" in line
    assert "--exclude-video" in failure(capsys, truth, found, "--exclude-video", "zebra")
    assert "no segment" in failure(capsys, truth, found, "--exclude-video", "a", "b")
    assert "1.5" in failure(capsys, truth, found, "--tiou", 1.5)
    assert "folder to write" in failure(capsys, truth, found, "--json", files / "none" / "out.json")

    write_detections(
        detections(("a", 0, 10, "Run", 0.9), ("a", 0, 10, "walk", 0.9)), files / "unknown.csv"
    )
    with pytest.raises(SystemExit):
        command(capsys, truth, files / "unknown.csv")
    streams = capsys.readouterr()
    assert "2 of 2 detections are of 2 other classes" in streams.out
    assert "'Run' for 'run'" in streams.out
    assert "expected classes of" in streams.err and "'jump', 'run', 'swim'" in streams.err
    write_detections(detections(("w_a", 0, 10, "run", 0.9)), files / "names.csv")
    line = failure(capsys, truth, files / "names.csv")
    assert "'w_a'" in line and "'a'" in line
    write_detections(detections(("c", 0, 5, "swim", 0.9)), files / "training.csv")
    assert "1 lie in another subset: see --subset" in failure(capsys, truth, files / "training.csv")
    (files / "ambiguous.txt").write_text("a 30 20\n")
    line = failure(capsys, truth, found, "--ambiguous", files / "ambiguous.txt")
    assert "ambiguous.txt: a: " in line and "before start" in line
    (files / "reversed.csv").write_text("video,t_start,t_end,label,score\na,3,1,run,1\n")
    line = failure(capsys, truth, files / "reversed.csv")
    assert "reversed.csv: a: " in line and "before start" in line


@pytest.mark.parametrize(
    "label, hint",
    [
        ("Background", ""),
        ("Run", "; letter case or blanks differ: 'Run' for 'run'"),
        ("Ambiguous", ""),
    ],
)
def test_detections_of_other_classes_are_counted_and_left_out(files, capsys, label, hint):
    """They change no number, not even the average recall, which asks for no class."""
    rows = [("a", 0, 10, "run", 0.9), ("a", 20, 30, "run", 0.8)]
    write_detections(detections(*rows), files / "known.json")
    write_detections(
        detections(("a", 0, 10, label, 0.95), *rows, ("b", 0, 10, label, 0.1)), files / "more.json"
    )
    expected, _ = command(capsys, files / "gt.json", files / "known.json", "--protocol", "all")
    results, out = command(capsys, files / "gt.json", files / "more.json", "--protocol", "all")
    note = f"2 of 4 detections are of 1 other class and not scored: {label!r} (2){hint}"
    assert f"warning: {files / 'more.json'}: {note}\n" in out
    for key in ("protocols", "average_recall", "detections"):
        assert results[key] == expected[key]


@pytest.mark.parametrize("form", ["v_{}", "{}.mp4", "{}.MKV", "V_{}"])
def test_videos_of_detections_and_of_excluded_ones_go_by_other_names(files, capsys, form):
    rows = [("a", 0, 10, "run", 0.9), ("b", 0, 10, "run", 0.8)]
    write_detections(
        detections(*[(form.format(row[0]), *row[1:]) for row in rows]), files / "other.csv"
    )
    results, out = command(capsys, files / "gt.json", files / "other.csv")
    assert results["protocols"]["activitynet"]["map"] == [0.5] * 7
    assert results["detections_outside"] == 0
    assert f"2 of 2 videos have another form of their name, such as {form.format('a')} for a" in out
    results, out = command(
        capsys, files / "gt.json", files / "other.csv", "--exclude-video", form.format("b")
    )
    assert results["excluded_videos"] == ["b"] and results["detections"] == 1
    assert "left out: b\n" in out


def test_detections_outside_of_their_videos_get_a_note(files, capsys):
    content = json.loads((files / "gt.json").read_text())
    content["database"]["a"]["duration"] = 40
    (files / "gt.json").write_text(json.dumps(content))
    write_detections(
        detections(
            ("a", 0, 42, "run", 0.9),
            ("a", 0, 42.5, "run", 0.8),
            ("a", 20, 900, "run", 0.7),
            ("b", -1, 1e4, "run", 0.6),
        ),
        files / "far.csv",
    )
    results, out = command(capsys, files / "gt.json", files / "far.csv")
    assert "2 detections of 1 video more than 2 s past" in out and "(worst: a, 860.0 s)" in out
    assert "1 detection of 4 before" in out and "frames" not in out


def test_ground_truth_in_frames_gets_a_note(files, capsys):
    content = json.loads((files / "gt.json").read_text())
    for name in content["database"]:
        content["database"][name]["duration"] = 1.2
    (files / "gt.json").write_text(json.dumps(content))
    results, out = command(capsys, files / "gt.json", files / "found.csv")
    assert f"{files / 'gt.json'}: found 3 of 3 segments" in out  # and the detections are, too
    assert f"{files / 'found.csv'}: found 2 of 2 detections" in out


def test_ambiguous_segments_beside_a_ground_truth_in_csv(files, capsys):
    """A run's folder holds ground_truth.csv and ambiguous.csv; they give what --ambiguous gives."""
    (files / "ground_truth.csv").write_text(
        "video,t_start,t_end,label\na,0,10,run\na,20,30,jump\nb,0,10,run\n"
    )
    (files / "ambiguous.csv").write_text("video,t_start,t_end,label\na,25,26,Ambiguous\n")
    write_detections(
        detections(("a", 20, 30, "run", 0.9), ("a", 0, 10, "run", 0.8)), files / "found.json"
    )
    arguments = [files / "found.json", "--protocol", "thumos-2015", "--tiou", 0.5]
    results, out = command(capsys, files / "ground_truth.csv", *arguments)
    assert results["protocols"]["thumos-2015"]["map"] == [0.25]  # 0.125 without Ambiguous segments
    assert f"1 Ambiguous segments of {files / 'ambiguous.csv'}, for the thumos protocols" in out
    given, _ = command(
        capsys, files / "gt.json", *arguments, "--ambiguous", files / "ambiguous.csv"
    )
    assert given["protocols"] == results["protocols"]
    (files / "ambiguous.csv").unlink()
    results, out = command(capsys, files / "ground_truth.csv", *arguments)
    assert results["protocols"]["thumos-2015"]["map"] == [0.125]
    assert "no Ambiguous segments, for" in out


def many_classes(folder, n):
    """Ground truth and detections of n classes, of which class k has k + 1 segments and one
    of them found."""
    truth, found = [], []
    for k in range(n):
        truth += [(f"v{i}", 20 * k, 20 * k + 10, f"class {k:02d}") for i in range(k + 1)]
        found += [("v0", 20 * k, 20 * k + 10, f"class {k:02d}", 1)]
    ground_truth(*truth).to_csv(folder / "many.csv", index=False)
    write_detections(detections(*found), folder / "many.json")
    return folder / "many.csv", folder / "many.json"


def test_by_class_the_five_best_and_worst_of_many(tmp_path, capsys):
    def shown(*argv):
        return [
            int(line[6:8])
            for line in command(capsys, *argv)[1].splitlines()
            if line.startswith("class ")
        ]

    assert shown(*many_classes(tmp_path, 10)) == list(range(10))
    paths = many_classes(tmp_path, 14)
    assert shown(*paths) == [0, 1, 2, 3, 4, 9, 10, 11, 12, 13]
    assert shown(*paths, "--per-class") == list(range(14))
    out = command(capsys, *paths)[1]
    assert "by class, activitynet, the 10 best and worst (all: --per-class)" in out
    assert out.splitlines()[-1].startswith("activitynet ") and "mAP (%)" in out.splitlines()[-3]


def test_classes_to_show():
    ap = np.array([[0.1, np.nan, 0.3, 0.2, 0.5, 0.4]] * 2)
    assert classes_to_show(ap, each=1) == [4, 0] and classes_to_show(ap, each=2) == [4, 5, 3, 0]
    assert classes_to_show(ap, each=3) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    "subsets, scored",
    [
        (["train", "Test"], "Test"),
        (["VAL", "Training"], "VAL"),
        (["Validation", "TESTING"], "TESTING"),
        (["only"], "only"),
    ],
)
def test_the_subset_that_is_scored_goes_by_any_case(tmp_path, capsys, subsets, scored):
    (tmp_path / "gt.json").write_text(
        json.dumps(
            {
                "database": {
                    f"v{i}": {
                        "subset": subset,
                        "annotations": [{"label": "run", "segment": [0, 10]}],
                    }
                    for i, subset in enumerate(subsets)
                }
            }
        )
    )
    write_detections(
        detections(*[(f"v{i}", 0, 10, "run", 1) for i in range(len(subsets))]),
        tmp_path / "found.csv",
    )
    assert command(capsys, tmp_path / "gt.json", tmp_path / "found.csv")[0]["subset"] == scored


def test_command_refuses_a_subset_without_segments(files, capsys):
    (files / "empty.json").write_text(
        json.dumps(
            {
                "database": {
                    "a": {"subset": "test", "annotations": []},
                    "b": {"subset": "train", "annotations": [{"label": "run", "segment": [0, 1]}]},
                }
            }
        )
    )
    write_detections(detections(("a", 0, 10, "run", 0.9)), files / "a.csv")
    assert "no segment" in failure(
        capsys, files / "empty.json", files / "a.csv", "--subset", "test"
    )


@pytest.mark.parametrize("flag", ["--tio", "--unknown"])
def test_unknown_and_abbreviated_flags_are_fatal(files, capsys, flag):
    with pytest.raises(SystemExit) as stop:
        eval_detection.main([str(files / "gt.json"), str(files / "found.csv"), flag, "0.5"])
    assert stop.value.code == 2


@pytest.mark.slow
@needs_data
@pytest.mark.parametrize(
    "form, videos, segments",
    [
        ("thumos14/evalkit-test-annotation", 212, 3358),
        ("thumos14/Thumos14reduced-Annotations", 212, 3358),
        ("thumos14/gt-210test.json", 210, 3311),
    ],
)
def test_command_on_every_form_of_thumos14(capsys, golden_sets, form, videos, segments):
    """Equal to the golden values where nothing is left out, and to each other without the
    videos the JSON lacks."""
    golden = golden_sets / "thumos14_a"
    results, out = command(capsys, DATA / form, golden / "detections.csv", "--protocol", "all")
    assert f"{videos} videos, {videos} of them with {segments:,} segments, 20 classes" in out
    if videos == 212:
        expected = json.loads((golden / "expected.json").read_text())
        for protocol, key in (("activitynet", "activitynet"), ("thumos-2015", "thumos_20150930")):
            np.testing.assert_allclose(
                results["protocols"][protocol]["ap"], expected[key]["ap"], rtol=0, atol=1e-6
            )
    traps = ["video_test_0000270", "video_test_0001496", "video_test_0001292"]
    results, _ = command(capsys, DATA / form, golden / "detections.csv", "--exclude-video", *traps)
    assert results["segments"] == 3311 and results["detections_outside"] == 0
    truth, found = (
        read_table(golden_sets / "thumos14_ground_truth.csv"),
        read_table(golden / "detections.csv"),
    )
    expected = evaluate(
        truth[~truth["video"].isin(traps)], found[~found["video"].isin(traps)], eval_detection.TIOUS
    )
    np.testing.assert_allclose(
        results["protocols"]["activitynet"]["ap"], expected.ap, rtol=0, atol=1e-12
    )
    assert expected.map[4] != evaluate(truth, found, 0.5).map[0]


@pytest.mark.slow
@needs_data
@pytest.mark.parametrize("form", ["gt-validation.json", "ActivityNet1.2-Annotations"])
def test_command_on_every_form_of_activitynet(capsys, golden_sets, form):
    """The W-TALC folder calls its videos video_4, ...; the detections name them by YouTube id."""
    check_activitynet(capsys, DATA / "activitynet12" / form, golden_sets / "activitynet12_a")


def test_command_on_the_table_of_activitynet(capsys, golden_sets):
    truth = golden_sets / "activitynet12_ground_truth.csv"
    check_activitynet(capsys, truth, golden_sets / "activitynet12_a")


def check_activitynet(capsys, truth, golden):
    tious = [0.5 + 0.05 * i for i in range(10)]
    results, _ = command(capsys, truth, golden / "detections.csv", "--tiou", *tious)
    assert results["segments"] == 3579 and results["detections_outside"] == 0
    expected = json.loads((golden / "expected.json").read_text())
    got = results["protocols"]["activitynet"]["map"]
    np.testing.assert_allclose(got, expected["activitynet"]["map"], rtol=0, atol=1e-9)


def test_the_evaluator_needs_no_torch():
    code = "import sys, eval_detection; sys.exit('torch' in sys.modules)"
    assert python("-c", code).returncode == 0


def test_a_copy_of_the_file_alone_evaluates(tmp_path):
    shutil.copy(ROOT / "eval_detection.py", tmp_path)
    code = (
        "import pandas as pd, eval_detection as e\n"
        "t = pd.DataFrame([('a', 0, 10, 'x')], columns=['video', 't_start', 't_end', 'label'])\n"
        "print(e.evaluate(t, t.assign(score=1.0), [0.5]).map)\n"
        "try: e.evaluate(t, t, [0.5])\n"
        "except ValueError as error: print(error)\n"
    )
    done = python("-c", code, cwd=tmp_path, environment={"PYTHONPATH": ""})
    error = "detections: found columns video, t_start, t_end, label, expected also score"
    assert done.stdout == f"[1.]\n{error}\n"


def test_the_command_runs_as_a_program(files):
    done = python(ROOT / "eval_detection.py", files / "gt.json", files / "nowhere.csv")
    assert done.returncode == 2 and done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


def test_a_terminal_without_the_signs_and_a_reader_that_has_gone(files):
    truth = shutil.copy(files / "gt.json", files / "é.json")
    argv = [ROOT / "eval_detection.py", truth, files / "found.csv", "--per-class"]
    ascii_only = {"PYTHONIOENCODING": "ascii", "PYTHONUNBUFFERED": "1"}
    done = python(*argv, environment=ascii_only)
    assert (done.returncode, done.stderr) == (0, "") and "?.json" in done.stdout
    argv, env = [sys.executable, *argv], {**os.environ, **ascii_only}
    with subprocess.Popen(argv, stdout=-1, stderr=-1, text=True, env=env) as gone:
        gone.stdout.close()
        assert gone.stderr.read() == "" and gone.wait() == 0
