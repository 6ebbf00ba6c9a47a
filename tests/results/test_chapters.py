"""Chapters: by hand, and read back by FFmpeg."""

from fractions import Fraction
from pathlib import Path

import av
import pytest
from hypothesis import given, settings

from tests.helpers.result_makers import any_events, captions, expected
from vidground.results.formats import render
from vidground.results.types import Event


def test_chapters_by_hand() -> None:
    result = captions(Event(1.5, 4.0, "b = c; #1 \\"), Event(0.0, 2.0, "a\nb"), Event(5, 6, ""))
    assert render(result, "chapters") == (
        ";FFMETADATA1\n"
        "\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=2000\ntitle=a b\n"
        "\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=1500\nEND=4000\ntitle=b \\= c\\; \\#1 \\\\ \n"
        "\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=5000\nEND=6000\ntitle=…\n"
    )
    assert render(captions(), "chapters") == ";FFMETADATA1\n"


@given(any_events(last_s=200 * 3600.0))
@settings(max_examples=30)
def test_ffmpeg_reads_the_chapters_as_the_json_says(
    tmp_path_factory: pytest.TempPathFactory, events: list[Event]
) -> None:
    path = tmp_path_factory.mktemp("chapters") / "a.chapters"
    result = captions(*events)
    Path(path).write_text(render(result, "chapters"), encoding="utf-8")
    with av.open(str(path)) as container:
        assert container.format.name == "ffmetadata"
        found = container.chapters()
    assert {chapter["time_base"] for chapter in found} <= {Fraction(1, 1000)}
    assert [
        (chapter["start"], chapter["end"], chapter["metadata"]["title"].removesuffix(" "))
        for chapter in found
    ] == expected(result, "…")
