"""Precedence, validation, the schedules and the two recipes."""

import dataclasses
import json
import re

import pytest

import opts
import run  # noqa: F401  (it names the methods, protocols, ... that an option may have)
from opts import OptionError, changed, flag_of, parse, resolve, schedule


def of(*argv):
    return resolve(parse(list(argv)).given)


def epochs(o):
    """(epoch from 1, step, learning rate) of each epoch."""
    rows = [(step, lr) for step, n, lr, _ in schedule(o) for _ in range(n)]
    return [(k + 1, *row) for k, row in enumerate(rows)]


def test_flag_over_recipe_over_preset_over_dataset(monkeypatch):
    monkeypatch.setattr(opts, "DATASET", "activitynet12")
    assert of().lam == 0.3 and of().dataset == "activitynet12"
    assert of("--dataset", "thumos14").lam == 0.8
    assert of("--dataset", "thumos14", "--recipe", "release").lam == 0.5
    assert of("--dataset", "thumos14", "--recipe", "release", "--lambda", "0.7").lam == 0.7


def test_the_papers_values():
    thumos, anet = of("--dataset", "thumos14"), of("--dataset", "activitynet12")
    assert (thumos.lam, thumos.gamma, thumos.video_classifier, thumos.lr, thumos.gate) == (
        0.8,
        0.15,
        "untrimmednet",
        1e-4,
        0.15,
    )
    assert (anet.lam, anet.gamma, anet.video_classifier, anet.lr) == (0.3, 0.0, "wtalc", 1e-4)
    assert thumos.tious == (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7) and anet.tious[0] == 0.5
    assert anet.tious[-1] == 0.95
    assert len(anet.tious) == 10 and thumos.gammas_at_test == (0.15,)
    assert anet.gammas_at_test == (0.0,)


def test_schedule_of_thumos14():
    rows = schedule(of("--dataset", "thumos14"))
    assert rows[:5] == [
        ("M", 10, 1e-4, "bag"),
        ("E", 10, 1e-4, "frozen"),
        ("M", 10, 1e-4, "frozen"),
        ("E", 1, 4e-4, "frozen"),
        ("M", 1, 4e-4, "frozen"),
    ]
    assert len(rows) == 3 + 35 and sum(n for _, n, _, _ in rows) == 65 and rows[-1][0] == "E"
    assert [r[0] for r in rows[3:]].count("E") == 18 and [r[0] for r in rows[3:]].count("M") == 17


def test_schedule_of_activitynet12():
    rows = schedule(of("--dataset", "activitynet12"))
    assert rows[0] == ("M", 5, 1e-4, "bag")
    assert rows[1:] == [("EM"[k % 2], 5, 1e-4, "frozen") for k in range(12)]


def test_release_differs_from_paper_in_three_things_only():
    paper, release = of("--dataset", "thumos14"), of("--dataset", "thumos14", "--recipe", "release")
    differs = {
        f.name
        for f in dataclasses.fields(paper)
        if getattr(paper, f.name) != getattr(release, f.name)
    }
    assert differs == {"recipe", "boost_from", "lam", "test_gamma"}
    assert release.lam == 0.5 and release.gammas_at_test == (0.05,)
    assert release.gamma == paper.gamma == 0.15
    assert [a[:2] for a in epochs(paper)] == [b[:2] for b in epochs(release)]
    assert [e for e, _, lr in epochs(paper) if lr > 2e-4] == list(range(31, 66))
    assert [e for e, _, lr in epochs(release) if lr > 2e-4] == list(range(21, 66))


@pytest.mark.parametrize(
    "flags, processes, name",
    [
        ([], 1, "paper"),
        (["--recipe", "release"], 1, "release"),
        (["--seed", "2", "--device", "cpu", "--tiou", "0.5"], 1, "paper"),
        (["--gamma", "0.2", "--keep-peak"], 1, "paper, but gamma 0.2, keep-peak True"),
        (["--videos-per-step", "2"], 1, "paper, but videos-per-step 2"),
        ([], 2, "paper, but 2 videos per update (2 processes)"),
        (["--videos-per-step", "3"], 2, "paper, but 6 videos per update (2 processes)"),
    ],
)
def test_the_recipe_is_named_with_all_that_departs_from_it(flags, processes, name):
    assert opts.recipe_of(of(*flags), processes) == name


def test_joint_training_makes_as_many_updates():
    rows = schedule(of("--dataset", "thumos14", "--joint", "epoch"))
    assert [r[:2] for r in rows] == [("EM", 1)] * 65
    assert [r[3] for r in rows] == ["bag"] + ["frozen"] * 64
    assert [r[2] for r in rows] == [1e-4] * 30 + [4e-4] * 35


def test_last_long_phase_is_cut_to_the_epochs_left():
    rows = schedule(of("--dataset", "activitynet12", "--cycle-epochs", "12"))
    assert [r[:2] for r in rows] == [("M", 5), ("E", 5), ("M", 2)]


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--lambda", "1.5"], "--lambda: found 1.5, expected a number in [0, 1]"),
        (["--lambda", "nan"], "--lambda: found nan, expected a number in [0, 1]"),
        (["--gamma", "1"], "--gamma: found 1.0, expected a number in [0, 1)"),
        (["--gamma", "-0.1"], "--gamma: found -0.1, expected a number in [0, 1)"),
        (["--lr", "0"], "--lr: found 0.0, expected a number in (0, inf)"),
        (["--cycle", "0"], "--cycle: found 0, expected a number in [1, inf)"),
        (["--tiou", "0.5", "0"], "--tiou: found 0.0, expected a number in (0, 1]"),
        (["--seed", "-1"], "--seed: found -1, expected a number in [0, 4294967295]"),
        (["--recipe", "best"], "--recipe: found 'best', expected one of paper, release"),
        (
            ["--method", "em-mil", "magic"],
            "--method: found 'magic', expected one of em-mil, untrimmednet, wtalc",
        ),
        (["--soft-nms"], "--soft-nms: found without --nms, expected --nms with its tIoU"),
        (
            ["--dataset", "thumos14", "--boost-from", "5"],
            "--boost-from: found 5, expected the first epoch of a phase: 1, 11, 21, 31, 32, 33, ...",
        ),
    ],
)
def test_a_value_out_of_range_is_named_with_its_range(flags, message):
    with pytest.raises(OptionError) as error:
        of(*flags)
    assert str(error.value) == message


@pytest.mark.parametrize(
    "argv",
    [
        ["--datase", "demo"],
        ["--unknown"],
        ["--cycle", "2.5"],
        ["extra"],
        ["--resume", "a", "--predict", "b"],
    ],
)
def test_unknown_and_abbreviated_flags_are_fatal(argv, capsys):
    with pytest.raises(SystemExit) as exit:
        parse(argv)
    assert exit.value.code == 2 and "error" in capsys.readouterr().err


def test_every_field_has_help_and_a_flag_and_help_shows_preset_defaults(capsys):
    fields = dataclasses.fields(opts.Opts)
    assert all(f.metadata["help"] for f in fields)
    assert len({flag_of(f) for f in fields}) == len(fields)
    with pytest.raises(SystemExit):
        parse(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert {flag_of(f) for f in fields} <= set(re.findall(r"--[\w-]+", text))
    assert "demo 0.8; thumos14 0.8; thumos14-unt 0.8; activitynet12 0.3; custom 0.3" in text


def test_parsing_and_resolving_touch_no_disk(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("builtins.open", lambda *a, **k: pytest.fail("opened a file"))
    of("--features", "nowhere.h5", "--annotations", "nowhere.json", "--out", "x")
    assert list(tmp_path.iterdir()) == []


def test_options_are_frozen_and_survive_json():
    o = of("--dataset", "activitynet12", "--thresholds", "0", "0.1", "--nms", "0.5")
    with pytest.raises(dataclasses.FrozenInstanceError):
        o.lam = 0.5
    assert resolve({}, json.loads(json.dumps(dataclasses.asdict(o)))) == o
    with pytest.raises(OptionError, match="found colour"):
        resolve({}, {"colour": "blue"})


def test_changed_tells_training_from_test_time():
    old, new = (
        of("--dataset", "demo"),
        of("--dataset", "demo", "--lambda", "0.1", "--lr", "0.01", "--pictures", "0"),
    )
    assert changed(old, new, "train") == ["lr"] and changed(old, new, "test") == ["lam"]
    assert changed(old, new, "run") == ["pictures"]
