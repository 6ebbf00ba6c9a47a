"""Arguments of transformers' Trainer from a run's configuration."""

from __future__ import annotations

from typing import Any

import torch
from transformers import TrainingArguments

from vidground.errors import FormatError, InputError
from vidground.storage.reading import read_json_object
from vidground.training.config import RunConfig

_SCHEDULES = {"cosine": "cosine", "linear": "linear", "constant": "constant_with_warmup"}


def training_arguments(config: RunConfig) -> TrainingArguments:
    """Return the arguments of transformers' Trainer for a run."""
    schedule, output, spread = config.schedule, config.output, config.distribution
    return TrainingArguments(
        output_dir=output.dir,
        num_train_epochs=schedule.epochs,
        max_steps=-1 if schedule.max_steps is None else schedule.max_steps,
        per_device_train_batch_size=schedule.batch_size,
        per_device_eval_batch_size=schedule.eval_batch_size,
        gradient_accumulation_steps=schedule.accumulation,
        learning_rate=config.parameters.learning_rate,
        weight_decay=config.parameters.weight_decay,
        warmup_steps=schedule.warmup,  # below 1 it is a share of all steps
        lr_scheduler_type=_SCHEDULES[schedule.decay],
        max_grad_norm=schedule.max_grad_norm,
        seed=schedule.seed,
        data_seed=schedule.seed,
        bf16=schedule.precision == "bfloat16",
        dataloader_num_workers=schedule.workers,
        dataloader_pin_memory=False,
        remove_unused_columns=False,
        logging_nan_inf_filter=False,
        **_every("logging", output.log_every),
        **_every("save", output.save_every),
        **_every("eval", output.eval_every),
        # With 1, transformers would remove the newest checkpoint beside the best one.
        save_total_limit=max(2, output.keep)
        if output.keep and output.model == "best"
        else output.keep,
        report_to=[],
        disable_tqdm=True,
        ddp_find_unused_parameters=False,
        # Without a GPU it must be set, or several processes would train independently.
        use_cpu=spread.cpu or not torch.accelerator.is_available(),
        deepspeed=spread.deepspeed,
        fsdp=spread.fsdp or None,
        fsdp_config=_fsdp_config(spread.fsdp_config),
    )


def _every(what: str, steps: int | None) -> dict[str, Any]:
    if steps is None:
        return {f"{what}_strategy": "no"}
    return {f"{what}_strategy": "steps", f"{what}_steps": steps}


def _fsdp_config(file: str | None) -> dict[str, Any] | None:
    if file is None:
        return None
    try:
        content = read_json_object(file)
    except FormatError as error:
        raise InputError(f"distribution.fsdp_config: {error}") from error
    for key in ("activation_checkpointing", "fsdp_activation_checkpointing"):
        if content.get(key):
            raise InputError(f"{file}: {key} is not supported; use schedule.gradient_checkpointing")
    return dict(content)
