"""The training loop: bags on the device, one epoch of Adam steps, for any loss.

A batch is a list of whole videos (bags). EM-MIL and the networks it is compared with share
`train_epoch`.
"""

import collections
import contextlib
import time
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from torch.optim import adam as functional

from engine.distributed import error_on_all, everywhere, sum_gradients, world
from formats.files import InputError

try:
    from engine.cpu import together
except ImportError:  # works without that file

    def together(branch, bags):
        return contextlib.nullcontext()


# the defaults of torch.optim.Adam
ADAM = dict(amsgrad=False, beta1=0.9, beta2=0.999, eps=1e-8, maximize=False, fused=True)


class Bag(NamedTuple):
    """A training video: T clips in two streams, and its video-level labels. A stream that the set
    lacks is None.
    """

    index: int  # of the video in the whole training set
    name: str
    rgb: torch.Tensor | None  # (T, D)
    flow: torch.Tensor | None  # (T, D')
    y: torch.Tensor  # (C,) multi-hot

    @property
    def length(self):
        """T, the number of clips."""
        return len(self.flow if self.rgb is None else self.rgb)


class TrainingSet:
    """The training videos of this process, on `device`.

    videos: objects with `.name`, `.rgb` (T, D), `.flow` (T, D') and `.labels` (C,), in the same
    order on every process. NumPy features are moved to `device` once and stay there; features that
    stay on disk are read by a thread, at most `read_ahead` batches before their turn.
    """

    def __init__(self, videos, device="cpu", read_ahead=8):
        rank, ranks = world()
        self.device, self.read_ahead = torch.device(device), read_ahead
        self.labels = torch.from_numpy(np.stack([v.labels for v in videos])).to(device)  # (N, C)
        self.lengths = [(v.flow if v.rgb is None else v.rgb).shape[0] for v in videos]  # clips
        self.mine = list(range(rank, len(videos), ranks))  # indices of this process's videos
        self.videos = {i: videos[i] for i in self.mine}
        features = [x for v in self.videos.values() for x in (v.rgb, v.flow) if x is not None]
        in_memory = all(isinstance(x, np.ndarray) for x in features)
        self.held = {i: self._bag(i) for i in self.mine} if in_memory else None

    def __len__(self):
        return len(self.lengths)

    def _bag(self, i):
        video = self.videos[i]
        rgb, flow = self._moved(video.rgb), self._moved(video.flow)
        return Bag(i, video.name, rgb, flow, self.labels[i])

    def _moved(self, features):
        if features is None:
            return None
        tensor = torch.from_numpy(np.asarray(features))
        # Only from pinned memory does a copy to the GPU run beside the training.
        if self.device.type == "cuda":
            tensor = tensor.pin_memory()
        return tensor.to(self.device, non_blocking=True)

    def bags(self):
        """All bags of this process, in the order of the set."""
        return (bag for bags in self.read([[i] for i in self.mine]) for bag in bags)

    def groups(self, clips=2048):
        """All bags of this process, as lists of at most `clips` clips, or of one longer bag."""
        group = []
        for bag in self.bags():
            if group and sum(held.length for held in group) + bag.length > clips:
                yield group
                group = []
            group.append(bag)
        if group:
            yield group

    def read(self, batches):
        """Yields a list of Bags for each list of indices of this process's videos."""
        if self.held is not None:
            yield from ([self.held[i] for i in batch] for batch in batches)
            return
        reader, waiting = ThreadPoolExecutor(1), collections.deque()
        try:
            for batch in batches:
                waiting.append(reader.submit(lambda of=batch: [self._bag(i) for i in of]))
                if len(waiting) > self.read_ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            reader.shutdown(cancel_futures=True)

    def shuffled(self, rng, per_step=1):
        """The steps of one epoch: yields (bags, number of videos over all processes).

        per_step: videos per step and process. rng: NumPy generator, in the same state on every
        process. Video i lies in stripe i modulo per_step * ranks; each stripe is permuted, and a
        step takes one video of every stripe that still has one. So several processes make the same
        steps as one process with per_step * ranks videos a step.
        """
        rank, ranks = world()
        n_stripes = per_step * ranks
        stripes = [rng.permutation(np.arange(s, len(self), n_stripes)) for s in range(n_stripes)]
        steps = range(-(-len(self) // n_stripes))
        mine = [
            [int(stripe[k]) for stripe in stripes[rank::ranks] if k < len(stripe)] for k in steps
        ]
        counts = [sum(k < len(stripe) for stripe in stripes) for k in steps]
        return zip(self.read(mine), counts)


class Adam:
    """torch.optim.Adam with PyTorch's fused step, by the function behind that class: the class
    imports PyTorch's compiler, which takes two seconds of every run. A parameter without a gradient
    is not moved.
    """

    def __init__(self, parameters, lr, weight_decay=0.0):
        parameters = list(parameters)
        self.param_groups = [{"params": parameters, "lr": lr, "weight_decay": weight_decay}]
        self.state = {
            i: {
                "step": torch.zeros((), device=p.device),
                "exp_avg": torch.zeros_like(p, requires_grad=False),
                "exp_avg_sq": torch.zeros_like(p, requires_grad=False),
            }
            for i, p in enumerate(parameters)
        }

    @torch.no_grad()
    def step(self):
        (group,) = self.param_groups
        held = zip(group["params"], self.state.values())
        moved = [(p, p.grad, *state.values()) for p, state in held if p.grad is not None]
        if moved:
            weights, gradients, step, first, second = map(list, zip(*moved))
            rate, decay = group["lr"], group["weight_decay"]
            functional.adam(
                weights, gradients, first, second, [], step, lr=rate, weight_decay=decay, **ADAM
            )

    def state_dict(self):
        return {"state": self.state}

    def load_state_dict(self, state):
        """Takes over what `state_dict` gave. ValueError where it does not fit."""
        saved = state["state"]
        if len(saved) != len(self.state):
            raise ValueError(f"{len(saved)} parameters, not {len(self.state)}")
        for i, mine in self.state.items():
            for name, tensor in mine.items():
                if saved[i][name].shape != tensor.shape:
                    raise ValueError(f"{name} is {tuple(saved[i][name].shape)}")
                tensor.copy_(saved[i][name])  # keeps its memory order, which the kernel needs


def train_epoch(batches, loss, optimizers, where=""):
    """One step of `optimizers` for each batch; returns {name: loss, mean over the steps}.

    batches: yields (bags, number of videos of the step over all processes). loss(bags) -> {name:
    scalar tensor}, each the mean over the bags; their sum is minimised. where: names the epoch in
    an error. Losses are read only after the epoch, so that no step waits for the GPU; one that is
    not finite raises InputError with the names of its videos.
    """
    ranks = world()[1]
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    parameters = [p for group in groups for p in group["params"]]
    names, steps, history = [], [], []
    for bags, videos in batches:
        for p in parameters:
            p.grad = None
        steps.append([bag.name for bag in bags])
        if bags:
            losses = loss(bags)
            names = list(losses)
            # this process's part of the step's mean
            if ranks > 1:
                losses = {name: value * (len(bags) / videos) for name, value in losses.items()}
            torch.autograd.backward(list(losses.values()))  # of their sum
            history.append(torch.stack([value.detach() for value in losses.values()]))
        sum_gradients(parameters)
        for optimizer in optimizers:
            optimizer.step()
    history = torch.stack(history).cpu() if history else torch.zeros(0, 0)  # (steps, losses)
    if ranks > 1:
        names, history = _summed(names, history)
    _check_finite(history, steps, where)
    return dict(zip(names, history.double().mean(dim=0).tolist()))


def train_method(method, optimizer, run, bar, of_epoch):
    """All epochs of a method of one stage that are not done yet, with a record of each in the log.

    method: has `name`, `epochs`, `settings.lr`. of_epoch(epoch, rng) -> (batches, loss, videos):
    what `train_epoch` takes, and the number of videos for the log. bar: may be None.
    """
    for epoch in run.epochs(method.name, method.epochs):
        began = time.perf_counter()
        batches, loss, videos = of_epoch(epoch, run.generator(method.name, epoch))
        losses = train_epoch(batches, loss, [optimizer], where=f"{method.name}, epoch {epoch + 1}")
        run.log(
            stage=method.name,
            epoch=epoch + 1,
            lr=method.settings.lr,
            loss=losses,
            videos=videos,
            seconds=round(time.perf_counter() - began, 4),
        )
        if bar is not None:
            bar.update(losses)


def _summed(names, history):
    """The losses' names and the sum of the processes' parts, (steps, losses).

    A process may have no video in the last step, or none at all.
    """
    parts = everywhere((names, history))
    names = next(names for names, _ in parts if names)
    whole = torch.zeros(max(len(part) for _, part in parts), len(names))
    for part_names, part in parts:
        if part_names:
            whole[: len(part)] += part
    return names, whole


def _check_finite(history, steps, where):
    bad = (~torch.isfinite(history).all(dim=1)).nonzero()
    if len(bad):
        step = int(bad[0])
        videos = ", ".join(sum(everywhere(steps[step]), []))
        found = f"the loss {history[step].sum().item()} on {videos}"
        expected = "a finite number (look at the features' values and the learning rate)"
        raise error_on_all(InputError(f"training {where}", found, expected))
