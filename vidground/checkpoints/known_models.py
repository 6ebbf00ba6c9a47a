"""Models with a known name: what each is for, and which folder of a repository holds it.

Accesses neither files nor the hub; folders are passed in by name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vidground.settings import DEFAULT_MODEL, TimeTokens

OFFICIAL_REPOSITORY = "wenzhengzeng/D2VLM-Models"
"""Hub repository of the released weights."""
ETCHAT_REPOSITORY = "PolyU-ChenLab/ETChat-Phi3-Mini-Stage-3"
"""Hub repository of E.T. Chat's released weights."""

RELEASED_MODEL_TYPE = "etchat_phi3"
"""`model_type` in config.json of a D2VLM in the released format, and of models of E.T. Chat."""

OFFICIAL_PARAMETERS = 5_020_945_408
"""Parameters of the released size, in 1,064 tensors."""
OFFICIAL_LINEAR_WEIGHTS, OFFICIAL_LINEAR_OUTPUTS = 3_623_878_656, 1_015_808
"""Weights among them in the language model's linear layers, and output channels of these layers."""

_MULTIPLE_CHOICE = "mcq"
_EARLIER_STAGES = ("sft", "stage")
"""In names of folders that hold intermediate stages of training."""


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A model with a known name.

    Attributes:
        name: to load it by.
        purpose: what it is for.
        scores: published scores by metric, in percent.
        folder: of a bundled model; None for a model on the hub.
        repository: on the hub; None for a bundled model.
        time_tokens: how it expresses times, see `D2VLMConfig`.
        folders: names that its folder there may have, letters and digits only, likeliest first.
        aliases: other names to load it by.
        limits: what users must know about its answers; "" if there is nothing special.
    """

    name: str
    purpose: str
    scores: Mapping[str, float] = field(default_factory=dict)
    folder: Path | None = None
    repository: str | None = None
    time_tokens: TimeTokens = "evidence"
    folders: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    limits: str = ""


_MODELS = (
    KnownModel(
        "toy",
        "coloured shapes in short videos; for trying out vidground and for tests",
        folder=Path(__file__).parent / "bundled" / "toy",
        limits="the model toy knows moving coloured shapes only; what it says about other videos "
        "means nothing",
    ),
    KnownModel(
        DEFAULT_MODEL,
        "finding events and captioning them; the model of the paper",
        {"ref_acc": 25.3, "gnd_f1": 42.3, "cap_f1": 37.5, "cap_sim": 21.8, "com_rec": 18.1},
        repository=OFFICIAL_REPOSITORY,
        folders=("d2vlm",),
    ),
    KnownModel(
        "d2vlm-mcqa",
        "multiple-choice questions about a video, and finding events; captions a little below "
        f"those of {DEFAULT_MODEL}",
        {"ref_acc": 38.3, "gnd_f1": 44.3, "cap_f1": 37.2, "cap_sim": 21.4, "com_rec": 18.6},
        repository=OFFICIAL_REPOSITORY,
        folders=("d2vlmmcqaenhanced", "d2vlmmcqa"),
        aliases=("d2vlm-mcqa-enhanced",),
    ),
    KnownModel(
        "etchat",
        "E.T. Chat, the model that D2VLM is compared with; it names single frames and cannot say "
        "that an event does not happen",
        {"gnd_f1": 33.5, "cap_f1": 31.4, "cap_sim": 17.1},
        repository=ETCHAT_REPOSITORY,
        time_tokens="matching",
        aliases=("et-chat",),
    ),
)

KNOWN_MODELS = {model.name: model for model in _MODELS}
"""Models by name, in the order in which they are listed."""


def known_model(name: str) -> KnownModel | None:
    """Return the known model of this name, ignoring case, "-" and "_"; None if there is none."""
    if not re.fullmatch(r"[\w-]+", name):  # a path, or a repository on the hub
        return None
    for model in KNOWN_MODELS.values():
        if _letters(name) in map(_letters, (model.name, *model.aliases)):
            return model
    return None


def choose_folder(model: KnownModel, folders: Sequence[str]) -> str | None:
    """Return the folder of its repository that holds a known model; None if unclear.

    That is the folder named like the model, or else the only one that can be it. Of nested folders
    the outer one counts.

    Args:
        model: to find.
        folders: paths in the repository that hold a model; "" is the repository itself.
    """
    own = [folder for folder in folders if _may_be(model, folder)]
    final = [folder for folder in own if not _mentions(folder, *_EARLIER_STAGES)]
    named = [[folder for folder in own if _parts(folder)[-1:] == [name]] for name in model.folders]
    below = [folder for folder in final if set(_parts(folder)) & set(model.folders)]
    for group in (
        *([folder for folder in same_name if folder in final] for same_name in named),
        *named,
        below,
        final,
    ):
        outer = _outermost(group)
        if outer:
            return outer[0] if len(outer) == 1 else None
    return None


def _may_be(model: KnownModel, folder: str) -> bool:
    """Return whether a folder's name fits; only the multiple-choice model's contains "mcq"."""
    return _mentions(folder, _MULTIPLE_CHOICE) == any(_MULTIPLE_CHOICE in n for n in model.folders)


def _mentions(folder: str, *words: str) -> bool:
    return any(word in part for part in _parts(folder) for word in words)


def _parts(folder: str) -> list[str]:
    return [_letters(part) for part in folder.split("/") if part]


def _letters(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())


def _outermost(folders: Iterable[str]) -> list[str]:
    """Return the folders that are not inside another one."""
    found = list(folders)
    return [
        folder
        for folder in found
        if not any(other != folder and f"{folder}/".startswith(_prefix(other)) for other in found)
    ]


def _prefix(folder: str) -> str:
    return f"{folder}/" if folder else ""
