"""Start a module of vidground in a process of its own."""

import os
import sys
from pathlib import Path

from vidground import errors


def module_command(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module.

    Args:
        module: full name of the module.
        arguments: of the process.
    """
    # -P: whatever lies in the current folder, it is not imported.
    return [sys.executable, "-P", "-m", module, *arguments]


def module_environment() -> dict[str, str]:
    """Return an environment in which the process imports what this one does, from the same places.

    The current folder is left out.
    """
    root = str(Path(errors.__file__).parents[1])
    path = [str(Path(entry).absolute()) for entry in sys.path if entry]
    return {**os.environ, "PYTHONPATH": os.pathsep.join([*path, root])}
