"""Settings of an engine: the model, where it runs, and how it is asked.

The keyword arguments of `Grounder` and `DenseCaptioner` in one place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypedDict

import torch

from vidground.errors import InputError
from vidground.features.frame_encoding import FrameEncoder
from vidground.model.configuration import D2VLMConfig
from vidground.settings import (
    CPU,
    FULL_WEIGHTS,
    TORCH,
    WEIGHTS,
    BatchSettings,
    CacheSettings,
    DecodeOn,
    DecodingSettings,
    IsolationSettings,
    Provider,
    SamplingSettings,
    Vision,
    Weights,
    check_decode_on,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceSettings:
    """How an engine loads and runs a model.

    Attributes:
        device: "cpu", "cuda" or "cuda:N"; None for a GPU if there is one, else the CPU.
        dtype: of weights and computation; None for bfloat16 where there are units for it, else
            float32 (`vidground.devices.choose_dtype`).
        weights: "full", or "int8" or "int4" to store the language model's linear layers in 8 or 4
            bits, which saves memory and changes scores: slightly with 8 bits.
        sampling: how frames are sampled.
        decoding: how tokens are chosen.
        batch: how much is computed at once.
        isolation: limits for decoding videos in a separate process, which protects this one from
            crashes and hangs; None to decode in this process.
        decode_on: device that decodes videos: "cpu"; "cuda" or "cuda:N", on which a video fails
            that cannot be decoded to the same frames as on the CPU; or "auto" for a GPU where
            possible, else the CPU. A GPU without a number is the model's, else the first.
        cache: on-disk cache of encoded videos, so that the next question about a video need not
            encode it again; None for no cache.
        vision: frame encoder: "torch" for the model's own, "onnx:DIR" for an export in folder DIR,
            or a `FrameEncoder`.
        provider: execution provider of an export: "cuda", "cpu" or "tensorrt", which first builds
            an engine for minutes; None for one of the first two, by the model's device.
        load_options: passed on to `vidground.checkpoints.loading.load_model`: revision, subfolder,
            cache_dir, token, local_files_only, attn_implementation, config.

    Raises:
        InputError: a value is out of range.
    """

    device: str | torch.device | None = None
    dtype: str | torch.dtype | None = None
    weights: Weights = FULL_WEIGHTS
    sampling: SamplingSettings = SamplingSettings()
    decoding: DecodingSettings = DecodingSettings()
    batch: BatchSettings = BatchSettings()
    isolation: IsolationSettings | None = None
    decode_on: DecodeOn = CPU
    cache: CacheSettings | None = None
    vision: Vision | FrameEncoder = TORCH
    provider: Provider | None = None
    load_options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_decode_on(self.decode_on)
        if self.weights not in WEIGHTS:
            raise InputError(f"weights is {self.weights!r}; it must be one of {', '.join(WEIGHTS)}")

    @classmethod
    def of(cls, options: InferenceOptions) -> InferenceSettings:
        """Return settings from keyword arguments; names that are not fields are load options."""
        names = {field.name for field in fields(cls)} - {"load_options"}
        given: dict[str, Any] = {name: options[name] for name in options if name in names}  # type: ignore[literal-required]
        load = {name: options[name] for name in options if name not in names}  # type: ignore[literal-required]
        return cls(**given, load_options=load)


class InferenceOptions(TypedDict, total=False):
    """Keyword arguments: the fields of `InferenceSettings`, and the load options by their names."""

    device: str | torch.device | None
    dtype: str | torch.dtype | None
    weights: Weights
    sampling: SamplingSettings
    decoding: DecodingSettings
    batch: BatchSettings
    isolation: IsolationSettings | None
    decode_on: DecodeOn
    cache: CacheSettings | None
    vision: Vision | FrameEncoder
    provider: Provider | None
    revision: str | None
    subfolder: str | None
    cache_dir: str | Path | None
    token: str | None
    local_files_only: bool
    attn_implementation: str | None
    config: D2VLMConfig | None
