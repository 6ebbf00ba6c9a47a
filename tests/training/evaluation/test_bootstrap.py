import math

import numpy as np
import pytest
from numpy.typing import NDArray

from vidground.errors import InputError
from vidground.training.evaluation.bootstrap import bootstrap_interval


def mean(values: NDArray[np.float64]) -> float:
    return float(values.mean())


def test_interval_of_a_mean_is_near_the_normal_one() -> None:
    values = np.random.default_rng(1).normal(3.0, 2.0, size=400)
    found = bootstrap_interval(values, mean, samples=4000)
    half = 1.96 * values.std() / math.sqrt(400)
    assert found.estimate == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_a_higher_level_is_wider_and_a_constant_has_no_width() -> None:
    values = np.arange(50.0)
    narrow = bootstrap_interval(values, mean, level=0.5)
    wide = bootstrap_interval(values, mean, level=0.99)
    assert wide.low < narrow.low < narrow.estimate < narrow.high < wide.high
    flat = bootstrap_interval([2.0] * 7, mean)
    assert (flat.low, flat.estimate, flat.high) == (2.0, 2.0, 2.0)


def test_the_seed_decides_the_draws() -> None:
    values = np.arange(20.0)
    first = bootstrap_interval(values, mean, samples=50, seed=1)
    assert bootstrap_interval(values, mean, samples=50, seed=1) == first
    assert bootstrap_interval(values, mean, samples=50, seed=2) != first


def test_rows_stay_whole() -> None:
    rows = np.stack([np.arange(30.0), -np.arange(30.0)], axis=1)
    found = bootstrap_interval(rows, lambda v: float(np.abs(v.sum(axis=1)).max()), samples=50)
    assert (found.low, found.high) == (0.0, 0.0)


def test_strata_keep_their_sizes_and_places() -> None:
    labels = [0, 1, 0, 1, 1]
    values = [0.0, 1.0, 0.0, 1.0, 1.0]
    apart = bootstrap_interval(
        values, lambda v: float(v @ [1, 10, 100, 1000, 10000]), strata=labels
    )
    assert (apart.low, apart.high) == (11010, 11010)
    mixed = bootstrap_interval(values, mean)
    assert mixed.low < mixed.high


@pytest.mark.parametrize(
    ("values", "options", "reason"),
    [
        ([], {}, "N at least 1"),
        ([1.0, math.nan], {}, "not finite"),
        ([1.0], {"samples": 0}, "samples is 0"),
        ([1.0], {"level": 1.0}, "level is 1.0"),
        ([1.0], {"strata": [0, 1]}, "2 strata for 1 values"),
        (np.zeros((2, 2, 2)), {}, "shape \\(2, 2, 2\\)"),
    ],
)
def test_wrong_arguments_are_refused(
    values: object, options: dict[str, object], reason: str
) -> None:
    with pytest.raises(InputError, match=reason):
        bootstrap_interval(values, mean, **options)  # type: ignore[arg-type]
