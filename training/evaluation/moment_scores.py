"""Calibration of moments' scores, and false alarms of queries for absent events.

Reads lines of predictions with moments, as `vidground.training.evaluation.predictor` writes them.
Loads no model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vidground.errors import InputError
from vidground.results.types import Moment
from vidground.training.data.interval_metrics import Interval
from vidground.training.evaluation.bootstrap import BootstrapInterval, bootstrap_interval
from vidground.training.evaluation.calibration import Calibration, calibration, moment_hits
from vidground.training.evaluation.etbench_predictions import read_prediction
from vidground.training.evaluation.prediction_lines import Line

CALIBRATED_TASKS = ("tvg", "epm", "tal")
"""Tasks whose targets are the moments asked for, so that a moment is right or wrong; in other tasks
it is a part of a summary, or the evidence of an answer."""

ALL = "all"
"""The calibrated tasks together with the queries for absent events."""


@dataclass(frozen=True, slots=True)
class Detection:
    """How often an event is found that is in the video, and one that is not.

    Attributes:
        threshold: score in [0, 1] of the best moment from which it counts as found.
        found_rate: share of the queries of tvg and epm with a found moment; None without any.
        queries: number of queries for absent events, without those that failed.
        failed: number of those that failed.
        false_alarm_rate: share of `queries` with a found moment; None without any.
        interval: bootstrap interval of `false_alarm_rate`; None without one.
        by_difference: attribute in which a query differs from the events → false alarm rate.
    """

    threshold: float
    found_rate: float | None
    queries: int
    failed: int
    false_alarm_rate: float | None
    interval: BootstrapInterval | None
    by_difference: Mapping[str, float]


def calibrations(lines: Sequence[Line], absent: Sequence[Line] = ()) -> dict[str, Calibration]:
    """Return the calibration of the scores of all moments by task, and of all together.

    A moment is right if it overlaps a target by 0.5. Tasks without any moment are left out.

    Args:
        lines: predictions of the benchmark.
        absent: predictions for absent events, whose moments are all wrong.

    Raises:
        InputError: a field is wrong.
    """
    outcomes: dict[str, list[tuple[float, bool]]] = {}
    for number, line in enumerate(lines):
        if line.get("task") in CALIBRATED_TASKS and "moments" in line:
            targets = read_prediction(line, f"prediction {number}").targets
            outcomes.setdefault(line["task"], []).extend(_outcomes(line, targets))
    together = [pair for pairs in outcomes.values() for pair in pairs]
    together += [pair for line in absent if "moments" in line for pair in _outcomes(line, ())]
    return {
        name: calibration([score for score, _ in pairs], [hit for _, hit in pairs])
        for name, pairs in (outcomes | {ALL: together}).items()
        if pairs
    }


def detection(
    lines: Sequence[Line], absent: Sequence[Line], *, threshold: float, samples: int, seed: int = 0
) -> Detection:
    """Return the rates of found events and of false alarms.

    Args:
        lines: predictions of the benchmark.
        absent: predictions for absent events.
        threshold: score in [0, 1] from which a moment counts as found.
        samples: number of bootstrap draws; 0 for no interval.
        seed: of the draws.

    Raises:
        InputError: a field is wrong.
    """
    present = [
        _best_score(line) >= threshold
        for line in lines
        if line.get("task") in ("tvg", "epm") and "moments" in line
    ]
    asked = [line for line in absent if "moments" in line]
    alarms = [float(_best_score(line) >= threshold) for line in asked]
    by_difference: dict[str, list[float]] = {}
    for line, alarm in zip(asked, alarms, strict=True):
        by_difference.setdefault(str(line.get("differs", "unknown")), []).append(alarm)
    return Detection(
        threshold=threshold,
        found_rate=_share(present) if present else None,
        queries=len(asked),
        failed=len(absent) - len(asked),
        false_alarm_rate=_share(alarms) if alarms else None,
        interval=_interval(alarms, samples, seed) if alarms and samples else None,
        by_difference={name: _share(hits) for name, hits in by_difference.items()},
    )


def _share(hits: Sequence[float]) -> float:
    return sum(hits) / len(hits)


def _interval(hits: Sequence[float], samples: int, seed: int) -> BootstrapInterval:
    return bootstrap_interval(hits, lambda drawn: float(drawn.mean()), samples=samples, seed=seed)


def _outcomes(line: Line, targets: Sequence[Interval]) -> list[tuple[float, bool]]:
    moments = _moments(line)
    return list(zip((m.score or 0.0 for m in moments), moment_hits(moments, targets), strict=True))


def _best_score(line: Line) -> float:
    return max((moment.score or 0.0 for moment in _moments(line)), default=-1.0)


def _moments(line: Line) -> list[Moment]:
    try:
        return [Moment(float(a), float(b), float(score)) for a, b, score in line["moments"]]
    except (TypeError, ValueError) as error:
        raise InputError(
            f"moments of {line.get('task')} idx {line.get('idx')} are {line['moments']!r}; each "
            "must be [start, end, score]"
        ) from error
