"""How the threads of torch's operators wait, and how many there are.

OpenMP reads its environment variables when torch is imported, so both functions do nothing
afterwards. They set variables of this process, which its children inherit; what the user has set
stays. Programs that use the SDK are left alone.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from vidground.devices import SMALL_MODEL_PARAMETERS

if TYPE_CHECKING:
    from vidground.checkpoints.announcement import Loading

_WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
_COUNTS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


def sleep_while_waiting() -> None:
    """Let threads that wait for others sleep.

    By default they spin, which takes the core from the thread that they wait for if another
    process uses the machine too.
    """
    if _may_set(_WAITING):
        os.environ["OMP_WAIT_POLICY"] = "passive"


def limit_threads(loading: Loading) -> None:
    """Compute a small model on the CPU with one thread.

    One of its operators takes less time than it takes to wake a second thread.
    """
    small = loading.device == "cpu" and loading.parameters < SMALL_MODEL_PARAMETERS
    if small and _may_set(_COUNTS):
        os.environ["OMP_NUM_THREADS"] = "1"


def _may_set(variables: tuple[str, ...]) -> bool:
    return "torch" not in sys.modules and not any(name in os.environ for name in variables)
