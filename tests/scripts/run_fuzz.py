"""Damage real videos in many ways and see that a run over them survives and stays truthful.

Not a test: 500 files take minutes.

    python -m tests.scripts.run_fuzz VIDEO... --count 500
    python -m tests.scripts.run_fuzz VIDEO... --count 200 --decode-only

Captions all files with the toy model in one run of the command line, or only decodes them. Ends
with 1 if the run crashed, if a file took longer than it may, or if one passed for done though
nothing in it can be decoded. The copies are the same every time (--seed).
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import av

from tests.helpers.damaged_files import DamagedFile, write_damaged
from vidground.errors import VidgroundError
from vidground.settings import IsolationSettings
from vidground.video.isolated_reader import DecoderPool, IsolatedReader
from vidground.video.pyav import open_input

_REASONS = ("crashed", "was killed", "no progress", "of memory", "internal error")
"""What only a process of its own survives; everything else is told of any damaged file."""


@dataclass(frozen=True)
class Outcome:
    """What became of a file. error: None if it was done. frames: pictures it gave."""

    file: DamagedFile
    error: str | None
    frames: int
    elapsed_s: float


def decode_all(files: Iterable[DamagedFile], settings: IsolationSettings) -> Iterator[Outcome]:
    """Decode every file as a run would; errors other than vidground's end it."""
    decoder = DecoderPool(settings)
    for file in files:
        begin, error, frames = time.monotonic(), None, 0
        try:
            reader = IsolatedReader(decoder, file.path, fps=1.0, image_size=224)
            frames = sum(1 for _ in reader.runs())
        except VidgroundError as caught:
            error = str(caught)
        yield Outcome(file, error, frames, time.monotonic() - begin)
    decoder.close()


def caption_all(
    files: Sequence[DamagedFile], folder: Path, settings: IsolationSettings
) -> list[Outcome]:
    """Caption all files in one run of the program."""
    results, summary = folder / "results", folder / "summary.json"
    command = [sys.executable, "-m", "vidground.cli.main", "caption", str(folder / "videos")]
    command += ["--model", "toy", "--out", "json", "-o", str(results), "--summary", str(summary)]
    command += ["--timeout", str(settings.timeout_s), "--memory-limit", str(settings.memory_gib)]
    command += ["--cache-dir", str(folder / "cache")]
    code = subprocess.run([*command, "--quiet"], check=False).returncode
    if code not in (0, 1):
        raise SystemExit(f"the run ended with {code}")
    by_name = {Path(entry["path"]).name: entry for entry in _entries(summary)}
    outcomes = []
    for file in files:
        entry = by_name[file.path.name]
        frames = 0
        if entry["status"] == "done":
            (output,) = entry["outputs"]
            frames = json.loads(Path(output).read_text())["video"]["frames"]
        outcomes.append(Outcome(file, entry["error"], frames, entry["elapsed_s"]))
    return outcomes


def _entries(summary: Path) -> list[dict[str, object]]:
    entries: list[dict[str, object]] = json.loads(summary.read_text())["files"]
    return entries


def gives_a_frame(path: Path) -> bool:
    """Whether plain decoding, which knows nothing of vidground, finds a frame in the file."""
    with open_input(str(path)) as container:
        # A stream whose codec is unknown has no context.
        streams = [s for s in container.streams.video if s.codec_context is not None]
        with suppress(av.FFmpegError):
            for packet in container.demux(streams):
                with suppress(av.FFmpegError):
                    if packet.decode():
                        return True
        for stream in streams:  # what decoders still hold where reading breaks off
            with suppress(av.FFmpegError):
                if stream.codec_context.decode(None):
                    return True
    return False


def complaints(outcomes: Sequence[Outcome], longest_s: float) -> list[str]:
    """What must not happen."""
    found = []
    for outcome in outcomes:
        name = outcome.file.path.name
        if outcome.elapsed_s > longest_s:
            found.append(f"{name} took {outcome.elapsed_s:.1f} s")
        if outcome.error is None and not (outcome.frames and gives_a_frame(outcome.file.path)):
            found.append(f"{name} passed for done, but gives no frame")
    return found


def report(outcomes: Sequence[Outcome]) -> None:
    """Print how many files of each kind were done, and why the others were not."""
    for kind in sorted({outcome.file.kind for outcome in outcomes}):
        errors = [outcome.error for outcome in outcomes if outcome.file.kind == kind]
        print(f"{kind:10} {len(errors):4} files, {errors.count(None):4} done")
    errors = [outcome.error for outcome in outcomes if outcome.error is not None]
    special = Counter(reason for error in errors for reason in _REASONS if reason in error)
    print(f"{len(outcomes)} files, {len(outcomes) - len(errors)} done, {len(errors)} failed")
    print(f"of which only a process of its own survives: {dict(special) or 'none'}")
    for error in errors:
        if any(reason in error for reason in _REASONS):
            print(" ", error)
    for outcome in sorted(outcomes, key=lambda outcome: -outcome.elapsed_s)[:3]:
        print(f"slowest: {outcome.elapsed_s:.1f} s {outcome.file.path.name}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("videos", type=Path, nargs="+")
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--decode-only", action="store_true")
    parser.add_argument("--timeout", type=float, default=20.0, help="seconds without progress")
    parser.add_argument("--memory-limit", type=float, default=2.0, help="GiB")
    parser.add_argument("--longest", type=float, default=120.0, help="seconds that a file may take")
    parser.add_argument("--folder", type=Path, help="keep the files here")
    options = parser.parse_args()
    settings = IsolationSettings(options.timeout, options.memory_limit)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        (folder / "videos").mkdir(parents=True)
        written = write_damaged(
            options.videos, folder / "videos", count=options.count, seed=options.seed
        )
        if options.decode_only:
            outcomes = list(decode_all(written, settings))
        else:
            outcomes = caption_all(list(written), folder, settings)
        report(outcomes)
        wrong = complaints(outcomes, options.longest)
    for complaint in wrong:
        print("WRONG:", complaint)
    raise SystemExit(1 if wrong else 0)


if __name__ == "__main__":
    main()
