"""Both supported versions of PyAV: what they return and accept is the same to vidground."""

from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import pytest

from tests.helpers.video_files import make_video
from vidground.video.pyav import open_input, positive_fraction
from vidground.video.video_file import VideoFile

pytestmark = pytest.mark.smoke


@pytest.mark.parametrize(
    ("numerator", "denominator", "expected"),
    [
        (30000, 1001, Fraction(30000, 1001)),
        (2, 4, Fraction(1, 2)),
        (0, 1, None),
        (0, 0, None),
        (1, 0, None),
        (-25, 1, None),
    ],
)
def test_ratios_of_either_version_become_fractions(
    numerator: int, denominator: int, expected: Fraction | None
) -> None:
    found = positive_fraction(SimpleNamespace(numerator=numerator, denominator=denominator))
    assert found == expected
    assert found is None or type(found) is Fraction
    assert positive_fraction(None) is None


def test_a_file_states_its_rates_in_fractions(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", fps=Fraction(30000, 1001), pixel_aspect=Fraction(4, 3))
    with VideoFile(path) as file:
        clock = file.facts.clock
        frame = next(iter(file.decode_all()))
    assert {type(value) for value in (clock.time_base, *clock.nominal)} == {Fraction}
    assert set(clock.nominal) == {Fraction(30000, 1001)}
    assert (type(frame.pixel_aspect), frame.pixel_aspect) == (Fraction, Fraction(4, 3))


def test_titles_keep_their_bytes_whatever_their_encoding(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "TITLE_HERE"
        stream = container.add_stream("libx264", rate=1)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        container.mux(stream.encode(av.VideoFrame(32, 32, "yuv420p")))
        container.mux(stream.encode(None))
    path.write_bytes(path.read_bytes().replace(b"TITLE_HERE", b"caf\xe9\xff\xfe \xe9t "))
    with open_input(str(path)) as container:
        title = container.metadata["title"]
    assert title.encode("utf-8", "surrogateescape") == b"caf\xe9\xff\xfe \xe9t "
