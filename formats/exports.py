"""Detections in the forms of annotation programs, for people who correct them by hand.

    write_export("via", "detections-via.json", detections, {"video_1": 63.2, ...})

fiftyone     FiftyOne:
                 fo.Dataset.from_dir(dataset_type=fo.types.FiftyOneTemporalDetectionDataset,
                                     labels_path=FILE, data_path=FOLDER_OF_THE_VIDEOS)
labelstudio  Label Studio: the .xml beside the file is the project's labeling interface, the file is
             imported, the videos lie in a folder that Label Studio serves (local files storage).
via          VGG Image Annotator 3 for video: the file is opened as a project; the browser then asks
             for each video, since a page may not open files on its own.
"""

import json
import math
from pathlib import Path
from xml.sax.saxutils import quoteattr

from formats.files import InputError, write_atomically

KINDS = ("fiftyone", "labelstudio", "via")
FRAME_RATE = 25  # of Label Studio's timeline, which counts frames; its .xml says the same


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
        raise InputError(f"export: found {kind!r}, expected one of {', '.join(KINDS)}")
    if path.suffix.lower() != ".json":
        raise InputError(f"{path}: found suffix {path.suffix!r}, expected .json")
    found = {video: [] for video in durations}
    for video, start, end, label, score in detections[
        ["video", "t_start", "t_end", "label", "score"]
    ].itertuples(index=False, name=None):
        if video not in found:
            raise InputError(
                f"{path}: {video}: found a detection but no duration, expected one of every video"
            )
        found[video].append((start, min(end, durations[video]), label, score))
    classes = sorted(set(detections["label"]))
    content = {"fiftyone": _fiftyone, "labelstudio": _labelstudio, "via": _via}[kind](
        found, classes, suffix
    )
    if kind == "labelstudio":
        _write(path.with_suffix(".xml"), _labelstudio_interface(classes))
    _write(path, json.dumps(content, indent=1, ensure_ascii=False))


def _write(path, text):
    with write_atomically(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def _fiftyone(found, classes, _):
    """labels.json of a FiftyOneTemporalDetectionDataset: labels index classes, times in seconds."""
    index = {label: c for c, label in enumerate(classes)}
    return {
        "classes": classes,
        "labels": {
            video: [
                {"label": index[label], "timestamps": [start, end], "confidence": score}
                for start, end, label, score in rows
            ]
            for video, rows in found.items()
        },
    }


def _labelstudio(found, _, suffix):
    """Tasks with predictions of TimelineLabels: frames from 1, the last one included."""

    def region(number, start, end, label, score):
        first = math.floor(start * FRAME_RATE) + 1
        last = max(math.ceil(end * FRAME_RATE), first)
        return {
            "id": f"detection{number}",
            "type": "timelinelabels",
            "from_name": "action",
            "to_name": "video",
            "score": score,
            "value": {"ranges": [{"start": first, "end": last}], "timelinelabels": [label]},
        }

    return [
        {
            "data": {"video": f"/data/local-files/?d={video}{suffix}", "name": video},
            "predictions": [
                {
                    "model_version": "EM-MIL",
                    "score": max((row[3] for row in rows), default=0.0),
                    "result": [region(number, *row) for number, row in enumerate(rows, 1)],
                }
            ],
        }
        for video, rows in found.items()
    ]


def _labelstudio_interface(classes):
    labels = "\n".join(f"    <Label value={quoteattr(label)}/>" for label in classes)
    return (
        '<View>\n  <Header value="$name"/>\n'
        f'  <Video name="video" value="$video" frameRate="{FRAME_RATE}"/>\n'
        f'  <TimelineLabels name="action" toName="video">\n{labels}\n  </TimelineLabels>\n</View>'
    )


def _via(found, classes, suffix):
    """A project of VIA 3: a view a video, a temporal segment a detection, its class from a menu."""
    options = {str(c): label for c, label in enumerate(classes, 1)}
    ids = {label: c for c, label in options.items()}
    numbers = {video: str(number) for number, video in enumerate(found, 1)}
    segments = [(numbers[video], row) for video, rows in found.items() for row in rows]
    anchor = {"anchor_id": "FILE1_Z2_XY0", "default_option_id": ""}  # a segment of time of one file
    return {
        "project": {
            "pid": "__VIA_PROJECT_ID__",
            "rev": "__VIA_PROJECT_REV_ID__",
            "rev_timestamp": "__VIA_PROJECT_REV_TIMESTAMP__",
            "pname": "EM-MIL detections",
            "creator": "EM-MIL",
            "created": 0,
            "vid_list": list(numbers.values()),
        },
        "config": {
            "file": {"loc_prefix": {"1": "", "2": "", "3": "", "4": ""}},
            "ui": {
                "file_content_align": "center",
                "file_metadata_editor_visible": True,
                "spatial_metadata_editor_visible": True,
                "temporal_segment_metadata_editor_visible": True,
                "spatial_region_label_attribute_id": "",
                "gtimeline_visible_row_count": "4",
            },
        },
        "attribute": {
            "1": {
                "aname": "action",
                "type": 4,
                "desc": "class of the segment",
                "options": options,
                **anchor,
            },
            "2": {
                "aname": "score",
                "type": 1,
                "desc": "score of the detection",
                "options": {},
                **anchor,
            },
        },
        "file": {
            number: {"fid": number, "fname": video + suffix, "type": 4, "loc": 1, "src": ""}
            for video, number in numbers.items()
        },
        "metadata": {
            f"{number}_{k:08d}": {
                "vid": number,
                "flg": 0,
                "z": [start, end],
                "xy": [],
                "av": {"1": ids[label], "2": f"{score:.4f}"},
            }
            for k, (number, (start, end, label, score)) in enumerate(segments, 1)
        },
        "view": {number: {"fid_list": [number]} for number in numbers.values()},
    }
