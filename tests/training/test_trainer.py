import copy
import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import TrainerCallback

from tests.helpers.paths import ROOT
from tests.helpers.training_runs import (
    FULL,
    RELEASED,
    Samples,
    SignalAt,
    StopAfter,
    log_of,
    make_trainer,
    random_samples,
    tiny_model,
)
from vidground.errors import InputError
from vidground.training.checkpoints import TRAINED, checkpoints, usable_checkpoint
from vidground.training.data.collation import Collator, Sample
from vidground.training.failures import TrainingError, run_failures
from vidground.training.objectives.fpo import fpo_losses, reference_log_probs
from vidground.training.objectives.objective import FpoObjective, SftObjective
from vidground.training.objectives.settings import FpoSettings, SftSettings
from vidground.training.objectives.sft import sft_losses
from vidground.training.parameters import prepare_parameters
from vidground.training.tracking.held_out import BestCheckpoint, EarlyStop, HeldOutLosses

PARTS = ("loss", "cross_entropy", "grounding", "consistency")


def values(model: torch.nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def assert_same_curves(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    assert [line["step"] for line in found] == [line["step"] for line in expected]
    for one, other in zip(found, expected, strict=True):
        skipped = {"epoch", "step"}
        numbers = {k: v for k, v in one.items() if k not in skipped}
        assert numbers == pytest.approx(
            {k: v for k, v in other.items() if k not in skipped}, rel=1e-4, abs=1e-6
        )


@pytest.mark.parametrize("kind", ["sft", "fpo"])
def test_accumulated_parts_are_the_whole_batch(kind: str, tmp_path: Path) -> None:
    whole = make_trainer(tmp_path / "whole", kind=kind, batch=4, steps=3, save_strategy="no")
    parts = make_trainer(
        tmp_path / "parts",
        kind=kind,
        batch=1,
        steps=3,
        save_strategy="no",
        gradient_accumulation_steps=4,
    )
    whole.train()
    parts.train()
    curve = log_of(tmp_path / "whole")
    assert len(curve) == 3
    assert_same_curves(log_of(tmp_path / "parts"), curve)
    assert set(PARTS) < set(curve[0])


def test_the_logged_loss_is_the_one_of_the_objective(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, batch=12, steps=1, save_strategy="no")
    model = tiny_model()
    batch = Collator.of(trainer.objective.config, SftSettings())(random_samples(model, 12).samples)
    expected = sft_losses(model, batch, SftSettings())
    trainer.train()
    (line,) = log_of(tmp_path)
    assert line["loss"] == pytest.approx(expected.total(SftSettings()).item(), rel=1e-5)
    assert line["cross_entropy"] == pytest.approx(
        expected.cross_entropy.sum().item() / expected.counts.tokens, rel=1e-5
    )
    total = line["cross_entropy"] + 10 * line["grounding"] + 10 * line["consistency"]
    assert line["loss"] == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize(
    ("kind", "parameters"), [("sft", FULL), ("fpo", RELEASED)], ids=["sft-full", "fpo-released"]
)
def test_a_resumed_run_ends_where_it_would_have(kind: str, parameters: Any, tmp_path: Path) -> None:
    options = {"kind": kind, "parameters": parameters, "eval_strategy": "steps", "eval_steps": 2}
    whole = make_trainer(tmp_path / "whole", **options)
    whole.train()
    first = make_trainer(tmp_path / "parts", **options, callbacks=(StopAfter(4),))
    first.train()  # killed a step after its checkpoint
    second = make_trainer(tmp_path / "parts", **options)
    second.train(resume_from_checkpoint=str(tmp_path / "parts" / "checkpoint-3"))
    expected = values(whole.objective)
    for name, parameter in second.objective.named_parameters():
        assert torch.equal(parameter, expected[name]), name
    assert log_of(tmp_path / "parts") == log_of(tmp_path / "whole")


@pytest.mark.usefixtures("signals_arrive")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_after_the_step_and_the_run_can_be_resumed(
    number: int, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"parameters": RELEASED, "save_steps": 100}
    whole = make_trainer(tmp_path / "whole", **options)
    whole.train()
    first = make_trainer(tmp_path / "parts", **options, callbacks=(SignalAt(2, number),))
    first.train()
    assert (first.was_stopped, first.is_finished, first.state.global_step) == (True, False, 2)
    checkpoint = usable_checkpoint(tmp_path / "parts")
    assert checkpoint == tmp_path / "parts" / "checkpoint-2"
    second = make_trainer(tmp_path / "parts", **options)
    second.train(resume_from_checkpoint=str(checkpoint))
    assert (second.was_stopped, second.is_finished) == (False, True)
    assert first.train_dataset.read + second.train_dataset.read == whole.train_dataset.read
    expected = values(whole.objective)
    for name, parameter in second.objective.named_parameters():
        assert torch.equal(parameter, expected[name]), name
    assert log_of(tmp_path / "parts") == log_of(tmp_path / "whole")


def test_a_signal_in_the_last_step_does_not_stop_a_finished_run(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, steps=2, callbacks=(SignalAt(2),))
    trainer.train()
    assert (trainer.was_stopped, trainer.is_finished) == (False, True)


@pytest.mark.parametrize(
    ("batch", "accumulation"), [(1, 4), (2, 2), (3, 1), (5, 1), (1, 1)], ids=str
)
def test_a_run_resumed_with_other_batches_reads_every_sample_once(
    batch: int, accumulation: int, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"steps": -1, "num_train_epochs": 2, "save_steps": 2}
    whole = make_trainer(tmp_path / "whole", batch=4, **options)
    whole.train()
    first = make_trainer(tmp_path / "parts", batch=4, **options, callbacks=(StopAfter(3),))
    first.train()  # killed a step after its checkpoint
    second = make_trainer(
        tmp_path / "parts", batch=batch, gradient_accumulation_steps=accumulation, **options
    )
    second.train(resume_from_checkpoint=str(tmp_path / "parts" / "checkpoint-2"))
    assert first.train_dataset.read[:8] + second.train_dataset.read == whole.train_dataset.read
    assert len(whole.train_dataset.read) == 24
    left = math.ceil(16 / (batch * accumulation))
    assert second.state.global_step == 2 + left
    last = log_of(tmp_path / "parts")[-1]
    assert last["epoch"] == 2
    if batch * accumulation == 4:  # the same steps, in other parts: equal but for rounding
        expected = values(whole.objective)
        for name, parameter in second.objective.named_parameters():
            torch.testing.assert_close(parameter, expected[name], rtol=1e-3, atol=1e-4)


def test_the_learning_rate_continues_when_the_batch_size_changes(tmp_path: Path) -> None:
    options: dict[str, Any] = {"steps": -1, "num_train_epochs": 2, "save_steps": 3}
    make_trainer(tmp_path, batch=4, **options, callbacks=(StopAfter(3),)).train()
    second = make_trainer(tmp_path, batch=2, **options)
    second.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    rates = [line["learning_rate"] for line in log_of(tmp_path)]
    read = [0, 4, 8, 12, 14, 16, 18, 20, 22]  # samples before each step, of 24
    expected = [1e-3 * (1 + math.cos(math.pi * samples / 24)) / 2 for samples in read]
    assert rates == pytest.approx(expected)


def test_edited_annotations_are_refused_on_resuming(tmp_path: Path) -> None:
    make_trainer(tmp_path, files={"a.json": "1"}, steps=3).train()
    changed = make_trainer(tmp_path, files={"a.json": "2"}, steps=6)
    with pytest.raises(InputError, match=r"a\.json has changed since the run began"):
        changed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))


class SaveAt(TrainerCallback):
    """Saves at some steps, as signals do."""

    def __init__(self, *steps: int) -> None:
        self.steps = steps

    def on_step_end(self, _args: Any, state: Any, control: Any, **_kwargs: Any) -> None:
        if state.global_step in self.steps:
            control.should_save = True


class FirstLosses(TrainerCallback):
    """Replaces the held-out losses by given ones, before other callbacks see them."""

    def __init__(self, losses: dict[int, float]) -> None:
        self.losses = losses

    def on_evaluate(self, _args: Any, state: Any, _control: Any, **_kwargs: Any) -> None:
        state.log_history[-1]["eval_loss"] = self.losses[state.global_step]


@pytest.mark.parametrize("strategy", ["steps", "no"])
def test_the_best_checkpoint_stays(strategy: str, tmp_path: Path) -> None:
    losses = {1: 3.0, 2: 1.0, 3: 2.0, 4: 1.5, 5: 1.0, 6: 4.0}
    options: dict[str, Any] = {
        "eval_strategy": "steps",
        "eval_steps": 1,
        "save_strategy": strategy,
        "save_steps": 2,
        "save_total_limit": 2,
    }
    callbacks = (FirstLosses(losses), SaveAt(4, 6), BestCheckpoint(tmp_path))
    trainer = make_trainer(tmp_path, callbacks=callbacks, **options)
    trainer.train()
    assert HeldOutLosses.of(trainer.state) == HeldOutLosses(1.0, 2, 4)
    assert [path.name for path in checkpoints(tmp_path)] == ["checkpoint-2", "checkpoint-6"]
    final = values(trainer.objective.d2vlm)["lm_head.weight"]
    trainer.load_model(tmp_path / "checkpoint-2")
    assert not torch.equal(trainer.objective.d2vlm.lm_head.weight, final)


def test_training_stops_when_the_held_out_loss_does_not_improve(tmp_path: Path) -> None:
    losses = dict(zip(range(1, 7), (3.0, 1.0, 2.0, 1.5, 1.2, 0.5), strict=True))
    options: dict[str, Any] = {"eval_strategy": "steps", "eval_steps": 1, "save_steps": 100}
    callbacks = (FirstLosses(losses), EarlyStop(2))
    trainer = make_trainer(tmp_path, callbacks=callbacks, **options)
    trainer.train()
    assert (trainer.state.global_step, trainer.is_finished) == (4, True)
    # Resumed, it stays stopped.
    again = make_trainer(tmp_path, callbacks=callbacks, **options)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    assert (again.state.global_step, again.train_dataset.read, again.is_finished) == (4, [], True)


def test_a_longer_schedule_holds_from_the_first_step_on(tmp_path: Path) -> None:
    make_trainer(tmp_path / "short", steps=3, parameters=RELEASED).train()
    longer = make_trainer(tmp_path / "short", steps=6, parameters=RELEASED)
    longer.train(resume_from_checkpoint=str(tmp_path / "short" / "checkpoint-3"))
    rates = [line["learning_rate"] for line in log_of(tmp_path / "short")][3:]
    expected = [1e-3 * (1 + math.cos(math.pi * step / 6)) / 2 for step in (3, 4, 5)]
    assert rates == pytest.approx(expected)
    stored = load_file(tmp_path / "short" / "checkpoint-3" / TRAINED)
    one_more = make_trainer(
        tmp_path / "short", steps=6, parameters=RELEASED, callbacks=(StopAfter(4),)
    )
    one_more.train(resume_from_checkpoint=str(tmp_path / "short" / "checkpoint-3"))
    assert not torch.equal(one_more.objective.d2vlm.lm_head.weight, stored["lm_head.weight"])


def test_a_step_moves_what_learns_and_nothing_else(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, parameters=RELEASED, steps=2, save_strategy="no")
    before = values(trainer.objective.d2vlm)
    trainer.train()
    after = values(trainer.objective.d2vlm)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == set(trainer.objective.trained)
    assert any("lora_A" in name for name in moved)
    assert not any(name.startswith("vision.") for name in moved)


def test_adapters_have_their_own_rate(tmp_path: Path) -> None:
    make_trainer(tmp_path, parameters=RELEASED, steps=2, save_strategy="no").train()
    for line in log_of(tmp_path):
        assert line["lora_learning_rate"] == pytest.approx(2 * line["learning_rate"])


def test_a_frozen_vision_encoder_stays_in_evaluation_mode() -> None:
    model = tiny_model()
    prepare_parameters(model, RELEASED)
    objective = SftObjective(model, SftSettings()).train()
    assert not any(module.training for module in model.vision.modules())
    assert model.language_model.training
    learning = tiny_model()
    prepare_parameters(learning, FULL)
    assert SftObjective(learning, SftSettings()).train().d2vlm.vision.training
    assert objective.trained


def test_recomputing_states_changes_nothing(tmp_path: Path) -> None:
    plain = make_trainer(tmp_path / "plain", steps=2, save_strategy="no")
    saving = make_trainer(tmp_path / "saving", steps=2, save_strategy="no")
    saving.objective.enable_gradient_checkpointing()
    assert saving.objective.d2vlm.language_model.layers[0].gradient_checkpointing
    plain.train()
    saving.train()
    assert_same_curves(log_of(tmp_path / "saving"), log_of(tmp_path / "plain"))


def test_held_out_means_run_over_all_samples(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, kind="fpo", per_device_eval_batch_size=2)
    model, settings = tiny_model(), FpoSettings()
    samples = random_samples(model, 5, "fpo").samples
    batch = Collator.of(trainer.objective.config, SftSettings())(samples)
    expected = fpo_losses(model.eval(), batch, settings)
    found = trainer.evaluate()
    assert found["eval_loss"] == pytest.approx(expected.total(settings).item(), rel=1e-5)
    objective = FpoObjective(model, settings)
    means = objective.means(objective(batch)["parts"].double().sum(0))
    for name in ("text_margin", "text_accuracy", "grounding_margin", "grounding_accuracy"):
        assert found[f"eval_{name}"] == pytest.approx(means[name], rel=1e-4, abs=1e-6), name


def test_a_loss_that_is_not_finite_ends_the_run(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, save_strategy="no")
    with torch.no_grad():
        trainer.objective.d2vlm.lm_head.weight[0] = float("nan")
    with pytest.raises(TrainingError, match=r"the loss is nan near step 1; resume from"):
        trainer.train()


def test_the_reference_is_the_model_at_the_start(tmp_path: Path) -> None:
    start = tiny_model().eval()
    trainer = make_trainer(tmp_path, kind="fpo", parameters=RELEASED, reference=True, steps=3)
    objective = trainer.objective
    assert isinstance(objective, FpoObjective)
    (reference,) = objective._reference
    weights = dict(objective.d2vlm.named_parameters())
    assert reference.vision.layers[0].mlp.fc1.weight is weights["vision.layers.0.mlp.fc1.weight"]
    trainer.train()
    line = log_of(tmp_path)[0]
    assert line["text_margin"] == pytest.approx(0, abs=1e-4)
    assert line["preference"] == pytest.approx(0.6931472, abs=1e-4)

    batch = Collator.of(objective.config, SftSettings())(random_samples(start, 4, "fpo").samples)
    objective.eval()
    expected = fpo_losses(
        objective.d2vlm,
        batch,
        FpoSettings(),
        reference=reference_log_probs(start, batch, FpoSettings()),
    )
    assert float(objective(batch)["loss"].detach()) == pytest.approx(
        float(expected.total(FpoSettings()).detach()), rel=1e-5
    )
    assert not set(copy.deepcopy(objective.state_dict())) - {f"d2vlm.{n}" for n in weights}


def test_a_checkpoint_holds_what_learns_in_32_bit(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, parameters=RELEASED, steps=3)
    trainer.train()
    stored = load_file(tmp_path / "checkpoint-3" / TRAINED)
    current = values(trainer.objective.d2vlm)
    assert set(stored) == set(trainer.objective.trained)
    assert all(torch.equal(stored[name], current[name]) for name in stored)


class Deadly(Samples):
    """Kills the process that reads it, as the system does when memory runs out."""

    def __getitem__(self, index: int) -> Sample:
        os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(index)


def test_a_killed_data_worker_ends_the_run_in_a_line(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, dataloader_num_workers=1)
    trainer.train_dataset = Deadly(trainer.train_dataset.samples)
    with pytest.raises(TrainingError) as caught, run_failures(tmp_path):
        trainer.train()
    assert "\n" not in str(caught.value)
    assert "a process that reads videos ended unexpectedly (" in str(caught.value)


def run_two_processes(*arguments: str) -> None:
    script = ROOT / "tests/helpers/training_runs.py"
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    ended = subprocess.run(
        [*command, "--master-port", "0", "--standalone", str(script), *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]


def test_two_processes_are_one_with_twice_the_batches(tmp_path: Path) -> None:
    run_two_processes(str(tmp_path / "two"))
    make_trainer(
        tmp_path / "one", batch=2, steps=3, save_strategy="no", gradient_accumulation_steps=2
    ).train()
    curve = log_of(tmp_path / "one")
    assert len(curve) == 3
    assert_same_curves(log_of(tmp_path / "two"), curve)


def test_a_run_of_two_processes_is_resumed_by_one(tmp_path: Path) -> None:
    options: dict[str, Any] = {"steps": -1, "num_train_epochs": 2, "save_strategy": "no"}
    whole = make_trainer(tmp_path / "whole", batch=4, **options)
    whole.train()
    run_two_processes(str(tmp_path / "parts"), "--stopped")
    checkpoint = usable_checkpoint(tmp_path / "parts")
    assert checkpoint is not None
    step = int(checkpoint.name.removeprefix("checkpoint-"))
    assert step in (2, 3)  # both stop after the same step, the one that the signal came in or next
    read = [json.loads((tmp_path / "parts" / f"read-{rank}.json").read_text()) for rank in (0, 1)]
    order = whole.train_dataset.read
    assert sorted(read[0] + read[1]) == sorted(order[: 4 * step])
    second = make_trainer(tmp_path / "parts", batch=4, **options)
    second.train(resume_from_checkpoint=str(checkpoint))
    assert second.train_dataset.read == order[4 * step :]
    assert_same_curves(log_of(tmp_path / "parts"), log_of(tmp_path / "whole"))
