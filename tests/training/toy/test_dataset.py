import json
from pathlib import Path

import av
import numpy as np
import pytest

from vidground.errors import InputError
from vidground.training.toy.dataset import toy_film, write_dataset
from vidground.training.toy.drawing import render
from vidground.training.toy.world import ToySettings

SHORT = ToySettings(
    min_duration_s=10, max_duration_s=12, max_events=2, min_event_s=4, max_event_s=5, noise=4
)
SIZE = 48


def write(out: Path, videos: int = 3, **changes: object) -> Path:
    arguments = {"seed": 2, "settings": SHORT, "size": SIZE} | changes
    write_dataset(out, videos=videos, **arguments)
    return out


def read(path: Path) -> list[dict[str, object]]:
    return json.loads(path.read_text(encoding="utf-8"))


def content(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("toy") / "set", videos=5)


def test_files_of_a_data_set(dataset: Path) -> None:
    films = [*(f"videos/train_00000{k}.mp4" for k in range(4)), "videos/test_000000.mp4"]
    manifest = json.loads((dataset / "manifest.json").read_text())
    assert manifest["splits"] == {"train": films[:4], "test": films[4:]}
    assert (manifest["seed"], manifest["size"]) == (2, SIZE)
    assert ToySettings(**manifest["settings"]) == SHORT
    names = set(content(dataset))
    assert {*films, "manifest.json", "sft.json", "absent.json", "etbench/tvg.json"} <= names
    assert {name for name in names if name.endswith(".mp4")} == set(films)
    assert {sample["video"] for sample in read(dataset / "sft.json")} == set(films[:4])
    assert {sample["video"] for sample in read(dataset / "absent.json")} == {films[4]}
    for path in (dataset / "etbench").iterdir():
        samples = read(path)
        assert {sample["task"] for sample in samples} == {path.stem}
        assert {sample["video"] for sample in samples} == {films[4]}
        assert [sample["idx"] for sample in samples] == list(range(len(samples)))


def test_a_video_holds_the_drawn_frames_at_their_times(dataset: Path) -> None:
    film = toy_film(2, "train", 1, settings=SHORT)
    with av.open(str(dataset / film.path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert (stream.width, stream.height) == (SIZE, SIZE)
        assert float(stream.duration * stream.time_base) == film.video.duration_s
        decoded = [(frame.time, frame.to_ndarray(format="rgb24")) for frame in container.decode(0)]
    times_s = np.arange(round(film.video.duration_s * 5)) / 5
    assert [time_s for time_s, _ in decoded] == times_s.tolist()
    pixels = np.stack([frame for _, frame in decoded]).astype(int)
    drawn = render(film.video, times_s, size=SIZE, noise_seed=film.noise_seed).astype(int)
    assert np.abs(pixels - drawn).mean() < 5
    # Each event's colour, in the middle of its shape beside the dot.
    for event in film.video.events:
        middle = (event.start_s + event.end_s) / 2
        index = int(np.flatnonzero(times_s >= middle)[0])
        x, y, radius, angle, _ = event.sprite.poses(times_s[index : index + 1])[0]
        away = np.radians(angle) + np.pi / 2
        column, row = (x + 0.2 * radius * np.cos(away), y + 0.2 * radius * np.sin(away))
        seen = pixels[index, int(row * SIZE), int(column * SIZE)]
        assert np.abs(seen - drawn[index, int(row * SIZE), int(column * SIZE)]).max() < 50


def test_compression_leaves_no_ghost_of_a_shape_that_is_gone(tmp_path: Path) -> None:
    settings = ToySettings(max_duration_s=30, max_events=3)
    write(tmp_path, videos=12, settings=settings, size=56)
    for index in range(9):
        film = toy_film(2, "train", index, settings=settings)
        with av.open(str(tmp_path / film.path)) as container:
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(0)]
        times_s = np.arange(len(frames)) / settings.fps
        coloured = (np.ptp(np.stack(frames).astype(int), axis=-1) > 35).sum((1, 2)) > 3
        shown = sum((times_s >= e.start_s) & (times_s < e.end_s) for e in film.video.events) > 0
        assert (coloured == shown).all()


def test_the_same_call_writes_the_same_bytes(dataset: Path, tmp_path: Path) -> None:
    assert content(write(tmp_path / "again", videos=5)) == content(dataset)
    other = content(write(tmp_path / "other", videos=2, seed=3))
    assert other["videos/test_000000.mp4"] != content(dataset)["videos/test_000000.mp4"]


def test_splits_hold_different_films() -> None:
    films = [toy_film(2, split, index) for split in ("train", "test") for index in range(20)]
    assert len({film.video.duration_s * 1e6 + film.video.noise for film in films}) == 40
    assert len({film.noise_seed for film in films}) == 40


def test_an_interrupted_call_is_finished_by_the_next(dataset: Path, tmp_path: Path) -> None:
    class StoppedError(Exception):
        pass

    def stop(done: int, videos: int) -> None:
        assert videos == 5
        if done == 2:
            raise StoppedError

    with pytest.raises(StoppedError):
        write(tmp_path, videos=5, on_progress=stop)
    begun = content(tmp_path)
    assert sorted(name for name in begun if name.endswith(".mp4")) == [
        "videos/train_000000.mp4",
        "videos/train_000001.mp4",
    ]
    assert "sft.json" not in begun
    (tmp_path / "videos/train_000000.mp4").write_bytes(b"kept as it is")
    told: list[tuple[int, int]] = []
    write(tmp_path, videos=5, on_progress=lambda done, videos: told.append((done, videos)))
    assert told == [(done, 5) for done in range(1, 6)]
    whole = content(tmp_path)
    assert whole.pop("videos/train_000000.mp4") == b"kept as it is"
    expected = content(dataset)
    del expected["videos/train_000000.mp4"]
    assert whole == expected


def test_a_set_may_grow(dataset: Path, tmp_path: Path) -> None:
    write(tmp_path, videos=2)
    assert content(write(tmp_path, videos=5)) == content(dataset)
    with pytest.raises(InputError, match=r"videos is 2; .* already holds 5"):
        write(tmp_path, videos=2)
    assert content(tmp_path) == content(dataset)


def test_a_folder_of_another_set_is_left_alone(tmp_path: Path) -> None:
    before = content(write(tmp_path, videos=2))
    with pytest.raises(InputError, match="another seed and size; repeat the call"):
        write(tmp_path, videos=2, seed=4, size=64)
    with pytest.raises(InputError, match="another settings"):
        write(tmp_path, videos=2, settings=ToySettings())
    assert content(tmp_path) == before
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(InputError, match="cannot be read"):
        write(tmp_path, videos=2)
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(InputError, match="videos that are not of a toy set"):
        write(tmp_path, videos=2)


@pytest.mark.parametrize(
    ("argument", "value"), [("videos", 1), ("seed", -1), ("size", 30), ("size", 49)]
)
def test_an_argument_out_of_range_writes_nothing(tmp_path: Path, argument: str, value: int) -> None:
    with pytest.raises(InputError, match=f"^{argument} is {value}; it must be"):
        write(tmp_path / "set", **{argument: value})
    assert not (tmp_path / "set").exists()
