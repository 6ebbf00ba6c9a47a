"""Errors of libraries during a run, as errors of vidground. Knows no trainer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from vidground.errors import FormatError, VidgroundError

# In the message of torch.save when it cannot write; it does not give the reason.
_OF_TORCH = ("PytorchStreamWriter", "inline_container.cc")


@contextmanager
def run_failures(folder: Path) -> Iterator[None]:
    """Turn an exception that ends a run into an error that says what to do.

    Args:
        folder: of the run.

    Raises:
        FormatError: a file cannot be written or read, for instance because the disk is full.
        VidgroundError: as raised, also by a worker of a data loader.
    """
    try:
        yield
    except VidgroundError as error:
        raised = _as_raised(error)
        if raised == str(error):
            raise
        raise type(error)(raised) from error
    except (OSError, SafetensorError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not any(name in str(error) for name in _OF_TORCH):
            raise
        raise FormatError(
            f"{_place(error, folder)}; free space and continue with --resume, or use another folder"
        ) from error


def _as_raised(error: VidgroundError) -> str:
    """Return the message without the traceback that a data loader puts before it."""
    name = f"{type(error).__module__}.{type(error).__qualname__}: "
    return str(error).rpartition(name)[2].strip()


def _place(error: Exception, folder: Path) -> str:
    file = getattr(error, "filename", None) or folder
    reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
    if isinstance(error, RuntimeError):
        reason = "torch could not write a whole checkpoint; the disk may be full"
    return f"{file}: {reason}"
