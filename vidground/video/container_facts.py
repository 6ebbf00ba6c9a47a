"""What a container states about its streams, which of them is read, and what does not fit what is
measured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import av
import numpy as np
import numpy.typing as npt
from av.stream import Discard, Disposition

from vidground.errors import VideoError
from vidground.storage.files import printable
from vidground.video.pyav import has_format_flag, positive_fraction, positive_fractions
from vidground.video.timecode import find_timecode
from vidground.video.timeline import RAW_FPS, Clock, Timeline

if TYPE_CHECKING:
    from os import PathLike

    from av import VideoStream
    from av.container import InputContainer

_NOT_FOOTAGE = Disposition.attached_pic | Disposition.timed_thumbnails

_ANYWHERE = "mov"
"""Containers of this family have an index; the pictures need not reach to the end of the file."""

_CLAIM_TOLERANCE_S = 1.0
_CLAIM_TOLERANCE = 0.1
"""A header may be wrong about the length by this many seconds, or by this share of it."""

_UNREAD = 0.1
_UNREAD_BYTES = 1 << 12
"""Share of a file, and bytes, that may follow the last picture: an index, tags, sound."""


@dataclass(frozen=True, slots=True)
class ContainerFacts:
    """Timecode and sound of a file; the fields are those of `VideoInfo`."""

    timecode: str | None
    sound_tracks: int
    sound_channels: int | None
    sound_rate: int | None


@dataclass(frozen=True, slots=True)
class StreamFacts:
    """What the container states about the chosen stream.

    Attributes:
        codec: its short name.
        clock: its time base, rates and start.
        claimed_s: possible meanings of the length in the header, of the stream or else of the
            file, in seconds; empty if it states none.
        rate_is_guessed: whether neither times nor a frame rate are stored.
        sequential: whether the pictures are stored in order and to the end of the file, which
            another video track may continue.
        container: timecode and sound.
        unknown_sound: positions among the sound tracks of those without a decoder.
        bits: per sample of the picture; 8 if unknown.
    """

    codec: str
    clock: Clock
    claimed_s: tuple[float, ...]
    rate_is_guessed: bool
    sequential: bool
    container: ContainerFacts
    unknown_sound: tuple[int, ...] = ()
    bits: int = 8


def stream_facts(
    container: InputContainer, stream: VideoStream, *, raw_fps: float | None = None
) -> StreamFacts:
    """Return what the container states about a stream; reads no packet.

    raw_fps: frame rate of a raw stream as the user states it; it overrides the stream's own.
    """
    context = stream.codec_context
    rates = positive_fractions(stream.average_rate, stream.guessed_rate)
    untimed = has_format_flag(container, "no_timestamps")
    if untimed and raw_fps is not None:
        rates = (Fraction(raw_fps).limit_denominator(1001),)
    alone = other_tracks(container, stream) is None
    return StreamFacts(
        codec=context.name,
        clock=Clock(time_base_of(stream), rates, _sound_start_s(container)),
        claimed_s=_claimed_s(container, stream, alone=alone),
        rate_is_guessed=untimed and raw_fps is None and not positive_fraction(context.framerate),
        sequential=alone and not container.format.name.startswith(_ANYWHERE),
        container=container_facts(container, stream),
        unknown_sound=tuple(
            position
            for position, track in enumerate(container.streams.audio)
            if track.codec_context is None
        ),
        bits=context.format.components[0].bits if context.format is not None else 8,
    )


def time_base_of(stream: VideoStream) -> Fraction:
    """Return the seconds per tick of a stream's times."""
    return positive_fraction(stream.time_base) or Fraction(1, av.time_base)


def _claimed_s(container: InputContainer, stream: VideoStream, *, alone: bool) -> tuple[float, ...]:
    if stream.duration:
        return (float(stream.duration * time_base_of(stream)),)
    if container.duration and alone:  # some writers count from 0, not from the start
        file_s = container.duration / av.time_base
        return (file_s, file_s - (container.start_time or 0) / av.time_base)
    return ()


def _sound_start_s(container: InputContainer) -> Fraction | None:
    """Return when the first sound track starts, on the file's own clock."""
    starts = []
    for track in container.streams.audio:
        time_base = positive_fraction(track.time_base)
        if track.start_time is not None and time_base is not None:
            starts.append(track.start_time * time_base)
    return min(starts, default=None)


def container_facts(container: InputContainer, stream: VideoStream) -> ContainerFacts:
    """Return timecode and sound as the container states them; reads no packet.

    Args:
        container: an open file.
        stream: the one whose pictures are used, whose own timecode comes first. A QuickTime
            timecode track counts where neither the stream nor the file is tagged.
    """
    tagged = (stream, container, *container.streams)
    sound = container.streams.audio
    # A codec that the library does not know has no context, so its channels are unknown.
    context = sound[0].codec_context if sound else None
    return ContainerFacts(
        timecode=find_timecode(entry.metadata for entry in tagged),
        sound_tracks=len(sound),
        sound_channels=(context.channels or None) if context is not None else None,
        sound_rate=(context.rate or None) if context is not None else None,
    )


def implausible(
    timeline: Timeline,
    facts: StreamFacts,
    *,
    joined: bool,
    holes: npt.NDArray[np.int64],
    size_bytes: int,
    read_to: int | None,
) -> Iterator[str]:
    """Yield warnings in words for users.

    Args:
        timeline: as measured.
        facts: what the container states.
        joined: whether the clock is set anew within the file, of which a header knows nothing.
        holes: from `vidground.video.sampling.find_holes`.
        size_bytes: of the file.
        read_to: end of the last packet of the video, in bytes; None if unknown.
    """
    if facts.rate_is_guessed:
        yield (
            f"the file states neither times nor a frame rate; {RAW_FPS} frames per second are "
            "assumed; --raw-fps (SamplingSettings.raw_fps) states the true rate"
        )
    if len(holes):
        yield _about_holes(timeline, holes)
    end_s, shown_s = float(timeline.duration), float(timeline.shown)
    tolerance_s = max(_CLAIM_TOLERANCE_S, _CLAIM_TOLERANCE * shown_s)
    errors_s = [abs(claim - length_s) for claim in facts.claimed_s for length_s in (shown_s, end_s)]
    if errors_s and not joined and min(errors_s) > tolerance_s:
        yield f"the header says {facts.claimed_s[0]:.1f} s, the frames last {shown_s:.1f} s"
    unread = size_bytes - read_to if read_to is not None and facts.sequential else 0
    if unread > max(_UNREAD_BYTES, _UNREAD * size_bytes):
        yield (
            f"the last {unread / size_bytes:.0%} of the file ({unread} of {size_bytes} bytes) "
            "contain no readable picture; it may be overwritten, incomplete, or several files "
            "appended to each other: check its end in a player"
        )


def _about_holes(timeline: Timeline, holes: npt.NDArray[np.int64]) -> str:
    start, end = (float(timeline.ticks[holes[0] + step] * timeline.time_base) for step in (0, 1))
    more = len(holes) - 1
    others = f", nor in {more} other {'pause' if more == 1 else 'pauses'}" if more else ""
    return f"no picture was recorded between {start:.1f} and {end:.1f} s{others}; not sampled there"


def choose_track(
    container: InputContainer, path: str | PathLike[str], wanted: int | None
) -> VideoStream:
    """Return the video track to read; packets of all other streams will be skipped.

    Args:
        container: an open file.
        path: of the file, for messages.
        wanted: number of the stream in the file; None for the one a player would show, which is
            the best one that is not a still cover.

    Raises:
        VideoError: there is no such track, or no decoder for it.
    """
    streams = container.streams.video
    footage = [stream for stream in streams if not stream.disposition & _NOT_FOOTAGE]
    if wanted is not None:
        footage = [stream for stream in streams if stream.index == wanted]
        if not footage:
            tracks = "; ".join(map(describe_track, streams)) or "none"
            raise _error(path, f"stream {wanted} is not a video track; its video tracks: {tracks}")
    if not footage:
        holds = "only cover art" if streams else "no video stream"
        raise _error(path, f"the file holds {holds}; name a file with footage")
    decodable = [stream for stream in footage if stream.codec_context is not None]
    if not decodable:
        raise _error(path, "no decoder for its video; convert it to H.264 first")
    best = container.streams.best("video")
    best_index = best.index if best is not None else -1
    chosen = next((stream for stream in decodable if stream.index == best_index), decodable[0])
    for stream in container.streams:
        if stream.index != chosen.index:
            stream.discard = Discard.all
    return chosen


def other_tracks(container: InputContainer, chosen: VideoStream) -> str | None:
    """Return a warning that names all video tracks, if there are several besides still covers."""
    footage = [s for s in container.streams.video if not s.disposition & _NOT_FOOTAGE]
    others = [stream for stream in footage if stream.index != chosen.index]
    if not others:
        return None
    named = "; ".join(map(describe_track, others))
    return (
        f"the file has {len(others) + 1} video tracks: {describe_track(chosen)} is used, not "
        f"{named}; --stream N (SamplingSettings.stream) chooses"
    )


def describe_track(stream: VideoStream) -> str:
    """Return a video track in a few words: "stream 2 (h264, 640x360, 'Camera B')"."""
    context = stream.codec_context
    facts = ["unknown codec"] if context is None else [context.name]
    if context is not None and context.width:
        facts.append(f"{context.width}x{context.height}")
    title = stream.metadata.get("title") or stream.metadata.get("service_name")
    return f"stream {stream.index} ({', '.join([*facts, *([printable(title)] if title else [])])})"


def _error(path: str | PathLike[str], what: str) -> VideoError:
    return VideoError(f"{printable(path)}: {what}")
