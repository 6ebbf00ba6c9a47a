"""Scores as Markdown tables for readers. Computes nothing but percents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vidground.training.evaluation.bootstrap import BootstrapInterval
from vidground.training.evaluation.calibration import Calibration
from vidground.training.evaluation.caption_facts import FACTS, MIN_IOU, FactScores
from vidground.training.evaluation.etbench import BenchmarkScores, table
from vidground.training.evaluation.moment_scores import Detection

_NONE = "-"


def etbench_tables(
    scores: BenchmarkScores,
    by_task: Mapping[str, Mapping[str, BootstrapInterval]],
    merged: Mapping[str, BootstrapInterval],
) -> str:
    """The benchmark's tables, and the ranges of its merged columns."""
    text = table(scores, by_task)
    if not merged:
        return text
    title = f"Merged columns, {scores.rules} rules, in percent, with their ranges"
    return f"{text}\n{interval_table(title, scores.merged, merged)}"


def interval_table(
    title: str, values: Mapping[str, float], found: Mapping[str, BootstrapInterval]
) -> str:
    """Values times 100, a column each; below them their intervals, if there are any."""
    rows = [[_percent(value) for value in values.values()]]
    if found:
        rows.append([_range(found.get(name)) for name in values])
    return f"{title}\n\n{_markdown(list(values), rows)}\n"


def fact_table(scores: Mapping[str, FactScores]) -> str:
    """What captions of the toy world say right, a row for each task."""
    rows = [
        [
            task,
            str(found.events),
            _percent(found.found),
            *(_percent(found.right[name]) for name in FACTS),
            _percent(found.whole),
        ]
        for task, found in scores.items()
    ]
    header = ["task", "events", "found", *FACTS, "all four"]
    title = f"Facts of the captions of events found at IoU {MIN_IOU:g}, in percent"
    return f"{title}\n\n{_markdown(header, rows)}\n"


def calibration_table(found: Mapping[str, Calibration]) -> str:
    """How far the scores of moments are from being probabilities."""
    rows = [
        [
            name,
            str(sum(part.count for part in values.bins)),
            _percent(values.expected_error),
            _percent(values.largest_error),
            f"{values.brier:.3f}",
        ]
        for name, values in found.items()
    ]
    header = ["moments of", "count", "expected error", "largest error", "Brier"]
    title = "Calibration of the scores of moments (right at IoU 0.5), errors in percent"
    return f"{title}\n\n{_markdown(header, rows)}\n"


def detection_table(found: Detection) -> str:
    """What is found, and what is found though it is not there."""
    header = ["threshold", "found of what is there", "false alarms", "range", "queries"]
    row = [
        f"{found.threshold:g}",
        _percent(found.found_rate),
        _percent(found.false_alarm_rate),
        _range(found.interval),
        f"{found.queries}" + (f" ({found.failed} failed)" if found.failed else ""),
    ]
    blocks = ["Found at the threshold, in percent", _markdown(header, [row])]
    if found.by_difference:
        parts = [_percent(rate) for rate in found.by_difference.values()]
        blocks += [
            "False alarms by what a query differs in from what is there",
            _markdown(list(found.by_difference), [parts]),
        ]
    return "\n\n".join(blocks) + "\n"


def _percent(value: float | None) -> str:
    return _NONE if value is None else f"{100 * value:.1f}"


def _range(interval: BootstrapInterval | None) -> str:
    return _NONE if interval is None else f"{_percent(interval.low)} to {_percent(interval.high)}"


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
