from typing import Any

import pytest

from tests.helpers.paths import GOLDEN
from vidground.errors import InputError
from vidground.training.evaluation.benchmarks.youcook2 import (
    captions_by_video,
    score_video,
    score_youcook2,
)
from vidground.training.evaluation.etbench import load_predictions

PREDICTIONS = GOLDEN / "etbench" / "predictions.json"


def sample(response: str, **fields: Any) -> dict[str, Any]:
    return {
        "task": "dvc",
        "source": "youcook2",
        "idx": 0,
        "video": "youcook2/v.mp4",
        "tgt": [[0, 10], [10, 20]],
        "g": ["stir the pot slowly", "cut two red onions"],
        "a": response,
    } | fields


def test_scores_equal_the_evaluation_of_the_published_numbers() -> None:
    # Computed once by that evaluation, its Stanford tokenizer replaced by one that keeps
    # lower-case letters and digits, which on these captions is the same.
    scores = score_youcook2(load_predictions(PREDICTIONS))
    assert scores.precision == pytest.approx(0.5651041666666666)
    assert scores.recall == pytest.approx(0.5208333333333334)
    assert scores.f1 == pytest.approx(0.5385102473591318)
    assert scores.cider == pytest.approx(1.151647331809155)
    assert (len(scores.videos), scores.failed) == (40, 4)


def test_one_video_by_hand() -> None:
    # The first caption fits exactly. The second overlaps its target by 0.4: found at 0.3 only.
    found = [((0.0, 10.0), "Stir the pot slowly."), ((10.0, 14.0), "cut two red onions")]
    truth = [((0.0, 10.0), "stir the pot slowly"), ((10.0, 20.0), "cut two red onions")]
    scores = score_video("v", found, truth)
    assert scores.precision == pytest.approx((1 + 3 * 0.5) / 4)
    assert scores.recall == pytest.approx((1 + 3 * 0.5) / 4)
    # At 0.3 both captions equal their references: 10. Above, one of two has none: 5.
    assert scores.cider == pytest.approx((10 + 3 * 5) / 4)
    assert scores.captions == 2


def test_a_video_that_cannot_be_read_scores_zero_and_counts() -> None:
    good = sample("</evi>0 - 10, stir the pot slowly. 10 - 20, cut two red onions")
    bad = sample("</evi> nothing", idx=1, video="youcook2/w.mp4")
    alone, both = score_youcook2([good]), score_youcook2([good, bad])
    assert (alone.f1, alone.cider, alone.failed) == (1.0, pytest.approx(10.0), 0)
    assert (both.f1, both.cider, both.failed) == (0.5, pytest.approx(5.0), 1)


def test_captions_by_video() -> None:
    bad = sample("</evi> nothing", idx=1, video="youcook2/w.mp4")
    other = sample("</evi> 1 - 2, stir the pot", source="hirest", idx=2)
    given = [sample("1 - 2 </evi> 10 - 3 , Stir the pot."), bad, other]
    assert captions_by_video(given) == {"v.mp4": [((3.0, 10.0), "stir the pot.")], "w.mp4": []}


def test_wrong_predictions_are_refused() -> None:
    with pytest.raises(InputError, match="nothing to score"):
        score_youcook2([sample("", source="hirest")])
    with pytest.raises(InputError, match=r"v\.mp4 has two predictions"):
        score_youcook2([sample(""), sample("", idx=1)])
    with pytest.raises(InputError, match="no true captions"):
        score_video("v", [], [])
