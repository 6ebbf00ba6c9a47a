"""How much is done at once, chosen from the free memory.

Knows a model's configuration, not the model. `memory` shrinks batches that turn out too large.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from vidground.memory import free_bytes
from vidground.settings import BatchSettings

_SHARE_OF_FRAMES, _SHARE_OF_ROWS = 0.2, 0.5
"""Parts of the free memory that frames in vision and prompts in decoding may take."""
_MOST_FRAMES = {"cuda": 128, "cpu": 16}
_MOST_ROWS = {"cuda": 64, "cpu": 8}
_MOST_VIDEOS_ON_CPU = 6
"""More in flight make a CPU little faster, and a killed run loses what is in flight."""
_MOST_READERS = 16
_MOST_READERS_ON_CARD = 8
"""Each takes some hundred MB of the card for a CUDA context, and a card has a few decoders only."""


@dataclass(frozen=True, slots=True)
class BatchSizes:
    """What `BatchSettings` leave open, decided.

    prompts: decoded at once. frames: encoded at once. videos: in flight. readers: of those,
    reading their files.
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
    """Take what is set, and for the rest as much as goes into the free memory.

    Args:
        config: a `D2VLMConfig`. device: a torch device. item_bytes: of a number of the model.
        new_tokens: cap on the length of an answer. readers_use_card: videos are decoded there.
    """
    kind = "cuda" if device.type == "cuda" else "cpu"
    free = free_bytes(device)
    rows = int(free * _SHARE_OF_ROWS) // row_bytes(config, item_bytes, new_tokens)
    frames = int(free * _SHARE_OF_FRAMES) // frame_bytes(config, item_bytes)
    prompts: int = settings.prompts or max(1, min(rows, _MOST_ROWS[kind]))
    cores = len(os.sched_getaffinity(0))
    most_readers = _MOST_READERS_ON_CARD if readers_use_card else _MOST_READERS
    videos = settings.videos or (2 * prompts if kind == "cuda" else _MOST_VIDEOS_ON_CPU)
    return BatchSizes(
        prompts=prompts,
        frames=settings.frames or max(1, min(frames, _MOST_FRAMES[kind])),
        videos=videos,
        readers=settings.readers or max(2, min(videos, cores, most_readers)),
    )


def row_bytes(config: Any, item_bytes: int, new_tokens: int) -> int:
    """Memory for a prompt of full length in decoding: keys and values, and while it is read."""
    from vidground.model.kv_cache import CACHE_BLOCK  # which loads torch

    text, room = config.text_config, config.text_config.max_position_embeddings
    prompt = min(room, config.max_frames + 128)
    width = text.hidden_size // text.num_attention_heads * text.num_key_value_heads
    positions = -(-min(room, prompt + new_tokens) // CACHE_BLOCK) * CACHE_BLOCK
    cached = 2 * text.num_hidden_layers * width * positions
    read = prompt * (8 * text.hidden_size + 3 * text.intermediate_size)
    return int((cached + read) * item_bytes)


def frame_bytes(config: Any, item_bytes: int) -> int:
    """Memory for a frame while it is encoded."""
    vision = config.vision_config
    patches: int = (vision.image_size // vision.patch_size) ** 2 + 1
    numbers: int = patches * (10 * vision.hidden_size + 2 * vision.intermediate_size)
    attention: int = vision.num_attention_heads * patches**2
    pixels: int = 3 * vision.image_size**2
    return (numbers + attention) * item_bytes + 4 * pixels
