"""Read public data sets of described moments: Charades-STA, ActivityNet Captions, QVHighlights.

Every fault names file and line or video. Knows no form of training data and opens no video.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeGuard

from vidground.errors import InputError
from vidground.storage import reading
from vidground.storage.reading import DATA_SET_BYTES
from vidground.training.data.annotation_fields import is_number
from vidground.training.data.interval_metrics import Interval

_CHARADES_LINE = re.compile(r"(\S+)\s+(\d+(?:\.\d*)?)\s+(\d+(?:\.\d*)?)\s*##(.*\S.*)")


@dataclass(frozen=True, slots=True)
class DescribedMoments:
    """A sentence about a video and the intervals that it describes.

    Attributes:
        video: the data set's name of the video, without a suffix.
        sentence: what happens.
        intervals: [start, end] in seconds, start <= end; at least one.
        duration_s: of the video, in seconds; None if the data set does not say.
    """

    video: str
    sentence: str
    intervals: tuple[Interval, ...]
    duration_s: float | None = None


def read_charades(path: str | Path) -> list[DescribedMoments]:
    """Return the lines "ID start end##sentence" of Charades-STA; reversed times are swapped.

    Raises:
        InputError: the file cannot be read, is empty, or a line has another form.
    """
    found = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        match = _CHARADES_LINE.fullmatch(line.strip())
        if match is None:
            raise InputError(f"{path}: line {number} is {line!r}; needs 'ID start end##sentence'")
        video, first, second, sentence = match.groups()
        interval = (min(float(first), float(second)), max(float(first), float(second)))
        found.append(DescribedMoments(video, sentence.strip(), (interval,)))
    if not found:
        raise InputError(f"{path}: holds no lines of the form 'ID start end##sentence'")
    return found


def read_charades_durations(path: str | Path) -> dict[str, float]:
    """Return the seconds of each video from Charades' CSV, by its columns `id` and `length`.

    Raises:
        InputError: the file cannot be read, or has no such columns.
    """
    rows = list(csv.DictReader(read_text(path).splitlines()))
    if not rows or not {"id", "length"} <= rows[0].keys():
        raise InputError(f"{path}: has no columns id and length; name Charades_v1_train.csv")
    durations = {}
    for row in rows:
        try:
            durations[str(row["id"])] = float(row["length"])
        except (TypeError, ValueError):
            raise InputError(
                f"{path}: the length of {row['id']} is {row['length']!r}; it must be seconds"
            ) from None
    return durations


def read_activitynet(path: str | Path) -> list[DescribedMoments]:
    """Return the captions of ActivityNet Captions: video → duration, timestamps, sentences.

    Raises:
        InputError: the file cannot be read, or a video has other fields.
    """
    videos = _json(read_text(path), str(path))
    if not isinstance(videos, dict) or not videos:
        raise InputError(f"{path}: holds no videos; name train.json or val_1.json")
    return [item for name, fields in videos.items() for item in _captions(name, fields, path)]


def read_qvhighlights(path: str | Path) -> list[DescribedMoments]:
    """Return the queries of QVHighlights with their relevant windows, from JSON Lines.

    Raises:
        InputError: the file cannot be read, or a line has other fields; the lines of the test
            split have no windows.
    """
    found = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}: line {number}"
        fields = _json(line, where)
        fields = fields if isinstance(fields, dict) else {}
        video, query = fields.get("vid"), fields.get("query")
        if not (_is_text(video) and _is_text(query)):
            _refuse(where, "has no vid or no query")
        windows = fields.get("relevant_windows")
        if not isinstance(windows, list) or not windows or not all(map(_is_pair, windows)):
            _refuse(where, f"has no relevant_windows ({windows!r:.40}); choose a split that has")
        intervals = tuple(sorted((float(min(pair)), float(max(pair))) for pair in windows))
        found.append(DescribedMoments(video, query.strip(), intervals, _seconds(fields, where)))
    if not found:
        raise InputError(f"{path}: holds no queries")
    return found


def read_text(path: str | Path) -> str:
    """Return the text of a file in UTF-8.

    Raises:
        InputError: it cannot be read.
    """
    return reading.read_text(path, most_bytes=DATA_SET_BYTES, error=InputError)


def _captions(name: str, fields: Any, path: str | Path) -> Iterator[DescribedMoments]:
    where = f"{path}: {name}"
    fields = fields if isinstance(fields, dict) else {}
    duration_s = _seconds(fields, where)
    times, sentences = fields.get("timestamps"), fields.get("sentences")
    if not (isinstance(times, list) and isinstance(sentences, list)):
        _refuse(where, "has no timestamps or no sentences")
    if len(times) != len(sentences):
        _refuse(where, f"has {len(times)} timestamps and {len(sentences)} sentences")
    for pair, sentence in zip(times, sentences, strict=True):
        if not _is_pair(pair):
            _refuse(where, f"has the timestamp {pair!r:.40}; it must be [start, end] in seconds")
        if not _is_text(sentence):
            _refuse(where, f"has the sentence {sentence!r:.40}; it must be a text")
        interval = (float(min(pair)), float(max(pair)))
        yield DescribedMoments(name, sentence.strip(), (interval,), duration_s)


def _seconds(fields: Mapping[str, Any], where: str) -> float:
    value = fields.get("duration")
    if not is_number(value) or value <= 0:
        _refuse(where, f"duration is {value!r:.40}; it must be seconds above 0")
    return float(value)


def _is_text(value: Any) -> TypeGuard[str]:
    return isinstance(value, str) and bool(value.strip())


def _is_pair(value: Any) -> TypeGuard[list[float]]:
    return isinstance(value, list) and len(value) == 2 and all(map(is_number, value))


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: is not JSON ({error})") from error


def _refuse(where: str, reason: str) -> NoReturn:
    raise InputError(f"{where}: {reason}")
