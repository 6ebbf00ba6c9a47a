"""Keys and values of the text that prompts begin with, computed once for all of them.

Every prompt begins with the system's turn. Attention is causal, so its keys and values do not
depend on the video and the question that follow.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from vidground.generation.weight_memo import cached_for_weights
from vidground.model.d2vlm import D2VLM
from vidground.model.kv_cache import KeyValueCache, SharedPrefix

_MAX_PREFIXES = 8
"""Prefixes cached per model. Questions that put text before the frames have one of their own."""


class _Prefixes(dict[tuple[int, ...], SharedPrefix]):
    """Prefixes by their token ids, the most recently used one last."""


@torch.inference_mode()
def shared_prefix(model: D2VLM, ids: Sequence[int]) -> SharedPrefix | None:
    """Return the keys and values of a prefix, from the cache if possible.

    Args:
        model: the model that reads it.
        ids: token ids of the prefix, without `<evi>`.

    Returns:
        None for an empty prefix.
    """
    if not ids:
        return None
    cache = cached_for_weights(model, _Prefixes)
    prefix = cache.pop(tuple(ids), None) or _compute(model, ids)
    cache[tuple(ids)] = prefix
    while len(cache) > _MAX_PREFIXES:
        cache.pop(next(iter(cache)), None)
    return prefix


def _compute(model: D2VLM, ids: Sequence[int]) -> SharedPrefix:
    device, layers = model.device, model.config.text_config.num_hidden_layers
    cache = KeyValueCache(layers)
    positions = torch.arange(len(ids), device=device)[None]  # (1, S)
    visible = positions[:, None, :] <= positions[:, :, None]  # (1, S, S)
    embeds = model.get_input_embeddings()(torch.tensor([list(ids)], device=device))  # (1, S, H)
    model.run_layers(embeds, 0, layers, model.context(positions, visible, cache))
    content = [cache.content(layer) for layer in range(layers)]
    # Copied, because the cache's own tensors have room for many more positions.
    return SharedPrefix(tuple(k.clone() for k, _ in content), tuple(v.clone() for _, v in content))
