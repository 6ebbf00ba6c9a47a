"""Limit GPU memory on purpose, and check that answers are still generated."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial

import torch

from vidground.doctor.findings import REPORT_IT, Finding, failed, ok, skipped
from vidground.doctor.loading import load_engine
from vidground.doctor.numbers import answers, film_prompts
from vidground.generation.prompt_batch import PromptInputs
from vidground.memory import BatchSize, is_out_of_memory, release_memory
from vidground.model.d2vlm import D2VLM

_ROWS = 64
"""Batch size for which memory is made too small."""


def check_shortage(device: str) -> Iterator[Finding]:
    """Limit a GPU's memory below the needs of a batch; a smaller batch must succeed."""
    if torch.device(device).type != "cuda":
        yield skipped(device, "memory can be limited on an NVIDIA GPU only")
        return
    engine = load_engine(device, torch.float32)
    expected = [found.token_ids for found in answers(engine.model, *many_prompts(engine.model, 4))]
    _empty(device)
    before = torch.cuda.memory_reserved(device)
    torch.cuda.reset_peak_memory_stats(device)
    answers(engine.model, *many_prompts(engine.model, _ROWS), graphs=True)
    peak = torch.cuda.max_memory_reserved(device)
    del engine
    _empty(device)
    model = load_engine(device, torch.float32).model
    limit = torch.cuda.memory_reserved(device) + (peak - before) // 2
    shortage = partial(memory_limit, device, limit)
    yield survive_shortage(device, model, expected, shortage, graphs=True)


def survive_shortage(
    device: str,
    model: D2VLM,
    expected: Sequence[Sequence[int]],
    shortage: Callable[[], AbstractContextManager[None]],
    *,
    graphs: bool,
) -> Finding:
    """Generate many answers at once while memory is short, and compare them.

    Args:
        device: of the model.
        model: to run.
        expected: tokens of the answers.
        shortage: a context in which memory is short.
        graphs: whether to record steps.
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
            f"memory ran out, even with a batch size of {size.now}",
            f"use a smaller --batch-size; {REPORT_IT}",
            rows=_ROWS, rows_in_the_end=size.now,
        )  # fmt: skip
    values = {"rows": _ROWS, "rows_in_the_end": size.now}
    if [list(ids) for ids in found] != [list(ids) for ids in expected]:
        return failed(
            device,
            f"after memory ran out, a batch size of {size.now} gives other answers",
            f"use a smaller --batch-size; {REPORT_IT}",
            **values,
        )
    if size.now == _ROWS:
        return skipped(
            device, f"memory could not be made too small for a batch size of {_ROWS}", **values
        )
    return ok(
        device, f"ran out of memory with batch size {_ROWS}, succeeded with {size.now}", **values
    )


@contextmanager
def memory_limit(device: str, limit_bytes: int) -> Iterator[None]:
    """Limit torch's allocations on a GPU, in bytes."""
    total = torch.cuda.mem_get_info(device)[1]
    torch.cuda.set_per_process_memory_fraction(min(1.0, limit_bytes / total), device)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)


def many_prompts(model: D2VLM, at_once: int) -> tuple[list[PromptInputs], BatchSize]:
    """Return prompts about the film, enough to exhaust memory, and their batch size."""
    _, prompts = film_prompts(model)
    return [prompts[index % len(prompts)] for index in range(_ROWS)], BatchSize(at_once)


def _empty(device: str) -> None:
    gc.collect()
    release_memory()
    torch.cuda.synchronize(device)
