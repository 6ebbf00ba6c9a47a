"""NaN and infinity in a model's computation: their cause and the remedy.

Searching for them copies data to the host, so it is done only after a model has failed.
"""

from __future__ import annotations

from itertools import chain

import torch

from vidground.errors import NumericError
from vidground.generation.prompt_batch import PromptInputs
from vidground.model.d2vlm import D2VLM


def not_finite(model: D2VLM, prompt: PromptInputs) -> NumericError:
    """Return the error for a prompt for which a model computed NaN or infinity."""
    dtype = str(model.dtype).removeprefix("torch.")
    weight = _broken_weight(model)
    if weight is not None:
        return NumericError(
            f"the model's weight {weight} holds NaN or infinity in {dtype}, so it cannot answer; "
            "download or convert the model again, or load it in another dtype (--dtype float32)"
        )
    frames = prompt.frame_tokens
    finite = bool(frames.isfinite().all()) and bool(frames.to(model.dtype).isfinite().all())
    part = "language model" if finite else "vision part"
    limit = torch.finfo(model.dtype).max
    if model.dtype == torch.float16:
        remedy = "use --dtype bfloat16 or --dtype float32 (dtype= in Python)"
    elif model.dtype == torch.float32:
        remedy = "check the model: its weights may be damaged or its training have diverged"
    else:
        remedy = "use --dtype float32 (dtype= in Python)"
    return NumericError(
        f"the {part} computed NaN or infinity in {dtype}, which holds at most {limit:.5g}; {remedy}"
    )


def _broken_weight(model: D2VLM) -> str | None:
    for name, tensor in chain(model.named_parameters(), model.named_buffers()):
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            return str(name)
    return None
