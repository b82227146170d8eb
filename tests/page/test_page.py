"""What the page is given and how it is written; what a browser makes of it: test_browser.py."""

import base64
import json
import re

import numpy as np
import pytest
import synthetic_page as synthetic
from rows import detections
from rows import ground_truth as truth

from formats.files import InputError
from report import page

RULE = synthetic.rule(0.8, (0.15,), 0.15)
SECONDS = 0.5, 0.5  # step and window of a clip


def written(content, folder, about=synthetic.ABOUT):
    page.write_page(folder / "report.html", about, content)
    text = (folder / "report.html").read_text()
    return text, json.loads(
        re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)[1]
    )


# ------------------------------------------------------------------------------ statistics


def test_by_length_at_the_edges():
    lengths, found = [0.99, 1.0, 1.99, 2.0, 9.0, 300.0], [True, False, True, False, True, True]
    assert page.by_length(lengths, found) == [
        ("under 1 s", 1, 1),
        ("1 to 2 s", 1, 2),
        ("2 to 4 s", 0, 1),
        ("4 to 8 s", 0, 0),
        ("8 to 16 s", 1, 1),
        ("16 to 32 s", 0, 0),
        ("32 to 64 s", 0, 0),
        ("64 to 128 s", 0, 0),
        ("128 to 256 s", 0, 0),
        ("256 s and more", 1, 1),
    ]
    assert page.by_length([5.0], [False]) == [("4 to 8 s", 0, 1)]
    assert page.by_length([], []) == []


def test_by_side_by_hand():
    segments = truth(("a", 10, 20, "x"), ("a", 18, 19, "y"), ("a", 40, 50, "x"), ("b", 0, 10, "x"))
    shifted = detections(
        ("a", 8, 30, "x", 1),  # covers 10 to 20
        ("a", 10, 20, "x", 1),  # equal ends count as covering
        ("a", 12, 14, "x", 1),  # inside
        ("a", 9, 14, "x", 1),  # early
        ("a", 15, 30, "x", 1),  # late
        ("a", 19, 43, "x", 1),  # 1 s of 10 to 20, 3 s of 40 to 50: early
        ("b", 4, 10, "x", 1),  # ends with the segment: inside
    )
    assert page.by_side(segments, shifted) == list(zip(page.SIDES, (2, 2, 2, 1)))
    assert page.by_side(segments, shifted[:0]) == []


def test_curves_of_a_log():
    log = [
        {"stage": "w", "epoch": 1, "loss": {"mil": 3.0}},
        {"stage": "w", "epoch": 2, "loss": {"mil": 2.0, "cas": 1.0}},
        synthetic.epoch(1, "M", 1, {"rgb": 0.9}, 1.0),
        synthetic.epoch(2, "E", 1, {"rgb": 0.7}, 0.5),
        synthetic.epoch(2, "E", 2, {"rgb": 0.6}, 0.5),
        synthetic.epoch(3, "M", 1, {"rgb": 0.5}, 0.4, 0.2),
    ]
    losses, labels, classifier = page.curves(log)
    assert losses["title"] == "EM-MIL" and losses["shade"] == [[1.5, 3.5]]
    assert losses["series"] == [
        {"name": "M step, rgb", "x": [1, 4], "y": [0.9, 0.5]},
        {"name": "E step, rgb", "x": [2, 3], "y": [0.7, 0.6]},
    ]
    assert labels["percent"] and labels["series"] == [
        {"name": "E step, positive clips", "x": [2], "y": [50.0]},
        {"name": "M step, positive clips", "x": [1, 4], "y": [100.0, 40.0]},
        {"name": "M step, labels changed", "x": [4], "y": [20.0]},
    ]
    assert classifier["title"] == "w" and classifier["series"] == [
        {"name": "mil", "x": [1, 2], "y": [3.0, 2.0]},
        {"name": "cas", "x": [2], "y": [1.0]},
    ]
    assert page.curves([]) == []


def test_long_curves_are_thinned_and_keep_their_ends():
    series = page.curves([{"stage": "w", "loss": {"mil": float(k)}} for k in range(10000)])[0][
        "series"
    ][0]
    assert len(series["x"]) == page.MAX_POINTS and series["x"][0] == 1 and series["x"][-1] == 10000
    assert series["y"] == [x - 1 for x in series["x"]]


# --------------------------------------------------------------------------------- content


def test_content_by_hand():
    segments = truth(("v", 0, 2, "jump"), ("v", 4, 6, "jump"), ("w", 1, 2, "kick"))
    found = detections(
        ("v", 4, 6, "jump", 0.9), ("v", 3, 3.5, "kick", 0.5), ("v", 0, 0.5, "jump", 0.8)
    )
    scores = [
        page.Scores("v", 6.0, np.linspace(0, 1, 12), np.zeros((12, 3)), [1], *SECONDS),
        page.Scores("w", 3.0, np.ones(6), np.ones((6, 3)), [2], *SECONDS),
    ]
    content = page.page_content(
        ["walk", "kick", "jump"], RULE, scores, found, synthetic.evaluation(segments, found)
    )
    v, w = content["videos"]
    jump, kick = v["r"]  # with ground truth first
    assert (jump["c"], kick["c"]) == (2, 1) and (jump["g"], kick["g"]) == (0, 1)
    assert jump["t"] == [[0, 2, 0], [4, 6, 1]]
    true, near, false = map(list(page.KINDS).index, ("true positive", "localization", "background"))
    assert jump["d"] == [(0, 0.5, 0.8, near), (4, 6, 0.9, true)]
    assert kick["d"] == [(3, 3.5, 0.5, false)]
    assert v["a"] == 50.0 and w["a"] == 0.0  # one of two found, ranked first; none of one
    assert [(row["c"], row["g"], row["t"]) for row in w["r"]] == [(1, 0, [[1, 2, 0]]), (2, 1, [])]
    assert content["kinds"] == [("true positive", 1), ("localization", 1), ("background", 1)]
    assert content["lengths"] == [("1 to 2 s", 0, 1), ("2 to 4 s", 1, 2)]
    assert content["sides"] == list(zip(page.SIDES, (0, 1, 0, 0)))
    assert content["ap"] == [("jump", 50.0, 2), ("kick", 0.0, 1)]


def test_classes_beyond_the_limit_are_counted():
    found = detections(*[("v", 0, 1, f"c{k}", k / 20) for k in range(12)])
    scores = page.Scores("v", 5.0, np.zeros(10), np.zeros((10, 12)), list(range(12)), *SECONDS)
    segments = truth(("v", 3, 4, "c0"))
    content = page.page_content(
        [f"c{k}" for k in range(12)], RULE, [scores], found, synthetic.evaluation(segments, found)
    )
    (video,) = content["videos"]
    assert video["h"] == 12 - page.MAX_ROWS
    assert [row["c"] for row in video["r"]] == [0, 11, 10, 9, 8, 7, 6, 5]


def test_scores_are_kept_to_16_bits(tmp_path):
    rng = np.random.default_rng(0)
    q, p = rng.random(50), rng.random((50, 2))
    q[:2] = 0, 1
    content = page.page_content(
        ["x", "y"], RULE, [page.Scores("v", 25.0, q, p, [0, 1], *SECONDS)], detections()
    )
    video = written(content, tmp_path)[1]["videos"][0]
    for packed, values in (
        (video["q"], q),
        (video["r"][0]["p"], p[:, 0]),
        (video["r"][1]["p"], p[:, 1]),
    ):
        back = np.frombuffer(base64.b64decode(packed), "<u2") / 65535
        assert np.abs(back - values).max() <= 0.5 / 65535
    assert np.frombuffer(base64.b64decode(video["q"]), "<u2")[:2].tolist() == [0, 65535]
    q[:2] = -1e-6, 1 + 1e-6  # rounding of a weighted mean
    content = page.page_content(
        ["x", "y"], RULE, [page.Scores("v", 25.0, q, p, [0, 1], *SECONDS)], detections()
    )
    video = written(content, tmp_path)[1]["videos"][0]
    assert np.frombuffer(base64.b64decode(video["q"]), "<u2")[:2].tolist() == [0, 65535]


@pytest.mark.parametrize(
    "q, p, words",
    [
        (np.zeros(3), np.zeros((4, 1)), r"v: found q \(3,\) and p \(4, 1\)"),
        (np.zeros(3), None, r"found q \(3,\) and p \(\)"),
        (np.array([0, 1.01]), np.zeros((2, 1)), r"v: found q outside \[0, 1\]"),
        (np.zeros(2), np.array([[0], [np.nan]]), r"v: found p outside \[0, 1\]"),
    ],
)
def test_scores_that_are_none(q, p, words):
    with pytest.raises(ValueError, match=words):
        page.page_content(["x"], RULE, [page.Scores("v", 5.0, q, p, [0], *SECONDS)], detections())


# -------------------------------------------------------------------------------- the file


def test_text_from_outside_is_escaped(tmp_path):
    evil = "</script><script>alert(1)</script><!--"
    about = page.About(evil, [(evil, evil)], [(evil, [[evil, evil], [evil, evil]])], [evil])
    found = detections((evil, 0, 1, evil, 1.0))
    content = page.page_content(
        [evil],
        RULE,
        [page.Scores(evil, 5.0, None, None, [0], *SECONDS)],
        found,
        synthetic.evaluation(truth((evil, 0, 1, evil)), found),
        [{"stage": evil, "loss": {evil: 1.0}}],
    )
    text, data = written(content, tmp_path, about)
    assert text.count("<script") == 2 and text.count("</script") == 2 and "<!--" not in text
    assert data["classes"] == [evil] and data["videos"][0]["n"] == evil
    assert data["charts"][0]["title"] == evil


def test_only_the_pages_own_script_may_run_and_nothing_is_loaded(tmp_path):
    text, _ = written(synthetic.content(synthetic.results(3, 2, 30)), tmp_path)
    policy = re.search(r'Content-Security-Policy"\s+content="([^"]*)"', text)[1]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-eval" not in policy
    assert "script-src 'unsafe-inline'" not in policy
    assert not re.search(r'(src|href)="(?!#|data:,")', text) and "@import" not in text
    assert not {address for address in re.findall(r"https?://[^\"' ]*", text)} - {
        "http://www.w3.org/2000/svg"
    }


def test_the_same_results_give_the_same_file(tmp_path):
    found = synthetic.results(3, 2, 30)
    first = written(synthetic.content(found), tmp_path)[0]
    assert written(synthetic.content(found), tmp_path)[0] == first


@pytest.mark.parametrize(
    "n_videos, n_classes, seconds, limit",
    [
        (212, 20, 217, 1.5e6),
        (238, 100, 117, 1e6),
        pytest.param(2383, 100, 117, 10e6, marks=pytest.mark.slow),
    ],
)
def test_size(tmp_path, n_videos, n_classes, seconds, limit):
    page.write_page(
        tmp_path / "report.html",
        synthetic.ABOUT,
        synthetic.content(synthetic.results(n_videos, n_classes, seconds)),
    )
    assert (tmp_path / "report.html").stat().st_size < limit


def test_a_page_that_cannot_be_written(tmp_path):
    with pytest.raises(InputError, match="expected a folder to write in"):
        page.write_page(
            tmp_path / "absent" / "report.html",
            synthetic.ABOUT,
            synthetic.content(synthetic.results(1, 2, 30)),
        )
