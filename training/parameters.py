"""Which parameters learn: the released set or all, with low-rank adapters by peft.

Knows no data and no objective. Adapters are put into the model in place, so that it stays a
`D2VLM`; before it is saved they are merged (`merged_state_dict`, `merge_adapters`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn

from vidground.model.d2vlm import D2VLM
from vidground.training.objectives.settings import LoraSettings, ParameterSettings

ADAPTED = r"language_model\.layers\.\d+\.self_attn\.(qkv_proj|o_proj)"
"""Modules that get adapters."""
# Trained in full: of the Q-Former only its attention, self and cross, with its output and norm.
_IN_FULL = re.compile(
    r"(language_model\.embed_tokens|lm_head|frame_head|evidence_head"
    r"|compressor\.(?!qformer\.)|compressor\.qformer\..*attention)"
)
_IN_COMPRESSOR = re.compile(r"(^|\.)compressor\.")  # also within an objective
_IN_LAYER = re.compile(r"(^|\.)language_model\.layers\.(\d+)\.")
_ADAPTER = re.compile(r"\.lora_[AB]\.")
_GROUPS = ("in_full", "adapters", "compressor", "memory")


@dataclass(frozen=True, slots=True)
class ParameterCounts:
    """How many numbers a model has.

    total: without adapters. in_full: of these, those that learn. adapters: added, and learn too.
    """

    total: int
    in_full: int
    adapters: int

    def __str__(self) -> str:
        trained = self.in_full + self.adapters
        share = trained / (self.total + self.adapters)
        return (
            f"{trained:,} of {self.total + self.adapters:,} parameters learn ({share:.2%}): "
            f"{self.in_full:,} in full, {self.adapters:,} in adapters"
        )


def prepare_parameters(model: D2VLM, settings: ParameterSettings) -> None:
    """Add adapters and say by `requires_grad` what learns; see `ParameterSettings.trained`.

    What learns is kept in float32, so that small steps are not rounded away. If the rest is in 16
    bit, train under autocast.
    """
    if settings.trained != "released":
        model.requires_grad_(True)
        model.vision.requires_grad_(settings.trained == "full")
        model.compressor.requires_grad_(settings.trained != "language")
    else:
        _add_adapters(model, settings.lora)
        for name, parameter in model.named_parameters():
            learns = bool(_ADAPTER.search(name) or _IN_FULL.match(name))
            parameter.requires_grad_(learns)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def parameter_groups(model: nn.Module, settings: ParameterSettings) -> list[dict[str, Any]]:
    """What learns, in groups for an optimizer: in full, and what has a rate of its own."""
    groups: dict[tuple[str, float], list[nn.Parameter]] = {}
    rate_of = _Rates(settings, _memory_layers(model))
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups.setdefault(rate_of(name), []).append(parameter)
    return [
        {"name": name, "params": learning, "lr": rate, "weight_decay": settings.weight_decay}
        for (name, rate), learning in sorted(
            groups.items(), key=lambda item: _GROUPS.index(item[0][0])
        )
    ]


@dataclass(frozen=True, slots=True)
class _Rates:
    """Name of the group that a parameter belongs to, and its rate.

    memory_layers: how many of the language model's layers make the evidence memory.
    """

    settings: ParameterSettings
    memory_layers: int

    def __call__(self, name: str) -> tuple[str, float]:
        rates = self.settings
        if _ADAPTER.search(name):
            return "adapters", rates.lora_learning_rate
        if rates.compressor_learning_rate is not None and _IN_COMPRESSOR.search(name):
            return "compressor", rates.compressor_learning_rate
        layer = _IN_LAYER.search(name)
        in_memory = layer is not None and int(layer[2]) < self.memory_layers
        if rates.memory_learning_rate is not None and in_memory:
            return "memory", rates.memory_learning_rate
        return "in_full", rates.learning_rate


def _memory_layers(model: nn.Module) -> int:
    """Of the D2VLM that is `model`, or within it."""
    return int(next(m.config.evidence_layer for m in model.modules() if isinstance(m, D2VLM)))


def count_parameters(model: nn.Module) -> ParameterCounts:
    """Count a model's parameters; works on the meta device."""
    total = in_full = adapters = 0
    for name, parameter in model.named_parameters():
        if _ADAPTER.search(name):
            adapters += parameter.numel()
        else:
            total += parameter.numel()
            in_full += parameter.numel() * parameter.requires_grad
    return ParameterCounts(total, in_full, adapters)


def merged_state_dict(model: D2VLM) -> dict[str, Tensor]:
    """The weights as if there were no adapters: every update added, in the weight's own type.

    The model is left as it is, so that training can go on. For `save_pretrained(state_dict=…)`.
    """
    merged = {
        name.replace(".base_layer.", "."): tensor
        for name, tensor in model.state_dict().items()
        if not _ADAPTER.search(name)
    }
    for name, layer in _adapted(model):
        weight = merged[f"{name}.weight"]
        for adapter in layer.active_adapters:
            update = layer.get_delta_weight(adapter)
            weight = (weight.to(update.dtype) + update).to(weight.dtype)
        merged[f"{name}.weight"] = weight
    return merged


@torch.no_grad()
def merge_adapters(model: D2VLM) -> None:
    """Put every adapter's update into the weight it belongs to, and take the adapter out."""
    weights = merged_state_dict(model)
    for name, layer in list(_adapted(model)):
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, layer.get_base_layer())
        model.get_parameter(f"{name}.weight").copy_(weights[f"{name}.weight"])


def _add_adapters(model: D2VLM, settings: LoraSettings) -> None:
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=ADAPTED,
        bias="none",
    )
    inject_adapter_in_model(config, model)


def _adapted(model: nn.Module) -> Iterator[tuple[str, LoraLinear]]:
    for name, module in model.named_modules():
        if isinstance(module, LoraLinear):
            yield name, module
