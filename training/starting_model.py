"""The model that a run starts from: loaded, extended from an E.T. Chat base, or a random toy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vidground.checkpoints.announcement import announce
from vidground.checkpoints.hub import ModelFolder, find_model, find_question_tokenizer
from vidground.checkpoints.hub_files import HubAccess
from vidground.checkpoints.known_models import RELEASED_MODEL_TYPE
from vidground.checkpoints.loading import Checkpoint, build_model, load_model
from vidground.checkpoints.model_folder import CONFIG, has_adapter, read_json, weight_files
from vidground.checkpoints.released_format import our_name, released_config, translate
from vidground.checkpoints.stored_tensors import of_base_only, tensor_names
from vidground.checkpoints.tensors import read_tensors, stored_dtype
from vidground.errors import CheckpointError, InputError
from vidground.language.tokenizers import EVIDENCE, EVIDENCE_END, Tokenizers
from vidground.model.configuration import D2VLMConfig
from vidground.model.d2vlm import D2VLM
from vidground.training.config import ModelSource
from vidground.training.toy.model import make_toy_model

_HEADS = ("frame_head.", "evidence_head.")
_TABLES = ("language_model.embed_tokens.weight", "lm_head.weight")  # one row per token


@dataclass(frozen=True)
class ReleasedBase:
    """A full model in the released format, over which adapters can be saved.

    Attributes:
        config: content of config.json of a D2VLM on it.
        name: a folder or hub repository.
    """

    config: Mapping[str, Any]
    name: str


@dataclass(frozen=True)
class Start:
    """A model to start from.

    Attributes:
        model: on the CPU, with tokenizers.
        base: model that adapters can be saved over; None if there is none.
    """

    model: D2VLM
    base: ReleasedBase | None = None

    @property
    def config(self) -> D2VLMConfig:
        """The model's configuration."""
        config = self.model.config
        assert isinstance(config, D2VLMConfig)
        return config


def load_start(source: ModelSource, *, seed: int) -> Start:
    """Load the model to start from, on the CPU, with its tokenizers.

    An E.T. Chat model of the stage before matching is extended to a D2VLM: frames attend to each
    other, and it gets both heads and the evidence tokens (paper, section 4.1).

    Args:
        source: which model.
        seed: of random weights: a toy model's, or those of new heads.

    Raises:
        CheckpointError: the model cannot be found or loaded.
    """
    if source.name is None:
        return Start(make_toy_model(seed=seed))
    hub = HubAccess(local_files_only=source.offline)
    found = find_model(source.name, revision=source.revision, subfolder=source.subfolder, hub=hub)
    values = read_json(found.path / CONFIG)
    if values.get("model_type") == RELEASED_MODEL_TYPE and not values.get("use_evidence"):
        return _extended(source, found, values, hub, seed)
    model = load_model(
        source.name,
        revision=source.revision,
        subfolder=source.subfolder,
        local_files_only=source.offline,
        dtype=source.dtype,
    )
    if model.tokenizers is None or model.tokenizers.language is None:
        raise CheckpointError(
            f"{found.name} has no language tokenizer, so texts cannot be read; put its "
            "tokenizer.json and tokenizer_config.json into the model's folder"
        )
    whole = values.get("model_type") == RELEASED_MODEL_TYPE and not has_adapter(found.path)
    return Start(model, ReleasedBase(values, _base_name(found)) if whole else None)


@dataclass(frozen=True)
class ExtendedBase:
    """The D2VLM that a base is extended to.

    Attributes:
        values: content of its config.json.
        config: its configuration.
        tokenizers: its tokenizers, with the evidence tokens.
    """

    values: Mapping[str, Any]
    config: D2VLMConfig
    tokenizers: Tokenizers


def extended_base(found: ModelFolder, values: Mapping[str, Any], hub: HubAccess) -> ExtendedBase:
    """Return the configuration and tokenizers of a D2VLM on a base; reads no weights.

    Args:
        found: the base.
        values: content of its config.json.
        hub: how the hub is accessed.

    Raises:
        CheckpointError: the base is of a later stage, or its tokenizer is missing.
    """
    if values.get("use_matching"):
        raise CheckpointError(
            f"{found.name} was trained to match frames with <vid> tokens; start from the stage "
            "before it, PolyU-ChenLab/ETChat-Phi3-Mini-Stage-2"
        )
    tokenizers = Tokenizers.load(found.path, question_folder=find_question_tokenizer(found, hub))
    rows = _add_evidence_tokens(tokenizers, int(values.get("vocab_size", 0)), found.name)
    extended = {
        **values,
        "vocab_size": rows,
        "use_evidence": True,
        "use_matching": False,
        "bi_attention": True,
        "evidence_token_id": tokenizers.ids.evidence,
        "evidence_end_token_id": tokenizers.ids.evidence_end,
    }
    config = released_config(extended, source=found.name)
    config.turn_end_token_id = tokenizers.ids.turn_end
    return ExtendedBase(extended, config, tokenizers)


def _extended(
    source: ModelSource, found: ModelFolder, values: Mapping[str, Any], hub: HubAccess, seed: int
) -> Start:
    extended = extended_base(found, values, hub)
    files = weight_files(found.path)
    announce(found.name, files, source=found.name, dtype=source.dtype or "auto", device="cpu")
    rows = int(extended.config.text_config.vocab_size)
    tensors = _with_heads(extended.config, files, rows, seed)
    model = build_model(
        Checkpoint(extended.config, True, tuple(files), tensors),
        source=found.name,
        dtype=stored_dtype(files) if source.dtype is None else getattr(torch, source.dtype),
        device=torch.device("cpu"),
    )
    model.tokenizers = extended.tokenizers
    return Start(model, ReleasedBase(extended.values, _base_name(found)))


def _add_evidence_tokens(tokenizers: Tokenizers, rows: int, source: str) -> int:
    """Add `<evi>` and `</evi>` to the language tokenizer; return the rows its tables need."""
    language = tokenizers.language
    if language is None:
        raise CheckpointError(f"{source} has no tokenizer.json; fetch the model again")
    missing = [token for token in (EVIDENCE, EVIDENCE_END) if token not in language.get_vocab()]
    if missing:
        language.add_tokens(missing, special_tokens=True)
    return max(rows, int(max(language.get_vocab().values())) + 1)


def _with_heads(
    config: D2VLMConfig, files: list[Path], rows: int, seed: int
) -> Iterator[tuple[str, Tensor]]:
    """Yield a base's tensors under our names, its tables extended, and the missing heads."""
    stored = {our_name(name) for file in files for name in tensor_names(file)}
    for name, tensor in translate(read_tensors(files)):
        if of_base_only(name):
            continue
        if name in _TABLES and len(tensor) < rows:
            # New tokens start as the mean of the others.
            mean = tensor.float().mean(0, keepdim=True).to(tensor.dtype)
            tensor = torch.cat((tensor, mean.expand(rows - len(tensor), -1)))
        yield name, tensor
    with torch.device("meta"):
        form = D2VLM(config)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in form.named_parameters():
        if name.startswith(_HEADS) and name not in stored:
            yield name, _new_parameter(name, parameter.shape, config, generator)


def _new_parameter(
    name: str, shape: torch.Size, config: D2VLMConfig, generator: torch.Generator
) -> Tensor:
    """Initialise as transformers does: small random weights, zero biases, norms of one."""
    if len(shape) > 1:
        spread = float(config.text_config.initializer_range)
        return torch.empty(shape).normal_(std=spread, generator=generator)
    return torch.ones(shape) if name.endswith("weight") else torch.zeros(shape)


def _base_name(found: ModelFolder) -> str:
    """Return a name that finds the base from any folder."""
    return found.name if found.revision is not None else str(found.path.resolve())


def base_for_adapters(start: Start) -> ReleasedBase:
    """Return the base that adapters are saved over.

    Raises:
        InputError: the starting model is not a full model in the released format.
    """
    if start.base is None:
        raise InputError(
            "output.weights is 'adapter', which needs a full model in the released format to "
            "start from; use 'merged'"
        )
    return start.base
