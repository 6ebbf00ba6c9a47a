"""Try an exported graph in a process of its own, before it runs in this one.

A damaged graph can crash onnxruntime or run for ever, and one with other shapes than it declares
would write beyond the memory that was made for its output.

    python -m vidground.features.onnx_trial REQUEST

runs a request in JSON and prints the problem as JSON, `null` if there is none.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vidground.errors import CheckpointError, FormatError
from vidground.features.onnx_providers import import_runtime
from vidground.settings import CacheSettings
from vidground.storage.atomic import write_atomically
from vidground.storage.child_processes import module_command, module_environment
from vidground.storage.files import printable

LIMIT_S = 300.0
"""Time in which a graph has to compute two frames; the released size takes 20 s on one core."""

FRAMES = 2
_TYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
}
_FLOATS = ("tensor(float)", "tensor(float16)")


@dataclass(frozen=True, slots=True)
class Interface:
    """What a graph takes and returns.

    Attributes:
        inputs: shape by name, without the frames, which come first; None for any length.
        integers: inputs among them that are int64; the others are float32 or float16.
        output: shape of the only output, without the frames.
    """

    inputs: Mapping[str, tuple[int | None, ...]]
    integers: tuple[str, ...]
    output: tuple[int, ...]


def require_sound(file: Path, interface: Interface, providers: list[str], *, digest: str) -> None:
    """Try a graph unless a graph of this content has passed before.

    Args:
        file: the graph.
        interface: what it should take and return.
        providers: execution providers of onnxruntime to try it on, by onnxruntime's names.
        digest: of the export's content.

    Raises:
        CheckpointError: the graph has another interface, fails, crashes or does not end.
    """
    passed = _passed_file(f"{digest}-{file.name}")
    if passed.is_file():
        return
    problem = _try(file, interface, providers)
    if problem is not None:
        raise CheckpointError(f"{printable(file)} {problem}; export it again")
    with suppress(FormatError):  # then it is tried again next time
        write_atomically(passed, "", parents=True)


def _try(file: Path, interface: Interface, providers: list[str]) -> str | None:
    """Return what is wrong with a graph, found in another process; None for nothing."""
    request = {"file": str(file.absolute()), "providers": providers, **asdict(interface)}
    command = module_command("vidground.features.onnx_trial", json.dumps(request))
    try:
        done = subprocess.run(
            command,
            env=module_environment(),
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"did not compute {FRAMES} frames in {LIMIT_S:g} s"
    if done.returncode != 0 or not done.stdout.strip():
        return f"crashes onnxruntime (exit code {done.returncode})"
    problem: str | None = json.loads(done.stdout.splitlines()[-1])
    return problem


def _run(request: Mapping[str, Any]) -> str | None:
    """Return what is wrong with a graph, or None."""
    onnxruntime = import_runtime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(
            request["file"], options, providers=request["providers"]
        )
        inputs, outputs = session.get_inputs(), session.get_outputs()
        problem = _declared(request, inputs, outputs)
        if problem is not None:
            return problem
        feeds = {
            node.name: np.zeros(
                (FRAMES, *(length or 3 for length in request["inputs"][node.name])),
                _TYPES[node.type],
            )
            for node in inputs
        }
        (output,) = session.run(None, feeds)
    except Exception as error:  # noqa: BLE001 - onnxruntime raises classes of its own
        return f"cannot be run: {str(error).strip().splitlines()[0][:200]}"
    expected = (FRAMES, *request["output"])
    if output.shape != expected:
        return f"returns {output.shape} for {FRAMES} frames; expected is {expected}"
    return None


def _declared(request: Mapping[str, Any], inputs: Any, outputs: Any) -> str | None:
    """Return what is wrong with the declared inputs and outputs, or None."""
    names = sorted(node.name for node in inputs)
    if names != sorted(request["inputs"]):
        return f"takes {', '.join(names) or 'nothing'}; expected is {', '.join(request['inputs'])}"
    if len(outputs) != 1:
        return f"has {len(outputs)} outputs; expected is one"
    for node in inputs:
        allowed = ("tensor(int64)",) if node.name in request["integers"] else _FLOATS
        if node.type not in allowed:
            return f"takes {node.name} as {node.type}; expected is {' or '.join(allowed)}"
        if len(node.shape) != 1 + len(request["inputs"][node.name]):
            return f"takes {node.name} of shape {node.shape}"
    output = outputs[0]
    if output.type not in _FLOATS:
        return f"returns {output.type}; expected is {' or '.join(_FLOATS)}"
    if list(output.shape[1:]) != list(request["output"]):
        return f"declares an output of shape {output.shape}; expected is (N, {request['output']})"
    return None


def _passed_file(name: str) -> Path:
    place = CacheSettings().place  # beside the feature cache, whose size is limited
    return place.with_name(f"{place.name}-exports") / f"{name}.passed"


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_run(json.loads(sys.argv[1]))) + "\n")
