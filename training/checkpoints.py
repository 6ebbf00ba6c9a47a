"""Checkpoints in a run's folder: what each contains, and which is the newest usable one."""

from __future__ import annotations

import hashlib
import json
import logging
import pickle
import re
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from vidground.errors import CheckpointError, InputError
from vidground.storage.atomic import write_atomically
from vidground.training.sample_order import RunPosition, StepSize

TRAINED = "trained.safetensors"
"""The trainable parameters in float32, without merging; training continues from them."""
STATE = "trainer_state.json"
"""Written by transformers' Trainer after all other state; a folder without it is incomplete."""
PROGRESS = "progress.json"
"""Position of the run and its data, see `Progress`."""
CHECKSUMS = "checksums.json"
"""Size and CRC-32 of the files that training continues from."""

_CHECKPOINT = re.compile(r"checkpoint-(\d+)")
_RESUMED_FROM = (TRAINED, STATE, PROGRESS, "optimizer.pt", "scheduler.pt", "rng_state*.pth")
_TORCH_FILES = ("optimizer.pt", "scheduler.pt")
_CHUNK_BYTES = 1 << 24

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Progress:
    """Where a checkpoint's run is, and on which data.

    Attributes:
        position: steps done and samples read.
        size: samples per step when it was saved.
        count: samples of the data set.
        files: SHA-256 of each annotation file, by path.
    """

    position: RunPosition
    size: StepSize
    count: int
    files: Mapping[str, str]

    def write(self, folder: Path) -> None:
        """Write to the folder of a checkpoint."""
        write_atomically(folder / PROGRESS, json.dumps(asdict(self), indent=2) + "\n")


def read_progress(checkpoint: Path, *, size: StepSize, count: int) -> Progress:
    """Return the progress of a checkpoint.

    Args:
        checkpoint: its folder.
        size: samples per step, for checkpoints of versions that did not store their progress.
        count: samples of the data set, likewise.

    Raises:
        CheckpointError: it cannot be read.
    """
    try:
        if not (checkpoint / PROGRESS).is_file():
            step = int(json.loads((checkpoint / STATE).read_text(encoding="utf-8"))["global_step"])
            return Progress(RunPosition(step, step * size.samples), size, count, {})
        stored = json.loads((checkpoint / PROGRESS).read_text(encoding="utf-8"))
        return Progress(
            RunPosition(**stored["position"]),
            StepSize(**stored["size"]),
            int(stored["count"]),
            dict(stored["files"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{checkpoint}: its progress cannot be read ({error}); remove the folder and resume "
            "from an earlier checkpoint"
        ) from error


def check_same_data(progress: Progress, files: Mapping[str, str], count: int) -> None:
    """Check that a run continues on the data it began with.

    Args:
        progress: of the checkpoint to resume from.
        files: SHA-256 of each annotation file now, by path.
        count: samples of the data set now.

    Raises:
        InputError: an annotation file was edited, or another number of samples is left.
    """
    for file, digest in files.items():
        if progress.files.get(file, digest) != digest:
            raise InputError(
                f"{file} has changed since the run began, so samples would be lost or repeated; "
                "restore it, or start another run from this one's model"
            )
    if progress.count != count:
        raise InputError(
            f"the run began with {progress.count} samples and finds {count} now, so samples would "
            "be lost or repeated; restore the missing videos, or start another run from this "
            "one's model"
        )


def file_digests(files: Iterable[str | Path]) -> dict[str, str]:
    """Return the SHA-256 of files, by path."""
    digests = {}
    for file in files:
        with Path(file).open("rb") as stream:
            digests[str(file)] = hashlib.file_digest(stream, "sha256").hexdigest()
    return digests


def checkpoints(run: Path) -> list[Path]:
    """Return the checkpoints in a run's folder, complete or not, from first to last."""
    found = [
        (int(match[1]), path)
        for path in (run.iterdir() if run.is_dir() else ())
        if (match := _CHECKPOINT.fullmatch(path.name))
    ]
    return [path for _, path in sorted(found)]


def usable_checkpoint(run: Path) -> Path | None:
    """Return the newest checkpoint that is complete and undamaged; None if there is none.

    Newer ones that cannot be used are reported as warnings.

    Raises:
        CheckpointError: there are complete checkpoints, and all are damaged.
    """
    damaged = 0
    for path in reversed(checkpoints(run)):
        if not (path / STATE).is_file():
            continue  # the run was killed while it was written
        fault = checkpoint_fault(path)
        if fault is None:
            return path
        damaged += 1
        _logger.warning("%s cannot be used (%s); trying the one before", path, fault)
    if damaged:
        raise CheckpointError(
            f"{run}: no checkpoint can be used, {damaged} damaged; start again with --overwrite"
        )
    return None


def checkpoint_fault(folder: Path) -> str | None:
    """Return what makes a checkpoint unusable, in words; None if it is fine."""
    try:
        json.loads((folder / STATE).read_text(encoding="utf-8"))
        return _changed_file(folder) or _unreadable_file(folder)
    except (OSError, ValueError) as error:
        return f"{STATE}: {error}"


def write_checksums(folder: Path) -> None:
    """Record size and CRC-32 of the files in a checkpoint that training continues from."""
    found = sorted(path for name in _RESUMED_FROM for path in folder.glob(name))
    checksums = {path.name: _checksum(path) for path in found}
    write_atomically(folder / CHECKSUMS, json.dumps(checksums, indent=2) + "\n")


def _changed_file(folder: Path) -> str | None:
    """Return the fault of the first file that differs from the checksums, if there are any."""
    if not (folder / CHECKSUMS).is_file():
        return None  # killed before it was written, or of an earlier version
    recorded: dict[str, Any] = json.loads((folder / CHECKSUMS).read_text(encoding="utf-8"))
    for name, expected in recorded.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != expected["bytes"]:
            return f"{name} has {path.stat().st_size} bytes of {expected['bytes']}"
        if _checksum(path) != expected:
            return f"{name} is damaged"
    return None


def _unreadable_file(folder: Path) -> str | None:
    """Return the fault of the first file that is missing or does not open."""
    if any(folder.glob("global_step*")) or any(folder.glob("optimizer_*")):
        return None  # DeepSpeed and FSDP keep their state in folders of their own
    try:
        with safe_open(folder / TRAINED, framework="pt"):
            pass
    except (OSError, SafetensorError) as error:
        return f"{TRAINED}: {error}"
    for name in _TORCH_FILES:
        if not (folder / name).is_file():
            return f"{name} is missing"
        try:
            torch.load(folder / name, map_location="cpu", weights_only=True, mmap=True)
        except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
            return f"{name}: {str(error).splitlines()[0]}"
    return None


def _checksum(path: Path) -> dict[str, Any]:
    crc, size = 0, 0
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            crc, size = zlib.crc32(chunk, crc), size + len(chunk)
    return {"bytes": size, "crc32": f"{crc:08x}"}
