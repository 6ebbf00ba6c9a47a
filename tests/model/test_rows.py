"""Rows that are removed from a batch, and the cache of keys and values that follows them."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from vidground.model.kv_cache import RowCache, SharedPrefix
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


def test_cached_rows_move_in_place_with_all_their_positions() -> None:
    cache = RowCache(layers=1)
    lengths = [3, 5, 2]
    rows = [torch.randn(1, 2, length, 4) for length in lengths]
    prefix = torch.randn(1, 2, 1, 4)
    for index, row in enumerate(rows):
        cache.add(index, 1, lengths[index] + 1, SharedPrefix((prefix,), (prefix,)))
        cache.update(row, -row, 0)
    moves = cache.moves
    cache.keep(remaining_rows(3, [0]), [length + 1 for length in lengths])
    cache.step(torch.tensor([3, 6]), 7)  # the new positions of rows 2 and 1
    new = torch.randn(2, 2, 1, 4)
    keys, values = cache.update(new, new, 0)
    for found, index, step in ((0, 2, 0), (1, 1, 1)):
        length = lengths[index] + 1
        expected = torch.cat((prefix[0], rows[index][0], new[step]), dim=1)
        assert keys[found, :, : length + 1].equal(expected)
        assert values[found, :, 1:length].equal(-rows[index][0])
    assert cache.moves == moves
