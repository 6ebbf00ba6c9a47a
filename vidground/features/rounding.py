"""Patch features in 16 or 8 bits: what is kept of them, and what is made of that again.

Whoever keeps features works with what `unpack` gives from the start, so that the first answer is
the later ones' too. Knows no files.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vidground.errors import InputError

_SCALE_ROWS = 4  # a float32 for each channel is as many bytes as four more patches
_LARGEST = 127


def pack(features: Tensor, bits: int) -> Tensor:
    """Features, (N, patches, width), as they are kept: N rows of the same size.

    16 bits: bfloat16 stays what it is, all else becomes float16. 8 bits: (N, patches + 4, width)
    int8; a frame's channel c is `scale[c]` times its integers, and the last four patches are the
    bytes of the scales in float32.

    Raises:
        InputError: values are no numbers, or too large for float16.
    """
    if bits == 8:
        return _quantized(features)
    rows = features if features.dtype == torch.bfloat16 else features.to(torch.float16)
    _require_finite(rows)
    return rows


def unpack(rows: Tensor, bits: int, dtype: torch.dtype) -> Tensor:
    """The features of rows that `pack` made, in `dtype`."""
    if bits == 16:
        return rows.to(dtype)
    frames, _, width = rows.shape
    scale = rows[:, -_SCALE_ROWS:].reshape(frames, 1, -1).contiguous().view(torch.float32)
    assert scale.shape[-1] == width
    return (rows[:, :-_SCALE_ROWS] * scale).to(dtype)


def _quantized(features: Tensor) -> Tensor:
    values = features.float()
    scale = values.abs().amax(1, keepdim=True) / _LARGEST  # (N, 1, width)
    _require_finite(scale)
    scale = scale.where(scale > 0, 1.0)
    integers = (values / scale).round().clamp(-_LARGEST, _LARGEST).to(torch.int8)
    frames, _, width = integers.shape
    return torch.cat((integers, scale.view(torch.int8).reshape(frames, _SCALE_ROWS, width)), dim=1)


def _require_finite(values: Tensor) -> None:
    if not bool(values.isfinite().all()):
        raise InputError(
            "patch features are beyond 65,504, the most that 16 bits hold, or no numbers; run "
            "without a cache (cache=None, --no-cache), or load the model in bfloat16"
        )
