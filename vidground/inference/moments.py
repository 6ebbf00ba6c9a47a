"""Moments and captioned events of one window, from its parsed answer.

Spans are inclusive samples, counted from the start of the video. Knows no model.
"""

from __future__ import annotations

import torch

from vidground.features.windows import WindowEvent
from vidground.inference.answers import Reading
from vidground.language.response_parsing import caption_segments
from vidground.model.evidence import run_means


def moment_spans(reading: Reading, *, share: float) -> list[tuple[int, int, float]]:
    """Return every peak of every evidence curve that an answer refers to.

    Evidence that was matched to frames is one moment, whatever its curve.

    Args:
        reading: the answer of a window.
        share: see `peaks`.

    Returns:
        (first sample, last sample, mean relevance) per peak.
    """
    start = reading.window.start
    spans = []
    for evidence in reading.referred:
        found = peaks(evidence.curve, threshold=share)
        if evidence.matched:
            found = [(evidence.first, evidence.last, evidence.score)]
        spans += [(start + first, start + last, score) for first, last, score in found]
    return spans


def peaks(curve: torch.Tensor, *, threshold: float) -> list[tuple[int, int, float]]:
    """Return the runs of relevant frames in order of time.

    The run with the highest mean is the interval that the model's answer refers to
    (`evidence.best_interval`); the others are further moments of the same query.

    Args:
        curve: (T,) relevance, in [0, 1].
        threshold: lowest relevance of a frame in a run, as a share of the highest, in (0, 1].

    Returns:
        (first frame, last frame, mean relevance) per run.
    """
    means, remains = run_means(
        curve[None], torch.ones_like(curve[None], dtype=torch.bool), threshold=threshold
    )
    runs: list[tuple[int, int, float]] = []
    for frame, (mean, remain) in enumerate(
        zip(means[0].tolist(), remains[0].tolist(), strict=True)
    ):
        if remain and runs and runs[-1][1] == frame - 1:
            runs[-1] = (runs[-1][0], frame, mean)
        elif remain:
            runs.append((frame, frame, mean))
    return runs


def window_events(reading: Reading) -> list[WindowEvent]:
    """Return the captioned events of a window; evidence without a caption is left out."""
    start, events = reading.window.start, []
    for ordinal, text in caption_segments(reading.parsed):
        evidence = reading.evidence[ordinal]
        if text:
            span = start + evidence.first, start + evidence.last
            events.append(WindowEvent(*span, text, evidence.score))
    return events
