"""`vidground cache`: show or clear the cache of encoded videos."""

from collections import Counter

import click

from vidground.cli.options.cache import FOLDER_OPTION, SIZE_OPTION
from vidground.cli.reporting.reporter import shown
from vidground.errors import FormatError
from vidground.settings import CacheSettings
from vidground.storage.bounded_folder import BoundedFolder
from vidground.storage.row_file import read_metadata

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


@click.group()
def cache() -> None:
    """Show or clear the cache of encoded videos, which speeds up further questions."""


@cache.command()
@FOLDER_OPTION
@SIZE_OPTION
def info(cache_dir: str | None, cache_size: float | None) -> None:
    """Print the folder of the cache, its limit, its size and its entries by model."""
    folder = _open(cache_dir)
    click.echo(f"place    {shown(str(CacheSettings(cache_dir).place))}")
    click.echo(f"limit    {CacheSettings().max_gib if cache_size is None else cache_size:g} GiB")
    files = [] if folder is None else folder.files()
    click.echo(f"in use   {_size(sum(file.size_bytes for file in files))}")
    entries, sizes = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for file in files:
        try:
            metadata = read_metadata(file.path)
            maker = metadata["model"], metadata["kind"]
        except (FileNotFoundError, FormatError, KeyError):  # removed just now, or damaged
            continue
        entries[maker] += 1
        sizes[maker] += file.size_bytes
    for maker, count in sorted(entries.items()):
        model, kind = maker
        click.echo(f"entries  {count} ({kind}, {_size(sizes[maker])}) of {shown(model)}")


@cache.command()
@FOLDER_OPTION
def clear(cache_dir: str | None) -> None:
    """Remove all entries, except those that another run is writing."""
    folder = _open(cache_dir)
    removed = [] if folder is None else folder.clear()
    size = _size(sum(file.size_bytes for file in removed))
    click.echo(f"{len(removed)} removed, {size}, from {shown(str(CacheSettings(cache_dir).place))}")


def _open(cache_dir: str | None) -> BoundedFolder | None:
    """Return the folder, or None if it does not exist; raise FormatError if it is unreadable."""
    place = CacheSettings(cache_dir).place
    try:
        is_there = place.is_dir()
    except OSError as error:
        raise FormatError(f"{place} cannot be read: {error.strerror}") from error
    return BoundedFolder(place, max_bytes=1) if is_there else None


def _size(size_bytes: float) -> str:
    for unit in _UNITS[:-1]:
        if size_bytes < 1024:
            return f"{size_bytes:.3g} {unit}" if unit != "B" else f"{size_bytes:.0f} B"
        size_bytes /= 1024
    return f"{size_bytes:.3g} {_UNITS[-1]}"
