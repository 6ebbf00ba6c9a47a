"""Times on files whose clocks restart, jump, pause or begin with sound, by what pictures show."""

from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import pytest

from tests.helpers.film_files import make_sounding
from tests.helpers.mp4_edits import Edit, with_edits
from tests.helpers.video_files import make_video, read_index, remux
from vidground.video.frame_sampler import FrameSampler

RATE = 25


def pictures(sampler: FrameSampler) -> list[tuple[float, int]]:
    """Return time and shown number of every sample."""
    return [
        (round(float(sampler.times_s[k]), 3), read_index(shown.frame.rgb()))
        for shown in sampler.frames()
        for k in range(shown.first, shown.last + 1)
    ]


# Clocks that restart


@pytest.mark.parametrize("suffix", [".ts", ".mpg"])
def test_parts_of_a_second_that_each_restart_their_clock_follow_each_other(
    tmp_path: Path, suffix: str
) -> None:
    codec = "libx264" if suffix == ".ts" else "mpeg2video"
    joined = tmp_path / f"joined{suffix}"
    part = make_video(tmp_path / f"part{suffix}", frames=RATE, gop=12, codec=codec)
    joined.write_bytes(part.read_bytes() * 5)
    sampler = FrameSampler(joined, fps=5.0)
    assert sampler.info.duration_s == pytest.approx(5.0, abs=0.05)
    assert [picture for _, picture in pictures(sampler)] == [0, 5, 10, 15, 20] * 5
    assert len(sampler.warnings) == 1
    assert "the clock jumps 4 times, first back by 1.0 s at 1.0 s" in sampler.warnings[0]


def test_a_clock_that_steps_back_by_less_than_a_second_is_a_new_clock(tmp_path: Path) -> None:
    first = make_video(tmp_path / "first.ts", frames=50)
    second = remux(first, tmp_path / "second.ts", shift_s=1.5)  # half a second too early
    joined = tmp_path / "joined.ts"
    joined.write_bytes(first.read_bytes() + second.read_bytes())
    sampler = FrameSampler(joined, fps=1.0)
    assert pictures(sampler) == [(0.0, 0), (1.0, 25), (2.0, 0), (3.0, 25)]
    assert "jumps back by 0.5 s at 2.0 s" in sampler.warnings[0]


@pytest.mark.parametrize("ahead_s", [12.0, 36_000.0])
def test_a_transport_stream_that_jumps_ahead_goes_on_without_a_gap(
    tmp_path: Path, ahead_s: float
) -> None:
    source = make_video(tmp_path / "source.ts", frames=100, bframes=0, gop=25)
    path = remux(source, tmp_path / "a.ts", gap=(50, ahead_s))
    sampler = FrameSampler(path, fps=1.0)
    assert pictures(sampler) == [(0.0, 0), (1.0, 25), (2.0, 50), (3.0, 75)]
    assert sampler.info.duration_s == 4.0
    assert sampler.warnings == (
        f"the clock jumps ahead by {ahead_s:.1f} s at 2.0 s; the times continue without the jump",
    )


def test_a_short_loss_of_a_broadcast_stays_a_gap(tmp_path: Path) -> None:
    source = make_video(tmp_path / "source.ts", frames=100, bframes=0, gop=25)
    sampler = FrameSampler(remux(source, tmp_path / "a.ts", gap=(50, 5.0)), fps=1.0)
    assert sampler.info.duration_s == 9.0
    assert pictures(sampler)[-2:] == [(7.0, 50), (8.0, 75)]


def test_a_transport_stream_of_few_pictures_is_not_a_clock_that_jumps(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.ts", frames=5, times=[0, 15, 30, 45, 60], bframes=0, gop=1)
    sampler = FrameSampler(path, fps=0.1)
    assert sampler.info.duration_s == pytest.approx(75, abs=0.1)
    assert [picture for _, picture in pictures(sampler)] == [0, 0, 1, 2, 2, 3, 4, 4]


def test_marks_of_damage_at_a_harmless_join_are_no_damage(tmp_path: Path) -> None:
    first = make_video(tmp_path / "first.ts", frames=65, gop=20)
    second = remux(first, tmp_path / "second.ts", shift_s=65 / RATE)
    joined = tmp_path / "joined.ts"
    joined.write_bytes(first.read_bytes() + second.read_bytes())
    with av.open(str(joined)) as container:
        assert any(packet.is_corrupt for packet in container.demux(video=0))
    sampler = FrameSampler(joined, fps=25.0)
    assert [picture for _, picture in pictures(sampler)] == [*range(65)] * 2
    assert sampler.warnings == ()


# Pauses


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".flv"])
def test_a_pause_is_kept_on_the_clock_and_not_sampled(tmp_path: Path, suffix: str) -> None:
    source = make_video(tmp_path / f"source{suffix}", frames=100, bframes=0, gop=25)
    sampler = FrameSampler(remux(source, tmp_path / f"a{suffix}", gap=(50, 3600.0)), fps=1.0)
    assert sampler.info.duration_s == pytest.approx(3604.0)
    assert pictures(sampler) == [(0.0, 0), (1.0, 25), (2.0, 49), (3602.0, 50), (3603.0, 75)]
    assert "no picture was recorded between 2.0 and 3602.0 s" in str(sampler.warnings)


def test_several_pauses_are_counted(tmp_path: Path) -> None:
    times = [*np.arange(50) / RATE, *(1000 + np.arange(50) / RATE), *(3000 + np.arange(9) / RATE)]
    path = make_video(tmp_path / "a.mkv", frames=len(times), times=times, bframes=0)
    sampler = FrameSampler(path, fps=1.0)
    assert [time for time, _ in pictures(sampler)] == [0, 1, 2, 1000, 1001, 1002, 3000]
    assert any("nor in 1 other pause;" in warning for warning in sampler.warnings)


# The start of the file


@pytest.mark.parametrize(
    ("name", "codec", "sound"),
    [
        ("a.mp4", "libx264", "aac"),
        ("a.mkv", "libx264", "flac"),
        ("a.ts", "libx264", "aac"),
        ("a.flv", "libx264", "aac"),
        ("a.webm", "libvpx", "libopus"),
    ],
)
def test_times_count_from_the_sound_where_it_begins_first(
    tmp_path: Path, name: str, codec: str, sound: str
) -> None:
    path = make_sounding(tmp_path / name, picture_s=5, sound_s=0, codec=codec, sound=sound)
    sampler = FrameSampler(path, fps=1.0)
    # Some encoders' delay is part of the sound: at most a tenth of a second.
    assert sampler.times_s == pytest.approx(5.0 + np.arange(4), abs=0.1)
    assert [picture for _, picture in pictures(sampler)] == [0, 25, 50, 75]
    assert sampler.info.duration_s == pytest.approx(9.0, abs=0.1)
    assert sampler.info.fps == pytest.approx(25)
    assert sampler.warnings == ()


@pytest.mark.parametrize("name", ["a.mp4", "a.ts"])
def test_sound_that_begins_later_does_not_move_the_pictures(tmp_path: Path, name: str) -> None:
    sampler = FrameSampler(make_sounding(tmp_path / name, picture_s=0, sound_s=2), fps=1.0)
    assert sampler.times_s.tolist() == [0, 1, 2, 3]


# Edit lists


@pytest.mark.parametrize("bframes", [0, 3])
@pytest.mark.parametrize(
    ("edits", "expected"),
    [
        ([(2, 0, 1), (2, 6, 1)], [0, 25, 150, 175]),
        ([(2, 6, 1), (2, 0, 1)], [150, 175, 0, 25]),
        ([(3, 2, 1), (3, 2, 1)], [50, 75, 100, 50, 75, 100]),
        ([(2, 1, 1), (1, 4, 1), (2, 8, 1)], [25, 50, 100, 200, 225]),
    ],
    ids=["two parts", "swapped", "repeated", "three parts"],
)
def test_edit_lists_show_their_parts_in_their_order(
    tmp_path: Path, bframes: int, edits: Sequence[Edit], expected: list[int]
) -> None:
    source = make_video(tmp_path / "source.mp4", frames=250, gop=50, bframes=bframes)
    delay_s = 2 / RATE if bframes else 0.0  # what the encoder puts before the first picture
    shifted = [(length_s, start_s + delay_s, rate) for length_s, start_s, rate in edits]
    sampler = FrameSampler(with_edits(source, tmp_path / "a.mp4", shifted), fps=1.0)
    assert pictures(sampler) == [(float(k), picture) for k, picture in enumerate(expected)]
    assert sampler.info.duration_s == pytest.approx(len(expected), abs=0.05)
    assert sampler.warnings == ()


# What does not fit together


def test_a_guessed_frame_rate_is_reported(tmp_path: Path) -> None:
    timing = "log-level=error:pools=1:vui-timing-info="
    for states, expected in (("1", 0), ("0", 1)):
        path = make_video(
            tmp_path / f"{states}.hevc",
            frames=60,
            fps=30,
            codec="libx265",
            options={"x265-params": timing + states},
        )
        warnings = [
            each for each in FrameSampler(path, fps=1.0).warnings if "25 frames per" in each
        ]
        assert len(warnings) == expected


@pytest.mark.parametrize("suffix", [".mkv", ".flv"])
def test_a_file_whose_second_half_is_zero_is_reported(tmp_path: Path, suffix: str) -> None:
    path = make_video(tmp_path / f"a{suffix}", frames=200, size=(320, 240), gop=10)
    whole = FrameSampler(path, fps=1.0)
    assert whole.warnings == ()
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] + bytes(len(content) - len(content) // 2))
    sampler = FrameSampler(path, fps=1.0)
    assert sampler.info.duration_s < whole.info.duration_s
    assert any("contain no readable picture" in warning for warning in sampler.warnings)


def test_a_file_appended_to_another_and_not_read_is_reported(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.flv", frames=200, size=(320, 240), gop=10)
    path.write_bytes(path.read_bytes() * 2)
    warnings = FrameSampler(path, fps=1.0).warnings
    assert any(each.startswith("the last 50% of the file") for each in warnings)
