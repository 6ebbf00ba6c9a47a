"""What captioning costs beside other busy processes, with threads that sleep or spin while waiting.

    python -m tests.scripts.run_shared_cores [--films 20] [--rounds 3] [--busy 0,1,2]

Captions copies of the example films with the bundled model, one video at a time: with threads as
`vidground` sets them, and with OpenMP's defaults (spinning, one per core). The two alternate; read
the ratios.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.helpers.paths import EXAMPLES

CORES = len(os.sched_getaffinity(0))
WAYS: dict[str, dict[str, str]] = {
    "vidground": {},
    "spinning": {"GOMP_SPINCOUNT": "300000", "OMP_NUM_THREADS": str(CORES)},
}


@contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """Keep `count` other processes busy meanwhile."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def seconds(films: Path, variables: dict[str, str]) -> float:
    """Time one run of the program over a folder."""
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "vidground.cli.main", "caption", str(films), "-o", out]
        command += ["--model", "toy", "--videos", "1", "--no-cache", "--quiet"]
        begin = time.perf_counter()
        subprocess.run(command, env={**os.environ, **variables}, check=True)
        return time.perf_counter() - begin


def main() -> None:
    """Print the median of each way beside each number of busy processes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--films", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--busy", default="0,1,2", help="numbers of busy processes")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for number in range(arguments.films):
            shutil.copy(EXAMPLES / f"film_{number % 2 + 1}.mp4", f"{folder}/{number}.mp4")
        for busy in map(int, arguments.busy.split(",")):
            times: dict[str, list[float]] = {way: [] for way in WAYS}
            with busy_processes(busy):
                for _ in range(arguments.rounds):
                    for way, variables in WAYS.items():
                        times[way].append(seconds(Path(folder), variables))
            medians = {way: statistics.median(taken) for way, taken in times.items()}
            row = ", ".join(f"{way} {taken:.1f} s" for way, taken in medians.items())
            ratio = medians["spinning"] / medians["vidground"]
            print(f"{busy} busy on {CORES} cores: {row}, ratio {ratio:.2f}", flush=True)


if __name__ == "__main__":
    main()
