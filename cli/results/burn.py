"""`vidground burn`: render the events of a result into the picture of its video."""

from pathlib import Path
from typing import Any, get_args

import click

from vidground.cli.options.cues import CUE_OPTIONS
from vidground.cli.options.usage import usage_errors
from vidground.cli.reporting.bars import bar
from vidground.cli.results.media import (
    open_source,
    require_free,
    say,
    say_program,
    warn_left_out,
    with_source,
)
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
        help=f"The new video; its suffix chooses the container: {', '.join(CONTAINERS)}.",
    ),
    click.option(
        "--font-size",
        type=float,
        default=_DEFAULTS.font_percent,
        show_default=True,
        metavar="PERCENT",
        help="Height of a line, in percent of the height of the picture.",
    ),
    click.option(
        "--position",
        type=click.Choice(get_args(Position)),
        default=_DEFAULTS.position,
        show_default=True,
        help="Position of the text.",
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
    """Render the events of a stored result into the picture of its video.

    RESULT is a JSON file that `caption` or `query` wrote, or the video itself if its result lies
    beside it. VIDEO is only needed if it has moved since. Requires ffmpeg, which encodes the
    picture again, a font on this machine, and the extra
    formats.

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
    warn_left_out(source.video)
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
            f"warning: {output}: no font on this machine has {missing}, which are shown as boxes; "
            "install a font that has them"
        )
