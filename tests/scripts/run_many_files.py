"""Caption a thousand small videos with the real program at a terminal; look at memory and speed.

Not a test: it takes minutes.

    python -m tests.scripts.run_many_files FOLDER --count 1000

FOLDER must be new. Says how much memory all processes take as files are done, what the terminal
shows of progress and of the time that is left, and what a file costs: with the toy model, without
any work (a second run), with one more format, and the bookkeeping alone. Ends with 1 if memory
grows by more than --growth between the first hundred files and the last.
"""

import argparse
import os
import pty
import re
import resource
import subprocess
import sys
import termios
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Thread

from tests.helpers.process_memory import tree_bytes
from tests.helpers.result_makers import VIDEO, captions
from tests.helpers.video_files import make_video
from tests.helpers.workers import worker_of
from vidground.archive.inputs import find_videos
from vidground.archive.outputs import Job, plan_outputs
from vidground.archive.run import run_archive
from vidground.results.documents import Result
from vidground.results.types import Event
from vidground.storage.files import file_sha256

_MIB = 1 << 20
_SETTLED = 100  # files after which memory is not to grow any more
_FILES = re.compile(r"(\d+)/\d+ files")
_LEFT = re.compile(r"about ([^]]+) left")


@dataclass
class Terminal:
    """What a run shows: files done by now, and each estimate with the files done at its time."""

    done: int
    estimates: list[tuple[int, str]]
    last_line: str

    def read(self, end: int) -> None:
        """Follow what is written to a terminal, until nobody has it open any more."""
        while True:
            try:
                text = os.read(end, 1 << 16).decode(errors="replace")
            except OSError:  # Linux says so when the other side is closed
                return
            for part in filter(None, re.split(r"[\r\n]+", text)):
                if found := _FILES.search(part):
                    self.done = int(found[1])
                if found := _LEFT.search(part):
                    self.estimates.append((self.done, found[1]))
                if " done (" in part:
                    self.last_line = part


def run_at_terminal(arguments: Sequence[str]) -> tuple[Terminal, list[tuple[int, int]]]:
    """Run the program; return what it showed, and memory by files done."""
    command = [sys.executable, "-m", "vidground.cli.main", *arguments]
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 100))  # bars are as wide as the terminal
    terminal = Terminal(0, [], "")
    memory: list[tuple[int, int]] = []
    with subprocess.Popen(command, stderr=theirs) as process:
        os.close(theirs)
        reader = Thread(target=terminal.read, args=(ours,))
        reader.start()
        while process.poll() is None:
            memory.append((terminal.done, tree_bytes(process.pid)))
            time.sleep(0.25)
        reader.join()
    os.close(ours)
    if process.returncode:
        raise SystemExit(f"the run ended with {process.returncode}: {terminal.last_line}")
    return terminal, memory


def timed_run(name: str, arguments: Sequence[str], count: int) -> list[tuple[int, int]]:
    """Run the program and print what a file cost, the start of the program included."""
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    terminal, memory = run_at_terminal(arguments)
    wall_s, after = time.monotonic() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"{name}: {wall_s:.1f} s, CPU {cpu_s:.1f} s; a file: {wall_s / count:.4f} s, ", end="")
    print(f"CPU {cpu_s / count:.4f} s\n  {terminal.last_line}")
    shown = terminal.estimates[:: max(1, len(terminal.estimates) // 6)]
    print(f"  left, by files done: {', '.join(f'{done}: {left}' for done, left in shown)}")
    return memory


def bookkeeping(folder: Path, count: int) -> None:
    """Print what a file costs if the work itself costs nothing but reading it once."""

    def work(job: Job, _: object) -> Result:
        video = replace(VIDEO, path=str(job.path), sha256=file_sha256(job.path))
        return replace(captions(Event(0.0, 1.0, "nothing")), video=video)

    jobs = plan_outputs(find_videos([folder / "in"]).videos, ["srt"], folder=folder / "books")
    begin, cpu = time.monotonic(), time.process_time()
    summary = run_archive(jobs, worker_of(work))
    wall_s, cpu_s = time.monotonic() - begin, time.process_time() - cpu
    if summary.done != count:
        raise SystemExit(f"only {summary.done} of {count} files were done")
    print(f"the bookkeeping alone: a file: {wall_s / count:.4f} s, CPU {cpu_s / count:.4f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--growth", type=float, default=32.0, help="MiB")
    options = parser.parse_args()
    folder, count = options.folder, options.count
    (folder / "in").mkdir(parents=True)
    for index in range(count):
        make_video(folder / "in" / f"{index:04d}.mp4", frames=15 + index % 10, fps=5, size=(64, 64))
    caption = ["caption", str(folder / "in"), "--model", "toy", "--device", "cpu", "--offline"]
    caption += ["-o", str(folder / "out"), "--cache-dir", str(folder / "cache")]
    memory = timed_run("captioned", caption, count)
    early = max(size for done, size in memory if done <= _SETTLED)
    late = max(size for _, size in memory)
    print(f"memory: {early / _MIB:.0f} MiB at most until {_SETTLED} files are done, ", end="")
    print(f"{late / _MIB:.0f} MiB at most until {memory[-1][0]}")
    timed_run("run again, nothing to do", caption, count)
    timed_run("one more format", [*caption, "--out", "srt,vtt"], count)
    bookkeeping(folder, count)
    raise SystemExit(1 if late - early > options.growth * _MIB or memory[-1][0] < count else 0)


if __name__ == "__main__":
    main()
