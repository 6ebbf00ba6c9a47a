"""A toy data set on disk: films as mp4 files, training annotations, a benchmark, absent queries.

Each film is drawn from a random stream of its own, so it does not depend on the number of films,
no film of one split occurs in another, and training may use films that were never written
(`toy_film`). Knows no model.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
from numpy.typing import NDArray

from vidground.errors import FormatError, InputError
from vidground.storage.atomic import atomic_path, make_folder, write_atomically
from vidground.training.toy.annotations import absent_queries, annotations, bench_samples
from vidground.training.toy.drawing import MIN_SIZE, render
from vidground.training.toy.world import DEFAULT_SETTINGS, ToySettings, ToyVideo, sample_video
from vidground.video.writing import write_h264

Split = Literal["train", "test"]
SPLITS: tuple[Split, ...] = ("train", "test")
TEST_SHARE = 0.2
"""Default share of the films of a data set that are for testing."""
SCHEMA_VERSION = 1

_FRAMES_AT_ONCE = 64
# The same frames give the same bytes (on one kind of processor): one thread, no dates or versions
# in the file, and no macroblock tree, whose results differ from run to run. Chroma is quantized
# finely: otherwise the traces of a dark shape remain visible for seconds after it is gone.
_CONTAINER = {"fflags": "+bitexact"}
_ENCODING = {
    "preset": "veryfast",
    "crf": "27",  # constant quality: visible but mild compression
    "threads": "1",
    "x264-params": "mbtree=0:chroma-qp-offset=-12:no-dct-decimate=1",
}


@dataclass(frozen=True, slots=True)
class ToyFilm:
    """A film of a data set.

    Attributes:
        split: "train" or "test".
        path: of its file, relative to the folder of the data set.
        video: its events and what they are drawn on.
        noise_seed: see `render`.
        question_seed: of the generator that its questions are drawn from.
    """

    split: Split
    path: str
    video: ToyVideo
    noise_seed: int
    question_seed: int


def toy_film(
    seed: int, split: Split, index: int, *, settings: ToySettings = DEFAULT_SETTINGS
) -> ToyFilm:
    """Return film `index` of a split of the data set with this seed; both are 0 or more."""
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    noise_seed, question_seed = rng.integers(2**63, size=2).tolist()
    return ToyFilm(
        split=split,
        path=f"videos/{split}_{index:06d}.mp4",
        video=sample_video(rng, settings=settings),
        noise_seed=noise_seed,
        question_seed=question_seed,
    )


def write_dataset(
    out: Path,
    *,
    videos: int,
    seed: int,
    settings: ToySettings = DEFAULT_SETTINGS,
    size: int = 112,
    test_share: float = TEST_SHARE,
    on_progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write a data set, or the missing part of one with the same settings.

    Writes manifest.json (settings, seed, files of each split), videos/*.mp4, sft.json (training
    samples of the train split), etbench/<task>.json (samples of the test split) and absent.json
    (queries for what is not in the videos of the test split). The field `video` of a sample is
    relative to `out`. Files are written atomically. The number of videos may grow from call to
    call; existing ones are kept.

    Args:
        out: folder of the data set.
        videos: number of all videos, 2 or more.
        seed: 0 or more.
        settings: what films are like.
        size: side of the frames in pixels, even.
        test_share: share of videos in the test split, rounded, at least one.
        on_progress: called with the number of finished videos and of all, after each.

    Raises:
        InputError: an argument is out of range, or `out` holds a data set of other settings.
        FormatError: a file cannot be written.
    """
    _check(videos, seed, size, test_share)
    test = max(1, round(videos * test_share))
    counts: dict[Split, int] = {"train": videos - test, "test": test}
    films = [
        toy_film(seed, split, index, settings=settings)
        for split, count in counts.items()
        for index in range(count)
    ]
    make_folder(out / "videos")
    make_folder(out / "etbench")
    _write_manifest(out / "manifest.json", films, seed, settings, size)
    for done, film in enumerate(films, start=1):
        if not (out / film.path).exists():
            _write_film(out / film.path, film, fps=settings.fps, size=size)
        if on_progress is not None:
            on_progress(done, len(films))
    _write_annotations(out, films)


def write_video(path: Path, frames: Iterator[NDArray[np.uint8]], *, fps: int) -> None:
    """Encode frames as an H.264 MP4 file of constant rate, written atomically.

    Args:
        path: of the file.
        frames: one or more, (S, S, 3) RGB each, S even.
        fps: frames per second.

    Raises:
        FormatError: the file cannot be written.
    """
    with atomic_path(path) as temporary:
        try:
            write_h264(
                temporary,
                enumerate(frames),
                rate=fps,
                time_base=Fraction(1, fps),
                encoding=_ENCODING,
                container=_CONTAINER,
            )
        except (av.FFmpegError, OSError) as error:
            raise FormatError(f"{path}: cannot be encoded: {error}") from error


def _check(videos: int, seed: int, size: int, test_share: float) -> None:
    for name, value, limit, held in (
        ("videos", videos, "2 or more: one to train on, one to test on", videos >= 2),
        ("seed", seed, "0 or more", seed >= 0),
        ("test_share", test_share, "above 0 and at most 1", 0 < test_share <= 1),
        ("size", size, f"{MIN_SIZE} or more pixels", size >= MIN_SIZE),
        ("size", size, "even, as H.264 requires", size % 2 == 0),
    ):
        if not held:
            raise InputError(f"{name} is {value}; it must be {limit}")


def _write_manifest(
    path: Path, films: list[ToyFilm], seed: int, settings: ToySettings, size: int
) -> None:
    """Write what defines the data set before its first video, for later calls to compare."""
    splits = {split: [film.path for film in films if film.split == split] for split in SPLITS}
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "seed": seed,
        "size": size,
        "settings": settings.as_dict(),
        "splits": splits,
    }
    if path.exists():
        _check_continues(path, manifest)
    elif any((path.parent / "videos").iterdir()):
        raise InputError(f"{path.parent} holds videos that are not of a toy set; name a new folder")
    write_atomically(path, _json(manifest))


def _check_continues(path: Path, manifest: dict[str, Any]) -> None:
    """Raise InputError unless `manifest` describes the data set at `path`, or a larger one."""
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        there = sum(map(len, known["splits"].values()))
        differing = [
            name for name in manifest if name != "splits" and known[name] != manifest[name]
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} cannot be read ({error!r}); name a new folder") from error
    if differing:
        raise InputError(
            f"{path.parent} holds a set made with another {' and '.join(sorted(differing))}; "
            "repeat the call that made it, or name a new folder"
        )
    videos = sum(map(len, manifest["splits"].values()))
    if videos < there:
        raise InputError(
            f"videos is {videos}; {path.parent} already holds {there}: name at least as many, or a "
            "new folder"
        )


def _write_film(path: Path, film: ToyFilm, *, fps: int, size: int) -> None:
    times_s = np.arange(round(film.video.duration_s * fps)) / fps
    parts = np.split(times_s, range(_FRAMES_AT_ONCE, len(times_s), _FRAMES_AT_ONCE))
    frames = (
        frame
        for part in parts
        for frame in render(film.video, part, size=size, noise_seed=film.noise_seed)
    )
    write_video(path, frames, fps=fps)


def _write_annotations(out: Path, films: list[ToyFilm]) -> None:
    training: list[dict[str, Any]] = []
    benchmark: dict[str, list[dict[str, Any]]] = {}
    absent: list[dict[str, Any]] = []
    for film in films:
        drawn = (film.video, film.path, np.random.default_rng(film.question_seed))
        if film.split == "train":
            training += annotations(*drawn)
            continue
        for sample in bench_samples(*drawn):
            numbered = benchmark.setdefault(sample["task"], [])
            numbered.append(sample | {"idx": len(numbered)})
        absent += absent_queries(*drawn, first_idx=len(absent))
    for task, samples in benchmark.items():
        write_atomically(out / "etbench" / f"{task}.json", _json(samples))
    write_atomically(out / "absent.json", _json(absent))
    write_atomically(out / "sft.json", _json(training))


def _json(value: object) -> str:
    return json.dumps(value, indent=1) + "\n"
