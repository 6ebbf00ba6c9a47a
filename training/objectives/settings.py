"""What is trained for and how: objectives, parameter sets, learning rates. No torch.

Each number stands here once. Of the method's constants, those that a trained model needs when it
answers (the evidence layer, the interval threshold, the targets' decay) belong to the model:
`vidground.model.configuration`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from vidground.errors import InputError

TrainedSet = Literal["released", "full", "full-but-vision", "language"]
"""Which parameters learn; see `ParameterSettings.trained`."""


@dataclass(frozen=True, slots=True)
class SftSettings:
    """The loss of supervised fine-tuning (paper, section 3.2).

    grounding_weight: weight of the relevance loss; 0 leaves it out.
    consistency_weight: weight of the loss that makes both mentions of an interval alike; 0
        leaves it out.
    target_decay: base of the relevance target's fall per frame of distance from the interval,
        above 1; None for the model's own (2 for the released weights).
    evidence_stage: False trains on the answer alone, without the `<evi>` before it: grounding
        and text coupled.
    visual_semantics: False reads an `<evi>` as a plain token, without what its interval shows.

    A model is saved with the last two, and runs as it was trained.
    """

    grounding_weight: float = 10.0
    consistency_weight: float = 10.0
    target_decay: float | None = None
    evidence_stage: bool = True
    visual_semantics: bool = True

    def __post_init__(self) -> None:
        for name in ("grounding_weight", "consistency_weight"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} is {getattr(self, name)}; it must be 0 or above")
        if self.target_decay is not None and self.target_decay <= 1:
            raise InputError(f"target_decay is {self.target_decay}; it must be above 1")


@dataclass(frozen=True, slots=True)
class FpoSettings:
    """The loss of factorized preference optimization (paper, section 3.3).

    sft: of the chosen response, which is imitated at the same time.
    beta: how strongly a difference of log-probabilities counts, above 0.
    text, grounding: which factors of a response's probability are compared; at least one.
    """

    sft: SftSettings = field(default_factory=SftSettings)
    beta: float = 0.1
    text: bool = True
    grounding: bool = True

    def __post_init__(self) -> None:
        if self.beta <= 0:
            raise InputError(f"beta is {self.beta}; it must be above 0")
        if not (self.text or self.grounding):
            raise InputError("text and grounding are both off; leave at least one factor on")


@dataclass(frozen=True, slots=True)
class LoraSettings:
    """Low-rank adapters on the language model's attention; the defaults are the released ones.

    rank: of each update, at least 1. alpha: updates are scaled by alpha / rank.
    dropout: share of an adapter's inputs dropped, in [0, 1).
    """

    rank: int = 128
    alpha: int = 256
    dropout: float = 0.05

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise InputError(f"LoRA rank is {self.rank}; it must be at least 1")
        if self.alpha <= 0:
            raise InputError(f"LoRA alpha is {self.alpha}; it must be above 0")
        if not 0 <= self.dropout < 1:
            raise InputError(f"LoRA dropout is {self.dropout}; it must be in [0, 1)")


@dataclass(frozen=True, slots=True)
class ParameterSettings:
    """Which parameters learn, and how fast.

    trained: "released" for the released set: adapters on the language model's attention, and in
        full the embeddings, the output layer, both heads, and the compressor but its Q-Former's
        feed-forward layers and embeddings. "full" for everything, for small models;
        "full-but-vision" leaves the vision encoder as it is, so that patch features can be kept;
        "language" leaves the compressor as it is, too, so that frame tokens can be kept.
    learning_rate: of parameters trained in full. lora_learning_rate: of the adapters.
    compressor_learning_rate: of the compressor's; None for `learning_rate`.
    memory_learning_rate: of the language model's first layers, those that make the evidence
        memory, as far as they are trained in full; None for `learning_rate`.
    """

    trained: TrainedSet = "released"
    lora: LoraSettings = field(default_factory=LoraSettings)
    learning_rate: float = 2e-5
    lora_learning_rate: float = 5e-5
    compressor_learning_rate: float | None = None
    memory_learning_rate: float | None = None
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        sets = get_args(TrainedSet)
        if self.trained not in sets:
            raise InputError(f"trained is {self.trained!r}; it must be one of {', '.join(sets)}")
        for name in (rate for rate in self.__slots__ if rate.endswith("learning_rate")):
            if getattr(self, name) is not None and getattr(self, name) <= 0:
                raise InputError(f"{name} is {getattr(self, name)}; it must be above 0")
        idle = {"language": "compressor", "released": "memory"}.get(self.trained)
        rate = None if idle is None else getattr(self, f"{idle}_learning_rate")
        if rate is not None:
            raise InputError(
                f"{idle}_learning_rate is {rate}, and with trained {self.trained!r} no parameter "
                "has it; leave it out, or train another set"
            )
        if self.weight_decay < 0:
            raise InputError(f"weight_decay is {self.weight_decay}; it must be 0 or above")
