"""The model that a run starts from: loaded, extended from an E.T. Chat base, or a random toy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vidground.checkpoints.announcement import announce
from vidground.checkpoints.hub import ModelFolder, find_model, find_question_tokenizer
from vidground.checkpoints.hub_files import HubAccess
from vidground.checkpoints.known_models import RELEASED_MODEL_TYPE, known_model
from vidground.checkpoints.loading import Checkpoint, build_model, load_model
from vidground.checkpoints.model_folder import (
    CONFIG,
    has_adapter,
    read_json,
    time_tokens_of,
    weight_files,
)
from vidground.checkpoints.released_format import (
    OFFICIAL_QFORMER_VOCABULARY,
    our_name,
    released_config,
    translate,
)
from vidground.checkpoints.stored_tensors import of_base_only, tensor_names
from vidground.checkpoints.tensors import read_tensors, stored_dtype
from vidground.errors import CheckpointError, InputError
from vidground.language.tokenizers import EVIDENCE, EVIDENCE_END, MATCH, Tokenizers
from vidground.model.configuration import D2VLMConfig
from vidground.model.d2vlm import D2VLM
from vidground.settings import TimeTokens
from vidground.training.config import ModelSource
from vidground.training.toy.model import make_toy_model, make_toy_tokenizers, toy_config

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

    An E.T. Chat model of the stage before it expresses times is extended: frames attend to each
    other, and it gets both heads and the time tokens (paper, section 4.1).

    Args:
        source: which model.
        seed: of random weights: a toy model's, or those of new heads.

    Raises:
        CheckpointError: the model cannot be found or loaded.
    """
    if source.name is None:
        config = toy_config(time_tokens=source.time_tokens or "evidence")
        return Start(make_toy_model(config, seed=seed))
    hub = HubAccess(local_files_only=source.offline)
    found = find_model(source.name, revision=source.revision, subfolder=source.subfolder, hub=hub)
    values = read_json(found.path / CONFIG)
    if values.get("model_type") == RELEASED_MODEL_TYPE and time_tokens_of(values) is None:
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
    check_time_tokens(source, model.config)
    whole = values.get("model_type") == RELEASED_MODEL_TYPE and not has_adapter(found.path)
    return Start(model, ReleasedBase(values, _base_name(found)) if whole else None)


def check_time_tokens(source: ModelSource, config: D2VLMConfig) -> None:
    """Check that a trained model expresses times as the configuration asks.

    Raises:
        CheckpointError: it expresses them in the other way.
    """
    if source.time_tokens not in (None, config.time_tokens):
        raise CheckpointError(
            f"{source.name} was trained with time_tokens {config.time_tokens!r}, and "
            f"model.time_tokens is {source.time_tokens!r}; omit it, or start from the stage "
            "before, PolyU-ChenLab/ETChat-Phi3-Mini-Stage-2"
        )


@dataclass(frozen=True)
class ExtendedBase:
    """The model that a base is extended to.

    Attributes:
        values: content of its config.json.
        config: its configuration.
        tokenizers: its tokenizers, with the time tokens.
    """

    values: Mapping[str, Any]
    config: D2VLMConfig
    tokenizers: Tokenizers


def extended_base(
    found: ModelFolder,
    values: Mapping[str, Any],
    hub: HubAccess,
    time_tokens: TimeTokens | None = None,
) -> ExtendedBase:
    """Return the configuration and tokenizers of a model on a base; reads no weights.

    Args:
        found: the base.
        values: content of its config.json.
        hub: how the hub is accessed.
        time_tokens: how the model is to express times; None for evidence.

    Raises:
        CheckpointError: the base's tokenizer is missing.
    """
    matches = time_tokens == "matching"
    tokenizers = Tokenizers.load(
        found.path,
        question_folder=find_question_tokenizer(found, hub),
        time_tokens=time_tokens or "evidence",
    )
    new = (MATCH,) if matches else (EVIDENCE, EVIDENCE_END)
    rows = _add_tokens(tokenizers, new, int(values.get("vocab_size", 0)), found.name)
    ids = tokenizers.ids
    named = {"evidence_token_id": ids.evidence, "evidence_end_token_id": ids.evidence_end}
    extended = {
        **values,
        "vocab_size": rows,
        "use_evidence": not matches,
        "use_matching": matches,
        "bi_attention": True,
        **({"match_token_id": ids.evidence} if matches else named),
    }
    config = released_config(extended, source=found.name)
    config.turn_end_token_id = tokenizers.ids.turn_end
    return ExtendedBase(extended, config, tokenizers)


def _extended(
    source: ModelSource, found: ModelFolder, values: Mapping[str, Any], hub: HubAccess, seed: int
) -> Start:
    extended = extended_base(found, values, hub, source.time_tokens)
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


def _add_tokens(tokenizers: Tokenizers, new: Sequence[str], rows: int, source: str) -> int:
    """Add special tokens to the language tokenizer; return the rows its tables need."""
    language = tokenizers.language
    if language is None:
        raise CheckpointError(f"{source} has no tokenizer.json; fetch the model again")
    missing = [token for token in new if token not in language.get_vocab()]
    if missing:
        language.add_tokens(missing, special_tokens=True)
    return max(rows, int(max(language.get_vocab().values())) + 1)


def _with_heads(
    config: D2VLMConfig, files: list[Path], rows: int, seed: int
) -> Iterator[tuple[str, Tensor]]:
    """Yield a base's tensors under our names, its tables extended, and the missing heads."""
    kind = config.time_tokens
    stored = {our_name(name, kind) for file in files for name in tensor_names(file)}
    for name, tensor in translate(read_tensors(files), kind):
        if of_base_only(name, kind):
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


@dataclass(frozen=True)
class PlannedModel:
    """A model to start from, without its weights.

    Attributes:
        model: on the meta device, in the types that its weights are stored in.
        tokenizers: None if they are not on this machine.
        note: what it is, for the report.
    """

    model: D2VLM
    tokenizers: Tokenizers | None
    note: str


def planned_model(source: ModelSource) -> PlannedModel:
    """Return the model that a run starts from, without its weights.

    Raises:
        CheckpointError: it is on this machine and cannot be used.
    """
    config, tokenizers, dtype, note = _known(source)
    with torch.device("meta"):
        model = D2VLM(config).to(getattr(torch, source.dtype) if source.dtype else dtype)
    return PlannedModel(model, tokenizers, f"{note}, {str(model.dtype).removeprefix('torch.')}")


def _known(source: ModelSource) -> tuple[D2VLMConfig, Tokenizers | None, torch.dtype, str]:
    if source.name is None:
        time_tokens = source.time_tokens or "evidence"
        config = toy_config(time_tokens=time_tokens)
        return config, make_toy_tokenizers(time_tokens), torch.float32, "toy, random weights"
    hub = HubAccess(local_files_only=True)
    try:
        found = find_model(
            source.name, revision=source.revision, subfolder=source.subfolder, hub=hub
        )
    except CheckpointError:
        note = f"{source.name} is not on this machine; the released size is assumed"
        known = known_model(source.name)
        config = D2VLMConfig(
            qformer_config={"vocab_size": OFFICIAL_QFORMER_VOCABULARY},
            time_tokens=source.time_tokens or (known.time_tokens if known else "evidence"),
        )
        return config, None, torch.bfloat16, note
    values = read_json(found.path / CONFIG)
    if values.get("model_type") == D2VLMConfig.model_type:
        config = D2VLMConfig.from_dict(values)
        tokenizers = _tokenizers(found, hub, config.time_tokens)
    elif values.get("model_type") == RELEASED_MODEL_TYPE and time_tokens_of(values) is None:
        extended = extended_base(found, values, hub, source.time_tokens)
        config, tokenizers = extended.config, extended.tokenizers
    else:
        config = released_config(values, source=found.name)
        tokenizers = _tokenizers(found, hub, config.time_tokens)
    check_time_tokens(source, config)
    return config, tokenizers, _stored(found), found.name


def _tokenizers(found: ModelFolder, hub: HubAccess, time_tokens: TimeTokens) -> Tokenizers | None:
    """Return the tokenizers in the model's folder or in the cache; None if there are none."""
    try:
        tokenizers = Tokenizers.load(
            found.path,
            question_folder=find_question_tokenizer(found, hub),
            time_tokens=time_tokens,
        )
    except CheckpointError:
        return None
    return tokenizers if tokenizers.language is not None else None


def _stored(found: ModelFolder) -> torch.dtype:
    try:
        return stored_dtype(weight_files(found.path))
    except CheckpointError:  # changes to a base, which may be elsewhere
        return torch.bfloat16
