"""Choose the next token: the likeliest or a random one, after a penalty on repetitions.

Knows logits and settings; neither a model nor text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from vidground.model.rows import keep_rows
from vidground.settings import LOOP_REPEATS, DecodingSettings


@dataclass
class _Rows:
    """State of each row, on the device of the logits.

    Attributes:
        temperature: (B, 1) float32.
        penalty: (B, 1) float32.
        stream: (B, 1) int64, identifies the stream of random numbers.
        drawn: (B, 1) int64, number of tokens drawn so far.
        seen: (B, V) bool, tokens that are penalised.
    """

    temperature: Tensor
    penalty: Tensor
    stream: Tensor
    drawn: Tensor
    seen: Tensor

    def append(self, other: _Rows) -> None:
        """Append the rows of another object."""
        for name in (field.name for field in fields(self)):
            setattr(self, name, torch.cat((getattr(self, name), getattr(other, name))))

    def keep(self, rows: Sequence[int]) -> None:
        """Keep only these rows, in this order; see `remaining_rows`."""
        for name in (field.name for field in fields(self)):
            setattr(self, name, keep_rows(getattr(self, name), rows))


class TokenChooser:
    """Chooses the next token of each row; greedy unless a temperature is set.

    A random choice depends on the row's seed, its logits and the number of tokens it has drawn, not
    on the other rows or on its index. Only adding rows copies data to the device.

    Args:
        vocabulary: number of tokens.
        time_token_id: of `<evi>` or `<vid>`, which is never penalised.
        device: of the logits.
    """

    def __init__(
        self, vocabulary: int, time_token_id: int, device: torch.device | str = "cpu"
    ) -> None:
        self._time_token_id = time_token_id
        self._settings: list[DecodingSettings] = []
        self._vocabulary = vocabulary
        self._device = device
        self._rows = self._row((), None)

    def add(self, prompt: Sequence[int], settings: DecodingSettings) -> None:
        """Add a row.

        Args:
            prompt: its text tokens, which the repetition penalty counts as seen.
            settings: how its tokens are chosen.
        """
        self._settings.append(settings)
        self._rows.append(self._row(prompt, settings))

    def keep(self, rows: Sequence[int]) -> None:
        """Keep only these rows, in this order; see `remaining_rows`."""
        self._rows.keep(rows)
        self._settings = [self._settings[row] for row in rows]

    def choose(self, logits: Tensor) -> Tensor:
        """Choose a token per row.

        Args:
            logits: (B, V).

        Returns:
            (B,) token ids.
        """
        rows, scores = self._rows, self.penalised(logits)
        if any(settings.temperature > 0 for settings in self._settings):
            # The maximum of logit / temperature + Gumbel noise is a sample of the softmax.
            noise = _gumbel(rows.stream, rows.drawn, self._vocabulary)  # (B, V)
            drawn = scores / rows.temperature + noise
            scores = torch.where(rows.temperature > 0, drawn, scores)
            rows.drawn += 1
        tokens = scores.argmax(-1)  # (B,)
        if self._penalises:
            rows.seen.scatter_(1, tokens[:, None], True)
            rows.seen[:, self._time_token_id].fill_(False)
        return tokens

    def penalised(self, logits: Tensor) -> Tensor:
        """Apply the repetition penalty: (B, V) logits to (B, V) float32 scores."""
        scores = logits.float()
        if not self._penalises:
            return scores
        penalty = self._rows.penalty
        lowered = torch.where(scores < 0, scores * penalty, scores / penalty)
        return torch.where(self._rows.seen, lowered, scores)

    @property
    def _penalises(self) -> bool:
        return any(settings.repetition_penalty != 1 for settings in self._settings)

    def _row(self, prompt: Sequence[int], settings: DecodingSettings | None) -> _Rows:
        """Return one row; without settings no row, with the same dtypes."""
        chosen = [] if settings is None else [settings]
        seen = torch.zeros(len(chosen), self._vocabulary, dtype=torch.bool)
        seen[:, list(prompt)] = True
        seen[:, self._time_token_id] = False
        seeds = torch.tensor([_signed(one.seed) for one in chosen], dtype=torch.int64)

        def column(values: Tensor) -> Tensor:
            return values[:, None].to(self._device)

        return _Rows(
            temperature=column(torch.tensor([one.temperature for one in chosen])),
            penalty=column(torch.tensor([one.repetition_penalty for one in chosen])),
            stream=column(_mixed(seeds)),
            drawn=column(torch.zeros_like(seeds)),
            seen=seen.to(self._device),
        )


def is_loop(token_ids: Sequence[int], length: int) -> bool:
    """Return whether an answer repeats itself.

    Its last `length` tokens must be repetitions of one block of at most an eighth of that length.

    Args:
        token_ids: tokens of the answer.
        length: number of tokens to check; 0 never reports a loop.
    """
    if length == 0 or length > len(token_ids):
        return False
    last = list(token_ids[-length:])
    blocks = range(1, length // LOOP_REPEATS + 1)
    return any(last[block:] == last[:-block] for block in blocks)


_STEP = -0x61C8864680B583EB
"""2^64 divided by the golden ratio, as int64."""


def _gumbel(stream: Tensor, drawn: Tensor, size: int) -> Tensor:
    """Return standard Gumbel noise that is the same on every device and in every batch.

    Number i of a stream is the i-th output of SplitMix64 (Steele, Lea and Flood, 2014), which can
    be computed without the previous ones.

    Args:
        stream: (B, 1) int64.
        drawn: (B, 1) int64, number of tokens drawn so far.
        size: number of values per row.

    Returns:
        (B, size) float32.
    """
    column = torch.arange(1, size + 1, device=stream.device)
    bits = _mixed(stream + (drawn * size + column) * _STEP)
    # 32 bits suffice: the long tail of a Gumbel variable comes from values near 0, where floats
    # are dense.
    uniform = ((_shifted(bits, 32)).float() + 0.5) * 2.0**-32
    exponential = -torch.log1p(-uniform.clamp(max=1 - 2.0**-24))
    return -torch.log(exponential)


def _mixed(numbers: Tensor) -> Tensor:
    """Return SplitMix64's outputs for int64 states; products are modulo 2^64."""
    numbers = (numbers ^ _shifted(numbers, 30)) * -0x40A7B892E31B1A47
    numbers = (numbers ^ _shifted(numbers, 27)) * -0x6B2FB644ECCEEE15
    return numbers ^ _shifted(numbers, 31)


def _shifted(numbers: Tensor, bits: int) -> Tensor:
    """Shift int64 to the right, filling with zeros."""
    return (numbers >> bits) & ((1 << (64 - bits)) - 1)


def _signed(number: int) -> int:
    """Return the last 64 bits of a number as int64."""
    return (number + (1 << 63)) % (1 << 64) - (1 << 63)
