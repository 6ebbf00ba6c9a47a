from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from vidground.errors import InputError
from vidground.training.config import ObjectiveName, RunConfig, read_config
from vidground.training.config_files import bundled_configs, parse_value
from vidground.training.config_keys import config_sections, keys_text
from vidground.training.objectives.settings import FpoSettings, LoraSettings, SftSettings

NEEDED: dict[str, Any] = {
    "model.init": "toy",
    "data.annotations": "a.json",
    "data.videos": "videos",
    "output.dir": "run",
}


def config(objective: str = "sft", file: Path | None = None, **changed: Any) -> RunConfig:
    values = NEEDED | {key.replace("__", "."): value for key, value in changed.items()}
    return read_config("fpo" if objective == "fpo" else "sft", file, values)


def written(folder: Path, text: str) -> Path:
    path = folder / "c.yaml"
    path.write_text(text)
    return path


def test_defaults_are_the_released_ones() -> None:
    made = config()
    assert made.loss == SftSettings(grounding_weight=10.0, consistency_weight=10.0)
    assert made.parameters.lora == LoraSettings(rank=128, alpha=256, dropout=0.05)
    assert (made.parameters.learning_rate, made.parameters.lora_learning_rate) == (2e-5, 5e-5)
    assert (made.schedule.warmup, made.schedule.decay, made.schedule.epochs) == (0.03, "cosine", 1)
    assert config("fpo").loss == FpoSettings(beta=0.1)
    assert made.data.annotations == ("a.json",)


def test_values_win_over_the_file(tmp_path: Path) -> None:
    text = "schedule: {batch_size: 4, accumulation: 2}\nloss: {grounding_weight: 1}\n"
    made = config(file=written(tmp_path, text), schedule__batch_size=8)
    assert (made.schedule.batch_size, made.schedule.accumulation) == (8, 2)
    assert made.sft.grounding_weight == 1.0


def test_a_text_that_yaml_does_not_take_for_a_number_is_one(tmp_path: Path) -> None:
    made = config(file=written(tmp_path, "parameters: {learning_rate: 2e-5}\n"))
    assert made.parameters.learning_rate == 2e-5


@pytest.mark.parametrize("objective", ["sft", "fpo"])
def test_what_is_written_is_read_back(objective: str, tmp_path: Path) -> None:
    made = config(objective, data__evaluation=["b.json", "c.json"], output__eval_every=5)
    path = written(tmp_path, made.to_yaml())
    assert read_config(made.objective, path) == made
    assert yaml.safe_load(made.to_yaml())["loss"].keys() == (
        set(SftSettings.__slots__) if objective == "sft" else set(FpoSettings.__slots__)
    )


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (
            "schedule.batchsize",
            r"unknown key schedule\.batchsize; did you mean schedule\.batch_s",
        ),
        ("optimiser", r"unknown key optimiser; known: objective, model"),
        ("parameters.lora.rnk", r"unknown key parameters\.lora\.rnk; did you mean .*lora\.rank"),
        ("loss.beta", r"unknown key loss\.beta"),
    ],
)
def test_unknown_keys_are_refused_by_name(key: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_config("sft", None, NEEDED | {key: 1})


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("schedule.max_steps", 2.5, r"schedule\.max_steps is 2\.5; it must be a whole number"),
        ("schedule.max_steps", True, r"schedule\.max_steps is True; it must be a whole number"),
        ("schedule.max_steps", 0, r"schedule\.max_steps is 0; it must be at least 1"),
        ("schedule.warmup", 1.0, r"schedule\.warmup is 1\.0; it must be in \[0, 1\)"),
        ("schedule.warmup", "fast", r"schedule\.warmup is 'fast'; it must be a finite number"),
        ("schedule.decay", "none", r"schedule\.decay is 'none'; choose from 'cosine', 'linear'"),
        ("schedule", 3, r"schedule\.|schedule is 3; it needs keys and values"),
        ("output.tensorboard", "yes", r"output\.tensorboard is 'yes'; it must be true or false"),
        ("output.keep", 0, r"output\.keep is 0"),
        ("model.name", "m", r"model: give a name .* or an init"),
        ("model.dtype", "float32", r"dtype need a model\.name"),
        ("data.annotations", [], r"data\.annotations is empty"),
        ("data.annotations", [3], r"data\.annotations is 3; it must be a text"),
        ("data.limits", {"max_tokens": 0}, r"max_tokens is 0"),
        ("data.frames", "patches", r"which needs data\.cache; name a folder"),
        ("data.cache_gib", 0, r"data\.cache_gib is 0"),
        ("loss.target_decay", 1.0, r"target_decay is 1\.0"),
        ("reference", True, r"reference is for FPO"),
        ("output.eval_every", 5, r"name held-out files in data\.evaluation"),
        ("data.evaluation", "b.json", r"output\.eval_every is not, so nothing would be evaluated"),
        (
            "data.unreadable",
            "replace",
            r"data\.unreadable is 'replace'; choose from 'error', 'skip'",
        ),
        ("objective", "rl", r"objective is 'rl'; it must be sft or fpo"),
        ("schedule.patience", 0, r"schedule\.patience is 0; it must be at least 1"),
        ("schedule.patience", 3, r"schedule\.patience needs held-out losses"),
        ("output.model", "best", r"output\.model 'best' needs held-out losses"),
        ("output.hub", "me", r"output\.hub is me; it must be a repository as owner/name"),
        (
            "distribution.fsdp_config",
            "f.json",
            r"fsdp_config needs distribution\.fsdp; set it to true",
        ),
    ],
)
def test_values_that_do_not_fit_are_refused(key: str, value: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_config("sft", None, NEEDED | {key: value})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"output.weights": "adapter", "parameters.trained": "full"},
            "only the released set can be saved as an adapter",
        ),
        (
            {"model.init": None, "model.name": "m", "model.revision": "v1"}
            | {"output.weights": "adapter"},
            "which an adapter cannot name",
        ),
        (
            {"output.weights": "adapter", "loss.evidence_stage": False},
            "the released format cannot store",
        ),
        (
            {"data.frames": "tokens", "data.cache": "c", "parameters.trained": "full-but-vision"},
            "the compressor is trained and its tokens change",
        ),
        (
            {"data.frames": "patches", "data.cache": "c", "parameters.trained": "full"},
            "the vision encoder is trained",
        ),
        (
            {"model.init": None, "model.name": "m", "model.dtype": "bfloat16"},
            r"model\.dtype is 'bfloat16' and schedule\.precision 'float32'",
        ),
        (
            {"model.init": None, "model.name": "m", "model.dtype": "float16"}
            | {"schedule.precision": "bfloat16"},
            r"model\.dtype is 'float16' and schedule\.precision 'bfloat16'",
        ),
        (
            {"output.model": "best", "data.evaluation": "b.json", "output.eval_every": 5}
            | {"distribution.fsdp": True},
            "'best' needs the whole model on each device",
        ),
        ({"distribution.deepspeed": "d", "distribution.fsdp": True}, "choose one of them"),
        (
            {"distribution.cpu": True, "distribution.fsdp": True},
            "distribution.cpu excludes fsdp and deepspeed",
        ),
    ],
)
def test_values_that_exclude_each_other_are_refused(values: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_config("sft", None, NEEDED | values)


def test_a_reference_needs_whole_models() -> None:
    assert config("fpo", reference=True).reference
    with pytest.raises(InputError, match="reference needs the whole model on each device"):
        config("fpo", reference=True, distribution__fsdp=True)


def test_a_file_for_the_other_objective_is_refused() -> None:
    with pytest.raises(InputError, match=r"is for objective 'fpo'; run: vidground train fpo"):
        read_config("sft", "fpo", NEEDED)


def test_a_missing_file_names_those_that_come_along(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot be read .* etchat, fpo, sft, toy-fpo, toy-sft"):
        read_config("sft", tmp_path / "none.yaml", NEEDED)


@pytest.mark.parametrize("text", ["a: [", "- a\n", ""])
def test_a_file_that_is_no_mapping_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"YAML|needs keys and values"):
        read_config("sft", written(tmp_path, text), NEEDED)


def test_a_duplicate_key_is_refused(tmp_path: Path) -> None:
    text = "schedule:\n  epochs: 2\n  seed: 1\n  epochs: 3\n"
    with pytest.raises(InputError, match="duplicate key epochs, the second time in line 4"):
        read_config("sft", written(tmp_path, text), NEEDED)
    apart = written(tmp_path, "schedule: {epochs: 2}\noutput: {keep: 1}\n")
    assert read_config("sft", apart, NEEDED).schedule.epochs == 2


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: &a [1]\nb: [*a, *a]\n", r"alias \*a in line 2; write its value out"),
        ("a: " + "[" * 100_000, "nested too deeply|not valid YAML"),
        ("a: " + "9" * 5000, "not valid YAML"),
        ("a: 2026-99-99", "not valid YAML"),
        ("!!python/object/apply:os.system ['true']", "not valid YAML"),
        ("x" * (2 << 20), "files of this kind are read up to"),
    ],
)
def test_yaml_that_grows_or_runs_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(InputError, match=reason):
        read_config("sft", tmp_path / "c.yaml", NEEDED)


def test_a_value_in_text_is_read_as_yaml() -> None:
    assert parse_value("[a.json, b.json]") == ["a.json", "b.json"]
    assert parse_value("null") is None
    with pytest.raises(InputError, match="is not a YAML value"):
        parse_value("[")


@pytest.mark.parametrize("name", ["sft", "fpo"])
def test_paper_runs_lack_only_their_data(name: str) -> None:
    own = {key: NEEDED[key] for key in ("data.annotations", "data.videos", "output.dir")}
    made = read_config("fpo" if name == "fpo" else "sft", name, own)
    assert (made.parameters.trained, made.schedule.precision) == ("released", "bfloat16")
    assert made.schedule.accumulation == (8 if name == "fpo" else 1)
    assert made.data.limits.max_video_s == 350


@pytest.mark.parametrize("name", ["toy-sft", "toy-fpo"])
def test_toy_runs_are_complete(name: str) -> None:
    made = read_config("fpo" if name == "toy-fpo" else "sft", name)
    assert made.parameters.trained == "full"


def test_every_bundled_file_is_known() -> None:
    assert bundled_configs() == ["etchat", "fpo", "sft", "toy-fpo", "toy-sft"]


@pytest.mark.parametrize("objective", ["sft", "fpo"])
def test_every_key_is_listed_with_its_meaning(objective: ObjectiveName) -> None:
    listed = {key.name: key for part in config_sections(objective) for key in part.keys}
    plain = yaml.safe_load(config(objective).to_yaml())
    assert {name for name in listed if "[]" not in name} == set(dotted(plain)) | {"data.sets"}
    assert listed["schedule.warmup"].default == "0.03"
    assert listed["output.dir"].default == '""'
    assert listed["schedule.patience"].kind == "integer or null"
    assert "rises" in listed["schedule.warmup"].meaning
    assert "data.sets[].weight" in listed
    for name in listed:
        assert f"\n  {name}  (" in "\n" + keys_text(objective)


def dotted(values: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from dotted(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"
