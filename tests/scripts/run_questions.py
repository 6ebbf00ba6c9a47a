"""Time questions about one encoded video that are asked at once against the same one by one.

Not a test: it takes minutes.

    python -m tests.scripts.run_questions VIDEO

Asked at once, they share what the compressor makes of frames alone, and the language model's
batches; that is measured on a random model of middle size. The compressor by itself is measured at
the released size, on random weights and features. One thread, in turn, medians of processor time.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from vidground import DecodingSettings, Grounder
from vidground.benchmark.random_model import official_config, random_model
from vidground.model.compressor import FrameCompressor

_FRAMES, _QUESTION_TOKENS = 8, 16


def compared(rounds: int, apart: Callable[[], object], together: Callable[[], object]) -> str:
    """How often as fast the second is."""
    seconds: tuple[list[float], list[float]] = [], []
    for number in range(rounds + 1):
        for run, taken in zip((apart, together), seconds, strict=True):
            start = time.process_time()
            run()
            if number:  # the first is to warm up
                taken.append(time.process_time() - start)
    one, other = map(statistics.median, seconds)
    return f"{one:.2f} s apart, {other:.2f} s together, {one / other:.2f} times as fast"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("video", type=Path)
    parser.add_argument("--questions", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=16, help="new tokens per answer")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)

    asked = Grounder(random_model("mid"), decoding=DecodingSettings(options.tokens))
    video = asked.encode(options.video)
    texts = [f"event number {number}" for number in range(options.questions)]
    print(
        f"{options.questions} questions about {len(video.times_s)} frames, {options.tokens} tokens"
    )
    print(
        "as a whole, middle size:      ",
        compared(
            options.rounds,
            lambda: [asked.query(video, text) for text in texts],
            lambda: asked.query(video, texts),
        ),
    )
    config = official_config()
    compressor = FrameCompressor(config).eval()
    patches = torch.randn(_FRAMES, 256, config.vision_config.hidden_size)
    questions = torch.randint(5, 1000, (options.questions, _QUESTION_TOKENS)).tolist()
    with torch.inference_mode():
        print(
            "the compressor, released size:",
            compared(
                options.rounds,
                lambda: [compressor.each(patches, [question]) for question in questions],
                lambda: compressor.each(patches, questions),
            ),
        )


if __name__ == "__main__":
    main()
