"""Merge LoRA adapters saved by peft into the weights that they change.

Pure arithmetic on named tensors; reads no files.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vidground.checkpoints.stored_tensors import plain_name
from vidground.errors import CheckpointError

_FACTOR = re.compile(r"(?P<module>.+)\.lora_(?P<factor>[AB])(\.default)?\.weight")

# Settings that do not change W + B·A·alpha/r. All others must be off.
_HARMLESS = frozenset(
    {
        "auto_mapping",
        "base_model_name_or_path",
        "ensure_weight_tying",
        "eva_config",
        "exclude_modules",
        "inference_mode",
        "init_lora_weights",
        "layers_pattern",
        "layers_to_transform",
        "lora_alpha",
        "lora_dropout",
        "megatron_core",
        "peft_type",
        "peft_version",
        "qalora_group_size",
        "r",
        "revision",
        "runtime_config",
        "target_modules",
        "task_type",
    }
)
# Initialisations that do not change the base weights.
_PLAIN_STARTS = (True, False, "gaussian", "orthogonal", "eva")


@dataclass(frozen=True, slots=True)
class LowRankUpdate:
    """The change B·A·scale of one weight (Hu et al. 2021, section 4.1).

    Attributes:
        a: (r, inputs).
        b: (outputs, r).
        scale: alpha / r.
    """

    a: Tensor
    b: Tensor
    scale: float

    def apply(self, weight: Tensor) -> Tensor:
        """Return W + B·A·scale in float32."""
        return torch.addmm(weight.float(), self.b.float(), self.a.float(), alpha=self.scale)


def check_adapter(config: Mapping[str, Any], *, source: str) -> None:
    """Check that an adapter computes W + B·A·alpha/r.

    Args:
        config: its adapter_config.json.
        source: of the adapter, for messages.

    Raises:
        CheckpointError: a setting is not supported.
    """
    remedy = "merge it with peft's merge_and_unload and save the full model"
    start = config.get("init_lora_weights", True)
    wrong = {key: value for key, value in config.items() if key not in _HARMLESS and value}
    if config.get("bias") == "none":
        del wrong["bias"]
    if start not in _PLAIN_STARTS:
        wrong["init_lora_weights"] = start
    if config.get("peft_type") != "LORA":
        wrong["peft_type"] = config.get("peft_type")
    for key, value in wrong.items():
        raise CheckpointError(
            f"{source}: adapters with {key}={value!r} are not supported; {remedy}"
        )
    for key in ("r", "lora_alpha"):
        if not isinstance(config.get(key), int | float) or config[key] <= 0:
            raise CheckpointError(
                f"{source}: the adapter's {key} is {config.get(key)!r}; it must be above 0"
            )


def read_updates(
    tensors: Iterable[tuple[str, Tensor]], config: Mapping[str, Any], *, source: str
) -> dict[str, LowRankUpdate]:
    """Return an adapter's updates by the name of the weight that they change.

    Args:
        tensors: names and values of the adapter.
        config: its adapter_config.json.
        source: of the adapter, for messages.

    Raises:
        CheckpointError: the adapter is of another kind, or a factor is missing or misshapen.
    """
    check_adapter(config, source=source)
    factors: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors:
        match = _FACTOR.fullmatch(plain_name(name))
        if match is None:
            raise CheckpointError(f"{source}: {name} is not a factor of a low-rank update")
        factors.setdefault(match["module"], {})[match["factor"]] = tensor.clone()
    scale = config["lora_alpha"] / config["r"]
    updates = {}
    for module, pair in factors.items():
        if pair.keys() != {"A", "B"}:
            raise CheckpointError(f"{source}: {module} has only lora_{next(iter(pair))}")
        if not pair["A"].shape[0] == pair["B"].shape[1] == config["r"]:
            raise CheckpointError(
                f"{source}: {module} has factors of shape {tuple(pair['A'].shape)} and "
                f"{tuple(pair['B'].shape)}; the adapter's rank is {config['r']}"
            )
        updates[f"{module}.weight"] = LowRankUpdate(pair["A"], pair["B"], scale)
    return updates


def merge(
    tensors: Iterable[tuple[str, Tensor]], updates: Mapping[str, LowRankUpdate], *, source: str
) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors with the updates applied; updated tensors are in float32.

    Args:
        tensors: names and values.
        updates: by the name of the weight.
        source: of the adapter, for messages.

    Raises:
        CheckpointError: an update does not fit its weight, or has none.
    """
    left = dict(updates)
    for name, tensor in tensors:
        update = left.pop(name, None)
        if update is None:
            yield name, tensor
            continue
        shape = (update.b.shape[0], update.a.shape[1])
        if tensor.shape != shape:
            raise CheckpointError(
                f"{source}: {name} has shape {tuple(tensor.shape)}, its update {shape}"
            )
        yield name, update.apply(tensor)
    if left:
        raise CheckpointError(
            f"{source}: updates without a weight: {len(left)}, the first is for {next(iter(left))}"
        )
