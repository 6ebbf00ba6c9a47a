"""Trainable parameters: the released set or larger ones, with low-rank adapters by peft.

Adapters are injected into the model in place, so that it stays a `D2VLM`; they are merged before
the model is saved (`merged_state_dict`, `merge_adapters`).
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
"""Pattern of the modules that get adapters."""
# Trained in full; of the Q-Former only self- and cross-attention with their outputs and norms.
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
    """Numbers of parameters of a model.

    Attributes:
        total: parameters without adapters.
        in_full: of these, the trainable ones.
        adapters: parameters of the adapters, all trainable.
    """

    total: int
    in_full: int
    adapters: int

    def __str__(self) -> str:
        trained = self.in_full + self.adapters
        share = trained / (self.total + self.adapters)
        return (
            f"{trained:,} of {self.total + self.adapters:,} parameters are trained ({share:.2%}): "
            f"{self.in_full:,} in full, {self.adapters:,} in adapters"
        )


def prepare_parameters(
    model: D2VLM, settings: ParameterSettings, *, precision: torch.dtype = torch.float32
) -> None:
    """Add adapters, set `requires_grad`, and convert the parameters to types that train together.

    Trainable parameters become float32, so that small steps are not rounded away. Frozen ones
    become float32 if the precision is that. Otherwise training runs under autocast, and those
    stored in float16, which autocast to bfloat16 does not take, become bfloat16.

    Args:
        model: the model, changed in place; may be on the meta device.
        settings: which parameters are trained.
        precision: of the forward and backward pass, float32 or bfloat16.
    """
    if settings.trained != "released":
        model.requires_grad_(True)
        model.vision.requires_grad_(settings.trained == "full")
        model.compressor.requires_grad_(settings.trained != "language")
    else:
        _add_adapters(model, settings.lora)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(bool(_ADAPTER.search(name) or _IN_FULL.match(name)))
    for parameter in model.parameters():
        if parameter.requires_grad or precision == torch.float32:
            parameter.data = parameter.data.float()
        elif parameter.dtype == torch.float16:
            parameter.data = parameter.data.to(precision)


def parameter_groups(model: nn.Module, settings: ParameterSettings) -> list[dict[str, Any]]:
    """Return the trainable parameters in groups for an optimizer, one per learning rate."""
    groups: dict[tuple[str, float], list[nn.Parameter]] = {}
    rate_of = _Rates(settings, _memory_layers(model))
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups.setdefault(rate_of(name), []).append(parameter)
    return [
        {"name": name, "params": trained, "lr": rate, "weight_decay": settings.weight_decay}
        for (name, rate), trained in sorted(
            groups.items(), key=lambda item: _GROUPS.index(item[0][0])
        )
    ]


@dataclass(frozen=True, slots=True)
class _Rates:
    """Maps a parameter to the name of its group and its learning rate.

    Attributes:
        settings: the learning rates.
        memory_layers: number of the language model's layers that produce the evidence memory.
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
    """Return the number of memory layers of the D2VLM that is `model` or within it."""
    return int(next(m.config.evidence_layer for m in model.modules() if isinstance(m, D2VLM)))


def count_parameters(model: nn.Module) -> ParameterCounts:
    """Count a model's parameters; the model may be on the meta device."""
    total = in_full = adapters = 0
    for name, parameter in model.named_parameters():
        if _ADAPTER.search(name):
            adapters += parameter.numel()
        else:
            total += parameter.numel()
            in_full += parameter.numel() * parameter.requires_grad
    return ParameterCounts(total, in_full, adapters)


def merged_state_dict(model: D2VLM) -> dict[str, Tensor]:
    """Return the weights with adapters merged, in each weight's type.

    The model is unchanged, so that training can continue. For `save_pretrained(state_dict=…)`.
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
    """Merge the adapters into the weights and remove them, in place."""
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
