"""Read a model's response: intervals, numbers, option letters and timed captions.

A D2VLM response grounds first and then answers: `<evi>… </evi> answer`. In text every `<evi>`
reads `start - end` in seconds. E.T. Bench's released scorer ("official") reads the whole
response; the one released with D2VLM ("strict") reads evidence and answer separately and counts a
response without `</evi>` as unreadable. Independent of tasks and scores; never raises on odd text.
"""

import math
import re
from typing import Literal

from vidground.language.tokenizers import EVIDENCE_END
from vidground.training.data.interval_metrics import Interval

Rules = Literal["official", "strict"]
"""Read like E.T. Bench's own scorer, or like the one released with D2VLM."""

TimedCaption = tuple[Interval, str]
"""An interval in seconds and its caption."""

GUESS_RADIUS_S = 20.0
"""A caption with one time instead of two spans this many seconds on both sides of it."""

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


def answer_text(response: str, rules: Rules, *, staged: bool = True) -> str | None:
    """Return the part to score: the whole response, or what follows `</evi>` (strict rules).

    Args:
        response: what the model said. Of several `</evi>` the last one counts.
        rules: without `</evi>` the strict ones give None.
        staged: False for a model that answers without gathering evidence first, such as E.T. Chat;
            the strict rules read its whole response.
    """
    if rules == "official" or not staged:
        return response
    return response.rpartition(EVIDENCE_END)[2] if EVIDENCE_END in response else None


def evidence_text(response: str) -> str:
    """Return the part before the first `</evi>`; empty if there is none."""
    return response.partition(EVIDENCE_END)[0] if EVIDENCE_END in response else ""


def read_intervals(text: str) -> tuple[Interval, ...]:
    """Return all intervals of a text in its order; empty if nothing can be read.

    The forms tried are `3 - 9`, then `3 to 9`, then one time per sentence: the first number of
    every sentence (ended by `!`, `?` or a line break) with "start", "end" or "happen", in pairs.
    Reversed times are swapped.
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
    # A number with hundreds of digits is infinite, which is not a time.
    return tuple((min(pair), max(pair)) for pair in seconds if math.isfinite(max(pair)))


def read_number(text: str) -> float | None:
    """Return the first number of a text, signed or not; None if there is none."""
    found = _SIGNED.search(text)
    number = float(found.group()) if found else math.inf
    return number if math.isfinite(number) else None


def read_option(response: str, options: int) -> int | None:
    """Return the option chosen by letter, from 0; None if no valid letter can be read.

    A letter at the beginning counts (`B`, `(B)`, `B. because`, `Best Option: (B) …`), otherwise the
    first letter in brackets. The letter is final: a wrong or missing one is not replaced by the
    option with the most similar text, as the released scorers do.

    Args:
        response: what the model said; only what follows `</evi>` is read, if there is one.
        options: number of options; letters beyond it are skipped.
    """
    answer = response.rpartition(EVIDENCE_END)[2].lower().removeprefix(_OPTION_PREFIX).lstrip()
    leading = _LETTER.match(answer)
    letters = [leading.group(1)] if leading else []
    letters += _BRACKETED_LETTER.findall(answer)
    chosen = (ord(letter) - ord("a") for letter in letters)
    return next((option for option in chosen if option < options), None)


def read_captions(text: str) -> tuple[TimedCaption, ...]:
    """Return dense captions such as `3 - 9, stir. 9 - 12, serve.`, lower-cased, in text order.

    Other forms are tried as in the released scorers: `start time: … end time: … description: …`,
    then the first sentence with a time in it, where a single time spans `GUESS_RADIUS_S` on both
    sides. Pieces of text shorter than six characters are not captions; the n-th interval belongs
    to the n-th caption, and the rest on either side is dropped.
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
    """Return the interval of `3 - 9`, one or two clock times (`1:05`), or one or two numbers."""
    dashed = _ordered(_DASHED.findall(text))
    if dashed:
        return dashed[0]
    clocks = [60.0 * float(minutes) + float(seconds) for minutes, seconds in _CLOCK.findall(text)]
    times = clocks or [float(number) for number in re.findall(r"\d+(?:\.\d+)?", text)]
    if not 1 <= len(times) <= 2 or not all(map(math.isfinite, times)):
        return None
    if len(times) == 2:
        return min(times), max(times)
    # Near the beginning the span is shifted, not cut, as in the released scorers.
    start = times[0] - GUESS_RADIUS_S if times[0] > GUESS_RADIUS_S else times[0]
    return start, start + 2 * GUESS_RADIUS_S
