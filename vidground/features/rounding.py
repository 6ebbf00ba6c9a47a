"""Patch features rounded to 16 or 8 bits for storage, and restored.

With a cache the model reads restored features from the start, so that the first answer equals
later ones. Knows no files.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vidground.errors import InputError

_SCALE_ROWS = 4  # a float32 per channel takes as many bytes as four int8 patches
_LARGEST = 127


def pack(features: Tensor, bits: int) -> Tensor:
    """Round features for storage.

    Args:
        features: (N, patches, width), any float type.
        bits: 16 or 8.

    Returns:
        16 bits: (N, patches, width) bfloat16 if the features are bfloat16, else float16. 8 bits:
        (N, patches + 4, width) int8; channel c of a frame is `scale[c]` times its integers, and the
        last four patches are the bytes of the scales in float32.

    Raises:
        InputError: a value is NaN, infinite, or too large for float16.
    """
    if bits == 8:
        return _quantized(features)
    rows = features if features.dtype == torch.bfloat16 else features.to(torch.float16)
    _require_finite(rows)
    return rows


def unpack(rows: Tensor, bits: int, dtype: torch.dtype) -> Tensor:
    """Restore features.

    Args:
        rows: the return value of `pack`.
        bits: as for `pack`.
        dtype: of the features.

    Returns:
        (N, patches, width).
    """
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
            "patch features hold NaN or values beyond 65,504, the maximum of float16; run without "
            "a cache (cache=None, --no-cache), or load the model in bfloat16"
        )
