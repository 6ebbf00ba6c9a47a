"""What is about to be loaded, told before that takes its time: as a line of the log.

Reads headers of files only. Imports no torch, so that a program can tell it before torch is loaded.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from vidground.checkpoints.hub import ModelFolder, find_base, find_model
from vidground.checkpoints.hub_files import HubAccess
from vidground.checkpoints.model_folder import PARTIAL_WEIGHTS, has_adapter, weight_files
from vidground.checkpoints.stored_tensors import read_headers, size_of, stored_type
from vidground.devices import choose_dtype

_log = logging.getLogger(__name__)

_GPU_DEVICES = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")
"""Where Linux has a GPU that torch can use: NVIDIA's, one below Windows, AMD's."""


@dataclass(frozen=True, slots=True)
class Loading:
    """A model that is about to be loaded.

    model: as it was asked for. source: where it was found, as results name it. dtype, device: None
    if not known yet. stored_dtype: the type that it lies on disk in. size_bytes: of the weights, in
    `dtype`, or as stored where that is not known.
    """

    model: str
    source: str
    parameters: int
    dtype: str | None
    device: str | None
    stored_dtype: str
    size_bytes: int

    def __str__(self) -> str:
        source = "" if self.source == self.model else f"{self.source}, "
        dtype = self.dtype or f"stored in {self.stored_dtype}"
        place = f"on {self.device}" if self.device else "on the GPU if it can be used"
        return (
            f"Loading {self.model} ({source}{spoken_count(self.parameters)} parameters, {dtype}, "
            f"{spoken_bytes(self.size_bytes)}) {place} …"
        )


def announce(
    model: str | Path,
    files: Iterable[Path],
    *,
    source: str,
    dtype: str | None,
    device: str | None,
) -> None:
    """Log that a model is loaded from these files (a record with the attribute `loading`).

    dtype: "auto" for as it is stored; None if it is not known yet.

    Raises:
        CheckpointError: a file is damaged or missing.
    """
    tensors = read_headers(files)
    size = size_of({name: tensor.shape for name, tensor in tensors.items()})
    stored = stored_type(tensors)
    if dtype == "auto":
        dtype = stored
    size_bytes = size.bytes_in(dtype or stored)
    loading = Loading(str(model), source, size.parameters, dtype, device, stored, size_bytes)
    _log.info("%s", loading, extra={"loading": loading})


def announce_early(
    model: str | Path,
    *,
    revision: str | None = None,
    subfolder: str | None = None,
    local_files_only: bool = False,
    device: str | None = None,
    dtype: str | None = None,
) -> None:
    """Find a model, fetch it if need be, and log that it is loaded, as far as is known yet.

    Args:
        device, dtype: as asked for; None for the choice of `Grounder` and `DenseCaptioner`. dtype
            "auto": as it is stored.

    Raises:
        CheckpointError: there is no such model, or it cannot be fetched.
    """
    hub = HubAccess(local_files_only=local_files_only)
    found = find_model(model, revision=revision, subfolder=subfolder, hub=hub)
    device = device or expected_device()
    if dtype is None and device == "cpu":  # for a card it depends on which one it is
        dtype = choose_dtype(device).name
    announce(model, _files(found, hub), source=found.name, dtype=dtype, device=device)


def expected_device() -> str | None:
    """The device that a model goes to if none is asked for; None if only torch can tell."""
    try:
        torch = version("torch")
    except PackageNotFoundError:
        return "cpu"
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") == ""
    without = sys.platform == "linux" and not any(map(os.path.exists, _GPU_DEVICES))
    if "+cpu" in torch or hidden or without or sys.platform == "darwin":
        return "cpu"
    return None


def spoken_count(count: int) -> str:
    """A number with three digits and B or M: "5.02 B"."""
    unit, name = (1e9, "B") if count >= 1e9 else (1e6, "M")
    return f"{count / unit:.3g} {name}"


def spoken_bytes(size: int) -> str:
    """A size with its unit, in powers of 1000: "10.0 GB"."""
    if size >= 1e9:
        return f"{size / 1e9:.1f} GB"
    return f"{size / 1e6:.1f} MB"


def _files(found: ModelFolder, hub: HubAccess) -> list[Path]:
    """The files of a model's weights; for an adapter those of its base, then its own."""
    if not has_adapter(found.path):
        return weight_files(found.path)
    partial = found.path / PARTIAL_WEIGHTS
    own = [partial] if partial.is_file() else []
    return [*weight_files(find_base(found, hub).path), *own]
