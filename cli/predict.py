"""`vidground eval predict`: ask a model a benchmark's questions and store its answers."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vidground.cli.options.model import MODEL_OPTIONS, RESULT_OPTIONS, ModelOptions
from vidground.cli.options.usage import usage_errors
from vidground.cli.reporting.bars import bar
from vidground.cli.reporting.loading import loading_shown
from vidground.cli.reporting.make_reporter import shown
from vidground.settings import BatchSettings, DecodingSettings, SamplingSettings
from vidground.training.evaluation.questions import OPTION_PENALTY, load_absent, load_questions
from vidground.training.evaluation.sharding import Shard

if TYPE_CHECKING:
    from vidground.training.evaluation.questions import Question

_FILE = click.Path(dir_okay=False, path_type=Path)
_FOLDER = click.Path(file_okay=False, path_type=Path)
_PATH = click.Path(path_type=Path)

PROCESSES_OPTION = click.option(
    "--processes",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Processes that share the videos. Each loads the model; GPUs are taken in turn, and on "
    "the CPU the cores are divided.",
)


def prediction_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of the model and of its answers; `PredictionRun` takes them."""
    penalty = click.option(
        "--option-penalty",
        type=float,
        default=OPTION_PENALTY,
        show_default=True,
        help="Repetition penalty of E.T. Bench's multiple-choice tasks; the default is that of the "
        "released evaluation.",
    )
    for option in reversed([*MODEL_OPTIONS, *RESULT_OPTIONS, penalty]):
        command = option(command)
    return command


@dataclass(frozen=True, slots=True)
class PredictionRun:
    """A model and the folder of its answers.

    Attributes:
        options: values of `prediction_options`.
        out: folder of the answers.
        quiet: report failures only.
    """

    options: dict[str, Any]
    out: Path
    quiet: bool

    def answer(
        self,
        questions: Sequence[Question],
        videos: Path,
        *,
        processes: int = 1,
        shard: Shard | None = None,
        overwrite: bool = False,
    ) -> int:
        """Answer the questions that have no answer yet, and report counts; return the failures."""
        model, arguments = self._arguments()
        if processes > 1:
            return self._in_processes(model, arguments, questions, videos, processes, overwrite)
        with loading_shown(quiet=self.quiet), usage_errors():
            model.announce()
            from vidground.training.evaluation.predictor import Predictor, predict

            predictor = Predictor(model.model, **arguments)
        from vidground.training.evaluation.prediction_store import open_folder, open_shard

        opening = (
            open_folder(self.out, predictor.settings, questions, overwrite=overwrite)
            if shard is None
            else open_shard(self.out, shard, predictor.settings, questions)
        )
        own = questions if shard is None else shard.take(questions)
        with opening as folder, bar("question", len(own), quiet=self.quiet) as on_progress:
            waiting = len(folder.waiting(own))
            failed = predict(
                predictor, own, videos, folder, on_progress=on_progress, on_failure=_report
            )
        self._report_counts(len(own), waiting, failed)
        return failed

    def _in_processes(
        self,
        model: ModelOptions,
        arguments: dict[str, Any],
        questions: Sequence[Question],
        videos: Path,
        processes: int,
        overwrite: bool,
    ) -> int:
        with loading_shown(quiet=self.quiet), usage_errors():
            model.announce()
        from vidground.storage.atomic import make_folder
        from vidground.training.evaluation.parallel_prediction import predict_in_processes
        from vidground.training.evaluation.prediction_store import (
            answered_questions,
            remove_predictions,
        )

        make_folder(self.out)
        if overwrite:
            remove_predictions(self.out)
        waiting = len(questions) - answered_questions(self.out, questions)
        with bar("question", len(questions), quiet=self.quiet) as on_progress:
            failed = predict_in_processes(
                model.model,
                arguments,
                questions,
                videos,
                self.out,
                processes=processes,
                on_progress=on_progress,
                on_failure=_report,
            )
        self._report_counts(len(questions), waiting, failed)
        return failed

    def _report_counts(self, asked: int, waiting: int, failed: int) -> None:
        if failed or not self.quiet:
            click.echo(
                f"{self.out}: {waiting - failed} answered, {asked - waiting} were there, "
                f"{failed} failed",
                err=True,
            )

    def _arguments(self) -> tuple[ModelOptions, dict[str, Any]]:
        """Return which model, and the keyword arguments of its `Predictor`."""
        options = dict(self.options)
        model = ModelOptions(**{name: options.pop(name) for name in ModelOptions.__slots__})
        if model.offline:  # the hub client reads it when it is imported
            os.environ["HF_HUB_OFFLINE"] = "1"
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        with usage_errors():
            sampling = SamplingSettings(
                fps=options.pop("fps"),
                window_s=options.pop("window_s"),
                overlap=options.pop("window_overlap"),
                stream=options.pop("stream"),
                raw_fps=options.pop("raw_fps"),
            )
            batch = BatchSettings(prompts=options.pop("batch_size"))
            penalty = options.pop("option_penalty")
            decoding = DecodingSettings(**options)
            DecodingSettings(repetition_penalty=penalty)
        return model, {
            "device": model.device,
            "dtype": model.dtype,
            "weights": model.weights,
            "sampling": sampling,
            "decoding": decoding,
            "batch": batch,
            "option_penalty": penalty,
            "vision": model.vision,
            "provider": model.provider,
            **model.load_options,
        }


def _report(video: str, reason: str) -> None:
    named = reason if video in reason else f"{video}: {reason}"
    click.echo(f"failed: {shown(named)}", err=True)


@click.command()
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
    help="Queries for events that are not in the videos, to measure false alarms.",
)
@click.option(
    "--videos",
    type=_FOLDER,
    required=True,
    metavar="DIR",
    help="Folder that the samples' videos are relative to.",
)
@click.option("--out", "-o", type=_FOLDER, required=True, metavar="DIR", help="Folder of answers.")
@click.option("--tasks", default="", metavar="TASK,...", help="Only these tasks: tvg,dvc.")
@click.option("--limit", type=int, help="Maximum number of samples per task; the first are taken.")
@click.option(
    "--shard",
    metavar="I/N",
    help="Answer only the I-th of N parts of the videos, on this machine. Give every part the same "
    "--out; `vidground eval score` reads all of them.",
)
@PROCESSES_OPTION
@click.option("--overwrite", is_flag=True, help="Remove the answers in --out first.")
@click.option("--quiet", "-q", is_flag=True, help="Only report failures.")
@prediction_options
def predict(
    annotations: Path,
    absent: Path | None,
    videos: Path,
    out: Path,
    tasks: str,
    limit: int | None,
    shard: str | None,
    processes: int,
    overwrite: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Ask a model a benchmark's questions and store its answers.

    Each answer is a line of predictions.jsonl, written as soon as it is made. An interrupted run
    continues when the same command is given again; failed questions are tried again.

    \b
    vidground eval predict --model toy --annotations toy/etbench --absent toy/absent.json \\
        --videos toy -o results
    vidground eval predict --annotations etbench.json --videos videos --tasks tvg,dvc -o results
    vidground eval predict --annotations etbench.json --videos videos --processes 8 -o results
    vidground eval predict --annotations etbench.json --videos videos --shard 1/4 -o results
    """
    if shard is not None and processes > 1:
        raise click.UsageError("--shard and --processes cannot be combined; choose one of them.")
    if shard is not None and overwrite:
        raise click.UsageError(
            "--overwrite with --shard would remove other parts' answers; remove the folder, or "
            "name a new one."
        )
    with usage_errors():
        part = None if shard is None else Shard.parse(shard)
        names = [name.strip() for name in tasks.split(",") if name.strip()]
        questions = load_questions(annotations, tasks=names, limit=limit)
        questions += load_absent(absent, limit=limit) if absent is not None else []
    run = PredictionRun(options, out, quiet)
    if run.answer(questions, videos, processes=processes, shard=part, overwrite=overwrite):
        raise click.exceptions.Exit(1)
