import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidground.training.data.interval_metrics import (
    DENSE_EPSILON_S,
    covered_shares,
    harmonic_mean,
    iou_matrix,
    seconds_f1,
)

seconds = st.integers(0, 60)
spans = st.lists(st.tuples(seconds, seconds).map(lambda p: (min(p), max(p))), max_size=6)


def test_overlaps_by_hand() -> None:
    found = iou_matrix([(0, 10), (20, 30), (5, 5)], [(0, 10), (5, 25), (5, 5)])
    assert found == pytest.approx(np.array([[1, 0.2, 0], [0, 0.2, 0], [0, 0, 0]]))


def test_an_overlap_that_equals_a_threshold_reaches_it_but_not_in_dense_captioning() -> None:
    assert iou_matrix([(0, 7)], [(0, 10)])[0, 0] >= 0.7
    assert iou_matrix([(0, 7)], [(0, 10)], epsilon=DENSE_EPSILON_S)[0, 0] < 0.7


def test_shares_of_predictions_and_targets_that_are_hit() -> None:
    hits = np.array([[True, True, False], [False, False, False]])
    assert covered_shares(hits) == (0.5, pytest.approx(2 / 3))
    assert covered_shares(np.zeros((0, 3), dtype=bool)) == (0.0, 0.0)


def test_harmonic_mean() -> None:
    assert harmonic_mean(0.5, 0.25) == pytest.approx(1 / 3)
    assert harmonic_mean(0.0, 0.0) == 0.0


def test_seconds_are_counted_once_and_rounded_to_even() -> None:
    # 0..5 and 3..8 cover eight seconds, four of them true.
    assert seconds_f1([(0, 5), (3, 8)], [(4, 10)]) == pytest.approx(2 * 4 / (8 + 6))
    # round(0.5) = 0 and round(2.5) = 2: seconds 0 and 1.
    assert seconds_f1([(0.5, 2.5)], [(0, 2)]) == 1.0
    assert seconds_f1([(0, 5)], [(5, 9)]) == 0.0
    assert seconds_f1([], [(5, 9)]) == 0.0


@given(spans, spans)
def test_seconds_f1_equals_counting_them(
    predicted: list[tuple[int, int]], targets: list[tuple[int, int]]
) -> None:
    ours = {s for start, end in predicted for s in range(start, end)}
    truth = {s for start, end in targets for s in range(start, end)}
    expected = 2 * len(ours & truth) / (len(ours) + len(truth)) if ours & truth else 0.0
    assert seconds_f1(predicted, targets) == pytest.approx(expected)
