"""The examples in docs/formats.md are what vidground writes."""

import re
from dataclasses import replace

import pytest

from tests.helpers.paths import ROOT
from tests.helpers.result_makers import VIDEO, captions
from vidground.results.formats import FORMATS, render, suffix_of
from vidground.results.types import Event

PAGE = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
EXAMPLES = dict(re.findall(r'^```\w+ title="([\w-]+)"\n(.*?)^```$', PAGE, re.MULTILINE | re.DOTALL))
VIDEO_OF_EXAMPLES = replace(
    VIDEO,
    path="/films/match.mp4",
    duration_s=60.0,
    frames=1500,
    timecode="14:09:42:00",
    sound_tracks=1,
    sound_channels=2,
    sound_rate=48000,
)
RESULT = replace(
    captions(
        Event(4.0, 9.52, "A man kicks the ball", 0.75),
        Event(30.0, 41.0, "Two players celebrate"),
        Event(45.0, 50.0, "The crowd waves flags"),
    ),
    video=VIDEO_OF_EXAMPLES,
)


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_has_an_example_that_is_what_is_written(format: str) -> None:
    text = render(RESULT, format)
    parts = re.split(r"^…\n", EXAMPLES[format], flags=re.MULTILINE)
    place = 0
    for part in parts:  # in order, whole lines, and from start to end where nothing is left out
        found = f"\n{text}".find(f"\n{part}", place)
        assert found >= 0, part
        place = found + len(part)
    if len(parts) == 1 and format != "json":
        assert parts == [text]


@pytest.mark.parametrize("format", FORMATS)
def test_the_table_names_every_format_and_its_files(format: str) -> None:
    assert re.search(rf"^\| \[`{format}`\]\(#.*\) \| `match{suffix_of(format)}` \|", PAGE, re.M)
