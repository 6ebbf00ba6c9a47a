"""Free memory of a device, out-of-memory errors, and batches that are halved when they occur.

Knows no model. Uses torch only if it has been imported already, so that this module is light.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

_OUT_OF_MEMORY = (
    "out of memory",  # CUDA's own, and torch's on CUDA, ROCm and MPS
    "can't allocate memory",  # torch on the CPU
    "failed to allocate memory",  # onnxruntime's arena
    "bad_alloc",
    "bad allocation",
    "alloc_failed",  # CUBLAS_STATUS_ALLOC_FAILED, CUDNN_STATUS_ALLOC_FAILED, ...
    "allocation_failed",  # CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED, ...
)
"""Parts of messages, in lower case, of errors that have no class of their own."""

_FILES = {
    1: (("memory.limit_in_bytes",), "memory.usage_in_bytes", "total_inactive_file"),
    2: (("memory.max", "memory.high"), "memory.current", "inactive_file"),
}
"""By version of control groups: files with limits, the file with the usage, and the line of
memory.stat with the file cache that can be reclaimed."""


class BatchSize:
    """A maximum number of items to process at once, which never grows.

    Args:
        maximum: the initial maximum.

    Attributes:
        now: the current maximum.
    """

    def __init__(self, maximum: int) -> None:
        self.now = maximum

    def halve(self, tried: int) -> None:
        """Reduce the maximum to half of a number of items, 2 or more, that did not fit."""
        self.now = max(1, min(self.now, tried // 2))


def in_parts(function: Callable[[Any], Any], items: Any, size: BatchSize) -> Any:
    """Apply a function to the rows of a tensor, at most `size` rows at a time.

    When memory runs out, the size is halved and the same rows are tried again.

    Args:
        function: takes rows and returns a tensor with a row for each.
        items: tensor.
        size: maximum number of rows.

    Returns:
        The results, concatenated.

    Raises:
        Exception: the out-of-memory error of a single row.
    """
    torch = sys.modules["torch"]
    done, start = [], 0
    while start < len(items):
        part = items[start : start + size.now]
        try:
            done.append(function(part))
        except Exception as error:
            if not is_out_of_memory(error) or len(part) == 1:
                raise
            size.halve(len(part))
        else:
            start += len(part)
            continue
        release_memory()  # here, where the error no longer holds tensors
    return done[0] if len(done) == 1 else torch.cat(done)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether Python, torch, CUDA and its libraries, or onnxruntime ran out of memory.

    Few of them have a class for this: most raise a general error and say so in its message. Errors
    of onnxruntime are not even `RuntimeError`s.
    """
    if isinstance(error, MemoryError):
        return True
    torch = sys.modules.get("torch")  # if it is not imported, it cannot have raised the error
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    of_onnxruntime = type(error).__module__.startswith("onnxruntime.")
    if not (of_onnxruntime or isinstance(error, RuntimeError)):
        return False
    message = str(error).lower()
    return any(words in message for words in _OUT_OF_MEMORY)


def release_memory() -> None:
    """Return torch's cached memory to the driver, on all GPUs."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def free_bytes(device: Any) -> int:
    """Return the memory that new tensors can use on a torch device.

    On a GPU this is the driver's free memory plus torch's unused cache, within the limit of
    `torch.cuda.set_per_process_memory_fraction`. Elsewhere it is the system's available memory,
    within the limits of this process's control groups (containers, batch systems).
    """
    if device.type != "cuda":
        return system_free_bytes()
    cuda = sys.modules["torch"].cuda
    index = cuda.current_device() if device.index is None else device.index
    free, total = cuda.mem_get_info(index)
    used, held = cuda.memory_allocated(index), cuda.memory_reserved(index)
    allowed = int(cuda.get_per_process_memory_fraction(index) * total)
    return max(0, int(min(free + held, allowed) - used))


def system_free_bytes(root: Path = Path("/")) -> int:
    """Return the main memory that this process can still use.

    Args:
        root: where proc and sys are mounted.
    """
    left = [left for _, left in _group_limits(root)]
    return max(0, min([_available(root), *left]))


def _available(root: Path) -> int:
    """Return the memory available without swapping; half of all memory if it is unknown."""
    for line in _lines(root / "proc/meminfo"):
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def container_limit_bytes(root: Path = Path("/")) -> int | None:
    """Return the lowest memory limit of this process's control groups; None if there is none.

    Args:
        root: where proc and sys are mounted.
    """
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limits = [limit for limit, _ in _group_limits(root)]
    return min((limit for limit in limits if limit < total), default=None)


def _group_limits(root: Path) -> Iterator[tuple[int, int]]:
    """Yield limit and remaining memory of this process's control groups and of those above."""
    for version, mount, group in _memory_groups(root):
        while True:
            yield from _limit_of(mount.joinpath(*group.parts[1:]), version)
            if group == group.parent:
                break
            group = group.parent


def _memory_groups(root: Path) -> Iterator[tuple[int, Path, PurePosixPath]]:
    """Yield version, mount point and this process's group of each hierarchy that limits memory."""
    mounts = [line.partition(" - ") for line in _lines(root / "proc/self/mountinfo")]
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, group = line.split(":", 2)
        kind = "cgroup" if controllers else "cgroup2"
        if controllers and "memory" not in controllers.split(","):
            continue
        for place, _, system in mounts:
            fields, (found, _, options) = place.split(), system.split(" ", 2)
            if found != kind or (controllers and "memory" not in options.split(",")):
                continue
            top, mount = PurePosixPath(fields[3]), root / fields[4].lstrip("/")
            path = PurePosixPath(group)
            # In a container the own group may be mounted as the top, and yet have its outer path.
            inner = path.relative_to(top) if path.is_relative_to(top) else PurePosixPath()
            yield (1 if controllers else 2), mount, PurePosixPath("/") / inner


def _limit_of(folder: Path, version: int) -> Iterator[tuple[int, int]]:
    """Yield a control group's limit and its remaining memory; idle file cache counts as free."""
    limits, usage, cache = _FILES[version]
    bounds = [int(text) for name in limits for text in _lines(folder / name) if text.isdigit()]
    used = [int(text) for text in _lines(folder / usage)]
    if not bounds or not used:
        return
    counts = (line.split() for line in _lines(folder / "memory.stat"))
    idle = sum(int(count) for name, count in counts if name == cache)
    yield min(bounds), min(bounds) - used[0] + idle


def _lines(path: Path) -> list[str]:
    """Return the lines of a system file; none if it is missing or unreadable."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
