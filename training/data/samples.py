"""Training samples: a prompt with its frames, and the responses to learn from, as token ids.

Knows no text, no files and no model; what becomes of a batch of them is `training.batches`' matter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from vidground.errors import InputError

Span = tuple[float, float]
"""First and last frame of an interval, as numbers that are still to be rounded."""


@dataclass(frozen=True)
class TrainingPrompt:
    """What stands before a response.

    before, after: token ids of the text around the frames.
    question: the question in the ids of the Q-Former's tokenizer.
    frames: (T, 3, S, S) pixels, as uint8 or normalised by `preprocessing.normalize`; or
        (T, patches, width) patch features, which a frozen vision encoder gives once for all
        epochs; or (T, H) frame tokens, if the compressor is frozen, too. T >= 1.
    spans: the interval of each `<evi>` of `before` and `after`, in order.
    """

    before: Sequence[int]
    after: Sequence[int]
    question: Sequence[int]
    frames: Tensor
    spans: Sequence[Span] = ()

    def __post_init__(self) -> None:
        if self.frames.ndim not in (2, 3, 4) or self.frames.shape[0] == 0:
            raise InputError(
                f"frames have the shape {tuple(self.frames.shape)}; needs pixels (T, 3, S, S), "
                "patch features (T, patches, width) or frame tokens (T, H) of at least one frame"
            )
        if not len(self.before) + len(self.after):
            raise InputError("a training prompt has no text; it needs at least one token")
        _check_spans(self.spans)


@dataclass(frozen=True)
class Response:
    """A response: K `<evi>`, `</evi>`, then text with the same K `<evi>` (paper, section 3.2).

    token_ids: with the token that ends the turn. spans: the K intervals.
    """

    token_ids: Sequence[int]
    spans: Sequence[Span] = ()

    def __post_init__(self) -> None:
        if not self.token_ids:
            raise InputError("a response has no tokens; it needs at least the turn's end")
        _check_spans(self.spans)


@dataclass(frozen=True)
class SftSample:
    """A prompt and the response to imitate."""

    prompt: TrainingPrompt
    response: Response

    @property
    def responses(self) -> tuple[Response, ...]:
        """The response, as a tuple."""
        return (self.response,)


@dataclass(frozen=True)
class PreferenceSample:
    """A prompt, the response to prefer, and one to reject."""

    prompt: TrainingPrompt
    chosen: Response
    rejected: Response

    @property
    def responses(self) -> tuple[Response, ...]:
        """Chosen, rejected."""
        return (self.chosen, self.rejected)


def frame_spans(times_s: Sequence[float] | None, *, fps: float = 1.0) -> tuple[Span, ...]:
    """Flat pairs of seconds, as annotations have them, in frames; one number is one frame.

    Raises:
        InputError: if a number is left over.
    """
    frames = [time_s * fps for time_s in times_s or ()]
    if len(frames) == 1:
        frames *= 2
    if len(frames) % 2:
        raise InputError(f"{len(frames)} times do not pair up to intervals; give start and end")
    return tuple(zip(frames[::2], frames[1::2], strict=True))


def evidence_places(
    response: Response, *, evidence_id: int, evidence_end_id: int
) -> tuple[list[int], list[int]]:
    """Indices of the `<evi>` tokens of the evidence stage, and of those in the answer.

    Raises:
        InputError: the answer does not hold each of the K intervals once, or an evidence stage,
            if there is one, does not.
    """
    start = _answer_start(response, evidence_end_id)
    places = [index for index, token in enumerate(response.token_ids) if token == evidence_id]
    stage = [place for place in places if place < start]
    answer = places[len(stage) :]
    if not len(stage) == len(answer) == len(response.spans):
        raise InputError(
            f"a response has {len(response.spans)} intervals, {len(stage)} <evi> before </evi> "
            f"and {len(answer)} after it; it needs one <evi> for each interval in both places"
        )
    return stage, answer


def without_evidence_stage(
    response: Response, *, evidence_id: int, evidence_end_id: int
) -> tuple[Response, list[int]]:
    """The answer alone, and its `<evi>`: grounding and text coupled (the paper's ablation).

    Raises:
        InputError: see `evidence_places`.
    """
    _, answer = evidence_places(response, evidence_id=evidence_id, evidence_end_id=evidence_end_id)
    start = _answer_start(response, evidence_end_id)
    alone = Response(response.token_ids[start:], response.spans)
    return alone, [place - start for place in answer]


def _answer_start(response: Response, evidence_end_id: int) -> int:
    """Index of the first token after `</evi>`; 0 where an empty evidence stage is left out."""
    ids = list(response.token_ids)
    return ids.index(evidence_end_id) + 1 if evidence_end_id in ids else 0


def _check_spans(spans: Sequence[Span]) -> None:
    for start, end in spans:
        if not (math.isfinite(start) and math.isfinite(end)):
            raise InputError(f"the interval [{start}, {end}] is not finite; give times in seconds")
