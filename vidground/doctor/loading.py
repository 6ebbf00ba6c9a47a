"""The bundled model, loaded as commands load it, and what its checks are fed."""

from __future__ import annotations

import torch

from vidground.captioner import DenseCaptioner
from vidground.doctor.numbers import MODEL, film_prompts, read_golden
from vidground.generation.prompt_batch import PromptInputs
from vidground.inference.engine import Engine
from vidground.model.d2vlm import D2VLM


def load_engine(device: str, dtype: torch.dtype | None = None) -> Engine:
    """The bundled model as commands load it; dtype None for the one chosen for the device."""
    return DenseCaptioner(MODEL, device=device, dtype=dtype).engine


def given_answers(model: D2VLM) -> tuple[list[PromptInputs], list[list[int]]]:
    """Prompts of different lengths, and answers to feed."""
    _, prompts = film_prompts(model)
    short = prompts[1]
    prompts[1] = PromptInputs(short.before, short.after, short.frame_tokens[:5])
    return prompts, [list(ids) for ids in read_golden()[0].tokens]


def dtype_name(dtype: torch.dtype) -> str:
    """As the command line calls it, such as "bfloat16"."""
    return str(dtype).removeprefix("torch.")


def json_number(share: float) -> float | None:
    """A number that JSON has."""
    return share if share < float("inf") else None
