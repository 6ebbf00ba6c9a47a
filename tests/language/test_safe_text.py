"""Untrusted text on one safe line: escapes, controls, line ends of all kinds, surrogates."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidground.language.safe_text import plain_text, xml_text


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("  a man\t runs \r\n fast ", "a man runs fast"),
        ("one\n\n\ntwo\u2028three\u2029four\x85five\x0bsix", "one two three four five six"),
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b[2J\x1b[Hgone\x1bc", "gone"),
        ("\x1b\x1b[31m[31mx", "[31mx"),
        ("\x9b31mred", "red"),
        ("a\x00b\x07c\x7fd\x90e", "abcde"),
        ("\x00 a \x00", "a"),
        ("user\u202egpj.exe\u2066", "usergpj.exe"),
        ("half \ud83d pair", "half \ufffd pair"),
        ("caf\u00e9 {\\an8} <b> --> 5 👩‍🚒", "caf\u00e9 {\\an8} <b> --> 5 👩‍🚒"),
        ("unfinished \x1b", "unfinished"),
    ],
)
def test_examples(text: str, plain: str) -> None:
    assert plain_text(text) == plain


@given(st.text() | st.text("\x1b[]\\0m;\x07\x9b \n\ud800\u202e"))
def test_any_text_becomes_one_stable_line_without_controls(text: str) -> None:
    plain = plain_text(text)

    assert plain_text(plain) == plain
    assert plain == " ".join(plain.split())
    assert not [c for c in plain if unicodedata.category(c) in {"Cc", "Cs", "Zl", "Zp"}]
    plain.encode()


def test_xml_text_replaces_exactly_what_xml_cannot_hold() -> None:
    kept = "a\t\n é\x85\ud7ff\ue000\ufffd\U00010000\U0010ffff"
    assert xml_text(kept) == kept
    assert xml_text("\x00\x1f\ud800\udfff\ufffe\uffff") == "\ufffd" * 6
