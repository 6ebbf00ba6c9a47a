"""Convert annotations of Charades-STA and YouCook2 to E.T. Bench's form.

The questions are those that the released model was asked for its published numbers. Opens no
video and loads no model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeGuard

from vidground.errors import InputError
from vidground.language.prompts import captioning_question, grounding_question
from vidground.training.data.annotation_fields import is_number
from vidground.training.data.conversion.readers import read_charades, read_text
from vidground.training.evaluation.benchmarks.charades import SOURCE as CHARADES_SOURCE
from vidground.training.evaluation.benchmarks.youcook2 import SOURCE as YOUCOOK2_SOURCE

_CHARADES_DOMAIN = "indoor activities"
# The published numbers were made with one recipe's name for all videos.
_YOUCOOK2_TOPIC = "making fattoush"


def convert_charades(source: str | Path) -> list[dict[str, Any]]:
    """Return samples of tvg from lines "ID start end##sentence", times in seconds.

    The video of a sample is ID.mp4. Reversed times are swapped.

    Raises:
        InputError: the file cannot be read, or a line has another form.
    """
    return [
        _sample("tvg", CHARADES_SOURCE, idx, item.video)
        | {
            "tgt": list(item.intervals[0]),
            "q": grounding_question(item.sentence, domain=_CHARADES_DOMAIN),
        }
        for idx, item in enumerate(read_charades(source))
    ]


def convert_youcook2(source: str | Path, *, subset: str = "validation") -> list[dict[str, Any]]:
    """Return samples of dvc from YouCook2's JSON with segments and sentences.

    The video of a sample is ID.mp4.

    Args:
        source: the JSON file: `database`, video → `annotations` with `segment` and `sentence`.
        subset: which videos: "training" or "validation"; those for testing have no annotations.

    Raises:
        InputError: the file cannot be read, a field is missing or wrong, or no video is left.
    """
    try:
        database = json.loads(read_text(source))["database"]
        videos = {name: video for name, video in database.items() if video["subset"] == subset}
    except (ValueError, RecursionError) as error:
        raise InputError(f"{source}: is not JSON ({error})") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{source}: holds no 'database' of videos with a 'subset' each; name YouCook2's "
            "annotations with segments"
        ) from error
    if not videos:
        raise InputError(f"{source}: has no videos of subset {subset!r}")
    return [
        _sample("dvc", YOUCOOK2_SOURCE, idx, name) | _dense_fields(video, f"{source}: {name}")
        for idx, (name, video) in enumerate(videos.items())
    ]


def _sample(task: str, source: str, idx: int, video: str) -> dict[str, Any]:
    return {"version": 1.0, "idx": idx, "task": task, "source": source, "video": f"{video}.mp4"}


def _dense_fields(video: Mapping[str, Any], name: str) -> dict[str, Any]:
    steps = video.get("annotations")
    if not isinstance(steps, list) or not steps:
        _refuse(name, "has no annotations; choose a subset that has")
    targets, captions = [], []
    for step in steps:
        fields = step if isinstance(step, dict) else {}
        segment, sentence = fields.get("segment"), fields.get("sentence")
        if not (_is_segment(segment) and isinstance(sentence, str) and sentence.strip()):
            _refuse(name, f"annotation {step!r} has no segment [start, end] or no sentence")
        captions.append(sentence.strip())
        targets.append(sorted(map(float, segment)))
    duration = video.get("duration")
    if not is_number(duration) or duration <= 0:
        _refuse(name, f"duration is {duration!r}; must be seconds above 0")
    question = captioning_question(topic=_YOUCOOK2_TOPIC, noun="cooking step")
    return {"duration": float(duration), "tgt": targets, "g": captions, "q": question}


def _is_segment(value: Any) -> TypeGuard[list[float]]:
    return isinstance(value, list) and len(value) == 2 and all(map(is_number, value))


def _refuse(name: str, reason: str) -> NoReturn:
    raise InputError(f"{name}: {reason}")
