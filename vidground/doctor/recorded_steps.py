"""Recorded decoding steps against plain ones: stale or wrong recordings are found here."""

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
    """Compare steps that are recorded and replayed with plain ones, along given answers.

    Args:
        recorder: makes what records steps; None for CUDA graphs, which only a card has.
    """
    if recorder is None and torch.device(device).type != "cuda":
        yield skipped(device, "CUDA graphs need an NVIDIA card")
        return
    model = load_engine(device).model
    subject = f"{device}, {dtype_name(model.dtype)}"
    yield compare_recorded(subject, device, model, recorder or CudaRecorder)


def compare_recorded(subject: str, device: str, model: D2VLM, recorder: Recorder) -> Finding:
    """The steps of a model recorded, against the same steps computed."""
    prompts, tokens = given_answers(model)
    plain = forced_logits(model, prompts, tokens)
    counted = _Counted(recorder)
    with _heard_warnings() as heard:
        try:
            replayed = forced_logits(model, prompts, tokens, recorder=counted)
        except ReplayError as error:
            return failed(subject, str(error), _REMEDY, recorded=counted.recorded)
    return _judged(subject, device, model, plain, replayed, counted, heard)


def check_side_by_side(
    devices: Sequence[str], recorder: Recorder | None = None
) -> Iterator[Finding]:
    """Recorded steps of a model on each device, in turn, in this process.

    Args:
        recorder: as of `check_recorded`.
    """
    if len(devices) < 2:
        yield skipped("cards", f"needs two cards, and there are {len(devices)} to test")
        return
    models = {device: load_engine(device).model for device in devices}
    for round_number in (1, 2):
        for device, model in models.items():
            subject = f"{device}, turn {round_number}"
            yield compare_recorded(subject, device, model, recorder or CudaRecorder)


@dataclass
class _Counted:
    """A recorder, and how often it recorded and what it recorded was replayed."""

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


class _Heard(logging.Handler):
    """Keeps warnings."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@contextmanager
def _heard_warnings() -> Iterator[list[str]]:
    """What vidground warns of meanwhile."""
    logger, handler = logging.getLogger("vidground"), _Heard()
    logger.addHandler(handler)
    try:
        yield handler.messages
    finally:
        logger.removeHandler(handler)


def _judged(
    subject: str,
    device: str,
    model: D2VLM,
    plain: Tensor,
    replayed: Tensor,
    counted: _Counted,
    heard: Sequence[str],
) -> Finding:
    allowed, apart = tolerance(device, model.dtype), share_apart(replayed, plain)
    steps = len(plain) - counted.recorded  # a step is computed as well when it is recorded
    values = {"deviation": json_number(apart), "tolerance": allowed, "recorded": counted.recorded,
              "replayed": counted.replayed, "steps": steps}  # fmt: skip
    if apart > allowed:
        message = (
            f"replayed steps are off by {apart:.2g} of the largest logit (allowed {allowed:g})"
        )
        return failed(subject, message, _REMEDY, **values)
    if heard or counted.replayed < steps:
        why = "; ".join(heard) or f"{counted.replayed} of {steps} steps were replayed"
        return failed(subject, f"steps are not replayed here: {why}", _REMEDY, **values)
    return ok(
        subject,
        f"{counted.replayed} replayed steps are off by {apart:.2g} (allowed {allowed:g})",
        **values,
    )
