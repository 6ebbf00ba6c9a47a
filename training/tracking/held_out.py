"""Best checkpoint and early stopping, by the loss on held-out samples."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

_LOSS = "eval_loss"


@dataclass(frozen=True)
class HeldOutLosses:
    """The held-out losses of a run.

    Attributes:
        best: the lowest finite loss; None before the first.
        best_step: the step it was measured after.
        worse_since: evaluations since then.
    """

    best: float | None = None
    best_step: int | None = None
    worse_since: int = 0

    @classmethod
    def of(cls, state: TrainerState) -> HeldOutLosses:
        """Read them from the log of a trainer's state, which checkpoints contain."""
        losses = [
            (entry[_LOSS] if math.isfinite(entry[_LOSS]) else math.inf, entry["step"])
            for entry in state.log_history
            if _LOSS in entry
        ]
        if not losses:
            return cls()
        best, step = min(losses)
        since = sum(other > step for _, other in losses)
        return cls(best if math.isfinite(best) else None, step, since)


class BestCheckpoint(TrainerCallback):  # type: ignore[misc]  # transformers carries no types
    """Saves a checkpoint whenever the held-out loss is the lowest so far, and keeps it."""

    def __init__(self, run: Path) -> None:
        self._run = run

    def on_train_begin(
        self,
        args: TrainingArguments,  # noqa: ARG002 - transformers' signature
        state: TrainerState,
        control: TrainerControl,  # noqa: ARG002 - as above
        **kwargs: Any,  # noqa: ARG002 - as above
    ) -> None:
        """Find the best checkpoint again, wherever the run's folder is now."""
        self._note(state)

    def on_evaluate(
        self,
        args: TrainingArguments,  # noqa: ARG002 - transformers' signature
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,  # noqa: ARG002 - as above
    ) -> None:
        """Save if the loss is the lowest so far."""
        if self._note(state) == state.global_step:
            control.should_save = True

    def _note(self, state: TrainerState) -> int | None:
        losses = HeldOutLosses.of(state)
        state.best_metric, state.best_global_step = losses.best, losses.best_step
        folder = None if losses.best_step is None else self.folder(losses.best_step)
        # transformers keeps the checkpoint with this name, however many newer ones there are.
        state.best_model_checkpoint = None if folder is None else str(folder)
        return losses.best_step

    def folder(self, step: int) -> Path:
        """Return the folder of a step's checkpoint."""
        return self._run / f"checkpoint-{step}"


class EarlyStop(TrainerCallback):  # type: ignore[misc]  # as above
    """Stops training when the held-out loss has not improved in `patience` evaluations."""

    def __init__(self, patience: int) -> None:
        self._patience = patience

    def on_train_begin(
        self,
        args: TrainingArguments,  # noqa: ARG002 - transformers' signature
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,  # noqa: ARG002 - as above
    ) -> None:
        """Stay stopped if a run that has stopped is resumed."""
        if self._is_over(state):
            control.should_training_stop = True

    def on_evaluate(
        self,
        args: TrainingArguments,  # noqa: ARG002 - transformers' signature
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,  # noqa: ARG002 - as above
    ) -> None:
        """Stop, with a checkpoint, if the loss has not improved for long enough."""
        if self._is_over(state):
            control.should_save = control.should_training_stop = True

    def _is_over(self, state: TrainerState) -> bool:
        return HeldOutLosses.of(state).worse_since >= self._patience
