"""The models that have a name of their own, what each is good at, and which folder holds it.

Knows neither files nor the hub: what a repository holds is handed over as names of folders.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vidground.settings import DEFAULT_MODEL

OFFICIAL_REPOSITORY = "wenzhengzeng/D2VLM-Models"
"""Hub repository of the released weights."""

RELEASED_MODEL_TYPE = "etchat_phi3"
"""What config.json calls a D2VLM in the released format, and models of E.T. Chat."""

OFFICIAL_PARAMETERS = 5_020_945_408
"""Of the released size (1,064 tensors)."""
OFFICIAL_LINEAR_WEIGHTS, OFFICIAL_LINEAR_OUTPUTS = 3_623_878_656, 1_015_808
"""Of these, weights of the language model's linear layers; and the outputs of these layers."""

_MULTIPLE_CHOICE = "mcq"
_EARLIER = ("sft", "stage")
"""What names of folders say of states before the last one, or of the models they began as."""


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A model that is found by its name.

    purpose: what it is for. scores: published ones, by metric, in percent. folder: where it is
    installed; None for one on the hub. repository: on the hub. folders: what its folder there is
    called, letters and digits only, likeliest first. aliases: other names it is known under.
    """

    name: str
    purpose: str
    scores: Mapping[str, float] = field(default_factory=dict)
    folder: Path | None = None
    repository: str | None = None
    folders: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()


_MODELS = (
    KnownModel(
        "toy",
        "coloured shapes in short films; for trying vidground out and for tests",
        folder=Path(__file__).parent / "bundled" / "toy",
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
)

KNOWN_MODELS = {model.name: model for model in _MODELS}
"""Models by name, in the order in which they are listed."""


def known_model(name: str) -> KnownModel | None:
    """The known model of this name; capitals, "-" and "_" make no difference."""
    if not re.fullmatch(r"[\w-]+", name):  # a path, or a repository on the hub
        return None
    for model in KNOWN_MODELS.values():
        if _letters(name) in map(_letters, (model.name, *model.aliases)):
            return model
    return None


def choose_folder(model: KnownModel, folders: Sequence[str]) -> str | None:
    """Which folder of its repository holds a known model; None if that is not clear.

    The one that is called as the model is, else the only one that is not known to be another
    model. Of folders inside of each other the outer one counts.

    Args:
        folders: paths in the repository that hold a model; "" is the repository itself.
    """
    own = [folder for folder in folders if _may_be(model, folder)]
    final = [folder for folder in own if not _says(folder, *_EARLIER)]
    called = [[folder for folder in own if _parts(folder)[-1:] == [name]] for name in model.folders]
    below = [folder for folder in final if set(_parts(folder)) & set(model.folders)]
    for group in (
        *([folder for folder in named if folder in final] for named in called),
        *called,
        below,
        final,
    ):
        outer = _outermost(group)
        if outer:
            return outer[0] if len(outer) == 1 else None
    return None


def _may_be(model: KnownModel, folder: str) -> bool:
    """Whether a folder's name fits: multiple choice is in the name of one of the models."""
    return _says(folder, _MULTIPLE_CHOICE) == any(_MULTIPLE_CHOICE in n for n in model.folders)


def _says(folder: str, *words: str) -> bool:
    return any(word in part for part in _parts(folder) for word in words)


def _parts(folder: str) -> list[str]:
    return [_letters(part) for part in folder.split("/") if part]


def _letters(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())


def _outermost(folders: Iterable[str]) -> list[str]:
    """The folders that lie inside of no other one."""
    found = list(folders)
    return [
        folder
        for folder in found
        if not any(other != folder and f"{folder}/".startswith(_prefix(other)) for other in found)
    ]


def _prefix(folder: str) -> str:
    return f"{folder}/" if folder else ""
