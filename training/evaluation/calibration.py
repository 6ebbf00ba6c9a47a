"""Calibration of scores: of the moments scored 0.8, are 8 in 10 right?

Compares scores in [0, 1] with outcomes; loads neither models nor videos.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from vidground.errors import InputError
from vidground.results.types import Moment
from vidground.training.data.interval_metrics import Interval, iou_matrix


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """The scores in [low, high), or [low, high] for the last bin.

    Attributes:
        low: lower edge, in [0, 1].
        high: upper edge, in [0, 1].
        count: number of scores.
        mean_score: their mean; None in an empty bin.
        hit_rate: share of them that were right; None in an empty bin.
    """

    low: float
    high: float
    count: int
    mean_score: float | None
    hit_rate: float | None


@dataclass(frozen=True, slots=True)
class Calibration:
    """How scores compare with outcomes; all errors lie in [0, 1], and 0 is best.

    Attributes:
        bins: equally wide, from 0 to 1.
        expected_error: mean gap between a bin's score and its hit rate, weighted by count
            (expected calibration error).
        largest_error: the widest gap of any bin.
        brier: mean squared difference of score and outcome.
    """

    bins: tuple[ReliabilityBin, ...]
    expected_error: float
    largest_error: float
    brier: float


def calibration(scores: Sequence[float], hits: Sequence[bool], *, bins: int = 10) -> Calibration:
    """Return the calibration of scores.

    Args:
        scores: N numbers in [0, 1], N at least 1.
        hits: N outcomes.
        bins: number of equally wide bins.

    Raises:
        InputError: lengths differ, there are no scores, one is out of range, or bins < 1.
    """
    if len(scores) != len(hits):
        raise InputError(f"{len(scores)} scores and {len(hits)} outcomes; give one for each")
    if not len(scores):
        raise InputError("no scores; calibration needs at least one")
    if bins < 1:
        raise InputError(f"bins is {bins}; it must be at least 1")
    values = np.asarray(scores, dtype=np.float64)
    outcomes = np.asarray(hits, dtype=np.float64)
    if not ((values >= 0) & (values <= 1)).all():
        raise InputError("a score lies outside [0, 1]; calibration needs probabilities")
    edges = np.arange(bins + 1) / bins
    member = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, bins - 1)
    table = []
    for i in range(bins):
        inside = member == i
        count = int(inside.sum())
        mean = float(values[inside].mean()) if count else None
        rate = float(outcomes[inside].mean()) if count else None
        table.append(ReliabilityBin(float(edges[i]), float(edges[i + 1]), count, mean, rate))
    gaps = [
        (b.count, abs(b.mean_score - b.hit_rate))
        for b in table
        if b.mean_score is not None and b.hit_rate is not None
    ]
    return Calibration(
        bins=tuple(table),
        expected_error=sum(count * gap for count, gap in gaps) / len(values),
        largest_error=max(gap for _, gap in gaps),
        brier=float(((values - outcomes) ** 2).mean()),
    )


def moment_hits(
    moments: Iterable[Moment], targets: Sequence[Interval], *, min_iou: float = 0.5
) -> list[bool]:
    """Return which moments are right: those that overlap some target by at least `min_iou`.

    Args:
        moments: found in one video.
        targets: true intervals of that video, in seconds; empty if the event does not happen, so
            that no moment is right.
        min_iou: minimum intersection over union, in (0, 1].

    Raises:
        InputError: `min_iou` is out of range.
    """
    if not 0 < min_iou <= 1:
        raise InputError(f"min_iou is {min_iou}; it must lie in (0, 1]")
    found = [(moment.start_s, moment.end_s) for moment in moments]
    return [bool(row.max(initial=0.0) >= min_iou) for row in iou_matrix(found, targets)]
