"""The JSON Schema accepts what is written, and refuses what is read as an error."""

import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given

from tests.helpers.result_makers import answer, any_events, captions
from vidground.errors import FormatError
from vidground.results.documents import from_dict
from vidground.results.formats import render
from vidground.results.schema import json_schema
from vidground.results.types import Event, Groundings, Moment

VALIDATOR = jsonschema.Draft202012Validator(json_schema())


def test_it_is_a_schema_itself() -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema())


@given(any_events(last_s=1e6))
def test_captions_satisfy_it(events: list[Event]) -> None:
    VALIDATOR.validate(json.loads(render(captions(*events, warnings=("odd",)), "json")))


def test_answers_with_different_prompts_satisfy_it() -> None:
    results = Groundings((answer("a", Moment(1.0, 2.0, 0.5)), answer("b")))
    VALIDATOR.validate(json.loads(render(results, "json")))


def document() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(render(captions(Event(1.0, 2.0, "a", 0.5)), "json"))
    return loaded


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("schema_version",), 2),
        (("kind",), "other"),
        (("events", 0, "score"), 1.5),
        (("events", 0, "start_s"), "1"),
        (("video", "frames"), 2.5),
        (("provenance", "windows_s"), [[0, 1, 2]]),
        (("warnings",), "odd"),
    ],
)
def test_what_is_refused_when_read_does_not_satisfy_it(path: tuple[Any, ...], value: Any) -> None:
    wrong = document()
    place: Any = wrong
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    assert not VALIDATOR.is_valid(wrong)
    with pytest.raises(FormatError):
        from_dict(wrong)


@pytest.mark.parametrize("key", ["events", "video", "provenance", "kind", "schema_version"])
def test_a_missing_key_does_not_satisfy_it(key: str) -> None:
    wrong = document()
    del wrong[key]
    assert not VALIDATOR.is_valid(wrong)


def test_results_of_older_versions_and_unknown_keys_satisfy_it() -> None:
    older = document()
    older["provenance"].pop("settings", None)
    older["added_later"] = {"a": 1}
    VALIDATOR.validate(older)


def test_every_field_is_described() -> None:
    for name in ("VideoInfo", "Provenance", "Event", "Moment", "Relevance"):
        for field, schema in json_schema()["$defs"][name]["properties"].items():
            assert schema.get("description"), (name, field)
