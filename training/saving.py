"""Write the models of a run, and the trainable parameters that training continues from.

Works on named tensors, however the model in training is wrapped or sharded.
"""

from __future__ import annotations

import copy
import json
import re
import shutil
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
    remove_weights,
    time_tokens_of,
)
from vidground.checkpoints.released_format import our_name
from vidground.checkpoints.stored_tensors import TIME_HEADS
from vidground.checkpoints.tensors import read_tensors
from vidground.errors import CheckpointError
from vidground.language.tokenizers import Tokenizers
from vidground.model.configuration import D2VLMConfig
from vidground.model.d2vlm import D2VLM
from vidground.settings import TimeTokens
from vidground.storage.atomic import atomic_path, make_folder, write_atomically
from vidground.training.checkpoints import TRAINED
from vidground.training.objectives.settings import LoraSettings

_FACTOR = re.compile(r"(?P<module>.+)\.lora_(?P<factor>[AB])\.default\.weight")
_PEFT = "base_model.model."  # peft's prefix of every name
_STAGING = ".vidground-model"
_ENDED = ".vidground-ended"
"""Folder of the parameters that a run has ended with, while its model is written."""
_METADATA = {"format": "pt"}

# Prefixes of our names to those of the released format, for what is trained beside adapters.
_RELEASED = {
    "language_model.": "model.",
    "lm_head.": "lm_head.",
    "frame_head.": "frm_head.",
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
    """Writes the full model in vidground's format, with the adapters merged.

    Attributes:
        config: of the model.
        tokenizers: saved with the model; None for none.
        dtype: type that the weights are stored in.
        lora: of the adapters, if there are any.
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
    """Writes the adapters and the other trained tensors in the released format, over a base.

    Attributes:
        config: content of config.json of a model on the base, in the released format.
        base: folder or hub repository of the base.
        tokenizers: saved beside; None for none.
        lora: of the adapters.
        trained: our names of the trainable parameters.
    """

    config: Mapping[str, Any]
    base: str
    tokenizers: Tokenizers | None
    lora: LoraSettings
    trained: tuple[str, ...]

    def write(self, folder: Path, state: Mapping[str, Tensor]) -> None:
        """See `CheckpointWriter.write`."""
        make_folder(folder)
        kind = time_tokens_of(self.config) or "evidence"
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
            {_PEFT + released_name(name, kind): tensor for name, tensor in whole.items()},
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
    """Return the weights of a `state_dict` with adapters merged, on the CPU.

    A weight with an update is returned in float32, so that the sum is rounded once.
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


def released_name(ours: str, time_tokens: TimeTokens = "evidence") -> str:
    """Return the released name of a tensor that is trained beside adapters.

    Args:
        ours: vidground's name.
        time_tokens: of the model, see `D2VLMConfig`.

    Raises:
        CheckpointError: the released format does not contain it.
    """
    prefixes = _RELEASED | {"evidence_head.": TIME_HEADS[time_tokens]}
    start = next((start for start in prefixes if ours.startswith(start)), "")
    name = prefixes.get(start, "") + ours.removeprefix(start)
    if start == "compressor.qformer.":
        name = name.replace(".attention.attention.", ".attention.self.")
        name = name.replace(".crossattention.attention.", ".crossattention.self.")
    if our_name(name, time_tokens) != ours:
        raise CheckpointError(f"the released format has no place for {ours}; save the full model")
    return name


def write_final(
    writer: CheckpointWriter,
    run: Path,
    state: Mapping[str, Tensor],
    *,
    trained: Iterable[str] = (),
) -> tuple[str, ...]:
    """Write the model into a run's folder so that it appears whole or not at all.

    It is made in a hidden folder and then moved. config.json, without which a folder is not a
    model, goes last; a run that is killed in between is finished by resuming it.

    Args:
        writer: of the model.
        run: its folder.
        state: the model's `state_dict`.
        trained: parameters to write first, so that a killed run can be finished from them (see
            `ended_run`); none for a run that has a checkpoint to resume from.

    Returns:
        Names of the model's files and folders.
    """
    staging, ended = run / _STAGING, run / _ENDED
    remove_staging(run)
    if names := tuple(trained):
        make_folder(ended)
        save_trained(ended, state, names)
    writer.write(staging, state)
    (run / CONFIG).unlink(missing_ok=True)
    remove_weights(run)
    paths = sorted(staging.iterdir(), key=lambda path: (path.name == CONFIG, path.name))
    for path in paths:
        target = run / path.name
        if target.is_dir():
            shutil.rmtree(target)
        path.replace(target)
    staging.rmdir()
    remove_ended(run)
    return tuple(path.name for path in paths)


def ended_run(run: Path) -> Path | None:
    """Return the folder of the parameters that a run ended with, if its model is not yet written.

    `load_trained` reads it.
    """
    return run / _ENDED if (run / _ENDED / TRAINED).is_file() else None


def remove_ended(run: Path) -> None:
    """Remove what `ended_run` returns."""
    if (run / _ENDED).is_dir():
        shutil.rmtree(run / _ENDED)


def remove_staging(run: Path) -> None:
    """Remove a model that a killed run has not finished writing."""
    if (run / _STAGING).is_dir():
        shutil.rmtree(run / _STAGING)


def save_trained(folder: Path, state: Mapping[str, Tensor], trained: Iterable[str]) -> None:
    """Write the trainable parameters, unmerged, to the folder of a checkpoint."""
    _write_tensors(folder / TRAINED, {name: state[name].detach().cpu() for name in trained})


@torch.no_grad()
def load_trained(model: D2VLM, folder: Path, trained: Iterable[str]) -> None:
    """Load the parameters that `save_trained` wrote.

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
        noun = "parameter" if len(missing) == 1 else "parameters"
        raise CheckpointError(
            f"{folder} lacks {len(missing)} {noun} that this run trains ({missing[0]}); resume "
            "with the settings that the run began with"
        )


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
