"""The model that questions are asked of: loaded, checked and arranged, and what encodes its frames.

Knows no settings of sampling and decoding.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from vidground.checkpoints.loading import load_model
from vidground.devices import FOR_DEVICE, choose_device
from vidground.errors import CheckpointError, InputError
from vidground.features.frame_encoding import FrameEncoder
from vidground.features.onnx_encoder import OnnxVision
from vidground.language.tokenizers import Tokenizers
from vidground.model.d2vlm import D2VLM
from vidground.model.int8_linear import hold_in_int8
from vidground.model.packed_linear import pack_linears
from vidground.settings import FULL_WEIGHTS, INT8_WEIGHTS, ONNX, TORCH, WEIGHTS


def ready_model(
    model: str | Path | D2VLM,
    *,
    device: str | torch.device | None,
    dtype: str | torch.dtype | None,
    weights: str,
    load_options: Mapping[str, Any] | None,
) -> tuple[D2VLM, Tokenizers]:
    """A model that can be asked, and its tokenizers; see `Engine` for the arguments.

    Raises:
        CheckpointError: it cannot be loaded, or has no language tokenizer.
        InputError: there are no such weights, or something is asked of a model that is loaded.
    """
    if weights not in WEIGHTS:
        raise InputError(f"weights is {weights!r}; it must be {' or '.join(WEIGHTS)}")
    if not isinstance(model, D2VLM):
        place, kept = choose_device(device), dtype or FOR_DEVICE
        model = load_model(model, device=place, dtype=kept, **dict(load_options or {}))
        if weights == INT8_WEIGHTS:
            hold_in_int8(model.language_model)
    elif device is not None or dtype is not None or weights != FULL_WEIGHTS or load_options:
        raise InputError(
            "a model that is loaded already keeps its device, dtype, weights and revision"
        )
    if model.tokenizers is None or model.tokenizers.language is None:
        raise CheckpointError(
            f"{model.name_or_path or 'this model'} has no language tokenizer; put the files "
            "of its tokenizer (tokenizer.json, tokenizer_config.json) beside its weights"
        )
    model.eval()
    pack_linears(model.language_model, model.lm_head)
    return model, model.tokenizers


def open_vision(vision: str | FrameEncoder, model: D2VLM, provider: str | None) -> FrameEncoder:
    """What encodes frames for a model; see `Engine` for the arguments.

    Raises:
        CheckpointError: the export cannot be used.
        InputError: there is no such encoder or provider.
    """
    if isinstance(vision, str) and vision.startswith(ONNX):
        return OnnxVision(vision.removeprefix(ONNX), model, provider=provider)
    if provider is not None:
        raise InputError(f"provider {provider!r} is onnxruntime's; use it with vision='onnx:DIR'")
    if vision == TORCH:
        return model
    if isinstance(vision, str):
        raise InputError(f"vision is {vision!r}; it must be 'torch' or 'onnx:DIR'")
    return vision
