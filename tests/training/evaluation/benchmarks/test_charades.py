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
