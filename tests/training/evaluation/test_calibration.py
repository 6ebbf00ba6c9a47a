import numpy as np
import pytest

from vidground.errors import InputError
from vidground.results.types import Moment
from vidground.training.evaluation.calibration import calibration, moment_hits


def test_reliability_by_hand() -> None:
    scores = [0.12, 0.18, 0.92, 0.96, 1.0]
    found = calibration(scores, [False, True, True, True, False])
    low, high = found.bins[1], found.bins[9]
    assert (low.low, low.high, low.count) == (0.1, 0.2, 2)
    assert (low.mean_score, low.hit_rate) == (pytest.approx(0.15), 0.5)
    assert (high.count, high.mean_score) == (3, pytest.approx(0.96))
    assert high.hit_rate == pytest.approx(2 / 3)
    gaps = (0.35, 0.96 - 2 / 3)
    assert found.expected_error == pytest.approx((2 * gaps[0] + 3 * gaps[1]) / 5)
    assert found.largest_error == pytest.approx(0.35)
    brier = (0.12**2 + 0.82**2 + 0.08**2 + 0.04**2 + 1.0) / 5
    assert found.brier == pytest.approx(brier)
    empty = found.bins[0]
    assert (empty.count, empty.mean_score, empty.hit_rate) == (0, None, None)


def test_a_score_on_an_edge_belongs_to_the_upper_bin_and_one_to_the_last() -> None:
    edges = [i / 10 for i in range(11)]
    counts = [b.count for b in calibration(edges, [True] * 11).bins]
    assert counts == [1] * 9 + [2]


def test_scores_that_are_hit_rates_are_calibrated() -> None:
    generator = np.random.default_rng(0)
    scores = generator.uniform(size=20_000)
    hits = generator.uniform(size=20_000) < scores
    assert calibration(scores.tolist(), hits.tolist()).expected_error < 0.02
    assert calibration((scores**3).tolist(), hits.tolist()).expected_error > 0.2


@pytest.mark.parametrize(
    ("scores", "hits", "bins", "reason"),
    [
        ([0.5], [], 10, "1 scores and 0 outcomes"),
        ([], [], 10, "no scores"),
        ([1.5], [True], 10, "outside"),
        ([float("nan")], [True], 10, "outside"),
        ([0.5], [True], 0, "bins is 0"),
    ],
)
def test_wrong_arguments_are_refused(
    scores: list[float], hits: list[bool], bins: int, reason: str
) -> None:
    with pytest.raises(InputError, match=reason):
        calibration(scores, hits, bins=bins)


def test_a_moment_is_right_if_it_overlaps_some_target_enough() -> None:
    moments = [Moment(0, 10, 0.9), Moment(20, 25, 0.5), Moment(20, 24.9, 0.4)]
    targets = [(50.0, 60.0), (0.0, 8.0), (20.0, 30.0)]
    assert moment_hits(moments, targets) == [True, True, False]
    assert moment_hits(moments, targets, min_iou=0.9) == [False, False, False]
    assert moment_hits(moments, []) == [False, False, False]
    assert moment_hits([], targets) == []
    with pytest.raises(InputError, match="min_iou is 0"):
        moment_hits(moments, targets, min_iou=0)
