"""How much memory a program and all that it starts take, and a limit on that. Linux only."""

import os
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_V1 = Path("/sys/fs/cgroup/memory")
_V2 = Path("/sys/fs/cgroup")


def tree_bytes(root: int) -> int:
    """Memory that a process and its descendants take now; what they share counts once (PSS)."""
    children = defaultdict(list)
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = status.read_text().rpartition(")")[2].split()
            children[int(fields[1])].append(int(status.parent.name))
    total, waiting = 0, [root]
    while waiting:
        process = waiting.pop()
        waiting += children[process]
        with suppress(OSError):
            lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
            total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total * 1024


@dataclass(frozen=True)
class MemoryGroup:
    """A control group with a limit; enter it with `join` in the process before it is replaced."""

    folder: Path

    def join(self) -> None:
        (self.folder / "cgroup.procs").write_text(str(os.getpid()))

    @property
    def kills(self) -> int:
        """How many processes the system has ended for want of memory."""
        v1 = self.folder / "memory.oom_control"
        events = v1 if v1.exists() else self.folder / "memory.events"
        counts = dict(line.split() for line in events.read_text().splitlines())
        return int(counts["oom_kill"])


@contextmanager
def memory_group(limit_bytes: int) -> Iterator[MemoryGroup | None]:
    """A control group of this limit, pages of files included; None if the system gives none."""
    v1 = (_V1 / "memory.limit_in_bytes").exists()
    folder = (_V1 if v1 else _V2) / f"vidground-{os.getpid()}"
    try:
        folder.mkdir()
        limit = "memory.limit_in_bytes" if v1 else "memory.max"
        (folder / limit).write_text(str(limit_bytes))
    except OSError:
        yield None
        return
    try:
        yield MemoryGroup(folder)
    finally:
        for _ in range(50):  # processes that have just ended may still be in there
            with suppress(OSError):
                folder.rmdir()
                break
            time.sleep(0.1)
