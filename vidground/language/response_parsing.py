"""Parse a response: the evidence it gathered, and what it says about each piece of evidence.

A response consists of evidence tokens, the end of the evidence stage, and an answer that refers to
the same evidence in the same order (paper, section 3.2). Models do not always follow that form:
parsing never fails on a malformed response, but reports its problems. Imports no torch, and does
not compute intervals.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vidground.errors import InputError
from vidground.language.tokenizers import EVIDENCE_END, TokenIds

Times = tuple[float, ...]
"""Start and end of an interval in seconds, or one instant."""

Decode = Callable[[Sequence[int]], str]
"""Converts token ids to text, see `Tokenizers.decode`."""

# May separate evidence from its caption, or items in a list of evidence.
_SEPARATORS = " \t\n,;.:-\u2013\u2014"
_JOINT = re.compile(rf"^[{re.escape(_SEPARATORS)}]*(?:and[{re.escape(_SEPARATORS)}]*)?$")


@dataclass(frozen=True, slots=True)
class Segment:
    """Text of an answer between two evidence tokens.

    Attributes:
        evidence: ordinal of the preceding evidence token, counted over the whole response; None for
            text before the first evidence token of the answer.
        text: with runs of whitespace collapsed.
    """

    evidence: int | None
    text: str


@dataclass(frozen=True, slots=True)
class ParsedAnswer:
    """A parsed response.

    If the evidence stage was not closed, all text counts as the answer, so that none is lost; only
    a response without text is all evidence. For a model without an evidence stage, everything is
    the answer, and `evidence` equals `answer_evidence`.

    Attributes:
        evidence: ordinals of the evidence tokens of the evidence stage (0, 1, … over all evidence
            tokens of the response).
        answer_evidence: ordinals of the evidence tokens in the answer.
        segments: text of the answer, split at its evidence tokens.
        has_evidence_end: whether the evidence stage was closed.
        balanced: whether the answer refers to as many pieces of evidence as were gathered.
        truncated: whether the response ended without its end-of-turn token.
        problems: descriptions of everything else that is wrong.
    """

    evidence: tuple[int, ...]
    answer_evidence: tuple[int, ...]
    segments: tuple[Segment, ...]
    has_evidence_end: bool
    balanced: bool
    truncated: bool
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Piece:
    """An evidence token (None before the first of a stage) and the exact text after it."""

    evidence: int | None
    text: str


@dataclass(frozen=True, slots=True)
class _Stages:
    """The two stages of a response, as pieces in order."""

    evidence: tuple[_Piece, ...]
    answer: tuple[_Piece, ...]
    evidence_ends: int
    truncated: bool
    staged: bool


def parse_answer(
    token_ids: Sequence[int], *, ids: TokenIds, decode: Decode, evidence_stage: bool = True
) -> ParsedAnswer:
    """Parse a response.

    Args:
        token_ids: the generated tokens; those after the end of turn are ignored.
        ids: ids of the control tokens.
        decode: converts token ids to text, with control tokens (`Tokenizers.decode`).
        evidence_stage: False for a model that answers directly (`D2VLMConfig.evidence_stage`).
    """
    stages = _stages(token_ids, ids=ids, decode=decode, evidence_stage=evidence_stage)
    answer_evidence = _ordinals(stages.answer)
    evidence = _ordinals(stages.evidence) if evidence_stage else answer_evidence
    segments = tuple(Segment(p.evidence, " ".join(p.text.split())) for p in stages.answer)
    return ParsedAnswer(
        evidence=evidence,
        answer_evidence=answer_evidence,
        segments=tuple(s for s in segments if s.evidence is not None or s.text),
        has_evidence_end=stages.evidence_ends > 0,
        balanced=len(evidence) == len(answer_evidence),
        truncated=stages.truncated,
        problems=_problems(stages),
    )


def caption_segments(parsed: ParsedAnswer) -> list[tuple[int, str]]:
    """Read an answer as dense captions, `<evi>, caption. <evi>, caption.`

    Consecutive evidence tokens share the caption that follows them. Evidence without a following
    caption is left out, and so is text before the first evidence.

    Returns:
        (evidence ordinal, caption) in the order of the answer; captions are stripped of separating
        punctuation.
    """
    captions: list[tuple[int, str]] = []
    pending: list[int] = []
    for segment in parsed.segments:
        if segment.evidence is None:
            continue
        pending.append(segment.evidence)
        if _JOINT.match(segment.text):
            continue
        caption = segment.text.strip(_SEPARATORS)
        captions.extend((ordinal, caption) for ordinal in pending)
        pending = []
    return captions


def format_interval(*times_s: float) -> str:
    """Format an interval as `19 - 32 s`, or an instant as `19 s`, with up to two decimals.

    Args:
        times_s: start and end, or one instant, in seconds.
    """
    return f"{_numbers(times_s)} s"


def answer_text(
    token_ids: Sequence[int],
    intervals: Sequence[Times],
    *,
    ids: TokenIds,
    decode: Decode,
    write: Callable[..., str] = format_interval,
    evidence_stage: bool = True,
) -> str:
    """Return the answer as a sentence, with each evidence token replaced by its times.

    Args:
        token_ids: see `parse_answer`.
        intervals: (start, end) in seconds of every evidence token of the response, in order; or
            one number for an instant.
        ids: see `parse_answer`.
        decode: see `parse_answer`.
        write: formats an interval from its one or two numbers.
        evidence_stage: see `parse_answer`.

    Raises:
        InputError: the number of intervals is not that of evidence tokens.
    """
    stages = _stages(token_ids, ids=ids, decode=decode, evidence_stage=evidence_stage)
    _check_count("intervals", intervals, len(_ordinals(stages.evidence + stages.answer)))
    text, after_interval = "", False
    for piece in stages.answer:
        if piece.evidence is not None:
            if after_interval:
                text = text.rstrip() + ", "
            text = _spaced(text, write(*intervals[piece.evidence]))
            text = _spaced(text, piece.text)
        else:
            text += piece.text
        after_interval = piece.evidence is not None and not piece.text.strip()
    return re.sub(r" +([,.;:!?)])", r"\1", " ".join(text.split()))


def released_text(
    token_ids: Sequence[int],
    spans: Sequence[Times],
    *,
    ids: TokenIds,
    decode: Decode,
    evidence_stage: bool = True,
) -> str:
    """Return the whole response in the form of the released predictions, `19 - 32 </evi> It is …`.

    Args:
        token_ids: see `parse_answer`.
        spans: (first, last) in seconds of every evidence token of the response, in order, or one
            number for an instant; whole numbers are written without decimals.
        ids: see `parse_answer`.
        decode: see `parse_answer`.
        evidence_stage: see `parse_answer`. Without it the text begins with the `</evi>` of an empty
            stage, so that it is read as an answer, if the model has such a token.

    Raises:
        InputError: the number of spans is not that of evidence tokens.
    """
    tokens, _ = _response(token_ids, ids)
    if not evidence_stage:
        tokens = [token for token in tokens if token != ids.evidence_end]
    pieces = _pieces(tokens, ids=ids, decode=decode)
    _check_count("spans", spans, len(pieces) - 1)
    text = pieces[0].text
    if not evidence_stage and ids.evidence_end is not None:
        text = f"{EVIDENCE_END} {text.lstrip()}"
    for times, piece in zip(spans, pieces[1:], strict=True):
        text += f"{_numbers(times)} {piece.text}"
    return text.strip()


def _stages(
    token_ids: Sequence[int], *, ids: TokenIds, decode: Decode, evidence_stage: bool
) -> _Stages:
    """Split a response at its first </evi>; later ones are counted and removed."""
    tokens, truncated = _response(token_ids, ids)
    ends_at = [index for index, token in enumerate(tokens) if token == ids.evidence_end]
    ends = len(ends_at)
    if not evidence_stage:
        answer = [token for token in tokens if token != ids.evidence_end]
        return _Stages((), _pieces(answer, ids=ids, decode=decode), ends, truncated, staged=False)
    if not ends:
        pieces = _pieces(tokens, ids=ids, decode=decode)
        has_text = any(piece.text.strip() for piece in pieces)
        evidence, answer_pieces = ((), pieces) if has_text else (pieces, ())
        return _Stages(evidence, answer_pieces, ends, truncated, staged=True)
    cut = ends_at[0]
    gathered = tokens[:cut]
    answer = [token for token in tokens[cut:] if token != ids.evidence_end]
    return _Stages(
        evidence=_pieces(gathered, ids=ids, decode=decode),
        answer=_pieces(
            answer,
            ids=ids,
            decode=decode,
            lead=ids.evidence_end,
            first=gathered.count(ids.evidence),
        ),
        evidence_ends=ends,
        truncated=truncated,
        staged=True,
    )


def _response(token_ids: Sequence[int], ids: TokenIds) -> tuple[list[int], bool]:
    """Return the tokens up to the end of turn, and whether that end is missing."""
    tokens = list(token_ids)
    truncated = ids.turn_end not in tokens
    if not truncated:
        tokens = tokens[: tokens.index(ids.turn_end)]
    return [token for token in tokens if token != ids.pad], truncated


def _pieces(
    tokens: list[int], *, ids: TokenIds, decode: Decode, lead: int | None = None, first: int = 0
) -> tuple[_Piece, ...]:
    """Split at evidence tokens; the first piece is the text before them, which may be empty.

    Args:
        tokens: of a stage.
        ids: of the control tokens.
        decode: converts token ids to text.
        lead: the control token before `tokens`, if any.
        first: ordinal of the first evidence token.
    """
    chunks: list[list[int]] = [[]]
    for token in tokens:
        if token == ids.evidence:
            chunks.append([])
        else:
            chunks[-1].append(token)
    pieces = [_Piece(None, _text(chunks[0], lead, decode))]
    for number, chunk in enumerate(chunks[1:], start=first):
        pieces.append(_Piece(number, _text(chunk, ids.evidence, decode)))
    return tuple(pieces)


def _text(chunk: list[int], lead: int | None, decode: Decode) -> str:
    """Return the exact text of a chunk that follows the control token `lead`."""
    if not chunk or lead is None:
        return decode(chunk) if chunk else ""
    # Some tokenizers drop the leading space of a chunk that is converted on its own.
    return decode([lead, *chunk]).removeprefix(decode([lead]))


def _ordinals(pieces: Sequence[_Piece]) -> tuple[int, ...]:
    return tuple(piece.evidence for piece in pieces if piece.evidence is not None)


def _problems(stages: _Stages) -> tuple[str, ...]:
    gathered, referred = len(_ordinals(stages.evidence)), len(_ordinals(stages.answer))
    ends, expected = stages.evidence_ends, int(stages.staged)
    checks = [
        (
            stages.staged and ends == 0,
            "the model did not separate the search for events from its answer; events may be "
            "missing or their times wrong",
        ),
        (
            ends > expected,
            "the answer is not in the usual form (ends of the search for events: "
            f"{ends}, expected: {expected}); check the texts and times of its events",
        ),
        (
            any(piece.text.strip() for piece in stages.evidence),
            "the model wrote text where it only searches for events; that text is left out",
        ),
        (
            stages.staged and gathered != referred,
            f"the model found {_events(gathered)} but its answer refers to {_events(referred)}; "
            "events may be missing or repeated",
        ),
        (
            not any(piece.text.strip() for piece in stages.answer),
            "the answer has no text, so that its events have no description",
        ),
    ]
    return tuple(message for wrong, message in checks if wrong)


def _events(count: int) -> str:
    return "1 event" if count == 1 else f"{count} events"


def _check_count(name: str, given: Sequence[object], needed: int) -> None:
    if len(given) != needed:
        raise InputError(
            f"{len(given)} {name} for {needed} evidence tokens in the response; pass one for each"
        )


def _spaced(left: str, right: str) -> str:
    """Join two texts, with a space if two words would run together."""
    return f"{left} {right}" if left[-1:].isalnum() and right[:1].isalnum() else left + right


def _numbers(times_s: Times) -> str:
    return " - ".join(map(_number, times_s))


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
