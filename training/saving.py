"""Checkpoints of a run: a model that loads everywhere, and what training needs to go on.

Works on named tensors, so that it does not matter how the training model is wrapped or sharded.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import save_file
from torch import Tensor

from vidground.checkpoints.lora import LowRankUpdate
from vidground.checkpoints.model_folder import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    CONFIG,
    PARTIAL_WEIGHTS,
)
from vidground.checkpoints.released_format import our_name
from vidground.checkpoints.tensors import read_tensors
from vidground.errors import CheckpointError
from vidground.language.tokenizers import Tokenizers
from vidground.model.configuration import D2VLMConfig
from vidground.model.d2vlm import D2VLM
from vidground.storage.atomic import atomic_path, make_folder, write_atomically
from vidground.training.objectives.settings import LoraSettings

TRAINED = "trained.safetensors"
"""The parameters that learn, as they are in training: what a run goes on from."""
STATE = "trainer_state.json"
"""Written last into a checkpoint, by transformers' Trainer: a folder with it is complete."""

_CHECKPOINT = re.compile(r"checkpoint-(\d+)")
_FACTOR = re.compile(r"(?P<module>.+)\.lora_(?P<factor>[AB])\.default\.weight")
_PEFT = "base_model.model."  # what peft puts before every name
_METADATA = {"format": "pt"}

# The start of our name to that of the released one, of what is trained beside adapters.
_RELEASED = {
    "language_model.": "model.",
    "lm_head.": "lm_head.",
    "frame_head.": "frm_head.",
    "evidence_head.": "evi_head.",
    "compressor.qformer.": "model.qformer_bert.bert.",
    "compressor.queries": "model.qformer_query",
    "compressor.patch_norm.": "model.qformer_ln.",
    "compressor.output_projection.": "model.qformer_proj.",
    "compressor.query_projection.": "model.qformer_q_proj.",
    "compressor.key_projection.": "model.qformer_k_proj.",
    "compressor.value_projection.": "model.qformer_v_proj.",
}


class CheckpointWriter(Protocol):
    """Writes a model into a folder."""

    def write(self, folder: Path, state: Mapping[str, Tensor]) -> None:
        """Write the model whose `state_dict`, adapters included, is `state`."""


@dataclass(frozen=True)
class MergedWriter:
    """Writes the full model in vidground's format, adapters merged into it.

    lora: of the adapters, if there are any. dtype: that the weights are stored in.
    """

    config: D2VLMConfig
    tokenizers: Tokenizers | None
    dtype: torch.dtype
    lora: LoraSettings = field(default_factory=LoraSettings)

    def write(self, folder: Path, state: Mapping[str, Tensor]) -> None:
        """See `CheckpointWriter.write`."""
        make_folder(folder)
        weights = {name: t.to(self.dtype) for name, t in merged(state, self.lora).items()}
        with torch.device("meta"):
            form = D2VLM(copy.deepcopy(self.config))
        form.to(self.dtype)
        form.tokenizers = self.tokenizers
        form.save_pretrained(folder, state_dict=weights)


@dataclass(frozen=True)
class AdapterWriter:
    """Writes the adapters and the other trained tensors, in the released form, over a base.

    config: of the base, as its config.json has it in the released format, changed to that of a
    D2VLM. base: where the base is found, a folder or hub repository. trained: our names of what
    learns.
    """

    config: Mapping[str, Any]
    base: str
    tokenizers: Tokenizers | None
    lora: LoraSettings
    trained: tuple[str, ...]

    def write(self, folder: Path, state: Mapping[str, Tensor]) -> None:
        """See `CheckpointWriter.write`."""
        make_folder(folder)
        trained = {name: state[name].detach().cpu() for name in self.trained}
        factors = {name: tensor for name, tensor in trained.items() if _FACTOR.fullmatch(name)}
        whole = {name: tensor for name, tensor in trained.items() if name not in factors}
        _write_json(folder / CONFIG, {**self.config, "model_name_or_path": self.base})
        _write_json(folder / ADAPTER_CONFIG, self._adapter_config())
        _write_tensors(
            folder / ADAPTER_WEIGHTS,
            {_factor_name(name): tensor for name, tensor in factors.items()},
        )
        _write_tensors(
            folder / PARTIAL_WEIGHTS,
            {_PEFT + released_name(name): tensor for name, tensor in whole.items()},
        )
        if self.tokenizers is not None:
            self.tokenizers.save(folder)

    def _adapter_config(self) -> dict[str, Any]:
        return {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": self.base,
            "r": self.lora.rank,
            "lora_alpha": self.lora.alpha,
            "lora_dropout": self.lora.dropout,
            "target_modules": ["qkv_proj", "o_proj"],
            "bias": "none",
            "inference_mode": True,
        }


def merged(state: Mapping[str, Tensor], lora: LoraSettings) -> dict[str, Tensor]:
    """The weights of a `state_dict` as if it had no adapters: every update added, on the CPU.

    A weight with an update becomes float32, so that the sum is rounded once.
    """
    weights = {
        name.replace(".base_layer.", "."): tensor.detach().cpu()
        for name, tensor in state.items()
        if not _FACTOR.fullmatch(name)
    }
    for match in filter(None, map(_FACTOR.fullmatch, state)):
        if match["factor"] == "A":
            module = match["module"]
            a, b = (state[f"{module}.lora_{f}.default.weight"].detach().cpu() for f in "AB")
            update = LowRankUpdate(a, b, lora.alpha / lora.rank)
            weights[f"{module}.weight"] = update.apply(weights[f"{module}.weight"])
    return weights


def released_name(ours: str) -> str:
    """The released name of a tensor that is trained beside adapters.

    Raises:
        CheckpointError: the released format has no such tensor.
    """
    start = next((start for start in _RELEASED if ours.startswith(start)), "")
    name = _RELEASED.get(start, "") + ours.removeprefix(start)
    if start == "compressor.qformer.":
        name = name.replace(".attention.attention.", ".attention.self.")
        name = name.replace(".crossattention.attention.", ".crossattention.self.")
    if our_name(name) != ours:
        raise CheckpointError(f"the released format has no place for {ours}; save the full model")
    return name


def save_trained(folder: Path, state: Mapping[str, Tensor], trained: Iterable[str]) -> None:
    """Write the parameters that learn, as they are, to the folder of a checkpoint."""
    _write_tensors(folder / TRAINED, {name: state[name].detach().cpu() for name in trained})


@torch.no_grad()
def load_trained(model: D2VLM, folder: Path, trained: Iterable[str]) -> None:
    """Give a model the parameters that `save_trained` wrote.

    Raises:
        CheckpointError: the checkpoint is of a run that trained other parameters.
    """
    parameters = {name: model.get_parameter(name) for name in trained}
    found: set[str] = set()
    for name, tensor in read_tensors([folder / TRAINED]):
        if name not in parameters or parameters[name].shape != tensor.shape:
            raise CheckpointError(
                f"{folder}: {name} {tuple(tensor.shape)} is not trained in this run; resume with "
                "the settings that the run began with"
            )
        parameters[name].copy_(tensor)
        found.add(name)
    if missing := sorted(parameters.keys() - found):
        raise CheckpointError(
            f"{folder} lacks {len(missing)} parameters that this run trains, the first "
            f"{missing[0]}; resume with the settings that the run began with"
        )


def checkpoints(run: Path) -> list[Path]:
    """The checkpoints in a run's folder, complete or not, from first to last."""
    found = [
        (int(match[1]), path)
        for path in (run.iterdir() if run.is_dir() else ())
        if (match := _CHECKPOINT.fullmatch(path.name))
    ]
    return [path for _, path in sorted(found)]


def last_checkpoint(run: Path) -> Path | None:
    """The newest complete checkpoint in a run's folder; None if there is none."""
    complete = [path for path in checkpoints(run) if (path / STATE).is_file()]
    return complete[-1] if complete else None


def _factor_name(ours: str) -> str:
    match = _FACTOR.fullmatch(ours)
    assert match is not None
    module = released_name(f"{match['module']}.weight").removesuffix(".weight")
    return f"{_PEFT}{module}.lora_{match['factor']}.weight"


def _write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    with atomic_path(path) as temporary:
        save_file({n: t.contiguous() for n, t in tensors.items()}, temporary, _METADATA)


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    write_atomically(path, json.dumps(value, indent=2) + "\n")
