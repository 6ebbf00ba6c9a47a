"""Measure the peak memory of a query on generated films of a minute, 2 hours and 24 hours.

Not a test: it takes several minutes, with the smallest of models.

    python -m tests.scripts.run_memory FOLDER

FOLDER gets the films, unless they are there. Every frame is another picture, one a second, and
tiny: memory must not depend on how long a film is, whatever its pictures are. The same is asked
with an empty cache, from the cache, and without one, each in a process of its own. Its peak, and
that of the process that decodes for it, is what the system counts (VmHWM).
"""

import argparse
import json
import subprocess
import sys
import tempfile
from fractions import Fraction
from pathlib import Path

from tests.helpers.video_files import make_video

LENGTHS_S = {"1 minute": 60, "2 hours": 2 * 3600, "24 hours": 24 * 3600}
CHILD = """
import json, sys
from vidground import CacheSettings, DecodingSettings, Grounder, IsolationSettings
from vidground.training.toy.model import make_toy_model, toy_config
film, folder = sys.argv[1:]
config = toy_config(
    image_size=32, patch_size=16, vision_layers=1, vision_width=32, text_layers=2, text_width=32
)
asked = Grounder(
    make_toy_model(config).eval(),
    decoding=DecodingSettings(max_new_tokens=2),
    isolation=IsolationSettings(),
    cache=CacheSettings(folder=folder) if folder else None,
)
decoder = asked.engine._decoder._idle[0]._process.pid
result = asked.query(film, "a red circle")
def peak(pid):
    lines = open(f"/proc/{pid}/status").read().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))
print(json.dumps([peak("self"), peak(decoder), len(result.relevance)]))
"""


def peaks(film: Path, folder: str) -> tuple[float, float, int]:
    """Peak MiB of the process that asks and of the one that decodes, and the samples."""
    ran = subprocess.run(
        [sys.executable, "-c", CHILD, str(film), folder], capture_output=True, text=True, check=True
    )
    asking, decoding, samples = json.loads(ran.stdout)
    return asking, decoding, samples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    ways = ("without a cache", "to the cache", "from the cache")
    first: dict[str, tuple[float, float]] = {}
    for name, length_s in LENGTHS_S.items():
        film = folder / f"{length_s}.mp4"
        if not film.exists():
            make_video(film, frames=length_s, fps=Fraction(1), size=(32, 32), gop=60, bframes=0)
        with tempfile.TemporaryDirectory() as cache:
            for how in ways:
                place = "" if how == ways[0] else cache
                asking, decoding, samples = peaks(film, place)
                base = first.setdefault(how, (asking, decoding))
                print(
                    f"{name:9} {how:16} {samples:6} samples: {asking:6.0f} MiB "
                    f"(x {asking / base[0]:.3f}), decoder {decoding:5.0f} MiB "
                    f"(x {decoding / base[1]:.3f}), both x "
                    f"{(asking + decoding) / sum(base):.3f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
