"""Turn what libraries raise in the middle of a run into one-line errors with a remedy."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from vidground.errors import FormatError, VidgroundError

# In the message of torch.save when it cannot write; it does not give the reason.
_OF_TORCH = ("PytorchStreamWriter", "inline_container.cc")
_WORKER = re.compile(r"DataLoader worker \(pid(?:\(s\))? [\d, ]+\) (?P<end>[^.]+)")


class TrainingError(VidgroundError):
    """Training cannot continue: where, why, and what to change."""


@contextmanager
def run_failures(folder: Path) -> Iterator[None]:
    """Translate the errors that end a run in `folder`.

    Raises:
        FormatError: a file cannot be written or read, for instance because the disk is full.
        TrainingError: a data worker was killed.
        VidgroundError: as raised, also by a data worker.
    """
    try:
        yield
    except VidgroundError as error:
        raised = _as_raised(error)
        if raised == str(error):
            raise
        raise type(error)(raised) from error
    except (OSError, SafetensorError, RuntimeError) as error:
        worker = _WORKER.search(str(error))
        if worker is not None:
            raise TrainingError(
                f"a process that reads videos ended unexpectedly ({worker['end'].strip()}), often "
                "because memory ran out; continue with --resume and fewer --workers"
            ) from error
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
