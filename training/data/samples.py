"""Training samples: a prompt with its frames, and the responses to train on, as token ids.

Knows no text, no files and no model; `training.data.collation` makes batches of samples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from vidground.errors import InputError

Span = tuple[float, float]
"""First and last frame of an interval, not yet rounded."""


@dataclass(frozen=True)
class TrainingPrompt:
    """What precedes a response.

    Attributes:
        before: token ids of the text before the frames.
        after: token ids of the text after the frames.
        question: the question, in the ids of the Q-Former's tokenizer.
        frames: (T, 3, S, S) pixels, as uint8 or normalised by `preprocessing.normalize`; or
            (T, patches, width) patch features, computed once if the vision encoder is frozen; or
            (T, H) frame tokens if the compressor is frozen too. T >= 1.
        spans: the interval of each `<evi>` in `before` and `after`, in order.
    """

    before: Sequence[int]
    after: Sequence[int]
    question: Sequence[int]
    frames: Tensor
    spans: Sequence[Span] = ()

    def __post_init__(self) -> None:
        if self.frames.ndim not in (2, 3, 4) or self.frames.shape[0] == 0:
            raise InputError(
                f"frames have the shape {tuple(self.frames.shape)}; they must be pixels "
                "(T, 3, S, S), patch features (T, patches, width) or frame tokens (T, H), T >= 1"
            )
        if not len(self.before) + len(self.after):
            raise InputError("a training prompt has no text; it needs at least one token")
        _check_spans(self.spans)


@dataclass(frozen=True)
class Response:
    """A response: K `<evi>`, `</evi>`, then text with the same K `<evi>` (paper, section 3.2).

    For a model that matches frames: text with K `<vid>`.

    Attributes:
        token_ids: with the token that ends the turn.
        spans: the K intervals; the start and the end of an instant are equal.
    """

    token_ids: Sequence[int]
    spans: Sequence[Span] = ()

    def __post_init__(self) -> None:
        if not self.token_ids:
            raise InputError("a response has no tokens; it needs at least the end of the turn")
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
    """A prompt, the response to prefer, and the one to reject."""

    prompt: TrainingPrompt
    chosen: Response
    rejected: Response

    @property
    def responses(self) -> tuple[Response, ...]:
        """The chosen response, then the rejected one."""
        return (self.chosen, self.rejected)


def frame_spans(times_s: Sequence[float] | None, *, fps: float = 1.0) -> tuple[Span, ...]:
    """Convert flat pairs of seconds, as in annotations, to frames; one number is one frame.

    Args:
        times_s: start and end of each interval, or one instant, in seconds.
        fps: frames per second.

    Raises:
        InputError: the number of times is odd and above 1.
    """
    frames = [time_s * fps for time_s in times_s or ()]
    if len(frames) == 1:
        frames *= 2
    if len(frames) % 2:
        raise InputError(
            f"{len(frames)} times are no pairs of start and end; give two for each interval"
        )
    return tuple(zip(frames[::2], frames[1::2], strict=True))


def evidence_places(
    response: Response, *, evidence_id: int, evidence_end_id: int
) -> tuple[list[int], list[int]]:
    """Return the indices of the `<evi>` tokens in the evidence stage, and of those in the answer.

    Raises:
        InputError: the evidence stage or the answer does not have one `<evi>` for each interval.
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
    """Return the answer alone and the indices of its `<evi>`: the paper's coupled ablation.

    Raises:
        InputError: see `evidence_places`.
    """
    _, answer = evidence_places(response, evidence_id=evidence_id, evidence_end_id=evidence_end_id)
    start = _answer_start(response, evidence_end_id)
    alone = Response(response.token_ids[start:], response.spans)
    return alone, [place - start for place in answer]


def match_places(response: Response, *, match_id: int) -> list[int]:
    """Return the indices of the `<vid>` tokens.

    Raises:
        InputError: the response does not have one `<vid>` for each instant.
    """
    places = [index for index, token in enumerate(response.token_ids) if token == match_id]
    if len(places) != len(response.spans):
        raise InputError(
            f"a response has {len(places)} <vid> and {len(response.spans)} instants; it needs one "
            "<vid> for each instant"
        )
    return places


def _answer_start(response: Response, evidence_end_id: int) -> int:
    """Return the index of the first token after `</evi>`; 0 without an evidence stage."""
    ids = list(response.token_ids)
    return ids.index(evidence_end_id) + 1 if evidence_end_id in ids else 0


def _check_spans(spans: Sequence[Span]) -> None:
    for start, end in spans:
        if not (math.isfinite(start) and math.isfinite(end)):
            raise InputError(f"the interval [{start}, {end}] is not finite; give times in seconds")
