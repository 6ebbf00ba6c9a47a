"""ELAN documents: milliseconds, tiers without overlaps, and XML that cannot do harm."""

from xml.etree import ElementTree

import pytest

from tests.helpers.result_makers import captions
from vidground.errors import FormatError
from vidground.results.annotation_tools.elan import elan, read_elan
from vidground.results.types import Event

OVERLAPPING = captions(
    Event(0.0, 2.0, "a man & <b>sits</b>"), Event(1.0, 3.0, "a dog barks"), Event(2.0, 4.5, "rain")
)


def document(body: str, head: str = "") -> str:
    return f'<?xml version="1.0"?>{head}<ANNOTATION_DOCUMENT>{body}</ANNOTATION_DOCUMENT>'


def annotation(first: str, last: str, text: str = "a") -> str:
    return (
        f'<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a1" TIME_SLOT_REF1="{first}" '
        f'TIME_SLOT_REF2="{last}"><ANNOTATION_VALUE>{text}</ANNOTATION_VALUE>'
        "</ALIGNABLE_ANNOTATION></ANNOTATION>"
    )


SLOTS = (
    '<TIME_ORDER><TIME_SLOT TIME_SLOT_ID="t1" TIME_VALUE="1500"/>'
    '<TIME_SLOT TIME_SLOT_ID="t2" TIME_VALUE="2250"/><TIME_SLOT TIME_SLOT_ID="t3"/></TIME_ORDER>'
)


def test_overlapping_events_are_on_tiers_of_their_own() -> None:
    root = ElementTree.fromstring(elan(OVERLAPPING))
    tiers = {
        tier.get("TIER_ID"): [value.text for value in tier.iter("ANNOTATION_VALUE")]
        for tier in root.iter("TIER")
    }
    assert tiers == {"events": ["a man & <b>sits</b>", "rain"], "events 2": ["a dog barks"]}
    slots = {slot.get("TIME_SLOT_ID"): slot.get("TIME_VALUE") for slot in root.iter("TIME_SLOT")}
    assert list(slots.values()) == ["0", "1000", "2000", "3000", "4500"]
    (media,) = root.iter("MEDIA_DESCRIPTOR")
    assert media.get("RELATIVE_MEDIA_URL") == "./match.mp4"
    assert root.find("HEADER").get("TIME_UNITS") == "milliseconds"  # type: ignore[union-attr]


def test_a_document_comes_back() -> None:
    (video,) = read_elan(elan(OVERLAPPING))
    assert (video.video, video.resolution_s) == ("match.mp4", 0.001)
    assert video.events == OVERLAPPING.events
    assert elan(OVERLAPPING) == elan(OVERLAPPING)


def test_a_document_without_events_has_a_tier_to_add_to() -> None:
    text = elan(captions())
    assert 'TIER_ID="events"' in text
    assert read_elan(text)[0].events == ()


def test_tiers_that_depend_on_others_are_passed_over() -> None:
    body = (
        f"{SLOTS}<TIER>{annotation('t1', 't2')}</TIER>"
        f'<TIER PARENT_REF="x">{annotation("t1", "t3")}</TIER>'
    )
    (video,) = read_elan(document(body))
    assert (video.video, video.events) == (None, (Event(1.5, 2.25, "a"),))


def test_times_count_from_the_start_of_the_media() -> None:
    media = '<HEADER><MEDIA_DESCRIPTOR MEDIA_URL="file:///a%20b.mp4" TIME_ORIGIN="1000"/></HEADER>'
    (video,) = read_elan(document(f"{media}{SLOTS}<TIER>{annotation('t1', 't2')}</TIER>"))
    assert (video.video, video.events) == ("a b.mp4", (Event(2.5, 3.25, "a"),))


def test_entities_are_neither_expanded_nor_fetched() -> None:
    levels = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    bomb = f'<!DOCTYPE x [<!ENTITY l0 "lol">{levels}]>'
    external = '<!DOCTYPE x [<!ENTITY file SYSTEM "file:///etc/hostname">]>'
    remote = '<!DOCTYPE x SYSTEM "http://127.0.0.1:9/x.dtd">'
    for head, name in ((bomb, "l9"), (external, "file"), (remote, "amp")):
        body = f"{SLOTS}<TIER>{annotation('t1', 't2', f'&{name};')}</TIER>"
        with pytest.raises(FormatError, match="declares a DOCTYPE"):
            read_elan(document(body, head))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("no xml", "is not well-formed XML"),
        ("<a>" * 10, "is not well-formed XML"),
        ("<tt/>", "is XML of 'tt'"),
        (document(f"{SLOTS}<TIER>{annotation('t1', 't3')}</TIER>"), "'a1' has no times"),
        (document(f"{SLOTS}<TIER>{annotation('t2', 't1')}</TIER>"), "'a1': Event .2.25, 1.5"),
        (
            document(SLOTS.replace("1500", "1.5") + f"<TIER>{annotation('t1', 't2')}</TIER>"),
            "'a1' has the time '1.5'; it must be whole milliseconds",
        ),
    ],
)
def test_what_cannot_be_read_is_named(text: str, reason: str) -> None:
    with pytest.raises(FormatError, match=reason):
        read_elan(text)
