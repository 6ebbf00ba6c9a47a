"""Choose batch sizes from the free memory.

Knows a model's configuration, not the model. `vidground.memory` halves batches that are too large.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from vidground.memory import free_bytes
from vidground.settings import BatchSettings

_SHARE_OF_FRAMES, _SHARE_OF_ROWS = 0.2, 0.5
"""Maximum shares of the free memory for encoding frames and for decoding prompts."""
_MAX_FRAMES = {"cuda": 128, "cpu": 16}
_MAX_ROWS = {"cuda": 64, "cpu": 8}
_MAX_VIDEOS_ON_CPU = 6
"""More videos at once are hardly faster on a CPU, and a killed run loses its work on all."""
_MAX_READERS = 16
_MAX_READERS_ON_GPU = 8
"""Each needs some hundred MB for a CUDA context, and a GPU has only a few hardware decoders."""


@dataclass(frozen=True, slots=True)
class BatchSizes:
    """`BatchSettings` without open choices.

    Attributes:
        prompts: maximum number of prompts decoded at once.
        frames: maximum number of frames encoded at once.
        videos: maximum number of videos in progress.
        readers: maximum number of videos that are being read.
    """

    prompts: int
    frames: int
    videos: int
    readers: int


def choose_sizes(
    settings: BatchSettings,
    config: Any,
    *,
    device: Any,
    item_bytes: int,
    new_tokens: int,
    readers_use_card: bool = False,
) -> BatchSizes:
    """Choose the sizes that are not set, by the free memory, the device and the number of cores.

    Args:
        settings: sizes that are set.
        config: a `D2VLMConfig`.
        device: torch device of the model.
        item_bytes: bytes per value of the model's dtype.
        new_tokens: maximum length of an answer.
        readers_use_card: videos are decoded on a GPU.
    """
    kind = "cuda" if device.type == "cuda" else "cpu"
    free = free_bytes(device)
    rows = int(free * _SHARE_OF_ROWS) // row_bytes(config, item_bytes, new_tokens)
    frames = int(free * _SHARE_OF_FRAMES) // frame_bytes(config, item_bytes)
    prompts: int = settings.prompts or max(1, min(rows, _MAX_ROWS[kind]))
    cores = len(os.sched_getaffinity(0))
    max_readers = _MAX_READERS_ON_GPU if readers_use_card else _MAX_READERS
    videos = settings.videos or (2 * prompts if kind == "cuda" else _MAX_VIDEOS_ON_CPU)
    return BatchSizes(
        prompts=prompts,
        frames=settings.frames or max(1, min(frames, _MAX_FRAMES[kind])),
        videos=videos,
        readers=settings.readers or max(2, min(videos, cores, max_readers)),
    )


def row_bytes(config: Any, item_bytes: int, new_tokens: int) -> int:
    """Return the memory for decoding a prompt of maximum length: its cache, and its prefill."""
    from vidground.model.kv_cache import CACHE_BLOCK  # here, because it imports torch

    text, room = config.text_config, config.text_config.max_position_embeddings
    prompt = min(room, config.max_frames + 128)
    width = text.hidden_size // text.num_attention_heads * text.num_key_value_heads
    positions = -(-min(room, prompt + new_tokens) // CACHE_BLOCK) * CACHE_BLOCK
    cached = 2 * text.num_hidden_layers * width * positions
    read = prompt * (8 * text.hidden_size + 3 * text.intermediate_size)
    return int((cached + read) * item_bytes)


def frame_bytes(config: Any, item_bytes: int) -> int:
    """Return the memory for encoding a frame."""
    vision = config.vision_config
    patches: int = (vision.image_size // vision.patch_size) ** 2 + 1
    numbers: int = patches * (10 * vision.hidden_size + 2 * vision.intermediate_size)
    attention: int = vision.num_attention_heads * patches**2
    pixels: int = 3 * vision.image_size**2
    return (numbers + attention) * item_bytes + 4 * pixels
