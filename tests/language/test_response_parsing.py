import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.tokenizer_files import released_checkpoint
from vidground.errors import InputError
from vidground.language.prompts import (
    captioning_question,
    chat_prompt,
    encode_prompt,
    grounding_question,
)
from vidground.language.response_parsing import (
    ParsedAnswer,
    Segment,
    answer_text,
    caption_segments,
    format_interval,
    parse_answer,
    released_text,
)
from vidground.language.tokenizers import Tokenizers


@pytest.fixture(scope="module", params=[False, True], ids=["as released", "prefix space"])
def tokenizers(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Tokenizers:
    folder = released_checkpoint(tmp_path_factory.mktemp("model"), prefix_space=request.param)
    return Tokenizers.load(folder)


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Tokenizers:
    return Tokenizers.load(released_checkpoint(tmp_path_factory.mktemp("released")))


Parse = Callable[[str], ParsedAnswer]


@pytest.fixture(scope="module")
def parse(tokenizers: Tokenizers) -> Parse:
    def parse(text: str) -> ParsedAnswer:
        ids = tokenizers.encode(text)
        return parse_answer(ids, ids=tokenizers.ids, decode=tokenizers.decode)

    return parse


UNSEPARATED = (
    "the model did not separate the search for events from its answer; events may be missing or "
    "their times wrong"
)
NO_TEXT = "the answer has no text, so that its events have no description"


def unequal(found: str, referred: str) -> str:
    return (
        f"the model found {found} but its answer refers to {referred}; events may be missing or "
        "repeated"
    )


def test_grounding_answer(parse: Parse) -> None:
    assert parse("<evi></evi> The event happens in <evi>.<|end|>") == ParsedAnswer(
        evidence=(0,),
        answer_evidence=(1,),
        segments=(Segment(None, "The event happens in"), Segment(1, ".")),
        has_evidence_end=True,
        balanced=True,
        truncated=False,
        problems=(),
    )


def test_dense_captions(parse: Parse) -> None:
    parsed = parse("<evi><evi></evi><evi>, cut the onions. <evi>, stir, then pour.<|end|>")
    assert (parsed.evidence, parsed.answer_evidence) == ((0, 1), (2, 3))
    assert parsed.problems == ()
    assert caption_segments(parsed) == [(2, "cut the onions"), (3, "stir, then pour")]


def test_answer_without_evidence(parse: Parse) -> None:
    parsed = parse("</evi>(B) pour<|end|>")
    assert parsed.segments == (Segment(None, "(B) pour"),)
    assert (parsed.evidence, parsed.answer_evidence, parsed.problems) == ((), (), ())
    assert parsed.balanced
    assert parsed.has_evidence_end
    assert caption_segments(parsed) == []


def test_no_text_is_lost_if_the_evidence_stage_was_not_closed(parse: Parse) -> None:
    parsed = parse("<evi>, a dog. <evi>, a cat.<|end|>")
    assert (parsed.evidence, parsed.answer_evidence) == ((), (0, 1))
    assert caption_segments(parsed) == [(0, "a dog"), (1, "a cat")]
    assert not parsed.has_evidence_end
    assert not parsed.balanced
    assert parsed.problems == (
        UNSEPARATED,
        unequal("0 events", "2 events"),
    )


def test_evidence_alone_is_evidence(parse: Parse) -> None:
    parsed = parse("<evi><evi>")
    assert (parsed.evidence, parsed.answer_evidence, parsed.segments) == ((0, 1), (), ())
    assert parsed.truncated
    assert not parsed.balanced
    assert parsed.problems == (
        UNSEPARATED,
        unequal("2 events", "0 events"),
        NO_TEXT,
    )


@pytest.mark.parametrize("text", ["", "<|end|>"])
def test_empty_response(parse: Parse, text: str) -> None:
    parsed = parse(text)
    assert (parsed.evidence, parsed.answer_evidence, parsed.segments) == ((), (), ())
    assert parsed.truncated == (text == "")
    assert parsed.problems[-1] == NO_TEXT


@pytest.mark.parametrize(
    ("text", "gathered", "referred"),
    [
        ("<evi><evi><evi></evi><evi>, a dog. <evi>, a cat.<|end|>", (0, 1, 2), (3, 4)),
        ("<evi></evi><evi>, a dog. <evi>, a cat.<|end|>", (0,), (1, 2)),
        ("<evi></evi>no more<|end|>", (0,), ()),
    ],
)
def test_unequal_counts_are_reported(
    parse: Parse, text: str, gathered: tuple[int, ...], referred: tuple[int, ...]
) -> None:
    parsed = parse(text)
    assert (parsed.evidence, parsed.answer_evidence) == (gathered, referred)
    assert not parsed.balanced
    counts = [f"{n} event{'' if n == 1 else 's'}" for n in map(len, (gathered, referred))]
    assert parsed.problems == (unequal(*counts),)


def test_a_second_stage_end_is_dropped_and_reported(parse: Parse) -> None:
    parsed = parse("<evi></evi><evi>, a dog</evi> barks. </evi><evi>, a cat.<|end|>")
    assert parsed.evidence == (0,)
    assert caption_segments(parsed)[1] == (2, "a cat")
    assert "</evi>" not in "".join(segment.text for segment in parsed.segments)
    assert (
        "the answer is not in the usual form (ends of the search for events: 3, expected: 1); "
        "check the texts and times of its events"
    ) in parsed.problems


def test_text_between_evidence_tokens_is_not_part_of_the_answer(parse: Parse) -> None:
    parsed = parse("so <evi> and <evi></evi><evi> then <evi>.<|end|>")
    assert (parsed.evidence, parsed.answer_evidence) == ((0, 1), (2, 3))
    assert parsed.segments == (Segment(2, "then"), Segment(3, "."))
    assert parsed.problems == (
        "the model wrote text where it only searches for events; that text is left out",
    )


def test_truncated_caption_is_kept(parse: Parse) -> None:
    parsed = parse("<evi><evi></evi><evi>, a dog. <evi>, a ca")
    assert parsed.truncated
    assert caption_segments(parsed) == [(2, "a dog"), (3, "a ca")]


def test_tokens_after_the_end_of_turn_are_ignored(parse: Parse) -> None:
    whole = parse("<evi></evi><evi>, a dog.<|end|>")
    assert parse("<evi></evi><evi>, a dog.<|end|><evi>, a cat.<|end|><|end|>") == whole


def test_padding_is_ignored(released: Tokenizers) -> None:
    ids = released.ids
    padded = type(ids)(ids.evidence, ids.evidence_end, ids.turn_end, pad=3)
    tokens = [*released.encode("</evi>a dog"), 3, 3]
    parsed = parse_answer(tokens, ids=padded, decode=released.decode)
    assert parsed.segments == (Segment(None, "a dog"),)


@pytest.mark.parametrize("joint", ["", " ", ", ", " and ", ", and "])
def test_evidence_in_a_row_shares_the_caption(parse: Parse, joint: str) -> None:
    parsed = parse(f"</evi><evi>{joint}<evi>, android walks. <evi>, a cat. <evi>, <|end|>")
    assert caption_segments(parsed) == [(0, "android walks"), (1, "android walks"), (2, "a cat")]


@pytest.mark.parametrize(
    ("response", "spans", "text"),
    [
        (
            "<evi></evi> The event happens in <evi>.",
            [(19, 32), (19, 32)],
            "19 - 32 </evi> The event happens in 19 - 32 .",
        ),
        (
            "<evi></evi> The event happens in <evi> and <evi>.",
            [(15, 34), (15, 34), (101, 103)],
            "15 - 34 </evi> The event happens in 15 - 34  and 101 - 103 .",
        ),
        (
            "<evi><evi></evi><evi>, stir the pot slowly. <evi>, serve on a plate.",
            [(0, 17), (83, 89), (0, 17), (83, 89)],
            "0 - 17 83 - 89 </evi>0 - 17 , stir the pot slowly. 83 - 89 , serve on a plate.",
        ),
        ("</evi> I could not find it.", [], "</evi> I could not find it."),
        ("</evi>(B)", [], "</evi>(B)"),
        ("The event happens in <evi>.", [(13, 30)], "The event happens in 13 - 30 ."),
        ("<evi><evi> </evi> ", [(1.5, 2), (3, 4.25)], "1.5 - 2 3 - 4.25  </evi>"),
        ("</evi>{x} </evi> {}", [], "</evi>{x} </evi> {}"),
    ],
)
def test_released_form(
    released: Tokenizers, response: str, spans: list[tuple[float, float]], text: str
) -> None:
    tokens = released.encode(response + "<|end|>")
    assert released_text(tokens, spans, ids=released.ids, decode=released.decode) == text


def test_released_form_decodes_as_one_piece(tokenizers: Tokenizers) -> None:
    tokens = tokenizers.encode("<evi></evi> In <evi> and<evi>. <|end|>")
    whole = tokenizers.decode(tokens[:-1]).replace("<evi>", "1 - 2 ").strip()
    spans = [(1, 2)] * 3
    text = released_text(tokens, spans, ids=tokenizers.ids, decode=tokenizers.decode)
    assert text == whole


@pytest.mark.parametrize(
    ("response", "text"),
    [
        ("<evi></evi> The event happens in <evi>.<|end|>", "The event happens in 1 - 2.5 s."),
        ("<evi></evi>In<evi>it rains.<|end|>", "In 1 - 2.5 s it rains."),
        ("</evi>It is in <evi> <evi> , and<evi>", "It is in 0 - 1 s, 1 - 2.5 s, and 3 - 4 s"),
        ("<evi></evi>See (<evi>) .<|end|>", "See (1 - 2.5 s)."),
        (
            "</evi><evi>, cut  the\nonions. <evi>, stir.",
            "0 - 1 s, cut the onions. 1 - 2.5 s, stir.",
        ),
        ("</evi>(B) </evi>pour<|end|>", "(B) pour"),
        ("<evi><evi>", ""),
    ],
)
def test_answer_as_a_sentence(tokenizers: Tokenizers, response: str, text: str) -> None:
    tokens = tokenizers.encode(response)
    intervals = [(0.0, 1.0), (1.0, 2.5), (3.0, 4.0)][: response.count("<evi>")]
    assert answer_text(tokens, intervals, ids=tokenizers.ids, decode=tokenizers.decode) == text


def test_times_can_be_formatted_differently(tokenizers: Tokenizers) -> None:
    tokens = tokenizers.encode("</evi>In <evi>.<|end|>")
    text = answer_text(
        tokens,
        [(61.0, 75.0)],
        ids=tokenizers.ids,
        decode=tokenizers.decode,
        write=lambda start, end: f"{start / 60:.0f}:{start % 60:02.0f} for {end - start:.0f} s",
    )
    assert text == "In 1:01 for 14 s."


@pytest.mark.parametrize("write", [answer_text, released_text])
def test_one_interval_for_each_evidence_token(tokenizers: Tokenizers, write: Callable) -> None:
    tokens = tokenizers.encode("<evi></evi>In <evi>.<|end|>")
    for given_count in (1, 3):
        with pytest.raises(InputError, match=f"^{given_count} .* for 2 evidence tokens"):
            write(tokens, [(0, 1)] * given_count, ids=tokenizers.ids, decode=tokenizers.decode)


@pytest.mark.parametrize(
    ("start", "end", "text"),
    [
        (0, 100, "0 - 100 s"),
        (0.5, 7.129, "0.5 - 7.13 s"),
        (1e6, 1e6 + 0.1, "1000000 - 1000000.1 s"),
    ],
)
def test_seconds_have_at_most_two_decimals_and_no_exponent(
    start: float, end: float, text: str
) -> None:
    assert format_interval(start, end) == text


@given(
    st.lists(
        st.sampled_from(["<evi>", "</evi>", "<|end|>", " a", "b", ", ", ". ", " and ", "\n"]),
        max_size=20,
    )
)
def test_every_response_can_be_parsed(tokenizers: Tokenizers, pieces: list[str]) -> None:
    tokens = tokenizers.encode("".join(pieces))
    ids = tokenizers.ids
    parsed = parse_answer(tokens, ids=ids, decode=tokenizers.decode)
    spoken = tokens[: tokens.index(ids.turn_end)] if ids.turn_end in tokens else tokens
    ordinals = parsed.evidence + parsed.answer_evidence
    assert ordinals == tuple(range(spoken.count(ids.evidence)))
    assert tuple(s.evidence for s in parsed.segments if s.evidence is not None) == (
        parsed.answer_evidence
    )
    captions = caption_segments(parsed)
    assert [ordinal for ordinal, _ in captions] == sorted({ordinal for ordinal, _ in captions})
    assert all(caption for _, caption in captions)
    intervals = [(k, k + 1.0) for k in range(len(ordinals))]
    text = answer_text(tokens, intervals, ids=ids, decode=tokenizers.decode)
    assert [float(n) for n in re.findall(r"(\d+) - ", text)] == list(parsed.answer_evidence)


@pytest.mark.parametrize(
    ("question", "response", "captions"),
    [
        (grounding_question("a red ball"), "<evi></evi> The event happens in <evi>.", []),
        (captioning_question(), "<evi></evi><evi>, a red ball rolls.", [(1, "a red ball rolls")]),
        ("what is in the box? (A) a ball (B) a cat", "</evi>(A)", []),
    ],
)
def test_from_question_to_answer(
    tokenizers: Tokenizers, question: str, response: str, captions: list[tuple[int, str]]
) -> None:
    prompt = encode_prompt(chat_prompt(question), tokenizers)
    sequence = prompt.before + prompt.after + tokenizers.encode(response + "<|end|>")
    answer = sequence[len(prompt.before) + len(prompt.after) :]
    parsed = parse_answer(answer, ids=tokenizers.ids, decode=tokenizers.decode)
    assert parsed.problems == ()
    assert caption_segments(parsed) == captions
    spans = [(1, 2)] * response.count("<evi>")
    text = released_text(answer, spans, ids=tokenizers.ids, decode=tokenizers.decode)
    assert re.sub(r"\s+", "", text) == re.sub(r"\s+", "", response.replace("<evi>", "1 - 2"))
