"""SMPTE timecode: frame numbers written as HH:MM:SS:FF, with and without drop-frame counting.

Drop-frame timecode at 29.97 and 59.94 frames per second leaves out 2 and 4 numbers at the start of
each minute but every tenth, so that it keeps up with the clock (SMPTE ST 12-1). No frame is
dropped. Imports neither torch nor PyAV.
"""

import re
from collections.abc import Iterable, Mapping
from fractions import Fraction

DROP_FRAME_RATES = (Fraction(30000, 1001), Fraction(60000, 1001))
"""Frames per second at which drop-frame timecode is defined."""

DAY_S = 24 * 3600
"""Seconds of a day, after which timecode starts again at 00:00:00:00."""

_TIMECODE = re.compile(r"(\d{1,2}):([0-5]\d):([0-5]\d)([:;.,])(\d{2,3})")


def find_timecode(tags: Iterable[Mapping[str, str]]) -> str | None:
    """Return the start timecode that a file is tagged with, as HH:MM:SS:FF (HH:MM:SS;FF for drop).

    Args:
        tags: metadata of the video stream, the file and its other streams, most specific first.

    Returns:
        The first `timecode` tag that can be read; None if there is none.
    """
    # Matroska writes the names of tags in capitals.
    values = (v for entry in tags for key, v in entry.items() if key.lower() == "timecode")
    for value in values:
        match = _TIMECODE.fullmatch(value.strip())
        if match is not None and int(match[1]) < 24:
            hours, minutes, seconds, mark, frames = match.groups()
            return f"{int(hours):02d}:{minutes}:{seconds}{':' if mark == ':' else ';'}{frames}"
    return None


def is_drop_frame(timecode: str) -> bool:
    """Return whether a timecode is written in drop-frame form, HH:MM:SS;FF."""
    return ";" in timecode


def to_frame_number(timecode: str, rate: Fraction) -> int:
    """Return the number of frames between 00:00:00:00 and a timecode, 0 or above.

    Args:
        timecode: HH:MM:SS:FF or HH:MM:SS;FF. The latter counts as drop-frame at the rates of
            `DROP_FRAME_RATES`, and as the former at all others.
        rate: frames per second; timecode counts in the nearest whole number of them.

    Raises:
        ValueError: it is not a timecode.
    """
    match = _TIMECODE.fullmatch(timecode)
    if match is None:
        raise ValueError(f"{timecode!r} is not a timecode; write it as HH:MM:SS:FF")
    hours, minutes, seconds, frames = (int(match[i]) for i in (1, 2, 3, 5))
    number = ((hours * 60 + minutes) * 60 + seconds) * round(rate) + frames
    if is_drop_frame(timecode) and rate in DROP_FRAME_RATES:
        whole_minutes = hours * 60 + minutes
        number -= _dropped_per_minute(rate) * (whole_minutes - whole_minutes // 10)
    return number


def to_timecode(frame: int, rate: Fraction, *, drop_frame: bool) -> str:
    """Return the timecode of a frame; after 24 hours it starts again at 00:00:00:00.

    Args:
        frame: its number, counted from 00:00:00:00.
        rate: frames per second.
        drop_frame: count in drop-frame form; only at the rates of `DROP_FRAME_RATES`.

    Raises:
        ValueError: drop-frame timecode is not defined at this rate.
    """
    nominal = round(rate)
    if drop_frame and rate not in DROP_FRAME_RATES:
        raise ValueError(f"no drop-frame timecode at {float(rate):g} frames per second")
    number = frame % frames_per_day(rate, drop_frame=drop_frame)
    if drop_frame:
        dropped = _dropped_per_minute(rate)
        tens, rest = divmod(number, 600 * nominal - 9 * dropped)
        # The first minute of ten is whole; each of the other nine begins `dropped` numbers late.
        later_minutes = max(rest - dropped, 0) // (60 * nominal - dropped)
        number += dropped * (9 * tens + later_minutes)
    seconds, frames = divmod(number, nominal)
    minutes, second = divmod(seconds, 60)
    hour, minute = divmod(minutes, 60)
    mark = ";" if drop_frame else ":"
    return f"{hour:02d}:{minute:02d}:{second:02d}{mark}{frames:02d}"


def frames_per_day(rate: Fraction, *, drop_frame: bool) -> int:
    """Return how many frames timecode counts before it starts again.

    24 hours of drop-frame timecode are 24 hours by the clock; of other timecode they are 24 hours
    at the nearest whole number of frames per second.
    """
    if not drop_frame:
        return DAY_S * round(rate)
    return DAY_S * round(rate) - _dropped_per_minute(rate) * (24 * 60 - 24 * 6)


def _dropped_per_minute(rate: Fraction) -> int:
    return round(rate) // 15
