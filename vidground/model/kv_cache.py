"""Caches of attention keys and values, in memory that is allocated in blocks."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vidground.model.rows import moved_rows

CACHE_BLOCK = 256
"""Number of positions that a cache grows by: few copies, and memory close to the real length."""


class KeyValueCache:
    """Keys and values of every decoder layer for one batch.

    With gradients, tensors are concatenated instead of written in place, so that gradients flow
    through the cache.

    Args:
        layers: number of decoder layers.
    """

    def __init__(self, layers: int) -> None:
        self._keys: list[Tensor | None] = [None] * layers
        self._values: list[Tensor | None] = [None] * layers
        self._lengths = [0] * layers

    def length(self, layer: int) -> int:
        """Return the number of positions of a layer."""
        return self._lengths[layer]

    def content(self, layer: int) -> tuple[Tensor, Tensor]:
        """Return the keys and values of a layer, (B, heads, length, width) each."""
        keys, values, stop = self._keys[layer], self._values[layer], self._lengths[layer]
        assert keys is not None
        assert values is not None
        return keys[:, :, :stop], values[:, :, :stop]

    def update(
        self, keys: Tensor, values: Tensor, layer: int, *_: object, **__: object
    ) -> tuple[Tensor, Tensor]:
        """Append keys and values of a layer; called by the attention of transformers.

        Args:
            keys: (B, heads, new, width).
            values: (B, heads, new, width).
            layer: index of the layer.

        Returns:
            All keys and values of the layer, (B, heads, length, width) each.
        """
        start, stop = self._lengths[layer], self._lengths[layer] + keys.shape[2]
        self._lengths[layer] = stop
        if torch.is_grad_enabled():
            self._keys[layer] = _joined(self._keys[layer], keys)
            self._values[layer] = _joined(self._values[layer], values)
            return self._keys[layer], self._values[layer]  # type: ignore[return-value]
        self._keys[layer] = all_keys = self._written(self._keys[layer], keys, start)
        self._values[layer] = all_values = self._written(self._values[layer], values, start)
        return all_keys[:, :, :stop], all_values[:, :, :stop]

    def _written(self, store: Tensor | None, new: Tensor, start: int) -> Tensor:
        stop = start + new.shape[2]
        if store is None or store.shape[2] < stop:
            size = -(-stop // CACHE_BLOCK) * CACHE_BLOCK
            larger = new.new_zeros(*new.shape[:2], size, new.shape[3])
            if store is not None:
                larger[:, :, :start] = store[:, :, :start]
            store = larger
        store[:, :, start:stop] = new
        return store


def _joined(old: Tensor | None, new: Tensor) -> Tensor:
    return new if old is None else torch.cat((old, new), dim=2)


def _after(prefix: Tensor, rows: Tensor) -> Tensor:
    return torch.cat((prefix.expand(len(rows), -1, -1, -1), rows), dim=2)


@dataclass(frozen=True)
class SharedPrefix:
    """Keys and values of the S positions that rows begin with.

    Args:
        keys: of each layer, (1, heads, S, width).
        values: of each layer, (1, heads, S, width).
    """

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]


class RowCache:
    """Keys and values of rows that are added and removed while they are decoded.

    A forward pass is either a prefill of new rows, announced by `add`, or a step by one position of
    all rows, announced by `step`; the layers call `update` in both. Gradients are not supported.
    Memory is allocated for rows x positions of the longest row.

    Args:
        layers: number of decoder layers.

    Attributes:
        moves: how often the memory was replaced by a larger one.
    """

    def __init__(self, layers: int) -> None:
        self.moves = 0
        self._keys: list[Tensor | None] = [None] * layers
        self._values: list[Tensor | None] = [None] * layers
        self._rows = slice(0)
        self._adding = False
        self._prefix: SharedPrefix | None = None
        self._index = self._at = torch.empty(0)
        self._size = (0, 0)  # rows and positions that memory is allocated for
        self._span = 0

    def add(self, first: int, rows: int, length: int, prefix: SharedPrefix | None = None) -> None:
        """Announce a prefill of new rows.

        Args:
            first: index of the first new row.
            rows: number of new rows.
            length: positions of each row, including those of the prefix.
            prefix: keys and values of the first positions, which are not part of the pass.
        """
        self.reserve(first + rows, length)
        self._adding, self._prefix = True, prefix
        self._rows = slice(first, first + rows)

    def step(self, positions: Tensor, span: int) -> None:
        """Announce a step by one position of the first B rows.

        Args:
            positions: (B,), the new position of each row.
            span: number of positions that attention reads, more than the largest position.
        """
        self.reserve(len(positions), span)
        self._adding = False
        self._rows = slice(len(positions))
        self._index, self._at = torch.arange(len(positions), device=positions.device), positions
        self._span = span

    @property
    def rows(self) -> int:
        """Number of rows that memory is allocated for."""
        return self._size[0]

    def keep(self, rows: Sequence[int], lengths: Sequence[int]) -> None:
        """Keep only these rows, in this order.

        Rows are moved in place, because recorded steps refer to this memory.

        Args:
            rows: result of `remaining_rows`.
            lengths: positions in use of every row before the removal.
        """
        for new, old in moved_rows(rows):
            for store in (*self._keys, *self._values):
                if store is not None:
                    store[new, :, : lengths[old]] = store[old, :, : lengths[old]]

    def erase(self, row: int) -> None:
        """Overwrite a row with zeros.

        Attention weights masked positions by 0, and 0 x NaN is NaN: the NaN of a removed row would
        spoil the next row in its place.
        """
        for store in (*self._keys, *self._values):
            if store is not None:
                store[row] = 0

    def reserve(self, rows: int, positions: int) -> None:
        """Allocate memory for at least this many rows and positions."""
        blocks = -(-positions // CACHE_BLOCK) * CACHE_BLOCK
        size = max(self._size[0], rows), max(self._size[1], blocks)
        if size == self._size:
            return
        self._size = size
        self.moves += 1
        for stores in (self._keys, self._values):
            for layer, store in enumerate(stores):
                if store is not None:
                    stores[layer] = larger = self._room(store)
                    larger[: store.shape[0], :, : store.shape[2]] = store

    def update(
        self, keys: Tensor, values: Tensor, layer: int, *_: object, **__: object
    ) -> tuple[Tensor, Tensor]:
        """Add keys and values of a layer; called by the attention of transformers.

        Args:
            keys: (B, heads, new, width).
            values: (B, heads, new, width).
            layer: index of the layer.

        Returns:
            All keys and values that attention reads, (B, heads, span, width) each.
        """
        if self._adding and self._prefix is not None:
            keys = _after(self._prefix.keys[layer], keys)
            values = _after(self._prefix.values[layer], values)
        self._keys[layer] = all_keys = self._written(self._keys[layer], keys)
        self._values[layer] = all_values = self._written(self._values[layer], values)
        if self._adding:
            return keys, values
        seen = self._rows, slice(None), slice(self._span)
        return all_keys[seen], all_values[seen]

    def _written(self, store: Tensor | None, new: Tensor) -> Tensor:
        store = self._room(new) if store is None else store
        if self._adding:
            store[self._rows, :, : new.shape[2]] = new
        else:
            store[self._index, :, self._at] = new[:, :, 0]
        return store

    def _room(self, like: Tensor) -> Tensor:
        rows, positions = self._size
        return like.new_zeros(rows, like.shape[1], positions, like.shape[3])
