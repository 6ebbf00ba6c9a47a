"""The decode loop: a batch of prompts to answers, each `<evi>` resolved and fed back.

Every row is decoded as if it were alone: padding changes nothing. Nothing is copied to the
host within a step on a GPU; rows that ended are looked for every few steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vidground.cache import KeyValueCache
from vidground.errors import InputError
from vidground.evidence import best_interval, interval_mean, relevance
from vidground.modeling import D2VLM, DecoderContext
from vidground.sequences import PromptBatch, PromptInputs, batch_prompts
from vidground.settings import LOOP_REPEATS, DecodingSettings

_GPU_STEPS_PER_CHECK = 16  # steps between looks at whether all rows ended: one wait for the GPU
_STEPS_PER_LOOP_CHECK = 32  # a row's own steps, so that its end does not depend on the batch


@dataclass(frozen=True)
class Evidence:
    """One generated `<evi>`.

    position: its index in the answer's tokens. first, last: its interval in frames, inclusive.
    curve: (T,) float32 on the CPU, relevance of every frame of the prompt.
    """

    position: int
    first: int
    last: int
    curve: Tensor


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


class Decoder:
    """A batch in decoding: its cache, its evidence memory, its frames to match with.

    After construction (the prefill) `logits` (B, V) predict the first token and `matching`
    (B, H) is the state to match evidence with; `step` moves both on by one token.
    """

    def __init__(self, model: D2VLM, batch: PromptBatch) -> None:
        config = model.config
        self.model = model
        self.frame_mask = batch.frame_mask
        self._cache = KeyValueCache(config.text_config.num_hidden_layers)
        self._real = batch.real
        self._positions = batch.position_ids[:, -1:]
        context = model.context(batch.position_ids, batch.visible(), self._cache)
        hidden = model.run_layers(batch.embeds, 0, config.evidence_layer, context)
        self.memory = batch.at_frames(hidden)
        hidden = model.run_layers(hidden, config.evidence_layer, config.matching_layer, context)
        self._frame_keys = model.frame_head(batch.at_frames(hidden))
        self._finish(hidden, context)

    def step(self, embeds: Tensor) -> None:
        """Feed one embedded token per row, (B, H)."""
        self._positions = self._positions + 1
        self._real = torch.cat((self._real, self._real.new_ones(len(embeds), 1)), dim=1)
        context = self.model.context(self._positions, self._real[:, None, :], self._cache)
        matching_layer = self.model.config.matching_layer
        self._finish(self.model.run_layers(embeds[:, None], 0, matching_layer, context), context)

    def _finish(self, hidden: Tensor, context: DecoderContext) -> None:
        self.matching = hidden[:, -1]
        matching_layer = self.model.config.matching_layer
        hidden = self.model.run_layers(hidden, matching_layer, matching_layer + 1, context)
        self.logits = self.model.logits(hidden[:, -1])

    def evidence(self) -> tuple[Tensor, Tensor, Tensor]:
        """Relevance (B, T) of the frames to an `<evi>` predicted now, and its interval.

        Returns:
            curve, and first and last frame, (B,) each, inclusive.
        """
        curve = relevance(self.model.evidence_head(self.matching), self._frame_keys)
        curve = curve.masked_fill(~self.frame_mask, 0.0)
        threshold = self.model.config.evidence_threshold
        return curve, *best_interval(curve, self.frame_mask, threshold=threshold)

    def embed(self, tokens: Tensor) -> Tensor:
        """(B,) tokens to (B, H) embeddings, without the meaning of evidence."""
        return self.model.get_input_embeddings()(tokens)  # type: ignore[no-any-return]

    def meaning(self, first: Tensor, last: Tensor) -> Tensor:
        """What an `<evi>` with these intervals adds to its embedding (paper, eq. 4): (B, H)."""
        return interval_mean(self.memory, first, last)


@torch.inference_mode()
def generate(
    model: D2VLM,
    prompts: Sequence[PromptInputs],
    settings: DecodingSettings | Sequence[DecodingSettings],
) -> list[Generation]:
    """Decode one batch of prompts of any lengths.

    Args:
        settings: for all prompts, or one for each.

    Raises:
        InputError: if a prompt leaves no room for an answer in the model's context.
    """
    rows = len(prompts)
    per_row = [settings] * rows if isinstance(settings, DecodingSettings) else list(settings)
    caps = [_token_cap(model, *row) for row in zip(prompts, per_row, strict=True)]
    batch = batch_prompts(model, prompts)
    decoder = Decoder(model, batch)
    chooser = TokenChooser(batch.token_ids, decoder.logits, per_row, model.config.evidence_token_id)
    row_caps = torch.tensor(caps, device=batch.embeds.device)
    finished = torch.zeros_like(row_caps, dtype=torch.bool)
    looped = finished
    tokens: list[Tensor] = []
    found: list[_StepEvidence | None] = []
    prompt_curve = decoder.evidence()[0]
    for step in range(max(caps)):
        token = chooser.choose(decoder.logits)
        tokens.append(token)
        is_evidence = token == model.config.evidence_token_id
        embeds = decoder.embed(token)
        found.append(None)
        if is_evidence.is_cuda or bool(is_evidence.any()):
            found[step] = at = _StepEvidence(*decoder.evidence())
            if model.config.evidence_semantics:
                meaning = decoder.meaning(at.first, at.last)
                embeds = torch.where(is_evidence[:, None], embeds + meaning, embeds)
        finished = finished | (token == model.config.turn_end_token_id) | (step + 1 >= row_caps)
        if (step + 1) % _STEPS_PER_LOOP_CHECK == 0:
            caught = find_loops(tokens, [row.loop_tokens for row in per_row]) & ~finished
            row_caps = torch.where(caught, step + 1, row_caps)
            looped, finished = looped | caught, finished | caught
        if step + 1 == max(caps) or (_time_to_check(finished, step) and bool(finished.all())):
            break
        decoder.step(embeds)
    ends = _Ends(row_caps.tolist(), looped.tolist())
    return _collect(model, torch.stack(tokens, 1), ends, found, prompt_curve, batch.frame_mask)


def find_loops(tokens: Sequence[Tensor], lengths: Sequence[int]) -> Tensor:
    """Which rows have gone on for so many tokens to say one thing over and over.

    Args:
        tokens: (B,) each, of all steps so far. lengths: tokens per row that must be one block of
            at most an eighth of them, repeated to the end; 0 for a row that may loop.

    Returns:
        (B,) bool, on the device of the tokens.
    """
    caught = torch.zeros_like(tokens[-1], dtype=torch.bool)
    for length in set(lengths):
        if length == 0 or length > len(tokens):
            continue
        last = torch.stack(list(tokens[-length:]), 1)
        asked = torch.tensor([own == length for own in lengths], device=caught.device)
        for block in range(1, length // LOOP_REPEATS + 1):
            caught |= asked & (last[:, block:] == last[:, :-block]).all(1)
    return caught


def _token_cap(model: D2VLM, prompt: PromptInputs, settings: DecodingSettings) -> int:
    context = int(model.config.text_config.max_position_embeddings)
    room = context - len(prompt)
    if room < 1:
        raise InputError(
            f"a prompt of {len(prompt)} tokens leaves no room for an answer: the model's context "
            f"holds {context}; use a shorter window or a lower fps"
        )
    return min(settings.max_new_tokens, room)


def _time_to_check(finished: Tensor, step: int) -> bool:
    return not finished.is_cuda or step % _GPU_STEPS_PER_CHECK == _GPU_STEPS_PER_CHECK - 1


@dataclass(frozen=True)
class _StepEvidence:
    """Evidence of one step for all rows: curve (B, T), first and last (B,)."""

    curve: Tensor
    first: Tensor
    last: Tensor


class TokenChooser:
    """Chooses the next token of every row; greedy unless a temperature is set.

    Draws depend on the seed and the row's own logits alone, not on the rest of the batch.
    """

    def __init__(
        self,
        prompts: Sequence[Sequence[int]],
        logits: Tensor,
        settings: Sequence[DecodingSettings],
        evidence_token_id: int,
    ) -> None:
        self._settings = settings
        self._evidence_token_id = evidence_token_id
        self._penalty = logits.new_tensor([[s.repetition_penalty] for s in settings]).float()
        self._seen: Tensor | None = None
        if any(s.repetition_penalty != 1 for s in settings):
            self._seen = torch.zeros_like(logits, dtype=torch.bool)
            for row, ids in enumerate(prompts):
                self._seen[row, torch.tensor(list(ids), device=logits.device)] = True
        self._generators = [torch.Generator(logits.device).manual_seed(s.seed) for s in settings]

    def choose(self, logits: Tensor) -> Tensor:
        """(B, V) logits to (B,) tokens."""
        scores = self.penalised(logits.float())
        for row, settings in enumerate(self._settings):
            if settings.temperature > 0:
                # The largest of logit / temperature + Gumbel noise is a draw from the softmax.
                noise = _gumbel(scores.shape[1], self._generators[row])
                scores[row] = scores[row] / settings.temperature + noise
        token = scores.argmax(-1)
        if self._seen is not None:
            self._seen.scatter_(1, token[:, None], True)
        return token

    def penalised(self, scores: Tensor) -> Tensor:
        """Scores (B, V) after the repetition penalty; `<evi>` may be repeated freely."""
        if self._seen is None:
            return scores.clone()
        seen = self._seen.clone()
        seen[:, self._evidence_token_id] = False
        lowered = torch.where(scores < 0, scores * self._penalty, scores / self._penalty)
        return torch.where(seen, lowered, scores)


def _gumbel(size: int, generator: torch.Generator) -> Tensor:
    uniform = torch.rand(size, generator=generator, device=generator.device, dtype=torch.float64)
    exponential = -torch.log1p(-uniform)  # of [0, 1), so that no logarithm of 0 is taken
    return -torch.log(exponential.clamp(min=torch.finfo(torch.float64).tiny)).float()


@dataclass(frozen=True)
class _Ends:
    """Where rows were stopped if they had not ended: after so many tokens, whether in a loop."""

    caps: Sequence[int]
    looped: Sequence[bool]


def _collect(
    model: D2VLM,
    tokens: Tensor,
    ends: _Ends,
    found: Sequence[_StepEvidence | None],
    prompt_curve: Tensor,
    frame_mask: Tensor,
) -> list[Generation]:
    """Cut every row at its end and pick the evidence of its `<evi>` tokens."""
    answers = []
    end, evidence_id = model.config.turn_end_token_id, model.config.evidence_token_id
    frames = frame_mask.sum(1).tolist()
    curves = prompt_curve.cpu()
    for row, (ids, cap) in enumerate(zip(tokens.tolist(), ends.caps, strict=True)):
        ids = ids[:cap]
        ended = end in ids
        ids = ids[: ids.index(end) + 1] if ended else ids
        evidence = [
            Evidence(
                position, int(at.first[row]), int(at.last[row]), at.curve[row, : frames[row]].cpu()
            )
            for position, at in enumerate(found[: len(ids)])
            if at is not None and ids[position] == evidence_id
        ]
        curve = curves[row, : frames[row]]
        looped = ends.looped[row]
        answers.append(Generation(ids, tuple(evidence), curve, truncated=not ended, looped=looped))
    return answers
