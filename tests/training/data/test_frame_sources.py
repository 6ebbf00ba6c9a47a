"""Cached frames equal decoded ones, are made once, and never take more room than they may."""

import json
import multiprocessing
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from tests.helpers.annotation_files import sft_sample, write
from tests.helpers.video_files import make_video
from vidground.errors import FormatError, InputError, VideoError
from vidground.model.d2vlm import D2VLM
from vidground.training.data import frame_sources as frame_cache
from vidground.training.data.annotations import load_annotations
from vidground.training.data.collation import Collator
from vidground.training.data.dataset import AnnotationDataset
from vidground.training.data.frame_sources import PatchFrames, PixelFrames, TokenFrames
from vidground.training.data.tensor_cache import TensorCache
from vidground.training.objectives.settings import ParameterSettings, SftSettings
from vidground.training.objectives.sft import sft_losses
from vidground.training.parameters import prepare_parameters
from vidground.training.toy.model import make_toy_model, toy_config
from vidground.training.toy.tokenizers import make_toy_tokenizers
from vidground.video.preprocessing import normalize
from vidground.video.reader import VideoReader

SIZE = 32
LARGE = 1 << 24


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six seconds; sampled twice a second, every frame is shown for two samples."""
    return make_video(tmp_path_factory.mktemp("video") / "a.mp4", frames=6, fps=1)


@pytest.fixture
def no_decoding(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    def forbid() -> None:
        def runs(_: VideoReader) -> None:
            raise AssertionError("decoded again")

        monkeypatch.setattr(VideoReader, "runs", runs)

    return forbid


def decoded(path: Path, fps: float, size: int = SIZE) -> torch.Tensor:
    reader = VideoReader(path, fps=fps, image_size=size)
    frames = torch.empty(len(reader.times_s), 3, size, size, dtype=torch.uint8)
    for run in reader.runs():
        frames[run.first : run.last + 1] = run.pixels
    return frames


def stored(folder: Path) -> int:
    """Bytes of the tensors' files."""
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


@pytest.mark.parametrize("fps", [1.0, 2.0, 0.5])
def test_cached_frames_are_the_decoded_ones(
    tmp_path: Path, video: Path, no_decoding: Callable[[], None], fps: float
) -> None:
    expected = decoded(video, fps)
    frames = PixelFrames(fps=fps, image_size=SIZE, cache=TensorCache(tmp_path, max_bytes=LARGE))
    assert frames(video).equal(expected)
    no_decoding()
    assert frames(video).equal(expected)
    again = PixelFrames(fps=fps, image_size=SIZE, cache=TensorCache(tmp_path, max_bytes=LARGE))
    assert again(video).equal(expected)
    assert again(video).dtype == torch.uint8


def test_a_frame_shown_twice_is_stored_once(tmp_path: Path, video: Path) -> None:
    cache = TensorCache(tmp_path, max_bytes=LARGE)
    assert PixelFrames(fps=2, image_size=SIZE, cache=cache)(video).shape == (12, 3, SIZE, SIZE)
    assert 6 * 3 * SIZE**2 <= stored(tmp_path) < 7 * 3 * SIZE**2


def test_without_a_cache_every_call_decodes(video: Path, no_decoding: Callable[[], None]) -> None:
    frames = PixelFrames(fps=1, image_size=SIZE)
    assert frames(video).equal(decoded(video, 1))
    no_decoding()
    with pytest.raises(AssertionError, match="decoded again"):
        frames(video)


def test_what_frames_depend_on_is_in_the_key(tmp_path: Path, video: Path) -> None:
    frames = PixelFrames(fps=1, image_size=SIZE)
    renamed = Path(shutil.copy(video, tmp_path / "b.mp4"))
    assert frames.key(renamed) == frames.key(video)
    others = [PixelFrames(fps=2, image_size=SIZE), PixelFrames(fps=1, image_size=40)]
    keys = {frames.key(video), *(other.key(video) for other in others)}
    assert len(keys) == 3
    make_video(renamed, frames=5, fps=1)
    assert frames.key(renamed) not in keys


def test_a_missing_video_is_an_error(tmp_path: Path) -> None:
    frames = PixelFrames(fps=1, image_size=SIZE, cache=TensorCache(tmp_path, max_bytes=LARGE))
    with pytest.raises(VideoError, match="no such file"):
        frames(tmp_path / "a.mp4")


def test_a_damaged_file_counts_as_missing(tmp_path: Path, video: Path) -> None:
    cache = TensorCache(tmp_path, max_bytes=LARGE)
    frames = PixelFrames(fps=1, image_size=SIZE, cache=cache)
    frames(video)
    (file,) = tmp_path.glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:100])
    assert cache.load(frames.key(video)) is None
    assert frames(video).equal(decoded(video, 1))
    assert cache.load(frames.key(video)) is not None


def kilobytes(count: int) -> dict[str, torch.Tensor]:
    return {"frames": torch.full((count * 1024,), count, dtype=torch.uint8)}


def test_what_was_read_least_recently_goes_first(tmp_path: Path) -> None:
    cache = TensorCache(tmp_path, max_bytes=70 << 10)
    for age, name in enumerate("abc"):
        assert cache.store(name, kilobytes(16))
        os.utime(tmp_path / f"{name}.safetensors", (1000 + age, 1000 + age))
    assert cache.load("a") is not None  # now b is the oldest
    assert cache.store("d", kilobytes(16))
    assert [name for name in "abcd" if cache.load(name) is not None] == ["a", "c", "d"]
    assert stored(tmp_path) <= 70 << 10


def test_the_limit_holds_at_every_moment(tmp_path: Path) -> None:
    cache = TensorCache(tmp_path, max_bytes=100 << 10)
    for number in range(30):
        cache.store(f"k{number}", kilobytes(1 + number % 13))
        assert stored(tmp_path) <= 100 << 10
    assert len(list(tmp_path.glob("*.safetensors"))) > 5


def test_what_is_larger_than_the_cache_is_not_stored(tmp_path: Path) -> None:
    cache = TensorCache(tmp_path, max_bytes=40 << 10)
    cache.store("small", kilobytes(8))
    assert not cache.store("large", kilobytes(40))
    assert cache.load("large") is None
    assert cache.load("small") is not None


def test_tensors_outlive_their_file(tmp_path: Path) -> None:
    cache = TensorCache(tmp_path, max_bytes=LARGE)
    cache.store("a", kilobytes(64))
    tensors = cache.load("a")
    (tmp_path / "a.safetensors").unlink()
    assert tensors is not None
    assert tensors["frames"].equal(kilobytes(64)["frames"])


def test_a_write_that_fails_leaves_nothing_and_the_count_recovers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = TensorCache(tmp_path, max_bytes=40 << 10)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("vidground.training.data.tensor_cache.save_file", full)
        with pytest.raises(FormatError, match=r"frames cannot be stored: .*No space.*free space"):
            cache.store("a", kilobytes(30))
    assert [path.name for path in tmp_path.iterdir()] == ["bytes.lock"]
    assert cache.store("b", kilobytes(30))
    assert cache.load("b") is not None


def test_a_lost_count_is_made_anew(tmp_path: Path) -> None:
    cache = TensorCache(tmp_path, max_bytes=70 << 10)
    for name in "abc":
        cache.store(name, kilobytes(16))
    (tmp_path / "bytes.lock").write_text("")
    cache.store("d", kilobytes(30))
    assert stored(tmp_path) <= 70 << 10


def test_files_left_by_a_crash_are_removed_when_room_is_needed(tmp_path: Path) -> None:
    cache = TensorCache(tmp_path, max_bytes=40 << 10)
    abandoned, current = (
        tmp_path / ".vidground-1.safetensors",
        tmp_path / ".vidground-2.safetensors",
    )
    for path in (abandoned, current):
        path.write_bytes(bytes(1024))
    os.utime(abandoned, (1000, 1000))
    cache.store("a", kilobytes(30))
    cache.store("b", kilobytes(30))
    assert not abandoned.exists()
    assert current.exists()


def test_room_is_kept_for_what_others_are_writing(tmp_path: Path) -> None:
    cache = TensorCache(tmp_path, max_bytes=70 << 10)
    for name in "abc":
        cache.store(name, kilobytes(16))
    other = cache._files._reserve(30 << 10)  # as a process does before it writes
    assert other is not None
    assert stored(tmp_path) <= 40 << 10
    assert cache.store("d", kilobytes(30))
    assert stored(tmp_path) <= 40 << 10
    assert not cache.store("e", kilobytes(37))
    other.unlink()
    assert cache.store("e", kilobytes(37))


@pytest.mark.parametrize("max_bytes", [0, -1])
def test_a_cache_needs_room(tmp_path: Path, max_bytes: int) -> None:
    with pytest.raises(InputError, match="holds nothing"):
        TensorCache(tmp_path, max_bytes=max_bytes)


def test_a_cache_needs_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FormatError, match="cannot be written"):
        TensorCache(tmp_path / "file", max_bytes=1)


def store_many(folder: Path, process: int, largest: "multiprocessing.Queue[int]") -> None:
    cache = TensorCache(folder, max_bytes=100 << 10)
    most = 0
    for number in range(25):
        cache.store(f"p{process}-{number}", kilobytes(2 + number % 7))
        cache.store(f"shared-{number % 3}", kilobytes(5))
        tensors = cache.load(f"shared-{number % 3}")
        assert tensors is None or tensors["frames"].equal(kilobytes(5)["frames"])
        most = max(most, stored_now(folder))
    largest.put(most)


def stored_now(folder: Path) -> int:
    total = 0
    for path in folder.glob("*.safetensors"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            continue
    return total


def test_processes_may_share_a_cache(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    largest = context.Queue()
    workers = [context.Process(target=store_many, args=(tmp_path, n, largest)) for n in range(3)]
    for worker in workers:
        worker.start()
    found = [largest.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert max(found) <= 100 << 10
    ledger = int((tmp_path / "bytes.lock").read_text())
    assert stored(tmp_path) <= ledger <= 100 << 10


def test_workers_of_a_data_loader_fill_and_read_it(tmp_path: Path, video: Path) -> None:
    samples = [sft_sample(video=video.name, duration=6.0, tgt=[0, 1, 2, 3])] * 4
    annotations = load_annotations([write(tmp_path / "a.json", *samples)], video_root=video.parent)
    cache = TensorCache(tmp_path / "cache", max_bytes=LARGE)
    frames = PixelFrames(fps=1, image_size=SIZE, cache=cache)
    data = AnnotationDataset(annotations, make_toy_tokenizers(), frames)
    loader = DataLoader(data, batch_size=None, num_workers=2)
    assert all(sample.prompt.frames.equal(decoded(video, 1)) for sample in loader)
    assert cache.load(frames.key(video)) is not None


def small_model(seed: int = 0) -> D2VLM:
    config = toy_config(
        image_size=SIZE, patch_size=16, vision_layers=1, vision_width=32, text_layers=2,
        text_width=32,
    )  # fmt: skip
    model = make_toy_model(config, seed=seed)
    model.vision.requires_grad_(False)
    return model.eval()


@pytest.mark.parametrize(
    ("dtype", "stored_dtype", "tolerance"),
    [(torch.float32, torch.float16, 2e-3), (torch.bfloat16, torch.bfloat16, 0.0)],
)
def test_patch_features_are_those_of_the_encoder(
    tmp_path: Path,
    video: Path,
    no_decoding: Callable[[], None],
    dtype: torch.dtype,
    stored_dtype: torch.dtype,
    tolerance: float,
) -> None:
    model = small_model().to(dtype)
    pixels = normalize(decoded(video, 2), dtype=dtype, device="cpu")
    # Each frame twice, as two samples show it; encoded once, four at a time.
    expected = torch.cat(
        [model.encode_frames(part) for part in pixels[::2].split(4)]
    ).repeat_interleave(2, dim=0)
    frames = PatchFrames(model, fps=2, cache=TensorCache(tmp_path, max_bytes=LARGE), batch_size=4)
    assert not frames(video).is_inference()  # else no gradient could be computed from it
    no_decoding()
    found = frames(video)
    assert found.dtype == dtype
    assert found.shape == (12, 4, 32)
    assert not found.requires_grad
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=tolerance)
    (file,) = tmp_path.glob("*.safetensors")
    header = json.loads(file.read_bytes()[8:].split(b"}}")[0] + b"}}")
    assert header["frames"]["shape"] == [6, 4, 32]
    assert header["frames"]["dtype"] == {torch.float16: "F16", torch.bfloat16: "BF16"}[stored_dtype]


def test_another_encoder_has_other_features(tmp_path: Path, video: Path) -> None:
    cache = TensorCache(tmp_path, max_bytes=LARGE)
    first, second = (PatchFrames(small_model(seed), fps=1, cache=cache)(video) for seed in (0, 1))
    assert not torch.allclose(first, second)
    again = small_model()
    torch.nn.init.zeros_(again.lm_head.weight)  # no part of the encoder
    PatchFrames(again, fps=1, cache=cache)(video)
    assert len(list(tmp_path.glob("*.safetensors"))) == 2


def test_frame_tokens_are_those_of_the_compressor(
    tmp_path: Path, video: Path, no_decoding: Callable[[], None]
) -> None:
    model = small_model()
    model.compressor.requires_grad_(False)
    torch.nn.init.normal_(model.compressor.qformer.embeddings.word_embeddings.weight)
    pixels = normalize(decoded(video, 2), dtype=torch.float32, device="cpu")
    questions = ([5, 6, 7], [8])
    with torch.inference_mode():
        patches = model.encode_frames(pixels)
        expected = [model.compress(patches, torch.tensor([ids])) for ids in questions]
    assert (expected[0] - expected[1]).abs().max() > 3e-3
    cache = TensorCache(tmp_path, max_bytes=LARGE)
    frames = TokenFrames(model, fps=2, cache=cache, batch_size=5)
    frames.prepare([(video, ids) for ids in questions])
    no_decoding()
    for ids, wanted in zip(questions, expected, strict=True):
        found = frames(video, ids)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, wanted, atol=8e-4, rtol=0)
    torch.nn.init.normal_(model.compressor.queries)
    other = TokenFrames(model, fps=2, cache=cache)(video, questions[0])
    assert (other - expected[0]).abs().max() > 3e-3


def test_a_loss_is_the_same_on_tokens_as_on_pixels(tmp_path: Path, video: Path) -> None:
    """Up to what 16 bits lose; and the vision part gets no gradient."""
    model = small_model()
    prepare_parameters(model, ParameterSettings(trained="language"))
    assert model.tokenizers is not None
    samples = [sft_sample(video=video.name, duration=6.0, tgt=[0, 1, 2, 3])] * 2
    annotations = load_annotations([write(tmp_path / "a.json", *samples)], video_root=video.parent)
    cache = TensorCache(tmp_path / "cache", max_bytes=LARGE)
    pixels = PixelFrames(fps=1, image_size=SIZE)
    settings = SftSettings()
    losses = []
    for frames in (pixels, TokenFrames(model, fps=1, cache=cache)):
        data = AnnotationDataset(annotations, model.tokenizers, frames)
        batch = Collator.of(model.config, settings)([data[0], data[1]])
        losses.append(sft_losses(model, batch, settings).total(settings))
    torch.testing.assert_close(losses[1], losses[0], rtol=2e-3, atol=0)
    losses[1].backward()
    assert model.lm_head.weight.grad is not None
    assert all(p.grad is None for p in model.compressor.parameters())


def test_a_compressor_that_learns_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the compressor is trainable"):
        TokenFrames(small_model(), fps=1, cache=TensorCache(tmp_path, max_bytes=LARGE))


def test_an_encoder_that_learns_is_refused(tmp_path: Path) -> None:
    model = small_model()
    model.vision.layers[0].mlp.fc1.weight.requires_grad_(True)
    with pytest.raises(InputError, match="vision encoder is trainable"):
        PatchFrames(model, fps=1, cache=TensorCache(tmp_path, max_bytes=LARGE))


def test_features_beyond_16_bits_are_refused(tmp_path: Path, video: Path) -> None:
    model = small_model()
    torch.nn.init.constant_(model.vision.embeddings.position_embedding, 1e5)
    with pytest.raises(InputError, match=r"overflow torch.float16"):
        PatchFrames(model, fps=1, cache=TensorCache(tmp_path, max_bytes=LARGE))(video)


def test_workers_read_features_and_do_not_encode(
    tmp_path: Path, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = PatchFrames(small_model(), fps=1, cache=TensorCache(tmp_path, max_bytes=LARGE))
    monkeypatch.setattr(frame_cache, "get_worker_info", lambda: "a worker")
    with pytest.raises(InputError, match=r"a.mp4' are not in the cache.*call prepare\(\)"):
        frames(video)
    monkeypatch.setattr(frame_cache, "get_worker_info", lambda: None)
    told: list[tuple[int, int]] = []
    frames.prepare([video, video], on_progress=lambda done, videos: told.append((done, videos)))
    assert told == [(1, 2), (2, 2)]
    monkeypatch.setattr(frame_cache, "get_worker_info", lambda: "a worker")
    assert frames(video).shape == (6, 4, 32)
