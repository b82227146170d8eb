"""Detections for annotation programs, to be corrected by hand, and what these programs give back.

    write_export("via", "via.json", detections, {"video_1": 63.2, ...})

docs/data.md says how each program opens its file (FiftyOne, Label Studio, VGG Image Annotator 3).
"""

import json
import math
import re
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit
from xml.sax.saxutils import quoteattr

from formats.files import InputError, write_atomically
from formats.program import log

KINDS = ("fiftyone", "labelstudio", "via")
FRAME_RATE = 25  # of Label Studio's timeline, which counts frames; its .xml says the same
NOT_IN_XML = "[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
INTERFACE = """<View>
  <Header value="$name"/>
  <Video name="video" value="$video" frameRate="{rate}"/>
  <TimelineLabels name="action" toName="video">
{labels}
  </TimelineLabels>
</View>"""
# An attribute of type 4 is chosen from a menu, of type 1 written; the anchor says that it belongs
# to a segment of time in one file.
VIA_PROJECT = """{
"project": {"pid": "__VIA_PROJECT_ID__", "rev": "__VIA_PROJECT_REV_ID__",
  "rev_timestamp": "__VIA_PROJECT_REV_TIMESTAMP__", "pname": "EM-MIL detections",
  "creator": "EM-MIL", "created": 0},
"config": {"file": {"loc_prefix": {"1": "", "2": "", "3": "", "4": ""}},
  "ui": {"file_content_align": "center", "file_metadata_editor_visible": true,
    "spatial_metadata_editor_visible": true, "temporal_segment_metadata_editor_visible": true,
    "spatial_region_label_attribute_id": "", "gtimeline_visible_row_count": "4"}},
"attribute": {
  "1": {"aname": "action", "anchor_id": "FILE1_Z2_XY0", "type": 4,
    "desc": "class of the segment", "options": {}, "default_option_id": ""},
  "2": {"aname": "score", "anchor_id": "FILE1_Z2_XY0", "type": 1,
    "desc": "score of the detection", "options": {}, "default_option_id": ""}}
}"""


# ---- writing
def write_export(kind, path, detections, durations, suffix=".mp4"):
    """Writes detections for an annotation program, whole or not at all.

    kind: one of KINDS. path: a .json file; `labelstudio` also writes an .xml file beside it.
    detections: table video, t_start, t_end, label, score; seconds.
    durations: {video: seconds} of all videos, those without detections too.
    suffix: ending of the videos' file names.
    Raises InputError for another kind or suffix of path, and for a detection in a video that has no
    duration.
    """
    path = Path(path)
    if kind not in KINDS:
        raise InputError("export", repr(kind), f"one of {', '.join(KINDS)}")
    if path.suffix.lower() != ".json":
        raise InputError(path, f"suffix {path.suffix!r}", ".json")
    found = {video: [] for video in durations}
    table = detections[["video", "t_start", "t_end", "label", "score"]]
    for video, start, end, label, score in table.itertuples(index=False, name=None):
        if video not in found:
            raise InputError(f"{path}: {video}", "a detection but no duration", "one of each video")
        label = re.sub(NOT_IN_XML, "\ufffd", label)
        found[video].append((start, min(end, durations[video]), label, score))
    classes = sorted({label for rows in found.values() for _, _, label, _ in rows})
    if kind == "labelstudio":
        labels = "\n".join(f"    <Label value={quoteattr(label)}/>" for label in classes)
        _write(path.with_suffix(".xml"), INTERFACE.format(rate=FRAME_RATE, labels=labels))
    make = {"fiftyone": _fiftyone, "labelstudio": _labelstudio, "via": _via}[kind]
    _write(path, json.dumps(make(found, classes, suffix), indent=1, ensure_ascii=False))


def _write(path, text):
    with write_atomically(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8", errors="replace")


def _fiftyone(found, classes, _):
    """labels.json of a FiftyOneTemporalDetectionDataset: labels index classes, times in seconds."""

    def one(start, end, label, score):
        return {"label": classes.index(label), "timestamps": [start, end], "confidence": score}

    return {
        "classes": classes,
        "labels": {video: [one(*row) for row in rows] for video, rows in found.items()},
    }


def _labelstudio(found, _, suffix):
    """Tasks with predictions of TimelineLabels: frames from 1, the last one included."""

    def region(number, start, end, label, score):
        first = math.floor(start * FRAME_RATE) + 1
        frames = {"start": first, "end": max(math.ceil(end * FRAME_RATE), first)}
        return {
            "id": f"detection{number}",
            "type": "timelinelabels",
            "from_name": "action",
            "to_name": "video",
            "score": score,
            "value": {"ranges": [frames], "timelinelabels": [label]},
        }

    def task(video, rows):
        prediction = {
            "model_version": "EM-MIL",
            "score": max((row[3] for row in rows), default=0.0),
            "result": [region(number, *row) for number, row in enumerate(rows, 1)],
        }
        url = f"/data/local-files/?d={quote(video + suffix, errors='replace')}"
        return {"data": {"video": url, "name": video}, "predictions": [prediction]}

    return [task(video, rows) for video, rows in found.items()]


def _via(found, classes, suffix):
    """A project of VIA 3: a view a video, a temporal segment a detection, its class from a menu."""
    project, ids = json.loads(VIA_PROJECT), {label: str(c) for c, label in enumerate(classes, 1)}
    numbers = {video: str(number) for number, video in enumerate(found, 1)}
    project["project"]["vid_list"] = list(numbers.values())
    project["attribute"]["1"]["options"] = {number: label for label, number in ids.items()}
    project["file"] = {
        number: {"fid": number, "fname": video + suffix, "type": 4, "loc": 1, "src": ""}
        for video, number in numbers.items()
    }
    project["view"] = {number: {"fid_list": [number]} for number in numbers.values()}
    project["metadata"] = {}
    for video, rows in found.items():
        for start, end, label, score in rows:
            values = {"1": ids[label], "2": f"{score:.4f}"}
            of_video = {"vid": numbers[video], "flg": 0, "z": [start, end], "xy": [], "av": values}
            number = len(project["metadata"]) + 1
            project["metadata"][f"{numbers[video]}_{number:08d}"] = of_video
    return project


# ---- reading
def records(path, content, scores=True):
    """What an annotation program gives back, as a list of records {video, label, segment[, score]}
    and {video} of each video; None where the JSON is of another kind. InputError, with `path`, for
    a project that is damaged."""
    read = None
    if isinstance(content, dict) and {"file", "view", "metadata", "attribute"} <= content.keys():
        read = _from_via
    elif isinstance(content, dict) and "classes" in content and "labels" in content:
        read = _from_fiftyone
    elif isinstance(content, list) and any(map(_is_task, content)):
        log.warning(f"{path}: times are read as frames, {FRAME_RATE} a second (frameRate in .xml)")
        read = _from_labelstudio
    try:
        found = None if read is None else list(read(content))
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        found = f"a damaged project ({type(error).__name__}: {error})"
        raise InputError(path, found, "what FiftyOne, Label Studio or VIA exports") from None
    for record in found or () if not scores else ():
        record.pop("score", None)
    return found


def _record(video, label, segment, score):
    scored = {} if score in (None, "") else {"score": score}
    return {"video": video, "label": label, "segment": segment, **scored}


def _from_fiftyone(content):
    classes = content["classes"]
    for video, items in content["labels"].items():
        yield {"video": video}
        for item in items or ():
            label, score = item["label"], item.get("confidence")
            label = classes[label] if isinstance(label, int) and classes else label
            yield _record(video, label, item["timestamps"], score)


def _is_task(item):
    about = item.keys() if isinstance(item, dict) else ()
    return "data" in about and "predictions" in about or bool(_regions(item))


def _regions(task):
    """The regions of time of a task: corrected ones, else predicted ones; JSON-MIN has them under
    the name of the labels."""
    task = task if isinstance(task, dict) else {}
    made = task.get("annotations") or task.get("predictions")
    last = made[-1] if isinstance(made, list) else None
    lists = [*task.values(), last.get("result") if isinstance(last, dict) else None]
    found = [one for of in lists if isinstance(of, list) for one in of if isinstance(one, dict)]
    found = [
        {**one, **one["value"]} if isinstance(one.get("value"), dict) else one for one in found
    ]
    return [one for one in found if "timelinelabels" in one]


def _from_labelstudio(content):
    for task in content:
        data = task.get("data", task)
        url = urlsplit(data["video"])
        name = data.get("name") or parse_qs(url.query).get("d", [url.path])[0]
        yield {"video": name}
        for region in _regions(task):
            for frames in region["ranges"]:
                segment = (frames["start"] - 1) / FRAME_RATE, frames["end"] / FRAME_RATE
                yield _record(name, region["timelinelabels"], segment, region.get("score"))


def _from_via(content):
    ids = {one["aname"]: number for number, one in content["attribute"].items()}
    label_id = ids.get("action", list(ids.values())[0])
    options = content["attribute"][label_id]["options"]
    names = {
        view: content["file"][str(of["fid_list"][0])]["fname"]
        for view, of in content["view"].items()
    }
    yield from ({"video": name} for name in names.values())
    for item in content["metadata"].values():
        if not item["xy"]:  # else a region of the picture
            label, score = item["av"].get(label_id), item["av"].get(ids.get("score"))
            yield _record(names[item["vid"]], options.get(label, label), item["z"], score)
