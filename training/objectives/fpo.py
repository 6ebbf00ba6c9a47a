"""Factorized preference optimization: preferences over the text and the grounding of responses.

The SFT loss of the chosen response is added (paper, section 3.3).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vidground.model.d2vlm import D2VLM
from vidground.training.objectives import losses
from vidground.training.objectives.batches import LossCounts, ResponseTargets, TrainingBatch
from vidground.training.objectives.forward import ResponseOutputs, run_responses
from vidground.training.objectives.losses import FactorLogProbs
from vidground.training.objectives.settings import FpoSettings
from vidground.training.objectives.sft import SftLosses, compare, response_relevance


@dataclass(frozen=True)
class FpoLosses:
    """Parts of the loss, before averaging and weighting.

    Attributes:
        sft: SFT loss of the chosen response.
        preference: loss and margins, (B,) each.
        chosen: log-probabilities of the chosen response, (B,) each.
        rejected: log-probabilities of the rejected response, (B,) each.
        grounded: (B,) bool, rows in which either response has intervals, so that a grounding
            margin exists.
    """

    sft: SftLosses
    preference: losses.PreferenceTerms
    chosen: FactorLogProbs
    rejected: FactorLogProbs
    grounded: Tensor

    def total(self, settings: FpoSettings, counts: LossCounts | None = None) -> Tensor:
        """Return the loss, a scalar: SFT plus the preference loss averaged over all rows.

        Args:
            settings: weights of the parts.
            counts: denominators of the whole batch, if this is one part of it; see
                `SftLosses.total`.
        """
        samples = (counts or self.sft.counts).samples
        return self.sft.total(settings.sft, counts) + self.preference.loss.sum() / samples


def fpo_losses(
    model: D2VLM,
    batch: TrainingBatch,
    settings: FpoSettings,
    *,
    reference: tuple[FactorLogProbs, FactorLogProbs] | None = None,
) -> FpoLosses:
    """Run the model on a batch of `PreferenceSample` and return the parts of the loss.

    Args:
        model: the model to train.
        batch: B rows with two responses each.
        settings: of the loss.
        reference: `reference_log_probs` of another model on the same batch; None for no
            reference, as in the paper.
    """
    decay = settings.sft.target_decay or model.config.target_decay
    outputs = run_responses(model, batch, visual_semantics=settings.sft.visual_semantics)
    chosen, rejected = _both_log_probs(outputs, batch, decay)
    preference = losses.preference(
        chosen,
        rejected,
        beta=settings.beta,
        text=settings.text,
        grounding=settings.grounding,
        reference=reference,
    )
    return FpoLosses(
        sft=compare(outputs[0], batch.responses[0], batch, decay=decay),
        preference=preference,
        chosen=chosen,
        rejected=rejected,
        grounded=torch.stack([r.evidence_mask.any(1) for r in batch.responses]).any(0),
    )


@torch.no_grad()
def reference_log_probs(
    model: D2VLM, batch: TrainingBatch, settings: FpoSettings
) -> tuple[FactorLogProbs, FactorLogProbs]:
    """Return the log-probabilities of chosen and rejected responses under a frozen model."""
    decay = settings.sft.target_decay or model.config.target_decay
    outputs = run_responses(model, batch, visual_semantics=settings.sft.visual_semantics)
    return _both_log_probs(outputs, batch, decay)


def _both_log_probs(
    outputs: tuple[ResponseOutputs, ...], batch: TrainingBatch, decay: float
) -> tuple[FactorLogProbs, FactorLogProbs]:
    chosen, rejected = (
        _log_probs(output, response, batch, decay)
        for output, response in zip(outputs, batch.responses, strict=True)
    )
    return chosen, rejected


def _log_probs(
    outputs: ResponseOutputs, response: ResponseTargets, batch: TrainingBatch, decay: float
) -> FactorLogProbs:
    targets = response_relevance(response, batch, decay=decay)
    return FactorLogProbs(
        text=losses.sequence_log_prob(outputs.log_probs, response.mask),
        grounding=losses.grounding_log_likelihood(
            outputs.similarities, targets, response.evidence_mask, batch.frame_mask
        ),
    )
