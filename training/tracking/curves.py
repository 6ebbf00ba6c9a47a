"""Learning curves of a run as a picture, from its log."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vidground.errors import InputError
from vidground.storage.atomic import atomic_path
from vidground.training.logs import LOG, RunListener

CURVES = "curves.png"
# Not learning curves, or the same for all runs.
_NOT_DRAWN = frozenset({"step", "epoch"})
_COLUMNS = 3
_INCHES = (4.2, 2.8)  # of each panel


class CurvesPicture(RunListener):
    """Draws the learning curves anew when held-out samples were evaluated, and at the end."""

    def __init__(self, run: Path) -> None:
        self._run = run

    def numbers(self, step: int, numbers: dict[str, float]) -> None:  # noqa: ARG002 - as declared
        """Draw after an evaluation."""
        if any(name.startswith("eval_") for name in numbers):
            draw_curves(self._run)

    def end(self) -> None:
        """Draw the whole run."""
        draw_curves(self._run)


def draw_curves(run: Path, target: Path | None = None) -> Path | None:
    """Draw the numbers of a run's log over its steps, training and held-out in one panel.

    Args:
        run: its folder.
        target: the picture; None for curves.png in the run's folder.

    Returns:
        The picture; None if the log has no numbers yet.

    Raises:
        InputError: there is no log, or it cannot be read.
        FormatError: the picture cannot be written.
    """
    curves = read_curves(run)
    if not curves:
        return None
    import matplotlib as mpl  # needed on request only
    from matplotlib.figure import Figure

    panels = sorted({name.removeprefix("eval_") for name in curves})
    rows = -(-len(panels) // _COLUMNS)
    columns = min(_COLUMNS, len(panels))
    with mpl.rc_context({"font.size": 9}):
        figure = Figure(figsize=(_INCHES[0] * columns, _INCHES[1] * rows), layout="constrained")
        for axes, name in zip(
            figure.subplots(rows, columns, squeeze=False).flat, panels, strict=False
        ):
            _draw(axes, name, curves)
        for axes in figure.axes[len(panels) :]:
            axes.set_axis_off()
        path = run / CURVES if target is None else target
        with atomic_path(path) as temporary:
            figure.savefig(temporary, format=path.suffix.removeprefix(".") or "png", dpi=120)
    return path


def read_curves(run: Path) -> dict[str, list[tuple[int, float]]]:
    """Return the (step, value) pairs of each number in a run's log.

    Raises:
        InputError: there is no log, or a line of it cannot be read.
    """
    curves: dict[str, list[tuple[int, float]]] = {}
    for line in _lines(run / LOG):
        if "train_runtime" in line:
            continue  # the summary at the end of a run
        for name, value in line.items():
            timing = name.endswith(("_runtime", "_per_second"))
            if name not in _NOT_DRAWN and not timing and isinstance(value, int | float):
                curves.setdefault(name, []).append((int(line["step"]), float(value)))
    return curves


def _lines(log: Path) -> Sequence[Mapping[str, Any]]:
    try:
        lines = log.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise InputError(f"{log} cannot be read ({error.strerror}); name a run's folder") from error
    read = []
    for number, line in enumerate(lines, start=1):
        try:
            read.append(json.loads(line))
        except ValueError as error:
            if number < len(lines):  # a running or killed run may have half a last line
                raise InputError(f"{log}: line {number} is not JSON: {error}") from error
    return read


def _draw(axes: Any, name: str, curves: Mapping[str, Sequence[tuple[int, float]]]) -> None:
    axes.set_title(name.replace("_", " "))
    axes.set_xlabel("step")
    drawn = 0
    for key, label in ((name, "training"), (f"eval_{name}", "held out")):
        if key in curves:
            steps, values = zip(*curves[key], strict=True)
            axes.plot(steps, values, label=label, marker="." if len(steps) == 1 else None)
            drawn += 1
    if drawn > 1:
        axes.legend()
