"""Batches of training samples: where everything stands, so that a pass only gathers and scatters.

A row is [before, frames, padding | after, responses, padding]. The left part, the prefix, is as
long in every row, because its frames must pass the first layers before the intervals of the right
part can be embedded. Several responses continue from one prompt without seeing each other. Knows
neither how batches are made (`vidground.training.data.collation`) nor the model nor the losses.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class EvidenceInputs:
    """`<evi>` tokens that are read: at most E in a row.

    columns: (B, E) where they stand. first, last: (B, E) frames of their intervals, inclusive.
    mask: (B, E), false at padding.
    """

    columns: Tensor
    first: Tensor
    last: Tensor
    mask: Tensor


@dataclass(frozen=True)
class ResponseTargets:
    """What the model should say: one response per row, of at most A tokens and K intervals.

    columns: (B, A) position that predicts each token. labels, mask: (B, A) the tokens.
    evidence_columns: (B, S, K) position that predicts each `<evi>`, S = 2 stages: evidence, then
        answer; only the answer (S = 1) if the evidence stage is left out.
    evidence_mask: (B, K). starts, ends: (B, K) intervals in frames, rounded, not clamped.
    """

    columns: Tensor
    labels: Tensor
    mask: Tensor
    evidence_columns: Tensor
    evidence_mask: Tensor
    starts: Tensor
    ends: Tensor


@dataclass(frozen=True)
class LossCounts:
    """What the means of the losses run over, so that parts of a batch can be weighed.

    tokens: answer tokens of the first response. grounded: rows whose first response has
    intervals. samples: rows.
    """

    tokens: int
    grounded: int
    samples: int

    def __add__(self, other: LossCounts) -> LossCounts:
        return LossCounts(
            self.tokens + other.tokens,
            self.grounded + other.grounded,
            self.samples + other.samples,
        )


@dataclass(frozen=True)
class TrainingBatch:
    """B samples of L columns and at most F frames.

    frames: pixels, patch features or frame tokens of all rows' frames, one row after the other.
    frame_counts: frames of each row.
    question_ids, question_mask: (B, Q) what the Q-Former reads.
    token_ids: (B, L), 0 at frames and padding. position_ids: (B, L) within each sequence.
    branch: (B, L) 0 in the prompt, r in the r-th response. real, is_frame: (B, L) bool.
    prefix_length: columns of the prefix. frame_columns, frame_mask: (B, F).
    references: `<evi>` of the question. evidence: `<evi>` of all responses.
    responses: one for SFT; chosen and rejected for FPO.
    """

    frames: Tensor
    frame_counts: tuple[int, ...]
    question_ids: Tensor
    question_mask: Tensor
    token_ids: Tensor
    position_ids: Tensor
    branch: Tensor
    real: Tensor
    is_frame: Tensor
    prefix_length: int
    frame_columns: Tensor
    frame_mask: Tensor
    references: EvidenceInputs
    evidence: EvidenceInputs
    responses: tuple[ResponseTargets, ...]
    counts: LossCounts

    def visible(self) -> Tensor:
        """(B, L, L) bool, who sees whom: what came before, in the prompt or the own response;
        frames see each other both ways (paper, section 4.1). Padding sees itself.
        """
        before = self.position_ids[:, None, :] <= self.position_ids[:, :, None]
        shared = self.branch[:, None, :] == 0
        own = self.branch[:, None, :] == self.branch[:, :, None]
        among_frames = self.is_frame[:, None, :] & self.is_frame[:, :, None]
        itself = torch.eye(self.real.shape[1], dtype=torch.bool, device=self.real.device)
        return ((before & (shared | own)) | among_frames) & self.real[:, None, :] | itself

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> TrainingBatch:
        """The batch with all tensors on `device`."""
        moved: TrainingBatch = _moved(self, torch.device(device), non_blocking)
        return moved


def _moved(value: Any, device: torch.device, non_blocking: bool) -> Any:
    """`value` with every tensor in it, or in the dataclasses and tuples it holds, on `device`."""
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=non_blocking)
    if isinstance(value, tuple):
        return tuple(_moved(item, device, non_blocking) for item in value)
    if is_dataclass(value) and not isinstance(value, type):
        changed = {
            f.name: _moved(getattr(value, f.name), device, non_blocking) for f in fields(value)
        }
        return replace(value, **changed)
    return value
