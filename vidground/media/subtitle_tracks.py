"""A result's events shown with its video: burned into the picture, or as a soft track.

The texts reach ffmpeg in a file, never in an argument. Knows neither models nor where results lie.
"""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from vidground.errors import InputError
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
from vidground.results.safe_text import plain_text
from vidground.storage.atomic import atomic_path
from vidground.video.orientation import UPRIGHT

Position = Literal["bottom", "middle", "top"]

# A forced style counts places as SSA did, not as ASS does.
_ALIGNMENTS: dict[Position, int] = {"bottom": 2, "middle": 10, "top": 6}
_ASS_LINES = 288
"""Lines of the picture that font sizes in the ASS of `vidground.results.timed_text` count in."""

_TEXT_FORMATS = {"mov_text": "srt", "srt": "srt", "ass": "ass", "webvtt": "vtt"}
_READERS = {"vtt": "webvtt", "srt": "srt", "ass": "ass"}

# On the way to mov_text, which has no markup, ffmpeg takes `<b>` of SRT and WebVTT for bold type,
# and a backslash for a command. Read as text alone, with its braces, and with word joiners, which
# are not seen, around backslashes, a caption stays what it is.
_AS_IT_IS: Options = {"c:s": "text", "keep_ass_markup": "1"}
_JOINED_BACKSLASH = "\u2060\\\u2060"

_MOST_TAG_LETTERS = 3

# What libass says for a character that no font has, or, of the first one, if there is no font.
_NO_FONT = re.compile(r"failed to find any fallback with glyph 0x([0-9A-Fa-f]+)")
_ANY_GLYPH = 0
_FONT_REMEDY = "install one (apt install fonts-dejavu-core)"


@dataclass(frozen=True, slots=True)
class BurnSettings:
    """How burned-in subtitles look.

    font_percent: height of the letters' line in percent of the picture's height, in [1, 50].
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
    """What a soft track says of itself.

    language: a code of two or three letters (ISO 639), None if it is not known. title: shown by
    players. codec: one of those that the container takes (`vidground.media.containers`), None for
    the usual one.
    """

    language: str | None = None
    title: str | None = None
    codec: str | None = None

    def __post_init__(self) -> None:
        tag = self.language
        if tag is not None and not (
            tag.isascii() and tag.isalpha() and 2 <= len(tag) <= _MOST_TAG_LETTERS
        ):
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
    """Write `video` with the result's events as part of the picture; sound is copied.

    Returns the characters that no font of this machine has, which are boxes in the picture. The
    picture is encoded anew, in the codec of the output's suffix. Soft tracks are left out.
    on_time: is told the seconds done, at last the video's length.

    Raises:
        VideoError: it is no video. InputError: the suffix of `output` is unknown.
        FfmpegError: the program failed, or found no font. FormatError: `output` cannot be
            written, or the extra `formats` is not installed.
    """
    container = container_of(output)
    texts = render(result, "ass", cues=cues)
    timed = TimedVideo(video)
    size = settings.font_percent / 100 * _ASS_LINES
    style = f"Fontsize={size:.2f},Alignment={_ALIGNMENTS[settings.position]}"
    same = container is _container_if_known(Path(video)) or container.takes_all
    options: Options = {
        **container.video,
        **({"c:a": "copy"} if same else container.audio),
        **container.options,
        **exact_times(timed.step),
        "format": container.format,
        "vf": f"subtitles=filename=captions.ass:force_style='{style}',{EVEN_SIZE}",
    }
    source = Input("video", from_origin(timed.origin_s))
    files: dict[str, Path | str] = {"video": Path(video), "captions.ass": texts}
    with atomic_path(output) as temporary:
        streams = [(source, "V:0"), (source, "a?")]
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
            raise FfmpegError(f"{program} found no font to write with; {_FONT_REMEDY}")
    if on_time is not None:  # some programs say nothing of a short run
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
    """Write `video` with the result's events as its first subtitle track, all else copied.

    Subtitles that are there already are kept, behind it; where the container changes, in that
    one's codec. Without events no track is added, for a container holds none that is empty.
    mov_text, of mp4 and mov, shows one text at a time: where events would overlap, they are
    merged (`CueSettings`).

    Raises:
        VideoError: it is no video. InputError: the suffix of `output` is unknown, or its
            container does not take the codec.
        FfmpegError: the program failed, as when the container does not take a stream.
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
    # A cover is no stream that WebM takes.
    streams = [(source, "V" if container.format == "webm" else "v"), (source, "a?")]
    if result.events:
        texts, reading = _track(result, codec, cues)
        files["captions"] = texts
        streams.append((Input("captions", reading), "s:0"))
        # The first in the output, so that its number there is known.
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
                f"{program} does not copy how the picture is turned to {output.suffix}; choose "
                ".mp4 or .mov, or get a newer one"
            )


def _missing_glyphs(line: str) -> list[int]:
    match = _NO_FONT.search(line)
    return [int(match[1], 16)] if match else []


def _track(result: Result, codec: str, cues: CueSettings) -> tuple[str, Options]:
    """Return the texts as a file's content, and the options to read it with."""
    form = _TEXT_FORMATS[codec]
    reading = {**FILES_ONLY, "format": _READERS[form]}
    if codec != "mov_text":
        return render(result, form, cues=cues), reading
    if cues.resolved().overlap == "keep":
        cues = replace(cues, overlap="merge")
    texts = render(result, form, cues=cues).replace("\\", _JOINED_BACKSLASH)
    return texts, {**reading, **_AS_IT_IS}


def _tags(settings: TrackSettings) -> tuple[str, ...]:
    tags = {"language": settings.language, "title": settings.title, "handler_name": settings.title}
    return tuple(f"{name}={plain_text(text)}" for name, text in tags.items() if text)


def _container_if_known(video: Path) -> Container | None:
    return CONTAINERS.get(video.suffix.lower())
