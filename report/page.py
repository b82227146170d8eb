"""The HTML page of a run: one file that opens by double click, without a network or a server.

`write_page` works out what the page says of a run beyond its tables (interval over test videos,
errors and what they cost, mAP over lambda and gamma) and writes page.html with page.css, page.js
and the data put in; page.js draws them. Names and texts from outside are escaped, and the page's
content security policy lets no other script run and no address be loaded.

A number is rounded once, here, to the digits that the page shows: AP and shares of clips in percent
with one digit, as in the tables, times with a millisecond, scores of detections with three digits.
page.js rounds only what it computes. Scores of clips are kept with 16 bits of their range, so the
third digit shown of one can be off by one.

T clips, C classes.
"""

import base64
import hashlib
import html
import json
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from string import Template

import numpy as np
import pandas as pd

import eval_detection
import localize
from formats.files import write_atomically
from report import tables

MAX_ROWS = 8  # curves of a video, first of the classes with ground truth, then the best detections
MAX_POINTS = 400  # of a training curve
DRAWS, LEAST_DRAWS = 1000, 50  # of the test videos, for the interval
LAMBDAS = tuple(k / 10 for k in range(11))
GAMMAS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5)
SECONDS = 10.0  # that the intervals may take, and as many for mAP over lambda and gamma
SEGMENT = ["label", "t_start", "t_end"]


@dataclass(frozen=True)
class About:
    """What the page says in words.

    title: text. header: (name, value) texts, such as the options that differ from the recipe.
    maps: (protocol, caption, rows of text as tables.map_table makes them). notes: lines of text.
    """

    title: str
    header: list
    maps: list
    notes: list


@dataclass(frozen=True)
class Curves:
    """A method's scores of the clips of one video.

    curves (T, C), and levels (n, C) which they must exceed. passed: indices of the classes above
    the gate (`localize.gate`). q (T,) and p (T, C): what Eq. 9 makes the curves of, scores in
    [0, 1]; None where it does not.
    """

    curves: np.ndarray
    levels: np.ndarray
    passed: list
    q: np.ndarray | None = None
    p: np.ndarray | None = None


@dataclass(frozen=True)
class Method:
    """A row of the tables of mAP, and what is behind it.

    label: as in the tables. detections: table video, t_start, t_end, label, score. protocols:
    {protocol: its results as in results.json}, empty without ground truth. curves: `Curves` of
    each video, read once. rule: `localize.Rule`. again: (lam, gamma) -> detections by another rule,
    where the curves are made of q and p; else None.
    """

    label: str
    detections: pd.DataFrame
    protocols: dict
    curves: Iterable
    rule: localize.Rule
    again: Callable | None = None


def write_page(path, about, classes, videos, methods, truth=None, ambiguous=None, log=()):
    """Writes the page, whole or not at all.

    about: `About`. classes: C names, in the order of the curves' columns. videos: each has `name`,
    `duration`, `snippet_seconds` and `clip_seconds` (localize.times). methods: `Method` each.
    truth: table video, t_start, t_end, label, or None; ambiguous: table video, t_start, t_end.
    log: records of RUN/log.jsonl. Raises ValueError where curves and classes do not fit together,
    InputError where the page cannot be written.
    """
    if truth is None:
        truth = pd.DataFrame(columns=["video", *SEGMENT])
    if ambiguous is None:
        ambiguous = truth[:0]
    found = (label for method in methods for label in method.detections["label"])
    index = {name: c for c, name in enumerate(dict.fromkeys([*classes, *truth["label"], *found]))}
    shown = _videos(videos, truth, ambiguous, index)
    content = {
        "classes": list(index),
        "kinds": list(eval_detection.KINDS.values()),
        "charts": curves(log),
        "videos": shown,
        "methods": [_method(method, shown, truth, ambiguous, index) for method in methods],
    }
    intervals = {
        protocol: _intervals(methods, protocol, truth, ambiguous) for protocol, *_ in about.maps
    }
    _write(path, about, content, intervals)


# ---- what is shown of videos and methods
def _videos(videos, truth, ambiguous, index):
    """n name, s seconds, w step and window of a clip, t ground truth (class, start, end), a
    ambiguous segments (start, end) of each video."""
    segments = _by_video(truth, _segments(truth, index))
    forgiven = _by_video(ambiguous, ambiguous[SEGMENT[1:]].round(3).to_numpy(float).tolist())
    return [
        {
            "n": video.name,
            "s": _number(video.duration, 3),
            "w": (video.snippet_seconds, video.clip_seconds),
            "t": segments[video.name],
            "a": forgiven[video.name],
        }
        for video in videos
    ]


def _by_video(table, rows):
    """{video: its items of `rows`, one for each row of the table}."""
    found = defaultdict(list)
    for video, row in zip(table["video"], rows):
        found[video].append(row)
    return found


def _segments(table, index, more=()):
    """Rows (class, start, end) and what the columns `more` hold, rounded."""
    rows = table[[*SEGMENT, *more]].itertuples(index=False, name=None)
    return [(index[label], *(_number(value, 3) for value in values)) for label, *values in rows]


def _method(method, shown, truth, ambiguous, index):
    """What page.js reads of a method; its videos in the order of `shown`, see `_videos`."""
    table, rule = method.detections, method.rule
    found, own = _by_video(table, _segments(table, index, ["score"])), []
    for video, curves in zip(shown, method.curves):
        labels, rows = {label for label, *_ in video["t"]}, found[video["n"]]
        own.append({"d": rows, **_curves(curves, rows, labels)})
    protocols = {
        name: _judged(table, name, results, shown, truth, ambiguous, index)
        for name, results in method.protocols.items()
    }
    first = next(iter(method.protocols.items()), None)
    return {
        "label": method.label,
        "rule": {"lam": rule.lam, "gammas": rule.gammas, "gate": rule.gate},
        "videos": own,
        "protocols": protocols,
        "sweep": _sweep(method, *first, truth, ambiguous) if first and method.again else None,
    }


def _curves(curves, found, own):
    """q Q, r a row for each class that is drawn (c class, g whether it passed the gate, y its P, or
    its curve within x and the levels l), h how many classes are not drawn.

    found: detections (class, start, end, score). own: classes with ground truth.
    """
    best = {}
    for label, *_, score in found:
        best[label] = max(score, best.get(label, -math.inf))
    labels = sorted(
        own | set(best) | set(curves.passed),
        key=lambda label: (label not in own, -best.get(label, -math.inf), label),
    )
    rows = []
    for label in labels[:MAX_ROWS]:
        row = {"c": label, "g": int(label in curves.passed)}
        if label >= np.shape(curves.curves)[1]:  # a class that was not trained
            pass
        elif curves.q is not None:
            row["y"] = _packed(curves.p[:, label])
        else:
            values = np.asarray(curves.curves[:, label], np.float64)
            row["x"] = low, high = float(values.min()), float(values.max())
            row["y"] = _packed((values - low) / ((high - low) or 1))
            row["l"] = [_number(level, 6) for level in curves.levels[:, label]]
        rows.append(row)
    q = "" if curves.q is None else _packed(curves.q)
    return {"q": q, "r": rows, "h": len(labels) - len(rows)}


# ---- detections and ground truth
def _judged(table, protocol, results, shown, truth, ambiguous, index):
    """Detections under one protocol, at one tIoU: `map`, `ap` (class, AP, segments), `costs`; for
    each video its AP, kinds of its detections and whether its segments are found as digits, and
    the classes of the segments that detections of another class overlap.
    """
    tiou = eval_detection.main_tiou(results["tious"])
    at, settings = results["tious"].index(tiou), (tiou, protocol, ambiguous)
    kinds, hit, judged_by = eval_detection.detection_kinds(truth, table, *settings)
    ap = eval_detection.video_ap(truth, table, *settings)
    order = {name: str(k) for k, name in enumerate(eval_detection.KINDS)}
    digits, found = _by_video(table, [order[kind] for kind in kinds]), _by_video(truth, hit)
    others = np.isin(kinds, ["wrong label", "confusion"])
    labels = truth["label"].to_numpy()[judged_by[others]]
    taken_for = _by_video(table[others], [index[label] for label in labels])
    by_class = [
        (index[label], _number(100 * values[at], 1), int(results["segments"][label]))
        for label, values in results["ap"].items()
    ]
    before = results["map"][at]
    of_videos = [
        (
            _number(100 * ap.get(name, math.nan), 1),
            "".join(digits[name]),
            "".join(str(int(one)) for one in found[name]),
            taken_for[name],
        )
        for name in (video["n"] for video in shown)
    ]
    return {
        "tiou": tiou,
        "map": _number(100 * before, 1),
        "ap": by_class,
        "costs": _costs(truth, table, kinds, settings, list(results["ap"]), before),
        "videos": of_videos,
    }


def _costs(truth, table, kinds, settings, classes, before):
    """{word of a kind of error: (mAP without these detections, the gain, AP of each class)}.

    As DETAD's "impact of error types" (Alwassel et al., ECCV 2018), without its normalisation of
    precision. No match changes where false positives are taken away.
    """
    costs = {}
    for kind, (word, _) in eval_detection.KINDS.items():
        if kind in ("true positive", "ignored", "") or not (kinds == kind).any():
            continue
        rest = eval_detection.score(truth, table[kinds != kind], *settings, classes)
        ap = [_number(100 * value, 1) for value in rest.ap[0]]
        costs[word] = _number(100 * rest.map[0], 1), _number(100 * (rest.map[0] - before), 1), ap
    return costs


def _intervals(methods, protocol, truth, ambiguous):
    """(draws, {label: "low–high" of each column of the table of mAP}, a sentence on the differences
    of the methods): 95% over test videos."""
    tious = methods[0].protocols[protocol]["tious"]
    tables = [(method.detections, ambiguous) for method in methods]
    end = time.perf_counter() + SECONDS / len(methods[0].protocols)
    samples = []
    for maps in islice(eval_detection.bootstrap(truth, tables, tious, protocol), DRAWS):
        averages = [eval_detection.distinct_averages(tious, values) for values in maps]
        samples.append([[*values, *more.values()] for values, more in zip(maps, averages)])
        if time.perf_counter() > end and len(samples) >= LEAST_DRAWS:
            break
    samples = 100 * np.array(samples)  # (draws, methods, columns)
    low, high = np.percentile(samples, eval_detection.INTERVAL, axis=0)
    texts = {
        method.label: [f"{a:.1f}–{b:.1f}" for a, b in zip(low[k], high[k])]
        for k, method in enumerate(methods)
    }
    at = tious.index(eval_detection.main_tiou(tious))
    maps = [100 * method.protocols[protocol]["map"][at] for method in methods]
    compared = []
    for k, method in enumerate(methods[1:], 1):
        low, high = np.percentile(samples[:, 0, at] - samples[:, k, at], eval_detection.INTERVAL)
        pair = f"{methods[0].label} minus {method.label}"
        compared.append(f"{pair} {maps[0] - maps[k]:+.1f} ({low:+.1f} to {high:+.1f})")
    said = f" Which is better? mAP@{tious[at]:g}, {'; '.join(compared)}: an interval with 0 in it"
    return len(samples), texts, f"{said} leaves it open." if compared else ""


def _sweep(method, protocol, results, truth, ambiguous):
    """mAP over lambda and gamma: {"lams", "gammas", "own" (column, row), "protocol", "coarse",
    "maps": {name: rows of percent}}; coarse: where the whole grid takes more than SECONDS."""
    tious, rule = results["tious"], method.rule

    def scored(lam, gamma):
        table = method.again(lam, gamma)
        return eval_detection.score(truth, table, tious, protocol, ambiguous).map

    began = time.perf_counter()
    scored(rule.lam, rule.gammas[0])
    most = SECONDS / (time.perf_counter() - began)  # points in this time
    step = next((k for k in (1, 2) if len(LAMBDAS[::k]) * len(GAMMAS[::k]) < most), 5)
    lams, gammas = _with_own(LAMBDAS[::step], rule.lam), _with_own(GAMMAS[::step], rule.gammas[0])
    at = tious.index(eval_detection.main_tiou(tious))
    shown = {f"mAP@{tious[at]:g}": at, "mAP, average over tIoU": slice(None)}
    maps = {name: [] for name in list(shown)[: len(tious)]}  # one tIoU has no average
    for gamma in gammas:
        row = [scored(lam, gamma) for lam in lams]
        for name in maps:
            maps[name].append([_number(100 * np.mean(point[shown[name]]), 1) for point in row])
    own = (lams.index(rule.lam), gammas.index(rule.gammas[0])) if len(rule.gammas) == 1 else None
    return {
        "lams": lams,
        "gammas": gammas,
        "own": own,
        "protocol": protocol,
        "coarse": step > 1,
        "maps": maps,
    }


def _with_own(values, own):
    """`values` with the nearest one replaced by the run's own."""
    nearest = min(values, key=lambda value: abs(value - own))
    return [own if value == nearest else value for value in values]


# ---- training
def curves(log):
    """Training curves of the records of log.jsonl: a list of charts.

    A chart is a dict: title, x and y (texts of the axes), percent (bool: its values are in
    percent), shade ([from, to] in epochs, the E steps), series of {name, x: epochs, y: values}.
    EM-MIL's losses share one chart, its pseudo-labels another, and every other stage has one.
    """
    ours, others = tables.split_log(log)
    charts = _em_mil_charts(ours) if ours else []
    for stage, records in others.items():
        epochs = [(number, "", record) for number, record in enumerate(records, 1)]
        x = "hundreds of iterations" if stage == "W-TALC" else "epoch"
        charts.append(_chart(stage, "loss", _loss_series(epochs), x=x))
    return charts


def _em_mil_charts(log):
    epochs = [(number, f"{record['step']} step, ", record) for number, record in enumerate(log, 1)]
    shade = [(number - 0.5, number + 0.5) for number, _, record in epochs if record["step"] == "E"]
    phases, series = tables.phase_table(log), []
    for column, text in (("positive", "positive clips"), ("changed", "labels changed")):
        for step, part in phases[phases[column].notna()].groupby("step"):
            x, y = (part["epoch"] + 1).tolist(), part[column].tolist()
            series.append({"name": f"{step} step, {text}", "x": x, "y": y})
    losses = _chart("EM-MIL", "loss", _loss_series(epochs), shade)
    title = "EM-MIL pseudo-labels, at the start of each phase"
    labels = _chart(title, "share of clips", series, shade, percent=True)
    return [losses, labels] if series else [losses]


def _loss_series(epochs):
    """epochs: (number, prefix of the series' name, record) each. None where a step pauses."""
    series = {}
    for number, prefix, record in epochs:
        for name, value in record["loss"].items():
            part = series.setdefault(prefix + name, {"name": prefix + name, "x": [], "y": []})
            if part["x"] and part["x"][-1] < number - 1:
                part["x"].append(number - 1)
                part["y"].append(math.nan)
            part["x"].append(number)
            part["y"].append(value)
    return list(series.values())


def _chart(title, y, series, shade=(), percent=False, x="epoch"):
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
    chart = {"title": title, "x": x, "y": y, "percent": percent, "shade": joined}
    return {**chart, "series": series}


# ---- writing
def _write(path, about, content, intervals):
    here = Path(__file__).parent
    script = (here / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    warnings, notes = [], []
    for note in dict.fromkeys(about.notes):
        (warnings if note.startswith("warning:") else notes).append(f"<p>{html.escape(note)}</p>")
    text = Template((here / "page.html").read_text(encoding="utf-8")).substitute(
        title=html.escape(about.title),
        policy=f"'sha256-{digest}'",
        script=script,
        style=(here / "page.css").read_text(encoding="utf-8"),
        data=_embedded(content),
        header="".join(
            f"<dt>{html.escape(a)}</dt><dd>{html.escape(b)}</dd>" for a, b in about.header
        ),
        warnings="".join(warnings),
        notes="".join(notes),
        tables="".join(_map_table(*table, *intervals[table[0]]) for table in about.maps),
    )
    with write_atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def _map_table(protocol, caption, rows, draws, intervals, compared):
    """A table of mAP with the intervals under its numbers; a phone shows mAP at the main tIoU and
    the averages first."""
    columns = rows[0][1:]
    tious = [float(name) for name in columns if name != "avg" and ":" not in name]
    main = f"{eval_detection.main_tiou(tious):g}"
    style = ["" if name in (main, "avg") or ":" in name else ' class="more"' for name in columns]
    head = "".join(f"<th{s}>{html.escape(name)}</th>" for s, name in zip(style, columns))
    body = []
    for label, *cells in rows[1:]:
        within = intervals.get(label, [""] * len(cells))
        cells = (f"<td{s}>{c}<small>{w}</small></td>" for s, c, w in zip(style, cells, within))
        body.append(f'<tr><th scope="row">{html.escape(label)}</th>{"".join(cells)}</tr>')
    fewer = "" if draws == DRAWS else ", fewer than usual to save time"
    return (
        f'<div class="map" data-protocol="{protocol}"><p class="hint">{html.escape(caption)}</p>'
        f"<table><thead><tr><th>{html.escape(rows[0][0])}</th>{head}</tr></thead>"
        f'<tbody>{"".join(body)}</tbody></table><p class="hint">'
        '<label class="phone"><input type="checkbox" class="all"> all tIoU. </label>'
        f"Small: 95% interval over the test videos ({draws:,} draws with replacement{fewer}). "
        "One seed: what another training would change is not in it."
        f"{html.escape(compared)}</p></div>"
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
