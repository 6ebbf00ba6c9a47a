"""Whether captions of the toy world say what is there: color, shape, action and direction.

A caption is compared with the one true caption of the event it was given for, so that a score
says how much of what a model tells it has seen. Knows no model.
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
"""Least overlap of an event with a true one for its caption to be compared with that one's."""


@dataclass(frozen=True, slots=True)
class FactScores:
    """How many of the captions of events that were found are right, all in [0, 1].

    events: true events. found: share of them that an event overlaps by `MIN_IOU`. right: fact →
    share of the found ones whose caption says it right; of an action without a direction, none
    is the right one. whole: share with every fact right.
    """

    events: int
    found: float
    right: Mapping[str, float]
    whole: float


def in_toy_language(predictions: Sequence[Prediction]) -> bool:
    """Whether there are captions to be told, and all of them are sentences of the toy world."""
    captions = [caption for p in predictions for caption in p.captions]
    return bool(captions) and all(_is_sentence(caption) for caption in captions)


def fact_scores(predictions: Sequence[Prediction]) -> dict[str, FactScores]:
    """The facts of dvc and slc; see `in_toy_language` for when this makes sense.

    Events are paired one to one by their overlap, best first. Responses are read by the strict
    rules: captions follow `</evi>`.
    """
    scores = {}
    for task in CAPTION_TASKS:
        chosen = [p for p in predictions if p.task == task]
        if chosen:
            scores[task] = _scores(chosen)
    return scores


def _is_sentence(caption: str) -> bool:
    told = facts(caption)
    named = None not in (told.color, told.shape, told.action)
    return named and caption.strip().rstrip(".") in (told.caption, told.step)


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
    """What was said and what is true of the true events that were found."""
    told = read_response(prediction, "strict").captions
    overlaps = iou_matrix([interval for interval, _ in told], prediction.targets)
    pairs = []
    while overlaps.size and overlaps.max() >= MIN_IOU:
        ours, true = np.unravel_index(overlaps.argmax(), overlaps.shape)
        pairs.append((facts(told[ours][1]), facts(prediction.captions[true])))
        overlaps[ours, :] = overlaps[:, true] = 0.0
    return pairs


def _share(hits: Sequence[bool]) -> float:
    return sum(hits) / len(hits) if hits else 0.0
