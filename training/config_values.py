"""Build dataclasses from plain nested values, checking keys by name and values by type.

Fields may be numbers, texts, booleans, literals, tuples of one type, other dataclasses, and each
of these or None.
"""

from __future__ import annotations

import difflib
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Literal, TypeVar

from vidground.errors import InputError

_Section = TypeVar("_Section")


def build(
    cls: type[_Section], values: Any, where: str = "", *, kinds: Mapping[str, Any] | None = None
) -> _Section:
    """Return a dataclass instance, with nested ones in its fields, from nested mappings.

    Args:
        cls: the dataclass.
        values: a mapping of its fields.
        where: dotted name of `values`, for messages.
        kinds: types that replace the declared types of some fields.

    Raises:
        InputError: a key is unknown or missing, or a value has the wrong type.
    """
    if not isinstance(values, Mapping):
        raise InputError(f"{where} is {values!r}; it needs keys and values")
    hints = {**typing.get_type_hints(cls), **(kinds or {})}
    known = [f.name for f in fields(cls)]  # type: ignore[arg-type]  # it is a dataclass
    prefix = f"{where}." if where else ""
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            remedy = f"did you mean {prefix}{near[0]}?" if near else f"known: {', '.join(known)}"
            raise InputError(f"unknown key {prefix}{key}; {remedy}")
    for f in fields(cls):  # type: ignore[arg-type]
        if f.default is MISSING and f.default_factory is MISSING and f.name not in values:
            raise InputError(f"{prefix}{f.name} is missing; give it a value")
    made = {key: _value(hints[key], value, prefix + str(key)) for key, value in values.items()}
    return cls(**made)


def _value(kind: Any, value: Any, name: str) -> Any:
    """Return `value` as `kind`, one of the field types listed above."""
    options = typing.get_args(kind)
    if is_dataclass(kind) and isinstance(kind, type):
        return build(kind, {} if value is None else value, name)
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        if value is None:
            return None
        (kind,) = (option for option in options if option is not type(None))
        return _value(kind, value, name)
    if typing.get_origin(kind) is Literal:
        if value not in options:
            raise InputError(f"{name} is {value!r}; choose from {', '.join(map(repr, options))}")
        return value
    if typing.get_origin(kind) is tuple:
        items = value if isinstance(value, list | tuple) else [value]
        return tuple(_value(options[0], item, name) for item in items)
    return _scalar(kind, value, name)


def _scalar(kind: type, value: Any, name: str) -> Any:
    if kind is float and isinstance(value, int | float | str) and not isinstance(value, bool):
        try:
            number = float(value)  # YAML parses 2e-5 as text
        except ValueError:
            number = math.nan
        if math.isfinite(number):
            return number
    elif isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        return value
    expected = {float: "a finite number", int: "a whole number", bool: "true or false"}
    raise InputError(f"{name} is {value!r}; it must be {expected.get(kind, 'a text')}")
