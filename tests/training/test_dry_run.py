"""A dry run reports what a run takes, with and without its data, and writes nothing."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from vidground.cli.main import cli
from vidground.training.config import read_config
from vidground.training.dry_run import plan_training, planned_data
from vidground.training.toy.dataset import write_dataset
from vidground.training.toy.model import make_toy_model, toy_config
from vidground.training.toy.world import ToySettings

TOY = {"model.init": "toy", "parameters.trained": "full"}


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("films")
    settings = ToySettings(min_duration_s=8, max_duration_s=12, max_events=1, fps=2)
    write_dataset(folder, videos=5, seed=0, size=32, settings=settings)
    return folder


def dry_run(*arguments: str | Path) -> Result:
    given = ["train", *map(str, arguments), "--dry-run"]
    return CliRunner().invoke(cli, given, catch_exceptions=False)


def test_the_released_run_is_reported_without_weights_and_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = dry_run("sft", "--config", "sft")
    assert done.exit_code == 0, done.output
    # Low-rank adapters of rank 128 beside 3072 x 9216 and 3072 x 3072, in 32 layers.
    adapters = 32 * 128 * ((3072 + 9216) + (3072 + 3072))
    assert f"{adapters:,}" in done.stdout
    assert "349,257,856 of 5,096,497,280 parameters are trained" in done.stdout
    assert "not on this machine; the released size is assumed" in done.stdout
    assert "the number of steps is unknown" in done.stdout
    assert not list(tmp_path.iterdir())


def test_the_steps_are_those_of_the_data(films: Path) -> None:
    samples = json.loads((films / "sft.json").read_text())
    values = {
        **TOY,
        "data.annotations": [str(films / "sft.json")],
        "data.videos": str(films),
        "schedule.batch_size": 2,
        "schedule.accumulation": 2,
        "schedule.epochs": 3,
        "output.dir": "run",
    }
    plan = plan_training(read_config("sft", None, values))
    per_epoch = -(-len(samples) // 4)
    assert plan.data.samples == len(samples)
    assert (plan.data.steps_per_epoch, plan.data.steps) == (per_epoch, 3 * per_epoch)
    longest = max(sample["duration"] for sample in samples)
    assert plan.data.longest.frames == -(-longest // 1)
    assert plan.counts.in_full == plan.counts.total
    assert f"{len(samples)} samples, {per_epoch} steps an epoch" in str(plan)


def test_a_folder_with_a_model_is_read_and_not_taken_for_the_released_one(
    films: Path, tmp_path: Path
) -> None:
    sizes = {"image_size": 32, "patch_size": 8, "vision_layers": 1, "vision_width": 32}
    model = make_toy_model(toy_config(**sizes, text_layers=4, text_width=32))
    model.save_pretrained(tmp_path / "model")
    done = dry_run(
        "sft", "--model", tmp_path / "model", "--annotations", films / "sft.json",
        "--videos", films, "--set", "parameters.trained=language",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    total = sum(p.numel() for p in model.parameters())
    kept = sum(p.numel() for part in (model.vision, model.compressor) for p in part.parameters())
    assert f"{total - kept:,} of {total:,} parameters are trained" in done.stdout
    assert not (tmp_path / "run").exists()


def test_what_is_there_and_wrong_is_an_error(films: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text('[{"video": 3}]')
    done = CliRunner().invoke(
        cli,
        ["train", "sft", "--config", "toy-sft", "--dry-run", "--videos", str(films),
         "--annotations", str(tmp_path / "bad.json")],
    )  # fmt: skip
    assert done.exit_code != 0


def test_the_disk_space_is_that_of_models_and_states(films: Path) -> None:
    values = {
        **TOY,
        "data.annotations": [str(films / "sft.json")],
        "data.videos": str(films),
        "output.dir": "run",
        "output.keep": 3,
    }
    plan = plan_training(read_config("sft", None, values))
    model = 4 * plan.counts.total  # float32
    assert (plan.disk.model, plan.disk.checkpoint) == (model, 4 * model)  # and two moments
    assert plan.disk.peak == 4 * 4 * model + 2 * model
    assert f"disk: {model / 2**30:.2f} GiB for the model" in str(plan)
    without = plan_training(read_config("sft", None, values | {"output.keep": None}))
    assert without.disk.peak is None
    assert "all are kept" in str(without)


@pytest.mark.parametrize("trained", ["released", "full", "full-but-vision", "language"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_half_precision_weights_can_be_planned(
    trained: str, precision: str, films: Path, tmp_path: Path
) -> None:
    sizes = {"image_size": 32, "patch_size": 8, "vision_layers": 1, "vision_width": 32}
    model = make_toy_model(toy_config(**sizes, text_layers=4, text_width=32))
    model.half().save_pretrained(tmp_path / "model")
    values = {
        "model.name": str(tmp_path / "model"),
        "data.annotations": [str(films / "sft.json")],
        "data.videos": str(films),
        "parameters.trained": trained,
        "schedule.precision": precision,
        "output.dir": "run",
    }
    plan = plan_training(read_config("sft", None, values))
    assert min(plan.batches.values()) > 0
    assert plan.disk.model == 2 * plan.counts.total  # saved in the type it was stored in


def test_pairs_have_two_answers() -> None:
    values = {"data.annotations": ["gone.json"], "data.videos": "x", "output.dir": "run"}
    data = planned_data(read_config("fpo", None, values | TOY), None)
    assert (data.samples, data.steps) == (None, None)
    assert data.longest.responses == 2
    assert data.longest.frames == 350  # the released limit, at one frame a second
    assert data.longest.tokens == 350 + data.longest.prompt + 2 * data.longest.answer
