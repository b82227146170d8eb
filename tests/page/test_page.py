"""What the page works out and how it is written; what a browser makes of it: test_browser.py."""

import base64
import dataclasses
import json
import re
from itertools import islice

import numpy as np
import pytest
import synthetic_page as synthetic
from rows import detections
from rows import ground_truth as truth

import eval_detection
import localize
from formats.files import InputError
from report import page

RULE = localize.Rule(0.8, (0.15,), 0.15)
KINDS = list(eval_detection.KINDS)


@pytest.fixture(scope="module")
def found():
    return synthetic.results(9, 3, 40)


def content(path, *args, **settings):
    """The data of a page that synthetic_page.write makes."""
    synthetic.write(path, *args, **settings)
    return data_of(path.read_text())


def data_of(text):
    return json.loads(
        re.search(r'<script type="application/json" id="data">(.*?)</script>', text)[1]
    )


def by_hand(path, classes, videos, found, truth=None, curves=None):
    """The data of a page of one method. videos: (name, duration) each, clips of 0.5 s."""
    videos = [synthetic.video(*one, 0.5) for one in videos]
    scored = {} if truth is None else synthetic.protocols_of(truth, found)
    flat = [page.Curves(np.zeros((4, len(classes))), np.zeros((1, len(classes))), [0])] * len(
        videos
    )
    method = page.Method("M", found, scored, curves or flat, RULE)
    page.write_page(path, synthetic.about([method]), classes, videos, [method], truth)
    return data_of(path.read_text())


# ------------------------------------------------------------------------------ statistics
def test_curves_of_a_log():
    log = [
        {"stage": "W-TALC", "epoch": 1, "loss": {"mil": 3.0}},
        {"stage": "W-TALC", "epoch": 2, "loss": {"mil": 2.0, "cas": 1.0}},
        synthetic.epoch(1, "M", 1, {"rgb": 0.9}, 1.0),
        synthetic.epoch(2, "E", 1, {"rgb": 0.7}, 0.5),
        synthetic.epoch(2, "E", 2, {"rgb": 0.6}, 0.5),
        synthetic.epoch(3, "M", 1, {"rgb": 0.5}, 0.4, 0.2),
    ]
    losses, labels, classifier = page.curves(log)
    assert losses["title"] == "EM-MIL" and losses["shade"] == [[1.5, 3.5]]
    assert losses["series"] == [  # no line across the epochs in which a step pauses
        {"name": "M step, rgb", "x": [1, 3, 4], "y": [0.9, None, 0.5]},
        {"name": "E step, rgb", "x": [2, 3], "y": [0.7, 0.6]},
    ]
    assert labels["percent"] and labels["series"] == [
        {"name": "E step, positive clips", "x": [2], "y": [50.0]},
        {"name": "M step, positive clips", "x": [1, 4], "y": [100.0, 40.0]},
        {"name": "M step, labels changed", "x": [4], "y": [20.0]},
    ]
    assert classifier["title"] == "W-TALC" and classifier["x"] == "hundreds of iterations"
    assert classifier["series"] == [
        {"name": "mil", "x": [1, 2], "y": [3.0, 2.0]},
        {"name": "cas", "x": [2], "y": [1.0]},
    ]
    assert page.curves([]) == []


def test_intervals_are_those_of_the_draws(found, tmp_path, monkeypatch):
    monkeypatch.setattr(page, "DRAWS", 60)
    synthetic.write(tmp_path / "a.html", found)
    tables = [(found.detections, None)]
    draws = list(islice(eval_detection.bootstrap(found.truth, tables, synthetic.TIOUS), 60))
    draws = np.array(draws)[:, 0]  # (60, 2): of tIoU 0.3 and 0.5
    values = [*draws.T, draws.mean(axis=1)]
    expected = ["–".join(f"{100 * v:.1f}" for v in np.percentile(x, (2.5, 97.5))) for x in values]
    text = (tmp_path / "a.html").read_text()
    assert re.findall(r"<small>([\d.–]+)</small>", text) == expected
    assert "60 draws" in text and "fewer than usual" not in text and "One seed" in text


def test_methods_are_compared_on_the_same_draws(found, tmp_path, monkeypatch):
    monkeypatch.setattr(page, "DRAWS", 60)
    other = dataclasses.replace(found, rule=dataclasses.replace(found.rule, lam=0.1))
    methods = [synthetic.method(found, "A"), synthetic.method(other, "B")]
    synthetic.write(tmp_path / "a.html", found, methods)
    tables = [(method.detections, None) for method in methods]
    draws = np.array(list(islice(eval_detection.bootstrap(found.truth, tables, [0.5]), 60)))
    low, high = 100 * np.percentile(draws[:, 0, 0] - draws[:, 1, 0], (2.5, 97.5))
    own, theirs = (eval_detection.score(found.truth, t, [0.5]).map[0] for t, _ in tables)
    said = f"mAP@0.5, A minus B {100 * (own - theirs):+.1f} ({low:+.1f} to {high:+.1f})"
    assert said in (tmp_path / "a.html").read_text()


def test_where_time_is_short_there_are_fewer_draws_and_a_coarser_grid(found, tmp_path, monkeypatch):
    whole = {"DRAWS": 60, "SECONDS": 0.0, "LAMBDAS": np.arange(11) / 10, "GAMMAS": (0, 0.1, 0.2)}
    for name, value in whole.items():
        monkeypatch.setattr(page, name, value)
    data = content(tmp_path / "a.html", found)
    assert "50 draws with replacement, fewer than usual" in (tmp_path / "a.html").read_text()
    sweep = data["methods"][0]["sweep"]
    assert sweep["coarse"] and sweep["lams"] == [0, 0.5, 0.8]
    assert sweep["gammas"] == [0.15]


@pytest.mark.parametrize("lam, gammas, own", [(0.8, (0.15,), [2, 1]), (0.33, (0.0, 0.1), None)])
def test_map_over_lambda_and_gamma_is_the_evaluation(
    found, tmp_path, monkeypatch, lam, gammas, own
):
    monkeypatch.setattr(page, "LAMBDAS", (0.0, 0.4, 0.9))
    monkeypatch.setattr(page, "GAMMAS", (0.0, 0.2))
    rule = dataclasses.replace(found.rule, lam=lam, gammas=gammas)
    run = dataclasses.replace(found, rule=rule)
    data = content(tmp_path / "a.html", run)
    sweep = data["methods"][0]["sweep"]
    assert sweep["own"] == own and not sweep["coarse"]
    assert sweep["lams"] == ([0.0, 0.4, 0.8] if own else [0.0, 0.33, 0.9])
    assert sweep["gammas"] == ([0.0, 0.15] if own else [0.0, 0.2])
    for name, at in (("mAP@0.5", 1), ("mAP, average over tIoU", slice(None))):
        for g, gamma in enumerate(sweep["gammas"]):
            for l, other in enumerate(sweep["lams"]):
                again = eval_detection.score(found.truth, run.again(other, gamma), synthetic.TIOUS)
                value = 100 * again.map[at].mean()
                assert sweep["maps"][name][g][l] == round(value, 1)
    if own:  # the framed cell is the table's number
        assert (
            sweep["maps"]["mAP@0.5"][1][2] == data["methods"][0]["protocols"]["activitynet"]["map"]
        )


def test_costs_by_hand(tmp_path):
    """x: precision at the hits is 1/2, or 1 without the one before. y: 1/1 and 2/3."""
    real = truth(("v", 0, 10, "x"), ("v", 20, 30, "y"), ("v", 40, 50, "y"))
    found = detections(
        ("v", 4, 10.5, "x", 0.9),  # a hit: 6 of 10.5
        ("v", 0, 4, "x", 0.95),  # shifted
        ("v", 20, 30, "y", 0.9),
        ("v", 60, 70, "y", 0.8),  # background
        ("v", 40, 50, "y", 0.7),
        ("v", 0, 10, "y", 0.1),  # wrong class, after the last hit: costs nothing
    )
    judged = by_hand(tmp_path / "a.html", ["x", "y"], [("v", 70)], found, real)["methods"][0]
    judged = judged["protocols"]["activitynet"]
    assert judged["ap"] == [[0, 50.0, 1], [1, 83.3, 2]] and judged["map"] == 66.7
    assert judged["costs"] == {
        "shifted": [91.7, 25.0, [100.0, 83.3]],
        "background": [75.0, 8.3, [50.0, 100.0]],
        "wrong class": [66.7, 0.0, [50.0, 83.3]],
    }


# --------------------------------------------------------------------------------- content
def test_content_by_hand(tmp_path):
    real = truth(("v", 0, 2, "jump"), ("v", 4, 6, "jump"), ("w", 1, 2, "kick"))
    found = detections(
        ("v", 4, 6, "jump", 0.9),
        ("v", 3, 3.5, "kick", 0.5),
        ("v", 0, 0.50004, "jump", 0.8),
        ("v", 0, 2.2, "walk", 0.1),  # no segment of its class anywhere
        ("v", 4.1, 6, "kick", 0.3),
    )
    q, curves = np.linspace(0, 1, 12), np.array([[-2.0, 1, 3], [0, 1, 1], [2, 1, -1]])
    curves = [
        page.Curves(np.zeros((12, 3)), np.zeros((1, 3)), [1], q, np.zeros((12, 3))),
        page.Curves(curves, np.array([[0.0, 1, 2.5], [1, 1, 1]]), [0, 2]),
    ]
    videos = [("v", 6.0), ("w", 3.0)]
    data = by_hand(tmp_path / "a.html", ["walk", "kick", "jump"], videos, found, real, curves)
    method, (v, w) = data["methods"][0], data["videos"]
    assert v == {"n": "v", "s": 6.0, "w": [0.5, 0.5], "t": [[2, 0, 2], [2, 4, 6]], "a": []}
    assert w["t"] == [[1, 1, 2]]
    of_v, of_w = method["videos"]
    assert of_v["d"][:3] == [[2, 4, 6, 0.9], [1, 3, 3.5, 0.5], [2, 0, 0.5, 0.8]] and of_v["h"] == 0
    # classes with ground truth first, then the best detections
    assert [(row["c"], row["g"]) for row in of_v["r"]] == [(2, 0), (1, 1), (0, 0)] and of_v["q"]
    assert of_w["q"] == "" and [(row["c"], row["g"]) for row in of_w["r"]] == [
        (1, 0),
        (0, 1),
        (2, 1),
    ]
    assert of_w["r"][2]["x"] == [-1.0, 3.0] and of_w["r"][2]["l"] == [2.5, 1.0]
    back = np.frombuffer(base64.b64decode(of_w["r"][2]["y"]), "<u2") / 65535 * 4 - 1
    assert back == pytest.approx([3, 1, -1], abs=1e-4)
    judged = method["protocols"]["activitynet"]
    names = ["true positive", "background", "localization", "", "wrong label"]
    ap, kinds, hits, others = judged["videos"][0]
    assert [KINDS[int(k)] for k in kinds] == names and hits == "01"
    assert ap == 50.0 and others == [2]  # a jump taken for a kick
    assert judged["videos"][1] == [0.0, "", "0", []]


def test_classes_beyond_the_limit_are_counted(tmp_path):
    found = detections(*[("v", 0, 1, f"c{k}", k / 20) for k in range(12)])
    classes, real = [f"c{k}" for k in range(12)], truth(("v", 3, 4, "c0"))
    data = by_hand(tmp_path / "a.html", classes, [("v", 5.0)], found, real)
    (video,) = data["methods"][0]["videos"]
    assert video["h"] == 12 - page.MAX_ROWS and len(video["d"]) == 12
    assert [row["c"] for row in video["r"]] == [0, 11, 10, 9, 8, 7, 6, 5]


def test_scores_are_kept_to_16_bits(tmp_path):
    rng = np.random.default_rng(0)
    q, p = rng.random(50), rng.random((50, 2))
    q[:2] = -1e-6, 1 + 1e-6  # rounding of a weighted mean

    curves = [page.Curves(p, np.zeros((1, 2)), [0, 1], q, p)]
    data = by_hand(tmp_path / "a.html", ["x", "y"], [("v", 25.0)], detections(), curves=curves)
    (shown,) = data["methods"][0]["videos"]
    for packed, values in ((shown["q"], q.clip(0, 1)), (shown["r"][1]["y"], p[:, 1])):
        back = np.frombuffer(base64.b64decode(packed), "<u2") / 65535
        assert np.abs(back - values).max() <= 0.5 / 65535


# -------------------------------------------------------------------------------- the file
def test_only_the_pages_own_script_may_run_and_nothing_is_loaded(tmp_path, found):
    synthetic.write(tmp_path / "a.html", found)
    text = (tmp_path / "a.html").read_text()
    policy = re.search(r'Content-Security-Policy"\s+content="([^"]*)"', text)[1]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-eval" not in policy and "script-src 'unsafe-inline'" not in policy
    assert not re.search(r'(src|href)="(?!#|data:,")', text) and "@import" not in text
    assert set(re.findall(r"https?://[^\"' ]*", text)) <= {"http://www.w3.org/2000/svg"}
    synthetic.write(tmp_path / "b.html", found)  # the same results, the same file
    assert (tmp_path / "b.html").read_text() == text


@pytest.mark.parametrize(
    "n_videos, n_classes, seconds, limit",
    [(212, 20, 217, 1.5e6), pytest.param(2383, 100, 117, 10e6, marks=pytest.mark.slow)],
)
def test_size(tmp_path, n_videos, n_classes, seconds, limit):
    synthetic.write(tmp_path / "a.html", synthetic.results(n_videos, n_classes, seconds))
    assert (tmp_path / "a.html").stat().st_size < limit


def test_a_page_that_cannot_be_written(tmp_path, found):
    with pytest.raises(InputError, match="expected a folder to write in"):
        synthetic.write(tmp_path / "absent" / "report.html", found)
