"""FCPXML 1.10: an edit for Final Cut Pro and DaVinci Resolve, times as exact rationals.

Knows no files.
"""

from fractions import Fraction
from xml.etree import ElementTree as ET

from vidground.language.safe_text import xml_text
from vidground.results.editors.editing import Edit

_HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE fcpxml>\n'


def fcpxml(edit: Edit) -> str:
    """Return a project with the whole video as one clip, and its events as markers on it.

    All times are whole frames, written in seconds over the rate's numerator: 24 frames at 23.976
    are 24024/24000s. Times in the video count from its source timecode; the project starts at 0.
    Sound is declared as the file holds it, and left out if that is unknown. Characters that XML
    cannot hold become U+FFFD.
    """
    root = ET.Element("fcpxml", version="1.10")
    name, start, whole = xml_text(edit.name), _time(edit.start, edit.rate), _length(edit)
    form = "DF" if edit.drop_frame else "NDF"
    _add_resources(root, edit)
    event = ET.SubElement(ET.SubElement(root, "library"), "event", name="vidground")
    project = ET.SubElement(event, "project", name=name)
    sequence = ET.SubElement(
        project, "sequence", format="r1", duration=whole, tcStart="0s", tcFormat=form
    )
    spine = ET.SubElement(sequence, "spine")
    clip = ET.SubElement(spine, "asset-clip", ref="r2", offset="0s", name=name)
    for key, value in (("start", start), ("duration", whole), ("format", "r1")):
        clip.set(key, value)
    clip.set("tcFormat", form)
    _add_markers(clip, edit)
    ET.indent(root)
    return _HEAD + ET.tostring(root, encoding="unicode") + "\n"


def _add_resources(root: ET.Element, edit: Edit) -> None:
    resources = ET.SubElement(root, "resources")
    form = ET.SubElement(resources, "format", id="r1", frameDuration=_time(1, edit.rate))
    form.set("width", str(edit.width))
    form.set("height", str(edit.height))
    asset = ET.SubElement(resources, "asset", id="r2", name=xml_text(edit.name))
    for key, value in {
        "start": _time(edit.start, edit.rate),
        "duration": _length(edit),
        "hasVideo": "1",
        "format": "r1",
        "videoSources": "1",
        **_sound(edit),
    }.items():
        asset.set(key, value)
    ET.SubElement(asset, "media-rep", kind="original-media", src=edit.url)


def _sound(edit: Edit) -> dict[str, str]:
    """Return the attributes that declare an asset's sound."""
    if not edit.sound_tracks:
        return {}
    known = {"audioChannels": edit.sound_channels, "audioRate": edit.sound_rate}
    return {"hasAudio": "1", "audioSources": str(edit.sound_tracks)} | {
        key: str(value) for key, value in known.items() if value is not None
    }


def _add_markers(clip: ET.Element, edit: Edit) -> None:
    for span in edit.spans:
        marker = ET.SubElement(
            clip,
            "marker",
            start=_time(edit.start + span.first, edit.rate),
            duration=_time(span.frames, edit.rate),
            value=xml_text(span.text),
        )
        if span.note:
            marker.set("note", span.note)


def _length(edit: Edit) -> str:
    return _time(edit.frames, edit.rate)


def _time(frames: int, rate: Fraction) -> str:
    return f"{frames * rate.denominator}/{rate.numerator}s" if frames else "0s"
