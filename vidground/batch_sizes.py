"""How much is done at once: from the memory that is free, and less when it runs out after all.

Knows sizes in bytes; no model, and no torch unless it is loaded already.
"""

from __future__ import annotations

import os
import sys
from typing import Any


class BatchSize:
    """How many are done at once, at most. now: at present; it only ever falls."""

    def __init__(self, most: int) -> None:
        self.now = most

    def halve(self, tried: int) -> None:
        """Memory did not suffice for so many, 2 or more: take half of them from now on."""
        self.now = max(1, min(self.now, tried // 2))


def batch_size(item_bytes: int, *, free_bytes: int, share: float, most: int) -> int:
    """How many items of this size go into a share of the free memory: 1 to `most`."""
    return max(1, min(most, int(free_bytes * share) // max(1, item_bytes)))


def free_bytes(device: Any) -> int:
    """Memory that is free on a torch device; for the CPU what the system can still give."""
    torch = sys.modules["torch"]
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    with open("/proc/meminfo", encoding="ascii") as lines:
        for line in lines:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether Python, the GPU or torch on the CPU had no memory left."""
    torch = sys.modules.get("torch")  # a run without torch has no such error
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return True
    # On the CPU torch raises a plain RuntimeError.
    on_cpu = isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    return on_cpu or isinstance(error, MemoryError)


def release_memory() -> None:
    """Give back what torch keeps of the GPU's memory for later."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
