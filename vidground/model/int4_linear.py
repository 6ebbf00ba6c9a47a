"""Linear layers with 4-bit weights.

The inputs of an output are divided into groups of 32. A weight is an integer from 0 to 15, less 8,
times its group's scale, plus the group's middle: off by at most half a scale, 1/30 of the group's
range.

The weights lie as torch's kernel for CPUs wants them, so that they are stored once: in blocks of
outputs; a byte of a block holds the weights of one input for an output of its first half (low four
bits) and the corresponding one of its second half (high four bits).
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, pad

GROUP = 32
"""Inputs that share a scale."""

_LARGEST = 15
_MIDDLE = 8
_FEW_ROWS = 64
"""Up to this many rows, torch's kernel for CPUs, which computes in bfloat16, is faster than
unpacking the weights."""
_TILE_BYTES = {"cpu": 4 << 20, "cuda": 16 << 20}
"""Unpacked weights per product."""
_BLOCKS = (64, 32)
"""Outputs in a block of torch's kernel, by the instructions of the processor."""


class Int4Linear(nn.Module):
    """A linear layer with 4-bit weights, made from one with weights of any float dtype.

    Attributes:
        weight: (blocks, in, block / 2) uint8.
        scales: (in / 32, blocks * block, 2) in the layer's dtype: of each group the scale and the
            middle.
        bias: (out,), or None.

    Raises:
        ValueError: the number of inputs is not a multiple of 32.
    """

    weight: Tensor
    scales: Tensor
    bias: nn.Parameter | None

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.block = kernel_block() or _BLOCKS[0]
        self.outputs = layer.out_features
        rows = pad(layer.weight.detach(), (0, 0, 0, -self.outputs % self.block))
        integers, scales = quantize_groups(rows)
        self.register_buffer("weight", pack(integers, self.block))
        self.register_buffer("scales", scales.transpose(0, 1).contiguous().to(rows.dtype))
        self.bias = layer.bias

    def forward(self, inputs: Tensor) -> Tensor:
        """Multiply: (…, in) to (…, out)."""
        if torch.is_grad_enabled():  # gradients need all weights
            weight = self._unpack(slice(None), inputs.dtype)[: self.outputs]
            return linear(inputs, weight, self.bias)
        rows = inputs.reshape(-1, inputs.shape[-1])
        if rows.device.type == "cpu" and len(rows) <= _FEW_ROWS and kernel_block() == self.block:
            packed = self.weight.view(-1, inputs.shape[-1] // 2)
            product = _multiply(rows, packed, self.scales)
        else:
            product = self._multiply_tiles(rows)
        product = product[:, : self.outputs].view(*inputs.shape[:-1], -1)
        return product if self.bias is None else product + self.bias

    def _multiply_tiles(self, rows: Tensor) -> Tensor:
        """Unpack and multiply some blocks of weights at a time: (rows, in) to (rows, out)."""
        blocks, width, _ = self.weight.shape
        room = _TILE_BYTES["cuda" if rows.is_cuda else "cpu"]
        step = max(1, room // (self.block * width * rows.element_size()))
        product = rows.new_empty(len(rows), blocks * self.block)
        for start in range(0, blocks, step):
            part = slice(start, min(start + step, blocks))
            outputs = slice(part.start * self.block, part.stop * self.block)
            product[:, outputs] = linear(rows, self._unpack(part, rows.dtype))
        return product

    def _unpack(self, blocks: slice, dtype: torch.dtype) -> Tensor:
        """Return the weights of some blocks, (outputs, in)."""
        packed = self.weight[blocks]
        count, width, _ = packed.shape
        halves = torch.cat((packed & _LARGEST, packed >> 4), dim=-1)  # (count, in, block)
        integers = halves.transpose(1, 2).reshape(-1, width // GROUP, GROUP)
        scales = self.scales.view(width // GROUP, -1, self.block, 2)[:, blocks]
        scale, middle = scales.reshape(width // GROUP, -1, 2, 1).transpose(0, 1).unbind(2)
        values = (integers.to(dtype) - _MIDDLE).mul_(scale.to(dtype)).add_(middle.to(dtype))
        return values.reshape(count * self.block, width)


def quantize_groups(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Round each group of a matrix to 4 bits.

    Args:
        weight: (out, in), any float dtype; in is a multiple of 32.

    Returns:
        (out, in) uint8 from 0 to 15, and (out, in / 32, 2) float32, the groups' scales and middles:
        (integer - 8) * scale + middle is the weight, within half a scale.

    Raises:
        ValueError: the number of inputs is not a multiple of 32.
    """
    if weight.shape[1] % GROUP:
        raise ValueError(f"{weight.shape[1]} inputs; 4-bit weights need a multiple of {GROUP}")
    groups = weight.float().view(len(weight), -1, GROUP)
    low, high = groups.aminmax(dim=-1, keepdim=True)
    scale = (high - low) / _LARGEST
    divisor = torch.where(scale > 0, scale, torch.ones_like(scale))
    integers = ((groups - low) / divisor).round_().clamp_(0, _LARGEST).to(torch.uint8)
    return integers.view(weight.shape), torch.cat((scale, low + _MIDDLE * scale), dim=-1)


def pack(integers: Tensor, block: int) -> Tensor:
    """Pack numbers from 0 to 15, (out, in), into bytes, (out / block, in, block / 2)."""
    blocks = integers.view(-1, 2, block // 2, integers.shape[1])
    low, high = blocks.transpose(2, 3).unbind(1)
    return (low | high << 4).contiguous()


@cache
def kernel_block() -> int | None:
    """Return the block of torch's kernel on this processor; None if there is no kernel that works.

    The kernel is tried: which layout it reads depends on the processor and is not documented.
    """
    if not hasattr(torch.ops.aten, "_weight_int4pack_mm_for_cpu"):
        return None
    width, outputs = 2 * GROUP, max(_BLOCKS)
    integers = torch.arange(outputs * width).mul_(7).remainder_(11).view(outputs, width)
    inputs = torch.arange(width, dtype=torch.bfloat16).remainder_(5).view(1, width)
    scales = torch.tensor([1.0, 0.0], dtype=torch.bfloat16).repeat(width // GROUP, outputs, 1)
    expected = inputs.float() @ (integers - _MIDDLE).float().T
    for block in _BLOCKS:
        packed = pack(integers.to(torch.uint8), block).view(outputs, width // 2)
        try:
            product = _multiply(inputs, packed, scales)
        except RuntimeError:  # not on this processor
            return None
        if torch.allclose(product.float(), expected, rtol=0.01, atol=0.5):
            return block
    return None


def _multiply(rows: Tensor, packed: Tensor, scales: Tensor) -> Tensor:
    """Call torch's kernel, which is fast for bfloat16 only."""
    product: Tensor = torch.ops.aten._weight_int4pack_mm_for_cpu(
        rows.to(torch.bfloat16), packed, GROUP, scales.to(torch.bfloat16)
    )
    return product.to(rows.dtype)
