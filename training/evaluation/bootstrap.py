"""Bootstrap confidence intervals of any statistic."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vidground.errors import InputError

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class BootstrapInterval:
    """A statistic and its likely range on other samples.

    Attributes:
        estimate: the statistic on all samples.
        low: lower percentile of the resampled statistic.
        high: upper percentile; `level` of the resampled statistics lie between the two.
        level: in (0, 1).
    """

    estimate: float
    low: float
    high: float
    level: float


def bootstrap_interval(
    values: ArrayLike,
    statistic: Callable[[Array], float],
    *,
    samples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    strata: Sequence[int] | None = None,
) -> BootstrapInterval:
    """Return the percentile bootstrap interval of a statistic over rows of values.

    Args:
        values: (N,) or (N, D) numbers, one row for each sample.
        statistic: maps values of this shape to a number.
        samples: number of draws of N rows with replacement.
        seed: of the draws; the same seed gives the same interval.
        level: share of the resampled statistics within the interval, in (0, 1).
        strata: N labels. Rows are then drawn within their own stratum and take its positions, so
            that every stratum keeps its size and row i keeps its label.

    Raises:
        InputError: there are no values, one is not finite, or an option is out of range.
    """
    rows = np.asarray(values, dtype=np.float64)
    _check(rows, samples, level, strata)
    labels = np.zeros(len(rows), dtype=np.int64) if strata is None else np.asarray(strata)
    places = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    generator = np.random.default_rng(seed)
    resampled = np.empty(samples)
    drawn = np.empty(len(rows), dtype=np.int64)
    for i in range(samples):
        for place in places:
            drawn[place] = generator.choice(place, size=len(place))
        resampled[i] = statistic(rows[drawn])
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2])
    return BootstrapInterval(float(statistic(rows)), float(low), float(high), level)


def _check(rows: Array, samples: int, level: float, strata: Sequence[int] | None) -> None:
    if rows.ndim not in (1, 2) or not len(rows):
        raise InputError(f"values have shape {rows.shape}; need (N,) or (N, D) with N at least 1")
    if not np.isfinite(rows).all():
        raise InputError("values contain a number that is not finite; leave such samples out")
    if samples < 1:
        raise InputError(f"samples is {samples}; it must be at least 1")
    if not 0 < level < 1:
        raise InputError(f"level is {level}; it must lie between 0 and 1")
    if strata is not None and len(strata) != len(rows):
        raise InputError(f"{len(strata)} strata for {len(rows)} values; give one for each")
