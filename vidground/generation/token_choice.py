"""Which token comes next: the likeliest, or a draw, after a penalty on repeats.

Knows logits and settings; no model, no text.
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
    """What belongs to each row, on the device that logits are on.

    temperature, penalty: (B, 1) float32. stream: (B, 1) int64, which random numbers are drawn;
    drawn: (B, 1) int64, how many tokens were. seen: (B, V) bool, the tokens that are penalised.
    """

    temperature: Tensor
    penalty: Tensor
    stream: Tensor
    drawn: Tensor
    seen: Tensor

    def append(self, other: _Rows) -> None:
        """Put the rows of another one after the last."""
        for name in (field.name for field in fields(self)):
            setattr(self, name, torch.cat((getattr(self, name), getattr(other, name))))

    def keep(self, rows: Sequence[int]) -> None:
        """Keep only these rows, in this order; see `remaining_rows`."""
        for name in (field.name for field in fields(self)):
            setattr(self, name, keep_rows(getattr(self, name), rows))


class TokenChooser:
    """Chooses the next token of rows that come and go; greedy unless a temperature is set.

    A draw depends on the row's seed, its logits and how many tokens it has drawn; not on the other
    rows, nor on its place among them. Between adding rows nothing is copied to or from the device.

    Args:
        vocabulary: how many tokens there are.
        time_token_id: of `<evi>` or `<vid>`, which may be repeated freely.
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
        """Add a row. prompt: its text tokens, which count as said already."""
        self._settings.append(settings)
        self._rows.append(self._row(prompt, settings))

    def keep(self, rows: Sequence[int]) -> None:
        """Keep only these rows, in this order; see `remaining_rows`."""
        self._rows.keep(rows)
        self._settings = [self._settings[row] for row in rows]

    def choose(self, logits: Tensor) -> Tensor:
        """(B, V) logits to (B,) tokens."""
        rows, scores = self._rows, self.penalised(logits)
        if any(settings.temperature > 0 for settings in self._settings):
            # The largest of logit / temperature + Gumbel noise is a draw from the softmax.
            noise = _gumbel(rows.stream, rows.drawn, self._vocabulary)
            drawn = scores / rows.temperature + noise
            scores = torch.where(rows.temperature > 0, drawn, scores)
            rows.drawn += 1
        tokens = scores.argmax(-1)
        if self._penalises:
            rows.seen.scatter_(1, tokens[:, None], True)
            rows.seen[:, self._time_token_id].fill_(False)
        return tokens

    def penalised(self, logits: Tensor) -> Tensor:
        """Scores (B, V), float32, after the repetition penalty."""
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
        """A row; without settings none, of the same types."""
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
    """Whether an answer has gone on for `length` tokens to say one thing over and over.

    That is: its last `length` tokens are one block, of at most an eighth of them, repeated.
    length: 0 for an answer that may loop.
    """
    if length == 0 or length > len(token_ids):
        return False
    last = list(token_ids[-length:])
    blocks = range(1, length // LOOP_REPEATS + 1)
    return any(last[block:] == last[:-block] for block in blocks)


_STEP = -0x61C8864680B583EB  # 2^64 divided by the golden ratio, as a signed number


def _gumbel(stream: Tensor, drawn: Tensor, size: int) -> Tensor:
    """Standard Gumbel noise, (B, size) float32, the same wherever and with whatever it is drawn.

    Number i of a stream is the i-th of the generator SplitMix64 (Steele, Lea and Flood, 2014),
    which can be computed without those before it. stream, drawn: (B, 1) int64.
    """
    column = torch.arange(1, size + 1, device=stream.device)
    bits = _mixed(stream + (drawn * size + column) * _STEP)
    # 32 bits are enough: it is near 0 that a Gumbel's long tail comes from, where floats are dense.
    uniform = ((_shifted(bits, 32)).float() + 0.5) * 2.0**-32
    exponential = -torch.log1p(-uniform.clamp(max=1 - 2.0**-24))
    return -torch.log(exponential)


def _mixed(numbers: Tensor) -> Tensor:
    """SplitMix64's output for states, int64; products are taken modulo 2^64."""
    numbers = (numbers ^ _shifted(numbers, 30)) * -0x40A7B892E31B1A47
    numbers = (numbers ^ _shifted(numbers, 27)) * -0x6B2FB644ECCEEE15
    return numbers ^ _shifted(numbers, 31)


def _shifted(numbers: Tensor, bits: int) -> Tensor:
    """Bits of int64 moved to the right, zeros put before them."""
    return (numbers >> bits) & ((1 << (64 - bits)) - 1)


def _signed(number: int) -> int:
    """The last 64 bits of a number, as an int64 has them."""
    return (number + (1 << 63)) % (1 << 64) - (1 << 63)
