"""The loop that every network here trains with, and what of it survives the process.

`train` runs the epochs of one *stage* (a phase of EM-MIL, a video-level classifier): batches of whole videos in a
seeded order, one Adam step a batch, a finite check, one JSON line an epoch. `Session` is the run's memory: the folder,
its log and its checkpoint, the parts (networks, optimisers) that the checkpoint holds, and the position reached.
Everything random is drawn from (seed, stage, epoch), so a resumed run draws what an uninterrupted one would have.

Under torchrun every rank owns the videos rank, rank + world, rank + 2 world, ... of the set, steps together with the
others and averages gradients; features never travel.
"""
import contextlib
import ctypes
import fcntl
import functools
import io
import json
import os
import queue
import threading
import time
import zlib
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

from formats.files import InputError, load_pt, write_atomically

CHECKPOINT = "checkpoint.pt"
FORMAT = "em-mil run 1"
LOG = "log.jsonl"


class Interrupted(BaseException):
    """The process was told to stop by `signum`; `folder` is that of the run to go on with, if one has begun.

    Like KeyboardInterrupt no `Exception`, which code that deals with its own errors would take for one of them.
    """

    def __init__(self, signum, folder=None):
        super().__init__(signum)
        self.signum, self.folder = signum, folder


def world():
    """(rank, number of processes): (0, 1) outside torchrun."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


# ------------------------------------------------------------------------------------------------ features to device
def feeder(videos, device="cpu", read_ahead=8):
    """Function that yields the features of `videos` in any order asked: feed(batches) -> lists of (index, rgb, flow).

    videos: objects with `.rgb` (T, D) and `.flow` (T, D'). NumPy arrays are moved to `device` once and stay there;
    anything else (features kept on disk) is read by a thread, at most `read_ahead` batches before its turn.
    """
    if all(isinstance(v.rgb, np.ndarray) for v in videos):
        held = [(torch.from_numpy(v.rgb).to(device), torch.from_numpy(v.flow).to(device)) for v in videos]
        return lambda batches: ([(i, *held[i]) for i in batch] for batch in batches)

    def stream(array):
        tensor = torch.from_numpy(np.asarray(array))
        # Only from pinned memory does the copy to a GPU go on beside the training.
        return tensor.pin_memory() if torch.device(device).type == "cuda" else tensor

    def read(batch):
        return [(i, stream(videos[i].rgb), stream(videos[i].flow)) for i in batch]

    def feed(batches):
        ready, gone = queue.Queue(maxsize=read_ahead), threading.Event()

        def put(item):
            while not gone.is_set():
                try:
                    return ready.put(item, timeout=0.1)
                except queue.Full:
                    continue

        def work():
            try:
                for batch in batches:
                    if gone.is_set():
                        return
                    put(read(batch))
                put(None)
            except Exception as error:                 # whatever it is, the consumer raises it where it can be reported
                put(error)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        try:
            while (item := ready.get()) is not None:
                if isinstance(item, Exception):
                    raise item
                yield [(i, rgb.to(device, non_blocking=True), flow.to(device, non_blocking=True))
                       for i, rgb, flow in item]
        finally:
            gone.set()
            thread.join()

    return feed


def shuffled(n, per_step, rng):
    """The batches of one epoch: (this rank's batches of local indices, videos per step over all ranks).

    n: videos in the whole set; per_step: videos per step and process; rng: NumPy generator, equal on every rank.
    The set is cut into per_step * world stripes (video i lies in stripe i modulo their number), each is permuted, and
    a step takes one video from every stripe that still has one. Process r owns the videos i with i % world == r, so
    several processes make the very steps that one process with per_step * world videos a step makes.
    """
    rank, ranks = world()
    stripes = [rng.permutation(np.arange(s, n, per_step * ranks)) for s in range(per_step * ranks)]
    steps = -(-n // (per_step * ranks))
    mine = [[int(s[k]) // ranks for s in stripes[rank::ranks] if k < len(s)] for k in range(steps)]
    return mine, [sum(k < len(s) for s in stripes) for k in range(steps)]


# ------------------------------------------------------------------------------------------------ what outlives a crash
class Session:
    """A run's folder: the checkpoint and log in it, the parts the checkpoint holds, and the position reached.

    folder: where to write; None keeps nothing (tests). every: epochs between checkpoints, besides one at the end of
    each stage. about: plain values saved along (options, class list). With `resume=True` the folder's checkpoint is
    loaded, and parts added later take their saved state; a run that was stopped before its first checkpoint has none
    and begins anew. Raises InputError where the folder is in use by another process, where the checkpoint is broken or
    not one of ours or the log does not go with it, and without `resume` where there is a checkpoint.
    """

    def __init__(self, folder=None, *, seed=0, every=0, about=None, resume=False):
        self.folder, self.seed, self.every, self.about = folder and Path(folder), seed, every, about or {}
        self.parts, self.memory = {}, {}
        self.stage, self.epoch, self.step, self.done = None, 0, 0, []
        self.partial = None                             # losses and generator states of an epoch cut short
        self.saved_parts = {}
        self.stop = None                                # number of the signal that asked to stop
        self.training = False
        self.log_bytes = 0
        self.lock = None
        if not self.folder:
            return
        try:
            if world()[0] == 0:
                self._lock()
            if resume:
                self._load()
            elif (self.folder / CHECKPOINT).exists():
                raise InputError(f"{self.folder}: found a checkpoint there, expected a new folder")
            if world()[0] == 0:
                self._tidy()
        except BaseException:
            self.close()
            raise

    def _lock(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        self.lock = open(self.folder / ".lock", "w")
        try:                                            # the kernel drops it with the process, however that ends
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{self.folder}: in use by another run, expected a folder of its own for each") from None
        except OSError:                                 # a file system without locks
            pass

    def close(self):
        """Lets go of the folder. The end of the process does it too."""
        if self.lock:
            self.lock.close()

    def _tidy(self):
        """Removes what a killed process left: temporary files, and lines of the log that will be written again."""
        for left in [path for place in ("", "figures/") for path in self.folder.glob(f"{place}.*.????????.*")]:
            left.unlink()
        with _writing(self.folder / LOG), open(self.folder / LOG, "ab") as log:
            if log.tell() < self.log_bytes:
                raise InputError(f"{self.folder / LOG}: found {log.tell()} bytes, expected the {self.log_bytes} that "
                                 f"{CHECKPOINT} goes with")
            log.truncate(self.log_bytes)

    def _load(self):
        if not (self.folder / CHECKPOINT).exists():
            return
        state = load_checkpoint(self.folder)
        self.about, self.memory, self.saved_parts = state["about"], state["memory"], state["parts"]
        self.stage, self.epoch, self.step = state["position"]
        self.done, self.partial, self.log_bytes = state["done"], state["partial"], state["log_bytes"]

    def add(self, name, part):
        """Registers a network or optimiser (anything with a state_dict) and gives it its saved state, if any."""
        self.parts[name] = part
        if name in self.saved_parts:
            load_state(part, self.saved_parts[name], f"{self.folder / CHECKPOINT}: {name}")
        return part

    def save(self):
        """Writes the checkpoint; the one before stays until this one is whole."""
        if not self.folder or world()[0] != 0:
            return
        state = {"format": FORMAT, "about": self.about, "memory": self.memory,
                 "parts": {**self.saved_parts, **{n: p.state_dict() for n, p in self.parts.items()}},
                 "position": [self.stage, self.epoch, self.step], "done": self.done, "partial": self.partial,
                 "log_bytes": self.log_bytes}
        whole = io.BytesIO()                            # torch.save makes a page of RuntimeError of a full disk
        torch.save(state, whole)
        with _writing(self.folder / CHECKPOINT), write_atomically(self.folder / CHECKPOINT) as temporary:
            temporary.write_bytes(whole.getbuffer())
            with open(self.folder / LOG, "ab") as log:  # on the disk before the checkpoint that counts its bytes
                os.fsync(log.fileno())

    def write(self, record):
        """Appends one JSON line to the log."""
        if self.folder and world()[0] == 0:
            with _writing(self.folder / LOG), open(self.folder / LOG, "ab") as log:
                log.write(json.dumps(record).encode() + b"\n")
                log.flush()
                self.log_bytes = log.tell()

    def generator(self, stage, epoch):
        """NumPy generator for (seed, stage, epoch); PyTorch's own is seeded to match (dropout)."""
        words = [self.seed, zlib.crc32(stage.encode()), epoch]
        torch.manual_seed(int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> 1))
        return np.random.default_rng(words)

    def interrupt(self, signum):
        """What a signal handler calls: training stops after the step in hand, anything else at once."""
        self.stop = signum
        if not self.training:
            raise Interrupted(signum, self.folder)


def load_checkpoint(folder):
    """The checkpoint in a run's folder, as Session.save wrote it. InputError where it is missing, broken or foreign."""
    path = Path(folder) / CHECKPOINT
    state = load_pt(path)
    keys = {"about", "memory", "parts", "position", "done", "partial", "log_bytes"}
    if not isinstance(state, dict) or state.get("format") != FORMAT or not keys <= state.keys():
        raise InputError(f"{path}: found something else, expected a checkpoint of this program")
    return state


def load_state(part, state, where):
    """Gives a network or optimiser its saved state. InputError, which begins with `where`, if it does not fit."""
    try:
        part.load_state_dict(state)
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        why = str(error).strip().split("\n")[-1].strip()
        raise InputError(f"{where}: found the state of another network ({why}), expected this one's") from None


@contextlib.contextmanager
def _writing(path):
    """Disk full, no permission: one line that names the file."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{path}: found {error.strerror or error}, expected to write there; the last checkpoint "
                         "is whole") from None


# ------------------------------------------------------------------------------------------------ the loop
def adam(parameters, lr, weight_decay=0.0):
    """Adam with PyTorch's fused step, for one network; it moves these parameters and no others."""
    return torch.optim.Adam(parameters, lr=lr, weight_decay=weight_decay, fused=True)


@functools.cache
def keep_memory():
    """Tells glibc's malloc to keep freed memory for the next step; does nothing elsewhere.

    By default it gives the few MB of a step's gradients and activations back to the system and asks for them again in
    the next step, whose page faults cost a quarter of the training time on CPU.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(-3, 1 << 30)                                # M_MMAP_THRESHOLD: no mapping of its own for a large tensor
    mallopt(-1, (1 << 31) - 1)                          # M_TRIM_THRESHOLD: the heap's end is not given back


def train(stage, epochs, *, session, optimisers, feed, names, batches, loss, facts=None, bar=None):
    """Trains one stage and marks it done; a stage done before (resumed run) returns at once.

    stage: its name in log and checkpoint. epochs: number. optimisers: over the parameters this stage moves.
    feed: see `feeder`. names: video names, for messages. batches(rng) -> (list of lists of video indices, videos per
    step over all ranks). loss(batch, rng) -> dict of scalar tensors, each the mean over the batch's videos and
    depending on the parameters; their sum is minimised. facts: dict added to each line of the log. bar: a tqdm bar
    counting epochs.
    Raises InputError naming the batch's videos where a loss is not finite; Interrupted after a signal.
    """
    if stage in session.done:
        return
    if session.stage != stage:
        session.stage, session.epoch, session.step, session.partial = stage, 0, 0, None
    parameters = [p for optimiser in optimisers for group in optimiser.param_groups for p in group["params"]]
    ranks = world()[1]
    keep_memory()
    session.training, stopped = True, None
    try:
        while session.epoch < epochs:
            began = time.perf_counter()
            rng = session.generator(stage, session.epoch)
            order, counts = batches(rng)
            first, history, keys = session.step, [], None
            if session.partial:
                history = list(session.partial["losses"].to(parameters[0].device))
                rng.bit_generator.state = json.loads(session.partial["numpy"])
                _set_rng_states(session.partial["torch"])
            for batch, count in zip(feed(order[first:]), counts[first:]):
                for p in parameters:
                    p.grad = None
                if batch:
                    losses = loss(batch, rng)
                    if ranks > 1:                       # this process's part of the mean over the step's videos
                        losses = {key: value * (len(batch) / count) for key, value in losses.items()}
                    keys, losses = list(losses), list(losses.values())
                    torch.autograd.backward(losses)     # of their sum
                    history.append(torch.stack([value.detach() for value in losses]))
                if ranks > 1:
                    _sum_gradients(parameters)
                for optimiser in optimisers:
                    optimiser.step()
                session.step += 1
                if session.stop and ranks == 1:
                    break
            history = torch.stack(history).cpu() if history else torch.zeros(0, 0)   # the epoch's one wait for the device
            if ranks > 1:
                history, keys = _sum_losses(history, keys)
            _check_finite(history, order, names, stage, session.epoch)
            if session.step < len(order):
                session.partial = {"losses": history, "numpy": json.dumps(rng.bit_generator.state),
                                   "torch": _rng_states()}
                stopped = session.stop
                break
            session.partial = None
            session.write({"stage": stage, "epoch": session.epoch + 1, **(facts or {}),
                           "lr": optimisers[0].param_groups[0]["lr"],
                           "loss": dict(zip(keys or [], history.double().mean(0).tolist())),
                           "videos": int(sum(counts)), "seconds": round(time.perf_counter() - began, 4)})
            session.epoch, session.step = session.epoch + 1, 0
            if bar is not None:
                bar.update()
            if stopped := _told_to_stop(session):
                break
            if session.every and session.epoch % session.every == 0 and session.epoch < epochs:
                session.save()
        if stopped:
            session.save()
            raise Interrupted(stopped, session.folder)
        session.done = [*session.done, stage]
        session.save()
    finally:
        session.training = False
    if stopped := _told_to_stop(session):               # while the stage's last checkpoint was being written
        raise Interrupted(stopped, session.folder)


def _told_to_stop(session):
    """The signal that a process was told to stop by, the same on all of them: all stop, or none."""
    return next(filter(None, everywhere(session.stop)), None)


def _rng_states():
    """PyTorch's generators, which dropout draws from: the CPU's, and the GPU's where there is one in use."""
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state()] if torch.cuda.is_initialized() else [])]


def _set_rng_states(states):
    torch.set_rng_state(states[0])
    if len(states) > 1 and torch.cuda.is_available():
        torch.cuda.set_rng_state(states[1])


def _check_finite(history, order, names, stage, epoch):
    bad = (~torch.isfinite(history).all(dim=1)).nonzero() if len(history) else []
    if len(bad):
        step = int(bad[0])
        videos = ", ".join(name for part in everywhere([names[i] for i in order[step]]) for name in part)
        raise _for_all(f"training stage {stage}, epoch {epoch + 1}: loss is {history[step].sum().item()} on {videos}, "
                       "expected a finite number (look at the features' values and the learning rate)")


def _sum_gradients(parameters):
    """Adds up the processes' gradients, which `train` has weighted by each one's share of the step's videos."""
    flat = torch.cat([(p.grad if p.grad is not None else torch.zeros_like(p)).reshape(-1) for p in parameters])
    with _in_touch():
        dist.all_reduce(flat)
    for p, g in zip(parameters, flat.split([p.numel() for p in parameters])):
        p.grad = g.view_as(p)


def _sum_losses(history, keys):
    """The processes' parts of an epoch's losses added up, (steps, losses), and the losses' names.

    A process may have no video in the last step, or none at all.
    """
    parts = everywhere((history, keys))
    keys = next(names for _, names in parts if names)
    whole = torch.zeros(max(len(part) for part, _ in parts), len(keys))
    for part, names in parts:
        if names:
            whole[:len(part)] += part
    return whole, keys


# ------------------------------------------------------------------------------------------------ several processes
class Reported(InputError):
    """An error that process 0 reports, raised in the others."""


def join_processes():
    """Joins the process group that torchrun announces in the environment; does nothing outside torchrun.

    gloo on CPU; nccl where there are GPUs, one for each process of a machine.
    """
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ or dist.is_initialized():
        return
    gpus, local = torch.cuda.device_count(), int(os.environ.get("LOCAL_RANK", 0))
    if gpus:
        if local >= gpus:
            raise InputError(f"torchrun: found a process {local + 1} on a machine of {gpus} GPUs, expected at most one "
                             "process for each")
        torch.cuda.set_device(local)
    with _in_touch():
        dist.init_process_group("cpu:gloo,cuda:nccl" if gpus else "gloo")


def leave_processes():
    if dist.is_initialized():
        dist.destroy_process_group()


def wait_for_all():
    everywhere(None)


def everywhere(value):
    """The values of all processes, in the order of their ranks, on every one of them."""
    ranks = world()[1]
    if ranks == 1:
        return [value]
    values = [None] * ranks
    with _in_touch():
        dist.all_gather_object(values, value)
    return values


def gathered(mine):
    """The list of which every process holds the items rank, rank + world, ...: whole, in order, on every process."""
    parts = everywhere(mine)
    return [parts[i % len(parts)][i // len(parts)] for i in range(sum(map(len, parts)))]


@contextlib.contextmanager
def all_or_none():
    """For what each process does alone: where one fails with an InputError, all do, with the first one's line."""
    line = None
    try:
        yield
    except InputError as error:
        line = str(error)
    line = next(filter(None, everywhere(line)), None)
    if line:
        raise _for_all(line)


def _for_all(line):
    """The InputError to raise where all processes do."""
    return (InputError if world()[0] == 0 else Reported)(line)


@contextlib.contextmanager
def _in_touch():
    """Turns the engine's report of a process that has gone into one line."""
    try:
        yield
    except RuntimeError as error:
        rank, ranks = os.environ["RANK"], os.environ["WORLD_SIZE"]
        raise InputError(f"process {rank} of {ranks}: found the others out of reach ({str(error).split(chr(10))[0][:200]}), "
                         "expected all of them to go on until the end") from None
