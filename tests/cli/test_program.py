"""The program as a whole: help, signals, pipes, and runs with a tiny model."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import av
import numpy as np
import pytest
from click.testing import CliRunner

from tests.helpers.paths import ROOT
from tests.helpers.tokenizer_files import released_checkpoint
from vidground import __version__
from vidground.cli.main import COMMANDS, cli

pytestmark = pytest.mark.smoke


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty current folder; environment variables that a command sets are undone."""
    monkeypatch.chdir(tmp_path)
    for name in ("HF_HUB_OFFLINE", "HF_HUB_DISABLE_PROGRESS_BARS", "TRANSFORMERS_VERBOSITY"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(cli, arguments)


def files():
    """All files but the record of results."""
    paths = [path for path in Path().rglob("*") if path.is_file()]
    return sorted(str(path) for path in paths if not path.name.startswith(".vidground."))


def test_every_command_is_there_under_its_name():
    for name in COMMANDS:
        command = cli.get_command(None, name)
        assert command is not None
        assert command.name == name
        assert name in run("--help").stdout
        assert run(name, "--help").exit_code == 0


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["caption", "--help"], ["query", "--help"]]
)
def test_help_needs_nothing_heavy(arguments):
    code = textwrap.dedent("""
        import sys
        from vidground.cli.main import cli
        cli.main(sys.argv[1:], standalone_mode=False)
        heavy = {"torch", "transformers", "av", "huggingface_hub", "numpy"}
        sys.exit(f"loaded: {heavy & set(sys.modules)}" if heavy & set(sys.modules) else 0)
    """)
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert (
        result.stdout.startswith("Usage:") or result.stdout == f"vidground, version {__version__}\n"
    )


def test_an_error_is_one_line_without_a_traceback():
    Path("full").mkdir()
    Path("full/a\nb").touch()
    result = run("convert-model", "source", "full")
    assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)
    assert result.stderr.startswith("error: full is not empty")
    Path("a.mp4").touch()
    result = run("caption", "a.mp4", "--summary", "a.mp4/run.json")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: 'a.mp4/run.json': cannot be written")


def test_ctrl_c_at_any_moment_gives_its_exit_code(monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("vidground.cli.running.batch.find_videos", interrupt)
    result = run("caption", "a.mp4")
    assert (result.exit_code, result.stderr) == (130, "interrupted\n")


PRELUDE = """
import time
import vidground.cli.caption as command
from tests.helpers.result_makers import TWO
from tests.helpers.workers import worker_of
from vidground.cli.main import main
from vidground.storage.atomic import atomic_path
"""

SLOW_WORK = """
def work(job, on_progress):
    with atomic_path("half.srt") as path:
        path.write_text("half a result")
        print("working", flush=True)
        for _ in range(600):  # a signal just before a sleep is heard of after it
            time.sleep(0.1)
command.load = lambda *_: worker_of(work)
main(["caption", "a.mp4", "b.mp4", "--summary", "run.json"])
"""

QUICK_WORK = """
command.load = lambda *_: worker_of(lambda *_: TWO)
main(["caption", "a.mp4", "-o", "-"])
"""


def program(code, stdout):
    """A process in which `code` stands in for the model and runs the program."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", PRELUDE + code],
        env=environment,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.usefixtures("signals_arrive")
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_leaves_no_partial_file(number, code):
    Path("a.mp4").write_bytes(b"content")
    Path("b.mp4").write_bytes(b"content")
    with program(SLOW_WORK, subprocess.PIPE) as process:
        assert process.stdout.readline() == "working\n"
        assert len(list(Path().glob(".vidground-*"))) == 1
        process.send_signal(number)
        try:
            _, stderr = process.communicate(timeout=50)
        finally:
            process.kill()  # leaving the block waits for its end
    assert process.returncode == code
    expected = "interrupted: 0 done (0 empty), 0 skipped, 0 failed, 2 not finished"
    assert stderr.splitlines()[-1] == expected
    assert files() == ["a.mp4", "b.mp4", "run.json"]  # and no temporary file
    assert json.loads(Path("run.json").read_text())["interrupted"] is True


def test_a_reader_that_has_seen_enough_ends_the_run():
    Path("a.mp4").write_bytes(b"content")
    reading, writing = os.pipe()
    os.close(reading)
    with program(QUICK_WORK, writing) as process:
        os.close(writing)
        _, stderr = process.communicate(timeout=50)
    assert (process.returncode, stderr) == (1, "")


def make_video(path, seconds=3):
    with av.open(str(path), "w") as file:
        stream = file.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index in range(seconds * 5):
            image = np.full((48, 64, 3), index * 10 % 256, dtype=np.uint8)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        file.mux(stream.encode())


def closed(numbers, *arguments):
    """Run the program with these standard streams closed."""
    program = f"""
        import os
        for number in {numbers}:
            os.close(number)
        os.execv({sys.executable!r}, {[sys.executable, "-m", "vidground.cli.main", *arguments]!r})
    """
    done = [sys.executable, "-c", textwrap.dedent(program)]
    return subprocess.run(done, capture_output=True, text=True, check=False)


def test_a_run_needs_no_standard_streams():
    make_video("tv.mp4")
    assert closed([0, 1, 2], "caption", "tv.mp4", "--model", "toy").returncode == 0
    assert files() == ["tv.mp4", "tv.srt"]


def test_no_file_gets_the_number_of_a_closed_stream():
    program = """
        import os
        for number in range(3):
            os.close(number)
        from vidground.cli.running.standard_streams import occupy_standard_streams
        occupy_standard_streams()
        inherited = all(os.get_inheritable(number) for number in range(3))
        raise SystemExit(os.open(os.devnull, os.O_RDONLY) if inherited else 1)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=False)
    assert done.returncode > 2


def test_results_cannot_go_to_a_closed_stream():
    make_video("tv.mp4")
    done = closed([1], "caption", "tv.mp4", "--model", "toy", "--out", "json", "-o", "-")
    assert done.returncode == 2
    assert "-o - needs standard output, which is closed; name a folder." in done.stderr


def test_a_run_with_a_model_and_videos():
    released_checkpoint(Path("model"))
    make_video("tv.mp4")
    Path("broken.mp4").write_text("no video")
    os.mkfifo("pipe.mp4")
    options = ["--model", "model", "--device", "cpu", "--max-new-tokens", "12", "--offline"]
    result = run("caption", ".", "--out", "srt,json", *options)
    assert result.exit_code == 1
    counts = result.stderr.splitlines()[-1]
    assert " 0 skipped, 2 failed: " in counts
    assert "broken.mp4" in counts  # in whatever order they have ended
    assert "pipe.mp4" in counts
    document = json.loads(Path("tv.json").read_text())
    assert document["video"]["duration_s"] == 3.0
    assert Path("tv.srt").read_text().count("-->") == len(document["events"])
    first = Path("tv.json").read_bytes()
    assert run("caption", "tv.mp4", "--out", "json", "--overwrite", *options).exit_code == 0
    assert Path("tv.json").read_bytes() == first

    result = run("query", "tv.mp4", "--text", "a dog", "--text", "a cat", *options)
    assert result.exit_code == 0
    answers = json.loads(Path("tv.query.json").read_text())["results"]
    assert [answer["query"] for answer in answers] == ["a dog", "a cat"]
    assert [len(answer["relevance"]["values"]) for answer in answers] == [3, 3]


def test_the_package_runs_as_a_program():
    done = subprocess.run(
        [sys.executable, "-m", "vidground", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"vidground, version {__version__}\n"
