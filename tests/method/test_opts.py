"""Precedence, validation, the schedules and the two recipes, who may change what, the flags."""

import dataclasses
import json
import re

import pytest

import opts
from formats.files import InputError
from jobs import setup  # noqa: F401  (it names the methods, protocols, ... an option may have)
from opts import GROUPS, JOBS, changed, flag_of, parse, resolve, schedule


def of(*argv):
    return resolve(parse(list(argv)).given)


def refused(call, *args):
    """The InputError that a call must raise."""
    with pytest.raises(InputError) as error:
        call(*args)
    return error.value


def epochs(o):
    """(epoch from 1, step, learning rate) of each epoch."""
    rows = [(step, lr) for step, n, lr, _ in schedule(o) for _ in range(n)]
    return [(k + 1, *row) for k, row in enumerate(rows)]


# ---- values
def test_flag_over_recipe_over_preset_over_dataset(monkeypatch):
    monkeypatch.setattr(opts, "DATASET", "activitynet12")
    assert of().lam == 0.3 and of().dataset == "activitynet12"
    assert of("--dataset", "thumos14").lam == 0.8
    assert of("--dataset", "thumos14", "--recipe", "release").lam == 0.5
    assert of("--dataset", "thumos14", "--recipe", "release", "--lambda", "0.7").lam == 0.7


def test_the_papers_values():
    thumos, anet = of("--dataset", "thumos14"), of("--dataset", "activitynet12")
    said = ("lam", "gamma", "video_classifier", "lr", "gate")
    assert [getattr(thumos, name) for name in said] == [0.8, 0.15, "untrimmednet", 1e-4, 0.15]
    assert [getattr(anet, name) for name in said[:4]] == [0.3, 0.0, "wtalc", 1e-4]
    assert thumos.tious == (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
    assert anet.tious == (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
    assert thumos.gammas_at_test == (0.15,) and anet.gammas_at_test == (0.0,)


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
    rows = schedule(of("--dataset", "activitynet12", "--cycle-epochs", "12"))  # the last is cut
    assert [r[:2] for r in rows] == [("M", 5), ("E", 5), ("M", 2)]


def test_joint_training_makes_as_many_updates():
    rows = schedule(of("--dataset", "thumos14", "--joint", "epoch"))
    assert [r[:2] for r in rows] == [("EM", 1)] * 65
    assert [r[3] for r in rows] == ["bag"] + ["frozen"] * 64
    assert [r[2] for r in rows] == [1e-4] * 30 + [4e-4] * 35


def test_release_differs_from_paper_in_three_things_only():
    paper, release = of("--dataset", "thumos14"), of("--dataset", "thumos14", "--recipe", "release")
    assert set(changed(paper, release, *GROUPS)) == {"recipe", "boost_from", "lam", "test_gamma"}
    assert release.lam == 0.5 and release.gammas_at_test == (0.05,)
    assert release.gamma == paper.gamma == 0.15
    assert [a[:2] for a in epochs(paper)] == [b[:2] for b in epochs(release)]
    assert [e for e, _, lr in epochs(paper) if lr > 2e-4] == list(range(31, 66))
    assert [e for e, _, lr in epochs(release) if lr > 2e-4] == list(range(21, 66))


@pytest.mark.parametrize(
    "flags, processes, name",
    [
        ("", 1, "paper"),
        ("--recipe release", 1, "release"),
        ("--seed 2 --device cpu --tiou 0.5 --snippet-seconds 1 --method wtalc", 1, "paper"),
        ("--gamma 0.2 --keep-peak", 1, "paper, but gamma 0.2, keep-peak True"),
        (
            "--exclude-video a --video-classifier oracle",
            1,
            "paper, but exclude-video a, video-classifier oracle",
        ),
        ("--videos-per-step 2", 1, "paper, but videos-per-step 2"),
        ("", 2, "paper, but 2 videos per update (2 processes)"),
        ("--videos-per-step 3", 2, "paper, but 6 videos per update (2 processes)"),
    ],
)
def test_the_recipe_is_named_with_all_that_departs_from_it(flags, processes, name):
    assert opts.recipe_of(of(*flags.split()), processes) == name


@pytest.mark.parametrize(
    "flags, where, found",
    [
        ("--lambda 1.5", "--lambda", "1.5"),
        ("--lambda nan", "--lambda", "nan"),
        ("--gamma 1", "--gamma", "1.0"),
        ("--gamma -0.1", "--gamma", "-0.1"),
        ("--lr 0", "--lr", "0.0"),
        ("--cycle 0", "--cycle", "0"),
        ("--tiou 0.5 0", "--tiou", "0.0"),
        ("--seed -1", "--seed", "-1"),
        ("--snippet-seconds durations", "--snippet-seconds", "'durations'"),
        ("--snippet-seconds 0", "--snippet-seconds", "0.0"),
        ("--snippet-seconds nan", "--snippet-seconds", "nan"),
        ("--recipe best", "--recipe", "'best'"),
        ("--method em-mil magic", "--method", "'magic'"),
        ("--dataset thumos", "--dataset", "'thumos'"),
        ("--device cuda:1", "--device", "'cuda:1'"),
        ("--soft-nms", "--soft-nms", "it without --nms"),
        ("--dataset thumos14 --boost-from 5", "--boost-from", 5),
        ("--dataset activitynet12 --recipe release", "--recipe", "release with activitynet12"),
        ("--thresholds 0.1 --test-gamma 0.2", "--thresholds", "it with a gamma at test"),
    ],
)
def test_a_value_out_of_range_is_named(flags, where, found):
    error = refused(of, *flags.split())
    assert (error.where, error.found) == (where, found)
    if where == "--device":
        assert "CUDA_VISIBLE_DEVICES" in error.expected


def test_a_typo_in_a_preset_is_named(monkeypatch):
    monkeypatch.setitem(opts.PRESETS, "mine", {"feature": "f"})
    error = refused(resolve, {"dataset": "mine"})
    assert "mine" in error.where and "feature" in error.found and "features" in error.expected


def test_options_are_frozen_and_survive_json():
    o = of("--dataset", "activitynet12", "--thresholds", "0", "0.1", "--nms", "0.5")
    with pytest.raises(dataclasses.FrozenInstanceError):
        o.lam = 0.5
    assert opts.of_json(json.loads(json.dumps(dataclasses.asdict(o))), "opts.json") == o


@pytest.mark.parametrize(
    "saved, where",
    [
        ([1, 2], "F"),
        ({"colour": "blue"}, "F"),
        ({"found a\nb\x1b[31m": 1}, "F"),
        *(({"lr": value}, "F: lr") for value in ("0.1", None, [0.1], True)),
        *(({"seed": value}, "F: seed") for value in (1.5, 10**400)),
        *(({"tious": value}, "F: tious") for value in (0.5, [[0.5]])),
        ({"tious": ["x"]}, "F: --tiou"),
        ({"tious": []}, "F: --tiou"),
        ({"method": []}, "F: --method"),
        ({"keep_peak": 1}, "F: keep_peak"),
        ({"nms": "x"}, "F: nms"),
        ({"device": []}, "F: device"),
        ({"lam": float("nan")}, "F: --lambda"),
        ({"dataset": "x"}, "F: --dataset"),
    ],
)
def test_saved_options_are_checked(saved, where):
    error = refused(opts.of_json, saved, "F")
    assert error.where == where and str(error).isprintable()


def test_what_saved_options_lack_is_the_presets():
    assert opts.of_json({"dataset": "activitynet12", "lr": 1}, "F").lam == 0.3


# ---- groups
def test_each_option_has_a_group_and_help():
    for f in opts.FIELDS.values():
        assert f.metadata["group"] in GROUPS and f.metadata["help"]
    assert set(opts.RECIPE).union(*JOBS.values()) <= set(GROUPS)
    assert len({flag_of(f) for f in opts.FIELDS.values()}) == len(opts.FIELDS)


@pytest.mark.parametrize(
    "job, taken, refused_ones",
    [
        (
            "resume",
            "--features x --lambda 0.1 --tiou 0.5 --device cpu",
            "--seed 5 --lr 1 --cycle 2 --train-subset a --snippet-seconds 1 --exclude-video a "
            "--clip-seconds 1 --recipe release --dataset custom --streams rgb",
        ),
        (
            "evaluate",
            "--lambda 0.1 --tiou 0.5 --protocol all --gate 0.1 --method wtalc --video-scores x",
            "--seed 5 --keep-peak --lr 1 --test-subset a --dataset custom --features x "
            "--device cpu",
        ),
        (
            "predict",
            "--features x --key k --streams rgb --snippet-seconds 1 --gate 0.1 --method wtalc",
            "--seed 5 --lr 1 --exclude-video a",
        ),
    ],
)
def test_a_job_takes_the_options_of_its_groups(job, taken, refused_ones):
    old = of("--dataset", "demo")
    given = parse(taken.split()).given
    o = opts.at_test(job, given, old, "RUN")
    assert {name: getattr(o, name) for name in given} == given
    flags = [word for word in refused_ones.split() if word.startswith("--")]
    given = parse(refused_ones.split()).given
    error = refused(opts.at_test, job, given, old, "RUN")
    assert set(error.where.split(", ")) == set(flags) and "RUN" in error.expected
    assert opts.at_test(job, {name: getattr(old, name) for name in given}, old, "RUN") == old


def test_gamma_is_the_gamma_of_the_test_there():
    old = of("--thresholds", "0", "0.4")
    o = opts.at_test("evaluate", {"gamma": 0.2}, old, "RUN")
    assert o.gamma == old.gamma and o.gammas_at_test == (0.2,)
    old = of("--test-gamma", "0.3")
    assert opts.at_test("evaluate", {"thresholds": (0.1,)}, old, "RUN").gammas_at_test == (0.1,)
    for given in ({"gamma": 0.1, "test_gamma": 0.1}, {"gamma": 0.1, "thresholds": (0.1,)}):
        refused(opts.at_test, "evaluate", given, old, "RUN")


# ---- the command line
@pytest.mark.parametrize(
    "argv, near",
    [
        ("--lam 0.5", "--lambda"),
        ("--datase demo", "--dataset"),
        ("--methods em-mil", "--method"),
        ("--picture 2", ""),
    ],
)
def test_an_unknown_flag_names_the_nearest(argv, near):
    error = refused(parse, argv.split())
    assert error.where == argv.split()[0] and near in error.expected


@pytest.mark.parametrize("argv", ["--cycle 2.5", "extra", "--resume a --predict b", "--cycle"])
def test_what_no_flag_takes_is_one_line(argv):
    assert str(refused(parse, argv.split())).isprintable()


@pytest.mark.parametrize("flag", opts.REMOVED)
def test_flags_of_earlier_versions_are_refused_by_name(flag):
    for argv in ([flag, "1"], [f"{flag}=1"], ["--seed", "1", flag]):
        error = refused(parse, argv)
        assert error.where == flag and opts.REMOVED[flag] in error.expected


@pytest.mark.parametrize("flag, job", [("--other-code", "--resume"), ("--keep-going", "--predict")])
def test_a_flag_of_one_job(flag, job):
    for argv in ([flag], [flag, "--evaluate", "RUN"]):
        error = refused(parse, argv)
        assert error.where == flag and job in error.found
    assert parse([flag, job, "RUN"]).job == job[2:]


def test_videos_left_out_add_up_and_may_begin_with_a_hyphen():
    argv = "--exclude-video a b --exclude-video=-c --exclude-video=-d --tiou 0.1 --tiou 0.2"
    o = of(*argv.split())
    assert o.exclude_video == ("a", "b", "-c", "-d") and o.tious == (0.2,)


@pytest.mark.parametrize("argv, lam", [([], 0.8), (["--dataset", "activitynet12"], 0.3)])
def test_help_is_short_and_shows_the_chosen_datasets_defaults(argv, lam, capsys):
    with pytest.raises(SystemExit):
        parse([*argv, "--help"])
    text = capsys.readouterr().out
    assert len(text.splitlines()) < 120 and max(map(len, text.splitlines())) <= 100
    known = set(re.findall(r"--[\w-]+", text))
    assert {flag_of(f) for f in opts.FIELDS.values()} <= known
    assert re.search(rf"--lambda .*\[{lam}\]", text)
    assert all(f"\n{heading}:\n" in text for heading in GROUPS.values())


def test_parsing_and_resolving_touch_no_disk(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("builtins.open", lambda *a, **k: pytest.fail("opened a file"))
    of("--features", "nowhere.h5", "--annotations", "nowhere.json", "--out", "x")
    assert list(tmp_path.iterdir()) == []


def test_a_tools_flags_are_those_of_its_groups():
    parser = opts.Parser("tool", "text")
    opts.add_flags(parser, ("files", "clips", "arrays"), ("features", "annotations"))
    found = parser.parse_args("--streams rgb --snippet-seconds duration --key k".split())
    said = {"streams": "rgb", "snippet_seconds": "duration", "key": "k"}
    assert opts.reading(found) == said
    assert opts.reading(of("--streams", "rgb", "--flow-features", "f")) == {
        "streams": "rgb",
        "flow_features": "f",
    }
    with pytest.raises(InputError):
        parser.parse_args(["--features", "x"])
