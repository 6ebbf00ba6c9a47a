"""The options of the cache of encoded videos, and their conversion to settings."""

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
    help="Folder for encoded videos.",
)
SIZE_OPTION = click.option(
    "--cache-size",
    type=float,
    metavar="GIB",
    envvar="VIDGROUND_CACHE_SIZE",
    show_envvar=True,
    show_default=f"{_CACHE.max_gib:g}",
    help="Maximum size of all encoded videos; the least recently used are removed first.",
)

CACHE_OPTIONS: list[Callable[..., Any]] = [
    click.option(
        "--cache/--no-cache",
        default=True,
        show_default=True,
        help="Store the output of the vision encoder for each video, so that further questions "
        "about it are answered quickly.",
    ),
    FOLDER_OPTION,
    SIZE_OPTION,
    click.option(
        "--cache-bits",
        type=click.Choice(["16", "8"]),
        show_default=str(_CACHE.bits),
        help="Bits per stored feature value. 8 halves the size and changes some intervals.",
    ),
]


def cache_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add these options to a command, which receives them as one argument `cache`."""

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
    """Remove these options from the values that click parsed and return the settings.

    Returns:
        None for no cache.
    """
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
            "--cache-dir, --cache-size and --cache-bits have no effect with --no-cache; leave them "
            "out."
        )
    return None


def cache_is_named() -> bool:
    """Return whether any of these options was given on the command line."""
    return any(map(is_named, ("cache", "cache_dir", "cache_size", "cache_bits")))
