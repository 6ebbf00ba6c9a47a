"""Folders that vidground writes to: whether it can, and how much room is left."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from vidground.doctor.findings import Finding, failed, ok, skipped, warning
from vidground.doctor.machine import gib
from vidground.errors import CheckpointError
from vidground.settings import DEFAULT_MODEL, CacheSettings

_PROBE = b"vidground\n" * (1 << 17)
"""More than fits beside the bookkeeping of a disk that is full."""

_LITTLE_ROOM = 1 << 30
_NOT_OURS = (errno.EACCES, errno.EPERM, errno.EROFS)


def check_folders() -> Iterator[Finding]:
    """Write to the temporary folder and to both caches."""
    try:
        temporary = Path(tempfile.gettempdir())
    except FileNotFoundError as error:  # it tries to write
        yield failed("temporary folder", str(error), "free space, or name another folder in TMPDIR")
    else:
        yield probe("temporary folder", temporary, "name another folder in TMPDIR")
    remedy = "choose another with VIDGROUND_CACHE or --cache-dir, or run with --no-cache"
    yield probe("feature cache", CacheSettings().place, remedy)
    from huggingface_hub import constants

    hub = Path(constants.HF_HUB_CACHE)
    found = probe("hub cache", hub, "choose another with HF_HUB_CACHE")
    if found.values.get("errno") in _NOT_OURS:  # a cache shared read-only serves what it holds
        yield warning(
            "hub cache", f"{found.message}; models can be loaded from it, not downloaded",
            found.remedy, **found.values,
        )  # fmt: skip
    else:
        yield found


def check_models() -> Iterator[Finding]:
    """Whether the released weights are in the hub's cache; the network is not asked."""
    from vidground.checkpoints.hub import find_model
    from vidground.checkpoints.hub_files import HubAccess

    try:
        found = find_model(DEFAULT_MODEL, hub=HubAccess(local_files_only=True))
    except CheckpointError as error:
        yield skipped(
            DEFAULT_MODEL,
            "not in the hub cache; fetch it with: vidground download",
            cached=False,
            reason=str(error),
        )
        return
    size = sum(path.stat().st_size for path in found.path.rglob("*") if path.is_file())
    yield ok(
        found.name,
        f"cached, revision {found.revision}, {gib(size)}",
        cached=True,
        revision=found.revision,
        bytes=size,
    )


def probe(subject: str, folder: Path, remedy: str) -> Finding:
    """Write a megabyte to a folder, or to the nearest one above it that exists, and remove it."""
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    shown = short_path(folder)
    values = {"path": shown, "exists": place == folder}
    try:
        with tempfile.NamedTemporaryFile(dir=place, prefix=".vidground-doctor-") as file:
            file.write(_PROBE)
            file.flush()
            os.fsync(file.fileno())
        free = shutil.disk_usage(place).free
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            remedy = f"free space, or {remedy}"
        message = f"{shown}: cannot be written: {reason}"
        return failed(subject, message, remedy, errno=error.errno, **values)
    message = f"{shown}: writable, {gib(free)} free"
    if place != folder:
        message += "; will be created"
    if free < _LITTLE_ROOM:
        return warning(subject, message, f"free space, or {remedy}", free_bytes=free, **values)
    return ok(subject, message, free_bytes=free, **values)


def short_path(path: Path) -> str:
    """The path with ~ for the home folder, which names the user: reports are made public."""
    home = Path.home()
    if home == Path("/") or not path.is_relative_to(home):
        return str(path)
    return f"~/{path.relative_to(home)}"
