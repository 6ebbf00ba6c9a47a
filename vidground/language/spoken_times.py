"""How times are written for a model that matches frames, and read back from its answers.

Questions and annotations write `<evi>` for an interval, whatever the model. A model that matches
(E.T. Chat) expresses an interval as two instants, `<vid> - <vid>`, and an instant as one. Imports
no torch.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from vidground.errors import InputError
from vidground.language.prompts import Prompt
from vidground.language.response_parsing import Decode
from vidground.language.tokenizers import EVIDENCE, EVIDENCE_END, MATCH, TokenIds

Span = tuple[float, float]
"""Start and end of an interval; equal for an instant."""

_DASH = " - "
_MENTION = re.compile(rf"{MATCH}(?:{_DASH}{MATCH})?")
_BETWEEN = re.compile(r"\s*(?:-|\u2013|to)\s*")


def matched_prompt(prompt: Prompt, spans: Sequence[Span]) -> tuple[Prompt, list[Span]]:
    """Return a prompt with `<vid>` in place of `<evi>`, and the instant of each as a span.

    Args:
        prompt: with one `<evi>` for each span, in `before` and then in `after`.
        spans: in any unit.

    Raises:
        InputError: the number of spans is not that of `<evi>`.
    """
    if not spans:
        return prompt, []
    _check(prompt.before + prompt.after, spans)
    cut = prompt.before.count(EVIDENCE)
    said = replace(
        prompt,
        before=_said(prompt.before, spans[:cut]),
        after=_said(prompt.after, spans[cut:]),
        question=_said(prompt.question, spans),
    )
    return said, _instants(spans)


def matched_answer(text: str, spans: Sequence[Span]) -> tuple[str, list[Span]]:
    """Return an answer without its evidence stage and with `<vid>` in place of `<evi>`.

    Args:
        text: an answer as annotated, `<evi>…</evi>… <evi> …`.
        spans: one for each `<evi>` of the answer itself, in any unit.

    Returns:
        the text, and the instant of each `<vid>` as a span.

    Raises:
        InputError: the number of spans is not that of `<evi>`.
    """
    answer = text.rpartition(EVIDENCE_END)[2]
    _check(answer, spans)
    return _said(answer, spans), _instants(spans)


def evidence_text(text: str, times: Sequence[float]) -> tuple[str, list[Span]]:
    """Return a text with `<evi>` in place of `<vid>`, the reverse of `matched_answer`.

    Args:
        text: `<vid> - <vid>` is an interval, any other `<vid>` an instant.
        times: one for each `<vid>`, in any unit.

    Returns:
        the text, and the interval of each `<evi>`; start and end of an instant are equal.

    Raises:
        InputError: the number of times is not that of `<vid>`.
    """
    found = text.count(MATCH)
    if found != len(times):
        raise InputError(
            f"a text has {found} {MATCH} and {len(times)} times; it needs one time for each {MATCH}"
        )
    waiting = iter(times)
    spans = []
    for mention in _MENTION.findall(text):
        instants = [next(waiting) for _ in range(mention.count(MATCH))]
        spans.append((min(instants), max(instants)))
    return _MENTION.sub(EVIDENCE, text), spans


def join_instants(
    token_ids: Sequence[int], *, ids: TokenIds, decode: Decode
) -> tuple[list[int], list[tuple[int, ...]]]:
    """Return an answer with each `<vid> - <vid>` as one `<vid>`.

    Args:
        token_ids: of the answer.
        ids: ids of the control tokens; `evidence` is that of `<vid>`.
        decode: converts token ids to text.

    Returns:
        the tokens, and for each `<vid>` among them which of the `<vid>` of `token_ids` it stands
        for, one or two.
    """
    places = [index for index, token in enumerate(token_ids) if token == ids.evidence]
    joined: list[tuple[int, ...]] = []
    dropped: set[int] = set()
    number = 0
    while number < len(places):
        place = places[number]
        pair = number + 1 < len(places) and _is_between(
            token_ids[place : places[number + 1]], decode
        )
        if pair:
            dropped.update(range(place + 1, places[number + 1] + 1))
        joined.append((number, number + 1) if pair else (number,))
        number += 2 if pair else 1
    return [token for i, token in enumerate(token_ids) if i not in dropped], joined


def _is_between(tokens: Sequence[int], decode: Decode) -> bool:
    """Whether what follows a `<vid>`, the first token, up to the next one makes them a pair."""
    text = decode(tokens).removeprefix(decode(tokens[:1]))
    return _BETWEEN.fullmatch(text) is not None


def _said(text: str, spans: Sequence[Span]) -> str:
    lead, *rest = text.split(EVIDENCE)
    if len(rest) != len(spans):  # the characters of a text that refers to nothing
        return text
    tokens = (MATCH if start == end else MATCH + _DASH + MATCH for start, end in spans)
    return lead + "".join(token + piece for token, piece in zip(tokens, rest, strict=True))


def _instants(spans: Sequence[Span]) -> list[Span]:
    return [
        (time, time) for start, end in spans for time in ([start] if start == end else [start, end])
    ]


def _check(text: str, spans: Sequence[Span]) -> None:
    found = text.count(EVIDENCE)
    if found != len(spans):
        raise InputError(
            f"a text has {found} {EVIDENCE} and {len(spans)} intervals; it needs one {EVIDENCE} "
            "for each interval"
        )
