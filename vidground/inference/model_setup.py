"""Load and check the model of an engine, and open what encodes its frames."""

from __future__ import annotations

from pathlib import Path

from vidground.checkpoints.loading import load_model
from vidground.devices import FOR_DEVICE, choose_device
from vidground.errors import CheckpointError, InputError
from vidground.features.frame_encoding import FrameEncoder
from vidground.features.onnx_encoder import OnnxVision
from vidground.inference.inference_settings import InferenceSettings
from vidground.language.tokenizers import Tokenizers
from vidground.model.d2vlm import D2VLM
from vidground.model.packed_linear import pack_linears
from vidground.model.quantization import quantize_linears
from vidground.settings import FULL_WEIGHTS, ONNX, TORCH, WEIGHT_BITS, Provider, Vision


def ready_model(model: str | Path | D2VLM, settings: InferenceSettings) -> tuple[D2VLM, Tokenizers]:
    """Load a model unless it is loaded already, and prepare it for inference.

    Args:
        model: see `Engine`.
        settings: see `Engine`.

    Returns:
        The model in evaluation mode, and its tokenizers.

    Raises:
        CheckpointError: the model cannot be loaded, or has no language tokenizer.
        InputError: the settings are for loading a model, and the model is already loaded.
    """
    device, dtype = settings.device, settings.dtype
    weights, load_options = settings.weights, settings.load_options
    if not isinstance(model, D2VLM):
        target = choose_device(device)
        model = load_model(model, device=target, dtype=dtype or FOR_DEVICE, **load_options)
        if weights in WEIGHT_BITS:
            quantize_linears(model.language_model, WEIGHT_BITS[weights])
    elif device is not None or dtype is not None or weights != FULL_WEIGHTS or load_options:
        raise InputError(
            "a loaded model keeps its device, dtype, weights and revision; leave these arguments "
            "out, or give the name of a model to load"
        )
    if model.tokenizers is None or model.tokenizers.language is None:
        raise CheckpointError(
            f"{model.name_or_path or 'this model'} has no language tokenizer; put the files "
            "of its tokenizer (tokenizer.json, tokenizer_config.json) beside its weights"
        )
    model.eval()
    pack_linears(model.language_model, model.lm_head)
    return model, model.tokenizers


def open_vision(
    vision: Vision | FrameEncoder, model: D2VLM, provider: Provider | None
) -> FrameEncoder:
    """Return what encodes frames for a model.

    Args:
        vision: see `InferenceSettings`.
        model: reads the features.
        provider: see `InferenceSettings`.

    Raises:
        CheckpointError: the export cannot be used.
        InputError: the encoder or the provider does not exist.
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
