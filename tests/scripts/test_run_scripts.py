"""What the scripts that measure whole runs go by: memory of a process and its children, and what a
terminal shows."""

import os
import pty
import subprocess
import sys
import termios
from pathlib import Path
from threading import Thread

import pytest

from tests.helpers.paths import ROOT
from tests.helpers.process_memory import memory_group, tree_bytes
from tests.scripts.run_many_files import Terminal
from vidground.archive.events import FileReport, Started
from vidground.cli.reporting.text import TextReporter

_MIB = 1 << 20
CHILD = "x = bytearray(64 << 20); x[::4096] = b'1' * len(x[::4096]); print(flush=True); input()"


def test_memory_counts_children_and_their_children() -> None:
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {CHILD!r}])"
    before = tree_bytes(os.getpid())
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        assert 64 * _MIB < tree_bytes(process.pid) < 256 * _MIB
        assert tree_bytes(os.getpid()) - before > 56 * _MIB
        process.stdin.write(b"\n")
        process.stdin.flush()
    assert tree_bytes(process.pid) == 0


def test_a_control_group_is_removed_again_and_counts_what_it_ended() -> None:
    with memory_group(48 * _MIB) as group:
        if group is None:
            pytest.skip("the system gives this user no control group")
        process = subprocess.run(
            [sys.executable, "-c", CHILD], input=b"\n", preexec_fn=group.join, check=False
        )
        assert (process.returncode, group.kills) == (-9, 1)
    assert not Path(group.folder).exists()


def test_a_terminal_is_read_as_a_person_would() -> None:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    terminal = Terminal(0, [], "")
    reader = Thread(target=terminal.read, args=(ours,))
    reader.start()
    code = "from tests.scripts import test_run_scripts as t; t.report_two_files()"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], stderr=theirs, env=environment, check=True)
    os.close(theirs)
    reader.join()
    os.close(ours)
    assert terminal.done == 2
    assert (1, "0 s") in terminal.estimates


def report_two_files() -> None:
    """What a run over two files shows, the second being empty."""
    reporter = TextReporter(noun="event", total=2, quiet=False, bars=True)
    reporter.expect({"a.mp4": 10.0, "b.mp4": 0.001})
    for number, path in enumerate(("a.mp4", "b.mp4"), 1):
        reporter.event(Started(path, number, 2))
        reporter.event(FileReport(path, "done", events=1))
    reporter.close()
