"""Read what a person annotated: SRT, WebVTT, ELAN, VIA and Label Studio files, told by content."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from vidground.errors import FormatError
from vidground.results.annotation_tools.annotated_video import AnnotatedVideo, event, parse_json
from vidground.results.annotation_tools.elan import read_elan
from vidground.results.annotation_tools.label_studio import read_label_studio
from vidground.results.annotation_tools.via import read_via, read_via_csv
from vidground.results.cues import NO_TEXT
from vidground.results.subtitle_reading import MOST_BYTES, SUBTITLE_SUFFIXES, read_cues
from vidground.storage.files import printable
from vidground.storage.reading import read_text

ANNOTATION_SUFFIXES = (*SUBTITLE_SUFFIXES, ".eaf", ".csv", ".json")
"""Lower-case suffixes of the files that `read_annotated` is meant for."""

_Read = Callable[[str], tuple[AnnotatedVideo, ...]]
_RESOLUTION_S = 0.001


def read_annotated(path: str | Path) -> tuple[AnnotatedVideo, ...]:
    """Return the videos that a file annotates, each with its events.

    Subtitles are about one video that they do not name. `.eaf` is ELAN, `.csv` VIA; a JSON object
    is a VIA project and a JSON list an export of Label Studio.

    Raises:
        FormatError: the file cannot be read, is larger than 64 MiB, or is none of these.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    try:
        if suffix in SUBTITLE_SUFFIXES:
            return (_subtitles(path),)
        return _READERS.get(suffix, _unknown)(read_text(path, most_bytes=MOST_BYTES))
    except FormatError as error:
        message = str(error)
        name = printable(path)
        raise FormatError(message if message.startswith(name) else f"{name}: {message}") from error


def _subtitles(path: Path) -> AnnotatedVideo:
    cues = read_cues(path)
    events = tuple(
        event(
            cue.start_ms / 1000,
            cue.end_ms / 1000,
            "" if cue.text == NO_TEXT else cue.text,
            f"cue {number}",
        )
        for number, cue in enumerate(cues, start=1)
    )
    return AnnotatedVideo(None, events, _RESOLUTION_S)


def _json(text: str) -> tuple[AnnotatedVideo, ...]:
    return read_label_studio(text) if isinstance(parse_json(text), list) else read_via(text)


def _unknown(_text: str) -> tuple[AnnotatedVideo, ...]:
    known = ", ".join(ANNOTATION_SUFFIXES)
    raise FormatError(f"is not a known annotation file; its name must end in one of {known}")


_READERS: Mapping[str, _Read] = {".eaf": read_elan, ".csv": read_via_csv, ".json": _json}
