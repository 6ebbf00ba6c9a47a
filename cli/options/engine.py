"""The options that say who does the work: this process, or Ray on this machine or a cluster."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click

from vidground.settings import BatchSettings


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Who does the work. ray_address: of a cluster; None for Ray on this machine alone."""

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
            raise click.UsageError(f"{name} is about Ray; give --engine ray with it.")
        return
    if batch.videos is not None or batch.readers is not None:
        raise click.UsageError(
            "--videos and --readers are about the videos of one process; a worker of Ray does one "
            "at a time (--ray-workers)."
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
        help="Who does the work: this process; or workers of Ray, on all GPUs or CPUs of this "
        "machine or of a cluster, with the same results. Needs the extra ray.",
    ),
    click.option(
        "--ray-address",
        metavar="HOST:PORT",
        help="A running Ray cluster, auto for the one of this machine. All its machines must see "
        "the videos under the same paths; results are written by this process. If not given, "
        "Ray is started on this machine and ends with the run.",
    ),
    click.option(
        "--ray-workers",
        type=click.IntRange(min=1),
        metavar="N",
        help="Videos that are worked on at once, each with a model of its own; by default one for "
        "each GPU, or for each 4 CPUs if there is none.",
    ),
]
