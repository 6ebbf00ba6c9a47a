"""Disk space that a training run takes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from vidground.training.config import RunConfig

_GIBIBYTE = 1 << 30
_FLOAT32_BYTES = 4
_MOMENTS = 2  # of AdamW, each as large as the trainable parameters


@dataclass(frozen=True)
class DiskSpace:
    """Bytes of a run's folder, computed from its parameters.

    Attributes:
        model: a model as the run writes it, in a checkpoint or at the end.
        state: trainable parameters and optimizer states, which a checkpoint adds.
        kept: checkpoints that are kept at once; None for all.
    """

    model: int
    state: int
    kept: int | None

    @property
    def checkpoint(self) -> int:
        """Bytes of one checkpoint."""
        return self.model + self.state

    @property
    def peak(self) -> int | None:
        """Most bytes at any time: one checkpoint or model more than is kept; None without limit."""
        return None if self.kept is None else (self.kept + 1) * self.checkpoint + 2 * self.model

    def __str__(self) -> str:
        def size(count: int) -> str:
            return f"{count / _GIBIBYTE:.2f} GiB"

        total = "all are kept" if self.peak is None else f"at most {size(self.peak)} in total"
        return (
            f"disk: {size(self.model)} for the model, {size(self.checkpoint)} for each "
            f"checkpoint, {total}"
        )


def disk_space(model: nn.Module, stored: torch.dtype, config: RunConfig) -> DiskSpace:
    """Return the disk space of a run; works on the meta device.

    Args:
        model: prepared for training.
        stored: type of the weights that the run starts from, and is saved in.
        config: of the run.
    """
    named = dict(model.named_parameters())
    trained = sum(p.numel() for p in named.values() if p.requires_grad)
    whole = sum(p.numel() for name, p in named.items() if ".lora_" not in name)
    adapter = config.output.weights == "adapter"
    size = trained * _FLOAT32_BYTES if adapter else whole * stored.itemsize
    kept: int | None = 0
    if config.output.save_every is not None or config.output.model == "best":
        kept = config.output.keep
        if kept is not None and config.output.model == "best":
            kept = max(2, kept)
    return DiskSpace(size, (1 + _MOMENTS) * trained * _FLOAT32_BYTES, kept)
