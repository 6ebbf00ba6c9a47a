"""A video file as a stream of sampled frames with their true times.

The packets of a file (`video_file`) become a timeline (`timeline`), which determines the frames to
sample (`sampling`) and the packets to decode for them. Knows nothing of how frames are used;
imports no torch, so that a process that only decodes is small.
"""

import hashlib
import os
from array import array
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vidground.errors import VideoError
from vidground.settings import CPU, may_use_cpu
from vidground.storage.files import printable
from vidground.video.container_facts import implausible
from vidground.video.info import VideoInfo
from vidground.video.nvdec import EXACT_CODECS, CudaError
from vidground.video.pixels import DecodedFrame
from vidground.video.sampling import (
    count_instants,
    find_holes,
    group_samples,
    leave_out_holes,
    sample_frames,
)
from vidground.video.timeline import (
    Timeline,
    plan_stretches,
    timeline_of_output,
    timeline_of_presentation,
)
from vidground.video.video_file import UNWATCHED, SkippingError, VideoFile, Watch

_MOST_SAMPLES = 10_000_000
"""About 116 days at one sample per second. A file that is longer has a damaged clock."""
_MANY_SAMPLES = 86_400  # a day at one sample a second
_SAMPLES_PER_FRAME = 1000
"""Where a file with many samples has more than this per frame, its clock has jumped by days, and
the model would be given the same few pictures for hours."""


@dataclass(frozen=True)
class ShownFrame:
    """One frame and the samples that show it.

    Attributes:
        frame: as decoded.
        first, last: indices into `FrameSampler.times_s`, inclusive.
    """

    frame: DecodedFrame
    first: int
    last: int


class FrameSampler:
    """Frames of one video file at a fixed rate.

    Opening lists the file's packets, so that times and duration are measured, and decodes its
    first frame. Takes the memory of a few decoded frames, and some tens of bytes per packet.

    Args:
        path: of the file.
        fps: samples per second of video, above 0.
        watch: observer of reading and decoding.
        decode_on: where the sampled frames are decoded; see `settings.CPU`. The first frame is
            decoded on the CPU, too.
        stream, raw_fps: see `VideoFile`.

    Attributes:
        times_s: (T,) sampled instants in seconds, strictly rising; 0 is the start of the file as
            players count it.

    Raises:
        VideoError: the file is missing, not a video, encrypted, or holds no frame that can be
            decoded.
    """

    times_s: npt.NDArray[np.float64]

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        fps: float,
        watch: Watch = UNWATCHED,
        decode_on: str = CPU,
        stream: int | None = None,
        raw_fps: float | None = None,
    ) -> None:
        self._path = path
        self._choice: dict[str, Any] = {"stream": stream, "raw_fps": raw_fps}
        self._watch = watch
        self._decode_on = decode_on
        with self._file() as file:
            self._packets, first = file.measure()
            self._facts = file.facts
            damaged, damaged_at_start = file.damaged, file.damaged_at_start
            read_to = file.read_to
            others = file.other_tracks
            counts_packets = not file.stores_presentation_times
        self._size_bytes = Path(path).stat().st_size
        if first is None or not self._packets.shown.any():
            raise VideoError(
                f"{printable(path)}: none of its {len(self._packets)} packets gives a frame; "
                "the file is damaged or protected, fetch it again"
            )
        # What precedes the first key packet of a video cut from a longer one is not damage.
        is_cut = first.packet == int(np.argmax(self._packets.keys))
        self._cut_off = damaged_at_start if is_cut else 0
        self._damaged = self._damaged_at_start = damaged - self._cut_off
        self._first_size = first.shown_size
        self._first_fingerprint = None if decode_on == CPU else _fingerprint(first)
        self._timeline = self._build_timeline(first, counts_packets=counts_packets)
        self._notes = {"times": self._timeline.note} if self._timeline.note else {}
        if others is not None and stream is None:
            self._notes["tracks"] = others
        self._holes = find_holes(self._timeline.ticks, self._timeline.time_base)
        self._sample(fps)
        self._skip_undecodable_start(first)
        self._implausible = tuple(
            implausible(
                self._timeline,
                self._facts,
                joined=bool(self._packets.jumps),
                holes=self._holes,
                size_bytes=self._size_bytes,
                read_to=read_to,
            )
        )

    @property
    def info(self) -> VideoInfo:
        """What was measured; `damaged_packets` counts those met so far in decoding."""
        height, width = self._first_size
        return VideoInfo(
            path=os.fspath(self._path),
            duration_s=float(self._timeline.duration),
            width=width,
            height=height,
            fps=self._timeline.average_fps,
            constant_rate=self._timeline.rate is not None or len(self._timeline) == 1,
            codec=self._facts.codec,
            frames=len(self._timeline),
            size_bytes=self._size_bytes,
            damaged_packets=self._damaged,
            **asdict(self._facts.container),
        )

    @property
    def left_to_cpu(self) -> bool:
        """Whether the CPU decoded the video because the GPU could not."""
        return "cpu" in self._notes

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a user should know about the file, as found so far: damage, unusual times, …"""
        damage = (
            [f"damaged packets: {self._damaged}; the frame before each is shown instead"]
            if self._damaged
            else []
        )
        return (*damage, *self._notes.values(), *self._implausible)

    def frames(self, *, skip: bool = True) -> Iterator[ShownFrame]:
        """Decode and yield the sampled frames in order; together they cover 0..T-1 once.

        Decodes only what is needed where the file's times can be trusted, else everything. A
        frame that cannot be decoded is replaced by the one before it, which a player would
        continue to show, or by the first one if there is none before. Every call decodes again.

        A GPU gives the same frames or none: the first one is compared with that of the CPU, and
        what a GPU may decode differently is left to the CPU, or refused if the GPU is required.
        Damage within a picture is not always detected there.

        Args:
            skip: False decodes everything on the CPU in any case; the frames are the same.

        Raises:
            VideoError: the file has changed and no longer gives a frame; or the required GPU
                cannot decode it.
        """
        self._damaged = self._damaged_at_start
        done = 0
        if skip and self._decode_on != CPU:
            try:
                for shown in self._frames_on_card():
                    yield shown
                    done += 1
                return
            except (CudaError, SkippingError) as error:
                self._leave_card(error)
        if skip and self._timeline.skippable:
            try:
                for shown in islice(self._frames_by_skipping(CPU), done, None):
                    yield shown
                    done += 1
            except SkippingError as error:
                self._notes["skipping"] = f"decoded without skipping, from the start: {error}"
        yield from self._frames_in_sequence(done)

    def _frames_on_card(self) -> Iterator[ShownFrame]:
        if self._facts.codec not in EXACT_CODECS:
            raise CudaError(f"{self._facts.codec} is decoded on the CPU alone")
        if not self._timeline.skippable:
            raise CudaError("it must be decoded from the start, which is done on the CPU alone")
        yield from self._frames_by_skipping(self._decode_on)

    def _leave_card(self, error: CudaError | SkippingError) -> None:
        if not may_use_cpu(self._decode_on):
            raise VideoError(
                f"{printable(self._path)}: cannot be decoded on {self._decode_on}: {error}; leave "
                "such videos to the CPU with --decode-on auto (decode_on='auto')"
            ) from error
        self._notes["cpu"] = f"decoded on the CPU: {error}"

    def _frames_by_skipping(self, decode_on: str) -> Iterator[ShownFrame]:
        wanted = self._frames[np.flatnonzero(np.diff(self._frames, prepend=-1))]
        stretches = plan_stretches(self._timeline, self._packets.keys, wanted)
        if stretches is None:
            raise SkippingError("its groups of pictures are not in order")
        with self._file(strict=not self._packets.open_groups, decode_on=decode_on) as file:
            frames = file.decode_stretches(stretches, joins=self._packets.joins)
            unseen = decode_on != CPU
            for frame, (_, first, last) in zip(frames, group_samples(self._frames), strict=True):
                if unseen and _fingerprint(frame) != self._first_fingerprint:
                    raise CudaError("its first picture is another one there than on the CPU")
                unseen = False
                yield self._shown(frame, first, last)

    def _frames_in_sequence(self, done: int) -> Iterator[ShownFrame]:
        """Yield the frames after the first `done` ones, decoding every one from the start."""
        runs = islice(group_samples(self._frames), done, None)
        run = next(runs, None)
        if run is None:
            return
        shown: DecodedFrame | None = None
        with self._file() as file:
            for position, frame in self._positions(file):
                self._damaged = file.damaged - self._cut_off
                while run is not None and run[0] < position:
                    yield self._shown(shown or frame, *run[1:])
                    run = next(runs, None)
                if run is not None and run[0] == position:
                    yield self._shown(frame, *run[1:])
                    run = next(runs, None)
                if run is None:
                    return
                shown = frame
            self._damaged = file.damaged - self._cut_off
        if shown is None:
            raise VideoError(f"{printable(self._path)}: gives no frame any more; was it changed?")
        while run is not None:
            yield self._shown(shown, *run[1:])
            run = next(runs, None)

    def _positions(self, file: VideoFile) -> Iterator[tuple[int, DecodedFrame]]:
        """Yield all frames of the file, each with its index on the timeline."""
        if self._timeline.packets is None:
            for count, frame in enumerate(file.decode_all()):
                yield count + file.damaged, frame  # a damaged packet leaves its place empty
            return
        index = np.full(len(self._packets), -1)
        index[self._timeline.packets] = np.arange(len(self._timeline))
        position = -1
        for frame in file.decode_all():
            known = frame.packet is not None and frame.packet < len(index)
            found = int(index[frame.packet]) if known else position + 1
            if found >= 0:  # else it is hidden, or shown before the timeline begins
                position = found
                yield position, frame

    def _file(self, *, strict: bool = False, decode_on: str = CPU) -> VideoFile:
        return VideoFile(
            self._path, strict=strict, watch=self._watch, decode_on=decode_on, **self._choice
        )

    def _shown(self, frame: DecodedFrame, first: int, last: int) -> ShownFrame:
        if frame.shown_size != self._first_size and "size" not in self._notes:
            (height, width), (new_height, new_width) = self._first_size, frame.shown_size
            change = f"from {width}x{height} to {new_width}x{new_height}"
            self._notes["size"] = f"the picture's size changes {change}"
        if frame.corrupt and frame.packet not in self._packets.joins:
            self._notes["corrupt"] = "some frames are shown damaged"
        return ShownFrame(frame, first, last)

    def _build_timeline(self, first: DecodedFrame, *, counts_packets: bool) -> Timeline:
        clock = self._facts.clock
        if counts_packets:
            return timeline_of_output(self._packets, clock)
        if not self._packets.complete:
            # A packet may hold half a frame; only decoding counts frames.
            with self._file() as file:
                decoded = array("q", (frame.packet or 0 for frame in file.decode_all()))
            return timeline_of_output(
                self._packets, clock, decoded=np.frombuffer(decoded, np.int64)
            )
        return timeline_of_presentation(
            self._packets,
            clock,
            first_decoded=first.packet or 0,
            interlaced=first.interlaced,
        )

    def _sample(self, fps: float) -> None:
        timeline = self._timeline
        count = count_instants(timeline.shown, fps)
        most = max(_MANY_SAMPLES, min(_MOST_SAMPLES, _SAMPLES_PER_FRAME * len(timeline)))
        if count > most:
            raise VideoError(
                f"{printable(self._path)}: {count} samples over {float(timeline.duration):.0f} s "
                f"are more than {most} for its {len(timeline)} frames; its clock is damaged, or "
                "lower the rate (fps)"
            )
        first = int(timeline.ticks[0])
        samples = sample_frames(
            timeline.ticks - first,
            end_tick=timeline.end_tick - first,
            time_base=timeline.time_base,
            rate=timeline.rate,
            fps=fps,
        )
        if len(self._holes):
            starts_s = np.asarray((timeline.ticks - first) * float(timeline.time_base), np.float64)
            samples = leave_out_holes(samples, self._holes, starts_s, fps)
        self.times_s, self._frames = samples.times_s + float(timeline.start), samples.frames

    def _skip_undecodable_start(self, first: DecodedFrame) -> None:
        """Let samples before the first frame that can be decoded show that frame."""
        if self._timeline.packets is None or first.packet is None:
            return
        missing = int(np.argmax(self._timeline.packets == first.packet))
        if missing:
            self._notes["start"] = f"the first {missing} frames cannot be decoded"
            self._frames = np.maximum(self._frames, missing)


def _fingerprint(frame: DecodedFrame) -> tuple[object, ...]:
    """Return a value that is equal for two equal decodings: packet, size and pixels."""
    pixels = frame.rgb()
    return frame.packet, pixels.shape, hashlib.sha256(pixels.tobytes()).digest()
