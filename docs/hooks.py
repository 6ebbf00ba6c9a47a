"""Pages that are generated, so that they cannot go stale: commands, training keys, the schema."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Iterator

import click
from griffe import Docstring
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages to the site."""
    pages = {
        "reference/cli.md": command_reference(),
        "reference/training-config.md": training_reference(),
        "reference/result.schema.json": schema_text(),
    }
    for path, text in pages.items():
        files.append(File.generated(config, path, content=text))
    return files


def schema_text() -> str:
    """Return the JSON Schema of results."""
    from vidground.results.schema import json_schema

    return json.dumps(json_schema(), indent=2) + "\n"


def command_reference() -> str:
    """Return the Markdown of every command and its options, read from click."""
    from vidground.cli.main import cli

    context = click.Context(cli, info_name="vidground")
    intro = (
        "# Command line\n\nGenerated from the commands themselves; the same as `--help` prints.\n"
    )
    return intro + "\n".join(_command_pages(cli, context))


def _command_pages(command: click.Command, context: click.Context) -> Iterator[str]:
    if context.parent is not None:
        depth = "#" * min(2 + context.command_path.count(" ") - 1, 4)
        yield f"\n{depth} {context.command_path}\n\n```text\n{_help(command, context)}\n```\n"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            sub = command.get_command(context, name)
            if sub is not None and not sub.hidden:
                yield from _command_pages(
                    sub, click.Context(sub, info_name=name, parent=context, max_content_width=88)
                )


def _help(command: click.Command, context: click.Context) -> str:
    formatter = click.HelpFormatter(width=88, max_width=88)
    command.format_help(context, formatter)
    return formatter.getvalue().rstrip()


def training_reference() -> str:
    """Return the Markdown of every configuration key of training, read from its classes."""
    from vidground.training.config import RunConfig
    from vidground.training.objectives.settings import FpoSettings, SftSettings

    parts = [
        "# Training configuration\n\nEvery key of the YAML files that `vidground train sft|fpo "
        "--config` reads, and that `--set KEY=VALUE` sets. Generated from the classes that check "
        "them.\n"
    ]
    parts += _section("", RunConfig, {"loss": ()})
    parts += _section("loss", SftSettings, {}, "with objective sft")
    parts += _section("loss", FpoSettings, {}, "with objective fpo")
    return "\n".join(parts)


def _section(
    prefix: str, kind: type, skipped: dict[str, tuple[()]], note: str = ""
) -> Iterator[str]:
    hints = typing.get_type_hints(kind)
    meanings = _meanings(kind)
    rows, nested = [], []
    for field in dataclasses.fields(kind):
        name = f"{prefix}.{field.name}" if prefix else field.name
        hint = hints[field.name]
        inner = _dataclass_of(hint)
        if field.name in skipped:
            continue
        if inner is not None:
            nested.append((name, inner))
            continue
        meaning = meanings.get(field.name, "")
        if not meaning:
            raise ValueError(f"{kind.__name__}.{field.name} has no description in its docstring")
        rows.append(f"| `{name}` | {_type(hint)} | {_default(field)} | {meaning} |")
    if rows:
        title = f"`{prefix}`" if prefix else "Top level"
        yield f"\n## {title}{' ' + note if note else ''}\n\n{_summary(kind)}\n"
        yield "| key | type | default | meaning |\n|---|---|---|---|"
        yield from rows
    for name, inner in nested:
        yield from _section(name, inner, {}, note)


def _meanings(kind: type) -> dict[str, str]:
    """Descriptions of a class's fields, from the Attributes section of its docstring."""
    sections = Docstring(kind.__doc__ or "").parse("google")
    return {
        item.name: " ".join(item.description.split()).replace("|", "\\|")
        for section in sections
        if section.kind.value == "attributes"
        for item in section.value
    }


def _summary(kind: type) -> str:
    return (kind.__doc__ or "").strip().split("\n\n")[0].replace("\n", " ")


def _dataclass_of(hint: object) -> type | None:
    return hint if isinstance(hint, type) and dataclasses.is_dataclass(hint) else None


def _type(hint: object) -> str:
    if typing.get_origin(hint) is typing.Literal:
        return " or ".join(f"`{value}`" for value in typing.get_args(hint))
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        return " or ".join(_type(part) for part in typing.get_args(hint))
    if hint is type(None):
        return "null"
    if typing.get_origin(hint) is tuple:
        return f"list of {_type(typing.get_args(hint)[0])}"
    return {"str": "text", "float": "number", "int": "integer", "bool": "true or false"}.get(
        getattr(hint, "__name__", str(hint)), getattr(hint, "__name__", str(hint))
    )


def _default(field: dataclasses.Field[object]) -> str:
    if field.default is not dataclasses.MISSING:
        return f"`{json.dumps(field.default)}`"
    if field.default_factory is not dataclasses.MISSING:
        return f"`{json.dumps(field.default_factory())}`"
    return "required"
