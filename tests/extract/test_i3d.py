"""I3D: padding against TensorFlow's formula, features against another author's, both dialects of
names, wrong files."""

import hashlib
from fractions import Fraction

import numpy as np
import pytest
import torch
from errors import line_of
from places import SHARED

from extract import i3d

SAMPLE = SHARED / "data/i3d"
needs_sample = pytest.mark.skipif(not SAMPLE.is_dir(), reason="needs ../shared")


# ------------------------------------------------------------------------ padding
@pytest.mark.parametrize("kernel, stride", [(7, 2), (3, 1), (3, 2), (2, 2), (1, 1), (1, 2)])
@pytest.mark.parametrize("length", range(10, 65))
def test_padding_by_tensorflows_formula(length, kernel, stride):
    """Its documentation: max(k - s, 0) where s divides the length, else max(k - length % s, 0);
    the odd one after."""
    total = max(kernel - stride, 0) if length % stride == 0 else max(kernel - length % stride, 0)
    before, after = i3d.same_padding(length, kernel, stride)
    assert (before, after) == (total // 2, total - total // 2)
    assert (length + before + after - kernel) // stride + 1 == -(-length // stride)


def test_zeros_go_where_the_axis_is():
    padded = i3d.pad_same(torch.ones(1, 1, 15, 16, 9), (7, 7, 3), (2, 2, 2))
    assert padded.shape == (1, 1, 21, 21, 11)
    for axis, (before, length) in enumerate(((3, 15), (2, 16), (1, 9)), 2):
        others = [other for other in (2, 3, 4) if other != axis]
        filled = padded.amax((0, 1, *others)).nonzero().ravel().tolist()
        assert filled == list(range(before, before + length))


@pytest.mark.parametrize("length", [10, 15, 16, 17, 64])
def test_a_unit_is_a_convolution_with_zeros_outside(length):
    """Against the sum written out, in time, with an identity for batch normalization but its
    eps."""
    unit = i3d.Unit(1, 1, (7, 1, 1), (2, 1, 1)).eval()
    x = torch.rand(1, 1, length, 1, 1, generator=torch.Generator().manual_seed(0))
    weights = unit.conv3d.weight.detach().abs_().ravel()
    total = max(0, (-(-length // 2) - 1) * 2 + 7 - length)
    expected = []
    for t in range(-(-length // 2)):
        places = [2 * t + j - total // 2 for j in range(7)]
        expected.append(
            sum(
                float(w) * float(x[0, 0, i, 0, 0])
                for w, i in zip(weights, places)
                if 0 <= i < length
            )
        )
    with torch.no_grad():
        found = unit(x).ravel().numpy()
    np.testing.assert_allclose(found, np.array(expected) / np.sqrt(1 + 1e-3), rtol=1e-5)


# ------------------------------------------------------------------------ features
@pytest.fixture(scope="module")
def golden():
    if not SAMPLE.is_dir():
        pytest.skip("needs ../shared")
    return np.load(SAMPLE / "golden.npz")


@pytest.fixture(scope="module")
def network(golden):
    return i3d.load(SAMPLE / "rgb_kinetics400.pt", "rgb")


@pytest.mark.slow
def test_features_of_given_frames_are_another_authors(golden, network):
    found = network[0].features(golden["bikes_frames"].reshape(2, 15, 224, 224, 3))
    assert found.shape == (2, 1024) and found.dtype == np.float32
    for ours, theirs in zip(found, golden["bikes_features"]):
        assert np.linalg.norm(ours - theirs) <= 1e-4 * np.linalg.norm(theirs)
    saved = torch.load(SAMPLE / "rgb_kinetics400.pt", weights_only=True)
    logits = (
        found @ saved["logits.conv3d.weight"][:, :, 0, 0, 0].numpy().T
        + saved["logits.conv3d.bias"].numpy()
    )
    assert (logits.argmax(1) == golden["bikes_class"]).all()


def read(name):
    pytest.importorskip("av", reason="needs PyAV: pip install -r requirements-video.txt")
    from extract import frames

    return list(map(frames.centre, frames.read_frames(SAMPLE / name, Fraction(12), "center")))


def test_frames_of_a_video_are_those_the_features_are_of(golden):
    found = read("bikes.mp4")
    assert len(found) == 120  # 10 s
    difference = np.abs(np.array(found[:30], int) - golden["bikes_frames"])
    assert difference.mean() < 0.5  # exact on our processor; another may round differently


@pytest.mark.slow
def test_features_of_a_video_are_another_authors(golden, network):
    frames = read("bigbuckbunny.mp4")
    assert len(frames) == 64  # 5.28 s
    found = network[0].features(np.stack(frames[:30]).reshape(2, 15, 224, 224, 3))
    for ours, theirs in zip(found, golden["bigbuckbunny_features"]):
        assert ours @ theirs >= 0.997 * np.linalg.norm(ours) * np.linalg.norm(theirs)


def test_flow_takes_two_channels_and_any_length(tmp_path):
    network = i3d.I3D(2).eval()
    for length in (1, 3):
        found = network.features(np.full((2, length, 64, 64, 2), 128, np.uint8))
        assert found.shape == (2, 1024)
        np.testing.assert_allclose(found[0], found[1], rtol=1e-5)


# ------------------------------------------------------------------------ files
def state(stream="rgb"):
    torch.manual_seed(0)
    return i3d.I3D(i3d.CHANNELS[stream]).state_dict()


def save(path, content):
    torch.save(content, path)
    return path


def other_port(saved):
    """The names of kinetics_i3d_pytorch, whose files have no counters."""
    branches = dict(b0="0", b1a="1.0", b1b="1.1", b2a="2.0", b2b="2.1", b3b="3.1")
    renamed = {}
    for key, value in saved.items():
        if key.endswith("num_batches_tracked"):
            continue
        *place, layer, name = key.split(".")
        place = [place[0].lower(), *(f"branch_{branches[branch]}" for branch in place[1:])]
        renamed[".".join([*place, {"bn": "batch3d"}.get(layer, layer), name])] = value
    assert "mixed_3b.branch_1.1.batch3d.running_mean" in renamed
    assert "conv3d_1a_7x7.conv3d.weight" in renamed
    return {**renamed, "conv3d_0c_1x1.conv3d.weight": torch.zeros(400, 1024, 1, 1, 1)}


@pytest.mark.slow
@pytest.mark.parametrize("stream", ["rgb", "flow"])
def test_dialects(tmp_path, stream):
    saved = state(stream)
    with_logits = {**saved, "logits.conv3d.weight": torch.zeros(157, 1024, 1, 1, 1)}
    parallel = {f"module.{key}": value for key, value in with_logits.items()}
    for content in (with_logits, other_port(saved), {"epoch": 3, "state_dict": parallel}):
        path = save(tmp_path / "a.pt", content)
        network, digest = i3d.load(path, stream)
        assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
        assert not network.training
        for key, value in network.state_dict().items():
            assert torch.equal(value, saved[key]), key


@needs_sample
def test_the_released_names_are_the_modules(golden):
    saved = torch.load(SAMPLE / "rgb_kinetics400.pt", weights_only=True)
    network, _ = i3d.load(SAMPLE / "rgb_kinetics400.pt", "rgb")
    assert {key: value.shape for key, value in network.state_dict().items()} == {
        key: value.shape for key, value in saved.items() if not key.startswith("logits.")
    }


@pytest.mark.slow
def test_wrong_files(tmp_path):
    saved = state()
    first, last = "Conv3d_1a_7x7.conv3d.weight", "Mixed_5c.b3b.bn.bias"
    without = {key: value for key, value in saved.items() if key != last}
    for content, found in (
        (without, f"1 of 285 weights of I3D missing (such as {last}) and 0 unknown"),
        ({**saved, "head.weight": torch.zeros(1)}, "1 unknown (such as head.weight)"),
        ({**saved, last: torch.zeros(3)}, f"{last} (3,), expected"),
        ({**saved, last: torch.full((128,), np.nan)}, f"{last} (128,) with NaN or infinity"),
        ({**saved, first: torch.zeros(64, 4, 7, 7, 7)}, f"{first} (64, 4, 7, 7, 7), expected"),
        (state("flow"), "weights for flow (2 input channels)"),
        ([1, 2], "list"),
        (torch.zeros(3), "Tensor"),
        ({"state_dict": [torch.zeros(3)]}, "list"),
        ({"weights": "text"}, "dict"),
    ):
        path = save(tmp_path / "a.pt", content)
        line = line_of(i3d.load, path, "rgb")
        assert line.startswith(f"{path}: found ") and found in line
    line = line_of(i3d.load, save(path, other_port(saved)), "flow")
    assert "weights for rgb (3 input channels)" in line and "--rgb-weights" in line
