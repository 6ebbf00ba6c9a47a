"""Log which model is about to be loaded.

Reads file headers only. Imports no torch, so that the line can be logged before torch is loaded.
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
from vidground.devices import SMALL_MODEL_PARAMETERS

_log = logging.getLogger(__name__)

_GPU_DEVICES = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")
"""Linux devices of GPUs that torch can use: NVIDIA's, those under WSL, AMD's."""


@dataclass(frozen=True, slots=True)
class Loading:
    """A model that is about to be loaded.

    Attributes:
        model: as requested.
        source: where it was found, as recorded in results.
        parameters: number of parameters.
        dtype: of the weights in memory; None if not yet known.
        device: None if not yet known.
        stored_dtype: of the weights on disk.
        size_bytes: of the weights, in `dtype` or else in `stored_dtype`.
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
) -> Loading:
    """Log that a model is loaded from these files, in a record with the attribute `loading`.

    Args:
        model: as requested.
        files: of its weights.
        source: see `Loading`.
        dtype: "auto" for the stored dtype; None if not yet known, as for large models on the CPU,
            where it depends on the processor.
        device: None if not yet known.

    Returns:
        What was logged.

    Raises:
        CheckpointError: a file is damaged or missing.
    """
    tensors = read_headers(files)
    size = size_of({name: tensor.shape for name, tensor in tensors.items()})
    stored = stored_type(tensors)
    if dtype == "auto":
        dtype = stored
    elif dtype is None and device == "cpu" and size.parameters < SMALL_MODEL_PARAMETERS:
        dtype = "float32"
    size_bytes = size.bytes_in(dtype or stored)
    loading = Loading(str(model), source, size.parameters, dtype, device, stored, size_bytes)
    _log.info("%s", loading, extra={"loading": loading})
    return loading


def announce_early(
    model: str | Path,
    *,
    revision: str | None = None,
    subfolder: str | None = None,
    local_files_only: bool = False,
    device: str | None = None,
    dtype: str | None = None,
) -> Loading:
    """Find a model, download it if needed, and log that it is loaded.

    Args:
        model: see `find_model`.
        revision: see `find_model`.
        subfolder: see `find_model`.
        local_files_only: do not use the network.
        device: as requested; None for the default of `Grounder` and `DenseCaptioner`.
        dtype: as `device`; "auto" for the stored dtype.

    Returns:
        What was logged.

    Raises:
        CheckpointError: there is no such model, or it cannot be fetched.
    """
    hub = HubAccess(local_files_only=local_files_only)
    found = find_model(model, revision=revision, subfolder=subfolder, hub=hub)
    device = device or expected_device()
    return announce(model, _files(found, hub), source=found.name, dtype=dtype, device=device)


def expected_device() -> str | None:
    """Return the default device of a model; None if only torch can tell."""
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
    """Format a number with three digits and B or M: "5.02 B"."""
    unit, name = (1e9, "B") if count >= 1e9 else (1e6, "M")
    return f"{count / unit:.3g} {name}"


def spoken_bytes(size: int) -> str:
    """Format a size with its unit, in powers of 1000: "10.0 GB"."""
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{size} bytes"


def _files(found: ModelFolder, hub: HubAccess) -> list[Path]:
    """Return the files of a model's weights; for an adapter those of its base, then its own."""
    if not has_adapter(found.path):
        return weight_files(found.path)
    partial = found.path / PARTIAL_WEIGHTS
    own = [partial] if partial.is_file() else []
    return [*weight_files(find_base(found, hub).path), *own]
