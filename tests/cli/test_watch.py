"""Videos that arrive while a folder is watched: a script of what happens, on a clock of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.helpers.result_makers import VIDEO, captions
from tests.helpers.workers import worker_of
from vidground.archive.claims import claim
from vidground.cli.main import cli
from vidground.errors import VideoError
from vidground.results.types import Event
from vidground.storage.files import file_sha256

Script = dict[float, Callable[[], object]]


class Clock:
    """Time that passes only in sleep, during which what the script says for then happens."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.script: Script = {}

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        for at_s in sorted(at_s for at_s in self.script if at_s <= self.now_s):
            self.script.pop(at_s)()


class Model:
    """Stands in for the model; keeps names and contents of the videos it was given."""

    def __init__(self) -> None:
        self.errors: dict[str, Exception] = {}
        self.loads = 0
        self.videos: list[tuple[str, bytes]] = []

    def load(self, *_: Any) -> Callable[..., Any]:
        self.loads += 1
        return worker_of(self.caption)

    def caption(self, job: Any, _: Any) -> Any:
        self.videos.append((job.path.name, job.path.read_bytes()))
        if job.path.name in self.errors:
            raise self.errors[job.path.name]
        video = replace(VIDEO, path=str(job.path), sha256=file_sha256(job.path))
        return replace(captions(Event(0.0, 1.0, "a goal")), video=video)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder "in"; environment variables that a command sets are undone."""
    monkeypatch.chdir(tmp_path)
    for name in ("HF_HUB_OFFLINE", "HF_HUB_DISABLE_PROGRESS_BARS", "TRANSFORMERS_VERBOSITY"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    Path("in").mkdir()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("vidground.cli.watch.time", clock)
    return clock


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Model:
    model = Model()
    monkeypatch.setattr("vidground.cli.caption.load", model.load)
    return model


def put(name: str, content: bytes = b"content", *, mtime_s: int = 1_000_000_000) -> None:
    path = Path("in", name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (mtime_s, mtime_s))


def watch(*arguments: str, command: str = "watch") -> Result:
    limits = ["--settle", "5", "--idle-exit", "20"] if command == "watch" else []
    return CliRunner().invoke(cli, [command, "in", *limits, *arguments])


def results() -> list[str]:
    return sorted(str(path) for path in Path().rglob("*.srt"))


def summary() -> dict[str, Any]:
    told: dict[str, Any] = json.loads(Path("run.json").read_text())
    return told


def test_videos_are_done_once_they_have_stopped_growing(clock: Clock, model: Model) -> None:
    put("a.mp4", b"a")
    clock.script = {
        8.0: lambda: put("b.mp4", b"b"),
        11.0: lambda: put("b.mp4", b"bb"),
        14.0: lambda: put("b.mp4", b"bbb"),
        30.0: lambda: put("deep/c.mp4", b"c"),
    }
    result = watch("--summary", "run.json", "--recursive", "-o", "out")
    assert result.exit_code == 0, result.output
    assert model.videos == [("a.mp4", b"a"), ("b.mp4", b"bbb"), ("c.mp4", b"c")]
    assert results() == ["out/a.srt", "out/b.srt", "out/deep/c.srt"]
    assert (model.loads, summary()["done"]) == (1, 3)
    assert 50 < clock.now_s < 62  # c.mp4 was complete at 35 to 36 s, and 20 s later it ended


def test_what_is_still_being_fetched_is_no_video(clock: Clock, model: Model) -> None:
    for name in ("a.mp4.part", "b.mp4.crdownload", "c.tmp", ".d.mp4", "e.srt"):
        put(name)
    clock.script = {40.0: lambda: Path("in/a.mp4.part").rename("in/a.mp4")}
    result = watch("--idle-exit", "60")
    assert (result.exit_code, model.videos) == (0, [("a.mp4", b"content")])


def test_a_video_that_is_replaced_is_done_again_one_that_is_touched_is_not(
    clock: Clock, model: Model
) -> None:
    put("a.mp4", b"old")
    clock.script = {
        10.0: lambda: put("a.mp4", b"new", mtime_s=1_000_000_300),
        20.0: lambda: put("a.mp4", b"new", mtime_s=1_000_000_500),
    }
    result = watch("--summary", "run.json", "--log-format", "json")
    assert result.exit_code == 0
    assert model.videos == [("a.mp4", b"old"), ("a.mp4", b"new")]
    events = [json.loads(line) for line in result.stderr.splitlines()]
    assert [e["event"] for e in events if e["event"] != "start"] == [
        *("watching", "done", "done", "skipped", "summary")
    ]
    assert events[0]["folders"] == ["in"]
    assert (summary()["skipped"], summary()["done"]) == (1, 0)  # as it was left


def test_a_replacement_of_equal_size_and_time_is_done_again(clock: Clock, model: Model) -> None:
    put("a.mp4", b"old")

    def overwrite() -> None:
        time.sleep(0.05)  # the clock of a file system may count in hundredths of a second
        before = Path("in/a.mp4").stat()
        Path("in/a.mp4").write_bytes(b"new")
        os.utime("in/a.mp4", ns=(before.st_atime_ns, before.st_mtime_ns))

    clock.script = {10.0: overwrite}
    assert watch().exit_code == 0
    assert model.videos == [("a.mp4", b"old"), ("a.mp4", b"new")]


def test_new_subfolders_are_searched_and_excluded_names_left_out(
    clock: Clock, model: Model
) -> None:
    Path("in/proxies").mkdir()
    put("proxies/p.mp4")
    put("a_proxy.mp4")

    def arrive() -> None:
        Path("in/new").mkdir()
        put("new/b.mp4")
        put("new/c.mp4.crdownload")

    clock.script = {10.0: arrive}
    put("a.mp4")
    result = watch("--recursive", "--exclude", "proxies", "--exclude", "*_proxy.mp4")
    assert result.exit_code == 0
    assert [name for name, _ in model.videos] == ["a.mp4", "b.mp4"]


@pytest.mark.usefixtures("clock", "model")
def test_what_is_passed_over_at_the_start_is_said() -> None:
    Path("in/below").mkdir()
    put("below/b.mp4")
    put("notes.xyz")
    put("a.mp4")
    result = watch()
    assert "1 file with other suffixes (.xyz 1) passed over" in result.stderr
    assert "1 video in subfolders passed over (see --recursive)" in result.stderr


@pytest.mark.usefixtures("clock")
def test_it_goes_on_where_caption_has_ended_and_the_other_way_round(model: Model) -> None:
    put("a.mp4")
    assert watch(command="caption").exit_code == 0
    put("b.mp4")
    result = watch()
    assert result.exit_code == 0
    assert "skipped: in/a.mp4" in result.stderr
    assert [name for name, _ in model.videos] == ["a.mp4", "b.mp4"]
    assert "2 skipped" in watch(command="caption").stderr
    assert model.loads == 2
    watch()
    assert model.loads == 2  # with an end in sight the model is loaded for work alone


def test_a_failure_is_told_once_and_tried_again_when_the_file_changes(
    clock: Clock, model: Model
) -> None:
    put("a.mp4")
    model.errors["a.mp4"] = VideoError("'in/a.mp4': damaged")
    result = watch("--summary", "run.json")
    assert result.exit_code == 1
    assert result.stderr.count("failed: 'in/a.mp4': damaged") == 1
    assert (len(model.videos), summary()["failed_paths"]) == (1, ["in/a.mp4"])

    def mend() -> None:
        model.errors.clear()
        put("a.mp4", b"mended")

    clock.script = {clock.now_s + 10: mend}
    result = watch("--summary", "run.json")
    assert result.exit_code == 0  # what counts is how the video was left
    assert "(failed before; --retry-failed tries again)" in result.stderr
    assert model.videos[1:] == [("a.mp4", b"mended")]
    assert (summary()["done"], summary()["failed"]) == (1, 0)


@pytest.mark.usefixtures("clock")
def test_a_file_that_changes_while_it_is_read_is_done_when_it_is_complete(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    put("a.mp4", b"half")
    read = model.caption

    def grow(job: Any, on_progress: Any) -> Any:
        made = read(job, on_progress)
        if len(model.videos) == 1:
            put("a.mp4", b"complete")
        return made

    monkeypatch.setattr(model, "caption", grow)
    result = watch()
    assert result.exit_code == 0, result.output
    assert "was changed while it was read" in result.stderr
    assert model.videos == [("a.mp4", b"half"), ("a.mp4", b"complete")]
    assert results() == ["in/a.srt"]


def test_a_video_that_another_run_is_at_holds_up_no_other(clock: Clock, model: Model) -> None:
    put("a.mp4")
    put("b.mp4")
    with ExitStack() as other:
        assert other.enter_context(claim("in", "a"))
        clock.script = {30.0: lambda: put("c.mp4"), 60.0: other.close}
        result = watch("--log-format", "json")
    assert result.exit_code == 0, result.output
    assert [name for name, _ in model.videos] == ["b.mp4", "c.mp4", "a.mp4"]
    events = [json.loads(line) for line in result.stderr.splitlines()]
    told = [e["event"] for e in events if e.get("path") == "in/a.mp4"]
    assert told == ["start", "waiting", "done"]


def test_two_videos_of_one_result_do_not_take_its_place_in_turn(clock: Clock, model: Model) -> None:
    put("a.mp4")
    clock.script = {10.0: lambda: put("a.mkv")}
    result = watch("--overwrite", "--summary", "run.json")
    assert (result.exit_code, summary()["failed_paths"]) == (1, ["in/a.mkv"])
    assert "would both write 'in/a.srt'" in result.stderr
    assert model.videos == [("a.mp4", b"content")]

    def exchange() -> None:
        Path("in/a.mp4").unlink()
        put("a.mkv", b"other")

    clock.script = {clock.now_s + 10: exchange}
    assert watch("--overwrite").exit_code == 1  # for a.mkv was in the way when it came
    assert model.videos[-1] == ("a.mkv", b"other")


def test_too_many_failures_end_it(clock: Clock, model: Model) -> None:
    for name in ("a.mp4", "b.mp4", "d.mp4"):
        put(name)
    model.errors = {name: VideoError("damaged") for name in ("a.mp4", "c.mp4", "d.mp4")}
    clock.script = {10.0: lambda: put("c.mp4"), 20.0: lambda: put("e.mp4")}
    result = watch("--max-failures", "3")
    assert result.exit_code == 1
    assert [name for name, _ in model.videos] == ["a.mp4", "b.mp4", "d.mp4", "c.mp4"]
    assert result.stderr.splitlines()[-1].startswith("stopped, too many failures: 1 done")


def test_a_folder_that_goes_away_is_missed_until_it_is_back(clock: Clock, model: Model) -> None:
    put("a.mp4")
    clock.script = {
        10.0: lambda: Path("in").rename("away"),
        20.0: lambda: Path("away").rename("in"),
        30.0: lambda: put("b.mp4"),
    }
    result = watch("-o", "out")
    assert result.exit_code == 0, result.output
    assert result.stderr.count("failed: 'in': no such file") == 1
    assert [name for name, _ in model.videos] == ["a.mp4", "b.mp4"]
    clock.script = {clock.now_s + 10.0: lambda: Path("in").rename("away")}
    assert watch("-o", "out").exit_code == 1


@pytest.mark.usefixtures("model")
def test_ctrl_c_ends_it_with_what_was_done_and_what_was_not(clock: Clock) -> None:
    put("a.mp4")

    def interrupt() -> None:
        put("b.mp4")
        raise KeyboardInterrupt

    clock.script = {60.0: lambda: put("c.mp4"), 62.0: interrupt}
    result = CliRunner().invoke(cli, ["watch", "in", "--settle", "5", "--summary", "run.json"])
    assert result.exit_code == 130
    told = summary()
    assert (told["done"], told["unfinished"], told["interrupted"]) == (1, 1, True)
    assert result.stderr.splitlines()[-1].startswith("interrupted: 1 done (0 empty)")


def test_without_an_end_in_sight_the_model_is_loaded_at_once(clock: Clock, model: Model) -> None:
    def interrupt() -> None:
        assert model.loads == 1
        raise KeyboardInterrupt

    clock.script = {1.0: interrupt}
    assert CliRunner().invoke(cli, ["watch", "in"]).exit_code == 130


@pytest.mark.usefixtures("model")
def test_lines_on_standard_output_say_which_video_they_are_about(clock: Clock) -> None:
    put("a.mp4")
    clock.script = {10.0: lambda: put("b.mp4"), 20.0: lambda: put("a.mp4", b"other")}
    result = watch("-o", "-", "--out", "jsonl")
    assert result.exit_code == 0
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["video"] for line in lines] == ["in/a.mp4", "in/b.mp4", "in/a.mp4"]
    result = watch("-o", "-")
    assert result.exit_code == 2
    assert "--out json or jsonl" in result.stderr


@pytest.mark.parametrize(
    "arguments", [["in", "--dry-run"], ["in", "--from-file", "list"], ["gone"], []]
)
def test_what_makes_no_sense_here_is_wrong_usage(arguments: list[str]) -> None:
    Path("list").touch()
    assert CliRunner().invoke(cli, ["watch", *arguments]).exit_code == 2


@pytest.mark.usefixtures("signals_arrive")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_program(number: signal.Signals, code: int) -> None:
    script = (
        "from vidground.cli import caption\n"
        "from vidground.cli.main import main\n"
        "caption.load = lambda *_: None\n"
        "main(['watch', 'in', '--log-format', 'json', '--summary', 'run.json'])\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert json.loads(process.stderr.readline())["event"] == "watching"
        process.send_signal(number)
        try:
            _, told = process.communicate(timeout=50)
        finally:
            process.kill()  # leaving the block waits for its end
    assert process.returncode == code
    assert json.loads(told.splitlines()[-1])["interrupted"] is True
    assert summary()["interrupted"] is True


def test_ctrl_c_during_the_work_ends_it_too(clock: Clock, model: Model) -> None:
    put("a.mp4")
    put("b.mp4")
    model.errors["b.mp4"] = KeyboardInterrupt()  # type: ignore[assignment]
    result = watch("--summary", "run.json")
    assert (result.exit_code, clock.now_s < 10) == (130, True)
    assert (summary()["done"], summary()["unfinished"]) == (1, 1)
