"""Load the bundled model as commands do, and the inputs of its checks."""

from __future__ import annotations

import torch

from vidground.captioner import DenseCaptioner
from vidground.doctor.numbers import MODEL, film_prompts, read_golden
from vidground.generation.prompt_batch import PromptInputs
from vidground.inference.engine import Engine
from vidground.model.d2vlm import D2VLM


def load_engine(device: str, dtype: torch.dtype | None = None) -> Engine:
    """Load the bundled model as commands do; dtype None for the device's default."""
    return DenseCaptioner(MODEL, device=device, dtype=dtype).engine


def given_answers(model: D2VLM) -> tuple[list[PromptInputs], list[list[int]]]:
    """Return prompts of different lengths, and fixed answers to them."""
    _, prompts = film_prompts(model)
    short = prompts[1]
    prompts[1] = PromptInputs(short.before, short.after, short.frame_tokens[:5])
    return prompts, [list(ids) for ids in read_golden()[0].tokens]


def dtype_name(dtype: torch.dtype) -> str:
    """Return a dtype's name on the command line, such as "bfloat16"."""
    return str(dtype).removeprefix("torch.")


def json_number(share: float) -> float | None:
    """Return a number that JSON can hold; None for infinity."""
    return share if share < float("inf") else None
