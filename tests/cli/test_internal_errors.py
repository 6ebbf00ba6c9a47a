"""Mistakes of the program met by commands: the file fails by an internal error, the others are
done, and the next run tries again.
"""

import functools
import json
import shutil
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import vidground.inference.engine
from tests.helpers.paths import EXAMPLES
from vidground.cli.main import cli
from vidground.video.isolated_reader import DecoderPool
from vidground.video.video_file import VideoFile

FAULTY = "tests.helpers.faulty_footage"
COMMANDS = {
    "caption": ["caption", "in", "--out", "json"],
    "query": ["query", "in", "--text", "a green triangle"],
    "watch": ["watch", "in", "--out", "json", "--settle", "0", "--idle-exit", "0"],
}


@pytest.fixture(autouse=True)
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with two videos in a folder `in`."""
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    shutil.copy(EXAMPLES / "film_1.mp4", "in/bug.mp4")
    shutil.copy(EXAMPLES / "film_2.mp4", "in/good.mp4")
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments)


def run_command(command: str, *arguments: str) -> Result:
    return run(*COMMANDS[command], "--model", "toy", "-o", "out", *arguments)


def break_decoding(patch: pytest.MonkeyPatch, error: Exception) -> None:
    """Let opening bug.mp4 meet a mistake in this process."""
    measure = VideoFile.measure

    def broken(self: VideoFile) -> Any:
        if Path(self.path).name == "bug.mp4":
            raise error
        return measure(self)

    patch.setattr(VideoFile, "measure", broken)


def break_isolated_decoding(patch: pytest.MonkeyPatch) -> None:
    """Let bug.mp4 meet a mistake in the process that decodes: a ZeroDivisionError."""
    faulty = functools.partial(DecoderPool, opener=f"{FAULTY}:FailingAtOpening")
    patch.setattr(vidground.inference.engine, "DecoderPool", faulty)


def told(result: Result) -> list[str]:
    return [line for line in result.stderr.splitlines() if line.startswith("failed: ")]


def check(result: Result, error: str) -> None:
    """Exit code and messages of a run in which bug.mp4 met a mistake and good.mp4 was done."""
    assert result.exit_code == 1, result.stderr
    (line,) = told(result)
    assert line.startswith(f"failed: 'in/bug.mp4': internal error: {error}")
    assert "damaged" not in result.stderr
    assert "Traceback" not in result.stderr
    assert " empty), 0 skipped, 1 failed (1 by an internal error): in/bug.mp4" in result.stderr


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("isolated", [True, False])
def test_a_mistake_in_decoding_costs_its_video_until_the_next_run(
    monkeypatch: pytest.MonkeyPatch, command: str, isolated: bool
) -> None:
    with monkeypatch.context() as patch:
        if isolated:
            break_isolated_decoding(patch)
            check(
                run_command(command), "ZeroDivisionError: a bug (in vidground.video.decoder_worker"
            )
        else:
            break_decoding(patch, IndexError("list index out of range"))
            check(
                run_command(command, "--no-isolation"),
                "IndexError: list index out of range (in vidground.",
            )
    again = run_command(command)
    assert again.exit_code == 0
    assert len([line for line in again.stderr.splitlines() if line.startswith("done: ")]) == 1
    assert " empty), 1 skipped, 0 failed" in again.stderr


@pytest.mark.parametrize("error", [TypeError("t"), KeyError("k"), ValueError("v")])
def test_programs_can_tell_the_kind_of_failure(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    Path("in/text.mp4").write_text("no video")
    break_decoding(monkeypatch, error)
    arguments = ["--no-isolation", "--log-format", "json", "--summary", "run.json"]
    result = run_command("caption", *arguments)
    lines = [json.loads(line) for line in result.stderr.splitlines()]
    failed = {line["path"]: line for line in lines if line["event"] == "failed"}
    assert failed["in/bug.mp4"]["failure"] == "internal"
    assert "in broken" in failed["in/bug.mp4"]["traceback"]
    assert failed["in/text.mp4"]["failure"] == "input"
    assert "traceback" not in failed["in/text.mp4"]
    assert lines[-1]["internal_errors"] == 1
    summary = json.loads(Path("run.json").read_text())
    assert summary["internal_errors"] == 1
    kinds = {Path(each["path"]).stem: each["failure"] for each in summary["files"]}
    assert kinds == {"bug": "internal", "good": None, "text": "input"}
    assert "in broken" in next(each["traceback"] for each in summary["files"] if each["traceback"])


def test_the_traceback_is_printed_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    break_isolated_decoding(monkeypatch)
    result = run("--traceback", *COMMANDS["caption"], "--model", "toy", "-o", "out")
    assert "Traceback (most recent call last)" in result.stderr
    assert "in _misbehave" in result.stderr
    monkeypatch.setenv("VIDGROUND_TRACEBACK", "1")
    assert "in _misbehave" in run_command("caption").stderr


def broken_for(name: str, function: Callable[..., Any], error: Exception) -> Callable[..., Any]:
    """A function that raises for results on the video of this name."""

    def broken(result: Any, *arguments: Any, **options: Any) -> Any:
        if Path(result.video.path).stem == name:
            raise error
        return function(result, *arguments, **options)

    return broken


def test_a_mistake_in_writing_costs_its_video(monkeypatch: pytest.MonkeyPatch) -> None:
    module = import_module("vidground.cli.running.runner")
    with monkeypatch.context() as patch:
        patch.setattr(module, "render", broken_for("bug", module.render, KeyError("column")))
        check(run_command("caption"), "KeyError: 'column'")
    assert "1 done (0 empty), 1 skipped, 0 failed" in run_command("caption").stderr


def test_a_mistake_costs_a_search_its_video_only(monkeypatch: pytest.MonkeyPatch) -> None:
    break_decoding(monkeypatch, TypeError("no such argument"))
    arguments = ["search", "a green triangle grows", "in", "--model", "toy", "--no-isolation"]
    result = run(*arguments, "--min-score", "0")
    assert result.exit_code == 1
    (line,) = told(result)
    assert line.startswith("failed: 'in/bug.mp4': internal error: TypeError: no such argument")
    assert "in/good.mp4" in result.stdout


def test_a_mistake_costs_a_conversion_its_result_only(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_command("caption").exit_code == 0
    module = import_module("vidground.cli.results.convert")
    monkeypatch.setattr(module, "save", broken_for("bug", module.save, AssertionError()))
    result = run("convert", "out", "--to", "srt", "-o", "subtitles")
    assert result.exit_code == 1
    (line,) = told(result)
    assert line.startswith("failed: 'out/bug.json': internal error: AssertionError (in vidground.")
    assert [path.name for path in Path("subtitles").iterdir()] == ["good.srt"]
