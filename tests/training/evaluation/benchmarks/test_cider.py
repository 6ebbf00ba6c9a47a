import math

import pytest

from vidground.training.evaluation.benchmarks.cider import cider


def words(*texts: str) -> list[list[str]]:
    return [text.split() for text in texts]


def test_equal_captions_with_references_of_their_own_score_ten() -> None:
    ours = words("stir the pot slowly", "cut two red onions")
    assert cider(list(zip(ours, ours, strict=True))) == pytest.approx(10.0)


def test_nothing_in_common_and_nothing_at_all_score_zero() -> None:
    assert cider([(a, b) for a, b in zip(words("a b"), words("c d"), strict=True)]) == 0.0
    assert cider([]) == 0.0


def test_groups_that_all_references_share_weigh_nothing() -> None:
    one = words("stir the pot")[0]
    assert cider([(one, one)]) == 0.0
    assert cider([(one, one), (one, one)]) == 0.0


def test_a_partly_equal_caption_by_hand() -> None:
    # Two references without a common group: every group in a reference weighs log 2, and one in
    # no reference log 2 as well (its frequency counts as one).
    first = (["a", "b", "x"], ["a", "b", "c"])
    second = (["p"], ["q"])
    # Words: two of three agree, 2/3. Pairs: `a b` of two, 1/2. Longer groups: none.
    # No length differs. The second pair has nothing in common.
    expected = 10 * (2 / 3 + 1 / 2) / 4 / 2
    assert cider([first, second]) == pytest.approx(expected)


def test_repeating_a_word_earns_no_more_and_costs_length() -> None:
    first = (["a", "a", "a"], ["a"])
    second = (["p"], ["q"])
    # Words: 3 against 1, clipped to 1 · 1 over norms 3 · 1. The reference has no longer groups.
    # Two word pairs more than the reference's none: a penalty of exp(-2² / 72).
    expected = 10 * (1 / 3) / 4 * math.exp(-4 / 72) / 2
    assert cider([first, second]) == pytest.approx(expected)
