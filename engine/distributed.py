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


class Reported(InputError):
    """An error that process 0 reports, raised in the other processes."""


def world():
    """(rank, number of processes): (0, 1) outside torchrun."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def join_processes():
    """Joins the process group that torchrun announces in the environment.

    gloo on CPU; nccl where there are GPUs, one GPU for each process of a machine.
    """
    alone = os.environ.get("WORLD_SIZE", "1") == "1"  # also where a scheduler sets it for one
    if alone or "RANK" not in os.environ or dist.is_initialized():
        return
    gpus = torch.cuda.device_count()
    local = int(os.environ.get("LOCAL_RANK", 0))
    if gpus:
        if local >= gpus:
            raise InputError(
                f"torchrun: found process {local + 1} on a machine of {gpus} GPUs, "
                "expected at most one process for each GPU"
            )
        torch.cuda.set_device(local)
    try:
        with _one_line():
            dist.init_process_group("cpu:gloo,cuda:nccl" if gpus else "gloo")
    except ValueError as error:
        raise InputError(
            f"RANK and WORLD_SIZE: found both set, but {error}; expected them from torchrun "
            "(torchrun --nproc-per-node N run.py ...), or unset for one process"
        ) from None


def leave_processes():
    if dist.is_initialized():
        dist.destroy_process_group()


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
    """Where one process fails with an InputError inside the block, all do, with the first one's
    line.
    """
    line = None
    try:
        yield
    except InputError as error:
        line = str(error)
    line = next(filter(None, everywhere(line)), None)
    if line:
        raise error_on_all(line)


def error_on_all(line):
    """The InputError to raise where all processes raise it: process 0 reports it."""
    return (InputError if world()[0] == 0 else Reported)(line)


@contextlib.contextmanager
def _one_line():
    """A process that has gone is one line, not PyTorch's traceback."""
    try:
        yield
    except RuntimeError as error:
        rank, ranks = os.environ["RANK"], os.environ["WORLD_SIZE"]
        found = str(error).split("\n")[0][:200]
        raise InputError(
            f"process {rank} of {ranks}: found the others out of reach ({found}), "
            "expected all of them to go on until the end"
        ) from None
