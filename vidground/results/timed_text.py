"""Cues as ASS and as TTML, written by pysubs2 (extra `formats`).

pysubs2 reads texts as ASS markup and deletes what is in braces. Texts are therefore escaped for
ASS, and TTML gets its texts after pysubs2 has written everything else. Knows no files.
"""

import io
import re
from collections.abc import Iterable, Sequence
from xml.etree import ElementTree as ET

from vidground.language.safe_text import xml_text
from vidground.results.cues import Cue

_WORD_JOINER = "\u2060"
_TTML = "http://www.w3.org/ns/ttml"
_STYLING = _TTML + "#styling"
_XML = "http://www.w3.org/XML/1998/namespace"


def ass(cues: Iterable[Cue]) -> str:
    """Return Advanced SubStation Alpha text; times are rounded to hundredths of a second.

    The format has no escaping that all players know. libass (mpv, VLC, ffmpeg) shows the texts as
    they are; older players show a backslash for an opening brace, and no player finds commands in
    them. A cue that rounds to nothing lasts 10 ms. From 10 h on, hours take two or more digits,
    which libass reads although the format was made for one.
    """
    from pysubs2 import SSAEvent, SSAFile
    from pysubs2.formats.substation import SubstationFormat

    class Writer(SubstationFormat):
        @staticmethod
        def ms_to_timestamp(requested_ms: int) -> str:
            """Return the time; the original clamps it to 9:59:59.99."""
            minutes, rest = divmod(requested_ms // 10, 6000)
            return f"{minutes // 60}:{minutes % 60:02d}:{rest // 100:02d}.{rest % 100:02d}"

    subtitles = SSAFile()
    # The resolution that pysubs2's style is made for, and that players assume if none is given.
    subtitles.info |= {"PlayResX": "384", "PlayResY": "288"}
    for cue in cues:
        start_ms, end_ms = _hundredths(cue.start_ms), _hundredths(cue.end_ms)
        end_ms = max(end_ms, start_ms + 10)
        subtitles.append(SSAEvent(start_ms, end_ms, text=_ass_escaped(cue.text)))
    text = io.StringIO()
    Writer.to_file(subtitles, text, "ass", header_notice="")
    return text.getvalue()


def ttml(cues: Sequence[Cue]) -> str:
    """Return TTML1: times to the millisecond, text centred at the bottom.

    Characters that XML cannot hold become U+FFFD.
    """
    from pysubs2 import SSAEvent, SSAFile

    subtitles = SSAFile()
    for cue in cues:
        subtitles.append(SSAEvent(cue.start_ms, cue.end_ms, text="…"))
    root = ET.fromstring(subtitles.to_string("ttml"))
    for paragraph, cue in zip(root.iter(f"{{{_TTML}}}p"), cues, strict=True):
        _set_lines(paragraph, xml_text(cue.text).split("\n"))
    _complete(root)
    ET.register_namespace("tt", _TTML)
    ET.register_namespace("tts", _STYLING)
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _ass_escaped(text: str) -> str:
    r"""Return text with `\{` for an opening brace, `\N` for a line break, and no commands.

    Nothing escapes a backslash, but an invisible word joiner after it keeps it from being read
    together with what follows. Players that do not know the escape of a brace find only the empty
    braces after it to read as commands.
    """
    text = text.replace("\\", "\\" + _WORD_JOINER)
    return re.sub(r"\{", r"\\{{}", text).replace("\n", r"\N")


def _hundredths(milliseconds: int) -> int:
    return (milliseconds + 5) // 10 * 10


def _set_lines(paragraph: ET.Element, lines: Sequence[str]) -> None:
    paragraph.text = lines[0]
    for line in lines[1:]:
        ET.SubElement(paragraph, f"{{{_TTML}}}br").tail = line


def _complete(root: ET.Element) -> None:
    """Add what the standard requires and pysubs2 leaves out, and a region of the screen."""
    root.set(f"{{{_XML}}}lang", "")  # unknown
    for style in root.iter(f"{{{_TTML}}}style"):
        style.set(f"{{{_XML}}}id", style.attrib.pop("id"))
    head, body = root.find(f"{{{_TTML}}}head"), root.find(f"{{{_TTML}}}body")
    assert head is not None
    assert body is not None
    layout = ET.SubElement(head, f"{{{_TTML}}}layout")
    place = {"origin": "10% 10%", "extent": "80% 80%", "displayAlign": "after"}
    region = {f"{{{_STYLING}}}{name}": value for name, value in place.items()}
    ET.SubElement(layout, f"{{{_TTML}}}region", {f"{{{_XML}}}id": "bottom"} | region)
    body.set("region", "bottom")
    body.set(f"{{{_STYLING}}}textAlign", "center")
