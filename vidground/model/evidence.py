"""Evidence: from similarities between `<evi>` and frames to intervals, and back to a meaning.

Pure functions over tensors, batched, without a copy to the host. Knows no model.
"""

import torch
from torch import Tensor


def relevance(evidence: Tensor, frame_keys: Tensor) -> Tensor:
    """Relevance p_t = sigmoid(evidence · frame_t / √H) (paper, section 3.2).

    Args:
        evidence: (..., H) outputs of the evidence head.
        frame_keys: (..., T, H) outputs of the frame head.

    Returns:
        (..., T) float32 in [0, 1].
    """
    return torch.sigmoid(similarity(evidence, frame_keys))


def similarity(evidence: Tensor, frame_keys: Tensor) -> Tensor:
    """The logits s_t = evidence · frame_t / √H of `relevance`, (..., T) float32."""
    return similarities(evidence.unsqueeze(-2), frame_keys).squeeze(-2)


def similarities(evidence: Tensor, frame_keys: Tensor) -> Tensor:
    """The logits of `similarity` of several `<evi>`: (..., E, H) and (..., T, H) to (..., E, T)."""
    # In float32 also for heads of 16 bits, whose 8 or 11 bits would make ties of near values.
    scores = torch.matmul(widened(evidence), widened(frame_keys).transpose(-1, -2))
    return scores.float() / float(evidence.shape[-1] ** 0.5)


def best_interval(curve: Tensor, frame_mask: Tensor, *, threshold: float) -> tuple[Tensor, Tensor]:
    """The interval of each curve: the run of relevant frames with the highest mean.

    Frames below `threshold` times the curve's highest value are dropped. Every run of
    neighbouring survivors gets its mean; the frames whose run mean is highest span the
    interval, so that two runs of equal means span both.

    Args:
        curve: (B, T) relevance. frame_mask: (B, T), false at padding.
        threshold: share of the highest value, in (0, 1].

    Returns:
        first and last frame of each interval, (B,) int64 each, inclusive.
    """
    means, survivor = run_means(curve, frame_mask, threshold=threshold)
    best = survivor & (means == means.amax(-1, keepdim=True))
    frames = torch.arange(curve.shape[-1], device=curve.device)
    first = torch.where(best, frames, curve.shape[-1]).amin(-1)
    last = torch.where(best, frames, -1).amax(-1)
    return first, last


def run_means(curve: Tensor, frame_mask: Tensor, *, threshold: float) -> tuple[Tensor, Tensor]:
    """Mean relevance of the run that each surviving frame belongs to.

    Returns:
        means (B, T), -1 at dropped frames; survivor (B, T) bool.
    """
    curve = curve.masked_fill(~frame_mask, 0.0)
    peak = curve.amax(-1, keepdim=True)
    survivor = (curve >= threshold * peak) & frame_mask
    starts = survivor & ~torch.nn.functional.pad(survivor[..., :-1], (1, 0))
    run = starts.cumsum(-1)  # number of the run, from 1; only read where a frame survived
    # A sum over a mask and not scatter_add: atomic additions would make ties depend on chance.
    runs = torch.arange(curve.shape[-1] + 1, device=curve.device)
    member = (run.unsqueeze(-2) == runs.unsqueeze(-1)) & survivor.unsqueeze(-2)
    total = (member * curve.unsqueeze(-2)).sum(-1)
    means = (total / member.sum(-1).clamp(min=1)).gather(-1, run)
    return means.masked_fill(~survivor, -1.0), survivor


def interval_mean(values: Tensor, first: Tensor, last: Tensor) -> Tensor:
    """Mean of `values` over each inclusive interval: what an `<evi>` means (paper, eq. 4).

    Args:
        values: (B, T, H). first, last: (B,) frames, 0 <= first <= last < T.

    Returns:
        (B, H) in the dtype of `values`.
    """
    return interval_means(values, first[:, None], last[:, None]).squeeze(1)


def interval_means(values: Tensor, first: Tensor, last: Tensor) -> Tensor:
    """As `interval_mean`, for E intervals in each row: first, last (B, E); (B, E, H)."""
    frames = torch.arange(values.shape[1], device=values.device)
    inside = (frames >= first.unsqueeze(-1)) & (frames <= last.unsqueeze(-1))
    # Divided and added in float32: bfloat16 holds no count above 256 and no 1/count exactly.
    wide = widened(values)
    weights = inside.to(wide.dtype) / inside.sum(-1, keepdim=True)
    return (weights @ wide).to(values.dtype)


def widened(values: Tensor) -> Tensor:
    """Values of 16 bits in float32, others as they are: what evidence is computed in."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def interval_frames(start: Tensor, end: Tensor, frames: int) -> tuple[Tensor, Tensor]:
    """Given spans in frame units as inclusive frames: rounded, clamped to [0, frames - 1],
    swapped if reversed. One number given twice means one frame.

    Args:
        start, end: (...) float, in frames (seconds times the sampled rate).

    Returns:
        first and last, (...) int64.
    """
    low = start.round().long().clamp(0, frames - 1)
    high = end.round().long().clamp(0, frames - 1)
    return torch.minimum(low, high), torch.maximum(low, high)
