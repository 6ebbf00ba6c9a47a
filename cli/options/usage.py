"""Wrong arguments told as such."""

from collections.abc import Iterator
from contextlib import contextmanager

import click

from vidground.errors import InputError


def is_named(parameter: str) -> bool:
    """Whether a parameter of the running command stands on the command line."""
    source = click.get_current_context().get_parameter_source(parameter)
    return source == click.core.ParameterSource.COMMANDLINE


@contextmanager
def usage_errors() -> Iterator[None]:
    """An argument that the SDK refuses before any work is an error of usage: exit code 2."""
    try:
        yield
    except InputError as error:
        raise click.UsageError(str(error)) from error
