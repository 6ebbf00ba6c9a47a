"""A model and its loss as one module, so that every way of distributing training can wrap it.

Knows neither optimizers nor files. The loss of a part of a batch is weighed by the counts of the
whole, so that parts, accumulated or on several devices, sum up to exactly the whole.
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
    """A model that gives its loss on a batch.

    parts: names of what the loss is made of, and of what is worth a line in a log.
    trained: names of the parameters of `d2vlm` that learn, as they were when this was built.
    """

    parts: tuple[str, ...]

    def __init__(self, model: D2VLM) -> None:
        super().__init__()
        self.d2vlm = model
        self.trained = tuple(n for n, p in model.named_parameters() if p.requires_grad)
        # Sharding asks a model for its sizes; a copy, as trainers write into it.
        self.config = copy.deepcopy(model.config)
        self._no_split_modules = list(D2VLM._no_split_modules)
        self._frozen = tuple(
            name
            for name in ("vision", "compressor")
            if not any(p.requires_grad for p in model.get_submodule(name).parameters())
        )

    def train(self, mode: bool = True) -> Objective:
        """As of every module, but a frozen encoder or compressor stays in evaluation mode."""
        super().train(mode)
        for name in self._frozen:
            self.d2vlm.get_submodule(name).eval()
        return self

    def enable_gradient_checkpointing(self) -> None:
        """Compute the states of layers again in the backward pass, instead of keeping them."""
        model = self.d2vlm
        # Named anew in later versions of transformers, where the old name warns.
        enable = getattr(model, "activation_checkpointing_enable", None)
        (enable or model.gradient_checkpointing_enable)({"use_reentrant": False})

    @abstractmethod
    def forward(self, batch: TrainingBatch, counts: LossCounts | None = None) -> dict[str, Tensor]:
        """Run the model on a batch of B rows.

        Args:
            counts: of the whole batch, if this is only a part of it.

        Returns:
            loss: what to minimize, a scalar. parts: (B, P, 2) float32 without gradient, every
            part's value in a row and its weight; see `means`.
        """

    @abstractmethod
    def total(self, means: Mapping[str, float]) -> float:
        """The loss that belongs to the means of the parts over some rows."""

    def means(self, sums: Tensor) -> dict[str, float]:
        """Means of the parts by name, of their (P, 2) sums; a part that no row has is left out."""
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

    reference: compare with the model as it is now, instead of preferring without a reference as
        the paper does. It shares the parameters that do not learn.
    """

    parts = (*_SFT_PARTS, *_PREFERENCE_PARTS)

    def __init__(self, model: D2VLM, settings: FpoSettings, *, reference: bool = False) -> None:
        super().__init__(model)
        self.settings = settings
        # In a tuple, so that it is no part of this module: not trained, not sharded, not saved.
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
    """(B,) value and (B,) weight of each part."""
    tokens = batch.responses[0].mask.sum(1)
    grounded = batch.responses[0].evidence_mask.any(1)
    return [
        (losses.cross_entropy, tokens),
        (losses.grounding, grounded),
        (losses.consistency, grounded),
    ]


def _preference_parts(losses: FpoLosses) -> list[tuple[Tensor, Tensor]]:
    """As `_sft_parts`; an accuracy is the share of rows whose chosen response is likelier."""
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
    """(B, P, 2) float32 of P pairs of (B,)."""
    pairs = [torch.stack((value.float(), weight.float()), dim=-1) for value, weight in parts]
    return torch.stack(pairs, dim=1).detach()


def _frozen_copy(model: D2VLM) -> D2VLM:
    """A copy in evaluation mode that has its own values only of the parameters that learn."""
    shared = {id(p): p for p in model.parameters() if not p.requires_grad}
    frozen = copy.deepcopy(model, memo=dict(shared))
    frozen.requires_grad_(False)
    frozen.eval()
    return frozen
