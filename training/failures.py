"""What libraries raise in the middle of a run, told as vidground tells it. Knows no trainer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from vidground.errors import FormatError, VidgroundError

# In what torch.save raises when it cannot write; why, it does not say.
_OF_TORCH = ("PytorchStreamWriter", "inline_container.cc")


@contextmanager
def run_failures(folder: Path) -> Iterator[None]:
    """Turn what ends a run in `folder` into an error that says what to do.

    Raises:
        FormatError: a file cannot be written or read; the disk is full, for instance.
        VidgroundError: as it was raised, also where the worker of a data loader raised it.
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
            f"{_place(error, folder)}; free space and go on with --resume, or name another folder"
        ) from error


def _as_raised(error: VidgroundError) -> str:
    """The message without the traceback that a data loader puts before it."""
    name = f"{type(error).__module__}.{type(error).__qualname__}: "
    return str(error).rpartition(name)[2].strip()


def _place(error: Exception, folder: Path) -> str:
    file = getattr(error, "filename", None) or folder
    reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
    if isinstance(error, RuntimeError):
        reason = "torch could not write a checkpoint to its end, as when the disk is full"
    return f"{file}: {reason}"
