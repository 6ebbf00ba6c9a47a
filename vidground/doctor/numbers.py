"""Compute the bundled model's numbers for the drawn film, and compare them with the shipped ones.

The shipped numbers were computed in float64 by `golden_numbers`, so that they are independent of
the processor.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from typing import Any

import torch
from torch import Tensor

from vidground.checkpoints.known_models import KNOWN_MODELS
from vidground.doctor.film import draw_film, film_questions
from vidground.generation.batch_decoder import BatchDecoder
from vidground.generation.cuda_graphs import Recorder
from vidground.generation.generation_queue import Generation, generate_each
from vidground.generation.prompt_batch import PromptInputs, batch_prompts
from vidground.language.prompts import encode_prompt
from vidground.memory import BatchSize
from vidground.model.d2vlm import D2VLM
from vidground.settings import DecodingSettings
from vidground.storage.files import file_sha256
from vidground.video.preprocessing import normalize

MODEL = "toy"
SETTINGS = DecodingSettings(max_new_tokens=40)
GOLDEN = "golden.json"

_SAMPLES = 64
"""Values compared per tensor, spread over it."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """A model's numbers for the film.

    Attributes:
        tensors: samples of the patch features, the frame tokens, the logits of every step along
            fixed answers, and the relevance curves.
        tokens: of each answer.
        intervals: first and last frame of each `<evi>` of each answer.
    """

    tensors: Mapping[str, Sequence[float]]
    tokens: Sequence[Sequence[int]]
    intervals: Sequence[Sequence[Sequence[int]]]


def tolerance(device: str, dtype: torch.dtype) -> float:
    """Return the largest accepted error, as a share of the largest value of a tensor.

    float32 on a GPU includes convolutions in TF32, which torch allows by default.
    """
    if dtype == torch.bfloat16:
        return 0.1
    if dtype == torch.float16:
        return 0.02
    return 1e-3 if torch.device(device).type == "cpu" else 0.01


@torch.inference_mode()
def film_prompts(model: D2VLM) -> tuple[Tensor, list[PromptInputs]]:
    """Return the film's patch features, (T, patches, width), and a prompt for each question."""
    assert model.tokenizers is not None
    frames = torch.from_numpy(draw_film()).permute(0, 3, 1, 2).contiguous()
    patches = model.encode_frames(normalize(frames, dtype=model.dtype, device=model.device))
    ids = [encode_prompt(question, model.tokenizers) for question in film_questions()]
    tokens = model.compress_each(patches, [prompt.question for prompt in ids])
    return patches, [PromptInputs(p.before, p.after, tokens[:, i]) for i, p in enumerate(ids)]


def answers(
    model: D2VLM, prompts: Sequence[PromptInputs], size: BatchSize, *, graphs: bool = False
) -> list[Generation]:
    """Return greedy answers, generated `size` prompts at once."""
    return list(generate_each(model, prompts, SETTINGS, size, graphs=graphs))


@torch.inference_mode()
def forced_logits(
    model: D2VLM,
    prompts: Sequence[PromptInputs],
    tokens: Sequence[Sequence[int]],
    *,
    recorder: Recorder | None = None,
) -> Tensor:
    """Return the logits along given answers: (steps, B, V), float32 on the CPU.

    Args:
        model: to run.
        prompts: (B,) to answer.
        tokens: of each answer; shorter ones repeat their last token.
        recorder: creates what records the steps, which are then replayed; None for eager steps.
    """
    rows = 0 if recorder is None else len(prompts)
    decoder = BatchDecoder(model, recorded_rows=rows, recorder=recorder)
    decoder.add(batch_prompts(model, prompts))
    logits = []
    for step in range(max(map(len, tokens))):
        logits.append(decoder.logits.float().cpu())
        fed = [answer[min(step, len(answer) - 1)] for answer in tokens]
        decoder.step(decoder.embed(torch.tensor(fed, device=model.device)))
    return torch.stack(logits)


def measure(model: D2VLM) -> Numbers:
    """Compute all numbers that are compared."""
    patches, prompts = film_prompts(model)
    found = answers(model, prompts, BatchSize(len(prompts)))
    golden = _forced_answers(model)
    curves = [evidence.curve for answer in found for evidence in answer.evidence]
    tensors = {
        "patch_features": _sample(patches),
        "frame_tokens": _sample(torch.stack([prompt.frame_tokens for prompt in prompts])),
        "logits": _sample(forced_logits(model, prompts, golden)),
        "relevance": _sample(torch.stack(curves)) if curves else [],
    }
    return Numbers(
        tensors,
        [answer.token_ids for answer in found],
        [[(e.first, e.last) for e in answer.evidence] for answer in found],
    )


def deviation(found: Sequence[float], right: Sequence[float]) -> float:
    """Return the largest error as a share of the largest right value; infinite for NaN."""
    if len(found) != len(right) or not all(map(math.isfinite, found)):
        return math.inf
    return max(abs(a - b) for a, b in zip(found, right, strict=True)) / max(map(abs, right))


def share_apart(found: Tensor, right: Tensor) -> float:
    """Return the same as `deviation` for tensors of equal shape."""
    if not bool(torch.isfinite(found).all()):
        return math.inf
    return float((found - right).abs().amax() / right.abs().amax())


def read_golden() -> tuple[Numbers, dict[str, str]]:
    """Return the shipped numbers, and the SHA-256 of the bundled model's files by name."""
    content = json.loads((files("vidground.doctor") / GOLDEN).read_text(encoding="utf-8"))
    return Numbers(**content["numbers"]), content["files"]


def golden_numbers(model: D2VLM) -> dict[str, Any]:
    """Return the content of the shipped file, from the bundled model loaded in float64."""
    return {"files": model_files(), "numbers": asdict(measure(model))}


def model_files() -> dict[str, str]:
    """Return the SHA-256 of each file of the bundled model, by its path in the model's folder."""
    folder = KNOWN_MODELS[MODEL].folder
    assert folder is not None, "bundled with vidground"
    return {
        path.relative_to(folder).as_posix(): file_sha256(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _forced_answers(model: D2VLM) -> list[list[int]]:
    """Return fixed answers; with free ones, one different token would change all later logits."""
    assert model.tokenizers is not None
    texts = ("The event happens in", "does not happen. The", "a green square grows. a red")
    return [model.tokenizers.encode(text) for text in texts]


def _sample(tensor: Tensor) -> list[float]:
    flat = tensor.detach().double().cpu().flatten()
    # Not with a whole step, which might hit the same channel or patch each time.
    places = torch.linspace(0, len(flat) - 1, min(_SAMPLES, len(flat)), dtype=torch.float64).long()
    return [float(f"{number:.9g}") for number in flat[places].tolist()]
