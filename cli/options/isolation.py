"""The options for decoding videos, where and in which process, and the settings they become."""

from collections.abc import Callable
from typing import Any

import click

from vidground.errors import InputError
from vidground.settings import CPU, IsolationSettings, check_decode_on

_LIMITS = IsolationSettings()


def _parse_place(_: click.Context, __: click.Parameter, value: str) -> str:
    """A place to decode on, if it is one."""
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
    help="Where videos are decoded. On cuda, an NVIDIA card (the model's if it is on one), a video "
    "fails that is not surely decoded to the same pictures; auto leaves it to the CPU, and all if "
    "there is no card. Not tried on a card yet.",
)


def take_isolation(values: dict[str, Any]) -> IsolationSettings | None:
    """Take these options out of the values that click parsed; None for no process of its own."""
    limits = {"timeout_s": values.pop("timeout_s"), "memory_gib": values.pop("memory_gib")}
    given = {name: value for name, value in limits.items() if value is not None}
    if values.pop("isolation"):
        return IsolationSettings(**given)
    if given:
        raise click.UsageError(
            "--timeout and --memory-limit are limits of the process that decodes, which "
            "--no-isolation does without."
        )
    return None


ISOLATION_OPTIONS: list[Callable[..., Any]] = [
    DECODE_ON,
    click.option(
        "--isolation/--no-isolation",
        default=True,
        show_default=True,
        help="Decode videos in a process of its own, so that one which makes the decoder crash or "
        "hang fails alone.",
    ),
    click.option(
        "--timeout",
        "timeout_s",
        type=float,
        metavar="SECONDS",
        show_default=f"{_LIMITS.timeout_s:g}",
        help="Give a video up when its decoding makes no progress for so long.",
    ),
    click.option(
        "--memory-limit",
        "memory_gib",
        type=float,
        metavar="GIB",
        show_default=f"{_LIMITS.memory_gib:g}",
        help="Give a video up when its decoding needs more memory than this.",
    ),
]
