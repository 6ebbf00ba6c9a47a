"""A model and its loss as one module, which DDP, FSDP and DeepSpeed can wrap.

The loss of a part of a batch is divided by the counts of the whole batch, so that parts,
accumulated or on several devices, sum to exactly the loss of the whole.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from vidground.model.d2vlm import D2VLM
from vidground.training.objectives.batches import LossCounts, TrainingBatch
from vidground.training.objectives.fpo import FpoLosses, fpo_losses, reference_log_probs
from vidground.training.objectives.settings import FpoSettings, SftSettings
from vidground.training.objectives.sft import SftLosses, sft_losses

_SFT_PARTS = ("cross_entropy", "grounding", "consistency")
_PREFERENCE_PARTS = (
    "preference",
    "text_chosen",
    "text_rejected",
    "text_margin",
    "text_accuracy",
    "grounding_chosen",
    "grounding_rejected",
    "grounding_margin",
    "grounding_accuracy",
)


class Objective(nn.Module, ABC):
    """A model that returns its loss on a batch.

    Attributes:
        parts: names of the loss's parts and of further logged quantities.
        trained: names of the trainable parameters of `d2vlm` at construction.
    """

    parts: tuple[str, ...]

    def __init__(self, model: D2VLM) -> None:
        super().__init__()
        self.d2vlm = model
        self.trained = tuple(n for n, p in model.named_parameters() if p.requires_grad)
        # Sharding reads sizes from it; a copy, because trainers write to it.
        self.config = copy.deepcopy(model.config)
        self._no_split_modules = list(D2VLM._no_split_modules)
        self._frozen = tuple(
            name
            for name in ("vision", "compressor")
            if not any(p.requires_grad for p in model.get_submodule(name).parameters())
        )

    def train(self, mode: bool = True) -> Objective:
        """Set the mode; a frozen encoder or compressor stays in evaluation mode."""
        super().train(mode)
        for name in self._frozen:
            self.d2vlm.get_submodule(name).eval()
        return self

    def enable_gradient_checkpointing(self) -> None:
        """Recompute the layers' activations in the backward pass instead of storing them."""
        model = self.d2vlm
        # Renamed in later versions of transformers, where the old name warns.
        enable = getattr(model, "activation_checkpointing_enable", None)
        (enable or model.gradient_checkpointing_enable)({"use_reentrant": False})

    @abstractmethod
    def forward(self, batch: TrainingBatch, counts: LossCounts | None = None) -> dict[str, Tensor]:
        """Run the model on a batch of B rows.

        Args:
            batch: samples of the objective's kind.
            counts: denominators of the whole batch, if this is one part of it.

        Returns:
            "loss", a scalar; "parts", (B, P, 2) float32 without gradient: value and weight of
            each part in each row, see `means`.
        """

    @abstractmethod
    def total(self, means: Mapping[str, float]) -> float:
        """Return the loss that follows from the means of its parts."""

    def means(self, sums: Tensor) -> dict[str, float]:
        """Return the parts' means by name from their (P, 2) sums, omitting parts of weight 0."""
        pairs = zip(self.parts, sums.tolist(), strict=True)
        return {name: value / weight for name, (value, weight) in pairs if weight > 0}


class SftObjective(Objective):
    """Supervised fine-tuning (paper, section 3.2). Takes batches of `SftSample`."""

    parts = _SFT_PARTS

    def __init__(self, model: D2VLM, settings: SftSettings) -> None:
        super().__init__(model)
        self.settings = settings

    def forward(self, batch: TrainingBatch, counts: LossCounts | None = None) -> dict[str, Tensor]:
        """See `Objective.forward`."""
        losses = sft_losses(self.d2vlm, batch, self.settings)
        parts = _stacked(_sft_parts(losses, batch))
        return {"loss": losses.total(self.settings, counts), "parts": parts}

    def total(self, means: Mapping[str, float]) -> float:
        """See `Objective.total`."""
        return _sft_total(means, self.settings)


class FpoObjective(Objective):
    """Factorized preference optimization (paper, section 3.3). Takes batches of `PreferenceSample`.

    Args:
        model: the model to train.
        settings: of the loss.
        reference: compare with a copy of the model as it is now; the paper uses no reference.
            Frozen parameters are shared with the copy.
    """

    parts = (*_SFT_PARTS, *_PREFERENCE_PARTS)

    def __init__(self, model: D2VLM, settings: FpoSettings, *, reference: bool = False) -> None:
        super().__init__(model)
        self.settings = settings
        # In a tuple, so that it is not registered: not trained, sharded or saved.
        self._reference = (_frozen_copy(model),) if reference else ()

    def forward(self, batch: TrainingBatch, counts: LossCounts | None = None) -> dict[str, Tensor]:
        """See `Objective.forward`."""
        reference = None
        for model in self._reference:
            model.to(batch.frames.device)
            reference = reference_log_probs(model, batch, self.settings)
        losses = fpo_losses(self.d2vlm, batch, self.settings, reference=reference)
        parts = _stacked([*_sft_parts(losses.sft, batch), *_preference_parts(losses)])
        return {"loss": losses.total(self.settings, counts), "parts": parts}

    def total(self, means: Mapping[str, float]) -> float:
        """See `Objective.total`."""
        return _sft_total(means, self.settings.sft) + means.get("preference", 0.0)


def _sft_total(means: Mapping[str, float], settings: SftSettings) -> float:
    weights = (1.0, settings.grounding_weight, settings.consistency_weight)
    return sum(w * means.get(name, 0.0) for w, name in zip(weights, _SFT_PARTS, strict=True))


def _sft_parts(losses: SftLosses, batch: TrainingBatch) -> list[tuple[Tensor, Tensor]]:
    """Return the value, (B,), and weight, (B,), of each part."""
    tokens = batch.responses[0].mask.sum(1)
    grounded = batch.responses[0].evidence_mask.any(1)
    return [
        (losses.cross_entropy, tokens),
        (losses.grounding, grounded),
        (losses.consistency, grounded),
    ]


def _preference_parts(losses: FpoLosses) -> list[tuple[Tensor, Tensor]]:
    """See `_sft_parts`; accuracy is the share of rows whose chosen response is more likely."""
    terms, grounded = losses.preference, losses.grounded
    every = torch.ones_like(grounded)
    text = (losses.chosen.text, losses.rejected.text, terms.text_margin, terms.text_margin > 0)
    grounding = (
        losses.chosen.grounding,
        losses.rejected.grounding,
        terms.grounding_margin,
        terms.grounding_margin > 0,
    )
    return [
        (terms.loss, every),
        *((value, every) for value in text),
        *((value * grounded, grounded) for value in grounding),
    ]


def _stacked(parts: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """Stack P pairs of (B,) to (B, P, 2) float32."""
    pairs = [torch.stack((value.float(), weight.float()), dim=-1) for value, weight in parts]
    return torch.stack(pairs, dim=1).detach()


def _frozen_copy(model: D2VLM) -> D2VLM:
    """Return a copy in evaluation mode that shares the frozen parameters."""
    shared = {id(p): p for p in model.parameters() if not p.requires_grad}
    frozen = copy.deepcopy(model, memo=dict(shared))
    frozen.requires_grad_(False)
    frozen.eval()
    return frozen
