"""A reader's frames and times equal those of plain decoding, whatever the file is like."""

import gc
import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from av.stream import Disposition

from tests.helpers.video_files import index_picture, make_video, plain_decode, read_index, remux
from vidground.errors import VideoError
from vidground.video.preprocessing import resize_and_crop
from vidground.video.reader import FrameRun, VideoReader
from vidground.video.video_file import VideoFile

SIZE = 48
OPEN_X264 = {
    "x264-params": "open-gop=1:keyint=12:min-keyint=12:b-adapt=0:b-pyramid=normal:scenecut=0"
}
OPEN_X265 = {"x265-params": "log-level=error:open-gop=1:keyint=12:bframes=4:pools=1"}
CLOSED_X265 = {"x265-params": "log-level=error:open-gop=0:keyint=30:bframes=4:pools=1"}


def read(path: Path, fps: float = 1.0) -> tuple[VideoReader, list[FrameRun]]:
    """Open a file and decode it; the runs must cover every sample once, in order."""
    reader = VideoReader(path, fps=fps, image_size=SIZE)
    runs = list(reader.runs())
    covered = [k for run in runs for k in range(run.first, run.last + 1)]
    assert covered == list(range(len(reader.times_s)))
    assert all(run.pixels.shape == (3, SIZE, SIZE) for run in runs)
    assert np.all(np.diff(reader.times_s) > 0)
    return reader, runs


def shown(runs: list[FrameRun]) -> list[int]:
    """The index that each sample's picture shows."""
    return [read_index(run.pixels) for run in runs for _ in range(run.first, run.last + 1)]


# Containers, codecs and groups of pictures


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("closed.mp4", {"gop": 12}),
        ("long.mkv", {"gop": 100, "bframes": 5}),
        ("no_b.mp4", {"bframes": 0}),
        ("broadcast.ts", {"gop": 15}),
        ("open.mkv", {"options": OPEN_X264, "bframes": 4}),
        ("open.mp4", {"options": OPEN_X264, "bframes": 4}),
        ("open.ts", {"options": OPEN_X264, "bframes": 4}),
        ("hevc.mp4", {"codec": "libx265", "options": CLOSED_X265}),
        ("open_hevc.mp4", {"codec": "libx265", "options": OPEN_X265}),
        ("open_hevc.ts", {"codec": "libx265", "options": OPEN_X265}),
        ("vp8.webm", {"codec": "libvpx", "bframes": 0, "options": {"auto-alt-ref": "1"}}),
        ("vp9.webm", {"codec": "libvpx-vp9", "bframes": 0}),
        ("av1.mp4", {"codec": "libsvtav1", "bframes": 0, "size": (64, 64)}),
        ("mpeg2.ts", {"codec": "mpeg2video"}),
        ("mpeg2.mpg", {"codec": "mpeg2video"}),
        ("mpeg4.mp4", {"codec": "mpeg4"}),
        ("mpeg4.avi", {"codec": "mpeg4"}),
        ("b_frames.avi", {"bframes": 3}),
        ("mjpeg.avi", {"codec": "mjpeg", "pixel_format": "yuvj420p", "bframes": 0}),
        ("flash.flv", {}),
        ("windows.wmv", {"codec": "wmv2", "bframes": 0}),
        ("raw.h264", {}),
        ("raw.hevc", {"codec": "libx265", "options": CLOSED_X265}),
        ("interlaced.ts", {"options": {"flags": "+ildct+ilme"}}),
    ],
)
@pytest.mark.parametrize("fps", [1.0, 2.5, 7.0])
def test_pixels_and_times_equal_plain_decoding(
    tmp_path: Path, name: str, options: dict[str, Any], fps: float
) -> None:
    path = make_video(tmp_path / name, frames=64, **options)
    reader, runs = read(path, fps)
    frames = [resize_and_crop(pixels, SIZE) for _, pixels in plain_decode(path)]
    assert len(frames) == reader.info.frames == 64
    expected = np.minimum(np.arange(0, 64, 25 / fps).round().astype(int), 63)
    assert reader.times_s.tolist() == pytest.approx((expected / 25).tolist())
    assert shown(runs) == expected.tolist()
    assert all(torch.equal(frames[expected[run.first]], run.pixels) for run in runs)
    info = reader.info
    assert (info.duration_s, info.fps, info.constant_rate) == (pytest.approx(2.56), 25, True)
    assert info.damaged_packets == 0
    assert not any("skipping" in warning for warning in reader.warnings)


def test_refreshing_streams_are_decoded_from_the_start(tmp_path: Path) -> None:
    # No picture is whole by itself: what is marked as key is only where refreshing begins.
    options = {"x264-params": "intra-refresh=1:keyint=12"}
    path = make_video(tmp_path / "a.ts", frames=64, options=options)
    reader, runs = read(path, 5.0)
    frames = [resize_and_crop(pixels, SIZE) for _, pixels in plain_decode(path)]
    assert all(torch.equal(frames[5 * run.first], run.pixels) for run in runs)
    assert any("without skipping" in warning for warning in reader.warnings)


def test_packets_wrongly_marked_as_keys_do_no_harm(tmp_path: Path) -> None:
    source = make_video(tmp_path / "source.mp4", frames=64, codec="mpeg4", bframes=0)
    path = remux(source, tmp_path / "a.mp4", all_keys=True)
    reader, runs = read(path, 5.0)
    frames = [resize_and_crop(pixels, SIZE) for _, pixels in plain_decode(path)]
    assert all(torch.equal(frames[5 * run.first], run.pixels) for run in runs)
    assert any("marked as a key packet" in warning for warning in reader.warnings)


def test_only_what_is_needed_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_video(tmp_path / "a.mp4", frames=200, gop=50, bframes=0)
    reader = VideoReader(path, fps=0.5, image_size=SIZE)
    decoded: list[int] = []
    decode = VideoFile._decode

    def counting(file: VideoFile, index: int, packet: Any) -> Any:
        decoded.append(index)
        return decode(file, index, packet)

    monkeypatch.setattr(VideoFile, "_decode", counting)
    assert shown(list(reader.runs())) == [0, 50, 100, 150]
    assert decoded == [0, 50, 100, 150]


def test_frames_are_let_go_at_once(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", frames=60, rotation=90)
    gc.collect()
    gc.disable()
    try:
        for _ in VideoReader(path, fps=25.0, image_size=SIZE).runs():
            alive = sum(type(thing) is av.VideoFrame for thing in gc.get_objects())
            assert alive <= 8
    finally:
        gc.enable()


def test_runs_can_be_decoded_again(tmp_path: Path) -> None:
    reader, first = read(make_video(tmp_path / "a.mp4"), 5.0)
    again = list(reader.runs())
    assert all(torch.equal(a.pixels, b.pixels) for a, b in zip(first, again, strict=True))


# Times


@pytest.mark.parametrize("rate", [Fraction(30000, 1001), Fraction(24000, 1001), 24, 30, 60, 12])
@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".ts"])
def test_nominal_rates_survive_rounded_times(
    tmp_path: Path, rate: Fraction | int, suffix: str
) -> None:
    path = make_video(tmp_path / f"a{suffix}", frames=130, fps=rate)
    reader, runs = read(path)
    assert reader.info.constant_rate
    assert reader.info.fps == pytest.approx(float(rate), rel=1e-6)
    expected = np.minimum(np.arange(0, 130, float(rate)).round(), 129)
    assert shown(runs) == expected.tolist()
    assert reader.times_s == pytest.approx(expected / float(rate), abs=0.001)
    assert reader.info.duration_s == pytest.approx(130 / float(rate))


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_variable_rate_shows_what_a_player_shows(tmp_path: Path, name: str) -> None:
    times = np.cumsum([0, 0.04, 0.04, 0.9, 0.03, 0.3, 1.7, 0.04, 0.04, 2.0, 0.3, 0.06, 0.04])
    path = make_video(tmp_path / name, frames=len(times), times=times.tolist(), gop=5)
    reader, runs = read(path, 2.0)
    assert not reader.info.constant_rate
    assert reader.times_s.tolist() == (np.arange(len(reader.times_s)) / 2).tolist()
    expected = np.searchsorted(times, reader.times_s + 1e-3, side="right") - 1
    assert shown(runs) == expected.tolist()
    assert times[-1] < reader.info.duration_s < times[-1] + 2.1


@pytest.mark.parametrize(("name", "shift_s"), [("a.mkv", 3600.0), ("a.ts", 1.4), ("a.mp4", 7.0)])
def test_a_late_start_is_the_viewers_zero(tmp_path: Path, name: str, shift_s: float) -> None:
    source = make_video(tmp_path / "source.mp4", frames=75)
    reader, runs = read(remux(source, tmp_path / name, shift_s=shift_s))
    assert reader.times_s.tolist() == [0, 1, 2]
    assert shown(runs) == [0, 25, 50]
    assert reader.info.duration_s == 3
    assert reader.warnings == ()


def test_a_ten_hour_gap_is_ten_hours_long_and_not_sampled(tmp_path: Path) -> None:
    source = make_video(tmp_path / "source.mkv", frames=50, bframes=0)
    reader, runs = read(remux(source, tmp_path / "a.mkv", gap=(30, 36_000)))
    assert reader.info.duration_s == pytest.approx(36_002)
    # Frame 29 is on for ten hours; frame 30 comes at 36001.2 s, frame 49 is the last.
    assert reader.times_s.tolist() == [0, 1, 2]
    assert shown(runs) == [0, 25, 29]
    assert any("between 1.2 and 36001.2 s" in warning for warning in reader.warnings)


def test_a_frame_a_minute_is_decoded_once(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", frames=4, fps=Fraction(1, 60), bframes=0)
    reader, runs = read(path)
    assert reader.times_s.tolist() == list(range(240))
    assert [(read_index(run.pixels), run.first, run.last) for run in runs] == [
        (k, 60 * k, 60 * k + 59) for k in range(4)
    ]


def test_an_edit_list_hides_the_frames_before_it(tmp_path: Path) -> None:
    source = make_video(tmp_path / "source.mp4", frames=100, gop=50)
    cut = remux(
        source,
        tmp_path / "cut.mp4",
        shift_s=-2.4,
        container_options={"avoid_negative_ts": "disabled"},
    )
    reader, runs = read(cut)
    assert reader.info.duration_s == pytest.approx(1.6)
    assert reader.times_s.tolist() == [0, 1]
    assert shown(runs) == [60, 85]


@pytest.mark.parametrize("codec", ["libx264", "mpeg2video"])
def test_a_stream_cut_within_a_group_starts_at_its_first_frame(tmp_path: Path, codec: str) -> None:
    source = make_video(tmp_path / "source.ts", frames=90, gop=30, codec=codec, bframes=2)
    cut = remux(source, tmp_path / "cut.ts", keep=range(10, 90))
    reader, runs = read(cut)
    assert shown(runs) == [30, 55, 80]
    # The first packet that is left is shown 18 frames before the first that can be decoded.
    assert reader.times_s == pytest.approx([0.72, 1.72, 2.72])
    assert reader.info.duration_s == pytest.approx(3.12)
    assert reader.info.damaged_packets == 0


def test_time_goes_on_when_the_clock_is_set_back(tmp_path: Path) -> None:
    source = make_video(tmp_path / "a.ts", frames=50)
    (tmp_path / "twice.ts").write_bytes(source.read_bytes() * 2)
    reader, runs = read(tmp_path / "twice.ts")
    assert reader.info.duration_s == pytest.approx(4.0, abs=0.05)
    assert shown(runs) == [0, 25, 0, 25]
    assert any("clock" in w or "damaged" in w for w in reader.warnings)


def test_raw_streams_use_the_rate_they_state(tmp_path: Path) -> None:
    reader, runs = read(make_video(tmp_path / "a.h264", frames=90, fps=30))
    assert reader.info.duration_s == 3.0
    assert shown(runs) == [0, 30, 60]


def test_a_single_frame(tmp_path: Path) -> None:
    reader, runs = read(make_video(tmp_path / "a.mp4", frames=1))
    assert reader.times_s.tolist() == [0]
    assert (reader.info.fps, reader.info.constant_rate) == (None, True)
    assert reader.info.duration_s == pytest.approx(0.04)
    assert len(runs) == 1


def test_a_wrong_header_is_not_believed(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mkv", frames=50)
    content = path.read_bytes()
    at = content.index(b"\x44\x89\x88") + 3  # the Duration element, a double in milliseconds
    path.write_bytes(content[:at] + np.array(3.6e9, ">f8").tobytes() + content[at + 8 :])
    reader, _ = read(path)
    assert reader.info.duration_s == 2
    assert any("header says 3600000.0 s" in warning for warning in reader.warnings)


def test_a_clock_beyond_reason_is_an_error(tmp_path: Path) -> None:
    source = make_video(tmp_path / "source.mkv", frames=10, bframes=0)
    path = remux(source, tmp_path / "a.mkv", gap=(5, 1e9))
    with pytest.raises(VideoError, match="clock is damaged"):
        VideoReader(path, fps=1.0, image_size=SIZE)


def test_a_few_frames_are_not_looked_at_for_days_on_end(tmp_path: Path) -> None:
    source = make_video(tmp_path / "source.mkv", frames=10, bframes=0)
    path = remux(source, tmp_path / "a.mkv", gap=(5, 2 * 86_400))
    with pytest.raises(VideoError, match=r"more than 86400 for its 10 frames.*lower the rate"):
        VideoReader(path, fps=1.0, image_size=SIZE)
    # Below the limit the pause is left out.
    assert VideoReader(path, fps=0.1, image_size=SIZE).times_s.tolist() == [0, 10]


# Pixels as a player shows them


@pytest.mark.parametrize(
    ("rotation", "mirrored", "upright"),
    [
        (0, False, lambda p: p),
        (90, False, lambda p: np.rot90(p, -1)),
        (-90, False, np.rot90),
        (180, False, lambda p: np.rot90(p, 2)),
        (0, True, np.fliplr),
    ],
)
def test_the_display_matrix_is_applied(
    tmp_path: Path, rotation: int, mirrored: bool, upright: Any
) -> None:
    path = make_video(tmp_path / "a.mp4", rotation=rotation, mirrored=mirrored)
    reader, runs = read(path, 5.0)
    turned_back = [upright(run.pixels.permute(1, 2, 0).numpy()) for run in runs]
    assert [read_index(pixels) for pixels in turned_back] == list(range(0, 50, 5))
    shape = (reader.info.width, reader.info.height)
    assert shape == ((48, 64) if abs(rotation) == 90 else (64, 48))


def test_pixels_that_are_not_square_are_widened(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", size=(32, 48), pixel_aspect=Fraction(3, 2))
    reader, runs = read(path)
    assert (reader.info.width, reader.info.height) == (48, 48)
    wide = np.asarray(runs[1].pixels).transpose(1, 2, 0)
    expected = resize_and_crop(plain_decode(path)[25][1], SIZE, pixel_aspect=1.5)
    assert np.array_equal(wide, expected.permute(1, 2, 0))


@pytest.mark.parametrize(
    ("pixel_format", "codec"), [("yuv420p10le", "libx265"), ("gray", "libx264"), ("yuv444p", None)]
)
def test_other_pixel_formats_become_rgb(
    tmp_path: Path, pixel_format: str, codec: str | None
) -> None:
    options = {"x265-params": "log-level=error:pools=1"} if codec == "libx265" else {}
    path = make_video(
        tmp_path / "a.mkv", pixel_format=pixel_format, codec=codec or "libx264", options=options
    )
    _, runs = read(path, 5.0)
    assert shown(runs) == list(range(0, 50, 5))


@pytest.mark.parametrize("size", [(2, 2), (62, 34), (96, 16)])
def test_any_size_becomes_the_square(tmp_path: Path, size: tuple[int, int]) -> None:
    reader, _ = read(make_video(tmp_path / "a.mp4", size=size))
    assert (reader.info.width, reader.info.height) == size


def test_a_size_that_changes_is_followed(tmp_path: Path) -> None:
    large = make_video(tmp_path / "large.ts", size=(128, 96))
    small = make_video(tmp_path / "small.ts", size=(64, 64))
    later = remux(small, tmp_path / "later.ts", shift_s=2.0)
    (tmp_path / "both.ts").write_bytes(large.read_bytes() + later.read_bytes())
    reader, runs = read(tmp_path / "both.ts")
    assert shown(runs) == [0, 25, 0, 25]
    assert (reader.info.width, reader.info.height) == (128, 96)
    assert any("from 128x96 to 64x64" in warning for warning in reader.warnings)


# Streams


def test_the_best_of_several_streams_is_shown(tmp_path: Path) -> None:
    path = tmp_path / "two.mp4"
    with av.open(str(path), "w") as container:
        streams = []
        for size in ((32, 24), (128, 96)):
            stream = container.add_stream("libx264", rate=25)
            stream.width, stream.height = size
            stream.pix_fmt = "yuv420p"
            stream.disposition = Disposition.default if size[0] == 128 else Disposition.comment
            streams.append(stream)
        for index in range(50):
            for stream in streams:
                picture = index_picture(index, (stream.width, stream.height))
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                container.mux(stream.encode(frame))
        for stream in streams:
            container.mux(stream.encode(None))
    reader, runs = read(path)
    assert (reader.info.width, reader.info.height) == (128, 96)
    assert shown(runs) == [0, 25]


def write_with_cover(path: Path, *, video: bool) -> Path:
    """Write a file whose first stream is a large cover picture, then maybe a video."""
    with av.open(str(path), "w") as container:
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 128, 96, "yuvj420p"
        cover.disposition = Disposition.attached_pic
        footage = container.add_stream("libx264", rate=25) if video else None
        if footage is not None:
            footage.width, footage.height, footage.pix_fmt = 64, 48, "yuv420p"
        picture = av.VideoFrame.from_ndarray(index_picture(99, (128, 96)), format="rgb24")
        container.mux([*cover.encode(picture), *cover.encode(None)])
        for index in range(50 if footage is not None else 0):
            frame = av.VideoFrame.from_ndarray(index_picture(index, (64, 48)), format="rgb24")
            container.mux(footage.encode(frame))
        if footage is not None:
            container.mux(footage.encode(None))
    return path


def test_cover_art_is_not_the_video(tmp_path: Path) -> None:
    reader, runs = read(write_with_cover(tmp_path / "a.mp4", video=True))
    assert (reader.info.width, reader.info.height) == (64, 48)
    assert shown(runs) == [0, 25]


def test_cover_art_alone_is_an_error(tmp_path: Path) -> None:
    path = write_with_cover(tmp_path / "a.mp4", video=False)
    with pytest.raises(VideoError, match="only cover art"):
        VideoReader(path, fps=1.0, image_size=SIZE)


def test_sound_alone_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44_100)
        sound = np.zeros((1, 44_100), np.float32)
        frame = av.AudioFrame.from_ndarray(sound, format="fltp", layout="mono")
        frame.sample_rate = 44_100
        container.mux([*stream.encode(frame), *stream.encode(None)])
    with pytest.raises(VideoError, match="no video stream"):
        VideoReader(path, fps=1.0, image_size=SIZE)


def test_an_encrypted_video_is_an_error(tmp_path: Path) -> None:
    source = make_video(tmp_path / "a.mp4")
    key = "76a6c65c5ea762046bd749a2e632ccbb"
    scheme = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": key, "encryption_kid": key}
    path = remux(source, tmp_path / "locked.mp4", container_options=scheme)
    with pytest.raises(VideoError, match="is encrypted"):
        VideoReader(path, fps=1.0, image_size=SIZE)


# Damage


def damage(path: Path, spans: list[tuple[float, float]]) -> Path:
    """Overwrite shares of the file's length with noise."""
    content = bytearray(path.read_bytes())
    noise = np.random.default_rng(7)
    for start, end in spans:
        at, until = int(start * len(content)), int(end * len(content))
        content[at:until] = noise.integers(0, 256, until - at, np.uint8).tobytes()
    path.write_bytes(content)
    return path


def test_damage_is_survived_and_told(tmp_path: Path) -> None:
    path = make_video(
        tmp_path / "a.mp4", frames=200, size=(320, 240), container_options={"movflags": "faststart"}
    )
    reader, runs = read(damage(path, [(0.45, 0.6)]), 5.0)
    assert len(reader.times_s) == 40
    assert reader.info.damaged_packets > 0
    assert reader.info.duration_s == pytest.approx(8.0)
    assert any("damaged packets" in warning for warning in reader.warnings)
    numbers = shown(runs)
    assert numbers[:8] == list(range(0, 40, 5))  # before the damage
    assert numbers[-3:] == [185, 190, 195]  # and well after it


def lose_pictures(path: Path, lost: list[int]) -> Path:
    """Write a video of 30 JPEG pictures, each its own key, and blank some of them."""
    make_video(path, frames=30, codec="mjpeg", pixel_format="yuvj420p", bframes=0)
    content = bytearray(path.read_bytes())
    starts = [at for at in range(len(content) - 3) if content[at : at + 3] == b"\xff\xd8\xff"]
    assert len(starts) == 30
    for index in lost:
        size = starts[index + 1] - 16 - starts[index]
        content[starts[index] : starts[index] + size] = bytes(size)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("name", ["a.mkv", "a.avi"])
def test_a_lost_frame_is_replaced_by_the_one_before(tmp_path: Path, name: str) -> None:
    reader, runs = read(lose_pictures(tmp_path / name, [0, 1, 10, 11]), 25.0)
    assert shown(runs) == [2, 2, *range(2, 10), 9, 9, *range(12, 30)]
    assert reader.info.damaged_packets == 4
    assert any("without skipping" in warning for warning in reader.warnings)


def test_a_lost_start_costs_no_skipping(tmp_path: Path) -> None:
    reader, runs = read(lose_pictures(tmp_path / "a.mkv", [0, 1]), 5.0)
    assert shown(runs) == [2, 5, 10, 15, 20, 25]
    assert "the first 2 frames cannot be decoded" in reader.warnings
    assert not any("without skipping" in warning for warning in reader.warnings)
    assert reader.info.damaged_packets == 2


def test_a_cut_file_ends_where_it_was_cut(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", frames=100, container_options={"movflags": "faststart"})
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * 0.7)])
    reader, runs = read(path, 5.0)
    assert 1 < reader.info.duration_s < 4
    numbers = shown(runs)
    assert numbers[:4] == [0, 5, 10, 15]
    assert numbers == sorted(numbers)
    assert any("header says 4.0 s" in warning for warning in reader.warnings)


def test_a_video_without_a_decodable_frame_is_an_error(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", frames=30, container_options={"movflags": "faststart"})
    content = path.read_bytes()
    kept = content.index(b"mdat") + 4
    path.write_bytes(content[:kept] + bytes(len(content) - kept))
    with pytest.raises(VideoError, match="none of its 30 packets gives a frame"):
        VideoReader(path, fps=1.0, image_size=SIZE)


# Files that are something else


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("text.mp4", b"just some words\n" * 100),
        (
            "playlist.m3u8",
            b"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nreal.ts\n#EXT-X-ENDLIST\n",
        ),
        (
            "playlist.mp4",
            b"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nreal.ts\n#EXT-X-ENDLIST\n",
        ),
        ("concat.mp4", b"ffconcat version 1.0\nfile real.ts\n"),
        ("noise.mkv", bytes(np.random.default_rng(1).integers(0, 256, 65_536, np.uint8))),
    ],
)
def test_what_is_no_video_is_an_error(tmp_path: Path, name: str, content: bytes) -> None:
    make_video(tmp_path / "real.ts")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(VideoError, match="not a video"):
        VideoReader(tmp_path / name, fps=1.0, image_size=SIZE)


def test_a_pipe_is_refused_before_it_blocks(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.mp4")
    with pytest.raises(VideoError, match="not a regular file"):
        VideoReader(tmp_path / "a.mp4", fps=1.0, image_size=SIZE)


@pytest.mark.parametrize(
    "name",
    [
        "with space.mp4",
        "quo'te\".mp4",
        "new\nline.mp4",
        "-i.mp4",
        "%03d.mp4",
        "http:x.mp4",
        "file:x.mp4",
        "a|b.mp4",
        "no_suffix",
        "misnamed.mkv",
        os.fsdecode(b"bad\xff.mp4"),
    ],
)
def test_any_file_name_is_only_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    make_video(tmp_path / "plain.mp4").rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    reader, runs = read(Path(name))
    assert shown(runs) == [0, 25]
    assert reader.info.path == name


def test_metadata_in_another_encoding_does_not_matter(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mkv")
    content = path.read_bytes()
    assert b"Lavf" in content
    path.write_bytes(content.replace(b"Lavf", b"L\xe9vf"))
    _, runs = read(path)
    assert shown(runs) == [0, 25]
