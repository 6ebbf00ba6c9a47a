"""What is made of a model and kept with it, for as long as its weights stay what they are."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import TypeVar

from torch import Tensor

from vidground.model.d2vlm import D2VLM, KEPT

Thing = TypeVar("Thing")


def kept(model: D2VLM, make: Callable[[], Thing]) -> Thing:
    """What `make` made for this model, or makes now: once, and again when the weights of the
    language model have moved or changed."""
    state = tuple(_state(tensor) for tensor in _weights(model))
    things: dict[object, tuple[object, Thing]] = model.__dict__.setdefault(KEPT, {})
    found = things.get(make)
    if found is None or found[0] != state:
        found = things[make] = state, make()
    return found[1]


def _weights(model: D2VLM) -> chain[Tensor]:
    parts = model.language_model, model.lm_head
    return chain.from_iterable(chain(part.parameters(), part.buffers()) for part in parts)


def _state(tensor: Tensor) -> tuple[int, int]:
    # What inference mode made cannot be changed outside of it, and counts no changes.
    return tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version
