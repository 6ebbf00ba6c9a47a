"""Makes small films with sound and their results, for the tests of what ffmpeg makes of them."""

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest

from tests.helpers.result_makers import PROVENANCE
from tests.helpers.video_files import index_picture, make_video, plain_decode, read_index
from vidground.media.ffmpeg import Program, find_program
from vidground.media.timed_video import TimedVideo
from vidground.results.types import Captions, Event
from vidground.storage.files import file_sha256
from vidground.video.info import VideoInfo

SOUND_RATE = 8000
_CHUNK = 1000


def programs() -> list[Any]:
    """The ffmpeg programs there are on this machine: the system's, and the one in the package."""
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
    bundled = Program(imageio_ffmpeg.get_ffmpeg_exe(), "bundled", "imageio-ffmpeg")
    found = find_program()
    each = [found] if found.path == bundled.path else [found, bundled]
    return [pytest.param(program, id=program.origin) for program in each]


def loses_turns(program: Program) -> bool:
    """Whether it cannot copy to Matroska how a picture is turned."""
    return program.version.startswith(("5.", "6.0"))


def make_film(
    path: Path,
    *,
    frames: int = 75,
    fps: Fraction | int = 25,
    tone_s: float = 1.0,
    sound_s: float | None = None,
    **options: Any,
) -> Path:
    """Write a video as `make_video` does, whose sound is silent up to `tone_s`, then a tone.

    sound_s: the sound's length; None for the video's. options: for `make_video`.
    """
    options.setdefault("options", {"preset": "ultrafast", "b_strategy": "0", "bf": "2"})
    pictures = path.with_name("pictures.mov")  # which keeps decoding times
    make_video(pictures, frames=frames, fps=fps, **options)
    length = round(SOUND_RATE * (float(frames / Fraction(fps)) if sound_s is None else sound_s))
    with av.open(str(pictures)) as reader, av.open(str(path), "w") as writer:
        stream = reader.streams.video[0]
        copy = writer.add_stream_from_template(stream)
        codec = "libopus" if path.suffix == ".webm" else "aac"
        sound = writer.add_stream(codec, rate=SOUND_RATE, layout="mono")
        packets = [packet for packet in reader.demux(stream) if packet.size]
        for frame in _tone(length, round(tone_s * SOUND_RATE)):
            writer.mux(sound.encode(frame))
            while packets and packets[0].dts * packets[0].time_base <= frame.pts / SOUND_RATE:
                packets[0].stream = copy
                writer.mux(packets.pop(0))
        writer.mux(sound.encode(None))
        for packet in packets:
            packet.stream = copy
            writer.mux(packet)
    pictures.unlink()
    return path


def make_unknown_sound(path: Path, film: Path) -> Path:
    """Copy a film with its sound as two tracks, the second of which states an unknown codec.

    path: of an MP4 or MOV file.
    """
    with av.open(str(film)) as reader, av.open(str(path), "w") as writer:
        pictures, sound = reader.streams.video[0], reader.streams.audio[0]
        copies = {
            pictures: [writer.add_stream_from_template(pictures)],
            sound: [writer.add_stream_from_template(sound) for _ in range(2)],
        }
        for packet in reader.demux():
            for copy in copies[packet.stream] if packet.size else ():
                again = av.Packet(bytes(packet))
                again.pts, again.dts, again.time_base = packet.pts, packet.dts, packet.time_base
                again.duration = packet.duration
                again.is_keyframe, again.stream = packet.is_keyframe, copy
                writer.mux(again)
    content = path.read_bytes()
    at = content.rindex(b"stsd")  # the last track's description
    codec = content[at : at + 256].replace(b"mp4a", b"zzzz").replace(b"esds", b"zsds")
    path.write_bytes(content[:at] + codec + content[at + 256 :])
    return path


def make_sounding(
    path: Path,
    *,
    picture_s: float,
    sound_s: float,
    codec: str = "libx264",
    sound: str = "aac",
    frames: int = 100,
) -> Path:
    """Write a video at 25 frames per second, and 6 s of silence, that begin at these times."""
    with av.open(str(path), "w") as container:
        pictures = container.add_stream(codec, rate=25)
        pictures.width, pictures.height, pictures.pix_fmt = 64, 48, "yuv420p"
        pictures.codec_context.max_b_frames = 0
        voice = container.add_stream(sound, rate=48_000, layout="mono")
        packets = []
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(index_picture(index, (64, 48)), format="rgb24")
            frame.pts, frame.time_base = index + round(picture_s * 25), Fraction(1, 25)
            packets += pictures.encode(frame)
        packets += pictures.encode(None)
        fifo = av.AudioFifo()
        silence = av.AudioFrame.from_ndarray(
            np.zeros((1, 6 * 48_000), np.float32), format="fltp", layout="mono"
        )
        silence.sample_rate = 48_000
        fifo.write(silence)
        done = 0
        while (part := fifo.read(voice.codec_context.frame_size or 1024, partial=True)) is not None:
            part.pts, part.time_base = done + round(sound_s * 48_000), Fraction(1, 48_000)
            part.sample_rate = 48_000
            done += part.samples
            packets += voice.encode(part)
        packets += voice.encode(None)
        for packet in sorted(packets, key=lambda each: each.dts * each.time_base):
            container.mux(packet)
    return path


def _tone(length: int, silent: int) -> Iterator[av.AudioFrame]:
    for start in range(0, length, _CHUNK):
        index = np.arange(start, min(start + _CHUNK, length))
        wave = np.where(index < silent, 0.0, 0.5 * np.sin(index * 2 * np.pi * 440 / SOUND_RATE))
        frame = av.AudioFrame.from_ndarray(wave[None].astype(np.float32), "fltp", "mono")
        frame.sample_rate, frame.pts, frame.time_base = SOUND_RATE, start, Fraction(1, SOUND_RATE)
        yield frame


def indices(path: Path) -> list[int]:
    """The numbers that the frames of a film show, decoded one after another."""
    return [read_index(pixels) for _, pixels in plain_decode(path)]


def sound(path: Path) -> tuple[float, npt.NDArray[np.float32]]:
    """The first sample's time, in seconds after the first picture, and all samples."""
    with av.open(str(path)) as container:
        picture = next(container.decode(video=0))
        start_s = float(picture.pts * picture.time_base)
    chunks, first_s = [], 0.0
    with av.open(str(path)) as container:
        for frame in container.decode(audio=0):
            if not chunks:
                first_s = float(frame.pts * frame.time_base) - start_s
            chunks.append(frame.to_ndarray().astype(np.float32).mean(axis=0))
            rate = frame.sample_rate
    samples = np.concatenate(chunks)
    assert rate == SOUND_RATE or path.suffix == ".webm"
    return first_s, samples


def tone_start_s(path: Path) -> float:
    """When the tone begins, in seconds after the first picture."""
    first_s, samples = sound(path)
    rate = 48000 if path.suffix == ".webm" else SOUND_RATE
    return first_s + int(np.argmax(np.abs(samples) > 0.1)) / rate


def info_of(path: Path) -> VideoInfo:
    """What a result says of the film."""
    return replace(TimedVideo(path).info, sha256=file_sha256(path))


def captions_of(path: Path, *events: Event) -> Captions:
    """A result about the film."""
    return Captions(events, info_of(path), PROVENANCE)
