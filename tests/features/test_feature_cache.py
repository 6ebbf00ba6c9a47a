"""The feature cache returns what was computed, saves the work, and may be lost."""

import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.helpers.video_files import make_video
from vidground import (
    D2VLM,
    CacheSettings,
    DecodingSettings,
    DenseCaptioner,
    Grounder,
    InputError,
    SamplingSettings,
    VideoError,
)
from vidground.features.frame_encoding import FrameEncoder
from vidground.progress import Progress
from vidground.results.types import GroundingResult
from vidground.storage.row_file import RowWriter
from vidground.training.toy.model import make_toy_model, toy_config
from vidground.video.reader import VideoReader

pytestmark = pytest.mark.numbers

SHORT = DecodingSettings(max_new_tokens=12)
SECONDS = 40  # three chunks of frames


def small_model(seed: int = 0) -> D2VLM:
    config = toy_config(
        image_size=32, patch_size=16, vision_layers=1, vision_width=32, text_layers=2,
        text_width=32,
    )  # fmt: skip
    return make_toy_model(config, seed=seed).eval()


@pytest.fixture(scope="module")
def model() -> D2VLM:
    return small_model()


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A film with damage in the middle, which only decoding reveals."""
    path = make_video(tmp_path_factory.mktemp("film") / "film.mp4", frames=SECONDS * 4, fps=4)
    content = bytearray(path.read_bytes())
    start = content.index(b"mdat") + 4
    for place in range(start + len(content) // 3, start + len(content) // 3 + 400):
        content[place] ^= 0x5A
    path.write_bytes(content)
    return path


def cache_of(folder: Path, **options: float) -> CacheSettings:
    return CacheSettings(folder=str(folder / "cache"), **options)


def asked(
    model: D2VLM, film: Path, cache: CacheSettings | None, text: str = "a red circle"
) -> GroundingResult:
    return Grounder(model, decoding=SHORT, cache=cache).query(film, text)


def entries(folder: Path) -> list[Path]:
    return sorted((folder / "cache").glob("*.safetensors"))


@pytest.fixture
def forbid(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make steps fail from now on: opening a video, encoding frames, compressing features."""

    def failing(step: str) -> Callable[..., None]:
        def fail(*_: object, **__: object) -> None:
            raise AssertionError(f"{step} again")

        return fail

    def forbid(*steps: str) -> None:
        places = {
            "open": (VideoReader, "__init__"),
            "encode": (D2VLM, "encode_frames"),
            "compress": (D2VLM, "compress_each"),
        }
        for step in steps:
            monkeypatch.setattr(*places[step], failing(step))

    return forbid


@pytest.mark.parametrize("bits", [16, 8])
def test_cached_answers_equal_uncached_ones_with_rounding(
    tmp_path: Path, model: D2VLM, film: Path, forbid: Callable[..., None], bits: int
) -> None:
    rounded = CacheSettings(max_gib=0, bits=bits)
    texts = ["a red circle", "a green square"]
    wanted = [asked(model, film, rounded, text) for text in texts]
    assert wanted[0].video.damaged_packets > 0
    assert any("damaged packets" in warning for warning in wanted[0].warnings)
    assert wanted[0].provenance.runtime["features"] == f"{bits} bit"
    cache = cache_of(tmp_path, bits=bits)
    assert asked(model, film, cache, texts[0]) == wanted[0]
    forbid("open", "encode")
    assert [asked(model, film, cache, text) for text in texts] == wanted


def test_rounding_changes_the_last_digits_only(tmp_path: Path, model: D2VLM, film: Path) -> None:
    exact, rounded = asked(model, film, None), asked(model, film, cache_of(tmp_path))
    assert "features" not in exact.provenance.runtime
    assert rounded.relevance.values == pytest.approx(exact.relevance.values, abs=2e-3)
    assert rounded.relevance != exact.relevance


def test_a_bfloat16_model_loses_nothing(tmp_path: Path, film: Path) -> None:
    model = small_model().to(torch.bfloat16)
    exact, kept = asked(model, film, None), asked(model, film, cache_of(tmp_path))
    again = asked(model, film, cache_of(tmp_path))
    assert kept.relevance == again.relevance == exact.relevance
    (entry,) = entries(tmp_path)
    assert load_file(entry)["rows"].dtype == torch.bfloat16


def test_free_questions_and_encode_use_the_cache(
    tmp_path: Path, model: D2VLM, film: Path, forbid: Callable[..., None]
) -> None:
    grounder = Grounder(model, decoding=SHORT, cache=cache_of(tmp_path))
    encoded = grounder.encode(film)
    question = {"question": "what is in <evi> ?", "about": [(0, 4)]}
    wanted = grounder.ask(encoded, **question)
    forbid("open", "encode")
    assert grounder.ask(film, **question) == wanted
    again = grounder.encode(film)
    assert [chunk.spans for chunk in again.chunks] == [chunk.spans for chunk in encoded.chunks]
    for mine, other in zip(again.chunks, encoded.chunks, strict=True):
        assert mine.patches.equal(other.patches)
    assert grounder.query(again, "a") == grounder.query(film, "a")
    with pytest.raises(InputError, match="features of 16 bits, and the engine uses unrounded"):
        Grounder(model).query(again, "a")


def test_captions_use_cached_tokens(
    tmp_path: Path, model: D2VLM, film: Path, forbid: Callable[..., None]
) -> None:
    captioner = DenseCaptioner(model, decoding=SHORT, cache=cache_of(tmp_path))
    wanted = DenseCaptioner(model, decoding=SHORT, cache=CacheSettings(max_gib=0)).caption(film)
    assert captioner.caption(film) == wanted
    (entry,) = entries(tmp_path)
    assert load_file(entry)["rows"].shape == (SECONDS, 32)
    forbid("open", "encode", "compress")
    assert captioner.caption(film) == wanted
    with pytest.raises(AssertionError, match="again"):
        captioner.caption(film, question="what else ?")


def test_captions_use_the_features_cached_by_a_query(
    tmp_path: Path, model: D2VLM, film: Path, forbid: Callable[..., None]
) -> None:
    cache = cache_of(tmp_path)
    wanted = DenseCaptioner(model, decoding=SHORT, cache=CacheSettings(max_gib=0)).caption(film)
    asked(model, film, cache)
    forbid("open", "encode")
    assert DenseCaptioner(model, decoding=SHORT, cache=cache).caption(film) == wanted


def test_windows_of_a_cached_video_equal_those_of_the_file(
    tmp_path: Path, model: D2VLM, film: Path
) -> None:
    sampling = SamplingSettings(window_s=15, overlap=0.2)
    options = {"decoding": SHORT, "sampling": sampling}
    wanted = DenseCaptioner(model, **options, cache=CacheSettings(max_gib=0)).caption(film)
    captioner = DenseCaptioner(model, **options, cache=cache_of(tmp_path))
    assert len(wanted.provenance.windows_s) > 2
    assert captioner.caption(film) == captioner.caption(film) == wanted


def test_a_frame_shown_for_several_samples_is_cached_once(tmp_path: Path, model: D2VLM) -> None:
    film = make_video(tmp_path / "slow.mp4", frames=5, fps=1)
    sampling = SamplingSettings(fps=3)
    cache = cache_of(tmp_path)
    grounder = Grounder(model, decoding=SHORT, sampling=sampling, cache=cache)
    first = grounder.query(film, "a")
    assert len(first.relevance) == 15
    (entry,) = entries(tmp_path)
    assert load_file(entry)["rows"].shape == (5, 4, 32)
    assert grounder.query(film, "a") == first


class Named:
    """A replacement of a model's vision part, with or without `content`."""

    def __init__(self, model: D2VLM, content: str | None) -> None:
        self.device, self.dtype = model.device, model.dtype
        self.encode_frames, self.compress_each = model.encode_frames, model.compress_each
        if content is not None:
            self.content = content

    def __str__(self) -> str:
        return "a stand-in"


def test_everything_that_features_depend_on_has_its_own_entry(
    tmp_path: Path, model: D2VLM, film: Path
) -> None:
    def ask(model: D2VLM, film: Path, **options: object) -> int:
        cache = options.pop("cache", cache_of(tmp_path))
        Grounder(model, decoding=SHORT, cache=cache, **options).query(film, "a")
        return len(entries(tmp_path))

    renamed = Path(shutil.copy(film, tmp_path / "renamed.mp4"))
    by_suffix = Path(shutil.copy(film, tmp_path / "film.mov"))
    assert ask(model, film) == 1
    assert ask(small_model(), renamed) == 1  # neither name nor time matter
    assert ask(model, film, sampling=SamplingSettings(fps=2)) == 2
    assert ask(small_model(seed=1), film) == 3
    assert ask(model, film, cache=cache_of(tmp_path, bits=8)) == 4
    visions: list[FrameEncoder] = [Named(model, "one"), Named(model, "two"), Named(model, "one")]
    assert [ask(model, film, vision=vision) for vision in visions] == [5, 6, 6]
    assert ask(small_model().to(torch.bfloat16), film) == 7
    assert ask(model, by_suffix) == 8
    content = bytearray(film.read_bytes())
    renamed.write_bytes(content + b"\0")
    assert ask(model, renamed) == 9


def test_tokens_depend_on_the_compressor_and_features_do_not(
    tmp_path: Path, model: D2VLM, film: Path
) -> None:
    other = small_model()
    with torch.no_grad():
        next(other.compressor.parameters()).add_(0.1)
    for one in (model, other):
        asked(one, film, cache_of(tmp_path))
    assert len(entries(tmp_path)) == 1
    for count, one in ((2, model), (3, other)):
        DenseCaptioner(one, decoding=SHORT, cache=cache_of(tmp_path)).caption(film)
        assert len(entries(tmp_path)) == count


def test_progress_is_reported_for_cached_videos_too(
    tmp_path: Path, model: D2VLM, film: Path
) -> None:
    def told(command: str) -> list[int]:
        heard: list[int] = []

        def hear(progress: Progress) -> None:
            heard.append(progress.samples_done)

        options = {"decoding": SHORT, "cache": cache_of(tmp_path)}
        if command == "query":
            Grounder(model, **options).query(film, "a", on_progress=hear)
        else:
            DenseCaptioner(model, **options).caption(film, on_progress=hear)
        return heard

    for command in ("query", "caption"):
        first, again = told(command), told(command)
        assert first[-1] == again[-1] == SECONDS
        assert len(set(again)) > 2


def test_a_cached_video_has_its_present_path(tmp_path: Path, model: D2VLM, film: Path) -> None:
    first = asked(model, film, cache_of(tmp_path))
    renamed = Path(shutil.copy(film, tmp_path / "renamed.mp4"))
    again = asked(model, renamed, cache_of(tmp_path))
    assert again == replace(first, video=replace(first.video, path=str(renamed)))
    with pytest.raises(VideoError, match="no such file"):
        asked(model, tmp_path / "gone.mp4", cache_of(tmp_path))


def test_an_encoder_without_content_is_refused(tmp_path: Path, model: D2VLM) -> None:
    with pytest.raises(InputError, match="unknown what Named computes"):
        Grounder(model, vision=Named(model, None), cache=cache_of(tmp_path))


@pytest.mark.parametrize("place", [3, 60, 5000, -100, "cut off", "empty", "longer"])
def test_a_damaged_entry_is_replaced(
    tmp_path: Path, model: D2VLM, film: Path, place: int | str
) -> None:
    cache = cache_of(tmp_path)
    wanted = asked(model, film, cache)
    (entry,) = entries(tmp_path)
    content = bytearray(entry.read_bytes())
    good = bytes(content)
    if isinstance(place, int):
        content[place] ^= 0x01
    else:
        content = {"cut off": content[:-700], "empty": b"", "longer": content + b"x"}[place]
    entry.write_bytes(content)
    assert asked(model, film, cache) == wanted
    assert entry.read_bytes() == good  # made anew


def test_an_entry_is_safetensors_of_the_expected_size(
    tmp_path: Path, model: D2VLM, film: Path
) -> None:
    asked(model, film, cache_of(tmp_path))
    (entry,) = entries(tmp_path)
    tensors = load_file(entry)
    assert tensors["rows"].shape == (SECONDS, 4, 32)
    assert tensors["rows"].dtype == torch.float16
    details = json.loads(bytes(tensors["details"].tolist()))
    assert details["counts"] == [1] * SECONDS
    assert "path" not in details["info"]
    assert entry.stat().st_size < tensors["rows"].nbytes + 8192


def test_a_video_larger_than_the_cache_is_not_cached(
    tmp_path: Path, model: D2VLM, film: Path
) -> None:
    wanted = asked(model, film, CacheSettings(max_gib=0))
    small = cache_of(tmp_path, max_gib=18 / 2**20)  # enough for the tokens, not for the features
    assert asked(model, film, small) == asked(model, film, small) == wanted
    assert entries(tmp_path) == []
    DenseCaptioner(model, decoding=SHORT, cache=small).caption(film)
    assert len(entries(tmp_path)) == 1


def test_the_least_recently_used_video_is_removed_first(
    tmp_path: Path, model: D2VLM, film: Path, forbid: Callable[..., None]
) -> None:
    films = [Path(shutil.copy(film, tmp_path / f"{number}.mp4")) for number in range(4)]
    for number, path in enumerate(films):
        path.write_bytes(path.read_bytes() + bytes([number]))
    cache = cache_of(tmp_path, max_gib=64 / 2**20)  # 64 KiB: room for three
    for age, path in enumerate(films[:3]):
        known = set(entries(tmp_path))
        asked(model, path, cache)
        (new,) = set(entries(tmp_path)) - known
        os.utime(new, (1000 + age, 1000 + age))
    asked(model, films[0], cache)
    asked(model, films[3], cache)
    assert sum(entry.stat().st_size for entry in entries(tmp_path)) <= 64 << 10
    forbid("open")
    asked(model, films[0], cache)
    asked(model, films[3], cache)
    with pytest.raises(AssertionError, match="open again"):
        asked(model, films[1], cache)


def test_a_full_disk_is_reported_once_and_answers_continue(
    tmp_path: Path,
    model: D2VLM,
    film: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    append = RowWriter.append

    def fill(writer: RowWriter, rows: memoryview, count: int) -> None:
        if writer.count:
            raise OSError(28, "No space left on device")
        append(writer, rows, count)

    monkeypatch.setattr(RowWriter, "append", fill)
    grounder = Grounder(model, decoding=SHORT, cache=cache_of(tmp_path))
    wanted = asked(model, film, CacheSettings(max_gib=0))
    with caplog.at_level(logging.WARNING):
        assert [grounder.query(film, "a red circle") for _ in range(2)] == [wanted] * 2
    (record,) = caplog.records
    assert "No space left on device" in record.getMessage()
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["bytes.lock"]


def test_a_damaged_entry_that_cannot_be_removed_costs_no_answer(
    tmp_path: Path, model: D2VLM, film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a folder of another user."""
    cache = cache_of(tmp_path)
    wanted = asked(model, film, cache)
    (entry,) = entries(tmp_path)
    entry.write_bytes(entry.read_bytes()[:-700])

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    grounder = Grounder(model, decoding=SHORT, cache=cache)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", refuse)
        assert grounder.query(film, "a red circle") == wanted


def test_a_folder_that_cannot_be_created_is_reported(
    tmp_path: Path, model: D2VLM, film: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "cache").write_text("a file")
    wanted = asked(model, film, CacheSettings(max_gib=0))
    assert asked(model, film, cache_of(tmp_path)) == wanted
    (record,) = caplog.records
    assert "choose another folder" in record.getMessage()


def test_a_folder_of_other_files_is_refused(tmp_path: Path, model: D2VLM) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "model.safetensors").write_text("weights")
    with pytest.raises(InputError, match="holds other files"):
        Grounder(model, cache=cache_of(tmp_path))


def test_features_that_overflow_16_bits_are_refused(tmp_path: Path, film: Path) -> None:
    model = small_model()
    torch.nn.init.constant_(model.vision.embeddings.position_embedding, 1e5)
    with pytest.raises(InputError, match=r"beyond 65,504.*--no-cache"):
        asked(model, film, cache_of(tmp_path))
    assert entries(tmp_path) == []


def test_a_video_that_changes_while_it_is_read_is_not_cached(
    tmp_path: Path, model: D2VLM, film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changing = Path(shutil.copy(film, tmp_path / "a.mp4"))
    runs = VideoReader.runs

    def change(reader: VideoReader) -> Iterator[object]:
        yield from runs(reader)
        os.utime(changing, (1000, 1000))

    monkeypatch.setattr(VideoReader, "runs", change)
    asked(model, changing, cache_of(tmp_path))
    assert entries(tmp_path) == []
