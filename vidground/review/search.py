"""Moments of an archive, ranked: by the words of stored results, or by a model's own look.

Returns what was found; how it is shown is the command line's matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vidground.errors import VidgroundError
from vidground.faults import faults_as_internal
from vidground.results.documents import video_of
from vidground.results.formats import load
from vidground.results.safe_text import plain_text
from vidground.results.video_lookup import find_video
from vidground.review.ranking import rank

if TYPE_CHECKING:
    from vidground.grounder import Grounder
    from vidground.results.types import Event

OnDone = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Hit:
    """A moment that fits a search.

    video: where it is now, or, if it was not found, was when its result was made. found: whether
    the file is there. score: in [0, 1]; see `search_results` and `search_videos`. text: the
    caption, or what was searched for.
    """

    video: str
    found: bool
    start_s: float
    end_s: float
    score: float
    text: str


@dataclass(frozen=True, slots=True)
class SearchOutcome:
    """hits: best first. searched: moments of stored results, or videos, that were looked at.

    failed: files that could not be read, with the reasons.
    """

    hits: tuple[Hit, ...]
    searched: int
    failed: tuple[tuple[str, VidgroundError], ...]


def search_results(
    query: str,
    results: Iterable[Path],
    *,
    min_score: float = 0.0,
    on_done: OnDone | None = None,
) -> SearchOutcome:
    """Rank the captions and earlier queries of stored results by the words of `query`.

    A score is that of `ranking.rank`; texts without a common word are no hits. Among equal
    scores the model's own, then the order of the results decides.
    """
    paths = list(results)
    moments: list[tuple[str, bool, Event]] = []
    failed: list[tuple[str, VidgroundError]] = []
    for done, path in enumerate(paths, 1):
        try:
            with faults_as_internal(path):
                result = load(path)
                info = video_of(result)
                place = find_video(info, result=path)
                video = str(place) if place is not None else info.path
                moments += [(video, place is not None, event) for event in result.events]
        except VidgroundError as error:
            failed.append((str(path), error))
        if on_done is not None:
            on_done(done, len(paths))
    scores = rank(query, [event.text for _, _, event in moments])
    hits = [
        (Hit(video, found, event.start_s, event.end_s, score, plain_text(event.text)), event.score)
        for (video, found, event), score in zip(moments, scores, strict=True)
        if score > 0 and score >= min_score
    ]
    hits.sort(key=lambda item: (-item[0].score, -(item[1] or 0.0)))
    return SearchOutcome(tuple(hit for hit, _ in hits), len(moments), tuple(failed))


def search_videos(
    query: str,
    videos: Iterable[Path],
    grounder: Grounder,
    *,
    on_done: OnDone | None = None,
) -> SearchOutcome:
    """Ask the model for `query` in every video, several at once, and rank the moments by scores.

    A score is a moment's mean relevance; `grounder.grounding` says what counts as found.
    """
    paths = list(videos)
    hits: list[Hit] = []
    failed: list[tuple[str, VidgroundError]] = []
    answered = 0

    def tell() -> None:
        if on_done is not None:
            on_done(answered + len(failed), len(paths))

    def note(path: str, error: VidgroundError) -> None:
        failed.append((path, error))
        tell()

    text = plain_text(query)
    for (result,) in grounder.query_many(paths, query, on_error=note):
        hits += [
            Hit(result.video.path, True, moment.start_s, moment.end_s, moment.score or 0.0, text)
            for moment in result.moments
        ]
        answered += 1
        tell()
    hits.sort(key=lambda hit: -hit.score)
    return SearchOutcome(tuple(hits), len(paths), tuple(failed))
