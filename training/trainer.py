"""transformers' Trainer for our objectives: exact batches, own logs and checkpoints.

Distribution (DDP, FSDP, DeepSpeed) is left to accelerate and only configured. Data come from
`vidground.training.data_loading`, checkpoints are written by `vidground.training.saving`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import (
    EvalPrediction,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from vidground.training.checkpoints import STATE, write_checksums
from vidground.training.data.collation import Collator, Sample
from vidground.training.failures import TrainingError
from vidground.training.objectives.batches import LossCounts, TrainingBatch
from vidground.training.objectives.objective import Objective
from vidground.training.objectives.settings import ParameterSettings
from vidground.training.ordered_trainer import OrderedTrainer
from vidground.training.parameters import parameter_groups
from vidground.training.saving import CheckpointWriter, load_trained, save_trained, write_final
from vidground.training.stopping import StopRequest

_PREFIX = "d2vlm."  # of the model in an objective's state


class ObjectiveTrainer(OrderedTrainer):
    """Trains an `Objective`.

    All means of the loss run over the whole batch: all accumulated parts of all processes. A
    checkpoint is a model that `Grounder` loads, with the state to resume from beside it. SIGINT,
    SIGTERM and SIGHUP save a checkpoint at the end of the step and stop.

    Where transformers expects batches as dictionaries, they are `TrainingBatch` here; signatures
    say `Any`.

    Attributes:
        stop: whether a signal has asked to stop.
        model_files: names of the files and folders of the model in the run's folder, once saved.
    """

    objective: Objective
    parameters: ParameterSettings
    writer: CheckpointWriter
    optimizer: torch.optim.Optimizer | None

    def __init__(
        self,
        objective: Objective,
        arguments: TrainingArguments,
        parameters: ParameterSettings,
        *,
        writer: CheckpointWriter,
        collator: Collator,
        train_data: torch.utils.data.Dataset[Sample],
        eval_data: torch.utils.data.Dataset[Sample] | None = None,
        files: Mapping[str, str] | None = None,
        callbacks: list[TrainerCallback] | None = None,
    ) -> None:
        """Set up devices and the trainer.

        Args:
            objective: the model with its loss.
            arguments: of transformers' trainer.
            parameters: trainable parameters and learning rates.
            writer: writes the model of a checkpoint.
            collator: makes batches.
            train_data: samples to train on.
            eval_data: held-out samples.
            files: SHA-256 of each annotation file, stored in checkpoints.
            callbacks: further callbacks.
        """
        self.objective = objective
        self.parameters = parameters
        self.writer = writer
        self.stop = StopRequest()
        self.model_files: tuple[str, ...] = ()
        self._stops_after_step = False
        self._tally: Tensor | None = None
        self._has_trained = False
        # Set up the devices, then use one: with several, DataParallel would split batches.
        _ = arguments.device
        arguments._n_gpu = min(arguments._n_gpu, 1)
        super().__init__(
            model=objective,
            args=arguments,
            data_collator=collator,
            train_dataset=train_data,
            eval_dataset=eval_data,
            compute_metrics=self._metrics,
            callbacks=[_StepEnd(self), *(callbacks or [])],
            files=files or {},
        )
        # The losses are already divided by the counts of the whole batch.
        self.model_accepts_loss_kwargs = True
        # Both print to standard output.
        self.remove_callback(PrinterCallback)
        self.remove_callback(ProgressCallback)

    @property
    def is_finished(self) -> bool:
        """Whether the run is over, at its last step or by early stopping."""
        stopped_early = self.control.should_training_stop and not self._stops_after_step
        return stopped_early or self.state.global_step >= self.order.last_step

    @property
    def was_stopped(self) -> bool:
        """Whether a signal has ended training before the run was over."""
        return self._stops_after_step and not self.is_finished

    def train(self, resume_from_checkpoint: str | None = None, **options: Any) -> Any:
        """Train from the beginning, or from a checkpoint; see `stop`."""
        with self.stop.on_signals():
            return super().train(resume_from_checkpoint, **options)

    def get_batch_samples(
        self, epoch_iterator: Iterator[TrainingBatch], num_batches: int, device: torch.device
    ) -> tuple[list[TrainingBatch], Any]:
        """Return this process's parts of a batch, and the `LossCounts` of the whole batch."""
        if self.control.should_training_stop:  # by early stopping before it was resumed
            return [], LossCounts(0, 0, 0)
        batches = list(islice(epoch_iterator, num_batches))
        counts = sum((batch.counts for batch in batches), LossCounts(0, 0, 0))
        if self.accelerator.num_processes > 1:
            # All processes stop after the same step, whichever of them was signalled.
            own = [counts.tokens, counts.grounded, counts.samples, int(self._asked_to_stop)]
            everyone = torch.tensor(own, device=device)
            *sums, stops = self.accelerator.reduce(everyone, reduction="sum").tolist()
            counts, self._stops_after_step = LossCounts(*sums), stops > 0
        return batches, counts

    @property
    def _asked_to_stop(self) -> bool:
        return self.stop.number is not None

    def end_step(self, state: TrainerState, control: TrainerControl) -> None:
        """Record the position in epochs, and stop if a signal asked for it."""
        state.epoch = self.order.samples_after(state.global_step) / self.order.count
        if self.accelerator.num_processes == 1:
            self._stops_after_step = self._asked_to_stop
        if self._stops_after_step:
            control.should_save = control.should_training_stop = True

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Any,
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        """Return this part's share of the loss of the whole batch."""
        self._has_trained = True
        outputs = model(inputs, num_items_in_batch)
        sums = outputs["parts"].double().sum(0)
        self._tally = sums if self._tally is None else self._tally + sums
        # Gradients and logs are averaged over processes; the shares must be summed.
        loss = outputs["loss"] * self.accelerator.num_processes
        return (loss, outputs) if return_outputs else loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the parts of the loss since the last log, averaged over all rows.

        Nothing is logged if no step was trained.

        Raises:
            TrainingError: the loss is not finite.
        """
        if "loss" in logs and self._tally is not None:
            sums = self.accelerator.reduce(self._tally, reduction="sum")
            self._tally = None
            logs |= self.objective.means(sums)
            if self.parameters.trained == "released":
                # The schedule scales the rates of all groups alike.
                ratio = self.parameters.lora_learning_rate / self.parameters.learning_rate
                logs["lora_learning_rate"] = logs["learning_rate"] * ratio
            if not math.isfinite(logs["loss"]):
                raise TrainingError(
                    f"the loss is {logs['loss']} near step {self.state.global_step}; resume from "
                    "an earlier checkpoint with lower learning rates or a longer warm-up"
                )
        if "train_runtime" in logs and not self._has_trained:
            return
        logs.pop("total_flos", None)
        super().log(logs, start_time)

    def floating_point_ops(self, inputs: Any) -> int:  # noqa: ARG002 - transformers' signature
        """Return 0: transformers' estimate assumes a plain language model."""
        return 0

    def prediction_step(
        self,
        model: nn.Module,
        inputs: Any,
        prediction_loss_only: bool,  # noqa: ARG002 - transformers' signature
        ignore_keys: list[str] | None = None,  # noqa: ARG002 - as above
    ) -> tuple[None, Tensor, Tensor]:
        """Return the parts of the loss in each row, (B, P, 2); see `Objective.forward`."""
        with torch.no_grad(), self.compute_loss_context_manager():
            parts = model(self._prepare_inputs(inputs))["parts"]
        return None, parts, parts.new_zeros(len(parts))

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Create the optimizer, with a learning rate for each group of parameters."""
        if self.optimizer is None:
            kind, options = self.get_optimizer_cls_and_kwargs(self.args)
            groups = parameter_groups(self.objective if model is None else model, self.parameters)
            self.optimizer = kind(groups, **options)
        made: torch.optim.Optimizer = self.optimizer
        return made

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write the model, so that `Grounder` loads it; to the run's folder if no other is given.

        The folder of a checkpoint also gets the trainable parameters and the run's position.
        """
        wrapped = self.deepspeed if self.is_deepspeed_enabled else self.model
        state = self.accelerator.get_state_dict(wrapped)  # a collective where weights are sharded
        if not self.args.should_save:
            return
        ours = {name.removeprefix(_PREFIX): tensor for name, tensor in state.items()}
        run = Path(str(self.args.output_dir))
        folder = run if output_dir is None else Path(output_dir)
        if folder == run:
            # Without a checkpoint of this step, a run killed now could not be finished.
            trained = () if self._has_checkpoint(run) else self.objective.trained
            self.model_files = write_final(self.writer, folder, ours, trained=trained)
            return
        self.writer.write(folder, ours)
        save_trained(folder, ours, self.objective.trained)
        self.progress().write(folder)

    def _has_checkpoint(self, run: Path) -> bool:
        """Return whether the run can be resumed at this step, or at an earlier one if sharded."""
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            return True
        return (run / f"checkpoint-{self.state.global_step}" / STATE).is_file()

    def load_model(self, checkpoint: Path) -> None:
        """Load the trainable parameters of a checkpoint."""
        load_trained(self.objective.d2vlm, checkpoint, self.objective.trained)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()  # each process writes its own random state
        folder = Path(str(self.args.output_dir)) / f"checkpoint-{self.state.global_step}"
        if self.args.should_save and folder.is_dir():
            write_checksums(folder)

    def _load_from_checkpoint(
        self, resume_from_checkpoint: str, model: nn.Module | None = None
    ) -> None:
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        else:
            self.load_model(Path(resume_from_checkpoint))

    def _prepare_inputs(self, inputs: Any) -> Any:
        return inputs.to(self.args.device)

    def _metrics(self, predicted: EvalPrediction) -> dict[str, float]:
        """Return the means of the loss's parts over a held-out set, and the loss."""
        sums = np.asarray(predicted.predictions, dtype=np.float64).sum(0)
        means = self.objective.means(torch.from_numpy(sums))
        return {"loss": self.objective.total(means), **means}


class _StepEnd(TrainerCallback):  # type: ignore[misc]  # transformers carries no types
    """Calls `ObjectiveTrainer.end_step`."""

    def __init__(self, trainer: ObjectiveTrainer) -> None:
        self._trainer = trainer

    def on_step_end(
        self,
        args: TrainingArguments,  # noqa: ARG002 - transformers' signature
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,  # noqa: ARG002 - as above
    ) -> None:
        self._trainer.end_step(state, control)
