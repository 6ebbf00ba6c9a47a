"""Check the machine: system, memory, processor and NVIDIA GPUs, as torch sees them."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from vidground.devices import has_bfloat16
from vidground.doctor.findings import Finding, failed, ok, skipped, warning
from vidground.memory import container_limit_bytes, system_free_bytes

_GIBIBYTE = 1 << 30
_LITTLE_MEMORY = 2 * _GIBIBYTE
"""With less free memory even short videos are likely to fail."""

_ABILITIES = ("avx2", "avx512_f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_fp16", "avx10_1")
"""Extensions that decide the speed of dtypes on x86, by torch's names."""

_DRIVER = Path("/proc/driver/nvidia/version")


def check_system() -> Iterator[Finding]:
    """Report the operating system, and check the memory available to this process."""
    libc = " ".join(platform.libc_ver())
    yield ok("system", f"{platform.platform()}", platform=platform.platform(), libc=libc)
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit, free = container_limit_bytes(), system_free_bytes()
    values = {"total_bytes": total, "container_limit_bytes": limit, "free_bytes": free}
    bound = "no container limit" if limit is None else f"container limit {gib(limit)}"
    message = f"{gib(free)} free of {gib(total)}; {bound}"
    if free < _LITTLE_MEMORY:
        yield warning("memory", message, "close other programs or raise the limit", **values)
    else:
        yield ok("memory", message, **values)


def check_processor() -> Iterator[Finding]:
    """Report the processor's extensions as torch sees them, and check torch's thread count."""
    import torch

    known = _capabilities(torch)
    level = torch.backends.cpu.get_cpu_capability()
    abilities = {name: bool(known[name]) for name in _ABILITIES if name in known}
    bf16 = bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    cores, threads = len(os.sched_getaffinity(0)), torch.get_num_threads()
    name = str(known.get("cpu_name") or platform.processor() or platform.machine())
    present = ", ".join(name for name, has in abilities.items() if has) or "no extensions known"
    speed = "computes bfloat16" if bf16 else "does not compute bfloat16"
    values: dict[str, Any] = {
        "name": name, "level": level, "abilities": abilities, "bfloat16": bf16, "cores": cores,
        "threads": threads,
    }  # fmt: skip
    yield ok("processor", f"{name}: torch uses {level}; {present}; {speed}", **values)
    message = f"threads of torch: {threads}; cores available to this process: {cores}"
    if threads > cores:
        yield warning("threads", message, f"set OMP_NUM_THREADS={cores}", **values)
    else:
        yield ok("threads", message, **values)


def check_cards() -> Iterator[Finding]:
    """Report every NVIDIA GPU that torch can use, or why it can use none."""
    import torch

    driver = nvidia_driver()
    if torch.version.cuda is None:
        yield skipped("cards", "torch is built for the CPU only")
        return
    if not torch.cuda.is_available():
        if driver is None:
            yield skipped("cards", "no NVIDIA driver")
            return
        yield failed(
            "cards",
            f"NVIDIA driver {driver} is installed, but torch finds no GPU: {_cuda_error(torch)}",
            "check nvidia-smi and CUDA_VISIBLE_DEVICES; in a container, check that it was started "
            "with GPUs",
            driver=driver,
        )
        return
    for number in range(torch.cuda.device_count()):
        yield _card(torch, number, driver)


def nvidia_driver() -> str | None:
    """Return the version of the NVIDIA kernel driver; None if there is none."""
    for line in _lines(_DRIVER):
        match = re.search(r"\b(\d{3,}(?:\.\d+)+)\b", line)
        if match:
            return match[1]
    return None


def gib(size_bytes: float) -> str:
    """Format a size in GiB."""
    return f"{size_bytes / _GIBIBYTE:.1f} GiB"


def runs_on(built: Sequence[str], major: int) -> bool:
    """Return whether code built for these architectures runs on a GPU.

    Args:
        built: torch's architectures: "sm_90a" is machine code for compute capability 9.x from 9.0
            on, "compute_90" is compiled for any later GPU when it is loaded.
        major: of the GPU's compute capability.
    """
    for name in built:
        kind, _, number = name.partition("_")
        own = int("".join(filter(str.isdigit, number))) // 10
        if own == major or (kind == "compute" and own < major):
            return True
    return False


def _capabilities(torch: Any) -> dict[str, Any]:
    query = getattr(torch.cpu, "get_capabilities", None)  # not in every torch since 2.11
    if query is not None:
        return dict(query())
    names = {"avx2": "_is_avx2_supported", "avx512_f": "_is_avx512_supported"}
    return {
        ability: getattr(torch.cpu, name)()
        for ability, name in names.items()
        if hasattr(torch.cpu, name)
    }


def _card(torch: Any, number: int, driver: str | None) -> Finding:
    device = f"cuda:{number}"
    facts = torch.cuda.get_device_properties(number)
    free, total = torch.cuda.mem_get_info(number)
    bf16 = torch.version.hip is not None or has_bfloat16((facts.major, facts.minor))
    capability = f"{facts.major}.{facts.minor}"
    values = {
        "name": facts.name, "capability": capability, "free_bytes": free, "total_bytes": total,
        "bfloat16": bf16, "driver": driver,
    }  # fmt: skip
    message = (
        f"{facts.name}, compute capability {capability}, {gib(free)} free of {gib(total)}, "
        f"driver {driver or 'unknown'}, {'with' if bf16 else 'without'} bfloat16"
    )
    built = torch.cuda.get_arch_list()
    if built and not runs_on(built, facts.major):
        return warning(
            device,
            f"{message}; this torch was built for {', '.join(sorted(built))}",
            "install a torch that was built for this GPU's compute capability",
            **values,
        )
    return ok(device, message, **values)


def _cuda_error(torch: Any) -> str:
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        return " ".join(str(error).split())
    return "torch gives no reason"


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
