"""`vidground convert`: stored results in other formats, without a model."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from vidground.archive.events import FileReport, RunSummary, report_on
from vidground.archive.outputs import is_file, require_writable
from vidground.cli.options.cues import CUE_OPTIONS, check_formats
from vidground.cli.options.files import STDOUT, parse_formats
from vidground.cli.options.log import LOG_OPTIONS, LogOptions
from vidground.cli.options.usage import usage_errors
from vidground.cli.reporting.make_reporter import Reporter, reporting
from vidground.errors import InputError, VidgroundError
from vidground.results.cues import CueSettings
from vidground.results.formats import FORMATS, load, render, save
from vidground.results.result_files import SUFFIX, FoundResults, ResultFile, find_results
from vidground.storage.atomic import make_folder, write_atomically
from vidground.storage.files import printable

_FAILED = 1

# Formats that name the video in every document or line, so that several can share a stream.
_STREAMABLE = ("json", "jsonl")


@dataclass(frozen=True, slots=True)
class _Conversion:
    """A result file and the files to make of it; a format without a file goes to stdout."""

    source: Path
    outputs: Mapping[str, Path | None]


def _with_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed([*CUE_OPTIONS, *LOG_OPTIONS]):
        command = option(command)
    return command


@click.command()
@click.argument("results", nargs=-1, required=True, metavar="RESULT...")
@click.option(
    "--to",
    "formats",
    required=True,
    metavar="FORMATS",
    callback=parse_formats,
    help=f"Formats to make, with commas between: {', '.join(FORMATS)}.",
)
@click.option(
    "--output-dir",
    "-o",
    metavar="DIR",
    help="Folder for what is made, in which the tree of the inputs is mirrored; - for standard "
    "output. If not given, it lies beside the results.",
)
@click.option("--recursive", is_flag=True, help="Search folders inside of folders too.")
@click.option("--overwrite", is_flag=True, help="Make files again that exist already.")
@_with_options
def convert(
    results: tuple[str, ...],
    formats: tuple[str, ...],
    output_dir: str | None,
    recursive: bool,
    overwrite: bool,
    **options: Any,
) -> None:
    """Make subtitles, tables and files for editors of stored results, without a model.

    RESULT is a JSON file that `caption` or `query` wrote, a folder or a pattern. Of match.json
    comes match.srt; a file that exists already is left alone.

    \b
    vidground convert match.json --to srt,fcpxml
    vidground convert results --recursive --to vtt --style netflix -o subtitles
    vidground convert match.json --to edl -o -
    """
    log = LogOptions(**{name: options.pop(name) for name in LogOptions.__slots__})
    with usage_errors():
        cues = CueSettings(**options)
        check_formats(formats, cues, option="--to")
        found = find_results(results, recursive=recursive)
        conversions = _plan(found, formats, output_dir, log.summary, overwrite=overwrite)
    total = len(found.files) + len(found.missing)
    with reporting(log.log_format, noun="event", total=total, quiet=log.quiet) as reporter:
        for path in found.foreign:
            reporter.warn(f"{printable(path)}: no result of vidground; passed over")
        summary = _run(conversions, found, cues, reporter, overwrite=overwrite)
        code = _FAILED if summary.failed else 0
        try:
            if log.summary is not None:
                make_folder(log.summary.parent)
                write_atomically(log.summary, json.dumps(summary.to_dict(), indent=2) + "\n")
        except VidgroundError as error:
            code = _FAILED
            reporter.error(str(error))
        reporter.summary(summary)
    ending = click.get_current_context().find_root().obj
    raise click.exceptions.Exit(ending.exit_code if summary.interrupted else code)


def _plan(
    found: FoundResults,
    formats: tuple[str, ...],
    output_dir: str | None,
    summary: Path | None,
    *,
    overwrite: bool,
) -> list[_Conversion]:
    """Say which file holds what, and refuse what would be lost. Raises InputError."""
    if summary is not None:
        require_writable(summary)
    if output_dir == STDOUT:
        if len(formats) > 1:
            raise click.UsageError("-o - writes one format; name one with --to.")
        if overwrite:
            raise click.UsageError("--overwrite replaces files; -o - writes none.")
        if len(found.files) > 1 and formats[0] not in _STREAMABLE:
            raise click.UsageError(
                f"-o - with {len(found.files)} results needs a format that says which video a "
                f"result is about: --to {' or '.join(_STREAMABLE)}."
            )
        return [_Conversion(file.path, dict.fromkeys(formats)) for file in found.files]
    if output_dir is not None and Path(output_dir).is_file():
        raise click.UsageError(f"--output-dir {printable(output_dir)} is a file; name a folder.")
    conversions = [
        _Conversion(file.path, {name: _output(file, name, output_dir) for name in formats})
        for file in found.files
    ]
    taken = {os.path.realpath(f.path): f"the input {printable(f.path)}" for f in found.files}
    if summary is not None:
        taken[os.path.realpath(summary)] = f"the file {printable(summary)}"
    _refuse_collisions(conversions, taken)
    return conversions


def _output(file: ResultFile, name: str, folder: str | None) -> Path:
    parent = file.path.parent if folder is None else Path(folder, file.relative.parent)
    stem = file.path.stem if file.path.suffix.lower() == SUFFIX else file.path.name
    return parent / f"{stem}.{name}"


def _refuse_collisions(conversions: Sequence[_Conversion], taken: dict[str, str]) -> None:
    """Raise InputError if two results, or a result and a file of `taken`, would be one file."""
    for conversion in conversions:
        for output in filter(None, conversion.outputs.values()):
            place = os.path.realpath(output)
            if place in taken:
                raise InputError(
                    f"{printable(output)}, made of {printable(conversion.source)}, would take the "
                    f"place of {taken[place]}; choose another format, or another folder (-o)"
                )
            taken[place] = f"what is made of {printable(conversion.source)}"


def _run(
    conversions: Sequence[_Conversion],
    found: FoundResults,
    cues: CueSettings,
    reporter: Reporter,
    *,
    overwrite: bool,
) -> RunSummary:
    begin = time.monotonic()
    reports: list[FileReport] = []
    interrupted = False

    def outcomes() -> Iterator[FileReport]:
        for name, error in found.missing:
            yield FileReport(name, "failed", error=str(error))
        for conversion in conversions:
            yield _convert(conversion, cues, overwrite=overwrite)

    try:
        for report in outcomes():
            reports.append(report)
            reporter.event(report)
    except KeyboardInterrupt:
        interrupted = True
    unfinished = len(conversions) + len(found.missing) - len(reports)
    elapsed_s = time.monotonic() - begin
    return RunSummary(tuple(reports), unfinished, interrupted, elapsed_s=elapsed_s)


def _convert(conversion: _Conversion, cues: CueSettings, *, overwrite: bool) -> FileReport:
    """Make the files that are not there yet, and say what became of it."""
    source, begin = str(conversion.source), time.monotonic()
    written: list[str] = []
    try:
        left = {
            name: path
            for name, path in conversion.outputs.items()
            if path is None or overwrite or not is_file(path)
        }
        if not left:
            there = tuple(str(path) for path in conversion.outputs.values())
            return FileReport(source, "skipped", there, reason="exists")
        result = load(conversion.source)
        for name, path in left.items():
            if path is None:
                sys.stdout.buffer.write(render(result, name, cues=cues).encode())
                sys.stdout.buffer.flush()
            else:
                save(result, path, format=name, cues=cues)
                written.append(str(path))
    except BrokenPipeError:
        raise
    except (VidgroundError, OSError, MemoryError) as error:
        elapsed_s = time.monotonic() - begin
        reason = str(error) or type(error).__name__
        return FileReport(source, "failed", tuple(written), error=reason, elapsed_s=elapsed_s)
    elapsed_s = time.monotonic() - begin
    report = report_on(source, result, tuple(written), elapsed_s=elapsed_s, reason="", new=False)
    return replace(report, warnings=())  # they were told of when the result was made
