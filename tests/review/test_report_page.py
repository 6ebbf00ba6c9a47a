"""The page holds untrusted data as data: parsed as HTML it has the same elements for any data."""

import base64
import hashlib
import json
import re
import sys
from html.parser import HTMLParser
from importlib import resources
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidground.errors import InputError
from vidground.review.report_page import MARK, render_page, to_island

HOSTILE = (
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "<img src=x onerror=alert(1)>",
    "]]>&lt;\u2028\u2029\udcff\x00'\"`{{ 7 * 7 }}{% raw %}",
)


class Parsed(HTMLParser):
    """The elements of a page with their attributes, and the texts of its scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[int, str] = {}
        self._open: list[int] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._open.append(len(self.elements))
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        while self._open and self.elements[self._open.pop()][0] != tag:
            pass  # elements that have no end, as meta

    def handle_data(self, data: str) -> None:
        if self._open:
            self.texts[self._open[-1]] = self.texts.get(self._open[-1], "") + data

    def inside(self, tag: str, **attributes: str) -> str:
        (index,) = (
            index
            for index, (name, given) in enumerate(self.elements)
            if name == tag and attributes == {key: given.get(key) for key in attributes}
        )
        return self.texts[index]

    def policy(self) -> dict[str, str]:
        content = next(
            attributes["content"]
            for _, attributes in self.elements
            if attributes.get("http-equiv") == "Content-Security-Policy"
        )
        return dict(part.strip().split(" ", 1) for part in str(content).split(";"))


@pytest.fixture(scope="module")
def page() -> str:
    return render_page({"videos": []}, title="A & <b>")


@given(st.recursive(st.text() | st.sampled_from(HOSTILE), st.lists))
def test_every_string_survives_the_json_block_and_none_escapes_it(data: Any) -> None:
    island = to_island(data)
    assert json.loads(island) == data
    assert island.isascii()
    assert not re.search(r"[<>&]", island)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_data_adds_no_element(page: str, text: str) -> None:
    parsed = Parsed(render_page({"videos": [text]}, title=text.replace("\udcff", "")))
    assert json.loads(parsed.inside("script", id="data")) == {"videos": [text]}
    assert parsed.elements == Parsed(page).elements


def test_a_title_is_text(page: str) -> None:
    assert Parsed(page).inside("title") == "A & <b>"
    assert "<b>" not in page


def test_the_policy_allows_only_the_pages_script_and_no_request(page: str) -> None:
    parsed = Parsed(page)
    policy = parsed.policy()
    for directive in ("default-src", "connect-src", "base-uri", "form-action"):
        assert policy[directive] == "'none'"
    assert policy["img-src"] == "data:"
    assert policy["media-src"] == "'self' file: blob:"
    scripts = [a for tag, a in parsed.elements if tag == "script"]
    assert [a.get("type") for a in scripts] == ["application/json", None]
    program, style = _last(parsed, "script"), _last(parsed, "style")
    for text, directive in ((program, "script-src"), (style, "style-src")):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert policy[directive] == f"'sha256-{digest}'"


def _last(parsed: Parsed, tag: str) -> str:
    index = max(i for i, (name, _) in enumerate(parsed.elements) if name == tag)
    return parsed.texts[index]


def test_the_policy_precedes_everything_it_restricts(page: str) -> None:
    names = [attributes.get("http-equiv") or tag for tag, attributes in Parsed(page).elements]
    assert names[:4] == ["html", "head", "meta", "Content-Security-Policy"]
    assert page.index(MARK) < 4096


def test_the_page_has_no_address_and_no_inline_handler(page: str) -> None:
    for tag, attributes in Parsed(page).elements:
        assert not [name for name in attributes if name.startswith("on")], tag
        assert not attributes.get("src")
        assert attributes.get("href") in (None, "data:,")
        assert "style" not in attributes
    addresses = set(re.findall(r"https?://[^\s\"'<>]+", page))
    assert addresses == {"http://www.w3.org/2000/svg"}  # a name, which nobody opens


def test_the_script_creates_no_markup_from_strings() -> None:
    folder = resources.files("vidground.review") / "templates"
    for file in folder.iterdir():
        text = file.read_text(encoding="utf-8")
        assert len(text.splitlines()) < 300, file.name
        if file.name.endswith(".js"):
            banned = r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|Function\(|fetch\("
            assert not re.search(banned, text), file.name
            assert "</script" not in text


def test_a_missing_jinja_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(InputError, match=r"pip install 'vidground\[report\]'"):
        render_page({}, title="")
