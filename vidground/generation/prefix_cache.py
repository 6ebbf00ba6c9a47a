"""The text that prompts begin with, read once for all of them.

Every prompt begins with the system's turn. It sees nothing that comes after it, so that its keys
and values are the same whatever video and question follow.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from vidground.generation.weight_memo import kept
from vidground.model.d2vlm import D2VLM
from vidground.model.kv_cache import CachedStart, KeyValueCache

_MOST = 8
"""Starts that are kept of a model; a prompt whose text stands before the frames has its own."""


class _Starts(dict[tuple[int, ...], CachedStart]):
    """Starts by their token ids, the one that was used last at the end."""


@torch.inference_mode()
def prompt_start(model: D2VLM, ids: Sequence[int]) -> CachedStart | None:
    """Keys and values of the text that prompts begin with; None for no text.

    Args:
        ids: its tokens, none of which is an `<evi>`.
    """
    if not ids:
        return None
    starts = kept(model, _Starts)
    start = starts.pop(tuple(ids), None) or _read(model, ids)
    starts[tuple(ids)] = start
    while len(starts) > _MOST:
        starts.pop(next(iter(starts)), None)
    return start


def _read(model: D2VLM, ids: Sequence[int]) -> CachedStart:
    device, layers = model.device, model.config.text_config.num_hidden_layers
    cache = KeyValueCache(layers)
    positions = torch.arange(len(ids), device=device)[None]
    seen = positions[:, None, :] <= positions[:, :, None]
    embeds = model.get_input_embeddings()(torch.tensor([list(ids)], device=device))
    model.run_layers(embeds, 0, layers, model.context(positions, seen, cache))
    content = [cache.content(layer) for layer in range(layers)]
    # Of their own, for the cache takes memory for many more positions.
    return CachedStart(tuple(k.clone() for k, _ in content), tuple(v.clone() for _, v in content))
