"""Keys and values of a decode in progress, in memory that is taken in blocks ahead of need."""

import torch
from torch import Tensor

_BLOCK = 256  # positions taken at once: few copies, and memory that follows the real length


class KeyValueCache:
    """Keys and values of every decoder layer for one batch.

    A layer calls `update` with its new keys and values, (B, heads, new, width) each, and gets
    all of them back, (B, heads, length, width). With gradients the tensors are joined instead
    of written in place, so that a loss can flow through the cache.
    """

    def __init__(self, layers: int, *, capacity: int = 0) -> None:
        self._keys: list[Tensor | None] = [None] * layers
        self._values: list[Tensor | None] = [None] * layers
        self._lengths = [0] * layers
        self._capacity = capacity

    def length(self, layer: int) -> int:
        """Positions that `layer` holds."""
        return self._lengths[layer]

    def update(
        self, keys: Tensor, values: Tensor, layer: int, *_: object, **__: object
    ) -> tuple[Tensor, Tensor]:
        """Append new keys and values of a layer; the form transformers' attention calls."""
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
            size = max(self._capacity, -(-stop // _BLOCK) * _BLOCK)
            larger = new.new_zeros(*new.shape[:2], size, new.shape[3])
            if store is not None:
                larger[:, :, :start] = store[:, :, :start]
            store = larger
        store[:, :, start:stop] = new
        return store


def _joined(old: Tensor | None, new: Tensor) -> Tensor:
    return new if old is None else torch.cat((old, new), dim=2)
