"""What a device can do at best, measured on the spot: a large matrix product, a large copy."""

import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from vidground.memory import free_bytes, release_memory

_LEAST_S = 0.3
"""A measurement goes on for so long, in runs of which the best counts."""
_FEWEST_RUNS = 3

_SHARE = 0.25
"""Part of the free memory that a measurement may take."""
_SMALLEST_SIDE = 256
_COPIED_BYTES = {"cuda": 2 << 30, "cpu": 256 << 20}
_FEWEST_COPIED_BYTES = 1 << 20
"""A copy is of so many bytes: more than any cache holds, where there is room for that."""


@dataclass(frozen=True)
class Ceilings:
    """flops_per_s: of a product of large square matrices, a multiplication and an addition
    counting as two. bytes_per_s: read and written by a copy that no processor's cache holds.
    """

    flops_per_s: float
    bytes_per_s: float


def measure_ceilings(device: torch.device, dtype: torch.dtype) -> Ceilings:
    """Measure a device, which must have nothing else to do; takes a second or two.

    Takes at most a quarter of the free memory, and 4 GiB of a card.

    Args:
        dtype: of the matrices, that of the model to be compared.
    """
    room = int(free_bytes(device) * _SHARE)
    found = Ceilings(_product_rate(device, dtype, room), _copy_rate(device, room))
    release_memory()
    return found


def _product_rate(device: torch.device, dtype: torch.dtype, room: int) -> float:
    """Operations per second of a product of square matrices that take `room` bytes at most."""
    on_gpu = device.type == "cuda"
    side = 8192 if on_gpu else 1024 if dtype in (torch.float16, torch.bfloat16) else 2048
    while side > _SMALLEST_SIDE and 4 * dtype.itemsize * side**2 > room:
        side //= 2
    matrix = torch.randn(side, side, device=device, dtype=dtype)
    product = torch.empty_like(matrix)
    best_s = best_seconds(lambda: torch.mm(matrix, matrix, out=product), device)
    return 2 * side**3 / best_s


def _copy_rate(device: torch.device, room: int) -> float:
    """Bytes per second, read and written, of a copy that takes `room` bytes at most."""
    most = _COPIED_BYTES["cuda" if device.type == "cuda" else "cpu"]
    size = max(_FEWEST_COPIED_BYTES, min(most, room // 2))
    source = torch.ones(size // 4, device=device, dtype=torch.float32)
    target = torch.empty_like(source)
    copied_s = best_seconds(lambda: target.copy_(source), device)
    return 2 * source.nbytes / copied_s


def best_seconds(
    run: Callable[[], object], device: torch.device, *, least_s: float = _LEAST_S
) -> float:
    """The shortest of some runs, after one that does not count."""
    run()
    synchronize(device)
    best = float("inf")
    runs, begin = 0, time.perf_counter()
    while runs < _FEWEST_RUNS or time.perf_counter() - begin < least_s:
        start = time.perf_counter()
        run()
        synchronize(device)
        best = min(best, time.perf_counter() - start)
        runs += 1
    return best


def synchronize(device: torch.device) -> None:
    """Wait until a device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def device_name(device: torch.device) -> str:
    """The device's own name, as far as the system tells it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
