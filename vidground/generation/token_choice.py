"""Which token comes next: the likeliest, or a draw, after a penalty on repeats.

Knows logits and settings; no model, no text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from vidground.settings import LOOP_REPEATS, DecodingSettings


class TokenChooser:
    """Chooses the next token of rows that come and go; greedy unless a temperature is set.

    Draws depend on the seed and the row's own logits alone, not on the rest of the batch.

    Args:
        vocabulary: how many tokens there are.
        evidence_token_id: of `<evi>`, which may be repeated freely.
    """

    def __init__(
        self, vocabulary: int, evidence_token_id: int, device: torch.device | str = "cpu"
    ) -> None:
        self._evidence_token_id = evidence_token_id
        self._settings: list[DecodingSettings] = []
        self._generators: list[torch.Generator] = []
        self._no_tokens = torch.zeros(vocabulary, dtype=torch.bool, device=device)
        self._seen: list[Tensor] = []  # (V,) each: what the penalty is on
        self._device = device

    def add(self, prompt: Sequence[int], settings: DecodingSettings) -> None:
        """Add a row. prompt: its text tokens, which count as said already."""
        seen = self._no_tokens.clone() if settings.repetition_penalty != 1 else self._no_tokens
        if settings.repetition_penalty != 1:
            seen[torch.tensor(list(prompt), device=self._device, dtype=torch.long)] = True
        self._seen.append(seen)
        self._settings.append(settings)
        self._generators.append(torch.Generator(self._device).manual_seed(settings.seed))

    def remove(self, row: int) -> None:
        """Remove a row; the last one takes its place."""
        _remove(self._seen, row)
        _remove(self._settings, row)
        _remove(self._generators, row)

    def choose(self, logits: Tensor) -> Tensor:
        """(B, V) logits to (B,) tokens."""
        scores = self.penalised(logits)
        drawn = [row for row, settings in enumerate(self._settings) if settings.temperature > 0]
        if drawn:
            scores = scores.clone()
        for row in drawn:
            # The largest of logit / temperature + Gumbel noise is a draw from the softmax.
            noise = _gumbel(scores.shape[1], self._generators[row])
            scores[row] = scores[row] / self._settings[row].temperature + noise
        tokens = scores.argmax(-1)
        for row, settings in enumerate(self._settings):
            if settings.repetition_penalty != 1:
                self._seen[row].index_fill_(0, tokens[row], True)
        return tokens

    def penalised(self, logits: Tensor) -> Tensor:
        """Scores (B, V), float32, after the repetition penalty."""
        scores = logits.float()
        if all(settings.repetition_penalty == 1 for settings in self._settings):
            return scores
        seen = torch.stack(self._seen)
        seen[:, self._evidence_token_id] = False
        penalty = scores.new_tensor([[s.repetition_penalty] for s in self._settings])
        lowered = torch.where(scores < 0, scores * penalty, scores / penalty)
        return torch.where(seen, lowered, scores)


def is_loop(token_ids: Sequence[int], length: int) -> bool:
    """Whether an answer has gone on for `length` tokens to say one thing over and over.

    That is: its last `length` tokens are one block, of at most an eighth of them, repeated.
    length: 0 for an answer that may loop.
    """
    if length == 0 or length > len(token_ids):
        return False
    last = list(token_ids[-length:])
    blocks = range(1, length // LOOP_REPEATS + 1)
    return any(last[block:] == last[:-block] for block in blocks)


def _remove(rows: list[Any], row: int) -> None:
    last = rows.pop()
    if row < len(rows):
        rows[row] = last


def _gumbel(size: int, generator: torch.Generator) -> Tensor:
    uniform = torch.rand(size, generator=generator, device=generator.device, dtype=torch.float64)
    exponential = -torch.log1p(-uniform)  # of [0, 1), so that no logarithm of 0 is taken
    return -torch.log(exponential.clamp(min=torch.finfo(torch.float64).tiny)).float()
