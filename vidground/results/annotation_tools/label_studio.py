"""Label Studio: a result as a task with pre-annotations, and tasks exported as JSON.

Events are regions of a `TimelineLabels` control, in frames from 1, both ends inclusive, at the
frame rate that the task's `fps` names. The text of an event is in a `TextArea` of the region.
`LABELING_CONFIG` is the labelling interface that both belong to.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from vidground.errors import FormatError
from vidground.language.safe_text import plain_text
from vidground.results.annotation_tools.annotated_video import (
    AnnotatedVideo,
    as_list,
    as_mapping,
    as_seconds,
    by_time,
    event,
    file_name,
    parse_json,
)
from vidground.results.documents import Result, video_of
from vidground.results.types import Captions, Event

LABELING_CONFIG = """<View>
  <TimelineLabels name="events" toName="video">
    <Label value="Event"/>
  </TimelineLabels>
  <Video name="video" value="$video" frameRate="$fps" timelineHeight="120"/>
  <TextArea name="text" toName="video" perRegion="true" editable="true" displayMode="region-list"/>
</View>
"""
"""The labelling interface of a project for vidground's tasks."""

_LABEL = "Event"
_LOCAL_FILES = "/data/local-files/?d="


def label_studio(result: Result) -> str:
    """Return a JSON list of one task whose pre-annotations are the events of `result`.

    The video is addressed as a local file, relative to Label Studio's document root.

    Raises:
        FormatError: the frame rate of the video is unknown.
    """
    video = video_of(result)
    if not video.fps:
        raise FormatError(
            f"labelstudio: the frame rate of {video.path} is unknown, and Label Studio counts in "
            "frames; use elan or via"
        )
    regions = [
        item
        for number, found in enumerate(by_time(result.events), start=1)
        for item in _region(found, f"event{number}", video.fps)
    ]
    provenance = result.provenance if isinstance(result, Captions) else result.results[0].provenance
    task = {
        "data": {"video": _LOCAL_FILES + quote(video.path.lstrip("/")), "fps": video.fps},
        "predictions": [{"model_version": provenance.model, "result": regions}],
    }
    return json.dumps([task], indent=2) + "\n"


def read_label_studio(text: str) -> tuple[AnnotatedVideo, ...]:
    """Return the annotated videos of a project exported as JSON; tasks nobody annotated are left.

    Of several annotations of a task the ground truth counts, else the one updated last.

    Raises:
        FormatError: the text is not such an export, or a task does not say its frame rate.
    """
    return tuple(_annotated(as_list(parse_json(text), "the export")))


def _region(found: Event, name: str, fps: float) -> list[dict[str, Any]]:
    first = round(found.start_s * fps) + 1
    ranges = [{"start": first, "end": max(round(found.end_s * fps), first)}]
    common: dict[str, Any] = {"id": name, "to_name": "video"}
    if found.score is not None:
        common["score"] = float(found.score)
    label = {"ranges": ranges, "timelinelabels": [_LABEL]}
    said = {"ranges": ranges, "text": [plain_text(found.text)]}
    return [
        {**common, "from_name": "events", "type": "timelinelabels", "value": label},
        {**common, "from_name": "text", "type": "textarea", "value": said},
    ]


def _annotated(tasks: list[Any]) -> Iterator[AnnotatedVideo]:
    for number, item in enumerate(tasks):
        where = f"task {number}"
        task = as_mapping(item, where)
        if "annotations" not in task:
            raise FormatError(f"{where} has no annotations; export the project as JSON")
        chosen = _chosen(as_list(task["annotations"], f"{where}: annotations"), where)
        if chosen is None:
            continue
        data = as_mapping(task.get("data"), f"{where}: data")
        fps = _frame_rate(data, where)
        events = _events(as_list(chosen.get("result"), f"{where}: result"), fps, where)
        yield AnnotatedVideo(_video_name(data, where), by_time(events), 1 / fps)


def _chosen(annotations: list[Any], where: str) -> Mapping[str, Any] | None:
    """Return the annotation that counts; None if there is none."""
    known = [as_mapping(item, f"{where}: annotation") for item in annotations]
    known = [item for item in known if not item.get("was_cancelled")]
    return max(
        known,
        key=lambda item: (bool(item.get("ground_truth")), str(item.get("updated_at", ""))),
        default=None,
    )


def _frame_rate(data: Mapping[str, Any], where: str) -> float:
    fps = data.get("fps")
    if isinstance(fps, bool) or not isinstance(fps, int | float) or not 0 < fps <= 1000:
        raise FormatError(
            f"{where}: data.fps is {fps!r:.40}, and Label Studio counts in frames; give each task "
            "the frameRate of its labelling interface as fps (24 where that sets none)"
        )
    return float(fps)


def _video_name(data: Mapping[str, Any], where: str) -> str:
    address = data.get("video")
    if not isinstance(address, str) or not address.strip():
        raise FormatError(f"{where}: data.video is {address!r:.40}; it must address the video")
    parts = urlsplit(address)
    local = parse_qs(parts.query).get("d")
    return file_name(local[0] if local else unquote(parts.path))


def _events(items: list[Any], fps: float, where: str) -> Iterator[Event]:
    texts: dict[str, str] = {}
    spans: list[tuple[str, str, float, float]] = []
    for item in items:
        region = as_mapping(item, f"{where}: region")
        value = as_mapping(region.get("value"), f"{where}: value")
        name, kind = str(region.get("id")), region.get("type")
        if kind == "textarea":
            said = value.get("text", [])
            texts[name] = " ".join(map(str, said if isinstance(said, list) else [said]))
        elif kind == "timelinelabels":
            label = " ".join(map(str, as_list(value.get("timelinelabels", []), f"{where}: labels")))
            for found in as_list(value.get("ranges"), f"{where}: ranges"):
                frames = as_mapping(found, f"{where}: range")
                start, end = (
                    as_seconds(frames.get(key), f"{where}: {key} of a range")
                    for key in ("start", "end")
                )
                spans.append((name, label, start, end))
    for name, label, start, end in spans:
        text = texts.get(name, "" if label == _LABEL else label)
        yield event((start - 1) / fps, end / fps, text, where)
