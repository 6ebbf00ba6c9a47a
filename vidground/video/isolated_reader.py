"""Videos decoded in a separate process, which may crash, hang or need too much memory.

`decoder_process` runs that process; here it is lent to readers, and frames become pictures while
the model processes earlier ones. Knows nothing of the model.
"""

import os
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from queue import Empty, Queue
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from vidground.errors import VideoError
from vidground.settings import CPU, IsolationSettings
from vidground.storage.files import printable
from vidground.video.decoder_process import DecoderProcess
from vidground.video.info import VideoInfo
from vidground.video.ipc import Message
from vidground.video.orientation import Orientation
from vidground.video.preprocessing import resize_and_crop
from vidground.video.reader import FrameRun

_SAMPLER = "vidground.video.frame_sampler:FrameSampler"
_AHEAD = 64
"""Maximum number of pictures that wait for the model: 10 MB of them at 224 x 224 pixels."""


class DecoderPool:
    """Decoding processes, replaced when they are lost.

    One process serves one video after another; videos that are read at the same time get one
    process each.

    Args:
        settings: limits of each process.
        decode_on: where videos are decoded; see `settings.CPU`.
        opener: what opens a video in the process, as "module:function".

    Attributes:
        keep: maximum number of idle processes.
    """

    def __init__(
        self, settings: IsolationSettings, *, decode_on: str = CPU, opener: str = _SAMPLER
    ) -> None:
        self.settings = settings
        self.decode_on = decode_on
        self._opener = opener
        self.keep = 1
        self._idle = deque([self._start()])  # now, so that it is ready when the model is

    def borrow(self) -> DecoderProcess:
        """Return a process for exclusive use, the one used last if it is still fit."""
        while True:
            try:
                process = self._idle.pop()
            except IndexError:
                return self._start()
            if process.is_fit:
                return process
            process.end()

    def give_back(self, process: DecoderProcess) -> None:
        """Keep a process for the next reader, unless it is in the middle of a request."""
        if process.is_busy or not process.is_fit or len(self._idle) >= self.keep:
            process.end()
        else:
            self._idle.append(process)

    def close(self) -> None:
        """End the idle processes."""
        while self._idle:
            self._idle.pop().end()

    def _start(self) -> DecoderProcess:
        return DecoderProcess(self.settings, self._opener, decode_on=self.decode_on)


class IsolatedReader:
    """Pictures of one video file like `VideoReader`, but decoded in another process.

    Frames are decoded ahead while the caller is busy; the time limit applies only to waiting.

    Args:
        decoder: lends the process.
        path: of the file.
        fps: samples per second of video, above 0.
        image_size: side of the pictures in pixels.
        choice: stream and raw_fps, see `SamplingSettings`.

    Raises:
        VideoError: as `VideoReader`; or the decoder crashed, made no progress for
            `timeout_s`, or needed more than `memory_gib`; or the required GPU cannot decode the
            file.
        InternalError: an internal error in the process; its traceback is attached.
        VidgroundError: the process cannot be started, or was killed.
    """

    times_s: npt.NDArray[np.float64]

    def __init__(
        self,
        decoder: DecoderPool,
        path: str | os.PathLike[str],
        *,
        fps: float,
        image_size: int,
        **choice: Any,
    ) -> None:
        self._decoder = decoder
        self._path = path
        self._sampling = {"fps": fps, **choice}
        self._image_size = image_size
        self._opened = object()  # the mark on the process that has the file open
        process = decoder.borrow()
        try:
            self.info, self.times_s, self.warnings = self._open(process)
        finally:
            decoder.give_back(process)

    def runs(self) -> Iterator[FrameRun]:
        """Yield the sampled frames in order; see `VideoReader.runs`."""
        process = self._decoder.borrow()
        pictures: Queue[_Picture | BaseException] = Queue(_AHEAD)
        maker = threading.Thread(target=self._make, args=(process, pictures), daemon=True)
        maker.start()
        ended = False
        try:
            while True:
                made = pictures.get()
                ended = isinstance(made, BaseException) or made.run is None
                if isinstance(made, BaseException):
                    raise made
                self.info = replace(self.info, damaged_packets=made.damaged)
                self.warnings = made.warnings
                if made.run is None:
                    return
                yield made.run
        finally:
            if not ended:  # the rest is not wanted
                process.end()
            self._decoder.give_back(process)
            while maker.is_alive():
                with suppress(Empty):
                    pictures.get(timeout=0.05)

    def _open(
        self, process: DecoderProcess
    ) -> tuple[VideoInfo, npt.NDArray[np.float64], tuple[str, ...]]:
        answer = process.open(self._path, **self._sampling, decode_on=self._decoder.decode_on)
        process.holds = self._opened
        times_s = answer.block.view(np.float64)
        return VideoInfo(**answer.values["info"]), times_s, tuple(answer.values["warnings"])

    def _make(self, process: DecoderProcess, pictures: Queue["_Picture | BaseException"]) -> None:
        """Turn frames into pictures until the last one or an error. Runs in its own thread."""
        try:
            if process.holds is not self._opened:
                self._open_again(process)
            process.ask("decode", {})
            pixels = torch.empty(0)
            while True:
                answer = process.answer(self._path)
                if answer.kind == "frame":
                    pixels = _square(answer, self._image_size)
                pictures.put(_Picture.of(answer, pixels))
                if answer.kind == "end":
                    return
        except BaseException as error:  # noqa: BLE001 - raised where the pictures are wanted
            pictures.put(error)

    def _open_again(self, process: DecoderProcess) -> None:
        info, times_s, _ = self._open(process)
        same_info = replace(info, damaged_packets=self.info.damaged_packets) == self.info
        if not (same_info and np.array_equal(times_s, self.times_s)):
            raise VideoError(f"{printable(self._path)}: was changed while it was read")


@dataclass(frozen=True)
class _Picture:
    """A run of samples, None after the last, and what is known of damage by then."""

    run: FrameRun | None
    damaged: int
    warnings: tuple[str, ...]

    @classmethod
    def of(cls, answer: Message, pixels: torch.Tensor) -> "_Picture":
        values = answer.values
        is_end = answer.kind == "end"
        run = None if is_end else FrameRun(pixels, values["first"], values["last"])
        return cls(run, values["damaged"], tuple(values["warnings"]))


def _square(answer: Message, image_size: int) -> torch.Tensor:
    values = answer.values
    return resize_and_crop(
        answer.block.reshape(values["height"], values["width"], 3),
        image_size,
        pixel_aspect=values["pixel_aspect"],
        orientation=Orientation(**values["orientation"]),
    )
