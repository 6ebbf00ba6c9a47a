"""Results as text in each of `FORMATS`, written to a file, and read back from JSON.

- srt, vtt, ass, ttml: subtitles, shaped by `CueSettings` on request.
- json: everything (`vidground.results.documents`); jsonl: one object per event or moment.
- csv: for spreadsheets, formulas defused; tsv: integer milliseconds; txt: for people, with the
  queries for which nothing was found.
- chapters: metadata for ffmpeg; youtube: chapters for a video's description.
- otio, edl, fcpxml, premiere-xml: for editing programs; resolve-edl, resolve-csv: markers for
  DaVinci Resolve. All in whole frames (`vidground.results.editors.editing`).
- labelstudio, elan, via: projects for annotation tools (`vidground.results.annotation_tools`).

All but JSON and JSON Lines round each time once, to milliseconds if not stated otherwise, sort by
(start, end) and hold plain text (`vidground.language.safe_text`). ass, ttml and otio need the extra
`formats`. Knows neither models nor videos; needs no torch.
"""

from collections.abc import Callable, Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path

from vidground.errors import FormatError
from vidground.results.annotation_tools.elan import elan
from vidground.results.annotation_tools.label_studio import label_studio
from vidground.results.annotation_tools.via import via
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
from vidground.results.editors.edit_lists import edl, otio, resolve_csv, resolve_edl
from vidground.results.editors.editing import Edit, editor_rate, to_edit
from vidground.results.editors.fcpxml import fcpxml
from vidground.results.editors.premiere_xml import premiere_xml
from vidground.results.subtitles import srt, vtt
from vidground.results.tables import (
    chapters,
    comma_separated,
    lines,
    not_found,
    tab_separated,
    youtube,
)
from vidground.results.timed_text import ass, ttml
from vidground.storage.atomic import write_atomically
from vidground.storage.files import printable
from vidground.storage.reading import read_text

__all__ = [
    "FORMATS",
    "SUBTITLE_FORMATS",
    "CueSettings",
    "Result",
    "format_of",
    "from_dict",
    "load",
    "render",
    "require_packages",
    "save",
    "suffix_of",
    "to_dict",
]

_DOCUMENTS = {"json": to_json, "jsonl": to_json_lines}
_TOOLS = {"labelstudio": label_studio, "elan": elan, "via": via}
_SUBTITLES = {"srt": srt, "vtt": vtt, "ass": ass, "ttml": ttml}
_TABLES = {"csv": comma_separated, "tsv": tab_separated, "chapters": chapters}
_EDITS: Mapping[str, Callable[[Edit], str]] = {
    "otio": otio,
    "edl": edl,
    "fcpxml": fcpxml,
    "resolve-edl": resolve_edl,
    "resolve-csv": resolve_csv,
    "premiere-xml": premiere_xml,
}

# fmt: off
FORMATS: tuple[str, ...] = (
    "srt", "vtt", "json", "jsonl", "csv", "tsv", "txt",
    "ass", "ttml", "otio", "edl", "fcpxml", "resolve-edl", "resolve-csv", "premiere-xml",
    "chapters", "youtube", "labelstudio", "elan", "via",
)
# fmt: on
SUBTITLE_FORMATS: tuple[str, ...] = tuple(_SUBTITLES)
"""Those that `CueSettings` shape."""

# Programs offer files by the end of their names, so that these must end as other formats do.
_SUFFIXES = {
    "resolve-edl": ".resolve.edl",
    "resolve-csv": ".resolve.csv",
    "premiere-xml": ".premiere.xml",
    "youtube": ".youtube.txt",
    "labelstudio": ".labelstudio.json",
    "elan": ".eaf",
    "via": ".via.json",
}
_PACKAGES = {"ass": "pysubs2", "ttml": "pysubs2", "otio": "opentimelineio"}


def suffix_of(format: str) -> str:
    """Return how the names of files in one of `FORMATS` end: ".srt", ".resolve.edl"."""
    return _SUFFIXES.get(format, f".{format}")


def format_of(path: str | Path) -> str | None:
    """Return which of `FORMATS` a file's name ends like, in either case; None for no format."""
    name = Path(path).name.lower()
    # A file named by its suffix alone has none.
    found = [form for form in FORMATS if name.endswith(suffix_of(form)) and Path(path).suffix]
    return max(found, key=lambda form: len(suffix_of(form)), default=None)


def render(
    result: Result,
    format: str,
    *,
    cues: CueSettings = UNSHAPED,
) -> str:
    """Return the result as text in one of `FORMATS`; the same result gives the same text.

    Args:
        result: what to write. If its video has a relative path, editing programs are pointed to
            that path from the current folder.
        format: one of `FORMATS`.
        cues: shapes subtitles; the other formats have no lines to wrap and keep events whole.

    Raises:
        FormatError: the format is unknown, its package is not installed, or it cannot express a
            value of the result.
    """
    if format in _DOCUMENTS:
        return _DOCUMENTS[format](result)
    if format not in FORMATS:
        raise FormatError(f"format {format!r} is unknown; choose one of {', '.join(FORMATS)}")
    require_packages((format,))
    video = video_of(result)
    if format in _TOOLS:
        return _TOOLS[format](result)
    if format in _EDITS:
        return _EDITS[format](to_edit(result.events, video))
    timed = to_cues(result.events)
    if format == "txt":
        return lines(timed) + not_found(result)
    if format == "youtube":
        return youtube(timed, video.duration_s)
    if format in _TABLES:
        return _TABLES[format](timed)
    shaped = shape_cues(timed, cues, video.duration_s, rate=editor_rate(video))
    return _SUBTITLES[format](shaped)


def require_packages(formats: Iterable[str]) -> None:
    """Check that the packages that formats need are installed.

    Raises:
        FormatError: one is missing.
    """
    for name in formats:
        package = _PACKAGES.get(name)
        if package is not None and find_spec(package) is None:
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
    """Write a result to a file, which appears whole or not at all; its folders are made.

    Args:
        result: what to write.
        path: the file. It holds UTF-8 without byte order mark, and its lines end with "\\n".
        format: one of `FORMATS`; None takes the one that the name ends like (see `suffix_of`).
        cues: see `render`.

    Raises:
        FormatError: the suffix or format is unknown, the format cannot express the result, or the
            file cannot be written.
    """
    path = Path(path)
    chosen = format or format_of(path)
    if chosen is None:
        raise FormatError(
            f"{path}: no format has the suffix {path.suffix!r}; end the name with one of "
            + ", ".join(suffix_of(name) for name in FORMATS)
        )
    text = render(result, chosen, cues=cues)
    write_atomically(path, text, parents=True)


def load(path: str | Path) -> Result:
    """Read a result back from the JSON that `save` wrote.

    Args:
        path: the file.

    Raises:
        FormatError: with the file and the reason: it does not exist, is in another format or of
            another `schema_version`, or holds a missing or impossible value.
    """
    text = read_text(path)
    try:
        return from_json(text)
    except FormatError as error:
        raise FormatError(f"{printable(path)}: {error}") from error
