"""From a batch to what the losses compare: one pass through the model, in three stages.

The prefix (the text before the frames, and the frames) passes the first layers alone, because the
evidence memory that comes out there is part of the input of what follows. The rest follows on the
prefix's keys and values, and all columns go on together. Gradients flow through everything.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vidground.model.d2vlm import D2VLM
from vidground.model.evidence import interval_means, similarities
from vidground.model.kv_cache import KeyValueCache
from vidground.training.objectives.batches import EvidenceInputs, ResponseTargets, TrainingBatch
from vidground.training.objectives.losses import token_log_probs
from vidground.video.preprocessing import normalize

_PATCH_FEATURES = 3  # dimensions of frames that the vision encoder has already read
_FRAME_TOKENS = 2  # and of those that the compressor has read with the row's question


@dataclass(frozen=True)
class ResponseOutputs:
    """What the model says about one response per row.

    log_probs: (B, A) float32 of its tokens. evidence: (B, S, K, H) outputs of the evidence head
    where an `<evi>` is predicted. similarities: (B, S, K, T) float32 logits of relevance.
    Entries at padding mean nothing.
    """

    log_probs: Tensor
    evidence: Tensor
    similarities: Tensor


def run_responses(
    model: D2VLM, batch: TrainingBatch, *, visual_semantics: bool = True
) -> tuple[ResponseOutputs, ...]:
    """Run the model on a batch whose answers are known.

    Args:
        visual_semantics: False reads an `<evi>` of a response as a plain token.

    Returns:
        outputs for each of `batch.responses`.
    """
    matching_layer = model.config.matching_layer
    visible = batch.visible()
    embeds = embed(model, batch)
    hidden = _evidence_states(model, batch, embeds, visible, visual_semantics)
    context = model.context(batch.position_ids, visible)
    matching = model.run_layers(hidden, model.config.evidence_layer, matching_layer, context)
    final = model.run_layers(matching, matching_layer, matching_layer + 1, context)
    frame_keys = model.frame_head(at_columns(matching, batch.frame_columns))
    return tuple(
        _outputs(model, response, matching, final, frame_keys) for response in batch.responses
    )


def embed(model: D2VLM, batch: TrainingBatch) -> Tensor:
    """(B, L, H) embeddings of text and frames; an `<evi>` of the question adds its frames' mean."""
    embeds = model.get_input_embeddings()(batch.token_ids)
    tokens = _frame_tokens(model, batch).to(embeds.dtype)
    embeds = embeds.masked_scatter(batch.is_frame.unsqueeze(-1), tokens)
    return _with_meaning(embeds, batch.references, at_columns(embeds, batch.frame_columns))


def _frame_tokens(model: D2VLM, batch: TrainingBatch) -> Tensor:
    """(N, H) tokens of all rows' frames, one row after the other."""
    if batch.frames.ndim == _FRAME_TOKENS:
        return batch.frames
    counts = torch.tensor(batch.frame_counts, device=batch.frames.device)
    return model.compress(
        _patches(model, batch.frames),
        batch.question_ids.repeat_interleave(counts, dim=0),
        batch.question_mask.repeat_interleave(counts, dim=0),
    )


def _patches(model: D2VLM, frames: Tensor) -> Tensor:
    if frames.ndim == _PATCH_FEATURES:
        return frames
    dtype = next(model.vision.parameters()).dtype
    if frames.dtype == torch.uint8:
        frames = normalize(frames, dtype=dtype, device=frames.device)
    return model.encode_frames(frames.to(dtype))


def at_columns(states: Tensor, columns: Tensor) -> Tensor:
    """(B, L, H) states at (B, N) columns: (B, N, H)."""
    return states.gather(1, columns.unsqueeze(-1).expand(-1, -1, states.shape[-1]))


def _evidence_states(
    model: D2VLM, batch: TrainingBatch, embeds: Tensor, visible: Tensor, visual_semantics: bool
) -> Tensor:
    """(B, L, H) states of the evidence layer, after responses were given their evidence."""
    layer, split = model.config.evidence_layer, batch.prefix_length
    whole = model.context(batch.position_ids, visible)
    if not visual_semantics:
        return model.run_layers(embeds, 0, layer, whole)
    # Layers that are computed again for their gradients would add to the cache again.
    cache = None if _recomputes(model) else KeyValueCache(layer)
    context = model.context(batch.position_ids[:, :split], visible[:, :split, :split], cache)
    prefix = model.run_layers(embeds[:, :split], 0, layer, context)
    embeds = _with_meaning(embeds, batch.evidence, at_columns(prefix, batch.frame_columns))
    if cache is None:
        return model.run_layers(embeds, 0, layer, whole)
    context = model.context(batch.position_ids[:, split:], visible[:, split:], cache)
    rest = model.run_layers(embeds[:, split:], 0, layer, context)
    return torch.cat((prefix, rest), dim=1)


def _recomputes(model: D2VLM) -> bool:
    """Whether decoder layers are run again in the backward pass, to save memory."""
    layer = model.language_model.layers[0]
    return bool(layer.training and getattr(layer, "gradient_checkpointing", False))


def _with_meaning(embeds: Tensor, evidence: EvidenceInputs, frames: Tensor) -> Tensor:
    """Add to each `<evi>` the mean of its interval's frames, (B, F, H) (paper, eq. 4)."""
    meaning = interval_means(frames, evidence.first, evidence.last)
    meaning = meaning.masked_fill(~evidence.mask.unsqueeze(-1), 0.0).to(embeds.dtype)
    columns = evidence.columns.unsqueeze(-1).expand_as(meaning)
    return embeds.scatter_add(1, columns, meaning)


def _outputs(
    model: D2VLM, response: ResponseTargets, matching: Tensor, final: Tensor, frame_keys: Tensor
) -> ResponseOutputs:
    logits = model.logits(at_columns(final, response.columns))
    evidence = model.evidence_head(at_columns(matching, response.evidence_columns.flatten(1)))
    stages = response.evidence_columns.shape
    return ResponseOutputs(
        log_probs=token_log_probs(logits, response.labels),
        evidence=evidence.reshape(*stages, evidence.shape[-1]),
        similarities=similarities(evidence, frame_keys).reshape(*stages, frame_keys.shape[1]),
    )
