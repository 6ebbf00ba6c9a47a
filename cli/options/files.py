"""The options for inputs and outputs."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import click
from click.core import ParameterSource

from vidground.results.formats import FORMATS, format_of

STDOUT = "-"

_STREAMABLE = ("json", "jsonl")
"""Formats that name the video in every document or line, so that several can share a stream."""


@dataclass(frozen=True, slots=True)
class FileOptions:
    """Which videos, and where their results go.

    Attributes:
        inputs: files, folders and patterns.
        from_file: a list of further inputs.
        recursive: search subfolders too.
        exclude: patterns of files and folders that are left out.
        formats: of the results.
        output_dir: None writes each result next to its video; "-" to standard output.
        relative_to: folder at which the mirrored tree starts.
        keep_suffix: keep the video's suffix in the name of the result.
        overwrite: make existing results again.
    """

    inputs: tuple[str, ...]
    from_file: BinaryIO | None
    recursive: bool
    exclude: tuple[str, ...]
    formats: tuple[str, ...]
    output_dir: str | None
    relative_to: str | None
    keep_suffix: bool
    overwrite: bool


def parse_formats(_: click.Context, __: click.Parameter, value: str) -> tuple[str, ...]:
    """Return "srt,json" as a tuple, without duplicates."""
    names = tuple(dict.fromkeys(name.strip().lower() for name in value.split(",")))
    for name in names:
        if name not in FORMATS:
            raise click.BadParameter(
                f"{name!r} is not a known format; choose from {', '.join(FORMATS)}."
            )
    return names


def check_files(files: FileOptions) -> None:
    """Refuse options that would have no effect."""
    if files.relative_to is not None and files.output_dir in (None, STDOUT):
        raise click.UsageError("--relative-to has an effect only with --output-dir DIR.")
    if files.output_dir == STDOUT and len(files.formats) > 1:
        raise click.UsageError("-o - writes one format; name one with --out.")
    if files.output_dir == STDOUT and files.keep_suffix:
        raise click.UsageError(
            "--keep-suffix changes file names, but -o - writes no file; leave it out."
        )
    if files.output_dir == STDOUT and files.overwrite:
        raise click.UsageError("--overwrite replaces files, but -o - writes no file; leave it out.")


def named_file(files: FileOptions) -> str | None:
    """Return the file that `-o FILE.srt` names; None if the option names a folder or nothing."""
    place = files.output_dir
    if place in (None, STDOUT) or format_of(place) is None or Path(place).is_dir():
        return None
    return place


def check_named_file(file: str, *, formats: tuple[str, ...], several: bool) -> None:
    """Refuse options that contradict `-o FILE.srt`.

    Args:
        file: the file.
        formats: the formats of the results, chosen or the command's default.
        several: whether there are several videos.

    Raises:
        click.UsageError: there are several videos, or another format was chosen.
    """
    if several:
        raise click.UsageError(f"-o {file} names a file, which is for one video; name a folder.")
    source = click.get_current_context().get_parameter_source("formats")
    if source is ParameterSource.COMMANDLINE and formats != (format_of(file),):
        raise click.UsageError(
            f"-o {file} and --out {','.join(formats)} name different formats; leave one out."
        )


def require_streamable(format: str, *, inputs: str, option: str) -> None:
    """Refuse a format in which several results on standard output could not be told apart.

    Args:
        format: the chosen format.
        inputs: what there are several of, for the message.
        option: the option that chooses the format.

    Raises:
        click.UsageError: results in this format do not name their video.
    """
    if format not in _STREAMABLE:
        raise click.UsageError(
            f"-o - with {inputs} needs a format that names the video of each result: "
            f"{option} {' or '.join(_STREAMABLE)}."
        )


INPUTS: list[Callable[..., Any]] = [
    click.argument("inputs", nargs=-1, metavar="INPUT..."),
    click.option(
        "--from-file",
        type=click.File("rb"),
        help="Read further inputs from this file, one per line or separated by NUL bytes; "
        "- for standard input.",
    ),
]

WATCHED_INPUTS: list[Callable[..., Any]] = [
    click.argument(
        "inputs",
        nargs=-1,
        required=True,
        metavar="DIR...",
        type=click.Path(exists=True, file_okay=False),
    ),
]


def file_options(formats: str) -> list[Callable[..., Any]]:
    """Return the options that say where results go.

    Args:
        formats: the default for --out.
    """
    return [
        click.option("--recursive", is_flag=True, help="Search subfolders too."),
        click.option(
            "--exclude",
            multiple=True,
            metavar="PATTERN",
            help="Leave out files and folders that are found with this name or path below INPUT "
            "(*, ? and [...] are wildcards); may be repeated. Files named one by one are kept.",
        ),
        click.option(
            "--out",
            "--output-format",
            "-f",
            "formats",
            metavar="FORMATS",
            callback=parse_formats,
            default=formats,
            show_default=True,
            help=f"Comma-separated formats of the result: {', '.join(FORMATS)}.",
        ),
        click.option(
            "--output-dir",
            "-o",
            metavar="DIR|FILE",
            help="Folder for the results, which mirrors the tree of the inputs; for one video also "
            "a file (match.srt), whose suffix is the format; - for standard output. By default "
            "results are written next to their videos.",
        ),
        click.option(
            "--relative-to",
            metavar="DIR",
            help="Folder at which the mirrored tree starts. By default the given folder, the part "
            "of a pattern before its first wildcard, or the folder of a file.",
        ),
        click.option(
            "--keep-suffix",
            is_flag=True,
            help="Keep the video's suffix in the name of the result (match.mp4.srt), so that "
            "match.mp4 and match.mkv can share a folder.",
        ),
        click.option("--overwrite", is_flag=True, help="Make existing results again."),
    ]
