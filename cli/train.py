"""`vidground train`: supervised fine-tuning and factorized preference optimization."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vidground.cli.options.usage import is_named, usage_errors

if TYPE_CHECKING:
    from vidground.training.config import RunConfig

# Options that set one value of the configuration, by its dotted name.
_VALUES: dict[str, tuple[str, Any, str]] = {
    "model": (
        "model.name",
        str,
        "Model to start from: a name (`vidground models`), a folder, a hub id.",
    ),
    "init": ("model.init", click.Choice(["toy"]), "Start from a small model, random weights."),
    "unreadable": (
        "data.unreadable",
        click.Choice(["error", "skip"]),
        "A video that is missing or does not open ends the run (error, if not given), or its "
        "samples are left out and counted (skip).",
    ),
    "cache": ("data.cache", str, "Folder that keeps decoded frames."),
    "output_dir": ("output.dir", str, "The run's folder."),
    "epochs": ("schedule.epochs", float, "Passes over the data, in place of steps."),
    "max_steps": ("schedule.max_steps", int, "Steps; they win over epochs."),
    "batch_size": ("schedule.batch_size", int, "Samples that pass the model at once."),
    "accumulation": ("schedule.accumulation", int, "Batches that make a step."),
    "learning_rate": ("parameters.learning_rate", float, "Of what is trained in full."),
    "lora_learning_rate": ("parameters.lora_learning_rate", float, "Of the adapters."),
    "workers": ("schedule.workers", int, "Processes that read videos."),
    "seed": ("schedule.seed", int, "Seed of everything random."),
}
_FILES = {
    "annotations": ("data.annotations", "Samples to learn from; may be given several times."),
    "videos": (
        "data.videos",
        "Folder that the annotations' videos are relative to; may be given several times.",
    ),
    "evaluation": (
        "data.evaluation",
        "Held-out samples, evaluated every so many steps (--set output.eval_every=100); may be "
        "given several times.",
    ),
}
_IN_PLACE_OF = (
    ("model.name", "model.init"),
    ("model.init", "model.name"),
    ("schedule.epochs", "schedule.max_steps"),
)
_RUN_CONFIG = "config.yaml"
# A dry run needs no data, and writes nothing.
_WHERE_DRY = {
    "data.annotations": ["annotations.json"],
    "data.videos": "videos",
    "output.dir": "run",
}


def _options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of a run."""
    run = [
        click.option("--resume", is_flag=True, help="Go on from the run's last checkpoint."),
        click.option("--overwrite", is_flag=True, help="Remove the run that the folder holds."),
        click.option("--quiet", "-q", is_flag=True, help="Tell of failures only."),
        click.option(
            "--dry-run",
            is_flag=True,
            help="Tell parameters, memory and steps; train and download nothing.",
        ),
    ]
    setting = click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="KEY=VALUE",
        help="Any value of the configuration, as schedule.warmup=0.1; may be given several times.",
    )
    for option in reversed(run):
        command = option(command)
    command = setting(command)
    for name, (_, kind, help_text) in reversed(_VALUES.items()):
        command = click.option(*_flags(name), name, type=kind, help=help_text)(command)
    for name, (_, help_text) in reversed(_FILES.items()):
        command = click.option(*_flags(name), name, multiple=True, help=help_text)(command)
    return click.option(
        "--config",
        "-c",
        metavar="FILE",
        help="YAML file with the run's configuration, or the name of one that comes with "
        "vidground: sft, fpo, toy-sft, toy-fpo. Options win over it. With --resume it is that "
        "of the run if not given.",
    )(command)


def _flags(name: str) -> tuple[str, ...]:
    flag = "--" + name.replace("_", "-")
    return (flag, "-o") if name == "output_dir" else (flag,)


@click.group()
def train() -> None:
    """Train a model: fine-tuning, then preferences.

    A run is described by a YAML file, by options, or by both; its folder holds all values that it
    was made with (config.yaml), a line for every logged step (log.jsonl), checkpoints, and at the
    end the model. What it takes is told beforehand by --dry-run. Several GPUs:
    torchrun --nproc-per-node 8 -m vidground.cli.main train sft ...
    """


@train.command()
@_options
def sft(**options: Any) -> None:
    """Fine-tune a model on answers with evidence.

    \b
    vidground train sft --config toy-sft
    vidground train sft --config sft --annotations et_instruct.json --videos videos -o runs/sft
    vidground train sft --output-dir runs/sft --resume
    """
    _train("sft", **options)


@train.command()
@_options
def fpo(**options: Any) -> None:
    """Teach a fine-tuned model to prefer, by the text and by the grounding of its answers.

    \b
    vidground train fpo --config toy-fpo
    vidground train fpo --config fpo --model runs/sft --annotations pairs.json --videos videos \\
        --output-dir runs/fpo
    """
    _train("fpo", **options)


def _train(
    objective: str,
    *,
    config: str | None,
    settings: tuple[str, ...],
    resume: bool,
    overwrite: bool,
    quiet: bool,
    dry_run: bool,
    **options: Any,
) -> None:
    _set_up_logging(quiet)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    # Here, so that --help needs no torch.
    from vidground.training.config import read_config

    with usage_errors():
        values = _values(options, settings)
        own = Path(str(values.get("output.dir", ""))) / _RUN_CONFIG
        if config is None and resume and own.is_file():
            config = str(own)
        run = read_config(
            "fpo" if objective == "fpo" else "sft",
            config,
            values,
            missing=_WHERE_DRY if dry_run else None,
        )
        _refuse_idle_rate(run)
    if dry_run:
        from vidground.training.dry_run import plan_training

        click.echo(str(plan_training(run)))
        return
    from vidground.training.run import leave_group, run_training

    folder = run_training(run, resume=resume, overwrite=overwrite, quiet=quiet)
    leave_group()
    if not quiet and _is_main_process():
        click.echo(f"{folder}: trained", err=True)


def _refuse_idle_rate(run: RunConfig) -> None:
    """Refuse a rate for adapters, given as an option, where there are none."""
    if is_named("lora_learning_rate") and run.parameters.trained != "released":
        raise click.UsageError(
            f"--lora-learning-rate is of adapters, and parameters.trained is "
            f"{run.parameters.trained!r}, without any; leave it out, or set 'released'."
        )


def _values(options: dict[str, Any], settings: tuple[str, ...]) -> dict[str, Any]:
    """The values that options set, by dotted name."""
    from vidground.training.config import parse_value

    values = {key: options[name] for name, (key, _, _) in _VALUES.items()}
    values |= {key: options[name] or None for name, (key, _) in _FILES.items()}
    values = {key: value for key, value in values.items() if value is not None}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not (key and equals):
            raise click.UsageError(f"--set {setting}: needs KEY=VALUE.")
        values[key] = parse_value(text)
    # What is given here replaces what the file has in its place.
    for given, other in _IN_PLACE_OF:
        if given in values:
            values.setdefault(other, None)
    return values


def _set_up_logging(quiet: bool) -> None:
    logger = logging.getLogger("vidground")
    told = logging.WARNING if quiet else logging.INFO
    logger.setLevel(told if _is_main_process() else logging.ERROR)
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)


def _is_main_process() -> bool:
    return os.environ.get("RANK", "0") == "0"
