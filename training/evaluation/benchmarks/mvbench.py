"""Read MVBench's annotations, as its folder `json` holds them: one file per task.

A file is a JSON list of `video`, `question`, `candidates` and `answer` (the text of the right
candidate). The questions are those that the released evaluation of D2VLM asks; like it, they are
about the whole video even where a sample names a part of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from vidground.errors import InputError
from vidground.training.data.conversion.readers import read_text
from vidground.training.evaluation.benchmarks.multiple_choice import Choice

SOURCE = "mvbench"
FRAMES_TASK = "Episodic Reasoning"
"""Its videos are published as folders of pictures, three a second."""

FOLDERS: Mapping[str, str] = {
    "Action Sequence": "star/Charades_v1_480",
    "Action Prediction": "star/Charades_v1_480",
    "Action Antonym": "ssv2_video",
    "Fine-grained Action": "Moments_in_Time_Raw/videos",
    "Unexpected Action": "FunQA_test/test",
    "Object Existence": "clevrer/video_validation",
    "Object Interaction": "star/Charades_v1_480",
    "Object Shuffle": "perception/videos",
    "Moving Direction": "clevrer/video_validation",
    "Action Localization": "sta/sta_video",
    "Scene Transition": "scene_qa/video",
    "Action Count": "perception/videos",
    "Moving Count": "clevrer/video_validation",
    "Moving Attribute": "clevrer/video_validation",
    "State Change": "perception/videos",
    "Fine-grained Pose": "nturgbd",
    "Character Order": "perception/videos",
    "Egocentric Navigation": "vlnqa",
    FRAMES_TASK: "tvqa/frames_fps3_hq",
    "Counterfactual Inference": "clevrer/video_validation",
}
"""Task → folder of its videos, relative to MVBench's folder `video`."""

_OPENING = (
    "Carefully watch the video and pay attention to the cause and sequence of events, the detail "
    "and movement of objects and the action and pose of persons. Based on your observations, "
    "select the best option that accurately addresses the question."
)


def read_mvbench(folder: str | Path) -> list[Choice]:
    """Return the questions of all tasks that have a file in MVBench's folder `json`.

    Raises:
        InputError: there is no such file, or a field is missing or wrong.
    """
    files = {task: Path(folder) / f"{_file_stem(task)}.json" for task in FOLDERS}
    there = {task: file for task, file in files.items() if file.is_file()}
    if not there:
        raise InputError(f"{folder}: holds no task of MVBench, such as action_sequence.json")
    return [
        _choice(item, task, f"{file}[{index}]")
        for task, file in there.items()
        for index, item in enumerate(_items(file))
    ]


def _file_stem(task: str) -> str:
    return task.lower().replace(" ", "_").replace("-", "_")


def _items(file: Path) -> list[Any]:
    try:
        content = json.loads(read_text(file))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file}: is not JSON ({error})") from error
    if not isinstance(content, list):
        raise InputError(f"{file}: holds a {type(content).__name__}; needs a list of questions")
    return content


def _choice(item: Any, task: str, name: str) -> Choice:
    fields = item if isinstance(item, dict) else {}
    video, question, answer = (fields.get(key) for key in ("video", "question", "answer"))
    candidates = fields.get("candidates")
    for key, value in (("video", video), ("question", question), ("answer", answer)):
        if not isinstance(value, str) or not value.strip():
            _refuse(name, f"{key} is {value!r}; it must be a text")
    if not (isinstance(candidates, list) and 2 <= len(candidates) <= 26):
        _refuse(name, f"candidates is {candidates!r}; it must be a list of 2 to 26 texts")
    if answer not in candidates:
        _refuse(name, f"answer is {answer!r}; it must be one of the candidates")
    options = tuple(map(str, candidates))
    right = len(options) - 1 - options[::-1].index(answer)  # of equal ones the last, as released
    listed = "".join(f"({chr(ord('A') + i)}) {option}.\n" for i, option in enumerate(options))
    text = f"{_OPENING}\nQuestion: {question}\nOptions:\n{listed}Best Option: ("
    return Choice(f"{FOLDERS[task]}/{video}", text, options, right, {"task": task})


def _refuse(name: str, reason: str) -> NoReturn:
    raise InputError(f"{name}: {reason}")
