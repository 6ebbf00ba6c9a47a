"""Samples about films of the toy world as E.T. Instruct and E.T. Bench write them.

What is asked and answered is made in `vidground.training.toy.questions`; here it takes the form
of training annotations, of benchmark samples, and of queries for what is not in the film. Writes
no files.
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
"""Name of the toy world in the `source` field of every sample."""
_ABSENT_IN_TRAINING = 2
_TRIES = 50


def annotations(video: ToyVideo, name: str, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Training samples in the form of E.T. Instruct with evidence.

    Two of them ask for what is not in the film: else a model would learn to find whatever it is
    asked for.

    name: of the video file, as the `video` field has it. `tgt` holds flat pairs of seconds.
    """
    asked = questions(video, rng)
    absent = [what.caption for _, what in _absent(video.events, rng)]
    for caption in rng.permutation(absent)[:_ABSENT_IN_TRAINING].tolist():
        asked.append(ToyQuestion("tvg", grounding_question(caption), NOT_FOUND))
    return [_training_form(item, video, name) for item in asked]


def bench_samples(
    video: ToyVideo, name: str, rng: np.random.Generator, *, first_idx: int = 0
) -> list[dict[str, Any]]:
    """Test samples in the form of E.T. Bench, numbered from `first_idx`."""
    asked = [item for item in questions(video, rng) if item.task != "rvc"]
    return [_bench_form(item, video, name, first_idx + i) for i, item in enumerate(asked)]


def absent_queries(
    video: ToyVideo, name: str, rng: np.random.Generator, *, first_idx: int = 0
) -> list[dict[str, Any]]:
    """Grounding questions about what is not in the film, to measure false alarms.

    Samples as of E.T. Bench's tvg without `tgt`, with two more fields: `query`, the caption
    asked for, and `differs`, what it differs in from an event of the film (color, shape, action
    or direction alone) or from all of them at once ("everything": no event has its color, its
    shape or its action).
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
    """Tasks with a single target have it flat, the others as a list of pairs."""
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
    """One query for each fact of a drawn event, changed, and one that shares no fact with any."""
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
