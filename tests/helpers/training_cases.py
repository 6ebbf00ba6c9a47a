"""Training samples of the golden cases, for the tests of both objectives."""

import json
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.helpers.nearly import ROUNDING
from tests.helpers.paths import GOLDEN
from vidground.checkpoints.released_format import our_name
from vidground.model.d2vlm import D2VLM
from vidground.training.data.samples import (
    PreferenceSample,
    Response,
    SftSample,
    TrainingPrompt,
    frame_spans,
)

CASES = json.loads((GOLDEN / "cases.json").read_text())
FRAME_PLACEHOLDER = -200


def golden_model() -> D2VLM:
    """The golden checkpoint without dropout and with every parameter trainable."""
    return D2VLM.from_pretrained(GOLDEN / "checkpoint").requires_grad_(True)


def golden_tensors(name: str) -> dict[str, Tensor]:
    return load_file(GOLDEN / f"{name}.safetensors")


def sft_samples(model: D2VLM, name: str = "sft") -> list[SftSample]:
    pixels = golden_tensors(name)
    return [
        SftSample(
            prompt_of(model, sample, pixels[f"pixel_values.{index}"]),
            Response(sample["answer"], frame_spans(sample["tgt"])),
        )
        for index, sample in enumerate(CASES[name]["samples"])
    ]


def preference_samples(model: D2VLM) -> list[PreferenceSample]:
    pixels, end = golden_tensors("fpo"), model.config.turn_end_token_id
    return [
        PreferenceSample(
            prompt_of(model, sample, pixels[f"pixel_values.{index}"]),
            Response([*sample["chosen"], end], frame_spans(sample["tgt"])),
            Response([*sample["rejected"], end], frame_spans(sample["tgt_rejected"])),
        )
        for index, sample in enumerate(CASES["fpo"]["samples"])
    ]


def prompt_of(model: D2VLM, sample: dict[str, Any], pixels: Tensor) -> TrainingPrompt:
    assert model.tokenizers is not None
    before = sample["part1"]
    assert before[-1] == FRAME_PLACEHOLDER
    return TrainingPrompt(
        before=before[:-1],
        after=sample["question"],
        question=model.tokenizers.question_ids(sample["query"]),
        frames=pixels,
        spans=frame_spans(sample.get("src")),
    )


def gradients(model: D2VLM, loss: Tensor) -> dict[str, Tensor]:
    """Gradients of a loss by our names; parameters that it does not reach are left out."""
    model.zero_grad()
    loss.backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def assert_golden_gradients(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    names = [name for name in expected if name.startswith("grad.")]
    assert len(names) == 10
    for name in names:
        ours = our_name(name.removeprefix("grad."))
        assert ours is not None
        distance = (found[ours] - expected[name]).norm()
        assert distance <= 1e-4 * expected[name].norm(), name


def assert_alike(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Equal but for rounding, measured against the largest gradient of all."""
    assert found.keys() == expected.keys()
    largest = max(float(gradient.norm()) for gradient in expected.values())
    for name, gradient in found.items():
        assert torch.dist(gradient, expected[name]) <= ROUNDING * largest, name
