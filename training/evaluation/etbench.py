"""Score responses to E.T. Bench (paper, section 4).

There are two sets of rules. "official" reads responses like the benchmark's own scorer: times come
from the whole response, evidence included. "strict" reads them like the scorer released with D2VLM:
evidence and answer separately; a response without `</evi>` is a miss, and the evidence's own scores
are added as `…_evi`. Both give the released scorers' numbers to the last tie (an overlap of exactly
0.7 is below 0.7 in tvg, epm, tem and gvq; see `etbench_tasks`), with these deliberate exceptions:

- evs under the strict rules: the released scorer marks evidence and answer on one map and so scores
  their union. Here the answer is scored alone (`F1`), and the evidence alone (`F1_evi`).
- evs beyond second 1000: the released scorers' map ends there; here every second counts.
- Reversed times of the evidence are swapped like those of the answer, and captions in an unusual
  form are searched for in the answer only; the released strict scorer does neither.
- Option letters are read strictly under both rules: the first letter read is final, and an answer
  without one is a miss. The released scorers fall back on the option with the most similar text.
- An unreadable response is a miss in every task. The released scorers leave it out of the F1 of
  evs and of Sim; `F1_parsed` and `Sim_parsed` do the same.
- METEOR, BLEU, ROUGE and CIDEr, which the benchmark's tables do not show, are not computed.

Loads no model: predictions are the benchmark's samples with the response as `a`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from vidground.errors import InputError
from vidground.training.evaluation.answer_reading import Rules
from vidground.training.evaluation.bootstrap import BootstrapInterval, bootstrap_interval
from vidground.training.evaluation.etbench_predictions import (
    CAPTION_TASKS,
    COMPLEX_TASKS,
    GROUNDING_TASKS,
    OPTION_TASKS,
    TASKS,
    Prediction,
    check_predictions,
    load_predictions,
)
from vidground.training.evaluation.etbench_tasks import (
    Row,
    read_response,
    sample_row,
    similarity_rows,
    task_metrics,
)
from vidground.training.evaluation.markdown import markdown, percent
from vidground.training.evaluation.text_similarity import TextSimilarity

__all__ = [
    "BenchmarkScores",
    "SourceRecord",
    "headline",
    "intervals",
    "load_predictions",
    "score",
    "table",
]

MERGED: Mapping[str, tuple[tuple[str, ...], str]] = {
    "Acc(ref)": (OPTION_TASKS, "Acc"),
    "F1(gnd)": (GROUNDING_TASKS, "F1"),
    "F1(cap)": (CAPTION_TASKS, "F1"),
    "Sim(cap)": (CAPTION_TASKS, "Sim"),
    "Rec(com)": (COMPLEX_TASKS, "mRec"),
}
"""The five merged columns: each is the mean of these tasks' metric."""


@dataclass(frozen=True, slots=True)
class SourceRecord:
    """The scores of every sample of one task and source.

    Attributes:
        task: of E.T. Bench.
        source: data set that the samples come from.
        idx: N numbers of the samples in the benchmark, in the order scored.
        columns: names of the C values.
        values: (N, C); zeros for a response that cannot be read (its `parsed` is 0).
    """

    task: str
    source: str
    idx: tuple[int, ...]
    columns: tuple[str, ...]
    values: NDArray[np.float64]

    def metrics(self, values: NDArray[np.float64] | None = None) -> dict[str, float]:
        """Return the task's metrics on these samples, or on (M, C) values drawn from them."""
        means = (self.values if values is None else values).mean(axis=0)
        return task_metrics(self.task, dict(zip(self.columns, means.tolist(), strict=True)))


@dataclass(frozen=True, slots=True)
class BenchmarkScores:
    """Scores of one model; all but the counts in [0, 1], Sim in [-1, 1].

    Attributes:
        rules: how responses were read.
        sources: task → source → metric → value, with the counts `Total` and `Failed` (unreadable).
        tasks: task → metric → mean over its sources.
        merged: the columns of the paper's summary whose tasks were all scored.
        records: the scores of single samples.
        notes: which columns are missing, and why.
    """

    rules: Rules
    sources: Mapping[str, Mapping[str, Mapping[str, float]]]
    tasks: Mapping[str, Mapping[str, float]]
    merged: Mapping[str, float]
    records: tuple[SourceRecord, ...]
    notes: tuple[str, ...] = ()


def headline(task: str) -> tuple[str, ...]:
    """Return the metrics of a task that the paper's tables show."""
    if task in CAPTION_TASKS:
        return "F1", "Sim"
    if task in OPTION_TASKS:
        return ("Acc",)
    return ("mRec",) if task in COMPLEX_TASKS else ("F1",)


def score(
    predictions: Sequence[Mapping[str, Any]],
    *,
    rules: Rules,
    similarity: TextSimilarity | None = None,
) -> BenchmarkScores:
    """Return the scores of predictions of any of the benchmark's tasks and sources.

    Args:
        predictions: E.T. Bench samples with the response as `a`.
        rules: "official" or "strict"; see the module.
        similarity: compares captions; without it dvc and slc have no Sim.

    Raises:
        InputError: there are no predictions, a field is missing or wrong, or the rules are unknown.
    """
    if rules not in get_args(Rules):
        raise InputError(f"rules are {rules!r}; must be one of {', '.join(get_args(Rules))}")
    checked = check_predictions((f"prediction {i}", item) for i, item in enumerate(predictions))
    if not checked:
        raise InputError("no predictions to score; give at least one")
    groups: dict[tuple[str, str], list[Prediction]] = {}
    for prediction in sorted(checked, key=lambda p: TASKS.index(p.task)):
        groups.setdefault((prediction.task, prediction.source), []).append(prediction)
    records = tuple(_record(group, rules, similarity) for group in groups.values())
    sources: dict[str, dict[str, dict[str, float]]] = {}
    for record in records:
        sources.setdefault(record.task, {})[record.source] = _source_scores(record)
    tasks = {task: _mean_over_sources(list(scored.values())) for task, scored in sources.items()}
    merged, notes = _merge(tasks)
    return BenchmarkScores(rules, sources, tasks, merged, records, notes)


def _record(
    group: Sequence[Prediction], rules: Rules, similarity: TextSimilarity | None
) -> SourceRecord:
    readings = [read_response(prediction, rules) for prediction in group]
    rows: list[Row] = [sample_row(p, r, rules) for p, r in zip(group, readings, strict=True)]
    if similarity is not None and group[0].task in CAPTION_TASKS:
        sims = similarity_rows(group, readings, similarity)
        rows = [row | sim for row, sim in zip(rows, sims, strict=True)]
    columns = tuple(rows[0])
    values = np.array([[row[name] for name in columns] for row in rows], dtype=np.float64)
    idx = tuple(prediction.idx for prediction in group)
    return SourceRecord(group[0].task, group[0].source, idx, columns, values)


def _source_scores(record: SourceRecord) -> dict[str, float]:
    parsed = record.values[:, record.columns.index("parsed")].sum()
    total = float(len(record.values))
    return {"Total": total, "Failed": total - float(parsed), **record.metrics()}


def _mean_over_sources(scored: Sequence[Mapping[str, float]]) -> dict[str, float]:
    names = (name for name in scored[0] if name not in ("Total", "Failed"))
    return {name: sum(metrics[name] for metrics in scored) / len(scored) for name in names}


def _merge(
    tasks: Mapping[str, Mapping[str, float]],
) -> tuple[dict[str, float], tuple[str, ...]]:
    merged, notes = {}, []
    for column, (needed, metric) in MERGED.items():
        missing = [task for task in needed if task not in tasks]
        if missing:
            notes.append(f"{column} is absent: no predictions of {', '.join(missing)}")
        elif any(metric not in tasks[task] for task in needed):
            notes.append(f"{column} is absent: no text similarity model was given")
        else:
            merged[column] = sum(tasks[task][metric] for task in needed) / len(needed)
    return merged, tuple(notes)


def intervals(
    scores: BenchmarkScores, *, samples: int = 1000, seed: int = 0, level: float = 0.95
) -> dict[str, dict[str, BootstrapInterval]]:
    """Return bootstrap intervals of every task's headline metrics: task → metric → interval.

    Samples are drawn within each source, then the task's mean over sources is taken.

    Args:
        scores: of all tasks.
        samples: number of draws.
        seed: of the draws.
        level: share of the draws within an interval, in (0, 1).

    Raises:
        InputError: an option is out of range; see `bootstrap_interval`.
    """
    found: dict[str, dict[str, BootstrapInterval]] = {}
    for task, metrics in scores.tasks.items():
        records = [record for record in scores.records if record.task == task]
        found[task] = {
            metric: bootstrap_interval(
                np.concatenate([record.values for record in records]),
                _task_statistic(records, metric),
                samples=samples,
                seed=seed,
                level=level,
                strata=[i for i, record in enumerate(records) for _ in record.idx],
            )
            for metric in headline(task)
            if metric in metrics
        }
    return found


def _task_statistic(
    records: Sequence[SourceRecord], metric: str
) -> Callable[[NDArray[np.float64]], float]:
    ends = np.cumsum([len(record.idx) for record in records])

    def statistic(values: NDArray[np.float64]) -> float:
        parts = np.split(values, ends[:-1])
        scored = [r.metrics(part)[metric] for r, part in zip(records, parts, strict=True)]
        return sum(scored) / len(scored)

    return statistic


def table(
    scores: BenchmarkScores,
    found: Mapping[str, Mapping[str, BootstrapInterval]] | None = None,
) -> str:
    """Return the scores in percent as Markdown: the paper's summary, its tasks, then all sources.

    Args:
        scores: of all tasks.
        found: from `intervals`; adds a row of confidence intervals below the tasks.
    """
    blocks = [
        markdown(list(MERGED), [[percent(scores.merged.get(column)) for column in MERGED]]),
        _task_table(scores, found),
        _source_table(scores),
    ]
    title = f"E.T. Bench, {scores.rules} rules, in percent"
    notes = "\n".join(f"- {note}" for note in scores.notes)
    return "\n\n".join([title, *blocks, *([notes] if notes else [])]) + "\n"


def _task_table(
    scores: BenchmarkScores, found: Mapping[str, Mapping[str, BootstrapInterval]] | None
) -> str:
    cells = [(task, metric) for task in TASKS for metric in headline(task)]
    rows = [[percent(scores.tasks.get(task, {}).get(metric)) for task, metric in cells]]
    if found:
        ranges = [found.get(task, {}).get(metric) for task, metric in cells]
        rows.append([f"{percent(r.low)} to {percent(r.high)}" if r else "-" for r in ranges])
    return markdown([f"{task} {metric}" for task, metric in cells], rows)


def _source_table(scores: BenchmarkScores) -> str:
    rows = []
    for task, scored in scores.sources.items():
        for source, metrics in scored.items():
            shown = [f"{name} {percent(metrics.get(name))}" for name in headline(task)]
            counts = [f"{metrics[name]:.0f}" for name in ("Total", "Failed")]
            rows.append([task, source, *counts, ", ".join(shown)])
    return markdown(["task", "source", "total", "failed", "score"], rows)
