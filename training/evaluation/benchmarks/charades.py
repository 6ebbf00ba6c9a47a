"""Score Charades-STA: recall of sentence grounding, from predictions in E.T. Bench's form.

R@m is the share of queries whose first interval overlaps the true one by at least m. Overlaps are
computed as in the released evaluation, in 64-bit numbers: the common part divided by the stretch
from the earlier start to the later end. An overlap of exactly m therefore reaches m, other than in
E.T. Bench. An unreadable response is a miss; the released evaluation leaves such queries out of the
number it divides by.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vidground.errors import InputError
from vidground.training.data.interval_metrics import Interval
from vidground.training.evaluation.answer_reading import answer_text, evidence_text, read_intervals
from vidground.training.evaluation.etbench_predictions import Prediction, check_predictions

THRESHOLDS = (0.3, 0.5, 0.7)
SOURCE = "charades_sta"


@dataclass(frozen=True, slots=True)
class CharadesScores:
    """Scores in [0, 1]; published tables show percent.

    Attributes:
        recall: threshold → R@threshold.
        mean_iou: mean overlap over all queries.
        overlaps: of each query, in the order given; 0 for an unreadable response.
        failed: number of unreadable responses.
    """

    recall: Mapping[float, float]
    mean_iou: float
    overlaps: tuple[float, ...]
    failed: int


def score_charades(predictions: Sequence[Mapping[str, Any]]) -> CharadesScores:
    """Return the scores of predictions whose task is tvg and whose source is charades_sta.

    The first interval after `</evi>` counts; if the answer holds none, the first one before.

    Args:
        predictions: samples in E.T. Bench's form with the response as `a`; others are ignored.

    Raises:
        InputError: a field is wrong, or there is no such prediction.
    """
    named = ((f"prediction {i}", item) for i, item in enumerate(predictions))
    chosen = [p for p in check_predictions(named) if (p.task, p.source) == ("tvg", SOURCE)]
    if not chosen:
        raise InputError(f"no prediction has task tvg and source {SOURCE}; nothing to score")
    overlaps = [_overlap(prediction) for prediction in chosen]
    values = tuple(0.0 if overlap is None else overlap for overlap in overlaps)
    return CharadesScores(
        recall={t: sum(value >= t for value in values) / len(values) for t in THRESHOLDS},
        mean_iou=sum(values) / len(values),
        overlaps=values,
        failed=overlaps.count(None),
    )


def _overlap(prediction: Prediction) -> float | None:
    text = answer_text(prediction.response, "strict", staged=prediction.staged)
    answer = read_intervals(text or "")
    found = answer or read_intervals(evidence_text(prediction.response))
    return _iou(found[0], prediction.targets[0]) if found else None


def _iou(first: Interval, second: Interval) -> float:
    """Return the overlap of two intervals in [0, 1]; 0 if both are the same instant."""
    common = max(min(first[1], second[1]) - max(first[0], second[0]), 0.0)
    hull = max(first[1], second[1]) - min(first[0], second[0])
    return common / hull if hull else 0.0
