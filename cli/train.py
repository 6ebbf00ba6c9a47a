"""`vidground train`: supervised fine-tuning, factorized preference optimization, curves."""

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
    "init": (
        "model.init",
        click.Choice(["toy"]),
        "Start from a small model with random weights.",
    ),
    "unreadable": (
        "data.unreadable",
        click.Choice(["error", "skip"]),
        "A missing or unreadable video ends the run (error, the default), or its samples are "
        "left out and counted (skip).",
    ),
    "cache": ("data.cache", str, "Folder that caches decoded frames."),
    "output_dir": ("output.dir", str, "The run's folder."),
    "epochs": ("schedule.epochs", float, "Passes over the data, instead of steps."),
    "max_steps": ("schedule.max_steps", int, "Optimizer steps; overrides epochs."),
    "batch_size": ("schedule.batch_size", int, "Samples per device in one forward pass."),
    "accumulation": ("schedule.accumulation", int, "Forward passes per optimizer step."),
    "learning_rate": (
        "parameters.learning_rate",
        float,
        "Learning rate of what is trained in full.",
    ),
    "lora_learning_rate": (
        "parameters.lora_learning_rate",
        float,
        "Learning rate of the adapters.",
    ),
    "workers": ("schedule.workers", int, "Processes that read videos."),
    "seed": ("schedule.seed", int, "Seed of all random choices."),
    "patience": (
        "schedule.patience",
        int,
        "Stop when the held-out loss has not improved in this many evaluations.",
    ),
    "eval_every": ("output.eval_every", int, "Steps between evaluations."),
    "keep_model": (
        "output.model",
        click.Choice(["last", "best"]),
        "Checkpoint that becomes the run's model: the last, or the best by held-out loss.",
    ),
    "push_to_hub": (
        "output.hub",
        str,
        "Upload the finished model with a model card to this hub repository.",
    ),
}
_FILES = {
    "annotations": ("data.annotations", "Samples to train on; may be given several times."),
    "videos": (
        "data.videos",
        "Folder that the annotations' videos are relative to; may be given several times.",
    ),
    "evaluation": (
        "data.evaluation",
        "Held-out samples, evaluated every --eval-every steps; may be given several times.",
    ),
}
_SWITCHES = {
    "tensorboard": ("output.tensorboard", "Write TensorBoard files to the run's folder."),
    "wandb": ("output.wandb", "Log to Weights & Biases."),
    "curves": ("output.curves", "Draw the learning curves to curves.png."),
}
_REPLACES = (
    ("model.name", "model.init"),
    ("model.init", "model.name"),
    ("schedule.epochs", "schedule.max_steps"),
)
_RUN_CONFIG = "config.yaml"
# A dry run needs no data and writes nothing.
_DRY_RUN_PATHS = {
    "data.annotations": ["annotations.json"],
    "data.videos": "videos",
    "output.dir": "run",
}


def _options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of a run."""
    run = [
        click.option("--resume", is_flag=True, help="Continue from the run's last checkpoint."),
        click.option("--overwrite", is_flag=True, help="Remove the run that the folder contains."),
        click.option("--quiet", "-q", is_flag=True, help="Only report failures."),
        click.option(
            "--dry-run",
            is_flag=True,
            help="Report parameters, memory, disk space and steps; train and download nothing.",
        ),
        click.option(
            "--keys",
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_show_keys,
            help="List every KEY of --set with its default and meaning, and exit.",
        ),
    ]
    setting = click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="KEY=VALUE",
        help="Any value of the configuration, such as schedule.warmup=0.1; --keys lists them all. "
        "May be given several times.",
    )
    for option in reversed(run):
        command = option(command)
    command = setting(command)
    for name, (_, kind, help_text) in reversed(_VALUES.items()):
        command = click.option(*_flags(name), name, type=kind, help=help_text)(command)
    for name, (_, help_text) in reversed(_FILES.items()):
        command = click.option(*_flags(name), name, multiple=True, help=help_text)(command)
    for name, (_, help_text) in _SWITCHES.items():
        command = click.option(*_flags(name), name, is_flag=True, help=help_text)(command)
    return click.option(
        "--config",
        "-c",
        metavar="FILE",
        help="YAML file with the run's configuration, or the name of a bundled one: sft, fpo, "
        "etchat, toy-sft, toy-fpo. Options override it. With --resume, the run's own is the "
        "default.",
    )(command)


def _flags(name: str) -> tuple[str, ...]:
    flag = "--" + name.replace("_", "-")
    return (flag, "-o") if name == "output_dir" else (flag,)


def _show_keys(context: click.Context, _parameter: click.Parameter, asked: bool) -> None:
    if not asked or context.resilient_parsing:
        return
    from vidground.training.config_keys import keys_text

    click.echo(keys_text("fpo" if context.info_name == "fpo" else "sft"))
    context.exit()


@click.group()
def train() -> None:
    """Train a model: fine-tuning, then preferences.

    A run is configured by a YAML file, by options, or by both. Its folder contains the
    configuration (config.yaml), a line for every logged step (log.jsonl), checkpoints, and at the
    end the model. --dry-run reports beforehand what it takes. Ctrl-C and SIGTERM save a checkpoint
    at the end of the step; --resume continues. Several GPUs:
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
    """Train a fine-tuned model on preferences over the text and grounding of answers.

    \b
    vidground train fpo --config toy-fpo
    vidground train fpo --config fpo --model runs/sft --annotations pairs.json --videos videos \\
        --output-dir runs/fpo
    """
    _train("fpo", **options)


@train.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    help="The picture, in a format of matplotlib; RUN/curves.png if not given.",
)
def curves(run: Path, output: Path | None) -> None:
    """Draw the learning curves of a run from its log.

    \b
    vidground train curves runs/sft
    """
    from vidground.training.tracking.curves import draw_curves

    drawn = draw_curves(run, output)
    click.echo(f"{drawn}" if drawn is not None else f"{run}: nothing logged yet", err=True)


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
    # Imported here, so that --help needs no torch.
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
            missing=_DRY_RUN_PATHS if dry_run else None,
        )
        _refuse_idle_rate(run)
    if dry_run:
        from vidground.training.dry_run import plan_training

        click.echo(str(plan_training(run)))
        return
    from vidground.training.run import leave_group, run_training
    from vidground.training.stopping import TrainingInterrupted

    try:
        folder = run_training(run, resume=resume, overwrite=overwrite, quiet=quiet)
    except TrainingInterrupted as stopped:
        if _is_main_process():
            click.echo(str(stopped), err=True)
        raise click.exceptions.Exit(128 + stopped.number) from stopped
    finally:
        leave_group()
    if not quiet and _is_main_process():
        click.echo(f"{folder}: trained", err=True)


def _refuse_idle_rate(run: RunConfig) -> None:
    """Refuse a learning rate for adapters, given as an option, if none are trained."""
    if is_named("lora_learning_rate") and run.parameters.trained != "released":
        raise click.UsageError(
            f"--lora-learning-rate is for adapters, and parameters.trained is "
            f"{run.parameters.trained!r}, without any; omit it, or set 'released'."
        )


def _values(options: dict[str, Any], settings: tuple[str, ...]) -> dict[str, Any]:
    """Return the values that options set, by dotted key."""
    from vidground.training.config_files import parse_value

    values = {key: options[name] for name, (key, _, _) in _VALUES.items()}
    values |= {key: options[name] or None for name, (key, _) in _FILES.items()}
    values |= {key: options[name] or None for name, (key, _) in _SWITCHES.items()}
    values = {key: value for key, value in values.items() if value is not None}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not (key and equals):
            raise click.UsageError(f"--set {setting}: needs KEY=VALUE.")
        values[key] = parse_value(text)
    # An option also unsets the key that it is an alternative to.
    for given, other in _REPLACES:
        if given in values:
            values.setdefault(other, None)
    return values


def _set_up_logging(quiet: bool) -> None:
    logger = logging.getLogger("vidground")
    level = logging.WARNING if quiet else logging.INFO
    logger.setLevel(level if _is_main_process() else logging.ERROR)
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)


def _is_main_process() -> bool:
    return os.environ.get("RANK", "0") == "0"
