"""`vidground burn`: a video with a result's events as part of its picture."""

from pathlib import Path
from typing import Any, get_args

import click

from vidground.cli.options.cues import CUE_OPTIONS
from vidground.cli.options.usage import usage_errors
from vidground.cli.reporting.bars import bar
from vidground.cli.results.media import open_source, require_free, say, say_program, with_source
from vidground.media.containers import CONTAINERS, container_of
from vidground.media.ffmpeg import find_program
from vidground.media.subtitle_tracks import BurnSettings, Position
from vidground.media.subtitle_tracks import burn as burn_in
from vidground.results.cues import CueSettings
from vidground.results.documents import video_of
from vidground.results.formats import require_packages

_DEFAULTS = BurnSettings()


@click.command()
@with_source(
    click.option(
        "--output",
        "-o",
        required=True,
        type=click.Path(dir_okay=False, path_type=Path),
        help=f"The new video; its suffix says what it becomes: {', '.join(CONTAINERS)}.",
    ),
    click.option(
        "--font-size",
        type=float,
        default=_DEFAULTS.font_percent,
        show_default=True,
        metavar="PERCENT",
        help="Height of a line, in percent of the picture's height.",
    ),
    click.option(
        "--position",
        type=click.Choice(get_args(Position)),
        default=_DEFAULTS.position,
        show_default=True,
        help="Where the text stands.",
    ),
    *CUE_OPTIONS,
)
def burn(
    names: tuple[str, ...],
    output: Path,
    font_size: float,
    position: Position,
    any_video: bool,
    overwrite: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Write the events of a stored result into the picture of its video.

    RESULT is a JSON file that `caption` or `query` wrote. VIDEO can be left out where it lies
    where RESULT says. The program ffmpeg encodes the picture anew and needs a font on this
    machine; needs the extra formats, too.

    \b
    vidground burn match.json -o shown.mp4 --max-line-width 42
    """
    with usage_errors():
        settings, cues = BurnSettings(font_size, position), CueSettings(**options)
        container_of(output)
    require_packages(("ass",))
    source = open_source(names, any_video=any_video)
    with usage_errors():
        require_free([output], source, overwrite=overwrite)
    program = find_program()
    say_program(program, quiet=quiet)
    seconds = max(1, round(video_of(source.result).duration_s))
    with bar("s", seconds, quiet=quiet) as show:
        missing = burn_in(
            source.video,
            source.result,
            output,
            program,
            settings,
            cues=cues,
            on_time=lambda done_s: show(min(round(done_s), seconds), seconds),
        )
    say(f"{output}  {len(source.result.events)} events in the picture", quiet=quiet)
    if missing:
        say(
            f"warning: {output}: no font on this machine has {missing}, which are boxes in the "
            "picture; install one that has them"
        )
