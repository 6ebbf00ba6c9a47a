"""`vidground train sft` of models that express times by matching frames."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from tests.helpers.tokenizer_files import etchat_checkpoint
from tests.helpers.training_runs import tiny_model
from vidground.cli.main import cli
from vidground.grounder import Grounder
from vidground.training.toy.dataset import write_video

SECONDS = 6


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a video, annotations with evidence, and a tiny model that matches frames."""
    folder = tmp_path_factory.mktemp("data")
    drawn = np.random.default_rng(0).integers(256, size=(4 * SECONDS, 64, 64, 3), dtype=np.uint8)
    write_video(folder / "a.mp4", iter(drawn), fps=4)
    answers = [
        {"from": "human", "value": "<image>\nWhat happens?"},
        {"from": "gpt", "value": "<evi></evi><evi>, a red circle moves."},
    ]
    sample = {"task": "dvc", "source": "toy", "video": "a.mp4", "duration": float(SECONDS)}
    sample |= {"tgt": [1.0, 3.0], "conversations": answers}
    (folder / "sft.json").write_text(json.dumps([sample] * 4))
    tiny_model(time_tokens="matching").save_pretrained(folder / "model")
    return folder


def sft(data: Path, run: Path, *arguments: str) -> Result:
    files = ["--annotations", str(data / "sft.json"), "--videos", str(data), "-o", str(run)]
    few = ["--max-steps", "2", "--batch-size", "2", "--set", "distribution.cpu=true"]
    return CliRunner().invoke(cli, ["train", "sft", *files, *few, *arguments])


def test_a_trained_model_still_matches_frames(data: Path, tmp_path: Path) -> None:
    done = sft(data, tmp_path, "--model", str(data / "model"))
    assert done.exit_code == 0, done.output
    grounder = Grounder(str(tmp_path), device="cpu")
    config = grounder.engine.model.config
    assert (config.time_tokens, config.evidence_stage) == ("matching", False)
    assert len(grounder.query(data / "a.mp4", "a circle").relevance) == SECONDS


@pytest.mark.parametrize("trained", ["released", "full"])
def test_a_released_model_is_trained_further(data: Path, tmp_path: Path, trained: str) -> None:
    base = etchat_checkpoint(tmp_path / "base")
    values = json.loads((base / "config.json").read_text())
    values |= {"max_position_embeddings": 2048, "original_max_position_embeddings": 2048}
    (base / "config.json").write_text(json.dumps(values))
    options = ["--model", str(base), "--set", f"parameters.trained={trained}"]
    if trained == "released":
        options += ["--set", "output.weights=adapter"]
    done = sft(data, tmp_path / "run", *options)
    assert done.exit_code == 0, done.output
    assert Grounder(str(tmp_path / "run"), device="cpu").engine.model.config.matches


def test_a_plan_and_a_refusal(data: Path, tmp_path: Path) -> None:
    planned = sft(data, tmp_path, "--init", "toy", "--set", "model.time_tokens=matching")
    plan = sft(
        data, tmp_path / "b", "--init", "toy", "--set", "model.time_tokens=matching", "--dry-run"
    )
    assert (planned.exit_code, plan.exit_code) == (0, 0), plan.output
    other = sft(
        data, tmp_path / "c", "--model", str(data / "model"), "--set", "model.time_tokens=evidence"
    )
    assert other.exit_code == 1
    assert "with time_tokens 'matching'" in other.output


@pytest.mark.parametrize("dry", [True, False])
def test_preferences_need_evidence(data: Path, tmp_path: Path, dry: bool) -> None:
    pairs = json.loads((data / "sft.json").read_text())
    for pair in pairs:
        pair["tgt"] = {"chosen": pair["tgt"], "a_b_shift": [3.0, 5.0]}
        pair["conversations"] = dict.fromkeys(pair["tgt"], pair["conversations"])
    (tmp_path / "fpo.json").write_text(json.dumps(pairs))
    arguments = ["--annotations", str(tmp_path / "fpo.json"), "--videos", str(data)]
    arguments += ["--model", str(data / "model"), "-o", str(tmp_path / "run")]
    arguments += ["--set", "distribution.cpu=true", *["--dry-run"] * dry]
    done = CliRunner().invoke(cli, ["train", "fpo", *arguments])
    assert done.exit_code in (1, 2)
    assert "FPO compares evidence" in done.output
