"""A toy data set on disk: films as mp4 files, training annotations, a benchmark, absent queries.

Film k of a split is drawn from its own stream of random numbers, so a film does not depend on
how many others there are, no film of one split occurs in another, and training may go on with
films that were never written (`toy_film`). Knows no model.
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
"""Share of the films of a data set that are for testing, unless another is asked for."""
SCHEMA_VERSION = 1

_FRAMES_AT_ONCE = 64
# The same frames give the same bytes (on one kind of processor): one thread, no dates or versions
# in the file, and no macroblock tree, whose results differ from run to run. Colours are kept
# finely: else the ghost of a dark one, worth no bits, outlives its shape by seconds.
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

    path: of its file, relative to the folder of the set. noise_seed: of `render`.
    question_seed: of the random numbers that its questions are drawn with.
    """

    split: Split
    path: str
    video: ToyVideo
    noise_seed: int
    question_seed: int


def toy_film(
    seed: int, split: Split, index: int, *, settings: ToySettings = DEFAULT_SETTINGS
) -> ToyFilm:
    """Film `index` of a split of the data set that `seed` makes; all three are 0 or more."""
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
    """Write a data set, or what is missing of one that was begun with the same settings.

    Under `out` appear manifest.json (settings, seed, files of each split), videos/*.mp4,
    sft.json (training samples of the train split), etbench/<task>.json (samples of the test
    split) and absent.json (queries for what is not in the videos of the test split). The field
    `video` of a sample is relative to `out`. Files appear by rename: what is there is whole. The
    number of videos may grow from call to call; those that are there are kept.

    Args:
        videos: in all, 2 or more. seed: 0 or more. size: side of the frames in pixels, even.
        test_share: of the videos that are the test split, rounded, one at least.
        on_progress: called with the number of videos that are there and of all, after each.

    Raises:
        InputError: an argument is out of range, or `out` holds a set of other settings.
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
    """Encode frames as an h264 mp4 file of constant rate; the file appears when it is whole.

    frames: one or more, (S, S, 3) RGB each, S even. fps: frames per second.

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
        ("videos", videos, "2 or more: one to learn from, one to test with", videos >= 2),
        ("seed", seed, "0 or more", seed >= 0),
        ("test_share", test_share, "above 0 and at most 1", 0 < test_share <= 1),
        ("size", size, f"{MIN_SIZE} or more pixels", size >= MIN_SIZE),
        ("size", size, "even, as h264 asks", size % 2 == 0),
    ):
        if not held:
            raise InputError(f"{name} is {value}; it must be {limit}")


def _write_manifest(
    path: Path, films: list[ToyFilm], seed: int, settings: ToySettings, size: int
) -> None:
    """Write what makes the set, before its first video, so that a later call can compare."""
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
        raise InputError(f"{path.parent} holds videos of another origin; name a new folder")
    write_atomically(path, _json(manifest))


def _check_continues(path: Path, manifest: dict[str, Any]) -> None:
    """Raise InputError unless `manifest` is that of the set at `path`, or of a larger one."""
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
            f"videos is {videos}; {path.parent} is a set of {there} already: "
            "ask for as many or more, or name a new folder"
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
