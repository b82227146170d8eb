"""One call of reproduce.py: its options, checked before anything is trained, and its folders."""

import dataclasses
import hashlib
import json
import math
from pathlib import Path

import torch

import opts
from engine import run_folder
from formats import annotations
from formats.files import InputError
from jobs.setup import device_kind, find_files, load_annotations

# Options that the pages choose.
CHOSEN = ("seed", "method", "objective", "joint")


@dataclasses.dataclass
class Setup:
    """given: fields of Opts that the user's flags set; o: the options that they give."""

    given: dict
    o: opts.Opts
    args: object  # the arguments of reproduce.py itself, see there
    tag: str  # names data and options in the pages' folders
    environment: dict  # run_folder.environment, as the runs will have it
    variants: dict = dataclasses.field(default_factory=dict)  # {variant: options beside `given`}
    failed: dict = dataclasses.field(default_factory=dict)  # {(variant, seed): its last line}

    @property
    def seeds(self):
        return range(1, self.args.seeds + 1)

    @property
    def pool(self):
        """Where the runs are."""
        return Path(self.args.out) / f"reproduce-runs-{self.o.dataset}"

    def folder(self, name):
        """Where the page of a command is written."""
        return Path(self.args.out) / f"reproduce-{name}-{self.tag}"


def set_up(args, given, other_data):
    """The Setup of a call; other_data: {command: datasets that it is not for}.

    args: the arguments of reproduce.py; given: the options of run.py among them. Raises InputError.
    """
    for name, high in (("seeds", 2**32 - 1), ("jobs", 1024), ("n", math.inf)):
        value = getattr(args, name)
        if value is not None and not 1 <= value <= high:
            raise InputError(f"--{name}", value, "a number from 1 on")
    o = opts.resolve(given)
    if o.dataset in other_data.get(args.command, ()):
        theirs = "ActivityNet1.2" if args.command == "table2" else "THUMOS14"
        raise InputError(args.command, f"--dataset {o.dataset}", f"{theirs} or data of your own")
    find_files(o)
    _check_segments(o)
    # without the GPU's name: this process trains nothing and leaves the GPU to the runs
    environment = {**run_folder.environment(torch.device("cpu")), "device": device_kind(o)}
    return Setup(given, o, args, _tag(o), environment)


def _check_segments(o):
    """InputError, before anything is trained, where no test video has a segment."""
    truth, _, subset = load_annotations(o)
    if not len(truth.only(annotations.in_subset(truth, subset).index).segments):
        raise InputError(
            f"{o.annotations}: found no segment in the test videos, expected some to score against"
        )


def _tag(o):
    """The dataset, and a hash of what differs from its preset in options or paths."""
    plain, differs = opts.resolve({"dataset": o.dataset}), {}
    for f in dataclasses.fields(o):
        value = getattr(o, f.name)
        if value == getattr(plain, f.name):
            continue
        if f.name in ("features", "flow_features", "annotations"):
            differs[f.name] = str(Path(value).resolve())
        elif f.metadata["group"] != "machine":
            differs[f.name] = value
    words = json.dumps(differs, sort_keys=True).encode()
    hashed = hashlib.blake2b(words, digest_size=3).hexdigest()
    return f"{o.dataset}-{hashed}" if differs else o.dataset
