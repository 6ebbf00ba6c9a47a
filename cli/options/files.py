"""Which videos, and where their results go."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

import click

from vidground.results.formats import FORMATS

STDOUT = "-"

_STREAMABLE = ("json", "jsonl")
"""Formats that name the video in every document or line, so that several can share a stream."""


@dataclass(frozen=True, slots=True)
class FileOptions:
    """Which videos, and where their results go. output_dir: None for beside the video."""

    inputs: tuple[str, ...]
    from_file: BinaryIO | None
    recursive: bool
    formats: tuple[str, ...]
    output_dir: str | None
    relative_to: str | None
    keep_suffix: bool
    overwrite: bool


def parse_formats(_: click.Context, __: click.Parameter, value: str) -> tuple[str, ...]:
    """ "srt,json" as a tuple, each format once."""
    names = tuple(dict.fromkeys(name.strip().lower() for name in value.split(",")))
    for name in names:
        if name not in FORMATS:
            raise click.BadParameter(f"{name!r} is no format; choose from {', '.join(FORMATS)}.")
    return names


def check_files(files: FileOptions) -> None:
    """Refuse options that would have no effect."""
    if files.relative_to is not None and files.output_dir in (None, STDOUT):
        raise click.UsageError("--relative-to needs a folder of results, --output-dir.")
    if files.output_dir == STDOUT and len(files.formats) > 1:
        raise click.UsageError("-o - writes one format; name one with --out.")
    if files.output_dir == STDOUT and files.keep_suffix:
        raise click.UsageError("--keep-suffix names files; -o - writes none.")
    if files.output_dir == STDOUT and files.overwrite:
        raise click.UsageError("--overwrite replaces files; -o - writes none.")


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
        help="Read more inputs from this file, one per line or separated by NUL bytes; "
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
    """Where results go. formats: the default for --out."""
    return [
        click.option("--recursive", is_flag=True, help="Search folders inside of folders too."),
        click.option(
            "--out",
            "--output-format",
            "-f",
            "formats",
            metavar="FORMATS",
            callback=parse_formats,
            default=formats,
            show_default=True,
            help=f"Formats of the result, with commas between: {', '.join(FORMATS)}.",
        ),
        click.option(
            "--output-dir",
            "-o",
            metavar="DIR",
            help="Folder for the results, in which the tree of the inputs is mirrored; - for "
            "standard output. If not given, results lie beside their videos.",
        ),
        click.option(
            "--relative-to",
            metavar="DIR",
            help="Folder that the mirrored tree starts at. If not given: the folder that was "
            "named, the part of a pattern before its first wildcard, a file's own folder.",
        ),
        click.option(
            "--keep-suffix",
            is_flag=True,
            help="Keep the video's suffix in names of results (match.mp4.srt), so that match.mp4 "
            "and match.mkv can lie in one folder.",
        ),
        click.option("--overwrite", is_flag=True, help="Make results again that exist already."),
    ]
