"""Measure a device: time and memory of the stages of a run, and the rates it can reach."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from vidground.memory import free_bytes, release_memory

DECODE, PREPROCESS, VISION, COMPRESS, PREFILL, TOKENS, WRITE = STAGES = (
    "decode",
    "preprocess",
    "vision",
    "compress",
    "prefill",
    "tokens",
    "write",
)
"""File to pictures (decode, preprocess), to frame tokens (vision, compress), to an answer (prefill
up to its first token, tokens for the others), to result files (write)."""

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # resets VmHWM, see proc(5)

_MIN_S, _MIN_RUNS = 0.3, 3
"""Run a measurement at least this long and this often; the fastest run counts."""

_SHARE = 0.25
"""Part of the free memory that a measurement may use."""
_MIN_SIDE = 256
_COPIED_BYTES = {"cuda": 2 << 30, "cpu": 256 << 20}
_MIN_COPIED_BYTES = 1 << 20
"""Sizes of copies: larger than any cache, if memory allows."""


@dataclass
class Usage:
    """Time and memory of a stage so far.

    Attributes:
        seconds: wall-clock time.
        cpu_s: processor time of all threads of this process, in seconds.
        peak_bytes: peak memory of this process during the stage, or on a GPU the peak that torch
            allocated there; None if the system does not report it.
    """

    seconds: float = 0.0
    cpu_s: float = 0.0
    peak_bytes: int | None = None


class StageMeter:
    """Adds up time and memory of stages on a device, by name.

    Attributes:
        device: that is measured.
        usage: by stage, in order of first use.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.usage: dict[str, Usage] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count everything inside the block to a stage; stages do not nest."""
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
    """Reset the peak that `peak_bytes` reports, if the system can."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        _CLEAR.write_text(_RESET_PEAK)
    except OSError:
        return


def peak_bytes(device: torch.device) -> int | None:
    """Return the peak memory since `reset_peak`, of the GPU or this process; None if unknown."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), None)


@dataclass(frozen=True)
class Ceilings:
    """The highest rates that a device reaches.

    Attributes:
        flops_per_s: in a product of large square matrices; a multiply-add counts as two.
        bytes_per_s: read and written by a copy larger than any processor cache.
    """

    flops_per_s: float
    bytes_per_s: float


def measure_ceilings(device: torch.device, dtype: torch.dtype) -> Ceilings:
    """Measure an otherwise idle device; takes one or two seconds.

    Uses at most a quarter of the free memory, and 4 GiB of a GPU.

    Args:
        device: to measure.
        dtype: of the matrices; use the dtype of the model to compare with.
    """
    limit = int(free_bytes(device) * _SHARE)
    found = Ceilings(_product_rate(device, dtype, limit), _copy_rate(device, limit))
    release_memory()
    return found


def _product_rate(device: torch.device, dtype: torch.dtype, limit_bytes: int) -> float:
    """Measure a product of square matrices, in operations per second."""
    on_gpu = device.type == "cuda"
    side = 8192 if on_gpu else 1024 if dtype in (torch.float16, torch.bfloat16) else 2048
    while side > _MIN_SIDE and 4 * dtype.itemsize * side**2 > limit_bytes:
        side //= 2
    matrix = torch.randn(side, side, device=device, dtype=dtype)
    product = torch.empty_like(matrix)
    return 2 * side**3 / best_seconds(lambda: torch.mm(matrix, matrix, out=product), device)


def _copy_rate(device: torch.device, limit_bytes: int) -> float:
    """Measure a copy, in bytes read and written per second."""
    size = _COPIED_BYTES["cuda" if device.type == "cuda" else "cpu"]
    size = max(_MIN_COPIED_BYTES, min(size, limit_bytes // 2))
    source = torch.ones(size // 4, device=device, dtype=torch.float32)
    target = torch.empty_like(source)
    return 2 * source.nbytes / best_seconds(lambda: target.copy_(source), device)


def best_seconds(
    run: Callable[[], object], device: torch.device, *, min_s: float = _MIN_S
) -> float:
    """Return the time of the fastest of several runs, in seconds, after one warm-up run."""
    run()
    synchronize(device)
    best = float("inf")
    runs, begin = 0, time.perf_counter()
    while runs < _MIN_RUNS or time.perf_counter() - begin < min_s:
        start = time.perf_counter()
        run()
        synchronize(device)
        best = min(best, time.perf_counter() - start)
        runs += 1
    return best


def synchronize(device: torch.device) -> None:
    """Wait until a device has finished its queued work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def device_name(device: torch.device) -> str:
    """Return the device's product name, or the processor architecture if that is unknown."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
