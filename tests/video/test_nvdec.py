"""Videos decoded on a card: the same pictures or none, and a word about it.

Where there is no card a stand-in plays one (`card_stand_in`); the last tests need the absence or
the presence of a true one.
"""

import ctypes
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
import torch

import vidground.video.nvdec
from tests.helpers.card_stand_in import moved, put_in
from tests.helpers.video_files import make_video
from vidground import DecodingSettings, DenseCaptioner, Grounder, InputError, VideoError
from vidground.benchmark.decode_comparison import compare_decoding
from vidground.benchmark.report import to_dict, to_table
from vidground.benchmark.run import run_benchmark
from vidground.settings import check_decode_on
from vidground.video.frame_sampler import FrameSampler
from vidground.video.nvdec import accelerator, opens_card

pytestmark = pytest.mark.smoke


FRAMES = 60
HAS_CARD = opens_card("auto")


def pictures(footage: FrameSampler) -> list[tuple[int, int, bytes]]:
    return [
        (shown.first, shown.last, np.ascontiguousarray(shown.frame.rgb()).tobytes())
        for shown in footage.frames()
    ]


def on(place: str, path: Path, fps: float = 5.0) -> FrameSampler:
    return FrameSampler(path, fps=fps, decode_on=place)


# The same pictures

KINDS = {
    "plain": {},
    "long groups": {"gop": 30, "bframes": 3, "options": {"b-pyramid": "normal", "refs": "4"}},
    "open groups": {"options": {"x264-params": "open-gop=1"}, "bframes": 3},
    "full range": {"pixel_format": "yuvj420p"},
    "bt709": {"options": {"x264-params": "colormatrix=bt709:range=tv"}},
    "odd": {"codec": "libx265", "size": (66, 50)},
    "10 bit": {"codec": "libx265", "pixel_format": "yuv420p10le"},
    "444": {"pixel_format": "yuv444p"},
    "turned": {"rotation": 90},
    "wide": {"pixel_aspect": Fraction(4, 3)},
    "vp8": {"codec": "libvpx", "suffix": ".webm"},
    "vp9": {"codec": "libvpx-vp9", "suffix": ".webm"},
    "uneven": {"times": [n * n * 0.01 for n in range(FRAMES)], "bframes": 0, "suffix": ".mkv"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_are_those_of_the_cpu(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = dict(KINDS[kind])
    path = tmp_path / f"video{options.pop('suffix', '.mp4')}"
    make_video(path, frames=FRAMES, **options)  # type: ignore[arg-type]
    cpu = FrameSampler(path, fps=5.0)
    expected = pictures(cpu)
    card = put_in(monkeypatch)
    footage = on("cuda", path)
    given = pictures(footage)
    assert given == expected
    assert footage.times_s.tolist() == cpu.times_s.tolist()
    assert (footage.info, footage.warnings) == (cpu.info, cpu.warnings)
    assert (card.opened, card.missed) == (1, 1)  # once on the CPU, for the times
    assert card.frames >= len({picture for *_, picture in expected})


def test_what_no_sample_needs_is_not_decoded_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_video(tmp_path / "video.mp4", frames=300, gop=50, bframes=3)
    card = put_in(monkeypatch)
    assert len(pictures(on("cuda", path, fps=0.2))) == 3
    assert card.frames < 60


def test_pictures_can_be_decoded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = put_in(monkeypatch)
    footage = on("cuda", make_video(tmp_path / "video.mp4"))
    assert pictures(footage) == pictures(footage)
    assert card.opened == 2


def test_a_model_sees_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_video(tmp_path / "video.mp4", frames=75)
    settings = DecodingSettings(max_new_tokens=20)
    expected = DenseCaptioner("toy", decoding=settings).caption(path)
    card = put_in(monkeypatch)
    captioner = DenseCaptioner("toy", decoding=settings, decode_on="cuda")
    assert captioner.caption(path) == expected
    assert card.frames > 0
    assert "cuda" not in repr(expected.provenance)  # which no result depends on


# What a card does not decode surely


def breaks(number: int, frame: av.VideoFrame) -> av.VideoFrame:
    """A card that fails in the middle."""
    if number > FRAMES // 2:
        raise av.InvalidDataError(0, "a fault")
    return frame


def lacks_memory(number: int, frame: av.VideoFrame) -> av.VideoFrame:
    """A card whose pictures are all in use."""
    if number > FRAMES // 2:
        raise av.error.MemoryError(12, "Cannot allocate memory")
    return frame


def shifts(_: int, frame: av.VideoFrame) -> av.VideoFrame:
    """A card that shows the left edge which the CPU crops."""
    return moved(frame, 2)


def other_format(_: int, frame: av.VideoFrame) -> av.VideoFrame:
    """A card that has pictures in a form of its own."""
    return frame.reformat(format="nv21")


CHANGES = {
    "decoding stops at a packet (a fault)": breaks,
    "decoding stops at a packet (Cannot allocate memory)": lacks_memory,
    "its first picture is another one there": shifts,
    "its pictures come as nv21 from the card": other_format,
}


@pytest.mark.parametrize("reason", CHANGES)
def test_what_it_fails_at_is_an_error_or_left_to_the_cpu(
    reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_video(tmp_path / "video.mp4", frames=FRAMES)
    expected = pictures(FrameSampler(path, fps=5.0))
    put_in(monkeypatch, CHANGES[reason])
    with pytest.raises(VideoError, match=r"video\.mp4.*cannot be decoded on cuda") as caught:
        pictures(on("cuda", path))
    assert reason in str(caught.value)
    assert "--decode-on auto" in str(caught.value)
    put_in(monkeypatch, CHANGES[reason])
    footage = on("auto", path)
    assert pictures(footage) == expected
    (warning,) = footage.warnings
    assert warning.startswith(f"decoded on the CPU: {reason}")


def other_codec(folder: Path) -> Path:
    return make_video(folder / "video.mp4", codec="mpeg4")


def no_times(folder: Path) -> Path:
    return make_video(folder / "video.avi")


def no_whole_pictures(folder: Path) -> Path:
    options = {"x264-params": "intra-refresh=1:keyint=12"}
    return make_video(folder / "video.ts", frames=64, options=options)


def damaged(folder: Path) -> Path:
    path = make_video(folder / "video.mkv", frames=200, size=(320, 240))
    content = bytearray(path.read_bytes())
    at, until = len(content) // 2, len(content) * 6 // 10
    noise = np.random.default_rng(7)
    content[at:until] = noise.integers(0, 256, until - at, np.uint8).tobytes()
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (other_codec, "mpeg4 is decoded on the CPU alone"),
        (no_times, "it must be decoded from the start"),
        (no_whole_pictures, "frames came out of order"),
        (damaged, "decoding stops at a packet"),
    ],
)
def test_what_is_left_to_the_cpu_never_goes_there_unsaid(
    make: object, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make(tmp_path)  # type: ignore[operator]
    cpu = FrameSampler(path, fps=5.0)
    expected = pictures(cpu)
    put_in(monkeypatch)
    with pytest.raises(VideoError, match=reason):
        pictures(on("cuda:1", path))
    footage = on("auto", path)
    assert pictures(footage) == expected
    assert footage.info == cpu.info
    assert f"decoded on the CPU: {reason}" in " | ".join(footage.warnings)


def test_everything_is_decoded_on_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = put_in(monkeypatch)
    assert len(list(on("cuda", make_video(tmp_path / "video.mp4")).frames(skip=False))) == 10
    assert card.opened == 0


# Compared


def spoils(_: int, frame: av.VideoFrame) -> av.VideoFrame:
    """A card that shows all but the first picture of a video wrongly."""
    return frame if frame.pts == 0 else moved(frame, 8)


@pytest.mark.parametrize(
    ("change", "place", "equal", "left"),
    [
        (lambda _, frame: frame, "cuda", 20, 0),
        (spoils, "cuda", 2, 0),
        (shifts, "auto", 20, 2),
    ],
)
def test_places_are_compared_picture_by_picture(
    change: Any, place: str, equal: int, left: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # All pictures are keys, so that a wrong one spoils no other.
    videos = [make_video(tmp_path / f"{n}.mp4", gop=1, bframes=0) for n in range(2)]
    put_in(monkeypatch, change)
    compared = compare_decoding(
        videos, fps=5.0, image_size=48, decode_on=place, readers=1, cpu_readers=2
    )
    assert (compared.frames, compared.equal, compared.left_to_cpu) == (20, equal, left)


def test_a_benchmark_compares_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_video(tmp_path / "video.mp4", frames=75)
    settings = DecodingSettings(max_new_tokens=20, loop_tokens=0)
    card = put_in(monkeypatch)
    captioner = DenseCaptioner("toy", decoding=settings, decode_on="cuda")
    steps: list[str] = []
    measured = run_benchmark(captioner, [path], on_step=steps.append)
    assert card.opened == 3  # for the stages, alone, and as a whole
    assert "decoding alone: cuda and the CPU" in steps
    told = to_dict(measured)["decoding"]
    assert (told["decode_on"], told["frames"], told["equal"]) == ("cuda", 3, 3)
    lines = to_table(measured).splitlines()
    assert any(line.startswith("decode on cuda ") for line in lines)
    assert "equal frames: 3 of 3; videos that the GPU could not decode: 0 of 1" in lines
    assert max(map(len, lines)) <= 100


# Names of places


@pytest.mark.parametrize("value", ["gpu", "cuda:", "cuda:x", "cuda:-1", "CPU", "", "cuda\n"])
def test_other_places_are_refused(value: str) -> None:
    with pytest.raises(InputError, match=r"decode_on is .* must be 'cpu', 'auto', 'cuda'"):
        check_decode_on(value)


def test_the_card_with_a_number_is_meant() -> None:
    numbers = {"cuda": 0, "auto": 0, "cuda:2": 2, "auto:1": 1}
    assert {place: accelerator(place).device_id for place in numbers} == numbers
    for place in numbers:
        check_decode_on(place)


@pytest.mark.parametrize(
    ("asked", "model", "meant"),
    [
        ("cuda", "cuda:1", "cuda:1"),
        ("auto", "cuda:1", "auto:1"),
        ("cuda:2", "cuda:1", "cuda:2"),
        ("cuda", "cuda:0", "cuda"),
        ("cuda", "cpu", "cuda"),
    ],
)
def test_videos_are_decoded_on_the_card_of_the_model(
    asked: str, model: str, meant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class FoundError(Exception):
        pass

    def opens(decode_on: str) -> bool:
        raise FoundError(decode_on)

    monkeypatch.setattr("vidground.inference.engine.choose_device", torch.device)
    monkeypatch.setattr("vidground.inference.engine.opens_card", opens)
    with pytest.raises(FoundError, match=f"^{meant}$"):
        Grounder("no model is looked for", device=model, decode_on=asked)


def test_a_numbered_card_leaves_videos_to_the_cpu_only_if_it_may(tmp_path: Path) -> None:
    path = make_video(tmp_path / "video.mp4")
    assert not opens_card("auto:7")
    wanted = pictures(FrameSampler(path, fps=5.0))
    assert pictures(on("auto:7", path)) == wanted
    with pytest.raises(VideoError, match="on cuda:7"):
        pictures(on("cuda:7", path))


def no_device(_: object) -> None:
    raise av.ExternalError(0, "no CUDA-capable device is detected")


def no_codec(_: object) -> None:
    raise NotImplementedError("No supported hardware config")


def no_library(_: str) -> None:
    raise OSError("libnvcuvid.so.1: cannot open shared object file")


def works(_: object) -> None:
    pass


@pytest.mark.parametrize(
    ("create", "load", "told"),
    [
        (no_device, works, "no CUDA-capable device"),
        (no_codec, works, "No supported hardware config"),
        (works, no_library, r"libnvcuvid.*NVIDIA_DRIVER_CAPABILITIES holds video"),
        (works, works, None),
    ],
)
def test_a_card_is_one_that_decodes(
    create: Any, load: Any, told: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        vidground.video.nvdec, "accelerator", lambda _: SimpleNamespace(create=create)
    )
    monkeypatch.setattr(ctypes, "CDLL", load)
    assert not opens_card("cpu")
    assert opens_card("auto") is (told is None)
    if told is None:
        assert opens_card("cuda")
    else:
        with pytest.raises(InputError, match=told):
            opens_card("cuda")


# Without and with a true card


@pytest.mark.skipif(HAS_CARD, reason="there is a card")
def test_without_a_card_it_is_an_error_or_the_cpu(tmp_path: Path) -> None:
    path = make_video(tmp_path / "video.mp4")
    assert not opens_card("auto")
    for place in ("cuda", "cuda:1"):
        with pytest.raises(InputError, match=rf"decode_on is '{place}' and there is no such card"):
            opens_card(place)
    with pytest.raises(InputError, match="there is no such card"):
        Grounder("no model is looked for", decode_on="cuda")
    with pytest.raises(VideoError, match="on cuda: the card cannot be opened"):
        pictures(on("cuda", path))
    footage = on("auto", path)
    assert pictures(footage) == pictures(FrameSampler(path, fps=5.0))
    assert footage.warnings[0].startswith("decoded on the CPU: the card cannot be opened")


@pytest.mark.skipif(not HAS_CARD, reason="there is no card")
@pytest.mark.parametrize("codec", ["libx264", "libx265", "libvpx-vp9"])
def test_a_true_card_gives_the_same(codec: str, tmp_path: Path) -> None:
    path = make_video(tmp_path / "video.mkv", frames=120, size=(640, 360), codec=codec)
    assert pictures(on("cuda", path)) == pictures(FrameSampler(path, fps=5.0))
