"""The next token: greedy, drawn, penalised; and answers that say one thing over and over."""

import pytest
import torch

from vidground.generation.token_choice import TokenChooser, is_loop
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
def test_loops_are_found_by_hand(ids: list[int], length: int, found: bool) -> None:
    assert is_loop(ids, length) is found


def test_rows_come_and_go_with_what_is_theirs() -> None:
    """The last row takes the place of one that leaves: its penalty, its draws."""
    strict = DecodingSettings(repetition_penalty=100.0)
    chooser = chooser_of([[0], [1]], 3, DecodingSettings(), evidence=2)
    chooser.add([0], strict)
    logits = torch.tensor([[3.0, 2.0, 1.0]])
    assert chooser.choose(logits.expand(3, -1)).tolist() == [0, 0, 1]
    chooser.remove(0)
    assert chooser.choose(logits.expand(2, -1)).tolist() == [2, 0]  # 0 and 1 were said
    chooser.remove(1)
    assert chooser.choose(logits).tolist() == [2]


def test_draws_follow_the_softmax() -> None:
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
