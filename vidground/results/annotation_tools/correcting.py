"""Apply what a person corrected in another program to the result that it was made from.

A correction is a file that `read_annotated` reads, or a result that was edited. Opens no video.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from vidground.errors import InputError
from vidground.results.annotation_tools.annotated_video import AnnotatedVideo
from vidground.results.annotation_tools.reading import ANNOTATION_SUFFIXES, read_annotated
from vidground.results.corrections import correct
from vidground.results.cues import to_cues
from vidground.results.documents import Result, video_of
from vidground.results.formats import FORMATS, load, suffix_of
from vidground.results.result_files import SUFFIX, is_result
from vidground.results.types import Event, Groundings

# The longest first, so that match.via.json is the correction of match.json.
_SUFFIXES = sorted({*ANNOTATION_SUFFIXES, *map(suffix_of, FORMATS)}, key=len, reverse=True)


def read_correction(path: Path, predicted: Result) -> Result:
    """Return what a file says of the video of `predicted`, as a corrected result.

    Raises:
        VidgroundError: the file cannot be read, or is not about this video and these queries.
    """
    if is_result_file(path):
        return load(path)
    videos = read_annotated(path)
    video = video_of(predicted)
    about = [item for item in videos if item.is_about(video.path)]
    if not about:
        named = ", ".join(sorted({str(item.video) for item in videos})) or "no annotated video"
        raise InputError(f"{path}: is about {named}, and the prediction about {video.path}")
    if len(about) > 1:
        raise InputError(f"{path}: holds {len(about)} annotations of {video.path}; keep one")
    return with_annotated_events(predicted, about[0])


def with_annotated_events(predicted: Result, annotated: AnnotatedVideo) -> Result:
    """Return `predicted` with the events of an annotation tool in place of its own.

    A time that the tool has only rounded stays as predicted. In a result of queries, an event
    belongs to the query that is its text; with a single query, one without text does too.

    Raises:
        FormatError: an event's text is not one of the queries.
    """
    events = [_unrounded(event, predicted.events, annotated) for event in annotated.events]
    if isinstance(predicted, Groundings) and len(predicted) == 1:
        (only,) = predicted
        events = [event if event.text else replace(event, text=only.query) for event in events]
    return correct(predicted, to_cues(events))


def _unrounded(event: Event, predicted: Sequence[Event], annotated: AnnotatedVideo) -> Event:
    """Return the event with the predicted times where it differs by rounding alone."""

    def nearest(time_s: float, known: Iterable[float]) -> float:
        best = min(known, key=lambda other: abs(other - time_s), default=time_s)
        return best if abs(best - time_s) <= annotated.resolution_s else time_s

    start_s = nearest(event.start_s, (other.start_s for other in predicted))
    end_s = nearest(event.end_s, (other.end_s for other in predicted))
    return replace(event, start_s=start_s, end_s=end_s) if start_s < end_s else event


def corrected_name(name: str) -> str:
    """Return the name of a correction without the suffix of its format, as its result has it."""
    lower = name.lower()
    suffix = next((s for s in _SUFFIXES if lower.endswith(s) and len(lower) > len(s)), "")
    return name[: len(name) - len(suffix)]


def is_result_file(path: Path) -> bool:
    """Return whether a file is a result of vidground, and not an export of an annotation tool."""
    return path.suffix.lower() == SUFFIX and path.is_file() and is_result(path)
