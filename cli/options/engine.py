"""The options that choose what does the work: this process, or Ray on one or more machines."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click

from vidground.settings import BatchSettings


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """What does the work.

    Attributes:
        engine: "local" or "ray".
        ray_address: of a running cluster; None starts Ray on this machine.
        ray_workers: number of workers; None for as many as fit.
    """

    engine: str
    ray_address: str | None
    ray_workers: int | None


LOCAL = {"engine": "local", "ray_address": None, "ray_workers": None}
"""Values of the options for commands that do not have them."""


def check_engine(engine: EngineOptions, *, device: str | None, batch: BatchSettings) -> None:
    """Refuse options that would have no effect, or another one than they say."""
    if engine.engine != "ray":
        given = {"--ray-address": engine.ray_address, "--ray-workers": engine.ray_workers}
        for name in (name for name, value in given.items() if value is not None):
            raise click.UsageError(f"{name} has an effect only with --engine ray.")
        return
    if batch.videos is not None or batch.readers is not None:
        raise click.UsageError(
            "--videos and --readers apply to one process; each Ray worker does one video at a "
            "time (--ray-workers sets how many workers)."
        )
    if device not in (None, "cpu", "cuda"):
        raise click.UsageError(
            f"--device {device} names one device, but Ray gives each worker a GPU of its own; "
            "use --device cuda or cpu, or leave it out."
        )


ENGINE_OPTIONS: list[Callable[..., Any]] = [
    click.option(
        "--engine",
        type=click.Choice(["local", "ray"]),
        default="local",
        show_default=True,
        help="What does the work: this process, or Ray workers on all GPUs or CPUs of this machine "
        "or of a cluster, with the same results. Needs the extra ray.",
    ),
    click.option(
        "--ray-address",
        metavar="HOST:PORT",
        help="Address of a running Ray cluster; auto finds the one on this machine. All its "
        "machines must see the videos under the same paths; this process writes the results. "
        "By default Ray is started on this machine for the duration of the run.",
    ),
    click.option(
        "--ray-workers",
        type=click.IntRange(min=1),
        metavar="N",
        help="Number of Ray workers, each with its own copy of the model. By default one per GPU, "
        "or one per 4 CPUs if there is no GPU.",
    ),
]
