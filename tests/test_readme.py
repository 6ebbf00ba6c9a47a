"""What the README says works as it stands there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT

pytestmark = pytest.mark.smoke

README = (ROOT / "README.md").read_text(encoding="utf-8")


def example(name: str) -> str:
    """The code block behind the marker `<!-- name -->`."""
    match = re.search(rf"<!-- {name} -->\n```\w+\n(.*?)```", README, flags=re.DOTALL)
    assert match, name
    return match[1]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the examples, in which nothing else lies."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_python_example_runs(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(example("example: sdk"), "README.md", "exec"), {})
    printed = capsys.readouterr().out
    assert printed.startswith(("True (Moment(start_s=", "False ()"))
    assert " - " in printed.splitlines()[2]  # an event's times
    assert (place / "film_2.srt").stat().st_size > 0


@pytest.mark.parametrize("command", example("example: cli").splitlines())
def test_the_command_line_examples_run(place: Path, command: str) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path}
    result = subprocess.run(
        command, shell=True, cwd=place, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


def test_the_run_command_uses_a_command_line_that_is_tested() -> None:
    assert ".venv/bin/vidground caption examples --model toy" in example("run command")
    assert "vidground caption examples --model toy" in example("example: cli")


def test_the_file_tree_names_every_package_and_nothing_else() -> None:
    tree = README.split("## Layout")[1].split("```")[1]
    named = {name for name in re.findall(r"(\w+)/", tree) if (ROOT / "vidground" / name).is_dir()}
    assert named == {path.parent.name for path in (ROOT / "vidground").glob("*/__init__.py")}


def test_the_table_of_commands_names_every_command_and_nothing_else() -> None:
    from vidground.cli.main import COMMANDS

    rows = re.findall(
        r"^\| (`.+?) \|", README.split("| command |")[1].split("\n\n")[0], re.MULTILINE
    )
    named = [name.split()[0] for row in rows for name in re.findall(r"`(.+?)`", row)]
    assert sorted(named) == sorted(COMMANDS)
