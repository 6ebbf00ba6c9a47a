"""Load a model from its files, in vidground's format or the released one.

`vidground.checkpoints.hub` finds the files; `vidground.checkpoints.released_format` translates the
released format.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vidground.checkpoints.announcement import announce
from vidground.checkpoints.config_checks import check_config, check_layers
from vidground.checkpoints.fingerprint import folder_fingerprint
from vidground.checkpoints.hub import ModelFolder, find_base, find_model, find_question_tokenizer
from vidground.checkpoints.hub_files import HubAccess
from vidground.checkpoints.known_models import known_model
from vidground.checkpoints.lora import merge, read_updates
from vidground.checkpoints.model_folder import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    CONFIG,
    GENERATION_CONFIG,
    PARTIAL_WEIGHTS,
    has_adapter,
    read_json,
    weight_files,
)
from vidground.checkpoints.released_format import released_config, translate, turn_end_token
from vidground.checkpoints.stored_tensors import (
    of_base_only,
    plain_name,
    read_headers,
    size_of,
    tensor_names,
)
from vidground.checkpoints.tensors import fill, read_tensors, stored_dtype
from vidground.devices import FOR_DEVICE, choose_device, choose_dtype
from vidground.errors import CheckpointError, InputError
from vidground.language.tokenizers import TokenIds, Tokenizers, check_sizes
from vidground.model.configuration import D2VLMConfig
from vidground.model.d2vlm import D2VLM
from vidground.settings import DEFAULT_MODEL, TimeTokens

_log = logging.getLogger(__name__)

_ATTENTION = ("sdpa", "eager")  # implementations that support the model's masks

# Passed to every model by transformers' Auto classes; ignored here.
_FROM_AUTO = frozenset({"_from_auto", "adapter_kwargs", "trust_remote_code"})


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint whose tensors can be read.

    Attributes:
        config: of the model.
        released: whether it is in the released format.
        files: that hold its weights, without low-rank factors.
        tensors: names in vidground's format and values; can be iterated once.
    """

    config: D2VLMConfig
    released: bool
    files: tuple[Path, ...]
    tensors: Iterator[tuple[str, Tensor]]


def load_model(
    model: str | Path = DEFAULT_MODEL,
    *,
    revision: str | None = None,
    subfolder: str | None = None,
    cache_dir: str | Path | None = None,
    token: str | None = None,
    local_files_only: bool = False,
    dtype: torch.dtype | str | None = None,
    device: str | torch.device = "cpu",
    attn_implementation: str | None = None,
    config: D2VLMConfig | None = None,
    **from_auto: Any,
) -> D2VLM:
    """Load a model for inference, with its tokenizers.

    Every parameter comes from the checkpoint, and every tensor of the checkpoint is used.

    Args:
        model: a known name ("d2vlm", "d2vlm-mcqa", "etchat", "toy"), a folder, or a hub repository;
            see `vidground.checkpoints.hub.find_model`.
        revision: branch, tag or commit of the hub repository.
        subfolder: of the model in a folder or repository that holds several.
        cache_dir: the hub cache; None for the default. Cached files are not downloaded again.
        token: for private hub repositories; None for that of the current login.
        local_files_only: never use the network.
        dtype: of the parameters ("bfloat16", torch.float16, …); None or "auto" for the stored one,
            "device" for the one that suits the device (`devices.choose_dtype`).
        device: of the parameters.
        attn_implementation: "sdpa" or "eager"; None for the configuration's, or "sdpa".
        config: replaces the checkpoint's configuration.
        from_auto: options that transformers' Auto classes pass; ignored.

    Raises:
        CheckpointError: the model cannot be found, is of another kind, or is damaged.
        InputError: an argument is not accepted.
    """
    if from_auto.keys() - _FROM_AUTO:
        raise InputError(f"load_model has no option {min(from_auto.keys() - _FROM_AUTO)!r}")
    target = choose_device(device)
    if dtype not in (None, "auto", FOR_DEVICE):
        dtype = _dtype(dtype)  # checked before anything is fetched
    hub = HubAccess(cache_dir, token, local_files_only)
    found = find_model(model, revision=revision, subfolder=subfolder, hub=hub)
    checkpoint = open_checkpoint(found, hub, config=config)
    attention = attn_implementation or checkpoint.config._attn_implementation
    checkpoint.config._attn_implementation = _attention(attention)
    tokenizers = _load_tokenizers(found, checkpoint, hub)
    chosen = _chosen_dtype(dtype, target, checkpoint.files)
    name = str(chosen).removeprefix("torch.")
    announce(model, checkpoint.files, source=found.name, dtype=name, device=str(target))
    known = known_model(found.name)
    if known is not None and known.limits:
        _log.info("%s", known.limits)
    built = build_model(checkpoint, source=found.name, dtype=chosen, device=target)
    built.tokenizers = tokenizers
    built.name_or_path = built.config.name_or_path = found.name
    built.config._commit_hash = found.revision  # transformers' attribute; never saved
    built.files_digest = None if found.revision else folder_fingerprint(found.path)
    return built


def open_checkpoint(
    found: ModelFolder, hub: HubAccess, *, config: D2VLMConfig | None = None
) -> Checkpoint:
    """Read a model's configuration and prepare its tensors, which are read later.

    Args:
        found: folder of the model.
        hub: how to access the hub, for the base of an adapter.
        config: replaces the model's configuration.

    Raises:
        CheckpointError: the model is of another kind, or files are missing.
    """
    values = read_json(found.path / CONFIG)
    adapter = has_adapter(found.path)
    released = values.get("model_type") != D2VLMConfig.model_type
    own = _stored_config(values, found, released=released)
    config = own if config is None else copy.deepcopy(config)
    check_config(config, found.path / CONFIG)
    if not released and adapter:
        raise CheckpointError(
            f"{found.name}: an adapter beside a model in vidground's format; merge it into the "
            "model, or move it to another folder"
        )
    if adapter:
        base = find_base(found, hub)
        files, tensors = _with_base(found, base, config.time_tokens)
    else:
        files = weight_files(found.path)
        tensors = read_tensors(files)
    check_layers(config, read_headers(files), found.path / CONFIG)
    if released:
        tensors = translate(tensors, config.time_tokens)
    return Checkpoint(config, released, tuple(files), tensors)


def build_model(
    checkpoint: Checkpoint, *, source: str, dtype: torch.dtype, device: torch.device
) -> D2VLM:
    """Build a model and fill it with a checkpoint's tensors, each copied once.

    Args:
        checkpoint: its tensors are consumed.
        source: name of the model, for messages.
        dtype: of the parameters.
        device: of the parameters.

    Raises:
        CheckpointError: tensors are missing, unused or of another shape.
    """
    try:
        with torch.device("meta"):
            model = D2VLM(checkpoint.config)
    except Exception as error:  # whatever sizes that do not fit together raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{source}: its {CONFIG} describes no model that can be built: {reason}; fetch it again"
        ) from error
    fill(model, checkpoint.tensors, source=source, dtype=dtype, device=device)
    _compute_buffers(model, device)
    model.eval()
    return model


def _stored_config(values: dict[str, Any], found: ModelFolder, *, released: bool) -> D2VLMConfig:
    try:
        if released:
            return released_config(values, source=found.name)
        config: D2VLMConfig = D2VLMConfig.from_dict(values)
    except CheckpointError:
        raise
    except Exception as error:  # transformers raises nearly anything for values of other types
        reason = "; ".join(line.strip() for line in str(error).splitlines()[:2])
        raise CheckpointError(
            f"{found.path / CONFIG} is damaged: {reason or type(error).__name__}; fetch it again"
        ) from error
    return config


def _with_base(
    found: ModelFolder, base: ModelFolder, time_tokens: TimeTokens
) -> tuple[list[Path], Iterator[tuple[str, Tensor]]]:
    """Return files and released tensors of a base with an adapter applied to it."""
    if has_adapter(base.path):
        raise CheckpointError(
            f"{base.name}, the base of {found.name}, is itself an adapter; merge it first"
        )
    files = weight_files(base.path)
    partial = found.path / PARTIAL_WEIGHTS
    trained = tensor_names(partial) if partial.is_file() else frozenset()
    replaced = {plain_name(name) for name in trained}
    kept = (
        (name, tensor)
        for name, tensor in read_tensors(files, skip=replaced)
        if not of_base_only(name, time_tokens)
    )
    whole = (
        (plain_name(name), tensor) for name, tensor in read_tensors([partial] if trained else [])
    )
    tensors: Iterable[tuple[str, Tensor]] = chain(kept, whole)
    adapter = found.path / ADAPTER_WEIGHTS
    if adapter.is_file():
        settings = read_json(found.path / ADAPTER_CONFIG)
        updates = read_updates(read_tensors([adapter]), settings, source=found.name)
        tensors = merge(tensors, updates, source=found.name)
    return [*files, *([partial] if trained else [])], iter(tensors)


def _load_tokenizers(found: ModelFolder, checkpoint: Checkpoint, hub: HubAccess) -> Tokenizers:
    """Load a model's tokenizers, and set the configuration's token ids to theirs."""
    config = checkpoint.config
    tokenizers = Tokenizers.load(
        found.path,
        question_folder=find_question_tokenizer(found, hub),
        time_tokens=config.time_tokens,
    )
    check_sizes(
        tokenizers,
        language_rows=config.text_config.vocab_size,
        question_rows=config.qformer_config.vocab_size,
    )
    if tokenizers.language is not None:
        ids = tokenizers.ids
        written = {name: getattr(config, name) for name in _named_ids(config, ids)}
        if checkpoint.released and written != _named_ids(config, ids):
            raise CheckpointError(
                f"{found.name}: {CONFIG} has {_listed(written)}, the tokenizer has "
                f"{_listed(_named_ids(config, ids))}; one of them belongs to another model"
            )
        for name, token_id in _named_ids(config, ids).items():
            setattr(config, name, token_id)
        config.turn_end_token_id = ids.turn_end
    elif checkpoint.released:
        generation = found.path / GENERATION_CONFIG
        settings = [read_json(generation)] if generation.is_file() else []
        settings.append(read_json(found.path / CONFIG))
        config.turn_end_token_id = turn_end_token(*settings, source=found.name)
    return tokenizers


def _named_ids(config: D2VLMConfig, ids: TokenIds) -> dict[str, int | None]:
    """Return the ids of a model's time tokens by their names in its configuration."""
    if config.matches:
        return {"match_token_id": ids.evidence}
    return {"evidence_token_id": ids.evidence, "evidence_end_token_id": ids.evidence_end}


def _listed(ids: dict[str, int | None]) -> str:
    return ", ".join(f"{name} {token_id}" for name, token_id in ids.items())


def _compute_buffers(model: D2VLM, device: torch.device) -> None:
    """Compute the buffers that checkpoints do not store, as regular construction does."""
    rotary = model.language_model.rotary_emb
    model.language_model.rotary_emb = type(rotary)(config=model.config.text_config).to(device)
    embeddings = model.compressor.qformer.embeddings
    positions = torch.arange(embeddings.position_ids.shape[-1], device=device)
    embeddings.register_buffer("position_ids", positions.expand(1, -1), persistent=False)
    left = [name for name, buffer in model.named_buffers() if buffer.is_meta]
    if left and device.type != "meta":
        raise CheckpointError(
            f"this version of transformers has buffers that vidground does not compute: {left}; "
            "install the version that vidground requires"
        )


def _attention(asked: str | None) -> str:
    if asked is not None and asked not in _ATTENTION:
        raise InputError(f"attn_implementation is {asked!r}; it must be one of {_ATTENTION}")
    return asked or _ATTENTION[0]


def _chosen_dtype(
    asked: torch.dtype | str | None, device: torch.device, files: Iterable[Path]
) -> torch.dtype:
    """The dtype of the parameters; see `load_model`."""
    if isinstance(asked, torch.dtype):
        return asked
    if asked != FOR_DEVICE:
        return stored_dtype(files)
    shapes = {name: tensor.shape for name, tensor in read_headers(files).items()}
    return _dtype(choose_dtype(device, size_of(shapes).parameters).name)


def _dtype(asked: torch.dtype | str) -> torch.dtype:
    found = getattr(torch, asked, None) if isinstance(asked, str) else asked
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise InputError(f"dtype is {asked!r}; it must be float32, bfloat16, float16 or auto")
    return found
