"""Run all checks, in order, on the chosen devices."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import partial
from importlib import import_module

from vidground.doctor.findings import Check, Finding, failed, ok, run_checks
from vidground.errors import InputError

_DEVICE = re.compile(r"cpu|cuda(:[0-9]+)?")

_MACHINE = (
    ("python", "libraries:check_python"),
    ("libraries", "libraries:check_libraries"),
    ("torch build", "libraries:check_torch_build"),
    ("video libraries", "libraries:check_video_libraries"),
    ("machine", "machine:check_system"),
    ("processor", "machine:check_processor"),
    ("cards", "machine:check_cards"),
    ("ffmpeg", "programs:check_ffmpeg"),
    ("onnxruntime", "programs:check_onnxruntime"),
    ("folders", "places:check_folders"),
    ("released model", "places:check_models"),
    ("video", "videos:check_reading"),
    ("weights", "self_test:check_weights"),
)
_ON_DEVICE = (
    ("model", "self_test:check_device"),
    ("numbers", "self_test:check_golden"),
    ("batch", "self_test:check_batch"),
    ("recorded steps", "recorded_steps:check_recorded"),
    ("little memory", "shortage:check_shortage"),
)
_ON_ALL_CARDS = (
    ("card decoding", "videos:check_card_decoding"),
    ("two cards", "recorded_steps:check_side_by_side"),
)


def examine(asked: Sequence[str] = ()) -> Iterator[Finding]:
    """Run all checks and yield their findings as they are made.

    Args:
        asked: devices of the self-test, each "cpu", "cuda" or "cuda:N"; empty for the CPU and every
            GPU that torch sees.

    Raises:
        InputError: the name of a device is not valid.
    """
    for device in asked:
        if not _DEVICE.fullmatch(device):
            raise InputError(f"device is {device!r}; it must be cpu, cuda or cuda:N")
    return _examine(asked)


def _examine(asked: Sequence[str]) -> Iterator[Finding]:
    yield from run_checks(Check(name, name, partial(_run, check)) for name, check in _MACHINE)
    devices: list[str] = []
    yield from run_checks([Check("devices", "torch", lambda: _find_devices(asked, devices))])
    yield from run_checks(_device_checks(devices))


def _device_checks(devices: Sequence[str]) -> Iterator[Check]:
    for device in devices:
        for name, check in _ON_DEVICE:
            yield Check(name, device, partial(_run, check, device))
    cards = [device for device in devices if device != "cpu"]
    for name, check in _ON_ALL_CARDS:
        yield Check(name, "cards", partial(_run, check, cards))


def _run(check: str, *arguments: object) -> Iterator[Finding]:
    """Import and run a check, so that a failing import is a failure of that check."""
    module, _, function = check.partition(":")
    findings = getattr(import_module(f"vidground.doctor.{module}"), function)(*arguments)
    yield from findings


def _find_devices(asked: Sequence[str], usable: list[str]) -> Iterator[Finding]:
    """Try every device, and append those that work to `usable`."""
    import torch

    wanted = asked or ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
    for device in dict.fromkeys("cuda:0" if name == "cuda" else name for name in wanted):
        try:
            torch.zeros(1, device=device).add(1).cpu()
        except (RuntimeError, AssertionError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            yield failed(
                device,
                f"cannot be used: {reason}",
                "check nvidia-smi and the torch build above, or use --device cpu",
            )
        else:
            usable.append(device)
            yield ok(device, "can be used; tested below")
