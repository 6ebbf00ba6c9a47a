import json
import logging
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from vidground.errors import CheckpointError, InputError
from vidground.training.checkpoints import (
    CHECKSUMS,
    PROGRESS,
    STATE,
    TRAINED,
    Progress,
    check_same_data,
    checkpoint_fault,
    file_digests,
    read_progress,
    usable_checkpoint,
    write_checksums,
)
from vidground.training.sample_order import RunPosition, StepSize


def checkpoint(run: Path, step: int, *, checksums: bool = True) -> Path:
    folder = run / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    save_file({"weight": torch.ones(64)}, folder / TRAINED)
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        torch.save({"values": torch.ones(64)}, folder / name)
    (folder / STATE).write_text(json.dumps({"global_step": step}))
    Progress(RunPosition(step, 2 * step), StepSize(2), 10, {"a.json": "0"}).write(folder)
    if checksums:
        write_checksums(folder)
    return folder


def test_the_newest_complete_checkpoint_is_used(tmp_path: Path) -> None:
    assert usable_checkpoint(tmp_path / "none") is None
    for step in (9, 10):
        checkpoint(tmp_path, step)
    (tmp_path / "checkpoint-11").mkdir()  # killed before its state was written
    (tmp_path / "checkpoint-x").mkdir()
    assert usable_checkpoint(tmp_path) == tmp_path / "checkpoint-10"


@pytest.mark.parametrize("checksums", [True, False], ids=["checksums", "no-checksums"])
@pytest.mark.parametrize("name", [TRAINED, STATE, "optimizer.pt", "scheduler.pt"])
@pytest.mark.parametrize("damage", ["truncated", "missing"])
def test_a_damaged_checkpoint_is_reported_and_the_one_before_is_used(
    damage: str, name: str, checksums: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint(tmp_path, 1, checksums=checksums)
    file = checkpoint(tmp_path, 2, checksums=checksums) / name
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with caplog.at_level(logging.WARNING):
        assert usable_checkpoint(tmp_path) == tmp_path / "checkpoint-1"
    lines = [record.getMessage() for record in caplog.records]
    if (damage, name) == ("missing", STATE):
        assert lines == []  # incomplete, as a kill leaves it
        return
    (line,) = lines
    assert line.startswith(f"{file.parent} cannot be used ({name}")
    assert line.endswith("trying the one before")
    assert "\n" not in line


def test_a_changed_byte_is_found(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, 1)
    assert checkpoint_fault(folder) is None
    content = bytearray((folder / TRAINED).read_bytes())
    content[-1] ^= 1
    (folder / TRAINED).write_bytes(content)
    assert checkpoint_fault(folder) == f"{TRAINED} is damaged"


def test_a_missing_random_state_is_found(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, 1)
    (folder / "rng_state.pth").unlink()
    assert checkpoint_fault(folder) == "rng_state.pth is missing"


def test_damaged_checksums_make_a_checkpoint_unusable(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, 1)
    (folder / CHECKSUMS).write_text("{")
    assert checkpoint_fault(folder) is not None


def test_without_a_usable_checkpoint_the_run_is_refused(tmp_path: Path) -> None:
    (checkpoint(tmp_path, 1) / TRAINED).write_bytes(b"")
    with pytest.raises(CheckpointError, match="no checkpoint can be used, 1 damaged; start again"):
        usable_checkpoint(tmp_path)


def test_progress_is_read_as_it_was_written(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, 3)
    found = read_progress(folder, size=StepSize(9), count=0)
    assert found == Progress(RunPosition(3, 6), StepSize(2), 10, {"a.json": "0"})


def test_an_earlier_version_counted_steps_only(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, 3)
    (folder / PROGRESS).unlink()
    found = read_progress(folder, size=StepSize(4), count=10)
    assert found.position == RunPosition(3, 12)


def test_unreadable_progress_is_reported(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, 3)
    (folder / PROGRESS).write_text("{}")
    with pytest.raises(CheckpointError, match="its progress cannot be read"):
        read_progress(folder, size=StepSize(4), count=10)


def test_edited_annotations_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text("[1]")
    before = Progress(RunPosition(1, 1), StepSize(1), 4, file_digests([file]))
    check_same_data(before, file_digests([file]), 4)
    with pytest.raises(InputError, match="began with 4 samples and finds 3 now"):
        check_same_data(before, file_digests([file]), 3)
    file.write_text("[2]")
    with pytest.raises(InputError, match=r"a\.json has changed since the run began"):
        check_same_data(before, file_digests([file]), 4)
