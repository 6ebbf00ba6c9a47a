"""Linear layers with prepacked weights, which make small batches on CPUs fast.

For a few rows, oneDNN rearranges all weights at every call of `torch.nn.Linear`, which takes longer
than the product. Here this is done once; the copy takes as much memory as the weights.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from vidground.memory import free_bytes

_CPU = torch.device("cpu")
_MAX_ROWS = 64
"""With more rows, rearranging the weights costs little."""
_SHARE = 0.5
"""Maximum share of the free memory that prepacked weights may take."""


class PackedLinear(nn.Linear):
    """A linear layer with a prepacked copy of its weights, made at the first small batch.

    It computes the same as `torch.nn.Linear`. The copy is renewed when the weights change, is not
    saved, and is not used with gradients.
    """

    _packed: tuple[tuple[int, int], Tensor] | None = None

    def forward(self, inputs: Tensor) -> Tensor:
        """Apply the layer: (..., in) to (..., out)."""
        rows = inputs.numel() // self.in_features
        if torch.is_grad_enabled() or not 1 < rows <= _MAX_ROWS or not _suits(inputs):
            return super().forward(inputs)
        packed = self._prepacked()
        out: Tensor = torch.ops.mkldnn._linear_pointwise(inputs, packed, self.bias, "none", [], "")
        return out

    def _prepacked(self) -> Tensor:
        weight = self.weight
        now = weight.data_ptr(), 0 if weight.is_inference() else weight._version
        if self._packed is None or self._packed[0] != now:
            packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), _MAX_ROWS)
            self._packed = now, packed
        return self._packed[1]

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_packed"}


def pack_linears(*parts: nn.Module) -> bool:
    """Turn the linear layers of parts of a model into `PackedLinear`, in place.

    This is done for float32 on CPUs whose torch has oneDNN, and if there is enough free memory.

    Returns:
        Whether it was done.
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
