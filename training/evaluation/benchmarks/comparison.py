"""Set a run's scores beside published ones: difference, and interval of the run's own score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from vidground.training.evaluation.benchmarks.published import ROWS
from vidground.training.evaluation.etbench import MERGED, headline
from vidground.training.evaluation.etbench_predictions import TASKS
from vidground.training.evaluation.markdown import markdown
from vidground.training.evaluation.scores import Evaluation

_YOUCOOK2 = {"f1": "F1", "cider": "CIDEr"}
_ETBENCH_COLUMNS = (*(f"{task} {name}" for task in TASKS for name in headline(task)), *MERGED)


@dataclass(frozen=True, slots=True)
class Compared:
    """One score beside the published one; times 100, as in published tables.

    Attributes:
        column: name of the score.
        ours: of this run; None if it was not computed.
        low: lower end of the bootstrap interval of `ours`; None without one.
        high: upper end.
        published: None if nothing was published.
    """

    column: str
    ours: float | None
    low: float | None
    high: float | None
    published: float | None

    @property
    def difference(self) -> float | None:
        """`ours` minus `published`; None if one of them is missing."""
        if self.ours is None or self.published is None:
            return None
        return self.ours - self.published

    @property
    def within(self) -> bool | None:
        """Whether the published number lies in the interval; None if either is missing."""
        if self.low is None or self.high is None or self.published is None:
            return None
        return self.low <= self.published <= self.high


def add_comparison(evaluation: Evaluation, benchmark: str, row: str) -> Evaluation:
    """Return an evaluation with the comparison before its tables and in its metrics.

    Args:
        evaluation: of the benchmark.
        benchmark: as for `compare`.
        row: a key of `ROWS`.
    """
    compared = compare(evaluation.metrics, benchmark, row)
    table = comparison_table(compared, benchmark, row)
    record = {"published": comparison_record(compared, row)}
    return replace(
        evaluation,
        metrics={**evaluation.metrics, **record},
        text=f"{table}\n{evaluation.text}",
    )


def compare(metrics: Mapping[str, Any], benchmark: str, row: str) -> list[Compared]:
    """Return a run's scores beside a published row.

    Args:
        metrics: of `Evaluation.metrics`.
        benchmark: "etbench", "charades", "youcook2", "mvbench" or "videomme".
        row: a key of `ROWS`; E.T. Bench's scores are those under the row's rules.
    """
    published = ROWS[row].scores.get(benchmark, {})
    found = _etbench(metrics[ROWS[row].rules]) if benchmark == "etbench" else _plain(metrics)
    order = _ETBENCH_COLUMNS if benchmark == "etbench" else (*found, *published)
    names = [name for name in dict.fromkeys(order) if name in found or name in published]
    return [
        Compared(name, *found.get(name, (None, None, None)), published.get(name)) for name in names
    ]


def comparison_table(compared: Sequence[Compared], benchmark: str, row: str) -> str:
    """Return a Markdown table with a line per score; other published rows stand on the right."""
    others = [
        published
        for name, published in ROWS.items()
        if name != row and benchmark in published.scores
    ]
    header = ["score", "ours", "95 % interval", ROWS[row].title, "difference", "in interval"]
    lines = []
    for item in compared:
        within = "-" if item.within is None else ("yes" if item.within else "no")
        interval = (
            "-" if item.low is None or item.high is None else f"{item.low:.1f} to {item.high:.1f}"
        )
        difference = "-" if item.difference is None else f"{item.difference:+.1f}"
        known = [_number(other.scores[benchmark].get(item.column)) for other in others]
        cells = [item.column, _number(item.ours), interval, _number(item.published)]
        lines.append([*cells, difference, within, *known])
    rules = f", {ROWS[row].rules} rules" if benchmark == "etbench" else ""
    title = f"This run beside published results{rules}, times 100"
    return f"{title}\n\n{markdown([*header, *(other.title for other in others)], lines)}\n"


def comparison_record(compared: Sequence[Compared], row: str) -> dict[str, Any]:
    """Return a comparison as JSON values."""
    return {
        "row": row,
        "title": ROWS[row].title,
        "columns": [
            asdict(item) | {"difference": item.difference, "within": item.within}
            for item in compared
        ],
    }


_Score = tuple[float | None, float | None, float | None]


def _etbench(metrics: Mapping[str, Any]) -> dict[str, _Score]:
    found: dict[str, _Score] = {}
    for task in TASKS:
        for name in headline(task):
            if name in metrics["tasks"].get(task, {}):
                interval = metrics["task_intervals"].get(task, {}).get(name)
                found[f"{task} {name}"] = _score(metrics["tasks"][task][name], interval)
    for column in MERGED:
        if column in metrics["merged"]:
            interval = metrics["merged_intervals"].get(column)
            found[column] = _score(metrics["merged"][column], interval)
    return found


def _plain(metrics: Mapping[str, Any]) -> dict[str, _Score]:
    return {
        _YOUCOOK2.get(name, name): _score(value, metrics["intervals"].get(name))
        for name, value in metrics["scores"].items()
    }


def _score(value: float, interval: Mapping[str, float] | None) -> _Score:
    if interval is None:
        return 100 * value, None, None
    return 100 * value, 100 * interval["low"], 100 * interval["high"]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
