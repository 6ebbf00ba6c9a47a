"""ELAN: a result as an annotation document (.eaf), and annotation documents read safely.

ELAN counts in milliseconds, and the annotations of a tier must not overlap: events that do are
spread over several tiers. A document that declares a DOCTYPE is refused, so that no entity is ever
expanded or fetched.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NoReturn
from urllib.parse import unquote
from xml.etree import ElementTree

from vidground.errors import FormatError
from vidground.language.safe_text import xml_text
from vidground.results.annotation_tools.annotated_video import (
    AnnotatedVideo,
    by_time,
    event,
    file_name,
)
from vidground.results.cues import Cue, to_cues
from vidground.results.documents import Result, video_of
from vidground.results.editors.editing import to_edit
from vidground.results.types import Event

_TIER = "events"
_SCHEMA = "http://www.mpi.nl/tools/elan/EAFv3.0.xsd"
_TYPE = "event"
_RESOLUTION_S = 0.001
# A document holds no date, so that equal results give equal bytes; ELAN requires one.
_DATE = "1970-01-01T00:00:00+00:00"


def elan(result: Result) -> str:
    """Return an ELAN annotation document with the events of `result`, in milliseconds."""
    video = video_of(result)
    edit = to_edit((), video)
    root = ElementTree.Element(
        "ANNOTATION_DOCUMENT",
        {
            "AUTHOR": "vidground",
            "DATE": _DATE,
            "FORMAT": "3.0",
            "VERSION": "3.0",
            "xmlns:xsi": "http://www.w3.org/2001/XMLSchema-instance",
            "xsi:noNamespaceSchemaLocation": _SCHEMA,
        },
    )
    header = ElementTree.SubElement(root, "HEADER", MEDIA_FILE="", TIME_UNITS="milliseconds")
    ElementTree.SubElement(
        header,
        "MEDIA_DESCRIPTOR",
        MEDIA_URL=edit.url,
        MIME_TYPE="video/mp4" if video.path.lower().endswith(".mp4") else "video/*",
        RELATIVE_MEDIA_URL=f"./{edit.url.rpartition('/')[2]}",
    )
    tiers = _tiers(to_cues(result.events))
    times = sorted({time for tier in tiers for cue in tier for time in (cue.start_ms, cue.end_ms)})
    slots = {time: f"ts{number}" for number, time in enumerate(times, start=1)}
    order = ElementTree.SubElement(root, "TIME_ORDER")
    for time, name in slots.items():
        ElementTree.SubElement(order, "TIME_SLOT", TIME_SLOT_ID=name, TIME_VALUE=str(time))
    _add_tiers(root, tiers, slots)
    ElementTree.SubElement(
        root,
        "LINGUISTIC_TYPE",
        GRAPHIC_REFERENCES="false",
        LINGUISTIC_TYPE_ID=_TYPE,
        TIME_ALIGNABLE="true",
    )
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def read_elan(text: str) -> tuple[AnnotatedVideo, ...]:
    """Return the events of all tiers that depend on no other tier, as of one video.

    Raises:
        FormatError: the text is not an annotation document, declares a DOCTYPE, or an annotation
            has no times.
    """
    root = _parse(text)
    if root.tag != "ANNOTATION_DOCUMENT":
        raise FormatError(f"is XML of {root.tag[:40]!r}; an ELAN file has ANNOTATION_DOCUMENT")
    media = root.find("HEADER/MEDIA_DESCRIPTOR")
    if media is None:
        media = ElementTree.Element("MEDIA_DESCRIPTOR")
    address = unquote(media.get("MEDIA_URL") or media.get("RELATIVE_MEDIA_URL") or "")
    origin_ms = _whole(media.get("TIME_ORIGIN", "0"), "TIME_ORIGIN")
    slots = {slot.get("TIME_SLOT_ID"): slot.get("TIME_VALUE") for slot in root.iter("TIME_SLOT")}
    events = by_time(_annotations(root, slots, origin_ms))
    return (AnnotatedVideo(file_name(address) or None, events, _RESOLUTION_S),)


def _tiers(cues: Sequence[Cue]) -> list[list[Cue]]:
    """Return the cues in as few tiers without overlaps as they need; at least one tier."""
    tiers: list[list[Cue]] = [[]]
    for cue in cues:
        free = next((t for t in tiers if not t or t[-1].end_ms <= cue.start_ms), None)
        if free is None:
            tiers.append([cue])
        else:
            free.append(cue)
    return tiers


def _add_tiers(
    root: ElementTree.Element, tiers: Sequence[Sequence[Cue]], slots: Mapping[int, str]
) -> None:
    number = 0
    for index, cues in enumerate(tiers, start=1):
        name = _TIER if index == 1 else f"{_TIER} {index}"
        tier = ElementTree.SubElement(root, "TIER", LINGUISTIC_TYPE_REF=_TYPE, TIER_ID=name)
        for cue in cues:
            number += 1
            outer = ElementTree.SubElement(tier, "ANNOTATION")
            aligned = ElementTree.SubElement(
                outer,
                "ALIGNABLE_ANNOTATION",
                ANNOTATION_ID=f"a{number}",
                TIME_SLOT_REF1=slots[cue.start_ms],
                TIME_SLOT_REF2=slots[cue.end_ms],
            )
            ElementTree.SubElement(aligned, "ANNOTATION_VALUE").text = xml_text(cue.text)


class _WithoutDoctype(ElementTree.TreeBuilder):
    """Refuses a document type before anything that it declares is read."""

    def doctype(self, *_declared: str | None) -> NoReturn:
        raise FormatError("declares a DOCTYPE, which no ELAN file has; save it with ELAN")


def _parse(text: str) -> ElementTree.Element:
    parser = ElementTree.XMLParser(target=_WithoutDoctype())
    try:
        # As bytes: a declaration of another encoding would be refused in a string.
        parser.feed(text.encode("utf-8", errors="replace"))
        root = parser.close()
    except ElementTree.ParseError as error:
        raise FormatError(f"is not well-formed XML: {error}") from error
    except (ValueError, LookupError) as error:
        raise FormatError(f"is XML in an unknown encoding: {error}") from error
    return root


def _annotations(
    root: ElementTree.Element, slots: Mapping[str | None, str | None], origin_ms: int
) -> Iterator[Event]:
    for tier in root.iter("TIER"):
        if tier.get("PARENT_REF") is not None:
            continue
        for item in tier.iter("ALIGNABLE_ANNOTATION"):
            where = f"annotation {item.get('ANNOTATION_ID')!r:.40}"
            times = [slots.get(item.get(f"TIME_SLOT_REF{end}")) for end in (1, 2)]
            if None in times:
                raise FormatError(f"{where} has no times; align it in ELAN, or remove it")
            start_ms, end_ms = (_whole(str(time), where) + origin_ms for time in times)
            text = item.findtext("ANNOTATION_VALUE") or ""
            yield event(start_ms / 1000, end_ms / 1000, text, where)


def _whole(value: str, where: str) -> int:
    if len(value) > 15 or not value.strip().lstrip("-").isdecimal():
        raise FormatError(f"{where} has the time {value!r:.40}; it must be whole milliseconds")
    return int(value)
