"""Write stored results as one HTML page to browse, search and play, offline.

Combines the data (`report_data`), thumbnails (`thumbnails`) and the page (`report_page`). Needs no
model.
"""

import base64
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vidground.archive.stored_results import load
from vidground.errors import FormatError, InputError, InternalError, VidgroundError
from vidground.faults import faults_as_internal
from vidground.language.safe_text import plain_text
from vidground.results.documents import video_of
from vidground.results.video_lookup import file_uri, find_video, relative_link
from vidground.review.report_data import VideoEntry, encode_entry, key_of
from vidground.review.report_page import MARK, render_page, require_jinja
from vidground.review.thumbnails import Thumbnailer
from vidground.storage.atomic import write_atomically
from vidground.storage.files import printable

_MARK_WITHIN_BYTES = 4096
_MAX_PICTURE_BYTES = 100_000_000
"""Browsers take seconds to open a larger page."""


@dataclass(frozen=True, slots=True)
class ReportSummary:
    """What a report contains.

    Attributes:
        videos: number of videos.
        events: number of events.
        size_bytes: of the report.
        not_found: videos whose files were not found; their results are in the report.
        failed: results that could not be read, with the reasons.
        notes: why thumbnails are missing.
        faults: internal errors because of which thumbnails are missing.
    """

    videos: int
    events: int
    size_bytes: int
    not_found: tuple[str, ...]
    failed: tuple[tuple[Path, VidgroundError], ...]
    notes: tuple[str, ...]
    faults: tuple[InternalError, ...] = ()


def write_report(
    results: Iterable[str | os.PathLike[str]],
    path: str | os.PathLike[str],
    *,
    title: str = "vidground report",
    with_thumbnails: bool = True,
    videos: Sequence[str | os.PathLike[str]] = (),
    absolute_links: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> ReportSummary:
    """Write one HTML file that shows stored results, with a player for local videos.

    Args:
        results: JSON files written by `save`; results on the same video are shown together.
        path: of the report. An existing report is replaced.
        title: of the page.
        with_thumbnails: embed a picture of every event, up to 100 MB in total; the remaining videos
            have none, and a note says how many.
        videos: folders to search for videos that have moved; see `find_video`.
        absolute_links: link to videos by absolute path, so that the report can be moved without
            them; otherwise links are relative, so that both can be moved together.
        on_progress: called with the number of videos done and the total.

    Raises:
        InputError: jinja2 is not installed.
        FormatError: no result can be read, or the report cannot be written.
    """
    require_jinja()
    entries, failed = _read(results, [Path(folder) for folder in videos])
    if not entries:
        reasons = "; ".join(str(error) for _, error in failed) or "none was given"
        raise FormatError(f"no result for the report: {reasons}")
    rows = []
    with Thumbnailer() as thumbnailer:
        album = _Album(thumbnailer, _MAX_PICTURE_BYTES if with_thumbnails else 0)
        for done, entry in enumerate(entries):
            if on_progress is not None:
                on_progress(done, len(entries))
            link = None if entry.place is None else _link(entry.place, path, absolute_links)
            rows.append(encode_entry(entry, link=link, pictures=album.pictures(entry)))
    page = render_page({"videos": rows}, title=plain_text(title)).encode()
    write_atomically(Path(path), page, parents=True)
    if on_progress is not None:
        on_progress(len(entries), len(entries))
    return ReportSummary(
        videos=len(entries),
        events=sum(len(entry.events) for entry in entries),
        size_bytes=len(page),
        not_found=tuple(entry.info.path for entry in entries if entry.place is None),
        failed=tuple(failed),
        notes=album.notes,
        faults=tuple(album.faults),
    )


def is_report(path: str | os.PathLike[str]) -> bool:
    """Return whether a file is a report written by `write_report`.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        with Path(path).open("rb") as file:
            return MARK.encode() in file.read(_MARK_WITHIN_BYTES)
    except (OSError, ValueError) as error:
        raise InputError(f"{printable(path)}: cannot be read: {error}") from error


def _read(
    results: Iterable[str | os.PathLike[str]], folders: Sequence[Path]
) -> tuple[list[VideoEntry], list[tuple[Path, VidgroundError]]]:
    entries: dict[tuple[str, int], VideoEntry] = {}
    failed: list[tuple[Path, VidgroundError]] = []
    for source in map(Path, results):
        try:
            with faults_as_internal(source):
                result = load(source)
        except VidgroundError as error:
            failed.append((source, error))
            continue
        info = video_of(result)
        place = find_video(info, result=source, folders=folders)
        entry = entries.setdefault(key_of(result, place), VideoEntry(info, place))
        entry.add(result, source)
    return list(entries.values()), failed


def _link(video: Path, report: str | os.PathLike[str], absolute: bool) -> str:
    return file_uri(video) if absolute else relative_link(video, Path(report).parent)


class _Album:
    """Pictures of events in base64, of `max_bytes` in total; 0 for no pictures."""

    def __init__(self, thumbnailer: Thumbnailer, max_bytes: int) -> None:
        self._thumbnailer = thumbnailer
        self._max_bytes = max_bytes
        self._bytes = self._left_out = 0
        self._problems: list[str] = []
        self.faults: list[InternalError] = []

    @property
    def notes(self) -> tuple[str, ...]:
        """Why pictures are missing."""
        if not self._left_out:
            return tuple(self._problems)
        videos = "1 video" if self._left_out == 1 else f"{self._left_out} videos"
        size = f"{self._max_bytes // 1_000_000} MB"
        return (
            *self._problems,
            f"no thumbnails of the last {videos}: those of the others reach the limit of {size}",
        )

    def pictures(self, entry: VideoEntry) -> list[str | None]:
        """Return a picture from the middle of each event, or None for each."""
        none: list[str | None] = [None] * len(entry.events)
        if not self._max_bytes or entry.place is None:
            return none
        if self._bytes >= self._max_bytes:
            self._left_out += 1
            return none
        middles_s = [(event.start_s + event.end_s) / 2 for event, _ in entry.events]
        try:
            with faults_as_internal(entry.place):
                jpegs = self._thumbnailer.make(entry.place, middles_s)
        except InternalError as error:
            self.faults.append(error)
            return none
        except (VidgroundError, OSError) as error:
            self._problems.append(f"no thumbnails: {error}")
            return none
        pictures = [base64.b64encode(jpeg).decode() for jpeg in jpegs]
        self._bytes += sum(map(len, pictures))
        return [*pictures]
