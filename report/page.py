"""The HTML page of a run: one file that opens by double click, without a network or a server.

`page_content` makes a `Page` of a run's results, `write_page` writes it. The page is page.html with page.css and page.js
put in; page.js draws the figures as SVG from the data in the page. Names and texts from outside are escaped, and the
page's content security policy lets no other script run and no address be loaded.

Scores are kept with 16 bits (an error of at most 1/131070), times with a millisecond.

T clips, C classes.
"""
import base64
import hashlib
import html
import json
import math
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from string import Template

import numpy as np
import pandas as pd

from formats.files import write_atomically
from report.figures import phase_table

MAX_ROWS = 8              # classes shown of a video; those with ground truth come first, then the best detections
MAX_POINTS = 400          # of a curve
LENGTHS = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, math.inf)         # seconds, edges of "by length of the segment"
KINDS = {                 # eval_detection.ERRORS: name of the page's style, word, explanation
    "true positive": ("hit", "hit", "matched to a segment of its class"),
    "double detection": ("double", "double", "enough overlap, but the segment is taken by a better one"),
    "localization": ("shifted", "shifted", "right class, overlap of at least 0.1 but too little"),
    "wrong label": ("wrong", "wrong class", "enough overlap with a segment of another class"),
    "confusion": ("confused", "wrong class and shifted", "overlap of at least 0.1 with another class, but too little"),
    "background": ("background", "background", "overlap below 0.1 with every segment"),
    "ignored": ("ignored", "ignored", "lies on an Ambiguous segment"),
    "": ("plain", "not scored", "class without ground truth"),
}
SIDES = ("too long (covers the segment)", "too short (inside the segment)", "too early", "too late")
DETECTION = ["video", "t_start", "t_end", "label", "score"]


# ------------------------------------------------------------------------------------------------ content

@dataclass(frozen=True)
class About:
    """What stands above the figures.

    title: text. header: (name, value) texts, such as the options that differ from the recipe. tables: (caption, rows of
    text, the first row the head), as report/tables.py makes them. notes: lines of text.
    """
    title: str
    header: list
    tables: list
    notes: list


@dataclass(frozen=True)
class Rule:
    """Eq. 9 and Sec. 3.5 as the run applied them. gammas: one or several; gate: threshold of the video-level score."""
    lam: float
    gammas: tuple
    gate: float
    snippet_seconds: float


@dataclass(frozen=True)
class Scores:
    """One video's scores: q (T,) and p (T, C) in [0, 1], or None for both where EM-MIL was not run; passed: the indices
    of the classes that passed the gate (`localize.gate`). duration: seconds."""
    name: str
    duration: float
    q: np.ndarray | None
    p: np.ndarray | None
    passed: list


@dataclass(frozen=True)
class Evaluation:
    """How the detections compare with the ground truth, at one tIoU.

    truth: table video, t_start, t_end, label. kinds (N,), found (G,): `eval_detection.detection_kinds`.
    video_ap: {video: fraction}, `eval_detection.video_ap`. class_ap, segments: {class: fraction}, {class: number}.
    """
    truth: pd.DataFrame
    kinds: np.ndarray
    found: np.ndarray
    video_ap: dict
    class_ap: dict
    segments: dict
    tiou: float = 0.5


@dataclass(frozen=True)
class Row:
    """One class of a video. label: index into Page.classes; passed: of the gate; p: (T,) or None.

    truth: (start s, end s, found) each. detections: (start s, end s, score, kind) each, kind a name of KINDS.
    """
    label: int
    passed: bool
    p: np.ndarray | None
    truth: list
    detections: list


@dataclass(frozen=True)
class Video:
    """One video as the page shows it. q: (T,) or None; ap: fraction or None; hidden: classes left out (MAX_ROWS)."""
    name: str
    duration: float
    q: np.ndarray | None
    ap: float | None
    rows: list
    hidden: int


@dataclass(frozen=True)
class Page:
    """All that the page shows; `page_content` makes it.

    classes: names. charts: curves (see `curves`). class_ap: (class, fraction, segments). kinds: (name of KINDS, number of
    detections). lengths: (text, found, all segments). sides: (text, number of shifted detections).
    Without ground truth tiou is None and the last four are empty.
    """
    about: About
    classes: list
    rule: Rule
    videos: list
    charts: list
    tiou: float | None = None
    class_ap: tuple = ()
    kinds: tuple = ()
    lengths: tuple = ()
    sides: tuple = ()


def page_content(about, classes, rule, videos, detections, evaluation=None, log=()):
    """A `Page` of what a run found.

    about: `About`. classes: C names, in the order of p's columns. rule: `Rule`. videos: `Scores` of each video, in any
    iterable, read once. detections: table video, t_start, t_end, label, score. evaluation: `Evaluation`, or None
    without ground truth. log: records of RUN/log.jsonl, dicts. Raises ValueError where scores are outside [0, 1] or
    q and p do not fit together.
    """
    truth = evaluation.truth if evaluation else detections[:0]
    kinds = evaluation.kinds if evaluation else [""] * len(detections)
    names = list(dict.fromkeys([*classes, *truth["label"], *detections["label"]]))
    index = {name: c for c, name in enumerate(names)}
    of_video = defaultdict(list), defaultdict(list)
    found = evaluation.found if evaluation else ()
    for (video, start, end, label), hit in zip(_rows(truth, DETECTION[:4]), found):
        of_video[0][video].append((index[label], start, end, bool(hit)))
    for (video, start, end, label, score), kind in zip(_rows(detections, DETECTION), kinds):
        of_video[1][video].append((index[label], start, end, score, kind))
    shown = [_video(scores, of_video[0][scores.name], of_video[1][scores.name],
                    evaluation and evaluation.video_ap.get(scores.name)) for scores in videos]
    page = dict(about=about, classes=names, rule=rule, videos=shown, charts=curves(log))
    if evaluation is None:
        return Page(**page)
    count = pd.Series(kinds, dtype=object).value_counts()
    return Page(**page, tiou=evaluation.tiou,
                class_ap=tuple((name, ap, evaluation.segments[name]) for name, ap in evaluation.class_ap.items()),
                kinds=tuple((kind, int(count[kind])) for kind in KINDS if kind in count),
                lengths=tuple(by_length(truth["t_end"] - truth["t_start"], evaluation.found)),
                sides=tuple(by_side(truth, detections[np.asarray(kinds) == "localization"])))


def _rows(table, columns):
    return table[columns].itertuples(index=False, name=None)


def _video(scores, truth, detections, ap):
    """A `Video`. truth: (label, start, end, found) each; detections: (label, start, end, score, kind) each."""
    if scores.q is not None:
        _check(scores)
    best = {label: max(d[3] for d in detections if d[0] == label) for label in {d[0] for d in detections}}
    own = {segment[0] for segment in truth}
    labels = sorted(own | set(best) | set(scores.passed),
                    key=lambda label: (label not in own, -best.get(label, -math.inf), label))
    rows = [Row(label, label in scores.passed,
                scores.p[:, label] if scores.p is not None and label < scores.p.shape[1] else None,
                [segment[1:] for segment in truth if segment[0] == label],
                sorted(d[1:] for d in detections if d[0] == label)) for label in labels[:MAX_ROWS]]
    return Video(scores.name, scores.duration, scores.q, ap, rows, len(labels) - len(rows))


def _check(scores):
    if scores.p is None or scores.p.ndim != 2 or scores.q.shape != scores.p.shape[:1]:
        raise ValueError(f"{scores.name}: found q {np.shape(scores.q)} and p {np.shape(scores.p)}, expected (T,), (T, C)")
    for name, values in (("q", scores.q), ("p", scores.p)):
        if not np.all((values >= 0) & (values <= 1)):
            raise ValueError(f"{scores.name}: found {name} outside [0, 1], expected scores in it")


# ------------------------------------------------------------------------------------------------ statistics

def by_length(seconds, found):
    """Segments found by length: [(text, number found, number)], from the shortest length that occurs to the longest."""
    seconds, found = np.asarray(seconds, np.float64), np.asarray(found, bool)
    at = np.digitize(seconds, LENGTHS[1:-1])                                               # (G,) index of the bin
    if not at.size:
        return []
    return [(_length_text(LENGTHS[k], LENGTHS[k + 1]), int(found[at == k].sum()), int((at == k).sum()))
            for k in range(at.min(), at.max() + 1)]


def _length_text(low, high):
    if low == 0:
        return f"under {high} s"
    return f"{low} s and more" if high == math.inf else f"{low} to {high} s"


def by_side(truth, shifted):
    """How shifted detections lie to the segment of their class that they overlap most: [(text of SIDES, number)].

    truth: table video, t_start, t_end, label; shifted: table of detections, each of which overlaps such a segment.
    """
    segments, count = defaultdict(list), dict.fromkeys(SIDES, 0)
    for video, start, end, label in _rows(truth, DETECTION[:4]):
        segments[video, label].append((start, end))
    for video, start, end, label in _rows(shifted, DETECTION[:4]):
        def tiou(segment):
            shared = min(end, segment[1]) - max(start, segment[0])
            return shared / (max(end, segment[1]) - min(start, segment[0]))
        first, last = max(segments[video, label], key=tiou)
        if start <= first and end >= last:
            count[SIDES[0]] += 1
        elif start >= first and end <= last:
            count[SIDES[1]] += 1
        else:
            count[SIDES[2 if start < first else 3]] += 1
    return list(count.items()) if len(shifted) else []


def curves(log):
    """Training curves of the records of log.jsonl: a list of charts.

    A chart is a dict: title, y (text of the axis), percent (bool), shade ([first, last) epochs of E steps), series of
    {name, x: epochs, y: values}. EM-MIL's losses share one chart, what became of its pseudo-labels another, every other
    stage has one.
    """
    ours = [record for record in log if "phase" in record]
    stages = defaultdict(list)
    for record in log:
        if "phase" not in record:
            stages[record["stage"]].append(record)
    charts = []
    if ours:
        epochs = [(number, f"{record['step']} step, ", record) for number, record in enumerate(ours, 1)]
        shade = [(number - 0.5, number + 0.5) for number, _, record in epochs if record["step"] == "E"]
        charts.append(_chart("EM-MIL", "loss", _loss_series(epochs), shade))
        phases = phase_table(ours)
        series = [{"name": f"{step} step, {text}", "x": (part["epoch"] + 1).tolist(), "y": part[column].tolist()}
                  for column, text in (("positive", "positive clips"), ("changed", "labels changed"))
                  for step, part in phases[phases[column].notna()].groupby("step")]
        if series:
            charts.append(_chart("EM-MIL pseudo-labels, at the start of each phase", "share of clips", series, shade,
                                 percent=True))
    charts += [_chart(stage, "loss", _loss_series([(number, "", record) for number, record in enumerate(records, 1)]))
               for stage, records in stages.items()]
    return charts


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
    for part in series:
        kept = np.unique(np.linspace(0, len(part["x"]) - 1, min(len(part["x"]), MAX_POINTS)).round().astype(int))
        part["x"], part["y"] = ([part[key][k] for k in kept] for key in ("x", "y"))
    joined = []
    for first, last in shade:
        if joined and joined[-1][1] == first:
            joined[-1][1] = last
        else:
            joined.append([first, last])
    return {"title": title, "y": y, "percent": percent, "shade": joined, "series": series}


# ------------------------------------------------------------------------------------------------ writing

def write_page(path, content):
    """Writes the page of a `Page` as one HTML file, whole or not at all. Raises InputError where it cannot be written."""
    here = Path(__file__).parent
    script = (here / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    text = Template((here / "page.html").read_text(encoding="utf-8")).substitute(
        title=html.escape(content.about.title), policy=f"'sha256-{digest}'", script=script,
        style=(here / "page.css").read_text(encoding="utf-8"), data=_embedded(_data(content)),
        header="".join(_header_line(name, value) for name, value in content.about.header),
        notes="".join(f"<p>{html.escape(note)}</p>" for note in content.about.notes),
        tables="".join(_table(caption, rows) for caption, rows in content.about.tables))
    with write_atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _header_line(name, value):
    style = ' class="long"' if len(name) + len(value) > 45 else ""
    return f"<div{style}><dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd></div>"


def _table(caption, rows):
    def line(cells, tag):
        first = f'<th scope="row">{html.escape(cells[0])}</th>' if tag == "td" else f"<th>{html.escape(cells[0])}</th>"
        return "<tr>" + first + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells[1:]) + "</tr>"
    body = "".join(line(cells, "td") for cells in rows[1:])
    return (f'<div class="wide" tabindex="0"><table><caption>{html.escape(caption)}</caption>'
            f"<thead>{line(rows[0], 'th')}</thead><tbody>{body}</tbody></table></div>")


def _embedded(value):
    """JSON that no text in it can end: <, > and & are escaped."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _data(content):
    """What page.js reads, with short names, since they are written for every video."""
    rule = content.rule
    charts = [{**chart, "series": [{**part, "y": [_number(y, 5) for y in part["y"]]} for part in chart["series"]]}
              for chart in content.charts]
    return {"classes": content.classes, "tiou": content.tiou, "charts": charts,
            "rule": {"lam": rule.lam, "gammas": list(rule.gammas), "gate": rule.gate, "clip": rule.snippet_seconds},
            "styles": {kind: list(words) for kind, words in KINDS.items()},
            "ap": [(name, _number(ap, 4), int(n)) for name, ap, n in content.class_ap], "kinds": content.kinds,
            "lengths": content.lengths, "sides": content.sides, "videos": [_video_data(v) for v in content.videos]}


def _video_data(video):
    rows = [{"c": row.label, "g": int(row.passed), "p": _packed(row.p),
             "t": [(_number(start, 3), _number(end, 3), int(found)) for start, end, found in row.truth],
             "d": [(_number(start, 3), _number(end, 3), _number(score, 4), list(KINDS).index(kind))
                   for start, end, score, kind in row.detections]} for row in video.rows]
    return {"n": video.name, "s": _number(video.duration, 3), "q": _packed(video.q), "a": _number(video.ap, 4),
            "r": rows, "h": video.hidden}


def _packed(scores):
    """Scores in [0, 1] as base64 of little-endian uint16, "" for None."""
    if scores is None:
        return ""
    return base64.b64encode(np.round(np.asarray(scores, np.float64) * 65535).astype("<u2").tobytes()).decode()


def _number(value, digits):
    return None if value is None or not math.isfinite(value) else round(float(value), digits)
