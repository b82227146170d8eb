"""What shaped the numbers of a run: its record, which the process that trains makes once.

It stands in the checkpoint and, an entry for each process that the weights come from, in
environment.json. The heads of tables and pages, --resume, the KEY of reproduce.py and compare read
it.
"""

import dataclasses
import json

import opts
from formats.files import InputError, count, show
from jobs.setup import resume_command, wanted

# Facts that move a number by rounding alone: they are shown and keep no runs apart.
LISTED = {*"commit processor threads machine python numpy pandas h5py deterministic".split()}


def of(o, data, environment, labels_per_video=None):
    """The record of a run with the options `o`, as JSON gives it back.

    data: fingerprint of its features and annotations. environment: run_folder.environment of the
    process that trains. labels_per_video: of its training videos, on average; None where no data
    are loaded.
    """
    own = {"data": data, "labels_per_video": labels_per_video, "methods": wanted(o)}
    own |= {"options": dataclasses.asdict(o), "phases": o.phases}
    return json.loads(json.dumps({**environment, **own}))


def facts(*records):
    """{name: text} of all that records hold; "a and b" where two records differ.

    Options that change no result (when="run", but for --deterministic) are left out. Raises
    OptionError for the options of an earlier version.
    """
    texts = {}
    for record in records:
        for name, text in _facts(record).items():
            texts.setdefault(name, {})[text] = None
    return {name: " and ".join(of) for name, of in texts.items()}


def _facts(record):
    o = opts.resolve({}, record["options"])
    left_out = opts.names("run") - {"deterministic"}
    found = {
        name: opts.show(v) for name, v in dataclasses.asdict(o).items() if name not in left_out
    }
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
    apart = LISTED | {"seed"} | opts.names("test") - {"exclude_video", "ambiguous"}
    return {name: text for name, text in facts(record).items() if name not in apart}


def same_run(then, now, folder, other_code, say):
    """Refuses to resume what would become another run, and warns of what only rounds differently.

    then, now: `about` of the checkpoint, {} where there is none yet, and of this process.
    """
    if not then:
        return
    differ = differences(facts(then["record"]), facts(now["record"]))
    options = (opts.names("train") | {"exclude_video"}) & set(differ)
    opts.refuse(options, f"in {folder}/opts.json: the run began with another value")
    parts = ("snippet_seconds", "clip_seconds", "dims", "classes", "train_videos")
    data = {name: (show(then[name]), show(now[name])) for name in parts if then[name] != now[name]}
    if "data" in differ:
        data["fingerprint"] = differ["data"]
    for name, (before, here) in data.items():
        raise InputError(
            f"{folder}: found features or annotations that have changed since the run began "
            f"({name}: {before} then, {here} now), expected the same ones"
        )
    for name, (before, here) in differ.items():
        _refuse(name, before, here, folder, other_code)
    rounding = (LISTED | {"torch", "device", "capability"}) - {"commit"}
    moved = [f"{name} {a} then, {b} now" for name, (a, b) in differ.items() if name in rounding]
    if moved:
        say(
            f"warning: {folder} began with something else ({'; '.join(moved)}): what is trained "
            "from here on can round differently"
        )


def _refuse(name, before, here, folder, other_code):
    """InputError where a resumed run cannot go on with another value of this fact."""
    if name == "processes":
        raise InputError(
            f"{folder}: found the number of processes {here}, expected {before} as the run began: "
            f"an update takes videos of each of them ({resume_command(folder, int(before))})"
        )
    if name.startswith("phase "):
        raise InputError(
            f"{folder}: found another schedule than the run began with ({name}: {before} then, "
            f"{here} now), expected the same one (opts.schedule)"
        )
    if name == "code" and not other_code:
        raise InputError(
            f"{folder}: found other code than the run began with ({before} then, {here} now), "
            "expected the same (--other-code goes on with it, and environment.json then records "
            "both)"
        )


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
    return f"{processor}, {', '.join(parts)}, PyTorch {record['versions']['torch']}"
