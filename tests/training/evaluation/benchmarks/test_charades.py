from typing import Any

import pytest

from vidground.errors import InputError
from vidground.training.evaluation.benchmarks.charades import score_charades


def sample(idx: int, response: str, **fields: Any) -> dict[str, Any]:
    return {
        "task": "tvg",
        "source": "charades_sta",
        "idx": idx,
        "video": "v.mp4",
        "tgt": [0, 10],
        "a": response,
    } | fields


@pytest.mark.parametrize(
    ("seconds", "reached"), [(3, (0.3,)), (5, (0.3, 0.5)), (7, (0.3, 0.5, 0.7))]
)
def test_an_overlap_equal_to_a_threshold_reaches_it(
    seconds: int, reached: tuple[float, ...]
) -> None:
    recall = score_charades([sample(0, f"</evi> 0 - {seconds}")]).recall
    assert tuple(t for t, share in recall.items() if share) == reached


def test_overlaps_divide_by_the_stretch_from_first_start_to_last_end() -> None:
    # 0.1 of 0.2 s. The sum of the lengths minus the common part would be 0.20000000000000004 s.
    assert score_charades([sample(0, "</evi> 0 - 0.1", tgt=[0, 0.2])]).recall[0.5] == 1.0
    assert score_charades([sample(0, "</evi> 4 - 4", tgt=[4, 4])]).overlaps == (0.0,)


def test_recall_divides_by_all_queries() -> None:
    given = [
        sample(0, "</evi> The event happens in 0 - 10 ."),
        sample(1, "</evi> The event happens in 0 - 5 ."),
        sample(2, "</evi> I could not find it."),
        sample(3, "</evi> The event happens in 50 - 60 and 0 - 10 ."),
        sample(4, "The event happens in 0 - 10 ."),
        sample(5, "</evi> 0 - 10", source="qvhighlights"),
        sample(6, "</evi> 0 - 10", task="epm"),
    ]
    scores = score_charades(given)
    assert scores.recall == {0.3: 2 / 5, 0.5: 2 / 5, 0.7: 1 / 5}
    assert scores.mean_iou == pytest.approx(1.5 / 5)
    assert scores.overlaps == (1.0, 0.5, 0.0, 0.0, 0.0)
    assert scores.failed == 2


def test_evidence_stands_in_for_an_answer_without_times() -> None:
    scores = score_charades(
        [sample(0, "0 - 10 </evi> There it is."), sample(1, "3 - 4 </evi> 0 - 10")]
    )
    assert scores.overlaps == (1.0, 1.0)
    assert scores.failed == 0


def test_other_predictions_alone_are_refused() -> None:
    with pytest.raises(InputError, match="source charades_sta"):
        score_charades([sample(0, "", source="qvhighlights")])
