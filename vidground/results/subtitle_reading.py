"""Read subtitles back: SRT and WebVTT files, as subtitle editors save them, to cues.

Accepts what such programs write: byte order marks, UTF-16, every line ending, missing or wrong
numbers, missing blank lines, positions and styling. What cannot be understood is an error with its
line number, so that no cue is lost or misread silently. Knows neither results nor videos.
"""

import codecs
import html
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from vidground.errors import FormatError
from vidground.results.cues import Cue, by_time
from vidground.storage.files import printable
from vidground.storage.reading import read_bytes

MOST_BYTES = 64 << 20
"""Largest file that is read, 64 MiB: about a million cues."""
SUBTITLE_SUFFIXES = (".srt", ".vtt")
"""Lower-case suffixes of the files that `read_cues` is meant for."""

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_TIME = r"(?:(\d{1,9}):)?(\d{1,2}):(\d{1,2})[.,](\d{1,3})"
# Behind the times: WebVTT's cue settings, or the coordinates (X1:… Y2:…) of some SRT files.
_TIME_LINE = re.compile(rf"\s*{_TIME}\s*-->\s*{_TIME}(?:\s+\S+:\S+)*\s*")
_ALMOST_TIME_LINE = re.compile(r"\s*\d+\s*[:.,].*-->")
_NUMBER = re.compile(r"\s*\d+\s*")
_STYLING = re.compile(r"</?(?:b|i|u|s|font)(?:\s[^<>]*)?>|\{\\[^{}]*\}", re.IGNORECASE)
_VTT_TAG = re.compile(r"<[^<>]*>")
_VTT_HEADER = re.compile(r"WEBVTT(?:[ \t].*)?")
_NOT_A_CUE = re.compile(r"(?:NOTE|STYLE|REGION)(?:\s.*)?")


@dataclass(frozen=True, slots=True)
class _Lines:
    """The lines of a file under its name, for messages. Line numbers start at 1."""

    name: str
    lines: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.lines)

    def cue(self, index: int, text: str) -> Cue:
        """Return the cue whose times stand on the line with this index (from 0)."""
        match = _TIME_LINE.fullmatch(self.lines[index])
        if match is None:
            raise self.error(
                index,
                f"{self.lines[index].strip()!r:.80} does not give two times; write them as "
                "HH:MM:SS,mmm --> HH:MM:SS,mmm",
            )
        start_ms, end_ms = (self._milliseconds(index, match.groups()[i : i + 4]) for i in (0, 4))
        if end_ms <= start_ms:
            raise self.error(
                index, f"{self.lines[index].strip()!r:.80} ends no later than it starts; correct it"
            )
        return Cue(start_ms, end_ms, text)

    def error(self, index: int, what: str) -> FormatError:
        return FormatError(f"{self.name}: line {index + 1}: {what}")

    def _milliseconds(self, index: int, fields: Sequence[str | None]) -> int:
        hours, minutes, seconds = (int(field or 0) for field in fields[:3])
        if minutes > 59 or seconds > 59:
            raise self.error(
                index,
                f"{self.lines[index].strip()!r:.80} has {max(minutes, seconds)} minutes or "
                "seconds; at most 59 are allowed",
            )
        # One or two digits are tenths or hundredths, as in any decimal fraction.
        milliseconds = int((fields[3] or "").ljust(3, "0"))
        return ((hours * 60 + minutes) * 60 + seconds) * 1000 + milliseconds


def read_cues(path: str | Path) -> tuple[Cue, ...]:
    """Read the cues of an SRT or WebVTT file, by (start, end).

    A file that starts with "WEBVTT" is WebVTT, any other is SRT, whatever its name. Styling tags,
    positions, and in WebVTT comments, style sheets and escapes are resolved or removed; line
    breaks in a text stay as "\\n". In SRT, `<...>` other than styling stays text.

    Args:
        path: UTF-8, or UTF-16 with a byte order mark.

    Returns:
        The cues, end after start. Cues with equal times keep their order. Empty for a file
        without cues.

    Raises:
        FormatError: the file cannot be read or is in another encoding; or, with its line number,
            text that belongs to no cue, a time that cannot be read, or a cue that does not end
            after its start.
    """
    name = printable(path)
    data = read_bytes(path, most_bytes=MOST_BYTES)
    # Some programs end a line with two carriage returns.
    lines = re.split(r"\r*\n|\r", _to_text(data, name))
    source = _Lines(name, tuple(lines))
    is_vtt = _VTT_HEADER.fullmatch(lines[0]) is not None
    return tuple(by_time(_vtt_cues(source) if is_vtt else _srt_cues(source)))


def _to_text(data: bytes, name: str) -> str:
    mark, encoding = next(
        ((mark, encoding) for mark, encoding in _MARKS if data.startswith(mark)), (b"", "utf-8")
    )
    try:
        text = data[len(mark) :].decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: len(mark) + error.start].count(b"\n") + 1
        raise FormatError(
            f"{name}: line {line}: not valid {encoding.upper()}; save the file as UTF-8"
        ) from error
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise FormatError(f"{name}: line {line}: holds a NUL character; save the file as UTF-8")
    return text.removeprefix("\ufeff")


def _srt_cues(source: _Lines) -> Iterator[Cue]:
    """Yield the cues of an SRT file: a text lasts until the next line of times."""
    starts = [i for i, line in enumerate(source.lines) if _is_time_line(line)]
    bodies = [_without_number(source, i, end) for i, end in _bodies(starts, len(source))]
    first = _without_number(source, 0, starts[0] if starts else len(source))
    stray = next((i for i in first if source.lines[i].strip()), None)
    if stray is not None:
        raise source.error(
            stray, f"{source.lines[stray].strip()!r:.80} stands before the first line of times"
        )
    for start, body in zip(starts, bodies, strict=True):
        lines = (_STYLING.sub("", source.lines[i]).strip() for i in body)
        yield source.cue(start, "\n".join(line for line in lines if line))


def _bodies(starts: Sequence[int], end: int) -> Iterator[tuple[int, int]]:
    """Yield the half-open range of lines behind each line of times, up to the next one."""
    for start, following in pairwise([*starts, end]):
        yield start + 1, following


def _without_number(source: _Lines, start: int, end: int) -> range:
    """Return the lines from `start` to `end` without the number of the cue that follows.

    The number stands directly above the line of times, or between blank lines; a text of digits
    alone, which no blank line precedes, stays a text.
    """
    if end == len(source):
        return range(start, end)
    last = end - 1
    while last >= start and not source.lines[last].strip():
        last -= 1
    if last < start or not _NUMBER.fullmatch(source.lines[last]):
        return range(start, end)
    follows_blank = last == 0 or not source.lines[last - 1].strip()
    return range(start, last if last == end - 1 or follows_blank else end)


def _vtt_cues(source: _Lines) -> Iterator[Cue]:
    """Yield the cues of a WebVTT file: blocks of lines with blank lines between them."""
    for number, (first, end) in enumerate(_blocks(source.lines)):
        if number == 0 or _NOT_A_CUE.fullmatch(source.lines[first]):
            continue
        # A line above the times is the cue's identifier.
        times = next((i for i in range(first, min(first + 2, end)) if "-->" in source.lines[i]), -1)
        if times < 0:
            raise source.error(
                first, f"{source.lines[first].strip()!r:.80} belongs to no cue; no times precede it"
            )
        lines = (html.unescape(_VTT_TAG.sub("", source.lines[i])) for i in range(times + 1, end))
        yield source.cue(times, "\n".join(line.strip() for line in lines))


def _blocks(lines: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Yield the half-open ranges of lines between blank lines; a line of times starts a new one."""
    start: int | None = None
    times_seen = False
    for i, line in enumerate([*lines, ""]):
        is_times = _is_time_line(line)
        if start is not None and (not line.strip() or (is_times and times_seen)):
            yield start, i
            start, times_seen = None, False
        if line.strip():
            start = i if start is None else start
            times_seen = times_seen or is_times


def _is_time_line(line: str) -> bool:
    return _TIME_LINE.fullmatch(line) is not None or _ALMOST_TIME_LINE.match(line) is not None
