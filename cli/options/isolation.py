"""The options for decoding videos: on which device, in which process, within which limits."""

from collections.abc import Callable
from typing import Any

import click

from vidground.errors import InputError
from vidground.settings import CPU, IsolationSettings, check_decode_on

_LIMITS = IsolationSettings()


def _parse_place(_: click.Context, __: click.Parameter, value: str) -> str:
    """Return the place to decode on, if it is valid."""
    try:
        check_decode_on(value)
    except InputError as error:
        raise click.BadParameter(str(error)) from error
    return value


DECODE_ON = click.option(
    "--decode-on",
    metavar="cpu|auto|cuda|cuda:N",
    default=CPU,
    show_default=True,
    callback=_parse_place,
    help="Where to decode videos. cuda is an NVIDIA card (the model's, if it is on one); videos "
    "that "
    "it may not decode to the same frames as the CPU fail. auto decodes these on the CPU, and all "
    "videos if there is no card. Not tried on a card yet.",
)


def take_isolation(values: dict[str, Any]) -> IsolationSettings | None:
    """Remove these options from the values that click parsed and return the settings.

    Returns:
        None to decode in this process.
    """
    limits = {"timeout_s": values.pop("timeout_s"), "memory_gib": values.pop("memory_gib")}
    given = {name: value for name, value in limits.items() if value is not None}
    if values.pop("isolation"):
        return IsolationSettings(**given)
    if given:
        raise click.UsageError(
            "--timeout and --memory-limit are limits of the decoding process, which --no-isolation "
            "does not start."
        )
    return None


ISOLATION_OPTIONS: list[Callable[..., Any]] = [
    DECODE_ON,
    click.option(
        "--isolation/--no-isolation",
        default=True,
        show_default=True,
        help="Decode videos in a separate process, so that a video that makes the decoder crash "
        "or hang does not affect the others.",
    ),
    click.option(
        "--timeout",
        "timeout_s",
        type=float,
        metavar="SECONDS",
        show_default=f"{_LIMITS.timeout_s:g}",
        help="Stop decoding a video after this time without progress.",
    ),
    click.option(
        "--memory-limit",
        "memory_gib",
        type=float,
        metavar="GIB",
        show_default=f"{_LIMITS.memory_gib:g}",
        help="Stop decoding a video that needs more memory than this.",
    ),
]
