"""The three protocols against the official programs' numbers, cases worked out by hand, and
literal loops."""

import json
import random
import shutil

import numpy as np
import pandas as pd
import pytest
from places import ROOT, python
from rows import detections, ground_truth

import eval_detection
from eval_detection import (
    PROTOCOLS,
    averages,
    classes_to_show,
    classification_metrics,
    detection_kinds,
    error_profile,
    evaluate,
    main_tiou,
    score,
    video_ap,
)


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


def tables_of(truth, found):
    """Ground truth and detections, all of a class x."""
    rows = [(*row[:3], "x", row[3]) for row in segments_of(found)]
    return ground_truth(*[(*row, "x") for row in segments_of(truth)]), detections(*rows)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_small_cases(name, protocol):
    truth, found, ambiguous, expected = CASES[name]
    ambiguous = pd.DataFrame(segments_of(ambiguous), columns=["video", "t_start", "t_end"])
    result = evaluate(*tables_of(truth, found), [0.5], protocol, ambiguous)
    assert result.ap.shape == (1, 1)
    assert result.ap[0, 0] == pytest.approx(expected[PROTOCOLS.index(protocol)], abs=1e-12)


ANET, T14, T15 = PROTOCOLS
# protocols, tIoU, truth, detections, mAP
TIES = [
    # [0, 10] overlaps both halves by 0.5: it takes the later one and leaves [0, 5] to the second
    ([ANET], 0.5, "a 0 5; a 5 10", "a 0 10 0.9; a 0 5 0.8", 1),
    ([ANET], 0.5, "a 0 5; a 5 10", "a 0 10 0.9; a 5 10 0.8", 1 / 2),
    # two at tIoU 0.8: the higher score, in either order of rows
    ([T14, T15], 0.5, "a 0 10", "a 0 8 0.1; a 2 10 0.9", 1),
    ([T14, T15], 0.5, "a 0 10", "a 2 10 0.9; a 0 8 0.1", 1),
    # equal scores, too: the earlier row. [0, 6] finds only [0, 8] near enough
    ([T14, T15], 0.7, "a 0 10; a 0 6", "a 2 10 0.5; a 0 8 0.5", 1),
    ([T15], 0.7, "a 0 10; a 0 6", "a 0 8 0.5; a 2 10 0.5", 1 / 2),
    ([T14], 0.7, "a 0 10; a 0 6", "a 0 8 0.5; a 2 10 0.5", 6 / 11),
    # ground truths choose in the order of rows: the first takes [0, 10], which both want, and the
    # other has [2, 10] left, at tIoU 0.8 of [0, 10] and 0.7 of [0, 9]
    ([T15], 0.75, "a 0 9; a 0 10", "a 0 10 0.9; a 2 10 0.8", 1),
    ([T15], 0.75, "a 0 10; a 0 9", "a 0 10 0.9; a 2 10 0.8", 1 / 2),
    # equal scores: a miss in b before a hit in a, by rows in activitynet, by videos in thumos-2015
    ([ANET], 0.5, "a 0 10; b 0 10", "b 50 60 0.5; a 0 10 0.5", 1 / 4),
    ([ANET], 0.5, "a 0 10; b 0 10", "a 0 10 0.5; b 50 60 0.5", 1 / 2),
    ([T15], 0.5, "a 0 10; b 0 10", "b 50 60 0.5; a 0 10 0.5", 1 / 2),
    ([T15], 0.5, "a 0 10; b 0 10", "a 0 10 0.5; b 50 60 0.5", 1 / 2),
]


@pytest.mark.parametrize("protocols, tiou, truth, found, expected", TIES)
def test_ties_by_hand(protocols, tiou, truth, found, expected):
    for protocol in protocols:
        result = evaluate(*tables_of(truth, found), tiou, protocol)
        assert result.map[0] == pytest.approx(expected, abs=1e-12), protocol


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


# ------------------------------------------------------------------------- kinds of detections


def test_kinds_of_detections_by_hand():
    truth = ground_truth(("a", 40, 50, "x"), ("a", 20, 30, "y"), ("a", 0, 10, "x"))
    rows = [  # in no order of scores, each with its kind and the segment that it is judged by
        (("a", 60, 70, "x", 0.95), "background", -1),
        (("a", 0, 9, "x", 0.8), "double detection", 2),  # of a better one
        (("a", 0, 10, "w", 0.99), "", -1),  # a class without ground truth: not counted
        (("a", 0, 10, "x", 0.9), "true positive", 2),
        (("a", 0, 3, "x", 0.7), "localization", 2),  # tIoU 0.3
        (("a", 20, 30, "x", 0.6), "wrong label", 1),
        (("b", 0, 10, "x", 0.2), "background", -1),  # nothing in this video
        (("a", 20, 23, "x", 0.5), "confusion", 1),
        (("a", 20, 23, "y", 0.4), "localization", 1),
        (("a", 29.5, 60, "x", 0.3), "localization", 0),  # 10/30.5 of x, 0.5/40 of y
        (("a", 22, 44, "x", 0.1), "confusion", 1),  # 8/24 of y, more than 4/28 of x
    ]
    found = detections(*[row for row, _, _ in rows])
    kinds, hit, judged_by = detection_kinds(truth, found)
    assert kinds.tolist() == [kind for _, kind, _ in rows]
    assert judged_by.tolist() == [segment for _, _, segment in rows]
    assert hit.tolist() == [False, False, True]
    at_less, hit, _ = detection_kinds(truth, found, 0.3)
    assert at_less[8] == at_less[9] == "true positive" and hit.tolist() == [True] * 3
    names = [name for name in eval_detection.KINDS if name]
    expected = {name: kinds.tolist().count(name) for name in names} | {"missed segments": 2}
    assert error_profile(truth, found) == expected
    ambiguous = ground_truth(("a", 65, 80, "Ambiguous"), ("b", 9, 10, "Ambiguous"))
    assert error_profile(truth, found, ambiguous=ambiguous) == expected
    forgiven = {**expected, "background": 0, "ignored": 2}
    assert error_profile(truth, found, 0.5, "thumos-2015", ambiguous) == forgiven


def test_found_segments_are_as_many_as_true_positives():
    for seed in range(40):
        truth, found, ambiguous = random_tables(seed)
        for protocol in PROTOCOLS:
            tables = ground_truth(*truth), detections(*found), 0.4, protocol
            kinds, hit, _ = detection_kinds(*tables)
            profile = error_profile(*tables)
            assert profile["true positive"] == hit.sum() == len(truth) - profile["missed segments"]
            known = {row[3] for row in truth}
            assert sum(kind != "" for kind in kinds) == sum(row[3] in known for row in found)
            for label in known:
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


# ------------------------------------------------------------------------------------ the file


def test_the_tiou_nearest_to_a_half():
    assert main_tiou([0.1, 0.5, 0.7]) == 0.5 and main_tiou((0.7, 0.95)) == 0.7
    assert main_tiou([0.25, 0.75]) == 0.25  # the first of two


def test_classes_to_show():
    """The best and worst, best first; all where fewer than five would be hidden."""
    ap = np.array([[0.1, np.nan, 0.3, 0.6, 0.9, 0.8, 0.2, 0.2]])  # class 1 has no ground truth
    assert classes_to_show(ap, each=1) == [4, 0]
    assert classes_to_show(ap, each=2) == [0, 1, 2, 3, 4, 5, 6, 7]
    assert classes_to_show(ap[:, :7], each=1) == [4, 5, 3, 2, 6, 0]


def test_a_copy_of_the_file_alone_evaluates(tmp_path):
    shutil.copy(ROOT / "eval_detection.py", tmp_path)
    code = (
        "import sys, pandas as pd, eval_detection as e\n"
        "assert 'torch' not in sys.modules\n"
        "t = pd.DataFrame([('a', 0, 10, 'x')], columns=['video', 't_start', 't_end', 'label'])\n"
        "print(e.evaluate(t, t.assign(score=1.0), [0.5]).map)\n"
        "try: e.evaluate(t, t, [0.5])\n"
        "except ValueError as error: print(error)\n"
    )
    done = python("-c", code, cwd=tmp_path, environment={"PYTHONPATH": ""})
    error = "detections: found columns video, t_start, t_end, label, expected also score"
    assert done.stdout == f"[1.]\n{error}\n"
