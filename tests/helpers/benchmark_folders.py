"""Small folders in the form of the published benchmarks, with videos of the toy world."""

import json
from pathlib import Path
from typing import Any

from vidground.training.evaluation.benchmarks.mvbench import FOLDERS

TOY_VIDEO = "videos/test_000000.mp4"
SHAPES = ["circle", "square"]


def events_of(toy: Path) -> tuple[list[list[float]], list[str]]:
    """Times and captions of the events in the toy set's first test video."""
    samples = json.loads((toy / "etbench" / "dvc.json").read_text())
    sample = next(sample for sample in samples if sample["video"] == TOY_VIDEO)
    return sample["tgt"], sample["g"]


def etbench(toy: Path, root: Path) -> Path:
    """E.T. Bench: merged and split annotations, videos by source."""
    (root / "annotations" / "evi").mkdir(parents=True)
    link(toy / TOY_VIDEO, root / "videos_compressed" / "toy" / "a.mp4")
    for file in (toy / "etbench").glob("*.json"):
        samples = [
            sample | {"video": "toy/a.mp4"}
            for sample in json.loads(file.read_text())
            if sample["video"] == TOY_VIDEO
        ]
        (root / "annotations" / "evi" / file.name).write_text(json.dumps(samples))
    return root


def etbench_vid(toy: Path, root: Path) -> Path:
    """E.T. Bench with its times as `<vid>` tokens, one number of `src` for each."""
    etbench(toy, root)
    (root / "annotations" / "evi").rename(root / "annotations" / "vid")
    for file in (root / "annotations" / "vid").glob("*.json"):
        text = file.read_text().replace("<evi>", "<vid> - <vid>")
        file.write_text(text)
    return root


def charades(toy: Path, root: Path) -> Path:
    """Charades-STA: a line for each query, videos by their ids."""
    link(toy / TOY_VIDEO, root / "Charades_v1" / "3MSZA.mp4")
    times, captions = events_of(toy)
    lines = [f"3MSZA {a} {b}##{text}." for (a, b), text in zip(times, captions, strict=True)]
    (root / "charades_sta_test.txt").write_text("\n".join(lines) + "\n")
    return root


def youcook2(toy: Path, root: Path) -> Path:
    """YouCook2: one JSON, videos by recipe and with the suffix that they came in."""
    link(toy / TOY_VIDEO, root / "raw_videos" / "validation" / "226" / "xHr8X2Wpmno.mkv")
    times, captions = events_of(toy)
    steps = [
        {"id": i, "segment": pair, "sentence": text}
        for i, (pair, text) in enumerate(zip(times, captions, strict=True))
    ]
    video = {"subset": "validation", "recipe_type": "226", "duration": 60, "annotations": steps}
    other = video | {"subset": "training"}
    write_json(
        root / "youcookii_annotations_trainval.json",
        {"database": {"xHr8X2Wpmno": video, "GLd3aX16zBg": other}},
    )
    return root


def mvbench(toy: Path, root: Path) -> Path:
    """MVBench: one JSON and one folder of videos per task."""
    for task, video in (("Action Sequence", "ZS9XR.mp4"), ("Moving Count", "video_1.mp4")):
        link(toy / TOY_VIDEO, root / "video" / FOLDERS[task] / video)
        item = {"video": video, "question": "What moves?", "candidates": SHAPES, "answer": "square"}
        name = task.lower().replace(" ", "_")
        write_json(root / "json" / f"{name}.json", [item, item | {"answer": "circle"}])
    return root


def videomme_rows() -> list[dict[str, Any]]:
    """Rows of Video-MME: one question on a short video and one on a long one."""
    row = {
        "video_id": "001",
        "duration": "short",
        "domain": "Knowledge",
        "sub_category": "Humanity & History",
        "url": "https://www.youtube.com/watch?v=fFjv93ACGo8",
        "videoID": "fFjv93ACGo8",
        "question_id": "001-1",
        "task_type": "Counting Problem",
        "question": "How many shapes are there?",
        "options": ["A. One.", "B. Two.", "C. Three.", "D. Four."],
        "answer": "C",
    }
    return [row, row | {"duration": "long", "question_id": "001-2", "answer": "A"}]


def videomme(toy: Path, root: Path) -> Path:
    """Video-MME: rows as JSON, videos by their ids."""
    link(toy / TOY_VIDEO, root / "data" / "fFjv93ACGo8.mp4")
    write_json(root / "videomme.json", videomme_rows())
    return root


def link(target: Path, place: Path) -> None:
    """Make a link, and the folders that it is in."""
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(target.resolve())


def write_json(path: Path, content: object) -> None:
    """Write a JSON file, and the folders that it is in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
