"""What a run leaves to look at: the page of all videos, the timeline of one."""

import numpy as np

import eval_detection
import localize
from report import figures, page


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
    tiou = eval_detection.main_tiou(e["tious"])
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
