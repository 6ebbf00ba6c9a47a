"""`vidground eval run`: a published benchmark from its data to a table beside published results."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click

from vidground.cli.options.usage import usage_errors
from vidground.cli.predict import PROCESSES_OPTION, PredictionRun, prediction_options
from vidground.cli.reporting.make_reporter import shown
from vidground.cli.score import (
    BENCHMARK_NAMES,
    has_captions,
    sentence_similarity,
    stored_predictions,
    write_scores,
)
from vidground.errors import InputError

ROW_NAMES = ("d2vlm-fpo", "d2vlm-sft", "d2vlm-mcqa", "etchat")
"""As `ROWS`, whose import takes long; a test compares them."""
_FOLDER = click.Path(file_okay=False, path_type=Path)


@click.command()
@click.argument("benchmark", type=click.Choice(BENCHMARK_NAMES))
@click.option(
    "--data",
    type=_FOLDER,
    metavar="DIR",
    help="The benchmark's folder as its authors publish it; without this option the command says "
    "what the folder must hold and where to get it.",
)
@click.option(
    "--out",
    "-o",
    type=_FOLDER,
    metavar="DIR",
    help="Folder for answers and scores; by default BENCHMARK-MODEL in the current folder.",
)
@click.option(
    "--published",
    type=click.Choice(ROW_NAMES),
    help="Published results to compare with; by default those of the model, or of D2VLM + FPO.",
)
@click.option(
    "--skip-missing",
    is_flag=True,
    help="Leave out questions whose videos are missing; their number is reported.",
)
@click.option("--limit", type=int, help="Maximum number of samples per task; the first are taken.")
@click.option(
    "--bootstrap",
    type=click.IntRange(min=0),
    default=1000,
    show_default=True,
    help="Number of draws for the 95 % confidence intervals; 0 for no intervals.",
)
@PROCESSES_OPTION
@click.option("--overwrite", is_flag=True, help="Remove the answers in --out first.")
@click.option("--quiet", "-q", is_flag=True, help="Only print the tables, notes and failures.")
@prediction_options
def run(
    benchmark: str,
    data: Path | None,
    out: Path | None,
    published: str | None,
    skip_missing: bool,
    limit: int | None,
    bootstrap: int,
    processes: int,
    overwrite: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Run a published benchmark and print its scores beside the published ones.

    Checks the data before the model is loaded, answers all questions, scores them, and writes
    metrics.json, table.md and plots to --out. An interrupted run continues when the same command
    is given again. Generation is greedy unless --temperature says otherwise; the published numbers
    were made at temperature 0.2.

    \b
    vidground eval run etbench --model d2vlm --data ETBench
    vidground eval run charades --model d2vlm --data Charades --processes 4
    vidground eval run etbench --model toy --data toy --limit 2
    """
    from vidground.training.evaluation.benchmarks.catalog import BENCHMARKS
    from vidground.training.evaluation.benchmarks.data_layout import missing_videos, refuse_missing
    from vidground.training.evaluation.benchmarks.published import row_for

    chosen = BENCHMARKS[benchmark]
    if data is None:
        raise click.UsageError(f"{chosen.title} needs --data DIR, a folder with {chosen.layout}.")
    with usage_errors():
        annotations, videos = chosen.find(data, limit=limit)
        if not skip_missing:
            try:
                refuse_missing(videos)
            except InputError as error:
                raise InputError(f"{error} (--skip-missing)") from error
    if not quiet:
        click.echo(f"annotations: {shown(str(annotations))}", err=True)
        click.echo(f"videos: {shown(str(videos.root))}", err=True)
        click.echo(f"questions: {len(videos.questions)}", err=True)
    similarity, note = None, None
    if benchmark == "etbench" and has_captions([q.fields for q in videos.questions]):
        similarity, note = sentence_similarity(None)
        if note and not quiet:
            click.echo(f"note: {shown(note)}", err=True)
    folder = out or Path(f"{benchmark}-{_file_name(options['model'])}")
    answering = PredictionRun(options, folder, quiet)
    failed = answering.answer(
        videos.questions, videos.root, processes=processes, overwrite=overwrite
    )
    from vidground.training.evaluation.benchmarks.comparison import add_comparison
    from vidground.training.evaluation.benchmarks.evaluations import evaluate
    from vidground.training.evaluation.scores import EvaluationSettings

    found = stored_predictions(folder)
    found.notes += [note] if note else []
    found.notes += [f"{missing_videos(videos)}, left out"] if videos.missing else []
    evaluation = evaluate(
        benchmark,
        found.lines,
        settings=EvaluationSettings(bootstrap=bootstrap),
        similarity=similarity,
    )
    row = published or row_for(options["model"])
    write_scores(add_comparison(evaluation, benchmark, row), folder, found)
    if failed:
        raise click.exceptions.Exit(1)


def _file_name(model: str) -> str:
    """Return the end of a model's name, fit for the name of a folder."""
    return re.sub(r"[^\w.-]+", "-", Path(model).name).strip("-.") or "model"
