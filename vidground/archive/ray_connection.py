"""Start Ray on this machine or connect to a cluster, quietly.

The only module that imports Ray, and only when it is needed. If Ray is started here, it listens on
the loopback address only, has no dashboard and reports no usage. Its messages are shown on standard
error if RAY_LOG_TO_DRIVER is 1.
"""

import io
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, TextIO

from vidground.archive.ray_actor import Assignment
from vidground.errors import InputError, VidgroundError

_OBJECT_STORE_BYTES = 256 << 20  # for results in transit, which are small
_CONNECT_TIMEOUT_S = 10.0  # for the head of a cluster
_REMEDY = (
    "check that the cluster runs and has this address; if it asks for a token, set "
    "RAY_AUTH_MODE=token"
)
_LOOPBACK_ONLY = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""If this is 0, Ray listens on 127.0.0.1 only, as it always does on the systems in the name."""


@contextmanager
def connected(address: str | None, *, cpus: int | None = None) -> Iterator[Any]:
    """Connect to a cluster, or start Ray on this machine until the block ends.

    A process that is connected already stays so, whatever the address.

    Args:
        address: of a cluster; None to start Ray.
        cpus: number of CPUs of a Ray that is started; None for all.

    Yields:
        The package ray.

    Raises:
        InputError: Ray is not installed, or the address is one for Ray's client.
        VidgroundError: Ray cannot be started or reached.
    """
    if address is not None and "://" in address:
        raise InputError(
            f"the address {address!r} is one for Ray's client; run on a machine of the cluster, "
            'with "auto" or host:port'
        )
    told = os.environ.get("RAY_LOG_TO_DRIVER", "0").lower() in ("1", "true")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address is not None:
        _require_open(address)
    else:
        os.environ.setdefault(_LOOPBACK_ONLY, "0")
    if not told:
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    ray = _import_ray()
    if ray.is_initialized():
        with _text_aside(sys.stderr if told else None):
            yield ray
        return
    start: dict[str, Any] = {"address": address or "local"}
    if address is None:
        start |= {"object_store_memory": _OBJECT_STORE_BYTES, "include_dashboard": False}
        start |= {"num_cpus": cpus}
    level = logging.INFO if told else logging.CRITICAL
    with ExitStack() as ending:
        ending.enter_context(_text_aside(sys.stderr if told else None))
        ending.callback(ray.shutdown)
        try:
            with _handlers_kept(), _standard_error(open_=told):
                ray.init(**start, log_to_driver=told, logging_level=level)
        except Exception as error:  # Ray raises exceptions of many types
            if address is None:
                raise VidgroundError(f"Ray cannot be started: {first_line(error)}") from error
            raise VidgroundError(
                f"Ray cannot be reached at {address}: {first_line(error)}; {_REMEDY}"
            ) from error
        logging.getLogger("ray.data").setLevel(level)
        ray.data.DataContext.get_current().enable_progress_bars = False
        yield ray


@dataclass(frozen=True, slots=True)
class NextAssignment:
    """Fetches the job of a turn for an actor.

    Attributes:
        queue: handle of a `JobQueueActor`.
    """

    queue: Any

    def __call__(self, turn: int) -> Assignment:
        """Wait until there is a job and return it."""
        import ray

        assignment: Assignment = ray.get(self.queue.take.remote(turn))
        return assignment


def machines(ray: Any) -> list[tuple[int, int]]:
    """Return the number of CPUs and GPUs of each live machine."""
    resources = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [(int(found.get("CPU", 0)), int(found.get("GPU", 0))) for found in resources]


def _require_open(address: str) -> None:
    """Check that something listens at an address, because Ray would wait for it.

    Raises:
        VidgroundError: nothing does.
    """
    host, _, port = address.rpartition(":")
    if not (host and port.isdecimal()):
        return  # "auto", which Ray looks up
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_TIMEOUT_S).close()
    except (OSError, OverflowError) as error:
        raise VidgroundError(f"Ray cannot be reached at {address}: {error}; {_REMEDY}") from error


def _import_ray() -> Any:
    try:
        import ray
        import ray.data
        import ray.util.scheduling_strategies
    except ImportError as error:
        raise InputError(
            f"--engine ray needs the package ray ({error}): pip install 'vidground[ray]'"
        ) from error
    return ray


@contextmanager
def _handlers_kept() -> Iterator[None]:
    """Keep the handler of SIGTERM, which Ray replaces by one that ends the program at once."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


@contextmanager
def _standard_error(*, open_: bool) -> Iterator[None]:
    """Discard what libraries write to standard error without Python, unless `open_`."""
    if open_:
        yield
        return
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


@contextmanager
def _text_aside(aside: TextIO | None) -> Iterator[None]:
    """Redirect text on standard output, which is Ray's; results are written to it as bytes."""
    before = sys.stdout
    sys.stdout = _Aside(before, aside)
    try:
        yield
    finally:
        sys.stdout = before


class _Aside(io.TextIOBase):
    """A standard output that redirects text, but not bytes."""

    def __init__(self, out: TextIO, aside: TextIO | None) -> None:
        self.buffer = out.buffer
        self._aside = aside

    def write(self, text: str, /) -> int:
        return len(text) if self._aside is None else self._aside.write(text)


def first_line(error: Exception) -> str:
    """Return the first line of an error of Ray; the rest is for Ray's developers."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0]
