import json

import pytest
from click.testing import CliRunner

from tests.helpers.random_models import tiny_config
from tests.helpers.video_files import make_video
from vidground.benchmark import random_model as random_models
from vidground.benchmark import run as benchmark
from vidground.benchmark.measuring import Ceilings
from vidground.cli.main import cli
from vidground.video.nvdec import opens_card


@pytest.fixture(autouse=True)
def ceilings(monkeypatch) -> None:
    """What the device can do, which takes seconds to measure."""
    monkeypatch.setattr(benchmark, "measure_ceilings", lambda *_: Ceilings(1e12, 1e10))


@pytest.fixture
def video(tmp_path):
    return str(make_video(tmp_path / "v.mp4", frames=75, size=(96, 64)))


def run(*arguments: str):
    return CliRunner().invoke(cli, ["bench", *arguments])


def test_a_table_on_stdout_and_json_in_a_file(video, tmp_path) -> None:
    result = run(
        video, "--model", "toy", "--tokens", "30", "--json", str(tmp_path / "new" / "b.json")
    )
    assert result.exit_code == 0, result.output
    assert "peak memory" in result.stdout
    assert "answers" in result.stderr
    values = json.loads((tmp_path / "new" / "b.json").read_text())
    assert values["most_tokens"] == 30
    assert values["baseline"] is None


def test_random_weights_beside_the_released_procedure(video, monkeypatch) -> None:
    monkeypatch.setattr(random_models, "mid_config", tiny_config)
    result = run(
        video, "--random-weights", "mid", "--tokens", "23", "--batch-size", "3",
        "--frame-batch", "2", "--videos", "4", "--baseline", "--rounds", "2", "--json", "-", "-q",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    values = json.loads(result.stdout)
    assert values["model"] == "random-mid"
    assert values["tokens"] == 23
    at_once = [values[f"{what}_at_once"] for what in ("prompts", "frames", "videos")]
    assert at_once == [3, 2, 4]
    assert len(values["baseline"]["rounds"]) == 2
    assert values["baseline"]["agreement"]["evidence"] == 3
    assert result.stderr == ""


@pytest.mark.skipif(opens_card("auto"), reason="there is a card")
def test_decode_on_is_passed_on(video) -> None:
    quick = ("--model", "toy", "--tokens", "8", "-q")
    result = run(video, *quick, "--json", "-", "--decode-on", "auto")
    assert result.exit_code == 0, result.output
    decoding = json.loads(result.stdout)["decoding"]
    assert (decoding["decode_on"], decoding["left_to_cpu"]) == ("auto", 1)
    assert decoding["equal"] == decoding["frames"] == 3
    demanded = run(video, *quick, "--decode-on", "cuda")
    assert demanded.exit_code == 2
    assert "there is no such card" in " ".join(demanded.stderr.split())


def test_wrong_usage(video, tmp_path) -> None:
    both = run(video, "--model", "toy", "--random-weights", "mid")
    assert both.exit_code == 2
    assert "leave out --model" in both.stderr
    unwritable = run(video, "--model", "toy", "--json", str(tmp_path))
    assert unwritable.exit_code == 1
    assert "cannot be written" in unwritable.stderr
    assert "frames of" not in unwritable.stderr  # before anything is measured
    missing = run(str(tmp_path / "none.mp4"), "--model", "toy")
    assert missing.exit_code == 2
    assert "none.mp4" in missing.stderr
