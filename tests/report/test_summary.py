"""The result page of a run: what the screen shows of many classes, and what the file holds."""

import re

import pytest

from report import summary


def results(n):
    """Of one method and n classes: class k of k + 1 segments has AP k / 100, so the last is best."""
    names = [f"class {k:02d}" for k in range(n)]
    scores = {
        "tious": [0.5],
        "map": [0.5],
        "averages": {},
        "ap": {name: [k / 100] for k, name in enumerate(names)},
        "segments": {name: k + 1 for k, name in enumerate(names)},
    }
    counts = {"videos": 1, "proposals": 1, "pairs": 1, "pairs_empty": 0, "pairs_constant": 0}
    counts["gate_fallback"] = 0
    return {
        "dataset": "custom",
        "seed": 1,
        "recipe": "paper",
        "local_changes": False,
        "classes_from": None,
        "classification": {},
        "train": {"labels_per_video": 1.0},
        "test": {"videos": 1, "segments": n, "classes": n, "ambiguous": 0},
        "rule": {"lam": 0.5, "gammas": [0.1], "gate": 0.2, "score": "mean"},
        "methods": {
            "em-mil": {
                "label": "EM-MIL",
                "localization": counts,
                "protocols": {"activitynet": scores},
            }
        },
    }


def shown(text):
    return [int(k) for k in re.findall(r"class (\d\d)", text)]


@pytest.mark.parametrize("n, left_out", [(1, 0), (10, 0), (14, 0), (15, 5)])
def test_the_screen_shows_the_five_best_and_worst_classes_and_the_file_all(n, left_out):
    blocks = summary.page(results(n), {}, "")
    text = summary.as_text(blocks)
    best_and_worst = [*range(n - 1, n - 6, -1), 4, 3, 2, 1, 0] if left_out else list(range(n))
    assert shown(text) == best_and_worst
    assert (f"... {left_out} more (--per-class) ..." in text) == (left_out > 0)
    assert text.splitlines()[-1].startswith("EM-MIL")  # the table of mAP comes last
    for whole in (summary.as_text(blocks, per_class=True), summary.as_markdown(blocks)):
        assert shown(whole) == list(range(n)) and "more (--per-class)" not in whole
    # the mean over classes, and the number of segments
    assert re.search(rf"\| mean \| [\d.]+ \| {n * (n + 1) // 2} \|", summary.as_markdown(blocks))


@pytest.mark.parametrize(
    "methods, settings",
    [
        (["em-mil", "wtalc"], "lambda 0.5, gamma 0.1, gate 0.2, score mean"),
        (["untrimmednet"], "gamma 0.1, gate 0.2, score mean"),
        (["wtalc"], "gate 0.2"),
    ],
)
def test_the_caption_has_the_settings_that_these_methods_use(methods, settings):
    of_run = results(1)
    of_run["methods"] = dict.fromkeys(methods, of_run["methods"]["em-mil"])
    assert summary.caption(of_run, "activitynet").endswith(f"; protocol activitynet; {settings}")


def test_no_classification_is_shown_where_no_test_video_has_a_label():
    of_run = results(1)
    of_run["classification"] = {
        "UntrimmedNet": {"map": float("nan"), "top1": float("nan")},
        "W-TALC": {"map": 0.5, "top1": 0.25},
    }
    text = summary.as_text(summary.page(of_run, {}, ""))
    assert "Video-level classification, W-TALC: mAP 50.0%, top-1 25.0%" in text
    assert "UntrimmedNet" not in text and "nan" not in text


@pytest.mark.parametrize(
    "videos, pairs, alone, labels, said",
    [
        (20, 21, 13, 10.0, ("0.40", "10.00", "13 of 20")),  # 7 videos pass 8 classes
        (10, 30, 0, 1.0, ("3.00", "1.00", "0 of 10")),
        (10, 15, 0, 1.0, None),  # 1.5 times
        (10, 16, 0, 1.0, ("1.60", "1.00")),
        (10, 20, 0, 3.0, None),
        (10, 19, 0, 3.0, ("1.90", "3.00")),
        (10, 10, 1, 1.0, None),  # a tenth of the videos
        (10, 10, 2, 1.0, ("0.80", "1.00", "2 of 10")),
        (10, 30, 0, None, None),  # a run of an earlier version: nobody knows the labels
        (10, 30, 2, None, ("2.80", "2 of 10")),
        (0, 0, 0, 1.0, None),
    ],
)
def test_the_gate_is_held_against_the_labels_of_a_training_video(
    videos, pairs, alone, labels, said
):
    line = summary.gate_warning(
        {"videos": videos, "pairs": pairs, "gate_fallback": alone}, 0.15, labels
    )
    assert (line is None) == (said is None)
    for part in (*(said or ()), "--gate") if said else ():
        assert part in line
    assert line is None or "\n" not in line
