"""Check the folders that vidground writes to: permissions and free space."""

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
"""More than fits on a full disk."""

_LITTLE_SPACE = 1 << 30
_READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)


def check_folders() -> Iterator[Finding]:
    """Check the temporary folder and both caches by writing to them."""
    try:
        temporary = Path(tempfile.gettempdir())
    except FileNotFoundError as error:  # gettempdir writes to the folder
        yield failed("temporary folder", str(error), "free space, or set TMPDIR to another folder")
    else:
        yield probe("temporary folder", temporary, "set TMPDIR to another folder")
    remedy = "choose another with VIDGROUND_CACHE or --cache-dir, or run with --no-cache"
    yield probe("feature cache", CacheSettings().place, remedy)
    from huggingface_hub import constants

    hub = Path(constants.HF_HUB_CACHE)
    found = probe("hub cache", hub, "choose another with HF_HUB_CACHE")
    if found.values.get("errno") in _READ_ONLY:  # models can be loaded from a read-only cache
        yield warning(
            "hub cache", f"{found.message}; models can be loaded from it, not downloaded",
            found.remedy, **found.values,
        )  # fmt: skip
    else:
        yield found


def check_models() -> Iterator[Finding]:
    """Check whether the released weights are in the hub's cache, without using the network."""
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
    """Write a megabyte to a folder, or to its nearest existing parent, and remove it.

    Args:
        subject: of the finding.
        folder: to test.
        remedy: if it cannot be written.
    """
    existing = folder
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    shown = short_path(folder)
    values = {"path": shown, "exists": existing == folder}
    try:
        with tempfile.NamedTemporaryFile(dir=existing, prefix=".vidground-doctor-") as file:
            file.write(_PROBE)
            file.flush()
            os.fsync(file.fileno())
        free = shutil.disk_usage(existing).free
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            remedy = f"free space, or {remedy}"
        message = f"{shown}: cannot be written: {reason}"
        return failed(subject, message, remedy, errno=error.errno, **values)
    message = f"{shown}: writable, {gib(free)} free"
    if existing != folder:
        message += "; will be created"
    if free < _LITTLE_SPACE:
        return warning(subject, message, f"free space, or {remedy}", free_bytes=free, **values)
    return ok(subject, message, free_bytes=free, **values)


def short_path(path: Path) -> str:
    """Replace the home folder, which contains the user's name, by ~: reports are made public."""
    home = Path.home()
    if home == Path("/") or not path.is_relative_to(home):
        return str(path)
    return f"~/{path.relative_to(home)}"
