"""A few damaged files; `run_fuzz.py` makes hundreds of real videos."""

from pathlib import Path

from tests.helpers.damaged_files import KINDS, write_damaged
from tests.helpers.video_files import make_video
from tests.scripts.run_fuzz import complaints, decode_all
from vidground.settings import IsolationSettings


def test_damaged_files_end_with_frames_or_an_error(tmp_path: Path) -> None:
    (tmp_path / "damaged").mkdir()
    sources = [
        make_video(tmp_path / "a.mp4", frames=60, container_options={"movflags": "faststart"}),
        make_video(tmp_path / "b.mkv", frames=60),
        make_video(tmp_path / "c.ts", frames=60),
    ]
    files = write_damaged(sources, tmp_path / "damaged", count=3 * len(KINDS), seed=1)
    outcomes = list(decode_all(files, IsolationSettings(timeout_s=20.0, memory_gib=1.0)))
    assert len(outcomes) == 18
    assert complaints(outcomes, longest_s=60.0) == []
    done = sum(outcome.error is None for outcome in outcomes)
    assert 3 <= done <= 15  # neither harmless nor hopeless


def test_the_same_seed_makes_the_same_files(tmp_path: Path) -> None:
    source = make_video(tmp_path / "a.mp4", frames=30)
    made = []
    for folder in (tmp_path / "1", tmp_path / "2", tmp_path / "3"):
        folder.mkdir()
        files = list(write_damaged([source], folder, count=6, seed=len(made) // 2))
        made.append([file.path.read_bytes() for file in files])
        assert [file.kind for file in files] == list(KINDS)
    assert made[0] == made[1]
    assert all(content != source.read_bytes() for content in made[0])
    assert all(a != b for a, b in zip(made[0], made[2], strict=True))
