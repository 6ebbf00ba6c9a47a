"""Errors of usage: arguments that the command or the SDK refuses."""

from collections.abc import Iterator
from contextlib import contextmanager

import click

from vidground.errors import InputError


def is_named(parameter: str) -> bool:
    """Return whether a parameter of the running command was given on the command line."""
    source = click.get_current_context().get_parameter_source(parameter)
    return source == click.core.ParameterSource.COMMANDLINE


@contextmanager
def usage_errors() -> Iterator[None]:
    """Report an argument that the SDK refuses as a usage error, with exit code 2."""
    try:
        yield
    except InputError as error:
        raise click.UsageError(str(error)) from error
