"""transformers' Trainer for our objectives: exact batches, own logs and checkpoints.

Whatever distributes the training (DDP, FSDP, DeepSpeed) is accelerate's matter and only
configured. Knows neither where data come from nor how checkpoints are laid out
(`vidground.training.saving`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from transformers import EvalPrediction, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from vidground.errors import VidgroundError
from vidground.training.data.collation import Collator, Sample
from vidground.training.objectives.batches import LossCounts, TrainingBatch
from vidground.training.objectives.objective import Objective
from vidground.training.objectives.settings import ParameterSettings
from vidground.training.parameters import parameter_groups
from vidground.training.saving import CheckpointWriter, load_trained, save_trained

_PREFIX = "d2vlm."  # of the model in an objective's state


class TrainingError(VidgroundError):
    """Training cannot go on: at which step, why, and what to change."""


class ObjectiveTrainer(Trainer):  # type: ignore[misc]  # transformers carries no types
    """Trains an `Objective`.

    Every mean of the loss runs over the whole batch: all accumulated parts of all processes.
    (At the end of an epoch that does not divide among the processes, some samples are repeated.)
    A checkpoint is a model that `Grounder` loads, with what is needed to go on beside it.

    Where transformers says that batches are dictionaries, they are `TrainingBatch` here; the
    signatures say `Any`.
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
        callbacks: list[TrainerCallback] | None = None,
    ) -> None:
        self.objective = objective
        self.parameters = parameters
        self.writer = writer
        self._tally: Tensor | None = None
        self._has_trained = False
        # Set up the devices, then train on one: with several, DataParallel would split batches.
        _ = arguments.device
        arguments._n_gpu = min(arguments._n_gpu, 1)
        super().__init__(
            model=objective,
            args=arguments,
            data_collator=collator,
            train_dataset=train_data,
            eval_dataset=eval_data,
            compute_metrics=self._metrics,
            callbacks=callbacks,
        )
        # The losses are divided by the counts of the whole batch, so they need no division more.
        self.model_accepts_loss_kwargs = True
        # Both write to standard output.
        self.remove_callback(PrinterCallback)
        self.remove_callback(ProgressCallback)

    def get_batch_samples(
        self, epoch_iterator: Iterator[TrainingBatch], num_batches: int, device: torch.device
    ) -> tuple[list[TrainingBatch], Any]:
        """The parts of this process, and the `LossCounts` of the whole batch of all processes.

        None, when a run that is over goes on: transformers would train a step more.
        """
        if self.state.global_step >= self.state.max_steps:
            self.control.should_training_stop = True
            return [], LossCounts(0, 0, 0)
        batches = list(islice(epoch_iterator, num_batches))
        counts = sum((batch.counts for batch in batches), LossCounts(0, 0, 0))
        if self.accelerator.num_processes > 1:
            own = torch.tensor([counts.tokens, counts.grounded, counts.samples], device=device)
            counts = LossCounts(*self.accelerator.reduce(own, reduction="sum").tolist())
        return batches, counts

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Any,
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        """This part's share of the loss of the whole batch, whose counts are given."""
        self._has_trained = True
        outputs = model(inputs, num_items_in_batch)
        sums = outputs["parts"].double().sum(0)
        self._tally = sums if self._tally is None else self._tally + sums
        # Processes are averaged, in gradients and in logs; their shares are to be summed up.
        loss = outputs["loss"] * self.accelerator.num_processes
        return (loss, outputs) if return_outputs else loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the parts of the loss since the last log, each averaged over all rows it has.

        Nothing is told of a training without a step.

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
        """0: what transformers counts with is made for plain language models."""
        return 0

    def prediction_step(
        self,
        model: nn.Module,
        inputs: Any,
        prediction_loss_only: bool,  # noqa: ARG002 - transformers' signature
        ignore_keys: list[str] | None = None,  # noqa: ARG002 - as above
    ) -> tuple[None, Tensor, Tensor]:
        """The parts of the loss in each row, (B, P, 2); see `Objective.forward`."""
        with torch.no_grad(), self.compute_loss_context_manager():
            parts = model(self._prepare_inputs(inputs))["parts"]
        return None, parts, parts.new_zeros(len(parts))

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """The optimizer of the arguments, with a learning rate for each group of parameters."""
        if self.optimizer is None:
            kind, options = self.get_optimizer_cls_and_kwargs(self.args)
            groups = parameter_groups(self.objective if model is None else model, self.parameters)
            self.optimizer = kind(groups, **options)
        made: torch.optim.Optimizer = self.optimizer
        return made

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write the model, so that `Grounder` loads it."""
        wrapped = self.deepspeed if self.is_deepspeed_enabled else self.model
        state = self.accelerator.get_state_dict(wrapped)  # a collective where weights are sharded
        if not self.args.should_save:
            return
        ours = {name.removeprefix(_PREFIX): tensor for name, tensor in state.items()}
        run = Path(str(self.args.output_dir))
        folder = run if output_dir is None else Path(output_dir)
        self.writer.write(folder, ours)
        if folder != run:
            save_trained(folder, ours, self.objective.trained)

    def _load_from_checkpoint(
        self, resume_from_checkpoint: str, model: nn.Module | None = None
    ) -> None:
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        else:
            load_trained(self.objective.d2vlm, Path(resume_from_checkpoint), self.objective.trained)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        schedule, optimizer = self.lr_scheduler, self.optimizer
        if isinstance(schedule, LambdaLR) and optimizer is not None:
            # The stored rates are of the schedule as it was; a longer one has others here.
            shares = [share(schedule.last_epoch) for share in schedule.lr_lambdas]
            rates = [base * share for base, share in zip(schedule.base_lrs, shares, strict=True)]
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate
            schedule._last_lr = rates  # what is logged

    def _prepare_inputs(self, inputs: Any) -> Any:
        return inputs.to(self.args.device)

    def _metrics(self, predicted: EvalPrediction) -> dict[str, float]:
        """Means of the parts over a held-out set, and the loss that they make."""
        sums = np.asarray(predicted.predictions, dtype=np.float64).sum(0)
        means = self.objective.means(torch.from_numpy(sums))
        return {"loss": self.objective.total(means), **means}
