"""UntrimmedNet and W-TALC: losses against NumPy, batches, training; metrics by hand; scores from a file."""
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from baselines import classifiers as video_classifier
from formats.files import InputError
from engine.loop import Interrupted, Session, feeder
from baselines.classifiers import (WTALC, UntrimmedNet, classification_metrics, clip_scores, co_activity_loss, epochs_of,
                              fit, k_max_loss, paired_batches, scores, top_k_mean, video_scores)

NETWORKS = [UntrimmedNet, WTALC]


def softmax(x, axis):
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def streams(t, rgb_dim=5, flow_dim=3, seed=0):
    rng = np.random.default_rng(seed)
    return [torch.from_numpy(rng.normal(size=(t, d)).astype(np.float32)) for d in (rgb_dim, flow_dim)]


def ragged(seed, lengths, features=6, classes=4):
    """float64 hidden features and activations of several videos, padded with numbers that must not matter."""
    rng = np.random.default_rng(seed)
    hidden, activations = (rng.normal(size=(len(lengths), max(lengths), d)) for d in (features, classes))
    present = np.arange(max(lengths)) < np.array(lengths)[:, None]
    hidden[~present], activations[~present] = 1e3, 1e3
    return torch.from_numpy(hidden), torch.from_numpy(activations), torch.from_numpy(present)


# ------------------------------------------------------------------------------------------------ UntrimmedNet
@pytest.mark.parametrize("t, classes", [(7, 4), (1, 4), (7, 1), (1, 1)])
def test_untrimmednet_blends_the_streams_before_the_product(t, classes):
    model = UntrimmedNet(5, 3, classes)
    rgb, flow = streams(t)
    logits = [f.numpy() @ head.weight.detach().numpy().T + head.bias.detach().numpy()
              for f, head in ((rgb, model.rgb), (flow, model.flow))]
    attention = np.mean([softmax(s[:, 0], 0) for s in logits], axis=0)
    clips = np.mean([softmax(s[:, 1:], 1) for s in logits], axis=0)

    found = scores(model, rgb, flow)

    np.testing.assert_allclose(found.attention, attention, atol=1e-6)
    np.testing.assert_allclose(found.clips, clips, atol=1e-6)
    np.testing.assert_allclose(found.video, attention @ clips, atol=1e-6)
    assert found.attention.sum().item() == pytest.approx(1, abs=1e-6)
    assert found.video.sum().item() == pytest.approx(1, abs=1e-6) and found.video.max() <= 1
    torch.testing.assert_close(video_scores(model, rgb, flow), found.video)
    torch.testing.assert_close(clip_scores(model, rgb, flow), found.clips)


def test_untrimmednet_trains_on_minus_log_of_its_video_scores():
    model = UntrimmedNet(5, 3, 4)
    videos = [SimpleNamespace(name="a", rgb=streams(6)[0].numpy(), flow=streams(6)[1].numpy())]
    p = video_scores(model, *streams(6)).numpy()
    log = []
    session = Session()
    session.write = log.append
    fit(model, session=session, feed=feeder(videos), names=["a"], labels=torch.tensor([[1.0, 0, 1, 0]]), lr=1e-3,
        length=1)
    assert log[0]["loss"] == {"attention-mil": pytest.approx(-(math.log(p[0]) + math.log(p[2])) / 2, rel=1e-5)}


def test_untrimmednet_stays_finite_where_a_probability_underflows():
    model = UntrimmedNet(1, 1, 2)
    for head in (model.rgb, model.flow):
        torch.nn.init.constant_(head.bias, 0)
        head.weight.data = torch.tensor([[500.0], [500.0], [-500.0]])
    log_attention, log_class = model(torch.tensor([[1.0], [-1.0]]), torch.tensor([[1.0], [-1.0]]))
    loss = video_classifier.attention_mil_loss(log_attention, log_class, torch.tensor([0.0, 1.0]))
    loss.backward()
    # clip 0 has the attention and class 0; class 1 scores exp(-1000) there, and clip 1 has an attention of exp(-1000)
    assert loss.item() == pytest.approx(1000 - math.log(2))
    assert all(p.grad.isfinite().all() for p in model.parameters())


# ------------------------------------------------------------------------------------------------ W-TALC's losses
def test_top_k_mean_takes_an_eighth_of_the_videos_own_clips_rounded_up():
    a = torch.zeros(3, 17, 2)
    a[0, :, 0] = torch.arange(17)                  # T = 17: k = 3
    a[1, :8, 0] = torch.arange(8)                  # T = 8: k = 1
    a[2, :2, 0] = torch.tensor([-5.0, -7])         # T = 2: k = 1, and the padding's 0 is no candidate
    present = torch.arange(17) < torch.tensor([17, 8, 2])[:, None]
    assert top_k_mean(a, present)[:, 0].tolist() == [15, 7, -5]
    a[0, :, 1] = torch.tensor([9.0] * 9 + [1] * 8)                     # every class has its own top clips
    assert top_k_mean(a[:1, :9], present[:1, :9]).tolist() == [[7.5, 9]]         # T = 9: k = 2


def test_k_max_loss_by_hand():
    # one clip each, so the activations are the videos' logits: softmax (1/4, 3/4) and (1/2, 1/2)
    a = torch.tensor([[[0.0, math.log(3)]], [[2.0, 2.0]]])
    y = torch.tensor([[0.0, 1], [1, 1]])
    assert k_max_loss(a, torch.ones(2, 1, dtype=torch.bool), y).item() == pytest.approx(
        (math.log(4 / 3) + math.log(2)) / 2)


def test_losses_ignore_the_padding():
    lengths = [9, 1, 20, 8]
    hidden, activations, present = ragged(0, lengths)
    y = torch.tensor([[1.0, 0, 1, 0], [1, 0, 0, 0], [0, 1, 1, 1], [0, 1, 1, 0]], dtype=torch.float64)
    alone = [k_max_loss(activations[i:i + 1, :t], present[i:i + 1, :t], y[i:i + 1]) for i, t in enumerate(lengths)]
    torch.testing.assert_close(k_max_loss(activations, present, y), sum(alone) / 4)
    first, second = (co_activity_loss(hidden[i:i + 2, :t], activations[i:i + 2, :t], present[i:i + 2, :t], y[i:i + 2])
                     for i, t in ((0, 9), (2, 20)))
    # the first pair shares one class and the second two: the mean is over pairs of videos and shared classes
    torch.testing.assert_close(co_activity_loss(hidden, activations, present, y), (first + 2 * second) / 3)


def co_activity_by_loops(hidden, activations, lengths, y):
    def distance(a, b):
        return 1 - a @ b / (np.linalg.norm(a) * np.linalg.norm(b))

    terms = []
    for i in range(0, len(lengths), 2):
        for c in np.flatnonzero(y[i] * y[i + 1]):
            aggregates = []
            for x, s, t in zip(hidden[i:i + 2], activations[i:i + 2], lengths[i:i + 2]):
                a = softmax(s[:t, c], 0)
                aggregates.append((sum(a[j] * x[j] for j in range(t)),
                                   sum((1 - a[j]) / (t - 1) * x[j] for j in range(t))))
            (h1, l1), (h2, l2) = aggregates
            terms.append(0.5 * max(0, distance(h1, h2) - distance(h1, l2) + 0.5)
                         + 0.5 * max(0, distance(h1, h2) - distance(h2, l1) + 0.5))
    return np.mean(terms)


@pytest.mark.parametrize("seed", range(4))
def test_co_activity_loss_matches_loops_over_pairs_and_shared_classes(seed):
    lengths = [9, 5, 20, 8, 2, 30]
    hidden, activations, present = ragged(seed, lengths)
    y = torch.tensor([[1, 1, 1, 0], [1, 0, 1, 0], [0, 1, 0, 1], [0, 1, 0, 1], [0, 0, 1, 0], [0, 1, 1, 0]]).double()
    assert co_activity_loss(hidden, activations, present, y).item() == pytest.approx(
        co_activity_by_loops(hidden.numpy(), activations.numpy(), lengths, y.numpy()), abs=1e-12)


def test_co_activity_loss_by_hand():
    # Attention picks clip 0 of either video; H1 = H2 = (1, 0), L1 = L2 = (0, 1): d(H,H) = 0, d(H,L) = 1, no loss.
    # With the second video's clips exchanged, H2 = (0, 1) and L2 = (1, 0): d(H,H) = 1, d(H,L) = 0, hinge 1.5 twice.
    hidden = torch.tensor([[[1.0, 0], [0, 1]], [[1.0, 0], [0, 1]]])
    activations = torch.tensor([[[100.0], [0]], [[100.0], [0]]])
    present, y = torch.ones(2, 2, dtype=torch.bool), torch.ones(2, 1)
    assert co_activity_loss(hidden, activations, present, y).item() == pytest.approx(0, abs=1e-6)
    hidden[1] = hidden[1].flip(0)
    assert co_activity_loss(hidden, activations, present, y).item() == pytest.approx(1.5)


def test_co_activity_loss_gradient():
    lengths = [5, 4, 3, 6]
    hidden, activations, present = ragged(1, lengths, features=3, classes=3)
    y = torch.tensor([[1, 1, 0], [1, 1, 1], [0, 1, 1], [0, 0, 1]]).double()
    assert co_activity_loss(hidden, activations, present, y) > 0.1                # the hinge is open
    assert torch.autograd.gradcheck(lambda h, a: co_activity_loss(h, a, present, y),
                                    (hidden.requires_grad_(), activations.requires_grad_()))


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
    if clips == [1, 1]:                            # no low-attention part on either side: both of its distances are 1
        h = hidden[:, 0].detach()
        assert loss.item() == pytest.approx(max(0, 0.5 - (h[0] @ h[1] / h[0].norm() / h[1].norm()).item()))


# ------------------------------------------------------------------------------------------------ W-TALC's network
def test_wtalc_scores_by_hand_and_without_dropout():
    model = WTALC(5, 3, 4)
    rgb, flow = streams(17)
    x = torch.cat([rgb, flow], 1).numpy()
    w = {name: p.detach().numpy() for name, p in model.named_parameters()}
    assert w["hidden.weight"].shape == (8, 8)
    activations = np.maximum(x @ w["hidden.weight"].T, 0) @ w["classifier.weight"].T
    top = np.sort(activations, axis=0)[-3:].mean(axis=0)
    assert model.training                          # as after a resumed run that had this stage done
    np.testing.assert_allclose(clip_scores(model, rgb, flow), activations, atol=1e-5)
    np.testing.assert_allclose(video_scores(model, rgb, flow), softmax(top, 0), atol=1e-5)


def test_wtalc_starts_xavier_uniform():
    model = WTALC(300, 300, 20)
    for layer in (model.hidden, model.classifier):
        bound = math.sqrt(6 / sum(layer.weight.shape))
        assert 0.99 * bound < layer.weight.abs().max() <= bound and layer.bias.abs().max() == 0


def test_wtalc_dropout_keeps_three_in_ten():
    torch.manual_seed(0)
    model = WTALC(50, 50, 2)
    x = torch.randn(400, 50), torch.randn(400, 50)
    kept = model(*x)[0]
    whole = model.eval()(*x)[0]
    live = whole > 0
    assert (kept[live] > 0).float().mean().item() == pytest.approx(0.3, abs=0.02)
    torch.testing.assert_close(kept[kept > 0], whole[kept > 0] / 0.3)


def test_wtalc_batch_losses_equal_those_of_single_videos():
    model = WTALC(5, 3, 4).double().eval()
    lengths = [9, 5, 20, 8, 1, 30, 12]
    batch = [(i, *(x.double() for x in streams(t, seed=i))) for i, t in enumerate(lengths)]
    y = torch.tensor([[1, 1, 1, 0], [1, 0, 1, 0], [0, 1, 0, 1], [0, 1, 0, 1], [0, 0, 1, 0], [0, 1, 1, 0],
                      [1, 0, 0, 0]]).double()
    found = video_classifier._wtalc_losses(model, batch, y, 2, 750, np.random.default_rng(0))

    each = [[x.detach().numpy() for x in model(rgb, flow)] for _, rgb, flow in batch]
    logs = [np.log(softmax(np.sort(a, axis=0)[-math.ceil(len(a) / 8):].mean(axis=0), 0)) for _, a in each]
    k_max = -np.mean([(yi / yi.sum()) @ s for yi, s in zip(y.numpy(), logs)])
    co_activity = co_activity_by_loops([h for h, _ in each], [a for _, a in each], lengths[:4], y.numpy())
    assert found["k-max"].item() == pytest.approx(0.5 * k_max, abs=1e-9)
    assert found["co-activity"].item() == pytest.approx(0.5 * co_activity, abs=1e-9)


def test_wtalc_trains_on_crops_that_hold_both_streams_together():
    seen = []

    def model(rgb, flow):
        seen.append((rgb[:, 0].tolist(), flow[:, 0].tolist()))
        return rgb, flow

    clips = torch.arange(30.0)[:, None]
    batch = [(0, clips, 100 + clips), (1, clips[:10], clips[:10]), (1, clips[:3], clips[:3])]
    rng = np.random.default_rng(0)
    for _ in range(200):
        video_classifier._wtalc_losses(model, batch, torch.ones(2, 1), 0, 10, rng)
    starts = set()
    for rgb, flow in seen:
        assert len(rgb) == 23 and rgb[10:] == [*range(10), *range(3)]       # short videos are whole
        assert rgb[:10] == list(range(int(rgb[0]), int(rgb[0]) + 10)) and flow[:10] == [100 + x for x in rgb[:10]]
        starts.add(rgb[0])
    assert starts == set(range(21))


# ------------------------------------------------------------------------------------------------ W-TALC's batches
def test_paired_batches_begin_with_three_pairs_of_different_videos_of_a_class():
    labels = np.zeros((40, 5))
    labels[np.arange(40), np.arange(40) % 4] = 1
    labels[3, 4] = 1                               # class 4 has one video: nothing to pair it with
    labels[:2] = 1, 1, 0, 0, 0
    batches = paired_batches(labels, 300, np.random.default_rng(0))
    assert len(batches) == 300 and all(len(b) == 10 for b in batches)
    drawn = np.array(batches)
    for a, b in zip(drawn[:, 0:6:2].ravel(), drawn[:, 1:6:2].ravel()):
        assert a != b and (labels[a] * labels[b]).any()
    assert set(drawn[:, 6:].ravel()) == set(range(40))
    share = [(labels[drawn[:, 0:6:2].ravel(), c] * labels[drawn[:, 1:6:2].ravel(), c]).mean() for c in range(4)]
    assert min(share) > 0.2 and batches == paired_batches(labels, 300, np.random.default_rng(0))


def test_paired_batches_of_few_videos():
    rng = np.random.default_rng(0)
    two = np.array(paired_batches(np.array([[1, 0], [1, 1]]), 20, rng))       # fewer than 10: videos repeat
    assert two.shape == (20, 10) and (two[:, 0:6:2] + two[:, 1:6:2] == 1).all()
    alone = np.array(paired_batches(np.eye(3), 100, rng))                     # one video a class: no pairs to be had
    assert alone.shape == (100, 10) and set(alone[:, 0]) == {0, 1, 2}
    assert (alone[:, 0] == alone[:, 1]).any()
    assert paired_batches(np.zeros((0, 3)), 2, rng) == [[], []]               # a process without a video


# ------------------------------------------------------------------------------------------------ training
def tiny(n=12, classes=2):
    """Videos whose class shifts the features of a third of the clips."""
    rng = np.random.default_rng(5)
    labels = np.eye(classes, dtype=np.float32)[np.arange(n) % classes]
    videos = []
    for y in labels:
        t = int(rng.integers(1, 14))
        rgb, flow = rng.normal(size=(2, t, 6)).astype(np.float32)
        rgb[:-(-t // 3), y.argmax()] += 4
        videos.append(SimpleNamespace(name=f"v{len(videos)}", rgb=rgb, flow=flow))
    return videos, torch.from_numpy(labels)


def run(network, length, session=None, seed=0, feed=None, videos_labels=None):
    videos, labels = videos_labels or tiny()
    session = session or Session(seed=seed)
    torch.manual_seed(session.seed)
    model = session.add("classifier", network(6, 6, labels.shape[1]))
    fit(model, session=session, feed=feed or feeder(videos), names=[v.name for v in videos], labels=labels, lr=1e-2,
        length=length)
    return model


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize("network, length", [(UntrimmedNet, 20), (WTALC, 150)])
def test_training_learns_and_depends_on_the_seed_alone(network, length):
    model = run(network, length)
    videos, labels = tiny()
    found = torch.stack([video_scores(model, torch.from_numpy(v.rgb), torch.from_numpy(v.flow)) for v in videos])
    assert classification_metrics(found, labels).top1 > 0.9
    assert torch.equal(weights(model), weights(run(network, length)))
    assert not torch.equal(weights(model), weights(run(network, length, seed=1)))


@pytest.mark.parametrize("network, length, cut", [(UntrimmedNet, 3, 17), (WTALC, 120, 50), (WTALC, 120, 110)])
def test_interrupted_and_resumed_training_ends_in_the_same_weights(tmp_path, network, length, cut):
    videos, _ = tiny()
    session = Session(tmp_path)
    inner, served = feeder(videos), 0

    def feed(batches):
        nonlocal served
        for batch in inner(batches):
            served += 1
            if served == cut:
                session.interrupt(15)
            yield batch

    with pytest.raises(Interrupted):
        run(network, length, session, feed=feed)
    session.lock.close()
    resumed = run(network, length, Session(tmp_path, resume=True))
    assert torch.equal(weights(resumed), weights(run(network, length)))


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("classes, n", [(1, 4), (1, 1), (4, 4), (2, 3)])
def test_few_videos_or_classes(network, classes, n):
    """One class; one video; a single video in every class, so no pairs; fewer videos than a batch."""
    model = run(network, 3, videos_labels=tiny(n, classes))
    assert weights(model).isfinite().all()
    assert video_scores(model, torch.zeros(1, 6), torch.zeros(1, 6)).shape == (classes,)


def test_wtalc_log_counts_a_hundred_iterations_as_an_epoch(tmp_path):
    model = run(WTALC, 250, Session(tmp_path))
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [(line["stage"], line["epoch"], line["videos"]) for line in lines] == [
        ("wtalc", 1, 1000), ("wtalc", 2, 1000), ("wtalc", 3, 500)]
    assert lines[0]["loss"].keys() == {"k-max", "co-activity"} and lines[0]["loss"]["co-activity"] > 0.01
    assert epochs_of(model, 250) == 3 and epochs_of(model, 200) == 2 and epochs_of(UntrimmedNet(1, 1, 1), 45) == 45


def test_wtalc_without_pairs_has_no_co_activity_loss(tmp_path):
    run(WTALC, 100, Session(tmp_path), videos_labels=tiny(n=4, classes=4))
    assert json.loads((tmp_path / "log.jsonl").read_text())["loss"]["co-activity"] == 0


def test_wtalc_trains_with_dropout_and_weight_decay():
    videos, labels = tiny()
    session = Session()
    model = WTALC(6, 6, 2).eval()                  # as after a look at its scores
    fit(model, session=session, feed=feeder(videos), names=[v.name for v in videos], labels=labels, lr=1e-4, length=1)
    assert model.training
    group, = session.parts["adam wtalc"].param_groups
    assert (group["lr"], group["weight_decay"], group["betas"]) == (1e-4, 5e-4, (0.9, 0.999))
    assert sum(p.numel() for p in group["params"]) == 12 * 12 + 12 + 12 * 2 + 2


def test_a_video_that_is_not_finite_is_named():
    videos, labels = tiny()
    videos[7].rgb[0] = np.nan
    with pytest.raises(InputError, match="v7"):
        run(UntrimmedNet, 1, videos_labels=(videos, labels))


# ------------------------------------------------------------------------------------------------ metrics
def test_classification_metrics_by_hand():
    found = np.array([[0.9, 0.1, 0.0], [0.8, 0.7, 0.0], [0.4, 0.3, 0.0], [0.2, 0.6, 0.0]])
    labels = np.array([[1, 0, 0], [0, 0, 0], [1, 1, 0], [0, 1, 0]])
    metrics = classification_metrics(found, labels)
    # class 0 ranks + - + -: (1/1 + 2/3) / 2; class 1 ranks - + + -: (1/2 + 2/3) / 2; class 2 has no video
    np.testing.assert_allclose(metrics.ap, [5 / 6, 7 / 12, np.nan])
    assert metrics.map == pytest.approx((5 / 6 + 7 / 12) / 2)
    assert metrics.top1 == 1                       # video 1 has no label and is left out
    assert classification_metrics(1 - found[:, :2], labels[:, :2]).top1 == pytest.approx(1 / 3)


def test_average_precision_does_not_depend_on_the_order_of_ties():
    labels = np.array([[1], [0], [1], [0]])
    for order in ([0, 1, 2, 3], [1, 0, 3, 2], [3, 2, 1, 0]):
        # one threshold at 0.5 (recall 1/2, precision 1/2), one at 0.1 (recall 1, precision 1/2)
        found = np.array([[0.5], [0.5], [0.1], [0.1]])
        assert classification_metrics(found[order], labels[order]).map == pytest.approx(0.5)
    assert classification_metrics(np.zeros((4, 1)), labels).map == pytest.approx(0.5)


def test_metrics_of_the_oracle_and_of_nothing():
    labels = np.array([[1, 1], [0, 1], [0, 0]])
    assert classification_metrics(labels, labels)[:2] == (1, 1)
    assert all(math.isnan(x) for x in classification_metrics(np.zeros((2, 2)), np.zeros((2, 2)))[:2])
