"""Answers: the returned ones, and the rows of those being decoded."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from vidground.generation.prompt_batch import PromptInputs
from vidground.generation.token_choice import is_loop
from vidground.settings import DecodingSettings

_STEPS_PER_LOOP_CHECK = 32
"""Counted in a row's own steps, so that the end of an answer does not depend on the batch."""
_PROMPT_BLOCK = 32
"""Prompts are padded to multiples of this and prefilled only with prompts of the same padded length
and prefix, so that sums over positions are grouped in the same way whatever the other prompts."""


@dataclass(frozen=True)
class Evidence:
    """One generated time token, `<evi>` or `<vid>`.

    Attributes:
        position: index in the answer's tokens.
        first: first frame of its interval.
        last: last frame of its interval, inclusive.
        curve: (T,) float32 on the CPU, relevance of every frame of the prompt; for a `<vid>` the
            probability that it means the frame.
        matched: frames that a `<vid>` was matched to; they replace the curve's peaks.
    """

    position: int
    first: int
    last: int
    curve: Tensor
    matched: tuple[int, ...] = ()

    @property
    def score(self) -> float:
        """Mean relevance of the interval's frames, or of the matched ones, in [0, 1]."""
        frames = self.curve[self.first : self.last + 1]
        return float((self.curve[list(self.matched)] if self.matched else frames).mean())


@dataclass(frozen=True)
class StepEvidence:
    """What a time token of one step would mean in each row.

    Attributes:
        curve: (B, T), relevance of the frames.
        first: (B,), first frame of the interval.
        last: (B,), last frame, inclusive.
    """

    curve: Tensor
    first: Tensor
    last: Tensor


@dataclass(frozen=True)
class Generation:
    """One answer.

    Attributes:
        token_ids: its tokens, including the one that ends it unless it was truncated.
        evidence: one item per time token, in order.
        prompt_curve: (T,) relevance at the position that predicts the first token, whether or not
            that is a time token.
        truncated: whether it was stopped before it ended: at the maximum length, or in a loop.
        looped: whether it was stopped because it repeated itself.
    """

    token_ids: list[int]
    evidence: tuple[Evidence, ...]
    prompt_curve: Tensor
    truncated: bool
    looped: bool = False


@dataclass
class Row:
    """A prompt and its answer so far.

    Attributes:
        ticket: number that identifies the prompt in a queue.
        prompt: the prompt.
        settings: how the answer is decoded.
        cap: maximum number of tokens of the answer.
        prompt_curve: see `Generation`; None before the prompt was prefilled.
        token_ids: tokens of the answer so far.
        evidence: of the time tokens so far.
        finite: whether the model has computed only finite numbers.
    """

    ticket: int
    prompt: PromptInputs
    settings: DecodingSettings
    cap: int
    prompt_curve: Tensor | None = None
    token_ids: list[int] = field(default_factory=list)
    evidence: list[Evidence] = field(default_factory=list)
    finite: bool = True

    @property
    def frames(self) -> int:
        """Number of frames of the prompt."""
        return len(self.prompt.frame_tokens)

    @property
    def padded(self) -> int:
        """Number of positions of the padded prompt."""
        return -(-len(self.prompt) // _PROMPT_BLOCK) * _PROMPT_BLOCK

    @property
    def kind(self) -> tuple[int, tuple[int, ...]]:
        """Prompts of the same kind may be prefilled together."""
        return self.padded, tuple(self.prompt.before)

    def again(self) -> Row:
        """Return the row as it was before it was decoded."""
        return Row(self.ticket, self.prompt, self.settings, self.cap)

    def generation(self, turn_end_token_id: int) -> Generation | None:
        """Return the answer once it has ended, else None."""
        ids = self.token_ids
        ended = bool(ids) and ids[-1] == turn_end_token_id
        checked = len(ids) % _STEPS_PER_LOOP_CHECK == 0
        looped = not ended and checked and is_loop(ids, self.settings.loop_tokens)
        if self.prompt_curve is None or not (ended or looped or len(ids) >= self.cap):
            return None
        curve = self.prompt_curve.cpu().clone()
        return Generation(ids, tuple(self.evidence), curve, truncated=not ended, looped=looped)
