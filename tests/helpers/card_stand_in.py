"""A card that decodes videos, played by the decoders of the CPU.

What PyAV opens "on a card" is opened on the CPU, but says it is on a card and gives pictures in a
card's formats, with all that goes along with a picture. No CUDA is in it: what a true card does
otherwise, it cannot tell.
"""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import av
import numpy as np
import pytest
from av.video.reformatter import VideoReformatter

from vidground.video.frame_sampler import FrameSampler

CARD_FORMATS = {"yuv420p": "nv12", "yuvj420p": "nv12", "yuv420p10le": "p010le"}

Change = Callable[[int, av.VideoFrame], av.VideoFrame]
"""Gets the number of a frame that comes from the card, and the frame, and gives another one."""


class Card:
    """What a stand-in has done.

    opened, missed: how often a file was opened on it, and on the CPU. frames: it has given.
    """

    def __init__(self, change: Change = lambda _, frame: frame) -> None:
        self.opened = self.missed = self.frames = 0
        self._change = change
        self._open = av.open
        self._counting = threading.Lock()  # files are decoded in several threads at once
        self._own = threading.local()

    def open(self, path: str, mode: str, *, hwaccel: Any = None, **options: Any) -> Any:
        """As `av.open`."""
        container = self._open(path, mode, **options)
        if hwaccel is None:
            self.missed += 1
            return container
        self.opened += 1
        return _Container(container, self)

    def gives(self, frame: av.VideoFrame) -> av.VideoFrame:
        """A picture of the CPU as a card has it."""
        with self._counting:
            self.frames += 1
            number = self.frames
        name = CARD_FORMATS.get(frame.format.name)
        if name is not None:
            if not hasattr(self._own, "reformatter"):
                self._own.reformatter = VideoReformatter()
            frame = self._own.reformatter.reformat(
                frame,
                format=name,
                interpolation="POINT",
                src_color_range=frame.color_range,
                dst_color_range=frame.color_range,
            )
        return self._change(number, frame)


def put_in(monkeypatch: pytest.MonkeyPatch, change: Change = lambda _, frame: frame) -> Card:
    """Let files be opened on a stand-in from now on, and models find a card in this process."""
    card = Card(change)
    monkeypatch.setattr(av, "open", card.open)
    monkeypatch.setattr(
        "vidground.inference.engine.opens_card", lambda decode_on: decode_on != "cpu"
    )
    return card


class OnStandIn(FrameSampler):
    """A video in a process of its own, which has a stand-in; says in its warnings if it is used."""

    def __init__(self, path: str, **options: Any) -> None:
        self._card = Card()
        av.open = self._card.open
        super().__init__(path, **options)

    @property
    def warnings(self) -> tuple[str, ...]:
        return (*super().warnings, f"{self._card.frames} from the card")


class _Container:
    def __init__(self, container: Any, card: Card) -> None:
        self._container = container
        self.streams = _Streams(container.streams, card)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._container, name)

    def demux(self, stream: "_Stream") -> Iterator[Any]:
        return self._container.demux(stream.wrapped)  # type: ignore[no-any-return]


class _Streams:
    def __init__(self, streams: Any, card: Card) -> None:
        self._streams = streams
        self.video = [_Stream(stream, card) for stream in streams.video]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._streams, name)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._streams)


class _Stream:
    def __init__(self, stream: Any, card: Card) -> None:
        self.wrapped = stream
        self.codec_context = _Context(stream.codec_context, card)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.wrapped, name)


class _Context:
    is_hwaccel = True

    def __init__(self, context: Any, card: Card) -> None:
        self.__dict__.update(_context=context, _card=card)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._context, name, value)

    def decode(self, packet: Any) -> list[av.VideoFrame]:
        return [self._card.gives(frame) for frame in self._context.decode(packet)]


def moved(frame: av.VideoFrame, by: int) -> av.VideoFrame:
    """The picture shifted, as one whose left edge was not cropped."""
    pixels = np.roll(frame.to_ndarray(), by, axis=1)
    other = av.VideoFrame.from_ndarray(pixels, format=frame.format.name)
    other.pts = frame.pts
    other.color_range, other.colorspace = frame.color_range, frame.colorspace
    other.pict_type = frame.pict_type
    return other
