"""Several videos at once give the same results as one by one."""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import vidground.features.frame_encoding
import vidground.generation.generation_queue
from tests.helpers.nearly import ROUNDING
from tests.helpers.random_models import tiny_config
from tests.helpers.training_runs import tiny_model
from tests.helpers.video_files import make_video
from vidground.benchmark.random_model import randomized
from vidground.captioner import DenseCaptioner
from vidground.errors import InternalError, VideoError, VidgroundError
from vidground.generation.batch_decoder import BatchDecoder
from vidground.grounder import Grounder
from vidground.inference.backends import Backend
from vidground.model.d2vlm import D2VLM
from vidground.progress import Progress
from vidground.results.types import Captions, GroundingResult
from vidground.settings import (
    BatchSettings,
    CacheSettings,
    DecodingSettings,
    IsolationSettings,
    SamplingSettings,
)
from vidground.video.reader import FrameRun, VideoReader

pytestmark = pytest.mark.numbers

SHORT = DecodingSettings(max_new_tokens=24)
LENGTHS = (31, 12, 5, 64, 20, 9, 40)  # frames at 4 per second
IN_WINDOWS = SamplingSettings(fps=2, window_s=3, overlap=0.3)


@pytest.fixture(scope="module")
def model() -> D2VLM:
    return tiny_model()


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("videos")
    paths = [folder / f"{number}.mp4" for number in range(len(LENGTHS))]
    for path, frames in zip(paths, LENGTHS, strict=True):
        make_video(path, frames=frames, fps=4)
    broken = folder / "broken.mp4"
    broken.write_bytes(b"no video")
    return [*paths[:3], broken, *paths[3:]]


def grounder(model: D2VLM, **batch: int) -> Grounder:
    return Grounder(model, decoding=SHORT, sampling=IN_WINDOWS, batch=BatchSettings(**batch))


def numbers(result: GroundingResult) -> list[float]:
    return [*result.relevance.values, *(moment.score for moment in result.moments)]


def plain(result: GroundingResult) -> GroundingResult:
    """Return a result without its scores, which differ by rounding."""
    moments = tuple(replace(moment, score=0.0) for moment in result.moments)
    no_values = replace(result.relevance, values=(0.0,) * len(result.relevance.values))
    return replace(result, moments=moments, relevance=no_values)


TEXTS = ["a red square", "something that is not there"]


@pytest.fixture(scope="module")
def alone(model: D2VLM, videos: list[Path]) -> list[list[GroundingResult]]:
    """Results of each good video alone, with one frame and one window at a time."""
    one = grounder(model, prompts=1, frames=1)
    return [one.query(path, TEXTS) for path in videos if path.name != "broken.mp4"]


@pytest.mark.parametrize(
    "batch",
    [
        {"videos": 3, "readers": 3, "prompts": 4, "frames": 7},
        {"videos": 8, "readers": 2, "prompts": 1, "frames": 2},
        {"videos": 1, "readers": 1, "prompts": 16, "frames": 64},
    ],
)
def test_several_at_once_give_the_same_as_one_by_one(
    model: D2VLM,
    videos: list[Path],
    alone: list[list[GroundingResult]],
    batch: dict[str, int],
) -> None:
    """Two questions about videos of many lengths, one of which is not a video."""
    failed: list[str] = []

    def on_error(path: str, error: VidgroundError) -> None:
        assert isinstance(error, VideoError)
        failed.append(Path(path).name)

    together = grounder(model, **batch)
    found = list(together.query_many(videos, TEXTS, on_error=on_error))
    assert failed == ["broken.mp4"]
    assert sum(len(results[0].provenance.windows_s) > 1 for results in alone) > 3
    for results, ours in zip(alone, found, strict=True):
        for one, other in zip(results, ours, strict=True):
            assert plain(one) == plain(other)
            assert numbers(one) == pytest.approx(numbers(other), abs=ROUNDING)


def test_one_video_at_a_time_gives_the_same_bits_whatever_the_timing(
    videos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows in other batches add up in another order, so batches must not depend on timing."""
    model = randomized(tiny_config())
    captioner = DenseCaptioner(
        model, decoding=SHORT, sampling=IN_WINDOWS, batch=BatchSettings(videos=1, prompts=4)
    )
    expected = list(captioner.caption_many(videos[:2]))
    assert any(event.score not in (None, 0) for captions in expected for event in captions)
    runs = VideoReader.runs

    def slow(reader: VideoReader) -> Iterator[FrameRun]:
        for run in runs(reader):
            time.sleep(0.01)
            yield run

    monkeypatch.setattr(VideoReader, "runs", slow)
    assert list(captioner.caption_many(videos[:2])) == expected


def test_frames_and_prompts_of_different_videos_share_batches(
    model: D2VLM, videos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    captioner = DenseCaptioner(
        model,
        decoding=SHORT,
        sampling=SamplingSettings(fps=2),
        batch=BatchSettings(videos=7, readers=7, prompts=7, frames=16),
    )
    seen: list[int] = []
    rows: list[int] = []
    encode, choose = model.encode_frames, BatchDecoder.step

    def encode_frames(pixels: torch.Tensor) -> torch.Tensor:
        seen.append(len(pixels))
        return encode(pixels)

    def step(decoder: BatchDecoder, embeds: torch.Tensor) -> None:
        rows.append(len(embeds))
        choose(decoder, embeds)

    monkeypatch.setattr(model, "encode_frames", encode_frames)
    monkeypatch.setattr(BatchDecoder, "step", step)
    good = [path for path in videos if path.name != "broken.mp4"]
    assert [Path(c.video.path) for c in captioner.caption_many(good)] == good
    # A video's thread sends 4 frames at a time; all videos here have one window.
    assert max(seen) > 4
    assert max(rows) > 1


def test_the_numbers_of_videos_in_progress_and_of_readers_are_limited(
    model: D2VLM, videos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory does not grow with the number of videos."""
    captioner = DenseCaptioner(
        model, decoding=SHORT, batch=BatchSettings(videos=3, readers=2, prompts=2, frames=4)
    )
    good = [path for path in videos if path.name != "broken.mp4"]
    reading, most_reading, in_flight, most_in_flight = 0, 0, 0, 0
    lock = threading.Lock()
    opened = captioner.engine._source.open

    class Counted:
        def __init__(self, path: Path) -> None:
            self._reader = opened(path)

        def __getattr__(self, name: str) -> object:
            return getattr(self._reader, name)

        def runs(self) -> Iterator[object]:
            nonlocal reading, most_reading
            with lock:
                reading += 1
                most_reading = max(most_reading, reading)
            yield from self._reader.runs()
            time.sleep(0.02)
            with lock:
                reading -= 1

    def taken() -> Iterator[Path]:
        nonlocal in_flight, most_in_flight
        for path in good:
            in_flight += 1
            most_in_flight = max(most_in_flight, in_flight)
            yield path

    monkeypatch.setattr(captioner.engine._source, "open", Counted)
    for _ in captioner.engine.work_on(
        taken(), lambda backend, path: captioner.caption(path, backend=backend)
    ):
        in_flight -= 1
    assert most_reading == 2
    assert most_in_flight == 3


def test_isolated_videos_fail_alone_and_processes_are_reused(
    model: D2VLM, videos: list[Path]
) -> None:
    captioner = DenseCaptioner(
        model,
        decoding=SHORT,
        isolation=IsolationSettings(),
        batch=BatchSettings(videos=3, readers=2),
    )
    failed: list[str] = []
    done = list(captioner.caption_many(videos, on_error=lambda path, _: failed.append(path)))
    assert [Path(path).name for path in failed] == ["broken.mp4"]
    assert len(done) == len(LENGTHS)
    decoder = captioner.engine._decoder
    assert decoder is not None
    assert 1 <= len(decoder._idle) <= 2
    decoder.close()


def test_progress_and_results_arrive_in_the_iterating_thread(
    model: D2VLM, videos: list[Path]
) -> None:
    heard: list[Progress] = []
    threads = set()

    def hear(progress: Progress) -> None:
        heard.append(progress)
        threads.add(threading.current_thread())

    captioner = DenseCaptioner(model, decoding=SHORT, batch=BatchSettings(videos=3))
    captions = list(captioner.caption_many(videos[:3], on_progress=hear))
    assert threads == {threading.current_thread()}
    for result in captions:
        last = [progress for progress in heard if progress.path == result.video.path][-1]
        assert (last.samples_done, last.answers_done) == (last.samples, last.answers)


def test_without_on_error_the_iteration_ends_at_the_failed_video(
    model: D2VLM, videos: list[Path]
) -> None:
    captioner = DenseCaptioner(model, decoding=SHORT, batch=BatchSettings(videos=8))
    many = captioner.caption_many(videos)
    assert [Path(next(many).video.path) for _ in range(3)] == videos[:3]
    with pytest.raises(VideoError, match=r"broken\.mp4"):
        next(many)


def test_video_threads_pass_pixels_and_the_model_thread_normalises(
    model: D2VLM, videos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    normalised: list[tuple[str, torch.dtype]] = []
    normalize = vidground.features.frame_encoding.normalize

    def noting(frames: torch.Tensor, **options: Any) -> torch.Tensor:
        normalised.append((threading.current_thread().name, frames.dtype))
        return normalize(frames, **options)

    monkeypatch.setattr(vidground.features.frame_encoding, "normalize", noting)
    captioner = DenseCaptioner(model, decoding=SHORT)
    found = list(captioner.caption_many(videos, on_error=lambda *_: None))
    assert len(found) == len(videos) - 1  # one is broken
    assert set(normalised) == {("model", torch.uint8)}


@pytest.mark.parametrize("at_once", [1, 3])
def test_a_bug_is_reported_per_video_or_raised_unchanged(
    model: D2VLM, videos: list[Path], at_once: int
) -> None:
    captioner = DenseCaptioner(model, decoding=SHORT, batch=BatchSettings(videos=at_once))
    encode = captioner.engine._encoder.encode_pixels

    def encode_pixels(pixels: torch.Tensor) -> torch.Tensor:
        if len(heard) < 2:
            raise RuntimeError("the card fell off the bus")
        return encode(pixels)

    heard: list[tuple[str, VidgroundError]] = []
    captioner.engine._encoder.encode_pixels = encode_pixels  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match=r"^the card fell off the bus$"):
        list(captioner.caption_many(videos[:2]))
    captioner.engine._encoder.encode_pixels = encode_pixels  # type: ignore[method-assign]
    good = list(captioner.caption_many(videos, on_error=lambda *told: heard.append(told)))
    internal = [error for _, error in heard if isinstance(error, InternalError)]
    assert 2 <= len(internal) <= 2 + at_once
    assert len(good) == len(videos) - len(heard)
    for error in internal:
        assert "RuntimeError: the card fell off the bus" in str(error)
        assert isinstance(error.__cause__, RuntimeError)
        assert "in encode_pixels" in error.traceback


def test_ending_early_ends_all_threads(model: D2VLM, videos: list[Path]) -> None:
    """As Ctrl-C does, whatever the other threads are doing."""
    before = set(threading.enumerate())
    captioner = DenseCaptioner(model, decoding=SHORT, batch=BatchSettings(videos=4))
    many = captioner.caption_many(videos[:3] + videos[4:])
    next(many)
    many.close()
    assert set(threading.enumerate()) <= before

    def interrupt(_: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(captioner.caption_many(videos, on_progress=interrupt))
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize("at_once", [1, 2])
def test_system_exit_ends_the_iteration(model: D2VLM, videos: list[Path], at_once: int) -> None:
    captioner = DenseCaptioner(model, decoding=SHORT, batch=BatchSettings(videos=at_once))

    def work(_: Backend, __: Path) -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        list(captioner.engine.work_on(videos[:2], work))


def test_a_bug_in_decoding_fails_waiting_prompts_only(
    model: D2VLM, videos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = vidground.generation.generation_queue.GenerationQueue
    advance, calls = queue.advance, [0]

    def broken(self: vidground.generation.generation_queue.GenerationQueue) -> object:
        calls[0] += 1
        if calls[0] <= 1:
            raise IndexError("no such row")
        return advance(self)

    monkeypatch.setattr(queue, "advance", broken)
    captioner = DenseCaptioner(model, decoding=SHORT, batch=BatchSettings(videos=2))
    heard: list[VidgroundError] = []
    good = [path for path in videos if path.name != "broken.mp4"]
    made = list(captioner.caption_many(good, on_error=lambda _, error: heard.append(error)))
    assert 1 <= len(heard) <= 2  # of those that were in flight
    assert len(made) == len(good) - len(heard)
    assert all("IndexError: no such row" in str(error) for error in heard)
    calls[0] = 0
    with pytest.raises(IndexError, match="no such row"):
        list(captioner.caption_many(good[:3]))


def test_each_video_is_charged_its_share_of_the_time(model: D2VLM, videos: list[Path]) -> None:
    """While two videos are in progress, each is charged half, so that the shares add up."""
    captioner = DenseCaptioner(model, decoding=SHORT, batch=BatchSettings(videos=2, readers=2))

    def work(backend: Backend, path: Path) -> Captions:
        time.sleep(0.1)
        return captioner.caption(path, backend=backend)

    begin = time.monotonic()
    shares = [landed.elapsed_s for landed in captioner.engine.work_on(videos[:3], work)]
    assert 0 < sum(shares) <= time.monotonic() - begin
    assert sum(shares) >= 0.2


def test_several_videos_at_once_use_the_cache(
    videos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model()
    good = [path for path in videos if path.name != "broken.mp4"]

    def results() -> list[GroundingResult]:
        grounder = Grounder(
            model,
            decoding=SHORT,
            sampling=IN_WINDOWS,
            batch=BatchSettings(videos=3, readers=3),
            cache=CacheSettings(folder=str(tmp_path / "cache")),
        )
        return [result for (result,) in grounder.query_many(good, "a red square")]

    first = results()

    def encode_frames(_: torch.Tensor) -> torch.Tensor:
        raise AssertionError("encoded again")

    monkeypatch.setattr(model, "encode_frames", encode_frames)
    for one, other in zip(first, results(), strict=True):
        assert plain(one) == plain(other)
        assert numbers(one) == pytest.approx(numbers(other), abs=ROUNDING)
