"""The option --plot of `query`: plot the relevance curves of one video."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NoReturn

import click

from vidground.archive.inputs import find_videos
from vidground.archive.ledger import Ledger
from vidground.archive.outputs import Job, plan_file, plan_outputs, require_writable
from vidground.archive.workers import Outcomes, Worker
from vidground.cli.options.files import STDOUT, named_file
from vidground.cli.options.run_options import RunOptions
from vidground.cli.options.usage import usage_errors
from vidground.cli.reporting.reporter import shown
from vidground.cli.running.batch import run_batch
from vidground.cli.running.finish import FAILED
from vidground.cli.running.runner import Load
from vidground.errors import FormatError, VidgroundError
from vidground.progress import OnProgress
from vidground.results.formats import load as load_result
from vidground.results.types import Groundings
from vidground.review.plots import check_plot, plot_relevance

PLOT_OPTION = click.option(
    "--plot",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.png",
    help="Plot the relevance curves; for one video only. .svg and .pdf work too.",
)


def run_with_plot(
    options: RunOptions,
    load: Load,
    plot: Path,
    *,
    texts: Sequence[str],
    noun: str,
    asked: Mapping[str, Any],
    infix: str,
    answers: bool,
) -> NoReturn:
    """Run `run_batch` over one video, then plot its new or stored result to `plot`."""
    with usage_errors():
        job = _only_job(options, infix)
        check_plot(plot, queries=len(texts))
        require_writable(plot)
    made: list[Groundings] = []

    def load_and_keep(options: RunOptions) -> Worker:
        worker = load(options)

        def keep(jobs: Iterator[Job], on_progress: OnProgress) -> Outcomes:
            with closing(worker(jobs, on_progress)) as outcomes:
                for outcome in outcomes:
                    if isinstance(outcome.result, Groundings):
                        made.append(outcome.result)
                    yield outcome

        return keep

    try:
        run_batch(options, load_and_keep, noun=noun, asked=asked, infix=infix, answers=answers)
    except click.exceptions.Exit as ending:
        if not made and ending.exit_code:
            raise
        try:
            plot_relevance(made[-1] if made else _stored(job, texts), plot)
        except VidgroundError as error:
            click.echo(f"error: {shown(str(error))}", err=True)
            raise click.exceptions.Exit(FAILED) from error
        if not options.log.quiet and options.log.log_format == "text":
            click.echo(f"done: {shown(str(plot))}", err=True)
        raise


def _only_job(options: RunOptions, infix: str) -> Job:
    files = options.files
    if options.control.dry_run:
        raise click.UsageError(
            "--plot needs a result, and --dry-run makes none; leave one of them out."
        )
    if options.engine.engine != "local":
        raise click.UsageError("--plot is for one video; leave --engine out.")
    if files.from_file is not None:
        raise click.UsageError("--plot is for one video; give its name instead of a list.")
    found = find_videos(files.inputs, recursive=files.recursive)
    if len(found.videos) != 1:
        raise click.UsageError(f"--plot is for one video; {len(found.videos)} were found.")
    file = named_file(files)
    if file is not None:
        return plan_file(found.videos[0], file)
    formats = () if files.output_dir == STDOUT else files.formats
    (job,) = plan_outputs(
        found.videos,
        formats,
        folder=files.output_dir,
        infix=infix,
        keep_suffix=files.keep_suffix,
    )
    return job


def _stored(job: Job, texts: Sequence[str]) -> Groundings:
    """Return the stored answers to `texts`; raise FormatError if there are none."""
    result = Ledger().stored(job)
    path = job.outputs.get("json")
    if result is None and path is not None and path.is_file():
        result = load_result(path)
    if isinstance(result, Groundings) and [r.query for r in result.results] == list(texts):
        return result
    raise FormatError(
        "no curves are stored for these texts and this video; make the result again (--overwrite)"
    )
