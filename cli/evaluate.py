"""`vidground eval`: answers to a benchmark's questions; other benchmarks in its form."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vidground.cli.options.model import MODEL_OPTIONS, RESULT_OPTIONS, ModelOptions
from vidground.cli.options.usage import is_named, usage_errors
from vidground.cli.reporting.bars import bar
from vidground.cli.reporting.loading import loading_shown
from vidground.cli.reporting.make_reporter import shown
from vidground.cli.score import score
from vidground.settings import BatchSettings, DecodingSettings, SamplingSettings
from vidground.training.evaluation.questions import OPTION_PENALTY, load_absent, load_questions

if TYPE_CHECKING:
    from vidground.training.evaluation.predictor import Predictor

_FILE = click.Path(dir_okay=False, path_type=Path)
_FOLDER = click.Path(file_okay=False, path_type=Path)
_PATH = click.Path(path_type=Path)


@click.group(name="eval")
def evaluate() -> None:
    """Measure a model: predictions for a benchmark, then their scores.

    \b
    vidground eval predict --model toy --annotations toy/etbench --videos toy -o results
    vidground eval score results
    """


evaluate.add_command(score)


def _prediction_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command which model, and how it is run."""
    penalty = click.option(
        "--option-penalty",
        type=float,
        default=OPTION_PENALTY,
        show_default=True,
        help="Repetition penalty in multiple-choice tasks, as the released evaluation has it.",
    )
    for option in reversed([*MODEL_OPTIONS, *RESULT_OPTIONS, penalty]):
        command = option(command)
    return command


@evaluate.command()
@click.option(
    "--annotations",
    type=_PATH,
    required=True,
    metavar="PATH",
    help="Samples in E.T. Bench's form: a JSON file, or a folder of them.",
)
@click.option(
    "--absent",
    type=_FILE,
    metavar="FILE",
    help="Queries for what is not in the videos, to measure false alarms.",
)
@click.option(
    "--videos",
    type=_FOLDER,
    required=True,
    metavar="DIR",
    help="Folder that the samples' videos are relative to.",
)
@click.option("--out", "-o", type=_FOLDER, required=True, metavar="DIR", help="Where answers go.")
@click.option("--tasks", default="", metavar="TASK,...", help="Only these tasks: tvg,dvc.")
@click.option("--limit", type=int, help="Only the first samples, so many of each task.")
@click.option("--overwrite", is_flag=True, help="Begin anew, whatever --out holds.")
@click.option("--quiet", "-q", is_flag=True, help="Tell of failures only.")
@_prediction_options
def predict(
    annotations: Path,
    absent: Path | None,
    videos: Path,
    out: Path,
    tasks: str,
    limit: int | None,
    overwrite: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Pose a benchmark's questions to a model and keep its answers.

    An answer is a line of predictions.jsonl, written as soon as it is given. A call that was
    interrupted goes on where it stopped; what failed is tried again.

    \b
    vidground eval predict --model toy --annotations toy/etbench --absent toy/absent.json \\
        --videos toy -o results
    vidground eval predict --annotations etbench.json --videos videos --tasks tvg,dvc -o results
    """
    with usage_errors():
        names = [name.strip() for name in tasks.split(",") if name.strip()]
        questions = load_questions(annotations, tasks=names, limit=limit)
        questions += load_absent(absent, limit=limit) if absent is not None else []
    with loading_shown(quiet=quiet), usage_errors():
        predictor = _predictor(options)
    # Here, so that --help needs no torch.
    from vidground.training.evaluation.prediction_store import open_folder
    from vidground.training.evaluation.predictor import predict as answer_all

    def tell(video: str, reason: str) -> None:
        named = reason if video in reason else f"{video}: {reason}"
        click.echo(f"failed: {shown(named)}", err=True)

    with (
        open_folder(out, predictor.settings, questions, overwrite=overwrite) as folder,
        bar("question", len(questions), quiet=quiet) as on_progress,
    ):
        there = len(questions) - len(folder.waiting(questions))
        failed = answer_all(
            predictor, questions, videos, folder, on_progress=on_progress, on_failure=tell
        )
    if failed or not quiet:
        new = len(questions) - there - failed
        click.echo(f"{out}: {new} answered, {there} were there, {failed} failed", err=True)
    if failed:
        raise click.exceptions.Exit(1)


def _predictor(options: dict[str, Any]) -> Predictor:
    model = ModelOptions(**{name: options.pop(name) for name in ModelOptions.__slots__})
    if model.offline:  # the hub client reads it when it is imported
        os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    sampling = SamplingSettings(
        fps=options.pop("fps"),
        window_s=options.pop("window_s"),
        overlap=options.pop("window_overlap"),
    )
    batch = BatchSettings(prompts=options.pop("batch_size"))
    penalty = options.pop("option_penalty")
    decoding = DecodingSettings(**options)
    model.announce()
    from vidground.training.evaluation.predictor import Predictor

    return Predictor(
        model.model,
        device=model.device,
        dtype=model.dtype,
        weights=model.weights,
        sampling=sampling,
        decoding=decoding,
        batch=batch,
        option_penalty=penalty,
        vision=model.vision,
        provider=model.provider,
        load_options=model.load_options,
    )


@evaluate.command()
@click.argument("benchmark", type=click.Choice(["charades", "youcook2"]))
@click.argument("source", metavar="SRC", type=_FILE)
@click.argument("target", metavar="OUT.json", type=_FILE)
@click.option(
    "--subset",
    default="validation",
    show_default=True,
    help="YouCook2: which of its videos.",
)
@click.option("--overwrite", is_flag=True, help="Replace OUT.json if it exists.")
def convert(benchmark: str, source: Path, target: Path, subset: str, overwrite: bool) -> None:
    """Put another benchmark's annotations into E.T. Bench's form.

    charades: lines "ID start end##sentence" of Charades-STA. youcook2: its JSON with segments.
    Videos are expected as ID.mp4 in the folder that `predict` is given.

    \b
    vidground eval convert charades charades_sta_test.txt charades.json
    vidground eval predict --annotations charades.json --videos Charades_v1 -o charades
    vidground eval score charades --benchmark charades
    """
    if benchmark != "youcook2" and is_named("subset"):
        raise click.UsageError(f"--subset is of YouCook2; {benchmark} has none.")
    if target.exists() and not overwrite:
        raise click.UsageError(f"{target} exists; name another file, or use --overwrite.")
    from vidground.storage.atomic import write_atomically
    from vidground.training.evaluation.benchmarks.conversion import (
        convert_charades,
        convert_youcook2,
    )

    if benchmark == "charades":
        samples = convert_charades(source)
    else:
        samples = convert_youcook2(source, subset=subset)
    write_atomically(target, json.dumps(samples, indent=1) + "\n")
    click.echo(f"{target}: {len(samples)} samples", err=True)
