import errno
from pathlib import Path

import pytest
from safetensors import SafetensorError

from vidground.errors import FormatError, InputError
from vidground.training.failures import TrainingError, run_failures

RUN = Path("run")


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "run/log.jsonl"), "run/log.jsonl: No sp"),
        (SafetensorError("I/O error: No space left (os error 28)"), "run: I/O error: No space"),
        (
            RuntimeError("PytorchStreamWriter failed writing file data/0\nframe 1"),
            "run: torch could",
        ),
        (
            RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 4"),
            "run: torch could not write a whole checkpoint",
        ),
    ],
)
def test_a_full_disk_is_told_in_a_line_with_a_remedy(raised: Exception, told: str) -> None:
    with pytest.raises(FormatError, match=f"^{told}") as caught, run_failures(RUN):
        raise raised
    assert "free space and continue with --resume" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "raised",
    [
        "DataLoader worker (pid 4242) is killed by signal: Killed. ",
        "DataLoader worker (pid(s) 4242, 4243) exited unexpectedly",
        "DataLoader worker (pid(s) 4242) exited unexpectedly with exit code 1. Details are lost "
        "due to multiprocessing. Rerunning with num_workers=0 may give better error trace.",
    ],
)
def test_a_killed_data_worker_is_reported_in_a_line(raised: str) -> None:
    expected = pytest.raises(TrainingError, match="reads videos ended unexpectedly")
    with expected as caught, run_failures(RUN):
        raise RuntimeError(raised)
    assert "continue with --resume and fewer --workers" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_other_errors_pass() -> None:
    for error in (RuntimeError("a bug"), InputError("a value"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as caught, run_failures(RUN):
            raise error
        assert caught.value is error
