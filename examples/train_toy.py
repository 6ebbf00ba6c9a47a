"""Train the small model that comes with vidground: `python examples/train_toy.py FOLDER`.

About an hour and a half on two cores. From random weights, in steps that build on each other:
films, from short ones of one event to those of the benchmark; the vision part, on single frames
(the full model's comes trained too); SFT on longer and longer films.
What FOLDER holds already is not made again. FOLDER/toy is the result in float16.
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vidground import D2VLM
from vidground.training.frame_cache import PixelFrames
from vidground.training.run import run_training
from vidground.training.run_config import read_config
from vidground.training.tensor_cache import TensorCache
from vidground.training.toy_dataset import toy_film, write_dataset
from vidground.training.toy_model import make_toy_model
from vidground.training.toy_vision import SeenShapes, shapes_in, train_vision
from vidground.training.toy_world import ToySettings

FILMS = {
    "short": (2500, 11, ToySettings(min_duration_s=6, max_duration_s=10, max_events=1, fps=2)),
    "middle": (1875, 12, ToySettings(min_duration_s=15, max_duration_s=32, max_events=3, fps=2)),
    "long": (1000, 13, ToySettings(fps=2)),
}
"""Films of each set, its seed, and what they are like."""
SIZE = 64
VISION_STEPS = 1600
EVERYTHING = dict.fromkeys(("tvg", "tal", "dvc", "slc", "evs", "gvq", "rvc", "rvq"), 1)
CACHE_BYTES = 8 << 30


@dataclass(frozen=True)
class Stage:
    """A run of training: on which films, and with which values of the configuration.

    tasks: how often each sample of a task occurs.
    """

    films: str
    tasks: Mapping[str, int]
    values: Mapping[str, Any]


def _sft(steps: int, batch: int, rate: float, grounding: float, consistency: float) -> Any:
    return {
        "schedule.max_steps": steps,
        "schedule.batch_size": batch,
        "parameters.learning_rate": rate,
        "parameters.compressor_learning_rate": rate / 10,
        "loss.grounding_weight": grounding,
        "loss.consistency_weight": consistency,
    }


SFT = (
    Stage("short", {"dvc": 1, "tvg": 1}, _sft(600, 32, 2e-3, 0.3, 0.0)),
    Stage("middle", {"dvc": 1, "tvg": 1, "tal": 1}, _sft(1200, 16, 1.5e-3, 1.0, 0.1)),
    Stage("long", EVERYTHING, _sft(1200, 16, 1e-3, 3.0, 0.3)),
    Stage("middle", {"dvc": 4, "slc": 2, "tvg": 1}, _sft(1800, 16, 1.5e-3, 0.3, 0.0)),
    Stage("long", EVERYTHING | {"dvc": 4, "slc": 2}, _sft(350, 16, 6e-4, 1.0, 0.1)),
)
"""Captions first: what an event looks like is learnt while its time is easy to tell."""


def main() -> None:
    """Make what is missing, from the films to the model in 16 bit."""
    folder = Path(sys.argv[1])
    for name, (videos, seed, settings) in FILMS.items():
        write_dataset(folder / name, videos=videos, seed=seed, size=SIZE, settings=settings)
    model = folder / "seeing"
    if not model.exists():
        seeing = make_toy_model(seed=0)
        train_vision(seeing, *stills(folder), steps=VISION_STEPS, on_step=tell)
        seeing.save_pretrained(model)
    for number, stage in enumerate(SFT, start=1):
        model = run_sft(folder, f"sft-{number}", stage, model)
    D2VLM.from_pretrained(model, dtype=torch.float16).save_pretrained(folder / "toy")


def run_sft(folder: Path, name: str, stage: Stage, model: Path) -> Path:
    """Train a stage, or go on with it; the folder of the trained model."""
    films, out = folder / stage.films, folder / name
    if (out / "model.safetensors").exists():
        return out
    annotations = films / f"{name}.json"
    samples = json.loads((films / "sft.json").read_text())
    repeated = [s for s in samples for _ in range(stage.tasks.get(s["task"], 0))]
    annotations.write_text(json.dumps(repeated))
    values = {
        "model.init": None,
        "model.name": str(model),
        "data.annotations": [str(annotations)],
        "data.videos": str(films),
        "data.frames": "patches",
        "data.cache": str(folder / "patches"),
        "parameters.trained": "full-but-vision",
        "output.dir": str(out),
        **stage.values,
    }
    return run_training(read_config("sft", "toy-sft", values), resume=out.exists())


def stills(folder: Path) -> tuple[torch.Tensor, SeenShapes]:
    """Frames of all training films, one a second, and what is in them; few of the empty ones."""
    cache = TensorCache(folder / "frames", max_bytes=CACHE_BYTES)
    frames = PixelFrames(fps=1.0, image_size=SIZE, cache=cache)
    pixels, seen = [], []
    for name, (_, seed, settings) in FILMS.items():
        manifest = json.loads((folder / name / "manifest.json").read_text())
        for index, path in enumerate(manifest["splits"]["train"]):
            film = frames(folder / name / path)
            shapes = shapes_in(
                toy_film(seed, "train", index, settings=settings).video,
                np.arange(len(film), dtype=np.float64),
            )
            kept = (shapes.present.sum(1) > 0) | (torch.arange(len(film)) % 8 == 0)
            pixels.append(film[kept])
            seen.append(shapes[kept])
    joined = (torch.cat([getattr(s, name) for s in seen]) for name in ("present", "shape", "pose"))
    return torch.cat(pixels), SeenShapes(*joined)


def tell(step: int, losses: dict[str, float]) -> None:
    """Print every hundredth step of the vision part."""
    if step % 100 == 0:
        told = ", ".join(f"{name} {loss:.3f}" for name, loss in losses.items())
        print(f"vision {step}/{VISION_STEPS}: {told}", flush=True)


if __name__ == "__main__":
    main()
