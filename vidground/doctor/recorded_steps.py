"""Compare recorded steps of generation with eager ones, to find stale or wrong CUDA graphs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from vidground.doctor.findings import REPORT_IT, Finding, failed, ok, skipped
from vidground.doctor.loading import dtype_name, given_answers, json_number, load_engine
from vidground.doctor.numbers import forced_logits, share_apart, tolerance
from vidground.generation.cuda_graphs import (
    CudaRecorder,
    Record,
    Recorder,
    ReplayError,
    StepOutputs,
)
from vidground.model.d2vlm import D2VLM

_REMEDY = f"use --no-graphs; {REPORT_IT}"


def check_recorded(device: str, recorder: Recorder | None = None) -> Iterator[Finding]:
    """Compare replayed steps with eager ones along given answers.

    Args:
        device: to run on.
        recorder: creates what records steps; None for CUDA graphs, which need a GPU.
    """
    if recorder is None and torch.device(device).type != "cuda":
        yield skipped(device, "CUDA graphs need an NVIDIA GPU")
        return
    model = load_engine(device).model
    subject = f"{device}, {dtype_name(model.dtype)}"
    yield compare_recorded(subject, device, model, recorder or CudaRecorder)


def compare_recorded(subject: str, device: str, model: D2VLM, recorder: Recorder) -> Finding:
    """Compare the replayed steps of a model with eager ones.

    Args:
        subject: of the finding.
        device: of the model.
        model: to run.
        recorder: creates what records steps.
    """
    prompts, tokens = given_answers(model)
    eager = forced_logits(model, prompts, tokens)
    counted = _CountingRecorder(recorder)
    with _logged_warnings() as warnings:
        try:
            replayed = forced_logits(model, prompts, tokens, recorder=counted)
        except ReplayError as error:
            return failed(subject, str(error), _REMEDY, recorded=counted.recorded)
    return _finding(subject, device, model, eager, replayed, counted, warnings)


def check_side_by_side(
    devices: Sequence[str], recorder: Recorder | None = None
) -> Iterator[Finding]:
    """Check replayed steps on each device in turn, in this process.

    Args:
        devices: "cuda:N" each.
        recorder: see `check_recorded`.
    """
    if len(devices) < 2:
        yield skipped("cards", f"needs two GPUs; GPUs to test: {len(devices)}")
        return
    models = {device: load_engine(device).model for device in devices}
    for round_number in (1, 2):
        for device, model in models.items():
            subject = f"{device}, turn {round_number}"
            yield compare_recorded(subject, device, model, recorder or CudaRecorder)


@dataclass
class _CountingRecorder:
    """Counts recordings and replays of steps."""

    recorder: Recorder
    recorded: int = 0
    replayed: int = 0

    def __call__(self) -> Record:
        record = self.recorder()

        def counting(run: Callable[[], StepOutputs]) -> tuple[Callable[[], None], StepOutputs]:
            replay, outputs = record(run)
            self.recorded += 1

            def counted() -> None:
                self.replayed += 1
                replay()

            return counted, outputs

        return counting


class _WarningHandler(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@contextmanager
def _logged_warnings() -> Iterator[list[str]]:
    """Collect the warnings that vidground logs inside the block."""
    logger, handler = logging.getLogger("vidground"), _WarningHandler()
    logger.addHandler(handler)
    try:
        yield handler.messages
    finally:
        logger.removeHandler(handler)


def _finding(
    subject: str,
    device: str,
    model: D2VLM,
    eager: Tensor,
    replayed: Tensor,
    counted: _CountingRecorder,
    warnings: Sequence[str],
) -> Finding:
    allowed, apart = tolerance(device, model.dtype), share_apart(replayed, eager)
    steps = len(eager) - counted.recorded  # recording a step computes it as well
    values = {"deviation": json_number(apart), "tolerance": allowed, "recorded": counted.recorded,
              "replayed": counted.replayed, "steps": steps}  # fmt: skip
    if apart > allowed:
        message = (
            f"replayed steps are off by {apart:.2g} of the largest logit (allowed {allowed:g})"
        )
        return failed(subject, message, _REMEDY, **values)
    if warnings or counted.replayed < steps:
        reason = "; ".join(warnings) or f"{counted.replayed} of {steps} steps were replayed"
        return failed(subject, f"steps cannot be replayed: {reason}", _REMEDY, **values)
    return ok(
        subject,
        f"{counted.replayed} replayed steps are off by {apart:.2g} (allowed {allowed:g})",
        **values,
    )
