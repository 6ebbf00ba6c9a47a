"""Settings of the objectives: losses, trainable parameters, learning rates. No torch.

Constants that a trained model needs for inference (the evidence layer, the interval threshold,
the decay of the targets) belong to the model: `vidground.model.configuration`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from vidground.errors import InputError

TrainedSet = Literal["released", "full", "full-but-vision", "language"]
"""A set of trainable parameters; see `ParameterSettings.trained`."""


@dataclass(frozen=True, slots=True)
class SftSettings:
    """Loss of supervised fine-tuning (paper, section 3.2).

    Attributes:
        grounding_weight: weight of the relevance loss, or of the matching loss of a model that
            matches frames (1 in E.T. Chat); 0 disables it.
        consistency_weight: weight of the loss between the two `<evi>` outputs of an interval; 0
            disables it. Models without an evidence stage have no such loss.
        target_decay: factor by which the relevance target falls per frame of distance from the
            interval, above 1; null for the model's own (2 in the released weights).
        evidence_stage: false trains on the answer without the `<evi>` tokens before it, so that
            grounding and text are coupled. Saved with the model, which then runs the same way.
            A model that matches frames never has that stage.
        visual_semantics: false reads `<evi>` as a plain token, without the mean of its frames.
            Saved with the model, which then runs the same way.
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
    """Loss of factorized preference optimization (paper, section 3.3).

    Attributes:
        sft: SFT loss of the chosen response, added to the preference loss.
        beta: scale of the log-probability margin, above 0.
        text: compare the text factor of the responses' probabilities.
        grounding: compare the grounding factor of the responses' probabilities.
    """

    sft: SftSettings = field(default_factory=SftSettings)
    beta: float = 0.1
    text: bool = True
    grounding: bool = True

    def __post_init__(self) -> None:
        if self.beta <= 0:
            raise InputError(f"beta is {self.beta}; it must be above 0")
        if not (self.text or self.grounding):
            raise InputError("text and grounding are both false; enable at least one factor")


@dataclass(frozen=True, slots=True)
class LoraSettings:
    """Low-rank adapters (LoRA) on the language model's attention; defaults as released.

    Attributes:
        rank: rank of each update, at least 1.
        alpha: updates are scaled by alpha / rank.
        dropout: share of an adapter's inputs that is dropped, in [0, 1).
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
    """Trainable parameters and their learning rates.

    Attributes:
        trained: the trainable parameters. "released" trains adapters on the language model's
            attention, and in full the embeddings, the output layer, both heads and the compressor
            without the feed-forward layers and embeddings of its Q-Former. "full" trains
            everything, for small models. "full-but-vision" freezes the vision encoder, so that
            patch features can be cached; "language" freezes the compressor as well, so that
            frame tokens can be cached.
        lora: the adapters of the "released" set.
        learning_rate: learning rate of the parameters trained in full.
        lora_learning_rate: learning rate of the adapters.
        compressor_learning_rate: learning rate of the compressor; null for learning_rate.
        memory_learning_rate: learning rate of the language model's first layers, which produce
            the evidence memory, if they are trained in full; null for learning_rate.
        weight_decay: weight decay of AdamW, 0 or above.
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
                "uses it; omit it, or train another set"
            )
        if self.weight_decay < 0:
            raise InputError(f"weight_decay is {self.weight_decay}; it must be 0 or above")
