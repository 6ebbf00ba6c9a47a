"""Cache of objects derived from model weights; invalidated when the weights change."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import TypeVar

from torch import Tensor

from vidground.model.d2vlm import D2VLM, WEIGHT_CACHE

T = TypeVar("T")


def cached_for_weights(model: D2VLM, make: Callable[[], T]) -> T:
    """Return the object that `make` created for this model.

    It is created at the first call, and again once a weight of the language model has been
    changed, replaced or moved. It is neither saved nor copied with the model.

    Args:
        model: the model that the object is derived from.
        make: creates the object; also the key that it is found by.
    """
    state = tuple(_state(tensor) for tensor in _weights(model))
    cache: dict[object, tuple[object, T]] = model.__dict__.setdefault(WEIGHT_CACHE, {})
    entry = cache.get(make)
    if entry is None or entry[0] != state:
        entry = cache[make] = state, make()
    return entry[1]


def _weights(model: D2VLM) -> chain[Tensor]:
    parts = model.language_model, model.lm_head
    return chain.from_iterable(chain(part.parameters(), part.buffers()) for part in parts)


def _state(tensor: Tensor) -> tuple[int, int]:
    # Tensors of inference mode have no version; they cannot be changed outside of it either.
    return tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version
