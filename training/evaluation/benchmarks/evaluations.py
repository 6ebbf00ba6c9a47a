"""Score the benchmarks beside E.T. Bench: metrics for programs, tables for readers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidground.training.evaluation.benchmarks.catalog import BENCHMARKS
from vidground.training.evaluation.benchmarks.charades import THRESHOLDS, score_charades
from vidground.training.evaluation.benchmarks.multiple_choice import ChoiceScores, score_choices
from vidground.training.evaluation.benchmarks.youcook2 import score_youcook2
from vidground.training.evaluation.bootstrap import BootstrapInterval, bootstrap_interval
from vidground.training.evaluation.markdown import markdown, percent
from vidground.training.evaluation.prediction_lines import Line
from vidground.training.evaluation.scores import (
    IOU_GRID,
    Evaluation,
    EvaluationSettings,
    evaluate_etbench,
    metrics_head,
)
from vidground.training.evaluation.tables import interval_table
from vidground.training.evaluation.text_similarity import TextSimilarity


def evaluate(
    benchmark: str,
    lines: Sequence[Line],
    absent: Sequence[Line] = (),
    *,
    settings: EvaluationSettings,
    similarity: TextSimilarity | None = None,
) -> Evaluation:
    """Return the evaluation of predictions of any benchmark.

    Args:
        benchmark: a key of `BENCHMARKS`.
        lines: its predictions.
        absent: predictions for events that are not in the videos; E.T. Bench only.
        settings: of the scores and intervals.
        similarity: compares captions; E.T. Bench only.

    Raises:
        InputError: there are no such predictions, or a field is missing or wrong.
    """
    if benchmark == "charades":
        return evaluate_charades(lines, settings=settings)
    if benchmark == "youcook2":
        return evaluate_youcook2(lines, settings=settings)
    if benchmark == "etbench":
        return evaluate_etbench(lines, absent, settings=settings, similarity=similarity)
    return evaluate_choices(lines, benchmark, BENCHMARKS[benchmark].title, settings=settings)


def evaluate_charades(lines: Sequence[Line], *, settings: EvaluationSettings) -> Evaluation:
    """Return the recall of sentence grounding on Charades-STA.

    Args:
        lines: predictions; see `score_charades`, also for errors.
        settings: of the intervals.
    """
    scores = score_charades(lines)
    overlaps = np.array(scores.overlaps)
    rows = {f"R@{t:g}": overlaps >= t for t in THRESHOLDS} | {"mIoU": overlaps}
    values = {f"R@{t:g}": recall for t, recall in scores.recall.items()}
    values["mIoU"] = scores.mean_iou
    found = _mean_intervals({name: row.astype(float) for name, row in rows.items()}, settings)
    curve = {"tvg": [float((overlaps >= iou).mean()) for iou in IOU_GRID]}
    counts = {"queries": len(overlaps), "unreadable": scores.failed}
    metrics = _plain_metrics("charades", lines, counts, values, found)
    title = f"Charades-STA, in percent, {len(overlaps)} queries, {scores.failed} unreadable"
    text = interval_table(title, values, found)
    return Evaluation(metrics, text, {"charades": curve}, {})


def evaluate_youcook2(lines: Sequence[Line], *, settings: EvaluationSettings) -> Evaluation:
    """Return the scores of dense captioning on YouCook2.

    Args:
        lines: predictions; see `score_youcook2` for what is computed, and for errors.
        settings: of the intervals.
    """
    scores = score_youcook2(lines)
    names = ("precision", "recall", "f1", "cider")
    values = {name: float(getattr(scores, name)) for name in names}
    rows = {name: np.array([getattr(video, name) for video in scores.videos]) for name in names}
    found = _mean_intervals(rows, settings)
    counts = {"videos": len(scores.videos), "unreadable": scores.failed}
    metrics = _plain_metrics("youcook2", lines, counts, values, found)
    videos = "1 video" if len(scores.videos) == 1 else f"{len(scores.videos)} videos"
    title = f"YouCook2, times 100, {videos}, {scores.failed} unreadable"
    return Evaluation(metrics, interval_table(title, values, found), {}, {})


def evaluate_choices(
    lines: Sequence[Line],
    source: str,
    title: str,
    *,
    settings: EvaluationSettings,
) -> Evaluation:
    """Return the accuracy on a multiple-choice benchmark, overall and by class.

    Args:
        lines: predictions; see `score_choices`, also for errors.
        source: "mvbench" or "videomme".
        title: the benchmark's name for readers.
        settings: of the interval.
    """
    scores = score_choices(lines, source)
    values = {"Acc": scores.accuracy}
    found = _mean_intervals({"Acc": scores.hits}, settings)
    counts = {"questions": len(scores.hits), "unreadable": scores.failed}
    metrics = _plain_metrics(source, lines, counts, values, found)
    metrics["groups"] = {
        kind: {
            name: {"Acc": accuracy, "questions": count} for name, (accuracy, count) in of.items()
        }
        for kind, of in scores.groups.items()
    }
    head = f"{title}, in percent, {len(scores.hits)} questions, {scores.failed} unreadable"
    return Evaluation(
        metrics, "\n".join([interval_table(head, values, found), *_by_class(scores)]), {}, {}
    )


def _by_class(scores: ChoiceScores) -> list[str]:
    return [
        markdown(
            [kind, "Acc", "questions"],
            [[name, percent(accuracy), str(count)] for name, (accuracy, count) in of_kind.items()],
        )
        + "\n"
        for kind, of_kind in scores.groups.items()
    ]


def _plain_metrics(
    benchmark: str,
    lines: Sequence[Line],
    counts: Mapping[str, int],
    values: Mapping[str, float],
    found: Mapping[str, BootstrapInterval],
) -> dict[str, Any]:
    intervals_found = {name: asdict(interval) for name, interval in found.items()}
    head = metrics_head(benchmark, lines)
    return head | {**counts, "scores": dict(values), "intervals": intervals_found}


def _mean_intervals(
    rows: Mapping[str, NDArray[np.float64]], settings: EvaluationSettings
) -> dict[str, BootstrapInterval]:
    """Return intervals of the means of (N,) values each."""
    if not settings.bootstrap:
        return {}
    return {
        name: bootstrap_interval(
            values,
            lambda drawn: float(drawn.mean()),
            samples=settings.bootstrap,
            seed=settings.seed,
        )
        for name, values in rows.items()
    }
