"""Formats: a result as text in each of `FORMATS`, written to a file, and read back from JSON.

srt, vtt: subtitles, optionally shaped by `CueSettings`. json: everything, see
`vidground.documents`. jsonl: an object per event or moment. csv: for spreadsheets, formulas
defused. tsv: integer milliseconds. txt: for people. All but JSON and JSON Lines round times once
to milliseconds, sort by (start, end) and hold plain text (`vidground.plaintext`).

Knows neither models nor videos; needs no torch.
"""

from pathlib import Path

from vidground.atomic import make_folder, write_atomically
from vidground.cues import UNSHAPED, CueSettings, shape_cues, to_cues
from vidground.documents import (
    Result,
    from_dict,
    from_json,
    to_dict,
    to_json,
    to_json_lines,
    video_of,
)
from vidground.errors import FormatError
from vidground.subtitles import srt, vtt
from vidground.tables import comma_separated, lines, tab_separated

__all__ = ["FORMATS", "CueSettings", "Result", "from_dict", "load", "render", "save", "to_dict"]

FORMATS: tuple[str, ...] = ("srt", "vtt", "json", "jsonl", "csv", "tsv", "txt")

_DOCUMENTS = {"json": to_json, "jsonl": to_json_lines}
_SUBTITLES = {"srt": srt, "vtt": vtt}
_TABLES = {"csv": comma_separated, "tsv": tab_separated, "txt": lines}


def render(
    result: Result,
    format: str,
    *,
    cues: CueSettings = UNSHAPED,
) -> str:
    """Return the result as text in one of `FORMATS`; the same result gives the same text.

    cues: shapes srt and vtt; the other formats have no lines to wrap and keep events whole.

    Raises FormatError for another format, or a value that JSON cannot hold.
    """
    if format in _DOCUMENTS:
        return _DOCUMENTS[format](result)
    timed = to_cues(result.events)
    if format in _TABLES:
        return _TABLES[format](timed)
    if format in _SUBTITLES:
        return _SUBTITLES[format](shape_cues(timed, cues, video_of(result).duration_s))
    raise FormatError(f"format {format!r} is unknown; choose one of {', '.join(FORMATS)}")


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
