"""Choose the device and the dtype of a model, and copy tensors to it.

Imports torch only inside functions, so that this module is light.
"""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import shorten
from typing import TYPE_CHECKING

from vidground.errors import InputError
from vidground.memory import free_bytes

if TYPE_CHECKING:
    import torch

FOR_DEVICE = "device"
"""Name of the dtype that `choose_dtype` chooses, where a dtype can be given."""

SMALL_MODEL_PARAMETERS = 30_000_000
"""Below this many parameters, bfloat16 and several threads gain nothing on a CPU."""

_NATIVE_BFLOAT16 = (8, 0)
"""Lowest compute capability of NVIDIA GPUs with units for bfloat16; older ones emulate it."""
_SHARE_OF_WEIGHTS = 0.75
"""Maximum share of the free memory for weights; the rest is for the computation."""
_REASON_LENGTH = 160


@dataclass(frozen=True, slots=True)
class ChosenDtype:
    """A dtype for weights and computation.

    Attributes:
        name: "float32", "bfloat16" or "float16".
        reason: why it was chosen; completes a sentence that ends with "because".
    """

    name: str
    reason: str


def choose_device(asked: str | torch.device | None = None) -> torch.device:
    """Return a device after checking that it works.

    Args:
        asked: "cpu", "cuda", "cuda:N", or another device of torch; None for the current GPU if
            there is one, else the CPU.

    Returns:
        The device; a GPU always with its number.

    Raises:
        InputError: torch does not know or cannot use the device.
    """
    import torch

    if asked is None:
        asked = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(asked)
    except RuntimeError as error:
        raise InputError(f"device {str(asked)!r} is unknown; use {_usable()}") from error
    if device.type == "cuda" and torch.cuda.is_available():
        index = torch.cuda.current_device() if device.index is None else device.index
        if index >= torch.cuda.device_count():
            raise InputError(f"device {str(asked)!r} does not exist here; use {_usable()}")
        device = torch.device("cuda", index)
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, ImportError) as error:
        # For other devices than CUDA, torch's message only describes its build, at length.
        reason = f"this machine or this build of torch has no {device.type}"
        if device.type == "cuda":
            reason = shorten(str(error).strip().partition("\n")[0], _REASON_LENGTH, placeholder="…")
            if isinstance(error, AssertionError):  # "Torch not compiled with CUDA enabled"
                reason = (
                    "the installed torch is built for the CPU only; for an NVIDIA card install "
                    "one with CUDA, as pytorch.org describes"
                )
        raise InputError(
            f"device {str(asked)!r} cannot be used: {reason.rstrip('.')}; use {_usable()}"
        ) from error
    return device


def choose_dtype(device: str | torch.device, parameters: int = 0) -> ChosenDtype:
    """Choose the dtype that suits a device and a model.

    The released weights are stored in bfloat16, so GPUs with units for bfloat16 use it. Older GPUs
    (compute capability below 8.0, such as T4 and V100) emulate it slowly: they use float32 if the
    weights fit, which cannot overflow, else float16. CPUs with units for bfloat16 (AVX512-BF16,
    AMX) use it except for small models. Everything else uses float32.

    Args:
        device: of the model.
        parameters: number of parameters of the model; matters for CPUs and older GPUs.
    """
    kind = str(device).partition(":")[0]
    if kind == "cpu":
        if parameters >= SMALL_MODEL_PARAMETERS and cpu_has_bfloat16():
            return ChosenDtype(
                "bfloat16", "it is the type of the released weights, and the CPU has units for it"
            )
        return ChosenDtype("float32", "every processor computes in it")
    if kind != "cuda":
        return ChosenDtype("float32", f"no other type has been tried on {kind}")
    import torch

    device = torch.device(device)
    if torch.version.hip is not None:
        return ChosenDtype("bfloat16", "it is the type of the released weights")
    capability = torch.cuda.get_device_capability(device)
    card = f"the card (compute capability {capability[0]}.{capability[1]})"
    if has_bfloat16(capability):
        return ChosenDtype(
            "bfloat16", f"it is the type of the released weights, and {card} has units for it"
        )
    needed, free = 4 * parameters, free_bytes(device)
    sizes = f"{needed / 2**30:.1f} GiB of float32 weights"
    if needed <= _SHARE_OF_WEIGHTS * free:
        return ChosenDtype("float32", f"{card} has no units for bfloat16, and has room for {sizes}")
    return ChosenDtype(
        "float16",
        f"{card} has no units for bfloat16, and its {free / 2**30:.1f} GiB of free memory are too "
        f"little for {sizes}",
    )


def has_bfloat16(capability: tuple[int, int]) -> bool:
    """Return whether an NVIDIA GPU has units for bfloat16; torch's own check counts emulation.

    Args:
        capability: compute capability of the GPU.
    """
    return capability >= _NATIVE_BFLOAT16


def cpu_has_bfloat16() -> bool:
    """Return whether this CPU has units for bfloat16 (AVX512-BF16 or AMX) that torch uses."""
    import torch

    if not torch._C._has_mkldnn:
        return False
    units = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    native = any(getattr(torch.cpu, name, bool)() for name in units)
    # The second check respects the limits that the user sets for oneDNN.
    return native and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Copy a tensor to a device; a copy from main memory to a GPU does not wait for its work.

    Later work on the GPU's current stream sees the copied values.
    """
    if device.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    # A copy from memory that is not pinned waits for all earlier work.
    return tensor.pin_memory().to(device, non_blocking=True)


def _usable() -> str:
    """Return the devices that can be used here, joined by "or"."""
    import torch

    cards = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    return " or ".join(["cpu", *cards])
