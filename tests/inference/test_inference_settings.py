"""The keyword arguments of `Grounder` and `DenseCaptioner`, and the settings made of them."""

from dataclasses import fields
from inspect import signature
from typing import get_type_hints

import pytest

from tests.helpers.training_runs import tiny_model
from vidground.captioner import DenseCaptioner
from vidground.checkpoints.loading import load_model
from vidground.errors import InputError
from vidground.grounder import Grounder
from vidground.inference.inference_settings import InferenceOptions, InferenceSettings
from vidground.settings import SamplingSettings


def test_keyword_arguments_are_the_fields_and_the_load_options() -> None:
    """With equal types, so that a type checker accepts exactly what the settings accept."""
    options, own = get_type_hints(InferenceOptions), get_type_hints(InferenceSettings)
    names = {field.name for field in fields(InferenceSettings)} - {"load_options"}
    assert {name: options[name] for name in names} == {name: own[name] for name in names}
    loaders = signature(load_model).parameters
    assert options.keys() - names == loaders.keys() - {"model", "device", "dtype", "from_auto"}


def test_other_keyword_arguments_are_load_options() -> None:
    sampling = SamplingSettings(fps=2)
    settings = InferenceSettings.of({"sampling": sampling, "revision": "v1", "token": None})
    assert settings == InferenceSettings(
        sampling=sampling, load_options={"revision": "v1", "token": None}
    )


@pytest.mark.parametrize("kind", [Grounder, DenseCaptioner])
def test_wrong_keyword_arguments_are_refused_by_name(kind: type) -> None:
    with pytest.raises(InputError, match="load_model has no option 'sampler'"):
        kind("toy", sampler=SamplingSettings())
    with pytest.raises(InputError, match="decode_on is 'gpu'"):
        kind("toy", decode_on="gpu")
    with pytest.raises(InputError, match="weights is 'int3'; it must be one of full, int8"):
        kind(tiny_model(), weights="int3")
