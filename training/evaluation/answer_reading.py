"""Reading a model's response: intervals, numbers, option letters and timed captions.

A D2VLM response grounds first and answers then: `<evi>… </evi> answer`. As text every `<evi>`
reads `start - end` in seconds. E.T. Bench's released scorer ("official") reads the whole
response; the one released with D2VLM ("strict") reads evidence and answer apart and counts a
response without `</evi>` as unreadable. Knows no task and no score; never raises on odd text.
"""

import math
import re
from typing import Literal

from vidground.language.tokenizers import EVIDENCE_END
from vidground.training.data.interval_metrics import Interval

Rules = Literal["official", "strict"]
"""Whose reading: E.T. Bench's scorer, or the one released with D2VLM."""

TimedCaption = tuple[Interval, str]

GUESS_RADIUS_S = 20.0
"""A caption with one time instead of two is taken to span this much on both sides."""

_NUMBER = r"(\d+(?:\.\d*)?)"
_DASHED = re.compile(rf"{_NUMBER}\s*-\s*{_NUMBER}")
_WORDED = re.compile(rf"{_NUMBER}\s* to \s*{_NUMBER}")
_SIGNED = re.compile(r"[-+]?(?:\d*\.\d+|\d+)")
_BARE = re.compile(r"\b(\d+\.\d+|\d+)\b")
_CLOCK = re.compile(r"(\d+):(\d+)")
_START = re.compile(r"start(?:ing)? time: (\d+(?:\.\d*)?)")
_END = re.compile(r"end(?:ing)? time: (\d+(?:\.\d*)?)")
_LETTER = re.compile(r"\(?\s*([a-z])(?:[., )]|$)")
_BRACKETED_LETTER = re.compile(r"\(([a-z])\)")
_OPTION_PREFIX = "best option:"
_SHORTEST_CAPTION = 6
_SHORTEST_SENTENCE = 8


def answer_text(response: str, rules: Rules) -> str | None:
    """The part that is scored: the whole response, or, by the strict rules, what follows `</evi>`.

    None if the strict rules find no `</evi>`. Of several `</evi>` the last one counts.
    """
    if rules == "official":
        return response
    return response.rpartition(EVIDENCE_END)[2] if EVIDENCE_END in response else None


def evidence_text(response: str) -> str:
    """The part before the first `</evi>`; empty if there is none."""
    return response.partition(EVIDENCE_END)[0] if EVIDENCE_END in response else ""


def read_intervals(text: str) -> tuple[Interval, ...]:
    """All intervals of a text, in its order: `3 - 9`, else `3 to 9`, else one time a sentence.

    The last form takes the first number of every sentence (ended by `!`, `?` or a line break)
    that speaks of a start, an end or a happening, and pairs them up. Reversed times are swapped.
    Empty if nothing can be read.
    """
    text = text.lower()
    pairs = _DASHED.findall(text) or _WORDED.findall(text) or _paired_sentence_times(text)
    return _ordered(pairs)


def _paired_sentence_times(text: str) -> list[tuple[str, str]]:
    times = [
        found.group(1)
        for sentence in re.split(r"[!?\n]", text)
        if any(word in sentence for word in ("start", "end", "happen"))
        and (found := _BARE.search(sentence))
    ]
    return list(zip(times[::2], times[1::2], strict=False))


def _ordered(pairs: list[tuple[str, str]]) -> tuple[Interval, ...]:
    seconds = ((float(first), float(second)) for first, second in pairs)
    # A number of some hundred digits is infinite, and no time.
    return tuple((min(pair), max(pair)) for pair in seconds if math.isfinite(max(pair)))


def read_number(text: str) -> float | None:
    """The first number of a text, signed or not; None if there is none."""
    found = _SIGNED.search(text)
    number = float(found.group()) if found else math.inf
    return number if math.isfinite(number) else None


def read_option(response: str, options: int) -> int | None:
    """The option chosen by letter, from 0; None if no letter of the `options` first is read.

    Reads what follows `</evi>`, or the whole response without one. First a letter at the
    beginning (`B`, `(B)`, `B. because`, `Best Option: (B) …`) counts, then the first letter in
    brackets. The letter is final: neither a wrong nor an unread one is second-guessed by
    comparing the answer's text with the options', as the released scorers do.
    """
    answer = response.rpartition(EVIDENCE_END)[2].lower().removeprefix(_OPTION_PREFIX).lstrip()
    leading = _LETTER.match(answer)
    letters = [leading.group(1)] if leading else []
    letters += _BRACKETED_LETTER.findall(answer)
    chosen = (ord(letter) - ord("a") for letter in letters)
    return next((option for option in chosen if option < options), None)


def read_captions(text: str) -> tuple[TimedCaption, ...]:
    """Dense captions: `3 - 9, stir. 9 - 12, serve.`, lower-cased, in the order of the text.

    Other forms are tried as the released scorers do: `start time: … end time: … description: …`,
    then the first sentence with a time in it, where a single time spans `GUESS_RADIUS_S` on both
    sides. Pieces of text shorter than six characters are no captions; the n-th interval belongs
    to the n-th caption, and what is left over on either side is dropped.
    """
    text = re.sub(r"\.{2,}", " ", text.lower())
    intervals = _ordered(_DASHED.findall(text))
    captions = _DASHED.sub("\n", text).replace("seconds", "").split("\n")
    if not intervals:
        intervals = _ordered(list(zip(_START.findall(text), _END.findall(text), strict=False)))
        captions = re.findall(r"description: (.*)", text) or re.findall(r"\*\s*(.*)", text)
    kept = (piece.strip().strip(", ") for piece in captions if len(piece) >= _SHORTEST_CAPTION)
    return tuple(zip(intervals, kept, strict=False)) or _first_timed_sentence(text)


def _first_timed_sentence(text: str) -> tuple[TimedCaption, ...]:
    for sentence in text.split("\n" if "\n" in text else "."):
        interval = _guessed_interval(sentence.partition("seconds")[0])
        if interval and len(sentence) >= _SHORTEST_SENTENCE:
            return ((interval, sentence.rpartition("seconds")[2].strip(", ")),)
    return ()


def _guessed_interval(text: str) -> Interval | None:
    """An interval from `3 - 9`, one or two clock times (`1:05`), or one or two numbers."""
    dashed = _ordered(_DASHED.findall(text))
    if dashed:
        return dashed[0]
    clocks = [60.0 * float(minutes) + float(seconds) for minutes, seconds in _CLOCK.findall(text)]
    times = clocks or [float(number) for number in re.findall(r"\d+(?:\.\d+)?", text)]
    if not 1 <= len(times) <= 2 or not all(map(math.isfinite, times)):
        return None
    if len(times) == 2:
        return min(times), max(times)
    # Near the beginning the span is moved, not cut.
    start = times[0] - GUESS_RADIUS_S if times[0] > GUESS_RADIUS_S else times[0]
    return start, start + 2 * GUESS_RADIUS_S
