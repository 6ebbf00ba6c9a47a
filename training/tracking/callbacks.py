"""Callbacks of a run, and the packages and services that they need."""

from __future__ import annotations

import importlib.util
from dataclasses import asdict
from pathlib import Path

from transformers import TrainerCallback

from vidground.errors import InputError
from vidground.training.config import RunConfig
from vidground.training.logs import JsonLog, StepBar
from vidground.training.tracking.boards import TensorBoardLog, WandbLog
from vidground.training.tracking.curves import CurvesPicture
from vidground.training.tracking.held_out import BestCheckpoint, EarlyStop
from vidground.training.tracking.publishing import check_hub


def check_services(config: RunConfig) -> None:
    """Check that packages and the hub are there that the output needs.

    Raises:
        InputError: a package is missing, or the hub refuses access.
    """
    output = config.output
    for asked, package in ((output.wandb, "wandb"), (output.curves, "matplotlib")):
        if asked and importlib.util.find_spec(package) is None:
            key = "wandb" if package == "wandb" else "curves"
            raise InputError(f"output.{key} needs the package {package}; pip install {package}")
    if output.hub is not None:
        check_hub(output.hub)


def run_callbacks(config: RunConfig, *, quiet: bool) -> list[TrainerCallback]:
    """Return the callbacks of a run.

    Args:
        config: of the run.
        quiet: show no progress.
    """
    output, folder = config.output, Path(config.output.dir)
    callbacks: list[TrainerCallback] = []
    if output.model == "best":
        callbacks.append(BestCheckpoint(folder))
    if config.schedule.patience is not None:
        callbacks.append(EarlyStop(config.schedule.patience))
    callbacks.append(JsonLog(folder))
    if not quiet:
        callbacks.append(StepBar())
    if output.tensorboard:
        callbacks.append(TensorBoardLog(folder))
    if output.wandb:
        callbacks.append(WandbLog(folder, asdict(config)))
    if output.curves:
        callbacks.append(CurvesPicture(folder))
    return callbacks
