"""Arguments and messages shared by the commands that make videos from results."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from vidground.archive.stored_results import load, require_stored
from vidground.cli.reporting.reporter import shown
from vidground.errors import InputError
from vidground.media.ffmpeg import Program
from vidground.media.timed_video import left_out_of
from vidground.results.documents import Result
from vidground.results.video_lookup import require_video
from vidground.storage.files import printable

_Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

MEDIA_OPTIONS = [
    click.option(
        "--any-video",
        is_flag=True,
        help="Accept VIDEO although its content differs from the video that RESULT was made from.",
    ),
    click.option("--overwrite", is_flag=True, help="Replace existing files."),
    click.option("--quiet", "-q", is_flag=True, help="Only report failures."),
]

_OVERWRITE = "replace it (--overwrite), or choose another path (-o)"


@dataclass(frozen=True, slots=True)
class Source:
    """A stored result and its video.

    Attributes:
        video: path of the video.
        stored: the file that the result was read from.
        result: the result.
    """

    video: Path
    stored: Path
    result: Result


def with_source(*options: _Decorator) -> _Decorator:
    """Add the arguments [VIDEO] RESULT (as `names`), the given options and the shared ones."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        decorators: list[_Decorator] = [*options, *MEDIA_OPTIONS]
        for option in reversed(decorators):
            command = option(command)
        return click.argument("names", nargs=-1, required=True, metavar="[VIDEO] RESULT")(command)

    return decorate


def open_source(names: tuple[str, ...], *, any_video: bool) -> Source:
    """Read the result and find its video.

    Raises:
        VideoError: the video is missing or a different one.
        FormatError: the result cannot be read.
        click.UsageError: too many names, or --any-video without VIDEO.
    """
    if len(names) > 2:
        raise click.UsageError("Give one RESULT, preceded by its VIDEO if that has moved.")
    if len(names) < 2 and any_video:
        raise click.UsageError("--any-video needs a VIDEO; give one before RESULT.")
    stored = require_stored(names[-1])
    result = load(stored)
    video = require_video(
        result, stored, names[0] if len(names) == 2 else None, any_video=any_video
    )
    return Source(video, stored, result)


def require_free(outputs: Iterable[Path], source: Source, *, overwrite: bool) -> None:
    """Raise InputError if an input or, without `overwrite`, another file would be replaced."""
    inputs = {path.resolve() for path in (source.video, source.stored)}
    for output in outputs:
        if output.resolve() in inputs:
            raise InputError(f"{printable(output)} is an input; choose another path (-o)")
        if output.exists() and not overwrite:
            raise InputError(f"{printable(output)} already exists; {_OVERWRITE}")


def say(message: str, *, quiet: bool = False) -> None:
    """Print a line to standard error, with control characters escaped."""
    if not quiet:
        click.echo(shown(message), err=True)


def warn_left_out(video: Path) -> None:
    """Name sound tracks that the new file will not have."""
    left_out = left_out_of(video)
    if left_out is not None:
        say(f"warning: {video}: {left_out}")


def say_program(program: Program, *, quiet: bool) -> None:
    """Print which ffmpeg is used."""
    say(f"with {program}", quiet=quiet)
