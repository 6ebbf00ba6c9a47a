"""Pages that are generated, so that they cannot go stale: commands, training keys, the schema."""

from __future__ import annotations

import json
from collections.abc import Iterator

import click
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
    from vidground.training.config_keys import LOSSES, ConfigSection, config_sections, sections_of

    parts = [
        "# Training configuration\n\nEvery key of the YAML files that `vidground train sft|fpo "
        "--config` reads, and that `--set KEY=VALUE` sets. Generated from the classes that check "
        "them.\n"
    ]
    common = [s for s in config_sections("sft") if s.name.partition(".")[0] != "loss"]
    losses: list[tuple[ConfigSection, str]] = [
        (section, f" with objective {objective}")
        for objective, kind in LOSSES.items()
        for section in sections_of(kind, "loss")
    ]
    for section, note in [*((section, "") for section in common), *losses]:
        title = f"`{section.name}`" if section.name else "Top level"
        parts.append(f"\n## {title}{note}\n\n{section.summary}\n")
        parts.append("| key | type | default | meaning |\n|---|---|---|---|")
        for key in section.keys:
            meaning = key.meaning.replace("|", "\\|")
            parts.append(f"| `{key.name}` | {key.kind} | `{key.default}` | {meaning} |")
    return "\n".join(parts)
