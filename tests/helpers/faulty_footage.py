"""Videos that do to a decoder what a hostile file might; only a process of its own opens them.

A test names one of these classes as the `opener` of an `DecoderPool`.
"""

import ctypes
import mmap
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from vidground.review.thumbnails import MomentSampler
from vidground.video.frame_sampler import FrameSampler, ShownFrame


class Telling(FrameSampler):
    """Says in its warnings which process it is in, and whether that has torch."""

    @property
    def warnings(self) -> tuple[str, ...]:
        return (*super().warnings, f"process {os.getpid()}", f"torch {'torch' in sys.modules}")


class Hoarding(Telling):
    """Keeps 160 MiB for good."""

    kept: ClassVar[list[object]] = []

    def __init__(self, path: str, **options: Any) -> None:
        self.kept.append(np.ones(160 << 20, np.uint8))
        super().__init__(path, **options)


class FailingAtOpening(Telling):
    """Does what the file's name says instead of being opened."""

    def __init__(self, path: str, **options: Any) -> None:
        _misbehave(Path(path).stem)
        super().__init__(path, **options)


class FailingAtTheThirdFrame(Telling):
    """Does what the file's name says after two frames."""

    def __init__(self, path: str, **options: Any) -> None:
        self._fault = Path(path).stem
        super().__init__(path, **options)

    def frames(self) -> Iterator[ShownFrame]:
        for number, frame in enumerate(super().frames()):
            if number == 2:
                _misbehave(self._fault)
            yield frame


class FailingMoments(MomentSampler):
    """Does what the file's name says when frames are wanted."""

    def __init__(self, path: str, **options: Any) -> None:
        self._fault = Path(path).stem
        super().__init__(path, **options)

    def frames(self) -> Iterator[ShownFrame]:
        _misbehave(self._fault)
        return super().frames()


class Slow(FrameSampler):
    """Takes two seconds in small steps before its first frame."""

    def frames(self) -> Iterator[ShownFrame]:
        for _ in range(10):
            time.sleep(0.2)
            self._watch.packet()
        yield from super().frames()


class Stuck(FrameSampler):
    """Tells which process it is in through a file, and then never returns to Python."""

    def __init__(self, path: str, **_: Any) -> None:
        Path(path).write_text(str(os.getpid()))
        ctypes.PyDLL(None).pause()  # with the interpreter's lock


def _misbehave(fault: str) -> None:
    if fault == "crash":
        ctypes.string_at(0)
    elif fault == "abort":
        os.abort()
    elif fault == "exit":
        os._exit(3)
    elif fault == "kill":
        os.kill(os.getpid(), 9)
    elif fault == "hang":
        threading.Event().wait()
    elif fault == "bug":
        raise ZeroDivisionError("a bug")
    elif fault == "disk":
        raise OSError(5, "Input/output error")
    elif fault == "reserve":
        mmap.mmap(-1, 100 << 30, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, 0)  # as CUDA does
    elif fault == "eat":
        eaten = []
        while True:
            eaten.append(np.ones(1 << 25, np.uint8))
