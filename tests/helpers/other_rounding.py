"""Products rounded as another processor might: in the last bits, and otherwise for each batch size.

Kernels sum in another order for another number of rows, in ways that differ between processors.
A test that asks for equal bits of what was computed in two groupings can pass on the machine it
was written on and fail on the next. Under `pytest --other-rounding` it fails on all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vidground.model.packed_linear import PackedLinear


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Round the products of linear layers and of attention anew.

    The same call with the same shapes gives the same bits, as it does on a real processor.
    """
    functional = nn.functional
    for owner, name in (
        (functional, "linear"),
        (functional, "scaled_dot_product_attention"),
        (PackedLinear, "forward"),
    ):
        monkeypatch.setattr(owner, name, _rounded_anew(getattr(owner, name)))


def _rounded_anew(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def rounded(*arguments: Any, **options: Any) -> Tensor:
        out = function(*arguments, **options)
        if not out.is_floating_point() or not out.numel():
            return out
        columns = torch.arange(out.shape[-1], device=out.device)
        rows = out.numel() // out.shape[-1]
        # From -2 to 2, by column and number of rows: units in the last place. In 16 bits sums are
        # rounded once, from float32: fewer values change.
        units = (columns * 7 + rows * 13 + rows // 5) % 5 - 2
        epsilon = torch.finfo(out.dtype).eps
        if out.dtype.itemsize == 2:
            return (out.float() * (1 + epsilon / 16 * units)).to(out.dtype)
        return out * (1 + epsilon * units.to(out.dtype))

    return rounded
