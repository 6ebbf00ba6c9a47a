"""Wrong arguments told as such."""

from collections.abc import Iterator
from contextlib import contextmanager

import click

from vidground.errors import InputError


@contextmanager
def usage_errors() -> Iterator[None]:
    """An argument that the SDK refuses before any work is an error of usage: exit code 2."""
    try:
        yield
    except InputError as error:
        raise click.UsageError(str(error)) from error
