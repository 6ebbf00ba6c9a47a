"""Write clips of a video to files of their own, and join them into a reel, with ffmpeg.

`vidground.media.cuts` chooses a clip's frames on the video's own timeline; the written clip is then
measured. Knows nothing of results.
"""

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vidground.errors import InputError, VideoError
from vidground.media.containers import EVEN_SIZE, Container, container_of
from vidground.media.cuts import Cut, CutSettings, Cutter
from vidground.media.ffmpeg import (
    LIST_ONLY,
    VIDEO_ONLY,
    FfmpegError,
    Input,
    Options,
    Program,
    exact_times,
    from_origin,
    run,
)
from vidground.media.timed_video import TimedVideo
from vidground.storage.atomic import atomic_path
from vidground.storage.files import printable

_PICTURES, _ANY_SOUND = "V:0", "a?"

_SEEK_MARGIN_S = 1.0
"""Seek to this long before the key frame: without an index, seeking may land too late."""


@dataclass(frozen=True, slots=True)
class Clip:
    """A clip that was written.

    Attributes:
        path: of its file.
        cut: its frames; `cut.packets` is None if the clip was re-encoded.
        duration_s: its measured length in seconds.
    """

    path: Path
    cut: Cut
    duration_s: float


class ClipMaker:
    """Makes clips of one video.

    Args:
        video: the file; its packets are listed once, on construction.
        program: the ffmpeg to run; None for planning only.
        settings: how to cut.

    Raises:
        VideoError: the file cannot be read as a video.
        InputError: the mode is "fast", and packets of this file cannot be copied.
    """

    def __init__(
        self,
        video: str | os.PathLike[str],
        program: Program | None,
        settings: CutSettings = CutSettings(),
    ) -> None:
        self._path = Path(video)
        self._program = program
        self._video = TimedVideo(video)
        if not self._video.has_index and settings.mode != "precise":
            if settings.mode == "fast":
                raise InputError(
                    f"{printable(video)}: packets can be copied from mp4, mov, mkv and webm only, "
                    "which have an index; choose auto or precise"
                )
            settings = CutSettings("precise")
        self._mode = settings.mode
        self._cutter = Cutter(self._video.timeline, self._video.packets, settings)

    @property
    def duration_s(self) -> float:
        """The video's measured length in seconds."""
        return self._video.info.duration_s

    @property
    def left_out(self) -> str | None:
        """A warning about sound tracks that clips do not have; None if they have all."""
        return self._video.left_out

    def plan(self, start_s: float, end_s: float) -> Cut:
        """Return what a clip of [start_s, end_s) would hold; see `Cutter.cut`."""
        return self._cutter.cut(start_s, end_s)

    def make(self, start_s: float, end_s: float, output: Path) -> Clip:
        """Cut out [start_s, end_s), in seconds, and write it to `output`.

        The clip has all sound tracks but those that have no decoder (`left_out`).

        If copied packets do not give the expected frames, the clip is re-encoded; mode "fast"
        keeps them and reports the actual length.

        Raises:
            InputError: the clip begins behind the video's end, or `output` has an unknown suffix.
            FfmpegError: ffmpeg failed, or wrote no frame.
            FormatError: `output` cannot be written.
        """
        cut = self._cutter.cut(start_s, end_s)
        container = container_of(output)
        with atomic_path(output) as temporary:
            if cut.packets is not None:
                try:
                    self._copy(cut, temporary, container)
                    measured = TimedVideo(temporary)
                    turned = measured.orientation != self._video.orientation
                    if turned and self._mode == "fast":
                        raise FfmpegError(
                            f"{self._program} does not copy the picture's rotation to "
                            f"{output.suffix}; choose auto or precise"
                        )
                    same = measured.info.frames == cut.frames and not turned
                    if same or self._mode == "fast":
                        return Clip(output, cut, measured.shown_s)
                except (FfmpegError, VideoError):  # packets that this container does not take
                    if self._mode == "fast":
                        raise
                cut = self._encoded(start_s, end_s)
            return Clip(output, cut, self._encode(cut, temporary, container))

    def join(self, clips: Sequence[Clip], output: Path) -> float:
        """Concatenate clips of this video; return the length in seconds.

        Copied and re-encoded clips cannot be concatenated: if there are both, the copied ones are
        re-encoded too. Sound is always re-encoded, so that it has no gaps between clips.

        Raises:
            InputError: there is no clip, or `output` has an unknown suffix.
            FfmpegError: see `make`.
            FormatError: see `make`.
        """
        if not clips:
            raise InputError("there is no clip to join")
        container = container_of(output)
        mixed = len({clip.cut.packets is None for clip in clips}) > 1
        with (
            tempfile.TemporaryDirectory(prefix=".vidground-", dir=output.absolute().parent) as name,
            atomic_path(output) as temporary,
        ):
            parts: list[tuple[Path, Cut]] = []
            for number, clip in enumerate(clips):
                part, cut = clip.path, clip.cut
                if mixed and cut.packets is not None:
                    part, cut = Path(name, f"{number}{output.suffix}"), replace(cut, packets=None)
                    self._encode(cut, part, container)
                parts.append((part, cut))
            self._concatenate(parts, temporary, container)
            return TimedVideo(temporary).shown_s

    def _encoded(self, start_s: float, end_s: float) -> Cut:
        settings = CutSettings("precise")
        return Cutter(self._video.timeline, self._video.packets, settings).cut(start_s, end_s)

    def _copy(self, cut: Cut, output: Path, container: Container) -> None:
        """Copy packets: pictures by their number, then sound by time.

        In one run the sound would end where the last pictures are decoded, before they are shown.
        """
        assert cut.packets is not None
        position = f"{self._video.absolute_s(cut.start_s):.7f}"[:-1]  # never rounded up
        seek = {**VIDEO_ONLY, "seek_timestamp": "1", "ss": position}
        written = {"format": container.format, "c": "copy", "map_chapters": "-1"}
        no_earlier = {"copypriorss": "0"}
        with tempfile.TemporaryDirectory(prefix=".vidground-", dir=output.parent) as name:
            pictures = Path(name, "pictures")
            self._run(
                {"video": self._path},
                [(Input("video", seek), _PICTURES)],
                pictures,
                {**written, **no_earlier, "frames:v": str(cut.packets)},
            )
            self._run(
                {"video": self._path, "pictures": pictures},
                [
                    (Input("pictures", VIDEO_ONLY), _PICTURES),
                    *((Input("video", seek), track) for track in self._video.sound),
                ],
                output,
                {
                    **written,
                    **no_earlier,
                    **container.options,
                    **self._timecode(cut),
                    "t": f"{cut.duration_s:.6f}",
                },
            )

    def _encode(self, cut: Cut, output: Path, container: Container) -> float:
        """Encode the frames of `cut` and return the length in seconds.

        If seeking does not give all of them, the file is decoded from its start.
        """
        seek_s = self._seek_s(cut)
        for start_s in (None,) if seek_s is None else (seek_s, None):
            source = Input("video", self._input_options(start_s))
            self._run(
                {"video": self._path},
                [(source, _PICTURES), *((source, track) for track in self._video.sound)],
                output,
                {
                    **container.encoding(self._video.bits),
                    **container.audio,
                    **container.options,
                    **self._filters(cut),
                    **self._timecode(cut),
                    "format": container.format,
                    "map_chapters": "-1",
                },
            )
            try:
                measured = TimedVideo(output)
            except VideoError:  # it has no frame
                measured = None
            if measured is not None and (measured.info.frames == cut.frames or start_s is None):
                return measured.shown_s
        raise FfmpegError(
            f"{printable(self._path)}: nothing can be decoded between {cut.start_s:.3f} and "
            f"{cut.end_s:.3f} s; the file is damaged there"
        )

    def _seek_s(self, cut: Cut) -> float | None:
        """Return where to seek to, in seconds from the file's start; None for the file's start."""
        key_s = self._video.key_before_s(cut.first)
        return key_s - _SEEK_MARGIN_S if key_s is not None and key_s > _SEEK_MARGIN_S else None

    def _input_options(self, start_s: float | None) -> Options:
        options = from_origin(self._video.origin_s)
        if start_s is None:
            return options
        position = f"{self._video.absolute_s(start_s):.6f}"
        return {**options, "seek_timestamp": "1", "noaccurate_seek": None, "ss": position}

    def _timecode(self, cut: Cut) -> Options:
        """Return options that state the clip's own timecode; ffmpeg copies that of the video."""
        if self._video.info.timecode is None:
            return {}
        tag = f"timecode={self._video.timecode_at(cut.start_s) or ''}"  # empty removes it
        return {"metadata": (tag,), "metadata:s:v:0": (tag,)}

    def _filters(self, cut: Cut) -> Options:
        length_s = cut.duration_s
        if self._video.is_timed:
            margin_s = length_s / cut.frames / 2
            first_s = self._video.between_s(cut.first, margin_s)
            end_s = self._video.between_s(cut.end, margin_s)
            frames = f"trim=start={first_s:.6f}:end={end_s:.6f}"
        else:
            frames = f"trim=start_frame={cut.first}:end_frame={cut.end}"
        sound = (
            f"atrim=start={cut.start_s:.6f}:end={cut.end_s:.6f}",
            f"asetpts=PTS-round({cut.start_s:.6f}/TB)",
            "aresample=async=1:first_pts=0",
            f"apad=whole_dur={length_s:.6f}",
        )
        return {
            "vf": f"{frames},setpts=PTS-STARTPTS,{EVEN_SIZE}",
            "af": ",".join(sound),
            **exact_times(self._video.step),
        }

    def _concatenate(
        self, parts: Sequence[tuple[Path, Cut]], output: Path, container: Container
    ) -> None:
        names = {f"part-{number}": path for number, (path, _) in enumerate(parts)}
        length_s = sum(cut.duration_s for _, cut in parts)
        lines = [
            f"file '{name}'\nduration {cut.duration_s:.6f}\n"
            for name, (_, cut) in zip(names, parts, strict=True)
        ]
        options: dict[str, str | tuple[str, ...] | None] = {
            **container.audio,
            **container.options,
            "format": container.format,
            "c:v": "copy",
            "af": f"aresample=async=1:first_pts=0,atrim=end={length_s:.6f}",
        }
        files: dict[str, Path | str] = {**names, "list": "ffconcat version 1.0\n" + "".join(lines)}
        source = Input("list", {**LIST_ONLY, "copyts": None})
        self._run(files, [(source, _PICTURES), (source, _ANY_SOUND)], output, options)

    def _run(
        self,
        files: Mapping[str, Path | str],
        streams: Sequence[tuple[Input, str]],
        output: Path,
        options: Options,
    ) -> None:
        assert self._program is not None, "constructed for planning only"
        run(self._program, files, streams, output, options)
