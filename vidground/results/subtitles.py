"""Cues as SRT and as WebVTT. Knows neither events nor files."""

import re
from collections.abc import Iterable

from vidground.results.cues import Cue, clock

_ARROW = re.compile(r"-{2,}>")


def srt(cues: Iterable[Cue]) -> str:
    """Return SubRip text: cues numbered from 1, each followed by a blank line; "" without cues.

    The format has no escaping, so `-->` in a text becomes `->`.
    """
    return "".join(
        f"{number}\n{_times(cue, ',')}\n{shorten_arrows(cue.text)}\n\n"
        for number, cue in enumerate(cues, 1)
    )


def vtt(cues: Iterable[Cue]) -> str:
    """Return WebVTT text; without cues the header and a blank line. `&`, `<`, `>` are escaped."""
    blocks = (f"{_times(cue, '.')}\n{_escaped(cue.text)}\n\n" for cue in cues)
    return "WEBVTT\n\n" + "".join(blocks)


def shorten_arrows(text: str) -> str:
    """Return a text in which SRT finds no line of times: `-->` becomes `->`."""
    return _ARROW.sub("->", text)


def _times(cue: Cue, point: str) -> str:
    return f"{clock(cue.start_ms, point)} --> {clock(cue.end_ms, point)}"


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
