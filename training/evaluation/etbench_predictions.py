"""Read predictions in E.T. Bench's form from files or objects, and check every field.

A prediction is the benchmark's sample (`task, source, idx, video, …`) with the model's response as
`a`. Reads no response and computes no score.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from vidground.errors import InputError
from vidground.storage.reading import DATA_SET_BYTES, read_text
from vidground.training.data.annotation_fields import is_number
from vidground.training.data.interval_metrics import Interval

OPTION_TASKS = ("rar", "eca", "rvq")
GROUNDING_TASKS = ("tvg", "epm", "tal", "evs", "vhd")
CAPTION_TASKS = ("dvc", "slc")
COMPLEX_TASKS = ("tem", "gvq")
TASKS = OPTION_TASKS + GROUNDING_TASKS + CAPTION_TASKS + COMPLEX_TASKS
"""All twelve tasks, in the order of the paper's tables."""

_ONE_TARGET = ("tvg", "epm", "gvq")
_WITH_OPTIONS = (*OPTION_TASKS, "gvq")
_MOST_OPTIONS = 26


@dataclass(frozen=True, slots=True)
class Prediction:
    """One checked prediction.

    Attributes:
        task: of E.T. Bench.
        source: name of the data set.
        idx: number within task and source, from 0.
        video: path relative to the videos' folder.
        response: what the model said.
        staged: whether the model gathers evidence before it answers; all that another one says is
            its answer.
        targets: true intervals in seconds; for vhd those of all annotators.
        captions: one for each target (dvc, slc); empty for other tasks.
        options: number of options; 0 for tasks without.
        right_option: index of the right one, from 0.
    """

    task: str
    source: str
    idx: int
    video: str
    response: str
    targets: tuple[Interval, ...] = ()
    captions: tuple[str, ...] = ()
    options: int = 0
    right_option: int = 0
    staged: bool = True


def load_predictions(path: str | Path) -> list[Mapping[str, Any]]:
    """Return the predictions of a JSON list, a JSON Lines file, or a folder of such files.

    Args:
        path: see `read_prediction_files`.

    Raises:
        InputError: there are none, a file is not a list of objects, or a field is wrong; the
            message names the file, the index in it from 0, and the reason.
    """
    found = read_prediction_files(path)
    check_predictions(found)
    return [item for _, item in found]


def read_prediction_files(path: str | Path) -> list[tuple[str, Any]]:
    """Return the unchecked items of prediction files, each with its name for errors.

    In a folder, files whose name starts with `metrics` are left out: scorers write theirs there.

    Args:
        path: a JSON list, a JSON Lines file, or a folder of such files.

    Raises:
        InputError: there are none, or a file is not a list.
    """
    path = Path(path)
    if path.is_dir():
        files = sorted(f for f in path.iterdir() if f.suffix in (".json", ".jsonl"))
        files = [f for f in files if not f.name.startswith("metrics")]
    else:
        files = [path]
    found = [(f"{file}[{i}]", item) for file in files for i, item in enumerate(_read_file(file))]
    if not found:
        raise InputError(f"{path}: holds no predictions; give a .json or .jsonl file or a folder")
    return found


def _read_file(file: Path) -> list[Any]:
    text = read_text(file, most_bytes=DATA_SET_BYTES, error=InputError)
    try:
        if file.suffix == ".jsonl":
            return [json.loads(line) for line in text.splitlines() if line.strip()]
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file}: is not JSON ({error})") from error
    if not isinstance(content, list):
        raise InputError(f"{file}: holds a {type(content).__name__}; needs a list of predictions")
    return content


def check_predictions(named: Iterable[tuple[str, Any]]) -> list[Prediction]:
    """Return checked predictions.

    Args:
        named: predictions, each with its name for errors.

    Raises:
        InputError: a field is missing or wrong, or two predictions answer one question.
    """
    checked = []
    seen: dict[tuple[str, str, int], str] = {}
    for name, item in named:
        prediction = read_prediction(item, name)
        key = (prediction.task, prediction.source, prediction.idx)
        if key in seen:
            task, source, idx = key
            _refuse(name, f"answers {task} {source} idx {idx}, as {seen[key]} does; keep one")
        seen[key] = name
        checked.append(prediction)
    return checked


def read_prediction(item: Any, name: str) -> Prediction:
    """Return one checked prediction.

    Args:
        item: the object.
        name: of the prediction, for errors.

    Raises:
        InputError: a field is missing or wrong.
    """
    if not isinstance(item, Mapping):
        _refuse(name, f"is a {type(item).__name__}; needs an object")
    task = _text(item, "task", name)
    if task not in TASKS:
        _refuse(name, f"task is {task!r}; must be one of {', '.join(TASKS)}")
    if "duration" in item and not (is_number(item["duration"]) and item["duration"] > 0):
        _refuse(name, f"duration is {item['duration']!r}; must be seconds above 0")
    targets = () if task in OPTION_TASKS else _targets(item, task, name)
    options, right_option = _options(item, name) if task in _WITH_OPTIONS else (0, 0)
    return Prediction(
        task=task,
        source=_text(item, "source", name),
        idx=_integer(item, "idx", name),
        video=_text(item, "video", name),
        response=_text(item, "a", name),
        targets=targets,
        captions=_captions(item, len(targets), name) if task in CAPTION_TASKS else (),
        options=options,
        right_option=right_option,
        staged=item.get("staged") is not False,
    )


def _refuse(name: str, reason: str) -> NoReturn:
    raise InputError(f"{name}: {reason}")


def _field(item: Mapping[str, Any], key: str, name: str) -> Any:
    if key not in item:
        _refuse(name, f"has no field {key!r}")
    return item[key]


def _text(item: Mapping[str, Any], key: str, name: str) -> str:
    value = _field(item, key, name)
    if not isinstance(value, str):
        _refuse(name, f"{key} is {value!r}; must be text")
    return value


def _integer(item: Mapping[str, Any], key: str, name: str) -> int:
    value = _field(item, key, name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        _refuse(name, f"{key} is {value!r}; must be a whole number from 0")
    return value


def _is_list(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _targets(item: Mapping[str, Any], task: str, name: str) -> tuple[Interval, ...]:
    pairs = _field(item, "tgt", name)
    if task in _ONE_TARGET:
        pairs = [pairs]
    elif task == "vhd" and _is_list(pairs) and pairs and all(map(_is_nested, pairs)):
        pairs = [window for annotator in pairs for window in annotator]
    if not _is_list(pairs) or not pairs:
        _refuse(name, f"tgt is {pairs!r}; {task} needs a list of [start, end] pairs")
    return tuple(_interval(pair, name) for pair in pairs)


def _is_nested(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and all(map(_is_list, value))


def _interval(pair: Any, name: str) -> Interval:
    if not (_is_list(pair) and len(pair) == 2 and all(map(is_number, pair))):
        _refuse(name, f"tgt holds {pair!r}; must be [start, end] in seconds")
    if pair[0] > pair[1]:
        _refuse(name, f"tgt holds {list(pair)}; must not end before it starts")
    return float(pair[0]), float(pair[1])


def _captions(item: Mapping[str, Any], targets: int, name: str) -> tuple[str, ...]:
    captions = _field(item, "g", name)
    if not (_is_list(captions) and all(isinstance(caption, str) for caption in captions)):
        _refuse(name, f"g is {captions!r}; must be a list of captions")
    if len(captions) != targets:
        _refuse(name, f"g holds {len(captions)} captions for {targets} targets; must be equal")
    return tuple(captions)


def _options(item: Mapping[str, Any], name: str) -> tuple[int, int]:
    options = _field(item, "o", name)
    if not (_is_list(options) and 2 <= len(options) <= _MOST_OPTIONS):
        _refuse(name, f"o is {options!r}; must be a list of 2 to {_MOST_OPTIONS} options")
    right = _integer(item, "p", name)
    if right >= len(options):
        _refuse(name, f"p is {right}; must name one of the {len(options)} options, from 0")
    return len(options), right
