"""Find the ffmpeg program and run it safely on files of any name.

The only user of ffmpeg-python, which builds the command lines, and of imageio-ffmpeg, which bundles
a program (both in the extra `media`). The program runs in a temporary folder, where every file is a
link with a plain name: no file name and no caption reaches its arguments or its filters. Knows
nothing of results.
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
from vidground.video.info import CONTAINER_FORMATS

Options = Mapping[str, str | tuple[str, ...] | None]
"""ffmpeg's options without their dash. None: a switch. A tuple: repeat the option for each."""

OLDEST = (5, 1)
"""Lowest version that is used."""

_REMEDY = (
    "install it with the system's package manager (apt install ffmpeg), or get the one bundled "
    "with imageio-ffmpeg by pip install 'vidground[media]'"
)
_VERSION = re.compile(r"ffmpeg version (\S+)")
_RELEASE = re.compile(r"n?(\d+)\.(\d+)")

FILES_ONLY: Mapping[str, str] = {"protocol_whitelist": "file"}
VIDEO_ONLY: Mapping[str, str] = {**FILES_ONLY, "format_whitelist": CONTAINER_FORMATS}
"""Options for an untrusted input: it cannot make ffmpeg open other files or connections."""
LIST_ONLY: Mapping[str, str] = {
    **FILES_ONLY, "format": "concat", "format_whitelist": f"concat,{CONTAINER_FORMATS}"
}  # fmt: skip
"""Options for an input that is a list, written by vidground, of videos beside it."""

_PLAIN_NAME = re.compile(r"[a-z0-9][a-z0-9.-]*")
_PROGRESS = re.compile(rb"(\w+)=\s*(\S*)\s*$")
_SHOWN_BYTES = 4096
_SHOWN_LINES = 5
_LINE_BYTES = 4096
_MICROSECOND = 1e-6


class FfmpegError(VidgroundError):
    """The ffmpeg program is missing or failed: which one, the end of its log, the remedy."""


@dataclass(frozen=True, slots=True)
class Program:
    """An ffmpeg program that runs.

    Attributes:
        path: of the executable.
        version: as the program states it.
        origin: "system", or the package that bundles it.
    """

    path: str
    version: str
    origin: str

    def __str__(self) -> str:
        return f"ffmpeg {self.version} ({self.origin}: {self.path})"


@dataclass(frozen=True, slots=True)
class Input:
    """An input of ffmpeg.

    Attributes:
        name: of one of the files passed to `run`.
        options: for reading it.
    """

    name: str
    options: Options = field(default_factory=dict)


def from_origin(origin_s: float | None) -> Options:
    """Return options for a video input that is read with its time 0 at `origin_s`.

    Args:
        origin_s: in seconds as the file counts them; None for the beginning of the file.
    """
    if origin_s is None:
        return VIDEO_ONLY
    return {**VIDEO_ONLY, "copyts": None, "itsoffset": f"{-origin_s:.6f}"}


def exact_times(step: Fraction) -> Options:
    """Return options for a re-encoded output that keeps every frame at its exact time.

    Args:
        step: unit of the times, in seconds; all of them are whole multiples of it.
    """
    return {"fps_mode:v": "passthrough", "enc_time_base:v": f"{step.numerator}:{step.denominator}"}


def find_program() -> Program:
    """Return the system's ffmpeg, or imageio-ffmpeg's if the system's is missing or too old.

    Raises:
        FfmpegError: neither is usable, or ffmpeg-python is not installed.
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
    raise FfmpegError(f"no ffmpeg of version {oldest} or newer was found{found}; {_REMEDY}")


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
    """Run ffmpeg once; it writes `output`, replacing an existing file.

    The caller removes what a failed run leaves at `output` (`vidground.storage.atomic`).

    Args:
        program: which ffmpeg.
        files: the contents of its folder: plain names, each with a path to link or text to write.
        streams: of the output, in order; at least one. Each is an input and ffmpeg's specifier of
            its streams ("V:0", "a?").
        output: the file to write.
        options: for the output, including `format`, since ffmpeg does not see the suffix.
        on_time: called with the seconds of output written so far.
        on_warning: called with each line of warnings and errors; None to log errors only.

    Raises:
        FfmpegError: the program failed.
    """
    with tempfile.TemporaryDirectory(prefix="vidground-") as name:
        folder = Path(name)
        for file_name, content in files.items():
            assert _PLAIN_NAME.fullmatch(file_name), file_name
            if isinstance(content, str):
                (folder / file_name).write_text(content, encoding="utf-8")
            else:
                (folder / file_name).symlink_to(content.absolute())
        (folder / "output").symlink_to(output.absolute())
        level = "error" if on_warning is None else "warning"
        arguments = [program.path, *_GLOBAL, "-loglevel", level, *_arguments(streams, options)]
        code, log = _execute(arguments, folder, on_time, on_warning)
    if code == 0:
        return
    source = next((printable(path) for path in files.values() if isinstance(path, Path)), "")
    ending = f"was killed by signal {-code}" if code < 0 else f"failed with exit code {code}"
    raise FfmpegError(f"{source}: {program} {ending}: {log or 'no message'}")


_GLOBAL = ("-nostdin", "-hide_banner", "-progress", "pipe:2", "-y")


def _candidates() -> Iterator[tuple[str, str]]:
    found = shutil.which("ffmpeg")
    if found is not None:
        yield os.path.abspath(found), "system"  # noqa: PTH100 - keeps links as they are
    if find_spec("imageio_ffmpeg") is not None:
        import imageio_ffmpeg

        try:
            yield imageio_ffmpeg.get_ffmpeg_exe(), "imageio-ffmpeg"
        except RuntimeError:  # the package bundles no program for this machine
            return


def _version(path: str) -> str | None:
    """Return the version that the program states; None if it does not run."""
    try:
        completed = subprocess.run(
            [path, "-version"], stdin=subprocess.DEVNULL, capture_output=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    match = _VERSION.match(completed.stdout.decode("ascii", errors="replace"))
    return match[1] if match else None


def _is_old(version: str) -> bool:
    release = _RELEASE.match(version)  # development builds have other names
    return release is not None and (int(release[1]), int(release[2])) < OLDEST


def _arguments(streams: Sequence[tuple[Input, str]], options: Options) -> list[str]:
    """Return the arguments for inputs and output."""
    import ffmpeg

    # ffmpeg-python opens equal inputs once.
    chosen = [ffmpeg.input(f"file:{i.name}", **i.options)[specifier] for i, specifier in streams]
    single = {name: value for name, value in options.items() if not isinstance(value, tuple)}
    arguments: list[str] = ffmpeg.output(*chosen, "file:output", **single).get_args()
    # ffmpeg-python cannot repeat an option.
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
    """Run the program; return its exit code and the last lines of its log."""
    with subprocess.Popen(
        arguments,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            assert process.stderr is not None
            log = _read_log(process.stderr, on_time, on_warning)
            process.wait()
        except BaseException:
            process.kill()
            raise
    return process.returncode, log


def _read_log(
    stream: IO[bytes],
    on_time: Callable[[float], None] | None,
    on_warning: Callable[[str], None] | None,
) -> str:
    """Read messages, and between them progress as `key=value` lines; return the last messages."""
    log = b""
    while line := stream.readline(_LINE_BYTES):
        progress = _PROGRESS.match(line)
        if progress is None:
            log = (log + line)[-_SHOWN_BYTES:]
            if on_warning is not None:
                on_warning(line.decode("utf-8", errors="backslashreplace"))
        elif on_time is not None and progress[1] == b"out_time_us" and progress[2].isdigit():
            on_time(int(progress[2]) * _MICROSECOND)
    lines = log.decode("utf-8", errors="backslashreplace").splitlines()
    return "; ".join([line.strip() for line in lines if line.strip()][-_SHOWN_LINES:])
