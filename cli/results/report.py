"""`vidground report`: one web page to browse and search stored results."""

import os
from pathlib import Path

import click

from vidground.archive.stored_results import find_stored
from vidground.checkpoints.announcement import spoken_bytes
from vidground.cli.options.usage import usage_errors
from vidground.cli.reporting.bars import bar
from vidground.cli.reporting.faults import say_failure
from vidground.cli.reporting.reporter import shown
from vidground.cli.running.finish import FAILED
from vidground.errors import InputError
from vidground.results.result_files import FoundResults
from vidground.review.report import ReportSummary, is_report, write_report
from vidground.storage.files import printable

_LARGE_BYTES = 100_000_000


@click.command()
@click.argument("results", nargs=-1, required=True, metavar="RESULT...")
@click.option(
    "--output",
    "-o",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("report.html"),
    show_default=True,
    help="File for the page. An existing report is replaced.",
)
@click.option("--recursive", is_flag=True, help="Search subfolders too.")
@click.option(
    "--videos",
    multiple=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="Also search this folder for videos that have moved. Can be repeated.",
)
@click.option(
    "--no-thumbnails",
    is_flag=True,
    help="Do not decode videos for thumbnails; the page is smaller.",
)
@click.option(
    "--absolute-links",
    is_flag=True,
    help="Link to the absolute paths of the videos, so that the page can be moved on its own. By "
    "default the page and the videos can be moved together.",
)
@click.option("--title", default="vidground report", show_default=True, help="Heading of the page.")
@click.option(
    "--overwrite", is_flag=True, help="Replace the output file even if it is not a report."
)
@click.option("--quiet", "-q", is_flag=True, help="Only report failures.")
def report(
    results: tuple[str, ...],
    output: Path,
    recursive: bool,
    videos: tuple[Path, ...],
    no_thumbnails: bool,
    absolute_links: bool,
    title: str,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Create one web page from stored results: player, timeline, curves and search.

    RESULT is a JSON file that `caption` or `query` wrote, a video whose results lie beside it, a
    folder or a pattern. The page contains everything except the videos, which it plays from this
    disk. It works offline.

    \b
    vidground report match.json match.query.json -o match.html
    vidground report results --recursive -o archive.html
    """
    with usage_errors():
        found = find_stored(results, recursive=recursive)
        if not found.files:
            reasons = "; ".join(shown(str(error)) for _, error in found.missing)
            raise click.UsageError(f"Nothing to report. {reasons}")
        _require_free(output, found, overwrite=overwrite)
    count = len(found.files)  # there may be several per video
    with bar("result", count, quiet=quiet) as progress:
        summary = write_report(
            [file.path for file in found.files],
            output,
            title=title,
            with_thumbnails=not no_thumbnails,
            videos=videos,
            absolute_links=absolute_links,
            on_progress=lambda done, total: progress(done * count // total, count),
        )
    if not quiet:
        _tell(summary, found, output)
    failures = [error for _, error in (*found.missing, *summary.failed)] + [*summary.faults]
    for error in failures:
        say_failure(error)
    if failures:
        raise click.exceptions.Exit(FAILED)


def _require_free(output: Path, found: FoundResults, *, overwrite: bool) -> None:
    """Raise InputError if the page would replace a result or a file that is not a report."""
    inputs = {os.path.realpath(file.path) for file in found.files}
    if os.path.realpath(output) in inputs:
        raise InputError(
            f"{printable(output)} is a result; choose another file for the report (-o)"
        )
    if output.is_file() and not overwrite and not is_report(output):
        raise InputError(
            f"{printable(output)} exists and is not a report; choose another file (-o), or "
            f"replace it "
            "(--overwrite)"
        )


def _tell(summary: ReportSummary, found: FoundResults, output: Path) -> None:
    for path in found.foreign:
        click.echo(f"warning: {printable(path)}: not a result of vidground; ignored", err=True)
    for name in summary.not_found:
        click.echo(
            f"warning: {shown(name)}: the video was not found or has a different size; give its "
            "folder (--videos)",
            err=True,
        )
    for note in summary.notes:
        click.echo(f"warning: {shown(note)}", err=True)
    if summary.size_bytes > _LARGE_BYTES:
        click.echo(
            "note: browsers are slow to open a page of this size; --no-thumbnails makes it smaller",
            err=True,
        )
    size = spoken_bytes(summary.size_bytes)
    counts = f"videos: {summary.videos}, events: {summary.events}, {size}"
    click.echo(f"done: {shown(str(output))} ({counts})", err=True)
