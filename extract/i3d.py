"""I3D (Inception-v1 inflated to 3-D): clips of RGB or flow -> Mixed_5c averaged over time and
space, 1024 numbers.

Carreira and Zisserman, "Quo Vadis, Action Recognition?", CVPR 2017. Every convolution and pooling
pads as TensorFlow's SAME does, because that is how the published weights were trained. Module
names are those of the usual PyTorch port, so that `rgb_imagenet.pt` and `flow_imagenet.pt` load
as they are.
"""

import hashlib
import re

import torch
from torch import nn
from torch.nn import functional as F

from formats.files import InputError, load_pt, open_file

CHANNELS = {"rgb": 3, "flow": 2}
# Output channels of the branches: b0; b1a, b1b; b2a, b2b; b3b.
MIXED = {
    "Mixed_3b": (64, 96, 128, 16, 32, 32),
    "Mixed_3c": (128, 128, 192, 32, 96, 64),
    "Mixed_4b": (192, 96, 208, 16, 48, 64),
    "Mixed_4c": (160, 112, 224, 24, 64, 64),
    "Mixed_4d": (128, 128, 256, 24, 64, 64),
    "Mixed_4e": (112, 144, 288, 32, 64, 64),
    "Mixed_4f": (256, 160, 320, 32, 128, 128),
    "Mixed_5b": (256, 160, 320, 32, 128, 128),
    "Mixed_5c": (384, 192, 384, 48, 128, 128),
}
# Other names, kinetics_i3d_pytorch's in the main, as patterns, and ours.
OTHER_NAMES = (
    (r"^module\.", ""),  # DataParallel
    (r"^conv3d_0c_1x1\.", "logits."),
    (r"^conv3d", "Conv3d"),
    (r"^mixed", "Mixed"),
    (r"\.batch3d\.", ".bn."),
    (r"\.branch_0\.", ".b0."),
    (r"\.branch_3\.1\.", ".b3b."),
    (r"\.branch_([12])\.0\.", r".b\1a."),
    (r"\.branch_([12])\.1\.", r".b\1b."),
)


def same_padding(length, kernel, stride):
    """(before, after): zeros that make ceil(length / stride) outputs, the odd one after, as
    TensorFlow's SAME."""
    total = max((-(-length // stride) - 1) * stride + kernel - length, 0)
    return total // 2, total - total // 2


def pad_same(x, kernel, stride):
    """x (B, C, T, H, W) padded with zeros for `kernel` and `stride`, three numbers each. Pooling
    may have zeros too: it comes after a ReLU, so that a zero never is the largest."""
    pads = [same_padding(*sizes) for sizes in zip(x.shape[2:], kernel, stride)]
    flat = [side for pad in reversed(pads) for side in pad]
    return F.pad(x, flat) if any(flat) else x


class Unit(nn.Module):
    """Convolution, batch normalization, ReLU."""

    def __init__(self, inputs, outputs, kernel=(1, 1, 1), stride=(1, 1, 1)):
        super().__init__()
        self.kernel, self.stride = kernel, stride
        self.conv3d = nn.Conv3d(inputs, outputs, kernel, stride, bias=False)
        self.bn = nn.BatchNorm3d(outputs, eps=1e-3)

    def forward(self, x):
        return F.relu(self.bn(self.conv3d(pad_same(x, self.kernel, self.stride))))


class Pool(nn.Module):
    """Maximum over `kernel`."""

    def __init__(self, kernel, stride):
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x):
        return F.max_pool3d(pad_same(x, self.kernel, self.stride), self.kernel, self.stride)


class Mixed(nn.Module):
    """Four branches side by side: 1x1x1; 1x1x1 and 3x3x3, twice; pooling and 1x1x1."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.b0 = Unit(inputs, outputs[0])
        self.b1a = Unit(inputs, outputs[1])
        self.b1b = Unit(outputs[1], outputs[2], (3, 3, 3))
        self.b2a = Unit(inputs, outputs[3])
        self.b2b = Unit(outputs[3], outputs[4], (3, 3, 3))
        self.b3a = Pool((3, 3, 3), (1, 1, 1))
        self.b3b = Unit(inputs, outputs[5])

    def forward(self, x):
        branches = self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(self.b3a(x))
        return torch.cat(branches, 1)


class I3D(nn.Sequential):
    """The network up to Mixed_5c; channels: 3 for RGB, 2 for flow."""

    def __init__(self, channels):
        super().__init__()
        self.Conv3d_1a_7x7 = Unit(channels, 64, (7, 7, 7), (2, 2, 2))
        self.MaxPool3d_2a_3x3 = Pool((1, 3, 3), (1, 2, 2))
        self.Conv3d_2b_1x1 = Unit(64, 64)
        self.Conv3d_2c_3x3 = Unit(64, 192, (3, 3, 3))
        self.MaxPool3d_3a_3x3 = Pool((1, 3, 3), (1, 2, 2))
        width = 192
        for name, outputs in MIXED.items():
            if name == "Mixed_4b":
                self.MaxPool3d_4a_3x3 = Pool((3, 3, 3), (2, 2, 2))
            if name == "Mixed_5b":
                self.MaxPool3d_5a_2x2 = Pool((2, 2, 2), (2, 2, 2))
            self.add_module(name, Mixed(width, outputs))
            width = outputs[0] + outputs[2] + outputs[4] + outputs[5]

    def forward(self, x):
        """(B, C, T, H, W) in [-1, 1] -> (B, 1024)."""
        return super().forward(x).mean((2, 3, 4))

    @torch.inference_mode()
    def features(self, clips):
        """clips (B, T, H, W, C) uint8 -> (B, 1024) float32; value / 127.5 - 1 is what the network
        sees."""
        device = next(self.parameters()).device
        x = torch.from_numpy(clips).to(device).permute(0, 4, 1, 2, 3).float() / 127.5 - 1
        return self(x).cpu().numpy()


def load(path, stream, device="cpu"):
    """(I3D for `stream`, "rgb" or "flow", with the weights of a file; the file's SHA-256).

    Reads the names of pytorch-i3d and kinetics_i3d_pytorch, also within `state_dict` and with the
    prefix `module.`; the classifier's (logits) are not needed. InputError for anything but the
    weights of this network for this stream.
    """
    saved = load_pt(path)
    if isinstance(saved, dict):
        saved = saved.get("state_dict", saved)
    if not isinstance(saved, dict) or not all(map(torch.is_tensor, saved.values())):
        found = f"{type(saved).__name__} that holds other things than tensors"
        raise InputError(path, found, "a state dict of I3D")
    network = I3D(CHANNELS[stream]).eval()
    given = {_our_name(key): value for key, value in saved.items()}
    given = {key: value for key, value in given.items() if not key.startswith("logits.")}
    _check_weights(path, stream, given, network.state_dict())
    network.load_state_dict({**network.state_dict(), **given})
    with open_file(path) as (file, _):
        digest = hashlib.sha256(file.read()).hexdigest()
    return network.to(device), digest


def _check_weights(path, stream, given, wanted):
    """InputError where `given` lacks a name, has an unknown one, or other shapes than `wanted`.

    The counters of batch normalization may be absent: old files have none, and no one uses them.
    """
    needed = {key for key in wanted if not key.endswith(".num_batches_tracked")}
    missing, unknown = sorted(needed - given.keys()), sorted(given.keys() - wanted.keys())
    if missing or unknown:
        lacks = f" (such as {missing[0]})" if missing else ""
        has = f" (such as {unknown[0]})" if unknown else ""
        found = f"{len(missing)} of {len(needed)} weights of I3D missing{lacks}"
        raise InputError(path, f"{found} and {len(unknown)} unknown{has}", "a state dict of I3D")
    shape = given["Conv3d_1a_7x7.conv3d.weight"].shape
    for other, channels in CHANNELS.items():
        if other != stream and len(shape) == 5 and shape[1] == channels:
            raise InputError(
                path,
                f"weights for {other} ({channels} input channels)",
                f"those for {stream}: give this file with --{other}-weights",
            )
    for key in sorted(needed):
        fits = given[key].shape == wanted[key].shape
        if not fits or not given[key].isfinite().all():
            values = " with NaN or infinity" if fits else ""
            raise InputError(
                path,
                f"{key} {tuple(given[key].shape)}{values}",
                f"finite numbers {tuple(wanted[key].shape)}",
            )


def _our_name(key):
    for pattern, ours in OTHER_NAMES:
        key = re.sub(pattern, ours, str(key))
    return key
