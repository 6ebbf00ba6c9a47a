"""What the bundled model computes for the drawn film, and how far that is from the shipped numbers.

The shipped numbers were computed in float64, so that they belong to no processor;
`golden_numbers` makes them again.
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
from vidground.generation.batch_decoder import Decoder
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

_KEPT = 64
"""Numbers that are kept of a tensor, spread over it."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """What a model computes for the film.

    Attributes:
        tensors: some numbers each of the patch features, the frame tokens, the logits of every
            step along fixed answers, and the relevance curves.
        tokens: of each answer. intervals: of each answer's `<evi>`, first and last frame.
    """

    tensors: Mapping[str, Sequence[float]]
    tokens: Sequence[Sequence[int]]
    intervals: Sequence[Sequence[Sequence[int]]]


def tolerance(device: str, dtype: torch.dtype) -> float:
    """How far a number may be off, as a share of the largest of its tensor.

    A card's float32 includes convolutions in TF32, which torch allows by default.
    """
    if dtype == torch.bfloat16:
        return 0.1
    if dtype == torch.float16:
        return 0.02
    return 1e-3 if torch.device(device).type == "cpu" else 0.01


@torch.inference_mode()
def film_prompts(model: D2VLM) -> tuple[Tensor, list[PromptInputs]]:
    """Patch features of the film, (T, patches, width), and a prompt for each question."""
    assert model.tokenizers is not None
    frames = torch.from_numpy(draw_film()).permute(0, 3, 1, 2).contiguous()
    patches = model.encode_frames(normalize(frames, dtype=model.dtype, device=model.device))
    ids = [encode_prompt(question, model.tokenizers) for question in film_questions()]
    tokens = model.compress_each(patches, [prompt.question for prompt in ids])
    return patches, [PromptInputs(p.before, p.after, tokens[:, i]) for i, p in enumerate(ids)]


def answers(
    model: D2VLM, prompts: Sequence[PromptInputs], size: BatchSize, *, graphs: bool = False
) -> list[Generation]:
    """Greedy answers, `size` prompts at once."""
    return list(generate_each(model, prompts, SETTINGS, size, graphs=graphs))


@torch.inference_mode()
def forced_logits(
    model: D2VLM,
    prompts: Sequence[PromptInputs],
    tokens: Sequence[Sequence[int]],
    *,
    recorder: Recorder | None = None,
) -> Tensor:
    """Logits before each step when the answers are given: (steps, B, V), float32 on the CPU.

    Args:
        tokens: of each answer; the shorter ones go on with their last token.
        recorder: makes what records the steps, which are then replayed; None for plain steps.
    """
    rows = 0 if recorder is None else len(prompts)
    decoder = Decoder(model, recorded_rows=rows, recorder=recorder)
    decoder.add(batch_prompts(model, prompts))
    logits = []
    for step in range(max(map(len, tokens))):
        logits.append(decoder.logits.float().cpu())
        fed = [answer[min(step, len(answer) - 1)] for answer in tokens]
        decoder.step(decoder.embed(torch.tensor(fed, device=model.device)))
    return torch.stack(logits)


def measure(model: D2VLM) -> Numbers:
    """Compute everything that is compared."""
    patches, prompts = film_prompts(model)
    found = answers(model, prompts, BatchSize(len(prompts)))
    golden = _forced_answers(model)
    curves = [evidence.curve for answer in found for evidence in answer.evidence]
    tensors = {
        "patch_features": _some(patches),
        "frame_tokens": _some(torch.stack([prompt.frame_tokens for prompt in prompts])),
        "logits": _some(forced_logits(model, prompts, golden)),
        "relevance": _some(torch.stack(curves)) if curves else [],
    }
    return Numbers(
        tensors,
        [answer.token_ids for answer in found],
        [[(e.first, e.last) for e in answer.evidence] for answer in found],
    )


def deviation(found: Sequence[float], right: Sequence[float]) -> float:
    """The largest difference, as a share of the largest right number; infinite for no number."""
    if len(found) != len(right) or not all(map(math.isfinite, found)):
        return math.inf
    return max(abs(a - b) for a, b in zip(found, right, strict=True)) / max(map(abs, right))


def share_apart(found: Tensor, right: Tensor) -> float:
    """As `deviation`, of tensors of one shape."""
    if not bool(torch.isfinite(found).all()):
        return math.inf
    return float((found - right).abs().amax() / right.abs().amax())


def read_golden() -> tuple[Numbers, dict[str, str]]:
    """The shipped numbers, and the SHA-256 of the bundled model's files by name."""
    content = json.loads((files("vidground.doctor") / GOLDEN).read_text(encoding="utf-8"))
    return Numbers(**content["numbers"]), content["files"]


def golden_numbers(model: D2VLM) -> dict[str, Any]:
    """The content of the shipped file, from a bundled model that is loaded in float64."""
    return {"files": model_files(), "numbers": asdict(measure(model))}


def model_files() -> dict[str, str]:
    """SHA-256 of each file of the bundled model, by its name within the model's folder."""
    folder = KNOWN_MODELS[MODEL].folder
    assert folder is not None, "the model for tests is installed with vidground"
    return {
        path.relative_to(folder).as_posix(): file_sha256(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _forced_answers(model: D2VLM) -> list[list[int]]:
    """Fixed tokens to feed, so that one other choice does not change all that follows."""
    assert model.tokenizers is not None
    texts = ("The event happens in", "does not happen. The", "a green square grows. a red")
    return [model.tokenizers.encode(text) for text in texts]


def _some(tensor: Tensor) -> list[float]:
    flat = tensor.detach().double().cpu().flatten()
    # Not at equal steps, which might meet the same channel or patch each time.
    places = torch.linspace(0, len(flat) - 1, min(_KEPT, len(flat)), dtype=torch.float64).long()
    return [float(f"{number:.9g}") for number in flat[places].tolist()]
