"""Tables 1 to 3 of the paper, and the training times of Sec. 4.2."""

from pathlib import Path

import numpy as np
import pandas as pd

import eval_detection
import opts
from formats.files import InputError
from jobs import record, results, setup
from methods import METHODS
from paper.runs import ELSEWHERE, Page, counted, finished, scores
from report import figures, published, tables

TABLE2_TIOUS = tuple(round(0.5 + 0.05 * k, 2) for k in range(10))
CLASSIFIERS = [name for name, method in METHODS.items() if method.classifies]


# ---- tables 1, 2
def needs_table(s, tious):
    """{variant: options} of Table 1 or 2."""
    more = {"em-mil": {}, **{method: {"method": (method,)} for method in CLASSIFIERS}}
    # What the user said about the other feature file does not hold for this one.
    more["em-mil-unt"] = {
        "features": _unt_features(s),
        "flow_features": None,
        "snippet_seconds": None,
        "clip_seconds": None,
        "dataset": "thumos14-unt" if s.o.dataset == "thumos14" else s.given.get("dataset"),
    }
    return {variant: more[variant] for variant, _ in rows_of(s, tious).values()}


def rows_of(s, tious):
    """{label: (variant, method)} of Table 1 or 2."""
    ours = "EM-MIL-UNT" if s.o.dataset == "thumos14-unt" else "EM-MIL"
    rows = {ours: ("em-mil", "em-mil")}
    if tuple(tious) != TABLE2_TIOUS and _unt_features(s):
        rows["EM-MIL-UNT"] = ("em-mil-unt", "em-mil")
    trained = setup.wanted(s.o)
    for method in CLASSIFIERS:
        rows[METHODS[method].title] = ("em-mil" if method in trained else method, method)
    return rows


def _unt_features(s):
    preset = opts.PRESETS["thumos14-unt"]["features"]
    there = s.o.dataset == "thumos14" and Path(preset).exists()
    return s.args.unt_features or (preset if there else None)


def page_table(s, name, tious, dataset):
    """Table 1 or 2: our rows under each protocol, and the paper's. dataset: what theirs is on."""
    values, papers = _our_rows(s, tious), {}
    theirs = s.o.dataset.removesuffix("-unt") == dataset
    if theirs:
        papers = published.published_rows(s.o.dataset, ["EM-MIL"])
        if _unt_features(s):
            papers |= published.published_rows("thumos14-unt", ["EM-MIL"])
    ours, paper = next(iter(values)), next(iter(papers), None)
    # With another classifier's classes it is another experiment.
    same = paper and ours.startswith("EM-MIL") and not results.row_label(s.o)
    compare = (ours, paper) if same else None
    source = s.o.video_scores or s.o.video_classifier
    blocks, frames = [], []
    for protocol in s.protocols:
        rows = {label: {c: of[protocol][c] for c in shown(tious)} for label, of in values.items()}
        text = (
            f"Ours, protocol {protocol}; a test video's classes from {source} (EM-MIL) or "
            "from the method itself; oracle: from its annotations"
        )
        blocks.append((text, tables.map_table(rows, papers, compare)))
        frame = tables.map_frame({label: of[protocol] for label, of in values.items()})
        frames.append(frame.assign(protocol=protocol))
    note = published.NOTE + ("" if theirs else ELSEWHERE)
    blocks.append((note, published.published_table(dataset)))
    _draw_rows(s.folder(name) / f"{name}.png", s, tious, values, papers)
    return Page(blocks, pd.concat(frames), [f"{name}.png"], papers=True)


def _our_rows(s, tious):
    """{label: {protocol: {column: fractions of the seeds}}}, and the same with the true classes."""
    values = {}
    oracle = not s.o.video_scores and s.o.video_classifier != "oracle"
    for changes in ({}, {"video_classifier": "oracle"})[: 1 + oracle]:
        for label, (variant, method) in rows_of(s, tious).items():
            if finished(s, variant):
                mark = " (oracle classes)" if changes else results.row_label(s.o)
                values[counted(s, label, variant) + mark] = scores(
                    s, variant, method, tious, s.protocols, **changes
                )
    if not values:
        raise InputError(s.pool, "no finished run", "at least one")
    return values


def _draw_rows(path, s, tious, values, papers):
    """mAP over tIoU, first protocol; the rows with true classes only where all rows have them."""
    protocol, curves = s.protocols[0], {}
    for label, of in values.items():
        if not label.endswith("(oracle classes)") or s.o.video_classifier == "oracle":
            curves[label] = _curve(of[protocol], tious)
    for label, row in papers.items():
        if all(tiou in row for tiou in tious):
            curves[label] = np.array([row[tiou] for tiou in tious]) / 100
    _draw_curves(path, tious, curves, protocol)


def _draw_curves(path, tious, curves, protocol):
    figures.curve_figure(
        path, x=tious, curves=curves, xlabel="tIoU threshold", ylabel=f"mAP (%), {protocol}"
    )


def _curve(columns, tious):
    """(runs, len(tious)) fractions."""
    return np.array([columns[tiou] for tiou in tious]).T


def shown(tious):
    """The columns of a table: of ActivityNet's ten a few, of others all, and their averages."""
    if tuple(tious) == TABLE2_TIOUS:
        return [0.5, 0.7, 0.9, "all"]
    return [*tious, *eval_detection.distinct_averages(tious, tious)]


# ---- table 3
JOINT = {
    "step": "labels every step",
    "epoch": "labels every epoch",
    "half": "labels every epoch, half as many",
}


def ablations(refresh):
    """{label: (variant, options)} of Table 3. refresh: values of --joint."""
    rows = {"Full": ("em-mil", {})}
    for joint in dict.fromkeys(refresh):
        rows[f"Pseudo labeling ({JOINT[joint]})"] = (f"joint-{joint}", {"joint": joint})
    rows["Alternating"] = ("attention", {"objective": "attention"})
    return rows


def page_table3(s):
    """Our ablation, and the paper's."""
    protocol, tious, values = s.protocols[0], s.o.tious, {}
    for label, (variant, _) in ablations(s.args.refresh).items():
        if finished(s, variant):
            of = scores(s, variant, "em-mil", tious, [protocol])
            values[counted(s, label, variant)] = of[protocol]
    if not values:
        raise InputError(s.pool, "no finished run", "at least one")
    text = (
        "Full: pseudo-labels, E and M steps in turn. Pseudo labeling: the same pseudo-labels, "
        "both branches trained in every update, as many updates in all, so each branch has "
        "about twice as many as in Full; half as many: about as many as in Full. Alternating: E "
        "and M steps in turn, trained by UntrimmedNet's attention-MIL loss instead of "
        "pseudo-labels. Same schedule, video classifier, lambda and gamma."
    )
    rows = {label: {c: of[c] for c in shown(tious)} for label, of in values.items()}
    papers = {f"{row.method} (paper)": {0.5: row.map} for row in published.TABLE3}
    blocks = [(text, None)]
    if s.o.dataset == "thumos14":
        blocks.append((f"Protocol {protocol}. {published.NOTE}", tables.map_table(rows, papers)))
    else:
        blocks += [
            (f"Protocol {protocol}", tables.map_table(rows)),
            ("The paper's Table 3, on THUMOS14." + ELSEWHERE, tables.map_table({}, papers)),
        ]
    curves = {label: _curve(of, tious) for label, of in values.items()}
    _draw_curves(s.folder("table3") / "table3.png", tious, curves, protocol)
    frame = tables.map_frame(values).assign(protocol=protocol)
    return Page(blocks, frame, ["table3.png"], papers=True)


# ---- timing
def training_times(s, variant, method):
    """{seed: seconds of training} of the variant's finished runs."""
    name = f"training {METHODS[method].title}"
    return {
        seed: results.stored(one.folder)["seconds"][name]
        for seed, one in finished(s, variant).items()
    }


def page_timing(s):
    """The seconds that Table 1's runs took, beside the paper's."""
    body, rows, places = [["method", "training (s)", "the paper's, on THUMOS14 (s)"]], [], set()
    theirs = dict(published.SECONDS)
    for label, (variant, method) in rows_of(s, s.o.tious).items():
        spent = training_times(s, variant, method)
        rows += [{"method": label, "seed": seed, "training": t} for seed, t in spent.items()]
        for one in finished(s, variant).values():
            places.add(record.trained_on(record.made_with(one.folder)[-1]))
        paper = tables.mean_std(theirs.pop(label, None), 1)
        body.append([label, tables.mean_std(list(spent.values()), 1), paper])
    if not rows:
        raise InputError(s.pool, "no finished run", "at least one")
    body += [[label, "-", f"{value:.1f}"] for label, value in theirs.items()]
    text = (
        f"Wall time of training alone, from the logs of the runs; on "
        f"{'; '.join(sorted(places))}. Runs side by side (--jobs) slow each other down: for a "
        f"timing, train with --jobs 1 on an idle machine. {published.SECONDS_NOTE}"
    )
    if s.o.dataset.removesuffix("-unt") != "thumos14":
        text += " Ours are on other data: the two cannot be compared."
    return Page([(text, body)], pd.DataFrame(rows), papers=True)
