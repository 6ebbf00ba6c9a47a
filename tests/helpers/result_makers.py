"""Makes small results, by hand and at random, for the tests of what is written."""

import json
from typing import Any

from hypothesis import strategies as st

from vidground.language.safe_text import plain_text
from vidground.results.formats import render
from vidground.results.types import (
    Captions,
    Event,
    GroundingResult,
    Groundings,
    Moment,
    Provenance,
    Relevance,
)
from vidground.video.info import VideoInfo

VIDEO = VideoInfo("in/match.mp4", 4.5, 64, 48, 25.0, True, "h264", 112, 9000, 0, "ab12")
PROVENANCE = Provenance(
    model="toy",
    revision=None,
    vidground_version="0.1.0",
    dtype="float32",
    prompt="What happens?",
    fps=1.0,
    windows_s=((0.0, 3.0), (2.0, 4.5)),
    decoding={"temperature": 0.0, "max_new_tokens": 8},
    time_resolution_s=1.0,
)


def captions(*events: Event, **rest: Any) -> Captions:
    return Captions(events, VIDEO, PROVENANCE, **rest)


def answer(query: str, *moments: Moment, **changed: Any) -> GroundingResult:
    values: dict[str, Any] = {
        "query": query,
        "found": bool(moments),
        "moments": moments,
        "answer": "It is from 1.0 to 2.0 seconds.",
        "relevance": Relevance((0.0, 1.0), (0.1, 0.7)),
        "threshold": 0.5,
        "video": VIDEO,
        "provenance": PROVENANCE,
    }
    return GroundingResult(**(values | changed))


TWO = captions(Event(1.5, 4.0, "A man & a <dog>"), Event(0.0, 1.25, "=run --> stop", 0.75))
ASKED = Groundings(
    (
        answer("a goal", Moment(2.0, 4.0, 0.7), Moment(0.0, 1.0, 0.6), warnings=("cut", "old")),
        answer("a card", warnings=("old",)),
    )
)


@st.composite
def any_events(draw: st.DrawFn, last_s: float) -> list[Event]:
    texts = st.text() | st.text("12 \n\r-><&;{}\\N'\x00\u2028\x85\ud800\x1b[m", max_size=12)
    times = st.lists(st.floats(0, last_s), min_size=2, max_size=2, unique=True)
    pairs = draw(st.lists(st.tuples(times, texts), max_size=5))
    return [Event(min(pair), max(pair), text) for pair, text in pairs]


def expected(result: Captions, empty: str) -> list[tuple[int, int, str]]:
    """The events of the result's JSON, in milliseconds."""
    events = json.loads(render(result, "json"))["events"]
    rows = []
    for event in events:
        start_ms, end_ms = round(event["start_s"] * 1000), round(event["end_s"] * 1000)
        rows.append((start_ms, max(end_ms, start_ms + 1), plain_text(event["text"]) or empty))
    return sorted(rows, key=lambda row: row[:2])
