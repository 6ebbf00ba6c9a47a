"""transformers' Trainer over the samples of a run in a fixed order, resumable at any sample."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from torch.utils.data import DataLoader
from transformers import Trainer, TrainingArguments

from vidground.training.checkpoints import Progress, check_same_data, read_progress
from vidground.training.sample_order import ProcessBatches, RunPosition, SampleOrder, StepSize
from vidground.training.stopping import leave_signals_to_parent


class OrderedTrainer(Trainer):  # type: ignore[misc]  # transformers carries no types
    """Reads samples in the order of `SampleOrder`, which does not end with an epoch.

    For transformers, the part of the run that is left is one epoch.

    Attributes:
        order: the samples from the position that `train` began at.
    """

    order: SampleOrder

    def __init__(self, *args: Any, files: Mapping[str, str], **options: Any) -> None:
        """Set up transformers' trainer.

        Args:
            args: of transformers' trainer.
            files: SHA-256 of each annotation file, stored in checkpoints.
            options: of transformers' trainer.
        """
        super().__init__(*args, **options)
        self._files = dict(files)
        self.order = self._order(RunPosition())

    def train(self, resume_from_checkpoint: str | None = None, **options: Any) -> Any:
        """Train from the beginning, or from a checkpoint.

        Raises:
            InputError: the data have changed since the checkpoint.
            CheckpointError: the checkpoint cannot be read.
        """
        start = RunPosition()
        if resume_from_checkpoint is not None:
            size, count = self.order.size, self.order.count
            progress = read_progress(Path(resume_from_checkpoint), size=size, count=count)
            check_same_data(progress, self._files, count)
            start = progress.position
        self.order = self._order(start)
        return super().train(resume_from_checkpoint=resume_from_checkpoint, **options)

    def progress(self) -> Progress:
        """Return where the run is, for a checkpoint."""
        step = self.state.global_step
        position = RunPosition(step, self.order.samples_after(step))
        return Progress(position, self.order.size, self.order.count, self._files)

    def _order(self, start: RunPosition) -> SampleOrder:
        arguments = self.args
        return SampleOrder(
            count=len(self.train_dataset),
            seed=arguments.seed if arguments.data_seed is None else arguments.data_seed,
            size=StepSize(
                arguments.per_device_train_batch_size,
                arguments.gradient_accumulation_steps,
                arguments.world_size,
            ),
            start=start,
            epochs=arguments.num_train_epochs,
            max_steps=arguments.max_steps if arguments.max_steps > 0 else None,
        )

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Return the batches of this process from the position that the run starts at."""
        return DataLoader(
            self.train_dataset,
            batch_sampler=ProcessBatches(self.order, self.args.process_index),
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
            worker_init_fn=leave_signals_to_parent,
            # Its own, so that starting workers draws nothing from the generator of dropout.
            generator=torch.Generator().manual_seed(self.args.seed),
        )

    def set_initial_training_values(
        self, args: TrainingArguments, dataloader: Any
    ) -> tuple[int, int, int, int, int, int, int]:
        """Return the run's length as transformers asks for it, as one epoch from the start."""
        order, batches = self.order, len(dataloader)
        return (
            int(order.steps > 0),  # epochs
            max(1, order.steps),  # steps in each
            order.count,
            order.total,
            self.get_total_train_batch_size(args),
            batches,
            order.last_step,
        )

    def _init_training_state(self, *args: Any, **options: Any) -> tuple[int, int]:
        super()._init_training_state(*args, **options)
        return 0, 0  # epochs and batches to skip: the order starts at the right sample

    def create_scheduler(
        self,
        num_training_steps: int,  # noqa: ARG002 - transformers' signature
        optimizer: torch.optim.Optimizer | None = None,
    ) -> LRScheduler:
        """Create the learning rate schedule over the whole run; see `SampleOrder`."""
        if self.lr_scheduler is None:
            schedule = super().create_scheduler(self.order.schedule_steps, optimizer)
            if isinstance(schedule, LambdaLR):
                schedule.lr_lambdas = [_placed(s, self.order) for s in schedule.lr_lambdas]
        made: LRScheduler = self.lr_scheduler
        return made

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        schedule, optimizer = self.lr_scheduler, self.optimizer
        if isinstance(schedule, LambdaLR) and optimizer is not None:
            # The stored rates are those of the schedule at the time; it may be longer now.
            shares = [share(schedule.last_epoch) for share in schedule.lr_lambdas]
            rates = [base * share for base, share in zip(schedule.base_lrs, shares, strict=True)]
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate
            schedule._last_lr = rates  # what is logged


def _placed(share: Callable[[Any], float], order: SampleOrder) -> Callable[[float], float]:
    """Return a schedule over the steps of a run from one over steps of the present size."""

    def share_at(step: float) -> float:
        return share(order.schedule_step(int(step)))

    return share_at
