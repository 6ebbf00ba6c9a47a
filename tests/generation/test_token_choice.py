"""The next token: greedy, random, penalised; and answers that repeat themselves."""

import math
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from vidground.generation.token_choice import _STEP, TokenChooser, _gumbel, _mixed, is_loop
from vidground.model.rows import remaining_rows
from vidground.settings import DecodingSettings


def chooser_of(
    prompts: list[list[int]], vocabulary: int, settings: DecodingSettings, *, evidence: int
) -> TokenChooser:
    chooser = TokenChooser(vocabulary, evidence)
    for prompt in prompts:
        chooser.add(prompt, settings)
    return chooser


@pytest.mark.parametrize(
    ("ids", "length", "found"),
    [
        ([9, *[1, 2] * 8], 16, True),  # a block of 2, 8 times
        ([9, *[1, 2] * 7, 1, 3], 16, False),  # which ends otherwise
        ([9, *[7] * 16], 16, True),  # a block of 1
        ([9, *[1, 2, 3] * 5, 1], 16, False),  # a block of 3 is more than an eighth of 16
        ([9, *[7] * 16], 0, False),  # an answer that may loop
        ([9, *[7] * 16], 32, False),  # or that may loop for longer
        ([9, *[7] * 14], 16, False),  # not enough of it yet
    ],
)
def test_loops_worked_out_by_hand(ids: list[int], length: int, found: bool) -> None:
    assert is_loop(ids, length) is found


def test_rows_keep_their_state_when_others_are_removed() -> None:
    """The last row takes the place of a removed one, with its penalty and seen tokens."""
    strict = DecodingSettings(repetition_penalty=100.0)
    chooser = chooser_of([[0], [1]], 3, DecodingSettings(), evidence=2)
    chooser.add([0], strict)
    logits = torch.tensor([[3.0, 2.0, 1.0]])
    assert chooser.choose(logits.expand(3, -1)).tolist() == [0, 0, 1]
    chooser.keep([2, 1])
    assert chooser.choose(logits.expand(2, -1)).tolist() == [2, 0]  # 0 and 1 were said
    chooser.keep([0])
    assert chooser.choose(logits).tolist() == [2]


def test_random_tokens_follow_the_softmax() -> None:
    logits = torch.log(torch.tensor([[0.1, 0.2, 0.7]]))
    settings = DecodingSettings(temperature=1.0)
    chooser = chooser_of([[0]], 3, settings, evidence=0)
    counts = torch.zeros(3)
    for _ in range(4000):
        counts[chooser.choose(logits)] += 1
    # Four standard deviations of a share of 0.7 out of 4000 draws are 0.03.
    torch.testing.assert_close(counts / 4000, torch.tensor([0.1, 0.2, 0.7]), rtol=0, atol=0.03)


def test_repetition_penalty_by_hand() -> None:
    logits = torch.tensor([[2.0, -1.0, 3.0, 4.0]])
    settings = DecodingSettings(repetition_penalty=2.0)
    chooser = chooser_of([[0, 1, 3]], 4, settings, evidence=3)
    torch.testing.assert_close(chooser.penalised(logits), torch.tensor([[1.0, -2.0, 3.0, 4.0]]))
    assert chooser.choose(torch.tensor([[2.0, -1.0, 3.0, 0.0]])).item() == 2
    torch.testing.assert_close(chooser.penalised(logits), torch.tensor([[1.0, -2.0, 1.5, 4.0]]))


def test_a_row_without_a_temperature_is_greedy_beside_random_ones() -> None:
    chooser = TokenChooser(50, 0)
    for temperature in (0.0, 5.0, 0.0):
        chooser.add([1], DecodingSettings(temperature=temperature))
    logits = torch.randn(3, 50, generator=torch.Generator().manual_seed(0))
    for _ in range(20):
        chosen = chooser.choose(logits)
        assert chosen[0] == logits[0].argmax()
        assert chosen[2] == logits[2].argmax()


def test_random_tokens_do_not_depend_on_other_rows_or_the_index() -> None:
    """The logits are equal, so that only the random numbers distinguish rows."""
    logits = torch.zeros(1, 1000)
    alone: dict[int, list[int]] = {}
    for seed in (3, 8, -1, 2**70 + 5):
        chooser = chooser_of([[0]], 1000, DecodingSettings(temperature=1.0, seed=seed), evidence=0)
        alone[seed] = [int(chooser.choose(logits)) for _ in range(9)]
    assert len({tuple(drawn) for drawn in alone.values()}) == 4
    together = TokenChooser(1000, 0)
    found: dict[int, list[int]] = {seed: [] for seed in alone}
    rows: list[int] = []
    for arrives, leaves in (
        (8, None),
        (3, None),
        (-1, None),
        (None, 8),
        (2**70 + 5, None),
        (None, 3),
    ):
        if arrives is not None:
            together.add([0], DecodingSettings(temperature=1.0, seed=arrives))
            rows.append(arrives)
        if leaves is not None:
            kept = remaining_rows(len(rows), [rows.index(leaves)])
            together.keep(kept)
            rows = [rows[row] for row in kept]
        for seed, token in zip(rows, together.choose(logits.expand(len(rows), -1)), strict=True):
            found[seed].append(int(token))
    assert found == {seed: drawn[: len(found[seed])] for seed, drawn in alone.items()}
    assert min(map(len, found.values())) >= 2


def test_random_numbers_are_those_of_splitmix64() -> None:
    """The first outputs for the seed 1234567, as published with the reference implementation."""
    outputs = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    states = 1234567 + torch.arange(1, 5) * _STEP
    assert [number % 2**64 for number in _mixed(states).tolist()] == outputs


def test_noise_has_the_distribution_of_gumbel() -> None:
    noise = _gumbel(torch.tensor([[5], [6]]), torch.tensor([[0], [7]]), 200_000)
    assert bool(noise.isfinite().all())
    for row in noise:
        for share in (0.001, 0.1, 0.5, 0.9, 0.999):
            quantile = -math.log(-math.log(share))
            found = (row <= quantile).float().mean().item()
            assert abs(found - share) < 5 * math.sqrt(share * (1 - share) / 200_000)
    assert abs(torch.corrcoef(noise)[0, 1].item()) < 5 / math.sqrt(200_000)


def test_choosing_copies_nothing_between_host_and_device() -> None:
    """On a GPU each copy waits for all earlier work."""

    class NoCopies(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
        ) -> Any:
            name = str(func)
            assert "item" not in name
            assert "scalar_dense" not in name
            assert "lift_fresh" not in name  # as making a tensor of a list does
            return func(*args, **(kwargs or {}))

    chooser = TokenChooser(7, 3)
    chooser.add([1, 2], DecodingSettings(temperature=0.5, repetition_penalty=1.3))
    chooser.add([1], DecodingSettings())
    with NoCopies():
        for _ in range(3):
            chooser.choose(torch.ones(2, 7))
