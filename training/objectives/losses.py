"""The losses as pure functions over tensors. Knows no model, no batch layout and no settings.

Padding is told by masks and adds nothing. Means over a batch are left to the callers: what runs
over the batch is returned per row, so that parts of a batch can be weighed (paper, sections 3.2
and 3.3).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

# Keeps the logarithm of a probability that rounding made 0 finite; the released value.
_SMALLEST = 1e-10


@dataclass(frozen=True)
class FactorLogProbs:
    """Log-probability of one response per row, factor by factor, (B,) float32 each.

    text: of its tokens. grounding: of its intervals; 0 where it has none.
    """

    text: Tensor
    grounding: Tensor


@dataclass(frozen=True)
class PreferenceTerms:
    """What a preference loss gives, (B,) each.

    loss: -log sigmoid(β · margin). text_margin, grounding_margin: how much likelier the chosen
    response is than the rejected one, in each factor, less the reference's margin if there is
    one; a factor that is not compared is reported all the same.
    """

    loss: Tensor
    text_margin: Tensor
    grounding_margin: Tensor


def token_log_probs(logits: Tensor, labels: Tensor) -> Tensor:
    """log p of each label: logits (..., V) and labels (...) to (...) float32."""
    return logits.float().log_softmax(-1).gather(-1, labels.unsqueeze(-1)).squeeze(-1)


def sequence_log_prob(log_probs: Tensor, mask: Tensor) -> Tensor:
    """Sum over a response's tokens, not their mean: (B, A) and (B, A) bool to (B,)."""
    return log_probs.masked_fill(~mask, 0.0).sum(-1)


def relevance_targets(starts: Tensor, ends: Tensor, frames: int, *, decay: float) -> Tensor:
    """How relevant each frame is to an interval: decay^-distance, 1 inside.

    Args:
        starts, ends: (...) first and last frame, inclusive; they may lie outside the video.
        frames: T. decay: above 1 (alpha in the paper).

    Returns:
        (..., T) float32 in (0, 1].
    """
    frame = torch.arange(frames, device=starts.device)
    before = (starts.unsqueeze(-1) - frame).clamp(min=0)
    after = (frame - ends.unsqueeze(-1)).clamp(min=0)
    return torch.pow(decay, -(before + after).float())


def grounding_bce(
    similarities: Tensor, targets: Tensor, evidence_mask: Tensor, frame_mask: Tensor
) -> Tensor:
    """Binary cross-entropy of relevance against its targets, the mean over a row's entries.

    Args:
        similarities: (B, S, K, T) logits of the `<evi>` in S stages. targets: (B, K, T).
        evidence_mask: (B, K). frame_mask: (B, T).

    Returns:
        (B,): 0 in rows without evidence.
    """
    targets = targets.unsqueeze(1).expand_as(similarities)
    loss = functional.binary_cross_entropy_with_logits(similarities, targets, reduction="none")
    entries = _entries(evidence_mask, frame_mask).expand_as(similarities)
    total = loss.masked_fill(~entries, 0.0).sum((1, 2, 3))
    return total / entries.sum((1, 2, 3)).clamp(min=1)


def consistency_l1(evidence: Tensor, evidence_mask: Tensor) -> Tensor:
    """Mean absolute difference between an interval's `<evi>` in the two stages.

    Args:
        evidence: (B, 2, K, H) outputs of the evidence head; with one stage there is nothing to
            compare. evidence_mask: (B, K).

    Returns:
        (B,): 0 in rows without evidence.
    """
    difference = (evidence[:, 0] - evidence[:, -1]).abs().float().mean(-1)
    total = difference.masked_fill(~evidence_mask, 0.0).sum(-1)
    return total / evidence_mask.sum(-1).clamp(min=1)


def grounding_log_likelihood(
    similarities: Tensor, targets: Tensor, evidence_mask: Tensor, frame_mask: Tensor
) -> Tensor:
    """Σ log(y·p + (1 - y)(1 - p)) over a response's `<evi>` and the frames (paper, section 3.3).

    Args: as of `grounding_bce`.

    Returns:
        (B,): 0 in rows without evidence.
    """
    p, y = similarities.sigmoid(), targets.unsqueeze(1)
    log = (y * p + (1 - y) * (1 - p) + _SMALLEST).log()
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
    """-log sigmoid(β · margin) of pairs (paper, section 3.3).

    Args:
        text, grounding: which factors the margin is made of; at least one.
        reference: the same of a reference model; None for none, as the paper has it.
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
    """(B, 1, K, T): which pairs of an `<evi>` and a frame are real."""
    return evidence_mask[:, None, :, None] & frame_mask[:, None, None, :]
