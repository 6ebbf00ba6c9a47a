"""`vidground caption`: describe what happens in videos, as subtitles or data."""

from collections.abc import Iterator

import click

from vidground.archive.outputs import Job
from vidground.archive.workers import Outcomes, Worker
from vidground.cli.options.run_options import RunOptions, run_options
from vidground.cli.running.batch import run_batch
from vidground.progress import OnProgress

PROMPT_OPTION = click.option(
    "--prompt",
    "--question",
    "question",
    help="Ask this question instead of the one that the model was trained to caption with.",
)


@click.command()
@run_options(formats="srt")
@PROMPT_OPTION
def caption(options: RunOptions, question: str | None) -> None:
    """Describe what happens in videos, and when.

    INPUT is a video file, a folder or a pattern ("archive/**/*.mp4"). The result of match.mp4 is
    match.srt. Finished videos are skipped, and done again if the video, the model or an option
    that affects the result has changed. Files that vidground did not write, or that were edited
    since, are left as they are.

    \b
    vidground caption match.mp4
    vidground caption archive --recursive --out srt,json -o results
    find . -name '*.mkv' -print0 | vidground caption --from-file - --summary run.json
    """
    run_batch(
        options, lambda options: load(options, question), noun="event", asked=asked_of(question)
    )


def asked_of(question: str | None) -> dict[str, str | None]:
    """Return what is recorded about the question; refuse an empty one."""
    if question is not None and not question.strip():
        raise click.UsageError(
            "--prompt is empty; give a question, or leave it out for the model's own."
        )
    return {"command": "caption", "prompt": question}


def load(options: RunOptions, question: str | None) -> Worker:
    """Load the model and return a worker that captions videos."""
    options.model.announce()
    # Here, so that --help needs no torch.
    from vidground.captioner import DenseCaptioner

    captioner = DenseCaptioner(options.model.model, **options.inference)

    def worker(jobs: Iterator[Job], on_progress: OnProgress) -> Outcomes:
        return captioner.engine.work_on(
            jobs,
            lambda backend, job: captioner.caption(
                job.path, question=question, on_progress=on_progress, backend=backend
            ),
        )

    return worker
