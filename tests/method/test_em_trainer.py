"""EM-MIL's training: its labels, what each step may and may not move, other rules, what is logged.
test_fidelity.py holds it against plain loops.
"""

import pathlib
import tempfile
from typing import NamedTuple

import commands
import numpy as np
import pytest
import torch
import torch.nn.functional as F

import em_trainer
import run
from em_trainer import EStep, MStep, Phase, label_all
from engine import labels, run_folder
from engine.loop import TrainingSet
from engine.run_folder import RunFolder, read_log
from formats.files import InputError
from model import EMMIL, Head


class Video(NamedTuple):
    name: str
    rgb: np.ndarray
    flow: np.ndarray
    labels: np.ndarray


def small_set(n=7, dims=(6, 5), classes=3, seed=0):
    rng = np.random.default_rng(seed)
    streams = [
        [rng.normal(size=(int(t), d)).astype(np.float32) for d in dims]
        for t in rng.integers(1, 9, n)
    ]
    labels = np.zeros((n, classes), np.float32)
    labels[np.arange(n), rng.integers(0, classes, n)] = 1
    labels[0] = 1  # one video with all classes
    return [Video(f"v{i}", *x, y) for i, (x, y) in enumerate(zip(streams, labels))]


def fresh(videos, seed=3):
    """A network with the weights that `fit` starts from."""
    with tempfile.TemporaryDirectory() as folder:
        RunFolder(folder, seed=seed).generator("model", 0)
    return EMMIL(videos[0].rgb.shape[1], videos[0].flow.shape[1], len(videos[0].labels))


def fit(videos, phases, seed=3, gamma=0.1, keep_peak=False, **more):
    """(model, records of the log, labels of the phases {name: [array of each video]}) after
    training.
    """
    model = fresh(videos, seed)
    steps = {"E": EStep(model), "M": MStep(model, gamma, keep_peak)}
    with tempfile.TemporaryDirectory() as folder:
        em_trainer.fit(steps, TrainingSet(videos), RunFolder(folder, seed=seed), phases, **more)
        names = sorted(path.stem for path in pathlib.Path(folder, "labels").glob("*.npz"))
        found = {name: labels.read(folder, int(name[:2]), name[3:]) for name in names}
        return model, read_log(folder), found


PHASES = [Phase("M", 2, 1e-3, "bag"), Phase("E", 2, 1e-3, "frozen"), Phase("M", 1, 4e-3, "frozen")]


def weights_of(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


# ------------------------------------------------------------------------------------------------
# labels of a phase
class DrawingStep(MStep):
    """Labels drawn at random, from PyTorch's generator."""

    def pseudo_labels(self, bag):
        return (torch.rand(bag.length) < 0.5).float()[:, None] * bag.y


class OwnStep(MStep):
    """Labels that look at the branch which is trained on them."""

    def pseudo_labels(self, bag):
        return self.branch.fuse(self.branch(bag.rgb, bag.flow)) * bag.y


class CopyingStep(MStep):
    """Eq. 5 on a copy of the features, which is not the tensor that is scored with others."""

    def pseudo_labels(self, bag):
        return super().pseudo_labels(bag._replace(rgb=bag.rgb.clone(), flow=bag.flow * 1))


class NeighbourStep(MStep):
    """Soft labels from the clip before, the clip and the clip after."""

    def pseudo_labels(self, bag):
        around = bag.rgb.roll(1, 0) + bag.rgb + bag.rgb.roll(-1, 0)
        return self.frozen.fuse(self.frozen(around, bag.flow)) * bag.y


class MixingHead(Head):
    """Every clip sees the whole video, so that two videos may not be joined."""

    def forward(self, x):
        hidden = torch.tanh(self.conv(x.T).T)
        return self.linear(hidden + hidden.mean(dim=0))


@torch.no_grad()
@pytest.mark.parametrize("head", [Head, MixingHead])
@pytest.mark.parametrize("kind", [EStep, MStep, OwnStep, CopyingStep, NeighbourStep])
def test_the_labels_of_all_videos_are_those_of_each(kind, head, monkeypatch):
    """However a rule reads the bag, and whatever the network."""
    monkeypatch.setattr("model.Head", head)
    videos = small_set(n=9)
    model, train_set = fresh(videos), TrainingSet(videos)
    step = kind(model) if kind is EStep else kind(model, 0.1)
    found = label_all(step, train_set, "frozen")
    assert list(found) == list(range(9))
    for bag in train_set.bags():
        torch.testing.assert_close(found[bag.index], step.pseudo_labels(bag))


def test_labels_of_the_first_phase_are_those_of_the_bag():
    videos = small_set(n=3)
    model = fresh(videos)
    bags = label_all(MStep(model, 0.1), TrainingSet(videos), "bag")
    assert {i: x.tolist() for i, x in bags.items()} == {
        i: [v.labels.tolist()] * len(v.rgb) for i, v in enumerate(videos)
    }
    assert [x.tolist() for x in label_all(EStep(model), TrainingSet(videos), "bag").values()] == [
        [1.0] * len(v.rgb) for v in videos
    ]


@pytest.mark.parametrize("kind", [DrawingStep, OwnStep])
def test_any_rule_is_resumed_to_the_same_weights(tmp_path, monkeypatch, kind):
    """Stopped in each epoch of M1 E1 M3, with a checkpoint after every epoch."""
    monkeypatch.setattr(run_folder, "SAVE_EVERY", -1)
    videos = small_set()
    phases = [
        Phase("M", 1, 1e-3, "bag"),
        Phase("E", 1, 1e-3, "frozen"),
        Phase("M", 3, 1e-3, "frozen"),
    ]

    def trained(folder, stop=None):
        model = fresh(videos)
        run = RunFolder(folder, seed=3, resume=True)
        inner = run.generator

        def generator(stage, epoch):
            if (stage, epoch) == stop:
                raise KeyError
            return inner(stage, epoch)

        run.generator = generator
        for name, part in (("assignment", model.assignment), ("classifier", model.classifier)):
            run.register(name, part)
        try:
            em_trainer.fit(
                {"E": EStep(model), "M": kind(model, 0.1)}, TrainingSet(videos), run, phases
            )
        except KeyError:
            return None
        finally:
            run.close()
        return weights_of(model)

    whole = trained(tmp_path / "whole")
    for number, phase in enumerate(phases, 1):
        for epoch in range(phase.epochs):
            folder = tmp_path / f"{number}-{epoch}"
            assert trained(folder, (f"em-mil {number:02d} {phase.step}", epoch)) is None
            assert torch.equal(trained(folder), whole), (number, epoch)


class SecondEpoch:
    """A bar that stops the training when its second epoch is done."""

    def __init__(self):
        self.seen = 0

    def update(self, losses):
        self.seen += 1
        if self.seen == 2:
            raise KeyError


@pytest.mark.parametrize(
    "name, change",
    [
        ("clips", lambda x: x[::-1]),
        ("clips", lambda x: x[:-1]),
        ("labels", lambda x: x[:, :2]),
        ("labels", lambda x: x.astype(str)),
    ],
)
def test_saved_labels_of_other_clips_are_refused(tmp_path, monkeypatch, name, change):
    """In a phase that is resumed in the middle."""
    monkeypatch.setattr(run_folder, "SAVE_EVERY", -1)
    videos, model = small_set(), fresh(small_set())
    for error in (KeyError, InputError):
        run, steps = RunFolder(tmp_path, seed=3, resume=True), {"M": MStep(model, 0.1)}
        phases = [Phase("M", 3, 1e-3, "bag")]
        with pytest.raises(error) as stopped:
            em_trainer.fit(steps, TrainingSet(videos), run, phases, bar=SecondEpoch())
        run.close()
        path = tmp_path / "labels/01-M.npz"
        whole = dict(np.load(path))
        np.savez(path, **{**whole, name: change(whole[name])})
    assert stopped.value.where == str(path)


# ------------------------------------------------------------------------------------------------
# what moves
@pytest.mark.parametrize(
    "step, moves, stays", [("E", "assignment", "classifier"), ("M", "classifier", "assignment")]
)
def test_a_step_leaves_the_frozen_branch_bit_identical(step, moves, stays):
    videos = small_set()
    # A phase of the other kind first, so that the frozen branch's Adam has momentum that could move
    # it.
    first = Phase("M", 1, 1e-3, "bag") if step == "E" else Phase("E", 1, 1e-3, "frozen")
    before = fit(videos, [first])[0]
    after = fit(videos, [first, Phase(step, 2, 1e-3, "frozen")])[0]
    assert all(
        a.equal(b)
        for a, b in zip(getattr(before, stays).parameters(), getattr(after, stays).parameters())
    )
    assert all(
        not a.equal(b)
        for a, b in zip(getattr(before, moves).parameters(), getattr(after, moves).parameters())
    )


def test_two_videos_a_step_average_their_gradients():
    videos = small_set(n=2)
    model, log, _ = fit(videos, [Phase("M", 1, 1e-3, "bag")], per_step=2)
    plain = fresh(videos)
    optimizer = torch.optim.Adam(plain.classifier.parameters(), lr=1e-3)
    loss = sum(
        F.binary_cross_entropy_with_logits(
            s, torch.from_numpy(v.labels).expand_as(s), reduction="sum"
        )
        / len(s)
        / 2
        for v in videos
        for s in plain.classifier(torch.from_numpy(v.rgb), torch.from_numpy(v.flow))
    )
    loss.backward()
    optimizer.step()
    assert sum(log[0]["loss"].values()) == pytest.approx(loss.item(), rel=1e-6)
    for a, b in zip(model.parameters(), plain.parameters()):
        torch.testing.assert_close(a, b)


def test_joint_training_moves_both_branches():
    """And labels made in every step are others than those made in every epoch."""
    videos = small_set()
    phases = [Phase("EM", 1, 1e-2, "bag"), Phase("EM", 1, 1e-2, "frozen")]
    ends = []
    for refresh in ("epoch", "step"):
        model, log, found = fit(videos, phases, refresh=refresh)
        assert all(not a.equal(b) for a, b in zip(model.parameters(), fresh(videos).parameters()))
        assert set(log[1]["loss"]) == {"rgb E", "flow E", "rgb M", "flow M"}
        assert list(found) == ["01-E", "01-M", "02-E", "02-M"]
        ends.append(weights_of(model))
    assert not torch.equal(*ends)


def test_one_stream_trains_like_the_same_stream_of_two():
    """Each stream has its loss; only the labels see both. With bag labels a single stream trains to
    the same head.
    """
    videos = small_set()
    phases = [Phase("M", 2, 1e-3, "bag")]
    both = fresh(videos)
    single = EMMIL(6, None, 3)
    single.classifier.rgb.load_state_dict(both.classifier.rgb.state_dict())
    for model, of in ((both, videos), (single, [v._replace(flow=None) for v in videos])):
        with tempfile.TemporaryDirectory() as folder:
            steps = {"E": EStep(model), "M": MStep(model, 0.1)}
            em_trainer.fit(steps, TrainingSet(of), RunFolder(folder, seed=3), phases)
    for a, b in zip(both.classifier.rgb.parameters(), single.classifier.rgb.parameters()):
        torch.testing.assert_close(a, b)


# ------------------------------------------------------------------------------------------------
# the log
def test_log_of_the_phases():
    _, log, found = fit(small_set(), PHASES + [Phase("E", 1, 1e-3, "frozen")])
    assert [(r["phase"], r["step"], r["epoch"], r["lr"]) for r in log] == [
        (1, "M", 1, 1e-3),
        (1, "M", 2, 1e-3),
        (2, "E", 1, 1e-3),
        (2, "E", 2, 1e-3),
        (3, "M", 1, 4e-3),
        (4, "E", 1, 1e-3),
    ]
    assert log[0]["positive"] == 1.0 and log[0]["empty"] == 0 and log[0]["changed"] is None
    assert log[2]["changed"] is None and 0 <= log[4]["changed"] <= 1 and 0 <= log[5]["changed"] <= 1
    # The first M phase labels all clips 1, so what changed by the second is what it labels 0.
    assert log[4]["changed"] == pytest.approx(1 - log[4]["positive"])
    assert set(log[0]["loss"]) == {"rgb", "flow"}
    assert list(found) == ["01-M", "02-E", "03-M", "04-E"]


def test_the_labels_in_the_folder_are_those_that_were_trained_on():
    videos = small_set()
    model, _, found = fit(videos, [Phase("M", 1, 1e-3, "bag"), Phase("E", 1, 1e-3, "frozen")])
    for video, of_bag, of_clip in zip(videos, found["01-M"], found["02-E"]):
        assert of_bag.shape == (len(video.rgb), 3) and (of_bag == video.labels).all()
        p = model.classifier.fuse(
            model.classifier(torch.from_numpy(video.rgb), torch.from_numpy(video.flow))
        )
        p = p.detach().numpy().astype(float)
        # one clip: never above its own mean
        votes = (p > p.mean(axis=0) + 1e-12) & (video.labels > 0)
        assert (of_clip == votes.any(axis=1)).all()


def test_bags_left_without_a_positive_clip_are_counted():
    """A video of one clip never passes a threshold: its bag is empty in every phase but the
    first.
    """
    videos = small_set(n=4)
    # has all 3 classes
    videos[0] = videos[0]._replace(rgb=videos[0].rgb[:1], flow=videos[0].flow[:1])
    for v in range(1, 4):
        rgb, flow = (
            np.repeat(x[:1], 5, 0) + np.arange(5)[:, None].astype(np.float32)
            for x in (videos[v].rgb, videos[v].flow)
        )
        videos[v] = videos[v]._replace(rgb=rgb, flow=flow)
    phases = [
        Phase("M", 1, 1e-3, "bag"),
        Phase("E", 1, 1e-3, "frozen"),
        Phase("M", 1, 1e-3, "frozen"),
    ]
    log = fit(videos, phases)[1]
    assert [r["empty"] for r in log] == [0, 1, 3]  # videos in E, pairs of video and class in M
    assert fit(videos, phases, keep_peak=True)[1][2]["empty"] == 0


def test_facts_of_labels_by_hand():
    y = np.array([[1, 1], [0, 1]])
    now = [np.array([[1, 0], [0, 0], [0, 0]]), np.array([[0, 0.4]])]
    before = [np.array([[1, 1], [0, 0], [0, 0]]), np.array([[0, 0.4]])]
    # 1 of 4 clips has a label above 0.5; pairs without: video 0 class 1, video 1 class 1; 1 of 4
    # clips differs.
    assert labels.facts(now, before, y) == {"positive": 0.25, "empty": 2, "changed": 0.25}
    assert labels.facts([np.array([1, 0]), np.array([0])], None, y) == {
        "positive": pytest.approx(1 / 3),
        "empty": 1,
        "changed": None,
    }


# ------------------------------------------------------------------------------------------------
# other rules: Eq. 5 gives 0/1 labels that are the same for every class of a video, others need not
RULES = {
    "soft": lambda q, y, *_: q[:, None] * y,
    "by class": lambda q, y, *_: (
        torch.stack([(q > q.mean()) if c % 2 else (q <= q.mean()) for c in range(len(y))], 1) * y
    ),
    "last clip": lambda q, y, *_: torch.eye(len(q))[-1][:, None] * y,
}


@pytest.mark.parametrize("name", RULES)
def test_another_rule_in_place_of_eq5_is_what_the_loss_sees(monkeypatch, name):
    """One M epoch of one video: the loss is the BCE against the rule's own labels, worked out
    here.
    """
    videos = small_set(n=1)
    monkeypatch.setattr(em_trainer, "class_labels", RULES[name])
    model = fresh(videos)
    rgb, flow, y = (torch.from_numpy(x) for x in videos[0][1:])
    q = model.assignment.fuse(model.assignment(rgb, flow))[:, 0].detach()
    expected = RULES[name](q, y).float()
    logits = model.classifier(rgb, flow)
    _, log, found = fit(videos, [Phase("M", 1, 1e-3, "frozen")])
    assert found["01-M"][0].astype(np.float32) == pytest.approx(expected.numpy())
    for stream in ("rgb", "flow"):
        s = getattr(logits, stream).double()
        bce = -(
            expected * s.sigmoid().log() + (1 - expected) * (1 - s.sigmoid()).log()
        ).sum() / len(s)
        assert log[0]["loss"][stream] == pytest.approx(bce.item(), rel=1e-5)


def test_a_soft_rule_in_place_of_eq3_is_what_the_loss_sees(monkeypatch):
    videos = small_set(n=1)
    monkeypatch.setattr(em_trainer, "key_instance_labels", lambda p, y: p.max(dim=1).values)
    model = fresh(videos)
    rgb, flow = (torch.from_numpy(x) for x in videos[0][1:3])
    z = model.classifier.fuse(model.classifier(rgb, flow)).max(dim=1).values.detach()
    s = model.assignment(rgb, flow).rgb[:, 0].double()
    bce = -(z * s.sigmoid().log() + (1 - z) * (1 - s.sigmoid()).log()).mean()
    _, log, _ = fit(videos, [Phase("E", 1, 1e-3, "frozen")])
    assert log[0]["loss"]["rgb"] == pytest.approx(bce.item(), rel=1e-5)


def test_another_rule_takes_effect_through_the_command(monkeypatch, tmp_path):
    flags = [*commands.write_set(tmp_path / "set"), "--method", "em-mil", "--cycle-epochs", "3"]

    def weights_with(**rules):
        folder = tmp_path / "".join(["run", *rules])
        with monkeypatch.context() as patch:
            for name, rule in rules.items():
                patch.setattr(em_trainer, name, rule)
            run.main([*flags, "--out", str(folder)])
        return run_folder.load_checkpoint(folder)["parts"]["em-mil"]

    plain = weights_with()
    for other in (
        weights_with(class_labels=RULES["soft"]),
        weights_with(key_instance_labels=lambda p, y: p.max(dim=1).values),
    ):
        assert any(not other[k].equal(plain[k]) for k in plain)


@pytest.mark.parametrize(
    "rule, spread",
    [
        (lambda q, y, *_: y * 0.5, lambda q, y: y.expand(len(q), -1) * 0.5),  # of the video, (C,)
        (lambda q, y, *_: q[:, None], lambda q, y: q[:, None].expand(-1, len(y))),  # (T, 1)
        (lambda q, y, *_: (q[:, None] > 0.5) & (y > 0), lambda q, y: (q[:, None] > 0.5) * y),
    ],
)
def test_labels_of_a_video_of_a_clip_and_true_false_are_spread(monkeypatch, rule, spread):
    videos = small_set(n=1)
    monkeypatch.setattr(em_trainer, "class_labels", rule)
    model = fresh(videos)
    rgb, flow, y = (torch.from_numpy(x) for x in videos[0][1:])
    q = model.assignment.fuse(model.assignment(rgb, flow))[:, 0].detach()
    made = label_all(MStep(model, 0.1), TrainingSet(videos), "frozen")[0]
    torch.testing.assert_close(made, spread(q, y).float())


@pytest.mark.parametrize(
    "step, name, rule",
    [
        ("M", "class_labels", lambda q, y, *_: torch.ones(len(q) + 1)),
        ("E", "key_instance_labels", lambda p, y: torch.ones(len(p), 2)),
    ],
)
def test_labels_of_another_shape_are_one_line(monkeypatch, step, name, rule):
    videos = small_set(n=1)
    monkeypatch.setattr(em_trainer, name, rule)
    with pytest.raises(InputError, match=f"em-mil {step}: v0: found labels of the shape"):
        fit(videos, [Phase(step, 1, 1e-3, "frozen")])


def test_eq4_and_eq6_by_hand():
    """BCE of logit s against 1 is log(1 + exp(-s)), against 0 log(1 + exp(s))."""
    one = lambda s: np.log1p(np.exp(-s))
    q = em_trainer.assignment_loss(torch.tensor([2.0, -1.0, 0.5]), torch.tensor([1.0, 0.0, 0.0]))
    assert q.item() == pytest.approx((one(2) + one(1) + one(-0.5)) / 3)
    p = em_trainer.classification_loss(
        torch.tensor([[2.0, -1.0], [0.0, 3.0]]), torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    )
    # over 2 clips, summed over classes
    assert p.item() == pytest.approx((one(2) + one(1) + one(0) + one(-3)) / 2)
