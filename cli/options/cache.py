"""The options of the cache of encoded videos, and the settings they become."""

import functools
from collections.abc import Callable
from typing import Any

import click

from vidground.cli.options.usage import is_named
from vidground.errors import InputError
from vidground.settings import CacheSettings

_CACHE = CacheSettings()

FOLDER_OPTION = click.option(
    "--cache-dir",
    type=click.Path(file_okay=False),
    metavar="DIR",
    envvar="VIDGROUND_CACHE",
    show_envvar=True,
    show_default="~/.cache/vidground/features",
    help="Where encoded videos are kept.",
)
SIZE_OPTION = click.option(
    "--cache-size",
    type=float,
    metavar="GIB",
    envvar="VIDGROUND_CACHE_SIZE",
    show_envvar=True,
    show_default=f"{_CACHE.max_gib:g}",
    help="What all encoded videos may take; those used least recently go first.",
)

CACHE_OPTIONS: list[Callable[..., Any]] = [
    click.option(
        "--cache/--no-cache",
        default=True,
        show_default=True,
        help="Keep what the vision encoder makes of a video, so that the next question about it "
        "is answered at once.",
    ),
    FOLDER_OPTION,
    SIZE_OPTION,
    click.option(
        "--cache-bits",
        type=click.Choice(["16", "8"]),
        show_default=str(_CACHE.bits),
        help="Bits that a feature is kept in. 8 take half the room and move some intervals.",
    ),
]


def cache_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command these options as one argument `cache`, what `take_cache` returns."""

    @functools.wraps(command)
    def collected(**values: Any) -> None:
        try:
            cache = take_cache(values)
        except InputError as error:
            raise click.UsageError(str(error)) from error
        command(cache=cache, **values)

    for option in reversed(CACHE_OPTIONS):
        collected = option(collected)
    return collected


def take_cache(values: dict[str, Any]) -> CacheSettings | None:
    """Take these options out of the values that click parsed; None for no cache."""
    bits = values.pop("cache_bits")
    given = {
        "folder": values.pop("cache_dir"),
        "max_gib": values.pop("cache_size"),
        "bits": None if bits is None else int(bits),
    }
    if values.pop("cache"):
        return CacheSettings(**{name: value for name, value in given.items() if value is not None})
    if any(map(is_named, ("cache_dir", "cache_size", "cache_bits"))):
        raise click.UsageError(
            "--cache-dir, --cache-size and --cache-bits are about the cache, which --no-cache does "
            "without."
        )
    return None


def cache_is_named() -> bool:
    """Whether any of these options stands on the command line."""
    return any(map(is_named, ("cache", "cache_dir", "cache_size", "cache_bits")))
