"""Bugs of the program, distinguished from problems of a file, a disk or a machine.

Only this module decides what an exception means for a file (`kind_of`) and how a bug is reported
(`as_internal`). Knows neither videos nor models; imports no torch.
"""

import os
import platform
import traceback as tracebacks
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from importlib import metadata
from typing import Any, Literal

from vidground.errors import InputError, InternalError, VideoError, VidgroundError
from vidground.memory import is_out_of_memory
from vidground.storage.files import printable
from vidground.version import __version__

FailureKind = Literal["input", "system", "quality", "internal"]
"""Why an input failed.

"input": the file or the request cannot be used; it will fail again. "system": memory, a disk, a
folder or a process prevented the work. "quality": there is a result, but it is not good enough.
"internal": a bug in vidground or in a library it uses.
"""

_PACKAGE = __name__.partition(".")[0]
_MAX_MESSAGE = 300  # characters of an exception's own message
_LIBRARIES = {"PyAV": "av", "torch": "torch"}  # by the names of their distributions


def is_fault(error: BaseException) -> bool:
    """Return whether an exception is a bug: not raised on purpose, by the system, or for lack of
    memory.
    """
    if not isinstance(error, Exception) or isinstance(error, VidgroundError | OSError):
        return False
    return not is_out_of_memory(error)


def kind_of(error: Exception) -> FailureKind:
    """Return what an exception means for the input that was processed."""
    if isinstance(error, InternalError) or is_fault(error):
        return "internal"
    return "input" if isinstance(error, VideoError | InputError) else "system"


@dataclass(frozen=True, slots=True)
class Fault:
    """An exception as text, which can be sent to another process.

    Attributes:
        what: its type and message, in one line.
        place: the innermost line of vidground in its traceback; empty if there is none.
        traceback: as Python prints it.
    """

    what: str
    place: str = ""
    traceback: str = ""

    @classmethod
    def of(cls, error: BaseException) -> "Fault":
        """Describe an exception."""
        message = " ".join(str(error).split())
        if len(message) > _MAX_MESSAGE:
            message = f"{message[: _MAX_MESSAGE - 1]}…"
        what = type(error).__name__ + (f": {message}" if message else "")
        return cls(what, _place(error), "".join(tracebacks.format_exception(error)))

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name; `Fault(**values)` is the inverse."""
        return asdict(self)


def internal_error(
    fault: Fault, about: str | os.PathLike[str] | None = None, *, advice: str = ""
) -> InternalError:
    """Return the error that reports a fault.

    Args:
        fault: the exception.
        about: the file that was processed.
        advice: appended to the message: what helps until the bug is fixed.
    """
    name = "" if about is None else f"{printable(about)}: "
    versions = ", ".join(f"{name} {version}" for name, version in program_versions().items())
    place = f"in {fault.place}; " if fault.place else ""
    return InternalError(
        f"{name}internal error: {fault.what} ({place}{versions}, Python "
        f"{platform.python_version()}); this is a mistake in vidground or in a library it uses, "
        f"not in the file{advice}; please report this line and the traceback, which `vidground "
        "--traceback` prints",
        fault.traceback,
    )


def as_internal(error: Exception, about: str | os.PathLike[str] | None = None) -> InternalError:
    """Return the error that reports an exception, which is its cause; see `internal_error`."""
    if isinstance(error, InternalError):
        return error
    internal = internal_error(Fault.of(error), about)
    internal.__cause__ = error
    return internal


@contextmanager
def faults_as_internal(about: str | os.PathLike[str] | None = None) -> Iterator[None]:
    """Raise bugs as InternalError, and other exceptions unchanged.

    Args:
        about: the file that is processed.
    """
    try:
        yield
    except Exception as error:
        if not is_fault(error):
            raise
        raise as_internal(error, about) from error


def told(error: Exception, about: str | os.PathLike[str] | None = None) -> str:
    """Return a message for the user about what went wrong with a file."""
    if isinstance(error, VidgroundError | OSError):
        return str(error)
    if is_out_of_memory(error):
        return "out of memory; use a smaller batch, a shorter window or fewer frames per second"
    return str(as_internal(error, about))


@cache
def program_versions() -> dict[str, str]:
    """Return the versions that determine how a file is processed: vidground, PyAV and torch."""
    return {"vidground": __version__} | {
        name: _version(distribution) for name, distribution in _LIBRARIES.items()
    }


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "unknown"


def _place(error: BaseException) -> str:
    """Return the innermost frame of vidground in a traceback, as module, line and function."""
    place = ""
    for frame, line in tracebacks.walk_tb(error.__traceback__):
        spec = frame.f_globals.get("__spec__")  # has the name of a module run by `python -m`
        module = str(frame.f_globals.get("__name__") if spec is None else spec.name)
        if module.partition(".")[0] == _PACKAGE:
            place = f"{module}, line {line}, {frame.f_code.co_name}"
    return place
