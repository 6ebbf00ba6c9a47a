"""CUDA graphs, played by the CPU: operations are written down once and repeated on the same memory.

As on a card, recording a function leaves all memory as it was, a replay runs no Python of the
function, and whatever copies to the host while recording is an error. What a card's allocator does
with the memory of a recording, the stand-in cannot show.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vidground.generation.cuda_graphs import Record, StepOutputs

Operation = tuple[Any, tuple[Any, ...], dict[str, Any], list[Tensor]]


class Graphs:
    """Makes recorders, all of which count here.

    recorded, replayed: how often a function was recorded, and a recording replayed.
    """

    def __init__(self) -> None:
        self.recorded = self.replayed = 0

    def __call__(self) -> Record:
        return self._record

    def _record(self, run: Callable[[], StepOutputs]) -> tuple[Callable[[], None], StepOutputs]:
        run()  # as the runs before recording
        with _Recording() as recording:
            outputs = run()
        recording.undo()
        for output in outputs:
            output.fill_(torch.nan)  # nothing was computed yet
        self.recorded += 1

        def replay() -> None:
            self.replayed += 1
            recording.replay()

        return replay, outputs


class _Recording(TorchDispatchMode):
    """The operations of a block of code, with the tensors that they read and write."""

    def __init__(self) -> None:
        super().__init__()
        self._operations: list[Operation] = []
        self._made: set[int] = set()  # memory that operations made
        self._before: dict[int, tuple[Tensor, Tensor]] = {}  # other memory they write, and a copy

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if (
            torch.Tag.data_dependent_output in func.tags
            or torch.Tag.dynamic_output_shape in func.tags
        ):
            raise RuntimeError(f"operation not permitted when stream is capturing: {func}")
        for written in _written(func, args, kwargs):
            if _memory(written) not in self._made | self._before.keys():
                self._before[_memory(written)] = written, _whole(written).clone()
        result = func(*args, **kwargs)
        inputs = {_memory(tensor) for tensor in _tensors((args, kwargs))}
        made = [tensor for tensor in _tensors(result) if _memory(tensor) not in inputs]
        self._made |= {_memory(tensor) for tensor in made}
        self._operations.append((func, args, kwargs, made))
        return result

    def undo(self) -> None:
        """Restore the memory that was not made by the operations."""
        for tensor, copy in self._before.values():
            _whole(tensor).copy_(copy)

    def replay(self) -> None:
        """Do the operations again, with the same memory for their results."""
        for func, args, kwargs, made in self._operations:
            inputs = {_memory(tensor) for tensor in _tensors((args, kwargs))}
            again = [t for t in _tensors(func(*args, **kwargs)) if _memory(t) not in inputs]
            for old, new in zip(made, again, strict=True):
                old.copy_(new)


def _written(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[Tensor]:
    for place, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            value = args[place] if place < len(args) else kwargs.get(argument.name)
            yield from _tensors(value)


def _tensors(values: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


def _memory(tensor: Tensor) -> int:
    if tensor.layout != torch.strided:  # weights that oneDNN has rearranged, which nothing writes
        return id(tensor)
    return tensor.untyped_storage()._cdata


def _whole(tensor: Tensor) -> Tensor:
    """All of the memory that a tensor lies in."""
    storage = tensor.untyped_storage()
    return torch.empty(0, dtype=torch.uint8).set_(storage, 0, (storage.nbytes(),))  # type: ignore[call-overload]
