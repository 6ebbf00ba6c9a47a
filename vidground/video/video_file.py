"""Packets and frames of a video file, read with PyAV.

Opens a file without following references to other files or addresses, lists its packets, and
decodes all of them or only chosen stretches, on the CPU or on a GPU. Knows nothing of sampling, of
tensors, or of what frames are used for.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import av

from vidground.errors import VideoError
from vidground.settings import CPU
from vidground.storage.files import printable, require_regular_file
from vidground.video.bitstream import hevc_temporal_layers, holds_idr, is_hidden_vp8
from vidground.video.container_facts import (
    StreamFacts,
    choose_track,
    other_tracks,
    stream_facts,
    time_base_of,
)
from vidground.video.info import CONTAINER_FORMATS
from vidground.video.nvdec import CudaError, accelerator, require_exact
from vidground.video.packets import PacketList, Packets
from vidground.video.pixels import DecodedFrame, FrameConverter
from vidground.video.pyav import has_format_flag, open_input, positive_fraction
from vidground.video.timeline import Stretch

_SAFE_OPTIONS = {"format_whitelist": CONTAINER_FORMATS, "protocol_whitelist": "file"}

_MOST_READ_ERRORS = 8
"""Consecutive failures after which the rest of the file is not read."""


class SkippingError(Exception):
    """Decoding stretches did not give the expected frames; decode everything instead."""


class Watch:
    """Observer of reading and decoding; this one ignores every event."""

    def packet(self) -> None:
        """Called when a packet was read and the previous one decoded."""

    def no_memory(self) -> None:
        """Called when the library ran out of memory, or a damaged size made it request too much.

        The packet counts as damaged unless this method raises.
        """


UNWATCHED = Watch()


class VideoFile:
    """A video file, opened for one pass over its packets: `measure`, or one of `decode_*`.

    Args:
        path: of the file.
        strict: raise on damage that a decoder would otherwise conceal. An open group of pictures
            counts as damage, too, when decoding starts there.
        watch: observer of reading and decoding.
        decode_on: the CPU, or a GPU; see `settings.CPU`.
        stream: number of the video track to read; None for the best one.
        raw_fps: frame rate of a raw stream, which stores none; ignored for other files.

    Attributes:
        path: of the file.
        damaged: number of packets so far that could not be decoded, and of failed attempts to
            read one.
        damaged_at_start: those of them before the packet of the first frame; set by `measure`.
        read_to: end of the last packet read so far, in bytes; None if unknown.

    Raises:
        VideoError: not a regular file, not a video, no video stream, no decoder for it.
        CudaError: the GPU cannot be opened, or cannot decode what it is given.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        strict: bool = False,
        watch: Watch = UNWATCHED,
        decode_on: str = CPU,
        stream: int | None = None,
        raw_fps: float | None = None,
    ) -> None:
        self.path = path
        self.damaged = self.damaged_at_start = 0
        self.read_to: int | None = None
        self._watch = watch
        self._on_card = decode_on != CPU
        self._raw_fps = raw_fps
        require_regular_file(path)
        self._container = self._open(decode_on, raw_fps)
        try:
            self._stream = choose_track(self._container, path, stream)
            self._context = self._stream.codec_context
            if self._on_card and not self._context.is_hwaccel:
                raise CudaError(f"no decoder for {self._context.name} uses the card")
            self._context.thread_count = 1  # files, not frames, are decoded side by side
            if strict:
                self._context.options = {"err_detect": "explode"}
        except BaseException:
            self._container.close()
            raise
        self._converter = FrameConverter(
            path, positive_fraction(self._stream.sample_aspect_ratio) or Fraction(1)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._container.close()

    @property
    def facts(self) -> StreamFacts:
        """What the container states about the chosen stream."""
        return stream_facts(self._container, self._stream, raw_fps=self._raw_fps)

    @property
    def other_tracks(self) -> str | None:
        """A warning that names all video tracks, if there are several."""
        return other_tracks(self._container, self._stream)

    @property
    def _time_base(self) -> Fraction:
        return time_base_of(self._stream)

    @property
    def stores_presentation_times(self) -> bool:
        """Whether the container stores more than the order in which packets are decoded."""
        return self._container.format.name != "avi" or self._context.codec.intra_only

    @property
    def _skips_unreferenced(self) -> bool:
        """Whether the decoder can skip pictures that no other refers to and remain exact.

        HEVC marks pictures to which none of their own temporal layer refers, so the mark is
        sufficient only where there is a single layer.
        """
        codec = self._context.name
        return codec == "h264" or (
            codec == "hevc" and hevc_temporal_layers(self._context.extradata or b"") == 1
        )

    def _open(self, decode_on: str, raw_fps: float | None) -> av.container.InputContainer:
        path = str(Path(self.path).absolute())  # so that it is not read as an address or an option
        card = accelerator(decode_on) if self._on_card else None
        options = dict(_SAFE_OPTIONS)
        if raw_fps is not None:
            options["framerate"] = str(Fraction(raw_fps).limit_denominator(1001))
        try:
            return open_input(path, options=options, hwaccel=card)
        except av.FFmpegError as error:
            if isinstance(error, MemoryError):
                self._watch.no_memory()
            if self._on_card:  # the CPU has opened the file before
                raise CudaError(f"the card cannot be opened ({_reason(error)})") from error
            raise self._error(
                f"not a video that can be read ({_reason(error)}); check that it plays"
            ) from error
        except RuntimeError as error:  # raised by PyAV for a codec that the GPU does not support
            if not self._on_card:
                raise
            raise CudaError(_reason(error)) from error

    def measure(self) -> tuple[Packets, DecodedFrame | None]:
        """List all packets, decoding only until the first frame appears.

        Raises:
            VideoError: the stream is encrypted.
        """
        # Clocks may restart in transport and program streams.
        restartable = has_format_flag(self._container, "ts_discont")
        table = PacketList(self._time_base, restartable=restartable)
        first: DecodedFrame | None = None
        failed: list[int] = []
        codec = self._context.name
        parameter_sets = self._context.extradata or b""
        open_groups = False
        for index, packet in self._packets():
            hidden = codec == "vp8" and is_hidden_vp8(memoryview(packet))
            table.append(
                packet.pts,
                packet.dts,
                duration=packet.duration,
                key=packet.is_keyframe,
                shown=not (packet.is_discard or hidden),
                damaged=packet.is_corrupt,
            )
            if packet.is_keyframe and packet.has_sidedata("encryption_info"):
                raise self._error("the video is encrypted; decrypt it with its owner's tools")
            if codec == "h264" and packet.is_keyframe and not open_groups:
                open_groups = not holds_idr(memoryview(packet), parameter_sets)
            if first is None:
                damaged = self.damaged
                first = next(iter(self._decode(index, packet)), None)
                failed += [index] if self.damaged > damaged else []
        if first is None:
            first = next(iter(self._drain()), None)
        if first is not None and first.packet is not None:
            self.damaged_at_start = sum(index < first.packet for index in failed)
        by_decoding = not self.stores_presentation_times
        return table.packets(by_decoding=by_decoding, open_groups=open_groups), first

    def decode_all(self) -> Iterator[DecodedFrame]:
        """Yield every frame in presentation order; damaged packets are counted and skipped."""
        for index, packet in self._packets():
            yield from self._decode(index, packet)
        yield from self._drain()

    def decode_stretches(
        self, stretches: Iterable[Stretch], *, joins: frozenset[int] = frozenset()
    ) -> Iterator[DecodedFrame]:
        """Yield the wanted frames of `stretches` in order, exactly as `decode_all` would.

        Between stretches nothing is decoded; within one, pictures to which no other refers are
        skipped where the decoder can.

        Args:
            stretches: of packets, rising.
            joins: `Packets.joins`, whose mark of damage means nothing.

        Raises:
            SkippingError: packets are damaged, or frames are missing or out of order.
        """
        packets = self._packets()
        skips = self._skips_unreferenced
        for stretch in stretches:
            wanted = set(stretch.wanted)
            expected = iter(stretch.wanted)
            for index, packet in packets:
                if index < stretch.first or index in stretch.left_out:
                    continue
                if skips:
                    self._context.skip_frame = "DEFAULT" if index in wanted else "NONREF"
                frames = self._decode(index, packet)
                if index == stretch.last:
                    frames += self._drain()
                    self._context.flush_buffers()
                for frame in frames:
                    if self.damaged or (frame.corrupt and frame.packet not in joins):
                        raise SkippingError("packets are damaged")
                    if frame.packet == stretch.first and not frame.intra:
                        raise SkippingError("a packet marked as a key packet is not one")
                    if frame.packet in wanted:
                        if frame.packet != next(expected):
                            raise SkippingError("frames came out of order")
                        yield frame
                if index == stretch.last:
                    break
            if next(expected, None) is not None:
                raise SkippingError("a frame is missing")

    def _packets(self) -> Iterator[tuple[int, av.Packet[av.VideoStream]]]:
        """Yield the stream's packets with their index, in decoding order."""
        index = errors = 0
        while errors < _MOST_READ_ERRORS:
            try:
                for packet in self._container.demux(self._stream):
                    if _ends_stream(packet):
                        return
                    if packet.size:  # an empty one would end decoding
                        if packet.pos is not None:
                            self.read_to = max(self.read_to or 0, packet.pos + packet.size)
                        self._watch.packet()
                        yield index, packet
                        index += 1
                        errors = 0
                return
            except av.FFmpegError as error:  # reading may continue after the damage
                self._count_damage(error)
                errors += 1

    def _decode(self, index: int, packet: av.Packet[av.VideoStream]) -> list[DecodedFrame]:
        # The decoder copies a packet's time to its frame, whatever it means. An index in its place
        # identifies the packet of a frame even where times are missing or duplicated.
        packet.pts = packet.dts = index
        try:
            frames = self._context.decode(packet)
        except av.FFmpegError as error:
            self._count_damage(error)
            return []
        return self._known(frames)

    def _drain(self) -> list[DecodedFrame]:
        try:
            frames = self._context.decode(None)
        except av.EOFError:
            return []
        except av.FFmpegError as error:
            self._count_damage(error)
            return []
        return self._known(frames)

    def _known(self, frames: Iterable[av.VideoFrame]) -> list[DecodedFrame]:
        if self._on_card:
            for frame in frames:
                require_exact(frame)
        return [DecodedFrame(frame, self._converter) for frame in frames]

    def _count_damage(self, error: av.FFmpegError) -> None:
        if isinstance(error, MemoryError):
            self._watch.no_memory()
        if self._on_card:  # where damage and unsupported features give the same error
            raise CudaError(f"decoding stops at a packet ({_reason(error)})") from error
        self.damaged += 1

    def _error(self, what: str) -> VideoError:
        return VideoError(f"{printable(self.path)}: {what}")


def _ends_stream(packet: av.Packet[av.VideoStream]) -> bool:
    """Return whether PyAV appended this packet after the last one, to flush the decoder.

    Reading must stop there. PyAV up to 18 then flushes streams that appeared after the file was
    opened, for which it has no entry: an IndexError, or, by chance, nothing.
    """
    unset = packet.pts is None and packet.dts is None and packet.pos is None
    return unset and not packet.size and not packet.buffer_ptr


def _reason(error: Exception) -> str:
    """Return the library's message without the path that it appends."""
    return getattr(error, "strerror", None) or str(error)
