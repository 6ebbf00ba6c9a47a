"""onnxruntime and its execution providers: which ones work here, and with which options.

The only module that imports onnxruntime, and only when it is needed. Knows no model.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vidground.errors import InputError
from vidground.features.onnx_folder import ExportFolder
from vidground.memory import is_out_of_memory

PROVIDERS = {
    "tensorrt": "TensorrtExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "cpu": "CPUExecutionProvider",
}
"""onnxruntime's execution providers by the names used here, best first."""

GPU_FRAMES = 64
"""Maximum number of frames in one run on a GPU; TensorRT's engine is built for this maximum."""

_INSTALL = "pip install 'vidground[onnx]' for NVIDIA GPUs, or 'vidground[onnx-cpu]'"
_LOG_ERRORS = 3
"""onnxruntime's log severity; its warnings are frequent and seldom matter."""

_DOUBLING = bytes.fromhex(
    "080812003a3a0a0e0a01780a017812017922034164641206646f75626c65"
    "5a0f0a0178120a0a08080112040a020802620f0a0179120a0a08080112040a02080242040a00100d"
)
"""An ONNX model (opset 13) with one node, y = x + x, for x of two float32 numbers."""


def import_runtime() -> Any:
    """Import onnxruntime.

    Raises:
        InputError: it is not installed or cannot be imported.
    """
    # Otherwise onnxruntime stores an id of this machine and sends usage reports to its maker. It
    # starts when it is imported, so calling its own function to switch it off comes too late.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        raise InputError(f"onnxruntime is not installed; {_INSTALL}") from error
    except ImportError as error:
        raise InputError(
            f"onnxruntime is installed and cannot be imported ({error}); install it again: "
            f"{_INSTALL}"
        ) from error
    return onnxruntime


def choose_provider(
    runtime: Any, requested: str | None, export: ExportFolder, device: torch.device
) -> str:
    """Choose the provider to try.

    Args:
        runtime: onnxruntime.
        requested: a key of `PROVIDERS`; None for "cuda" or "cpu", by the device.
        export: the graphs to run.
        device: of the model.

    Raises:
        InputError: the provider does not exist, or cannot be used here or with this export.
    """
    if requested is not None and requested not in PROVIDERS:
        raise InputError(f"provider is {requested!r}; it must be one of {', '.join(PROVIDERS)}")
    if requested == "cpu":
        return requested
    if requested is None and device.type != "cuda":
        return "cpu"
    wanted = requested or "cuda"
    reason = _missing(runtime, wanted)
    if reason is not None:
        raise InputError(
            f"onnxruntime cannot use provider {wanted!r} here; {reason}; or ask for provider 'cpu'"
        )
    if export.dtype == "int8":
        raise InputError(
            f"{export.path} is in int8, which runs on the CPU only; export fp16 for {wanted}, or "
            "ask for provider 'cpu'"
        )
    return wanted


def check_provider(sessions: dict[str, Any], wanted: str, *, strict: bool) -> str:
    """Return the provider that sessions use; onnxruntime falls back to others without an exception.

    Args:
        sessions: by the part of the model that they run.
        wanted: the provider that was tried.
        strict: no other provider is accepted.

    Raises:
        InputError: a session fell back to the CPU, or to another provider if that is not accepted.
    """
    first = next(sessions[name] for name in ("vision", "compressor") if name in sessions)
    used = next(name for name in PROVIDERS if PROVIDERS[name] == first.get_providers()[0])
    on_cpu = any(s.get_providers()[0] == PROVIDERS["cpu"] for s in sessions.values())
    if wanted == "cpu" or (not on_cpu and (used == wanted or not strict)):
        return used
    raise InputError(
        f"onnxruntime was to run on {wanted} and fell back to {'cpu' if on_cpu else used}; install "
        "the CUDA and cuDNN that it needs (its messages above name what is missing), or ask for "
        "provider 'cpu'"
    )


def open_session(runtime: Any, file: Path, providers: list[tuple[str, dict[str, Any]]]) -> Any:
    """Open a graph.

    Raises:
        Exception: one of `session_errors`.
        MemoryError: there is not enough memory.
    """
    options = _quiet_options(runtime)
    options.intra_op_num_threads = torch.get_num_threads()
    with memory_errors():
        return runtime.InferenceSession(str(file), options, providers=providers)


def provider_options(
    provider: str, export: ExportFolder, part: str, device: torch.device
) -> list[tuple[str, dict[str, Any]]]:
    """Return the providers of a session with their options, best first; the last is the CPU.

    Args:
        provider: a key of `PROVIDERS`.
        export: the graphs.
        part: "vision" or "compressor".
        device: of the session.
    """
    chosen: list[tuple[str, dict[str, Any]]] = []
    place = {"device_id": device.index or 0}
    # Memory that onnxruntime's arena reserves beyond its needs would be missing to torch.
    frugal = {"arena_extend_strategy": "kSameAsRequested"}
    if provider == "tensorrt" and part == "vision":
        size = export.details["preprocessing"]["image_size"]
        shapes = {"min": 1, "opt": 16, "max": GPU_FRAMES}
        profile = {
            f"trt_profile_{kind}_shapes": f"pixel_values:{frames}x3x{size}x{size}"
            for kind, frames in shapes.items()
        }
        cache = {"trt_engine_cache_path": str(export.path), "trt_engine_cache_enable": True}
        writable = os.access(export.path, os.W_OK)  # building an engine takes minutes
        half = {"trt_fp16_enable": export.parts[part].dtype == "float16"}
        chosen.append((PROVIDERS["tensorrt"], place | profile | half | (cache if writable else {})))
    if provider != "cpu":
        chosen.append((PROVIDERS["cuda"], place | frugal))
    return [*chosen, (PROVIDERS["cpu"], {})]


def session_errors(runtime: Any) -> tuple[type[Exception], ...]:
    """Return what onnxruntime raises when a session cannot be opened or run."""
    states = runtime.capi.onnxruntime_pybind11_state
    return (
        states.EPFail,
        states.Fail,
        states.InvalidGraph,
        states.InvalidProtobuf,
        states.NoSuchFile,
        states.NotImplemented,
        states.RuntimeException,
    )


@contextmanager
def memory_errors() -> Iterator[None]:
    """Raise MemoryError when memory runs out; onnxruntime has no exception for that."""
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise MemoryError(f"onnxruntime: {str(error).strip()}") from error


def provider_faults() -> dict[str, str | None]:
    """Try every provider whose requirements are met, with a tiny graph.

    Returns:
        For each provider the reason why it does not work; None for one that computes correctly.

    Raises:
        InputError: onnxruntime cannot be imported.
    """
    runtime = import_runtime()
    return {
        name: _fault(runtime, name)
        for name in PROVIDERS
        if name == "cpu" or _missing(runtime, name) is None
    }


def _fault(runtime: Any, name: str) -> str | None:
    numbers = np.array([1.5, -2.0], np.float32)
    try:
        session = runtime.InferenceSession(
            _DOUBLING, _quiet_options(runtime), providers=[PROVIDERS[name]]
        )
        used = session.get_providers()[0]
        if used != PROVIDERS[name]:
            return f"falls back to {used}"
        (doubled,) = session.run(None, {"x": numbers})
    except session_errors(runtime) as error:
        return str(error).strip().splitlines()[0]
    return None if np.array_equal(doubled, 2 * numbers) else f"computes {doubled} for [3, -4]"


def _quiet_options(runtime: Any) -> Any:
    options = runtime.SessionOptions()
    options.log_severity_level = _LOG_ERRORS
    return options


def _missing(runtime: Any, name: str) -> str | None:
    """Return what a GPU provider lacks here, as far as can be seen, with the remedy."""
    if not torch.cuda.is_available():
        return "the machine has no GPU that can be used"
    if PROVIDERS[name] not in runtime.get_available_providers():  # what it was built with
        return f"needed: {_INSTALL}"
    if name == "tensorrt" and not _has_tensorrt():
        return "TensorRT 10 is not installed (libnvinfer.so.10)"
    return None


def _has_tensorrt() -> bool:
    """Return whether TensorRT's library can be loaded; if not, onnxruntime would log errors."""
    try:
        ctypes.CDLL("libnvinfer.so.10")
    except OSError:
        return False
    return True
