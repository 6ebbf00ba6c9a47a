"""`vidground clip`: the moments of a stored result as files of their own."""

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

_FAILED = 1


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
        "--padding", type=float, default=0.0, metavar="SECONDS", help="Add so much on both sides."
    ),
    click.option("--min-score", type=float, help="Only moments of at least this score."),
    click.option("--limit", type=int, help="At most so many, those of the highest scores."),
    click.option("--query", metavar="TEXT", help="Only the moments of this query."),
    click.option("--precise", is_flag=True, help="Encode every clip, to be exact to the frame."),
    click.option("--fast", is_flag=True, help="Copy every clip; it may begin early and end late."),
    click.option(
        "--tolerance",
        type=float,
        metavar="SECONDS",
        help="Copy a clip if its start, end and length are off by no more, else encode it. "
        "Default: the time of one frame.",
    ),
    click.option("--join", is_flag=True, help="Also make one video of all clips."),
    click.option("--dry-run", is_flag=True, help="Only say what would be made."),
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

    RESULT is a JSON file that `caption` or `query` wrote. VIDEO can be left out where it lies
    where RESULT says. Clips are numbered by time; the program ffmpeg makes them: it copies what
    is stored where that is exact enough, and encodes the rest anew.

    \b
    vidground clip match.json -o clips --padding 2
    vidground clip moved/match.mp4 match.query.json -o goals --query "a goal" --join
    """
    if precise and fast:
        raise click.UsageError("--precise encodes and --fast copies; choose one.")
    if tolerance is not None and (precise or fast):
        raise click.UsageError("--tolerance says when to copy; --precise and --fast say it, too.")
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
    if program is not None and events:
        say_program(program, quiet=quiet)
        make_folder(folder)
    clips, failed = _make(maker, events, outputs, dry_run=dry_run, quiet=quiet)
    if join and clips and not dry_run:
        duration_s = maker.join(clips, reel)
        say(f"{reel}  {duration_s:.3f} s, {len(clips)} clips joined", quiet=quiet)
    if not events:
        say("no moment to cut out", quiet=quiet)
    if failed:
        raise click.exceptions.Exit(_FAILED)


def _outputs(source: Source, events: list[Event], folder: Path) -> tuple[list[Path], Path]:
    """The files for the clips, and the one for all of them together."""
    stem, suffix = file_stem(source.video.stem), suffix_for_parts(source.video)
    clips = [
        folder / clip_name(stem, number, event, suffix) for number, event in enumerate(events, 1)
    ]
    return clips, folder / f"{stem}_reel{suffix}"


def _make(
    maker: ClipMaker, events: list[Event], outputs: list[Path], *, dry_run: bool, quiet: bool
) -> tuple[list[Clip], int]:
    """Make the clips, or say what they would be; return them, and how many have failed."""
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
        except InputError as error:  # about this moment: it lies behind the video's end, …
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
        how = f"copied ({early_ms:+.0f} ms at its start, {late_ms:+.0f} ms at its end)"
    return f"{output}  {clock(round(event.start_s * 1000), '.')} {cut.duration_s:.3f} s, {how}"
