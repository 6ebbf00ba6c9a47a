"""Child side of the process that decodes videos: a crash here does not end the parent.

`decoder_process` starts it as `python -m vidground.video.decoder_worker SOCKET` and requests that
it open videos and send their frames. It ends when its parent does. Knows no model and imports no
torch, so that it starts at once and takes little memory.
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
"""Signature of `FrameSampler`: a path, then the keywords `watch` and what to sample (`fps`)."""

_PR_SET_PDEATHSIG = 1
_LARGEST_REQUEST = 1 << 31
"""FFmpeg never requests more bytes than this at once."""
_HEARTBEATS = 4
"""Number of progress messages within the time limit."""


def main() -> None:
    """Serve the process at the other end of the socket whose number is the first argument."""
    channel = Channel(socket.socket(fileno=int(sys.argv[1])))
    try:
        _serve(channel)
    except ChannelClosedError:
        return  # the parent has ended
    except Exception as error:  # noqa: BLE001 - reported by the process that started this one
        channel.send("fault", Fault.of(error).to_dict())


def _serve(channel: Channel) -> None:
    setup = channel.receive().values
    _end_with(setup["parent"])
    _yield_memory_first()
    open_sampler = _find(setup["opener"])
    with suppress(InputError):  # reported with each video
        opens_card(
            setup["decode_on"]
        )  # here, so that the driver's memory is not attributed to a video
    limit = _MemoryLimit(setup["memory_bytes"], memory_of(setup["decode_on"]))
    watch = _Watch(channel, limit, every_s=setup["timeout_s"] / _HEARTBEATS)
    _silence()
    channel.send("ready", {"memory_bytes": limit.at_start})
    sampler: FrameSampler | None = None
    while True:
        request = channel.receive()
        try:
            if request.kind == "open":
                sampler = None  # free its memory for the next one
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
            channel.send("error", _error_values(error))
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
    """Send every frame with the samples that show it, and the damage found by then."""
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


def _error_values(error: VidgroundError | OSError) -> dict[str, Any]:
    """Return what the parent needs to raise the same error."""
    if isinstance(error, VidgroundError):
        return {"type": type(error).__name__, "text": str(error)}
    return {"type": "OSError", "text": error.strerror or str(error), "errno": error.errno}


@dataclass(frozen=True, slots=True)
class Memory:
    """What counts as a process's memory: how the system limits and reports it.

    Attributes:
        limit: for `resource.setrlimit`.
        field: index in /proc/PID/statm, in pages.
    """

    limit: int
    field: int

    def taken(self, process: int) -> int:
        """Return the bytes that a process takes now."""
        pages = Path(f"/proc/{process}/statm").read_text().split()[self.field]
        return int(pages) * resource.getpagesize()


_ADDRESS_SPACE = Memory(resource.RLIMIT_AS, 0)
_OWN_DATA = Memory(resource.RLIMIT_DATA, 5)


def memory_of(decode_on: str) -> Memory:
    """Return what is limited in a process that decodes on the CPU or on a GPU.

    On the CPU it is the address space, which includes all memory, whichever library allocates it.
    CUDA reserves more addresses than there is memory, so with a GPU it is private writable memory:
    that includes FFmpeg's allocations, but neither reservations nor memory on the GPU.
    """
    return _ADDRESS_SPACE if decode_on == CPU else _OWN_DATA


class _MemoryLimit:
    """Limit on the memory that this process takes beyond what it took at the start."""

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
        """Whether this limit, not an absurd size in a damaged file, may have refused memory."""
        return self._limit - self._memory.taken(os.getpid()) < _LARGEST_REQUEST

    def lift(self) -> None:
        """Lift the limit so that the process can report; it must not decode any further."""
        resource.setrlimit(self._memory.limit, (self._hard, self._hard))


class _Watch(Watch):
    """Reports progress to the parent, and stops once memory has run out."""

    def __init__(self, channel: Channel, limit: _MemoryLimit, *, every_s: float) -> None:
        self._channel = channel
        self._limit = limit
        self._every_s = every_s
        self._reported_at = 0.0

    def packet(self) -> None:
        now = time.monotonic()
        if now - self._reported_at >= self._every_s:
            self._channel.send("alive", {})
            self._reported_at = now

    def no_memory(self) -> None:
        if self._limit.is_near:
            raise MemoryError


def _end_with(parent: int) -> None:
    """End when the parent does, at any point of work; leave signals to the parent."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        raise ChannelClosedError  # it ended before it could be watched


def _yield_memory_first() -> None:
    """Make the system end this process first, not the parent, when memory runs out."""
    with suppress(OSError):  # some containers do not permit it
        Path("/proc/self/oom_score_adj").write_text("1000")


def _silence() -> None:
    """Keep what C libraries print about damage out of the log; problems are sent as messages."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)


def _find(name: str) -> OpenSampler:
    module, _, attribute = name.partition(":")
    found: OpenSampler = getattr(import_module(module), attribute)
    return found


if __name__ == "__main__":
    main()
