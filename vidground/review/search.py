"""Search an archive for moments, by the words of stored results or by a model on its videos."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vidground.archive.stored_results import load
from vidground.errors import VidgroundError
from vidground.faults import faults_as_internal
from vidground.language.safe_text import plain_text
from vidground.results.documents import video_of
from vidground.results.video_lookup import find_video

if TYPE_CHECKING:
    from vidground.grounder import Grounder
    from vidground.results.types import Event

OnDone = Callable[[int, int], None]

_K1, _B = 1.2, 0.75
"""BM25's usual parameters: saturation of repeated words, and penalty on long texts."""
_UNSPACED = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"  # scripts that write words without spaces
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+")
_SHORTEST_PLURAL = 4


@dataclass(frozen=True, slots=True)
class Hit:
    """A moment that matches a search.

    Attributes:
        video: current path of the video; if it was not found, the path in its result.
        found: whether the file exists.
        start_s: start of the moment in seconds.
        end_s: its end in seconds.
        score: in [0, 1]; see `search_results` and `search_videos`.
        text: the caption, or the query that was searched for.
    """

    video: str
    found: bool
    start_s: float
    end_s: float
    score: float
    text: str


@dataclass(frozen=True, slots=True)
class SearchOutcome:
    """The result of a search.

    Attributes:
        hits: best first.
        searched: number of moments of stored results, or of videos.
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

    Hits are sorted by their score (see `rank`), then by the model's own score, then in the order of
    the results. Texts that share no word with the query are not hits.

    Args:
        query: the words to search for.
        results: JSON files.
        min_score: lowest score of a hit, in [0, 1].
        on_done: called with the number of results read and the total.
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
    """Query every video with the model, several at once, and rank the moments by score.

    Args:
        query: what to look for.
        videos: the files.
        grounder: its `grounding` settings decide which moments are found.
        on_done: called with the number of videos done and the total.

    Returns:
        Hits whose score is the mean relevance of the moment's frames.
    """
    paths = list(videos)
    hits: list[Hit] = []
    failed: list[tuple[str, VidgroundError]] = []
    answered = 0

    def report() -> None:
        if on_done is not None:
            on_done(answered + len(failed), len(paths))

    def on_error(path: str, error: VidgroundError) -> None:
        failed.append((path, error))
        report()

    text = plain_text(query)
    for (result,) in grounder.query_many(paths, query, on_error=on_error):
        hits += [
            Hit(result.video.path, True, moment.start_s, moment.end_s, moment.score or 0.0, text)
            for moment in result.moments
        ]
        answered += 1
        report()
    hits.sort(key=lambda hit: -hit.score)
    return SearchOutcome(tuple(hits), len(paths), tuple(failed))


def rank(query: str, texts: Sequence[str]) -> list[float]:
    """Score how well each text matches the query: BM25 divided by the score of the query itself.

    Rare words and words in short texts count more.

    Returns:
        A score in [0, 1] per text; 0 if it shares no word with the query, 1 if it matches as well
        as the query itself would.
    """
    wanted = sorted(set(words(query)))
    counted = [Counter(words(text)) for text in texts]
    if not wanted or not counted:
        return [0.0] * len(texts)
    mean_length = sum(counts.total() for counts in counted) / len(counted) or 1.0
    weights = {word: _inverse_frequency(word, counted) for word in wanted}
    best = _bm25(Counter(wanted), weights, mean_length)
    return [min(1.0, _bm25(counts, weights, mean_length) / best) for counts in counted]


def words(text: str) -> list[str]:
    """Split a text into words for comparison: lower case, no accents, no plural s.

    In Chinese, Japanese and Korean every character counts as a word.
    """
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    letters = "".join(char for char in decomposed if not unicodedata.combining(char))
    # Composed again, since decomposition splits Korean syllables.
    return [_singular(word) for word in _WORD.findall(unicodedata.normalize("NFC", letters))]


def _bm25(counts: Counter[str], weights: dict[str, float], mean_length: float) -> float:
    norm = _K1 * (1 - _B + _B * counts.total() / mean_length)
    return sum(
        weight * counts[word] * (_K1 + 1) / (counts[word] + norm)
        for word, weight in weights.items()
    )


def _inverse_frequency(word: str, counted: Sequence[Counter[str]]) -> float:
    holding = sum(word in counts for counts in counted)
    return math.log(1 + (len(counted) - holding + 0.5) / (holding + 0.5))


def _singular(word: str) -> str:
    plural = len(word) >= _SHORTEST_PLURAL and word.endswith("s") and not word.endswith("ss")
    return word[:-1] if plural else word
