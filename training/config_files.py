"""YAML files of training configurations, a user's own or bundled with vidground."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from vidground.errors import FormatError, InputError
from vidground.storage.reading import read_text

_MOST_BYTES = 1 << 20


def parse_value(text: str) -> Any:
    """Return the value of a YAML text.

    Raises:
        InputError: the text is not valid YAML.
    """
    try:
        return _load(text)
    except yaml.YAMLError as error:
        raise InputError(f"{text[:200]!r} is not a YAML value: {_first_line(error)}") from error


def bundled_configs() -> list[str]:
    """Return the names of the configurations bundled with vidground."""
    files = resources.files("vidground.training").joinpath("configs").iterdir()
    return sorted(f.name.removesuffix(".yaml") for f in files if f.name.endswith(".yaml"))


class _Loader(yaml.SafeLoader):
    """Rejects aliases, and duplicate keys, of which YAML silently takes the last.

    A few aliases of aliases make a value of any size, and no configuration needs them.
    """

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Return the next node."""
        if self.check_event(yaml.AliasEvent):
            event: Any = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(
                problem=f"alias *{event.anchor} in line {event.start_mark.line + 1}; write its "
                "value out"
            )
        node: yaml.Node | None = super().compose_node(parent, index)
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return the mapping of a node."""
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue  # which the base class refuses
            if key.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"duplicate key {key.value:.80}, the second time in line "
                    f"{key.start_mark.line + 1}; keep one"
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def read_yaml(file: str | Path) -> dict[str, Any]:
    """Return the content of a configuration file.

    Args:
        file: a path, or the name of a bundled configuration; a file wins over a bundled name.

    Raises:
        InputError: the file cannot be read, or is not a YAML mapping.
    """
    path = Path(file)
    if not path.is_file() and str(file) in bundled_configs():
        bundled = resources.files("vidground.training").joinpath("configs", f"{file}.yaml")
        text = bundled.read_text(encoding="utf-8")
    else:
        text = _read_config(path)
    try:
        content = _load(text)
    except yaml.YAMLError as error:
        raise InputError(f"{file} is not valid YAML: {_first_line(error)}") from error
    if not isinstance(content, dict):
        raise InputError(f"{file} contains {type(content).__name__}; it needs keys and values")
    return content


def _read_config(path: Path) -> str:
    try:
        return read_text(path, most_bytes=_MOST_BYTES)
    except FormatError as error:
        known = ", ".join(bundled_configs())
        raise InputError(
            f"the configuration {path} cannot be read ({error}); give a YAML file, or one of "
            f"the bundled names: {known}"
        ) from error


def _load(text: str) -> Any:
    """Return the value of a YAML text; raise YAMLError for all that is wrong with it."""
    try:
        return yaml.load(text, _Loader)
    except RecursionError as error:
        raise yaml.YAMLError("nested too deeply") from error
    except ValueError as error:  # an integer of thousands of digits, an impossible date
        raise yaml.YAMLError(str(error)) from error


def dump_yaml(values: Mapping[str, Any]) -> str:
    """Return nested values as YAML, in their order."""
    return str(yaml.safe_dump(_plain(values), sort_keys=False, allow_unicode=True))


def put(
    content: dict[str, Any], keys: Sequence[str], value: Any, name: str, *, replace: bool = True
) -> None:
    """Set a value in nested mappings, in place.

    Args:
        content: the mappings.
        keys: the path to the value.
        value: the value.
        name: the dotted key, for messages.
        replace: overwrite a value that is already set.

    Raises:
        InputError: a part of the path is not a mapping.
    """
    for key in keys[:-1]:
        content = content.setdefault(key, {})
        if not isinstance(content, dict):
            raise InputError(f"{name}: {key} is {content!r}, not a section with keys")
    if replace or keys[-1] not in content:
        content[keys[-1]] = value


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
