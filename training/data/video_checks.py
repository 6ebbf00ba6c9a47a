"""Opens the videos of annotations before training does: what cannot be read, what is mislabelled.

Decodes no more than each video's first frame. Knows neither tokens nor models.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from vidground.errors import VideoError
from vidground.training.data.annotation_fields import DURATION_TOLERANCE_S
from vidground.training.data.annotations import Annotation, Problem, videos_of
from vidground.training.data.dataset import Selection
from vidground.video.reader import VideoReader

Measured = Mapping[str, float | VideoError]
"""For the `video` field of an annotation its duration in seconds, or why it cannot be read."""

_SMALLEST_PICTURE = 32


def measure_videos(
    annotations: Sequence[Annotation],
    video_root: str | Path,
    *,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, float | VideoError]:
    """Open every video once and measure how long it is.

    Args:
        on_progress: called with the number of videos measured and of all videos, after each.
    """
    measured: dict[str, float | VideoError] = {}
    videos = videos_of(annotations)
    for done, video in enumerate(videos, start=1):
        path = Path(video_root) / video
        try:
            reader = VideoReader(path, fps=1.0, image_size=_SMALLEST_PICTURE)
            measured[video] = reader.info.duration_s
        except VideoError as error:
            measured[video] = error
        if on_progress is not None:
            on_progress(done, len(videos))
    return measured


def video_problems(annotations: Sequence[Annotation], measured: Measured) -> list[Problem]:
    """Samples whose video cannot be read, or lasts another time than annotated."""
    problems = []
    for annotation in annotations:
        found = measured[annotation.video]
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
    """Leave out the samples whose video cannot be read, and count them."""
    kept = tuple(a for a in annotations if not isinstance(measured[a.video], VideoError))
    dropped = len(annotations) - len(kept)
    return Selection(kept, {"videos that cannot be read": dropped} if dropped else {})
