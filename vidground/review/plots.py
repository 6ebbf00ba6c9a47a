"""Plot relevance curves as PNG, SVG or PDF, chosen by the suffix.

matplotlib, of the extra `plot`, is imported only when it is used.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from vidground.errors import InputError
from vidground.language.safe_text import plain_text
from vidground.results.documents import video_of
from vidground.results.types import GroundingResult, Groundings
from vidground.storage.atomic import atomic_path

PLOT_SUFFIXES = (".png", ".svg", ".pdf")
MOST_QUERIES = 100
"""A picture of more curves is larger than most programs can open."""

_WIDTH_INCHES, _ROW_INCHES, _MARGIN_INCHES = 9.0, 1.9, 0.5
_DOTS_PER_INCH = 150
_LONGEST_TITLE = 100

# Text in an SVG stays text, and the same result gives the same file.
_STYLE = {"svg.fonttype": "none", "svg.hashsalt": "vidground", "text.parse_math": False}
_METADATA: dict[str, dict[str, Any]] = {
    ".png": {"Software": None},
    ".svg": {"Date": None, "Creator": None},
    ".pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


def plot_relevance(result: GroundingResult | Groundings, path: str | Path) -> None:
    """Plot the relevance curve of every query on a video, with its threshold and moments.

    Args:
        result: one or more queries on a video.
        path: ends in .png, .svg or .pdf. Its folder is created; an existing file is replaced, and
            left alone if drawing fails.

    Raises:
        InputError: the suffix is unknown, there are more than 100 queries, or matplotlib cannot be
            imported.
        FormatError: the file cannot be written.
    """
    results = result.results if isinstance(result, Groundings) else (result,)
    check_plot(path, queries=len(results))
    matplotlib = importlib.import_module("matplotlib")
    with matplotlib.rc_context(_STYLE):
        # A figure made without pyplot needs no display.
        height = _MARGIN_INCHES + _ROW_INCHES * len(results)
        figure = importlib.import_module("matplotlib.figure").Figure(
            figsize=(_WIDTH_INCHES, height), layout="constrained"
        )
        rows = figure.subplots(len(results), 1, sharex=True, squeeze=False)
        for axes, answer in zip(rows[:, 0], results, strict=True):
            _draw(axes, answer)
        duration_s = video_of(Groundings(results)).duration_s
        rows[-1, 0].set(xlabel="seconds", xlim=(0, max(duration_s, 1e-3)))
        with atomic_path(path, parents=True) as temporary:
            metadata = _METADATA[temporary.suffix.lower()]
            figure.savefig(temporary, dpi=_DOTS_PER_INCH, metadata=metadata)


def check_plot(path: str | Path, *, queries: int) -> None:
    """Check that `plot_relevance` can draw this number of queries to `path`.

    Raises:
        InputError: see `plot_relevance`.
    """
    if Path(path).suffix.lower() not in PLOT_SUFFIXES:
        raise InputError(f"{path}: the suffix of a plot must be one of {', '.join(PLOT_SUFFIXES)}")
    if queries > MOST_QUERIES:
        raise InputError(
            f"{queries} curves in one plot; the limit is {MOST_QUERIES}, use fewer queries"
        )
    try:
        importlib.import_module("matplotlib")
    except ImportError as error:
        raise InputError(
            f"plots need the package matplotlib ({error}): pip install 'vidground[plot]'"
        ) from error


def _draw(axes: Any, answer: GroundingResult) -> None:
    for moment in answer.moments:
        axes.axvspan(moment.start_s, moment.end_s, color="tab:green", alpha=0.2, linewidth=0)
        if moment.score is not None:
            middle = (moment.start_s + moment.end_s) / 2
            axes.text(middle, 1.0, f"{moment.score:.2f}", ha="center", va="bottom", fontsize=8)
    axes.plot(answer.relevance.times_s, answer.relevance.values, color="tab:blue", linewidth=1.4)
    axes.axhline(answer.threshold, color="grey", linestyle="--", linewidth=1)
    axes.set(ylim=(0, 1.12), ylabel="relevance", yticks=(0, 0.5, 1))
    verdict = "" if answer.found else "   (not found)"
    query = plain_text(answer.query)
    if len(query) > _LONGEST_TITLE:
        query = query[: _LONGEST_TITLE - 1] + "…"
    axes.set_title(f"{query}{verdict}", loc="left", fontsize=10)
    axes.grid(alpha=0.25)
