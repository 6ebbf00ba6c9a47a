"""Train the small model that comes with vidground: `python examples/train_toy.py FOLDER`.

Half an hour to an hour on two cores: 800 films of 16 to 32 s, then SFT from random weights, twice
with a warm start. FOLDER/toy is the result in float16.
"""

import json
import sys
from pathlib import Path

import torch

from vidground import D2VLM
from vidground.training.run import run_training
from vidground.training.run_config import read_config
from vidground.training.toy_dataset import write_dataset
from vidground.training.toy_model import make_toy_model, toy_config
from vidground.training.toy_world import ToySettings

TASKS = ("tvg", "tal", "dvc")
SETTINGS = ToySettings(min_duration_s=16, max_duration_s=32, max_events=3)
RUNS = ((700, 42), (650, 43))  # steps and seed


def main() -> None:
    """Make data and a model with random weights, train it, and save it in 16 bit."""
    folder = Path(sys.argv[1])
    data = folder / "data"
    write_dataset(data, videos=800, seed=1, size=64, settings=SETTINGS)
    samples = json.loads((data / "sft.json").read_text())
    annotations = data / "core.json"
    annotations.write_text(json.dumps([s for s in samples if s["task"] in TASKS]))
    sizes = toy_config(
        image_size=56, patch_size=8, vision_layers=2, vision_width=96, text_width=128
    )
    model = folder / "random"
    make_toy_model(sizes, seed=0).save_pretrained(model)
    for number, (steps, seed) in enumerate(RUNS, start=1):
        values = {
            "model.init": None,
            "model.name": str(model),
            "data.annotations": [str(annotations)],
            "data.videos": str(data),
            "data.cache": str(folder / "frames"),
            "schedule.max_steps": steps,
            "schedule.seed": seed,
            "output.dir": str(folder / f"run-{number}"),
        }
        model = run_training(read_config("sft", "toy-sft", values))
    D2VLM.from_pretrained(model, dtype=torch.float16).save_pretrained(folder / "toy")


if __name__ == "__main__":
    main()
