"""E.T. Instruct's forms with times as text (`_txt`) or `<vid>` tokens (`_vid`), as evidence.

Both forms name times in the question (`src`) and in the answer (`tgt`), one number for each. In
the evidence form one `<evi>` stands for an interval; a time that is alone becomes an instant.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vidground.language.tokenizers import EVIDENCE, EVIDENCE_END
from vidground.training.data.annotation_fields import FieldError, seconds_of, turns_of

_TIME_TOKEN = "<vid>"
# The second dash is U+2013.
_UNIT = r"(?:\s*(?:seconds|second|secs|sec|s)\b)?"
_NUMBER = r"(?<![\w.])\d+(?:\.\d+)?(?!\d)"
_PAIR = re.compile(rf"({_NUMBER}){_UNIT}\s*(?:-|\u2013|to)\s*({_NUMBER}){_UNIT}")
_SINGLE = re.compile(rf"({_NUMBER}){_UNIT}")
_BETWEEN = re.compile(rf"{_UNIT}\s*(?:-|\u2013|to)\s*")
_AFTER = re.compile(_UNIT)
# Texts round to a tenth of a second.
_TOLERANCE_S = 0.051

Place = tuple[int, int]
"""Start and end of a part of a text, as indices of its characters."""


def evidence_sample(sample: Mapping[str, Any]) -> dict[str, Any]:
    """Return a sample of E.T. Instruct in the evidence form; one that has it is unchanged.

    Raises:
        FieldError: the sample is not a conversation of two turns, or its texts name more or
            fewer times than `src` and `tgt` list.
    """
    question, answer = turns_of(sample.get("conversations"), "conversations")
    if EVIDENCE in answer or answer.startswith(EVIDENCE_END):
        return dict(sample)
    asked, src = _with_evidence(question, seconds_of(sample.get("src"), "src"), "the question")
    said, tgt = _with_evidence(answer, seconds_of(sample.get("tgt"), "tgt"), "the answer")
    converted = {key: value for key, value in sample.items() if key not in ("src", "tgt")}
    if src:
        converted["src"] = src
    if tgt:
        converted["tgt"] = tgt
    stage = EVIDENCE * (len(tgt) // 2) + EVIDENCE_END
    converted["conversations"] = [
        {"from": "human", "value": asked},
        {"from": "gpt", "value": stage + said},
    ]
    return converted


def _with_evidence(text: str, times_s: Sequence[float], name: str) -> tuple[str, list[float]]:
    """Return the text with `<evi>` for its times, and the intervals as flat pairs."""
    if _TIME_TOKEN in text:
        places = [match.span() for match in re.finditer(re.escape(_TIME_TOKEN), text)]
        if len(places) != len(times_s):
            raise FieldError(
                f"{name} holds {_TIME_TOKEN} {len(places)} times and {len(times_s)} times are "
                "listed; it needs one for each"
            )
        mentions = _grouped(text, places, times_s)
    elif not times_s:
        return text, []
    else:
        mentions = list(_named_pairs(text, times_s))
        if 2 * len(mentions) != len(times_s):
            mentions = _grouped(text, _named_singles(text, times_s, name), times_s)
    pieces, end = [], 0
    for (start, stop), _ in mentions:
        pieces.append(text[end:start])
        end = stop
    converted = EVIDENCE.join([*pieces, text[end:]])
    return converted, [time_s for _, interval in mentions for time_s in interval]


def _grouped(
    text: str, places: Sequence[Place], times_s: Sequence[float]
) -> list[tuple[Place, tuple[float, float]]]:
    """Return the intervals with their places: "a - b" is one, a time on its own an instant."""
    found: list[tuple[Place, tuple[float, float]]] = []
    index = 0
    while index < len(places):
        start, stop = places[index]
        first = last = times_s[index]
        if index + 1 < len(places) and _BETWEEN.fullmatch(text, stop, places[index + 1][0]):
            index += 1
            stop, last = places[index][1], times_s[index]
        unit = _AFTER.match(text, stop)
        found.append(((start, unit.end() if unit else stop), (min(first, last), max(first, last))))
        index += 1
    return found


def _named_pairs(
    text: str, times_s: Sequence[float]
) -> Iterator[tuple[Place, tuple[float, float]]]:
    """Yield the "a - b" that are the next two of the times; other numbers are passed over."""
    waiting = list(times_s)
    for match in _PAIR.finditer(text):
        if len(waiting) >= 2 and all(map(_same, match.groups(), waiting)):
            yield match.span(), (min(waiting[:2]), max(waiting[:2]))
            del waiting[:2]


def _named_singles(text: str, times_s: Sequence[float], name: str) -> list[Place]:
    waiting = list(times_s)
    places = []
    for match in _SINGLE.finditer(text):
        if waiting and _same(match.group(1), waiting[0]):
            places.append(match.span(1))
            del waiting[0]
    if waiting:
        raise FieldError(
            f"{name} names {len(places)} of the {len(times_s)} listed times; {waiting[0]:g} s is "
            "the first that is missing"
        )
    return places


def _same(text: str, time_s: float) -> bool:
    return abs(float(text) - time_s) <= _TOLERANCE_S
