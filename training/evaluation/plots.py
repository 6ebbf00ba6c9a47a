"""Plot an evaluation: recall against IoU, and the reliability of moments' scores.

matplotlib (extra `eval`) is imported only when it is used. Computes no score.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vidground.errors import InputError
from vidground.storage.atomic import atomic_path
from vidground.training.evaluation.calibration import Calibration

_SIZE_INCHES = (6.0, 4.5)
_DOTS_PER_INCH = 150


def write_plots(
    folder: str | Path,
    *,
    iou: Sequence[float],
    curves: Mapping[str, Mapping[str, Sequence[float]]],
    calibrations: Mapping[str, Calibration],
) -> list[Path]:
    """Write recall_<name>.png for each non-empty curve, and reliability.png if there are scores.

    Args:
        folder: where the files go.
        iou: IoU thresholds, the x axis of the curves.
        curves: name → task → recall at each threshold.
        calibrations: of the moments' scores, by task.

    Returns:
        The files written.

    Raises:
        InputError: matplotlib cannot be imported.
        FormatError: a file cannot be written.
    """
    new_figure = _figure_class()
    written = []
    for name, tasks in curves.items():
        if tasks:
            figure = new_figure(figsize=_SIZE_INCHES, layout="constrained")
            _draw_recall(figure, iou, tasks)
            written.append(_save(figure, Path(folder) / f"recall_{name}.png"))
    if calibrations:
        figure = new_figure(figsize=_SIZE_INCHES, layout="constrained")
        _draw_reliability(figure, calibrations)
        written.append(_save(figure, Path(folder) / "reliability.png"))
    return written


def _figure_class() -> Any:
    # A plain Figure draws to files on any machine; pyplot would look for a display.
    try:
        return importlib.import_module("matplotlib.figure").Figure
    except ImportError as error:
        raise InputError(
            f"plots need the package matplotlib ({error}): pip install 'vidground[eval]'"
        ) from error


def _draw_recall(figure: Any, iou: Sequence[float], tasks: Mapping[str, Sequence[float]]) -> None:
    axes = figure.add_subplot(
        xlabel="IoU threshold", ylabel="recall", xlim=(0, 1), ylim=(0, 1), title="Recall"
    )
    for task, recall in tasks.items():
        axes.plot(iou, recall, label=task)
    axes.grid(alpha=0.3)
    axes.legend()


def _draw_reliability(figure: Any, calibrations: Mapping[str, Calibration]) -> None:
    axes = figure.add_subplot(
        xlabel="score of a moment",
        ylabel="share of right moments",
        xlim=(0, 1),
        ylim=(0, 1),
        title="Reliability",
    )
    axes.plot((0, 1), (0, 1), color="grey", linestyle="--")
    for name, found in calibrations.items():
        points = [part for part in found.bins if part.count]
        axes.plot(
            [part.mean_score for part in points],
            [part.hit_rate for part in points],
            marker="o",
            label=f"{name} (ECE {100 * found.expected_error:.1f} %)",
        )
    axes.grid(alpha=0.3)
    axes.legend()


def _save(figure: Any, path: Path) -> Path:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=_DOTS_PER_INCH)
    return path
