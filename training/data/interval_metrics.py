"""Overlap, precision and recall of predicted and true intervals."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

Interval = tuple[float, float]
"""[start, end] in seconds, start <= end."""

Array = NDArray[np.float64]

DENSE_EPSILON_S = 1e-8
"""Added to the union by the dense-captioning scorers, so that an overlap that equals a threshold
counts as below it."""

Single = NDArray[np.float32]


def iou_matrix(
    first: Sequence[Interval], second: Sequence[Interval], *, epsilon: float = 0.0
) -> Array:
    """Return the intersection over union of every pair, (len(first), len(second)) in [0, 1].

    Two intervals that both have no length have overlap 0.

    Args:
        first: N intervals.
        second: M intervals.
        epsilon: seconds added to each union.
    """
    a = np.asarray(first, dtype=np.float64).reshape(-1, 1, 2)
    b = np.asarray(second, dtype=np.float64).reshape(1, -1, 2)
    inter = np.clip(np.minimum(a[..., 1], b[..., 1]) - np.maximum(a[..., 0], b[..., 0]), 0, None)
    union = a[..., 1] - a[..., 0] + b[..., 1] - b[..., 0] - inter + epsilon
    overlaps: Array = np.divide(inter, union, out=np.zeros_like(inter), where=union > 0)
    return overlaps


def single_precision_iou(first: Sequence[Interval], second: Sequence[Interval]) -> Single:
    """Return the overlaps of `iou_matrix` as 32-bit numbers, in the released scorers' arithmetic.

    E.T. Bench's scorers compute overlaps with 32-bit tensors, in this order of operations. An
    overlap of exactly 0.7 becomes 0.699999988, which is below 0.7 wherever it is compared as a
    64-bit number.

    Args:
        first: N intervals.
        second: M intervals.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # times beyond 3e38 s are infinite
        a = np.asarray(first, dtype=np.float32).reshape(-1, 1, 2)
        b = np.asarray(second, dtype=np.float32).reshape(1, -1, 2)
        ends, starts = np.minimum(a[..., 1], b[..., 1]), np.maximum(a[..., 0], b[..., 0])
        inter = np.clip(ends - starts, np.float32(0), None)
        union = (a[..., 1] - a[..., 0]) + (b[..., 1] - b[..., 0]) - inter
        overlaps: Single = np.divide(inter, union, out=np.zeros_like(inter), where=union > 0)
    return overlaps


def harmonic_mean(precision: float, recall: float) -> float:
    """Return F1; 0 if both are 0."""
    total = precision + recall
    return 2 * precision * recall / total if total > 0 else 0.0


def covered_shares(hits: NDArray[np.bool_]) -> tuple[float, float]:
    """Return precision and recall of a (predictions, targets) table of hits: the shares of rows
    and of columns with a hit. An empty table has 0 and 0.
    """
    if not hits.size:
        return 0.0, 0.0
    return float(hits.any(axis=1).mean()), float(hits.any(axis=0).mean())


def seconds_f1(predicted: Iterable[Interval], targets: Iterable[Interval]) -> float:
    """Return F1 over whole seconds; an interval covers [round(start), round(end)).

    Half seconds round to the even second, as the benchmark's scorer does.
    """
    ours, truth = _whole_seconds(predicted), _whole_seconds(targets)
    common = _length(ours) + _length(truth) - _length(_union([*ours, *truth]))
    return 2 * common / (_length(ours) + _length(truth)) if common else 0.0


def _whole_seconds(intervals: Iterable[Interval]) -> list[tuple[int, int]]:
    return _union([(max(0, round(start)), round(end)) for start, end in intervals])


def _union(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        elif start < end:
            merged.append((start, end))
    return merged


def _length(spans: Sequence[tuple[int, int]]) -> int:
    return sum(end - start for start, end in spans)
