"""The five benchmarks: what data each needs, how its questions are read, how answers are scored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vidground.training.evaluation.benchmarks.conversion import convert_charades, convert_youcook2
from vidground.training.evaluation.benchmarks.data_layout import (
    DataLayout,
    FoundVideos,
    find_annotations,
    find_videos,
)
from vidground.training.evaluation.benchmarks.multiple_choice import Choice, choice_questions
from vidground.training.evaluation.benchmarks.mvbench import SOURCE as MVBENCH
from vidground.training.evaluation.benchmarks.mvbench import read_mvbench
from vidground.training.evaluation.benchmarks.videomme import SOURCE as VIDEOMME
from vidground.training.evaluation.benchmarks.videomme import read_videomme
from vidground.training.evaluation.questions import (
    Question,
    load_questions,
    questions_of,
    take_first,
)


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One benchmark.

    Attributes:
        name: as commands take it.
        title: as its authors write it.
        layout: what its folder holds.
        load: reads its questions from its annotations.
    """

    name: str
    title: str
    layout: DataLayout
    load: Callable[[Path], list[Question]]

    def find(self, root: Path, *, limit: int | None = None) -> tuple[Path, FoundVideos]:
        """Return the annotations in the benchmark's folder, and its questions with their videos.

        Args:
            root: the folder.
            limit: maximum number of questions per task; the first ones are taken.

        Raises:
            InputError: annotations or videos are not there, or a field is missing or wrong.
        """
        annotations = find_annotations(self.layout, root)
        questions = take_first(self.load(annotations), limit)
        return annotations, find_videos(self.layout, root, questions)


def _charades(path: Path) -> list[Question]:
    return questions_of(convert_charades(path), str(path))


def _youcook2(path: Path) -> list[Question]:
    return questions_of(convert_youcook2(path), str(path))


def _choices(read: Callable[[Path], list[Choice]], source: str) -> Callable[[Path], list[Question]]:
    return lambda path: choice_questions(read(path), source)


_ALL = (
    Benchmark(
        "etbench",
        "E.T. Bench",
        DataLayout(
            annotations=(
                "annotations/evi",
                "annotations/etbench_evi_v1.0.json",
                "annotations/vid",
                "annotations/etbench_vid_v1.0.json",
                "annotations/txt",
                "annotations/etbench_txt_v1.0.json",
                "etbench",  # what `vidground data toy` writes
            ),
            videos=("videos_compressed", "videos", "."),
            source="huggingface.co/datasets/PolyU-ChenLab/ETBench (videos, annotations) and "
            "wenzhengzeng/D2VLM-Dataset (annotations in evidence form)",
        ),
        load_questions,
    ),
    Benchmark(
        "charades",
        "Charades-STA",
        DataLayout(
            annotations=("charades_sta_test.txt", "annotations/charades_sta_test.txt"),
            videos=("Charades_v1", "Charades_v1_480", "videos"),
            source="github.com/jiyanggao/TALL (annotations) and "
            "prior.allenai.org/projects/charades (videos)",
        ),
        _charades,
    ),
    Benchmark(
        "youcook2",
        "YouCook2",
        DataLayout(
            annotations=(
                "youcookii_annotations_trainval.json",
                "annotations/youcookii_annotations_trainval.json",
            ),
            videos=("raw_videos/validation", "raw_videos", "videos"),
            source="youcook2.eecs.umich.edu",
        ),
        _youcook2,
    ),
    Benchmark(
        "mvbench",
        "MVBench",
        DataLayout(
            annotations=("json",),
            videos=("video",),
            source="huggingface.co/datasets/OpenGVLab/MVBench",
        ),
        _choices(read_mvbench, MVBENCH),
    ),
    Benchmark(
        "videomme",
        "Video-MME",
        DataLayout(
            annotations=("videomme/test-00000-of-00001.parquet", "videomme.json"),
            videos=("data", "videos"),
            source="huggingface.co/datasets/lmms-lab/Video-MME",
        ),
        _choices(read_videomme, VIDEOMME),
    ),
)

BENCHMARKS = {benchmark.name: benchmark for benchmark in _ALL}
"""Benchmarks by name."""
