"""The data sets of a run: annotations within the limits, and where their frames come from.

Knows neither the objective's loss nor the trainer.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from tqdm import tqdm
from transformers import TrainingArguments

from vidground.errors import InputError
from vidground.modeling import D2VLM
from vidground.training.annotations import load_annotations
from vidground.training.dataset import AnnotationDataset, FrameSource, within_limits
from vidground.training.frame_cache import PatchFrames, PixelFrames, TokenFrames
from vidground.training.run_config import DataSource, ObjectiveName
from vidground.training.tensor_cache import TensorCache

_logger = logging.getLogger(__name__)
_GIBIBYTE = 1 << 30

Item = TypeVar("Item")


def load_data(
    data: DataSource, kind: ObjectiveName, model: D2VLM, arguments: TrainingArguments
) -> tuple[AnnotationDataset, AnnotationDataset | None]:
    """The samples to learn from, and the held-out ones; None if there are none.

    The model's parameters must be prepared for training. If patch features or frame tokens are
    asked for, those of all videos are made here, by all processes together.

    Raises:
        VidgroundError: annotations or videos cannot be used, or none is within the limits.
    """
    frames = _frame_source(data, model)
    train = _dataset(data, data.annotations, kind, model, frames)
    held_out = _dataset(data, data.evaluation, kind, model, frames) if data.evaluation else None
    if not isinstance(frames, PixelFrames):
        model.to(arguments.device)
        asked = [pair for dataset in (train, held_out) if dataset for pair in dataset.asked()]
        if isinstance(frames, TokenFrames):
            _prepare(frames.prepare, asked, "frame tokens", arguments)
        else:
            videos = list(dict.fromkeys(path for path, _ in asked))
            _prepare(frames.prepare, videos, "patch features", arguments)
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


def _frame_source(data: DataSource, model: D2VLM) -> PixelFrames | PatchFrames | TokenFrames:
    cache = None
    if data.cache is not None:
        cache = TensorCache(data.cache, max_bytes=int(data.cache_gib * _GIBIBYTE))
    if data.frames == "pixels":
        return PixelFrames(fps=data.fps, image_size=model.config.image_size, cache=cache)
    assert cache is not None, "checked by DataSource"
    kind = PatchFrames if data.frames == "patches" else TokenFrames
    return kind(model, fps=data.fps, cache=cache)


def _prepare(
    prepare: Callable[[Sequence[Item], Callable[[int, int], None]], None],
    items: Sequence[Item],
    what: str,
    arguments: TrainingArguments,
) -> None:
    """Make what the cache is to hold of the items, each process its share."""
    share = items[arguments.process_index :: arguments.world_size]
    with tqdm(total=len(share), unit="video", desc=what, disable=None) as bar:

        def show(done: int, _total: int) -> None:
            bar.update(done - bar.n)

        prepare(share, show)
    if arguments.world_size > 1:
        torch.distributed.barrier()
