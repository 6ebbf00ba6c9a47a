"""Exports of the golden checkpoint for tests, each made once in a run: tracing takes seconds."""

import json
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from tests.helpers.tokenizer_files import released_checkpoint
from vidground import D2VLM
from vidground.export.onnx import export_onnx
from vidground.features.onnx_folder import ExportFolder

_PLACE = TemporaryDirectory(prefix="vidground-exports-")


@cache
def golden_folder() -> Path:
    """The golden checkpoint with both tokenizers."""
    folder = released_checkpoint(Path(_PLACE.name) / "model")
    config = json.loads((folder / "config.json").read_text())
    # The stand-in tokenizer spells prompts letter by letter: give them room.
    config |= {"max_position_embeddings": 4096, "original_max_position_embeddings": 4096}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@cache
@torch.inference_mode(False)  # whichever test asks first: not all can be traced of what it makes
def golden_model() -> D2VLM:
    """The golden checkpoint in float32; not to be changed."""
    return D2VLM.from_pretrained(golden_folder())


@cache
def exported(dtype: str, *parts: str) -> ExportFolder:
    """An export of it; not to be changed."""
    folder = Path(_PLACE.name) / "-".join((dtype, *parts))
    return export_onnx(golden_model(), folder, dtype=dtype, parts=parts)


def frames(count: int) -> torch.Tensor:
    """Normalised frames of noise; a frame is the same whatever the count."""
    size = golden_model().config.image_size
    made = [
        torch.randn(3, size, size, generator=torch.Generator().manual_seed(number))
        for number in range(count)
    ]
    return torch.stack(made)
