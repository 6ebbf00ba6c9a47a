"""Commands in the documentation name commands and options that exist; links lead somewhere."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from tests.helpers.paths import ROOT
from vidground.cli.main import cli

PAGES = sorted([*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md")])
GENERATED = {"cli.md", "training-config.md", "result.schema.json"}


def commands(page: Path) -> Iterator[str]:
    """Every `vidground …` line in the shell blocks of a page, continued lines joined."""
    for block in re.findall(r"```(?:bash|sh)\n(.*?)```", page.read_text(), re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            if match := re.match(r"(?:\.venv/bin/)?vidground ([^#|]*)", line.strip()):
                yield match[1]


def problems(line: str) -> list[str]:
    """What of a command line does not exist."""
    words, command, context = shlex.split(line), cli, click.Context(cli, info_name="vidground")
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        inner = command.get_command(context, words[0])
        if inner is None:
            return [words[0]]
        context, command, words = click.Context(inner, parent=context), inner, words[1:]
    known = {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
    known |= {"-h", "--help", "--version"}
    return [w for w in words if re.match(r"-[a-z-]", w) and w.partition("=")[0] not in known]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_and_options_exist(page: Path) -> None:
    assert {line: found for line in commands(page) if (found := problems(line))} == {}


def test_wrong_commands_are_noticed() -> None:
    assert problems("caption a.mp4 --no-such-option") == ["--no-such-option"]
    assert problems("data nothing") == ["nothing"]
    assert problems("caption a.mp4 --out srt -o -") == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_to_files_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#:\s]+)(?:#[\w-]+)?\)", page.read_text())
    missing = [t for t in targets if not (page.parent / t).exists()]
    assert [t for t in missing if Path(t).name not in GENERATED] == []


def test_files_named_in_contributing_exist() -> None:
    rows = re.findall(r"^\| .+? \| (.+) \|$", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    named = {
        name for row in rows for name in re.findall(r"`((?:vidground|cli|training)/[\w./]+)`", row)
    }
    assert len(named) >= 20
    assert {name for name in named if not (ROOT / name).exists()} == set()
