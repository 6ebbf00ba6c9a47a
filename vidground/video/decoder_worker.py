"""The process that decodes videos for another one, which it cannot take along when it dies.

`decoder_process` starts it as `python -m vidground.video.decoder_worker SOCKET` and asks it to open
videos and to send their frames. It ends when the process that started it does. Knows no model and
imports no torch, so that it starts at once and takes little memory.
"""

import ctypes
import gc
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from vidground.errors import InputError, VidgroundError
from vidground.faults import Fault
from vidground.settings import CPU
from vidground.video.frame_sampler import FrameSampler, ShownFrame
from vidground.video.ipc import Channel, ChannelClosedError, Message
from vidground.video.nvdec import opens_card
from vidground.video.pixels import DecodedFrame
from vidground.video.video_file import Watch

OpenSampler = Callable[..., FrameSampler]
"""What `FrameSampler` is: called with a path, and by name with watch and what to sample (fps)."""

_PR_SET_PDEATHSIG = 1
_LARGEST_REQUEST = 1 << 31
"""More bytes than this FFmpeg never asks for at once."""
_HEARTBEATS = 4
"""So often is progress told within the time that may pass without any."""


def main() -> None:
    """Serve the process at the other end of the socket whose number is the first argument."""
    channel = Channel(socket.socket(fileno=int(sys.argv[1])))
    try:
        _serve(channel)
    except ChannelClosedError:
        return  # nobody wants anything any more
    except Exception as error:  # noqa: BLE001 - reported by the process that started this one
        channel.send("fault", Fault.of(error).to_dict())


def _serve(channel: Channel) -> None:
    setup = channel.receive().values
    _end_with(setup["parent"])
    _yield_memory_first()
    open_sampler = _find(setup["opener"])
    with suppress(InputError):  # of which each video will tell
        opens_card(setup["decode_on"])  # here, so that what the driver takes is no video's
    limit = _MemoryLimit(setup["memory_bytes"], memory_of(setup["decode_on"]))
    watch = _Watch(channel, limit, every_s=setup["timeout_s"] / _HEARTBEATS)
    _silence()
    channel.send("ready", {"memory_bytes": limit.at_start})
    sampler: FrameSampler | None = None
    while True:
        request = channel.receive()
        try:
            if request.kind == "open":
                sampler = None  # its memory is for the next one
                sampler = _open(request, open_sampler, watch)
                channel.send("opened", *_description(sampler))
            elif sampler is not None:
                _send_frames(channel, sampler)
        except ChannelClosedError:
            raise
        except MemoryError:
            limit.lift()
            sampler = None
            gc.collect()
            channel.send("no memory", {})
        except (VidgroundError, OSError) as error:
            channel.send("error", _told(error))
        except Exception as error:  # noqa: BLE001 - reported by the process that asked
            channel.send("fault", Fault.of(error).to_dict())


def _open(request: Message, open_sampler: OpenSampler, watch: Watch) -> FrameSampler:
    values = request.values
    if values["folder"] is not None:
        os.chdir(values["folder"])  # so that names mean the same, in messages too
    return open_sampler(values["path"], watch=watch, **values["sampling"])


def _description(sampler: FrameSampler) -> tuple[dict[str, Any], Any]:
    values = {"info": asdict(sampler.info), "warnings": sampler.warnings}
    return values, sampler.times_s.view(np.uint8)


def _send_frames(channel: Channel, sampler: FrameSampler) -> None:
    """Send every frame with the samples that show it, and what is known of damage by then."""
    frame: DecodedFrame | None = None
    for shown in sampler.frames():
        values: dict[str, Any] = {"first": shown.first, "last": shown.last, **_state(sampler)}
        if shown.frame is frame:
            channel.send("frame again", values)
            continue
        frame = shown.frame
        channel.send("frame", *_pixels(shown, values))
    channel.send("end", _state(sampler))


def _state(sampler: FrameSampler) -> dict[str, Any]:
    return {"damaged": sampler.info.damaged_packets, "warnings": sampler.warnings}


def _pixels(shown: ShownFrame, values: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    rgb = shown.frame.rgb()
    look = {
        "height": rgb.shape[0],
        "width": rgb.shape[1],
        "pixel_aspect": float(shown.frame.pixel_aspect),
        "orientation": asdict(shown.frame.orientation),
    }
    return values | look, np.ascontiguousarray(rgb).reshape(-1)


def _told(error: VidgroundError | OSError) -> dict[str, Any]:
    """What another process needs to raise the same error."""
    if isinstance(error, VidgroundError):
        return {"type": type(error).__name__, "text": str(error)}
    return {"type": "OSError", "text": error.strerror or str(error), "errno": error.errno}


@dataclass(frozen=True, slots=True)
class Memory:
    """What counts as a process's memory: which limit of the system, and where it is told.

    limit: for `resource.setrlimit`. field: of /proc/PID/statm, in pages.
    """

    limit: int
    field: int

    def taken(self, process: int) -> int:
        """Bytes of it that a process takes now."""
        pages = Path(f"/proc/{process}/statm").read_text().split()[self.field]
        return int(pages) * resource.getpagesize()


_ADDRESS_SPACE = Memory(resource.RLIMIT_AS, 0)
_OWN_DATA = Memory(resource.RLIMIT_DATA, 5)


def memory_of(decode_on: str) -> Memory:
    """What is limited in a process that decodes there.

    On the CPU the address space, because all memory counts in there, whoever asks for it. CUDA
    reserves more addresses than there is memory, so with a card it is what the process may write
    to and shares with nobody: that counts what FFmpeg asks for as well, but not what is reserved
    or lies on the card.
    """
    return _ADDRESS_SPACE if decode_on == CPU else _OWN_DATA


class _MemoryLimit:
    """How much memory this process may take on top of what it took at the start."""

    def __init__(self, more_bytes: int, memory: Memory) -> None:
        self._memory = memory
        self.at_start = memory.taken(os.getpid())
        self._hard = resource.getrlimit(memory.limit)[1]
        wanted = self.at_start + more_bytes
        self._limit = wanted if self._hard == resource.RLIM_INFINITY else min(wanted, self._hard)
        resource.setrlimit(memory.limit, (self._limit, self._hard))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash leaves no file behind

    @property
    def is_near(self) -> bool:
        """Whether it, and not an absurd size in a damaged file, may have refused memory."""
        return self._limit - self._memory.taken(os.getpid()) < _LARGEST_REQUEST

    def lift(self) -> None:
        """Let the process say what has happened; it is not to decode any more."""
        resource.setrlimit(self._memory.limit, (self._hard, self._hard))


class _Watch(Watch):
    """Tells the other process that things go on, and gives up once memory has run out."""

    def __init__(self, channel: Channel, limit: _MemoryLimit, *, every_s: float) -> None:
        self._channel = channel
        self._limit = limit
        self._every_s = every_s
        self._told_at = 0.0

    def packet(self) -> None:
        now = time.monotonic()
        if now - self._told_at >= self._every_s:
            self._channel.send("alive", {})
            self._told_at = now

    def no_memory(self) -> None:
        if self._limit.is_near:
            raise MemoryError


def _end_with(parent: int) -> None:
    """End when the other process does, whatever this one does then; leave signals to that one."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        raise ChannelClosedError  # it ended before it could be watched


def _yield_memory_first() -> None:
    """If the machine runs out of memory, this process is to end, not the one with the model."""
    with suppress(OSError):  # some containers do not let processes say so
        Path("/proc/self/oom_score_adj").write_text("1000")


def _silence() -> None:
    """Keep what C libraries print about damage out of the log; problems are told as messages."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)


def _find(name: str) -> OpenSampler:
    module, _, attribute = name.partition(":")
    found: OpenSampler = getattr(import_module(module), attribute)
    return found


if __name__ == "__main__":
    main()
