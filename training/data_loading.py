"""The data sets of a run: annotations within the limits, and where their frames come from.

Knows neither the objective's loss nor the trainer.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
from tqdm import tqdm
from transformers import TrainingArguments

from vidground.errors import InputError, VideoError
from vidground.model.d2vlm import D2VLM
from vidground.training.config import DataSet, DataSource, ObjectiveName
from vidground.training.data.annotations import Annotation, load_annotations, videos_of
from vidground.training.data.dataset import (
    AnnotationDataset,
    FrameSource,
    weighted,
    within_limits,
)
from vidground.training.data.frame_sources import PatchFrames, PixelFrames, TokenFrames
from vidground.training.data.tensor_cache import TensorCache
from vidground.training.data.video_checks import measure_videos, without_unreadable

_logger = logging.getLogger(__name__)
_GIBIBYTE = 1 << 30

Item = TypeVar("Item")


def load_data(
    data: DataSource,
    kind: ObjectiveName,
    model: D2VLM,
    arguments: TrainingArguments,
    *,
    quiet: bool = False,
) -> tuple[AnnotationDataset, AnnotationDataset | None]:
    """The samples to learn from, and the held-out ones; None if there are none.

    The model's parameters must be prepared for training. If patch features or frame tokens are
    asked for, those of all videos are made here, by all processes together. quiet: show no bars.

    Raises:
        VidgroundError: annotations or videos cannot be used, or none is within the limits.
    """
    quiet = quiet or arguments.process_index > 0
    frames = _frame_source(data, model)
    train = _dataset(data, data.all_sets, kind, model, frames, quiet=quiet)
    held_out = None
    if data.evaluation:
        tests = (DataSet(data.evaluation, data.folders),)
        held_out = _dataset(data, tests, kind, model, frames, quiet=quiet)
    if not isinstance(frames, PixelFrames):
        model.to(arguments.device)
        asked = [pair for dataset in (train, held_out) if dataset for pair in dataset.asked()]
        if isinstance(frames, TokenFrames):
            _prepare(frames.prepare, asked, "frame tokens", arguments, quiet=quiet)
        else:
            videos = list(dict.fromkeys(path for path, _ in asked))
            _prepare(frames.prepare, videos, "patch features", arguments, quiet=quiet)
    return train, held_out


def _dataset(
    data: DataSource,
    sets: Sequence[DataSet],
    kind: ObjectiveName,
    model: D2VLM,
    frames: FrameSource,
    *,
    quiet: bool,
) -> AnnotationDataset:
    tokenizers = model.tokenizers
    assert tokenizers is not None, "models to start from have tokenizers"
    chosen: list[Annotation] = []
    for item in sets:
        annotations = load_annotations(
            item.annotations,
            video_root=item.videos,
            kind=kind,
            seed=data.rejected_seed,
            placement_seed=data.placement_seed,
            # A missing file is left out and counted like one that cannot be read.
            keep_missing=data.unreadable == "skip",
        )
        selection = within_limits(annotations, data.limits, tokenizers=tokenizers, fps=data.fps)
        for reason, count in selection.dropped.items():
            _logger.info("%d of %d samples are left out: %s", count, len(annotations), reason)
        kept = selection.kept
        if data.unreadable == "skip":
            kept = _readable(kept, quiet=quiet)
        chosen += weighted(kept, item.weight, seed=data.rejected_seed)
    if not chosen:
        files = ", ".join(file for item in sets for file in item.annotations)
        raise InputError(
            f"no sample of {files} is left; widen data.limits, or check the videos: "
            "vidground data validate --videos"
        )
    return AnnotationDataset(chosen, tokenizers, frames, fps=data.fps)


def _readable(annotations: Sequence[Annotation], *, quiet: bool) -> tuple[Annotation, ...]:
    """Return the annotations whose video opens; report and count the others."""
    with _bar("videos opened", len(videos_of(annotations)), quiet=quiet) as show:
        measured = measure_videos(annotations, on_progress=show)
    selection = without_unreadable(annotations, measured)
    for error in measured.values():
        if isinstance(error, VideoError):
            _logger.warning("left out: %s", error)
    for reason, count in selection.dropped.items():
        _logger.warning("%d of %d samples are left out: %s", count, len(annotations), reason)
    return selection.kept


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
    *,
    quiet: bool,
) -> None:
    """Make what the cache is to hold of the items, each process its share."""
    share = items[arguments.process_index :: arguments.world_size]
    with _bar(what, len(share), quiet=quiet) as show:
        prepare(share, show)
    if arguments.world_size > 1:
        torch.distributed.barrier()


@contextmanager
def _bar(what: str, total: int, *, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error, if that is a terminal; lend what moves it."""
    with tqdm(total=total, unit="video", desc=what, disable=True if quiet else None) as bar:

        def show(done: int, _total: int) -> None:
            bar.update(done - bar.n)

        yield show
