"""Forward pass of training, from a batch to the outputs that the losses compare.

The prefix (the text before the frames, and the frames) passes the first layers alone, because the
evidence memory they produce is part of the input of the responses. The rest of the row follows,
attending to the prefix's keys and values; then all columns pass the remaining layers together. In a
model that matches frames the memory is the frame tokens, and all columns pass all layers together.
Gradients flow through all of it.

Shapes: B rows, L columns, H hidden size, F frames per row, N frames of all rows, A response
tokens, S stages, K intervals.
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

_PATCH_FEATURES = 3  # dimensions of frames encoded by the vision encoder, (N, P, W)
_FRAME_TOKENS = 2  # dimensions of frames compressed with the row's question, (N, H)


@dataclass(frozen=True)
class ResponseOutputs:
    """Outputs of the model for one response per row; entries at padding are undefined.

    Attributes:
        log_probs: (B, A) float32 log-probabilities of the tokens.
        evidence: (B, S, K, H) outputs of the evidence head where a time token is predicted.
        similarities: (B, S, K, F) float32 logits of relevance.
    """

    log_probs: Tensor
    evidence: Tensor
    similarities: Tensor


def run_responses(
    model: D2VLM, batch: TrainingBatch, *, visual_semantics: bool = True
) -> tuple[ResponseOutputs, ...]:
    """Run the model on a batch with known responses (teacher forcing).

    Args:
        model: the model, in training or evaluation mode.
        batch: B rows.
        visual_semantics: False reads a time token of a response as a plain token.

    Returns:
        Outputs for each of `batch.responses`.
    """
    config = model.config
    visible = batch.visible()  # (B, L, L)
    embeds = embed(model, batch)  # (B, L, H)
    hidden = _evidence_states(model, batch, embeds, visible, visual_semantics)  # (B, L, H)
    context = model.context(batch.position_ids, visible)
    matching = model.run_layers(
        hidden, config.memory_layer, config.matching_layer, context
    )  # (B, L, H)
    final = model.run_layers(matching, config.matching_layer, config.layers, context)  # (B, L, H)
    keys = final if config.frame_key_layer == config.layers else matching  # (B, L, H)
    frame_keys = model.frame_head(at_columns(keys, batch.frame_columns))  # (B, F, H)
    return tuple(
        _outputs(model, response, matching, final, frame_keys) for response in batch.responses
    )


def embed(model: D2VLM, batch: TrainingBatch) -> Tensor:
    """Return the embeddings of text and frames, (B, L, H).

    An `<evi>` of the question adds the mean of its interval's frames.
    """
    embeds = model.get_input_embeddings()(batch.token_ids)  # (B, L, H)
    tokens = _frame_tokens(model, batch).to(embeds.dtype)  # (N, H)
    embeds = embeds.masked_scatter(batch.is_frame.unsqueeze(-1), tokens)  # (B, L, H)
    return _with_meaning(embeds, batch.references, at_columns(embeds, batch.frame_columns))


def _frame_tokens(model: D2VLM, batch: TrainingBatch) -> Tensor:
    """Return the tokens of all rows' frames, concatenated: (N, H)."""
    if batch.frames.ndim == _FRAME_TOKENS:
        return batch.frames
    counts = torch.tensor(batch.frame_counts, device=batch.frames.device)
    return model.compress(
        _patches(model, batch.frames),
        batch.question_ids.repeat_interleave(counts, dim=0),  # (N, Q)
        batch.question_mask.repeat_interleave(counts, dim=0),  # (N, Q)
    )


def _patches(model: D2VLM, frames: Tensor) -> Tensor:
    """Return the patch features of frames, (N, P, W)."""
    if frames.ndim == _PATCH_FEATURES:
        return frames
    dtype = next(model.vision.parameters()).dtype
    if frames.dtype == torch.uint8:
        frames = normalize(frames, dtype=dtype, device=frames.device)
    return model.encode_frames(frames.to(dtype))


def at_columns(states: Tensor, columns: Tensor) -> Tensor:
    """Return the states, (B, L, H), at columns, (B, C): (B, C, H)."""
    return states.gather(1, columns.unsqueeze(-1).expand(-1, -1, states.shape[-1]))


def _evidence_states(
    model: D2VLM, batch: TrainingBatch, embeds: Tensor, visible: Tensor, visual_semantics: bool
) -> Tensor:
    """Return the states after the memory layer, (B, L, H), with the responses' evidence read."""
    layer, split = model.config.memory_layer, batch.prefix_length
    whole = model.context(batch.position_ids, visible)
    if layer == 0:  # the frame tokens themselves
        frames = at_columns(embeds, batch.frame_columns)
        return _with_meaning(embeds, batch.evidence, frames) if visual_semantics else embeds
    if not visual_semantics:
        return model.run_layers(embeds, 0, layer, whole)
    # Recomputed layers (gradient checkpointing) would append to the cache a second time.
    cache = None if _recomputes(model) else KeyValueCache(layer)
    context = model.context(batch.position_ids[:, :split], visible[:, :split, :split], cache)
    prefix = model.run_layers(embeds[:, :split], 0, layer, context)  # (B, prefix_length, H)
    embeds = _with_meaning(embeds, batch.evidence, at_columns(prefix, batch.frame_columns))
    if cache is None:
        return model.run_layers(embeds, 0, layer, whole)
    context = model.context(batch.position_ids[:, split:], visible[:, split:], cache)
    rest = model.run_layers(embeds[:, split:], 0, layer, context)  # (B, L - prefix_length, H)
    return torch.cat((prefix, rest), dim=1)


def _recomputes(model: D2VLM) -> bool:
    """Return whether decoder layers are recomputed in the backward pass."""
    layer = model.language_model.layers[0]
    return bool(layer.training and getattr(layer, "gradient_checkpointing", False))


def _with_meaning(embeds: Tensor, evidence: EvidenceInputs, frames: Tensor) -> Tensor:
    """Add to each `<evi>` the mean of its interval's frames, (B, F, H) (paper, eq. 4)."""
    meaning = interval_means(frames, evidence.first, evidence.last)  # (B, E, H)
    meaning = meaning.masked_fill(~evidence.mask.unsqueeze(-1), 0.0).to(embeds.dtype)
    columns = evidence.columns.unsqueeze(-1).expand_as(meaning)  # (B, E, H)
    return embeds.scatter_add(1, columns, meaning)


def _outputs(
    model: D2VLM, response: ResponseTargets, matching: Tensor, final: Tensor, frame_keys: Tensor
) -> ResponseOutputs:
    logits = model.logits(at_columns(final, response.columns))  # (B, A, V)
    columns = response.evidence_columns.flatten(1)  # (B, S * K)
    evidence = model.evidence_head(at_columns(matching, columns))  # (B, S * K, H)
    stages = response.evidence_columns.shape  # B, S, K
    return ResponseOutputs(
        log_probs=token_log_probs(logits, response.labels),  # (B, A)
        evidence=evidence.reshape(*stages, evidence.shape[-1]),  # (B, S, K, H)
        similarities=similarities(evidence, frame_keys).reshape(
            *stages, frame_keys.shape[1]
        ),  # (B, S, K, F)
    )
