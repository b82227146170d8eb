import numpy as np
import pytest

import localize
from formats.clip_scores import Record
from methods import METHODS

CLASSES = ("jump", "run")


def one(method, scores, video_scores, seconds, duration, rule, name="v"):
    """(rows, counts) of one video by one method. seconds: step and window of its clips."""
    record = Record(
        name,
        duration,
        np.ones(len(CLASSES)),
        {method: {k: np.asarray(v) for k, v in scores.items()}},
        *seconds,
    )
    return METHODS[method].localize(record, CLASSES, video_scores, rule)


def em_mil(q, p, video_scores=(0.9, 0.1), seconds=(2.0, 2.0), duration=100.0, **changes):
    rule = localize.Rule(**{**dict(lam=0.5, gammas=(0.0,), gate=0.15), **changes})
    return localize.table([one("em-mil", {"q": q, "p": p}, video_scores, seconds, duration, rule)])


def segments(table):
    return list(table[["t_start", "t_end"]].itertuples(index=False, name=None))


# ------------------------------------------------------------------------------------------------
# equations


def test_fuse_is_equation_9():
    q, p = [0.5, 1.0], np.array([[0.0, 1.0], [0.5, 0.25]])
    np.testing.assert_allclose(localize.fuse(q, p, 0.8), [[0.4, 0.6], [0.9, 0.85]])
    np.testing.assert_allclose(localize.fuse(q, p[:, 1], 0.8), [0.6, 0.85])
    np.testing.assert_array_equal(localize.fuse(q, p, 0.0), p)
    np.testing.assert_array_equal(localize.fuse(q, p, 1.0), [[0.5, 0.5], [1.0, 1.0]])


@pytest.mark.parametrize(
    "q, p", [([0.1] * 3, [[0.1]] * 2), ([[0.1]], [[0.1]]), ([0.1] * 2, np.zeros((2, 1, 1)))]
)
def test_fuse_refuses_other_shapes(q, p):
    with pytest.raises(ValueError, match="expected q"):
        localize.fuse(q, p, 0.5)


def test_foreground_is_strictly_above_mean_plus_gamma_times_range():
    l = [0.0, 0.0, 0.5, 1.0, 1.0]  # mean 0.5, range 1
    assert localize.threshold(np.array(l), 0.25) == 0.75
    # 0.5 is not above 0.5
    assert localize.foreground(l, 0.0).tolist() == [False, False, False, True, True]
    assert localize.foreground(l, -0.25).tolist() == [False, False, True, True, True]
    assert localize.foreground(l, 0.5).tolist() == [False] * 5  # 1.0 is not above 1.0
    assert localize.foreground(l, 0.0).dtype == bool


@pytest.mark.parametrize("l", [[], [0.7], [0.1] * 3, [0.1] * 6, [0.3] * 10])
def test_constant_curve_has_no_foreground(l):
    # np.mean([0.1] * 6) and np.mean([0.3] * 10) are below their value: rounding must not decide.
    assert localize.foreground(l, 0.0).tolist() == [False] * len(l)


def test_runs():
    assert localize.runs([]) == localize.runs([False, False]) == []
    assert localize.runs([True]) == [(0, 1)]
    assert localize.runs([True, True, False, True, False, False, True]) == [(0, 2), (3, 4), (6, 7)]
    assert localize.runs(np.array([0, 1, 1, 1])) == [(1, 4)]  # open at the last clip


def test_gate_with_fallback_to_the_best_class():
    assert localize.gate([0.1, 0.15, 0.75], 0.15).tolist() == [1, 2]
    assert localize.gate([0.1, 0.4, 0.3], 0.5).tolist() == [1]
    assert localize.gate([0.2, 0.4, 0.4], 0.5).tolist() == [1]  # a tie: the first
    assert localize.gate([0.3], 0.5).tolist() == [0]


# --------------------------------------------------------------------------------------------------- scores


def test_proposal_scores_by_hand():
    l = [0.1, 0.3, 0.8, 0.6, 0.2, 0.4, 0.0, 0.9]
    found = [(2, 4), (7, 8)]
    np.testing.assert_allclose(localize.proposal_scores(l, found, "mean"), [0.7, 0.9])
    np.testing.assert_allclose(localize.proposal_scores(l, found, "max"), [0.8, 0.9])
    np.testing.assert_allclose(localize.proposal_scores(l, found, "constant"), [1, 1])
    # One clip on each side of (2, 4): 0.3 and 0.2; (7, 8) has only its left one, 0.0.
    np.testing.assert_allclose(localize.proposal_scores(l, found, "outer-inner"), [0.7 - 0.25, 0.9])


def test_outer_inner_margin_is_a_quarter_of_the_run_rounded_up_and_ends_with_the_video():
    l = np.array([0.5, 0.2, 0.1, 1.0, 1.0, 1.0, 1.0, 1.0, 0.3, 0.4, 0.9])
    np.testing.assert_allclose(
        localize.proposal_scores(l, [(3, 8)], "outer-inner"),  # 5 clips: 2 on each side
        [1 - (0.2 + 0.1 + 0.3 + 0.4) / 4],
    )
    np.testing.assert_allclose(
        localize.proposal_scores(l[2:], [(1, 6)], "outer-inner"),  # only one clip on the left
        [1 - (0.1 + 0.3 + 0.4) / 3],
    )
    # nothing outside
    np.testing.assert_allclose(localize.proposal_scores(l[3:8], [(0, 5)], "outer-inner"), [1.0])
    np.testing.assert_allclose(
        localize.proposal_scores([1.0, 0.25], [(1, 2)], "outer-inner"), [-0.75]
    )


@pytest.mark.parametrize("kind", localize.PROPOSAL_SCORES)
def test_proposal_scores_agree_with_a_loop_and_take_no_runs(kind):
    rng = np.random.default_rng(0)
    for _ in range(20):
        l = rng.random(rng.integers(1, 40))
        found = localize.runs(l > 0.4)
        expected = []
        for s, e in found:
            margin = int(np.ceil((e - s) / 4))
            around = np.concatenate([l[max(s - margin, 0) : s], l[e : e + margin]])
            expected.append(
                {
                    "mean": l[s:e].mean(),
                    "max": l[s:e].max(),
                    "constant": 1.0,
                    "outer-inner": l[s:e].mean() - (around.mean() if len(around) else 0),
                }[kind]
            )
        np.testing.assert_allclose(localize.proposal_scores(l, found, kind), expected, rtol=1e-12)
    assert localize.proposal_scores(l, [], kind).shape == (0,)


def test_unknown_proposal_score():
    with pytest.raises(ValueError, match="'median'.*mean, max, outer-inner, constant"):
        localize.proposal_scores([0.0, 1.0], [(1, 2)], "median")


def test_nms_by_hand():
    start, end, scores = [0, 5, 20, 0], [10, 15, 30, 10], [0.5, 0.9, 0.1, 0.5]
    # Row 1 is best; it overlaps rows 0 and 3 by 5 s of 15 s. Row 0 equals row 3.
    kept, left = localize.nms(start, end, scores, 0.5)
    assert kept.tolist() == [0, 1, 2] and left.tolist() == [0.5, 0.9, 0.1]
    assert localize.nms(start, end, scores, 0.3)[0].tolist() == [1, 2]
    # IoU 0.5 is not above 0.5
    assert localize.nms([0, 0], [1, 2], [1, 1], 0.5)[0].tolist() == [0, 1]
    assert localize.nms([0, 5], [5, 9], [1, 1], 0.0)[0].tolist() == [0, 1]  # touching, no pixel +1
    assert localize.nms([], [], [], 0.5)[0].tolist() == []
    assert localize.nms([1, 1], [1, 1], [2, 1], 0.5)[0].tolist() == [0, 1]  # nothing overlaps


def test_soft_nms_by_hand():
    kept, scores = localize.nms(
        [0, 5, 20, 0], [10, 15, 30, 10], [0.5, 0.9, 0.1, 0.5], 0.3, soft=True
    )
    assert kept.tolist() == [0, 1, 2, 3]
    # Rows 0 and 3 lose a third to row 1; row 3 then all of it to its equal, row 0.
    np.testing.assert_allclose(scores, [0.5 * 2 / 3, 0.9, 0.1, 0.0], atol=1e-15)
    np.testing.assert_allclose(
        localize.nms([0, 0], [2, 1], [0.5, -0.2], 0.3, soft=True)[1], [0.5, -0.3]
    )
    given = np.array([0.9, 0.8])
    localize.nms([0, 0], [1, 1], given, 0.3, soft=True)
    assert given.tolist() == [0.9, 0.8]  # the caller's array is kept


# --------------------------------------------------------------------------------------------------- seconds


@pytest.mark.parametrize(
    "step, window, duration, expected",
    [
        (2.0, 2.0, 100.0, [0, 2, 6, 8]),
        (2.0, 6.0, 100.0, [2, 4, 8, 10]),  # clip 0 is centred at 3 s, clip 3 at 9 s
        (2.0, 6.0, 9.0, [2, 4, 8, 9]),
        (2.0, 6.0, 1.0, [1, 1, 1, 1]),
        (2.0, 1.0, 7.0, [0, 1.5, 5.5, 7]),  # clip 0 is centred at 0.5 s: it begins before the video
    ],
)
def test_clips_in_seconds(step, window, duration, expected):
    found = localize.times([[0, 1], [3, 4]], step, window, duration)
    assert found.tolist() == [expected[:2], expected[2:]]


def test_a_single_clip_stands_for_the_middle_of_its_window():
    (times,) = localize.times([(0, 1)], 2.0, 6.0, localize.length(1, 2.0, 6.0))
    assert times.tolist() == [2, 4] and localize.length(1, 2.0, 6.0) == 6


def test_what_clips_cover():
    assert localize.length(5, 2.0, 6.0) == 4 * 2 + 6
    # the clips between the middles of the first and the last window, and half a window on each side
    first, last = localize.times([[0, 1], [4, 5]], 2.0, 6.0).mean(axis=1)
    assert last - first + 6 == localize.length(5, 2.0, 6.0)


@pytest.mark.parametrize("step", [0.64, 0.1, 4 / 30])
def test_windows_as_long_as_the_step_give_plain_products(step):
    t = np.arange(2000)
    np.testing.assert_array_equal(localize.times(t, step, step), t * step)
    np.testing.assert_array_equal(localize.length(t, step, step), t * step)


# --------------------------------------------------------------------------------------------------- em_mil


def test_em_mil_end_to_end_by_hand():
    q = [0.0, 1.0, 1.0, 0.0, 0.0, 1.0]
    p = [[0.0, 0.9], [0.4, 0.9], [0.8, 0.9], [0.0, 0.9], [0.0, 0.9], [0.6, 0.9]]
    # Class jump: L = 0, .7, .9, 0, 0, .8, mean 0.4. The last run is open and ends with the video.
    table, counts = em_mil(q, p, duration=11.5, video_weight=0.1)
    assert segments(table) == [(2.0, 6.0), (10.0, 11.5)]
    assert set(table.label) == {"jump"} and set(table.video) == {"v"}
    np.testing.assert_allclose(table.score, [0.8 + 0.09, 0.8 + 0.09])
    assert counts == dict(
        videos=1, gate_fallback=0, pairs=1, pairs_constant=0, pairs_empty=0, past_end=0, proposals=2
    )
    # clips end before the video
    assert segments(em_mil(q, p, duration=100.0)[0]) == [(2.0, 6.0), (10.0, 12.0)]
    # windows of 5 s: 1.5 s later
    assert segments(em_mil(q, p, seconds=(2.0, 5.0), duration=13.0)[0]) == [(3.5, 7.5), (11.5, 13)]


def test_both_classes_and_fallback():
    q, p = [0.0, 1.0, 0.0], [[0.0, 1.0], [0.0, 0.0], [0.0, 0.0]]
    table, counts = em_mil(q, p, video_scores=(0.5, 0.5), lam=0.25)
    assert list(zip(table.label, table.t_start, table.t_end)) == [("jump", 2, 4), ("run", 0, 2)]
    table, counts = em_mil(q, p, video_scores=(0.05, 0.1), lam=0.25)
    assert table.label.tolist() == ["run"] and counts["gate_fallback"] == 1 and counts["pairs"] == 1


@pytest.mark.parametrize("q, p", [([0.7], [[0.2, 0.1]]), ([0.1] * 6, [[0.1, 0.2]] * 6)])
def test_constant_curve_gives_no_proposal_and_is_counted(q, p):
    table, counts = em_mil(q, p)
    assert table.empty and list(table.columns) == ["video", "t_start", "t_end", "label", "score"]
    assert counts["pairs_constant"] == counts["pairs_empty"] == 1 and counts["proposals"] == 0


def test_no_clip_above_the_threshold_is_counted_apart_from_constant():
    counts = em_mil([0.0, 1.0], [[0.0, 0.0], [1.0, 0.0]], gammas=(0.5,))[1]
    assert counts["pairs_empty"] == 1 and counts["pairs_constant"] == 0


def test_run_after_the_duration_is_dropped_and_counted():
    table, counts = em_mil([1.0, 0.0, 1.0, 0.0, 1.0], [[0.0, 0.0]] * 5, duration=5.0)
    assert segments(table) == [(0.0, 2.0), (4.0, 5.0)]
    assert counts["past_end"] == 1 and counts["proposals"] == 2


def test_several_thresholds_pool_their_runs_once_and_nms_prunes_them():
    q = [0.0, 0.0, 0.6, 0.9, 0.0, 0.0, 0.8, 0.0]  # mean 0.2875, range 0.9
    options = dict(p=[[0.0, 0.0]] * 8, lam=1.0)
    both = em_mil(q, gammas=(0.0, 0.5), **options)[0]
    # (12, 14) is found by both thresholds
    assert segments(both) == [(4.0, 8.0), (6.0, 8.0), (12.0, 14.0)]
    np.testing.assert_allclose(both.score, [0.75, 0.9, 0.8])
    assert segments(em_mil(q, gammas=(0.0, 0.5), nms=0.4, **options)[0]) == [
        (6.0, 8.0),
        (12.0, 14.0),
    ]
    soft = em_mil(q, gammas=(0.0, 0.5), nms=0.4, soft=True, **options)[0]
    np.testing.assert_allclose(soft.score, [0.375, 0.9, 0.8])


@pytest.mark.parametrize(
    "q, p, video_scores",
    [
        ([np.nan, 1.0], [[0.0, 0.0]] * 2, (1, 1)),
        ([0.0, 1.0], [[0.0, np.inf]] * 2, (1, 1)),
        ([0.0, 1.0], [[0.0, 0.0]] * 2, (1, np.nan)),
        ([0.0, 1.0], [0.0, 0.0], (1, 1)),
        ([0.0, 1.0], [[0.0, 0.0]] * 2, (1, 1, 1)),
        ([0.0, 1.0], [[0.0, 0.0, 0.0]] * 2, (1, 1, 1)),
        ([], np.zeros((0, 2)), (1, 1)),
    ],
)
def test_bad_scores_name_the_video(q, p, video_scores):
    with pytest.raises(ValueError, match="^v: found .*expected"):
        em_mil(q, p, video_scores)


@pytest.mark.parametrize(
    "changes",
    [
        dict(duration=np.nan),
        dict(duration=0.0),
        dict(seconds=(-1.0, 1.0)),
        dict(seconds=(1.0, np.inf)),
    ],
)
def test_bad_seconds_name_the_video(changes):
    with pytest.raises(ValueError, match="^v: found .* positive number of seconds"):
        em_mil([0.0, 1.0], [[0.0, 0.0]] * 2, **changes)


def test_table_of_many_and_of_no_videos():
    rule = localize.Rule(lam=0.5, gammas=(0.0,), gate=0.5)
    rows = [
        one("em-mil", {"q": [0.0, 1.0], "p": [[0.0, 0.0]] * 2}, (1, 0), (1.0, 1.0), 2.0, rule, name)
        for name in ("b", "a")
    ]
    table, counts = localize.table(iter(rows))
    assert table.video.tolist() == ["b", "a"] and counts["videos"] == counts["proposals"] == 2
    table, counts = localize.table([])
    assert table.empty and table.score.dtype == np.float64 and set(counts.values()) == {0}


@pytest.mark.parametrize("seed", range(5))
def test_runs_agree_with_a_walk_over_the_clips(seed):
    mask = np.random.default_rng(seed).random(50) < 0.5
    found, start = [], None
    for t, inside in enumerate([*mask, False]):
        if inside and start is None:
            start = t
        if not inside and start is not None:
            found.append((start, t))
            start = None
    assert localize.runs(mask) == found


# --------------------------------------------------------------------------------------------- the
# others


def test_untrimmednet_by_hand():
    attention = np.array([0.1, 0.4, 0.2, 0.3])
    clips = np.array([[0.5, 0.5], [0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])

    # Class jump: a / 0.4 * s = 0.125, 0.9, 0.1, 0.45; mean 0.39375; with gamma 0.15 the threshold
    # is 0.51375.
    def run(gamma):
        rule = localize.Rule(gammas=(gamma,), gate=0.5)
        return localize.table(
            [
                one(
                    "untrimmednet",
                    {"attention": attention, "clips": clips},
                    (0.6, 0.4),
                    (0.5, 0.5),
                    9.0,
                    rule,
                )
            ]
        )[0]

    assert segments(run(0.0)) == [(0.5, 1.0), (1.5, 2.0)]
    np.testing.assert_allclose(run(0.0).score, [0.9, 0.45])
    assert segments(run(0.15)) == [(0.5, 1.0)]


def wtalc(a, video_scores=(1, 0)):
    return localize.table(
        [one("wtalc", {"clips": a}, video_scores, (1.0, 1.0), 7.5, localize.Rule(gate=0.5))]
    )


def test_wtalc_by_hand():
    # threshold 5 - 0.5 * 7 = 1.5
    a = np.array([[4.0, -2.0, 1.0, 2.0, 3.0, 3.0, -2.0, 5.0], [0.0] * 8]).T
    table, counts = wtalc(a)
    assert segments(table) == [(3.0, 6.0)]  # clips 0 and 7 are runs of one
    np.testing.assert_allclose(table.score, [3.0 + 0.7 * 5.0])  # k = 1
    _, counts = wtalc(a, (0, 1))
    assert counts["pairs_constant"] == counts["pairs_empty"] == 1
    open_end = np.array([[0.0, 0.0, 1.0, 1.0], [0.0] * 4]).T
    assert segments(wtalc(open_end)[0]) == [(2.0, 4.0)]


def test_wtalc_adds_the_mean_of_the_highest_eighth_rounded_up():
    # T = 9: k = 2, mean 7
    a = np.array([[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 6.0, 8.0], [0.0] * 9]).T
    table, _ = wtalc(a)
    assert segments(table) == [(7.0, 7.5)]
    np.testing.assert_allclose(table.score, [8.0 + 0.7 * 7.0])


def test_wtalc_nan_names_the_video():
    with pytest.raises(ValueError, match="^v: found 1 NaN"):
        wtalc([[0.0, np.nan], [1.0, 1.0]])
