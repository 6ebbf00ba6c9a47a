"""What is loaded is told before it takes its time; and which models there are."""

import json
import logging
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.helpers.hub_stub import COMMIT
from tests.helpers.paths import EXAMPLES
from tests.helpers.tokenizer_files import GOLDEN_CHECKPOINT
from vidground import Grounder
from vidground.checkpoints.announcement import expected_device, spoken_bytes, spoken_count
from vidground.checkpoints.cached_models import list_models
from vidground.cli.main import cli

MODULE = "vidground.checkpoints.announcement"
FILM = str(EXAMPLES / "film_2.mp4")
LINE = "Loading toy (2.31 M parameters, float32, 9.2 MB) on cpu …"

# What is printed before torch would be imported; its import fails here.
WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
from vidground.cli.main import cli
cli.main(sys.argv[1:], standalone_mode=False)
"""


def without_torch(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["caption", FILM, "-o", "out"],
        ["query", FILM, "--text", "a cross", "-o", "out"],
        ["search", "a cross", FILM],
        ["bench", FILM],
    ],
)
def test_the_line_comes_before_torch_is_imported(arguments: list[str], tmp_path: Path) -> None:
    done = without_torch(*arguments, "--model", "toy", "--device", "cpu", cwd=tmp_path)
    assert done.stderr.splitlines()[0] == LINE
    assert "torch" in done.stdout + done.stderr.partition("\n")[2]
    quiet = without_torch(*arguments, "--model", "toy", "--device", "cpu", "-q", cwd=tmp_path)
    assert "Loading" not in quiet.stderr


def test_converting_logs_the_line_too(tmp_path: Path) -> None:
    done = without_torch("convert-model", "toy", "own", "--dtype", "bfloat16", cwd=tmp_path)
    assert done.stderr.splitlines()[0] == (
        "Loading toy (2.31 M parameters, bfloat16, 4.6 MB) on cpu …"
    )
    done = without_torch("convert-model", "toy", "own", cwd=tmp_path)
    assert "parameters, float16, 4.6 MB) on cpu" in done.stderr  # as it is stored


def test_a_json_log_has_an_event(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRANSFORMERS_VERBOSITY", "error")
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    options = ["--model", "toy", "--device", "cpu", "--log-format", "json", "-o", "out"]
    done = CliRunner().invoke(cli, ["caption", FILM, *options])
    assert done.exit_code == 0, done.output
    events = [json.loads(line) for line in done.stderr.splitlines()]
    loading = [event for event in events if event["event"] == "loading"]
    assert loading == [
        {
            "event": "loading",
            "model": "toy",
            "source": "toy",
            "parameters": 2310880,
            "dtype": "float32",
            "device": "cpu",
            "stored_dtype": "float16",
            "size_bytes": 4 * 2310880,
        }
    ]
    assert events[0] == loading[0]


def test_the_sdk_logs_it(caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="vidground"):
        Grounder("toy", device="cpu", dtype="bfloat16")
    assert caplog.messages == [
        "Loading toy (2.31 M parameters, bfloat16, 4.6 MB) on cpu …",
        "the model toy knows moving coloured shapes only; what it says about other videos means "
        "nothing",
    ]
    assert capsys.readouterr() == ("", "")


def test_the_device_is_left_open_where_only_torch_can_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{MODULE}.version", lambda _: "2.13.0+cu130")
    monkeypatch.setattr(f"{MODULE}.sys.platform", "linux")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for there, expected in ((True, None), (False, "cpu")):
        monkeypatch.setattr(f"{MODULE}.os.path.exists", lambda _, there=there: there)
        assert expected_device() == expected
    monkeypatch.setattr(f"{MODULE}.os.path.exists", lambda _: True)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert expected_device() == "cpu"
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr(f"{MODULE}.version", lambda _: "2.13.0+cpu")
    assert expected_device() == "cpu"


def test_numbers_have_three_digits() -> None:
    assert spoken_count(5_020_945_408) == "5.02 B"
    assert spoken_count(2_310_880) == "2.31 M"
    assert spoken_bytes(10_041_890_816) == "10.0 GB"
    assert spoken_bytes(4_643_024) == "4.6 MB"


def cached(cache: Path, repository: str, folder: str) -> Path:
    snapshot = cache / f"models--{repository.replace('/', '--')}" / "snapshots" / COMMIT
    return Path(shutil.copytree(GOLDEN_CHECKPOINT, snapshot / folder))


def test_models_lists_names_and_what_is_cached(tmp_path: Path) -> None:
    own = cached(tmp_path, "wenzhengzeng/D2VLM-Models", "D2VLM_mcqa_enhanced")
    other = cached(tmp_path, "someone/model", "")
    broken = cached(tmp_path, "someone/broken", "")
    (broken / "model.safetensors").unlink()
    listed = {model.name: model for model in list_models(tmp_path)}
    assert list(listed) == ["toy", "d2vlm", "d2vlm-mcqa", "etchat", "someone/model"]
    assert listed["d2vlm"].copies == ()
    (copy,) = listed["d2vlm-mcqa"].copies
    assert (copy.path, copy.revision) == (own, COMMIT)
    assert copy.disk_bytes == (own / "model.safetensors").stat().st_size
    assert listed["someone/model"].copies[0].path == other

    done = without_torch("models", "--cache-dir", str(tmp_path), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "d2vlm (default)\n" in done.stdout
    assert "referring 38.3 (accuracy), grounding 44.3 (F1), captioning 37.2 (F1)" in done.stdout
    assert "memory  float32 20.1 GB, bfloat16 10.0 GB, int8 6.4 GB, int4 5.1 GB\n" in done.stdout
    assert "download it with: vidground download d2vlm\n" in done.stdout
    assert f"cached  {own} (" in done.stdout
    done = CliRunner().invoke(cli, ["models", "--json", "--cache-dir", str(tmp_path)])
    models = {model["name"]: model for model in json.loads(done.stdout)["models"]}
    assert models["d2vlm"]["memory_bytes"]["bfloat16"] == 2 * 5_020_945_408
    assert models["d2vlm-mcqa"]["copies"][0]["path"] == str(own)
    assert models["someone/model"]["parameters"] == models["d2vlm-mcqa"]["parameters"] < 1e6
