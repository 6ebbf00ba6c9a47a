"""The examples of docs/annotations.md are what the page says they are."""

import re
from pathlib import Path
from typing import get_args

import pytest
import yaml

from tests.helpers.paths import ROOT
from vidground.cli.data import data
from vidground.results.annotation_tools.label_studio import LABELING_CONFIG
from vidground.training.config import read_config
from vidground.training.data.annotations import (
    Kind,
    PreferenceAnnotation,
    check_annotations,
    load_annotations,
)
from vidground.training.data.perturbation import preference_annotations

PAGE = (ROOT / "docs/annotations.md").read_text(encoding="utf-8")


def example(kind: str) -> str:
    found = re.search(rf"<!-- example: {kind} -->\n```json\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    return found.group(1)


@pytest.mark.parametrize("kind", get_args(Kind))
def test_the_examples_validate(tmp_path: Path, kind: Kind) -> None:
    file = tmp_path / "a.json"
    file.write_text(example(kind), encoding="utf-8")
    report = check_annotations([file], kind=kind, strict=True)
    assert report.problems == ()
    assert len(report.annotations) == {"sft": 4, "fpo": 1}[kind]
    if kind == "fpo":
        (pair,) = load_annotations([file], kind="fpo")
        assert isinstance(pair, PreferenceAnnotation)
        assert [variant.factor for variant in pair.variants] == ["temporal", "text"]


def test_pairs_can_be_made_of_the_example() -> None:
    samples = yaml.safe_load(example("sft"))
    assert len(list(preference_annotations(samples))) >= 2


def test_the_labelling_interface_is_that_of_the_tasks() -> None:
    assert f"```xml\n{LABELING_CONFIG}```" in PAGE


def test_the_example_of_data_sets_is_a_configuration(tmp_path: Path) -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    file = tmp_path / "run.yaml"
    file.write_text(block)
    config = read_config("sft", file, {"model.init": "toy", "output.dir": "run"})
    assert [item.weight for item in config.data.all_sets] == [2.0, 0.25]
    assert config.data.folders == ("Charades_v1", "activitynet/train", "activitynet/extra")


def test_every_command_and_option_exists() -> None:
    lines = re.findall(r"^vidground data (\S+) (.*)$", PAGE, re.MULTILINE)
    assert {name for name, _ in lines} == {"validate", "convert", "perturb", "pairs"}
    for name, rest in lines:
        command = data.commands[name]
        known = {flag for parameter in command.params for flag in parameter.opts}
        assert set(re.findall(r"(?<=\s)--?[a-z-]+", f" {rest}")) <= known
