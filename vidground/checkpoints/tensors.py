"""Tensors in safetensors files, and modules filled with them, one tensor at a time.

Knows neither the model nor what its tensors are called elsewhere.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from vidground.errors import CheckpointError

_SHOWN = 5  # names per list in a message; the count says how many there are

_FLOATS = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
}


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="pt", device="cpu") as stored:
            yield stored
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}; fetch it again") from error


def read_tensors(
    files: Iterable[Path], *, skip: Collection[str] = ()
) -> Iterator[tuple[str, Tensor]]:
    """Names and tensors of safetensors files, file by file, without the names in `skip`.

    The tensors are views of the mapped file: copy what is kept.

    Raises:
        CheckpointError: a file is damaged or missing.
    """
    for path in files:
        with _opened(path) as stored:
            for name in sorted(set(stored.keys()) - set(skip)):
                yield name, stored.get_tensor(name)


def tensor_names(path: Path) -> frozenset[str]:
    """Names of the tensors in a safetensors file."""
    with _opened(path) as stored:
        return frozenset(stored.keys())


def stored_dtype(files: Iterable[Path]) -> torch.dtype:
    """The floating-point type that most values are stored in; reads no values.

    Raises:
        CheckpointError: a file is damaged, or no tensor is of float64, 32, 16 or bfloat16.
    """
    values: Counter[torch.dtype] = Counter()
    for path in files:
        with _opened(path) as stored:
            for part in map(stored.get_slice, stored.keys()):
                if part.get_dtype() in _FLOATS:
                    values[_FLOATS[part.get_dtype()]] += math.prod(part.get_shape())
    if not values:
        raise CheckpointError("the checkpoint holds no floating-point tensors")
    return values.most_common(1)[0][0]


def fill(
    module: nn.Module,
    tensors: Iterable[tuple[str, Tensor]],
    *,
    source: str,
    dtype: torch.dtype,
    device: torch.device,
) -> int:
    """Give every parameter of `module` its tensor, each exactly once.

    Args:
        module: its parameters are replaced, so they may be on the meta device.
        tensors: (name, tensor), read once; copied to `device`, and to `dtype` if floating-point.
        source: what the tensors are of, for messages.

    Returns:
        The number of tensors used.

    Raises:
        CheckpointError: tensors are missing, have no place, come twice or have another shape.
    """
    shapes = {name: tensor.shape for name, tensor in module.state_dict(keep_vars=True).items()}
    missing = set(shapes)
    unused: list[str] = []
    misfits: list[str] = []
    for name, tensor in tensors:
        if name not in missing:
            unused.append(f"{name} (twice)" if name in shapes else name)
            continue
        missing.remove(name)
        if tensor.shape != shapes[name]:
            misfits.append(f"{name} {tuple(tensor.shape)}, needed {tuple(shapes[name])}")
            continue
        to = dtype if tensor.is_floating_point() else tensor.dtype
        _assign(module, name, tensor.to(device=device, dtype=to, copy=True))
    if missing or unused or misfits:
        raise CheckpointError(
            f"{source}: the tensors do not fit the model: {_listed(sorted(missing), 'missing')}; "
            f"{_listed(unused, 'without a place')}; {_listed(misfits, 'of another shape')}"
        )
    return len(shapes)


def _assign(module: nn.Module, name: str, tensor: Tensor) -> None:
    owner, _, leaf = name.rpartition(".")
    part = module.get_submodule(owner)
    setattr(part, leaf, nn.Parameter(tensor) if leaf in part._parameters else tensor)


def _listed(names: list[str], what: str) -> str:
    more = f", … {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{len(names)} {what}" + (f" ({', '.join(names[:_SHOWN])}{more})" if names else "")
