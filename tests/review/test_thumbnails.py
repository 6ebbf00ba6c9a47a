"""Thumbnails show the right frames, in the right shape."""

import io
from pathlib import Path

import av
import numpy as np
import pytest

from tests.helpers.video_files import make_video, read_index
from vidground.errors import InternalError, VideoError
from vidground.review.thumbnails import THUMBNAIL_SIZE, Thumbnailer
from vidground.settings import IsolationSettings

pytestmark = pytest.mark.smoke

FAULTY = "tests.helpers.faulty_footage"


def thumbnails(
    video: Path, times_s: list[float], size: tuple[int, int] = THUMBNAIL_SIZE
) -> list[bytes]:
    with Thumbnailer() as thumbnailer:
        return thumbnailer.make(video, times_s, size=size)


def decoded(jpeg: bytes) -> np.ndarray:
    with av.open(io.BytesIO(jpeg), format="mjpeg") as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb24")


def test_each_time_shows_its_frame_in_the_order_asked(tmp_path: Path) -> None:
    video = make_video(tmp_path / "a.mp4", frames=50, fps=10)
    pictures = thumbnails(video, [4.0, 0.0, 1.55, 4.0, 99.0])
    assert [read_index(decoded(picture)) for picture in pictures] == [40, 0, 15, 40, 49]
    assert decoded(pictures[0]).shape == (48, 64, 3)  # no larger than the video
    assert thumbnails(video, []) == []


def test_a_large_picture_is_scaled_down_and_keeps_its_aspect_ratio(tmp_path: Path) -> None:
    video = make_video(tmp_path / "a.mp4", frames=3, size=(320, 320))
    (picture,) = thumbnails(video, [0.05])
    assert decoded(picture).shape == (90, 90, 3)
    assert read_index(decoded(picture)) == 1
    (odd,) = thumbnails(video, [0.05], size=(33, 90))
    assert decoded(odd).shape == (33, 33, 3)


@pytest.mark.parametrize(("rotation", "mirrored"), [(90, False), (270, False), (0, True)])
def test_a_picture_is_rotated_as_a_player_rotates_it(
    tmp_path: Path, rotation: float, mirrored: bool
) -> None:
    video = make_video(
        tmp_path / "a.mp4", frames=8, size=(64, 48), rotation=rotation, mirrored=mirrored
    )
    (picture,) = thumbnails(video, [0.22])  # frame 5, which has no symmetry
    shown = decoded(picture)
    assert shown.shape == ((64, 48, 3) if rotation else (48, 64, 3))
    straight = np.rot90(shown, -rotation // 90)
    assert read_index(straight[:, ::-1] if mirrored else straight) == 5
    assert read_index(shown) != 5


def test_a_file_that_is_not_a_video_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"none")
    with pytest.raises(VideoError, match=r"a\.mp4"):
        thumbnails(tmp_path / "a.mp4", [0.0])


@pytest.mark.parametrize("fault", ["crash", "hang", "eat"])
def test_a_video_that_crashes_its_decoder_loses_only_its_own_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setattr("vidground.review.thumbnails._OPENER", f"{FAULTY}:FailingMoments")
    video = make_video(tmp_path / "a.mp4", frames=50, fps=10)
    bad = video.rename(tmp_path / f"{fault}.mp4")
    good = make_video(tmp_path / "good.mp4", frames=50, fps=10)
    with Thumbnailer(IsolationSettings(timeout_s=5.0, memory_gib=0.5)) as thumbnailer:
        thumbnailer.make(good, [1.0])
        with pytest.raises(VideoError, match=f"{fault}.mp4"):
            thumbnailer.make(bad, [1.0])
        (picture,) = thumbnailer.make(good, [4.0])
        assert read_index(decoded(picture)) == 40


def test_a_mistake_of_the_program_is_not_told_as_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vidground.review.thumbnails._OPENER", f"{FAULTY}:FailingMoments")
    bad = make_video(tmp_path / "bug.mp4", frames=50, fps=10)
    with Thumbnailer() as thumbnailer, pytest.raises(InternalError, match="ZeroDivisionError"):
        thumbnailer.make(bad, [1.0])
