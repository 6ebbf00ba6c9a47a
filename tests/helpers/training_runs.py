"""Short training runs of a tiny model on random samples, for tests; a script for several processes.

torchrun --nproc-per-node 2 training_runs.py OUTPUT_DIR [--stopped]
"""

import json
import os
import random
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from vidground.model.d2vlm import D2VLM
from vidground.settings import TimeTokens
from vidground.training.data.collation import Collator, Sample
from vidground.training.data.samples import PreferenceSample, Response, SftSample, TrainingPrompt
from vidground.training.logs import LOG, JsonLog
from vidground.training.objectives.objective import FpoObjective, SftObjective
from vidground.training.objectives.settings import (
    FpoSettings,
    LoraSettings,
    ParameterSettings,
    SftSettings,
)
from vidground.training.parameters import prepare_parameters
from vidground.training.run import leave_group
from vidground.training.saving import MergedWriter
from vidground.training.toy.model import make_toy_model, toy_config
from vidground.training.trainer import ObjectiveTrainer

IMAGE_SIZE = 20
FULL = ParameterSettings(trained="full", learning_rate=1e-3)
RELEASED = ParameterSettings(
    lora=LoraSettings(rank=4, alpha=8), learning_rate=1e-3, lora_learning_rate=2e-3
)


class Samples(Dataset[Sample]):
    """Samples in memory. read: the indices that were read, in order."""

    def __init__(self, samples: list[Any]) -> None:
        self.samples = samples
        self.read: list[int] = []

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        self.read.append(index)
        sample: Sample = self.samples[index]
        return sample


class StopAfter(TrainerCallback):
    """Ends training after some steps without a checkpoint, as a kill does."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(
        self,
        args: TrainingArguments,  # noqa: ARG002 - transformers' signature
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,  # noqa: ARG002 - as above
    ) -> None:
        control.should_training_stop = state.global_step >= self.step


class SignalAt(TrainerCallback):
    """Sends a signal to this process in the middle of a step."""

    def __init__(self, step: int, number: int = signal.SIGTERM) -> None:
        self.step = step
        self.number = number

    def on_pre_optimizer_step(
        self,
        args: TrainingArguments,  # noqa: ARG002 - transformers' signature
        state: TrainerState,
        control: TrainerControl,  # noqa: ARG002 - as above
        **kwargs: Any,  # noqa: ARG002 - as above
    ) -> None:
        if state.global_step + 1 == self.step:
            os.kill(os.getpid(), self.number)


def tiny_model(seed: int = 0, *, time_tokens: TimeTokens = "evidence") -> D2VLM:
    sizes = {"image_size": IMAGE_SIZE, "patch_size": 10, "vision_layers": 1, "vision_width": 32}
    config = toy_config(**sizes, text_layers=4, text_width=32, time_tokens=time_tokens)
    return make_toy_model(config, seed=seed)


def random_samples(model: D2VLM, count: int, kind: str = "sft") -> Samples:
    """Samples of unequal lengths; a third of them without intervals."""
    assert model.tokenizers is not None
    ids = model.tokenizers.ids

    def response(draw: random.Random, frames: int) -> Response:
        spans = [tuple(sorted(draw.choices(range(frames), k=2))) for _ in range(draw.randint(0, 2))]
        tokens = [ids.evidence] * len(spans) + [ids.evidence_end]
        for _ in spans:
            tokens += [*draw.choices(range(300, 340), k=draw.randint(1, 4)), ids.evidence]
        return Response([*tokens, *draw.choices(range(300, 340), k=2), ids.turn_end], spans)

    def sample(index: int) -> Sample:
        draw, generator = random.Random(index), torch.Generator().manual_seed(index)
        shape = (draw.randint(2, 6), 3, IMAGE_SIZE, IMAGE_SIZE)
        frames = torch.randint(256, shape, generator=generator, dtype=torch.uint8)
        prompt = TrainingPrompt([300, 301], [302, 303], [5, 6, 7], frames)
        chosen = response(draw, shape[0])
        if kind == "sft":
            return SftSample(prompt, chosen)
        return PreferenceSample(prompt, chosen, response(draw, shape[0]))

    return Samples([sample(index) for index in range(count)])


def make_trainer(
    folder: Path,
    *,
    kind: str = "sft",
    parameters: ParameterSettings = FULL,
    batch: int = 2,
    steps: int = 6,
    reference: bool = False,
    files: dict[str, str] | None = None,
    callbacks: tuple[TrainerCallback, ...] = (),
    **arguments: Any,
) -> ObjectiveTrainer:
    torch.manual_seed(0)
    model = tiny_model()
    prepare_parameters(model, parameters)
    objective = (
        SftObjective(model, SftSettings())
        if kind == "sft"
        else FpoObjective(model, FpoSettings(), reference=reference)
    )
    options = {
        "logging_steps": 1,
        "save_steps": 3,
        "logging_nan_inf_filter": False,
        "ddp_find_unused_parameters": False,
        **arguments,
    }
    return ObjectiveTrainer(
        objective,
        TrainingArguments(
            output_dir=str(folder),
            max_steps=steps,
            per_device_train_batch_size=batch,
            lr_scheduler_type="cosine",
            learning_rate=parameters.learning_rate,
            report_to=[],
            disable_tqdm=True,
            remove_unused_columns=False,
            dataloader_pin_memory=False,
            use_cpu=True,
            **options,
        ),
        parameters,
        writer=MergedWriter(objective.config, model.tokenizers, torch.float32, parameters.lora),
        collator=Collator.of(objective.config, SftSettings()),
        train_data=random_samples(model, 12, kind),
        eval_data=random_samples(model, 5, kind),
        files=files,
        callbacks=[*callbacks, JsonLog(folder)],
    )


def log_of(folder: Path) -> list[dict[str, Any]]:
    """The lines of training steps, without times."""
    lines = map(json.loads, (folder / LOG).read_text().splitlines())
    return [line for line in lines if "loss" in line]


def main() -> None:
    torch.set_num_threads(1)
    folder, rank = Path(sys.argv[1]), os.environ["RANK"]
    if "--stopped" in sys.argv:
        # One process of both gets a signal, in its second step.
        signals = (SignalAt(2),) if rank == "1" else ()
        options = {"steps": -1, "num_train_epochs": 2, "save_steps": 100}
        trainer = make_trainer(folder, batch=2, callbacks=signals, **options)
        trainer.train()
        assert trainer.was_stopped
        (folder / f"read-{rank}.json").write_text(json.dumps(trainer.train_dataset.read))
    else:
        make_trainer(folder, batch=2, steps=3, save_strategy="no").train()
    leave_group()


if __name__ == "__main__":
    main()
