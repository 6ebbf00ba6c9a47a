"""Caption all videos of a folder in one run that may take only so much memory.

Not a test: it takes minutes.

    python -m tests.scripts.run_small_memory VIDEOS --limit 3

The limit holds for the program and the processes that it starts together. Where the system gives
no control group (which takes root), the memory is only measured. Ends with 1 if the run crashed,
if anything was ended for want of memory, or if the limit was passed.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.helpers.process_memory import MemoryGroup, memory_group, tree_bytes

_GIB = 1 << 30


def caption(videos: Path, folder: Path, group: MemoryGroup | None, decoder_gib: float) -> int:
    """Run the program; return the most memory that was seen."""
    command = [sys.executable, "-m", "vidground.cli.main", "caption", str(videos), "--recursive"]
    command += ["--model", "toy", "--device", "cpu", "--offline", "--out", "json,srt"]
    command += ["--keep-suffix", "-o", str(folder / "results"), "--quiet"]
    command += ["--summary", str(folder / "summary.json"), "--memory-limit", str(decoder_gib)]
    command += ["--cache-dir", str(folder / "cache")]
    most = 0
    with subprocess.Popen(command, preexec_fn=None if group is None else group.join) as process:
        while process.poll() is None:
            most = max(most, tree_bytes(process.pid))
            time.sleep(0.2)
    if process.returncode not in (0, 1):
        raise SystemExit(f"the run ended with {process.returncode}")
    return most


def report(folder: Path) -> None:
    """Print what became of every video, the slowest last."""
    files = json.loads((folder / "summary.json").read_text())["files"]
    for file in sorted(files, key=lambda file: file["elapsed_s"]):
        what = file["error"] or f"{file['events']} events"
        print(f"{file['elapsed_s']:7.1f} s  {file['status']:7} {Path(file['path']).name}: {what}")
    done = sum(file["status"] == "done" for file in files)
    print(f"{len(files)} videos, {done} done")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("videos", type=Path)
    parser.add_argument("--limit", type=float, default=3.0, help="GiB, of all processes together")
    parser.add_argument("--decoder", type=float, default=1.0, help="GiB, of the one that decodes")
    options = parser.parse_args()
    limit = int(options.limit * _GIB)
    with tempfile.TemporaryDirectory() as temporary, memory_group(limit) as group:
        folder = Path(temporary)
        begin = time.monotonic()
        most = caption(options.videos, folder, group, options.decoder)
        report(folder)
        kills = 0 if group is None else group.kills
        print(f"limited by {'nothing, only measured' if group is None else 'a control group'}")
        print(f"{time.monotonic() - begin:.0f} s, {most / _GIB:.2f} GiB at most, {kills} killed")
    raise SystemExit(1 if kills or most > limit else 0)


if __name__ == "__main__":
    main()
