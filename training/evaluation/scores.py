"""Evaluate predictions of E.T. Bench: metrics for programs, tables for readers.

Beside the benchmark's own scores (`etbench`): calibration of the scores of moments, false alarms,
and the facts in captions of the toy world. Loads no model and writes no file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from vidground.errors import InputError
from vidground.settings import GroundingSettings
from vidground.training.data.interval_metrics import iou_matrix
from vidground.training.evaluation.answer_reading import Rules
from vidground.training.evaluation.bootstrap import BootstrapInterval, bootstrap_interval
from vidground.training.evaluation.calibration import Calibration
from vidground.training.evaluation.caption_facts import fact_scores, in_toy_language
from vidground.training.evaluation.etbench import (
    MERGED,
    BenchmarkScores,
    SourceRecord,
    intervals,
    score,
)
from vidground.training.evaluation.etbench_predictions import TASKS, Prediction, check_predictions
from vidground.training.evaluation.etbench_tasks import read_response
from vidground.training.evaluation.moment_scores import calibrations, detection
from vidground.training.evaluation.prediction_lines import Line
from vidground.training.evaluation.tables import (
    calibration_table,
    detection_table,
    etbench_tables,
    fact_table,
)
from vidground.training.evaluation.text_similarity import TextSimilarity

SCHEMA_VERSION = 1
IOU_GRID = tuple(i / 20 for i in range(1, 20))
"""IoU thresholds of recall curves, in (0, 1)."""

_ONE_INTERVAL = ("tvg", "epm", "tem", "gvq")
_CURVE_TASKS = (*_ONE_INTERVAL, "tal", "evs", "dvc", "slc")


@dataclass(frozen=True, slots=True)
class EvaluationSettings:
    """How predictions are scored.

    Attributes:
        rules: of E.T. Bench, "official", "strict" or both.
        bootstrap: number of draws for the 95 % intervals; 0 for no intervals.
        seed: of the draws.
        threshold: score in [0, 1] from which a moment counts as found.

    Raises:
        InputError: a value is out of range.
    """

    rules: tuple[Rules, ...] = get_args(Rules)
    bootstrap: int = 1000
    seed: int = 0
    threshold: float = GroundingSettings().found_threshold

    def __post_init__(self) -> None:
        for name, held, limit in (
            ("rules", set(self.rules) <= set(get_args(Rules)) and self.rules, "official or strict"),
            ("bootstrap", self.bootstrap >= 0, "0 or more draws"),
            ("seed", self.seed >= 0, "0 or more"),
            ("threshold", 0 <= self.threshold <= 1, "in [0, 1]"),
        ):
            if not held:
                raise InputError(f"{name} is {getattr(self, name)}; it must be {limit}")


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The results of an evaluation.

    Attributes:
        metrics: all of them, as JSON values.
        text: Markdown tables.
        curves: name → task → recall at each of `IOU_GRID`.
        calibrations: of the moments' scores, by task.
    """

    metrics: Mapping[str, Any]
    text: str
    curves: Mapping[str, Mapping[str, Sequence[float]]]
    calibrations: Mapping[str, Calibration]


def evaluate_etbench(
    lines: Sequence[Line],
    absent: Sequence[Line] = (),
    *,
    settings: EvaluationSettings = EvaluationSettings(),
    similarity: TextSimilarity | None = None,
) -> Evaluation:
    """Return the evaluation of predictions of E.T. Bench's tasks.

    Captions of the toy world are scored fact by fact, too.

    Args:
        lines: samples with the response as `a`; those with `error` count as misses. Lines with
            `moments` give the calibration of the moments' scores.
        absent: predictions for events that are not in the videos.
        settings: rules, intervals and threshold.
        similarity: compares captions; without it there is no Sim.

    Raises:
        InputError: there are no lines, or a field is missing or wrong.
    """
    metrics = metrics_head("etbench", lines)
    checked = check_predictions((f"prediction {i}", line) for i, line in enumerate(lines))
    curves: dict[str, dict[str, list[float]]] = {}
    texts = []
    for rules in settings.rules:
        scores = score(lines, rules=rules, similarity=similarity)
        by_task = task_intervals(scores, settings)
        merged = merged_intervals(scores, settings)
        curves[rules] = recall_curves(checked, rules)
        metrics[rules] = _etbench_metrics(scores, by_task, merged) | {
            "recall": {"iou": list(IOU_GRID), **curves[rules]}
        }
        texts.append(etbench_tables(scores, by_task, merged))
    if in_toy_language(checked):
        facts = fact_scores(checked)
        metrics["facts"] = {task: asdict(scores) for task, scores in facts.items()}
        texts.append(fact_table(facts))
    reliability = calibrations(lines, absent)
    if reliability:
        found = detection(
            lines,
            absent,
            threshold=settings.threshold,
            samples=settings.bootstrap,
            seed=settings.seed,
        )
        metrics["calibration"] = {name: asdict(values) for name, values in reliability.items()}
        metrics["detection"] = asdict(found)
        texts += [calibration_table(reliability), detection_table(found)]
    return Evaluation(metrics, "\n".join(texts), curves, reliability)


def task_intervals(
    scores: BenchmarkScores, settings: EvaluationSettings
) -> dict[str, dict[str, BootstrapInterval]]:
    """Return bootstrap intervals of every task's headline metrics; see `etbench.intervals`."""
    if not settings.bootstrap:
        return {}
    return intervals(scores, samples=settings.bootstrap, seed=settings.seed)


def merged_intervals(
    scores: BenchmarkScores, settings: EvaluationSettings
) -> dict[str, BootstrapInterval]:
    """Return bootstrap intervals of the merged columns; samples are drawn within each source."""
    if not settings.bootstrap:
        return {}
    found = {}
    for column in scores.merged:
        tasks, metric = MERGED[column]
        records = [record for record in scores.records if record.task in tasks]
        found[column] = bootstrap_interval(
            np.concatenate([np.arange(len(record.idx)) for record in records]),
            _merged_statistic(records, metric),
            samples=settings.bootstrap,
            seed=settings.seed,
            strata=[i for i, record in enumerate(records) for _ in record.idx],
        )
    return found


def recall_curves(predictions: Sequence[Prediction], rules: Rules) -> dict[str, list[float]]:
    """Return task → recall at each of `IOU_GRID`, the mean over samples.

    Recall is the share of true intervals with an overlap of at least the threshold. Where a single
    interval is asked for, the first one counts with its best overlap; elsewhere all count. An
    unreadable response has recall 0. Overlaps are 64-bit numbers, so that one equal to a threshold
    reaches it, unlike in the metrics (see `etbench_tasks`).
    """
    found: dict[str, list[list[float]]] = {}
    for prediction in predictions:
        if prediction.task not in _CURVE_TASKS:
            continue
        single = prediction.task in _ONE_INTERVAL
        stated = read_response(prediction, rules).intervals
        overlaps = iou_matrix(stated[:1] if single else stated, prediction.targets)
        best = overlaps.max(axis=1 if single else 0, initial=0.0)
        recall = [float((best >= iou).mean()) if best.size else 0.0 for iou in IOU_GRID]
        found.setdefault(prediction.task, []).append(recall)
    return {task: np.mean(found[task], axis=0).tolist() for task in TASKS if task in found}


def _merged_statistic(
    records: Sequence[SourceRecord], metric: str
) -> Callable[[NDArray[np.float64]], float]:
    """Return the mean over tasks as a function of drawn rows, indices into their own records."""
    ends = np.cumsum([len(record.idx) for record in records])[:-1]

    def statistic(drawn: NDArray[np.float64]) -> float:
        by_task: dict[str, list[float]] = {}
        for record, rows in zip(records, np.split(drawn.astype(np.int64), ends), strict=True):
            value = record.metrics(record.values[rows])[metric]
            by_task.setdefault(record.task, []).append(value)
        return sum(sum(values) / len(values) for values in by_task.values()) / len(by_task)

    return statistic


def metrics_head(benchmark: str, lines: Sequence[Line]) -> dict[str, Any]:
    """Return the fields that begin every benchmark's metrics."""
    return {
        "schema_version": SCHEMA_VERSION,
        "benchmark": benchmark,
        "samples": len(lines),
        "failures": sum("error" in line for line in lines),
    }


def _etbench_metrics(
    scores: BenchmarkScores,
    by_task: Mapping[str, Mapping[str, BootstrapInterval]],
    merged: Mapping[str, BootstrapInterval],
) -> dict[str, Any]:
    return {
        "merged": dict(scores.merged),
        "merged_intervals": {name: asdict(interval) for name, interval in merged.items()},
        "tasks": {task: dict(metrics) for task, metrics in scores.tasks.items()},
        "task_intervals": {
            task: {name: asdict(interval) for name, interval in found.items()}
            for task, found in by_task.items()
        },
        "sources": {
            task: {source: dict(metrics) for source, metrics in sources.items()}
            for task, sources in scores.sources.items()
        },
        "parse_rates": {task: _parse_rate(sources) for task, sources in scores.sources.items()},
        "notes": list(scores.notes),
    }


def _parse_rate(sources: Mapping[str, Mapping[str, float]]) -> float:
    """Return the share of a task's responses that could be read."""
    total = sum(metrics["Total"] for metrics in sources.values())
    return 1 - sum(metrics["Failed"] for metrics in sources.values()) / total
