"""Check captions of the toy world fact by fact: color, shape, action and direction.

A caption is compared with the true caption of the event that it overlaps best. Loads no model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vidground.training.data.interval_metrics import iou_matrix
from vidground.training.evaluation.etbench_predictions import CAPTION_TASKS, Prediction
from vidground.training.evaluation.etbench_tasks import read_response
from vidground.training.toy.captions import Facts, facts

FACTS = ("color", "shape", "action", "direction")
MIN_IOU = 0.5
"""Minimum overlap of an event with a true one for their captions to be compared."""


@dataclass(frozen=True, slots=True)
class FactScores:
    """Correctness of the captions of found events; shares in [0, 1].

    Attributes:
        events: number of true events.
        found: share of them that an event overlaps by `MIN_IOU`.
        right: fact → share of the found events whose caption states it correctly; for an action
            without a direction, stating none is correct.
        whole: share of the found events with every fact right.
    """

    events: int
    found: float
    right: Mapping[str, float]
    whole: float


def in_toy_language(predictions: Sequence[Prediction]) -> bool:
    """Return whether there are true captions and all are sentences of the toy world."""
    captions = [caption for p in predictions for caption in p.captions]
    return bool(captions) and all(_is_sentence(caption) for caption in captions)


def fact_scores(predictions: Sequence[Prediction]) -> dict[str, FactScores]:
    """Return task → fact scores of dvc and slc; meaningful if `in_toy_language`.

    Events are paired one to one by their overlap, best first. Responses are read under the strict
    rules: captions follow `</evi>`.
    """
    scores = {}
    for task in CAPTION_TASKS:
        chosen = [p for p in predictions if p.task == task]
        if chosen:
            scores[task] = _scores(chosen)
    return scores


def _is_sentence(caption: str) -> bool:
    stated = facts(caption)
    complete = None not in (stated.color, stated.shape, stated.action)
    return complete and caption.strip().rstrip(".") in (stated.caption, stated.step)


def _scores(predictions: Sequence[Prediction]) -> FactScores:
    pairs = [pair for prediction in predictions for pair in _pairs(prediction)]
    events = sum(len(p.targets) for p in predictions)
    right = {
        name: _share([getattr(ours, name) == getattr(true, name) for ours, true in pairs])
        for name in FACTS
    }
    return FactScores(
        events=events,
        found=len(pairs) / events,
        right=right,
        whole=_share([ours == true for ours, true in pairs]),
    )


def _pairs(prediction: Prediction) -> list[tuple[Facts, Facts]]:
    """Return the stated and the true facts of each true event that was found."""
    stated = read_response(prediction, "strict").captions
    overlaps = iou_matrix([interval for interval, _ in stated], prediction.targets)
    pairs = []
    while overlaps.size and overlaps.max() >= MIN_IOU:
        ours, true = np.unravel_index(overlaps.argmax(), overlaps.shape)
        pairs.append((facts(stated[ours][1]), facts(prediction.captions[true])))
        overlaps[ours, :] = overlaps[:, true] = 0.0
    return pairs


def _share(hits: Sequence[bool]) -> float:
    return sum(hits) / len(hits) if hits else 0.0
