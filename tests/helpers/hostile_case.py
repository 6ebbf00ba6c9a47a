"""A case of the corpus of hostile inputs: a file and the command line that must refuse it."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LONG_INTEGER = "9" * 5000
LONG_NAME = "n" * 5000
DEEP = 50_000
MEGABYTES = 10 << 20


@dataclass(frozen=True, slots=True)
class HostileCase:
    """A file that is to be refused.

    Attributes:
        name: of the case.
        file: name of the file that `content` is written to.
        content: bytes, or "pipe", "folder", "device" for what is not a regular file.
        command: reads the file, from its folder.
    """

    name: str
    file: str
    content: bytes | str
    command: tuple[str, ...]

    def write(self, folder: Path) -> None:
        """Create the file in a folder."""
        path = folder / self.file
        if isinstance(self.content, bytes):
            path.write_bytes(self.content)
        elif self.content == "pipe":
            os.mkfifo(path)
        elif self.content == "folder":
            path.mkdir()
        else:
            path.symlink_to("/dev/zero")


def with_value(document: Any, keys: tuple[str | int, ...], value: Any) -> Any:
    """Return a copy of a JSON value with one value replaced, or removed if it is ..."""
    copy = json.loads(json.dumps(document))
    inner = copy
    for key in keys[:-1]:
        inner = inner[key]
    if value is ...:
        del inner[keys[-1]]
    else:
        inner[keys[-1]] = value
    return copy


def raw_json(value: Any) -> bytes:
    """JSON in which the text @LONG@ is a long integer, @HUGE@ is 1e999 and @NAN@ is NaN."""
    text = json.dumps(value)
    for mark, raw in (("@LONG@", LONG_INTEGER), ("@HUGE@", "1e999"), ("@NAN@", "NaN")):
        text = text.replace(f'"{mark}"', raw)
    return text.encode()


WRONG: Mapping[str, Any] = {
    "list": [],
    "object": {},
    "text": "x",
    "null": None,
    "true": True,
    "long": "@LONG@",
    "huge": "@HUGE@",
    "nan": "@NAN@",
    "absent": ...,
}
NUMBERS = ("long", "huge", "nan", "text", "null", "true", "absent")
