"""`vidground mux`: add the events of a result to its video as a subtitle track."""

from pathlib import Path
from typing import Any

import click

from vidground.cli.options.cues import CUE_OPTIONS
from vidground.cli.options.usage import usage_errors
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
from vidground.media.subtitle_tracks import TrackSettings
from vidground.media.subtitle_tracks import mux as add_track
from vidground.results.cues import CueSettings
from vidground.results.formats import require_packages

_CODECS = tuple(dict.fromkeys(c for kind in CONTAINERS.values() for c in kind.subtitles))


@click.command()
@with_source(
    click.option(
        "--output",
        "-o",
        required=True,
        type=click.Path(dir_okay=False, path_type=Path),
        help=f"The new video; its suffix chooses the container: {', '.join(CONTAINERS)}.",
    ),
    click.option("--language", metavar="CODE", help="Language of the track, such as en or deu."),
    click.option("--title", metavar="TEXT", help="Title of the track, as players show it."),
    click.option(
        "--codec",
        type=click.Choice(_CODECS),
        help="Codec of the track. By default mov_text in mp4 and mov, srt in mkv, webvtt in webm; "
        "mkv also supports ass.",
    ),
    *CUE_OPTIONS,
)
def mux(
    names: tuple[str, ...],
    output: Path,
    language: str | None,
    title: str | None,
    codec: str | None,
    any_video: bool,
    overwrite: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Add the events of a stored result to its video as subtitles that can be switched off.

    RESULT is a JSON file that `caption` or `query` wrote, or the video itself if its result lies
    beside it. VIDEO is only needed if it has moved since. Requires ffmpeg, which copies picture,
    sound and existing subtitles unchanged. Tracks in
    mp4 and mov show one text at a time: overlapping events are merged there, unless --overlap trim
    is given.

    \b
    vidground mux match.json -o match.mkv --language en --title "what happens"
    """
    with usage_errors():
        settings, cues = TrackSettings(language, title, codec), CueSettings(**options)
        container_of(output)
    require_packages(("ass",) if codec == "ass" else ())
    source = open_source(names, any_video=any_video)
    with usage_errors():
        require_free([output], source, overwrite=overwrite)
    program = find_program()
    say_program(program, quiet=quiet)
    warn_left_out(source.video)
    with usage_errors():
        add_track(source.video, source.result, output, program, settings, cues=cues)
    count = len(source.result.events)
    if count:
        plural = "" if count == 1 else "s"
        say(f"{output}  {count} event{plural} in a track", quiet=quiet)
    else:
        say(f"warning: {output}: the result has no events; no track was added")
