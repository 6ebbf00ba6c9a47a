"""The options that shape subtitles, for every command that writes results."""

from typing import get_args

import click

from vidground.results.cues import CueSettings, Overlap, Style
from vidground.results.formats import SUBTITLE_FORMATS, require_packages

CUE_OPTIONS = [
    click.option("--max-line-width", type=int, help="Subtitles: maximum characters per line."),
    click.option(
        "--max-line-count", type=int, help="Subtitles: maximum lines shown at the same time."
    ),
    click.option(
        "--min-duration",
        "min_duration_s",
        type=float,
        metavar="SECONDS",
        help="Subtitles: minimum duration of a cue, as far as the next cue allows it.",
    ),
    click.option(
        "--max-duration",
        "max_duration_s",
        type=float,
        metavar="SECONDS",
        help="Subtitles: maximum duration of a cue; a longer event is split into equal cues.",
    ),
    click.option(
        "--overlap",
        type=click.Choice(get_args(Overlap)),
        help="Subtitles: how overlapping events are shown. keep: as they are (the default). "
        "trim: each ends where the next begins. merge: their texts are shown together.",
    ),
    click.option(
        "--style",
        type=click.Choice(get_args(Style)),
        default=CueSettings().style,
        show_default=True,
        help="Subtitles: netflix means 42 characters, 2 lines, 5/6 to 7 seconds, one cue at a "
        "time and 2 frames between cues, unless the other options say otherwise.",
    ),
]


def check_formats(formats: tuple[str, ...], cues: CueSettings, *, option: str) -> None:
    """Refuse cue options without a subtitle format, and formats that cannot be written.

    Args:
        formats: the chosen formats.
        cues: the settings from the options.
        option: the option that chooses the formats, for the message.

    Raises:
        click.UsageError: cue options are given, but no subtitle format.
        InputError: a format needs a package that is not installed.
    """
    if cues != CueSettings() and not set(SUBTITLE_FORMATS).intersection(formats):
        raise click.UsageError(
            "--max-line-width, --max-line-count, --min-duration, --max-duration, --overlap and "
            f"--style shape subtitles; add one of {', '.join(SUBTITLE_FORMATS)} to {option}."
        )
    require_packages(formats)
