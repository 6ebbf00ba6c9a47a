"""VIA, the VGG Video Annotator (version 3): a result as a project, and projects and CSV read back.

Times are seconds. The text of an event is an attribute of its temporal segment; regions drawn on
single frames are passed over.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from typing import Any

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
from vidground.results.cues import to_cues
from vidground.results.documents import Result, video_of
from vidground.results.types import Event

_RESOLUTION_S = 0.001
_ATTRIBUTE = "caption"
_UNSET = "_DEFAULT"  # what VIA writes for an attribute that was not filled in
_TEXT, _VIDEO, _LOCAL = 1, 4, 1  # VIA's numbers of attribute types, file types and file places
_HEADER = "# CSV_HEADER = "
_ATTRIBUTES = "# ATTRIBUTE = "
_LONGEST_CELL = 1 << 20

Attributes = Mapping[str, Any]


def via(result: Result) -> str:
    """Return a VIA 3 project with the events of `result`; VIA asks for the video when it opens."""
    video = video_of(result)
    name = file_name(video.path)
    segments = {
        f"1_event{number:04d}": {
            "vid": "1",
            "flg": 0,
            "z": [cue.start_ms / 1000, cue.end_ms / 1000],
            "xy": [],
            "av": {"1": cue.text},
        }
        for number, cue in enumerate(to_cues(result.events), start=1)
    }
    project = {
        "project": {
            "pid": "__VIA_PROJECT_ID__",
            "rev": "__VIA_PROJECT_REV_ID__",
            "rev_timestamp": "__VIA_PROJECT_REV_TIMESTAMP__",
            "pname": plain_text(name),
            "creator": "vidground",
            "created": 0,
            "data_format_version": "3.1.1",
            "vid_list": ["1"],
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
                "aname": _ATTRIBUTE,
                "anchor_id": "FILE1_Z2_XY0",
                "type": _TEXT,
                "desc": "What happens",
                "options": {},
                "default_option_id": "",
            }
        },
        "file": {"1": {"fid": "1", "fname": name, "type": _VIDEO, "loc": _LOCAL, "src": ""}},
        "metadata": segments,
        "view": {"1": {"fid_list": ["1"]}},
    }
    return json.dumps(project, indent=1) + "\n"


def read_via(text: str) -> tuple[AnnotatedVideo, ...]:
    """Return the temporal segments of a project, video by video.

    Raises:
        FormatError: the text is not a VIA 3 project, or a segment has impossible times.
    """
    project = as_mapping(parse_json(text), "the project")
    parts = {
        name: as_mapping(project.get(name), f"{name} of a VIA 3 project")
        for name in ("file", "view", "metadata", "attribute")
    }
    events: dict[str, list[Event]] = {view: [] for view in parts["view"]}
    for name, item in parts["metadata"].items():
        segment = as_mapping(item, f"segment {name}")
        view = str(segment.get("vid"))
        if view not in events:
            raise FormatError(f"segment {name} belongs to view {view!r:.40}, which is missing")
        values = as_mapping(segment.get("av"), f"av of segment {name}")
        events[view] += _segment(segment.get("z"), values, parts["attribute"], f"segment {name}")
    return tuple(
        AnnotatedVideo(_video_name(parts, view), by_time(found), _RESOLUTION_S)
        for view, found in events.items()
    )


def read_via_csv(text: str) -> tuple[AnnotatedVideo, ...]:
    """Return the temporal segments of a CSV export, video by video.

    Raises:
        FormatError: the text is not a CSV export of VIA 3, or a segment has impossible times.
    """
    lines = text.replace("\r", "").split("\n")  # texts may hold other separators
    header = next((x[len(_HEADER) :] for x in lines if x.startswith(_HEADER)), None)
    if header is None:
        raise FormatError("has no line '# CSV_HEADER = …'; export it from VIA 3 as CSV")
    named = next((x[len(_ATTRIBUTES) :] for x in lines if x.startswith(_ATTRIBUTES)), "{}")
    attributes = as_mapping(parse_json(named), "the attributes")
    rows = [line for line in lines if line.strip() and not line.startswith("#")]
    csv.field_size_limit(_LONGEST_CELL)
    events: dict[str, list[Event]] = {}
    try:
        for row in csv.DictReader(rows, fieldnames=[x.strip() for x in header.split(",")]):
            where = f"segment {row.get('metadata_id')}"
            files = as_list(parse_json(row.get("file_list") or ""), f"files of {where}")
            name = file_name(str(files[0])) if files else ""
            values = as_mapping(parse_json(row.get("metadata") or ""), f"metadata of {where}")
            events.setdefault(name, []).extend(_segment(_row_times(row), values, attributes, where))
    except csv.Error as error:
        raise FormatError(f"is not CSV: {error}") from error
    return tuple(
        AnnotatedVideo(name or None, by_time(found), _RESOLUTION_S)
        for name, found in events.items()
    )


def _row_times(row: Mapping[str, str | None]) -> Any:
    """Return the times of a row of either of VIA's two CSV exports."""
    if "temporal_coordinates" in row:
        return parse_json(row["temporal_coordinates"] or "")
    return [parse_json(row.get(f"temporal_segment_{end}") or "null") for end in ("start", "end")]


def _segment(
    times: Any, values: Mapping[str, Any], attributes: Attributes, where: str
) -> Iterator[Event]:
    """Yield the event of a segment; nothing for a frame or for the video as a whole."""
    if not isinstance(times, list) or len(times) != 2:
        return
    start_s, end_s = (as_seconds(time, f"a time of {where}") for time in times)
    yield event(start_s, end_s, _text(values, attributes), where)


def _text(values: Mapping[str, Any], attributes: Attributes) -> str:
    """Return what the attributes of a segment say; the caption alone where there is one."""
    texts: dict[str, str] = {}
    for key, value in values.items():
        known = attributes.get(key)
        known = known if isinstance(known, dict) else {}
        options = known.get("options")
        if known.get("type") != _TEXT and isinstance(options, dict):
            value = options.get(str(value), value)
        if value != _UNSET:
            texts[str(known.get("aname", key))] = str(value)
    return texts[_ATTRIBUTE] if _ATTRIBUTE in texts else " ".join(texts.values())


def _video_name(parts: Mapping[str, Mapping[str, Any]], view: str) -> str | None:
    shown = as_mapping(parts["view"][view], f"view {view}")
    files = as_list(shown.get("fid_list"), f"fid_list of view {view}")
    found = parts["file"].get(str(files[0])) if files else None
    if not isinstance(found, dict):
        raise FormatError(f"view {view} shows no file of the project")
    return file_name(str(found.get("fname") or found.get("src") or "")) or None
