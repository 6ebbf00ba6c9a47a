"""Read tensors from safetensors files, and fill modules with them, one tensor at a time."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from vidground.checkpoints.stored_tensors import opened, read_headers, stored_type
from vidground.errors import CheckpointError

_SHOWN = 5  # names per list in a message


def read_tensors(
    files: Iterable[Path], *, skip: Collection[str] = ()
) -> Iterator[tuple[str, Tensor]]:
    """Yield names and tensors of safetensors files, file by file, except the names in `skip`.

    The tensors are views of the mapped file; copy those that are kept.

    Raises:
        CheckpointError: a file is damaged or missing.
    """
    for path in files:
        with opened(path, "pt") as stored:
            for name in sorted(set(stored.keys()) - set(skip)):
                yield name, stored.get_tensor(name)


def stored_dtype(files: Iterable[Path]) -> torch.dtype:
    """Return the floating-point dtype that most values are stored in; reads headers only.

    Raises:
        CheckpointError: a file is damaged, or no tensor is float64, float32, float16 or bfloat16.
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
    """Set every parameter and persistent buffer of `module`, each exactly once.

    Args:
        module: its tensors are replaced, so they may be on the meta device.
        tensors: names and values, iterated once and copied.
        source: of the tensors, for messages.
        dtype: of the floating-point tensors.
        device: of all tensors.

    Returns:
        The number of tensors used.

    Raises:
        CheckpointError: tensors are missing, unknown, repeated or of another shape.
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
            misfits.append(f"{name} {tuple(tensor.shape)}, expected {tuple(shapes[name])}")
            continue
        to = dtype if tensor.is_floating_point() else tensor.dtype
        _assign(module, name, tensor.to(device=device, dtype=to, copy=True))
    if missing or unused or misfits:
        raise CheckpointError(
            f"{source}: the tensors do not fit the model: {_listed(sorted(missing), 'missing')}; "
            f"{_listed(unused, 'unknown')}; {_listed(misfits, 'of another shape')}"
        )
    return len(shapes)


def _assign(module: nn.Module, name: str, tensor: Tensor) -> None:
    owner, _, leaf = name.rpartition(".")
    part = module.get_submodule(owner)
    setattr(part, leaf, nn.Parameter(tensor) if leaf in part._parameters else tensor)


def _listed(names: list[str], what: str) -> str:
    more = f", … {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{len(names)} {what}" + (f" ({', '.join(names[:_SHOWN])}{more})" if names else "")
