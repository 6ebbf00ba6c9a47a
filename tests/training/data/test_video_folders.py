"""Videos are found in the folders in order, by name before stem."""

from pathlib import Path

from tests.helpers.annotation_files import sft_sample, write
from vidground.training.data.annotations import load_annotations
from vidground.training.data.video_folders import VideoFolders


def test_the_exact_name_comes_before_other_suffixes_and_earlier_folders_first(
    tmp_path: Path,
) -> None:
    for name in ("one/a.mkv", "two/a.mp4", "one/deep/b.webm", "one/deep/b.mkv", "two/c.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    folders = VideoFolders([tmp_path / "one", tmp_path / "two", tmp_path / "gone"])
    assert folders.find("a.mp4") == tmp_path / "two/a.mp4"
    assert folders.find("a.avi") == tmp_path / "one/a.mkv"
    assert folders.find("deep/b.mp4") == tmp_path / "one/deep/b.mkv"
    assert folders.find("b.mp4") is None
    assert folders.find("c.mp4") is None  # a text is no video
    assert str(folders) == f"{tmp_path}/one or {tmp_path}/two or {tmp_path}/gone"


def test_annotations_have_the_path_of_their_video(tmp_path: Path) -> None:
    (tmp_path / "two/clips").mkdir(parents=True)
    (tmp_path / "two/clips/a.mkv").touch()
    file = write(tmp_path / "a.json", sft_sample())
    (found,) = load_annotations([file], video_root=[tmp_path / "one", tmp_path / "two"])
    assert (found.video, found.path) == ("clips/a.mp4", tmp_path / "two/clips/a.mkv")
    (kept,) = load_annotations([file], video_root=tmp_path / "one", keep_missing=True)
    assert kept.path == tmp_path / "one/clips/a.mp4"
