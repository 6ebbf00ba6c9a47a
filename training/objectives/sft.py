"""Supervised fine-tuning: cross-entropy of responses and grounding of their evidence.

See the paper, section 3.2.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from vidground.model.d2vlm import D2VLM
from vidground.training.objectives import losses
from vidground.training.objectives.batches import LossCounts, ResponseTargets, TrainingBatch
from vidground.training.objectives.forward import ResponseOutputs, run_responses
from vidground.training.objectives.settings import SftSettings


@dataclass(frozen=True)
class SftLosses:
    """Parts of the loss, before averaging and weighting.

    Attributes:
        cross_entropy: (B,) sum over a row's answer tokens.
        grounding: (B,) relevance loss, or cross-entropy of matched frames; 0 in rows without
            evidence.
        consistency: (B,) consistency loss, 0 in rows without evidence.
        counts: denominators of the means.
    """

    cross_entropy: Tensor
    grounding: Tensor
    consistency: Tensor
    counts: LossCounts

    def total(self, settings: SftSettings, counts: LossCounts | None = None) -> Tensor:
        """Return the loss, a scalar: cross-entropy per token, the rest per row with evidence.

        Args:
            settings: weights of the parts.
            counts: denominators of the whole batch, if this is one part of it (accumulated or on
                another device); the totals of the parts then sum to that of the batch.
        """
        counts = counts or self.counts
        grounding = settings.grounding_weight * self.grounding.sum()
        consistency = settings.consistency_weight * self.consistency.sum()
        tokens, grounded = max(counts.tokens, 1), max(counts.grounded, 1)
        return self.cross_entropy.sum() / tokens + (grounding + consistency) / grounded


def sft_losses(model: D2VLM, batch: TrainingBatch, settings: SftSettings) -> SftLosses:
    """Run the model on a batch of `SftSample` and return the parts of the loss."""
    (outputs,) = run_responses(model, batch, visual_semantics=settings.visual_semantics)
    decay = settings.target_decay or model.config.target_decay
    matches = model.config.matches
    return compare(outputs, batch.responses[0], batch, decay=decay, matches=matches)


def compare(
    outputs: ResponseOutputs,
    response: ResponseTargets,
    batch: TrainingBatch,
    *,
    decay: float,
    matches: bool = False,
) -> SftLosses:
    """Return the parts of the loss from the model's outputs for a response.

    Args:
        outputs: of the model.
        response: the tokens and times to imitate.
        batch: that contains it.
        decay: see `losses.relevance_targets`.
        matches: whether time tokens are matched to single frames, as in E.T. Chat.
    """
    targets = response_relevance(response, batch, decay=decay)
    mask = response.evidence_mask
    grounding = losses.matching_cross_entropy if matches else losses.grounding_bce
    return SftLosses(
        cross_entropy=-losses.sequence_log_prob(outputs.log_probs, response.mask),
        grounding=grounding(outputs.similarities, targets, mask, batch.frame_mask),
        consistency=losses.consistency_l1(outputs.evidence, mask),
        counts=batch.counts,
    )


def response_relevance(response: ResponseTargets, batch: TrainingBatch, *, decay: float) -> Tensor:
    """Return the relevance targets of a response's own intervals, (B, K, F)."""
    frames = batch.frame_mask.shape[1]
    return losses.relevance_targets(response.starts, response.ends, frames, decay=decay)
