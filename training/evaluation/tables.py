"""Write scores as Markdown tables for readers."""

from __future__ import annotations

from collections.abc import Mapping

from vidground.training.evaluation.bootstrap import BootstrapInterval
from vidground.training.evaluation.calibration import Calibration
from vidground.training.evaluation.caption_facts import FACTS, MIN_IOU, FactScores
from vidground.training.evaluation.etbench import BenchmarkScores, table
from vidground.training.evaluation.markdown import NO_VALUE, markdown, percent
from vidground.training.evaluation.moment_scores import Detection


def etbench_tables(
    scores: BenchmarkScores,
    by_task: Mapping[str, Mapping[str, BootstrapInterval]],
    merged: Mapping[str, BootstrapInterval],
) -> str:
    """Return the benchmark's tables, then the intervals of its merged columns.

    Args:
        scores: of E.T. Bench under one set of rules.
        by_task: task → metric → interval.
        merged: column → interval; empty for none.
    """
    text = table(scores, by_task)
    if not merged:
        return text
    title = f"Merged columns, {scores.rules} rules, in percent, with 95 % intervals"
    return f"{text}\n{interval_table(title, scores.merged, merged)}"


def interval_table(
    title: str, values: Mapping[str, float], found: Mapping[str, BootstrapInterval]
) -> str:
    """Return values times 100, a column each, with their intervals below them.

    Args:
        title: a line above the table.
        values: by name.
        found: intervals by the same names; empty for none.
    """
    rows = [[percent(value) for value in values.values()]]
    if found:
        rows.append([_range(found.get(name)) for name in values])
    return f"{title}\n\n{markdown(list(values), rows)}\n"


def fact_table(scores: Mapping[str, FactScores]) -> str:
    """Return the share of facts that captions of the toy world state correctly, a row per task."""
    rows = [
        [
            task,
            str(found.events),
            percent(found.found),
            *(percent(found.right[name]) for name in FACTS),
            percent(found.whole),
        ]
        for task, found in scores.items()
    ]
    header = ["task", "events", "found", *FACTS, "all four"]
    title = f"Facts of the captions of events found at IoU {MIN_IOU:g}, in percent"
    return f"{title}\n\n{markdown(header, rows)}\n"


def calibration_table(found: Mapping[str, Calibration]) -> str:
    """Return how far the scores of moments are from being probabilities, a row per task."""
    rows = [
        [
            name,
            str(sum(part.count for part in values.bins)),
            percent(values.expected_error),
            percent(values.largest_error),
            f"{values.brier:.3f}",
        ]
        for name, values in found.items()
    ]
    header = ["moments of", "count", "expected error", "largest error", "Brier"]
    title = "Calibration of the scores of moments (right at IoU 0.5), errors in percent"
    return f"{title}\n\n{markdown(header, rows)}\n"


def detection_table(found: Detection) -> str:
    """Return the rates of found events and of false alarms at the threshold."""
    header = ["threshold", "found events", "false alarms", "interval", "queries"]
    row = [
        f"{found.threshold:g}",
        percent(found.found_rate),
        percent(found.false_alarm_rate),
        _range(found.interval),
        f"{found.queries}" + (f" ({found.failed} failed)" if found.failed else ""),
    ]
    blocks = ["Found at the threshold, in percent", markdown(header, [row])]
    if found.by_difference:
        parts = [percent(rate) for rate in found.by_difference.values()]
        blocks += [
            "False alarms by the attribute in which a query differs from the events",
            markdown(list(found.by_difference), [parts]),
        ]
    return "\n\n".join(blocks) + "\n"


def _range(interval: BootstrapInterval | None) -> str:
    return NO_VALUE if interval is None else f"{percent(interval.low)} to {percent(interval.high)}"
