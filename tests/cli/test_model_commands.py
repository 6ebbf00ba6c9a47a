import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.helpers.tokenizer_files import GOLDEN_CHECKPOINT, released_checkpoint
from vidground.checkpoints.loading import load_model
from vidground.cli.convert_model import convert_model
from vidground.cli.download import download
from vidground.errors import InputError


def convert(*arguments: str | Path) -> Result:
    return CliRunner().invoke(convert_model, [str(argument) for argument in arguments])


def test_a_converted_model_loads_as_its_source_does(tmp_path: Path) -> None:
    source = released_checkpoint(tmp_path / "released")
    done = convert(source, tmp_path / "own")
    assert done.exit_code == 0, done.output
    assert done.stdout == ""
    assert "707,752 parameters, float32" in done.stderr
    before, after = load_model(source), load_model(tmp_path / "own")
    assert f"{len(before.state_dict())} tensors" in done.stderr
    assert after.config.model_type == "d2vlm"
    assert after.config.turn_end_token_id == before.config.turn_end_token_id
    for name, tensor in before.state_dict().items():
        assert tensor.equal(after.state_dict()[name])
    # Nothing of it is read from elsewhere.
    shutil.rmtree(source)
    assert load_model(tmp_path / "own", local_files_only=True).tokenizers is not None


def test_a_converted_model_is_stored_in_the_type_asked_for(tmp_path: Path) -> None:
    assert convert(GOLDEN_CHECKPOINT, tmp_path / "own", "--dtype", "bfloat16").exit_code == 0
    assert str(load_model(tmp_path / "own").dtype) == "torch.bfloat16"


def test_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    refused = convert(GOLDEN_CHECKPOINT, tmp_path)
    assert isinstance(refused.exception, InputError)
    assert "is not empty" in str(refused.exception)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_overwriting_leaves_no_weights_of_the_old_model(tmp_path: Path) -> None:
    model = load_model(GOLDEN_CHECKPOINT)
    model.save_pretrained(tmp_path, max_shard_size="500KB")
    (tmp_path / "notes.txt").write_text("mine")
    assert convert(GOLDEN_CHECKPOINT, tmp_path, "--overwrite").exit_code == 0
    assert [path.name for path in tmp_path.glob("model*")] == ["model.safetensors"]
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_model_is_not_converted_onto_itself(tmp_path: Path) -> None:
    source = released_checkpoint(tmp_path)
    refused = convert(source, source, "--overwrite")
    assert isinstance(refused.exception, InputError)
    assert "source itself" in str(refused.exception)


def test_download_prints_where_the_model_is(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(GOLDEN_CHECKPOINT, tmp_path / "models" / "golden"))
    done = CliRunner().invoke(download, [str(tmp_path / "models"), "--subfolder", "golden"])
    assert done.exit_code == 0, done.output
    assert done.stdout == f"{folder}\n"


@pytest.mark.parametrize("command", ["download", "convert_model"])
def test_help_needs_no_torch(command: str) -> None:
    program = (
        f"import sys; from vidground.cli.{command} import {command} as command\n"
        "try: command(['--help'])\n"
        "finally: assert not {'torch', 'huggingface_hub'} & sys.modules.keys()"
    )
    done = subprocess.run([sys.executable, "-c", program], env=os.environ, capture_output=True)
    assert done.returncode == 0, done.stderr
