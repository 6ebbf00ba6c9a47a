"""Compare the intervals that the toy model finds on exported encoders with those on torch's.

Not a test: it takes minutes.

    python -m tests.scripts.run_onnx_toy --films 50

The films are those of `vidground data toy --seed 99 --test-share 1`. Every event of each is asked
for, and all are captioned; what is compared are the intervals of all `<evi>` in an answer, one by
one. Answers with more or fewer of them than torch's agree in none.
"""

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vidground import DenseCaptioner
from vidground.checkpoints.loading import load_model
from vidground.export.onnx import export_onnx
from vidground.features.onnx_encoder import OnnxVision
from vidground.generation.generation_queue import Generation
from vidground.inference.engine import Engine
from vidground.language.prompts import Prompt, captioning_question, chat_prompt, grounding_question
from vidground.training.toy.dataset import ToyFilm, toy_film, write_dataset

SEED, LEAST_IOU = 99, 0.9
Interval = tuple[int, int]


@dataclass
class Agreement:
    """agreeing: intervals that overlap with torch's by `LEAST_IOU`. same: answers word by word."""

    intervals: int = 0
    agreeing: int = 0
    answers: int = 0
    same: int = 0

    def add(self, wanted: Generation, found: Generation) -> None:
        theirs, ours = intervals(wanted), intervals(found)
        self.intervals += len(theirs)
        if len(theirs) == len(ours):
            self.agreeing += sum(
                iou(one, other) >= LEAST_IOU for one, other in zip(theirs, ours, strict=True)
            )
        self.answers += 1
        self.same += wanted.token_ids == found.token_ids


def intervals(generation: Generation) -> list[Interval]:
    """First and last frame of every `<evi>`, in order."""
    return [(evidence.first, evidence.last) for evidence in generation.evidence]


def iou(one: Interval, other: Interval) -> float:
    """Overlap of intervals in frames, whose ends are part of them."""
    common = max(0, min(one[1], other[1]) - max(one[0], other[0]) + 1)
    return common / (one[1] - one[0] + other[1] - other[0] + 2 - common)


def questions(film: ToyFilm) -> list[Prompt]:
    """One per event, and one for all."""
    asked = [grounding_question(event.caption) for event in film.video.events]
    return [chat_prompt(text) for text in [*asked, captioning_question()]]


def answers(engine: Engine, folder: Path, films: list[ToyFilm]) -> Iterator[Generation]:
    for film in films:
        given = engine.answer(folder / film.path, questions(film))
        yield from (answer.generation for answer in given.answers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--films", type=int, default=50)
    parser.add_argument("--dtypes", nargs="+", default=["fp32", "int8"])
    options = parser.parse_args()
    films = [toy_film(SEED, "test", index) for index in range(options.films)]
    model = load_model("toy", dtype="float32")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_dataset(folder, videos=options.films, seed=SEED, test_share=1)
        wanted = list(answers(DenseCaptioner(model).engine, folder, films))
        for dtype in options.dtypes:
            export = export_onnx(model, folder / dtype, dtype=dtype)
            vision = OnnxVision(export.path, model, provider="cpu")
            found = answers(DenseCaptioner(model, vision=vision).engine, folder, films)
            told = Agreement()
            for their, our in zip(wanted, found, strict=True):
                told.add(their, our)
            share = told.agreeing / told.intervals
            print(
                f"{dtype}: {told.agreeing} of {told.intervals} intervals agree ({share:.1%}, "
                f"IoU >= {LEAST_IOU}), {told.same} of {told.answers} answers are the same",
                flush=True,
            )


if __name__ == "__main__":
    main()
