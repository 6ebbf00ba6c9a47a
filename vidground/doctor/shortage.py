"""Memory that runs out on a card on purpose, and answers that must come all the same."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import torch

from vidground.doctor.findings import REPORT_IT, Finding, failed, ok, skipped
from vidground.doctor.loading import load_engine
from vidground.doctor.numbers import answers, film_prompts
from vidground.generation.prompt_batch import PromptInputs
from vidground.memory import BatchSize, is_out_of_memory, release_memory
from vidground.model.d2vlm import D2VLM

_ROWS = 64
"""Answers at once for which memory is made too little."""


def check_shortage(device: str) -> Iterator[Finding]:
    """Let a card have too little memory for a batch of recorded rows: fewer must do it."""
    if torch.device(device).type != "cuda":
        yield skipped(device, "memory can be limited on an NVIDIA card only")
        return
    engine = load_engine(device, torch.float32)
    expected = [found.token_ids for found in answers(engine.model, *many_prompts(engine.model, 4))]
    _empty(device)
    before = torch.cuda.memory_reserved(device)
    torch.cuda.reset_peak_memory_stats(device)
    answers(engine.model, *many_prompts(engine.model, _ROWS), graphs=True)
    most = torch.cuda.max_memory_reserved(device)
    del engine
    _empty(device)
    model = load_engine(device, torch.float32).model
    limit = torch.cuda.memory_reserved(device) + (most - before) // 2

    def little() -> AbstractContextManager[None]:
        return memory_limit(device, limit)

    yield survive_shortage(device, model, expected, little, graphs=True)


def survive_shortage(
    device: str,
    model: D2VLM,
    expected: Sequence[Sequence[int]],
    shortage: Callable[[], AbstractContextManager[None]],
    *,
    graphs: bool,
) -> Finding:
    """Answer many prompts at once while memory is short, and compare the answers.

    Args:
        expected: tokens of each of the prompts' answers. shortage: makes memory short for a while.
    """
    prompts, size = many_prompts(model, _ROWS)
    try:
        with shortage():
            found = [answer.token_ids for answer in answers(model, prompts, size, graphs=graphs)]
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return failed(
            device,
            f"memory ran out and was not enough for {size.now} at once either",
            f"use a smaller --batch-size; {REPORT_IT}",
            rows=_ROWS, rows_in_the_end=size.now,
        )  # fmt: skip
    values = {"rows": _ROWS, "rows_in_the_end": size.now}
    if [list(ids) for ids in found] != [list(ids) for ids in expected]:
        return failed(
            device,
            f"after memory ran out, {size.now} rows at once give other answers",
            f"use a smaller --batch-size; {REPORT_IT}",
            **values,
        )
    if size.now == _ROWS:
        return skipped(device, f"memory could not be made too little for {_ROWS} rows", **values)
    return ok(device, f"{_ROWS} rows ran out of memory, {size.now} at once did it", **values)


@contextmanager
def memory_limit(device: str, limit_bytes: int) -> Iterator[None]:
    """Limit what torch may allocate on a card, in bytes."""
    total = torch.cuda.mem_get_info(device)[1]
    torch.cuda.set_per_process_memory_fraction(min(1.0, limit_bytes / total), device)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)


def many_prompts(model: D2VLM, at_once: int) -> tuple[list[PromptInputs], BatchSize]:
    """Prompts about the film, as many as shall run out of memory, and how many to take at once."""
    _, prompts = film_prompts(model)
    return [prompts[index % len(prompts)] for index in range(_ROWS)], BatchSize(at_once)


def _empty(device: str) -> None:
    gc.collect()
    release_memory()
    torch.cuda.synchronize(device)
