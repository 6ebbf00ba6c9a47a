"""Linear layers whose weights lie as a CPU's kernels want them, so that small batches are fast.

For a few rows the library behind `torch.nn.Linear` rearranges all weights at every call, which
takes longer than the product. Here that is done once, for as much memory again as the weights take.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from vidground.memory import free_bytes

_CPU = torch.device("cpu")
_MOST_ROWS = 64
"""For more rows rearranging costs little."""
_SHARE = 0.5
"""Part of the free memory that rearranged weights may take."""


class PackedLinear(nn.Linear):
    """A linear layer that keeps a rearranged copy of its weights, made at the first small batch.

    What it computes is what `torch.nn.Linear` computes. The copy follows the weights when they
    change, and is neither saved nor copied. With gradients it is not used.
    """

    _packed: tuple[tuple[int, int], Tensor] | None = None

    def forward(self, inputs: Tensor) -> Tensor:
        """(…, in) to (…, out)."""
        rows = inputs.numel() // self.in_features
        if torch.is_grad_enabled() or not 1 < rows <= _MOST_ROWS or not _suits(inputs):
            return super().forward(inputs)
        packed = self._arranged()
        out: Tensor = torch.ops.mkldnn._linear_pointwise(inputs, packed, self.bias, "none", [], "")
        return out

    def _arranged(self) -> Tensor:
        weight = self.weight
        now = weight.data_ptr(), 0 if weight.is_inference() else weight._version
        if self._packed is None or self._packed[0] != now:
            packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), _MOST_ROWS)
            self._packed = now, packed
        return self._packed[1]

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_packed"}


def pack_linears(*parts: nn.Module) -> bool:
    """Let the linear layers of parts of a model keep rearranged weights, in place.

    Only float32 on a CPU whose torch has oneDNN, and only if the free memory is ample; returns
    whether it was done.
    """
    layers = [layer for part in parts for layer in part.modules() if type(layer) is nn.Linear]
    needed = sum(layer.weight.numel() * layer.weight.element_size() for layer in layers)
    if not all(_suits(layer.weight) and not layer.weight.is_inference() for layer in layers):
        return False
    onednn = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if not onednn or needed > _SHARE * free_bytes(_CPU):
        return False
    for layer in layers:
        layer.__class__ = PackedLinear
    return True


def _suits(tensor: Tensor) -> bool:
    return tensor.device == _CPU and tensor.dtype == torch.float32
