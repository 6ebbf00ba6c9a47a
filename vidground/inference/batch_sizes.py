"""How much is done at once: from the memory that is free, and less when it runs out after all.

Knows a model's configuration, not the model; no torch unless it is loaded already.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidground.memory import is_out_of_memory, release_memory
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


class BatchSize:
    """How many are done at once, at most. now: at present; it only ever falls."""

    def __init__(self, most: int) -> None:
        self.now = most

    def halve(self, tried: int) -> None:
        """Memory did not suffice for so many, 2 or more: take half of them from now on."""
        self.now = max(1, min(self.now, tried // 2))


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


def in_parts(function: Callable[[Any], Any], items: Any, size: BatchSize) -> Any:
    """A function of the rows of a tensor, called for `size` rows at once, or fewer.

    Raises:
        MemoryError, RuntimeError: a single row is too much.
    """
    torch = sys.modules["torch"]
    done, start = [], 0
    while start < len(items):
        part = items[start : start + size.now]
        try:
            done.append(function(part))
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error) or len(part) == 1:
                raise
            size.halve(len(part))
        else:
            start += len(part)
            continue
        release_memory()  # here, where the error no longer holds what was computed
    return done[0] if len(done) == 1 else torch.cat(done)


def free_bytes(device: Any) -> int:
    """Memory that is free on a torch device; for the CPU what the system can still give."""
    torch = sys.modules["torch"]
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    with Path("/proc/meminfo").open(encoding="ascii") as lines:
        for line in lines:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
