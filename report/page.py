"""The HTML page of a run: one file that opens by double click, without a network or a server.

`page_content` gathers a run's results, `write_page` writes them as a page: page.html with page.css
and page.js put in; page.js draws the figures as SVG from the data in the page. Names and texts from
outside are escaped, and the page's content security policy lets no other script run and no address
be loaded.

A number is rounded once, here, to the digits that the page shows: AP and shares of clips in percent
with one digit, as in the tables, times with a millisecond, scores of detections with three digits.
page.js rounds only what it computes. Scores of clips are kept with 16 bits (an error of at most
1/131070), so the third digit shown of one can be off by one.

T clips, C classes.
"""

import base64
import hashlib
import html
import json
import math
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from string import Template

import numpy as np
import pandas as pd

import eval_detection
from formats.files import write_atomically
from report.figures import phase_table, split_log

MAX_ROWS = 8  # classes of a video, first those with ground truth, then the best detections
MAX_POINTS = 400  # of a curve
ROUNDING = 1e-5  # a weighted mean of float32 scores may end just outside [0, 1]
LENGTHS = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, math.inf)  # seconds, edges of `by_length`
STYLES = ("hit", "double", "shifted", "wrong", "confused", "background", "ignored", "plain")
KINDS = {  # of eval_detection: name of the page's style, word, explanation
    kind: (style, *about) for style, (kind, about) in zip(STYLES, eval_detection.KINDS.items())
}
COVERS, INSIDE = "too long (covers the segment)", "too short (inside the segment)"
EARLY, LATE = "too early", "too late"
SIDES = (COVERS, INSIDE, EARLY, LATE)
SEGMENT = ["video", "t_start", "t_end", "label"]
DETECTION = [*SEGMENT, "score"]


# ---- content
@dataclass(frozen=True)
class About:
    """What stands above the figures.

    title: text. header: (name, value) texts, such as the options that differ from the recipe.
    tables: (caption, rows of text, the first row the head), as report/tables.py makes them.
    notes: lines of text.
    """

    title: str
    header: list
    tables: list
    notes: list


@dataclass(frozen=True)
class Scores:
    """What the networks give for one video.

    q (T,) and p (T, C): scores in [0, 1], both None where EM-MIL was not run. duration, and step
    and window of a clip (localize.times): seconds. passed: indices of the classes that passed the
    gate (`localize.gate`).
    """

    name: str
    duration: float
    q: np.ndarray | None
    p: np.ndarray | None
    passed: list
    snippet_seconds: float
    clip_seconds: float


@dataclass(frozen=True)
class Evaluation:
    """How the detections compare with the ground truth, at one tIoU.

    truth: table video, t_start, t_end, label.
    kinds (N,) and found (G,): `eval_detection.detection_kinds`.
    video_ap: {video: fraction}, `eval_detection.video_ap`.
    class_ap: {class: fraction}; segments: {class: number}.
    """

    truth: pd.DataFrame
    kinds: np.ndarray
    found: np.ndarray
    video_ap: dict
    class_ap: dict
    segments: dict
    tiou: float = 0.5


def page_content(classes, rule, videos, detections, evaluation=None, log=()):
    """What page.js reads of what a run found.

    classes: C names, in the order of p's columns. rule: {"lam", "gammas", "gate"}, Eq. 9 and
    Sec. 3.5 as the run applied them. videos: `Scores` of each video, in any iterable, read once.
    detections: table video, t_start, t_end, label, score. evaluation: `Evaluation`, or None
    without ground truth. log: records of RUN/log.jsonl.
    Raises ValueError where scores are outside [0, 1] or q and p do not fit together.
    """
    truth, kinds, found, video_ap = detections[:0], [""] * len(detections), (), {}
    scored = {"tiou": None, "ap": [], "kinds": [], "lengths": [], "sides": []}
    if evaluation is not None:
        truth, kinds, found = evaluation.truth, evaluation.kinds, evaluation.found
        video_ap, count, n = evaluation.video_ap, Counter(kinds), evaluation.segments
        scored = {
            "tiou": evaluation.tiou,
            "ap": [
                (name, _number(100 * ap, 1), int(n[name]))
                for name, ap in evaluation.class_ap.items()
            ],
            "kinds": [(kind, count[kind]) for kind in KINDS if count[kind]],
            "lengths": by_length(truth["t_end"] - truth["t_start"], found),
            "sides": by_side(truth, detections[np.asarray(kinds) == "localization"]),
        }
    names = list(dict.fromkeys([*classes, *truth["label"], *detections["label"]]))
    index, order = ({name: k for k, name in enumerate(of)} for of in (names, KINDS))
    segments, detected = defaultdict(list), defaultdict(list)
    for (video, start, end, label), hit in zip(_rows(truth, SEGMENT), found):
        segments[video].append((index[label], _number(start, 3), _number(end, 3), int(hit)))
    for (video, start, end, label, score), kind in zip(_rows(detections, DETECTION), kinds):
        detected[video].append((index[label], start, end, score, order[kind]))
    return {
        "classes": names,
        "rule": rule,
        "styles": KINDS,
        "charts": curves(log),
        "videos": [
            _video(s, segments[s.name], detected[s.name], video_ap.get(s.name, math.nan))
            for s in videos
        ],
        **scored,
    }


def _rows(table, columns):
    return table[columns].itertuples(index=False, name=None)


def _video(scores, truth, detections, ap):
    """n name, s seconds, w step and window of its clips, q Q, a AP in percent, h hidden classes;
    rows r: c class, g passed the gate, p P, t ground truth (start, end, found), d detections
    (start, end, score, index into KINDS)."""
    if scores.q is not None:
        _check(scores)
    best = {}
    for label, _, _, score, _ in detections:
        best[label] = max(score, best.get(label, -math.inf))
    own = {label for label, *_ in truth}
    labels = sorted(
        own | set(best) | set(scores.passed),
        key=lambda label: (label not in own, -best.get(label, -math.inf), label),
    )
    n_scored = 0 if scores.p is None else scores.p.shape[1]
    rows = [
        {
            "c": label,
            "g": int(label in scores.passed),
            "p": _packed(scores.p[:, label]) if label < n_scored else "",
            "t": [segment for c, *segment in truth if c == label],
            "d": [
                (_number(start, 3), _number(end, 3), _number(score, 3), kind)
                for start, end, score, kind in sorted(row for c, *row in detections if c == label)
            ],
        }
        for label in labels[:MAX_ROWS]
    ]
    return {
        "n": scores.name,
        "s": _number(scores.duration, 3),
        "w": (scores.snippet_seconds, scores.clip_seconds),
        "q": "" if scores.q is None else _packed(scores.q),
        "a": _number(100 * ap, 1),
        "r": rows,
        "h": len(labels) - len(rows),
    }


def _check(scores):
    if scores.p is None or scores.p.ndim != 2 or scores.q.shape != scores.p.shape[:1]:
        raise ValueError(
            f"{scores.name}: found q {np.shape(scores.q)} and p {np.shape(scores.p)}, "
            "expected (T,) and (T, C)"
        )
    for name, values in (("q", scores.q), ("p", scores.p)):
        if not np.all((values >= -ROUNDING) & (values <= 1 + ROUNDING)):
            raise ValueError(f"{scores.name}: found {name} outside [0, 1], expected scores in it")


# ---- statistics
def by_length(seconds, found):
    """Segments found by length, the shortest first: [(text, number found, number)]."""
    seconds, found = np.asarray(seconds, np.float64), np.asarray(found, bool)
    at = np.digitize(seconds, LENGTHS[1:-1])  # (G,) index of the bin
    rows = []
    for k in range(at.min(initial=len(LENGTHS)), at.max(initial=-1) + 1):
        here = at == k
        text = _length_text(LENGTHS[k], LENGTHS[k + 1])
        rows.append((text, int(found[here].sum()), int(here.sum())))
    return rows


def _length_text(low, high):
    if low == 0:
        return f"under {high} s"
    return f"{low} s and more" if high == math.inf else f"{low} to {high} s"


def by_side(truth, shifted):
    """How shifted detections lie to a segment: [(text of SIDES, number of detections)].

    truth: table video, t_start, t_end, label. shifted: table of detections, each of which overlaps
    a segment of its class; it is compared with the one that it overlaps most.
    """
    segments, count = defaultdict(list), dict.fromkeys(SIDES, 0)
    for video, start, end, label in _rows(truth, SEGMENT):
        segments[video, label].append((start, end))
    for video, start, end, label in _rows(shifted, SEGMENT):
        own = segments[video, label]
        first, last = max(own, key=lambda segment: _tiou(start, end, *segment))
        if start <= first and end >= last:
            count[COVERS] += 1
        elif start >= first and end <= last:
            count[INSIDE] += 1
        else:
            count[EARLY if start < first else LATE] += 1
    return list(count.items()) if len(shifted) else []


def _tiou(start, end, first, last):
    return (min(end, last) - max(start, first)) / (max(end, last) - min(start, first))


def curves(log):
    """Training curves of the records of log.jsonl: a list of charts.

    A chart is a dict: title, y (text of the axis), percent (bool: its values are in percent), shade
    ([from, to] in epochs, the E steps), series of {name, x: epochs, y: values}. EM-MIL's losses
    share one chart, its pseudo-labels another, and every other stage has one.
    """
    ours, others = split_log(log)
    charts = _em_mil_charts(ours) if ours else []
    for stage, records in others.items():
        epochs = [(number, "", record) for number, record in enumerate(records, 1)]
        charts.append(_chart(stage, "loss", _loss_series(epochs)))
    return charts


def _em_mil_charts(log):
    epochs = [(number, f"{record['step']} step, ", record) for number, record in enumerate(log, 1)]
    shade = [(number - 0.5, number + 0.5) for number, _, record in epochs if record["step"] == "E"]
    phases, series = phase_table(log), []
    for column, text in (("positive", "positive clips"), ("changed", "labels changed")):
        for step, part in phases[phases[column].notna()].groupby("step"):
            x, y = (part["epoch"] + 1).tolist(), part[column].tolist()
            series.append({"name": f"{step} step, {text}", "x": x, "y": y})
    losses = _chart("EM-MIL", "loss", _loss_series(epochs), shade)
    title = "EM-MIL pseudo-labels, at the start of each phase"
    labels = _chart(title, "share of clips", series, shade, percent=True)
    return [losses, labels] if series else [losses]


def _loss_series(epochs):
    """epochs: (number, prefix of the series' name, record) each."""
    series = {}
    for number, prefix, record in epochs:
        for name, value in record["loss"].items():
            part = series.setdefault(prefix + name, {"name": prefix + name, "x": [], "y": []})
            part["x"].append(number)
            part["y"].append(value)
    return list(series.values())


def _chart(title, y, series, shade=(), percent=False):
    scale, digits = (100, 1) if percent else (1, 5)
    for part in series:
        n = len(part["x"])
        kept = np.unique(np.linspace(0, n - 1, min(n, MAX_POINTS)).round().astype(int))
        part["x"] = [part["x"][k] for k in kept]
        part["y"] = [_number(scale * part["y"][k], digits) for k in kept]
    joined = []
    for first, last in shade:
        if joined and joined[-1][1] == first:
            joined[-1][1] = last
        else:
            joined.append([first, last])
    return {"title": title, "y": y, "percent": percent, "shade": joined, "series": series}


# ---- writing
def write_page(path, about, data):
    """Writes `About` and what `page_content` gives as one HTML file, whole or not at all.

    Raises InputError where it cannot be written.
    """
    here = Path(__file__).parent
    script = (here / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    text = Template((here / "page.html").read_text(encoding="utf-8")).substitute(
        title=html.escape(about.title),
        policy=f"'sha256-{digest}'",
        script=script,
        style=(here / "page.css").read_text(encoding="utf-8"),
        data=_embedded(data),
        header="".join(_header_line(name, value) for name, value in about.header),
        notes="".join(f"<p>{html.escape(note)}</p>" for note in about.notes),
        tables="".join(_table(caption, rows) for caption, rows in about.tables),
    )
    with write_atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _header_line(name, value):
    style = ' class="long"' if len(name) + len(value) > 45 else ""
    return f"<div{style}><dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd></div>"


def _table(caption, rows):
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in rows[0])
    body = []
    for first, *cells in rows[1:]:
        others = "".join(f"<td>{html.escape(cell)}</td>" for cell in cells)
        body.append(f'<tr><th scope="row">{html.escape(first)}</th>{others}</tr>')
    return (
        f'<div class="wide" tabindex="0"><table><caption>{html.escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def _embedded(value):
    """JSON that no text in it can end: <, > and & are escaped."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _packed(scores):
    """Scores in [0, 1] as base64 of little-endian uint16."""
    steps = np.round(np.clip(np.asarray(scores, np.float64), 0, 1) * 65535)
    return base64.b64encode(steps.astype("<u2").tobytes()).decode()


def _number(value, digits):
    return round(float(value), digits) if math.isfinite(value) else None
