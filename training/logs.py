"""What a training run tells while it runs: JSON lines, TensorBoard's files, a bar.

Knows nothing of what is trained.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tqdm import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from vidground.storage.atomic import write_atomically

LOG = "log.jsonl"
_SHOWN = ("loss", "learning_rate")


class RunListener(TrainerCallback):  # type: ignore[misc]  # transformers carries no types
    """Is told of a run in its first process. `step` counts optimizer steps done."""

    def begin(self, step: int, max_steps: int) -> None:
        """Training begins, or goes on, after `step`."""

    def stepped(self, step: int) -> None:
        """One step more is done."""

    def numbers(self, step: int, numbers: dict[str, float]) -> None:
        """What was measured since the last time, or of held-out samples (`eval_…`)."""

    def end(self) -> None:
        """Training is over."""

    # transformers' events. All arguments are theirs, needed here or not (ARG002).
    def on_train_begin(
        self,
        args: TrainingArguments,  # noqa: ARG002
        state: TrainerState,
        control: TrainerControl,  # noqa: ARG002
        **kwargs: Any,  # noqa: ARG002
    ) -> None:
        """See `begin`."""
        if state.is_world_process_zero:
            self.begin(state.global_step, state.max_steps)

    def on_step_end(
        self,
        args: TrainingArguments,  # noqa: ARG002
        state: TrainerState,
        control: TrainerControl,  # noqa: ARG002
        **kwargs: Any,  # noqa: ARG002
    ) -> None:
        """See `stepped`."""
        if state.is_world_process_zero:
            self.stepped(state.global_step)

    def on_log(
        self,
        args: TrainingArguments,  # noqa: ARG002
        state: TrainerState,
        control: TrainerControl,  # noqa: ARG002
        **kwargs: Any,
    ) -> None:
        """See `numbers`."""
        if state.is_world_process_zero and kwargs.get("logs"):
            self.numbers(state.global_step, dict(kwargs["logs"]))

    def on_train_end(
        self,
        args: TrainingArguments,  # noqa: ARG002
        state: TrainerState,
        control: TrainerControl,  # noqa: ARG002
        **kwargs: Any,  # noqa: ARG002
    ) -> None:
        """See `end`."""
        if state.is_world_process_zero:
            self.end()


class JsonLog(RunListener):
    """Writes every logged step as a line to `log.jsonl` in the run's folder.

    A run that goes on from a checkpoint replaces the lines of the steps it does again.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / LOG

    def begin(self, step: int, max_steps: int) -> None:  # noqa: ARG002 - the listener's signature
        """Keep the lines up to the step that training goes on from."""
        if self._path.exists():
            lines = self._path.read_text(encoding="utf-8").splitlines(keepends=True)
            write_atomically(self._path, "".join(line for line in lines if _is_done(line, step)))

    def numbers(self, step: int, numbers: dict[str, float]) -> None:
        """Append a line."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **numbers}) + "\n")


class TensorBoardLog(RunListener):
    """Writes the numbers of every logged step for TensorBoard.

    A run that goes on from a checkpoint hides what it does again.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: Any = None

    def begin(self, step: int, max_steps: int) -> None:  # noqa: ARG002 - the listener's signature
        """Open a file."""
        # Here, because it is slow to import and needed only where it is asked for.
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(self._folder), purge_step=step + 1)

    def numbers(self, step: int, numbers: dict[str, float]) -> None:
        """Add the numbers, those of held-out samples under eval/ and the others under train/."""
        for name, value in numbers.items():
            held_out = name.startswith("eval_")
            tag = f"eval/{name.removeprefix('eval_')}" if held_out else f"train/{name}"
            self._writer.add_scalar(tag, value, step)
        self._writer.flush()

    def end(self) -> None:
        """Close the file."""
        self._writer.close()


class StepBar(RunListener):
    """A bar over optimizer steps on standard error, if that is a terminal."""

    def __init__(self) -> None:
        self._bar: Any = None

    def begin(self, step: int, max_steps: int) -> None:
        """Show the bar at the step that training begins with."""
        self._bar = tqdm(
            total=max_steps,
            initial=step,
            unit="step",
            file=sys.stderr,
            disable=None,
            dynamic_ncols=True,
        )

    def stepped(self, step: int) -> None:
        """One step more."""
        self._bar.update(step - self._bar.n)

    def numbers(self, step: int, numbers: dict[str, float]) -> None:  # noqa: ARG002 - as above
        """Show the last numbers behind the bar."""
        shown = {name: f"{numbers[name]:.3g}" for name in _SHOWN if name in numbers}
        if "loss" in shown:
            self._bar.set_postfix(shown)

    def end(self) -> None:
        """Leave the bar as it is."""
        self._bar.close()


def _is_done(line: str, step: int) -> bool:
    """Whether a line is whole and of a step up to `step`; a killed run may leave half a line."""
    try:
        return bool(json.loads(line)["step"] <= step)
    except (ValueError, KeyError, TypeError):
        return False
