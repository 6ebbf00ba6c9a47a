"""What the commands that make videos of results share: their arguments, and what they say."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from vidground.cli.reporting.reporter import shown
from vidground.errors import InputError
from vidground.media.ffmpeg import Program
from vidground.results.documents import Result
from vidground.results.formats import load
from vidground.results.video_lookup import require_video
from vidground.storage.files import printable

_Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

MEDIA_OPTIONS = [
    click.option(
        "--any-video",
        is_flag=True,
        help="Take VIDEO although it is not, byte for byte, the one that RESULT was made of.",
    ),
    click.option("--overwrite", is_flag=True, help="Replace files that exist already."),
    click.option("--quiet", "-q", is_flag=True, help="Tell of failures only."),
]

_OVERWRITE = "replace it (--overwrite), or choose another place (-o)"


@dataclass(frozen=True, slots=True)
class Source:
    """A stored result and its video. stored: the file that the result was read from."""

    video: Path
    stored: Path
    result: Result


def with_source(*options: _Decorator) -> _Decorator:
    """Give a command the arguments [VIDEO] RESULT as `names`, its options, and the shared ones."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        decorators: list[_Decorator] = [*options, *MEDIA_OPTIONS]
        for option in reversed(decorators):
            command = option(command)
        return click.argument("names", nargs=-1, required=True, metavar="[VIDEO] RESULT")(command)

    return decorate


def open_source(names: tuple[str, ...], *, any_video: bool) -> Source:
    """Read the result, and make sure of its video. Raises VideoError, FormatError, UsageError."""
    if len(names) > 2:
        raise click.UsageError("Name one RESULT, and before it its VIDEO if it has moved.")
    if len(names) < 2 and any_video:
        raise click.UsageError("--any-video is about a VIDEO; name one before RESULT.")
    stored = Path(names[-1])
    result = load(stored)
    video = require_video(
        result, stored, names[0] if len(names) == 2 else None, any_video=any_video
    )
    return Source(video, stored, result)


def require_free(outputs: Iterable[Path], source: Source, *, overwrite: bool) -> None:
    """Raise InputError if a file would be lost."""
    inputs = {path.resolve() for path in (source.video, source.stored)}
    for output in outputs:
        if output.resolve() in inputs:
            raise InputError(f"{printable(output)} is an input; choose another place (-o)")
        if output.exists() and not overwrite:
            raise InputError(f"{printable(output)} exists already; {_OVERWRITE}")


def say(message: str, *, quiet: bool = False) -> None:
    """Print a line on standard error; what a terminal would obey is escaped."""
    if not quiet:
        click.echo(shown(message), err=True)


def say_program(program: Program, *, quiet: bool) -> None:
    """Tell which ffmpeg works."""
    say(f"with {program}", quiet=quiet)
