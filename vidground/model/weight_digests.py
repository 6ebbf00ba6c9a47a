"""Digests of weights in memory, which identify a module in caches, exports and records.

Their values are stored, so they must not change:

- `quick_digest` takes a moment, whatever the size: feature cache.
- `sampled_digest` reads a few values of each tensor: stored predictions.
- `full_digest` reads everything: feature cache of training.
- `rounded_digest` reads everything, and is the same in float32 and bfloat16: exports.

`vidground.checkpoints.fingerprint` identifies files of weights.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

_QUICK_SAMPLES = 16 << 10
_SAMPLES = 4096
"""Number of values read per tensor; enough to distinguish two trainings."""


def quick_digest(part: nn.Module) -> str:
    """Return a digest of some values of each tensor and of the sum of all its bits as integers.

    Training changes weights everywhere, and a sum of integers does not depend on its order.
    """
    digest = hashlib.sha256()
    for name, tensor in _tensors(part):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        values = tensor.reshape(-1)
        if values.storage_offset() or not values.is_contiguous():
            values = values.clone()  # its bytes are viewed as int64 below
        digest.update(_bytes(values[:: max(1, len(values) // _QUICK_SAMPLES)]))
        whole = values.view(torch.uint8)
        words = whole[: len(whole) // 8 * 8].view(torch.int64)
        digest.update(str(int(words.sum())).encode())
    return digest.hexdigest()


def sampled_digest(part: nn.Module) -> str:
    """Return a digest of some values of every tensor."""
    digest = hashlib.sha256()
    for name, tensor in _tensors(part):
        values = tensor.reshape(-1)
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(_bytes(values[:: max(1, len(values) // _SAMPLES)]))
    return digest.hexdigest()


def full_digest(part: nn.Module, dtype: torch.dtype) -> str:
    """Return a digest of all values and of the dtype that the part computes in."""
    digest = hashlib.sha256(str(dtype).encode())
    for name, tensor in _tensors(part):
        digest.update(name.encode())
        digest.update(_bytes(tensor))
    return digest.hexdigest()


def rounded_digest(part: nn.Module) -> str:
    """Return a digest of all shapes and values, rounded to bfloat16.

    Weights stored in 16 bits have the same digest whether they are loaded in float32 or bfloat16.
    """
    digest = hashlib.sha256()
    for name, tensor in _tensors(part):
        values = tensor.to(torch.bfloat16) if tensor.is_floating_point() else tensor
        digest.update(f"{name} {tuple(tensor.shape)}\n".encode())
        digest.update(_bytes(values))
    return digest.hexdigest()


def _tensors(part: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in sorted(part.state_dict().items()):
        yield name, tensor.detach()


def _bytes(values: Tensor) -> memoryview:
    return values.contiguous().cpu().reshape(-1).view(torch.uint8).numpy().data
