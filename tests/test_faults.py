"""Which exceptions are mistakes of the program, and how they are reported."""

import pickle
import platform
import re
from importlib import metadata

import av
import pytest
import torch

from vidground.errors import (
    CheckpointError,
    FormatError,
    InputError,
    InternalError,
    VideoError,
    VidgroundError,
)
from vidground.faults import as_internal, faults_as_internal, is_fault, kind_of, told
from vidground.storage.files import file_sha256
from vidground.version import __version__

FAULTS = [
    TypeError("no such argument"),
    AttributeError("no such name"),
    IndexError("list index out of range"),
    KeyError("k"),
    AssertionError(),
    NameError("x"),
    NotImplementedError(),
    ValueError("shapes differ"),
    RuntimeError("a kernel failed"),
    ZeroDivisionError("division by zero"),
    ImportError("no such library"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
]
OUT_OF_MEMORY = [
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory"),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"),
]


@pytest.mark.parametrize("error", FAULTS, ids=lambda error: type(error).__name__)
def test_exceptions_that_nobody_raises_on_purpose_are_internal(error: Exception) -> None:
    assert is_fault(error)
    assert kind_of(error) == "internal"
    assert told(error, "a.mp4").startswith(f"'a.mp4': internal error: {type(error).__name__}")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (VideoError("no frame"), "input"),
        (InputError("too long"), "input"),
        (FormatError("not writable"), "system"),
        (CheckpointError("no model"), "system"),
        (VidgroundError("killed"), "system"),
        (OSError(28, "No space left on device"), "system"),
        *((error, "system") for error in OUT_OF_MEMORY),
        (InternalError("a mistake"), "internal"),
    ],
)
def test_other_exceptions_say_something_about_the_file_or_the_machine(
    error: Exception, kind: str
) -> None:
    assert not is_fault(error)
    assert kind_of(error) == kind


def test_signals_are_no_mistakes() -> None:
    assert not any(map(is_fault, (KeyboardInterrupt(), SystemExit(1), GeneratorExit())))


def test_a_report_holds_all_that_is_needed_to_find_the_mistake() -> None:
    with pytest.raises(InternalError) as caught, faults_as_internal("dir/a.mp4"):
        file_sha256(3.5)  # type: ignore[arg-type]
    error = caught.value
    text = str(error)
    assert text.startswith("'dir/a.mp4': internal error: TypeError: ")
    assert re.search(r"\(in vidground\.storage\.files, line \d+, \w+; ", text)
    for version in (
        f"vidground {__version__}",
        f"PyAV {av.__version__}",
        f"torch {metadata.version('torch')}",
        f"Python {platform.python_version()}",
    ):
        assert version in text
    assert "please report" in text
    assert "--traceback" in text
    assert "damaged" not in text
    assert isinstance(error.__cause__, TypeError)
    assert error.traceback.startswith("Traceback (most recent call last)")
    assert "in file_sha256" in error.traceback


def test_a_report_is_one_line_of_reasonable_length() -> None:
    text = str(as_internal(ValueError("first\nsecond " + "x" * 9999), "a.mp4"))
    assert "ValueError: first second xxx" in text
    assert "\n" not in text
    assert len(text) < 800


def test_a_report_survives_the_way_to_another_process() -> None:
    error = as_internal(KeyError("k"), "a.mp4")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.traceback) == (str(error), error.traceback)
    assert isinstance(again, InternalError)


def test_what_is_reported_already_is_not_reported_twice() -> None:
    error = as_internal(KeyError("k"), "a.mp4")
    assert as_internal(error, "b.mp4") is error
    assert told(error, "b.mp4") == str(error)


def test_expected_errors_and_signals_pass_unchanged() -> None:
    for error in (VideoError("no frame"), OSError(5, "disk"), MemoryError(), KeyboardInterrupt()):
        with pytest.raises(type(error)) as caught, faults_as_internal("a.mp4"):
            raise error
        assert caught.value is error
