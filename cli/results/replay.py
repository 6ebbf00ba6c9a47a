"""`vidground replay`: a stored result made again and compared."""

import os
from pathlib import Path

import click

from vidground.archive.stored_results import load
from vidground.cli.options.usage import usage_errors
from vidground.cli.reporting.loading import announce_model, loading_shown
from vidground.cli.reporting.reporter import shown
from vidground.results.documents import provenance_in, video_of


@click.command()
@click.argument("result", type=click.Path(dir_okay=False, path_type=Path), metavar="RESULT.json")
@click.option(
    "--video",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Path of the video, if it has moved.",
)
@click.option("--device", help="Device to use. By default the kind of device that made the result.")
@click.option(
    "--vision",
    default="torch",
    show_default=True,
    help="Vision encoder of the run that made the result: torch or onnx:DIR.",
)
@click.option("--offline", is_flag=True, help="Use only cached files; never access the network.")
def replay(
    result: Path, video: Path | None, device: str | None, vision: str, offline: bool
) -> None:
    """Reproduce a stored result with the model and settings recorded in it, and compare.

    Prints "same" and exits with 0, or prints the differences and exits with 1: lines with - are
    missing now, + are new, ~ have a different score.

    \b
    vidground replay results/match.json
    vidground replay results/match.json --video /archive/match.mp4
    """
    if offline:
        os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    with loading_shown(), usage_errors():
        _announce(result, video, device, offline=offline)
        # Here, so that --help needs no torch.
        from vidground.review.replay import replay as make_again

        outcome = make_again(
            result, video=video, device=device, vision=vision, local_files_only=offline
        )
    for note in outcome.notes:
        click.echo(f"note: {shown(note)}", err=True)
    for line in outcome.differences:
        click.echo(shown(line))
    if not outcome.same:
        raise click.exceptions.Exit(1)
    click.echo(f"same: {len(outcome.result.events)} found again")


def _announce(result: Path, video: Path | None, device: str | None, *, offline: bool) -> None:
    """Announce the model, unless the video is missing and nothing will be loaded."""
    stored = load(result)
    # Here, so that --help is fast.
    from vidground.review.replay_settings import dtype_of

    before = provenance_in(stored)
    if not (video or Path(video_of(stored).path)).exists():
        return
    # A result made on a GPU is reproduced on a GPU only if there is one.
    on_cpu = before.runtime.get("device") == "cpu"
    announce_model(
        before.model,
        revision=before.revision,
        offline=offline,
        device=device or ("cpu" if on_cpu else None),
        dtype=dtype_of(before),
    )
