"""Final Cut Pro 7 XML (xmeml 4): an edit for Premiere Pro, times in whole frames.

Knows no files.
"""

from fractions import Fraction
from xml.etree import ElementTree as ET

from vidground.language.safe_text import xml_text
from vidground.results.editors.editing import Edit

_HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE xmeml>\n'

_FILE, _PICTURES, _SOUND = "file-1", "clipitem-1", "clipitem-2"


def premiere_xml(edit: Edit) -> str:
    """Return a sequence with the whole video as one clip, and its events as sequence markers.

    Times count from 0 at the start of the video, and the file is declared with its source
    timecode and its sound, which also gets a track if the file is known to have any. A marker has
    the event's text as its name and its score as the comment. Characters that XML cannot hold
    become U+FFFD.
    """
    root = ET.Element("xmeml", version="4")
    sequence = ET.SubElement(root, "sequence", id="sequence-1")
    _add(sequence, "name", xml_text(edit.name))
    _add(sequence, "duration", edit.frames)
    _add_rate(sequence, edit.rate)
    _add_timecode(sequence, edit, 0)
    media = ET.SubElement(sequence, "media")
    video = ET.SubElement(media, "video")
    _add_picture_format(ET.SubElement(video, "format"), edit)
    clip = _add_clip(ET.SubElement(video, "track"), edit, _PICTURES)
    _add_file(clip, edit)
    if edit.sound_tracks:
        track = ET.SubElement(ET.SubElement(media, "audio"), "track")
        sound = _add_clip(track, edit, _SOUND)
        ET.SubElement(sound, "file", id=_FILE)
        source = ET.SubElement(sound, "sourcetrack")
        _add(source, "mediatype", "audio")
        _add(source, "trackindex", 1)
        _link(clip, sound)
    _add_markers(sequence, edit)
    ET.indent(root)
    return _HEAD + ET.tostring(root, encoding="unicode") + "\n"


def _add_clip(track: ET.Element, edit: Edit, name: str) -> ET.Element:
    clip = ET.SubElement(track, "clipitem", id=name)
    _add(clip, "name", xml_text(edit.name))
    _add(clip, "duration", edit.frames)
    _add_rate(clip, edit.rate)
    # `start` and `end` are places in the sequence, `in` and `out` in the file.
    for tag, frame in (("start", 0), ("end", edit.frames), ("in", 0), ("out", edit.frames)):
        _add(clip, tag, frame)
    return clip


def _add_file(clip: ET.Element, edit: Edit) -> None:
    file = ET.SubElement(clip, "file", id=_FILE)
    _add(file, "name", xml_text(edit.name))
    _add(file, "pathurl", edit.url)
    _add_rate(file, edit.rate)
    _add(file, "duration", edit.frames)
    _add_timecode(file, edit, edit.start)
    media = ET.SubElement(file, "media")
    _add_picture_format(ET.SubElement(media, "video"), edit)
    for _ in range(edit.sound_tracks or 0):
        audio = ET.SubElement(media, "audio")
        if edit.sound_rate is not None:
            _add(ET.SubElement(audio, "samplecharacteristics"), "samplerate", edit.sound_rate)
        if edit.sound_channels is not None:
            _add(audio, "channelcount", edit.sound_channels)


def _link(*clips: ET.Element) -> None:
    """Link the clips of one file, so that they are selected and moved together."""
    for clip in clips:
        for kind, other in zip(("video", "audio"), clips, strict=True):
            link = ET.SubElement(clip, "link")
            _add(link, "linkclipref", other.attrib["id"])
            _add(link, "mediatype", kind)
            _add(link, "trackindex", 1)
            _add(link, "clipindex", 1)


def _add_markers(sequence: ET.Element, edit: Edit) -> None:
    for span in edit.spans:
        marker = ET.SubElement(sequence, "marker")
        _add(marker, "name", xml_text(span.text))
        _add(marker, "comment", span.note)
        _add(marker, "in", span.first)
        _add(marker, "out", span.end)


def _add_picture_format(parent: ET.Element, edit: Edit) -> None:
    picture = ET.SubElement(parent, "samplecharacteristics")
    _add_rate(picture, edit.rate)
    _add(picture, "width", edit.width)
    _add(picture, "height", edit.height)


def _add_rate(parent: ET.Element, rate: Fraction) -> None:
    """Add a frame rate: a whole number, and whether 1000/1001 of it is meant."""
    element = ET.SubElement(parent, "rate")
    _add(element, "timebase", round(rate))
    _add(element, "ntsc", "FALSE" if rate.denominator == 1 else "TRUE")


def _add_timecode(parent: ET.Element, edit: Edit, frame: int) -> None:
    timecode = ET.SubElement(parent, "timecode")
    _add_rate(timecode, edit.rate)
    _add(timecode, "string", edit.timecode(frame))
    _add(timecode, "frame", frame)
    _add(timecode, "displayformat", "DF" if edit.drop_frame else "NDF")


def _add(parent: ET.Element, tag: str, value: str | int) -> None:
    ET.SubElement(parent, tag).text = str(value)
