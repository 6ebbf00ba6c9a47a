"""Messages between two processes: a few named values and a block of bytes, through a socket.

Messages are parsed only as JSON and bytes, never as objects, so that a process compromised by a
hostile file cannot make the other one execute anything. Knows nothing of videos.
"""

import json
import select
import socket
import struct
from dataclasses import dataclass
from itertools import count
from math import ceil
from typing import Any

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]

_SIZES = struct.Struct("!IQ")  # bytes of JSON, bytes of the block
_LONGEST_SLICE_S = 1.0
_NOTHING = np.empty(0, np.uint8)


class ChannelClosedError(Exception):
    """The process at the other end has ended or is ending."""


class SilenceError(Exception):
    """Nothing arrived within the time limit."""


@dataclass(frozen=True)
class Message:
    """A message.

    Attributes:
        kind: names the type of message.
        values: anything that JSON can represent.
        block: (N,) uint8, mostly pixels.
    """

    kind: str
    values: dict[str, Any]
    block: Bytes


class Channel:
    """One end of a connection between two processes.

    Raises:
        ChannelClosedError: from both methods, once the other end is closed.
    """

    def __init__(self, end: socket.socket) -> None:
        self._socket = end

    def send(self, kind: str, values: dict[str, Any], block: Bytes = _NOTHING) -> None:
        """Send a message, waiting until the other end has room for it."""
        head = json.dumps([kind, values]).encode()
        try:
            self._socket.sendall(_SIZES.pack(len(head), block.nbytes) + head)
            if block.nbytes:
                self._socket.sendall(np.ascontiguousarray(block).data.cast("B"))
        except OSError as error:
            raise ChannelClosedError from error

    def receive(self, patience_s: float | None = None) -> Message:
        """Return the next message.

        Args:
            patience_s: maximum wait for its first or any further byte, in seconds; None for no
                limit.

        Raises:
            SilenceError: nothing arrived within that time.
        """
        head_size, block_size = _SIZES.unpack(self._take(_SIZES.size, patience_s).tobytes())
        kind, values = json.loads(self._take(head_size, patience_s).tobytes())
        return Message(kind, values, self._take(block_size, patience_s))

    def close(self) -> None:
        """Close both directions, so that waiting threads at both ends wake up."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # the other end was faster
        finally:
            self._socket.close()

    def _take(self, size: int, patience_s: float | None) -> Bytes:
        taken = np.empty(size, np.uint8)
        view, done = taken.data, 0
        while done < size:
            self._wait(patience_s)
            try:
                got = self._socket.recv_into(view[done:])
            except OSError as error:
                raise ChannelClosedError from error
            if not got:
                raise ChannelClosedError
            done += got
        return taken

    def _wait(self, patience_s: float | None) -> None:
        """Wait for bytes, in slices: a computer that was asleep has then lost one slice only."""
        if patience_s is None:
            return  # receiving waits by itself
        slices = max(1, ceil(patience_s / _LONGEST_SLICE_S))
        for number in count(1):
            poll = select.poll()
            try:
                poll.register(self._socket, select.POLLIN)
                ready = poll.poll(patience_s / slices * 1000)
            except (OSError, ValueError) as error:  # ValueError: this end was closed meanwhile
                raise ChannelClosedError from error
            if ready:
                return
            if number == slices:
                raise SilenceError
