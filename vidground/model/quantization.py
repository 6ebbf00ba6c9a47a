"""Storage of a model's linear weights in 8 or 4 bits."""

from __future__ import annotations

from torch import nn

from vidground.model.int4_linear import GROUP, Int4Linear
from vidground.model.int8_linear import Int8Linear


def quantize_linears(part: nn.Module, bits: int) -> None:
    """Store the weights of all linear layers inside a part of a model in fewer bits, in place.

    Args:
        part: a module that contains linear layers.
        bits: 8 or 4. With 4, layers whose number of inputs is not a multiple of 32 get 8.
    """
    for owner in list(part.modules()):
        for name, layer in list(owner.named_children()):
            if isinstance(layer, nn.Linear):
                fits = bits == 4 and layer.in_features % GROUP == 0
                setattr(owner, name, Int4Linear(layer) if fits else Int8Linear(layer))


def linear_bits(part: nn.Module) -> int | None:
    """Return the bits of the linear weights inside a part: 4, 8, or None for those of its dtype."""
    layers = list(part.modules())
    if any(isinstance(layer, Int4Linear) for layer in layers):
        return 4
    return 8 if any(isinstance(layer, Int8Linear) for layer in layers) else None
