"""Layout of training batches: indices that let a forward pass only gather and scatter.

A row is [before, frames, padding | after, responses, padding]. The left part, the prefix, has the
same length in every row, because its frames must pass the first layers before the intervals of
the right part can be embedded. Several responses continue from one prompt without attending to
each other. `vidground.training.data.collation` makes batches.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class EvidenceInputs:
    """`<evi>` tokens of the input, at most E in a row.

    Attributes:
        columns: (B, E) their positions in the row.
        first: (B, E) first frame of each interval.
        last: (B, E) last frame of each interval, inclusive.
        mask: (B, E) bool, false at padding.
    """

    columns: Tensor
    first: Tensor
    last: Tensor
    mask: Tensor


@dataclass(frozen=True)
class ResponseTargets:
    """Targets of one response per row, of at most A tokens and K intervals.

    Attributes:
        columns: (B, A) position that predicts each token.
        labels: (B, A) token ids.
        mask: (B, A) bool, false at padding.
        evidence_columns: (B, S, K) position that predicts each `<evi>`, with S = 2 stages:
            evidence, then answer; S = 1, the answer, without the evidence stage. With matching, a
            `<vid>` and its instant take the place of an `<evi>` and its interval.
        evidence_mask: (B, K) bool, false at padding.
        starts: (B, K) first frame of each interval, rounded, not clamped; with matching, the
            instant in frames, clamped, not rounded.
        ends: (B, K) last frame of each interval, likewise.
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
    """Denominators of the loss's means, so that parts of a batch can be weighted.

    Attributes:
        tokens: answer tokens of the first response.
        grounded: rows whose first response has intervals.
        samples: rows.
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

    Attributes:
        frames: pixels (N, 3, S, S), patch features (N, P, W) or frame tokens (N, H) of all rows,
            concatenated.
        frame_counts: number of frames of each row.
        question_ids: (B, Q) input of the Q-Former.
        question_mask: (B, Q) bool, false at padding.
        token_ids: (B, L), 0 at frames and padding.
        position_ids: (B, L) position within each sequence.
        branch: (B, L), 0 in the prompt, r in the r-th response.
        real: (B, L) bool, false at padding.
        is_frame: (B, L) bool.
        prefix_length: number of columns of the prefix.
        frame_columns: (B, F) columns of the frames.
        frame_mask: (B, F) bool, false at padding.
        references: `<evi>` of the question.
        evidence: `<evi>` of all responses.
        responses: one for SFT; chosen and rejected for FPO.
        counts: denominators of the loss's means.
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
        """Return the attention mask, (B, L, L) bool.

        A column attends to earlier ones of the prompt and of its own response; frames attend to
        each other in both directions (paper, section 4.1). Padding attends to itself.
        """
        before = self.position_ids[:, None, :] <= self.position_ids[:, :, None]  # (B, L, L)
        shared = self.branch[:, None, :] == 0  # (B, 1, L)
        own = self.branch[:, None, :] == self.branch[:, :, None]  # (B, L, L)
        among_frames = self.is_frame[:, None, :] & self.is_frame[:, :, None]  # (B, L, L)
        itself = torch.eye(self.real.shape[1], dtype=torch.bool, device=self.real.device)  # (L, L)
        return ((before & (shared | own)) | among_frames) & self.real[:, None, :] | itself

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> TrainingBatch:
        """Return the batch with all tensors on `device`."""
        moved: TrainingBatch = _moved(self, torch.device(device), non_blocking)
        return moved


def _moved(value: Any, device: torch.device, non_blocking: bool) -> Any:
    """Return `value` with all tensors, also in nested dataclasses and tuples, on `device`."""
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
