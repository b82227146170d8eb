"""Several processes (torchrun): who there is, and what they exchange. With one process every
function is a no-op.

Process r owns the videos r, r + ranks, r + 2 * ranks, ... of the training set. All processes step
together with the sum of their gradients, so their weights stay equal; features never travel.
"""

import contextlib
import os

import torch
import torch.distributed as dist

from formats.files import InputError
from formats.program import log


def world():
    """(rank, number of processes): (0, 1) outside torchrun."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def join_processes():
    """Joins the process group that torchrun announces in the environment; process 0 logs for all.

    gloo on CPU; nccl where there are GPUs, one GPU for each process of a machine.
    """
    alone = os.environ.get("WORLD_SIZE", "1") == "1"  # also where a scheduler sets it for one
    if alone or "RANK" not in os.environ or dist.is_initialized():
        return
    gpus = torch.cuda.device_count()
    local = int(os.environ.get("LOCAL_RANK", 0))
    if gpus and local >= gpus:
        found = f"process {local + 1} on a machine of {gpus} GPUs"
        raise InputError("torchrun", found, "at most one process for each GPU")
    if gpus:
        torch.cuda.set_device(local)
    try:
        with _one_line():
            dist.init_process_group("cpu:gloo,cuda:nccl" if gpus else "gloo")
    except ValueError as error:
        expected = "them from torchrun (torchrun --nproc-per-node N run.py ...), or unset"
        raise InputError("RANK and WORLD_SIZE", f"both set, but {error}", expected) from None
    log.disabled = dist.get_rank() > 0


def leave_processes():
    if dist.is_initialized():
        dist.destroy_process_group()
        log.disabled = False


def everywhere(value):
    """The values of all processes, in the order of their ranks, on every process. Waits for all."""
    ranks = world()[1]
    if ranks == 1:
        return [value]
    values = [None] * ranks
    with _one_line():
        dist.all_gather_object(values, value)
    return values


def gathered(mine):
    """The whole list, in order, on every process; `mine` holds the items rank, rank + ranks, ..."""
    parts = everywhere(mine)
    return [parts[i % len(parts)][i // len(parts)] for i in range(sum(map(len, parts)))]


def sum_gradients(parameters):
    """Adds up the gradients of all processes, in place."""
    if world()[1] == 1:
        return
    flat = torch.cat(
        [(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1) for p in parameters]
    )
    with _one_line():
        dist.all_reduce(flat)
    for p, summed in zip(parameters, flat.split([p.numel() for p in parameters])):
        p.grad = summed.view(p.shape)


@contextlib.contextmanager
def all_or_none():
    """Where one process fails with an InputError inside the block, all do, with the first one's."""
    failed = None
    try:
        yield
    except InputError as error:
        failed = error
    first = next(filter(None, everywhere(failed)), None)
    if first:
        raise error_on_all(first)


def error_on_all(error):
    """What to raise where all processes raise `error`: the others end without a line."""
    return error if world()[0] == 0 else InputError("")


@contextlib.contextmanager
def _one_line():
    """A lost process is one line, not PyTorch's traceback."""
    try:
        yield
    except RuntimeError as error:
        where = f"process {os.environ['RANK']} of {os.environ['WORLD_SIZE']}"
        found = f"the other processes lost ({str(error).splitlines()[0][:200]})"
        raise InputError(where, found, "all of them until the end: see what they printed") from None
