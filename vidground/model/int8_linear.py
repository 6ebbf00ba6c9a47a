"""Linear layers with 8-bit weights that compute in the dtype of their inputs.

A weight is an integer from -127 to 127 times a scale of its output, and off by at most half a
scale: 1/254 of the largest weight of that output.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

_LARGEST = 127
_FEW_ROWS = 8
"""Up to this many rows, torch's kernel for bfloat16 is faster than unpacking the weights."""
_TILE_BYTES = {"few rows": 1 << 20, "many rows": 4 << 20, "cuda": 16 << 20}
"""Unpacked weights per product. Few rows wait for memory, so that a tile should stay in a core's
own cache; many rows wait for arithmetic, which wants large products."""


class Int8Linear(nn.Module):
    """A linear layer with 8-bit weights, made from one with weights of any float dtype.

    Attributes:
        weight: (out, in) int8.
        scale: (out, 1) float32.
        bias: (out,), or None.
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
        """Multiply: (…, in) to (…, out)."""
        if torch.is_grad_enabled():  # gradients need all weights
            return linear(inputs, (self.weight * self.scale).to(inputs.dtype), self.bias)
        rows = inputs.reshape(-1, inputs.shape[-1])
        if _has_kernel(inputs) and len(rows) <= _FEW_ROWS:
            scale = self.scale.view(-1).to(inputs.dtype)
            product = torch._weight_int8pack_mm(rows, self.weight, scale)
        else:
            product = self._multiply_tiles(rows)
        product = product.view(*inputs.shape[:-1], -1)
        return product if self.bias is None else product.add_(self.bias)

    def _multiply_tiles(self, rows: Tensor) -> Tensor:
        """Unpack and multiply a tile of weights at a time: (rows, in) to (rows, out)."""
        outputs, width = self.weight.shape
        few = "few rows" if len(rows) <= _FEW_ROWS else "many rows"
        room = _TILE_BYTES["cuda" if rows.is_cuda else few]
        height = min(outputs, max(1, room // (width * rows.element_size())))
        tile = rows.new_empty(height, width)
        product = rows.new_empty(len(rows), outputs)
        scale_first = rows.dtype == torch.float16  # sums of whole numbers would overflow
        for start in range(0, outputs, height):
            part = slice(start, min(start + height, outputs))
            unpacked = tile[: part.stop - start]
            if scale_first:
                torch.mul(self.weight[part], self.scale[part], out=unpacked)
            else:
                unpacked.copy_(self.weight[part])
            product[:, part] = linear(rows, unpacked)
        return product if scale_first else product.mul_(self.scale.view(-1))


def quantize_rows(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Round each row of a matrix to 8 bits.

    Args:
        weight: (out, in), any float dtype.

    Returns:
        (out, in) int8 from -127 to 127, and the rows' scales, (out, 1) float32: their product is
        the weight, within half a scale. A row of zeros has scale 1.
    """
    exact = weight.float()
    scale = exact.abs().amax(1, keepdim=True) / _LARGEST
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    return (exact / scale).round_().clamp_(-_LARGEST, _LARGEST).to(torch.int8), scale


def _has_kernel(inputs: Tensor) -> bool:
    """Return whether torch has a fast kernel for 8-bit weights and these inputs."""
    on_cpu = inputs.device.type == "cpu" and inputs.dtype == torch.bfloat16
    # With AVX-512 the kernel reads 32 inputs at a time, past the end of rows of other widths.
    fits = inputs.shape[-1] % 32 == 0
    return on_cpu and fits and hasattr(torch, "_weight_int8pack_mm")
