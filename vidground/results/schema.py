"""JSON Schema of results, built from the classes that they are written from."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import is_dataclass
from types import NoneType
from typing import Any, get_args, get_origin

from vidground.results.documents import (
    ADDED_WITHOUT,
    CAPTION_FIELDS,
    FIELD_TYPES,
    GROUNDING_FIELDS,
    OPTIONAL_FIELDS,
    SCHEMA_VERSION,
)
from vidground.results.types import Captions, Event, GroundingResult, Moment, Provenance, Relevance
from vidground.video.info import VideoInfo

_PLAIN = {float: "number", int: "integer", str: "string", bool: "boolean"}
_ATTRIBUTE = re.compile(r"^        (\w+): (.*(?:\n            .*)*)", re.MULTILINE)
_FROM_0_TO_1 = {"score", "threshold"}


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) that every JSON result of vidground satisfies.

    Unknown keys are allowed, as readers are asked to ignore them.
    """
    classes = (Event, Moment, Relevance, Provenance, VideoInfo)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A result of vidground",
        "oneOf": [{"$ref": "#/$defs/Captions"}, {"$ref": "#/$defs/Groundings"}],
        "$defs": {kind.__name__: _object(kind, FIELD_TYPES[kind]) for kind in classes}
        | {"Captions": _captions(), "Groundings": _groundings(), "GroundingResult": _answer()},
    }


def _captions() -> dict[str, Any]:
    return _document("captions", _object(Captions, CAPTION_FIELDS)["properties"])


def _groundings() -> dict[str, Any]:
    answers = {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/GroundingResult"}}
    warnings = {"type": "array", "items": {"type": "string"}}
    provenance = {"$ref": "#/$defs/Provenance"}
    shared = {"results": answers, "provenance": provenance, "warnings": warnings}
    return _document("grounding", shared)


def _document(kind: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    head = {
        "schema_version": {"const": SCHEMA_VERSION},
        "kind": {"const": kind},
        "video": {"$ref": "#/$defs/VideoInfo"},
    }
    properties = head | dict(fields)
    return {"type": "object", "required": list(properties), "properties": properties}


def _answer() -> dict[str, Any]:
    """One answer of several: of its provenance only what differs from the document's."""
    schema = _object(GroundingResult, GROUNDING_FIELDS)
    own = _object(Provenance, FIELD_TYPES[Provenance])["properties"]
    schema["properties"]["provenance"] = {
        "type": "object",
        "description": "What differs from the document's provenance.",
        "properties": own,
    }
    schema["required"].append("provenance")
    return schema


def _object(kind: type, names: Iterable[str]) -> dict[str, Any]:
    hints, meanings = FIELD_TYPES[kind], _meanings(kind)
    optional = {*OPTIONAL_FIELDS.get(kind, {}), *ADDED_WITHOUT.get(kind, ())}
    properties = {}
    for name in names:
        properties[name] = _value(hints[name])
        if name in _FROM_0_TO_1 and "$ref" not in properties[name]:
            properties[name] |= {"minimum": 0, "maximum": 1}
        if name in meanings:
            properties[name]["description"] = meanings[name]
    required = [name for name in properties if name not in optional]
    return {"type": "object", "required": required, "properties": properties}


def _value(hint: Any) -> dict[str, Any]:
    inner = get_args(hint)
    if is_dataclass(hint):
        return {"$ref": f"#/$defs/{hint.__name__}"}  # type: ignore[union-attr]
    if get_origin(hint) is tuple:
        if inner[-1] is Ellipsis:
            return {"type": "array", "items": _value(inner[0])}
        return {
            "type": "array",
            "prefixItems": [_value(item) for item in inner],
            "minItems": len(inner),
            "maxItems": len(inner),
        }
    if get_origin(hint) is Mapping:
        return {"type": "object", "additionalProperties": _value(inner[1])}
    if inner:
        kinds = ["null" if part is NoneType else _PLAIN[part] for part in inner]
        return {"type": kinds}
    return {} if hint is Any else {"type": _PLAIN[hint]}


def _meanings(kind: type) -> dict[str, str]:
    """Descriptions of a class's fields, from the `Attributes` section of its docstring."""
    found = _ATTRIBUTE.findall((kind.__doc__ or "").partition("Attributes:")[2])
    return {name: " ".join(text.split()) for name, text in found}
