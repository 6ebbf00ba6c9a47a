"""Listeners that send a run's numbers to TensorBoard and to Weights & Biases."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vidground.training.logs import RunListener

TENSORBOARD = "tensorboard"
WANDB_ID = "wandb-id.txt"
_PROJECT = "vidground"


class TensorBoardLog(RunListener):
    """Writes the numbers of every logged step for TensorBoard.

    A resumed run hides the steps that it repeats.
    """

    def __init__(self, run: Path) -> None:
        self._folder = run / TENSORBOARD
        self._writer: Any = None

    def begin(self, step: int, max_steps: int) -> None:  # noqa: ARG002 - the listener's signature
        """Open a file."""
        # Imported here, because it is slow to import and needed only on request.
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(self._folder), purge_step=step + 1)

    def numbers(self, step: int, numbers: dict[str, float]) -> None:
        """Add the numbers."""
        for name, value in numbers.items():
            self._writer.add_scalar(_tag(name), value, step)
        self._writer.flush()

    def end(self) -> None:
        """Close the file."""
        self._writer.close()


class WandbLog(RunListener):
    """Sends the numbers of every logged step to Weights & Biases.

    A resumed run continues the one that it began there; its id is kept in the run's folder.
    """

    def __init__(self, run: Path, config: Mapping[str, Any]) -> None:
        self._run_folder = run
        self._config = dict(config)
        self._run: Any = None

    def begin(self, step: int, max_steps: int) -> None:  # noqa: ARG002 - the listener's signature
        """Start or continue a run there."""
        import wandb  # installed on request only

        kept = self._run_folder / WANDB_ID
        known = kept.read_text(encoding="utf-8").strip() if step and kept.is_file() else None
        self._run = wandb.init(
            project=_PROJECT,
            name=self._run_folder.resolve().name,
            dir=str(self._run_folder),
            config=self._config,
            id=known,
            resume=None if known is None else "allow",
        )
        kept.write_text(f"{self._run.id}\n", encoding="utf-8")

    def numbers(self, step: int, numbers: dict[str, float]) -> None:
        """Send the numbers."""
        self._run.log({_tag(name): value for name, value in numbers.items()}, step=step)

    def end(self) -> None:
        """Finish the upload."""
        self._run.finish()


def _tag(name: str) -> str:
    """Return the name under which a number is shown: eval/… if held-out, else train/…."""
    held_out = name.startswith("eval_")
    return f"eval/{name.removeprefix('eval_')}" if held_out else f"train/{name}"
