"""Claims and choices: statistics by hand, the two variants of training, and the pages end to end."""

import itertools
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from commands import words, write_set

import em_trainer
import opts
import reproduce
import run
from engine.loop import Bag
from methods.stream_labels import StreamEStep, StreamMStep
from model import EMMIL
from paper import claims, runs
from pseudo_labels import class_labels, key_instance_labels

WORDS = "supported", "opposite", "open"


# ---- statistics
def test_likelihood_is_that_of_every_assignment():
    """Eq. 1 summed over all 2^4 assignments z, each with its probability under q."""
    rng = np.random.default_rng(0)
    q, p = rng.random(4), rng.random((4, 3))
    for name, operator in (("max", np.max), ("mean", np.mean)):
        expected = np.zeros(3)
        for z in itertools.product((0, 1), repeat=4):
            z = np.array(z)
            weight = np.prod(np.where(z, q, 1 - q))
            expected += weight * operator(p * z[:, None], axis=0)
        sigma = claims.SIGMA[name]
        assert sigma(q, p) == pytest.approx(expected)
        y = np.array([1, 0, 1])
        log_p = np.log(expected[0]) + np.log(1 - expected[1]) + np.log(expected[2])
        assert claims.log_likelihood(q, p, y, sigma) == pytest.approx(log_p)


def test_a_mean_over_videos_weighs_them_by_their_clips():
    """Two seeds of three videos: gaps of 3 of 10 and 5 of 10 clips."""
    test = claims.by_video(np.array([[1, 2, 0], [1, 4, 0]]), np.array([2, 4, 4]))
    assert test["difference"] == pytest.approx(0.4)
    t = 0.4 / (np.std([0.3, 0.5], ddof=1) / 2**0.5)  # one degree of freedom: Cauchy
    assert test["t"] == pytest.approx(1 - 2 / np.pi * np.arctan(t))
    # the third video alone gives 0, the second alone 3 of 4 clips
    assert test["videos"] == pytest.approx([0, 0.75])


@pytest.mark.parametrize(
    "difference, p, videos, expected",
    [
        (0.1, 0.04, (0.01, 0.2), "supported"),
        (-0.1, 0.04, (-0.2, -0.01), "opposite"),
        (0.1, 0.05, (0.01, 0.2), "open by p"),
        (0.1, 0.04, (0.0, 0.2), "open by the interval"),
        (0.1, 0.2, (-0.1, 0.2), "open by p and the interval"),
        (0.1, 0.04, None, "supported"),
        (0.1, None, (0.01, 0.2), "open: needs seeds that differ"),
        (0.0, None, (0.0, 0.0), "open: the numbers are equal"),
    ],
)
def test_a_verdict_needs_both(difference, p, videos, expected):
    row = claims.Row("x", "", "", {"difference": difference, "t": p, "videos": videos})
    assert claims.verdict(row, WORDS) == expected


# ---- variants of the training
def rows(**options):
    return opts.resolve({"dataset": "thumos14", **options}).phases


def test_the_other_step_begins():
    usual, long, short = (rows(other_first=value) for value in ("off", "long", "short"))
    assert "".join(row[0] for row in usual[:6]) == "MEMEME"
    assert "".join(row[0] for row in long[:6]) == "EMEMEM"
    assert "".join(row[0] for row in short[:6]) == "MEMMEM"  # three long phases
    for other in (long, short):
        assert [row[1:] for row in other] == [row[1:] for row in usual]


def test_half_of_a_joint_training_has_as_many_updates_as_turns():
    half = rows(joint="half")
    assert {row[:2] for row in half} == {("EM", 1)} and len(half) == 33  # of 65, in two branches
    assert [row[2] for row in half] == [1e-4] * 15 + [4e-4] * 18  # epochs 1, 3, ..., 65
    assert [row[3] for row in half[:2]] == ["bag", "frozen"]


@pytest.fixture
def bag():
    torch.manual_seed(1)
    rgb, flow, y = torch.randn(7, 4), torch.randn(7, 3), torch.tensor([1.0, 0, 1])
    return Bag(0, "v", rgb, flow, y)


def test_labels_of_a_stream_come_from_its_own_scores(bag):
    """Each stream learns what a model of this stream alone would learn."""
    torch.manual_seed(0)
    model = EMMIL(4, 3, 3)
    steps = StreamEStep(model), StreamMStep(model, 0.1)
    logits = model(bag.rgb, bag.flow)
    with torch.no_grad():
        z_hat, y_hat = (step.pseudo_labels(bag) for step in steps)
    assert z_hat.shape == steps[0].label_shape(7, 3) == (7, 2)
    assert y_hat.shape == steps[1].label_shape(7, 3) == (7, 3, 2)
    losses = steps[0].losses(bag, z_hat), steps[1].losses(bag, y_hat)
    for s, stream in enumerate(("rgb", "flow")):
        p, q = (torch.sigmoid(getattr(x, stream)) for x in (logits.p_logits, logits.q_logits))
        own = key_instance_labels(p, bag.y), class_labels(q[:, 0], bag.y, 0.1)
        assert torch.equal(z_hat[:, s], own[0]) and torch.equal(y_hat[..., s], own[1])
        q_logits, p_logits = getattr(logits.q_logits, stream), getattr(logits.p_logits, stream)
        assert losses[0][stream] == em_trainer.assignment_loss(q_logits[:, 0], own[0])
        assert losses[1][stream] == em_trainer.classification_loss(p_logits, own[1])
    assert not torch.equal(z_hat[:, 0], z_hat[:, 1])


def test_the_first_labels_of_the_streams_are_those_of_the_bag(bag):
    model = EMMIL(4, None, 3)  # one stream
    for step, expected in (
        (StreamEStep(model), torch.ones(7, 1)),
        (StreamMStep(model, 0.1), bag.y.expand(7, 3)[..., None]),
    ):
        shape = step.label_shape(7, 3)
        assert torch.equal(step.bag_labels(bag).expand(shape), expected)


# ---- pages
@pytest.mark.slow
def test_the_pages_say_what_the_runs_say(tmp_path, monkeypatch):
    """Every claim and choice on a tiny set, from runs that are trained here."""
    flags = write_set(tmp_path / "data")
    at, end = flags.index("--method"), flags.index("--untrimmednet-epochs")
    flags = [*flags[:at], *flags[end:], *words("--out {} --seeds 2", tmp_path / "out")]
    s = reproduce.setup_of(["claims", *flags])
    s.variants |= claims.needs_claims(s) | claims.needs_choices(s)
    for variant, seed in itertools.product(s.variants, s.seeds):
        one = runs.planned(s, variant, seed)
        run.main(["--out", str(one.folder), *runs.flags_of(one.given)])
    monkeypatch.setattr(runs, "subprocess", None)  # nothing is trained again
    for name in ("claims", "choices"):
        reproduce.main([name, *flags])
    found = pd.read_csv(s.folder("claims") / "claims.csv").set_index("name")
    for label in ("Full beats Alternating", "EM-MIL beats W-TALC"):
        assert np.isfinite(found.loc[label, ["difference", "low", "high"]].astype(float)).all()
    assert found.loc["state of the art", "verdict"].startswith("not measurable here")
    measured = found["difference"].notna()
    assert measured.sum() == len(found) - 2
    # the same difference by `compare`, from the files of the runs
    pool = s.pool
    by_hand = reproduce.main(
        [
            "compare",
            f"{pool}/attention-s*",
            f"{pool}/em-mil-s*",
            "--resamples",
            "5",
            "--tiou",
            "0.5",
        ]
    )
    gap = by_hand["columns"][0.5]["difference"]
    assert found.loc["Full beats Alternating", "difference"] == pytest.approx(100 * gap)
    s = reproduce.setup_of(["choices", *flags])
    choices = pd.read_csv(s.folder("choices") / "choices.csv").set_index("name")
    assert choices["difference"].notna().all() and len(choices) == 9


def test_what_cannot_be_measured_says_why():
    """Without a run every row has its reason; a schedule of long phases has no short ones."""
    o = opts.resolve({"dataset": "activitynet12"})
    assert "other-first-short" not in claims.needs_choices(SimpleNamespace(o=o))
    assert "other-first-short" in claims.needs_choices(SimpleNamespace(o=opts.resolve({})))
    row = claims.Row("x", "", why="no data")
    assert claims.verdict(row, WORDS) == "not measurable here: no data"
