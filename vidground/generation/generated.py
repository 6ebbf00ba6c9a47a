"""An answer: what is returned of it, and the row it is while it is decoded."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from vidground.generation.prompt_batch import PromptInputs
from vidground.generation.token_choice import is_loop
from vidground.settings import DecodingSettings

_STEPS_PER_LOOP_CHECK = 32  # a row's own steps, so that its end does not depend on the batch
_PROMPT_BLOCK = 32
"""Prompts are padded to multiples of this and read with others of the same padded length and start
only, so that sums over a prompt's positions are grouped alike whatever it is read with."""


@dataclass(frozen=True)
class Evidence:
    """One generated time token, `<evi>` or `<vid>`.

    position: its index in the answer's tokens. first, last: its interval in frames, inclusive.
    curve: (T,) float32 on the CPU, relevance of every frame of the prompt; for a `<vid>` the
        probability that it means the frame.
    matched: the frames that it was matched to, for a `<vid>`; they replace the curve's peaks.
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
class Generation:
    """One answer.

    token_ids: with the token that ends it, unless it was truncated. evidence: one per `<evi>`
    among them, in order. prompt_curve: (T,) relevance at the position that predicts the first
    token, whether or not that was an `<evi>`. truncated: whether it was stopped before it ended:
    at the cap on tokens, or (looped) because it said the same over and over.
    """

    token_ids: list[int]
    evidence: tuple[Evidence, ...]
    prompt_curve: Tensor
    truncated: bool
    looped: bool = False


@dataclass
class Row:
    """A prompt, and its answer as far as it is known.

    cap: tokens of the answer, at most. finite: whether the model has computed finite numbers.
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
        """Frames of the prompt."""
        return len(self.prompt.frame_tokens)

    @property
    def padded(self) -> int:
        """Positions of the prompt with those that it is padded by."""
        return -(-len(self.prompt) // _PROMPT_BLOCK) * _PROMPT_BLOCK

    @property
    def kind(self) -> tuple[int, tuple[int, ...]]:
        """Prompts of one kind may be read together."""
        return self.padded, tuple(self.prompt.before)

    def again(self) -> Row:
        """The row before it was decoded."""
        return Row(self.ticket, self.prompt, self.settings, self.cap)

    def generation(self, turn_end_token_id: int) -> Generation | None:
        """The answer, once it has ended."""
        ids = self.token_ids
        ended = bool(ids) and ids[-1] == turn_end_token_id
        checked = len(ids) % _STEPS_PER_LOOP_CHECK == 0
        looped = not ended and checked and is_loop(ids, self.settings.loop_tokens)
        if self.prompt_curve is None or not (ended or looped or len(ids) >= self.cap):
            return None
        curve = self.prompt_curve.cpu().clone()
        return Generation(ids, tuple(self.evidence), curve, truncated=not ended, looped=looped)
