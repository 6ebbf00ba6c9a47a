"""The data sets of a run: annotations within the limits, and where their frames come from.

Knows neither the objective's loss nor the trainer.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from tqdm import tqdm
from transformers import TrainingArguments

from vidground.errors import InputError
from vidground.modeling import D2VLM
from vidground.training.annotations import load_annotations, videos_of
from vidground.training.dataset import AnnotationDataset, FrameSource, within_limits
from vidground.training.frame_cache import PatchFrames, PixelFrames
from vidground.training.run_config import DataSource, ObjectiveName
from vidground.training.tensor_cache import TensorCache

_logger = logging.getLogger(__name__)
_GIBIBYTE = 1 << 30


def load_data(
    data: DataSource, kind: ObjectiveName, model: D2VLM, arguments: TrainingArguments
) -> tuple[AnnotationDataset, AnnotationDataset | None]:
    """The samples to learn from, and the held-out ones; None if there are none.

    The model's parameters must be prepared for training. If patch features are asked for, those
    of all videos are encoded here, by all processes together.

    Raises:
        VidgroundError: annotations or videos cannot be used, or none is within the limits.
    """
    frames = _frame_source(data, model)
    train = _dataset(data, data.annotations, kind, model, frames)
    held_out = _dataset(data, data.evaluation, kind, model, frames) if data.evaluation else None
    if isinstance(frames, PatchFrames):
        videos = videos_of([*train.annotations, *(held_out.annotations if held_out else ())])
        model.to(arguments.device)
        _prepare(frames, [Path(data.videos) / video for video in videos], arguments)
    return train, held_out


def _dataset(
    data: DataSource,
    files: Sequence[str],
    kind: ObjectiveName,
    model: D2VLM,
    frames: FrameSource,
) -> AnnotationDataset:
    tokenizers = model.tokenizers
    assert tokenizers is not None, "models to start from have tokenizers"
    annotations = load_annotations(
        files,
        video_root=data.videos,
        kind=kind,
        seed=data.rejected_seed,
        placement_seed=data.placement_seed,
    )
    selection = within_limits(annotations, data.limits, tokenizers=tokenizers, fps=data.fps)
    for reason, count in selection.dropped.items():
        _logger.info("%d of %d samples are left out: %s", count, len(annotations), reason)
    if not selection.kept:
        raise InputError(f"no sample of {', '.join(files)} is left; widen data.limits")
    return AnnotationDataset(
        selection.kept, tokenizers, frames, video_root=data.videos, fps=data.fps
    )


def _frame_source(data: DataSource, model: D2VLM) -> PixelFrames | PatchFrames:
    cache = None
    if data.cache is not None:
        cache = TensorCache(data.cache, max_bytes=int(data.cache_gib * _GIBIBYTE))
    if data.frames == "pixels":
        return PixelFrames(fps=data.fps, image_size=model.config.image_size, cache=cache)
    assert cache is not None, "checked by DataSource"
    return PatchFrames(model, fps=data.fps, cache=cache)


def _prepare(frames: PatchFrames, videos: Sequence[Path], arguments: TrainingArguments) -> None:
    """Encode the videos, each process its share."""
    share = videos[arguments.process_index :: arguments.world_size]
    with tqdm(total=len(share), unit="video", desc="patch features", disable=None) as bar:

        def show(done: int, _total: int) -> None:
            bar.update(done - bar.n)

        frames.prepare(share, on_progress=show)
    if arguments.world_size > 1:
        torch.distributed.barrier()
