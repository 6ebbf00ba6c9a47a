"""The data sets of a run: annotations within the limits, and the source of their frames."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
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
_LINE_EVERY_S = 30.0  # where a bar cannot be shown

Item = TypeVar("Item")


@dataclass(frozen=True)
class SetAnnotations:
    """Annotations of one data set, checked as far as that takes no model.

    Attributes:
        annotations: those within the limits that can be checked.
        weight: how often each is seen in an epoch.
    """

    annotations: tuple[Annotation, ...]
    weight: float = 1.0


@dataclass(frozen=True)
class RunAnnotations:
    """Annotations of a run.

    Attributes:
        train: data sets to train on.
        held_out: held-out data sets; empty if there are none.
    """

    train: tuple[SetAnnotations, ...]
    held_out: tuple[SetAnnotations, ...] = ()


def read_annotations(
    data: DataSource, kind: ObjectiveName, *, quiet: bool = False
) -> RunAnnotations:
    """Read and check the annotations of a run, and their videos as far as asked.

    Args:
        data: where they are.
        kind: the objective, which decides their format.
        quiet: show no progress.

    Raises:
        VidgroundError: a folder is missing, annotations or videos cannot be used, or none is
            within the limits.
    """
    for item in data.all_sets:
        if not any(Path(folder).is_dir() for folder in item.videos):
            folders = ", ".join(item.videos)
            raise InputError(f"the folder of videos {folders} does not exist; check data.videos")
    held_out = (DataSet(data.evaluation, data.folders),) if data.evaluation else ()
    return RunAnnotations(
        *(_checked(data, sets, kind, quiet=quiet) for sets in (data.all_sets, held_out))
    )


def load_data(
    annotations: RunAnnotations,
    data: DataSource,
    model: D2VLM,
    arguments: TrainingArguments,
    *,
    quiet: bool = False,
) -> tuple[AnnotationDataset, AnnotationDataset | None]:
    """Return the data sets to train on and to evaluate on; the second may be None.

    Patch features or frame tokens, if the configuration asks for them, are computed here for all
    videos, divided among the processes.

    Args:
        annotations: see `read_annotations`.
        data: where the videos are, and how they are read.
        model: with its parameters prepared for training.
        arguments: of the trainer.
        quiet: show no progress.

    Raises:
        VidgroundError: a video cannot be used, or no sample is within the limits.
    """
    quiet = quiet or arguments.process_index > 0
    frames = _frame_source(data, model)
    train = _dataset(data, annotations.train, model, frames)
    held_out = _dataset(data, annotations.held_out, model, frames) if data.evaluation else None
    if not isinstance(frames, PixelFrames):
        model.to(arguments.device)
        asked = [pair for dataset in (train, held_out) if dataset for pair in dataset.asked()]
        if isinstance(frames, TokenFrames):
            _prepare(frames.prepare, asked, "frame tokens", arguments, quiet=quiet)
        else:
            videos = list(dict.fromkeys(path for path, _ in asked))
            _prepare(frames.prepare, videos, "patch features", arguments, quiet=quiet)
    return train, held_out


def _checked(
    data: DataSource, sets: Sequence[DataSet], kind: ObjectiveName, *, quiet: bool
) -> tuple[SetAnnotations, ...]:
    checked = []
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
        kept = _within_limits(annotations, data, None)
        if data.unreadable == "skip":
            kept = _readable(kept, quiet=quiet)
        checked.append(SetAnnotations(kept, item.weight))
    if sets:
        files = [file for item in sets for file in item.annotations]
        _check_any_left([a for item in checked for a in item.annotations], files)
    return tuple(checked)


def _dataset(
    data: DataSource, sets: Sequence[SetAnnotations], model: D2VLM, frames: FrameSource
) -> AnnotationDataset:
    assert model.tokenizers is not None, "models to start from have tokenizers"
    chosen: list[Annotation] = []
    for item in sets:
        kept = _within_limits(item.annotations, data, model)
        chosen += weighted(kept, item.weight, seed=data.rejected_seed)
    _check_any_left(chosen, sorted({str(a.file) for item in sets for a in item.annotations}))
    return AnnotationDataset(chosen, model.tokenizers, frames, fps=data.fps)


def _within_limits(
    annotations: Sequence[Annotation], data: DataSource, model: D2VLM | None
) -> tuple[Annotation, ...]:
    """Return the annotations within the limits; that of tokens is checked with a model only."""
    tokenizers = None if model is None else model.tokenizers
    selection = within_limits(annotations, data.limits, tokenizers=tokenizers, fps=data.fps)
    for reason, count in selection.dropped.items():
        _logger.info("%d of %d samples are left out: %s", count, len(annotations), reason)
    return selection.kept


def _check_any_left(kept: Sequence[Annotation], files: Sequence[str]) -> None:
    if not kept:
        raise InputError(
            f"no sample of {', '.join(files)} is left; widen data.limits, or check the videos: "
            "vidground data validate --videos"
        )


def _readable(annotations: Sequence[Annotation], *, quiet: bool) -> tuple[Annotation, ...]:
    """Return the annotations whose video opens; report and count the others."""
    with _progress("videos opened", len(videos_of(annotations)), quiet=quiet) as show:
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
    """Fill the cache with the items; each process computes its share."""
    share = items[arguments.process_index :: arguments.world_size]
    with _progress(what, len(share), quiet=quiet) as show:
        prepare(share, show)
    if arguments.world_size > 1:
        torch.distributed.barrier()


@contextmanager
def _progress(what: str, total: int, *, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """Show progress as a bar on standard error, or as log lines if that is not a terminal."""
    with tqdm(total=total, unit="video", desc=what, disable=True if quiet else None) as bar:
        shown_s = time.monotonic()

        def show(done: int, _total: int) -> None:
            nonlocal shown_s
            bar.update(done - bar.n)
            now_s = time.monotonic()
            if bar.disable and not quiet and (now_s - shown_s >= _LINE_EVERY_S or done == total):
                shown_s = now_s
                _logger.info("%s: %d of %d", what, done, total)

        yield show
