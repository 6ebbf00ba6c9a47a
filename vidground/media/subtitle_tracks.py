"""Show a result's events with its video: burned into the picture, or as a soft track.

Texts reach ffmpeg in a file, never in an argument. Knows neither models nor result files.
"""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from vidground.errors import InputError
from vidground.language.safe_text import plain_text
from vidground.media.containers import CONTAINERS, EVEN_SIZE, Container, container_of
from vidground.media.ffmpeg import (
    FILES_ONLY,
    FfmpegError,
    Input,
    Options,
    Program,
    exact_times,
    from_origin,
    run,
)
from vidground.media.timed_video import TimedVideo
from vidground.results.cues import UNSHAPED, CueSettings
from vidground.results.documents import Result
from vidground.results.formats import render
from vidground.storage.atomic import atomic_path
from vidground.video.orientation import UPRIGHT

Position = Literal["bottom", "middle", "top"]

# A forced style numbers alignments as SSA did, not as ASS does.
_ALIGNMENTS: dict[Position, int] = {"bottom": 2, "middle": 10, "top": 6}
_ASS_HEIGHT = 288
"""Height of the picture in the units of font sizes, in ASS of `vidground.results.timed_text`."""

_TEXT_FORMATS = {"mov_text": "srt", "srt": "srt", "ass": "ass", "webvtt": "vtt"}
_DEMUXERS = {"vtt": "webvtt", "srt": "srt", "ass": "ass"}

# When ffmpeg converts to mov_text, which has no markup, it reads `<b>` of SRT as bold type and a
# backslash as a command. A caption survives unchanged if it is read as plain text that keeps its
# braces, with invisible word joiners around backslashes.
_PLAIN_TEXT: Options = {"c:s": "text", "keep_ass_markup": "1"}
_JOINED_BACKSLASH = "\u2060\\\u2060"

# libass logs this for a character that no font has; if there is no font at all, for character 0.
_NO_FONT = re.compile(r"failed to find any fallback with glyph 0x([0-9A-Fa-f]+)")
_ANY_GLYPH = 0
_FONT_REMEDY = "install one (apt install fonts-dejavu-core)"


@dataclass(frozen=True, slots=True)
class BurnSettings:
    """How burned-in subtitles look.

    Attributes:
        font_percent: font size in percent of the picture's height, in [1, 50].
        position: of the text in the picture.

    Raises:
        InputError: a value is out of range.
    """

    font_percent: float = 7.0
    position: Position = "bottom"

    def __post_init__(self) -> None:
        if not 1 <= self.font_percent <= 50:
            raise InputError(f"font size is {self.font_percent}; it must be from 1 to 50 percent")
        if self.position not in get_args(Position):
            known = ", ".join(get_args(Position))
            raise InputError(f"position is {self.position!r}; it must be one of {known}")


@dataclass(frozen=True, slots=True)
class TrackSettings:
    """Codec and metadata of a soft track.

    Attributes:
        language: ISO 639 code of two or three letters; None if unknown.
        title: shown by players; None for none.
        codec: one that the container takes (`vidground.media.containers`); None for its usual one.

    Raises:
        InputError: the language is not a code of two or three letters.
    """

    language: str | None = None
    title: str | None = None
    codec: str | None = None

    def __post_init__(self) -> None:
        tag = self.language
        if tag is not None and not (tag.isascii() and tag.isalpha() and len(tag) in (2, 3)):
            raise InputError(f"language is {tag!r}; it must be a code like en or deu")


def burn(
    video: str | os.PathLike[str],
    result: Result,
    output: Path,
    program: Program,
    settings: BurnSettings = BurnSettings(),
    *,
    cues: CueSettings = UNSHAPED,
    on_time: Callable[[float], None] | None = None,
) -> str:
    """Write `video` with the result's events drawn into the picture.

    The picture is re-encoded in the codec of the output's suffix; sound is copied if the container
    stays the same. Soft tracks and sound that cannot be decoded are left out.

    Args:
        video: the file to show.
        result: whose events are drawn.
        output: the file to write; its suffix chooses the container.
        program: the ffmpeg to run.
        settings: how the text looks.
        cues: how events become cues.
        on_time: called with the seconds done; the last call has the video's length.

    Returns:
        The characters that no font of this machine has; they appear as boxes.

    Raises:
        VideoError: `video` cannot be read as a video.
        InputError: the suffix of `output` is unknown.
        FfmpegError: ffmpeg failed, or found no font.
        FormatError: `output` cannot be written, or the extra `formats` is not installed.
    """
    container = container_of(output)
    texts = render(result, "ass", cues=cues)
    timed = TimedVideo(video)
    size = settings.font_percent / 100 * _ASS_HEIGHT
    style = f"Fontsize={size:.2f},Alignment={_ALIGNMENTS[settings.position]}"
    same = container is _container_if_known(Path(video)) or container.takes_all
    options: Options = {
        **container.encoding(timed.bits),
        **({"c:a": "copy"} if same else container.audio),
        **container.options,
        **exact_times(timed.step),
        "format": container.format,
        "vf": f"subtitles=filename=captions.ass:force_style='{style}',{EVEN_SIZE}",
    }
    source = Input("video", from_origin(timed.origin_s))
    files: dict[str, Path | str] = {"video": Path(video), "captions.ass": texts}
    with atomic_path(output) as temporary:
        streams = [(source, "V:0"), *((source, track) for track in timed.sound)]
        missing: set[int] = set()
        run(
            program,
            files,
            streams,
            temporary,
            options,
            on_time=on_time,
            on_warning=lambda line: missing.update(_missing_glyphs(line)),
        )
        if _ANY_GLYPH in missing:
            raise FfmpegError(f"{program} found no font; {_FONT_REMEDY}")
    if on_time is not None:  # some versions report no progress in a short run
        on_time(timed.info.duration_s)
    return "".join(map(chr, sorted(missing)))


def mux(
    video: str | os.PathLike[str],
    result: Result,
    output: Path,
    program: Program,
    settings: TrackSettings = TrackSettings(),
    *,
    cues: CueSettings = UNSHAPED,
) -> None:
    """Write `video` with the result's events as its first subtitle track; copy everything else.

    Sound tracks of unknown codecs are left out.

    Existing subtitle tracks follow it; if the container changes, they are converted to its codec.
    Without events no track is added, since containers hold no empty track. mov_text, of mp4 and
    mov, shows one text at a time: overlapping events are merged (`CueSettings`).

    Args:
        video: the file to copy.
        result: whose events make the track.
        output: the file to write; its suffix chooses the container.
        program: the ffmpeg to run.
        settings: codec and metadata of the track.
        cues: how events become cues.

    Raises:
        VideoError: `video` cannot be read as a video.
        InputError: the suffix of `output` is unknown, or its container does not take the codec.
        FfmpegError: ffmpeg failed, for instance because the container does not take a stream.
        FormatError: `output` cannot be written, or ASS needs the extra `formats`.
    """
    container = container_of(output)
    codec = settings.codec or container.subtitles[0]
    if codec not in container.subtitles:
        raise InputError(
            f"{output.suffix} takes no {codec} subtitles; choose from "
            f"{', '.join(container.subtitles)}, or another suffix"
        )
    same = container is _container_if_known(Path(video))
    options: dict[str, str | tuple[str, ...] | None] = {
        **container.options,
        "format": container.format,
        "c": "copy",
        "c:s": "copy" if same else container.subtitles[0],
    }
    timed = TimedVideo(video)
    source = Input("video", from_origin(timed.origin_s))
    files: dict[str, Path | str] = {"video": Path(video)}
    # WebM takes no cover picture.
    pictures = "V" if container.format == "webm" else "v"
    streams = [(source, pictures), *((source, track) for track in timed.sound)]
    if result.events:
        texts, input_options = _track(result, codec, cues)
        files["captions"] = texts
        streams.append((Input("captions", input_options), "s:0"))
        # The first subtitle track of the output, so that its index is known.
        options["c:s:0"] = codec if codec == "mov_text" else "copy"
        options["metadata:s:s:0"] = _tags(settings)
    streams.append((source, "s?"))
    if container.takes_all:
        streams.append((source, "t?"))
    with atomic_path(output) as temporary:
        run(program, files, streams, temporary, options)
        turned = timed.orientation
        if turned != UPRIGHT and TimedVideo(temporary).orientation != turned:
            raise FfmpegError(
                f"{program} does not copy the picture's rotation to {output.suffix}; choose .mp4 "
                "or .mov, or install a newer ffmpeg"
            )


def _missing_glyphs(line: str) -> list[int]:
    match = _NO_FONT.search(line)
    return [int(match[1], 16)] if match else []


def _track(result: Result, codec: str, cues: CueSettings) -> tuple[str, Options]:
    """Return the content of the subtitle file, and the options to read it with."""
    text_format = _TEXT_FORMATS[codec]
    options = {**FILES_ONLY, "format": _DEMUXERS[text_format]}
    if codec != "mov_text":
        return render(result, text_format, cues=cues), options
    if cues.resolved().overlap == "keep":
        cues = replace(cues, overlap="merge")
    texts = render(result, text_format, cues=cues).replace("\\", _JOINED_BACKSLASH)
    return texts, {**options, **_PLAIN_TEXT}


def _tags(settings: TrackSettings) -> tuple[str, ...]:
    tags = {"language": settings.language, "title": settings.title, "handler_name": settings.title}
    return tuple(f"{name}={plain_text(text)}" for name, text in tags.items() if text)


def _container_if_known(video: Path) -> Container | None:
    return CONTAINERS.get(video.suffix.lower())
