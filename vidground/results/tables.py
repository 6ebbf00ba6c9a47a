"""Cues as lists of lines: CSV, TSV, plain text, and chapters for ffmpeg and YouTube.

Knows no files.
"""

import csv
import io
import re
from collections.abc import Iterable, Sequence

from vidground.language.safe_text import plain_text
from vidground.results.cue_shaping import trim
from vidground.results.cues import NO_TEXT, Cue, clock
from vidground.results.documents import Result
from vidground.results.types import Captions

# Spreadsheets take a cell that starts with one of these, or with its full-width twin, for a
# formula. Tabs and line breaks, which some take for one too, never start a plain text. The
# apostrophe itself is among them, so that a reader may always remove one.
_DEFUSED_STARTS = ("'", "=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")

_FFMETADATA_SPECIAL = re.compile(r"([=;#\\\n])")

# https://support.google.com/youtube/answer/9884579: what a description needs to get chapters.
_YOUTUBE_FEWEST = 3
_YOUTUBE_SHORTEST_S = 10
# YouTube accepts no angle brackets in a description.
_YOUTUBE_BRACKETS = str.maketrans({"<": "\u2039", ">": "\u203a"})
_YOUTUBE_OPENING = "Start"
_YOUTUBE_TOO_FEW = (
    f"(Fewer than {_YOUTUBE_FEWEST} chapters of {_YOUTUBE_SHORTEST_S} s or more: YouTube shows "
    "these times as links, not as chapters.)\n"
)


def comma_separated(cues: Iterable[Cue]) -> str:
    """Return CSV with the header `start_s,end_s,score,text`, seconds to the millisecond.

    An unknown score is an empty cell. A text that a spreadsheet would run as a formula, or that
    starts with an apostrophe, gets a leading apostrophe. Removing one leading apostrophe where
    there is one therefore restores every text.
    """
    table = io.StringIO(newline="")
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(("start_s", "end_s", "score", "text"))
    for cue in cues:
        score = "" if cue.score is None else f"{cue.score:.6f}"
        writer.writerow((_seconds(cue.start_ms), _seconds(cue.end_ms), score, defused(cue.text)))
    return table.getvalue()


def defused(text: str) -> str:
    """Return a text that no spreadsheet takes for a formula: an apostrophe may precede it."""
    return "'" + text if text.startswith(_DEFUSED_STARTS) else text


def tab_separated(cues: Iterable[Cue]) -> str:
    """Return TSV with the header `start end text`, times in integer milliseconds, no quoting.

    It is meant for programs: formulas are not defused.
    """
    rows = (f"{cue.start_ms}\t{cue.end_ms}\t{cue.text}\n" for cue in cues)
    return "start\tend\ttext\n" + "".join(rows)


def lines(cues: Iterable[Cue]) -> str:
    """Return one line `[HH:MM:SS.mmm - HH:MM:SS.mmm] text` per cue; "" without cues."""
    return "".join(
        f"[{clock(cue.start_ms, '.')} - {clock(cue.end_ms, '.')}] {cue.text}".rstrip() + "\n"
        for cue in cues
    )


def not_found(result: Result) -> str:
    """Return one line `[not found] query: reason` per query without a moment; "" for captions."""
    if isinstance(result, Captions):
        return ""
    return "".join(
        f"[not found] {plain_text(answer.query)}: {answer.not_found_reason}\n"
        for answer in result.results
        if not answer.found
    )


def chapters(cues: Sequence[Cue]) -> str:
    """Return chapters as ffmpeg's metadata text, in integer milliseconds; texts are the titles.

    Chapters do not overlap, because MP4 has no form for that: each ends no later than the next
    begins, and events that begin together become one chapter with their titles joined by " / ".
    If the first event begins after 0, a chapter titled "…" precedes it, without which MP4 would
    let the first one begin at 0.

    Args:
        cues: sorted by time.
    """
    shown = trim(cues, several=" / ".join)
    if shown and shown[0].start_ms > 0:
        shown.insert(0, Cue(0, shown[0].start_ms, NO_TEXT))
    return ";FFMETADATA1\n" + "".join(
        f"\n[CHAPTER]\nTIMEBASE=1/1000\nSTART={cue.start_ms}\nEND={cue.end_ms}\n"
        f"title={_ffmetadata_escaped(cue.text or NO_TEXT)}\n"
        for cue in shown
    )


def youtube(cues: Sequence[Cue], duration_s: float) -> str:
    """Return chapters for a YouTube description: a line `M:SS title` each, "" without cues.

    Follows YouTube's rules. The first chapter begins at 0:00, titled "Start" if no event begins in
    the first 10 s. Each chapter lasts 10 s or longer: an event that begins sooner after the
    chapter before, or within the last 10 s of the video, adds its text to that chapter's title.
    Times are rounded down, so that no chapter begins after its event. `<` and `>`, which YouTube
    refuses, become single angle quotes (U+2039, U+203A).

    Where fewer than three chapters would remain, every event gets a line of its own, and a first
    line says that YouTube will show links instead of chapters.

    Args:
        cues: sorted by time.
        duration_s: of the video, in seconds.
    """
    if not cues:
        return ""
    starts_s: list[int] = [0]
    titles: list[list[str]] = [[]]
    for cue in cues:
        start_s = cue.start_ms // 1000
        long_enough = start_s - starts_s[-1] >= _YOUTUBE_SHORTEST_S
        if long_enough and duration_s - start_s >= _YOUTUBE_SHORTEST_S:
            starts_s.append(start_s)
            titles.append([])
        titles[-1].append(cue.text or NO_TEXT)
    if len(starts_s) < _YOUTUBE_FEWEST:
        links = (_youtube_line(cue.start_ms // 1000, [cue.text or NO_TEXT]) for cue in cues)
        return _YOUTUBE_TOO_FEW + "".join(links)
    return "".join(map(_youtube_line, starts_s, titles))


def _youtube_line(start_s: int, texts: Sequence[str]) -> str:
    title = " / ".join(dict.fromkeys(texts)).translate(_YOUTUBE_BRACKETS) or _YOUTUBE_OPENING
    return f"{_youtube_time(start_s)} {title}\n"


def _youtube_time(seconds: int) -> str:
    minutes, second = divmod(seconds, 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour}:{minute:02d}:{second:02d}" if hour else f"{minute}:{second:02d}"


def _ffmetadata_escaped(text: str) -> str:
    # ffmpeg takes a line break behind any backslash for an escaped one, even behind two.
    last = " " if text.endswith("\\") else ""
    return _FFMETADATA_SPECIAL.sub(r"\\\1", text) + last


def _seconds(milliseconds: int) -> str:
    return f"{milliseconds // 1000}.{milliseconds % 1000:03d}"
