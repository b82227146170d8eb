"""What a run leaves to look at: pictures of some videos, and the page of all."""

import numpy as np

import eval_detection
import localize
from report import figures, page


def draw(folder, scored, table, n, rule):
    """Fig. 5 for `n` videos, spread evenly over those with something to show, into folder/figures.

    scored: has `records`, `classes`, `truth` (segments, or None). table: EM-MIL's detections.
    """
    truth = scored.truth if scored.truth is not None else table[:0]
    seen = {*table["video"], *truth["video"]}
    shown = [record for record in scored.records if record.name in seen]
    if shown and n:
        (folder / "figures").mkdir(exist_ok=True)
    for k in np.unique(np.linspace(0, len(shown) - 1, min(n, len(shown))).round().astype(int)):
        record = shown[k]
        mine, real = (t[t["video"] == record.name] for t in (table, truth))
        label = real["label"].iloc[0] if len(real) else mine.loc[mine["score"].idxmax(), "label"]
        of_video = real if scored.truth is not None else None
        stem, timeline = timeline_of(scored, record, label, of_video, mine, rule)
        figures.localization_figure(folder / f"figures/{stem}.png", timeline=timeline)


def timeline_of(scored, record, label, truth, found, rule, note=""):
    """(name for a file, figures.Timeline) of one class of one video. truth, found: its segments."""
    scores = record.scores["em-mil"]
    l = localize.fuse(scores["q"], scores["p"][:, list(scored.classes).index(label)], rule.lam)
    levels = [localize.threshold(l, gamma) for gamma in rule.gammas]
    real, mine = (
        t if t is None else t.loc[t["label"] == label, ["t_start", "t_end"]].to_numpy()
        for t in (truth, found)
    )
    stem = "".join(ch if ch.isalnum() or ch in "-_" else "_" for ch in f"{record.name}-{label}")
    edges = localize.times(
        np.arange(len(l) + 1), record.snippet_seconds, record.clip_seconds
    )  # (T + 1,)
    names = label, record.name
    return stem, figures.Timeline(l, edges, record.duration, levels, real, mine, *names, note)


def page_scores(gated, gate, dtype=None):
    """What the page shows of each video: the classes that pass the gate, and EM-MIL's scores where
    there are some.

    gated: (record, video-level scores or None) as methods.apply.class_scores yields them. dtype:
    to keep less.
    """
    for record, of_video in gated:
        q, p = (record.scores.get("em-mil", {}).get(key) for key in "qp")
        if dtype is not None and q is not None:
            q, p = q.astype(dtype), p.astype(dtype)
        passed = [] if of_video is None else localize.gate(of_video, gate).tolist()
        seconds = record.snippet_seconds, record.clip_seconds
        yield page.Scores(record.name, record.duration, q, p, passed, *seconds)


def evaluation(scored, table, protocols):
    """How the detections compare with the ground truth at tIoU 0.5 or nearest to it, under the
    first of `protocols`.

    protocols: {protocol: {tious, ap, segments}} as in results.json. None where nothing has been
    scored.
    """
    if not protocols:
        return None
    protocol, e = next(iter(protocols.items()))
    tiou = min(e["tious"], key=lambda x: abs(x - 0.5))
    kinds, hit = eval_detection.detection_kinds(
        scored.truth, table, tiou, protocol, scored.ambiguous
    )
    by_video = eval_detection.video_ap(scored.truth, table, tiou, protocol, scored.ambiguous)
    ap = {label: values[e["tious"].index(tiou)] for label, values in e["ap"].items()}
    return page.Evaluation(scored.truth, kinds, hit, by_video, ap, e["segments"], tiou)


def write_page(path, about, scored, table, videos, rule, compared=None, log=()):
    """The HTML page. videos: of `page_scores`; compared: of `evaluation`; log: records of
    log.jsonl.
    """
    rule = {"lam": rule.lam, "gammas": list(rule.gammas), "gate": rule.gate}
    data = page.page_content(list(scored.classes), rule, videos, table, compared, log)
    page.write_page(path, about, data)
