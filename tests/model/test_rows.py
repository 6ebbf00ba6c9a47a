"""Rows that are removed from a batch: which remain, and where they are moved."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from vidground.model.rows import keep_rows, remaining_rows


def test_the_last_row_takes_the_place_of_a_removed_one() -> None:
    assert remaining_rows(5, [1]) == [0, 4, 2, 3]
    assert remaining_rows(5, [0, 3]) == [4, 1, 2]
    assert remaining_rows(5, [4]) == [0, 1, 2, 3]
    assert remaining_rows(2, [0, 1]) == []


@given(st.integers(0, 9).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.integers(0, n)))))
def test_every_other_row_remains_once_and_few_are_moved(case: tuple[int, set[int]]) -> None:
    last, removed = case
    rows = remaining_rows(last + 1, removed)
    assert sorted(rows) == sorted(set(range(last + 1)) - removed)
    assert sum(new != old for new, old in enumerate(rows)) <= len(removed)
    values = torch.arange(2 * last + 2).reshape(-1, 2)
    expected = values[rows]
    kept = keep_rows(values, rows)
    assert kept.equal(expected)
    assert values[: len(rows)].equal(expected)  # in place
