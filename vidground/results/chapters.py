"""Chapters: cues as ffmpeg's metadata text, which ffmpeg puts into a video. Knows no files."""

import re
from collections.abc import Iterable

from vidground.results.cues import NO_TEXT, Cue

_SPECIAL = re.compile(r"([=;#\\\n])")


def chapters(cues: Iterable[Cue]) -> str:
    """Return a chapter per cue in integer milliseconds, its text as the title.

    Spans stay as they are, overlaps included; players that show one chapter at a time show the
    one that began last.
    """
    return ";FFMETADATA1\n" + "".join(
        f"\n[CHAPTER]\nTIMEBASE=1/1000\nSTART={cue.start_ms}\nEND={cue.end_ms}\n"
        f"title={_escaped(cue.text or NO_TEXT)}\n"
        for cue in cues
    )


def _escaped(text: str) -> str:
    # ffmpeg takes a line break behind any backslash for an escaped one, even behind two.
    last = " " if text.endswith("\\") else ""
    return _SPECIAL.sub(r"\\\1", text) + last
