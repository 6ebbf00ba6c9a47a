"""The published results that a run is compared with (paper, section 4).

Numbers are percent, or what published tables show times 100. A row holds only what was published:
no number stands in for another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vidground.checkpoints.known_models import KNOWN_MODELS, known_model
from vidground.checkpoints.model_folder import time_tokens_in
from vidground.settings import DEFAULT_MODEL
from vidground.training.evaluation.answer_reading import Rules

_MERGED = {
    "ref_acc": "Acc(ref)",
    "gnd_f1": "F1(gnd)",
    "cap_f1": "F1(cap)",
    "cap_sim": "Sim(cap)",
    "com_rec": "Rec(com)",
}
_MULTIPLE_CHOICE_MODEL = "d2vlm-mcqa"
_ROW_OF = {_MULTIPLE_CHOICE_MODEL: "d2vlm-mcqa", "etchat": "etchat"}
"""Rows of known models other than the paper's own."""


@dataclass(frozen=True, slots=True)
class PublishedRow:
    """The published results of one model.

    Attributes:
        title: as tables name it.
        rules: the rules of E.T. Bench under which the numbers were made.
        scores: benchmark → column → published number.
    """

    title: str
    rules: Rules
    scores: Mapping[str, Mapping[str, float]]


def _merged(model: str) -> dict[str, float]:
    return {_MERGED[name]: value for name, value in KNOWN_MODELS[model].scores.items()}


ROWS: Mapping[str, PublishedRow] = {
    "d2vlm-fpo": PublishedRow(
        "D2VLM + FPO",
        "strict",
        {
            "etbench": {
                "tvg F1": 60.2,
                "epm F1": 14.4,
                "tal F1": 33.4,
                "evs F1": 35.2,
                "vhd F1": 68.2,
                "dvc F1": 48.3,
                "dvc Sim": 25.5,
                "slc F1": 26.7,
                "slc Sim": 18.1,
                **_merged(DEFAULT_MODEL),
            },
            "charades": {"R@0.5": 50.3, "R@0.7": 26.0},
            "youcook2": {"F1": 26.4, "CIDEr": 10.6, "SODA_c": 3.2},
        },
    ),
    "d2vlm-sft": PublishedRow(
        "D2VLM SFT",
        "strict",
        {"etbench": {"F1(gnd)": 39.5, "F1(cap)": 35.0, "Sim(cap)": 21.2}},
    ),
    "d2vlm-mcqa": PublishedRow(
        "D2VLM MCQA", "strict", {"etbench": _merged(_MULTIPLE_CHOICE_MODEL)}
    ),
    "etchat": PublishedRow(
        "E.T. Chat",
        "official",
        {
            "etbench": {
                "tvg F1": 38.6,
                "epm F1": 10.2,
                "tal F1": 30.8,
                "evs F1": 25.4,
                "vhd F1": 62.5,
                "dvc F1": 38.4,
                "dvc Sim": 19.7,
                "slc F1": 24.4,
                "slc Sim": 14.6,
                **_merged("etchat"),
            }
        },
    ),
}
"""Published rows by the name that `--published` takes."""


def row_for(model: str) -> str:
    """Return the name of the row that a model is compared with if none is asked for.

    Args:
        model: a known name, a folder or a hub id.
    """
    known = known_model(model)
    if known is not None and known.name in _ROW_OF:
        return _ROW_OF[known.name]
    if Path(model).is_dir():
        matches = time_tokens_in(Path(model)) == "matching"
    else:
        matches = "etchat" in model.lower().replace("-", "").replace(".", "")
    return "etchat" if matches else "d2vlm-fpo"
