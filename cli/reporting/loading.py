"""Report which model is loaded: before torch is imported, and again with all details.

Imports nothing heavy, so that --help is fast.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from vidground.cli.reporting.reporter import shown
from vidground.cli.running.threads import limit_threads

if TYPE_CHECKING:
    from vidground.checkpoints.announcement import Loading

LOGGER = "vidground"
"""The parent of all loggers of vidground."""


class NewLoading(logging.Filter):
    """Drops a record on loading a model if it equals the last one.

    Loading is logged early, with the details known by then, and again with all details.
    """

    def __init__(self) -> None:
        super().__init__()
        self._last: Loading | None = None

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record differs from the last one."""
        loading: Loading | None = getattr(record, "loading", None)
        if loading is None:
            return True
        new = loading != self._last
        self._last = loading
        return new


class InfoHandler(logging.Handler):
    """Forwards what vidground logs for information, but not its warnings."""

    def __init__(
        self, on_loading: Callable[[Loading], None], on_info: Callable[[str], None]
    ) -> None:
        super().__init__(level=logging.INFO)
        self.addFilter(NewLoading())
        self._on_loading = on_loading
        self._on_info = on_info

    def emit(self, record: logging.LogRecord) -> None:
        """Forward a record."""
        loading: Loading | None = getattr(record, "loading", None)
        if loading is not None:
            self._on_loading(loading)
        elif record.levelno < logging.WARNING:
            self._on_info(record.getMessage())


@contextmanager
def listening(handler: logging.Handler) -> Iterator[None]:
    """Attach a handler to vidground's logger, from level INFO on, until the block ends."""
    logger = logging.getLogger(LOGGER)
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


@contextmanager
def loading_shown(*, quiet: bool = False) -> Iterator[None]:
    """Print to standard error what is downloaded and loaded, unless quiet."""

    def tell(message: object) -> None:
        click.echo(shown(str(message)), err=True)

    if quiet:
        yield
        return
    with listening(InfoHandler(tell, tell)):
        yield


def announce_model(
    model: str,
    *,
    revision: str | None = None,
    subfolder: str | None = None,
    offline: bool = False,
    device: str | None = None,
    dtype: str | None = None,
) -> None:
    """Find a model, download it if needed, and log that it is loaded, before torch is imported.

    Also limits the number of threads for a small model. The arguments are those of
    `vidground.checkpoints.announcement.announce_early`.
    """
    # Here, because the hub client reads its environment variables when it is imported.
    from vidground.checkpoints.announcement import announce_early

    loading = announce_early(
        model,
        revision=revision,
        subfolder=subfolder,
        local_files_only=offline,
        device=device,
        dtype=dtype,
    )
    limit_threads(loading)
