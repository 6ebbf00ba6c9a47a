"""Subtitles read back: by hand, from own files, and from those that pysubs2 writes."""

import random
from pathlib import Path

import pysubs2
import pytest
from hypothesis import given, settings

from tests.helpers.result_makers import any_events, captions, expected
from vidground.errors import FormatError
from vidground.results.cues import Cue
from vidground.results.formats import render
from vidground.results.subtitle_reading import read_cues
from vidground.results.types import Event


def read(folder: Path, content: str | bytes) -> list[tuple[int, int, str]]:
    path = folder / "corrected.srt"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return [(cue.start_ms, cue.end_ms, cue.text) for cue in read_cues(path)]


def test_an_srt_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.srt"
    path.write_text("1\n00:00:00,000 --> 00:00:01,250\n=run -> stop\n\n", encoding="utf-8")
    assert read_cues(path) == (Cue(0, 1250, "=run -> stop"),)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r", "\r\r\n"])
def test_every_encoding_and_line_ending_gives_the_same_cues(
    tmp_path: Path, encoding: str, ending: str
) -> None:
    text = "1\n00:00:01,000 --> 00:00:02,000\nGrün\nzwei\n\n2\n00:01:00,000 --> 01:00:00,000\nb\n"
    assert read(tmp_path, text.replace("\n", ending).encode(encoding)) == [
        (1000, 2000, "Grün\nzwei"),
        (60_000, 3_600_000, "b"),
    ]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_both_byte_orders_of_utf_16_are_read(tmp_path: Path, encoding: str) -> None:
    text = "\ufeff1\n00:00:01,000 --> 00:00:02,000\nGrün\n"
    assert read(tmp_path, text.encode(encoding)) == [(1000, 2000, "Grün")]


@pytest.mark.parametrize(
    ("content", "cues"),
    [
        # Numbers that are wrong, missing, or stand apart from their times.
        (
            "7\n00:00:01,000 --> 00:00:02,000\na\n\n7\n00:00:03,000 --> 00:00:04,000\nb\n",
            [(1000, 2000, "a"), (3000, 4000, "b")],
        ),
        (
            "00:00:01,000 --> 00:00:02,000\na\n\n00:00:03,000 --> 00:00:04,000\nb",
            [(1000, 2000, "a"), (3000, 4000, "b")],
        ),
        (
            "1\n\n00:00:01,000 --> 00:00:02,000\n\na\n\n2\n\n00:00:03,000 --> 00:00:04,000\n\nb\n",
            [(1000, 2000, "a"), (3000, 4000, "b")],
        ),
        # No blank line between cues; a text of digits; a blank line inside a text.
        (
            "1\n00:00:01,000 --> 00:00:02,000\n1984\n2\n00:00:03,000 --> 00:00:04,000\nb\n",
            [(1000, 2000, "1984"), (3000, 4000, "b")],
        ),
        (
            "00:00:01,000 --> 00:00:02,000\n1984\n\n00:00:03,000 --> 00:00:04,000\nb\n\nc\n",
            [(1000, 2000, "1984"), (3000, 4000, "b\nc")],
        ),
        # Positions, styling, other spellings of times; what is no styling stays.
        (
            "1\n0:00:01.5-->0:00:02,25  X1:10 X2:20 Y1:5 Y2:7\n{\\an8}<i>a</i> <dog> "
            '<font color="#fff">b</font>\n',
            [(1500, 2250, "a <dog> b")],
        ),
        # Cues out of order are put by time; a cue without text is kept.
        (
            "1\n00:00:03,000 --> 00:00:04,000\n\n2\n00:00:01,000 --> 00:00:02,000\nb\n",
            [(1000, 2000, "b"), (3000, 4000, "")],
        ),
        ("", []),
        ("\n\n", []),
    ],
)
def test_srt_files_of_other_programs_are_read(
    tmp_path: Path, content: str, cues: list[tuple[int, int, str]]
) -> None:
    assert read(tmp_path, content) == cues


def test_webvtt_is_read_without_comments_styles_and_tags(tmp_path: Path) -> None:
    content = (
        "WEBVTT - corrected\nKind: captions\n\nNOTE a comment\nof two lines\n\n"
        "STYLE\n::cue { color: red }\n\nintro\n"
        "00:01.000 --> 00:02.000 line:0 align:start\n<v Ann>a &amp; b</v>\nc <00:01.500>d\n"
        "00:00:03.000 --> 01:00:00.000\n\n\n9\n100:00:00.000 --> 100:00:00.001\n&lt;x&gt;"
    )
    assert read(tmp_path, content) == [
        (1000, 2000, "a & b\nc d"),
        (3000, 3_600_000, ""),
        (360_000_000, 360_000_001, "<x>"),
    ]
    assert read(tmp_path, "WEBVTT\n\n") == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a\n1\n00:00:01,000 --> 00:00:02,000\nb\n", r"line 1: 'a' stands before the first"),
        ("just text", r"line 1: 'just text' stands before the first line of times"),
        ("1\n00:00:01,000 --> 00:00:0x,000\n", r"line 2: .* does not give two times; write"),
        ("\n1\n00:00:01 --> 00:00:02\nb", r"line 3: .* does not give two times; write"),
        ("1\n00:00:02,000 --> 00:00:02,000\n", r"line 2: .* ends no later than it starts"),
        ("1\n00:00:02,000 --> 00:00:01,000\n", r"line 2: .* ends no later than it starts"),
        ("1\n00:75:00,000 --> 01:00:01,000\n", r"line 2: .* has 75 minutes or seconds"),
        ("1\n00:00:01,000 --> 00:00:61,000\n", r"line 2: .* has 61 minutes or seconds"),
        (b"1\n00:00:01,000 --> 00:00:02,000\ngr\xfcn\n", "line 3: not valid UTF-8; save the file"),
        ("1\n00:00:01,000".encode("utf-16-le"), "line 1: holds a NUL character; save the file"),
        ("WEBVTT\n\na\n\n00:01.000 --> 00:02.000\nb", r"line 3: 'a' belongs to no cue"),
        ("WEBVTT\n\n00:02.000 --> 00:01.000\nb", r"line 3: .* ends no later"),
    ],
)
def test_what_cannot_be_read_is_reported_with_its_line(
    tmp_path: Path, content: str | bytes, message: str
) -> None:
    with pytest.raises(FormatError, match=rf"corrected\.srt': {message}"):
        read(tmp_path, content)


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="no such file"):
        read_cues(tmp_path / "gone.srt")
    with pytest.raises(FormatError, match="cannot be read"):
        read_cues("a\0b.srt")


@pytest.mark.parametrize("format", ["srt", "vtt"])
@given(events=any_events(last_s=200 * 3600.0))
@settings(max_examples=60)
def test_what_vidground_writes_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, format: str, events: list[Event]
) -> None:
    folder = tmp_path_factory.mktemp("read")
    # In SRT, arrows are shortened and braces with a backslash are styling; texts avoid both here.
    events = [Event(e.start_s, e.end_s, e.text.replace(">", "").replace("{", "")) for e in events]
    result = captions(*events)
    assert read(folder, render(result, format)) == expected(result, "…")


@pytest.mark.parametrize("format", ["srt", "vtt"])
def test_files_that_pysubs2_writes_are_read(tmp_path: Path, format: str) -> None:
    generator = random.Random(7)
    cues = []
    for number in range(50):
        start_ms = number * 4000 + generator.randrange(1000)
        cues.append((start_ms, start_ms + generator.randrange(1, 3000), f"event {number}\nline"))
    subtitles = pysubs2.SSAFile()
    for start_ms, end_ms, text in cues:
        subtitles.append(pysubs2.SSAEvent(start_ms, end_ms, text=text.replace("\n", r"\N")))
    assert read(tmp_path, subtitles.to_string(format)) == cues
