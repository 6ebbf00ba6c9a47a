"""Documents: exact JSON by hand, there and back, and what is refused with which words."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.result_makers import ASKED, PROVENANCE, TWO, answer, any_events, captions
from vidground.errors import FormatError
from vidground.results.formats import from_dict, load, render, to_dict
from vidground.results.types import Event, Groundings


def test_exact_json() -> None:
    result = captions(
        Event(0, 1.25, "\u00e9 \x9b\u2028\u202e\u2066\ud800", 0.1 + 0.2),
        quality={"overlaps": 0, "coverage": 0.5},
    )
    assert render(result, "json") == (
        """{
  "schema_version": 1,
  "kind": "captions",
  "video": {
    "path": "in/match.mp4",
    "duration_s": 4.5,
    "width": 64,
    "height": 48,
    "fps": 25.0,
    "constant_rate": true,
    "codec": "h264",
    "frames": 112,
    "size_bytes": 9000,
    "damaged_packets": 0,
    "sha256": "ab12"
  },
  "events": [
    {
      "start_s": 0.0,
      "end_s": 1.25,
      "text": "é \\u009b\\u2028\\u202e\\u2066\\ud800",
      "score": 0.30000000000000004
    }
  ],
  "answers": [],
  "provenance": {
    "model": "toy",
    "revision": null,
    "vidground_version": "0.1.0",
    "dtype": "float32",
    "prompt": "What happens?",
    "fps": 1.0,
    "windows_s": [
      [0.0, 3.0],
      [2.0, 4.5]
    ],
    "decoding": {
      "max_new_tokens": 8,
      "temperature": 0.0
    },
    "time_resolution_s": 1.0
  },
  "warnings": [],
  "quality": {
    "coverage": 0.5,
    "overlaps": 0
  }
}
"""
    )


def test_grounding_json_holds_each_answer_and_shares_what_is_common() -> None:
    other = replace(PROVENANCE, prompt="When?")
    asked = Groundings((ASKED.results[0], answer("a card", provenance=other, warnings=("old",))))
    document = to_dict(asked)

    assert list(document) == [
        "schema_version", "kind", "video", "results", "provenance", "warnings",
    ]  # fmt: skip
    assert document["kind"] == "grounding"
    assert document["warnings"] == ["cut", "old"]
    assert document["provenance"]["prompt"] == "What happens?"
    assert document["results"][0]["provenance"] == {}
    assert document["results"][1] == {
        "query": "a card",
        "found": False,
        "threshold": 0.5,
        "moments": [],
        "answer": "It is from 1.0 to 2.0 seconds.",
        "relevance": {"times_s": [0.0, 1.0], "values": [0.1, 0.7]},
        "warnings": ["old"],
        "provenance": {"prompt": "When?"},
    }
    assert from_dict(document) == asked


def test_what_older_versions_did_not_know_is_left_out_and_not_missed() -> None:
    known = replace(
        PROVENANCE,
        settings={"overlap": 0.1, "max_moments": 10},
        about_s=((1.0, 2.5),),
        runtime={"torch": "2.13.0"},
    )
    newer = replace(TWO, provenance=known)
    assert to_dict(newer)["provenance"]["settings"] == {"max_moments": 10, "overlap": 0.1}
    assert from_dict(to_dict(newer)) == newer
    assert "runtime" not in to_dict(TWO)["provenance"]
    assert from_dict(to_dict(TWO)) == TWO
    # An answer that lacks what the document's provenance has says so.
    mixed = Groundings(
        (answer("a", provenance=known, quality={"truncated": True}), answer("b"), answer("c"))
    )
    document = to_dict(mixed)
    assert document["results"][1]["provenance"] == {"settings": {}, "about_s": [], "runtime": {}}
    assert from_dict(document) == mixed
    turned = Groundings(mixed.results[::-1])
    assert from_dict(to_dict(turned)) == turned


@given(any_events(last_s=200 * 3600.0), st.text())
def test_json_there_and_back_is_exact_and_valid_utf8(events: list[Event], words: str) -> None:
    result = captions(*events, answers=(words,), warnings=(words, ""), quality={"a": [1, words]})
    text = render(result, "json")

    text.encode()
    assert json.loads(text) == to_dict(result)
    again = from_dict(json.loads(text))
    assert again == result
    assert render(again, "json") == text
    for row in render(result, "jsonl").splitlines():
        json.loads(row)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), object()])
def test_what_json_cannot_hold_is_refused(number: object) -> None:
    with pytest.raises(FormatError, match="that JSON cannot express"):
        render(captions(quality={"coverage": number}), "json")


def test_the_same_answer_in_other_number_types_gives_the_same_bytes() -> None:
    whole = captions(Event(1, 2, "x", 1))
    assert render(whole, "json") == render(captions(Event(1.0, 2.0, "x", 1.0)), "json")
    assert render(whole, "jsonl") == render(captions(Event(1.0, 2.0, "x", 1.0)), "jsonl")


DELETED = object()


def changed(document: Any, path: tuple[str | int, ...], value: object) -> Any:
    inner = document
    for key in path[:-1]:
        inner = inner[key]
    if value is DELETED:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return document


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        (("schema_version",), 2, "schema_version is 2; this vidground reads 1"),
        (("schema_version",), True, "schema_version is True"),
        (("schema_version",), DELETED, "not a result of vidground"),
        (("kind",), "chapters", "kind is 'chapters'"),
        (("kind",), DELETED, "kind is missing"),
        (("events",), DELETED, "events is missing"),
        (("events",), {}, "events must be a list, not {}"),
        (("events", 1), 5, r"events\[1\] must be an object, not 5"),
        (("events", 1, "text"), DELETED, r"events\[1\].text is missing"),
        (("events", 1, "text"), None, r"events\[1\].text must be a string, not None"),
        (("events", 1, "start_s"), "1", r"events\[1\].start_s must be a finite number, not '1'"),
        (("events", 1, "start_s"), True, "must be a finite number, not True"),
        (("events", 1, "start_s"), 10**400, "must be a finite number"),
        (("events", 1, "start_s"), 9, r"events\[1\]: Event \[9.0, 1.25\): needs finite"),
        (("events", 1, "score"), 1.5, "score is 1.5; it must lie in"),
        (("video", "width"), 64.5, "video.width must be a whole number, not 64.5"),
        (("video", "constant_rate"), 1, "video.constant_rate must be true or false"),
        (("provenance", "windows_s", 0), [1, 2, 3], r"windows_s\[0\] must have 2 items, not 3"),
        (("provenance", "decoding"), [], r"provenance.decoding must be an object, not \[\]"),
        (("provenance", "decoding", "seed"), "0", "decoding.seed must be a finite number"),
    ],
)
def test_a_broken_document_is_refused_by_its_key(
    tmp_path: Path, path: tuple[str | int, ...], value: object, reason: str
) -> None:
    broken = changed(to_dict(TWO), path, value)
    with pytest.raises(FormatError, match=reason):
        from_dict(broken)
    (tmp_path / "b.json").write_text(json.dumps(broken))
    with pytest.raises(FormatError, match=r"b\.json': "):
        load(tmp_path / "b.json")


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        (("results",), [], "results must be a list of at least one result"),
        (("results", 0), [], r"results\[0\] must be an object"),
        (("results", 0, "provenance"), 1, r"results\[0\].provenance must be objects"),
        (("results", 1, "found"), DELETED, r"results\[1\].found is missing"),
        (("results", 0, "relevance", "values"), [0.1], "2 times, 1 values"),
        (("video",), DELETED, "video is missing"),
    ],
)
def test_a_broken_grounding_document_is_refused_by_its_key(
    path: tuple[str | int, ...], value: object, reason: str
) -> None:
    with pytest.raises(FormatError, match=reason):
        from_dict(changed(to_dict(ASKED), path, value))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not JSON: Expecting value"),
        (b"1\n00:00:00,000 --> 00:00:01,000\nx\n\n", "not JSON"),
        (b"\xff\xfe", "cannot be read: byte 0 is not UTF-8"),
        (b"[]", "not a result of vidground"),
        (b"[" * 100_000, "not a result of vidground: nested too deeply"),
        (b'{"schema_version": NaN}', "NaN is not a number in JSON"),
    ],
)
def test_other_files_are_refused_by_name(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "b.json"
    path.write_bytes(content)
    with pytest.raises(FormatError, match=f"b.json.: {reason}"):
        load(path)


def test_missing_files_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"no\.json.: no such file; check the path"):
        load(tmp_path / "no.json")
    with pytest.raises(FormatError, match="is a directory"):
        load(tmp_path)
    with pytest.raises(FormatError, match="cannot be read: embedded null"):
        load("a\x00b")


def test_keys_of_others_and_a_byte_order_mark_are_passed_over(tmp_path: Path) -> None:
    document = to_dict(TWO) | {"reviewed": True}
    document["events"][0]["note"] = "ok"
    path = tmp_path / "a.json"
    path.write_text(json.dumps(document), encoding="utf-8-sig")
    assert load(path) == TWO
