"""W-TALC: losses against NumPy, batches, network, training."""

import math

import numpy as np
import pytest
import torch
from toy_sets import softmax, streams, tiny, video

from engine.loop import TrainingSet
from engine.run_folder import RunFolder, read_log
from methods.wtalc import WTALC, Settings, co_activity_loss, k_max_loss, paired_batches, top_k_mean


def made(rgb_dim, flow_dim, classes, iterations=100, longest=750, lr=1e-2):
    return WTALC(
        rgb_dim,
        flow_dim,
        classes,
        Settings(lr=lr, wtalc_iterations=iterations, wtalc_max_clips=longest),
    )


def ragged(seed, lengths, features=6, classes=4):
    """float64 hidden features and activations of several videos, padded with numbers that must not
    matter.
    """
    rng = np.random.default_rng(seed)
    hidden, activations = (
        rng.normal(size=(len(lengths), max(lengths), d)) for d in (features, classes)
    )
    present = np.arange(max(lengths)) < np.array(lengths)[:, None]
    hidden[~present], activations[~present] = 1e3, 1e3
    return torch.from_numpy(hidden), torch.from_numpy(activations), torch.from_numpy(present)


# ------------------------------------------------------------------------------------------------
# W-TALC's losses
def test_top_k_mean_takes_an_eighth_of_the_videos_own_clips_rounded_up():
    a = torch.zeros(3, 17, 2)
    a[0, :, 0] = torch.arange(17)  # T = 17: k = 3
    a[1, :8, 0] = torch.arange(8)  # T = 8: k = 1
    a[2, :2, 0] = torch.tensor([-5.0, -7])  # T = 2: k = 1, and the padding's 0 is no candidate
    present = torch.arange(17) < torch.tensor([17, 8, 2])[:, None]
    assert top_k_mean(a, present)[:, 0].tolist() == [15, 7, -5]
    a[0, :, 1] = torch.tensor([9.0] * 9 + [1] * 8)  # every class has its own top clips
    assert top_k_mean(a[:1, :9], present[:1, :9]).tolist() == [[7.5, 9]]  # T = 9: k = 2


def test_k_max_loss_by_hand():
    # one clip each, so the activations are the videos' logits: softmax (1/4, 3/4) and (1/2, 1/2)
    a = torch.tensor([[[0.0, math.log(3)]], [[2.0, 2.0]]])
    y = torch.tensor([[0.0, 1], [1, 1]])
    assert k_max_loss(a, torch.ones(2, 1, dtype=torch.bool), y).item() == pytest.approx(
        (math.log(4 / 3) + math.log(2)) / 2
    )


def co_activity_by_loops(hidden, activations, lengths, y):
    def distance(a, b):
        return 1 - a @ b / (np.linalg.norm(a) * np.linalg.norm(b))

    terms = []
    for i in range(0, len(lengths), 2):
        for c in np.flatnonzero(y[i] * y[i + 1]):
            aggregates = []
            for x, s, t in zip(hidden[i : i + 2], activations[i : i + 2], lengths[i : i + 2]):
                a = softmax(s[:t, c], 0)
                aggregates.append(
                    (
                        sum(a[j] * x[j] for j in range(t)),
                        sum((1 - a[j]) / (t - 1) * x[j] for j in range(t)),
                    )
                )
            (h1, l1), (h2, l2) = aggregates
            terms.append(
                0.5 * max(0, distance(h1, h2) - distance(h1, l2) + 0.5)
                + 0.5 * max(0, distance(h1, h2) - distance(h2, l1) + 0.5)
            )
    return np.mean(terms)


@pytest.mark.parametrize("seed", range(4))
def test_co_activity_loss_matches_loops_over_pairs_and_shared_classes(seed):
    lengths = [9, 5, 20, 8, 2, 30]
    hidden, activations, present = ragged(seed, lengths)
    y = torch.tensor(
        [[1, 1, 1, 0], [1, 0, 1, 0], [0, 1, 0, 1], [0, 1, 0, 1], [0, 0, 1, 0], [0, 1, 1, 0]]
    ).double()
    assert co_activity_loss(hidden, activations, present, y).item() == pytest.approx(
        co_activity_by_loops(hidden.numpy(), activations.numpy(), lengths, y.numpy()), abs=1e-12
    )


def test_co_activity_loss_by_hand():
    # Attention picks clip 0 of either video; H1 = H2 = (1, 0), L1 = L2 = (0, 1): d(H,H) = 0, d(H,L)
    # = 1, no loss. With the second video's clips exchanged, H2 = (0, 1) and L2 = (1, 0): d(H,H) =
    # 1, d(H,L) = 0, hinge 1.5 twice.
    hidden = torch.tensor([[[1.0, 0], [0, 1]], [[1.0, 0], [0, 1]]])
    activations = torch.tensor([[[100.0], [0]], [[100.0], [0]]])
    present, y = torch.ones(2, 2, dtype=torch.bool), torch.ones(2, 1)
    assert co_activity_loss(hidden, activations, present, y).item() == pytest.approx(0, abs=1e-6)
    hidden[1] = hidden[1].flip(0)
    assert co_activity_loss(hidden, activations, present, y).item() == pytest.approx(1.5)


def test_co_activity_loss_is_0_without_a_shared_class_or_a_pair():
    hidden, activations, present = ragged(0, [4, 3])
    y = torch.tensor([[1.0, 1, 0, 0], [0, 0, 1, 0]])
    activations.requires_grad_()
    assert co_activity_loss(hidden, activations, present, y).item() == 0
    none = co_activity_loss(hidden[:0], activations[:0], present[:0], y[:0])
    none.backward()
    assert none.item() == 0 and activations.grad.abs().sum() == 0


@pytest.mark.parametrize("clips", [[1, 4], [1, 1]])
def test_co_activity_loss_of_a_video_of_one_clip_is_finite(clips):
    hidden, activations, present = ragged(2, clips)
    hidden.requires_grad_()
    activations.requires_grad_()
    loss = co_activity_loss(hidden, activations, present, torch.ones(2, 4).double())
    loss.backward()
    assert hidden.grad.isfinite().all() and activations.grad.isfinite().all()
    if clips == [1, 1]:  # no low-attention part on either side: both of its distances are 1
        h = hidden[:, 0].detach()
        assert loss.item() == pytest.approx(
            max(0, 0.5 - (h[0] @ h[1] / h[0].norm() / h[1].norm()).item())
        )


# ------------------------------------------------------------------------------------------------
# W-TALC's network
def test_scores_by_hand_and_without_dropout():
    model = made(5, 3, 4)
    rgb, flow = streams(17)
    x = torch.cat([rgb, flow], 1).numpy()
    w = {name: p.detach().numpy() for name, p in model.named_parameters()}
    assert w["hidden.weight"].shape == (8, 8)
    activations = np.maximum(x @ w["hidden.weight"].T, 0) @ w["classifier.weight"].T
    top = np.sort(activations, axis=0)[-3:].mean(axis=0)
    assert model.training  # as after a resumed run that had this stage done
    found = model.scores(rgb, flow)
    np.testing.assert_allclose(found["clips"], activations, atol=1e-5)
    np.testing.assert_allclose(found["video"], softmax(top, 0), atol=1e-5)


def test_it_starts_xavier_uniform():
    model = made(300, 300, 20)
    for layer in (model.hidden, model.classifier):
        bound = math.sqrt(6 / sum(layer.weight.shape))
        assert 0.99 * bound < layer.weight.abs().max() <= bound and layer.bias.abs().max() == 0


def test_dropout_keeps_three_in_ten():
    torch.manual_seed(0)
    model = made(50, 50, 2)
    x = torch.randn(400, 100)
    kept = model(x)[0]
    whole = model.eval()(x)[0]
    live = whole > 0
    assert (kept[live] > 0).float().mean().item() == pytest.approx(0.3, abs=0.02)
    torch.testing.assert_close(kept[kept > 0], whole[kept > 0] / 0.3)


# ------------------------------------------------------------------------------------------------
# W-TALC's batches
def test_paired_batches_begin_with_three_pairs_of_different_videos_of_a_class():
    labels = np.zeros((40, 5))
    labels[np.arange(40), np.arange(40) % 4] = 1
    labels[3, 4] = 1  # class 4 has one video: nothing to pair it with
    labels[:2] = 1, 1, 0, 0, 0
    batches = paired_batches(labels, 300, np.random.default_rng(0))
    assert len(batches) == 300 and all(len(b) == 10 for b in batches)
    drawn = np.array(batches)
    for a, b in zip(drawn[:, 0:6:2].ravel(), drawn[:, 1:6:2].ravel()):
        assert a != b and (labels[a] * labels[b]).any()
    assert set(drawn[:, 6:].ravel()) == set(range(40))
    share = [
        (labels[drawn[:, 0:6:2].ravel(), c] * labels[drawn[:, 1:6:2].ravel(), c]).mean()
        for c in range(4)
    ]
    assert min(share) > 0.2 and batches == paired_batches(labels, 300, np.random.default_rng(0))


def test_paired_batches_of_few_videos():
    rng = np.random.default_rng(0)
    # fewer than 10: videos repeat
    two = np.array(paired_batches(np.array([[1, 0], [1, 1]]), 20, rng))
    assert two.shape == (20, 10) and (two[:, 0:6:2] + two[:, 1:6:2] == 1).all()
    alone = np.array(paired_batches(np.eye(3), 100, rng))  # one video a class: no pairs to be had
    assert alone.shape == (100, 10) and set(alone[:, 0]) == {0, 1, 2}
    assert (alone[:, 0] == alone[:, 1]).any()
    assert paired_batches(np.zeros((0, 3)), 2, rng) == [[], []]  # a process without a video


# ------------------------------------------------------------------------------------------------
# W-TALC's training
def bags_of(videos):
    return list(TrainingSet(videos).bags())


def test_batch_losses_equal_those_of_single_videos():
    model = made(5, 3, 4).double().eval()
    lengths = [9, 5, 20, 8, 1, 30, 12]
    y = np.array(
        [
            [1, 1, 1, 0],
            [1, 0, 1, 0],
            [0, 1, 0, 1],
            [0, 1, 0, 1],
            [0, 0, 1, 0],
            [0, 1, 1, 0],
            [1, 0, 0, 0],
        ]
    )
    bags = [
        bag._replace(rgb=bag.rgb.double(), flow=bag.flow.double(), y=bag.y.double())
        for bag in bags_of(
            [
                video(f"v{i}", *(x.numpy() for x in streams(t, seed=i)), y[i])
                for i, t in enumerate(lengths)
            ]
        )
    ]
    found = model.losses(bags, 2, np.random.default_rng(0))

    each = [[x.detach().numpy() for x in model(torch.cat([bag.rgb, bag.flow], 1))] for bag in bags]
    logs = [
        np.log(softmax(np.sort(a, axis=0)[-math.ceil(len(a) / 8) :].mean(axis=0), 0))
        for _, a in each
    ]
    k_max = -np.mean([(yi / yi.sum()) @ s for yi, s in zip(y, logs)])
    co_activity = co_activity_by_loops([h for h, _ in each], [a for _, a in each], lengths[:4], y)
    assert found["k-max"].item() == pytest.approx(0.5 * k_max, abs=1e-9)
    assert found["co-activity"].item() == pytest.approx(0.5 * co_activity, abs=1e-9)


def test_it_trains_on_crops_that_hold_both_streams_together():
    model, seen = made(1, 1, 2, longest=10), []

    def forward(features):
        seen.append(features.T.tolist())
        return features, features

    model.forward = forward
    clips = np.arange(30, dtype=np.float32)[:, None]
    bags = bags_of([video(f"v{t}", clips[:t], 100 + clips[:t], [1, 1]) for t in (30, 10, 3)])
    rng = np.random.default_rng(0)
    for _ in range(200):
        model.losses(bags, 0, rng)
    starts = set()
    for rgb, flow in seen:
        assert len(rgb) == 23 and rgb[10:] == [*range(10), *range(3)]  # short videos are whole
        assert rgb[:10] == list(range(int(rgb[0]), int(rgb[0]) + 10))
        assert flow == [100 + x for x in rgb]
        starts.add(rgb[0])
    assert starts == set(range(21))


def test_the_log_counts_a_hundred_iterations_as_an_epoch(tmp_path):
    model = made(6, 6, 2, iterations=250)
    model.fit(TrainingSet(tiny()), RunFolder(tmp_path))
    lines = read_log(tmp_path)
    assert [(line["stage"], line["epoch"], line["videos"]) for line in lines] == [
        ("wtalc", 1, 1000),
        ("wtalc", 2, 1000),
        ("wtalc", 3, 500),
    ]
    assert lines[0]["loss"].keys() == {"k-max", "co-activity"}
    assert lines[0]["loss"]["co-activity"] > 0.01
    assert model.epochs == 3 and made(6, 6, 2, iterations=200).epochs == 2


def test_without_pairs_there_is_no_co_activity_loss(tmp_path):
    made(6, 6, 4).fit(TrainingSet(tiny(n=4, classes=4)), RunFolder(tmp_path))
    (record,) = read_log(tmp_path)
    assert record["loss"]["co-activity"] == 0


def test_it_trains_with_dropout_and_weight_decay(tmp_path):
    run = RunFolder(tmp_path)
    model = made(6, 6, 2, iterations=1, lr=1e-4).eval()  # as after a look at its scores
    model.fit(TrainingSet(tiny()), run)
    assert model.training
    (group,) = run.parts["adam wtalc"].param_groups
    assert (group["lr"], group["weight_decay"]) == (1e-4, 5e-4)
    assert sum(p.numel() for p in group["params"]) == 12 * 12 + 12 + 12 * 2 + 2
