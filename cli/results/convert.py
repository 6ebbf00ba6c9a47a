"""`vidground convert`: stored results in other formats, and corrections back, no model."""

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from vidground.archive.events import FileReport, RunSummary, report_failure, report_on
from vidground.archive.outputs import is_file, require_writable
from vidground.archive.stored_results import find_stored, load
from vidground.cli.options.cues import CUE_OPTIONS, check_formats
from vidground.cli.options.files import STDOUT, parse_formats, require_streamable
from vidground.cli.options.log import LOG_OPTIONS, LogOptions
from vidground.cli.options.usage import usage_errors
from vidground.cli.reporting.make_reporter import Reporter, reporting
from vidground.cli.running.finish import end_with
from vidground.errors import FormatError, InputError
from vidground.results.annotation_tools.correcting import (
    corrected_name,
    is_result_file,
    read_correction,
)
from vidground.results.annotation_tools.reading import ANNOTATION_SUFFIXES
from vidground.results.cues import CueSettings
from vidground.results.documents import Result
from vidground.results.formats import FORMATS, render, save, suffix_of
from vidground.results.result_files import SUFFIX, FoundResults, ResultFile, find_results
from vidground.results.subtitle_reading import SUBTITLE_SUFFIXES
from vidground.storage.files import printable


@dataclass(frozen=True, slots=True)
class _Conversion:
    """A result file and the files to make of it.

    Attributes:
        source: the result, or a file that corrects one.
        outputs: the file for each format; None writes to standard output.
        original: the result that `source` corrects; None if `source` is a result.
    """

    source: Path
    outputs: Mapping[str, Path | None]
    original: Path | None = None

    def load(self) -> Result:
        """Return the result, corrected if its source is a correction."""
        if self.original is None:
            return load(self.source)
        original = load(self.original)
        try:
            return read_correction(self.source, original)
        except FormatError as error:
            name = printable(self.source)
            named = str(error).startswith(name)
            raise error if named else FormatError(f"{name}: {error}") from error


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
    help=f"Comma-separated formats to write: {', '.join(FORMATS)}.",
)
@click.option(
    "--from",
    "original",
    metavar="JSON",
    type=click.Path(exists=True, path_type=Path),
    help="RESULT is a file that was made from this result and corrected since: subtitles (.srt, "
    ".vtt), ELAN (.eaf), VIA (.json, .csv) or Label Studio's JSON export. It may be a folder of "
    "such files if this is a folder of results with the same names.",
)
@click.option(
    "--output-dir",
    "-o",
    metavar="DIR",
    help="Folder for the new files, which mirrors the tree of the inputs; - for standard "
    "output. By "
    "default they are written next to the results.",
)
@click.option("--recursive", is_flag=True, help="Search subfolders too.")
@click.option("--overwrite", is_flag=True, help="Replace existing files.")
@_with_options
def convert(
    results: tuple[str, ...],
    formats: tuple[str, ...],
    original: Path | None,
    output_dir: str | None,
    recursive: bool,
    overwrite: bool,
    **options: Any,
) -> None:
    """Convert stored results to subtitles, tables and files for editors, without a model.

    RESULT is a JSON file that `caption` or `query` wrote, a video whose results lie beside it, a
    folder or a pattern. match.json becomes match.srt; an existing file is left as it is.

    With --from, RESULT is a corrected subtitle file or what an annotation tool saved. It becomes a
    result again, which `vidground data pairs` compares with the original.

    \b
    vidground convert match.json --to srt,fcpxml
    vidground convert results --recursive --to vtt --style netflix -o subtitles
    vidground convert match.json --to edl -o -
    vidground convert match.srt --from match.json --to json -o corrected
    vidground convert match.eaf --from match.json --to json -o corrected
    """
    log = LogOptions(**{name: options.pop(name) for name in LogOptions.__slots__})
    with usage_errors():
        cues = CueSettings(**options)
        check_formats(formats, cues, option="--to")
        if original is None:
            # Subtitles may have been edited, so that the result behind them is not what is meant.
            found = find_stored(results, recursive=recursive, outputs=False)
        else:
            found = find_results(
                results, recursive=recursive, suffixes=ANNOTATION_SUFFIXES, corrections=True
            )
        conversions = _plan(
            found, formats, output_dir, log.summary, overwrite=overwrite, original=original
        )
    total = len(found.files) + len(found.missing)
    with reporting(log.log_format, noun="event", total=total, quiet=log.quiet) as reporter:
        for path in found.foreign:
            reporter.warn(f"{printable(path)}: not a result of vidground; ignored")
        summary = _run(conversions, found, cues, reporter, overwrite=overwrite)
        end_with(summary, log, reporter)


def _plan(
    found: FoundResults,
    formats: tuple[str, ...],
    output_dir: str | None,
    summary: Path | None,
    *,
    overwrite: bool,
    original: Path | None,
) -> list[_Conversion]:
    """Return which file comes from which; refuse outputs that would replace something needed.

    Raises:
        InputError: two files would be written to one path, or one to that of an input.
    """
    if summary is not None:
        require_writable(summary)
    originals = _originals(found, original)
    if output_dir == STDOUT:
        if len(formats) > 1:
            raise click.UsageError("-o - writes one format; name one with --to.")
        if overwrite:
            raise click.UsageError(
                "--overwrite replaces files, but -o - writes no file; leave it out."
            )
        if len(found.files) > 1:
            require_streamable(formats[0], inputs=f"{len(found.files)} results", option="--to")
        return [
            _Conversion(file.path, dict.fromkeys(formats), originals.get(file.path))
            for file in found.files
        ]
    if output_dir is not None and Path(output_dir).is_file():
        raise click.UsageError(f"--output-dir {printable(output_dir)} is a file; name a folder.")
    conversions = [
        _Conversion(
            file.path,
            {
                name: _output(file, name, output_dir, correction=original is not None)
                for name in formats
            },
            originals.get(file.path),
        )
        for file in found.files
    ]
    inputs = [*(file.path for file in found.files), *originals.values()]
    # A recorded result has no file that could be replaced.
    stored = filter(os.path.lexists, inputs)
    taken = {os.path.realpath(path): f"the input {printable(path)}" for path in stored}
    if summary is not None:
        taken[os.path.realpath(summary)] = f"the file {printable(summary)}"
    _refuse_collisions(conversions, taken)
    return conversions


def _originals(found: FoundResults, original: Path | None) -> dict[Path, Path]:
    """Return the result that each correction is of; nothing if the inputs are results."""
    if original is None:
        for file in found.files:
            if file.path.suffix.lower() in SUBTITLE_SUFFIXES:
                raise click.UsageError(
                    f"{printable(file.path)} is a subtitle file; name the result that it corrects "
                    "with --from."
                )
        return {}
    for file in found.files:
        if is_result_file(file.path) or file.path.suffix.lower() not in ANNOTATION_SUFFIXES:
            raise click.UsageError(
                f"{printable(file.path)} is not a correction; with --from, name subtitles or what "
                f"an annotation tool saved ({', '.join(ANNOTATION_SUFFIXES)})."
            )
    if original.is_dir():
        return {f.path: original / f.relative.parent / _result_name(f) for f in found.files}
    if len(found.files) > 1:
        raise click.UsageError(
            f"{len(found.files)} files cannot all correct {printable(original)}; give --from a "
            "folder of results."
        )
    return {file.path: original for file in found.files}


def _result_name(file: ResultFile) -> str:
    return corrected_name(file.path.name) + SUFFIX


def _output(file: ResultFile, name: str, folder: str | None, *, correction: bool) -> Path:
    parent = file.path.parent if folder is None else Path(folder, file.relative.parent)
    stem = file.path.stem if file.path.suffix.lower() == SUFFIX else file.path.name
    return parent / f"{corrected_name(file.path.name) if correction else stem}{suffix_of(name)}"


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
            yield report_failure(name, error)
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
    """Write the missing files of a conversion and return the report."""
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
        result = conversion.load()
        for name, path in left.items():
            if path is None:
                sys.stdout.buffer.write(render(result, name, cues=cues).encode())
                sys.stdout.buffer.flush()
            else:
                save(result, path, format=name, cues=cues)
                written.append(str(path))
    except BrokenPipeError:
        raise
    except Exception as error:  # noqa: BLE001 - reported, with its kind
        return report_failure(source, error, written, elapsed_s=time.monotonic() - begin)
    elapsed_s = time.monotonic() - begin
    report = report_on(source, result, tuple(written), elapsed_s=elapsed_s, reason="", new=False)
    return replace(report, warnings=())  # they were reported when the result was made
