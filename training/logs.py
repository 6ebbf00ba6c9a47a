"""What a run reports while it trains: JSON lines, a progress bar, or lines without a terminal."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tqdm import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from vidground.storage.atomic import write_atomically

LOG = "log.jsonl"
_SHOWN = ("loss", "learning_rate")
_LINE_EVERY_S = 30.0

_logger = logging.getLogger(__name__)


class RunListener(TrainerCallback):  # type: ignore[misc]  # transformers carries no types
    """Follows a run in its first process. Steps are optimizer steps done."""

    def begin(self, step: int, max_steps: int) -> None:
        """Training begins after `step`, 0 unless it is resumed."""

    def stepped(self, step: int) -> None:
        """A step is done."""

    def numbers(self, step: int, numbers: dict[str, float]) -> None:
        """Numbers were logged: means since the last log, or of held-out samples (`eval_…`)."""

    def end(self) -> None:
        """Training is over."""

    # transformers' events. Their arguments are given by name, used here or not (ARG002).
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
    """Writes the numbers of every logged step as a line to `log.jsonl` in the run's folder.

    A resumed run replaces the lines of the steps that it repeats.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / LOG

    def begin(self, step: int, max_steps: int) -> None:  # noqa: ARG002 - the listener's signature
        """Keep the lines up to the step that training continues from."""
        if self._path.exists():
            lines = self._path.read_text(encoding="utf-8").splitlines(keepends=True)
            write_atomically(self._path, "".join(line for line in lines if _is_done(line, step)))

    def numbers(self, step: int, numbers: dict[str, float]) -> None:
        """Append a line."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **numbers}) + "\n")


class StepBar(RunListener):
    """Progress over optimizer steps: a bar on standard error, or log lines without a terminal.

    A line is written for the first and the last numbers, and at most every 30 seconds between.
    """

    def __init__(
        self, *, terminal: bool | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Choose between bar and lines.

        Args:
            terminal: whether to show a bar; None if standard error is a terminal.
            clock: seconds.
        """
        if terminal is None:  # standard error is None if the caller closed it
            terminal = sys.stderr is not None and sys.stderr.isatty()
        self._terminal = terminal
        self._clock = clock
        self._bar: Any = None
        self._first, self._last = 0, 0
        self._began_s = 0.0
        self._shown_s: float | None = None

    def begin(self, step: int, max_steps: int) -> None:
        """Start at the step that training begins with."""
        self._first, self._last = step, max_steps
        self._began_s, self._shown_s = self._clock(), None
        self._bar = tqdm(
            total=max_steps,
            initial=step,
            unit="step",
            file=sys.stderr,
            disable=not self._terminal,
            dynamic_ncols=True,
        )

    def stepped(self, step: int) -> None:
        """Move the bar."""
        self._bar.update(step - self._bar.n)

    def numbers(self, step: int, numbers: dict[str, float]) -> None:
        """Show the last numbers, with the bar or in a line."""
        shown = {name: f"{numbers[name]:.3g}" for name in _SHOWN if name in numbers}
        if "eval_loss" in numbers:
            _logger.info("step %d: held-out loss %.4g", step, numbers["eval_loss"])
        elif "loss" in shown:
            self._bar.set_postfix(shown)
            self._show_line(step, shown)

    def end(self) -> None:
        """Leave the bar as it is."""
        self._bar.close()

    def _show_line(self, step: int, shown: dict[str, str]) -> None:
        now_s = self._clock()
        due = self._shown_s is None or now_s - self._shown_s >= _LINE_EVERY_S
        if self._terminal or not (due or step == self._last):
            return
        self._shown_s = now_s
        per_step_s = (now_s - self._began_s) / max(1, step - self._first)
        values = ", ".join(f"{name} {value}" for name, value in shown.items())
        left_s = round(per_step_s * (self._last - step))
        _logger.info("step %d of %d: %s; %s left", step, self._last, values, _duration(left_s))


def _duration(seconds: int) -> str:
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def _is_done(line: str, step: int) -> bool:
    """Return whether a line is complete (a kill may truncate it) and of a step up to `step`."""
    try:
        return bool(json.loads(line)["step"] <= step)
    except (ValueError, KeyError, TypeError):
        return False
