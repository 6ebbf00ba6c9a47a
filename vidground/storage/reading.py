"""Read text and JSON that anybody may have written: regular files only, bounded in size and depth.

Imports neither torch nor PyAV.
"""

import json
import os
import stat
from typing import Any

from vidground.errors import FormatError, VidgroundError
from vidground.storage.files import printable

MOST_BYTES = 256 << 20
"""Size up to which a file is read at once, unless the caller sets another limit."""
DATA_SET_BYTES = 4 << 30
"""The same for annotations, questions and predictions of whole data sets."""
_REPAIR = "fetch or write it again"


def read_text(
    path: str | os.PathLike[str],
    *,
    most_bytes: int = MOST_BYTES,
    error: type[VidgroundError] = FormatError,
) -> str:
    """Return the text of a UTF-8 file, with or without a byte order mark.

    Args:
        path: of a regular file. Anything else is refused without waiting for it.
        most_bytes: largest size that is read.
        error: class of the errors.

    Raises:
        error: the file is missing, unreadable, not a regular file, too large, or not UTF-8. The
            message names the file, what is wrong and the remedy.
    """
    name = printable(path)
    content = read_bytes(path, most_bytes=most_bytes, error=error)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as reason:
        raise error(
            f"{name}: cannot be read: byte {reason.start} is not UTF-8; {_REPAIR}"
        ) from reason


def read_bytes(
    path: str | os.PathLike[str],
    *,
    most_bytes: int = MOST_BYTES,
    error: type[VidgroundError] = FormatError,
) -> bytes:
    """Return the content of a regular file; see `read_text` for arguments and errors."""
    name = printable(path)
    try:
        # Opening a pipe would otherwise wait for somebody who writes to it.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise error(f"{name}: not a regular file; name a file")
            if status.st_size > most_bytes:
                raise error(
                    f"{name}: {status.st_size} bytes; files of this kind are read up to "
                    f"{most_bytes} bytes; split it"
                )
            return file.read(most_bytes + 1)
    except FileNotFoundError as reason:
        raise error(f"{name}: no such file; check the path") from reason
    except IsADirectoryError as reason:
        raise error(f"{name}: cannot be read: is a directory; name a file in it") from reason
    except (OSError, ValueError) as reason:  # ValueError: a NUL byte in the name
        raise error(f"{name}: cannot be read: {_of(reason)}; check the path") from reason


def parse_json(
    text: str,
    *,
    name: str,
    error: type[VidgroundError] = FormatError,
) -> Any:
    """Return the value of a JSON text.

    Args:
        text: the JSON.
        name: of where it comes from, for messages.
        error: class of the errors.

    Raises:
        error: the text is not JSON, is nested too deeply, or holds an integer of thousands of
            digits.
    """
    try:
        return json.loads(text)
    except RecursionError as reason:
        raise error(f"{name}: cannot be read: nested too deeply; {_REPAIR}") from reason
    except json.JSONDecodeError as reason:
        where = f"line {reason.lineno}, column {reason.colno}"
        raise error(f"{name}: cannot be read: {reason.msg} ({where}); {_REPAIR}") from reason
    except ValueError as reason:
        raise error(f"{name}: cannot be read: an integer of too many digits; {_REPAIR}") from reason


def read_json(
    path: str | os.PathLike[str],
    *,
    most_bytes: int = MOST_BYTES,
    error: type[VidgroundError] = FormatError,
) -> Any:
    """Return the value in a JSON file; see `read_text` and `parse_json`."""
    text = read_text(path, most_bytes=most_bytes, error=error)
    return parse_json(text, name=printable(path), error=error)


def read_json_object(
    path: str | os.PathLike[str],
    *,
    most_bytes: int = MOST_BYTES,
    error: type[VidgroundError] = FormatError,
) -> dict[str, Any]:
    """Return the object in a JSON file; see `read_json`.

    Raises:
        error: also if the value is not an object.
    """
    content = read_json(path, most_bytes=most_bytes, error=error)
    if not isinstance(content, dict):
        kind = type(content).__name__
        raise error(f"{printable(path)} holds a {kind}, not a JSON object; {_REPAIR}")
    return content


def _of(reason: Exception) -> str:
    return getattr(reason, "strerror", None) or str(reason)
