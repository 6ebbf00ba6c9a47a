"""Compare an export with its model: features and answers, on the same frames of real videos."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vidground.errors import InputError
from vidground.export.onnx import PARITY, in_float
from vidground.features.frame_encoding import FrameEncoder
from vidground.features.onnx_encoder import OnnxVision
from vidground.features.onnx_folder import ExportFolder
from vidground.generation.generation_queue import Generation
from vidground.inference.engine import Engine
from vidground.inference.inference_settings import InferenceSettings
from vidground.language.prompts import captioning_question, chat_prompt, encode_prompt
from vidground.model.d2vlm import D2VLM
from vidground.settings import DecodingSettings, SamplingSettings
from vidground.storage.atomic import write_atomically
from vidground.video.preprocessing import normalize
from vidground.video.reader import VideoReader

TOLERANCES = {"float32": 1e-5, "float16": 1e-4, "int8": 1e-3}
"""Largest accepted 1 - cosine of a feature, by the dtype of the weights."""

_BATCH = 8
_ANSWER_TOKENS = 256
_AGREEING_IOU = 0.9


@dataclass(frozen=True, slots=True)
class Difference:
    """Features of an export, compared with those of the model in float32.

    Attributes:
        features: number of vectors compared.
        largest: absolute difference of their values.
        mean: absolute difference of their values.
        cosine_min: of two vectors; -1 for a vector that is not finite.
        cosine_mean: as `cosine_min`.
    """

    features: int
    largest: float
    mean: float
    cosine_min: float
    cosine_mean: float

    @property
    def error(self) -> float:
        """1 - cosine of the worst feature."""
        return 1 - self.cosine_min


@dataclass(frozen=True, slots=True)
class Agreement:
    """Greedy answers with the export, compared with those of the model in float32.

    Attributes:
        answers: number of answers, one per video and window.
        same_tokens: number of answers with identical tokens.
        intervals: number of intervals in the model's answers.
        same_intervals: number of identical intervals.
        agreeing_intervals: number of intervals with an intersection over union of at least 0.9.
    """

    answers: int
    same_tokens: int
    intervals: int
    same_intervals: int
    agreeing_intervals: int

    @property
    def complete(self) -> bool:
        """Whether all tokens and intervals are identical."""
        return self.same_tokens == self.answers and self.same_intervals == self.intervals


@dataclass(frozen=True, slots=True)
class Parity:
    """Result of a comparison.

    Attributes:
        videos: that were compared on.
        frames: number of frames whose features were compared.
        dtype: of the export's weights.
        ran_on: the backend that ran the export.
        tolerance: largest accepted 1 - cosine of a feature.
        parts: features, by name of the part.
        agreement: answers; None if they were not compared.
    """

    videos: tuple[str, ...]
    frames: int
    dtype: str
    ran_on: str
    tolerance: float
    parts: dict[str, Difference]
    agreement: Agreement | None

    @property
    def passed(self) -> bool:
        """Whether all features are within the tolerance, and in float32 all answers identical."""
        if any(part.error > self.tolerance for part in self.parts.values()):
            return False
        return self.agreement is None or self.dtype != "float32" or self.agreement.complete

    def save(self, folder: Path) -> None:
        """Write parity.json to a folder."""
        values: dict[str, Any] = {"passed": self.passed, **asdict(self)}
        write_atomically(folder / PARITY, json.dumps(values, indent=2) + "\n")


class FloatReference:
    """The model's own vision encoder and compressor, computed in float32."""

    def __init__(self, model: D2VLM) -> None:
        self.device, self.dtype = torch.device("cpu"), torch.float32
        self._model = model
        self._vision = in_float(model.vision, self.dtype)
        self._compressor = in_float(model.compressor, self.dtype)

    def __str__(self) -> str:
        return "torch in float32"

    def encode_frames(self, pixel_values: Tensor) -> Tensor:
        """See `FrameEncoder`."""
        return self._vision(pixel_values)  # type: ignore[no-any-return]

    def compress_each(self, patches: Tensor, questions: Sequence[Sequence[int]]) -> Tensor:
        """See `FrameEncoder`."""
        tokens = self._compressor.each(patches.to(self.dtype), questions)
        return tokens.to(self._model.device, self._model.dtype)


@torch.inference_mode()
def measure_parity(
    model: D2VLM,
    export: ExportFolder,
    videos: Sequence[str | PathLike[str]],
    *,
    tolerance: float | None = None,
    max_frames: int = 64,
    answers: bool = True,
    provider: str | None = None,
) -> Parity:
    """Compare an export with its model on videos.

    Args:
        model: that was exported.
        export: to compare.
        videos: at least one.
        tolerance: largest accepted 1 - cosine of a feature; None for `TOLERANCES`.
        max_frames: number of frames of all videos whose features are compared.
        answers: whether to compare answers to the captioning question too.
        provider: see `OnnxVision`.

    Raises:
        VideoError: a video cannot be read.
        InputError: there is no video.
    """
    if not videos:
        raise InputError("0 videos given; give at least one to compare the export on")
    backend = OnnxVision(export.path, model, provider=provider)
    reference = FloatReference(model)
    question = _question_ids(model)
    meters = {name: _Meter() for name in export.parts}
    frames = 0
    for pixels in _frames(model, videos, max_frames):
        frames += len(pixels)
        normalized = normalize(pixels, dtype=torch.float32, device="cpu")
        patches = reference.encode_frames(normalized)
        if "vision" in meters:
            meters["vision"].add(backend.encode_frames(normalized), patches)
        if "compressor" in meters:
            tokens = backend.compress_each(patches, [question])
            meters["compressor"].add(tokens, reference.compress_each(patches, [question]))
    return Parity(
        videos=tuple(fspath(video) for video in videos),
        frames=frames,
        dtype=export.dtype,
        ran_on=str(backend),
        tolerance=TOLERANCES[export.dtype] if tolerance is None else tolerance,
        parts={name: meter.difference() for name, meter in meters.items()},
        agreement=_agreement(model, reference, backend, videos) if answers else None,
    )


class _Meter:
    """Accumulates differences over batches."""

    def __init__(self) -> None:
        self._largest, self._total, self._values = 0.0, 0.0, 0
        self._lowest, self._cosines, self._features = 1.0, 0.0, 0

    def add(self, found: Tensor, expected: Tensor) -> None:
        """Compare features of shape (..., width)."""
        found, expected = found.double().flatten(0, -2), expected.double().flatten(0, -2)
        # Comparisons with NaN are false, so that NaN would pass as close.
        finite = found.isfinite().all(-1)
        found = found.nan_to_num(0, 0, 0)
        gap = (found - expected).abs()
        cosines = torch.cosine_similarity(found, expected, dim=-1).where(finite, -1)
        self._largest = max(self._largest, float(gap.max()))
        self._total += float(gap.sum())
        self._values += gap.numel()
        self._lowest = min(self._lowest, float(cosines.min()))
        self._cosines += float(cosines.sum())
        self._features += len(cosines)

    def difference(self) -> Difference:
        mean, cosine = self._total / self._values, self._cosines / self._features
        return Difference(self._features, self._largest, mean, self._lowest, cosine)


def _frames(
    model: D2VLM, videos: Sequence[str | PathLike[str]], max_frames: int
) -> Iterator[Tensor]:
    """Yield batches of (N, 3, S, S) pixels, about equally many of every video."""
    per_video = max(1, max_frames // len(videos))
    for video in videos:
        reader = VideoReader(video, fps=SamplingSettings().fps, image_size=model.config.image_size)
        pixels = [run.pixels for run in islice(reader.runs(), per_video)]
        for start in range(0, len(pixels), _BATCH):
            yield torch.stack(pixels[start : start + _BATCH])


def _question_ids(model: D2VLM) -> Sequence[int]:
    if model.tokenizers is None:
        raise InputError(f"{model.name_or_path} has no tokenizers; use a model that has them")
    return encode_prompt(chat_prompt(captioning_question()), model.tokenizers).question


def _agreement(
    model: D2VLM,
    reference: FloatReference,
    backend: OnnxVision,
    videos: Sequence[str | PathLike[str]],
) -> Agreement:
    pairs = list(
        zip(
            _generations(model, reference, videos),
            _generations(model, backend, videos),
            strict=True,
        )
    )
    overlaps = [overlap for pair in pairs for overlap in interval_overlaps(*pair)]
    return Agreement(
        answers=len(pairs),
        same_tokens=sum(expected.token_ids == found.token_ids for expected, found in pairs),
        intervals=len(overlaps),
        same_intervals=sum(overlap == 1 for overlap in overlaps),
        agreeing_intervals=sum(overlap >= _AGREEING_IOU for overlap in overlaps),
    )


def _generations(
    model: D2VLM, vision: FrameEncoder, videos: Sequence[str | PathLike[str]]
) -> list[Generation]:
    decoding = DecodingSettings(max_new_tokens=_ANSWER_TOKENS)
    engine = Engine(model, InferenceSettings(vision=vision, decoding=decoding))
    prompt = chat_prompt(captioning_question())
    return [answer for video in videos for answer in engine.answer(video, [prompt]).of(0)]


def interval_overlaps(expected: Generation, found: Generation) -> list[float]:
    """Return the intersection over union of the answers' intervals, pairwise in order.

    Returns:
        One value in [0, 1] per interval of `expected`; 0 if `found` has fewer intervals.
    """
    overlaps = []
    for a, b in zip(expected.evidence, found.evidence, strict=False):
        shared = min(a.last, b.last) - max(a.first, b.first) + 1
        union = max(a.last, b.last) - min(a.first, b.first) + 1
        overlaps.append(max(0, shared) / union)
    return overlaps + [0.0] * (len(expected.evidence) - len(overlaps))
