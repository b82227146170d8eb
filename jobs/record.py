"""What shaped the numbers of a run: its record, which the process that trains makes once.

It stands in the checkpoint and, an entry for each process that the weights come from, in
environment.json. The heads of tables and pages, --resume, the KEY of reproduce.py and compare read
it.
"""

import dataclasses
import json
import reprlib
from pathlib import Path

import opts
from engine import run_folder
from formats import features
from formats.files import InputError, check_kinds, count, load_json
from formats.program import log
from jobs.setup import resume_command, wanted

RECORD = {
    "code": str,
    "commit": str | None,
    "dirty": bool | None,
    "python": str,
    "machine": str,
    "versions": {str: str},
    "device": str,
    "processor": str,
    "capability": str,
    "threads": int,
    "processes": int,
    "data": str,
    "labels_per_video": float | None,
    "methods": [str],
    "options": dict,
    "phases": [(str, int, float, str)],
}
ABOUT = {
    "record": dict,
    "train_videos": int,
    "classes": [str],
    "snippet_seconds": float | None,
    "clip_seconds": float | None,
    "dims": (int | None, int | None),
    "extractor": dict | None,
}
# Facts that move a number by rounding alone: they are shown and keep no runs apart.
LISTED = {*"commit processor threads machine python numpy pandas h5py deterministic".split()}


# ---- made
def of(o, data, environment, labels=None):
    """The record of a run with the options `o`, as JSON gives it back.

    data: fingerprint of its features and annotations. environment: run_folder.environment of the
    process that trains. labels: of a training video, on average; None where no data are loaded.
    """
    own = {"data": data, "labels_per_video": labels, "methods": wanted(o)}
    own |= {"options": dataclasses.asdict(o), "phases": o.phases}
    return json.loads(json.dumps({**environment, **own}))


def about(o, data, device):
    """What the checkpoint says of a run: its record, and what its networks are for."""
    fingerprint = features.fingerprint(o.features, o.flow_features, o.annotations)
    made = of(o, fingerprint, run_folder.environment(device), data.labels_per_video)
    return {
        "record": made,
        "train_videos": len(data.train),
        "classes": list(data.classes),
        "snippet_seconds": data.snippet_seconds,
        "clip_seconds": data.clip_seconds,
        "dims": list(data.dims),
        "extractor": features.extract_settings(o.features),
    }


# ---- read
def made_with(folder):
    """The records of a run, one for each process that its weights come from. InputError where one
    is not as `of` makes it.
    """
    path = Path(folder) / run_folder.RECORDS
    records = load_json(path)
    for made in records if isinstance(records, list) and records else [None]:
        check_kinds(made, RECORD, path)
        opts.of_json(made["options"], f"{path}: options")
    return records


def read_about(folder):
    """(checkpoint of a run, what it says of the run, its Opts). InputError where it is not as
    `about` makes it.
    """
    state = run_folder.load_checkpoint(folder)
    return state, state["about"], _check_about(state["about"], folder)


def _check_about(about, folder):
    path = Path(folder) / run_folder.CHECKPOINT
    check_kinds(about, ABOUT, path)
    check_kinds(about["record"], RECORD, path)
    return opts.of_json(about["record"]["options"], path)


# ---- compared
def facts(*records):
    """{name: text} of all that records hold; "a and b" where two records differ. Options that
    change no result, such as the device that is asked for, are left out.
    """
    texts = {}
    for record in records:
        for name, text in _facts(record).items():
            texts.setdefault(name, {})[text] = None
    return {name: " and ".join(of) for name, of in texts.items()}


def _facts(record):
    o = opts.of_json(record["options"], "options")
    groups = [group for group in opts.GROUPS if group not in ("files", "machine")]
    names = [*opts.names(*groups), "deterministic"]  # of the machine, and may round differently
    found = {name: opts.show(getattr(o, name)) for name in names}
    for number, row in enumerate(record["phases"], 1):
        found[f"phase {number}"] = " ".join(map(str, row))
    apart = {"options", "phases", "methods", "versions", "dirty", "labels_per_video"}
    found |= {name: str(value) for name, value in record.items() if name not in apart}
    found |= record["versions"]
    return found | {"methods": ", ".join(record["methods"]), "commit": commit_of(record)}


def differences(then, now):
    """{name: (text, text)} of the facts in which two runs differ; of the phases, the first one."""
    names = [name for name in {**then, **now} if then.get(name) != now.get(name)]
    later = [name for name in names if name.startswith("phase ")][1:]
    return {
        name: (then.get(name, "none"), now.get(name, "none")) for name in names if name not in later
    }


def deciding(record):
    """The facts, the seed apart, that decide the scores of clips by more than rounding."""
    # a run keeps its Ambiguous segments, whose file --ambiguous names
    of_test = {*opts.names("classes", "test", "show")} - {"ambiguous"}
    apart = LISTED | {"seed"} | of_test
    return {name: text for name, text in facts(record).items() if name not in apart}


def resumed(then, now, folder, other_code):
    """The records of a run that this process goes on with. InputError where it would become another
    run; a warning where it can only round differently.

    then, now: what `about` says, of the checkpoint and of this process.
    """
    _check_about(then, folder)
    differ = differences(facts(then["record"]), facts(now["record"]))
    for name in ("snippet_seconds", "clip_seconds", "dims", "classes", "train_videos"):
        if then[name] != now[name]:
            differ[name] = reprlib.repr(then[name]), reprlib.repr(now[name])
    free = {"commit", *opts.names("classes", "test", "show")} | ({"code"} if other_code else set())
    rounding = LISTED | {"torch", "device", "capability"}
    moved = []
    for name, (before, here) in differ.items():
        if name in free:
            continue
        if name in rounding:
            moved.append(f"{name} {before} then, {here} now")
            continue
        advice = {
            "code": " (--other-code goes on, and environment.json then records both)",
            "data": " (features or annotations have changed since)",
            "processes": f" ({resume_command(folder, then['record']['processes'])})",
        }.get(name, "")
        raise InputError(f"{folder}: {name}", here, f"{before} as the run began{advice}")
    if moved:
        log.warning(
            f"{folder} began with something else ({'; '.join(moved)}): what is trained from here "
            "on can round differently"
        )
    return made_with(folder)


# ---- for a reader
def commit_of(record):
    """The commit of a record or of run_folder.checkout, with a word about local changes."""
    commit = (record["commit"] or "unknown")[:10]
    return commit + (" with local changes" if record["dirty"] else "")


def trained_on(record):
    """Processor, threads, processes and PyTorch of a run."""
    processor = record["processor"]
    if record["device"] == "cpu":
        processor += f" ({record['capability']})"
    parts = count(record["threads"], "thread"), count(record["processes"], "process", "processes")
    return f"{processor}, {', '.join(parts)}, PyTorch {record['versions'].get('torch', 'unknown')}"
