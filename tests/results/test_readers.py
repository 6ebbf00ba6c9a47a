"""What independent readers find in the files is what the JSON of the same result says."""

import csv
import io
import itertools
import json
import re
from html import unescape

import av
import pysubs2
import pytest
import webvtt
from hypothesis import assume, given, settings

from tests.helpers.result_makers import any_events, captions, expected
from vidground.results.formats import CueSettings, render
from vidground.results.types import Event

UNITS_MS = (3_600_000, 60_000, 1000)


def undo_arrow(text: str) -> str:
    while "-->" in text:
        text = text.replace("-->", "->")
    return text


def two_timestamps(text: str) -> bool:
    """Whether pysubs2 would take a line of text for a line of times; the formats would not."""
    return max(len(p.findall(text)) for p in pysubs2_timestamps) > 1


pysubs2_timestamps = (
    pysubs2.formats.subrip.SubripFormat.TIMESTAMP,
    pysubs2.formats.webvtt.WebVTTFormat.TIMESTAMP,
)


@given(any_events(last_s=99 * 3600.0))
def test_pysubs2_reads_the_srt_as_the_json_says(events: list[Event]) -> None:
    assume(not any(two_timestamps(event.text) for event in events))
    result = captions(*events)
    read = pysubs2.SSAFile.from_string(render(result, "srt"), format_="srt", keep_html_tags=True)
    assert [(line.start, line.end, line.text) for line in read] == [
        (start, end, undo_arrow(text)) for start, end, text in expected(result, "…")
    ]


@given(any_events(last_s=200 * 3600.0))
@settings(max_examples=30)
def test_ffmpeg_reads_the_srt_at_any_hour(
    tmp_path_factory: pytest.TempPathFactory, events: list[Event]
) -> None:
    assume(events)
    result = captions(*events)
    path = tmp_path_factory.mktemp("srt") / "a.srt"
    path.write_text(render(result, "srt"), encoding="utf-8")
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(subtitles=0) if packet.pts is not None]
        found = {(p.pts, p.pts + p.duration, bytes(p).decode()) for p in packets}
    # It leaves out equal cues.
    assert found == {(start, end, undo_arrow(text)) for start, end, text in expected(result, "…")}


@given(any_events(last_s=200 * 3600.0))
def test_webvtt_reads_the_vtt_as_the_json_says(events: list[Event]) -> None:
    result = captions(*events)
    read = webvtt.from_string(render(result, "vtt")).captions
    # This reader removes tags and leaves the escapes to whoever shows the text.
    assert [
        (cue.start_time.in_milliseconds(), cue.end_time.in_milliseconds(), unescape(cue.text))
        for cue in read
    ] == expected(result, "…")


@given(any_events(last_s=200 * 3600.0))
def test_tables_hold_a_row_per_event(events: list[Event]) -> None:
    result = captions(*events)
    rows = expected(result, "")
    assert [
        (int(start), int(end), text)
        for start, end, text in (r.split("\t") for r in render(result, "tsv").split("\n")[1:-1])
    ] == rows
    table = list(csv.DictReader(io.StringIO(render(result, "csv"))))
    assert [round(float(row["start_s"]) * 1000) for row in table] == [row[0] for row in rows]
    # A leading apostrophe is always one to take away.
    assert [row["text"].removeprefix("'") for row in table] == [row[2] for row in rows]
    assert [txt_row(line) for line in render(result, "txt").split("\n")[:-1]] == rows
    objects = [json.loads(line) for line in render(result, "jsonl").split("\n")[:-1]]
    assert [(o["start_s"], o["end_s"], o["text"]) for o in objects] == [
        (e["start_s"], e["end_s"], e["text"]) for e in json.loads(render(result, "json"))["events"]
    ]


def txt_row(line: str) -> tuple[int, int, str]:
    """What a line of txt says, in milliseconds."""
    match = re.fullmatch(r"\[(\S+) - (\S+)\] ?(.*)", line)
    assert match, line
    start_ms, end_ms = (
        round(sum(float(part) * unit for part, unit in zip(time.split(":"), UNITS_MS, strict=True)))
        for time in match.groups()[:2]
    )
    return start_ms, end_ms, match[3]


@given(any_events(last_s=99 * 3600.0))
def test_wrapped_subtitles_stay_readable(events: list[Event]) -> None:
    assume(not any(two_timestamps(event.text) for event in events))
    text = render(
        captions(*events),
        "srt",
        cues=CueSettings(max_line_width=9, max_line_count=2, max_duration_s=9e4),
    )
    blocks = text.split("\n\n")[:-1]
    read = pysubs2.SSAFile.from_string(text, format_="srt", keep_html_tags=True)
    assert len(read) == len(blocks)
    assert [block.split("\n")[0] for block in blocks] == [str(i + 1) for i in range(len(blocks))]
    assert all((a.start, a.end) <= (b.start, b.end) for a, b in itertools.pairwise(read))
    assert all(line.start < line.end for line in read)
