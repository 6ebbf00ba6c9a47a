"""Data sets of a run: folders and weights of their own, and what of them is left out."""

import logging
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from transformers import TrainingArguments

from tests.helpers.annotation_files import sft_sample, write
from tests.helpers.video_files import make_video
from vidground.errors import InputError
from vidground.training.config import DataSet, DataSource, read_config
from vidground.training.data.annotation_files import write_samples
from vidground.training.data.annotations import AnnotationError
from vidground.training.data_loading import load_data, read_annotations
from vidground.training.dry_run import planned_data
from vidground.training.toy.model import make_toy_model, toy_config

NEEDED = {"model.init": "toy", "output.dir": "run", "parameters.trained": "full"}


@pytest.fixture
def sets(tmp_path: Path) -> Path:
    """Two data sets that both name a.mp4, each for a video of its own."""
    for name, frames in (("one", 30), ("two", 40)):
        (tmp_path / name).mkdir()
        make_video(tmp_path / name / "a.mkv", frames=frames, fps=5)
    first = [sft_sample(video="a.mp4", duration=6.0, tgt=[0, 1, 2, 3]) for _ in range(4)]
    write(tmp_path / "one.json", *first)
    second = [sft_sample(video="a.mp4", duration=8.0, tgt=[0, 1, 2, 3]) for _ in range(4)]
    write_samples(tmp_path / "two.jsonl", second)
    return tmp_path


def loaded(data: DataSource, folder: Path) -> Any:
    arguments = TrainingArguments(output_dir=str(folder), use_cpu=True, report_to=[])
    annotations = read_annotations(data, "sft", quiet=True)
    model = make_toy_model(toy_config(), seed=0)
    return load_data(annotations, data, model, arguments, quiet=True)


def test_each_data_set_has_its_videos_and_its_weight(sets: Path) -> None:
    text = f"""
objective: sft
data:
  annotations: {sets}/one.json
  videos: {sets}/one
  sets:
    - annotations: [{sets}/two.jsonl]
      videos: [{sets}/nowhere, {sets}/two]
      weight: 1.5
  evaluation: {sets}/one.json
"""
    (sets / "run.yaml").write_text(text)
    config = read_config("sft", sets / "run.yaml", {**NEEDED, "output.eval_every": 1})
    assert config.data.all_sets == (
        DataSet((f"{sets}/one.json",), (f"{sets}/one",)),
        DataSet((f"{sets}/two.jsonl",), (f"{sets}/nowhere", f"{sets}/two"), 1.5),
    )
    train, held_out = loaded(config.data, sets)
    paths = Counter(annotation.path for annotation in train.annotations)
    assert paths == {sets / "one/a.mkv": 4, sets / "two/a.mkv": 6}
    assert (len(train[0].prompt.frames), len(train[9].prompt.frames)) == (6, 8)
    assert [annotation.path for annotation in held_out.annotations] == [sets / "one/a.mkv"] * 4
    assert planned_data(config, None).samples == 10
    (sets / "again.yaml").write_text(config.to_yaml())
    assert read_config("sft", sets / "again.yaml") == config


def test_missing_videos_end_a_run_or_are_counted_apart(
    sets: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (sets / "one/bad.mp4").write_bytes(b"no video")
    names = ("a.mp4", "bad.mp4", "gone.mp4", "gone.mp4")
    file = write(sets / "a.json", *(sft_sample(video=name, duration=9.9) for name in names))
    data = DataSource((str(file),), (str(sets / "one"),))
    with pytest.raises(AnnotationError, match="2 samples of 1 missing video"):
        loaded(data, sets)
    with caplog.at_level(logging.WARNING, "vidground"):
        train, _ = loaded(DataSource(data.annotations, data.videos, unreadable="skip"), sets)
    assert [annotation.video for annotation in train.annotations] == ["a.mp4"]
    assert "2 of 4 samples are left out: videos that are missing" in caplog.text
    assert "1 of 4 samples are left out: videos that cannot be read" in caplog.text


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({}, r"data\.annotations is empty"),
        ({"data.annotations": "a.json"}, r"data\.videos is empty"),
        (
            {"data.sets": [{"annotations": "a", "videos": "b"}], "data.videos": "c"},
            r"data\.videos is set and data\.annotations is empty",
        ),
        ({"data.sets": [{"annotations": "a"}]}, "videos is empty"),
        ({"data.sets": [{"videos": "a"}]}, "annotations is empty"),
        ({"data.sets": [{"annotations": "a", "videos": "b", "weight": 0}]}, "weight is 0.0"),
        ({"data.sets": [{"annotations": "a", "vidoes": "b"}]}, "did you mean data.sets.videos"),
    ],
)
def test_incomplete_data_sets_are_refused(values: dict[str, Any], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        read_config("sft", None, {**NEEDED, **values})
