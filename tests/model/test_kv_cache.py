"""Caches of keys and values: they grow, pass gradients on, and follow rows that are removed."""

import torch

from vidground.model.kv_cache import KeyValueCache, RowCache, SharedPrefix
from vidground.model.rows import remaining_rows


def test_a_cache_grows_without_losing_its_content() -> None:
    cache = KeyValueCache(layers=1)
    parts = [torch.randn(2, 3, length, 4) for length in (5, 300, 1, 1)]
    with torch.no_grad():
        for part in parts:
            keys, values = cache.update(part, -part, 0)
    torch.testing.assert_close(keys, torch.cat(parts, dim=2), rtol=0, atol=0)
    torch.testing.assert_close(values, -torch.cat(parts, dim=2), rtol=0, atol=0)
    assert cache.length(0) == 307


def test_gradients_flow_through_a_cache() -> None:
    cache = KeyValueCache(layers=1)
    first = torch.randn(1, 1, 2, 4, requires_grad=True)
    cache.update(first, first, 0)
    keys, _ = cache.update(torch.randn(1, 1, 1, 4), torch.randn(1, 1, 1, 4), 0)
    keys.sum().backward()
    assert first.grad is not None
    torch.testing.assert_close(first.grad, torch.ones_like(first))


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
