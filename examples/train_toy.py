"""Train the small model that comes with vidground: `python examples/train_toy.py FOLDER`.

Training starts from random weights, in stages that build on each other. The first stages stand for
the pretraining of the full model's parts: the vision part is trained on single frames, the
language model on the movements of shapes. Then follow SFT on longer and longer films, SFT once more
on films with many events, and FPO. FOLDER/toy is the result, the mean of the last stages' weights,
in float16. Finished parts in FOLDER are kept, and an interrupted training is continued. In total it
takes 70 minutes on one core and 3 GB of disk. If the result replaces the bundled model, run
`python examples/make_self_test_numbers.py` for `vidground doctor`.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from vidground import D2VLM
from vidground.language.prompts import FRAMES, captioning_question
from vidground.training.config import ObjectiveName, read_config
from vidground.training.data.frame_sources import PixelFrames, TokenFrames
from vidground.training.data.perturbation import PerturbationSettings, preference_annotations
from vidground.training.data.tensor_cache import TensorCache
from vidground.training.run import run_training
from vidground.training.toy.captions import facts
from vidground.training.toy.dataset import toy_film, write_dataset
from vidground.training.toy.events import WatchedFilm, train_events, watched
from vidground.training.toy.model import make_toy_model
from vidground.training.toy.stills import SeenShapes, crowded_stills, shapes_in
from vidground.training.toy.vision import OnStep, train_compressor, train_encoder
from vidground.training.toy.world import ToySettings, ToyVideo
from vidground.video.preprocessing import normalize

FILMS = {
    "short": (2500, 11, ToySettings(min_duration_s=6, max_duration_s=10, max_events=1, fps=2)),
    "middle": (1875, 12, ToySettings(min_duration_s=15, max_duration_s=32, max_events=3, fps=2)),
    "long": (2500, 13, ToySettings(fps=2)),
}
"""Number of films of each set, its seed, and their settings."""
SHOWN = {"short": 2000, "middle": 1500, "long": 800}
"""Films of each set that the vision part is trained on."""
SIZE = 64
CROWDED_STILLS, CROWD_SEED = 16000, 5
ONE_IN = 6
"""One in this many frames trains the encoder, because neighbouring frames are alike."""
ENCODER_STEPS, COMPRESSOR_STEPS, EVENT_STEPS = 3000, 2000, 4000
MEMORY_RATE = 0.1
"""Learning rate of the evidence memory's layers, as a share of the others': they must keep what
they have learned of events while the rest learns to write answers."""
TASKS = ("tvg", "tal", "dvc", "slc", "evs", "gvq", "rvc", "rvq")
EVERYTHING = dict.fromkeys(TASKS, 1)
CACHE_BYTES = 16 << 30


@dataclass(frozen=True)
class Stage:
    """A training run.

    Attributes:
        films: the set of films.
        tasks: how often each sample of a task occurs; for FPO, each sample with a wrong answer.
        values: values of the configuration.
        objective: "sft" or "fpo".
    """

    films: str
    tasks: Mapping[str, int]
    values: Mapping[str, Any]
    objective: ObjectiveName = "sft"


def _schedule(steps: int, batch: int, rate: float) -> dict[str, Any]:
    return {
        "schedule.max_steps": steps,
        "schedule.batch_size": batch,
        "parameters.learning_rate": rate,
        "parameters.memory_learning_rate": MEMORY_RATE * rate,
    }


def _imitated(grounding: float, consistency: float) -> dict[str, float]:
    return {"grounding_weight": grounding, "consistency_weight": consistency}


STAGES = {
    "sft-1": Stage(
        "short", {"dvc": 1, "tvg": 1}, _schedule(200, 32, 1.5e-3) | {"loss": _imitated(0.3, 0.0)}
    ),
    "sft-2": Stage(
        "middle",
        {"dvc": 2, "slc": 1, "tvg": 1, "tal": 1},
        _schedule(500, 16, 1.5e-3) | {"loss": _imitated(1.0, 0.1)},
    ),
    "sft-3": Stage(
        "long",
        EVERYTHING | {"dvc": 3, "slc": 2, "tal": 2},
        _schedule(1600, 16, 1.2e-3) | {"loss": _imitated(2.0, 0.2)},
    ),
    "sft-4": Stage(
        "long",
        EVERYTHING | {"dvc": 8, "slc": 3},
        _schedule(700, 16, 8e-4) | {"loss": _imitated(2.0, 0.2)},
    ),
    "sft-5": Stage(
        "middle",
        {"dvc": 3, "slc": 1, "tvg": 1, "tal": 1},
        _schedule(300, 16, 5e-4) | {"loss": _imitated(2.0, 0.2)},
    ),
    "fpo": Stage(
        "long",
        {"dvc": 2, "slc": 1, "tvg": 2, "tal": 1},
        _schedule(100, 16, 1e-4) | {"loss": {"sft": _imitated(2.0, 0.2)}},
        objective="fpo",
    ),
}
"""In order; each starts from the model of the one before."""
AVERAGED = ("sft-3", "sft-4", "sft-5", "fpo")
"""The result is the mean of their weights, which answers better than each of them."""


def main() -> None:
    """Make the missing parts, from the films to the model in float16."""
    folder = Path(sys.argv[1])
    make_films(folder)
    model = pretrain(folder)
    for name, stage in STAGES.items():
        model = run_stage(folder, name, stage, model)
    averaged([folder / name for name in AVERAGED]).half().save_pretrained(folder / "toy")


def averaged(folders: Sequence[Path]) -> D2VLM:
    """Return a model with the mean weights of models that were trained from one another."""
    model, *others = (D2VLM.from_pretrained(folder, dtype=torch.float32) for folder in folders)
    states = [other.state_dict() for other in others]
    for name, weight in model.state_dict().items():
        weight.copy_(torch.stack([weight, *(state[name] for state in states)]).mean(0))
    return model


def make_films(folder: Path) -> None:
    """Make the training films that are missing."""
    for name, (videos, seed, settings) in FILMS.items():
        write_dataset(folder / name, videos=videos, seed=seed, size=SIZE, settings=settings)


def pretrain(folder: Path) -> Path:
    """Train the vision part and the event memory; return the folder of the model."""
    encoding, seeing, watching = (folder / name for name in ("encoding", "seeing", "watching"))
    if not (encoding / "model.safetensors").exists():
        model = make_toy_model(seed=0)
        on_step = report("encoder", ENCODER_STEPS)
        train_encoder(model, *stills(folder), steps=ENCODER_STEPS, on_step=on_step)
        model.save_pretrained(encoding)
    if not (seeing / "model.safetensors").exists():
        model = D2VLM.from_pretrained(encoding, dtype=torch.float32)
        patches, seen = seen_stills(folder, model)
        on_step = report("compressor", COMPRESSOR_STEPS)
        train_compressor(model, patches, seen, steps=COMPRESSOR_STEPS, on_step=on_step)
        model.save_pretrained(seeing)
    if not (watching / "model.safetensors").exists():
        model = D2VLM.from_pretrained(seeing, dtype=torch.float32)
        on_step = report("events", EVENT_STEPS)
        train_events(model, watched_films(folder, model), steps=EVENT_STEPS, on_step=on_step)
        model.save_pretrained(watching)
    return watching


def run_stage(folder: Path, name: str, stage: Stage, model: Path) -> Path:
    """Train a stage, or continue it; return the folder of the trained model."""
    films, out = folder / stage.films, folder / name
    if (out / "config.json").exists():  # written last
        return out
    annotations = films / f"{name}.json"
    if not annotations.exists():
        samples = json.loads((films / "sft.json").read_text())
        if stage.objective == "fpo":
            samples = list(preference_annotations(samples, PerturbationSettings()))
        samples = [s for s in samples for _ in range(stage.tasks.get(s["task"], 0))]
        annotations.write_text(json.dumps(samples))
    values = {
        "model.init": None,
        "model.name": str(model),
        "data.annotations": [str(annotations)],
        "data.videos": str(films),
        "data.frames": "tokens",
        "data.cache": str(folder / "cache"),
        "data.cache_gib": CACHE_BYTES / (1 << 30),
        "parameters.trained": "language",
        "output.dir": str(out),
        **stage.values,
    }
    config = read_config(stage.objective, f"toy-{stage.objective}", values)
    return run_training(config, resume=out.exists())


def stills(folder: Path) -> tuple[torch.Tensor, SeenShapes]:
    """Return crowded stills and a share of the films' frames, few of them empty."""
    frames = PixelFrames(fps=1.0, image_size=SIZE)
    pixels, seen = [], []
    for video, path in training_films(folder, SHOWN):
        film = frames(path)
        shapes = shapes_in(video, np.arange(len(film), dtype=np.float64))
        kept = (shapes.present.sum(1) > 0) | (torch.arange(len(film)) % 8 == 0)
        pixels.append(film[kept])
        seen.append(shapes[kept])
    some = torch.arange(0, sum(map(len, pixels)), ONE_IN)
    crowd, crowded = crowded_stills(CROWDED_STILLS, seed=CROWD_SEED, size=SIZE)
    shown = SeenShapes.joined((crowded, SeenShapes.joined(seen)[some]))
    return torch.cat((crowd, torch.cat(pixels)[some])), shown


@torch.inference_mode()
def seen_stills(folder: Path, model: D2VLM) -> tuple[torch.Tensor, SeenShapes]:
    """Return the encoder's features of the same frames, in float16."""
    pixels, seen = stills(folder)
    patches = [
        model.encode_frames(normalize(chunk, dtype=torch.float32, device=chunk.device)).half()
        for chunk in pixels.split(256)
    ]
    return torch.cat(patches).clone(), seen


def watched_films(folder: Path, model: D2VLM) -> list[list[WatchedFilm]]:
    """Return the films of each set as frame tokens of the trained vision part.

    Each film occurs with the question to describe it, and with every query for it.
    """
    assert model.tokenizers is not None
    model.requires_grad_(False)
    cache = TensorCache(folder / "cache", max_bytes=CACHE_BYTES)
    frames = TokenFrames(model, fps=1.0, cache=cache)
    question_ids = model.tokenizers.question_ids
    searched = searches(folder)
    described: dict[Path, list[WatchedFilm]] = {}
    asked: dict[Path, list[WatchedFilm]] = {}
    for film, path in training_films(folder):
        tokens = frames(path, question_ids(captioning_question()))
        described.setdefault(path.parent, []).append(watched(film, tokens))
        for question in searched[path]:
            tokens = frames(path, question_ids(question))
            named = watched(film, tokens, facts(question))
            asked.setdefault(path.parent, []).append(named)
    model.requires_grad_(True)
    return [*described.values(), *asked.values()]


def searches(folder: Path) -> dict[Path, list[str]]:
    """Return the queries for each film, for events that occur and for others."""
    found: dict[Path, list[str]] = {}
    for name in FILMS:
        for sample in json.loads((folder / name / "sft.json").read_text()):
            if sample["task"] in ("tvg", "tal"):
                question = sample["conversations"][0]["value"].removeprefix(f"{FRAMES}\n")
                found.setdefault(folder / name / sample["video"], []).append(question)
    return found


def training_films(
    folder: Path, limits: Mapping[str, int] = MappingProxyType({})
) -> Iterator[tuple[ToyVideo, Path]]:
    """Yield the events of each training film and its file; `limits` takes a set's first films."""
    for name, (_, seed, settings) in FILMS.items():
        manifest = json.loads((folder / name / "manifest.json").read_text())
        for index, path in enumerate(manifest["splits"]["train"][: limits.get(name)]):
            yield toy_film(seed, "train", index, settings=settings).video, folder / name / path


def report(what: str, steps: int) -> OnStep:
    """Return a callback that prints the mean losses of every hundred steps."""
    sums: dict[str, float] = {}

    def on_step(step: int, losses: dict[str, float]) -> None:
        for name, loss in losses.items():
            sums[name] = sums.get(name, 0.0) + loss / 100
        if step % 100 == 0:
            means = ", ".join(f"{name} {loss:.3f}" for name, loss in sums.items())
            print(f"{what} {step}/{steps}: {means}", flush=True)
            sums.clear()

    return on_step


if __name__ == "__main__":
    main()
