"""Small annotations in the released form, to be changed by tests."""

import json
from pathlib import Path
from typing import Any

QUESTION = "When does a red circle grow?"
ANSWER = "<evi><evi></evi>It grows in <evi>, and <evi>."
MOVED = [1.0, 3.0, 4.5, 8.0]


def sft_sample(**changed: Any) -> dict[str, Any]:
    """An SFT sample with two intervals; a field given as None is left out."""
    sample = {
        "task": "tal",
        "source": "toy",
        "video": "clips/a.mp4",
        "duration": 20.0,
        "tgt": [2.0, 4.0, 6.0, 9.5],
        "conversations": turns(f"<image>\n{QUESTION}", ANSWER),
    }
    return {name: value for name, value in (sample | changed).items() if value is not None}


def fpo_sample(**changed: Any) -> dict[str, Any]:
    """A preference sample with a temporal and a textual variant."""
    human = f"<image>\n{QUESTION}"
    sample = sft_sample(
        tgt={"chosen": [2.0, 4.0, 6.0, 9.5], "r_0_shift": MOVED, "r_1_f": [2.0, 4.0, 6.0, 9.5]},
        conversations={
            "chosen": turns(human, ANSWER),
            "r_0_shift": turns(human, ANSWER),
            "r_1_f": turns(human, ANSWER.replace("It", "A square")),
        },
    )
    return {name: value for name, value in (sample | changed).items() if value is not None}


def turns(human: str, gpt: str) -> list[dict[str, str]]:
    return [{"from": "human", "value": human}, {"from": "gpt", "value": gpt}]


def write(path: Path, *samples: Any) -> Path:
    path.write_text(json.dumps(list(samples)), encoding="utf-8")
    return path
