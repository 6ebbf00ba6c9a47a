"""Tensors in safetensors files, and modules filled with them, one tensor at a time.

Knows neither the model nor what its tensors are called elsewhere.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from vidground.checkpoints.stored_tensors import opened, read_headers, stored_type
from vidground.errors import CheckpointError

_SHOWN = 5  # names per list in a message; the count says how many there are


def read_tensors(
    files: Iterable[Path], *, skip: Collection[str] = ()
) -> Iterator[tuple[str, Tensor]]:
    """Names and tensors of safetensors files, file by file, without the names in `skip`.

    The tensors are views of the mapped file: copy what is kept.

    Raises:
        CheckpointError: a file is damaged or missing.
    """
    for path in files:
        with opened(path, "pt") as stored:
            for name in sorted(set(stored.keys()) - set(skip)):
                yield name, stored.get_tensor(name)


def stored_dtype(files: Iterable[Path]) -> torch.dtype:
    """The floating-point type that most values are stored in; reads no values.

    Raises:
        CheckpointError: a file is damaged, or no tensor is of float64, 32, 16 or bfloat16.
    """
    found = getattr(torch, stored_type(read_headers(files)))
    assert isinstance(found, torch.dtype)
    return found


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
