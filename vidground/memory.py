"""Free memory of a device, running out of it, and work in batches that shrink when that happens.

Knows no model. Uses torch only where it is loaded already, so that importing this is cheap.
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
"""What messages say, in lower case, of errors that have no class of their own."""

_FILES = {
    1: (("memory.limit_in_bytes",), "memory.usage_in_bytes", "total_inactive_file"),
    2: (("memory.max", "memory.high"), "memory.current", "inactive_file"),
}
"""By version of control groups: files with limits, the file with the usage, and the line of
memory.stat with the file cache that has not been used lately."""


class BatchSize:
    """The most items to process at once. now: the current limit; it only ever falls."""

    def __init__(self, most: int) -> None:
        self.now = most

    def halve(self, tried: int) -> None:
        """Memory was too small for `tried` items, 2 or more: from now on take half of them."""
        self.now = max(1, min(self.now, tried // 2))


def in_parts(function: Callable[[Any], Any], items: Any, size: BatchSize) -> Any:
    """Apply a function of the rows of a tensor to at most `size` rows at a time.

    When memory runs out, the size is halved and the same rows are tried again.

    Raises:
        MemoryError, or what the library raises: a single row does not fit.
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
        release_memory()  # here, where the error no longer holds what was computed
    return done[0] if len(done) == 1 else torch.cat(done)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether Python, torch, CUDA and its libraries, or onnxruntime ran out of memory.

    Few of them have a class for it: most raise a general error that says so in its message.
    onnxruntime's errors are not even `RuntimeError`s.
    """
    if isinstance(error, MemoryError):
        return True
    torch = sys.modules.get("torch")  # without it no such error can be raised
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
    """Return to the driver what torch has cached, on all cards."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def free_bytes(device: Any) -> int:
    """Memory that new tensors can use on a torch device.

    On a card: what the driver has left and what torch has cached without using it, within the
    limit of `torch.cuda.set_per_process_memory_fraction`. Elsewhere: what the system can give to
    this process, within the limits of its control groups (containers, batch systems).
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
    """Main memory that this process can still use.

    Args:
        root: where proc and sys are mounted.
    """
    left = [left for _, left in _group_limits(root)]
    return max(0, min([_available(root), *left]))


def _available(root: Path) -> int:
    """What the system can give without swapping; half of all memory where it does not tell."""
    for line in _lines(root / "proc/meminfo"):
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def container_limit_bytes(root: Path = Path("/")) -> int | None:
    """The tightest limit that control groups put on this process's memory; None if there is none.

    Args:
        root: where proc and sys are mounted.
    """
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limits = [limit for limit, _ in _group_limits(root)]
    return min((limit for limit in limits if limit < total), default=None)


def _group_limits(root: Path) -> Iterator[tuple[int, int]]:
    """Limit, and what is left of it, of each control group with one: of this process, and above."""
    for version, mount, group in _memory_groups(root):
        while True:
            yield from _limit_of(mount.joinpath(*group.parts[1:]), version)
            if group == group.parent:
                break
            group = group.parent


def _memory_groups(root: Path) -> Iterator[tuple[int, Path, PurePosixPath]]:
    """Version, mount point and this process's group of each hierarchy that may limit memory."""
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
            # A container may see its own group as the top, and still read its path outside.
            inner = path.relative_to(top) if path.is_relative_to(top) else PurePosixPath()
            yield (1 if controllers else 2), mount, PurePosixPath("/") / inner


def _limit_of(folder: Path, version: int) -> Iterator[tuple[int, int]]:
    """A control group's limit and what is left; its file cache counts as free where it is idle."""
    limits, usage, cache = _FILES[version]
    bounds = [int(text) for name in limits for text in _lines(folder / name) if text.isdigit()]
    used = [int(text) for text in _lines(folder / usage)]
    if not bounds or not used:
        return
    counts = (line.split() for line in _lines(folder / "memory.stat"))
    idle = sum(int(count) for name, count in counts if name == cache)
    yield min(bounds), min(bounds) - used[0] + idle


def _lines(path: Path) -> list[str]:
    """The lines of a system file; none where it is missing or not to be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
