"""How far an export is from the model it was made of: on features, and on answers.

Both are given the same frames of real videos. Knows neither how graphs are made nor the terminal.
"""

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
from vidground.export.onnx import in_float
from vidground.features.frame_encoding import FrameEncoder
from vidground.features.onnx_encoder import OnnxVision
from vidground.features.onnx_folder import ExportFolder
from vidground.generation.generation_queue import Generation
from vidground.inference.engine import Engine
from vidground.language.prompts import captioning_question, chat_prompt, encode_prompt
from vidground.model.d2vlm import D2VLM
from vidground.settings import BatchSettings, DecodingSettings, SamplingSettings
from vidground.storage.atomic import write_atomically
from vidground.video.preprocessing import normalize
from vidground.video.reader import VideoReader

PARITY = "parity.json"

TOLERANCES = {"float32": 1e-5, "float16": 1e-4, "int8": 1e-3}
"""Largest 1 - cosine of a feature that an export may have, by the type of its weights."""

_BATCH = 8
_ANSWER_TOKENS = 256
_AGREES = 0.9  # intervals of at least this intersection over union are the same for a reader


@dataclass(frozen=True, slots=True)
class Difference:
    """Features of an export beside those of the model in float32.

    features: vectors compared. largest, mean: absolute difference of their values. cosine_min,
    cosine_mean: of the vectors; one that holds what is no finite number counts as -1.
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
    """Answers with the export beside answers with the model in float32, greedily decoded.

    answers: one per video and window. same_tokens: those with the very same tokens. intervals:
    all that the model's answers have. same_intervals: those that are the same to the frame.
    agreeing_intervals: those with an intersection over union of at least 0.9.
    """

    answers: int
    same_tokens: int
    intervals: int
    same_intervals: int
    agreeing_intervals: int

    @property
    def complete(self) -> bool:
        """Whether all tokens and intervals are the same."""
        return self.same_tokens == self.answers and self.same_intervals == self.intervals


@dataclass(frozen=True, slots=True)
class Parity:
    """What was compared, and whether it is good enough.

    parts: by name. agreement: None if answers were not compared. ran_on: the backend measured.
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
        """No feature is further off than the tolerance; in float32 all answers are the same."""
        near = all(part.error <= self.tolerance for part in self.parts.values())
        alike = self.agreement is None or self.dtype != "float32" or self.agreement.complete
        return near and alike

    def save(self, folder: Path) -> None:
        """Write parity.json."""
        values: dict[str, Any] = {"passed": self.passed, **asdict(self)}
        write_atomically(folder / PARITY, json.dumps(values, indent=2) + "\n")


class FloatReference:
    """The model's own vision part, computed in float32 whatever type it is stored in."""

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
        tolerance: largest 1 - cosine of a feature; default see `TOLERANCES`.
        max_frames: frames whose features are compared, over all videos.
        answers: whether to answer the captioning question on every video with both.
        provider: see `OnnxVision`.

    Raises:
        VideoError: a video cannot be read. InputError: no video is given.
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
        shown = normalize(pixels, dtype=torch.float32, device="cpu")
        patches = reference.encode_frames(shown)
        if "vision" in meters:
            meters["vision"].add(backend.encode_frames(shown), patches)
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
    """Adds up differences, batch by batch."""

    def __init__(self) -> None:
        self._largest, self._total, self._values = 0.0, 0.0, 0
        self._lowest, self._cosines, self._features = 1.0, 0.0, 0

    def add(self, found: Tensor, wanted: Tensor) -> None:
        """Compare (..., width) features."""
        found, wanted = found.double().flatten(0, -2), wanted.double().flatten(0, -2)
        # No comparison with NaN is true, so that it would pass for near.
        usable = found.isfinite().all(-1)
        found = found.nan_to_num(0, 0, 0)
        gap = (found - wanted).abs()
        cosines = torch.cosine_similarity(found, wanted, dim=-1).where(usable, -1)
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
    """Batches of (N, 3, S, S) pixels, from every video about as many."""
    per_video = max(1, max_frames // len(videos))
    for video in videos:
        reader = VideoReader(video, fps=SamplingSettings().fps, image_size=model.config.image_size)
        pixels = [run.pixels for run in islice(reader.runs(), per_video)]
        for start in range(0, len(pixels), _BATCH):
            yield torch.stack(pixels[start : start + _BATCH])


def _question_ids(model: D2VLM) -> Sequence[int]:
    if model.tokenizers is None:
        raise InputError(f"{model.name_or_path} has no tokenizers, and so no question to ask")
    return encode_prompt(chat_prompt(captioning_question()), model.tokenizers).question


def _agreement(
    model: D2VLM,
    reference: FloatReference,
    backend: OnnxVision,
    videos: Sequence[str | PathLike[str]],
) -> Agreement:
    wanted = _generations(model, reference, videos)
    found = _generations(model, backend, videos)
    overlaps = [
        overlap for w, f in zip(wanted, found, strict=True) for overlap in interval_overlaps(w, f)
    ]
    return Agreement(
        answers=len(wanted),
        same_tokens=sum(w.token_ids == f.token_ids for w, f in zip(wanted, found, strict=True)),
        intervals=len(overlaps),
        same_intervals=sum(overlap == 1 for overlap in overlaps),
        agreeing_intervals=sum(overlap >= _AGREES for overlap in overlaps),
    )


def _generations(
    model: D2VLM, vision: FrameEncoder, videos: Sequence[str | PathLike[str]]
) -> list[Generation]:
    engine = Engine(
        model,
        vision=vision,
        sampling=SamplingSettings(),
        decoding=DecodingSettings(max_new_tokens=_ANSWER_TOKENS),
        batch=BatchSettings(),
    )
    prompt = chat_prompt(captioning_question())
    return [answer for video in videos for answer in engine.answer(video, [prompt]).of(0)]


def interval_overlaps(wanted: Generation, found: Generation) -> list[float]:
    """For each interval of an answer its intersection over union with the other's, in order.

    0 where the other answer has none.
    """
    overlaps = []
    for number, mine in enumerate(wanted.evidence):
        if number >= len(found.evidence):
            overlaps.append(0.0)
            continue
        other = found.evidence[number]
        shared = min(mine.last, other.last) - max(mine.first, other.first) + 1
        union = max(mine.last, other.last) - min(mine.first, other.first) + 1
        overlaps.append(max(0, shared) / union)
    return overlaps
