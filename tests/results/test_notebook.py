"""Results in notebooks, as dictionaries and as tables."""

import sys
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.helpers.result_makers import ASKED, TWO, answer, captions
from vidground.errors import InputError
from vidground.results.documents import from_dict
from vidground.results.types import Event, Groundings, Moment


def parsed(html: str) -> ElementTree.Element:
    """Parse the HTML, which is well-formed XML, too."""
    assert "http" not in html
    assert "<script" not in html
    return ElementTree.fromstring(html)


def test_captions_are_a_timeline_and_a_table() -> None:
    page = parsed(TWO._repr_html_())
    assert len(list(page.iter("rect"))) == len(TWO)
    rows = ["".join(cell.text or "" for cell in row) for row in page.iter("tr")][1:]
    assert rows[0].startswith("00:00:01.500 - 00:00:04.000")
    assert "A man & a <dog>" in rows[0]


def test_untrusted_text_is_shown_as_text() -> None:
    hostile = captions(Event(0, 1, '<script>alert("x")</script>\x1b'))
    assert "&lt;script&gt;" in hostile._repr_html_()
    parsed(hostile._repr_html_())


def test_a_grounding_has_a_curve_and_a_reason() -> None:
    page = parsed(ASKED._repr_html_())
    assert len(list(page.iter("polyline"))) == 2
    assert len(list(page.iter("rect"))) == 2  # the moments of the query that was found
    assert "not found: the answer refers to no moment" in ASKED._repr_html_()
    assert answer("a", Moment(0, 1, 0.9))._repr_html_().count("<polyline") == 1


def test_overlapping_events_lie_in_lanes_of_their_own() -> None:
    page = parsed(captions(Event(0, 3, "a"), Event(1, 2, "b"), Event(3, 4, "c"))._repr_html_())
    assert [rect.get("y") for rect in page.iter("rect")] == ["1", "1", "19"]


def test_items_and_dictionaries() -> None:
    assert TWO[0] == TWO.events[0]
    assert TWO[-1:] == TWO.events[-1:]
    assert ASKED[1] is ASKED.results[1]
    assert from_dict(TWO.to_dict()) == TWO
    assert from_dict(ASKED[0].to_dict()) == Groundings((ASKED[0],))


def test_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    def table(rows: list[Any], columns: list[str]) -> list[dict[str, Any]]:
        return [dict(zip(columns, row, strict=True)) for row in rows]

    monkeypatch.setitem(sys.modules, "pandas", SimpleNamespace(DataFrame=table))  # type: ignore[arg-type]
    assert TWO.to_dataframe()[0] == {
        "start_s": 1.5,
        "end_s": 4.0,
        "text": "A man & a <dog>",
        "score": None,
    }
    assert [row["query"] for row in ASKED.to_dataframe()] == ["a goal", "a goal"]
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(InputError, match="pip install pandas"):
        TWO.to_dataframe()
