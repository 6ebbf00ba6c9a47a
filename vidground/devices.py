"""Which device a model runs on, and in which type of numbers; tensors brought there.

Imports torch when it is asked, so that this can be imported by what is light.
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
"""Stands for the dtype that `choose_dtype` chooses, where a dtype can be given."""

SMALL_MODEL_PARAMETERS = 30_000_000
"""Below this many parameters, bfloat16 and several threads gain nothing on a CPU."""

_NATIVE_BFLOAT16 = (8, 0)
"""Compute capability from which NVIDIA cards have units for bfloat16. Older ones emulate it."""
_SHARE_OF_WEIGHTS = 0.75
"""Part of the free memory that the weights may take; the rest is for what is computed."""
_REASON_LENGTH = 160


@dataclass(frozen=True, slots=True)
class ChosenDtype:
    """A type for weights and computation. name: "float32", "bfloat16" or "float16". reason: why
    it was chosen, in words that go on from "because".
    """

    name: str
    reason: str


def choose_device(asked: str | torch.device | None = None) -> torch.device:
    """The device that is asked for, once it is known to work.

    Args:
        asked: "cpu", "cuda", "cuda:N", or another that torch knows; None for the current card if
            there is one, else the CPU.

    Returns:
        The device; a card always with its number.

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
        # Of other kinds than CUDA torch tells no more than how it was built, at great length.
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
    """The dtype that suits a device and a model best, and why.

    The released weights are stored in bfloat16, so that is what a card computes in if it has
    units for it. Older cards (compute capability below 8.0, such as T4 and V100) emulate it
    slowly: they compute in float32 if the weights fit, which cannot overflow, else in float16.
    Processors with units for bfloat16 (AVX512-BF16, AMX) compute in it, too, but for small models.
    Everything else computes in float32.

    Args:
        parameters: number of parameters of the model, on which the choice for CPUs and older cards
            depends.
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
    """Whether an NVIDIA card has units for bfloat16; torch's own question counts emulation, too.

    Args:
        capability: its compute capability.
    """
    return capability >= _NATIVE_BFLOAT16


def cpu_has_bfloat16() -> bool:
    """Whether this processor has units for bfloat16 (AVX512-BF16 or AMX) that torch uses."""
    import torch

    if not torch._C._has_mkldnn:
        return False
    units = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    native = any(getattr(torch.cpu, name, bool)() for name in units)
    # The second answer follows the limits that the user sets for oneDNN.
    return native and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A tensor on a device; from main memory to a card without waiting for the card's work.

    What is computed with the result on the card's current stream comes after the copy.
    """
    if device.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    # A copy from other than pinned memory waits until all that was queued before it is done.
    return tensor.pin_memory().to(device, non_blocking=True)


def _usable() -> str:
    """The devices that can be used here, as a list in words."""
    import torch

    cards = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    return " or ".join(["cpu", *cards])
