"""`vidground report`: stored results as one page to look at."""

import os
from pathlib import Path

import click

from vidground.cli.options.usage import usage_errors
from vidground.cli.reporting.bars import bar
from vidground.cli.reporting.faults import say_failure
from vidground.cli.reporting.reporter import shown
from vidground.errors import InputError
from vidground.results.result_files import FoundResults, find_results
from vidground.review.report import ReportSummary, is_report, write_report
from vidground.storage.files import printable

_FAILED = 1
_LARGE_BYTES = 100_000_000


@click.command()
@click.argument("results", nargs=-1, required=True, metavar="RESULT...")
@click.option(
    "--output",
    "-o",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("report.html"),
    show_default=True,
    help="The page. A report that is there already is replaced.",
)
@click.option("--recursive", is_flag=True, help="Search folders inside of folders too.")
@click.option(
    "--videos",
    multiple=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="Look here too for videos that have moved; can be given several times.",
)
@click.option("--no-thumbnails", is_flag=True, help="Decode no video; the page is smaller.")
@click.option(
    "--absolute-links",
    is_flag=True,
    help="Link to where the videos are on this machine, so that the page can be moved away from "
    "them; if not given, the page and the videos can be moved together.",
)
@click.option("--title", default="vidground report", show_default=True, help="Heading of the page.")
@click.option("--overwrite", is_flag=True, help="Replace a file that is no report, too.")
@click.option("--quiet", "-q", is_flag=True, help="Tell of failures only.")
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
    """Make one page of stored results: player, timeline, curves, search; offline.

    RESULT is a JSON file that `caption` or `query` wrote, a folder or a pattern. The page holds
    all but the videos, which it plays from this disk, and asks nothing of any network.

    \b
    vidground report match.json match.query.json -o match.html
    vidground report results --recursive -o archive.html
    """
    with usage_errors():
        found = find_results(results, recursive=recursive)
        _require_free(output, found, overwrite=overwrite)
    count = len(found.files)  # of one video there may be several
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
        raise click.exceptions.Exit(_FAILED)


def _require_free(output: Path, found: FoundResults, *, overwrite: bool) -> None:
    """Raise InputError if the page would take the place of a result or of a stranger's file."""
    inputs = {os.path.realpath(file.path) for file in found.files}
    if os.path.realpath(output) in inputs:
        raise InputError(f"{printable(output)} is a result; name another file for the report (-o)")
    if output.is_file() and not overwrite and not is_report(output):
        raise InputError(
            f"{printable(output)} exists and is no report; name another file (-o), or replace it "
            "(--overwrite)"
        )


def _tell(summary: ReportSummary, found: FoundResults, output: Path) -> None:
    for path in found.foreign:
        click.echo(f"warning: {printable(path)}: no result of vidground; passed over", err=True)
    for name in summary.not_found:
        click.echo(
            f"warning: {shown(name)}: the video was not found, or has another size; say where it "
            "is (--videos)",
            err=True,
        )
    for note in summary.notes:
        click.echo(f"warning: {shown(note)}", err=True)
    if summary.size_bytes > _LARGE_BYTES:
        click.echo("note: browsers open so large a page slowly; --no-thumbnails helps", err=True)
    size = f"{summary.size_bytes / 1e6:.1f} MB"
    counts = f"videos: {summary.videos}, events: {summary.events}, {size}"
    click.echo(f"done: {shown(str(output))} ({counts})", err=True)
