"""FCPXML 1.10: an edit for Final Cut Pro and DaVinci Resolve, times as exact rationals.

Knows no files.
"""

from fractions import Fraction
from xml.etree import ElementTree as ET

from vidground.results.editing import Edit, Span
from vidground.results.safe_text import xml_text

_HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE fcpxml>\n'


def fcpxml(edit: Edit) -> str:
    """Return a project with the whole video as one clip, and its events as markers on it.

    All times are whole frames, written in seconds over the rate's numerator: 24 frames at 23.976
    are 24024/24000s. A result knows nothing of sound, so the clip is told of as a picture without.
    Characters that XML cannot hold become U+FFFD.
    """
    root = ET.Element("fcpxml", version="1.10")
    name, whole = xml_text(edit.name), _time(edit.frames, edit.rate)
    timecode = "DF" if edit.drop_frame else "NDF"
    _add_resources(root, edit)
    event = ET.SubElement(ET.SubElement(root, "library"), "event", name="vidground")
    project = ET.SubElement(event, "project", name=name)
    sequence = ET.SubElement(
        project, "sequence", format="r1", duration=whole, tcStart="0s", tcFormat=timecode
    )
    spine = ET.SubElement(sequence, "spine")
    clip = ET.SubElement(spine, "asset-clip", ref="r2", offset="0s", name=name)
    for key, value in (("start", "0s"), ("duration", whole), ("format", "r1")):
        clip.set(key, value)
    clip.set("tcFormat", timecode)
    for span in edit.spans:
        _add_marker(clip, span, edit.rate)
    ET.indent(root)
    return _HEAD + ET.tostring(root, encoding="unicode") + "\n"


def _add_resources(root: ET.Element, edit: Edit) -> None:
    resources = ET.SubElement(root, "resources")
    ET.SubElement(
        resources,
        "format",
        id="r1",
        frameDuration=_time(1, edit.rate),
        width=str(edit.width),
        height=str(edit.height),
    )
    asset = ET.SubElement(
        resources,
        "asset",
        id="r2",
        name=xml_text(edit.name),
        start="0s",
        duration=_time(edit.frames, edit.rate),
        hasVideo="1",
        format="r1",
        videoSources="1",
    )
    ET.SubElement(asset, "media-rep", kind="original-media", src=edit.url)


def _add_marker(clip: ET.Element, span: Span, rate: Fraction) -> None:
    marker = ET.SubElement(
        clip,
        "marker",
        start=_time(span.first, rate),
        duration=_time(span.frames, rate),
        value=xml_text(span.text),
    )
    if span.event.score is not None:
        marker.set("note", f"score {span.event.score:.3f}")


def _time(frames: int, rate: Fraction) -> str:
    return f"{frames * rate.denominator}/{rate.numerator}s" if frames else "0s"
