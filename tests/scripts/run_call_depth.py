"""How many of vidground's calls lie between a click command and the model.

    python -m tests.scripts.run_call_depth

Captions an example film with the bundled model, and when the model first reads a prompt prints the
stack of every thread that works on it: only vidground's own frames, outermost first.
"""

import sys
import tempfile
import threading
from pathlib import Path
from types import FrameType
from typing import Any

from tests.helpers.paths import EXAMPLES, ROOT
from vidground.cli.main import cli
from vidground.model.d2vlm import D2VLM

OWN = tuple(str(ROOT / folder) for folder in ("vidground", "cli"))
COMMAND = ["caption", str(EXAMPLES / "film_2.mp4"), "--model", "toy", "--no-cache", "--quiet"]


def own_calls(frame: FrameType | None) -> list[str]:
    """Vidground's functions on a stack, outermost first."""
    calls = []
    while frame is not None:
        code = frame.f_code
        if code.co_filename.startswith(OWN):
            place = Path(code.co_filename).relative_to(ROOT)
            calls.append(f"{place}:{code.co_firstlineno} {code.co_qualname}")
        frame = frame.f_back
    return calls[::-1]


def stacks(arguments: list[str]) -> list[list[str]]:
    """The stacks of all threads of vidground when the model first reads a prompt."""
    found: list[list[str]] = []
    original = D2VLM.run_layers

    def watched(*args: Any, **kwargs: Any) -> Any:
        if not found:
            frames = sys._current_frames()
            frames[threading.get_ident()] = sys._getframe(1)
            found.extend(calls for frame in frames.values() if (calls := own_calls(frame)))
        return original(*args, **kwargs)

    D2VLM.run_layers = watched  # type: ignore[method-assign]
    try:
        cli.main(arguments, standalone_mode=False)
    finally:
        D2VLM.run_layers = original  # type: ignore[method-assign]
    return found


def main() -> None:
    """Print the stacks and their total."""
    with tempfile.TemporaryDirectory() as folder:
        found = stacks([*COMMAND, "-o", folder])
    for number, calls in enumerate(found, 1):
        print(f"thread {number}: {len(calls)}")
        print("".join(f"  {call}\n" for call in calls))
    print(f"{sum(map(len, found))} calls in {len(found)} threads")


if __name__ == "__main__":
    main()
