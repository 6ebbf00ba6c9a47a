"""Plan of a training run: its parameters, memory, disk space and steps, without training.

The model is built on the meta device from its configuration alone. Nothing is downloaded: a model
that is not on this machine is assumed to have the released size.
"""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from vidground.errors import InputError
from vidground.language.prompts import encode_prompt
from vidground.language.tokenizers import Tokenizers
from vidground.model.d2vlm import D2VLM
from vidground.training.config import DataSource, ObjectiveName, RunConfig
from vidground.training.config_checks import check_objective
from vidground.training.data.annotations import Annotation, PreferenceAnnotation, load_annotations
from vidground.training.data.dataset import (
    response_ids,
    spoken_answer,
    spoken_prompt,
    weighted,
    within_limits,
)
from vidground.training.memory_estimate import (
    DiskSpace,
    FixedMemory,
    SampleLengths,
    batch_memory,
    disk_space,
    fixed_memory,
)
from vidground.training.objectives.objective import FpoObjective, Objective, SftObjective
from vidground.training.objectives.settings import FpoSettings
from vidground.training.parameters import ParameterCounts, count_parameters, prepare_parameters
from vidground.training.sample_order import StepSize
from vidground.training.starting_model import planned_model

# Assumed lengths where there are no annotations to measure.
_QUESTION_TOKENS, _PROMPT_TOKENS, _MINUTE_ANSWER = 48, 80, 100
_TOKENS_PER_WORD = 1.4
_MINUTE_S = 60
_GIBIBYTE = 1 << 30


@dataclass(frozen=True)
class PlannedData:
    """The samples of a run.

    Attributes:
        longest: maximum of each length.
        middle: median of each length.
        note: where they are from, for the report.
        samples: number within the limits; None if the annotations do not exist.
        steps_per_epoch: optimizer steps per epoch; None as above.
        steps: optimizer steps of the run; None as above.
    """

    longest: SampleLengths
    middle: SampleLengths
    note: str
    samples: int | None = None
    steps_per_epoch: int | None = None
    steps: int | None = None


@dataclass(frozen=True)
class TrainingPlan:
    """Plan of a run; as text, the report of `--dry-run`.

    Attributes:
        model: what the model is.
        counts: numbers of parameters.
        groups: number of trainable parameters in each part of the model.
        fixed: memory that does not depend on the batch.
        batches: bytes of the activations of a batch, by the lengths of its samples.
        data: the samples.
        batch_size: samples per device in one forward pass.
        disk: space that the run's folder takes.
    """

    model: str
    counts: ParameterCounts
    groups: Mapping[str, int]
    fixed: FixedMemory
    batches: Mapping[str, int]
    data: PlannedData
    batch_size: int
    disk: DiskSpace

    def __str__(self) -> str:
        parts = self._parts()
        parts["total, at most"] = self.fixed.total + max(self.batches.values())
        width = max(map(len, [*parts, *self.groups])) + 2
        lines = [
            f"model: {self.model}",
            str(self.counts),
            *(f"  {name:<{width}}{count:>15,}" for name, count in self.groups.items()),
            "memory of each device, estimated:",
            *(f"  {name:<{width}}{size / _GIBIBYTE:>11.2f} GiB" for name, size in parts.items()),
            "  assumed: the whole model on the device, fused attention, AdamW in float32; not",
            "  counted: the driver, and about one more layer's activations in the backward pass",
            str(self.disk),
            f"data: {self.data.note}",
        ]
        if self.data.samples is not None:
            lines.append(
                f"  {self.data.samples:,} samples, {self.data.steps_per_epoch:,} steps an epoch, "
                f"{self.data.steps:,} steps in total"
            )
        return "\n".join(lines)

    def _parts(self) -> dict[str, int]:
        parts = {
            "weights": self.fixed.weights,
            "gradients": self.fixed.gradients,
            "optimizer states": self.fixed.optimizer,
        }
        if self.fixed.copies:
            parts["copies of trainable parameters"] = self.fixed.copies
        noun = "sample" if self.batch_size == 1 else "samples"
        for name, size in self.batches.items():
            parts[f"activations, {self.batch_size} {noun}: {name}"] = size
        return parts


def plan_training(config: RunConfig) -> TrainingPlan:
    """Plan a run; see `TrainingPlan`.

    Raises:
        VidgroundError: the model or the annotations exist and cannot be used.
    """
    planned = planned_model(config.model)
    check_objective(config, planned.model.config)
    data = planned_data(config, planned.tokenizers)
    model, processes = planned.model, int(os.environ.get("WORLD_SIZE", "1"))
    stored = model.dtype
    precision = getattr(torch, config.schedule.precision)
    with torch.device("meta"):
        prepare_parameters(model, config.parameters, precision=precision)
    objective = _objective(config, model).train()
    if config.schedule.gradient_checkpointing:
        objective.enable_gradient_checkpointing()
    size = config.schedule.batch_size
    batches = {
        str(lengths): batch_memory(
            model,
            lengths,
            size,
            precision=precision,
            pixels=config.data.frames == "pixels",
        )
        for lengths in (data.longest, data.middle)
    }
    return TrainingPlan(
        model=planned.note,
        counts=count_parameters(model),
        groups=_trainable(model),
        fixed=fixed_memory(model, processes=processes, reference=config.reference),
        batches=batches,
        data=data,
        batch_size=size,
        disk=disk_space(model, stored, config),
    )


def _objective(config: RunConfig, model: D2VLM) -> Objective:
    if isinstance(config.loss, FpoSettings):
        return FpoObjective(model, config.loss)
    return SftObjective(model, config.loss)


def _trainable(model: D2VLM) -> dict[str, int]:
    """Return the number of trainable parameters in each part."""
    groups: dict[str, int] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            adapter = ".lora_" in name
            part = f"{name.split('.')[0]}{', adapters' if adapter else ''}"
            groups[part] = groups.get(part, 0) + parameter.numel()
    return groups


def planned_data(config: RunConfig, tokenizers: Tokenizers | None) -> PlannedData:
    """Return the samples if their annotations exist; else what the limits allow.

    Args:
        config: of the run.
        tokenizers: to count tokens; None estimates them from words.

    Raises:
        VidgroundError: annotations cannot be used, or none is within the limits.
    """
    data = config.data
    files = [file for item in data.all_sets for file in item.annotations]
    absent = [file for file in files if not Path(file).is_file()]
    if absent:
        note = f"no file {', '.join(absent)}, so the number of steps is unknown"
        return PlannedData(*_allowed(data, config.objective), note)
    kept: list[Annotation] = []
    for item in data.all_sets:
        annotations = load_annotations(
            item.annotations,
            kind=config.objective,
            seed=data.rejected_seed,
            placement_seed=data.placement_seed,
        )
        within = within_limits(annotations, data.limits, tokenizers=tokenizers, fps=data.fps).kept
        kept += weighted(within, item.weight, seed=data.rejected_seed)
    if not kept:
        raise InputError(f"no sample of {', '.join(files)} is left; widen data.limits")
    lengths = [_lengths(annotation, tokenizers, data.fps) for annotation in kept]
    per_epoch = _steps_per_epoch(config, len(kept))
    steps = config.schedule.max_steps or _steps_per_epoch(
        config, math.ceil(round(len(kept) * config.schedule.epochs, 6))
    )
    return PlannedData(
        longest=_reduced(lengths, max),
        middle=_reduced(lengths, statistics.median_high),
        note=", ".join(files),
        samples=len(kept),
        steps_per_epoch=per_epoch,
        steps=steps,
    )


def _steps_per_epoch(config: RunConfig, samples: int) -> int:
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    schedule = config.schedule
    size = StepSize(schedule.batch_size, schedule.accumulation, processes)
    return math.ceil(samples / size.samples)


def _allowed(data: DataSource, objective: ObjectiveName) -> tuple[SampleLengths, SampleLengths]:
    """Return the longest sample within the limits, and a minute of video with a short answer."""
    limits, responses = data.limits, 2 if objective == "fpo" else 1
    frames = math.ceil(limits.max_video_s * data.fps)
    room = max(1, limits.max_tokens - frames - _PROMPT_TOKENS)
    longest = min(round(limits.max_answer_words * _TOKENS_PER_WORD), room)
    minute = min(math.ceil(_MINUTE_S * data.fps), frames)
    return (
        SampleLengths(frames, _QUESTION_TOKENS, _PROMPT_TOKENS, longest, responses),
        SampleLengths(
            minute, _QUESTION_TOKENS, _PROMPT_TOKENS, min(_MINUTE_ANSWER, longest), responses
        ),
    )


def _lengths(annotation: Annotation, tokenizers: Tokenizers | None, fps: float) -> SampleLengths:
    responses = [annotation.response]
    if isinstance(annotation, PreferenceAnnotation):
        responses.append(annotation.rejected)
    frames = max(1, math.ceil(annotation.duration_s * fps))
    intervals = max(1, len(annotation.response.tgt) // 2)
    if tokenizers is None:
        words = max(len(response.text.split()) for response in responses) + 2 * intervals
        answer, question = round(words * _TOKENS_PER_WORD), len(annotation.question.split())
        question = round(question * _TOKENS_PER_WORD)
        prompt = question + _PROMPT_TOKENS - _QUESTION_TOKENS
        return SampleLengths(frames, question, prompt, answer, len(responses), intervals)
    prompt_text, _ = spoken_prompt(annotation, tokenizers)
    ids = encode_prompt(prompt_text, tokenizers)
    texts = [spoken_answer(response, tokenizers)[0] for response in responses]
    answer = max(len(response_ids(text, prompt_text, tokenizers)) for text in texts)
    around = len(ids.before) + len(ids.after)
    return SampleLengths(frames, len(ids.question), around, answer, len(texts), intervals)


def _reduced(lengths: Sequence[SampleLengths], reduce: Callable[[list[int]], int]) -> SampleLengths:
    """Reduce many samples to one, each length by itself."""
    names = ("frames", "question", "prompt", "answer", "responses", "intervals")
    return SampleLengths(*(reduce([getattr(item, name) for item in lengths]) for name in names))
