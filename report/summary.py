"""The lines and the page of a run: options, training, the result tables with what shaped them."""

import math
import textwrap

import numpy as np

import eval_detection
from formats.files import count
from report import tables

# Said as a warning: classes a video that pass the gate are more or fewer than the labels of a
# training video by this factor; more than this share of the videos has no class above it.
GATE_FACTOR, GATE_NONE = 1.5, 0.1


def option_lines(values, phases, recipe):
    """The printed options and schedule. phases: rows (step, epochs, lr, targets)."""
    steps = " ".join(f"{step}{epochs}" for step, epochs, _, _ in phases[:8]) + (
        " ..." if len(phases) > 8 else ""
    )
    rates = " then ".join(f"{lr:g}" for lr in dict.fromkeys(row[2] for row in phases))
    total = sum(row[1] for row in phases)
    return (
        f"Recipe\n{_wrapped(recipe)}\nOptions\n{_wrapped(values)}\n"
        f"Schedule\n  {steps} ({total} epochs), learning rate {rates}"
    )


def _wrapped(text):
    return textwrap.fill(
        text,
        width=100,
        initial_indent="  ",
        subsequent_indent="  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def training_seconds(log, methods):
    """{"training TITLE": seconds} of each method, from the log: of all processes that worked on a
    run.
    """
    seconds = {}
    for record in log:
        name = record["stage"].split()[0]
        title = methods[name].title if name in methods else name
        first = record["epoch"] == 1
        spent = record["seconds"] + (record.get("label_seconds", 0.0) if first else 0.0)
        seconds[f"training {title}"] = seconds.get(f"training {title}", 0.0) + spent
    return seconds


def training_lines(log, seconds):
    """The last loss of each stage, and the wall times."""
    last = {record["stage"].split()[0] + record.get("step", ""): record for record in log}
    lines = ["Training"]
    for record in last.values():
        losses = ", ".join(f"{name} {value:.4f}" for name, value in record["loss"].items())
        lines.append(f"  {record['stage']}: loss {losses} in the last epoch")
    spent = [
        f"{name.removeprefix('training ')} {value:.1f} s"
        for name, value in seconds.items()
        if "training" in name
    ]
    return "\n".join([*lines, f"  wall time: {', '.join(spent)}\n"])


def page(results, theirs, note):
    """The result page, printed and written alike: (main, detail), blocks of (text, table or None,
    None or the table's rows that the screen shows). The tables of mAP are the main ones.

    results: see jobs.results.finish. theirs: {name: {column: percent}}, published rows;
    note: the sentence beside them.
    """
    main = [(text, table, None) for _, text, table in map_tables(results, theirs)]
    if not main:
        text = "No test video has a segment: detections are written, nothing is scored."
        main.append((text, None, None))
    detail = []
    for method in results["methods"].values():
        detail.append((_proposals(method, results), None, None))
        detail += [_class_block(method, *item) for item in [*method["protocols"].items()][:1]]
    for classifier, m in results["classification"].items():
        if not math.isnan(m["map"]):  # NaN: no test video has a label
            text = f"mAP {100 * m['map']:.1f}%, top-1 {100 * m['top1']:.1f}%"
            detail.append((f"Video-level classification, {classifier}: {text}", None, None))
    if results["local_changes"]:
        detail.append((f"Code {results['code']}, with local changes.", None, None))
    if theirs:
        detail.append((note, None, None))
    return main, detail


def _class_block(method, protocol, e):
    """AP by class of a method under its first protocol."""
    tiou = eval_detection.main_tiou(e["tious"])
    ap = {name: values[e["tious"].index(tiou)] for name, values in e["ap"].items()}
    table = tables.class_table(ap, tiou, e["segments"])
    shown = eval_detection.classes_to_show(np.array([*ap.values()])[None])
    text = f"{method['label']}, by class, protocol {protocol}"
    return text, table, _shortened(table, shown)


def map_tables(results, theirs):
    """[(protocol, text, table)] of mAP, a row for each method and published row."""
    protocols = dict.fromkeys(
        name for method in results["methods"].values() for name in method["protocols"]
    )
    return [(p, caption(results, p), _map_table(results, p, theirs)) for p in protocols]


def _map_table(results, protocol, theirs):
    rows = {}
    for method in results["methods"].values():
        e = method["protocols"][protocol]
        rows[method["label"]] = {**dict(zip(e["tious"], e["map"])), **e["averages"]}
    ours = results["methods"].get("em-mil", {}).get("label")
    paper = next((name for name in theirs if name.startswith("EM-MIL")), None)
    compared = (ours, paper) if ours == "EM-MIL" and paper else None  # not with other classes
    return tables.map_table(rows, published=theirs, compare=compared)


def tested(test):
    """ "40 test videos, 128 segments, 6 classes" of the part `test` of results.json."""
    return (
        f"{count(test['videos'], 'test video')}, {count(test['segments'], 'segment')}, "
        f"{count(test['classes'], 'class', 'classes')}"
    )


def caption(results, protocol):
    """What stands over a table: the data and every setting that shaped it."""
    test, rule, methods = results["test"], results["rule"], set(results["methods"])
    gammas = ", ".join(f"{gamma:g}" for gamma in rule["gammas"])
    shaped = [f"lambda {rule['lam']:g}"] if "em-mil" in methods else []
    # W-TALC has a threshold and a score of its own
    shaped += [f"gamma {gammas}"] if methods - {"wtalc"} else []
    shaped += [f"gate {rule['gate']:g}"]
    shaped += [f"score {rule['score']}"] if methods - {"wtalc"} else []
    parts = [
        f"{results['dataset']}, seed {results['seed']}, recipe {results['recipe']}: {tested(test)}",
        f"protocol {protocol}"
        + (f", {count(test['ambiguous'], 'Ambiguous segment')}" if "thumos" in protocol else ""),
        ", ".join(shaped),
    ]
    if results["classes_from"]:
        parts.append(f"classes from {results['classes_from']}")
    return "; ".join(parts)


def _proposals(method, results):
    """Counts of one method's localization, with what is said of the gate."""
    c = method["localization"]
    line = (
        f"{method['label']}: {count(c['proposals'], 'proposal')}; {c['pairs_empty']} of "
        f"{count(c['pairs'], 'pair')} of video and class without one ({c['pairs_constant']} with a "
        f"constant score); {count(c['gate_fallback'], 'video')} with no class above the gate"
    )
    if results["classes_from"] == "oracle":  # the true labels pass, whatever the gate
        return line
    of_gate = gate_warning(c, results["rule"]["gate"], results["train"]["labels_per_video"])
    return f"{line}\n{of_gate}" if of_gate else line


def gate_warning(counts, gate, labels):
    """A line where the gate passes other numbers of classes than videos have labels, else None.

    counts: of localize.table; labels: of a training video, on average, None where nobody knows.
    """
    videos, alone = counts["videos"], counts["gate_fallback"]
    if not videos:
        return None
    passed = (counts["pairs"] - alone) / videos
    comparable = labels is None or (
        passed <= GATE_FACTOR * labels and labels <= GATE_FACTOR * passed
    )
    if comparable and alone <= GATE_NONE * videos:
        return None
    known = "" if labels is None else f", a training video has {labels:.2f} labels"
    return (
        f"warning: the gate {gate:g} passes {passed:.2f} classes a video{known}; in {alone} of "
        f"{count(videos, 'video')} none passes and the best one is localized (--gate)"
    )


def as_text(blocks, per_class=False):
    """The page for the terminal, the mAP tables last; by-class AP of the best and worst classes
    unless `per_class`.
    """
    main, detail = blocks
    return "\n\n".join(
        tables.block(text, table if per_class or short is None else short, tables.text)
        for text, table, short in [*detail, *main]
    )


def as_markdown(blocks):
    """The page for table.md, the mAP tables first, every class."""
    return "\n\n".join(
        tables.block(text, table, tables.markdown) for text, table, _ in sum(blocks, [])
    )


def notes(blocks):
    """The lines of the page that are no table, for the HTML page."""
    texts = [text for text, table, _ in sum(blocks, []) if table is None]
    return [line for text in texts for line in text.splitlines()]


def _shortened(table, shown):
    """The rows of the classes `shown`, the best and the worst, where there are more than these."""
    head, *body, mean = table
    if len(shown) == len(body):
        return table
    half = len(shown) // 2
    gap = [f"... {len(body) - len(shown)} more (--per-class) ..."] + [""] * (len(head) - 1)
    best, worst = ([body[k] for k in part] for part in (shown[:half], shown[half:]))
    return [head, *best, gap, *worst, mean]
