"""`vidground query`: find when something happens in videos."""

from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path

import click

from vidground.archive.outputs import Job
from vidground.archive.workers import Outcomes, Worker
from vidground.cli.options.run_options import RunOptions, run_options
from vidground.cli.options.usage import usage_errors
from vidground.cli.plotting import PLOT_OPTION, run_with_plot
from vidground.cli.running.batch import run_batch
from vidground.progress import OnProgress
from vidground.settings import GroundingSettings

_GROUNDING = GroundingSettings()


@click.command()
@run_options(formats="json")
@click.option(
    "--text",
    "-t",
    "texts",
    multiple=True,
    required=True,
    help='What to look for ("a player scores"). Repeat it for several queries.',
)
@click.option(
    "--threshold",
    type=float,
    default=_GROUNDING.found_threshold,
    show_default=True,
    help="Minimum score, in [0, 1], of a moment that counts as found.",
)
@click.option(
    "--max-moments",
    type=int,
    default=_GROUNDING.max_moments,
    show_default=True,
    help="Maximum number of moments per query.",
)
@PLOT_OPTION
def query(
    options: RunOptions,
    texts: tuple[str, ...],
    threshold: float,
    max_moments: int,
    plot: Path | None,
) -> None:
    """Find when something happens in videos.

    INPUT is a video file, a folder or a pattern ("archive/**/*.mp4"). The answers to all texts on
    match.mp4 are in match.query.json. Finished videos are skipped, and done again if the texts, the
    video, the model or an option that affects the result has changed. Files that vidground did not
    write, or that were edited since, are left as they are.

    \b
    vidground query match.mp4 --text "a player scores" --text "a red card"
    vidground query match.mp4 --text "a player scores" --out txt -o -
    vidground query match.mp4 --text "a player scores" --plot curve.png
    """
    if not all(text.strip() for text in texts):
        raise click.UsageError("--text is empty; say what to look for.")
    with usage_errors():
        grounding = GroundingSettings(found_threshold=threshold, max_moments=max_moments)
    run = run_batch if plot is None else partial(run_with_plot, plot=plot, texts=texts)
    run(
        options,
        lambda options: _load(options, texts, grounding),
        noun="moment",
        asked={"command": "query", "texts": list(texts), **asdict(grounding)},
        infix="query",
        answers=True,
    )


def _load(options: RunOptions, texts: tuple[str, ...], grounding: GroundingSettings) -> Worker:
    options.model.announce()
    # Here, so that --help needs no torch.
    from vidground.grounder import Grounder
    from vidground.results.types import Groundings

    grounder = Grounder(options.model.model, grounding=grounding, **options.inference)

    def worker(jobs: Iterator[Job], on_progress: OnProgress) -> Outcomes:
        return grounder.engine.work_on(
            jobs,
            lambda backend, job: Groundings(
                tuple(grounder.query(job.path, texts, on_progress=on_progress, backend=backend))
            ),
        )

    return worker
