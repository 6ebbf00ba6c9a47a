"""The options that shape subtitles, for every command that writes results."""

from typing import get_args

import click

from vidground.results.cues import CueSettings, Overlap, Style
from vidground.results.formats import SUBTITLE_FORMATS, require_packages

CUE_OPTIONS = [
    click.option("--max-line-width", type=int, help="Subtitles: most characters in a line."),
    click.option("--max-line-count", type=int, help="Subtitles: most lines shown at once."),
    click.option(
        "--min-duration",
        "min_duration_s",
        type=float,
        metavar="SECONDS",
        help="Subtitles: show an event for at least so long, if the next one leaves the time.",
    ),
    click.option(
        "--max-duration",
        "max_duration_s",
        type=float,
        metavar="SECONDS",
        help="Subtitles: show a long event as several equal cues of at most so long.",
    ),
    click.option(
        "--overlap",
        type=click.Choice(get_args(Overlap)),
        help="Subtitles: what becomes of events that overlap. keep: each is shown (the default). "
        "trim: one ends where the next begins. merge: their texts are shown together.",
    ),
    click.option(
        "--style",
        type=click.Choice(get_args(Style)),
        default=CueSettings().style,
        show_default=True,
        help="Subtitles: netflix is 42 characters, 2 lines, 5/6 to 7 seconds, one cue at a time "
        "and 2 frames between them, where the other options do not say otherwise.",
    ),
]


def check_formats(formats: tuple[str, ...], cues: CueSettings, *, option: str) -> None:
    """Refuse cue options without a format that they shape, and formats that cannot be written.

    option: what the formats are named with.
    """
    if cues != CueSettings() and not set(SUBTITLE_FORMATS).intersection(formats):
        raise click.UsageError(
            "--max-line-width, --max-line-count, --min-duration, --max-duration, --overlap and "
            f"--style shape subtitles; add one of {', '.join(SUBTITLE_FORMATS)} to {option}."
        )
    require_packages(formats)
