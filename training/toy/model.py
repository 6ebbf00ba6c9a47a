"""A small D2VLM with random weights, to be trained from scratch on the toy world.

Architecture and parts are those of the full model; only sizes and tokenizers differ. Knows no data
and no training.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from transformers import InstructBlipQFormerConfig, InstructBlipVisionConfig, Phi3Config

from vidground.errors import InputError
from vidground.language.tokenizers import Tokenizers
from vidground.model.configuration import D2VLMConfig
from vidground.model.d2vlm import D2VLM
from vidground.settings import TimeTokens
from vidground.training.toy.tokenizers import make_toy_tokenizers

__all__ = ["make_toy_model", "make_toy_tokenizers", "toy_config"]

MAX_POSITIONS = 1024
"""Most tokens of a prompt with its frames and its answer."""
_HEAD_WIDTH = 32
_INIT_STD = 0.06
"""Larger than in large models: with less, layers this narrow would hardly change their input."""


def toy_config(
    *,
    image_size: int = 64,
    patch_size: int = 8,
    vision_layers: int = 3,
    vision_width: int = 96,
    text_layers: int = 8,
    text_width: int = 128,
    time_tokens: TimeTokens = "evidence",
) -> D2VLMConfig:
    """Return the configuration of a toy model; about 2.3 million parameters by default.

    Args:
        image_size: side of a frame in pixels, a multiple of `patch_size`.
        patch_size: side of a patch in pixels.
        vision_layers: layers of the vision encoder; the compressor has two.
        vision_width: of the vision encoder and the compressor, a multiple of 32.
        text_layers: layers of the language model, 2 or more.
        text_width: of the language model, a multiple of 32.
        time_tokens: how the model expresses times, see `D2VLMConfig`.

    Raises:
        InputError: sizes do not fit together.
    """
    _check(image_size % patch_size == 0, f"image_size {image_size}", f"a multiple of {patch_size}")
    for name, width in (("vision_width", vision_width), ("text_width", text_width)):
        multiple = width >= _HEAD_WIDTH and width % _HEAD_WIDTH == 0
        _check(multiple, f"{name} {width}", f"a multiple of {_HEAD_WIDTH}")
    _check(text_layers >= 2, f"text_layers {text_layers}", "2 or more")
    tokenizers = make_toy_tokenizers(time_tokens)
    ids = tokenizers.ids
    named = {"evidence_token_id": ids.evidence, "evidence_end_token_id": ids.evidence_end}
    return D2VLMConfig(
        vision_config=InstructBlipVisionConfig(
            image_size=image_size,
            patch_size=patch_size,
            hidden_size=vision_width,
            intermediate_size=4 * vision_width,
            num_hidden_layers=vision_layers,
            num_attention_heads=vision_width // _HEAD_WIDTH,
            initializer_range=_INIT_STD,
        ),
        qformer_config=_qformer_config(tokenizers, vision_width),
        text_config=_text_config(tokenizers, text_layers, text_width),
        num_query_tokens=8,
        evidence_layer=text_layers // 2,
        max_frames=128,
        time_tokens=time_tokens,
        turn_end_token_id=ids.turn_end,
        **({"match_token_id": ids.evidence} if time_tokens == "matching" else named),
    )


def make_toy_model(config: D2VLMConfig | None = None, *, seed: int = 0) -> D2VLM:
    """Return a toy model with random weights and its tokenizers, in float32.

    Args:
        config: as `toy_config` returns it; None for its defaults.
        seed: of the weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = D2VLM(config if config is not None else toy_config())
        _initialise_for_training(model)
    model.tokenizers = make_toy_tokenizers(model.config.time_tokens)
    return model


def _check(held: bool, what: str, limit: str) -> None:
    if not held:
        raise InputError(f"{what} of a toy model; it must be {limit}")


def _qformer_config(tokenizers: Tokenizers, width: int) -> InstructBlipQFormerConfig:
    return InstructBlipQFormerConfig(
        vocab_size=len(tokenizers.question),
        hidden_size=width,
        num_hidden_layers=2,
        num_attention_heads=width // _HEAD_WIDTH,
        intermediate_size=2 * width,  # most of its cost is the question, read with every frame
        encoder_hidden_size=width,
        # At the full model's frequency, only one of the two layers would attend to the frame.
        cross_attention_frequency=1,
        # New films can be drawn without end, so there is nothing to overfit.
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        initializer_range=_INIT_STD,
        pad_token_id=tokenizers.question.pad_token_id,
    )


def _text_config(tokenizers: Tokenizers, layers: int, width: int) -> Phi3Config:
    language = tokenizers.language
    assert language is not None
    heads = width // _HEAD_WIDTH
    return Phi3Config(
        vocab_size=len(language),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=MAX_POSITIONS,
        original_max_position_embeddings=MAX_POSITIONS,
        initializer_range=_INIT_STD,
        bos_token_id=language.bos_token_id,
        eos_token_id=tokenizers.ids.turn_end,
        pad_token_id=tokenizers.ids.pad,
    )


@torch.no_grad()
def _initialise_for_training(model: D2VLM) -> None:
    """Initialize what is meant to be loaded, and is zero or far too large otherwise."""
    embeddings = model.vision.embeddings
    nn.init.trunc_normal_(embeddings.class_embedding, std=_INIT_STD)
    side = math.isqrt(embeddings.position_embedding.shape[1] - 1)
    embeddings.position_embedding[0, 1:] = _grid_positions(side, embeddings.embed_dim)
    # Queries that start equal would stay equal.
    nn.init.normal_(model.compressor.queries, std=_INIT_STD)


def _grid_positions(side: int, width: int) -> Tensor:
    """Return (side², width) sines and cosines of the row and the column of each patch.

    They are as large as the patches' own embeddings: with small random positions, a model needs
    thousands of steps before it begins to learn where a shape is.
    """
    place = torch.arange(side) / max(side - 1, 1)
    rows, columns = torch.meshgrid(place, place, indexing="ij")
    frequencies = math.pi * torch.linspace(0.5, side / 2, width // 4)
    angles = [at.reshape(-1, 1) * frequencies for at in (columns, rows)]
    return torch.cat([wave(angle) for angle in angles for wave in (torch.sin, torch.cos)], dim=1)
