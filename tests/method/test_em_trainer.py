"""EM-MIL's training: against a plain reference loop, and what each step may and may not move."""
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import em_trainer
from engine import loop as training
from em_trainer import Phase
from model import EMMIL, to_conv1d
from formats.files import InputError


class Clips:
    def __init__(self, rgb, flow):
        self.rgb, self.flow = rgb, flow


def small_set(n=7, dims=(6, 5), classes=3, seed=0):
    rng = np.random.default_rng(seed)
    videos = [Clips(*(rng.normal(size=(int(t), d)).astype(np.float32) for d in dims)) for t in rng.integers(1, 9, n)]
    labels = np.zeros((n, classes), np.float32)
    labels[np.arange(n), rng.integers(0, classes, n)] = 1
    labels[0] = 1                                           # one video with all classes
    return videos, torch.from_numpy(labels)


def fit(videos, labels, phases, seed=3, session=None, **more):
    session = session or training.Session(seed=seed)
    session.generator("model", 0)
    model = session.add("em-mil", EMMIL(videos[0].rgb.shape[1], videos[0].flow.shape[1], labels.shape[1]))
    log = []
    if session.folder is None:
        session.write = log.append
    em_trainer.fit(model, session=session, feed=training.feeder(videos), names=[f"v{i}" for i in range(len(videos))],
                   labels=labels, phases=phases, **{"gamma": 0.1, **more})
    return model, log


PHASES = [Phase("M", 2, 1e-3, "bag"), Phase("E", 2, 1e-3, "frozen"), Phase("M", 1, 4e-3, "frozen")]


def reference(videos, labels, phases, seed, gamma):
    """EM-MIL written out: nn.Conv1d heads, default Adam, targets anew for every video and step, loops over classes."""
    session = training.Session(seed=seed)
    session.generator("model", 0)
    start = to_conv1d(EMMIL(videos[0].rgb.shape[1], videos[0].flow.shape[1], labels.shape[1]).state_dict())
    nets = {}
    for branch in ("assignment", "classifier"):
        for stream in ("rgb", "flow"):
            w = {k.removeprefix(f"{branch}.{stream}."): v for k, v in start.items() if k.startswith(f"{branch}.{stream}.")}
            conv = torch.nn.Conv1d(w["conv.weight"].shape[1], 256, 3, padding=1)
            linear = torch.nn.Linear(256, len(w["linear.bias"]))
            conv.load_state_dict({"weight": w["conv.weight"], "bias": w["conv.bias"]})
            linear.load_state_dict({"weight": w["linear.weight"], "bias": w["linear.bias"]})
            nets[branch, stream] = torch.nn.ModuleList([conv, linear])

    def score(branch, stream, i):
        conv, linear = nets[branch, stream]
        x = torch.from_numpy(getattr(videos[i], stream))
        return torch.sigmoid(linear(F.relu(conv(x.T[None])[0].T)))

    adam = {b: torch.optim.Adam([p for s in ("rgb", "flow") for p in nets[b, s].parameters()])
            for b in ("assignment", "classifier")}
    losses = []
    for k, phase in enumerate(phases):
        branch = {"E": "assignment", "M": "classifier"}[phase.step]
        for group in adam[branch].param_groups:
            group["lr"] = phase.lr
        for epoch in range(phase.epochs):
            order = session.generator(f"em-mil {k + 1:02d} {phase.step}", epoch).permutation(np.arange(len(videos)))
            total = 0.0
            for i in order:
                y, t = labels[i], len(videos[i].rgb)
                with torch.no_grad():
                    q = (score("assignment", "rgb", i) + score("assignment", "flow", i))[:, 0] / 2
                    p = (score("classifier", "rgb", i) + score("classifier", "flow", i)) / 2
                z = torch.zeros(t)
                y_hat = torch.zeros(t, len(y))
                for c in range(len(y)):
                    if y[c] == 1:
                        z[p[:, c] > p[:, c].mean()] = 1
                        y_hat[q > q.mean() + gamma * (q.max() - q.min()), c] = 1
                        if phase.targets == "bag":
                            y_hat[:, c] = 1
                loss = 0
                for stream in ("rgb", "flow"):
                    s = score(branch, stream, i)
                    if phase.step == "E":
                        loss = loss + F.binary_cross_entropy(s[:, 0], z)
                    else:
                        for c in range(len(y)):
                            loss = loss + F.binary_cross_entropy(s[:, c], y_hat[:, c])
                adam[branch].zero_grad()
                loss.backward()
                adam[branch].step()
                total += loss.item()
            losses.append(total / len(videos))
    return {f"{b}.{s}.{layer}.{k}": v for (b, s), net in nets.items()
            for layer, part in zip(("conv", "linear"), net) for k, v in part.state_dict().items()}, losses


def test_same_losses_and_weights_as_the_plain_loop():
    videos, labels = small_set()
    model, log = fit(videos, labels, PHASES)
    expected, losses = reference(videos, labels, PHASES, seed=3, gamma=0.1)
    assert [sum(r["loss"].values()) for r in log] == pytest.approx(losses, rel=1e-5)
    for name, w in to_conv1d(model.state_dict()).items():
        torch.testing.assert_close(w, expected[name], rtol=1e-3, atol=2e-5, msg=name)


@pytest.mark.parametrize("step, moves, stays", [("E", "assignment", "classifier"), ("M", "classifier", "assignment")])
def test_a_step_leaves_the_frozen_branch_bit_identical(step, moves, stays):
    videos, labels = small_set()
    # A phase of the other kind first, so that the frozen branch's Adam has momentum that could move it.
    first = Phase("M", 1, 1e-3, "bag") if step == "E" else Phase("E", 1, 1e-3, "frozen")
    before, _ = fit(videos, labels, [first])
    after, _ = fit(videos, labels, [first, Phase(step, 2, 1e-3, "frozen")])
    assert all(a.equal(b) for a, b in zip(getattr(before, stays).parameters(), getattr(after, stays).parameters()))
    assert all(not a.equal(b) for a, b in zip(getattr(before, moves).parameters(), getattr(after, moves).parameters()))


def test_same_seed_same_weights_other_seed_others():
    videos, labels = small_set()
    a, b, c = (fit(videos, labels, PHASES, seed=s)[0].state_dict() for s in (1, 1, 2))
    assert all(a[k].equal(b[k]) for k in a) and not any(a[k].equal(c[k]) for k in a)


def test_log_of_the_phases():
    videos, labels = small_set()
    _, log = fit(videos, labels, PHASES + [Phase("E", 1, 1e-3, "frozen")])
    assert [(r["phase"], r["step"], r["epoch"], r["lr"]) for r in log] == [
        (1, "M", 1, 1e-3), (1, "M", 2, 1e-3), (2, "E", 1, 1e-3), (2, "E", 2, 1e-3), (3, "M", 1, 4e-3), (4, "E", 1, 1e-3)]
    assert log[0]["positive"] == 1.0 and log[0]["empty"] == 0 and log[0]["changed"] is None
    assert log[2]["changed"] is None and 0 <= log[4]["changed"] <= 1 and 0 <= log[5]["changed"] <= 1
    # The first M phase labels all clips 1, so what changed by the second is what it labels 0.
    assert log[4]["changed"] == pytest.approx(1 - log[4]["positive"])
    assert set(log[0]["loss"]) == {"rgb", "flow"} and all(json.dumps(r) for r in log)


def test_bags_left_without_a_positive_clip_are_counted():
    """A video of one clip never passes a threshold: its bag is empty in every phase but the first."""
    videos, labels = small_set(n=4)
    videos[0] = Clips(videos[0].rgb[:1], videos[0].flow[:1])              # has all 3 classes
    for v in range(1, 4):
        videos[v] = Clips(*(np.repeat(x[:1], 5, 0) + np.arange(5)[:, None].astype(np.float32) for x in
                            (videos[v].rgb, videos[v].flow)))
    _, log = fit(videos, labels, [Phase("M", 1, 1e-3, "bag"), Phase("E", 1, 1e-3, "frozen"), Phase("M", 1, 1e-3, "frozen")])
    assert [r["empty"] for r in log] == [0, 1, 3]                          # videos in E, pairs of video and class in M
    _, log = fit(videos, labels, [Phase("M", 1, 1e-3, "bag"), Phase("E", 1, 1e-3, "frozen"), Phase("M", 1, 1e-3, "frozen")],
                 keep_peak=True)
    assert log[2]["empty"] == 0


def test_eq4_and_eq6_by_hand():
    """BCE of logit s against 1 is log(1 + exp(-s)), against 0 log(1 + exp(s))."""
    one = lambda s: np.log1p(np.exp(-s))
    q = em_trainer.assignment_loss(torch.tensor([2.0, -1.0, 0.5]), torch.tensor([1.0, 0.0, 0.0]))
    assert q.item() == pytest.approx((one(2) + one(1) + one(-0.5)) / 3)
    p = em_trainer.classification_loss(torch.tensor([[2.0, -1.0], [0.0, 3.0]]), torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
    assert p.item() == pytest.approx((one(2) + one(1) + one(0) + one(-3)) / 2)      # over 2 clips, summed over classes


def test_two_videos_a_step_average_their_gradients():
    videos, labels = small_set(n=2)
    model, log = fit(videos, labels, [Phase("M", 1, 1e-3, "bag")], per_step=2)
    session = training.Session(seed=3)
    session.generator("model", 0)
    plain = EMMIL(6, 5, 3)
    optimiser = torch.optim.Adam(plain.classifier.parameters(), lr=1e-3)
    loss = sum(F.binary_cross_entropy_with_logits(s, labels[i].expand_as(s), reduction="sum") / len(s) / 2
               for i, v in enumerate(videos)
               for s in plain.classifier(torch.from_numpy(v.rgb), torch.from_numpy(v.flow)))
    loss.backward()
    optimiser.step()
    assert sum(log[0]["loss"].values()) == pytest.approx(loss.item(), rel=1e-6)
    for a, b in zip(model.parameters(), plain.parameters()):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("refresh", ["epoch", "step"])
def test_joint_training_moves_both_branches(refresh):
    videos, labels = small_set()
    phases = [Phase("EM", 1, 1e-3, "bag"), Phase("EM", 1, 1e-3, "frozen"), Phase("EM", 1, 1e-3, "frozen")]
    model, log = fit(videos, labels, phases, refresh=refresh)
    start, _ = fit(videos, labels, [Phase("E", 1, 1e-12, "bag")])
    assert all(not a.equal(b) for a, b in zip(model.parameters(), start.parameters()))
    assert set(log[1]["loss"]) == {"rgb E", "flow E", "rgb M", "flow M"}


def test_joint_refresh_every_step_differs_from_every_epoch():
    videos, labels = small_set()
    phases = [Phase("EM", 1, 1e-2, "bag"), Phase("EM", 1, 1e-2, "frozen")]
    a, b = (fit(videos, labels, phases, refresh=r)[0] for r in ("epoch", "step"))
    assert any(not x.equal(y) for x, y in zip(a.parameters(), b.parameters()))


def test_attention_objective_first_step_by_hand():
    """One video, one M phase: uniform attention, softmax over classes, -log of the mean probability of the class."""
    videos, labels = small_set(n=2)
    videos, labels = videos[1:], labels[1:]
    model, log = fit(videos, labels, [Phase("M", 1, 1e-3, "bag")], objective="attention")
    session = training.Session(seed=3)
    session.generator("model", 0)
    logits = EMMIL(6, 5, 3).classifier(torch.from_numpy(videos[0].rgb), torch.from_numpy(videos[0].flow))
    c = labels[0].argmax()
    for stream in ("rgb", "flow"):
        expected = -getattr(logits, stream).softmax(1)[:, c].mean().log().item()
        assert log[0]["loss"][stream] == pytest.approx(expected, rel=1e-5)


def test_attention_objective_scores_lie_in_the_unit_interval_and_phases_freeze():
    videos, labels = small_set()
    before, _ = fit(videos, labels, [Phase("M", 1, 1e-3, "bag")], objective="attention")
    after, _ = fit(videos, labels, [Phase("M", 1, 1e-3, "bag"), Phase("E", 1, 1e-3, "frozen")], objective="attention")
    assert all(a.equal(b) for a, b in zip(before.classifier.parameters(), after.classifier.parameters()))
    q, p = em_trainer.clip_scores(after, torch.from_numpy(videos[0].rgb), torch.from_numpy(videos[0].flow), "attention")
    assert q.max() == 1 and (q > 0).all()
    torch.testing.assert_close(p.sum(1), torch.ones(len(p)))


def test_a_loss_that_is_not_finite_names_the_video():
    videos, labels = small_set()
    videos[4].rgb[0, 0] = np.inf
    with pytest.raises(InputError, match=r"em-mil 01 M, epoch 1: loss is nan on v4, expected a finite number"):
        fit(videos, labels, PHASES)
