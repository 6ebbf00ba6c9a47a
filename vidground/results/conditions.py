"""Conditions under which a result is rejected (`--fail-on`).

Reads a result's quality numbers (`vidground.results.quality`) and warnings. Knows neither models
nor files.
"""

import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from vidground.errors import InputError
from vidground.results.documents import Result, video_of
from vidground.results.types import Captions

_MEASURES: Mapping[str, str] = {
    "empty": "no event or moment at all",
    "truncated": "an answer of the model was cut off",
    "damaged": "packets of the video that could not be decoded",
    "warnings": "warnings of any kind",
    "events": "events or moments",
    "coverage": "share of the video that lies in an event, from 0 to 1",
    "gap": "longest time without an event, in seconds",
    "repeats": "events with the same text as the event before",
    "overlaps": "events that start before an earlier one has ended",
    "out-of-range": "events that end after the video",
}
# Their names in the `quality` of captions; answers to queries do not have them.
_OF_CAPTIONS = {
    "coverage": "coverage",
    "gap": "longest_gap_s",
    "repeats": "repeated",
    "overlaps": "overlaps",
    "out-of-range": "out_of_range",
}
_NEED_A_LIMIT = ("events", "coverage", "gap")
_COMPARISONS: Mapping[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
_FORM = re.compile(r"([a-z-]+)\s*(?:(<=|>=|<|>)\s*(\S+))?")

CONDITION_NAMES = tuple(_MEASURES)
"""The measures that a condition can be about."""


@dataclass(frozen=True, slots=True)
class Condition:
    """A measure of a result and the limit at which the result is rejected.

    Attributes:
        measure: one of `CONDITION_NAMES`.
        comparison: one of < <= > >=.
        limit: in the unit of the measure.
    """

    measure: str
    comparison: str = ">"
    limit: float = 0.0

    def __str__(self) -> str:
        if (self.comparison, self.limit) == (">", 0.0):
            return self.measure
        return f"{self.measure}{self.comparison}{self.limit:g}"

    def objection(self, result: Result) -> str | None:
        """Return why this condition rejects the result; None if it does not."""
        value = measure(result, self.measure)
        if value is None or not _COMPARISONS[self.comparison](value, self.limit):
            return None
        return f"refused by --fail-on {self}: {_MEASURES[self.measure]}: {value:.4g}"


def parse_conditions(text: str) -> tuple[Condition, ...]:
    """Parse conditions separated by commas: "empty,truncated,coverage<0.5".

    A name alone stands for "more than 0".

    Raises:
        InputError: a name, a comparison or a limit is invalid.
    """
    return tuple(_parse(part.strip()) for part in text.split(","))


def first_objection(conditions: tuple[Condition, ...], result: Result) -> str | None:
    """Return why the first condition that rejects the result does so; None if none does."""
    objections = (condition.objection(result) for condition in conditions)
    return next((text for text in objections if text is not None), None)


def measure(result: Result, name: str) -> float | None:
    """Return a measure of a result.

    Args:
        result: captions, or answers to queries.
        name: one of `CONDITION_NAMES`.

    Returns:
        The number; None if the result does not have it, such as `coverage` of answers to queries,
        or some numbers of results of older versions.
    """
    answers = (result,) if isinstance(result, Captions) else result.results
    if name == "empty":
        return float(not result.events)
    if name == "events":
        return float(len(result.events))
    if name == "damaged":
        return float(video_of(result).damaged_packets)
    if name == "warnings":
        return float(sum(len(answer.warnings) for answer in answers))
    if name == "truncated":
        return float(any(answer.quality.get("truncated", False) for answer in answers))
    value = answers[0].quality.get(_OF_CAPTIONS[name])
    return None if value is None else float(value)


def _parse(text: str) -> Condition:
    match = _FORM.fullmatch(text)
    if match is None or match[1] not in _MEASURES:
        raise InputError(
            f"{text!r} is not a condition; give one of {', '.join(_MEASURES)}, alone or with a "
            "limit (coverage<0.5)"
        )
    name, comparison, limit = match.groups()
    if comparison is None:
        if name in _NEED_A_LIMIT:
            raise InputError(f"the condition {name} needs a limit, as in {name}<2")
        return Condition(name)
    try:
        number = float(limit)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise InputError(f"the limit of {text!r} is {limit!r}; it must be a number")
    return Condition(name, comparison, number)
