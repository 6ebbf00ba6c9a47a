"""Linear layers that hold their weights in 8 bits and compute in the type of what they are given.

A weight is held as a whole number from -127 to 127 and a scale for each output: it is off by at
most half a scale, 1/254 of the largest weight of that output. Knows neither models nor training.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

_LARGEST = 127
_TILE_BYTES = {"cpu": 2 << 20, "cuda": 16 << 20}
"""What is unpacked at once: so much stays in a processor's cache until it is multiplied."""


class Int8Linear(nn.Module):
    """A linear layer with weights in 8 bits, made of one with weights of any float type.

    The weights are unpacked to the type of the inputs a tile at a time, so that what is read from
    memory is the 8 bits. weight: (out, in) int8. scale: (out, 1) float32.
    """

    weight: Tensor
    scale: Tensor
    bias: nn.Parameter | None

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        weight, scale = quantize_rows(layer.weight.detach())
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale)
        self.bias = layer.bias

    def forward(self, inputs: Tensor) -> Tensor:
        """(…, in) to (…, out)."""
        if torch.is_grad_enabled():  # for gradients all of the weights have to stay
            return linear(inputs, (self.weight * self.scale).to(inputs.dtype), self.bias)
        outputs, width = self.weight.shape
        room = _TILE_BYTES["cuda" if inputs.is_cuda else "cpu"]
        rows = min(outputs, max(1, room // (width * inputs.element_size())))
        tile = inputs.new_empty(rows, width)
        out = inputs.new_empty(*inputs.shape[:-1], outputs)
        for start in range(0, outputs, rows):
            part = slice(start, min(start + rows, outputs))
            unpacked = tile[: part.stop - start]
            torch.mul(self.weight[part], self.scale[part], out=unpacked)
            out[..., part] = linear(inputs, unpacked)
        return out if self.bias is None else out.add_(self.bias)


def quantize_rows(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Round each row of a matrix to 8 bits.

    Args:
        weight: (out, in), any float type.

    Returns:
        (out, in) int8 from -127 to 127, and the rows' scales, (out, 1) float32: their product is
        the weight, within half a scale. A row of zeros has scale 1.
    """
    exact = weight.float()
    scale = exact.abs().amax(1, keepdim=True) / _LARGEST
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    return (exact / scale).round_().clamp_(-_LARGEST, _LARGEST).to(torch.int8), scale


def hold_in_int8(part: nn.Module) -> None:
    """Hold the weights of all linear layers inside a part of a model in 8 bits, in place."""
    for owner in list(part.modules()):
        for name, layer in list(owner.named_children()):
            if isinstance(layer, nn.Linear):
                setattr(owner, name, Int8Linear(layer))


def is_in_int8(part: nn.Module) -> bool:
    """Whether linear layers inside a part of a model hold their weights in 8 bits."""
    return any(isinstance(layer, Int8Linear) for layer in part.modules())
