"""Every key of the training configuration with type, default and meaning, from its classes."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import types
import typing
from collections.abc import Iterator
from typing import Any

from vidground.training.config import ObjectiveName, RunConfig
from vidground.training.objectives.settings import FpoSettings, SftSettings

LOSSES: dict[ObjectiveName, type] = {"sft": SftSettings, "fpo": FpoSettings}
"""Class of the section `loss`, by objective."""
_WORDS = {"str": "text", "float": "number", "int": "integer", "bool": "true or false"}
_FIELD = re.compile(r"(\w+): (.*)")


@dataclasses.dataclass(frozen=True)
class ConfigKey:
    """A key of the configuration.

    Attributes:
        name: dotted, as `--set` takes it.
        kind: its type, in words.
        default: its default as JSON, or "required".
        meaning: its description.
    """

    name: str
    kind: str
    default: str
    meaning: str


@dataclasses.dataclass(frozen=True)
class ConfigSection:
    """The keys of one class.

    Attributes:
        name: dotted prefix of the keys; empty at the top level.
        summary: what the section is about.
        keys: without those of nested sections.
    """

    name: str
    summary: str
    keys: tuple[ConfigKey, ...]


def config_sections(objective: ObjectiveName) -> Iterator[ConfigSection]:
    """Yield the sections of an objective's configuration.

    Raises:
        ValueError: a field has no description in its class's docstring.
    """
    yield from sections_of(RunConfig, "", {"loss": LOSSES[objective]})


def sections_of(
    kind: type, prefix: str, kinds: typing.Mapping[str, type] = types.MappingProxyType({})
) -> Iterator[ConfigSection]:
    """Yield the section of a dataclass and those nested in it.

    Args:
        kind: the dataclass.
        prefix: dotted name of the section.
        kinds: types that replace the declared types of some fields.

    Raises:
        ValueError: a field has no description in its class's docstring.
    """
    hints = typing.get_type_hints(kind) | dict(kinds)
    meanings = _meanings(kind)
    keys: list[ConfigKey] = []
    nested: list[tuple[type, str]] = []
    for field in dataclasses.fields(kind):
        hint, name = hints[field.name], f"{prefix}.{field.name}" if prefix else field.name
        if field.name not in meanings:
            raise ValueError(f"{kind.__name__}.{field.name} has no description in its docstring")
        listed = typing.get_args(hint)[0] if typing.get_origin(hint) is tuple else None
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            nested.append((hint, name))
            continue
        if dataclasses.is_dataclass(listed) and isinstance(listed, type):
            nested.append((listed, f"{name}[]"))
        keys.append(ConfigKey(name, _type(hint), _default(field), meanings[field.name]))
    summary = (inspect.getdoc(kind) or "").split("\n\n")[0].replace("\n", " ")
    if keys:
        yield ConfigSection(prefix, summary, tuple(keys))
    for inner, name in nested:
        yield from sections_of(inner, name)


def keys_text(objective: ObjectiveName) -> str:
    """Return all keys of an objective as text, one in a line with its meaning below."""
    lines = []
    for section in config_sections(objective):
        lines += ["", section.summary]
        for key in section.keys:
            lines += [f"  {key.name}  ({key.kind}; default {key.default})", f"      {key.meaning}"]
    return "\n".join(lines).strip("\n")


def _meanings(kind: type) -> dict[str, str]:
    """Return the descriptions in the Attributes section of a docstring, by field."""
    _, _, section = (inspect.getdoc(kind) or "").partition("Attributes:\n")
    meanings: dict[str, str] = {}
    name = ""
    for line in section.split("\n\n")[0].splitlines():
        text = line.strip()
        started = _FIELD.fullmatch(text) if line.startswith("    ") and line[4] != " " else None
        if started is not None:
            name, meanings[started[1]] = started[1], started[2]
        elif name:
            meanings[name] += f" {text}"
    return meanings


def _type(hint: Any) -> str:
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is typing.Literal:
        return " or ".join(map(str, arguments))
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        return " or ".join(map(_type, arguments))
    if hint is type(None):
        return "null"
    if typing.get_origin(hint) is tuple:
        return f"list of {_type(arguments[0])}"
    return _WORDS.get(getattr(hint, "__name__", ""), "section")


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default is not dataclasses.MISSING:
        return json.dumps(field.default)
    if field.default_factory is not dataclasses.MISSING:
        return json.dumps(field.default_factory())
    return "required"
