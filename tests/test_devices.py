"""The device a model runs on, the type it computes in there, and the way of tensors to it."""

import os
import subprocess
import sys
from typing import Any

import pytest
import torch

from tests.helpers.stated_cards import StatedCard, state_cards
from vidground.devices import (
    SMALL_MODEL_PARAMETERS,
    ChosenDtype,
    choose_device,
    choose_dtype,
    to_device,
)
from vidground.errors import InputError

RELEASED = 5_020_000_000
V100, T4, A100 = (7, 0), (7, 5), (8, 0)


@pytest.mark.parametrize(
    ("card", "parameters", "name", "said"),
    [
        (StatedCard(A100, free=80), RELEASED, "bfloat16", "8.0"),
        (StatedCard((9, 0), free=1), RELEASED, "bfloat16", "9.0"),
        (StatedCard((12, 0), free=1), RELEASED, "bfloat16", "12.0"),
        (StatedCard(V100, free=32, total=32), RELEASED, "float32", "room for 18.7 GiB"),
        (StatedCard(V100, free=16), RELEASED, "float16", "16.0 GiB of free memory are too little"),
        (StatedCard(T4, free=15), RELEASED, "float16", "7.5"),
        (StatedCard(T4, free=15), 120_000_000, "float32", "room for 0.4 GiB"),
    ],
)
def test_a_card_computes_in_what_it_has_units_for(
    card: StatedCard, parameters: int, name: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    state_cards(monkeypatch, card, StatedCard(capability=(1, 0), free=0))
    chosen = choose_dtype(torch.device("cuda", 0), parameters)
    assert chosen.name == name
    assert said in chosen.reason


def test_cards_of_one_machine_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    state_cards(monkeypatch, StatedCard(A100), StatedCard(T4, free=15))
    names = [choose_dtype(torch.device("cuda", index), RELEASED).name for index in (0, 1)]
    assert names == ["bfloat16", "float16"]


def test_rocm_has_bfloat16_on_every_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "hip", "6.4")
    assert choose_dtype(torch.device("cuda", 0), RELEASED).name == "bfloat16"


@pytest.mark.parametrize(
    ("units", "parameters", "name"),
    [
        (True, RELEASED, "bfloat16"),
        (False, RELEASED, "float32"),
        (True, SMALL_MODEL_PARAMETERS - 1, "float32"),
    ],
)
def test_a_cpu_computes_a_large_model_in_what_it_has_units_for(
    units: bool, parameters: int, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vidground.devices.cpu_has_bfloat16", lambda: units)
    assert choose_dtype("cpu", parameters).name == name


def test_units_for_bfloat16_that_torch_may_not_use_do_not_count() -> None:
    """oneDNN reads its limits when torch is imported."""
    program = "from vidground.devices import cpu_has_bfloat16; print(cpu_has_bfloat16())"
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}
    command = [sys.executable, "-c", program]
    printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert printed.stdout == "False\n"


@pytest.mark.parametrize("kind", ["mps", "xpu"])
def test_everything_else_computes_in_float32(kind: str) -> None:
    chosen = choose_dtype(torch.device(kind), RELEASED)
    assert chosen.name == "float32"
    assert isinstance(chosen, ChosenDtype)
    assert chosen.reason


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("mps", "device 'mps' cannot be used: this machine or this build of torch has no mps"),
        ("vulkan", "has no vulkan"),
        ("hpu", "has no hpu"),
        ("gpu", "device 'gpu' is unknown"),
        ("cuda:one", "device 'cuda:one' is unknown"),
        ("", "device '' is unknown"),
    ],
)
def test_a_device_that_is_not_there_is_refused_in_one_line(asked: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        choose_device(asked)
    message = str(caught.value)
    assert said in message
    assert message.endswith("; use " + " or ".join(["cpu", *cards()]))
    assert len(message) < 200
    assert "\n" not in message


def cards() -> list[str]:
    return [f"cuda:{index}" for index in range(torch.cuda.device_count())]


def test_a_card_gets_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    state_cards(monkeypatch, StatedCard(), StatedCard())
    monkeypatch.setattr(torch, "empty", lambda *_, device: device)  # which only a card could do
    assert choose_device("cuda:0") == torch.device("cuda", 0)
    assert choose_device("cuda") == choose_device() == torch.device("cuda", 1)  # the current one
    assert choose_device("cpu") == torch.device("cpu")
    with pytest.raises(InputError, match="'cuda:2' does not exist here; use cpu or cuda:0 or cud"):
        choose_device("cuda:2")


def test_why_a_card_cannot_be_used_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_driver(*_: object, **__: object) -> None:
        raise RuntimeError("The NVIDIA driver on your system is too old. " + 99 * "Please update. ")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch, "empty", no_driver)
    with pytest.raises(InputError, match=r"'cuda' cannot be used: The NVIDIA driver .*; use cpu$"):
        choose_device("cuda")


def test_a_torch_without_cuda_is_named_as_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def not_compiled(*_: object, **__: object) -> None:
        raise AssertionError("Torch not compiled with CUDA enabled")

    state_cards(monkeypatch)
    monkeypatch.setattr(torch, "empty", not_compiled)
    told = (
        r"torch is built for the CPU only; for an NVIDIA card install .* pytorch\.org.*; use cpu$"
    )
    with pytest.raises(InputError, match=told):
        choose_device("cuda")


def test_without_a_card_the_cpu_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    state_cards(monkeypatch)
    assert choose_device() == torch.device("cpu")


class Traced:
    """Stands for a tensor in main memory; says how it was brought to a card."""

    def __init__(self, pinned: bool = False) -> None:
        self.device, self.pinned = torch.device("cpu"), pinned

    def pin_memory(self) -> "Traced":
        return Traced(pinned=True)

    def to(self, device: torch.device, *, non_blocking: bool = False) -> tuple[Any, ...]:
        return device, self.pinned, non_blocking


def test_tensors_go_to_a_card_without_waiting_for_its_work() -> None:
    card = torch.device("cuda", 1)
    assert to_device(Traced(), card) == (card, True, True)  # type: ignore[arg-type, comparison-overlap]


def test_tensors_that_are_there_stay() -> None:
    tensor = torch.ones(3)
    assert to_device(tensor, torch.device("cpu")) is tensor
    on_meta = tensor.to("meta")
    assert to_device(tensor, torch.device("meta")).device == on_meta.device


def test_devices_are_named_without_loading_torch() -> None:
    code = "import sys, vidground.devices, vidground.memory; print('torch' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"
