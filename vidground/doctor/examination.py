"""Which checks are made, in which order, and on which devices."""

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
_CARD_DECODING = ("card decoding", "videos:check_card_decoding")
_SIDE_BY_SIDE = ("two cards", "recorded_steps:check_side_by_side")


def examine(asked: Sequence[str] = ()) -> Iterator[Finding]:
    """Make all checks and yield what they find as soon as it is known.

    Args:
        asked: devices of the self-test, "cpu", "cuda" or "cuda:N"; empty for the CPU and every
            card that torch sees.

    Raises:
        InputError: there can be no such device.
    """
    for device in asked:
        if not _DEVICE.fullmatch(device):
            raise InputError(f"device is {device!r}; it must be cpu, cuda or cuda:N")
    return _examine(asked)


def _examine(asked: Sequence[str]) -> Iterator[Finding]:
    yield from run_checks(Check(name, name, partial(_run, place)) for name, place in _MACHINE)
    devices: list[str] = []
    yield from run_checks([Check("devices", "torch", lambda: _find_devices(asked, devices))])
    yield from run_checks(_device_checks(devices))


def _device_checks(devices: Sequence[str]) -> Iterator[Check]:
    for device in devices:
        for name, place in _ON_DEVICE:
            yield Check(name, device, partial(_run, place, device))
    cards = [device for device in devices if device != "cpu"]
    name, place = _CARD_DECODING
    yield Check(name, "cards", partial(_run, place, cards))
    name, place = _SIDE_BY_SIDE
    yield Check(name, "cards", partial(_run, place, cards))


def _run(place: str, *arguments: object) -> Iterator[Finding]:
    """Import a check and run it, so that what it cannot import is its own failure."""
    module, _, function = place.partition(":")
    findings = getattr(import_module(f"vidground.doctor.{module}"), function)(*arguments)
    yield from findings


def _find_devices(asked: Sequence[str], usable: list[str]) -> Iterator[Finding]:
    """Try every device, and add those that work to `usable`."""
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
                "check nvidia-smi and the torch build above, or leave it out with --device cpu",
            )
        else:
            usable.append(device)
            yield ok(device, "can be used; tested below")
