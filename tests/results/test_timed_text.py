"""ASS and TTML: exact lines, texts that are no commands, read back by pysubs2 and by FFmpeg."""

import re
from xml.etree import ElementTree as ET

import av
import pysubs2
import pytest
from hypothesis import given, settings

from tests.helpers.result_makers import TWO, any_events, captions, expected
from vidground.results.formats import CueSettings, render
from vidground.results.types import Event

pytestmark = pytest.mark.smoke


TT = "{http://www.w3.org/ns/ttml}"
TTS = "{http://www.w3.org/ns/ttml#styling}"
XML_ID = "{http://www.w3.org/XML/1998/namespace}id"
WORD_JOINER = "\u2060"


def as_libass_shows(text: str) -> str:
    """What is seen of an ASS text, by the rules of libass; fails where it finds a command."""
    shown = ""
    while text:
        token = re.match(r"\\N|\\n|\\h|\\\{|\\\}|\{[^}]*\}|.", text, flags=re.DOTALL)
        assert token is not None
        text = text[token.end() :]
        if token[0].startswith("{") and token[0] != "{":
            assert re.fullmatch(r"\{\{*\}", token[0]), "a command"
        else:
            assert token[0] not in {r"\n", r"\h", r"\}"}
            shown += {r"\N": "\n", r"\{": "{"}.get(token[0], token[0])
    return shown.replace("\\" + WORD_JOINER, "\\")


def dialogues(text: str) -> list[str]:
    return [line for line in text.split("\n") if line.startswith("Dialogue")]


def test_ass_by_hand() -> None:
    assert dialogues(render(TWO, "ass")) == [
        "Dialogue: 0,0:00:00.00,0:00:01.25,Default,,0,0,0,,=run --> stop",
        "Dialogue: 0,0:00:01.50,0:00:04.00,Default,,0,0,0,,A man & a <dog>",
    ]
    wrapped = render(TWO, "ass", cues=CueSettings(max_line_width=8))
    assert dialogues(wrapped)[1].endswith(r",,A man &\Na <dog>")


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        (r"{\b1}x{\b0}", rf"\{{{{}}\{WORD_JOINER}b1}}x\{{{{}}\{WORD_JOINER}b0}}"),
        (r"C:\New\{a}", rf"C:\{WORD_JOINER}New\{WORD_JOINER}\{{{{}}a}}"),
        ("end\\", rf"end\{WORD_JOINER}"),
        ("a, b", "a, b"),
    ],
)
def test_ass_texts_hold_no_commands(text: str, escaped: str) -> None:
    (line,) = dialogues(render(captions(Event(0, 1, text)), "ass"))
    assert line.split(",", 9)[9] == escaped
    assert as_libass_shows(escaped) == text


def test_ass_times_are_rounded_to_hundredths_and_last_one_at_least() -> None:
    result = captions(Event(0.004, 0.006, "x"), Event(1.005, 2.0149, "y"))
    assert [line[12:33] for line in dialogues(render(result, "ass"))] == [
        "0:00:00.00,0:00:00.01",
        "0:00:01.01,0:00:02.02",  # 2.0149 s are 2015 ms, and those 202 hundredths
    ]


@given(any_events(last_s=99 * 3600.0))
@settings(max_examples=50)
def test_pysubs2_reads_the_ass_as_the_json_says(events: list[Event]) -> None:
    result = captions(*events)
    read = pysubs2.SSAFile.from_string(render(result, "ass"), format_="ass")
    rows = expected(result, "…")
    assert [as_libass_shows(line.text) for line in read] == [text for _, _, text in rows]
    for line, (start, end, _) in zip(read, rows, strict=True):
        assert abs(line.start - start) <= 5
        assert abs(line.end - max(end, line.start + 10)) <= 5


@given(any_events(last_s=200 * 3600.0))
@settings(max_examples=20)
def test_ffmpeg_reads_the_ass_at_any_hour(
    tmp_path_factory: pytest.TempPathFactory, events: list[Event]
) -> None:
    result = captions(*events)
    path = tmp_path_factory.mktemp("ass") / "a.ass"
    path.write_text(render(result, "ass"), encoding="utf-8")
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(subtitles=0) if packet.pts is not None]
        found = sorted(
            (packet.pts * 10, as_libass_shows(bytes(packet).decode().split(",", 8)[8]))
            for packet in packets
        )
    rows = sorted(((start + 5) // 10 * 10, text) for start, _, text in expected(result, "…"))
    assert found == rows


def test_ttml_by_hand() -> None:
    wrapped = captions(Event(1.5, 4.0, "A man & a <dog> {\\b1}x\\Ny"))
    root = ET.fromstring(render(wrapped, "ttml", cues=CueSettings(max_line_width=16)))
    (paragraph,) = root.iter(f"{TT}p")
    assert (paragraph.get("begin"), paragraph.get("end")) == ("00:00:01.500", "00:00:04.000")
    assert [child.tag for child in paragraph] == [f"{TT}br"]
    assert (paragraph.text, paragraph[0].tail) == ("A man & a <dog>", "{\\b1}x\\Ny")


def test_ttml_refers_to_what_is_there_and_stands_at_the_bottom() -> None:
    root = ET.fromstring(render(TWO, "ttml"))
    assert root.get("{http://www.w3.org/XML/1998/namespace}lang") == ""
    ids = {element.get(XML_ID) for element in root.iter()} - {None}
    referred = {element.get(name) for element in root.iter() for name in ("style", "region")}
    assert referred - {None} == ids == {"Default", "bottom"}
    (region,) = root.iter(f"{TT}region")
    assert region.get(f"{TTS}displayAlign") == "after"


@given(any_events(last_s=200 * 3600.0))
@settings(max_examples=50)
def test_pysubs2_reads_the_ttml_as_the_json_says(events: list[Event]) -> None:
    result = captions(*events)
    read = pysubs2.SSAFile.from_string(render(result, "ttml"), format_="ttml")
    rows = [
        (start, end, text.replace("\ufffe", "\ufffd").replace("\uffff", "\ufffd"))
        for start, end, text in expected(result, "…")
    ]
    # It reads seconds as binary fractions and cuts them off.
    found = [(line.start, line.end) for line in read]
    for (start, end), row in zip(found, rows, strict=True):
        assert 0 <= row[0] - start <= 1
        assert 0 <= row[1] - end <= 1
    root = ET.fromstring(render(result, "ttml"))
    assert [paragraph.text for paragraph in root.iter(f"{TT}p")] == [row[2] for row in rows]


def test_ttml_replaces_what_xml_cannot_hold() -> None:
    text = render(captions(Event(0, 1, "a\ufffeb\uffff\x00\x1b[31mc")), "ttml")
    (paragraph,) = ET.fromstring(text).iter(f"{TT}p")
    assert paragraph.text == "a\ufffdb\ufffdc"


def test_no_events_make_valid_files() -> None:
    assert dialogues(render(captions(), "ass")) == []
    assert list(ET.fromstring(render(captions(), "ttml")).iter(f"{TT}p")) == []
