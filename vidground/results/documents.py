"""Whole results as JSON documents and back, and events as JSON Lines. Knows no files.

A document holds everything its result holds, numbers unrounded, and nothing else (no dates), so
that `from_dict(to_dict(result)) == result` and equal results give equal bytes. Keys:

- `schema_version` (1), `kind` ("captions" or "grounding"), `video`, then
- captions: `events`, `answers`, `provenance`, `warnings`, `quality`;
- grounding: `results`, `provenance`, `warnings`. Each result has `query`, `found`, `threshold`,
  `moments`, `answer`, `relevance`, `warnings` and in `provenance` only what differs from the
  document's own (usually the prompt). The document's `warnings` are those of all results.

Keys that results of older versions lack are left out while they hold nothing: `quality` of a
result; `settings`, `about_s`, `runtime` and `corrected` of a provenance; `timecode`,
`sound_tracks`, `sound_channels` and `sound_rate` of a video. The `score` of an event or a moment
is always written, null if unknown; what a person adds may leave it out.

Readers may find more keys than these and should ignore them, as `from_dict` does.
"""

import json
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import is_dataclass
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from vidground.errors import FormatError, InputError
from vidground.results.limits import require_bounds
from vidground.results.types import (
    Captions,
    Event,
    GroundingResult,
    Groundings,
    Moment,
    Provenance,
    Relevance,
)
from vidground.video.info import VideoInfo

MOST_EVENTS, MOST_QUERIES = 100_000, 10_000
"""Events and queries of one result; more are hardly a model's."""

Result = Captions | Groundings

SCHEMA_VERSION = 1

CAPTION_FIELDS = ("events", "answers", "provenance", "warnings", "quality")
GROUNDING_FIELDS = (
    *("query", "found", "threshold", "moments", "answer", "relevance", "warnings", "quality"),
)
# Fields that results of older versions lack, with the values that are left out when writing.
OPTIONAL_FIELDS: dict[Any, dict[str, Any]] = {
    GroundingResult: {"quality": {}},
    Provenance: {"settings": {}, "about_s": (), "runtime": {}, "corrected": False},
    VideoInfo: dict.fromkeys(("timecode", "sound_tracks", "sound_channels", "sound_rate")),
}
# Always written, but optional when reading: what a person adds to a result needs no score.
ADDED_WITHOUT: dict[Any, frozenset[str]] = {
    Event: frozenset({"score"}),
    Moment: frozenset({"score"}),
}
FIELD_TYPES: dict[Any, dict[str, Any]] = {
    kind: get_type_hints(kind)
    for kind in (Captions, Event, GroundingResult, Moment, Provenance, Relevance, VideoInfo)
}
_NAMES = {float: "a finite number", int: "a whole number", str: "a string", bool: "true or false"}

# Valid in JSON but not in UTF-8 (lone surrogates, as in file names from older systems), read as a
# line ending by some programs, or interpreted by terminals (control characters, marks that change
# the reading direction). All occur in strings only.
_TO_ESCAPE = re.compile(r"[\x7f-\x9f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
# An indented list of numbers; a string cannot match because it holds no line break.
_NUMBER_LIST = re.compile(r"\[\n\s*((?:[-+.eE\d]+,\s+)*[-+.eE\d]+)\s*\]")


def provenance_in(result: Result) -> Provenance:
    """What made a result; for answers to several texts, the first of them."""
    return (result if isinstance(result, Captions) else result.results[0]).provenance


def video_of(result: Result) -> VideoInfo:
    """Return the video that a result is about.

    Raises:
        FormatError: its answers are about several videos.
    """
    if isinstance(result, Captions):
        return result.video
    video = result.results[0].video
    for other in result.results:
        if other.video != video:
            raise FormatError(
                f"answers on two videos, {video.path} and {other.video.path}, cannot be saved in "
                "one file; save them one by one"
            )
    return video


def to_dict(result: Result) -> dict[str, Any]:
    """Return the result as dicts, lists, strings, numbers, booleans and None, keys in order."""
    document: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "kind": "captions" if isinstance(result, Captions) else "grounding",
        "video": _encode(VideoInfo, video_of(result)),
    }
    if isinstance(result, Captions):
        return document | _encode_fields(result, CAPTION_FIELDS)
    shared = _encode(Provenance, result.results[0].provenance)
    document["results"] = [_encode_answer(answer, shared) for answer in result.results]
    document["provenance"] = shared
    # A dict keeps the order and drops duplicates.
    document["warnings"] = list(dict.fromkeys(w for a in result.results for w in a.warnings))
    return document


def from_dict(document: Any) -> Result:
    """Return the result that `to_dict` was given, within the limits of `require_bounds`.

    Raises:
        FormatError: names the key and what is wrong with it: not a document of vidground, an
            unknown `schema_version` or `kind`, a missing key, a value of the wrong type or range.
    """
    result = _decode_document(document)
    require_bounds(result)
    return result


def _decode_document(document: Any) -> Result:
    if not isinstance(document, dict) or "schema_version" not in document:
        raise FormatError("not a result of vidground: it has no schema_version")
    version = document["schema_version"]
    if version != SCHEMA_VERSION or isinstance(version, bool):
        raise FormatError(
            f"schema_version is {_shown(version)}; this vidground reads {SCHEMA_VERSION}. "
            "Use the vidground that wrote it, or a newer one"
        )
    kind = _key(document, "kind", "")
    if kind == "captions":
        _require_few(document.get("events"), "events", MOST_EVENTS)
        return _decode(Captions, document, "")  # type: ignore[no-any-return]
    if kind != "grounding":
        raise FormatError(f'kind is {_shown(kind)}; it must be "captions" or "grounding"')
    answers = _key(document, "results", "")
    if not isinstance(answers, list) or not answers:
        raise FormatError("results must be a list of at least one result")
    _require_few(answers, "results", MOST_QUERIES)
    return Groundings(
        tuple(_decode_answer(a, document, f"results[{i}]") for i, a in enumerate(answers))
    )


def to_json(result: Result) -> str:
    """Return the document as indented JSON that is valid UTF-8.

    Raises:
        FormatError: a number is NaN or infinite.
    """
    text = _dump(to_dict(result), indent=2)
    return _NUMBER_LIST.sub(lambda found: f"[{' '.join(found[1].split())}]", text) + "\n"


def from_json(text: str) -> Result:
    """Return the result that `to_json` was given.

    Raises:
        FormatError: it is not JSON, or see `from_dict`.
    """

    def refuse(constant: str) -> None:
        raise FormatError(f"{constant} is not a number in JSON; replace it")

    try:
        document = json.loads(text, parse_constant=refuse)
    except ValueError as error:  # also an integer of thousands of digits
        raise FormatError(f"not JSON: {error}") from error
    except RecursionError as error:
        raise FormatError("not a result of vidground: nested too deeply") from error
    return from_dict(document)


def _require_few(value: Any, where: str, most: int) -> None:
    if isinstance(value, list) and len(value) > most:
        raise FormatError(f"{where} has {len(value)} items; results with up to {most} are read")


def to_json_lines(result: Result) -> str:
    """Return a JSON object per event (`text`) or moment (`query`), in the result's order."""
    path = video_of(result).path
    found: list[tuple[str, str, Event | Moment]]
    if isinstance(result, Captions):
        found = [("text", event.text, event) for event in result.events]
    else:
        found = [("query", a.query, m) for a in result.results for m in a.moments]
    rows = (
        {
            "video": path,
            "start_s": float(item.start_s),
            "end_s": float(item.end_s),
            label: text,
            "score": None if item.score is None else float(item.score),
        }
        for label, text, item in found
    )
    return "".join(_dump(row) + "\n" for row in rows)


def _dump(value: Any, indent: int | None = None) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent)
    except (TypeError, ValueError) as error:
        raise FormatError(f"the result holds a value that JSON cannot express: {error}") from error
    return _TO_ESCAPE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _encode_answer(answer: GroundingResult, shared: dict[str, Any]) -> dict[str, Any]:
    own = _encode(Provenance, answer.provenance)
    # What is empty in this answer but not in the document's provenance must be written out.
    own |= {key: type(shared[key])() for key in shared if key not in own}
    differing = {key: value for key, value in own.items() if value != shared.get(key)}
    return _encode_fields(answer, GROUNDING_FIELDS) | {"provenance": differing}


def _decode_answer(answer: Any, document: dict[str, Any], where: str) -> GroundingResult:
    shared, differing = _key(document, "provenance", ""), _key(answer, "provenance", where)
    if not isinstance(shared, dict) or not isinstance(differing, dict):
        raise FormatError(f"provenance and {where}.provenance must be objects")
    whole = answer | {"video": _key(document, "video", ""), "provenance": shared | differing}
    return _decode(GroundingResult, whole, where)  # type: ignore[no-any-return]


def _encode(hint: Any, value: Any) -> Any:
    """Return `value`, of the type `hint`, as JSON types; `_decode` is the inverse."""
    inner = get_args(hint)
    if is_dataclass(hint):
        return _encode_fields(value, FIELD_TYPES[hint])
    if get_origin(hint) is tuple:
        hints = [inner[0]] * len(value) if inner[-1] is Ellipsis else inner
        return [_encode(h, item) for h, item in zip(hints, value, strict=True)]
    if get_origin(hint) is Mapping:
        return {key: _encode(inner[1], value[key]) for key in sorted(value)}
    if NoneType in inner:
        return None if value is None else _encode(inner[0], value)
    # NumPy numbers become Python's, and 4 in the place of a float 4.0.
    return hint(value) if hint in _NAMES else value


def _encode_fields(value: object, names: Iterable[str]) -> dict[str, Any]:
    hints, optional = FIELD_TYPES[type(value)], OPTIONAL_FIELDS.get(type(value), {})
    fields = {name: getattr(value, name) for name in names}
    return {
        name: _encode(hints[name], item)
        for name, item in fields.items()
        if name not in optional or item != optional[name]
    }


def _decode(hint: Any, value: Any, where: str) -> Any:
    """Return what `_encode(hint, ...)` was given. `where` is the path of keys to `value`."""
    inner = get_args(hint)
    if is_dataclass(hint):
        hints, absent = FIELD_TYPES[hint], _absent(hint, value)
        found = {
            name: _decode(inner_hint, _key(value, name, where), _join(where, name))
            for name, inner_hint in hints.items()
            if name not in absent
        }
        try:
            return hint(**found)  # type: ignore[operator]
        except InputError as error:
            raise FormatError(f"{where}: {error}") from error
    if get_origin(hint) is tuple:
        return _decode_list(inner, value, where)
    if get_origin(hint) is Mapping:
        if not isinstance(value, dict):
            raise FormatError(f"{where} must be an object, not {_shown(value)}")
        return {key: _decode(inner[1], item, _join(where, key)) for key, item in value.items()}
    if NoneType in inner:
        return None if value is None else _decode(inner[0], value, where)
    if get_origin(hint) in (Union, UnionType):
        # float | int: keep the type that was written.
        return _decode(type(value) if type(value) in inner else inner[0], value, where)
    return value if hint is Any else _decode_scalar(hint, value, where)


def _absent(hint: Any, value: Any) -> frozenset[str]:
    """Return the keys that `value` lacks and may lack."""
    optional = frozenset(OPTIONAL_FIELDS.get(hint, {})) | ADDED_WITHOUT.get(hint, frozenset())
    return optional.difference(value) if isinstance(value, dict) else frozenset()


def _decode_list(hints: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise FormatError(f"{where} must be a list, not {_shown(value)}")
    if hints[-1] is Ellipsis:
        hints = (hints[0],) * len(value)
    if len(hints) != len(value):
        raise FormatError(f"{where} must have {len(hints)} items, not {len(value)}")
    pairs = zip(hints, value, strict=True)
    return tuple(_decode(hint, item, f"{where}[{i}]") for i, (hint, item) in enumerate(pairs))


def _decode_scalar(hint: type, value: Any, where: str) -> Any:
    fits = type(value) is hint
    if hint is float and type(value) in (float, int):
        # The comparison also refuses integers that are too large for a float.
        fits = abs(value) <= sys.float_info.max
        value = float(value) if fits else value
    if not fits:
        raise FormatError(f"{where} must be {_NAMES[hint]}, not {_shown(value)}")
    return value


def _key(value: Any, key: str, where: str) -> Any:
    if not isinstance(value, dict):
        raise FormatError(f"{where or 'the document'} must be an object, not {_shown(value)}")
    if key not in value:
        raise FormatError(f"{_join(where, key)} is missing")
    return value[key]


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # an integer of thousands of digits
        text = "a number of too many digits"
    return text if len(text) <= 40 else text[:37] + "..."
