"""A training run from its configuration: checks, model, data, trainer, and the run's folder.

The folder holds the configuration (config.yaml), the log (log.jsonl), checkpoints, and at the end
the model itself.
"""

from __future__ import annotations

import gc
import logging
import os
import shutil
import signal
from pathlib import Path

import torch
from transformers import set_seed
from transformers.utils import logging as transformers_logging

from vidground.checkpoints.model_folder import remove_weights
from vidground.errors import FormatError, InputError
from vidground.model.configuration import D2VLMConfig
from vidground.model.d2vlm import D2VLM
from vidground.storage.atomic import make_folder, write_atomically
from vidground.training.arguments import training_arguments
from vidground.training.checkpoints import (
    PROGRESS,
    checkpoints,
    file_digests,
    read_progress,
    usable_checkpoint,
)
from vidground.training.config import DataSource, RunConfig, read_config
from vidground.training.config_checks import check_objective
from vidground.training.data.collation import Collator
from vidground.training.data_loading import load_data, read_annotations
from vidground.training.failures import run_failures
from vidground.training.logs import LOG
from vidground.training.objectives.objective import FpoObjective, Objective, SftObjective
from vidground.training.objectives.settings import FpoSettings, SftSettings
from vidground.training.parameters import count_parameters, prepare_parameters
from vidground.training.saving import (
    AdapterWriter,
    CheckpointWriter,
    MergedWriter,
    ended_run,
    remove_ended,
    remove_staging,
)
from vidground.training.starting_model import (
    Start,
    base_for_adapters,
    load_start,
)
from vidground.training.stopping import TrainingInterrupted
from vidground.training.tracking.boards import TENSORBOARD, WANDB_ID
from vidground.training.tracking.callbacks import check_services, run_callbacks
from vidground.training.tracking.curves import CURVES
from vidground.training.tracking.held_out import HeldOutLosses
from vidground.training.tracking.publishing import publish
from vidground.training.trainer import ObjectiveTrainer

CONFIG = "config.yaml"

_logger = logging.getLogger(__name__)
# Sections that may change when a run is resumed; other changes would make it another run.
_MAY_CHANGE = frozenset({"output", "schedule", "distribution"})


def run_training(
    config: RunConfig, *, resume: bool = False, overwrite: bool = False, quiet: bool = False
) -> Path:
    """Train, and write the model into the run's folder.

    Args:
        config: of the run.
        resume: continue from the folder's newest usable checkpoint, if there is one.
        overwrite: remove the run that the folder contains.
        quiet: show no progress.

    Returns:
        The run's folder, which `Grounder` loads.

    Raises:
        VidgroundError: the configuration, the model or the data cannot be used, or the folder
            cannot be written to.
        TrainingInterrupted: a signal has stopped the run; a checkpoint is saved.
    """
    folder = Path(config.output.dir)
    with run_failures(folder):
        _run(config, folder, resume=resume, overwrite=overwrite, quiet=quiet)
    return folder


def _run(config: RunConfig, folder: Path, *, resume: bool, overwrite: bool, quiet: bool) -> None:
    transformers_logging.disable_progress_bar()
    main_process = os.environ.get("RANK", "0") == "0"  # set by torchrun and accelerate
    # In all processes, so that none is left waiting for one that has ended.
    check_folder(config, resume=resume, overwrite=overwrite)
    ended = ended_run(folder) if resume else None
    checkpoint = usable_checkpoint(folder) if resume and ended is None else None
    trainer = build_trainer(config, quiet=quiet)
    # Nothing is written or removed before all checks have passed.
    if main_process:
        if overwrite:
            _remove_run(folder)
        remove_staging(folder)
        write_atomically(folder / CONFIG, config.to_yaml())
    if ended is not None:
        _logger.info(
            "the run has ended without a checkpoint to train further from; writing its model"
        )
        trainer.load_model(ended)
        _write_model(trainer, config, main_process=main_process)
        return
    if checkpoint is not None:
        _report_resumed(trainer, checkpoint)
    elif resume:
        _logger.info("%s has no checkpoint; starting from the beginning", folder)
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    if trainer.was_stopped:
        raise _interrupted(trainer, config)
    _finish(trainer, config, main_process=main_process)


def _finish(trainer: ObjectiveTrainer, config: RunConfig, *, main_process: bool) -> None:
    """Choose the model of the run, write it, and publish it if asked to."""
    folder = Path(config.output.dir)
    best = HeldOutLosses.of(trainer.state)
    if config.output.model == "best" and best.best_step not in (None, trainer.state.global_step):
        trainer.load_model(folder / f"checkpoint-{best.best_step}")
        _logger.info("the model is that of step %d, the best held-out loss", best.best_step)
    _write_model(trainer, config, main_process=main_process)


def _write_model(trainer: ObjectiveTrainer, config: RunConfig, *, main_process: bool) -> None:
    folder = Path(config.output.dir)
    trainer.save_model()
    if config.output.hub is not None and main_process:
        address = publish(folder, config, trainer.model_files)
        _logger.info("uploaded to %s", address)


def _report_resumed(trainer: ObjectiveTrainer, checkpoint: Path) -> None:
    before = read_progress(checkpoint, size=trainer.order.size, count=trainer.order.count)
    _logger.info("resuming from %s, after %d samples", checkpoint, before.position.samples)
    if not (checkpoint / PROGRESS).is_file():
        _logger.warning("an earlier version began the run, and read samples in another order")
    now = trainer.order.size
    if before.size.samples != now.samples:
        _logger.info(
            "a step takes %d samples now and took %d before; no sample is lost or repeated",
            now.samples,
            before.size.samples,
        )
    if before.size.processes != now.processes:
        if trainer.is_deepspeed_enabled:
            raise InputError(
                f"{checkpoint} is sharded over {before.size.processes} processes, and there are "
                f"{now.processes}; DeepSpeed resumes with the same number only"
            )
        _logger.info("dropout differs from a run with %d processes", before.size.processes)


def _interrupted(trainer: ObjectiveTrainer, config: RunConfig) -> TrainingInterrupted:
    step, folder = trainer.state.global_step, config.output.dir
    return TrainingInterrupted(
        f"stopped by {trainer.stop.name or 'a signal to another process'} after step {step} of "
        f"{trainer.order.last_step}, with a checkpoint; continue with: vidground train "
        f"{config.objective} --output-dir {folder} --resume",
        trainer.stop.number or signal.SIGTERM,
    )


def leave_group() -> None:
    """Leave the group of processes that trained together, if there is one.

    A thread of a group that still exists may release a tensor while Python exits: the process
    aborts, and torchrun reports the finished training as failed. Destroying the group waits for
    its threads once nothing refers to it. Call this when the trainer is no longer in use.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        gc.collect()  # trainer and callbacks refer to each other
        torch.distributed.destroy_process_group()


def check_folder(config: RunConfig, *, resume: bool, overwrite: bool) -> None:
    """Check that the run may write into its folder.

    Raises:
        InputError: the folder is not empty, and neither `resume` nor `overwrite` is set; or it
            contains a run with another configuration.
    """
    folder = Path(config.output.dir)
    if resume and overwrite:
        raise InputError("--resume continues a run, --overwrite removes it; choose one")
    if resume and (folder / CONFIG).is_file():
        _check_same(config, read_config(config.objective, folder / CONFIG), folder)
    elif not overwrite and folder.is_dir() and any(folder.iterdir()):
        raise InputError(
            f"{folder} is not empty; choose another folder, or use --resume to continue its run or "
            "--overwrite to remove it"
        )


def build_trainer(config: RunConfig, *, quiet: bool = False) -> ObjectiveTrainer:
    """Return the trainer of a run, ready for `train`.

    Everything that can be checked without the model is checked before it is loaded or fetched.

    Raises:
        VidgroundError: the configuration, the model or the data cannot be used.
    """
    arguments = training_arguments(config)
    check_services(config)
    annotations = read_annotations(config.data, config.objective, quiet=quiet)
    _check_folders(config)
    set_seed(config.schedule.seed)  # adapters start at random
    start = load_start(config.model, seed=config.schedule.seed)
    dtype = start.model.dtype
    check_objective(config, start.config)
    _answer_as_trained(start.config, config.sft)
    precision = getattr(torch, config.schedule.precision)
    prepare_parameters(start.model, config.parameters, precision=precision)
    _logger.info("%s", count_parameters(start.model))
    objective = _objective(config, start.model)
    if config.schedule.gradient_checkpointing:
        objective.enable_gradient_checkpointing()
    train_data, eval_data = load_data(annotations, config.data, start.model, arguments, quiet=quiet)
    return ObjectiveTrainer(
        objective,
        arguments,
        config.parameters,
        writer=_writer(config, start, objective, dtype),
        collator=Collator.of(start.config, config.sft),
        train_data=train_data,
        eval_data=eval_data,
        files=file_digests(annotation_files(config.data)),
        callbacks=run_callbacks(config, quiet=quiet),
    )


def annotation_files(data: DataSource) -> tuple[str, ...]:
    """Return the files of all samples to train on, whose order a run depends on."""
    return tuple(file for item in data.all_sets for file in item.annotations)


def _check_folders(config: RunConfig) -> None:
    """Create the folders that the run writes to, and check that they can be written to."""
    for folder in filter(None, (config.output.dir, config.data.cache)):
        make_folder(folder)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise FormatError(f"{folder}: cannot be written: no permission; choose another folder")


def _answer_as_trained(model: D2VLMConfig, settings: SftSettings) -> None:
    """Configure the model to run as it is trained, also where it is loaded later."""
    now = {
        "evidence_stage": settings.evidence_stage and not model.matches,
        "evidence_semantics": settings.visual_semantics,
    }
    for name, value in now.items():
        if getattr(model, name) != value:
            _logger.info("%s was %s in the model and is now %s", name, not value, value)
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


def _check_same(config: RunConfig, earlier: RunConfig, folder: Path) -> None:
    for name in RunConfig.__slots__:
        if name not in _MAY_CHANGE and getattr(config, name) != getattr(earlier, name):
            raise InputError(
                f"{folder} contains a run with different {name} settings: "
                f"{getattr(earlier, name)}; resume with those, or choose another folder"
            )
    if config.schedule.seed != earlier.schedule.seed:
        raise InputError(
            f"{folder} contains a run with schedule.seed {earlier.schedule.seed}, which decides "
            "the order of the samples; resume with it, or choose another folder"
        )


def _remove_run(folder: Path) -> None:
    """Remove the files that a run writes, and nothing else."""
    for path in [*checkpoints(folder), folder / TENSORBOARD]:
        if path.is_dir():
            shutil.rmtree(path)
    remove_ended(folder)
    remove_weights(folder)
    for name in (LOG, CONFIG, CURVES, WANDB_ID):
        (folder / name).unlink(missing_ok=True)
