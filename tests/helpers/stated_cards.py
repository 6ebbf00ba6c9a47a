"""Cards of which only the numbers exist: what `torch.cuda` says of them, for code that asks.

Nothing can be computed on them. Every question must name its card, as code must that is right on
machines with several; the current card is the last one, which no test puts its model on.
"""

from dataclasses import dataclass
from typing import Any

import pytest
import torch

GIB = 1 << 30


@dataclass(frozen=True)
class StatedCard:
    """capability: compute capability. total, free: of the driver, in GiB. reserved, allocated: by
    torch, in GiB. fraction: of the memory that torch may take.
    """

    capability: tuple[int, int] = (8, 0)
    total: float = 16
    free: float = 16
    reserved: float = 0
    allocated: float = 0
    fraction: float = 1.0


def state_cards(monkeypatch: pytest.MonkeyPatch, *cards: StatedCard) -> None:
    """Let `torch.cuda` answer as on a machine with these cards."""

    def of(card: Any) -> StatedCard:
        index = card.index if isinstance(card, torch.device) else card
        assert isinstance(index, int), "the question names no card"
        return cards[index]

    answers = {
        "is_available": lambda: bool(cards),
        "device_count": lambda: len(cards),
        "current_device": lambda: len(cards) - 1,
        "get_device_capability": lambda card: of(card).capability,
        "mem_get_info": lambda card: (int(of(card).free * GIB), int(of(card).total * GIB)),
        "memory_reserved": lambda card: int(of(card).reserved * GIB),
        "memory_allocated": lambda card: int(of(card).allocated * GIB),
        "get_per_process_memory_fraction": lambda card: of(card).fraction,
    }
    for name, answer in answers.items():
        monkeypatch.setattr(torch.cuda, name, answer)
