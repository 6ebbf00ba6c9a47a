"""Parent side of the process that decodes videos: requests, answers, its end.

Starts the process with its limits and turns crashes, silence and exhausted memory into errors about
the video; `decoder_worker` is the child side. Knows nothing of what the frames are used for.
"""

import io
import os
import signal
import socket
import subprocess
import threading
import weakref
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from vidground.errors import InternalError, VideoError, VidgroundError
from vidground.faults import Fault, internal_error
from vidground.settings import CPU, IsolationSettings
from vidground.storage.child_processes import module_command, module_environment
from vidground.storage.files import printable
from vidground.video.decoder_worker import memory_of
from vidground.video.ipc import Channel, ChannelClosedError, Message, SilenceError

_START_S = 120.0
"""A process that is not ready by then has failed to start."""
_END_S = 5.0
"""A killed process has ended by then, unless it waits for a disk that does not respond."""
_GIB = 1 << 30
_CRASHES = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE)
"""Signals caused by damaged data; others come from outside or from the machine."""
_MOST_WORDS = 1 << 16  # bytes
_DO_WITHOUT = "; use --no-isolation (isolation=None) to do without that process"
_KINDS: tuple[type[VidgroundError], ...] = (VidgroundError, *VidgroundError.__subclasses__())
_ERRORS = {kind.__name__: kind for kind in _KINDS}


class DecoderProcess:
    """A process that decodes videos within limits.

    Args:
        settings: the limits.
        opener: what opens a video there, as "module:function".
        decode_on: where its videos may be decoded, which determines what counts as its memory.

    Attributes:
        holds: the user's mark for the open file; None if no file is open.
        is_busy: whether it is in the middle of a request.

    Raises:
        VidgroundError: it cannot be started.
        InternalError: it fails before it is ready.
    """

    def __init__(self, settings: IsolationSettings, opener: str, *, decode_on: str = CPU) -> None:
        self.holds: object | None = None
        self.is_busy = False
        self._owner = os.getpid()
        self._settings = settings
        self._memory = memory_of(decode_on)
        self._memory_bytes: int | None = None  # at its start; unknown until it is ready
        ours, theirs = socket.socketpair()
        with theirs:
            self._process, self._keeper, self._words = _start_process(theirs.fileno())
        self._channel = Channel(ours)
        setup = {
            "parent": self._owner,
            "opener": opener,
            "decode_on": decode_on,
            "memory_bytes": int(settings.memory_gib * _GIB),
            "timeout_s": settings.timeout_s,
        }
        with suppress(ChannelClosedError):  # reported by the first request
            self._channel.send("setup", setup)
        self.end = weakref.finalize(
            self, _end, self._owner, self._process, self._channel, self._words
        )

    @property
    def is_fit(self) -> bool:
        """Whether it is running and has not grown too much in decoding earlier videos."""
        lives = self.end.alive and self._process.returncode is None
        if not lives or os.getpid() != self._owner:  # after a fork it belongs to the parent
            return False
        if self._memory_bytes is None:
            return True
        with suppress(OSError):  # it ended just now
            grown = self._memory.taken(self._process.pid) - self._memory_bytes
            return grown < self._settings.memory_gib * _GIB / 2
        return False

    def open(self, path: str | os.PathLike[str], **sampling: Any) -> Message:
        """Open a video in the process and return its description.

        Args:
            path: of the video.
            sampling: keyword arguments of the opener, such as `fps`.
        """
        self.holds = None
        name = os.fspath(path)
        folder = None if Path(name).is_absolute() else str(Path.cwd())
        self.ask("open", {"path": name, "folder": folder, "sampling": sampling})
        return self.answer(path)

    def ask(self, kind: str, values: dict[str, Any]) -> None:
        """Send a request; `answer` returns its answers."""
        self._require_ready()
        self.is_busy = True
        with suppress(ChannelClosedError):  # `answer` reports why
            self._channel.send(kind, values)

    def answer(self, path: str | os.PathLike[str]) -> Message:
        """Return the next answer to a request about the video at `path`.

        Errors that the process raised on purpose are raised as they are.

        Raises:
            VideoError: it crashed, or exceeded a limit.
            InternalError: an internal error in the process.
            VidgroundError: it was killed.
        """
        while True:
            message = self._receive(path)
            if message.kind == "fault":
                self.end()
                raise _reported(Fault(**message.values), path)
            if message.kind in ("error", "no memory"):
                self._raise(message, printable(path))
            if message.kind != "alive":
                self.is_busy = message.kind not in ("opened", "end")
                return message

    def _receive(self, path: str | os.PathLike[str]) -> Message:
        try:
            return self._channel.receive(self._settings.timeout_s)
        except SilenceError as error:
            self.end()
            raise VideoError(
                f"{printable(path)}: decoding made no progress for {self._settings.timeout_s:g} s; "
                "the file is damaged or its disk does not answer, or allow more with --timeout "
                "(timeout_s)"
            ) from error
        except ChannelClosedError as error:
            raise self._ending(path) from error

    def _raise(self, message: Message, name: str) -> None:
        if message.kind == "no memory":
            self.end()
            raise VideoError(
                f"{name}: decoding needs more than {self._settings.memory_gib:g} GiB of memory; "
                "the file is damaged or very large, or allow more with --memory-limit (memory_gib)"
            )
        values = message.values
        self.is_busy = False
        if values["type"] == "OSError":
            raise OSError(values["errno"], values["text"])
        raise _ERRORS.get(values["type"], VidgroundError)(values["text"])

    def _require_ready(self) -> None:
        if self._memory_bytes is not None:
            return
        try:
            message = self._channel.receive(_START_S)
        except SilenceError as error:
            self.end()
            raise VidgroundError(_not_started("hangs")) from error
        except ChannelClosedError as error:
            raise self._failed_start() from error
        if message.kind == "fault":
            self.end()
            raise _reported(Fault(**message.values), advice=_DO_WITHOUT)
        self._memory_bytes = message.values["memory_bytes"]

    def _failed_start(self) -> VidgroundError:
        """Return why it ended before it was ready: the last words of Python or the loader."""
        code, words = self._ended()
        lines = [line for line in words.splitlines() if line.strip()]
        if not lines:
            return VidgroundError(_not_started(_how_it_ended(code)))
        what = f"the process that decodes videos did not start: {lines[-1].strip()}"
        return internal_error(Fault(what, traceback=words), advice=_DO_WITHOUT)

    def _ending(self, path: str | os.PathLike[str]) -> VidgroundError:
        """Return the error for the video that was being decoded when the process ended."""
        code, _ = self._ended()
        how = _how_it_ended(code)
        if code is None or code >= 0:  # ended by Python, not by FFmpeg
            return internal_error(Fault(f"the process that decodes videos {how}"), path)
        if -code in _CRASHES:
            return VideoError(
                f"{printable(path)}: the decoder {how}; the file is damaged, convert it with "
                "another program"
            )
        return VidgroundError(
            f"{printable(path)}: the decoder {how}; this says nothing about the file, run again"
        )

    def _ended(self) -> tuple[int | None, str]:
        """Return its exit code, None if unknown, and the end of its standard error."""
        self._keeper.join(_END_S)
        code, words = self._process.returncode, b""
        with suppress(ValueError):  # it was ended from another thread
            size = self._words.seek(0, io.SEEK_END)
            self._words.seek(max(0, size - _MOST_WORDS))
            words = self._words.read()
        self.end()
        return code, words.decode(errors="backslashreplace")


def _how_it_ended(code: int | None) -> str:
    if code is None:
        return "closed its connection"
    if code == -signal.SIGKILL:
        return "was killed (signal 9), as the system does when memory runs out"
    if code < 0:
        return f"crashed (signal {-code}, {signal.Signals(-code).name})"
    return f"ended with exit code {code}"


def _reported(
    fault: Fault, path: str | os.PathLike[str] | None = None, *, advice: str = ""
) -> InternalError:
    """Return the error that reports a fault of the process, with both tracebacks."""
    error = internal_error(fault, path, advice=advice)
    error.add_note(f"In the process that decodes videos:\n{fault.traceback}")
    return error


def _start_process(end: int) -> tuple[subprocess.Popen[bytes], threading.Thread, IO[bytes]]:
    """Start the process from a thread that lives as long as the process.

    The system ends the process when the thread that started it ends, even by kill -9; that must
    not happen when one of the caller's threads ends.
    """
    started: Future[subprocess.Popen[bytes]] = Future()
    words = os.fdopen(os.memfd_create("vidground-decoder"), "w+b")
    keeper = threading.Thread(target=_keep, args=(end, words, started), daemon=True)
    keeper.start()
    try:
        return started.result(), keeper, words
    except OSError as error:
        words.close()
        raise VidgroundError(_not_started(f"cannot be run: {error}")) from error


def _keep(end: int, words: IO[bytes], started: Future[subprocess.Popen[bytes]]) -> None:
    environment = {
        **module_environment(),
        "OPENBLAS_NUM_THREADS": "1",  # each thread would take memory
    }
    try:
        process = subprocess.Popen(
            module_command("vidground.video.decoder_worker", str(end)),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=words,
            pass_fds=(end,),
            process_group=0,  # so that Ctrl-C in a terminal reaches only the caller
        )
    except BaseException as error:  # noqa: BLE001 - raised in the thread that waits
        started.set_exception(error)
        return
    started.set_result(process)
    process.wait()


def _not_started(how: str) -> str:
    return f"the process that decodes videos did not start: it {how}{_DO_WITHOUT}"


def _end(owner: int, process: subprocess.Popen[bytes], channel: Channel, words: IO[bytes]) -> None:
    words.close()
    if os.getpid() != owner:
        return  # a forked copy must not end a process that its parent still uses
    process.kill()
    channel.close()
