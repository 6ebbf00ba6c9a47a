"""Kill the real program again and again, run it twice at once, let its disk run full; then compare.

Not a test: it starts the program a hundred times and takes many minutes.

    python -m tests.scripts.run_kill_test FOLDER
    python -m tests.scripts.run_kill_test FOLDER --videos 4

FOLDER must be new. It gets 60 small videos, what an undisturbed run makes of them, and what is
left after 100 kills (`kill -9`) at random instants, after two runs at once, and after a run on a
full disk. With one video in flight a kill may cost the work on one, and all results are equal to
the byte; with more it may cost as many, and scores are equal but for rounding. The last part mounts
a small tmpfs, so it is left out unless it is run by root.
"""

import argparse
import json
import os
import random
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from statistics import median

from tests.helpers.video_files import make_video

FORMATS = "srt,vtt,json"
PROGRAM = "from vidground.cli.main import main; main()"


def make_videos(folder: Path, count: int) -> None:
    folder.mkdir(parents=True)
    for index in range(count):
        make_video(folder / f"{index:02d}.mp4", frames=20 + index, fps=10)


def start(folder: Path, out: Path, log: Path, videos: int) -> "subprocess.Popen[bytes]":
    """The real program; its log tells what was done. Each part of the test has a cache of its own,
    so that no part finds the work of another."""
    arguments = ["caption", str(folder / "in"), "--model", "toy", "--device", "cpu", "--offline"]
    arguments += ["--out", FORMATS, "-o", str(out), "--log-format", "json"]
    arguments += ["--cache-dir", str(folder / f"cache-{log.name.partition('.')[0]}")]
    arguments += ["--videos", str(videos)]
    with log.open("wb") as stream:
        return subprocess.Popen([sys.executable, "-c", PROGRAM, *arguments], stderr=stream)


def results(out: Path) -> dict[str, bytes]:
    """All files but the record and the locks; leftovers of killed runs included."""
    ours = (".vidground.sqlite3", ".vidground.sqlite3-journal", ".vidground.lock")
    return {path.name: path.read_bytes() for path in out.iterdir() if path.name not in ours}


def worked_on(log: Path) -> list[str]:
    """The videos that a run gave to the model, as far as it is told; those that it was at when it
    was killed count too."""
    worked, current = list[str](), set[str]()
    for line in log.read_bytes().split(b"\n"):
        try:
            event = json.loads(line)
        except ValueError:
            continue  # the last line of a killed run
        if event["event"] == "start":
            current.add(event["path"])
        elif event["event"] in ("done", "skipped", "failed", "waiting"):
            if event["event"] == "done" and "stored result" not in event["reason"]:
                worked.append(event["path"])
            current.discard(event["path"])
    return worked + sorted(current)


def equal(found: dict[str, bytes], expected: dict[str, bytes], videos: int) -> bool:
    """Whether all files are there and the same, to the byte for one video at a time. Scores in JSON
    depend in their last digits on what shared a batch."""
    return found.keys() == expected.keys() and all(
        found[name] == content
        or (
            videos > 1
            and name.endswith(".json")
            and _alike(json.loads(found[name]), json.loads(content))
        )
        for name, content in expected.items()
    )


def _alike(one: object, other: object) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_alike(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_alike, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) <= 1e-5
    return one == other


def check(name: str, condition: bool) -> None:
    print(("ok:     " if condition else "FAILED: ") + name, flush=True)
    if not condition:
        sys.exit(1)


def check_record(out: Path) -> None:
    with closing(sqlite3.connect(out / ".vidground.sqlite3")) as database:
        answer = database.execute("PRAGMA integrity_check").fetchone()
    check("the record is whole", answer == ("ok",))


def events(log: Path, name: str) -> int:
    """How often a run has told of something so far."""
    return log.read_bytes().count(f'"event": "{name}"'.encode())


def time_per_video(log: Path) -> float:
    """Median over a run, in seconds: how long that is depends on what else the machine does."""
    lines = map(json.loads, log.read_text().splitlines())
    return median(line["elapsed_s"] for line in lines if line["event"] == "done")


def kill_again_and_again(
    folder: Path, expected: dict[str, bytes], videos: int, *, kills: int, seed: int
) -> None:
    out, instants = folder / "killed", random.Random(seed)
    video_s = time_per_video(folder / "undisturbed.log")
    worked: Counter[str] = Counter()
    killed = at_work = 0
    log = folder / "kill.log"
    while killed < kills:
        process = start(folder, out, log, videos)
        if instants.random() < 0.8:  # once it is at work; else at any time, loading included
            awaited = instants.choice(("start", "done"))
            while process.poll() is None and not events(log, awaited):
                time.sleep(0.005)
            time.sleep(instants.uniform(0, 2 * video_s))
        else:
            time.sleep(instants.uniform(0, 6))
        at_work += process.poll() is None and events(log, "start") > 0
        process.kill()
        killed += process.wait() == -9
        worked.update(worked_on(log))
        if killed % 10 == 0:
            print(f"{killed} kills, {at_work} at work, {len(worked)} videos begun", flush=True)
    check("a last run ends well", start(folder, out, log, videos).wait() == 0)
    worked.update(worked_on(log))
    check(
        "every result is there, once, and equal; nothing else is",
        equal(results(out), expected, videos),
    )
    twice = worked.total() - len(worked)
    print(f"{killed} kills, {at_work} of them at work; {twice} videos given to the model again")
    check(f"at most {videos} of them per kill", twice <= videos * killed)
    check_record(out)


def run_twice_at_once(folder: Path, expected: dict[str, bytes], videos: int) -> None:
    out, logs = folder / "twice", [folder / "twice.1.log", folder / "twice.2.log"]
    processes = [start(folder, out, log, videos) for log in logs]
    check("both runs end well", [process.wait() for process in processes] == [0, 0])
    check("every result is there and equal", equal(results(out), expected, videos))
    done = [worked_on(log) for log in logs]
    print(f"{len(done[0])} and {len(done[1])} videos")
    check("no video is done twice", len(set(done[0] + done[1])) == len(done[0]) + len(done[1]))
    check_record(out)


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    subprocess.run(mount, check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def run_on_a_full_disk(folder: Path, expected: dict[str, bytes], videos: int) -> None:
    log = folder / "full.log"
    pages = sum(-(-len(content) // 4096) for content in expected.values())
    with small_disk(folder / "full", f"{4 * (pages // 2)}k") as disk:
        check("a run on a full disk fails", start(folder, disk / "out", log, videos).wait() == 1)
        text = log.read_text()
        check("and says so", "the disk is full" in text)
        made = results(disk / "out")
        print(f"{len(made)} of {len(expected)} results fitted")
        fitted = {name: expected[name] for name in made if name in expected}
        check("what is there is whole", equal(made, fitted, videos) and len(made) > 0)
        check_record(disk / "out")
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        code = start(folder, disk / "out", log, videos).wait()
        check("with space again, the next run ends well", code == 0)
        check("every result is there and equal", equal(results(disk / "out"), expected, videos))
        check_record(disk / "out")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--files", type=int, default=60)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--videos", type=int, default=1, help="In flight at once.")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    folder, videos = options.folder, options.videos
    make_videos(folder / "in", options.files)
    log = folder / "undisturbed.log"
    check(
        "an undisturbed run ends well", start(folder, folder / "expected", log, videos).wait() == 0
    )
    expected = results(folder / "expected")
    check("it makes all results", len(expected) == options.files * len(FORMATS.split(",")))
    kill_again_and_again(folder, expected, videos, kills=options.kills, seed=options.seed)
    run_twice_at_once(folder, expected, videos)
    if os.geteuid() == 0:
        run_on_a_full_disk(folder, expected, videos)
    else:
        print("left out: a full disk, which needs root")


if __name__ == "__main__":
    main()
