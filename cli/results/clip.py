"""`vidground clip`: cut the moments of a stored result into separate files."""

from pathlib import Path

import click

from vidground.cli.options.usage import usage_errors
from vidground.cli.reporting.faults import say_failure
from vidground.cli.results.media import (
    Source,
    open_source,
    require_free,
    say,
    say_program,
    with_source,
)
from vidground.cli.running.finish import FAILED
from vidground.errors import InputError, VidgroundError
from vidground.faults import faults_as_internal
from vidground.media.clip_selection import ChoiceSettings, choose_events, clip_name, file_stem
from vidground.media.clips import Clip, ClipMaker
from vidground.media.containers import suffix_for_parts
from vidground.media.cuts import Cut, CutSettings, Mode
from vidground.media.ffmpeg import find_program
from vidground.results.cues import clock
from vidground.results.types import Event
from vidground.storage.atomic import make_folder


@click.command()
@with_source(
    click.option(
        "--output-dir",
        "-o",
        "folder",
        required=True,
        type=click.Path(file_okay=False, path_type=Path),
        metavar="DIR",
        help="Folder for the clips.",
    ),
    click.option(
        "--padding",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="Extend each clip by this time on both sides.",
    ),
    click.option("--min-score", type=float, help="Minimum score of a moment."),
    click.option(
        "--limit", type=int, help="Maximum number of clips; those with the highest scores are made."
    ),
    click.option("--query", metavar="TEXT", help="Only the moments of this query."),
    click.option(
        "--precise", is_flag=True, help="Encode every clip, for cuts that are exact to the frame."
    ),
    click.option(
        "--fast",
        is_flag=True,
        help="Copy every clip without encoding; it may start early and end late.",
    ),
    click.option(
        "--tolerance",
        type=float,
        metavar="SECONDS",
        help="Copy a clip if its start, end and duration are off by at most this, else encode it. "
        "By default the duration of one frame.",
    ),
    click.option("--join", is_flag=True, help="Also join all clips into one video."),
    click.option("--dry-run", is_flag=True, help="Only print what would be made."),
)
def clip(
    names: tuple[str, ...],
    folder: Path,
    padding: float,
    min_score: float | None,
    limit: int | None,
    query: str | None,
    precise: bool,
    fast: bool,
    tolerance: float | None,
    join: bool,
    dry_run: bool,
    any_video: bool,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Cut the moments of a stored result out of its video, with their sound.

    RESULT is a JSON file that `caption` or `query` wrote, or the video itself if its result lies
    beside it. VIDEO is only needed if it has moved since. Clips are numbered by time. Requires
    ffmpeg, which copies the stored data where that is
    exact enough and encodes the rest again.

    \b
    vidground clip match.json -o clips --padding 2
    vidground clip moved/match.mp4 match.query.json -o goals --query "a goal" --join
    """
    if precise and fast:
        raise click.UsageError("--precise encodes and --fast copies; give only one of them.")
    if tolerance is not None and (precise or fast):
        raise click.UsageError(
            "--tolerance chooses between copying and encoding, as --precise and --fast do; give "
            "only one."
        )
    mode: Mode = "precise" if precise else "fast" if fast else "auto"
    with usage_errors():
        choice = ChoiceSettings(padding, min_score, limit, query)
        settings = CutSettings(mode, tolerance)
    source = open_source(names, any_video=any_video)
    program = None if dry_run else find_program()
    with usage_errors():
        maker = ClipMaker(source.video, program, settings)
        events = choose_events(source.result, choice, duration_s=maker.duration_s)
        outputs, reel = _outputs(source, events, folder)
        taken = [*outputs, reel] if join else outputs
        require_free(taken, source, overwrite=overwrite or dry_run)
    if maker.left_out is not None:
        say(f"warning: {source.video}: {maker.left_out}")
    if program is not None and events:
        say_program(program, quiet=quiet)
        make_folder(folder)
    clips, failed = _make(maker, events, outputs, dry_run=dry_run, quiet=quiet)
    if join and clips and not dry_run:
        duration_s = maker.join(clips, reel)
        say(f"{reel}  {duration_s:.3f} s, {len(clips)} clips joined", quiet=quiet)
    if not events:
        say("no moments to cut", quiet=quiet)
    if failed:
        raise click.exceptions.Exit(FAILED)


def _outputs(source: Source, events: list[Event], folder: Path) -> tuple[list[Path], Path]:
    """Return the files of the clips, and the file of all clips joined."""
    stem, suffix = file_stem(source.video.stem), suffix_for_parts(source.video)
    clips = [
        folder / clip_name(stem, number, event, suffix) for number, event in enumerate(events, 1)
    ]
    return clips, folder / f"{stem}_reel{suffix}"


def _make(
    maker: ClipMaker, events: list[Event], outputs: list[Path], *, dry_run: bool, quiet: bool
) -> tuple[list[Clip], int]:
    """Make the clips, or print what would be made; return them and the number of failures."""
    clips: list[Clip] = []
    failed = 0
    for event, output in zip(events, outputs, strict=True):
        try:
            with faults_as_internal(output):
                if dry_run:
                    cut = maker.plan(event.start_s, event.end_s)
                    say(f"would make {_line(output, event, cut)}", quiet=quiet)
                    continue
                made = maker.make(event.start_s, event.end_s, output)
        except InputError as error:  # about this moment, such as one after the end of the video
            say(f"failed: {output}: {error}")
            failed += 1
            continue
        except VidgroundError as error:
            say_failure(error)
            failed += 1
            continue
        clips.append(made)
        say(_line(output, event, made.cut), quiet=quiet)
        if abs(made.duration_s - made.cut.duration_s) > made.cut.duration_s / made.cut.frames:
            say(f"warning: {output}: is {made.duration_s:.3f} s long; the video is damaged there")
    return clips, failed


def _line(output: Path, event: Event, cut: Cut) -> str:
    how = "encoded"
    if cut.packets is not None:
        early_ms, late_ms = 1000 * (cut.start_s - event.start_s), 1000 * (cut.end_s - event.end_s)
        how = f"copied ({early_ms:+.0f} ms at the start, {late_ms:+.0f} ms at the end)"
    return f"{output}  {clock(round(event.start_s * 1000), '.')} {cut.duration_s:.3f} s, {how}"
