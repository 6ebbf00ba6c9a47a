"""Losses as pure functions of tensors (paper, sections 3.2 and 3.3).

Padding is excluded by masks. Losses are returned per row; callers average over the batch, so that
parts of a batch can be weighted.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

# Keeps the logarithm finite where a probability rounds to 0; the released value.
_SMALLEST = 1e-10


@dataclass(frozen=True)
class FactorLogProbs:
    """Log-probability of one response per row, by factor.

    Attributes:
        text: (B,) float32, of the tokens.
        grounding: (B,) float32, of the intervals; 0 in rows without intervals.
    """

    text: Tensor
    grounding: Tensor


@dataclass(frozen=True)
class PreferenceTerms:
    """Preference loss and its margins.

    A margin is log p(chosen) - log p(rejected) in one factor, minus the margin of the reference
    if there is one. Both are reported, also for a factor that is not compared.

    Attributes:
        loss: (B,) -log sigmoid(beta * margin).
        text_margin: (B,) margin of the text factor.
        grounding_margin: (B,) margin of the grounding factor.
    """

    loss: Tensor
    text_margin: Tensor
    grounding_margin: Tensor


def token_log_probs(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the log-probability of each label, (...) float32.

    Args:
        logits: (..., V).
        labels: (...) token ids.
    """
    log_probs = logits.float().log_softmax(-1)  # (..., V)
    return log_probs.gather(-1, labels.unsqueeze(-1)).squeeze(-1)  # (...)


def sequence_log_prob(log_probs: Tensor, mask: Tensor) -> Tensor:
    """Return the sum over a response's tokens (not the mean), (B,).

    Args:
        log_probs: (B, A).
        mask: (B, A) bool, false at padding.
    """
    return log_probs.masked_fill(~mask, 0.0).sum(-1)


def relevance_targets(starts: Tensor, ends: Tensor, frames: int, *, decay: float) -> Tensor:
    """Return the relevance of each frame to an interval: decay^-distance, 1 inside.

    Args:
        starts: (...) first frame; may lie outside the video.
        ends: (...) last frame, inclusive; may lie outside the video.
        frames: number of frames F.
        decay: above 1 (alpha in the paper).

    Returns:
        (..., F) float32 in (0, 1].
    """
    frame = torch.arange(frames, device=starts.device)  # (F,)
    before = (starts.unsqueeze(-1) - frame).clamp(min=0)  # (..., F)
    after = (frame - ends.unsqueeze(-1)).clamp(min=0)  # (..., F)
    return torch.pow(decay, -(before + after).float())  # (..., F)


def grounding_bce(
    similarities: Tensor, targets: Tensor, evidence_mask: Tensor, frame_mask: Tensor
) -> Tensor:
    """Return the binary cross-entropy of relevance, averaged over each row's entries.

    Args:
        similarities: (B, S, K, F) logits of the `<evi>` in S stages.
        targets: (B, K, F) in (0, 1].
        evidence_mask: (B, K) bool, false at padding.
        frame_mask: (B, F) bool, false at padding.

    Returns:
        (B,), 0 in rows without evidence.
    """
    targets = targets.unsqueeze(1).expand_as(similarities)  # (B, S, K, F)
    loss = functional.binary_cross_entropy_with_logits(similarities, targets, reduction="none")
    entries = _entries(evidence_mask, frame_mask).expand_as(similarities)  # (B, S, K, F)
    total = loss.masked_fill(~entries, 0.0).sum((1, 2, 3))  # (B,)
    return total / entries.sum((1, 2, 3)).clamp(min=1)  # (B,)


def matching_cross_entropy(
    similarities: Tensor, targets: Tensor, match_mask: Tensor, frame_mask: Tensor
) -> Tensor:
    """Return the cross-entropy of the matched frames, averaged over each row's `<vid>`.

    The loss of E.T. Chat. Its targets are not normalised: they add up to more than 1.

    Args:
        similarities: (B, 1, K, F) similarities of the `<vid>` and the frames, over √H.
        targets: (B, K, F) decay^-distance of each frame from the true time.
        match_mask: (B, K) bool, false at padding.
        frame_mask: (B, F) bool, false at padding.

    Returns:
        (B,), 0 in rows without `<vid>`.
    """
    frames = frame_mask[:, None, :]  # (B, 1, F)
    log_probs = similarities.squeeze(1).masked_fill(~frames, float("-inf")).log_softmax(-1)
    loss = -(targets * log_probs.masked_fill(~frames, 0.0)).sum(-1)  # (B, K)
    return loss.masked_fill(~match_mask, 0.0).sum(-1) / match_mask.sum(-1).clamp(min=1)  # (B,)


def consistency_l1(evidence: Tensor, evidence_mask: Tensor) -> Tensor:
    """Return the mean absolute difference between an interval's `<evi>` in the two stages.

    Args:
        evidence: (B, 2, K, H) outputs of the evidence head; (B, 1, K, H) gives 0.
        evidence_mask: (B, K) bool, false at padding.

    Returns:
        (B,), 0 in rows without evidence.
    """
    difference = (evidence[:, 0] - evidence[:, -1]).abs().float().mean(-1)  # (B, K)
    total = difference.masked_fill(~evidence_mask, 0.0).sum(-1)  # (B,)
    return total / evidence_mask.sum(-1).clamp(min=1)  # (B,)


def grounding_log_likelihood(
    similarities: Tensor, targets: Tensor, evidence_mask: Tensor, frame_mask: Tensor
) -> Tensor:
    """Return the sum of log(y p + (1 - y)(1 - p)) over a response's `<evi>` and the frames.

    This is the grounding factor of a response's probability (paper, section 3.3).

    Args:
        similarities: (B, S, K, F) logits of the `<evi>` in S stages.
        targets: (B, K, F) relevance y in (0, 1].
        evidence_mask: (B, K) bool, false at padding.
        frame_mask: (B, F) bool, false at padding.

    Returns:
        (B,), 0 in rows without evidence.
    """
    p, y = similarities.sigmoid(), targets.unsqueeze(1)  # (B, S, K, F), (B, 1, K, F)
    log = (y * p + (1 - y) * (1 - p) + _SMALLEST).log()  # (B, S, K, F)
    return log.masked_fill(~_entries(evidence_mask, frame_mask), 0.0).sum((1, 2, 3))


def preference(
    chosen: FactorLogProbs,
    rejected: FactorLogProbs,
    *,
    beta: float,
    text: bool = True,
    grounding: bool = True,
    reference: tuple[FactorLogProbs, FactorLogProbs] | None = None,
) -> PreferenceTerms:
    """Return -log sigmoid(beta * margin) of pairs (paper, section 3.3).

    Args:
        chosen: log-probabilities of the chosen responses.
        rejected: log-probabilities of the rejected responses.
        beta: scale of the margin, above 0.
        text: include the text factor in the margin.
        grounding: include the grounding factor in the margin; at least one of the two.
        reference: (chosen, rejected) of a reference model; None for none, as in the paper.
    """
    text_margin = chosen.text - rejected.text
    grounding_margin = chosen.grounding - rejected.grounding
    if reference is not None:
        text_margin = text_margin - (reference[0].text - reference[1].text)
        grounding_margin = grounding_margin - (reference[0].grounding - reference[1].grounding)
    compared = [m for m, on in ((text_margin, text), (grounding_margin, grounding)) if on]
    loss = -functional.logsigmoid(beta * torch.stack(compared).sum(0))
    return PreferenceTerms(loss, text_margin, grounding_margin)


def _entries(evidence_mask: Tensor, frame_mask: Tensor) -> Tensor:
    """Return which pairs of an `<evi>` and a frame are not padding, (B, 1, K, F) bool."""
    return evidence_mask[:, None, :, None] & frame_mask[:, None, None, :]
