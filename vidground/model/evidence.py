"""Evidence: from the similarity of an `<evi>` to the frames to an interval, and to its meaning.

Pure functions on batched tensors, without copies to the host. Knows no model.
"""

import torch
from torch import Tensor


def relevance(evidence: Tensor, frame_keys: Tensor) -> Tensor:
    """Compute the relevance p_t = sigmoid(evidence · frame_t / √H) (paper, section 3.2).

    Args:
        evidence: (..., H) outputs of the evidence head.
        frame_keys: (..., T, H) outputs of the frame head.

    Returns:
        (..., T) float32 in [0, 1].
    """
    return torch.sigmoid(similarity(evidence, frame_keys))


def similarity(evidence: Tensor, frame_keys: Tensor) -> Tensor:
    """Compute the logits s_t = evidence · frame_t / √H of `relevance`, (..., T) float32."""
    return similarities(evidence.unsqueeze(-2), frame_keys).squeeze(-2)


def similarities(evidence: Tensor, frame_keys: Tensor) -> Tensor:
    """Compute `similarity` for E `<evi>`: (..., E, H) and (..., T, H) to (..., E, T)."""
    # In float32 also for heads in 16 bits, whose 8 or 11 bits would make near values equal.
    scores = torch.matmul(widened(evidence), widened(frame_keys).transpose(-1, -2))
    return scores.float() / float(evidence.shape[-1] ** 0.5)


def best_interval(curve: Tensor, frame_mask: Tensor, *, threshold: float) -> tuple[Tensor, Tensor]:
    """Return the interval of each curve: the run of relevant frames with the highest mean.

    Frames below `threshold` times the curve's maximum are dropped. Each run of consecutive
    remaining frames gets its mean. The interval spans all frames of the highest run mean; two runs
    with equal means span both.

    Args:
        curve: (B, T) relevance.
        frame_mask: (B, T), false at padding.
        threshold: share of the maximum, in (0, 1].

    Returns:
        First and last frame of each interval, (B,) int64 each, inclusive.
    """
    means, survivor = run_means(curve, frame_mask, threshold=threshold)
    best = survivor & (means == means.amax(-1, keepdim=True))
    frames = torch.arange(curve.shape[-1], device=curve.device)
    first = torch.where(best, frames, curve.shape[-1]).amin(-1)
    last = torch.where(best, frames, -1).amax(-1)
    return first, last


def run_means(curve: Tensor, frame_mask: Tensor, *, threshold: float) -> tuple[Tensor, Tensor]:
    """Return the mean relevance of the run that each remaining frame belongs to.

    Args:
        curve: (B, T) relevance.
        frame_mask: (B, T), false at padding.
        threshold: as of `best_interval`.

    Returns:
        Means (B, T), -1 at dropped frames; and which frames remain, (B, T) bool.
    """
    curve = curve.masked_fill(~frame_mask, 0.0)
    peak = curve.amax(-1, keepdim=True)  # (B, 1)
    remains = (curve >= threshold * peak) & frame_mask  # (B, T)
    starts = remains & ~torch.nn.functional.pad(remains[..., :-1], (1, 0))  # (B, T)
    run = starts.cumsum(-1)  # (B, T), number of the run from 1; only valid where a frame remains
    # A masked sum instead of scatter_add, whose atomic additions would make ties random.
    runs = torch.arange(curve.shape[-1] + 1, device=curve.device)  # (T + 1,)
    member = (run.unsqueeze(-2) == runs.unsqueeze(-1)) & remains.unsqueeze(-2)  # (B, T + 1, T)
    total = (member * curve.unsqueeze(-2)).sum(-1)  # (B, T + 1)
    means = (total / member.sum(-1).clamp(min=1)).gather(-1, run)  # (B, T)
    return means.masked_fill(~remains, -1.0), remains


def interval_mean(values: Tensor, first: Tensor, last: Tensor) -> Tensor:
    """Compute the mean of `values` over each interval: the meaning of an `<evi>` (paper, eq. 4).

    Args:
        values: (B, T, H).
        first: (B,), first frame of each interval, at least 0.
        last: (B,), last frame, inclusive, from `first` to T - 1.

    Returns:
        (B, H) in the dtype of `values`.
    """
    return interval_means(values, first[:, None], last[:, None]).squeeze(1)


def interval_means(values: Tensor, first: Tensor, last: Tensor) -> Tensor:
    """Compute `interval_mean` for E intervals per row: first, last (B, E); returns (B, E, H)."""
    frames = torch.arange(values.shape[1], device=values.device)
    inside = (frames >= first.unsqueeze(-1)) & (frames <= last.unsqueeze(-1))  # (B, E, T)
    # In float32, because bfloat16 represents neither counts above 256 nor 1/count exactly.
    wide = widened(values)  # (B, T, H)
    weights = inside.to(wide.dtype) / inside.sum(-1, keepdim=True)  # (B, E, T)
    return (weights @ wide).to(values.dtype)


def widened(values: Tensor) -> Tensor:
    """Convert 16-bit floats to float32, in which evidence is computed; return others unchanged."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def interval_frames(start: Tensor, end: Tensor, frames: int) -> tuple[Tensor, Tensor]:
    """Convert given spans to inclusive frames.

    They are rounded, clamped to [0, frames - 1], and swapped if reversed. A span whose start equals
    its end is one frame.

    Args:
        start: (...) float, in frames (seconds times sampled frames per second).
        end: (...) float, in frames.
        frames: number of frames.

    Returns:
        First and last frame, (...) int64 each.
    """
    low = start.round().long().clamp(0, frames - 1)
    high = end.round().long().clamp(0, frames - 1)
    return torch.minimum(low, high), torch.maximum(low, high)
