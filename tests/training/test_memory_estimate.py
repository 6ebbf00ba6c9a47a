"""The memory of a training step, told without taking it, against what autograd really keeps."""

import pytest
import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks

from tests.helpers.training_cases import golden_model, sft_samples
from tests.helpers.training_runs import tiny_model
from vidground.model.d2vlm import D2VLM
from vidground.training.data.collation import Collator
from vidground.training.memory_estimate import SampleLengths, batch_memory, fixed_memory
from vidground.training.objectives.objective import SftObjective
from vidground.training.objectives.settings import LoraSettings, ParameterSettings, SftSettings
from vidground.training.objectives.sft import sft_losses
from vidground.training.parameters import prepare_parameters

FULL = ParameterSettings(trained="full")
LENGTHS = SampleLengths(frames=20, question=4, prompt=10, answer=12, intervals=2)


def meta_model(settings: ParameterSettings, dtype: torch.dtype = torch.float32) -> D2VLM:
    model = tiny_model().to("meta", dtype)
    with torch.device("meta"):
        prepare_parameters(model, settings)
    return model


def kept(model: D2VLM, lengths: SampleLengths, batch_size: int = 1, *, pixels: bool = False) -> int:
    return batch_memory(model, lengths, batch_size, precision=torch.float32, pixels=pixels)


def test_fixed_memory_is_counted_by_hand() -> None:
    layer = nn.Linear(10, 6, bias=False)  # 60 numbers that learn
    frozen = nn.Linear(6, 4, bias=False).to(torch.bfloat16).requires_grad_(False)  # 24 that do not
    model = nn.Sequential(layer, frozen)
    memory = fixed_memory(model)
    assert (memory.weights, memory.gradients, memory.optimizer) == (240 + 48, 240, 480)
    assert memory.total == 288 + 240 + 480
    assert fixed_memory(model, processes=2, reference=True).copies == 2 * 240


def really_kept(model: D2VLM) -> int:
    """Bytes of what autograd keeps of a pass over a golden sample, weights left out."""
    weights = {p.untyped_storage()._cdata for p in model.parameters()}
    held: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage()._cdata not in weights:
            held.setdefault(tensor.untyped_storage()._cdata, tensor)
        return tensor

    settings = SftSettings()
    batch = Collator.of(model.config, settings)(sft_samples(model)[:1])
    with saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = sft_losses(model, batch, settings).total(settings)
    assert loss.requires_grad
    return sum(tensor.untyped_storage().nbytes() for tensor in held.values())


def test_what_is_told_is_what_autograd_keeps() -> None:
    model = golden_model()
    prepare_parameters(model, FULL)
    (sample,) = sft_samples(model)[:1]
    response = len(sample.response.token_ids)
    lengths = SampleLengths(
        frames=len(sample.prompt.frames),
        question=len(sample.prompt.question),
        prompt=len(sample.prompt.before) + len(sample.prompt.after),
        answer=response,
        intervals=len(sample.response.spans),
    )
    real = really_kept(model)
    on_meta = golden_model().to("meta")
    prepare_parameters(on_meta, FULL)
    told = kept(on_meta, lengths, pixels=True)
    assert told == pytest.approx(real, rel=0.1)


def test_memory_grows_with_the_batch_and_with_what_learns() -> None:
    full = meta_model(FULL)
    one, two = kept(full, LENGTHS), kept(full, LENGTHS, 2)
    assert 1.9 * one < two < 2.1 * one
    language = meta_model(ParameterSettings(trained="language"))
    assert kept(language, LENGTHS) < 0.8 * one  # the compressor keeps nothing
    longer = SampleLengths(frames=40, question=4, prompt=10, answer=12, intervals=2)
    assert kept(full, longer) > 1.4 * one
    assert kept(full, LENGTHS, pixels=True) > 1.1 * one  # the vision encoder learns, too


def test_computing_states_again_keeps_less() -> None:
    model = meta_model(FULL)
    plain = kept(model, LENGTHS)
    SftObjective(model, SftSettings()).train().enable_gradient_checkpointing()
    assert kept(model, LENGTHS) < 0.6 * plain


def test_a_frozen_encoder_takes_the_states_of_one_layer() -> None:
    settings = ParameterSettings(trained="full-but-vision")
    model = meta_model(settings)
    patches, width, inner = 4, 32, 128  # of frames of 20 x 20 pixels and 4 patches
    extra = kept(model, LENGTHS, pixels=True) - kept(model, LENGTHS)
    assert extra == 20 * (patches + 1) * (width + 2 * inner) * 4


def test_adapters_of_the_released_size_are_counted_by_hand() -> None:
    model = meta_model(ParameterSettings(lora=LoraSettings(rank=4, alpha=8)), torch.bfloat16)
    hidden, layers = 32, 4
    adapters = layers * 4 * ((hidden + 3 * hidden) + (hidden + hidden))
    named = [p.numel() for name, p in model.named_parameters() if ".lora_" in name]
    assert sum(named) == adapters
    learning = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert fixed_memory(model).gradients == 4 * learning
