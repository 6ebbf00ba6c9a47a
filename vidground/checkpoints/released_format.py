"""Translate the released format of D2VLM and E.T. Chat, its configuration and tensor names, into
vidground's.

Reads no files; see `vidground.checkpoints.loading`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from vidground.checkpoints.known_models import RELEASED_MODEL_TYPE
from vidground.checkpoints.model_folder import time_tokens_of
from vidground.checkpoints.stored_tensors import TIME_HEADS
from vidground.errors import CheckpointError
from vidground.model.configuration import D2VLMConfig
from vidground.settings import DEFAULT_MODEL, TimeTokens

OFFICIAL_QFORMER_VOCABULARY = 30523  # BERT's 30,522 tokens and [DEC]

_TEXT_KEYS = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "hidden_act",
    "max_position_embeddings",
    "original_max_position_embeddings",
    "rms_norm_eps",
    "rope_theta",
    "rope_scaling",
    "attention_dropout",
    "embd_pdrop",
    "resid_pdrop",
    "initializer_range",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
)

_SIZES = {"num_layers": "num_hidden_layers", "num_heads": "num_attention_heads"}

# Settings of the released code that are supported: value, value if the key is absent, and the
# meaning of other values.
_REQUIRED: dict[str, tuple[Any, Any, str]] = {
    "bi_attention": (True, None, "its frames see only earlier frames"),
    "mm_projector": ("qformer", None, "it has another compressor"),
    "vision_output_token": ("patch", None, "its compressor reads no patches"),
    "vision_output_layer": (-2, None, "its patch features are of another layer"),
    "use_time_tag": (False, False, "its questions carry time tags"),
    "conv_type": ("phi3", None, "its prompts have another form"),
    "tie_word_embeddings": (False, False, "its output layer is its embedding table"),
}
_NEEDED = (*_TEXT_KEYS[:6], "vision_processor")
_NEEDED_IDS: dict[TimeTokens, tuple[str, ...]] = {
    "evidence": ("evidence_token_id", "evidence_end_token_id"),
    "matching": ("match_token_id",),
}


def check_supported(config: Mapping[str, Any], source: str) -> TimeTokens:
    """Check that a configuration is that of a released D2VLM or E.T. Chat.

    Args:
        config: content of config.json.
        source: of the model, for messages.

    Returns:
        How the model expresses times.

    Raises:
        CheckpointError: it is not, or a key is missing.
    """
    kind = config.get("model_type")
    if kind != RELEASED_MODEL_TYPE:
        raise CheckpointError(
            f"{source}: model_type is {kind!r}; vidground loads {D2VLMConfig.model_type!r} (its "
            f"own format) and {RELEASED_MODEL_TYPE!r} (released D2VLM and E.T. Chat), such as "
            f"{DEFAULT_MODEL}"
        )
    time_tokens = time_tokens_of(config)
    if time_tokens is None:
        flags = {key: config.get(key, False) for key in ("use_evidence", "use_matching")}
        said = ", ".join(f"{key} is {value!r}" for key, value in flags.items())
        raise CheckpointError(
            f"{source} is neither a D2VLM nor an E.T. Chat that expresses times: {said}; exactly "
            f"one of them must be true. Choose another model, such as {DEFAULT_MODEL}"
        )
    for key, (needed, default, meaning) in _REQUIRED.items():
        value = config.get(key, default)
        if value != needed:
            raise CheckpointError(
                f"{source} is another kind of model: {meaning} ({key} is {value!r}, needed: "
                f"{needed!r}); run it with its own code, or choose one such as {DEFAULT_MODEL}"
            )
    absent = [key for key in (*_NEEDED, *_NEEDED_IDS[time_tokens]) if key not in config]
    if absent:
        raise CheckpointError(f"{source}: config.json lacks {', '.join(absent)}; fetch it again")
    return time_tokens


def released_config(config: Mapping[str, Any], *, source: str) -> D2VLMConfig:
    """Return vidground's configuration for a released config.json.

    Released configurations contain no sizes of the vision encoder and the Q-Former: those of the
    official model are used, unless `tiny_overrides` has others. They do not contain the turn-end
    token either; see `turn_end_token`.

    Args:
        config: content of config.json.
        source: of the model, for messages.

    Raises:
        CheckpointError: the configuration is not that of a supported model.
    """
    time_tokens = check_supported(config, source)
    overrides = config.get("tiny_overrides", {})
    vision = _sizes(overrides.get("vision", {}))
    qformer = {"vocab_size": OFFICIAL_QFORMER_VOCABULARY, **_sizes(overrides.get("qformer", {}))}
    queries = qformer.pop("num_query_tokens", 32)
    vision.setdefault("image_size", _frame_side(config["vision_processor"], source))
    vision["qkv_bias"] = True
    if "hidden_size" in vision:
        qformer["encoder_hidden_size"] = vision["hidden_size"]
    return D2VLMConfig(
        vision_config=vision,
        qformer_config=qformer,
        text_config={key: config[key] for key in _TEXT_KEYS if key in config},
        num_query_tokens=queries,
        target_decay=float(config.get("alpha", 2.0)),
        time_tokens=time_tokens,
        **{name: config[name] for name in _NEEDED_IDS[time_tokens]},
    )


def turn_end_token(*settings: Mapping[str, Any], source: str) -> int:
    """Return the id of the token that ends an answer, for a model without a tokenizer.

    Args:
        settings: generation_config.json and config.json; the first eos_token_id is used.
        source: of the model, for messages.

    Raises:
        CheckpointError: there is no eos_token_id, or it has several values.
    """
    for values in settings:
        token = values.get("eos_token_id")
        if isinstance(token, int):
            return token
        if token is not None:
            raise CheckpointError(
                f"{source}: eos_token_id is {token!r}, so the id of <|end|> is unclear; copy the "
                "tokenizer's files to the model's folder"
            )
    raise CheckpointError(
        f"{source}: no eos_token_id and no tokenizer; copy the tokenizer's files to the model's "
        "folder"
    )


def _sizes(overrides: Mapping[str, Any]) -> dict[str, Any]:
    return {_SIZES.get(key, key): value for key, value in overrides.items()}


def _frame_side(processor: object, source: str) -> int:
    side = re.fullmatch(r"clip_center_(\d+)", str(processor))
    if side is None:
        raise CheckpointError(
            f"{source}: vision_processor is {processor!r}; only clip_center_<pixels> is supported"
        )
    return int(side[1])


# Released name (a regular expression, matched at the start) to vidground's name.
_VISION = r"model\.vision_tower\.vision_tower"
_QFORMER = r"model\.qformer_bert\.bert"
_BLOCK = rf"{_VISION}\.blocks\.(\d+)"
_LAYER = r"vision.layers.\1"
_RENAMES = tuple(
    (re.compile(pattern), ours)
    for pattern, ours in (
        (rf"{_VISION}\.cls_token", "vision.embeddings.class_embedding"),
        (rf"{_VISION}\.pos_embed", "vision.embeddings.position_embedding"),
        (rf"{_VISION}\.patch_embed\.proj", "vision.embeddings.patch_embedding"),
        (rf"{_BLOCK}\.attn\.qkv", rf"{_LAYER}.self_attn.qkv"),
        (rf"{_BLOCK}\.attn\.proj", rf"{_LAYER}.self_attn.projection"),
        (rf"{_BLOCK}\.norm(\d)", rf"{_LAYER}.layer_norm\2"),
        (rf"{_BLOCK}\.mlp", rf"{_LAYER}.mlp"),
        (rf"{_QFORMER}\.embeddings\.LayerNorm", "compressor.qformer.embeddings.layernorm"),
        (rf"{_QFORMER}\.(.*attention)\.self\.", r"compressor.qformer.\1.attention."),
        (rf"{_QFORMER}\.", "compressor.qformer."),
        (r"model\.qformer_query", "compressor.queries"),
        (r"model\.qformer_ln", "compressor.patch_norm"),
        (r"model\.qformer_proj", "compressor.output_projection"),
        (r"model\.qformer_q_proj", "compressor.query_projection"),
        (r"model\.qformer_k_proj", "compressor.key_projection"),
        (r"model\.qformer_v_proj", "compressor.value_projection"),
        (r"model\.(layers|norm|embed_tokens)", r"language_model.\1"),
        (r"lm_head", "lm_head"),
        (r"frm_head", "frame_head"),
    )
)
_QKV_BIAS = re.compile(rf"{_BLOCK}\.attn\.(q|v)_bias")
_POSITIONS = "model.qformer_bert.bert.embeddings.position_ids"  # 0 … 511, written by old code


def our_name(released: str, time_tokens: TimeTokens = "evidence") -> str | None:
    """Return vidground's name of a released tensor; None if the model has no such tensor."""
    head = TIME_HEADS[time_tokens]
    if released.startswith(head):
        return f"evidence_head.{released.removeprefix(head)}"
    for pattern, ours in _RENAMES:
        match = pattern.match(released)
        if match:
            return match.expand(ours) + released[match.end() :]
    return None


def translate(
    tensors: Iterable[tuple[str, Tensor]], time_tokens: TimeTokens = "evidence"
) -> Iterator[tuple[str, Tensor]]:
    """Yield released tensors under vidground's names; unknown tensors keep their released name.

    The query and value biases of the vision encoder are concatenated, with zeros for the key, which
    has no bias.

    Args:
        tensors: released names and values.
        time_tokens: of the model, see `D2VLMConfig`.

    Raises:
        CheckpointError: a block has only one of the two biases.
    """
    biases: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors:
        bias = _QKV_BIAS.fullmatch(name)
        if bias is None:
            if name != _POSITIONS:
                yield our_name(name, time_tokens) or name, tensor
            continue
        # Cloned, since its file may be closed before the other bias is read.
        parts = biases.setdefault(bias[1], {})
        parts[bias[2]] = tensor.clone()
        if len(parts) == 2:
            del biases[bias[1]]
            fused = torch.cat((parts["q"], torch.zeros_like(parts["q"]), parts["v"]))
            yield f"vision.layers.{bias[1]}.self_attn.qkv.bias", fused
    for block, parts in biases.items():
        raise CheckpointError(f"vision block {block} has only its {next(iter(parts))}_bias")
