"""Limits of the values in a result that was read from a file."""

from __future__ import annotations

from vidground.errors import FormatError
from vidground.results.types import LATEST_S, Captions, Groundings, Provenance
from vidground.video.info import VideoInfo

LONGEST_TEXT = 100_000  # characters of a text, a prompt or a query
LONGEST_NAME = 4096  # characters of a path, a model or a version
HIGHEST_RATE = 100_000.0  # frames per second
LARGEST_SIDE = 100_000  # pixels of a picture
LARGEST_COUNT = 1 << 62  # frames, bytes and packets of a file


def require_bounds(result: Captions | Groundings) -> None:
    """Check a result that was read from a file.

    Raises:
        FormatError: a value is out of its range; names the key, the value and the limit.
    """
    if isinstance(result, Captions):
        _check_video(result.video)
        _check_provenance(result.provenance, "provenance")
        for number, event in enumerate(result.events):
            _check_text(event.text, f"events[{number}].text")
        return
    _check_video(result.results[0].video)
    for number, answer in enumerate(result.results):
        where = f"results[{number}]"
        _check_provenance(answer.provenance, f"{where}.provenance")
        _check_text(answer.query, f"{where}.query")
        _check_number(answer.threshold, f"{where}.threshold", 0, 1)
        for value in (answer.relevance.times_s or (0.0,))[-1:]:
            _check_number(value, f"{where}.relevance.times_s", 0, LATEST_S)


def _check_video(video: VideoInfo) -> None:
    _check_text(video.path, "video.path", LONGEST_NAME)
    _check_text(video.codec, "video.codec", LONGEST_NAME)
    _check_text(video.timecode or "", "video.timecode", 32)
    _check_number(video.duration_s, "video.duration_s", 0, LATEST_S)
    if video.fps is not None:
        _check_number(video.fps, "video.fps", 1e-6, HIGHEST_RATE)
    for name in ("width", "height"):
        _check_number(getattr(video, name), f"video.{name}", 0, LARGEST_SIDE)
    for name in ("frames", "size_bytes", "damaged_packets", "sound_tracks", "sound_rate"):
        _check_number(getattr(video, name) or 0, f"video.{name}", 0, LARGEST_COUNT)


def _check_provenance(made: Provenance, where: str) -> None:
    _check_text(made.prompt, f"{where}.prompt")
    for name in ("model", "revision", "dtype", "vidground_version"):
        _check_text(getattr(made, name) or "", f"{where}.{name}", LONGEST_NAME)
    _check_number(made.fps, f"{where}.fps", 0, HIGHEST_RATE)
    _check_number(made.time_resolution_s, f"{where}.time_resolution_s", 0, LATEST_S)
    for name, intervals in (("windows_s", made.windows_s), ("about_s", made.about_s)):
        for number, interval in enumerate(intervals):
            for time in interval:
                _check_number(time, f"{where}.{name}[{number}]", 0, LATEST_S)


def _check_text(text: str, where: str, longest: int = LONGEST_TEXT) -> None:
    if len(text) > longest:
        raise FormatError(f"{where} has {len(text):,} characters; at most {longest:,} are read")


def _check_number(value: float, where: str, lowest: float, highest: float) -> None:
    if not lowest <= value <= highest:
        raise FormatError(f"{where} is {value:g}; it must lie in [{lowest:g}, {highest:g}]")
