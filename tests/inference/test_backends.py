"""Backends: the calling thread and the shared model thread give the same results."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.helpers.training_runs import tiny_model
from tests.helpers.video_files import make_video
from vidground.grounder import Grounder
from vidground.inference.backends import Backend, DirectBackend, SharedBackend
from vidground.memory import BatchSize
from vidground.model.d2vlm import D2VLM
from vidground.progress import Progress
from vidground.results.types import GroundingResult
from vidground.settings import BatchSettings, DecodingSettings

SHORT = DecodingSettings(max_new_tokens=8)


@pytest.fixture(scope="module")
def model() -> D2VLM:
    return tiny_model()


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("videos") / "video.mp4", frames=20, fps=4)


@pytest.mark.parametrize(("at_once", "kind"), [(1, DirectBackend), (2, SharedBackend)])
def test_all_work_of_a_function_goes_to_the_backend_it_is_given(
    model: D2VLM, video: Path, at_once: int, kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model runs in the calling thread only if one video is processed at a time."""
    grounder = Grounder(model, decoding=SHORT, batch=BatchSettings(videos=at_once))
    expected = grounder.query(video, "a red square")
    encode, threads = model.encode_frames, set[str]()

    def encode_frames(pixels: torch.Tensor) -> torch.Tensor:
        threads.add(threading.current_thread().name)
        return encode(pixels)

    def work(backend: Backend, path: Path) -> tuple[GroundingResult, GroundingResult]:
        assert type(backend) is kind
        encoded = grounder.encode(path, on_progress=heard.append, backend=backend)
        return (
            grounder.query(encoded, "a red square", backend=backend),
            grounder.ask(encoded, "what happens in <evi>?", about=[(1, 2)], backend=backend),
        )

    heard: list[Progress] = []
    monkeypatch.setattr(model, "encode_frames", encode_frames)
    outcomes = list(grounder.engine.work_on([video, video], work))
    names = {threading.current_thread().name} if at_once == 1 else {"model"}
    assert threads == names
    assert heard[-1].samples_done == 5
    for outcome in outcomes:
        assert not isinstance(outcome.result, Exception)
        found, asked = outcome.result
        assert found.answer == expected.answer
        times = [(moment.start_s, moment.end_s) for moment in found.moments]
        assert times == [(moment.start_s, moment.end_s) for moment in expected.moments]
        assert asked.provenance.about_s == ((1.0, 2.0),)


def test_a_direct_backend_calls_progress_functions_itself(model: D2VLM) -> None:
    frames = BatchSize(7)
    backend = DirectBackend(model, model, rows=BatchSize(2), frames=frames)  # type: ignore[arg-type]
    assert backend.relay(print) is print
    assert backend.relay(None) is None
    assert backend.chunk_size == 7


def test_a_shared_backend_posts_progress_and_takes_a_part_of_each_batch() -> None:
    posted: list[Callable[[], None]] = []
    frames = BatchSize(10)
    backend = SharedBackend(None, frames, posted.append)  # type: ignore[arg-type]
    heard: list[Progress] = []
    relayed = backend.relay(heard.append)
    assert relayed is not None
    assert backend.relay(None) is None
    relayed(Progress("video.mp4", 1, 2, 0, 1))
    assert heard == []
    posted.pop()()
    assert heard == [Progress("video.mp4", 1, 2, 0, 1)]
    assert backend.chunk_size == 3
    frames.halve(10)
    assert backend.chunk_size == 2
