"""The options for decoding in a process of its own reach the SDK."""

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import vidground.captioner
import vidground.grounder
from vidground import IsolationSettings, VidgroundError
from vidground.cli.main import cli

SDK = {
    "caption": (vidground.captioner, "DenseCaptioner"),
    "query": (vidground.grounder, "Grounder"),
}


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Any]:
    """The `isolation`, or the place to decode on, that a command has loaded a model with."""
    given: list[Any] = []

    def load(*_: object, isolation: IsolationSettings | None, decode_on: str, **__: object) -> None:
        given.append(isolation if decode_on == "cpu" else decode_on)
        raise VidgroundError("no further")

    for module, name in SDK.values():
        monkeypatch.setattr(module, name, load)
    monkeypatch.chdir(tmp_path)
    Path("a.mp4").write_bytes(b"content")
    return given


def run(command: str, *arguments: str) -> Result:
    text = ["--text", "a goal"] if command == "query" else []
    return CliRunner().invoke(cli, [command, "a.mp4", "--model", "toy", *text, *arguments])


@pytest.mark.parametrize("command", SDK)
@pytest.mark.parametrize(
    ("arguments", "isolation"),
    [
        ([], IsolationSettings()),
        (["--timeout", "7.5"], IsolationSettings(timeout_s=7.5)),
        (["--memory-limit", "2"], IsolationSettings(memory_gib=2.0)),
        (["--no-isolation"], None),
    ],
)
def test_the_limits_reach_the_model(
    loaded: list[Any], command: str, arguments: list[str], isolation: IsolationSettings | None
) -> None:
    assert run(command, *arguments).exit_code == 1
    assert loaded == [isolation]


@pytest.mark.parametrize("command", [*SDK, "watch", "search"])
@pytest.mark.parametrize("place", ["auto", "cuda", "cuda:1"])
def test_the_place_to_decode_on_reaches_the_model(
    loaded: list[Any], command: str, place: str
) -> None:
    arguments = {
        "caption": ["caption", "a.mp4", "--model", "toy"],
        "query": ["query", "a.mp4", "--model", "toy", "--text", "a goal"],
        "watch": ["watch", ".", "--model", "toy", "--idle-exit", "0", "--settle", "0"],
        "search": ["search", "a goal", ".", "--model", "toy"],
    }[command]
    CliRunner().invoke(cli, [*arguments, "--decode-on", place])
    assert loaded == [place]


def test_other_places_are_refused(loaded: list[Any]) -> None:
    result = run("caption", "--decode-on", "gpu")
    assert result.exit_code == 2
    assert "decode_on is 'gpu'; it must be 'cpu'" in " ".join(result.stderr.split())
    searched = CliRunner().invoke(cli, ["search", "a goal", ".", "--decode-on", "auto"])
    assert searched.exit_code == 2
    assert "--decode-on, --isolation" in " ".join(searched.stderr.split())
    assert loaded == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--no-isolation", "--timeout", "9"], "which --no-isolation does not start"),
        (["--no-isolation", "--memory-limit", "9"], "which --no-isolation does not start"),
        (["--timeout", "0"], "timeout is 0.0; it must be above 0"),
        (["--memory-limit", "0.01"], "memory limit is 0.01; it must be 0.1"),
    ],
)
def test_limits_without_effect_or_sense_are_refused(
    loaded: list[Any], arguments: list[str], told: str
) -> None:
    result = run("caption", *arguments)
    assert result.exit_code == 2
    assert told in " ".join(result.stderr.split())
    assert loaded == []
