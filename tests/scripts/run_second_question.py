"""Time the second question about a video against the first, in one process and in a new one.

Not a test: it takes minutes.

    python -m tests.scripts.run_second_question VIDEO

The model has random weights and a vision encoder of middle size (24 layers, 512 wide, 224 pixels):
nearly all of its work on a question is vision, as with the released one. The first question finds
an empty cache; the second is another one, asked `--repeat` times, of which the median counts. All
run on one core, and the time is that which the core worked for them, so that what else a machine
does changes little.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from vidground import CacheSettings, DecodingSettings, Grounder
from vidground.training.toy.model import make_toy_model, toy_config

QUESTIONS = ("a red circle appears", "a blue square moves left", "a green triangle grows")


def grounder(folder: str, tokens: int, bits: int) -> Grounder:
    config = toy_config(
        image_size=224,
        patch_size=14,
        vision_layers=24,
        vision_width=512,
        text_layers=16,
        text_width=512,
    )
    return Grounder(
        make_toy_model(config).eval(),
        decoding=DecodingSettings(max_new_tokens=tokens),
        cache=CacheSettings(folder=folder, bits=bits),
    )


def seconds(asked: Grounder, video: Path, question: str) -> float:
    start = time.process_time()
    asked.query(video, question)
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("video", type=Path)
    parser.add_argument("--tokens", type=int, default=16, help="new tokens per answer")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--bits", type=int, default=16)
    parser.add_argument("--folder", help=argparse.SUPPRESS)  # in the new process
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.folder is not None:
        asked = grounder(options.folder, options.tokens, options.bits)
        print(json.dumps(seconds(asked, options.video, QUESTIONS[2])))
        return
    with tempfile.TemporaryDirectory() as folder:
        asked = grounder(folder, options.tokens, options.bits)
        first = seconds(asked, options.video, QUESTIONS[0])
        others = [seconds(asked, options.video, QUESTIONS[1]) for _ in range(options.repeat)]
        kept = sum(path.stat().st_size for path in Path(folder).glob("*.safetensors"))
        again = [
            sys.executable,
            "-m",
            "tests.scripts.run_second_question",
            *sys.argv[1:],
            "--folder",
            folder,
        ]
        told = subprocess.run(again, check=True, capture_output=True, text=True)
    second, elsewhere = statistics.median(others), json.loads(told.stdout)
    print(f"first question:   {first:.2f} s")
    print(f"second question:  {second:.2f} s, {first / second:.1f} times as fast")
    print(f"in a new process: {elsewhere:.2f} s, {first / elsewhere:.1f} times as fast")
    print(f"kept: {kept / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
