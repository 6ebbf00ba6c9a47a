"""What a container says of timecode and sound, beside the pictures that are measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vidground.video.timecode import find_timecode

if TYPE_CHECKING:
    from av import VideoStream
    from av.container import InputContainer


@dataclass(frozen=True, slots=True)
class ContainerFacts:
    """Timecode and sound of a file; the fields are those of `VideoInfo`."""

    timecode: str | None
    sound_tracks: int
    sound_channels: int | None
    sound_rate: int | None


def container_facts(container: InputContainer, stream: VideoStream) -> ContainerFacts:
    """Return what the container says; reads no packet.

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
