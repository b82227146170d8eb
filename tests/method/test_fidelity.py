"""The trainer beside plain loops in float64: Algorithm 1, and a loop like the released code's.

The loops share no code with the program: they have their own network, equations, losses and Adam.
docs/fidelity.md lists what was compared with the released code.
"""

import zlib
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import em_trainer
from em_trainer import EStep, MStep, Phase
from engine.loop import TrainingSet
from engine.run_folder import RunFolder
from methods.attention import AttentionEStep, AttentionMStep
from model import EMMIL

SEED, DIMS, CLASSES, GAMMA = 3, (6, 5), 3, 0.1
# The schedule in small: long phases, M first, then short ones at 4 times the rate, E first.
PHASES = [
    Phase("M", 3, 1e-2, "bag"),
    Phase("E", 3, 1e-2, "frozen"),
    Phase("M", 3, 1e-2, "frozen"),
    *(Phase("EM"[k % 2], 1, 4e-2, "frozen") for k in range(4)),
]
JOINT = [Phase("EM", 1, 1e-2, "bag" if k == 0 else "frozen") for k in range(5)]


@pytest.fixture(scope="module")
def videos():
    rng = np.random.default_rng(0)
    labels = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0, 1, 1], [1, 0, 1], [0, 0, 1]])
    found = []
    for i, (t, y) in enumerate(zip((9, 14, 1, 7, 20, 11, 2), labels)):
        rgb, flow = (rng.normal(size=(t, dim)) for dim in DIMS)
        found.append(SimpleNamespace(name=f"v{i}", rgb=rgb, flow=flow, labels=y.astype(float)))
    return found


def network():
    torch.manual_seed(SEED)
    return EMMIL(*DIMS, CLASSES).double()


def trained(videos, tmp_path, phases, steps, **options):
    """The program's own weights after `phases`."""
    model = network()
    run = RunFolder(tmp_path / "run", seed=SEED)
    em_trainer.fit(steps(model), TrainingSet(videos), run, phases, **options)
    run.close()
    return {name: value.clone() for name, value in model.state_dict().items()}


def em_steps(model):
    return {"E": EStep(model), "M": MStep(model, GAMMA)}


# -------------------------------------------------------------------------------- the plain loop
BRANCH = {"E": "assignment", "M": "classifier"}


def logits(weights, branch, stream, x):
    """Conv1d(kernel 3, padding 1), ReLU, Linear of one head. x: (T, D). Returns (T, K)."""
    of = f"{branch}.{stream}."
    hidden = F.conv1d(x.T[None], weights[of + "conv.weight"], weights[of + "conv.bias"], padding=1)
    return torch.relu(hidden[0].T) @ weights[of + "linear.weight"].T + weights[of + "linear.bias"]


def both(weights, branch, video, activation):
    """The branch's fused scores: the mean over the streams after `activation`."""
    return (
        sum(
            activation(logits(weights, branch, stream, getattr(video, stream)))
            for stream in ("rgb", "flow")
        )
        / 2
    )


def bce(p, target):
    return -(target * p.log() + (1 - target) * (1 - p).log())


def labels_of(step, weights, video, bag):
    """Eq. 3 or Eq. 5 clip by clip; bag: every clip of a positive bag is positive (Sec. 3.4)."""
    n = len(video.rgb)
    if step == "E":
        p = both(weights, "classifier", video, torch.sigmoid)
        z = torch.zeros(n, dtype=torch.float64)
        for t in range(n):
            z[t] = float(
                bag
                or any(
                    n > 1 and p[t, c] > p[:, c].mean() for c in range(CLASSES) if video.labels[c]
                )
            )
        return z
    q = both(weights, "assignment", video, torch.sigmoid)[:, 0]
    y = torch.zeros(n, CLASSES, dtype=torch.float64)
    for t in range(n):
        above = bag or (n > 1 and q[t] > q.mean() + GAMMA * (q.max() - q.min()))
        for c in range(CLASSES):
            y[t, c] = float(above and video.labels[c] == 1)
    return y


def em_loss(step, weights, video, target):
    """Eq. 4 or Eq. 6 of both streams, averaged over clips and summed over classes."""
    total = 0.0
    for stream in ("rgb", "flow"):
        p = torch.sigmoid(logits(weights, BRANCH[step], stream, getattr(video, stream)))
        total = total + bce(p if step == "M" else p[:, 0], target).sum() / len(p)
    return total


def attention_target(step, weights, video, bag):
    """What the frozen branch gives: class probabilities (T, C), or weights of the clips (T,)."""
    if step == "E":
        return both(weights, "classifier", video, lambda s: s.softmax(dim=1))
    n = len(video.rgb)
    if bag:
        return torch.full((n,), 1 / n, dtype=torch.float64)
    return both(weights, "assignment", video, lambda s: s[:, 0].softmax(dim=0))


def attention_loss(step, weights, video, target):
    """UntrimmedNet's loss, one factor frozen: -sum_c y/|y| log sum_t a[t] s[t, c]."""
    total, y = 0.0, torch.from_numpy(video.labels)
    for stream in ("rgb", "flow"):
        own = logits(weights, BRANCH[step], stream, getattr(video, stream))
        video_p = own[:, 0].softmax(0) @ target if step == "E" else target @ own.softmax(1)
        total = total - (y / y.sum() * video_p.log()).sum()
    return total


class Adam:
    """Kingma and Ba's update: a gradient of None leaves its weights alone, zeros do not."""

    def __init__(self):
        self.first, self.second, self.count = {}, {}, {}

    def step(self, weights, gradients, lr):
        for name, g in gradients.items():
            if g is None:
                continue
            n = self.count[name] = self.count.get(name, 0) + 1
            m = self.first[name] = 0.9 * self.first.get(name, 0.0) + 0.1 * g
            v = self.second[name] = 0.999 * self.second.get(name, 0.0) + 0.001 * g * g
            update = (m / (1 - 0.9**n)) / ((v / (1 - 0.999**n)).sqrt() + 1e-8)
            weights[name] = weights[name] - lr * update


def plain_loop(videos, phases, *, labels=labels_of, loss=em_loss, refresh="step", zeros=False):
    """Algorithm 1, video by video: one Adam, the labels from the branches as they are.

    refresh: labels made in every "step", or once in an "epoch". zeros: the frozen branch has zero
    gradients, as in PyTorch when the code was released, instead of None. Returns the weights after
    every phase.
    """
    weights = {name: value.clone() for name, value in network().state_dict().items()}
    videos = [
        SimpleNamespace(rgb=torch.from_numpy(v.rgb), flow=torch.from_numpy(v.flow), labels=v.labels)
        for v in videos
    ]
    adam, after = Adam(), []
    for number, phase in enumerate(phases, 1):
        bag = phase.targets == "bag"
        for epoch in range(phase.epochs):
            start = dict(weights)
            stage = zlib.crc32(f"em-mil {number:02d} {phase.step}".encode())
            for i in np.random.default_rng([SEED, stage, epoch]).permutation(len(videos)):
                source = weights if refresh == "step" else start
                targets = {step: labels(step, source, videos[i], bag) for step in phase.step}
                leaves = {name: value.clone().requires_grad_() for name, value in weights.items()}
                sum(loss(step, leaves, videos[i], targets[step]) for step in phase.step).backward()
                gradients = {name: leaf.grad for name, leaf in leaves.items()}
                if zeros:
                    gradients = {
                        name: torch.zeros_like(leaves[name]) if g is None else g
                        for name, g in gradients.items()
                    }
                adam.step(weights, gradients, phase.lr)
        after.append(dict(weights))
    return after


def furthest(one, other, branch="", but=()):
    """The largest difference of any weight of the branch."""
    return max(
        (one[name] - other[name]).abs().max().item()
        for name in one
        if name.startswith(branch) and name not in but
    )


# ----------------------------------------------------------------------------------------- tests
def test_the_papers_loop_gives_the_same_weights(videos, tmp_path):
    """Labels in every update, as Algorithm 1 writes it: the same as labels made once a phase."""
    ours = trained(videos, tmp_path, PHASES, em_steps)
    assert furthest(ours, plain_loop(videos, PHASES)[-1]) < 1e-12


def test_one_adam_over_both_branches_differs_by_its_zeros_alone(videos, tmp_path):
    """With gradients None one Adam is two; with zeros the frozen branch goes on by its momentum."""
    ours = trained(videos, tmp_path, PHASES, em_steps)
    none, zeros = plain_loop(videos, PHASES), plain_loop(videos, PHASES, zeros=True)
    assert furthest(none[0], zeros[0]) == 0  # nothing has momentum yet
    moved = [
        furthest(zeros[k - 1], zeros[k], BRANCH["M" if PHASES[k].step == "E" else "E"])
        for k in range(1, len(PHASES))
    ]
    still = [
        furthest(none[k - 1], none[k], BRANCH["M" if PHASES[k].step == "E" else "E"])
        for k in range(1, len(PHASES))
    ]
    assert still == [0] * len(still) and min(moved) > 1e-3  # rates of 1e-2 and 4e-2
    assert furthest(ours, none[-1]) < 1e-12 < 1e-2 < furthest(ours, zeros[-1])


@pytest.mark.parametrize("refresh", ["epoch", "step"])
def test_joint_optimization_gives_the_same_weights(videos, tmp_path, refresh):
    ours = trained(videos, tmp_path, JOINT, em_steps, refresh=refresh)
    assert furthest(ours, plain_loop(videos, JOINT, refresh=refresh)[-1]) < 1e-12
    other = {"epoch": "step", "step": "epoch"}[refresh]
    assert furthest(ours, plain_loop(videos, JOINT, refresh=other)[-1]) > 1e-4


def test_the_alternating_ablation_gives_the_same_weights(videos, tmp_path):
    ours = trained(
        videos,
        tmp_path,
        PHASES,
        lambda model: {"E": AttentionEStep(model), "M": AttentionMStep(model)},
    )
    plain = plain_loop(videos, PHASES, labels=attention_target, loss=attention_loss)
    # A softmax over time ignores its bias, whose gradient is rounding that Adam enlarges.
    free = [f"assignment.{stream}.linear.bias" for stream in ("rgb", "flow")]
    assert furthest(ours, plain[-1], but=free) < 1e-12


def test_bce_on_logits_does_not_saturate():
    """At logit 20, target 0, in float32, BCE on the sigmoid is cut at 100 and has no gradient."""
    for loss, value, gradient in (
        (lambda x: em_trainer.assignment_loss(x, torch.zeros(1)), 20.0, 1.0),
        (lambda x: F.binary_cross_entropy(torch.sigmoid(x), torch.zeros(1)), 100.0, 0.0),
    ):
        x = torch.tensor([20.0], requires_grad=True)
        loss(x).backward()
        assert loss(x).item() == pytest.approx(value) and x.grad.item() == pytest.approx(gradient)
