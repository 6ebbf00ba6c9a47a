"""Formats: a result as text in each of `FORMATS`, written to a file, and read back from JSON.

srt, vtt, ass, ttml: subtitles, optionally shaped by `CueSettings`. json: everything, see
`vidground.results.documents`. jsonl: an object per event or moment. csv: for spreadsheets, formulas
defused. tsv: integer milliseconds. txt: for people. chapters: for ffmpeg. otio, edl, fcpxml: for
editing programs, in whole frames (`vidground.results.editing`). All but JSON and JSON Lines round
times once, to milliseconds if not said otherwise, sort by (start, end) and hold plain text
(`vidground.results.safe_text`). ass, ttml, otio and edl need the extra `formats`.

Knows neither models nor videos; needs no torch.
"""

from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

from vidground.errors import FormatError
from vidground.results.chapters import chapters
from vidground.results.cue_shaping import shape_cues
from vidground.results.cues import UNSHAPED, CueSettings, to_cues
from vidground.results.documents import (
    Result,
    from_dict,
    from_json,
    to_dict,
    to_json,
    to_json_lines,
    video_of,
)
from vidground.results.edit_lists import edl, otio
from vidground.results.editing import editor_rate, to_edit
from vidground.results.fcpxml import fcpxml
from vidground.results.subtitles import srt, vtt
from vidground.results.tables import comma_separated, lines, tab_separated
from vidground.results.timed_text import ass, ttml
from vidground.storage.atomic import make_folder, write_atomically

__all__ = [
    "FORMATS",
    "SUBTITLE_FORMATS",
    "CueSettings",
    "Result",
    "from_dict",
    "load",
    "render",
    "require_packages",
    "save",
    "to_dict",
]

_DOCUMENTS = {"json": to_json, "jsonl": to_json_lines}
_SUBTITLES = {"srt": srt, "vtt": vtt, "ass": ass, "ttml": ttml}
_TABLES = {"csv": comma_separated, "tsv": tab_separated, "txt": lines, "chapters": chapters}
_EDITS = {"otio": otio, "edl": edl, "fcpxml": fcpxml}

# fmt: off
FORMATS: tuple[str, ...] = (
    "srt", "vtt", "json", "jsonl", "csv", "tsv", "txt",
    "ass", "ttml", "otio", "edl", "fcpxml", "chapters",
)
# fmt: on
SUBTITLE_FORMATS: tuple[str, ...] = tuple(_SUBTITLES)
"""Those that `CueSettings` shape."""

_PACKAGES = {
    "ass": ("pysubs2",),
    "ttml": ("pysubs2",),
    "otio": ("opentimelineio",),
    "edl": ("opentimelineio", "otio_cmx3600_adapter"),
}


def render(
    result: Result,
    format: str,
    *,
    cues: CueSettings = UNSHAPED,
) -> str:
    """Return the result as text in one of `FORMATS`; the same result gives the same text.

    cues: shapes subtitles; the other formats have no lines to wrap and keep events whole. In otio
    and fcpxml a video with a relative path is looked for from the current folder.

    Raises FormatError for another format, one whose package is not installed, or a value that
    the format has no form for.
    """
    if format in _DOCUMENTS:
        return _DOCUMENTS[format](result)
    if format not in FORMATS:
        raise FormatError(f"format {format!r} is unknown; choose one of {', '.join(FORMATS)}")
    require_packages((format,))
    video = video_of(result)
    if format in _EDITS:
        return _EDITS[format](to_edit(result.events, video))
    timed = to_cues(result.events)
    if format in _TABLES:
        return _TABLES[format](timed)
    shaped = shape_cues(timed, cues, video.duration_s, rate=editor_rate(video))
    return _SUBTITLES[format](shaped)


def require_packages(formats: Iterable[str]) -> None:
    """Raise FormatError if one of the formats needs a package that is not installed."""
    for name in formats:
        for package in _PACKAGES.get(name, ()):
            if find_spec(package) is None:
                raise FormatError(
                    f"{name} needs the package {package}, which is not installed; get it with "
                    "pip install 'vidground[formats]'"
                )


def save(
    result: Result,
    path: str | Path,
    *,
    format: str | None = None,
    cues: CueSettings = UNSHAPED,
) -> None:
    """Write the result to `path`; the file appears whole or not at all, its folders are made.

    format: one of `FORMATS`; None takes it from the suffix of `path`, in either case. cues: see
    `render`. UTF-8 without byte order mark, lines end with "\\n".

    Raises FormatError for an unknown suffix or format, or a path that cannot be written.
    """
    path = Path(path)
    suffix = path.suffix.lower().removeprefix(".")
    if format is None and suffix not in FORMATS:
        raise FormatError(
            f"{path}: no format has the suffix {path.suffix!r}; end the name with one of "
            + ", ".join(f".{name}" for name in FORMATS)
        )
    text = render(result, format or suffix, cues=cues)
    make_folder(path.parent)
    write_atomically(path, text)


def load(path: str | Path) -> Result:
    """Read a result back from the JSON that `save` wrote.

    Raises FormatError with the file and the reason if it is anything else: no such file, another
    format, another `schema_version`, a missing or impossible value.
    """
    try:
        return from_json(Path(path).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise FormatError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:  # bytes that are not UTF-8, a NUL in the name
        raise FormatError(f"{path}: cannot be read: {error}") from error
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from error
