"""The program ffmpeg: which one there is, and runs of it on files whatever they are called.

The only user of ffmpeg-python, which builds the command lines, and of imageio-ffmpeg, which brings
a program along (both in the extra `media`). The program runs in a folder of its own, where every
file is a link with a plain name: no name of a file and no caption reaches its arguments or its
filters. Knows nothing of results.
"""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from vidground.errors import VidgroundError
from vidground.storage.files import printable

Options = Mapping[str, str | tuple[str, ...] | None]
"""ffmpeg's options without their dash. None: a switch. A tuple: the option once for each."""

OLDEST = (5, 1)

_REMEDY = (
    "install it with the system's package manager (apt install ffmpeg), or get the one that "
    "imageio-ffmpeg brings along with pip install 'vidground[media]'"
)
_VERSION = re.compile(r"ffmpeg version (\S+)")
_RELEASE = re.compile(r"n?(\d+)\.(\d+)")

# Containers that hold a video themselves; playlists name other files and addresses to open.
_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg,h264,hevc,"
    "m4v,obu,ivf,mxf,rm,wtv,nut,dv,yuv4mpegpipe"
)
FILES_ONLY: Mapping[str, str] = {"protocol_whitelist": "file"}
VIDEO_ONLY: Mapping[str, str] = {**FILES_ONLY, "format_whitelist": _FORMATS}
"""Options that keep an input from being a program that opens other files or connections."""
LIST_ONLY: Mapping[str, str] = {
    **FILES_ONLY, "format": "concat", "format_whitelist": f"concat,{_FORMATS}"
}  # fmt: skip
"""Options for an input that is a list, made by vidground, of videos beside it."""

_PLAIN_NAME = re.compile(r"[a-z0-9][a-z0-9.-]*")
_PROGRESS = re.compile(rb"(\w+)=\s*(\S*)\s*$")
_SHOWN_BYTES = 4096
_SHOWN_LINES = 5
_LINE_BYTES = 4096
_MICROSECOND = 1e-6


class FfmpegError(VidgroundError):
    """The program ffmpeg is missing, or failed: which one, its last words, the remedy."""


@dataclass(frozen=True, slots=True)
class Program:
    """An ffmpeg that runs. origin: "system", or the package that brought it along."""

    path: str
    version: str
    origin: str

    def __str__(self) -> str:
        return f"ffmpeg {self.version} ({self.origin}: {self.path})"


@dataclass(frozen=True, slots=True)
class Input:
    """An input: a name among the files of `run`, and options for reading it."""

    name: str
    options: Options = field(default_factory=dict)


def from_origin(origin_s: float | None) -> Options:
    """Return options for a video input, with which its time 0 is at `origin_s` of the file's own.

    None: at the file's beginning, as it comes.
    """
    if origin_s is None:
        return VIDEO_ONLY
    return {**VIDEO_ONLY, "copyts": None, "itsoffset": f"{-origin_s:.6f}"}


def exact_times(step: Fraction) -> Options:
    """Return options for an output whose pictures are encoded: all frames, each with its time.

    step: seconds that the times are whole multiples of.
    """
    return {"fps_mode:v": "passthrough", "enc_time_base:v": f"{step.numerator}:{step.denominator}"}


def find_program() -> Program:
    """Return the system's ffmpeg, or the one of imageio-ffmpeg if that is missing or too old.

    Raises:
        FfmpegError: there is neither, or ffmpeg-python is not installed.
    """
    if find_spec("ffmpeg") is None:
        raise FfmpegError(
            "the package ffmpeg-python is not installed; get it with pip install 'vidground[media]'"
        )
    refused = []
    for path, origin in _candidates():
        version = _version(path)
        if version is None:
            refused.append(f"{printable(path)} does not run")
        elif _is_old(version):
            refused.append(f"{printable(path)} is {version}")
        else:
            return Program(path, version, origin)
    found = f" ({'; '.join(refused)})" if refused else ""
    oldest = ".".join(map(str, OLDEST))
    raise FfmpegError(f"no program ffmpeg of version {oldest} or newer was found{found}; {_REMEDY}")


def run(
    program: Program,
    files: Mapping[str, Path | str],
    streams: Sequence[tuple[Input, str]],
    output: Path,
    options: Options,
    *,
    on_time: Callable[[float], None] | None = None,
    on_warning: Callable[[str], None] | None = None,
) -> None:
    """Run the program once, without a terminal, and let it write `output`, which may exist.

    What a failed run leaves at `output` is the caller's to remove (`vidground.storage.atomic`).

    Args:
        files: what lies beside the program: a plain name, and a path to link or a text to write.
        streams: what goes into the output, in order: an input and ffmpeg's specifier of its
            streams ("V:0", "a?"). At least one.
        options: for the output; with `format`, as the name of `output` says nothing to it.
        on_time: is told the seconds of output written so far.
        on_warning: is told each line of warnings and errors; None to hear of errors only.

    Raises:
        FfmpegError: the program failed.
    """
    with tempfile.TemporaryDirectory(prefix="vidground-") as name:
        folder = Path(name)
        for plain, content in files.items():
            assert _PLAIN_NAME.fullmatch(plain), plain
            if isinstance(content, str):
                (folder / plain).write_text(content, encoding="utf-8")
            else:
                (folder / plain).symlink_to(content.absolute())
        (folder / "output").symlink_to(output.absolute())
        level = "error" if on_warning is None else "warning"
        arguments = [program.path, *_GLOBAL, "-loglevel", level, *_arguments(streams, options)]
        code, words = _execute(arguments, folder, on_time, on_warning)
    if code == 0:
        return
    about = next((printable(path) for path in files.values() if isinstance(path, Path)), "")
    ending = f"was ended by signal {-code}" if code < 0 else f"failed with exit code {code}"
    raise FfmpegError(f"{about}: {program} {ending}: {words or 'it said nothing'}")


_GLOBAL = ("-nostdin", "-hide_banner", "-progress", "pipe:2", "-y")


def _candidates() -> Iterator[tuple[str, str]]:
    found = shutil.which("ffmpeg")
    if found is not None:
        yield os.path.abspath(found), "system"  # noqa: PTH100 - keeps links as they are
    if find_spec("imageio_ffmpeg") is not None:
        import imageio_ffmpeg

        try:
            yield imageio_ffmpeg.get_ffmpeg_exe(), "imageio-ffmpeg"
        except RuntimeError:  # a package without a program for this machine
            return


def _version(path: str) -> str | None:
    """Return what the program calls its version; None if it does not run."""
    try:
        told = subprocess.run(
            [path, "-version"], stdin=subprocess.DEVNULL, capture_output=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    match = _VERSION.match(told.stdout.decode("ascii", errors="replace"))
    return match[1] if match else None


def _is_old(version: str) -> bool:
    release = _RELEASE.match(version)  # builds between releases have names of their own
    return release is not None and (int(release[1]), int(release[2])) < OLDEST


def _arguments(streams: Sequence[tuple[Input, str]], options: Options) -> list[str]:
    """Return the arguments for inputs and output, both by their plain names."""
    import ffmpeg

    # Equal inputs are one.
    chosen = [ffmpeg.input(f"file:{i.name}", **i.options)[specifier] for i, specifier in streams]
    once = {name: value for name, value in options.items() if not isinstance(value, tuple)}
    arguments: list[str] = ffmpeg.output(*chosen, "file:output", **once).get_args()
    # ffmpeg-python takes an option once.
    repeated = [
        part
        for name, values in options.items()
        if isinstance(values, tuple)
        for value in values
        for part in (f"-{name}", value)
    ]
    return [*arguments[:-1], *repeated, arguments[-1]]


def _execute(
    arguments: list[str],
    folder: Path,
    on_time: Callable[[float], None] | None,
    on_warning: Callable[[str], None] | None,
) -> tuple[int, str]:
    """Run, and return the exit code and the last lines said; an exception ends the program."""
    with subprocess.Popen(
        arguments,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            assert process.stderr is not None
            words = _listen(process.stderr, on_time, on_warning)
            process.wait()
        except BaseException:
            process.kill()
            raise
    return process.returncode, words


def _listen(
    stream: IO[bytes],
    on_time: Callable[[float], None] | None,
    on_warning: Callable[[str], None] | None,
) -> str:
    """Read to the end, keeping little; progress stands among the words, a line per number."""
    words = b""
    while line := stream.readline(_LINE_BYTES):
        progress = _PROGRESS.match(line)
        if progress is None:
            words = (words + line)[-_SHOWN_BYTES:]
            if on_warning is not None:
                on_warning(line.decode("utf-8", errors="backslashreplace"))
        elif on_time is not None and progress[1] == b"out_time_us" and progress[2].isdigit():
            on_time(int(progress[2]) * _MICROSECOND)
    lines = words.decode("utf-8", errors="backslashreplace").splitlines()
    return "; ".join([line.strip() for line in lines if line.strip()][-_SHOWN_LINES:])
