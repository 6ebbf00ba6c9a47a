"""Samples about films of the toy world in the formats of E.T. Instruct and E.T. Bench.

`vidground.training.toy.questions` makes questions and answers; here they become training
annotations, benchmark samples, and queries for what is not in the film. Writes no files.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from vidground.language.prompts import FRAMES, grounding_question
from vidground.training.data.answer_events import NOT_FOUND
from vidground.training.toy.captions import Facts, changed_facts, sample_facts
from vidground.training.toy.questions import ToyQuestion, questions
from vidground.training.toy.world import ToyEvent, ToyVideo

SOURCE = "toy"
"""The `source` of every sample."""
_ABSENT_IN_TRAINING = 2
_TRIES = 50


def annotations(video: ToyVideo, name: str, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Return training samples in the format of E.T. Instruct with evidence.

    Two of them ask for what is not in the film; otherwise a model would learn to find everything
    it is asked for.

    Args:
        video: the film.
        name: of the video file, for the `video` field.
        rng: to draw questions from.
    """
    asked = questions(video, rng)
    absent = [what.caption for _, what in _absent(video.events, rng)]
    for caption in rng.permutation(absent)[:_ABSENT_IN_TRAINING].tolist():
        asked.append(ToyQuestion("tvg", grounding_question(caption), NOT_FOUND))
    return [_training_form(item, video, name) for item in asked]


def bench_samples(
    video: ToyVideo, name: str, rng: np.random.Generator, *, first_idx: int = 0
) -> list[dict[str, Any]]:
    """Return test samples in the format of E.T. Bench, numbered from `first_idx`."""
    asked = [item for item in questions(video, rng) if item.task != "rvc"]
    return [_bench_form(item, video, name, first_idx + i) for i, item in enumerate(asked)]


def absent_queries(
    video: ToyVideo, name: str, rng: np.random.Generator, *, first_idx: int = 0
) -> list[dict[str, Any]]:
    """Return grounding questions about what is not in the film, to measure false alarms.

    They are samples of E.T. Bench's tvg without `tgt`, with two more fields: `query`, the caption
    asked for, and `differs`, in what it differs from one event of the film (color, shape, action
    or direction alone) or from all ("everything": no event has its color, shape or action).
    """
    asked = _absent(video.events, rng)
    return [
        _header(video, name, first_idx + i)
        | {"query": what.caption, "differs": differs, "q": grounding_question(what.caption)}
        for i, (differs, what) in enumerate(asked)
    ]


def _training_form(item: ToyQuestion, video: ToyVideo, name: str) -> dict[str, Any]:
    sample: dict[str, Any] = {
        "task": item.task,
        "source": SOURCE,
        "video": name,
        "duration": round(video.duration_s, 1),
    }
    if item.src is not None:
        sample["src"] = list(item.src)
    if item.tgt:
        sample["tgt"] = [time_s for span in item.tgt for time_s in span]
    sample["conversations"] = [
        {"from": "human", "value": f"{FRAMES}\n{item.question}"},
        {"from": "gpt", "value": item.answer},
    ]
    return sample


def _bench_form(item: ToyQuestion, video: ToyVideo, name: str, idx: int) -> dict[str, Any]:
    """Return a sample of E.T. Bench; `tgt` is flat in tasks with a single target, else pairs."""
    sample = _header(video, name, idx, item.task)
    if item.src is not None:
        sample["src"] = list(item.src)
    if item.tgt:
        pairs = [list(span) for span in item.tgt]
        sample["tgt"] = pairs[0] if item.task in ("tvg", "gvq") else pairs
    if item.right is not None:
        sample |= {"p": item.right, "o": list(item.options)}
    if item.captions:
        sample["g"] = list(item.captions)
    return sample | {"q": item.question}


def _header(video: ToyVideo, name: str, idx: int, task: str = "tvg") -> dict[str, Any]:
    return {
        "version": 1.0,
        "idx": idx,
        "task": task,
        "source": SOURCE,
        "video": name,
        "duration": round(video.duration_s, 1),
    }


def _absent(events: Sequence[ToyEvent], rng: np.random.Generator) -> list[tuple[str, Facts]]:
    """Draw a query for each fact of one event, changed, and one that shares no fact with any."""
    event = events[int(rng.integers(len(events)))]
    asked = [(fact, changed_facts(event.facts, fact, rng)) for fact in ("color", "shape", "action")]
    if event.facts.direction is not None:
        asked.append(("direction", changed_facts(event.facts, "direction", rng)))
    for _ in range(_TRIES):
        other = sample_facts(rng)
        if not any(_alike(other, shown.facts) for shown in events):
            asked.append(("everything", other))
            break
    shown_captions = {shown.caption for shown in events}
    return [(differs, what) for differs, what in asked if what.caption not in shown_captions]


def _alike(one: Facts, other: Facts) -> bool:
    return one.color == other.color or one.shape == other.shape or one.action == other.action
