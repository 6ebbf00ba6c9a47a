"""A training run from its configuration: model, data, trainer, and what is left in its folder.

The folder holds the configuration (config.yaml), the log (log.jsonl), checkpoints, and at the end
the model itself. Knows no command line.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainingArguments, set_seed
from transformers.utils import logging as transformers_logging

from vidground.checkpoints.model_folder import remove_weights
from vidground.errors import InputError
from vidground.model.configuration import D2VLMConfig
from vidground.model.d2vlm import D2VLM
from vidground.storage.atomic import make_folder, write_atomically
from vidground.training.config import RunConfig, read_config
from vidground.training.data.collation import Collator
from vidground.training.data_loading import load_data
from vidground.training.failures import run_failures
from vidground.training.logs import LOG, JsonLog, StepBar, TensorBoardLog
from vidground.training.objectives.objective import FpoObjective, Objective, SftObjective
from vidground.training.objectives.settings import FpoSettings, SftSettings
from vidground.training.parameters import count_parameters, prepare_parameters
from vidground.training.saving import (
    AdapterWriter,
    CheckpointWriter,
    MergedWriter,
    checkpoints,
    last_checkpoint,
)
from vidground.training.starting_model import Start, base_for_adapters, load_start
from vidground.training.trainer import ObjectiveTrainer

CONFIG = "config.yaml"
TENSORBOARD = "tensorboard"

_logger = logging.getLogger(__name__)
_SCHEDULES = {"cosine": "cosine", "linear": "linear", "constant": "constant_with_warmup"}
# What may change when a run goes on; the rest makes it another run.
_MAY_CHANGE = frozenset({"output", "schedule", "distribution"})


def run_training(
    config: RunConfig, *, resume: bool = False, overwrite: bool = False, quiet: bool = False
) -> Path:
    """Train, and write the model into the run's folder.

    Args:
        resume: go on from the folder's last checkpoint, if there is one.
        overwrite: remove the run that the folder holds.
        quiet: show no bars.

    Returns:
        the run's folder, which `Grounder` loads.

    Raises:
        VidgroundError: the configuration, the model or the data cannot be used, or the folder
            cannot be written to.
    """
    folder = Path(config.output.dir)
    with run_failures(folder):
        _run(config, folder, resume=resume, overwrite=overwrite, quiet=quiet)
    return folder


def _run(config: RunConfig, folder: Path, *, resume: bool, overwrite: bool, quiet: bool) -> None:
    transformers_logging.disable_progress_bar()
    main_process = os.environ.get("RANK", "0") == "0"  # set by torchrun and accelerate
    # By all processes, so that none is left waiting for one that has ended.
    check_folder(config, resume=resume, overwrite=overwrite)
    checkpoint = last_checkpoint(folder) if resume else None
    trainer = build_trainer(config, quiet=quiet)
    # Only now, when nothing is known to be wrong, is anything written or removed.
    if main_process:
        if overwrite:
            _remove_run(folder)
        write_atomically(folder / CONFIG, config.to_yaml())
    if checkpoint is not None:
        _logger.info("going on from %s", checkpoint)
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    trainer.save_model()


def leave_group() -> None:
    """Leave the group of processes that trained together, if there is one; then Python may end.

    A thread of a group that is still there may let go of a tensor while Python ends: the process
    aborts, and torchrun calls the finished training failed. The group waits for its threads when
    nothing holds it any more, which a trainer does: to be called once that is out of use.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        gc.collect()  # trainer and callbacks hold each other
        torch.distributed.destroy_process_group()


def check_folder(config: RunConfig, *, resume: bool, overwrite: bool) -> None:
    """See that the run may write into its folder.

    Raises:
        InputError: the folder holds something, and neither `resume` nor `overwrite` is asked
            for; or it holds a run of another configuration.
    """
    folder = Path(config.output.dir)
    if resume and overwrite:
        raise InputError("--resume goes on with a run, --overwrite removes it; choose one")
    if resume and (folder / CONFIG).is_file():
        _check_same(config, read_config(config.objective, folder / CONFIG), folder)
    elif not overwrite and folder.is_dir() and any(folder.iterdir()):
        raise InputError(
            f"{folder} is not empty; give another folder, --resume to go on with its run, or "
            "--overwrite to remove it"
        )


def build_trainer(config: RunConfig, *, quiet: bool = False) -> ObjectiveTrainer:
    """The trainer of a run, ready for `train`."""
    arguments = training_arguments(config)
    set_seed(config.schedule.seed)  # the adapters' start is random
    start = load_start(config.model, seed=config.schedule.seed)
    dtype = start.model.dtype
    _answer_as_trained(start.config, config.sft)
    prepare_parameters(start.model, config.parameters)
    _logger.info("%s", count_parameters(start.model))
    objective = _objective(config, start.model)
    if config.schedule.gradient_checkpointing:
        objective.enable_gradient_checkpointing()
    train_data, eval_data = load_data(
        config.data, config.objective, start.model, arguments, quiet=quiet
    )
    make_folder(config.output.dir)  # transformers makes it too, and tells less if it cannot
    return ObjectiveTrainer(
        objective,
        arguments,
        config.parameters,
        writer=_writer(config, start, objective, dtype),
        collator=Collator.of(start.config, config.sft),
        train_data=train_data,
        eval_data=eval_data,
        callbacks=_callbacks(config, quiet=quiet),
    )


def training_arguments(config: RunConfig) -> TrainingArguments:
    """What transformers' Trainer is told of a run."""
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
        dataloader_persistent_workers=schedule.workers > 0,
        dataloader_pin_memory=False,
        remove_unused_columns=False,
        logging_nan_inf_filter=False,
        **_every("logging", output.log_every),
        **_every("save", output.save_every),
        **_every("eval", output.eval_every),
        save_total_limit=output.keep,
        report_to=[],
        disable_tqdm=True,
        ddp_find_unused_parameters=False,
        # Without a GPU it must be said: several processes would else train apart, each on its own.
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
        content = json.loads(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"distribution.fsdp_config: {file} cannot be read: {error}") from error
    for key in ("activation_checkpointing", "fsdp_activation_checkpointing"):
        if content.get(key):
            raise InputError(f"{file}: {key} does not fit; use schedule.gradient_checkpointing")
    return dict(content)


def _answer_as_trained(model: D2VLMConfig, settings: SftSettings) -> None:
    """Have the model run as its responses are trained, from now on and wherever it is loaded."""
    now = {
        "evidence_stage": settings.evidence_stage,
        "evidence_semantics": settings.visual_semantics,
    }
    for name, value in now.items():
        if getattr(model, name) != value:
            _logger.info("%s was %s in the model and is %s now", name, not value, value)
            setattr(model, name, value)


def _objective(config: RunConfig, model: D2VLM) -> Objective:
    if isinstance(config.loss, FpoSettings):
        return FpoObjective(model, config.loss, reference=config.reference)
    return SftObjective(model, config.loss)


def _writer(
    config: RunConfig, start: Start, objective: Objective, dtype: torch.dtype
) -> CheckpointWriter:
    model, lora = start.model, config.parameters.lora
    if config.output.weights == "merged":
        return MergedWriter(start.config, model.tokenizers, dtype, lora)
    base = base_for_adapters(start)
    return AdapterWriter(base.config, base.name, model.tokenizers, lora, objective.trained)


def _callbacks(config: RunConfig, *, quiet: bool) -> list[TrainerCallback]:
    folder = Path(config.output.dir)
    board = [TensorBoardLog(folder / TENSORBOARD)] if config.output.tensorboard else []
    bars = [] if quiet else [StepBar()]
    return [JsonLog(folder), *bars, *board]


def _check_same(config: RunConfig, earlier: RunConfig, folder: Path) -> None:
    for name in RunConfig.__slots__:
        if name not in _MAY_CHANGE and getattr(config, name) != getattr(earlier, name):
            raise InputError(
                f"{folder} holds a run of another {name}: {getattr(earlier, name)}; resume "
                "with its settings, or give another folder"
            )


def _remove_run(folder: Path) -> None:
    """Remove what a run writes, and nothing else."""
    for path in [*checkpoints(folder), folder / TENSORBOARD]:
        if path.is_dir():
            shutil.rmtree(path)
    remove_weights(folder)
    for name in (LOG, CONFIG):
        (folder / name).unlink(missing_ok=True)
