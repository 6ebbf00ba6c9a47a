"""Texts ranked by words."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidground.review.ranking import rank, words


def test_words_have_no_case_no_accent_and_no_plural() -> None:
    assert words("Two DOGS, Élan; glass's straße_x") == [
        *("two", "dog", "elan", "glass", "s", "strasse", "x")
    ]
    assert words("东京 タワー 한국") == [*"东京", *"タワー", *"한국"]


def test_bm25_by_hand() -> None:
    # dog is in 1 of 2 texts: log(1 + 1.5 / 1.5). Mean length 2, so K = 1.2 (0.25 + 0.375 n).
    rarity = math.log(2)
    own = rarity * 2.2 / (1 + 1.2 * (0.25 + 0.375 * 1))
    found = rarity * 2.2 / (1 + 1.2 * (0.25 + 0.375 * 3))
    assert rank("dog", ["a dog eats", "rain"]) == pytest.approx([found / own, 0.0])


def test_rarer_words_more_words_and_shorter_texts_are_better() -> None:
    texts = ["a red car", "a red bike", "a red van", "a blue car passes a red house", "rain"]
    car, bike, *_ = rank("red bike", texts)
    assert bike > car > 0
    found = rank("car", texts)
    assert found[0] > found[3] > found[1] == 0
    assert rank("RED cars", ["a red car", "red car"])[1] == 1


def test_nothing_to_compare_is_no_fit() -> None:
    assert rank("...", ["a dog"]) == [0.0]
    assert rank("dog", []) == []
    assert rank("dog", ["", "?"]) == [0.0, 0.0]


@given(st.text("abc dé", max_size=20), st.lists(st.text("abc dé", max_size=20), max_size=6))
def test_scores_lie_between_0_and_1_and_the_query_itself_is_best(
    query: str, texts: list[str]
) -> None:
    scores = rank(query, [*texts, query])
    assert all(0 <= score <= 1 for score in scores)
    if words(query) and len(set(words(query))) == len(words(query)):
        assert scores[-1] == pytest.approx(1)
    shared = [bool(set(words(text)) & set(words(query))) for text in texts]
    assert [score > 0 for score in scores[:-1]] == shared
