import pytest

from vidground.errors import InputError
from vidground.language.prompts import chat_prompt, chat_prompt_from_turn
from vidground.language.spoken_times import (
    evidence_text,
    join_instants,
    matched_answer,
    matched_prompt,
)
from vidground.training.toy.tokenizers import make_toy_tokenizers

pytestmark = pytest.mark.smoke

TOKENIZERS = make_toy_tokenizers("matching")


def test_an_interval_is_said_as_two_instants_and_an_instant_as_one() -> None:
    prompt = chat_prompt("what happens in <evi>, and at <evi>?", references=2)
    said, times = matched_prompt(prompt, [(2.4, 9.0), (5.0, 5.0)])
    assert said.question == "what happens in <vid> - <vid>, and at <vid>?"
    assert said.question in said.after
    assert times == [(2.4, 2.4), (9.0, 9.0), (5.0, 5.0)]


def test_references_before_the_frames_come_first() -> None:
    prompt = chat_prompt_from_turn("In <evi>:\n<image>\nand <evi>?", references=2)
    said, times = matched_prompt(prompt, [(1, 1), (2, 3)])
    assert said.before.endswith("In <vid>:\n")
    assert "and <vid> - <vid>?" in said.after
    assert times == [(1, 1), (2, 2), (3, 3)]


def test_a_prompt_without_references_is_unchanged() -> None:
    prompt = chat_prompt("what is <evi> in a text?")
    assert matched_prompt(prompt, []) == (prompt, [])
    with pytest.raises(InputError, match="0 <evi> and 1 intervals"):
        matched_prompt(prompt, [(1, 2)])


def test_tokens_that_users_write_are_plain_text() -> None:
    assert "< vid>" in chat_prompt("at <vid>?").after


def test_an_annotated_answer_loses_its_evidence_stage() -> None:
    text = "<evi><evi></evi><evi>, stir. <evi>, serve."
    assert matched_answer(text, [(3, 9), (12, 12)]) == (
        "<vid> - <vid>, stir. <vid>, serve.",
        [(3, 3), (9, 9), (12, 12)],
    )
    assert matched_answer("</evi>It is a cat.", []) == ("It is a cat.", [])


@pytest.mark.parametrize(
    ("text", "joined", "ordinals"),
    [
        ("It happens in <vid> - <vid>.", "It happens in <vid>.", [(0, 1)]),
        ("in <vid> to <vid>, and <vid>", "in <vid>, and <vid>", [(0, 1), (2,)]),
        ("<vid> - <vid> - <vid> .", "<vid> - <vid> .", [(0, 1), (2,)]),
        ("<vid><vid> and <vid>", "<vid><vid> and <vid>", [(0,), (1,), (2,)]),
        ("There is none.", "There is none.", []),
    ],
)
def test_pairs_of_an_answer_are_joined(
    text: str, joined: str, ordinals: list[tuple[int, ...]]
) -> None:
    ids, decode = TOKENIZERS.ids, TOKENIZERS.decode
    tokens, found = join_instants(TOKENIZERS.encode(text), ids=ids, decode=decode)
    assert found == ordinals
    assert decode(tokens) == joined


@pytest.mark.parametrize(
    ("text", "times", "converted", "spans"),
    [
        ("in <vid> - <vid>?", [2.4, 9], "in <evi>?", [(2.4, 9)]),
        ("at <vid> and <vid> to <vid>", [1, 2, 3], "at <evi> and <evi> to <evi>", [1, 2, 3]),
        ("what happens?", [], "what happens?", []),
    ],
)
def test_match_tokens_of_a_question_become_evidence_and_back(
    text: str, times: list[float], converted: str, spans: list[object]
) -> None:
    found, intervals = evidence_text(text, times)
    assert found == converted
    assert intervals == [span if isinstance(span, tuple) else (span, span) for span in spans]
    prompt = chat_prompt(found, references=len(intervals))
    said, instants = matched_prompt(prompt, intervals)
    assert said.question == text
    assert instants == [(time, time) for time in times]


def test_every_match_token_of_a_question_needs_its_time() -> None:
    with pytest.raises(InputError, match="2 <vid> and 1 times"):
        evidence_text("in <vid> - <vid>?", [1])
