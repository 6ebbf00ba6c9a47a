"""Open the videos of annotations before training does: unreadable ones, wrong durations.

Decodes only each video's first frame. Knows neither tokens nor models.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from vidground.errors import VideoError
from vidground.training.data.annotation_fields import DURATION_TOLERANCE_S
from vidground.training.data.annotations import Annotation, Problem, videos_of
from vidground.training.data.dataset import Selection
from vidground.video.reader import VideoReader

Measured = Mapping[Path, float | VideoError]
"""For each video file its duration in seconds, or why it cannot be read."""

_SMALLEST_IMAGE = 32


def measure_videos(
    annotations: Sequence[Annotation],
    *,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[Path, float | VideoError]:
    """Open every video once and measure its duration.

    Args:
        annotations: with the paths of their videos.
        on_progress: called with the number of videos measured and of all videos, after each.
    """
    measured: dict[Path, float | VideoError] = {}
    videos = videos_of(annotations)
    for done, path in enumerate(videos, start=1):
        try:
            measured[path] = duration_of(path)
        except VideoError as error:
            measured[path] = error
        if on_progress is not None:
            on_progress(done, len(videos))
    return measured


def duration_of(path: Path) -> float:
    """Return the duration of a video in seconds.

    Raises:
        VideoError: it is missing or cannot be read.
    """
    return VideoReader(path, fps=1.0, image_size=_SMALLEST_IMAGE).info.duration_s


def video_problems(annotations: Sequence[Annotation], measured: Measured) -> list[Problem]:
    """Return the samples whose video cannot be read or is longer or shorter than annotated."""
    problems = []
    for annotation in annotations:
        found = measured[annotation.path]
        if isinstance(found, VideoError):
            reason = f"its video cannot be read: {found}"
        elif abs(found - annotation.duration_s) > DURATION_TOLERANCE_S:
            reason = (
                f"duration is {annotation.duration_s:g} s, but {annotation.video!r} lasts "
                f"{found:.1f} s; correct it and see whether its intervals still fit"
            )
        else:
            continue
        problems.append(Problem(annotation.file, annotation.index, reason))
    return problems


def without_unreadable(annotations: Sequence[Annotation], measured: Measured) -> Selection:
    """Drop the samples whose video is missing or cannot be read, and count each of the two."""
    failed = [a for a in annotations if isinstance(measured[a.path], VideoError)]
    kept = tuple(a for a in annotations if not isinstance(measured[a.path], VideoError))
    missing = sum(not a.path.exists() for a in failed)
    dropped = {
        "videos that are missing": missing,
        "videos that cannot be read": len(failed) - missing,
    }
    return Selection(kept, {reason: count for reason, count in dropped.items() if count})
