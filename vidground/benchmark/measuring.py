"""Time, processor time and memory of the stages of a run, told apart."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from vidground.benchmark.ceilings import synchronize

DECODE, PREPROCESS, VISION, COMPRESS, PREFILL, TOKENS, WRITE = STAGES = (
    "decode",
    "preprocess",
    "vision",
    "compress",
    "prefill",
    "tokens",
    "write",
)
"""From a file to pictures (decode, preprocess), to frame tokens (vision, compress), to an answer
(prefill up to its first token, tokens for the others), to files of results."""

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # proc(5)


@dataclass
class Usage:
    """What a stage took so far.

    seconds: by the clock. cpu_s: processor time of all threads of this process. peak_bytes: most
    memory that the process held during the stage, on a GPU the most that torch held there; None
    where the system does not tell.
    """

    seconds: float = 0.0
    cpu_s: float = 0.0
    peak_bytes: int | None = None


class StageMeter:
    """Adds up what stages take on a device, by name; `usage` holds them in order of use."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.usage: dict[str, Usage] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """What is done inside belongs to this stage; stages do not nest."""
        usage = self.usage.setdefault(name, Usage())
        synchronize(self.device)
        reset_peak(self.device)
        clock, cpu = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            synchronize(self.device)
            usage.seconds += time.perf_counter() - clock
            usage.cpu_s += time.process_time() - cpu
            peak = peak_bytes(self.device)
            if peak is not None:
                usage.peak_bytes = max(peak, usage.peak_bytes or 0)


def reset_peak(device: torch.device) -> None:
    """Let `peak_bytes` start anew, where the system can."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        _CLEAR.write_text(_RESET_PEAK)
    except OSError:
        return


def peak_bytes(device: torch.device) -> int | None:
    """Most memory held since `reset_peak`: of the GPU, or of this process; None if unknown."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), None)
